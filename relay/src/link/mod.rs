//! Relay to relay: one link per pair.
