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
use datafusion::common::{DFSchema, internal_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream_partitioned};
use datafusion::prelude::{Expr, SessionContext, ident, lit};
use futures::{Stream, TryStreamExt as _, future, stream};
use tokio::sync::mpsc;

use super::Resources;
use super::equalities::Equalities;
use super::expressions;
use super::kept::{Keeper, Kept, KeptPart};
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
    let (kept, _) = gathered(resources, table, candidates, |runtime, _| Keeper::in_memory(limit, &runtime)).await?;
    Ok(kept.into_batches())
}

/// As [`matches()`], of which [`Resources::matched`] bytes are kept in memory, and what is more in files; and for each rule
/// how many records it matches.
pub async fn kept(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    candidates: &Candidates,
) -> Result<(Kept, Vec<usize>)> {
    let keeper = |runtime, schema| Keeper::spilling(resources.match_memory, runtime, schema);
    gathered(resources, table, candidates, keeper).await
}

/// Calls `take` with the records of `table` that any of the rules of `candidates` matches, batch by batch, with columns
/// as of [`matches()`]. None of them is kept.
///
/// # Errors
/// The query failed.
pub async fn each(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    candidates: &Candidates,
    mut take: impl FnMut(&RecordBatch),
) -> Result<()> {
    let Scan { context, matcher, plan } = Scan::new(resources, table, candidates).await?;
    let (sender, mut receiver) = mpsc::channel(resources.threads.max(1));
    let mut scans = tokio::task::JoinSet::new();
    for stream in execute_stream_partitioned(plan, context.task_ctx())? {
        let (matcher, sender) = (Arc::clone(&matcher), sender.clone());
        scans.spawn(async move {
            let mut batches = std::pin::pin!(matcher.together(stream));
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
    let scan = Scan::new(resources, table, candidates).await?;
    Ok(displayable(scan.plan.as_ref()).indent(false).to_string())
}

/// A scan for what some rules match.
struct Scan {
    context: SessionContext,
    matcher: Arc<Matcher>,
    plan: Arc<dyn ExecutionPlan>,
}

impl Scan {
    async fn new(resources: &Resources, table: Arc<dyn TableProvider>, candidates: &Candidates) -> Result<Scan> {
        let context = resources.session()?;
        let own = Candidates::own();
        let read = columns(own.iter().chain(&candidates.expressions).chain(&candidates.predicates));
        let matcher = Arc::new(Matcher::new(&context, candidates, &schema(&read)?)?);
        let records = context.read_table(table)?;
        let conditions = candidates.conditions.iter();
        let conditions = conditions.map(|condition| expressions::logical(&context, condition, records.schema()));
        let conditions = conditions.chain(test(&context, candidates, records.schema()).transpose());
        let condition = conjunction(conditions.collect::<Result<Vec<_>>>()?).unwrap_or_else(|| lit(true));
        let records = records.filter(condition)?.select(read.iter().map(ident).collect::<Vec<_>>())?;
        let plan = records.create_physical_plan().await?;
        resources.scanned.follow(&plan);
        Ok(Scan { context, matcher, plan })
    }
}

async fn gathered(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    candidates: &Candidates,
    keeper: impl FnOnce(Arc<RuntimeEnv>, SchemaRef) -> Keeper,
) -> Result<(Kept, Vec<usize>)> {
    let Scan { context, matcher, plan } = Scan::new(resources, table, candidates).await?;
    let keeper = Arc::new(keeper(context.runtime_env(), Arc::clone(&matcher.schema)));
    let mut scans = tokio::task::JoinSet::new();
    for stream in execute_stream_partitioned(plan, context.task_ctx())? {
        let (matcher, keeper) = (Arc::clone(&matcher), Arc::clone(&keeper));
        scans.spawn(async move { matcher.drain(stream, &keeper).await });
    }
    let (mut parts, mut counts) = (Vec::new(), vec![0; candidates.detections.len()]);
    while let Some(done) = scans.join_next().await {
        let (part, of_part) = done.map_err(|error| DataFusionError::External(Box::new(error)))??;
        parts.push(part);
        counts.iter_mut().zip(of_part).for_each(|(count, of_part)| *count += of_part);
    }
    let keeper = Arc::into_inner(keeper).ok_or_else(|| internal_datafusion_err!("a scan goes on"))?;
    Ok((keeper.kept(parts), counts))
}

/// Which rows of a batch of [`matches()`], of candidates with so many expressions, the rule of this number matches.
pub fn flags(expressions: usize, batch: &RecordBatch, rule: usize) -> &BooleanArray {
    batch.column(Candidates::OWN.len() + expressions + rule).as_boolean()
}

/// Returns the test of whether any rule matches a record; `None` where it needs no column. By it the scan leaves the other
/// columns of a record undecoded where no rule matches it.
fn test(context: &SessionContext, candidates: &Candidates, records: &DFSchema) -> Result<Option<Expr>> {
    let tested = columns(candidates.predicates.iter());
    match candidates.predicates.as_slice() {
        _ if tested.is_empty() => Ok(None),
        // The engine knows what this reads, and so leaves row groups and pages unread by their statistics.
        [predicate] => expressions::logical(context, predicate, records).map(Some),
        several => {
            let schema = schema(&tested)?;
            let tests = Tests::new(context, several, &schema)?;
            Ok(Some(any_rule(tests, schema).call(tested.iter().map(ident).collect())))
        }
    }
}

/// The columns that any of some expressions reads, in the order of the schema.
fn columns<'e>(expressions: impl Iterator<Item = &'e Expression>) -> Vec<String> {
    let mut read = BTreeSet::new();
    for expression in expressions {
        expression.columns(&mut read);
    }
    event::schema().fields().iter().map(|field| field.name().clone()).filter(|name| read.contains(&**name)).collect()
}

fn schema(columns: &[String]) -> Result<SchemaRef> {
    let fields = columns.iter().map(|name| event::schema().field_with_name(name).cloned());
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?)))
}

/// The name of the function that [`any_rule`] makes.
const ANY_RULE: &str = "any_rule";

/// A function of the columns of `schema`: whether any rule matches. By it a scan leaves the other columns of a
/// record undecoded where none does.
fn any_rule(tests: Tests, schema: SchemaRef) -> ScalarUDF {
    let takes = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    let call = move |columns: &[ColumnarValue]| {
        let columns = ColumnarValue::values_to_arrays(columns)?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(ColumnarValue::Array(Arc::new(any(&tests.flags(&batch)?, batch.num_rows())?)))
    };
    create_udf(ANY_RULE, takes, DataType::Boolean, Volatility::Immutable, Arc::new(call))
}

/// The predicates over the columns that are read.
struct Tests {
    /// The distinct conjuncts of all predicates.
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// Those of the conjuncts that are tested together.
    equalities: Equalities,
    /// For each predicate the indexes of its conjuncts, those that call no function first.
    predicates: Vec<Vec<usize>>,
}

impl Tests {
    fn new(functions: &dyn FunctionRegistry, predicates: &[Expression], schema: &SchemaRef) -> Result<Tests> {
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
struct Matcher {
    own: Vec<Arc<dyn PhysicalExpr>>,
    values: Vec<Arc<dyn PhysicalExpr>>,
    tests: Tests,
    detections: Vec<usize>,
    schema: SchemaRef,
}

impl Matcher {
    fn new(functions: &dyn FunctionRegistry, candidates: &Candidates, read: &SchemaRef) -> Result<Matcher> {
        let Candidates { expressions: values, detections, .. } = candidates;
        let time = event::schema().field(0).data_type().clone();
        let own = Candidates::OWN
            .iter()
            .enumerate()
            .map(|(place, name)| Field::new(*name, if place == 0 { time.clone() } else { DataType::Utf8 }, true));
        let value_fields = (0..values.len()).map(|number| Field::new(format!("value.{number}"), DataType::Utf8, true));
        let flags =
            (0..detections.len()).map(|number| Field::new(format!("matches.{number}"), DataType::Boolean, false));
        let fields: Vec<Field> = own.chain(value_fields).chain(flags).collect();
        Ok(Matcher {
            own: expressions::physical(functions, &Candidates::own(), read)?,
            values: expressions::physical(functions, values, read)?,
            tests: Tests::new(functions, &candidates.predicates, read)?,
            detections: detections.clone(),
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// Keeps what is matched of a scan, and tells of how many rows each rule does.
    async fn drain(
        self: Arc<Matcher>,
        stream: SendableRecordBatchStream,
        keeper: &Keeper,
    ) -> Result<(KeptPart, Vec<usize>)> {
        let mut counts = vec![0; self.detections.len()];
        let place = self.own.len() + self.values.len();
        let batches = self.together(stream).inspect_ok(|batch| {
            let flags = batch.columns().iter().skip(place);
            counts.iter_mut().zip(flags).for_each(|(count, flags)| *count += flags.as_boolean().true_count());
        });
        let part = keeper.keep(batches).await?;
        Ok((part, counts))
    }

    /// What is matched of a scan, in batches of [`MATCHED_ROWS`] or [`MATCHED_BYTES`], or a few more.
    fn together(self: Arc<Matcher>, stream: SendableRecordBatchStream) -> impl Stream<Item = Result<RecordBatch>> {
        let schema = Arc::clone(&self.schema);
        let matched = stream.try_filter_map(move |batch| future::ready(self.matched(&batch)));
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

    /// What any rule matches of a batch.
    fn matched(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let flags = self.tests.flags(batch)?;
        let any = any(&flags, batch.num_rows())?;
        if any.true_count() == 0 {
            return Ok(None);
        }
        let batch = compute::filter_record_batch(batch, &any)?;
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (expression, field) in self.own.iter().chain(&self.values).zip(self.schema.fields()) {
            let value = expression.evaluate(&batch)?.into_array(batch.num_rows())?;
            columns.push(compute::cast(&value, field.data_type())?);
        }
        let kept: Vec<ArrayRef> = flags.iter().map(|flags| compute::filter(flags, &any)).collect::<Result<_, _>>()?;
        columns.extend(self.detections.iter().map(|predicate| Arc::clone(&kept[*predicate])));
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}
