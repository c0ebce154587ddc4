use std::path::Path;

use clap::Args;

use super::data::DataArgs;
use super::range::EventRangeArgs;
use super::{Context, RuleFileArgs, format, loading};
use crate::error::{Error, Status};
use crate::query::{self, QueryOutcome};
use crate::report::query_rows::{self, RowFormat};
use crate::rule::catalog;

/// Run a SQL query over a lake, a raw trail or another tool's Parquet
///
/// The table `cloudtrail` holds each eventID once, with the column names of CloudTrail. Read a field of a JSON column with
/// `userIdentity.arn`, `userIdentity->>'arn'` or `json_extract_scalar(userIdentity, '$.arn')`. With `--rule`, the table
/// `matches` holds the records that match the rule.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny query 'SELECT \"eventName\", count(*) FROM cloudtrail GROUP BY 1 ORDER BY 2 DESC LIMIT 10' lake/\n  tawny query 'SELECT * FROM matches' lake/ --rule AWS.Unsuccessful.MFA.attempt --format csv\n  tawny query 'SELECT requestParameters.bucketName AS bucket, count(*) FROM cloudtrail GROUP BY 1' s3://logs/AWSLogs --from 2026-09-01 --to 2026-09-02"
)]
pub(super) struct QueryCommand {
    /// One SELECT statement
    sql: String,
    #[command(flatten)]
    data: DataArgs,
    /// Add the table `matches` with the records that match the rule with this id
    #[arg(long, value_name = "ID", help_heading = super::RULES)]
    rule: Option<String>,
    #[command(flatten)]
    files: RuleFileArgs,
    #[command(flatten)]
    range: EventRangeArgs,
    /// Keep duplicates in the table `cloudtrail`
    #[arg(long, help_heading = super::DATA)]
    with_duplicates: bool,
    /// Output format of the rows [default: by the ending of `--output`, else table]
    #[arg(long, value_enum, help_heading = super::OUTPUT)]
    format: Option<RowFormat>,
    /// Write the rows to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = super::OUTPUT)]
    output: Option<String>,
}

impl QueryCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let format = format::chosen(self.format, self.output.as_deref())?;
        Context::check_outputs([&self.output, &None])?;
        if Path::new(&self.sql).exists() {
            return Err(Error::Usage {
                message: format!("`{}` is not a SELECT statement", self.sql),
                hint: Some("the statement comes before the data: `tawny query \"SELECT …\" DATA`".to_owned()),
            });
        }
        if format == RowFormat::Parquet && self.output.is_none() {
            return Err(Error::usage("`--format parquet` requires `--output FILE`"));
        }
        let rule = match &self.rule {
            None => None,
            Some(id) => {
                let entries = loading::load(context.output, self.files.files(false))?.entries;
                Some(catalog::named(&entries, id)?.rule.clone())
            }
        };
        let range = self.range.range()?;
        let opened = self.data.open(context, None, "reading").await?;
        let query = query::Query { sql: &self.sql, rule: rule.as_ref(), range, with_duplicates: self.with_duplicates };
        let QueryOutcome { answer, read } = query::run(&opened.engine, opened.table.as_ref(), query).await?;
        opened.bar.finish_and_clear();
        context.write(query_rows::encode(&answer.schema, &answer.rows, format)?, self.output.as_deref()).await?;
        if let Some(duplicates) = &answer.duplicates {
            context.output.duplicates(duplicates, "records");
        }
        opened.summary(range, "queried").report(context.output, &read).await
    }
}
