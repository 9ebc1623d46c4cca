//! The `roundelay` command.

fn main() {}
