//! One trail, and tables of it in the form of other tools.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tawny::rule::catalog::DEFAULT;

/// Runs the program. A hunt without a rule uses the default rule.
pub(crate) fn tawny(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    command.args(arguments);
    if arguments[0] == "hunt" && !arguments.contains(&"--rules") {
        command.args(["--rule", DEFAULT]);
    }
    crate::s3_server::ended(command.output().unwrap())
}

pub(crate) const A: &str = "000011112222";
pub(crate) const B: &str = "444455556666";

/// Returns sign-ins that fail MFA: bursts, a pair exactly a period apart, a duplicate, a success, names that two accounts
/// share, and missing fields.
pub(crate) fn records() -> Vec<Value> {
    let identity = |account: &str, user: &str| match user {
        "root" => {
            json!({"type": "Root", "principalId": account, "arn": format!("arn:aws:iam::{account}:root"), "accountId": account})
        }
        "role" => json!({
            "type": "AssumedRole", "principalId": "AROAEXAMPLE:session", "accountId": account,
            "arn": format!("arn:aws:sts::{account}:assumed-role/deploy/session"),
            "sessionContext": {"sessionIssuer": {"type": "Role", "userName": "deploy", "arn": format!("arn:aws:iam::{account}:role/deploy")}}
        }),
        user => {
            json!({"type": "IAMUser", "principalId": format!("AIDA{user}"), "accountId": account, "userName": user})
        }
    };
    let record = |number: usize, (account, user, time, outcome): (&str, &str, &str, &str)| {
        json!({
            "eventVersion": "1.08",
            "userIdentity": identity(account, user),
            "eventTime": format!("2026-09-{time}Z"),
            "eventSource": "signin.amazonaws.com",
            "eventName": "ConsoleLogin",
            "awsRegion": "eu-west-1",
            "sourceIPAddress": "192.0.2.7",
            "userAgent": "Mozilla/5.0",
            "errorMessage": if outcome == "Failure" { json!("Failed authentication") } else { Value::Null },
            "requestParameters": null,
            "responseElements": {"ConsoleLogin": outcome},
            "additionalEventData": if user == "bare" { Value::Null } else { json!({"MFAUsed": "Yes", "MobileVersion": "No"}) },
            "eventID": format!("00000000-0000-0000-0000-{number:012}"),
            "readOnly": false,
            "eventType": "AwsConsoleSignIn",
            "recipientAccountId": account,
        })
    };
    let sign_ins = [
        (A, "anaya", "01T23:58:00", "Failure"),
        (A, "anaya", "02T00:05:00", "Failure"),
        (A, "anaya", "02T00:12:59", "Failure"),
        (B, "anaya", "01T23:59:00", "Failure"),
        (A, "bo", "02T10:00:00", "Failure"),
        (A, "bo", "02T10:15:00", "Failure"),
        (B, "root", "02T12:00:00", "Failure"),
        (B, "root", "02T12:14:59", "Failure"),
        (B, "role", "02T13:00:00", "Failure"),
        (B, "role", "02T13:00:01", "Failure"),
        (A, "cy", "02T14:00:00", "Failure"),
        (A, "cy", "02T14:01:00", "Success"),
        (A, "bare", "02T15:00:00", "Failure"),
        (A, "bare", "02T15:01:00", "Failure"),
    ];
    let mut records: Vec<Value> =
        sign_ins.into_iter().enumerate().map(|(number, sign_in)| record(number, sign_in)).collect();
    // A duplicate.
    records.push(records[4].clone());
    records
}

/// Returns what is equal in every layout of the findings of a raw hunt of these records.
pub(crate) fn raw(folder: &Path, records: &[Value]) -> Vec<String> {
    let raw = folder.join("raw.json");
    std::fs::write(&raw, json!({ "Records": records }).to_string()).unwrap();
    told(&tawny(&["hunt", raw.to_str().unwrap(), "--format", "jsonl"]))
}

/// Hunts the table with the default rule.
pub(crate) fn hunt(table: &str, more: &[&str]) -> Output {
    tawny(&[&["hunt", table, "--format", "jsonl"], more].concat())
}

/// Returns what a run printed to standard error.
pub(crate) fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the fields of findings that are equal in every layout.
pub(crate) fn told(output: &Output) -> Vec<String> {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let line = |line: &str| {
        let finding: Value = serde_json::from_str(line).unwrap();
        let fields = [
            "finding_id",
            "group",
            "count",
            "event_ids",
            "trigger_time",
            "source_ips",
            "user_agents",
            "regions",
            "title",
        ];
        fields.map(|field| finding[field].to_string()).join(" ")
    };
    String::from_utf8_lossy(&output.stdout).lines().map(line).collect()
}

pub(crate) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

pub(crate) fn group(name: &str, fields: Vec<Field>) -> Field {
    Field::new(name, DataType::Struct(Fields::from(fields)), true)
}

pub(crate) fn timestamp(name: &str, unit: TimeUnit, zone: Option<&str>) -> Field {
    Field::new(name, DataType::Timestamp(unit, zone.map(Into::into)), true)
}

/// Returns fields with names respelled at every level, and with field IDs that count from `next`, a struct before its members.
pub(crate) fn with_field_ids(fields: &[Field], spell: &dyn Fn(&str) -> String, next: &mut i64) -> Vec<Field> {
    let field = |field: &Field| {
        let id = *next;
        *next += 1;
        let data_type = match field.data_type() {
            DataType::Struct(members) => {
                let members: Vec<Field> = members.iter().map(|member| member.as_ref().clone()).collect();
                DataType::Struct(with_field_ids(&members, spell, next).into())
            }
            other => other.clone(),
        };
        let metadata = HashMap::from([("PARQUET:field_id".to_owned(), id.to_string())]);
        Field::new(spell(field.name()), data_type, true).with_metadata(metadata)
    };
    fields.iter().map(field).collect()
}

/// Writes rows with the columns of [`Field`]s to a Parquet file.
pub(crate) fn write(path: &Path, fields: Vec<Field>, rows: &[Value]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(&schema)).build_decoder().unwrap();
    decoder.serialize(rows).unwrap();
    let batch = decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&schema)));
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Returns a value with its keys respelled at every level.
pub(crate) fn respelt(value: &Value, spell: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (spell(key), respelt(value, spell)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// Returns JSON as text, and null as null.
pub(crate) fn as_text(value: &Value) -> Value {
    if value.is_null() { Value::Null } else { Value::String(value.to_string()) }
}

pub(crate) fn snake(name: &str) -> String {
    let known = [("eventID", "event_id"), ("sourceIPAddress", "source_ip_address")];
    if let Some((_, snake)) = known.iter().find(|(camel, _)| *camel == name) {
        return (*snake).to_owned();
    }
    name.chars().flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] }).collect()
}

pub(crate) const JSON_FIELDS: [&str; 3] = ["requestParameters", "responseElements", "additionalEventData"];

/// Returns rows with JSON fields as text and keys respelled by `spell`. `userIdentity` is text or a struct.
pub(crate) fn rows(records: &[Value], identity_is_text: bool, spell: &dyn Fn(&str) -> String) -> Vec<Value> {
    let row = |record: &Value| {
        let mut row = serde_json::Map::new();
        for (key, value) in record.as_object().unwrap() {
            let is_text = JSON_FIELDS.contains(&key.as_str()) || (identity_is_text && key == "userIdentity");
            row.insert(spell(key), if is_text { as_text(value) } else { respelt(value, spell) });
        }
        Value::Object(row)
    };
    records.iter().map(row).collect()
}

/// Returns the columns of such rows.
pub(crate) fn columns(time: Field, identity_is_text: bool, spell: &dyn Fn(&str) -> String) -> Vec<Field> {
    let plain = [
        "eventVersion",
        "eventSource",
        "eventName",
        "awsRegion",
        "sourceIPAddress",
        "userAgent",
        "errorMessage",
        "eventID",
        "eventType",
        "recipientAccountId",
    ];
    let mut fields: Vec<Field> = plain.into_iter().chain(JSON_FIELDS).map(|name| text(&spell(name))).collect();
    fields.push(time);
    fields.push(Field::new(spell("readOnly"), DataType::Boolean, true));
    let member = |name: &str| text(&spell(name));
    fields.push(if identity_is_text {
        member("userIdentity")
    } else {
        let issuer = group(&spell("sessionIssuer"), ["type", "userName", "arn"].map(member).to_vec());
        let mut members = ["type", "principalId", "arn", "accountId", "userName", "invokedBy"].map(member).to_vec();
        members.push(group(&spell("sessionContext"), vec![issuer]));
        group(&spell("userIdentity"), members)
    });
    fields
}

pub(crate) fn lower(name: &str) -> String {
    name.to_lowercase()
}

pub(crate) fn same(name: &str) -> String {
    name.to_owned()
}

/// Returns a record in the form of Security Lake.
pub(crate) fn ocsf(record: &Value) -> Value {
    let user = &record["userIdentity"];
    let time = chrono::DateTime::parse_from_rfc3339(record["eventTime"].as_str().unwrap()).unwrap();
    json!({
        "class_uid": 3002,
        "time": time.timestamp_millis(),
        "metadata": {"uid": record["eventID"], "version": "1.1.0"},
        "api": {
            "operation": record["eventName"], "service": {"name": record["eventSource"]},
            "request": {"data": Value::Null},
            "response": {"data": as_text(&record["responseElements"]), "error": Value::Null, "message": record["errorMessage"]},
        },
        "actor": {
            "user": {"type": user["type"], "name": user["userName"], "uid": user["arn"], "uid_alt": user["principalId"], "account": {"uid": user["accountId"]}},
            "session": {"issuer": user["sessionContext"]["sessionIssuer"]["arn"]},
            "invoked_by": Value::Null,
        },
        "cloud": {"region": record["awsRegion"]},
        "src_endpoint": {"ip": record["sourceIPAddress"], "domain": Value::Null},
        "http_request": {"user_agent": record["userAgent"]},
        "is_mfa": record["additionalEventData"]["MFAUsed"].as_str().map(|used| used == "Yes"),
        "status": record["responseElements"]["ConsoleLogin"],
        "unmapped": {"recipientAccountId": record["recipientAccountId"]},
    })
}

pub(crate) fn ocsf_columns() -> Vec<Field> {
    let texts = |names: &[&str]| names.iter().map(|name| text(name)).collect::<Vec<_>>();
    let entries = Field::new(
        "entries",
        DataType::Struct(Fields::from(vec![Field::new("key", DataType::Utf8, false), text("value")])),
        false,
    );
    let mut user = texts(&["type", "name", "uid", "uid_alt"]);
    user.push(group("account", texts(&["uid"])));
    vec![
        Field::new("class_uid", DataType::Int32, true),
        Field::new("time", DataType::Int64, true),
        group("metadata", texts(&["uid", "version"])),
        group(
            "api",
            vec![
                text("operation"),
                group("service", texts(&["name"])),
                group("request", texts(&["data"])),
                group("response", texts(&["data", "error", "message"])),
            ],
        ),
        group("actor", vec![group("user", user), group("session", texts(&["issuer"])), text("invoked_by")]),
        group("cloud", texts(&["region"])),
        group("src_endpoint", texts(&["ip", "domain"])),
        group("http_request", texts(&["user_agent"])),
        Field::new("is_mfa", DataType::Boolean, true),
        text("status"),
        Field::new("unmapped", DataType::Map(Arc::new(entries), false), true),
    ]
}

/// Returns the findings of a hunt of the raw records.
pub(crate) fn of_raw(folder: &Path, records: &[Value]) -> Vec<String> {
    let raw = folder.join("raw.json");
    std::fs::write(&raw, json!({ "Records": records }).to_string()).unwrap();
    let found = told(&tawny(&["hunt", raw.to_str().unwrap(), "--format", "jsonl"]));
    assert_eq!(found.len(), 3, "anaya of one account, root, the role: {found:#?}");
    found
}

/// Writes records to a Parquet file with CloudTrail's column names.
pub(crate) fn write_as_spelt(path: &Path, records: &[Value]) {
    let time = timestamp("eventTime", TimeUnit::Microsecond, Some("UTC"));
    write(path, columns(time, true, &same), &rows(records, true, &same));
}

/// Writes two files of a table with bursts across both.
pub(crate) fn write_both(folder: &Path, parts: [&str; 2], columns: &[Field], rows: &[Value]) {
    let (even, odd): (Vec<_>, Vec<_>) = rows.iter().cloned().enumerate().partition(|(number, _)| number % 2 == 0);
    for (part, rows) in parts.into_iter().zip([even, odd]) {
        let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
        write(&folder.join(part), columns.to_vec(), &rows);
    }
}
