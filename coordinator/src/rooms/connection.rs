//! One client's event stream: a task that logs in, and passes on what happens in its rooms.
//!
//! It pulls: news of a room that it was too slow for becomes the room as it stands. A client that does not read for
//! [`SLOW_AFTER`] loses the stream, and resumes when it can.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{
    StreamExt as _, StreamMap,
    wrappers::{BroadcastStream, errors::BroadcastStreamRecvError},
};
use tonic::Status;
use waystation_proto::{
    ErrorCode, Health, LoginId, NodeRef, Refusal, RoomId, SessionId, UserId,
    v1::{self, connect_event::Event},
};

use super::{
    connections::Command,
    login::{Attempt, session_of},
    membership::{Entered, enter},
    presence::Who,
};
use crate::{
    context::{Context, leaving, now, unix_ms, unix_s},
    fault::{CallError, Fault},
    metrics,
    mirror::{Delta, NodeNews, RoomNews, Snapshot, Standing},
    streams::{self, Said},
};

/// Events that wait for a client.
const QUEUE: usize = 64;
/// A client that takes nothing for this long is not there.
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// Clients that have to go spread over this time.
const TRY_OTHER_WITHIN: Duration = Duration::from_secs(1);
/// Claims that a login may bring.
const MAX_HELD_CLAIMS: usize = super::MAX_STREAMS;

/// What a client's stream carries.
pub type Events = mpsc::Receiver<Result<v1::ConnectEvent, Status>>;

struct Joined {
    user: UserId,
    session: SessionId,
    notify_users: bool,
}

impl Joined {
    /// Others may know a user under the login that this one replaced; itself it knows under this one.
    fn as_itself(&self, mut users: Vec<v1::RoomUser>) -> Vec<v1::RoomUser> {
        for user in users.iter_mut().filter(|user| user.user == self.user.as_str()) {
            user.session_id = self.session.to_string();
        }
        users
    }
}

/// Why the stream ends.
enum End {
    /// The client is gone, slow, or has a newer connection.
    Gone,
    /// It is to connect again.
    Again(Status),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Again(CallError::from(fault).into())
    }
}

struct Connection {
    context: Arc<Context>,
    client: String,
    number: u64,
    out: mpsc::Sender<Result<v1::ConnectEvent, Status>>,
    rooms: BTreeMap<RoomId, Joined>,
    news: StreamMap<RoomId, BroadcastStream<Arc<RoomNews>>>,
    known: BTreeMap<NodeRef, Health>,
}

/// Opens the stream of a connection that was registered.
pub fn open(context: Arc<Context>, request: v1::ConnectRequest, commands: mpsc::Receiver<Command>) -> Events {
    let (out, events) = mpsc::channel(QUEUE);
    let v1::ConnectRequest { client_id: client, connection: number, rooms } = request;
    let connection = Connection {
        context,
        client,
        number,
        out,
        rooms: BTreeMap::new(),
        news: StreamMap::new(),
        known: BTreeMap::new(),
    };
    tokio::spawn(connection.run(rooms, commands));
    events
}

impl Connection {
    async fn run(mut self, rooms: Vec<v1::RoomLogin>, mut commands: mpsc::Receiver<Command>) {
        let end = self.serve(rooms, &mut commands).await;
        drop(commands);
        let sessions = self.rooms.values().map(|joined| &joined.session);
        self.context.connections.close(&self.client, self.number, sessions);
        match end {
            End::Gone => {}
            End::Again(status) => {
                // The client may be gone too.
                let _ = timeout(SLOW_AFTER, self.out.send(Err(status))).await;
            }
        }
    }

    async fn send(&self, event: Event) -> Result<(), End> {
        let sent = self.out.send(Ok(v1::ConnectEvent { event: Some(event) }));
        match timeout(SLOW_AFTER, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    async fn serve(&mut self, rooms: Vec<v1::RoomLogin>, commands: &mut mpsc::Receiver<Command>) -> End {
        let mut serving = self.context.serving();
        let mut nodes = self.context.mirror.nodes();
        let news = nodes.borrow_and_update().clone();
        match self.begin(rooms, &news).await {
            Ok(()) => {}
            Err(end) => return end,
        }
        loop {
            // 1. whether we may stay, 2. what we are told, 3. the nodes, 4. the rooms.
            let done = tokio::select! {
                biased;
                () = self.out.closed() => Err(End::Gone),
                () = leaving(&mut serving) => {
                    let within_ms = u32::try_from(TRY_OTHER_WITHIN.as_millis()).unwrap_or(u32::MAX);
                    let told = self.send(Event::TryOther(v1::TryOther { within_ms })).await;
                    told.and(Err(End::Again(Status::unavailable("this coordinator is leaving; connect to another"))))
                }
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => Err(End::Gone),
                },
                changed = nodes.changed() => match changed {
                    Ok(()) => {
                        let news = nodes.borrow_and_update().clone();
                        self.tell_nodes(&news).await
                    }
                    Err(_) => Err(End::Gone),
                },
                Some((room, news)) = self.news.next(), if !self.news.is_empty() => self.tell_news(&room, news).await,
            };
            match done {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn begin(&mut self, rooms: Vec<v1::RoomLogin>, nodes: &NodeNews) -> Result<(), End> {
        let beat = self.context.timings.client_beat.as_millis();
        let welcome = v1::Welcome {
            coordinator_urls: self.context.coordinator_urls(),
            beat_interval_ms: u32::try_from(beat).unwrap_or(u32::MAX),
        };
        self.send(Event::Welcome(welcome)).await?;
        self.tell_nodes(nodes).await?;
        for room in rooms {
            self.login(room).await?;
        }
        Ok(())
    }

    async fn command(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Login(login) => self.login(*login).await,
            Command::Forget(room, session) => {
                self.part(&room, &session);
                Ok(())
            }
            Command::Ended(session) => {
                let of_it =
                    |(room, joined): (&RoomId, &Joined)| (joined.session == session).then(|| room.clone());
                match self.rooms.iter().find_map(of_it) {
                    Some(room) => self.check(&room).await,
                    None => Ok(()),
                }
            }
            Command::Expiring(room, session, within) => {
                if self.rooms.get(&room).is_none_or(|joined| joined.session != session) {
                    return Ok(());
                }
                let in_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                self.send(Event::TokenExpiring(v1::TokenExpiring { room: room.to_string(), in_ms })).await
            }
        }
    }

    fn part(&mut self, room: &RoomId, session: &SessionId) {
        if self.rooms.get(room).is_some_and(|joined| joined.session == *session) {
            self.rooms.remove(room);
            self.news.remove(room);
            self.context.connections.parted(session);
        }
    }

    async fn down(&mut self, room: &str, refusal: Refusal) -> Result<(), End> {
        let down =
            v1::RoomDown { room: room.to_owned(), code: refusal.code.number(), message: refusal.message };
        self.send(Event::RoomDown(down)).await
    }

    /// Nodes that became suspect are named beside the list: the word starts hedges.
    async fn tell_nodes(&mut self, news: &NodeNews) -> Result<(), End> {
        let health: BTreeMap<_, _> = news.nodes.iter().map(|node| (node.node.clone(), node.health)).collect();
        let suspect = |(node, health): (&NodeRef, &Health)| {
            (*health == Health::Suspect && self.known.get(node) == Some(&Health::Healthy))
                .then(|| node.clone())
        };
        let suspects: Vec<_> = health.iter().filter_map(suspect).collect();
        self.known = health;
        let nodes = news.nodes.iter().map(Into::into).collect();
        self.send(Event::Nodes(v1::NodeList { epoch: news.epoch, nodes })).await?;
        for node in suspects {
            self.send(Event::Suspect(v1::NodeSuspect { node: Some((&node).into()) })).await?;
        }
        Ok(())
    }

    async fn login(&mut self, login: v1::RoomLogin) -> Result<(), End> {
        let room_text = login.room.clone();
        match self.log_in(login).await {
            Ok((room, snapshot)) => {
                metrics::login("ok");
                self.tell_room(room.clone(), snapshot).await?;
                // A word about the login that came before it was ours was nobody's to tell.
                self.check(&room).await
            }
            Err(CallError::Refused(refusal)) => {
                metrics::login("refused");
                self.down(&room_text, refusal).await
            }
            Err(CallError::Malformed(message)) => {
                metrics::login("refused");
                self.down(&room_text, Refusal::new(ErrorCode::TokenRefused, message)).await
            }
            Err(error @ (CallError::Fault(_) | CallError::Unknown(_) | CallError::Gathering { .. })) => {
                metrics::login("failed");
                Err(End::Again(error.into()))
            }
        }
    }

    async fn log_in(&mut self, login: v1::RoomLogin) -> Result<(RoomId, Snapshot), CallError> {
        let context = Arc::clone(&self.context);
        let room = RoomId::new(&login.room)?;
        let session = session_of(&LoginId::new(&login.login_id)?);
        if !self.rooms.contains_key(&room) && self.rooms.len() >= context.limits.rooms_per_client {
            let message =
                format!("a client may be in {} rooms at once; leave one", context.limits.rooms_per_client);
            return Err(Refusal::new(ErrorCode::TooManyRooms, message).into());
        }
        let token = context.user_tokens.check_for_room(&login.user_token, &room, unix_s())?;
        if let Some(seen) = &login.seen {
            context.seen(seen).await?;
        }
        let attempt = Attempt {
            session: &session,
            resume: login.resume,
            connection: self.number,
            token: &token,
            owner: &context.id,
        };
        let most = context.limits.users_per_room;
        let entering =
            context.change(|view| enter(view, &context.keys, &room, &attempt, most, unix_ms())).await?;
        match entering.0 {
            Entered::Up { resumed } => tracing::debug!(%room, user = %token.user, resumed, "logged in"),
            Entered::Late => {
                return Err(CallError::Unknown("connection: a newer one of this client is open"));
            }
            Entered::Refused(refusal) => return Err(refusal.into()),
        }
        context.presence().heard(&Who::User(room.clone(), token.user.clone()), &session, now());
        self.bring_claims(&room, &token.user, &session, login.claims).await?;
        if let Some(other) = self.rooms.get(&room).map(|joined| joined.session.clone()) {
            self.part(&room, &other);
        }
        context.connections.joined(&self.client, self.number, &session);
        let joined = Joined { user: token.user, session, notify_users: login.notify_users };
        self.rooms.insert(room.clone(), joined);
        let snapshot = context.mirror.subscribe(&room, now());
        Ok((room, snapshot))
    }

    /// Claims that a predecessor of this store granted, proved by its node tokens.
    async fn bring_claims(
        &self,
        room: &RoomId,
        user: &UserId,
        session: &SessionId,
        claims: Vec<v1::HeldClaim>,
    ) -> Result<(), CallError> {
        for held in claims.into_iter().take(MAX_HELD_CLAIMS) {
            let Some(token) = self.context.node_tokens.read_own(&held.node_token) else { continue };
            let Some(claim) = token.claim else { continue };
            if token.room == *room && token.session == *session && token.stream.as_str() == held.stream {
                let stream = waystation_proto::StreamKey { room: token.room, stream: token.stream };
                let said = Said { stream, claim, user: user.clone(), session: session.clone() };
                streams::hold_again(&self.context, said).await?;
            }
        }
        Ok(())
    }

    /// The room as it stands, and its news from there on.
    async fn tell_room(&mut self, room: RoomId, snapshot: Snapshot) -> Result<(), End> {
        let Some(joined) = self.rooms.get(&room) else { return Ok(()) };
        let up = v1::RoomUp {
            room: room.to_string(),
            session_id: joined.session.to_string(),
            revision: Some(snapshot.revision),
            users: if joined.notify_users { joined.as_itself(snapshot.users) } else { Vec::new() },
            streams: snapshot.streams,
        };
        self.send(Event::RoomUp(up)).await?;
        self.news.insert(room, BroadcastStream::new(snapshot.news));
        Ok(())
    }

    /// Looks whether the login of a room still stands, and tells the client if it does not.
    async fn check(&mut self, room: &RoomId) -> Result<(), End> {
        let Some(joined) = self.rooms.get(room) else { return Ok(()) };
        let session = joined.session.clone();
        let (standing, held_by) = self.context.mirror.read(|view| {
            let connection = view.user(room, &session).map(|(_, held)| held.value.connection);
            (view.standing(room, &session), connection)
        });
        match standing {
            // The client resumed over a newer connection, perhaps through another coordinator.
            Standing::Current if held_by > Some(self.number) => Err(End::Gone),
            Standing::Current => Ok(()),
            Standing::Revoked(revoked) => {
                self.part(room, &session);
                let code = revoked.error();
                self.down(room.as_str(), Refusal::new(code, code.text())).await
            }
            Standing::Unknown => {
                tracing::debug!(%room, user = %joined.user, "a login timed out under an open connection");
                Err(End::Again(Status::unavailable("this login was not heard in time; connect again")))
            }
        }
    }

    async fn tell_news(
        &mut self,
        room: &RoomId,
        news: Result<Arc<RoomNews>, BroadcastStreamRecvError>,
    ) -> Result<(), End> {
        self.check(room).await?;
        let Some(joined) = self.rooms.get(room) else { return Ok(()) };
        match news {
            Ok(news) => {
                let deltas: Vec<_> = news
                    .deltas
                    .iter()
                    .filter(|delta| match user_of(delta) {
                        Some(user) => joined.notify_users && user != joined.user.as_str(),
                        None => true,
                    })
                    .map(wire)
                    .collect();
                if deltas.is_empty() {
                    return Ok(());
                }
                let number = news.revision;
                let revision = v1::Revision { number, ..self.context.mirror.revision() };
                self.send(Event::RoomChange(v1::RoomChange {
                    room: room.to_string(),
                    revision: Some(revision),
                    deltas,
                }))
                .await
            }
            Err(BroadcastStreamRecvError::Lagged(_)) => {
                let snapshot = self.context.mirror.subscribe(room, now());
                self.tell_room(room.clone(), snapshot).await
            }
        }
    }
}

/// Whose coming or going it is, if it is a user's.
fn user_of(delta: &Delta) -> Option<&str> {
    match delta {
        Delta::UserAdded(user) | Delta::UserDeleted(user) => Some(&user.user),
        Delta::StreamAdded(_) | Delta::StreamDeleted(_) => None,
    }
}

fn wire(delta: &Delta) -> v1::RoomDelta {
    use v1::room_delta::Delta as Wire;
    let delta = match delta.clone() {
        Delta::UserAdded(user) => Wire::UserAdded(user),
        Delta::UserDeleted(user) => Wire::UserDeleted(user),
        Delta::StreamAdded(stream) => Wire::StreamAdded(stream),
        Delta::StreamDeleted(stream) => Wire::StreamDeleted(stream),
    };
    v1::RoomDelta { delta: Some(delta) }
}
