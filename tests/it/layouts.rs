//! One trail in each layout that other tools write: the same rule finds the same.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::s3_server::Server;

fn tawny(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap()
}

const A: &str = "000011112222";
const B: &str = "444455556666";

/// Sign-ins that fail at the second factor: bursts, a pair exactly a period apart, a copy, one that succeeds, names that
/// two accounts share, and fields that are missing.
fn records() -> Vec<Value> {
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
    // Delivered twice.
    records.push(records[4].clone());
    records
}

/// What the same burst has in every layout.
fn told(output: &Output) -> Vec<String> {
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

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn group(name: &str, fields: Vec<Field>) -> Field {
    Field::new(name, DataType::Struct(Fields::from(fields)), true)
}

fn timestamp(name: &str, unit: TimeUnit, zone: Option<&str>) -> Field {
    Field::new(name, DataType::Timestamp(unit, zone.map(Into::into)), true)
}

/// Writes rows that [`Field`]s describe to a Parquet file.
fn write(path: &Path, fields: Vec<Field>, rows: &[Value]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(&schema)).build_decoder().unwrap();
    decoder.serialize(rows).unwrap();
    let batch = decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&schema)));
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A value with its keys spelt another way, at every level.
fn respelt(value: &Value, spell: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (spell(key), respelt(value, spell)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// JSON as text, and null as null.
fn as_text(value: &Value) -> Value {
    if value.is_null() { Value::Null } else { Value::String(value.to_string()) }
}

fn snake(name: &str) -> String {
    let known = [("eventID", "event_id"), ("sourceIPAddress", "source_ip_address")];
    if let Some((_, snake)) = known.iter().find(|(camel, _)| *camel == name) {
        return (*snake).to_owned();
    }
    name.chars().flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] }).collect()
}

const JSON_FIELDS: [&str; 3] = ["requestParameters", "responseElements", "additionalEventData"];

/// Rows whose JSON fields are text, and whose keys are spelt by `spell`; `userIdentity` too is text, or a struct.
fn rows(records: &[Value], identity_is_text: bool, spell: &dyn Fn(&str) -> String) -> Vec<Value> {
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

/// The columns of such rows.
fn columns(time: Field, identity_is_text: bool, spell: &dyn Fn(&str) -> String) -> Vec<Field> {
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

fn lower(name: &str) -> String {
    name.to_lowercase()
}

fn same(name: &str) -> String {
    name.to_owned()
}

/// As Security Lake keeps it.
fn ocsf(record: &Value) -> Value {
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

fn ocsf_columns() -> Vec<Field> {
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

/// What a hunt of the raw records finds.
fn of_raw(folder: &Path, records: &[Value]) -> Vec<String> {
    let raw = folder.join("raw.json");
    std::fs::write(&raw, json!({ "Records": records }).to_string()).unwrap();
    let found = told(&tawny(&["hunt", raw.to_str().unwrap(), "--format", "jsonl"]));
    assert_eq!(found.len(), 3, "anaya of one account, root, the role: {found:#?}");
    found
}

/// Two files of a table, so that bursts lie in both.
fn write_both(folder: &Path, parts: [&str; 2], columns: &[Field], rows: &[Value]) {
    let (even, odd): (Vec<_>, Vec<_>) = rows.iter().cloned().enumerate().partition(|(number, _)| number % 2 == 0);
    for (part, rows) in parts.into_iter().zip([even, odd]) {
        let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
        write(&folder.join(part), columns.to_vec(), &rows);
    }
}

#[test]
fn every_layout_gives_the_same_findings() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let expected = of_raw(folder.path(), &records);

    let at = |name: &str| folder.path().join(name);
    let flat = ["a.parquet", "b.parquet"];
    write_both(&at("athena"), flat, &columns(text("eventtime"), false, &lower), &rows(&records, false, &lower));
    let mut glue = columns(timestamp("eventtime", TimeUnit::Nanosecond, None), true, &lower);
    for field in &mut glue {
        if ["useridentity", "requestparameters", "responseelements", "additionaleventdata"]
            .contains(&field.name().as_str())
        {
            *field = text(&format!("json_{}", field.name()));
        }
    }
    let glue_name = |name: &str| {
        let json = JSON_FIELDS.contains(&name) || name == "userIdentity";
        if json { format!("json_{}", lower(name)) } else { lower(name) }
    };
    write_both(&at("glue"), flat, &glue, &rows(&records, true, &glue_name));
    write_both(
        &at("tailpipe"),
        [
            "tp_table=aws_cloudtrail_log/tp_index=default/tp_date=2026-09-01/a.parquet",
            "tp_table=aws_cloudtrail_log/tp_index=default/tp_date=2026-09-02/b.parquet",
        ],
        &columns(timestamp("event_time", TimeUnit::Microsecond, None), false, &snake),
        &rows(&records, false, &snake),
    );
    let mut panther = columns(text("eventTime"), true, &same);
    panther.push(text("p_log_type"));
    let mut panther_rows = rows(&records, true, &same);
    for row in &mut panther_rows {
        row["eventTime"] = json!(row["eventTime"].as_str().unwrap().replace('T', " ").replace('Z', ".000000000"));
        row["p_log_type"] = json!("AWS.CloudTrail");
    }
    write_both(&at("panther"), flat, &panther, &panther_rows);
    for (name, unit, zone) in [
        ("umccr", TimeUnit::Millisecond, None),
        ("umccr-s", TimeUnit::Second, Some("UTC")),
        ("umccr-ns", TimeUnit::Nanosecond, Some("Asia/Tokyo")),
    ] {
        let time = timestamp("eventTime", unit, zone);
        write_both(
            &at(name),
            [
                "account=000011112222/region=eu-west-1dt=2026-09-02/0.parquet",
                "account=444455556666/region=eu-west-1dt=2026-09-02/0.parquet",
            ],
            &columns(time, false, &same),
            &rows(&records, false, &same),
        );
    }
    let ocsf: Vec<Value> = records.iter().map(ocsf).collect();
    write_both(
        &at("security-lake"),
        [
            "region=eu-west-1/accountId=000011112222/eventDay=20260902/a.gz.parquet",
            "region=eu-west-1/accountId=444455556666/eventDay=20260902/b.gz.parquet",
        ],
        &ocsf_columns(),
        &ocsf,
    );

    for name in ["athena", "glue", "tailpipe", "panther", "umccr", "umccr-s", "umccr-ns", "security-lake"] {
        let output = tawny(&["hunt", at(name).to_str().unwrap(), "--format", "jsonl"]);
        assert_eq!(told(&output), expected, "{name}");
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        let layout = name.trim_end_matches("-s").trim_end_matches("-ns");
        assert!(talk.contains(&format!("layout: {layout} (2 files)")), "{talk}");
        let ranged = tawny(&[
            "hunt",
            at(name).to_str().unwrap(),
            "--format",
            "jsonl",
            "--from",
            "2026-09-02T12:00:00Z",
            "--to",
            "2026-09-03",
        ]);
        assert_eq!(told(&ranged), expected[1..], "{name}, a range");
        let all = tawny(&["hunt", at(name).to_str().unwrap(), "--format", "jsonl", "--window", "all"]);
        assert_eq!(told(&all).len(), 3 * 3, "{name}: rules together");
    }
}

#[test]
fn a_layout_of_the_users_own_is_read_by_its_map() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (records, flat) = (records(), ["a.parquet", "b.parquet"]);
    let expected = of_raw(folder.path(), &records);
    let mut own = columns(text("when"), true, &|name| format!("ct_{name}"));
    own.retain(|field| field.name() != "ct_eventTime");
    let mut own_rows = rows(&records, true, &|name| format!("ct_{name}"));
    for row in &mut own_rows {
        row["when"] = row["ct_eventTime"].take();
    }
    write_both(&at("own"), flat, &own, &own_rows);
    let map = at("own.yml");
    let names = columns(text("eventTime"), true, &same);
    let names = names.iter().map(Field::name).filter(|name| *name != "eventTime");
    let mapped: Vec<String> = names.map(|name| format!("  {name}: '\"ct_{name}\"'\n")).collect();
    let mapped = mapped.concat();
    std::fs::write(&map, format!("layout: own\ncolumns:\n  eventTime: '\"when\"'\n{mapped}")).unwrap();
    let own = tawny(&["hunt", at("own").to_str().unwrap(), "--map", map.to_str().unwrap(), "--format", "jsonl"]);
    assert_eq!(told(&own), expected);
    let unknown = tawny(&["hunt", at("own").to_str().unwrap()]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("in no layout that is known; their columns are ct_"));
}

#[test]
fn what_data_do_not_tell_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ocsf: Vec<Value> = records().iter().map(ocsf).collect();
    write_both(&data, ["a.parquet", "b.parquet"], &ocsf_columns(), &ocsf);
    for (path, told) in [
        ("userIdentity.sessionContext.attributes.mfaAuthenticated", false),
        ("sharedEventID", false),
        ("additionalEventData.LoginTo", false),
        ("userIdentity.arn", true),
        ("responseElements.ConsoleLogin", true),
    ] {
        let rule = folder.path().join("rule.yml");
        let text = format!(
            "AnalysisType: rule\nRuleID: Asks\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\n\
             Detection: [{{KeyPath: {path}, Condition: Exists}}]\n"
        );
        std::fs::write(&rule, text).unwrap();
        let output = tawny(&["hunt", data.to_str().unwrap(), "--rules", rule.to_str().unwrap()]);
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(if told { 0 } else { 2 }), "{path}: {talk}");
        assert_eq!(
            talk.contains(&format!("rule `Asks` asks for `{path}`, which data in the layout `security-lake`")),
            !told,
            "{talk}"
        );
    }
}

#[test]
fn a_damaged_file_is_named_and_the_rest_is_hunted() {
    let folder = tempfile::tempdir().unwrap();
    let (records, data) = (records(), folder.path().join("data"));
    let expected = of_raw(folder.path(), &records);
    write_both(
        &data,
        ["a.parquet", "b.parquet"],
        &columns(text("eventtime"), false, &lower),
        &rows(&records, false, &lower),
    );
    let whole = std::fs::read(data.join("a.parquet")).unwrap();
    let lying = [&whole[..whole.len() - 8], &[0xff, 0xff, 0xff, 0x7f], b"PAR1"].concat();
    for (name, bytes) in [("cut", &whole[..whole.len() / 2]), ("short", b"PAR1"), ("lying", &lying), ("empty", b"")] {
        std::fs::write(data.join("c.parquet"), bytes).unwrap();
        let output = tawny(&["hunt", data.to_str().unwrap(), "--format", "jsonl"]);
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (output.status.code(), output.stdout.split(|byte| *byte == b'\n').count() - 1),
            (Some(3), expected.len()),
            "{name}: {talk}"
        );
        assert!(talk.contains("rejected: ") && talk.contains("c.parquet"), "{name}: {talk}");
    }
}

#[test]
fn tables_that_are_kept_in_odd_ways_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let expected = of_raw(folder.path(), &records);
    let at = |name: &str| folder.path().join(name);
    let hunt =
        |name: &str, more: &[&str]| tawny(&[&["hunt", at(name).to_str().unwrap(), "--format", "jsonl"], more].concat());

    // JSON fields as maps, as CloudTrail Lake has them.
    let map = |name: &str| {
        let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), text("value")]);
        Field::new(name, DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false), true)
    };
    let maps = ["responseelements", "additionaleventdata"];
    let mut fields = columns(text("eventtime"), false, &lower);
    fields.retain(|field| !maps.contains(&field.name().as_str()));
    fields.extend(maps.map(map));
    let mut map_rows = rows(&records, false, &lower);
    for (row, record) in map_rows.iter_mut().zip(&records) {
        row["responseelements"] = record["responseElements"].clone();
        row["additionaleventdata"] = record["additionalEventData"].clone();
    }
    write_both(&at("maps"), ["a.parquet", "b.parquet"], &fields, &map_rows);
    assert_eq!(told(&hunt("maps", &[])), expected);

    // Names spelt one way in one file and another way in another; and without an ending, as Athena writes them.
    write(
        &at("mixed").join("a.parquet"),
        columns(text("eventtime"), false, &lower),
        &rows(&records[..7], false, &lower),
    );
    write(&at("mixed").join("b.parquet"), columns(text("eventTime"), true, &same), &rows(&records[7..], true, &same));
    assert_eq!(told(&hunt("mixed", &["--layout", "athena"])), expected);
    write_both(
        &at("bare"),
        ["20260901_part-0", "20260901_part-1"],
        &columns(text("eventtime"), false, &lower),
        &rows(&records, false, &lower),
    );
    assert_eq!(told(&hunt("bare", &["--layout", "athena"])), expected);

    // Account numbers as numbers, zones that differ, and a folder named by the day of the copy.
    let mut numbers = columns(timestamp("eventtime", TimeUnit::Microsecond, None), false, &lower);
    numbers.retain(|field| field.name() != "recipientaccountid");
    numbers.push(Field::new("recipientaccountid", DataType::Int64, true));
    let mut number_rows = rows(&records, false, &lower);
    for row in &mut number_rows {
        row["recipientaccountid"] = json!(row["recipientaccountid"].as_str().unwrap().parse::<i64>().unwrap());
    }
    write(&at("numbers").join("dt=2026-11-01/a.parquet"), numbers.clone(), &number_rows[..7]);
    let zone = numbers.iter().position(|field| field.name() == "eventtime").unwrap();
    numbers[zone] = timestamp("eventtime", TimeUnit::Millisecond, Some("America/New_York"));
    write(&at("numbers").join("dt=2026-11-01/b.parquet"), numbers, &number_rows[7..]);
    assert_eq!(told(&hunt("numbers", &["--from", "2026-09-01", "--to", "2026-09-03"])), expected);

    // Times that are no times, and data of two kinds.
    let mut epoch = columns(Field::new("eventtime", DataType::Int64, true), false, &lower);
    epoch.push(text("note"));
    let mut epoch_rows = rows(&records, false, &lower);
    for row in &mut epoch_rows {
        row["eventtime"] = json!(1_788_000_000_000_i64);
    }
    write(&at("epoch").join("a.parquet"), epoch, &epoch_rows);
    let refused = hunt("epoch", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("do not tell `eventTime`"));
    std::fs::write(at("bare").join("x.json"), "{}").unwrap();
    std::fs::rename(at("bare").join("20260901_part-0"), at("bare").join("0.parquet")).unwrap();
    let refused = hunt("bare", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    let refused = hunt("maps", &["--account", A]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    let url = format!("file://{}", at("maps").display());
    assert_eq!(told(&tawny(&["hunt", &url, "--format", "jsonl"])), expected);
}

#[test]
fn files_that_do_not_fit_together_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let hunt = |name: &str| {
        let output = tawny(&["hunt", folder.path().join(name).to_str().unwrap(), "--format", "jsonl"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), output)
    };
    let write_two = |name: &str, second: Vec<Field>, second_rows: &[Value]| {
        let first = columns(text("eventtime"), false, &lower);
        write(&folder.path().join(name).join("a.parquet"), first, &rows(&records[..7], false, &lower));
        write(&folder.path().join(name).join("b.parquet"), second, second_rows);
    };
    let rest = &records[7..];
    write_two("json", columns(text("eventtime"), true, &lower), &rows(rest, true, &lower));
    let (code, talk, _) = hunt("json");
    assert_eq!(code, Some(2), "{talk}");
    assert!(talk.contains("b.parquet` does not fit the files before it: its column `useridentity` is Utf8"), "{talk}");

    let mut numbers = columns(text("eventtime"), false, &lower);
    numbers.retain(|field| field.name() != "recipientaccountid");
    numbers.push(Field::new("recipientaccountid", DataType::Int64, true));
    let mut number_rows = rows(rest, false, &lower);
    for row in &mut number_rows {
        row["recipientaccountid"] = json!(row["recipientaccountid"].as_str().unwrap().parse::<i64>().unwrap());
    }
    write_two("numbers", numbers, &number_rows);
    let (code, talk, _) = hunt("numbers");
    assert_eq!(code, Some(2), "{talk}");
    assert!(talk.contains("`recipientaccountid`") && talk.contains("lost their zeros"), "{talk}");

    // A file without a column, and one whose times are timestamps.
    let mut fewer = columns(timestamp("eventtime", TimeUnit::Millisecond, None), false, &lower);
    fewer.retain(|field| field.name() != "useragent");
    write_two("mixed", fewer, &rows(rest, false, &lower));
    let (code, talk, _) = hunt("mixed");
    assert_eq!(code, Some(2), "text against timestamps is refused: {talk}");
    let mut timeless = columns(text("eventtime"), false, &lower);
    timeless.retain(|field| field.name() != "eventtime");
    write_two("timeless", timeless, &rows(rest, false, &lower));
    let (code, talk, _) = hunt("timeless");
    assert_eq!(code, Some(2), "{talk}");
    assert!(talk.contains("b.parquet` has no column that tells `eventTime`"), "{talk}");
    let mut fewer = columns(text("eventtime"), false, &lower);
    fewer.retain(|field| field.name() != "useragent");
    write_two("fewer", fewer, &rows(rest, false, &lower));
    let (code, talk, output) = hunt("fewer");
    assert_eq!((code, output.stdout.split(|byte| *byte == b'\n').count() - 1), (Some(0), 3), "{talk}");
}

#[test]
fn tables_in_s3_are_as_those_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let expected = of_raw(folder.path(), &records);
    let server = Server::start();
    let table = server.file("tables", "cloudtrail");
    let parts = ["tp_date=2026-09-01/a.parquet", "tp_date=2026-09-02/b.parquet"];
    let columns = columns(timestamp("event_time", TimeUnit::Microsecond, None), false, &snake);
    write_both(&table, parts, &columns, &rows(&records, false, &snake));
    write_both(&table, ["tp_date=2026-12-01/a.parquet", "tp_date=2026-12-02/b.parquet"], &columns, &[]);
    let found = server.tawny(&["hunt", "s3://tables/cloudtrail", "--format", "jsonl"]);
    assert_eq!(told(&found), expected);
    let told = |arguments: &[&str]| -> Value {
        let output = server.tawny(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let all = told(&["inspect", "s3://tables/cloudtrail", "--format", "json"]);
    assert_eq!(
        (&all["layout"], &all["objects"], &all["records"]),
        (&json!("tailpipe"), &json!(4), &json!(15)),
        "{all}"
    );
    let part = told(&[
        "hunt",
        "s3://tables/cloudtrail",
        "--dry-run",
        "--format",
        "json",
        "--from",
        "2026-09-01",
        "--to",
        "2026-09-05",
    ]);
    assert_eq!((&part["objects"], &part["requests"]["list"]), (&json!(2), &json!(1)), "{part}");
    assert!(part["dollars"].as_f64().unwrap() > 0.0, "{part}");
}
