//! What a scan matched, kept for the queries over it: in memory up to a limit, and beyond it in files or not at all.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::resources_err;
use datafusion::config::SpillCompression;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::spill_file::SpillFile;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

/// Keeps what several scans give at a time.
pub(super) struct Keeper {
    /// Bytes that are kept in memory at most, all scans together.
    limit: usize,
    /// Those that are, as a part of the engine's budget.
    reservation: MemoryReservation,
    /// Where the rest goes.
    spills: Option<SpillManager>,
}

impl Keeper {
    /// Keeps no more than `limit` bytes, and fails beyond them.
    pub(super) fn in_memory(limit: usize, runtime: &RuntimeEnv) -> Keeper {
        Keeper { limit, reservation: reservation(runtime), spills: None }
    }

    /// Keeps `limit` bytes in memory, and what is more in files.
    pub(super) fn spilling(limit: usize, runtime: Arc<RuntimeEnv>, schema: SchemaRef) -> Keeper {
        let reservation = reservation(&runtime);
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let spills = SpillManager::new(runtime, metrics, schema).with_compression_type(SpillCompression::Lz4Frame);
        Keeper { limit, reservation, spills: Some(spills) }
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
            if file.is_none() && self.has_room(bytes) {
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

    /// Reserves memory for `bytes` more bytes; returns whether there is any.
    fn has_room(&self, bytes: usize) -> bool {
        // Scans that ask at the same time may go beyond the limit by a batch each, never beyond the budget.
        self.reservation.size().saturating_add(bytes) <= self.limit && self.reservation.try_grow(bytes).is_ok()
    }

    /// What all scans gave.
    pub(super) fn kept(self, parts: Vec<KeptPart>) -> Kept {
        Kept { parts, reservation: self.reservation, spills: self.spills }
    }
}

fn reservation(runtime: &RuntimeEnv) -> MemoryReservation {
    MemoryConsumer::new("matches").register(&runtime.memory_pool)
}

/// What one of the scans gave.
pub(super) struct KeptPart {
    batches: Vec<RecordBatch>,
    file: Option<Arc<dyn SpillFile>>,
}

/// What all scans gave.
pub struct Kept {
    parts: Vec<KeptPart>,
    /// The memory that they take.
    reservation: MemoryReservation,
    spills: Option<SpillManager>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.reservation.size()).finish_non_exhaustive()
    }
}

impl Kept {
    /// Whether some of it is in files.
    pub fn is_spilled(&self) -> bool {
        self.parts.iter().any(|part| part.file.is_some())
    }

    /// Of `shares` shares of the batches the one of this number.
    pub fn share(self: &Arc<Kept>, number: usize, shares: usize) -> impl Stream<Item = Result<RecordBatch>> + use<> {
        let kept = Arc::clone(self);
        let parts = (number..self.parts.len()).step_by(shares.max(1));
        stream::iter(parts).map(move |part| kept.of_part(part)).try_flatten()
    }

    fn of_part(&self, part: usize) -> Result<impl Stream<Item = Result<RecordBatch>> + use<>> {
        let KeptPart { batches, file } = &self.parts[part];
        let file = file.as_ref().zip(self.spills.as_ref());
        let file =
            file.map(|(file, spills)| spills.read_spill_as_stream_unbuffered(Arc::clone(file), None)).transpose()?;
        let in_memory = batches.clone().into_iter().map(Ok);
        Ok(stream::iter(in_memory).chain(stream::iter(file).flatten()))
    }

    /// The batches as a table of `schema` with `partitions` streams, where `convert` makes each batch one of that schema.
    pub fn table(
        self: &Arc<Kept>,
        schema: &SchemaRef,
        partitions: usize,
        convert: fn(&RecordBatch, &SchemaRef) -> Result<RecordBatch>,
    ) -> Result<Arc<dyn TableProvider>> {
        let part = |number| Part { kept: Arc::clone(self), schema: Arc::clone(schema), convert, number, partitions };
        let parts = (0..partitions).map(|number| Arc::new(part(number)) as Arc<dyn PartitionStream>).collect();
        super::streamed_table(Arc::clone(schema), parts)
    }

    /// The batches, where all are in memory.
    pub(super) fn into_batches(self) -> Vec<RecordBatch> {
        self.parts.into_iter().flat_map(|part| part.batches).collect()
    }
}

/// One of the streams of [`Kept::table`].
#[derive(Debug)]
struct Part {
    kept: Arc<Kept>,
    schema: SchemaRef,
    convert: fn(&RecordBatch, &SchemaRef) -> Result<RecordBatch>,
    number: usize,
    partitions: usize,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (schema, convert) = (Arc::clone(&self.schema), self.convert);
        let batches = self.kept.share(self.number, self.partitions);
        let batches = batches.map(move |batch| convert(&batch?, &schema));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray as _, Int64Array};
    use arrow::datatypes::Int64Type;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    fn batch(number: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_value(number, 100)) as _)]).unwrap()
    }

    async fn numbers(kept: &Arc<Kept>, shares: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        for share in 0..shares {
            let batches: Vec<RecordBatch> = kept.share(share, shares).try_collect().await.unwrap();
            for batch in batches {
                assert_eq!(batch.num_rows(), 100);
                numbers.push(batch.column(0).as_primitive::<Int64Type>().value(99));
            }
        }
        numbers.sort_unstable();
        numbers
    }

    #[tokio::test]
    async fn what_does_not_fit_is_in_files_and_each_batch_is_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = RuntimeEnvBuilder::new().with_temp_file_path(folder.path()).build_arc().unwrap();
        let one = batch(0).get_array_memory_size();
        for (fits, spilled) in [(0, true), (2, true), (5, true), (9, false)] {
            let keeper = Keeper::spilling(fits * one, Arc::clone(&runtime), batch(0).schema());
            let mut parts = Vec::new();
            for part in 0..3 {
                let batches = (part * 3..part * 3 + 3).map(|number| Ok(batch(number)));
                parts.push(keeper.keep(stream::iter(batches)).await.unwrap());
            }
            let kept = Arc::new(keeper.kept(parts));
            assert_eq!((kept.reservation.size(), kept.is_spilled()), (fits.min(9) * one, spilled));
            for shares in [1, 2, 3, 5, 2] {
                assert_eq!(numbers(&kept, shares).await, (0..9).collect::<Vec<_>>(), "{fits} fit, {shares} shares");
            }
        }
        let keeper = Keeper::in_memory(2 * one, &runtime);
        assert!(keeper.keep(stream::iter((0..2).map(|number| Ok(batch(number))))).await.is_ok());
        assert!(keeper.keep(stream::iter([Ok(batch(2))])).await.is_err());
        let files = std::fs::read_dir(folder.path())
            .unwrap()
            .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        assert_eq!(files.count(), 0, "files go with what is kept");
    }
}
