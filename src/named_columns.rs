//! Columns of record batches, found by name and type.

use arrow::array::TimestampMicrosecondArray;
use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray as _, Int64Array, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::error::Error;

/// A batch has no column of this name and type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rows have no column `{name}` of the type {data_type}")]
pub struct MissingColumn {
    name: String,
    data_type: DataType,
}

/// The query that returned the batch is this program's own, so it always has the column.
impl From<MissingColumn> for Error {
    fn from(error: MissingColumn) -> Error {
        Error::Internal(error.to_string())
    }
}

impl From<MissingColumn> for ArrowError {
    fn from(error: MissingColumn) -> ArrowError {
        ArrowError::SchemaError(error.to_string())
    }
}

/// Returns the column of texts.
///
/// # Errors
/// The batch has no such column.
pub fn texts<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b StringArray, MissingColumn> {
    typed(batch, name, &DataType::Utf8, |column| column.as_string_opt::<i32>())
}

/// Returns the column of whole numbers.
///
/// # Errors
/// The batch has no such column.
pub fn integers<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b Int64Array, MissingColumn> {
    primitives::<Int64Type>(batch, name)
}

/// Returns the column of times, in microseconds since the epoch.
///
/// # Errors
/// The batch has no such column.
pub fn times<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b TimestampMicrosecondArray, MissingColumn> {
    primitives::<TimestampMicrosecondType>(batch, name)
}

fn primitives<'b, T: ArrowPrimitiveType>(
    batch: &'b RecordBatch,
    name: &str,
) -> Result<&'b PrimitiveArray<T>, MissingColumn> {
    typed(batch, name, &T::DATA_TYPE, |column| column.as_primitive_opt::<T>())
}

fn typed<'b, A>(
    batch: &'b RecordBatch,
    name: &str,
    data_type: &DataType,
    downcast: impl FnOnce(&'b ArrayRef) -> Option<&'b A>,
) -> Result<&'b A, MissingColumn> {
    let missing = || MissingColumn { name: name.to_owned(), data_type: data_type.clone() };
    batch.column_by_name(name).and_then(downcast).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn columns_are_found_by_name_and_type_in_any_order() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        for order in [[("n", &number), ("t", &text)], [("t", &text), ("n", &number)]] {
            let columns = order.map(|(name, column)| (name, Arc::clone(column)));
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            assert_eq!(integers(&batch, "n").unwrap().value(0), 7);
            assert_eq!(texts(&batch, "t").unwrap().value(0), "a");
            assert!(texts(&batch, "n").is_err() && integers(&batch, "x").is_err());
            let error = times(&batch, "n").unwrap_err().to_string();
            assert!(error.starts_with("the rows have no column `n` of the type Timestamp"), "{error}");
        }
    }
}
