//! A thousand keys, put and looked for again.

use super::{Member, Ring};

/// Many callers at once, as many nodes have.
const CALLERS: usize = 8;

/// What a numbered key is called.
pub(crate) fn key(number: usize) -> String {
    format!("k{number}/n")
}

/// What is put there.
pub(crate) fn value(number: usize) -> String {
    format!("value {number}")
}

/// Puts so many keys, by way of every member.
pub(crate) fn put_all(ring: &Ring, keys: usize) {
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let member = &ring.members[caller % ring.members.len()];
            scope.spawn(move || {
                for number in (caller..keys).step_by(CALLERS) {
                    let put = member.put(&key(number), value(number).as_bytes());
                    assert_eq!(put.status, 204, "{}", put.text());
                }
            });
        }
    });
}

/// The keys that a member does not read with their values.
pub(crate) fn lost(member: &Member, keys: usize) -> Vec<String> {
    let lost = |caller: usize| {
        let numbers = (caller..keys).step_by(CALLERS);
        let answers = numbers.map(|number| (number, member.get(&key(number))));
        let lost = answers.filter(|(number, get)| get.text() != value(*number));
        let told =
            lost.map(|(number, get)| format!("{}: {} {}", key(number), get.status, get.text()));
        told.collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let callers = (0..CALLERS).map(|caller| scope.spawn(move || lost(caller)));
        let callers: Vec<_> = callers.collect();
        let lost = callers.into_iter().map(|caller| caller.join().unwrap());
        lost.flatten().collect()
    })
}
