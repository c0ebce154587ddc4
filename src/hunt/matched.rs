//! The findings of rules in the matches of one scan.

use std::sync::Arc;

use super::finding_buffer::{ScanFindings, ScanFindingsWriter};
use super::known_data::KnownData;
use super::lookback::is_cut;
use super::match_origins::{MatchOrigins, ScannedMatches};
use super::match_table::MatchTable;
use super::seen::SeenKeys;
use super::windows::{RuleWindows, WindowRows, WindowRule};
use crate::engine::match_scan::{GroupThreshold, MatchScan};
use crate::engine::{Engine, duplicates};
use crate::error::Error;
use crate::rule::Rule;
use crate::sql::match_spec::MatchSpec;
use crate::statistics::Duplicates;
use crate::table::{SnapshotRecords, Table};
use crate::time::Range;

/// The rules of one scan, and what their hunt needs.
pub(super) struct ScannedRules<'r> {
    /// The rules of the hunt.
    rules: &'r [Rule],
    /// The indexes of those of the scan.
    scanned: &'r [usize],
    pub(super) spec: MatchSpec,
    pub(super) table: Arc<MatchTable>,
    /// The times of triggers of findings.
    pub(super) range: Range,
    /// Whether duplicates are counted.
    pub(super) counts_duplicates: bool,
}

/// The result of a hunt in one scan.
pub(super) struct Outcome {
    /// The findings. Those of undecided rules do not count.
    pub(super) findings: ScanFindings,
    /// The indexes, in the scan, of the rules that need a wider range.
    pub(super) undecided: Vec<usize>,
    /// The duplicates among the matches of all rules with a time in the range.
    pub(super) duplicates: Duplicates,
    /// For each rule of the scan the matches in the range that the data do not decide.
    pub(super) open_matches: Vec<u64>,
}

/// The other results of the windows of rules, besides findings.
#[derive(Debug, Default)]
pub(super) struct Remainder {
    /// The indexes, in the scan, of the rules whose windows at the start of the range are not known.
    pub(super) undecided: Vec<usize>,
    /// For each rule of the scan the matches that the data do not decide.
    pub(super) open_matches: Vec<u64>,
}

/// Adds the counts of some rules, given by their indexes, to those of all.
pub(super) fn add_counts(all: &mut [u64], counts: impl IntoIterator<Item = (usize, u64)>) {
    for (rule, count) in counts {
        if let Some(all) = all.get_mut(rule) {
            *all += count;
        }
    }
}

impl<'r> ScannedRules<'r> {
    /// Returns the scan for those of `rules` with the indexes `scanned`. A rule sees the matches with a time in its own range of
    /// `reads` only. What other rules need must not decide which of several duplicates counts.
    pub(super) fn new(
        rules: &'r [Rule],
        scanned: &'r [usize],
        reads: &[Range],
        range: Range,
        known: &KnownData,
    ) -> ScannedRules<'r> {
        let read = reads.iter().copied().reduce(Range::union).unwrap_or_default();
        let scanned_rules: Vec<&Rule> = scanned.iter().map(|index| &rules[*index]).collect();
        let spec = MatchSpec::new(&scanned_rules, read);
        let seen = scanned.iter().zip(reads).map(|(index, read)| known.seen_keys(*index, *read).cloned());
        let seen: Vec<Option<SeenKeys>> = seen.collect();
        let window_rules = scanned_rules.iter().zip(reads).zip(&spec.rules).zip(&seen);
        let window_rules = window_rules.map(|(((rule, read), spec), seen)| {
            WindowRule::new(rule, *read, spec.columns.clone(), known, seen.is_some())
        });
        let table = MatchTable::new(window_rules.collect(), known.starts.clone()).with_seen(seen);
        let table = Arc::new(table);
        ScannedRules { rules, scanned, spec, table, range, counts_duplicates: false }
    }

    /// Returns the findings in `records` of `table` whose trigger lies in the range.
    ///
    /// # Errors
    /// The scan failed, or a query over its matches.
    pub(super) async fn hunt(
        &self,
        engine: &Engine,
        table: &dyn Table,
        records: &SnapshotRecords,
    ) -> Result<Outcome, Error> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = engine.cluster() {
            return super::stages::hunt(engine, cluster, records, self).await;
        }
        let failed = |error| Error::query("the records", error);
        let scan = MatchScan::new(engine, Arc::clone(&records.provider), &self.spec).await.map_err(failed)?;
        let scan = scan.with_group_counts(self.group_thresholds());
        let buffer = Arc::new(scan.buffer().await.map_err(failed)?);
        let duplicates = if self.counts_duplicates {
            let counted = duplicates::among_matches(engine, &buffer, self.spec.call, self.range).await;
            counted.map_err(|error| Error::query("the duplicates among the matches", error))?
        } else {
            Duplicates::default()
        };
        let buffer = buffer.without_sparse_groups(engine).await.map_err(failed)?;
        let rules = self.table.rules().iter().zip(&buffer.counts).enumerate();
        let candidates = rules.filter(|(_, (rule, count))| rule.is_candidate(**count)).map(|(index, _)| index);
        let candidates: Vec<usize> = candidates.collect();
        let (counts, triggers) = (&buffer.counts, self.range);
        let origins = MatchOrigins::of(engine, table, &self.spec, &buffer).await?.map(Arc::new);
        let rows = ScannedMatches { matches: Arc::clone(&buffer), origins };
        let windows = RuleWindows { engine, table: &self.table, rows: &rows, counts, triggers };
        let (mut found, mut undecided) = (self.findings(engine)?, Vec::new());
        let mut open_matches = vec![0; self.scanned.len()];
        let counted = windows.count(&candidates, |rows| {
            match rows {
                WindowRows::Findings(batch) => found.add(&batch)?,
                WindowRows::Undecided(rules) => undecided.extend(rules),
                WindowRows::Open(counts) => add_counts(&mut open_matches, counts),
            }
            Ok(())
        });
        counted.await?;
        self.outcome(found, Remainder { undecided, open_matches }, duplicates)
    }

    fn group_thresholds(&self) -> Vec<GroupThreshold> {
        let rules = self.table.rules().iter().enumerate();
        rules.filter_map(|(index, rule)| rule.group_threshold(index, self.spec.credential(), self.range)).collect()
    }

    /// Returns a writer for the findings of the rules.
    ///
    /// # Errors
    /// The findings cannot be kept.
    pub(super) fn findings(&self, engine: &Engine) -> Result<ScanFindingsWriter, Error> {
        ScanFindingsWriter::new(engine, &self.table, self.rules, self.scanned)
    }

    /// Returns the outcome, given all findings and what the windows say besides them.
    ///
    /// # Errors
    /// The findings cannot be kept.
    pub(super) fn outcome(
        &self,
        found: ScanFindingsWriter,
        Remainder { mut undecided, open_matches }: Remainder,
        duplicates: Duplicates,
    ) -> Result<Outcome, Error> {
        for (index, last) in found.last_events().enumerate() {
            if is_cut(self.rules[self.scanned[index]].setting(), last.into_iter(), self.table.rules()[index].read) {
                undecided.push(index);
            }
        }
        undecided.sort_unstable();
        undecided.dedup();
        Ok(Outcome { findings: found.finish()?, undecided, duplicates, open_matches })
    }
}
