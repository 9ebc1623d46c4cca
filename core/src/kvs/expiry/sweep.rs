//! Expired records that nobody reads are looked after by the first live voter.
//!
//! It reads them, as any caller would, so that what was said of reads goes for
//! them, too: a majority keeps the tombstone, and values give their room back.

use alloc::vec::Vec;
use core::time::Duration;

use super::super::coordinator::Origin;
use super::super::message::Op;
use super::super::request::Mode;
use super::super::{Key, Kvs};
use super::Expiry;
use crate::time::{Instant, Now};

/// Records read at once; then it waits until all are done.
const BATCH: usize = 32;
/// The pause between two batches.
const PAUSE: Duration = Duration::from_millis(20);
/// Records looked at in one go, most of which may be others' task.
const LOOK_COUNT_MAX: usize = 1024;
/// When those that are still there are looked at again.
const AGAIN: Duration = Duration::from_secs(5);
/// When it looks again at the latest, since wall clocks may be set.
const REST: Duration = Duration::from_secs(10 * 60);

/// How far it has come.
#[derive(Debug, Default)]
pub(in crate::kvs) struct Sweeper {
    /// The last record that was looked at.
    after: Option<(Expiry, Key)>,
    /// Reads under way.
    open: usize,
    /// Whether expired records were passed by, or read.
    has_met: bool,
    look_at: Option<Instant>,
}

impl Sweeper {
    pub(in crate::kvs) const fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// One of its reads is done, or failed: then it comes again.
    pub(in crate::kvs) fn ended(&mut self, now: Instant) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.look_at = Some(now + PAUSE);
        }
    }
}

impl Kvs {
    /// A record came that expires.
    pub(in crate::kvs) fn note_expiry(&mut self, expires: Option<Expiry>, now: Now) {
        if let Some(expiry) = expires {
            let at = now.mono + self.time_to(expiry, now);
            let look_at = self.sweeper.look_at.get_or_insert(at);
            *look_at = at.min(*look_at);
        }
    }

    pub(in crate::kvs) fn on_sweep_timeout(&mut self, now: Now) {
        if self.sweeper.look_at.is_none_or(|at| at > now.mono) {
            return;
        }
        self.sweeper.look_at = None;
        if self.sweeper.open > 0 {
            return;
        }
        let after = self.sweeper.after.take();
        let due: Vec<(Expiry, Key)> = self
            .index
            .expiring(after.as_ref())
            .take_while(|(expiry, _)| expiry.is_past(&self.clock, now))
            .take(LOOK_COUNT_MAX)
            .cloned()
            .collect();
        let Some(last) = due.last().cloned() else {
            return self.rest(now);
        };
        self.sweeper.has_met = true;
        let mut own = due.into_iter().filter(|(_, key)| {
            let state = self.views.get(key.slot());
            self.leads(state) && self.views.serves(state)
        });
        let batch: Vec<(Expiry, Key)> = own.by_ref().take(BATCH).collect();
        let rest = own.next().is_some();
        self.sweeper.after = batch.last().cloned().filter(|_| rest).or(Some(last));
        self.sweeper.look_at = Some(now.mono + PAUSE);
        self.sweeper.open = batch.len();
        for (_, key) in batch {
            let mode = match self.index.version(&key).is_marked() {
                true => Mode::Linearizable,
                false => Mode::Quorum,
            };
            self.counters.add("expired_swept");
            self.coordinate(Origin::Sweep, Op::Get { key, mode }, now);
        }
    }

    /// All that has expired was looked at, from the first to the last.
    fn rest(&mut self, now: Now) {
        let first = self.index.expiring(None).next().map(|(expiry, _)| *expiry);
        let met = core::mem::take(&mut self.sweeper.has_met);
        self.sweeper.look_at = first.map(|first| {
            let pause = self.time_to(first, now);
            now.mono + if met { pause.max(AGAIN) } else { pause }
        });
    }

    fn time_to(&self, expiry: Expiry, now: Now) -> Duration {
        let clock = self.clock.unix_ms(now.unix_ms);
        let time = Duration::from_millis(expiry.unix_ms().saturating_sub(clock));
        time.clamp(PAUSE, REST)
    }
}
