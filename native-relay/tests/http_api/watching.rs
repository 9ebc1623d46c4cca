//! Watches as server-sent events.

use roundelay::api::Options;
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
