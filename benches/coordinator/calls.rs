//! What clients call one after the other: logins, beats and plans.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{interval, timeout},
};
use waystation_proto::v1;

use crate::{
    client::{Hears, Identity, PATIENCE, Rpc, dial, next},
    drive::Caller,
    relay::Relay,
};

/// Users of a room in which logins and plans are measured.
const ROOM_USERS: usize = 8;
/// What the first user of each room publishes, for the others to play.
const CAMERA: &str = "camera";
/// Streams that one session publishes beside it: a coordinator allows 32 in all.
const STREAMS: usize = 31;
const POLL: Duration = Duration::from_millis(20);

/// Logs a new user in with each call, over the same connection.
pub struct Logins {
    rpc: Rpc,
    name: String,
    users: usize,
}

impl Logins {
    pub async fn new(url: &str, name: String) -> Result<Self> {
        Ok(Self { rpc: dial(url).await?, name, users: 0 })
    }
}

impl Caller for Logins {
    async fn call(&mut self) -> Result<Option<Duration>> {
        let room = format!("{}-{}", self.name, self.users / ROOM_USERS);
        let identity = Identity::new(&room, &format!("user-{}", self.users), Hears::Others)?;
        self.users += 1;
        let asked = Instant::now();
        let inside = identity.enter(&mut self.rpc, 1, None).await?;
        let took = asked.elapsed();
        ensure!(!inside.up.session_id.is_empty(), "a login has a session");
        Ok(Some(took))
    }
}

/// A login whose events are read and forgotten.
pub struct Session {
    rpc: Rpc,
    of: v1::SessionRef,
    user: String,
    session_id: String,
    reading: JoinHandle<()>,
    granted: Vec<(String, u64)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Session {
    async fn publish(&mut self, stream: String) -> Result<v1::Claim> {
        let session = Some(self.of.clone());
        let request = v1::PlanPublishRequest { session, stream: stream.clone(), ..Default::default() };
        let planned = self.rpc.plan_publish(request).await?.into_inner();
        ensure!(
            !planned.nodes.is_empty() && !planned.node_token.is_empty(),
            "a plan names nodes and has a token"
        );
        let claim = planned.claim.context("a publisher is given a claim")?;
        self.granted.push((stream, claim.epoch));
        Ok(claim)
    }

    async fn play(&mut self) -> Result<v1::PlanPlayResponse> {
        let session = Some(self.of.clone());
        let request = v1::PlanPlayRequest { session, stream: CAMERA.into(), ..Default::default() };
        Ok(self.rpc.plan_play(request).await?.into_inner())
    }
}

async fn session(url: String, number: usize) -> Result<Session> {
    let room = format!("plans-{}", number / ROOM_USERS);
    let identity = Identity::new(&room, &format!("user-{number}"), Hears::Others)?;
    let mut rpc = dial(&url).await?;
    let mut inside = identity.enter(&mut rpc, 1, None).await?;
    let (of, session_id) = (identity.session(), inside.up.session_id);
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = next(&mut inside.events).await {} });
    Ok(Session { rpc, of, user: identity.user, session_id, reading, granted: Vec::new() })
}

/// So many logins, in rooms that have a stream each.
pub async fn sessions(url: &str, relay: &Relay, count: usize) -> Result<Vec<Session>> {
    let mut coming = JoinSet::new();
    for number in 0..count {
        coming.spawn(session(url.to_owned(), number));
    }
    let mut sessions = coming.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    sessions.sort_by_key(|session| session.of.clone().room);
    for room in sessions.chunks_mut(ROOM_USERS) {
        let first = room.first_mut().context("a chunk has one at least")?;
        let claim = first.publish(CAMERA.into()).await?;
        first.granted.clear();
        let (user, session_id) = (first.user.clone(), first.session_id.clone());
        let stream = Some(v1::StreamRef { room: first.of.room.clone(), stream: CAMERA.into() });
        relay.origin(v1::OriginUp { stream, claim: Some(claim), user, session_id, plain: false }).await?;
        let mut polls = interval(POLL);
        let there = async {
            while first.play().await.is_err() {
                polls.tick().await;
            }
        };
        timeout(PATIENCE, there).await.context("a stream did not come into its room")?;
    }
    Ok(sessions)
}

/// What a call is about.
#[derive(Clone, Copy)]
pub enum Ask {
    Beat,
    PlanPublish,
    PlanPlay,
}

/// Asks for some sessions in turn.
pub struct Calls {
    ask: Ask,
    sessions: Vec<Session>,
    asked: usize,
}

impl Calls {
    /// Shares the sessions out to so many callers.
    pub fn share(ask: Ask, mut sessions: Vec<Session>, callers: usize) -> Vec<Self> {
        let each = sessions.len() / callers;
        let mut share = || Self { ask, sessions: sessions.split_off(sessions.len() - each), asked: 0 };
        (0..callers).map(|_| share()).collect()
    }

    /// Ends what was published, and gives the sessions back.
    pub async fn finish(callers: Vec<Self>) -> Result<Vec<Session>> {
        let mut ending = JoinSet::new();
        for mut session in callers.into_iter().flat_map(|caller| caller.sessions) {
            ending.spawn(async move {
                for (stream, epoch) in std::mem::take(&mut session.granted) {
                    let request = v1::EndStreamRequest { session: Some(session.of.clone()), stream, epoch };
                    session.rpc.end_stream(request).await?;
                }
                anyhow::Ok(session)
            });
        }
        ending.join_all().await.into_iter().collect()
    }
}

impl Caller for Calls {
    async fn call(&mut self) -> Result<Option<Duration>> {
        let (round, count) = (self.asked / self.sessions.len(), self.sessions.len());
        let session = &mut self.sessions[self.asked % count];
        self.asked += 1;
        let asked = Instant::now();
        match self.ask {
            Ask::Beat => {
                let sessions = vec![session.of.clone()];
                let beat = v1::BeatRequest { client_id: String::new(), connection: 1, sessions };
                let answer = session.rpc.beat(beat).await?.into_inner();
                ensure!(answer.unknown_rooms.is_empty(), "a login that is held is known");
            }
            Ask::PlanPublish if round >= STREAMS => return Ok(None),
            Ask::PlanPublish => drop(session.publish(format!("{}-{round}", session.user)).await?),
            Ask::PlanPlay => ensure!(!session.play().await?.nodes.is_empty(), "a plan names nodes"),
        }
        Ok(Some(asked.elapsed()))
    }
}
