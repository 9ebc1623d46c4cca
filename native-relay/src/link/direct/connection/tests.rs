//! Two connections joined by a wire that a test holds.

use super::*;

const STEP: Duration = Duration::from_millis(10);
const ALIVE: [Verdict; 2] = [Verdict::Alive, Verdict::Alive];

/// Carries datagrams at once, and loses those that a test wants lost.
struct Line {
    loses: fn(&[u8]) -> bool,
    under_way: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Wire for Line {
    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if !(self.loses)(bytes) {
            self.under_way.push((from, to, bytes.to_vec()));
        }
    }
}

struct Two {
    now: Instant,
    ends: [(SocketAddr, Connection); 2],
    line: Line,
    events: [VecDeque<DirectEvent>; 2],
}

impl Two {
    fn new() -> Self {
        let now = Instant::now();
        let factory = Factory::new(1 << 20).unwrap();
        let mut port = 9;
        let mut end = |role| {
            port += 1;
            let address = SocketAddr::from(([192, 0, 2, 1], port));
            let link = LinkId(1);
            let one = Connection::new(&factory, link, role, &[address], now).unwrap();
            (address, one)
        };
        let mut ends = [end(Role::Offerer), end(Role::Answerer)];
        let offer = ends[0].1.offer(now).unwrap();
        let answer = ends[1].1.remote(offer.kind, &offer.text, now).unwrap();
        let answer = answer.unwrap();
        ends[0].1.remote(answer.kind, &answer.text, now).unwrap();
        Self {
            now,
            ends,
            line: Line {
                loses: |_| false,
                under_way: Vec::new(),
            },
            events: Default::default(),
        }
    }

    /// Lets so much time pass; answers how each end stands.
    fn pass(&mut self, time: Duration) -> [Verdict; 2] {
        let end = self.now + time;
        loop {
            let verdicts = [0, 1].map(|index| {
                let (_, one) = &mut self.ends[index];
                if one.deadline().is_none_or(|at| at <= self.now) {
                    one.on_timeout(self.now);
                }
                one.turn(self.now, &mut self.line, &mut self.events[index])
            });
            for (from, to, bytes) in std::mem::take(&mut self.line.under_way) {
                for (address, one) in &mut self.ends {
                    if *address == to {
                        one.feed(from, to, &bytes, self.now);
                    }
                }
            }
            if self.now >= end || verdicts != ALIVE {
                return verdicts;
            }
            self.now += STEP;
        }
    }

    /// Lets time pass until both ends are up.
    fn open() -> Self {
        let mut two = Self::new();
        for _ in 0..100 {
            assert_eq!(two.pass(STEP), ALIVE);
        }
        let is_up =
            |events: &VecDeque<DirectEvent>| events.contains(&DirectEvent::Up { link: LinkId(1) });
        assert!(two.events.iter().all(is_up), "{:?}", two.events);
        two
    }
}

#[test]
fn a_link_at_rest_lives() {
    let mut two = Two::open();
    assert_eq!(two.pass(Duration::from_secs(120)), ALIVE);
}

#[test]
fn a_link_that_says_something_all_the_time_lives() {
    for pause in [10, 1_000, 10_000].map(Duration::from_millis) {
        let mut two = Two::open();
        for _ in 0..Duration::from_secs(60).as_millis() / pause.as_millis() {
            two.ends[0].1.send(Lane::Control, b"so it goes".to_vec());
            assert_eq!(two.pass(pause), ALIVE, "one message every {pause:?}");
        }
    }
}

#[test]
fn a_link_whose_path_is_cut_is_given_up() {
    let mut two = Two::open();
    two.line.loses = |_| true;
    assert_eq!(two.pass(Duration::from_secs(20)), ALIVE);
    let verdicts = two.pass(Duration::from_secs(10));
    let lost = Verdict::Down("no path to the peer answers".into());
    assert!(verdicts.contains(&lost), "{verdicts:?}");
}
