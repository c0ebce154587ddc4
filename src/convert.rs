//! Raw trail to lake: each object once, each record once, nothing half-written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::TimestampMicrosecondType;
use foldhash::fast::RandomState;
use futures::StreamExt as _;
use tokio::task::JoinHandle;

use crate::error::{Error, Fault};
use crate::event;
use crate::lake::Lake;
use crate::lake::part_file::{self, PartFileBuilder};
use crate::lake::transaction_log::{self, FileEntry, ObjectEntry};
use crate::store::{self, LAKE_FOLDER, Object, Pending, Scratch};
use crate::tally::{DifferingExample, DifferingRecord, DifferingRecords, Tally};
use crate::time;
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
    let mut seen = Seen::default();
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
            let sights: Vec<Sight> = Print::of(&batch, of_batch).into_iter().map(|print| seen.see(print)).collect();
            for (row, _) in sights.iter().enumerate().filter(|(_, sight)| **sight == Sight::Other { differs: true }) {
                read.differing.add(differing(&batch, row, &object));
            }
            let fresh: BooleanArray = sights.iter().map(|sight| Some(*sight != Sight::Duplicate)).collect();
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
    let delivered = transaction_log::day_span(objects.iter().map(|object| trail::delivered_on(&object.real)));
    lake.transaction_log().object_ids(delivered).await
}

/// Remembers the records of a run, to tell duplicates: at least the last [`Seen::GENERATION`] of them, so that memory
/// stays bounded. A duplicate from further back is written; hunts count it once.
#[derive(Default)]
struct Seen {
    /// The identities of records, and the [`Print`] of the first record of each.
    recent: HashMap<u64, u64, RandomState>,
    older: HashMap<u64, u64, RandomState>,
    /// The identities and prints of further records with another text.
    others: HashSet<(u64, u64), RandomState>,
    /// The identities whose differing records were reported.
    differing: HashSet<u64, RandomState>,
}

/// The hashes by which a record is compared with others.
struct Print {
    /// A hash of its `eventID`, or of its text where it has none.
    id: u64,
    /// Half a hash of its time, name and source, and half a hash of its text.
    print: u64,
}

fn value(column: Option<&StringArray>, row: usize) -> &str {
    column.filter(|column| column.is_valid(row)).map_or("", |column| column.value(row))
}

/// How a record relates to the records before it.
#[derive(Debug, PartialEq, Eq)]
enum Sight {
    First,
    /// Another delivery of the same text.
    Duplicate,
    /// It has the `eventID` of another and says something else. `differs` is true once for each `eventID`, where time,
    /// name or source is not the same.
    Other {
        differs: bool,
    },
}

impl Print {
    /// The prints of the rows of `batch`, whose texts have these hashes.
    fn of(batch: &RecordBatch, texts: &[u128]) -> Vec<Print> {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let ids = [text(event::EVENT_ID), text(event::CONTENT_ID)];
        let call = [text("eventName"), text("eventSource")];
        let times = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>();
        let of_row = |(row, text): (usize, &u128)| {
            let time = times.filter(|times| times.is_valid(row)).map(|times| times.value(row));
            let id = ids.into_iter().map(|column| value(column, row)).find(|id| !id.is_empty()).unwrap_or_default();
            let call = format!("{time:?} {} {}", value(call[0], row), value(call[1], row));
            let [id, call, text] = [trail::hash(id), trail::hash(&call), *text];
            let low = |hash: u128, bits: u32| u64::try_from(hash & ((1 << bits) - 1)).unwrap_or_default();
            Print { id: low(id, 64), print: low(call, 32) << 32 | low(text, 32) }
        };
        texts.iter().enumerate().map(of_row).collect()
    }
}

impl Seen {
    /// A map of so many takes 17 MiB; with a few more it would take twice as much.
    const GENERATION: usize = 900_000;

    fn see(&mut self, Print { id, print }: Print) -> Sight {
        let Some(first) = self.older.get(&id).or_else(|| self.recent.get(&id)).copied() else {
            self.recent.insert(id, print);
            if self.recent.len() == Self::GENERATION {
                self.older = std::mem::take(&mut self.recent);
                self.others.clear();
                self.differing.clear();
            }
            return Sight::First;
        };
        if first == print || self.others.contains(&(id, print)) {
            return Sight::Duplicate;
        }
        if self.others.len() == Self::GENERATION {
            self.others.clear();
        }
        self.others.insert((id, print));
        Sight::Other { differs: first >> 32 != print >> 32 && self.differing.insert(id) }
    }
}

/// The record in `row` of `batch`, which differs from another with its `eventID`.
fn differing(batch: &RecordBatch, row: usize, object: &Object) -> DifferingRecords {
    let text = |name: &str| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let times = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>();
    let record = DifferingRecord {
        event_time: times.filter(|times| times.is_valid(row)).map(|times| time::rfc3339(times.value(row))),
        event_name: text("eventName"),
        event_source: text("eventSource"),
        object: Some(object.path.display().to_string()),
    };
    let event_id = text(event::EVENT_ID).unwrap_or_default();
    DifferingRecords { event_ids: 1, example: Some(DifferingExample { event_id, records: vec![record] }) }
}

/// Records by date, and the objects they are all the records of.
#[derive(Default)]
struct Gathered {
    parts: BTreeMap<Option<i64>, PartFileBuilder>,
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
        lake.check_files().await?;
        let last = lake.transaction_log().last_commit().await?;
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
        for (date, rows) in part_file::rows_by_date(batch, fresh) {
            let part = self.gathered.parts.entry(date).or_default();
            let before = part.memory;
            part.append(identity, batch, rows).map_err(|error| Error::Internal(format!("records by date: {error}")))?;
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
        self.lake.transaction_log().commit(&self.folder, self.last, files.clone(), &encoded.objects).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_records_of_one_identity_are_to_each_other_does_not_depend_on_their_order() {
        const A: u64 = 1 << 32 | 1;
        // With the same time, name and source.
        const A_ELSEWHERE: u64 = 1 << 32 | 2;
        const B: u64 = 2 << 32 | 3;
        let outcome = |prints: &[u64]| {
            let mut seen = Seen::default();
            let sights: Vec<Sight> = prints.iter().map(|print| seen.see(Print { id: 7, print: *print })).collect();
            let count = |sight: &Sight| sights.iter().filter(|other| *other == sight).count();
            (count(&Sight::Duplicate), count(&Sight::Other { differs: true }))
        };
        for prints in [[A, B, A, B, A_ELSEWHERE], [B, A_ELSEWHERE, B, A, A], [A_ELSEWHERE, A, A, B, B]] {
            assert_eq!(outcome(&prints), (2, 1), "{prints:?}");
        }
        assert_eq!(outcome(&[A, A, A_ELSEWHERE]), (1, 0));
    }
}
