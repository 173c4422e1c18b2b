//! Ends logins that nobody hears, and whose tokens expired.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use waystation_proto::StreamKey;

use super::{every, heir};
use crate::{
    context::{Context, now, unix_ms},
    fault::Fault,
    mirror::View,
    rooms::{Command, Due, Leaving, Who, doubt, leave, vouch},
    streams,
};

/// Time-outs of users are seen at most so much late (ROOM-5 allows a second).
const USERS_EVERY: Duration = Duration::from_millis(500);
/// So many are ended at once: the store takes them together.
const ENDED_AT_ONCE: usize = 256;

/// Runs until dropped.
pub(super) async fn run(context: &Context) {
    let mut ticks = every(USERS_EVERY.min(context.timings.heard_within / 4));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = context.users_due.notified() => {}
        }
        if !context.store_is_here() {
            continue;
        }
        let due = context.presence().due(now(), unix_ms());
        let ending = stream::iter(due).for_each_concurrent(ENDED_AT_ONCE, |one| async {
            if let Err(fault) = end(context, one).await {
                tracing::warn!(%fault, "a login whose time is up could not be ended yet");
            }
        });
        tokio::pin!(ending);
        loop {
            tokio::select! {
                () = &mut ending => break,
                // A slow store is not a coordinator that stands still.
                _ = ticks.tick() => context.presence().awake(now()),
            }
        }
    }
}

/// Whether this coordinator counts for a plain publisher: the one to which its relay is attached does, for it hears the
/// relay's word; without such a relay, some one does.
fn counts_for(view: &View, me: &str, stream: &StreamKey) -> bool {
    let shown = view.room(&stream.room).and_then(|room| room.streams.get(&stream.stream));
    let origin = shown.and_then(|shown| view.node(&shown.value.origin.as_ref()?.id));
    let living = view.coordinators();
    match origin.map(|node| node.value.owner.as_str()).filter(|owner| living.contains_key(*owner)) {
        Some(owner) => owner == me,
        None => heir(&stream.to_string(), living.keys().map(String::as_str).chain([me])) == Some(me),
    }
}

async fn end(context: &Context, due: Due) -> Result<(), Fault> {
    let (room, session, leaving) = match due {
        Due::Doubtful { who: Who::User(room, _), session, modified } => {
            let doubt = |view: &View| doubt(view, &context.keys, &room, &session, modified);
            return context.change(doubt).await.map(|_| ());
        }
        Due::Vouch { who: Who::User(room, _), session } => {
            let vouch = |view: &View| vouch(view, &context.keys, &room, &session, &context.id);
            return context.change(vouch).await.map(|_| ());
        }
        Due::Doubtful { who: Who::Plain(_), .. } | Due::Vouch { who: Who::Plain(_), .. } => return Ok(()),
        Due::Unheard { who: Who::Plain(stream), session, modified } => {
            if context.mirror.read(|view| counts_for(view, &context.id, &stream)) {
                return streams::end_unheard(context, &stream, modified).await;
            }
            // If that becomes our task, it begins with a whole time-out.
            context.presence().heard(&Who::Plain(stream), &session, now());
            return Ok(());
        }
        Due::Expiring { who: Who::User(room, _), session, within } => {
            let command = Command::Expiring(room, session.clone(), within);
            context.connections.tell_holder(&session, command).await;
            return Ok(());
        }
        // A plain client's session outlives its token: that gates new sessions only.
        Due::Expiring { who: Who::Plain(_), .. } | Due::Expired { who: Who::Plain(_), .. } => return Ok(()),
        Due::Unheard { who: Who::User(room, _), session, modified } => {
            (room, session, Leaving::Unheard { seen: modified })
        }
        Due::Expired { who: Who::User(room, _), session, modified } => {
            (room, session, Leaving::Expired { seen: modified })
        }
    };
    let left = context.change(|view| leave(view, &context.keys, &room, &session, leaving, unix_ms())).await?;
    streams::ended(context, left.0.streams);
    Ok(())
}

#[cfg(test)]
mod tests {
    use waystation_proto::{Health, Load, Node, NodeId, NodeRef, RoomId, SessionId, StreamId, UserId};

    use super::*;
    use crate::{
        keys::{CoordinatorEntry, Key, Keys, NodeEntry, StreamEntry, encode},
        store::{Batch, Change, Entry},
    };

    fn stream() -> StreamKey {
        StreamKey { room: RoomId::new("r").unwrap(), stream: StreamId::new("s").unwrap() }
    }

    /// A plain stream at a relay that is attached to `owner`; these coordinators live.
    fn view(owner: &str, living: &[&str]) -> View {
        let mut view = View::new(Keys::under("w"));
        let keys = view.keys().clone();
        let put = |key: &Key, value| {
            Change::Put(Entry { key: keys.text(key), value, version: 1, modified: 1, lease: None })
        };
        let node = NodeRef { id: NodeId::new("n").unwrap(), incarnation: 1 };
        let relay = Node {
            node: node.clone(),
            http_url: "http://x".into(),
            link_url: "http://x".into(),
            media_addr: "127.0.0.1:1".parse().unwrap(),
            region: String::new(),
            health: Health::Healthy,
            load: Load::default(),
        };
        let shown = StreamEntry {
            user: UserId::new("u").unwrap(),
            session: SessionId::new("plain-1").unwrap(),
            epoch: 1,
            moved: 0,
            origin: Some(node.clone()),
        };
        let coordinator = encode(&CoordinatorEntry { url: String::new() });
        let mut changes = vec![
            put(&Key::Node(node.id), encode(&NodeEntry { node: relay, owner: owner.into() })),
            put(&Key::Stream(stream()), encode(&shown)),
        ];
        changes.extend(living.iter().map(|id| put(&Key::Coordinator((*id).into()), coordinator.clone())));
        view.apply(&Batch { revision: 1, changes });
        view
    }

    #[test]
    fn one_coordinator_counts_for_a_plain_publisher_that_of_its_relay_if_it_lives() {
        // PUB-7
        let count = |view: &View| {
            let counting = |me: &&&str| counts_for(view, me, &stream());
            ["a", "b", "c"].iter().filter(counting).copied().collect::<Vec<_>>()
        };
        assert_eq!(count(&view("b", &["a", "b", "c"])), ["b"]);
        assert_eq!(count(&view("dead", &["a", "b", "c"])).len(), 1);
    }
}
