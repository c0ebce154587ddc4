//! Writes Iceberg tables: manifests with the writers of the crate `iceberg`, Parquet and the metadata file by hand.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, ManifestFile, ManifestListWriter,
    ManifestWriterBuilder, PartitionSpec, Schema, SchemaRef, Struct,
};
use serde_json::{Value, json};

use crate::http_server::wait;
use crate::tables::*;

/// A data file or delete file, and when it was added.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) file: DataFile,
    pub(super) sequence_number: i64,
}

/// A table in a folder, whose metadata name files below `location`.
pub(super) struct IcebergTable {
    pub(super) folder: PathBuf,
    location: String,
    format: u8,
    /// The columns, with their field IDs.
    pub(super) fields: Vec<Field>,
    pub(super) spec: Value,
    schemas: Vec<Value>,
    snapshots: Vec<Value>,
    pub(super) previous: Vec<Live>,
}

/// The columns of files with identities as structs, with field IDs.
pub(super) fn fields() -> Vec<Field> {
    with_field_ids(&columns(timestamp("eventTime", TimeUnit::Microsecond, Some("UTC")), false, &same), &same, &mut 1)
}

/// Returns the time of the snapshot with this number, in milliseconds.
pub(super) fn snapshot_time(number: usize) -> i64 {
    1_790_000_000_000 + i64::try_from(number).unwrap() * 60_000
}

pub(super) fn snapshot_id(number: i64) -> i64 {
    3_051_729_675_574_597_000 + number
}

pub(super) fn field_id(field: &Field) -> i32 {
    field.metadata()["PARQUET:field_id"].parse().unwrap()
}

fn type_of(field: &Field) -> Value {
    match field.data_type() {
        DataType::Timestamp(..) => json!("timestamptz"),
        DataType::Boolean => json!("boolean"),
        DataType::Int64 => json!("long"),
        DataType::Struct(members) => {
            json!({"type": "struct", "fields": members.iter().map(|member| column(member)).collect::<Vec<_>>()})
        }
        _ => json!("string"),
    }
}

fn column(field: &Field) -> Value {
    json!({"id": field_id(field), "name": field.name(), "required": false, "type": type_of(field)})
}

fn schema_of(id: usize, fields: &[Field]) -> Value {
    json!({"schema-id": id, "type": "struct", "fields": fields.iter().map(column).collect::<Vec<_>>()})
}

impl IcebergTable {
    /// Creates a table without snapshots. Its metadata name files below `location`; `None`: where they are on disk.
    pub(super) fn new(folder: PathBuf, location: Option<&str>) -> IcebergTable {
        fs::create_dir_all(folder.join("metadata")).unwrap();
        let location = location.map_or_else(|| format!("file://{}", folder.display()), str::to_owned);
        let fields = fields();
        let mut table = IcebergTable {
            folder,
            location,
            format: 2,
            spec: json!({"spec-id": 0, "fields": []}),
            schemas: vec![schema_of(0, &fields)],
            snapshots: Vec::new(),
            fields,
            previous: Vec::new(),
        };
        table.write_metadata();
        table
    }

    pub(super) fn with_format(mut self, format: u8) -> IcebergTable {
        self.format = format;
        self
    }

    pub(super) fn path(&self) -> &str {
        self.folder.to_str().unwrap()
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.location)
    }

    /// Returns the sequence number of the next commit.
    pub(super) fn next(&self) -> i64 {
        i64::try_from(self.snapshots.len()).unwrap() + 1
    }

    /// Changes the columns, for the files that are written from now on.
    pub(super) fn evolve(&mut self, fields: Vec<Field>) {
        self.schemas.push(schema_of(self.schemas.len(), &fields));
        self.fields = fields;
        self.write_metadata();
    }

    /// Writes a data file with the table's columns.
    pub(super) fn data(&self, name: &str, records: &[Value]) -> Live {
        self.data_of(name, &rows(records, false, &same))
    }

    pub(super) fn data_of(&self, name: &str, rows: &[Value]) -> Live {
        let name = format!("data/{name}.parquet");
        write(&self.folder.join(&name), self.fields.clone(), rows);
        self.live(&name, rows.len(), |_| ())
    }

    /// Returns the entry of a file in the table's folder. `change` sets what differs from a plain data file.
    pub(super) fn live(&self, name: &str, rows: usize, change: impl FnOnce(&mut DataFileBuilder)) -> Live {
        let size = fs::metadata(self.folder.join(name)).unwrap().len();
        let mut builder = DataFileBuilder::default();
        builder
            .content(DataContentType::Data)
            .file_path(self.url(name))
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .record_count(rows as u64)
            .file_size_in_bytes(size);
        change(&mut builder);
        Live { file: builder.build().unwrap(), sequence_number: self.next() }
    }

    /// Commits a snapshot with these live files. Returns its ID as the program takes it.
    pub(super) fn commit(&mut self, live: &[Live]) -> String {
        let sequence_number = self.next();
        let id = snapshot_id(sequence_number);
        let schema: SchemaRef =
            Arc::new(serde_json::from_value::<Schema>(self.schemas.last().unwrap().clone()).unwrap());
        let spec: PartitionSpec = serde_json::from_value(self.spec.clone()).unwrap();
        let gone: Vec<Live> = self
            .previous
            .iter()
            .filter(|old| live.iter().all(|new| new.file.file_path() != old.file.file_path()))
            .cloned()
            .collect();
        let is_data = |live: &&Live| live.file.content_type() == DataContentType::Data;
        let data: Vec<&Live> = live.iter().filter(is_data).collect();
        let deletes: Vec<&Live> = live.iter().filter(|live| !is_data(live)).collect();
        let gone: Vec<&Live> = gone.iter().filter(is_data).collect();
        let list = format!("metadata/snap-{id}.avro");
        wait(async {
            let mut manifests = Vec::new();
            for (kind, files, gone) in [("data", data, gone), ("deletes", deletes, Vec::new())] {
                if files.is_empty() && gone.is_empty() {
                    continue;
                }
                let name = format!("metadata/{kind}-{sequence_number}.avro");
                let output = FileIO::new_with_fs().new_output(self.folder.join(&name).to_str().unwrap()).unwrap();
                let builder = ManifestWriterBuilder::new(output, Some(id), Arc::clone(&schema), spec.clone());
                let mut writer = match (self.format, kind) {
                    (2, "data") => builder.build_v2_data(),
                    (2, _) => builder.build_v2_deletes(),
                    (_, "data") => builder.build_v3_data(),
                    _ => builder.build_v3_deletes(),
                };
                for Live { file, sequence_number: added } in files {
                    if *added == sequence_number {
                        writer.add_file(file.clone(), *added).unwrap();
                    } else {
                        writer.add_existing_file(file.clone(), snapshot_id(*added), *added, Some(*added)).unwrap();
                    }
                }
                for Live { file, sequence_number: added } in gone {
                    writer.add_delete_file(file.clone(), *added, Some(*added)).unwrap();
                }
                let manifest = writer.write_manifest_file().await.unwrap();
                manifests.push(ManifestFile { manifest_path: self.url(&name), ..manifest });
            }
            let output = FileIO::new_with_fs().new_output(self.folder.join(&list).to_str().unwrap()).unwrap();
            let file = output.writer().await.unwrap();
            let mut writer = match self.format {
                2 => ManifestListWriter::v2(file, id, None, sequence_number),
                _ => ManifestListWriter::v3(file, id, None, sequence_number, Some(0)),
            };
            writer.add_manifests(manifests.into_iter()).unwrap();
            writer.close().await.unwrap();
        });
        let mut snapshot = json!({
            "snapshot-id": id, "sequence-number": sequence_number, "timestamp-ms": snapshot_time(self.snapshots.len()),
            "manifest-list": self.url(&list), "summary": {"operation": "overwrite"}, "schema-id": self.schemas.len() - 1,
        });
        if self.format > 2 {
            snapshot["first-row-id"] = json!(0);
            snapshot["added-rows"] = json!(0);
        }
        self.snapshots.push(snapshot);
        self.previous = live.to_vec();
        self.write_metadata();
        id.to_string()
    }

    /// Returns the metadata of the newest snapshot.
    pub(super) fn metadata(&self) -> Value {
        let log: Vec<Value> = self
            .snapshots
            .iter()
            .map(|one| json!({"snapshot-id": one["snapshot-id"], "timestamp-ms": one["timestamp-ms"]}))
            .collect();
        let mut metadata = json!({
            "format-version": self.format, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": self.location,
            "last-sequence-number": self.snapshots.len(), "last-updated-ms": snapshot_time(self.snapshots.len()),
            "last-column-id": 100, "current-schema-id": self.schemas.len() - 1, "schemas": self.schemas,
            "default-spec-id": self.spec["spec-id"], "partition-specs": [self.spec], "last-partition-id": 1000,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
            "snapshots": self.snapshots, "snapshot-log": log, "metadata-log": [],
        });
        if let Some(newest) = self.snapshots.last() {
            metadata["current-snapshot-id"] = newest["snapshot-id"].clone();
        }
        if self.format > 2 {
            metadata["next-row-id"] = json!(0);
        }
        metadata
    }

    /// Returns the path of the newest metadata file.
    pub(super) fn metadata_file(&self) -> PathBuf {
        let number = self.snapshots.len() + self.schemas.len();
        self.folder.join(format!("metadata/{number:05}-9c12d441-03fe-4693-9a96-a0705ddf69c1.metadata.json"))
    }

    pub(super) fn write_metadata(&mut self) {
        fs::write(self.metadata_file(), self.metadata().to_string()).unwrap();
    }
}

/// Asserts that a hunt of the table ends with 3, finds nothing, and says `reason`.
pub(super) fn refused(table: &str, reason: &str) {
    let output = hunt(table, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", talk(&output));
    assert_eq!(output.stdout, b"");
    assert!(talk(&output).replace('\n', " ").contains(reason), "{reason}: {}", talk(&output));
}
