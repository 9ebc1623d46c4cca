//! The `roundelay` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use roundelay::cli::{self, Command, Exit};
use roundelay::config::{ConfigError, NodeConfig, RelayConfig};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if let Err(error) = start_log(cli.log.as_deref()) {
        eprintln!("roundelay: --log: {error}; try info, or roundelay=debug");
        return Exit::Usage.into();
    }
    let exit = match cli.command {
        Command::Relay(args) => serve(args.config(), relay),
        Command::Node(args) => serve(args.config(), node),
        Command::Client(command) => cli::run(command),
        Command::Completions { shell } => {
            cli::print_completions(shell);
            Exit::Done
        }
    };
    exit.into()
}

fn serve<C>(config: Result<C, ConfigError>, run: impl FnOnce(C) -> Exit) -> Exit {
    match config {
        Ok(config) => run(config),
        Err(error) => {
            eprintln!("roundelay: {error}");
            Exit::Usage
        }
    }
}

fn relay(_config: RelayConfig) -> Exit {
    eprintln!("roundelay: relay is not built yet");
    Exit::Failed
}

fn node(_config: NodeConfig) -> Exit {
    eprintln!("roundelay: node is not built yet");
    Exit::Failed
}

/// Logs to stderr: stdout is for what was asked for.
fn start_log(filter: Option<&str>) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = match filter {
        Some(filter) => filter.parse()?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
