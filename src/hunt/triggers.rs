//! The values that findings have of the match that triggered.
//!
//! They may be long, such as identities and parameters, and only the match that triggers needs them. So queries of windows know
//! the numbers of matches, and the values are read afterwards from the buffer of the scan.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::{Field, Schema};
use datafusion::common::{internal_datafusion_err, internal_err};
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

/// Rows of findings, by the index of their rule, and for each the row of the match that triggered in its batch.
type RowsOfRules = BTreeMap<i64, (Vec<u32>, Vec<u32>)>;

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
        let mut rows = KeyedRowsReader::new(engine, &parts).await.map_err(failed)?;
        // The numbers of both ascend.
        let mut batches = std::pin::pin!(matches.matches.partition(0, 1));
        let mut matched: Option<MatchBatch> = None;
        while let Some((_, found)) = rows.next().await.map_err(failed)? {
            let numbers = numbers(&found)?;
            let mut row = 0;
            while let Some(number) = numbers.get(row) {
                let Some(batch) = matched.as_ref().filter(|batch| batch.row_of(*number).is_some()) else {
                    let next = batches.try_next().await.map_err(failed)?;
                    matched = Some(next.ok_or_else(|| Error::Internal("a finding of no match".to_owned()))?);
                    continue;
                };
                let count = numbers[row..].iter().take_while(|number| batch.row_of(**number).is_some()).count();
                let found = found.slice(row, count);
                let rows = numbers[row..row + count].iter().filter_map(|number| batch.row_of(*number));
                for (rule, (of_rule, rows)) in rows_of_rules(&found, rows)? {
                    let with_values = with_values(table, matches, rule, batch, &found, of_rule, rows);
                    findings.add(&with_values.map_err(failed)?)?;
                }
                row += count;
            }
        }
        Ok(())
    }
}

fn failed(error: DataFusionError) -> Error {
    Error::query("the matches that triggered", error)
}

/// Returns the numbers of the matches that triggered.
fn numbers(found: &RecordBatch) -> Result<Vec<u64>, Error> {
    let number = |text: Option<&str>| u64::from_str_radix(text?, 16).ok();
    let numbers: Option<Vec<u64>> = named_columns::texts(found, TRIGGER_NUMBER)?.iter().map(number).collect();
    numbers.ok_or_else(|| Error::Internal("a finding without the number of a match".to_owned()))
}

fn rows_of_rules(found: &RecordBatch, rows: impl Iterator<Item = u32>) -> Result<RowsOfRules, Error> {
    let mut of_rules = RowsOfRules::new();
    for ((finding, rule), row) in (0..).zip(named_columns::integers(found, columns::RULE)?.values()).zip(rows) {
        let (findings, rows) = of_rules.entry(*rule).or_default();
        findings.push(finding);
        rows.push(row);
    }
    Ok(of_rules)
}

/// Returns the rows `of_rule` of findings with the values of `rows` in a batch of matches.
fn with_values(
    table: &MatchTable,
    matches: &ScannedMatches,
    rule: i64,
    batch: &MatchBatch,
    found: &RecordBatch,
    of_rule: Vec<u32>,
    rows: Vec<u32>,
) -> Result<RecordBatch> {
    let Some((index, window_rule)) =
        usize::try_from(rule).ok().and_then(|index| Some((index, table.rules().get(index)?)))
    else {
        return internal_err!("a finding of no rule");
    };
    let (of_rule, rows) = (UInt32Array::from(of_rule), UInt32Array::from(rows));
    let mut fields: Vec<Arc<Field>> = found.schema_ref().fields().to_vec();
    let mut values: Vec<ArrayRef> =
        found.columns().iter().map(|column| compute::take(column, &of_rule, None)).collect::<Result<_, _>>()?;
    let names = table.columns_of(index).trigger;
    for (name, id) in names.iter().zip(window_rule.columns.trigger.iter()) {
        let value = compute::take(batch.value(*id), &rows, None)?;
        let value =
            matches.origins.as_ref().map_or_else(|| Arc::clone(&value), |origins| origins.resolved(*id, &value));
        fields.push(Arc::new(Field::new(name, value.data_type().clone(), true)));
        values.push(value);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values)
        .map_err(|error| internal_datafusion_err!("findings with their values: {error}"))
}
