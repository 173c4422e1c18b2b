//! IVF: VP8, VP9 and AV1 frames, each with its time. All numbers are little-endian; the file header has 32 bytes,
//! the frame header 12 (size and time in units of the time base).

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    time::Duration,
};

use super::{ClipError, Codec, MAX_FRAME_BYTES, Unit, UnitReader, VIDEO_CLOCK_HZ, read_exactly, seconds};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 12;
/// ffmpeg reads and writes a duration here, in ticks of the time base; others take it for a count of frames.
const DURATION_AT: u64 = 24;

/// An AV1 temporal delimiter with a size field: RTP leaves it out (AV1 RTP §5), files want it back.
const TEMPORAL_DELIMITER: [u8; 2] = [0x12, 0x00];

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes[at..].first_chunk().map_or(0, |chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// Reads an IVF file.
pub struct IvfReader<R> {
    reader: R,
    codec: Codec,
    tick_seconds: f64,
    first_tick: Option<u64>,
    last: Option<(u64, Duration)>,
    at: u64,
}

impl<R: Read> IvfReader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`ClipError`] when it is none, or names a codec or time base that cannot be used.
    pub fn new(mut reader: R) -> Result<Self, ClipError> {
        let header = read_exactly(&mut reader, HEADER_BYTES, "the IVF header", 0)?;
        let not_this = |why: String| ClipError::NotThis { format: "IVF file", why };
        if !header.starts_with(b"DKIF") {
            return Err(not_this(format!("it starts with {:02x?}", &header[..4])));
        }
        let header_bytes = usize::from(u16_at(&header, 6));
        if header_bytes < HEADER_BYTES {
            return Err(ClipError::Damaged { at: 6, why: format!("a header of {header_bytes} bytes") });
        }
        let codec = match &header[8..12] {
            b"VP80" => Codec::Vp8,
            b"VP90" => Codec::Vp9,
            b"AV01" => Codec::Av1,
            other => {
                return Err(not_this(format!(
                    "its codec is {:?}; VP80, VP90 and AV01 can be published",
                    String::from_utf8_lossy(other)
                )));
            }
        };
        let (rate, scale) = (u32_at(&header, 16), u32_at(&header, 20));
        if rate == 0 || scale == 0 {
            return Err(ClipError::Damaged { at: 16, why: format!("a time base of {scale}/{rate}") });
        }
        let extra = header_bytes - HEADER_BYTES;
        read_exactly(&mut reader, extra, "the IVF header", HEADER_BYTES as u64)?;
        let tick_seconds = f64::from(scale) / f64::from(rate);
        Ok(Self { reader, codec, tick_seconds, first_tick: None, last: None, at: header_bytes as u64 })
    }

    fn frame(&mut self) -> Result<Option<(u64, Vec<u8>)>, ClipError> {
        let mut header = Vec::with_capacity(FRAME_HEADER_BYTES);
        self.reader.by_ref().take(FRAME_HEADER_BYTES as u64).read_to_end(&mut header)?;
        if header.is_empty() {
            return Ok(None);
        }
        if header.len() < FRAME_HEADER_BYTES {
            return Err(ClipError::Truncated { what: "a frame's header", at: self.at + header.len() as u64 });
        }
        let bytes = u32_at(&header, 0);
        if bytes as usize > MAX_FRAME_BYTES {
            return Err(ClipError::TooLarge { at: self.at, bytes: bytes.into() });
        }
        let data_at = self.at + FRAME_HEADER_BYTES as u64;
        let data = read_exactly(&mut self.reader, bytes as usize, "a frame", data_at)?;
        self.at = data_at + u64::from(bytes);
        Ok(Some((u64::from(u32_at(&header, 4)) | u64::from(u32_at(&header, 8)) << 32, data)))
    }
}

impl<R: Read + Send> UnitReader for IvfReader<R> {
    fn codec(&self) -> Codec {
        self.codec
    }

    fn next_unit(&mut self) -> Result<Option<Unit>, ClipError> {
        let frame_at = self.at;
        let Some((tick, data)) = self.frame()? else { return Ok(None) };
        let first = *self.first_tick.get_or_insert(tick);
        let since = tick.checked_sub(first).ok_or_else(|| ClipError::Damaged {
            at: frame_at,
            why: format!("a frame of time {tick} after the first, of time {first}"),
        })?;
        let at = seconds(since as f64 * self.tick_seconds, frame_at)?;
        let lasts = match self.last {
            None => seconds(self.tick_seconds, frame_at)?,
            Some((last, _)) if tick < last => {
                return Err(ClipError::Damaged {
                    at: frame_at,
                    why: format!("time {tick} after time {last}"),
                });
            }
            Some((_, last)) => at - last,
        };
        self.last = Some((tick, at));
        Ok(Some(Unit { data: data.into(), at, lasts }))
    }
}

/// Writes an IVF file with a time base of 1/90,000 s.
pub struct IvfWriter<W> {
    writer: W,
    codec: Codec,
    written: Option<Written>,
}

/// The frames that are in the file.
#[derive(Clone, Copy, Debug)]
struct Written {
    first_tick: u64,
    last_tick: u64,
    frames: u64,
}

impl Written {
    /// From the first frame to the end of the last, which lasts as long as one does on average. Of a single frame
    /// nothing is known: one tick.
    fn duration_ticks(self) -> u64 {
        let between = self.last_tick.saturating_sub(self.first_tick);
        let last = between.checked_div(self.frames.saturating_sub(1)).unwrap_or(1);
        between.saturating_add(last)
    }
}

impl<W: Write + Seek> IvfWriter<W> {
    /// Starts the file. `first_frame` tells a VP8 clip's size.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut writer: W, codec: Codec, first_frame: &[u8]) -> io::Result<Self> {
        let fourcc: &[u8; 4] = match codec {
            Codec::Vp8 => b"VP80",
            Codec::Vp9 => b"VP90",
            Codec::Av1 => b"AV01",
            Codec::H264 | Codec::Opus => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("IVF cannot hold {codec}; name the file .h264 or .ogg"),
                ));
            }
        };
        let (width, height) = match codec {
            Codec::Vp8 => vp8_size(first_frame).unwrap_or_default(),
            Codec::Vp9 | Codec::Av1 | Codec::H264 | Codec::Opus => (0, 0),
        };
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(b"DKIF");
        header.extend_from_slice(&0u16.to_le_bytes());
        header.extend_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        header.extend_from_slice(fourcc);
        header.extend_from_slice(&width.to_le_bytes());
        header.extend_from_slice(&height.to_le_bytes());
        header.extend_from_slice(&VIDEO_CLOCK_HZ.to_le_bytes());
        header.extend_from_slice(&1u32.to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        writer.write_all(&header)?;
        Ok(Self { writer, codec, written: None })
    }

    /// Adds a frame; `tick` counts 1/90,000 s from the file's start.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, tick: u64, frame: &[u8]) -> io::Result<()> {
        let delimiter: &[u8] = match self.codec {
            Codec::Av1 if !frame.starts_with(&TEMPORAL_DELIMITER) => &TEMPORAL_DELIMITER,
            Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Opus => &[],
        };
        let bytes = u32::try_from(frame.len() + delimiter.len()).map_err(io::Error::other)?;
        self.writer.write_all(&bytes.to_le_bytes())?;
        self.writer.write_all(&tick.to_le_bytes())?;
        self.writer.write_all(delimiter)?;
        self.writer.write_all(frame)?;
        let (first_tick, frames) =
            self.written.map_or((tick, 0), |written| (written.first_tick, written.frames));
        self.written = Some(Written { first_tick, last_tick: tick, frames: frames.saturating_add(1) });
        Ok(())
    }

    /// Writes the duration into the header.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        let ticks = self.written.map_or(0, Written::duration_ticks);
        self.writer.seek(SeekFrom::Start(DURATION_AT))?;
        self.writer.write_all(&u32::try_from(ticks).unwrap_or(u32::MAX).to_le_bytes())?;
        self.writer.seek(SeekFrom::End(0))?;
        self.writer.flush()?;
        Ok(self.writer)
    }
}

/// Width and height of a VP8 keyframe (RFC 6386 §9.1).
fn vp8_size(frame: &[u8]) -> Option<(u16, u16)> {
    let keyframe = frame.first()? & 1 == 0;
    let size: &[u8; 4] = frame.get(6..10)?.first_chunk()?;
    (keyframe && frame.get(3..6)? == [0x9d, 0x01, 0x2a])
        .then(|| (u16_at(size, 0) & 0x3fff, u16_at(size, 2) & 0x3fff))
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, time::Duration};

    use proptest::prelude::*;

    use super::{IvfReader, IvfWriter};
    use crate::media::{ClipError, Codec, UnitReader};

    fn clip(codec: Codec, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut writer = IvfWriter::new(Cursor::new(Vec::new()), codec, &frames[0].1).unwrap();
        for (tick, frame) in frames {
            writer.write(*tick, frame).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_clip_cut_anywhere_within_a_frame_says_where_it_ends() {
        let whole = clip(Codec::Vp8, &[(0, vec![1; 30]), (3000, vec![2; 40])]);
        for cut in 0..whole.len() {
            let at_boundary = [32, 32 + 12 + 30].contains(&cut);
            let read = IvfReader::new(&whole[..cut]).and_then(|mut reader| {
                while reader.next_unit()?.is_some() {}
                Ok(())
            });
            match read {
                Ok(()) => assert!(at_boundary, "cut at {cut}"),
                Err(ClipError::Truncated { at, .. }) => assert_eq!(at, cut as u64),
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
    }

    #[test]
    fn a_frame_that_claims_gigabytes_reserves_none_and_is_refused() {
        let mut bytes = clip(Codec::Vp9, &[(0, vec![1; 8])]);
        bytes[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = IvfReader::new(&bytes[..]).unwrap().next_unit().unwrap_err();
        assert!(matches!(error, ClipError::TooLarge { at: 32, .. }), "{error}");
    }

    #[test]
    fn a_foreign_codec_is_named() {
        let mut bytes = clip(Codec::Vp8, &[(0, vec![1; 8])]);
        bytes[8..12].copy_from_slice(b"H265");
        let error = IvfReader::new(&bytes[..]).err().unwrap().to_string();
        assert!(error.contains("H265"), "{error}");
    }

    #[test]
    fn a_vp8_header_carries_the_size_of_the_first_keyframe() {
        let mut key = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a];
        key.extend_from_slice(&640u16.to_le_bytes());
        key.extend_from_slice(&360u16.to_le_bytes());
        let bytes = clip(Codec::Vp8, &[(0, key)]);
        assert_eq!(bytes[12..16], [0x80, 0x02, 0x68, 0x01]);
    }

    #[test]
    fn the_header_tells_the_duration_in_ticks() {
        let frames = [0u64, 3_000, 6_000, 9_000].map(|tick| (tick, vec![1; 8]));
        for (count, ticks) in [(1, 1u32), (2, 6_000), (4, 12_000)] {
            assert_eq!(clip(Codec::Vp9, &frames[..count])[24..28], ticks.to_le_bytes(), "{count} frames");
        }
        let long = [(0, vec![1; 8]), (u64::MAX, vec![1; 8])];
        assert_eq!(clip(Codec::Vp9, &long)[24..28], u32::MAX.to_le_bytes());
    }

    #[test]
    fn an_av1_frame_gets_its_temporal_delimiter_back_once() {
        let bytes = clip(Codec::Av1, &[(0, vec![0x0a, 0x01, 0x00]), (1, vec![0x12, 0x00, 0x32])]);
        let mut reader = IvfReader::new(&bytes[..]).unwrap();
        assert_eq!(reader.next_unit().unwrap().unwrap().data[..], [0x12, 0x00, 0x0a, 0x01, 0x00]);
        assert_eq!(reader.next_unit().unwrap().unwrap().data[..], [0x12, 0x00, 0x32]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            frames in prop::collection::vec((1u64..9000, prop::collection::vec(any::<u8>(), 0..200)), 1..20)
        ) {
            let mut tick = 0;
            let frames: Vec<_> = frames.into_iter().map(|(step, data)| { tick += step; (tick, data) }).collect();
            let bytes = clip(Codec::Vp8, &frames);
            let mut reader = IvfReader::new(&bytes[..]).unwrap();
            prop_assert_eq!(reader.codec(), Codec::Vp8);
            for (tick, data) in &frames {
                let unit = reader.next_unit().unwrap().unwrap();
                let expected = Duration::from_secs_f64((tick - frames[0].0) as f64 / 90_000.0);
                prop_assert!(unit.at.abs_diff(expected) < Duration::from_micros(1));
                prop_assert_eq!(&unit.data[..], &data[..]);
            }
            prop_assert!(reader.next_unit().unwrap().is_none());
        }

        #[test]
        fn any_bytes_are_read_or_refused(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = b"DKIF\0\0\x20\0VP80\x40\x01\xf0\0\x1e\0\0\0\x01\0\0\0".to_vec();
            bytes.extend_from_slice(&tail);
            for bytes in [&bytes, &tail] {
                if let Ok(mut reader) = IvfReader::new(&bytes[..]) {
                    while let Ok(Some(_)) = reader.next_unit() {}
                }
            }
        }
    }
}
