//! Lists the objects of a trail, and skips folders that cannot hold a selected event.

use std::path::Path;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::error::{Absence, Error};
use crate::store::{self, FoundObjects, Keys, Listing, Location, Object, Stores};
use crate::time::{DAY, Instant, Range};

use super::object_key::{KeyFields, folders, folders_below_logs, is_account, is_region, time_covered};

/// Folders that are listed concurrently.
const CONCURRENT_LISTINGS: usize = 32;

/// How many levels of other folders than CloudTrail's own are listed one by one. Deeper folders are listed recursively.
const MAX_OPENED_DEPTH: usize = 3;

/// Selects objects of a trail by their keys. An object whose key lacks a field is admitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Accounts; empty for all.
    pub accounts: Vec<String>,
    /// Regions; empty for all.
    pub regions: Vec<String>,
    /// Times of the events that an object may hold.
    pub events: Range,
    /// Maximum delay between an event and the delivery of its object, in microseconds.
    pub delivered_within: i64,
}

/// Why a text is not an account or a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// It is not the ID of an account.
    #[error("expected the ID of an account, 12 digits")]
    Account,
    /// It is not the name of a region.
    #[error("expected a region, such as `eu-west-1`")]
    Region,
}

/// Reads the ID of an account. Spaces around it do not matter.
pub fn account_id(text: &str) -> Result<String, SelectionError> {
    let text = text.trim();
    let is_id = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_id { Ok(text.to_owned()) } else { Err(SelectionError::Account) }
}

/// Reads the name of a region. Spaces around it do not matter.
pub fn region_name(text: &str) -> Result<String, SelectionError> {
    let text = text.trim();
    let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_name { Ok(text.to_owned()) } else { Err(SelectionError::Region) }
}

/// How to list a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FolderAction {
    /// Skip it: it holds nothing that is selected.
    Skip,
    /// List its folders one by one: some may be skipped.
    Open,
    /// List it recursively: everything in it is selected.
    ListAll,
}

impl Selection {
    /// Returns the same selection for the event times `events`.
    #[must_use]
    pub fn during(&self, events: Range) -> Selection {
        Selection { events, ..self.clone() }
    }

    /// Decides how to list the folder `path`. `depth` is the number of folders in the source's own path.
    fn folder_action(&self, path: &str, depth: usize) -> FolderAction {
        let folders = folders(path);
        let Some(below) = folders_below_logs(&folders) else {
            // Count empty parts too. Otherwise a key with a thousand slashes would be listed one slash at a time.
            return if path.matches('/').count() < depth + MAX_OPENED_DEPTH {
                FolderAction::Open
            } else {
                FolderAction::ListAll
            };
        };
        let [account, below @ ..] = below else {
            return FolderAction::Open;
        };
        if !is_account(account) {
            return FolderAction::ListAll;
        }
        if !admits(&self.accounts, account) {
            return FolderAction::Skip;
        }
        let [_, below @ ..] = below else {
            return FolderAction::Open;
        };
        let [region, date @ ..] = below else {
            return FolderAction::Open;
        };
        if !is_region(region) {
            return FolderAction::ListAll;
        }
        if !admits(&self.regions, region) {
            return FolderAction::Skip;
        }
        if self.events == Range::default() {
            return FolderAction::ListAll;
        }
        match time_covered(date) {
            Some(days) if !self.may_be_delivered(days) => FolderAction::Skip,
            Some(_) if date.len() < 3 => FolderAction::Open,
            None if date.is_empty() => FolderAction::Open,
            _ => FolderAction::ListAll,
        }
    }

    /// Returns the half-open span of delivery times of objects that may hold selected events.
    fn delivery_span(&self) -> (Instant, Instant) {
        // Objects delivered shortly before midnight have been seen to hold an event from after it.
        let first = self.events.from.unwrap_or(Instant::MIN) - DAY;
        (first, self.events.to.unwrap_or(Instant::MAX) + self.delivered_within)
    }

    fn may_be_delivered(&self, (begin, end): (Instant, Instant)) -> bool {
        let (first, last) = self.delivery_span();
        end > first && begin < last
    }

    /// Returns whether the object at `path` is selected.
    fn admits(&self, path: &Path) -> bool {
        if !self.is_narrowed() && self.events == Range::default() {
            return true;
        }
        if !path.parent().is_none_or(|folder| self.admits_folder(folder)) {
            return false;
        }
        let key = KeyFields::of(path);
        key.account.is_none_or(|account| admits(&self.accounts, account))
            && key.region.is_none_or(|region| admits(&self.regions, region))
            && key.day.is_none_or(|midnight| self.may_be_delivered((midnight, midnight + DAY)))
    }

    /// Returns whether `path` contains every field (account, region) that this selection restricts.
    pub fn is_decided_by(&self, path: &Path) -> bool {
        let key = KeyFields::of(path);
        (self.accounts.is_empty() || key.account.is_some()) && (self.regions.is_empty() || key.region.is_some())
    }

    /// Returns whether accounts or regions are restricted.
    pub fn is_narrowed(&self) -> bool {
        !(self.accounts.is_empty() && self.regions.is_empty())
    }

    /// Returns the key from which a listing may continue after `key`, if the account, region or day of `key` is not
    /// selected. So a flat folder of CloudTrail objects is listed without the keys in between.
    fn skip_after(&self, key: &str) -> Option<String> {
        let name = key.rsplit('/').next()?;
        let parts: Vec<&str> = name.split('_').collect();
        let fields = KeyFields::of_name(parts.get(..4)?)?;
        let begin = |parts: &[&str]| format!("{}{}", &key[..key.len() - name.len()], parts.join("_"));
        // '`' is the character after '_', so this sorts after every name with that beginning.
        let end = |parts: &[&str]| begin(parts) + "`";
        if !fields.account.is_none_or(|account| admits(&self.accounts, account)) {
            return Some(end(&parts[..1]));
        }
        if !fields.region.is_none_or(|region| admits(&self.regions, region)) {
            return Some(end(&parts[..3]));
        }
        let (midnight, (first, last)) = (fields.day?, self.delivery_span());
        if midnight >= last {
            return Some(end(&parts[..3]));
        }
        let day = first.utc_date().replace('-', "");
        (midnight + DAY <= first).then(|| begin(&[&parts[..3], &[&day]].concat()))
    }

    /// Returns whether `folder` may hold selected objects.
    fn admits_folder(&self, folder: &Path) -> bool {
        let Some(folder) = folder.to_str() else {
            return true;
        };
        let ends = folder.char_indices().filter(|(_, c)| *c == '/').map(|(index, _)| index).chain([folder.len()]);
        ends.into_iter().all(|end| self.folder_action(&folder[..end], 0) != FolderAction::Skip)
    }
}

fn admits(wanted: &[String], one: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted == one)
}

/// Lists the objects that `source` names and `selection` admits.
pub(super) async fn find(stores: &Stores, source: &str, selection: &Selection) -> Result<FoundObjects, Error> {
    let mut found = match Location::of(source) {
        Location::Disk(path) => store::find(&path.display().to_string(), &|folder| selection.admits_folder(folder))?,
        Location::S3 { bucket, key } => in_bucket(stores, &bucket, &key, selection).await?,
    };
    found.objects.retain(|object| selection.admits(&object.path));
    found.faults.retain(|fault| selection.admits(Path::new(&fault.object)));
    Ok(found)
}

/// Returns the first object that `source` names and that is not hidden.
pub(super) async fn first(stores: &Stores, source: &str) -> Result<Option<Object>, Error> {
    let is_data = |object: &Object| !super::is_hidden(&object.path, source);
    let Location::S3 { bucket, key } = Location::of(source) else {
        return store::find_first(source, &is_data);
    };
    let listed = stores.list(&bucket, Keys { ends_at: &is_data, ..Keys::all(&prefix_of(&key)) }).await?;
    match listed.objects.into_iter().find(is_data) {
        None if !key.is_empty() => stores.object(&bucket, &key).await,
        found => Ok(found),
    }
}

/// Returns the prefix of the keys in a folder.
fn prefix_of(folder: &str) -> String {
    if folder.is_empty() { String::new() } else { format!("{folder}/") }
}

async fn in_bucket(stores: &Stores, bucket: &str, key: &str, selection: &Selection) -> Result<FoundObjects, Error> {
    let mut found = list_below(stores, bucket, &prefix_of(key), selection).await?;
    let is_empty = |found: &FoundObjects| found.objects.is_empty() && found.faults.is_empty();
    if is_empty(&found) && !key.is_empty() {
        found.objects.extend(stores.object(bucket, key).await?);
    }
    let is_pattern = key.contains(['*', '?', '[']);
    if is_empty(&found) && is_pattern {
        found = list_matching(stores, bucket, key, selection).await?;
    }
    if is_empty(&found) && selection.events == Range::default() && !selection.is_narrowed() {
        let kind = if is_pattern { Absence::UnmatchedPattern } else { Absence::EmptyPrefix };
        return Err(Error::NotFound { kind, place: format!("s3://{bucket}/{key}") });
    }
    found.objects.sort();
    Ok(found)
}

/// Lists the objects whose keys match a pattern.
async fn list_matching(
    stores: &Stores,
    bucket: &str,
    pattern: &str,
    selection: &Selection,
) -> Result<FoundObjects, Error> {
    let matcher = glob::Pattern::new(&format!("s3://{bucket}/{pattern}"))
        .map_err(|error| Error::usage(format!("`{pattern}` is not a valid pattern: {error}")))?;
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let literal: Vec<&str> = pattern.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect();
    let folder = if literal.is_empty() { String::new() } else { literal.join("/") + "/" };
    let mut found = list_below(stores, bucket, &folder, selection).await?;
    let is_match = |path: &Path| path.to_str().is_some_and(|path| matcher.matches_with(path, options));
    // A pattern that matches a folder selects everything in it, as on disk.
    found.objects.retain(|object| object.path.ancestors().any(is_match));
    found.faults.retain(|fault| Path::new(&fault.object).ancestors().any(is_match));
    Ok(found)
}

/// Lists the objects whose keys begin with `root`, several folders concurrently.
async fn list_below(stores: &Stores, bucket: &str, root: &str, selection: &Selection) -> Result<FoundObjects, Error> {
    let depth = root.matches('/').count();
    let skip_after = |key: &str| selection.skip_after(key);
    let list = |folder: String| async move {
        let by_folder = match selection.folder_action(&folder, depth) {
            FolderAction::Skip => return Ok(Listing::default()),
            FolderAction::Open => true,
            FolderAction::ListAll => false,
        };
        stores.list(bucket, Keys { by_folder, skip_after: &skip_after, ..Keys::all(&folder) }).await
    };
    let mut found = FoundObjects::default();
    let mut waiting = vec![root.to_owned()];
    let mut listings = FuturesUnordered::new();
    loop {
        while listings.len() < CONCURRENT_LISTINGS
            && let Some(folder) = waiting.pop()
        {
            listings.push(list(folder));
        }
        let Some(listing) = listings.next().await else {
            return Ok(found);
        };
        let listing: Listing = listing?;
        found.objects.extend(listing.objects);
        found.faults.extend(listing.faults);
        waiting.extend(listing.folders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trail::delivered_on;

    fn action(selection: &Selection, path: &str) -> FolderAction {
        selection.folder_action(path, 0)
    }

    #[test]
    fn folders_of_other_accounts_regions_and_days_are_not_listed() {
        let instant = |text: &str| text.parse::<Instant>().ok();
        let selection = Selection {
            accounts: vec!["111122223333".to_owned()],
            regions: vec!["eu-west-1".to_owned()],
            events: Range { from: instant("2025-12-31T22:00:00Z"), to: instant("2026-01-02") },
            delivered_within: DAY,
        };
        for base in ["AWSLogs", "team a/prod/AWSLogs/o-exampleorg1"] {
            let below = |rest: &str| action(&selection, &format!("{base}{rest}"));
            assert_eq!(below(""), FolderAction::Open);
            assert_eq!(below("/444455556666"), FolderAction::Skip);
            assert_eq!(below("/111122223333"), FolderAction::Open);
            assert_eq!(below("/111122223333/CloudTrail"), FolderAction::Open);
            let region = |rest: &str| below(&format!("/111122223333/CloudTrail/eu-west-1{rest}"));
            assert_eq!(below("/111122223333/CloudTrail/us-east-1"), FolderAction::Skip);
            for (rest, expected) in [
                ("", FolderAction::Open),
                ("/2024", FolderAction::Skip),
                ("/2025", FolderAction::Open),
                ("/2025/11", FolderAction::Skip),
                ("/2025/12", FolderAction::Open),
                ("/2025/12/29", FolderAction::Skip),
                ("/2025/12/30", FolderAction::ListAll),
                ("/2025/12/31", FolderAction::ListAll),
                ("/2026/01", FolderAction::Open),
                ("/2026/01/02", FolderAction::ListAll),
                ("/2026/01/03", FolderAction::Skip),
                ("/2026/02", FolderAction::Skip),
                ("/other", FolderAction::ListAll),
            ] {
                assert_eq!(region(rest), expected, "{base} {rest}");
            }
        }
        let everything = Selection::default();
        assert_eq!(action(&everything, "AWSLogs/111122223333/CloudTrail/eu-west-1"), FolderAction::ListAll);
        assert_eq!(action(&everything, "a/"), FolderAction::Open);
        assert_eq!(action(&everything, "a/b/c/"), FolderAction::ListAll);
        assert_eq!(action(&everything, "////"), FolderAction::ListAll);
        let object = "s3://b/AWSLogs/111122223333/CloudTrail/eu-west-1/2026/01/03/x.json.gz";
        assert!(!selection.admits(Path::new(object)));
        assert!(selection.admits(Path::new(&object.replace("01/03", "01/02"))));
        assert!(selection.admits(Path::new("flat/x.json.gz")));
    }

    const NAME: &str = "111122223333_CloudTrail_eu-west-1_20260102T0005Z_abcdefghijklmnop.json.gz";

    fn selection(accounts: &[&str], regions: &[&str], from: &str, to: &str) -> Selection {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let instant = |text: &str| text.parse::<Instant>().ok();
        Selection {
            accounts: owned(accounts),
            regions: owned(regions),
            events: Range { from: instant(from), to: instant(to) },
            delivered_within: DAY,
        }
    }

    #[test]
    fn names_select_objects_as_folders_do() {
        let day = "2026-01-02".parse::<Instant>().ok();
        let admitted = |selection: &Selection, path: &str| selection.admits(Path::new(path));
        for folder in ["", "flat/", "s3://b/", "/data/x//", "AWSLogs/111122223333/CloudTrail/all/", "AWSLogs/o-abc/"] {
            for prefix in ["", "o-exampleorg1_", "AWSLogs_"] {
                let path = format!("{folder}{prefix}{NAME}");
                assert_eq!(delivered_on(Path::new(&path)), day, "{path}");
                for (accounts, regions, from, to, expected) in [
                    (&[][..], &[][..], "", "", true),
                    (&["111122223333"], &["us-east-1", "eu-west-1"], "2026-01-02", "2026-01-03", true),
                    (&["444455556666"], &[], "", "", false),
                    (&[], &["us-east-1"], "", "", false),
                    // Delivered up to a day later, or shortly before midnight.
                    (&[], &[], "2026-01-01", "2026-01-02", true),
                    (&[], &[], "2026-01-03", "", true),
                    (&[], &[], "2026-01-05", "", false),
                    (&[], &[], "", "2026-01-01", false),
                ] {
                    let selection = selection(accounts, regions, from, to);
                    assert_eq!(admitted(&selection, &path), expected, "{path} {selection:?}");
                }
            }
        }
        let narrow = selection(&["444455556666"], &["us-east-1"], "2030-01-01", "2030-01-02");
        for silent in [
            "flat/events.json",
            "flat/111122223333_events_eu-west-1_20260102T0005Z.json",
            "flat/111122223333_CloudTrail_europe_20260102T0005Z_x.json",
            "flat/111122223333_CloudTrail_eu-west-1_20261302T0005Z_x.json",
            "flat/111122223333_CloudTrail_eu-west-1_2026010T0005Z_x.json",
            "flat/1111_CloudTrail_eu-west-1_20260102T0005Z_x.json",
            "flat/111122223333_CloudTrail_eu-west-1_2026\u{e9}02T0005Z_x.json",
        ] {
            assert!(admitted(&narrow, silent), "{silent}");
            assert_eq!(delivered_on(Path::new(silent)), None, "{silent}");
        }
        // Folders win over names: an archive may hold renamed copies.
        let copy = format!("AWSLogs/444455556666/CloudTrail/us-east-1/2030/01/01/{NAME}");
        assert!(admitted(&narrow, &copy));
    }

    #[test]
    fn listings_of_flat_folders_skip_keys_that_are_not_selected() {
        let key = format!("a/b/{NAME}");
        let skip = |accounts: &[&str], regions: &[&str], from: &str, to: &str| {
            selection(accounts, regions, from, to).skip_after(&key)
        };
        let begin = "a/b/111122223333_CloudTrail_eu-west-1";
        assert_eq!(skip(&[], &[], "", ""), None);
        assert_eq!(skip(&["111122223333"], &["eu-west-1"], "2026-01-02", ""), None);
        assert_eq!(skip(&["444455556666"], &[], "", ""), Some("a/b/111122223333`".to_owned()));
        assert_eq!(skip(&[], &["us-east-1"], "", ""), Some(format!("{begin}`")));
        assert_eq!(skip(&[], &[], "", "2025-12-01"), Some(format!("{begin}`")));
        let later = skip(&[], &[], "2026-03-02", "").unwrap();
        assert_eq!(later, format!("{begin}_20260301"));
        assert!(later > key && *format!("{begin}_20260301T0000Z_a.json.gz") > *later);
        assert_eq!(selection(&["444455556666"], &[], "", "").skip_after("a/b/other_file.json"), None);
    }

    #[test]
    fn a_folder_that_does_not_name_a_region_is_not_skipped() {
        let selection = selection(&[], &["us-east-1"], "", "");
        assert_eq!(action(&selection, "AWSLogs/111122223333/CloudTrail/all/"), FolderAction::ListAll);
        assert_eq!(action(&selection, "AWSLogs/111122223333/CloudTrail/eu-west-1/"), FolderAction::Skip);
        for region in ["us-gov-east-1", "ap-southeast-4", "us-iso-east-1", "il-central-1"] {
            assert!(is_region(region), "{region}");
        }
        for other in ["", "all", "2026", "eu-west", "Eu-west-1", "1-2-3", "eu--1"] {
            assert!(!is_region(other), "{other}");
        }
    }
}
