//! The values that findings have of the match that triggered.
//!
//! They may be long, such as identities and parameters, and only the match that triggers needs them. So queries of windows know
//! the numbers of matches, and the values are read afterwards from the buffer of the scan. On nodes of a cluster, rows have the values.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::{Field, Schema};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use futures::TryStreamExt as _;

use super::finding_buffer::{self, ScanFindingsWriter};
use super::match_origins::ScannedMatches;
use super::match_table::{MatchTable, TRIGGER_NUMBER};
use crate::engine::Engine;
use crate::engine::keyed_rows::{KeyedPart, KeyedRowsReader, KeyedRowsWriter};
use crate::engine::match_batch::MatchBatch;
use crate::error::Error;
use crate::named_columns;
use crate::sql::columns;

/// Rows of findings that have the number of the match that triggered, but not its values.
pub(super) struct NumberedFindings {
    rows: KeyedRowsWriter,
}

/// Rows of findings of one rule, and for each the row of the match that triggered in its batch.
#[derive(Default)]
struct RowPairs {
    findings: Vec<u32>,
    triggers: Vec<u32>,
}

/// The matches of a scan, and the rules that need values of them.
struct TriggerSource<'t> {
    table: &'t MatchTable,
    matches: &'t ScannedMatches,
}

impl NumberedFindings {
    /// Returns no rows yet, for the scan of `table`.
    ///
    /// # Errors
    /// The rows cannot be kept.
    pub(super) fn new(engine: &Engine, table: &MatchTable) -> Result<NumberedFindings, Error> {
        let all: Vec<usize> = (0..table.rules().len()).collect();
        let schema = finding_buffer::schema(&table.columns(&all));
        Ok(NumberedFindings { rows: KeyedRowsWriter::new(engine, schema).map_err(failed)? })
    }

    /// Adds the rows of a query.
    ///
    /// # Errors
    /// A column is missing or has another type, or a file cannot be written.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let batch = finding_buffer::conformed(batch, self.rows.schema()).map_err(|error| failed(error.into()))?;
        let numbers = named_columns::texts(&batch, TRIGGER_NUMBER)?.clone();
        self.rows.push(&batch, |row| Ok((numbers.value(row).as_bytes().to_vec(), 0))).map_err(failed)
    }

    /// Adds the findings with their values to `findings`.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(super) async fn complete(
        self,
        engine: &Engine,
        table: &MatchTable,
        matches: &ScannedMatches,
        findings: &mut ScanFindingsWriter,
    ) -> Result<(), Error> {
        let rows = self.rows.finish().map_err(failed)?;
        let parts = [KeyedPart { rows: &rows, wanted: vec![true] }];
        let mut reader = KeyedRowsReader::new(engine, &parts).await.map_err(failed)?;
        // The numbers of both ascend.
        let mut batches = std::pin::pin!(matches.matches.partition(0, 1));
        let source = TriggerSource { table, matches };
        let mut current: Option<MatchBatch> = None;
        while let Some((_, found)) = reader.next().await.map_err(failed)? {
            let numbers = numbers_in(&found)?;
            let mut row = 0;
            while let Some(number) = numbers.get(row) {
                let Some(batch) = current.as_ref().filter(|batch| batch.row_of(*number).is_some()) else {
                    let next = batches.try_next().await.map_err(failed)?;
                    current = Some(next.ok_or_else(|| {
                        Error::Internal(format!("a finding of the match {number:016x}, which is not there"))
                    })?);
                    continue;
                };
                let count = numbers[row..].iter().take_while(|number| batch.row_of(**number).is_some()).count();
                let found = found.slice(row, count);
                let triggers = numbers[row..row + count].iter().filter_map(|number| batch.row_of(*number));
                for (rule, pairs) in rows_of_rules(&found, triggers)? {
                    findings.add(&source.with_values(rule, &found, batch, pairs).map_err(failed)?)?;
                }
                row += count;
            }
        }
        Ok(())
    }
}

fn failed(error: DataFusionError) -> Error {
    Error::query("the values of triggers", error)
}

/// Returns the numbers of the matches that triggered.
fn numbers_in(found: &RecordBatch) -> Result<Vec<u64>, Error> {
    let number = |text: Option<&str>| u64::from_str_radix(text?, 16).ok();
    let numbers: Option<Vec<u64>> = named_columns::texts(found, TRIGGER_NUMBER)?.iter().map(number).collect();
    numbers.ok_or_else(|| Error::Internal("a finding without the number of a match".to_owned()))
}

/// Returns the rows of findings by the index of their rule. `triggers` are the rows of the matches that triggered.
fn rows_of_rules(found: &RecordBatch, triggers: impl Iterator<Item = u32>) -> Result<BTreeMap<i64, RowPairs>, Error> {
    let mut of_rules: BTreeMap<i64, RowPairs> = BTreeMap::new();
    for ((finding, rule), trigger) in (0..).zip(named_columns::integers(found, columns::RULE)?.values()).zip(triggers) {
        let pairs = of_rules.entry(*rule).or_default();
        pairs.findings.push(finding);
        pairs.triggers.push(trigger);
    }
    Ok(of_rules)
}

impl TriggerSource<'_> {
    /// Returns the rows `pairs` of the findings of a rule, with the values of their triggers in a batch of matches.
    fn with_values(&self, rule: i64, found: &RecordBatch, batch: &MatchBatch, pairs: RowPairs) -> Result<RecordBatch> {
        let index = usize::try_from(rule).unwrap_or(usize::MAX);
        let Some(window_rule) = self.table.rules().get(index) else {
            return internal_err!("a finding of the rule {rule}, which was not scanned");
        };
        let RowPairs { findings, triggers } = pairs;
        let (findings, triggers) = (UInt32Array::from(findings), UInt32Array::from(triggers));
        let (mut fields, mut values): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        for (field, column) in found.schema_ref().fields().iter().zip(found.columns()) {
            if field.name() == TRIGGER_NUMBER {
                continue;
            }
            fields.push(Arc::clone(field));
            let is_whole = findings.len() == found.num_rows();
            values.push(if is_whole { Arc::clone(column) } else { compute::take(column, &findings, None)? });
        }
        let names = self.table.columns_of(index).trigger;
        for (name, id) in names.iter().zip(window_rule.columns.trigger.iter()) {
            let value = compute::take(batch.value(*id), &triggers, None)?;
            let value = match &self.matches.origins {
                Some(origins) => origins.resolved(*id, &value),
                None => value,
            };
            fields.push(Arc::new(Field::new(name, value.data_type().clone(), true)));
            values.push(value);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?)
    }
}
