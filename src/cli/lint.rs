use std::path::PathBuf;

use clap::Args;

use super::{Context, RuleFiles, loading};
use crate::error::{Error, Status};
use crate::report::lint::{self, LintFormat};
use crate::rule::catalog::SkippedRule;
use crate::statistics::number_of;

/// Check rules for errors and likely mistakes
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny rules lint my-rules/\n  tawny rules lint my-rules/ --strict --format json\n  tawny rules lint my-rules/ --format github\n  tawny rules lint my-rules/ --format sarif -o rules.sarif"
)]
pub(super) struct LintCommand {
    /// Rule files or folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: LintFormat,
    /// Write the result to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// YAML files with exceptions of rules and with value lists
    #[arg(long, value_name = "FILE", num_args = 1..)]
    exceptions: Vec<PathBuf>,
    /// YAML file with values for the placeholders of Sigma rules, by name
    #[arg(long, value_name = "FILE")]
    placeholders: Option<PathBuf>,
    /// Exit with code 1 if there are warnings
    #[arg(long)]
    strict: bool,
}

impl LintCommand {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        let files = RuleFiles {
            paths: &self.paths,
            exceptions: &self.exceptions,
            placeholders: self.placeholders.as_deref(),
            ..RuleFiles::default()
        };
        let loaded = files.read()?;
        let errors: Vec<_> = loaded.skipped.iter().flat_map(SkippedRule::errors_with_rule).collect();
        let warnings = loaded.entries.iter().map(|entry| entry.warnings.len()).sum::<usize>();
        let text = lint::text(&loaded, self.format)?;
        context.output.result(&text, self.output.as_deref())?;
        let counts = [(loaded.entries.len(), "rule"), (errors.len(), "error"), (warnings, "warning")];
        let counts = counts.map(|(count, what)| number_of(count, what)).join(", ");
        if self.format == LintFormat::Table && !errors.is_empty() {
            context.output.error(&Error::Rules(errors.clone()));
        }
        context.output.talk(&(counts + &loading::not_used(loaded.others)));
        Ok(match (errors.len(), warnings) {
            (0, 0) => Status::Done,
            (0, _) if self.strict => Status::Findings,
            (0, _) => Status::Done,
            _ => Status::Usage,
        })
    }
}
