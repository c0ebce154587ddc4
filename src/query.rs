//! A user's own SQL over data, as the tables `cloudtrail` and, of a rule, `matches`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{SchemaError, TableReference};
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use crate::engine::raw_table::RawScan;
use crate::engine::user_query::{self, Answer, Question, QuestionError, Records};
use crate::engine::{self, Resources};
use crate::error::Error;
use crate::event;
use crate::hunt::{self, Data, RawTrail};
use crate::rule::Rule;
use crate::sql;
use crate::sql_limits;
use crate::time::Range;
use crate::trail::{Prefilter, Trail};

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

/// Runs `query` over `data`.
///
/// # Errors
/// The SQL is wrong, or would change something, or the data cannot be read.
pub async fn run(resources: &Resources, data: &Data, query: Query<'_>) -> Result<Answer, Error> {
    let Query { sql, rule, range, with_duplicates } = query;
    sql_limits::check(sql).map_err(|error| Error::Usage {
        message: format!("the SQL is too complex: {error}"),
        hint: Some(error.advice().to_owned()),
    })?;
    if let (Some(rule), Data::Columnar(columnar)) = (rule, data) {
        columnar.check(resources, std::slice::from_ref(rule), range).await?;
    }
    let matches = rule.map(sql::matching).transpose()?;
    let question = Question { sql, range, matches: matches.as_deref(), with_duplicates };
    let ask = async |records| user_query::ask(resources, records, question).await.map_err(failed);
    let Data::Raw(trail) = data else {
        let ask = async || ask(Records::Columnar(hunt::table(resources, data, range).await?)).await;
        return data.without_damaged_files(ask).await;
    };
    let (trail, found) = (Arc::clone(trail), trail.find(range).await?);
    let table = Arc::new(RawTable { trail, found, threads: resources.threads, last: Mutex::default() });
    let selected = resources.selected(Arc::clone(&table) as _).await;
    let selected = selected.map_err(|error| Error::query("the selected accounts and regions", error))?;
    let answer = ask(Records::Streamed(selected)).await;
    if let Ok(last) = table.last.lock()
        && let Some(scan) = last.as_ref()
    {
        table.trail.keep(scan);
    }
    answer
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

/// A raw trail that each scan reads anew: a query may name the table twice.
#[derive(Debug)]
struct RawTable {
    trail: Arc<RawTrail>,
    found: Trail,
    threads: usize,
    last: Mutex<Option<Arc<RawScan>>>,
}

#[async_trait]
impl TableProvider for RawTable {
    fn schema(&self) -> SchemaRef {
        event::schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let scan = self.trail.scan(self.found.clone(), Prefilter::default());
        if let Ok(mut last) = self.last.lock() {
            *last = Some(Arc::clone(&scan));
        }
        engine::raw_table(&scan, self.threads)?.scan(state, projection, filters, limit).await
    }
}
