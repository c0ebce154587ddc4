//! The types of the columns of files, and one type for a column that several files have.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};

use crate::layout;

/// Returns the Arrow types by which columns are read. Bytes stay bytes, also where the file declares them as text. Offsets of texts
/// and lists have 32 bits.
pub(super) fn as_read(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| Arc::new(field_as_read(field))).collect::<Vec<_>>())
}

fn field_as_read(field: &Field) -> Field {
    field.clone().with_data_type(type_as_read(field.data_type()))
}

fn type_as_read(data_type: &DataType) -> DataType {
    let below = |field: &FieldRef| Arc::new(field_as_read(field));
    match data_type {
        DataType::Dictionary(_, values) => type_as_read(values),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => DataType::Binary,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(below).collect()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => DataType::List(below(item)),
        DataType::Map(entries, sorted) => DataType::Map(below(entries), *sorted),
        other => other.clone(),
    }
}

/// Returns the same field, nullable with all its members: other files may lack it.
pub(super) fn nullable(field: &Field) -> Field {
    let below = |field: &FieldRef| Arc::new(nullable(field));
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(below).collect()),
        DataType::List(item) => DataType::List(below(item)),
        other => other.clone(),
    };
    Field::new(field.name(), data_type, true)
}

/// Returns the type of a column after its bytes are converted to text.
pub(super) fn as_text(data_type: &DataType) -> DataType {
    let below = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(as_text(field.data_type())));
    match data_type {
        DataType::Binary => DataType::Utf8,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(below).collect()),
        DataType::List(item) => DataType::List(below(item)),
        DataType::Map(entries, sorted) => DataType::Map(below(entries), *sorted),
        other => other.clone(),
    }
}

/// Why two fields of one name have no type in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misfit {
    /// One is bytes and the other, for example, a number. Each can be converted to text, but not by one reading of both.
    Apart,
    /// Their types have different meanings. The text names them.
    Refused(String),
}

/// Returns the field whose type holds the values of both.
pub(super) fn unified(a: &Field, b: &Field) -> Result<Field, Misfit> {
    let data_type = match (a.data_type(), b.data_type()) {
        (a, b) if a == b => a.clone(),
        (DataType::Null, other) | (other, DataType::Null) => other.clone(),
        (DataType::Timestamp(_, zone), DataType::Timestamp(_, other)) => {
            // A time without a zone is UTC.
            let zone = if zone == other { zone.clone() } else { Some("UTC".into()) };
            DataType::Timestamp(TimeUnit::Microsecond, zone)
        }
        (DataType::Struct(first), DataType::Struct(second)) => {
            let mut fields: Vec<FieldRef> = first.iter().cloned().collect();
            for field in second {
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    None => fields.push(Arc::clone(field)),
                    Some(known) => *known = Arc::new(unified(known, field)?),
                }
            }
            DataType::Struct(fields.into())
        }
        (DataType::List(first), DataType::List(second)) => DataType::List(Arc::new(unified(first, second)?)),
        (first, second)
            if layout::plain(a.name()).ends_with("accountid") && (first.is_integer() || second.is_integer()) =>
        {
            let (name, first, second) = (a.name(), as_text(first), as_text(second));
            return Err(Misfit::Refused(format!(
                "its column `{name}` is {second}, and theirs is {first}: numbers of accounts have lost their zeros"
            )));
        }
        (a, b) if !a.is_nested() && !b.is_nested() && !is_time(a) && !is_time(b) => {
            if is_bytes(a) || is_bytes(b) {
                return Err(Misfit::Apart);
            }
            DataType::Utf8
        }
        (first, second) => {
            let (name, first, second) = (a.name(), as_text(first), as_text(second));
            return Err(Misfit::Refused(format!("its column `{name}` is {second}, and theirs is {first}")));
        }
    };
    Ok(Field::new(a.name(), data_type, true))
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::FixedSizeBinary(_))
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_numbers_are_never_read_as_one() {
        let field = |data_type| Field::new("c", data_type, true);
        let both = |a, b| unified(&field(a), &field(b)).map(|field| field.data_type().clone());
        assert_eq!(both(DataType::Int64, DataType::Boolean), Ok(DataType::Utf8));
        assert_eq!(both(DataType::Binary, DataType::Binary), Ok(DataType::Binary));
        // The engine would take the bytes of the number for a text.
        assert_eq!(both(DataType::Binary, DataType::Int64), Err(Misfit::Apart));
        assert_eq!(both(DataType::FixedSizeBinary(16), DataType::Binary), Err(Misfit::Apart));
        let group = |data_type| DataType::Struct(vec![field(data_type)].into());
        assert_eq!(both(group(DataType::Int64), group(DataType::Binary)), Err(Misfit::Apart));
        assert!(matches!(both(DataType::Binary, group(DataType::Binary)), Err(Misfit::Refused(_))));
    }
}
