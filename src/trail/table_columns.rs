//! The columns that a table's metadata declare.

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumns {
    /// How the columns of a file are matched with them.
    pub key: ColumnKey,
    /// The columns that files have. Partition columns of a Delta table are not among them.
    pub columns: Vec<TableColumn>,
}

/// What identifies a column in a Parquet file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKey {
    /// Its name.
    Name,
    /// Its field ID.
    FieldId,
}

/// A column of a table, or a member of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name in the table.
    pub name: String,
    /// Its name in files.
    pub physical_name: String,
    /// Its field ID in files.
    pub field_id: Option<i32>,
    /// The members, if it is a struct, or a list or a map of structs.
    pub members: Vec<TableColumn>,
}

impl TableColumns {
    /// Returns whether files may have other names for the columns than the table.
    pub fn are_renamed(&self) -> bool {
        fn is_renamed(column: &TableColumn) -> bool {
            column.name != column.physical_name || column.members.iter().any(is_renamed)
        }
        self.key == ColumnKey::FieldId || self.columns.iter().any(is_renamed)
    }
}

impl ColumnKey {
    /// Returns the column among `columns` that a file's column with this name and field ID holds.
    pub fn find<'c>(self, columns: &'c [TableColumn], name: &str, field_id: Option<i32>) -> Option<&'c TableColumn> {
        columns.iter().find(|column| match self {
            ColumnKey::Name => column.physical_name == name,
            ColumnKey::FieldId => field_id.is_some() && column.field_id == field_id,
        })
    }
}
