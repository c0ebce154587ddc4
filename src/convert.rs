//! Converts a raw trail to a lake: each object once, each record once, all or nothing per commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array as _, AsArray as _, BooleanArray, RecordBatch, StringArray};
use foldhash::fast::RandomState;
use futures::StreamExt as _;
use tokio::task::JoinHandle;

use crate::error::{Error, Fault};
use crate::event::{self, batch::BatchBuilder};
use crate::lake::Lake;
use crate::lake::part_file::{self, PartFileBuilder};
use crate::lake::transaction_log::{self, FileEntry, ObjectEntry, VerifiedObjects};
use crate::named_columns;
use crate::statistics::{DifferingExample, DifferingRecord, DifferingRecords, ScanStatistics};
use crate::store::{self, Fetched, LAKE_FOLDER, Object, Pending, ReadSettings, Scratch};
use crate::time::Instant;
use crate::trail::{self, DecodeOptions, Decoder, Prefilter, Trail};
use crate::verify::{ManifestCheck, ObjectManifest};

/// Maximum bytes of records to buffer, independent of `--memory`. One more object then still keeps each column below
/// the 2 GiB limit of an Arrow array.
const MAX_BUFFERED: usize = 768 << 20;

/// Resource limits of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Objects decoded concurrently, and columns encoded concurrently.
    pub threads: usize,
    /// Bytes of records to buffer before they are written. As many again may be in the encoder.
    pub memory: usize,
    /// Objects read concurrently.
    pub in_flight: usize,
}

/// The result of a conversion.
#[derive(Debug, Clone, Default)]
pub struct ConversionResult {
    /// Counts of everything that was read.
    pub statistics: ScanStatistics,
    /// The files added to the lake.
    pub files: Vec<FileEntry>,
    /// One fault for each object that could not be read.
    pub unread: Vec<Fault>,
    /// How many of the converted objects digests verify. `None` if there was no manifest.
    pub verified: Option<VerifiedObjects>,
}

/// A trail to convert, with what digests say about its objects.
#[derive(Debug)]
pub struct VerifiableTrail {
    /// The trail.
    pub trail: Trail,
    /// The hashes that digests name. Objects with another hash are rejected.
    pub manifest: Option<Arc<ObjectManifest>>,
}

impl From<Trail> for VerifiableTrail {
    fn from(trail: Trail) -> VerifiableTrail {
        VerifiableTrail { trail, manifest: None }
    }
}

/// Converts the objects of `trail` that are not in the lake yet. Calls `progress` after each object with the counts
/// so far.
///
/// # Errors
/// The lake cannot be written, or another process holds its lock. Objects and records that cannot be read are not
/// errors; the result counts them as rejected.
pub async fn convert(
    source: impl Into<VerifiableTrail>,
    lake: &Lake,
    limits: Limits,
    scratch: &Scratch,
    progress: &mut dyn FnMut(&ScanStatistics),
) -> Result<ConversionResult, Error> {
    let VerifiableTrail { trail, manifest } = source.into();
    let mut writer = LakeWriter::open(lake, limits, scratch).await?;
    let mut verified = manifest.is_some().then(VerifiedObjects::default);
    let mut statistics = trail.excluded;
    let mut unread = statistics.faults.clone();
    let converted = converted_object_ids(lake, &trail.objects).await?;
    let (known, new): (Vec<Object>, Vec<Object>) =
        trail.objects.into_iter().partition(|object| converted.contains(&object.identity()));
    statistics.objects.read += known.len() as u64;
    statistics.objects.already_converted = known.len() as u64;

    let settings = Arc::clone(trail.stores.read_settings());
    let decoders = Arc::new(Decoders { settings, manifest, idle: Mutex::default() });
    let mut seen = RecentRecords::default();
    let mut decoded = store::read_ahead_groups(&trail.stores, new, limits.in_flight)
        .map(|group| {
            let decoders = Arc::clone(&decoders);
            let task = tokio::task::spawn_blocking(move || decoders.decode(group));
            async move { task.await.map_err(|error| Error::Internal(error.to_string()))? }
        })
        .buffered(limits.threads + 1);
    while let Some(group) = decoded.next().await {
        let DecodedGroup { mut objects, batches } = group?;
        let identity = objects.iter().map(|decoded| decoded.object.identity()).collect::<Vec<_>>().join(",");
        // The objects of the rows, in order.
        let mut of_rows = row_owners(&objects).into_iter();
        for (batch_index, (batch, hashes)) in batches.into_iter().enumerate() {
            let relations: Vec<Relation> = hashes.into_iter().map(|hashes| seen.add(hashes)).collect();
            for (row, (relation, owner)) in relations.iter().zip(of_rows.by_ref()).enumerate() {
                let GroupedObject { object, statistics, .. } = &mut objects[owner];
                match relation {
                    Relation::First | Relation::SameEventId { report: false } => {}
                    Relation::SameEventId { report: true } => {
                        statistics.differing.add(differing_record(&batch, row, object));
                    }
                    Relation::Duplicate => {
                        statistics.records.used -= 1;
                        statistics.records.duplicates += 1;
                    }
                }
            }
            let fresh: BooleanArray = relations.iter().map(|relation| Some(*relation != Relation::Duplicate)).collect();
            writer.append(&format!("{identity}/{batch_index}"), &batch, &fresh)?;
        }
        for GroupedObject { object, statistics: read, is_verified, .. } in objects {
            if read.objects.rejected > 0 {
                let fault = read.faults.iter().rfind(|fault| fault.position.is_none()).or(read.faults.last());
                let reason = fault.map_or_else(|| "it cannot be read".to_owned(), |fault| fault.reason.clone());
                unread.push(Fault { object: object.path.display().to_string(), position: None, reason });
            }
            if read.objects.used == 1 {
                writer.finish_object(&object, is_verified);
                if let Some(verified) = &mut verified {
                    verified.objects += 1;
                    verified.verified += u64::from(is_verified);
                }
            }
            statistics.add(read);
            progress(&statistics);
        }
        writer.commit_if_full().await?;
    }
    let files = writer.finish().await?;
    Ok(ConversionResult { statistics, files, unread, verified })
}

/// Objects that were decoded together.
struct DecodedGroup {
    objects: Vec<GroupedObject>,
    /// Their records, and the hashes of each record.
    batches: Vec<(RecordBatch, Vec<RecordHashes>)>,
}

/// An object of a [`DecodedGroup`].
struct GroupedObject {
    object: Object,
    /// The number of its records.
    rows: usize,
    statistics: ScanStatistics,
    /// Whether a verified digest names the hash of its content.
    is_verified: bool,
}

/// Returns for each row of a group the index of its object.
fn row_owners(objects: &[GroupedObject]) -> Vec<usize> {
    let rows = objects.iter().enumerate().map(|(owner, object)| std::iter::repeat_n(owner, object.rows));
    rows.flatten().collect()
}

/// Decodes groups of objects, several at a time.
struct Decoders {
    settings: Arc<ReadSettings>,
    manifest: Option<Arc<ObjectManifest>>,
    /// Decoders that wait for a group. A new one would have to grow to the size of a batch first.
    idle: Mutex<Vec<Decoder>>,
}

impl Decoders {
    fn idle(&self) -> MutexGuard<'_, Vec<Decoder>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decode(&self, group: Vec<Fetched>) -> Result<DecodedGroup, Error> {
        let decoder = self.idle().pop();
        let mut decoder = decoder.unwrap_or_else(|| Decoder::new(BatchBuilder::default()));
        let options = DecodeOptions { prefilter: &Prefilter::default(), hash_records: true };
        let decode = |fetched: Fetched| {
            let check = self.manifest.as_ref().map(|manifest| manifest.check(&fetched.object, &fetched.bytes));
            if let Some(ManifestCheck::Altered(reason)) = &check {
                let statistics = altered_object(&fetched.object, reason);
                return GroupedObject { object: fetched.object, rows: 0, statistics, is_verified: false };
            }
            let is_verified = check == Some(ManifestCheck::Verified);
            let bytes = fetched.bytes.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
            let before = decoder.rows();
            let statistics = decoder.decode(&fetched.object, bytes, &self.settings, options);
            GroupedObject { object: fetched.object, rows: decoder.rows() - before, statistics, is_verified }
        };
        let objects = group.into_iter().map(decode).collect();
        decoder.finish_batch();
        let (batches, row_hashes) = (decoder.take_batches()?, decoder.take_hashes());
        self.idle().push(decoder);
        let mut rest_of_hashes = row_hashes.as_slice();
        let with_hashes = |batch: RecordBatch| {
            let (of_batch, rest) = rest_of_hashes.split_at(batch.num_rows());
            rest_of_hashes = rest;
            let of_rows = RecordHashes::of_rows(&batch, of_batch);
            (batch, of_rows)
        };
        Ok(DecodedGroup { objects, batches: batches.into_iter().map(with_hashes).collect() })
    }
}

/// Returns the statistics of an object that is rejected, because it is not the one that CloudTrail delivered.
fn altered_object(object: &Object, reason: &str) -> ScanStatistics {
    let mut statistics = ScanStatistics { stored_bytes: object.size, ..ScanStatistics::default() };
    statistics.objects.read = 1;
    statistics.objects.rejected = 1;
    let object = object.path.display().to_string();
    statistics.fault(Fault { object, position: None, reason: format!("altered: {reason}") });
    statistics
}

/// Returns the identities of converted objects. It includes all of `objects` that were converted, and may include others.
pub async fn converted_object_ids(lake: &Lake, objects: &[Object]) -> Result<HashSet<String>, Error> {
    if objects.is_empty() {
        return Ok(HashSet::new());
    }
    let days = objects.iter().map(|object| trail::delivered_on(&object.real));
    let delivered = transaction_log::day_span(days);
    lake.transaction_log().object_ids(delivered).await
}

/// The recent records of a run, to recognise duplicates.
///
/// Holds at least the last [`RecentRecords::GENERATION`] records, so memory is bounded. A duplicate of an older record
/// is written to the lake; hunts count it once.
#[derive(Default)]
struct RecentRecords {
    /// By the hash of its identity, the `content` of the first such record.
    recent: HashMap<u64, u64, RandomState>,
    older: HashMap<u64, u64, RandomState>,
    /// Identity and `content` of later records that differ from the first.
    others: HashSet<(u64, u64), RandomState>,
    /// Identities whose differing records were reported.
    reported: HashSet<u64, RandomState>,
}

/// The hashes by which a record is compared with others.
struct RecordHashes {
    /// Hash of its `eventID`, or of its text if it has none.
    id: u64,
    /// High half: hash of time, name and source. Low half: hash of the text.
    content: u64,
}

/// How a record relates to the records before it.
#[derive(Debug, PartialEq, Eq)]
enum Relation {
    /// The first record with its identity.
    First,
    /// A second delivery of the same text.
    Duplicate,
    /// Another text with the same `eventID`. `report` is true once per `eventID`, if time, name or source differ.
    SameEventId { report: bool },
}

impl RecordHashes {
    /// Returns the hashes of each row of `batch`, given the hashes of the rows' texts.
    fn of_rows(batch: &RecordBatch, texts: &[u128]) -> Vec<RecordHashes> {
        let column = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let ids = [column(event::EVENT_ID), column(event::CONTENT_ID)];
        let (names, sources) = (column("eventName"), column("eventSource"));
        let times = named_columns::times(batch, event::EVENT_TIME).ok();
        let hashes = |(row, text): (usize, &u128)| {
            let time = times.filter(|times| times.is_valid(row)).map(|times| times.value(row));
            let id = ids.into_iter().map(|column| value(column, row)).find(|id| !id.is_empty()).unwrap_or_default();
            let call = format!("{time:?} {} {}", value(names, row), value(sources, row));
            let low = |hash: u128, bits: u32| u64::try_from(hash & ((1 << bits) - 1)).unwrap_or_default();
            let content = low(trail::hash(&call), 32) << 32 | low(*text, 32);
            RecordHashes { id: low(trail::hash(id), 64), content }
        };
        texts.iter().enumerate().map(hashes).collect()
    }
}

fn value(column: Option<&StringArray>, row: usize) -> &str {
    column.filter(|column| column.is_valid(row)).map_or("", |column| column.value(row))
}

impl RecentRecords {
    /// Just below the size at which a hash map doubles from 17 to 34 MiB.
    const GENERATION: usize = 900_000;

    fn add(&mut self, RecordHashes { id, content }: RecordHashes) -> Relation {
        let Some(first) = self.older.get(&id).or_else(|| self.recent.get(&id)).copied() else {
            self.recent.insert(id, content);
            if self.recent.len() == Self::GENERATION {
                self.older = std::mem::take(&mut self.recent);
                self.others.clear();
                self.reported.clear();
            }
            return Relation::First;
        };
        if first == content || self.others.contains(&(id, content)) {
            return Relation::Duplicate;
        }
        if self.others.len() == Self::GENERATION {
            self.others.clear();
        }
        self.others.insert((id, content));
        Relation::SameEventId { report: first >> 32 != content >> 32 && self.reported.insert(id) }
    }
}

/// Describes the record in `row`, which differs from an earlier record with its `eventID`.
fn differing_record(batch: &RecordBatch, row: usize, object: &Object) -> DifferingRecords {
    let text = |name: &str| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let times = named_columns::times(batch, event::EVENT_TIME).ok();
    let record = DifferingRecord {
        event_time: times
            .filter(|times| times.is_valid(row))
            .map(|times| Instant::from_micros(times.value(row)).to_string()),
        event_name: text("eventName"),
        event_source: text("eventSource"),
        object: Some(object.path.display().to_string()),
    };
    let event_id = text(event::EVENT_ID).unwrap_or_default();
    DifferingRecords { event_ids: 1, example: Some(DifferingExample { event_id, records: vec![record] }) }
}

/// Buffered records by date, and the objects they come from. Each object is complete.
#[derive(Default)]
struct RecordBuffer {
    parts: BTreeMap<Option<Instant>, PartFileBuilder>,
    objects: Vec<ObjectEntry>,
    memory: usize,
}

/// The content of a [`RecordBuffer`] as staged files, complete but not yet published.
struct StagedFiles {
    files: Vec<(FileEntry, Pending)>,
    objects: Vec<ObjectEntry>,
}

impl RecordBuffer {
    async fn encode(self, writer: Arc<store::FolderWriter>, threads: usize) -> Result<StagedFiles, Error> {
        let mut files = Vec::new();
        for (date, part) in self.parts {
            files.push(part.stage(date, threads, &writer).await?);
        }
        Ok(StagedFiles { files, objects: self.objects })
    }
}

/// Buffers records by date and commits them to the lake. A full buffer is encoded while the next objects are read.
struct LakeWriter {
    lake: Lake,
    limits: Limits,
    folder: Arc<store::FolderWriter>,
    /// The version of the lake after the last commit of this run.
    last_commit: u64,
    buffer: RecordBuffer,
    encoding: Option<JoinHandle<Result<StagedFiles, Error>>>,
    files: Vec<FileEntry>,
}

impl LakeWriter {
    async fn open(lake: &Lake, limits: Limits, scratch: &Scratch) -> Result<LakeWriter, Error> {
        lake.check_folder().await?;
        let Some(folder) =
            store::FolderWriter::open(lake.folder(), LAKE_FOLDER, store::WriterLock::Shared, scratch).await?
        else {
            return Err(Error::Busy { lake: lake.path() });
        };
        lake.transaction_log().create().await?;
        lake.check_files().await?;
        let last_commit = lake.transaction_log().last_commit().await?;
        Ok(LakeWriter {
            last_commit,
            lake: lake.clone(),
            limits,
            folder: Arc::new(folder),
            buffer: RecordBuffer::default(),
            encoding: None,
            files: Vec::new(),
        })
    }

    /// Buffers the `fresh` rows of `batch`. `identity` is unique to the batch.
    fn append(&mut self, identity: &str, batch: &RecordBatch, fresh: &BooleanArray) -> Result<(), Error> {
        for (date, rows) in part_file::rows_by_date(batch, fresh)? {
            let part = self.buffer.parts.entry(date).or_default();
            let before = part.memory;
            part.append(identity, batch, rows).map_err(|error| Error::columns("the records of one date", error))?;
            self.buffer.memory += part.memory - before;
        }
        Ok(())
    }

    /// Marks `object`, whose records are buffered, as complete.
    fn finish_object(&mut self, object: &Object, is_verified: bool) {
        self.buffer.objects.push(ObjectEntry {
            id: object.identity(),
            path: object.path.display().to_string(),
            verified: is_verified,
            delivered: trail::delivered_on(&object.real),
        });
    }

    /// If the buffer is full, commits the previous one and starts to encode this one. All buffered records must be of
    /// complete objects.
    async fn commit_if_full(&mut self) -> Result<(), Error> {
        if self.buffer.memory < self.limits.memory.min(MAX_BUFFERED) {
            return Ok(());
        }
        self.commit().await?;
        self.encode();
        Ok(())
    }

    fn encode(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.encoding = Some(tokio::spawn(buffer.encode(Arc::clone(&self.folder), self.limits.threads)));
    }

    /// Publishes and commits the files of the buffer that is being encoded, if there is one.
    async fn commit(&mut self) -> Result<(), Error> {
        let Some(encoding) = self.encoding.take() else {
            return Ok(());
        };
        let staged = encoding.await.map_err(|error| Error::Internal(error.to_string()))??;
        let mut files = Vec::with_capacity(staged.files.len());
        for (entry, pending) in staged.files {
            pending.publish()?;
            files.push(entry);
        }
        let log = self.lake.transaction_log();
        self.last_commit = log.commit(&self.folder, self.last_commit, &files, &staged.objects).await?;
        self.files.extend(files);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<FileEntry>, Error> {
        self.commit().await?;
        if !self.buffer.objects.is_empty() {
            self.encode();
            self.commit().await?;
        }
        Ok(self.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_of_one_identity_do_not_depend_on_their_order() {
        const A: u64 = 1 << 32 | 1;
        // The same time, name and source with another text.
        const A_OTHER_TEXT: u64 = 1 << 32 | 2;
        const B: u64 = 2 << 32 | 3;
        let counts = |contents: &[u64]| {
            let mut seen = RecentRecords::default();
            let relations: Vec<Relation> =
                contents.iter().map(|content| seen.add(RecordHashes { id: 7, content: *content })).collect();
            let count = |relation: &Relation| relations.iter().filter(|other| *other == relation).count();
            (count(&Relation::Duplicate), count(&Relation::SameEventId { report: true }))
        };
        for contents in [[A, B, A, B, A_OTHER_TEXT], [B, A_OTHER_TEXT, B, A, A], [A_OTHER_TEXT, A, A, B, B]] {
            assert_eq!(counts(&contents), (2, 1), "{contents:?}");
        }
        assert_eq!(counts(&[A, A, A_OTHER_TEXT]), (1, 0));
    }
}
