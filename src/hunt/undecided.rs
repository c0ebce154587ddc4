//! The events for which a rule in Python cannot be evaluated, found in the scan of a hunt.
//!
//! Such an event counts as a match, so that it does not escape the rule. For each rule in Python that a hunt evaluates, it has one
//! more rule, whose matches are these events.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::Serialize;

use super::hunt_buffered;
use crate::engine::Engine;
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::python::MATCHED;
use crate::rule::{Counts, Field, Operand, PeakLimits, Predicate, Rule, Test, Value, Window, WindowKind};
use crate::table::Table;
use crate::time::{Period, Range};

/// Maximum number of events of a rule that are named.
const MAX_NAMED: usize = 5;

/// The events that a rule could not decide. Its field names are part of the JSON output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndecidedEvents {
    /// The id of the rule.
    pub rule_id: String,
    /// The number of events. An `eventID` counts once.
    pub events: u64,
    /// The `eventID`s of the first events.
    pub event_ids: Vec<String>,
}

impl UndecidedEvents {
    /// Returns the events on one line.
    pub fn sentence(&self) -> String {
        let UndecidedEvents { rule_id, events, event_ids } = self;
        let events = crate::statistics::number_of(*events, "event");
        let example = event_ids.first().map_or_else(String::new, |id| format!(", such as `{id}`"));
        format!("rule `{rule_id}` could not be evaluated for {events}{example}: each counts as a match")
    }
}

/// Returns rules whose matches are the events in `range` that `rules` cannot decide. Rules with one id have one.
pub(super) fn rules_of_undecided(rules: &[Rule], range: Range) -> Vec<Rule> {
    let mut of_ids: BTreeMap<&str, Rule> = BTreeMap::new();
    for rule in rules {
        if !of_ids.contains_key(rule.id.as_str())
            && let Some(of_undecided) = rule_of_undecided(rule, range)
        {
            of_ids.insert(&rule.id, of_undecided);
        }
    }
    of_ids.into_values().collect()
}

/// Returns `None` if the rule decides every event.
fn rule_of_undecided(rule: &Rule, range: Range) -> Option<Rule> {
    let scanned = rule.scanned();
    let mut questions = Vec::new();
    scanned.fields(&mut |field| {
        if let Field::Python(function) = field {
            let field = Field::Python(Arc::new(function.as_ref().clone().asking_if_undecided()));
            let value = Value { text: MATCHED.to_owned(), shortest: None };
            questions.push(Predicate::Test { field, test: Test::Equals(Operand::Value(value)), negated: false });
        }
    });
    if questions.is_empty() {
        return None;
    }
    // The question comes last: it is then asked only of what seems to match.
    let undecided = vec![scanned.clone().into_owned(), Predicate::During(range), Predicate::Any(questions)];
    Some(counting_rule(rule, Predicate::All(undecided)))
}

/// Returns a rule that has a finding for each hour with events that satisfy `detection`. It shares the name of `rule`.
pub(super) fn counting_rule(rule: &Rule, detection: Predicate) -> Rule {
    Rule {
        detection,
        window: Window { kind: WindowKind::Tumbling, period: Period::HOUR, threshold: NonZeroU32::MIN },
        counts: Counts::Matches,
        peak_limits: PeakLimits::default(),
        min_events: None,
        title: Vec::new(),
        dynamic_severities: Vec::new(),
        group_by: Vec::new(),
        first_seen: None,
        absence: None,
        context: Vec::new(),
        summary: Vec::new(),
        tests: Vec::new(),
        ..rule.clone()
    }
}

/// Collects the events of the findings of [`rules_of_undecided`].
#[derive(Debug, Default)]
pub(super) struct UndecidedCounter(BTreeMap<String, UndecidedEvents>);

impl UndecidedCounter {
    pub(super) fn add(&mut self, finding: &Finding) {
        let undecided = self.0.entry(finding.rule_id.clone()).or_insert_with(|| UndecidedEvents {
            rule_id: finding.rule_id.clone(),
            events: 0,
            event_ids: Vec::new(),
        });
        undecided.events += finding.count;
        let room = MAX_NAMED.saturating_sub(undecided.event_ids.len());
        undecided.event_ids.extend(finding.event_ids.iter().take(room).cloned());
    }

    /// Returns the events of each rule that has some.
    pub(super) fn finish(self) -> Vec<UndecidedEvents> {
        self.0.into_values().collect()
    }
}

/// Returns the events in `range` that `rules` cannot decide. Reads `table` only if a rule may have such events.
///
/// # Errors
/// As for [`hunt_buffered`].
pub async fn undecided_events(
    engine: &Engine,
    table: &dyn Table,
    rules: &[Rule],
    range: Range,
) -> Result<Vec<UndecidedEvents>, Error> {
    let rules = rules_of_undecided(rules, range);
    let mut counter = UndecidedCounter::default();
    if !rules.is_empty() {
        let hunted = Box::pin(hunt_buffered(engine, table, &rules, range)).await?;
        let mut reader = hunted.findings.read().await?;
        while let Some(finding) = reader.next().await? {
            counter.add(&finding);
        }
    }
    Ok(counter.finish())
}
