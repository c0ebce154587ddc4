//! Raw trail to lake: each object once, each record once, nothing half-written.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute;
use futures::StreamExt as _;
use parquet::errors::ParquetError;
use tempfile::TempDir;

use crate::error::Error;
use crate::lake::Lake;
use crate::lake::ledger::{FileEntry, ObjectEntry};
use crate::lake::part::{self, Part};
use crate::store::{self, Object, Reader, Scratch, Staged};
use crate::tally::Tally;
use crate::trail::{self, Decoded, Sieve, Trail};

/// How a conversion uses the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Objects decoded at a time, and files encoded at a time.
    pub threads: usize,
    /// Bytes of records gathered in memory before they are written.
    pub memory: usize,
}

/// What a conversion did.
#[derive(Debug, Clone, Default)]
pub struct Converted {
    /// What was read and what became of it.
    pub tally: Tally,
    /// The files added to the lake.
    pub files: Vec<FileEntry>,
}

/// Converts the objects of `trail` that the lake does not hold yet. `progress` is called after each
/// object with what has been read so far.
///
/// # Errors
/// When the lake cannot be written or another conversion is writing it. Objects and records that
/// cannot be read are not errors; they are in the result's tally.
pub async fn convert(
    trail: Trail,
    lake: &Lake,
    limits: Limits,
    scratch: &Scratch,
    progress: &mut dyn FnMut(&Tally),
) -> Result<Converted, Error> {
    let mut writer = Writer::open(lake, limits, scratch)?;
    let mut tally = trail.left_out;
    let held = lake.ledger().object_ids()?;
    let (known, new): (Vec<Object>, Vec<Object>) =
        trail.objects.into_iter().partition(|object| held.contains(&object.identity()));
    tally.objects.read += known.len() as u64;
    tally.objects.already_converted = known.len() as u64;

    let mut copies = Copies::default();
    let reader = Reader::default();
    let mut decoded = futures::stream::iter(new)
        .map(|object| {
            let reader = reader.clone();
            async move {
                let bytes = reader.read(&object).await;
                let task = tokio::task::spawn_blocking(move || {
                    let bytes = bytes.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
                    trail::decode(&object, bytes, &Sieve::default()).map(|decoded| (object, decoded))
                });
                task.await.map_err(|error| Error::Internal(error.to_string()))?
            }
        })
        .buffered(limits.threads + 1);
    while let Some(result) = decoded.next().await {
        let (object, Decoded { batches, hashes, tally: mut read }) = result?;
        let used = read.objects.used == 1;
        let mut hashes = hashes.as_slice();
        for batch in batches {
            let (of_batch, rest) = hashes.split_at(batch.num_rows());
            hashes = rest;
            let fresh: BooleanArray = of_batch.iter().map(|hash| Some(copies.is_first(*hash))).collect();
            let copies = (of_batch.len() - fresh.true_count()) as u64;
            read.records.used -= copies;
            read.records.duplicates += copies;
            writer.push(&object, &batch, of_batch, &fresh).await?;
        }
        if used {
            writer.finish_object(&object).await?;
        }
        tally.add(read);
        progress(&tally);
    }
    let files = writer.finish().await?;
    Ok(Converted { tally, files })
}

/// Remembers the records of a run, to tell copies: at least the last [`Copies::GENERATION`] of
/// them, so that the memory stays bounded. A copy from further back is written; hunts count it once.
#[derive(Default)]
struct Copies {
    recent: HashSet<u128>,
    older: HashSet<u128>,
}

impl Copies {
    const GENERATION: usize = 2_000_000;

    fn is_first(&mut self, hash: u128) -> bool {
        if self.older.contains(&hash) || !self.recent.insert(hash) {
            return false;
        }
        if self.recent.len() == Self::GENERATION {
            self.older = std::mem::take(&mut self.recent);
        }
        true
    }
}

/// Gathers records by date and writes them as files of the lake.
struct Writer {
    lake: Lake,
    limits: Limits,
    staging: TempDir,
    _lock: File,
    parts: BTreeMap<Option<i64>, Part>,
    memory: usize,
    staged: Vec<(FileEntry, Staged)>,
    objects: Vec<ObjectEntry>,
    files: Vec<FileEntry>,
}

impl Writer {
    fn open(lake: &Lake, limits: Limits, scratch: &Scratch) -> Result<Writer, Error> {
        let own_folder = lake.own_folder();
        store::create_folder(&own_folder.join("ledger"))?;
        let Some(lock) = store::try_lock(&own_folder.join("lock"))? else {
            return Err(Error::Busy { lake: lake.root().to_path_buf() });
        };
        store::remove_stale_scratch(&own_folder)?;
        Ok(Writer {
            lake: lake.clone(),
            limits,
            staging: scratch.folder_in(&own_folder)?,
            _lock: lock,
            parts: BTreeMap::new(),
            memory: 0,
            staged: Vec::new(),
            objects: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Takes the rows of `batch`, of `object`, that are `fresh`.
    async fn push(
        &mut self,
        object: &Object,
        batch: &RecordBatch,
        hashes: &[u128],
        fresh: &BooleanArray,
    ) -> Result<(), Error> {
        let internal = |error| Error::Internal(format!("records by date: {error}"));
        let kept = compute::filter_record_batch(batch, fresh).map_err(internal)?;
        let hashes: Vec<u128> =
            hashes.iter().zip(fresh.values()).filter(|(_, fresh)| *fresh).map(|(hash, _)| *hash).collect();
        for (date, records, rows) in part::by_date(&kept).map_err(internal)? {
            let part = self.parts.entry(date).or_default();
            let before = part.memory;
            part.push(&object.identity(), records, rows.into_iter().map(|row| hashes[row]));
            self.memory += part.memory - before;
        }
        if self.memory >= self.limits.memory {
            self.encode_all().await?;
        }
        Ok(())
    }

    /// Encodes what was gathered. The files become part of the lake with the next commit.
    async fn encode_all(&mut self) -> Result<(), Error> {
        self.memory = 0;
        let staging: Arc<PathBuf> = Arc::new(self.staging.path().to_path_buf());
        let root = self.lake.root().to_path_buf();
        let mut encoded = futures::stream::iter(std::mem::take(&mut self.parts))
            .map(|(date, part)| {
                let (staging, root) = (Arc::clone(&staging), root.clone());
                tokio::task::spawn_blocking(move || {
                    let internal = |error: ParquetError| Error::Internal(format!("a Parquet file: {error}"));
                    let (entry, bytes) = part.encode(date).map_err(internal)?;
                    let staged = store::stage(&root.join(&entry.path), &staging, &bytes)?;
                    Ok::<_, Error>((entry, staged))
                })
            })
            .buffered(self.limits.threads);
        while let Some(result) = encoded.next().await {
            self.staged.push(result.map_err(|error| Error::Internal(error.to_string()))??);
        }
        Ok(())
    }

    /// Notes that all records of `object` were pushed. Once what was gathered is encoded, this is a
    /// point at which the lake can be committed.
    async fn finish_object(&mut self, object: &Object) -> Result<(), Error> {
        let path = object.path.display().to_string();
        self.objects.push(ObjectEntry { id: object.identity(), path });
        if self.staged.is_empty() {
            return Ok(());
        }
        self.commit().await
    }

    async fn commit(&mut self) -> Result<(), Error> {
        self.encode_all().await?;
        let mut files = Vec::with_capacity(self.staged.len());
        for (entry, staged) in self.staged.drain(..) {
            staged.publish()?;
            files.push(entry);
        }
        self.lake.ledger().commit(files.clone(), &self.objects, self.staging.path())?;
        self.objects.clear();
        self.files.extend(files);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<FileEntry>, Error> {
        if !self.objects.is_empty() {
            self.commit().await?;
        }
        Ok(self.files)
    }
}
