//! Lists of converted objects: `LAKE/_tawny/objects/<SHA-256>.jsonl`, a line of JSON for each object.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::store::{Folder, FolderWriter, LAKE_FOLDER, hex};
use crate::time::Instant;

/// Lists that are read concurrently.
pub(super) const CONCURRENT_READS: usize = 32;

/// A converted object: its records are in the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// See [`crate::store::Object::identity`].
    pub id: String,
    /// Its path at the time of the conversion.
    pub path: String,
    /// Whether a verified digest named the hash of its content when it was converted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
    /// Delivery day, if known. See [`crate::trail::delivered_on`].
    #[serde(skip)]
    pub delivered: Option<Instant>,
}

/// How many objects are verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedObjects {
    /// All converted objects.
    pub objects: u64,
    /// Those for which a verified digest named the hash of their content when they were converted.
    pub verified: u64,
}

fn objects_file(name: &str) -> String {
    format!("{LAKE_FOLDER}/objects/{name}.jsonl")
}

/// Writes the list of `objects`, and returns its name.
pub(super) async fn write_objects(writer: &FolderWriter, objects: &[ObjectEntry]) -> Result<String, Error> {
    let mut lines = Vec::new();
    for object in objects {
        serde_json::to_writer(&mut lines, object).map_err(|error| Error::Internal(error.to_string()))?;
        lines.push(b'\n');
    }
    write_list(writer, lines).await
}

/// Writes one list of the objects in `lists`, and returns its name.
pub(super) async fn merge_lists(writer: &FolderWriter, folder: &Folder, lists: Vec<String>) -> Result<String, Error> {
    let merged: Vec<Bytes> = futures::stream::iter(lists.iter().map(|list| read_list(folder, list)))
        .buffered(CONCURRENT_READS)
        .try_collect()
        .await?;
    write_list(writer, merged.concat()).await
}

async fn write_list(writer: &FolderWriter, lines: Vec<u8>) -> Result<String, Error> {
    let name = hex(&Sha256::digest(&lines));
    writer.stage(&objects_file(&name), lines.into()).await?.publish()?;
    Ok(name)
}

/// Returns the objects in the list `name`.
pub(super) async fn read_objects(folder: &Folder, name: String) -> Result<Vec<ObjectEntry>, Error> {
    let bytes = read_list(folder, &name).await?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let objects = lines.map(serde_json::from_slice::<ObjectEntry>);
    let damaged = |reason: String| Error::TransactionLog { path: folder.path(&objects_file(&name)), reason };
    objects.collect::<Result<_, _>>().map_err(|error| damaged(error.to_string()))
}

/// Reads the list `name` and checks it.
async fn read_list(folder: &Folder, name: &str) -> Result<Bytes, Error> {
    let file = objects_file(name);
    let bytes = folder.read(&file).await?;
    if hex(&Sha256::digest(&bytes)) == name {
        return Ok(bytes);
    }
    let reason = "its content does not have the SHA-256 in its name".to_owned();
    Err(Error::TransactionLog { path: folder.path(&file), reason })
}
