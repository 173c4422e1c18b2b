//! Drives the machines with the transcripts of `tests/transcripts/`, whose README says how to read them.

#[path = "transcripts/words/mod.rs"]
mod words;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use waystation_client::{
    Hedging,
    machine::{Client, Input, Settings},
};

/// From one beat of a node to the next.
const BEAT_MS: u64 = 50;

/// The clauses of the behaviour, by family: the numbers run from 1.
const CLAUSES: [(&str, u32); 4] = [("ROOM", 13), ("PUB", 11), ("PLAY", 8), ("GO", 8)];

struct Run {
    client: Client,
    start: Instant,
    now_ms: u64,
    text: String,
}

impl Run {
    fn instant(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn handle(&mut self, input: Input) {
        let now = self.instant(self.now_ms);
        self.client.handle(input, now);
        while let Some(output) = self.client.poll_output() {
            writeln!(self.text, "  {} {}", self.now_ms, words::show(&output)).unwrap();
        }
    }

    /// Jumps from one wish of the machine to the next.
    fn advance(&mut self, to_ms: u64) {
        const MAX_JUMPS: usize = 100_000;
        for _ in 0..MAX_JUMPS {
            let due = self.client.poll_timeout().map(|due| due.saturating_duration_since(self.start));
            let Some(due) = due.filter(|due| *due <= Duration::from_millis(to_ms)) else {
                self.now_ms = to_ms;
                return;
            };
            let due_ms = u64::try_from(due.as_micros().div_ceil(1_000)).unwrap();
            self.now_ms = self.now_ms.max(due_ms);
            self.handle(Input::Timeout);
        }
        panic!("the machine asks for the same time again and again\n{}", self.text);
    }

    fn input(&mut self, line: &str, at: u64, words: &[&str]) {
        match words {
            ["late", ms] => {
                self.now_ms += ms.parse::<u64>().unwrap();
                self.handle(Input::Timeout);
            }
            ["beats", attempt, until] => {
                let until: u64 = until.parse().unwrap();
                for ms in (at..=until).step_by(usize::try_from(BEAT_MS).unwrap()) {
                    self.advance(ms);
                    let heard = words::parse(&["heard", attempt], self.instant(ms));
                    self.handle(heard.expect("it is an input"));
                }
            }
            ["wait"] => {}
            // It stood still: nobody has told it of the time.
            ["first", words @ ..] => {
                self.now_ms = at;
                self.input(line, at, words);
            }
            words => {
                let now = self.instant(at);
                self.handle(words::parse(words, now).unwrap_or_else(|| panic!("unknown input: {line}")));
            }
        }
    }
}

fn run(file: &str) -> String {
    let mut settings = Settings {
        coordinators: vec!["http://c1".into(), "http://c2".into()],
        seed: 1,
        room_retry_time: Duration::from_secs(1_200),
        av_retry_time: Duration::from_secs(300),
        max_rooms: 5,
        hedging: Hedging::On,
    };
    let lines = || file.lines().map(str::trim_end).filter(|line| !line.starts_with("  "));
    for line in lines() {
        if let Some(("set", rest)) = line.split_once(' ') {
            set(&mut settings, rest);
        }
    }
    let mut run =
        Run { client: Client::new(settings), start: Instant::now(), now_ms: 0, text: String::new() };
    for line in lines() {
        let Some(input) = line.strip_prefix('@') else {
            writeln!(run.text, "{line}").unwrap();
            continue;
        };
        let (at, words) = input.split_once(' ').unwrap_or_else(|| panic!("no input: {line}"));
        let at: u64 = at.parse().unwrap_or_else(|_| panic!("no time: {line}"));
        let words: Vec<&str> = words.split_whitespace().collect();
        if words.first() != Some(&"first") {
            run.advance(at);
        }
        writeln!(run.text, "{line}").unwrap();
        run.input(line, at, &words);
    }
    run.text
}

fn set(settings: &mut Settings, rest: &str) {
    let (key, value) = rest.split_once(' ').unwrap();
    let number = || value.parse::<u64>().unwrap();
    match key {
        "seed" => settings.seed = number(),
        "coordinators" => settings.coordinators = value.split(',').map(str::to_owned).collect(),
        "room_retry_s" => settings.room_retry_time = Duration::from_secs(number()),
        "av_retry_s" => settings.av_retry_time = Duration::from_secs(number()),
        "max_rooms" => settings.max_rooms = value.parse().unwrap(),
        "hedging" if value == "off" => settings.hedging = Hedging::Off,
        "hedging" if value == "on" => settings.hedging = Hedging::On,
        other => panic!("unknown setting {other}"),
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

/// Whether the line names clauses, and then says what is seen: `# PUB-2, GO-5: …`.
fn names_clauses(line: &str) -> bool {
    let exists = |id: &str| {
        CLAUSES.iter().any(|(family, last)| (1..=*last).any(|number| id == format!("{family}-{number}")))
    };
    let parts = line.strip_prefix("# ").and_then(|line| line.split_once(": "));
    parts.is_some_and(|(ids, seen)| !seen.trim().is_empty() && ids.split(", ").all(exists))
}

fn difference(got: &str, wanted: &str) -> String {
    let same = got.lines().zip(wanted.lines()).take_while(|(got, wanted)| got == wanted).count();
    let (got, wanted) = (got.lines().nth(same), wanted.lines().nth(same));
    format!("line {}:\n  wanted {wanted:?}\n  got    {got:?}", same + 1)
}

#[test]
fn the_machines_say_what_the_transcripts_say() {
    // The clauses are named in each file's first line.
    const FEWEST: usize = 60;
    let files = files();
    assert!(files.len() >= FEWEST, "only {} transcripts", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let wanted = fs::read_to_string(&path).unwrap();
        let got = run(&wanted);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, got).unwrap();
        } else if got != wanted {
            wrong.push(format!("{path:?}, {}", difference(&got, &wanted)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_transcript_names_clauses_that_exist_and_says_what_is_seen() {
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        assert!(names_clauses(first), "{path:?} starts with {first:?}");
    }
    assert!(names_clauses("# PUB-2, GO-5: all is well"));
    for wrong in ["PUB-2: x", "# PUB-2:", "# PUB-12: x", "# PUB-02: x", "# PUB-2 GO-5: x", "# well-known: x"]
    {
        assert!(!names_clauses(wrong), "{wrong}");
    }
}
