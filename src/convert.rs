//! Raw trail to lake: each object once, each record once, nothing half-written.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use foldhash::fast::RandomState;
use futures::StreamExt as _;
use tokio::task::JoinHandle;

use crate::error::{Error, Fault};
use crate::lake::Lake;
use crate::lake::ledger::{self, FileEntry, ObjectEntry};
use crate::lake::part::{self, Part};
use crate::store::{self, LAKE_FOLDER, Object, Pending, Scratch};
use crate::tally::Tally;
use crate::trail::{self, Decoded, Sieve, Trail, Wanted};

/// Bytes of records that are gathered at most, whatever memory there is: with an object more, a column of a file stays
/// below the 2 GiB that one may have.
const MAX_GATHERED: usize = 768 << 20;

/// How a conversion uses the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Objects decoded at a time, and columns encoded at a time.
    pub threads: usize,
    /// Bytes of records gathered in memory before they are written. As many again may be being encoded.
    pub memory: usize,
    /// Objects being read at a time.
    pub in_flight: usize,
}

/// What a conversion did.
#[derive(Debug, Clone, Default)]
pub struct Converted {
    /// What was read and what became of it.
    pub tally: Tally,
    /// The files added to the lake.
    pub files: Vec<FileEntry>,
    /// Every object that could not be read, and why.
    pub unread: Vec<Fault>,
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
    let mut writer = Writer::open(lake, limits, scratch).await?;
    let mut tally = trail.left_out;
    let mut unread = tally.faults.clone();
    let held = held(lake, &trail.objects).await?;
    let (known, new): (Vec<Object>, Vec<Object>) =
        trail.objects.into_iter().partition(|object| held.contains(&object.identity()));
    tally.objects.read += known.len() as u64;
    tally.objects.already_converted = known.len() as u64;

    let settings = trail.stores.read_settings();
    let mut copies = Copies::default();
    let mut decoded = store::read_ahead(&trail.stores, new, limits.in_flight)
        .map(|fetched| {
            let settings = Arc::clone(settings);
            let task = tokio::task::spawn_blocking(move || {
                let bytes = fetched.bytes.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
                let wanted = Wanted { sieve: &Sieve::default(), hashed: true };
                let decoded = trail::decode(&fetched.object, bytes, &settings, wanted);
                decoded.map(|decoded| (fetched.object, decoded))
            });
            async move { task.await.map_err(|error| Error::Internal(error.to_string()))? }
        })
        .buffered(limits.threads + 1);
    while let Some(result) = decoded.next().await {
        let (object, Decoded { batches, hashes, tally: mut read }) = result?;
        let used = read.objects.used == 1;
        if read.objects.rejected > 0 {
            let fault = read.faults.iter().rfind(|fault| fault.position.is_none()).or(read.faults.last());
            let reason = fault.map_or_else(|| "it cannot be read".to_owned(), |fault| fault.reason.clone());
            unread.push(Fault { object: object.path.display().to_string(), position: None, reason });
        }
        let mut hashes = hashes.as_slice();
        for (place, batch) in batches.into_iter().enumerate() {
            let (of_batch, rest) = hashes.split_at(batch.num_rows());
            hashes = rest;
            let fresh: BooleanArray = of_batch.iter().map(|hash| Some(copies.is_first(*hash))).collect();
            let copies = (of_batch.len() - fresh.true_count()) as u64;
            read.records.used -= copies;
            read.records.duplicates += copies;
            writer.push(&format!("{}/{place}", object.identity()), &batch, &fresh)?;
        }
        if used {
            writer.finish_object(&object).await?;
        }
        tally.add(read);
        progress(&tally);
    }
    let files = writer.finish().await?;
    Ok(Converted { tally, files, unread })
}

/// The identities of those of `objects`, and maybe of others, whose records the lake holds.
pub async fn held(lake: &Lake, objects: &[Object]) -> Result<HashSet<String>, Error> {
    if objects.is_empty() {
        return Ok(HashSet::new());
    }
    let delivered = ledger::days(objects.iter().map(|object| trail::delivered_on(&object.real)));
    lake.ledger().object_ids(delivered).await
}

/// Remembers the records of a run, to tell copies: at least the last [`Copies::GENERATION`] of
/// them, so that the memory stays bounded. A copy from further back is written; hunts count it once.
#[derive(Default)]
struct Copies {
    recent: HashSet<u128, RandomState>,
    older: HashSet<u128, RandomState>,
}

impl Copies {
    /// A set of so many takes 17 MiB; with a few more it would take twice as much.
    const GENERATION: usize = 900_000;

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

/// Records by date, and the objects they are all the records of.
#[derive(Default)]
struct Gathered {
    parts: BTreeMap<Option<i64>, Part>,
    objects: Vec<ObjectEntry>,
    memory: usize,
}

/// What was gathered, as files that are complete but not yet at their places.
struct Encoded {
    files: Vec<(FileEntry, Pending)>,
    objects: Vec<ObjectEntry>,
}

impl Gathered {
    async fn encode(self, writer: Arc<store::Writer>, threads: usize) -> Result<Encoded, Error> {
        let mut files = Vec::new();
        for (date, part) in self.parts {
            files.push(part.stage(date, threads, &writer).await?);
        }
        Ok(Encoded { files, objects: self.objects })
    }
}

/// Gathers records by date and writes them as files of the lake. What was gathered is encoded while
/// the next objects are read.
struct Writer {
    lake: Lake,
    limits: Limits,
    folder: Arc<store::Writer>,
    /// The number of the last commit.
    last: u32,
    gathered: Gathered,
    encoding: Option<JoinHandle<Result<Encoded, Error>>>,
    files: Vec<FileEntry>,
}

impl Writer {
    async fn open(lake: &Lake, limits: Limits, scratch: &Scratch) -> Result<Writer, Error> {
        let Some(folder) = store::Writer::open(lake.folder(), LAKE_FOLDER, scratch).await? else {
            return Err(Error::Busy { lake: lake.path() });
        };
        if let store::Folder::Disk(root) = lake.folder() {
            store::create_folder(&root.join(LAKE_FOLDER).join("ledger"))?;
        }
        lake.check().await?;
        let last = lake.ledger().last().await?;
        Ok(Writer {
            last,
            lake: lake.clone(),
            limits,
            folder: Arc::new(folder),
            gathered: Gathered::default(),
            encoding: None,
            files: Vec::new(),
        })
    }

    /// Takes the rows of `batch`, which is `identity`, that are `fresh`.
    fn push(&mut self, identity: &str, batch: &RecordBatch, fresh: &BooleanArray) -> Result<(), Error> {
        for (date, rows) in part::by_date(batch, fresh) {
            let part = self.gathered.parts.entry(date).or_default();
            let before = part.memory;
            part.push(identity, batch, rows).map_err(|error| Error::Internal(format!("records by date: {error}")))?;
            self.gathered.memory += part.memory - before;
        }
        Ok(())
    }

    /// Notes that all records of `object` were pushed: the lake can be committed up to here.
    async fn finish_object(&mut self, object: &Object) -> Result<(), Error> {
        self.gathered.objects.push(ObjectEntry {
            id: object.identity(),
            path: object.path.display().to_string(),
            delivered: trail::delivered_on(&object.real),
        });
        if self.gathered.memory < self.limits.memory.min(MAX_GATHERED) {
            return Ok(());
        }
        self.commit().await?;
        self.encode();
        Ok(())
    }

    fn encode(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        self.encoding = Some(tokio::spawn(gathered.encode(Arc::clone(&self.folder), self.limits.threads)));
    }

    /// Makes what was encoded part of the lake.
    async fn commit(&mut self) -> Result<(), Error> {
        let Some(encoding) = self.encoding.take() else {
            return Ok(());
        };
        let encoded = encoding.await.map_err(|error| Error::Internal(error.to_string()))??;
        let mut files = Vec::with_capacity(encoded.files.len());
        for (entry, pending) in encoded.files {
            pending.publish()?;
            files.push(entry);
        }
        self.last += 1;
        self.lake.ledger().commit(&self.folder, self.last, files.clone(), &encoded.objects).await?;
        self.files.extend(files);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<FileEntry>, Error> {
        self.commit().await?;
        if !self.gathered.objects.is_empty() {
            self.encode();
            self.commit().await?;
        }
        Ok(self.files)
    }
}
