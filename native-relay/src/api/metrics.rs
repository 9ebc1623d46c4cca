//! `GET /metrics`: the status in Prometheus' text format.

use std::fmt::{Display, Write};

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use roundelay_core::status::{LinkKind, Status, StoreState};

use super::State;
use super::error::{Counters, answer};

/// How counters of messages begin, by kind.
const SENT: &str = "sent_";

/// `GET /metrics`
pub(super) async fn metrics(state: State) -> Response {
    let told = async {
        let status = state.handle.status().await?;
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        let text = text(&status, Some(&state.counters));
        Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
    };
    answer(&state, told.await)
}

/// The metrics of a node alone, for a relay that has no API of its own.
pub(crate) fn node_metrics(status: &Status) -> String {
    text(status, None)
}

fn text(status: &Status, counters: Option<&Counters>) -> String {
    let mut page = Page::default();
    let node = format!("{{id=\"{}\",network={:?}}}", status.id, status.network);
    page.metric("node_info", "gauge", "Who this is.", [(node, 1)]);
    let plain = |value: u64| [(String::new(), value)];
    page.metric("epoch", "gauge", "The node's epoch.", plain(status.epoch));
    let help = "Whether the node is in a ring, and filled where it votes.";
    page.metric("ready", "gauge", help, plain(status.ready.into()));
    let help = "Members next on the ring that are known to live.";
    let successors = status.successors.len() as u64;
    page.metric("successors", "gauge", help, plain(successors));
    links(&mut page, status);
    let store = &status.store;
    for (name, help, value) in [
        ("store_records", "Records held.", store.records),
        ("store_bytes", "Bytes of keys and values.", store.bytes),
        (
            "store_under_replicated",
            "Records that lack copies.",
            store.under_replicated,
        ),
        (
            "store_degraded",
            "Slots served by one voter of two.",
            store.degraded,
        ),
        (
            "store_takes_writes",
            "Whether the node's storage takes writes; 0 where its disk is full or fails.",
            (store.state == StoreState::Ok).into(),
        ),
    ] {
        page.metric(name, "gauge", help, plain(value));
    }
    let sent = status.counters.iter();
    let sent = sent.filter_map(|(name, count)| {
        let kind = name.strip_prefix(SENT)?;
        Some((format!("{{kind=\"{kind}\"}}"), *count))
    });
    let help = "Messages sent, by kind.";
    page.metric("messages_sent_total", "counter", help, sent);
    let others = status.counters.iter();
    for (name, value) in others.filter(|(name, _)| !name.starts_with(SENT)) {
        let name = format!("{}_total", sanitized(name));
        page.metric(&name, "counter", "Counted by the node.", plain(*value));
    }
    if let Some(counters) = counters {
        let refused = counters
            .all()
            .map(|(code, count)| (format!("{{code=\"{code}\"}}"), count));
        let help = "Requests to the HTTP API that were refused.";
        page.metric("http_refused_total", "counter", help, refused);
    }
    if let Some(bytes) = resident_bytes() {
        // Prometheus' own name for it, which dashboards know.
        page.text
            .push_str("# TYPE process_resident_memory_bytes gauge\n");
        let _ = writeln!(page.text, "process_resident_memory_bytes {bytes}");
    }
    page.text
}

fn links(page: &mut Page, status: &Status) {
    let kinds = [(LinkKind::Relay, "relay"), (LinkKind::Direct, "direct")];
    let of = |kind| status.links.iter().filter(move |link| link.kind == kind);
    let label = |name| format!("{{kind=\"{name}\"}}");
    let help = "Paths to other members.";
    let counts = kinds.map(|(kind, name)| (label(name), of(kind).count()));
    page.metric("links", "gauge", help, counts);
    let help = "Bytes of messages received on the paths that are open.";
    let bytes = kinds.map(|(kind, name)| (label(name), of(kind).map(|link| link.bytes_in).sum()));
    page.metric::<u64>("links_bytes_in", "gauge", help, bytes);
    let help = "Bytes of messages sent likewise.";
    let bytes = kinds.map(|(kind, name)| (label(name), of(kind).map(|link| link.bytes_out).sum()));
    page.metric::<u64>("links_bytes_out", "gauge", help, bytes);
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// One metric: its values with their labels, `{..}` or nothing.
    fn metric<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (String, V)>,
    ) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP roundelay_{name} {help}");
        let _ = writeln!(self.text, "# TYPE roundelay_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.text, "roundelay_{name}{labels} {value}");
        }
    }
}

fn sanitized(name: &str) -> String {
    name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")
}

/// The process's resident memory, where the system tells it (Linux).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
