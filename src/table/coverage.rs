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

/// Returns the coverage of `range` by the records of `table`. Reads one record, and the times of all records if the
/// range has none.
///
/// # Errors
/// The records cannot be read.
pub(super) async fn of_records(engine: &Engine, table: &dyn Table, range: Range) -> Result<Coverage, Error> {
    let unbounded = Range::default();
    let records = async |engine: &Engine, range| {
        let snapshot = table.snapshot(range).await?;
        Ok::<_, Error>(snapshot.records(engine, Prefilter::default()).await?.provider)
    };
    if engine.has_records(records(engine, range).await?, range).await.map_err(failed)? {
        return Ok(Coverage::Covered);
    }
    if let Some(span) = engine.time_span(records(engine, unbounded).await?).await.map_err(failed)? {
        return Ok(Coverage::of_span(range, Some(span)));
    }
    // Records without a readable time are in no bounded range.
    if engine.has_records(records(engine, unbounded).await?, unbounded).await.map_err(failed)? {
        return Ok(Coverage::Covered);
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
