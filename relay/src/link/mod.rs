//! Relay to relay: one link per pair, a mutually authenticated gRPC stream beside SRTP.
//!
//! This is the shell: it dials, accepts, shakes hands, beats, and carries messages. Which links there should be, and
//! what is said over them, is the control core's business.

#[cfg(test)]
mod authority;
mod carry;
mod handshake;

pub(crate) use carry::{LinkEvent, LinkHandle, Links};
pub(crate) use handshake::{Identity, Trust};
