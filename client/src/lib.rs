//! Waystation's Rust client: rooms, publishers and players that walk the node list on their own.
