//! Running other programs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context as _, Error, Result};

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Cargo's output directory of the workspace.
pub(crate) fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Says what is done next.
pub(crate) fn say(text: impl std::fmt::Display) {
    println!("==> {text}");
}

/// A program to run at the workspace's root, without input.
///
/// What cargo set for this process is taken out of its environment: another
/// cargo would take it for the user's wish, or rebuild for the difference.
/// `RUSTUP_TOOLCHAIN` stays, so that `cargo +beta xtask` means beta throughout.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        if set_by_cargo(&name) {
            command.env_remove(name);
        }
    }
    if let Some(paths) = env::var_os("LD_LIBRARY_PATH") {
        let kept: Vec<_> = env::split_paths(&paths)
            .filter(|path| !library_path_of_cargo(path))
            .collect();
        match env::join_paths(&kept) {
            Ok(paths) if !kept.is_empty() => command.env("LD_LIBRARY_PATH", paths),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    command
}

/// `cargo` with these arguments.
pub(crate) fn cargo(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = program("cargo");
    command.args(args);
    command
}

fn set_by_cargo(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || matches!(name.as_ref(), "CARGO" | "OUT_DIR" | "RUST_RECURSION_COUNT")
}

fn library_path_of_cargo(path: &Path) -> bool {
    path.starts_with(target_dir())
        || env::var_os("RUSTUP_HOME").is_some_and(|home| path.starts_with(home))
}

/// Runs a program, showing the command; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result {
    println!("  $ {}", shown(command));
    let status = command
        .status()
        .map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "`{}` failed ({status})",
        shown(command)
    )))
}

/// Runs a program like [`run`], but kills it when it takes longer than `limit`.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result {
    println!("  $ {}", shown(command));
    let mut child = command
        .spawn()
        .map_err(|error| not_started(command, &error))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("waiting for a program")? {
            return match status.success() {
                true => Ok(()),
                false => Err(Error::new(format!(
                    "`{}` failed ({status})",
                    shown(command)
                ))),
            };
        }
        if Instant::now() >= deadline {
            child
                .kill()
                .and_then(|()| child.wait())
                .context("stopping a program")?;
            let text = format!("`{}` took longer than {limit:?}", shown(command));
            return Err(Error::new(text));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a program printed, trimmed; quietly, for looking at how things are.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::null())
        .output()
        .map_err(|error| not_started(command, &error))?;
    if !output.status.success() {
        return Err(Error::new(format!(
            "`{}` failed ({})",
            shown(command),
            output.status
        )));
    }
    let text = String::from_utf8(output.stdout).context("reading a program's output")?;
    Ok(text.trim().to_owned())
}

/// Where a program is, if it is on `PATH`.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// `PATH` with more directories before it.
pub(crate) fn path_with(dirs: &[PathBuf]) -> Result<OsString> {
    let old = env::var_os("PATH").unwrap_or_default();
    let all = dirs.iter().cloned().chain(env::split_paths(&old));
    env::join_paths(all).context("a directory has a colon in its name")
}

/// A command as a person would type it, with the environment that it adds.
pub(crate) fn shown(command: &Command) -> String {
    let added = command.get_envs().filter_map(|(name, value)| {
        let (name, value) = (name.to_string_lossy(), value?.to_string_lossy());
        (name != "PATH" && name != "LD_LIBRARY_PATH").then(|| format!("{name}={}", quoted(&value)))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| quoted(&word.to_string_lossy()));
    added.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn not_started(command: &Command, error: &std::io::Error) -> Error {
    let name = command.get_program().to_string_lossy();
    Error::new(format!(
        "{name} could not be started ({error}): is it installed and on PATH?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted() {
        let mut command = Command::new("echo");
        command.args(["a b", "it's", "plain-1.0"]).env("K", "v w");
        assert_eq!(shown(&command), r"K='v w' echo 'a b' 'it'\''s' plain-1.0");
    }

    #[test]
    fn a_slow_program_is_killed() {
        let started = Instant::now();
        let slow = run_within(program("sleep").arg("20"), Duration::from_millis(100));
        assert!(slow.is_err());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_missing_program_is_named() {
        let missing = run(&mut program("no-such-program-here"));
        assert!(missing.is_err_and(|error| error.to_string().contains("no-such-program-here")));
    }
}
