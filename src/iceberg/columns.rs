//! The columns of a snapshot, which its files have by field ID: a column may have been renamed since.

use iceberg::spec::{NestedFieldRef, Schema, Type};

use crate::trail::{ColumnKey, TableColumn, TableColumns};

/// Returns the columns of `schema`.
///
/// # Errors
/// A column has a default value for files that lack it.
pub(super) fn of_schema(schema: &Schema) -> Result<TableColumns, String> {
    Ok(TableColumns { key: ColumnKey::FieldId, columns: members_of(schema.as_struct().fields(), "")? })
}

fn members_of(fields: &[NestedFieldRef], path: &str) -> Result<Vec<TableColumn>, String> {
    let column = |field: &NestedFieldRef| {
        let name = &field.name;
        if field.initial_default.is_some() {
            return Err(format!("its column `{path}{name}` has a default value, which is not supported"));
        }
        Ok(TableColumn {
            name: name.clone(),
            physical_name: name.clone(),
            field_id: Some(field.id),
            members: members_below(&field.field_type, &format!("{path}{name}."))?,
        })
    };
    fields.iter().map(column).collect()
}

/// Returns the members of a struct, and those of structs in a list or a map.
fn members_below(data_type: &Type, path: &str) -> Result<Vec<TableColumn>, String> {
    match data_type {
        Type::Primitive(_) => Ok(Vec::new()),
        Type::Struct(members) => members_of(members.fields(), path),
        Type::List(list) => members_below(&list.element_field.field_type, path),
        Type::Map(map) => {
            let mut members = members_below(&map.key_field.field_type, path)?;
            members.extend(members_below(&map.value_field.field_type, path)?);
            Ok(members)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(fields: &str) -> Result<TableColumns, String> {
        of_schema(
            &serde_json::from_str(&format!(r#"{{"schema-id": 0, "type": "struct", "fields": [{fields}]}}"#)).unwrap(),
        )
    }

    #[test]
    fn columns_and_members_have_their_ids() {
        let who = r#"{"id": 3, "name": "who", "required": false, "type": {"type": "list", "element-id": 5, "element-required": false,
            "element": {"type": "struct", "fields": [{"id": 4, "name": "arn", "required": false, "type": "string"}]}}}"#;
        let columns =
            columns(&format!(r#"{{"id": 1, "name": "eventTime", "type": "timestamptz", "required": false}}, {who}"#))
                .unwrap();
        assert_eq!(columns.key, ColumnKey::FieldId);
        let ids: Vec<_> = columns.columns.iter().map(|column| (column.name.as_str(), column.field_id)).collect();
        assert_eq!(ids, [("eventTime", Some(1)), ("who", Some(3))]);
        assert_eq!(columns.columns[1].members[0].field_id, Some(4));
    }

    #[test]
    fn default_values_are_refused_by_name() {
        let column = r#"{"id": 1, "name": "kind", "required": false, "type": "string", "initial-default": "x"}"#;
        assert!(columns(column).unwrap_err().contains("`kind` has a default value"));
        let null = r#"{"id": 1, "name": "kind", "required": false, "type": "string", "initial-default": null}"#;
        columns(null).unwrap();
    }
}
