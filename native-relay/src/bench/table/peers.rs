//! What others took for the same: on a machine of this kind on 22 November 2026, called
//! by the same client, median of three rounds. BENCHMARKS.md says how.

/// One that keeps keys on three processes, and its figures for one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Of one call at a time, the median.
    pub(super) micros: f64,
    /// A second, with 64 at once.
    pub(super) rate: f64,
}

const fn etcd(micros: f64, rate: f64) -> Option<Peer> {
    let name = "etcd";
    Some(Peer { name, micros, rate })
}

const fn libp2p(micros: f64, rate: f64) -> Option<Peer> {
    let name = "libp2p-kad";
    Some(Peer { name, micros, rate })
}

/// The peer that promises the most like it: etcd (3.4.23, JSON gateway) syncs its
/// writes, and a read of a member's own copy is `one`; libp2p's Kademlia (0.57.1, three
/// copies, a majority) keeps in memory.
pub(super) fn peer(operation: &str, mode: &str, size: u32, medium: &str) -> Option<Peer> {
    match (operation, mode, medium, size) {
        ("put", "linearizable", "synced", 100) => etcd(342.0, 11_400.0),
        ("put", "linearizable", "synced", _) => etcd(777.0, 3_100.0),
        ("get", "linearizable", "synced", 100) => etcd(208.0, 10_800.0),
        ("get", "linearizable", "synced", _) => etcd(214.0, 9_100.0),
        ("get", "one", "synced", 100) => etcd(110.0, 14_400.0),
        ("get", "one", "synced", _) => etcd(132.0, 12_000.0),
        ("put", "quorum", "memory", 100) => libp2p(577.0, 2_700.0),
        ("put", "quorum", "memory", _) => libp2p(623.0, 2_400.0),
        ("get", "quorum", "memory", 100) => libp2p(305.0, 4_200.0),
        ("get", "quorum", "memory", _) => libp2p(328.0, 3_700.0),
        _ => None,
    }
}
