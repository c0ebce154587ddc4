//! A raw trail: finds its objects and decodes their records into columns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Fault};
use crate::raw;
use crate::statistics::ScanStatistics;
use crate::store::{self, Location, Object, Stores};

mod decode;
mod listing;
mod object_key;
mod prefilter;

pub use decode::{DecodeOptions, DecodedObject, decode, hash};
pub use listing::Selection;
pub use object_key::{ObjectDelivery, delivered_on, delivery, delivery_stamp};
pub use prefilter::Prefilter;

/// The objects of a raw trail, in the order in which they are read.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Where the objects are read from.
    pub stores: Stores,
    /// The objects that may hold records, by delivery date and path.
    pub objects: Vec<Object>,
    /// Objects that were skipped because of their path or size, and entries that cannot be listed.
    pub excluded: ScanStatistics,
    /// The path of a listed file that belongs to a lake, if there is one.
    pub lake_file: Option<PathBuf>,
}

impl Trail {
    /// Returns whether no objects were found, not even excluded ones.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.excluded.objects.read == 0
    }

    /// Lists the objects that `sources` name and `selection` admits. Files of lakes are excluded.
    pub async fn find(stores: &Stores, sources: &[String], selection: &Selection) -> Result<Trail, Error> {
        let mut trail = Trail { stores: stores.clone(), ..Trail::default() };
        let mut objects = Vec::new();
        for source in sources {
            if let Some(stream) = stores.spooled(source) {
                match stream.size {
                    0 => trail.excluded.objects.skip("empty"),
                    _ => trail.objects.push(stream),
                }
                continue;
            }
            let mut found = listing::find(stores, source, selection).await?;
            objects.append(&mut found.objects);
            for fault in found.faults {
                trail.excluded.objects.read += 1;
                trail.excluded.objects.rejected += 1;
                trail.excluded.fault(fault);
            }
        }
        // Two sources may name one object. Compared as paths, the keys `a//b` and `a/b` would be equal.
        objects.sort_by(|a, b| a.real.as_os_str().cmp(b.real.as_os_str()));
        objects.dedup_by(|a, b| a.real.as_os_str() == b.real.as_os_str());
        let mut lakes = LakeFolders::among(&objects);
        for object in objects {
            let skipped = if lakes.contain(&object.real) {
                trail.lake_file.get_or_insert_with(|| object.path.clone());
                Some("file of a lake".to_owned())
            } else if object.size == 0 {
                Some("empty".to_owned())
            } else {
                raw::skipped_by_path(&object.path)
            };
            match skipped {
                Some(kind) => trail.excluded.objects.skip(&kind),
                None => trail.objects.push(object),
            }
        }
        let order = |object: &Object| (object_key::delivery_date(&object.path).to_owned(), object.path.clone());
        trail.objects.sort_by_cached_key(order);
        Ok(trail)
    }
}

/// Returns whether an object or file exists at exactly `path`, on disk or in S3. `path` is not a pattern.
pub async fn object_exists(stores: &Stores, path: &str) -> Result<bool, Error> {
    match Location::of(path) {
        Location::Disk(path) => {
            path.try_exists().map_err(|source| Error::File { action: "look for", path: path.clone(), source })
        }
        Location::S3 { bucket, key } => {
            // A trailing slash is part of an object's key.
            let key = if path.ends_with('/') { key + "/" } else { key };
            Ok(stores.object(&bucket, &key).await?.is_some())
        }
    }
}

/// Parquet files that do not belong to a lake.
#[derive(Debug, Default)]
pub struct ParquetFiles {
    /// The files, each with its path below the source that names it.
    pub files: Vec<(Object, String)>,
    /// Folder entries that cannot be read.
    pub faults: Vec<Fault>,
}

/// Lists the Parquet files that `sources` name. Returns `None` if they are not Parquet.
///
/// With `is_known`, the caller says that the sources are Parquet, and files of any name are listed. Hidden folders and
/// files are skipped.
///
/// # Errors
/// In addition to store errors: the sources contain files of a lake, or JSON next to Parquet.
pub async fn parquet_files(stores: &Stores, sources: &[String], is_known: bool) -> Result<Option<ParquetFiles>, Error> {
    if sources.iter().any(|source| stores.spooled(source).is_some()) {
        return Ok(None);
    }
    let sources: Vec<String> = sources.iter().map(|source| Location::of(source).to_string()).collect();
    for source in &sources {
        if !is_known && !listing::first(stores, source).await?.is_some_and(|object| is_parquet(&object.path)) {
            return Ok(None);
        }
    }
    let mut parquet = ParquetFiles::default();
    for source in &sources {
        let listed = listing::find(stores, source, &Selection::default()).await?;
        let mut lakes = LakeFolders::among(&listed.objects);
        if let Some(file) = listed.objects.iter().find(|object| lakes.contain(&object.real)) {
            return Err(lake_file_error(&file.path));
        }
        if let Some(file) = listed.objects.iter().find(|object| store::is_part_file(&object.real)) {
            return Err(lost_log_error(file.path.clone()));
        }
        parquet.faults.extend(listed.faults);
        for object in listed.objects.into_iter().filter(|object| !is_hidden(&object.path, source)) {
            if is_known || is_parquet(&object.path) {
                if let Err(error) = object.location() {
                    let object = object.path.display().to_string();
                    let reason = format!("invalid name for a file of a table: {error}");
                    parquet.faults.push(Fault { object, position: None, reason });
                    continue;
                }
                let below = path_below(&object.path, source).display().to_string();
                parquet.files.push((object, below));
            } else if decode::has_json_name(&object.path) {
                return Err(Error::Usage {
                    message: format!("`{}` is in a folder of Parquet files", object.path.display()),
                    hint: Some("hunt the Parquet table and the raw trail separately".to_owned()),
                });
            }
        }
    }
    parquet.files.sort();
    parquet.files.dedup();
    Ok(Some(parquet))
}

/// Returns the error for data that include `file`, a file of a lake. Only the lake's transaction log says which of its
/// files are live.
pub fn lake_file_error(file: &Path) -> Error {
    Error::Usage {
        message: format!("the data include `{}`, a file of a lake", file.display()),
        hint: Some("pass the folder of one lake and nothing else, or a raw trail without lakes".to_owned()),
    }
}

/// Returns the error for `file`, a data file of a lake that has lost its transaction log. Without the log, records that
/// were merged or dropped would count again.
pub fn lost_log_error(file: PathBuf) -> Error {
    let reason = "it is a file of a lake, but the lake's transaction log `_delta_log` is missing".to_owned();
    Error::TransactionLog { path: file, reason }
}

/// Returns the path of an object below the part of `source` before its pattern.
fn path_below<'p>(path: &'p Path, source: &str) -> &'p Path {
    let literal: PathBuf = Path::new(source)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect();
    let below = path.strip_prefix(source).or_else(|_| path.strip_prefix(literal));
    below.unwrap_or_else(|_| path.file_name().map_or(path, Path::new))
}

/// Returns whether a path below `source` has a part that starts with `_` or `.`, as tools name their own files.
fn is_hidden(path: &Path, source: &str) -> bool {
    let mut parts = path_below(path, source).components().filter_map(|part| part.as_os_str().to_str());
    parts.any(|part| part.starts_with(['_', '.']))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Decides which files belong to lakes, and caches the answer for each folder.
struct LakeFolders {
    known: HashMap<PathBuf, bool>,
}

impl LakeFolders {
    /// Finds lakes in a bucket by the transaction logs among `objects`. Folders on disk are checked when asked for.
    fn among(objects: &[Object]) -> LakeFolders {
        let log = Path::new(store::LAKE_FOLDER).join("log");
        let roots = objects.iter().filter_map(|object| {
            let folder = object.real.parent()?;
            folder.ends_with(&log).then(|| folder.ancestors().nth(2).map(Path::to_path_buf))?
        });
        LakeFolders { known: roots.map(|root| (root, true)).collect() }
    }

    fn contain(&mut self, path: &Path) -> bool {
        let Some(folder) = path.parent() else {
            return false;
        };
        if let Some(known) = self.known.get(folder) {
            return *known;
        }
        let is_in_lake = store::is_lake(folder) || self.contain(folder);
        self.known.insert(folder.to_path_buf(), is_in_lake);
        is_in_lake
    }
}
