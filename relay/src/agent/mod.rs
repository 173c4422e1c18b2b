//! The coordinator's side of a relay: attach, beats, keys, exchange.
