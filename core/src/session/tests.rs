//! Two ends over paths that lose, reorder, repeat and die, by seeds.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::rng::Rng;
use crate::wire::{decode_head, encode_head};

const TOTAL: u64 = 400_000;
/// So little that a reader is often behind.
const ROOM: usize = 16 << 10;

struct Pair {
    ends: [Session; 2],
    /// Frames on their way to each end.
    wires: [VecDeque<(PathId, Vec<u8>)>; 2],
    live: Vec<(PathId, PathKind)>,
    /// Paths that carry nothing any more, which nobody was told.
    mute: BTreeSet<PathId>,
    written: [u64; 2],
    /// Taken by readers, who consume it by and by.
    taken: [VecDeque<u8>; 2],
    read: [u64; 2],
    now: Instant,
    rng: Rng,
    switches: u32,
    paths: u64,
    fired: u32,
}

fn numbers(ours: u64, theirs: u64) -> Numbers {
    Numbers {
        ours,
        base: 0,
        their_base: 0,
        theirs,
    }
}

fn byte(end: usize, offset: u64) -> u8 {
    (offset.wrapping_mul(31) >> 3) as u8 ^ offset as u8 ^ end as u8
}

impl Pair {
    fn new(seed: u8) -> Self {
        let now = Instant::from_micros(0);
        Self {
            ends: [1, 2].map(|own| {
                let mut end = Session::new(numbers(own, 0), now);
                end.receive_max = ROOM;
                end.room = ROOM as u64;
                end
            }),
            wires: Default::default(),
            live: Vec::new(),
            mute: BTreeSet::new(),
            written: [0; 2],
            taken: Default::default(),
            read: [0; 2],
            now,
            rng: Rng::from_seed([seed; 32]),
            switches: 0,
            paths: 0,
            fired: 0,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    fn up(&mut self, kind: PathKind) {
        self.paths += 1;
        let path = PathId(self.paths);
        let frame_max = 200 + self.below(4000) as usize;
        self.live.push((path, kind));
        for end in &mut self.ends {
            end.on_path_up(path, kind, frame_max, self.now);
        }
    }

    fn down(&mut self, path: PathId) {
        self.live.retain(|(live, _)| *live != path);
        for wire in &mut self.wires {
            wire.retain(|(on, _)| *on != path);
        }
        for end in &mut self.ends {
            end.on_path_down(path, self.now);
        }
    }

    fn switch(&mut self) {
        self.switches += 1;
        let direct = self.live.iter().find(|(_, kind)| *kind == PathKind::Direct);
        match direct.copied() {
            Some((path, _)) => self.down(path),
            None => self.up(PathKind::Direct),
        }
        if !self.live.iter().any(|(_, kind)| *kind == PathKind::Relayed) {
            self.up(PathKind::Relayed);
        }
    }

    /// The best path goes mute; another, which does not, is there.
    fn mute_best(&mut self) {
        if let Some((path, _)) = self.live.iter().min_by_key(|(path, kind)| (*kind, *path)) {
            self.mute.insert(*path);
        }
        self.up(PathKind::Relayed);
    }

    fn collect(&mut self) -> Option<SessionError> {
        for from in 0..2 {
            while let Some(output) = self.ends[from].poll_output() {
                match output {
                    SessionOutput::Failed(why) => return Some(why),
                    // The other end has to notice that by itself.
                    SessionOutput::GiveUp(path) => self.live.retain(|(live, _)| *live != path),
                    SessionOutput::Send { path, bytes } => {
                        let kind = self.live.iter().find(|(live, _)| *live == path);
                        let kind = kind.filter(|(live, _)| !self.mute.contains(live));
                        let Some((_, kind)) = kind.copied() else {
                            continue;
                        };
                        let fate = self.below(100);
                        let wire = &mut self.wires[1 - from];
                        match (kind, fate) {
                            (PathKind::Relayed, 0) => {}
                            (PathKind::Relayed, 1) => wire.push_front((path, bytes)),
                            (PathKind::Relayed, 2) => {
                                wire.push_back((path, bytes.clone()));
                                wire.push_back((path, bytes));
                            }
                            _ => wire.push_back((path, bytes)),
                        }
                    }
                }
            }
        }
        None
    }

    fn work(&mut self, end: usize) {
        let len = self.below(3000).min(TOTAL - self.written[end]);
        let start = self.written[end];
        let bytes: Vec<u8> = (start..start + len).map(|at| byte(end, at)).collect();
        self.written[end] += self.ends[end].write(&bytes, self.now) as u64;
        if self.written[end] == TOTAL {
            self.ends[end].close(self.now);
        }
        let taken = self.ends[end].take();
        self.taken[end].extend(taken);
        assert!(self.taken[end].len() <= ROOM);
        let len = (self.below(4000) as usize).min(self.taken[end].len());
        for got in self.taken[end].drain(..len) {
            assert_eq!(got, byte(1 - end, self.read[end]), "at {}", self.read[end]);
            self.read[end] += 1;
        }
        self.ends[end].consume(len);
        assert!(self.ends[end].held() <= SEND_MAX + ROOM);
    }

    fn step(&mut self) -> Option<SessionError> {
        for end in 0..2 {
            self.work(end);
            for _ in 0..self.below(6) {
                if let Some((path, bytes)) = self.wires[end].pop_front() {
                    self.ends[end].on_frame(path, decode_head(&bytes).unwrap(), self.now);
                }
            }
        }
        let failed = self.collect();
        self.now += Duration::from_millis(5);
        for end in 0..2 {
            if self.ends[end]
                .poll_timeout()
                .is_some_and(|due| due <= self.now)
            {
                self.fired += 1;
                self.ends[end].on_timeout(self.now);
                let due = self.ends[end].poll_timeout();
                assert!(due.is_none_or(|due| due > self.now), "a timer spins");
            }
        }
        failed.or_else(|| self.collect())
    }

    /// Everything was acknowledged, and no timer runs.
    fn comes_to_rest(&mut self) -> bool {
        for _ in 0..10_000 {
            if self.ends.iter().all(|end| end.poll_timeout().is_none()) {
                return true;
            }
            assert_eq!(self.step(), None);
        }
        false
    }

    fn is_done(&self) -> bool {
        self.read == [TOTAL; 2] && self.ends.iter().all(Session::is_ended)
    }
}

fn run(seed: u8) -> u32 {
    let mut pair = Pair::new(seed);
    pair.up(PathKind::Relayed);
    for _ in 0..200_000 {
        if pair.below(3) == 0 && pair.switches < 250 {
            pair.switch();
        }
        assert_eq!(pair.step(), None, "seed {seed}");
        if pair.is_done() && pair.switches >= 250 {
            assert!(pair.comes_to_rest(), "seed {seed} never rests");
            return pair.switches;
        }
    }
    panic!("seed {seed} stands still at {:?}", pair.read);
}

#[test]
fn ten_thousand_switches_lose_repeat_and_reorder_nothing() {
    let switches: u32 = (0..40).map(run).sum();
    assert!(switches >= 10_000);
}

#[test]
fn paths_that_go_mute_are_left() {
    for seed in 0..20 {
        let mut pair = Pair::new(seed);
        pair.up(PathKind::Direct);
        let mut muted = 0;
        for step in 0..200_000 {
            if step % 2_000 == 100 && muted < 5 {
                pair.mute_best();
                muted += 1;
            }
            assert_eq!(pair.step(), None, "seed {seed}");
            if pair.is_done() && muted == 5 {
                break;
            }
        }
        assert!(
            pair.is_done(),
            "seed {seed} stands still at {:?}",
            pair.read
        );
        assert!(pair.comes_to_rest(), "seed {seed} never rests");
    }
}

/// One path after the other goes mute: that nothing came for eight seconds counts.
#[test]
fn mute_paths_are_no_paths() {
    let begun = Instant::from_micros(0);
    let mut end = Session::new(numbers(1, 1), begun);
    for path in 0..9 {
        end.on_path_up(PathId(path), PathKind::Direct, 1000, begun);
    }
    end.write(b"lost", begun);
    let mut now = begun;
    while end.failed.is_none() {
        while end.poll_output().is_some() {}
        now = end.poll_timeout().unwrap();
        end.on_timeout(now);
    }
    assert_eq!(end.failed, Some(SessionError::NoPath));
    assert_eq!(now, begun + NO_PATH_MAX);
}

#[test]
fn an_owner_that_polls_nothing_finds_few_outputs() {
    let now = Instant::from_micros(0);
    let mut ends = [1, 1].map(|own| Session::new(numbers(own, 1), now));
    for end in &mut ends {
        end.on_path_up(PathId(1), PathKind::Direct, 100, now);
        end.write(&[7; 100_000], now);
        assert!(end.outputs.len() <= OUTPUT_COUNT_MAX);
    }
    let [one, other] = &mut ends;
    let mut taken = 0;
    while let Some(SessionOutput::Send { path, bytes }) = one.poll_output() {
        other.on_frame(path, decode_head(&bytes).unwrap(), now);
        other.on_frame(path, decode_head(&bytes).unwrap(), now);
        assert!(other.outputs.len() <= OUTPUT_COUNT_MAX);
        let len = other.take().len();
        other.consume(len);
        taken += len;
    }
    assert_eq!(taken, 100_000);
}

#[test]
fn no_path_for_too_long_ends_both() {
    let mut pair = Pair::new(1);
    pair.up(PathKind::Relayed);
    assert_eq!(pair.step(), None);
    pair.down(PathId(1));
    for end in &mut pair.ends {
        let due = end.poll_timeout().unwrap();
        assert!(due.since(pair.now) <= NO_PATH_MAX);
        end.on_timeout(due);
        assert_eq!(end.failed, Some(SessionError::NoPath));
    }
}

#[test]
fn a_restarted_peer_ends_the_session_and_is_told() {
    let mut pair = Pair::new(2);
    pair.up(PathKind::Direct);
    for _ in 0..20 {
        assert_eq!(pair.step(), None);
    }
    pair.ends[1] = Session::new(numbers(3, 1), pair.now);
    let frame_max = 1000;
    pair.ends[1].on_path_up(PathId(1), PathKind::Direct, frame_max, pair.now);
    pair.wires = Default::default();
    pair.ends[0].write(b"old", pair.now);
    pair.ends[0].outputs.clear();
    let stale = encode_head(
        &Message {
            from: 1,
            to: 2,
            body: Body::Data {
                offset: 0,
                end: false,
            },
        },
        b"old",
    );
    pair.ends[1].on_frame(PathId(1), decode_head(&stale).unwrap(), pair.now);
    assert_eq!(pair.ends[1].take(), [], "of before the restart");
    pair.ends[1].outputs.clear();
    pair.ends[1].write(b"new", pair.now);
    pair.collect();
    let (path, bytes) = pair.wires[0].pop_front().unwrap();
    pair.ends[0].on_frame(path, decode_head(&bytes).unwrap(), pair.now);
    assert_eq!(pair.ends[0].failed, Some(SessionError::Restarted));
}
