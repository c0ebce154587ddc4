//! Runs the tests in rule files.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::engine::match_scan::MatchScan;
use crate::engine::{self, Engine};
use crate::error::Error;
use crate::event::{self, batch::BatchBuilder};
use crate::raw::envelope::Record;
use crate::raw::json;
use crate::rule::exceptions::Exception;
use crate::rule::{Predicate, Rule, RuleTest};
use crate::sql::match_spec::MatchSpec;
use crate::time::{self, Instant, Range, SECOND};

/// Returns for each rule and each of its tests whether the test record matches the rule. Matching is that of a hunt.
/// The record needs no time.
pub async fn run_rule_tests(engine: &Engine, rules: &[Rule]) -> Result<Vec<Vec<bool>>, Error> {
    let failed = |error| Error::query("the records of tests", error);
    let too_large = |error| Error::columns("the records of tests", error);
    // Each record gets its own time, by which its matches are found again.
    let mut indexes = Vec::new();
    let mut builder = BatchBuilder::default();
    for (rule_index, rule) in rules.iter().enumerate() {
        for (test_index, test) in rule.tests.iter().enumerate() {
            push(&mut builder, rule, test, time_of(indexes.len()))?;
            indexes.push((rule_index, test_index));
        }
    }
    let table = engine::memory_table(event::schema(), vec![builder.finish().map_err(too_large)?]).map_err(failed)?;
    let (conditions, indexes_of) = tested_rules(rules);
    let spec = MatchSpec::new(&conditions, Range::default());
    let mut matched: Vec<Vec<bool>> = rules.iter().map(|rule| vec![false; rule.tests.len()]).collect();
    let scan = MatchScan::new(engine, table, &spec).await.map_err(failed)?;
    for batch in scan.collect(usize::MAX).await.map_err(failed)? {
        for row in 0..batch.len() {
            if let Some((rule, test)) =
                usize::try_from(batch.time(row).seconds()).ok().and_then(|record| indexes.get(record))
            {
                matched[*rule][*test] = batch.matches_of(indexes_of[*rule][*test]).value(row);
            }
        }
    }
    Ok(matched)
}

/// Returns the rules to match, and for each rule and each of its tests the index of one of them. The exceptions of a rule apply
/// to a test by the time in its record, so such a rule is there once for each test.
fn tested_rules(rules: &[Rule]) -> (Vec<Rule>, Vec<Vec<usize>>) {
    let (mut tested, mut indexes) = (Vec::new(), Vec::new());
    for rule in rules {
        if rule.exceptions().is_empty() {
            indexes.push(vec![tested.len(); rule.tests.len()]);
            tested.push(rule.clone());
            continue;
        }
        indexes.push((tested.len()..).take(rule.tests.len()).collect());
        tested.extend(rule.tests.iter().map(|test| {
            let time = time_in(test);
            let is_in_time = |exception: &&Arc<Exception>| time.is_some_and(|time| exception.times().contains(time));
            let applying = rule.exceptions().iter().filter(is_in_time);
            let none_of = Predicate::None(applying.map(|exception| exception.when.clone()).collect());
            let detection = Predicate::All(vec![rule.detection_without_exceptions().clone(), none_of]);
            Rule { detection, ..rule.clone() }
        }));
    }
    (tested, indexes)
}

/// Returns the time in the record of a test.
fn time_in(test: &RuleTest) -> Option<Instant> {
    let members = json::members(&test.log)?;
    let (_, value) = members.iter().find(|(key, _)| key.eq_ignore_ascii_case("eventTime"))?;
    time::parse_event_time(&serde_json::from_str::<String>(value.get()).ok()?)
}

/// Returns the time of the record with this index.
fn time_of(record: usize) -> Instant {
    Instant::EPOCH + i64::try_from(record).unwrap_or(i64::MAX).saturating_mul(SECOND)
}

/// Adds the record of `test` with `time` in place of its own.
fn push(builder: &mut BatchBuilder, rule: &Rule, test: &RuleTest, time: Instant) -> Result<(), Error> {
    let internal = |reason: &str| Error::Internal(format!("the test `{}` of `{}`: {reason}", test.name, rule.id));
    let mut members = json::members(&test.log).ok_or_else(|| internal("its record is not a JSON object"))?;
    members.retain(|(key, _)| !key.eq_ignore_ascii_case("eventTime"));
    let quoted = format!("\"{time}\"");
    let time: &RawValue = serde_json::from_str(&quoted).map_err(|error| internal(&error.to_string()))?;
    members.push(("eventTime".into(), time));
    builder.push(&Record { text: &test.log, members });
    Ok(())
}
