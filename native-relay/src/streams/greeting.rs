//! What both ends of a stream say before its bytes.
//!
//! ```text
//! opener:   version (1), length of the name, name          then its bytes
//! acceptor: 0                                              then its bytes
//!           or 1, length of the words, words               and the end
//! ```

use std::io;
use std::time::Duration;

use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The longest name of a service, in bytes.
pub const SERVICE_LEN_MAX: usize = 64;

/// How long an opener may take to say what it wants.
const GREETING_MAX: Duration = Duration::from_secs(10);

const VERSION: u8 = 1;
pub(super) const ACCEPTED: u8 = 0;
pub(super) const REFUSED: u8 = 1;

/// No service can have this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a service: take 1 to {SERVICE_LEN_MAX} letters, digits, -, _ and ."
)]
pub struct ServiceError(String);

/// Checks the name of a service.
///
/// # Errors
/// When it is empty, too long, or has other characters than letters, digits, `-`, `_`
/// and `.`.
pub fn check_service(name: &str) -> Result<(), ServiceError> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match (1..=SERVICE_LEN_MAX).contains(&name.len()) && name.bytes().all(is_good) {
        true => Ok(()),
        false => Err(ServiceError(name.chars().take(80).collect())),
    }
}

/// Says which service is wanted.
pub(super) async fn ask(stream: &mut yamux::Stream, service: &str) -> io::Result<()> {
    let len = u8::try_from(service.len()).map_err(io::Error::other)?;
    let mut greeting = vec![VERSION, len];
    greeting.extend_from_slice(service.as_bytes());
    stream.write_all(&greeting).await
}

/// Reads which service is wanted.
pub(super) async fn asked(stream: &mut yamux::Stream) -> io::Result<String> {
    let read = async {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await?;
        let [version, len] = head;
        if version != VERSION {
            return Err(malformed("a greeting of another version"));
        }
        let mut name = vec![0; usize::from(len)];
        stream.read_exact(&mut name).await?;
        let name = String::from_utf8(name).map_err(|_| malformed("a name that is no text"))?;
        check_service(&name).map_err(|error| malformed(&error.to_string()))?;
        Ok(name)
    };
    let asked = tokio::time::timeout(GREETING_MAX, read).await;
    asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

pub(super) async fn accept(stream: &mut yamux::Stream) -> io::Result<()> {
    stream.write_all(&[ACCEPTED]).await
}

pub(super) async fn refuse(mut stream: yamux::Stream, why: &str) -> io::Result<()> {
    let words: String = why.chars().take(80).collect();
    let len = u8::try_from(words.len()).unwrap_or(u8::MAX);
    let mut answer = vec![REFUSED, len];
    answer.extend(words.bytes().take(usize::from(len)));
    stream.write_all(&answer).await?;
    stream.close().await?;
    // Dropped before the opener has ended, too, it would be reset, and the words lost.
    let mut rest = [0; 1024];
    let drain = async { while stream.read(&mut rest).await.is_ok_and(|len| len > 0) {} };
    let _ = tokio::time::timeout(GREETING_MAX, drain).await;
    Ok(())
}

fn malformed(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["ssh", "web-1", "a.b_C", &"x".repeat(64)] {
            assert_eq!(check_service(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            let error = check_service(bad).unwrap_err().to_string();
            assert!(error.contains("1 to 64"), "{error}");
        }
    }
}
