//! How figures are told: in lines for people, JSON objects, rows of CSV.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::BenchError;

/// Names stdout.
const STDOUT: &str = "-";

/// Tells figures as they come.
pub(super) struct Report {
    people: bool,
    json: Option<RefCell<Sink>>,
    csv: Option<RefCell<Sink>>,
    /// Whether the row that names the columns is written.
    csv_is_begun: Cell<bool>,
}

/// Where a report goes, and whether that failed.
struct Sink {
    name: String,
    out: Box<dyn Write>,
    failure: Option<io::Error>,
}

impl Sink {
    fn open(name: &str) -> Result<RefCell<Self>, BenchError> {
        let out: Box<dyn Write> = match name {
            STDOUT => Box::new(io::stdout()),
            path => Box::new(File::create(path).map_err(|error| cannot_write(path, &error))?),
        };
        Ok(RefCell::new(Self {
            name: name.to_owned(),
            out,
            failure: None,
        }))
    }

    fn line(&mut self, line: &str) {
        if self.failure.is_none() {
            let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
            self.failure = written.err();
        }
    }
}

fn cannot_write(name: &str, error: &io::Error) -> BenchError {
    BenchError::Answer(format!(
        "cannot write to {name}: {error}; name another file"
    ))
}

impl Report {
    /// A report for people, and for programs where files are named; `-` is
    /// stdout, in place of what people read.
    pub(super) fn open(json: Option<&str>, csv: Option<&str>) -> Result<Self, BenchError> {
        let to_stdout = [json, csv].map(|name| name == Some(STDOUT));
        if to_stdout == [true, true] {
            let words = "--json and --csv cannot both go to stdout; name a file for one of them";
            return Err(BenchError::Usage(words));
        }
        Ok(Self {
            people: to_stdout == [false, false],
            json: json.map(Sink::open).transpose()?,
            csv: csv.map(Sink::open).transpose()?,
            csv_is_begun: Cell::new(false),
        })
    }

    /// What is about to happen, for people only.
    pub(super) fn say(&self, words: &str) {
        if self.people {
            // Who reads no more needs no more.
            let _ = writeln!(io::stdout(), "{words}");
        }
    }

    /// A figure: what was measured, and its parts by name and unit.
    pub(super) fn figure(&self, what: &str, parts: &[(&str, Figure)]) {
        self.figure_of(what, &[], parts);
    }

    /// A row of a table for people, and its figures for programs.
    pub(super) fn row(&self, row: &str, what: &str, figures: &[(&str, Figure)]) {
        self.json_of(what, figures.iter());
        self.say(row);
    }

    /// The same, with facts for programs. In a CSV all figures must have the
    /// same ones.
    pub(super) fn figure_of(&self, what: &str, facts: &[(&str, Figure)], parts: &[(&str, Figure)]) {
        let all = || facts.iter().chain(parts);
        self.json_of(what, all());
        if let Some(csv) = &self.csv {
            let row = |cells: &mut dyn Iterator<Item = String>| {
                let cells: Vec<String> = cells.map(|cell| quoted(&cell)).collect();
                csv.borrow_mut().line(&cells.join(","));
            };
            if !self.csv_is_begun.replace(true) {
                let names = all().map(|(name, _)| (*name).to_owned());
                row(&mut std::iter::once("what".to_owned()).chain(names));
            }
            let cells = all().map(|(_, figure)| figure.cell());
            row(&mut std::iter::once(what.to_owned()).chain(cells));
        }
        let parts = parts
            .iter()
            .filter_map(|(name, figure)| Some(format!("{name} {}", figure.text()?)));
        self.say(&format!(
            "{what:28} {}",
            parts.collect::<Vec<_>>().join("  ")
        ));
    }

    fn json_of<'a>(&self, what: &str, figures: impl Iterator<Item = &'a (&'a str, Figure)>) {
        if let Some(json) = &self.json {
            let named =
                figures.filter_map(|(name, figure)| Some(((*name).to_owned(), figure.json()?)));
            let what = ("what".to_owned(), json!(what));
            let object: Map<String, Value> = std::iter::once(what).chain(named).collect();
            json.borrow_mut().line(&Value::Object(object).to_string());
        }
    }

    /// Says whether all was written.
    pub(super) fn finish(self) -> Result<(), BenchError> {
        let sinks = [self.json, self.csv].into_iter().flatten();
        for sink in sinks.map(RefCell::into_inner) {
            if let Some(error) = sink.failure {
                return Err(cannot_write(&sink.name, &error));
            }
        }
        Ok(())
    }
}

/// One number with its unit, or a fact.
#[derive(Clone, Debug)]
pub(super) enum Figure {
    /// For programs: microseconds.
    Time(Duration),
    /// A second; for programs a number.
    Rate(f64),
    /// Anything that is counted or averaged.
    Number(f64),
    /// For programs alone.
    Text(String),
    /// Likewise.
    Counts(BTreeMap<String, u64>),
    /// It was not measured.
    Nothing,
}

impl Figure {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Time(time) => Some(rounded(time.as_secs_f64() * 1e6)),
            Self::Rate(number) | Self::Number(number) => Some(rounded(*number)),
            Self::Text(_) | Self::Counts(_) | Self::Nothing => None,
        }
    }

    fn json(&self) -> Option<Value> {
        match self {
            Self::Text(text) => Some(json!(text)),
            Self::Counts(counts) => Some(json!(counts)),
            other => other.number().map(|number| json!(number)),
        }
    }

    fn cell(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Counts(counts) => {
                let counts = counts.iter().map(|(name, count)| format!("{name}={count}"));
                counts.collect::<Vec<_>>().join(" ")
            }
            other => other
                .number()
                .map_or_else(String::new, |number| number.to_string()),
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Time(time) if *time < Duration::from_millis(10) => {
                Some(format!("{:.3} ms", time.as_secs_f64() * 1e3))
            }
            Self::Time(time) => Some(format!("{:.1} ms", time.as_secs_f64() * 1e3)),
            Self::Rate(rate) => Some(format!("{rate:.0}/s")),
            other => other.number().map(|number| number.to_string()),
        }
    }
}

/// A cell as RFC 4180 has it.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
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

    #[test]
    fn a_report_is_json_and_csv() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name).display().to_string();
        let report = Report::open(Some(&path("json")), Some(&path("csv"))).unwrap();
        let counts = BTreeMap::from([("full".to_owned(), 2), ("busy".to_owned(), 1)]);
        let facts = [("errors", Figure::Counts(counts))];
        let time = Figure::Time(Duration::from_micros(1500));
        for cpu in [Figure::Number(2.5), Figure::Nothing] {
            report.figure_of("put, 1", &facts, &[("p50", time.clone()), ("cpu", cpu)]);
        }
        report.finish().unwrap();
        let json = std::fs::read_to_string(path("json")).unwrap();
        let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        let errors = json!({ "busy": 1, "full": 2 });
        let expected = json!({ "what": "put, 1", "errors": errors, "p50": 1500.0, "cpu": 2.5 });
        assert_eq!(first, expected);
        let csv = std::fs::read_to_string(path("csv")).unwrap();
        let rows = "what,errors,p50,cpu\n\"put, 1\",busy=1 full=2,1500,2.5\n\"put, 1\",busy=1 full=2,1500,\n";
        assert_eq!(csv, rows);
    }

    #[test]
    fn two_reports_do_not_share_stdout() {
        let refused = Report::open(Some("-"), Some("-")).err();
        assert!(matches!(refused, Some(BenchError::Usage(_))));
        let refused = Report::open(Some("/no/such/file"), None).err();
        assert!(refused.unwrap().to_string().contains("/no/such/file"));
    }
}
