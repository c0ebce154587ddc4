//! A user's own SQL over records. It sees each `eventID` once.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf, not};
use datafusion::physical_plan::{self, ExecutionPlan};
use datafusion::prelude::{SessionContext, ident};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::duplicates::{self, DroppedDuplicates, RepeatedIds};
use super::functions::fingerprints;
use super::{Engine, json_members, with_derived_fields, within};
use crate::event::EVENT_ID;
use crate::sql::distinct::{ROW_ID, TABLE, distinct_records};
use crate::statistics::Duplicates;
use crate::time::Range;

/// A user's query and the records that it sees.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// One SELECT over the table `cloudtrail`.
    pub sql: &'q str,
    /// If the range has a bound, only records with a time in it are seen.
    pub range: Range,
    /// The query for the rows of the table `matches`.
    pub matches: Option<&'q str>,
    /// Whether all records of an `eventID` are seen, not only one.
    pub with_duplicates: bool,
}

/// The records of a query, by the cheapest way to find duplicates among them.
#[derive(Debug, Clone)]
pub enum Records {
    /// A table whose columns can be read one at a time and twice, at little cost.
    Columnar(Arc<dyn TableProvider>),
    /// A table that should be read only once.
    Streamed(Arc<dyn TableProvider>),
}

/// The result of a query.
#[derive(Debug)]
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: Vec<RecordBatch>,
    /// The duplicates that were left out; `None` if all records were seen.
    pub duplicates: Option<Duplicates>,
}

/// Why a query has no result.
#[derive(Debug)]
pub enum QuestionError {
    /// The SQL is wrong: it cannot be planned.
    Wrong(DataFusionError),
    /// The SQL names this table, which does not exist.
    UnknownTable(String),
    /// Running the query failed. The SQL may be right.
    Failed(DataFusionError),
}

/// Runs the query of `question`. All rows of the answer are held in memory.
///
/// # Errors
/// The SQL is wrong or does more than read, or it cannot be run.
pub async fn ask(engine: &Engine, records: Records, question: Question<'_>) -> Result<Answer, QuestionError> {
    let Question { sql, range, matches, with_duplicates } = question;
    let is_streamed = matches!(records, Records::Streamed(_));
    let (Records::Columnar(table) | Records::Streamed(table)) = records;
    let prepared = async {
        let context = json_members::session(&engine.session()?)?;
        let all = within(context.read_table(Arc::clone(&table))?, range)?;
        if let Some(matches) = matches {
            // As in a hunt, duplicates are looked for among a rule's matches only.
            context.register_table("cloudtrail", all.clone().into_view())?;
            context.register_table("matches", context.sql(matches).await?.into_view())?;
            context.deregister_table("cloudtrail")?;
        }
        let mut counted = None;
        let seen = if with_duplicates {
            all
        } else if is_streamed {
            each_once(&context, all).await?
        } else {
            let (duplicates, repeated) = duplicates::repeated_records(engine, table, range).await?;
            counted = Some(duplicates);
            distinct(&context, all, repeated).await?
        };
        context.register_table("cloudtrail", with_derived_fields(&context, seen)?.into_view())?;
        Ok((context, counted))
    };
    let (context, mut duplicates) = prepared.await.map_err(QuestionError::Failed)?;
    if let Some(table) = unknown_table(&context, sql) {
        return Err(QuestionError::UnknownTable(table));
    }
    let (schema, plan) = planned(&context, sql).await.map_err(|error| match error.find_root() {
        DataFusionError::IoError(_)
        | DataFusionError::ObjectStore(_)
        | DataFusionError::ParquetError(_)
        | DataFusionError::ResourcesExhausted(_)
        | DataFusionError::External(_) => QuestionError::Failed(error),
        _ => QuestionError::Wrong(error),
    })?;
    let (plan, dropped) = DroppedDuplicates::count_in(plan, ROW_ID, range).map_err(QuestionError::Failed)?;
    engine.scanned.follow(&plan);
    let rows = physical_plan::collect(plan, context.task_ctx()).await.map_err(QuestionError::Failed)?;
    if let Some(dropped) = dropped.filter(|_| is_streamed && !with_duplicates) {
        duplicates = Some(dropped.duplicates());
    }
    Ok(Answer { schema, rows, duplicates })
}

/// Returns the first table of `sql` that does not exist. `None` for SQL other than a query.
fn unknown_table(context: &SessionContext, sql: &str) -> Option<String> {
    let state = context.state();
    let statement = state.sql_to_statement(sql, &state.config_options().sql_parser.dialect).ok()?;
    if !matches!(&statement, Statement::Statement(statement) if matches!(**statement, ast::Statement::Query(_))) {
        return None;
    }
    let tables = state.resolve_table_references(&statement).ok()?;
    let unknown = |table: &TableReference| !context.table_exist(table.clone()).unwrap_or(true);
    tables.iter().find(|table| unknown(table)).map(ToString::to_string)
}

async fn planned(context: &SessionContext, sql: &str) -> Result<(SchemaRef, Arc<dyn ExecutionPlan>), DataFusionError> {
    let only_reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let rows = context.sql_with_options(sql, only_reading).await?;
    let schema = Arc::new(rows.schema().as_arrow().clone());
    Ok((schema, rows.create_physical_plan().await?))
}

/// Returns one record of each identity. `repeated` lists the identities that more than one record has. Only their records,
/// and records without an `eventID`, are sorted, and all columns are read only of these.
async fn distinct(
    context: &SessionContext,
    records: DataFrame,
    repeated: RepeatedIds,
) -> Result<DataFrame, DataFusionError> {
    let ids = match repeated {
        RepeatedIds::TooMany => return each_once(context, records).await,
        RepeatedIds::Fingerprints(ids) if ids.is_empty() => return Ok(records),
        RepeatedIds::Fingerprints(ids) => Arc::new(ids),
    };
    let call = move |arguments: &[ColumnarValue]| {
        let fingerprints = fingerprints(&ColumnarValue::values_to_arrays(arguments)?)?;
        let are_repeated: BooleanArray = fingerprints.values().iter().map(|id| Some(ids.contains(id))).collect();
        Ok(ColumnarValue::Array(Arc::new(are_repeated)))
    };
    let is_repeated: ScalarUDF =
        create_udf("is_repeated", vec![DataType::Utf8], DataType::Boolean, Volatility::Immutable, Arc::new(call));
    let is_repeated = is_repeated.call(vec![ident(EVENT_ID)]);
    let single = records.clone().filter(ident(EVENT_ID).is_not_null().and(not(is_repeated.clone())))?;
    let others = records.filter(ident(EVENT_ID).is_null().or(is_repeated))?;
    single.union(each_once(context, others).await?)
}

/// Returns one record of each identity, by the query [`distinct_records`].
async fn each_once(context: &SessionContext, records: DataFrame) -> Result<DataFrame, DataFusionError> {
    let sql = distinct_records().map_err(|error| DataFusionError::External(Box::new(error)))?;
    let table = || TableReference::bare(TABLE);
    context.register_table(table(), records.into_view())?;
    let distinct = context.sql(&sql).await;
    context.deregister_table(table())?;
    distinct
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use arrow::array::StringArray;
    use arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::engine::memory_table;
    use crate::event;

    /// Returns records with these identities, each with a name of its own.
    fn records(ids: &[Option<&str>]) -> RecordBatch {
        let text = |name: &str, row: usize| match name {
            EVENT_ID => ids[row].map(str::to_owned),
            "contentID" => ids[row].is_none().then(|| "same".to_owned()),
            "eventName" => Some(format!("Call{row}")),
            _ => None,
        };
        let column = |field: &Arc<arrow::datatypes::Field>| match field.data_type() {
            DataType::Utf8 => Arc::new((0..ids.len()).map(|row| text(field.name(), row)).collect::<StringArray>()) as _,
            other => arrow::array::new_null_array(other, ids.len()),
        };
        RecordBatch::try_new(event::schema(), event::schema().fields().iter().map(column).collect()).unwrap()
    }

    #[tokio::test]
    async fn the_same_records_are_seen_however_many_identities_are_remembered() {
        let engine = Engine::new(2, 64 << 20, &std::env::temp_dir()).unwrap();
        let batch = records(&[Some("a"), Some("b"), Some("a"), None, Some("c"), None, Some("b"), Some("d")]);
        let table = memory_table(event::schema(), vec![batch]).unwrap();
        let (duplicates, repeated) =
            duplicates::repeated_records(&engine, Arc::clone(&table), Range::default()).await.unwrap();
        assert_eq!((duplicates.left_out, duplicates.differing.event_ids), (3, 3));
        let mut seen = HashSet::new();
        for repeated in [repeated, RepeatedIds::TooMany] {
            let context = engine.session().unwrap();
            let records = context.read_table(Arc::clone(&table)).unwrap();
            let distinct = distinct(&context, records, repeated).await.unwrap();
            context.register_table("cloudtrail", distinct.into_view()).unwrap();
            let sql = "SELECT \"eventID\", \"eventName\" FROM cloudtrail ORDER BY 1, 2";
            let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
            assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
            seen.insert(pretty_format_batches(&rows).unwrap().to_string());
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
}
