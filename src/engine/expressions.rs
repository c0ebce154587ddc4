//! Expression trees as expressions of the engine, built without printing and parsing SQL.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{HigherOrderFunction, Lambda, LambdaVariable};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Operator, binary_expr, cast, ident, lit, when};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::Expr;
use datafusion::scalar::ScalarValue;

use crate::sql::expression::{ChainOperator, Comparator, Expression, State};
use crate::time::Instant;

/// Returns the engine's expression for `expression` over the columns of `schema`.
///
/// # Errors
/// A function or a column is unknown.
pub(super) fn logical(functions: &dyn FunctionRegistry, expression: &Expression, schema: &DFSchema) -> Result<Expr> {
    Ok(unresolved(functions, expression)?.resolve_lambda_variables(schema)?.data)
}

/// Returns expressions that compute `expressions` from batches of `schema`.
///
/// # Errors
/// A function or a column is unknown, or types do not fit.
pub(super) fn physical(
    functions: &dyn FunctionRegistry,
    expressions: &[Expression],
    schema: &SchemaRef,
) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let schema = Arc::new(DFSchema::try_from(Arc::clone(schema))?);
    let one = |expression: &Expression| computed(logical(functions, expression, &schema)?, &schema);
    expressions.iter().map(one).collect()
}

/// Returns what computes `expression` from batches of `schema`.
fn computed(expression: Expr, schema: &Arc<DFSchema>) -> Result<Arc<dyn PhysicalExpr>> {
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(schema)).build());
    let expression = simplifier.simplify(simplifier.coerce(expression, schema)?)?;
    create_physical_expr(&expression, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}

/// Returns the literal of an instant.
pub(super) fn timestamp(instant: Instant) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(instant.micros()), Some("UTC".into())))
}

/// As [`logical`], where the variables of lambdas have no types yet.
fn unresolved(functions: &dyn FunctionRegistry, expression: &Expression) -> Result<Expr> {
    let built = |expression: &Expression| unresolved(functions, expression);
    Ok(match expression {
        Expression::Column(name) => ident(name),
        Expression::Variable(name) => Expr::LambdaVariable(LambdaVariable::new(name.clone(), None)),
        Expression::Text(text) => lit(text.as_str()),
        Expression::Number(text) => number(text),
        Expression::Instant(instant) => timestamp(*instant),
        Expression::Boolean(value) => lit(*value),
        Expression::NullText => lit(ScalarValue::Utf8(None)),
        Expression::Call { function, arguments } => {
            let arguments = arguments.iter().map(built).collect::<Result<Vec<_>>>()?;
            if arguments.iter().any(|argument| matches!(argument, Expr::Lambda(_))) {
                let function = functions.higher_order_function(function)?;
                Expr::HigherOrderFunction(HigherOrderFunction::new(function, arguments))
            } else {
                functions.udf(function)?.call(arguments)
            }
        }
        Expression::Lambda { parameter, body } => Expr::Lambda(Lambda::new(vec![parameter.clone()], built(body)?)),
        Expression::Comparison { left, operator, right } => binary_expr(built(left)?, sign(*operator), built(right)?),
        Expression::InList { value, list } => {
            built(value)?.in_list(list.iter().map(|text| lit(text.as_str())).collect(), false)
        }
        Expression::Not(condition) => built(condition)?.is_not_true(),
        Expression::Is { value, state, negated } => match (state, negated) {
            (State::Null, false) => built(value)?.is_null(),
            (State::Null, true) => built(value)?.is_not_null(),
            (State::True, false) => built(value)?.is_true(),
            (State::True, true) => built(value)?.is_not_true(),
            (State::False, false) => built(value)?.is_false(),
            (State::False, true) => built(value)?.is_not_false(),
        },
        Expression::Chain { operator, operands, .. } => {
            chain(*operator, operands.iter().map(built).collect::<Result<_>>()?)
        }
        Expression::If { condition, then, otherwise } => {
            when(built(condition)?, built(then)?).otherwise(built(otherwise)?)?
        }
        Expression::Case { branches } => {
            let branches = branches.iter().map(|(when, then)| Ok((Box::new(built(when)?), Box::new(built(then)?))));
            let branches = branches.collect::<Result<Vec<_>>>()?;
            Expr::Case(datafusion::logical_expr::Case::new(None, branches, None))
        }
        Expression::Booleans(values) => {
            functions.udf("make_array")?.call(values.iter().map(built).collect::<Result<Vec<_>>>()?)
        }
        Expression::CastToText(value) => cast(built(value)?, DataType::Utf8),
    })
}

/// Joins operands as a balanced tree: the engine recurses as deep as an expression nests.
fn chain(operator: ChainOperator, mut operands: Vec<Expr>) -> Expr {
    match operands.len() {
        0 => match operator {
            ChainOperator::And => lit(true),
            ChainOperator::Or => lit(false),
            ChainOperator::Plus => lit(0_i64),
        },
        1 => operands.remove(0),
        count => {
            let right = operands.split_off(count / 2);
            let sign = match operator {
                ChainOperator::And => Operator::And,
                ChainOperator::Or => Operator::Or,
                ChainOperator::Plus => Operator::Plus,
            };
            let (left, right) = (chain(operator, operands), chain(operator, right));
            Expr::BinaryExpr(BinaryExpr::new(Box::new(left), sign, Box::new(right)))
        }
    }
}

/// A number as the engine reads it from SQL: whole ones of 64 bits stay whole.
fn number(text: &str) -> Expr {
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(whole), _) => lit(whole),
        (_, Ok(number)) => lit(number),
        // The tree may come from another process.
        (Err(_), Err(_)) => lit(ScalarValue::Float64(None)),
    }
}

fn sign(operator: Comparator) -> Operator {
    match operator {
        Comparator::Equal => Operator::Eq,
        Comparator::NotEqual => Operator::NotEq,
        Comparator::Less => Operator::Lt,
        Comparator::LessOrEqual => Operator::LtEq,
        Comparator::Greater => Operator::Gt,
        Comparator::GreaterOrEqual => Operator::GtEq,
        Comparator::DistinctFrom => Operator::IsDistinctFrom,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray as _, RecordBatch};
    use arrow::compute;

    use super::*;
    use crate::engine::Engine;
    use crate::event::{self, batch::BatchBuilder};
    use crate::path::{Path, Step};
    use crate::raw::envelope::Record;
    use crate::raw::json;
    use crate::rule::predicate::NumberOperand;
    use crate::rule::{
        Class, Compared, Field, Operand, Predicate, Quantifier, Test, TimePart, Value, catalog, panther,
    };
    use crate::sql::match_spec::{EventColumn, MatchSpec};
    use crate::sql::predicate::condition;
    use crate::time::Range;

    /// The records of the shipped rules' own tests, and some in which fields have unusual types.
    fn records() -> RecordBatch {
        let rules = catalog::all(&[]).unwrap();
        let tests = rules.iter().flat_map(|entry| &entry.rule.tests).map(|test| test.log.clone());
        let odd = [
            r#"{"eventTime":"2026-09-01T00:00:00Z","eventName":null,"readOnly":true,"sourceIPAddress":"10.0.0.1"}"#,
            r#"{"eventName":"1","userIdentity":{"userName":1,"type":["1","a"]},"requestParameters":"1"}"#,
            r#"{"eventName":"A","userIdentity":{"userName":"A"},"requestParameters":{"items":[{"port":-0.0},{"port":"a"}]}}"#,
            r#"{"eventName":"a\u202eb","readOnly":false,"requestParameters":{"items":[]},"unknown":{"key":["10.0.0.1"]}}"#,
            r#"{"eventName":"","requestParameters":{"items":["1","A","a"]},"unknown":{"key":9007199254740993}}"#,
            r#"{"requestParameters":["10.0.0.1",1,true,null],"unknown":{"key":1e999},"userIdentity":{"type":"Root"}}"#,
        ];
        let mut builder = BatchBuilder::default();
        for text in tests.chain(odd.map(str::to_owned)) {
            builder.push(&Record { text: &text, members: json::members(&text).unwrap() });
        }
        builder.finish().unwrap()
    }

    /// Every test of every kind of field, and odd combinations of them.
    fn odd_predicates() -> Vec<Predicate> {
        let paths = [
            "eventName",
            "readOnly",
            "eventTime",
            "userIdentity.userName",
            "userIdentity.type",
            "requestParameters",
            "requestParameters.items",
            "requestParameters.items[0].port",
            "unknown.key",
            "account",
            "actor",
            "sourceIPAddress",
        ];
        let path = |text: &str| text.parse::<Path>().unwrap();
        let fields = paths.map(|text| Field::new(path(text))).into_iter();
        let hour = Field::TimePart(TimePart::Hour, "Europe/Berlin".parse().unwrap());
        let derived = [hour, Field::MapText("requestParameters"), Field::Element(Path(Vec::new()))];
        let fields: Vec<Field> = fields.chain(derived).collect();
        let value =
            |text: &str, shortest: Option<&str>| Value { text: text.to_owned(), shortest: shortest.map(str::to_owned) };
        let values = [value("A", None), value("1", Some("1.0")), value("true", None), value("a\u{202e}b'", None)];
        let mut operands: Vec<Operand> = values.iter().cloned().map(Operand::Value).collect();
        operands.extend([value("a", None), value("1.0", Some("1"))].map(Operand::Folded));
        let other = || Field::new(path("eventName"));
        operands.extend([Operand::Field(other()), Operand::FoldedField(other())]);
        let in_list = [Step::Key("requestParameters".to_owned()), Step::Key("items".to_owned()), Step::Through];
        operands.push(Operand::AnyText { field: other(), folded: false });
        operands.push(Operand::AnyText { field: Field::Path(Path(in_list.to_vec())), folded: true });
        let mut tests = vec![Test::Present, Test::Filled, Test::In(values.to_vec()), Test::In(values[..1].to_vec())];
        for operand in operands {
            tests
                .extend([Test::Equals, Test::StartsWith, Test::EndsWith, Test::Contains].map(|of| of(operand.clone())));
        }
        tests.push(Test::Matches("^[A-Z]+$".to_owned()));
        let numbers = ["0", "-0", "1.5", "-1e3", "1e999", "9007199254740993", "18446744073709551615"];
        let numbers = numbers.map(|number| NumberOperand::Value(number.to_owned())).into_iter();
        for number in numbers.chain([NumberOperand::Field(other())]) {
            let relations = [Compared::Greater, Compared::GreaterOrEqual, Compared::Less, Compared::LessOrEqual];
            tests.extend(relations.map(|relation| Test::Number(relation, number.clone())));
        }
        let classes = [Class::Address, Class::V4, Class::V6, Class::Private, Class::Public];
        tests.extend(classes.map(Test::Address));
        tests.extend([Test::Within("10.0.0.0/8".parse().unwrap()), Test::AnyWithin("::/0".parse().unwrap())]);
        tests.push(Test::AnyWithin("10.0.0.0/8".parse().unwrap()));

        let mut predicates = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            // A third of the tests for each field, half of them negated.
            for (number, test) in tests.iter().enumerate().skip(index % 3).step_by(3) {
                let negated = (index + number) % 2 == 0;
                predicates.push(Predicate::Test { field: field.clone(), test: test.clone(), negated });
            }
        }
        let in_element = |predicate: &Predicate| matches!(predicate, Predicate::Test { field: Field::Element(_), .. });
        let (of_elements, mut all): (Vec<Predicate>, Vec<Predicate>) = predicates.into_iter().partition(in_element);
        let few = all[..5].to_vec();
        for quantifier in [Quantifier::Any, Quantifier::All, Quantifier::No, Quantifier::One] {
            for list in ["requestParameters.items", "unknown.key", "eventName"] {
                let list = Field::new(path(list));
                let elements = |each| Predicate::Elements { list: list.clone(), quantifier, each: Box::new(each) };
                all.extend(of_elements.iter().step_by(3).cloned().map(elements));
                let nested = Predicate::Elements {
                    list: Field::Element(path("items")),
                    quantifier,
                    each: Box::new(Predicate::Any(of_elements[..3].to_vec())),
                };
                all.push(elements(nested));
            }
        }
        let (none, many) = (Vec::new(), all[..200].to_vec());
        for parts in [none, few[..1].to_vec(), few, many] {
            all.extend(
                [Predicate::All, Predicate::Any, Predicate::None, Predicate::OnlyOne].map(|of| of(parts.clone())),
            );
        }
        all
    }

    #[test]
    fn implied_conditions_hold_wherever_the_condition_does() {
        let rules = catalog::all(&[]).unwrap();
        let of_rules = rules.iter().map(|entry| condition(&entry.rule.detection));
        let conditions: Vec<Expression> = of_rules.chain(odd_predicates().iter().map(condition)).collect();
        let context = Engine::new(1, 64 << 20, &std::env::temp_dir()).unwrap().session().unwrap();
        let batch = records();
        let rows = |condition: &Expression| -> Vec<bool> {
            let computed = physical(&context, std::slice::from_ref(condition), &event::schema()).unwrap().remove(0);
            let truths = computed.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
            truths.as_boolean().iter().map(|truth| truth == Some(true)).collect()
        };
        let (mut narrower, mut wider) = (0, 0);
        for condition in &conditions {
            let Some(implied) = condition.implied(&|column| !event::is_json(column)) else { continue };
            let mut columns = std::collections::BTreeSet::new();
            implied.columns(&mut columns);
            assert!(!columns.into_iter().any(event::is_json), "{implied}");
            let (holds, implied_holds) = (rows(condition), rows(&implied));
            assert!(
                holds.iter().zip(&implied_holds).all(|(holds, implied)| *implied || !holds),
                "{condition}\n{implied}"
            );
            narrower += usize::from(implied != *condition);
            wider += usize::from(holds != implied_holds);
        }
        assert!(narrower > 50 && wider > 20, "{narrower} conditions read less, {wider} hold for more records");
    }

    #[test]
    fn what_is_printed_says_the_same_as_what_runs() {
        let mut rules: Vec<_> = catalog::all(&[]).unwrap().into_iter().map(|entry| entry.rule).collect();
        let everything = include_str!("../../tests/data/everything.yml");
        rules.push(panther::parse("everything", everything).unwrap().rule);
        let MatchSpec { mut predicates, values, conditions, .. } = MatchSpec::new(&rules, Range::default());
        let events = EventColumn::ALL.map(EventColumn::expression);
        predicates.extend(values.into_iter().chain(conditions).chain(events));
        predicates.extend(odd_predicates().iter().map(condition));
        let severities = rules.iter().flat_map(|rule| &rule.dynamic_severities);
        predicates.extend(severities.map(|(_, predicate)| condition(predicate)));

        let context = Engine::new(1, 64 << 20, &std::env::temp_dir()).unwrap().session().unwrap();
        let (batch, schema) = (records(), Arc::new(DFSchema::try_from(event::schema()).unwrap()));
        let value = |expression: Arc<dyn PhysicalExpr>| -> ArrayRef {
            let value = expression.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
            // Text has one type here, and views in SQL.
            if value.data_type().is_string() { compute::cast(&value, &DataType::Utf8).unwrap() } else { value }
        };
        let built = physical(&context, &predicates, &event::schema()).unwrap();
        let mut selecting = 0;
        for (expression, built) in predicates.iter().zip(built) {
            let text = expression.to_string();
            let parsed = context.parse_sql_expr(&text, &schema).unwrap_or_else(|error| panic!("{text}: {error}"));
            let parsed = computed(parsed, &schema).unwrap_or_else(|error| panic!("{text}: {error}"));
            let built = value(built);
            assert_eq!(&value(parsed), &built, "{text}");
            selecting += usize::from(built.logical_null_count() < built.len());
        }
        assert!(predicates.len() > 500 && selecting * 2 > predicates.len(), "{selecting} of {}", predicates.len());
    }
}
