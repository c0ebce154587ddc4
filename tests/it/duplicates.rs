//! Records that share an `eventID` count once. Commands report how many were ignored and warn if they differ.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::hunt::grid::{self, GridHuntRequest, MatchesNeeded};
use tawny::hunt::{self, events};
use tawny::query::Query;
use tawny::rule::{Rule, catalog};
use tawny::statistics::Duplicates;
use tawny::store::Stores;
use tawny::table::RawTrail;
use tawny::time::{Instant, Range, SECOND};
use tawny::trail::Selection;

use crate::oracle::RUNTIME;
use crate::places::{Places, answer, ask, engine};
use crate::records::failed_sign_in;
use crate::tables::tawny;

fn sign_in(id: &str, minute: u32, name: &str) -> Value {
    let mut record = failed_sign_in("anaya", &format!("2026-09-01T10:{minute:02}:00Z"), id);
    record["eventName"] = name.into();
    record["awsRegion"] = "eu-west-1".into();
    record
}

/// Returns three matches in the range: one three times, one with another time, one with only another region. One match
/// is after the range, and some records match nothing.
fn records() -> Vec<Value> {
    let elsewhere = |mut record: Value| {
        record["awsRegion"] = "eu-west-2".into();
        record
    };
    let call = |id: &str, name: &str| {
        let mut record = sign_in(id, 5, name);
        record["additionalEventData"] = Value::Null;
        record
    };
    vec![
        sign_in("a", 1, "ConsoleLogin"),
        sign_in("a", 1, "ConsoleLogin"),
        sign_in("a", 1, "ConsoleLogin"),
        sign_in("b", 2, "ConsoleLogin"),
        sign_in("b", 3, "ConsoleLogin"),
        sign_in("c", 4, "ConsoleLogin"),
        elsewhere(sign_in("c", 4, "ConsoleLogin")),
        sign_in("d", 40, "ConsoleLogin"),
        sign_in("d", 40, "ConsoleLogin"),
        call("e", "ListUsers"),
        call("e", "ListRoles"),
        call("e", "ListRoles"),
    ]
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the lines about duplicates.
fn said(output: &Output) -> Vec<String> {
    assert_eq!(output.status.code(), Some(0), "{}", errors(output));
    let errors = errors(output);
    let of_duplicates = |line: &&str| line.starts_with("duplicates") || line.contains("records that differ");
    errors.lines().filter(of_duplicates).map(str::to_owned).collect()
}

const ONE_DIFFERS: &str = "warning: 1 eventID has records that differ in time, name or source; each eventID counts once, which may hide a burst, \
for example `b`: 2026-09-01T10:02:00Z ConsoleLogin (signin.amazonaws.com) and 2026-09-01T10:03:00Z ConsoleLogin (signin.amazonaws.com)";

/// Returns the records in two orders and in objects of two sizes.
fn arrangements() -> [Places; 2] {
    let backwards: Vec<Value> = records().into_iter().rev().collect();
    [Places::of(&records(), 12), Places::of(&backwards, 5)]
}

const fn until(minute: i64) -> Range {
    Range { from: None, to: Some(Instant::from_micros((1_788_256_800 + minute * 60) * SECOND)) }
}

#[test]
fn all_hunts_count_the_same_duplicates() {
    let rule = catalog::default().unwrap();
    let other = Rule { id: "Other".to_owned(), ..rule.clone() };
    let expected = |duplicates: Option<Duplicates>, left_out: u64, what: &str| {
        let duplicates = duplicates.unwrap();
        assert_eq!((duplicates.left_out, duplicates.differing.event_ids), (left_out, 1), "{what}: {duplicates:?}");
        assert!(ONE_DIFFERS.ends_with(&duplicates.differing.warning().unwrap()), "{what}: {duplicates:?}");
    };
    for (places, threads) in arrangements().iter().zip([1, 4]) {
        for (name, data) in &places.data {
            let data = data.as_ref();
            for rules in [&[rule.clone()][..], &[rule.clone(), other.clone()]] {
                let hunt = |range| RUNTIME.block_on(hunt::hunt(&engine(threads), data, rules, range)).unwrap();
                expected(Some(hunt(Range::default()).duplicates), 5, name);
                expected(Some(hunt(until(30)).duplicates), 4, &format!("{name}, a part of the time"));
            }
            let settings = [rule.setting()];
            let hunt_grid = |range| {
                let request = GridHuntRequest { rule: &rule, cells: &settings, range, needed: MatchesNeeded::All };
                RUNTIME.block_on(grid::hunt_grid(&engine(threads), data, request)).unwrap()
            };
            expected(Some(hunt_grid(Range::default()).duplicates), 5, &format!("{name}, a backtest"));
            expected(Some(hunt_grid(until(30)).duplicates), 4, &format!("{name}, a backtest of a part"));
        }
    }
}

#[test]
fn commands_report_ignored_duplicates() {
    let places = Places::of(&records(), 12);
    let expected = ["duplicates among matching records: 5 left out", ONE_DIFFERS];
    for (name, _) in &places.data {
        assert_eq!(said(&tawny(&["hunt", &places.path(name)])), expected, "{name}");
    }
    let backtest = tawny(&["backtest", &places.path("lake"), "--format", "json"]);
    assert_eq!(said(&backtest), expected);
    let document: Value = serde_json::from_slice(&backtest.stdout).unwrap();
    assert_eq!(document["duplicates"]["left_out"], 5, "{document}");
    assert_eq!(document["duplicates"]["differing"]["event_ids"], 1, "{document}");
}

#[test]
fn page_shows_records_read_and_duplicates() {
    let places = Places::of(&records(), 12);
    let page = places.path("page.html");
    for (name, _) in &places.data {
        let hunted = tawny(&["hunt", &places.path(name), "--report", &page]);
        assert_eq!(hunted.status.code(), Some(0), "{}", errors(&hunted));
        let page = std::fs::read_to_string(&page).unwrap();
        for text in ["12 read", "duplicates among matching records", "5 left out", "1 eventID has records that differ"]
        {
            assert!(page.contains(text), "{text} of {name}");
        }
    }
}

#[test]
fn convert_warns_of_differing_duplicates_and_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let [raw, lake] = ["raw", "lake"].map(|name| folder.path().join(name));
    std::fs::create_dir(&raw).unwrap();
    for (file, part) in records().chunks(4).enumerate() {
        std::fs::write(raw.join(format!("{file}.json")), json!({ "Records": part }).to_string()).unwrap();
    }
    let converted = tawny(&["convert", raw.to_str().unwrap(), "--lake", lake.to_str().unwrap()]);
    let errors = errors(&converted);
    assert_eq!(converted.status.code(), Some(0), "{errors}");
    assert!(errors.contains("records: 12 read = 8 converted + 4 duplicates + 0 rejected"), "{errors}");
    assert!(errors.contains("warning: 2 eventIDs have records that differ in time, name or source"), "{errors}");
    let example = format!(
        "for example `b`: 2026-09-01T10:03:00Z ConsoleLogin (signin.amazonaws.com) in `{}`",
        raw.join("1.json").display()
    );
    assert!(errors.contains(&example), "{errors}");
}

const COUNT: &str = "SELECT count(*) FROM cloudtrail";

#[test]
fn query_sees_each_event_once_and_always_the_same_record() {
    let mut seen = Vec::new();
    for places in &arrangements() {
        for (name, data) in &places.data {
            let data = data.as_ref();
            let (count, duplicates) = answer(COUNT, data, Range::default());
            let duplicates = duplicates.unwrap();
            assert_eq!((count[0][0].as_str(), duplicates.left_out), ("5", 7), "{name}");
            assert_eq!(duplicates.differing.event_ids, 2, "{name}: {duplicates:?}");
            let all = Query { sql: COUNT, rule: None, range: Range::default(), with_duplicates: true };
            assert_eq!(ask(data, all), (vec![vec!["12".to_owned()]], None), "{name}");
            let (part, duplicates) = answer(COUNT, data, until(30));
            assert_eq!((part[0][0].as_str(), duplicates.unwrap().left_out), ("4", 6), "{name}");
            // A condition does not see an ignored duplicate either.
            let later = "SELECT count(*) FROM cloudtrail WHERE eventTime = '2026-09-01T10:03:00Z'";
            assert_eq!(answer(later, data, Range::default()).0[0][0], "0", "{name}");
            // The chosen record does not depend on the columns.
            let all =
                answer("SELECT eventID, eventName, awsRegion FROM cloudtrail ORDER BY 1", data, Range::default()).0;
            for (place, column) in [(1, "eventName"), (2, "awsRegion")] {
                let sql = format!("SELECT {column} FROM cloudtrail ORDER BY eventID");
                let alone: Vec<String> = answer(&sql, data, Range::default()).0.concat();
                let of_all: Vec<String> = all.iter().map(|row| row[place].clone()).collect();
                assert_eq!(alone, of_all, "{name}");
            }
            seen.push((*name, all));
        }
    }
    // It is the same record for raw objects and their lake, in any order of objects and records.
    for (name, all) in &seen {
        let same = seen.iter().find(|(other, _)| name == other || (*name == "lake" && *other == "raw"));
        assert_eq!(same.map(|(_, all)| all), Some(all), "{name:?}");
    }
}

#[test]
fn query_reports_ignored_duplicates() {
    let places = Places::of(&records(), 12);
    for (name, _) in &places.data {
        let told = said(&tawny(&["query", COUNT, &places.path(name), "--format", "csv"]));
        assert_eq!(told[0], "duplicates among records: 7 left out", "{name}");
        assert!(told[1].starts_with("warning: 2 eventIDs have records that differ"), "{name}: {told:?}");
        let all = tawny(&["query", COUNT, &places.path(name), "--format", "csv", "--with-duplicates"]);
        assert_eq!((said(&all), all.stdout), (Vec::new(), b"count(*)\n12\n".to_vec()), "{name}");
    }
}

#[test]
fn records_without_an_id_are_identified_by_content() {
    let without_id = |minute| {
        let mut record = sign_in("", minute, "ConsoleLogin");
        record.as_object_mut().unwrap().remove("eventID");
        record
    };
    let records = [without_id(1), without_id(1), without_id(2), sign_in("a", 3, "ConsoleLogin"), without_id(2)];
    for (name, data) in &Places::of(&records, 2).data {
        let data = data.as_ref();
        let (count, duplicates) = answer(COUNT, data, Range::default());
        assert_eq!((count[0][0].as_str(), duplicates.unwrap().left_out), ("3", 2), "{name}");
    }
}

#[test]
fn query_and_hunt_have_the_same_matches() {
    // The earlier record of the event does not match, and a hunt counts the later one.
    let mut earlier = sign_in("a", 1, "ConsoleLogin");
    earlier["additionalEventData"] = Value::Null;
    let records = [earlier, sign_in("a", 2, "ConsoleLogin"), sign_in("b", 3, "ConsoleLogin")];
    let rule = catalog::default().unwrap();
    for (name, data) in &Places::of(&records, 2).data {
        let data = data.as_ref();
        let sql = "SELECT (SELECT count(*) FROM matches) AS m, (SELECT count(*) FROM cloudtrail) AS c";
        let query = Query { sql, rule: Some(&rule), range: Range::default(), with_duplicates: false };
        assert_eq!(ask(data, query).0, [["2", "2"]], "{name}");
    }
}

#[test]
fn query_with_limit_reports_at_least() {
    let records: Vec<Value> =
        (0..6_000).map(|number| sign_in(&format!("{:05}", number / 2), 1, "ConsoleLogin")).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.json"), json!({ "Records": records }).to_string()).unwrap();
    let raw = vec![folder.path().display().to_string()];
    let raw = RawTrail::new(Stores::default(), raw, Selection::default(), 4, Arc::new(|_, _| {}));
    let duplicates = |sql| answer(sql, &raw, Range::default()).1.unwrap();
    let of_one = duplicates("SELECT eventID FROM cloudtrail LIMIT 1");
    assert!(of_one.is_partial && of_one.left_out < 3_000, "{of_one:?}");
    assert!(of_one.sentence("records").contains("at least"), "{of_one:?}");
    let of_all = duplicates(COUNT);
    assert_eq!((of_all.left_out, of_all.is_partial), (3_000, false));
}

#[test]
fn inspect_counts_duplicates() {
    let places = Places::of(&records(), 12);
    for (name, _) in &places.data {
        let output = tawny(&["inspect", &places.path(name), "--read", "--format", "json"]);
        assert_eq!(said(&output)[0], "duplicates among records: 7 left out", "{name}");
        let inspection: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&inspection["records"], &inspection["duplicates"]["left_out"]), (&12.into(), &7.into()));
        assert_eq!(inspection["accounts"], json!(["111122223333"]), "{inspection}");
        assert_eq!((&inspection["regions"][0], &inspection["days"]), (&"eu-west-1".into(), &1.into()), "{inspection}");
        assert_eq!(
            (&inspection["first"], &inspection["last"]),
            (&"2026-09-01T10:01:00Z".into(), &"2026-09-01T10:40:00Z".into())
        );
    }
}

#[test]
fn inspect_counts_keys_with_account_region_and_day() {
    let folder = tempfile::tempdir().unwrap();
    let record = json!({ "Records": records() }).to_string();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("111122223333_CloudTrail_eu-west-1_20260901T1005Z_abcdefghijklmnop.json"), &record).unwrap();
    std::fs::write(at("export-1.json"), &record).unwrap();
    let inspect = |path: &Path, more: &[&str]| tawny(&[&["inspect", path.to_str().unwrap()], more].concat());
    let table = String::from_utf8(inspect(folder.path(), &[]).stdout).unwrap();
    assert!(table.contains("1 of 2 object keys contains account, region and day"), "{table}");
    assert!(table.contains("first delivery"), "{table}");
    let none = inspect(&at("export-1.json"), &[]);
    assert!(String::from_utf8_lossy(&none.stdout).contains("0 of 1 object key contain"), "{none:?}");
    assert!(errors(&none).contains("`--read`"), "{none:?}");
    let read = String::from_utf8(inspect(&at("export-1.json"), &["--read"]).stdout).unwrap();
    assert!(read.contains("first event") && read.contains("1: 111122223333"), "{read}");
}

#[test]
fn page_of_many_matches_needs_no_more_memory_than_the_hunt() {
    // Each match takes three times the memory of the second pass.
    let agent = "x".repeat(3 << 10);
    let records: Vec<Value> = (0..400)
        .map(|number| {
            let user = if number % 100 < 2 { "mallory".to_owned() } else { format!("user{number}") };
            let time = Instant::from_micros((1_788_256_800 + number) * SECOND).to_string();
            let mut record = failed_sign_in(&user, &time, &format!("{number:04}"));
            record["userAgent"] = agent.clone().into();
            record
        })
        .collect();
    let rule = catalog::default().unwrap();
    let limits = events::EventLimits { findings: 1, events: 3 };
    for (name, data) in &Places::of(&records, 100).data {
        let data = data.as_ref();
        let rules = std::slice::from_ref(&rule);
        let findings = RUNTIME.block_on(hunt::findings(&engine(2), data, rules, Range::default())).unwrap();
        assert_eq!(findings.iter().map(|finding| finding.count).collect::<Vec<_>>(), [8], "{name}");
        let scarce = Engine::new(2, 1 << 10, &std::env::temp_dir()).unwrap();
        let events = RUNTIME.block_on(events::events_of_findings(&scarce, data, rules, &findings, limits)).unwrap();
        let ids: Vec<Vec<&str>> =
            events.iter().map(|events| events.iter().map(|event| event.id.as_str()).collect()).collect();
        assert_eq!(ids, [["0000", "0001", "0100"]], "{name}");
    }
}
