//! Handshakes with OpenSSL, whose keys are on other curves than ours, or are RSA's, in either role.

use std::{
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA512, digest};

use super::{Association, Identity, Offered, Progress};
use crate::plane::{DtlsRole, Fingerprint};

/// Longest wait for a handshake with a process that has yet to start.
const LIMIT: Duration = Duration::from_secs(10);
/// How `openssl genpkey` makes a key of each kind.
const KEYS: [(&str, &[&str]); 5] = [
    ("P-256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("P-384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("P-521", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
    ("RSA", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("Ed25519", &["-algorithm", "ED25519"]),
];

/// A peer that ends with the value.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(directory: &Path, words: &[&str]) -> Vec<u8> {
    let output =
        Command::new("openssl").args(words).current_dir(directory).output().expect("OpenSSL is installed");
    assert!(output.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A key and its certificate, as `key.pem` and `cert.pem`; the certificate's fingerprint.
fn certificate(directory: &Path, key: &[&str]) -> Fingerprint {
    openssl(directory, &[&["genpkey", "-out", "key.pem"], key].concat());
    openssl(
        directory,
        &["req", "-x509", "-key", "key.pem", "-out", "cert.pem", "-subj", "/CN=peer", "-days", "2"],
    );
    let certificate = openssl(directory, &["x509", "-in", "cert.pem", "-outform", "der"]);
    Fingerprint::Sha512(digest(&SHA512, &certificate).as_ref().try_into().unwrap())
}

fn start(directory: &Path, words: &[&str]) -> Peer {
    let common = ["-dtls1_2", "-cert", "cert.pem", "-key", "key.pem", "-use_srtp", "SRTP_AEAD_AES_128_GCM"];
    let mut command = Command::new("openssl");
    command.args(words).args(common).current_dir(directory);
    // Its input stays open: it would end with it.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Peer(command.spawn().expect("OpenSSL is installed"))
}

/// Carries datagrams between the association and the socket's peer until the outcome is known.
fn drive(mut association: Association, identity: &Identity, socket: &UdpSocket) -> Progress {
    let began = Instant::now();
    let mut buffer = [0; 2048];
    let mut progress = association.reachable(identity, began);
    while matches!(progress, Progress::None) && began.elapsed() < LIMIT {
        while let Some(datagram) = association.poll_transmit() {
            // A server that does not listen yet refuses it; the flight goes out again.
            let _ = socket.send(&datagram);
        }
        let due = association.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = due.unwrap_or(LIMIT).clamp(Duration::from_millis(1), LIMIT);
        socket.set_read_timeout(Some(wait)).unwrap();
        progress = match socket.recv(&mut buffer) {
            Ok(length) => association.read(identity, &buffer[..length], Instant::now()),
            Err(_) => association.handle_timeout(Instant::now()),
        };
    }
    progress
}

#[test]
fn clients_with_keys_of_every_kind_come_up() {
    let identity = Identity::generate().unwrap();
    for (name, key) in KEYS {
        let directory = tempfile::tempdir().unwrap();
        let fingerprint = certificate(directory.path(), key);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let _peer = start(directory.path(), &["s_client", "-connect", &address]);
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let (_, peer) = socket.peek_from(&mut [0; 2048]).unwrap();
        socket.connect(peer).unwrap();
        let association = Association::new(DtlsRole::Server, Offered::All, fingerprint);
        let outcome = drive(association, &identity, &socket);
        assert!(matches!(outcome, Progress::Up(..)), "{name}: {outcome:?}");
    }
}

#[test]
fn servers_with_keys_of_every_kind_come_up() {
    let identity = Identity::generate().unwrap();
    // OpenSSL shows a certificate only to clients that name its curve among their groups, which the library cannot do for
    // P-521. Nor does the library take an Ed25519 server, which no WebRTC peer is.
    for (name, key) in KEYS.into_iter().filter(|(name, _)| !["P-521", "Ed25519"].contains(name)) {
        let directory = tempfile::tempdir().unwrap();
        let fingerprint = certificate(directory.path(), key);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _peer = start(directory.path(), &["s_server", "-verify", "1", "-accept", &free.to_string()]);
        socket.connect(free).unwrap();
        let association = Association::new(DtlsRole::Client, Offered::All, fingerprint);
        let outcome = drive(association, &identity, &socket);
        assert!(matches!(outcome, Progress::Up(..)), "{name}: {outcome:?}");
    }
}
