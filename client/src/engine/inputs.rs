//! What the app asks and what the network brings, as inputs of the machines.

use waystation_proto::{ErrorCode, LoginId, NodeRef, v1::SessionPhase};

use super::{
    Command,
    shell::{Happened, Play, Publication, Shell, random_name},
};
use crate::{
    config::RoomLogin,
    events::{LostReason, NodeReport},
    machine::{Event, EventsLoss, Failure, GapEvent, Input, Phase},
};

impl Shell {
    /// An app's call. `None` where the machines need not know.
    pub(super) fn command(&mut self, command: Command) -> Option<Input> {
        match command {
            Command::Login(RoomLogin { room, token, notify_users }) => {
                let login_id = LoginId::new(&random_name()).expect("hexadecimal digits make an id");
                Some(Input::Login { room, user_token: token, login_id, notify_users })
            }
            Command::Logout(room) => Some(Input::Logout(room)),
            Command::RenewToken { room, token } => Some(Input::RenewToken { room, user_token: token }),
            Command::Publish { id, key, outlet, started } => {
                let free = !self.publications.contains_key(&key);
                if free {
                    self.publications.insert(key.clone(), Publication { id, outlet, ended: Vec::new() });
                }
                // An app that did not wait drops its handle, which stops it again.
                let _ = started.send(free);
                free.then_some(Input::Publish(key))
            }
            Command::Play { id, key, config, inlet, started } => {
                let free = !self.plays.contains_key(&key);
                if free {
                    let play = Play { id, inlet, config, used: None, ended: Vec::new() };
                    self.plays.insert(key.clone(), play);
                }
                let _ = started.send(free);
                free.then_some(Input::Play(key))
            }
            Command::StopPublishing { id, key, ended } => {
                let publication =
                    self.publications.get_mut(&key).filter(|publication| publication.id == id)?;
                publication.ended.extend(ended);
                Some(Input::StopPublishing(key))
            }
            Command::StopPlaying { id, key, ended } => {
                let play = self.plays.get_mut(&key).filter(|play| play.id == id)?;
                play.ended.extend(ended);
                Some(Input::StopPlaying(key))
            }
            Command::RequestKeyframe { id, key } => {
                let used = self.plays.get(&key).filter(|play| play.id == id)?.used?;
                self.sessions.request_keyframe(used);
                None
            }
            Command::Close(ended) => {
                // The loop takes this one itself; whoever asks twice need not wait.
                drop(ended);
                None
            }
        }
    }

    /// Something that happened outside. `None` where it is old, or the machines need not know.
    pub(super) fn happened(&mut self, happened: Happened) -> Option<Input> {
        match happened {
            Happened::Input(input) => Some(input),
            Happened::Opened(attempt, Ok(opened)) => {
                let (node, name) = self.sessions.opened(attempt, opened)?;
                self.links.watch(&node, &name);
                Some(Input::Answered(attempt))
            }
            Happened::Opened(attempt, Err(error)) => Some(Input::Failed(attempt, error.into())),
            Happened::Up(attempt) => Some(Input::Up(attempt)),
            Happened::Media(attempt) => Some(Input::Media(attempt)),
            Happened::Failed(attempt, failure) => Some(Input::Failed(attempt, failure)),
            Happened::Gap(attempt, gap) => {
                let key = self.sessions.key(attempt)?.clone();
                let (before, after) = (Some(gap.before), Some(gap.after));
                self.emit(Event::Gap(GapEvent { key, lasted: gap.lasted, before, after }));
                None
            }
            Happened::Node(node, link, report) => {
                if self.links.is_current(&node, link) {
                    self.told(node, report)
                } else {
                    None
                }
            }
        }
    }

    fn told(&mut self, node: NodeRef, report: NodeReport) -> Option<Input> {
        match report {
            NodeReport::Welcome(life) => Some(Input::EventsUp { node, life }),
            NodeReport::Session { session, phase, claim } => {
                let attempt = self.sessions.named(&node, &session)?;
                Some(Input::Phase(attempt, known_phase(phase)?, claim))
            }
            NodeReport::Closed { session, code, reason } => {
                let attempt = self.sessions.named(&node, &session)?;
                let fenced = ErrorCode::from_number(code) == Some(ErrorCode::StreamTaken);
                let failure = if fenced { Failure::HigherClaim } else { Failure::Closed(reason) };
                Some(Input::Failed(attempt, failure))
            }
            NodeReport::Lost(reason) => {
                self.links.close(&node);
                let loss = match reason {
                    LostReason::Refused(_) => EventsLoss::Refused,
                    LostReason::Silent => EventsLoss::NoAnswer,
                    LostReason::Broken(_) | LostReason::Protocol(_) => EventsLoss::Broken,
                };
                Some(Input::EventsLost(node, loss))
            }
        }
    }
}

/// `None` for one of a later version.
fn known_phase(phase: SessionPhase) -> Option<Phase> {
    match phase {
        SessionPhase::Unspecified => None,
        SessionPhase::Connecting => Some(Phase::Connecting),
        SessionPhase::Idle => Some(Phase::Idle),
        SessionPhase::Flowing => Some(Phase::Flowing),
        SessionPhase::OriginLost => Some(Phase::OriginLost),
        SessionPhase::Standby => Some(Phase::Standby),
    }
}
