//! Expressions over the records of `cloudtrail`, as a tree.
//!
//! A rule becomes such trees once. The tree prints as the SQL that `tawny sql` shows ([`Expression`] implements
//! `Display`), and the engine builds its own expressions from the same tree without printing it. The tree is plain data,
//! so it also travels to the nodes of a cluster.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::time::{Instant, as_micros};

mod text;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expression {
    /// A column of the table.
    Column(String),
    /// The parameter of a lambda around this expression.
    Variable(String),
    /// A string.
    Text(String),
    /// A number, as JSON text. One beyond 64-bit floating point compares as infinite.
    Number(String),
    /// A point in time.
    Instant(#[serde(with = "as_micros")] Instant),
    /// True or false.
    Boolean(bool),
    /// A null string.
    NullText,
    /// The result of a function.
    Call {
        /// The function's name in SQL.
        function: String,
        /// Its arguments, in order.
        arguments: Vec<Expression>,
    },
    /// A function of one list element. Only an argument of a call.
    Lambda {
        /// The name of the element in `body`.
        parameter: String,
        /// The result.
        body: Box<Expression>,
    },
    /// A comparison of two values.
    Comparison {
        /// The left side.
        left: Box<Expression>,
        /// How they compare.
        operator: Comparator,
        /// The right side.
        right: Box<Expression>,
    },
    /// Whether a value is one of some strings.
    InList {
        /// The value.
        value: Box<Expression>,
        /// The strings.
        list: Vec<String>,
    },
    /// Whether a condition is false or null.
    Not(Box<Expression>),
    /// Whether a value is in a state.
    Is {
        /// The value.
        value: Box<Expression>,
        /// The state.
        state: State,
        /// Whether it must *not* be in that state.
        negated: bool,
    },
    /// Operands joined by one operator. Without operands it is the operator's neutral value.
    Chain {
        /// The operator.
        operator: ChainOperator,
        /// The operands, in order.
        operands: Vec<Expression>,
        /// How it prints.
        layout: ChainLayout,
    },
    /// One of two values, by a condition.
    If {
        /// The condition.
        condition: Box<Expression>,
        /// The value where it holds.
        then: Box<Expression>,
        /// The value where it is false or null.
        otherwise: Box<Expression>,
    },
    /// The value of the first branch whose condition holds; null where none does.
    Case {
        /// Conditions, each with its value.
        branches: Vec<(Expression, Expression)>,
    },
    /// A list of truth values.
    Booleans(Vec<Expression>),
    /// A value as text.
    CastToText(Box<Expression>),
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// As [`Comparator::NotEqual`], but null differs from every value and equals null.
    DistinctFrom,
}

/// A state that a value can be tested for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum State {
    Null,
    True,
    False,
}

/// An operator that joins any number of operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum ChainOperator {
    And,
    Or,
    Plus,
}

/// How a chain prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChainLayout {
    /// On one line.
    OneLine,
    /// With one line for each operand.
    LinePerOperand,
}

impl Expression {
    /// The column `name`.
    pub fn column(name: &str) -> Expression {
        Expression::Column(name.to_owned())
    }

    /// The variable `name` of a lambda around this expression.
    pub fn variable(name: &str) -> Expression {
        Expression::Variable(name.to_owned())
    }

    /// A string.
    pub fn text(text: impl Into<String>) -> Expression {
        Expression::Text(text.into())
    }

    /// A whole number.
    pub fn integer(number: i64) -> Expression {
        Expression::Number(number.to_string())
    }

    /// A call of `function`.
    pub fn call(function: &str, arguments: impl IntoIterator<Item = Expression>) -> Expression {
        Expression::Call { function: function.to_owned(), arguments: arguments.into_iter().collect() }
    }

    /// A function of a list element that `body` knows as `parameter`.
    pub fn lambda(parameter: &str, body: Expression) -> Expression {
        Expression::Lambda { parameter: parameter.to_owned(), body: Box::new(body) }
    }

    /// Whether all of `conditions` hold, one a line.
    pub fn all(conditions: Vec<Expression>) -> Expression {
        Expression::lines(ChainOperator::And, conditions)
    }

    /// Whether any of `conditions` holds, one a line.
    pub fn any(conditions: Vec<Expression>) -> Expression {
        Expression::lines(ChainOperator::Or, conditions)
    }

    /// Operands joined by `operator`, one a line.
    pub fn lines(operator: ChainOperator, operands: Vec<Expression>) -> Expression {
        Expression::Chain { operator, operands, layout: ChainLayout::LinePerOperand }
    }

    /// Operands joined by `operator` on one line.
    pub fn line(operator: ChainOperator, operands: Vec<Expression>) -> Expression {
        Expression::Chain { operator, operands, layout: ChainLayout::OneLine }
    }

    /// This value compared with `right`.
    #[must_use]
    pub fn compared(self, operator: Comparator, right: Expression) -> Expression {
        Expression::Comparison { left: Box::new(self), operator, right: Box::new(right) }
    }

    /// Whether this value equals `right`.
    #[must_use]
    pub fn equals(self, right: Expression) -> Expression {
        self.compared(Comparator::Equal, right)
    }

    /// Whether this value is one of `texts`.
    #[must_use]
    pub fn is_in<T: ToString>(self, texts: impl IntoIterator<Item = T>) -> Expression {
        Expression::InList { value: Box::new(self), list: texts.into_iter().map(|text| text.to_string()).collect() }
    }

    /// Whether this condition is false or null.
    #[must_use]
    pub fn does_not_hold(self) -> Expression {
        Expression::Not(Box::new(self))
    }

    /// Whether this value is in `state`.
    #[must_use]
    pub fn is(self, state: State) -> Expression {
        Expression::Is { value: Box::new(self), state, negated: false }
    }

    /// Whether this value is not in `state`.
    #[must_use]
    pub fn is_not(self, state: State) -> Expression {
        Expression::Is { value: Box::new(self), state, negated: true }
    }

    /// `then` where this condition holds, and `otherwise` elsewhere.
    #[must_use]
    pub fn choose(self, then: Expression, otherwise: Expression) -> Expression {
        Expression::If { condition: Box::new(self), then: Box::new(then), otherwise: Box::new(otherwise) }
    }

    /// The conditions that must all hold for this one to hold, in order.
    pub fn into_conjuncts(self) -> Vec<Expression> {
        match self {
            Expression::Chain { operator: ChainOperator::And, operands, .. } => {
                operands.into_iter().flat_map(Expression::into_conjuncts).collect()
            }
            other => vec![other],
        }
    }

    /// Returns a condition that is true for every record for which this one is true. It reads only columns that `may_read`. `None` if
    /// only a condition that is always true is known.
    pub fn implied(&self, may_read: &impl Fn(&str) -> bool) -> Option<Expression> {
        let known = |operands: &[Expression]| -> Vec<Option<Expression>> {
            operands.iter().map(|operand| operand.implied(may_read)).collect()
        };
        match self {
            Expression::Chain { operator: ChainOperator::And, operands, layout } => {
                let operands: Vec<Expression> = known(operands).into_iter().flatten().collect();
                let chain = |operands| Expression::Chain { operator: ChainOperator::And, operands, layout: *layout };
                (!operands.is_empty()).then(|| chain(operands))
            }
            Expression::Chain { operator: ChainOperator::Or, operands, layout } => {
                let operands = known(operands).into_iter().collect::<Option<Vec<Expression>>>()?;
                Some(Expression::Chain { operator: ChainOperator::Or, operands, layout: *layout })
            }
            Expression::Boolean(true) => None,
            other => {
                let mut columns = BTreeSet::new();
                other.columns(&mut columns);
                columns.into_iter().all(may_read).then(|| other.clone())
            }
        }
    }

    /// Whether it calls a function.
    pub fn calls_function(&self) -> bool {
        matches!(self, Expression::Call { .. }) || self.parts().into_iter().any(Expression::calls_function)
    }

    /// Adds the columns that it reads to `columns`.
    pub fn columns<'e>(&'e self, columns: &mut BTreeSet<&'e str>) {
        self.visit(&mut |part| {
            if let Expression::Column(name) = part {
                columns.insert(name);
            }
        });
    }

    /// Calls `visit` with it and every expression in it.
    pub fn visit<'e>(&'e self, visit: &mut impl FnMut(&'e Expression)) {
        visit(self);
        for part in self.parts() {
            part.visit(visit);
        }
    }

    /// The expressions that it consists of directly.
    fn parts(&self) -> Vec<&Expression> {
        match self {
            Expression::Column(_)
            | Expression::Variable(_)
            | Expression::Text(_)
            | Expression::Number(_)
            | Expression::Instant(_)
            | Expression::Boolean(_)
            | Expression::NullText => Vec::new(),
            Expression::Call { arguments: parts, .. }
            | Expression::Chain { operands: parts, .. }
            | Expression::Booleans(parts) => parts.iter().collect(),
            Expression::Lambda { body: part, .. }
            | Expression::InList { value: part, .. }
            | Expression::Not(part)
            | Expression::Is { value: part, .. }
            | Expression::CastToText(part) => vec![part],
            Expression::Comparison { left, right, .. } => vec![left, right],
            Expression::If { condition, then, otherwise } => vec![condition, then, otherwise],
            Expression::Case { branches } => branches.iter().flat_map(|(when, then)| [when, then]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conjuncts_are_those_of_nested_chains_and_parts_are_found_wherever_they_are() {
        let name = || Expression::column("eventName");
        let is = |text: &str| name().equals(Expression::text(text));
        let either = Expression::any(vec![is("a"), is("b")]);
        let nested = Expression::all(vec![is("c"), Expression::line(ChainOperator::And, vec![either.clone()])]);
        assert_eq!(nested.clone().into_conjuncts(), [is("c"), either.clone()]);
        assert_eq!(either.clone().into_conjuncts(), [either]);
        assert!(Expression::all(vec![]).into_conjuncts().is_empty());
        assert!(!nested.calls_function());
        let call = || Expression::call("lower", [name()]);
        let deep = [
            call().is(State::Null),
            call().does_not_hold(),
            call().is_in(["a"]),
            Expression::CastToText(Box::new(call())),
            Expression::lambda("element", call()),
            is("a").choose(name(), call()),
            Expression::Case { branches: vec![(is("a"), call())] },
            Expression::any(vec![is("a"), is("b").compared(Comparator::Less, call())]),
            Expression::Booleans(vec![is("a"), call()]),
        ];
        for expression in deep {
            assert!(expression.calls_function(), "{expression}");
        }
    }

    #[test]
    fn an_implied_condition_leaves_out_what_it_may_not_read() {
        let (narrow, wide) = (
            || Expression::column("a").equals(Expression::text("1")),
            || Expression::column("b").equals(Expression::text("2")),
        );
        let implied = |condition: &Expression| condition.implied(&|column| column == "a");
        let both = Expression::all(vec![narrow(), wide()]);
        assert_eq!(implied(&both), Some(Expression::all(vec![narrow()])));
        assert_eq!(
            implied(&Expression::any(vec![both.clone(), narrow()])),
            Some(Expression::any(vec![Expression::all(vec![narrow()]), narrow()]))
        );
        let always = || Expression::all(vec![Expression::Boolean(true), Expression::all(vec![])]);
        for nothing_known in [
            wide(),
            Expression::any(vec![narrow(), wide()]),
            both.does_not_hold(),
            Expression::all(vec![wide()]),
            always(),
            Expression::all(vec![always(), wide()]),
            Expression::any(vec![always(), narrow()]),
        ] {
            assert_eq!(implied(&nothing_known), None, "{nothing_known}");
        }
        for known in [narrow(), narrow().does_not_hold(), Expression::any(vec![]), Expression::Boolean(false)] {
            assert_eq!(implied(&known), Some(known));
        }
    }

    #[test]
    fn a_tree_survives_its_way_to_another_process() {
        let column = Expression::column("eventName");
        let lambda = Expression::lambda("item", Expression::variable("item").is_in(["it's"]));
        let tree = Expression::all(vec![
            column.clone().compared(Comparator::DistinctFrom, Expression::NullText),
            Expression::call("array_any_match", [column.clone(), lambda]),
            Expression::Case {
                branches: vec![(Expression::Boolean(true), Expression::Instant(Instant::from_micros(-1)))],
            },
            Expression::Booleans(vec![Expression::Boolean(false)]),
            Expression::lines(ChainOperator::Plus, vec![Expression::integer(-2), Expression::Number("1e999".into())]),
        ]);
        let json = serde_json::to_string(&tree).unwrap();
        assert_eq!(serde_json::from_str::<Expression>(&json).unwrap(), tree);
    }
}
