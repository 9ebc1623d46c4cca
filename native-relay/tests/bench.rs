//! The benchmarks measure what they say, and end what they start.

use std::process::Command;

use serde_json::Value;

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
            let (p50, p99) = (figure["p50"].as_f64(), figure["p99"].as_f64());
            assert!(p50.unwrap() > 0.0 && p50 <= p99, "{figure}");
        }
    }
}

#[test]
fn a_join_is_measured_to_its_first_get() {
    let figures = figures(&["join", "--members", "2", "--joins", "2"]);
    assert_eq!(figures[0]["what"], "join to first get");
    assert!(figures[0]["p50"].as_f64().unwrap() > 0.0, "{figures:?}");
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
