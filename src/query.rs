//! Runs a user's SQL over the tables `cloudtrail` and `matches`, the matches of a rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{SchemaError, TableReference};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use crate::engine::Engine;
use crate::engine::user_query::{self, Answer, Question, QuestionError, Records};
use crate::error::Error;
use crate::rule::Rule;
use crate::sql;
use crate::sql_limits;
use crate::statistics::ScanStatistics;
use crate::table::{Table, TableKind, without_damaged_files};
use crate::time::Range;
use crate::trail::Prefilter;

/// A user's query.
#[derive(Debug, Clone, Copy)]
pub struct Query<'q> {
    /// One SELECT statement.
    pub sql: &'q str,
    /// The rule of the table `matches`.
    pub rule: Option<&'q Rule>,
    /// The time range of the records, if it is bounded.
    pub range: Range,
    /// Whether the table `cloudtrail` keeps duplicates.
    pub with_duplicates: bool,
}

/// The result of a query and its scan statistics.
#[derive(Debug)]
pub struct QueryOutcome {
    /// The answer.
    pub answer: Answer,
    /// The scan statistics.
    pub read: ScanStatistics,
}

/// Runs `query` over `table`.
///
/// # Errors
/// The SQL is invalid or is not a SELECT statement, or the table cannot be read.
pub async fn run(engine: &Engine, table: &dyn Table, query: Query<'_>) -> Result<QueryOutcome, Error> {
    let Query { sql, rule, range, with_duplicates } = query;
    sql_limits::check(sql).map_err(|error| Error::Usage {
        message: format!("the SQL is too complex: {error}"),
        hint: Some(error.advice().to_owned()),
    })?;
    table.check(engine, rule.map_or(&[], std::slice::from_ref), range).await?;
    let matches = rule.map(sql::matching).transpose()?;
    let question = Question { sql, range, matches: matches.as_deref(), with_duplicates };
    without_damaged_files(table, async || {
        let snapshot = table.snapshot(range).await?;
        let source = snapshot.records(engine, Prefilter::default()).await?;
        let provider = Arc::clone(&source.provider);
        let records = match table.kind() {
            TableKind::Raw => Records::Streamed(provider),
            TableKind::Lake | TableKind::Foreign | TableKind::Memory => Records::Columnar(provider),
        };
        let answer = user_query::ask(engine, records, question).await.map_err(failed)?;
        Ok(QueryOutcome { answer, read: snapshot.statistics(&source) })
    })
    .await
}

fn failed(error: QuestionError) -> Error {
    match error {
        QuestionError::Failed(error) => Error::query("the data", error),
        QuestionError::UnknownTable(table) => Error::Usage {
            message: format!("there is no table `{table}`"),
            hint: Some("the tables are cloudtrail and, with `--rule`, matches".to_owned()),
        },
        QuestionError::Wrong(error) => Error::Usage { message: reason(&error), hint: Some(hint(&error)) },
    }
}

/// Returns why SQL cannot be run, on one line and without the engine's names of kinds of errors.
fn reason(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::SchemaError(error, _) => match error.as_ref() {
            SchemaError::FieldNotFound { field, .. } => {
                let relation = field.relation.as_ref().map(|table| format!("{}.", table.table())).unwrap_or_default();
                return format!("there is no column `{relation}{}`", field.name);
            }
            other => other.to_string(),
        },
        DataFusionError::SQL(error, _) => {
            let (ParserError::TokenizerError(text) | ParserError::ParserError(text)) = error.as_ref() else {
                return "invalid SQL: it is nested too deeply".to_owned();
            };
            return format!("invalid SQL: {}", text.replace('\n', " "));
        }
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) | DataFusionError::Execution(text) => {
            text.clone()
        }
        other => other.strip_backtrace(),
    };
    format!("the SQL cannot be run: {}", text.lines().next().unwrap_or_default())
}

/// The most column names in a hint.
const MAX_SUGGESTIONS: usize = 3;

fn hint(error: &DataFusionError) -> String {
    if let DataFusionError::SchemaError(error, _) = error.find_root()
        && let SchemaError::FieldNotFound { field, valid_fields } = error.as_ref()
    {
        // DataFusion takes the column in `useridentity.arn` for a table.
        let wanted = field.relation.as_ref().map_or(field.name.as_str(), TableReference::table);
        let similar = similar([wanted, &field.name], valid_fields.iter().map(|column| column.name.as_str()));
        if !similar.is_empty() {
            return format!("did you mean {}? Column names are case-sensitive", similar.join(", "));
        }
    }
    // The engine's parser reads `userIdentity->'arn'` in a select list as a lambda.
    if matches!(error.find_root(), DataFusionError::NotImplemented(text) if text.starts_with("Unsupported ast node in sqltorel: Lambda"))
    {
        return "instead of `userIdentity->'arn'` write `userIdentity.arn`, `userIdentity->>'arn'` or `cloudtrail.userIdentity->'arn'`"
            .to_owned();
    }
    "columns have CloudTrail's names and case, such as eventName; fields of JSON columns are userIdentity.arn or \
     text_at(userIdentity, 'arn'); only SELECT is supported"
        .to_owned()
}

/// Returns the `names` that are similar to one of `wanted`, the most similar first, in backquotes.
fn similar<'n>(wanted: [&str; 2], names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let distance = |name: &'n str| {
        let lowercase_name = name.to_lowercase();
        let distance_to = |wanted: &str| {
            let wanted = wanted.to_lowercase();
            let distance = levenshtein(&wanted, &lowercase_name);
            let is_part = wanted.len() > 3 && lowercase_name.contains(&wanted);
            (is_part || distance <= wanted.len() / 3).then_some(distance)
        };
        wanted.into_iter().filter_map(distance_to).min().map(|distance| (distance, name))
    };
    let similar: BTreeSet<(usize, &str)> = names.filter_map(distance).collect();
    similar.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| format!("`{name}`")).collect()
}
