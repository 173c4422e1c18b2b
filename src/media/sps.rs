//! What an H.264 sequence parameter set tells of time: the frame rate in its VUI (ITU-T H.264 §7.3.2.1.1, Annex E).

use super::bits::{Bits, unescaped};

/// More of an SPS is never looked at; with every scaling list it has some 500 bytes.
const MAX_SPS_BYTES: usize = 1024;

/// Frames per second, if this SPS (without start code) tells it.
pub(super) fn frames_per_second(sps: &[u8]) -> Option<f64> {
    let payload = unescaped(sps.get(1..)?, MAX_SPS_BYTES);
    let mut bits = Bits::new(&payload);
    skip_to_vui(&mut bits)?;
    skip_to_timing(&mut bits)?;
    if !bits.bit()? {
        return None;
    }
    let ticks = bits.bits(32)?;
    let scale = bits.bits(32)?;
    let rate = f64::from(scale) / (2.0 * f64::from(ticks));
    (1.0..=1000.0).contains(&rate).then_some(rate)
}

fn skip_to_vui(bits: &mut Bits<'_>) -> Option<()> {
    let profile = bits.bits(8)?;
    bits.skip(16)?;
    bits.unsigned()?;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        skip_chroma(bits)?;
    }
    bits.unsigned()?;
    match bits.unsigned()? {
        0 => drop(bits.unsigned()?),
        1 => {
            bits.bit()?;
            bits.signed()?;
            bits.signed()?;
            let cycle = bits.unsigned()?;
            // H.264 §7.4.2.1.1: at most 255.
            (0..cycle.min(256)).try_for_each(|_| bits.signed().map(drop))?;
        }
        _ => {}
    }
    bits.unsigned()?;
    bits.bit()?;
    bits.unsigned()?;
    bits.unsigned()?;
    let frames_only = bits.bit()?;
    if !frames_only {
        bits.bit()?;
    }
    bits.bit()?;
    if bits.bit()? {
        for _ in 0..4 {
            bits.unsigned()?;
        }
    }
    bits.bit()?.then_some(())
}

fn skip_chroma(bits: &mut Bits<'_>) -> Option<()> {
    let chroma = bits.unsigned()?;
    if chroma == 3 {
        bits.bit()?;
    }
    bits.unsigned()?;
    bits.unsigned()?;
    bits.bit()?;
    if bits.bit()? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.bit()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(())
}

fn skip_scaling_list(bits: &mut Bits<'_>, entries: u32) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..entries {
        if next != 0 {
            next = last.checked_add(bits.signed()?)?.rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

fn skip_to_timing(bits: &mut Bits<'_>) -> Option<()> {
    const EXTENDED_SAR: u32 = 255;
    if bits.bit()? && bits.bits(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.bit()? {
        bits.bit()?;
    }
    if bits.bit()? {
        bits.skip(4)?;
        if bits.bit()? {
            bits.skip(24)?;
        }
    }
    if bits.bit()? {
        bits.unsigned()?;
        bits.unsigned()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::frames_per_second;

    /// From `ffmpeg -f lavfi -i testsrc=size=320x240:rate=25 -c:v libx264 -profile:v baseline`.
    const BASELINE_25: &[u8] = &[
        0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0xfb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
        0x03, 0x03, 0x20, 0xf1, 0x42, 0xa4, 0x80,
    ];

    /// The same with `rate=30` and `-profile:v high`.
    const HIGH_30: &[u8] = &[
        0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0xfb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x03, 0xc0, 0xf1, 0x42, 0x99, 0x60,
    ];

    #[test]
    fn the_frame_rate_of_a_real_sps_is_found() {
        assert_eq!(frames_per_second(BASELINE_25), Some(25.0));
        assert_eq!(frames_per_second(HIGH_30), Some(30.0));
    }

    #[test]
    fn an_sps_cut_short_tells_nothing() {
        for cut in 0..BASELINE_25.len() - 6 {
            assert_eq!(frames_per_second(&BASELINE_25[..cut]), None, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = frames_per_second(&bytes);
        }

        #[test]
        fn a_bent_sps_is_looked_at_without_a_panic(at in 1..BASELINE_25.len(), to in any::<u8>()) {
            let mut bytes = BASELINE_25.to_vec();
            bytes[at] = to;
            let _ = frames_per_second(&bytes);
        }
    }
}
