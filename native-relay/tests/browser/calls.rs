//! Conditional writes, lists, watches and records that expire, from pages: in one
//! order with those of the command line.

use std::process::Command;

use crate::common::{DEADLINE, alone, binary, wait_until};
use crate::webdriver::{Browser, Kind};
use crate::{Page, start_ring};

/// How often each of two pages raises the count, at the same time.
const RAISES: usize = 20;

/// Raises a count so often; whoever is outrun reads anew.
const RAISE: &str = "
    const { peer } = window.roundelay, text = new TextDecoder();
    window.raised = (async () => {
        for (let left = Number(args[0]); left > 0;) {
            const found = await peer.get('calls/count', { mode: 'linearizable' });
            const count = found ? Number(text.decode(found.value)) : 0;
            try {
                await peer.cas('calls/count', found?.version, `${count + 1}`);
                left -= 1;
            } catch (error) {
                if (error.code !== 'condition_failed') throw error;
            }
        }
    })();
    window.raised.catch(() => {});";

/// Keeps what a watch of the bucket tells.
const WATCH: &str = "
    window.told = [];
    window.stop = window.roundelay.peer.watch('calls/', (event) => window.told.push(event));";

/// What a page does alone; returns what went otherwise.
const ALONE: &str = "
    const { peer } = window.roundelay, wrong = [];
    const refused = async (code, act) => {
        const got = await act().then(() => 'done', (error) => error.code);
        if (got !== code) wrong.push(`${got}, not ${code}: ${act}`);
    };
    const first = await peer.cas('calls/own', undefined, 'one');
    await refused('condition_failed', () => peer.cas('calls/own', undefined, 'two'));
    const second = await peer.cas('calls/own', first.version, 'two');
    await refused('condition_failed', () => peer.cas('calls/own', first.version, 'three'));
    await refused('conflict', () => peer.put('calls/own', 'four', { mode: 'one' }));
    await refused('bad_options', () => peer.cas('calls/own', 'no version', 'five'));
    const deleted = await peer.cas('calls/own', second.version, undefined);
    if (await peer.get('calls/own', { mode: 'linearizable' })) wrong.push('not deleted');
    if (deleted.version === second.version) wrong.push('no new version');
    await refused('bad_bucket', () => peer.list('a/b'));
    return wrong;";

#[test]
fn pages_and_the_command_line_raise_one_count_list_it_and_watch_it() {
    let _alone = alone();
    let ring = start_ring();
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    let firefox = Browser::start(Kind::Firefox, ring.dir.path());
    let first = Page::join("chromium", &chromium, &ring);
    let second = Page::join("firefox", &firefox, &ring);
    second.run(WATCH, &[]);
    let raises = RAISES.to_string();
    for page in [&first, &second] {
        page.run(RAISE, &[&raises]);
    }
    for page in [&first, &second] {
        page.run("await window.raised;", &[]);
    }
    assert_eq!(first.get("calls/count"), (2 * RAISES).to_string());

    for page in [&first, &second] {
        let wrong = page.run(ALONE, &[]);
        assert_eq!(wrong.as_array().map(Vec::len), Some(0), "{wrong}");
    }

    let list = "const page = await window.roundelay.peer.list('calls', { limit: 10 });
        return [page.keys.map(({ key }) => key), page.keys[0].version, page.next ?? null];";
    let listed = second.run(list, &[]);
    assert_eq!(listed[0], serde_json::json!(["calls/count"]));
    assert_eq!(listed[2], serde_json::Value::Null);

    let version = listed[1].as_str().unwrap();
    let cas = |version: &str, value: &str| {
        let node = format!("http://127.0.0.1:{}", ring.members[1].http);
        let mut cas = Command::new(binary());
        cas.args(["cas", "calls/count", value, "--node", &node]);
        let output = cas.args(["--if-version", version]).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, stdout) = cas(version, "by hand");
    assert_eq!(code, Some(0), "{stdout}");
    assert_eq!(first.get("calls/count"), "by hand");
    let newer = second.run(list, &[]);
    assert!(
        stdout.contains(newer[1].as_str().unwrap()),
        "{stdout}: {newer}"
    );
    assert_eq!(cas(version, "too late").0, Some(4));
    assert_eq!(second.get("calls/count"), "by hand");
    second.wait_told("calls/count", newer[1].as_str().unwrap(), false);

    let brief = "const { peer } = window.roundelay;
        return (await peer.put('calls/brief', 'x', { ttl: 1 })).version;";
    let written = first.run(brief, &[]);
    second.wait_told("calls/brief", written.as_str().unwrap(), false);
    let gone = "return await window.roundelay.peer.get('calls/brief') === undefined;";
    wait_until("the record to expire", DEADLINE, || {
        first.run(gone, &[]) == true
    });
    second.wait_told("calls/brief", "", true);
    let told = second.run("window.stop(); return window.told[0].type;", &[]);
    assert_eq!(told, "reset");
}

impl Page<'_> {
    /// Waits until its watch has told a version of a key, any one if it is empty.
    fn wait_told(&self, key: &str, version: &str, deleted: bool) {
        let told = "return window.told.some((told) => told.type === 'change'
            && told.key === args[0] && told.deleted === (args[2] === 'true')
            && (!args[1] || told.version === args[1]));";
        let args = [key, version, if deleted { "true" } else { "false" }];
        wait_until(key, DEADLINE, || self.run(told, &args) == true);
    }
}
