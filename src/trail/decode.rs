//! The bytes of one object to its records as columns, and what became of all it held.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::LazyLock;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::kernels::aggregate;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use highway::{HighwayHash as _, HighwayHasher, Key};

use super::Sieve;
use crate::error::{Error, Fault};
use crate::event::batch::BatchBuilder;
use crate::raw::{self, Content, Part, ReadError, Text, envelope, envelope::Item};
use crate::store::{Object, ReadSettings};
use crate::tally::{Count, Tally};

/// Records in a decoded batch, at most.
const BATCH_ROWS: usize = 8_192;

/// The most bytes of a file that is not JSON, does not claim to be, and is of no kind that is known: a README beside
/// the objects. A larger one is rejected, since it may be data.
const MAX_OTHER_FILE: u64 = 1 << 20;

/// What one object held.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Its records.
    pub batches: Vec<RecordBatch>,
    /// A hash of each record's text, in the order of the batches' rows, where they were asked for.
    pub hashes: Vec<u128>,
    /// What became of all it held.
    pub tally: Tally,
}

/// What is asked of the records of an object.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// Records that it does not admit are passed over.
    pub sieve: &'w Sieve,
    /// Whether a hash of each record is wanted.
    pub hashed: bool,
}

/// Decodes the bytes of `object`, or of each member where it is an archive, to the records that are `wanted`.
///
/// An archive is one object: it is used where one of its members is. A member that cannot be read is rejected by its own
/// name; where an archive as a whole is broken, none of its members counts.
///
/// # Errors
/// Only where records do not fit the schema, which is a defect.
pub fn decode(
    object: &Object,
    bytes: Result<&[u8], String>,
    settings: &ReadSettings,
    wanted: Wanted<'_>,
) -> Result<Decoded, Error> {
    let mut decoder = Decoder { object, settings, wanted, decoded: Decoded::default(), fate: None, broken: None };
    let read = bytes
        .map_err(ReadError::Store)
        .and_then(|bytes| raw::read(bytes, settings.max_object, &mut |part| decoder.part(part)));
    decoder.finish(read)
}

/// What becomes of an object or a member.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Used,
    PassedOver,
    Skipped(String),
    Rejected(String),
    /// None of its records could be used, and each was named.
    RecordsRejected,
}

impl Fate {
    fn count(&self, count: &mut Count) {
        match self {
            Fate::Skipped(kind) => return count.skip(kind),
            Fate::Used => count.used += 1,
            Fate::PassedOver => count.passed_over += 1,
            Fate::Rejected(_) | Fate::RecordsRejected => count.rejected += 1,
        }
        count.read += 1;
    }
}

struct Decoder<'d> {
    object: &'d Object,
    settings: &'d ReadSettings,
    wanted: Wanted<'d>,
    decoded: Decoded,
    /// What became of an object that is no archive.
    fate: Option<Fate>,
    broken: Option<ArrowError>,
}

impl Decoder<'_> {
    fn part(&mut self, part: Part<'_>) {
        let path = self.object.path.display().to_string();
        let place = part.member.map_or_else(|| path.clone(), |member| format!("{path}!{member}"));
        let fate = match part.content {
            Content::Skipped(kind) => Fate::Skipped(kind),
            Content::Rejected(error) => rejection(&place, 0, error),
            Content::Text(text) => match self.records(&place, text) {
                Ok((contents, fate)) => {
                    self.decoded.tally.add(contents.tally);
                    self.decoded.batches.extend(contents.batches);
                    self.decoded.hashes.extend(contents.hashes);
                    fate
                }
                Err(error) => rejection(&place, text.text.len() as u64, error),
            },
        };
        if part.member.is_none() {
            self.fate = Some(fate);
            return;
        }
        fate.count(&mut self.decoded.tally.members);
        if let Fate::Rejected(reason) = fate {
            self.decoded.tally.fault(Fault { object: place, position: None, reason });
        }
    }

    /// The records of a text, and what becomes of what holds it.
    fn records(&mut self, place: &str, text: Text<'_>) -> Result<(Decoded, Fate), ReadError> {
        let Text { text, replaced } = text;
        let Wanted { sieve, hashed } = self.wanted;
        let mut decoded = Decoded::default();
        decoded.tally.json_bytes = text.len() as u64;
        decoded.tally.replaced_bytes = replaced as u64;
        if text.trim_ascii_start().is_empty() {
            return Ok((decoded, Fate::Skipped("empty".to_owned())));
        }
        if !sieve.admits(text) && looks_whole(text) {
            return Ok((decoded, Fate::PassedOver));
        }
        let mut builder = BatchBuilder::default();
        let Decoded { batches, hashes, tally } = &mut decoded;
        let broken = &mut self.broken;
        let mut finish = |builder: &mut BatchBuilder, batches: &mut Vec<RecordBatch>| match builder.finish() {
            Ok(batch) => batches.push(batch),
            Err(error) => *broken = Some(error),
        };
        envelope::items(text, self.settings, &|text| sieve.admits(text), &mut |item| match item {
            Item::Record(record) => {
                tally.records.read += 1;
                tally.records.used += 1;
                builder.push(&record);
                hashes.extend(hashed.then(|| hash(record.text)));
                if builder.len() == BATCH_ROWS {
                    finish(&mut builder, batches);
                }
            }
            Item::PassedOver => {
                tally.records.read += 1;
                tally.records.passed_over += 1;
            }
            Item::Skipped(kind) => tally.records.skip(kind),
            Item::Rejected { position, reason } => {
                tally.records.read += 1;
                tally.records.rejected += 1;
                tally.fault(Fault { object: place.to_owned(), position: Some(position), reason });
            }
        })?;
        if !builder.is_empty() {
            finish(&mut builder, &mut decoded.batches);
        }
        decoded.tally.repeated_keys = builder.repeated_keys();
        for batch in &decoded.batches {
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            decoded.tally.spans(aggregate::min(times).zip(aggregate::max(times)));
        }
        decoded.tally.without_time = decoded.batches.iter().map(|batch| batch.column(0).null_count() as u64).sum();
        let records = &decoded.tally.records;
        let fate =
            if records.rejected > 0 && records.rejected == records.read { Fate::RecordsRejected } else { Fate::Used };
        Ok((decoded, fate))
    }

    fn finish(self, read: Result<(), ReadError>) -> Result<Decoded, Error> {
        if let Some(error) = self.broken {
            return Err(Error::Internal(format!("a batch of `{}`: {error}", self.object.path.display())));
        }
        let (mut decoded, fate) = if let Err(error) = read {
            let fate = rejection(&self.object.path.display().to_string(), self.object.size, error);
            (Decoded::default(), fate)
        } else {
            let path = self.object.path.display().to_string();
            let fate = self.fate.unwrap_or_else(|| of_archive(&path, &self.decoded.tally.members));
            (self.decoded, fate)
        };
        decoded.tally.stored_bytes = self.object.size;
        fate.count(&mut decoded.tally.objects);
        if let Fate::Rejected(reason) = fate {
            decoded.tally.fault(Fault { object: self.object.path.display().to_string(), position: None, reason });
        }
        Ok(decoded)
    }
}

/// What becomes of an object or member at `place`, of `size` bytes, that cannot be read.
fn rejection(place: &str, size: u64, error: ReadError) -> Fate {
    match error {
        ReadError::OtherLog(kind) => Fate::Skipped(kind.to_owned()),
        ReadError::NotJson => match raw::by_ending(place) {
            Some(format) => Fate::Rejected(ReadError::Foreign(format).to_string()),
            None if claims_json(Path::new(place)) || size > MAX_OTHER_FILE => Fate::Rejected(error.to_string()),
            None => Fate::Skipped("not JSON".to_owned()),
        },
        error => Fate::Rejected(error.to_string()),
    }
}

/// What becomes of an archive with such members. Some formats are archives too, such as those of spreadsheets.
fn of_archive(path: &str, members: &Count) -> Fate {
    if members.used > 0 {
        Fate::Used
    } else if members.passed_over > 0 {
        Fate::PassedOver
    } else if let Some(format) = raw::by_ending(path) {
        Fate::Rejected(ReadError::Foreign(format).to_string())
    } else if members.rejected > 0 {
        Fate::Rejected("no member of the archive can be read".to_owned())
    } else if members.read > 0 {
        Fate::Skipped("archive without records".to_owned())
    } else {
        Fate::Skipped("empty".to_owned())
    }
}

/// Whether a text that is not parsed may be taken for JSON that did not break off.
fn looks_whole(text: &str) -> bool {
    let text = text.trim_ascii();
    let ends = |open, close| text.starts_with(open) && text.ends_with(close);
    // Text of two bytes a character has zeros from the start.
    let start = &text.as_bytes()[..text.len().min(64)];
    (ends('{', '}') || ends('[', ']')) && memchr::memchr(0, start).is_none()
}

/// Whether a name says that the file holds JSON.
pub(super) fn claims_json(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let endings = [".json", ".gz", ".zst", ".jsonl", ".ndjson", ".cloudtrail", ".zip", ".tar", ".tgz", ".tzst"];
    endings.iter().any(|end| name.ends_with(end))
}

/// A hash of a record's text or of a part of it, to tell duplicates within a process. Its key is drawn anew in each: nobody can write a record
/// that is taken for a copy of another one.
pub fn hash(text: &str) -> u128 {
    static KEY: LazyLock<Key> = LazyLock::new(|| {
        let drawn = RandomState::new();
        Key([0, 1, 2, 3].map(|part: u64| drawn.hash_one(part)))
    });
    let [low, high] = HighwayHasher::new(*KEY).hash128(text.as_bytes());
    u128::from(high) << 64 | u128::from(low)
}
