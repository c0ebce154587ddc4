//! Tests of rules that hunt several records.

use std::fmt;

use serde_json::{Map, Value, json};

/// A test of a rule: records, and the findings of a hunt in them.
#[derive(Debug, Clone, PartialEq)]
pub struct HuntTest {
    /// The name of the test.
    pub name: String,
    /// The records, as JSON text. Each has a readable `eventTime`.
    pub logs: Vec<String>,
    /// The findings, in the order of a hunt: by first event, then group.
    pub expected: Vec<ExpectedFinding>,
}

/// A finding that a test expects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExpectedFinding {
    /// Fields of the rule's group and their values, as text. `None` is a field without a value. Other fields of the
    /// group may have any value.
    pub group: Vec<(String, Option<String>)>,
    /// The events of the finding. Any events if `None`.
    pub events: Option<ExpectedEvents>,
}

/// The events of a finding that a test expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedEvents {
    /// This number of events.
    Count(u64),
    /// The events with these values of `eventID`, sorted.
    Ids(Vec<String>),
}

impl ExpectedFinding {
    /// Returns it as JSON, in the form that a rule file has.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        if !self.group.is_empty() {
            let group = self.group.iter().map(|(name, value)| (name.clone(), json!(value)));
            members.insert("Group".to_owned(), Value::Object(group.collect()));
        }
        match &self.events {
            Some(ExpectedEvents::Count(count)) => drop(members.insert("Events".to_owned(), json!(count))),
            Some(ExpectedEvents::Ids(ids)) => drop(members.insert("Events".to_owned(), json!(ids))),
            None => {}
        }
        Value::Object(members)
    }

    /// Returns whether a finding has this group and these events. `value` returns the text of a field of its group,
    /// and `ids` are the identities of its events, sorted.
    pub fn is_met(&self, value: impl Fn(&str) -> Option<String>, ids: &[String]) -> bool {
        let has_events = match &self.events {
            None => true,
            Some(ExpectedEvents::Count(count)) => u64::try_from(ids.len()).is_ok_and(|found| found == *count),
            Some(ExpectedEvents::Ids(expected)) => expected == ids,
        };
        has_events && self.group.iter().all(|(name, expected)| value(name) == *expected)
    }
}

impl fmt::Display for ExpectedFinding {
    /// Writes `actor alice, 3 events`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group.iter().map(|(name, value)| match value {
            Some(value) => format!("{name} {value}"),
            None => format!("no {name}"),
        });
        let events = self.events.iter().map(ToString::to_string);
        let parts: Vec<String> = group.chain(events).collect();
        f.write_str(if parts.is_empty() { "any" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for ExpectedEvents {
    /// Writes `3 events` or `events a b c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExpectedEvents::Count(1) => f.write_str("1 event"),
            ExpectedEvents::Count(count) => write!(f, "{count} events"),
            ExpectedEvents::Ids(ids) => write!(f, "events {}", ids.join(" ")),
        }
    }
}
