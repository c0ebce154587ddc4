//! The live files of a Delta table that another tool writes, as Parquet files to read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::DataType as ArrowType;
use delta_kernel::expressions::Scalar;
use delta_kernel::scan::state::ScanFile;
use delta_kernel::schema::{DataType, PrimitiveType, StructField, StructType};
use delta_kernel::table_features::{ColumnMappingMode, TableFeature};
use delta_kernel::{KernelError, KernelResult, SnapshotRef};

use super::DeltaVersion;
use super::kernel_engine::KernelEngine;
use super::replay::{self, LiveFile, decoded};
use crate::error::Error;
use crate::event;
use crate::store::{Object, stays_within};
use crate::time::Instant;
use crate::trail::{
    ColumnKey, FilePartitions, ParquetFile, ParquetFiles, PartitionValue, TableColumn, TableColumns, TableMetadata,
};

/// The reader features that this program applies. All others are refused by name.
///
/// List: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md#valid-feature-names-in-table-features>
fn is_applied(feature: &TableFeature) -> bool {
    matches!(
        feature,
        TableFeature::ColumnMapping
            | TableFeature::DeletionVectors
            | TableFeature::TimestampWithoutTimezone
            | TableFeature::TypeWidening
            | TableFeature::TypeWideningPreview
            | TableFeature::V2Checkpoint
            | TableFeature::VacuumProtocolCheck
            // Some writers add it to tables without such a column.
            | TableFeature::VariantType
            | TableFeature::VariantTypePreview
    )
}

impl DeltaVersion {
    /// Returns the live files, with their partition values and deleted records.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::TransactionLog`] if the log is damaged, the table has a feature that is not
    /// supported, a file is not in the table's folder, or a partition value does not fit its column.
    pub async fn parquet_files(&self) -> Result<ParquetFiles, Error> {
        self.check_features()?;
        let live = self.live_files().await?;
        let mut deleted = HashMap::new();
        if live.iter().any(|file| file.has_deleted_rows) {
            let snapshot = Arc::clone(&self.snapshot);
            deleted = self.log.run(move |engine| deleted_records(engine, snapshot)).await?;
        }
        let partitions = self.partition_columns();
        let partition_types = partitions.values().map(|field| (field.name.clone(), partition_type(field))).collect();
        let table = TableMetadata { version: self.number(), columns: self.columns(), partition_types };
        let folder = self.log.folder().absolute()?;
        let mut paths = BTreeSet::new();
        let mut files = Vec::with_capacity(live.len());
        for file in live {
            let LiveFile { path, bytes, partition_values, statistics, has_deleted_rows } = file;
            if !stays_within(&path) {
                let reason = "which is not in the table's folder (a shallow clone?): such tables are not supported";
                return Err(self.unusable(format!("it names the file `{path}`, {reason}")));
            }
            if !paths.insert(path.clone()) {
                return Err(self.unusable(format!("it lists the file `{path}` twice")));
            }
            let deleted_records = match deleted.remove(&path) {
                None if has_deleted_rows => {
                    return Err(self.unusable(format!("the deletion vector of `{path}` cannot be read")));
                }
                records => records.unwrap_or_default(),
            };
            let mut values = BTreeMap::new();
            for (name, text) in partition_values {
                let value = partition_value(partitions.get(&name), text.as_deref()).map_err(|text| {
                    self.unusable(format!("`{path}` has the value `{text}` for its partition column `{name}`"))
                })?;
                values.insert(partitions.get(&name).map_or(name, |field| field.name.clone()), value);
            }
            files.push(ParquetFile {
                object: Object {
                    path: self.log.folder().path(&path),
                    real: folder.path(&path),
                    size: bytes,
                    modified: Instant::EPOCH,
                    tag: None,
                },
                partitions: FilePartitions::Values(values),
                records: statistics.num_records,
                deleted_records,
                times: None,
            });
        }
        files.sort();
        Ok(ParquetFiles { files, faults: Vec::new(), table: Some(table) })
    }

    fn unusable(&self, reason: String) -> Error {
        Error::TransactionLog { path: self.log.path(), reason }
    }

    fn check_features(&self) -> Result<(), Error> {
        let features = self.snapshot.table_configuration().protocol().reader_features().unwrap_or_default();
        let unsupported = |what: String| {
            let reason = format!("the table has {what}, which this program does not support");
            Err(Error::TableMetadata { path: self.log.path(), reason })
        };
        if let Some(feature) = features.iter().find(|feature| !is_applied(feature)) {
            return unsupported(format!("the feature `{feature}`"));
        }
        match self.snapshot.schema().fields().find(|field| has_variant(&field.data_type)) {
            None => Ok(()),
            Some(field) => unsupported(format!("a variant in the column `{}`", field.name)),
        }
    }

    /// Returns the columns of the table that files have. Partition columns are not read from files.
    fn columns(&self) -> TableColumns {
        let table = self.snapshot.table_configuration();
        let mode = table.column_mapping_mode();
        let key = if mode == ColumnMappingMode::Id { ColumnKey::FieldId } else { ColumnKey::Name };
        let partitions = table.logical_partition_columns();
        let schema = self.snapshot.schema();
        let fields = schema.fields().filter(|field| !partitions.contains(&field.name));
        let columns = fields.map(|field| table_column(field, mode));
        TableColumns { key, columns: columns.collect() }
    }

    /// Returns the partition columns by their names in the log.
    fn partition_columns(&self) -> BTreeMap<String, StructField> {
        let table = self.snapshot.table_configuration();
        let mode = table.column_mapping_mode();
        let partitions = table.logical_partition_columns();
        let schema = self.snapshot.schema();
        let fields = schema.fields().filter(|field| partitions.contains(&field.name));
        fields.map(|field| (field.physical_name(mode).to_owned(), field.clone())).collect()
    }
}

/// Returns the type as which a partition column is read. Others than times and booleans are read as text, also numbers: an
/// account is a text in CloudTrail.
fn partition_type(field: &StructField) -> ArrowType {
    match &field.data_type {
        DataType::Primitive(PrimitiveType::Boolean) => ArrowType::Boolean,
        DataType::Primitive(PrimitiveType::Date) => ArrowType::Date32,
        DataType::Primitive(PrimitiveType::Timestamp | PrimitiveType::TimestampNtz) => event::time_type(),
        _ => ArrowType::Utf8,
    }
}

/// Returns the value that the log writes as `text`. `None` for null, which the log may write as an empty text.
///
/// # Errors
/// The text, if it is not a value of the column.
///
/// Source: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md#partition-value-serialization>
fn partition_value(column: Option<&StructField>, text: Option<&str>) -> Result<Option<PartitionValue>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = match column.map(|column| &column.data_type) {
        // A time without a zone is UTC, as in files.
        Some(DataType::Primitive(PrimitiveType::TimestampNtz)) => PrimitiveType::Timestamp.parse_scalar(text),
        Some(DataType::Primitive(primitive)) if column.map(partition_type) != Some(ArrowType::Utf8) => {
            primitive.parse_scalar(text)
        }
        _ => return Ok(Some(PartitionValue::Text(text.to_owned()))),
    };
    Ok(Some(match parsed {
        Ok(Scalar::Boolean(flag)) => PartitionValue::Flag(flag),
        Ok(Scalar::Date(days)) => PartitionValue::Date(days),
        Ok(Scalar::Timestamp(micros)) => PartitionValue::Time(micros),
        _ => return Err(text.to_owned()),
    }))
}

fn table_column(field: &StructField, mode: ColumnMappingMode) -> TableColumn {
    TableColumn {
        name: field.name.clone(),
        physical_name: field.physical_name(mode).to_owned(),
        field_id: field.column_mapping_id().and_then(|id| i32::try_from(id).ok()),
        members: struct_below(&field.data_type)
            .map_or_else(Vec::new, |members| members.fields().map(|member| table_column(member, mode)).collect()),
    }
}

/// Returns whether a type is a variant, or one is within it.
fn has_variant(data_type: &DataType) -> bool {
    match data_type {
        DataType::Primitive(_) => false,
        DataType::Struct(members) => members.fields().any(|field| has_variant(&field.data_type)),
        DataType::Array(list) => has_variant(list.element_type()),
        DataType::Map(map) => has_variant(map.key_type()) || has_variant(map.value_type()),
        DataType::Variant(_) => true,
    }
}

/// Returns the struct that a type is, or that its items or values are.
fn struct_below(data_type: &DataType) -> Option<&StructType> {
    match data_type {
        DataType::Struct(members) => Some(members),
        DataType::Array(list) => struct_below(list.element_type()),
        DataType::Map(map) => struct_below(map.value_type()),
        _ => None,
    }
}

/// Returns the indexes of the deleted records of each live file that has some, in ascending order.
fn deleted_records(engine: &KernelEngine, snapshot: SnapshotRef) -> KernelResult<HashMap<String, Vec<u64>>> {
    fn collect(files: &mut Vec<ScanFile>, file: ScanFile) {
        files.push(file);
    }
    let mut deleted = HashMap::new();
    for metadata in replay::scan(engine, snapshot)? {
        for file in metadata.visit_scan_files(Vec::new(), collect)? {
            let Some(mut records) = file.dv_info.get_row_indexes(engine, engine.root())? else {
                continue;
            };
            records.sort_unstable();
            records.dedup();
            let path = decoded(&file.path)?;
            let expected = file.dv_info.cardinality()?;
            if expected != Some(records.len() as u64) {
                let reason = format!("the deletion vector of `{path}` has another number of rows than the log says");
                return Err(KernelError::generic(reason));
            }
            deleted.insert(path, records);
        }
    }
    Ok(deleted)
}
