//! H.264 as a byte stream (ITU-T H.264 Annex B): NAL units between start codes, grouped into access units.
//!
//! The format has no times: frames follow one another at the rate of the SPS, else at the rate that was given.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use bytes::Bytes;

use super::{ClipError, Codec, MAX_FRAME_BYTES, Unit, UnitReader, bits::Bits, bits::unescaped, seconds, sps};

const START_CODE: [u8; 4] = [0, 0, 0, 1];
const CHUNK_BYTES: usize = 64 << 10;

/// Frames per second of a clip that does not tell, unless another rate is given.
const DEFAULT_FPS: f64 = 30.0;

/// How much of a slice is looked at: its header's first two numbers.
const SLICE_HEAD_BYTES: usize = 16;

/// What a NAL unit means for the grouping (H.264 §7.4.1.2.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum NalRole {
    /// A slice that goes on with its picture.
    Slice,
    /// A slice that starts a picture.
    FirstSlice,
    /// Comes before a picture: AUD, SPS, PPS, SEI and the reserved types 14 to 18.
    Before,
    /// Belongs to what is there.
    After,
}

fn role(nal: &[u8]) -> NalRole {
    match nal.first().map_or(0, |header| header & 0x1f) {
        1 | 2 | 5 => {
            let head = unescaped(&nal[1..], SLICE_HEAD_BYTES);
            match Bits::new(&head).unsigned() {
                Some(0) => NalRole::FirstSlice,
                Some(_) | None => NalRole::Slice,
            }
        }
        3 | 4 => NalRole::Slice,
        6..=9 | 14..=18 => NalRole::Before,
        _ => NalRole::After,
    }
}

/// Finds NAL units in a stream of bytes.
struct NalSplitter<R> {
    reader: R,
    /// Unread bytes; `scanned` of them hold no start code.
    buffer: Vec<u8>,
    scanned: usize,
    /// Position of `buffer` in the clip.
    at: u64,
    ended: bool,
}

impl<R: Read> NalSplitter<R> {
    fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), scanned: 0, at: 0, ended: false }
    }

    /// The bytes up to the next start code, or to the end.
    fn next_piece(&mut self) -> Result<Option<Bytes>, ClipError> {
        loop {
            let from = self.scanned.saturating_sub(2);
            if let Some(found) = self.buffer[from..].windows(3).position(|code| code == [0, 0, 1]) {
                let end = from + found;
                let piece = Bytes::copy_from_slice(&self.buffer[..end]);
                self.consume(end + 3);
                return Ok(Some(piece));
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_FRAME_BYTES {
                return Err(ClipError::TooLarge { at: self.at, bytes: self.scanned as u64 });
            }
            if self.ended {
                let rest = std::mem::take(&mut self.buffer);
                self.consume(0);
                return Ok((!rest.is_empty()).then(|| rest.into()));
            }
            let read = self.reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut self.buffer)?;
            self.ended = read == 0;
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.scanned = 0;
        self.at += bytes as u64;
    }

    /// The next NAL unit, without start code and trailing zeros.
    fn next_nal(&mut self) -> Result<Option<Bytes>, ClipError> {
        while let Some(piece) = self.next_piece()? {
            let bytes = piece.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if bytes > 0 {
                return Ok(Some(piece.slice(..bytes)));
            }
        }
        Ok(None)
    }
}

/// Reads an Annex B clip, one access unit at a time.
pub struct AnnexBReader<R> {
    nals: NalSplitter<R>,
    /// First NAL unit of the next access unit.
    next: Option<Bytes>,
    given_fps: Option<f64>,
    sps_fps: Option<f64>,
    at: Duration,
}

impl<R: Read> AnnexBReader<R> {
    /// A reader. `fps` is the frame rate of a clip whose SPS does not tell it.
    pub fn new(reader: R, fps: Option<f64>) -> Self {
        Self { nals: NalSplitter::new(reader), next: None, given_fps: fps, sps_fps: None, at: Duration::ZERO }
    }

    /// The next access unit, with start codes; incomplete ones at the end (no slice) are left out.
    fn access_unit(&mut self) -> Result<Option<Vec<u8>>, ClipError> {
        let mut unit = Vec::new();
        let mut has_slice = false;
        loop {
            let nal = match self.next.take() {
                Some(nal) => nal,
                None => match self.nals.next_nal()? {
                    Some(nal) => nal,
                    None => return Ok(has_slice.then_some(unit)),
                },
            };
            let role = role(&nal);
            match role {
                NalRole::FirstSlice | NalRole::Before if has_slice => {
                    self.next = Some(nal);
                    return Ok(Some(unit));
                }
                NalRole::FirstSlice | NalRole::Slice => has_slice = true,
                NalRole::Before | NalRole::After => {}
            }
            if unit.len() + nal.len() > MAX_FRAME_BYTES {
                return Err(ClipError::TooLarge { at: self.nals.at, bytes: (unit.len() + nal.len()) as u64 });
            }
            if nal[0] & 0x1f == 7 {
                self.sps_fps = sps::frames_per_second(&nal).or(self.sps_fps);
            }
            unit.extend_from_slice(&START_CODE);
            unit.extend_from_slice(&nal);
        }
    }
}

impl<R: Read + Send> UnitReader for AnnexBReader<R> {
    fn codec(&self) -> Codec {
        Codec::H264
    }

    fn next_unit(&mut self) -> Result<Option<Unit>, ClipError> {
        let Some(data) = self.access_unit()? else { return Ok(None) };
        let fps = self.sps_fps.or(self.given_fps).unwrap_or(DEFAULT_FPS);
        let lasts = seconds(1.0 / fps, self.nals.at)?;
        let at = self.at;
        self.at += lasts;
        Ok(Some(Unit { data: data.into(), at, lasts }))
    }
}

/// Writes an Annex B clip.
pub struct AnnexBWriter<W> {
    writer: W,
}

impl<W: Write> AnnexBWriter<W> {
    /// A writer; the format has no header.
    pub fn new(writer: W) -> Self {
        Self { writer }
    }

    /// Adds an access unit that has its start codes.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, access_unit: &[u8]) -> io::Result<()> {
        self.writer.write_all(access_unit)
    }

    /// Flushes the file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{AnnexBReader, AnnexBWriter, NalSplitter, START_CODE};
    use crate::media::UnitReader;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x0d, 0x80];
    const PPS: &[u8] = &[0x68, 0xce];
    /// `first_mb_in_slice` 0, then 1: a picture of two slices.
    const KEY: [&[u8]; 2] = [&[0x65, 0x88, 0x84], &[0x65, 0x48, 0x84]];
    const DELTA: [&[u8]; 2] = [&[0x41, 0x9a, 0x02], &[0x41, 0x5a, 0x02]];

    fn stream(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| START_CODE.iter().chain(nal.iter()).copied()).collect()
    }

    fn units(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut reader = AnnexBReader::new(bytes, None);
        std::iter::from_fn(|| reader.next_unit().unwrap().map(|unit| unit.data.to_vec())).collect()
    }

    #[test]
    fn parameter_sets_open_a_unit_and_further_slices_stay_in_it() {
        let first = stream(&[SPS, PPS, KEY[0], KEY[1]]);
        let second = stream(&DELTA);
        let third = stream(&DELTA);
        assert_eq!(units(&[&first[..], &second, &third].concat()), [first, second, third]);
    }

    #[test]
    fn short_start_codes_and_padding_are_taken() {
        let mut bytes = vec![0, 0, 1];
        bytes.extend_from_slice(KEY[0]);
        bytes.extend_from_slice(&[0, 0, 0, 0, 1]);
        bytes.extend_from_slice(DELTA[0]);
        bytes.extend_from_slice(&[0, 0]);
        assert_eq!(units(&bytes), [stream(&KEY[..1]), stream(&DELTA[..1])]);
    }

    #[test]
    fn frames_follow_at_the_given_rate_when_the_clip_tells_none() {
        let bytes = stream(&[KEY[0], DELTA[0], DELTA[0]]);
        let mut reader = AnnexBReader::new(&bytes[..], Some(50.0));
        let times: Vec<_> = std::iter::from_fn(|| reader.next_unit().unwrap().map(|unit| unit.at)).collect();
        assert_eq!(times, [0, 20, 40].map(Duration::from_millis));
    }

    #[test]
    fn parameter_sets_with_no_picture_are_no_unit() {
        assert!(units(&stream(&[SPS, PPS])).is_empty());
    }

    /// A reader that gives one byte a call: start codes fall on every boundary.
    struct Drip<'a>(&'a [u8]);

    impl std::io::Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            self.0 = rest;
            out[0] = *first;
            Ok(1)
        }
    }

    proptest! {
        #[test]
        fn nal_units_are_found_wherever_reads_end(
            nals in prop::collection::vec(prop::collection::vec(1u8.., 1..50), 1..10)
        ) {
            let slices: Vec<&[u8]> = nals.iter().map(Vec::as_slice).collect();
            let bytes = stream(&slices);
            let mut splitter = NalSplitter::new(Drip(&bytes));
            for nal in &slices {
                prop_assert_eq!(&splitter.next_nal().unwrap().unwrap()[..], *nal);
            }
            prop_assert!(splitter.next_nal().unwrap().is_none());
        }

        #[test]
        fn what_was_written_is_read(pictures in 1usize..20) {
            let mut writer = AnnexBWriter::new(Vec::new());
            for _ in 0..pictures {
                writer.write(&stream(&[SPS, PPS, KEY[0]])).unwrap();
            }
            prop_assert_eq!(units(&writer.finish().unwrap()).len(), pictures);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..400)) {
            let mut reader = AnnexBReader::new(&bytes[..], None);
            while let Ok(Some(unit)) = reader.next_unit() {
                prop_assert!(!unit.data.is_empty());
            }
        }
    }
}
