//! Batch hunts for threshold rules over AWS `CloudTrail`.
//!
//! Data flows one way, in the order of the modules; what is shown of them is escaped by [`text`]. A raw trail is read ([`store`], [`raw`]) into
//! columns ([`event`], [`trail`]) and kept as a lake ([`lake`], [`convert`]); a rule ([`rule`])
//! becomes SQL ([`mod@sql`]), which the engine ([`engine`]) runs over lake or trail; its rows are
//! findings ([`finding`], [`hunt`]), which are reported ([`report`], [`output`]) by the commands
//! ([`cli`]), or delivered to where a user wants them ([`sink`]). Parquet of other tools ([`layout`]) goes the same way, and so does a user's own SQL ([`query`],
//! [`inspect`]), and what a rule would find with other windows ([`backtest`]). Night after night the same is done for what is new ([`nightly`]), and delivered ([`sink`]). A module uses only those above it.

pub mod text;
pub mod error;
pub mod time;
pub mod path;
pub mod http_client;
pub mod store;
pub mod raw;
pub mod event;
pub mod statistics;
pub mod trail;
pub mod delta;
pub mod lake;
pub mod convert;
pub mod rule;
pub mod sql_limits;
pub mod layout;
pub mod sql;
pub mod engine;
pub mod iceberg;
pub mod table;
pub mod finding;
pub mod hunt;
pub mod query;
pub mod inspect;
pub mod backtest;
pub mod sink;
pub mod nightly;
pub mod report;
pub mod output;
pub mod cli;
