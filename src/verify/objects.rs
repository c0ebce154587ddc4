//! Compares log files with the hashes that digests name, and finds log files that no digest names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::chain::{CheckedChain, DIGEST_DELAY, State, overlaps};
use super::digest::{Sha256Hash, sha256};
use super::names::{LogName, SourceFiles, file_name, path_text};
use super::{Problem, ProblemKind, Request, Subject};
use crate::error::Error;
use crate::raw;
use crate::store::{self, Fetched, Object, ObjectError, Stores};
use crate::time::{DAY, Instant, Range, SECOND};
use crate::trail;

/// How much earlier than its delivery the name of a log file may say. CloudTrail names a file by the minute in which it began
/// to write it.
const STAMP_LEAD: i64 = 15 * 60 * SECOND;

/// The claim of a digest about a log file.
#[derive(Debug, Clone)]
pub(super) struct HashClaim {
    hash: Option<Sha256Hash>,
    /// The name of the digest.
    digest: Arc<str>,
    /// Why the digest could not be checked. `None` if it is verified.
    doubt: Option<Arc<str>>,
    /// Whether content with another hash is altered. A digest that could have been checked, but is not verified, may be forged.
    is_binding: bool,
}

/// What digests say about the log files of a source.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// By index of the file.
    pub(super) found: BTreeMap<usize, Vec<HashClaim>>,
    /// Named files that the source does not have.
    pub(super) missing: Vec<Problem>,
    /// Indexes of the files that a digest within the range names, or a verified one after it.
    named: HashSet<usize>,
    /// Files that only a digest after the range names that is not verified. By index, with the reason.
    doubted: HashMap<usize, Arc<str>>,
    /// The kinds of log files that digests name.
    kinds: BTreeSet<String>,
}

impl Claims {
    /// Returns the claims of the digests within the range of `request`.
    pub(super) fn of(chains: &[CheckedChain], files: &SourceFiles, request: &Request) -> Claims {
        let mut claims = Claims::default();
        let mut missing = BTreeSet::new();
        for digest in chains.iter().flat_map(|chain| &chain.digests) {
            let Ok(content) = &digest.content else {
                continue;
            };
            let (doubt, is_binding): (Option<Arc<str>>, bool) = match &digest.state {
                State::Verified => (None, true),
                State::Altered(_) => (Some("the digest that names it is altered".into()), false),
                State::Unchecked(reason) => (Some(reason.as_str().into()), request.keys.is_none()),
            };
            if !digest.is_within(request.range) {
                let named = content.files.iter().filter_map(|file| files.find(&file.bucket, &file.key, &digest.path));
                match doubt {
                    None => claims.named.extend(named),
                    Some(reason) => claims.doubted.extend(named.map(|index| (index, Arc::clone(&reason)))),
                }
                continue;
            }
            let name: Arc<str> = file_name(&digest.path).into();
            for file in &content.files {
                if let Some(LogName { kind, .. }) = LogName::of(file_name(&file.key))
                    && !claims.kinds.contains(kind)
                {
                    claims.kinds.insert(kind.to_owned());
                }
                match files.find(&file.bucket, &file.key, &digest.path) {
                    Some(index) => {
                        let (digest, doubt) = (Arc::clone(&name), doubt.clone());
                        let claim = HashClaim { hash: file.hash, digest, doubt, is_binding };
                        claims.named.insert(index);
                        // Few files have several.
                        claims.found.entry(index).or_insert_with(|| Vec::with_capacity(1)).push(claim);
                    }
                    None if missing.insert((file.bucket.clone(), file.key.clone())) => claims.missing.push(Problem {
                        subject: Subject::Object,
                        kind: ProblemKind::Missing,
                        name: format!("s3://{}/{}", file.bucket, file.key),
                        reason: format!("`{name}` names it"),
                    }),
                    None => {}
                }
            }
        }
        claims
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ObjectState {
    Verified,
    /// With the reason.
    Altered(String),
    /// It could not be checked, with the reason.
    Unchecked(String),
}

/// Compares the bytes of a file with what digests say about it.
pub(super) fn compare(
    bytes: &Result<bytes::Bytes, ObjectError>,
    claims: &[HashClaim],
    max_bytes: usize,
) -> ObjectState {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return ObjectState::Unchecked(error.to_string()),
    };
    let hash = match raw::content(bytes, max_bytes, sha256) {
        Ok(hash) => hash,
        Err(error @ raw::ReadError::TooLarge { .. }) => return ObjectState::Unchecked(error.to_string()),
        Err(error) if claims.iter().any(|claim| claim.is_binding) => return ObjectState::Altered(error.to_string()),
        Err(error) => return ObjectState::Unchecked(error.to_string()),
    };
    let mut doubt = None;
    // The claims of verified digests count first.
    for claim in
        claims.iter().filter(|claim| claim.doubt.is_none()).chain(claims.iter().filter(|claim| claim.doubt.is_some()))
    {
        match (&claim.hash, &claim.doubt) {
            (None, _) => doubt = Some("the digest names a hash of an unknown algorithm".to_owned()),
            (Some(named), Some(reason)) if *named != hash && !claim.is_binding => {
                doubt = Some(format!("it does not have the hash that a digest names, which proves nothing: {reason}"));
            }
            (Some(named), _) if *named != hash => {
                let first = raw::first_member(bytes, max_bytes);
                let appended = first.is_some_and(|first| sha256(&first) == *named);
                let what = if appended {
                    "records were appended to it in another gzip member: without them it has"
                } else {
                    "its content does not have"
                };
                return ObjectState::Altered(format!("{what} the hash that `{}` names", claim.digest));
            }
            (Some(_), None) => return ObjectState::Verified,
            (Some(_), Some(reason)) => doubt = Some(reason.to_string()),
        }
    }
    ObjectState::Unchecked(doubt.unwrap_or_else(|| "no digest names it".to_owned()))
}

/// Reads and compares files with their claims. Calls `done` for each with its size.
pub(super) async fn compare_all(
    stores: &Stores,
    files: &Arc<SourceFiles>,
    found: BTreeMap<usize, Vec<HashClaim>>,
    request: &Request,
    done: &mut dyn FnMut(&Object, ObjectState),
) -> Result<(), Error> {
    let (indexes, claims): (Vec<usize>, Vec<Vec<HashClaim>>) = found.into_iter().unzip();
    let (files, mut claims) = (Arc::clone(files), claims.into_iter());
    let objects = indexes.into_iter().map(move |index| files.objects[index].clone());
    let max_bytes = stores.read_settings().max_object;
    let mut compared = store::read_ahead_groups(stores, objects, request.limits.in_flight)
        .map(|group| {
            let group: Vec<(Fetched, Vec<HashClaim>)> = group.into_iter().zip(claims.by_ref()).collect();
            let task = tokio::task::spawn_blocking(move || {
                let compared = group.into_iter().map(|(fetched, claims)| {
                    let state = compare(&fetched.bytes, &claims, max_bytes);
                    (fetched.object, state)
                });
                compared.collect::<Vec<_>>()
            });
            async move { task.await.map_err(|error| Error::Internal(error.to_string())) }
        })
        .buffered(request.limits.threads + 1);
    while let Some(group) = compared.try_next().await? {
        for (object, state) in group {
            done(&object, state);
        }
    }
    Ok(())
}

/// The log files that no digest names.
#[derive(Debug, Default)]
pub(super) struct Unnamed {
    pub(super) problems: Vec<Problem>,
    /// Files that only a digest after the range names that is not verified. With their path and the reason.
    pub(super) unchecked: Vec<(String, String)>,
    /// Log files for which the digest is still to come.
    pub(super) not_yet_covered: u64,
    /// The delivery of the newest log file, by account and region.
    pub(super) newest: HashMap<(String, String), Instant>,
}

impl Unnamed {
    /// Finds the files of the range that no digest names, and that a hunt would read.
    pub(super) fn of(chains: &[CheckedChain], files: &SourceFiles, claims: &Claims, request: &Request) -> Unnamed {
        let mut covered: HashMap<(&str, &str), (Instant, Instant)> = HashMap::new();
        for chain in chains.iter().filter(|chain| !chain.id.is_backfill) {
            for digest in &chain.digests {
                let (start, end) = digest.span();
                let span = covered.entry((&chain.id.account, &chain.id.region)).or_insert((start, end));
                *span = (span.0.min(start), span.1.max(end));
            }
        }
        let may_hold_records = trail::may_hold_records(&files.objects);
        let mut unnamed = Unnamed::default();
        for index in &files.others {
            let object = &files.objects[*index];
            let path = path_text(object);
            let name = LogName::of(file_name(&path));
            if !is_delivered_within(object, name, request.range) {
                continue;
            }
            if let Some(name) = name {
                let newest =
                    unnamed.newest.entry((name.account.to_owned(), name.region.to_owned())).or_insert(Instant::MIN);
                *newest = name.delivered.max(*newest);
            }
            let is_of_named_kind = name.is_some_and(|name| claims.kinds.contains(name.kind));
            if claims.named.contains(index) || !(may_hold_records[*index] || is_of_named_kind) {
                continue;
            }
            if let Some(reason) = claims.doubted.get(index) {
                unnamed.unchecked.push((path.into_owned(), reason.to_string()));
                continue;
            }
            let Some(reason) = reason(name, &covered, request.now) else {
                unnamed.not_yet_covered += 1;
                continue;
            };
            let (subject, kind, name) = (Subject::Object, ProblemKind::Unnamed, path.into_owned());
            unnamed.problems.push(Problem { subject, kind, name, reason });
        }
        unnamed
    }
}

/// Returns whether a file was delivered within the range, as far as its place and name show it. The day of its folder counts where
/// its name has another one, because hunts go by folders.
fn is_delivered_within(object: &Object, name: Option<LogName<'_>>, range: Range) -> bool {
    let day = trail::delivered_on(&object.path);
    let is_of_day = |delivered: Instant| day.is_none_or(|midnight| (midnight..midnight + DAY).contains(&delivered));
    match (name.map(|name| name.delivered).filter(|delivered| is_of_day(*delivered)), day) {
        (Some(delivered), _) => range.contains(delivered),
        (None, Some(midnight)) => overlaps(range, (midnight, midnight + DAY)),
        (None, None) => true,
    }
}

/// Returns why no digest names a file. `None` if its digest may be still to come. `covered` is the span of the digests by account
/// and region.
fn reason(
    name: Option<LogName<'_>>,
    covered: &HashMap<(&str, &str), (Instant, Instant)>,
    now: Instant,
) -> Option<String> {
    let Some(name) = name else {
        return Some("no digest names it, and it does not have the name of a log file".to_owned());
    };
    let Some((start, end)) = covered.get(&(name.account, name.region)) else {
        return Some("the source has no digests of its account and region".to_owned());
    };
    let is_around_end = name.delivered > *end - STAMP_LEAD && name.delivered <= *end + DIGEST_DELAY;
    if is_around_end && now <= name.delivered + STAMP_LEAD + DIGEST_DELAY {
        return None;
    }
    Some(if name.delivered > *end {
        format!("the last digest of its account and region ends at {end}")
    } else if name.delivered < *start {
        format!("the first digest of its account and region begins at {start}")
    } else {
        "no digest names it, although digests cover the time of its delivery".to_owned()
    })
}
