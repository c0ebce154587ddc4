//! Under which names a query returns what a finding tells.

use crate::rule::{Field, Rule};

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

/// When the copy of a record before this one is.
pub const COPY_BEFORE: &str = "copy_before";

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

impl Layout {
    /// The names in the query of one rule: they tell the fields.
    pub fn of(rule: &Rule) -> Layout {
        let named = |kind: &str, field: &Field| format!("{kind}.{field}");
        Layout {
            group: rule.group_by.iter().map(|field| named("group", field)).collect(),
            context: rule.context.iter().map(|(name, _)| format!("context.{name}")).collect(),
            title: rule.title_fields().into_iter().map(|field| named("title", field)).collect(),
            severity: (!rule.dynamic_severities.is_empty()).then(|| "severity".to_owned()),
            summary: rule.summary.iter().map(|field| named("summary", field)).collect(),
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
