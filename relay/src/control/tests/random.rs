//! Inputs in any order: nothing panics, and what must always hold, holds.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use waystation_proto::{Claim, NodeRef, token::Action};

use super::super::{
    OpenPlay, OpenPublish,
    core::{Core, Input, LinkId, Output, Reply, RequestId, WatchId},
    finding::FIND_WITHIN,
    message::{LinkTrack, PeerMessage},
    peers::{LinkKeys, LinkUp},
    streams::{Stream, Waiter},
};
use super::net::{holder, node, peer_offer, stream, token, track};
use crate::plane::{PlaneEvent, PlayId, PublishId, TransportEnd, TransportId};

/// One thing that happens; numbers choose among the few ids that there are.
#[derive(Clone, Copy, Debug)]
struct Step {
    what: u8,
    a: u8,
    b: u8,
    c: u8,
    wait_ms: u16,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..30_u8, any::<u8>(), any::<u8>(), any::<u8>(), 0..400_u16);
    let step = step.prop_map(|(what, a, b, c, wait_ms)| Step { what, a, b, c, wait_ms });
    proptest::collection::vec(step, 1..120)
}

struct Chaos {
    core: Core,
    now: Instant,
    asked: Vec<(RequestId, Instant)>,
    resources: Vec<super::super::Resource>,
    /// What the core asked of whom.
    subscribed: Vec<(LinkId, u64)>,
    next: u64,
}

impl Chaos {
    fn new(now: Instant) -> Self {
        let mut core = Core::new(node(0, 1).node, 1000, [3; 32], now);
        core.handle(Input::Nodes((0..5).map(|n| node(n, 1)).collect()), now);
        Self { core, now, asked: Vec::new(), resources: Vec::new(), subscribed: Vec::new(), next: 0 }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn peer(n: u8) -> NodeRef {
        node(usize::from(n % 5), 1 + u64::from(n / 128)).node
    }

    fn message(&mut self, step: Step) -> (LinkId, PeerMessage) {
        let stream = stream(&format!("s{}", step.b % 2));
        let claim = Claim { epoch: u64::from(step.c % 3), moved: u32::from(step.c / 64) };
        let known = self.subscribed.iter().rev().nth(usize::from(step.c % 3)).copied();
        let (asked, id) = known.unwrap_or((LinkId(0), u64::from(step.c % 8)));
        let link = if step.b < 200 { asked } else { LinkId(u64::from(step.a % 8)) };
        let origin = Self::peer(step.c);
        let message = match step.what % 9 {
            0 => {
                let path = (0..step.c % 4)
                    .map(|n| Self::peer(n.wrapping_add(step.a)).id)
                    .chain(self.core.links.get(&link).map(|link| link.node.id.clone()));
                PeerMessage::Subscribe { id: u64::from(step.c % 4), stream, path: path.collect() }
            }
            1 => {
                let info = super::super::TrackInfo {
                    kind: track().kind,
                    codec: track().codec,
                    extensions: Vec::new(),
                };
                let track = LinkTrack { info, payload_type: 96, ssrc: 1, rtx_payload_type: 97, rtx_ssrc: 2 };
                PeerMessage::Subscribed { id, claim, origin, tracks: vec![track] }
            }
            2 => PeerMessage::NotHere { id, reason: String::new() },
            3 => PeerMessage::Unsubscribe { id: u64::from(step.c % 4) },
            4 => PeerMessage::Unpublished { id },
            5 => PeerMessage::Announce { stream, claim, origin },
            6 => PeerMessage::Withdraw { stream, claim },
            7 => PeerMessage::Where { id, stream },
            _ => PeerMessage::Whereabouts { id, found: step.a.is_multiple_of(2).then_some((origin, claim)) },
        };
        (link, message)
    }

    fn input(&mut self, step: Step) -> Input {
        let s = stream(&format!("s{}", step.b % 2));
        let resource = self.resources.get(usize::from(step.c) % self.resources.len().max(1)).cloned();
        let resource = resource.unwrap_or(super::super::Resource("none".into()));
        let request = RequestId(self.fresh());
        let any_id = u64::from(step.c) % (self.next + 1);
        match step.what {
            0 | 1 => {
                self.asked.push((request, self.now));
                Input::Find { request, stream: s, hint: step.a.is_multiple_of(2).then(|| Self::peer(step.c)) }
            }
            2 => {
                let token = token(&s, Action::Publish, u64::from(step.a % 3));
                let activate = (!step.c.is_multiple_of(3)).then(|| u32::from(step.c / 64));
                let open = OpenPublish {
                    holder: holder(token),
                    activate,
                    tracks: vec![track()],
                    peer: peer_offer(),
                };
                Input::OpenPublish { request, open: Box::new(open) }
            }
            3 => {
                let open = OpenPlay {
                    holder: holder(token(&s, Action::Play, 0)),
                    tracks: Vec::new(),
                    peer: peer_offer(),
                };
                Input::OpenPlay { request, open: Box::new(open) }
            }
            4 => Input::Close { request, resource },
            5 => Input::Watch { watch: WatchId(u64::from(step.a)), resource },
            6 => Input::Unwatch(WatchId(u64::from(step.a))),
            7 => {
                let claim = Claim { epoch: u64::from(step.a % 3), moved: u32::from(step.c % 4) };
                Input::Activate { resource, claim }
            }
            8 | 9 => Input::Plane(PlaneEvent::TransportUp { transport: TransportId(any_id), profile: "x" }),
            10 => {
                let why = TransportEnd::Silent;
                Input::Plane(PlaneEvent::TransportDown { transport: TransportId(any_id), why })
            }
            11 => Input::Plane(PlaneEvent::PublishFlow {
                publish: PublishId(any_id),
                flowing: step.a.is_multiple_of(2),
            }),
            12 => {
                Input::Plane(PlaneEvent::PlayFlow { play: PlayId(any_id), flowing: step.a.is_multiple_of(2) })
            }
            13 | 14 => {
                let keys = LinkKeys {
                    local_key: [0; 16],
                    local_salt: [0; 12],
                    remote_key: [0; 16],
                    remote_salt: [0; 12],
                };
                let link = LinkId(u64::from(step.a % 8));
                let (node, media_addr) = (Self::peer(step.c), "10.0.0.9:1".parse().unwrap());
                Input::LinkUp(LinkUp { link, node, dialled: step.b.is_multiple_of(2), media_addr, keys })
            }
            15 => Input::LinkDown(LinkId(u64::from(step.a % 8))),
            16 => Input::DialFailed(Self::peer(step.c)),
            17 if step.c.is_multiple_of(16) => {
                Input::Nodes((0..usize::from(step.a % 5)).map(|n| node(n, 1)).collect())
            }
            _ => {
                let (link, message) = self.message(step);
                Input::FromLink { link, message }
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::OpenClient(open) => self.resources.push(open.resource),
                Output::Reply { request, reply: Reply::Found(_) } => {
                    let before = self.asked.len();
                    self.asked.retain(|(asked, _)| *asked != request);
                    assert_eq!(before, self.asked.len() + 1, "every find is answered once");
                }
                Output::ToLink {
                    link,
                    message: PeerMessage::Subscribe { id, .. } | PeerMessage::Where { id, .. },
                } => self.subscribed.push((link, id)),
                Output::Command(_)
                | Output::RestartIce { .. }
                | Output::Reply { .. }
                | Output::Event { .. }
                | Output::ToLink { .. }
                | Output::CloseLink(_)
                | Output::Dial { .. }
                | Output::ToAgent(_) => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.core.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.core.handle(Input::Time, self.now);
            self.drain();
            let next = self.core.poll_timeout().expect("a core always has a deadline");
            assert!(next > self.now, "a deadline that has passed is not set again");
        }
        self.now = end;
    }

    fn check(&self) {
        for (asked, since) in &self.asked {
            assert!(self.now <= *since + FIND_WITHIN, "{asked:?} is still open");
        }
        let core = &self.core;
        for (key, entry) in &core.streams {
            let floor = core.floor(key).unwrap_or_default();
            assert!(entry.source.claim().is_none_or(|claim| claim >= floor), "a source below its floor");
            assert!(entry.feeds.is_empty() || entry.source.claim().is_some(), "a feed without a source");
            let subscriptions = core.subscriptions.values().filter(|of| *of == key).count();
            assert!(subscriptions <= 1, "more than one subscription of a stream");
        }
        let peers = |entry: &Stream| {
            let waits = entry.waiters.iter().filter(|waiter| matches!(waiter, Waiter::Peer { .. }));
            entry.feeds.len() + waits.count()
        };
        let fed: usize = core.streams.values().map(peers).sum();
        assert_eq!(fed, core.fed.len(), "each subscription of a peer is there once");
        for (link, id) in core.fed.keys() {
            assert!(core.links.contains_key(link), "subscription {id} of a link that is gone");
        }
        let mut nodes: Vec<_> = core.links.values().map(|link| &link.node.id).collect();
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), core.links.len(), "more than one link to a node");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_happens_in_whatever_order_the_invariants_hold(steps in steps()) {
        let mut chaos = Chaos::new(Instant::now());
        for step in steps {
            let input = chaos.input(step);
            chaos.core.handle(input, chaos.now);
            chaos.drain();
            chaos.check();
            chaos.pass(Duration::from_millis(u64::from(step.wait_ms)));
            chaos.check();
        }
        chaos.pass(FIND_WITHIN);
        prop_assert!(chaos.asked.is_empty(), "every find ends");
    }
}
