//! Ogg (RFC 3533) with one Opus stream (RFC 7845): pages with a checksum, packets that may span pages.

use std::io::{self, Read, Write};

use bytes::Bytes;
use crc::{Algorithm, Crc, Table};

use super::{ClipError, Codec, Unit, UnitReader, opus, read_exactly};

/// The checksum of RFC 3533 §6: the polynomial 0x04c11db7, neither reflected nor inverted.
const OGG_CRC: Algorithm<u32> = Algorithm {
    width: 32,
    poly: 0x04c1_1db7,
    init: 0,
    refin: false,
    refout: false,
    xorout: 0,
    check: 0x89a1_897f,
    residue: 0,
};
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&OGG_CRC);

const PAGE_HEADER_BYTES: usize = 27;
const CRC_AT: usize = 22;
const CONTINUED: u8 = 1;
const FIRST_PAGE: u8 = 2;
const LAST_PAGE: u8 = 4;

/// Largest packet taken: tags may hold a picture.
const MAX_PACKET_BYTES: usize = 16 << 20;

/// One page.
struct Page {
    at: u64,
    flags: u8,
    serial: u32,
    lacing: Vec<u8>,
    body: Bytes,
}

struct Pages<R> {
    reader: R,
    at: u64,
}

impl<R: Read> Pages<R> {
    fn next_page(&mut self) -> Result<Option<Page>, ClipError> {
        let at = self.at;
        let mut bytes = Vec::with_capacity(PAGE_HEADER_BYTES);
        self.reader.by_ref().take(PAGE_HEADER_BYTES as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let truncated = |got: usize| ClipError::Truncated { what: "an Ogg page", at: at + got as u64 };
        let &[b'O', b'g', b'g', b'S', version, flags, ..] = &bytes[..] else {
            return Err(match bytes.len() {
                0..6 => truncated(bytes.len()),
                _ => ClipError::Damaged { at, why: format!("no Ogg page starts with {:02x?}", &bytes[..4]) },
            });
        };
        if bytes.len() < PAGE_HEADER_BYTES {
            return Err(truncated(bytes.len()));
        }
        if version != 0 {
            return Err(ClipError::Damaged { at, why: format!("an Ogg page of version {version}") });
        }
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk));
        let (serial, checksum) = (number(14), number(CRC_AT));
        let lacing_at = at + PAGE_HEADER_BYTES as u64;
        let lacing = read_exactly(&mut self.reader, usize::from(bytes[26]), "an Ogg page", lacing_at)?;
        let body_at = lacing_at + lacing.len() as u64;
        let body_bytes = lacing.iter().copied().map(usize::from).sum();
        let body = read_exactly(&mut self.reader, body_bytes, "an Ogg page", body_at)?;
        bytes[CRC_AT..CRC_AT + 4].fill(0);
        let mut digest = CRC.digest();
        for part in [&bytes, &lacing, &body] {
            digest.update(part);
        }
        if digest.finalize() != checksum {
            return Err(ClipError::Damaged { at, why: "an Ogg page whose checksum does not match".into() });
        }
        self.at = body_at + body_bytes as u64;
        Ok(Some(Page { at, flags, serial, lacing, body: body.into() }))
    }
}

/// Reads the Opus stream of an Ogg file.
pub struct OggOpusReader<R> {
    pages: Pages<R>,
    serial: u32,
    /// The page in hand, and how far it was read: its next lacing value and body byte.
    page: Option<(Page, usize, usize)>,
    samples: u64,
}

impl<R: Read> OggOpusReader<R> {
    /// Reads up to the first audio packet.
    ///
    /// # Errors
    /// [`ClipError`] when the file holds no Opus stream that can be published.
    pub fn new(reader: R) -> Result<Self, ClipError> {
        let mut pages = Pages { reader, at: 0 };
        let mut refused = None;
        while let Some(page) = pages.next_page()? {
            if page.flags & FIRST_PAGE == 0 {
                break;
            }
            match opus::check_head(&page.body) {
                Ok(()) => {
                    let serial = page.serial;
                    let mut reader = Self { pages, serial, page: None, samples: 0 };
                    if reader.packet()?.is_none_or(|(_, tags)| !tags.starts_with(b"OpusTags")) {
                        return Err(ClipError::NotThis {
                            format: "Ogg Opus file",
                            why: "its second packet is no OpusTags".into(),
                        });
                    }
                    return Ok(reader);
                }
                Err(why) => drop(refused.get_or_insert(why)),
            }
        }
        Err(refused.unwrap_or(ClipError::Empty))
    }

    /// The next packet of our stream, and where its last page starts.
    fn packet(&mut self) -> Result<Option<(u64, Bytes)>, ClipError> {
        let mut spanning: Option<Vec<u8>> = None;
        loop {
            let Some((page, lacing_at, body_at)) = &mut self.page else {
                let Some(page) = self.pages.next_page()? else {
                    return match spanning {
                        None => Ok(None),
                        Some(_) => Err(ClipError::Truncated { what: "a packet", at: self.pages.at }),
                    };
                };
                if page.serial == self.serial {
                    check_continuation(&page, spanning.is_some())?;
                    self.page = Some((page, 0, 0));
                }
                continue;
            };
            let rest = &page.lacing[*lacing_at..];
            if rest.is_empty() {
                self.page = None;
                continue;
            }
            let full = rest.iter().take_while(|&&lace| lace == 255).count();
            let complete = full < rest.len();
            let bytes = full * 255 + if complete { usize::from(rest[full]) } else { 0 };
            let part = page.body.slice(*body_at..*body_at + bytes);
            *lacing_at += full + usize::from(complete);
            *body_at += bytes;
            let at = page.at;
            if complete && spanning.is_none() {
                return Ok(Some((at, part)));
            }
            let whole = spanning.get_or_insert_default();
            if whole.len() + part.len() > MAX_PACKET_BYTES {
                return Err(ClipError::TooLarge { at, bytes: (whole.len() + part.len()) as u64 });
            }
            whole.extend_from_slice(&part);
            if complete {
                return Ok(spanning.map(|whole| (at, whole.into())));
            }
        }
    }
}

fn check_continuation(page: &Page, expected: bool) -> Result<(), ClipError> {
    match (page.flags & CONTINUED != 0, expected) {
        (true, true) | (false, false) => Ok(()),
        (found, _) => {
            let why =
                if found { "the start of a packet is missing" } else { "the end of a packet is missing" };
            Err(ClipError::Damaged { at: page.at, why: why.into() })
        }
    }
}

impl<R: Read + Send> UnitReader for OggOpusReader<R> {
    fn codec(&self) -> Codec {
        Codec::Opus
    }

    fn next_unit(&mut self) -> Result<Option<Unit>, ClipError> {
        let Some((at, data)) = self.packet()? else { return Ok(None) };
        let samples = opus::samples(&data).ok_or_else(|| ClipError::Damaged {
            at,
            why: format!("{} bytes that are no Opus packet", data.len()),
        })?;
        let start = opus::time(self.samples);
        self.samples += u64::from(samples);
        Ok(Some(Unit { data, at: start, lasts: opus::time(self.samples) - start }))
    }
}

/// Writes an Ogg Opus file, one packet a page. A page is held back until the next comes, since the last one says
/// that it is the last.
pub struct OggOpusWriter<W> {
    writer: W,
    sequence: u32,
    held: Option<(u64, Vec<u8>)>,
}

/// Any number: there is one stream in the file.
const SERIAL: u32 = 0x5757_4159;

impl<W: Write> OggOpusWriter<W> {
    /// Starts the file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(writer: W) -> io::Result<Self> {
        let mut file = Self { writer, sequence: 0, held: None };
        file.page(FIRST_PAGE, 0, &opus::stereo_head())?;
        file.page(0, 0, &opus::tags())?;
        Ok(file)
    }

    /// Adds a packet that starts `sample` samples of 48 kHz after the file's start.
    ///
    /// # Errors
    /// Those of the writer, and a packet that is no Opus.
    pub fn write(&mut self, sample: u64, packet: &[u8]) -> io::Result<()> {
        let samples = opus::samples(packet)
            .filter(|_| packet.len() < 255 * 255)
            .ok_or_else(|| io::Error::other(format!("{} bytes that are no Opus packet", packet.len())))?;
        let granule = sample + u64::from(samples) + u64::from(opus::PRE_SKIP_SAMPLES);
        if let Some((granule, packet)) = self.held.replace((granule, packet.to_vec())) {
            self.page(0, granule, &packet)?;
        }
        Ok(())
    }

    /// Writes the last page.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        if let Some((granule, packet)) = self.held.take() {
            self.page(LAST_PAGE, granule, &packet)?;
        }
        self.writer.flush()?;
        Ok(self.writer)
    }

    fn page(&mut self, flags: u8, granule: u64, packet: &[u8]) -> io::Result<()> {
        let full = packet.len() / 255;
        let mut page = Vec::with_capacity(PAGE_HEADER_BYTES + full + 1 + packet.len());
        page.extend_from_slice(b"OggS\0");
        page.push(flags);
        page.extend_from_slice(&granule.to_le_bytes());
        page.extend_from_slice(&SERIAL.to_le_bytes());
        page.extend_from_slice(&self.sequence.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.push(u8::try_from(full + 1).map_err(io::Error::other)?);
        page.resize(page.len() + full, 255);
        page.push((packet.len() % 255) as u8);
        page.extend_from_slice(packet);
        let checksum = CRC.checksum(&page);
        page[CRC_AT..CRC_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.writer.write_all(&page)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{CRC, CRC_AT, LAST_PAGE, OGG_CRC, OggOpusReader, OggOpusWriter};
    use crate::media::{ClipError, UnitReader};

    /// CELT, 20 ms, one frame.
    const TOC: u8 = 0b1111_1000;

    fn file(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = OggOpusWriter::new(Vec::new()).unwrap();
        for (index, packet) in packets.iter().enumerate() {
            writer.write(index as u64 * 960, packet).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ClipError> {
        let mut reader = OggOpusReader::new(bytes)?;
        let mut packets = Vec::new();
        while let Some(unit) = reader.next_unit()? {
            packets.push(unit.data.to_vec());
        }
        Ok(packets)
    }

    /// Splits one packet over two pages, as other writers do.
    fn spanning(first_flags: u8, second_flags: u8) -> Vec<u8> {
        let mut bytes = file(&[]);
        for (flags, lace, body) in [(first_flags, 255u8, vec![TOC; 255]), (second_flags, 45, vec![TOC; 45])] {
            let mut page = b"OggS\0".to_vec();
            page.push(flags);
            page.extend_from_slice(&[0; 8]);
            page.extend_from_slice(&super::SERIAL.to_le_bytes());
            page.extend_from_slice(&[0; 8]);
            page.extend_from_slice(&[1, lace]);
            page.extend_from_slice(&body);
            let checksum = CRC.checksum(&page);
            page[CRC_AT..CRC_AT + 4].copy_from_slice(&checksum.to_le_bytes());
            bytes.extend_from_slice(&page);
        }
        bytes
    }

    #[test]
    fn the_checksum_is_that_of_its_catalogue() {
        assert_eq!(CRC.checksum(b"123456789"), OGG_CRC.check);
    }

    #[test]
    fn a_packet_over_two_pages_is_one() {
        assert_eq!(read_all(&spanning(0, 1)).unwrap(), [vec![TOC; 300]]);
        assert!(matches!(read_all(&spanning(0, 0)), Err(ClipError::Damaged { .. })));
        assert!(matches!(read_all(&spanning(1, 1)), Err(ClipError::Damaged { .. })));
    }

    #[test]
    fn a_file_cut_within_a_page_says_so() {
        let whole = file(&[vec![TOC; 60], vec![TOC; 70]]);
        for cut in 1..whole.len() {
            match read_all(&whole[..cut]) {
                Err(ClipError::Truncated { at, .. }) => assert_eq!(at, cut as u64),
                Ok(packets) => assert!(packets.len() < 2, "cut at {cut}"),
                Err(ClipError::NotThis { .. }) => {}
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found_by_the_checksum() {
        let mut bytes = file(&[vec![TOC; 60]]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(read_all(&bytes).unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn only_the_last_page_says_that_it_is_the_last() {
        let bytes = file(&[vec![TOC; 10], vec![TOC; 10]]);
        let flags: Vec<u8> =
            (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"OggS")).map(|at| bytes[at + 5]).collect();
        assert_eq!(flags, [2, 0, 0, LAST_PAGE]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(sizes in prop::collection::vec(1usize..1300, 1..20)) {
            let packets: Vec<_> = sizes.iter().map(|&size| vec![TOC; size]).collect();
            prop_assert_eq!(read_all(&file(&packets)).unwrap(), packets);
        }

        #[test]
        fn times_follow_from_the_packets(count in 1usize..20) {
            let bytes = file(&vec![vec![TOC; 5]; count]);
            let mut reader = OggOpusReader::new(&bytes[..]).unwrap();
            for index in 0..count {
                let unit = reader.next_unit().unwrap().unwrap();
                prop_assert_eq!(unit.at, Duration::from_millis(20) * index as u32);
                prop_assert_eq!(unit.lasts, Duration::from_millis(20));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = file(&[vec![TOC; 5]]);
            bytes.extend_from_slice(b"OggS\0");
            bytes.extend_from_slice(&tail);
            let _ = read_all(&bytes);
            let _ = read_all(&tail);
        }
    }
}
