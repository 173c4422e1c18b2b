//! How long a peer was silent while this process ran. A late timer is no evidence (GO-2): after a stop of the machine, what
//! the peer said meanwhile lies in the socket and wants to be read first.

use std::time::Duration;

use tokio::time::sleep;

/// The wait is made of so many parts; a stop of any length passes for one of them, the last one, too.
const PARTS: u32 = 6;

/// Ends after `limit`, of which this process ran for all parts but one at least. To be begun anew with whatever is heard.
pub(crate) async fn silence(limit: Duration) {
    for _ in 0..PARTS {
        sleep(limit / PARTS).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(600);

    #[tokio::test(start_paused = true)]
    async fn a_silence_lasts_as_long_as_it_is_said_to() {
        let started = Instant::now();
        silence(LIMIT).await;
        assert_eq!(started.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_of_the_machine_is_no_silence() {
        let mut silence = Box::pin(silence(LIMIT));
        assert!(timeout(LIMIT / 2, &mut silence).await.is_err());
        advance(LIMIT * 100).await;
        let read = Instant::now();
        assert!(timeout(LIMIT / 6, &mut silence).await.is_err(), "time to read what came meanwhile");
        silence.await;
        assert!(read.elapsed() <= LIMIT / 2, "and then it is one");
    }
}
