//! Knows a flight that the peer sends again (RFC 6347 §4.2.4). `rtc-dtls` stops its clock at any record of a handshake: if
//! it were given what it has already, it would never send again what got lost of ours.
//!
//! Invariant: a datagram is a repeat only if it holds parts of messages that came before, and nothing else.

use std::collections::BTreeSet;

/// Parts that are remembered; a handshake has some 20.
const MAX_PARTS: usize = 256;
const RECORD_HEADER_BYTES: usize = 13;
const HANDSHAKE_HEADER_BYTES: usize = 12;
const CONTENT_HANDSHAKE: u8 = 22;

/// A message's number, where in it the part begins, and how long it is.
type Part = (u16, u32, u32);

/// What has come of the peer's messages that are not encrypted.
#[derive(Debug, Default)]
pub struct Heard {
    parts: BTreeSet<Part>,
}

impl Heard {
    /// Remembers what is in a datagram. Whether all of it came before.
    pub fn is_repeat(&mut self, datagram: &[u8]) -> bool {
        // The answer to a first hello, HelloVerifyRequest, has no clock (§4.2.1): it is sent again when the hello is.
        let is_answered = self.parts.last().is_some_and(|&(message, ..)| message > 0);
        let mut rest = datagram;
        let mut is_repeat = true;
        while !rest.is_empty() {
            let Some((parts, behind)) = record(rest) else { return false };
            for part in parts {
                let is_new = !self.parts.contains(&part);
                if is_new && self.parts.len() < MAX_PARTS {
                    self.parts.insert(part);
                }
                is_repeat &= !is_new;
            }
            rest = behind;
        }
        is_repeat && is_answered
    }
}

/// The parts in the first record, and what is behind it; `None` where it holds anything else.
fn record(bytes: &[u8]) -> Option<(Vec<Part>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(RECORD_HEADER_BYTES)?;
    let (mut body, behind) =
        rest.split_at_checked(usize::from(u16::from_be_bytes([header[11], header[12]])))?;
    if header[0] != CONTENT_HANDSHAKE || header[3..5] != [0, 0] {
        return None;
    }
    let mut parts = Vec::new();
    while !body.is_empty() {
        let (header, rest) = body.split_at_checked(HANDSHAKE_HEADER_BYTES)?;
        let number = |at: usize| u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]);
        let (message, offset, length) = (u16::from_be_bytes([header[4], header[5]]), number(6), number(9));
        body = rest.get(usize::try_from(length).ok()?..)?;
        parts.push((message, offset, length));
    }
    Some((parts, behind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Heard, MAX_PARTS};

    fn part(message: u16, offset: u8, length: u8) -> Vec<u8> {
        let [high, low] = message.to_be_bytes();
        let header = [11, 0, 0, 200, high, low, 0, 0, offset, 0, 0, length];
        header.into_iter().chain(std::iter::repeat_n(7, length.into())).collect()
    }

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1, high, low], body].concat()
    }

    #[test]
    fn a_datagram_is_a_repeat_if_all_in_it_came_before() {
        let mut heard = Heard::default();
        let (first, second) = (record(22, 0, &part(1, 0, 100)), record(22, 0, &part(1, 100, 100)));
        assert!(!heard.is_repeat(&first));
        assert!(heard.is_repeat(&first));
        assert!(!heard.is_repeat(&[&first[..], &second[..]].concat()), "its other half is new");
        assert!(heard.is_repeat(&[second, first.clone()].concat()));
        assert!(
            !heard.is_repeat(&[first.clone(), record(20, 0, &[1])].concat()),
            "what else it says may be new"
        );
        assert!(!heard.is_repeat(&[first, record(22, 1, &[9; 40])].concat()), "so may what is encrypted");
    }

    #[test]
    fn a_first_message_is_taken_again_until_a_second_has_come() {
        let mut heard = Heard::default();
        let hello = record(22, 0, &part(0, 0, 100));
        assert!(!heard.is_repeat(&hello) && !heard.is_repeat(&hello));
        assert!(!heard.is_repeat(&record(22, 0, &part(1, 0, 100))));
        assert!(heard.is_repeat(&hello));
    }

    #[test]
    fn no_more_is_remembered_than_a_handshake_has() {
        let mut heard = Heard::default();
        for message in 0..2_000 {
            assert!(!heard.is_repeat(&record(22, 0, &part(message, 0, 1))));
        }
        assert_eq!(heard.parts.len(), MAX_PARTS);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut heard = Heard::default();
            prop_assert!(!heard.is_repeat(&bytes), "nothing came before");
            let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1];
            record.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
            record.extend(&bytes);
            heard.is_repeat(&record);
        }
    }
}
