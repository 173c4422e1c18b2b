//! Every clause of the behaviour has a test: one that carries the clause's id in its name or its first comment line,
//! or a transcript that names it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The clauses, by family: the numbers run from 1.
const CLAUSES: [(&str, u32); 4] = [("ROOM", 13), ("PUB", 11), ("PLAY", 8), ("GO", 11)];

/// Clauses whose feature is not built yet, and what is missing. A part of one may be there, with a test.
const NOT_BUILT: [(&str, &str); 7] = [
    ("GO-3", "warm standby"),
    ("GO-4", "drain"),
    ("GO-6", "307 to a better node"),
    ("GO-7", "quality events"),
    ("GO-8", "ICE restart when the client's network changes"),
    ("GO-9", "dual path: a second session that carries the same packets"),
    ("GO-11", "logins, plays and proved claims with the store away for longer than the coordinators' 5 s"),
];

fn clauses() -> BTreeSet<String> {
    CLAUSES.iter().flat_map(|&(family, last)| (1..=last).map(move |n| format!("{family}-{n}"))).collect()
}

/// Sources that hold tests: Rust with a `#[test]` of some kind, transcripts, and the page's tests.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "node_modules" | ".git" | "dist" | "gen") {
                collect(&path, files);
            }
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("rs" | "txt" | "ts")) {
            files.push(path);
        }
    }
}

/// Ids that stand in a comment or transcript header, or in a test's name (`room_4_…`), within a file with tests.
fn proved(path: &Path, wanted: &BTreeSet<String>) -> BTreeSet<String> {
    if path.ends_with("tests/clauses.rs") {
        return BTreeSet::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let is_transcript =
        path.extension().is_some_and(|e| e == "txt") && path.to_string_lossy().contains("transcripts");
    if !is_transcript
        && !text.contains("#[test]")
        && !text.contains("#[tokio::test")
        && !text.contains("test(\"")
    {
        return BTreeSet::new();
    }
    let carries = |line: &str, id: &str| {
        let line = line.trim_start();
        let in_comment = line.starts_with("//") || line.starts_with('#');
        let name = format!("{}_", id.to_lowercase().replace('-', "_"));
        let in_name = line.contains("fn ") && line.contains(&name);
        let whole = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_digit());
        in_name || (in_comment && line.split(id).skip(1).any(whole))
    };
    wanted.iter().filter(|id| text.lines().any(|line| carries(line, id))).cloned().collect()
}

#[test]
fn every_clause_that_is_built_has_a_test() {
    let all = clauses();
    let mut files = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), &mut files);
    let tested: BTreeSet<String> = files.iter().flat_map(|path| proved(path, &all)).collect();
    let not_built: BTreeSet<String> = NOT_BUILT.iter().map(|(id, _)| (*id).to_owned()).collect();
    let missing: Vec<&String> = all.difference(&tested).filter(|id| !not_built.contains(*id)).collect();
    assert!(missing.is_empty(), "no test carries {missing:?}");
}
