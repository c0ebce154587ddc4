//! Reads the digests of a source and checks their chains.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;

use super::chain::{self, CheckedChain, DigestFile, HOUR, Unusable};
use super::digest::{Digest, DigestError};
use super::names::{DigestName, SourceFiles, file_name, path_text};
use super::{Request, VerifyLimits};
use crate::error::Error;
use crate::store::{Object, Stores};
use crate::time::Range;

/// The name of the signature in a digest's S3 metadata.
const SIGNATURE: &str = "signature";

/// Reads the digests that may cover deliveries within the range, and those after it, which hold signatures of others. Returns
/// their chains after the check.
pub(super) async fn checked_chains(
    stores: &Stores,
    files: &SourceFiles,
    request: &Request,
) -> Result<Vec<CheckedChain>, Error> {
    let VerifyLimits { threads, in_flight } = request.limits;
    let range = request.range;
    let wanted = files.digests.iter().map(|index| &files.objects[*index]);
    let wanted = wanted.filter(|object| is_near(object, range));
    let digests: Vec<DigestFile> = futures::stream::iter(wanted)
        .map(|object| read(stores, files, object))
        .buffered(in_flight.max(1))
        .try_collect()
        .await?;
    futures::stream::iter(chain::chains(digests))
        .map(|(id, digests)| {
            let keys = request.keys.clone();
            let check = move || chain::check(id, digests, keys.as_deref(), range);
            async move { tokio::task::spawn_blocking(check).await.map_err(|error| Error::Internal(error.to_string())) }
        })
        .buffered(threads.max(1))
        .try_collect()
        .await
}

/// Returns whether the name of a digest shows a span near `range`, or none.
fn is_near(digest: &Object, range: Range) -> bool {
    let Some(name) = DigestName::of(file_name(&path_text(digest))) else {
        return true;
    };
    // The next digest holds the signature, and a digest may cover somewhat more than an hour.
    range.from.is_none_or(|from| name.end > from) && range.to.is_none_or(|to| name.end < to + 3 * HOUR)
}

async fn read(stores: &Stores, files: &SourceFiles, object: &Object) -> Result<DigestFile, Error> {
    let path = path_text(object).into_owned();
    let max_bytes = stores.read_settings().max_object;
    let (content, signature) = match stores.read_with_metadata(object).await {
        Err(error) => (Err(Unusable::Unreadable(error.to_string())), None),
        Ok((bytes, metadata)) => {
            let task = tokio::task::spawn_blocking(move || Digest::read(&bytes, max_bytes));
            let read = task.await.map_err(|error| Error::Internal(error.to_string()))?;
            let signature = match files.metadata.get(&path) {
                Some(index) => signature_of(stores, &files.objects[*index]).await,
                None => metadata.get(SIGNATURE).cloned(),
            };
            let unusable = |error: DigestError| Unusable::Altered(error.to_string());
            (read.map_err(unusable), signature)
        }
    };
    let name = DigestName::of(file_name(&path));
    Ok(DigestFile::new(path, name, content, signature))
}

/// The output of `aws s3api head-object`.
#[derive(Deserialize)]
struct HeadObject {
    #[serde(rename = "Metadata")]
    metadata: BTreeMap<String, String>,
}

/// Returns the signature in a file with the S3 metadata of a digest.
async fn signature_of(stores: &Stores, file: &Object) -> Option<String> {
    let bytes = stores.read(file).await.ok()?;
    let head: HeadObject = serde_json::from_slice(&bytes).ok()?;
    head.metadata.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(SIGNATURE)).map(|(_, value)| value)
}
