//! Rows of a query as text.

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;

use super::rows;
use crate::error::Error;
use crate::text::{csv_cell, json};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum RowFormat {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object a line.
    Jsonl,
    /// One JSON array.
    Json,
    /// Comma-separated values; cells that a spreadsheet would run begin with an apostrophe.
    Csv,
    /// A Parquet file; `--output` names it.
    Parquet,
}

/// The bytes of rows in `format`.
pub fn written(schema: &SchemaRef, batches: &[RecordBatch], format: RowFormat) -> Result<Vec<u8>, Error> {
    let failed = |error: ArrowError| Error::Internal(format!("the rows: {error}"));
    let header: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let batches_of_text = || batches.iter().map(texts).collect::<Result<Vec<_>, _>>().map_err(failed);
    let references: Vec<&RecordBatch> = batches.iter().collect();
    match format {
        RowFormat::Table => Ok(rows(&header, batches_of_text()?.into_iter().flatten()).into_bytes()),
        RowFormat::Jsonl => {
            let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
            writer.write_batches(&references).and_then(|()| writer.finish()).map_err(failed)?;
            escaped_json(writer.into_inner())
        }
        RowFormat::Json => {
            let mut writer = arrow::json::ArrayWriter::new(Vec::new());
            writer.write_batches(&references).and_then(|()| writer.finish()).map_err(failed)?;
            let mut text = writer.into_inner();
            if text.is_empty() {
                text.extend(b"[]");
            }
            text.push(b'\n');
            escaped_json(text)
        }
        RowFormat::Csv => {
            let wrong = |error: &dyn std::fmt::Display| Error::Internal(format!("the rows as CSV: {error}"));
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(header.iter().map(|name| csv_cell(name))).map_err(|error| wrong(&error))?;
            for row in batches_of_text()?.into_iter().flatten() {
                writer.write_record(row.iter().map(|cell| csv_cell(cell))).map_err(|error| wrong(&error))?;
            }
            writer.into_inner().map_err(|error| wrong(&error))
        }
        RowFormat::Parquet => {
            let wrong = |error| Error::Internal(format!("the rows as Parquet: {error}"));
            let mut writer =
                ArrowWriter::try_new(io::Cursor::new(Vec::new()), Arc::clone(schema), None).map_err(wrong)?;
            for batch in batches {
                writer.write(batch).map_err(wrong)?;
            }
            writer.into_inner().map_err(wrong).map(io::Cursor::into_inner)
        }
    }
}

fn escaped_json(json: Vec<u8>) -> Result<Vec<u8>, Error> {
    let json = String::from_utf8(json).map_err(|error| Error::Internal(format!("the rows as JSON: {error}")))?;
    Ok(json::escaped(&json).into_owned().into_bytes())
}

fn texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect())
}
