//! Writes findings as Parquet: the common fields as columns, and the whole finding as JSON.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
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
    try_encode(lines).map_err(|error| Error::Internal(format!("cannot write findings as Parquet: {error}")))
}

fn try_encode(lines: &[Line]) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(schema());
    let rows: Vec<Line> = lines.iter().map(|line| row(&schema, line)).collect();
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_coerce_primitive(true).build_decoder()?;
    decoder.serialize(&rows)?;
    let batch = decoder.flush()?.ok_or_else(|| ArrowError::JsonError("no rows".to_owned()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_created_by(concat!("tawny ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    writer.write(&batch)?;
    writer.into_inner()
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
