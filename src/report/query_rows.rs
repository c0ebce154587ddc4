//! Formats the rows of a query.

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;

use super::{csv_text, internal, rows};
use crate::error::Error;
use crate::text::json;

/// Output format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum RowFormat {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object per line.
    Jsonl,
    /// One JSON array.
    Json,
    /// Comma-separated values. An apostrophe precedes cells that a spreadsheet would execute.
    Csv,
    /// A Parquet file; needs `--output`.
    Parquet,
}

/// Returns the rows in `format`.
pub fn encode(schema: &SchemaRef, batches: &[RecordBatch], format: RowFormat) -> Result<Vec<u8>, Error> {
    let failed = |error: ArrowError| internal("rows", &error);
    let header: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let text_rows = || batches.iter().map(cell_texts).collect::<Result<Vec<_>, _>>().map_err(failed);
    let references: Vec<&RecordBatch> = batches.iter().collect();
    match format {
        RowFormat::Table => Ok(rows(&header, text_rows()?.into_iter().flatten()).into_bytes()),
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
        RowFormat::Csv => Ok(csv_text(&header, text_rows()?.into_iter().flatten())?.into_bytes()),
        RowFormat::Parquet => {
            let failed = |error| internal("rows as Parquet", &error);
            let mut writer =
                ArrowWriter::try_new(io::Cursor::new(Vec::new()), Arc::clone(schema), None).map_err(failed)?;
            for batch in batches {
                writer.write(batch).map_err(failed)?;
            }
            writer.into_inner().map_err(failed).map(io::Cursor::into_inner)
        }
    }
}

fn escaped_json(json: Vec<u8>) -> Result<Vec<u8>, Error> {
    let json = String::from_utf8(json).map_err(|error| internal("rows as JSON", &error))?;
    Ok(json::escaped(&json).into_owned().into_bytes())
}

fn cell_texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect())
}
