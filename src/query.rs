//! A user's own SQL over data, as the tables `cloudtrail` and, of a rule, `matches`.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{SchemaError, TableReference};
use datafusion::error::DataFusionError;

use crate::engine::Resources;
use crate::engine::user_query::{self, Answer, Question, QuestionError, Records};
use crate::error::Error;
use crate::rule::Rule;
use crate::sql;
use crate::sql_limits;
use crate::statistics::ScanStatistics;
use crate::table::{Table, TableKind, without_damaged_files};
use crate::time::Range;
use crate::trail::Prefilter;

/// What a user asks of data.
#[derive(Debug, Clone, Copy)]
pub struct Query<'q> {
    /// One SELECT.
    pub sql: &'q str,
    /// The rule whose matches are the table `matches`.
    pub rule: Option<&'q Rule>,
    /// Only records with a time in this range are seen, where it is bounded.
    pub range: Range,
    /// Whether the table `cloudtrail` has all records of an `eventID`.
    pub with_duplicates: bool,
}

/// The answer to a query, and what was read for it.
#[derive(Debug)]
pub struct QueryOutcome {
    /// The answer.
    pub answer: Answer,
    /// What was read.
    pub read: ScanStatistics,
}

/// Runs `query` over `table`.
///
/// # Errors
/// The SQL is wrong, or would change something, or the table cannot be read.
pub async fn run(resources: &Resources, table: &dyn Table, query: Query<'_>) -> Result<QueryOutcome, Error> {
    let Query { sql, rule, range, with_duplicates } = query;
    sql_limits::check(sql).map_err(|error| Error::Usage {
        message: format!("the SQL is too complex: {error}"),
        hint: Some(error.advice().to_owned()),
    })?;
    table.check(resources, rule.map_or(&[], std::slice::from_ref), range).await?;
    let matches = rule.map(sql::matching).transpose()?;
    let question = Question { sql, range, matches: matches.as_deref(), with_duplicates };
    without_damaged_files(table, async || {
        let snapshot = table.snapshot(range).await?;
        let records = snapshot.records(resources, Prefilter::default()).await?;
        let provider = Arc::clone(&records.provider);
        let asked = match table.kind() {
            TableKind::Raw => Records::Streamed(provider),
            TableKind::Lake | TableKind::Foreign | TableKind::Memory => Records::Columnar(provider),
        };
        let answer = user_query::ask(resources, asked, question).await.map_err(failed)?;
        Ok(QueryOutcome { answer, read: snapshot.statistics(&records) })
    })
    .await
}

fn failed(error: QuestionError) -> Error {
    match error {
        QuestionError::Failed(error) => Error::query("the data", error),
        QuestionError::Wrong(error) => Error::Usage {
            message: format!("the SQL cannot be run: {}", error.strip_backtrace().replace('\n', " ")),
            hint: Some(hint(&error)),
        },
    }
}

/// How many column names a hint suggests.
const SUGGESTED: usize = 3;

fn hint(error: &DataFusionError) -> String {
    if let DataFusionError::SchemaError(error, _) = error.find_root()
        && let SchemaError::FieldNotFound { field, valid_fields } = error.as_ref()
    {
        // In `useridentity.arn` the column is taken for a table.
        let wanted = field.relation.as_ref().map_or(field.name.as_str(), TableReference::table);
        let near = near([wanted, &field.name], valid_fields.iter().map(|column| column.name.as_str()));
        if !near.is_empty() {
            return format!("did you mean {}? Names of columns have CloudTrail's case", near.join(", "));
        }
    }
    "columns have CloudTrail's names and case, such as eventName; what lies in JSON columns is userIdentity.arn or \
     text_at(userIdentity, 'arn'); only SELECT is run"
        .to_owned()
}

/// Those of `names` that are near one of `wanted`, nearest first, in backquotes.
fn near<'n>(wanted: [&str; 2], names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let distance = |name: &'n str| {
        let name_in_lower_case = name.to_lowercase();
        let to = |wanted: &str| {
            let wanted = wanted.to_lowercase();
            let distance = levenshtein(&wanted, &name_in_lower_case);
            let is_part = wanted.len() > 3 && name_in_lower_case.contains(&wanted);
            (is_part || distance <= wanted.len() / 3).then_some(distance)
        };
        wanted.into_iter().filter_map(to).min().map(|distance| (distance, name))
    };
    let near: BTreeSet<(usize, &str)> = names.filter_map(distance).collect();
    near.into_iter().take(SUGGESTED).map(|(_, name)| format!("`{name}`")).collect()
}
