//! Many calls in one request.

use roundelay::api::{BATCH_BYTES_MAX, BATCH_LINES_MAX, Options};
use serde_json::{Value, json};

use crate::fake::{Client, Node};

/// Sends lines; the status, and the answers where it is 200.
async fn batch(client: &Client, body: &str) -> (u16, Vec<Value>) {
    let host = client.address.to_string();
    let (status, body) = client.http2("POST", &host, "/v1/batch", body).await;
    let lines = body.lines();
    let lines = lines.map(|line| serde_json::from_str(line).unwrap());
    (status, lines.collect())
}

#[tokio::test]
async fn each_line_is_answered_in_its_turn() {
    let client = Node::start(Options::default()).await;
    let puts = [
        json!({ "op": "put", "key": "a/text", "value": "\u{266b}" }),
        json!({ "op": "put", "key": "a/bytes", "base64": "AP8=" }),
        json!({ "op": "put", "key": "fail/unknown", "value": "" }),
        json!({ "op": "put", "key": "fail/unavailable", "value": "" }),
    ];
    let lines: String = puts.iter().map(|put| format!("{put}\r\n\n")).collect();
    let (status, answers) = batch(&client, &lines).await;
    assert_eq!((status, answers.len()), (200, 4));
    let told = |answer: &Value| (answer["key"].clone(), answer["status"].clone());
    assert_eq!(told(&answers[0]), (json!("a/text"), json!(204)));
    let version = answers[0]["version"].as_str().unwrap();
    assert!(answers[0]["copies"].as_str().unwrap().contains('/'));
    assert_eq!(told(&answers[2]), (json!("fail/unknown"), json!(504)));
    assert_eq!(answers[2]["error"], "outcome_unknown");
    assert_eq!(told(&answers[3]), (json!("fail/unavailable"), json!(503)));
    assert!(!answers[3]["missing"].as_array().unwrap().is_empty());

    let gets = ["a/text", "a/bytes", "a/missing"];
    let gets = gets.map(|key| format!("{}\n", json!({ "op": "get", "key": key })));
    let lines = [gets.concat(), "{\"op\":\"get\"}\n".into()].concat();
    let (_, answers) = batch(&client, &lines).await;
    let expected =
        json!({ "key": "a/text", "status": 200, "version": version, "value": "\u{266b}" });
    assert_eq!(answers[0], expected);
    assert_eq!(answers[1]["base64"], "AP8=");
    assert_eq!(told(&answers[2]), (json!("a/missing"), json!(404)));
    assert_eq!(told(&answers[3]), (Value::Null, json!(400)));
    assert_eq!(answers[3]["error"], "bad_line");

    let changed = [
        json!({ "op": "put", "key": "a/text", "value": "x", "if_version": version }),
        json!({ "op": "put", "key": "a/bytes", "value": "x", "if_absent": true }),
    ];
    let lines = changed.map(|put| format!("{put}\n")).concat();
    let (_, answers) = batch(&client, &lines).await;
    assert_eq!(answers[0]["status"], 204);
    assert_eq!(
        (&answers[1]["status"], &answers[1]["error"]),
        (&json!(412), &json!("condition_failed"))
    );
    let (_, answers) = batch(&client, "{\"op\":\"delete\",\"key\":\"a/text\"}").await;
    assert_eq!(answers[0]["status"], 204);
}

#[tokio::test]
async fn more_lines_than_are_worked_on_at_once_keep_their_order() {
    let client = Node::start(Options::default()).await;
    let put = |number: usize| json!({ "op": "put", "key": format!("n/{number}"), "value": "x" });
    let lines: String = (0..2000)
        .map(|number| format!("{}\n", put(number)))
        .collect();
    let (status, answers) = batch(&client, &lines).await;
    assert_eq!((status, answers.len()), (200, 2000));
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer["key"], format!("n/{number}"));
        assert_eq!(answer["status"], 204);
    }
    let (status, answers) = batch(&client, "\n \r\n").await;
    assert_eq!((status, answers.len()), (200, 0));
}

#[tokio::test]
async fn what_is_no_batch_is_refused_whole() {
    let client = Node::start(Options::default()).await;
    let line = "{\"op\":\"put\",\"key\":\"a\",\"value\":\"x\"}\n";
    for body in [
        line.repeat(BATCH_LINES_MAX + 1),
        format!("{line}{}", " ".repeat(BATCH_BYTES_MAX)),
    ] {
        let (status, told) = batch(&client, &body).await;
        assert_eq!((status, &told[0]["error"]), (413, &json!("too_large")));
        let (_, answers) = batch(&client, "{\"op\":\"get\",\"key\":\"a\"}").await;
        assert_eq!(answers[0]["status"], 404, "nothing was carried out");
    }
    let answer = client
        .request("POST /v1/batch?mode=one HTTP/1.1", b"")
        .await;
    assert_eq!(
        (answer.status, answer.code()),
        (400, "bad_query".to_owned())
    );
}
