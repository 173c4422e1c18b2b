//! What the machines want, done.

use waystation_proto::{Node, StreamKey, token::Action};

use super::{
    control::PlanCall,
    sessions::{Dial, MediaEnd},
    shell::Shell,
};
use crate::machine::{AttemptId, Event, Failure, GapEvent, Input, Output, PlayerState, PublisherState};

impl Shell {
    /// Does one thing. What it leads to at once is in `inputs`, the rest happens later.
    pub(super) fn act(&mut self, output: Output) {
        match output {
            Output::Connect { connection, url, logins } => self.control.connect(connection, &url, logins),
            Output::Disconnect(connection) => self.control.disconnect(connection),
            Output::Login { connection, url, login } => self.control.login(connection, &url, login),
            Output::Beat { connection, url, sessions } => self.control.beat(connection, &url, &sessions),
            Output::Logout { url, session } => self.control.logout(&url, &session),
            Output::RenewToken { url, session, user_token } => {
                self.control.renew_token(&url, &session, user_token);
            }
            Output::Plan { request, url, action, session, stream, failed } => {
                self.control.plan(&url, PlanCall { request, action, session, stream, failed });
            }
            Output::EndStream { url, session, stream, epoch } => {
                self.control.end_stream(&url, &session, &stream, epoch);
            }
            Output::Report { url, session, stream, trials } => {
                self.control.report(&url, &session, &stream, &trials);
            }
            Output::Dial { attempt, key, action, node, node_token, moved } => {
                self.dial(attempt, key, action, node, node_token, moved);
            }
            Output::Activate { attempt, claim } => {
                if let Some((node, session)) = self.sessions.place(attempt) {
                    self.links.activate(node, session, claim);
                }
            }
            Output::Use { attempt, key, action } => self.use_session(attempt, key, action),
            Output::Hang(attempt) => self.sessions.close(attempt),
            Output::OpenEvents(node) => {
                self.links.open(&node, self.sessions.at(&node.node).map(|(_, session)| session));
            }
            Output::CloseEvents(node) => self.links.close(&node),
            Output::Emit(event) => self.emit(event),
        }
    }

    fn dial(
        &mut self,
        attempt: AttemptId,
        key: StreamKey,
        action: Action,
        node: Node,
        token: String,
        moved: Option<u32>,
    ) {
        let media = match action {
            Action::Publish => {
                self.publications.get(&key).map(|publication| MediaEnd::Publish(publication.outlet.clone()))
            }
            Action::Play => {
                self.plays.get(&key).map(|play| MediaEnd::Play(play.inlet.clone(), play.config.clone()))
            }
        };
        let Some(media) = media else {
            self.inputs.push_back(Input::Failed(attempt, Failure::Unneeded));
            return;
        };
        if let Err(error) = self.sessions.dial(Dial { attempt, node, key, token, moved, media }) {
            self.inputs.push_back(Input::Failed(attempt, Failure::Unreachable(error.to_string())));
        }
    }

    fn use_session(&mut self, attempt: AttemptId, key: StreamKey, action: Action) {
        if let (Action::Play, Some(play)) = (action, self.plays.get_mut(&key)) {
            play.used = Some(attempt);
        }
        if let Some(gap) = self.sessions.activate(attempt) {
            let (before, after) = (Some(gap.before), Some(gap.after));
            self.emit(Event::Gap(GapEvent { key, lasted: gap.lasted, before, after }));
        }
    }

    /// Tells the app. What has ended is let go.
    pub(super) fn emit(&mut self, event: Event) {
        tracing::debug!(%event);
        let (mut publication, mut play) = (None, None);
        match &event {
            Event::Publisher(update) if update.state == PublisherState::NoPublish => {
                publication = self.publications.remove(&update.key);
            }
            Event::Player(update) if update.state == PlayerState::NoPlay => {
                play = self.plays.remove(&update.key)
            }
            Event::Room(_)
            | Event::Publisher(_)
            | Event::Player(_)
            | Event::Attempt(_)
            | Event::Gap(_)
            | Event::Users(_)
            | Event::Streams(_)
            | Event::TokenExpiring { .. } => {}
        }
        if let Err(error) = self.events.try_send(event) {
            tracing::warn!(%error, "the app does not read its events: this one is lost");
        }
        // After the event, so that whoever waits for the end finds it told.
        if let Some(publication) = publication {
            publication.outlet.end();
        }
        if let Some(play) = play {
            play.inlet.end();
        }
    }
}
