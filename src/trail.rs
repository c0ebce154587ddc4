//! A raw trail: its objects, and each object's records as columns.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::kernels::aggregate;
use arrow::datatypes::TimestampMicrosecondType;
use highway::{HighwayHash as _, HighwayHasher, Key};
use memchr::memmem::Finder;

use crate::error::{Error, Fault};
use crate::event::batch::BatchBuilder;
use crate::raw::{self, Text, envelope, envelope::Item};
use crate::store::{self, Location, Object, Stores};
use crate::tally::Tally;

mod listing;

pub use listing::{Selection, delivered_on};

/// Records in a decoded batch, at most.
const BATCH_ROWS: usize = 8_192;

/// The objects of a raw trail, in the order in which they are read.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Where they are read from.
    pub stores: Stores,
    /// The objects that may hold records, by delivery date and path.
    pub objects: Vec<Object>,
    /// The objects that were left out by their path alone.
    pub left_out: Tally,
    /// One of those that belong to a lake.
    pub in_a_lake: Option<PathBuf>,
}

impl Trail {
    /// Finds the objects that `sources` name, as far as `selection` admits them. What lies in a lake is
    /// left out.
    pub async fn find(stores: &Stores, sources: &[String], selection: &Selection) -> Result<Trail, Error> {
        let mut trail = Trail { stores: stores.clone(), ..Trail::default() };
        let mut objects = Vec::new();
        for source in sources {
            let mut found = listing::find(stores, source, selection).await?;
            objects.append(&mut found.objects);
            for fault in found.faults {
                trail.left_out.objects.read += 1;
                trail.left_out.objects.rejected += 1;
                trail.left_out.fault(fault);
            }
        }
        // Different sources may name one object.
        objects.sort_by(|a, b| a.real.cmp(&b.real));
        objects.dedup_by(|a, b| a.real == b.real);
        let mut lakes = Lakes::among(&objects);
        for object in objects {
            let skipped = if lakes.hold(&object.real) {
                trail.in_a_lake.get_or_insert_with(|| object.path.clone());
                Some("file of a lake".to_owned())
            } else if object.size == 0 {
                Some("empty".to_owned())
            } else {
                raw::skipped_by_path(&object.path)
            };
            match skipped {
                Some(kind) => trail.left_out.objects.skip(&kind),
                None => trail.objects.push(object),
            }
        }
        trail.objects.sort_by_cached_key(|object| (delivery_date(&object.path).to_owned(), object.path.clone()));
        Ok(trail)
    }
}

/// Whether there is an object named `path`, which is no pattern, on disk or in S3.
pub async fn is_there(stores: &Stores, path: &str) -> Result<bool, Error> {
    match Location::of(path) {
        Location::Disk(path) => {
            path.try_exists().map_err(|source| Error::File { action: "look for", path: path.clone(), source })
        }
        Location::S3 { bucket, key } => Ok(stores.object(&bucket, &key).await?.is_some()),
    }
}

/// Parquet files that belong to no lake.
#[derive(Debug, Default)]
pub struct ParquetFiles {
    /// The files, each with its path below the source that names it.
    pub files: Vec<(Object, String)>,
    /// Entries of folders that cannot be read.
    pub faults: Vec<Fault>,
}

/// The Parquet files that `sources` name, where they are such, or whatever they name where that is `known` to be
/// Parquet; hidden folders and files are left out.
///
/// # Errors
/// Besides what the store says: a lake, or data of other kinds, lie among them.
pub async fn parquet_files(stores: &Stores, sources: &[String], known: bool) -> Result<Option<ParquetFiles>, Error> {
    let sources: Vec<String> = sources.iter().map(|source| Location::of(source).to_string()).collect();
    for source in &sources {
        if !known && !listing::first(stores, source).await?.is_some_and(|object| is_parquet(&object.path)) {
            return Ok(None);
        }
    }
    let mut found = ParquetFiles::default();
    for source in &sources {
        let listed = listing::find(stores, source, &Selection::default()).await?;
        let mut lakes = Lakes::among(&listed.objects);
        if let Some(held) = listed.objects.iter().find(|object| lakes.hold(&object.real)) {
            return Err(in_a_lake(&held.path));
        }
        found.faults.extend(listed.faults);
        for object in listed.objects.into_iter().filter(|object| !is_hidden(&object.path, source)) {
            if known || is_parquet(&object.path) {
                let below = below(&object.path, source).display().to_string();
                found.files.push((object, below));
            } else if claims_json(&object.path) {
                return Err(Error::Usage {
                    message: format!("Parquet and `{}` lie together", object.path.display()),
                    hint: Some("hunt the table and the raw trail by themselves".to_owned()),
                });
            }
        }
    }
    found.files.sort();
    found.files.dedup();
    Ok(Some(found))
}

/// That data are named which a lake's ledger must tell of.
pub fn in_a_lake(file: &Path) -> Error {
    Error::Usage {
        message: format!("`{}`, among the data, is a file of a lake", file.display()),
        hint: Some("name one lake by itself, by its own folder; or a raw trail without lakes".to_owned()),
    }
}

/// The path of an object below what `source` names without its pattern.
fn below<'p>(path: &'p Path, source: &str) -> &'p Path {
    let literal: PathBuf = Path::new(source)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect();
    let below = path.strip_prefix(source).or_else(|_| path.strip_prefix(literal));
    below.unwrap_or_else(|_| path.file_name().map_or(path, Path::new))
}

/// Whether a folder or file below `source` is one that tools keep for themselves.
fn is_hidden(path: &Path, source: &str) -> bool {
    let mut parts = below(path, source).components().filter_map(|part| part.as_os_str().to_str());
    parts.any(|part| part.starts_with(['_', '.']))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Tells which folders belong to lakes.
struct Lakes {
    known: HashMap<PathBuf, bool>,
}

impl Lakes {
    /// On disk a ledger is looked for; in a bucket it is among the objects, or not.
    fn among(objects: &[Object]) -> Lakes {
        let ledger = Path::new(store::LAKE_FOLDER).join("ledger");
        let roots = objects.iter().filter_map(|object| {
            let folder = object.real.parent()?;
            folder.ends_with(&ledger).then(|| folder.ancestors().nth(2).map(Path::to_path_buf))?
        });
        Lakes { known: roots.map(|root| (root, true)).collect() }
    }

    fn hold(&mut self, path: &Path) -> bool {
        let Some(folder) = path.parent() else {
            return false;
        };
        if let Some(known) = self.known.get(folder) {
            return *known;
        }
        let held = store::is_lake(folder) || self.hold(folder);
        self.known.insert(folder.to_path_buf(), held);
        held
    }
}

/// The date in an object's name, `YYYYMMDD` before a `T`: when it was delivered. Empty where there is none.
fn delivery_date(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('_')
        .filter_map(|part| part.split_once('T'))
        .map(|(date, _)| date)
        .find(|date| date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()))
        .unwrap_or_default()
}

/// Tells by a record's bare text that it cannot match: words that every match must hold.
///
/// A word may be written with a JSON escape, so a text with `\u` in it is always admitted.
#[derive(Debug, Clone, Default)]
pub struct Sieve {
    /// Alternatives (one a rule), each a list of clauses that must all hold, each of them a list of
    /// words of which one must occur.
    alternatives: Vec<Vec<Vec<Finder<'static>>>>,
}

impl Sieve {
    /// Words that are looked for, at most. With more of them, as the rules of a library have, the search takes longer
    /// than parsing what it would leave out, which is little.
    const WORDS: usize = 16;

    /// A sieve that admits what any of `alternatives` admits; one without a clause admits everything.
    pub fn new(alternatives: Vec<Vec<Vec<String>>>) -> Sieve {
        let words = alternatives.iter().flatten().map(Vec::len).sum::<usize>();
        if words > Self::WORDS || alternatives.iter().any(Vec::is_empty) {
            return Sieve::default();
        }
        let finder = |word: String| Finder::new(&word).into_owned();
        let clause = |words: Vec<String>| words.into_iter().map(finder).collect();
        let alternatives = alternatives.into_iter().map(|clauses| clauses.into_iter().map(clause).collect()).collect();
        Sieve { alternatives }
    }

    /// Whether `text` may hold a match.
    pub fn admits(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let holds = |words: &Vec<Finder<'_>>| words.iter().any(|word| word.find(text).is_some());
        self.alternatives.is_empty()
            || self.alternatives.iter().any(|clauses| clauses.iter().all(holds))
            || memchr::memmem::find(text, b"\\u").is_some()
    }
}

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

/// Decodes the bytes of `object`, which may hold `most` once inflated, to records, passing over those that `sieve` does
/// not admit; with a hash of each where they are `hashed`.
pub fn decode(
    object: &Object,
    bytes: Result<&[u8], String>,
    most: usize,
    sieve: &Sieve,
    hashed: bool,
) -> Result<Decoded, Error> {
    if bytes.as_ref().is_ok_and(|bytes| bytes.starts_with(b"PAR1")) {
        return Ok(rejected(object, "a Parquet file that belongs to no lake: name the lake's own folder".to_owned()));
    }
    let decoded = bytes.and_then(|bytes| raw::read(bytes, most, |text| records(object, text, sieve, hashed)));
    decoded.unwrap_or_else(|reason| Ok(rejected(object, reason)))
}

fn records(object: &Object, text: Text<'_>, sieve: &Sieve, hashed: bool) -> Result<Decoded, Error> {
    let Text { text, replaced } = text;
    let mut decoded = Decoded::default();
    decoded.tally.objects.read = 1;
    decoded.tally.stored_bytes = object.size;
    decoded.tally.json_bytes = text.len() as u64;
    decoded.tally.replaced_bytes = replaced as u64;
    if text.trim_ascii_start().is_empty() {
        decoded.tally.objects.read = 0;
        decoded.tally.objects.skip("empty");
        return Ok(decoded);
    }
    if !sieve.admits(text) && looks_whole(text) {
        decoded.tally.objects.passed_over = 1;
        return Ok(decoded);
    }
    let mut builder = BatchBuilder::default();
    let mut broken = None;
    let Decoded { batches, hashes, tally } = &mut decoded;
    let walked = envelope::items(text, &|text| sieve.admits(text), &mut |item| match item {
        Item::Record(record) => {
            tally.records.read += 1;
            tally.records.used += 1;
            builder.push(&record);
            hashes.extend(hashed.then(|| hash(record.text)));
            if builder.len() == BATCH_ROWS {
                match builder.finish() {
                    Ok(batch) => batches.push(batch),
                    Err(error) => broken = Some(error),
                }
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
            let object = object.path.display().to_string();
            tally.fault(Fault { object, position: Some(position), reason });
        }
    });
    if let Err(reason) = walked {
        if is_other_file(&object.path, &reason) {
            let mut other = Decoded::default();
            other.tally.objects.skip("not JSON");
            return Ok(other);
        }
        return Ok(rejected(object, reason));
    }
    if !builder.is_empty() {
        match builder.finish() {
            Ok(batch) => decoded.batches.push(batch),
            Err(error) => broken = Some(error),
        }
    }
    if let Some(error) = broken {
        return Err(Error::Internal(format!("a batch of `{}`: {error}", object.path.display())));
    }
    decoded.tally.objects.used = 1;
    decoded.tally.repeated_keys = builder.repeated_keys();
    for batch in &decoded.batches {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        decoded.tally.spans(aggregate::min(times).zip(aggregate::max(times)));
    }
    decoded.tally.without_time = decoded.batches.iter().map(|batch| batch.column(0).null_count() as u64).sum();
    Ok(decoded)
}

/// Whether a text that is not parsed may be taken for JSON that did not break off.
fn looks_whole(text: &str) -> bool {
    let text = text.trim_ascii();
    let ends = |open, close| text.starts_with(open) && text.ends_with(close);
    // Text of two bytes a character has zeros from the start.
    let start = &text.as_bytes()[..text.len().min(64)];
    (ends('{', '}') || ends('[', ']')) && memchr::memchr(0, start).is_none()
}

fn rejected(object: &Object, reason: String) -> Decoded {
    let mut decoded = Decoded::default();
    decoded.tally.objects.read = 1;
    decoded.tally.objects.rejected = 1;
    decoded.tally.stored_bytes = object.size;
    decoded.tally.fault(Fault { object: object.path.display().to_string(), position: None, reason });
    decoded
}

/// Whether an object that is not JSON does not claim to be: a README in the folder is no fault.
fn is_other_file(path: &Path, reason: &str) -> bool {
    reason == raw::envelope::NOT_JSON && !claims_json(path)
}

fn claims_json(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    [".json", ".gz", ".jsonl", ".ndjson", ".cloudtrail"].iter().any(|end| name.ends_with(end))
}

/// A hash of a record's text, to tell copies within a process. Its key is drawn anew in each: nobody can write a record
/// that is taken for a copy of another one.
fn hash(text: &str) -> u128 {
    static KEY: LazyLock<Key> = LazyLock::new(|| {
        let drawn = RandomState::new();
        Key([0, 1, 2, 3].map(|part: u64| drawn.hash_one(part)))
    });
    let [low, high] = HighwayHasher::new(*KEY).hash128(text.as_bytes());
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(clauses: &[&[&str]]) -> Vec<Vec<String>> {
        clauses.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect()
    }

    #[test]
    fn a_sieve_admits_whatever_may_match() {
        let sieve = Sieve::new(vec![words(&[&["ConsoleLogin", "signin"], &["Failure"]]), words(&[&["StopLogging"]])]);
        for text in ["ConsoleLogin Failure", "signin Failure", "StopLogging", r"\u0043onsoleLogin"] {
            assert!(sieve.admits(text), "{text}");
        }
        for text in ["", "ConsoleLogin", "Failure", "stoplogging"] {
            assert!(!sieve.admits(text), "{text}");
        }
        assert!(Sieve::new(vec![words(&[&["a"]]), vec![]]).admits("b"));
        assert!(Sieve::default().admits(""));
    }

    #[test]
    fn a_sieve_of_many_words_admits_everything() {
        let sieve = |words: usize| {
            let clause: Vec<String> = (0..words).map(|number| format!("Call{number}")).collect();
            Sieve::new(vec![vec![clause]])
        };
        assert!(!sieve(Sieve::WORDS).admits("other"));
        assert!(sieve(Sieve::WORDS + 1).admits("other"));
    }

    #[test]
    fn delivery_dates_come_from_names() {
        let name = "111122223333_CloudTrail_eu-west-1_20250304T1005Z_abcdefghijklmnop.json.gz";
        assert_eq!(delivery_date(Path::new(name)), "20250304");
        assert_eq!(delivery_date(Path::new("x/Test.json")), "");
    }
}
