//! Players on their way to the live edge: see [`crate::media::start`]; and what is kept for them.

use std::time::Instant;

use super::{
    count::Began,
    fanout::Way,
    mail::Mail,
    peer::{Peer, PeerKind, Phase},
    run::{Timer, Worker},
    stream::{Player, Side, Stream},
};
use crate::{
    media::{
        history::PacketRef,
        player::Quality,
        pli::Verdict,
        start::{CatchUp, Decision, Offer, Standing, Start, TICK, YOUNG, decide},
        store::Store,
    },
    plane::{Kind, PlayId},
};

impl Worker {
    /// A play begins, and its transport is not up, or is a link: a keyframe is asked for now, so that there is one then.
    pub(super) fn prepare_start(&mut self, slot: usize, play: PlayId, now: Instant) {
        let Some(Stream { store, players, .. }) = self.streams.get_mut(slot) else { return };
        // One that is just there will be young enough when a transport usually is up.
        if store.offer(now).is_some_and(|offer| offer.age <= YOUNG / 2) {
            return;
        }
        if let Some(player) = players.get_mut(&play) {
            player.standing.asked(now);
        }
        self.want_keyframe(slot, now);
    }

    /// A player whose transport is up begins with what is kept, or waits for the next keyframe, which is asked for.
    pub(super) fn start(&mut self, slot: usize, play: PlayId, now: Instant) {
        let Some(Stream { store, players, habit, .. }) = self.streams.get_mut(slot) else { return };
        let Some(player) = players.get_mut(&play) else { return };
        let asked_at = match player.standing {
            Standing::Unready { asked_at } | Standing::Waiting { asked_at } => asked_at,
            Standing::CatchingUp(_) | Standing::Live => return,
        };
        let offer = store.offer(now).filter(|offer| player.egress.may_begin_at(offer.keyframe));
        match decide(now, asked_at, *habit, offer) {
            Decision::Start(offer) => return self.begin(slot, play, &offer, now),
            Decision::LookAgain(at) => {
                player.standing.asked(now);
                self.timers.arm(Timer::Start(slot), at);
            }
            Decision::Await => player.standing.asked(now),
        }
        self.want_keyframe(slot, now);
    }

    fn begin(&mut self, slot: usize, play: PlayId, offer: &Offer, now: Instant) {
        let Some(player) = self.streams.get_mut(slot).and_then(|stream| stream.players.get_mut(&play)) else {
            return;
        };
        player.egress.begin_behind(offer.edge);
        player.standing = Standing::CatchingUp(CatchUp::new(now, offer));
        self.counts.began(if offer.age <= YOUNG { Began::Young } else { Began::Old });
        self.timers.arm(Timer::Start(slot), now);
    }

    /// Players that wait for old packets may start: those are there now, or the publisher did not answer in time.
    pub(super) fn look_again(&mut self, slot: usize, now: Instant) {
        let Self { streams, peers, .. } = self;
        let Some(Stream { players, .. }) = streams.get(slot) else { return };
        let is_up = |player: &Player| {
            matches!(peers.get(player.peer), Some(Peer { phase: Phase::Up { .. }, .. }))
                && matches!(player.standing, Standing::Waiting { .. })
        };
        let waiting: Vec<PlayId> =
            players.iter().filter(|(_, player)| is_up(player)).map(|(&play, _)| play).collect();
        for play in waiting {
            self.start(slot, play, now);
        }
    }

    /// The timer of a stream's starts.
    pub(super) fn starts_due(&mut self, slot: usize, now: Instant) {
        let Self { streams, peers, outbox, socket, counts, events, timers, .. } = self;
        let Some(Stream { store, players, .. }) = streams.get_mut(slot) else { return };
        let mut way = Way { peers, outbox, socket, counts, events, now };
        let mut waits = false;
        for (&play, player) in players.iter_mut() {
            match player.standing {
                Standing::CatchingUp(catch_up) => {
                    player.standing = go_on(&mut way, play, player, catch_up, store);
                    if let Standing::CatchingUp(_) = player.standing {
                        timers.arm(Timer::Start(slot), now + TICK);
                    }
                }
                Standing::Waiting { .. } => waits = true,
                Standing::Unready { .. } | Standing::Live => {}
            }
        }
        if waits {
            self.look_again(slot, now);
        }
    }

    /// A player says that it needs a keyframe. What a link says is said for many, each of which has a share.
    pub(super) fn player_wants_keyframe(&mut self, slot: usize, play: PlayId, now: Instant) {
        let Self { streams, peers, counts, .. } = self;
        let Some(player) = streams.get_mut(slot).and_then(|stream| stream.players.get_mut(&play)) else {
            return;
        };
        let is_link = matches!(peers.get(player.peer), Some(Peer { kind: PeerKind::Link, .. }));
        match (player.standing, is_link) {
            (Standing::Unready { asked_at } | Standing::Waiting { asked_at }, true) => {
                // It knows its SSRCs: it has asked with one.
                player.standing = Standing::Waiting { asked_at };
                self.start(slot, play, now);
            }
            (Standing::CatchingUp(_) | Standing::Live, true) => self.want_keyframe(slot, now),
            // Its picture is asked for, or comes.
            (Standing::Unready { .. } | Standing::Waiting { .. } | Standing::CatchingUp(_), false) => {}
            (Standing::Live, false) => match player.requests.spend(now) {
                Verdict::Counts => self.want_keyframe(slot, now),
                Verdict::Repeats => {}
                Verdict::Refused => counts.refused_request(),
            },
        }
    }

    /// A player reports how it receives.
    pub(super) fn player_reports(&mut self, slot: usize, play: PlayId, quality: &Quality, now: Instant) {
        let player = self.streams.get_mut(slot).and_then(|stream| stream.players.get_mut(&play));
        if let Some(player) = player.filter(|_| quality.kind == Kind::Video) {
            player.standing.reported(now, quality.fraction_lost);
        }
    }

    /// Video was stored at its home: what leaves the ring is kept, unless its publisher answers requests for keyframes.
    pub(super) fn keep(&mut self, slot: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if !stream.habit.needs_archive() {
            return;
        }
        let chunk = match stream.store.seal(now, &self.shared.archives) {
            Ok(None) => return,
            Ok(Some(chunk)) => chunk,
            Err(why) => return self.counts.gave_up(why),
        };
        let Side::Home { watchers, .. } = &stream.side else { return };
        for &(worker, number) in watchers {
            if let Some(Some(other)) = self.others.get(usize::from(worker)) {
                other.mailbox.send(Mail::Chunk(number, chunk.clone()));
            }
        }
    }

    /// What is known of the publisher that feeds a stream may have changed.
    pub(super) fn learn_habit(&mut self, slot: usize) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let Side::Home { watchers, .. } = &stream.side else { return };
        let publisher = self.router.source(&stream.key).and_then(|publish| self.publishers.get(&publish));
        let habit = publisher.map(|publisher| publisher.ingress.habit()).unwrap_or_default();
        if habit == stream.habit {
            return;
        }
        stream.habit = habit;
        for &(worker, number) in watchers {
            if let Some(Some(other)) = self.others.get(usize::from(worker)) {
                other.mailbox.send(Mail::Habit(number, habit));
            }
        }
    }

    /// A worker that begins to keep a stream gets what its players may start with.
    pub(super) fn hand_over_start(&mut self, slot: usize, watcher: usize) {
        let Some(Stream { store, habit, side: Side::Home { watchers, .. }, .. }) = self.streams.get(slot)
        else {
            return;
        };
        let Some(&(worker, number)) = watchers.get(watcher) else { return };
        let Some(Some(other)) = self.others.get(usize::from(worker)) else { return };
        other.mailbox.send(Mail::Habit(number, *habit));
        let Some((start, newest)) = store.hand_over() else { return };
        other.mailbox.send(Mail::Start(number, start));
        for sequence in newest {
            self.hand_over(slot, watcher, PacketRef { kind: Kind::Video, sequence });
        }
    }

    /// What the home of a stream had when this worker began to keep it.
    pub(super) fn take_over_start(&mut self, number: u64, start: Start, now: Instant) {
        let Some(&slot) = self.replicas.get(&number) else { return };
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.store.take_over(start);
            // The newest packets are on their way.
            self.timers.arm(Timer::Start(slot), now + TICK);
        }
    }
}

/// Sends a player that is behind what its pace allows; how far it is then.
fn go_on(way: &mut Way<'_>, play: PlayId, player: &mut Player, catch_up: CatchUp, store: &Store) -> Standing {
    let (mut catch_up, now) = (catch_up, way.now);
    let start = store.next().zip(store.keyframe());
    let Some((edge, keyframe)) = start.filter(|_| !catch_up.is_hopeless(now)) else {
        // What feeds the stream changed, or the path is too slow.
        player.egress.restart_at_keyframe();
        return Standing::Waiting { asked_at: None };
    };
    if keyframe > catch_up.keyframe && catch_up.next <= keyframe {
        player.egress.restart_at_keyframe();
        (catch_up.next, catch_up.keyframe) = (keyframe, keyframe);
    }
    catch_up.pace.advance(now);
    while catch_up.next < edge && catch_up.pace.may_send() {
        // A number that is missing is being repaired, and comes as the live ones do.
        if let Some(packet) = store.get(PacketRef { kind: Kind::Video, sequence: catch_up.next }) {
            catch_up.pace.sent(way.send(play, player, std::iter::once(&(packet, 0))));
        }
        catch_up.next += 1;
    }
    if catch_up.next >= edge { Standing::Live } else { Standing::CatchingUp(catch_up) }
}
