//! The socket over the loopback interface.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use super::{MediaSocket, ReceiveBatch, SendQueue};

const PATIENCE: Duration = Duration::from_secs(10);

fn receiver() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn runs_arrive_as_single_datagrams(gso: bool) {
    let mut socket = MediaSocket::bind("127.0.0.1:0".parse().unwrap(), gso).unwrap();
    let (one, two) = (receiver(), receiver());
    let arena: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let mut queue = SendQueue::default();
    for start in [0, 1_000, 2_000] {
        queue.push(one.local_addr().unwrap(), start, 1_000);
    }
    queue.push(one.local_addr().unwrap(), 3_000, 400);
    queue.push(two.local_addr().unwrap(), 3_400, 100);
    let sent = socket.send(&mut queue, &arena);
    assert_eq!((sent.datagrams, sent.dropped), (5, 0));
    assert!(queue.is_empty());
    let mut buffer = [0; 2_000];
    for (receiver, start, length) in
        [(&one, 0, 1_000), (&one, 1_000, 1_000), (&one, 2_000, 1_000), (&one, 3_000, 400), (&two, 3_400, 100)]
    {
        let got = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..got], &arena[start..start + length]);
    }
}

#[test]
fn a_run_of_equal_datagrams_and_a_shorter_last_arrives_one_by_one() {
    runs_arrive_as_single_datagrams(true);
}

#[test]
fn without_segmentation_offload_the_same_arrives() {
    runs_arrive_as_single_datagrams(false);
}

#[test]
fn a_longer_datagram_or_one_behind_a_shorter_starts_a_run_of_its_own() {
    let to = "127.0.0.1:9".parse().unwrap();
    let mut queue = SendQueue::default();
    for (start, bytes) in [(0, 100), (100, 101), (201, 50), (251, 50), (400, 50)] {
        queue.push(to, start, bytes);
    }
    let shapes: Vec<_> = queue.runs.iter().map(|run| (run.start, run.bytes, run.segment_bytes)).collect();
    assert_eq!(shapes, [(0, 100, 100), (100, 151, 101), (251, 50, 50), (400, 50, 50)]);
}

#[test]
fn workers_share_a_port_and_another_relay_gets_neither_it_nor_a_part_of_its_datagrams() {
    let first = MediaSocket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
    let second = first.share().unwrap();
    let addr = first.local_addr().unwrap();
    assert_eq!(second.local_addr().unwrap(), addr);
    let other = MediaSocket::bind(addr, true).unwrap_err();
    assert_eq!(other.kind(), std::io::ErrorKind::AddrInUse);
    // The system deals them out by the senders' addresses.
    let mut counts = [0, 0];
    let mut batch = ReceiveBatch::default();
    for _ in 0..64 {
        receiver().send_to(&[1], addr).unwrap();
    }
    let started = Instant::now();
    while counts.iter().sum::<usize>() < 64 {
        assert!(started.elapsed() < PATIENCE, "{counts:?}");
        for (count, socket) in counts.iter_mut().zip([&first, &second]) {
            *count += socket.receive(&mut batch).unwrap();
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn a_batch_names_every_datagrams_sender() {
    let socket = MediaSocket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
    let to = socket.local_addr().unwrap();
    let senders: Vec<UdpSocket> = (0..3).map(|_| receiver()).collect();
    for (i, sender) in senders.iter().enumerate() {
        sender.send_to(&vec![i as u8; 10 + i], to).unwrap();
    }
    // A busy system delivers them when it likes: in one batch, or in more.
    let mut batch = ReceiveBatch::default();
    let mut received = Vec::new();
    let started = Instant::now();
    while received.len() < senders.len() {
        assert!(started.elapsed() < PATIENCE, "{received:?}");
        for index in 0..socket.receive(&mut batch).unwrap() {
            let (bytes, from) = batch.datagram(index).unwrap();
            received.push((bytes.len(), from));
        }
    }
    let sent = |(i, sender): (usize, &UdpSocket)| (10 + i, sender.local_addr().unwrap());
    assert_eq!(received, senders.iter().enumerate().map(sent).collect::<Vec<_>>());
    assert_eq!(socket.receive(&mut batch).unwrap(), 0);
}
