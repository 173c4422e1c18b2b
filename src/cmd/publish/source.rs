//! Where `publish` takes its media from: clips, at their own pace, or RTP from local UDP ports.

use std::{net::Ipv4Addr, path::Path, str::FromStr, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};
use waystation_client::{Kind, Sample, VideoCodec};

use crate::media::{Clip, Codec, Unit, UnitReader};

/// Longest RTP packet that is taken.
const MAX_PACKET_BYTES: usize = 2_048;

/// A UDP port and what comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPort {
    port: u16,
    codec: VideoCodec,
}

impl FromStr for RtpPort {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (port, codec) =
            text.split_once('/').with_context(|| format!("{text:?} is not of the form 5004/vp8"))?;
        let port = port.parse().with_context(|| format!("{port:?} is no port"))?;
        Ok(Self { port, codec: codec.parse()? })
    }
}

/// What comes next.
pub enum Fed {
    /// A frame or an Opus packet, now due.
    Sample(Kind, Sample),
    /// An RTP packet.
    Rtp(Kind, Bytes),
    /// The clips have ended.
    End,
}

/// Media for a publisher.
pub enum Source {
    /// Files.
    Clips {
        /// At most one of each kind.
        tracks: Vec<ClipTrack>,
        /// How long one round takes, if they begin again.
        round: Option<Duration>,
    },
    /// Sockets.
    Ports {
        /// Video, and what it is.
        video: Option<(UdpSocket, VideoCodec)>,
        /// Opus.
        audio: Option<UdpSocket>,
    },
}

/// A clip that is being read.
pub struct ClipTrack {
    clip: Clip,
    kind: Kind,
    reader: Box<dyn UnitReader>,
    next: Option<Unit>,
    /// Where this round began.
    base: Duration,
}

impl Source {
    /// Opens clips, and reads them through once.
    ///
    /// # Errors
    /// When one is not whole, or does not hold what it should.
    pub fn clips(
        video: Option<&Path>,
        audio: Option<&Path>,
        h264_fps: Option<f64>,
        repeat: bool,
    ) -> anyhow::Result<Self> {
        let mut tracks = Vec::new();
        for (path, kind) in [(video, Kind::Video), (audio, Kind::Audio)] {
            let Some(path) = path else { continue };
            let clip = Clip::open(path, h264_fps)?;
            if clip.codec.is_video() != (kind == Kind::Video) {
                bail!("--{kind} {}: it holds {}, which is no {kind}", path.display(), clip.codec);
            }
            let reader = clip.reader()?;
            let mut track = ClipTrack { clip, kind, reader, next: None, base: Duration::ZERO };
            track.advance()?;
            tracks.push(track);
        }
        let longest = tracks.iter().map(|track| track.clip.lasts).max();
        Ok(Self::Clips { tracks, round: longest.filter(|_| repeat) })
    }

    /// Opens UDP ports of 127.0.0.1.
    ///
    /// # Errors
    /// When one is taken.
    pub async fn ports(video: Option<RtpPort>, audio: Option<u16>) -> anyhow::Result<Self> {
        let video = match video {
            Some(RtpPort { port, codec }) => Some((bind(port, "--rtp-video").await?, codec)),
            None => None,
        };
        let audio = match audio {
            Some(port) => Some(bind(port, "--rtp-audio").await?),
            None => None,
        };
        Ok(Self::Ports { video, audio })
    }

    /// Whether there is audio.
    pub fn has_audio(&self) -> bool {
        match self {
            Self::Clips { tracks, .. } => tracks.iter().any(|track| track.kind == Kind::Audio),
            Self::Ports { audio, .. } => audio.is_some(),
        }
    }

    /// What the video is, if there is any.
    pub fn video_codec(&self) -> Option<VideoCodec> {
        match self {
            Self::Clips { tracks, .. } => tracks.iter().find_map(|track| match track.clip.codec {
                Codec::Vp8 => Some(VideoCodec::Vp8),
                Codec::Vp9 => Some(VideoCodec::Vp9),
                Codec::Av1 => Some(VideoCodec::Av1),
                Codec::H264 => Some(VideoCodec::H264),
                Codec::Opus => None,
            }),
            Self::Ports { video, .. } => video.as_ref().map(|(_, codec)| *codec),
        }
    }

    /// Waits for what is due next; clips begin at `begins_at`. Cancel safe.
    ///
    /// # Errors
    /// When a clip changed since it was opened, or a socket fails.
    pub async fn next(&mut self, begins_at: Option<Instant>) -> anyhow::Result<Fed> {
        match self {
            Self::Clips { tracks, round } => match begins_at {
                Some(begins_at) => next_unit(tracks, *round, begins_at).await,
                None => std::future::pending().await,
            },
            Self::Ports { video, audio } => {
                let (mut video_packet, mut audio_packet) = ([0; MAX_PACKET_BYTES], [0; MAX_PACKET_BYTES]);
                let video = video.as_ref().map(|(socket, _)| socket);
                tokio::select! {
                    length = receive(video, &mut video_packet) => {
                        Ok(Fed::Rtp(Kind::Video, Bytes::copy_from_slice(&video_packet[..length?])))
                    }
                    length = receive(audio.as_ref(), &mut audio_packet) => {
                        Ok(Fed::Rtp(Kind::Audio, Bytes::copy_from_slice(&audio_packet[..length?])))
                    }
                }
            }
        }
    }
}

async fn receive(socket: Option<&UdpSocket>, packet: &mut [u8]) -> std::io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(packet).await,
        None => std::future::pending().await,
    }
}

async fn bind(port: u16, flag: &str) -> anyhow::Result<UdpSocket> {
    let bound = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await;
    bound.map_err(|error| {
        anyhow!("cannot listen on UDP port {port} of 127.0.0.1: {error}; choose another with {flag}")
    })
}

impl ClipTrack {
    fn advance(&mut self) -> anyhow::Result<()> {
        self.next = self.reader.next_unit().map_err(|why| self.clip.bad(why))?;
        Ok(())
    }

    /// When its next unit is due, from the beginning of all.
    fn due(&self) -> Option<Duration> {
        self.next.as_ref().map(|unit| self.base + unit.at)
    }
}

async fn next_unit(
    tracks: &mut [ClipTrack],
    round: Option<Duration>,
    begins_at: Instant,
) -> anyhow::Result<Fed> {
    if let (Some(round), true) = (round, tracks.iter().all(|track| track.next.is_none())) {
        for track in &mut *tracks {
            track.base += round;
            track.reader = track.clip.reader()?;
            track.advance()?;
        }
    }
    let first = tracks.iter_mut().filter(|track| track.next.is_some()).min_by_key(|track| track.due());
    let Some((track, at)) = first.and_then(|track| track.due().map(|at| (track, at))) else {
        return Ok(Fed::End);
    };
    sleep_until(begins_at + at).await;
    let Some(unit) = track.next.take() else { return Ok(Fed::End) };
    track.advance()?;
    Ok(Fed::Sample(track.kind, Sample { data: unit.data, timestamp: at }))
}

#[cfg(test)]
mod tests {
    use super::RtpPort;

    #[test]
    fn a_port_names_its_codec() {
        assert!("5004/vp8".parse::<RtpPort>().is_ok());
        for bad in ["5004", "x/vp8", "70000/vp8", "5004/theora", ""] {
            assert!(bad.parse::<RtpPort>().is_err(), "{bad:?}");
        }
    }
}
