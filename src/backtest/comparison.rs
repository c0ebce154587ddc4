//! Two versions of a rule over the same data: which findings one has and the other has not.

use std::collections::HashSet;

use serde::Serialize;

use crate::engine::Resources;
use crate::error::Error;
use crate::finding::Finding;
use crate::hunt;
use crate::rule::Rule;
use crate::statistics::{Duplicates, ScanStatistics};
use crate::table::Table;
use crate::time::Range;

/// What changes from one version of a rule to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Findings of the second version that share no event with any of the first.
    pub gained: Vec<Finding>,
    /// Findings of the first version that share no event with any of the second.
    pub lost: Vec<Finding>,
    /// Findings of the second version that share events with some of the first.
    pub kept: Vec<Finding>,
    /// How many days were looked at; absent where that is not known.
    pub days: Option<f64>,
    /// The duplicates among what either version matches.
    pub duplicates: Duplicates,
    /// What was read.
    #[serde(skip)]
    pub read: ScanStatistics,
}

impl Comparison {
    /// Hunts for two versions of a rule in one scan.
    ///
    /// # Errors
    /// As of [`hunt::evaluate`].
    pub async fn run(
        resources: &Resources,
        table: &dyn Table,
        versions: &[Rule; 2],
        range: Range,
    ) -> Result<Comparison, Error> {
        let outcome = Box::pin(hunt::hunt(resources, table, versions, range)).await?;
        let days = super::span(range, outcome.read.times).map(super::days);
        let (mut found, read) = (outcome.findings.into_iter(), outcome.read);
        let [before, after] = [found.next(), found.next()].map(Option::unwrap_or_default);
        let comparison = Comparison::of(&before, after, days);
        Ok(Comparison { duplicates: outcome.duplicates, read, ..comparison })
    }

    /// Whether any finding was gained or lost.
    pub fn has_changes(&self) -> bool {
        !self.gained.is_empty() || !self.lost.is_empty()
    }

    /// The change in few words.
    pub fn sentence(&self) -> String {
        let span = self.days.map(|days| format!(" in {}", super::length(days))).unwrap_or_default();
        format!("+{} / -{} findings{span}, {} kept", self.gained.len(), self.lost.len(), self.kept.len())
    }

    fn of(before: &[Finding], after: Vec<Finding>, days: Option<f64>) -> Comparison {
        let events = |findings: &[Finding]| -> HashSet<String> {
            findings.iter().flat_map(|finding| finding.event_ids.iter().cloned()).collect()
        };
        let (old, new) = (events(before), events(&after));
        let shares =
            |finding: &Finding, events: &HashSet<String>| finding.event_ids.iter().any(|id| events.contains(id));
        let lost = before.iter().filter(|finding| !shares(finding, &new)).cloned().collect();
        let (kept, gained) = after.into_iter().partition(|finding| shares(finding, &old));
        Comparison { gained, lost, kept, days, duplicates: Duplicates::default(), read: ScanStatistics::default() }
    }
}
