//! Waystation's coordinator: rooms, streams, nodes, placement and tokens over a store.
