//! The reader of Parquet files. Its errors name the file, and a damaged file does not bring down the process.
//!
//! Assertions of the `parquet` crate fail on damaged files. Such a panic becomes an error for the file.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileOpenFuture, FileOpener, FileScanConfig, FileSource, ParquetFileMetrics, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::footer::{Footer, Footers};
use super::lake_file::LakeFileReader;
use super::pages;
use crate::error::DamagedFile;
use crate::panics::catching_panics;

/// A source of Parquet files that names the file of an error, and turns panics into errors.
pub(super) struct GuardedSource {
    source: Arc<dyn FileSource>,
    url: ObjectStoreUrl,
}

impl GuardedSource {
    /// Returns `source` with `readers` and a guard. `url` is that of its store.
    pub(super) fn of_parquet(
        source: ParquetSource,
        readers: GuardedReaders,
        url: ObjectStoreUrl,
    ) -> Arc<dyn FileSource> {
        let source = Arc::new(source.with_parquet_file_reader_factory(Arc::new(readers)));
        Arc::new(GuardedSource { source, url })
    }

    /// Returns the source without its guard.
    #[cfg(feature = "cluster")]
    pub(super) fn source(&self) -> Arc<dyn FileSource> {
        Arc::clone(&self.source)
    }

    fn around(&self, source: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(GuardedSource { source, url: self.url.clone() })
    }
}

impl FileSource for GuardedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let morselizer = Arc::new(self.source.create_morselizer(store, config, partition)?);
        let open = move |file: PartitionedFile| {
            let morselizer = Arc::clone(&morselizer);
            let opened = async move {
                let mut planners = vec![morselizer.plan_file(file)?];
                let mut streams = Vec::new();
                while let Some(planner) = planners.pop() {
                    let Some(mut plan) = planner.plan()? else {
                        continue;
                    };
                    for morsel in plan.take_morsels() {
                        streams.push(morsel.into_stream());
                    }
                    planners.extend(plan.take_ready_planners());
                    if let Some(pending) = plan.take_pending_planner() {
                        planners.push(pending.await?);
                    }
                }
                Ok(stream::iter(streams).flatten().boxed())
            };
            opened.boxed()
        };
        Ok(Arc::new(GuardedOpener { open: Box::new(open), url: self.url.clone() }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.source.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.around(self.source.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.source.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.source.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.source.metrics()
    }

    fn file_type(&self) -> &str {
        self.source.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt_extra(format, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.source.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let FilterPushdownPropagation { filters, updated_node } = self.source.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation { filters, updated_node: updated_node.map(|source| self.around(source)) })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.source.try_pushdown_sort(order, properties)?.map(|source| self.around(source)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.source.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.source.try_pushdown_projection(projection)?.map(|source| self.around(source)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.source.apply_expressions(f)
    }
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

struct GuardedOpener {
    open: Box<dyn Fn(PartitionedFile) -> BoxFuture<'static, Result<Batches>> + Send + Sync>,
    url: ObjectStoreUrl,
}

impl FileOpener for GuardedOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let name = super::file_name(&self.url, &file.object_meta.location);
        let mut opened = (self.open)(file);
        let guarded = async move {
            let opened = futures::future::poll_fn(|context| caught(|| opened.poll_unpin(context)));
            let mut batches = match opened.await {
                Ok(Ok(batches)) => batches,
                Ok(Err(error)) => return Err(named(&name, error)),
                Err(panic) => return Err(damaged(&name, panic.as_ref())),
            };
            let mut ended = false;
            let batches = stream::poll_fn(move |context| {
                if ended {
                    return Poll::Ready(None);
                }
                let polled = match caught(|| batches.poll_next_unpin(context)) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(batch)) => batch.map(|batch| batch.map_err(|error| named(&name, error))),
                    Poll::Ready(Err(panic)) => Some(Err(damaged(&name, panic.as_ref()))),
                };
                ended = !matches!(polled, Some(Ok(_)));
                Poll::Ready(polled)
            });
            Ok(batches.boxed())
        };
        Ok(guarded.boxed())
    }
}

/// Returns the result of a poll, or the panic that it ended with.
fn caught<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<std::result::Result<T, Box<dyn Any + Send>>> {
    match catching_panics(poll) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

/// Returns the error with the file's name. It is an error of damage if the reader could not decode the file's bytes.
fn named(name: &str, error: DataFusionError) -> DataFusionError {
    let reason = match error.find_root() {
        DataFusionError::ParquetError(error) => match error.as_ref() {
            // The store could not give the bytes, or a condition could not be computed.
            ParquetError::External(_) | ParquetError::ArrowError(_) => None,
            ParquetError::General(reason) => Some(reason.clone()),
            error => Some(error.to_string()),
        },
        _ => None,
    };
    match reason {
        None => error.context(format!("`{name}`")),
        Some(reason) => {
            let reason = reason.replace('\n', " ");
            DataFusionError::External(Box::new(DamagedFile { file: name.to_owned(), reason }))
        }
    }
}

fn damaged(name: &str, panic: &(dyn Any + Send)) -> DataFusionError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    let reason = format!("it is damaged: {}", text.lines().next().unwrap_or_default());
    DataFusionError::External(Box::new(DamagedFile { file: name.to_owned(), reason }))
}

/// Readers that check footers and pages. Files of a lake are verified; the footers of others are in [`Footers`].
#[derive(Debug)]
pub(super) struct GuardedReaders {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) footers: Footers,
}

impl ParquetFileReaderFactory for GuardedReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let metrics = || ParquetFileMetrics::new(partition_index, file.object_meta.location.as_ref(), metrics);
        if let Some(reader) = LakeFileReader::of(&file, &self.store, &metrics) {
            return Ok(Box::new(reader));
        }
        Ok(Box::new(GuardedReader {
            store: Arc::clone(&self.store),
            footers: self.footers.clone(),
            metrics: metrics(),
            file,
            footer: None,
        }))
    }
}

/// A reader of one file of another tool.
struct GuardedReader {
    store: Arc<dyn ObjectStore>,
    footers: Footers,
    metrics: ParquetFileMetrics,
    file: PartitionedFile,
    footer: Option<Arc<Footer>>,
}

impl GuardedReader {
    async fn footer(&mut self) -> parquet::errors::Result<Arc<Footer>> {
        if let Some(footer) = &self.footer {
            return Ok(Arc::clone(footer));
        }
        let footer = self.footers.read(self.store.as_ref(), &self.file.object_meta).await;
        let footer = footer.map_err(ParquetError::General)?;
        Ok(Arc::clone(self.footer.insert(footer)))
    }

    async fn ranges(&self, ranges: &[Range<u64>]) -> parquet::errors::Result<Vec<Bytes>> {
        let size = self.file.object_meta.size;
        if ranges.iter().any(|range| range.start > range.end || range.end > size) {
            return Err(ParquetError::General("a part of it lies outside of the file".to_owned()));
        }
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.metrics.bytes_scanned.add(usize::try_from(bytes).unwrap_or_default());
        let read = self.store.get_ranges(&self.file.object_meta.location, ranges).await;
        read.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl AsyncFileReader for GuardedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { Ok(self.ranges(&[range]).await?.pop().unwrap_or_default()) }.boxed()
    }

    /// Returns pages: DataFusion reads nothing else by several ranges.
    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move {
            // After Bloom filters the engine reads with a new reader, which has not read the footer.
            let footer = self.footer.clone().or_else(|| self.footers.kept(&self.file.object_meta.location));
            let most_values = footer.map_or(i64::MAX, |footer| footer.most_values);
            let parts = self.ranges(&ranges).await?;
            pages::check_all(&parts, most_values)?;
            Ok(parts)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move { Ok(Arc::clone(&self.footer().await?.metadata)) }.boxed()
    }
}
