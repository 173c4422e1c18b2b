//! A coordinator dies under its clients: how long until each is back through the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use waystation_proto::v1;

use crate::{
    client::{Hears, Identity, PATIENCE, dial, next},
    drive::Sample,
    server::Pair,
};

/// Those who are with the coordinator that dies.
pub const CLIENTS: usize = 2_000;
const ROOM_USERS: usize = 20;
/// Logins at once, before it dies.
const COMING: usize = 64;
/// One whose attempt failed tries again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Somebody who is in, and waits for the end of its stream.
struct Waiting {
    identity: Identity,
    inside: crate::client::Inside,
}

async fn come(url: String, number: usize, places: Arc<Semaphore>) -> Result<Waiting> {
    let _place = places.acquire().await?;
    let room = format!("resume-{}", number / ROOM_USERS);
    let identity = Identity::new(&room, &format!("user-{number}"), Hears::Others)?;
    let inside = identity.enter(&mut dial(&url).await?, 1, None).await?;
    Ok(Waiting { identity, inside })
}

/// Waits for the end of the stream, and goes to the other coordinator. Answers with when it was back.
async fn come_back(waiting: Waiting, other: String) -> Result<Instant> {
    let Waiting { identity, mut inside } = waiting;
    while let Ok(Some(_)) = next(&mut inside.events).await {}
    let lost = Instant::now();
    let seen = inside.up.revision.clone();
    let mut connection = 2;
    loop {
        match again(&identity, &other, connection, seen.clone()).await {
            Ok(up) => {
                ensure!(up.session_id == inside.up.session_id, "a resumed login is the same login");
                return Ok(Instant::now());
            }
            Err(error) if lost.elapsed() > PATIENCE => {
                return Err(error.context("a client did not come back"));
            }
            Err(_) => sleep(AGAIN_AFTER).await,
        }
        connection += 1;
    }
}

async fn again(
    identity: &Identity,
    url: &str,
    connection: u64,
    seen: Option<v1::Revision>,
) -> Result<v1::RoomUp> {
    let mut rpc = dial(url).await?;
    let seen = seen.context("a room comes with its revision")?;
    Ok(identity.enter(&mut rpc, connection, Some(seen)).await?.up)
}

/// Kills the first coordinator. How long after that each client was back; the last one makes the whole time.
pub async fn measure(pair: &mut Pair) -> Result<Sample> {
    let places = Arc::new(Semaphore::new(COMING));
    let mut coming = JoinSet::new();
    for number in 0..CLIENTS {
        coming.spawn(come(pair.first.clone(), number, Arc::clone(&places)));
    }
    let waiting = coming.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let mut coming_back = JoinSet::new();
    for waiting in waiting {
        coming_back.spawn(come_back(waiting, pair.second.clone()));
    }
    let died = Instant::now();
    pair.kill_first()?;
    let back = coming_back.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let took: Vec<_> = back.iter().map(|back| back.saturating_duration_since(died)).collect();
    let all = took.iter().max().copied().unwrap_or_default();
    Ok(Sample::new(took, all))
}
