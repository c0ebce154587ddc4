//! What a table does not tell of who acted.

use arrow::datatypes::DataType;

use super::Columnar;
use crate::event::identity::DECIDING;
use crate::layout::plain;

impl Columnar {
    /// Returns the members that decide who acted and that the struct `userIdentity` lacks. Empty where the column is
    /// JSON text, or where the layout says which SQL gives it.
    pub fn identity_lacks(&self) -> Vec<&'static str> {
        if self.layout.sql("userIdentity").is_some() {
            return Vec::new();
        }
        let columns = self.files.schema.table_schema().fields();
        let identity = columns.iter().find(|column| plain(column.name()) == plain("userIdentity"));
        let Some(DataType::Struct(members)) = identity.map(|column| column.data_type()) else {
            return Vec::new();
        };
        let has = |wanted: &str| members.iter().any(|member| plain(member.name()) == plain(wanted));
        DECIDING.into_iter().filter(|member| !has(member)).collect()
    }
}
