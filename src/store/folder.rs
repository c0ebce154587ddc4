//! A folder that is read and written by name, on disk or in S3.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use tempfile::TempDir;
use url::Url;

use super::disk::{self, Scratch, Staged};
use super::{check_writable, fault, key, keys};
use crate::error::Error;
use crate::time::Instant;

/// A folder.
#[derive(Debug, Clone)]
pub enum Folder {
    /// On disk.
    Disk(PathBuf),
    /// In a bucket.
    Bucket {
        /// The bucket.
        store: Arc<dyn ObjectStore>,
        /// Its name.
        bucket: String,
        /// The prefix of the folder's keys, before a slash. Empty for all keys.
        prefix: String,
    },
}

/// A file directly in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFile {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The time of its last change.
    pub modified: Instant,
}

impl Folder {
    /// Returns the path or URL of `name` in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Folder::Disk(folder) => folder.join(name),
            Folder::Bucket { bucket, prefix, .. } => PathBuf::from(format!("s3://{bucket}/{}", join(prefix, name))),
        }
    }

    /// Returns the same folder, on disk with its absolute path without links and dots.
    pub fn absolute(&self) -> Result<Folder, Error> {
        Ok(match self {
            Folder::Disk(folder) => Folder::Disk(disk::real_path(folder)?),
            Folder::Bucket { .. } => self.clone(),
        })
    }

    /// Returns the path of `name`, in an absolute folder, in the store of [`Folder::located`].
    pub(crate) fn key(&self, name: &str) -> object_store::Result<object_store::path::Path> {
        match self {
            Folder::Disk(folder) => Ok(object_store::path::Path::from_absolute_path(folder.join(name))?),
            Folder::Bucket { prefix, .. } => key(&join(prefix, name)),
        }
    }

    /// Returns the folder's store and the URL of its root.
    pub(crate) fn located(&self) -> Result<(Arc<dyn ObjectStore>, Url), Error> {
        Ok(match self {
            Folder::Disk(_) => (Arc::new(LocalFileSystem::new()), super::disk_url()?),
            Folder::Bucket { store, bucket, .. } => (Arc::clone(store), super::bucket_url(bucket)?),
        })
    }

    /// Reads the bytes of the file `name`.
    pub async fn read(&self, name: &str) -> Result<Bytes, Error> {
        match self {
            Folder::Disk(folder) => {
                let path = folder.join(name);
                let failed = |source| Error::File { action: "read", path: path.clone(), source };
                disk::read(&path).map(Bytes::from).map_err(failed)
            }
            Folder::Bucket { store, bucket, prefix } => {
                let full = join(prefix, name);
                let failed = |error| fault::store("read", bucket, &full, &error);
                let result = store.get(&key(&full).map_err(failed)?).await.map_err(failed)?;
                result.bytes().await.map_err(failed)
            }
        }
    }

    /// Reads the bytes of the file `name`. `None` if there is no such file.
    pub async fn read_if_present(&self, name: &str) -> Result<Option<Bytes>, Error> {
        match self {
            Folder::Disk(folder) => {
                let path = folder.join(name);
                match disk::read(&path) {
                    Ok(bytes) => Ok(Some(bytes.into())),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(Error::File { action: "read", path, source }),
                }
            }
            Folder::Bucket { store, bucket, prefix } => {
                let full = join(prefix, name);
                let failed = |error| fault::store("read", bucket, &full, &error);
                match store.get(&key(&full).map_err(failed)?).await {
                    Ok(result) => result.bytes().await.map(Some).map_err(failed),
                    Err(StoreError::NotFound { .. }) => Ok(None),
                    Err(error) => Err(failed(error)),
                }
            }
        }
    }

    /// Returns the URL of the folder, with a slash at its end. A folder on disk need not exist.
    pub fn url(&self) -> Result<Url, Error> {
        let bad = |reason: &str| Error::Internal(format!("the URL of `{}`: {reason}", self.path("").display()));
        match self {
            Folder::Disk(folder) => {
                // URLs have no links and dots.
                let path = fs::canonicalize(folder).or_else(|_| std::path::absolute(folder));
                let path = path.map_err(|source| Error::File { action: "find", path: folder.clone(), source })?;
                Url::from_directory_path(path).map_err(|()| bad("it is not an absolute path"))
            }
            Folder::Bucket { bucket, prefix, .. } => {
                let mut url = super::bucket_url(bucket)?;
                let below = prefix.split('/').filter(|part| !part.is_empty());
                url.path_segments_mut().map_err(|()| bad("it has no path"))?.clear().extend(below).push("");
                Ok(url)
            }
        }
    }

    /// Returns the size of the file `name` in bytes. `None` if there is no such file.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        match self {
            Folder::Disk(folder) => Ok(fs::metadata(folder.join(name)).ok().map(|metadata| metadata.len())),
            Folder::Bucket { store, bucket, prefix } => {
                let full = join(prefix, name);
                let failed = |error| fault::store("read", bucket, &full, &error);
                match store.head(&key(&full).map_err(failed)?).await {
                    Ok(meta) => Ok(Some(meta.size)),
                    Err(StoreError::NotFound { .. }) => Ok(None),
                    Err(error) => Err(failed(error)),
                }
            }
        }
    }

    /// Deletes the file `name`. A missing file is not an error.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        match self {
            Folder::Disk(root) => match fs::remove_file(root.join(name)) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::File { action: "delete", path: root.join(name), source })
                }
                _ => Ok(()),
            },
            Folder::Bucket { store, bucket, prefix } => {
                let full = join(prefix, name);
                let failed = |error| fault::store("delete", bucket, &full, &error);
                match store.delete(&key(&full).map_err(failed)?).await {
                    Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
                    Err(error) => Err(failed(error)),
                }
            }
        }
    }

    /// Creates the file `name` atomically. Returns false if another one exists.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Error> {
        let Folder::Bucket { store, bucket, prefix } = self else {
            let path = self.path(name);
            let created = tokio::task::spawn_blocking(move || disk::create(&path, &bytes));
            return created.await.map_err(|error| Error::Internal(error.to_string()))?;
        };
        let full = join(prefix, name);
        let failed = |error| fault::store("write", bucket, &full, &error);
        let key = key(&full).map_err(failed)?;
        let mut pause = FIRST_PAUSE;
        loop {
            let payload = PutPayload::from(bytes.clone());
            match store.put_opts(&key, payload, PutMode::Create.into()).await {
                Ok(_) => return Ok(true),
                // A request that got no answer may have created it.
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    return Ok(self.read(name).await? == bytes);
                }
                // The store's client does not retry such a request.
                Err(StoreError::Generic { .. }) if pause < LAST_PAUSE => tokio::time::sleep(pause).await,
                Err(error) => return Err(failed(error)),
            }
            pause *= 2;
        }
    }

    /// Reads the text of the file `name`.
    pub async fn read_text(&self, name: &str) -> Result<String, Error> {
        match self {
            Folder::Disk(folder) => disk::read_text(&folder.join(name)),
            Folder::Bucket { .. } => String::from_utf8(self.read(name).await?.into()).map_err(|error| Error::Store {
                action: "read",
                url: self.path(name).display().to_string(),
                reason: error.utf8_error().to_string(),
                hint: None,
            }),
        }
    }

    /// Returns the names of the entries of the folder `name`. Empty if there is no such folder.
    pub async fn names(&self, name: &str) -> Result<Vec<String>, Error> {
        match self {
            Folder::Disk(folder) => {
                let entries = disk::entries(&folder.join(name))?;
                Ok(entries.iter().filter_map(|entry| entry.file_name().to_str().map(str::to_owned)).collect())
            }
            Folder::Bucket { store, bucket, prefix } => {
                let full = join(prefix, name);
                let failed = |error| fault::store("list", bucket, &full, &error);
                let listed = store.list_with_delimiter(Some(&key(&full).map_err(failed)?)).await.map_err(failed)?;
                Ok(listed.objects.iter().filter_map(|meta| meta.location.filename().map(keys::decode)).collect())
            }
        }
    }

    /// Returns the files directly in the folder `name` whose names sort after `after`, in the order of their names.
    /// Empty if there is no such folder.
    pub async fn files_after(&self, name: &str, after: &str) -> Result<Vec<FolderFile>, Error> {
        let mut files = match self {
            Folder::Disk(folder) => {
                let folder = folder.join(name);
                let failed = |source| Error::File { action: "list", path: folder.clone(), source };
                let mut files = Vec::new();
                for entry in disk::entries(&folder)? {
                    let Some(name) = entry.file_name().to_str().filter(|name| *name > after).map(str::to_owned) else {
                        continue;
                    };
                    let metadata = entry.metadata().map_err(failed)?;
                    if metadata.is_file() {
                        let modified = disk::modified(&metadata).map_err(failed)?;
                        files.push(FolderFile { name, bytes: metadata.len(), modified });
                    }
                }
                files
            }
            Folder::Bucket { store, bucket, prefix } => {
                let full = join(prefix, name);
                let failed = |error| fault::store("list", bucket, &full, &error);
                let offset = key(&format!("{full}/{after}")).map_err(failed)?;
                let folder = key(&full).map_err(failed)?;
                let begin = folder.as_ref().len() + 1;
                let listed: Vec<object_store::ObjectMeta> =
                    store.list_with_offset(Some(&folder), &offset).try_collect().await.map_err(failed)?;
                let file = |meta: &object_store::ObjectMeta| {
                    let name = meta.location.as_ref().get(begin..).filter(|name| !name.contains('/'))?;
                    let modified = Instant::from_micros(meta.last_modified.timestamp_micros());
                    Some(FolderFile { name: keys::decode(name), bytes: meta.size, modified })
                };
                listed.iter().filter_map(file).collect()
            }
        };
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// Returns all files in the folder and below it: their names, and the times of their last change.
    pub async fn all(&self) -> Result<Vec<(String, Instant)>, Error> {
        match self {
            Folder::Disk(folder) => {
                let found = disk::find(&folder.display().to_string(), &|_| true)?.objects;
                let name = |path: &std::path::Path| Some(path.strip_prefix(folder).ok()?.to_str()?.to_owned());
                Ok(found.iter().filter_map(|file| name(&file.path).map(|name| (name, file.modified))).collect())
            }
            Folder::Bucket { store, bucket, prefix } => {
                let failed = |error| fault::store("list", bucket, prefix, &error);
                let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
                // The console of S3 marks a folder by an object with the folder's name.
                let file = |meta: object_store::ObjectMeta| {
                    let key = keys::decode(meta.location.as_ref());
                    let name = key.strip_prefix(&folder).filter(|name| !name.is_empty())?;
                    Some((name.to_owned(), Instant::from_micros(meta.last_modified.timestamp_micros())))
                };
                let listed = store.list(Some(&key(prefix).map_err(failed)?));
                listed.try_filter_map(async |meta| Ok(file(meta))).try_collect().await.map_err(failed)
            }
        }
    }

    /// Writes `bytes` to `name` atomically. Replaces an existing file.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        match self {
            Folder::Disk(folder) => {
                let path = folder.join(name);
                let written = tokio::task::spawn_blocking(move || disk::put(&path, &bytes));
                written.await.map_err(|error| Error::Internal(error.to_string()))?
            }
            Folder::Bucket { store, bucket, prefix } => {
                let full = join(prefix, name);
                let failed = |error| fault::store("write", bucket, &full, &error);
                store.put(&key(&full).map_err(failed)?, bytes.into()).await.map_err(failed)?;
                Ok(())
            }
        }
    }

    /// Returns whether the folder is a lake of this or an earlier build.
    pub async fn is_lake(&self) -> Result<bool, Error> {
        match self {
            Folder::Disk(root) => Ok(super::is_lake(root)),
            Folder::Bucket { .. } => {
                for mark in super::LAKE_MARKS {
                    if !self.names(mark).await?.is_empty() {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Returns the sizes of the files `names` in bytes. `None` for a file that does not exist.
    pub async fn sizes(&self, names: &[&str]) -> Result<Vec<Option<u64>>, Error> {
        let Folder::Bucket { store, bucket, prefix } = self else {
            let size = |name: &&str| fs::metadata(self.path(name)).ok().map(|metadata| metadata.len());
            return Ok(names.iter().map(size).collect());
        };
        let failed = |error| fault::store("list", bucket, prefix, &error);
        let listed: HashMap<object_store::path::Path, u64> = store
            .list(Some(&key(prefix).map_err(failed)?))
            .map_ok(|meta| (meta.location, meta.size))
            .try_collect()
            .await
            .map_err(failed)?;
        let size = |name: &&str| Ok(listed.get(&self.key(name).map_err(failed)?).copied());
        names.iter().map(size).collect()
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() || name.is_empty() { [folder, name].concat() } else { format!("{folder}/{name}") }
}

/// With whom a writer on disk shares its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterLock {
    /// With no one.
    Exclusive,
    /// With other writers that also share it.
    Shared,
}

/// The writer of a folder.
#[derive(Debug)]
pub struct FolderWriter {
    folder: Folder,
    /// On disk: the folder for unfinished files, and the lock.
    on_disk: Option<(TempDir, disk::Lock)>,
}

/// A complete file that readers do not see yet.
#[derive(Debug)]
pub enum Pending {
    /// A file that must be moved to its final path.
    OnDisk(Staged),
    /// An object under its final key, which no reader knows yet.
    InBucket,
}

impl FolderWriter {
    /// Opens the folder for writing. `own` is the folder in it for locks and unfinished work. `None` if another
    /// process on this machine holds the lock alone.
    /// A bucket has no lock: for the second of two writers [`Folder::create`] returns false.
    pub async fn open(
        folder: &Folder,
        own: &str,
        lock: WriterLock,
        scratch: &Scratch,
    ) -> Result<Option<FolderWriter>, Error> {
        if let Folder::Bucket { bucket, prefix, .. } = folder {
            check_writable(bucket, prefix)?;
        }
        let on_disk = match folder {
            Folder::Disk(root) => {
                let own = root.join(own);
                disk::create_folder(&own)?;
                let path = own.join("lock");
                let alone = disk::try_lock(&path)?;
                if alone.is_some() {
                    disk::remove_stale_scratch(&own)?;
                }
                let held = match lock {
                    WriterLock::Exclusive => alone,
                    WriterLock::Shared => {
                        drop(alone);
                        disk::try_lock_shared(&path)?
                    }
                };
                let Some(held) = held else {
                    return Ok(None);
                };
                Some((scratch.folder_in(&own)?, held))
            }
            Folder::Bucket { .. } => None,
        };
        let writer = FolderWriter { folder: folder.clone(), on_disk };
        if let Folder::Bucket { bucket, prefix, .. } = folder {
            writer.probe(own, bucket, prefix).await?;
        }
        Ok(Some(writer))
    }

    /// Checks that the store refuses to create an object that exists. Some stores accept every such request, and then
    /// two writers would overwrite each other.
    async fn probe(&self, own: &str, bucket: &str, prefix: &str) -> Result<(), Error> {
        let name = format!("{own}/probe");
        self.folder.create(&name, Bytes::from_static(b"probe\n")).await?;
        if self.folder.create(&name, Bytes::from_static(b"probe of another\n")).await? {
            return Err(Error::Store {
                action: "write",
                url: format!("s3://{bucket}/{prefix}"),
                reason:
                    "the store overwrites an object that a request said must not exist (If-None-Match), so that two \
                         runs could destroy one another's work"
                        .to_owned(),
                hint: Some("keep the lake on a store that honours conditional writes, or on disk".to_owned()),
            });
        }
        Ok(())
    }

    /// Writes the complete file for `name`, before readers see it.
    pub async fn stage(&self, name: &str, bytes: Bytes) -> Result<Pending, Error> {
        match (&self.folder, &self.on_disk) {
            (Folder::Bucket { store, bucket, prefix }, _) => {
                let full = join(prefix, name);
                let failed = |error| fault::store("write", bucket, &full, &error);
                store.put(&key(&full).map_err(failed)?, PutPayload::from(bytes)).await.map_err(failed)?;
                Ok(Pending::InBucket)
            }
            (Folder::Disk(root), Some((staging, _))) => {
                let (path, staging) = (root.join(name), staging.path().to_path_buf());
                let staged = tokio::task::spawn_blocking(move || disk::stage(&path, &staging, &bytes));
                staged.await.map_err(|error| Error::Internal(error.to_string()))?.map(Pending::OnDisk)
            }
            (Folder::Disk(root), None) => Err(Error::Internal(format!("`{}` is not locked", root.display()))),
        }
    }
}

/// The wait before the first retry of a creation. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The wait at which a creation is given up.
const LAST_PAUSE: Duration = Duration::from_secs(10);

impl Pending {
    /// Moves the file to its final path, where readers see it.
    pub fn publish(self) -> Result<(), Error> {
        match self {
            Pending::OnDisk(staged) => staged.publish(),
            Pending::InBucket => Ok(()),
        }
    }
}
