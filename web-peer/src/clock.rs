//! The page's clocks and randomness.

use roundelay_core::{Instant, Now};
use web_sys::Window;

use crate::error::{Code, Error};

/// The page's window.
///
/// # Errors
/// In a worker, where there is none.
pub(crate) fn window() -> Result<Window, Error> {
    web_sys::window().ok_or_else(|| {
        Error::new(
            Code::NotBuilt,
            "a peer runs in a page only, not in a worker",
        )
    })
}

/// Both clocks, now.
pub(crate) fn now() -> Now {
    let millis = web_sys::window()
        .and_then(|window| window.performance())
        .map_or_else(js_sys::Date::now, |performance| performance.now());
    Now {
        mono: Instant::from_micros((millis * 1000.0) as u64),
        unix_ms: js_sys::Date::now() as u64,
    }
}

/// Fresh random bytes from the browser.
///
/// # Errors
/// When the browser gives none.
pub(crate) fn random_seed() -> Result<[u8; 32], Error> {
    let missing = |_| Error::new(Code::NotBuilt, "the browser gives no randomness");
    let mut seed = [0; 32];
    window()?
        .crypto()
        .and_then(|crypto| crypto.get_random_values_with_u8_array(&mut seed))
        .map_err(missing)?;
    Ok(seed)
}
