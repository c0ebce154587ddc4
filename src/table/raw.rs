//! A raw trail as a table. Only the objects that may hold events of a range are read.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{Coverage, Snapshot, SnapshotRecords, Table, TableKind, TableListing, coverage};
use crate::engine::raw_table::RawScans;
use crate::engine::{Engine, EventSelection};
use crate::error::Error;
use crate::statistics::ScanStatistics;
use crate::store::{Object, Stores};
use crate::time::{Instant, Range};
use crate::trail::{self, ObjectDelivery, Prefilter, Selection, Trail};

/// The number of objects sampled from a snapshot, to check whether a prefilter skipped CloudTrail at all.
const SAMPLED_OBJECTS: usize = 16;

/// The number of objects read to find the newest event. Several regions deliver at the same time.
const NEWEST_OBJECTS: usize = 16;

/// Called after every few objects with the total bytes to read and the scan statistics so far.
pub type ReadProgress = dyn Fn(u64, &ScanStatistics) + Send + Sync;

/// A raw trail: objects as CloudTrail delivers them.
pub struct RawTrail {
    stores: Stores,
    sources: Vec<String>,
    selection: Selection,
    in_flight: usize,
    progress: Arc<ReadProgress>,
    /// A sample of the objects of the last snapshot.
    sample: Mutex<Vec<Object>>,
}

impl fmt::Debug for RawTrail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawTrail").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl RawTrail {
    /// Returns the table of the objects under `sources` that `selection` admits. Reads `in_flight` objects at a time.
    pub fn new(
        stores: Stores,
        sources: Vec<String>,
        selection: Selection,
        in_flight: usize,
        progress: Arc<ReadProgress>,
    ) -> RawTrail {
        RawTrail { stores, sources, selection, in_flight, progress, sample: Mutex::default() }
    }

    /// Lists the objects that may hold events with a time in `range`.
    async fn find(&self, range: Range) -> Result<Arc<Trail>, Error> {
        let trail = Trail::find(&self.stores, &self.sources, &self.selection.during(range)).await?;
        if let Some(file) = &trail.table_file {
            return Err(file.error());
        }
        Ok(Arc::new(trail))
    }

    /// Checks that every source can be read by executors too.
    fn check_cluster(&self) -> Result<(), Error> {
        match self.sources.iter().find(|source| self.stores.spooled(source).is_some()) {
            None => Ok(()),
            Some(source) => Err(Error::Usage {
                message: format!("`{source}` is a stream, which executors of a cluster cannot read"),
                hint: Some("write it to a file or a bucket that they read, or hunt without `--cluster`".to_owned()),
            }),
        }
    }

    fn snapshot_of(&self, trail: Arc<Trail>) -> RawSnapshot<'_> {
        RawSnapshot { table: self, trail }
    }

    /// Returns the records of `objects`, without a prefilter.
    async fn records_of(&self, engine: &Engine, objects: Vec<Object>) -> Result<SnapshotRecords, Error> {
        let trail = Trail { stores: self.stores.clone(), objects, ..Trail::default() };
        self.snapshot_of(Arc::new(trail)).records(engine, Prefilter::default()).await
    }

    /// Returns whether the sampled objects of the last snapshot hold CloudTrail records or are empty. The prefilter of
    /// a hunt skips text without parsing it.
    async fn holds_cloudtrail(&self, engine: &Engine) -> Result<bool, Error> {
        let sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = engine.clone().with_selection(EventSelection::default());
        let records = self.records_of(&all, sample).await?;
        let has_records = all.has_records(Arc::clone(&records.provider), Range::default()).await;
        let has_records = has_records.map_err(|error| Error::query("a sample of objects", error))?;
        Ok(has_records || records.raw_statistics().records.read == 0)
    }

    /// Returns whether the objects of `range` hold records of the selected accounts and regions. Reads them only if
    /// their keys do not show it.
    async fn has_selected_records(&self, engine: &Engine, range: Range) -> Result<bool, Error> {
        let found = self.find(range).await?;
        if found.objects.is_empty() || found.objects.iter().any(|object| self.selection.is_decided_by(&object.path)) {
            return Ok(true);
        }
        let records = self.snapshot_of(found).records(engine, Prefilter::default()).await?;
        engine.has_records(records.provider, Range::default()).await.map_err(coverage::failed)
    }

    /// Returns the time of the newest event in the last delivered objects. `None` if there is no readable time.
    /// Lists the whole trail and reads [`NEWEST_OBJECTS`].
    async fn newest_event(&self, engine: &Engine) -> Result<Option<Instant>, Error> {
        let mut objects = self.find(Range::default()).await?.objects.clone();
        objects.sort_by_cached_key(|object| {
            (trail::delivered_on(&object.path), trail::delivery_stamp(&object.path).to_owned())
        });
        objects.drain(..objects.len().saturating_sub(NEWEST_OBJECTS));
        let records = self.records_of(engine, objects).await?;
        let span = engine.time_span(records.provider).await;
        Ok(span.map_err(|error| Error::query("the newest objects", error))?.map(|(_, newest)| newest))
    }
}

#[async_trait]
impl Table for RawTrail {
    fn kind(&self) -> TableKind {
        TableKind::Raw
    }

    async fn snapshot(&self, range: Range) -> Result<Box<dyn Snapshot + '_>, Error> {
        let trail = self.find(range).await?;
        let step = trail.objects.len().div_ceil(SAMPLED_OBJECTS).max(1);
        let sample = trail.objects.iter().step_by(step).cloned().collect();
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = sample;
        Ok(Box::new(self.snapshot_of(trail)))
    }

    async fn coverage(&self, engine: &Engine, range: Range, read: &ScanStatistics) -> Result<Coverage, Error> {
        // Only scans for matches run on a cluster.
        let engine = &engine.without_cluster();
        // A query that needs no records reads no object.
        if read.objects.read == 0 && self.find(range).await?.is_empty() {
            let newest = if range == Range::default() { None } else { self.newest_event(engine).await? };
            return Ok(Coverage::NoObjects { newest });
        }
        if read.is_all_skipped_by_prefilter() && !self.holds_cloudtrail(engine).await? {
            return Ok(Coverage::NoCloudTrail);
        }
        if self.selection.is_narrowed() && !self.has_selected_records(engine, range).await? {
            return Ok(Coverage::NotSelected);
        }
        // Text skipped by the prefilter is not parsed, so its times are unknown.
        let are_times_known = read.objects.skipped_by_prefilter + read.records.skipped_by_prefilter == 0;
        Ok(Coverage::of_span(range, read.times.filter(|_| are_times_known)))
    }
}

/// The objects of a trail that may hold records of a range.
#[derive(Debug)]
struct RawSnapshot<'t> {
    table: &'t RawTrail,
    trail: Arc<Trail>,
}

#[async_trait]
impl Snapshot for RawSnapshot<'_> {
    fn listing(&self) -> TableListing {
        let listing = TableListing::of_sizes(self.trail.objects.iter().map(|object| object.size), 1);
        TableListing { excluded: self.trail.excluded.clone(), ..listing }
    }

    fn deliveries(&self) -> Option<Vec<ObjectDelivery<'_>>> {
        Some(self.trail.objects.iter().filter_map(|object| trail::delivery(&object.path)).collect())
    }

    async fn records(&self, engine: &Engine, prefilter: Prefilter) -> Result<SnapshotRecords, Error> {
        let total = self.trail.objects.iter().map(|object| object.size).sum();
        let progress = Arc::clone(&self.table.progress);
        let scans = Arc::new(RawScans::new(
            Arc::clone(&self.trail),
            prefilter,
            self.table.in_flight,
            engine.threads,
            Arc::new(move |statistics: &ScanStatistics| progress(total, statistics)),
        ));
        // Executors select events while they decode, so a cluster gets the objects themselves.
        let provider = if engine.on_cluster() {
            self.table.check_cluster()?;
            Arc::clone(&scans) as _
        } else {
            super::selected(engine, Arc::clone(&scans) as _)?
        };
        Ok(SnapshotRecords { provider, files: Vec::new(), raw_scans: Some(scans) })
    }

    fn statistics(&self, records: &SnapshotRecords) -> ScanStatistics {
        records.raw_statistics()
    }
}
