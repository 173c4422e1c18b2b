//! Clients that are not ours: Chromium through the page, and aiortc by plain WHIP and WHEP.
//!
//! They gather every interface, so each runs with its cluster in a network namespace of the test's own.

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
fn chromium_publishes_its_camera_and_another_chromium_plays_it_from_another_node() {
    let namespace = Namespace::new("chromium", None);
    let page = root().join("web/dist");
    assert!(page.join("index.html").exists(), "the page is not built: run `make web` first");
    let cluster = Cluster::start_with(3, |command| {
        command.arg("--page").arg(&page);
        *command = namespace.within(command);
    });
    let mut driver = Command::new("node");
    driver.arg(root().join("web/e2e/browser.mjs")).args([
        &cluster.page,
        &cluster.relays[0].id,
        &cluster.relays[1].id,
    ]);
    if let Some(path) = std::env::var_os("WAYSTATION_SCREENSHOT") {
        driver.arg(path);
    }
    let received = result(&mut namespace.within(&driver));
    assert!(received["frames"].as_u64().unwrap() >= 60, "{received}");
    assert!(received["audio"].as_u64().unwrap() >= 100, "{received}");
    let cipher = received["cipher"].as_str().unwrap();
    assert!(cipher.ends_with("AEAD_AES_128_GCM"), "{received}");
    assert_eq!(received["node"], cluster.relays[1].id.as_str());
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
