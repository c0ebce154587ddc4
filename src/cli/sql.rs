use std::path::PathBuf;

use clap::Args;

use super::range::RangeArgs;
use super::{Context, RuleFileArgs, RuleFiles, WindowArgs, loading};
use crate::delta::AsOf;
use crate::error::{Error, Status};
use crate::lake::Lake;
use crate::rule::catalog;
use crate::sql;
use crate::sql::dialect::Dialect;
use crate::sql::dialect::export::{self, Target};
use crate::store::Location;
use crate::time::Range;

const EXAMPLES: &str = "Examples:
  tawny sql AWS.Unsuccessful.MFA.attempt
  tawny sql my_rule.yml --threshold 3 --period 30m
  tawny query \"$(tawny sql AWS.Unsuccessful.MFA.attempt)\" lake/ --format csv
  tawny sql AWS.Unsuccessful.MFA.attempt --dialect duckdb --data s3://logs/lake | duckdb
  tawny sql my_rule.yml --dialect athena --layout athena --data security.cloudtrail_logs --from 2026-09-01 --to 2026-10-01

How to run it on each engine, and the limits of each: docs/dialects.md.";

/// Print a rule as one SQL query, for `tawny query` or another engine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sql {
    /// The id of a rule, or a rule file
    rule: String,
    #[command(flatten)]
    files: RuleFileArgs,
    #[command(flatten)]
    window: WindowArgs,
    /// The engine for which to print the query [default: tawny's own, DataFusion]
    #[arg(long, value_enum)]
    dialect: Option<Dialect>,
    /// The layout of the data of `--dialect`: `lake`, as tawny converts, or `athena`
    #[arg(long, value_name = "LAYOUT", default_value = "lake", requires = "dialect")]
    layout: String,
    /// A table, or for duckdb, spark and clickhouse also the place of files; of a lake, the files that are live now
    /// [default: the table cloudtrail]
    #[arg(long, value_name = "TABLE|URL", requires = "dialect")]
    data: Option<String>,
    #[command(flatten)]
    range: RangeArgs,
}

impl Sql {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let named = [PathBuf::from(&self.rule)];
        let files = self.files.files(false);
        let files = if named[0].is_file() { RuleFiles { paths: &named, ..files } } else { files };
        let entries = loading::load(context.output, files)?.entries;
        let range = self.range.range()?;
        if self.dialect.is_none() && range != Range::default() {
            return Err(Error::usage("`--from`, `--to` and `--last` go with `--dialect`"));
        }
        let rule = catalog::named(&entries, &self.rule)?.rule.clone();
        let live_files = self.live_files(context).await?;
        for rule in &self.window.apply(vec![rule]) {
            let text = match self.dialect {
                None => sql::hunt(rule, Range::default(), Range::default())?,
                Some(dialect) => {
                    let (layout, data) = (self.layout.clone(), self.data.clone());
                    let target = Target { dialect, layout, data, live_files: live_files.clone() };
                    export::findings(rule, &target, range)? + ";"
                }
            };
            context.output.result(&(text + "\n"), None)?;
        }
        Ok(Status::Done)
    }

    /// Returns the paths of the live files if `--data` is a lake. Another engine would also read files that were merged or
    /// dropped.
    async fn live_files(&self, context: &Context) -> Result<Option<Vec<String>>, Error> {
        let Some(folder) = self.data.as_deref().filter(|data| data.contains('/') && !data.contains('*')) else {
            return Ok(None);
        };
        if self.layout != "lake" {
            return Ok(None);
        }
        let lake = Lake::open(&context.stores, &Location::of(folder), AsOf::Latest).await?;
        if !lake.exists().await? {
            return Ok(None);
        }
        let files = lake.transaction_log().files().await?;
        Ok(Some(files.into_iter().map(|file| file.path).collect()))
    }
}
