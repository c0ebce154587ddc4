//! Verifies log files against CloudTrail's digests: signatures, the chain of digests, and the hash of every log file.
//!
//! CloudTrail writes a digest for each hour, account and region. It names the log files that were delivered, each with a
//! SHA-256, and the digest before it with its hash and signature. Its own signature is in its S3 metadata. A digest is
//! verified if its signature is valid, or if a verified digest names its hash. A log file is verified if a verified digest
//! names the hash of its content.
//!
//! Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-intro.html>

use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, Fault, Status};
use crate::store::Stores;
use crate::time::{DAY, Instant, Range};
use crate::trail::{self, Selection};

mod chain;
mod digest;
mod keys;
mod manifest;
mod names;
mod objects;
mod reading;

pub use keys::{PublicKeyError, PublicKeys};
pub use manifest::{ManifestCheck, ObjectManifest};

use chain::{CheckedChain, HOUR, State};
use names::{DigestName, SourceFiles};
use objects::{Claims, ObjectState, Unnamed};

/// What to verify.
#[derive(Debug, Clone)]
pub struct Request {
    /// Files, folders or prefixes that hold both digests and log files.
    pub sources: Vec<String>,
    /// Accounts and regions. Its times are not used.
    pub selection: Selection,
    /// Deliveries to verify. A digest counts if it covers a part of it.
    pub range: Range,
    /// Public keys. Without them no signature is checked.
    pub keys: Option<Arc<PublicKeys>>,
    /// The current time.
    pub now: Instant,
    /// How much is done at a time.
    pub limits: VerifyLimits,
}

/// How much is done at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyLimits {
    /// Objects hashed, and chains checked, concurrently.
    pub threads: usize,
    /// Objects read concurrently.
    pub in_flight: usize,
}

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Counts of the digests.
    pub digests: DigestCounts,
    /// Counts of the log files.
    pub objects: ObjectCounts,
    /// The digests by trail, account and region.
    pub chains: Vec<ChainSummary>,
    /// Digests and log files that are altered or missing, and log files that no digest names.
    pub problems: Vec<Problem>,
    /// Times without digests, for which nothing can be said.
    pub gaps: Vec<DigestGap>,
    /// Why digests and log files could not be checked.
    pub unchecked: Vec<UncheckedReason>,
    /// Parts of the source that cannot be listed.
    pub faults: Vec<Fault>,
}

/// Counts of digests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DigestCounts {
    /// Those with a valid signature, or with a hash that a verified digest names.
    pub verified: u64,
    /// Those whose content, place or signature is wrong.
    pub altered: u64,
    /// Those that other digests name, or that lack in a chain.
    pub missing: u64,
    /// Those that could not be checked.
    pub unchecked: u64,
    /// Those that name no log files. They are included in the other counts.
    pub empty: u64,
}

impl DigestCounts {
    /// Returns whether there are none, not even missing ones.
    pub fn is_none(&self) -> bool {
        self.verified + self.altered + self.missing + self.unchecked == 0
    }
}

/// Counts of log files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ObjectCounts {
    /// Those whose content has the hash that a verified digest names.
    pub verified: u64,
    /// Those whose content has another hash.
    pub altered: u64,
    /// Those that a digest names, but that the source does not have.
    pub missing: u64,
    /// Those that no digest names. All files count that a hunt would read.
    pub unnamed: u64,
    /// Those that could not be checked, for example because their digest could not.
    pub unchecked: u64,
    /// Those that were delivered recently: their digest is still to come.
    pub not_yet_covered: u64,
}

/// The digests of a trail, account and region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainSummary {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The name of the trail.
    pub trail: String,
    /// Whether these are digests for log files that were delivered late.
    pub backfill: bool,
    /// The number of digests.
    pub digests: u64,
    /// The begin of the first digest.
    pub first: Instant,
    /// The end of the last digest.
    pub last: Instant,
}

/// A digest or a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A digest.
    Digest,
    /// A log file.
    Object,
}

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProblemKind {
    /// Its content is not the one that CloudTrail delivered.
    Altered,
    /// It was delivered, but is not there.
    Missing,
    /// No digest names it.
    Unnamed,
}

/// A digest or log file with a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A digest or a log file.
    pub subject: Subject,
    /// The kind of problem.
    pub kind: ProblemKind,
    /// Its path. For something that is missing its URL in S3, or the chain that lacks it.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// A time without digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DigestGap {
    /// The chain, for people.
    pub chain: String,
    /// The end of the last digest before it.
    pub from: Instant,
    /// The begin of the next digest, or the end of what was asked for.
    pub to: Instant,
    /// How it shows.
    pub reason: String,
}

/// Digests and log files that could not be checked for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UncheckedReason {
    /// The reason.
    pub reason: String,
    /// The number of digests.
    pub digests: u64,
    /// The number of log files.
    pub objects: u64,
    /// One of them.
    pub example: String,
}

impl Verification {
    /// Returns the exit status: `Findings` if something is altered or missing, else `Incomplete` if something could not be
    /// checked.
    pub fn status(&self) -> Status {
        let Verification { digests, objects, .. } = self;
        if digests.altered + digests.missing + objects.altered + objects.missing > 0 {
            return Status::Findings;
        }
        let is_whole = digests.unchecked + objects.unchecked + objects.unnamed == 0
            && digests.verified > 0
            && self.gaps.is_empty()
            && self.faults.is_empty();
        if is_whole { Status::Done } else { Status::Incomplete }
    }

    fn add_unchecked(&mut self, subject: Subject, reason: &str, example: &str) {
        let known = self.unchecked.iter().position(|known| known.reason == reason);
        let index = known.unwrap_or_else(|| {
            let (reason, example) = (reason.to_owned(), example.to_owned());
            self.unchecked.push(UncheckedReason { reason, digests: 0, objects: 0, example });
            self.unchecked.len() - 1
        });
        let count = match subject {
            Subject::Digest => &mut self.unchecked[index].digests,
            Subject::Object => &mut self.unchecked[index].objects,
        };
        *count += 1;
    }

    fn add_digests(&mut self, chain: &CheckedChain, range: Range) {
        let mut summary: Option<ChainSummary> = None;
        for digest in chain.in_range(range) {
            match &digest.state {
                State::Verified => self.digests.verified += 1,
                State::Altered(reason) => {
                    self.digests.altered += 1;
                    self.add_problem(Subject::Digest, ProblemKind::Altered, &digest.path, reason);
                }
                State::Unchecked(reason) => {
                    self.digests.unchecked += 1;
                    self.add_unchecked(Subject::Digest, reason, &digest.path);
                }
            }
            self.digests.empty += u64::from(digest.content.as_ref().is_ok_and(|digest| digest.files.is_empty()));
            if digest.name == DigestName::default() {
                // Its name tells no chain and no time. It is one of the problems.
                continue;
            }
            let (start, end) = digest.span();
            let summary = summary.get_or_insert_with(|| ChainSummary {
                account: chain.id.account.clone(),
                region: chain.id.region.clone(),
                trail: chain.id.trail.clone(),
                backfill: chain.id.is_backfill,
                digests: 0,
                first: start,
                last: end,
            });
            summary.digests += 1;
            (summary.first, summary.last) = (summary.first.min(start), summary.last.max(end));
        }
        for missing in &chain.missing {
            self.digests.missing += missing.number;
            self.add_problem(Subject::Digest, ProblemKind::Missing, &missing.name, &missing.reason);
        }
        let reason = "a new chain begins after it: validation or the trail was off, or digests were deleted";
        self.gaps.extend(chain.gaps.iter().map(|(from, to)| DigestGap {
            chain: chain.id.describe(),
            from: *from,
            to: *to,
            reason: reason.to_owned(),
        }));
        self.chains.extend(summary);
    }

    fn add_problem(&mut self, subject: Subject, kind: ProblemKind, name: &str, reason: &str) {
        self.problems.push(Problem { subject, kind, name: name.to_owned(), reason: reason.to_owned() });
    }

    fn add_object(&mut self, path: &str, state: ObjectState) {
        match state {
            ObjectState::Verified => self.objects.verified += 1,
            ObjectState::Altered(reason) => {
                self.objects.altered += 1;
                self.add_problem(Subject::Object, ProblemKind::Altered, path, &reason);
            }
            ObjectState::Unchecked(reason) => {
                self.objects.unchecked += 1;
                self.add_unchecked(Subject::Object, &reason, path);
            }
        }
    }

    /// Adds chains that begin or end within the range, or end long before the newest log file of their account and region.
    fn add_open_ends(&mut self, chains: &[CheckedChain], unnamed: &Unnamed, request: &Request) {
        for chain in chains {
            let newest = unnamed.newest.get(&(chain.id.account.clone(), chain.id.region.clone())).copied();
            let ends = chain.open_ends(request.range, newest, request.now).into_iter();
            self.gaps.extend(ends.map(|(from, to, end)| DigestGap {
                chain: chain.id.describe(),
                from,
                to,
                reason: end.reason().to_owned(),
            }));
        }
    }
}

/// The progress of a verification, in bytes of log files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// All bytes to read.
    pub total: u64,
    /// Bytes read so far.
    pub done: u64,
}

/// Verifies the log files of `request`. Calls `progress` after each.
///
/// # Errors
/// A source does not exist or cannot be listed. Files that cannot be read are not errors; they count as unchecked.
pub async fn verify(
    stores: &Stores,
    request: &Request,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Verification, Error> {
    let found = trail::list(stores, &request.sources, &request.listing()).await?;
    let files = Arc::new(SourceFiles::new(found.objects));
    let chains = Arc::new(reading::checked_chains(stores, &files, request).await?);
    let mut verification = Verification { faults: found.faults, ..Verification::default() };
    for chain in chains.iter() {
        verification.add_digests(chain, request.range);
    }
    let mut claims = Claims::of(&chains, &files, request);
    verification.objects.missing = claims.missing.len() as u64;
    verification.problems.append(&mut claims.missing);
    let found = std::mem::take(&mut claims.found);
    // While the files are read.
    let unnamed = tokio::task::spawn_blocking({
        let (chains, files, request) = (Arc::clone(&chains), Arc::clone(&files), request.clone());
        move || Unnamed::of(&chains, &files, &claims, &request)
    });
    let total = found.keys().map(|index| files.objects[*index].size).sum();
    let (mut read, mut others) = (Progress { total, done: 0 }, Vec::new());
    let mut done = |object: &crate::store::Object, state| {
        match state {
            ObjectState::Verified => verification.objects.verified += 1,
            state => others.push((names::path_text(object).into_owned(), state)),
        }
        read.done += object.size;
        progress(read);
    };
    objects::compare_all(stores, &files, found, request, &mut done).await?;
    let unnamed = unnamed.await.map_err(|error| Error::Internal(error.to_string()))?;
    verification.objects.unnamed = unnamed.problems.len() as u64;
    verification.objects.not_yet_covered = unnamed.not_yet_covered;
    for (path, reason) in &unnamed.unchecked {
        verification.objects.unchecked += 1;
        verification.add_unchecked(Subject::Object, reason, path);
    }
    verification.add_open_ends(&chains, &unnamed, request);
    for (path, state) in others {
        verification.add_object(&path, state);
    }
    verification.problems.extend(unnamed.problems);
    Ok(verification)
}

impl Request {
    /// Returns the selection of objects to list. Those around the range are listed, too: a digest holds the signature of the
    /// one before it.
    fn listing(&self) -> Selection {
        let events = Range { from: self.range.from.map(|from| from - HOUR), to: self.range.to.map(|to| to + 3 * HOUR) };
        Selection { events, delivered_within: DAY, ..self.selection.clone() }
    }
}
