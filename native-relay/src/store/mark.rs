//! How much was acknowledged, told beside the file.
//!
//! After a crash redb goes back by one transaction if the last one is not
//! whole, as it must, since nobody was told of it. If damage made it so, it goes
//! back all the same, silently. So every group of commits has a number, in the
//! file, and after it is acknowledged that number is written here, unsynced: a
//! file that holds less than its mark has lost something. A mark that was lost
//! itself, or is older, proves nothing, and does no harm.

use crc32c::crc32c;

/// How long a mark is.
const MARK_BYTES: usize = 20;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Chosen by dice when the file was made: a mark is of one file only.
    pub(super) file: u64,
    /// The number of the last group that was acknowledged.
    pub(super) commits: u64,
}

impl Mark {
    pub(super) fn encode(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        let (body, sum) = bytes.split_at_mut(16);
        body[..8].copy_from_slice(&self.file.to_le_bytes());
        body[8..].copy_from_slice(&self.commits.to_le_bytes());
        sum.copy_from_slice(&crc32c(body).to_le_bytes());
        bytes
    }

    /// A mark, if these bytes are one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        let (file, commits) = body.split_first_chunk::<8>()?;
        let whole = crc32c(body) == u32::from_le_bytes(*sum);
        let mark = Self {
            file: u64::from_le_bytes(*file),
            commits: u64::from_le_bytes(commits.try_into().ok()?),
        };
        whole.then_some(mark)
    }

    /// Whether a file with so many groups in it lacks any of those marked.
    pub(super) fn is_ahead_of(self, found: Self) -> bool {
        self.file == found.file && self.commits > found.commits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_whole_or_not_at_all() {
        let mark = Mark {
            file: 7,
            commits: 1 << 40,
        };
        let bytes = mark.encode();
        assert_eq!(Mark::decode(&bytes), Some(mark));
        for at in 0..MARK_BYTES {
            let mut bad = bytes;
            bad[at] ^= 4;
            assert_eq!(Mark::decode(&bad), None, "byte {at}");
            assert_eq!(Mark::decode(&bytes[..at]), None, "{at} bytes");
        }
    }
}
