//! How long others take to answer, and when another is asked.
//!
//! Times are taken of every kind of question apart: a write waits for disks,
//! and whoever coordinates asks others in its turn. Of a member that was never
//! asked the others say how long it may take.

use alloc::vec::Vec;
use core::time::Duration;

use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::rtt::Rtt;
use crate::time::Instant;

/// After so many answers in a row that may have been to a repeated question,
/// they are taken for late answers to the first.
const UNCLEAR_COUNT_MAX: u32 = 3;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    Get,
    GetOne,
    List,
    Put,
    PutOne,
    Linearizable,
    ReadVote,
    ListVote,
    WriteVote,
}

impl Question {
    /// Whether it changes nothing: to ask another, too, harms nobody.
    pub(super) const fn is_read(self) -> bool {
        match self {
            Self::Get | Self::GetOne | Self::List | Self::ReadVote | Self::ListVote => true,
            Self::Put | Self::PutOne | Self::Linearizable | Self::WriteVote => false,
        }
    }

    /// How many times its variation an answer may be late. Another is asked to read
    /// as soon as one is later than they are in the mean (Dean and Barroso, *The tail
    /// at scale*, 2013); a value is not sent twice so easily (RFC 6298).
    const fn variations(self) -> u32 {
        if self.is_read() { 1 } else { 4 }
    }
}

/// How long answers took.
#[derive(Debug, Default)]
pub(super) struct Waits {
    times: FlatMap<(Question, NodeId), Times>,
    of_all: FlatMap<Question, Rtt>,
}

#[derive(Debug, Default)]
struct Times {
    rtt: Rtt,
    unclear: u32,
}

impl Waits {
    pub(super) fn measure(&mut self, question: Question, peer: NodeId, answer: Answered) {
        let times = self.times.entry((question, peer)).or_default();
        // Karn and Partridge 1987: nobody knows which question it answers.
        if !answer.is_clear {
            times.unclear += 1;
            if times.unclear <= UNCLEAR_COUNT_MAX {
                return;
            }
        }
        times.unclear = 0;
        let of_all = self.of_all.entry(question).or_default();
        times.rtt.measure_among(answer.took, of_all);
        of_all.measure(answer.took);
    }

    /// How long a member may take to answer, if anything is known: of itself,
    /// of others, or of other questions.
    pub(super) fn patience(&self, question: Question, peer: &NodeId) -> Option<Duration> {
        let patience = |rtt: &Rtt| rtt.patience(question.variations());
        let own = self.times.get(&(question, *peer));
        let own = own.and_then(|times| patience(&times.rtt));
        let others = || patience(self.of_all.get(&question)?);
        let any = || self.of_all.values().filter_map(patience).max();
        own.or_else(others).or_else(any)
    }

    pub(super) fn on_gone(&mut self, peer: &NodeId) {
        self.times.retain(|(_, id), _| id != peer);
    }
}

/// Who was asked the same, when first, and how often; whoever was asked last is
/// the last.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<(NodeId, Instant, u32)>);

/// An answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    took: Duration,
    is_clear: bool,
}

impl Asked {
    pub(super) fn note(&mut self, peer: NodeId, now: Instant) {
        let (at, count) = match self.place(&peer) {
            Some(place) => {
                let (_, at, count) = self.0.remove(place);
                (at, count)
            }
            None => (now, 0),
        };
        self.0.push((peer, at, count.saturating_add(1)));
    }

    /// Takes note of an answer; none if nothing was asked, or it was before.
    pub(super) fn take(&mut self, peer: &NodeId, now: Instant) -> Option<Answered> {
        let (_, at, count) = self.0.remove(self.place(peer)?);
        let (took, is_clear) = (now.since(at), count == 1);
        Some(Answered { took, is_clear })
    }

    /// How often anybody was asked.
    pub(super) fn count(&self) -> u32 {
        let counts = self.0.iter().map(|(.., count)| *count);
        counts.fold(0, u32::saturating_add)
    }

    pub(super) fn first(&self) -> Option<NodeId> {
        self.0.first().map(|(id, ..)| *id)
    }

    /// Who was asked last of those who have not answered.
    pub(super) fn last(&self) -> Option<NodeId> {
        self.0.last().map(|(id, ..)| *id)
    }

    /// Where one who was asked and has not answered stands among them.
    pub(super) fn place(&self, peer: &NodeId) -> Option<usize> {
        self.0.iter().position(|(id, ..)| id == peer)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId::from_bytes([1; 32]);
    const OTHER: NodeId = NodeId::from_bytes([2; 32]);

    fn answer(ms: u64, asked: u32) -> Answered {
        let mut all = Asked::default();
        for _ in 0..asked {
            all.note(PEER, Instant::default());
        }
        let now = Instant::default() + Duration::from_millis(ms);
        all.take(&PEER, now).unwrap()
    }

    #[test]
    fn what_others_took_is_expected_of_a_stranger() {
        let mut waits = Waits::default();
        assert_eq!(waits.patience(Question::Get, &PEER), None);
        for _ in 0..20 {
            waits.measure(Question::Get, PEER, answer(300, 1));
        }
        let expected = waits.patience(Question::Get, &OTHER).unwrap();
        assert!((300..600).contains(&expected.as_millis()), "{expected:?}");
        assert!(waits.patience(Question::Put, &OTHER) >= Some(expected));
        waits.on_gone(&PEER);
        assert!(waits.times.is_empty());
    }

    #[test]
    fn an_answer_to_a_second_question_says_little() {
        let mut waits = Waits::default();
        for _ in 0..20 {
            waits.measure(Question::Get, PEER, answer(200, 1));
        }
        let before = waits.patience(Question::Get, &PEER);
        for _ in 0..UNCLEAR_COUNT_MAX {
            waits.measure(Question::Get, PEER, answer(2000, 2));
        }
        assert_eq!(waits.patience(Question::Get, &PEER), before, "a loss");
        for _ in 0..20 {
            waits.measure(Question::Get, PEER, answer(2000, 2));
        }
        let after = waits.patience(Question::Get, &PEER);
        assert!(after > Some(Duration::from_secs(1)), "it is slower now");
    }

    #[test]
    fn an_answer_is_taken_once() {
        let now = Instant::default();
        let mut asked = Asked::default();
        asked.note(PEER, now);
        asked.note(OTHER, now);
        assert_eq!((asked.count(), asked.last()), (2, Some(OTHER)));
        assert!(
            asked
                .take(&OTHER, now)
                .is_some_and(|answer| answer.is_clear)
        );
        assert_eq!(asked.take(&OTHER, now), None);
        assert_eq!(asked.last(), Some(PEER));
    }
}
