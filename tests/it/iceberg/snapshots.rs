use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use arrow::datatypes::TimeUnit;
use iceberg::spec::{Datum, Literal, Struct};
use serde_json::{Value, json};

use super::writer::*;
use crate::s3_server::Server;
use crate::tables::*;

/// Writes a table with an append, an append, an overwrite and a delete. Returns the IDs of the snapshots and their live
/// records.
fn versions(mut table: IcebergTable) -> (IcebergTable, Vec<(String, Vec<Value>)>) {
    let records = records();
    let append = table.data("a", &records[..5]);
    let first = table.commit(std::slice::from_ref(&append));
    let another = table.data("b", &records[5..]);
    let second = table.commit(&[append, another]);
    let overwrite = table.data("c", &records[3..9]);
    let third = table.commit(&[overwrite]);
    let rewritten = [table.data("d", &records[..2]), table.data("e", &records[2..3])];
    let fourth = table.commit(&rewritten);
    let live = [&records[..5], &records[..], &records[3..9], &records[..3]].map(<[Value]>::to_vec);
    let live = [first, second, third, fourth].into_iter().zip(live).collect();
    (table, live)
}

#[test]
fn each_snapshot_holds_its_live_records() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let (table, live) = versions(IcebergTable::new(folder.path().join("table"), None));
    let in_bucket = IcebergTable::new(server.file("tables", "team/table"), Some("s3://tables/team/table"));
    versions(in_bucket);
    for (id, live) in &live {
        let expected = raw(folder.path(), live);
        let found = hunt(table.path(), &["--as-of", id]);
        assert_eq!(told(&found), expected, "{id}");
        assert!(talk(&found).contains(&format!("table version: {id} ")), "{}", talk(&found));
        let arguments = ["hunt", "s3://tables/team/table", "--format", "jsonl", "--as-of", id];
        assert_eq!(told(&server.tawny(&arguments)), expected, "{id} in S3");
    }
    let newest = raw(folder.path(), &live[3].1);
    assert_eq!(told(&hunt(table.path(), &[])), newest);
    // A metadata file has the snapshots up to its own commit, and no later ones.
    assert_eq!(told(&hunt(table.metadata_file().to_str().unwrap(), &[])), newest);
    let older = table.folder.join("metadata/00003-9c12d441-03fe-4693-9a96-a0705ddf69c1.metadata.json");
    assert_eq!(told(&hunt(older.to_str().unwrap(), &[])), raw(folder.path(), &live[1].1));
    let url = "s3://tables/team/table/metadata/00003-9c12d441-03fe-4693-9a96-a0705ddf69c1.metadata.json";
    assert_eq!(told(&server.tawny(&["hunt", url, "--format", "jsonl"])), raw(folder.path(), &live[1].1));
    // Between the first snapshot and the second.
    let time = chrono::DateTime::from_timestamp_millis(snapshot_time(0) + 1).unwrap().to_rfc3339();
    assert_eq!(told(&hunt(table.path(), &["--as-of", &time])), raw(folder.path(), &live[0].1));
    for none in ["5", "2020-01-01"] {
        let refused = hunt(table.path(), &["--as-of", none]);
        assert_eq!(refused.status.code(), Some(2), "{none}: {}", talk(&refused));
        assert!(talk(&refused).contains("the newest snapshots are"), "{}", talk(&refused));
    }
    let seen = tawny(&["inspect", table.path(), "--format", "json"]);
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!((&seen["version"], &seen["records"], &seen["objects"]), (&json!(snapshot_id(4)), &json!(3), &json!(2)));
}

#[test]
fn every_command_reads_the_live_records() {
    let folder = tempfile::tempdir().unwrap();
    let (table, live) = versions(IcebergTable::new(folder.path().join("table"), None));
    raw(folder.path(), &live[1].1);
    let raw = folder.path().join("raw.json");
    let both = |arguments: &[&str]| {
        let of = |data: &str, more: &[&str]| {
            let output = tawny(&[arguments, &[data], more].concat());
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", talk(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        (of(table.path(), &["--as-of", &live[1].0]), of(raw.to_str().unwrap(), &[]))
    };
    let rule = tawny::rule::catalog::DEFAULT;
    let (of_table, of_raw) =
        both(&["backtest", "--rule", rule, "--thresholds", "2,3", "--periods", "5m,15m", "--format", "csv"]);
    assert_eq!(of_table, of_raw);
    let sql = "SELECT eventName, userIdentity.userName AS name, eventTime FROM cloudtrail ORDER BY eventTime, name";
    let (of_table, of_raw) = both(&["query", sql, "--format", "csv"]);
    assert_eq!(of_table, of_raw);
    assert!(of_raw.lines().count() > 10, "{of_raw}");
}

#[test]
fn columns_are_found_by_their_field_ids() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None);
    let mut records = records();
    // Two columns have each other's names in the first file, as after renaming both.
    let swapped = |name: &str| match name {
        "sourceIPAddress" => "userAgent".to_owned(),
        "userAgent" => "sourceIPAddress".to_owned(),
        other => other.to_owned(),
    };
    let names: Vec<_> = table.fields.iter().map(|field| field.clone().with_name(swapped(field.name()))).collect();
    let current = std::mem::replace(&mut table.fields, names.clone());
    table.evolve(names);
    let first: Vec<Value> = rows(&records[..6], false, &same).iter().map(|row| respelt(row, &swapped)).collect();
    let first = table.data_of("a", &first);
    table.commit(std::slice::from_ref(&first));
    table.evolve(current.clone());
    let second = table.data("b", &records[6..]);
    table.commit(&[first.clone(), second]);
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records));

    // A column that is dropped, and added again under the same name: old files do not have it.
    let again = |field: &arrow::datatypes::Field| {
        if field.name() != "userAgent" {
            return field.clone();
        }
        field.clone().with_metadata(HashMap::from([("PARQUET:field_id".to_owned(), "90".to_owned())]))
    };
    table.evolve(current.iter().map(again).collect());
    let third = table.data("c", &records[6..]);
    table.commit(&[first, third]);
    for record in &mut records[..6] {
        record.as_object_mut().unwrap().remove("userAgent");
    }
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records));
}

/// A map with some of the columns.
const MAP: &str = "\
layout: ours
columns:
  eventTime: eventTime
  eventID: eventID
  eventName: eventName
  userIdentity: userIdentity
";

/// Returns the number of files that a hunt of these days would read.
fn files_read(table: &IcebergTable, from: &str, to: &str, more: &[&str]) -> Value {
    let arguments = ["hunt", table.path(), "--from", from, "--to", to, "--dry-run", "--format", "json"];
    let output = tawny(&[&arguments, more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["objects"].clone()
}

fn micros(record: &Value) -> i64 {
    let time = record["eventTime"].as_str().unwrap();
    chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp_micros()
}

#[test]
fn bounds_and_partitions_decide_which_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let time = fields().into_iter().find(|field| field.name() == "eventTime").unwrap();
    let id = field_id(&time);
    for by_partition in [false, true] {
        let mut table = IcebergTable::new(folder.path().join(format!("by_partition_{by_partition}")), None);
        if by_partition {
            let day = json!({"source-id": id, "field-id": 1000, "name": "day", "transform": "day"});
            table.spec = json!({"spec-id": 0, "fields": [day]});
        }
        let mut live = Vec::new();
        for (number, record) in records.iter().enumerate() {
            table.data(&number.to_string(), std::slice::from_ref(record));
            live.push(table.live(&format!("data/{number}.parquet"), 1, |file| {
                let micros = micros(record);
                if by_partition {
                    let day = i32::try_from(micros.div_euclid(86_400_000_000)).unwrap();
                    file.partition(Struct::from_iter([Some(Literal::date(day))]));
                } else {
                    let bounds = HashMap::from([(id, Datum::timestamptz_micros(micros))]);
                    file.lower_bounds(bounds.clone()).upper_bounds(bounds);
                }
            }));
        }
        table.commit(&live);
        assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records));
        let of = |day: &str| records.iter().filter(|one| one["eventTime"].as_str().unwrap().starts_with(day)).count();
        // A hunt also reads what its windows need before the range.
        let expected = of(if by_partition { "2026-09-02" } else { "2026-09-02T1" });
        assert_eq!(files_read(&table, "2026-09-02T09:00:00Z", "2026-09-03", &[]), json!(expected));
        assert_eq!(files_read(&table, "2026-08-01", "2026-08-02", &[]), json!(0));
        let ranged = |data: &str| {
            let range = ["--from", "2026-09-02T09:00:00Z", "--to", "2026-09-02T12:10:00Z"];
            told(&tawny(&[&["hunt", data, "--format", "jsonl"], &range[..]].concat()))
        };
        let raw_file = folder.path().join("raw.json");
        assert_eq!(ranged(table.path()), ranged(raw_file.to_str().unwrap()));
        // A map may take the time from any column, so that bounds of others decide nothing.
        let map = folder.path().join("map.yml");
        fs::write(&map, MAP).unwrap();
        let map = map.to_str().unwrap();
        assert_eq!(files_read(&table, "2026-08-01", "2026-08-02", &["--map", map]), json!(records.len()));
    }
}

#[test]
fn a_column_that_files_lack_has_the_value_of_their_partition() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None);
    let all = table.fields.clone();
    let account = all.iter().find(|field| field.name() == "recipientAccountId").unwrap();
    let field = json!({"source-id": field_id(account), "field-id": 1000, "name": "account", "transform": "identity"});
    table.spec = json!({"spec-id": 0, "fields": [field]});
    let records = records();
    let mut live = Vec::new();
    table.fields.retain(|field| field.name() != "recipientAccountId");
    for account in [A, B] {
        let of_account: Vec<Value> =
            records.iter().filter(|record| record["recipientAccountId"] == json!(account)).cloned().collect();
        table.data(account, &of_account);
        live.push(table.live(&format!("data/{account}.parquet"), of_account.len(), |file| {
            file.partition(Struct::from_iter([Some(Literal::string(account))]));
        }));
    }
    table.fields = all;
    table.commit(&live);
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records));
}

#[test]
fn a_file_without_field_ids_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None);
    let (imported, of_table) =
        (columns(timestamp("eventTime", TimeUnit::Microsecond, Some("UTC")), false, &same), &table.fields);
    let mut only_a_member = of_table.clone();
    let identity = only_a_member.iter().position(|field| field.name() == "userIdentity").unwrap();
    let members = imported.iter().find(|field| field.name() == "userIdentity").unwrap().data_type().clone();
    only_a_member[identity] = only_a_member[identity].clone().with_data_type(members);
    for (name, fields) in [("whole", imported), ("member", only_a_member)] {
        write(&table.folder.join(format!("data/{name}.parquet")), fields, &rows(&records(), false, &same));
        let live = table.live(&format!("data/{name}.parquet"), records().len(), |_| ());
        table.commit(&[live]);
        refused(table.path(), "has no field ID");
        let query = tawny(&["query", "SELECT count(*) FROM cloudtrail", table.path(), "--layout", "umccr"]);
        assert_eq!(query.status.code(), Some(3), "{}", talk(&query));
    }
}

#[test]
fn a_file_without_bounds_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None);
    let live = table.data("a", &records());
    table.commit(&[live]);
    assert_eq!(files_read(&table, "2026-08-01", "2026-08-02", &[]), json!(1));
}

/// Returns the files of the metadata, and how each names itself to a test.
fn metadata_files(table: &IcebergTable) -> Vec<PathBuf> {
    let names = ["metadata/data-1.avro".to_owned(), format!("metadata/snap-{}.avro", snapshot_id(1))];
    let mut files: Vec<PathBuf> = names.iter().map(|name| table.folder.join(name)).collect();
    files.push(table.metadata_file());
    files
}

#[test]
fn damaged_metadata_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None);
    let live = table.data("a", &records());
    table.commit(std::slice::from_ref(&live));
    for file in metadata_files(&table) {
        let whole = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        for damaged in [whole[..whole.len() / 2].to_vec(), Vec::new(), b"{}".to_vec()] {
            fs::write(&file, damaged).unwrap();
            refused(table.path(), &name);
        }
        fs::remove_file(&file).unwrap();
        if file != table.metadata_file() {
            refused(table.path(), &name);
        }
        fs::write(&file, &whole).unwrap();
        // No flipped bit ends the program otherwise than by an error or with findings.
        for place in (0..whole.len()).step_by(whole.len() / 12) {
            let mut flipped = whole.clone();
            flipped[place] ^= 1 << (place % 8);
            fs::write(&file, flipped).unwrap();
            let output = hunt(table.path(), &[]);
            assert!(matches!(output.status.code(), Some(0 | 2 | 3)), "{name} {place}: {}", talk(&output));
            assert!(!talk(&output).contains("panicked"), "{name} {place}: {}", talk(&output));
        }
        fs::write(&file, whole).unwrap();
    }
    fs::remove_file(table.folder.join("data/a.parquet")).unwrap();
    refused(table.path(), "a.parquet");
    // The file has another number of records than the metadata say.
    table.data("a", &records());
    let short = table.live("data/a.parquet", 3, |_| ());
    table.commit(&[short]);
    refused(table.path(), "a.parquet");
}

#[test]
fn features_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    let mut new = || {
        number += 1;
        IcebergTable::new(folder.path().join(number.to_string()), None)
    };
    let mut table = new();
    table.data("a", &records());
    let orc = table.live("data/a.parquet", 15, |file| {
        file.file_format(iceberg::spec::DataFileFormat::Orc);
    });
    table.commit(&[orc]);
    refused(table.path(), "is ORC; only Parquet is supported");

    let mut table = new();
    table.data("a", &records());
    let encrypted = table.live("data/a.parquet", 15, |file| {
        file.key_metadata(Some(vec![1, 2]));
    });
    table.commit(&[encrypted]);
    refused(table.path(), "encrypted files are not supported");

    let mut table = new();
    let live = table.data("a", &records());
    table.commit(&[live.clone(), live]);
    refused(table.path(), "twice");

    let mut table = new().with_format(3);
    let live = table.data("a", &records());
    table.commit(&[live]);
    let mut metadata = table.metadata();
    metadata["schemas"][0]["fields"][0]["initial-default"] = json!("1.0");
    fs::write(table.metadata_file(), metadata.to_string()).unwrap();
    refused(table.path(), "`eventVersion` has a default value");
    metadata["format-version"] = json!(4);
    fs::write(table.metadata_file(), metadata.to_string()).unwrap();
    refused(table.path(), "format version 4");

    let mut elsewhere = IcebergTable::new(folder.path().join("elsewhere"), Some("gs://bucket/table"));
    let live = elsewhere.data("a", &records());
    elsewhere.commit(&[live]);
    refused(elsewhere.path(), "neither an absolute path nor in S3");

    // Without a snapshot there is nothing to read, which a run does not end with 0.
    let empty = new();
    assert_eq!(hunt(empty.path(), &[]).status.code(), Some(3));
}
