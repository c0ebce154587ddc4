//! Decodes the bytes of one object into record batches, and counts every record and member of it.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::LazyLock;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::kernels::aggregate;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use highway::{HighwayHash as _, HighwayHasher, Key};

use super::Prefilter;
use crate::error::{Error, Fault};
use crate::event::batch::BatchBuilder;
use crate::raw::{self, ObjectPart, PartContent, ReadError, UnpackedText, envelope, envelope::Item};
use crate::statistics::{Count, ScanStatistics};
use crate::store::{Object, ObjectError, ReadSettings};
use crate::time::Instant;

/// Maximum number of records in a decoded batch.
const BATCH_ROWS: usize = 8_192;

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

/// Decodes the bytes of `object`, or of each member if it is an archive.
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
    let mut decoder =
        Decoder { object, settings, options, decoded: DecodedObject::default(), outcome: None, schema_error: None };
    let read = bytes
        .map_err(ReadError::Store)
        .and_then(|bytes| raw::read(bytes, settings.max_object, &mut |part| decoder.add_part(part)));
    decoder.finish(read)
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

struct Decoder<'d> {
    object: &'d Object,
    settings: &'d ReadSettings,
    options: DecodeOptions<'d>,
    decoded: DecodedObject,
    /// The outcome of an object that is not an archive.
    outcome: Option<ObjectOutcome>,
    schema_error: Option<ArrowError>,
}

impl Decoder<'_> {
    fn add_part(&mut self, part: ObjectPart<'_>) {
        let path = self.object.path.display().to_string();
        let name = part.member.map_or_else(|| path.clone(), |member| format!("{path}!{member}"));
        let outcome = match part.content {
            PartContent::Skipped(kind) => ObjectOutcome::Skipped(kind),
            PartContent::Rejected(error) => rejection(&name, 0, error),
            PartContent::Text(text) => match self.records(&name, text) {
                Ok((contents, outcome)) => {
                    self.decoded.statistics.add(contents.statistics);
                    self.decoded.batches.extend(contents.batches);
                    self.decoded.hashes.extend(contents.hashes);
                    outcome
                }
                Err(error) => rejection(&name, text.text.len() as u64, error),
            },
        };
        if part.member.is_none() {
            self.outcome = Some(outcome);
            return;
        }
        outcome.count(&mut self.decoded.statistics.members);
        if let ObjectOutcome::Rejected(reason) = outcome {
            self.decoded.statistics.fault(Fault { object: name, position: None, reason });
        }
    }

    /// Decodes the records of the object or member `name`.
    fn records(&mut self, name: &str, text: UnpackedText<'_>) -> Result<(DecodedObject, ObjectOutcome), ReadError> {
        let UnpackedText { text, replaced } = text;
        let DecodeOptions { prefilter, hash_records } = self.options;
        let mut decoded = DecodedObject::default();
        decoded.statistics.json_bytes = text.len() as u64;
        decoded.statistics.replaced_bytes = replaced as u64;
        if text.trim_ascii_start().is_empty() {
            return Ok((decoded, ObjectOutcome::Skipped("empty".to_owned())));
        }
        if !prefilter.admits_text(text) && looks_complete(text) {
            return Ok((decoded, ObjectOutcome::SkippedByPrefilter));
        }
        let mut builder = BatchBuilder::default();
        let DecodedObject { batches, hashes, statistics } = &mut decoded;
        let schema_error = &mut self.schema_error;
        let mut finish = |builder: &mut BatchBuilder, batches: &mut Vec<RecordBatch>| match builder.finish() {
            Ok(batch) => batches.push(batch),
            Err(error) => *schema_error = Some(error),
        };
        envelope::items(text, self.settings, &|element| prefilter.admits(element), &mut |item| match item {
            Item::Record(record) => {
                statistics.records.read += 1;
                statistics.records.used += 1;
                builder.push(&record);
                hashes.extend(hash_records.then(|| hash(record.text)));
                if builder.len() == BATCH_ROWS {
                    finish(&mut builder, batches);
                }
            }
            Item::PassedOver => {
                statistics.records.read += 1;
                statistics.records.skipped_by_prefilter += 1;
            }
            Item::Skipped(kind) => statistics.records.skip(kind),
            Item::Rejected { position, reason } => {
                statistics.records.read += 1;
                statistics.records.rejected += 1;
                statistics.fault(Fault { object: name.to_owned(), position: Some(position), reason });
            }
        })?;
        if !builder.is_empty() {
            finish(&mut builder, &mut decoded.batches);
        }
        decoded.statistics.repeated_keys = builder.repeated_keys();
        for batch in &decoded.batches {
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            let [first, last] =
                [aggregate::min(times), aggregate::max(times)].map(|time| time.map(Instant::from_micros));
            decoded.statistics.spans(first.zip(last));
        }
        decoded.statistics.without_time = decoded.batches.iter().map(|batch| batch.column(0).null_count() as u64).sum();
        let records = &decoded.statistics.records;
        let outcome = if records.rejected > 0 && records.rejected == records.read {
            ObjectOutcome::RecordsRejected
        } else {
            ObjectOutcome::Used
        };
        Ok((decoded, outcome))
    }

    fn finish(self, read: Result<(), ReadError>) -> Result<DecodedObject, Error> {
        if let Some(error) = self.schema_error {
            return Err(Error::Internal(format!(
                "records of `{}` do not fit the schema: {error}",
                self.object.path.display()
            )));
        }
        let (mut decoded, outcome) = if let Err(error) = read {
            let outcome = rejection(&self.object.path.display().to_string(), self.object.size, error);
            (DecodedObject::default(), outcome)
        } else {
            let path = self.object.path.display().to_string();
            let outcome = self.outcome.unwrap_or_else(|| archive_outcome(&path, &self.decoded.statistics.members));
            (self.decoded, outcome)
        };
        decoded.statistics.stored_bytes = self.object.size;
        outcome.count(&mut decoded.statistics.objects);
        if let ObjectOutcome::Rejected(reason) = outcome {
            decoded.statistics.fault(Fault { object: self.object.path.display().to_string(), position: None, reason });
        }
        Ok(decoded)
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
