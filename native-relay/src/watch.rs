//! Files that the runtime watches for one thing only.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a file, which has to be non-blocking; must be called within a tokio
/// runtime. `T` owns the file: it closes it at its own end, and no sooner.
pub(crate) fn watch<T: AsRawFd>(file: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    #[expect(deprecated, reason = "what replaces it is unsafe, for want of owning")]
    AsyncFd::with_interest(file, interest)
}
