//! Buffer for the match rows of a scan: in memory up to a limit, and spilled to disk beyond it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::resources_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::spill_file::SpillFile;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

use super::batch_files::BatchFiles;
use super::empty_columns;

/// Low bits of a row's number: its place in its part. The bits above are the index of the part.
const ROW_BITS: u32 = 40;

/// Writes a [`MatchBuffer`] from several streams at the same time.
pub(super) struct MatchBufferWriter {
    /// Most bytes held in memory, all streams together.
    limit: usize,
    /// The bytes held in memory, reserved in the engine's pool.
    reservation: MemoryReservation,
    /// `None` for a buffer that stays in memory.
    files: Option<BatchFiles>,
}

impl MatchBufferWriter {
    /// Returns a writer that fails beyond `limit` bytes.
    pub(super) fn in_memory(limit: usize, runtime: &RuntimeEnv) -> MatchBufferWriter {
        MatchBufferWriter { limit, reservation: reservation("matches", runtime), files: None }
    }

    /// Returns a writer that spills to disk beyond `limit` bytes.
    pub(super) fn spilling(limit: usize, runtime: Arc<RuntimeEnv>, schema: SchemaRef) -> MatchBufferWriter {
        let reservation = reservation("matches", &runtime);
        MatchBufferWriter { limit, reservation, files: Some(BatchFiles::new(runtime, schema)) }
    }

    /// Buffers one stream to its end.
    ///
    /// # Errors
    /// The stream fails, a spill file cannot be written, or the buffer is full and must stay in memory.
    pub(super) async fn write(&self, batches: impl Stream<Item = Result<RecordBatch>>) -> Result<MatchBufferPart> {
        let mut in_memory = Vec::new();
        let mut batches = std::pin::pin!(batches);
        while let Some(batch) = batches.try_next().await? {
            let batch = empty_columns::shared(&batch)?;
            if self.reserve(empty_columns::held_bytes(&batch)) {
                in_memory.push(batch);
                continue;
            }
            let Some(files) = &self.files else {
                return resources_err!("the matches of the rules take more than {} MiB", self.limit >> 20);
            };
            let file = files.write(stream::iter([Ok(batch)]).chain(batches)).await?;
            return Ok(MatchBufferPart { batches: in_memory, file });
        }
        Ok(MatchBufferPart { batches: in_memory, file: None })
    }

    /// Reserves `bytes` bytes of memory. Returns whether there was room for them.
    fn reserve(&self, bytes: usize) -> bool {
        // Streams that reserve at the same time may exceed the limit by one batch each. The pool still bounds them.
        self.reservation.size().saturating_add(bytes) <= self.limit && self.reservation.try_grow(bytes).is_ok()
    }

    /// Returns the buffer of all streams, given the part of each.
    pub(super) fn finish(self, parts: Vec<MatchBufferPart>) -> MatchBuffer {
        MatchBuffer { parts, reservation: self.reservation, files: self.files }
    }
}

/// Returns an empty reservation in the engine's pool. Errors name it `name`.
pub(super) fn reservation(name: &str, runtime: &RuntimeEnv) -> MemoryReservation {
    MemoryConsumer::new(name).register(&runtime.memory_pool)
}

/// The rows of one stream: first the batches in memory, then those in the spill file.
pub(super) struct MatchBufferPart {
    batches: Vec<RecordBatch>,
    file: Option<Arc<dyn SpillFile>>,
}

/// The match rows of a scan, which several queries read. Dropping it frees the memory and deletes the spill files.
pub(super) struct MatchBuffer {
    parts: Vec<MatchBufferPart>,
    reservation: MemoryReservation,
    files: Option<BatchFiles>,
}

impl std::fmt::Debug for MatchBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MatchBuffer").field("bytes", &self.reservation.size()).finish_non_exhaustive()
    }
}

impl MatchBuffer {
    /// Returns whether any rows were spilled to disk.
    pub(super) fn is_spilled(&self) -> bool {
        self.parts.iter().any(|part| part.file.is_some())
    }

    /// Returns the batches of partition `partition` of `partitions`, each with the number of its first row. In one partition
    /// the numbers ascend.
    pub(super) fn partition(
        self: &Arc<MatchBuffer>,
        partition: usize,
        partitions: usize,
    ) -> impl Stream<Item = Result<(u64, RecordBatch)>> + use<> {
        let buffer = Arc::clone(self);
        let parts = (partition..self.parts.len()).step_by(partitions.max(1));
        stream::iter(parts).map(move |part| buffer.part(part)).try_flatten()
    }

    fn part(&self, index: usize) -> Result<impl Stream<Item = Result<(u64, RecordBatch)>> + use<>> {
        let MatchBufferPart { batches, file } = &self.parts[index];
        let spilled = file.as_ref().zip(self.files.as_ref());
        let spilled = spilled.map(|(file, files)| files.read(Arc::clone(file)));
        let in_memory = batches.clone().into_iter().map(Ok);
        let batches = stream::iter(in_memory).chain(stream::iter(spilled.transpose()?).flatten());
        let mut next = (index as u64) << ROW_BITS;
        Ok(batches.map_ok(move |batch| {
            let first = next;
            next += batch.num_rows() as u64;
            (first, batch)
        }))
    }

    /// Returns the rows as a table of `schema` with `partitions` partitions. `convert` makes rows of it from each batch.
    /// `further` rows are one more partition, if there are any.
    ///
    /// # Errors
    /// There are no partitions.
    pub(super) fn table(
        self: &Arc<MatchBuffer>,
        schema: &SchemaRef,
        partitions: usize,
        further: Vec<RecordBatch>,
        convert: &Convert,
    ) -> Result<Arc<dyn TableProvider>> {
        let stream = |partition| {
            let (buffer, schema, convert) = (Arc::clone(self), Arc::clone(schema), Arc::clone(convert));
            Arc::new(ConvertedPartition { buffer, schema, convert, partition, partitions }) as Arc<dyn PartitionStream>
        };
        let mut streams: Vec<Arc<dyn PartitionStream>> = (0..partitions).map(stream).collect();
        if !further.is_empty() {
            streams.push(Arc::new(FixedPartition { schema: Arc::clone(schema), batches: further }));
        }
        super::streamed_table(Arc::clone(schema), streams)
    }

    /// Returns the batches of a buffer that stayed in memory.
    pub(super) fn into_batches(self) -> Vec<RecordBatch> {
        self.parts.into_iter().flat_map(|part| part.batches).collect()
    }
}

/// Makes rows of a table from a batch of a buffer, given the number of its first row.
pub(super) type Convert = Arc<dyn Fn(u64, RecordBatch) -> ConvertedBatches + Send + Sync>;

/// The rows that [`Convert`] makes from a batch.
pub(super) type ConvertedBatches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// One of the partitions of [`MatchBuffer::table`].
struct ConvertedPartition {
    buffer: Arc<MatchBuffer>,
    schema: SchemaRef,
    convert: Convert,
    partition: usize,
    partitions: usize,
}

impl std::fmt::Debug for ConvertedPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConvertedPartition").field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl PartitionStream for ConvertedPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let convert = Arc::clone(&self.convert);
        let batches = self.buffer.partition(self.partition, self.partitions);
        let batches = batches.map_ok(move |(first, batch)| stream::iter(convert(first, batch))).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// A partition of rows in memory.
#[derive(Debug)]
struct FixedPartition {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl PartitionStream for FixedPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = stream::iter(self.batches.clone().into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// Rows of a table, in memory up to a part of the budget, and beyond that in files.
#[cfg(feature = "cluster")]
#[derive(Debug)]
pub struct BufferedRows {
    buffer: Arc<MatchBuffer>,
    schema: SchemaRef,
}

#[cfg(feature = "cluster")]
impl BufferedRows {
    /// Buffers `rows` of `schema`.
    ///
    /// # Errors
    /// The stream fails, or a file cannot be written.
    pub async fn collect(
        engine: &super::Engine,
        schema: SchemaRef,
        rows: impl Stream<Item = Result<RecordBatch>>,
    ) -> Result<BufferedRows> {
        let runtime = Arc::clone(&engine.runtime);
        let writer = MatchBufferWriter::spilling(engine.match_memory, runtime, Arc::clone(&schema));
        let part = writer.write(rows).await?;
        Ok(BufferedRows { buffer: Arc::new(writer.finish(vec![part])), schema })
    }

    /// Returns whether some rows are in files.
    pub fn is_spilled(&self) -> bool {
        self.buffer.is_spilled()
    }

    /// Returns the rows as a table. `select` returns those of each batch that belong to it.
    ///
    /// # Errors
    /// The table cannot be made.
    pub fn table(
        &self,
        select: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    ) -> Result<Arc<dyn TableProvider>> {
        let convert: Convert = Arc::new(move |_, batch| Box::new(std::iter::once(select(batch))));
        self.buffer.table(&self.schema, 1, Vec::new(), &convert)
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

    /// Returns the number of each batch's first row, and the number that its rows hold.
    async fn numbers(buffer: &Arc<MatchBuffer>, partitions: usize) -> Vec<(u64, i64)> {
        let mut numbers = Vec::new();
        for partition in 0..partitions {
            let batches: Vec<_> = buffer.partition(partition, partitions).try_collect().await.unwrap();
            assert!(batches.windows(2).all(|pair| pair[0].0 + 100 <= pair[1].0), "numbers ascend");
            for (first, batch) in batches {
                assert_eq!(batch.num_rows(), 100);
                numbers.push((first, batch.column(0).as_primitive::<Int64Type>().value(99)));
            }
        }
        numbers.sort_unstable();
        numbers
    }

    #[tokio::test]
    async fn batches_beyond_the_limit_are_spilled_and_each_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = RuntimeEnvBuilder::new().with_temp_file_path(folder.path()).build_arc().unwrap();
        let one = empty_columns::held_bytes(&batch(0));
        for (fits, spilled) in [(0, true), (2, true), (5, true), (9, false)] {
            let writer = MatchBufferWriter::spilling(fits * one, Arc::clone(&runtime), batch(0).schema());
            let mut parts = Vec::new();
            for part in 0..3 {
                let batches = (part * 3..part * 3 + 3).map(|number| Ok(batch(number)));
                parts.push(writer.write(stream::iter(batches)).await.unwrap());
            }
            let buffer = Arc::new(writer.finish(parts));
            assert_eq!((buffer.reservation.size(), buffer.is_spilled()), (fits.min(9) * one, spilled));
            let all = numbers(&buffer, 1).await;
            assert!(all.iter().map(|(_, value)| *value).eq(0..9), "{fits} fit");
            for count in [2, 3, 5, 2] {
                assert_eq!(numbers(&buffer, count).await, all, "{fits} fit, {count} partitions");
            }
        }
        let writer = MatchBufferWriter::in_memory(2 * one, &runtime);
        assert!(writer.write(stream::iter((0..2).map(|number| Ok(batch(number))))).await.is_ok());
        assert!(writer.write(stream::iter([Ok(batch(2))])).await.is_err());
        let files = std::fs::read_dir(folder.path())
            .unwrap()
            .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        assert_eq!(files.count(), 0, "spill files are deleted with their buffer");
    }
}
