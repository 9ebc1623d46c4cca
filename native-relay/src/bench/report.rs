//! How figures are told: a line for people, or a JSON object.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Tells figures as they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    json: bool,
}

impl Report {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// What is about to happen, for people only.
    pub(super) fn say(&self, words: &str) {
        if !self.json {
            println!("{words}");
        }
    }

    /// A figure: what was measured, and its parts by name and unit.
    pub(super) fn figure(&self, what: &str, parts: &[(&str, Figure)]) {
        if self.json {
            let mut object = Map::new();
            object.insert("what".to_owned(), json!(what));
            for (name, figure) in parts {
                object.insert((*name).to_owned(), figure.json());
            }
            println!("{}", Value::Object(object));
        } else {
            let parts: Vec<String> = parts
                .iter()
                .map(|(name, figure)| format!("{name} {}", figure.text()))
                .collect();
            println!("{what:28} {}", parts.join("  "));
        }
    }
}

/// One number, with its unit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Figure {
    /// In JSON: microseconds.
    Time(Duration),
    /// A second; in JSON a number.
    Rate(f64),
    /// Anything that is counted or averaged.
    Number(f64),
}

impl Figure {
    fn json(self) -> Value {
        match self {
            Self::Time(time) => json!(rounded(time.as_secs_f64() * 1e6)),
            Self::Rate(number) | Self::Number(number) => json!(rounded(number)),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Time(time) if time < Duration::from_millis(10) => {
                format!("{:.3} ms", time.as_secs_f64() * 1e3)
            }
            Self::Time(time) => format!("{:.1} ms", time.as_secs_f64() * 1e3),
            Self::Rate(rate) => format!("{rate:.0}/s"),
            Self::Number(number) => format!("{}", rounded(number)),
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// The value below which this part of all lies; they get sorted for it.
/// `None` of nothing.
pub(super) fn percentile<T: PartialOrd + Copy>(values: &mut [T], part: f64) -> Option<T> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * part).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted() {
        let mut values = [5, 1, 4, 2, 3];
        assert_eq!(percentile(&mut values, 0.5), Some(3));
        assert_eq!(percentile(&mut values, 1.0), Some(5));
        assert_eq!(percentile(&mut values, 0.0), Some(1));
        assert_eq!(percentile::<u8>(&mut [], 0.5), None);
    }
}
