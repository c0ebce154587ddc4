//! Expressions that are computed for some rows of a batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::physical_expr::PhysicalExpr;

use super::{empty_columns, expressions};
use crate::sql::expression::Expression;

/// Expressions that read some columns of batches of one schema.
pub(super) struct RowExpressions {
    /// The columns that they read.
    columns: Vec<usize>,
    expressions: Vec<(Arc<dyn PhysicalExpr>, DataType)>,
}

impl RowExpressions {
    /// The expressions that compute `expressions` from batches of `schema`.
    ///
    /// # Errors
    /// A function or a column is unknown, or types do not fit.
    pub(super) fn new(
        functions: &dyn FunctionRegistry,
        expressions: &[Expression],
        schema: &SchemaRef,
    ) -> Result<RowExpressions> {
        let mut names = BTreeSet::new();
        for expression in expressions {
            expression.columns(&mut names);
        }
        let columns: Vec<usize> = names.into_iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
        let read = Arc::new(schema.project(&columns)?);
        let typed = |expression: Arc<dyn PhysicalExpr>| {
            let data_type = expression.data_type(&read)?;
            Ok((expression, data_type))
        };
        let expressions = expressions::physical(functions, expressions, &read)?;
        Ok(RowExpressions { columns, expressions: expressions.into_iter().map(typed).collect::<Result<_>>()? })
    }

    /// Returns the values of the expressions for all rows of a batch.
    ///
    /// # Errors
    /// A value cannot be computed.
    pub(super) fn of_all(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.computed(&batch.project(&self.columns)?)
    }

    /// Returns the values of the expressions for `rows` of a batch, and null for others. `None` if one row in `one_in` or more is
    /// selected.
    ///
    /// # Errors
    /// A value cannot be computed.
    pub(super) fn of_few(
        &self,
        batch: &RecordBatch,
        rows: &BooleanArray,
        one_in: usize,
    ) -> Result<Option<Vec<ArrayRef>>> {
        let selected = rows.true_count();
        if selected == 0 {
            let nulls = |(_, data_type): &(_, DataType)| empty_columns::nulls(data_type, batch.num_rows());
            return Ok(Some(self.expressions.iter().map(nulls).collect()));
        }
        if selected * one_in >= batch.num_rows() {
            return Ok(None);
        }
        let values = self.computed(&compute::filter_record_batch(&batch.project(&self.columns)?, rows)?)?;
        let places = places(rows);
        values.iter().map(|values| Ok(compute::take(values, &places, None)?)).collect::<Result<_>>().map(Some)
    }

    /// The values for a batch of the read columns.
    fn computed(&self, read: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let value = |(expression, _): &(Arc<dyn PhysicalExpr>, DataType)| {
            expression.evaluate(read)?.into_array(read.num_rows())
        };
        self.expressions.iter().map(value).collect()
    }
}

/// Returns for each selected row its index among the selected rows, and null for the others.
fn places(rows: &BooleanArray) -> UInt32Array {
    let mut places = 0..;
    rows.values().iter().map(|is_selected| if is_selected { places.next() } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _, StringArray, new_null_array};
    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::engine::functions;

    #[test]
    fn selected_rows_have_the_values_of_the_whole_batch() {
        let fields = ["other", "json"].map(|name| Field::new(name, DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let rows = 40;
        let json: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!(r#"{{"a":"{row}"}}"#))));
        let batch =
            RecordBatch::try_new(Arc::clone(&schema), vec![new_null_array(&DataType::Utf8, rows), json]).unwrap();
        let value = Expression::call("text_at", [Expression::column("json"), Expression::text("a")]);
        let expressions = [value, Expression::text("constant")];
        let computed = RowExpressions::new(&*functions::REGISTRY, &expressions, &schema).unwrap();
        let texts = |row: usize| [row.to_string(), "constant".to_owned()];
        let all = computed.of_all(&batch).unwrap();
        assert!((0..rows).all(|row| all.iter().map(|values| values.as_string::<i32>().value(row)).eq(texts(row))));
        for every in [11, 13, 100] {
            let selected: BooleanArray = (0..rows).map(|row| Some(row % every == 3)).collect();
            let few = computed.of_few(&batch, &selected, 8).unwrap().unwrap();
            for row in 0..rows {
                let values =
                    few.iter().map(|values| values.is_valid(row).then(|| values.as_string::<i32>().value(row)));
                let expected = texts(row).map(|text| selected.value(row).then_some(text));
                assert!(values.eq(expected.iter().map(Option::as_deref)), "row {row}, each {every}th");
            }
        }
        let none = computed.of_few(&batch, &BooleanArray::from(vec![false; rows]), 8).unwrap().unwrap();
        assert!(none.iter().all(|values| values.null_count() == rows));
        let many: BooleanArray = (0..rows).map(|row| Some(row % 8 == 3)).collect();
        assert!(computed.of_few(&batch, &many, 8).unwrap().is_none());
        let unknown = [Expression::column("missing")];
        assert!(RowExpressions::new(&*functions::REGISTRY, &unknown, &schema).is_err());
    }
}
