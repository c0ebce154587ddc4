//! The columns of a Parquet file by the names that its table's metadata declare.
//!
//! A table may rename a column without rewriting its files, and may drop one. Then the names in the files are other names,
//! or the names of other columns. So the names are replaced in the footer, before anything looks a column up by name.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use parquet::basic::{ConvertedType, Repetition};
use parquet::schema::types::{Type, TypePtr};

use crate::trail::{ColumnKey, TableColumn, TableColumns};

/// The beginning of the name of a column or member that the table does not declare.
const UNDECLARED: &str = "\u{1}";

/// Returns the root of a file's schema with the table's names of its columns. The error says why it has none.
pub(super) fn named(root: &Type, table: &TableColumns) -> Result<TypePtr, String> {
    if table.key == ColumnKey::FieldId
        && let Some(column) = column_without_id(root, false)
    {
        return Err(format!(
            "its column `{column}` has no field ID, so the table cannot say which column it is: rewrite the file"
        ));
    }
    let named = with_named_members(root, root.name(), table, &table.columns);
    named.map(Arc::new).map_err(|error| format!("its columns cannot be read: {error}"))
}

/// Returns a column or member below `of` without a field ID. The groups inside of a list or a map have none.
fn column_without_id(of: &Type, is_repeated: bool) -> Option<&str> {
    if of.is_primitive() {
        return None;
    }
    of.get_fields().iter().find_map(|member| {
        let info = member.get_basic_info();
        if !is_repeated && !info.has_id() {
            return Some(member.name());
        }
        let is_inner = info.has_repetition() && info.repetition() == Repetition::REPEATED;
        let has_inner =
            matches!(info.converted_type(), ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
        column_without_id(member, has_inner && !is_inner)
    })
}

/// Returns `of` with the name `name`, and its members with the names of `columns`.
fn with_named_members(
    of: &Type,
    name: &str,
    table: &TableColumns,
    columns: &[TableColumn],
) -> parquet::errors::Result<Type> {
    let member = |member: &TypePtr| {
        let info = member.get_basic_info();
        let field_id = info.has_id().then(|| info.id());
        let declared = match table.key.find(columns, member.name(), field_id) {
            Some(column) => with_name(member, &column.name, table, &column.members),
            None => with_name(member, &format!("{UNDECLARED}{}", member.name()), table, &[]),
        };
        declared.map(Arc::new)
    };
    with_fields(of, name, of.get_fields().iter().map(member).collect::<parquet::errors::Result<_>>()?)
}

/// Returns `of`, a column whose members are `columns`, with the name `name`.
fn with_name(of: &Type, name: &str, table: &TableColumns, columns: &[TableColumn]) -> parquet::errors::Result<Type> {
    if of.is_primitive() {
        return with_primitive_name(of, name);
    }
    let is_repeated = matches!(
        of.get_basic_info().converted_type(),
        ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE
    );
    if !is_repeated {
        return with_named_members(of, name, table, columns);
    }
    // A list or map has one repeated group, and that the item, or the key and the value.
    let below = |below: &TypePtr| {
        let named = if below.is_primitive() {
            below.as_ref().clone()
        } else {
            let item = |item: &TypePtr| with_name(item, item.name(), table, columns).map(Arc::new);
            let items = below.get_fields().iter().map(item).collect::<parquet::errors::Result<_>>()?;
            with_fields(below, below.name(), items)?
        };
        Ok(Arc::new(named))
    };
    with_fields(of, name, of.get_fields().iter().map(below).collect::<parquet::errors::Result<_>>()?)
}

fn with_fields(of: &Type, name: &str, fields: Vec<TypePtr>) -> parquet::errors::Result<Type> {
    let info = of.get_basic_info();
    let mut group = Type::group_type_builder(name).with_fields(fields).with_id(info.has_id().then(|| info.id()));
    if info.has_repetition() {
        group = group.with_repetition(info.repetition());
    }
    group.with_converted_type(info.converted_type()).with_logical_type(info.logical_type_ref().cloned()).build()
}

fn with_primitive_name(of: &Type, name: &str) -> parquet::errors::Result<Type> {
    let Type::PrimitiveType { basic_info: info, physical_type, type_length, scale, precision } = of else {
        return Ok(of.clone());
    };
    Type::primitive_type_builder(name, *physical_type)
        .with_repetition(info.repetition())
        .with_converted_type(info.converted_type())
        .with_logical_type(info.logical_type_ref().cloned())
        .with_length(*type_length)
        .with_scale(*scale)
        .with_precision(*precision)
        .with_id(info.has_id().then(|| info.id()))
        .build()
}

/// Returns the columns and members of a file that its table declares.
pub(in crate::engine) fn declared(schema: &Schema) -> Schema {
    Schema::new(declared_fields(schema.fields()))
}

fn declared_fields(fields: &Fields) -> Fields {
    let is_declared = |field: &&FieldRef| !field.name().starts_with(UNDECLARED);
    fields.iter().filter(is_declared).map(|field| Arc::new(declared_below(field))).collect()
}

fn declared_below(field: &Field) -> Field {
    let below = |field: &FieldRef| Arc::new(declared_below(field));
    let data_type = match field.data_type() {
        DataType::Struct(members) => DataType::Struct(declared_fields(members)),
        DataType::List(item) => DataType::List(below(item)),
        DataType::Map(entries, sorted) => DataType::Map(below(entries), *sorted),
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}
