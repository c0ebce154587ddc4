//! Whether data hold any record of a selection: why a result may be empty.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;

use super::{Data, RawTrail, table};
use crate::engine::raw_table::RawScan;
use crate::engine::{EventSelection, Resources};
use crate::error::Error;
use crate::lake::transaction_log::FileEntry;
use crate::store::Object;
use crate::time::Range;
use crate::trail::{Prefilter, Trail, delivered_on, delivery_stamp};

/// Whether a table holds records of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// Tells whether `data` hold records of the accounts and regions of `resources` with a time in `range`.
///
/// For a lake without such a selection, only its log is read; for other tables one record, and the times of all where
/// there is none in the range. The objects of a raw trail are counted as they are read; they are read again only where
/// their keys do not show accounts or regions that are selected.
///
/// # Errors
/// The data cannot be read.
pub async fn coverage(resources: &Resources, data: &Data, range: Range) -> Result<Coverage, Error> {
    let failed = |error| Error::query("the records of the selection", error);
    match data {
        Data::Memory(_) => return Ok(Coverage::Covered),
        Data::Raw(trail) => {
            let selection = trail.selection();
            if !selection.is_narrowed() {
                return Ok(Coverage::Covered);
            }
            let found = trail.find(range).await?;
            if found.objects.is_empty() || found.objects.iter().any(|object| selection.is_decided_by(&object.path)) {
                return Ok(Coverage::Covered);
            }
            let (_, table) = all_records(resources, trail, found).await.map_err(failed)?;
            let has_some = resources.has_records(table, Range::default()).await.map_err(failed)?;
            return Ok(if has_some { Coverage::Covered } else { Coverage::NotSelected });
        }
        Data::Lake(lake) => {
            let files = lake.files(Range::default()).await?;
            if files.is_empty() {
                return Ok(Coverage::Empty);
            }
            if resources.selection.is_all() {
                let spans: Vec<_> = files.iter().filter_map(FileEntry::time_span).collect();
                let oldest = spans.iter().map(|(first, _)| *first).min();
                let newest = spans.iter().map(|(_, last)| *last).max();
                return Ok(within(range, oldest.zip(newest)));
            }
        }
        // Files outside of the range need not be readable, and this only explains why a result is empty.
        Data::Columnar(_) => return Ok(of_table(resources, data, range).await.unwrap_or(Coverage::Covered)),
    }
    of_table(resources, data, range).await
}

/// Returns whether `trail` is one, by a few of the objects that its last search found: whether one holds CloudTrail
/// records, or all are empty. The prefilter of a hunt skips text without parsing it.
///
/// # Errors
/// The query fails.
pub async fn is_cloudtrail(resources: &Resources, trail: &RawTrail) -> Result<bool, Error> {
    let failed = |error| Error::query("a few objects", error);
    let of_all = resources.clone().with_selection(EventSelection::default());
    let (scan, table) = all_records(&of_all, trail, trail.sample()).await.map_err(failed)?;
    Ok(of_all.has_records(table, Range::default()).await.map_err(failed)? || scan.tally().records.read == 0)
}

/// Objects that are read to learn of the newest event: those of several regions are delivered side by side.
const NEWEST_OBJECTS: usize = 16;

/// Returns the time of the newest event in the objects of `trail` that were delivered last, in microseconds; `None` where
/// there are no objects or they have no readable time. The whole trail is listed, and a few objects are read.
///
/// # Errors
/// The trail cannot be listed.
pub async fn newest_event(resources: &Resources, trail: &RawTrail) -> Result<Option<i64>, Error> {
    let failed = |error| Error::query("the newest objects", error);
    let mut found = trail.find(Range::default()).await?;
    let delivered = |object: &Object| (delivered_on(&object.path), delivery_stamp(&object.path).to_owned());
    found.objects.sort_by_cached_key(delivered);
    found.objects.drain(..found.objects.len().saturating_sub(NEWEST_OBJECTS));
    let (_, table) = all_records(resources, trail, found).await.map_err(failed)?;
    let span = resources.time_span(table).await.map_err(failed)?;
    Ok(span.map(|(_, newest)| newest))
}

/// The selected records of the objects `found` of `trail`, without a prefilter, and the pass that reads them.
async fn all_records(
    resources: &Resources,
    trail: &RawTrail,
    found: Trail,
) -> Result<(Arc<RawScan>, Arc<dyn TableProvider>), DataFusionError> {
    let scan = trail.scan(found, Prefilter::default());
    let table = super::raw_table(resources, &scan).await?;
    Ok((scan, table))
}

async fn of_table(resources: &Resources, data: &Data, range: Range) -> Result<Coverage, Error> {
    let failed = |error| Error::query("the records of the selection", error);
    if resources.has_records(table(resources, data, range).await?, range).await.map_err(failed)? {
        return Ok(Coverage::Covered);
    }
    let everything = Range::default();
    let of_selection = || table(resources, data, everything);
    if let Some(span) = resources.time_span(of_selection().await?).await.map_err(failed)? {
        return Ok(within(range, Some(span)));
    }
    // Records without a readable time are in no range.
    if resources.has_records(of_selection().await?, everything).await.map_err(failed)? {
        return Ok(Coverage::Covered);
    }
    let of_all = table(&resources.clone().with_selection(EventSelection::default()), data, everything).await?;
    let is_empty = resources.selection.is_all() || !resources.has_records(of_all, everything).await.map_err(failed)?;
    Ok(if is_empty { Coverage::Empty } else { Coverage::NotSelected })
}

fn within(range: Range, span: Option<(i64, i64)>) -> Coverage {
    match span {
        Some((oldest, newest)) if !range.overlaps(oldest, newest) => Coverage::OutOfRange { oldest, newest },
        _ => Coverage::Covered,
    }
}
