//! The `roundelay` command.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;

use roundelay::cli::{self, Command, Exit};
use roundelay::config::{ConfigError, NodeConfig, RelayConfig};
use roundelay::{RunError, bench, node, relay};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let measures = matches!(cli.command, Command::Bench(_));
    let default = if measures { "warn" } else { "info" };
    if let Err(error) = start_log(cli.log.as_deref(), default) {
        eprintln!("roundelay: --log: {error}; try info, or roundelay=debug");
        return Exit::Usage.into();
    }
    let exit = match cli.command {
        Command::Relay(args) => serve(args.config(), relay),
        Command::Node(args) => serve(args.config(), node),
        Command::Expose(args) => serve(args.config(), node),
        Command::Forward(args) => serve(args.config(), node),
        Command::Socks(args) => serve(args.config(), node),
        Command::Bench(command) => bench::run(command),
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

fn relay(config: RelayConfig) -> Exit {
    run(async {
        let listeners = relay::Listeners::bind(&config).await?;
        relay::run(config, listeners, asked_to_stop()?).await
    })
}

fn node(config: NodeConfig) -> Exit {
    run(async {
        let listeners = node::Listeners::bind(&config).await?;
        node::run(config, listeners, asked_to_stop()?).await
    })
}

fn run(serving: impl Future<Output = Result<(), RunError>>) -> Exit {
    allow_many_files();
    let serving = async {
        // A file that may not grow is to refuse a write, not to end the process.
        let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        let _kept = signal(too_large)?;
        serving.await
    };
    // One thread: nearly all work is that of one task, and a hand-over to
    // another thread and back costs a request more than it can win there.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::from);
    match runtime.and_then(|runtime| runtime.block_on(serving)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("roundelay: {error}");
            Exit::Failed
        }
    }
}

/// A connection is a file: shells allow 1,024 unless they are asked for as many as
/// the system lets this user have.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, ..limit }) {
        tracing::debug!(%error, "cannot have more files open");
    }
}

/// Ready at SIGTERM or SIGINT; from then on a second one ends the process at
/// once.
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(Exit::Failed as i32);
        });
    })
}

/// Logs to stderr: stdout is for what was asked for.
fn start_log(
    filter: Option<&str>,
    default: &str,
) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = match filter {
        Some(filter) => filter.parse()?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
