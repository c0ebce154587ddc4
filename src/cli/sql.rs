use std::path::{Path, PathBuf};

use clap::Args;

use super::{Context, WindowArgs};
use crate::error::{Error, Status};
use crate::time::Range;
use crate::{rule, sql};

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
        let mut choice = if Path::new(&self.rule).is_file() {
            rule::catalog::choose(&[PathBuf::from(&self.rule)], &[])?
        } else {
            rule::catalog::choose(&[], std::slice::from_ref(&self.rule))?
        };
        self.window.apply(&mut choice.rules);
        for rule in &choice.rules {
            let text = sql::hunt(rule, Range::default(), Range::default())?;
            context.output.result(&(text + "\n"), None)?;
        }
        Ok(Status::Done)
    }
}
