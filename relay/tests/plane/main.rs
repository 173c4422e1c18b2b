//! The data plane over real UDP on loopback, with peers that are not ours: DTLS and SRTP by the `rtc-*` crates.

mod cases;
mod link;
mod old;
mod peer;
mod scene;
mod starts;
mod takes;
