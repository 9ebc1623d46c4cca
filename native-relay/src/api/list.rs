//! `GET /v1/list/{bucket}`: a page of a bucket.

use axum::extract::Request;
use axum::http::Uri;
use axum::response::Response;
use roundelay_core::kvs::{List, ListError, Page, Reply};
use serde::Serialize;

use super::error::{Refusal, answer, json};
use super::kv::admit;
use super::{Api, State, path};

const PREFIX: &str = "/v1/list/";

pub(super) async fn list(state: State, request: Request) -> Response {
    let list = asked(request.uri());
    drop(request);
    answer(&state, list_or_refuse(&state, list).await)
}

async fn list_or_refuse(api: &Api, list: Result<List, Refusal>) -> Result<Response, Refusal> {
    let list = list?;
    let bucket = list.bucket().to_owned();
    let _permit = admit(api)?;
    match api.handle.list(list).await? {
        Reply::Listed(page) => Ok(json(&Body::of(&bucket, &page))),
        Reply::Failed(error) => Err(error.into()),
        _ => Err(Refusal::internal()),
    }
}

/// The bucket in the path, and where and how in the query: percent-decoded
/// exactly once, each given once.
fn asked(uri: &Uri) -> Result<List, Refusal> {
    let encoded = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let bucket = path::text(encoded).map_err(|flaw| Refusal::bad_bucket(flaw.of("bucket")))?;
    let mut list = List::new(&bucket)?;
    let mut given: Vec<&str> = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let again = given.contains(&name);
        list = match name {
            "" if value.is_empty() => continue,
            "after" if again => return Err(Refusal::bad_cursor("after is given twice")),
            "after" => {
                let after = path::text(value);
                list.with_after(&after.map_err(|flaw| Refusal::bad_cursor(flaw.of("after")))?)?
            }
            "limit" if again => return Err(Refusal::bad_limit("limit is given twice")),
            // What is no number is not within the limits, either.
            "limit" => list.with_limit(value.parse().unwrap_or_default())?,
            "mode" if again => return Err(Refusal::bad_mode("mode is given twice")),
            "mode" => list.with_mode(path::mode_named(value)?)?,
            other => return Err(Refusal::bad_query(other)),
        };
        given.push(name);
    }
    Ok(list)
}

impl From<ListError> for Refusal {
    fn from(error: ListError) -> Self {
        let words = error.to_string();
        match error {
            ListError::EmptyBucket | ListError::SlashInBucket | ListError::LongBucket => {
                Self::bad_bucket(words + ": /v1/list/bucket")
            }
            ListError::AfterElsewhere => Self::bad_cursor(words),
            ListError::Limit => Self::bad_limit(words),
            ListError::Linearizable => Self::bad_mode(words),
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    bucket: &'a str,
    keys: Vec<Named<'a>>,
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct Named<'a> {
    key: &'a str,
    version: String,
}

impl<'a> Body<'a> {
    fn of(bucket: &'a str, page: &'a Page) -> Self {
        let named = page.keys.iter().map(|(key, version)| Named {
            key: key.as_str(),
            version: version.to_string(),
        });
        Self {
            bucket,
            keys: named.collect(),
            next: page.next.as_ref().map(|key| key.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_sense_is_asked() {
        let of = |target: &str| {
            let uri: Uri = format!("/v1/list/{target}").parse().unwrap();
            asked(&uri).map_err(|refusal| refusal.code)
        };
        let list = |bucket: &str| List::new(bucket).unwrap();
        assert_eq!(of("chat"), Ok(list("chat")));
        assert_eq!(of("chat?"), Ok(list("chat")));
        assert_eq!(of("a%20+b"), Ok(list("a +b")));
        let page = list("a").with_after("a/%b c").unwrap();
        let page = page.with_limit(7).unwrap();
        assert_eq!(of("a?after=a/%25b%20c&limit=7&mode=quorum"), Ok(page));
        for (target, code) in [
            ("", "bad_bucket"),
            ("a/", "bad_bucket"),
            ("a/b", "bad_bucket"),
            ("a%2Fb", "bad_bucket"),
            ("a%", "bad_bucket"),
            ("%ff", "bad_bucket"),
            (&"b".repeat(1025), "bad_bucket"),
            ("a?after=", "bad_cursor"),
            ("a?after=b/c", "bad_cursor"),
            ("a?after=%zz", "bad_cursor"),
            ("a?after=a/1&after=a/2", "bad_cursor"),
            ("a?limit=0", "bad_limit"),
            ("a?limit=1001", "bad_limit"),
            ("a?limit=-1", "bad_limit"),
            ("a?limit=", "bad_limit"),
            ("a?limit=1&limit=1", "bad_limit"),
            ("a?mode=linearizable", "bad_mode"),
            ("a?mode=all", "bad_mode"),
            ("a?mode=one&mode=one", "bad_mode"),
            ("a?from=a/1", "bad_query"),
        ] {
            assert_eq!(of(target), Err(code), "{target}");
        }
    }
}
