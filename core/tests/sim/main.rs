//! The simulator: whole rings of real nodes and a real hub, in one thread, on
//! a clock of their own. A seed reproduces a run.
//!
//! `ROUNDELAY_SEEDS=5000` runs more seeds, `ROUNDELAY_SEED=17` one alone, with
//! `ROUNDELAY_TRACE=1` showing what happens.

// A test binary has no outside: `pub` here means between its files.
// It measures its own time, which no node ever sees.
#![allow(unreachable_pub, clippy::disallowed_types)]
// With planted bugs only what catches them runs.
#![cfg_attr(planted_bugs, allow(dead_code))]

mod checker;
mod churn;
mod disk;
mod expiry;
mod fault;
#[cfg(not(planted_bugs))]
mod frozen;
mod graves;
mod history;
#[cfg(not(planted_bugs))]
mod idle;
mod lists;
#[cfg(not(planted_bugs))]
mod mirrors;
#[cfg(not(planted_bugs))]
mod pair;
mod parting;
mod random;
mod scenario;
mod split;
#[cfg(not(planted_bugs))]
mod stall;
mod streams;
mod watchers;
mod workload;
mod world;
mod zave;

use scenario::{Scenario, run};

/// Seeds of every scenario, unless the environment says otherwise.
const SEEDS: u64 = 1000;

#[test]
#[cfg(not(planted_bugs))]
fn rings_stay_whole_and_lose_nothing() {
    each_seed(SEEDS, "general", |seed| run(Scenario::general(seed)));
}

#[test]
#[cfg(not(planted_bugs))]
fn a_voter_that_lost_its_disk_is_filled_by_all_others() {
    each_seed(SEEDS / 4, "lost_disk", |seed| {
        run(Scenario::lost_disk(seed))
    });
}

#[test]
#[cfg(not(planted_bugs))]
fn votes_follow_the_members_that_come_and_go() {
    each_seed(SEEDS / 4, "moves", |seed| run(Scenario::moves(seed)));
}

#[test]
#[cfg(not(planted_bugs))]
fn members_of_several_relays_make_one_ring() {
    each_seed(SEEDS / 4, "relays", |seed| run(Scenario::relays(seed)));
}

#[test]
#[cfg(not(planted_bugs))]
fn parts_of_a_ring_meet_again() {
    each_seed(SEEDS / 4, "partitions", |seed| {
        run(Scenario::partitions(seed))
    });
}

#[test]
#[cfg(not(planted_bugs))]
fn sessions_outlive_their_ways() {
    each_seed(SEEDS / 10, "streams", streams::run);
}

#[test]
#[cfg(not(planted_bugs))]
fn sessions_end_where_one_end_starts_again() {
    each_seed(SEEDS / 10, "restarts", streams::restart);
}

#[test]
#[cfg(not(planted_bugs))]
fn what_expired_never_comes_back() {
    each_seed(SEEDS / 5, "expiry", expiry::run);
}

#[test]
#[cfg(not(planted_bugs))]
fn what_was_deleted_stays_so_when_it_is_forgotten() {
    each_seed(SEEDS / 10, "graves", graves::run);
}

#[test]
#[cfg(not(planted_bugs))]
fn linearizable_calls_have_one_order() {
    each_seed(SEEDS / 5, "registers", |seed| {
        run(Scenario::registers(seed))
    });
}

#[test]
#[cfg(not(planted_bugs))]
fn one_of_two_that_met_again_does_not_go_on_before_it_caught_up() {
    each_seed(SEEDS / 20, "split", split::run);
}

#[test]
#[cfg(not(planted_bugs))]
fn pages_hold_what_was_acknowledged() {
    each_seed(SEEDS / 10, "lists", |seed| run(Scenario::lists(seed)));
}

#[test]
#[cfg(not(planted_bugs))]
fn watchers_miss_no_newest_version() {
    each_seed(SEEDS / 10, "watches", |seed| run(Scenario::watches(seed)));
}

/// Members of the large ring, unless `ROUNDELAY_MEMBERS` says otherwise.
#[cfg(not(planted_bugs))]
const MEMBERS: usize = 200;

#[test]
#[cfg(not(planted_bugs))]
fn pages_come_and_go_all_day() {
    each_seed(SEEDS / 20, "churn", |seed| {
        churn::run(&churn::Churn::mixed(seed)).map(drop)
    });
}

#[test]
#[cfg(not(planted_bugs))]
fn who_joins_finds_its_place_at_once() {
    each_seed(SEEDS / 50, "joins", |seed| {
        churn::run(&churn::Churn::of(24, seed)).map(drop)
    });
}

#[test]
#[cfg(not(planted_bugs))]
fn a_large_ring_stays_whole() {
    large(&churn::Lost {
        frames: 0.0,
        datagrams: 0.0,
    });
}

/// `ROUNDELAY_LOSS=5` loses so many frames of a hundred instead of one, and
/// `ROUNDELAY_RESENT=1` has links send so many again.
#[test]
#[cfg(not(planted_bugs))]
fn a_large_ring_hides_what_is_lost() {
    large(&churn::Lost {
        frames: number("ROUNDELAY_LOSS", 1.0) / 100.0,
        datagrams: number("ROUNDELAY_RESENT", 0.0) / 100.0,
    });
}

#[cfg(not(planted_bugs))]
fn large(lost: &churn::Lost) {
    let members = number("ROUNDELAY_MEMBERS", MEMBERS);
    let seed = number("ROUNDELAY_SEED", 0);
    let started = std::time::Instant::now();
    let report = churn::run(&churn::Churn::lossy(members, seed, lost)).unwrap();
    println!("large, {lost:?}: {report:#?} in {:.1?}", started.elapsed());
    let failed = report.gets_failed * 1000;
    assert!(failed <= report.gets, "more than one in a thousand");
    // Of more that is lost the figures are only told.
    let slow = report.p99_ms > 3.0 * report.p50_ms;
    assert!(!slow || lost.frames + lost.datagrams > 0.01, "slow lookups");
}

/// What the environment says, or else.
#[cfg(not(planted_bugs))]
fn number<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    let Ok(text) = std::env::var(name) else {
        return otherwise;
    };
    let number = text.parse();
    number.unwrap_or_else(|_| panic!("{name}: {text:?}"))
}

/// Every known bug, planted, is caught: by some seed, and by the checker that
/// is there for it. `ROUNDELAY_BUG` names one alone.
#[test]
#[cfg(planted_bugs)]
fn planted_bugs_are_caught() {
    use roundelay_core::planted::{BUGS, plant};
    type Run = fn(u64) -> Result<(), String>;
    let general: Run = |seed| run(Scenario::general(seed));
    let lost_disk: Run = |seed| run(Scenario::lost_disk(seed));
    let moves: Run = |seed| run(Scenario::moves(seed));
    let partitions: Run = |seed| run(Scenario::partitions(seed));
    let registers: Run = |seed| run(Scenario::registers(seed));
    let lists: Run = |seed| run(Scenario::lists(seed));
    let watches: Run = |seed| run(Scenario::watches(seed));
    let joins: Run = |seed| churn::run(&churn::Churn::of(24, seed)).map(drop);
    let expected: [(&str, Run, &str); 22] = [
        ("no_rectify", general, "predecessor"),
        ("vote_from_other_view", lost_disk, "was acknowledged"),
        ("fill_from_one", lost_disk, "was acknowledged"),
        ("reply_before_sync", general, "is not on a majority"),
        ("drop_before_taken", moves, "before it was taken"),
        ("two_change_a_view", partitions, "forks"),
        ("no_wrap_around", general, "successors"),
        ("dead_imported", general, "who is gone"),
        ("stale_ballot", registers, "not linearizable"),
        ("retry_applied_twice", registers, "not linearizable"),
        ("wrong_join", joins, "in the wrong place"),
        ("alone_without_agreement", split::run, "was acknowledged"),
        ("list_from_one", lists, "lists "),
        ("expires_by_local_clock", expiry::run, "came back"),
        ("watch_goes_on", watches, "watching"),
        ("tombstone_early", graves::run, "came back"),
        ("reply_before_majority", general, "is not on a majority"),
        ("vote_before_refill", lost_disk, "was acknowledged"),
        ("hint_dropped", general, "copies of"),
        ("answer_resends_nothing", streams::run, "stands still"),
        ("repeat_is_taken", streams::run, "a wrong byte"),
        ("old_session_goes_on", streams::restart, "took part"),
    ];
    assert_eq!(expected.map(|(bug, _, _)| bug), BUGS);
    let one = std::env::var("ROUNDELAY_BUG").ok();
    for (bug, run, words) in expected {
        if one.as_deref().is_some_and(|one| one != bug) {
            continue;
        }
        plant(Some(bug));
        let caught = (0..4 * SEEDS).find_map(|seed| {
            let error = run(seed).err()?;
            error.contains(words).then_some((seed, error))
        });
        plant(None);
        let (seed, error) = caught.unwrap_or_else(|| panic!("{bug} was not caught"));
        assert_eq!(run(seed), Ok(()), "seed {seed} fails without {bug}, too");
        println!("{bug}: caught by seed {seed}: {error}");
    }
}

/// A seed that takes longer is named.
#[cfg(not(planted_bugs))]
const SLOW: std::time::Duration = std::time::Duration::from_secs(20);

#[cfg(not(planted_bugs))]
fn each_seed(count: u64, name: &str, run: fn(u64) -> Result<(), String>) {
    let seeds: Vec<u64> = seeds(count).collect();
    let started = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ran = std::sync::atomic::AtomicUsize::new(0);
    let failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let own: Vec<u64> = seeds
                    .iter()
                    .copied()
                    .skip(worker)
                    .step_by(threads)
                    .collect();
                let ran = &ran;
                scope.spawn(move || {
                    let failed = own.into_iter().map(|seed| {
                        ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let begun = std::time::Instant::now();
                        let result = run(seed);
                        if begun.elapsed() > SLOW {
                            println!("{name}: seed {seed} took {:.1?}", begun.elapsed());
                        }
                        (seed, result)
                    });
                    failed
                        .filter_map(|(seed, result)| Some((seed, result.err()?)))
                        .take(3)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let failures = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap());
        failures.collect()
    });
    let took = started.elapsed();
    // Whoever found three failures runs no further.
    let ran = ran.into_inner();
    println!("{name}: {ran} seeds of {} in {took:.1?}", seeds.len());
    let (all, all_took) = add_up(ran, took);
    println!("  {all} seeds so far, in {all_took:.1?}");
    for (seed, failure) in &failures {
        println!("{name}: seed {seed}: {failure}");
        println!("  ROUNDELAY_SEED={seed} cargo test -p roundelay-core --release --test sim");
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
}

/// Adds to the seeds that this process ran, and to the time that they took:
/// one scenario after another with `--test-threads=1`.
#[cfg(not(planted_bugs))]
fn add_up(seeds: usize, took: std::time::Duration) -> (usize, std::time::Duration) {
    static ALL: std::sync::Mutex<(usize, std::time::Duration)> =
        std::sync::Mutex::new((0, std::time::Duration::ZERO));
    let mut all = ALL.lock().unwrap();
    all.0 += seeds;
    all.1 += took;
    *all
}

/// The seed that `ROUNDELAY_SEED` names, else those of `ROUNDELAY_SEEDS`: so
/// many, or from one up to another (`1000..3000`).
#[cfg(not(planted_bugs))]
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |text: &str| -> u64 {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("ROUNDELAY_SEED or ROUNDELAY_SEEDS: {text:?}"))
    };
    if let Ok(seed) = std::env::var("ROUNDELAY_SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    let Ok(text) = std::env::var("ROUNDELAY_SEEDS") else {
        return 0..count;
    };
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&text),
    }
}
