//! Keys and modes from a request's target, read strictly.

use std::borrow::Cow;

use axum::http::{HeaderMap, Uri, header};
use roundelay_core::kvs::{Condition, KEY_LEN_MAX, Key, KeyError, Mode, Terms, Ttl};

use super::error::Refusal;

/// The key after `prefix` in the target's path: percent-decoded exactly once,
/// nothing else done to it. Slashes, empty segments and dots are part of it.
pub(super) fn key(uri: &Uri, prefix: &str) -> Result<Key, Refusal> {
    let encoded = uri.path().strip_prefix(prefix).unwrap_or_default();
    let text = text(encoded).map_err(|flaw| Refusal::bad_key(flaw.of("key")))?;
    let len = text.len();
    Key::new(text).map_err(|error| match error {
        KeyError::Empty => Refusal::bad_key("the key is empty; name one: /v1/kv/bucket/name"),
        KeyError::TooLong | KeyError::NotUtf8 => Refusal::bad_key(format!(
            "the key has {len} bytes; at most {KEY_LEN_MAX} are allowed"
        )),
    })
}

/// What is wrong with an encoded text.
#[derive(Clone, Copy, Debug)]
pub(super) enum TextFlaw {
    Percent,
    NotUtf8,
}

impl TextFlaw {
    /// In words, for something of this name.
    pub(super) fn of(self, name: &str) -> String {
        match self {
            Self::Percent => {
                format!("a % in the {name} must be followed by two hexadecimal digits")
            }
            Self::NotUtf8 => format!("the {name} is not UTF-8 after percent-decoding"),
        }
    }
}

/// A text, percent-decoded exactly once.
pub(super) fn text(encoded: &str) -> Result<String, TextFlaw> {
    let bytes = percent_decode(encoded.as_bytes()).ok_or(TextFlaw::Percent)?;
    String::from_utf8(bytes.into_owned()).map_err(|_| TextFlaw::NotUtf8)
}

/// The mode and time to live in the target's query, and the condition among the
/// headers.
/// Everything else in either is refused, never ignored.
pub(super) fn terms(uri: &Uri, headers: &HeaderMap) -> Result<Terms, Refusal> {
    let condition = condition(headers)?;
    let (mut mode, mut ttl) = (None, None);
    for pair in uri.query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "" if value.is_empty() => {}
            "mode" if mode.is_some() => {
                return Err(Refusal::bad_mode("mode is given twice"));
            }
            "mode" => mode = Some(mode_named(value)?),
            "ttl" if ttl.is_some() => return Err(Refusal::bad_ttl("ttl is given twice")),
            "ttl" => ttl = Some(value.parse::<Ttl>().map_err(Refusal::bad_ttl)?),
            other => return Err(Refusal::bad_query(other)),
        }
    }
    with_condition(mode, condition, ttl)
}

/// A condition implies its mode, and goes with no other.
pub(super) fn with_condition(
    mode: Option<Mode>,
    condition: Option<Condition>,
    ttl: Option<Ttl>,
) -> Result<Terms, Refusal> {
    if condition.is_some() && matches!(mode, Some(Mode::One | Mode::Quorum)) {
        let message = "a condition needs the mode linearizable; leave the mode out";
        return Err(Refusal::bad_mode(message));
    }
    let implied = condition.map_or_else(Mode::default, |_| Mode::Linearizable);
    Ok(Terms {
        mode: mode.unwrap_or(implied),
        condition,
        ttl,
    })
}

/// `If-Match` with one version in quotes, or `If-None-Match: *`.
fn condition(headers: &HeaderMap) -> Result<Option<Condition>, Refusal> {
    let mut conditions = Vec::new();
    for value in headers.get_all(header::IF_MATCH) {
        let text = value.to_str().unwrap_or_default().trim();
        let quoted = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let version = quoted.and_then(|text| text.parse().ok()).ok_or_else(|| {
            Refusal::bad_condition(
                "If-Match takes one version in quotes, as an ETag of this node gives it",
            )
        })?;
        conditions.push(Condition::Version(version));
    }
    for value in headers.get_all(header::IF_NONE_MATCH) {
        if value.to_str().unwrap_or_default().trim() != "*" {
            let message = "If-None-Match takes * alone: the key must have no value";
            return Err(Refusal::bad_condition(message));
        }
        conditions.push(Condition::Absent);
    }
    if conditions.len() > 1 {
        return Err(Refusal::bad_condition("one condition at a time; give one"));
    }
    Ok(conditions.pop())
}

/// Refuses every query, for calls that take none.
pub(super) fn no_query(uri: &Uri) -> Result<(), Refusal> {
    match uri.query() {
        None | Some("") => Ok(()),
        Some(query) => Err(Refusal::bad_query(query)),
    }
}

pub(super) fn mode_named(name: &str) -> Result<Mode, Refusal> {
    Mode::named(name).ok_or_else(|| Refusal::bad_mode("mode is one, quorum or linearizable"))
}

/// `None` where a `%` is not followed by two hexadecimal digits.
fn percent_decode(encoded: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !encoded.contains(&b'%') {
        return Some(Cow::Borrowed(encoded));
    }
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            decoded.push(*first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return None;
        };
        decoded.push(u8::try_from(hex(*high)? * 16 + hex(*low)?).ok()?);
        rest = tail;
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(path: &str) -> Option<String> {
        let uri: Uri = path.parse().unwrap();
        key(&uri, "/v1/kv/").ok().map(String::from)
    }

    #[test]
    fn keys_are_decoded_once_and_left_alone() {
        for (path, expected) in [
            ("/v1/kv/a", "a"),
            ("/v1/kv/a/b//c/", "a/b//c/"),
            ("/v1/kv//a", "/a"),
            ("/v1/kv/a%2Fb%2fc", "a/b/c"),
            ("/v1/kv/%2e%2e/../x", "../../x"),
            ("/v1/kv/%2541", "%41"),
            ("/v1/kv/a+b%20c%00", "a+b c\0"),
            ("/v1/kv/%E2%99%AB", "\u{266b}"),
            ("/v1/kv/a?mode=one", "a"),
        ] {
            assert_eq!(key_of(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn bad_keys_are_refused() {
        for path in [
            "/v1/kv/",
            "/v1/kv/%",
            "/v1/kv/a%2",
            "/v1/kv/%zz",
            "/v1/kv/%+1",
            "/v1/kv/%ff",
            "/v1/kv/%C3",
        ] {
            assert_eq!(key_of(path), None, "{path}");
        }
        let long = "%61".repeat(KEY_LEN_MAX);
        assert!(key_of(&format!("/v1/kv/{long}")).is_some());
        assert!(key_of(&format!("/v1/kv/{long}b")).is_none());
    }

    #[test]
    fn only_what_is_built_is_taken() {
        let of = |query: &str| {
            let uri: Uri = format!("/v1/kv/a{query}").parse().unwrap();
            let terms = terms(&uri, &HeaderMap::new());
            terms
                .map(|terms| terms.mode)
                .map_err(|refusal| refusal.code)
        };
        assert_eq!(of(""), Ok(Mode::Quorum));
        assert_eq!(of("?"), Ok(Mode::Quorum));
        assert_eq!(of("?mode=one"), Ok(Mode::One));
        assert_eq!(of("?mode=quorum&"), Ok(Mode::Quorum));
        assert_eq!(of("?mode=linearizable"), Ok(Mode::Linearizable));
        assert_eq!(of("?ttl=5"), Ok(Mode::Quorum));
        assert_eq!(of("?ttl=5&mode=one"), Ok(Mode::One));
        assert_eq!(of("?ttl=5&ttl=5"), Err("bad_ttl"));
        for bad in ["", "0", "-1", "1.5", "5s", "315360001"] {
            assert_eq!(of(&format!("?ttl={bad}")), Err("bad_ttl"), "{bad}");
        }
        assert_eq!(of("?mode=all"), Err("bad_mode"));
        assert_eq!(of("?mode="), Err("bad_mode"));
        assert_eq!(of("?mode=one&mode=one"), Err("bad_mode"));
        assert_eq!(of("?modus=one"), Err("bad_query"));
        assert_eq!(of("?=x"), Err("bad_query"));
    }

    #[test]
    fn conditions_are_read_strictly() {
        let of = |query: &str, headers: &[(header::HeaderName, &str)]| {
            let uri: Uri = format!("/v1/kv/a{query}").parse().unwrap();
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name, value.parse().unwrap());
            }
            terms(&uri, &map).map_err(|refusal| refusal.code)
        };
        let (matches, none) = (header::IF_MATCH, header::IF_NONE_MATCH);
        let version = "a.19a2b3c4d5e60000-0123456789abcdef";
        let quoted = format!("\"{version}\"");
        for query in ["", "?mode=linearizable"] {
            let terms = of(query, &[(matches.clone(), &quoted)]).unwrap();
            let condition = Condition::Version(version.parse().unwrap());
            assert_eq!(terms.condition, Some(condition));
            assert_eq!(terms.mode, Mode::Linearizable);
            let terms = of(query, &[(none.clone(), "*")]).unwrap();
            assert_eq!(terms.condition, Some(Condition::Absent));
        }
        let one = [(matches.clone(), quoted.as_str())];
        assert_eq!(of("?mode=quorum", &one), Err("bad_mode"));
        assert_eq!(of("?mode=one", &one), Err("bad_mode"));
        for bad in ["*", "", version, "W/\"1-1\"", "\"x\"", "\"1-1\", \"2-2\""] {
            assert_eq!(
                of("", &[(matches.clone(), bad)]),
                Err("bad_condition"),
                "{bad}"
            );
        }
        for bad in ["", "\"1-1\"", "**"] {
            assert_eq!(
                of("", &[(none.clone(), bad)]),
                Err("bad_condition"),
                "{bad}"
            );
        }
        let both = [(matches, quoted.as_str()), (none, "*")];
        assert_eq!(of("", &both), Err("bad_condition"));
    }
}
