//! A client that is not ours: aiortc by plain WHIP and WHEP.
//!
//! It gathers every interface, so it runs with its cluster in a network namespace of the test's own.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::{
    cluster::{Cluster, Rights},
    namespace::Namespace,
    process::output,
};

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The one JSON object that a driver prints.
#[track_caller]
pub fn result(command: &mut Command) -> Value {
    let text = output(command);
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{command:?} printed {text:?}: {error}"))
}

#[test]
fn aiortc_publishes_and_plays_with_a_user_token_by_plain_whip_and_whep() {
    // It gathers no loopback candidate.
    let namespace = Namespace::new("aiortc", Some("10.99.7.1/24"));
    let cluster = Cluster::start_with(2, |command| *command = namespace.within(command));
    let python = root().join("target/venv/bin/python");
    assert!(python.exists(), "aiortc is not installed: run `make test`, which brings it");
    let token = cluster.token("room", "alice", Rights::Both);
    let mut driver = Command::new(python);
    driver.arg(root().join("tests/peers/whip_whep.py"));
    driver.args([&cluster.relays[0].http, &cluster.relays[1].http, "room", "cam", &token]);
    let received = result(&mut namespace.within(&driver));
    assert!(
        received["video"].as_u64().unwrap() >= 30 && received["audio"].as_u64().unwrap() >= 50,
        "{received}"
    );
    assert_eq!(received["deleted"], serde_json::json!([200, 200]));
}
