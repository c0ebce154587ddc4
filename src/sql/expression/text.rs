//! Expressions as SQL text.

use std::fmt;

use super::{ChainLayout, ChainOperator, Comparator, Expression, State};
use crate::sql::quote::{Ident, Literal, Number, TimeLiteral};

/// Operands that print without parentheses between them. More are printed in groups, because the engine's parser
/// recurses once for each operand.
const GROUP_SIZE: usize = 16;

/// Indentation of the outermost chain: where conditions stand in the templates.
const TEMPLATE_DEPTH: usize = 5;

/// Prints the expression as it stands in a query. Chains over several lines are indented for the templates.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.printed(0))
    }
}

impl Expression {
    /// The text, where `depth` chains over several lines, lambdas and cases are around it.
    fn printed(&self, depth: usize) -> String {
        let same = |expression: &Expression| expression.printed(depth);
        match self {
            Expression::Column(name) => Ident(name.clone()).to_string(),
            Expression::Variable(name) => name.clone(),
            Expression::Text(text) => Literal(text).to_string(),
            Expression::Number(text) => Number(text).to_string(),
            Expression::Instant(instant) => TimeLiteral::nearest(*instant).to_string(),
            Expression::Boolean(value) => value.to_string().to_uppercase(),
            Expression::NullText => "CAST(NULL AS VARCHAR)".to_owned(),
            Expression::Call { function, arguments } => {
                format!("{function}({})", arguments.iter().map(same).collect::<Vec<_>>().join(", "))
            }
            Expression::Lambda { parameter, body } => format!("{parameter} -> {}", body.printed(depth + 1)),
            Expression::Comparison { left, operator: Comparator::DistinctFrom, right } => {
                // In parentheses, because the engine's parser takes all that follows for the right side.
                format!("({} IS DISTINCT FROM {})", same(left), same(right))
            }
            Expression::Comparison { left, operator, right } => {
                format!("{} {} {}", same(left), sign(*operator), same(right))
            }
            Expression::InList { value, list } => {
                let list: Vec<String> = list.iter().map(|text| Literal(text).to_string()).collect();
                format!("{} IN ({})", same(value), list.join(", "))
            }
            Expression::Not(condition) => format!("({}) IS NOT TRUE", same(condition)),
            Expression::Is { value, state, negated } => {
                format!("{} IS {}{}", same(value), if *negated { "NOT " } else { "" }, keyword(*state))
            }
            Expression::Chain { operator, operands, layout } => chain(*operator, operands, *layout, depth),
            Expression::If { condition, then, otherwise } => {
                format!("CASE WHEN {} THEN {} ELSE {} END", same(condition), same(then), same(otherwise))
            }
            Expression::Case { branches } => {
                let branch = |(condition, value): &(Expression, Expression)| {
                    format!("WHEN {} THEN {}", condition.printed(depth + 1), value.printed(depth + 1))
                };
                let indent = "  ".repeat(depth + TEMPLATE_DEPTH);
                let separator = format!("\n{indent}");
                let branches = branches.iter().map(branch).collect::<Vec<_>>().join(&separator);
                format!("CASE{separator}{branches}\n{}END", &indent[2..])
            }
            Expression::Booleans(values) => {
                format!("make_array({})", values.iter().map(same).collect::<Vec<_>>().join(", "))
            }
            Expression::CastToText(value) => format!("CAST({} AS VARCHAR)", same(value)),
        }
    }
}

fn chain(operator: ChainOperator, operands: &[Expression], layout: ChainLayout, depth: usize) -> String {
    let (word, neutral) = match operator {
        ChainOperator::And => ("AND", "TRUE"),
        ChainOperator::Or => ("OR", "FALSE"),
        ChainOperator::Plus => ("+", "0"),
    };
    match layout {
        ChainLayout::OneLine => {
            let operands: Vec<String> = operands.iter().map(|operand| operand.printed(depth)).collect();
            if operands.is_empty() { neutral.to_owned() } else { format!("({})", operands.join(&format!(" {word} "))) }
        }
        ChainLayout::LinePerOperand => {
            let mut parts: Vec<String> = operands.iter().map(|operand| operand.printed(depth + 1)).collect();
            let separator = format!("\n{}{word} ", "  ".repeat(depth + TEMPLATE_DEPTH));
            while parts.len() > GROUP_SIZE {
                parts = parts.chunks(GROUP_SIZE).map(|group| format!("({})", group.join(&separator))).collect();
            }
            match parts.as_slice() {
                [] => neutral.to_owned(),
                [one] => one.clone(),
                _ => format!("({})", parts.join(&separator)),
            }
        }
    }
}

fn sign(operator: Comparator) -> &'static str {
    match operator {
        Comparator::Equal => "=",
        Comparator::NotEqual => "<>",
        Comparator::Less => "<",
        Comparator::LessOrEqual => "<=",
        Comparator::Greater => ">",
        Comparator::GreaterOrEqual => ">=",
        Comparator::DistinctFrom => "IS DISTINCT FROM",
    }
}

fn keyword(state: State) -> &'static str {
    match state {
        State::Null => "NULL",
        State::True => "TRUE",
        State::False => "FALSE",
    }
}
