//! What faults do.

use waystation_client::machine::{AttemptId, EventsLoss, Input, Phase, Told};
use waystation_proto::{NodeRef, token::Action};

use super::{Happening, Life, World};
use crate::faults::Fault;

/// From a node's death to the coordinators' word that it is suspect.
const SUSPECT_MS: u64 = 600;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(index) => self.kill(index),
            Fault::Start(index) => {
                if self.nodes[index].health == Life::Dead {
                    let node = &mut self.nodes[index];
                    node.incarnation += 1;
                    self.up(index);
                    self.tell(Told::Nodes(self.listed()));
                }
            }
            Fault::Freeze(index) => {
                if self.nodes[index].health == Life::Up {
                    self.down(index, Life::Frozen);
                }
            }
            Fault::Thaw(index) => {
                if self.nodes[index].health == Life::Frozen {
                    self.up(index);
                    self.tell(Told::Nodes(self.listed()));
                }
            }
            Fault::KillCoordinator(index) => {
                self.coordinators[index] = false;
                if let Some((connection, _)) = self.connection.take_if(|(_, at)| *at == index)
                    && self.online
                {
                    self.send(Input::ConnectionLost(connection));
                }
            }
            Fault::StartCoordinator(index) => self.coordinators[index] = true,
            Fault::Offline if self.online => {
                self.online = false;
                self.watch.offline_since_ms = self.now_ms;
            }
            Fault::Online if !self.online => {
                self.online = true;
                self.watch.online_since_ms = self.now_ms;
            }
            Fault::Offline | Fault::Online => {}
            Fault::StreamGone | Fault::StreamBack => self.stream(fault == Fault::StreamBack),
        }
    }

    /// The played stream loses or regains its origin: nodes say so in each of its sessions.
    pub(super) fn stream(&mut self, there: bool) {
        self.stream_there = there;
        let phase = if there { Phase::Flowing } else { Phase::OriginLost };
        let plays =
            self.sessions.iter().filter(|(_, session)| session.action == Action::Play && self.lives(session));
        let plays: Vec<AttemptId> = plays.map(|(attempt, _)| *attempt).collect();
        for attempt in plays {
            self.send(Input::Phase(attempt, phase, None));
        }
    }

    pub(super) fn up(&mut self, index: usize) {
        self.nodes[index].health = Life::Up;
        self.nodes[index].up_since_ms = self.now_ms;
    }

    pub(super) fn down(&mut self, index: usize, health: Life) {
        self.nodes[index].health = health;
        self.nodes[index].died_ms = self.now_ms;
        let suspect = Told::Suspect(self.node_ref(index));
        if let Some((connection, coordinator)) = self.connection
            && self.coordinators[coordinator]
        {
            self.after(SUSPECT_MS, Happening::Arrives(Input::Told(connection, suspect)));
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        if self.nodes[index].health == Life::Dead {
            return;
        }
        self.down(index, Life::Dead);
        let node = self.node_ref(index);
        self.sessions.retain(|_, session| session.node != index);
        let lines: Vec<NodeRef> = self.lines.iter().filter(|line| line.id == node.id).cloned().collect();
        for line in lines {
            self.lines.remove(&line);
            if self.online {
                self.send(Input::EventsLost(line, EventsLoss::Broken));
            }
        }
    }
}
