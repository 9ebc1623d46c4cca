//! What is wrong is told in words and counted, and nobody goes down.

#[path = "bad_input/relays.rs"]
mod bad_relays;
mod common;
#[path = "bad_input/directories.rs"]
mod directories;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "bad_input/peers.rs"]
mod peers;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::{DEADLINE, Process, Ring, alone, free_port, http, http_with, wait_until};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn another_network_or_secret_is_refused_in_words() {
    let _alone = alone();
    let mut ring = Ring::start(0);
    let relay = format!("http://127.0.0.1:{}", ring.listen);
    let secret = ring.dir.path().join("secret");
    std::fs::write(&secret, "not the right one\n").unwrap();
    let secret = secret.display().to_string();
    ring.add(
        "stranger",
        &["node", "--relay", &relay, "--network", "other"],
    );
    let wrong = ["node", "--relay", &relay, "--secret-file", &secret];
    ring.add("spy", &wrong);
    for (index, member) in ring.members.iter_mut().enumerate().skip(1) {
        let process = member.process.as_ref().expect("it runs");
        wait_until("the refusal", DEADLINE, || {
            process
                .said()
                .contains("serves no network of this name with this secret")
        });
        assert!(member.process().is_alive());
        let status = member.status().unwrap();
        assert_ne!(status["relays"][0]["state"], "attached", "member {index}");
        assert_eq!(http("GET", member.http, "/readyz", b"").status, 503);
        let put = member.put("a", b"b");
        assert_eq!(
            (put.status, &put.json()["error"]),
            (503, &"not_joined".into())
        );
    }
    wait_until("the count", SOON, || {
        hub_count(ring.listen, "refused_network") >= 2
    });
    assert!(ring.members[0].is_whole());
}

#[test]
fn what_cannot_start_says_why_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let address = format!("127.0.0.1:{port}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let within = file.join("data").display().to_string();
    for (args, words) in [
        (&["node", "--http", &address][..], [&port[..], "--http"]),
        (&["relay", "--listen", &address], [&port, "--listen"]),
        (&["node", "--data-dir", &within], [&within, "--data-dir"]),
    ] {
        let mut process = Process::start(args, &dir.path().join("log"));
        assert_eq!(process.ended(SOON).code(), Some(1), "{args:?}");
        let said = process.said();
        for word in words {
            assert!(said.contains(word), "{args:?}: {said}");
        }
    }
    let args = ["relay", "--tls-cert", "c", "--tls-key", "k"];
    let mut process = Process::start(&args, &dir.path().join("tls.log"));
    assert_eq!(process.ended(SOON).code(), Some(2));
    assert!(process.said().contains("not built"), "{}", process.said());
}

#[test]
fn two_processes_never_share_a_directory() {
    let _alone = alone();
    let mut ring = Ring::start(0);
    let dir = ring.dir.path().join("relay");
    let listen = format!("127.0.0.1:{}", free_port());
    let args = ["relay", "--listen", &listen, "--data-dir"];
    let dir = dir.display().to_string();
    let args = [&args[..], &[&dir]].concat();
    let mut process = Process::start(&args, &ring.dir.path().join("second.log"));
    assert_eq!(process.ended(SOON).code(), Some(1));
    let said = process.said();
    assert!(said.contains("in use by another roundelay"), "{said}");
    assert!(ring.members[0].process().is_alive());
    assert!(ring.members[0].is_whole());
}

#[test]
fn a_relay_that_is_not_there_is_dialled_until_it_is() {
    let _alone = alone();
    let mut ring = Ring::start(0);
    let later = free_port();
    let relay = format!("http://127.0.0.1:{later}");
    ring.add("early", &["node", "--relay", &relay]);
    let early = ring.members[1].process.as_ref().expect("it runs");
    let url = format!("ws://127.0.0.1:{later}/ws");
    wait_until("the words", DEADLINE, || {
        let said = early.said();
        said.contains(&url) && said.contains("connection refused (is a relay running there?)")
    });
    let listen = format!("127.0.0.1:{later}");
    ring.add("late", &["relay", "--listen", &listen]);
    wait_until("the node to join", DEADLINE, || ring.members[1].is_whole());
}

#[test]
fn what_is_no_message_is_refused_and_counted() {
    let _alone = alone();
    let ring = Ring::start(1);
    let listen = ring.listen;
    let silent = attach(listen);
    let forward = [&[1][..], &[7; 32], b"body"].concat();
    let version = u8::try_from(roundelay_core::wire::PROTOCOL_VERSION).unwrap();
    let attach_zeros = [
        &[0, version, 7][..],
        b"default",
        &[0; 64],
        &[1, 0, 0, 0],
        &[0; 160],
    ]
    .concat();
    let cases = [
        ("refused_malformed", Message::binary(vec![0xff; 100])),
        ("refused_malformed", Message::binary(Vec::new())),
        ("refused_malformed", Message::text("GET / HTTP/1.1")),
        ("refused_malformed", Message::binary(vec![0; 65_536])),
        ("refused_malformed", Message::binary(vec![0; 1 << 20])),
        ("refused_malformed", Message::binary(forward)),
        ("refused_network", Message::binary(attach_zeros)),
    ];
    for (counter, message) in cases {
        let before = hub_count(listen, counter);
        let len = message.len();
        let mut socket = attach(listen);
        // The relay may hang up before all of it is written.
        let _ = socket.send(message);
        while socket.read().is_ok() {}
        wait_until("the count", SOON, || {
            hub_count(listen, counter) == before + 1
        });
        assert!(ring.members[0].is_whole(), "{counter}, {len} bytes");
    }
    // One that never says who it is loses its place.
    let mut silent = silent;
    while silent.read().is_ok() {}
    assert_eq!(hub_count(listen, "refused_limits"), 1);

    let put = ring.members[1].put("still/here", b"yes");
    assert_eq!(put.status, 204, "{}", put.text());
    assert_eq!(ring.members[0].get("still/here").body, b"yes");
}

#[test]
fn a_close_is_answered_before_the_connection_ends() {
    let _alone = alone();
    let ring = Ring::start(0);
    let mut socket = attach(ring.listen);
    socket.close(None).unwrap();
    assert!(matches!(socket.read(), Ok(Message::Close(_))));
}

/// A WebSocket to the relay that was challenged already.
fn attach(port: u16) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let url = format!("ws://127.0.0.1:{port}/ws");
    let (mut socket, _) = client(url.into_client_request().unwrap(), stream).unwrap();
    assert!(matches!(socket.read().unwrap(), Message::Binary(_)));
    socket
}

/// One of the hub's counters.
fn hub_count(port: u16, name: &str) -> u64 {
    let metrics = http("GET", port, "/metrics", b"").text();
    let name = format!("roundelay_hub_{name}_total ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn foreign_hosts_and_bad_requests_are_refused() {
    let _alone = alone();
    let ring = Ring::start(0);
    let port = ring.members[0].http;
    let foreign = [("host", "evil.example")];
    let answer = http_with("GET", port, "/v1/status", &foreign, b"");
    assert_eq!(answer.status, 421);
    assert_eq!(answer.json()["error"], "foreign_host");
    for path in [
        "/v1/kv/",
        "/v1/kv/a?mode=all",
        "/v1/kv/%ff",
        &format!("/v1/kv/{}", "k".repeat(1025)),
    ] {
        let answer = http("PUT", port, path, b"");
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    // Too long by its head alone: the answer does not wait for the body.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let len = (1 << 20) + 1;
    let head =
        format!("PUT /v1/kv/a HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {len}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(ring.members[0].is_whole());
}

#[test]
fn stun_answers_on_the_relays_port_whatever_else_comes() {
    let _alone = alone();
    let ring = Ring::start(0);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let relay = ("127.0.0.1", ring.listen);
    socket.send_to(&[0xff; 1_200], relay).unwrap();
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    socket.send_to(&request, relay).unwrap();
    let mut answer = [0; 100];
    let (len, _) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(
        (len, &answer[..2], &answer[8..20]),
        (32, &[1, 1][..], &[7; 12][..])
    );
}
