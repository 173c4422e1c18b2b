//! The coordinator's side of a relay: attach, beats, keys, node list, exchange.
//!
//! Invariant: nothing here is needed to forward media. What a coordinator gave (keys, certificate, nodes) stays when
//! it is gone, and a bad or empty list keeps the last good one.

mod attach;
mod known;
mod rounds;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use waystation_proto::{Load, Node, StreamKey, token::Action, v1};

use self::{
    attach::{AttachError, Attachment},
    known::KnownKeys,
    rounds::Rounds,
};
use crate::{
    control::{ExchangeError, Holdings, Revocation},
    link::Trust,
};

/// An exchange is answered within this.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(2);
/// How often an operator is told that no coordinator takes this relay.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);
/// Messages that wait for the coordinator; all of it is told again at attach.
const OUTBOX: usize = 4096;
/// Exchanges that wait to be sent.
const EXCHANGES: usize = 256;

/// What the control core's shell hears from the agent.
pub(crate) enum AgentEvent {
    /// All known nodes.
    Nodes(Vec<Node>),
    /// A login ended.
    Revoke(Revocation),
    /// What is here? A coordinator is about to be told.
    Holdings(oneshot::Sender<Holdings>),
}

/// A user token to be exchanged.
pub(crate) struct Exchange {
    user_token: String,
    action: Action,
    stream: StreamKey,
    reply: oneshot::Sender<Result<String, ExchangeError>>,
}

/// How the agent works.
pub(crate) struct AgentSettings {
    /// Base addresses of coordinators.
    pub coordinators: Vec<String>,
    /// With which join tokens are signed.
    pub cluster_secret: String,
    /// This relay, as others see it.
    pub node: Node,
    /// The key that the coordinator certifies.
    pub public_key: Vec<u8>,
    /// What the relay carries now.
    pub load: Arc<dyn Fn() -> Load + Send + Sync>,
    /// Randomness for waits.
    pub seed: u64,
}

/// The way to the agent. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AgentHandle {
    outbox: mpsc::Sender<v1::relay_message::Message>,
    exchanges: mpsc::Sender<Exchange>,
    attached: watch::Receiver<bool>,
}

impl AgentHandle {
    /// Tells the coordinator, if one is there: at attach it is told everything anyway.
    pub(crate) fn send(&self, message: v1::relay_message::Message) {
        if self.outbox.try_send(message).is_err() && *self.attached.borrow() {
            tracing::warn!("the coordinator does not keep up; a message to it was dropped");
        }
    }

    /// Exchanges a user token.
    pub(crate) async fn exchange(
        &self,
        user_token: String,
        action: Action,
        stream: StreamKey,
    ) -> Result<String, ExchangeError> {
        if !*self.attached.borrow() {
            return Err(ExchangeError::NoCoordinator);
        }
        let (reply, answer) = oneshot::channel();
        let exchange = Exchange { user_token, action, stream, reply };
        let answered = timeout(EXCHANGE_WITHIN, async {
            self.exchanges.send(exchange).await.map_err(|_| ExchangeError::NoCoordinator)?;
            answer.await.map_err(|_| ExchangeError::NoCoordinator)?
        });
        answered.await.unwrap_or(Err(ExchangeError::NoCoordinator))
    }
}

/// The agent's task, ready to run.
pub(crate) struct Agent {
    settings: AgentSettings,
    outbox: mpsc::Receiver<v1::relay_message::Message>,
    exchanges: mpsc::Receiver<Exchange>,
    events: mpsc::Sender<AgentEvent>,
    trust: watch::Sender<Trust>,
    keys: KnownKeys,
    attached: watch::Sender<bool>,
    next_exchange: u64,
    /// When an operator was last told that no coordinator takes this relay.
    complained_at: Option<Instant>,
    pending: BTreeMap<u64, oneshot::Sender<Result<String, ExchangeError>>>,
}

/// Whether the agent goes on.
enum Next {
    Walk,
    Stop,
}

impl Agent {
    /// An agent and the way to it.
    pub(crate) fn new(
        settings: AgentSettings,
        events: mpsc::Sender<AgentEvent>,
        trust: watch::Sender<Trust>,
    ) -> (Self, AgentHandle) {
        let (outbox_sender, outbox) = mpsc::channel(OUTBOX);
        let (exchange_sender, exchanges) = mpsc::channel(EXCHANGES);
        let (attached, attached_receiver) = watch::channel(false);
        let handle =
            AgentHandle { outbox: outbox_sender, exchanges: exchange_sender, attached: attached_receiver };
        let (keys, pending) = (KnownKeys::default(), BTreeMap::new());
        let (next_exchange, complained_at) = (0, None);
        let agent = Self {
            settings,
            outbox,
            exchanges,
            events,
            trust,
            keys,
            attached,
            next_exchange,
            complained_at,
            pending,
        };
        (agent, handle)
    }

    /// Walks from coordinator to coordinator until the last handle is dropped.
    pub(crate) async fn run(mut self) {
        let rng = StdRng::seed_from_u64(self.settings.seed);
        let mut rounds = Rounds::new(self.settings.coordinators.clone(), rng);
        while let Some(url) = rounds.next_url() {
            let next = self.attach(&url, &mut rounds).await;
            self.detached();
            match next {
                Next::Stop => return,
                Next::Walk => {}
            }
            let wait = sleep(rounds.wait());
            tokio::pin!(wait);
            loop {
                // Nobody is there to be told: it is all told at attach.
                tokio::select! {
                    () = &mut wait => break,
                    message = self.outbox.recv() => if message.is_none() { return },
                }
            }
        }
        while self.outbox.recv().await.is_some() {}
    }

    async fn attach(&mut self, url: &str, rounds: &mut Rounds) -> Next {
        match Attachment::open(self, url).await {
            Err(error) => {
                self.complain(url, &error);
                Next::Walk
            }
            Ok(attachment) => {
                tracing::info!(coordinator = url, "attached");
                self.complained_at = None;
                rounds.attached(attachment.others());
                metrics::gauge!(crate::control::ATTACHED).set(1.0);
                self.attached.send_replace(true);
                match attachment.run(self).await {
                    None => Next::Stop,
                    Some(error) => {
                        tracing::warn!(coordinator = url, %error, "detached; media goes on");
                        Next::Walk
                    }
                }
            }
        }
    }

    /// Tells an operator, now and then, why the cluster does not see this relay.
    fn complain(&mut self, url: &str, error: &AttachError) {
        let now = Instant::now();
        if self.complained_at.is_some_and(|at| now.saturating_duration_since(at) < COMPLAIN_EVERY) {
            tracing::debug!(coordinator = url, %error, "cannot attach");
            return;
        }
        self.complained_at = Some(now);
        tracing::warn!(coordinator = url, %error, "cannot attach; clients do not learn of this relay until it is attached");
    }

    /// Everything stays as the last coordinator said.
    fn detached(&mut self) {
        metrics::gauge!(crate::control::ATTACHED).set(0.0);
        self.attached.send_replace(false);
        self.pending.clear();
        self.trust.send_modify(|trust| {
            if trust.cut_off_since_s.is_none() {
                let now_ms = attach::unix_ms().saturating_add_signed(trust.clock_offset_ms);
                trust.cut_off_since_s = Some(now_ms / 1000);
            }
        });
    }
}

#[cfg(test)]
mod tests;
