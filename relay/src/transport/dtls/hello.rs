//! Reads a ClientHello (RFC 5246 §7.4.1.2, RFC 6347 §4.2.2) before the handshake does, to know which SRTP profiles the
//! peer offers (RFC 5764 §4.1.1): the first read of `rtc-dtls` fixes our configuration.
//!
//! Chromium's hello spans two datagrams, GStreamer's comes in fragments of some 230 bytes, in whatever order.

/// Longest hello that is put together. Post-quantum key shares make about 1.6 KiB.
const MAX_HELLO_BYTES: usize = 16 * 1024;
/// Most datagrams that are held for it.
const MAX_HELD: usize = 128;
const RECORD_HEADER_BYTES: usize = 13;
const HANDSHAKE_HEADER_BYTES: usize = 12;
const CONTENT_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_USE_SRTP: u16 = 14;

/// A hello in the making: its datagrams are held until it is whole.
#[derive(Debug, Default)]
pub struct HelloReader {
    hello: Vec<u8>,
    have: Vec<bool>,
    held: Vec<Vec<u8>>,
}

/// What a datagram brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// The hello is not whole yet.
    Partial,
    /// It is whole: its SRTP profiles by number, and the datagrams to be fed to the handshake in order.
    Whole {
        /// In the peer's order.
        profiles: Vec<u16>,
        /// All that were held.
        datagrams: Vec<Vec<u8>>,
    },
}

impl HelloReader {
    /// Takes a datagram. One that holds no part of a hello, or that would exceed the bounds, is dropped.
    pub fn read(&mut self, datagram: &[u8]) -> Hello {
        if self.held.len() >= MAX_HELD || !self.take(datagram) {
            return Hello::Partial;
        }
        self.held.push(datagram.to_vec());
        if self.have.is_empty() || self.have.contains(&false) {
            return Hello::Partial;
        }
        let profiles = use_srtp(&self.hello).unwrap_or_default();
        Hello::Whole { profiles, datagrams: std::mem::take(&mut self.held) }
    }

    /// Whether a fragment of the hello was in the datagram.
    fn take(&mut self, mut datagram: &[u8]) -> bool {
        let mut found = false;
        while let Some((header, rest)) = datagram.split_at_checked(RECORD_HEADER_BYTES) {
            let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let Some((record, rest)) = rest.split_at_checked(length) else { break };
            if header[0] == CONTENT_HANDSHAKE && header[3..5] == [0, 0] {
                found |= self.fragment(record).is_some();
            }
            datagram = rest;
        }
        found
    }

    fn fragment(&mut self, record: &[u8]) -> Option<()> {
        let (header, body) = record.split_at_checked(HANDSHAKE_HEADER_BYTES)?;
        let number = |at: usize| {
            usize::from(header[at]) << 16 | usize::from(header[at + 1]) << 8 | usize::from(header[at + 2])
        };
        let (total, offset, length) = (number(1), number(6), number(9));
        if header[0] != CLIENT_HELLO || total == 0 || total > MAX_HELLO_BYTES {
            return None;
        }
        if self.hello.len() != total {
            self.hello = vec![0; total];
            self.have = vec![false; total];
            self.held.clear();
        }
        let place = offset..offset.checked_add(length)?;
        self.hello.get_mut(place.clone())?.copy_from_slice(body.get(..length)?);
        self.have.get_mut(place)?.fill(true);
        Some(())
    }
}

/// A cursor over length-prefixed vectors.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.bytes(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = *self.bytes(1)?.first()?;
        self.bytes(usize::from(length))
    }

    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(usize::from(length))
    }
}

/// Profiles of the use_srtp extension; `None` where there is none or the hello is broken.
fn use_srtp(hello: &[u8]) -> Option<Vec<u16>> {
    let mut fields = Fields(hello);
    let _version_and_random = fields.bytes(34)?;
    let _session = fields.short_vector()?;
    let _cookie = fields.short_vector()?;
    let _suites = fields.vector()?;
    let _compressions = fields.short_vector()?;
    let mut extensions = Fields(fields.vector()?);
    loop {
        let kind = extensions.number()?;
        let data = extensions.vector()?;
        if kind == EXTENSION_USE_SRTP {
            let profiles = Fields(data).vector()?;
            return Some(profiles.chunks_exact(2).map(|p| u16::from_be_bytes([p[0], p[1]])).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Hello, HelloReader, MAX_HELD};

    /// A hello with a padding extension, so that it is long, and use_srtp behind it.
    fn hello() -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let mut extensions = vec![0, 21, 2, 0x58];
        extensions.extend([0; 600]);
        extensions.extend([0, 14, 0, 9, 0, 6, 0, 1, 0, 8, 0, 7, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    fn fragments(body: &[u8], size: usize) -> Vec<Vec<u8>> {
        let three = |n: usize| [(n >> 16) as u8, (n >> 8) as u8, n as u8];
        body.chunks(size)
            .enumerate()
            .map(|(i, chunk)| {
                let mut datagram = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, i as u8];
                datagram.extend(((chunk.len() + 12) as u16).to_be_bytes());
                datagram.push(1);
                datagram.extend(three(body.len()));
                datagram.extend([0, 0]);
                datagram.extend(three(i * size));
                datagram.extend(three(chunk.len()));
                datagram.extend(chunk);
                datagram
            })
            .collect()
    }

    fn read_all(datagrams: &[Vec<u8>]) -> Option<Vec<u16>> {
        let mut reader = HelloReader::default();
        datagrams.iter().find_map(|datagram| match reader.read(datagram) {
            Hello::Partial => None,
            Hello::Whole { profiles, datagrams: held } => {
                assert_eq!(held, datagrams);
                Some(profiles)
            }
        })
    }

    #[test]
    fn profiles_are_read_from_one_datagram_or_many_in_any_order() {
        for size in [2_000, 400, 230, 50] {
            let mut datagrams = fragments(&hello(), size);
            assert_eq!(read_all(&datagrams), Some(vec![1, 8, 7]), "fragments of {size}");
            datagrams.reverse();
            assert_eq!(read_all(&datagrams), Some(vec![1, 8, 7]), "reversed fragments of {size}");
        }
    }

    #[test]
    fn a_hello_that_never_completes_holds_a_bounded_number_of_datagrams() {
        let first = fragments(&hello(), 400).remove(0);
        let mut reader = HelloReader::default();
        for _ in 0..1_000 {
            assert_eq!(reader.read(&first), Hello::Partial);
        }
        assert_eq!(reader.held.len(), MAX_HELD);
    }

    proptest! {
        #[test]
        fn no_datagram_is_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..700) {
            let mut reader = HelloReader::default();
            let _ = reader.read(&bytes);
            let whole = fragments(&hello(), 2_000).remove(0);
            let mut forged = whole[..cut.min(whole.len())].to_vec();
            for (to, from) in forged.iter_mut().skip(25).zip(&bytes) {
                *to ^= from;
            }
            let _ = reader.read(&forged);
        }
    }
}
