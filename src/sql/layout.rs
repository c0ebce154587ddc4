//! Under which names a query returns what a finding tells.

use std::fmt::Display;

use crate::rule::Rule;
use crate::text::printable;

/// The rule of a row of `matched`, by its number.
pub const RULE: &str = "rule";
/// The threshold of that rule.
pub const THRESHOLD: &str = "threshold";
/// The period of that rule.
pub const PERIOD: &str = "period";
/// The number of a match's group.
pub const GROUP: &str = "group";
/// The value of which distinct ones are counted.
pub const COUNTED: &str = "counted";
/// What tells copies of a record apart.
pub const FINGERPRINT: &str = "fingerprint";

/// The time of the duplicate before this one.
pub const PREVIOUS_COPY_TIME: &str = "previous_copy_time";

/// The columns of a rule's findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// For each field of the group.
    pub group: Vec<String>,
    /// For each output field.
    pub context: Vec<String>,
    /// For each field of the title.
    pub title: Vec<String>,
    /// The dynamic severity, where the rule has any.
    pub severity: Option<String>,
    /// For each summary field, the list of its distinct values.
    pub summary: Vec<String>,
}

/// Names for `fields`: no two are the same, and what is hidden in a field's own name is visible in it.
fn named<F: Display>(kind: &str, fields: impl Iterator<Item = F>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for field in fields {
        let mut name = format!("{kind}.{}", printable(&field.to_string()));
        while names.contains(&name) {
            name.push('_');
        }
        names.push(name);
    }
    names
}

impl Layout {
    /// The names in the query of one rule: they tell the fields.
    pub fn of(rule: &Rule) -> Layout {
        Layout {
            group: named("group", rule.group_by.iter()),
            context: named("context", rule.context.iter().map(|(name, _)| name)),
            title: named("title", rule.title_fields().into_iter()),
            severity: (!rule.dynamic_severities.is_empty()).then(|| "severity".to_owned()),
            summary: named("summary", rule.summary.iter()),
        }
    }

    /// What is told of the event that triggered.
    pub fn told(&self) -> impl Iterator<Item = String> {
        self.context.iter().chain(&self.title).chain(&self.severity).cloned()
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<String> {
        self.group.iter().cloned().chain(self.told()).chain(self.summary.iter().cloned()).collect()
    }

    /// The layout of the same rule with other names, given in the order of [`Layout::names`].
    #[must_use]
    pub fn renamed(&self, names: &mut impl Iterator<Item = String>) -> Layout {
        let mut of = |own: &[String]| names.take(own.len()).collect::<Vec<_>>();
        Layout {
            group: of(&self.group),
            context: of(&self.context),
            title: of(&self.title),
            severity: of(self.severity.as_slice()).pop(),
            summary: of(&self.summary),
        }
    }
}
