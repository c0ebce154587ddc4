//! The reader of a lake's files. It verifies each byte before it is decoded.
//!
//! A file that is not the one in the transaction log is damaged. So is one with a byte that differs from its checksum.
//! A failure of the store is not damage.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::footer::{Footer, Owner};
use super::pages;
use crate::lake::checksum::{self, BlockChecksums, PartFileDamage, RecordedFile};

/// A file of a lake as its transaction log describes it: the extension of a [`PartitionedFile`] that makes its reader
/// verify it.
#[derive(Debug)]
pub(in crate::engine) struct LakeFile {
    recorded: RecordedFile,
    /// The footer, while a reader holds it. DataFusion plans with one reader and decodes pages with another.
    footer: Mutex<Weak<VerifiedFooter>>,
}

/// A footer that is the recorded one.
#[derive(Debug)]
struct VerifiedFooter {
    footer: Footer,
    blocks: BlockChecksums,
}

impl LakeFile {
    pub(in crate::engine) fn new(recorded: RecordedFile) -> LakeFile {
        LakeFile { recorded, footer: Mutex::default() }
    }

    /// Returns what the transaction log says of the file.
    #[cfg(feature = "cluster")]
    pub(super) fn recorded(&self) -> RecordedFile {
        self.recorded
    }

    fn kept_footer(&self) -> Option<Arc<VerifiedFooter>> {
        self.footer.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    fn keep_footer(&self, footer: &Arc<VerifiedFooter>) {
        *self.footer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(footer);
    }
}

/// A reader of one file of a lake.
pub(super) struct LakeFileReader {
    store: Arc<dyn ObjectStore>,
    metrics: ParquetFileMetrics,
    location: Path,
    file: Arc<LakeFile>,
    footer: Option<Arc<VerifiedFooter>>,
    /// The verified bytes from the page indexes to the end of the file.
    metadata: Option<Bytes>,
}

impl LakeFileReader {
    /// Returns a reader of `file`. `None` if it is not a file of a lake.
    pub(super) fn of(
        file: &PartitionedFile,
        store: &Arc<dyn ObjectStore>,
        metrics: &dyn Fn() -> ParquetFileMetrics,
    ) -> Option<LakeFileReader> {
        let lake_file = file.extension::<Arc<LakeFile>>()?;
        Some(LakeFileReader {
            store: Arc::clone(store),
            metrics: metrics(),
            location: file.object_meta.location.clone(),
            footer: lake_file.kept_footer(),
            file: Arc::clone(lake_file),
            metadata: None,
        })
    }

    /// Returns the bytes from the page indexes to the end of the file.
    async fn metadata(&mut self) -> parquet::errors::Result<Bytes> {
        if let Some(metadata) = &self.metadata {
            return Ok(metadata.clone());
        }
        let recorded = self.file.recorded;
        recorded.check_sizes()?;
        let range = GetRange::Bounded(recorded.checksum.start..recorded.bytes);
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let result = match self.store.get_opts(&self.location, options).await {
            Ok(result) => result,
            Err(error) => return Err(self.explained(error).await),
        };
        recorded.check_stored_size(result.meta.size)?;
        let metadata = result.bytes().await.map_err(unread)?;
        self.metrics.bytes_scanned.add(metadata.len());
        recorded.check_metadata(&metadata)?;
        Ok(self.metadata.insert(metadata).clone())
    }

    /// Returns the error of a request. A store also refuses requests for bytes that a file does not have.
    async fn explained(&self, error: object_store::Error) -> ParquetError {
        match self.store.head(&self.location).await {
            Ok(meta) => match self.file.recorded.check_stored_size(meta.size) {
                Ok(()) => unread(error),
                Err(damage) => damage.into(),
            },
            Err(object_store::Error::NotFound { .. }) => PartFileDamage::Missing.into(),
            Err(_) => unread(error),
        }
    }

    async fn footer(&mut self) -> parquet::errors::Result<Arc<VerifiedFooter>> {
        if let Some(footer) = &self.footer {
            return Ok(Arc::clone(footer));
        }
        let recorded = self.file.recorded;
        let metadata = self.metadata().await?;
        let bytes = checksum::footer(&metadata).ok_or(PartFileDamage::NoFooter)?;
        let footer = Footer::decode(bytes, recorded.bytes, Owner::Lake, None).map_err(ParquetError::General)?;
        recorded.check_records(footer.metadata.file_metadata().num_rows())?;
        let blocks = BlockChecksums::of_footer(&recorded, footer.texts.as_ref())?;
        let footer = Arc::new(VerifiedFooter { footer, blocks });
        self.file.keep_footer(&footer);
        Ok(Arc::clone(self.footer.insert(footer)))
    }

    /// Returns parts of the pages.
    async fn pages(&mut self, ranges: &[Range<u64>]) -> parquet::errors::Result<Vec<Bytes>> {
        let footer = self.footer().await?;
        let blocks = block_ranges(&footer.blocks, ranges)?;
        let bytes: u64 = blocks.iter().map(|range| range.end - range.start).sum();
        self.metrics.bytes_scanned.add(usize::try_from(bytes).unwrap_or_default());
        let read = match self.store.get_ranges(&self.location, &blocks).await {
            Ok(read) => read,
            Err(error) => return Err(self.explained(error).await),
        };
        for (range, bytes) in blocks.iter().zip(&read) {
            if bytes.len() as u64 != range.end - range.start {
                return Err(PartFileDamage::Block { start: range.start }.into());
            }
            footer.blocks.verify(range.start, bytes)?;
        }
        let part = |range: &Range<u64>| {
            let index = blocks.partition_point(|block| block.end < range.end);
            let (block, bytes) = blocks.get(index).zip(read.get(index))?;
            let start = usize::try_from(range.start.checked_sub(block.start)?).ok()?;
            let end = usize::try_from(range.end - block.start).ok()?;
            (end <= bytes.len()).then(|| bytes.slice(start..end))
        };
        ranges.iter().map(|range| part(range).ok_or_else(outside)).collect()
    }
}

/// Returns the ranges of whole blocks that include `ranges`: ordered, without overlaps, and with gaps between them.
fn block_ranges(blocks: &BlockChecksums, ranges: &[Range<u64>]) -> parquet::errors::Result<Vec<Range<u64>>> {
    let whole = |range| blocks.block_range(range).ok_or_else(outside);
    let mut whole: Vec<Range<u64>> = ranges.iter().map(whole).collect::<parquet::errors::Result<_>>()?;
    whole.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(whole.len());
    for range in whole {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    Ok(joined)
}

impl From<PartFileDamage> for ParquetError {
    fn from(damage: PartFileDamage) -> ParquetError {
        ParquetError::General(damage.to_string())
    }
}

fn unread(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

fn outside() -> ParquetError {
    ParquetError::General("a part of it lies outside of the file".to_owned())
}

impl AsyncFileReader for LakeFileReader {
    /// Returns page indexes: DataFusion reads nothing else by one range.
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let start = self.file.recorded.checksum.start;
            let Some(begin) = range.start.checked_sub(start) else {
                return Ok(self.pages(&[range]).await?.pop().unwrap_or_default());
            };
            let metadata = self.metadata().await?;
            let [begin, end] =
                [begin, range.end.saturating_sub(start)].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            if begin > end || end > metadata.len() {
                return Err(outside());
            }
            Ok(metadata.slice(begin..end))
        }
        .boxed()
    }

    /// Returns pages: DataFusion reads nothing else by several ranges.
    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move {
            let most_values = self.footer().await?.footer.most_values;
            let parts = self.pages(&ranges).await?;
            pages::check_all(&parts, most_values)?;
            Ok(parts)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move { Ok(Arc::clone(&self.footer().await?.footer.metadata)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::checksum::BLOCK_BYTES;

    #[test]
    fn ranges_are_read_as_whole_blocks_each_once() {
        let end = 5 * BLOCK_BYTES + 10;
        let blocks = BlockChecksums::of(&vec![0; usize::try_from(end).unwrap()]);
        let read = |ranges: &[Range<u64>]| block_ranges(&blocks, ranges).unwrap();
        let block = |from: u64, to: u64| from * BLOCK_BYTES..(to * BLOCK_BYTES).min(end);
        assert_eq!(read(&[4..5, 7..BLOCK_BYTES]), [block(0, 1)]);
        assert_eq!(
            read(&[BLOCK_BYTES - 1..BLOCK_BYTES + 1, 3 * BLOCK_BYTES..3 * BLOCK_BYTES + 1]),
            [block(0, 2), block(3, 4)]
        );
        assert_eq!(read(&[end - 1..end, 0..1]), [block(0, 1), block(5, 6)], "in any order");
        assert_eq!(read(&[0..BLOCK_BYTES, BLOCK_BYTES..2 * BLOCK_BYTES]), [block(0, 2)], "neighbors");
        let beyond = [0..1, end - 1..end + 1];
        assert!(block_ranges(&blocks, &beyond).is_err());
    }
}
