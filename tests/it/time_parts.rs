//! Conditions on the hour and the weekday of an event, in time zones.

use arrow::array::RecordBatch;
use serde_json::json;
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::finding::FindingSchema;
use tawny::hunt;
use tawny::query::{self, Query};
use tawny::raw::envelope::Record;
use tawny::raw::json as raw_json;
use tawny::rule::{Rule, panther, simple_detection};
use tawny::sql;
use tawny::sql::columns::RuleColumns;
use tawny::table::MemoryTable;
use tawny::time::{DAY, Instant, Range, SECOND};

use crate::oracle::RUNTIME;
use crate::places::engine;

const HOUR: i64 = 3_600 * SECOND;

/// A time zone, and the seconds that it is ahead of UTC: the first ones, and later ones with their starts in UTC.
struct Zone {
    name: &'static str,
    first: i64,
    changes: &'static [(&'static str, i64)],
}

/// From the rules of daylight saving time, not from a library.
const ZONES: [Zone; 4] = [
    Zone { name: "UTC", first: 0, changes: &[] },
    Zone {
        name: "Europe/Berlin",
        first: 3_600,
        changes: &[("2026-03-29T01:00:00Z", 7_200), ("2026-10-25T01:00:00Z", 3_600)],
    },
    Zone {
        name: "America/New_York",
        first: -18_000,
        changes: &[("2026-03-08T07:00:00Z", -14_400), ("2026-11-01T06:00:00Z", -18_000)],
    },
    Zone { name: "Asia/Kolkata", first: 19_800, changes: &[] },
];

impl Zone {
    /// Returns the hour and the weekday, from 1 for Monday, at an instant.
    fn parts(&self, at: Instant) -> (i64, i64) {
        let is_past = |start: &str| start.parse::<Instant>().unwrap() <= at;
        let last = self.changes.iter().rfind(|(start, _)| is_past(start));
        let local = at.seconds() + last.map_or(self.first, |(_, ahead)| *ahead);
        // The epoch was a Thursday.
        (local.div_euclid(3_600).rem_euclid(24), (local.div_euclid(86_400) + 3).rem_euclid(7) + 1)
    }
}

/// Returns instants around changes of the clocks, and in the course of a week.
fn instants() -> Vec<Instant> {
    let mut all = Vec::new();
    for change in ZONES.iter().flat_map(|zone| zone.changes) {
        let change: Instant = change.0.parse().unwrap();
        all.extend((-30..30).map(|half| change + half * HOUR / 2));
        all.extend([change - SECOND, change - 1]);
    }
    let week: Instant = "2026-06-01T00:00:00Z".parse().unwrap();
    all.extend((0..7 * 24).map(|hour| week + hour * HOUR));
    all.sort_unstable();
    all.dedup();
    all
}

fn rule(condition: &str) -> Rule {
    let text = format!(
        "AnalysisType: rule\nRuleID: Example.Times\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
         Hunt: {{Window: tumbling}}\nDedupPeriodMinutes: 527040\nDetection:\n{condition}\n"
    );
    panther::parse("rule.yml", &text).unwrap_or_else(|error| panic!("{text}\n{error}")).rule
}

fn table(instants: &[Instant]) -> MemoryTable {
    let mut builder = BatchBuilder::default();
    for (number, instant) in instants.iter().enumerate() {
        let text = json!({ "eventTime": instant, "eventID": number.to_string(), "eventName": "Act" }).to_string();
        builder.push(&Record { text: &text, members: raw_json::members(&text).unwrap() });
    }
    MemoryTable(vec![builder.finish().unwrap()])
}

/// Returns the numbers of the records that a hunt of the rule, and the SQL that is printed for it, find.
fn matched(rule: &Rule, table: &MemoryTable) -> Vec<usize> {
    let rules = [rule.clone()];
    let found = RUNTIME.block_on(hunt::findings(&engine(1), table, &rules, Range::default())).unwrap();
    let ids = |ids: Vec<String>| {
        let mut numbers: Vec<usize> = ids.iter().map(|id| id.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    let hunted = ids(found.into_iter().flat_map(|finding| finding.event_ids).collect());
    let sql = sql::hunt(rule, Range::default(), Range::default()).unwrap();
    let query = Query { sql: &sql, rule: None, range: Range::default(), with_duplicates: true };
    let outcome =
        RUNTIME.block_on(query::run(&engine(1), table, query)).unwrap_or_else(|error| panic!("{sql}\n{error}"));
    let schema = FindingSchema { rule, columns: RuleColumns::new(rule).names() };
    let findings = |batch| (0..RecordBatch::num_rows(batch)).map(|row| schema.finding(batch, row).unwrap());
    let printed = outcome.answer.rows.iter().flat_map(findings).flat_map(|finding| finding.event_ids).collect();
    assert_eq!(ids(printed), hunted, "{sql}");
    hunted
}

#[test]
fn hours_and_weekdays_are_exact_through_changes_of_the_clocks() {
    let instants = instants();
    let table = table(&instants);
    for zone in &ZONES {
        let in_zone = if zone.name == "UTC" { String::new() } else { format!(", Zone: {}", zone.name) };
        for (condition, values, is_met) in [
            ("Hour", "Value: 2", (|hour, _| hour == 2) as fn(i64, i64) -> bool),
            ("Hour", "Values: [22-1, 3]", |hour, _| hour >= 22 || hour < 2 || hour == 3),
            ("Weekday", "Values: [Sat-Sun]", |_, day| day >= 6),
            ("Weekday", "Values: [sunday, 1]", |_, day| day == 7 || day == 1),
            ("Weekday", "Value: Fri-Mon", |_, day| day >= 5 || day == 1),
        ] {
            let rule = rule(&format!("  - {{Key: eventTime, Condition: {condition}, {values}{in_zone}}}"));
            let expected = instants.iter().enumerate().filter(|(_, at)| {
                let (hour, day) = zone.parts(**at);
                is_met(hour, day)
            });
            let expected: Vec<usize> = expected.map(|(number, _)| number).collect();
            assert!(!expected.is_empty());
            assert_eq!(matched(&rule, &table), expected, "{condition} {values}{in_zone}");
        }
    }
}

#[test]
fn conditions_on_times_combine_and_can_be_written_again() {
    let start: Instant = "2026-06-05T00:00:00Z".parse().unwrap();
    let instants: Vec<Instant> = (0..3 * 24).map(|hour| start + hour * HOUR).collect();
    let out_of_hours = rule(
        "  - Any:\n      - {Key: eventTime, Condition: Weekday, Values: [Sat-Sun], Zone: Asia/Kolkata}\n      \
         - None: [{Key: eventTime, Condition: Hour, Values: [9-17], Zone: Asia/Kolkata}]",
    );
    let zone = &ZONES[3];
    let is_out = |at: &&Instant| {
        let (hour, day) = zone.parts(**at);
        day >= 6 || !(9..=17).contains(&hour)
    };
    let expected: Vec<usize> =
        instants.iter().enumerate().filter(|(_, at)| is_out(at)).map(|(number, _)| number).collect();
    let table = table(&instants);
    assert_eq!(matched(&out_of_hours, &table), expected);
    let written = panther::parse("written.yml", &simple_detection::yaml(&out_of_hours).unwrap()).unwrap().rule;
    assert_eq!(written.detection, out_of_hours.detection);
    // A day that is nothing but one weekday in UTC.
    let friday = rule("  - {Key: eventTime, Condition: Weekday, Value: Friday}");
    assert_eq!(matched(&friday, &table), (0..24).collect::<Vec<_>>());
    assert_eq!((start + DAY).seconds() % 86_400, 0);
}

#[test]
fn tests_in_rule_files_use_the_times_of_their_records() {
    let text = "AnalysisType: rule\nRuleID: A\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\nDetection:\n  \
        - {Key: eventTime, Condition: Hour, Values: [0-5], Zone: Europe/Berlin}\nTests:\n";
    let tests = [
        ("2026-07-01T22:00:00Z", true),
        ("2026-07-01T21:59:59.999999Z", false),
        ("2026-12-01T22:00:00Z", false),
        ("2026-12-01T23:00:00.5Z", true),
    ];
    let written = tests.map(|(time, expected)| {
        format!("  - {{Name: \"{time}\", ExpectedResult: {expected}, Log: {{eventTime: \"{time}\"}}}}\n")
    });
    let rule = panther::parse("rule.yml", &(text.to_owned() + &written.concat())).unwrap().rule;
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    let matched = RUNTIME.block_on(hunt::run_rule_tests(&engine, &[rule])).unwrap();
    assert_eq!(matched, [tests.map(|(_, expected)| expected)]);
}
