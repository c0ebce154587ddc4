//! One scan for many rules: each batch is held against every rule, and what none matches is dropped.
//!
//! Several predicates are not part of the scan's query, because planning grows faster than the number of conditions.
//! One function tests them all.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, internal_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::{Expr, SessionContext, lit};
use futures::{Stream, TryStreamExt as _, future, stream};
use tokio::sync::mpsc;

use super::equalities::Equalities;
use super::match_buffer::{MatchBuffer, MatchBufferPart, MatchBufferWriter};
use super::{Resources, expressions, match_functions};
use crate::event;
use crate::sql::candidates::Candidates;
use crate::sql::expression::Expression;

/// Rows, and bytes, that are put together to one batch of matches.
const MATCHED_ROWS: usize = 8_192;
const MATCHED_BYTES: usize = 4 << 20;

/// Where fewer rows than one in so many are left of a batch, a test is made of them alone.
const FEW: usize = 8;

/// The records of `table` that any of the rules of `candidates` matches: the columns
/// [`Candidates::OWN`], one for each of its expressions, as text, and one flag for each rule.
///
/// # Errors
/// The query failed, or what is matched takes more than `limit` bytes.
pub async fn matches(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    candidates: &Candidates,
    limit: Option<usize>,
) -> Result<Vec<RecordBatch>> {
    let limit = limit.unwrap_or(usize::MAX);
    let writer = |runtime: Arc<RuntimeEnv>, _| MatchBufferWriter::in_memory(limit, &runtime);
    let (buffer, _) = collected(resources, table, candidates, writer).await?;
    Ok(buffer.into_batches())
}

/// Returns the rows of [`matches()`] in a buffer that spills to disk beyond [`Resources::match_memory`] bytes, and for each
/// rule how many records it matches.
pub async fn buffered(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    candidates: &Candidates,
) -> Result<(MatchBuffer, Vec<usize>)> {
    let writer = |runtime, schema| MatchBufferWriter::spilling(resources.match_memory, runtime, schema);
    collected(resources, table, candidates, writer).await
}

/// Calls `take` with the records of `table` that any of the rules of `candidates` matches, batch by batch, with columns
/// as of [`matches()`]. None of them is buffered.
///
/// # Errors
/// The query failed.
pub async fn each(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    candidates: &Candidates,
    mut take: impl FnMut(&RecordBatch),
) -> Result<()> {
    let Scan { streams, schema, .. } = Scan::new(resources, table, candidates).await?;
    let (sender, mut receiver) = mpsc::channel(resources.threads.max(1));
    let mut scans = tokio::task::JoinSet::new();
    for stream in streams {
        let (schema, sender) = (Arc::clone(&schema), sender.clone());
        scans.spawn(async move {
            let mut batches = std::pin::pin!(together(stream, schema));
            while let Some(batch) = batches.try_next().await.transpose() {
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(sender);
    while let Some(batch) = receiver.recv().await {
        take(&batch?);
    }
    while let Some(done) = scans.join_next().await {
        done.map_err(|error| DataFusionError::External(Box::new(error)))?;
    }
    Ok(())
}

/// The plan of the scan for `candidates`, as text.
pub async fn plan(resources: &Resources, table: Arc<dyn TableProvider>, candidates: &Candidates) -> Result<String> {
    let (plan, ..) = Scan::plan(resources, table, candidates).await?;
    Ok(displayable(plan.as_ref()).indent(false).to_string())
}

/// A scan for what some rules match.
struct Scan {
    streams: Vec<SendableRecordBatchStream>,
    /// The columns of what is matched.
    schema: SchemaRef,
    rules: usize,
}

impl Scan {
    async fn plan(
        resources: &Resources,
        table: Arc<dyn TableProvider>,
        candidates: &Candidates,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>, SchemaRef)> {
        let context = resources.session_of_tables()?;
        let records = context.read_table(table)?;
        let conditions = candidates.conditions.iter();
        let conditions = conditions.map(|condition| expressions::logical(&context, condition, records.schema()));
        let conditions = conditions.chain(test(&context, candidates, records.schema()).transpose());
        let condition = conjunction(conditions.collect::<Result<Vec<_>>>()?).unwrap_or_else(|| lit(true));
        let (row, schema) = match_functions::match_row(candidates)?;
        let rows = records.filter(condition)?.select(vec![row.alias("match")])?;
        let plan = rows.create_physical_plan().await?;
        Ok((plan, context.task_ctx(), schema))
    }

    async fn new(resources: &Resources, table: Arc<dyn TableProvider>, candidates: &Candidates) -> Result<Scan> {
        #[cfg(feature = "cluster")]
        if let Some(streams) = resources.raw_on_cluster(table.as_ref(), candidates).await? {
            let (schema, rules) = (match_schema(candidates), candidates.detections.len());
            return Ok(Scan { streams, schema, rules });
        }
        let (plan, context, schema) = Scan::plan(resources, table, candidates).await?;
        resources.scanned.follow(&plan);
        let streams = resources.streams(plan, context).await?;
        Ok(Scan { streams, schema, rules: candidates.detections.len() })
    }
}

/// Buffers what one stream of a scan gives. Returns also for how many rows each of `rules` rules matches.
async fn drain(
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
    rules: usize,
    writer: &MatchBufferWriter,
) -> Result<(MatchBufferPart, Vec<usize>)> {
    let mut counts = vec![0; rules];
    let first_flag = schema.fields().len() - rules;
    let batches = together(stream, schema).inspect_ok(|batch| {
        let flags = batch.columns().iter().skip(first_flag);
        counts.iter_mut().zip(flags).for_each(|(count, flags)| *count += flags.as_boolean().true_count());
    });
    let part = writer.write(batches).await?;
    Ok((part, counts))
}

/// The rows of a scan that any rule matches, in batches of [`MATCHED_ROWS`] or [`MATCHED_BYTES`], or a few more.
fn together(stream: SendableRecordBatchStream, schema: SchemaRef) -> impl Stream<Item = Result<RecordBatch>> {
    let matched = stream.try_filter_map(|batch| future::ready(matched(&batch)));
    stream::try_unfold(Box::pin(matched), move |mut matched| {
        let schema = Arc::clone(&schema);
        async move {
            let (mut small, mut rows, mut bytes) = (Vec::new(), 0, 0);
            while rows < MATCHED_ROWS
                && bytes < MATCHED_BYTES
                && let Some(batch) = matched.try_next().await?
            {
                rows += batch.num_rows();
                bytes += batch.get_array_memory_size();
                small.push(batch);
            }
            if small.is_empty() { Ok(None) } else { Ok(Some((compute::concat_batches(&schema, &small)?, matched))) }
        }
    })
}

/// The rows of a batch of a scan that any rule matches, as columns; `None` where there are none.
fn matched(batch: &RecordBatch) -> Result<Option<RecordBatch>> {
    let Some(rows) = batch.column(0).as_struct_opt() else {
        return internal_err!("a scan without its struct");
    };
    any_match(&RecordBatch::from(rows))
}

/// The rows of a batch of [`match_schema`] that any rule matches; `None` where there are none.
pub(super) fn any_match(rows: &RecordBatch) -> Result<Option<RecordBatch>> {
    let flags = rows.columns().iter().filter_map(|column| column.as_boolean_opt().cloned());
    let any = any(&flags.collect::<Vec<_>>(), rows.num_rows())?;
    match any.true_count() {
        0 => Ok(None),
        count if count == rows.num_rows() => Ok(Some(rows.clone())),
        _ => Ok(Some(compute::filter_record_batch(rows, &any)?)),
    }
}

async fn collected(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    candidates: &Candidates,
    writer: impl FnOnce(Arc<RuntimeEnv>, SchemaRef) -> MatchBufferWriter,
) -> Result<(MatchBuffer, Vec<usize>)> {
    let Scan { streams, schema, rules } = Scan::new(resources, table, candidates).await?;
    let writer = Arc::new(writer(Arc::clone(&resources.runtime), Arc::clone(&schema)));
    let mut scans = tokio::task::JoinSet::new();
    for stream in streams {
        let (schema, writer) = (Arc::clone(&schema), Arc::clone(&writer));
        scans.spawn(async move { drain(stream, schema, rules, &writer).await });
    }
    let (mut parts, mut counts) = (Vec::new(), vec![0; rules]);
    while let Some(done) = scans.join_next().await {
        let (part, of_part) = done.map_err(|error| DataFusionError::External(Box::new(error)))??;
        parts.push(part);
        counts.iter_mut().zip(of_part).for_each(|(count, of_part)| *count += of_part);
    }
    let writer = Arc::into_inner(writer).ok_or_else(|| internal_datafusion_err!("a scan is still running"))?;
    Ok((writer.finish(parts), counts))
}

/// Which rows of a batch of [`matches()`], of candidates with so many expressions, the rule of this number matches.
pub fn flags(expressions: usize, batch: &RecordBatch, rule: usize) -> &BooleanArray {
    batch.column(Candidates::OWN.len() + expressions + rule).as_boolean()
}

/// Returns the condition that any rule matches a record; `None` where it needs no column.
fn test(context: &SessionContext, candidates: &Candidates, records: &DFSchema) -> Result<Option<Expr>> {
    match candidates.predicates.as_slice() {
        // The engine knows what this reads, and so leaves row groups and pages unread by their statistics.
        [predicate] => expressions::logical(context, predicate, records).map(Some),
        _ => match_functions::any_rule(candidates),
    }
}

/// The columns that any of some expressions reads, in the order of the schema.
pub(super) fn columns<'e>(expressions: impl Iterator<Item = &'e Expression>) -> Vec<String> {
    let mut read = BTreeSet::new();
    for expression in expressions {
        expression.columns(&mut read);
    }
    event::schema().fields().iter().map(|field| field.name().clone()).filter(|name| read.contains(&**name)).collect()
}

/// The columns that the rules of `candidates` test and need, in the order of the schema.
pub(super) fn read_columns(candidates: &Candidates) -> Vec<String> {
    columns(Candidates::own().iter().chain(&candidates.expressions).chain(&candidates.predicates))
}

/// The schema of what is matched: the columns [`Candidates::OWN`], one for each expression of `candidates`, and a flag for
/// each of its rules.
pub(super) fn match_schema(candidates: &Candidates) -> SchemaRef {
    let time = event::schema().field(0).data_type().clone();
    let own = Candidates::OWN
        .iter()
        .enumerate()
        .map(|(index, name)| Field::new(*name, if index == 0 { time.clone() } else { DataType::Utf8 }, true));
    let values = 0..candidates.expressions.len();
    let values = values.map(|number| Field::new(format!("value.{number}"), DataType::Utf8, true));
    let flags = 0..candidates.detections.len();
    let flags = flags.map(|number| Field::new(format!("matches.{number}"), DataType::Boolean, false));
    Arc::new(Schema::new(own.chain(values).chain(flags).collect::<Vec<_>>()))
}

pub(super) fn schema(columns: &[String]) -> Result<SchemaRef> {
    let fields = columns.iter().map(|name| event::schema().field_with_name(name).cloned());
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?)))
}

/// The predicates over the columns that are read.
pub(super) struct Tests {
    /// The distinct conjuncts of all predicates.
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// Those of the conjuncts that are tested together.
    equalities: Equalities,
    /// For each predicate the indexes of its conjuncts, those that call no function first.
    predicates: Vec<Vec<usize>>,
}

impl Tests {
    pub(super) fn new(
        functions: &dyn FunctionRegistry,
        predicates: &[Expression],
        schema: &SchemaRef,
    ) -> Result<Tests> {
        let mut indexes = HashMap::new();
        let mut tests = Vec::new();
        let mut conjuncts_of = Vec::new();
        for predicate in predicates {
            let mut conjuncts = predicate.clone().into_conjuncts();
            conjuncts.sort_by_key(Expression::calls_function);
            let index = |conjunct: Expression| {
                *indexes.entry(conjunct).or_insert_with_key(|conjunct| {
                    tests.push(conjunct.clone());
                    tests.len() - 1
                })
            };
            conjuncts_of.push(conjuncts.into_iter().map(index).collect());
        }
        Ok(Tests {
            expressions: expressions::physical(functions, &tests, schema)?,
            equalities: Equalities::new(&tests, schema),
            predicates: conjuncts_of,
        })
    }

    /// Where any rule matches.
    pub(super) fn any_rule(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        any(&self.flags(batch)?, batch.num_rows())
    }

    /// For each predicate, the rows of a batch for which it holds.
    fn flags(&self, batch: &RecordBatch) -> Result<Vec<BooleanArray>> {
        let mut held = vec![None; self.expressions.len()];
        self.equalities.hold(batch, &mut held);
        self.predicates.iter().map(|conjuncts| self.holds(conjuncts, batch, &mut held)).collect()
    }

    /// For which rows of a batch all of some tests hold. `held` keeps what tests say of the whole batch.
    fn holds(
        &self,
        conjuncts: &[usize],
        batch: &RecordBatch,
        held: &mut [Option<BooleanArray>],
    ) -> Result<BooleanArray> {
        let rows = batch.num_rows();
        let mut all = BooleanArray::new(BooleanBuffer::new_set(rows), None);
        for number in conjuncts {
            let left = all.true_count();
            if left == 0 {
                break;
            }
            let truth = match &held[*number] {
                Some(truth) => truth.clone(),
                None if left * FEW < rows => truths(self.expressions[*number].evaluate_selection(batch, &all)?, rows)?,
                None => held[*number].insert(truths(self.expressions[*number].evaluate(batch)?, rows)?).clone(),
            };
            all = compute::and(&all, &truth)?;
        }
        Ok(all)
    }
}

/// Where a test holds; null is not true.
fn truths(value: ColumnarValue, rows: usize) -> Result<BooleanArray> {
    let truths = value.into_array(rows)?;
    let truths = truths.as_boolean();
    Ok(if truths.null_count() > 0 { compute::prep_null_mask_filter(truths) } else { truths.clone() })
}

/// Where any of some flags is set.
fn any(flags: &[BooleanArray], rows: usize) -> Result<BooleanArray> {
    let mut any = BooleanArray::new(BooleanBuffer::new_unset(rows), None);
    for flags in flags.iter().filter(|flags| flags.true_count() > 0) {
        any = compute::or(&any, flags)?;
    }
    Ok(any)
}

/// What is tested and computed of the columns that are read.
pub(super) struct Matcher {
    own: Vec<Arc<dyn PhysicalExpr>>,
    values: Vec<Arc<dyn PhysicalExpr>>,
    tests: Tests,
    detections: Vec<usize>,
    /// The columns of what is matched: see [`match_schema`].
    pub(super) schema: SchemaRef,
}

impl Matcher {
    pub(super) fn new(functions: &dyn FunctionRegistry, candidates: &Candidates, read: &SchemaRef) -> Result<Matcher> {
        Ok(Matcher {
            own: expressions::physical(functions, &Candidates::own(), read)?,
            values: expressions::physical(functions, &candidates.expressions, read)?,
            tests: Tests::new(functions, &candidates.predicates, read)?,
            detections: candidates.detections.clone(),
            schema: match_schema(candidates),
        })
    }

    /// Returns for each row of `batch` what findings need of it, and for each rule whether it matches.
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let flags = self.tests.flags(batch)?;
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (expression, field) in self.own.iter().chain(&self.values).zip(self.schema.fields()) {
            let value = expression.evaluate(batch)?.into_array(batch.num_rows())?;
            columns.push(compute::cast(&value, field.data_type())?);
        }
        columns.extend(self.detections.iter().map(|predicate| Arc::new(flags[*predicate].clone()) as ArrayRef));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
