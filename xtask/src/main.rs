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

fn main() -> ExitCode {
    let task = match args::parse(lexopt::Parser::from_env()) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("cargo xtask: {error}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    let done = match task {
        Task::Help => {
            println!("{}", args::USAGE);
            Ok(())
        }
        Task::Up(options) => up::run(&options),
        Task::Build => build::run(),
        Task::Test(options) => test::run(&options),
        Task::Verify => verify::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
