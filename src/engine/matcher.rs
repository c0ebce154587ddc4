//! One scan for many rules: each batch is held against every rule, and what none matches is dropped.
//!
//! The predicates are not part of the scan's query: planning a query grows faster than its number
//! of conditions, and a condition by itself costs little.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{Expr, SessionContext};
use futures::TryStreamExt as _;

use super::Resources;
use crate::event;
use crate::sql::candidates::Candidates;

/// Rows that are put together to one batch of matches.
const MATCHED_ROWS: usize = 8_192;

/// The records of `table` that any of the rules of `candidates` matches: the columns
/// [`Candidates::OWN`], one for each of its expressions, as text, and one flag for each rule.
pub async fn matches(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    candidates: &Candidates,
) -> Result<Vec<RecordBatch>> {
    let context = resources.session()?;
    let parsed = Parsed::new(&context, candidates)?;
    let columns = parsed.columns();
    let matcher = Arc::new(parsed.over(&context, &columns, candidates)?);
    context.register_table("cloudtrail", table)?;
    let scan = context.sql(&candidates.scan(&columns)).await?;
    let mut scans = tokio::task::JoinSet::new();
    for stream in scan.execute_stream_partitioned().await? {
        let matcher = Arc::clone(&matcher);
        scans.spawn(async move { matcher.drain(stream).await });
    }
    let mut batches = Vec::new();
    while let Some(done) = scans.join_next().await {
        batches.extend(done.map_err(|error| DataFusionError::External(Box::new(error)))??);
    }
    Ok(batches)
}

/// The expressions of candidates, over all columns.
struct Parsed {
    own: Vec<Expr>,
    values: Vec<Expr>,
    predicates: Vec<Expr>,
}

impl Parsed {
    fn new(context: &SessionContext, candidates: &Candidates) -> Result<Parsed> {
        let schema = DFSchema::try_from(event::schema())?;
        let parse = |texts: &[String]| -> Result<Vec<Expr>> {
            texts.iter().map(|text| context.parse_sql_expr(text, &schema)).collect()
        };
        Ok(Parsed {
            own: parse(&Candidates::own())?,
            values: parse(&candidates.expressions)?,
            predicates: parse(&candidates.predicates)?,
        })
    }

    /// The columns that any of them reads, in the order of the schema.
    fn columns(&self) -> Vec<String> {
        let all = self.own.iter().chain(&self.values).chain(&self.predicates);
        let read: BTreeSet<String> =
            all.flat_map(|expression| expression.column_refs().into_iter().map(|column| column.name.clone())).collect();
        event::schema().fields().iter().map(|field| field.name().clone()).filter(|name| read.contains(name)).collect()
    }

    fn over(self, context: &SessionContext, columns: &[String], candidates: &Candidates) -> Result<Matcher> {
        let fields: Vec<_> =
            columns.iter().map(|name| event::schema().field_with_name(name).cloned()).collect::<Result<_, _>>()?;
        let schema = DFSchema::try_from(Schema::new(fields))?;
        let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build());
        let physical = |expressions: Vec<Expr>| -> Result<Vec<Arc<dyn PhysicalExpr>>> {
            let one = |expression| {
                let expression = simplifier.simplify(simplifier.coerce(expression, &schema)?)?;
                context.create_physical_expr(expression, &schema)
            };
            expressions.into_iter().map(one).collect()
        };
        let time = event::schema().field(0).data_type().clone();
        let own = Candidates::OWN
            .iter()
            .enumerate()
            .map(|(place, name)| Field::new(*name, if place == 0 { time.clone() } else { DataType::Utf8 }, true));
        let values = (0..self.values.len()).map(|number| Field::new(format!("value.{number}"), DataType::Utf8, true));
        let flags = (0..candidates.detections.len())
            .map(|number| Field::new(format!("matches.{number}"), DataType::Boolean, false));
        let fields: Vec<Field> = own.chain(values).chain(flags).collect();
        Ok(Matcher {
            own: physical(self.own)?,
            values: physical(self.values)?,
            predicates: physical(self.predicates)?,
            detections: candidates.detections.clone(),
            schema: Arc::new(Schema::new(fields)),
        })
    }
}

/// The expressions of candidates, over the columns that are read.
struct Matcher {
    own: Vec<Arc<dyn PhysicalExpr>>,
    values: Vec<Arc<dyn PhysicalExpr>>,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
    detections: Vec<usize>,
    schema: SchemaRef,
}

impl Matcher {
    async fn drain(&self, mut stream: SendableRecordBatchStream) -> Result<Vec<RecordBatch>> {
        let (mut whole, mut parts, mut rows) = (Vec::new(), Vec::new(), 0);
        while let Some(batch) = stream.try_next().await? {
            if let Some(matched) = self.matched(&batch)? {
                rows += matched.num_rows();
                parts.push(matched);
            }
            if rows >= MATCHED_ROWS {
                whole.push(compute::concat_batches(&self.schema, &std::mem::take(&mut parts))?);
                rows = 0;
            }
        }
        if rows > 0 {
            whole.push(compute::concat_batches(&self.schema, &parts)?);
        }
        Ok(whole)
    }

    /// What any rule matches of a batch.
    fn matched(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let rows = batch.num_rows();
        let mut flags: Vec<BooleanArray> = Vec::with_capacity(self.predicates.len());
        for predicate in &self.predicates {
            let truths = predicate.evaluate(batch)?.into_array(rows)?;
            let truths = truths.as_boolean();
            // Null is not true.
            flags.push(if truths.null_count() > 0 { compute::prep_null_mask_filter(truths) } else { truths.clone() });
        }
        let mut any = BooleanArray::from(vec![false; rows]);
        for flags in flags.iter().filter(|flags| flags.true_count() > 0) {
            any = compute::or(&any, flags)?;
        }
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
