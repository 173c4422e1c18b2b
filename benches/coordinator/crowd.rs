//! A full room: some come and go, and everybody in it hears of that.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{sync::watch, task::JoinSet};
use waystation_proto::v1::{self, connect_event::Event, room_delta::Delta};

use crate::{
    client::{Hears, Identity, Inside, Rpc, dial},
    drive::{Caller, Sample, drive},
};

/// Those who listen.
pub const LISTENERS: usize = 200;
/// Those who come and go, each one after the other.
pub const VISITORS: usize = 4;
const ROOM: &str = "crowd";
/// What is on its way when the last one has left is heard within this.
const TAIL: Duration = Duration::from_millis(300);

/// Somebody who comes and goes, each time as another user.
struct Visitor {
    rpc: Rpc,
    number: usize,
    /// When each of the logins was answered.
    answered: BTreeMap<String, Instant>,
}

impl Caller for Visitor {
    async fn call(&mut self) -> Result<Option<Duration>> {
        let user = format!("visitor-{}-{}", self.number, self.answered.len());
        let identity = Identity::new(ROOM, &user, Hears::Streams)?;
        let asked = Instant::now();
        let inside = identity.enter(&mut self.rpc, 1, None).await?;
        self.answered.insert(user, Instant::now());
        let took = asked.elapsed();
        self.rpc.logout(v1::LogoutRequest { session: Some(identity.session()) }).await?;
        drop(inside);
        Ok(Some(took))
    }
}

/// What one listener heard.
#[derive(Default)]
struct Heard {
    events: usize,
    came: Vec<(String, Instant)>,
}

async fn listen(mut inside: Inside, mut stop: watch::Receiver<bool>) -> Result<Heard> {
    let mut heard = Heard::default();
    loop {
        let message = tokio::select! {
            message = inside.events.message() => message?.context("the stream ended")?,
            _ = stop.wait_for(|&stop| stop) => return Ok(heard),
        };
        let now = Instant::now();
        if let Some(Event::RoomChange(change)) = message.event {
            for delta in change.deltas.into_iter().filter_map(|delta| delta.delta) {
                heard.events += 1;
                if let Delta::UserAdded(user) = delta {
                    heard.came.push((user.user, now));
                }
            }
        }
    }
}

/// Events heard by all together, and how long after the answer to a login the others heard of it.
pub struct Crowd {
    pub events_per_second: f64,
    pub delays: Sample,
}

/// Fills the room and lets visitors come and go for so long.
pub async fn measure(url: &str, within: Duration) -> Result<Crowd> {
    let (stop, stopped) = watch::channel(false);
    let mut coming = JoinSet::new();
    for number in 0..LISTENERS {
        let url = url.to_owned();
        coming.spawn(async move {
            let identity = Identity::new(ROOM, &format!("listener-{number}"), Hears::Others)?;
            identity.enter(&mut dial(&url).await?, 1, None).await
        });
    }
    let inside = coming.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let mut listening = JoinSet::new();
    for inside in inside {
        listening.spawn(listen(inside, stopped.clone()));
    }
    // What the listeners' own logins caused is no part of it.
    tokio::time::sleep(TAIL).await;
    let mut visitors = Vec::new();
    for number in 0..VISITORS {
        visitors.push(Visitor { rpc: dial(url).await?, number, answered: BTreeMap::new() });
    }
    let started = Instant::now();
    let (_, visitors) = drive(visitors, within).await?;
    let over = started.elapsed();
    tokio::time::sleep(TAIL).await;
    stop.send_replace(true);
    let answered: BTreeMap<_, _> = visitors.into_iter().flat_map(|visitor| visitor.answered).collect();
    let (mut events, mut delays) = (0, Vec::new());
    for heard in listening.join_all().await {
        let heard = heard?;
        events += heard.events;
        let delay = |(user, at): &(String, Instant)| Some(at.saturating_duration_since(*answered.get(user)?));
        delays.extend(heard.came.iter().filter_map(delay));
    }
    Ok(Crowd { events_per_second: events as f64 / over.as_secs_f64(), delays: Sample::new(delays, over) })
}
