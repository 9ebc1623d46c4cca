//! The TOML file of `--config`: its keys are the flags' names.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;
use clap::error::{Error, ErrorKind};
use toml::{Table, Value};

/// The command with what the file says as the defaults of one subcommand.
pub(super) fn with_defaults(
    command: Command,
    subcommand: &str,
    file: &Path,
) -> Result<Command, Error> {
    let bad = |kind, message: String| Error::raw(kind, format!("{}: {message}\n", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| {
        bad(
            ErrorKind::Io,
            format!("cannot read it: {error}; name a TOML file"),
        )
    })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        bad(ErrorKind::InvalidValue, format!("not TOML: {error}"))
    })?;
    let mut defaults = Vec::new();
    for (key, value) in table {
        let known = command
            .find_subcommand(subcommand)
            .into_iter()
            .flat_map(Command::get_arguments)
            .find(|arg| arg.get_long() == Some(&key) && key != "config");
        let Some(arg) = known else {
            let message = format!("{key} is no setting; roundelay {subcommand} --help lists them");
            return Err(bad(ErrorKind::UnknownArgument, message));
        };
        let values = values_of(value).ok_or_else(|| {
            let message = format!("{key} must be a text, a number, true, false or a list");
            bad(ErrorKind::InvalidValue, message)
        })?;
        defaults.push((arg.get_id().clone(), values));
    }
    Ok(command.mut_subcommand(subcommand, |mut command| {
        for (id, values) in defaults {
            command = command.mut_arg(id, |arg| arg.default_values(values));
        }
        command
    }))
}

fn values_of(value: Value) -> Option<Vec<OsString>> {
    match value {
        Value::String(text) => Some(vec![text.into()]),
        Value::Integer(number) => Some(vec![number.to_string().into()]),
        Value::Boolean(truth) => Some(vec![truth.to_string().into()]),
        Value::Array(values) => {
            let values: Option<Vec<_>> = values.into_iter().map(values_of).collect();
            Some(values?.into_iter().flatten().collect())
        }
        _ => None,
    }
}
