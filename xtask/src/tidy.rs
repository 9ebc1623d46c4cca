//! Small files and small functions: what a reader can hold in mind.

use std::fs;
use std::path::Path;

use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::sh;

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Names every file and function that is too long.
pub(crate) fn check() -> Result {
    let root = sh::root();
    let mut complaints = Vec::new();
    for path in files::walk(&root, &[])? {
        let kind = path.extension().unwrap_or_default().to_string_lossy();
        if !matches!(kind.as_ref(), "rs" | "js" | "css") {
            continue;
        }
        let text = fs::read_to_string(&path).context(format!("reading {}", path.display()))?;
        let name = path.strip_prefix(&root).unwrap_or(&path);
        complaints.extend(complain(name, &text, kind == "rs"));
    }
    if complaints.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "{}\nSplit them by concept.",
        complaints.join("\n")
    )))
}

fn complain(name: &Path, text: &str, is_rust: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES {
        complaints.push(format!(
            "{}: {lines} lines, at most {FILE_LINES}",
            name.display()
        ));
    }
    let long = functions(text)
        .into_iter()
        .filter(|function| function.lines > FUNCTION_LINES);
    for Function {
        start,
        lines,
        name: function,
    } in long.filter(|_| is_rust)
    {
        complaints.push(format!(
            "{}:{start}: `{function}` has {lines} lines, at most {FUNCTION_LINES}",
            name.display()
        ));
    }
    complaints
}

#[derive(Debug, PartialEq)]
struct Function<'a> {
    name: &'a str,
    start: usize,
    lines: usize,
}

/// The functions of a file that rustfmt has laid out: each ends at the first
/// closing brace that stands as far in as its first line.
fn functions(text: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut open: Vec<(&str, usize, usize)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        // A brace further out than a function ends a trait that only declares it.
        if code.starts_with('}') {
            open.retain(|(_, _, function_indent)| *function_indent <= indent);
        }
        if let Some(name) = function_name(code) {
            open.push((name, number, indent));
        }
        let Some((name, start, function_indent)) = open.last().copied() else {
            continue;
        };
        let ends = code.starts_with('}') && indent == function_indent;
        let in_one_line = number == start && code.ends_with('}');
        let without_body = code.ends_with(';') && indent == function_indent;
        if ends || in_one_line {
            found.push(Function {
                name,
                start,
                lines: number - start + 1,
            });
        }
        if ends || in_one_line || without_body {
            open.pop();
        }
    }
    found
}

fn function_name(code: &str) -> Option<&str> {
    let (before, after) = code.split_once("fn ")?;
    let is_qualifier = |word: &str| {
        matches!(word, "pub" | "const" | "async" | "unsafe" | "extern")
            || word.starts_with("pub(")
            || word.starts_with('"')
    };
    if !before.split_whitespace().all(is_qualifier) {
        return None;
    }
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&after[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(text: &str) -> Vec<(&str, usize)> {
        functions(text)
            .into_iter()
            .map(|function| (function.name, function.lines))
            .collect()
    }

    #[test]
    fn functions_are_measured() {
        let text = "\
pub(crate) const fn one(
    a: u8,
) -> u8 {
    if a > 1 {
        2
    } else {
        3
    }
}

trait T {
    fn without_body(&self);
    async fn small(&self) {}
    fn two(&self) {
        call(|| ());
    }
    fn undefined<A>(&self)
    where
        A: Sized;
}
fn outer() {
    fn inner() {
        x();
    }
    inner();
}
// in fn words only
let f: fn (u8) = three;
";
        assert_eq!(
            lengths(text),
            [
                ("one", 9),
                ("small", 1),
                ("two", 3),
                ("inner", 3),
                ("outer", 6)
            ]
        );
    }

    #[test]
    fn what_is_too_long_is_named() {
        let path = Path::new("a.rs");
        let body = "    x();\n".repeat(FUNCTION_LINES);
        let function = format!("fn long() {{\n{body}}}\n");
        assert_eq!(complain(path, &function, true).len(), 1);
        assert_eq!(complain(path, &function, false).len(), 0);
        assert_eq!(
            complain(path, "\n".repeat(FILE_LINES).as_str(), true).len(),
            0
        );
        assert_eq!(
            complain(path, "\n".repeat(FILE_LINES + 1).as_str(), false).len(),
            1
        );
    }
}
