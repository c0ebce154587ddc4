//! Columns that say nothing, which share their memory. All texts of such a column are null, or all its flags unset. Most columns of
//! matches say nothing in most batches, because a value is only computed for the rules that need it.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{self, FilterBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;

/// Rows of the shared columns. Columns with more rows have memory of their own.
const SHARED_ROWS: usize = 16_384;

static NO_TEXTS: LazyLock<ArrayRef> = LazyLock::new(|| new_null_array(&DataType::Utf8, SHARED_ROWS));
static NO_TEXT_VIEWS: LazyLock<ArrayRef> = LazyLock::new(|| new_null_array(&DataType::Utf8View, SHARED_ROWS));
static NO_FLAGS: LazyLock<ArrayRef> =
    LazyLock::new(|| Arc::new(BooleanArray::new(BooleanBuffer::new_unset(SHARED_ROWS), None)));

/// Returns a column of nulls.
pub(super) fn nulls(data_type: &DataType, rows: usize) -> ArrayRef {
    match data_type {
        DataType::Utf8 if rows <= SHARED_ROWS => NO_TEXTS.slice(0, rows),
        DataType::Utf8View if rows <= SHARED_ROWS => NO_TEXT_VIEWS.slice(0, rows),
        _ => new_null_array(data_type, rows),
    }
}

/// Returns a column that says nothing: flags that are not set if it must not be null, else nulls.
pub(super) fn empty(field: &Field, rows: usize) -> ArrayRef {
    match field.data_type() {
        DataType::Boolean if field.is_nullable() => nulls(field.data_type(), rows),
        DataType::Boolean if rows <= SHARED_ROWS => NO_FLAGS.slice(0, rows),
        DataType::Boolean => Arc::new(BooleanArray::new(BooleanBuffer::new_unset(rows), None)),
        data_type => nulls(data_type, rows),
    }
}

/// Returns whether a column is [`empty`].
pub(super) fn is_empty(field: &Field, column: &ArrayRef) -> bool {
    match column.as_boolean_opt() {
        Some(flags) if !field.is_nullable() => !flags.has_true(),
        _ => column.null_count() == column.len(),
    }
}

/// Returns a column as one of `data_type`. Without values, it shares its memory.
///
/// # Errors
/// It has values of a type that cannot be cast.
pub(super) fn cast(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.null_count() == column.len() {
        return Ok(nulls(data_type, column.len()));
    }
    compute::cast(column, data_type)
}

/// Returns the selected rows of a batch. Columns that say nothing share their memory.
///
/// # Errors
/// The batch has another number of rows.
pub(super) fn filter(batch: &RecordBatch, rows: &BooleanArray) -> Result<RecordBatch, ArrowError> {
    let count = rows.true_count();
    let predicate = FilterBuilder::new(rows).optimize().build();
    let filtered = |(field, column): (&Arc<Field>, &ArrayRef)| {
        if is_empty(field, column) { Ok(empty(field, count)) } else { predicate.filter(column) }
    };
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(filtered);
    RecordBatch::try_new(batch.schema(), columns.collect::<Result<_, _>>()?)
}

/// Returns the rows of all `batches`, which have this schema. Columns that say nothing share their memory.
///
/// # Errors
/// A column is too large.
pub(super) fn concat(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let joined = |(index, field): (usize, &Arc<Field>)| {
        let parts: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(index)).collect();
        if parts.iter().all(|part| is_empty(field, part)) {
            return Ok(empty(field, rows));
        }
        compute::concat(&parts.into_iter().map(AsRef::as_ref).collect::<Vec<_>>())
    };
    let columns = schema.fields().iter().enumerate().map(joined).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// Returns a batch whose columns that say nothing share their memory.
///
/// # Errors
/// A column has nulls where it must not.
pub(super) fn shared(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let shared = |(field, column): (&Arc<Field>, &ArrayRef)| {
        if is_empty(field, column) { empty(field, column.len()) } else { Arc::clone(column) }
    };
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(shared).collect();
    RecordBatch::try_new(batch.schema(), columns)
}

/// Returns the bytes that a batch of [`shared`], [`filter`] or [`concat`] holds. What columns share does not count.
pub(super) fn held_bytes(batch: &RecordBatch) -> usize {
    let held = |(field, column): (&Arc<Field>, &ArrayRef)| {
        let is_of_shared_type = match field.data_type() {
            DataType::Utf8 | DataType::Utf8View => true,
            DataType::Boolean => !field.is_nullable(),
            _ => false,
        };
        let is_shared = is_of_shared_type && column.len() <= SHARED_ROWS && is_empty(field, column);
        let bytes = column.get_array_memory_size();
        size_of::<ArrayRef>() + if is_shared { bytes - column.get_buffer_memory_size() } else { bytes }
    };
    batch.schema_ref().fields().iter().zip(batch.columns()).map(held).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use arrow::array::StringArray;
    use arrow::datatypes::Schema;

    use super::*;

    /// Returns a batch with columns of each kind. The second, the fourth and the fifth say nothing.
    pub(in crate::engine) fn batch(rows: usize) -> RecordBatch {
        let texts: ArrayRef =
            Arc::new((0..rows).map(|row| (row % 3 > 0).then(|| row.to_string())).collect::<StringArray>());
        let flags: ArrayRef = Arc::new((0..rows).map(|row| Some(row % 2 == 1)).collect::<BooleanArray>());
        let columns = [
            ("texts", texts),
            ("no texts", nulls(&DataType::Utf8, rows)),
            ("flags", flags),
            ("no flags", empty(&Field::new("", DataType::Boolean, false), rows)),
            ("null flags", nulls(&DataType::Boolean, rows)),
        ];
        let field = |(name, column): &(&str, ArrayRef)| {
            Field::new(*name, column.data_type().clone(), !matches!(*name, "flags" | "no flags"))
        };
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), columns.map(|(_, column)| column).to_vec()).unwrap()
    }

    #[test]
    fn rows_are_those_of_arrow() {
        for rows in [0, 1, 7, 100, SHARED_ROWS, SHARED_ROWS + 1] {
            let batch = batch(rows);
            for every in [1, 2, 9] {
                let selected: BooleanArray = (0..rows).map(|row| Some(row % every == 0)).collect();
                let expected = compute::filter_record_batch(&batch, &selected).unwrap();
                assert_eq!(filter(&batch, &selected).unwrap(), expected, "{rows} rows, each {every}th");
            }
            let parts = [batch.clone(), batch.slice(0, rows / 2), batch.slice(rows / 2, rows - rows / 2)];
            let expected = compute::concat_batches(&batch.schema(), &parts).unwrap();
            assert_eq!(concat(&batch.schema(), &parts).unwrap(), expected, "{rows} rows");
        }
    }

    #[test]
    fn empty_columns_share_their_memory() {
        let batch = batch(100);
        let selected: BooleanArray = (0..100).map(|row| Some(row < 40)).collect();
        let joined = concat(&batch.schema(), &vec![filter(&batch, &selected).unwrap(); 3]).unwrap();
        let at = |batch: &RecordBatch| batch.column(1).to_data().buffers()[0].as_ptr();
        assert_eq!(at(&joined), at(&batch));
        assert!(held_bytes(&joined) < 4_000, "{}", held_bytes(&joined));
        let apart = RecordBatch::try_new(
            batch.schema(),
            vec![new_null_array(&DataType::Utf8, 100); 2].into_iter().chain(batch.columns()[2..].to_vec()).collect(),
        );
        let shared = shared(&apart.unwrap()).unwrap();
        assert_eq!([0, 1].map(|column| shared.column(column).to_data().buffers()[0].as_ptr()), [at(&batch); 2]);
        assert_eq!(cast(batch.column(1), &DataType::Utf8View).unwrap().null_count(), 100);
        assert_eq!(cast(batch.column(0), &DataType::Utf8View).unwrap().null_count(), 34);
    }
}
