//! The SQL by which a user's own query sees each record once.

use askama::Template as _;

use super::quote::Ident;
use super::quote::column_list;
use crate::error::Error;
use crate::event::{self, CONTENT_ID, ColumnKind, EVENT_TIME_TEXT, OTHER_FIELDS};

/// The table that `sql/distinct_records.sql` reads. No user's SQL sees it.
pub const TABLE: &str = "tawny.records";

/// The column of a record's identity while duplicates are dropped.
pub const ROW_ID: &str = "tawny.row_id";

#[derive(askama::Template)]
#[template(path = "distinct_records.sql", escape = "none")]
struct DistinctRecords {
    columns: String,
    all_columns: String,
}

/// The query of the records of [`TABLE`], which has our columns, each `eventID` once. Which of several records it is
/// does not depend on the columns that are read.
pub fn distinct_records() -> Result<String, Error> {
    let columns: Vec<String> = event::schema().fields().iter().map(|field| field.name().clone()).collect();
    let text = |(name, kind): &(&str, ColumnKind)| {
        let column = Ident((*name).to_owned()).to_string();
        if *kind == ColumnKind::Flag { format!("CAST({column} AS VARCHAR)") } else { column }
    };
    let own = [EVENT_TIME_TEXT, CONTENT_ID, OTHER_FIELDS].map(|name| Ident(name.to_owned()).to_string());
    let texts: Vec<String> = event::TOP_LEVEL.iter().map(text).chain(own).collect();
    let query = DistinctRecords { columns: column_list(&columns), all_columns: texts.join(", ") };
    query.render().map_err(|error| Error::Internal(format!("the SQL of distinct records: {error}")))
}
