//! Files of other tools' tables: selection by folder, and damage.

use std::path::Path;

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde_json::{Value, json};

use crate::s3_server::Server;
use crate::tables::*;

/// Writes one file with one burst for each day of September 2026, in folders named by `folder`.
fn write_days(table: &Path, days: std::ops::Range<u32>, folder: &dyn Fn(u32) -> String) {
    let columns = columns(timestamp("event_time", TimeUnit::Microsecond, None), false, &snake);
    for day in days {
        let mut records = records()[..3].to_vec();
        for (number, record) in records.iter_mut().enumerate() {
            record["eventTime"] = json!(format!("2026-09-{day:02}T12:00:0{number}Z"));
            record["eventID"] = json!(format!("{day}-{number}"));
        }
        write(&table.join(folder(day)).join("a.parquet"), columns.clone(), &rows(&records, false, &snake));
    }
}

/// Returns the objects of a bucket that were read, with counts.
fn reads(server: &Server) -> Vec<(String, usize)> {
    let mut reads: Vec<(String, usize)> = Vec::new();
    for line in server.take_log() {
        let Some(path) = line.strip_prefix("GET ").filter(|path| path.contains(".parquet")) else {
            continue;
        };
        match reads.iter_mut().find(|(known, _)| known == path) {
            Some((_, count)) => *count += 1,
            None => reads.push((path.to_owned(), 1)),
        }
    }
    reads.sort();
    reads
}

#[test]
fn files_outside_the_range_are_not_opened_and_footers_are_read_once() {
    let server = Server::start();
    write_days(&server.file("tables", "cloudtrail"), 1..11, &|day| format!("tp_date=2026-09-{day:02}"));
    // A damaged file of another day is not opened.
    server.put("tables", "cloudtrail/tp_date=2026-09-20/a.parquet", b"PAR1 is all there is of it");
    let range = ["--from", "2026-09-05", "--to", "2026-09-06"];
    let hunt = |more: &[&str]| server.tawny(&[&["hunt", "s3://tables/cloudtrail"], &range[..], more].concat());

    server.take_log();
    let dry = hunt(&["--dry-run", "--format", "json"]);
    assert_eq!(dry.status.code(), Some(0), "{}", String::from_utf8_lossy(&dry.stderr));
    let told: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(told["objects"], json!(5), "the day, the days that its windows need, and a day around them: {told}");
    assert_eq!(reads(&server), [], "a dry run opens no file");
    let refused = hunt(&["--max-objects", "1"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(reads(&server), [], "nothing is opened beyond the limit");

    let found = hunt(&["--format", "jsonl"]);
    let talk = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!((found.status.code(), told_lines(&found.stdout)), (Some(0), 1), "{talk}");
    assert!(talk.contains("layout: tailpipe (5 files)"), "{talk}");
    let reads_of_hunt = reads(&server);
    let names: Vec<&str> = reads_of_hunt.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(
        names.iter().all(|name| ["-03/", "-04/", "-05/", "-06/", "-07/"].iter().any(|day| name.contains(day))),
        "{names:?}"
    );
    // If the footer's statistics exclude all rows, only the footer is read, once.
    let counts: Vec<usize> = reads_of_hunt.iter().map(|(_, count)| *count).collect();
    assert_eq!([counts[0], counts[1], counts[4]], [1; 3], "{reads_of_hunt:?}");
    assert!(counts.iter().all(|count| *count <= 8), "{reads_of_hunt:?}");

    // The second pass for the report's events does not read footers again.
    let page = server.file("tables", "page.html");
    let with_report = hunt(&["--report", page.to_str().unwrap()]);
    assert_eq!(with_report.status.code(), Some(0), "{}", String::from_utf8_lossy(&with_report.stderr));

    let whole = server.tawny(&["hunt", "s3://tables/cloudtrail", "--format", "jsonl"]);
    assert_eq!((whole.status.code(), told_lines(&whole.stdout)), (Some(3), 10));
    assert!(
        String::from_utf8_lossy(&whole.stderr)
            .contains("rejected: s3://tables/cloudtrail/tp_date=2026-09-20/a.parquet")
    );
}

fn told_lines(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).lines().count()
}

#[test]
fn folders_of_every_scheme_select_files() {
    type Scheme = (&'static str, fn(u32) -> String, usize);
    let schemes: [Scheme; 6] = [
        ("eventDay", |day| format!("region=eu-west-1/accountId=000011112222/eventDay=202609{day:02}"), 5),
        ("event_date", |day| format!("event_date=2026-09-{day:02}"), 5),
        ("year-month-day", |day| format!("year=2026/month=09/day={day:02}"), 5),
        // These may name the day of ingestion: only days before the range are skipped.
        ("dt", |day| format!("dt=2026-09-{day:02}"), 8),
        ("date", |day| format!("date=2026-09-{day:02}"), 8),
        ("plain", |day| format!("eu-west-1/2026/09/{day:02}"), 8),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, scheme, files) in schemes {
        let table = folder.path().join(name);
        write_days(&table, 1..11, &scheme);
        let range = ["--from", "2026-09-05", "--to", "2026-09-06"];
        let arguments = [&["hunt", table.to_str().unwrap()], &range[..], &["--dry-run", "--format", "json"]].concat();
        let dry: Value = serde_json::from_slice(&tawny(&arguments).stdout).unwrap();
        assert_eq!(dry["objects"], json!(files), "{name}");
        let hunt = [&["hunt", table.to_str().unwrap(), "--format", "jsonl"], &range[..]].concat();
        let output = tawny(&hunt);
        assert_eq!((output.status.code(), told_lines(&output.stdout)), (Some(0), 1), "{name}");
    }
}

#[test]
fn long_burst_reads_files_of_other_days() {
    // Every ten minutes for four days: the hunt reads on until the burst ends, also files with other columns.
    let folder = tempfile::tempdir().unwrap();
    let fields = columns(timestamp("event_time", TimeUnit::Microsecond, None), false, &snake);
    for day in 1..5 {
        let mut of_day: Vec<Value> = Vec::new();
        for step in 0..6 * 24 {
            let mut record = records()[0].clone();
            record["eventTime"] = json!(format!("2026-09-{day:02}T{:02}:{}0:00Z", step / 6, step % 6));
            record["eventID"] = json!(format!("{day}-{step:03}"));
            of_day.push(record);
        }
        let mut fields = fields.clone();
        if day == 4 {
            fields.retain(|field| field.name() != "event_version");
            fields.push(Field::new("more", DataType::Int64, true));
        }
        let path = folder.path().join(format!("tp_date=2026-09-{day:02}/a.parquet"));
        write(&path, fields, &rows(&of_day, false, &snake));
    }
    let table = folder.path().to_str().unwrap();
    let first = tawny(&["hunt", table, "--format", "jsonl", "--to", "2026-09-01T12:00:00Z"]);
    let whole = tawny(&["hunt", table, "--format", "jsonl"]);
    assert_eq!(told(&first), told(&whole));
    let burst: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(burst["count"], json!(4 * 6 * 24));
}

#[test]
fn range_bounds_beyond_all_event_times_select_nothing_or_all() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let records = records();
    std::fs::write(at("raw.json"), json!({ "Records": records }).to_string()).unwrap();
    assert_eq!(tawny(&["convert", &at("raw.json"), "--lake", &at("lake")]).status.code(), Some(0));
    for (name, unit) in [("ns", TimeUnit::Nanosecond), ("ms", TimeUnit::Millisecond)] {
        let columns = columns(timestamp("eventtime", unit, None), false, &lower);
        write_both(&folder.path().join(name), ["a.parquet", "b.parquet"], &columns, &rows(&records, false, &lower));
    }
    write_both(
        &folder.path().join("text"),
        ["a.parquet", "b.parquet"],
        &columns(text("eventtime"), false, &lower),
        &rows(&records, false, &lower),
    );
    let from_2300 = ["--from", "2300-01-01"];
    for data in ["raw.json", "lake", "ns", "ms", "text"].map(at) {
        for (bounds, findings, events) in [
            (from_2300, 0, "0"),
            (["--to", "1600-01-01"], 0, "0"),
            (["--from", "1600-01-01"], 3, "14"),
            (["--to", "9999-12-31"], 3, "14"),
        ] {
            let output = tawny(&[&["hunt", &data, "--format", "jsonl"], &bounds[..]].concat());
            let talk = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(told_lines(&output.stdout), findings, "{data} {bounds:?}: {talk}");
            let sql = "SELECT count(DISTINCT \"eventID\") AS n FROM cloudtrail";
            let query = tawny(&[&["query", sql, &data, "--format", "csv"], &bounds[..]].concat());
            assert_eq!(String::from_utf8_lossy(&query.stdout), format!("n\n{events}\n"), "{data} {bounds:?}");
        }
        // All window kinds, and many rules in one scan.
        let output = tawny(&[&["hunt", &data, "--format", "jsonl", "--window", "all"], &from_2300[..]].concat());
        assert_eq!(told_lines(&output.stdout), 0, "{data}");
        let cells = ["--rule", tawny::rule::catalog::DEFAULT, "--format", "json", "--thresholds", "2"];
        let output = tawny(&[&["backtest", &data], &cells[..], &from_2300[..]].concat());
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = |cell: &Value| cell["findings"].as_u64().unwrap();
        assert_eq!(told["cells"].as_array().unwrap().iter().map(found).sum::<u64>(), 0, "{data}");
    }
}

/// Returns a sign-in in the form of Security Lake's source version 1.
fn ocsf_1(record: &Value, time: &dyn Fn(i64) -> Value) -> Value {
    let mut row = ocsf(record);
    let user = &record["userIdentity"];
    let millis = row["time"].as_i64().unwrap();
    row["time"] = time(millis);
    row["metadata"]["version"] = json!("1.0.0-rc.2");
    row["actor"]["user"] = json!({
        "type": user["type"], "name": user["userName"], "uid": user["principalId"], "uuid": user["arn"],
        "account_uid": user["accountId"], "credential_uid": null,
    });
    row["api"] = json!({
        "operation": record["eventName"], "service": {"name": record["eventSource"]},
        "response": {"error": null, "message": record["errorMessage"]},
        "request": {"uid": record["requestID"]},
    });
    row["ref_event_uid"] = json!("not this one");
    row["unmapped"] = json!({
        "recipientAccountId": record["recipientAccountId"],
        "responseElements": as_text(&record["responseElements"]),
        "additionalEventData": as_text(&record["additionalEventData"]),
    });
    row
}

fn ocsf_1_columns(time: DataType, unmapped_is_map: bool) -> Vec<Field> {
    let texts = |names: &[&str]| names.iter().map(|name| text(name)).collect::<Vec<_>>();
    let mut fields = ocsf_columns();
    fields.retain(|field| !["time", "actor", "api", "is_mfa", "unmapped"].contains(&field.name().as_str()));
    let map = ocsf_columns().into_iter().find(|field| field.name() == "unmapped").unwrap();
    fields.extend([
        Field::new("time", time, true),
        text("ref_event_uid"),
        group(
            "actor",
            vec![
                group("user", texts(&["type", "name", "uid", "uuid", "account_uid", "credential_uid"])),
                group("session", texts(&["issuer"])),
                text("invoked_by"),
            ],
        ),
        group(
            "api",
            vec![
                text("operation"),
                group("service", texts(&["name"])),
                group("response", texts(&["error", "message"])),
                group("request", texts(&["uid"])),
            ],
        ),
        if unmapped_is_map {
            map
        } else {
            group("unmapped", texts(&["recipientAccountId", "responseElements", "additionalEventData"]))
        },
    ]);
    fields
}

#[test]
fn security_lake_source_versions_are_read_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let expected = of_raw(folder.path(), &records);
    let millis = |millis: i64| json!(millis);
    let rfc3339 = |millis: i64| json!(chrono::DateTime::from_timestamp_millis(millis).unwrap().to_rfc3339());
    let preview = |row: &mut Value| {
        row["identity"] = row["actor"].take();
        row.as_object_mut().unwrap().remove("actor");
    };
    let path = |version: &str| {
        format!("aws/CLOUD_TRAIL_MGMT/{version}/region=eu-west-1/accountId=000011112222/eventDay=20260902/a.parquet")
    };
    for (name, time, is_map) in [("numbers", DataType::Int64, true), ("texts", DataType::Utf8, false)] {
        let (of_time, told_time): (&dyn Fn(i64) -> Value, _) =
            if time == DataType::Int64 { (&millis, time) } else { (&rfc3339, time) };
        // The first records in version 1, the next in the preview version, the rest in version 2.
        let table = folder.path().join(name);
        let first: Vec<Value> = records[..5].iter().map(|record| ocsf_1(record, of_time)).collect();
        write(&table.join(path("1.0")), ocsf_1_columns(told_time.clone(), is_map), &first);
        let mut second: Vec<Value> = records[5..9].iter().map(|record| ocsf_1(record, of_time)).collect();
        second.iter_mut().for_each(preview);
        let mut columns = ocsf_1_columns(told_time, is_map);
        for field in &mut columns {
            if field.name() == "actor" {
                *field = field.clone().with_name("identity");
            }
        }
        write(&table.join(path("0.9")), columns, &second);
        let third: Vec<Value> = records[9..].iter().map(ocsf).collect();
        write(&table.join(path("2.0")), ocsf_columns(), &third);

        let output = tawny(&["hunt", table.to_str().unwrap(), "--format", "jsonl"]);
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(told(&output), expected, "{name}: {talk}");
        for layout in ["security-lake-1", "security-lake-preview", "security-lake"] {
            assert!(talk.contains(&format!("layout: {layout} (1 file)")), "{talk}");
        }
        // One principal has one ARN in all versions.
        let sql = "SELECT DISTINCT text_at(\"userIdentity\", 'arn') AS arn FROM cloudtrail WHERE \"userIdentity.type\" = 'Root'";
        let arns = tawny(&["query", sql, table.to_str().unwrap(), "--format", "csv"]);
        assert_eq!(String::from_utf8_lossy(&arns.stdout), "arn\narn:aws:iam::444455556666:root\n", "{name}");
    }
}

#[test]
fn files_without_a_needed_column_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let records = records();
    let table = folder.path().join("table");
    let columns = columns(text("eventtime"), false, &lower);
    let mut fewer = columns.clone();
    fewer.retain(|field| field.name() != "useragent");
    write(&table.join("a.parquet"), columns, &rows(&records[..7], false, &lower));
    write(&table.join("b.parquet"), fewer.clone(), &rows(&records[7..9], false, &lower));
    write(&table.join("c.parquet"), fewer, &rows(&records[9..], false, &lower));
    let rule = folder.path().join("rule.yml");
    std::fs::write(
        &rule,
        "AnalysisType: rule\nRuleID: Agent\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nThreshold: 2\n\
         DedupPeriodMinutes: 15\nDetection: [{Key: userAgent, Condition: Exists}]\n",
    )
    .unwrap();
    let output = tawny(&["hunt", table.to_str().unwrap(), "--rules", rule.to_str().unwrap(), "--format", "jsonl"]);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{talk}");
    assert!(
        talk.contains("2 of 3 files, such as `") && talk.contains("b.parquet` (layout athena), lack `userAgent`"),
        "{talk}"
    );
    assert!(told_lines(&output.stdout) > 0, "the other file is hunted: {talk}");
    // A rule that needs only columns of all files is complete.
    assert_eq!(tawny(&["hunt", table.to_str().unwrap()]).status.code(), Some(0));
}

#[test]
fn file_with_damaged_pages_is_named_and_the_rest_is_hunted() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table");
    write_days(&table, 1..4, &|day| format!("tp_date=2026-09-{day:02}"));
    let file = table.join("tp_date=2026-09-02/a.parquet");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4..2_000].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    for command in ["hunt", "query", "backtest"] {
        let more: &[&str] = match command {
            "hunt" => &["--format", "jsonl"],
            "query" => &["--format", "csv"],
            _ => &["--rule", tawny::rule::catalog::DEFAULT],
        };
        let sql: &[&str] =
            if command == "query" { &["SELECT \"eventName\", \"eventID\" FROM cloudtrail"] } else { &[] };
        let output = crate::tables::tawny(&[&[command], sql, &[table.to_str().unwrap()], more].concat());
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{command}: {talk}");
        assert!(talk.contains("rejected: ") && talk.contains("tp_date=2026-09-02/a.parquet"), "{command}: {talk}");
        assert!(!talk.contains("panicked"), "{talk}");
        if command == "hunt" {
            assert_eq!(told_lines(&output.stdout), 2, "{talk}");
        }
    }
}
