//! Batch hunts for threshold rules over AWS `CloudTrail`.
pub mod error;
pub mod time;
pub mod store;
pub mod raw;
pub mod event;
pub mod tally;
pub mod trail;
pub mod lake;
pub mod convert;
pub mod rule;
pub mod sql;
pub mod engine;
pub mod finding;
pub mod hunt;
