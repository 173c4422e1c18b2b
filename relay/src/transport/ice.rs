//! An ICE-lite responder (RFC 8445 §2.5, §7.3): it answers connectivity checks and says which of them hold.
//!
//! Nothing is sent, and nothing believed, before a check's MESSAGE-INTEGRITY holds (RFC 8489 §14.5).

use std::net::SocketAddr;

use rtc_crypto::RTCCrypto;
use rtc_stun::{
    attributes::{ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message},
    xoraddr::XorMappedAddress,
};

use crate::plane::IceCredentials;

/// STUN's fixed header (RFC 8489 §5).
const HEADER_BYTES: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What a check turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// It holds: send this answer back to where it came from.
    Holds {
        /// The success response.
        answer: Vec<u8>,
        /// Whether the peer nominates this pair (USE-CANDIDATE).
        nominates: bool,
    },
    /// Not a request, not whole, or its integrity does not hold. Nothing is answered: an error would only tell a
    /// stranger that somebody is here.
    Ignored,
}

/// The local part of a check's USERNAME (RFC 8445 §7.2.2), without any cryptography. `None`: not a whole STUN
/// request with a user name.
#[must_use]
pub fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    let (header, mut rest) = datagram.split_at_checked(HEADER_BYTES)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[4..8] != MAGIC_COOKIE || length != rest.len() || length % 4 != 0 {
        return None;
    }
    while let [t0, t1, l0, l1, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = tail.get(..length)?;
        if u16::from_be_bytes([*t0, *t1]) == ATTR_USERNAME.0 {
            return std::str::from_utf8(value).ok()?.split(':').next();
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Checks a request against the credentials of the transport that its user name names.
#[must_use]
pub fn check(datagram: &[u8], from: SocketAddr, ice: &IceCredentials, crypto: &dyn RTCCrypto) -> Check {
    let mut request = Message::new();
    if request.unmarshal_binary(datagram).is_err() || request.typ != BINDING_REQUEST {
        return Check::Ignored;
    }
    let expected = format!("{}:{}", ice.local_ufrag, ice.remote_ufrag);
    let user_matches = request.get(ATTR_USERNAME).is_ok_and(|user| user == expected.as_bytes());
    let is_signed = request.contains(ATTR_MESSAGE_INTEGRITY);
    if !user_matches
        || !is_signed
        || MessageIntegrity::check(&mut request, ice.local_pwd.as_bytes(), crypto).is_err()
    {
        return Check::Ignored;
    }
    let mut answer = Message::new();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(ice.local_pwd.clone(), crypto);
    let built = answer.build(&[
        Box::new(request.transaction_id),
        Box::new(BINDING_SUCCESS),
        Box::new(XorMappedAddress { ip: from.ip(), port: from.port() }),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ]);
    match built {
        Ok(()) => {
            Check::Holds { answer: answer.raw.to_vec(), nominates: request.contains(ATTR_USE_CANDIDATE) }
        }
        Err(_) => Check::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc_crypto::{RTCCryptoProvider as _, providers::AwsLcRsProvider};
    use rtc_stun::{attributes::RawAttribute, message::TransactionId, textattrs::TextAttribute};

    use super::{
        ATTR_USE_CANDIDATE, ATTR_USERNAME, BINDING_REQUEST, BINDING_SUCCESS, Check, FINGERPRINT,
        IceCredentials, Message, MessageIntegrity, check, local_ufrag,
    };

    fn credentials() -> IceCredentials {
        IceCredentials {
            local_ufrag: "00abcdef".into(),
            local_pwd: "local-password-of-the-relay".into(),
            remote_ufrag: "peer".into(),
        }
    }

    fn request(user: &str, password: &str, nominate: bool) -> Vec<u8> {
        let provider = AwsLcRsProvider::new();
        let mut message = Message::new();
        let mut parts: Vec<Box<dyn rtc_stun::message::Setter + '_>> = vec![
            Box::new(TransactionId::new()),
            Box::new(BINDING_REQUEST),
            Box::new(TextAttribute::new(ATTR_USERNAME, user.into())),
        ];
        if nominate {
            parts.push(Box::new(RawAttribute { typ: ATTR_USE_CANDIDATE, length: 0, value: vec![] }));
        }
        let password = password.to_owned();
        parts.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password,
            provider.crypto(),
        )));
        parts.push(Box::new(FINGERPRINT));
        message.build(&parts).unwrap();
        message.raw.to_vec()
    }

    fn verdict(datagram: &[u8]) -> Check {
        check(datagram, "192.0.2.7:5000".parse().unwrap(), &credentials(), AwsLcRsProvider::new().crypto())
    }

    #[test]
    fn a_signed_check_is_answered_and_its_nomination_seen() {
        let datagram = request("00abcdef:peer", "local-password-of-the-relay", true);
        assert_eq!(local_ufrag(&datagram), Some("00abcdef"));
        let Check::Holds { answer, nominates } = verdict(&datagram) else { panic!("ignored") };
        assert!(nominates);
        let mut message = Message::new();
        message.unmarshal_binary(&answer).unwrap();
        assert_eq!(message.typ, BINDING_SUCCESS);
        let provider = AwsLcRsProvider::new();
        MessageIntegrity::check(&mut message, b"local-password-of-the-relay", provider.crypto()).unwrap();
        let plain = request("00abcdef:peer", "local-password-of-the-relay", false);
        assert!(matches!(verdict(&plain), Check::Holds { nominates: false, .. }));
    }

    #[test]
    fn a_wrong_password_user_or_flipped_bit_is_ignored() {
        assert_eq!(verdict(&request("00abcdef:peer", "another password", false)), Check::Ignored);
        assert_eq!(
            verdict(&request("00abcdef:mallory", "local-password-of-the-relay", false)),
            Check::Ignored
        );
        let whole = request("00abcdef:peer", "local-password-of-the-relay", false);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Bits behind the integrity attribute (the fingerprint) are not covered by it.
            if bit / 8 < whole.len() - 8 {
                assert_eq!(verdict(&flipped), Check::Ignored, "bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_datagram_is_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), whole in any::<bool>()) {
            if whole && bytes.len() >= 20 {
                let length = (bytes.len() - 20) as u16;
                bytes[..8].copy_from_slice(&[0, 1, (length >> 8) as u8, length as u8, 0x21, 0x12, 0xa4, 0x42]);
            }
            let _ = local_ufrag(&bytes);
            prop_assert_eq!(verdict(&bytes), Check::Ignored);
        }

        #[test]
        fn no_prefix_of_a_check_is_a_check(cut in 0_usize..100) {
            let whole = request("00abcdef:peer", "local-password-of-the-relay", true);
            let cut = cut.min(whole.len() - 1);
            prop_assert_eq!(verdict(&whole[..cut]), Check::Ignored);
        }
    }
}
