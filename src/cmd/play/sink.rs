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
    format: Format,
    writer: Writer,
    clock: Clock,
}

/// What a file's ending says that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Ivf,
    AnnexB,
    Ogg,
}

impl Format {
    const ALL: [Self; 3] = [Self::Ivf, Self::AnnexB, Self::Ogg];

    /// The format that holds a codec.
    fn of(codec: Codec) -> Self {
        match codec {
            Codec::Opus => Self::Ogg,
            Codec::Video(VideoCodec::H264) => Self::AnnexB,
            Codec::Video(VideoCodec::Vp8 | VideoCodec::Vp9 | VideoCodec::Av1) => Self::Ivf,
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Ivf => "ivf",
            Self::AnnexB => "h264",
            Self::Ogg => "ogg",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Ivf | Self::AnnexB => Kind::Video,
            Self::Ogg => Kind::Audio,
        }
    }

    /// What a file for a kind of track will hold.
    fn of_file(path: &Path, kind: Kind) -> anyhow::Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let named = Self::ALL.into_iter().find(|format| format.ending().eq_ignore_ascii_case(ending));
        named.filter(|format| format.kind() == kind).with_context(|| {
            let fitting = match kind {
                Kind::Video => ".ivf (VP8, VP9, AV1) or .h264 (H.264)",
                Kind::Audio => ".ogg (Opus)",
            };
            format!("--{kind}-out {}: the ending of a file for {kind} is {fitting}", path.display())
        })
    }
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
    /// When an ending does not fit, or a file cannot be created. Of the former, no file is made.
    pub fn create(video: Option<&Path>, audio: Option<&Path>) -> anyhow::Result<Self> {
        let named = |path: Option<&Path>, kind| {
            path.map(|path| Ok::<_, anyhow::Error>((path.to_owned(), Format::of_file(path, kind)?)))
                .transpose()
        };
        let (video, audio) = (named(video, Kind::Video)?, named(audio, Kind::Audio)?);
        let create = |(path, format)| Sink::create(path, format);
        Ok(Self { video: video.map(create).transpose()?, audio: audio.map(create).transpose()? })
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
    fn create(path: PathBuf, format: Format) -> anyhow::Result<Self> {
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let writer = Writer::Waiting(BufWriter::new(file));
        Ok(Self { path, format, writer, clock: Clock::default() })
    }

    fn write(&mut self, sample: &ReceivedSample) -> io::Result<()> {
        if matches!(self.writer, Writer::Waiting(_)) {
            if !sample.keyframe {
                return Ok(());
            }
            if let Writer::Waiting(out) = std::mem::replace(&mut self.writer, Writer::Broken) {
                self.writer = start(out, self.format, sample)?;
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

fn start(out: Out, format: Format, sample: &ReceivedSample) -> io::Result<Writer> {
    let fitting = Format::of(sample.codec);
    if fitting != format {
        let why = format!(
            "the stream is {}, which is no content of .{} files; name the file .{}",
            sample.codec,
            format.ending(),
            fitting.ending()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
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
    use std::path::Path;

    use waystation_client::Kind;

    use super::{Clock, Format, Sinks};

    #[test]
    fn an_ending_that_does_not_fit_its_track_is_refused_before_any_file_is_made() {
        assert_eq!(Format::of_file(Path::new("a/b.IVF"), Kind::Video).unwrap(), Format::Ivf);
        assert_eq!(Format::of_file(Path::new("b.h264"), Kind::Video).unwrap(), Format::AnnexB);
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (video, audio) in [("a.mp4", "a.ogg"), ("a.ogg", "a.ogg"), ("a.ivf", "a.ivf"), ("a", "a.ogg")] {
            let error = Sinks::create(Some(&path(video)), Some(&path(audio))).err().unwrap().to_string();
            assert!(error.contains("-out") && error.contains("ending"), "{error}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn timestamps_count_from_the_first_over_the_wrap() {
        let mut clock = Clock::default();
        assert_eq!(clock.ticks(u32::MAX - 10), 0);
        assert_eq!(clock.ticks(5), 16);
        assert_eq!(clock.ticks(1_005), 1_016);
        assert_eq!(clock.ticks(1_000), 1_016, "never backwards");
    }
}
