//! Addresses: which of ours a peer is told, and which of its we try.

use std::net::{IpAddr, SocketAddr};

use rtc::peer_connection::transport::RTCIceCandidateInit;

/// Candidates of one description, and of one link in all, that are tried;
/// more are ignored. Every one is sent checks, so a description must not turn
/// this node against many hosts.
pub(super) const MAX_REMOTE: usize = 16;

/// Host candidates that we offer.
const MAX_LOCAL: usize = 8;

/// The addresses at which this socket may be reached. Bound to a wildcard,
/// those are the addresses of the interfaces (by the crate `if-addrs`: std
/// has no call for them, and this crate allows no unsafe code).
pub(super) fn local_addresses(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let mut ips: Vec<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .filter(if_addrs::Interface::is_oper_up)
        .map(|interface| interface.ip())
        .filter(|ip| (bound.is_ipv6() || ip.is_ipv4()) && is_offerable(*ip))
        .collect();
    // Loopback goes last, so that of equal paths a real one is nominated.
    ips.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    ips.dedup();
    ips.truncate(MAX_LOCAL);
    ips.into_iter()
        .map(|ip| SocketAddr::new(ip, bound.port()))
        .collect()
}

/// Link-local addresses need a scope, which a candidate has no room for.
fn is_offerable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// The candidate line of a local address, the `rank`th in preference.
pub(super) fn host_line(address: SocketAddr, rank: u16) -> String {
    // RFC 8445 §5.1.2.1, with the type preference of host candidates.
    let priority = (126 << 24) | (u32::from(u16::MAX - rank) << 8) | 255;
    format!(
        "candidate:{} 1 udp {priority} {} {} typ host",
        rank + 1,
        address.ip(),
        address.port()
    )
}

/// A candidate line as `rtc` takes it.
pub(super) fn init(line: String) -> RTCIceCandidateInit {
    RTCIceCandidateInit {
        candidate: line,
        ..RTCIceCandidateInit::default()
    }
}

/// What a peer's candidate line is good for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// To be tried.
    Usable,
    /// Well formed, but nothing for us: TCP, an mDNS name (its owner reaches
    /// us, and becomes a peer-reflexive candidate), no unicast address.
    Useless,
    /// Not a candidate.
    Malformed,
}

/// Judges a candidate line (RFC 8839 §5.1), with or without its `candidate:`.
pub(super) fn judge(line: &str) -> Remote {
    let line = line.trim().trim_start_matches("candidate:");
    if line.is_empty() {
        // A browser's end of candidates.
        return Remote::Useless;
    }
    let mut fields = line.split_ascii_whitespace();
    let mut field = || fields.next().unwrap_or_default();
    let (_foundation, component, transport) = (field(), field(), field());
    let (priority, address, port) = (field(), field(), field());
    let (typ, kind) = (field(), field());
    let (Ok(component), Ok(_), Ok(port)) = (
        component.parse::<u16>(),
        priority.parse::<u32>(),
        port.parse::<u16>(),
    ) else {
        return Remote::Malformed;
    };
    if typ != "typ" || kind.is_empty() {
        return Remote::Malformed;
    }
    let known = matches!(kind, "host" | "srflx" | "prflx" | "relay");
    let address = address.parse::<IpAddr>();
    if known
        && component == 1
        && port != 0
        && transport.eq_ignore_ascii_case("udp")
        && address.is_ok_and(is_unicast)
    {
        Remote::Usable
    } else {
        Remote::Useless
    }
}

fn is_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast && is_offerable(ip)
}

/// Rids a session description of the candidates that are not to be tried.
/// Answers the rest and how many candidates it keeps; `None` if a candidate
/// is malformed.
pub(super) fn filter_description(text: &str) -> Option<(String, usize)> {
    let mut kept = 0;
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if let Some(candidate) = line.strip_prefix("a=candidate:") {
            match judge(candidate) {
                Remote::Usable if kept < MAX_REMOTE => kept += 1,
                Remote::Usable | Remote::Useless => continue,
                Remote::Malformed => return None,
            }
        }
        out.push_str(line);
        out.push_str("\r\n");
    }
    Some((out, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lines_are_usable() {
        for address in ["127.0.0.1:9", "192.0.2.7:65535", "[fd00::2]:4"] {
            let address = address.parse().expect("an address");
            assert_eq!(judge(&host_line(address, 3)), Remote::Usable);
        }
    }

    #[test]
    fn names_tcp_and_multicast_are_passed_over() {
        for line in [
            "1 1 udp 2113937151 6d2c8a5e-1b1f.local 51443 typ host generation 0",
            "1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
            "1 1 udp 1 224.0.0.1 5 typ host",
            "1 2 udp 1 192.0.2.7 5 typ host",
            "1 1 udp 1 192.0.2.7 0 typ host",
            "1 1 udp 1 fe80::1 5 typ host",
            "",
        ] {
            assert_eq!(judge(line), Remote::Useless, "{line}");
        }
    }

    #[test]
    fn nonsense_is_malformed() {
        for line in [
            "x",
            "1 1 udp many 192.0.2.7 5 typ host",
            "1 1 udp 1 a 5 host",
        ] {
            assert_eq!(judge(line), Remote::Malformed, "{line}");
        }
    }

    #[test]
    fn a_description_keeps_a_bounded_number_of_candidates() {
        let mut text = String::from("v=0\r\n");
        for port in 1..100 {
            text += &format!("a=candidate:1 1 udp 1 192.0.2.7 {port} typ host\r\n");
        }
        let (kept, count) = filter_description(&text).expect("well formed");
        assert_eq!(count, MAX_REMOTE);
        assert_eq!(kept.lines().count(), MAX_REMOTE + 1);
    }
}
