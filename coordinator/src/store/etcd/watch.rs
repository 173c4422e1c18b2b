//! A watch that outlives its connection: when that ends or falls silent, it is taken up again, at another member if
//! need be, from the revision after the last one handed out.
//!
//! Invariants: every revision is handed out once and in order, whole (without fragments etcd splits none); nothing of
//! another life of the store is handed out, not even the batch in which this one was emptied.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use etcd_client::{
    Client, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream, WatchStream,
};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{ATTEMPT_WITHIN, Inner, MAX_ANSWER_BYTES, failure::Failure, life::Known, members::Attempt, wire};
use crate::{
    metrics,
    store::{Batch, Change, Changes, WatchError},
};

/// A member is asked for a sign of life this often: its own come every ten minutes. The answers say nothing about
/// events: up to 3.4.24 and 3.5.7 they may overtake them.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A watch that is silent for this long is broken.
const SILENT_AFTER: Duration = Duration::from_millis(2500);
/// Pause before a watch is taken up again that broke without having brought anything.
const PAUSE: Duration = Duration::from_millis(100);
/// A watch that cannot be taken up for this long is told to be broken.
const LOST_AFTER: Duration = Duration::from_secs(4);

/// An open connection.
struct Up {
    attempt: Attempt,
    requests: WatchRequestSender,
    answers: WatchResponseStream,
    asked: Instant,
    heard: Instant,
}

enum Link {
    Down,
    Up(Box<Up>),
}

struct Watching {
    inner: Arc<Inner>,
    prefix: String,
    /// First revision not handed out.
    next: u64,
    /// The life that `next` is of; `None` until the first connection.
    life: Option<Known>,
    link: Link,
    /// Since when it is broken.
    down_since: Option<Instant>,
    ready: VecDeque<Result<Batch, WatchError>>,
}

/// What changes under `prefix`, from revision `from` on.
pub(super) fn changes(inner: Arc<Inner>, prefix: &str, from: u64) -> Changes {
    let life = inner.life.known();
    let watching = Watching {
        inner,
        prefix: prefix.to_owned(),
        next: from,
        life,
        link: Link::Down,
        down_since: None,
        ready: VecDeque::new(),
    };
    stream::unfold(Some(watching), |watching| async move {
        let mut watching = watching?;
        match watching.next().await {
            Ok(batch) => Some((Ok(batch), Some(watching))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// What came over a connection.
enum Heard {
    Answer(WatchResponse),
    Ended(String),
}

impl Watching {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        if let Link::Up(up) = &mut self.link {
            // While nobody listened, nothing could be heard.
            up.heard = Instant::now();
        }
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return ready;
            }
            match &mut self.link {
                Link::Down => self.take_up().await?,
                Link::Up(up) => match up.hear().await {
                    Heard::Answer(answer) => self.take(&answer)?,
                    Heard::Ended(why) => self.broke(&why)?,
                },
            }
        }
    }

    fn broke(&mut self, why: &str) -> Result<(), WatchError> {
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down) {
            self.inner.members.blame(up.attempt, why);
            metrics::store_watch_restart();
            tracing::info!(
                member = self.inner.members.url(up.attempt),
                why,
                next = self.next,
                "a watch broke"
            );
        }
        let since = *self.down_since.get_or_insert_with(Instant::now);
        if since.elapsed() > LOST_AFTER {
            return Err(WatchError::Broken { why: why.to_owned(), since: since.into_std() });
        }
        Ok(())
    }

    async fn take_up(&mut self) -> Result<(), WatchError> {
        if self.down_since.is_some() {
            sleep(PAUSE.mul_f64(0.5 + rand::random::<f64>())).await;
        }
        let attempt = self.inner.members.choose().await;
        let inner = Arc::clone(&self.inner);
        let look = |client: Client| async move { inner.look(client).await };
        let opened = match self.inner.members.attempt(attempt, "watch_look", look).await {
            Err(failure) => Err(failure),
            Ok(look) => {
                let same = match &self.life {
                    Some(life) => look.life.as_ref() == Some(life),
                    None => true,
                };
                if !same || look.revision + 1 < self.next {
                    return Err(WatchError::Compacted { wanted: self.next });
                }
                self.life = look.life;
                self.open(attempt).await
            }
        };
        match opened {
            Ok(stream) => {
                let (requests, answers) = stream.split();
                let now = Instant::now();
                self.link = Link::Up(Box::new(Up { attempt, requests, answers, asked: now, heard: now }));
                Ok(())
            }
            Err(failure) => {
                let at = self.inner.members.url(attempt);
                self.broke(&format!("etcd at {at}: {}", failure.text()))
            }
        }
    }

    async fn open(&self, attempt: Attempt) -> Result<WatchStream, Failure> {
        let (key, end) = wire::range(&self.prefix);
        let options = WatchOptions::new()
            .with_range(end)
            .with_start_revision(wire::to_wire(self.next.max(1)))
            .with_progress_notify();
        let open = |client: Client| async move {
            client.watch_client().max_decoding_message_size(MAX_ANSWER_BYTES).watch(key, Some(options)).await
        };
        self.inner.members.attempt(attempt, "watch", open).await
    }

    fn take(&mut self, answer: &WatchResponse) -> Result<(), WatchError> {
        if answer.canceled() {
            if answer.compact_revision() > 0 {
                return Err(WatchError::Compacted { wanted: self.next });
            }
            return self.broke(&format!("it was cancelled: {}", answer.cancel_reason()));
        }
        if answer.created() {
            return Ok(());
        }
        self.down_since = None;
        let (cluster, revision) = wire::stamp(answer.header());
        self.inner.life.saw(cluster, revision);
        self.batches(answer);
        Ok(())
    }

    /// An answer holds whole revisions, one or many.
    fn batches(&mut self, answer: &WatchResponse) {
        let mut batch: Option<Batch> = None;
        for (revision, change) in answer.events().iter().filter_map(wire::change) {
            if revision < self.next {
                continue;
            }
            match &mut batch {
                Some(batch) if batch.revision == revision => batch.changes.push(change),
                Some(_) | None => {
                    let changes = vec![change];
                    if let Some(whole) = batch.replace(Batch { revision, changes })
                        && !self.hand_out(whole)
                    {
                        return;
                    }
                }
            }
        }
        if let Some(last) = batch {
            self.hand_out(last);
        }
    }

    /// Whether this life of the store goes on after it.
    fn hand_out(&mut self, mut batch: Batch) -> bool {
        let key = self.inner.life.key();
        let of_key = batch.changes.iter().position(|change| match change {
            Change::Put(entry) => entry.key == key,
            Change::Delete(deleted) => deleted == key,
        });
        if let Some(index) = of_key {
            let same = match (batch.changes.remove(index), &self.life) {
                (Change::Put(entry), Some(life)) => entry.value == life.own(),
                (Change::Put(_), None) => true,
                (Change::Delete(_), _) => false,
            };
            if !same {
                self.ready.push_back(Err(WatchError::Compacted { wanted: batch.revision }));
                return false;
            }
        }
        self.next = batch.revision + 1;
        if !batch.changes.is_empty() {
            self.ready.push_back(Ok(batch));
        }
        true
    }
}

impl Up {
    /// Waits for an answer; asks for a sign of life meanwhile.
    async fn hear(&mut self) -> Heard {
        loop {
            let (ask_at, silent_at) = (self.asked + ASK_EVERY, self.heard + SILENT_AFTER);
            tokio::select! {
                biased;
                answer = self.answers.message() => {
                    self.heard = Instant::now();
                    return match answer {
                        Ok(Some(answer)) => Heard::Answer(answer),
                        Ok(None) => Heard::Ended("it ended".into()),
                        Err(error) => Heard::Ended(Failure::from(error).text()),
                    };
                }
                () = sleep_until(silent_at) => return Heard::Ended("it is silent".into()),
                () = sleep_until(ask_at) => {
                    self.asked = Instant::now();
                    match timeout(ATTEMPT_WITHIN, self.requests.request_progress()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Heard::Ended(Failure::from(error).text()),
                        Err(_) => return Heard::Ended("it takes no requests".into()),
                    }
                }
            }
        }
    }
}
