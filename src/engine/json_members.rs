//! The notations of other engines for members of JSON columns, in a user's own SQL: `userIdentity.arn`,
//! `userIdentity['arn']`, `userIdentity->>'arn'` and `json_extract_scalar(userIdentity, '$.arn')`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, ExprSchema as _, TableReference, internal_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry as _;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList, Like};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, GetFieldAccess, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::{Expr, SessionContext, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::event;
use crate::path::{Path, Step};

/// Returns a session like `context` whose SQL may use these notations.
pub(super) fn session(context: &SessionContext) -> Result<SessionContext> {
    let (value, json, text) = (context.udf("value_at")?, context.udf("json_at")?, context.udf("text_at")?);
    let own = Arc::new(Members {
        value: Arc::new(ScalarUDF::from(MemberAt::new("member_at", value))),
        json: Arc::new(ScalarUDF::from(MemberAt::new("member_json_at", Arc::clone(&json)))),
    }) as Arc<dyn ExprPlanner>;
    let state = context.state();
    let planners = std::iter::once(own).chain(state.expr_planners().iter().cloned()).collect();
    let state = SessionStateBuilder::new_from_existing(state).with_expr_planners(planners).build();
    let context = SessionContext::new_with_state(state);
    for (name, reads) in [("json_extract_scalar", &text), ("json_extract_string", &text), ("json_extract", &json)] {
        context.register_udf(ScalarUDF::from(Extract::new(name, Arc::clone(reads))));
    }
    Ok(context)
}

/// Plans accesses to members of JSON columns.
#[derive(Debug)]
struct Members {
    value: Arc<ScalarUDF>,
    json: Arc<ScalarUDF>,
}

impl Members {
    /// Returns the JSON column and the path below it that `expression` names, if it names one.
    fn place(&self, expression: &Expr, schema: &DFSchema) -> Option<(Expr, Vec<Step>)> {
        match expression {
            Expr::Column(column) => {
                let is_text = schema.field_from_column(column).is_ok_and(|field| *field.data_type() == DataType::Utf8);
                (is_text && event::is_json(&column.name)).then(|| (expression.clone(), Vec::new()))
            }
            Expr::ScalarFunction(call) if call.func == self.value || call.func == self.json => {
                let [column, Expr::Literal(path, _)] = call.args.as_slice() else {
                    return None;
                };
                Some((column.clone(), path.try_as_str()??.parse::<Path>().ok()?.0))
            }
            _ => None,
        }
    }

    fn member(&self, (column, mut path): (Expr, Vec<Step>), step: Step, as_json: bool) -> Expr {
        path.push(step);
        let function = if as_json { &self.json } else { &self.value };
        function.call(vec![column, lit(Path(path).to_string())])
    }
}

impl ExprPlanner for Members {
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        if *field.data_type() != DataType::Utf8 || !event::is_json(field.name()) {
            return Ok(PlannerResult::Original(Vec::new()));
        }
        let column = Expr::Column(Column::from((qualifier, field)));
        let path = Path(nested_names.iter().cloned().map(Step::Key).collect());
        Ok(PlannerResult::Planned(self.value.call(vec![column, lit(path.to_string())])))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let step = match &access.field_access {
            GetFieldAccess::NamedStructField { name } => {
                name.try_as_str().flatten().map(|key| Step::Key(key.to_owned()))
            }
            // As SQL counts elements, the first is 1.
            GetFieldAccess::ListIndex { key } => match key.as_ref() {
                Expr::Literal(ScalarValue::Int64(Some(number)), _) if *number > 0 => Some(Step::Index(number - 1)),
                Expr::Literal(key, _) => key.try_as_str().flatten().map(|key| Step::Key(key.to_owned())),
                _ => None,
            },
            GetFieldAccess::ListRange { .. } => None,
        };
        match self.place(&access.expr, schema).zip(step) {
            Some((place, step)) => Ok(PlannerResult::Planned(self.member(place, step, false))),
            None => Ok(PlannerResult::Original(access)),
        }
    }

    fn plan_binary_op(&self, operation: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let as_json = match operation.op {
            BinaryOperator::Arrow => true,
            BinaryOperator::LongArrow => false,
            _ => return Ok(PlannerResult::Original(operation)),
        };
        let Some(place) = self.place(&operation.left, schema) else {
            return Ok(PlannerResult::Original(operation));
        };
        let member = |key: &Expr| {
            let step = match key {
                // As these operators count elements, the first is 0.
                Expr::Literal(ScalarValue::Int64(Some(number)), _) => Step::Index(*number),
                Expr::Literal(key, _) => Step::Key(key.try_as_str()??.to_owned()),
                _ => return None,
            };
            Some(self.member(place.clone(), step, as_json))
        };
        Ok(match with_first_operand(&operation.right, &member) {
            Some(expression) => PlannerResult::Planned(expression),
            None => PlannerResult::Original(operation),
        })
    }
}

/// `expression` with another first operand, as `replace` has it. The parser takes `a ->> 'b' = 'c'` for
/// `a ->> ('b' = 'c')`, since in `DuckDB`'s dialect arrows bind less tightly than comparisons.
fn with_first_operand(expression: &Expr, replace: &dyn Fn(&Expr) -> Option<Expr>) -> Option<Expr> {
    let first = |first: &Expr| with_first_operand(first, replace).map(Box::new);
    match expression {
        Expr::BinaryExpr(of) => Some(Expr::BinaryExpr(BinaryExpr { left: first(&of.left)?, ..of.clone() })),
        Expr::Like(of) => Some(Expr::Like(Like { expr: first(&of.expr)?, ..of.clone() })),
        Expr::SimilarTo(of) => Some(Expr::SimilarTo(Like { expr: first(&of.expr)?, ..of.clone() })),
        Expr::InList(of) => Some(Expr::InList(InList { expr: first(&of.expr)?, ..of.clone() })),
        Expr::Between(of) => Some(Expr::Between(Between { expr: first(&of.expr)?, ..of.clone() })),
        Expr::IsNull(of) => first(of).map(Expr::IsNull),
        Expr::IsNotNull(of) => first(of).map(Expr::IsNotNull),
        other => replace(other),
    }
}

/// A function of a JSON column and a path, whose column in an answer is called as a user names it: `userIdentity.arn`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MemberAt {
    name: &'static str,
    reads: Arc<ScalarUDF>,
    signature: Signature,
}

impl MemberAt {
    fn new(name: &'static str, reads: Arc<ScalarUDF>) -> MemberAt {
        MemberAt { name, reads, signature: Signature::exact(vec![DataType::Utf8; 2], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MemberAt {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        if let [Expr::Column(column), Expr::Literal(path, _)] = arguments
            && let Some(Some(path)) = path.try_as_str()
        {
            let dot = if path.starts_with('[') { "" } else { "." };
            return Ok(format!("{}{dot}{path}", column.name));
        }
        // An optimizer may have put the column's own expression in its place.
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.schema_name().to_string()).collect();
        Ok(format!("{}({})", self.name, arguments.join(",")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.reads.invoke_with_args(arguments)
    }
}

/// `json_extract_scalar(json, '$.a.b[0]')` and its like: by a path as Athena and `DuckDB` write it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Extract {
    name: &'static str,
    reads: Arc<ScalarUDF>,
    signature: Signature,
}

impl Extract {
    fn new(name: &'static str, reads: Arc<ScalarUDF>) -> Extract {
        Extract { name, reads, signature: Signature::exact(vec![DataType::Utf8; 2], Volatility::Immutable) }
    }

    fn path(&self, path: Option<&str>) -> Result<Path> {
        let Some(text) = path else {
            return plan_err!("{}: the path must be a constant text such as '$.arn'", self.name);
        };
        let below = text.strip_prefix('$').map_or(text, |below| below.strip_prefix('.').unwrap_or(below));
        below.parse().map_err(|reason| DataFusionError::Plan(format!("{}: the path '{text}': {reason}", self.name)))
    }
}

impl ScalarUDFImpl for Extract {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn simplify(&self, mut arguments: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let path = match arguments.pop() {
            Some(Expr::Literal(path, _)) => self.path(path.try_as_str().flatten())?,
            _ => self.path(None)?,
        };
        arguments.push(lit(path.to_string()));
        Ok(ExprSimplifyResult::Simplified(self.reads.call(arguments)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} was not replaced by {}", self.name, self.reads.name())
    }
}
