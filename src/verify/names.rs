//! The names of digests and log files, and the files of a source by name.
//!
//! A digest names files by bucket and key. A copy on disk or in another bucket may lack the first folders of the key, so a
//! file is found by its own name, which CloudTrail makes unique, and by those of its folders that it still has.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::store::Object;
use crate::time::{self, Instant};

/// The end of the name of a digest for log files that were delivered late.
const BACKFILL: &str = "_backfill";
/// The folder of digests, and the part of their names after the account.
const DIGEST: &str = "CloudTrail-Digest";
/// The end of the name of a file with the S3 metadata of a digest, as `aws s3api head-object` prints them.
const METADATA_FILE: &str = ".metadata.json";

/// Returns the part of a path or key after its last slash.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns the text of an object's path.
pub(super) fn path_text(object: &Object) -> Cow<'_, str> {
    object.path.to_string_lossy()
}

/// A file name of the form
/// `111122223333_CloudTrail-Digest_eu-west-1_TRAIL_us-east-1_20260901T100131Z.json.gz`.
///
/// Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-digest-file-structure.html>
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DigestName {
    pub(super) account: String,
    pub(super) region: String,
    /// The name of the trail.
    pub(super) trail: String,
    /// The region in which the trail was created.
    pub(super) home_region: String,
    /// The end of the span of deliveries that the digest covers.
    pub(super) end: Instant,
    pub(super) is_backfill: bool,
}

impl DigestName {
    pub(super) fn of(name: &str) -> Option<DigestName> {
        let stem = name.strip_suffix(".json.gz").or_else(|| name.strip_suffix(".json"))?;
        let (stem, is_backfill) = match stem.strip_suffix(BACKFILL) {
            Some(stem) => (stem, true),
            None => (stem, false),
        };
        let (account, rest) = stem.split_once('_')?;
        let (region, rest) = rest.strip_prefix(DIGEST)?.strip_prefix('_')?.split_once('_')?;
        // The name of a trail may contain underscores.
        let (rest, stamp) = rest.rsplit_once('_')?;
        let (trail, home_region) = rest.rsplit_once('_')?;
        let owned = str::to_owned;
        Some(DigestName {
            account: owned(account),
            region: owned(region),
            trail: owned(trail),
            home_region: owned(home_region),
            end: stamp_time(stamp)?,
            is_backfill,
        })
    }
}

/// Returns the time of a stamp such as `20260901T100131Z` or `20260901T1005Z`.
fn stamp_time(stamp: &str) -> Option<Instant> {
    let digits = stamp.strip_suffix('Z').filter(|stamp| stamp.is_ascii())?;
    let (date, clock) = digits.split_once('T')?;
    let (hour, minute) = (clock.get(..2)?, clock.get(2..4)?);
    let second = if clock.len() == 4 { "00" } else { clock.get(4..6)? };
    (date.len() == 8 && matches!(clock.len(), 4 | 6)).then_some(())?;
    time::parse_event_time(&format!("{}-{}-{}T{hour}:{minute}:{second}Z", &date[..4], &date[4..6], &date[6..]))
}

/// A file name of the form `111122223333_CloudTrail_eu-west-1_20260901T1005Z_abcdefghijklmnop.json.gz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogName<'n> {
    pub(super) account: &'n str,
    /// `CloudTrail`, `CloudTrail-Insight` or `CloudTrail-NetworkActivity`.
    pub(super) kind: &'n str,
    pub(super) region: &'n str,
    /// About the time of delivery.
    pub(super) delivered: Instant,
}

impl<'n> LogName<'n> {
    pub(super) fn of(name: &'n str) -> Option<LogName<'n>> {
        let mut parts = name.splitn(5, '_');
        let (account, kind, region, stamp) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_log = kind.starts_with("CloudTrail") && kind != DIGEST && parts.next().is_some();
        is_log.then_some(LogName { account, kind, region, delivered: stamp_time(stamp)? })
    }
}

/// Returns the part of a path or key from its last folder `AWSLogs` on.
fn below_logs(path: &str) -> Option<&str> {
    match path.rfind("/AWSLogs/") {
        Some(place) => Some(&path[place + 1..]),
        None => path.starts_with("AWSLogs/").then_some(path),
    }
}

/// Returns a name without `.gz`, because copies may be unpacked.
pub(super) fn unpacked_name(name: &str) -> &str {
    name.strip_suffix(".gz").unwrap_or(name)
}

/// Returns whether the file at `path` can be the object with this key: the names are equal, and so are the folders from
/// `AWSLogs` on, where the path has them.
pub(super) fn is_place_of(path: &str, key: &str) -> bool {
    let (path, key) = (unpacked_name(path), unpacked_name(key));
    match (below_logs(path), below_logs(key)) {
        (Some(path), Some(key)) => path == key,
        _ => file_name(path) == file_name(key),
    }
}

/// Returns the folder that holds the trail of a digest: its path before `AWSLogs`, or before the folders of the digest.
pub(super) fn root_of(path: &str) -> &str {
    if let Some(logs) = below_logs(path) {
        return &path[..path.len() - logs.len()];
    }
    if let Some(place) = path.rfind(&format!("/{DIGEST}/")) {
        return &path[..=place];
    }
    let is_number = |folder: &str| !folder.is_empty() && folder.bytes().all(|byte| byte.is_ascii_digit());
    let mut root = &path[..path.len() - file_name(path).len()];
    while let Some(folder) = root.strip_suffix('/').map(file_name).filter(|folder| is_number(folder)) {
        root = &root[..root.len() - folder.len() - 1];
    }
    root
}

/// The files of a source.
#[derive(Debug, Default)]
pub(super) struct SourceFiles {
    pub(super) objects: Vec<Object>,
    /// Indexes of digests.
    pub(super) digests: Vec<usize>,
    /// Indexes of the files with the S3 metadata of digests, by the digest's path.
    pub(super) metadata: HashMap<String, usize>,
    /// Indexes of the other files: log files, and files of other kinds.
    pub(super) others: Vec<usize>,
    /// Indexes of the files that are not digests, by name without `.gz`.
    by_name: HashMap<String, Vec<u32>>,
}

impl SourceFiles {
    pub(super) fn new(objects: Vec<Object>) -> SourceFiles {
        let mut files = SourceFiles::default();
        for (index, object) in objects.iter().enumerate() {
            let path = path_text(object);
            let name = file_name(&path);
            let digest_of_metadata = path.strip_suffix(METADATA_FILE);
            if let Some(digest) = digest_of_metadata.filter(|digest| is_digest(digest)) {
                files.metadata.insert(digest.to_owned(), index);
            } else if is_digest(&path) {
                files.digests.push(index);
            } else if let Ok(short) = u32::try_from(index) {
                files.others.push(index);
                files.by_name.entry(unpacked_name(name).to_owned()).or_default().push(short);
            }
        }
        files.objects = objects;
        files
    }

    /// Returns the index of the file that the digest at `digest_path` names. In S3, the object with exactly this bucket and
    /// key comes first, then the copy that shares the most folders with the digest.
    pub(super) fn find(&self, bucket: &str, key: &str, digest_path: &str) -> Option<usize> {
        let is_exact = |path: &str| {
            let in_bucket = path.strip_prefix("s3://").and_then(|path| path.strip_prefix(bucket));
            in_bucket.and_then(|path| path.strip_prefix('/')) == Some(key)
        };
        let shared = |path: &str| path.bytes().zip(digest_path.bytes()).take_while(|(one, other)| one == other).count();
        let candidates = self.by_name.get(unpacked_name(file_name(key)))?.iter().filter_map(|index| {
            let index = *index as usize;
            let path = path_text(&self.objects[index]);
            is_place_of(&path, key).then(|| ((is_exact(&path), shared(&path)), index))
        });
        candidates.max_by_key(|(rank, index)| (*rank, std::cmp::Reverse(*index))).map(|(_, index)| index)
    }
}

/// Returns whether the file lies in a folder of digests, or has the name of a digest and does not lie in a folder of log files,
/// where a hunt would read it.
fn is_digest(path: &str) -> bool {
    let name = file_name(path);
    let has_folder = |path: &str, folder: &str| path.split('/').rev().skip(1).any(|part| part == folder);
    if has_folder(path, DIGEST) {
        return unpacked_name(name).strip_suffix(".json").is_some();
    }
    let is_among_logs = below_logs(path)
        .is_some_and(|path| ["CloudTrail", "CloudTrail-NetworkActivity"].iter().any(|folder| has_folder(path, folder)));
    DigestName::of(name).is_some() && !is_among_logs
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "audit/AWSLogs/o-exampleorg1/111122223333/CloudTrail-Digest/eu-west-1/2026/09/01/\
                       111122223333_CloudTrail-Digest_eu-west-1_all_my_trails_us-east-1_20260901T100131Z.json.gz";

    #[test]
    fn digest_names_hold_account_regions_trail_and_end() {
        let name = DigestName::of(file_name(KEY)).unwrap();
        assert_eq!((name.account.as_str(), name.region.as_str()), ("111122223333", "eu-west-1"));
        assert_eq!((name.trail.as_str(), name.home_region.as_str()), ("all_my_trails", "us-east-1"));
        assert_eq!(name.end.to_string(), "2026-09-01T10:01:31Z");
        assert!(!name.is_backfill);
        let backfill = DigestName::of(&file_name(KEY).replace(".json.gz", "_backfill.json.gz")).unwrap();
        assert_eq!(backfill, DigestName { is_backfill: true, ..name });
        for other in ["", "x.json.gz", "1_CloudTrail-Digest_a_b_c_20261301T100131Z.json.gz", "1_CloudTrail_a_b.json.gz"]
        {
            assert_eq!(DigestName::of(other), None, "{other}");
        }
    }

    #[test]
    fn log_names_hold_account_kind_region_and_delivery() {
        let name = LogName::of("111122223333_CloudTrail_eu-west-1_20260901T1005Z_abcdefghijklmnop.json.gz").unwrap();
        assert_eq!((name.account, name.kind, name.region), ("111122223333", "CloudTrail", "eu-west-1"));
        assert_eq!(name.delivered.to_string(), "2026-09-01T10:05:00Z");
        assert_eq!(LogName::of(file_name(KEY)), None);
        assert_eq!(LogName::of("README.md"), None);
        assert_eq!(LogName::of("111122223333_CloudTrail_eu-west-1_2026é01T1005Z_a.json.gz"), None);
    }

    #[test]
    fn copies_are_found_without_the_first_folders_of_a_key() {
        let unpacked = KEY.replace(".gz", "");
        for path in
            [format!("s3://other/{KEY}"), KEY.replace("audit/", "/d/copy/"), file_name(KEY).to_owned(), unpacked]
        {
            assert!(is_place_of(&path, KEY), "{path}");
        }
        for path in [KEY.replace("2026/09/01", "2026/09/02"), KEY.replace("100131Z", "110131Z")] {
            assert!(!is_place_of(&path, KEY), "{path}");
        }
    }

    #[test]
    fn the_folder_of_a_trail_is_above_those_of_its_keys() {
        for (path, root) in [
            (format!("s3://logs/{KEY}"), "s3://logs/audit/"),
            ("copy/CloudTrail-Digest/eu-west-1/2026/09/01/x.json.gz".to_owned(), "copy/"),
            ("digests/2026/09/01/x.json.gz".to_owned(), "digests/"),
            ("x.json.gz".to_owned(), ""),
            ("2026/x.json.gz".to_owned(), ""),
        ] {
            assert_eq!(root_of(&path), root, "{path}");
        }
    }
}
