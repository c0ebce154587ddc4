//! What is new about the findings of a hunt, held against those that were delivered before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::state::{Known, digest};
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::sink::{Line, Sink};
use crate::time::{self, Range};

/// How many findings are new, and how many are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Never delivered before.
    pub new: usize,
    /// Delivered before, and different now.
    pub grown: usize,
    /// Delivered before, and no more: replaced by another, or dissolved.
    pub gone: usize,
    /// Delivered before, and the same.
    pub known: usize,
}

/// The known findings that a run may touch.
#[derive(Debug, Default)]
pub struct Ledger {
    known: HashMap<String, Known>,
    /// The days of those that changed.
    changed: HashSet<String>,
    /// Events before this were dropped from the lake: what reaches back before it is left as it is.
    retained_from: Option<i64>,
}

/// A line, and the sinks that are to be given it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What is delivered.
    pub line: Line,
    /// The names of the sinks.
    pub sinks: BTreeSet<String>,
}

/// What a rule was hunted for.
#[derive(Clone, Copy)]
pub struct Hunted<'h> {
    /// The rule.
    pub rule: &'h Rule,
    /// Its version.
    pub version: &'h str,
    /// The times of the triggers.
    pub range: Range,
    /// The number of the run.
    pub run: u32,
    /// Where findings go.
    pub sinks: &'h [Sink],
}

impl Hunted<'_> {
    /// The sinks that are to be given `finding`: those that want it, and those that know of it, or of what it replaces.
    fn sinks_of<'k>(&self, finding: &Finding, known: impl Iterator<Item = &'k Known>) -> BTreeSet<String> {
        let wants = |sink: &&Sink| sink.wants(&finding.rule_id, &finding.severity, finding.alert);
        let mut names: BTreeSet<String> = self.sinks.iter().filter(wants).map(|sink| sink.name().to_owned()).collect();
        names.extend(known.flat_map(|known| self.sinks_that_know(known)));
        names
    }

    /// The sinks that were given `known`.
    fn sinks_that_know(&self, known: &Known) -> BTreeSet<String> {
        let all = || self.sinks.iter().map(|sink| sink.name().to_owned()).collect();
        known.sinks.clone().unwrap_or_else(all)
    }
}

impl Ledger {
    /// The findings of `days`.
    pub fn new(days: BTreeMap<String, Vec<Known>>, retained_from: Option<i64>) -> Ledger {
        let known = days.into_values().flatten().map(|known| (known.finding_id.clone(), known)).collect();
        Ledger { known, changed: HashSet::new(), retained_from }
    }

    /// The findings that count, of the rule `id`.
    pub fn live(&self, id: &str) -> impl Iterator<Item = &Known> {
        self.known.values().filter(move |known| known.rule_id == id && !known.gone)
    }

    /// Takes in the findings of a hunt; returns the lines that say the difference.
    ///
    /// A finding that a sink does not want is known all the same: where it grows so grave that the sink wants it, the sink
    /// is given it then.
    pub fn take(&mut self, hunted: Hunted<'_>, found: &[Finding], counts: &mut Counts) -> Result<Vec<Change>, Error> {
        let ids: HashSet<&str> = found.iter().map(|finding| finding.finding_id.as_str()).collect();
        let lost = |known: &&Known| {
            hunted.range.contains(known.trigger) && !ids.contains(known.finding_id.as_str()) && !self.is_frozen(known)
        };
        let mut lost: Vec<Known> = self.live(&hunted.rule.id).filter(lost).cloned().collect();
        lost.sort_by(|a, b| (a.first, &a.finding_id).cmp(&(b.first, &b.finding_id)));
        let frozen: Vec<Known> = self.live(&hunted.rule.id).filter(|known| self.is_frozen(known)).cloned().collect();
        let mut lines = Vec::new();
        for finding in found {
            if frozen.iter().any(|known| touches(known, finding) && known.finding_id != finding.finding_id) {
                continue;
            }
            let now = known_as(finding)?;
            let before = self.known.get(&finding.finding_id);
            let replaced: Vec<Known> = lost.extract_if(.., |known| touches(known, finding)).collect();
            let is_same = before.is_some_and(|before| !before.gone && before.digest == now.digest);
            if is_same && replaced.is_empty() {
                counts.known += 1;
                continue;
            }
            let revision = before.map_or(1, |before| before.revision.saturating_add(1));
            *if before.is_some() { &mut counts.grown } else { &mut counts.new } += 1;
            let supersedes: Vec<&str> = replaced.iter().map(|known| known.finding_id.as_str()).collect();
            let mut line = object(finding)?;
            tell(&mut line, hunted, revision, &supersedes);
            line.insert("withdrawn".to_owned(), Value::Bool(false));
            let sinks = hunted.sinks_of(finding, before.into_iter().chain(&replaced));
            lines.push(Change { line, sinks: sinks.clone() });
            for known in &replaced {
                self.put(Known { gone: true, ..known.clone() });
            }
            counts.gone += replaced.len();
            self.put(Known { revision, sinks: Some(sinks), ..now });
        }
        for known in lost {
            let known = Known { gone: true, revision: known.revision.saturating_add(1), ..known };
            lines.push(Change { line: withdrawn(&known, hunted), sinks: hunted.sinks_that_know(&known) });
            counts.gone += 1;
            self.put(known);
        }
        Ok(lines)
    }

    /// The findings of each day on which there is a change, by first event.
    pub fn changed_days(&self) -> BTreeMap<String, Vec<Known>> {
        let mut days: BTreeMap<String, Vec<Known>> = self.changed.iter().map(|day| (day.clone(), Vec::new())).collect();
        for known in self.known.values() {
            if let Some(day) = days.get_mut(&time::utc_date(known.trigger)) {
                day.push(known.clone());
            }
        }
        for day in days.values_mut() {
            day.sort_by(|a, b| (a.first, &a.finding_id).cmp(&(b.first, &b.finding_id)));
        }
        days
    }

    fn put(&mut self, known: Known) {
        if let Some(before) = self.known.get(&known.finding_id) {
            self.changed.insert(time::utc_date(before.trigger));
        }
        self.changed.insert(time::utc_date(known.trigger));
        self.known.insert(known.finding_id.clone(), known);
    }

    fn is_frozen(&self, known: &Known) -> bool {
        self.retained_from.is_some_and(|from| known.first < from)
    }
}

/// Whether a known finding is of the group of another, and they have a time in common.
fn touches(known: &Known, finding: &Finding) -> bool {
    known.group == finding.group && known.first <= finding.last_instant && known.last >= finding.first_instant
}

fn object(finding: &Finding) -> Result<Line, Error> {
    match serde_json::to_value(finding) {
        Ok(Value::Object(line)) => Ok(line),
        _ => Err(Error::Internal("a finding that is no object".to_owned())),
    }
}

fn known_as(finding: &Finding) -> Result<Known, Error> {
    let text = serde_json::to_vec(finding).map_err(|error| Error::Internal(format!("a finding: {error}")))?;
    Ok(Known {
        finding_id: finding.finding_id.clone(),
        rule_id: finding.rule_id.clone(),
        revision: 1,
        gone: false,
        digest: digest(&text),
        first: finding.first_instant,
        last: finding.last_instant,
        trigger: finding.trigger_instant,
        group: finding.group.clone(),
        title: finding.title.clone(),
        severity: finding.severity.clone(),
        sinks: None,
    })
}

fn tell(line: &mut Line, hunted: Hunted<'_>, revision: u32, supersedes: &[&str]) {
    line.insert("revision".to_owned(), revision.into());
    line.insert("supersedes".to_owned(), supersedes.into());
    line.insert("rule_version".to_owned(), hunted.version.into());
    line.insert("run".to_owned(), hunted.run.into());
}

/// The line that takes a finding back: it supersedes itself.
fn withdrawn(known: &Known, hunted: Hunted<'_>) -> Line {
    let mut line: Map<String, Value> = Map::new();
    let id = known.finding_id.as_str();
    for (name, value) in [
        ("finding_id", json!(id)),
        ("rule_id", json!(known.rule_id)),
        ("title", json!(known.title)),
        ("severity", json!(known.severity)),
        ("group", json!(known.group)),
        ("count", json!(0)),
        ("first_event", json!(time::rfc3339(known.first))),
        ("last_event", json!(time::rfc3339(known.last))),
        ("trigger_time", json!(time::rfc3339(known.trigger))),
        ("event_ids", json!([])),
    ] {
        line.insert(name.to_owned(), value);
    }
    tell(&mut line, hunted, known.revision, &[id]);
    line.insert("withdrawn".to_owned(), Value::Bool(true));
    line
}
