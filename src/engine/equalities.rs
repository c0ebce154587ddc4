//! Evaluates all equality tests of a column with one lookup per value.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Schema};

use crate::sql::expression::{Comparator, Expression};

/// Minimum number of tests of a column that one look-up replaces.
const MANY: usize = 4;

/// The tests, of some, that compare a column of texts with values.
pub(super) struct Equalities {
    columns: Vec<OfColumn>,
}

struct OfColumn {
    /// The index of the column.
    column: usize,
    tests: Vec<usize>,
    /// For each value, the indexes in `tests` of the tests that it satisfies.
    met: HashMap<String, Vec<usize>>,
}

impl Equalities {
    /// Collects the equality tests in `tests`, over the columns of `schema`.
    pub(super) fn new(tests: &[Expression], schema: &Schema) -> Equalities {
        let mut columns: BTreeMap<usize, OfColumn> = BTreeMap::new();
        for (number, test) in tests.iter().enumerate() {
            let Some((column, values)) = compared(test) else {
                continue;
            };
            let Some((column, _)) = schema.column_with_name(column).filter(|(_, f)| *f.data_type() == DataType::Utf8)
            else {
                continue;
            };
            let new = || OfColumn { column, tests: Vec::new(), met: HashMap::new() };
            let of_column = columns.entry(column).or_insert_with(new);
            for value in values {
                let met = of_column.met.entry(value.to_owned()).or_default();
                if met.last() != Some(&of_column.tests.len()) {
                    met.push(of_column.tests.len());
                }
            }
            of_column.tests.push(number);
        }
        Equalities { columns: columns.into_values().filter(|of_column| of_column.tests.len() >= MANY).collect() }
    }

    /// Returns whether the test with this index is one of them.
    pub(super) fn has(&self, test: usize) -> bool {
        self.columns.iter().any(|of_column| of_column.tests.contains(&test))
    }

    /// Runs the tests on a batch and writes their results to `held`, which has one entry for each test.
    pub(super) fn evaluate(&self, batch: &RecordBatch, held: &mut [Option<BooleanArray>]) {
        for of_column in &self.columns {
            of_column.evaluate(batch, held);
        }
    }
}

impl OfColumn {
    fn evaluate(&self, batch: &RecordBatch, held: &mut [Option<BooleanArray>]) {
        let rows = batch.num_rows();
        let mut truths: Vec<Option<Vec<bool>>> = vec![None; self.tests.len()];
        // Consecutive rows tend to have the same value.
        let mut last: Option<(&str, Option<&Vec<usize>>)> = None;
        for (row, value) in batch.column(self.column).as_string::<i32>().iter().enumerate() {
            let Some(value) = value else { continue };
            let met = match last {
                Some((before, met)) if before == value => met,
                _ => self.met.get(value),
            };
            last = Some((value, met));
            for place in met.into_iter().flatten() {
                truths[*place].get_or_insert_with(|| vec![false; rows])[row] = true;
            }
        }
        let none = BooleanArray::new(BooleanBuffer::new_unset(rows), None);
        for (test, truths) in self.tests.iter().zip(truths) {
            held[*test] = Some(truths.map_or_else(|| none.clone(), BooleanArray::from));
        }
    }
}

/// Returns the column that a test compares, and the values.
fn compared(test: &Expression) -> Option<(&str, Vec<&str>)> {
    match test {
        Expression::Comparison { left, operator: Comparator::Equal, right } => match (&**left, &**right) {
            (Expression::Column(column), Expression::Text(value)) => Some((column, vec![value])),
            _ => None,
        },
        Expression::InList { value, list } => match &**value {
            Expression::Column(column) => Some((column, list.iter().map(String::as_str).collect())),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{StringArray, UInt8Array};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn looked_up_together_tests_say_what_each_says_alone() {
        let fields = [("name", DataType::Utf8), ("number", DataType::UInt8)];
        let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
        let names = StringArray::from(vec![Some("b"), Some("b"), None, Some("a"), Some("B"), Some(""), Some("c")]);
        let numbers = UInt8Array::from(vec![1; 7]);
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(names), Arc::new(numbers)]).unwrap();
        let name = || Expression::column("name");
        let is = |text: &str| name().equals(Expression::text(text));
        let among = || name().is_in(["b", "c", "b"]);
        let number = Expression::column("number").equals(Expression::text("1"));
        let tests = [is("a"), is("b"), is("b").does_not_hold(), is("none"), among(), among().does_not_hold(), number];
        let mut held = vec![None; tests.len()];
        Equalities::new(&tests, &schema).evaluate(&batch, &mut held);
        let rows = |held: &Option<BooleanArray>| {
            held.as_ref().map(|held| (0..held.len()).filter(|row| held.value(*row)).collect::<Vec<_>>())
        };
        let held: Vec<_> = held.iter().map(rows).collect();
        let of = |rows: &[usize]| Some(rows.to_vec());
        assert_eq!(held, [of(&[3]), of(&[0, 1]), None, of(&[]), of(&[0, 1, 6]), None, None]);
        let mut few = vec![None; 3];
        Equalities::new(&tests[..3], &schema).evaluate(&batch, &mut few);
        assert!(few.iter().all(Option::is_none));
    }
}
