//! A coordinator as far as certificates go, for tests.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use waystation_proto::{
    NodeId, NodeRef,
    token::{RELAY_CERTIFICATE_AUDIENCE, RelayCertificate},
};

use super::handshake::{Identity, Trust};

/// The time of tests without a clock.
pub(super) const NOW_S: u64 = 1_800_000_000;

/// A coordinator, as far as certificates go.
pub(super) struct Authority {
    key: Ed25519KeyPair,
}

impl Authority {
    pub(super) fn new() -> Self {
        Self { key: Ed25519KeyPair::generate().unwrap() }
    }

    pub(super) fn certify(&self, node: &NodeRef, key: &[u8], exp: u64) -> String {
        let claims = RelayCertificate {
            aud: RELAY_CERTIFICATE_AUDIENCE.into(),
            node: node.id.clone(),
            incarnation: node.incarnation,
            key: URL_SAFE_NO_PAD.encode(key),
            exp,
        };
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::EdDSA) };
        let der = self.key.to_pkcs8().unwrap();
        encode(&header, &claims, &EncodingKey::from_ed_der(der.as_ref())).unwrap()
    }

    pub(super) fn trust(&self, certificate: String) -> Trust {
        let keys = [("k1".to_owned(), self.key.public_key().as_ref().to_vec())].into();
        Trust { keys, certificate: Some(certificate), ..Trust::default() }
    }

    pub(super) fn relay(&self, id: &str) -> (Identity, Trust) {
        self.relay_until(id, NOW_S + 60)
    }

    pub(super) fn relay_until(&self, id: &str, exp: u64) -> (Identity, Trust) {
        let node = NodeRef { id: NodeId::new(id).unwrap(), incarnation: 5 };
        let identity = Identity::generate(node.clone(), "127.0.0.1:7000".parse().unwrap()).unwrap();
        let certificate = self.certify(&node, identity.public_key(), exp);
        (identity, self.trust(certificate))
    }
}
