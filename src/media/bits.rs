//! Bits of an H.264 payload, most significant first, with Exp-Golomb numbers (ITU-T H.264 §7.2, §9.1).

/// Reads bits; past the end everything is `None`.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| Some(value << 1 | u32::from(self.bit()?)))
    }

    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.bit().map(drop))
    }

    /// `ue(v)`: at most 31 leading zeros, so that the value fits.
    pub(super) fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let tail = self.bits(zeros)?;
        Some(((1u64 << zeros) - 1 + u64::from(tail)) as u32)
    }

    /// `se(v)`.
    pub(super) fn signed(&mut self) -> Option<i32> {
        let code = i64::from(self.unsigned()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { magnitude } else { -magnitude }).ok()
    }
}

/// Removes the emulation prevention bytes (H.264 §7.4.1) of at most the first `limit` bytes.
pub(super) fn unescaped(nal: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len().min(limit));
    let mut zeros = 0;
    for &byte in nal.iter().take(limit) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Bits, unescaped};

    #[test]
    fn exp_golomb_numbers_are_those_of_the_standard() {
        // 1 | 010 | 011 | 00100 | 00101
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits::new(&bytes);
        assert_eq!([(); 5].map(|()| bits.unsigned().unwrap()), [0, 1, 2, 3, 4]);
        let mut bits = Bits::new(&bytes);
        assert_eq!([(); 5].map(|()| bits.signed().unwrap()), [0, 1, -1, 2, -2]);
    }

    #[test]
    fn emulation_prevention_bytes_are_taken_out() {
        assert_eq!(unescaped(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3], 100), [1, 0, 0, 1, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_bits_end(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bits = Bits::new(&bytes);
            while bits.unsigned().is_some() {}
            while bits.signed().is_some() {}
        }
    }
}
