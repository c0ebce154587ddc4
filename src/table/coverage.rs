//! Why a result is empty: whether data hold any record that was asked for.

use datafusion::error::DataFusionError;

use super::Table;
use crate::engine::{EventSelection, Resources};
use crate::error::Error;
use crate::time::Range;
use crate::trail::Prefilter;

/// Whether a table holds records that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// It may.
    Covered,
    /// It holds no record.
    Empty,
    /// It holds no record of the selected accounts and regions.
    NotSelected,
    /// Its records of the selection are all older or newer than the range.
    OutOfRange {
        /// The time of the oldest, in microseconds.
        oldest: i64,
        /// The time of the newest, in microseconds.
        newest: i64,
    },
    /// No object was found, not even one that is left out.
    NoObjects {
        /// The time of the newest event in the objects that were delivered last, where a range was asked for.
        newest: Option<String>,
    },
    /// The objects hold text that is not CloudTrail.
    NoCloudTrail,
}

impl Coverage {
    /// The coverage of `range` by records with times in `span`, from the oldest to the newest.
    pub(super) fn of_span(range: Range, span: Option<(i64, i64)>) -> Coverage {
        match span {
            Some((oldest, newest)) if !range.overlaps(oldest, newest) => Coverage::OutOfRange { oldest, newest },
            _ => Coverage::Covered,
        }
    }
}

/// Returns the coverage of `range` by the records of `table`. Reads one record, and the times of all where there is none
/// in the range.
///
/// # Errors
/// The records cannot be read.
pub(super) async fn of_records(resources: &Resources, table: &dyn Table, range: Range) -> Result<Coverage, Error> {
    let everything = Range::default();
    let records = async |resources: &Resources, range| {
        let snapshot = table.snapshot(range).await?;
        Ok::<_, Error>(snapshot.records(resources, Prefilter::default()).await?.provider)
    };
    if resources.has_records(records(resources, range).await?, range).await.map_err(failed)? {
        return Ok(Coverage::Covered);
    }
    if let Some(span) = resources.time_span(records(resources, everything).await?).await.map_err(failed)? {
        return Ok(Coverage::of_span(range, Some(span)));
    }
    // Records without a readable time are in no range.
    if resources.has_records(records(resources, everything).await?, everything).await.map_err(failed)? {
        return Ok(Coverage::Covered);
    }
    if resources.selection.is_all() {
        return Ok(Coverage::Empty);
    }
    let all = resources.clone().with_selection(EventSelection::default());
    let has_records = all.has_records(records(&all, everything).await?, everything).await.map_err(failed)?;
    Ok(if has_records { Coverage::NotSelected } else { Coverage::Empty })
}

pub(super) fn failed(error: DataFusionError) -> Error {
    Error::query("the records of the selection", error)
}
