use std::path::Path;

use clap::Args;

use super::range::RangeArgs;
use super::{Context, RuleFileArgs, WindowArgs, loading};
use crate::delta::AsOf;
use crate::error::{Error, Status};
use crate::lake::Lake;
use crate::sql;
use crate::sql::dialect::Dialect;
use crate::sql::dialect::export::{self, Target};
use crate::store::{Location, TableFormat};
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
        let rule = loading::load_one(context.output, &self.rule, self.files.files(false))?.rule;
        let range = self.range.range()?;
        if self.dialect.is_none() && range != Range::default() {
            return Err(Error::usage("`--from`, `--to` and `--last` go with `--dialect`"));
        }
        let live_files = self.live_files(context).await?;
        let rule = rule.with_lists_written_out().map_err(|list| Error::Usage {
            message: format!("the value list `{}` has too many values for the text of a query", list.name()),
            hint: Some("hunt with `tawny hunt`, which reads the list".to_owned()),
        })?;
        let rules = self.window.apply(vec![rule]);
        if rules.len() > 1 {
            return Err(Error::Usage {
                message: "a query has windows of one kind".to_owned(),
                hint: Some("name one: `--window dedup`".to_owned()),
            });
        }
        for rule in &rules {
            let text = match self.dialect {
                None => sql::hunt(rule, Range::default(), Range::default())?,
                Some(dialect) => {
                    // A name without slashes is a table, unless there is such a folder.
                    let folder = |data: String| if Path::new(&data).is_dir() { format!("{data}/") } else { data };
                    let (layout, data) = (self.layout.clone(), self.data.clone().map(folder));
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
    ///
    /// # Errors
    /// `--data` lists files of a table, and some may not be live.
    async fn live_files(&self, context: &Context) -> Result<Option<Vec<String>>, Error> {
        let Some(data) = self.data.as_deref().filter(|data| data.contains('/') || Path::new(data).is_dir()) else {
            return Ok(None);
        };
        let is_pattern = data.contains(['*', '?', '[']);
        if !is_pattern && self.layout == "lake" {
            let lake = Lake::open(&context.stores, &Location::of(data), AsOf::Latest).await?;
            if lake.exists().await? {
                let files = lake.transaction_log().files().await?;
                return Ok(Some(files.into_iter().map(|file| file.path).collect()));
            }
        }
        for folder in folders_of(data) {
            let Some(format) = context.stores.table_format(&Location::of(folder)).await? else {
                continue;
            };
            let hint = match format {
                TableFormat::Lake => format!("name the lake's folder: `--data {folder}/`"),
                _ => "name the table as the engine's catalog knows it".to_owned(),
            };
            let message = format!(
                "`--data {data}` lists files of `{folder}`, which is {format}: some of them may be deleted records"
            );
            return Err(Error::Usage { message, hint: Some(hint) });
        }
        Ok(None)
    }
}

/// Returns the folders in `data` before its first wildcard, from the innermost.
fn folders_of(data: &str) -> impl Iterator<Item = &str> {
    let end = data.find(['*', '?', '[']).unwrap_or(data.len());
    let begin = data.find("://").map_or(0, |scheme| scheme + 3);
    let cuts = data[begin..end].match_indices('/').map(move |(place, _)| begin + place);
    let inner = (end == data.len() && !data.ends_with('/')).then_some(end);
    let cuts: Vec<usize> = cuts.chain(inner).filter(|place| *place > 0).collect();
    cuts.into_iter().rev().map(|place| &data[..place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_those_outside_of_the_pattern() {
        let folders = |data| folders_of(data).collect::<Vec<_>>();
        assert_eq!(folders("a/b/*/c.parquet"), ["a/b", "a"]);
        assert_eq!(folders("/a/b"), ["/a/b", "/a"]);
        assert_eq!(folders("./a/date=2026-09-0?/"), ["./a", "."]);
        assert_eq!(folders("s3://bucket/a/**"), ["s3://bucket/a", "s3://bucket"]);
    }
}
