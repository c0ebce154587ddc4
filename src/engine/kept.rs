//! What a scan matched, kept for the queries over it: in memory up to a limit, and beyond it in files or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::resources_err;
use datafusion::config::SpillCompression;
use datafusion::error::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::spill_file::SpillFile;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

/// Keeps what several scans give at a time.
pub(super) struct Keeper {
    /// Bytes that are kept in memory, all scans together, and those that are.
    limit: usize,
    bytes: AtomicUsize,
    /// Where the rest goes.
    spills: Option<SpillManager>,
}

impl Keeper {
    /// Keeps no more than `limit` bytes, and fails beyond them.
    pub(super) fn in_memory(limit: usize) -> Keeper {
        Keeper { limit, bytes: AtomicUsize::new(0), spills: None }
    }

    /// Keeps `limit` bytes in memory, and what is more in files.
    pub(super) fn spilling(limit: usize, runtime: Arc<RuntimeEnv>, schema: SchemaRef) -> Keeper {
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let spills = SpillManager::new(runtime, metrics, schema).with_compression_type(SpillCompression::Lz4Frame);
        Keeper { limit, bytes: AtomicUsize::new(0), spills: Some(spills) }
    }

    /// Keeps what one of the scans gives.
    ///
    /// # Errors
    /// The scan fails, or it is more than is kept, or a file cannot be written.
    pub(super) async fn keep(&self, batches: impl Stream<Item = Result<RecordBatch>>) -> Result<KeptPart> {
        let (mut in_memory, mut file) = (Vec::new(), None);
        let mut batches = std::pin::pin!(batches);
        while let Some(batch) = batches.try_next().await? {
            let bytes = batch.get_array_memory_size();
            if file.is_none() && self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit {
                in_memory.push(batch);
                continue;
            }
            let Some(spills) = &self.spills else {
                return resources_err!("what the rules match takes more than {} MiB", self.limit >> 20);
            };
            if file.is_none() {
                file = Some(spills.create_in_progress_file("matches")?);
            }
            if let Some(file) = &mut file {
                file.append_batch(&batch)?;
            }
        }
        let file = file.map(|mut file| file.finish()).transpose()?.flatten();
        Ok(KeptPart { batches: in_memory, file })
    }

    /// What all scans gave.
    pub(super) fn kept(self, parts: Vec<KeptPart>) -> Kept {
        Kept { parts, bytes: self.bytes.into_inner().min(self.limit), spills: self.spills }
    }
}

/// What one of the scans gave.
pub(super) struct KeptPart {
    batches: Vec<RecordBatch>,
    file: Option<Arc<dyn SpillFile>>,
}

/// What all scans gave.
pub struct Kept {
    parts: Vec<KeptPart>,
    /// Bytes that are kept in memory.
    pub bytes: usize,
    spills: Option<SpillManager>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Kept {
    /// Of `shares` shares of the batches the one of this number.
    pub fn share(self: &Arc<Kept>, number: usize, shares: usize) -> impl Stream<Item = Result<RecordBatch>> + use<> {
        let kept = Arc::clone(self);
        let parts = (number..self.parts.len()).step_by(shares.max(1));
        stream::iter(parts).map(move |part| kept.of_part(part)).try_flatten()
    }

    fn of_part(&self, part: usize) -> Result<impl Stream<Item = Result<RecordBatch>> + use<>> {
        let KeptPart { batches, file } = &self.parts[part];
        let file = file.as_ref().zip(self.spills.as_ref());
        let file = file.map(|(file, spills)| spills.read_spill_as_stream(Arc::clone(file), None)).transpose()?;
        let in_memory = batches.clone().into_iter().map(Ok);
        Ok(stream::iter(in_memory).chain(stream::iter(file).flatten()))
    }

    /// The batches, where all are in memory.
    pub(super) fn into_batches(self) -> Vec<RecordBatch> {
        self.parts.into_iter().flat_map(|part| part.batches).collect()
    }
}
