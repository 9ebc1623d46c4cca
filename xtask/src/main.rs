//! `cargo xtask`: everything that a developer or a newcomer runs.
//!
//! `args` says what was asked for; `up`, `build`, `test` and `verify` are the
//! four commands; `page`, `toolchain`, `tools`, `browsers` and `apt` get and
//! make what they need; `sh` runs other programs.

mod apt;
mod args;
mod browsers;
mod build;
mod children;
mod error;
mod files;
mod http;
mod namespaces;
mod page;
mod sh;
mod signals;
mod stamp;
mod steps;
mod test;
mod tidy;
mod toolchain;
mod tools;
mod up;
mod verify;

use std::process::ExitCode;

use args::Task;
use error::Result;

fn main() -> ExitCode {
    let task = match args::parse(lexopt::Parser::from_env()) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("cargo xtask: {error}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; false is a failure that has been told already.
fn run(task: &Task) -> Result<bool> {
    match task {
        Task::Help => println!("{}", args::USAGE),
        Task::Up(options) => up::run(options)?,
        Task::Build => build::run()?,
        Task::Test(options) => return test::run(options),
        Task::Verify => verify::run()?,
    }
    Ok(true)
}
