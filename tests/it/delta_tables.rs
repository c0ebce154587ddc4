//! Delta tables that other tools write: their live records, and nothing else, at each version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde_json::{Value, json};

use crate::s3_server::Server;
use crate::tables::*;

/// A table that commits files by hand.
pub(crate) struct DeltaTable {
    folder: PathBuf,
    version: u64,
}

impl DeltaTable {
    /// Creates a table whose version 0 has these actions.
    pub(crate) fn new(folder: PathBuf, actions: &[Value]) -> DeltaTable {
        fs::create_dir_all(folder.join("_delta_log")).unwrap();
        let mut table = DeltaTable { folder, version: 0 };
        table.commit(actions);
        table
    }

    fn commit_file(&self, version: u64) -> PathBuf {
        self.folder.join(format!("_delta_log/{version:020}.json"))
    }

    pub(crate) fn commit(&mut self, actions: &[Value]) {
        let time = 1_790_000_000_000_u64 + self.version * 60_000;
        let information = json!({"commitInfo": {"timestamp": time, "operation": "WRITE"}});
        let lines: Vec<String> = [&information].into_iter().chain(actions).map(Value::to_string).collect();
        fs::write(self.commit_file(self.version), lines.join("\n") + "\n").unwrap();
        // The time of a version is that of its file.
        let file = fs::File::options().write(true).open(self.commit_file(self.version)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_millis(time)).unwrap();
        self.version += 1;
    }

    /// Returns the action that adds a file.
    fn add(&self, name: &str) -> Value {
        self.add_with(name, &json!({}))
    }

    pub(crate) fn add_with(&self, name: &str, members: &Value) -> Value {
        let size = fs::metadata(self.folder.join(name)).unwrap().len();
        let mut add =
            json!({"path": name, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": true});
        add.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({"add": add})
    }

    pub(crate) fn path(&self) -> &str {
        self.folder.to_str().unwrap()
    }
}

fn remove(name: &str) -> Value {
    json!({"remove": {"path": name, "deletionTimestamp": 1_790_000_000_000_u64, "dataChange": true}})
}

/// Returns the protocol and the metadata of a table with these columns.
fn table_of(fields: &[Field], partitions: &[&str]) -> Vec<Value> {
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    vec![protocol, metadata(&schema_of(fields), partitions, &json!({}))]
}

pub(crate) fn metadata(schema: &Value, partitions: &[&str], configuration: &Value) -> Value {
    json!({"metaData": {
        "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9", "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(), "partitionColumns": partitions, "configuration": configuration,
        "createdTime": 1_790_000_000_000_u64,
    }})
}

/// Returns a protocol with these reader features.
pub(crate) fn protocol(features: &[&str]) -> Value {
    json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features,
    }})
}

pub(crate) fn schema_of(fields: &[Field]) -> Value {
    let field = |field: &Field| {
        let data_type = match field.data_type() {
            DataType::Timestamp(..) => json!("timestamp"),
            DataType::Boolean => json!("boolean"),
            DataType::Struct(members) => {
                schema_of(&members.iter().map(|member| member.as_ref().clone()).collect::<Vec<_>>())
            }
            _ => json!("string"),
        };
        json!({"name": field.name(), "type": data_type, "nullable": true, "metadata": {}})
    };
    json!({"type": "struct", "fields": fields.iter().map(field).collect::<Vec<_>>()})
}

fn time() -> Field {
    timestamp("eventTime", TimeUnit::Microsecond, Some("UTC"))
}

/// The columns of files with identities as structs.
pub(crate) fn fields() -> Vec<Field> {
    columns(time(), false, &same)
}

fn write_records(path: &Path, records: &[Value]) {
    write(path, fields(), &rows(records, false, &same));
}

fn inspection(table: &str) -> Value {
    let output = tawny(&["inspect", table, "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Writes a table with an append, an overwrite, a delete and an append. Returns the live records of each version.
fn versions(table: PathBuf) -> (DeltaTable, Vec<Vec<Value>>) {
    let records = records();
    for (name, part) in
        [("a", &records[..5]), ("b", &records[5..]), ("c", &records[3..9]), ("d", &records[..2]), ("e", &records[2..3])]
    {
        write_records(&table.join(format!("{name}.parquet")), part);
    }
    let mut table = DeltaTable::new(table, &table_of(&fields(), &[]));
    table.commit(&[table.add("a.parquet")]);
    table.commit(&[table.add("b.parquet")]);
    table.commit(&[remove("a.parquet"), remove("b.parquet"), table.add("c.parquet")]);
    table.commit(&[remove("c.parquet"), table.add("d.parquet"), table.add("e.parquet")]);
    let live = vec![Vec::new(), records[..5].to_vec(), records.clone(), records[3..9].to_vec(), records[..3].to_vec()];
    (table, live)
}

#[test]
fn each_version_holds_its_live_records() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let (table, live) = versions(folder.path().join("table"));
    let (in_bucket, _) = versions(server.file("tables", "team/table"));
    // Version 0 has no files, and a run that reads nothing ends with 3.
    assert_eq!(hunt(table.path(), &["--as-of", "0"]).status.code(), Some(3));
    for (version, live) in live.iter().enumerate().skip(1) {
        let expected = raw(folder.path(), live);
        let as_of = version.to_string();
        let found = hunt(table.path(), &["--as-of", &as_of]);
        assert_eq!(told(&found), expected, "version {version}");
        assert!(talk(&found).contains(&format!("table version: {version} ")), "{}", talk(&found));
        let arguments = ["hunt", "s3://tables/team/table", "--format", "jsonl", "--as-of", &as_of];
        assert_eq!(told(&server.tawny(&arguments)), expected, "version {version} in S3");
    }
    assert_eq!(in_bucket.version, 5);
    let newest = live.last().unwrap();
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), newest));
    // Between the commits 1 and 2.
    let at = |as_of: &str| hunt(table.path(), &["--as-of", as_of]);
    let text = chrono::DateTime::from_timestamp(1_790_000_090, 0).unwrap().to_rfc3339();
    assert_eq!(told(&at(&text)), raw(folder.path(), &live[1]));
    let seen = inspection(table.path());
    assert_eq!((&seen["version"], &seen["records"], &seen["objects"]), (&json!(4), &json!(3), &json!(2)), "{seen}");
    for none in ["5", "2020-01-01"] {
        let refused = at(none);
        assert_eq!(refused.status.code(), Some(2), "{none}: {}", talk(&refused));
        assert_eq!(refused.stdout, b"");
    }
}

#[test]
fn partition_values_are_those_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let (mut own, mut declared) = (fields(), fields());
    own.retain(|field| !["awsRegion", "recipientAccountId"].contains(&field.name().as_str()));
    declared.push(text("event_day"));
    let partitions = ["event_day", "awsRegion", "recipientAccountId"];
    let mut table = DeltaTable::new(path.clone(), &table_of(&declared, &partitions));
    let mut records = records();
    for record in &mut records {
        // A null partition value.
        if record["recipientAccountId"] == json!(B) {
            record.as_object_mut().unwrap().remove("awsRegion");
        }
    }
    let mut adds = Vec::new();
    for (number, record) in records.iter().enumerate() {
        // The folder's name is not the value.
        let name = format!("event_day=2020-01-01/{number}.parquet");
        let mut row = rows(std::slice::from_ref(record), false, &same).remove(0);
        row.as_object_mut().unwrap().retain(|name, _| own.iter().any(|field| field.name() == name));
        write(&path.join(&name), own.clone(), &[row]);
        let day = &record["eventTime"].as_str().unwrap()[..10];
        let values = json!({"event_day": day, "awsRegion": record["awsRegion"], "recipientAccountId": record["recipientAccountId"]});
        let mut add = table.add_with(&name, &json!({ "partitionValues": values }));
        // The log percent-encodes paths.
        add["add"]["path"] = json!(name.replace('=', "%3D"));
        adds.push(add);
    }
    table.commit(&adds);
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records));
    let seen = inspection(table.path());
    assert_eq!(seen["accounts"], json!([A, B]), "{seen}");
    assert_eq!(seen["regions"], json!(["eu-west-1"]), "{seen}");
    let dry = |from: &str, to: &str| {
        let output = tawny(&["hunt", table.path(), "--from", from, "--to", to, "--dry-run", "--format", "json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["objects"].clone()
    };
    assert_eq!(dry("2026-09-01", "2026-09-03"), json!(records.len()));
    assert_eq!(dry("2020-01-01", "2020-01-02"), json!(0), "the day of the folders");
}

#[test]
fn a_column_that_was_added_is_null_in_older_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let mut records = records();
    let (mut older, all) = (fields(), fields());
    older.retain(|field| field.name() != "userAgent");
    for record in &mut records[..6] {
        record.as_object_mut().unwrap().remove("userAgent");
    }
    write(&path.join("a.parquet"), older.clone(), &rows(&records[..6], false, &same));
    write(&path.join("b.parquet"), all.clone(), &rows(&records[6..], false, &same));
    let mut table = DeltaTable::new(path.clone(), &table_of(&older, &[]));
    table.commit(&[table.add("a.parquet")]);
    table.commit(&[metadata(&schema_of(&all), &[], &json!({})), table.add("b.parquet")]);
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records));
    // A column that the table no longer declares is not read.
    table.commit(&[metadata(&schema_of(&older), &[], &json!({}))]);
    for record in &mut records {
        record.as_object_mut().unwrap().remove("userAgent");
    }
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records));
}

/// The alphabet of Z85: <https://rfc.zeromq.org/spec/32/>.
const Z85: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

fn z85(bytes: &[u8]) -> String {
    let mut text = String::new();
    for four in bytes.chunks_exact(4) {
        let number = u32::from_be_bytes(four.try_into().unwrap());
        for power in (0..5).rev() {
            text.push(char::from(Z85[(number / 85_u32.pow(power) % 85) as usize]));
        }
    }
    text
}

/// Returns a deletion vector of these rows, an even number of them, each below 65,536.
fn deletion_vector(deleted: &[u16]) -> Vec<u8> {
    let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
    // One bitmap, for rows whose upper 32 bits are 0; in it one container, for rows whose upper 16 bits are 0.
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend([0_u32, 12_346, 1].into_iter().flat_map(u32::to_le_bytes));
    bytes.extend([0, u16::try_from(deleted.len() - 1).unwrap()].into_iter().flat_map(u16::to_le_bytes));
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend(deleted.iter().copied().flat_map(u16::to_le_bytes));
    bytes
}

/// Writes a table with one file whose rows 1 and 8 are deleted.
fn with_deletion_vector(path: PathBuf, vector: &Value) -> DeltaTable {
    write_records(&path.join("a.parquet"), &records());
    let actions = [protocol(&["deletionVectors"]), metadata(&schema_of(&fields()), &[], &json!({}))];
    let mut table = DeltaTable::new(path, &actions);
    let members = json!({
        "deletionVector": vector,
        "stats": json!({"numRecords": records().len(), "tightBounds": false}).to_string(),
    });
    table.commit(&[table.add_with("a.parquet", &members)]);
    table
}

#[test]
fn deleted_records_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut live = records();
    live.remove(8);
    live.remove(1);
    let expected = raw(folder.path(), &live);
    assert_ne!(expected, raw(folder.path(), &records()));
    let bytes = deletion_vector(&[1, 8]);
    let size = bytes.len();
    let inline = json!({"storageType": "i", "pathOrInlineDv": z85(&bytes), "sizeInBytes": size, "cardinality": 2});
    let table = with_deletion_vector(folder.path().join("inline"), &inline);
    assert_eq!(told(&hunt(table.path(), &[])), expected);
    let seen = inspection(table.path());
    assert_eq!(seen["records"], json!(live.len()), "{seen}");
    // The whole table, without a filter.
    let count =
        tawny(&["query", "SELECT count(*) AS n FROM cloudtrail", table.path(), "--with-duplicates", "--format", "csv"]);
    assert_eq!(String::from_utf8_lossy(&count.stdout), format!("n\n{}\n", live.len()), "{}", talk(&count));

    // In a file of its own.
    let stored = json!({"storageType": "u", "pathOrInlineDv": z85(&[0x11; 16]), "offset": 1, "sizeInBytes": size, "cardinality": 2});
    let table = with_deletion_vector(folder.path().join("stored"), &stored);
    let mut crc = flate2::Crc::new();
    crc.update(&bytes);
    let size = i32::try_from(size).unwrap().to_be_bytes();
    let file = [&[1][..], &size, &bytes, &crc.sum().to_be_bytes()].concat();
    let name = table.folder.join("deletion_vector_11111111-1111-1111-1111-111111111111.bin");
    fs::write(&name, &file).unwrap();
    assert_eq!(told(&hunt(table.path(), &[])), expected);
    let mut damaged = file;
    damaged[30] ^= 4;
    fs::write(&name, damaged).unwrap();
    let refused = hunt(table.path(), &[]);
    assert_eq!(refused.status.code(), Some(3), "{}", talk(&refused));
    fs::remove_file(name).unwrap();
    assert_eq!(hunt(table.path(), &[]).status.code(), Some(3));

    // It deletes another number of rows than the log says.
    let mut other = inline;
    other["cardinality"] = json!(3);
    let refused = hunt(with_deletion_vector(folder.path().join("other"), &other).path(), &[]);
    assert_eq!(refused.status.code(), Some(3), "{}", talk(&refused));
}

/// Returns a schema whose columns have these physical names, and IDs in their order from 1.
fn mapped(schema: &Value, physical: &dyn Fn(&str) -> String, next: &mut i64) -> Value {
    let mut schema = schema.clone();
    for field in schema["fields"].as_array_mut().unwrap() {
        let name = physical(field["name"].as_str().unwrap());
        field["metadata"] = json!({"delta.columnMapping.id": *next, "delta.columnMapping.physicalName": name});
        *next += 1;
        if field["type"].is_object() {
            field["type"] = mapped(&field["type"], physical, next);
        }
    }
    schema
}

#[test]
fn columns_are_those_that_the_table_maps() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let expected = raw(folder.path(), &records);
    // Renamed columns, two that have each other's names, and members too.
    let physical = |name: &str| match name {
        "sourceIPAddress" => "userAgent".to_owned(),
        "userAgent" => "sourceIPAddress".to_owned(),
        "eventTime" | "readOnly" => name.to_owned(),
        "principalId" => "userName".to_owned(),
        "userName" => "principalId".to_owned(),
        other => format!("col-{other}"),
    };
    let rows: Vec<Value> = rows(&records, false, &same).iter().map(|row| respelt(row, &physical)).collect();
    for mode in ["name", "id"] {
        let path = folder.path().join(mode);
        write(&path.join("a.parquet"), with_field_ids(&fields(), &physical, &mut 1), &rows);
        // In the mode `id` names do not matter.
        let in_schema = |name: &str| if mode == "id" { format!("other-{name}") } else { physical(name) };
        let schema = mapped(&schema_of(&fields()), &in_schema, &mut 1);
        let configuration = json!({"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "100"});
        let version_2 = json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}});
        let mut table = DeltaTable::new(path, &[version_2, metadata(&schema, &[], &configuration)]);
        table.commit(&[table.add("a.parquet")]);
        let found = hunt(table.path(), &[]);
        assert_eq!(told(&found), expected, "{mode}: {}", talk(&found));

        // A dropped column, and a dropped member.
        let mut dropped = schema.clone();
        let fields = dropped["fields"].as_array_mut().unwrap();
        fields.retain(|field| field["name"] != "userAgent");
        let identity = fields.iter_mut().find(|field| field["name"] == "userIdentity").unwrap();
        identity["type"]["fields"].as_array_mut().unwrap().retain(|member| member["name"] != "principalId");
        table.commit(&[metadata(&dropped, &[], &configuration)]);
        let mut without = records.clone();
        for record in &mut without {
            record.as_object_mut().unwrap().remove("userAgent");
            record["userIdentity"].as_object_mut().unwrap().remove("principalId");
        }
        let sql = "SELECT count(userAgent) AS agents, count(userIdentity.principalId) AS principals, \
                   count(userIdentity.userName) AS names FROM cloudtrail";
        let count = |data: &str| String::from_utf8(tawny(&["query", sql, data, "--format", "csv"]).stdout).unwrap();
        raw(folder.path(), &without);
        let of_raw = count(folder.path().join("raw.json").to_str().unwrap());
        assert_eq!(count(table.path()), of_raw, "{mode}");
        assert!(of_raw.contains("\n0,0,"), "{of_raw}");
    }
}

#[test]
fn a_mapping_applies_to_the_columns_of_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let spell = |name: &str| if name == "eventTime" { "happened".to_owned() } else { format!("x{name}") };
    let ours = columns(timestamp("happened", TimeUnit::Microsecond, Some("UTC")), true, &spell);
    let mut own = ours.clone();
    own.retain(|field| field.name() != "xrecipientAccountId");
    let mut table = DeltaTable::new(path.clone(), &table_of(&ours, &["xrecipientAccountId"]));
    let mut adds = Vec::new();
    for account in [A, B] {
        let of_account: Vec<Value> =
            records().into_iter().filter(|record| record["recipientAccountId"] == account).collect();
        let mut rows = rows(&of_account, true, &spell);
        for row in &mut rows {
            row.as_object_mut().unwrap().remove("xrecipientAccountId");
        }
        let name = format!("{account}.parquet");
        write(&path.join(&name), own.clone(), &rows);
        adds.push(table.add_with(&name, &json!({"partitionValues": {"xrecipientAccountId": account}})));
    }
    table.commit(&adds);
    let map = folder.path().join("map.yml");
    let columns = ours.iter().map(|field| field.name().as_str()).filter(|name| name.starts_with('x'));
    let lines: Vec<String> = columns.map(|name| format!("  {}: '\"{name}\"'\n", &name[1..])).collect();
    let columns = lines.concat();
    let identity =
        "only:\n  userIdentity: [type, principalId, arn, accountId, userName, invokedBy, onBehalfOf, sessionContext]\n";
    fs::write(&map, format!("layout: ours\ncolumns:\n  eventTime: happened\n{columns}{identity}")).unwrap();
    let found = hunt(table.path(), &["--map", map.to_str().unwrap()]);
    assert_eq!(told(&found), raw(folder.path(), &records()), "{}", talk(&found));
    assert_eq!(hunt(table.path(), &["--layout", "raw"]).status.code(), Some(2));
    assert_eq!(hunt(table.path(), &["--unwrap", "a"]).status.code(), Some(2));
}

#[test]
fn tables_that_cannot_be_read_as_a_whole_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refused = |table: &DeltaTable, expected: &str| {
        let output = hunt(table.path(), &[]);
        assert_eq!(output.status.code(), Some(3), "{}", talk(&output));
        assert!(talk(&output).contains(expected), "{expected}: {}", talk(&output));
    };
    // A feature that changes what is read.
    let mut schema = schema_of(&fields());
    let variant = json!({"name": "v", "type": "variant", "nullable": true, "metadata": {}});
    schema["fields"].as_array_mut().unwrap().push(variant);
    let actions = [protocol(&["variantType"]), metadata(&schema, &[], &json!({}))];
    refused(&DeltaTable::new(path("feature"), &actions), "a variant in the column `v`");
    // Some writers name the feature though no column needs it.
    let actions = [protocol(&["variantType"]), metadata(&schema_of(&fields()), &[], &json!({}))];
    let mut table = DeltaTable::new(path("unused"), &actions);
    write_records(&path("unused").join("a.parquet"), &records());
    table.commit(&[table.add("a.parquet")]);
    let found = hunt(table.path(), &[]);
    assert_eq!(told(&found), raw(folder.path(), &records()), "{}", talk(&found));
    let actions = [protocol(&["someday"]), metadata(&schema_of(&fields()), &[], &json!({}))];
    refused(&DeltaTable::new(path("unknown"), &actions), "someday");

    // A file elsewhere, as in a shallow clone.
    write_records(&path("elsewhere.parquet"), &records());
    let mut clone = DeltaTable::new(path("clone"), &table_of(&fields(), &[]));
    let mut add = json!({"path": "", "partitionValues": {}, "size": 1, "modificationTime": 0, "dataChange": true});
    add["path"] = json!(format!("file://{}", path("elsewhere.parquet").display()));
    clone.commit(&[json!({ "add": add })]);
    refused(&clone, "elsewhere.parquet");

    // A missing commit, a damaged one, and none.
    let (table, _) = versions(path("gap"));
    fs::remove_file(table.commit_file(2)).unwrap();
    refused(&table, "_delta_log");
    let (table, _) = versions(path("cut"));
    let commit = fs::read(table.commit_file(3)).unwrap();
    fs::write(table.commit_file(3), &commit[..commit.len() / 2]).unwrap();
    refused(&table, "00000000000000000003.json");
    let (table, _) = versions(path("empty"));
    for version in 0..table.version {
        fs::remove_file(table.commit_file(version)).unwrap();
    }
    refused(&table, "_delta_log");

    // A missing file, and one in its place.
    let (table, live) = versions(path("missing"));
    let stats = json!({"stats": json!({"numRecords": 1}).to_string()});
    let mut table = DeltaTable { version: table.version, ..table };
    table.commit(&[table.add_with("e.parquet", &stats)]);
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &live[4]));
    fs::copy(table.folder.join("b.parquet"), table.folder.join("e.parquet")).unwrap();
    refused(&table, "e.parquet");
    fs::remove_file(table.folder.join("e.parquet")).unwrap();
    refused(&table, "e.parquet");
}

/// Asserts that a hunt of `sources` is refused because of the table of `format`.
fn refused_listing(run: &dyn Fn(&[&str]) -> Output, sources: &[&str], format: &str) {
    let output = run(&[&["hunt"], sources, &["--format", "jsonl"]].concat());
    assert_eq!(output.status.code(), Some(2), "{sources:?}: {}", talk(&output));
    assert!(talk(&output).contains(format), "{sources:?}: {}", talk(&output));
    assert_eq!(output.stdout, b"");
}

#[test]
fn files_of_a_table_are_never_read_by_listing() {
    let server = Server::start();
    let on_disk = tempfile::tempdir().unwrap();
    for (format, mark) in [
        ("a Delta table", "_delta_log/00000000000000000000.json"),
        ("an Iceberg table", "metadata/00000-5fba94ed.metadata.json"),
        ("a Hudi table", ".hoodie/hoodie.properties"),
    ] {
        // A folder named `_delta_log` would itself make its parent a table.
        let name = format.rsplit_once(' ').unwrap().0.replace(' ', "-");
        let name = name.as_str();
        for root in [on_disk.path().join(name), server.file("tables", name)] {
            write_records(&root.join("team/table/data/day=1/a.parquet"), &records());
            write_records(&root.join("alone/b.parquet"), &records());
            let mark = root.join("team/table").join(mark);
            fs::create_dir_all(mark.parent().unwrap()).unwrap();
            fs::write(mark, "{}").unwrap();
        }
        let disk = on_disk.path().join(name).display().to_string();
        let bucket = format!("s3://tables/{name}");
        let in_bucket = |arguments: &[&str]| server.tawny(arguments);
        for root in [&disk, &bucket] {
            let run: &dyn Fn(&[&str]) -> Output = if root == &bucket { &in_bucket } else { &tawny };
            let source = |below: &str| format!("{root}/{below}");
            for below in [
                "team",
                "team/table/data",
                "team/table/data/day=1",
                "team/table/data/day=1/a.parquet",
                "team/table/data/*/*.parquet",
                "team/*/data/*/*.parquet",
                "*/*/data",
            ] {
                // Without the option a pattern in S3 stands for raw objects.
                let option: &[&str] = if below.contains('*') { &["--layout", "athena"] } else { &[] };
                refused_listing(run, &[&[source(below).as_str()], option].concat(), format);
            }
            refused_listing(run, &[&source("alone"), &source("team/table")], format);
            refused_listing(run, &[&source("team/table/data"), "--layout", "athena"], format);
            if format == "a Hudi table" {
                refused_listing(run, &[&source("team/table")], format);
            }
            assert_eq!(run(&["hunt", &source("alone")]).status.code(), Some(0));
        }
    }
}
