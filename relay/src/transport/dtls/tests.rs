//! Two associations of ours, in memory.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{
    Association, FLIGHT_INTERVAL, Identity, Offered, Profile, Progress, SessionKeys,
    hello::{Hello, HelloReader},
};
use crate::plane::{DtlsRole, Fingerprint};

fn fingerprint(identity: &Identity) -> Fingerprint {
    let bytes: Vec<u8> =
        identity.fingerprint().split(':').map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect();
    Fingerprint::Sha256(bytes.try_into().unwrap())
}

/// Both ends of a handshake: the outcome at each side. The first `lost` datagrams get lost.
fn shake(
    offered: Offered,
    client_sees: Fingerprint,
    client: &Identity,
    server: &Identity,
    mut lost: usize,
) -> (Progress, Progress) {
    let mut now = Instant::now();
    let mut sides = [
        (Association::new(DtlsRole::Client, offered, client_sees), client, Progress::None),
        (Association::new(DtlsRole::Server, Offered::All, fingerprint(client)), server, Progress::None),
    ];
    assert!(matches!(sides[0].0.reachable(client, now), Progress::None));
    let settled = |progress: &Progress| !matches!(progress, Progress::None);
    for _ in 0..200 {
        let mut quiet = true;
        for from in 0..2 {
            while let Some(datagram) = sides[from].0.poll_transmit() {
                quiet = false;
                if lost > 0 {
                    lost -= 1;
                    continue;
                }
                let (to, identity, outcome) = &mut sides[1 - from];
                let progress = to.read(identity, &datagram, now);
                if settled(&progress) {
                    *outcome = progress;
                }
            }
        }
        if sides.iter().all(|side| settled(&side.2)) {
            break;
        }
        if quiet {
            let Some(at) = sides.iter().filter_map(|side| side.0.poll_timeout()).min() else { break };
            now = at.max(now) + Duration::from_millis(1);
            for (association, ..) in &mut sides {
                let _ = association.handle_timeout(now);
            }
        }
    }
    let [(.., a), (.., b)] = sides;
    (a, b)
}

fn keys(progress: Progress) -> (SessionKeys, SessionKeys) {
    match progress {
        Progress::Up(ours, theirs) => (ours, theirs),
        other @ (Progress::None | Progress::Closed | Progress::WrongFingerprint | Progress::Failed(_)) => {
            panic!("not up: {other:?}")
        }
    }
}

#[test]
fn both_sides_have_the_same_gcm_keys_crosswise() {
    let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    for lost in [0, 1, 3] {
        let (a, b) = shake(Offered::Aes128Gcm, fingerprint(&server), &client, &server, lost);
        let ((a_ours, a_theirs), (b_ours, b_theirs)) = (keys(a), keys(b));
        assert_eq!(a_ours.profile, Profile::Aes128Gcm);
        assert_eq!((&a_ours.key, &a_ours.salt), (&b_theirs.key, &b_theirs.salt));
        assert_eq!((&a_theirs.key, &a_theirs.salt), (&b_ours.key, &b_ours.salt));
        assert_ne!(a_ours.key, a_theirs.key);
    }
}

#[test]
fn a_certificate_that_the_sdp_did_not_name_is_refused() {
    let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let (outcome, _) = shake(Offered::All, Fingerprint::Sha256([7; 32]), &client, &server, 0);
    assert!(matches!(outcome, Progress::WrongFingerprint), "{outcome:?}");
}

#[test]
fn a_silent_peer_is_asked_again_at_growing_intervals_for_longer_than_an_attempt_lasts() {
    let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let start = Instant::now();
    let mut asking = Association::new(DtlsRole::Client, Offered::All, fingerprint(&server));
    asking.reachable(&client, start);
    let mut asked_ms = Vec::new();
    let mut hello = asking.poll_transmit();
    for _ in 0..7 {
        let at = asking.poll_timeout().unwrap();
        assert!(matches!(asking.handle_timeout(at - Duration::from_millis(1)), Progress::None));
        assert_eq!(asking.poll_transmit(), None, "not before it is due");
        assert!(matches!(asking.handle_timeout(at), Progress::None));
        asked_ms.push((at - start).as_millis());
        hello = asking.poll_transmit();
    }
    assert_eq!(asked_ms, [100, 300, 700, 1_500, 3_100, 6_300, 12_700]);
    let now = start + Duration::from_secs(20);
    let mut answering = Association::new(DtlsRole::Server, Offered::All, fingerprint(&client));
    answering.read(&server, &hello.unwrap(), now);
    while let Some(answer) = answering.poll_transmit() {
        asking.read(&client, &answer, now);
    }
    assert!(asking.poll_transmit().is_some());
    assert_eq!(asking.poll_timeout(), Some(now + FLIGHT_INTERVAL), "the next flight begins anew");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_is_neither_a_panic_nor_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let identity = Identity::generate().unwrap();
        let now = Instant::now();
        for role in [DtlsRole::Client, DtlsRole::Server] {
            let mut association = Association::new(role, Offered::All, Fingerprint::Sha256([0; 32]));
            association.reachable(&identity, now);
            for first in [20_u8, 21, 22, 23] {
                let mut datagram = vec![first, 0xfe, 0xfd, 0, 0];
                datagram.extend(&bytes);
                let progress = association.read(&identity, &datagram, now);
                prop_assert!(matches!(progress, Progress::None), "{progress:?}");
            }
        }
    }
}

#[test]
fn an_sdk_is_offered_aes_128_gcm_only_and_others_all_profiles() {
    let identity = Identity::generate().unwrap();
    let offer = |offered| {
        let mut association = Association::new(DtlsRole::Client, offered, Fingerprint::Sha256([0; 32]));
        association.reachable(&identity, Instant::now());
        let (mut reader, mut hello) = (HelloReader::default(), Hello::Partial);
        while let Some(datagram) = association.poll_transmit() {
            hello = reader.read(&datagram);
        }
        match hello {
            Hello::Whole { profiles, .. } => profiles,
            Hello::Partial => panic!("the hello is not whole"),
        }
    };
    // RFC 7714 §14.2, RFC 5764 §4.1.2.
    assert_eq!(offer(Offered::Aes128Gcm), [0x0007]);
    assert_eq!(offer(Offered::All), [0x0007, 0x0008, 0x0001]);
}

/// The same flight as its sender would send it again: under new record numbers.
fn again(datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let renumber = |datagram: &Vec<u8>| {
        let (mut out, mut at) = (datagram.clone(), 0);
        while at + 13 <= out.len() {
            out[at + 9] += 1;
            at += 13 + usize::from(u16::from_be_bytes([out[at + 11], out[at + 12]]));
        }
        out
    };
    datagrams.iter().map(renumber).collect()
}

fn sent(association: &mut Association) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| association.poll_transmit()).map(|datagram| datagram.to_vec()).collect()
}

#[test]
fn a_flight_that_got_lost_is_sent_again_although_the_peer_repeated_its_own_first() {
    let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let start = Instant::now();
    let (early, later) = (start + FLIGHT_INTERVAL / 2, start + FLIGHT_INTERVAL * 2);
    let mut asking = Association::new(DtlsRole::Client, Offered::All, fingerprint(&server));
    let mut answering = Association::new(DtlsRole::Server, Offered::All, fingerprint(&client));
    asking.reachable(&client, start);
    let pass = |flight: &[Vec<u8>], to: &mut Association, identity, now| {
        for datagram in flight {
            to.read(identity, datagram, now);
        }
        sent(to)
    };
    let cookie = pass(&sent(&mut asking), &mut answering, &server, start);
    let hello = pass(&cookie, &mut asking, &client, start);
    let answer = pass(&hello, &mut answering, &server, start);
    assert_eq!(pass(&again(&hello), &mut answering, &server, early).len(), 0, "its own time is not over yet");
    answering.handle_timeout(later);
    assert_eq!(sent(&mut answering).len(), answer.len(), "the server's flight");
    let keys = pass(&answer, &mut asking, &client, start);
    assert!(!keys.is_empty());
    assert_eq!(pass(&again(&answer), &mut asking, &client, early).len(), 0);
    asking.handle_timeout(later);
    let keys = sent(&mut asking);
    assert!(!keys.is_empty(), "the client's flight");
    for datagram in &keys {
        if let Progress::Up(..) = answering.read(&server, datagram, later) {
            return;
        }
    }
    panic!("the server is not up");
}

/// What a client gives an attempt (PUB-2).
const ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// A handshake over a path that loses `lost_percent` of the datagrams and reorders the rest; the time until both sides are
/// up, if they come to be.
fn shake_over_a_bad_path(
    seed: u64,
    lost_percent: u64,
    client: &Identity,
    server: &Identity,
) -> Option<Duration> {
    let mut state = seed;
    let mut dice = move |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let start = Instant::now();
    let mut now = start;
    let mut sides = [
        (Association::new(DtlsRole::Client, Offered::All, fingerprint(server)), client, false),
        (Association::new(DtlsRole::Server, Offered::All, fingerprint(client)), server, false),
    ];
    sides[0].0.reachable(client, now);
    while now < start + Duration::from_secs(15) {
        let mut under_way: Vec<(usize, Vec<u8>)> = Vec::new();
        for (from, side) in sides.iter_mut().enumerate() {
            under_way.extend(sent(&mut side.0).into_iter().map(|datagram| (1 - from, datagram)));
        }
        under_way.retain(|_| dice(100) >= lost_percent);
        if under_way.is_empty() {
            now = sides.iter().filter_map(|side| side.0.poll_timeout()).min()?.max(now)
                + Duration::from_millis(1);
            for (association, ..) in &mut sides {
                association.handle_timeout(now);
            }
        }
        while !under_way.is_empty() {
            let (to, datagram) = under_way.swap_remove(dice(under_way.len() as u64) as usize);
            let (association, identity, up) = &mut sides[to];
            *up |= matches!(association.read(identity, &datagram, now), Progress::Up(..));
        }
        if sides.iter().all(|side| side.2) {
            return Some(now - start);
        }
    }
    None
}

#[test]
fn a_handshake_comes_up_over_a_path_that_loses_and_reorders() {
    let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let times: Vec<_> = (0..300).map(|seed| shake_over_a_bad_path(seed, 10, &client, &server)).collect();
    let never: Vec<_> = (0..).zip(&times).filter(|(_, time)| time.is_none()).map(|(seed, _)| seed).collect();
    assert_eq!(never, Vec::<u64>::new(), "the seeds of handshakes that never came up");
    let in_time = times.iter().flatten().filter(|time| **time < ATTEMPT_TIME).count();
    assert!(in_time >= times.len() * 98 / 100, "{in_time} of {} within an attempt's time", times.len());
}
