//! Pages in real browsers share keys with the nodes and with each other, and
//! do so over direct links.

mod common;
#[path = "common/hostile.rs"]
mod hostile;

#[path = "browser/bad_input.rs"]
mod bad_input;
#[path = "browser/callers.rs"]
mod callers;
#[path = "browser/calls.rs"]
mod calls;
#[path = "browser/closing.rs"]
mod closing;
#[path = "browser/crashes.rs"]
mod crashes;
#[path = "browser/faults.rs"]
mod faults;
#[path = "browser/figures.rs"]
mod figures;
#[path = "browser/freezing.rs"]
mod freezing;
#[path = "browser/frozen.rs"]
mod frozen;
#[path = "browser/kept.rs"]
mod kept;
#[path = "browser/pages_alone.rs"]
mod pages_alone;
#[path = "browser/soak.rs"]
mod soak;
#[path = "browser/webdriver.rs"]
mod webdriver;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{DEADLINE, Ring, alone, binary, http, wait_until};
use serde_json::Value;
use webdriver::{Browser, Kind, Tab};

/// What is promised to a page that joins.
const DIRECT_WITHIN: Duration = Duration::from_secs(5);

/// So much that nothing else that is said meanwhile comes near it.
const SIZE: usize = 100 * 1024;

/// Text without a pattern, another one for every seed.
fn value(seed: u32) -> String {
    let mut state = seed;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    (0..SIZE).map(|_| letter()).collect()
}

/// Compares values without printing them.
fn assert_same(got: &str, expected: &str, who: &str) {
    let len = got.len();
    assert!(got == expected, "{who} read {len} bytes that were not put");
}

/// A relay with its page and two nodes.
fn start_ring() -> Ring {
    start_ring_of(2)
}

/// The same with so many nodes.
fn start_ring_of(nodes: usize) -> Ring {
    let ring = Ring::start(nodes);
    let page = http("GET", ring.listen, "/", b"");
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(
        page.text().contains("data-wasm="),
        "the binary was built without its page: run cargo xtask build first"
    );
    ring
}

/// A peer in a page.
struct Page<'a> {
    name: &'static str,
    tab: Tab<'a>,
}

impl<'a> Page<'a> {
    /// Opens the relay's page; it joins, and soon has a direct link.
    fn join(name: &'static str, browser: &'a Browser, ring: &Ring) -> Self {
        let tab = browser.open(&format!("http://127.0.0.1:{}/", ring.listen));
        let page = Self { name, tab };
        let joined = wait_until(&format!("{name} to join"), DEADLINE, || {
            page.run("return Boolean(window.roundelay?.peer)", &[]) == true
        });
        let what = format!("{name} to hold a direct link");
        let direct = wait_until(&what, DIRECT_WITHIN, || {
            page.links().iter().any(Link::is_direct)
        });
        println!("{name} joined after {joined:?} and was linked {direct:?} later");
        let own = page.run(
            "const { id, name } = roundelay.peer.status(); return [id, name]",
            &[],
        );
        let (id, shown) = (own[0].as_str().unwrap(), own[1].as_str().unwrap());
        assert_eq!(shown, format!("page-{}", &id[..4]), "pages are told apart");
        page
    }

    fn run(&self, body: &str, args: &[&str]) -> Value {
        let result = self.tab.run(body, args);
        result.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn put(&self, key: &str, value: &str) {
        self.run(
            "await window.roundelay.peer.put(args[0], args[1], { mode: 'quorum' });",
            &[key, value],
        );
    }

    fn get(&self, key: &str) -> String {
        let got = self.run(
            "const got = await window.roundelay.peer.get(args[0]);
            return got && new TextDecoder().decode(got.value);",
            &[key],
        );
        let text = got.as_str();
        let text = text.unwrap_or_else(|| panic!("{} has no {key}", self.name));
        text.to_owned()
    }

    fn links(&self) -> Vec<Link> {
        let links = self.run("return window.roundelay.peer.status().links", &[]);
        let links = links.as_array().unwrap().iter();
        links.map(Link::of).collect()
    }

    /// Waits until it has direct links to so many and no other links.
    fn wait_all_direct(&self, count: usize) {
        let what = format!("{} to have {count} direct links", self.name);
        let took = wait_until(&what, DEADLINE, || {
            let links = self.links();
            links.len() == count && links.iter().all(Link::is_direct)
        });
        println!("{} had {count} direct links {took:?} later", self.name);
    }

    fn close(self) {
        self.tab.close();
    }

    fn screenshot(&self) {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.png", self.name));
        self.tab.screenshot(&file);
        println!("see {}", file.display());
    }
}

/// A link as the page tells of it.
#[derive(Debug)]
struct Link {
    peer: String,
    kind: String,
    bytes_in: u64,
    bytes_out: u64,
}

impl Link {
    fn of(told: &Value) -> Self {
        Self {
            peer: told["peer"].as_str().unwrap().to_owned(),
            kind: told["kind"].as_str().unwrap().to_owned(),
            bytes_in: told["bytes_in"].as_u64().unwrap(),
            bytes_out: told["bytes_out"].as_u64().unwrap(),
        }
    }

    fn is_direct(&self) -> bool {
        self.kind == "direct"
    }
}

/// Asserts that, since then, one direct link carried a whole value, and no
/// relayed one did.
fn assert_carried(page: &Page<'_>, before: &[Link], bytes: impl Fn(&Link) -> u64) {
    let after = page.links();
    let most = |kind: &str| {
        let links = after.iter().filter(|link| link.kind == kind);
        let grown = links.map(|link| {
            let same = |then: &&Link| then.peer == link.peer && then.kind == kind;
            bytes(link).saturating_sub(before.iter().find(same).map_or(0, &bytes))
        });
        grown.max().unwrap_or(0)
    };
    let (direct, relayed) = (most("direct"), most("relay"));
    println!("{}: direct {direct} B, relayed {relayed} B", page.name);
    assert!(
        direct >= SIZE as u64 && relayed < SIZE as u64,
        "{}: {before:?}, then {after:?}",
        page.name
    );
}

/// Reads a key by the command line.
fn cli_get(port: u16, key: &str) -> String {
    let node = format!("http://127.0.0.1:{port}");
    let output = Command::new(binary())
        .args(["get", "--node", &node, key])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Put in one page; read in the other, and from both nodes by HTTP and by the
/// command line.
fn put_in_page(ring: &Ring, writer: &Page<'_>, reader: &Page<'_>, seed: u32) {
    let (key, value) = (format!("browser/{seed}"), value(seed));
    let (before_writer, before_reader) = (writer.links(), reader.links());
    writer.put(&key, &value);
    assert_carried(writer, &before_writer, |link| link.bytes_out);
    assert_same(&reader.get(&key), &value, reader.name);
    assert_carried(reader, &before_reader, |link| link.bytes_in);
    for node in &ring.members[1..] {
        let get = node.get(&key);
        assert_eq!(get.status, 200, "{}", get.text());
        assert_same(&get.text(), &value, "HTTP");
        assert_same(&cli_get(node.http, &key), &value, "the command");
    }
}

/// Put by HTTP; read in both pages.
fn put_by_http(ring: &Ring, pages: [&Page<'_>; 2], seed: u32) {
    for (number, node) in (seed..).zip(&ring.members[1..]) {
        let (key, value) = (format!("http/{number}"), value(number));
        let before = pages.map(Page::links);
        let put = node.put(&key, value.as_bytes());
        assert_eq!(put.status, 204, "{}", put.text());
        for (page, before) in pages.into_iter().zip(&before) {
            assert_same(&page.get(&key), &value, page.name);
            assert_carried(page, before, |link| link.bytes_in);
        }
    }
}

/// All that two pages on one ring are to do.
fn share(ring: &Ring, first: &Page<'_>, second: &Page<'_>) {
    // The relay's member, two nodes, and the other page.
    for page in [first, second] {
        page.wait_all_direct(4);
    }
    put_in_page(ring, first, second, 1);
    put_in_page(ring, second, first, 2);
    put_by_http(ring, [first, second], 3);
    for page in [first, second] {
        page.screenshot();
    }
}

#[test]
fn two_pages_of_one_chromium_share_keys_over_direct_links() {
    let _alone = alone();
    let ring = start_ring();
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    let first = Page::join("chromium-a", &chromium, &ring);
    let second = Page::join("chromium-b", &chromium, &ring);
    share(&ring, &first, &second);
}

#[test]
fn a_page_in_firefox_and_one_in_chromium_share_keys_over_direct_links() {
    let _alone = alone();
    let ring = start_ring();
    let firefox = Browser::start(Kind::Firefox, ring.dir.path());
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    let first = Page::join("firefox", &firefox, &ring);
    let second = Page::join("chromium", &chromium, &ring);
    share(&ring, &first, &second);
}
