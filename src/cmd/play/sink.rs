//! Where `play` writes: one file per track, from the first keyframe on, with time counted from the file's first unit.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use waystation_client::{Codec, Kind, ReceivedSample, VideoCodec};

use crate::media::{self, AnnexBWriter, IvfWriter, OggOpusWriter};

type Out = BufWriter<File>;

/// The files of a player.
pub struct Sinks {
    video: Option<Sink>,
    audio: Option<Sink>,
}

/// A file.
struct Sink {
    path: PathBuf,
    writer: Writer,
    clock: Clock,
}

/// What is written, once the first unit says what it is.
enum Writer {
    Waiting(Out),
    Ivf(IvfWriter<Out>),
    AnnexB(AnnexBWriter<Out>),
    Ogg(OggOpusWriter<Out>),
    /// It failed; nothing more is written.
    Broken,
}

/// RTP timestamps as ticks since the first one.
#[derive(Debug, Default)]
struct Clock {
    last: Option<(u32, u64)>,
}

impl Clock {
    /// Extends a timestamp that wraps. A step backwards (RFC 3550 timestamps of a track never take one here) is none.
    fn ticks(&mut self, timestamp: u32) -> u64 {
        let ticks = match self.last {
            None => 0,
            Some((last, ticks)) => {
                let step = timestamp.wrapping_sub(last).cast_signed();
                ticks.saturating_add_signed(i64::from(step.max(0)))
            }
        };
        self.last = Some((timestamp, ticks));
        ticks
    }
}

impl Sinks {
    /// Creates the files.
    ///
    /// # Errors
    /// When one cannot be created.
    pub fn create(video: Option<&Path>, audio: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self { video: video.map(Sink::create).transpose()?, audio: audio.map(Sink::create).transpose()? })
    }

    /// Writes a sample to its track's file, if there is one.
    ///
    /// # Errors
    /// When the file cannot be written, or its ending does not fit the codec.
    pub fn write(&mut self, sample: &ReceivedSample) -> anyhow::Result<()> {
        let sink = match sample.kind() {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        match sink {
            Some(sink) => sink.write(sample).with_context(|| format!("cannot write {}", sink.path.display())),
            None => Ok(()),
        }
    }

    /// Finishes the files.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn finish(self) -> anyhow::Result<()> {
        for sink in [self.video, self.audio].into_iter().flatten() {
            let finished = match sink.writer {
                Writer::Ivf(writer) => writer.finish().map(drop),
                Writer::AnnexB(writer) => writer.finish().map(drop),
                Writer::Ogg(writer) => writer.finish().map(drop),
                Writer::Waiting(_) | Writer::Broken => Ok(()),
            };
            finished.with_context(|| format!("cannot write {}", sink.path.display()))?;
        }
        Ok(())
    }
}

impl Sink {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let writer = Writer::Waiting(BufWriter::new(file));
        Ok(Self { path: path.to_owned(), writer, clock: Clock::default() })
    }

    fn write(&mut self, sample: &ReceivedSample) -> io::Result<()> {
        if matches!(self.writer, Writer::Waiting(_)) {
            if !sample.keyframe {
                return Ok(());
            }
            if let Writer::Waiting(out) = std::mem::replace(&mut self.writer, Writer::Broken) {
                self.writer = start(out, sample)?;
            }
        }
        let ticks = self.clock.ticks(sample.rtp_timestamp);
        match &mut self.writer {
            Writer::Ivf(writer) => writer.write(ticks, &sample.data),
            Writer::AnnexB(writer) => writer.write(&sample.data),
            Writer::Ogg(writer) => writer.write(ticks, &sample.data),
            Writer::Waiting(_) | Writer::Broken => Ok(()),
        }
    }
}

fn start(out: Out, sample: &ReceivedSample) -> io::Result<Writer> {
    Ok(match sample.codec {
        Codec::Opus => Writer::Ogg(OggOpusWriter::new(out)?),
        Codec::Video(VideoCodec::H264) => Writer::AnnexB(AnnexBWriter::new(out)),
        Codec::Video(VideoCodec::Vp8) => Writer::Ivf(IvfWriter::new(out, media::Codec::Vp8, &sample.data)?),
        Codec::Video(VideoCodec::Vp9) => Writer::Ivf(IvfWriter::new(out, media::Codec::Vp9, &sample.data)?),
        Codec::Video(VideoCodec::Av1) => Writer::Ivf(IvfWriter::new(out, media::Codec::Av1, &sample.data)?),
    })
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn timestamps_count_from_the_first_over_the_wrap() {
        let mut clock = Clock::default();
        assert_eq!(clock.ticks(u32::MAX - 10), 0);
        assert_eq!(clock.ticks(5), 16);
        assert_eq!(clock.ticks(1_005), 1_016);
        assert_eq!(clock.ticks(1_000), 1_016, "never backwards");
    }
}
