//! What expired is gone for all, or for nobody.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::*;
use crate::kvs::three::{HOUR, MINUTE, Three};
use crate::kvs::{Condition, Kvs, Mode, Reply, RequestError, Terms};
use crate::store::MemoryStore;

fn lasting(mode: Mode, seconds: u32) -> Terms {
    Terms {
        ttl: Some(seconds.try_into().unwrap()),
        ..mode.into()
    }
}

fn version(reply: Reply) -> Version {
    match reply {
        Reply::Written { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

const MODES: [Mode; 2] = [Mode::Quorum, Mode::Linearizable];

fn pairs_of_modes() -> Vec<(Mode, Mode)> {
    let pairs = MODES.map(|write| MODES.map(|read| (write, read)));
    pairs.concat()
}

#[test]
fn what_was_missing_once_stays_missing_for_clocks_that_are_behind() {
    for (write, read) in pairs_of_modes() {
        // The third is four minutes ahead.
        let mut three = Three::new([0, 0, 4 * MINUTE]);
        let written = version(three.put(0, "value", lasting(write, 60)));
        assert_eq!(three.get(1, read), Some("value".into()), "{write:?}");
        assert_eq!(three.get(2, read), None, "{write:?} {read:?}");
        for index in 0..2 {
            assert_eq!(three.get(index, read), None, "{write:?} {read:?} {index}");
            assert_eq!(three.held(index), (written.expired(), true));
        }
    }
}

#[test]
fn a_clock_that_is_wrong_expires_nothing() {
    for (write, read) in pairs_of_modes() {
        let mut three = Three::new([0, 0, 2 * HOUR]);
        let written = version(three.put(0, "value", lasting(write, 3600)));
        for index in [2, 0, 1] {
            let found = three.get(index, read);
            assert_eq!(found, Some("value".into()), "{write:?} {read:?} {index}");
            assert_eq!(three.held(index).0, written);
        }
        assert_eq!(three.pass(10_000), []);
        assert_eq!(three.get(1, read), Some("value".into()));
        // Its hour over, it is gone, though one clock is wrong.
        three.millis += HOUR;
        assert_eq!(three.get(1, read), None);
        assert_eq!(three.get(2, read), None);
    }
}

#[test]
fn one_whose_clock_is_far_behind_does_not_keep_others_from_expiring() {
    for read in MODES {
        let mut three = Three::new([HOUR, HOUR, HOUR]);
        version(three.put(0, "value", lasting(Mode::Quorum, 60)));
        three.ahead[2] = 0;
        three.millis += 2 * MINUTE;
        assert_eq!(three.get(0, read), None);
        assert_eq!(three.get(2, read), None, "a majority says so");
    }
}

#[test]
fn mode_one_goes_by_the_clock_of_whoever_answers() {
    let mut three = Three::new([0, 0, 4 * MINUTE]);
    let written = version(three.put(0, "value", lasting(Mode::One, 60)));
    assert_eq!(three.get(2, Mode::One), None);
    assert_eq!(three.get(0, Mode::One), Some("value".into()));
    let kept = (written, false);
    assert_eq!(three.held(2), kept, "nothing is dropped for that");
}

#[test]
fn conditions_take_what_expired_for_missing() {
    let mut three = Three::new([0, 0, 0]);
    let absent = || Terms {
        condition: Some(Condition::Absent),
        ..lasting(Mode::Linearizable, 10)
    };
    let first = version(three.put(0, "first", absent()));
    let missing = RequestError::ConditionFailed { current: None };
    let held = RequestError::ConditionFailed {
        current: Some(first),
    };
    assert_eq!(three.put(1, "second", absent()), Reply::Failed(held));
    three.millis += 11_000;
    let matches = Condition::Version(first).into();
    assert_eq!(three.put(1, "third", matches), Reply::Failed(missing));
    version(three.put(2, "fourth", absent()));
    assert_eq!(three.get(0, Mode::Linearizable), Some("fourth".into()));
    three.millis += 11_000;
    version(three.put(1, "fifth", absent()));
}

#[test]
fn a_voter_that_missed_a_tombstone_learns_of_it() {
    let mut three = Three::new([0, 0, 0]);
    version(three.put(0, "old", lasting(Mode::Quorum, 5)));
    three.deaf = Some(2);
    three.millis += 6_000;
    assert_eq!(three.get(0, Mode::Quorum), None, "two are enough");
    assert!(!three.held(2).1);
    three.deaf = None;
    assert_eq!(three.get(2, Mode::Quorum), None);
    version(three.put(2, "new", Mode::Quorum.into()));
    assert_eq!(three.get(1, Mode::Quorum), Some("new".into()));
}

#[test]
fn what_nobody_reads_is_swept() {
    for write in MODES {
        let mut three = Three::new([0, 0, 0]);
        version(three.put(1, "value", lasting(write, 5)));
        assert_eq!(three.pass(4_500), []);
        assert!((0..3).all(|index| !three.held(index).1));
        three.pass(2_000);
        assert!((0..3).all(|index| three.held(index).1), "{write:?}");
        three.pass(10_000);
        let rests = |(kvs, _): &(Kvs, MemoryStore)| kvs.sweeper.poll_timeout().is_none();
        assert!(three.nodes.iter().all(rests));
    }
}

#[test]
fn a_time_to_live_is_whole_seconds_within_limits() {
    for (text, is_one) in [
        ("1", true),
        ("60", true),
        ("315360000", true),
        ("0", false),
        ("315360001", false),
        ("4294967297", false),
        ("-1", false),
        ("+1", false),
        ("1.5", false),
        ("", false),
    ] {
        assert_eq!(text.parse::<Ttl>().is_ok(), is_one, "{text:?}");
    }
    assert!(TtlError.to_string().contains("315360000"));
}
