//! What a browser keeps of its page: who it is, and its share of the store.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::keys::key;
use crate::common::{DEADLINE, Ring, alone, wait_until};
use crate::webdriver::{Browser, Kind};
use crate::{Link, Page, start_ring, start_ring_of};

/// Keys of a page that comes back, each with so much that a page which fetched
/// them could not hide it.
const KEYS: usize = 100;
const LEN: usize = 10 * 1024;
/// What a page may hear until it has joined, if it fetches nothing.
const HEARD_MAX: u64 = (KEYS * LEN / 4) as u64;
/// How much later a browser says that a transaction is complete.
const LATER: Duration = Duration::from_millis(500);

/// Puts numbered keys, many at once.
const PUT: &str = "
    const { peer } = window.roundelay;
    const [from, to, step, len] = args.map(Number);
    let next = from;
    const work = async () => {
        while (next < to) {
            const number = next;
            next += step;
            await peer.put(`k${number}/n`, `value ${number}`.padEnd(len, '.'));
        }
    };
    await Promise.all(Array.from({ length: 32 }, work));";

/// The numbered keys that are not read in mode `one` as they were put.
const LACKS: &str = "
    const { peer } = window.roundelay, lacks = [];
    const [to, len] = args.map(Number);
    for (let number = 0; number < to; number++) {
        const expected = `value ${number}`.padEnd(len, '.');
        const got = await peer.get(`k${number}/n`, { mode: 'one' }).catch((error) => error);
        const value = got?.value && new TextDecoder().decode(got.value);
        if (value !== expected) lacks.push(`k${number}: ${got?.code ?? value?.slice(0, 20)}`);
    }
    return lacks;";

/// How many entries the browser keeps, on its disk.
const ON_DISK: &str = "
    const done = (request) => new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    const named = (await indexedDB.databases()).find(({ name }) => name.startsWith('roundelay-'));
    const database = await done(indexedDB.open(named.name));
    const range = IDBKeyRange.bound(new window.Uint8Array([114]), new window.Uint8Array([115]));
    const records = database.transaction('records').objectStore('records');
    const count = await done(records.count(range));
    database.close();
    return count;";

impl Page<'_> {
    fn status(&self) -> Value {
        self.run("return roundelay.peer.status()", &[])
    }

    fn own_id(&self) -> String {
        self.status()["id"].as_str().unwrap().to_owned()
    }

    fn medium(&self) -> String {
        let status = self.status();
        status["store"]["medium"].as_str().unwrap().to_owned()
    }

    fn put_numbered(&self, from: usize, to: usize, step: usize, len: usize) {
        let args = [from, to, step, len].map(|number| number.to_string());
        self.run(PUT, &args.each_ref().map(String::as_str));
    }

    fn lacks_numbered(&self, to: usize, len: usize) -> Value {
        self.run(LACKS, &[&to.to_string(), &len.to_string()])
    }

    /// Waits until the browser has so many entries on its disk.
    fn wait_on_disk(&self, count: usize) {
        let what = format!("{} to keep {count} entries", self.name);
        wait_until(&what, DEADLINE, || self.run(ON_DISK, &[]) == count);
    }

    /// Loads the page anew, as its user would.
    fn reload(&self) {
        self.tab.reload();
        wait_until("the page to be back", DEADLINE, || {
            self.run("return Boolean(window.roundelay?.peer)", &[]) == true
        });
    }
}

/// A page puts, is closed and opened again: it is who it was, and has what it
/// had, also when there is nobody to ask.
fn come_back(kind: Kind) {
    let mut ring = start_ring_of(0);
    let browser = Browser::start(kind, ring.dir.path());
    let page = Page::join("kept", &browser, &ring);
    let before = page.status();
    assert_eq!(before["store"]["medium"], "indexeddb", "{before}");
    page.put_numbered(0, KEYS, 1, LEN);
    page.wait_on_disk(KEYS);
    page.close();

    let page = Page::join("kept-again", &browser, &ring);
    let after = page.status();
    assert_eq!(after["id"], before["id"]);
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64());
    assert_eq!(after["store"]["records"], KEYS);
    let heard: u64 = page.links().iter().map(|link: &Link| link.bytes_in).sum();
    println!("{kind:?}: {heard} B were heard by a page that came back");
    assert!(heard < HEARD_MAX, "{heard} B");

    ring.members[0].kill_9();
    page.wait_relay(false);
    assert_eq!(page.lacks_numbered(KEYS, LEN), json!([]));
    let took = page.run(PUT_LATE, &[&LATER.as_millis().to_string()]);
    assert!(took.as_f64() >= Some(LATER.as_millis() as f64), "{took} ms");
    page.close();

    // What a page alone acknowledged, it brings when there is a ring again.
    ring.members[0].start();
    wait_until("the relay", DEADLINE, || ring.members[0].is_whole());
    let page = Page::join("kept-late", &browser, &ring);
    assert_eq!(page.own_id(), before["id"]);
    assert_eq!(page.get("late/n"), "late");
    wait_until("the relay to have it", DEADLINE, || {
        ring.members[0].get("late/n").text() == "late"
    });
}

/// Puts a key when the browser says late that a transaction is complete.
const PUT_LATE: &str = "
    const own = Object.getOwnPropertyDescriptor(IDBTransaction.prototype, 'oncomplete');
    Object.defineProperty(IDBTransaction.prototype, 'oncomplete', {
        ...own,
        set(done) {
            own.set.call(this, (event) => setTimeout(() => done(event), Number(args[0]) + 5));
        },
    });
    const begun = performance.now();
    await roundelay.peer.put('late/n', 'late', { mode: 'one' });
    return performance.now() - begun;";

#[test]
fn a_page_that_comes_back_is_the_same_peer_with_its_share() {
    let _alone = alone();
    for kind in [Kind::Chromium, Kind::Firefox] {
        come_back(kind);
    }
}

/// Of two tabs at once one is the peer that the browser keeps.
fn two_at_once(kind: Kind, ring: &Ring) {
    let browser = Browser::start(kind, ring.dir.path());
    let first = Page::join("tab-a", &browser, ring);
    let second = Page::join("tab-b", &browser, ring);
    let kept = first.own_id();
    assert_ne!(second.own_id(), kept);
    assert_eq!(
        (&*first.medium(), &*second.medium()),
        ("indexeddb", "memory")
    );
    let why = second.status()["store"]["in_memory_because"].clone();
    assert!(why.as_str().unwrap().contains("another page"), "{why}");
    first.put_numbered(0, KEYS, 2, 0);
    second.put_numbered(1, KEYS, 2, 0);

    first.reload();
    assert_eq!(first.own_id(), kept, "loaded anew");
    second.reload();
    assert_eq!(second.medium(), "memory", "loaded anew");
    first.close();
    let third = Page::join("tab-c", &browser, ring);
    assert_eq!(third.own_id(), kept, "opened while another is there");
    for page in [&second, &third] {
        let counters = &page.status()["counters"];
        assert_eq!(counters["identity_in_use"], Value::Null, "{counters}");
        let what = format!("{} to read all", page.name);
        wait_until(&what, DEADLINE, || {
            page.lacks_numbered(KEYS, 0) == json!([])
        });
    }
}

#[test]
fn two_tabs_at_once_are_two_peers() {
    let _alone = alone();
    let ring = start_ring();
    for kind in [Kind::Chromium, Kind::Firefox] {
        two_at_once(kind, &ring);
    }
}

/// Joins anew in one page as what the browser keeps changes; tells what came of
/// each time.
const REFUSALS: &str = "
    const { Peer } = window.roundelay, told = [];
    const named = (await indexedDB.databases()).find(({ name }) => name.startsWith('roundelay-'));
    const open = (version) => new Promise((resolve, reject) => {
        const request = indexedDB.open(named.name, version);
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    let peer = window.roundelay.peer;
    const again = async () => {
        await peer.leave();
        peer = await Peer.join();
        const { id, store } = peer.status();
        told.push([id, store.in_memory_because ?? '']);
    };
    await again();
    await peer.leave();
    const put = async (name, key, value) => {
        const database = await open();
        await new Promise((resolve) => {
            const change = database.transaction(name, 'readwrite');
            change.objectStore(name).put(value, key);
            change.oncomplete = resolve;
        });
        database.close();
    };
    await put('records', new window.TextEncoder().encode('m/views'), new window.Uint8Array([255, 255]));
    await again();
    await put('identity', 'seed', new window.Uint8Array(31));
    await again();
    (await open(named.version + 1)).close();
    await again();
    await new Promise((resolve) => {
        indexedDB.deleteDatabase(named.name).onsuccess = resolve;
    });
    await again();
    await again();
    Object.defineProperty(window, 'indexedDB', { get: () => undefined });
    await again();
    return told;";

#[test]
fn what_cannot_be_used_is_left_alone_and_said() {
    let _alone = alone();
    let ring = start_ring_of(0);
    for kind in [Kind::Chromium, Kind::Firefox] {
        let browser = Browser::start(kind, ring.dir.path());
        let page = Page::join("refused", &browser, &ring);
        let before = page.own_id();
        let told = page.run(REFUSALS, &[]);
        assert_eq!(told.as_array().map(Vec::len), Some(7), "{told}");
        let said = [
            "",
            "views",
            "damaged",
            "later format",
            "",
            "",
            "no IndexedDB",
        ];
        for (told, said) in told.as_array().unwrap().iter().zip(said) {
            let why = told[1].as_str().unwrap();
            assert!(
                why.contains(said) && why.is_empty() == said.is_empty(),
                "{told}"
            );
        }
        let ids: Vec<&Value> = told
            .as_array()
            .unwrap()
            .iter()
            .map(|told| &told[0])
            .collect();
        assert_eq!(*ids[0], before, "{told}");
        assert!(ids[1..].iter().all(|id| *id != &before), "{told}");
        assert_eq!(ids[4], ids[5], "{told}");
    }
}

#[test]
fn a_page_whose_ring_is_gone_drops_its_share_and_joins_the_new_one() {
    let _alone = alone();
    let mut ring = start_ring_of(0);
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    let page = Page::join("old-ring", &chromium, &ring);
    let before = page.status();
    page.put_numbered(0, KEYS, 1, 0);
    page.wait_on_disk(KEYS);
    page.close();

    ring.members[0].kill_9();
    std::fs::remove_dir_all(ring.dir.path().join("relay")).unwrap();
    ring.members[0].start();
    wait_until("the new ring", DEADLINE, || ring.members[0].is_whole());
    for joined in ["new-ring", "new-ring-again"] {
        let page = Page::join(joined, &chromium, &ring);
        let after = page.status();
        assert_eq!(after["id"], before["id"]);
        assert_ne!(after["ring_id"], before["ring_id"]);
        assert_eq!(after["store"]["medium"], "indexeddb", "{after}");
        let count = usize::from(joined == "new-ring-again");
        assert_eq!(after["store"]["records"], count, "nothing of the old ring");
        page.put("new/n", "new");
        page.wait_on_disk(1);
        page.close();
    }
    assert_eq!(ring.members[0].get("k0/n").status, 404);
}

#[test]
fn a_page_without_room_says_so_and_loses_nothing() {
    let _alone = alone();
    let ring = start_ring_of(0);
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    let page = Page::join("full", &chromium, &ring);
    page.run(
        "window.errors = []; roundelay.peer.on('error', ({ code }) => window.errors.push(code));",
        &[],
    );
    let origin = format!("http://127.0.0.1:{}", ring.listen);
    let quota = "Storage.overrideQuotaForOrigin";
    page.tab
        .command(quota, &json!({ "origin": origin, "quotaSize": 1 }));
    let state = || page.status()["store"]["state"].clone();
    // Chromium remembers for a while how much room there was.
    wait_until("the page to be full", 2 * DEADLINE, || {
        page.put_numbered(0, KEYS, 1, LEN);
        state() == "full"
    });
    assert_eq!(page.run("return window.errors", &[]), json!(["storage"]));
    assert_eq!(lost_of(&ring), 0, "all were acknowledged by the relay");

    page.tab.command(quota, &json!({ "origin": origin }));
    wait_until("the page to have room", DEADLINE, || {
        page.put("room/n", "more");
        state() == "ok"
    });
    page.wait_on_disk(KEYS + 1);
    assert_eq!(page.lacks_numbered(KEYS, LEN), json!([]));
}

/// How many of the long numbered keys the relay does not have.
fn lost_of(ring: &Ring) -> usize {
    let value = |number: usize| format!("{:.<LEN$}", format!("value {number}"));
    (0..KEYS)
        .filter(|number| ring.members[0].get(&key(*number)).text() != value(*number))
        .count()
}
