//! The benchmarks measure what they say, and end what they start.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;

use common::{DEADLINE, Process, free_port, http, wait_until};

/// Runs a benchmark; its figures by what they are of.
fn figures(args: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_roundelay"))
        .arg("bench")
        .args(args)
        .arg("--json")
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines = stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn puts_and_gets_are_measured_by_http_and_in_process() {
    let load = [
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--keys",
        "50",
        "--in-flight",
        "1,8",
    ];
    for way in [&["kv"][..], &["kv", "--in-process"]] {
        let figures = figures(&[way, &load].concat());
        let names = figures.iter().map(|figure| figure["what"].as_str());
        let mut expected = vec!["put, 1 in flight", "get, 1 in flight"];
        expected.extend(["put, 8 in flight", "get, 8 in flight"]);
        if way == ["kv"] {
            expected.insert(2, "GET /healthz, 1 in flight");
            expected.insert(5, "GET /healthz, 8 in flight");
        }
        assert!(names.eq(expected.into_iter().map(Some)), "{figures:?}");
        for figure in &figures {
            assert!(figure["rate"].as_f64().unwrap() > 1.0, "{figure}");
            assert_eq!(figure["errors"].as_f64(), Some(0.0), "{figure}");
            assert_eq!(figure["errors_by_code"], serde_json::json!({}));
            has_ordered_times(figure);
        }
    }
}

fn has_ordered_times(figure: &Value) {
    let times = ["p50", "p90", "p99", "p99.9", "max"].map(|part| figure[part].as_f64());
    assert!(times[0].unwrap() > 0.0 && times.is_sorted(), "{figure}");
}

const SHORT: [&str; 10] = [
    "kv",
    "--in-process",
    "--rounds",
    "2",
    "--seconds",
    "1",
    "--keys",
    "20",
    "--in-flight",
    "4",
];

#[test]
fn a_mix_is_told_by_operation_in_json_and_csv() {
    let dir = tempfile::tempdir().unwrap();
    let (json, csv) = (dir.path().join("kv.json"), dir.path().join("kv.csv"));
    let output = Command::new(env!("CARGO_BIN_EXE_roundelay"))
        .arg("bench")
        .args(SHORT)
        .args(["--mix", "75", "--size", "10", "--mode", "one"])
        .arg("--json")
        .arg(&json)
        .arg("--csv")
        .arg(&csv)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("get, 4 in flight, 75 % gets"), "{said}");
    let json = std::fs::read_to_string(json).unwrap();
    let figures: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let operations = figures.iter().map(|figure| figure["operation"].as_str());
    assert!(operations.eq(["put", "get", "all"].map(Some)), "{json}");
    for figure in &figures {
        has_ordered_times(figure);
        assert_eq!(figure["mode"], "one");
        assert_eq!(figure["size"], 10.0);
    }
    let done = |index: usize| figures[index]["done"].as_f64().unwrap();
    assert_eq!(done(0) + done(1), done(2));
    assert!((0.7..0.8).contains(&(done(1) / done(2))), "{json}");
    let csv = std::fs::read_to_string(csv).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(
        lines[0].starts_with("what,operation,in_flight,mode,"),
        "{csv}"
    );
    assert!(lines[0].contains(",p50,p90,p99,p99.9,max,rate,"), "{csv}");
    assert_eq!(lines.len(), 4, "{csv}");
}

/// A node that refuses every call in a mode, and says that it lives.
fn refusing(mode: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || refuse(stream, mode));
        }
    });
    address.to_string()
}

/// Answers requests without bodies until there are no more.
fn refuse(mut stream: TcpStream, mode: &str) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut first = None;
    for line in lines.map_while(Result::ok) {
        if !line.is_empty() {
            first.get_or_insert(line);
            continue;
        }
        let request: String = first.take().unwrap();
        let (status, body) = if request.starts_with("GET /healthz ") {
            (200, "{}")
        } else {
            assert!(request.contains(&format!("?mode={mode} ")), "{request}");
            (507, "{\"error\":\"full\",\"message\":\"make room\"}")
        };
        let len = body.len();
        let answer = format!("HTTP/1.1 {status} .\r\ncontent-length: {len}\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn errors_are_counted_by_code() {
    let node = refusing("linearizable");
    let output = Command::new(env!("CARGO_BIN_EXE_roundelay"))
        .args(["bench", "kv", "--node", &node, "--mode", "linearizable"])
        .args(["--rounds", "1", "--seconds", "1", "--size", "0"])
        .args(["--in-flight", "2", "--csv", "-"])
        .output()
        .unwrap();
    let csv = String::from_utf8(output.stdout).unwrap();
    for (what, errors) in [
        ("put", true),
        ("get", true),
        ("cas", true),
        ("GET /healthz", false),
    ] {
        let row = format!("\"{what}, 2 in flight\",");
        let row = csv.lines().find(|line| line.starts_with(&row)).unwrap();
        assert_eq!(row.contains(",full="), errors, "{csv}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no put and no get succeeded"), "{said}");
}

#[test]
fn a_report_that_cannot_be_written_is_named_before_anything_is_measured() {
    for (args, code, words) in [
        (
            &["--json", "-", "--csv", "-"][..],
            2,
            "cannot both go to stdout",
        ),
        (&["--csv", "/no/such/file"], 1, "/no/such/file"),
        (&["--mix", "101"], 2, "--mix"),
        (&["--in-flight", "0"], 2, "--in-flight"),
        (&["--mode", "all"], 2, "linearizable"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_roundelay"))
            .args(["bench", "kv"])
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_table_has_all_operations_in_memory_and_synced() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().to_str().unwrap();
    let load = ["--rounds", "1", "--seconds", "1", "--keys", "20"];
    let what = ["--size", "100", "--mode", "linearizable", "--disk", disk];
    let figures = figures(&[&["table"], &load[..], &what[..]].concat());
    let (sync, rows) = figures.split_first().unwrap();
    assert_eq!(sync["what"], "fdatasync of 4 KiB");
    let named = rows.iter().map(|row| {
        let [operation, medium] = ["operation", "medium"].map(|name| row[name].as_str());
        (operation.unwrap(), medium.unwrap())
    });
    let both = ["memory", "synced"].into_iter();
    let expected = both.flat_map(|medium| ["put", "get", "cas"].map(|word| (word, medium)));
    assert!(named.eq(expected), "{rows:?}");
    for row in rows {
        let is_synced_put = row["operation"] == "put" && row["medium"] == "synced";
        assert_eq!(row["errors"], 0.0, "{row}");
        assert!(row["floors"].as_f64().unwrap() > 1.0, "{row}");
        let times_etcd = 342.0 / row["p50"].as_f64().unwrap();
        let faster = row["faster"].as_f64();
        assert!(
            !is_synced_put || (faster.unwrap() - times_etcd).abs() < 0.01,
            "{row}"
        );
    }
}

#[test]
fn a_join_is_measured_to_its_first_get() {
    let figures = figures(&["join", "--members", "2", "--joins", "2"]);
    assert_eq!(figures[0]["what"], "join to first get");
    assert!(figures[0]["p50"].as_f64().unwrap() > 0.0, "{figures:?}");
}

#[test]
fn a_node_that_wants_a_token_is_shown_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    let token = ["--token-file", file.to_str().unwrap()];
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let data = dir.path().join("data");
    let node = [
        "node",
        "--http",
        &listen,
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let _node = Process::start(&[&node[..], &token].concat(), &dir.path().join("log"));
    wait_until("a node of its own", DEADLINE, || {
        http("GET", port, "/readyz", b"").status == 200
    });
    let bench = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_roundelay"))
            .args(["bench", "kv", "--node", &listen])
            .args(["--rounds", "1", "--seconds", "1", "--in-flight", "1"])
            .args(["--keys", "20", "--csv", "-"])
            .args(more)
            .env_clear()
            .output()
            .unwrap()
    };
    let refused = bench(&[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let csv = String::from_utf8_lossy(&refused.stdout);
    assert!(csv.contains("unauthorized="), "{csv}");
    let answered = bench(&token);
    let said = String::from_utf8_lossy(&answered.stderr);
    assert!(answered.status.success(), "{said}");
    let missing = bench(&["--token-file", "/no/such"]);
    let said = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(2), "{said}");
    assert!(said.contains("/no/such"), "{said}");
}

#[test]
fn a_ring_that_is_not_there_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_roundelay"))
        .args(["bench", "kv", "--node", "127.0.0.1:1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
