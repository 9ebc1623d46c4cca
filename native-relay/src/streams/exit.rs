//! Exits to the plain internet: only what is named, and nothing that is not public
//! unless its address is named.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What may be reached: `HOST:PORT`; a host or a port may be `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// Any, if its address is public.
    Any,
    /// This one, as it is.
    Address(IpAddr),
    /// This one, if its address is public.
    Named(String),
}

/// A text names no exit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no exit: write HOST:PORT, as in example.org:443 or 10.0.0.7:80; * is any")]
pub struct ExitError(String);

impl FromStr for Exit {
    type Err = ExitError;

    fn from_str(text: &str) -> Result<Self, ExitError> {
        let bad = || ExitError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().map_err(|_| bad())?),
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse();
        let host = match (host, address) {
            ("", _) => return Err(bad()),
            (host, _) if host.contains(':') && !host.starts_with('[') => return Err(bad()),
            ("*", _) => Host::Any,
            (_, Ok(address)) => Host::Address(IpAddr::to_canonical(&address)),
            (host, Err(_)) if host.contains([':', '[']) => return Err(bad()),
            (host, Err(_)) => Host::Named(host.to_ascii_lowercase()),
        };
        Ok(Self { host, port })
    }
}

impl Display for Exit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Address(address) => write!(f, "{address}")?,
            Host::Named(name) => f.write_str(name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

/// Which of the addresses that a host has may be reached: where it was asked for by
/// name, all that are public, or named themselves.
pub(super) fn allowed(exits: &[Exit], host: Option<&str>, found: &[SocketAddr]) -> Vec<SocketAddr> {
    let may = |address: &&SocketAddr| {
        let ip = address.ip().to_canonical();
        exits.iter().any(|exit| {
            let port = exit.port.is_none_or(|port| port == address.port());
            let matches = match &exit.host {
                Host::Any => is_public(ip),
                Host::Address(named) => *named == ip,
                Host::Named(name) => {
                    host.is_some_and(|host| host.eq_ignore_ascii_case(name)) && is_public(ip)
                }
            };
            port && matches
        })
    };
    found.iter().filter(may).copied().collect()
}

/// Whether an address is one of the plain internet (RFC 6890 and its registries).
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_multicast()
        || ip.is_documentation();
    // This network, shared space, protocol assignments, benchmarking, reserved.
    let reserved = a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !special && !reserved
}

/// Global unicast alone, and of it nothing that leads to an IPv4 address.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let is_global = first & 0xe000 == 0x2000;
    let is_6to4 = first == 0x2002;
    // Teredo, documentation and others of 2001::/23, 2001:db8::/32 and 3fff::/20.
    let is_special = (first == 0x2001 && (second < 0x0200 || second == 0x0db8))
        || (first == 0x3fff && second < 0x1000);
    is_global && !is_6to4 && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits(texts: &[&str]) -> Vec<Exit> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn is_allowed(exits: &[Exit], host: Option<&str>, address: &str) -> bool {
        !allowed(exits, host, &[address.parse().unwrap()]).is_empty()
    }

    #[test]
    fn nothing_private_is_reached_by_a_name_or_by_any() {
        let all = exits(&["*:*", "inside.example:80"]);
        for private in [
            "127.0.0.1:80",
            "10.1.2.3:80",
            "172.16.0.1:80",
            "192.168.1.1:80",
            "169.254.169.254:80",
            "100.64.0.1:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::1]:80",
            "[::]:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::7f00:1]:80",
            "[2002:7f00:1::]:80",
        ] {
            assert!(!is_allowed(&all, None, private), "{private}");
            assert!(
                !is_allowed(&all, Some("inside.example"), private),
                "{private}"
            );
        }
        for public in [
            "93.184.215.14:80",
            "[2606:2800::1]:80",
            "[::ffff:8.8.8.8]:80",
        ] {
            assert!(is_allowed(&all, None, public), "{public}");
        }
    }

    #[test]
    fn what_is_named_is_reached_and_nothing_else() {
        let some = exits(&["example.org:443", "10.0.0.7:80", "[::1]:8080"]);
        assert!(is_allowed(&some, Some("Example.org"), "93.184.215.14:443"));
        assert!(!is_allowed(&some, Some("example.org"), "93.184.215.14:80"));
        assert!(!is_allowed(&some, Some("other.org"), "93.184.215.14:443"));
        assert!(!is_allowed(&some, None, "93.184.215.14:443"));
        assert!(is_allowed(&some, None, "10.0.0.7:80"));
        assert!(is_allowed(&some, None, "[::ffff:10.0.0.7]:80"));
        assert!(!is_allowed(&some, None, "10.0.0.8:80"));
        assert!(is_allowed(&some, None, "[::1]:8080"));
        assert!(!is_allowed(&[], None, "93.184.215.14:443"));
        for bad in ["", "host", ":80", "host:port", "::1:80"] {
            let error = bad.parse::<Exit>().unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }
}
