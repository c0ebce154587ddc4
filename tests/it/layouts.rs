//! One trail in each layout of other tools gives the same findings.

use std::process::Command;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Value, json};

use crate::s3_server::Server;
use crate::tables::*;

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
fn custom_layout_is_read_with_its_map() {
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
fn rules_that_need_missing_columns_are_skipped_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ocsf: Vec<Value> = records().iter().map(ocsf).collect();
    write_both(&data, ["a.parquet", "b.parquet"], &ocsf_columns(), &ocsf);
    let all = Command::new(env!("CARGO_BIN_EXE_tawny")).args(["hunt", data.to_str().unwrap()]).output().unwrap();
    let talk = String::from_utf8_lossy(&all.stderr);
    assert_eq!(all.status.code(), Some(0), "{talk}");
    assert!(talk.contains("skipped (the data has no columns for their fields): "), "{talk}");
    assert!(String::from_utf8_lossy(&all.stdout).contains("AWS Unsuccessful MFA attempt"));
}

#[test]
fn rule_that_needs_a_missing_column_is_refused_by_name() {
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
fn damaged_file_is_named_and_the_rest_is_hunted() {
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
        let inspected = tawny(&["inspect", data.to_str().unwrap()]);
        assert_eq!(inspected.status.code(), Some(3), "{name}: inspect also reports what it cannot read");
    }
}

#[test]
fn unusual_tables_lose_no_records() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let expected = of_raw(folder.path(), &records);
    let at = |name: &str| folder.path().join(name);
    let hunt =
        |name: &str, more: &[&str]| tawny(&[&["hunt", at(name).to_str().unwrap(), "--format", "jsonl"], more].concat());

    // JSON fields as maps, as in CloudTrail Lake.
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

    // Column names in different spellings, and file names without an extension, as Athena writes them.
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

    // Numeric account ids, different time zones, and a folder named by the day of ingestion.
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

    // Invalid times, and data of two kinds.
    let mut epoch = columns(Field::new("eventtime", DataType::Int64, true), false, &lower);
    epoch.push(text("note"));
    let mut epoch_rows = rows(&records, false, &lower);
    for row in &mut epoch_rows {
        row["eventtime"] = json!(1_788_000_000_000_i64);
    }
    write(&at("epoch").join("a.parquet"), epoch, &epoch_rows);
    let refused = hunt("epoch", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("have no column for `eventTime`"));
    std::fs::write(at("bare").join("x.json"), "{}").unwrap();
    std::fs::rename(at("bare").join("20260901_part-0"), at("bare").join("0.parquet")).unwrap();
    let refused = hunt("bare", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    let refused = hunt("maps", &["--delivered-within", "2d"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    let of_one: Vec<String> = expected.iter().filter(|finding| finding.contains(A)).cloned().collect();
    assert!(of_one.len() < expected.len());
    assert_eq!(told(&hunt("maps", &["--account", A])), of_one);
    let url = format!("file://{}", at("maps").display());
    assert_eq!(told(&tawny(&["hunt", &url, "--format", "jsonl"])), expected);
}

#[test]
fn incompatible_files_are_named() {
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
    assert!(talk.contains("b.parquet` has no column for `eventTime`"), "{talk}");
    let mut fewer = columns(text("eventtime"), false, &lower);
    fewer.retain(|field| field.name() != "useragent");
    write_two("fewer", fewer, &rows(rest, false, &lower));
    let (code, talk, output) = hunt("fewer");
    assert_eq!((code, output.stdout.split(|byte| *byte == b'\n').count() - 1), (Some(0), 3), "{talk}");
}

#[test]
fn tables_in_s3_and_on_disk_give_the_same_findings() {
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
