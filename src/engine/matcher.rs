//! The match operator: tests every record of a stream against many rules, and computes what the rules need of matches.
//!
//! A matcher is built from a [`MatchSpec`], which is plain data, the columns of its input and the functions of a session.
//! So any process that has the spec can run it over any stream of record batches.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{Expr, lit};

use super::equalities::Equalities;
use super::match_batch::MatchSchema;
use super::{expressions, match_functions};
use crate::event;
use crate::sql::expression::Expression;
use crate::sql::match_spec::{EventColumn, MatchSpec};

/// A test runs only on the rows that passed the tests before it, if at most one in so many rows did.
const SELECTIVE: usize = 8;

/// Decides which records match some rules, and computes their values.
pub struct Matcher {
    events: Vec<Arc<dyn PhysicalExpr>>,
    values: Vec<Arc<dyn PhysicalExpr>>,
    tests: Tests,
    /// For each rule the index of its predicate.
    predicates: Vec<usize>,
    schema: Arc<MatchSchema>,
}

impl Matcher {
    /// A matcher for `spec`, over batches of `input`: [`input_schema`] or more columns.
    ///
    /// # Errors
    /// A function is unknown.
    pub fn new(spec: &MatchSpec, functions: &dyn FunctionRegistry, input: &SchemaRef) -> Result<Matcher> {
        let events = EventColumn::ALL.map(EventColumn::expression);
        Ok(Matcher {
            events: expressions::physical(functions, &events, input)?,
            values: expressions::physical(functions, &spec.values, input)?,
            tests: Tests::new(functions, &spec.predicates, input)?,
            predicates: spec.rules.iter().map(|rule| rule.predicate).collect(),
            schema: Arc::new(MatchSchema::new(spec)),
        })
    }

    /// The columns of the matches.
    pub fn schema(&self) -> &Arc<MatchSchema> {
        &self.schema
    }

    /// Returns for each record of `batch` the columns of [`Matcher::schema`].
    ///
    /// # Errors
    /// A value cannot be computed.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let flags = self.tests.flags(batch)?;
        let mut fields = self.schema.arrow().fields().iter();
        let mut computed = |expressions: &[Arc<dyn PhysicalExpr>]| -> Result<Vec<ArrayRef>> {
            let column = |(expression, field): (&Arc<dyn PhysicalExpr>, &FieldRef)| {
                let value = expression.evaluate(batch)?.into_array(batch.num_rows())?;
                Ok(compute::cast(&value, field.data_type())?)
            };
            expressions.iter().zip(&mut fields).map(column).collect()
        };
        let (events, values) = (computed(&self.events)?, computed(&self.values)?);
        let flags = self.predicates.iter().map(|predicate| Arc::new(flags[*predicate].clone()) as ArrayRef);
        self.schema.assemble(events, values, flags.collect())
    }
}

/// The columns of records that a matcher for `spec` reads.
pub fn input_schema(spec: &MatchSpec) -> SchemaRef {
    schema_of(&spec.columns())
}

/// The columns of records that the rules of `spec` test.
pub(super) fn tested_schema(spec: &MatchSpec) -> SchemaRef {
    let mut tested = BTreeSet::new();
    spec.predicates.iter().for_each(|predicate| predicate.columns(&mut tested));
    schema_of(&tested)
}

/// The schema of records with these columns alone.
fn schema_of(columns: &BTreeSet<&str>) -> SchemaRef {
    let schema = event::schema();
    let fields = schema.fields().iter().filter(|field| columns.contains(&**field.name()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// Returns a condition that every match of a rule of `spec` satisfies. By it the scan skips row groups and pages, and does
/// not decode the other columns of records that no rule matches.
///
/// Several predicates become one function of their columns: planning time grows faster than the number of conditions.
///
/// # Errors
/// A function is unknown.
pub fn filter(spec: &MatchSpec, functions: &dyn FunctionRegistry, records: &DFSchema) -> Result<Expr> {
    let logical = |condition: &Expression| expressions::logical(functions, condition, records);
    let mut conditions = spec.conditions.iter().map(logical).collect::<Result<Vec<_>>>()?;
    match spec.predicates.as_slice() {
        _ if tested_schema(spec).fields().is_empty() => {}
        [predicate] => conditions.push(logical(predicate)?),
        _ => conditions.push(match_functions::any_rule(spec)?),
    }
    Ok(conjunction(conditions).unwrap_or_else(|| lit(true)))
}

/// Predicates, ready to test batches of one schema.
pub(super) struct Tests {
    /// The distinct conjuncts of all predicates.
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// The conjuncts that compare a column with strings.
    equalities: Equalities,
    /// For each predicate the indexes of its conjuncts. Conjuncts without function calls come first.
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

    /// Returns the rows of `batch` for which any predicate holds.
    pub(super) fn any(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        any(&self.flags(batch)?, batch.num_rows())
    }

    /// Returns for each predicate the rows of `batch` for which it holds.
    fn flags(&self, batch: &RecordBatch) -> Result<Vec<BooleanArray>> {
        let mut results = vec![None; self.expressions.len()];
        self.equalities.evaluate(batch, &mut results);
        self.predicates.iter().map(|conjuncts| self.all_hold(conjuncts, batch, &mut results)).collect()
    }

    /// Returns the rows of `batch` for which all `conjuncts` hold. `results` caches those of the whole batch.
    fn all_hold(
        &self,
        conjuncts: &[usize],
        batch: &RecordBatch,
        results: &mut [Option<BooleanArray>],
    ) -> Result<BooleanArray> {
        let rows = batch.num_rows();
        let mut all = BooleanArray::new(BooleanBuffer::new_set(rows), None);
        for number in conjuncts {
            let left = all.true_count();
            if left == 0 {
                break;
            }
            let truth = match &results[*number] {
                Some(truth) => truth.clone(),
                None if left * SELECTIVE < rows => {
                    truths(self.expressions[*number].evaluate_selection(batch, &all)?, rows)?
                }
                None => results[*number].insert(truths(self.expressions[*number].evaluate(batch)?, rows)?).clone(),
            };
            all = compute::and(&all, &truth)?;
        }
        Ok(all)
    }
}

/// Returns the rows for which a test is true. Null is not true.
fn truths(value: ColumnarValue, rows: usize) -> Result<BooleanArray> {
    let truths = value.into_array(rows)?;
    let truths = truths.as_boolean();
    Ok(if truths.null_count() > 0 { compute::prep_null_mask_filter(truths) } else { truths.clone() })
}

/// Returns the rows for which any flag is set.
pub(super) fn any(flags: &[BooleanArray], rows: usize) -> Result<BooleanArray> {
    let mut any = BooleanArray::new(BooleanBuffer::new_unset(rows), None);
    for flags in flags.iter().filter(|flags| flags.true_count() > 0) {
        any = compute::or(&any, flags)?;
    }
    Ok(any)
}
