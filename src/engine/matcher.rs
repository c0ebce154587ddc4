//! The match operator: tests every record of a stream against many rules, and computes what the rules need of matches.
//!
//! A matcher is built from a [`MatchSpec`], which is plain data, the columns of its input and the functions of a session.
//! So any process that has the spec can run it over any stream of record batches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, internal_err};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::TableProviderFilterPushDown;
use datafusion::logical_expr::utils::conjunction;
use datafusion::prelude::{DataFrame, Expr, SessionContext, lit};

use super::equalities::Equalities;
use super::match_batch::MatchSchema;
use super::row_expressions::RowExpressions;
use super::{expressions, match_functions};
use crate::event;
use crate::sql::expression::Expression;
use crate::sql::match_spec::{EventColumn, MatchSpec};

/// A test runs only on the rows that passed the tests before it, if less than one in so many rows did. Otherwise its result is kept
/// for other rules.
const LEFT: usize = 8;

/// Values are computed only for the matches that need them, if less than one in so many rows is one. Functions that read JSON keep
/// their results for whole columns, so for more rows it is cheaper to compute all.
const NEEDED: usize = 2;

/// Decides which records match some rules, and computes their values.
pub struct Matcher {
    events: RowExpressions,
    values: Vec<NeededValues>,
    tests: Tests,
    /// For each rule the index of its predicate.
    predicates: Vec<usize>,
    schema: Arc<MatchSchema>,
}

/// Values that the same rules need.
struct NeededValues {
    /// The indexes of the predicates of these rules. `None` if every match has the values.
    needed_by: Option<BTreeSet<usize>>,
    /// The indexes of the values in the [`MatchSpec`].
    indexes: Vec<usize>,
    expressions: RowExpressions,
}

impl Matcher {
    /// A matcher for `spec`, over batches of `input`: [`input_schema`] or more columns.
    ///
    /// # Errors
    /// A function is unknown.
    pub fn new(spec: &MatchSpec, functions: &dyn FunctionRegistry, input: &SchemaRef) -> Result<Matcher> {
        let mut needed: BTreeMap<Option<BTreeSet<usize>>, Vec<usize>> = BTreeMap::new();
        for (value, needed_by) in spec.needed_by().into_iter().enumerate() {
            needed.entry(needed_by).or_default().push(value);
        }
        let values = needed.into_iter().map(|(needed_by, indexes)| {
            let expressions: Vec<Expression> = indexes.iter().map(|index| spec.values[*index].clone()).collect();
            let expressions = RowExpressions::new(functions, &expressions, input)?;
            Ok(NeededValues { needed_by, indexes, expressions })
        });
        Ok(Matcher {
            events: RowExpressions::new(functions, &EventColumn::ALL.map(EventColumn::expression), input)?,
            values: values.collect::<Result<_>>()?,
            tests: Tests::new(functions, &spec.predicates, input)?,
            predicates: spec.rules.iter().map(|rule| rule.predicate).collect(),
            schema: Arc::new(MatchSchema::new(spec)),
        })
    }

    /// The columns of the matches.
    pub fn schema(&self) -> &Arc<MatchSchema> {
        &self.schema
    }

    /// Returns for each record of `batch` the columns of [`Matcher::schema`]. A value may be null for records that match no rule
    /// which needs it.
    ///
    /// # Errors
    /// A value cannot be computed.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let flags = self.tests.flags(batch)?;
        let mut values = BTreeMap::new();
        for needed in &self.values {
            values.extend(needed.indexes.iter().zip(needed.of_matches(batch, &flags)?));
        }
        let values: Vec<ArrayRef> = values.into_values().collect();
        let flag = |predicate: &usize| Arc::new(flags[*predicate].clone()) as ArrayRef;
        let flags: Vec<ArrayRef> = self.predicates.iter().map(flag).collect();
        self.schema.assemble(&self.events.of_all(batch)?, &values, &flags)
    }
}

impl NeededValues {
    /// Returns the values for the matches in `batch`, given the records that satisfy each predicate.
    fn of_matches(&self, batch: &RecordBatch, flags: &[BooleanArray]) -> Result<Vec<ArrayRef>> {
        let rows = match &self.needed_by {
            Some(predicates) => any(predicates.iter().map(|predicate| &flags[*predicate]), batch.num_rows())?,
            None => any(flags, batch.num_rows())?,
        };
        match self.expressions.of_few(batch, &rows, NEEDED)? {
            Some(values) => Ok(values),
            None => self.expressions.of_all(batch),
        }
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

/// Returns the records of `table` that match a rule of `spec`, and maybe others.
///
/// # Errors
/// A function is unknown.
pub fn candidates(context: &SessionContext, table: Arc<dyn TableProvider>, spec: &MatchSpec) -> Result<DataFrame> {
    let pushdown = table.supports_filters_pushdown(&[&lit(true)])?;
    // Tables of Parquet do. So do selections of a raw trail, which filter its rows.
    let takes_filters = !pushdown.contains(&TableProviderFilterPushDown::Unsupported);
    let records = context.read_table(table)?;
    let filter = filter(spec, context, records.schema(), takes_filters)?;
    records.filter(filter)
}

/// Returns those of [`candidates`] that match a rule of `spec`; all of them if no rule tests a column.
///
/// # Errors
/// A function is unknown.
#[cfg(feature = "cluster")]
pub(super) fn matches(candidates: DataFrame, spec: &MatchSpec) -> Result<DataFrame> {
    if spec.predicates.len() < 2 || tested_schema(spec).fields().is_empty() {
        return Ok(candidates);
    }
    candidates.filter(match_functions::any_rule(spec)?)
}

/// Returns a condition that every match of a rule of `spec` satisfies. A table of Parquet that `takes_filters` skips row groups and
/// pages by it, and does not decode the other columns of records for which it does not hold.
///
/// Several predicates become one function of their columns: planning time grows faster than the number of conditions. It reads
/// no JSON if it can: that would be decoded twice, for the condition and for the match.
fn filter(spec: &MatchSpec, functions: &dyn FunctionRegistry, records: &DFSchema, takes_filters: bool) -> Result<Expr> {
    let logical = |condition: &Expression| expressions::logical(functions, condition, records);
    let mut conditions = spec.conditions.iter().map(logical).collect::<Result<Vec<_>>>()?;
    let tests_columns = |spec: &MatchSpec| !tested_schema(spec).fields().is_empty();
    match spec.predicates.as_slice() {
        _ if !tests_columns(spec) => {}
        [predicate] => conditions.push(logical(predicate)?),
        _ if takes_filters => {
            let narrowed = spec.narrowed().filter(tests_columns);
            conditions.push(match_functions::any_rule(narrowed.as_ref().unwrap_or(spec))?);
        }
        _ => {}
    }
    Ok(conjunction(conditions).unwrap_or_else(|| lit(true)))
}

/// Predicates, ready to test batches of one schema.
pub(super) struct Tests {
    /// The distinct conjuncts of all predicates.
    conjuncts: Vec<RowExpressions>,
    /// The conjuncts that compare a column with strings.
    equalities: Equalities,
    /// For each predicate the indexes of its conjuncts. The cheapest come first.
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
            let index = |conjunct: Expression| {
                *indexes.entry(conjunct).or_insert_with_key(|conjunct| {
                    tests.push(conjunct.clone());
                    tests.len() - 1
                })
            };
            conjuncts_of.push(predicate.clone().into_conjuncts().into_iter().map(index).collect::<Vec<usize>>());
        }
        let equalities = Equalities::new(&tests, schema);
        for conjuncts in &mut conjuncts_of {
            conjuncts.sort_by_cached_key(|test| (!equalities.has(*test), tests[*test].calls_function()));
        }
        let one = |test| RowExpressions::new(functions, std::slice::from_ref(test), schema);
        Ok(Tests { conjuncts: tests.iter().map(one).collect::<Result<_>>()?, equalities, predicates: conjuncts_of })
    }

    /// Returns the rows of `batch` for which any predicate holds.
    pub(super) fn any(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        any(&self.flags(batch)?, batch.num_rows())
    }

    /// Returns for each predicate the rows of `batch` for which it holds.
    fn flags(&self, batch: &RecordBatch) -> Result<Vec<BooleanArray>> {
        let mut results = vec![None; self.conjuncts.len()];
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
            let truth = if let Some(truth) = &results[*number] {
                truth.clone()
            } else if let Some(truth) = self.conjuncts[*number].of_few(batch, &all, LEFT)? {
                truths(&truth)?
            } else {
                results[*number].insert(truths(&self.conjuncts[*number].of_all(batch)?)?).clone()
            };
            all = compute::and(&all, &truth)?;
        }
        Ok(all)
    }
}

/// Returns the rows for which a test, which has one column of values, is true. Null is not true.
fn truths(values: &[ArrayRef]) -> Result<BooleanArray> {
    let [truths] = values else {
        return internal_err!("a test with {} values", values.len());
    };
    let truths = truths.as_boolean();
    Ok(if truths.null_count() > 0 { compute::prep_null_mask_filter(truths) } else { truths.clone() })
}

/// Returns the rows for which any flag is set.
pub(super) fn any<'a>(flags: impl IntoIterator<Item = &'a BooleanArray>, rows: usize) -> Result<BooleanArray> {
    let mut any = BooleanArray::new(BooleanBuffer::new_unset(rows), None);
    for flags in flags.into_iter().filter(|flags| flags.true_count() > 0) {
        any = compute::or(&any, flags)?;
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::engine::functions;
    use crate::engine::match_batch::MatchBatch;
    use crate::event::batch::BatchBuilder;
    use crate::raw::envelope::Record;
    use crate::raw::json;
    use crate::rule::{Rule, catalog, panther};
    use crate::time::Range;

    fn batch(records: &[&str]) -> RecordBatch {
        let mut builder = BatchBuilder::default();
        for text in records {
            builder.push(&Record { text, members: json::members(text).unwrap() });
        }
        builder.finish().unwrap()
    }

    fn text(values: &ArrayRef) -> ArrayRef {
        if values.data_type().is_string() {
            compute::cast(values, &DataType::Utf8).unwrap()
        } else {
            Arc::clone(values)
        }
    }

    /// Whether few or most records of a batch match a rule, the matches and their values are those of the plain expressions.
    #[test]
    fn matches_and_their_values_are_those_of_the_expressions() {
        let mut rules: Vec<Rule> = catalog::all(&[]).unwrap().into_iter().map(|entry| entry.rule).collect();
        rules.push(panther::parse("everything", include_str!("../../tests/data/everything.yml")).unwrap().rule);
        let logs: Vec<&str> = rules.iter().flat_map(|rule| &rule.tests).map(|test| test.log.as_str()).collect();
        let spec = MatchSpec::new(&rules, Range::default());
        let schema = event::schema();
        let matcher = Matcher::new(&spec, &*functions::REGISTRY, &schema).unwrap();
        let predicates = expressions::physical(&*functions::REGISTRY, &spec.predicates, &schema).unwrap();
        let values = expressions::physical(&*functions::REGISTRY, &spec.values, &schema).unwrap();
        let alone = logs.iter().step_by(7).map(|log| vec![*log; 3]);
        let pairs = logs.windows(2).step_by(5).map(|pair| [[pair[0]; 2], [pair[1]; 2]].concat());
        let (mut held, mut null) = (0, 0);
        for records in std::iter::once(logs.clone()).chain(alone).chain(pairs) {
            let batch = batch(&records);
            let computed = |expression: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| {
                text(&expression.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap())
            };
            let found: MatchBatch = matcher.schema().wrap(matcher.evaluate(&batch).unwrap()).unwrap();
            for (index, rule) in spec.rules.iter().enumerate() {
                let holds = truths(&[computed(&predicates[rule.predicate])]).unwrap();
                assert_eq!(found.matches_of(index), &holds, "{}", rules[index].id);
                held += holds.true_count();
                for id in rule.columns.iter() {
                    let (value, expected) = (found.value(*id), computed(&values[id.index()]));
                    let [value, expected] = [value, &expected].map(|of| compute::filter(of, &holds).unwrap());
                    assert_eq!(&value, &expected, "{} in {}", spec.values[id.index()], rules[index].id);
                    null += usize::from(found.value(*id).null_count() == batch.num_rows());
                }
            }
        }
        assert!(held > logs.len() && null > 1_000, "{held} matches, {null} columns were not computed");
    }
}
