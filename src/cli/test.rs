use std::path::PathBuf;

use clap::Args;

use super::{Context, RuleFiles, loading};
use crate::error::{Error, RuleErrorKind, Status};
use crate::hunt::{self, HuntTestResult};
use crate::report::rule_tests::{self, TestFormat, TestOutcome, TestResults};
use crate::rule::Rule;
use crate::rule::catalog::{self, LoadedRules, SkippedRule};
use crate::rule::lint::Code;

/// Run the tests of rules
///
/// Tests evaluate the same conditions that a hunt evaluates. A test with `Logs` is a hunt of these records.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny test\n  tawny test rules/ my_rule.yml\n  tawny test --exceptions exceptions.yml\n  tawny test my-rules/ --format junit --output junit.xml"
)]
pub(super) struct TestCommand {
    /// Rule files or folders [default: the shipped rules]
    #[arg(value_name = "RULES")]
    rules: Vec<PathBuf>,
    /// YAML files with exceptions of rules and with value lists
    #[arg(long, value_name = "FILE", num_args = 1..)]
    exceptions: Vec<PathBuf>,
    /// YAML file with values for the placeholders of Sigma rules, by name
    #[arg(long, value_name = "FILE")]
    placeholders: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: TestFormat,
    /// Write the result to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl TestCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let files = RuleFiles {
            paths: &self.rules,
            exceptions: &self.exceptions,
            placeholders: self.placeholders.as_deref(),
            ..RuleFiles::default()
        };
        let mut loaded = files.read()?;
        // The tests of a rule in Python run when it is read.
        let failing: Vec<SkippedRule> =
            loaded.skipped.extract_if(.., |rule| rule.kind() == RuleErrorKind::FailedTests).collect();
        let LoadedRules { entries: rules, skipped, .. } = loading::announce(context.output, files, loaded)?;
        if rules.is_empty() && failing.is_empty() {
            return Err(Error::usage("no rules to test"));
        }
        let (engine, _spill) = context.engine()?;
        let tested: Vec<Rule> = rules.iter().map(|entry| entry.rule.clone()).collect();
        let results = hunt::run_rule_tests(&engine, &tested).await?;
        let mut outcomes = Vec::new();
        let mut untested = Vec::new();
        for SkippedRule { file, errors, .. } in failing {
            let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
            outcomes.push(TestOutcome {
                rule: file.clone(),
                file,
                test: "all tests of the rule".to_owned(),
                passed: false,
                expected: "pass".to_owned(),
                got: messages.join("; "),
            });
        }
        for (catalog::Entry { rule, file, warnings, .. }, matched) in rules.iter().zip(results) {
            for warning in warnings.iter().filter(|warning| warning.code == Code::UnrunTest) {
                context.output.warn(&format!("warning: {file}:{}: {}", warning.line, warning.message));
            }
            let outcome = |test: &str, passed, expected, got| TestOutcome {
                rule: rule.id.clone(),
                file: file.clone(),
                test: test.to_owned(),
                passed,
                expected,
                got,
            };
            let told = |matched| if matched { "match" } else { "no match" }.to_owned();
            for (test, matched) in rule.tests.iter().zip(matched) {
                outcomes.push(outcome(&test.name, matched == test.expected, told(test.expected), told(matched)));
            }
            for (test, result) in rule.hunt_tests.iter().zip(hunt::run_hunt_tests(&engine, rule).await?) {
                let HuntTestResult { passed, expected, found } = result;
                outcomes.push(outcome(&test.name, passed, expected, found));
            }
            if rule.tests.is_empty() && rule.hunt_tests.is_empty() {
                context.output.warn(&format!("warning: rule `{}` has no tests", rule.id));
                untested.push(rule.id.clone());
            }
        }
        let results = TestResults { outcomes, untested };
        context.output.result(&rule_tests::text(&results, self.format)?, self.output.as_deref())?;
        let failed = results.failed();
        let passed = results.outcomes.len() - failed;
        context.output.talk(&format!("{passed} passed, {failed} failed"));
        let status = if failed > 0 { Status::Findings } else { Status::Done };
        // The tests of these rules did not run.
        Ok(if skipped.is_empty() { status } else { Status::Usage })
    }
}
