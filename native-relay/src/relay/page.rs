//! The page, embedded when the program is built (`build.rs`).

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

/// One file of the page.
struct File {
    /// Its path, without a slash at its start.
    path: &'static str,
    /// Its kind, for the browser.
    content_type: &'static str,
    /// Names its content, quotes included.
    etag: &'static str,
    /// Its name changes with its content.
    is_hashed: bool,
    /// What is in it.
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

const NOT_BUILT: &str = "<!doctype html>
<html lang=\"en\"><meta charset=\"utf-8\"><title>Roundelay</title>
<h1>This relay works, but was built without its page</h1>
<p>Nodes can attach to it. To see the ring here, build the page into the
program, and start that one: <code>cargo xtask build</code>, then
<code>target/release/roundelay relay</code>.</p>
</html>
";

/// Serves a file of the page.
pub(super) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    match FILES.iter().find(|file| file.path == path) {
        Some(file) => file.answer(&headers),
        None if FILES.is_empty() && path == "index.html" => {
            let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (html, NOT_BUILT).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such file here\n").into_response(),
    }
}

impl File {
    fn answer(&self, headers: &HeaderMap) -> Response {
        // index.html, and scripts that it names as they are, are asked for
        // anew each time, so that a new page never meets old parts.
        let caching = if self.is_hashed {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        };
        let about = [
            (header::ETAG, self.etag),
            (header::CACHE_CONTROL, caching),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        let known = headers.get(header::IF_NONE_MATCH);
        if known.is_some_and(|known| self.is_among(known)) {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        let kind = [(header::CONTENT_TYPE, self.content_type)];
        (about, kind, self.bytes).into_response()
    }

    fn is_among(&self, etags: &HeaderValue) -> bool {
        let mut etags = etags.to_str().unwrap_or_default().split(',');
        etags.any(|etag| etag.trim().trim_start_matches("W/") == self.etag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_there_is_told() {
        let ask =
            |method, path: &'static str| serve(method, Uri::from_static(path), HeaderMap::new());
        assert_eq!(ask(Method::GET, "/").await.status(), 200);
        assert_eq!(ask(Method::GET, "/../Cargo.toml").await.status(), 404);
        assert_eq!(ask(Method::POST, "/").await.status(), 405);
    }

    #[tokio::test]
    async fn files_are_cached_by_name_or_etag() {
        let file = |is_hashed| File {
            path: "a",
            content_type: "application/wasm",
            etag: "\"1\"",
            is_hashed,
            bytes: b"a",
        };
        let mut headers = HeaderMap::new();
        let hashed = file(true).answer(&headers);
        let caching = hashed.headers()[header::CACHE_CONTROL].to_str().unwrap();
        assert!(caching.contains("immutable"), "{caching}");
        assert_eq!(hashed.headers()[header::CONTENT_TYPE], "application/wasm");
        let plain = file(false).answer(&headers);
        assert_eq!(plain.headers()[header::CACHE_CONTROL], "no-cache");
        headers.insert(
            header::IF_NONE_MATCH,
            HeaderValue::from_static("\"0\", W/\"1\""),
        );
        assert_eq!(file(false).answer(&headers).status(), 304);
    }
}
