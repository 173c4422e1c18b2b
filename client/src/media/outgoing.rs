//! One published track: samples or RTP packets of the app become RTP packets of one source.
//!
//! A track keeps its sequence numbers and timestamps when the publisher's session changes. While nothing is sent it
//! waits, and it resumes with a keyframe (PUB-6).

use bytes::{BufMut, Bytes, BytesMut};
use rtc_rtp::{
    codec::{
        av1::Av1Payloader, h264::H264Payloader, opus::OpusPayloader, vp8::Vp8Payloader, vp9::Vp9Payloader,
    },
    packet::Packet,
    packetizer::Payloader,
};
use rtc_shared::marshal::Unmarshal;
use thiserror::Error;

use super::{
    Codec, Kind, RtpPacket, Sample, VideoCodec,
    keyframe::{av1_is_whole, is_keyframe},
    starts_keyframe,
};

/// Largest sample.
pub const MAX_SAMPLE_BYTES: usize = 4 << 20;

/// Largest payload of a packet: with RTP, SRTP, UDP and IP headers it fits every path that WebRTC is used on.
const MAX_PAYLOAD_BYTES: usize = 1_180;

/// What the payloaders may fill: [`predicted_vp9`] adds a byte.
const PAYLOADER_MTU: usize = MAX_PAYLOAD_BYTES - 1;

/// Largest RTP packet taken from the app.
const MAX_PACKET_BYTES: usize = 1_400;

/// Media that cannot be sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// The publisher was started without such a track.
    #[error("this publisher has no {0} track: name one in its PublishConfig")]
    NoTrack(Kind),
    /// More than the limit.
    #[error("a sample of {bytes} bytes: at most {MAX_SAMPLE_BYTES} are taken")]
    SampleTooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// More than a path may carry.
    #[error(
        "an RTP packet of {bytes} bytes: at most {MAX_PACKET_BYTES} are taken, set the encoder's MTU lower"
    )]
    PacketTooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// Bytes that are no media of the track's codec.
    #[error("not {codec}: {why}")]
    Malformed {
        /// What was expected.
        codec: Codec,
        /// What is wrong.
        why: String,
    },
    /// The publisher was stopped, or has failed for good.
    #[error("the publisher has ended")]
    Ended,
}

/// Whether media may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// It goes out.
    Open,
    /// It goes out again from the next keyframe on.
    UntilKeyframe,
}

/// One published track.
#[derive(Clone, Debug)]
pub struct OutgoingTrack {
    codec: Codec,
    ssrc: u32,
    /// Number of the next packet made of a sample.
    sequence_number: u16,
    /// RTP timestamp of the capture clock's zero.
    timestamp_base: u32,
    /// What is added to the numbers of the app's packets: it takes back those that were left out.
    renumber: u16,
    payloader: Box<dyn Payloader>,
    flow: Flow,
}

impl OutgoingTrack {
    /// A track of this source. The numbers may start anywhere (RFC 3550 §5.1).
    #[must_use]
    pub fn new(codec: Codec, ssrc: u32, sequence_number: u16, timestamp_base: u32) -> Self {
        let payloader: Box<dyn Payloader> = match codec {
            Codec::Opus => Box::new(OpusPayloader),
            Codec::Video(VideoCodec::Vp8) => {
                let mut payloader = Vp8Payloader::default();
                payloader.enable_picture_id = true;
                Box::new(payloader)
            }
            Codec::Video(VideoCodec::Vp9) => Box::new(Vp9Payloader::default()),
            Codec::Video(VideoCodec::H264) => Box::new(H264Payloader::default()),
            Codec::Video(VideoCodec::Av1) => Box::new(Av1Payloader::default()),
        };
        let flow = Flow::UntilKeyframe;
        Self { codec, ssrc, sequence_number, timestamp_base, renumber: 0, payloader, flow }
    }

    /// What it carries.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Its source.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Something was left out: the next that goes out is a keyframe.
    pub fn interrupt(&mut self) {
        self.flow = Flow::UntilKeyframe;
    }

    /// Makes packets of a sample; none while a keyframe is waited for.
    ///
    /// # Errors
    /// [`WriteError`] when the sample is too large or no frame of this codec.
    pub fn write_sample(&mut self, sample: &Sample) -> Result<Vec<RtpPacket>, WriteError> {
        let bytes = sample.data.len();
        if bytes > MAX_SAMPLE_BYTES {
            return Err(WriteError::SampleTooLarge { bytes });
        }
        let keyframe = is_keyframe(self.codec, &sample.data);
        if self.flow == Flow::UntilKeyframe && !keyframe {
            return Ok(Vec::new());
        }
        let payloads = self.payloads(&sample.data, keyframe)?;
        self.flow = Flow::Open;
        let ticks = sample.timestamp.as_nanos() * u128::from(self.codec.clock_hz()) / 1_000_000_000;
        // The clock wraps every 2^32 ticks.
        let timestamp = self.timestamp_base.wrapping_add(ticks as u32);
        let last = payloads.len().saturating_sub(1);
        let packets = payloads.into_iter().enumerate().map(|(at, payload)| {
            let sequence_number = self.sequence_number;
            self.sequence_number = sequence_number.wrapping_add(1);
            let marker = self.codec.kind() == Kind::Video && at == last;
            RtpPacket { codec: self.codec, ssrc: self.ssrc, sequence_number, timestamp, marker, payload }
        });
        Ok(packets.collect())
    }

    fn payloads(&mut self, data: &Bytes, keyframe: bool) -> Result<Vec<Bytes>, WriteError> {
        let codec = self.codec;
        let malformed = |why: String| WriteError::Malformed { codec, why };
        if codec == Codec::Opus && data.len() > PAYLOADER_MTU {
            return Err(malformed(format!(
                "a packet of {} bytes, at most {PAYLOADER_MTU} are sent",
                data.len()
            )));
        }
        // The payloader slices by the sizes that it finds.
        if codec == Codec::Video(VideoCodec::Av1) && !av1_is_whole(data) {
            return Err(malformed("an OBU is cut short".into()));
        }
        let payloads =
            self.payloader.payload(PAYLOADER_MTU, data).map_err(|error| malformed(error.to_string()))?;
        if payloads.is_empty() {
            return Err(malformed(format!("no frame in {} bytes", data.len())));
        }
        Ok(match codec {
            Codec::Video(VideoCodec::Vp9) if !keyframe => payloads.iter().map(predicted_vp9).collect(),
            Codec::Video(_) | Codec::Opus => payloads,
        })
    }

    /// Takes a whole RTP packet of the app: its payload, marker, timestamp and number go out under this track's source.
    /// `None` while a keyframe is waited for, and for a packet that is only padding.
    ///
    /// # Errors
    /// [`WriteError`] when it is no RTP packet, or too large.
    pub fn write_rtp(&mut self, packet: &[u8]) -> Result<Option<RtpPacket>, WriteError> {
        if packet.len() > MAX_PACKET_BYTES {
            return Err(WriteError::PacketTooLarge { bytes: packet.len() });
        }
        let packet = Packet::unmarshal(&mut Bytes::copy_from_slice(packet)).map_err(|error| {
            WriteError::Malformed { codec: self.codec, why: format!("no RTP packet: {error}") }
        })?;
        let held = self.flow == Flow::UntilKeyframe && !starts_keyframe(self.codec, &packet.payload);
        if held || packet.payload.is_empty() {
            self.renumber = self.renumber.wrapping_sub(1);
            return Ok(None);
        }
        self.flow = Flow::Open;
        Ok(Some(RtpPacket {
            codec: self.codec,
            ssrc: self.ssrc,
            sequence_number: packet.header.sequence_number.wrapping_add(self.renumber),
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload,
        }))
    }
}

/// The payloader writes every frame's descriptor like a keyframe's: I, F, and a picture id of two bytes. A predicted
/// frame also says which picture it needs (RFC 9628 §4.2: P with a P_DIFF of 1, the one before).
fn predicted_vp9(payload: &Bytes) -> Bytes {
    const DESCRIPTOR_BYTES: usize = 3;
    const P: u8 = 0x40;
    const ONE_BACK: u8 = 1 << 1;
    let (descriptor, frame) = payload.split_at(DESCRIPTOR_BYTES.min(payload.len()));
    let mut out = BytesMut::with_capacity(payload.len() + 1);
    out.put_slice(descriptor);
    out.put_u8(ONE_BACK);
    out.put_slice(frame);
    out[0] |= P;
    out.freeze()
}
