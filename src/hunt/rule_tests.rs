//! Runs the tests in rule files.

use serde_json::value::RawValue;

use crate::engine::match_scan::MatchScan;
use crate::engine::{self, Engine};
use crate::error::Error;
use crate::event::{self, batch::BatchBuilder};
use crate::finding::Finding;
use crate::raw::envelope::Record;
use crate::raw::json;
use crate::rule::{ExpectedEvents, ExpectedFinding, HuntTest, Rule, RuleTest};
use crate::sql::match_spec::MatchSpec;
use crate::statistics::number_of;
use crate::table::MemoryTable;
use crate::time::{self, Instant, Range, SECOND};

/// Returns for each rule and each of its tests whether the test record matches the rule. Matching is that of a hunt.
/// The record needs no time, unless the rule tests its hour or weekday.
pub async fn run_rule_tests(engine: &Engine, rules: &[Rule]) -> Result<Vec<Vec<bool>>, Error> {
    let failed = |error| Error::query("the records of tests", error);
    let too_large = |error| Error::columns("the records of tests", error);
    // An event that must be absent is not a match.
    let rules: Vec<Rule> = rules.iter().map(|rule| Rule { absence: None, ..rule.clone() }).collect();
    let rules = rules.as_slice();
    let spec = MatchSpec::new(rules, Range::default());
    let mut matched: Vec<Vec<bool>> = rules.iter().map(|rule| vec![false; rule.tests.len()]).collect();
    let tests =
        rules.iter().enumerate().flat_map(|(rule, tested)| (0..tested.tests.len()).map(move |test| (rule, test)));
    let tests: Vec<(usize, usize)> = tests.collect();
    for indexes in tests.chunks(MICROS_OF_A_SECOND) {
        let mut builder = BatchBuilder::default();
        for (index, (rule, test)) in indexes.iter().enumerate() {
            push(&mut builder, &rules[*rule], &rules[*rule].tests[*test], index)?;
        }
        let batch = builder.finish().map_err(too_large)?;
        let table = engine::memory_table(event::schema(), vec![batch]).map_err(failed)?;
        let scan = MatchScan::new(engine, table, &spec).await.map_err(failed)?;
        for batch in scan.collect(usize::MAX).await.map_err(failed)? {
            for row in 0..batch.len() {
                let index = usize::try_from(batch.time(row).micros().rem_euclid(SECOND)).ok();
                if let Some((rule, test)) = index.and_then(|index| indexes.get(index)) {
                    matched[*rule][*test] = batch.matches_of(*rule).value(row);
                }
            }
        }
    }
    Ok(matched)
}

/// The result of a test of several records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HuntTestResult {
    /// Whether the hunt found what the test expects.
    pub passed: bool,
    /// The expected findings, for people.
    pub expected: String,
    /// The findings, for people.
    pub found: String,
}

/// Hunts the records of each test of `rule` that has several. Returns the results in the order of the tests.
///
/// # Errors
/// A hunt failed.
pub async fn run_hunt_tests(engine: &Engine, rule: &Rule) -> Result<Vec<HuntTestResult>, Error> {
    let mut results = Vec::new();
    for HuntTest { name, logs, expected } in &rule.hunt_tests {
        let mut builder = BatchBuilder::default();
        for log in logs {
            let members = json::members(log).ok_or_else(|| {
                Error::Internal(format!("the test `{name}` of `{}`: a record is not a JSON object", rule.id))
            })?;
            builder.push(&Record { text: log, members });
        }
        let batch = builder.finish().map_err(|error| Error::columns("the records of a test", error))?;
        let table = MemoryTable(vec![batch]);
        let hunted = super::hunt(engine, &table, std::slice::from_ref(rule), Range::default()).await?;
        let open: u64 = hunted.open_matches.iter().sum();
        let mut result = compared(expected, &hunted.findings.concat());
        if open > 0 {
            result.found = format!("{}, {} open", result.found, number_of(open, "match"));
        }
        if !result.passed {
            let matches = count_matches(engine, rule, &table).await?;
            let records = number_of(logs.len(), "record");
            result.found = format!("{}; {matches} of {records} match", result.found);
            let copies = hunted.duplicates.left_out;
            if copies > 0 {
                let them = number_of(copies, "duplicate");
                result.found = format!("{}, {them} left out: give each record its own eventID", result.found);
            }
        }
        results.push(result);
    }
    Ok(results)
}

/// Returns how many records of `table` match `rule`, duplicates included.
async fn count_matches(engine: &Engine, rule: &Rule, table: &MemoryTable) -> Result<usize, Error> {
    let failed = |error| Error::query("the records of a test", error);
    // An event that must be absent is not a match.
    let spec = MatchSpec::new(&[Rule { absence: None, ..rule.clone() }], Range::default());
    let records = engine::memory_table(event::schema(), table.0.clone()).map_err(failed)?;
    let scan = MatchScan::new(engine, records, &spec).await.map_err(failed)?;
    let matches = scan.collect(usize::MAX).await.map_err(failed)?;
    Ok(matches.iter().map(|batch| batch.matches_of(0).true_count()).sum())
}

fn compared(expected: &[ExpectedFinding], found: &[Finding]) -> HuntTestResult {
    let is_met = |(expected, found): (&ExpectedFinding, &Finding)| {
        expected.is_met(|name| group_value(found, name), &found.event_ids)
    };
    let passed = expected.len() == found.len() && expected.iter().zip(found).all(is_met);
    let names_ids = expected.iter().any(|finding| matches!(finding.events, Some(ExpectedEvents::Ids(_))));
    let told = |found: &Finding| {
        let group = found.group.keys().map(|name| (name.clone(), group_value(found, name)));
        let events = if names_ids {
            ExpectedEvents::Ids(found.event_ids.clone())
        } else {
            ExpectedEvents::Count(found.event_ids.len() as u64)
        };
        ExpectedFinding { group: group.collect(), events: Some(events) }
    };
    let found: Vec<ExpectedFinding> = found.iter().map(told).collect();
    HuntTestResult { passed, expected: listed(expected), found: listed(&found) }
}

/// Returns the text of a field of a finding's group.
fn group_value(finding: &Finding, name: &str) -> Option<String> {
    match finding.group.get(name)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Returns the findings as text, such as `2 findings: actor alice, 3 events; actor bob, 4 events`. Equal ones are named
/// once.
fn listed(findings: &[ExpectedFinding]) -> String {
    let count = number_of(findings.len(), "finding");
    let mut texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    texts.dedup();
    if texts.is_empty() || texts == ["any"] { count } else { format!("{count}: {}", texts.join("; ")) }
}

/// The microseconds of a second, by which matches are found again.
const MICROS_OF_A_SECOND: usize = 1_000_000;

/// Adds the record of `test`. Its microseconds, which no rule tests, become `index`. A record without a readable time
/// gets that of the epoch.
fn push(builder: &mut BatchBuilder, rule: &Rule, test: &RuleTest, index: usize) -> Result<(), Error> {
    let internal = |reason: &str| Error::Internal(format!("the test `{}` of `{}`: {reason}", test.name, rule.id));
    let mut members = json::members(&test.log).ok_or_else(|| internal("its record is not a JSON object"))?;
    let is_time = |key: &str| key.eq_ignore_ascii_case("eventTime");
    let given = members.iter().find(|(key, _)| is_time(key)).and_then(|(_, value)| json::string(value));
    let given = given.and_then(|text| time::parse_event_time(&text)).unwrap_or(Instant::EPOCH);
    let time = given.rounded_down(SECOND) + i64::try_from(index).unwrap_or(i64::MAX);
    members.retain(|(key, _)| !is_time(key));
    let quoted = format!("\"{time}\"");
    let time: &RawValue = serde_json::from_str(&quoted).map_err(|error| internal(&error.to_string()))?;
    members.push(("eventTime".into(), time));
    builder.push(&Record { text: &test.log, members });
    Ok(())
}
