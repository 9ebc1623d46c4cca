//! Ways that carry nothing, ends that nobody could be told, and turns.

use core::time::Duration;

use super::*;
use crate::identity::Identity;

const FRAME_MAX: usize = 1000;
const DIRECT: Way = Way {
    kind: PathKind::Direct,
    number: 7,
};
const RELAYED: Way = Way {
    kind: PathKind::Relayed,
    number: 9,
};

fn id(seed: u8) -> NodeId {
    Identity::from_seed(&[seed; 32]).id()
}

/// Two nodes, with sessions and ways between them.
struct Two {
    nodes: [Sessions; 2],
    now: Instant,
    /// What carries nothing, though it is there.
    mute: Option<PathKind>,
    /// By what the last bytes of data came.
    came: Option<PathKind>,
}

impl Two {
    fn new() -> Self {
        let mut nodes = [1, 2].map(|epoch| Sessions::new(epoch, FRAME_MAX));
        let now = Instant::from_micros(0);
        nodes[0].open(id(1), Some(2), now).unwrap();
        Self {
            nodes,
            now,
            mute: None,
            came: None,
        }
    }

    /// The same ways at both ends, as each is told them again and again.
    fn settle(&mut self, ways: &[Way]) {
        for _ in 0..50 {
            for own in 0..2 {
                let other = id(1 - own as u8);
                let now = self.now;
                self.nodes[own].set_ways(&other, ways.iter().copied(), now);
                let has_room = |_: &NodeId, _| true;
                while let Some((_, kind, bytes)) = self.nodes[own].poll_frame(has_room, &other) {
                    let kind = kind.or_else(|| Some(ways.first()?.kind));
                    match kind {
                        None => self.nodes[own].on_unsent(other, bytes),
                        Some(kind) if Some(kind) == self.mute => {}
                        Some(kind) => {
                            self.came = Some(kind);
                            let peer = id(own as u8);
                            self.nodes[1 - own].on_frame(peer, kind, &bytes, now);
                        }
                    }
                    if kind.is_none() {
                        break;
                    }
                }
            }
        }
    }

    fn pass(&mut self, ways: &[Way], seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now += Duration::from_millis(100);
            for node in &mut self.nodes {
                node.on_timeout(self.now);
            }
            self.settle(ways);
        }
    }

    fn write(&mut self, ways: &[Way], bytes: &[u8]) {
        self.nodes[0].write(&id(1), bytes, self.now);
        self.settle(ways);
    }

    fn ended(&mut self, own: usize) -> Option<SessionError> {
        let node = &mut self.nodes[own];
        let mut events = core::iter::from_fn(|| node.poll_event());
        events.find_map(|(_, event)| match event {
            SessionEvent::Ended(why) => Some(why),
            _ => None,
        })
    }
}

#[test]
fn a_way_that_carries_nothing_is_left_until_something_comes_by_it() {
    let (mut two, both) = (Two::new(), [DIRECT, RELAYED]);
    two.settle(&both);
    two.write(&both, b"one");
    assert_eq!(two.came, Some(PathKind::Direct));
    two.mute = Some(PathKind::Direct);
    two.write(&both, b"two");
    two.pass(&both, 5);
    assert_eq!(two.nodes[1].take(&id(0)), b"onetwo");
    assert_eq!(two.nodes[0].doubted, [id(1)], "and asked for once");
    // It is there still, and not tried for four seconds again.
    two.write(&both, b"three");
    assert_eq!(two.nodes[1].take(&id(0)), b"three");
    assert_eq!(two.came, Some(PathKind::Relayed));
    // The other end knows nothing of that, and answers by it once it can.
    two.mute = None;
    two.nodes[1].write(&id(0), b"four", two.now);
    two.settle(&both);
    two.write(&both, b"five");
    assert_eq!(two.came, Some(PathKind::Direct));
    assert_eq!(two.nodes[1].take(&id(0)), b"five");
    assert_eq!(two.ended(0), None);
}

#[test]
fn an_end_that_nobody_could_be_told_is_told_by_the_next_way() {
    let mut two = Two::new();
    two.settle(&[DIRECT]);
    two.write(&[DIRECT], b"one");
    two.settle(&[]);
    two.nodes[0].reset(&id(1));
    two.settle(&[]);
    assert_eq!(two.ended(0), Some(SessionError::Reset));
    assert_eq!(two.ended(1), None);
    // The peer has nothing to say, and would wait for ever.
    two.nodes[0].send_unsent();
    two.settle(&[RELAYED]);
    assert_eq!(two.ended(1), Some(SessionError::Reset));
}

#[test]
fn sessions_are_few_and_take_turns() {
    let now = Instant::from_micros(0);
    let mut node = Sessions::new(1, FRAME_MAX);
    let peers: Vec<NodeId> = (0..=255).map(id).collect();
    for peer in &peers {
        node.open(*peer, None, now).unwrap();
        node.set_ways(peer, [DIRECT].into_iter(), now);
        node.write(peer, &[7; 5000], now);
    }
    let further = NodeId::from_bytes([5; 32]);
    assert_eq!(node.open(further, None, now), Err(SessionsFull));
    let (mut last, mut sent) = (peers[0], FlatMap::new());
    for _ in 0..512 {
        let (peer, _, _) = node.poll_frame(|_, _| true, &last).unwrap();
        *sent.entry(peer).or_insert(0) += 1;
        last = peer;
    }
    assert!(sent.len() == 256 && sent.values().all(|count| *count == 2));
}

#[test]
fn a_session_ends_with_the_start_of_the_peer_that_it_was_with() {
    let mut two = Two::new();
    two.settle(&[DIRECT]);
    two.nodes[0].on_start(id(1), 2);
    assert_eq!(two.ended(0), None);
    two.nodes[0].on_start(id(1), 3);
    assert_eq!(two.ended(0), Some(SessionError::Restarted));
    // One that the peer has not answered, too.
    two.nodes[0].open(id(1), Some(3), two.now).unwrap();
    two.nodes[0].on_start(id(1), 4);
    assert_eq!(two.ended(0), Some(SessionError::Restarted));
}
