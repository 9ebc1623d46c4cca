//! The HTTP API over real TCP, before a node that is faked in memory.

mod batch;
mod fake;
mod listing;
mod watching;

use fake::{Client, DEADLINE, Node};
use roundelay::api::{Options, Token};
use roundelay_core::NodeId;
use serde_json::Value;
use tokio::net::TcpStream;

/// A request for a key, answered; the status is what most tests ask for.
async fn status(client: &Client, head: &str, body: &[u8]) -> u16 {
    client.request(head, body).await.status
}

#[tokio::test]
async fn keys_are_written_read_and_deleted() {
    let client = Node::start(Options::default()).await;
    let put = client
        .request("PUT /v1/kv/bucket/name HTTP/1.1", b"\0value\xff")
        .await;
    assert_eq!(put.status, 204);
    assert_eq!(put.header("roundelay-copies"), Some("2/3"));
    let etag = put.header("etag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");

    let get = client
        .request("GET /v1/kv/bucket/name?mode=one HTTP/1.1", b"")
        .await;
    assert_eq!((get.status, &get.body[..]), (200, &b"\0value\xff"[..]));
    assert_eq!(get.header("etag"), Some(etag));
    assert_eq!(get.header("content-type"), Some("application/octet-stream"));
    assert_eq!(get.header("access-control-allow-origin"), None);

    let head = client
        .request("HEAD /v1/kv/bucket/name HTTP/1.1", b"")
        .await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("7"));

    let delete = client
        .request("DELETE /v1/kv/bucket/name HTTP/1.1", b"")
        .await;
    assert_eq!(
        (delete.status, delete.header("roundelay-copies")),
        (204, Some("2/3"))
    );
    let get = client.request("GET /v1/kv/bucket/name HTTP/1.1", b"").await;
    assert_eq!((get.status, get.code()), (404, "not_found".into()));
}

#[tokio::test]
async fn a_condition_is_kept_or_refused() {
    let client = Node::start(Options::default()).await;
    let put = |condition: &str| format!("PUT /v1/kv/a HTTP/1.1\r\n{condition}");
    let first = client.request(&put("If-None-Match: *"), b"1").await;
    assert_eq!(first.status, 204);
    let etag = first.header("etag").unwrap();
    let second = client.request(&put("If-None-Match: *"), b"2").await;
    assert_eq!(
        (second.status, second.code()),
        (412, "condition_failed".into())
    );
    assert_eq!(second.header("etag"), Some(etag), "what is there");

    let matches = format!("If-Match: {etag}");
    assert_eq!(status(&client, &put(&matches), b"3").await, 204);
    let stale = client.request(&put(&matches), b"4").await;
    assert_eq!(
        (stale.status, stale.code()),
        (412, "condition_failed".into())
    );
    let etag = stale.header("etag").unwrap();
    let delete = format!("DELETE /v1/kv/a?mode=linearizable HTTP/1.1\r\nIf-Match: {etag}");
    assert_eq!(status(&client, &delete, b"").await, 204);
    let gone = client.request(&delete, b"").await;
    assert_eq!((gone.status, gone.header("etag")), (412, None));
}

#[tokio::test]
async fn the_path_is_the_key_and_nothing_is_done_to_it() {
    let client = Node::start(Options::default()).await;
    let keys = [
        "a//b/",
        "/a",
        "%2e%2e/..",
        "a%2Fb",
        "%25",
        "a%20b+c",
        "%E2%99%AB",
        "kv/",
        "%00",
    ];
    for key in keys {
        let put = format!("PUT /v1/kv/{key} HTTP/1.1");
        assert_eq!(status(&client, &put, key.as_bytes()).await, 204, "{key}");
    }
    for key in keys {
        let get = client
            .request(&format!("GET /v1/kv/{key} HTTP/1.1"), b"")
            .await;
        assert_eq!(get.body, key.as_bytes(), "{key}");
    }
    // One key, two ways to write it; and nearly the same key is another.
    assert_eq!(status(&client, "GET /v1/kv/a/b HTTP/1.1", b"").await, 200);
    assert_eq!(status(&client, "GET /v1/kv/a//b HTTP/1.1", b"").await, 404);
    assert_eq!(status(&client, "GET /v1/kv/a HTTP/1.1", b"").await, 404);
}

#[tokio::test]
async fn bad_requests_are_told_what_is_bad() {
    let client = Node::start(Options::default()).await;
    let long = "k".repeat(1024);
    assert_eq!(
        status(&client, &format!("PUT /v1/kv/{long} HTTP/1.1"), b"x").await,
        204
    );
    for (head, status, code) in [
        ("GET /v1/kv/ HTTP/1.1".into(), 400, "bad_key"),
        (format!("GET /v1/kv/{long}k HTTP/1.1"), 400, "bad_key"),
        ("GET /v1/kv/%ff HTTP/1.1".into(), 400, "bad_key"),
        ("PUT /v1/kv/%zz HTTP/1.1".into(), 400, "bad_key"),
        ("DELETE /v1/kv/a% HTTP/1.1".into(), 400, "bad_key"),
        ("GET /v1/locate/%e2%99 HTTP/1.1".into(), 400, "bad_key"),
        ("GET /v1/kv/a?mode=all HTTP/1.1".into(), 400, "bad_mode"),
        (
            "GET /v1/kv/a?mode=one&mode=quorum HTTP/1.1".into(),
            400,
            "bad_mode",
        ),
        ("GET /v1/kv/a?limit=1 HTTP/1.1".into(), 400, "bad_query"),
        ("GET /v1/status?x HTTP/1.1".into(), 400, "bad_query"),
        ("PUT /v1/kv/a?ttl=0 HTTP/1.1".into(), 400, "bad_ttl"),
        ("PUT /v1/kv/a?ttl=315360001 HTTP/1.1".into(), 400, "bad_ttl"),
        ("DELETE /v1/kv/a?ttl=5 HTTP/1.1".into(), 400, "bad_ttl"),
        (
            "PUT /v1/kv/a HTTP/1.1\r\nIf-Match: 1-1".into(),
            400,
            "bad_condition",
        ),
        (
            "PUT /v1/kv/a HTTP/1.1\r\nIf-None-Match: \"1-1\"".into(),
            400,
            "bad_condition",
        ),
        (
            "GET /v1/kv/a HTTP/1.1\r\nIf-None-Match: *".into(),
            400,
            "bad_condition",
        ),
        (
            "DELETE /v1/kv/a?mode=one HTTP/1.1\r\nIf-Match: \"1-1\"".into(),
            400,
            "bad_mode",
        ),
        ("GET /v1/nothing HTTP/1.1".into(), 404, "no_such_path"),
        ("GET /v1/kv HTTP/1.1".into(), 404, "no_such_path"),
        ("POST /v1/kv/a HTTP/1.1".into(), 405, "method_not_allowed"),
        (
            "OPTIONS /v1/kv/a HTTP/1.1\r\nOrigin: http://evil.example".into(),
            405,
            "method_not_allowed",
        ),
    ] {
        let answer = client.request(&head, b"").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{head}"
        );
    }
    let answer = client.request("POST /v1/kv/a HTTP/1.1", b"").await;
    let allow = answer.header("allow").unwrap();
    assert!(
        ["GET", "PUT", "DELETE"]
            .iter()
            .all(|method| allow.contains(method)),
        "{allow}"
    );
}

#[tokio::test]
async fn only_a_member_that_is_gone_is_evicted() {
    let client = Node::start(Options::default()).await;
    let evict = |id: NodeId| format!("POST /v1/evict/{id} HTTP/1.1");
    for (head, status, code) in [
        ("POST /v1/evict/abc HTTP/1.1".into(), 400, "bad_id"),
        (
            evict(fake::id(7)).replace(" HTTP", "?now HTTP"),
            400,
            "bad_query",
        ),
        (evict(fake::id(7)), 404, "not_found"),
        (evict(fake::id(8)), 409, "still_answers"),
    ] {
        let answer = client.request(&head, b"").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{head}"
        );
    }
    assert_eq!(status(&client, &evict(fake::id(9)), b"").await, 204);
}

#[tokio::test]
async fn what_a_node_answers_has_its_status() {
    let client = Node::start(Options::default()).await;
    for (key, status, code) in [
        ("unavailable", 503, "unavailable"),
        ("unknown", 504, "outcome_unknown"),
        ("too-large", 413, "too_large"),
        ("full", 507, "full"),
        ("busy", 503, "busy"),
        ("not-joined", 503, "not_joined"),
        ("conflict", 409, "conflict"),
        ("stopped", 504, "outcome_unknown"),
    ] {
        let answer = client
            .request(&format!("PUT /v1/kv/fail/{key} HTTP/1.1"), b"x")
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{key}"
        );
        match key {
            "busy" => assert_eq!(answer.header("retry-after"), Some("1")),
            "unavailable" => {
                let body = answer.json();
                let missing = body["missing"][0].as_str().unwrap();
                assert_eq!(missing, fake::id(9).to_string());
                assert!(body["message"].as_str().unwrap().contains(missing));
            }
            _ => {}
        }
    }
    // A read that was lost did no harm.
    let answer = client
        .request("GET /v1/kv/fail/stopped HTTP/1.1", b"")
        .await;
    assert_eq!((answer.status, answer.code()), (503, "stopped".into()));
}

#[tokio::test]
async fn a_value_has_at_most_a_mebibyte() {
    let client = Node::start(Options::default()).await;
    let most = vec![b'v'; 1 << 20];
    assert_eq!(status(&client, "PUT /v1/kv/big HTTP/1.1", &most).await, 204);
    assert_eq!(
        client.request("GET /v1/kv/big HTTP/1.1", b"").await.body,
        most
    );
    assert_eq!(status(&client, "PUT /v1/kv/empty HTTP/1.1", b"").await, 204);

    // Refused by what the head says, without a byte of the body.
    let head = "PUT /v1/kv/a HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1048577\r\n\r\n";
    let answer = client.raw(head.as_bytes()).await;
    assert_eq!((answer.status, answer.code()), (413, "too_large".into()));
    // A body that says nothing of its length, and never ends.
    let head = "PUT /v1/kv/a HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut endless = head.as_bytes().to_vec();
    for _ in 0..17 {
        endless.extend(b"10000\r\n");
        endless.extend(vec![b'v'; 1 << 16]);
        endless.extend(b"\r\n");
    }
    let answer = client.raw(&endless).await;
    assert_eq!((answer.status, answer.code()), (413, "too_large".into()));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(status(&client, "GET /v1/kv/a HTTP/1.1", b"").await, 404);
}

#[tokio::test]
async fn foreign_names_are_refused() {
    let options = Options {
        allow_hosts: vec!["node.example".into()],
        token: None,
    };
    let client = Node::start(options).await;
    let port = client.address.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("node.example".into(), 200),
        (format!("evil.example:{port}"), 421),
        ("127.0.0.1:1".into(), 421),
        (String::new(), 421),
    ] {
        for path in ["/healthz", "/metrics", "/v1/status"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = client.raw(head.as_bytes()).await;
            assert_eq!(answer.status, status, "{host} {path}");
            if status == 421 {
                assert_eq!(answer.code(), "foreign_host");
            }
        }
    }
    let answer = client.raw(b"GET /healthz HTTP/1.1\r\n\r\n").await;
    assert_eq!(answer.status, 421, "no Host at all");
    let metrics = client.request("GET /metrics HTTP/1.1", b"").await;
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(
        text.contains("roundelay_http_refused_total{code=\"foreign_host\"} 10\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_token_is_asked_for() {
    let options = Options {
        allow_hosts: Vec::new(),
        token: Some(Token::new("0123456789abcdef").unwrap()),
    };
    let client = Node::start(options).await;
    for (authorization, status) in [
        ("", 401),
        ("Authorization: Bearer 0123456789abcdee\r\n", 401),
        ("Authorization: Basic 0123456789abcdef\r\n", 401),
        ("Authorization: Bearer\r\n", 401),
        ("Authorization: Bearer 0123456789abcdef\r\n", 200),
        ("authorization: bearer 0123456789abcdef\r\n", 200),
    ] {
        for path in ["/v1/status", "/metrics", "/openapi.json"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: HOST\r\n{authorization}\r\n");
            let answer = client.raw(head.as_bytes()).await;
            assert_eq!(answer.status, status, "{authorization} {path}");
            let asked = answer.header("www-authenticate");
            assert_eq!(asked, (status == 401).then_some("Bearer"));
        }
    }
    assert_eq!(status(&client, "GET /healthz HTTP/1.1", b"").await, 200);
    assert_eq!(status(&client, "GET /readyz HTTP/1.1", b"").await, 200);
}

#[tokio::test]
async fn a_node_tells_how_it_is() {
    let client = Node::start(Options::default()).await;
    let status = client.request("GET /v1/status HTTP/1.1", b"").await.json();
    assert_eq!(status["id"], fake::id(1).to_string());
    assert_eq!(status["links"][0]["kind"], "direct");
    let peers = client.request("GET /v1/peers HTTP/1.1", b"").await.json();
    assert_eq!(peers["peers"], status["links"]);
    let ring = client.request("GET /v1/ring HTTP/1.1", b"").await.json();
    assert_eq!(ring["members"][0]["state"], "alive");
    let place = client
        .request("GET /v1/locate/a%2Fb HTTP/1.1", b"")
        .await
        .json();
    assert_eq!(
        place["slot"],
        roundelay_core::kvs::Key::new("a/b")
            .unwrap()
            .slot()
            .number()
    );
    let metrics = client.request("GET /metrics HTTP/1.1", b"").await;
    let text = String::from_utf8(metrics.body).unwrap();
    for line in [
        "roundelay_ready 1",
        "roundelay_store_records 12",
        "roundelay_links{kind=\"direct\"} 1",
        "roundelay_links{kind=\"relay\"} 0",
        "roundelay_frames_bad_total 3",
        "# TYPE roundelay_frames_bad_total counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    client.set_ready(false).await;
    let ready = client.request("GET /readyz HTTP/1.1", b"").await;
    assert_eq!((ready.status, ready.code()), (503, "not_ready".into()));
    assert_eq!(
        client.request("GET /healthz HTTP/1.1", b"").await.body,
        b"ok\n"
    );
}

#[tokio::test]
async fn every_described_call_is_served() {
    let client = Node::start(Options::default()).await;
    let api = client
        .request("GET /openapi.json HTTP/1.1", b"")
        .await
        .json();
    let Value::Object(paths) = &api["paths"] else {
        panic!("no paths in {api}");
    };
    for (path, methods) in paths {
        let target = path.replace(['{', '}'], "");
        let methods = methods.as_object().unwrap().iter();
        for (method, call) in methods.filter(|(name, _)| *name != "parameters") {
            let head = format!("{} {target} HTTP/1.1", method.to_uppercase());
            if path == "/v1/watch/{key}" {
                // It never ends.
                client.stream(&head, &["HTTP/1.1 200 "]).await;
                continue;
            }
            let answer = client.request(&head, b"").await;
            let described = call["responses"].as_object().unwrap();
            assert!(described.contains_key(&answer.status.to_string()), "{head}");
            assert_ne!(answer.status, 405, "{head}");
            if answer.status >= 400 {
                assert_ne!(answer.code(), "no_such_path", "{head}");
            }
        }
    }
}

#[tokio::test]
async fn broken_http_harms_nobody() {
    let client = Node::start(Options::default()).await;
    let huge = format!(
        "GET /healthz HTTP/1.1\r\nHost: HOST\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    assert_eq!(client.raw(huge.as_bytes()).await.status, 431);
    let many = format!(
        "GET /healthz HTTP/1.1\r\nHost: HOST\r\n{}\r\n",
        "a: b\r\n".repeat(500)
    );
    assert_eq!(client.raw(many.as_bytes()).await.status, 431);
    assert_eq!(
        client.raw(b"\x16\x03\x01 not http\r\n\r\n").await.status,
        400
    );
    let broken = "PUT /v1/kv/a HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert_eq!(client.raw(broken.as_bytes()).await.status, 400);
    let both = "PUT /v1/kv/a HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(client.raw(both.as_bytes()).await.status, 421);
    assert_eq!(status(&client, "GET /healthz HTTP/1.1", b"").await, 200);
}

#[tokio::test]
async fn http_2_is_spoken_without_tls() {
    let client = Node::start(Options::default()).await;
    let authority = client.address.to_string();
    let put = client.http2("PUT", &authority, "/v1/kv/a/b", "two").await;
    assert_eq!((put.0, put.1), (204, String::new()));
    let get = client.http2("GET", &authority, "/v1/kv/a/b", "").await;
    assert_eq!((get.0, get.1), (200, "two".into()));
    let get = client.http2("GET", "evil.example", "/v1/kv/a/b", "").await;
    assert_eq!(get.0, 421);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_so_at_once() {
    let client = Node::start(Options::default()).await;
    let held: Vec<_> = (0..roundelay::api::REQUESTS_MAX / 128)
        .map(|_| client.http2_held("/v1/kv/held", 128))
        .collect();
    let held = futures_of(held).await;
    client.wait_held(roundelay::api::REQUESTS_MAX).await;
    let answer = client.request("GET /v1/kv/a HTTP/1.1", b"").await;
    assert_eq!((answer.status, answer.code()), (503, "busy".into()));
    drop(held);
    let served = async { while status(&client, "GET /v1/kv/a HTTP/1.1", b"").await != 404 {} };
    let served = tokio::time::timeout(DEADLINE, served).await;
    served.expect("callers that went away to leave their room to others");
}

async fn futures_of<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    for future in futures {
        outputs.push(future.await);
    }
    outputs
}

#[tokio::test]
async fn a_shutdown_lets_requests_end() {
    let (client, shutdown, served) = Node::start_with_shutdown(Options::default()).await;
    let held = tokio::spawn({
        let client = client.clone();
        async move { status(&client, "GET /v1/kv/held HTTP/1.1", b"").await }
    });
    client.wait_held(1).await;
    shutdown.send(()).unwrap();
    let closed = async { while TcpStream::connect(client.address).await.is_ok() {} };
    let closed = tokio::time::timeout(DEADLINE, closed).await;
    closed.expect("the port to be closed");
    client.release();
    assert_eq!(held.await.unwrap(), 404);
    served.await.unwrap().unwrap();
}
