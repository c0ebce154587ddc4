//! The match operator as two functions of a record's columns.
//!
//! Every session knows them by name, and so do the nodes of a cluster. The rules are their first argument: a
//! [`MatchSpec`] as JSON. So a scan for many rules travels like any other query.

use std::sync::Arc;

use arrow::array::{RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::{exec_err, internal_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::prelude::{Expr, SessionContext, ident};
use datafusion::scalar::ScalarValue;

use super::compiled::CompiledCache;
use super::functions;
use super::matcher::{self, Matcher, Tests};
use crate::sql::match_spec::MatchSpec;

static TESTS: CompiledCache<(Tests, SchemaRef)> = CompiledCache::new();
static MATCHERS: CompiledCache<(Matcher, SchemaRef)> = CompiledCache::new();

/// Makes the functions known to a session.
pub(super) fn register(context: &SessionContext) {
    for function in [MatchFunction::AnyRule, MatchFunction::MatchRow] {
        context.register_udf(function.udf());
    }
}

/// Returns the condition that any predicate of `spec` holds. By it a scan decodes other columns only for records for which it does.
pub(super) fn any_rule(spec: &MatchSpec) -> Result<Expr> {
    MatchFunction::AnyRule.call(spec, &matcher::tested_schema(spec))
}

/// Returns the expression for the columns of [`Matcher::schema`], as a struct.
pub(super) fn match_row(spec: &MatchSpec) -> Result<Expr> {
    MatchFunction::MatchRow.call(spec, &matcher::input_schema(spec))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum MatchFunction {
    /// `matches_any_rule(rules, column, …)`: whether any of their predicates holds. The columns are the tested ones.
    AnyRule,
    /// `match_row(rules, column, …)`: what findings need of a record, and a flag for each rule. The columns are all
    /// that the rules test and need.
    MatchRow,
}

impl MatchFunction {
    fn udf(self) -> ScalarUDF {
        ScalarUDF::from(MatchUdf { function: self, signature: Signature::variadic_any(Volatility::Immutable) })
    }

    fn call(self, spec: &MatchSpec, columns: &SchemaRef) -> Result<Expr> {
        let rules = serde_json::to_string(spec).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(self.udf().call(
            std::iter::once(lit(rules)).chain(columns.fields().iter().map(|field| ident(field.name()))).collect(),
        ))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MatchUdf {
    function: MatchFunction,
    signature: Signature,
}

impl ScalarUDFImpl for MatchUdf {
    fn name(&self) -> &str {
        match self.function {
            MatchFunction::AnyRule => "matches_any_rule",
            MatchFunction::MatchRow => "match_row",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the rules")
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let data_type = match self.function {
            MatchFunction::AnyRule => DataType::Boolean,
            MatchFunction::MatchRow => match arguments.scalar_arguments.first() {
                Some(Some(rules)) => DataType::Struct(matcher_of(rules)?.0.schema().arrow().fields().clone()),
                _ => return plan_err!("the rules must be a literal"),
            },
        };
        Ok(Arc::new(Field::new(self.name(), data_type, false)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((ColumnarValue::Scalar(rules), columns)) = arguments.args.split_first() else {
            return exec_err!("the rules must be a literal");
        };
        let columns = columns.iter().map(|column| column.to_array(arguments.number_rows)).collect::<Result<_>>()?;
        let batch = |schema: &SchemaRef| RecordBatch::try_new(Arc::clone(schema), columns);
        Ok(ColumnarValue::Array(match self.function {
            MatchFunction::AnyRule => {
                let tests = tests_of(rules)?;
                Arc::new(tests.0.any(&batch(&tests.1)?)?)
            }
            MatchFunction::MatchRow => {
                let matcher = matcher_of(rules)?;
                Arc::new(StructArray::from(matcher.0.evaluate(&batch(&matcher.1)?)?))
            }
        }))
    }
}

/// Returns the tests of `rules`, which are a [`MatchSpec`] as JSON, and the schema of the batches that they take.
fn tests_of(rules: &ScalarValue) -> Result<Arc<(Tests, SchemaRef)>> {
    let rules = text_of(rules)?;
    TESTS.get(rules, || {
        let spec = parsed(rules)?;
        let tested = matcher::tested_schema(&spec);
        Ok((Tests::new(&*functions::REGISTRY, &spec.predicates, &tested)?, tested))
    })
}

/// Returns the matcher of `rules`, which are a [`MatchSpec`] as JSON, and the schema of the batches that it takes.
fn matcher_of(rules: &ScalarValue) -> Result<Arc<(Matcher, SchemaRef)>> {
    let rules = text_of(rules)?;
    MATCHERS.get(rules, || {
        let spec = parsed(rules)?;
        let read = matcher::input_schema(&spec);
        Ok((Matcher::new(&spec, &*functions::REGISTRY, &read)?, read))
    })
}

fn text_of(rules: &ScalarValue) -> Result<&str> {
    let ScalarValue::Utf8(Some(rules)) = rules else {
        return exec_err!("the rules must be a text");
    };
    Ok(rules)
}

fn parsed(rules: &str) -> Result<MatchSpec> {
    serde_json::from_str(rules).map_err(|error| DataFusionError::External(Box::new(error)))
}
