//! A relay and two nodes, as somebody would run them.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use common::{DEADLINE, Member, Ring, alone, binary, http, keys, wait_until};

#[test]
fn members_share_keys_and_meet_directly() {
    let _alone = alone();
    let ring = Ring::start(2);
    let [relay, first, second] = &ring.members[..] else {
        panic!("three members");
    };
    let put = first.put("demo/greeting", b"hello");
    assert_eq!(put.status, 204, "{}", put.text());
    let copies = put.header("roundelay-copies");
    assert!(["2/3", "3/3"].contains(&copies), "{copies}");
    for member in [relay, first, second] {
        let get = member.get("demo/greeting");
        assert_eq!((get.status, &get.body[..]), (200, &b"hello"[..]));
        assert_eq!(get.header("etag"), put.header("etag"));
    }

    let long: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    let put = second.put("demo/long", &long);
    assert_eq!(put.status, 204, "{}", put.text());
    assert!(first.get("demo/long").body == long);

    let delete = http("DELETE", second.http, "/v1/kv/demo/greeting", b"");
    assert_eq!(delete.status, 204);
    assert_eq!(first.get("demo/greeting").status, 404);

    records_expire(first, second);
    for member in [first, second] {
        wait_until("direct links", Duration::from_secs(5), || {
            member.has_direct_links(2)
        });
    }
    for member in &ring.members {
        wait_until("all copies", DEADLINE, || member.is_whole());
    }
    let status = first.status().unwrap();
    assert_eq!(status["class"], "durable");
    assert_eq!(status["network"], "default");
    assert_eq!(status["successors"].as_array().unwrap().len(), 2);
    assert_eq!(status["relays"][0]["state"], "attached");
    assert_eq!(status["ring_id"], relay.status().unwrap()["ring_id"]);
    assert!(status["epoch"].as_u64().unwrap() > 0);
    let ring = http("GET", second.http, "/v1/ring", b"").json();
    assert_eq!(ring["members"].as_array().unwrap().len(), 3);
}

/// By HTTP and by the command line, and with a condition.
fn records_expire(first: &Member, second: &Member) {
    let path = "/v1/kv/demo/brief?ttl=1";
    let put = http("PUT", first.http, path, b"brief");
    assert_eq!(put.status, 204, "{}", put.text());
    let url = format!("http://127.0.0.1:{}", second.http);
    let put = Command::new(binary())
        .args(["put", "demo/lease", "mine", "--ttl", "1", "--node", &url])
        .status();
    assert!(put.unwrap().success());
    for (key, member) in [("demo/brief", second), ("demo/lease", first)] {
        wait_until("a record to expire", DEADLINE, || {
            let get = member.get(key);
            assert!([200, 404].contains(&get.status), "{}", get.text());
            get.status == 404
        });
    }
    // Whoever waits for a lease gets it.
    let cas = Command::new(binary())
        .args(["cas", "demo/lease", "ours", "--if-absent", "--ttl", "600"])
        .args(["--node", &url])
        .status();
    assert!(cas.unwrap().success());
    assert_eq!(&first.get("demo/lease").body[..], b"ours");
}

#[test]
fn a_bucket_is_listed_by_every_member() {
    let _alone = alone();
    let ring = Ring::start(2);
    let [relay, first, second] = &ring.members[..] else {
        panic!("three members");
    };
    let key = |number: usize| format!("pages/{number:03}");
    let put = |number: usize| first.put(&key(number), b"x").header("etag").to_owned();
    let versions: Vec<String> = (0..45).map(put).collect();
    assert_eq!(first.put("page", b"x").status, 204);
    for number in 10..20 {
        let path = format!("/v1/kv/{}", key(number));
        assert_eq!(http("DELETE", second.http, &path, b"").status, 204);
    }
    let left = || (0..45).filter(|number| !(10..20).contains(number));
    let expected: Vec<String> = left()
        .map(|number| format!("{}  {}\n", versions[number].trim_matches('"'), key(number)))
        .collect();
    let list = |member: &Member, args: &[&str]| {
        let output = Command::new(binary())
            .args(["list", "pages", "--node"])
            .arg(format!("http://127.0.0.1:{}", member.http))
            .args(args)
            .output()
            .unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(String::from_utf8);
        assert_eq!(output.status.code(), Some(0), "{stderr:?}");
        (stdout.unwrap(), stderr.unwrap())
    };
    for member in [relay, first, second] {
        let (all, hint) = list(member, &["--all"]);
        assert_eq!((all, hint.as_str()), (expected.concat(), ""));
    }
    let (page, hint) = list(second, &["--limit", "7"]);
    assert_eq!(page, expected[..7].concat());
    assert!(hint.contains("--after \"pages/006\""), "{hint}");
    let (page, _) = list(second, &["--after", "pages/006", "--limit", "4"]);
    assert_eq!(page, expected[7..11].concat(), "past what was deleted");
    let (page, _) = list(second, &["--after", "pages/044", "--json"]);
    assert_eq!(page, "{\"bucket\":\"pages\",\"keys\":[],\"next\":null}\n");
}

#[test]
fn what_is_watched_is_told_whoever_dies() {
    let _alone = alone();
    let mut ring = Ring::start(2);
    assert_eq!(ring.members[0].put("chat/a", b"x").status, 204);
    let mut watch = Command::new(binary())
        .args(["watch", "chat/", "--json", "--node"])
        .arg(format!("http://127.0.0.1:{}", ring.members[1].http))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (tell, told) = mpsc::channel();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .all(|line| tell.send(line).is_ok())
    });
    // Skips what is told twice, or is of another time.
    let wait = |key: &str, deleted: bool| loop {
        let line = told.recv_timeout(DEADLINE).expect("an event in time");
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["key"] == key && event["deleted"] == deleted {
            return event["version"].as_str().unwrap().to_owned();
        }
    };
    wait("chat/a", false);
    let put = |member: &Member, key: &str| {
        let put = member.put(key, b"y");
        assert_eq!(put.status, 204, "{}", put.text());
        put.header("etag").trim_matches('"').to_owned()
    };
    assert_eq!(put(&ring.members[2], "chat/b"), wait("chat/b", false));
    let gone = http("DELETE", ring.members[0].http, "/v1/kv/chat/b", b"");
    assert_eq!(gone.status, 204);
    wait("chat/b", true);
    for victim in [2, 0, 1] {
        ring.wait_whole();
        ring.members[victim].kill_9();
        let other = &ring.members[(victim + 1) % 3];
        let key = format!("chat/without-{victim}");
        wait_until("a put", DEADLINE, || other.put(&key, b"z").status == 204);
        if victim == 1 {
            // It is the node that is asked.
            ring.members[victim].start();
        }
        wait(&key, false);
        if victim != 1 {
            ring.members[victim].start();
        }
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    reader.join().unwrap();
}

#[test]
fn the_relay_tells_of_itself() {
    let _alone = alone();
    let ring = Ring::start(0);
    let info = http("GET", ring.listen, "/info", b"");
    assert_eq!(info.header("access-control-allow-origin"), "*");
    let info = info.json();
    assert_eq!(info["network"], "default");
    assert_eq!(info["id"], ring.members[0].status().unwrap()["id"]);
    assert_eq!(info["secret_required"], false);
    assert_eq!(info["stun"], format!("127.0.0.1:{}", ring.listen));
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(http("GET", ring.listen, path, b"").status, 200, "{path}");
    }
    assert_eq!(http("GET", ring.listen, "/no/such", b"").status, 404);
    assert_eq!(http("GET", ring.listen, "/ws", b"").status, 400);
    let metrics = http("GET", ring.listen, "/metrics", b"").text();
    assert!(
        metrics.contains("roundelay_hub_connections 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("roundelay_ready 1\n"), "{metrics}");
}

#[test]
fn keys_are_read_and_written_while_the_relay_is_away() {
    let _alone = alone();
    let mut ring = Ring::start(2);
    for node in &ring.members[1..] {
        wait_until("direct links", DEADLINE, || node.has_direct_links(2));
    }
    ring.members[0].kill_9();
    let [_, first, second] = &ring.members[..] else {
        panic!("three members");
    };
    for number in 0..20 {
        let key = format!("away/{number}");
        let put = first.put(&key, key.as_bytes());
        assert_eq!(put.status, 204, "{}", put.text());
        let get = second.get(&key);
        assert_eq!((get.status, get.text()), (200, key));
    }
    wait_until("the loss to be seen", DEADLINE, || {
        let status = second.status().unwrap();
        status["successors"].as_array().unwrap().len() == 1
            && status["relays"][0]["state"] != "attached"
    });
    ring.members[0].start();
    ring.wait_whole();
    for number in 0..20 {
        let get = ring.members[0].get(&format!("away/{number}"));
        assert_eq!(get.text(), format!("away/{number}"));
    }
}

#[test]
fn no_acknowledged_key_is_lost_by_kill_9() {
    const KEYS: usize = 1_000;
    let _alone = alone();
    let mut ring = Ring::start(2);
    keys::put_all(&ring, KEYS);
    for victims in [&[1][..], &[0], &[0, 1, 2]] {
        for member in &ring.members {
            wait_until("all copies", DEADLINE, || member.is_whole());
        }
        for victim in victims {
            ring.members[*victim].kill_9();
        }
        for victim in victims {
            ring.members[*victim].start();
        }
        ring.wait_whole();
        for member in &ring.members {
            let lost = keys::lost(member, KEYS);
            assert!(lost.is_empty(), "after kill -9 of {victims:?}: {lost:?}");
        }
    }
}

#[test]
fn a_ring_of_two_goes_on_with_one_and_takes_another_in() {
    let _alone = alone();
    let mut ring = Ring::start(1);
    let lost = ring.members[1].status().unwrap()["id"].clone();
    let lost = lost.as_str().unwrap();
    let evict = |node: u16, exit: i32| {
        let node = format!("http://127.0.0.1:{node}");
        let mut command = Command::new(binary());
        let output = command.args(["evict", lost, "--node", &node]).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{said}");
        said
    };
    assert!(evict(ring.members[0].http, 1).contains("still answers"));
    let copies = |node: &Member, value: &[u8]| {
        let put = node.put("two/key", value);
        (put.status == 204).then(|| put.header("roundelay-copies").to_owned())
    };
    assert_eq!(copies(&ring.members[0], b"both").as_deref(), Some("2/2"));
    ring.members[1].kill_9();
    wait_until("one to go on alone", DEADLINE, || {
        copies(&ring.members[0], b"alone").as_deref() == Some("1/2")
    });
    let status = ring.members[0].status().unwrap();
    assert_eq!(status["store"]["degraded"], 4096);
    let relay = format!("http://127.0.0.1:{}", ring.listen);
    ring.add("third", &["node", "--relay", &relay]);
    let third = &ring.members[2];
    wait_until("it to join", DEADLINE, || {
        third.get("two/key").body == b"alone"
    });
    evict(third.http, 0);
    wait_until("two copies", DEADLINE, || {
        copies(third, b"new").as_deref() == Some("2/2")
    });
    ring.members[1].start();
    ring.wait_whole();
    assert_eq!(ring.members[1].get("two/key").body, b"new");
    assert_eq!(
        copies(&ring.members[1], b"whole").unwrap().split_once('/'),
        Some(("2", "3"))
    );
}

#[test]
fn a_voter_that_is_killed_for_good_is_replaced() {
    const KEYS: usize = 200;
    let _alone = alone();
    let mut ring = Ring::start(4);
    keys::put_all(&ring, KEYS);
    for victim in [1, 2] {
        for member in ring.members.iter().filter(|one| one.process.is_some()) {
            wait_until("all copies", DEADLINE, || member.is_whole());
        }
        let id = ring.members[victim].status().unwrap()["id"].clone();
        ring.members[victim].kill_9();
        for member in ring.members.iter().filter(|one| one.process.is_some()) {
            wait_until("others to vote", DEADLINE, || {
                let votes = |number: usize| {
                    let key = keys::key(number);
                    let answer = http("GET", member.http, &format!("/v1/locate/{key}"), b"");
                    answer.json()["voters"].as_array().unwrap().contains(&id)
                };
                !(0..KEYS).any(votes)
            });
        }
    }
    for member in ring.members.iter().filter(|one| one.process.is_some()) {
        wait_until("all copies", DEADLINE, || member.is_whole());
        let lost = keys::lost(member, KEYS);
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn a_node_that_is_told_to_stop_passes_its_places_on() {
    const KEYS: usize = 200;
    let _alone = alone();
    let mut ring = Ring::start(3);
    keys::put_all(&ring, KEYS);
    for member in &ring.members {
        wait_until("all copies", DEADLINE, || member.is_whole());
    }
    let id = ring.members[1].status().unwrap()["id"].clone();
    let process = ring.members[1].process();
    process.terminate();
    let status = process.ended(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", process.said());
    // Nobody has to wait for anything: three hold everything already.
    for member in [0, 2, 3].map(|index| &ring.members[index]) {
        for number in 0..KEYS {
            let key = keys::key(number);
            let located = http("GET", member.http, &format!("/v1/locate/{key}"), b"").json();
            let voters = located["voters"].as_array().unwrap();
            assert!(voters.len() == 3 && !voters.contains(&id), "{located}");
        }
        let lost = keys::lost(member, KEYS);
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn sigterm_ends_every_member_with_0() {
    let _alone = alone();
    let mut ring = Ring::start(2);
    ring.members[0].put("a", b"b");
    // A node, the relay, and then a node that is left alone.
    for index in [1, 0, 2] {
        let process = ring.members[index].process();
        process.terminate();
        let status = process.ended(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "{}", process.said());
    }
}
