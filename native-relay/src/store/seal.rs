//! Every record carries a sum of its key and value: redb checks its pages when
//! the file is opened, but not when it reads one of them again later.

use crc32c::{crc32c, crc32c_append};

/// How much longer a sealed value is.
pub(super) const SEAL_BYTES: usize = 4;

/// Writes a value and its seal, which fill `out`.
pub(super) fn seal(key: &[u8], value: &[u8], out: &mut [u8]) {
    if let Some((body, sum)) = out.split_last_chunk_mut::<SEAL_BYTES>() {
        body.copy_from_slice(value);
        *sum = sum_of(key, value).to_le_bytes();
    }
}

/// The value, unless it is damaged.
pub(super) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (value, sum) = sealed.split_last_chunk::<SEAL_BYTES>()?;
    (sum_of(key, value) == u32::from_le_bytes(*sum)).then_some(value)
}

fn sum_of(key: &[u8], value: &[u8]) -> u32 {
    crc32c_append(crc32c(key), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_what_is_changed_is_not() {
        let mut sealed = [0; 9];
        seal(b"key", b"value", &mut sealed);
        assert_eq!(unseal(b"key", &sealed), Some(&b"value"[..]));
        assert_eq!(unseal(b"kez", &sealed), None);
        for bit in 0..72 {
            let mut bad = sealed;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(b"key", &bad), None, "bit {bit}");
        }
        assert_eq!(unseal(b"key", b"val"), None);
    }
}
