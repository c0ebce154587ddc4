//! Scans of a table for the matches of many rules.

use std::sync::Arc;

#[cfg(feature = "cluster")]
use arrow::array::StructArray;
use arrow::array::{AsArray as _, RecordBatch};
#[cfg(feature = "cluster")]
use arrow::datatypes::Schema;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
#[cfg(feature = "cluster")]
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{self, ExecutionPlan, displayable};
use futures::{Stream, StreamExt as _, TryStreamExt as _, future, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

#[cfg(feature = "cluster")]
use super::cluster;
use super::group_counts::GroupCounts;
pub use super::group_counts::GroupThreshold;
use super::match_batch::{MatchBatch, MatchSchema};
#[cfg(feature = "cluster")]
pub use super::match_buffer::BufferedRows;
use super::match_buffer::{Convert, MatchBuffer, MatchBufferWriter};
pub use super::repeats::{KeyQuestion, KeyedRule};
use super::repeats::{KeySpans, Repeats};
use super::{Engine, empty_columns, match_functions, matcher};
use crate::sql::match_spec::MatchSpec;

/// Rows, and bytes, of matches that are put together to one batch.
const MATCHED_ROWS: usize = 8_192;
const MATCHED_BYTES: usize = 4 << 20;

/// Where a smaller part of the matches can be left out, the others are not written again.
const LEFT_OUT_PART: usize = 8;

/// A scan of a table, which runs here or on a cluster.
pub struct MatchScan {
    /// Batches of one column, the struct that [`match_functions::match_row`] returns.
    streams: Vec<SendableRecordBatchStream>,
    schema: Arc<MatchSchema>,
    runtime: Arc<RuntimeEnv>,
    threads: usize,
    rules: usize,
    /// Bytes of matches that stay in memory.
    match_memory: usize,
    needless: Needless,
}

/// What shows which matches decide nothing.
#[derive(Debug, Clone, Default)]
struct Needless {
    group_counts: Option<Arc<GroupCounts>>,
    repeats: Option<Arc<Repeats>>,
}

/// The matches of a scan, in memory up to a part of the budget, and beyond that in files.
#[derive(Debug)]
pub struct BufferedMatches {
    batches: Arc<MatchBuffer>,
    schema: Arc<MatchSchema>,
    /// For each rule the number of its matches.
    pub counts: Vec<usize>,
    needless: Needless,
}

impl MatchScan {
    /// Begins the scan of `table` for the matches of `spec`.
    ///
    /// # Errors
    /// The table cannot be planned, or the cluster does not answer.
    pub async fn new(engine: &Engine, table: Arc<dyn TableProvider>, spec: &MatchSpec) -> Result<MatchScan> {
        let streams = MatchScan::streams(engine, table, spec).await?;
        Ok(MatchScan::of_streams(engine, streams, spec))
    }

    /// Returns the scan that gives `streams` of one column, the struct that [`match_functions::match_row`] returns for `spec`.
    pub(crate) fn of_streams(engine: &Engine, streams: Vec<SendableRecordBatchStream>, spec: &MatchSpec) -> MatchScan {
        MatchScan {
            streams,
            schema: Arc::new(MatchSchema::new(spec)),
            runtime: Arc::clone(&engine.runtime),
            threads: engine.threads.max(1),
            rules: spec.rules.len(),
            match_memory: engine.match_memory,
            needless: Needless::default(),
        }
    }

    /// Returns the scan with what [`BufferedMatches::decisive`] needs: the thresholds of groups, and the rules whose matches have
    /// keys.
    #[must_use]
    pub fn with_decisions(self, thresholds: Vec<GroupThreshold>, keyed: Vec<KeyedRule>) -> MatchScan {
        let group_counts = GroupCounts::new(thresholds, self.match_memory, &self.runtime).map(Arc::new);
        let repeats = Repeats::new(keyed, self.match_memory, &self.runtime).map(Arc::new);
        MatchScan { needless: Needless { group_counts, repeats }, ..self }
    }

    async fn streams(
        engine: &Engine,
        table: Arc<dyn TableProvider>,
        spec: &MatchSpec,
    ) -> Result<Vec<SendableRecordBatchStream>> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &engine.cluster {
            let matches = cluster::matches::run(engine, cluster, &table, spec, Vec::new()).await?.rows;
            let column = |matches| RecordBatch::try_from_iter([("match", Arc::new(StructArray::from(matches)) as _)]);
            let batches = matches.into_iter().map(column).collect::<Result<Vec<_>, _>>()?;
            let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
            let batches = stream::iter(batches.into_iter().map(Ok));
            return Ok(vec![Box::pin(RecordBatchStreamAdapter::new(schema, batches))]);
        }
        let (plan, context) = MatchScan::planned(engine, table, spec).await?;
        engine.scanned.follow(&plan);
        physical_plan::execute_stream_partitioned(plan, context)
    }

    async fn planned(
        engine: &Engine,
        table: Arc<dyn TableProvider>,
        spec: &MatchSpec,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
        let context = engine.session()?;
        let candidates = matcher::candidates(&context, table, spec)?;
        let rows = candidates.select(vec![match_functions::match_row(spec)?.alias("match")])?;
        Ok((rows.create_physical_plan().await?, context.task_ctx()))
    }

    /// Returns the plan of the scan of `table` for the matches of `spec`, as text.
    ///
    /// # Errors
    /// As for [`MatchScan::new`].
    pub async fn plan(engine: &Engine, table: Arc<dyn TableProvider>, spec: &MatchSpec) -> Result<String> {
        let (plan, _) = MatchScan::planned(engine, table, spec).await?;
        Ok(displayable(plan.as_ref()).indent(false).to_string())
    }

    /// Returns all matches, in memory.
    ///
    /// # Errors
    /// The scan fails, or the matches take more than `limit` bytes.
    pub async fn collect(self, limit: usize) -> Result<Vec<MatchBatch>> {
        let schema = Arc::clone(&self.schema);
        let writer = MatchBufferWriter::in_memory(limit, &self.runtime);
        let (buffer, _) = self.drain(writer).await?;
        buffer.into_batches().into_iter().map(|batch| schema.wrap(batch)).collect()
    }

    /// Returns all matches, in memory and files.
    ///
    /// # Errors
    /// The scan fails, or a file cannot be written.
    pub async fn buffer(self) -> Result<BufferedMatches> {
        let schema = Arc::clone(&self.schema);
        let runtime = Arc::clone(&self.runtime);
        let writer = MatchBufferWriter::spilling(self.match_memory, runtime, Arc::clone(schema.arrow()));
        let needless = self.needless.clone();
        let (buffer, counts) = self.drain(writer).await?;
        Ok(BufferedMatches { batches: Arc::new(buffer), schema, counts, needless })
    }

    /// Calls `take` with each batch of matches, and holds none of them.
    ///
    /// # Errors
    /// The scan fails.
    pub async fn for_each(self, mut take: impl FnMut(&MatchBatch)) -> Result<()> {
        let (sender, mut receiver) = mpsc::channel(self.threads);
        let mut scans = JoinSet::new();
        for stream in self.streams {
            let (schema, sender) = (Arc::clone(&self.schema), sender.clone());
            scans.spawn(async move {
                let mut batches = std::pin::pin!(matches(stream, schema));
                while let Some(batch) = batches.next().await {
                    if sender.send(batch).await.is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        while let Some(batch) = receiver.recv().await {
            take(&batch?);
        }
        while let Some(done) = scans.join_next().await {
            done.map_err(|error| DataFusionError::External(Box::new(error)))?;
        }
        Ok(())
    }

    /// Writes all matches to `writer`, and counts those of each rule.
    async fn drain(self, writer: MatchBufferWriter) -> Result<(MatchBuffer, Vec<usize>)> {
        let (schema, needless) = (self.schema, self.needless);
        let streams = self.streams.into_iter().map(|stream| {
            let needless = needless.clone();
            matches(stream, Arc::clone(&schema))
                .and_then(move |batch| future::ready(needless.add(&batch).map(|()| batch)))
        });
        write(writer, streams, self.rules).await
    }
}

/// Writes the matches of some streams to `writer`, and counts those of each rule.
async fn write(
    writer: MatchBufferWriter,
    streams: impl IntoIterator<Item = impl Stream<Item = Result<MatchBatch>> + Send + 'static>,
    rules: usize,
) -> Result<(MatchBuffer, Vec<usize>)> {
    let writer = Arc::new(writer);
    let written = streams.into_iter().map(|stream| {
        let writer = Arc::clone(&writer);
        async move {
            let mut counts = vec![0; rules];
            let batches = stream.map_ok(|batch| {
                for (rule, count) in counts.iter_mut().enumerate() {
                    *count += batch.matches_of(rule).true_count();
                }
                batch.into_record_batch()
            });
            let part = writer.write(batches).await?;
            Ok((part, counts))
        }
    });
    let (mut parts, mut counts) = (Vec::new(), vec![0; rules]);
    for (part, of_part) in results(written.collect()).await? {
        parts.push(part);
        counts.iter_mut().zip(of_part).for_each(|(count, of_part)| *count += of_part);
    }
    let writer = Arc::into_inner(writer).ok_or_else(|| internal_datafusion_err!("a scan is still running"))?;
    Ok((writer.finish(parts), counts))
}

/// Returns the results of all tasks.
async fn results<T: 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::new();
    while let Some(done) = tasks.join_next().await {
        results.push(done.map_err(|error| DataFusionError::External(Box::new(error)))??);
    }
    Ok(results)
}

/// The matches in a stream of a scan, joined.
fn matches(stream: SendableRecordBatchStream, schema: Arc<MatchSchema>) -> impl Stream<Item = Result<MatchBatch>> {
    let rows_schema = Arc::clone(&schema);
    let matched = stream.try_filter_map(move |batch| {
        let Some(rows) = batch.column(0).as_struct_opt() else {
            return future::ready(internal_err!("a scan without its struct"));
        };
        future::ready(rows_schema.matches_in(&RecordBatch::from(rows)))
    });
    joined(matched, schema)
}

/// The rows of small batches, in batches of [`MATCHED_ROWS`] or [`MATCHED_BYTES`], or a few more.
fn joined(
    batches: impl Stream<Item = Result<RecordBatch>>,
    schema: Arc<MatchSchema>,
) -> impl Stream<Item = Result<MatchBatch>> {
    stream::try_unfold(Box::pin(batches), move |mut batches| {
        let schema = Arc::clone(&schema);
        async move {
            let (mut small, mut rows, mut bytes) = (Vec::new(), 0, 0);
            while rows < MATCHED_ROWS
                && bytes < MATCHED_BYTES
                && let Some(batch) = batches.try_next().await?
            {
                rows += batch.num_rows();
                bytes += empty_columns::held_bytes(&batch);
                small.push(batch);
            }
            if small.is_empty() {
                return Ok(None);
            }
            let batch = empty_columns::concat(schema.arrow(), &small)?;
            Ok(Some((schema.wrap(batch)?, batches)))
        }
    })
}

impl Needless {
    /// Takes in matches of the scan.
    fn add(&self, batch: &MatchBatch) -> Result<()> {
        if let Some(group_counts) = &self.group_counts {
            group_counts.add(batch);
        }
        self.repeats.as_ref().map_or(Ok(()), |repeats| repeats.add(batch))
    }

    /// Returns the indexes of the rules that may have needless matches. Some are there twice.
    fn rules(&self) -> impl Iterator<Item = usize> {
        let of_groups = self.group_counts.iter().flat_map(|counts| counts.rules());
        of_groups.chain(self.repeats.iter().flat_map(|repeats| repeats.rules()))
    }

    /// Takes in matches of one partition of the scan, after all of the scan were added. Returns how many are left out because of
    /// their groups.
    fn note(&self, spans: Option<&mut KeySpans>, batch: &MatchBatch) -> usize {
        if let Some((repeats, spans)) = self.repeats.as_ref().zip(spans) {
            repeats.note(spans, batch);
        }
        self.group_counts.as_ref().map_or(0, |counts| counts.note_needed(batch))
    }

    /// Returns the matches in `batch` without needless ones. All batches have to be noted before.
    fn without(&self, spans: Option<&KeySpans>, batch: &MatchBatch) -> Result<Option<MatchBatch>> {
        let in_groups = self.group_counts.as_ref().map(|counts| counts.needed(batch));
        let of_keys = self.repeats.as_ref().zip(spans).map(|(repeats, spans)| repeats.decisive(spans, batch));
        batch.only_matches_of(in_groups.into_iter().chain(of_keys).flatten())
    }
}

impl BufferedMatches {
    /// Returns whether some matches are in files.
    pub fn is_spilled(&self) -> bool {
        self.batches.is_spilled()
    }

    /// Returns the batches of partition `partition` of `partitions`.
    pub fn partition(&self, partition: usize, partitions: usize) -> impl Stream<Item = Result<MatchBatch>> + use<> {
        let schema = Arc::clone(&self.schema);
        let numbered = move |(first, batch)| Ok(schema.wrap(batch)?.numbered(first));
        self.batches.partition(partition, partitions).map(move |batch| numbered(batch?))
    }

    /// Returns the matches that may decide something. Of a rule with a [`GroupThreshold`], groups with too few matches within a
    /// period are left out; of a [`KeyedRule`], repeats and matches outside of what the rule reads. Other rules keep theirs.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub async fn decisive(self: Arc<BufferedMatches>, engine: &Engine) -> Result<Arc<BufferedMatches>> {
        let total: usize = self.counts.iter().sum();
        let is_worthwhile = |left_out: usize| left_out > 0 && left_out >= total / LEFT_OUT_PART;
        if !is_worthwhile(self.needless.rules().map(|rule| self.counts[rule]).sum()) {
            return Ok(self);
        }
        let (partitions, runtime) = (engine.threads.max(1), &engine.runtime);
        let noted = (0..partitions).map(|partition| {
            let (needless, mut batches) = (self.needless.clone(), Box::pin(self.partition(partition, partitions)));
            let mut spans = needless.repeats.as_ref().map(|repeats| repeats.spans(partitions, runtime));
            async move {
                let mut left_out = 0;
                while let Some(batch) = batches.try_next().await? {
                    left_out += needless.note(spans.as_mut(), &batch);
                }
                Ok((left_out, spans))
            }
        });
        let (mut left_out, mut all_spans) = (0, None::<KeySpans>);
        for (in_groups, spans) in results(noted.collect()).await? {
            left_out += in_groups;
            match (&mut all_spans, spans) {
                (Some(all), Some(spans)) => all.merge(spans),
                (all, spans) => *all = spans,
            }
        }
        let of_keys = self.needless.repeats.as_ref().zip(all_spans.as_ref());
        left_out += of_keys.map_or(0, |(repeats, spans)| repeats.needless(spans));
        if !is_worthwhile(left_out) {
            return Ok(self);
        }
        let writer =
            MatchBufferWriter::spilling(engine.match_memory, Arc::clone(runtime), Arc::clone(self.schema.arrow()));
        let spans = Arc::new(all_spans);
        let decisive = (0..partitions).map(|partition| {
            let (needless, spans) = (self.needless.clone(), Arc::clone(&spans));
            let left = self.partition(partition, partitions).try_filter_map(move |batch| {
                let left = needless.without(spans.as_ref().as_ref(), &batch);
                future::ready(left.map(|left| left.map(MatchBatch::into_record_batch)))
            });
            joined(left, Arc::clone(&self.schema))
        });
        let (buffer, counts) = write(writer, decisive, self.counts.len()).await?;
        let schema = Arc::clone(&self.schema);
        Ok(Arc::new(BufferedMatches { batches: Arc::new(buffer), schema, counts, needless: Needless::default() }))
    }

    /// Returns the matches as a table of `schema` with `partitions` partitions. `convert` makes rows of it from each batch.
    /// `further` rows are one more partition, if there are any.
    ///
    /// # Errors
    /// There are no partitions.
    pub fn table<R>(
        self: &Arc<BufferedMatches>,
        schema: &SchemaRef,
        partitions: usize,
        further: Vec<RecordBatch>,
        convert: impl Fn(MatchBatch) -> R + Send + Sync + 'static,
    ) -> Result<Arc<dyn TableProvider>>
    where
        R: IntoIterator<Item = Result<RecordBatch>, IntoIter: Send + 'static>,
    {
        let wrapped = Arc::clone(&self.schema);
        let convert: Convert = Arc::new(move |first, batch| match wrapped.wrap(batch) {
            Ok(batch) => Box::new(convert(batch.numbered(first)).into_iter()),
            Err(error) => Box::new(std::iter::once(Err(error))),
        });
        self.batches.table(schema, partitions, further, &convert)
    }
}
