//! Who is let in by the handshake, and who is not.

use waystation_proto::{NodeId, NodeRef, v1};

use super::{
    super::authority::{Authority, NOW_S},
    HandshakeError, Identity, Peer, Side, Trust,
};

type Relay = (Identity, Trust);

fn shake(a: &Relay, b: &Relay) -> Result<(Peer, Peer), HandshakeError> {
    let (greeted_a, hello_a) = a.0.greet(Side::Dialler, &a.1)?;
    let (greeted_b, hello_b) = b.0.greet(Side::Acceptor, &b.1)?;
    let (proving_a, proof_a) = a.0.prove(greeted_a, hello_b, &a.1, NOW_S)?;
    let (proving_b, proof_b) = b.0.prove(greeted_b, hello_a, &b.1, NOW_S)?;
    Ok((proving_a.finish(&proof_b)?, proving_b.finish(&proof_a)?))
}

#[test]
fn two_certified_relays_agree_on_keys_for_each_direction() {
    let authority = Authority::new();
    let (a, b) = (authority.relay("a"), authority.relay("b"));
    let (seen_by_a, seen_by_b) = shake(&a, &b).unwrap();
    assert_eq!(seen_by_a.node.id.as_str(), "b");
    assert_eq!(seen_by_b.node.id.as_str(), "a");
    let (ka, kb) = (seen_by_a.keys, seen_by_b.keys);
    assert_eq!((ka.local_key, ka.local_salt), (kb.remote_key, kb.remote_salt));
    assert_eq!((ka.remote_key, ka.remote_salt), (kb.local_key, kb.local_salt));
    assert_ne!(ka.local_key, ka.remote_key);
    let (again, _) = shake(&a, &b).unwrap();
    assert_ne!(again.keys.local_key, ka.local_key, "each link has keys of its own");
}

#[test]
fn a_relay_that_does_not_hold_the_certified_key_is_refused() {
    let authority = Authority::new();
    let (a, b) = (authority.relay("a"), authority.relay("b"));
    let thief = Identity::generate(b.0.node.clone(), "127.0.0.1:9".parse().unwrap()).unwrap();
    assert_eq!(shake(&a, &(thief, b.1)).err(), Some(HandshakeError::Signature));
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    assert!(matches!(shake(&ours.relay("a"), &theirs.relay("b")), Err(HandshakeError::Certificate(_))));
    let mut b = theirs.relay("b");
    b.1.keys.clear();
    assert_eq!(shake(&b, &ours.relay("a")).err(), Some(HandshakeError::UnknownKey("k1".into())));
}

#[test]
fn a_certificate_of_another_node_or_life_is_refused() {
    let authority = Authority::new();
    let a = authority.relay("a");
    for (id, incarnation) in [("c", 5), ("b", 4)] {
        let (b, _) = authority.relay("b");
        let other = NodeRef { id: NodeId::new(id).unwrap(), incarnation };
        let trust = authority.trust(authority.certify(&other, b.public_key(), NOW_S + 60));
        assert!(matches!(shake(&a, &(b, trust)), Err(HandshakeError::OtherNode { .. })));
    }
}

#[test]
fn an_expired_certificate_is_refused_unless_it_ran_out_while_no_coordinator_was_there() {
    // GO-1
    let authority = Authority::new();
    let mut a = authority.relay("a");
    let (b, _) = authority.relay("b");
    let trust = authority.trust(authority.certify(&b.node, b.public_key(), NOW_S - 1000));
    let b = (b, trust);
    assert!(matches!(shake(&a, &b), Err(HandshakeError::Certificate(_))));
    a.1.cut_off_since_s = Some(NOW_S - 1100);
    assert!(shake(&a, &b).is_ok());
    a.1.cut_off_since_s = Some(NOW_S - 4000);
    assert!(matches!(shake(&a, &b), Err(HandshakeError::Certificate(_))), "an hour at most");
}

#[test]
fn a_replayed_hello_and_proof_do_not_open_a_link() {
    let authority = Authority::new();
    let (a, b) = (authority.relay("a"), authority.relay("b"));
    let (greeted_a, hello_a) = a.0.greet(Side::Dialler, &a.1).unwrap();
    let (_, hello_b) = b.0.greet(Side::Acceptor, &b.1).unwrap();
    let (_, old_proof) = a.0.prove(greeted_a, hello_b, &a.1, NOW_S).unwrap();
    let (greeted_b, _) = b.0.greet(Side::Acceptor, &b.1).unwrap();
    let (proving_b, _) = b.0.prove(greeted_b, hello_a, &b.1, NOW_S).unwrap();
    assert_eq!(proving_b.finish(&old_proof).err(), Some(HandshakeError::Signature));
}

#[test]
fn a_proof_is_not_taken_in_the_other_role() {
    let authority = Authority::new();
    let (a, b) = (authority.relay("a"), authority.relay("b"));
    let (greeted_a, hello_a) = a.0.greet(Side::Dialler, &a.1).unwrap();
    let (greeted_b, hello_b) = b.0.greet(Side::Dialler, &b.1).unwrap();
    let (proving_a, proof_a) = a.0.prove(greeted_a, hello_b, &a.1, NOW_S).unwrap();
    let (_, proof_b) = b.0.prove(greeted_b, hello_a, &b.1, NOW_S).unwrap();
    assert_ne!(proof_a, proof_b);
    assert_eq!(proving_a.finish(&proof_b).err(), Some(HandshakeError::Signature));
}

#[test]
fn what_we_said_sent_back_to_us_is_refused() {
    let authority = Authority::new();
    let a = authority.relay("a");
    let (greeted, hello) = a.0.greet(Side::Dialler, &a.1).unwrap();
    assert!(matches!(a.0.prove(greeted, hello, &a.1, NOW_S), Err(HandshakeError::Myself(_))));
    let b = authority.relay("b");
    let (greeted, _) = a.0.greet(Side::Dialler, &a.1).unwrap();
    let (_, hello_b) = b.0.greet(Side::Acceptor, &b.1).unwrap();
    let (proving, own_proof) = a.0.prove(greeted, hello_b, &a.1, NOW_S).unwrap();
    assert_eq!(proving.finish(&own_proof).err(), Some(HandshakeError::Signature));
}

#[test]
fn a_malformed_hello_is_refused_and_a_relay_without_certificate_says_nothing() {
    let authority = Authority::new();
    let (a, b) = (authority.relay("a"), authority.relay("b"));
    let (_, hello) = b.0.greet(Side::Acceptor, &b.1).unwrap();
    let broken = [
        v1::LinkHello { node: None, ..hello.clone() },
        v1::LinkHello { nonce: vec![1; 31], ..hello.clone() },
        v1::LinkHello { ephemeral_key: Vec::new(), ..hello.clone() },
        v1::LinkHello { media_addr: "nowhere".into(), ..hello.clone() },
        v1::LinkHello { certificate: "x".repeat(5000), ..hello.clone() },
        v1::LinkHello { certificate: "not.a.jwt".into(), ..hello.clone() },
    ];
    for hello in broken {
        let (greeted, _) = a.0.greet(Side::Dialler, &a.1).unwrap();
        assert!(a.0.prove(greeted, hello, &a.1, NOW_S).is_err());
    }
    assert_eq!(a.0.greet(Side::Dialler, &Trust::default()).err(), Some(HandshakeError::NotCertified));
}
