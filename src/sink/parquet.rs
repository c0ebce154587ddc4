//! Writes findings as Parquet: the common fields as columns, and the whole finding as JSON.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::Line;
use crate::error::Error;

/// The column of the whole finding as JSON.
const FINDING: &str = "finding";

/// The columns that only findings of nightly runs have.
const NIGHTLY: [&str; 4] = ["revision", "supersedes", "withdrawn", "rule_version"];

/// Rows that are encoded at a time.
const ROWS_AT_A_TIME: usize = 1_000;

fn schema() -> Schema {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let texts = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let columns = [
        ("finding_id", DataType::Utf8),
        ("revision", DataType::Int64),
        ("supersedes", texts.clone()),
        ("withdrawn", DataType::Boolean),
        ("rule_id", DataType::Utf8),
        ("rule_version", DataType::Utf8),
        ("title", DataType::Utf8),
        ("severity", DataType::Utf8),
        ("alert", DataType::Boolean),
        ("window", DataType::Utf8),
        ("period_minutes", DataType::Float64),
        ("threshold", DataType::Int64),
        ("group", DataType::Utf8),
        ("count", DataType::Int64),
        ("peak", DataType::Int64),
        ("first_event", utc.clone()),
        ("last_event", utc.clone()),
        ("trigger_time", utc),
        ("event_ids", texts.clone()),
        ("source_ips", texts.clone()),
        ("user_agents", texts.clone()),
        ("regions", texts),
        (FINDING, DataType::Utf8),
    ];
    Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec())
}

/// Returns the bytes of a file with one row per line.
pub(super) fn encode(lines: &[Line]) -> Result<Vec<u8>, Error> {
    try_encode(lines).map_err(|error| failed(&error))
}

fn failed(error: &ParquetError) -> Error {
    Error::Internal(format!("cannot write findings as Parquet: {error}"))
}

/// Writes the findings of a hunt piece by piece, with one row per finding.
#[derive(Debug)]
pub struct FindingsParquet {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    /// The lines of the next rows.
    lines: Vec<Line>,
}

impl FindingsParquet {
    /// Returns a writer without findings.
    ///
    /// # Errors
    /// The file cannot be begun, which is a defect.
    pub fn new() -> Result<FindingsParquet, Error> {
        let all = schema();
        let columns = all.fields().iter().filter(|field| !NIGHTLY.contains(&field.name().as_str())).cloned();
        let schema = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
        let writer = writer(&schema).map_err(|error| failed(&error))?;
        Ok(FindingsParquet { schema, writer, lines: Vec::new() })
    }

    /// Adds a finding. Appends the bytes that are complete to `to`.
    ///
    /// # Errors
    /// It cannot be encoded, which is a defect.
    pub fn push(&mut self, line: Line, to: &mut Vec<u8>) -> Result<(), Error> {
        self.lines.push(line);
        if self.lines.len() < ROWS_AT_A_TIME {
            return Ok(());
        }
        self.encode_lines().map_err(|error| failed(&error))?;
        // The writer knows positions in the file without these bytes.
        to.append(self.writer.inner_mut());
        Ok(())
    }

    /// Appends the rest of the file to `to`.
    ///
    /// # Errors
    /// As for [`FindingsParquet::push`].
    pub fn finish(mut self, to: &mut Vec<u8>) -> Result<(), Error> {
        if !self.lines.is_empty() {
            self.encode_lines().map_err(|error| failed(&error))?;
        }
        to.append(&mut self.writer.into_inner().map_err(|error| failed(&error))?);
        Ok(())
    }

    fn encode_lines(&mut self) -> Result<(), ParquetError> {
        write_rows(&mut self.writer, &self.schema, &self.lines)?;
        self.lines.clear();
        self.writer.flush()
    }
}

fn try_encode(lines: &[Line]) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(schema());
    let mut writer = writer(&schema)?;
    write_rows(&mut writer, &schema, lines)?;
    writer.into_inner()
}

fn write_rows(writer: &mut ArrowWriter<Vec<u8>>, schema: &SchemaRef, lines: &[Line]) -> Result<(), ParquetError> {
    let rows: Vec<Line> = lines.iter().map(|line| row(schema, line)).collect();
    let mut decoder = ReaderBuilder::new(Arc::clone(schema)).with_coerce_primitive(true).build_decoder()?;
    decoder.serialize(&rows)?;
    writer.write(&decoder.flush()?.ok_or_else(|| ArrowError::JsonError("no rows".to_owned()))?)
}

fn writer(schema: &SchemaRef) -> Result<ArrowWriter<Vec<u8>>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_created_by(concat!("tawny ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))
}

/// Returns the values of a line's row, with objects as JSON text.
fn row(schema: &Schema, line: &Line) -> Line {
    let value = |field: &Arc<Field>| {
        let value = match line.get(field.name()) {
            _ if field.name() == FINDING => Value::String(Value::Object(line.clone()).to_string()),
            Some(object @ Value::Object(_)) => Value::String(object.to_string()),
            other => other.cloned().unwrap_or_default(),
        };
        (field.name().clone(), value)
    };
    schema.fields().iter().map(value).collect()
}
