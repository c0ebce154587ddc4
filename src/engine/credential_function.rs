//! `credential(…)`: the columns that tell which credential made a call, as one text.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;

use super::functions::not_text;
use crate::sql::credential;

/// Registers the function in a session.
pub(super) fn register(context: &SessionContext) {
    let takes = vec![DataType::Utf8; credential::names().count()];
    let call = |arguments: &[ColumnarValue]| {
        let columns = ColumnarValue::values_to_arrays(arguments)?;
        Ok(ColumnarValue::Array(Arc::new(credentials(&columns)?)))
    };
    context.register_udf(create_udf(
        credential::FUNCTION,
        takes,
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(call),
    ));
}

/// Returns for each row of some columns of texts a JSON array of its texts and nulls.
fn credentials(columns: &[ArrayRef]) -> Result<StringArray> {
    let text = |column| ArrayRef::as_string_opt::<i32>(column).ok_or_else(|| not_text(column));
    let texts = columns.iter().map(text).collect::<Result<Vec<_>>>()?;
    let rows = columns.first().map_or(0, arrow::array::Array::len);
    let of_row = |row: usize| {
        let values: Vec<Option<&str>> =
            texts.iter().map(|texts| texts.is_valid(row).then(|| texts.value(row))).collect();
        serde_json::to_string(&values).map(Some).map_err(|error| DataFusionError::External(Box::new(error)))
    };
    (0..rows).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_nulls_are_kept_apart() {
        let columns: [ArrayRef; 2] = [
            Arc::new(StringArray::from(vec![Some("a\",\"b"), None, Some("")])),
            Arc::new(StringArray::from(vec![None, Some("null"), Some("c")])),
        ];
        let found = credentials(&columns).unwrap();
        let found: Vec<Option<&str>> = found.iter().collect();
        assert_eq!(found, [Some(r#"["a\",\"b",null]"#), Some(r#"[null,"null"]"#), Some(r#"["","c"]"#)]);
    }
}
