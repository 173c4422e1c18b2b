//! Sees what `rtc` keeps to itself: that something authentic came, and what the node asks for.
//!
//! It sits nearest to the wire in the interceptor chain, behind SRTP: what reaches it has been authenticated. RFC 4585
//! §6.3.1 (PLI), RFC 5104 §4.3.1 (FIR).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use rtc::{
    interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket},
    rtcp::payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
    },
    sansio::Protocol,
    shared::error::Error,
};

/// What was seen since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// When the last authentic packet came.
    pub(super) heard: Option<Instant>,
    /// Whether a keyframe was asked for.
    pub(super) keyframe_wanted: bool,
}

/// The shell's end of an [`Observer`].
#[derive(Clone, Debug, Default)]
pub(super) struct Observed(Arc<Mutex<Seen>>);

impl Observed {
    /// What was seen since the last call.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes everything on, unchanged.
pub(super) struct Observer {
    observed: Observed,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Observer {
    pub(super) fn new(observed: Observed) -> Self {
        Self { observed, read: VecDeque::new(), write: VecDeque::new() }
    }
}

fn asks_for_keyframe(packet: &Packet) -> bool {
    let Packet::Rtcp(packets) = packet else { return false };
    packets
        .iter()
        .map(|packet| packet.as_any())
        .any(|packet| packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>())
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Observer {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        let mut seen = self.observed.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.heard = Some(packet.now);
        seen.keyframe_wanted |= asks_for_keyframe(&packet.message.packet);
        drop(seen);
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for Observer {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
