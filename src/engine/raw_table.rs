//! A raw trail as a stream of records: objects are read, inflated and decoded as the query asks for them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;

use crate::event;
use crate::store::{self, Fetched};
use crate::tally::Tally;
use crate::trail::{self, Decoded, Sieve, Trail};

/// Called after each object with what has been read so far.
pub type Progress = Arc<dyn Fn(&Tally) + Send + Sync>;

/// One pass over a raw trail.
pub struct RawScan {
    objects: Mutex<BoxStream<'static, Fetched>>,
    /// The most an object may hold once inflated, in bytes.
    most: usize,
    sieve: Sieve,
    tally: std::sync::Mutex<Tally>,
    progress: Progress,
}

impl std::fmt::Debug for RawScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawScan").finish_non_exhaustive()
    }
}

impl RawScan {
    /// A pass over `trail` that passes over what `sieve` does not admit, and of which `in_flight` objects are
    /// being read at a time.
    pub fn new(trail: Trail, sieve: Sieve, in_flight: usize, progress: Progress) -> Arc<RawScan> {
        Arc::new(RawScan {
            most: trail.stores.max_object(),
            objects: Mutex::new(store::read_ahead(&trail.stores, trail.objects, in_flight)),
            sieve,
            tally: std::sync::Mutex::new(trail.left_out),
            progress,
        })
    }

    /// What the pass has read so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().map(|tally| tally.clone()).unwrap_or_default()
    }

    pub(super) fn partitions(scan: &Arc<RawScan>, count: usize) -> Vec<Arc<dyn PartitionStream>> {
        let share = || Arc::new(Share { scan: Arc::clone(scan), schema: event::schema() }) as Arc<dyn PartitionStream>;
        (0..count.max(1)).map(|_| share()).collect()
    }

    /// The records of the next object nobody has taken; `None` at the end.
    async fn next_object(&self) -> Result<Option<Vec<RecordBatch>>, DataFusionError> {
        let Some(fetched) = self.objects.lock().await.next().await else {
            return Ok(None);
        };
        let bytes = fetched.bytes.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
        let Decoded { batches, tally, hashes: _ } =
            trail::decode(&fetched.object, bytes, self.most, &self.sieve, false)
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
        if let Ok(mut total) = self.tally.lock() {
            total.add(tally);
            (self.progress)(&total);
        }
        Ok(Some(batches))
    }
}

/// One of the streams that share a pass.
#[derive(Debug)]
struct Share {
    scan: Arc<RawScan>,
    schema: SchemaRef,
}

impl PartitionStream for Share {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = futures::stream::try_unfold(Arc::clone(&self.scan), |scan| async move {
            let next = scan.next_object().await?;
            Ok::<_, DataFusionError>(next.map(|batches| (batches, scan)))
        })
        .map_ok(|batches| futures::stream::iter(batches).map(Ok))
        .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
