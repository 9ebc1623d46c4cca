//! Who may ask: the check of `Host` and of the bearer token.
//!
//! A page on any site can make a browser ask a node on the visitor's own
//! machine. It cannot read the answer (there are no CORS headers) unless it
//! rebinds its own name to the node's address; so a foreign name is refused,
//! with `421 Misdirected Request`: this server does not speak for that name
//! (RFC 9110, 15.5.20).

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::error::Refusal;
use super::{Options, State};

/// The secret that callers of a node show.
#[derive(Clone)]
pub struct Token(String);

/// Why a text is no [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is shorter than [`Token::LEN_MIN`].
    #[error(
        "a token has at least {} characters; make one: openssl rand -hex 32",
        Token::LEN_MIN
    )]
    TooShort,
    /// It holds what an HTTP header cannot.
    #[error(
        "a token holds printable ASCII characters without spaces; make one: openssl rand -hex 32"
    )]
    Unprintable,
}

impl Token {
    /// The shortest token that is taken.
    pub const LEN_MIN: usize = 16;

    /// Checks and keeps a token.
    ///
    /// # Errors
    /// When it is too short, or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unprintable);
        }
        if text.len() < Self::LEN_MIN {
            return Err(TokenError::TooShort);
        }
        Ok(Self(text.to_owned()))
    }

    /// The token's text, to send it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the same time wherever the two differ.
    fn is(&self, other: &str) -> bool {
        let differences = self.0.bytes().zip(other.bytes());
        let differences = differences.fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        self.0.len() == other.len() && std::hint::black_box(differences) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What the check needs to know.
pub(super) struct Guard {
    listen: SocketAddr,
    allow_hosts: Vec<String>,
    token: Option<Token>,
}

/// Lets a request pass, or answers it.
pub(super) async fn check(state: State, request: Request, next: Next) -> Response {
    match state.guard.admits(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.answer(&state.counters),
    }
}

impl Guard {
    pub(super) fn new(listen: SocketAddr, options: Options) -> Self {
        let lowered = options
            .allow_hosts
            .iter()
            .map(|host| host.to_ascii_lowercase());
        Self {
            listen,
            allow_hosts: lowered.collect(),
            token: options.token,
        }
    }

    fn admits(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        // HTTP/2 and absolute targets name the host in the target.
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (uri.authority(), hosts.next(), hosts.next()) {
            (Some(authority), ..) => authority.as_str(),
            (None, Some(host), None) => host.to_str().unwrap_or_default(),
            _ => "",
        };
        if !self.knows_host(host) {
            return Err(Refusal::foreign_host(host));
        }
        let Some(token) = &self.token else {
            return Ok(());
        };
        // Health checks come from machines that hold no secrets.
        if matches!(uri.path(), "/healthz" | "/readyz") {
            return Ok(());
        }
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match shown {
            Some((_, shown)) if token.is(shown.trim()) => Ok(()),
            _ => Err(Refusal::unauthorized()),
        }
    }

    fn knows_host(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority
            .host()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let allowed = |allowed: &String| {
            *allowed == name || *allowed == authority.as_str().to_ascii_lowercase()
        };
        if self.allow_hosts.iter().any(allowed) {
            return true;
        }
        if authority.as_str().contains('@')
            || authority.port_u16().unwrap_or(80) != self.listen.port()
        {
            return false;
        }
        let ours = self.listen.ip().to_canonical();
        match name.parse::<IpAddr>() {
            // An address is no name that could be bound anew: where we listen
            // on all, any of them may be ours.
            Ok(ip) => {
                let ip = ip.to_canonical();
                ours.is_unspecified() || ip == ours || (ip.is_loopback() && ours.is_loopback())
            }
            Err(_) => name == "localhost" && (ours.is_loopback() || ours.is_unspecified()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(listen: &str, allow: &[&str]) -> Guard {
        let options = Options {
            allow_hosts: allow.iter().map(|host| (*host).to_owned()).collect(),
            token: None,
        };
        Guard::new(listen.parse().unwrap(), options)
    }

    #[test]
    fn a_local_listener_knows_its_names() {
        let guard = guard("127.0.0.1:9101", &["node.example", "other.example:80"]);
        for host in [
            "127.0.0.1:9101",
            "localhost:9101",
            "LOCALHOST:9101",
            "[::1]:9101",
            "node.example",
            "Node.Example:1",
            "other.example:80",
        ] {
            assert!(guard.knows_host(host), "{host}");
        }
        for host in [
            "",
            "127.0.0.1",
            "127.0.0.1:9102",
            "evil.example",
            "evil.example:9101",
            "localhost.evil.example:9101",
            "10.0.0.1:9101",
            "user@127.0.0.1:9101",
            "other.example:81",
            "a b",
            "[::1",
            "127.0.0.1:9101, evil.example",
        ] {
            assert!(!guard.knows_host(host), "{host}");
        }
    }

    #[test]
    fn other_listeners_know_their_addresses() {
        let public = guard("192.0.2.1:80", &[]);
        assert!(public.knows_host("192.0.2.1") && public.knows_host("192.0.2.1:80"));
        assert!(!public.knows_host("localhost") && !public.knows_host("127.0.0.1"));
        let all = guard("[::]:9101", &[]);
        assert!(all.knows_host("10.1.2.3:9101") && all.knows_host("localhost:9101"));
        assert!(!all.knows_host("evil.example:9101"));
    }

    #[test]
    fn tokens_are_checked_and_not_shown() {
        assert_eq!(Token::new("short").unwrap_err(), TokenError::TooShort);
        assert_eq!(Token::new("a b").unwrap_err(), TokenError::Unprintable);
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is("0123456789abcdef"));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdeg",
            "0123456789abcdef0",
        ] {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
