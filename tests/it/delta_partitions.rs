//! Partition columns of Delta tables, which have the types of the table.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::delta_tables::{DeltaTable, fields, metadata, protocol, schema_of};
use crate::tables::*;

/// Writes a table with a file for each of `records`. `values` gives the partition values of a record; files lack their columns.
fn partitioned(path: &Path, schema: &Value, records: &[Value], values: &dyn Fn(usize, &Value) -> Value) -> DeltaTable {
    let names: Vec<String> = values(0, &records[0]).as_object().unwrap().keys().cloned().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    let mut table = DeltaTable::new(path.to_owned(), &[protocol, metadata(schema, &names, &json!({}))]);
    let mut own = fields();
    own.retain(|field| !names.contains(&field.name().as_str()));
    let mut adds = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let mut row = rows(std::slice::from_ref(record), false, &same).remove(0);
        row.as_object_mut().unwrap().retain(|name, _| !names.contains(&name.as_str()));
        let name = format!("{number}.parquet");
        write(&path.join(&name), own.clone(), &[row]);
        adds.push(table.add_with(&name, &json!({ "partitionValues": values(number, record) })));
    }
    table.commit(&adds);
    table
}

/// Returns the schema of [`fields`] and more columns, with other types for some columns.
fn schema_with(types: &[(&str, &str)]) -> Value {
    let mut schema = schema_of(&fields());
    let columns = schema["fields"].as_array_mut().unwrap();
    for (name, data_type) in types {
        columns.retain(|field| field["name"] != *name);
        columns.push(json!({"name": name, "type": data_type, "nullable": true, "metadata": {}}));
    }
    schema
}

#[test]
fn partition_columns_have_their_types_and_tell_the_layout() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = records();
    for (number, record) in records.iter_mut().enumerate() {
        let time = record["eventTime"].as_str().unwrap().trim_end_matches('Z').to_owned();
        record["eventTime"] = json!(format!("{time}.{number:06}Z"));
    }
    let duplicate = records.len() - 1;
    records[duplicate]["eventTime"] = records[4]["eventTime"].clone();
    let expected = raw(folder.path(), &records);
    assert_ne!(expected, Vec::<String>::new());
    // Two of the columns that tell the layout are partition columns. Timestamps have both forms of the protocol; those without a
    // zone have one form.
    let values = |has_zone: bool, number: usize, record: &Value| {
        let time = record["eventTime"].as_str().unwrap();
        let plain = time.replace('T', " ").replace('Z', "");
        json!({
            "eventTime": if has_zone && number.is_multiple_of(2) { time.to_owned() } else { plain }, "eventName": record["eventName"],
            "readOnly": "false", "shard": number.to_string(), "event_day": &time[..10], "note": "",
        })
    };
    for kind in ["timestamp", "timestamp_ntz"] {
        let types = [
            ("eventTime", kind),
            ("readOnly", "boolean"),
            ("shard", "integer"),
            ("event_day", "date"),
            ("note", "string"),
        ];
        let path = folder.path().join(kind);
        let values = |number: usize, record: &Value| values(kind == "timestamp", number, record);
        let mut table = partitioned(&path, &schema_with(&types), &records, &values);
        if kind == "timestamp_ntz" {
            table.commit(&[protocol(&["timestampNtz"])]);
        }
        let found = hunt(table.path(), &[]);
        assert_eq!(told(&found), expected, "{kind}: {}", talk(&found));
        let map = folder.path().join("map.yml");
        let columns = "  eventVersion: 'arrow_typeof(shard)'\n  eventID: 'arrow_typeof(event_day)'\n  \
                       vpcEndpointId: 'arrow_typeof(\"readOnly\")'\n  apiVersion: note\n";
        fs::write(&map, format!("layout: ours\ncolumns:\n{columns}")).unwrap();
        let sql = "SELECT DISTINCT eventVersion, eventID, vpcEndpointId, apiVersion IS NULL, readOnly FROM cloudtrail";
        let query =
            ["query", sql, table.path(), "--with-duplicates", "--format", "csv", "--map", map.to_str().unwrap()];
        let answer = tawny(&query);
        let lines = String::from_utf8(answer.stdout.clone()).unwrap();
        assert_eq!(lines.lines().nth(1), Some("Utf8,Date32,Boolean,true,false"), "{kind}: {lines}{}", talk(&answer));
        assert_eq!(lines.lines().count(), 2, "{lines}");
        let dry = tawny(&["hunt", table.path(), "--from", "2030-01-01", "--dry-run", "--format", "json"]);
        assert_eq!(serde_json::from_slice::<Value>(&dry.stdout).unwrap()["objects"], json!(0), "days select files");
    }
}

#[test]
fn dates_and_null_values_of_partitions_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = records();
    for record in &mut records {
        let day = record["eventTime"].as_str().unwrap()[..10].to_owned();
        record["eventTime"] = json!(format!("{day}T00:00:00Z"));
    }
    let types = [("eventTime", "date"), ("recipientAccountId", "long")];
    let values = |_: usize, record: &Value| {
        let account: u64 = record["recipientAccountId"].as_str().unwrap().parse().unwrap();
        json!({
            "eventTime": &record["eventTime"].as_str().unwrap()[..10], "recipientAccountId": account.to_string(),
            "awsRegion": "",
        })
    };
    let table = partitioned(&folder.path().join("days"), &schema_with(&types), &records, &values);
    for record in &mut records {
        record.as_object_mut().unwrap().remove("awsRegion");
    }
    let expected = raw(folder.path(), &records);
    assert!(expected.len() > 2, "{expected:?}");
    let found = hunt(table.path(), &[]);
    assert_eq!(told(&found), expected, "{}", talk(&found));

    // A value that is none of its column's type is named.
    let wrong = |_: usize, _: &Value| json!({"eventTime": "2026-09-31"});
    let table =
        partitioned(&folder.path().join("wrong"), &schema_with(&[("eventTime", "date")]), &records[..1], &wrong);
    let refused = hunt(table.path(), &[]);
    assert_eq!(refused.status.code(), Some(3), "{}", talk(&refused));
    let reason = "cannot be used: Failed to parse value '2026-09-31' as 'date'";
    assert!(talk(&refused).contains(reason), "{}", talk(&refused));
}
