//! Members die, freeze and come back while somebody writes and somebody watches.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions};
use futures_util::StreamExt as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use waystation_coordinator::store::{
    Change, Compare, EtcdStore, Outcome, Store, StoreError, Transaction, WatchError, Write,
};

use crate::{
    cluster::{Cluster, Member, PREFIX, soon},
    stopwatch::Stopwatch,
};

/// Calls answer again within this: attempts of a second each, while an election takes one to two. Left to themselves, etcd's
/// client and its balancer hang for seven seconds and more.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);
/// What an election takes beyond this is etcd's doing: nobody can write meanwhile.
const ELECTION: Duration = Duration::from_secs(2);

fn counter() -> String {
    format!("{PREFIX}counter")
}

/// What a writer was told.
#[derive(Debug, Default)]
struct Written {
    /// Revision of each write that was said to be done.
    done: Vec<u64>,
    /// When it was done.
    done_at: Vec<Duration>,
    /// Writes of which nobody could tell whether they were done.
    unclear: usize,
    /// The number that stands there in the end.
    last: u64,
}

/// Whether the writer knows what became of its last write.
#[derive(Clone, Copy)]
enum Last {
    Told,
    /// It may be done later, even after it was looked for.
    Unclear,
}

/// When etcd itself answers: its members are asked directly, over and over, for what needs a leader.
struct Answers {
    at: Arc<Mutex<Vec<Duration>>>,
    asking: JoinSet<()>,
}

impl Answers {
    fn of(cluster: &Cluster, clock: &Arc<Stopwatch>) -> Self {
        let at: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let ask = |member: &Member| {
            let (url, clock, at) = (member.url.clone(), Arc::clone(clock), Arc::clone(&at));
            async move {
                let mut etcd = member_client(&url).await;
                loop {
                    if etcd.get("any", None).await.is_ok() {
                        at.lock().unwrap().push(clock.ran());
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let asking = cluster.members.iter().map(ask).collect();
        Self { at, asking }
    }

    /// For how long nobody could write between these two.
    fn outage(mut self, from: Duration, to: Duration) -> Duration {
        self.asking.abort_all();
        let at = self.at.lock().unwrap();
        let within = at.iter().copied().filter(|at| (from..to).contains(at));
        let mut last = from;
        let silent = within.map(|at| at - std::mem::replace(&mut last, at));
        silent.max().unwrap_or_default()
    }
}

async fn member_client(url: &str) -> Client {
    let options = ConnectOptions::new().with_timeout(Duration::from_millis(300));
    Client::connect([url], Some(options)).await.unwrap()
}

/// Counts up, each number once, until told to stop; tells how far it is.
async fn count(
    store: EtcdStore,
    clock: Arc<Stopwatch>,
    mut stop: watch::Receiver<bool>,
    progress: watch::Sender<u64>,
) -> Written {
    let mut written = Written::default();
    let mut before = Last::Told;
    while !*stop.borrow_and_update() {
        let Ok(found) = store.get(&counter()).await else { continue };
        let (seen, number) = match &found.entry {
            Some(entry) => (Some(entry.modified), String::from_utf8(entry.value.clone()).unwrap()),
            None => (None, "0".into()),
        };
        let number = number.parse::<u64>().unwrap() + 1;
        let transaction = Transaction {
            compares: vec![Compare::unchanged(counter(), seen)],
            writes: vec![Write::put(counter(), number.to_string().into_bytes())],
        };
        before = match store.commit(transaction).await {
            Ok(Outcome::Done(revision)) => {
                written.done.push(revision);
                written.done_at.push(clock.ran());
                progress.send_modify(|done| *done += 1);
                Last::Told
            }
            // Only this task writes: a conflict is a write of its own that it was not told of.
            Ok(Outcome::Conflict) => match before {
                Last::Unclear => Last::Told,
                Last::Told => panic!("a write was done and not told: {number}"),
            },
            Err(StoreError::Unavailable(_)) => {
                written.unclear += 1;
                Last::Unclear
            }
            Err(error @ (StoreError::LeaseGone(_) | StoreError::BadTransaction(_))) => panic!("{error}"),
        }
    }
    written.last = soon("the end", async {
        loop {
            if let Ok(found) = store.get(&counter()).await {
                return String::from_utf8(found.entry.unwrap().value).unwrap().parse().unwrap();
            }
        }
    })
    .await;
    written
}

/// Numbers and revisions as a watch shows them, up to `last`.
async fn follow(store: &EtcdStore, from: u64, last: u64) -> Vec<(u64, u64)> {
    let mut seen = Vec::new();
    let mut changes = store.watch(PREFIX, from);
    while seen.last().is_none_or(|&(number, _)| number < last) {
        match changes.next().await.expect("it goes on") {
            Ok(batch) => {
                for change in batch.changes {
                    match change {
                        Change::Put(entry) => {
                            let number = String::from_utf8(entry.value).unwrap().parse().unwrap();
                            seen.push((number, batch.revision));
                        }
                        Change::Delete(key) => panic!("{key} was never deleted"),
                    }
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    seen
}

/// Writes and watches while `fail` happens to the leader; `mend` follows once writes go on.
async fn through(fail: impl FnOnce(&mut Cluster, usize), mend: impl FnOnce(&mut Cluster, usize)) {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let store = cluster.store();
    store.id().await.unwrap();
    let from = store.get(&counter()).await.unwrap().revision + 1;
    let (stop, stopped) = watch::channel(false);
    let (progress, mut done) = watch::channel(0);
    let clock = Arc::new(Stopwatch::start());
    let answers = Answers::of(&cluster, &clock);
    let writer = tokio::spawn(count(store.clone(), clock, stopped, progress));
    let watcher = {
        // Its own connections: it may well be at the leader.
        let store = cluster.store_at(leader);
        let everywhere = cluster.store();
        tokio::spawn(async move {
            let first = follow(&everywhere, from, 20);
            let (at_leader, seen) = tokio::join!(follow(&store, from, 10), first);
            assert_eq!(at_leader[..10], seen[..10]);
            everywhere
        })
    };
    let mut live = cluster.store().watch(PREFIX, from);
    soon("a first batch", live.next()).await.unwrap().unwrap();
    soon("some writes", done.wait_for(|&done| done >= 30)).await.unwrap();
    watcher.await.unwrap();
    fail(&mut cluster, leader);
    let before = *done.borrow();
    soon("writes go on", done.wait_for(|&done| done >= before + 30)).await.unwrap();
    mend(&mut cluster, leader);
    let before = *done.borrow();
    soon("and on", done.wait_for(|&done| done >= before + 30)).await.unwrap();
    stop.send_replace(true);
    let written = soon("the writer", writer).await.unwrap();
    let gaps = written.done_at.iter().zip(&written.done_at[1..]);
    let (&last, &again) = gaps.max_by_key(|(last, again)| **again - **last).unwrap();
    let (gap, outage) = (again - last, answers.outage(last, again));
    assert!(gap < AGAIN_WITHIN + outage.saturating_sub(ELECTION), "{gap:?}, {outage:?} of it etcd's");
    let seen = soon("the watch", follow(&cluster.store(), from, written.last)).await;
    let numbers: Vec<_> = seen.iter().map(|&(number, _)| number).collect();
    assert_eq!(numbers, (1..=written.last).collect::<Vec<_>>(), "each number once");
    let revisions: Vec<_> = seen.iter().map(|&(_, revision)| revision).collect();
    assert!(written.done.iter().all(|done| revisions.contains(done)), "what was done is there");
    let unclear = seen.len() - written.done.len();
    assert!(unclear <= written.unclear.min(2), "{unclear} writes were done without being told");
    // The watch that was open all the time saw the same.
    let mut through = vec![revisions[0]];
    while through.last() != revisions.last() {
        through.push(soon("the open watch", live.next()).await.unwrap().unwrap().revision);
    }
    assert_eq!(through, revisions);
}

#[tokio::test]
async fn a_leader_that_is_killed_costs_no_write_and_calls_answer_again() {
    through(
        |cluster, leader| cluster.members[leader].kill(),
        |cluster, leader| cluster.members[leader].start(),
    )
    .await;
}

#[tokio::test]
async fn a_leader_that_freezes_costs_no_write_and_calls_answer_again() {
    through(
        |cluster, leader| cluster.members[leader].freeze(),
        |cluster, leader| cluster.members[leader].thaw(),
    )
    .await;
}

#[tokio::test]
async fn a_dead_member_fails_no_call() {
    let mut cluster = Cluster::start(3).await;
    let stores: Vec<_> = (0..4).map(|_| cluster.store()).collect();
    for store in &stores {
        store.id().await.unwrap();
    }
    let leader = cluster.leader().await;
    cluster.members[(leader + 1) % 3].kill();
    // A write that was on its way when the member died may or may not be done, and says so: whoever reads first notices.
    for store in &stores {
        store.get(PREFIX).await.unwrap();
    }
    for n in 0..200_u32 {
        let store = &stores[n as usize % stores.len()];
        let writes = vec![Write::put(format!("{PREFIX}{n}"), vec![])];
        let done = store.commit(Transaction { compares: vec![], writes }).await;
        assert!(matches!(done, Ok(Outcome::Done(_))), "call {n}: {done:?}");
        assert!(store.get(&format!("{PREFIX}{n}")).await.unwrap().entry.is_some());
    }
}

#[tokio::test]
async fn a_watch_on_a_store_that_froze_is_told_to_be_broken() {
    let cluster = Cluster::start(1).await;
    let store = cluster.store();
    store.id().await.unwrap();
    let from = store.get(&counter()).await.unwrap().revision + 1;
    let mut changes = store.watch(PREFIX, from);
    let silent = timeout(Duration::from_secs(4), changes.next()).await;
    assert!(silent.is_err(), "a quiet store is not a dead one: {silent:?}");
    cluster.members[0].freeze();
    let told = soon("the loss", changes.next()).await;
    assert!(matches!(told, Some(Err(WatchError::Broken { .. }))), "{told:?}");
    cluster.members[0].thaw();
}
