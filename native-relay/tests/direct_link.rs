//! Direct links over real sockets on loopback.

#[path = "direct_link/bench.rs"]
mod bench;

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bench::{Bench, LOCALHOST, bind};
use roundelay::link::direct::DirectEvent;
use roundelay_core::event::{Description, DescriptionKind, Lane, LinkId, Role};
use tokio::sync::Notify;

fn numbered(lane: usize, number: usize) -> Vec<u8> {
    let length = [8, 100, 3000, 65_535][number % 4];
    let mut bytes = vec![lane as u8; length];
    bytes[1] = number as u8;
    bytes
}

async fn exchange(addresses: [&str; 2]) {
    const EACH: usize = 12;
    let link = LinkId(7);
    let mut bench = Bench::connected(addresses, link).await;
    for end in [0, 1] {
        for number in 0..EACH {
            for (index, lane) in Lane::ALL.into_iter().enumerate() {
                bench.send(end, link, lane, &numbered(index, number));
            }
        }
        bench.ends[end].flush();
    }
    let total: usize = (0..EACH).map(|number| numbered(0, number).len()).sum();
    bench
        .until("all frames and acknowledgements", |bench| {
            let acknowledged = |end| {
                let mut lanes = Lane::ALL.iter();
                lanes.all(|lane| bench.drained(end, *lane) == total)
            };
            [0, 1]
                .iter()
                .all(|end| bench.frames(*end, link).len() == 4 * EACH && acknowledged(*end))
        })
        .await;
    for end in [0, 1] {
        for lane in 0..Lane::ALL.len() {
            let frames = bench.frames(end, link);
            let of_lane = frames.iter().filter(|bytes| bytes[0] == lane as u8);
            let numbers: Vec<_> = of_lane.map(|bytes| usize::from(bytes[1])).collect();
            assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "lane {lane}");
        }
        assert_eq!(bench.down(end, link), None);
    }
}

#[tokio::test]
async fn frames_go_both_ways_in_the_order_of_their_lane() {
    exchange([LOCALHOST, LOCALHOST]).await;
}

#[tokio::test]
async fn wildcard_addresses_are_made_known_by_interface() {
    exchange(["0.0.0.0:0", LOCALHOST]).await;
    exchange(["0.0.0.0:0", "0.0.0.0:0"]).await;
}

#[tokio::test]
async fn ipv6_works_and_takes_ipv4_along() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    exchange(["[::1]:0", "[::1]:0"]).await;
    exchange(["[::]:0", LOCALHOST]).await;
    exchange(["[::]:0", "[::1]:0"]).await;
}

#[tokio::test]
async fn twenty_peers_share_the_port_of_one() {
    const PEERS: usize = 20;
    let mut bench = Bench::new(&[LOCALHOST; PEERS + 1]);
    let links: Vec<_> = (1..=PEERS)
        .map(|peer| (peer, LinkId(peer as u64)))
        .collect();
    for (peer, link) in &links {
        bench.introduce(*peer, 0, *link);
    }
    bench
        .until("all up", |bench| {
            let mut links = links.iter();
            links.all(|(peer, link)| bench.is_up(*peer, *link) && bench.is_up(0, *link))
        })
        .await;
    for (peer, link) in &links {
        bench.send(0, *link, Lane::Kv, &[*peer as u8; 9]);
        bench.send(*peer, *link, Lane::Kv, &[*peer as u8; 5]);
        bench.ends[*peer].flush();
    }
    bench.ends[0].flush();
    bench
        .until("all frames", |bench| {
            links.iter().all(|(peer, link)| {
                bench.frames(*peer, *link) == [[*peer as u8; 9].as_slice()]
                    && bench.frames(0, *link) == [[*peer as u8; 5].as_slice()]
            })
        })
        .await;
    assert_eq!(bench.ends[0].counters().unsent_datagrams, 0);
}

#[tokio::test]
async fn a_close_delivers_what_was_sent_before_it() {
    let link = LinkId(1);
    let mut bench = Bench::connected([LOCALHOST, LOCALHOST], link).await;
    bench.events[0].clear();
    for number in 0..20 {
        bench.send(0, link, Lane::Bulk, &[number; 50_000]);
    }
    bench.send(0, link, Lane::Control, b"last words");
    bench.ends[0].close(link, Instant::now());
    bench.send(0, link, Lane::Control, b"too late");
    bench
        .until("down", |bench| bench.down(1, link).is_some())
        .await;
    assert_eq!(bench.down(1, link), Some("closed by peer"));
    let frames = bench.frames(1, link);
    assert_eq!(frames.len(), 21);
    let received: usize = frames.iter().map(|bytes| bytes.len()).sum();
    assert_eq!(received, 1_000_010);
    let last = bench.events[1].last();
    assert!(matches!(last, Some(DirectEvent::Down { .. })));
    let start = Instant::now();
    bench
        .until("the closer to forget", |bench| {
            bench.ends[0].poll_timeout().is_none()
        })
        .await;
    assert!(start.elapsed() < Duration::from_millis(900));
    assert_eq!(bench.events[0], []);
}

#[tokio::test]
async fn both_ends_may_close_at_once() {
    let link = LinkId(1);
    let mut bench = Bench::connected([LOCALHOST, LOCALHOST], link).await;
    let start = Instant::now();
    for end in [0, 1] {
        bench.events[end].clear();
        bench.ends[end].close(link, start);
    }
    bench
        .until("both to forget", |bench| {
            bench.ends.iter().all(|end| end.poll_timeout().is_none())
        })
        .await;
    assert!(start.elapsed() < Duration::from_millis(900));
    assert_eq!(bench.events, [[], []]);
}

#[tokio::test]
async fn a_close_waits_a_second_at_most() {
    let link = LinkId(1);
    let mut bench = Bench::connected([LOCALHOST, LOCALHOST], link).await;
    bench.ends.truncate(1);
    let start = Instant::now();
    bench.ends[0].close(link, start);
    bench
        .until("the closer to forget", |bench| {
            bench.ends[0].poll_timeout().is_none()
        })
        .await;
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_link_that_is_closed_before_it_is_up_is_forgotten() {
    let link = LinkId(1);
    let mut end = bind(LOCALHOST);
    end.open(link, Role::Offerer, Instant::now());
    end.close(link, Instant::now());
    assert_eq!(end.poll_event(), None);
    assert_eq!(end.poll_timeout(), None);
}

#[tokio::test]
async fn too_much_in_a_lane_ends_the_link() {
    let link = LinkId(1);
    let mut bench = Bench::connected([LOCALHOST, LOCALHOST], link).await;
    for _ in 0..100 {
        bench.send(0, link, Lane::Bulk, &[0; 65_535]);
    }
    bench.ends[0].flush();
    bench.collect(0);
    let reason = bench.down(0, link);
    assert_eq!(reason, Some("too much waits in the lane Bulk"));
    bench
        .until("the other end", |bench| bench.down(1, link).is_some())
        .await;
    assert_eq!(bench.down(1, link), Some("the peer's end broke off"));
}

/// An offer of an end that is thrown away.
fn some_offer() -> String {
    let mut bench = Bench::new(&[LOCALHOST]);
    bench.ends[0].open(LinkId(1), Role::Offerer, Instant::now());
    bench.description(0, LinkId(1)).text
}

#[tokio::test]
async fn bad_descriptions_end_a_link_with_words() {
    let offer = some_offer();
    let without = |prefix: &str| {
        let lines = offer.lines().filter(|line| !line.starts_with(prefix));
        lines.map(|line| format!("{line}\r\n")).collect::<String>()
    };
    let bad = [
        (DescriptionKind::Offer, String::new()),
        (DescriptionKind::Offer, "v=0".into()),
        (DescriptionKind::Offer, "\0\u{fffd}".repeat(100)),
        (DescriptionKind::Offer, offer.repeat(40)),
        (DescriptionKind::Offer, without("a=ice-ufrag")),
        (DescriptionKind::Offer, without("a=fingerprint")),
        (DescriptionKind::Offer, without("m=")),
        (
            DescriptionKind::Offer,
            offer.clone() + "a=candidate:what\r\n",
        ),
        (
            DescriptionKind::Offer,
            offer.clone() + "m=audio 9 RTP/AVP 0\r\n",
        ),
        (DescriptionKind::Answer, offer.clone()),
        (DescriptionKind::Candidate, "nothing of the kind".into()),
    ];
    let mut bench = Bench::new(&[LOCALHOST]);
    let now = Instant::now();
    for (number, (kind, text)) in (2..).zip(bad) {
        let link = LinkId(number);
        bench.ends[0].open(link, Role::Answerer, now);
        let bad = text.clone();
        bench.ends[0].remote(&Description { link, kind, text }, now);
        bench.collect(0);
        let reason = bench.down(0, link);
        assert!(
            reason.is_some_and(|words| words.contains(' ')),
            "{reason:?} for {bad:?}"
        );
    }
    assert_eq!(bench.ends[0].poll_timeout(), None);
}

/// Descriptions come verified, but from peers of any make.
#[tokio::test]
async fn no_mutilated_description_panics() {
    let offer = some_offer();
    let mut end = bind(LOCALHOST);
    let now = Instant::now();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for number in 2..1000 {
        let mut bytes = offer.clone().into_bytes();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = b" :;/=\r\n9a-"[random(10)],
                1 => drop(bytes.drain(at..(at + 1 + random(30)).min(bytes.len() - 1).max(at))),
                2 => bytes.insert(at, b"0:\n "[random(4)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (link, kind) = (LinkId(number), DescriptionKind::Offer);
        end.open(link, Role::Answerer, now);
        end.remote(&Description { link, kind, text }, now);
        end.close(link, now);
        while end.poll_event().is_some() {}
    }
    assert_eq!(end.poll_timeout(), None);
}

#[tokio::test]
async fn a_candidate_that_comes_alone_or_early_is_taken() {
    let link = LinkId(1);
    let mut bench = Bench::new(&[LOCALHOST, LOCALHOST]);
    let now = Instant::now();
    bench.ends[0].open(link, Role::Offerer, now);
    let offer = bench.description(0, link);
    let is_candidate = |line: &&str| line.starts_with("a=candidate:");
    let candidate = offer.text.lines().find(is_candidate);
    let candidate = candidate.expect("a candidate").trim_start_matches("a=");
    let bare = offer.text.lines().filter(|line| !is_candidate(line));
    let bare: String = bare.map(|line| format!("{line}\r\n")).collect();
    bench.ends[1].open(link, Role::Answerer, now);
    let kind = DescriptionKind::Candidate;
    for text in [
        candidate,
        "candidate:1 1 udp 2113937151 6d2c8a5e-1b1f.local 51443 typ host",
        "",
    ] {
        let text = text.to_owned();
        bench.ends[1].remote(&Description { link, kind, text }, now);
    }
    let kind = DescriptionKind::Offer;
    bench.ends[1].remote(
        &Description {
            link,
            kind,
            text: bare,
        },
        now,
    );
    // The offerer hears of no candidate: the answerer's checks show it the path.
    let mut answer = bench.description(1, link);
    let lines = answer.text.lines().filter(|line| !is_candidate(line));
    answer.text = lines.map(|line| format!("{line}\r\n")).collect();
    bench.ends[0].remote(&answer, now);
    bench.until("up", |bench| bench.both_up(link)).await;
}

#[tokio::test]
async fn a_forged_fingerprint_never_opens() {
    let link = LinkId(1);
    let mut bench = Bench::new(&[LOCALHOST, LOCALHOST]);
    let now = Instant::now();
    bench.ends[0].open(link, Role::Offerer, now);
    let mut offer = bench.description(0, link);
    let before = "a=fingerprint:sha-256 ";
    let at = offer.text.find(before).expect("a fingerprint") + before.len();
    let genuine = offer.text[at..at + 2].to_owned();
    let forged = if genuine == "00" { "11" } else { "00" };
    offer.text.replace_range(at..at + 2, forged);
    bench.ends[1].open(link, Role::Answerer, now);
    bench.ends[1].remote(&offer, now);
    let answer = bench.description(1, link);
    bench.ends[0].remote(&answer, now);
    let limit = Instant::now() + Duration::from_secs(2);
    while Instant::now() < limit {
        bench.step(limit).await;
        assert!(!bench.is_up(1, link), "took a forged certificate");
    }
}

#[tokio::test]
async fn garbage_changes_nothing() {
    let link = LinkId(1);
    let mut bench = Bench::connected([LOCALHOST, LOCALHOST], link).await;
    let target = bench.ends[0].local_addr();
    let stranger = UdpSocket::bind(LOCALHOST).expect("a socket");
    let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    check.extend([9; 12]);
    let garbage: [&[u8]; 4] = [&[22, 254, 253, 0], &[0; 3], &check, &[200; 1200]];
    for bytes in garbage {
        stranger.send_to(bytes, target).expect("sent");
    }
    bench
        .until("all garbage counted", |bench| {
            bench.ends[0].counters().unknown_datagrams == garbage.len() as u64
        })
        .await;
    bench.send(1, link, Lane::Kv, b"still here");
    bench.ends[1].flush();
    bench
        .until("a frame", |bench| bench.frames(0, link) == [b"still here"])
        .await;
    assert_eq!(bench.down(0, link), None);
}

/// A NAT between an inside peer and one outside address. Each notice makes it
/// forget its mapping, and the next datagram leaves from another port.
async fn nat(inside: tokio::net::UdpSocket, outside: SocketAddr, forget: Arc<Notify>) {
    let new = || async {
        tokio::net::UdpSocket::bind(LOCALHOST)
            .await
            .expect("a socket")
    };
    let (mut mapped, mut peer) = (new().await, None);
    let (mut going, mut coming) = ([0; 2000], [0; 2000]);
    loop {
        tokio::select! {
            Ok((length, from)) = inside.recv_from(&mut going) => {
                peer = Some(from);
                let _ = mapped.send_to(&going[..length], outside).await;
            }
            Ok((length, _)) = mapped.recv_from(&mut coming) => {
                if let Some(peer) = peer {
                    let _ = inside.send_to(&coming[..length], peer).await;
                }
            }
            () = forget.notified() => mapped = new().await,
        }
    }
}

/// The first end is behind a NAT that changes its mapping; `offerer` says
/// which end makes the offer, and so controls ICE.
async fn is_followed(offerer: usize) {
    let link = LinkId(1);
    let mut bench = Bench::new(&[LOCALHOST, LOCALHOST]);
    let inside = tokio::net::UdpSocket::bind(LOCALHOST).await;
    let inside = inside.expect("a socket");
    let gate = inside.local_addr().expect("an address");
    let far = bench.ends[1].local_addr();
    let forget = Arc::new(Notify::new());
    tokio::spawn(nat(inside, far, Arc::clone(&forget)));
    // The inside end knows the other as the gate, the other knows no address.
    let through = |from: usize, mut description: Description| {
        let port = format!(" {} typ", gate.port());
        description.text = match from {
            0 => description.text.replace("a=candidate:", "a=x-"),
            _ => description
                .text
                .replace(&format!(" {} typ", far.port()), &port),
        };
        description
    };
    let (answerer, now) = (1 - offerer, Instant::now());
    bench.ends[offerer].open(link, Role::Offerer, now);
    let offer = bench.description(offerer, link);
    bench.ends[answerer].open(link, Role::Answerer, now);
    bench.ends[answerer].remote(&through(offerer, offer), now);
    let answer = bench.description(answerer, link);
    bench.ends[offerer].remote(&through(answerer, answer), now);
    bench.until("up", |bench| bench.both_up(link)).await;
    for message in 0..2 {
        forget.notify_one();
        // An end that has nothing to say would notice it at its next check.
        for from in 0..2 {
            bench.send(from, link, Lane::Control, &[message]);
            bench.ends[from].flush();
        }
        bench
            .until("a frame at the new address", |bench| {
                bench.frames(0, link).len() == usize::from(message) + 1
            })
            .await;
    }
}

#[tokio::test]
async fn a_peer_is_followed_to_its_new_address() {
    tokio::join!(is_followed(0), is_followed(1));
}

/// A NAT forgets who says nothing for 30 s, and whoever hears nothing gives the
/// path up after 25 s.
#[tokio::test]
async fn one_end_of_a_link_at_rest_keeps_its_path() {
    let link = LinkId(1);
    let mut bench = Bench::connected([LOCALHOST, LOCALHOST], link).await;
    let start = Instant::now();
    let rest = async |bench: &mut Bench, from: u64, to: u64| {
        let limit = start + Duration::from_secs(to);
        let before = bench.ends[0].counters().datagrams_out;
        while Instant::now() < limit {
            bench.step(limit).await;
        }
        assert_eq!([bench.down(0, link), bench.down(1, link)], [None; 2]);
        let after = bench.ends[0].counters().datagrams_out;
        println!("{} datagrams from {from} to {to} s", after - before);
        after - before
    };
    rest(&mut bench, 0, 3).await;
    // One check, or its answer, every 15 s.
    let sent = rest(&mut bench, 3, 40).await;
    assert!((1..=3).contains(&sent), "{sent} datagrams");
    bench.send(0, link, Lane::Kv, b"still here");
    bench.ends[0].flush();
    bench
        .until("a frame", |bench| bench.frames(1, link) == [b"still here"])
        .await;
}

/// The driver drops the future whenever another branch of its select wins.
#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let link = LinkId(1);
    let mut bench = Bench::connected([LOCALHOST, LOCALHOST], link).await;
    bench.send(1, link, Lane::Control, b"hello");
    bench.ends[1].flush();
    for _ in 0..3 {
        let mut wait = pin!(bench.ends[0].readable());
        let wait: Pin<&mut _> = wait.as_mut();
        let _ = wait.poll(&mut Context::from_waker(Waker::noop()));
    }
    bench
        .until("a frame", |bench| bench.frames(0, link) == [b"hello"])
        .await;
}

/// Takes 25 s, all of it ICE's: core's own probes end a dead link long before.
#[tokio::test]
async fn a_peer_that_vanishes_is_noticed() {
    let link = LinkId(1);
    let mut bench = Bench::connected([LOCALHOST, LOCALHOST], link).await;
    bench.ends[1] = bind(LOCALHOST);
    let start = Instant::now();
    bench
        .until("down", |bench| bench.down(0, link).is_some())
        .await;
    assert_eq!(bench.down(0, link), Some("no path to the peer answers"));
    assert!(start.elapsed() < Duration::from_secs(29));
}
