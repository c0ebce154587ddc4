//! Sigma's correlations of averages, medians and percentiles, and of events that must be absent.

use std::process::Command;

use proptest::prelude::*;
use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::rule::{AbsenceSide, Counts, Rule, Setting, Window, WindowKind};
use tawny::table::MemoryTable;
use tawny::time::{Instant, Range, SECOND};

use crate::records::{batch, failed_sign_in};
use crate::sigma::{correlation, found, read};
use crate::{grids, oracle};

/// A match: its minute, and the text of its number.
#[derive(Debug, Clone)]
struct Sample {
    user: &'static str,
    minute: i64,
    number: &'static str,
}

const START: i64 = 1_788_220_800;
const PERIOD: i64 = 600;
const FIELD: &str = "additionalEventData.bytes";

fn record(number: usize, sample: &Sample) -> Value {
    let time = Instant::from_micros((START + sample.minute * 60) * SECOND).to_string();
    // IDs that are not in the order of time.
    let mut record = failed_sign_in(sample.user, &time, &format!("{:03}", number * 7 % 101));
    record["additionalEventData"] = json!({ "bytes": serde_json::from_str::<Value>(sample.number).unwrap() });
    record
}

fn table(records: &[Value]) -> MemoryTable {
    MemoryTable(vec![batch(records)])
}

fn engine() -> Engine {
    Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap()
}

fn hunted(rule: &Rule, records: &[Value], range: Range) -> Vec<Finding> {
    let (engine, data) = (engine(), table(records));
    oracle::RUNTIME.block_on(hunt::findings(&engine, &data, std::slice::from_ref(rule), range)).unwrap()
}

fn rule(kind: &str, condition: &str) -> Rule {
    let rest = format!("  condition: {{field: {FIELD}, {condition}}}\n");
    read(&correlation(kind, "fails", &rest)).unwrap().remove(0)
}

/// A statistic and limits, and the same computed by definition.
#[derive(Debug, Clone, Copy)]
struct Case {
    kind: &'static str,
    percentile: Option<u8>,
    limits: &'static str,
    holds: Holds,
}

/// Whether a value is within limits.
type Holds = fn(f64) -> bool;

/// Limits that the numbers below meet exactly.
const LIMITS: [(&str, Holds); 7] = [
    ("gt: 4", |value| value > 4.0),
    ("gte: 4", |value| value >= 4.0),
    ("lt: 2.5", |value| value < 2.5),
    ("lte: 2.5", |value| value <= 2.5),
    ("eq: 4", |value| (value - 4.0).abs() < 1e-9),
    ("neq: 4", |value| (value - 4.0).abs() > 1e-9),
    ("gt: -1, lte: 3", |value| value > -1.0 && value <= 3.0),
];

const KINDS: [(&str, Option<u8>); 7] = [
    ("value_avg", None),
    ("value_median", Some(50)),
    ("value_percentile", Some(0)),
    ("value_percentile", Some(50)),
    ("value_percentile", Some(75)),
    ("value_percentile", Some(95)),
    ("value_percentile", Some(100)),
];

/// Numbers, and values that are none. All are quarters, so that doubles are exact.
const NUMBERS: [(&str, Option<f64>); 10] = [
    ("0", Some(0.0)),
    ("1", Some(1.0)),
    ("\"4\"", Some(4.0)),
    ("2.5", Some(2.5)),
    ("8", Some(8.0)),
    ("-8", Some(-8.0)),
    ("4e0", Some(4.0)),
    ("null", None),
    ("\"many\"", None),
    ("[4]", None),
];

impl Case {
    fn rule(self, kind: WindowKind) -> Rule {
        // A median has no percentile of its own.
        let percentile = self.percentile.filter(|_| self.kind == "value_percentile");
        let percentile = percentile.map_or_else(String::new, |percentile| format!(", percentile: {percentile}"));
        let mut rule = rule(self.kind, &format!("{}{percentile}", self.limits));
        rule.window.kind = kind;
        rule
    }

    /// Returns the statistic of numbers, rounded as little as doubles are.
    fn value(self, mut numbers: Vec<f64>) -> Option<f64> {
        numbers.sort_by(f64::total_cmp);
        let last = numbers.len().checked_sub(1)?;
        let Some(percentile) = self.percentile else {
            return Some(numbers.iter().sum::<f64>() / f64::from(u32::try_from(numbers.len()).unwrap()));
        };
        let hundredths = last * usize::from(percentile);
        let (below, above) = (numbers[hundredths / 100], numbers[(hundredths / 100 + 1).min(last)]);
        Some(below + (above - below) * f64::from(u32::try_from(hundredths % 100).unwrap()) / 100.0)
    }

    /// Returns the value of a window if it is within the limits.
    fn within(self, window: &[&Sample]) -> Option<f64> {
        let number = |sample: &&Sample| NUMBERS.iter().find(|(text, _)| *text == sample.number).unwrap().1;
        self.value(window.iter().filter_map(number).collect()).filter(|value| (self.holds)(*value))
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (prop::sample::select(KINDS.to_vec()), prop::sample::select(LIMITS.to_vec()))
        .prop_map(|((kind, percentile), (limits, holds))| Case { kind, percentile, limits, holds })
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let numbers = prop::sample::select(NUMBERS.map(|(text, _)| text).to_vec());
    let sample = (prop::sample::select(vec!["ann", "bob"]), 0i64..40, numbers);
    let sample = sample.prop_map(|(user, minute, number)| Sample { user, minute, number });
    prop::collection::vec(sample, 0..24)
}

/// A finding: its events, its trigger, the most events of a window, and the statistic of the window that triggered.
type Shown = (Vec<String>, i64, u64, f64);

/// Returns the findings by definition: windows whose statistic is within the limits. Sliding ones that share a match are one.
fn expected(samples: &[Sample], case: Case, kind: WindowKind) -> Vec<Shown> {
    let mut all = Vec::new();
    for user in ["ann", "bob"] {
        let of_user = samples.iter().enumerate().filter(|(_, sample)| sample.user == user);
        let mut group: Vec<(usize, &Sample)> = of_user.collect();
        group.sort_by_key(|(number, sample)| (sample.minute, number * 7 % 101));
        let second = |(_, sample): &(usize, &Sample)| sample.minute * 60;
        let mut windows: Vec<Vec<(usize, &Sample)>> = Vec::new();
        match kind {
            WindowKind::Sliding => {
                for end in group.iter().map(second) {
                    let is_in = |one: &&(usize, &Sample)| end - PERIOD < second(one) && second(one) <= end;
                    let window: Vec<_> = group.iter().filter(is_in).copied().collect();
                    if !windows.iter().any(|known| known.last().map(second) == Some(end)) {
                        windows.push(window);
                    }
                }
            }
            WindowKind::Tumbling | WindowKind::Dedup => {
                for one in &group {
                    let is_open = |window: &&mut Vec<(usize, &Sample)>| match kind {
                        WindowKind::Tumbling => (START + second(&window[0])) / PERIOD == (START + second(one)) / PERIOD,
                        _ => second(one) < second(&window[0]) + PERIOD,
                    };
                    match windows.last_mut().filter(is_open) {
                        Some(window) => window.push(*one),
                        None => windows.push(vec![*one]),
                    }
                }
            }
        }
        // Bursts: events, trigger, most events, value.
        let mut bursts: Vec<(Vec<usize>, i64, u64, f64)> = Vec::new();
        for window in windows {
            let samples: Vec<&Sample> = window.iter().map(|(_, sample)| *sample).collect();
            let Some(value) = case.within(&samples) else { continue };
            let numbers: Vec<usize> = window.iter().map(|(number, _)| *number).collect();
            match bursts.last_mut().filter(|(events, ..)| numbers.iter().any(|number| events.contains(number))) {
                Some((events, _, most, _)) => {
                    events.extend(&numbers);
                    *most = (*most).max(numbers.len() as u64);
                }
                None => bursts.push((numbers.clone(), second(window.last().unwrap()), numbers.len() as u64, value)),
            }
        }
        for (mut numbers, trigger, most, value) in bursts {
            numbers.sort_unstable();
            numbers.dedup();
            let mut ids: Vec<String> = numbers.iter().map(|number| format!("{:03}", number * 7 % 101)).collect();
            ids.sort();
            all.push((ids, trigger, most, (value * 1e6).floor() / 1e6));
        }
    }
    all.sort_by(|one, other| one.partial_cmp(other).unwrap());
    all
}

fn shown(findings: Vec<Finding>) -> Vec<Shown> {
    let shown = |finding: Finding| {
        assert_eq!(finding.threshold, 1);
        (finding.event_ids, finding.trigger_time.seconds() - START, finding.peak, finding.statistic_value.unwrap())
    };
    let mut all: Vec<Shown> = findings.into_iter().map(shown).collect();
    all.sort_by(|one, other| one.partial_cmp(other).unwrap());
    all
}

fn is_near(found: &[Shown], expected: &[Shown]) -> bool {
    let same = |(one, other): (&Shown, &Shown)| {
        (&one.0, one.1, one.2) == (&other.0, other.1, other.2) && (one.3 - other.3).abs() < 2e-6
    };
    found.len() == expected.len() && found.iter().zip(expected).all(same)
}

proptest! {
    #![proptest_config(oracle::config(40))]

    #[test]
    fn statistics_equal_those_of_each_window(
        samples in samples(),
        case in cases(),
        kind in oracle::kinds(),
        cut in 0i64..40,
    ) {
        let records: Vec<Value> = samples.iter().enumerate().map(|(number, sample)| record(number, sample)).collect();
        let expected = expected(&samples, case, kind);
        let rule = case.rule(kind);
        let whole = shown(hunted(&rule, &records, Range::default()));
        prop_assert!(is_near(&whole, &expected), "{:?} for {:?}", whole, expected);

        let cut = Instant::from_micros((START + cut * 60) * SECOND);
        let before = hunted(&rule, &records, Range { from: None, to: Some(cut) });
        let after = hunted(&rule, &records, Range { from: Some(cut), to: None });
        let parts = shown([before, after].concat());
        prop_assert!(is_near(&parts, &expected), "{:?} in two parts, for {:?}", parts, expected);
    }
}

proptest! {
    #![proptest_config(oracle::config(6))]

    #[test]
    fn every_cell_of_a_statistic_equals_a_hunt(samples in samples(), case in cases(), cut in 0i64..40) {
        let records: Vec<Value> = samples.iter().enumerate().map(|(number, sample)| record(number, sample)).collect();
        let rule = case.rule(WindowKind::Sliding);
        let cells: Vec<Setting> = grids::cells(&["5m", "10m", "901s"], 1..2)
            .into_iter()
            .map(|window: Window| Setting { window, ..rule.setting() })
            .collect();
        let cut = Instant::from_micros((START + cut * 60) * SECOND);
        let data = table(&records);
        oracle::RUNTIME.block_on(async {
            for range in [Range::default(), Range { from: None, to: Some(cut) }, Range { from: Some(cut), to: None }] {
                grids::hold_settings_against_hunts(&engine(), &data, &rule, &cells, range).await;
            }
        });
    }
}

#[test]
fn statistics_are_read_and_shown() {
    let numbers = ["600", "\"400\"", "0.5", "\"many\""];
    let samples = (0..).zip(numbers).map(|(minute, number)| Sample { user: "ann", minute, number });
    let records: Vec<Value> = samples.enumerate().map(|(number, sample)| record(number, &sample)).collect();
    for (kind, condition, text, value) in [
        ("value_avg", "gt: 333.5", "average", Some(600.0)),
        ("value_avg", "lt: 333.6", "average", Some(333.5)),
        ("value_avg", "gt: 600", "average", None),
        ("value_median", "lte: 500", "median", Some(500.0)),
        ("value_percentile", "percentile: 25, lt: 300", "percentile 25", Some(200.25)),
        ("value_percentile", "percentile: 100, gte: -1", "percentile 100", Some(600.0)),
    ] {
        let found = hunted(&rule(kind, condition), &records, Range::default());
        assert_eq!(found.first().and_then(|finding| finding.statistic_value), value, "{kind} {condition}");
        if let Some(finding) = found.first() {
            assert_eq!(finding.statistic.as_deref(), Some(format!("{text} of {FIELD}").as_str()));
        }
    }
    let mut rule = rule("value_avg", "gt: 5");
    assert!(rule.check(rule.window).is_ok());
    rule.window.threshold = 2.try_into().unwrap();
    let refused = rule.check(rule.window).unwrap_err().to_string();
    assert!(refused.contains("average of additionalEventData.bytes > 5, and its threshold is always 1"), "{refused}");
}

#[test]
fn statistics_are_visible_in_commands() {
    let folder = tempfile::tempdir().unwrap();
    let rest = format!("  condition: {{field: {FIELD}, percentile: 95, gt: 500.5}}\n");
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, correlation("value_percentile", "fails", &rest)).unwrap();
    let trail = folder.path().join("trail.json");
    let records: Vec<Value> =
        (0..3).map(|number| record(number, &Sample { user: "ann", minute: 0, number: "600" })).collect();
    std::fs::write(&trail, json!({ "Records": records }).to_string()).unwrap();
    let run = |arguments: &[&str]| {
        let rules = if ["list", "lint"].contains(&arguments[1]) { None } else { Some("--rules") };
        let rules = rules.into_iter().chain([file.to_str().unwrap()]);
        let output = Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).args(rules).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let condition = format!("percentile 95 of {FIELD} > 500.5");
    let sql = run(&["sql", "joined"]).1;
    assert!(sql.contains("statistic_within(counted, \"eventTime\", period, 'percentile 95 > 500.5')"), "{sql}");
    let refused = run(&["sql", "joined", "--dialect", "duckdb"]);
    assert!(refused.0 == Some(2) && refused.2.contains("the percentile 95 of values"), "{refused:?}");
    assert!(run(&["rules", "show", "joined", "--format", "table"]).1.contains(&condition));
    assert!(run(&["rules", "list", "--format", "json"]).1.contains(&condition));
    assert!(run(&["rules", "list", "--format", "markdown"]).1.contains("window whose percentile 95"));
    assert_eq!(run(&["rules", "lint"]).0, Some(0));
    let misspelt = correlation("value_percentile", "fails", &rest.replace("additionalEventData", "additionalEventDat"));
    let of_misspelt = folder.path().join("misspelt.yml");
    std::fs::write(&of_misspelt, misspelt).unwrap();
    let warned = Command::new(env!("CARGO_BIN_EXE_tawny")).args(["rules", "lint"]).arg(&of_misspelt).output().unwrap();
    let warned = String::from_utf8(warned.stdout).unwrap() + &String::from_utf8(warned.stderr).unwrap();
    assert!(warned.contains("misspelt.yml:23:22: records have no `additionalEventDat.bytes`"), "{warned}");
    let trail = trail.to_str().unwrap();
    assert!(run(&["hunt", trail]).1.contains("3 (percentile 95: 600)"), "{:?}", run(&["hunt", trail]));
    let csv = run(&["hunt", trail, "--format", "csv"]).1;
    assert!(
        csv.contains("statistic,statistic_value") && csv.contains(&format!("percentile 95 of {FIELD},600")),
        "{csv}"
    );
    let cells =
        run(&["backtest", trail, "--rule", "joined", "--thresholds", "1", "--periods", "5m,10m", "--format", "json"]);
    assert!(cells.0 == Some(0) && cells.1.contains("\"findings\""), "{cells:?}");
    let refused = run(&["backtest", trail, "--rule", "joined", "--thresholds", "1..3"]);
    assert!(refused.0 == Some(2) && refused.2.contains("its threshold is always 1"), "{refused:?}");
}

#[test]
fn rule_may_be_absent_in_a_temporal_correlation() {
    let absent = |condition: &str| correlation("temporal", "fails, succeeds", &format!("  condition: {condition}\n"));
    let text = absent("fails and not succeeds");
    let rule = read(&text).unwrap().remove(0);
    assert_eq!(
        (rule.absence.as_ref().map(|absence| absence.side), &rule.counts),
        (Some(AbsenceSide::Before), &Counts::Matches)
    );
    // The data begin ten minutes before the first match that counts.
    let sign_ins = [
        ("ann", 0, "Success", "192.0.2.1"),
        ("ann", 9, "Failure", "192.0.2.1"),
        ("bob", 10, "Failure", "192.0.2.1"),
        ("ann", 10, "Failure", "192.0.2.1"),
        ("cid", 11, "Success", "192.0.2.1"),
        ("cid", 11, "Failure", "192.0.2.1"),
        ("dan", 12, "Failure", "192.0.2.1"),
        ("dan", 13, "Success", "192.0.2.1"),
        ("dan", 14, "Failure", "192.0.2.1"),
    ];
    // ann's first failure and cid's come within ten minutes of a success; ann's second is exactly ten minutes after one.
    assert_eq!(found(&text, &sign_ins), [["3"], ["2"], ["6"]]);
    let swapped = found(&absent("not fails and succeeds"), &sign_ins);
    assert_eq!(swapped, Vec::<Vec<String>>::new(), "{swapped:?}");
}

#[test]
fn event_of_both_rules_is_no_match_and_several_rules_may_be_absent() {
    let rules = "---\ntitle: A\nname: a\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {eventName: ConsoleLogin}\n  condition: s\n\
---\ntitle: B\nname: b\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {responseElements.ConsoleLogin: Success}\n  condition: s\n\
---\ntitle: C\nname: c\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {sourceIPAddress: 192.0.2.9}\n  condition: s\n\
---\ntitle: J\ncorrelation:\n  type: temporal\n  rules: [a, b, c]\n  group-by: [userIdentity.userName]\n  timespan: 10m\n  condition: CONDITION\n";
    let sign_ins = [
        ("zoe", 0, "Failure", "192.0.2.1"),
        ("ann", 20, "Success", "192.0.2.1"),
        ("bob", 20, "Failure", "192.0.2.1"),
        ("cid", 20, "Failure", "192.0.2.9"),
        ("cid", 25, "Failure", "192.0.2.1"),
        ("dan", 20, "Success", "192.0.2.1"),
        ("dan", 29, "Failure", "192.0.2.1"),
    ];
    for condition in ["a and not b and not c", "a and not (b or c)", "not c and a and not b"] {
        assert_eq!(found(&rules.replace("CONDITION", condition), &sign_ins), [["2"]], "{condition}");
    }
    let either = found(&rules.replace("CONDITION", "(a or b) and not c"), &sign_ins);
    assert_eq!(either, [&["1"][..], &["2"], &["5", "6"]]);
}

#[test]
fn statistics_and_absences_that_are_not_hunted_are_refused_by_name() {
    for (text, reason) in [
        (
            correlation("value_percentile", "fails", "  condition: {lte: 1, field: x}\n"),
            "rules.yml:23:14: `value_percentile` without `percentile` is about how rare a value is, which is not hunted",
        ),
        (
            correlation("value_percentile", "fails", "  condition: {lte: 1, field: x, percentile: 101}\n"),
            "rules.yml:23:45: `percentile` must be a whole number from 0 to 100",
        ),
        (
            correlation("value_avg", "fails", "  condition: {lte: 1, field: x, percentile: 50}\n"),
            "`percentile` is for correlations of the type `value_percentile`",
        ),
        (correlation("value_avg", "fails", "  condition: {gte: 2}\n"), "a `value_avg` needs the `field` of its values"),
        (
            correlation("value_median", "fails", "  condition: {gte: 2, field: [x, y]}\n"),
            "a `value_median` of several fields is not hunted",
        ),
        (
            correlation("value_avg", "fails", "  condition: {gt: many, field: x}\n"),
            "rules.yml:23:19: `gt` must be a number with at most six decimals",
        ),
        (correlation("value_avg", "fails", "  condition: {gt: 0.0000001, field: x}\n"), "at most six decimals"),
        (correlation("value_avg", "fails", "  condition: {field: x}\n"), "a number to compare with"),
        (
            correlation("value_avg", "fails", "  condition: {gte: 5, lt: 5, field: x}\n"),
            "no number satisfies the condition",
        ),
        (
            correlation("temporal", "fails, succeeds", "  condition: not fails and not succeeds\n"),
            "an absence alone has no event to find",
        ),
        (
            correlation("temporal", "fails, succeeds, fails", "  condition: fails and succeeds and not fails\n"),
            "`and not` next to several rules that must match is not hunted",
        ),
        (
            correlation("temporal", "fails, succeeds", "  condition: (fails or succeeds) and not fails\n"),
            "a rule that must have a match must also have none",
        ),
        (
            correlation("temporal", "fails, succeeds", "  condition: fails or not succeeds\n"),
            "`not` within `or` or `not` is not hunted",
        ),
        (
            correlation("temporal", "fails, succeeds", "  condition: fails and not (fails and succeeds)\n"),
            "`and` within `or` or `not` is not hunted",
        ),
        (
            correlation("temporal_ordered", "fails, succeeds", "  condition: fails and not succeeds\n"),
            "in order, all rules must have a match",
        ),
    ] {
        let refused = read(&text).expect_err(&text);
        assert!(refused.contains("rules.yml") && refused.contains(reason), "{refused}\n{text}");
    }
}
