//! Lists of buckets.

use roundelay::api::Options;
use serde_json::{Value, json};

use crate::fake::Node;

#[tokio::test]
async fn a_bucket_is_listed_page_by_page() {
    let client = Node::start(Options::default()).await;
    let keys = ["a b", "a b/1", "a b/\u{266b}", "a b/\u{266b}/x", "a/1"];
    let mut versions = Vec::new();
    for key in keys {
        let encoded = key.replace(' ', "%20").replace('\u{266b}', "%E2%99%AB");
        let put = format!("PUT /v1/kv/{encoded} HTTP/1.1");
        let put = client.request(&put, b"x").await;
        versions.push(put.header("etag").unwrap().trim_matches('"').to_owned());
    }
    let list = async |query: &str| {
        let head = format!("GET /v1/list/a%20b{query} HTTP/1.1");
        let answer = client.request(&head, b"").await;
        assert_eq!(answer.status, 200, "{query}");
        answer.json()
    };
    let entry = |at: usize| json!({ "key": keys[at], "version": versions[at] });
    let all: Vec<Value> = (0..4).map(entry).collect();
    let whole = json!({ "bucket": "a b", "keys": all, "next": null });
    assert_eq!(list("").await, whole);
    assert_eq!(list("?mode=one&limit=1000").await, whole);
    let page = list("?limit=3").await;
    assert_eq!(page["keys"].as_array().unwrap()[..], all[..3]);
    assert_eq!(page["next"], keys[2]);
    let page = list("?limit=3&after=a%20b/%E2%99%AB").await;
    assert_eq!(page["keys"].as_array().unwrap()[..], all[3..]);
    assert_eq!(page["next"], Value::Null);
}

#[tokio::test]
async fn bad_lists_are_told_what_is_bad() {
    let client = Node::start(Options::default()).await;
    for (target, status, code) in [
        ("", 400, "bad_bucket"),
        ("a/b", 400, "bad_bucket"),
        ("a?after=b", 400, "bad_cursor"),
        ("a?limit=1001", 400, "bad_limit"),
        ("a?mode=linearizable", 400, "bad_mode"),
        ("a?from=a", 400, "bad_query"),
        ("fail", 503, "unavailable"),
    ] {
        let head = format!("GET /v1/list/{target} HTTP/1.1");
        let answer = client.request(&head, b"").await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (status, code.to_owned()), "{head}");
    }
}
