//! All integration tests, in one binary, because each binary links the engine.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]
#![allow(clippy::disallowed_methods, reason = "tests read their own files and folders")]

mod backtest;
mod cli;
#[cfg(feature = "cluster")]
mod cluster;
mod compact;
mod dialects;
mod escapes;
mod duplicates;
mod faults;
mod flips;
mod follows;
mod formats;
mod fuzz;
mod golden_sql;
mod hostile;
mod identities;
mod lake_damage;
mod layers;
mod layouts;
mod library;
mod limits;
mod many_files;
mod many_matches;
mod nightly;
mod odd_keys;
mod optional;
mod oracle;
mod outcomes;
mod panther_outcomes;
mod places;
mod parquet_damage;
mod parquet_types;
mod plans;
mod predicates;
mod printed_sql;
mod ranges;
mod records;
mod reproducible;
mod rule_errors;
mod s3;
mod s3_server;
mod secrets;
mod selections;
mod sigma;
mod sinks;
mod special_files;
mod sweeps;
mod table_files;
mod tables;
mod times;
mod versions;
mod user_sql;
