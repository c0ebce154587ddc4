use std::path::PathBuf;

use clap::Args;

use super::Context;
use super::data::DataArgs;
use super::outcome::ReadSummary;
use crate::error::{Error, Status};
use crate::query::{self, QueryOutcome};
use crate::report::table::{self as rows, RowFormat};
use crate::rule::catalog;
use crate::time::{self, Range};

/// Run your own SQL over a lake, Parquet of another tool or a raw trail
///
/// The records are the table `cloudtrail`, each eventID once, with CloudTrail's names and case. What lies in a JSON column
/// is `userIdentity.arn`, `userIdentity->>'arn'` or `json_extract_scalar(userIdentity, '$.arn')`. With `--rule`, the
/// records that the rule matches are the table `matches`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny query 'SELECT \"eventName\", count(*) FROM cloudtrail GROUP BY 1 ORDER BY 2 DESC LIMIT 10' lake/\n  tawny query 'SELECT * FROM matches' lake/ --rule AWS.Unsuccessful.MFA.attempt --format csv\n  tawny query 'SELECT requestParameters.bucketName AS bucket, count(*) FROM cloudtrail GROUP BY 1' s3://logs/AWSLogs --from 2026-09-01 --to 2026-09-02"
)]
pub(super) struct Query {
    /// One SELECT
    sql: String,
    #[command(flatten)]
    data: DataArgs,
    /// The id of the rule whose matches are the table `matches`
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Where to look for the rule: rule files or folders [default: the rules that come with tawny]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules: Vec<PathBuf>,
    /// Records of this time or later
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    from: Option<i64>,
    /// Records before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    to: Option<i64>,
    /// Let the table `cloudtrail` have every record: otherwise each eventID is in it once
    #[arg(long)]
    with_duplicates: bool,
    /// How rows are written
    #[arg(long, value_enum, default_value_t)]
    format: RowFormat,
    /// Write the rows to this file, or `s3://BUCKET/KEY`, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
}

impl Query {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        if self.format == RowFormat::Parquet && self.output.is_none() {
            return Err(Error::usage("`--format parquet` needs a file: give `--output`"));
        }
        let rule = match &self.rule {
            None => None,
            Some(id) => Some(catalog::named(&catalog::all(&self.rules)?, id)?.rule.clone()),
        };
        let range = Range { from: self.from, to: self.to };
        let (resources, _spill) = context.resources()?;
        let resources = resources.with_selection(self.data.events());
        let bar = context.output.progress(0, "reading");
        let table = self.data.open(context, &resources, bar.clone()).await?;
        let table = table.as_ref();
        let asked = query::Query { sql: &self.sql, rule: rule.as_ref(), range, with_duplicates: self.with_duplicates };
        let QueryOutcome { answer, read } = query::run(&resources, table, asked).await?;
        bar.finish_and_clear();
        context.write(rows::written(&answer.schema, &answer.rows, self.format)?, self.output.as_deref()).await?;
        if let Some(duplicates) = &answer.duplicates {
            context.output.duplicates(duplicates, "records");
        }
        let has_results = false;
        let summary = ReadSummary { resources: &resources, table, range, used: "queried", has_results };
        Ok(if summary.report(context, &read).await? { Status::Done } else { Status::Incomplete })
    }
}
