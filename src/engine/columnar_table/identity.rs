//! Finds the fields of `userIdentity` that `actor` needs and a table lacks.

use arrow::datatypes::{DataType, Schema};

use crate::event::identity::DECIDING;
use crate::layout::{TableLayout, plain};

/// Returns the members that decide who acted and that the struct `userIdentity` of a table lacks. Empty where the column is
/// JSON text, or where the layout says which SQL gives it.
pub(super) fn lacking(layout: &TableLayout, columns: &Schema) -> Vec<&'static str> {
    if layout.sql("userIdentity").is_some() {
        return Vec::new();
    }
    let identity = columns.fields().iter().find(|column| plain(column.name()) == plain("userIdentity"));
    let Some(DataType::Struct(members)) = identity.map(|column| column.data_type()) else {
        return Vec::new();
    };
    let has = |wanted: &str| members.iter().any(|member| plain(member.name()) == plain(wanted));
    DECIDING.into_iter().filter(|member| !has(member)).collect()
}
