//! A client of coordinators: who it is, how it comes in, and its one event stream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use tokio::time::timeout;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use waystation_coordinator::{AppSigner, sign_user_token};
use waystation_proto::{
    UserId,
    token::UserToken,
    v1::{self, connect_event::Event, room_service_client::RoomServiceClient},
};

use crate::server::{APP, APP_SECRET};

/// Nothing that is awaited takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN_VALID_S: u64 = 3600;

/// What a client calls.
pub type Rpc = RoomServiceClient<Channel>;

/// A connection of its own.
pub async fn dial(url: &str) -> Result<Rpc> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.timeout(PATIENCE);
    Ok(RoomServiceClient::new(endpoint.connect().await.with_context(|| format!("cannot reach {url}"))?))
}

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether a client wants to hear of others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    Others,
    Streams,
}

/// Who a client is, in its one room.
#[derive(Clone)]
pub struct Identity {
    pub user: String,
    login: v1::RoomLogin,
}

impl Identity {
    pub fn new(room: &str, user: &str, hears: Hears) -> Result<Self> {
        let token = UserToken {
            app: APP.into(),
            user: UserId::new(user)?,
            rooms: vec![room.to_owned()],
            publish: true,
            play: true,
            streams: None,
            observe: false,
            admin: false,
            exp: unix_s() + TOKEN_VALID_S,
        };
        let login = v1::RoomLogin {
            room: room.to_owned(),
            user_token: sign_user_token(&AppSigner::Secret(APP_SECRET), &token)?,
            login_id: format!("the-secret-of-{room}-{user}"),
            notify_users: hears == Hears::Others,
            ..v1::RoomLogin::default()
        };
        Ok(Self { user: user.to_owned(), login })
    }

    pub fn session(&self) -> v1::SessionRef {
        v1::SessionRef { room: self.login.room.clone(), login_id: self.login.login_id.clone() }
    }

    /// Comes in, for the first time or (with what it has seen) again.
    pub async fn enter(&self, rpc: &mut Rpc, connection: u64, seen: Option<v1::Revision>) -> Result<Inside> {
        let login = v1::RoomLogin { resume: seen.is_some(), seen, ..self.login.clone() };
        let client_id = format!("{}-{}", login.room, self.user);
        let request = v1::ConnectRequest { client_id, connection, rooms: vec![login] };
        let mut events = rpc.connect(request).await?.into_inner();
        let up = loop {
            match next(&mut events).await?.context("the stream ended before the room came")? {
                Event::RoomUp(up) => break up,
                Event::RoomDown(down) => bail!("{} was not let in: {}", self.user, down.message),
                Event::Welcome(_) | Event::Nodes(_) | Event::Suspect(_) | Event::RoomChange(_) => {}
                Event::TokenExpiring(_) | Event::TryOther(_) => {}
            }
        };
        Ok(Inside { up, events })
    }
}

/// A login with its open stream.
pub struct Inside {
    pub up: v1::RoomUp,
    pub events: Streaming<v1::ConnectEvent>,
}

/// The next event; `None` at the end of the stream.
pub async fn next(events: &mut Streaming<v1::ConnectEvent>) -> Result<Option<Event>> {
    loop {
        match timeout(PATIENCE, events.message()).await.context("nothing came")?? {
            Some(v1::ConnectEvent { event: Some(event) }) => return Ok(Some(event)),
            Some(v1::ConnectEvent { event: None }) => {}
            None => return Ok(None),
        }
    }
}
