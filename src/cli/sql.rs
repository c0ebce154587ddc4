use std::path::PathBuf;

use clap::Args;

use super::{Context, WindowArgs};
use crate::error::{Error, Status};
use crate::rule::catalog;
use crate::sql;
use crate::time::Range;

/// Print the SQL that a hunt for a rule runs
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny sql AWS.Unsuccessful.MFA.attempt\n  tawny sql my_rule.yml --threshold 3 --period 30m"
)]
pub(super) struct Sql {
    /// The id of a rule, or a rule file
    rule: String,
    /// Where to look for the id: rule files or folders [default: the rules that come with tawny]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    window: WindowArgs,
}

impl Sql {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        let file = PathBuf::from(&self.rule);
        let entries = if file.is_file() { catalog::all(&[file])? } else { catalog::all(&self.rules)? };
        let rule = catalog::named(&entries, &self.rule)?.rule.clone();
        for rule in &self.window.apply(vec![rule]) {
            let text = sql::hunt(rule, Range::default(), Range::default())?;
            context.output.result(&(text + "\n"), None)?;
        }
        Ok(Status::Done)
    }
}
