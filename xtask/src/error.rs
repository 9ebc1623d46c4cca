//! The one error of these commands: a text that says what to do next.

use std::fmt;

/// Why a command stopped, in words for the person who ran it.
#[derive(Debug)]
pub(crate) struct Error(String);

/// A result whose error is shown to the person who ran the command.
pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when an error came.
pub(crate) trait Context<T> {
    /// Puts `doing` before the error's own text.
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error(format!("{doing}: {error}")))
    }
}
