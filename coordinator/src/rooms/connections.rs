//! Open client connections, and the way to each.
//!
//! Invariant: of one client there is one connection, that with the highest number.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;
use waystation_proto::{RoomId, SessionId, v1};

/// What waits for one connection; it is quick to take it.
const COMMANDS: usize = 32;

/// What a connection is told.
#[derive(Clone, Debug)]
pub enum Command {
    /// Another room is wanted.
    Login(Box<v1::RoomLogin>),
    /// A login leaves: say nothing more about it.
    Forget(RoomId, SessionId),
    /// A login ended by somebody's word.
    Ended(SessionId),
    /// A login's token is about to expire.
    Expiring(RoomId, SessionId, Duration),
}

#[derive(Debug)]
struct Open {
    number: u64,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug, Default)]
struct State {
    clients: BTreeMap<String, Open>,
    sessions: BTreeMap<SessionId, (String, u64)>,
}

/// Why a connection is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// A newer one is open.
    Older,
    /// There are as many as this coordinator takes.
    Full,
}

/// All open connections.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    state: Mutex<State>,
}

impl Connections {
    /// None yet, and never more than so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Maps whose every change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection. An older one of the client ends, as its commands end.
    ///
    /// # Errors
    /// [`NotOpened`]
    pub fn open(&self, client: &str, number: u64) -> Result<mpsc::Receiver<Command>, NotOpened> {
        let mut state = self.lock();
        match state.clients.get(client) {
            Some(open) if open.number > number => return Err(NotOpened::Older),
            Some(_) => {}
            None if state.clients.len() >= self.most => return Err(NotOpened::Full),
            None => {}
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        state.clients.insert(client.to_owned(), Open { number, commands });
        Ok(receiver)
    }

    /// A connection ended, with these logins.
    pub fn close<'a>(&self, client: &str, number: u64, sessions: impl IntoIterator<Item = &'a SessionId>) {
        let mut state = self.lock();
        // The receiver of the commands is still there: a connection of the same number that came later is another.
        if state.clients.get(client).is_some_and(|open| open.number == number && open.commands.is_closed()) {
            state.clients.remove(client);
        }
        for session in sessions {
            let of_this = |(holder, held): &(String, u64)| holder == client && *held == number;
            if state.sessions.get(session).is_some_and(of_this) {
                state.sessions.remove(session);
            }
        }
    }

    /// A login is held over a client's connection.
    pub fn joined(&self, client: &str, number: u64, session: &SessionId) {
        self.lock().sessions.insert(session.clone(), (client.to_owned(), number));
    }

    /// A login is held no more.
    pub fn parted(&self, session: &SessionId) {
        self.lock().sessions.remove(session);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().clients.len()
    }

    fn commands(&self, client: &str, number: u64) -> Option<mpsc::Sender<Command>> {
        let state = self.lock();
        let open = state.clients.get(client).filter(|open| open.number == number)?;
        Some(open.commands.clone())
    }

    /// Tells a client's connection of this number. Whether there is one.
    pub async fn tell(&self, client: &str, number: u64, command: Command) -> bool {
        match self.commands(client, number) {
            Some(commands) => commands.send(command).await.is_ok(),
            None => false,
        }
    }

    fn holder(&self, session: &SessionId) -> Option<mpsc::Sender<Command>> {
        let holder = self.lock().sessions.get(session).cloned();
        holder.and_then(|(client, number)| self.commands(&client, number))
    }

    /// Tells the connection that holds a login, if it is here, that it ended. It hears so at once: its room's news, which would
    /// tell it, may be held back for a while, and its nodes end its sessions meanwhile.
    pub fn ended(&self, session: &SessionId) {
        if let Some(commands) = self.holder(session) {
            // One that has so much to do hears it with the news.
            let _ = commands.try_send(Command::Ended(session.clone()));
        }
    }

    /// Tells the connection that holds a login, if it is here.
    pub async fn tell_holder(&self, session: &SessionId, command: Command) {
        if let Some(commands) = self.holder(session) {
            // It may end meanwhile.
            let _ = commands.send(command).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_connection_ends_the_older_and_an_older_one_is_not_opened() {
        // ROOM-7
        let connections = Connections::new(2);
        let mut first = connections.open("c", 1).unwrap();
        let mut second = connections.open("c", 2).unwrap();
        assert!(first.recv().await.is_none(), "the older one ends");
        assert_eq!(connections.open("c", 1).err(), Some(NotOpened::Older));
        let (room, session) = (RoomId::new("r").unwrap(), SessionId::new("s").unwrap());
        assert!(!connections.tell("c", 1, Command::Forget(room.clone(), session.clone())).await);
        assert!(connections.tell("c", 2, Command::Forget(room.clone(), session.clone())).await);
        assert!(second.recv().await.is_some());
        drop(first);
        connections.close("c", 1, [&session]);
        assert_eq!(connections.count(), 1, "the end of the older one is no end of the newer");
        drop(second);
        connections.close("c", 2, [&session]);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn there_are_never_more_than_were_allowed() {
        let connections = Connections::new(1);
        let _first = connections.open("a", 1).unwrap();
        assert_eq!(connections.open("b", 1).err(), Some(NotOpened::Full));
        assert!(connections.open("a", 2).is_ok(), "a client that comes again needs no more room");
    }
}
