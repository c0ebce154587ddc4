//! Rows that nodes of a cluster exchange between the stages of a plan.
//!
//! All stages exchange three columns. [`KEY`] decides which partition of the next stage gets a row. [`ROW`] is a struct of the
//! stage's own columns. It is null in rows that have a [`REPORT`], which later stages pass on to the command.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::statistics::ScanStatistics;
use crate::time::Instant;

/// A hash. Rows with equal keys meet in one partition.
pub const KEY: &str = "key";
/// The columns of a row.
pub const ROW: &str = "row";
/// A [`Report`] as JSON.
pub const REPORT: &str = "report";

/// A report for the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The raw objects that were read.
    Objects {
        /// The statistics.
        statistics: Box<ScanStatistics>,
        /// The earliest and the latest time of used records, which `ScanStatistics` does not serialize.
        times: Option<(Instant, Instant)>,
    },
    /// The report of a stage, as JSON.
    Stage(String),
}

/// Returns the schema of exchanged rows with the columns `row`.
pub fn schema(row: &Fields) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(KEY, DataType::Int64, false),
        Field::new(ROW, DataType::Struct(row.clone()), true),
        Field::new(REPORT, DataType::Utf8, true),
    ]))
}

/// Returns exchanged rows without reports.
///
/// # Errors
/// There is not one key for each row.
pub fn rows(keys: Int64Array, rows: RecordBatch) -> Result<RecordBatch> {
    let schema = schema(rows.schema_ref().fields());
    let reports = Arc::new(StringArray::new_null(rows.num_rows()));
    Ok(RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(StructArray::from(rows)), reports])?)
}

/// Returns exchanged rows of some reports, between rows with the columns `row`.
///
/// # Errors
/// A report is not plain data.
pub fn reports(row: &Fields, reports: &[Report]) -> Result<RecordBatch> {
    let texts = reports.iter().map(json).collect::<Result<Vec<_>>>()?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_value(0, texts.len())),
        new_null_array(&DataType::Struct(row.clone()), texts.len()),
        Arc::new(StringArray::from(texts)),
    ];
    Ok(RecordBatch::try_new(schema(row), columns)?)
}

/// Returns the rows and the reports in exchanged rows. There is no batch where there are no rows.
///
/// # Errors
/// A column is missing.
pub fn split(batch: &RecordBatch) -> Result<(Option<RecordBatch>, Vec<Report>)> {
    let row = batch.column_by_name(ROW).and_then(|rows| rows.as_struct_opt());
    let reports = batch.column_by_name(REPORT).and_then(|reports| reports.as_string_opt::<i32>());
    let Some((row, reports)) = row.zip(reports) else {
        return internal_err!("exchanged rows without their columns");
    };
    let reports = reports.iter().flatten().map(parse).collect::<Result<Vec<_>>>()?;
    let present = compute::is_not_null(row)?;
    if present.true_count() == 0 {
        return Ok((None, reports));
    }
    let present = compute::filter(row, &present)?;
    let present = present.as_struct();
    let schema = Arc::new(Schema::new(present.fields().clone()));
    Ok((Some(RecordBatch::try_new(schema, present.columns().to_vec())?), reports))
}

/// The column of a result.
const RESULT: &str = "result";

/// Returns the columns of rows that hold results of any form, as bytes.
pub fn result_row() -> Fields {
    Fields::from(vec![Field::new(RESULT, DataType::Binary, false)])
}

/// Returns a result row; its partition does not matter.
///
/// # Errors
/// The row cannot be built.
pub fn result(bytes: &[u8]) -> Result<RecordBatch> {
    let result: ArrayRef = Arc::new(BinaryArray::from_vec(vec![bytes]));
    let row = RecordBatch::try_new(Arc::new(Schema::new(result_row())), vec![result])?;
    rows(Int64Array::from_value(0, 1), row)
}

/// Returns the results in rows with the columns of [`result_row`].
///
/// # Errors
/// The rows have other columns.
pub fn results(rows: &RecordBatch) -> Result<&BinaryArray> {
    let results = rows.column_by_name(RESULT).and_then(|column| column.as_binary_opt::<i32>());
    results.map_or_else(|| internal_err!("a stage returned no results"), Ok)
}

/// Returns `value` as JSON.
///
/// # Errors
/// It is not plain data.
pub fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(external)
}

/// Returns the value that [`json`] wrote.
///
/// # Errors
/// The text is not JSON of that type.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(external)
}

pub(super) fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_reports_are_told_apart() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![texts]).unwrap();
        let sent = rows(Int64Array::from(vec![7, 8]), batch.clone()).unwrap();
        let all = ["one", "two"].map(|text| Report::Stage(text.to_owned()));
        let reported = reports(schema.fields(), &all).unwrap();
        let together = compute::concat_batches(&sent.schema(), &[reported.clone(), sent]).unwrap();
        let (arrived, reports) = split(&together).unwrap();
        assert_eq!((arrived.unwrap(), reports), (batch.clone(), all.to_vec()));
        assert!(split(&reported).unwrap().0.is_none());
        assert!(split(&batch).is_err());
    }
}
