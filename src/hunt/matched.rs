//! The findings of rules in the matches of one scan.

use std::sync::Arc;

use super::finding_buffer::{ScanFindings, ScanFindingsWriter};
use super::known_data::KnownData;
use super::lookback::is_cut;
use super::match_origins::{MatchOrigins, ScannedMatches};
use super::match_table::{MatchTable, TriggerValues};
use super::seen::KnownKeys;
use super::triggers::NumberedFindings;
use super::windows::{RuleWindows, WindowRows, WindowRule};
use crate::engine::match_scan::{GroupThreshold, KeyQuestion, KeyedRule, MatchScan};
use crate::engine::seen_keys::SeenKeys;
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
    /// For each rule of the scan the keys that were seen before what its hunt reads, if they are known.
    seen: Vec<Option<SeenKeys>>,
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

/// Records of a table, and the engine that scans them.
struct HuntedData<'h> {
    engine: &'h Engine,
    table: &'h dyn Table,
    records: &'h SnapshotRecords,
}

/// The results of the windows of the rules of a scan.
pub(super) struct WindowResults {
    pub(super) findings: ScanFindingsWriter,
    /// The indexes, in the scan, of the rules whose windows at the start of the range are not known.
    undecided: Vec<usize>,
    /// For each rule of the scan the matches that the data do not decide.
    open_matches: Vec<u64>,
    pub(super) duplicates: Duplicates,
}

impl WindowResults {
    /// Adds a part of the results.
    ///
    /// # Errors
    /// The findings cannot be kept.
    pub(super) fn add(&mut self, part: WindowRows) -> Result<(), Error> {
        match part {
            WindowRows::Findings(batch) => self.findings.add(&batch)?,
            WindowRows::Undecided(rules) => self.undecided.extend(rules),
            WindowRows::Open(counts) => {
                for (rule, count) in counts {
                    if let Some(all) = self.open_matches.get_mut(rule) {
                        *all += count;
                    }
                }
            }
        }
        Ok(())
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
        let table = MatchTable::new(window_rules.collect(), known.starts.clone(), TriggerValues::Numbered);
        ScannedRules { rules, scanned, spec, table: Arc::new(table), seen, range, counts_duplicates: false }
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
        let mut results = WindowResults {
            findings: ScanFindingsWriter::new(engine, &self.table, self.rules, self.scanned)?,
            undecided: Vec::new(),
            open_matches: vec![0; self.scanned.len()],
            duplicates: Duplicates::default(),
        };
        let all: Vec<usize> = (0..self.scanned.len()).collect();
        let data = HuntedData { engine, table, records };
        #[cfg(feature = "cluster")]
        if let Some(cluster) = engine.cluster() {
            let (here, there): (Vec<usize>, Vec<usize>) =
                all.iter().partition(|index| self.table.rules()[**index].needs_origins);
            if there.is_empty() {
                self.count_here(&data, &self.spec, &all, &mut results).await?;
            } else {
                super::stages::count(engine, cluster, records, self, &mut results).await?;
                if !here.is_empty() {
                    let spec = self.spec.for_rules(|index| here.contains(&index));
                    self.count_here(&data, &spec, &here, &mut results).await?;
                }
            }
            return self.outcome(results);
        }
        self.count_here(&data, &self.spec, &all, &mut results).await?;
        self.outcome(results)
    }

    /// Adds the results of the windows of the rules with the indexes `rules` to `results`. `spec` is the scan, or a part of it that finds
    /// their matches. Duplicates are counted only among the matches of all rules.
    async fn count_here(
        &self,
        data: &HuntedData<'_>,
        spec: &MatchSpec,
        rules: &[usize],
        results: &mut WindowResults,
    ) -> Result<(), Error> {
        let HuntedData { engine, table, records } = *data;
        let failed = |error| Error::query("the records", error);
        let scan = MatchScan::new(engine, Arc::clone(&records.provider), spec).await.map_err(failed)?;
        let scan = scan.with_decisions(self.group_thresholds(rules), self.keyed_rules(rules));
        let buffer = Arc::new(scan.buffer().await.map_err(failed)?);
        if self.counts_duplicates && rules.len() == self.scanned.len() {
            let counted = duplicates::among_matches(engine, &buffer, spec.call, self.range).await;
            results.duplicates = counted.map_err(|error| Error::query("the duplicates among the matches", error))?;
        }
        let buffer = buffer.decisive(engine).await.map_err(failed)?;
        let (counts, triggers) = (&buffer.counts, self.range);
        let is_candidate = |index: &usize| self.table.rules()[*index].is_candidate(counts[*index]);
        let candidates: Vec<usize> = rules.iter().copied().filter(is_candidate).collect();
        let origins = MatchOrigins::of(engine, table, spec, &buffer).await?.map(Arc::new);
        let known_keys = KnownKeys::of(&self.table, &self.seen, &buffer).await?;
        let rows = ScannedMatches { matches: Arc::clone(&buffer), origins, known_keys };
        let windows = RuleWindows { engine, table: &self.table, rows: &rows, counts, triggers };
        let mut numbered = NumberedFindings::new(engine, &self.table)?;
        let counted = windows.count(&candidates, |part| match part {
            WindowRows::Findings(batch) => numbered.add(&batch),
            part => results.add(part),
        });
        counted.await?;
        numbered.complete(engine, &self.table, &rows, &mut results.findings).await
    }

    fn group_thresholds(&self, rules: &[usize]) -> Vec<GroupThreshold> {
        let threshold =
            |index: &usize| self.table.rules()[*index].group_threshold(*index, self.spec.credential(), self.range);
        rules.iter().filter_map(threshold).collect()
    }

    fn keyed_rules(&self, rules: &[usize]) -> Vec<KeyedRule> {
        let keyed = |index: &usize| {
            let rule = &self.table.rules()[*index];
            let keyed = rule.keyed(*index, KeyQuestion::New(rule.newness?.history), self.spec.credential())?;
            Some(KeyedRule { seen: self.seen[*index].clone(), ..keyed })
        };
        rules.iter().filter_map(keyed).collect()
    }

    /// Returns the outcome of the windows of all rules.
    ///
    /// # Errors
    /// The findings cannot be kept.
    fn outcome(&self, results: WindowResults) -> Result<Outcome, Error> {
        let WindowResults { findings: found, mut undecided, open_matches, duplicates } = results;
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
