use std::path::{Path, PathBuf};

use clap::Args;

use super::{Context, WindowArgs};
use crate::error::{Error, Status};
use crate::rule::catalog::{self, Wanted};
use crate::sql;
use crate::time::Range;

/// Print the SQL that a hunt for a rule runs
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny sql AWS.Unsuccessful.MFA.attempt\n  tawny sql my_rule.yml --threshold 3 --period 30m"
)]
pub(super) struct Sql {
    /// The id of a rule that comes with tawny, or a rule file
    rule: String,
    #[command(flatten)]
    window: WindowArgs,
}

impl Sql {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        let choice = if Path::new(&self.rule).is_file() {
            catalog::choose(Wanted { paths: &[PathBuf::from(&self.rule)], ..Wanted::default() })?
        } else {
            catalog::choose(Wanted { ids: std::slice::from_ref(&self.rule), ..Wanted::default() })?
        };
        for rule in &self.window.apply(choice.rules) {
            let text = sql::hunt(rule, Range::default(), Range::default())?;
            context.output.result(&(text + "\n"), None)?;
        }
        Ok(Status::Done)
    }
}
