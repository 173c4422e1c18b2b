//! Waystation's relay: a stateless SFU node with WHIP, WHEP and links to its peers.
