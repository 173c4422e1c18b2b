//! The `waystation` command.

mod media;

fn main() {}
