//! Events for the control half. The channel is bounded; an end or a beginning that does not fit is kept and offered
//! again, a change of flow is not made before it fits.

use std::collections::VecDeque;

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::plane::PlaneEvent;

/// Events that the control half may be behind.
pub const CHANNEL: usize = 16_384;

/// The sending end.
#[derive(Debug)]
pub struct Events {
    sender: mpsc::Sender<PlaneEvent>,
    /// Bounded by the number of transports and streams: each has at most an up, a down and a source here.
    kept: VecDeque<PlaneEvent>,
}

impl Events {
    /// Around a channel.
    #[must_use]
    pub fn new(sender: mpsc::Sender<PlaneEvent>) -> Self {
        Self { sender, kept: VecDeque::new() }
    }

    /// Tells of something that must not be lost.
    pub fn tell(&mut self, event: PlaneEvent) {
        self.kept.push_back(event);
        self.flush();
    }

    /// Tells of a change of flow, unless the control half is behind: then it is to be offered again later.
    pub fn offer(&mut self, event: PlaneEvent) -> bool {
        self.flush();
        self.kept.is_empty() && self.sender.try_send(event).is_ok()
    }

    /// Sends what was kept, as far as there is room.
    pub fn flush(&mut self) {
        while let Some(event) = self.kept.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.kept.push_front(event);
                    return;
                }
                // Nobody listens any more.
                Err(TrySendError::Closed(_)) => {}
            }
        }
    }
}
