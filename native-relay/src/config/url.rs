//! The URLs of relays.

use std::fmt;
use std::str::FromStr;

use axum::http::Uri;

/// Where a relay's WebSocket is: a `ws://` or `wss://` URL with a path.
///
/// Read from `http://`, `https://`, `ws://`, `wss://` or a bare `host:port`;
/// without a path it is `/ws`.
///
/// ```
/// use roundelay::config::RelayUrl;
///
/// let url: RelayUrl = "http://relay.example:9999".parse()?;
/// assert_eq!(url.as_str(), "ws://relay.example:9999/ws");
/// # Ok::<(), roundelay::config::UrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayUrl(String);

/// Why a text is no [`RelayUrl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Its scheme is another.
    #[error("a relay's URL begins with http://, https://, ws:// or wss://")]
    Scheme,
    /// It names no host, or a user, or is no URL at all.
    #[error("a relay's URL looks like http://relay.example:9999")]
    Form,
    /// It has a query or fragment.
    #[error("a relay's URL has no '?' and no '#'")]
    Query,
}

impl RelayUrl {
    /// The URL's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelayUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "http" | "ws" => ("ws", rest),
                "https" | "wss" => ("wss", rest),
                _ => return Err(UrlError::Scheme),
            },
            None => ("ws", text),
        };
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let uri: Uri = format!("{scheme}://{rest}")
            .parse()
            .map_err(|_| UrlError::Form)?;
        let authority = uri.authority().ok_or(UrlError::Form)?;
        let port = authority
            .as_str()
            .strip_prefix(authority.host())
            .unwrap_or_default();
        let port_is_good = port.is_empty() || authority.port_u16().is_some_and(|port| port > 0);
        if authority.host().is_empty() || authority.as_str().contains('@') || !port_is_good {
            return Err(UrlError::Form);
        }
        let path = match uri.path() {
            "" | "/" => "/ws",
            path => path,
        };
        Ok(Self(format!("{scheme}://{authority}{path}")))
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_websocket_urls() {
        for (text, expected) in [
            ("http://relay.example:9999", "ws://relay.example:9999/ws"),
            ("HTTPS://relay.example/", "wss://relay.example/ws"),
            ("ws://127.0.0.1:9999/ws", "ws://127.0.0.1:9999/ws"),
            (
                "wss://relay.example/some/path",
                "wss://relay.example/some/path",
            ),
            ("relay.example:9999", "ws://relay.example:9999/ws"),
            ("localhost", "ws://localhost/ws"),
            ("[::1]:9999", "ws://[::1]:9999/ws"),
        ] {
            let url = text.parse::<RelayUrl>().map(|url| url.to_string());
            assert_eq!(url.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn others_are_refused_by_reason() {
        for (text, error) in [
            ("ftp://relay.example", UrlError::Scheme),
            ("://relay.example", UrlError::Scheme),
            ("http://relay.example/?a", UrlError::Query),
            ("http://relay.example/#a", UrlError::Query),
            ("", UrlError::Form),
            ("http://", UrlError::Form),
            ("http:///ws", UrlError::Form),
            ("http://user@relay.example", UrlError::Form),
            ("http://relay.example:99999", UrlError::Form),
            ("http://relay.example:0", UrlError::Form),
            ("http://relay.example:", UrlError::Form),
            ("relay example", UrlError::Form),
        ] {
            assert_eq!(text.parse::<RelayUrl>(), Err(error), "{text}");
        }
    }
}
