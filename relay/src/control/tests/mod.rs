//! The core under injected time, alone and as a small cluster.

mod alone;
mod cluster;
mod net;
mod random;
