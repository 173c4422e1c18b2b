//! Metrics of the control half. No label holds anything that a user chose.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::{FindError, StreamTracks, core::Counts};

const SESSIONS: &str = "waystation_relay_sessions";
const STREAMS: &str = "waystation_relay_streams";
const SUBSCRIPTIONS: &str = "waystation_relay_subscriptions";
const FEEDS: &str = "waystation_relay_feeds";
const LINKS: &str = "waystation_relay_links";
const SEARCHES: &str = "waystation_relay_searches";
const ANNOUNCEMENTS: &str = "waystation_relay_announcements_held";
const FINDS: &str = "waystation_relay_finds_total";
const REFUSALS: &str = "waystation_relay_sessions_refused_total";
/// Whether a coordinator is there.
pub(crate) const ATTACHED: &str = "waystation_relay_attached";

/// Describes the metrics of the control half. Call once, after a recorder is installed.
pub fn describe() {
    describe_gauge!(SESSIONS, Unit::Count, "Sessions of clients, by action (publish or play).");
    describe_gauge!(STREAMS, Unit::Count, "Streams that have a source on this relay.");
    describe_gauge!(SUBSCRIPTIONS, Unit::Count, "Streams that this relay takes from other relays.");
    describe_gauge!(FEEDS, Unit::Count, "Streams that this relay gives to other relays, each relay counted.");
    describe_gauge!(LINKS, Unit::Count, "Links to other relays that are up.");
    describe_gauge!(SEARCHES, Unit::Count, "Streams that are being looked for.");
    describe_gauge!(
        ANNOUNCEMENTS,
        Unit::Count,
        "Announcements of other relays' streams held for whoever asks."
    );
    describe_gauge!(
        ATTACHED,
        Unit::Count,
        "1 while a coordinator is attached, else 0. Media does not depend on it."
    );
    describe_counter!(FINDS, Unit::Count, "Look-ups of streams for players, by outcome.");
    describe_counter!(REFUSALS, Unit::Count, "Sessions that were not taken, by reason.");
}

pub(super) fn record(counts: Counts) {
    gauge!(SESSIONS, "action" => "publish").set(counts.publishers);
    gauge!(SESSIONS, "action" => "play").set(counts.players);
    gauge!(STREAMS).set(counts.streams);
    gauge!(SUBSCRIPTIONS).set(counts.subscriptions);
    gauge!(FEEDS).set(counts.feeds);
    gauge!(LINKS).set(counts.links);
    gauge!(SEARCHES).set(counts.searches);
    gauge!(ANNOUNCEMENTS).set(counts.announcements);
}

pub(super) fn found(result: &Result<StreamTracks, FindError>) {
    let outcome = match result {
        Ok(_) => "found",
        Err(FindError::NotHere(_)) => "not_here",
        Err(FindError::Stopping) => "stopping",
    };
    counter!(FINDS, "outcome" => outcome).increment(1);
}

pub(super) fn refused(error: &super::OpenError) {
    let reason = match error {
        super::OpenError::Fenced { .. } => "fenced",
        super::OpenError::Revoked(_) => "revoked",
        super::OpenError::Full => "full",
        super::OpenError::Stopping => "stopping",
    };
    counter!(REFUSALS, "reason" => reason).increment(1);
}
