//! Status and ring for people.

use std::fmt::Write;

use roundelay_core::NodeId;
use serde_json::Value;

use super::picture;

/// A node's status, a line for each matter.
pub(super) fn status(status: &Value) -> String {
    let ready = if status["ready"].as_bool() == Some(true) {
        "ready"
    } else {
        "not ready"
    };
    let mut lines = vec![
        ("node", join([&status["id"], &status["name"]].map(text))),
        ("network", text(&status["network"])),
        (
            "ring",
            format!("{} ({ready})", or_dash(text(&status["ring_id"]))),
        ),
        (
            "is",
            format!(
                "{}, epoch {}",
                text(&status["class"]),
                text(&status["epoch"])
            ),
        ),
        ("predecessor", or_dash(text(&status["predecessor"]))),
    ];
    lines.extend(named("successor", list(&status["successors"]).map(text)));
    let relays = list(&status["relays"]);
    let relays = relays.map(|relay| join([&relay["url"], &relay["state"]].map(text)));
    lines.extend(named("relay", relays));
    let links = list(&status["links"]).map(|link| {
        let rtt = link["rtt_ms"].as_f64();
        let rtt = rtt.map_or_else(|| "-".into(), |rtt| format!("{rtt:.1} ms"));
        let [bytes_in, bytes_out] = ["bytes_in", "bytes_out"].map(|name| bytes(&link[name]));
        let (peer, kind) = (text(&link["peer"]), text(&link["kind"]));
        format!("{peer}  {kind:6}  {rtt:>9}  in {bytes_in:>10}  out {bytes_out:>10}")
    });
    lines.extend(named("link", links));
    let store = &status["store"];
    lines.push((
        "store",
        format!(
            "{} records, {}; {} under-replicated; {} slots degraded",
            text(&store["records"]),
            bytes(&store["bytes"]),
            text(&store["under_replicated"]),
            text(&store["degraded"]),
        ),
    ));
    let words = match store["state"].as_str() {
        Some("full") => Some("its disk is full: writes are refused until there is room"),
        Some("failing") => Some("its disk fails: writes are refused; its log says why"),
        _ => None,
    };
    lines.extend(words.map(|words| ("", words.to_owned())));
    lines.push(("rate", rate(&status["rate"])));
    let mut out = String::new();
    for (name, value) in lines {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:11}  {value}");
    }
    out
}

/// What the node says and hears each second.
fn rate(rate: &Value) -> String {
    let way = |frames: &str, bytes: &str| {
        let [frames, bytes] = [frames, bytes].map(|name| rate[name].as_f64().unwrap_or(0.0));
        format!("{frames:.1} messages/s, {bytes:.0} B/s")
    };
    let (inward, outward) = (way("frames_in", "bytes_in"), way("frames_out", "bytes_out"));
    format!("in {inward}; out {outward} (last minute)")
}

/// The ring as a picture, then its members, a line for each.
pub(super) fn ring(ring: &Value) -> String {
    let ids = list(&ring["members"]).filter_map(|member| member["id"].as_str()?.parse().ok());
    let ids: Vec<NodeId> = ids.collect();
    let middle = match ids.len() {
        0 => "in no ring".to_owned(),
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let mut out = picture::draw(&ids, &middle);
    out.push('\n');
    for (place, member) in list(&ring["members"]).enumerate() {
        let [id, class, state, name] = ["id", "class", "state", "name"].map(|of| text(&member[of]));
        let label = picture::label(place);
        let line = format!("{label}  {id}  {class:9}  {state:7}  {name}");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The name before the first line only; a dash where there is none.
fn named(
    name: &'static str,
    values: impl Iterator<Item = String>,
) -> impl Iterator<Item = (&'static str, String)> {
    let mut values: Vec<String> = values.collect();
    if values.is_empty() {
        values.push("-".into());
    }
    let name = std::iter::once(name).chain(std::iter::repeat(""));
    name.zip(values)
}

/// A value as it is; names come from other machines, and terminals obey
/// control characters.
pub(super) fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.replace(char::is_control, "\u{fffd}")
}

fn join(parts: [String; 2]) -> String {
    parts.join("  ").trim_end().to_owned()
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

fn bytes(value: &Value) -> String {
    let bytes = value.as_u64().unwrap_or_default();
    let scaled = |unit: u32| bytes as f64 / f64::from(unit);
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{:.1} KiB", scaled(1 << 10)),
        10_485_760..10_737_418_240 => format!("{:.1} MiB", scaled(1 << 20)),
        _ => format!("{:.1} GiB", scaled(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_ring_is_a_line_for_each_member() {
        let ring = json!({ "ring_id": "r", "members": [
            { "id": "aaaa", "name": "evil\u{1b}[2J", "class": "durable", "state": "alive" },
            { "id": "bbbb", "name": "", "class": "transient", "state": "suspect" },
        ]});
        let expected =
            "\n\n1  aaaa  durable    alive    evil\u{fffd}[2J\n2  bbbb  transient  suspect\n";
        let said = super::ring(&ring);
        assert!(said.ends_with(expected), "{said}");
        assert!(!said.contains('\u{1b}'));
    }

    #[test]
    fn a_status_is_a_line_for_each_matter() {
        let status = json!({
            "id": "aaaa", "epoch": 7, "class": "durable", "name": "", "network": "default",
            "ring_id": null, "ready": false, "predecessor": null, "successors": ["bbbb", "cccc"],
            "links": [{ "peer": "bbbb", "kind": "relay", "rtt_ms": null, "bytes_in": 20480,
                        "bytes_out": 3 }],
            "relays": [],
            "store": { "records": 2, "bytes": 300, "under_replicated": 0, "degraded": 1,
                       "state": "full" },
            "rate": { "frames_in": 0.75, "bytes_in": 7.4, "frames_out": 1.5, "bytes_out": 12.0 },
        });
        let expected = "\
node         aaaa
network      default
ring         - (not ready)
is           durable, epoch 7
predecessor  -
successor    bbbb
             cccc
relay        -
link         bbbb  relay           -  in   20.0 KiB  out        3 B
store        2 records, 300 B; 0 under-replicated; 1 slots degraded
             its disk is full: writes are refused until there is room
rate         in 0.8 messages/s, 7 B/s; out 1.5 messages/s, 12 B/s (last minute)
";
        assert_eq!(super::status(&status), expected);
    }
}
