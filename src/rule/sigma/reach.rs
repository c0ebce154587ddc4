//! The values of a record that a test of Sigma looks at. All paths go through lists.

use super::Refusal;
use crate::event::{ColumnKind, FieldLocation, OTHER_FIELDS};
use crate::path::{Path, Step};
use crate::rule::{self, Field, Operand, Predicate, Test};

/// The values of a JSON field that a test looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The value, or the elements of a list.
    Values,
    /// The strings, numbers and booleans within the value.
    Leaves,
}

/// Returns the path to the values of a field that a JSON column holds. `None` for others.
pub(super) fn reached(field: &Field, last: Option<Step>) -> Option<Field> {
    let Field::Path(path) = field else {
        return None;
    };
    if !matches!(field.location(), Some(FieldLocation::Below { .. } | FieldLocation::Column(_, ColumnKind::Json))) {
        return None;
    }
    let mut steps = Vec::with_capacity(path.0.len() * 2);
    for step in &path.0 {
        steps.push(step.clone());
        steps.push(Step::Through);
    }
    steps.pop();
    steps.extend(last);
    Some(Field::Path(Path(steps)))
}

/// Returns a predicate: the field has a value that is not null.
pub(super) fn exists(field: &Field) -> Predicate {
    let present = |field: Field| Predicate::Test { field, test: Test::Present, negated: false };
    // Only `resources`, and fields that CloudTrail does not define, are lists themselves.
    let is_in_object = matches!(field.location(), Some(FieldLocation::Below { column, path, .. })
        if path.len() == 1 && !["resources", OTHER_FIELDS].contains(&column));
    match reached(field, None) {
        Some(list) if list != *field && !is_in_object => {
            let each = Box::new(present(Field::Element(Path::default())));
            let elements = Predicate::Elements { list, quantifier: rule::Quantifier::Any, each };
            Predicate::Any(vec![present(field.clone()), elements])
        }
        _ => present(field.clone()),
    }
}

/// Returns a predicate: one of the values that the tests look at passes all of them.
pub(super) fn passes(field: &Field, tests: &[Test], reach: Reach) -> Result<Predicate, Refusal> {
    tests.iter().try_for_each(|test| answers(field, test, reach))?;
    let all = |field: &Field| {
        let test = |test: &Test| Predicate::Test { field: field.clone(), test: test.clone(), negated: false };
        match tests {
            [one] => test(one),
            tests => Predicate::All(tests.iter().map(test).collect()),
        }
    };
    let end = match reach {
        Reach::Values => Step::Through,
        Reach::Leaves => Step::Leaves,
    };
    let Some(list) = reached(field, Some(end)) else {
        return Ok(all(field));
    };
    let each = Box::new(all(&Field::Element(Path::default())));
    let elements = Predicate::Elements { list, quantifier: rule::Quantifier::Any, each };
    Ok(match field.location() {
        // Most values are in the promoted column.
        Some(FieldLocation::Below { hot: Some(_), .. }) => Predicate::Any(vec![all(field), elements]),
        _ => elements,
    })
}

/// Refuses a test that no value of the field can pass.
pub(super) fn answers(field: &Field, test: &Test, reach: Reach) -> Result<(), Refusal> {
    let is_flag = |operand: &Operand| match operand {
        Operand::Value(value) | Operand::Folded(value) => {
            ["true", "false"].iter().any(|flag| value.text.eq_ignore_ascii_case(flag))
        }
        Operand::Field(_) | Operand::FoldedField(_) | Operand::AnyText { .. } => true,
    };
    match (field.location(), test) {
        (_, Test::Present) | (Some(FieldLocation::Column(_, ColumnKind::Flag)), Test::Filled) => Ok(()),
        (Some(FieldLocation::Time), _) => {
            Err(Refusal::new("it can only be asked whether it is there: choose the time with `--from` and `--to`"))
        }
        (Some(FieldLocation::Column(_, ColumnKind::Json)), _) if reach == Reach::Values => {
            Err(Refusal::new("it holds fields and is not a text: name the field that is meant"))
        }
        (Some(FieldLocation::Column(_, ColumnKind::Flag)), Test::Equals(operand)) if is_flag(operand) => Ok(()),
        (Some(FieldLocation::Column(_, ColumnKind::Flag)), _) => {
            Err(Refusal::new("it is `true` or `false`, and nothing else"))
        }
        _ => Ok(()),
    }
}
