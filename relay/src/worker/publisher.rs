//! One publish at its stream's home.

use super::{
    routes::{Proof, WorkerId},
    stream::Flow,
};
use crate::media::ingress::Ingress;

/// A publish.
pub struct Publisher {
    /// Its transport's worker.
    pub carrier: WorkerId,
    /// How its peer proves itself after a standstill.
    pub proof: Proof,
    /// Its stream's slot.
    pub stream: usize,
    /// What arrives.
    pub ingress: Ingress,
    /// Whether its stream takes its packets: what the router said last.
    pub forwards: bool,
    /// Whether media arrives.
    pub flow: Flow,
}
