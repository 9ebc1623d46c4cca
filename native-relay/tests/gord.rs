//! What gord-overlay's README does with curl, on three nodes.

mod common;

use common::{Answer, DEADLINE, Ring, alone, free_port, http_with, wait_until};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");

fn call(port: u16, method: &str, body: &str) -> Answer {
    let path = format!("/server.ExternalService/{method}");
    post(port, &path, &[JSON], body)
}

/// With a body, as only PUT has one elsewhere.
fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    http_with("POST", port, path, headers, body.as_bytes())
}

fn said(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.json())
}

/// Three nodes by the names of gord's, and their ports; the third makes gord's errors.
fn three() -> (Ring, Vec<u16>) {
    let mut ring = Ring::start(0);
    let relay = format!("http://127.0.0.1:{}", ring.listen);
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    for (number, port) in ports.iter().enumerate() {
        let name = format!("127.0.0.1:{}", 20_000 + 4 * number);
        let listen = format!("127.0.0.1:{port}");
        let args = [
            "node",
            "--relay",
            &relay,
            "--name",
            &name,
            "--gord-compat",
            &listen,
        ];
        let errors = ["--gord-errors"];
        let args = [&args[..], if number == 2 { &errors } else { &[] }].concat();
        ring.add(&format!("gord-{number}"), &args);
    }
    ring.wait_whole();
    (ring, ports)
}

#[test]
fn the_readme_of_gord_overlay_runs_unchanged() {
    let _alone = alone();
    let (ring, ports) = three();
    let put = call(ports[0], "PutValue", r#"{"key":"hoge","value":"foobar"}"#);
    assert_eq!(said(&put), (200, json!({ "success": true })));
    for port in &ports {
        let got = call(*port, "GetValue", r#"{"key":"hoge"}"#);
        assert_eq!(
            said(&got),
            (200, json!({ "value": "foobar", "success": true }))
        );
    }
    for key in ["gord1", "gord2", "gord", "hoge"] {
        let body = format!("{{\"key\":\"{key}\"}}");
        wait_until("all to name one host", DEADLINE, || {
            let hosts = ports
                .iter()
                .map(|port| call(*port, "FindHostForKey", &body).json());
            let hosts: Vec<Value> = hosts.collect();
            let host = hosts[0]["host"].as_str().unwrap();
            // The relay has no name here, and is shown by its id.
            let is_known = host.starts_with("127.0.0.1:200") || host.len() == 52;
            is_known && hosts.iter().all(|other| *other == hosts[0])
        });
    }
    let deleted = call(ports[1], "DeleteValue", r#"{"key":"hoge"}"#);
    assert_eq!(said(&deleted), (200, json!({ "success": true })));
    let missing = json!({ "code": "not_found", "message": "NotFound" });
    for method in ["GetValue", "DeleteValue"] {
        let gone = call(ports[0], method, r#"{"key":"hoge"}"#);
        assert_eq!(said(&gone), (404, missing.clone()), "{method}");
        let literal = call(ports[2], method, r#"{"key":"hoge"}"#);
        let unknown = json!({ "code": "unknown", "message": "NotFound" });
        assert_eq!(said(&literal), (500, unknown), "{method}");
    }
    // An empty value is one, and is left out as protojson does.
    let put = call(ports[0], "PutValue", r#"{"key":"empty"}"#);
    assert_eq!(said(&put), (200, json!({ "success": true })));
    let got = call(ports[1], "GetValue", r#"{"key":"empty","more":1}"#);
    assert_eq!(said(&got), (200, json!({ "success": true })));
    drop(ring);
}

#[test]
fn what_gord_would_not_take_is_refused_as_there() {
    let _alone = alone();
    let (_ring, ports) = three();
    let port = ports[0];
    for body in ["", "{", "[]", r#"{"key":7}"#, r#"{"key":""}"#] {
        let refused = call(port, "GetValue", body);
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.json()["code"], "invalid_argument", "{body}");
    }
    let path = "/server.ExternalService/GetValue";
    let get = http_with("GET", port, path, &[], b"");
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
    let text = post(port, path, &[("content-type", "text/plain")], "{}");
    assert_eq!(
        (text.status, text.header("accept-post")),
        (415, "application/json")
    );
    let elsewhere = post(port, path, &[JSON, ("host", "page.example")], "{}");
    assert_eq!(elsewhere.status, 403);
    assert_eq!(call(port, "Nothing", "{}").text(), "404 page not found\n");
    assert_eq!(post(port, "/other", &[JSON], "{}").status, 404);
}
