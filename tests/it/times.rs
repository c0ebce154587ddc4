//! Invalid event times: on every path such records are kept and counted, and are in no window.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{TimeUnit, TimestampMicrosecondType};
use parquet::data_type::{ByteArray, ByteArrayType, Int96, Int96Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::engine::columnar_table::Columnar;
use tawny::event::batch::BatchBuilder;
use tawny::hunt;
use tawny::lake::Lake;
use tawny::lake::part_file::{PartFileBuilder, rows_by_date};
use tawny::query;
use tawny::raw::envelope::{self, Item};
use tawny::rule::catalog::DEFAULT;
use tawny::rule::{Rule, WindowKind};
use tawny::store::{FolderWriter, LAKE_FOLDER, Scratch, Stores, WriterLock};
use tawny::table::{MemoryTable, Table};
use tawny::time::{EVENT_TIMES, Instant, Range, SECOND, event_time};
use tawny::trail;

use crate::grids;
use crate::oracle::{self, RUNTIME};
use crate::records::failed_sign_in;
use crate::tables::{columns, rows, same, tawny, timestamp, write};

const START: i64 = oracle::START * SECOND;

/// Times seen in records, or made to cause harm.
const ODD: [&str; 7] = [
    "+262142-12-31T23:59:00",
    "-262143-01-01T00:00:00",
    "9999-12-31T23:59:59Z",
    "2200-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z",
    "soon",
];

/// Returns two sign-ins of ann, which are a finding, and for each invalid time two of odd, which are not.
fn odd_records() -> Vec<Value> {
    let ann = [0, 1].map(|minute| {
        failed_sign_in("ann", &Instant::from_micros(START + minute * 60 * SECOND).to_string(), &format!("a{minute}"))
    });
    let odd = ODD
        .iter()
        .enumerate()
        .flat_map(|(number, time)| [0, 1].map(|copy| failed_sign_in("odd", time, &format!("o{number}{copy}"))));
    ann.into_iter().chain(odd).collect()
}

/// Returns the exit code, the findings as `rule: events`, and standard error.
fn hunted(arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let output = tawny(&[&["hunt", "--format", "jsonl"], arguments].concat());
    let line = |line: &str| {
        let finding: Value = serde_json::from_str(line).unwrap();
        format!("{} {}", finding["window"].as_str().unwrap(), finding["event_ids"])
    };
    let found = String::from_utf8_lossy(&output.stdout).lines().map(line).collect();
    (output.status.code(), found, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the single value of a query as text.
fn queried(data: &str, sql: &str) -> String {
    let output = tawny(&["query", sql, data, "--format", "csv"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{data}: {said}");
    String::from_utf8_lossy(&output.stdout).lines().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn record_with_an_invalid_time_is_counted_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let records = odd_records();
    std::fs::create_dir(at("trail")).unwrap();
    std::fs::write(folder.path().join("trail/0.json"), json!({ "Records": records }).to_string()).unwrap();
    let converted = tawny(&["convert", &at("trail"), "--lake", &at("lake")]);
    let said = String::from_utf8_lossy(&converted.stderr);
    assert_eq!(converted.status.code(), Some(0), "{said}");
    assert!(said.contains("14 records have no readable time"), "{said}");
    let fields = columns(crate::tables::text("eventTime"), false, &same);
    write(&folder.path().join("umccr/a.parquet"), fields, &rows(&records, false, &same));

    let all: Vec<String> = ["sliding", "dedup", "tumbling"].map(|kind| format!("{kind} [\"a0\",\"a1\"]")).to_vec();
    for name in ["trail", "lake", "umccr"] {
        let data = at(name);
        let (code, mut found, said) = hunted(&[&data, "--window", "all"]);
        found.sort_by_key(|line| all.iter().position(|known| known == line));
        assert_eq!((code, &found), (Some(0), &all), "{name}: {said}");
        let (code, later, said) = hunted(&[&data, "--window", "all", "--from", "2300-01-01"]);
        assert!(code == Some(0) && later.is_empty(), "{name}: {said}");
        let count = r#"SELECT count(*) || ' ' || count("eventTime") || ' ' || max("eventTime") FROM cloudtrail"#;
        assert_eq!(queried(&data, count), "16 2 2026-09-01T00:01:00Z", "{name}");
    }
    for name in ["lake", "umccr"] {
        let inspection = tawny(&["inspect", &at(name), "--format", "json"]);
        let inspection: Value = serde_json::from_slice(&inspection.stdout).unwrap();
        assert_eq!((&inspection["without_time"], &inspection["last"]), (&json!(14), &json!("2026-09-01T00:01:00Z")));
    }
    let page = at("page.html");
    let widest = ["--from=-262143-01-01", "--to=+262142-12-31", "--report", &page];
    for (command, options) in [("hunt", &widest[..]), ("backtest", &widest), ("backtest", &[])] {
        let output = tawny(&[&[command, &at("lake"), "--rule", tawny::rule::catalog::DEFAULT], options].concat());
        assert_eq!(output.status.code(), Some(0), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let kept = r#"SELECT count(*) FROM cloudtrail WHERE "eventTimeText" IN ('9999-12-31T23:59:59Z', 'soon')"#;
    assert_eq!(queried(&at("lake"), kept), "4", "the text of the time is kept unchanged");
}

#[test]
fn record_with_an_invalid_time_does_not_affect_later_nightly_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("trail")).unwrap();
    let config = format!(
        "lake = '{}'\nretain = '4000d'\n[[source]]\npath = '{}'\n[rules]\nids = ['{}']\n[[sink]]\nname = 'f'\nkind = 'files'\nto = '{}'\n",
        at("lake").display(),
        at("trail").display(),
        tawny::rule::catalog::DEFAULT,
        at("found").display()
    );
    std::fs::write(at("tawny.toml"), config).unwrap();
    let night = |number: usize, records: &[Value]| {
        std::fs::write(at("trail").join(format!("{number}.json")), json!({ "Records": records }).to_string()).unwrap();
        let config = at("tawny.toml");
        let output =
            tawny(&["nightly", "--config", config.to_str().unwrap(), "--now", "2026-09-03", "--format", "json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let records = odd_records();
    let first = night(0, &records);
    assert_eq!((&first["findings"]["new"], &first["read"]["without_time"]), (&json!(1), &json!(14)));
    assert_eq!(first["newest_event"], "2026-09-01T00:01:00Z");
    assert_eq!(first["empty_days"], json!([]));
    let again = night(1, &[failed_sign_in("ann", "2026-09-01T00:02:00Z", "a2"), failed_sign_in("odd", ODD[0], "o9")]);
    assert_eq!((&again["findings"]["grown"], &again["findings"]["new"]), (&json!(1), &json!(0)));
}

#[test]
fn data_without_times_end_with_3_where_times_matter() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let records: Vec<Value> = (0..3).map(|number| failed_sign_in("ann", "soon", &format!("a{number}"))).collect();
    std::fs::write(at("trail.json"), json!({ "Records": records }).to_string()).unwrap();
    assert_eq!(tawny(&["convert", &at("trail.json"), "--lake", &at("lake")]).status.code(), Some(0));
    let fields = columns(crate::tables::text("eventTime"), false, &same);
    write(&folder.path().join("umccr/a.parquet"), fields, &rows(&records, false, &same));
    let rule = at("rule.yml");
    let shipped = include_str!("../../rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml");
    std::fs::write(&rule, shipped).unwrap();
    std::fs::write(at("labels.csv"), "event_id,label\na0,malicious\n").unwrap();
    let labels = at("labels.csv");
    let from = ["--from", "2026-09-01"];
    let (rules, chains, range) = ("no rule can find anything", "no chain of credentials", "no event is in the range");
    for data in ["trail.json", "lake", "umccr"].map(at) {
        let data = data.as_str();
        for (arguments, consequence) in [
            (&["hunt", data, "--rules", &rule][..], rules),
            (&["hunt", data, "--rules", &rule, from[0], from[1]], rules),
            (&["hunt", data, "--rules", &rule, "--risk"], rules),
            (&["backtest", data, "--rules", &rule], rules),
            (&["backtest", data, "--rules", &rule, "--risk"], rules),
            (&["backtest", data, "--compare", &rule, &rule], rules),
            (&["tune", data, "--rules", &rule, "--rule", DEFAULT, "--labels", &labels], rules),
            (&["trace", data, "--event", "a0"], chains),
            (&["summary", data, "--actor", "ann", from[0], from[1]], range),
            (&["timeline", data, from[0], from[1]], range),
            (&["query", "SELECT count(*) FROM cloudtrail", data, from[0], from[1]], range),
        ] {
            let output = tawny(arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
            let warning = format!("warning: {consequence}");
            let lines: Vec<&str> = said.lines().filter(|line| line.contains("has a readable `eventTime`")).collect();
            assert!(lines.len() == 1 && lines[0].starts_with(&warning), "{arguments:?}: {said}");
        }
        // These need no times.
        for arguments in [
            &["summary", data, "--actor", "ann"][..],
            &["timeline", data],
            &["query", "SELECT count(*) FROM cloudtrail", data],
            &["inspect", data],
        ] {
            let output = tawny(arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(0) && !said.contains("readable `eventTime`"), "{arguments:?}: {said}");
        }
    }
}

fn rule(kind: WindowKind) -> Rule {
    Rule { id: format!("Rule.{kind}"), ..oracle::rule(kind, 2, false) }
}

/// Returns records of one user with these times as text.
fn batch(times: &[i64]) -> RecordBatch {
    let mut builder = BatchBuilder::default();
    let lines: String = times
        .iter()
        .enumerate()
        .map(|(number, time)| {
            failed_sign_in("ann", &Instant::from_micros(*time).to_string(), &format!("id-{number:03}")).to_string()
                + "\n"
        })
        .collect();
    envelope::items(&lines, &tawny::store::ReadSettings::default(), &|_| true, &mut |item| match item {
        Item::Record(record) => {
            builder.push(&record);
        }
        other => panic!("{other:?}"),
    })
    .unwrap();
    builder.finish().unwrap()
}

/// Returns the same records with unchecked times.
fn unchecked(times: &[i64]) -> RecordBatch {
    let batch = batch(times);
    let mut columns = batch.columns().to_vec();
    columns[0] = Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC")) as ArrayRef;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// Writes a lake of records with these times.
async fn lake_of(folder: &Path, times: &[i64]) -> Lake {
    let lake = Lake::at(folder);
    lake.transaction_log().create().await.unwrap();
    let scratch = Scratch::default();
    let writer = FolderWriter::open(lake.folder(), LAKE_FOLDER, WriterLock::Exclusive, &scratch).await;
    let writer = writer.unwrap().unwrap();
    let batch = batch(times);
    let mut files = Vec::new();
    for (date, rows) in rows_by_date(&batch, &vec![true; times.len()].into()).unwrap() {
        let mut part = PartFileBuilder::default();
        part.append("object", &batch, rows).unwrap();
        let (file, pending) = part.stage(date, 1, &writer).await.unwrap();
        pending.publish().unwrap();
        files.push(file);
    }
    lake.transaction_log().commit(&writer, 0, &files, &[]).await.unwrap();
    lake
}

async fn columnar(engine: &Engine, folder: &Path) -> Columnar {
    let stores = Stores::default();
    let source = [folder.display().to_string()];
    let files = trail::parquet_files(&stores, &source, false).await.unwrap().unwrap();
    Columnar::open(engine, &stores, files, None).await.unwrap()
}

/// Writes a table with times in this unit.
fn write_table(path: &Path, unit: TimeUnit, values: &[i64]) {
    let rows: Vec<Value> = values
        .iter()
        .enumerate()
        .map(|(number, value)| {
            let mut row = rows(&[failed_sign_in("ann", "", &format!("id-{number:03}"))], false, &same).remove(0);
            row["eventTime"] = json!(value);
            row
        })
        .collect();
    write(path, columns(timestamp("eventTime", unit, None), false, &same), &rows);
}

/// Returns the events of the findings of each window kind.
async fn found(engine: &Engine, data: &dyn Table) -> Vec<Vec<Vec<String>>> {
    let rules = WindowKind::ALL.map(rule);
    let of_each = hunt::hunt(engine, data, &rules, Range::default()).await.unwrap().findings;
    of_each.into_iter().map(|findings| findings.into_iter().map(|finding| finding.event_ids).collect()).collect()
}

/// Returns the number of records, of those with a time, and the latest time in microseconds.
async fn counted(engine: &Engine, data: &dyn Table) -> (usize, usize, Option<i64>) {
    let sql = r#"SELECT count(*), count("eventTime"), max("eventTime") FROM cloudtrail"#;
    let asked = query::Query { sql, rule: None, range: Range::default(), with_duplicates: false };
    let batches = query::run(engine, data, asked).await.unwrap().answer.rows;
    let numbers = |column: usize| batches[0].column(column).as_primitive::<arrow::datatypes::Int64Type>().value(0);
    let number = |column: usize| usize::try_from(numbers(column)).unwrap();
    let latest = batches[0].column(2).as_primitive::<TimestampMicrosecondType>().iter().next().unwrap();
    (number(0), number(1), latest)
}

/// Any times, times close to the limits, and times of one morning.
fn times() -> impl Strategy<Value = Vec<i64>> {
    let edge =
        prop::sample::select(vec![i64::MIN, i64::MIN / 1_000, 0, EVENT_TIMES.end.micros(), i64::MAX / 1_000, i64::MAX]);
    let near = (edge, -2..3i64).prop_map(|(edge, by)| edge.saturating_add(by));
    let morning = (0..40i64).prop_map(|minute| START + minute * 60 * SECOND);
    prop::collection::vec(prop_oneof![any::<i64>(), near, morning], 1..60)
}

proptest! {
    #![proptest_config(oracle::config(2))]

    #[test]
    fn every_path_agrees_on_any_times(times in times()) {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
        // Nanoseconds have a smaller range.
        let nanos: Vec<i64> = times.iter().map(|micros| micros.saturating_mul(1_000)).collect();
        write_table(&folder.path().join("us/a.parquet"), TimeUnit::Microsecond, &times);
        write_table(&folder.path().join("ns/a.parquet"), TimeUnit::Nanosecond, &nanos);
        RUNTIME.block_on(async {
            let text = MemoryTable(vec![batch(&times)]);
            let expected = (found(&engine, &text).await, counted(&engine, &text).await);
            let valid: Vec<i64> = times.iter().copied().filter(|time| event_time(*time).is_some()).collect();
            let of_times = (times.len(), valid.len(), valid.iter().max().copied());
            assert_eq!(expected.1, of_times);
            let memory = MemoryTable(vec![unchecked(&times)]);
            assert_eq!(found(&engine, &memory).await, expected.0);
            let cells = grids::cells(&["15m"], 2..3);
            grids::hold_against_hunts(&engine, &memory, &rule(WindowKind::Sliding), &cells, Range::default()).await;
            let lake = lake_of(&folder.path().join("lake"), &times).await;
            for (name, data) in [
                ("lake", &lake as &dyn Table),
                ("us", &columnar(&engine, &folder.path().join("us")).await),
                ("ns", &columnar(&engine, &folder.path().join("ns")).await),
            ] {
                let told = (found(&engine, data).await, counted(&engine, data).await);
                assert_eq!(told, expected, "{name}");
                let inspection = tawny::inspect::inspect(&engine, data, Range::default(), true).await.unwrap();
                assert_eq!(inspection.inspection.without_time, Some((times.len() - valid.len()) as u64), "{name}");
            }
        });
    }
}

/// Julian day number of 1970-01-01.
const EPOCH: u32 = 2_440_588;

/// Writes a table with 96-bit times: Julian day and nanoseconds.
fn write_int96(path: &Path, times: &[(u32, u64)]) {
    let schema = "message schema {
        optional int96 eventTime; optional binary eventID (UTF8); optional binary eventName (UTF8);
        optional binary eventSource (UTF8); optional binary recipientAccountId (UTF8);
        optional binary userIdentity (UTF8); optional binary additionalEventData (UTF8);
        optional binary responseElements (UTF8); }";
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let levels = vec![1; times.len()];
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<Int96> = times
        .iter()
        .map(|(day, nanos)| {
            let [low, high] = [*nanos & 0xffff_ffff, *nanos >> 32].map(|half| u32::try_from(half).unwrap());
            Int96::from(vec![low, high, *day])
        })
        .collect();
    column.typed::<Int96Type>().write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
    let record = failed_sign_in("ann", "", "");
    for name in [
        "eventID",
        "eventName",
        "eventSource",
        "recipientAccountId",
        "userIdentity",
        "additionalEventData",
        "responseElements",
    ] {
        let text = |number: usize| match &record[name] {
            _ if name == "eventID" => format!("id-{number:03}"),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let values: Vec<ByteArray> = (0..times.len()).map(|number| ByteArray::from(text(number).as_str())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn year_9999_in_96_bit_times_does_not_wrap() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    // 2026-09-01 is 20,697 days after the epoch.
    let minute = 60_000_000_000;
    let mut times =
        vec![(EPOCH + 20_697, 0), (EPOCH + 20_697, minute), (EPOCH + 2_932_896, 0), (EPOCH + 2_932_896, minute)];
    // In nanoseconds all of these would wrap around, some to current times.
    times.extend((1..60).map(|step| (EPOCH + 110_000 + step * 45_000, 0)));
    times.extend([(0, 0), (EPOCH - 1, 0), (EPOCH + 84_006, 0), (EPOCH + 84_006, minute)]);
    write_int96(&folder.path().join("a.parquet"), &times);
    RUNTIME.block_on(async {
        let data = columnar(&engine, folder.path()).await;
        let ids = vec![vec!["id-000".to_owned(), "id-001".to_owned()]];
        assert_eq!(found(&engine, &data).await, [ids.clone(), ids.clone(), ids]);
        let latest = Some(START + 60 * SECOND);
        assert_eq!(counted(&engine, &data).await, (times.len(), 2, latest));
        let of_day = Range { from: Some(Instant::from_micros(START)), to: Some(Instant::from_micros(START + 1)) };
        let findings = hunt::findings(&engine, &data, &[rule(WindowKind::Dedup)], of_day).await.unwrap();
        assert_eq!(findings.len(), 0, "the trigger is after it");
    });
}
