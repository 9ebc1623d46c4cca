//! The real command: its words and exit codes.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn roundelay(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    told(roundelay(args).output().unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

/// A port on which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A server that answers one request with these bytes.
fn once(answer: &'static str) -> String {
    use std::io::Read;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request: Vec<u8> = Vec::new();
        let mut bytes = [0; 1024];
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            let len = stream.read(&mut bytes).unwrap();
            request.extend(&bytes[..len]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
    });
    url
}

#[test]
fn usage_errors_exit_with_2() {
    for (args, words) in [
        (&["sing"][..], "sing"),
        (&["put"], "KEY"),
        (&["get", ""], "empty"),
        (&["get", &"k".repeat(1025)], "longer"),
        (&["get", "a", "--mode", "all"], "quorum"),
        (&["list", "a/b"], "slash"),
        (&["list", ""], "empty"),
        (&["list", "a", "--limit", "1001"], "1000"),
        (&["list", "a", "--after", "b/c"], "bucket/name"),
        (&["list", "a", "--all", "--limit", "3"], "--limit"),
        (&["list", "a", "--mode", "linearizable"], "quorum"),
        (&["put", "a", "b", "--ttl", "0"], "whole number of seconds"),
        (&["put", "a", "b", "--ttl", "315360001"], "315360000"),
        (&["watch", ""], "bucket"),
        (&["watch", "/a"], "slash"),
        (&["get", "a", "--node", "ftp://a"], "http://"),
        (
            &["get", "a", "--node", "http://a b"],
            "http://127.0.0.1:9101",
        ),
        (&["get", "a", "--token-file", "/no/such"], "/no/such"),
        (&["node", "--relay", "ftp://relay.example"], "ws://"),
        (&["node", "--relay", "http://relay.example?x"], "'?'"),
        (&["node", "--udp", "nowhere"], "127.0.0.1:9101"),
        (&["node", "--http", "0.0.0.0:0"], "--token-file"),
        (
            &["node", "--http", "0.0.0.0:0", "--token-file", "/no/such"],
            "/no/such",
        ),
        (&["node", "--secret-file", "/no/such"], "/no/such"),
        (&["node", "--secret-file", "/dev/null"], "empty"),
        (&["node", "--network", ""], "name"),
        (&["node", "--config", "/no/such"], "/no/such"),
        (&["node", "--name", &"n".repeat(65)], "64 bytes"),
        (&["relay", "--network", "a", "--network", "a"], "twice"),
        (&["relay", "--network", "a=/no/such"], "/no/such"),
        (&["relay", "--listen", "9999"], "127.0.0.1"),
        (&["status", "--log", "a=b=c"], "--log"),
    ] {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(words), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn help_version_and_completions_are_there() {
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for command in [
        "relay", "node", "put", "get", "delete", "list", "status", "ring", "id",
    ] {
        assert!(stdout.contains(&format!("\n  {command} ")), "{stdout}");
    }
    assert_eq!(run(&["--version"]).0, 0);
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(stdout.contains("roundelay"));
    }
}

#[test]
fn an_unreachable_node_is_named() {
    let url = nobody();
    for args in [&["status"][..], &["get", "a"], &["put", "a", "b"], &["id"]] {
        let (code, _, stderr) = run(&[args, &["--node", &url]].concat());
        assert_eq!(code, 1, "{stderr}");
        assert!(
            stderr.contains(&url) && stderr.contains("roundelay node"),
            "{stderr}"
        );
    }
    let output = roundelay(&["status"]).env("ROUNDELAY_NODE", &url).output();
    assert!(told(output.unwrap()).2.contains(&url));
}

#[test]
fn answers_become_exit_codes() {
    let found = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"1-2\"\r\n\r\n\u{266b}";
    let (code, stdout, _) = run(&["get", "a", "--node", &once(found)]);
    assert_eq!((code, stdout.as_str()), (0, "\u{266b}"));

    let written = "HTTP/1.1 204 No Content\r\nETag: \"1-2\"\r\nRoundelay-Copies: 2/3\r\n\r\n";
    let (code, stdout, _) = run(&["put", "a", "b", "--node", &once(written)]);
    assert_eq!((code, stdout.as_str()), (0, "version 1-2, copies 2/3\n"));
    let (_, stdout, _) = run(&["delete", "a", "--json", "--node", &once(written)]);
    assert_eq!(stdout, "{\"copies\":\"2/3\",\"version\":\"1-2\"}\n");

    for (answer, expected) in [
        (
            "404 Not Found\r\nContent-Length: 40\r\n\r\n{\"error\":\"not_found\",\"message\":\"none..\"}",
            3,
        ),
        (
            "412 No\r\nContent-Length: 38\r\n\r\n{\"error\":\"condition\",\"message\":\"none\"}",
            4,
        ),
        (
            "504 No\r\nContent-Length: 44\r\n\r\n{\"error\":\"outcome_unknown\",\"message\":\"none\"}",
            5,
        ),
        (
            "503 No\r\nContent-Length: 40\r\n\r\n{\"error\":\"unavailable\",\"message\":\"none\"}",
            1,
        ),
        ("404 No\r\nContent-Length: 0\r\n\r\n", 1),
    ] {
        let answer = format!("HTTP/1.1 {answer}").leak();
        let (code, stdout, stderr) = run(&["put", "a", "b", "--node", &once(answer)]);
        assert_eq!(
            (code, stdout.as_str()),
            (expected, ""),
            "{answer}: {stderr}"
        );
        assert!(stderr.starts_with("roundelay: "), "{stderr}");
    }
}

#[test]
fn a_data_directory_tells_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert_eq!(run(&["id", "--data-dir", path]).0, 3);
    std::fs::write(dir.path().join("identity"), [7; 32]).unwrap();
    let (code, stdout, stderr) = run(&["id", "--data-dir", path]);
    let id = roundelay_core::Identity::from_seed(&[7; 32]).id();
    assert_eq!((code, stdout), (0, format!("{id}\n")), "{stderr}");
    std::fs::write(dir.path().join("identity"), "short").unwrap();
    let (code, _, stderr) = run(&["id", "--data-dir", path]);
    assert!(code == 1 && stderr.contains("32 bytes"), "{stderr}");
}

#[test]
fn a_write_without_an_answer_has_an_unknown_outcome() {
    let (code, _, stderr) = run(&["put", "a", "b", "--node", &once("")]);
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains("may or may not"), "{stderr}");
    let (code, _, stderr) = run(&["get", "a", "--node", &once("")]);
    assert_eq!(code, 1, "{stderr}");
}

#[test]
fn a_value_that_is_too_long_is_not_sent() {
    let url = nobody();
    let mut put = roundelay(&["put", "a", "--node", &url])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = put.stdin.take().unwrap();
    let _ = stdin.write_all(&vec![0; (1 << 20) + 1]);
    drop(stdin);
    let (code, _, stderr) = told(put.wait_with_output().unwrap());
    assert_eq!(code, 1);
    assert!(stderr.contains("1048576"), "{stderr}");
}
