//! Formats the results of the tests of rules.

use std::collections::BTreeMap;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::{internal, rows_dropping};
use crate::error::Error;
use crate::text::{json, printable};

/// Output format of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum TestFormat {
    /// A table for people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// `JUnit` XML: a suite for each rule, a case for each test.
    Junit,
}

/// The results of the tests of some rules.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TestResults {
    /// The results, by rule.
    #[serde(rename = "tests")]
    pub outcomes: Vec<TestOutcome>,
    /// The ids of the rules without tests.
    #[serde(rename = "rules_without_tests")]
    pub untested: Vec<String>,
}

/// The result of a test.
#[derive(Debug, Clone, Serialize)]
pub struct TestOutcome {
    /// The id of the rule.
    #[serde(rename = "rule_id")]
    pub rule: String,
    /// The file of the rule.
    pub file: String,
    /// The name of the test.
    pub test: String,
    /// Whether the rule did what the test expects.
    pub passed: bool,
    /// The expected result, for people.
    pub expected: String,
    /// The actual result, for people.
    pub got: String,
}

impl TestResults {
    /// Returns the number of failed tests.
    pub fn failed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| !outcome.passed).count()
    }
}

/// Returns the results in `format`.
///
/// # Errors
/// They cannot be encoded, which is a defect.
pub fn text(results: &TestResults, format: TestFormat) -> Result<String, Error> {
    match format {
        TestFormat::Table => Ok(table(results)),
        TestFormat::Json => json::pretty(results).map_err(|error| internal("test results as JSON", &error)),
        TestFormat::Junit => junit(results),
    }
}

fn table(results: &TestResults) -> String {
    let row = |outcome: &TestOutcome| {
        let passed = if outcome.passed { "pass" } else { "FAIL" };
        let TestOutcome { rule, test, expected, got, .. } = outcome;
        vec![passed.to_owned(), rule.clone(), test.clone(), expected.clone(), got.clone()]
    };
    rows_dropping(&["", "rule", "test", "expected", "got"], &["expected"], results.outcomes.iter().map(row))
}

/// Returns a suite for each rule. The suite of a rule without tests has a skipped case that says so.
fn junit(results: &TestResults) -> Result<String, Error> {
    let mut suites: BTreeMap<&str, TestSuite> = BTreeMap::new();
    let mut add = |rule, name: &str, status| {
        let mut case = TestCase::new(printable(name), status);
        case.set_classname(printable(rule));
        suites.entry(rule).or_insert_with(|| TestSuite::new(printable(rule))).add_test_case(case);
    };
    for outcome in &results.outcomes {
        let mut status = TestCaseStatus::success();
        if !outcome.passed {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let message = format!("expected {}, got {}", outcome.expected, outcome.got);
            status.set_type("unexpected").set_message(printable(&message));
        }
        add(outcome.rule.as_str(), &outcome.test, status);
    }
    for rule in &results.untested {
        let mut status = TestCaseStatus::skipped();
        status.set_message("the rule has no tests");
        add(rule.as_str(), "tests", status);
    }
    let mut report = Report::new("tawny test");
    report.add_test_suites(suites.into_values());
    report.to_string().map_err(|error| internal("test results as JUnit", &error))
}
