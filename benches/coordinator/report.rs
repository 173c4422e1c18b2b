//! The table, in Markdown.

use std::time::Duration;

use crate::{
    crowd::{LISTENERS, VISITORS},
    drive::Sample,
    resume::CLIENTS,
    run::{CALLERS, Figures, Rows},
};

/// A cell for what was not measured.
const NONE: &str = "";

fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn spread(sample: &Sample) -> String {
    format!("{} / {}", ms(sample.percentile(50)), ms(sample.percentile(99)))
}

/// Three digits are all that such a figure is good for.
fn amount(number: f64) -> String {
    let unit = 10_f64.powf((number.max(1.0).log10().floor() - 2.0).max(0.0));
    let mut digits = format!("{:.0}", (number / unit).round() * unit);
    for at in (1..digits.len().div_ceil(3)).map(|group| digits.len() - 3 * group).collect::<Vec<_>>() {
        digits.insert(at, ',');
    }
    digits
}

fn line(what: &str, callers: &str, cells: impl Iterator<Item = [String; 2]>) {
    let cells: String = cells.map(|[amount, spread]| format!(" {amount} | {spread} |")).collect();
    println!("| {what} | {callers} |{cells}");
}

fn rows<'a>(all: &'a [Figures], what: &str, of: impl Fn(&'a Figures) -> Option<&'a Rows>) {
    for (row, callers) in CALLERS.into_iter().enumerate() {
        let cells = all.iter().map(|figures| match of(figures) {
            Some(rows) => [amount(rows[row].per_second()), spread(&rows[row])],
            None => [NONE.to_owned(), NONE.to_owned()],
        });
        line(what, &callers.to_string(), cells);
    }
}

/// Prints what was measured, store beside store.
pub fn print(all: &[Figures]) {
    let names: String =
        all.iter().map(|figures| format!(" {}, a second | p50 / p99, ms |", figures.stores.name())).collect();
    println!("| what | callers |{names}");
    println!("| --- | --- |{}", " --- | --- |".repeat(all.len()));
    rows(all, "bare transactions", |figures| figures.floor.as_ref());
    rows(all, "beats", |figures| Some(&figures.beats));
    rows(all, "logins", |figures| Some(&figures.logins));
    for (row, callers) in CALLERS.into_iter().enumerate() {
        let ratio = |figures: &Figures| match &figures.floor {
            Some(floor) => format!("{:.2}", figures.logins[row].per_second() / floor[row].per_second()),
            None => NONE.to_owned(),
        };
        line(
            "logins per bare transaction",
            &callers.to_string(),
            all.iter().map(|figures| [ratio(figures), NONE.to_owned()]),
        );
    }
    let cpu = |figures: &Figures| format!("{} µs", figures.login_cpu.as_micros());
    let most = CALLERS.last().map_or(String::new(), usize::to_string);
    line(
        "CPU of the coordinator for a login",
        &most,
        all.iter().map(|figures| [cpu(figures), NONE.to_owned()]),
    );
    rows(all, "publishes planned", |figures| Some(&figures.publishes));
    rows(all, "plays planned", |figures| Some(&figures.plays));
    let events = |figures: &Figures| [amount(figures.crowd.events_per_second), spread(&figures.crowd.delays)];
    line(&format!("events in a room of {LISTENERS}"), &VISITORS.to_string(), all.iter().map(events));
    let back = |figures: &Figures| {
        let all_after = figures.resumes.percentile(100);
        [format!("all after {:.1} s", all_after.as_secs_f64()), spread(&figures.resumes)]
    };
    line("resumes, when a coordinator died", &amount(CLIENTS as f64), all.iter().map(back));
}
