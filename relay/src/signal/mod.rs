//! SDP, WHIP (RFC 9725), WHEP and the event connection: what clients see of a relay over HTTP.
