//! Garbage from outside: a clear error, no panic, and nobody else notices.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use crate::support::{
    SOON,
    clips::{Video, clip},
    cluster::{Cluster, Rights},
    process::waystation,
    ready::answered,
};

/// A small seeded generator (splitmix64): the same garbage at each run.
struct Garbage(u64);

impl Garbage {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let length = self.next() as usize % longest + 1;
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn garbage_at_every_port_disturbs_no_session() {
    let cluster = Cluster::start(2);
    let clip = clip(Video::Vp8, 8);
    let media = ["--video", clip.video.to_str().unwrap(), "--audio", clip.audio.to_str().unwrap(), "--loop"];
    let mut publisher = cluster.published("room", "alice", "cam", &media);
    let mut player = cluster.play("room", "bob", "cam", &[]);
    player.state("player", 2, 0);

    let mut garbage = Garbage(7);
    udp(&cluster, &mut garbage);
    http(&cluster, &mut garbage);
    tcp(&cluster, &mut garbage);

    let frames = |event: &serde_json::Value| event["frames"].as_u64().unwrap_or(0);
    player.pass_over();
    let first = frames(&player.next("statistics", |event| event["event"] == "stats"));
    player.next("more frames", |event| event["event"] == "stats" && frames(event) > first + 25);
    // A busy machine may stop for a moment, and a second session is begun and not needed; nobody loses a session.
    for client in [&mut publisher, &mut player] {
        let used = client.events("attempt").into_iter().filter(|attempt| attempt["outcome"] == "used");
        assert_eq!(used.count(), 1, "{}", client.story());
    }
    assert!(publisher.events("state").iter().all(|event| event["code"] == 0), "{}", publisher.story());
    let info = cluster.info();
    for process in
        info["relays"].as_array().unwrap().iter().chain(info["coordinator_processes"].as_array().unwrap())
    {
        assert_eq!(process["state"], "running", "{process}");
    }
}

/// STUN, DTLS, RTP and RTCP first bytes with garbage behind, whole and truncated.
fn udp(cluster: &Cluster, garbage: &mut Garbage) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for relay in &cluster.relays {
        let to = SocketAddr::from(([127, 0, 0, 1], relay.media_port));
        for first in [0, 1, 20, 22, 23, 63, 128, 129, 144, 191, 255] {
            for _ in 0..40 {
                let mut datagram = garbage.bytes(1_500);
                datagram[0] = first;
                socket.send_to(&datagram, to).unwrap();
            }
        }
        // A STUN header that promises more than there is, and a magic cookie with a lie behind.
        socket.send_to(&[0, 1, 0xff, 0xff, 0x21, 0x12, 0xa4, 0x42], to).unwrap();
        let mut header = vec![0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        header.extend([7; 12]);
        header.extend([0, 6, 0xff, 0xff, 1, 2, 3, 4]);
        socket.send_to(&header, to).unwrap();
    }
}

/// Bodies, types and tokens of all sorts: every answer is a client error.
fn http(cluster: &Cluster, garbage: &mut Garbage) {
    // A connection of its own for each request: a refusal may close it.
    let http = reqwest::blocking::Client::builder().timeout(Duration::from_secs(5)).pool_max_idle_per_host(0);
    let http = http.build().unwrap();
    let token = cluster.token("room", "eve", Rights::Both);
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n";
    let mut bodies =
        vec![Vec::new(), sdp.into(), sdp[..40].into(), vec![b'v'; 2 << 20], b"v=0\r\nm=\r\n".to_vec()];
    bodies.extend((0..20).map(|_| garbage.bytes(4_000)));
    for relay in &cluster.relays {
        for path in ["/whip/room/eve", "/whep/room/cam"] {
            for body in &bodies {
                let ask = || {
                    let request =
                        http.post(format!("{}{path}", relay.http)).header("content-type", "application/sdp");
                    request.bearer_auth(&token).body(body.clone()).send()
                };
                let response = answered(ask).unwrap();
                let status = response.status();
                assert!(status.is_client_error(), "{path} with {} bytes: {status}", body.len());
                let kind =
                    response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
                assert_eq!(kind.as_deref(), Some("application/problem+json"), "{path}: {status}");
            }
        }
        for path in ["/session/unknown", "/session/%00", "/session/../../etc/passwd"] {
            let response = http.delete(format!("{}{path}", relay.http)).send().unwrap();
            assert!(response.status().is_client_error(), "{path}: {}", response.status());
        }
    }
}

/// Bytes that are no HTTP at all, at the relays' and the coordinator's ports.
fn tcp(cluster: &Cluster, garbage: &mut Garbage) {
    let urls = cluster
        .relays
        .iter()
        .map(|relay| relay.http.as_str())
        .chain(cluster.coordinators.iter().map(String::as_str));
    for url in urls {
        let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        for _ in 0..10 {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let _ = stream.write_all(&garbage.bytes(10_000));
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.take(1 << 20).read_to_end(&mut answer);
        }
        // A gRPC call whose message is not one.
        let http = reqwest::blocking::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
        let request = http.post(format!("{url}/waystation.v1.RoomService/Connect"));
        let request = request.header("content-type", "application/grpc-web+proto");
        let _ = request.body(garbage.bytes(5_000)).send();
    }
}

/// The command's standard error and exit status.
fn refused(words: &[&str]) -> String {
    let output = waystation().args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{words:?} was taken");
    assert!(!text.contains("panicked"), "{words:?}: {text}");
    text
}

#[test]
fn a_bad_configuration_file_is_named_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unknown = write("unknown.toml", b"colour = \"red\"\n");
    for process in ["relay", "coordinator"] {
        let text = refused(&[process, "--config", &unknown]);
        assert!(text.contains("colour") && text.contains("unknown.toml"), "{text}");
        let text = refused(&[process, "--config", &write("garbage.toml", &Garbage(3).bytes(500))]);
        assert!(text.contains("garbage.toml"), "{text}");
        let text = refused(&[process, "--config", "/nowhere/at/all.toml"]);
        assert!(text.contains("/nowhere/at/all.toml"), "{text}");
    }
}

#[test]
fn a_clip_that_is_none_is_a_clear_error() {
    let cluster = Cluster::start(1);
    let mut garbage = Garbage(11);
    let whole = std::fs::read(clip(Video::Vp8, 8).video).unwrap();
    let clips = [
        ("empty.ivf", Vec::new()),
        ("noise.ivf", garbage.bytes(3_000)),
        ("cut.ivf", whole[..20].to_vec()),
        ("noise.ogg", garbage.bytes(3_000)),
    ];
    for (name, content) in clips {
        let path = cluster.file(name);
        std::fs::write(&path, content).unwrap();
        let option = if name.ends_with("ogg") { "--audio" } else { "--video" };
        let mut publisher = cluster.publish("room", "alice", "cam", &[option, path.to_str().unwrap()]);
        let status = publisher.end(SOON);
        let story = publisher.story();
        assert!(
            !status.success() && story.contains(name) && !story.contains("panicked"),
            "{name}: {status:?}; {story}"
        );
    }
}
