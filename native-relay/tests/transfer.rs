//! Keys that go from one ring to another, as lines of JSON.

mod common;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{Ring, alone, binary, http};

/// What an export prints, and how an import ends.
fn run(args: &[&str], port: u16, stdin: &[u8]) -> (i32, Vec<u8>, String) {
    let mut child = Command::new(binary())
        .args(args)
        .args(["--node", &format!("http://127.0.0.1:{port}")])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // One that fails at once reads nothing.
        scope.spawn(move || drop(input.write_all(stdin)));
        child.wait_with_output().unwrap()
    });
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, stderr)
}

#[test]
fn what_one_ring_exports_another_imports() {
    let _alone = alone();
    let rings = [Ring::start(0), Ring::start(0)];
    let [from, to] = [0, 1].map(|index| rings[index].members[0].http);
    let long: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    let odd: [(&str, &[u8]); 6] = [
        ("odd", b"the bucket itself"),
        ("odd/", b"an empty name"),
        ("odd/%22%5C%0A%00", b"\"\\\n"),
        ("odd/%E2%99%AB/a//b", "\u{266b}".as_bytes()),
        ("odd/empty", b""),
        ("odd/bytes", &long),
    ];
    for (key, value) in odd {
        let put = http("PUT", from, &format!("/v1/kv/{key}"), value);
        assert_eq!(put.status, 204, "{key}: {}", put.text());
    }
    // More than a page, and a batch.
    let many: String = (0..2500)
        .map(|number| format!("{{\"key\":\"many/{number}\",\"value\":\"value {number}\"}}\n"))
        .collect();
    let (code, _, said) = run(&["import", "-"], from, many.as_bytes());
    assert_eq!(
        (code, said.contains("2500 keys written")),
        (0, true),
        "{said}"
    );

    let (code, lines, said) = run(&["export", "odd", "many"], from, b"");
    assert_eq!((code, said.contains("2506 keys read")), (0, true), "{said}");
    let file = rings[0].dir.path().join("exported.jsonl");
    fs::write(&file, &lines).unwrap();
    let (code, _, said) = run(&["import", file.to_str().unwrap()], to, b"");
    assert_eq!(code, 0, "{said}");
    for (key, value) in odd {
        let get = http("GET", to, &format!("/v1/kv/{key}"), b"");
        assert_eq!((get.status, get.body == value), (200, true), "{key}");
    }
    let (_, again, _) = run(&["export", "odd", "many"], to, b"");
    let strip = |lines: &[u8]| -> Vec<serde_json::Value> {
        let text = String::from_utf8(lines.to_vec()).unwrap();
        let parsed = text.lines().map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("version");
            line
        });
        parsed.collect()
    };
    assert!(strip(&lines) == strip(&again));
}

#[test]
fn what_cannot_be_imported_is_named_by_its_line() {
    let _alone = alone();
    let ring = Ring::start(0);
    let port = ring.members[0].http;
    let lines = b"{\"key\":\"a/1\",\"value\":\"x\"}\n\n{\"key\":\"a/2\"}\nx\n{\"key\":\"a/3\",\"value\":\"x\",\"ttl\":0}\n";
    let (code, _, said) = run(&["import", "-"], port, lines);
    assert_eq!(code, 1, "{said}");
    for words in [
        "line 3: bad_line",
        "line 4: bad_line",
        "line 5: bad_ttl",
        "1 keys written, 3 not",
    ] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    assert_eq!(http("GET", port, "/v1/kv/a/1", b"").status, 200);
    let (code, _, said) = run(&["import", "nowhere.jsonl"], port, b"");
    assert_eq!((code, said.contains("nowhere.jsonl")), (1, true), "{said}");
    let (code, _, said) = run(&["export", "a/b"], port, b"");
    assert_eq!(code, 2, "{said}");
}
