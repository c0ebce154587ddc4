//! Chains of digests: each digest holds the hash and the signature of the one before it.
//!
//! A trail has a chain for each account and region, and one more for digests of late log files (backfill). A chain is checked
//! from its newest digest back, because the signature of a file on disk is in the digest after it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::digest::{Digest, PreviousDigest};
use super::keys::{PublicKeys, is_signed};
use super::names::{self, DigestName, file_name, unpacked_name};
use crate::time::{Instant, Range, SECOND};

/// The span that a digest covers, in microseconds.
pub(super) const HOUR: i64 = 3_600 * SECOND;
/// The time after which a delivered log file is in a digest.
pub(super) const DIGEST_DELAY: i64 = 2 * HOUR;
/// The longest pause between two digests that is not a gap.
const MAX_PAUSE: i64 = 60 * SECOND;
/// The signature algorithm of digests.
const SIGNATURE_ALGORITHM: &str = "SHA256withRSA";

/// The identity of a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainId {
    /// The folder above `AWSLogs`. Copies of a trail in different folders are different chains.
    pub(super) root: String,
    pub(super) account: String,
    pub(super) region: String,
    pub(super) trail: String,
    home_region: String,
    pub(super) is_backfill: bool,
}

/// Why a digest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The store does not give its bytes.
    Unreadable(String),
    /// Its bytes are not those of a digest, or of another one.
    Altered(String),
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Verified,
    /// With the reason.
    Altered(String),
    /// It could not be checked, with the reason.
    Unchecked(String),
}

/// A digest of a source.
#[derive(Debug, Clone)]
pub(super) struct DigestFile {
    pub(super) path: String,
    pub(super) name: DigestName,
    pub(super) content: Result<Digest, Unusable>,
    /// The signature in its S3 metadata.
    pub(super) signature: Option<String>,
    pub(super) state: State,
}

impl DigestFile {
    pub(super) fn new(
        path: String,
        name: Option<DigestName>,
        content: Result<Digest, Unusable>,
        signature: Option<String>,
    ) -> DigestFile {
        let content = content.and_then(|digest| {
            if name.is_none() {
                return Err(Unusable::Altered("its name is not that of a digest".to_owned()));
            }
            if names::is_place_of(&path, &digest.key) {
                return Ok(digest);
            }
            let reason = format!("it is the digest `{}`, which was moved or copied here", digest.key);
            Err(Unusable::Altered(reason))
        });
        let state = match &content {
            Ok(_) => State::Unchecked(String::new()),
            Err(Unusable::Unreadable(reason)) => State::Unchecked(reason.clone()),
            Err(Unusable::Altered(reason)) => State::Altered(reason.clone()),
        };
        DigestFile { path, name: name.unwrap_or_default(), content, signature, state }
    }

    pub(super) fn chain(&self) -> ChainId {
        let DigestName { account, region, trail, home_region, is_backfill, .. } = self.name.clone();
        ChainId { root: names::root_of(&self.path).to_owned(), account, region, trail, home_region, is_backfill }
    }

    fn place(&self) -> &str {
        unpacked_name(file_name(&self.path))
    }

    /// Returns the span of deliveries that it covers. The times in a digest that is not verified may be forged, so its
    /// span is that of its name.
    pub(super) fn span(&self) -> (Instant, Instant) {
        match &self.content {
            Ok(digest) if self.state == State::Verified => (digest.start, digest.end),
            _ => (self.name.end - HOUR, self.name.end),
        }
    }

    /// Returns whether it covers a part of `range`. Of a file without the name of a digest nothing shows that it does not.
    pub(super) fn is_within(&self, range: Range) -> bool {
        self.name == DigestName::default() || overlaps(range, self.span())
    }

    /// Returns whether nothing that it says counts.
    fn is_altered(&self) -> bool {
        matches!(self.state, State::Altered(_))
    }

    fn previous(&self) -> Option<&PreviousDigest> {
        self.content.as_ref().ok()?.previous.as_ref()
    }
}

/// Returns whether a span of deliveries and `range` overlap.
pub(super) fn overlaps(range: Range, (start, end): (Instant, Instant)) -> bool {
    range.from.is_none_or(|from| end > from) && range.to.is_none_or(|to| start < to)
}

/// Digests that are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MissingDigests {
    pub(super) name: String,
    pub(super) reason: String,
    pub(super) number: u64,
}

/// A chain after its check.
#[derive(Debug, Clone)]
pub(super) struct CheckedChain {
    pub(super) id: ChainId,
    /// By end.
    pub(super) digests: Vec<DigestFile>,
    pub(super) missing: Vec<MissingDigests>,
    /// Spans without digests after which a new chain begins.
    pub(super) gaps: Vec<(Instant, Instant)>,
}

/// Returns the chains of `digests`.
pub(super) fn chains(digests: Vec<DigestFile>) -> Vec<(ChainId, Vec<DigestFile>)> {
    let mut chains: BTreeMap<ChainId, Vec<DigestFile>> = BTreeMap::new();
    for digest in digests {
        chains.entry(digest.chain()).or_default().push(digest);
    }
    chains.into_iter().collect()
}

/// Checks a chain. Digests that lie wholly outside `range` are only used to check others.
pub(super) fn check(
    id: ChainId,
    mut digests: Vec<DigestFile>,
    keys: Option<&PublicKeys>,
    range: Range,
) -> CheckedChain {
    // A packed file comes before an unpacked copy of it.
    digests.sort_by(|one, other| {
        (one.name.end, one.place(), &other.path).cmp(&(other.name.end, other.place(), &one.path))
    });
    mark_second_copies(&mut digests);
    check_signatures(&mut digests, keys);
    let mut chain = CheckedChain { id, digests, missing: Vec::new(), gaps: Vec::new() };
    chain.find_missing(range);
    chain
}

fn mark_second_copies(digests: &mut [DigestFile]) {
    for index in 1..digests.len() {
        let (before, from) = digests.split_at_mut(index);
        let (first, second) = (&before[index - 1], &mut from[0]);
        if first.place() == second.place() {
            let reason = format!("it is a second file of the digest `{}`", first.path);
            (second.content, second.state) = (Err(Unusable::Altered(reason.clone())), State::Altered(reason));
        }
    }
}

/// The claim of a later digest about an earlier one.
struct Claim {
    previous: PreviousDigest,
    /// The name of the later digest.
    by: String,
    state: State,
}

fn check_signatures(digests: &mut [DigestFile], keys: Option<&PublicKeys>) {
    let mut claims: HashMap<String, Vec<Claim>> = HashMap::new();
    for digest in digests.iter_mut().rev() {
        let claims_of_it = claims.remove(digest.place()).unwrap_or_default();
        if let Ok(content) = &digest.content {
            digest.state = state(content, digest.signature.as_deref(), &claims_of_it, (&digest.name, keys));
            if matches!(digest.state, State::Unchecked(_)) && content.end != digest.name.end {
                digest.state = State::Altered("its end is not the one in its name".to_owned());
            }
        }
        if let Some(previous) = digest.previous() {
            let place = unpacked_name(file_name(&previous.key)).to_owned();
            let by = file_name(&digest.path).to_owned();
            let claim = Claim { previous: previous.clone(), by, state: digest.state.clone() };
            claims.entry(place).or_default().push(claim);
        }
    }
}

/// Returns the state of a digest with this signature and these claims of later digests. A valid signature counts more than the
/// claim of a digest that is not verified, because anyone who can write to the bucket can add such a digest.
fn state(
    digest: &Digest,
    signature: Option<&str>,
    claims: &[Claim],
    (name, keys): (&DigestName, Option<&PublicKeys>),
) -> State {
    let is_verified = |claim: &&Claim| claim.state == State::Verified;
    // An altered digest proves nothing about others.
    let is_trusted = |claim: &&Claim| !matches!(claim.state, State::Altered(_));
    let names_other = |claim: &&Claim| claim.previous.hash.is_some_and(|hash| hash != digest.hash);
    let differs =
        |claim: &Claim| State::Altered(format!("its content does not have the hash that `{}` names", claim.by));
    if let Some(claim) = claims.iter().filter(is_verified).find(names_other) {
        return differs(claim);
    }
    let has_claimed_hash = claims.iter().filter(is_verified).any(|claim| claim.previous.hash == Some(digest.hash));
    let contradiction = claims.iter().filter(is_trusted).find(names_other).map(differs);
    let Some(keys) = keys else {
        let reason = "signatures are not checked without public keys (`--public-keys FILE`)";
        return contradiction.unwrap_or_else(|| State::Unchecked(reason.to_owned()));
    };
    if digest.algorithm != SIGNATURE_ALGORITHM {
        let reason = format!("signatures of the algorithm `{}` cannot be checked", digest.algorithm);
        return contradiction.unwrap_or(State::Unchecked(reason));
    }
    let Some(key) = keys.get(&digest.fingerprint) else {
        // A verified digest signs the hash of the one before it, too.
        if has_claimed_hash {
            return State::Verified;
        }
        let reason = format!(
            "no public key has the fingerprint `{}`: `aws cloudtrail list-public-keys --region {} --start-time …` lists \
             the keys of that region",
            digest.fingerprint, name.region
        );
        return contradiction.unwrap_or(State::Unchecked(reason));
    };
    let text = digest.signed_text();
    if let Some(signature) = signature {
        let is_valid = is_signed(key, &text, signature);
        return if is_valid { State::Verified } else { State::Altered("its signature is not valid".to_owned()) };
    }
    if claims.iter().any(|claim| is_signed(key, &text, &claim.previous.signature)) {
        return State::Verified;
    }
    if let Some(altered) = contradiction {
        return altered;
    }
    match (claims.iter().find(is_trusted), claims.first()) {
        (Some(claim), _) => State::Altered(format!("its signature, which `{}` holds, is not valid", claim.by)),
        (None, Some(claim)) => State::Unchecked(format!("its signature is in `{}`, which is altered", claim.by)),
        (None, None) => State::Unchecked(
            "no signature: that of the newest digest is only in its S3 metadata, which a copy on disk does not have"
                .to_owned(),
        ),
    }
}

/// Returns the number of digests for a time without them, at least one.
fn digests_in(micros: i64) -> u64 {
    u64::try_from((micros + HOUR / 2) / HOUR).unwrap_or_default().max(1)
}

impl CheckedChain {
    fn find_missing(&mut self, range: Range) {
        let places: HashSet<&str> = self.digests.iter().map(DigestFile::place).collect();
        let mut before: Option<&DigestFile> = None;
        for digest in &self.digests {
            let (start, _) = digest.span();
            let last_end = before.map(|before| before.span().1);
            let pause = last_end.map_or(0, |end| start - end);
            let is_verified = digest.state == State::Verified;
            let missing_before = |time: Instant| {
                let last_end = last_end.filter(|last_end| time - *last_end > HOUR / 2)?;
                self.id.missing_between(last_end, time, range)
            };
            let content = digest.content.as_ref().ok().filter(|_| !digest.is_altered());
            match content.map(|content| &content.previous) {
                Some(Some(previous)) => {
                    let end = DigestName::of(file_name(&previous.key)).map_or(start, |name| name.end);
                    let is_absent = !places.contains(unpacked_name(file_name(&previous.key)));
                    // A digest that is not verified may name any other as the one before it.
                    let is_credible = is_verified || self.id.is_backfill || (end - start).abs() <= HOUR / 2;
                    if is_absent && is_credible {
                        let named = missing_digest(previous, file_name(&digest.path), start);
                        self.missing.extend(overlaps(range, (end - HOUR, end)).then_some(named));
                        self.missing.extend(missing_before(end - HOUR));
                    } else if !is_verified {
                        self.missing.extend(missing_before(start));
                    }
                }
                Some(None) => {
                    if let Some(last_end) = last_end.filter(|_| pause > MAX_PAUSE && !self.id.is_backfill)
                        && overlaps(range, (last_end, start))
                    {
                        self.gaps.push((last_end, start));
                    }
                }
                None => self.missing.extend(missing_before(start)),
            }
            before = Some(digest);
        }
    }

    /// Returns the digests within the range.
    pub(super) fn in_range(&self, range: Range) -> impl Iterator<Item = &DigestFile> {
        self.digests.iter().filter(move |digest| digest.is_within(range))
    }

    /// Returns the times of `range` before the first digest and after the last one, if there are any. `newest` is the delivery of
    /// the newest log file.
    pub(super) fn open_ends(
        &self,
        range: Range,
        newest: Option<Instant>,
        now: Instant,
    ) -> Vec<(Instant, Instant, OpenEnd)> {
        let (false, Some(first), Some(last)) = (self.id.is_backfill, self.digests.first(), self.digests.last()) else {
            return Vec::new();
        };
        if first.name == DigestName::default() {
            return Vec::new();
        }
        let ((start, _), (_, end)) = (first.span(), last.span());
        let before = range.from.filter(|from| start - *from > MAX_PAUSE).map(|from| (from, start, OpenEnd::Begin));
        let is_late = |time: &Instant| *time > end + DIGEST_DELAY;
        let after = match (newest.filter(is_late), range.to.map(|to| to.min(now)).filter(is_late)) {
            (Some(newest), _) => Some((end, newest, OpenEnd::NewerLogs)),
            (None, Some(to)) => Some((end, to, OpenEnd::End)),
            (None, None) => None,
        };
        before.into_iter().chain(after).collect()
    }
}

/// How a time without digests before or after a chain shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenEnd {
    /// The first digest begins after the range does.
    Begin,
    /// Log files are newer than the last digest.
    NewerLogs,
    /// The last digest ends before the range does.
    End,
}

impl OpenEnd {
    /// Returns a text for people.
    pub(super) fn reason(self) -> &'static str {
        match self {
            OpenEnd::Begin => "the first digest begins after `--from`",
            OpenEnd::NewerLogs => "log files were delivered after the last digest",
            OpenEnd::End => "the last digest ends before `--to`",
        }
    }
}

fn missing_digest(previous: &PreviousDigest, by: &str, start: Instant) -> MissingDigests {
    let reason = format!("`{by}` names it as the digest before {start}");
    MissingDigests { name: previous.key.clone(), reason, number: 1 }
}

impl ChainId {
    /// Returns a name for people.
    pub(super) fn describe(&self) -> String {
        let backfill = if self.is_backfill { ", backfill" } else { "" };
        format!("trail `{}` of {} in {}{backfill}", self.trail, self.account, self.region)
    }

    /// Returns the digests that are missing between two times. `None` outside `range`, and for backfill digests, which are not
    /// hourly.
    fn missing_between(&self, from: Instant, to: Instant, range: Range) -> Option<MissingDigests> {
        if self.is_backfill || !overlaps(range, (from, to)) {
            return None;
        }
        let from = range.from.map_or(from, |first| from.max(first));
        let to = range.to.map_or(to, |last| to.min(last));
        let reason = format!("no digest covers {from} to {to}");
        Some(MissingDigests { name: self.describe(), reason, number: digests_in(to - from) })
    }
}
