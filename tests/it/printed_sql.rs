//! The query that `tawny sql RULE` prints, run by `tawny query`, has the findings of `tawny hunt`.

use std::num::NonZeroU32;
use std::process::Command;

use arrow::array::RecordBatch;
use serde_json::{Value, json};
use tawny::event::batch::BatchBuilder;
use tawny::finding::{Finding, FindingSchema};
use tawny::hunt;
use tawny::query::{self, Query};
use tawny::raw::envelope::Record;
use tawny::raw::json as raw_json;
use tawny::rule::{Field, Rule, WindowKind, catalog};
use tawny::sql;
use tawny::sql::columns::RuleColumns;
use tawny::table::{MemoryTable, Table};
use tawny::time::Range;

use crate::oracle::RUNTIME;
use crate::places::engine;
use crate::records::failed_sign_in;

/// The records that the rules' own tests expect to match, so often that each reaches the threshold, and some twice. All are
/// at one time, at which events count as any order of steps. Rules whose matches must be new match a year before, too.
fn records_of_tests(rules: &[Rule]) -> MemoryTable {
    let mut builder = BatchBuilder::default();
    let mut push = |log: &str, own: Value| {
        let own = own.to_string();
        let own = raw_json::members(&own).unwrap();
        let mut members = raw_json::members(log).unwrap();
        members.retain(|(key, _)| !own.iter().any(|(own, _)| own.eq_ignore_ascii_case(key)));
        members.extend(own);
        builder.push(&Record { text: log, members });
    };
    let mut number = 0;
    for rule in rules {
        for test in rule.tests.iter().filter(|test| test.expected) {
            if rule.absence.is_some() {
                // The data begin before its period and end after it.
                for (bound, time) in ["2025-01-01", "2027-01-01"].iter().enumerate() {
                    let id = format!("{}-{number}-{bound}", rule.id);
                    push("{}", json!({ "eventTime": format!("{time}T10:00:00Z"), "eventID": id }));
                }
            }
            if rule.first_seen.is_some() {
                // Its account has been known for a year.
                let id = format!("{}-{number}", rule.id);
                push(&test.log, json!({ "eventTime": "2025-09-01T10:00:00Z", "eventID": id }));
            }
            for copy in 0..=rule.window.threshold.get() {
                // The last copy is a duplicate of the first.
                let id = if copy == rule.window.threshold.get() { number - copy } else { number };
                push(&test.log, json!({ "eventTime": "2026-09-01T10:00:00Z", "eventID": format!("{id:05}") }));
                number += 1;
            }
        }
    }
    MemoryTable(vec![builder.finish().unwrap()])
}

/// The findings in the rows of the printed query, over all records, duplicates included.
async fn queried(rule: &Rule, data: &dyn Table) -> Vec<Finding> {
    let sql = sql::hunt(rule, Range::default(), Range::default()).unwrap();
    let query = Query { sql: &sql, rule: None, range: Range::default(), with_duplicates: true };
    let outcome = query::run(&engine(1), data, query).await.unwrap_or_else(|error| panic!("{}: {error}", rule.id));
    let schema = FindingSchema { rule, columns: RuleColumns::new(rule).names() };
    let findings = |batch| (0..RecordBatch::num_rows(batch)).map(|row| schema.finding(batch, row).unwrap());
    let mut findings: Vec<Finding> = outcome.answer.rows.iter().flat_map(findings).collect();
    // The order of a hunt's findings of one rule.
    findings.sort_by_cached_key(|finding| {
        let value = |field: &Field| finding.group[&field.to_string()].as_str().map(str::to_owned);
        (finding.first_event, rule.group_by.iter().map(value).collect::<Vec<_>>())
    });
    findings
}

#[test]
fn the_printed_query_of_every_rule_has_the_findings_of_a_hunt() {
    let mut rules: Vec<Rule> = catalog::all(&["rules".into()]).unwrap().into_iter().map(|entry| entry.rule).collect();
    assert!(rules.len() > 80, "{}", rules.len());
    for rule in rules.iter_mut().filter(|rule| rule.counts.distinct().is_some()) {
        // The tests have one value each, if any.
        rule.window.threshold = NonZeroU32::MIN;
    }
    // The other kinds of windows too, for one rule.
    let default = catalog::default().unwrap();
    rules.extend([WindowKind::Dedup, WindowKind::Tumbling].map(|kind| {
        let mut rule = default.clone();
        rule.window.kind = kind;
        rule
    }));
    let data = records_of_tests(&rules);
    let hunted = RUNTIME.block_on(hunt::hunt(&engine(2), &data, &rules, Range::default())).unwrap().findings;
    let half = rules.len().div_ceil(2);
    std::thread::scope(|scope| {
        for (rules, hunted) in rules.chunks(half).zip(hunted.chunks(half)) {
            let data = &data;
            scope.spawn(move || {
                for (rule, hunted) in rules.iter().zip(hunted) {
                    assert_eq!(RUNTIME.block_on(queried(rule, data)), *hunted, "{}", rule.id);
                }
            });
        }
    });
    let without = rules.iter().zip(&hunted).filter(|(_, findings)| findings.is_empty());
    let without: Vec<&str> = without.map(|(rule, _)| rule.id.as_str()).collect();
    assert!(without.is_empty(), "{without:?}");
}

fn tawny(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_the_command_prints_is_what_the_command_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let times = ["10:00:00", "10:05:00", "10:10:00", "10:40:00", "10:41:00", "10:41:00"];
    let record = |(number, time): (usize, &&str)| {
        failed_sign_in(["anaya", "it's"][number % 2], &format!("2026-09-01T{time}Z"), &format!("{number}"))
    };
    let mut records: Vec<Value> = times.iter().enumerate().map(record).collect();
    records.push(records[0].clone());
    std::fs::write(path("trail.json"), json!({ "Records": records }).to_string()).unwrap();
    tawny(&["convert", &path("trail.json"), "--lake", &path("lake")]);
    for kind in WindowKind::ALL {
        let window = ["--window", &kind.to_string(), "--threshold", "2", "--period", "30m"];
        let hunt = ["hunt", &path("lake"), "--rule", catalog::DEFAULT, "--format", "jsonl"];
        let sql = tawny(&[&["sql", catalog::DEFAULT], &window[..]].concat());
        let parsed =
            |text: String| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
        let shown = |row: &Value| {
            let mut ids: Vec<Value> = row["event_ids"].as_array().unwrap().clone();
            ids.sort_by_key(ToString::to_string);
            json!([row["count"], row["peak"], row["first_event"], row["last_event"], row["trigger_time"], ids])
                .to_string()
        };
        let mut hunted: Vec<String> = parsed(tawny(&[&hunt[..], &window].concat())).iter().map(shown).collect();
        hunted.sort();
        for data in ["lake", "trail.json"] {
            let rows = parsed(tawny(&["query", &sql, &path(data), "--format", "jsonl"]));
            let mut queried: Vec<String> = rows.iter().map(shown).collect();
            queried.sort();
            assert_eq!(queried, hunted, "{kind} over {data}");
        }
        assert!(!hunted.is_empty(), "{kind}");
    }
}
