//! What the store's news change here: who counts for whom, which relays are ours, and whether clients may stay.

use std::{sync::Arc, time::Instant};

use waystation_proto::{RoomId, SessionId, UserId};

use crate::{
    context::{Context, Serving, now},
    keys::PLAIN_PREFIX,
    mirror::{Follower, Held, News, View},
    rooms::{Seen, Who},
};

/// Keeps presence and node table in step with the store.
pub struct Keeper {
    context: Arc<Context>,
    lost_since: Option<Instant>,
}

impl Keeper {
    /// Of what all parts share.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, lost_since: None }
    }

    fn take(&self, news: &News) {
        let context = &self.context;
        let now = now();
        match news {
            News::User(room, user) => self.take_user(room, user, now),
            News::Claim(stream) => {
                let held = |view: &View| view.room(&stream.room)?.claims.get(&stream.stream).cloned();
                let who = Who::Plain(stream.clone());
                match context.mirror.read(held).filter(|claim| is_plain(&claim.value.session)) {
                    Some(claim) => {
                        let (session, modified) = (&claim.value.session, claim.modified);
                        let seen = Seen { session, modified, expires_s: None, doubted: false };
                        context.presence().own(who, seen, now);
                    }
                    None => context.presence().forget(&who),
                }
            }
            News::Node(id) => {
                let owner = context.mirror.read(|view| view.node(id).map(|held| held.value.owner.clone()));
                if owner.is_some_and(|owner| owner != context.id) {
                    context.nodes().release(id);
                }
            }
            News::Coordinator(id) => {
                let gone =
                    *id == context.id && !context.mirror.read(|view| view.coordinators().contains_key(id));
                if gone {
                    context.unseen.notify_one();
                }
            }
            News::Revoked(session) => context.connections.ended(session),
            News::Room(..) | News::Kicked(..) => {}
        }
    }
}

impl Keeper {
    fn take_user(&self, room: &RoomId, user: &UserId, now: Instant) {
        let context = &self.context;
        let who = Who::User(room.clone(), user.clone());
        let held = context.mirror.read(|view| view.room(room).and_then(|room| room.users.get(user).cloned()));
        let Some(Held { value, modified }) = held else { return context.presence().forget(&who) };
        let seen =
            Seen { session: &value.session, modified, expires_s: value.expires_s, doubted: value.doubted };
        if value.owner == context.id {
            context.presence().own(who, seen, now);
        } else {
            context.presence().disown(who, seen, now);
            if value.doubted {
                context.users_due.notify_one();
            }
        }
    }
}

fn is_plain(session: &SessionId) -> bool {
    session.as_str().starts_with(PLAIN_PREFIX)
}

impl Follower for Keeper {
    fn news(&mut self, news: &[News]) {
        news.iter().for_each(|one| self.take(one));
    }

    fn reached(&mut self) {
        let now = now();
        if let Some(since) = self.lost_since.take() {
            tracing::info!("the store is back");
            if now.saturating_duration_since(since) >= self.context.timings.cut_off {
                // Clients and relays were sent away: nobody could be heard.
                self.context.presence().afresh(now);
                self.context.nodes().after_outage(now);
            }
        }
        self.context.store_here(true);
        self.context.serve(Serving::Up);
    }

    fn lost(&mut self, why: &str, since: Instant) {
        self.context.store_here(false);
        let now = now();
        let since = *self.lost_since.get_or_insert_with(|| {
            tracing::warn!(why, "the store is gone; what is known is served for a while");
            since
        });
        if now.saturating_duration_since(since) >= self.context.timings.cut_off {
            self.context.serve(Serving::Leaving);
        }
    }
}
