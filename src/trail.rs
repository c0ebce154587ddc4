//! A raw trail: its objects, and each object's records as columns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;

use crate::error::{Error, Fault};
use crate::raw;
use crate::store::{self, Location, Object, Stores};
use crate::tally::Tally;

mod decode;
mod listing;

pub use decode::{Decoded, Wanted, decode, hash};
pub use listing::{Selection, delivered_on};

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
    /// Whether no objects were found, not even some that were left out.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.left_out.objects.read == 0
    }

    /// Finds the objects that `sources` name, as far as `selection` admits them. What lies in a lake is
    /// left out.
    pub async fn find(stores: &Stores, sources: &[String], selection: &Selection) -> Result<Trail, Error> {
        let mut trail = Trail { stores: stores.clone(), ..Trail::default() };
        let mut objects = Vec::new();
        for source in sources {
            if let Some(stream) = stores.spooled(source) {
                match stream.size {
                    0 => trail.left_out.objects.skip("empty"),
                    _ => trail.objects.push(stream),
                }
                continue;
            }
            let mut found = listing::find(stores, source, selection).await?;
            objects.append(&mut found.objects);
            for fault in found.faults {
                trail.left_out.objects.read += 1;
                trail.left_out.objects.rejected += 1;
                trail.left_out.fault(fault);
            }
        }
        // Different sources may name one object. As paths, `a//b` and `a/b` would be equal.
        objects.sort_by(|a, b| a.real.as_os_str().cmp(b.real.as_os_str()));
        objects.dedup_by(|a, b| a.real.as_os_str() == b.real.as_os_str());
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
        Location::S3 { bucket, key } => {
            // A slash at the end is a part of an object's key.
            let key = if path.ends_with('/') { key + "/" } else { key };
            Ok(stores.object(&bucket, &key).await?.is_some())
        }
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
    if sources.iter().any(|source| stores.spooled(source).is_some()) {
        return Ok(None);
    }
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
                if let Err(error) = object.location() {
                    let object = object.path.display().to_string();
                    let reason = format!("a table cannot have a file of this name: {error}");
                    found.faults.push(Fault { object, position: None, reason });
                    continue;
                }
                let below = below(&object.path, source).display().to_string();
                found.files.push((object, below));
            } else if decode::claims_json(&object.path) {
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
    delivery_stamp(path).get(..8).unwrap_or_default()
}

/// The time of delivery in an object's name, `YYYYMMDDTHHMMZ`. Empty where there is none.
pub(crate) fn delivery_stamp(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('_').find(|part| date_and_clock(part).is_some()).unwrap_or_default()
}

/// Returns the date `YYYYMMDD` and the clock of a part of a name that is a time of delivery, such as `20250304T1005Z`.
pub(crate) fn date_and_clock(part: &str) -> Option<(&str, &str)> {
    let (date, clock) = part.split_once('T')?;
    (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then_some((date, clock))
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
        assert_eq!(delivery_stamp(Path::new(name)), "20250304T1005Z");
        assert_eq!(delivery_date(Path::new("x/Test.json")), "");
    }
}
