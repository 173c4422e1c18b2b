//! The layering rules and habits of this workspace, as a test: who never knows what, and how files look.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of code (tests apart) that a file may have.
const MAX_CODE_LINES: usize = 500;

/// (folder, words that its sources must not have, why).
const NEVER: [(&str, &[&str], &str); 7] = [
    (
        "proto/src",
        &["tokio::", "etcd_client", "std::net::Udp", "std::net::Tcp"],
        "the wire knows no runtime, store or socket",
    ),
    ("client/src", &["etcd_client"], "clients know coordinators, not their store"),
    (
        "client/src/machine",
        &["tokio::", "Instant::now", "SystemTime", "rand::", "std::thread", "reqwest", "tonic::"],
        "the machines are pure",
    ),
    ("relay/src", &["etcd_client"], "relays know coordinators, not their store"),
    (
        "relay/src/media",
        &["tokio::", "Instant::now", "SystemTime::now", "rand::", "std::thread", "UdpSocket"],
        "the media core is pure",
    ),
    ("coordinator/src", &["webrtc", "rtc_"], "coordinators carry no media"),
    ("relay/src/worker", &["axum", "tonic::", "jsonwebtoken"], "the data plane knows no HTTP, gRPC or token"),
];

/// (crate, the only folders or files that may name it).
const DOORS: [(&str, &[&str]); 6] = [
    ("etcd_client::", &["coordinator/src/store/etcd", "coordinator/tests/etcd", "benches/coordinator"]),
    ("rtc_dtls::", &["relay/src/transport/dtls", "relay/tests/plane/peer.rs"]),
    ("rtc_srtp::", &["relay/src/transport/srtp", "relay/tests/plane/peer.rs"]),
    ("rtc_stun::", &["relay/src/transport/ice.rs", "relay/tests/plane/peer.rs"]),
    ("rtc_sdp::", &["relay/src/signal/sdp", "client/src/peer"]),
    ("tokio_tungstenite::", &["client/src/events", "relay/src/signal"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && !matches!(name.as_str(), "target" | "node_modules" | ".git" | "dist" | "gen")
            {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|ending| endings.contains(&ending.to_str().unwrap_or_default()))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no {endings:?}");
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// A source without its unit tests and comments.
fn code(text: &str) -> Vec<&str> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}

/// Whether a file is a test, or belongs to a module that is only there for tests.
fn is_test(path: &Path) -> bool {
    let name = relative(path);
    name.contains("/tests")
        || name.starts_with("tests/")
        || name.starts_with("benches/")
        || is_test_module(path)
}

fn is_test_module(path: &Path) -> bool {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem().and_then(|stem| stem.to_str())) else {
        return false;
    };
    if stem == "mod" {
        return folder != root() && is_test_module(&folder.with_extension("rs"));
    }
    let declared = format!("#[cfg(test)]\nmod {stem};");
    let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| folder.join(parent));
    let says = |parent: &PathBuf| fs::read_to_string(parent).is_ok_and(|text| text.contains(&declared));
    parents.iter().chain([&folder.with_extension("rs")]).any(says)
        || folder
            .file_name()
            .is_some_and(|_| folder.join("mod.rs").exists() && is_test_module(&folder.with_extension("rs")))
}

#[test]
fn nobody_knows_what_it_must_not() {
    for (folder, words, why) in NEVER {
        for path in files(folder, &["rs"]).iter().filter(|path| !is_test(path)) {
            let text = fs::read_to_string(path).unwrap();
            for line in code(&text) {
                for word in words {
                    assert!(!line.contains(word), "{}: {word} in {line:?}: {why}", relative(path));
                }
            }
        }
    }
}

#[test]
fn each_foreign_crate_has_its_door() {
    for path in files(".", &["rs"]) {
        let name = relative(&path);
        if name == "tests/tidy.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (krate, doors) in DOORS {
            let named = text.lines().any(|line| line.contains(krate) && !line.trim_start().starts_with("//"));
            let is_door = doors.iter().any(|door| name.starts_with(door));
            assert!(!named || is_door, "{name} names {krate} beside its door ({doors:?})");
        }
    }
}

#[test]
fn each_source_says_what_it_is_for_and_holds_one_idea() {
    for path in files(".", &["rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} does not begin with what it is for", relative(&path));
        let lines = code(&text).iter().filter(|line| !line.trim().is_empty()).count();
        let limit = if is_test(&path) { 2 * MAX_CODE_LINES } else { MAX_CODE_LINES };
        assert!(lines <= limit, "{} has {lines} lines of code: split it by idea", relative(&path));
    }
}

#[test]
fn nothing_says_on_which_machine_it_was_made() {
    let roots = ["/home", "/root", "/work"].map(|folder| format!("{folder}/"));
    for path in files(".", &["rs", "toml", "md", "ts", "mjs", "py", "json", "proto", "yml", "txt"]) {
        let text = fs::read_to_string(&path).unwrap();
        for folder in &roots {
            assert!(!text.contains(folder.as_str()), "{} names a path below {folder}", relative(&path));
        }
    }
}
