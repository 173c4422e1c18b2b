//! Clips: encoded media in files, as `publish` reads and `play` writes them.
//!
//! Each format is one module with a reader and a writer over plain `Read` and `Write`. Readers take any bytes: what
//! is not a whole clip is a [`ClipError`] that says where, and no length in a file is believed before its bytes came.

mod annexb;
mod bits;
mod ivf;
mod ogg;
mod opus;
mod sps;

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bytes::Bytes;
use thiserror::Error;

pub use annexb::{AnnexBReader, AnnexBWriter};
pub use ivf::{IvfReader, IvfWriter};
pub use ogg::{OggOpusReader, OggOpusWriter};

/// Largest frame that is taken from a clip: far above any 8K keyframe.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// Clock of every video codec in RTP.
pub const VIDEO_CLOCK_HZ: u32 = 90_000;

/// What a clip may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// VP8 (RFC 6386).
    Vp8,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
    /// H.264 in Annex B form.
    H264,
    /// Opus (RFC 6716).
    Opus,
}

impl Codec {
    /// Whether it is video.
    pub fn is_video(self) -> bool {
        !matches!(self, Self::Opus)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
            Self::H264 => "h264",
            Self::Opus => "opus",
        })
    }
}

/// A word that names no codec.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no codec that is known here: vp8, vp9, av1, h264 or opus")]
pub struct UnknownCodec(String);

impl FromStr for Codec {
    type Err = UnknownCodec;
    fn from_str(text: &str) -> Result<Self, UnknownCodec> {
        match text.to_ascii_lowercase().as_str() {
            "vp8" => Ok(Self::Vp8),
            "vp9" => Ok(Self::Vp9),
            "av1" => Ok(Self::Av1),
            "h264" => Ok(Self::H264),
            "opus" => Ok(Self::Opus),
            _ => Err(UnknownCodec(text.to_owned())),
        }
    }
}

/// One encoded frame of video, or one Opus packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The encoded bytes.
    pub data: Bytes,
    /// When it is shown, from the clip's start.
    pub at: Duration,
    /// How long it lasts, as far as the format tells.
    pub lasts: Duration,
}

/// Why a clip cannot be read.
#[derive(Debug, Error)]
pub enum ClipError {
    /// The file itself.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// Bytes of something else.
    #[error("it is no {format}: {why}")]
    NotThis {
        /// The format that was expected.
        format: &'static str,
        /// What speaks against it.
        why: String,
    },
    /// A field whose value cannot be.
    #[error("it is damaged at byte {at}: {why}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// The end came too early.
    #[error("it ends in the middle of {what}, after byte {at}: the file is truncated, make or copy it again")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it ends.
        at: u64,
    },
    /// More than the limit.
    #[error("a frame at byte {at} has {bytes} bytes, at most {MAX_FRAME_BYTES} are taken")]
    TooLarge {
        /// Where.
        at: u64,
        /// How large.
        bytes: u64,
    },
    /// Nothing inside.
    #[error("it holds no media")]
    Empty,
}

/// A clip that cannot be used, with its name.
#[derive(Debug, Error)]
#[error("clip {}: {why}", path.display())]
pub struct BadClip {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub why: ClipError,
}

/// Where units come from, whatever the format.
pub trait UnitReader: Send {
    /// What the units are encoded with.
    fn codec(&self) -> Codec;

    /// The next unit; `None` at a clean end.
    ///
    /// # Errors
    /// [`ClipError`] on anything but whole units.
    fn next_unit(&mut self) -> Result<Option<Unit>, ClipError>;
}

/// A file that was read through once and found whole.
#[derive(Clone, Debug)]
pub struct Clip {
    path: PathBuf,
    h264_fps: Option<f64>,
    /// What it is encoded with.
    pub codec: Codec,
    /// From the start of its first unit to the end of its last.
    pub lasts: Duration,
}

impl Clip {
    /// Opens a clip by what its first bytes say it is, and reads it through. `h264_fps` is used for an H.264 clip
    /// that does not tell its frame rate.
    ///
    /// # Errors
    /// [`BadClip`] when it is not a whole clip of a format that is known here.
    pub fn open(path: &Path, h264_fps: Option<f64>) -> Result<Self, BadClip> {
        let bad = |why| BadClip { path: path.to_owned(), why };
        let scan = || -> Result<Self, ClipError> {
            let mut reader = reader_of(path, h264_fps)?;
            let mut lasts = None;
            while let Some(unit) = reader.next_unit()? {
                lasts = Some(unit.at + unit.lasts);
            }
            let lasts = lasts.ok_or(ClipError::Empty)?;
            Ok(Self { path: path.to_owned(), h264_fps, codec: reader.codec(), lasts })
        };
        scan().map_err(bad)
    }

    /// Its units, from the first.
    ///
    /// # Errors
    /// [`BadClip`] when the file changed since it was opened.
    pub fn reader(&self) -> Result<Box<dyn UnitReader>, BadClip> {
        reader_of(&self.path, self.h264_fps).map_err(|why| self.bad(why))
    }

    /// An error of this clip's reader, with the clip's name.
    pub fn bad(&self, why: ClipError) -> BadClip {
        BadClip { path: self.path.clone(), why }
    }
}

fn reader_of(path: &Path, h264_fps: Option<f64>) -> Result<Box<dyn UnitReader>, ClipError> {
    let mut file = BufReader::with_capacity(64 << 10, File::open(path)?);
    let mut head = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut head)?;
    let whole = io::Cursor::new(head.clone()).chain(file);
    match head.as_slice() {
        b"DKIF" => Ok(Box::new(IvfReader::new(whole)?)),
        b"OggS" => Ok(Box::new(OggOpusReader::new(whole)?)),
        [0, 0, 1, ..] | [0, 0, 0, 1] => Ok(Box::new(AnnexBReader::new(whole, h264_fps))),
        [] => Err(ClipError::Empty),
        other => Err(ClipError::NotThis {
            format: "IVF, Annex B H.264 or Ogg Opus file",
            why: format!("its first bytes are {other:02x?}"),
        }),
    }
}

/// Reads exactly `bytes` bytes, never reserving more than came.
fn read_exactly(
    reader: &mut impl Read,
    bytes: usize,
    what: &'static str,
    at: u64,
) -> Result<Vec<u8>, ClipError> {
    let mut data = Vec::with_capacity(bytes.min(64 << 10));
    reader.by_ref().take(bytes as u64).read_to_end(&mut data)?;
    if data.len() < bytes {
        return Err(ClipError::Truncated { what, at: at + data.len() as u64 });
    }
    Ok(data)
}

/// Seconds that are no time (negative, infinite, or beyond any clip) become an error.
fn seconds(value: f64, at: u64) -> Result<Duration, ClipError> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|duration| duration.as_secs() < 1 << 32)
        .ok_or_else(|| ClipError::Damaged { at, why: format!("a time of {value} seconds") })
}
