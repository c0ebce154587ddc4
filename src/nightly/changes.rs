//! Compares the findings of a hunt with the findings of earlier runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::state::{KnownFinding, digest};
use crate::error::Error;
use crate::finding::{Finding, FindingNotes};
use crate::rule::Rule;
use crate::sink::{Line, Sink};
use crate::time::{Instant, Range};

/// Numbers of findings by how they changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ChangeCounts {
    /// Never delivered before.
    pub new: usize,
    /// Delivered before, and changed since.
    pub grown: usize,
    /// Delivered before, and now superseded or withdrawn.
    pub gone: usize,
    /// Delivered before, and unchanged.
    pub known: usize,
}

/// The known findings that a run may change.
#[derive(Debug, Default)]
pub struct KnownFindings {
    known: HashMap<String, KnownFinding>,
    /// Dates with a changed finding.
    changed_dates: HashSet<String>,
    /// Start of the data in the lake. Findings with dropped events are frozen: they never change.
    retained_from: Option<Instant>,
    /// The first event that is left.
    first_event: Option<Instant>,
}

/// A new, grown or withdrawn finding, and the sinks that receive it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedFinding {
    /// The line to deliver.
    pub line: Line,
    /// Names of the sinks.
    pub sinks: BTreeSet<String>,
}

/// A rule that was hunted, and the settings of its hunt.
#[derive(Clone, Copy)]
pub struct HuntedRule<'h> {
    /// The rule.
    pub rule: &'h Rule,
    /// The version of the rule.
    pub version: &'h str,
    /// The range of triggers.
    pub range: Range,
    /// Number of the run.
    pub run: u32,
    /// The version of the lake.
    pub lake_version: u64,
    /// Where findings are delivered.
    pub sinks: &'h [Sink],
}

impl HuntedRule<'_> {
    /// Returns the sinks that receive `finding`: sinks whose filter selects it, and sinks that received an earlier
    /// revision or a finding that it replaces.
    fn sinks_for<'k>(&self, finding: &Finding, known: impl Iterator<Item = &'k KnownFinding>) -> BTreeSet<String> {
        let wants = |sink: &&Sink| sink.wants(&finding.rule_id, &finding.severity, finding.alert);
        let mut names: BTreeSet<String> = self.sinks.iter().filter(wants).map(|sink| sink.name().to_owned()).collect();
        names.extend(known.flat_map(|known| self.sinks_that_received(known)));
        names
    }

    /// Returns the sinks that received `known`.
    fn sinks_that_received(&self, known: &KnownFinding) -> BTreeSet<String> {
        let all = || self.sinks.iter().map(|sink| sink.name().to_owned()).collect();
        known.sinks.clone().unwrap_or_else(all)
    }
}

impl KnownFindings {
    /// Collects the known findings of `days`. Records before `retained_from` were dropped. `first_event` is that of the rest, if a
    /// rule needs it.
    pub fn new(
        days: BTreeMap<String, Vec<KnownFinding>>,
        retained_from: Option<Instant>,
        first_event: Option<Instant>,
    ) -> KnownFindings {
        let known = days.into_values().flatten().map(|known| (known.finding_id.clone(), known)).collect();
        KnownFindings { known, changed_dates: HashSet::new(), retained_from, first_event }
    }

    /// Returns the findings of the rule `id` that are not gone.
    pub fn live(&self, id: &str) -> impl Iterator<Item = &KnownFinding> {
        self.known.values().filter(move |known| known.rule_id == id && !known.gone)
    }

    /// Updates the known findings with those of a hunt, and returns the changes.
    ///
    /// A finding that no sink selects is remembered too. If its severity rises later, sinks may select it then.
    pub fn update(
        &mut self,
        hunted: HuntedRule<'_>,
        found: &[Finding],
        counts: &mut ChangeCounts,
    ) -> Result<Vec<ChangedFinding>, Error> {
        let ids: HashSet<&str> = found.iter().map(|finding| finding.finding_id.as_str()).collect();
        let lost = |known: &&KnownFinding| {
            hunted.range.contains(known.trigger)
                && !ids.contains(known.finding_id.as_str())
                && !self.is_frozen(hunted.rule, known)
        };
        let mut lost: Vec<KnownFinding> = self.live(&hunted.rule.id).filter(lost).cloned().collect();
        lost.sort_by(|a, b| (a.first, &a.finding_id).cmp(&(b.first, &b.finding_id)));
        let frozen: Vec<KnownFinding> =
            self.live(&hunted.rule.id).filter(|known| self.is_frozen(hunted.rule, known)).cloned().collect();
        let mut lines = Vec::new();
        for finding in found {
            if frozen.iter().any(|known| overlaps(known, finding) && known.finding_id != finding.finding_id) {
                continue;
            }
            let current = to_known(finding)?;
            let before = self.known.get(&finding.finding_id);
            let replaced: Vec<KnownFinding> = lost.extract_if(.., |known| overlaps(known, finding)).collect();
            let is_same = before.is_some_and(|before| !before.gone && before.digest == current.digest);
            if is_same && replaced.is_empty() {
                counts.known += 1;
                continue;
            }
            let revision = before.map_or(1, |before| before.revision.saturating_add(1));
            *if before.is_some() { &mut counts.grown } else { &mut counts.new } += 1;
            let supersedes: Vec<&str> = replaced.iter().map(|known| known.finding_id.as_str()).collect();
            let mut line = to_line(finding)?;
            add_members(&mut line, hunted, revision, &supersedes);
            line.insert("withdrawn".to_owned(), Value::Bool(false));
            let sinks = hunted.sinks_for(finding, before.into_iter().chain(&replaced));
            lines.push(ChangedFinding { line, sinks: sinks.clone() });
            for known in &replaced {
                self.insert(KnownFinding { gone: true, ..known.clone() });
            }
            counts.gone += replaced.len();
            self.insert(KnownFinding { revision, sinks: Some(sinks), ..current });
        }
        for known in lost {
            let known = KnownFinding { gone: true, revision: known.revision.saturating_add(1), ..known };
            lines.push(ChangedFinding { line: withdrawal(&known, hunted), sinks: hunted.sinks_that_received(&known) });
            counts.gone += 1;
            self.insert(known);
        }
        Ok(lines)
    }

    /// Returns all findings of each date with a change, ordered by first event.
    pub fn changed_days(&self) -> BTreeMap<String, Vec<KnownFinding>> {
        let mut days: BTreeMap<String, Vec<KnownFinding>> =
            self.changed_dates.iter().map(|day| (day.clone(), Vec::new())).collect();
        for known in self.known.values() {
            if let Some(day) = days.get_mut(&known.trigger.utc_date()) {
                day.push(known.clone());
            }
        }
        for day in days.values_mut() {
            day.sort_by(|a, b| (a.first, &a.finding_id).cmp(&(b.first, &b.finding_id)));
        }
        days
    }

    fn insert(&mut self, known: KnownFinding) {
        if let Some(before) = self.known.get(&known.finding_id) {
            self.changed_dates.insert(before.trigger.utc_date());
        }
        self.changed_dates.insert(known.trigger.utc_date());
        self.known.insert(known.finding_id.clone(), known);
    }

    /// Returns whether events that decide a finding of `rule` have been dropped.
    fn is_frozen(&self, rule: &Rule, known: &KnownFinding) -> bool {
        let first_event = self.first_event.filter(|_| rule.absence.is_some());
        let start = self.retained_from.map(|from| first_event.map_or(from, |first| from.max(first)));
        start.is_some_and(|start| known.first < start + rule.setting().decided_by_earlier())
    }
}

/// Returns whether two findings have the same group and overlap in time.
fn overlaps(known: &KnownFinding, finding: &Finding) -> bool {
    known.group == finding.group && known.first <= finding.last_event && known.last >= finding.first_event
}

fn to_line(finding: &Finding) -> Result<Line, Error> {
    match serde_json::to_value(finding) {
        Ok(Value::Object(line)) => Ok(line),
        _ => Err(Error::Internal("a finding is not a JSON object".to_owned())),
    }
}

fn to_known(finding: &Finding) -> Result<KnownFinding, Error> {
    // An edit of the notes changes no finding.
    let finding = &Finding { notes: FindingNotes::default(), ..finding.clone() };
    let text = serde_json::to_vec(finding)
        .map_err(|error| Error::Internal(format!("cannot write a finding as JSON: {error}")))?;
    Ok(KnownFinding {
        finding_id: finding.finding_id.clone(),
        rule_id: finding.rule_id.clone(),
        revision: 1,
        gone: false,
        digest: digest(&text),
        first: finding.first_event,
        last: finding.last_event,
        trigger: finding.trigger_time,
        group: finding.group.clone(),
        title: finding.title.clone(),
        severity: finding.severity.clone(),
        sinks: None,
    })
}

fn add_members(line: &mut Line, hunted: HuntedRule<'_>, revision: u32, supersedes: &[&str]) {
    line.insert("revision".to_owned(), revision.into());
    line.insert("supersedes".to_owned(), supersedes.into());
    line.insert("rule_version".to_owned(), hunted.version.into());
    line.insert("run".to_owned(), hunted.run.into());
    line.insert("lake_version".to_owned(), hunted.lake_version.into());
}

/// Returns the line that withdraws a finding. It supersedes itself.
fn withdrawal(known: &KnownFinding, hunted: HuntedRule<'_>) -> Line {
    let mut line: Map<String, Value> = Map::new();
    let id = known.finding_id.as_str();
    for (name, value) in [
        ("finding_id", json!(id)),
        ("rule_id", json!(known.rule_id)),
        ("title", json!(known.title)),
        ("severity", json!(known.severity)),
        ("group", json!(known.group)),
        ("count", json!(0)),
        ("first_event", json!(known.first)),
        ("last_event", json!(known.last)),
        ("trigger_time", json!(known.trigger)),
        ("event_ids", json!([])),
    ] {
        line.insert(name.to_owned(), value);
    }
    add_members(&mut line, hunted, known.revision, &[id]);
    line.insert("withdrawn".to_owned(), Value::Bool(true));
    line
}
