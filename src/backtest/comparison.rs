//! Compares the findings of two versions of a rule over the same data.

use std::collections::HashSet;

use serde::Serialize;

use crate::engine::Engine;
use crate::error::Error;
use crate::finding::Finding;
use crate::hunt;
use crate::rule::Rule;
use crate::statistics::{Duplicates, ScanStatistics};
use crate::table::Table;
use crate::time::Range;

/// The findings gained, lost and kept between two versions of a rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Findings of the second version that share no event with a finding of the first.
    pub gained: Vec<Finding>,
    /// Findings of the first version that share no event with a finding of the second.
    pub lost: Vec<Finding>,
    /// Findings of the second version that share an event with a finding of the first.
    pub kept: Vec<Finding>,
    /// The length of the tested time span in days. `None` if it is unknown.
    pub days: Option<f64>,
    /// The duplicates among the matches of both versions.
    pub duplicates: Duplicates,
    /// The scan statistics.
    #[serde(skip)]
    pub read: ScanStatistics,
}

impl Comparison {
    /// Hunts with both versions in one scan.
    ///
    /// # Errors
    /// Those of [`hunt::hunt`].
    pub async fn run(
        engine: &Engine,
        table: &dyn Table,
        versions: &[Rule; 2],
        range: Range,
    ) -> Result<Comparison, Error> {
        let outcome = Box::pin(hunt::hunt(engine, table, versions, range)).await?;
        let days = super::span(range, outcome.read.times).map(super::days);
        let (mut found, read) = (outcome.findings.into_iter(), outcome.read);
        let [before, after] = [found.next(), found.next()].map(Option::unwrap_or_default);
        let comparison = Comparison::of(&before, after, days);
        Ok(Comparison { duplicates: outcome.duplicates, read, ..comparison })
    }

    /// Returns whether any finding was gained or lost.
    pub fn has_changes(&self) -> bool {
        !self.gained.is_empty() || !self.lost.is_empty()
    }

    /// Returns the change as one line: `+1 / -2 findings in 9.0 days, 10 kept`.
    pub fn sentence(&self) -> String {
        let span = self.days.map(|days| format!(" in {}", super::days_text(days))).unwrap_or_default();
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
