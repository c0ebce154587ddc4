//! Decodes the bytes of one object into record batches, and counts every record and member of it.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::LazyLock;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use highway::{HighwayHash as _, HighwayHasher, Key};

use super::Prefilter;
use crate::error::{Error, Fault};
use crate::event::batch::{AddedRecord, BatchBuilder};
use crate::raw::envelope::{self, Item, Record};
use crate::raw::{self, ObjectPart, PartContent, ReadError, UnpackedText};
use crate::statistics::{Count, ScanStatistics};
use crate::store::{Object, ObjectError, ReadSettings};

/// Maximum number of records in a decoded batch, and about the maximum size of their JSON text.
const BATCH_ROWS: usize = 8_192;
const BATCH_BYTES: usize = 8 << 20;

/// Maximum size of an unknown file that is skipped, such as a README among the objects. A larger one is rejected,
/// because it may be data.
const MAX_OTHER_FILE: u64 = 1 << 20;

/// The content of one object.
#[derive(Debug, Default)]
pub struct DecodedObject {
    /// The records.
    pub batches: Vec<RecordBatch>,
    /// A hash of each record's text, in row order, if [`DecodeOptions::hash_records`] is set.
    pub hashes: Vec<u128>,
    /// Counts of the records and members.
    pub statistics: ScanStatistics,
}

/// How to decode an object.
#[derive(Debug, Clone, Copy)]
pub struct DecodeOptions<'o> {
    /// Skips records that it does not admit.
    pub prefilter: &'o Prefilter,
    /// Whether to hash each record.
    pub hash_records: bool,
}

/// Decodes the bytes of `object`, or of each member if it is an archive, to all columns.
///
/// An archive counts as one object, and as used if one of its members is. A member that cannot be read is rejected
/// under its own name. If the archive itself is broken, it is rejected and no member counts.
///
/// # Errors
/// Only if records do not fit the schema, which is a defect.
pub fn decode(
    object: &Object,
    bytes: Result<&[u8], ObjectError>,
    settings: &ReadSettings,
    options: DecodeOptions<'_>,
) -> Result<DecodedObject, Error> {
    let mut decoder = Decoder::new(BatchBuilder::default());
    let statistics = decoder.decode(object, bytes, settings, options);
    decoder.finish_batch();
    Ok(DecodedObject { batches: decoder.take_batches()?, hashes: decoder.take_hashes(), statistics })
}

/// Decodes objects one after another. The records of small objects share batches.
pub struct Decoder {
    builder: BatchBuilder,
    batches: Vec<RecordBatch>,
    hashes: Vec<u128>,
    schema_error: Option<ArrowError>,
}

/// A number of decoded records, to discard those after it.
#[derive(Clone, Copy)]
struct DecoderMark {
    /// Complete batches.
    batches: usize,
    /// Records of the batch after them.
    rows: usize,
    hashes: usize,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("batches", &self.batches.len()).finish_non_exhaustive()
    }
}

impl Decoder {
    /// Returns a decoder that fills `builder`.
    pub fn new(builder: BatchBuilder) -> Decoder {
        Decoder { builder, batches: Vec::new(), hashes: Vec::new(), schema_error: None }
    }

    /// Decodes an object as [`decode()`] does, and returns the counts of its records and members.
    pub fn decode(
        &mut self,
        object: &Object,
        bytes: Result<&[u8], ObjectError>,
        settings: &ReadSettings,
        options: DecodeOptions<'_>,
    ) -> ScanStatistics {
        let start = self.mark();
        let mut decoder =
            ObjectDecoder { object, settings, options, to: self, statistics: ScanStatistics::default(), outcome: None };
        let read = bytes
            .map_err(ReadError::Store)
            .and_then(|bytes| raw::read(bytes, settings.max_object, &mut |part| decoder.add_part(part)));
        decoder.finish(start, read)
    }

    /// Returns the number of records that are not in a complete batch.
    pub fn open_rows(&self) -> usize {
        self.builder.len()
    }

    /// Returns the number of records since batches were taken.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum::<usize>() + self.open_rows()
    }

    /// Returns the hashes of the records, if [`DecodeOptions::hash_records`] is set, each once.
    pub fn take_hashes(&mut self) -> Vec<u128> {
        std::mem::take(&mut self.hashes)
    }

    /// Completes the batch of the records so far, if there are any.
    pub fn finish_batch(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        match self.builder.finish() {
            Ok(batch) => self.batches.push(batch),
            Err(error) => self.schema_error = Some(error),
        }
    }

    /// Returns the complete batches, each once.
    ///
    /// # Errors
    /// Records do not fit the schema, which is a defect.
    pub fn take_batches(&mut self) -> Result<Vec<RecordBatch>, Error> {
        match self.schema_error.take() {
            Some(error) => Err(Error::Internal(format!("records do not fit the schema: {error}"))),
            None => Ok(std::mem::take(&mut self.batches)),
        }
    }

    fn push(&mut self, record: &Record<'_>, hash_record: bool) -> AddedRecord {
        let added = self.builder.push(record);
        self.hashes.extend(hash_record.then(|| hash(record.text)));
        if self.builder.len() >= BATCH_ROWS || self.builder.json_bytes() >= BATCH_BYTES {
            self.finish_batch();
        }
        added
    }

    fn mark(&self) -> DecoderMark {
        DecoderMark { batches: self.batches.len(), rows: self.builder.len(), hashes: self.hashes.len() }
    }

    /// Discards the records after `mark`.
    fn discard_after(&mut self, mark: DecoderMark) {
        self.hashes.truncate(mark.hashes);
        if self.batches.len() == mark.batches && self.builder.len() == mark.rows {
            return;
        }
        // A builder cannot discard rows.
        self.finish_batch();
        let first = self.batches.drain(mark.batches..).next();
        self.batches.extend(first.filter(|_| mark.rows > 0).map(|batch| batch.slice(0, mark.rows)));
    }
}

/// How an object or a member of an archive is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ObjectOutcome {
    Used,
    SkippedByPrefilter,
    Skipped(String),
    Rejected(String),
    /// Every record was rejected, with a fault of its own.
    RecordsRejected,
}

impl ObjectOutcome {
    fn count(&self, count: &mut Count) {
        match self {
            ObjectOutcome::Skipped(kind) => return count.skip(kind),
            ObjectOutcome::Used => count.used += 1,
            ObjectOutcome::SkippedByPrefilter => count.skipped_by_prefilter += 1,
            ObjectOutcome::Rejected(_) | ObjectOutcome::RecordsRejected => count.rejected += 1,
        }
        count.read += 1;
    }
}

/// Decodes one object.
struct ObjectDecoder<'d> {
    object: &'d Object,
    settings: &'d ReadSettings,
    options: DecodeOptions<'d>,
    to: &'d mut Decoder,
    statistics: ScanStatistics,
    /// The outcome of an object that is not an archive.
    outcome: Option<ObjectOutcome>,
}

impl ObjectDecoder<'_> {
    /// Returns the name of the object, or of its member `member`.
    fn name(&self, member: Option<&str>) -> String {
        let path = self.object.path.display();
        member.map_or_else(|| path.to_string(), |member| format!("{path}!{member}"))
    }

    fn add_part(&mut self, part: ObjectPart<'_>) {
        let ObjectPart { member, content } = part;
        let outcome = match content {
            PartContent::Skipped(kind) => ObjectOutcome::Skipped(kind),
            PartContent::Rejected(error) => rejection(&self.name(member), 0, error),
            PartContent::Text(text) => {
                let start = self.to.mark();
                match self.records(member, text) {
                    Ok((statistics, outcome)) => {
                        self.statistics.add(statistics);
                        outcome
                    }
                    Err(error) => {
                        self.to.discard_after(start);
                        rejection(&self.name(member), text.text.len() as u64, error)
                    }
                }
            }
        };
        if member.is_none() {
            self.outcome = Some(outcome);
            return;
        }
        outcome.count(&mut self.statistics.members);
        if let ObjectOutcome::Rejected(reason) = outcome {
            let object = self.name(member);
            self.statistics.fault(Fault { object, position: None, reason });
        }
    }

    /// Decodes the records of the object, or of its member `member`.
    fn records(
        &mut self,
        member: Option<&str>,
        text: UnpackedText<'_>,
    ) -> Result<(ScanStatistics, ObjectOutcome), ReadError> {
        let UnpackedText { text, replaced } = text;
        let DecodeOptions { prefilter, hash_records } = self.options;
        let mut statistics = ScanStatistics {
            json_bytes: text.len() as u64,
            replaced_bytes: replaced as u64,
            ..ScanStatistics::default()
        };
        if text.trim_ascii_start().is_empty() {
            return Ok((statistics, ObjectOutcome::Skipped("empty".to_owned())));
        }
        if !prefilter.admits_text(text) && looks_complete(text) {
            return Ok((statistics, ObjectOutcome::SkippedByPrefilter));
        }
        envelope::items(text, self.settings, &|element| prefilter.admits(element), &mut |item| match item {
            Item::Record(record) => {
                statistics.records.read += 1;
                statistics.records.used += 1;
                let AddedRecord { time, has_repeated_key } = self.to.push(&record, hash_records);
                statistics.spans(time.map(|time| (time, time)));
                statistics.without_time += u64::from(time.is_none());
                statistics.repeated_keys += u64::from(has_repeated_key);
            }
            Item::PassedOver => {
                statistics.records.read += 1;
                statistics.records.skipped_by_prefilter += 1;
            }
            Item::Skipped(kind) => statistics.records.skip(kind),
            Item::Rejected { position, reason } => {
                statistics.records.read += 1;
                statistics.records.rejected += 1;
                statistics.fault(Fault { object: self.name(member), position: Some(position), reason });
            }
        })?;
        let records = &statistics.records;
        let outcome = if records.rejected > 0 && records.rejected == records.read {
            ObjectOutcome::RecordsRejected
        } else {
            ObjectOutcome::Used
        };
        Ok((statistics, outcome))
    }

    /// Returns the statistics of the object. Discards the records after `start` if the object as a whole cannot be
    /// read.
    fn finish(mut self, start: DecoderMark, read: Result<(), ReadError>) -> ScanStatistics {
        let outcome = match (read, self.outcome.take()) {
            (Err(error), _) => {
                self.to.discard_after(start);
                self.statistics = ScanStatistics::default();
                rejection(&self.name(None), self.object.size, error)
            }
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => archive_outcome(&self.name(None), &self.statistics.members),
        };
        self.statistics.stored_bytes = self.object.size;
        outcome.count(&mut self.statistics.objects);
        if let ObjectOutcome::Rejected(reason) = outcome {
            let object = self.name(None);
            self.statistics.fault(Fault { object, position: None, reason });
        }
        self.statistics
    }
}

/// Returns the outcome of the object or member `name`, of `size` bytes, that cannot be read.
fn rejection(name: &str, size: u64, error: ReadError) -> ObjectOutcome {
    match error {
        ReadError::OtherLog(kind) => ObjectOutcome::Skipped(kind.to_owned()),
        ReadError::NotJson => match raw::by_ending(name) {
            Some(format) => ObjectOutcome::Rejected(ReadError::Foreign(format).to_string()),
            None if has_json_name(Path::new(name)) || size > MAX_OTHER_FILE => {
                ObjectOutcome::Rejected(error.to_string())
            }
            None => ObjectOutcome::Skipped("not JSON".to_owned()),
        },
        error => ObjectOutcome::Rejected(error.to_string()),
    }
}

/// Returns the outcome of an archive. A file of another format, such as a spreadsheet, may be an archive too.
fn archive_outcome(path: &str, members: &Count) -> ObjectOutcome {
    if members.used > 0 {
        ObjectOutcome::Used
    } else if members.skipped_by_prefilter > 0 {
        ObjectOutcome::SkippedByPrefilter
    } else if let Some(format) = raw::by_ending(path) {
        ObjectOutcome::Rejected(ReadError::Foreign(format).to_string())
    } else if members.rejected > 0 {
        ObjectOutcome::Rejected("no member of the archive can be read".to_owned())
    } else if members.read > 0 {
        ObjectOutcome::Skipped("archive without records".to_owned())
    } else {
        ObjectOutcome::Skipped("empty".to_owned())
    }
}

/// Returns whether an unparsed text looks like JSON that is not truncated.
fn looks_complete(text: &str) -> bool {
    let text = text.trim_ascii();
    let ends = |open, close| text.starts_with(open) && text.ends_with(close);
    // UTF-16 text has zeros near the start.
    let start = &text.as_bytes()[..text.len().min(64)];
    (ends('{', '}') || ends('[', ']')) && memchr::memchr(0, start).is_none()
}

/// Returns whether the name has an ending of JSON or of a container for JSON.
pub(super) fn has_json_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let endings = [".json", ".gz", ".zst", ".jsonl", ".ndjson", ".cloudtrail", ".zip", ".tar", ".tgz", ".tzst"];
    endings.iter().any(|end| name.ends_with(end))
}

/// Hashes a record's text, or a part of it, to recognise duplicates within a process.
///
/// The key is random for each process, so an attacker cannot write a record that collides with another.
pub fn hash(text: &str) -> u128 {
    static KEY: LazyLock<Key> = LazyLock::new(|| {
        let random = RandomState::new();
        Key([0, 1, 2, 3].map(|part: u64| random.hash_one(part)))
    });
    let [low, high] = HighwayHasher::new(*KEY).hash128(text.as_bytes());
    u128::from(high) << 64 | u128::from(low)
}
