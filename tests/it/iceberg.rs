//! Iceberg tables that other tools write: their live records, and nothing else, at each snapshot.

mod catalog;
mod deletes;
mod snapshots;
mod writer;
