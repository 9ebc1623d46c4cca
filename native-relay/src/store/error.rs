//! Why a data directory cannot be used. The words say what to do.

use std::io;
use std::path::PathBuf;

use roundelay_core::NodeId;

use super::FORMAT_VERSION;

/// Why a data directory cannot be used. The words say what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or the file cannot be made or written.
    #[error(
        "cannot use the data directory {}: {source}; choose another --data-dir, or let this user write to it",
        .dir.display()
    )]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is a file where the directory, or one that it lies in, should be.
    #[error(
        "the data directory {} cannot be made: there is a file of this name on its way; choose another --data-dir, or move that file away",
        .dir.display()
    )]
    NoDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process has it open.
    #[error(
        "the data directory {} is in use by another roundelay; stop that one, or choose another --data-dir",
        .dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The file is not one of ours, or is damaged.
    #[error(
        "{} is damaged or not a Roundelay file ({detail}); move it away to start empty and fetch the records from the ring, or restore the whole directory from a backup",
        .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file holds less than it did: it is damaged where a crash might have
    /// damaged it, or is an older copy.
    #[error(
        "{} holds less than this node has acknowledged: it is damaged, or an older copy; move it away to start empty and fetch the records from the ring, or, if there is no such ring, move {} away to go on without what was written last",
        .file.display(), .mark.display()
    )]
    Lost {
        /// The file.
        file: PathBuf,
        /// The file that says so.
        mark: PathBuf,
    },
    /// The file was written by another version of Roundelay.
    #[error(
        "{} has format {found}, and this roundelay reads format {FORMAT_VERSION}; run the version that wrote it, or choose another --data-dir",
        .file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file is another node's.
    #[error(
        "{} is the node {owner}'s, and the identity file beside it another's, or damaged; put that node's identity file back, or choose another --data-dir",
        .file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        owner: NodeId,
    },
}
