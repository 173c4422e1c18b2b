//! Our SRTP against `rtc-srtp`'s, and against whatever bytes.

use proptest::prelude::*;
use rtc_crypto::{RTCCryptoProvider as _, providers::AwsLcRsProvider};
use rtc_srtp::{
    context::Context,
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

use super::{OpenError, Opener, Profile, RTCP_OVERHEAD_BYTES, Sealer, SessionKeys, TAG_BYTES};

const PROFILES: [(Profile, ProtectionProfile); 3] = [
    (Profile::Aes128Gcm, ProtectionProfile::AeadAes128Gcm),
    (Profile::Aes256Gcm, ProtectionProfile::AeadAes256Gcm),
    (Profile::Aes128CmSha1, ProtectionProfile::Aes128CmHmacSha1_80),
];

fn keys(profile: Profile) -> SessionKeys {
    let bytes = |n: usize, from: u8| (0..n).map(|i| i as u8 ^ from).collect();
    SessionKeys { profile, key: bytes(profile.key_bytes(), 0x31), salt: bytes(profile.salt_bytes(), 0x77) }
}

fn ours(profile: Profile) -> (Sealer, Opener) {
    let provider = AwsLcRsProvider::new();
    let keys = keys(profile);
    (Sealer::new(&keys, provider.crypto()).unwrap(), Opener::new(&keys, provider.crypto()).unwrap())
}

fn theirs(profile: Profile, theirs: ProtectionProfile) -> Context {
    let keys = keys(profile);
    let (rtp, rtcp) = (srtp_replay_protection(64), srtcp_replay_protection(64));
    Context::new(&keys.key, &keys.salt, theirs, Some(rtp), Some(rtcp), AwsLcRsProvider::new().crypto())
        .unwrap()
}

/// With an extension and a CSRC, so that the header is not the shortest.
fn rtp(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x91, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 1, 0, 0xca, 0xfe, 0xba, 0xbe, 9, 9, 9, 9, 0xbe, 0xde, 0, 1, 0x10, 7, 0, 0]);
    packet.extend(payload);
    packet
}

fn rtcp(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 206, 0, 2, 0, 0, 0, 1];
    packet.extend(payload);
    packet
}

fn seal_rtp(sealer: &mut Sealer, packet: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + TAG_BYTES, 0);
    let length = sealer.seal_rtp(&mut buffer, packet.len())?;
    buffer.truncate(length);
    Some(buffer)
}

fn seal_rtcp(sealer: &mut Sealer, packet: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + RTCP_OVERHEAD_BYTES, 0);
    let length = sealer.seal_rtcp(&mut buffer, packet.len())?;
    buffer.truncate(length);
    Some(buffer)
}

#[test]
fn both_directions_agree_with_rtc_srtp_over_the_sequence_numbers_wrap() {
    for (profile, name) in PROFILES {
        let (mut sealer, mut opener) = ours(profile);
        let mut reader = theirs(profile, name);
        let mut writer = theirs(profile, name);
        for step in 0..200_u16 {
            let packet = rtp(65_500_u16.wrapping_add(step), &step.to_be_bytes().repeat(40));
            let sealed = seal_rtp(&mut sealer, &packet).unwrap();
            assert_eq!(reader.decrypt_rtp(&sealed).unwrap(), packet, "{} at {step}", profile.name());
            let mut sealed = writer.encrypt_rtp(&packet).unwrap().to_vec();
            let length = opener.open_rtp(&mut sealed).unwrap();
            assert_eq!(&sealed[..length], packet, "{} at {step}", profile.name());

            let packet = rtcp(&u32::from(step).to_be_bytes());
            let sealed = seal_rtcp(&mut sealer, &packet).unwrap();
            assert_eq!(reader.decrypt_rtcp(&sealed).unwrap(), packet, "{} at {step}", profile.name());
            let mut sealed = writer.encrypt_rtcp(&packet).unwrap().to_vec();
            let length = opener.open_rtcp(&mut sealed).unwrap();
            assert_eq!(&sealed[..length], packet, "{} at {step}", profile.name());
        }
    }
}

#[test]
fn an_index_is_sealed_once_and_never_one_too_old_to_tell() {
    let (mut sealer, _) = ours(Profile::Aes128Gcm);
    assert!(seal_rtp(&mut sealer, &rtp(10, b"a")).is_some());
    assert_eq!(seal_rtp(&mut sealer, &rtp(10, b"b")), None);
    assert!(seal_rtp(&mut sealer, &rtp(9, b"late, but new")).is_some());
    assert_eq!(seal_rtp(&mut sealer, &rtp(9, b"again")), None);
    assert!(seal_rtp(&mut sealer, &rtp(2_000, b"b")).is_some());
    assert_eq!(seal_rtp(&mut sealer, &rtp(11, b"too old to tell")), None);
}

#[test]
fn a_packet_is_opened_once_and_a_forged_one_makes_no_state() {
    for (profile, _) in PROFILES {
        let (mut sealer, mut opener) = ours(profile);
        let sealed = seal_rtp(&mut sealer, &rtp(1, b"hello")).unwrap();
        let mut forged = sealed.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(opener.open_rtp(&mut forged), Err(OpenError::Forged));
        assert!(opener.open_rtp(&mut sealed.clone()).is_ok());
        assert_eq!(opener.open_rtp(&mut sealed.clone()), Err(OpenError::Replayed));
    }
}

#[test]
fn rtcp_that_says_it_is_not_encrypted_is_forged_whatever_follows() {
    for (profile, _) in PROFILES {
        let (_, mut opener) = ours(profile);
        let mut packet = rtcp(&[0; 40]);
        assert_eq!(opener.open_rtcp(&mut packet), Err(OpenError::Forged), "{}", profile.name());
    }
}

#[test]
fn keys_of_another_length_are_refused_with_both_lengths() {
    let provider = AwsLcRsProvider::new();
    let mut short = keys(Profile::Aes256Gcm);
    short.key.truncate(16);
    let error = Sealer::new(&short, provider.crypto()).err().unwrap();
    assert_eq!(error.to_string(), "master key has 16 bytes where AEAD_AES_256_GCM needs 32");
    assert!(SessionKeys::split(Profile::Aes128Gcm, &[0; 55], true).is_err());
    let material: Vec<u8> = (0..56).collect();
    let (client, server) = SessionKeys::split(Profile::Aes128Gcm, &material, true).unwrap();
    assert_eq!((client.key[0], server.key[0], client.salt[0], server.salt[0]), (0, 16, 32, 44));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), room in 0_usize..40) {
        for (profile, _) in PROFILES {
            let (mut sealer, mut opener) = ours(profile);
            prop_assert!(opener.open_rtp(&mut bytes.clone()).is_err());
            prop_assert!(opener.open_rtcp(&mut bytes.clone()).is_err());
            let mut buffer = bytes.clone();
            buffer.resize(bytes.len() + room, 0);
            let _ = sealer.seal_rtp(&mut buffer.clone(), bytes.len());
            let _ = sealer.seal_rtcp(&mut buffer, bytes.len());
        }
    }
}
