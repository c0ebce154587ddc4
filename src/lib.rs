//! Batch hunts for threshold rules over AWS `CloudTrail`.
//!
//! Data flows one way, in the order of the modules below. A module uses only modules above it.
//!
//! - **Shared by all:** [`text`] escapes everything that is shown; [`error`], [`named_columns`], [`time`], [`path`].
//! - **Records:** [`store`] reads objects, [`raw`] unpacks them, [`event`] makes columns, [`trail`] lists and decodes raw trails.
//!   [`verify`] checks them against CloudTrail's digests.
//! - **Lakes:** [`lake`] and [`delta`] hold records as Parquet with a transaction log; [`convert`] writes them.
//! - **Rules:** [`rule`] reads rules, and [`mod@sql`] turns them into queries.
//! - **Queries:** [`engine`] runs them over a lake, a raw trail, or Parquet of other tools ([`layout`], [`iceberg`]). A [`table`]
//!   is any of these.
//! - **Commands:** [`hunt`] returns [`finding`]s, and [`risk`] ranks actors by them; [`query`], [`inspect`], [`verify`], [`trace`],
//!   [`backtest`], [`tune`] and [`nightly`] build on the same parts.
//! - **Results:** [`sink`] delivers findings, [`report`] and [`output`] show them. [`cli`] has the commands.

pub mod text;
pub mod error;
pub mod panics;
pub mod named_columns;
pub mod time;
pub mod path;
pub mod http_client;
pub mod store;
pub mod raw;
pub mod event;
pub mod statistics;
pub mod trail;
pub mod verify;
pub mod delta;
pub mod lake;
pub mod convert;
pub mod rule;
pub mod sql;
pub mod sql_limits;
pub mod layout;
pub mod engine;
pub mod iceberg;
pub mod table;
pub mod finding;
pub mod trace;
pub mod hunt;
pub mod risk;
pub mod query;
pub mod inspect;
pub mod backtest;
pub mod tune;
pub mod sink;
pub mod nightly;
pub mod report;
pub mod output;
pub mod cli;
