//! The effect of exceptions on a hunt, measured in the same scan, and the events that rules cannot decide.
//!
//! For each exception of a rule, a hunt has two more rules: one whose matches are the events that the exception removes, and
//! one that is the rule without that exception.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::known_data::KnownData;
use super::undecided::{self, UndecidedCounter, UndecidedEvents};
use super::{BufferedHunt, FindingBuffer, HuntOutcome, hunt_buffered, hunt_with_known};
use crate::engine::Engine;
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::exceptions::Exception;
use crate::rule::{Predicate, Rule, WindowKind, limits};
use crate::table::Table;
use crate::time::{Instant, Range};

/// Rules to hunt, and the further rules that show what their exceptions remove and which events they cannot decide.
#[derive(Debug)]
pub struct ExceptedHunt {
    /// The rules, then for each pair the rule of the removed events and the rule without the exception, then the rules of
    /// undecided events.
    all: Vec<Rule>,
    /// The number of rules to hunt.
    count: usize,
    /// The exceptions, each with the index of its rule.
    pairs: Vec<(usize, Arc<Exception>)>,
    range: Range,
}

/// The effects of exceptions in a hunt, and the events that its rules could not decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleEffects {
    /// The effect of each exception of each rule.
    pub exceptions: Vec<ExceptionEffect>,
    /// The events in the range that rules could not decide.
    pub undecided: Vec<UndecidedEvents>,
}

/// The effect of an exception on the results of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionEffect {
    /// The exception.
    pub exception: Arc<Exception>,
    /// The id of the rule.
    pub rule_id: String,
    /// The windows of the rule.
    pub window: WindowKind,
    /// The number of events in the range that match the rule and satisfy the exception. An `eventID` counts once.
    pub events: u64,
    /// The number of findings that the rule has without this exception and not with it.
    pub findings: u64,
}

impl ExceptedHunt {
    /// Returns the hunt of `rules` for findings with a trigger in `range`.
    ///
    /// # Errors
    /// There are too many exceptions of rules.
    pub fn new(rules: Vec<Rule>, range: Range) -> Result<ExceptedHunt, Error> {
        let (count, mut all) = (rules.len(), rules);
        let pairs: Vec<(usize, Arc<Exception>)> = all
            .iter()
            .enumerate()
            .flat_map(|(index, rule)| rule.exceptions().iter().map(move |exception| (index, Arc::clone(exception))))
            .collect();
        if pairs.len() > limits::EXCEPTED_RULES {
            let most = limits::EXCEPTED_RULES;
            return Err(Error::Usage {
                message: format!("the rules have {} exceptions together, and at most {most} are allowed", pairs.len()),
                hint: Some("name rules instead of \"*\", or join conditions with `Any` in one exception".to_owned()),
            });
        }
        for (index, exception) in &pairs {
            let further = [removed_events(&all[*index], exception, range), without(&all[*index], exception)];
            all.extend(further);
        }
        all.extend(undecided::rules_of_undecided(&all[..count], range));
        Ok(ExceptedHunt { all, count, pairs, range })
    }

    /// Returns the rules to hunt.
    pub fn rules(&self) -> &[Rule] {
        &self.all[..self.count]
    }

    /// Hunts as [`hunt_buffered`] does, and returns what it shows about the rules.
    ///
    /// # Errors
    /// As for [`hunt_buffered`].
    pub async fn hunt_buffered(
        &self,
        engine: &Engine,
        table: &dyn Table,
    ) -> Result<(BufferedHunt<'_>, RuleEffects), Error> {
        let mut outcome = hunt_buffered(engine, table, &self.all, self.range).await?;
        let effects = self.effects(&outcome.findings).await?;
        outcome.findings.keep_first(self.count);
        outcome.open_matches.truncate(self.count);
        Ok((outcome, effects))
    }

    /// Hunts as [`hunt_with_known`] does, and returns what it shows about the rules.
    ///
    /// # Errors
    /// As for [`hunt_with_known`].
    pub async fn hunt_with_known(
        &self,
        engine: &Engine,
        table: &dyn Table,
        known: &KnownData,
    ) -> Result<(HuntOutcome, RuleEffects), Error> {
        let mut outcome = hunt_with_known(engine, table, &self.all, self.range, known).await?;
        let mut effects = EffectCounter::new(self);
        for (rule, findings) in outcome.findings.iter().enumerate() {
            for finding in findings {
                effects.add(rule, finding);
            }
        }
        outcome.findings.truncate(self.count);
        outcome.open_matches.truncate(self.count);
        Ok((outcome, effects.finish()))
    }

    async fn effects(&self, findings: &FindingBuffer<'_>) -> Result<RuleEffects, Error> {
        let mut effects = EffectCounter::new(self);
        if self.all.len() > self.count {
            let mut reader = findings.read().await?;
            while let Some((rule, finding)) = reader.next_of_rule().await? {
                effects.add(rule, &finding);
            }
        }
        Ok(effects.finish())
    }
}

/// Returns a rule whose matches are the events in `range` that an exception removes from those of `rule`. It has a finding for
/// each hour with matches.
fn removed_events(rule: &Rule, exception: &Exception, range: Range) -> Rule {
    let matches = rule.detection_without_exceptions().clone();
    let removed = vec![matches, exception.condition(), Predicate::During(range)];
    undecided::counting_rule(rule, Predicate::All(removed))
}

/// Returns `rule` without one of its exceptions.
fn without(rule: &Rule, exception: &Exception) -> Rule {
    let others = rule.exceptions().iter().filter(|other| other.id != exception.id).map(Arc::clone);
    let others: Vec<Arc<Exception>> = others.collect();
    let matches = rule.detection_without_exceptions().clone();
    let detection = match others.as_slice() {
        [] => matches,
        _ => Predicate::Except { matches: Box::new(matches), exceptions: others },
    };
    Rule { detection, ..rule.clone() }
}

/// Counts what exceptions remove, and the events that rules cannot decide.
struct EffectCounter<'h> {
    hunt: &'h ExceptedHunt,
    /// The findings of rules with exceptions, by the index of the rule.
    own: HashSet<(usize, String)>,
    /// For each pair the ids of the findings without the exception.
    without: Vec<Vec<String>>,
    /// For each pair the number of removed events.
    events: Vec<u64>,
    /// Whether each of the rules has exceptions.
    is_excepted: Vec<bool>,
    undecided: UndecidedCounter,
}

impl<'h> EffectCounter<'h> {
    fn new(hunt: &'h ExceptedHunt) -> EffectCounter<'h> {
        let pairs = hunt.pairs.len();
        let is_excepted = hunt.rules().iter().map(|rule| !rule.exceptions().is_empty()).collect();
        EffectCounter {
            hunt,
            own: HashSet::new(),
            without: vec![Vec::new(); pairs],
            events: vec![0; pairs],
            is_excepted,
            undecided: UndecidedCounter::default(),
        }
    }

    /// Adds a finding of the rule with this index among all of the hunt.
    fn add(&mut self, rule: usize, finding: &Finding) {
        match rule.checked_sub(self.hunt.count) {
            None if self.is_excepted[rule] => {
                self.own.insert((rule, finding.finding_id.clone()));
            }
            None => {}
            Some(further) if further >= 2 * self.hunt.pairs.len() => self.undecided.add(finding),
            Some(further) if further % 2 == 0 => self.events[further / 2] += finding.count,
            Some(further) => self.without[further / 2].push(finding.finding_id.clone()),
        }
    }

    fn finish(self) -> RuleEffects {
        let effect = |(pair, without): (usize, Vec<String>)| {
            let (index, exception) = &self.hunt.pairs[pair];
            let rule = &self.hunt.all[*index];
            let findings = without.into_iter().filter(|id| !self.own.contains(&(*index, id.clone()))).count() as u64;
            let (exception, events) = (Arc::clone(exception), self.events[pair]);
            ExceptionEffect { exception, rule_id: rule.id.clone(), window: rule.window.kind, events, findings }
        };
        let exceptions = self.without.into_iter().enumerate().map(effect).collect();
        RuleEffects { exceptions, undecided: self.undecided.finish() }
    }
}

/// The effects of an exception in a run. Its field names are part of the JSON output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExceptionReport {
    /// The id of the exception.
    pub id: String,
    /// Why the events are expected.
    pub reason: String,
    /// Who answers for the exception.
    pub owner: String,
    /// The time of the first event that it may apply to.
    pub from: Option<Instant>,
    /// The time from which on it applies to no event.
    pub until: Instant,
    /// Its file.
    pub file: String,
    /// The line of its start, from 1.
    pub line: usize,
    /// Its effect on each hunted rule.
    pub rules: Vec<RuleEffect>,
    /// Whether the run hunted any of its rules, and it removed no event.
    pub matched_nothing: bool,
    /// Whether it applies to no event from the end of the range on.
    pub expired: bool,
}

/// The effect of an exception on a rule, in the JSON output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleEffect {
    /// The id of the rule.
    pub rule_id: String,
    /// The windows of the rule.
    pub window: String,
    /// The number of events that match the rule and satisfy the exception.
    pub events_removed: u64,
    /// The number of findings that the rule has without this exception and not with it.
    pub findings_removed: u64,
}

/// Returns a report on each exception of `rules`, in the order of files and lines. Effects of several hunts of a rule are
/// added. `end` is the end of the range.
pub fn reports(rules: &[Rule], effects: &[ExceptionEffect], end: Instant) -> Vec<ExceptionReport> {
    let mut exceptions: BTreeMap<(&str, usize), &Arc<Exception>> = BTreeMap::new();
    for exception in rules.iter().flat_map(Rule::exceptions) {
        exceptions.insert((&exception.file, exception.line), exception);
    }
    let report = |exception: &Arc<Exception>| {
        let mut of_rules: BTreeMap<(&str, WindowKind), (u64, u64)> = BTreeMap::new();
        for effect in effects.iter().filter(|effect| effect.exception.id == exception.id) {
            let total = of_rules.entry((&effect.rule_id, effect.window)).or_default();
            *total = (total.0 + effect.events, total.1 + effect.findings);
        }
        let rule = |((rule_id, window), (events, findings)): ((&str, WindowKind), (u64, u64))| RuleEffect {
            rule_id: rule_id.to_owned(),
            window: window.to_string(),
            events_removed: events,
            findings_removed: findings,
        };
        let rules: Vec<RuleEffect> = of_rules.into_iter().map(rule).collect();
        ExceptionReport {
            id: exception.id.clone(),
            reason: exception.reason.clone(),
            owner: exception.owner.clone(),
            from: exception.from,
            until: exception.until,
            file: exception.file.clone(),
            line: exception.line,
            matched_nothing: !rules.is_empty() && rules.iter().all(|rule| rule.events_removed == 0),
            rules,
            expired: exception.until <= end,
        }
    };
    exceptions.into_values().map(report).collect()
}
