//! Finds the current metadata file of a table.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::GzDecoder;
use uuid::Uuid;

use super::catalog::CatalogTable;
use super::{read, refused};
use crate::error::Error;
use crate::store::{Folder, Location, Stores};

/// Where the metadata of an Iceberg table are found.
#[derive(Debug, Clone)]
pub enum IcebergSource {
    /// In the folder `metadata` of the table's folder. The newest file counts.
    Folder(Location),
    /// In this file.
    MetadataFile(Location),
    /// In a REST catalog.
    Catalog(CatalogTable),
}

/// The folder of the metadata below the table's folder.
const METADATA_FOLDER: &str = "metadata";

/// The file with the version of the newest metadata file, in tables without a catalog.
const VERSION_HINT: &str = "version-hint.text";

/// How names of metadata files end. Compressed ones have two forms.
const SUFFIXES: [&str; 3] = [".gz.metadata.json", ".metadata.json.gz", ".metadata.json"];

/// What to do where the names do not say which file is current.
const NAME_ONE: &str =
    "name the file that is current, as `TABLE/metadata/….metadata.json`, or the table in its catalog";

/// A metadata file has at most this many bytes when it is decompressed.
const MOST_BYTES: u64 = 1 << 30;

impl IcebergSource {
    /// Returns the source that `text` names, if it is a table in a catalog or a metadata file. `token` is the bearer token
    /// for a catalog.
    ///
    /// # Errors
    /// The URL of a catalog is invalid.
    pub fn of(text: &str, token: Option<&str>) -> Result<Option<IcebergSource>, Error> {
        if let Some(url) = text.strip_prefix("iceberg+") {
            return CatalogTable::parse(url, token).map(|table| Some(IcebergSource::Catalog(table)));
        }
        let is_metadata_file = stem(text).is_some() && !text.contains(['*', '?', '[']);
        Ok(is_metadata_file.then(|| IcebergSource::MetadataFile(Location::of(text))))
    }

    /// Returns the path or URL of the table's current metadata file, and its content.
    pub(super) async fn metadata(&self, stores: &Stores) -> Result<(PathBuf, Bytes), Error> {
        let (path, bytes) = match self {
            IcebergSource::Catalog(table) => return table.load(stores).await,
            IcebergSource::MetadataFile(location) => {
                (PathBuf::from(location.to_string()), read(stores, location).await?)
            }
            IcebergSource::Folder(location) => {
                let folder = stores.folder(location).await?;
                let name = format!("{METADATA_FOLDER}/{}", newest(&folder).await?);
                (folder.path(&name), folder.read(&name).await?)
            }
        };
        let bytes = decompressed(&path, bytes)?;
        Ok((path, bytes))
    }
}

impl fmt::Display for IcebergSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IcebergSource::Folder(location) | IcebergSource::MetadataFile(location) => location.fmt(f),
            IcebergSource::Catalog(table) => table.fmt(f),
        }
    }
}

fn decompressed(path: &Path, bytes: Bytes) -> Result<Bytes, Error> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut text = Vec::new();
    let mut decoder = GzDecoder::new(bytes.as_ref()).take(MOST_BYTES + 1);
    decoder.read_to_end(&mut text).map_err(|error| refused(path, format!("invalid gzip: {error}")))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(refused(path, format!("it has more than {} MiB", MOST_BYTES >> 20)));
    }
    Ok(text.into())
}

/// The version in the name of a metadata file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetadataVersion {
    /// `v7.metadata.json`: a table without a catalog. No two files have one version.
    OfFolder(u64),
    /// `00007-UUID.metadata.json`: a catalog decides which file is current.
    OfCatalog(u64),
}

impl MetadataVersion {
    fn of(name: &str) -> Option<MetadataVersion> {
        let stem = stem(name)?;
        if let Some(number) = stem.strip_prefix('v').and_then(|number| number.parse().ok()) {
            return Some(MetadataVersion::OfFolder(number));
        }
        // A UUID alone may begin with digits and a dash too.
        let (number, id) = stem.split_once('-')?;
        let is_version = number.bytes().all(|byte| byte.is_ascii_digit()) && Uuid::try_parse(id).is_ok();
        is_version.then(|| number.parse().ok().map(MetadataVersion::OfCatalog))?
    }
}

/// Returns the name of a metadata file without its suffix. `None` for other files.
fn stem(name: &str) -> Option<&str> {
    SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|stem| !stem.is_empty())
}

async fn newest(folder: &Folder) -> Result<String, Error> {
    let names = folder.names(METADATA_FOLDER).await?;
    let hint_file = format!("{METADATA_FOLDER}/{VERSION_HINT}");
    let hint = folder.read_if_present(&hint_file).await?;
    let hint = hint.map(|hint| String::from_utf8_lossy(&hint).trim().to_owned());
    newest_of(&names, hint.as_deref()).map_err(|reason| refused(&folder.path(METADATA_FOLDER), reason))
}

/// Returns the name of the current metadata file among `names`. `hint` is the content of the version hint.
fn newest_of(names: &[String], hint: Option<&str>) -> Result<String, String> {
    let by_hint = |number: u64| format!("`{VERSION_HINT}` names version {number}, and its metadata file is missing");
    let versions = |of: fn(MetadataVersion) -> Option<u64>| {
        let mut found: Vec<(u64, &String)> =
            names.iter().filter_map(|name| Some((of(MetadataVersion::of(name)?)?, name))).collect();
        found.sort_unstable();
        found
    };
    let of_folder =
        versions(|version| if let MetadataVersion::OfFolder(number) = version { Some(number) } else { None });
    let of_catalog =
        versions(|version| if let MetadataVersion::OfCatalog(number) = version { Some(number) } else { None });
    let hinted_number = hint.and_then(|hint| hint.parse::<u64>().ok());
    let unversioned = names.iter().find(|name| stem(name).is_some() && MetadataVersion::of(name).is_none());
    if let Some(name) = unversioned {
        return Err(format!("the name of `{name}` has no version, so it may be the newest: {NAME_ONE}"));
    }
    let candidates = match (hint, hinted_number, of_folder.as_slice(), of_catalog.as_slice()) {
        (_, _, [.., (_, one)], [.., (_, other)]) => {
            return Err(format!("`{one}` is of a table without a catalog, and `{other}` is of a catalog: {NAME_ONE}"));
        }
        (Some(hint), None, of_folder, of_catalog) => {
            let newest = of_folder.last().or(of_catalog.last()).map(|(_, name)| name.as_str());
            let is_hinted = |name: &&str| *name == hint || stem(name) == Some(hint);
            return match newest.filter(is_hinted) {
                Some(name) => Ok(name.to_owned()),
                None => {
                    Err(format!("`{VERSION_HINT}` names `{hint}`, which is not the newest metadata file: {NAME_ONE}"))
                }
            };
        }
        (_, Some(number), [], _) => return Err(by_hint(number)),
        // A writer may have stopped before it changed the hint.
        (_, Some(number), of_folder, _) if of_folder.iter().all(|(version, _)| *version < number) => {
            return Err(by_hint(number));
        }
        (_, _, [], of_catalog) => of_catalog,
        (_, _, of_folder, _) => of_folder,
    };
    match candidates {
        [] => Err("it has no metadata file".to_owned()),
        [.., (before, one), (last, other)] if before == last => {
            Err(format!("`{one}` and `{other}` have the same version: {NAME_ONE}"))
        }
        [.., (_, name)] => Ok((*name).clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_metadata_file_is_found_or_refused() {
        let newest = |names: &str, hint: Option<&str>| {
            let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
            newest_of(&names, hint)
        };
        let of = |number: u32, id: u32| format!("{number:05}-9c12d441-03fe-4693-9a96-{id:012}.metadata.json");
        let (one, two, other_two) = (of(1, 1), of(2, 2), of(2, 3));
        let gz = two.replace(".metadata", ".gz.metadata");
        let stem_of = |name: &str| name.trim_end_matches(".metadata.json").to_owned();
        for (names, hint, expected) in [
            (format!("{one} {gz} snap-1.avro"), None, gz.as_str()),
            ("v9.metadata.json v10.metadata.json".to_owned(), Some("9"), "v10.metadata.json"),
            ("v9.metadata.json v10.metadata.json".to_owned(), None, "v10.metadata.json"),
            (format!("{one} {two}"), Some(&*stem_of(&two)), &two),
            (one.clone(), Some(&*one), &one),
        ] {
            assert_eq!(newest(&names, hint).as_deref(), Ok(expected), "{names}");
        }
        for (names, hint, reason) in [
            (format!("{two} {other_two}"), None, "have the same version"),
            ("v1.metadata.json".to_owned(), Some("2"), "names version 2"),
            (two.clone(), Some("2"), "names version 2"),
            (one.clone(), Some("00002-b"), "`00002-b`, which is not the newest"),
            // A hint that was not changed, and a table that a catalog took over.
            (format!("{one} {two}"), Some(&*stem_of(&one)), "which is not the newest"),
            (format!("{one} v1.metadata.json"), None, "of a catalog"),
            (format!("{one} v10.metadata.json"), Some("10"), "of a catalog"),
            // A UUID is not a version.
            (format!("{one} 01934567-0fca-7a01-9a96-000000000001.metadata.json"), None, "has no version"),
            (format!("{one} a.metadata.json"), None, "has no version"),
            ("snap-1.avro".to_owned(), None, "no metadata file"),
        ] {
            let error = newest(&names, hint).unwrap_err();
            assert!(error.contains(reason), "{names}: {error}");
        }
    }
}
