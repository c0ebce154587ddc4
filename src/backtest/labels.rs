//! What is known to be malicious or benign, and how a window's findings fare against it.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::hunt::sweep::{Found, Matches};
use crate::store;
use crate::time::{self, Range};

/// What is known of an event, or of an actor in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its line in the file.
    pub line: u64,
    /// Whether it is malicious; else it is benign.
    pub malicious: bool,
    /// What it is of.
    pub subject: Subject,
}

/// What a label is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The event with this `eventID`.
    Event(String),
    /// The events of an account, of an actor or of both.
    Actor {
        /// The account.
        account: Option<String>,
        /// The actor, as in the derived field of that name.
        actor: Option<String>,
        /// The time, half-open.
        during: Range,
    },
}

impl Subject {
    /// Whether none of its time lies in `range`. Of an event the time is not known.
    fn is_outside(&self, range: Range) -> bool {
        match self {
            Subject::Event(_) => false,
            Subject::Actor { during, .. } => {
                let before = range.from.zip(during.to).is_some_and(|(from, to)| to <= from);
                before || range.to.zip(during.from).is_some_and(|(to, from)| to <= from)
            }
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Event(id) => f.write_str(id),
            Subject::Actor { account, actor, during } => {
                let named: Vec<&str> = account.iter().chain(actor).map(String::as_str).collect();
                let end = |end: Option<i64>| end.map_or_else(String::new, time::rfc3339);
                write!(f, "{}, {} to {}", named.join(" / "), end(during.from), end(during.to))
            }
        }
    }
}

/// A line of a labels file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
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

/// The most that a file of labels may hold, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Reads labels: CSV with a header, or one JSON object a line, with `event_id`, or with `account`, `actor`, `from` and
/// `to`; and `label`, which is `malicious` or `benign`.
///
/// # Errors
/// The file cannot be read, or a line says something else.
pub fn read(path: &Path) -> Result<Vec<Label>, Error> {
    let text = store::read_named("file of labels", path, MAX_BYTES)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let wrong = |line: u64, reason: String| Error::Usage {
        message: format!("the labels `{}`, line {line}: {reason}", path.display()),
        hint: Some(
            "a line has `event_id`, or `account` and `actor` with `from` and `to`; and `label`: malicious or benign"
                .to_owned(),
        ),
    };
    let mut labels: Vec<Label> = Vec::new();
    if text.trim_start().starts_with('[') {
        return Err(wrong(1, "one JSON object a line is wanted, not an array".to_owned()));
    } else if text.trim_start().starts_with('{') {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let row: Row = serde_json::from_str(line).map_err(|error| wrong(number, error.to_string()))?;
            labels.push(label(number, row).map_err(|reason| wrong(number, reason))?);
        }
    } else {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| wrong(1, error.to_string()))?.clone();
        let mut record = csv::StringRecord::new();
        loop {
            let line = |reader: &csv::Reader<&[u8]>| reader.position().line();
            match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => return Err(wrong(line(&reader), error.to_string())),
            }
            let number = record.position().map_or_else(|| line(&reader), csv::Position::line);
            let row = record.deserialize(Some(&header)).map_err(|error| wrong(number, error.to_string()))?;
            labels.push(label(number, row).map_err(|reason| wrong(number, reason))?);
        }
    }
    if labels.is_empty() {
        return Err(wrong(1, "there are no labels".to_owned()));
    }
    match contradiction(&labels) {
        Some((line, reason)) => Err(wrong(line, reason)),
        None => Ok(labels),
    }
}

/// The first label of an event that another one before it contradicts.
fn contradiction(labels: &[Label]) -> Option<(u64, String)> {
    let mut known: HashMap<&str, &Label> = HashMap::new();
    labels.iter().find_map(|label| {
        let Subject::Event(id) = &label.subject else {
            return None;
        };
        let before = *known.entry(id).or_insert(label);
        let verdict = |label: &Label| if label.malicious { "malicious" } else { "benign" };
        (before.malicious != label.malicious).then(|| {
            (
                label.line,
                format!("the event `{id}` is {}, and {} by line {}", verdict(label), verdict(before), before.line),
            )
        })
    })
}

fn label(line: u64, row: Row) -> Result<Label, String> {
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
            return Err(format!("a label of an event has no `{name}`"));
        }
        Subject::Event(id)
    } else if account.is_some() || actor.is_some() {
        let instant = |name: &str, text: Option<String>| {
            let text = text.ok_or_else(|| format!("`{name}` is missing"))?;
            time::parse_instant(&text).map_err(|reason| format!("`{name}`: {reason}"))
        };
        let (from, to) = (instant("from", from)?, instant("to", to)?);
        if from >= to {
            return Err("`from` must lie before `to`".to_owned());
        }
        Subject::Actor { account, actor, during: Range { from: Some(from), to: Some(to) } }
    } else {
        return Err("it names no event, account or actor".to_owned());
    };
    Ok(Label { line, malicious, subject })
}

/// How a finding counts that no label touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Unlabelled {
    /// As benign: somebody would have looked at it for nothing
    #[default]
    Benign,
    /// Not at all
    Unknown,
}

/// How the findings of a window fare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Findings that hold an event that a label calls malicious.
    pub true_findings: usize,
    /// Findings that hold none, as far as they count.
    pub false_findings: usize,
    /// Findings that no label touches.
    pub unlabelled: usize,
    /// Malicious labels of which a finding holds an event.
    pub caught: usize,
    /// The lines of the malicious labels of which none does.
    pub missed: Vec<u64>,
    /// True findings among those that count; absent where there are none.
    pub precision: Option<f64>,
    /// Caught among the malicious labels; absent where there are none.
    pub recall: Option<f64>,
    /// The harmonic mean of both.
    pub f1: Option<f64>,
}

/// A label held against the matches of a rule.
#[derive(Debug)]
struct Held {
    label: Label,
    /// The numbers of the matches that it is of.
    matches: Vec<usize>,
    /// Whether its time lies outside the range: then it is neither caught nor missed.
    is_outside: bool,
}

/// Labels held against the matches of a rule.
#[derive(Debug)]
pub struct Labelled {
    labels: Vec<Held>,
    malicious: Vec<bool>,
    benign: Vec<bool>,
    unlabelled: Unlabelled,
}

impl Labelled {
    /// Finds the matches that `labels` are of; `range` is that of the findings.
    pub fn new(labels: Vec<Label>, matches: &Matches, range: Range, unlabelled: Unlabelled) -> Labelled {
        let index = Index::new(matches);
        let mut labelled = Labelled {
            labels: Vec::with_capacity(labels.len()),
            malicious: vec![false; matches.times.len()],
            benign: vec![false; matches.times.len()],
            unlabelled,
        };
        for label in labels {
            let matches = index.of(&label.subject);
            let flags = if label.malicious { &mut labelled.malicious } else { &mut labelled.benign };
            for number in &matches {
                flags[*number] = true;
            }
            let is_outside = label.subject.is_outside(range);
            labelled.labels.push(Held { label, matches, is_outside });
        }
        labelled
    }

    /// The malicious labels, each with whether the rule matches any event of it.
    pub fn malicious(&self) -> impl Iterator<Item = (&Label, bool)> {
        let malicious = self.labels.iter().filter(|held| held.label.malicious);
        malicious.map(|held| (&held.label, !held.matches.is_empty()))
    }

    /// The lines of the malicious labels whose time lies outside the range: they are neither caught nor missed.
    pub fn outside(&self) -> Vec<u64> {
        let outside = self.labels.iter().filter(|held| held.label.malicious && held.is_outside);
        outside.map(|held| held.label.line).collect()
    }

    /// How the findings of a window fare.
    #[expect(clippy::cast_precision_loss, reason = "ratios of counts")]
    pub fn score(&self, matches: &Matches, found: &[Found]) -> Score {
        let mut held = vec![false; self.malicious.len()];
        let (mut hits, mut false_findings, mut unlabelled) = (0, 0, 0);
        for found in found {
            matches.of(found).for_each(|number| held[number] = true);
            let any = |flags: &[bool]| matches.of(found).any(|number| flags[number]);
            match (any(&self.malicious), any(&self.benign)) {
                (true, _) => hits += 1,
                (false, true) => false_findings += 1,
                (false, false) => {
                    unlabelled += 1;
                    false_findings += usize::from(self.unlabelled == Unlabelled::Benign);
                }
            }
        }
        let malicious = self.labels.iter().filter(|one| one.label.malicious && !one.is_outside);
        let (caught, missed): (Vec<&Held>, Vec<&Held>) =
            malicious.partition(|one| one.matches.iter().any(|number| held[*number]));
        let (caught, missed) = (caught.len(), missed.into_iter().map(|one| one.label.line).collect::<Vec<u64>>());
        let ratio = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let precision = ratio(hits, hits + false_findings);
        let recall = ratio(caught, caught + missed.len());
        let f1 = precision.zip(recall).map(|(p, r)| if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 });
        Score { true_findings: hits, false_findings, unlabelled, caught, missed, precision, recall, f1 }
    }
}

/// An account and an actor.
type Who<'m> = (Option<&'m str>, Option<&'m str>);

/// The matches by what labels name.
struct Index<'m> {
    by_id: HashMap<&'m str, usize>,
    /// By account and actor, either of which may be left out; in order of time.
    by_actor: HashMap<Who<'m>, Vec<(i64, usize)>>,
}

impl Index<'_> {
    fn new(matches: &Matches) -> Index<'_> {
        let mut index = Index { by_id: HashMap::new(), by_actor: HashMap::new() };
        for number in 0..matches.times.len() {
            index.by_id.insert(matches.id(number), number);
            let (account, actor) = matches.who(number);
            let mut keys = vec![(account, actor), (account, None), (None, actor)];
            keys.dedup();
            for key in keys {
                index.by_actor.entry(key).or_default().push((matches.times[number], number));
            }
        }
        for numbers in index.by_actor.values_mut() {
            numbers.sort_unstable();
            numbers.dedup();
        }
        index
    }

    fn of(&self, subject: &Subject) -> Vec<usize> {
        match subject {
            Subject::Event(id) => self.by_id.get(id.as_str()).copied().into_iter().collect(),
            Subject::Actor { account, actor, during } => {
                let numbers = self.by_actor.get(&(account.as_deref(), actor.as_deref()));
                let begin = |numbers: &Vec<(i64, usize)>| {
                    numbers.partition_point(|(time, _)| during.from.is_some_and(|from| *time < from))
                };
                let within = |numbers: &Vec<(i64, usize)>| {
                    let rest = numbers[begin(numbers)..].iter();
                    rest.take_while(|(time, _)| during.contains(*time)).map(|(_, number)| *number).collect()
                };
                numbers.map_or_else(Vec::new, within)
            }
        }
    }
}
