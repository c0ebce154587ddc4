//! Explains empty results: whether a table holds any record of the range and selection.

use datafusion::error::DataFusionError;

use super::Table;
use crate::engine::{Engine, EventSelection};
use crate::error::Error;
use crate::time::{Instant, Range};
use crate::trail::Prefilter;

/// Whether a table holds records of the range and selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// It may hold such records.
    Covered,
    /// It holds no records.
    Empty,
    /// It holds records, and none of them has a readable time.
    WithoutTimes,
    /// It holds no records of the selected accounts and regions.
    NotSelected,
    /// All of its selected records are older or newer than the range.
    OutOfRange {
        /// The time of the oldest record.
        oldest: Instant,
        /// The time of the newest record.
        newest: Instant,
    },
    /// The trail has no objects, not even excluded ones.
    NoObjects {
        /// The time of the newest event in the last delivered objects. `None` if the range is unbounded.
        newest: Option<Instant>,
    },
    /// The objects are not CloudTrail logs.
    NoCloudTrail,
}

impl Coverage {
    /// Returns the coverage of `range` by records whose oldest and newest times are `span`.
    pub(super) fn of_span(range: Range, span: Option<(Instant, Instant)>) -> Coverage {
        match span {
            Some((oldest, newest)) if !range.overlaps(oldest, newest) => Coverage::OutOfRange { oldest, newest },
            _ => Coverage::Covered,
        }
    }
}

/// Returns the coverage of `range` by the records of `table`. Reads a record with a time, and the times of all records if
/// the range has none.
///
/// # Errors
/// The records cannot be read.
pub(super) async fn of_records(engine: &Engine, table: &dyn Table, range: Range) -> Result<Coverage, Error> {
    let unbounded = Range::default();
    let records = async |engine: &Engine, range| {
        let snapshot = table.snapshot(range).await?;
        Ok::<_, Error>(snapshot.records(engine, Prefilter::default()).await?.provider)
    };
    // Every range with bounds leaves out records without a time.
    let (from, to) = range.event_times();
    let timed = Range { from: Some(from), to: Some(to) };
    if engine.has_records(records(engine, range).await?, timed).await.map_err(failed)? {
        return Ok(Coverage::Covered);
    }
    if let Some(span) = engine.time_span(records(engine, unbounded).await?).await.map_err(failed)? {
        return Ok(Coverage::of_span(range, Some(span)));
    }
    if engine.has_records(records(engine, unbounded).await?, unbounded).await.map_err(failed)? {
        return Ok(Coverage::WithoutTimes);
    }
    if engine.selection.is_all() {
        return Ok(Coverage::Empty);
    }
    let all = engine.clone().with_selection(EventSelection::default());
    let has_records = all.has_records(records(&all, unbounded).await?, unbounded).await.map_err(failed)?;
    Ok(if has_records { Coverage::NotSelected } else { Coverage::Empty })
}

pub(super) fn failed(error: DataFusionError) -> Error {
    Error::query("the records of the selection", error)
}
