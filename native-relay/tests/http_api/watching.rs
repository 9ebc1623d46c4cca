//! Watches as server-sent events.

use roundelay::api::{Options, WATCHERS_MAX};
use tokio::io::AsyncReadExt;

use crate::fake::{DEADLINE, Node, token};

#[tokio::test]
async fn changes_come_as_events() {
    let (client, shutdown, served) = Node::start_with_shutdown(Options::default()).await;
    let put = client.request("PUT /v1/kv/chat/a HTTP/1.1", b"x").await;
    let version = put.header("etag").unwrap().trim_matches('"').to_owned();
    let [begun, told] = [1, 2].map(|number| format!("id: {}\n", token(number)));
    let change = |deleted: bool| {
        format!(
            "event: change\ndata: {{\"key\":\"chat/a\",\"version\":\"{version}\",\"deleted\":{deleted}}}\n"
        )
    };
    let (there, gone) = (change(false), change(true));
    let words = ["event: reset\ndata: {}\n", &there, &begun, &gone, &told];
    let head = "GET /v1/watch/chat/ HTTP/1.1";
    let (mut stream, text) = client.stream(head, &words).await;
    let head = text.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{text}");
    assert!(head.contains("content-type: text/event-stream"), "{text}");
    let at = words.map(|word| text.find(word).unwrap());
    assert!(at.is_sorted(), "{at:?}: {text}");

    let head = format!(
        "GET /v1/watch/chat/a HTTP/1.1\r\nLast-Event-ID: {}",
        token(1)
    );
    let (resumed, text) = client.stream(&head, &[&gone, &told]).await;
    assert!(
        !text.contains("event: reset") && !text.contains(&there),
        "{text}"
    );

    // Nothing more will ever come; it ends with the node.
    shutdown.send(()).unwrap();
    let mut rest = Vec::new();
    let rest = tokio::time::timeout(DEADLINE / 8, stream.read_to_end(&mut rest));
    rest.await.expect("the end of events").unwrap();
    drop((stream, resumed));
    tokio::time::timeout(DEADLINE, served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn bad_watches_are_told_what_is_bad() {
    let client = Node::start(Options::default()).await;
    for (target, header, code) in [
        ("", "", "bad_key"),
        ("/a", "", "bad_key"),
        ("%ff", "", "bad_key"),
        ("a/?mode=one", "", "bad_query"),
        ("a/", "Last-Event-ID: 7", "bad_cursor"),
        ("a/", "Last-Event-ID: zz", "bad_cursor"),
    ] {
        let head = format!("GET /v1/watch/{target} HTTP/1.1\r\n{header}");
        let answer = client.request(head.trim_end(), b"").await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (400, code.to_owned()), "{head}");
    }
}

#[tokio::test]
async fn watchers_beyond_the_limit_are_told_so_and_leave_room_to_others() {
    let client = Node::start(Options::default()).await;
    let mut held = Vec::new();
    for _ in 0..WATCHERS_MAX / 128 {
        let (connection, responses) = client.http2_held("/v1/watch/a/", 128).await;
        held.push((connection, responses.join_all().await));
    }
    let statuses = held.iter().flat_map(|(_, responses)| responses);
    assert!(statuses.flatten().all(|response| response.status() == 200));
    let watch = async || {
        let (_, text) = client
            .stream("GET /v1/watch/a/ HTTP/1.1", &["\r\n\r\n"])
            .await;
        text.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(watch().await, "503");
    let put = client.request("PUT /v1/kv/a/b HTTP/1.1", b"x").await;
    assert_eq!(put.status, 204);
    drop(held);
    let watched = async { while watch().await != "200" {} };
    let watched = tokio::time::timeout(DEADLINE, watched).await;
    watched.expect("watchers that went away to leave their room to others");
}
