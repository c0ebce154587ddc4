//! Exceptions and value lists in commands: what they print, write and exit with.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::records::failed_sign_in;

const RULE: &str = "AWS.Unsuccessful.MFA.attempt";
const SHIPPED: &str = include_str!("../../../rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml");

fn tawny(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tawny")).current_dir(folder).args(arguments).output().unwrap()
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn exception(id: &str, rule: &str, actor: &str, until: &str) -> String {
    format!(
        "  - ID: {id}\n    Rules: [{rule}]\n    When: [{{Key: actor, Condition: Equals, Value: {actor}}}]\n    Reason: known <b>\n    Owner: us\n    Until: {until}\n"
    )
}

/// Writes a trail in which ada and bob fail three times each, and three exceptions: of ada, of a user without events, and an expired one of bob.
fn write(folder: &Path) {
    let fails = |user: &'static str| {
        (0..3).map(move |minute| {
            failed_sign_in(user, &format!("2026-09-01T10:0{minute}:00Z"), &format!("{user}-{minute}"))
        })
    };
    let records: Vec<Value> = fails("ada").chain(fails("bob")).collect();
    std::fs::create_dir(folder.join("trail")).unwrap();
    std::fs::write(folder.join("trail/a.json"), json!({ "Records": records }).to_string()).unwrap();
    let exceptions = [
        exception("of-ada", RULE, "ada", "2027-01-01"),
        exception("of-nobody", RULE, "nobody", "2027-01-01"),
        exception("past", "\"*\"", "bob", "2026-01-01").replace("[\"*\"]", "\"*\""),
    ];
    std::fs::write(folder.join("exceptions.yml"), format!("Exceptions:\n{}", exceptions.concat())).unwrap();
}

const HUNT: [&str; 9] =
    ["hunt", "trail", "--rule", RULE, "--exceptions", "exceptions.yml", "--to", "2026-10-01", "--format=json"];

#[test]
fn hunt_reports_what_exceptions_removed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at);
    let hunt = tawny(at, &[&HUNT[..], &["--report", "page.html"]].concat());
    assert_eq!(hunt.status.code(), Some(0), "{}", talk(&hunt));
    let findings: Vec<Value> = serde_json::from_str(&text(&hunt)).unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0]["group"]["actor"], "bob");
    let talk = talk(&hunt);
    let row = |id: &str| -> Vec<&str> {
        talk.lines().find(|line| line.trim_start().starts_with(id)).unwrap().split_whitespace().collect()
    };
    assert!(row("of-ada").ends_with(&["3", "1"]), "{talk}");
    assert!(!talk.lines().any(|line| line.trim_start().starts_with("past")), "{talk}");
    assert!(talk.lines().filter(|line| !line.contains(':')).all(|line| line.chars().count() <= 80), "{talk}");
    assert!(talk.contains("warning: exception `of-nobody` of us matched nothing (exceptions.yml:8)"), "{talk}");
    assert!(talk.contains("warning: exception `past` of us expired at 2026-01-01T00:00:00Z"), "{talk}");
    let page = std::fs::read_to_string(at.join("page.html")).unwrap();
    for part in ["<h2>Exceptions</h2>", "of-ada", "known &#60;b&#62;", "(matched nothing)", "(expired)"] {
        assert!(page.contains(part), "{part}");
    }
    let plain = tawny(at, &["hunt", "trail", "--rule", RULE, "--report", "plain.html"]);
    assert!(!String::from_utf8_lossy(&plain.stderr).contains("exception"));
    assert!(!std::fs::read_to_string(at.join("plain.html")).unwrap().contains("<h2>Exceptions"));
}

#[test]
fn every_command_takes_exceptions() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at);
    let sql = tawny(at, &["sql", RULE, "--exceptions", "exceptions.yml"]);
    assert!(text(&sql).contains("2027-01-01") && text(&sql).contains("'ada'"), "{}", text(&sql));
    assert_eq!(tawny(at, &["convert", "trail", "--lake", "lake"]).status.code(), Some(0));
    let query = tawny(at, &["query", &text(&sql), "lake", "--format", "csv"]);
    assert!(text(&query).contains("bob") && !text(&query).contains("ada-"), "{}{}", text(&query), talk(&query));
    let duckdb = tawny(at, &["sql", RULE, "--exceptions", "exceptions.yml", "--dialect", "duckdb"]);
    // 2027-01-01 in microseconds.
    assert!(text(&duckdb).contains("< 1798761600000000"), "{}{}", text(&duckdb), talk(&duckdb));
    let backtest =
        ["backtest", "trail", "--rule", RULE, "--thresholds", "3", "--periods", "15m", "--windows", "sliding"];
    let cells = |more: &[&str]| -> Value {
        let output = tawny(at, &[&backtest[..], &["--format", "json"], more].concat());
        serde_json::from_str::<Value>(&text(&output)).unwrap_or_else(|error| panic!("{error} {}", talk(&output)))
    };
    assert_eq!(cells(&[])["cells"][0]["findings"], 2);
    assert_eq!(cells(&["--exceptions", "exceptions.yml"])["cells"][0]["findings"], 1);

    let config = format!(
        "lake = 'nights'\n[[source]]\npath = 'trail'\n[rules]\nids = ['{RULE}']\n[exceptions]\nfiles = ['exceptions.yml']\n[report]\njson = 'report.json'\n"
    );
    std::fs::write(at.join("tawny.toml"), config).unwrap();
    let night = tawny(at, &["nightly", "--now", "2026-09-05T00:00:00Z"]);
    assert_eq!(night.status.code(), Some(0), "{}", talk(&night));
    assert!(text(&night).contains("removed 3 events and 1 finding of"), "{}", text(&night));
    let report: Value = serde_json::from_slice(&std::fs::read(at.join("report.json")).unwrap()).unwrap();
    let exceptions = report["exceptions"].as_array().unwrap();
    assert_eq!((exceptions.len(), &report["findings"]["new"]), (3, &json!(1)));
    assert_eq!(exceptions[0]["rules"][0]["events_removed"], 3);
    assert_eq!(exceptions[0]["rules"][0]["findings_removed"], 1);
    let flags = |exception: &Value| (exception["matched_nothing"].clone(), exception["expired"].clone());
    let expected =
        [(false, false), (true, false), (true, true)].map(|(nothing, expired)| (json!(nothing), json!(expired)));
    assert_eq!(exceptions.iter().map(flags).collect::<Vec<_>>(), expected);
}

#[test]
fn exceptions_are_listed_checked_and_expire() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at);
    std::fs::write(at.join("names.txt"), "carol\ndave\n").unwrap();
    std::fs::write(at.join("lists.yml"), "Lists: {people: {File: names.txt}}\n").unwrap();
    let list = tawny(at, &["exceptions", "list", "exceptions.yml", "lists.yml", "--format", "json"]);
    let listed: Value = serde_json::from_str(&text(&list)).unwrap();
    assert_eq!(listed["exceptions"][2]["rules"], json!(["*"]));
    assert_eq!(listed["lists"], json!([{ "name": "people", "file": "names.txt", "values": 2 }]));
    let table = tawny(at, &["exceptions", "list", "exceptions.yml"]);
    assert!(text(&table).contains("of-nobody"), "{}", text(&table));
    let check = tawny(at, &["exceptions", "check", "exceptions.yml"]);
    assert_eq!(check.status.code(), Some(0), "{}", talk(&check));
    let wrong = exception("wrong", "AWS.Unsuccesful.MFA.attempt", "ada", "2027-01-01");
    std::fs::write(at.join("wrong.yml"), format!("Exceptions:\n{wrong}")).unwrap();
    let check = tawny(at, &["exceptions", "check", "exceptions.yml", "wrong.yml"]);
    assert_eq!(check.status.code(), Some(2), "{}", talk(&check));
    assert!(talk(&check).contains("wrong.yml:3") && talk(&check).contains(RULE), "{}", talk(&check));
    for (time, code, expected) in [("2025-01-01", 0, 0), ("2026-01-01", 1, 1), ("2027-01-01", 1, 3)] {
        let expired = tawny(at, &["exceptions", "expired", "exceptions.yml", "--at", time, "--format", "json"]);
        let listed: Value = serde_json::from_str(&text(&expired)).unwrap();
        assert_eq!((expired.status.code(), listed.as_array().unwrap().len()), (Some(code), expected), "{time}");
    }
    // A rule that is not loaded causes a warning if `--rules` names only files.
    std::fs::write(at.join("own.yml"), SHIPPED.replace(RULE, "Own.MFA")).unwrap();
    let own = tawny(at, &["hunt", "trail", "--rules", "own.yml", "--exceptions", "exceptions.yml"]);
    assert_eq!(own.status.code(), Some(0), "{}", talk(&own));
    assert!(
        talk(&own).contains("warning: exceptions.yml:3:13: the exception `of-ada` does not apply"),
        "{}",
        talk(&own)
    );
}

#[test]
fn tests_of_rules_see_exceptions_at_the_time_of_their_records() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at);
    let log = |time: &str| failed_sign_in("ada", time, "a").to_string();
    let tests = format!(
        "Tests:\n  - {{Name: before, ExpectedResult: false, Log: {}}}\n  - {{Name: after, ExpectedResult: true, Log: {}}}\n",
        log("2026-12-31T23:59:59Z"),
        log("2027-01-01T00:00:00Z")
    );
    let rule = SHIPPED.split("\nTests:").next().unwrap().to_owned() + "\n" + &tests;
    std::fs::write(at.join("own.yml"), rule).unwrap();
    let tested = tawny(at, &["test", "own.yml", "--exceptions", "exceptions.yml"]);
    assert_eq!(tested.status.code(), Some(0), "{}{}", text(&tested), talk(&tested));
    let without = tawny(at, &["test", "own.yml"]);
    assert_eq!(without.status.code(), Some(1), "{}", text(&without));
}

#[test]
fn an_exception_holds_from_the_first_midnight_until_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let fails = |user: &'static str, times: [&'static str; 3]| {
        times.into_iter().map(move |time| failed_sign_in(user, time, &format!("{user} {time}")))
    };
    let of_ada = fails("ada", ["2026-09-01T23:59:59Z", "2026-09-02T00:00:00Z", "2026-09-02T00:00:01Z"]);
    let of_bob = fails("bob", ["2026-08-31T23:59:58Z", "2026-08-31T23:59:59Z", "2026-09-01T00:00:00Z"]);
    let records: Vec<Value> = of_ada.chain(of_bob).collect();
    std::fs::create_dir(at.join("trail")).unwrap();
    std::fs::write(at.join("trail/a.json"), json!({ "Records": records }).to_string()).unwrap();
    let exceptions = ["ada", "bob"]
        .map(|user| exception(user, RULE, user, "2026-09-02").replace("    Until", "    From: 2026-09-01\n    Until"));
    std::fs::write(at.join("exceptions.yml"), format!("Exceptions:\n{}", exceptions.concat())).unwrap();
    let hunt = tawny(at, &HUNT);
    let findings: Vec<Value> = serde_json::from_str(&text(&hunt)).unwrap();
    let found: Vec<(&str, u64)> = findings
        .iter()
        .map(|finding| (finding["group"]["actor"].as_str().unwrap(), finding["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(found, [("bob", 2), ("ada", 2)], "{}", talk(&hunt));
}

#[test]
fn rules_name_lists() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at);
    let condition = "Detection:\n  - {Key: actor, Condition: IsIn, Values: {List: people}}\n";
    std::fs::write(at.join("own.yml"), SHIPPED.replace("Detection:\n", condition)).unwrap();
    std::fs::write(at.join("lists.yml"), "Lists: {people: {File: people.jsonl, Column: name}}\n").unwrap();
    std::fs::write(at.join("people.jsonl"), "{\"name\":\"ada\"}\n").unwrap();
    let missing = tawny(at, &["hunt", "trail", "--rules", "own.yml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        talk(&missing).contains("there is no value list `people`: `Lists` in a file of `--exceptions`"),
        "{}",
        talk(&missing)
    );
    let rules = ["--rules", "own.yml", "--exceptions", "lists.yml"];
    let hunt = tawny(at, &[&["hunt", "trail", "--format", "json"], &rules[..]].concat());
    let findings: Vec<Value> = serde_json::from_str(&text(&hunt)).unwrap();
    assert_eq!((findings.len(), &findings[0]["group"]["actor"]), (1, &json!("ada")));
    // The text of a query has the values.
    let sql = tawny(at, &[&["sql", "own.yml"], &rules[2..]].concat());
    assert!(text(&sql).contains("'ada'") && !text(&sql).contains("in_value_list"), "{}{}", text(&sql), talk(&sql));
    let many: Vec<String> = (0..10_001).map(|number| format!("{{\"name\":\"user{number}\"}}")).collect();
    std::fs::write(at.join("people.jsonl"), many.join("\n")).unwrap();
    let sql = tawny(at, &[&["sql", "own.yml"], &rules[2..]].concat());
    assert_eq!(sql.status.code(), Some(2));
    assert!(talk(&sql).contains("the value list `people` has too many values"), "{}", talk(&sql));
    // A list does not prevent that a backtest writes the rule.
    let write = ["backtest", "trail", "--write", "3/30m"];
    let written = tawny(at, &[&write[..], &rules[..]].concat());
    assert_eq!(written.status.code(), Some(0), "{}", talk(&written));
    assert!(std::fs::read_to_string(at.join("own.yml")).unwrap().contains("Threshold: 3"));
}
