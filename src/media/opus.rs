//! Opus in Ogg: the identification header (RFC 7845 §5.1) and how long a packet lasts (RFC 6716 §3.1).

use std::time::Duration;

use super::ClipError;

/// Longest packet in time (RFC 6716 §3.2.5), in samples of 48 kHz.
const MAX_PACKET_SAMPLES: u32 = 5760;

/// What decoders skip at the start: 6.5 ms, what libopus needs (RFC 7845 §4.2).
pub(super) const PRE_SKIP_SAMPLES: u16 = 312;

/// Checks an `OpusHead` packet; what WebRTC cannot carry (more than two channels) is refused.
pub(super) fn check_head(packet: &[u8]) -> Result<(), ClipError> {
    let not_this = |why: String| ClipError::NotThis { format: "Ogg Opus file", why };
    let Some(fields) = packet.strip_prefix(b"OpusHead") else {
        return Err(not_this("its first packet is no OpusHead; only Opus can be published from Ogg".into()));
    };
    let &[version, channels, _, _, _, _, _, _, _, _, family, ..] = fields else {
        return Err(not_this(format!("its OpusHead has {} bytes, 19 are the least", packet.len())));
    };
    if version >> 4 != 0 {
        return Err(not_this(format!("its version is {version}; versions 0 to 15 are known")));
    }
    if family != 0 || !(1..=2).contains(&channels) {
        return Err(not_this(format!(
            "it has {channels} channels in mapping family {family}; mono and stereo can be published"
        )));
    }
    Ok(())
}

/// The `OpusHead` of a stereo stream.
pub(super) fn stereo_head() -> Vec<u8> {
    let mut head = b"OpusHead\x01\x02".to_vec();
    head.extend_from_slice(&PRE_SKIP_SAMPLES.to_le_bytes());
    head.extend_from_slice(&48_000u32.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    head
}

/// An `OpusTags` packet that names the writer.
pub(super) fn tags() -> Vec<u8> {
    const VENDOR: &[u8] = b"waystation";
    let mut tags = b"OpusTags".to_vec();
    tags.extend_from_slice(&(VENDOR.len() as u32).to_le_bytes());
    tags.extend_from_slice(VENDOR);
    tags.extend_from_slice(&0u32.to_le_bytes());
    tags
}

/// How many 48 kHz samples a packet decodes to; `None` when it is no Opus packet.
pub(super) fn samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let config = u32::from(toc >> 3);
    let frame = match config {
        0..=11 => [480, 960, 1920, 2880][config as usize % 4],
        12..=15 => [480, 960][config as usize % 2],
        _ => [120, 240, 480, 960][config as usize % 4],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let samples = frames * frame;
    (1..=MAX_PACKET_SAMPLES).contains(&samples).then_some(samples)
}

/// Samples of 48 kHz as time.
pub(super) fn time(samples: u64) -> Duration {
    Duration::from_nanos(samples.saturating_mul(62_500) / 3)
}

#[cfg(test)]
mod tests {
    use super::{check_head, samples, stereo_head, time};
    use std::time::Duration;

    #[test]
    fn durations_follow_the_table_of_the_rfc() {
        assert_eq!(samples(&[0b0000_0000, 0]), Some(480), "SILK narrowband 10 ms");
        assert_eq!(samples(&[0b0001_1000, 0]), Some(2880), "SILK narrowband 60 ms");
        assert_eq!(samples(&[0b0110_1001, 0]), Some(1920), "hybrid 20 ms, two frames");
        assert_eq!(samples(&[0b1000_0000, 0]), Some(120), "CELT 2.5 ms");
        assert_eq!(samples(&[0b1111_1011, 6]), Some(5760), "CELT 20 ms, six frames");
        assert_eq!(samples(&[0b1111_1011, 7]), None, "140 ms are over the limit");
        assert_eq!(samples(&[0b1111_1011, 0]), None, "no frame at all");
        assert_eq!(samples(&[0b1111_1011]), None);
        assert_eq!(samples(&[]), None);
    }

    #[test]
    fn samples_are_counted_at_48_khz() {
        assert_eq!(time(48_000), Duration::from_secs(1));
        assert_eq!(time(960), Duration::from_millis(20));
    }

    #[test]
    fn a_surround_head_is_refused_by_its_channels() {
        assert!(check_head(&stereo_head()).is_ok());
        let mut head = stereo_head();
        head[9] = 6;
        let error = check_head(&head).unwrap_err().to_string();
        assert!(error.contains("6 channels"), "{error}");
        assert!(check_head(&head[..12]).is_err());
        assert!(check_head(b"\x01vorbis").is_err());
    }
}
