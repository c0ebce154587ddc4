//! The figures of a hunt's page, in bounded memory however many findings there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{GroupRow, TopGroups};
use crate::engine::Engine;
use crate::engine::keyed_rows::{KeyedPart, KeyedRowsReader, KeyedRowsWriter};
use crate::error::{Error, QueryFailure};
use crate::finding::Finding;
use crate::named_columns;
use crate::report::group;
use crate::time::{Instant, SECOND};

/// Groups that are counted in memory at a time.
const GROUPS_IN_MEMORY: usize = 20_000;

/// The findings of a hunt in figures, and the first of them.
#[derive(Debug)]
pub struct HuntSummary {
    /// The first findings, as many as a page shows.
    pub first: Vec<Finding>,
    most_shown: usize,
    pub(super) count: usize,
    pub(super) events: u64,
    pub(super) by_severity: BTreeMap<String, usize>,
    pub(super) by_rule: BTreeMap<String, usize>,
    /// The times of the first and the last trigger.
    pub(super) triggers: Option<(Instant, Instant)>,
    /// The number of triggers in each hour that has any, by the start of the hour. Bins begin and end at full hours.
    pub(super) by_hour: BTreeMap<Instant, usize>,
    groups: GroupCounts,
}

impl HuntSummary {
    /// Returns the summary of no findings. It keeps the first `most_shown`.
    pub fn new(engine: &Engine, most_shown: usize) -> HuntSummary {
        HuntSummary {
            first: Vec::new(),
            most_shown,
            count: 0,
            events: 0,
            by_severity: BTreeMap::new(),
            by_rule: BTreeMap::new(),
            triggers: None,
            by_hour: BTreeMap::new(),
            groups: GroupCounts { engine: engine.clone(), counts: BTreeMap::new(), stored: None },
        }
    }

    /// Adds a finding.
    ///
    /// # Errors
    /// A temporary file cannot be written.
    pub fn add(&mut self, finding: &Finding) -> Result<(), Error> {
        self.count += 1;
        self.events += finding.count;
        *self.by_severity.entry(finding.severity.clone()).or_default() += 1;
        *self.by_rule.entry(finding.rule_id.clone()).or_default() += 1;
        let time = finding.trigger_time;
        self.triggers = Some(self.triggers.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
        *self.by_hour.entry(time.rounded_down(3_600 * SECOND)).or_default() += 1;
        if self.first.len() < self.most_shown {
            self.first.push(finding.clone());
        }
        self.groups.add(finding)
    }

    /// Returns the groups with most findings, and the number of further groups.
    pub(super) async fn top_groups(&mut self) -> Result<(Vec<GroupRow>, usize), Error> {
        self.groups.top().await
    }
}

fn failed(error: impl Into<QueryFailure>) -> Error {
    Error::query("the groups of the findings", error)
}

/// The columns of stored groups.
const RULE: &str = "rule";
const NAME: &str = "name";
const FINDINGS: &str = "findings";
const EVENTS: &str = "events";

/// The findings and events of each group.
#[derive(Debug)]
struct GroupCounts {
    engine: Engine,
    /// By rule and name.
    counts: BTreeMap<(String, String), (usize, u64)>,
    /// Counts that did not fit into memory. A group may have several.
    stored: Option<KeyedRowsWriter>,
}

impl GroupCounts {
    fn add(&mut self, finding: &Finding) -> Result<(), Error> {
        let count = self.counts.entry((finding.rule_id.clone(), group(finding))).or_default();
        *count = (count.0 + 1, count.1 + finding.count);
        if self.counts.len() < GROUPS_IN_MEMORY { Ok(()) } else { self.store() }
    }

    /// Moves the counts in memory to the stored ones.
    fn store(&mut self) -> Result<(), Error> {
        let counts: Vec<_> = std::mem::take(&mut self.counts).into_iter().collect();
        let stored = match &mut self.stored {
            Some(stored) => stored,
            none @ None => none.insert(KeyedRowsWriter::new(&self.engine, counts_schema()).map_err(failed)?),
        };
        let text =
            |of: fn(&(String, String)) -> &str| StringArray::from_iter_values(counts.iter().map(|(key, _)| of(key)));
        let findings =
            Int64Array::from_iter_values(counts.iter().map(|(_, (findings, _))| (*findings as u64).cast_signed()));
        let events = Int64Array::from_iter_values(counts.iter().map(|(_, (_, events))| events.cast_signed()));
        let columns = vec![
            Arc::new(text(|(rule, _)| rule)) as _,
            Arc::new(text(|(_, name)| name)) as _,
            Arc::new(findings) as _,
            Arc::new(events) as _,
        ];
        let batch = RecordBatch::try_new(counts_schema(), columns);
        let batch = batch.map_err(|error| Error::Internal(format!("the groups of the findings: {error}")))?;
        let stored = stored.push(&batch, |row| {
            let ((rule, name), _) = &counts[row];
            // No text holds this byte, so no two groups have one key.
            Ok(([rule.as_bytes(), &[u8::MAX], name.as_bytes()].concat(), 0))
        });
        stored.map_err(failed)
    }

    /// Returns the groups with most findings, and the number of further groups.
    async fn top(&mut self) -> Result<(Vec<GroupRow>, usize), Error> {
        let mut top = TopGroups::default();
        if self.stored.is_none() {
            for ((rule, name), (findings, events)) in std::mem::take(&mut self.counts) {
                top.add(GroupRow { rule, name, findings, events, share: 0 });
            }
            return Ok(top.finish());
        }
        self.store()?;
        let Some(stored) = self.stored.take() else { return Ok(top.finish()) };
        let rows = stored.finish().map_err(failed)?;
        let parts = [KeyedPart { rows: &rows, wanted: vec![true] }];
        let mut reader = KeyedRowsReader::new(&self.engine, &parts).await.map_err(failed)?;
        let mut current: Option<GroupRow> = None;
        while let Some((_, batch)) = reader.next().await.map_err(failed)? {
            let (rules, names) = (named_columns::texts(&batch, RULE)?, named_columns::texts(&batch, NAME)?);
            let findings = named_columns::integers(&batch, FINDINGS)?;
            let events = named_columns::integers(&batch, EVENTS)?;
            for row in 0..batch.num_rows() {
                let (rule, name) = (rules.value(row), names.value(row));
                let findings = usize::try_from(findings.value(row)).unwrap_or_default();
                let events = events.value(row).cast_unsigned();
                match &mut current {
                    Some(group) if group.rule == rule && group.name == name => {
                        group.findings += findings;
                        group.events += events;
                    }
                    other => {
                        let (rule, name) = (rule.to_owned(), name.to_owned());
                        let group = GroupRow { rule, name, findings, events, share: 0 };
                        if let Some(done) = other.replace(group) {
                            top.add(done);
                        }
                    }
                }
            }
        }
        if let Some(done) = current {
            top.add(done);
        }
        Ok(top.finish())
    }
}

fn counts_schema() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, false);
    Arc::new(Schema::new(vec![
        field(RULE, DataType::Utf8),
        field(NAME, DataType::Utf8),
        field(FINDINGS, DataType::Int64),
        field(EVENTS, DataType::Int64),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn groups_beyond_those_in_memory_are_counted_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(1, 64 << 20, folder.path()).unwrap();
        let mut summary = HuntSummary::new(&engine, 3);
        let groups = 2 * GROUPS_IN_MEMORY + 5;
        // The groups 0, 7, 14 and so on have two findings each, which are counted at different times.
        for step in [1, 7] {
            for group in (0..groups).step_by(step) {
                let mut finding = Finding::example();
                finding.count = 2;
                finding.group.insert("actor".to_owned(), format!("{group:06}").into());
                summary.add(&finding).unwrap();
            }
        }
        assert!(summary.groups.stored.is_some());
        assert_eq!((summary.first.len(), summary.count), (3, groups + groups.div_ceil(7)));
        let (top, more) = summary.top_groups().await.unwrap();
        assert_eq!(top.len() + more, groups);
        let top: Vec<_> = top.iter().map(|group| (group.name.as_str(), group.findings, group.events)).collect();
        assert_eq!(top[..3], [("000000", 2, 4), ("000007", 2, 4), ("000014", 2, 4)]);
    }
}
