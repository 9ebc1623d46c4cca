//! The command line.

use std::path::PathBuf;

use lexopt::prelude::*;

/// What `cargo xtask --help` prints.
pub(crate) const USAGE: &str = "\
usage: cargo xtask COMMAND

  up      build everything, start a relay with the page and some nodes, wait for Ctrl-C
            --nodes N            headless nodes (2)
            --port PORT          the relay's port (9999)
            --base-http-port P   the first node's HTTP port, the next have the next (9101)
            --data-dir DIR       keep the data here (default: a new one, removed at the end)
            --open               open the page in the browser
  build   build the page and target/release/roundelay with the page inside
  test    run all suites
            --only SUITE         run one of them
  verify  check format, lints, docs, targets and tidiness, changing nothing";

/// A command with its options.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// Print the usage.
    Help,
    /// Start a ring on this machine.
    Up(Up),
    /// Build page and binary.
    Build,
    /// Run the test suites.
    Test(Test),
    /// Check without changing.
    Verify,
}

/// Options of `up`.
#[derive(Debug, PartialEq)]
pub(crate) struct Up {
    /// How many headless nodes.
    pub(crate) nodes: u16,
    /// The relay's port.
    pub(crate) port: u16,
    /// The HTTP port of the first node.
    pub(crate) base_http_port: u16,
    /// Where to keep data; a directory of its own, removed afterwards, when absent.
    pub(crate) data_dir: Option<PathBuf>,
    /// Whether to open the page in the user's browser.
    pub(crate) open: bool,
}

impl Default for Up {
    fn default() -> Self {
        Self {
            nodes: 2,
            port: 9999,
            base_http_port: 9101,
            data_dir: None,
            open: false,
        }
    }
}

/// Options of `test`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Test {
    /// The only suite to run.
    pub(crate) only: Option<String>,
}

/// Reads the command line.
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
    let Some(first) = parser.next()? else {
        return Ok(Task::Help);
    };
    match first {
        Short('h') | Long("help") => Ok(Task::Help),
        Value(command) => match command.string()?.as_str() {
            "help" => Ok(Task::Help),
            "up" => up(parser),
            "build" => alone(parser, Task::Build),
            "test" => test(parser),
            "verify" => alone(parser, Task::Verify),
            other => Err(format!("no command is called {other:?}").into()),
        },
        other => Err(other.unexpected()),
    }
}

fn up(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
    let mut up = Up::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("nodes") => up.nodes = parser.value()?.parse()?,
            Long("port") => up.port = parser.value()?.parse()?,
            Long("base-http-port") => up.base_http_port = parser.value()?.parse()?,
            Long("data-dir") => up.data_dir = Some(parser.value()?.into()),
            Long("open") => up.open = true,
            Short('h') | Long("help") => return Ok(Task::Help),
            other => return Err(other.unexpected()),
        }
    }
    if up.base_http_port.checked_add(up.nodes).is_none() {
        return Err("not so many ports: take fewer --nodes or a lower --base-http-port".into());
    }
    Ok(Task::Up(up))
}

fn test(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
    let mut test = Test::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("only") => test.only = Some(parser.value()?.string()?),
            Short('h') | Long("help") => return Ok(Task::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Task::Test(test))
}

fn alone(mut parser: lexopt::Parser, task: Task) -> Result<Task, lexopt::Error> {
    match parser.next()? {
        None => Ok(task),
        Some(Short('h') | Long("help")) => Ok(Task::Help),
        Some(other) => Err(other.unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, String> {
        let words = line.split_whitespace();
        parse(lexopt::Parser::from_args(words)).map_err(|error| error.to_string())
    }

    #[test]
    fn up_has_defaults_and_takes_every_option() {
        assert_eq!(parsed("up"), Ok(Task::Up(Up::default())));
        let all = "up --nodes 3 --port=8080 --base-http-port 9200 --data-dir d --open";
        let expected = Up {
            nodes: 3,
            port: 8080,
            base_http_port: 9200,
            data_dir: Some("d".into()),
            open: true,
        };
        assert_eq!(parsed(all), Ok(Task::Up(expected)));
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "sing",
            "up --nodes many",
            "up --port 70000",
            "up extra",
            "verify --fix",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        assert!(parsed("up --nodes 2000 --base-http-port 65000").is_err());
    }

    #[test]
    fn help_is_found_everywhere() {
        for line in ["", "help", "--help", "up -h", "test --help", "build --help"] {
            assert_eq!(parsed(line), Ok(Task::Help), "{line}");
        }
    }
}
