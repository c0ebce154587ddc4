//! Lists, reads and durably writes objects on disk and in S3. Outside the engine, only this module uses
//! `object_store` and the file system.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::local::LocalFileSystem;
use object_store::{Attribute, AttributeValue, ObjectMeta, ObjectStore, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use url::Url;

use crate::error::{Error, Fault};
use crate::time::{Instant, as_micros};

mod disk;
mod fault;
mod folder;
mod keys;
mod location;
mod read_ahead;
mod read_settings;
mod s3;
mod signing;
mod standard_input;
mod table_format;
mod upload;
mod wire;

pub use disk::{
    SETTINGS_BYTES, Scratch, Staged, StagedWriter, create_folder, destination, find, find_first, folder_of,
    is_writable_device, read_named, real_path,
};
pub use folder::{Folder, FolderFile, FolderWriter, Pending, WriterLock};
pub use location::Location;
pub use read_ahead::{Fetched, read_ahead, read_ahead_groups};
pub use read_settings::ReadSettings;
pub use s3::Access;
pub use standard_input::Spooled;
pub use table_format::{DELTA_LOG, TableFormat};
pub use upload::ObjectWriter;

/// The folder within a lake for everything that is not data: its transaction log, and unfinished work.
pub const LAKE_FOLDER: &str = "_tawny";

/// One stored object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// The object's path as a user writes it.
    pub path: PathBuf,
    /// Its absolute path without links and dots, or its URL in S3.
    pub real: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The time of its last change.
    #[serde(with = "as_micros")]
    pub modified: Instant,
    /// Its `ETag`, if its store has one.
    pub tag: Option<String>,
}

impl Object {
    /// Returns the identity of this version of the object: a hash of its real path, size, time of change and `ETag`.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.real.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(self.size.to_le_bytes());
        hash.update(self.modified.micros().to_le_bytes());
        hash.update(self.tag.as_deref().unwrap_or_default());
        hex(&hash.finalize()[..16])
    }

    /// Returns the bucket and the key of an object in S3.
    fn in_bucket(&self) -> Option<(&str, &str)> {
        self.real.to_str()?.strip_prefix("s3://")?.split_once('/')
    }

    /// Returns the object's path in `object_store`.
    pub(crate) fn location(&self) -> object_store::Result<object_store::path::Path> {
        match self.in_bucket() {
            Some((_, name)) => key(name),
            None => Ok(object_store::path::Path::from_absolute_path(&self.real)?),
        }
    }
}

/// Returns the lower-case hexadecimal text of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

/// Returns whether `folder`, on disk, is a lake of this or an earlier build.
pub fn is_lake(folder: &Path) -> bool {
    LAKE_MARKS.iter().any(|mark| folder.join(mark).is_dir())
}

/// Returns whether `path` is named like a data file of a lake: `date=…/part-<32 hexadecimal digits>.parquet`.
pub fn is_part_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let hash = name.strip_prefix("part-").and_then(|name| name.strip_suffix(".parquet")).unwrap_or_default();
    folder.starts_with("date=") && hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The folder of a lake for what detects damage of its transaction log.
pub const LAKE_CHECKS: &str = "_tawny/log";

/// The transaction log of a lake of an earlier build.
pub const FORMER_LAKE_LOG: &str = "_tawny/ledger";

/// Folders that only a lake has.
const LAKE_MARKS: [&str; 2] = [LAKE_CHECKS, FORMER_LAKE_LOG];

/// Returns whether the path `name`, as a file of a folder lists it, stays within that folder.
pub fn stays_within(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', '\0'])
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct FoundObjects {
    /// The objects, each once, sorted by path. Runs over the same sources see the same order.
    pub objects: Vec<Object>,
    /// Folder entries that cannot be read, such as a broken link.
    pub faults: Vec<Fault>,
}

/// A listing of a part of a bucket.
#[derive(Clone, Copy)]
pub struct Keys<'k> {
    /// The prefix of the keys: a folder with a slash at its end, or empty for all keys.
    pub prefix: &'k str,
    /// Whether folders below the prefix are listed by name only.
    pub by_folder: bool,
    /// Returns, for the last key of a page, a later text. Keys up to that text are not listed.
    pub skip_after: &'k (dyn Fn(&str) -> Option<String> + Sync),
    /// Whether the listing may end once it has this object.
    pub ends_at: &'k (dyn Fn(&Object) -> bool + Sync),
}

impl<'k> Keys<'k> {
    /// Returns a listing of all keys that begin with `prefix`.
    pub fn all(prefix: &'k str) -> Keys<'k> {
        Keys { prefix, by_folder: false, skip_after: &|_| None, ends_at: &|_| false }
    }
}

/// The result of a listing in S3.
#[derive(Debug, Default)]
pub struct Listing {
    /// The objects.
    pub objects: Vec<Object>,
    /// The prefixes of folders that were not listed, with a slash at the end.
    pub folders: Vec<String>,
    /// Objects that cannot be read because of their keys.
    pub faults: Vec<Fault>,
}

/// Objects of one store, as the engine's file scans take them.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The root of the store.
    pub(crate) url: Url,
    pub(crate) metas: Vec<ObjectMeta>,
}

/// The disk and the buckets of S3. Each bucket is opened once.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    disk: Arc<LocalFileSystem>,
    access: Arc<Access>,
    buckets: Arc<Mutex<HashMap<String, Arc<AmazonS3>>>>,
    settings: Arc<ReadSettings>,
    /// Standard input and pipes that were read to their end, by the user's names.
    spooled: Arc<Vec<Spooled>>,
}

impl Stores {
    /// Returns the disk and the buckets that are reached with `access`.
    pub fn new(access: Access) -> Stores {
        Stores { access: Arc::new(access), ..Stores::default() }
    }

    /// Returns the same stores with these settings for raw objects.
    #[must_use]
    pub fn with_read_settings(self, settings: ReadSettings) -> Stores {
        Stores { settings: Arc::new(settings), ..self }
    }

    /// Returns the settings for raw objects.
    pub fn read_settings(&self) -> &Arc<ReadSettings> {
        &self.settings
    }

    /// Returns the same stores with these streams as objects.
    #[must_use]
    pub fn with_spooled(self, spooled: Vec<Spooled>) -> Stores {
        Stores { spooled: Arc::new(spooled), ..self }
    }

    /// Returns the stream `source` as an object, if it was read to its end.
    pub(crate) fn spooled(&self, source: &str) -> Option<Object> {
        let named = |spooled: &&Spooled| spooled.object.path == Path::new(source);
        self.spooled.iter().find(named).map(|spooled| spooled.object.clone())
    }

    /// Returns the bucket `name`. Opens it the first time.
    pub(crate) async fn bucket(&self, name: &str) -> Result<Arc<AmazonS3>, Error> {
        let mut buckets = self.buckets.lock().await;
        if let Some(bucket) = buckets.get(name) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = s3::connect(&self.access, name).await?;
        buckets.insert(name.to_owned(), Arc::clone(&bucket));
        Ok(bucket)
    }

    /// Returns the folder at `location`. It need not exist.
    pub async fn folder(&self, location: &Location) -> Result<Folder, Error> {
        Ok(match location {
            Location::Disk(path) => Folder::Disk(path.clone()),
            Location::S3 { bucket, key } => {
                Folder::Bucket { store: self.bucket(bucket).await?, bucket: bucket.clone(), prefix: key.clone() }
            }
        })
    }

    /// Lists keys of a bucket.
    pub async fn list(&self, bucket: &str, wanted: Keys<'_>) -> Result<Listing, Error> {
        let store = self.bucket(bucket).await?;
        let encoded = keys::encode_prefix(wanted.prefix);
        let prefix = (!encoded.is_empty()).then_some(encoded.as_str());
        let delimiter = wanted.by_folder.then_some("/".into());
        let mut options = PaginatedListOptions { delimiter, ..PaginatedListOptions::default() };
        let mut listing = Listing::default();
        loop {
            let page = store.list_paginated(prefix, options.clone()).await;
            let page = page.map_err(|error| fault::store("list", bucket, wanted.prefix, &error))?;
            let folder = |path: object_store::path::Path| keys::decode(path.as_ref()) + "/";
            listing.folders.extend(page.result.common_prefixes.into_iter().map(folder));
            let mut last = None;
            for meta in page.result.objects {
                let key = keys::decode(meta.location.as_ref());
                let object = object(bucket, &key, meta);
                if let Err(error) = keys::check(&key) {
                    let object = object.path.display().to_string();
                    listing.faults.push(Fault { object, position: None, reason: error.to_string() });
                } else {
                    let is_last = (wanted.ends_at)(&object);
                    listing.objects.push(object);
                    if is_last {
                        return Ok(listing);
                    }
                }
                last = Some(key);
            }
            let Some(token) = page.page_token else {
                return Ok(listing);
            };
            options.offset = last.and_then(|key| (wanted.skip_after)(&key).filter(|later| *later > key));
            options.page_token = options.offset.is_none().then_some(token);
        }
    }

    /// Returns the object at key `name` of a bucket. `None` if there is none.
    pub async fn object(&self, bucket: &str, name: &str) -> Result<Option<Object>, Error> {
        let store = self.bucket(bucket).await?;
        let failed = |error| fault::store("find", bucket, name, &error);
        if let Err(error) = keys::check(name) {
            // Such an object is visible only in a listing.
            let listed = self.list(bucket, Keys { by_folder: true, ..Keys::all(name) }).await?;
            let url = format!("s3://{bucket}/{name}");
            if listed.faults.iter().all(|fault| fault.object != url) {
                return Ok(None);
            }
            return Err(Error::Store { action: "read", url, reason: error.to_string(), hint: None });
        }
        match store.head(&key(name).map_err(failed)?).await {
            Ok(meta) => Ok(Some(object(bucket, name, meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns the store and the metadata of `objects`, which are on disk or in one bucket.
    pub(crate) async fn locate(&self, objects: &[Object]) -> Result<Located, Error> {
        let bucket = objects.first().and_then(Object::in_bucket).map(|(bucket, _)| bucket);
        let (store, url): (Arc<dyn ObjectStore>, _) = match bucket {
            Some(bucket) => (self.bucket(bucket).await?, bucket_url(bucket)?),
            None => (Arc::clone(&self.disk) as _, disk_url()?),
        };
        let mut metas = Vec::with_capacity(objects.len());
        for object in objects {
            if object.in_bucket().map(|(bucket, _)| bucket) != bucket {
                return Err(Error::usage("the files of one table lie on disk or in one bucket"));
            }
            let location = object.location();
            metas.push(ObjectMeta {
                location: location.map_err(|error| Error::Internal(error.to_string()))?,
                last_modified: chrono::DateTime::from_timestamp_micros(object.modified.micros()).unwrap_or_default(),
                size: object.size,
                e_tag: object.tag.clone(),
                version: None,
            });
        }
        Ok(Located { store, url, metas })
    }

    /// Reads all bytes of `object`.
    ///
    /// # Errors
    /// The object is larger than `--max-object-size`, or the disk or its bucket does not give it.
    pub async fn read(&self, object: &Object) -> Result<bytes::Bytes, ObjectError> {
        let Some((bucket, name)) = object.in_bucket() else {
            let (stores, object) = (self.clone(), object.clone());
            let bytes = tokio::task::spawn_blocking(move || stores.read_file(&object)).await;
            return bytes.map_err(|error| ObjectError::Disk(error.to_string())).flatten();
        };
        self.check_size(object)?;
        let store = self.bucket(bucket).await.map_err(|error| ObjectError::Bucket(error.to_string()))?;
        let result = async { store.get(&key(name)?).await?.bytes().await };
        result.await.map_err(|error| ObjectError::Bucket(fault::reason(&error)))
    }

    /// Reads all bytes of `object` as [`Stores::read`] does, and its own metadata in S3 (`x-amz-meta-…`), by name without that
    /// prefix. A file on disk has none.
    pub async fn read_with_metadata(
        &self,
        object: &Object,
    ) -> Result<(bytes::Bytes, BTreeMap<String, String>), ObjectError> {
        let Some((bucket, name)) = object.in_bucket() else {
            return Ok((self.read(object).await?, BTreeMap::new()));
        };
        self.check_size(object)?;
        let store = self.bucket(bucket).await.map_err(|error| ObjectError::Bucket(error.to_string()))?;
        let result = async {
            let object = store.get(&key(name)?).await?;
            let own = |(attribute, value): (&Attribute, &AttributeValue)| match attribute {
                Attribute::Metadata(name) => Some((name.to_ascii_lowercase(), value.to_string())),
                _ => None,
            };
            let metadata = object.attributes.iter().filter_map(own).collect();
            Ok((object.bytes().await?, metadata))
        };
        result.await.map_err(|error: object_store::Error| ObjectError::Bucket(fault::reason(&error)))
    }

    /// Reads `objects` as [`Stores::read`] does, several files on one thread.
    async fn read_all(&self, objects: Vec<Object>) -> Vec<(Object, Result<bytes::Bytes, ObjectError>)> {
        if objects.iter().any(|object| object.in_bucket().is_some()) {
            let mut read = Vec::with_capacity(objects.len());
            for object in objects {
                let bytes = self.read(&object).await;
                read.push((object, bytes));
            }
            return read;
        }
        let objects = Arc::new(objects);
        let (stores, files) = (self.clone(), Arc::clone(&objects));
        let read = tokio::task::spawn_blocking(move || files.iter().map(|file| stores.read_file(file)).collect());
        let bytes: Vec<_> = read.await.unwrap_or_else(|error| {
            let failed = Err(ObjectError::Disk(error.to_string()));
            vec![failed; objects.len()]
        });
        Arc::unwrap_or_clone(objects).into_iter().zip(bytes).collect()
    }

    /// Reads all bytes of an object on disk.
    fn read_file(&self, object: &Object) -> Result<bytes::Bytes, ObjectError> {
        self.check_size(object)?;
        let stream = self.spooled.iter().find(|spooled| spooled.object.real == object.real);
        let bytes = stream.map_or_else(|| disk::read(&object.real), |stream| disk::read(&stream.file()));
        bytes.map(Into::into).map_err(|error| ObjectError::Disk(error.to_string()))
    }

    fn check_size(&self, object: &Object) -> Result<(), ObjectError> {
        let max_bytes = self.settings.max_object;
        if object.size > max_bytes as u64 { Err(ObjectError::TooLarge { max_bytes }) } else { Ok(()) }
    }
}

/// The reason why an object's bytes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The object holds more bytes than `--max-object-size` allows.
    #[error("holds more than {}", most_told(*max_bytes))]
    TooLarge {
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// The file system's reason.
    #[error("{0}")]
    Disk(String),
    /// The reason of the bucket's store, or why it was not reached.
    #[error("{0}")]
    Bucket(String),
}

/// Returns the root of the file system.
fn disk_url() -> Result<Url, Error> {
    Url::parse("file:///").map_err(|error| Error::Internal(format!("the URL of the disk: {error}")))
}

/// Returns the root of a bucket.
///
/// # Errors
/// The bucket's name holds characters that no host name has.
fn bucket_url(bucket: &str) -> Result<Url, Error> {
    let url = format!("s3://{bucket}");
    Url::parse(&url).map_err(|error| Error::Store { action: "open", url, reason: error.to_string(), hint: None })
}

/// Returns the text of the limit on an object's size.
pub fn most_told(bytes: usize) -> String {
    format!("{} MiB, the most that `--max-object-size` allows", bytes >> 20)
}

/// Checks that `object_store` can write an object with this key.
fn check_writable(bucket: &str, key: &str) -> Result<(), Error> {
    if keys::is_writable(key) {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!(
            "`s3://{bucket}/{key}` cannot be written: the key has a part that is empty, `.`, `..` or not printable"
        ),
        hint: Some("leave out doubled slashes, and slashes at the beginning of the key".to_owned()),
    })
}

/// Returns the path of a key in `object_store`, with every character of it.
fn key(name: &str) -> object_store::Result<object_store::path::Path> {
    Ok(object_store::path::Path::parse(keys::encode(name))?)
}

fn object(bucket: &str, key: &str, meta: ObjectMeta) -> Object {
    let path = PathBuf::from(format!("s3://{bucket}/{key}"));
    Object {
        real: path.clone(),
        path,
        size: meta.size,
        modified: Instant::from_micros(meta.last_modified.timestamp_micros()),
        tag: meta.e_tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_known() {
        for within in ["a", "date=2026-09-01/part-0.parquet", "a..b", ".a"] {
            assert!(stays_within(within), "{within}");
        }
        for outside in ["", ".", "..", "../a", "a/../../b", "/etc/passwd", "a\\..\\b", "a\0", "./../a"] {
            assert!(!stays_within(outside), "{outside}");
        }
    }
}
