//! A relay that is none, or a bad one.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tokio_tungstenite::tungstenite::{Message, WebSocket, accept};

use crate::common::{DEADLINE, Ring, alone, http, wait_until};

/// The next connection of the node, upgraded.
fn next(relay: &TcpListener) -> WebSocket<TcpStream> {
    let (stream, _) = relay.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    accept(stream).unwrap()
}

/// What a relay says first: its version and a nonce.
fn challenge(version: u8) -> Message {
    Message::binary([&[0, version][..], &[7; 32]].concat())
}

#[test]
fn a_bad_relay_is_left_and_dialled_again() {
    let _alone = alone();
    let mut ring = Ring::start(0);
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", relay.local_addr().unwrap());
    ring.add("node", &["node", "--relay", &url]);

    // Longer than any frame: the node hangs up.
    for len in [65_536, 2 << 20] {
        let mut socket = next(&relay);
        let _ = socket.send(Message::binary(vec![0; len]));
        while socket.read().is_ok() {}
    }
    // No message of the protocol: the node goes on listening.
    let node = &ring.members[1];
    let mut socket = next(&relay);
    let bad = [vec![], vec![0xff; 99], vec![1, 2, 3], vec![3; 40]];
    let count = bad.len() as u64;
    for bytes in bad {
        socket.send(Message::binary(bytes)).unwrap();
    }
    socket.send(Message::text("who are you?")).unwrap();
    wait_until("the count", DEADLINE, || {
        let status = node.status().expect("a status");
        status["counters"]["relay_malformed"] == count
    });
    // It still answers a challenge on that connection.
    socket.send(challenge(1)).unwrap();
    while !matches!(socket.read().unwrap(), Message::Binary(_)) {}
    drop(socket);
    // A later version is told, and so is a refusal.
    let mut socket = next(&relay);
    socket.send(challenge(9)).unwrap();
    let process = ring.members[1].process();
    wait_until("the words", DEADLINE, || {
        process
            .said()
            .contains("speaks another version of the protocol")
    });
    socket.send(Message::binary(vec![2, 3])).unwrap();
    wait_until("the refusal", DEADLINE, || {
        process.said().contains("it has no room for one more node")
    });
    assert!(process.is_alive());
    assert_eq!(
        http("GET", ring.members[1].http, "/healthz", b"").status,
        200
    );
    assert!(ring.members[0].is_whole());
}
