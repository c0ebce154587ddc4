//! Self-contained HTML pages: they need no network, and are readable without scripts.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::internal;
use crate::error::Error;
use crate::statistics::{Duplicates, ScanStatistics, number_of};
use crate::text::{json, replace_hidden};
use crate::time::{DAY, Instant, SECOND};

mod backtest;
mod hunt;
mod summary;
mod trace;

pub use backtest::backtest;
pub use hunt::{HuntResults, SHOWN, hunt};
pub use summary::HuntSummary;
pub use trace::trace;

/// The escaper of the templates: HTML escapes, and visible forms of hidden characters.
///
/// Every value of a page passes through it, so none can be forgotten. Line breaks and tabs stay: HTML shows them as
/// spaces, and `<pre>` unchanged.
#[derive(Debug, Clone, Copy)]
pub struct Escaper;

impl askama::filters::Escaper for Escaper {
    fn write_escaped_str<W: fmt::Write>(&self, dest: W, text: &str) -> fmt::Result {
        let visible = |c: char| {
            if matches!(c, '\n' | '\t') { c.to_string() } else { c.escape_unicode().to_string() }
        };
        askama::filters::Escaper::write_escaped_str(&askama::filters::Html, dest, &replace_hidden(text, visible))
    }
}

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Maximum number of groups on a page.
const MAX_GROUPS: usize = 25;
/// Maximum number of faults on a page.
const MAX_FAULTS: usize = 50;
/// Maximum number of bars in a chart.
const MAX_BINS: i64 = 120;

/// How a page was made.
#[derive(Debug, Clone)]
pub struct RunDetails {
    /// The command line, quoted for a shell.
    pub command: String,
    /// The time of the run.
    pub time: Instant,
}

/// The parts of every page.
struct Frame {
    title: String,
    heading: String,
    /// The content security policy: the browser may only run the page's own style and script.
    policy: String,
    style: &'static str,
    script: &'static str,
    /// The data of the script, as JSON.
    data: String,
    /// Whether there is no time span to draw.
    is_timeless: bool,
    read: Vec<Fact>,
    faults: Vec<String>,
    version: &'static str,
}

impl Frame {
    fn new(
        title: &str,
        heading: &str,
        data: &Timeline<'_>,
        read: &ScanStatistics,
        duplicates: Option<&Duplicates>,
    ) -> Result<Frame, Error> {
        let is_timeless = data.bins.is_empty();
        let data = json::line(data).map_err(|error| internal("the data of a page", &error))?;
        let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
        let faults = read.faults.iter().take(MAX_FAULTS).map(ToString::to_string).collect();
        Ok(Frame {
            title: title.to_owned(),
            heading: heading.to_owned(),
            policy: format!(
                "default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
                hash(STYLE),
                hash(SCRIPT)
            ),
            style: STYLE,
            script: SCRIPT,
            // Without `<`, no value can close the script element.
            data: data.replace('<', "\\u003c"),
            is_timeless,
            read: facts(read, duplicates),
            faults,
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    /// Adds how the page was made.
    fn of_run(mut self, run: &RunDetails) -> Frame {
        let details = [fact("command", run.command.clone()), fact("time of the run", run.time.to_string())];
        self.read.splice(0..0, details);
        self
    }
}

/// A name and a value.
struct Fact {
    name: String,
    value: String,
}

fn fact(name: impl Into<String>, value: impl Into<String>) -> Fact {
    Fact { name: name.into(), value: value.into() }
}

fn facts(read: &ScanStatistics, duplicates: Option<&Duplicates>) -> Vec<Fact> {
    let mut facts = vec![
        fact("objects", read.objects.sentence("used")),
        fact("records", read.records.sentence("used")),
        fact("bytes", indicatif::HumanBytes(read.stored_bytes).to_string()),
    ];
    if !read.members.is_empty() {
        facts.insert(1, fact("members of archives", read.members.sentence("used")));
    }
    if let Some(version) = read.table_version {
        facts.push(fact("version of the table", version.to_string()));
    }
    if let Some((first, last)) = read.times {
        facts.push(fact("times", format!("{first} to {last}")));
    }
    if let Some(duplicates) = duplicates {
        facts.push(fact("duplicates among matching records", format!("{} left out", duplicates.left_out)));
        facts.extend(duplicates.differing.warning().map(|warning| fact("warning", warning)));
    }
    facts
}

/// Counts over time, as data of the script.
#[derive(Serialize)]
struct Timeline<'s> {
    /// The name of one of the counted things.
    thing: &'s str,
    bin: &'s str,
    bins: Vec<String>,
    present: usize,
    lines: Vec<TimeSeries>,
    /// The groups that `found` of lines names by index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
}

impl<'s> Timeline<'s> {
    /// Returns the timeline of one series of counts, by the bins of `bins`.
    fn of_one(thing: &'s str, name: &str, bins: &Bins, counts: Vec<usize>) -> Timeline<'s> {
        let series = TimeSeries { name: name.to_owned(), counts, found: Vec::new(), options: None };
        Timeline { thing, bin: bins.name, bins: bins.names(), present: 0, lines: vec![series], groups: Vec::new() }
    }
}

#[derive(Serialize)]
struct TimeSeries {
    name: String,
    counts: Vec<usize>,
    /// The first things that are counted: group, first and last event, and number of events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    found: Vec<(usize, String, String, usize)>,
    /// The options of a hunt that lists all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<String>,
}

/// A span of time, divided into equal bins.
struct Bins {
    begin: Instant,
    /// In microseconds.
    width: i64,
    count: usize,
    name: &'static str,
}

impl Bins {
    /// Divides a span into at most about [`MAX_BINS`] bins of an hour, a day, a week or more.
    fn of(span: Option<(Instant, Instant)>) -> Bins {
        let hour = 3_600 * SECOND;
        let Some((from, to)) = span else {
            return Bins { begin: Instant::EPOCH, width: hour, count: 0, name: "the hour" };
        };
        let widths = [
            (hour, "the hour"),
            (6 * hour, "six hours"),
            (DAY, "the day"),
            (7 * DAY, "the week"),
            (30 * DAY, "thirty days"),
        ];
        let fits = |(width, _): &&(i64, &str)| (to - from) / width < MAX_BINS;
        let years = 365 * DAY * ((to - from) / (365 * DAY * MAX_BINS) + 1);
        let (width, name) = widths.iter().find(fits).copied().unwrap_or((years, "some years"));
        let begin = from.rounded_down(width.min(DAY));
        let count = usize::try_from((to - begin - 1).div_euclid(width) + 1).unwrap_or(1).max(1);
        Bins { begin, width, count, name }
    }

    fn names(&self) -> Vec<String> {
        let begins = (0..self.count).map(|bin| self.begin + i64::try_from(bin).unwrap_or_default() * self.width);
        let name = |begin: Instant| {
            let text = begin.to_string();
            // Minutes for bins shorter than a day, otherwise the date.
            let length = if self.width < DAY { 16 } else { 10 };
            text.get(..length).unwrap_or(&text).replace('T', " ")
        };
        begins.map(name).collect()
    }

    fn counts(&self, instants: impl Iterator<Item = Instant>) -> Vec<usize> {
        self.sums(instants.map(|instant| (instant, 1)))
    }

    /// Returns for each bin the sum of the numbers with an instant in it.
    fn sums(&self, numbers: impl Iterator<Item = (Instant, usize)>) -> Vec<usize> {
        let mut sums = vec![0; self.count];
        for (instant, number) in numbers {
            let bin = usize::try_from((instant - self.begin).div_euclid(self.width)).unwrap_or_default();
            if let Some(sum) = sums.get_mut(bin) {
                *sum += number;
            }
        }
        sums
    }
}

/// A bar chart.
#[derive(askama::Template)]
#[template(path = "chart.html")]
struct Chart {
    label: String,
    width: u32,
    height: u32,
    base: u32,
    marks: Vec<Mark>,
    bars: Vec<Bar>,
    /// Whether `ticks` has one name for each bar.
    all_named: bool,
    ticks: Vec<String>,
}

/// A number on the axis of counts.
struct Mark {
    y: String,
    count: usize,
}

struct Bar {
    x: String,
    y: String,
    width: String,
    height: String,
    tip: String,
}

impl Chart {
    /// Draws one bar per name and count. `what` names the counted things.
    fn of(label: &str, what: &str, counts: &[(String, usize)]) -> Result<String, Error> {
        let halves = |most: usize| if most > 1 { vec![most, most / 2] } else { vec![most] };
        Chart::scaled((label, what), counts, |count| count, halves)
    }

    /// As [`Chart::of`], with the logarithms of counts as heights.
    fn of_logarithms(label: &str, what: &str, counts: &[(String, usize)]) -> Result<String, Error> {
        let powers = |most: usize| {
            let powers = std::iter::successors(Some(1_usize), |power| power.checked_mul(10));
            // One that is close to the top would touch its number.
            powers.take_while(|power| power * 2 <= most).chain([most]).collect()
        };
        Chart::scaled((label, what), counts, f64::ln_1p, powers)
    }

    #[expect(clippy::cast_precision_loss, reason = "positions in a picture")]
    fn scaled(
        (label, what): (&str, &str),
        counts: &[(String, usize)],
        scale: fn(f64) -> f64,
        marks: impl Fn(usize) -> Vec<usize>,
    ) -> Result<String, Error> {
        const WIDTH: u32 = 960;
        const HEIGHT: u32 = 200;
        const BASE: u32 = 196;
        /// Maximum number of bars that all have their name below.
        const NAMED: usize = 20;
        let most = counts.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
        let step = f64::from(WIDTH) / counts.len().max(1) as f64;
        let tall = |count: usize| f64::from(BASE - 8) * scale(count as f64) / scale(most as f64);
        let bar = |(index, (name, count)): (usize, &(String, usize))| {
            let tall = tall(*count);
            (*count > 0).then(|| Bar {
                x: format!("{:.2}", index as f64 * step + step * 0.08),
                y: format!("{:.2}", f64::from(BASE) - tall),
                width: format!("{:.2}", step * 0.84),
                height: format!("{tall:.2}"),
                tip: format!("{name}: {}", number_of(*count, what)),
            })
        };
        let all_named = counts.len() <= NAMED && counts.iter().all(|(name, _)| name.len() < 4);
        let name = |index: usize| counts.get(index).map(|(name, _)| name.clone()).unwrap_or_default();
        let chart = Chart {
            label: label.to_owned(),
            width: WIDTH,
            height: HEIGHT,
            base: BASE,
            marks: marks(most)
                .into_iter()
                .map(|count| Mark { y: format!("{:.2}", f64::from(BASE) - tall(count)), count })
                .collect(),
            bars: counts.iter().enumerate().filter_map(bar).collect(),
            all_named,
            ticks: if all_named {
                counts.iter().map(|(name, _)| name.clone()).collect()
            } else {
                vec![name(0), name(counts.len() / 2), name(counts.len().saturating_sub(1))]
            },
        };
        rendered(&chart)
    }
}

fn rendered(template: &impl askama::Template) -> Result<String, Error> {
    template.render().map_err(|error| internal("a page", &error))
}

/// Returns the rows of a table, without zero counts.
fn counted(counts: &[(String, usize)]) -> Vec<Fact> {
    counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| fact(name.clone(), count.to_string())).collect()
}

/// A group and its findings.
struct GroupRow {
    rule: String,
    name: String,
    findings: usize,
    events: u64,
    /// Its findings relative to the first group, in percent.
    share: usize,
}

/// Returns the groups with most findings, and the number of further groups.
fn top_groups(groups: Vec<GroupRow>) -> (Vec<GroupRow>, usize) {
    let mut top = TopGroups::default();
    for group in groups {
        top.add(group);
    }
    top.finish()
}

/// Selects the groups with most findings.
#[derive(Default)]
struct TopGroups {
    /// The groups that may be among them, not many more than are shown.
    groups: Vec<GroupRow>,
    count: usize,
}

impl TopGroups {
    /// Adds a group. Each is added once.
    fn add(&mut self, group: GroupRow) {
        self.count += 1;
        self.groups.push(group);
        if self.groups.len() >= 40 * MAX_GROUPS {
            self.select();
        }
    }

    fn select(&mut self) {
        self.groups.sort_by(|a, b| {
            let by_count = (b.findings, b.events).cmp(&(a.findings, a.events));
            by_count.then_with(|| (&a.rule, &a.name).cmp(&(&b.rule, &b.name)))
        });
        self.groups.truncate(MAX_GROUPS);
    }

    /// Returns the groups with most findings, and the number of further groups.
    fn finish(mut self) -> (Vec<GroupRow>, usize) {
        self.select();
        let most = self.groups.first().map_or(1, |group| group.findings).max(1);
        for group in &mut self.groups {
            group.share = group.findings * 100 / most;
        }
        (self.groups, self.count.saturating_sub(MAX_GROUPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_few_bins_and_counts_every_instant() {
        let hour = 3_600 * SECOND;
        for length in [1, hour, 3 * DAY, 90 * DAY, 800 * DAY, 9_000 * 365 * DAY] {
            let from = Instant::from_micros(1_788_220_800 * SECOND + 17);
            let to = from + length;
            let bins = Bins::of(Some((from, to)));
            assert!(bins.count <= usize::try_from(MAX_BINS).unwrap() + 2, "{length}: {}", bins.count);
            assert_eq!(bins.counts([from, to - 1].into_iter()).iter().sum::<usize>(), 2, "{length}");
            assert_eq!(bins.names().len(), bins.count);
        }
        assert_eq!(Bins::of(None).counts([Instant::EPOCH].into_iter()), [0; 0]);
    }
}
