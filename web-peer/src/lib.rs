//! Roundelay in a web page.
