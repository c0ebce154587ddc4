//! The findings of rules in the matches of one scan.

use std::sync::Arc;

use super::lookback::is_cut;
use super::match_table::MatchTable;
use super::windows::{RuleWindows, WindowRows, WindowRule};
use crate::engine::match_scan::MatchScan;
use crate::engine::{Engine, duplicates};
use crate::error::Error;
use crate::finding::{Finding, FindingSchema, FindingsBuilder};
use crate::rule::Rule;
use crate::sql::match_spec::MatchSpec;
use crate::statistics::Duplicates;
use crate::table::SnapshotRecords;
use crate::time::Range;

/// The rules of one scan, and what their hunt needs.
pub(super) struct ScannedRules<'r> {
    rules: Vec<&'r Rule>,
    pub(super) spec: MatchSpec,
    pub(super) table: Arc<MatchTable>,
    /// The times of triggers of findings.
    pub(super) range: Range,
    /// Whether duplicates are counted.
    pub(super) counts_duplicates: bool,
}

/// The result of a hunt in one scan.
pub(super) struct Outcome {
    /// The findings of each rule.
    pub(super) findings: Vec<Vec<Finding>>,
    /// The indexes of the rules that need a wider range. They have no findings here.
    pub(super) undecided: Vec<usize>,
    /// The duplicates among the matches of all rules with a time in the range.
    pub(super) duplicates: Duplicates,
}

impl<'r> ScannedRules<'r> {
    /// Returns the scan for `rules`. A rule sees the matches with a time in its own range of `reads` only. What other rules need
    /// must not decide which of several duplicates counts.
    pub(super) fn new(rules: &[&'r Rule], reads: &[Range], range: Range, counts_duplicates: bool) -> ScannedRules<'r> {
        let read = reads.iter().copied().reduce(Range::union).unwrap_or_default();
        let spec = MatchSpec::new(rules, read);
        let window_rules = rules.iter().zip(reads).zip(&spec.rules);
        let window_rules = window_rules.map(|((rule, read), spec)| WindowRule::new(rule, *read, spec.columns.clone()));
        let table = Arc::new(MatchTable::new(window_rules.collect()));
        ScannedRules { rules: rules.to_vec(), spec, table, range, counts_duplicates }
    }

    /// Returns the findings in `records` whose trigger lies in the range.
    ///
    /// # Errors
    /// The scan failed, or a query over its matches.
    pub(super) async fn hunt(&self, engine: &Engine, records: &SnapshotRecords) -> Result<Outcome, Error> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = engine.cluster() {
            return super::stages::hunt(engine, cluster, records, self).await;
        }
        let failed = |error| Error::query("the records", error);
        let scan = MatchScan::new(engine, Arc::clone(&records.provider), &self.spec).await.map_err(failed)?;
        let buffer = Arc::new(scan.buffer().await.map_err(failed)?);
        let duplicates = if self.counts_duplicates {
            let counted = duplicates::among_matches(engine, &buffer, self.spec.call, self.range).await;
            counted.map_err(|error| Error::query("the duplicates among the matches", error))?
        } else {
            Duplicates::default()
        };
        let rules = self.table.rules().iter().zip(&buffer.counts).enumerate();
        let candidates = rules.filter(|(_, (rule, count))| **count >= rule.least_matches).map(|(index, _)| index);
        let candidates: Vec<usize> = candidates.collect();
        let (counts, triggers) = (&buffer.counts, self.range);
        let windows = RuleWindows { engine, table: &self.table, rows: &buffer, counts, triggers };
        let (mut found, mut undecided) = (self.findings(), Vec::new());
        let counted = windows.count(&candidates, |rows| {
            match rows {
                WindowRows::Findings(batch) => found.add(&batch)?,
                WindowRows::Undecided(rules) => undecided.extend(rules),
            }
            Ok(())
        });
        counted.await?;
        Ok(self.outcome(found, undecided, duplicates))
    }

    /// Returns a builder for the findings of the rules.
    pub(super) fn findings(&self) -> FindingsBuilder<'_> {
        let rules = self.rules.iter().enumerate();
        let schemas = rules.map(|(index, rule)| FindingSchema { rule, columns: self.table.columns_of(index) });
        FindingsBuilder::new(schemas.collect())
    }

    /// Returns the outcome, given all findings and the rules whose windows at the start of the range are not known.
    pub(super) fn outcome(
        &self,
        found: FindingsBuilder<'_>,
        mut undecided: Vec<usize>,
        duplicates: Duplicates,
    ) -> Outcome {
        let mut findings = found.finish();
        for (index, (rule, found)) in self.rules.iter().zip(&findings).enumerate() {
            if is_cut(rule.window, super::last_events(found), self.table.rules()[index].read) {
                undecided.push(index);
            }
        }
        undecided.sort_unstable();
        undecided.dedup();
        for index in &undecided {
            findings[*index].clear();
        }
        Outcome { findings, undecided, duplicates }
    }
}
