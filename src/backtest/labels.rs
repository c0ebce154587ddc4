//! Labels of malicious and benign events, and the score of findings against them.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::hunt::grid::{GridFinding, GridMatches};
use crate::store;
use crate::time::{Instant, Range};

/// A label of an event, or of an actor or account within a time range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The line number in the file, from 1.
    pub line: u64,
    /// Whether the subject is malicious. If not, it is benign.
    pub malicious: bool,
    /// The labelled events.
    pub subject: Subject,
}

/// The events that a label covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The event with this `eventID`.
    Event(String),
    /// The events of an account, of an actor or of both.
    Actor {
        /// The account.
        account: Option<String>,
        /// The actor, as in the derived field `actor`.
        actor: Option<String>,
        /// The time range, half-open.
        during: Range,
    },
}

impl Subject {
    /// Returns whether all of its time lies outside `range`. The time of a single event is unknown, so the answer is
    /// no.
    fn is_outside(&self, range: Range) -> bool {
        match self {
            Subject::Event(_) => false,
            Subject::Actor { during, .. } => {
                let ends_before = range.from.zip(during.to).is_some_and(|(from, to)| to <= from);
                ends_before || range.to.zip(during.from).is_some_and(|(to, from)| to <= from)
            }
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Event(id) => f.write_str(id),
            Subject::Actor { account, actor, during } => {
                let names: Vec<&str> = account.iter().chain(actor).map(String::as_str).collect();
                let end = |end: Option<Instant>| end.map_or_else(String::new, String::from);
                write!(f, "{}, {} to {}", names.join(" / "), end(during.from), end(during.to))
            }
        }
    }
}

/// A line of a labels file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelRow {
    #[serde(default, alias = "eventID", alias = "eventId")]
    event_id: Option<String>,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    label: String,
}

/// The largest labels file, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a labels file: CSV with a header, or one JSON object per line.
///
/// A line has `label`, which is `malicious` or `benign`, and either `event_id` or `from` and `to` with `account`,
/// `actor` or both.
///
/// # Errors
/// The file cannot be read, a line is invalid, or two labels contradict each other.
pub fn read(path: &Path) -> Result<Vec<Label>, Error> {
    let text = store::read_named("labels file", path, MAX_BYTES)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let invalid = |line: u64, reason: String| Error::Usage {
        message: format!("labels file `{}`, line {line}: {reason}", path.display()),
        hint: Some("a line has `label` and either `event_id`, or `from` and `to` with `account` or `actor`".to_owned()),
    };
    let mut labels: Vec<Label> = Vec::new();
    if text.trim_start().starts_with('[') {
        return Err(invalid(1, "expected one JSON object per line, not an array".to_owned()));
    } else if text.trim_start().starts_with('{') {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let row: LabelRow = serde_json::from_str(line).map_err(|error| invalid(number, error.to_string()))?;
            labels.push(label(number, row).map_err(|reason| invalid(number, reason))?);
        }
    } else {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| invalid(1, error.to_string()))?.clone();
        let mut record = csv::StringRecord::new();
        loop {
            let line = |reader: &csv::Reader<&[u8]>| reader.position().line();
            match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => return Err(invalid(line(&reader), error.to_string())),
            }
            let number = record.position().map_or_else(|| line(&reader), csv::Position::line);
            let row = record.deserialize(Some(&header)).map_err(|error| invalid(number, error.to_string()))?;
            labels.push(label(number, row).map_err(|reason| invalid(number, reason))?);
        }
    }
    if labels.is_empty() {
        return Err(invalid(1, "the file has no labels".to_owned()));
    }
    match contradiction(&labels) {
        Some((line, reason)) => Err(invalid(line, reason)),
        None => Ok(labels),
    }
}

/// Returns the line of the first label that contradicts an earlier one of the same event, and the reason.
fn contradiction(labels: &[Label]) -> Option<(u64, String)> {
    let mut known: HashMap<&str, &Label> = HashMap::new();
    labels.iter().find_map(|label| {
        let Subject::Event(id) = &label.subject else {
            return None;
        };
        let earlier = *known.entry(id).or_insert(label);
        let verdict = |label: &Label| if label.malicious { "malicious" } else { "benign" };
        (earlier.malicious != label.malicious).then(|| {
            let (this, other) = (verdict(label), verdict(earlier));
            (label.line, format!("event `{id}` is {this} here, but {other} in line {}", earlier.line))
        })
    })
}

fn label(line: u64, row: LabelRow) -> Result<Label, String> {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (account, actor) = (filled(row.account), filled(row.actor));
    let malicious = match row.label.to_ascii_lowercase().as_str() {
        "malicious" => true,
        "benign" => false,
        other => return Err(format!("`{other}` is neither `malicious` nor `benign`")),
    };
    let (from, to) = (filled(row.from), filled(row.to));
    let subject = if let Some(id) = filled(row.event_id) {
        let others = [("account", &account), ("actor", &actor), ("from", &from), ("to", &to)];
        if let Some((name, _)) = others.into_iter().find(|(_, value)| value.is_some()) {
            return Err(format!("`{name}` cannot be combined with `event_id`"));
        }
        Subject::Event(id)
    } else if account.is_some() || actor.is_some() {
        let instant = |name: &str, text: Option<String>| {
            let text = text.ok_or_else(|| format!("`{name}` is missing"))?;
            text.parse::<Instant>().map_err(|reason| format!("`{name}`: {reason}"))
        };
        let (from, to) = (instant("from", from)?, instant("to", to)?);
        if from >= to {
            return Err("`from` must be before `to`".to_owned());
        }
        Subject::Actor { account, actor, during: Range { from: Some(from), to: Some(to) } }
    } else {
        return Err("an `event_id`, `account` or `actor` is required".to_owned());
    };
    Ok(Label { line, malicious, subject })
}

/// How to count a finding without labelled events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Unlabelled {
    /// As a false finding
    #[default]
    Benign,
    /// Not counted
    Unknown,
}

/// The score of a window's findings against the labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Findings with a malicious event.
    pub true_findings: usize,
    /// Findings without a malicious event that count.
    pub false_findings: usize,
    /// Findings without a labelled event.
    pub unlabelled: usize,
    /// Malicious labels with an event in a finding.
    pub caught: usize,
    /// The line numbers of the other malicious labels.
    pub missed: Vec<u64>,
    /// True findings divided by true and false findings. `None` if there are neither.
    pub precision: Option<f64>,
    /// Caught labels divided by caught and missed labels. `None` if there are neither.
    pub recall: Option<f64>,
    /// The harmonic mean of precision and recall.
    pub f1: Option<f64>,
}

/// A label and the matches that it covers.
#[derive(Debug)]
struct MatchedLabel {
    label: Label,
    /// The indexes of the matches.
    matches: Vec<usize>,
    /// Whether its time lies outside the range. Such a label is neither caught nor missed.
    is_outside: bool,
}

/// What labels say about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has a malicious event.
    True,
    /// It has none, and counts.
    False,
    /// It has no labelled event, and does not count.
    NotCounted,
}

/// Labels and the matches of a rule that they cover.
#[derive(Debug)]
pub struct Labelled {
    labels: Vec<MatchedLabel>,
    /// For each match whether a malicious label covers it.
    malicious: Vec<bool>,
    /// For each match whether a benign label covers it.
    benign: Vec<bool>,
    unlabelled: Unlabelled,
}

impl Labelled {
    /// Finds the matches that `labels` cover. `range` is the range of the findings.
    pub fn new(labels: Vec<Label>, matches: &GridMatches, range: Range, unlabelled: Unlabelled) -> Labelled {
        let index = MatchIndex::new(matches);
        let mut labelled = Labelled {
            labels: Vec::with_capacity(labels.len()),
            malicious: vec![false; matches.times.len()],
            benign: vec![false; matches.times.len()],
            unlabelled,
        };
        for label in labels {
            let matches = index.matches_of(&label.subject);
            let flags = if label.malicious { &mut labelled.malicious } else { &mut labelled.benign };
            for index in &matches {
                flags[*index] = true;
            }
            let is_outside = label.subject.is_outside(range);
            labelled.labels.push(MatchedLabel { label, matches, is_outside });
        }
        labelled
    }

    /// Returns each malicious label with whether the rule matches any of its events.
    pub fn malicious(&self) -> impl Iterator<Item = (&Label, bool)> {
        self.malicious_labels().map(|matched| (&matched.label, !matched.matches.is_empty()))
    }

    /// Returns the line numbers of the malicious labels whose time lies outside the range.
    pub fn outside(&self) -> Vec<u64> {
        self.malicious_labels().filter(|matched| matched.is_outside).map(|matched| matched.label.line).collect()
    }

    fn malicious_labels(&self) -> impl Iterator<Item = &MatchedLabel> {
        self.labels.iter().filter(|matched| matched.label.malicious)
    }

    /// Returns how findings without a label count.
    pub fn unlabelled(&self) -> Unlabelled {
        self.unlabelled
    }

    /// Returns the numbers of the matches that malicious labels cover.
    pub fn malicious_matches(&self) -> impl Iterator<Item = usize> {
        self.malicious.iter().enumerate().filter(|(_, is_malicious)| **is_malicious).map(|(number, _)| number)
    }

    /// Returns the numbers of the matches that benign labels cover.
    pub fn benign_matches(&self) -> impl Iterator<Item = usize> {
        self.benign.iter().enumerate().filter(|(_, is_benign)| **is_benign).map(|(number, _)| number)
    }

    /// Returns the lines of the malicious labels whose time is not outside the range, with the matches that they cover.
    pub fn malicious_within(&self) -> impl Iterator<Item = (u64, &[usize])> {
        let within = self.malicious_labels().filter(|matched| !matched.is_outside);
        within.map(|matched| (matched.label.line, matched.matches.as_slice()))
    }

    /// Returns what the labels say about a finding.
    pub fn verdict(&self, matches: &GridMatches, found: &GridFinding) -> Verdict {
        let any = |flags: &[bool]| matches.matches_of(found).into_iter().any(|index| flags[index]);
        match (any(&self.malicious), any(&self.benign)) {
            (true, _) => Verdict::True,
            (false, true) => Verdict::False,
            (false, false) if self.unlabelled == Unlabelled::Benign => Verdict::False,
            (false, false) => Verdict::NotCounted,
        }
    }

    /// Returns the score of the findings of a window.
    #[expect(clippy::cast_precision_loss, reason = "ratios of counts")]
    pub fn score(&self, matches: &GridMatches, found: &[GridFinding]) -> Score {
        let mut is_found = vec![false; self.malicious.len()];
        let (mut true_findings, mut false_findings, mut unlabelled) = (0, 0, 0);
        for found in found {
            matches.matches_of(found).into_iter().for_each(|index| is_found[index] = true);
            let any = |flags: &[bool]| matches.matches_of(found).into_iter().any(|index| flags[index]);
            match (any(&self.malicious), any(&self.benign)) {
                (true, _) => true_findings += 1,
                (false, true) => false_findings += 1,
                (false, false) => {
                    unlabelled += 1;
                    false_findings += usize::from(self.unlabelled == Unlabelled::Benign);
                }
            }
        }
        let within = self.malicious_labels().filter(|matched| !matched.is_outside);
        let (caught, missed): (Vec<&MatchedLabel>, Vec<&MatchedLabel>) =
            within.partition(|matched| matched.matches.iter().any(|index| is_found[*index]));
        let (caught, missed) = (caught.len(), missed.iter().map(|matched| matched.label.line).collect::<Vec<u64>>());
        let ratio = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let precision = ratio(true_findings, true_findings + false_findings);
        let recall = ratio(caught, caught + missed.len());
        let f1 = precision.zip(recall).map(|(p, r)| if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 });
        Score { true_findings, false_findings, unlabelled, caught, missed, precision, recall, f1 }
    }
}

/// An account and an actor. A label may leave out either.
type AccountAndActor<'m> = (Option<&'m str>, Option<&'m str>);

/// The indexes of matches, looked up by the subjects of labels.
struct MatchIndex<'m> {
    by_id: HashMap<&'m str, usize>,
    /// Sorted by time.
    by_actor: HashMap<AccountAndActor<'m>, Vec<(Instant, usize)>>,
}

impl MatchIndex<'_> {
    fn new(matches: &GridMatches) -> MatchIndex<'_> {
        let mut index = MatchIndex { by_id: HashMap::new(), by_actor: HashMap::new() };
        for number in (0..matches.times.len()).filter(|number| matches.is_match(*number)) {
            index.by_id.insert(matches.id(number), number);
            let (account, actor) = matches.who(number);
            let mut keys = vec![(account, actor), (account, None), (None, actor)];
            keys.dedup();
            for key in keys {
                index.by_actor.entry(key).or_default().push((matches.times[number], number));
            }
        }
        for matches in index.by_actor.values_mut() {
            matches.sort_unstable();
            matches.dedup();
        }
        index
    }

    fn matches_of(&self, subject: &Subject) -> Vec<usize> {
        match subject {
            Subject::Event(id) => self.by_id.get(id.as_str()).copied().into_iter().collect(),
            Subject::Actor { account, actor, during } => {
                let matches = self.by_actor.get(&(account.as_deref(), actor.as_deref())).map_or(&[][..], Vec::as_slice);
                let start = matches.partition_point(|(time, _)| during.from.is_some_and(|from| *time < from));
                let within = matches[start..].iter().take_while(|(time, _)| during.contains(*time));
                within.map(|(_, index)| *index).collect()
            }
        }
    }
}
