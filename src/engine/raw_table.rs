//! Table provider of a raw trail: reads, unpacks and decodes objects as a query pulls records.

use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::Expr;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::event::{self, batch::BatchBuilder};
use crate::statistics::ScanStatistics;
use crate::store::{self, Fetched, ReadSettings};
use crate::trail::{DecodeOptions, Decoder, Prefilter, Trail};

/// Called after every few objects with the scan statistics so far.
pub type RawScanProgress = Arc<dyn Fn(&ScanStatistics) + Send + Sync>;

/// The most stored bytes of small objects that one task decodes. Moving a task to another thread takes as long as
/// decoding an object of about two kilobytes.
const TASK_BYTES: u64 = 128 << 10;

/// The most objects that one task decodes.
const TASK_OBJECTS: usize = 64;

/// The number of rows from which a batch is complete.
const MAX_BATCH_ROWS: usize = 4_096;

/// A raw trail as a table. Each scan reads the objects again, as a query may contain the table twice.
pub struct RawScans {
    trail: Arc<Trail>,
    prefilter: Prefilter,
    in_flight: usize,
    threads: usize,
    progress: RawScanProgress,
    last: std::sync::Mutex<Option<LastScan>>,
}

/// The last scan of a raw trail.
enum LastScan {
    Local(Arc<RawScan>),
    /// The statistics that the executors of a cluster returned.
    #[cfg(feature = "cluster")]
    Remote(Box<ScanStatistics>),
}

impl std::fmt::Debug for RawScans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawScans").field("objects", &self.trail.objects.len()).finish_non_exhaustive()
    }
}

impl RawScans {
    /// Returns the table of the records of `trail`. Records that `prefilter` rejects may be missing. Reads `in_flight`
    /// objects at a time and decodes them on `threads` threads.
    pub fn new(
        trail: Arc<Trail>,
        prefilter: Prefilter,
        in_flight: usize,
        threads: usize,
        progress: RawScanProgress,
    ) -> RawScans {
        RawScans { trail, prefilter, in_flight, threads, progress, last: std::sync::Mutex::default() }
    }

    /// Returns what the last scan has read so far; nothing where the query needed no scan.
    pub fn statistics(&self) -> ScanStatistics {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(LastScan::Local(scan)) => scan.statistics(),
            #[cfg(feature = "cluster")]
            Some(LastScan::Remote(statistics)) => ScanStatistics::clone(statistics),
            None => ScanStatistics::default(),
        }
    }
}

#[cfg(feature = "cluster")]
impl RawScans {
    /// Returns the objects.
    pub(super) fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Returns the prefilter.
    pub(super) fn prefilter(&self) -> &Prefilter {
        &self.prefilter
    }

    /// Returns the number of objects to read at a time.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Records what executors have read of the objects.
    pub(super) fn set_remote_statistics(&self, mut statistics: ScanStatistics) {
        statistics.add(self.trail.excluded.clone());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(LastScan::Remote(Box::new(statistics)));
    }
}

#[async_trait]
impl TableProvider for RawScans {
    fn schema(&self) -> SchemaRef {
        event::schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = match projection {
            Some(columns) => Arc::new(event::schema().project(columns)?),
            None => event::schema(),
        };
        let (trail, progress) = (Arc::clone(&self.trail), Arc::clone(&self.progress));
        let scan = RawScan::start(trail, self.prefilter.clone(), self.in_flight, progress);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(LastScan::Local(Arc::clone(&scan)));
        let streams = RawScan::partitions(&scan, &schema, self.threads);
        StreamingTable::try_new(schema, streams)?.scan(state, None, filters, limit).await
    }
}

/// One scan of a raw trail, shared by its partitions.
struct RawScan {
    objects: Mutex<BoxStream<'static, Fetched>>,
    settings: Arc<ReadSettings>,
    prefilter: Prefilter,
    statistics: std::sync::Mutex<ScanStatistics>,
    progress: RawScanProgress,
}

impl std::fmt::Debug for RawScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawScan").finish_non_exhaustive()
    }
}

impl RawScan {
    /// Starts a scan of `trail` that skips the objects and records that `prefilter` rejects. Reads `in_flight` objects
    /// at a time.
    fn start(trail: Arc<Trail>, prefilter: Prefilter, in_flight: usize, progress: RawScanProgress) -> Arc<RawScan> {
        let (stores, excluded) = (trail.stores.clone(), trail.excluded.clone());
        let objects = (0..trail.objects.len()).map(move |index| trail.objects[index].clone());
        Arc::new(RawScan {
            settings: Arc::clone(stores.read_settings()),
            objects: Mutex::new(store::read_ahead(&stores, objects, in_flight)),
            prefilter,
            statistics: std::sync::Mutex::new(excluded),
            progress,
        })
    }

    /// Returns the statistics so far.
    fn statistics(&self) -> ScanStatistics {
        self.statistics.lock().map(|statistics| statistics.clone()).unwrap_or_default()
    }

    fn partitions(scan: &Arc<RawScan>, schema: &SchemaRef, count: usize) -> Vec<Arc<dyn PartitionStream>> {
        let partition = || RawScanPartition { scan: Arc::clone(scan), schema: Arc::clone(schema) };
        (0..count.max(1)).map(|_| Arc::new(partition()) as Arc<dyn PartitionStream>).collect()
    }

    /// Takes the next object and any small ones that are already read. Returns none at the end.
    async fn take(&self) -> Vec<Fetched> {
        let mut objects = self.objects.lock().await;
        let mut taken: Vec<Fetched> = objects.next().await.into_iter().collect();
        let mut bytes: u64 = taken.iter().map(|fetched| fetched.object.size).sum();
        while !taken.is_empty()
            && taken.len() < TASK_OBJECTS
            && bytes < TASK_BYTES
            && let Some(Some(fetched)) = objects.next().now_or_never()
        {
            bytes += fetched.object.size;
            taken.push(fetched);
        }
        taken
    }

    fn decode(&self, taken: Vec<Fetched>, decoder: &mut Decoder) {
        let mut statistics = ScanStatistics::default();
        for fetched in taken {
            let bytes = fetched.bytes.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
            let options = DecodeOptions { prefilter: &self.prefilter, hash_records: false };
            statistics.add(decoder.decode(&fetched.object, bytes, &self.settings, options));
        }
        if let Ok(mut total) = self.statistics.lock() {
            total.add(statistics);
            (self.progress)(&total);
        }
    }
}

/// A partition of a scan. Each takes the next objects when it is polled.
#[derive(Debug)]
struct RawScanPartition {
    scan: Arc<RawScan>,
    /// The columns that the query reads.
    schema: SchemaRef,
}

impl PartitionStream for RawScanPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let reader = PartitionReader {
            scan: Arc::clone(&self.scan),
            decoder: Decoder::new(BatchBuilder::new(Arc::clone(&self.schema))),
            batch_rows: 1,
        };
        let batches = futures::stream::try_unfold(reader, PartitionReader::next_batches)
            .map_ok(|batches| futures::stream::iter(batches).map(Ok))
            .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// Reads and decodes objects for one partition.
struct PartitionReader {
    scan: Arc<RawScan>,
    decoder: Decoder,
    /// The number of rows of a batch. It grows from one, so that a query which needs few records ends early.
    batch_rows: usize,
}

impl PartitionReader {
    /// Returns the next batches, and the reader of those after them. `None` at the end.
    ///
    /// Decodes on blocking threads: decoding may take a second, during which an async worker would stall requests.
    async fn next_batches(mut self) -> Result<Option<(Vec<RecordBatch>, PartitionReader)>, DataFusionError> {
        let failed = |error: Error| DataFusionError::External(Box::new(error));
        loop {
            let taken = self.scan.take().await;
            let is_end = taken.is_empty();
            if !is_end {
                let reader = spawn_blocking(move || {
                    self.scan.decode(taken, &mut self.decoder);
                    self
                });
                self = reader.await.map_err(|error| DataFusionError::External(Box::new(error)))?;
            }
            if is_end || self.decoder.open_rows() >= self.batch_rows {
                self.decoder.finish_batch();
                self.batch_rows = (self.batch_rows * 8).min(MAX_BATCH_ROWS);
            }
            let batches = self.decoder.take_batches().map_err(failed)?;
            if !batches.is_empty() {
                return Ok(Some((batches, self)));
            }
            if is_end {
                return Ok(None);
            }
        }
    }
}
