use std::path::PathBuf;

use clap::Args;

use super::{Context, RuleFiles, loading};
use crate::error::{Error, Status};
use crate::hunt::{self, HuntTestResult};
use crate::report;
use crate::rule::Rule;
use crate::rule::catalog::{self, LoadedRules};
use crate::rule::lint::Code;

/// Run the tests of rules
///
/// Tests evaluate the same conditions that a hunt evaluates. A test with `Logs` is a hunt of these records.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny test\n  tawny test rules/ my_rule.yml\n  tawny test --exceptions exceptions.yml"
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
}

impl TestCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let files = RuleFiles {
            paths: &self.rules,
            exceptions: &self.exceptions,
            placeholders: self.placeholders.as_deref(),
            ..RuleFiles::default()
        };
        let LoadedRules { entries: rules, skipped, .. } = loading::load(context.output, files)?;
        if rules.is_empty() {
            return Err(Error::usage("no rules to test"));
        }
        let (engine, _spill) = context.engine()?;
        let tested: Vec<Rule> = rules.iter().map(|entry| entry.rule.clone()).collect();
        let results = hunt::run_rule_tests(&engine, &tested).await?;
        let mut rows = Vec::new();
        let mut failed = 0;
        for (catalog::Entry { rule, file, warnings, .. }, matched) in rules.iter().zip(results) {
            for warning in warnings.iter().filter(|warning| warning.code == Code::UnrunTest) {
                context.output.warn(&format!("warning: {file}:{}: {}", warning.line, warning.message));
            }
            for (test, matched) in rule.tests.iter().zip(matched) {
                let passed = matched == test.expected;
                failed += usize::from(!passed);
                let outcome = |matched| if matched { "match" } else { "no match" };
                rows.push(vec![
                    if passed { "pass" } else { "FAIL" }.to_owned(),
                    rule.id.clone(),
                    test.name.clone(),
                    outcome(test.expected).to_owned(),
                    outcome(matched).to_owned(),
                ]);
            }
            for (test, result) in rule.hunt_tests.iter().zip(hunt::run_hunt_tests(&engine, rule).await?) {
                let HuntTestResult { passed, expected, found } = result;
                failed += usize::from(!passed);
                let outcome = if passed { "pass" } else { "FAIL" }.to_owned();
                rows.push(vec![outcome, rule.id.clone(), test.name.clone(), expected, found]);
            }
            if rule.tests.is_empty() && rule.hunt_tests.is_empty() {
                context.output.warn(&format!("warning: rule `{}` has no tests", rule.id));
            }
        }
        let passed = rows.len() - failed;
        let table = report::rows(&["", "rule", "test", "expected", "got"], rows.into_iter());
        context.output.result(&table, None)?;
        context.output.talk(&format!("{passed} passed, {failed} failed"));
        let status = if failed > 0 { Status::Findings } else { Status::Done };
        // The tests of these rules did not run.
        Ok(if skipped.is_empty() { status } else { Status::Usage })
    }
}
