//! Finding a trail's objects. Keys as CloudTrail writes them hold account, region and day of delivery, in their folders
//! and in the names of objects. Folders that cannot hold any selected event are not listed, and objects are not read.
//!
//! Layout: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>

use std::path::Path;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::error::{Absence, Error};
use crate::store::{self, Found, Keys, Listing, Location, Object, Stores};
use crate::time::{self, DAY, Range};

/// Folders that are listed at a time.
const AT_A_TIME: usize = 32;

/// Without CloudTrail's own folders, how deep folders are listed one by one; below, a folder is listed whole.
const OPENED_DEPTH: usize = 3;

/// Which objects of a trail are asked for. What a key does not tell is admitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only objects of these accounts; of all where there are none.
    pub accounts: Vec<String>,
    /// Only objects of these regions; of all where there are none.
    pub regions: Vec<String>,
    /// Only objects that may hold events with a time in this range.
    pub events: Range,
    /// How long after an event its object may be delivered, in microseconds.
    pub delivered_within: i64,
}

/// What is to be done with a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It holds nothing that is asked for.
    Leave,
    /// It holds folders of which some may be left.
    Open,
    /// All in it is asked for.
    Whole,
}

impl Selection {
    /// Objects of all accounts and regions that may hold events with a time in `events`.
    #[must_use]
    pub fn during(&self, events: Range) -> Selection {
        Selection { events, ..self.clone() }
    }

    /// What to do with the folder `path` of a source whose own path has `depth` folders.
    fn step(&self, path: &str, depth: usize) -> Step {
        let folders = folders(path);
        let Some(below) = below_logs(&folders) else {
            // Empty parts count, or a key of a thousand slashes would be listed slash by slash.
            return if path.matches('/').count() < depth + OPENED_DEPTH { Step::Open } else { Step::Whole };
        };
        let [account, below @ ..] = below else {
            return Step::Open;
        };
        if !is_account(account) {
            return Step::Whole;
        }
        if !admits(&self.accounts, account) {
            return Step::Leave;
        }
        let [_, below @ ..] = below else {
            return Step::Open;
        };
        let [region, date @ ..] = below else {
            return Step::Open;
        };
        if !is_region(region) {
            return Step::Whole;
        }
        if !admits(&self.regions, region) {
            return Step::Leave;
        }
        if self.events == Range::default() {
            return Step::Whole;
        }
        match span(date) {
            Some(days) if !self.may_be_delivered(days) => Step::Leave,
            Some(_) if date.len() < 3 => Step::Open,
            None if date.is_empty() => Step::Open,
            _ => Step::Whole,
        }
    }

    /// The days of delivery of objects that may hold selected events, from the first instant to the one after the last.
    fn deliveries(&self) -> (i64, i64) {
        // An object of shortly before midnight has been seen to hold an event of after it.
        let first = self.events.from.unwrap_or(i64::MIN).saturating_sub(DAY);
        (first, self.events.to.unwrap_or(i64::MAX).saturating_add(self.delivered_within))
    }

    fn may_be_delivered(&self, (begin, end): (i64, i64)) -> bool {
        let (first, last) = self.deliveries();
        end > first && begin < last
    }

    /// Whether an object is asked for, by its path. A part that the path does not show is admitted.
    fn admits(&self, path: &Path) -> bool {
        if !path.parent().is_none_or(|folder| self.admits_folder(folder)) {
            return false;
        }
        let shown = Origin::of(path);
        shown.account.is_none_or(|account| admits(&self.accounts, account))
            && shown.region.is_none_or(|region| admits(&self.regions, region))
            && shown.day.is_none_or(|midnight| self.may_be_delivered((midnight, midnight.saturating_add(DAY))))
    }

    /// Whether the path of an object shows all accounts and regions by which it was selected.
    pub fn is_shown_by(&self, path: &Path) -> bool {
        let shown = Origin::of(path);
        (self.accounts.is_empty() || shown.account.is_some()) && (self.regions.is_empty() || shown.region.is_some())
    }

    /// Whether it leaves out some accounts or regions.
    pub fn is_narrowed(&self) -> bool {
        !(self.accounts.is_empty() && self.regions.is_empty())
    }

    /// In a folder of objects with CloudTrail's names: where a listing may continue that has come to `key`, of which
    /// the account, the region or the day is not selected. What sorts before that is not listed, as in a folder that is left.
    fn skip_after(&self, key: &str) -> Option<String> {
        let name = key.rsplit('/').next()?;
        let parts: Vec<&str> = name.split('_').collect();
        let shown = Origin::of_name(parts.get(..4)?)?;
        let begin = |parts: &[&str]| format!("{}{}", &key[..key.len() - name.len()], parts.join("_"));
        // The character after `_`: it sorts after all names that begin so.
        let end = |parts: &[&str]| begin(parts) + "`";
        if !shown.account.is_none_or(|account| admits(&self.accounts, account)) {
            return Some(end(&parts[..1]));
        }
        if !shown.region.is_none_or(|region| admits(&self.regions, region)) {
            return Some(end(&parts[..3]));
        }
        let (midnight, (first, last)) = (shown.day?, self.deliveries());
        if midnight >= last {
            return Some(end(&parts[..3]));
        }
        let day = time::utc_date(first).replace('-', "");
        (midnight.saturating_add(DAY) <= first).then(|| begin(&[&parts[..3], &[&day]].concat()))
    }

    /// Whether anything in a folder may be asked for, by its path.
    fn admits_folder(&self, folder: &Path) -> bool {
        let Some(folder) = folder.to_str() else {
            return true;
        };
        let ends = folder.char_indices().filter(|(_, c)| *c == '/').map(|(place, _)| place).chain([folder.len()]);
        ends.into_iter().all(|end| self.step(&folder[..end], 0) != Step::Leave)
    }
}

fn admits(wanted: &[String], one: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted == one)
}

fn folders(path: &str) -> Vec<&str> {
    path.split('/').filter(|folder| !folder.is_empty()).collect()
}

/// The folders from the account's on, where CloudTrail made them.
fn below_logs<'f>(folders: &'f [&'f str]) -> Option<&'f [&'f str]> {
    let logs = folders.iter().position(|folder| *folder == "AWSLogs")?;
    match &folders[logs + 1..] {
        [organization, below @ ..] if organization.starts_with("o-") => Some(below),
        below => Some(below),
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `text` has the form of a region's name, such as `eu-west-1` or `us-gov-east-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [words @ .., number] = parts.as_slice() else {
        return false;
    };
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    words.len() >= 2
        && words.iter().all(is_word)
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The account and region of an object's events and the day of its delivery, as far as its path shows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Origin<'p> {
    account: Option<&'p str>,
    region: Option<&'p str>,
    /// The midnight that the day begins with, in microseconds since the epoch.
    day: Option<i64>,
}

impl<'p> Origin<'p> {
    /// By the folders, or where they do not show it by the name.
    fn of(path: &'p Path) -> Origin<'p> {
        let folders = path.parent().and_then(Path::to_str).map(folders).unwrap_or_default();
        let shown = Origin::of_folders(&folders);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parts: Vec<&str> = name.split('_').collect();
        // Tools that put all objects into one folder may put folders' names before the object's own.
        let named = parts.windows(4).find_map(Origin::of_name).unwrap_or_default();
        Origin {
            account: shown.account.or(named.account),
            region: shown.region.or(named.region),
            day: shown.day.or(named.day),
        }
    }

    fn of_folders(folders: &[&'p str]) -> Origin<'p> {
        let logs = folders.iter().position(|folder| *folder == "AWSLogs").map_or(folders.len(), |place| place + 1);
        let below = &folders[logs..];
        let below = if below.first().is_some_and(|first| first.starts_with("o-")) { &below[1..] } else { below };
        let account = below.first().copied().filter(|account| is_account(account));
        let region = account.and(below.get(2).copied()).filter(|region| is_region(region));
        let day = region.and(below.get(3..6)).and_then(span).map(|(midnight, _)| midnight);
        Origin { account, region, day }
    }

    /// By the parts of a name, as in `111122223333_CloudTrail_eu-west-1_20250304T1005Z_abcdefghijklmnop.json.gz`; `None`
    /// where it has another form.
    fn of_name(parts: &[&'p str]) -> Option<Origin<'p>> {
        let [account, service, region, stamp] = *parts else {
            return None;
        };
        let (date, clock) = super::date_and_clock(stamp)?;
        let is_clock = clock.bytes().all(|byte| byte.is_ascii_digit() || byte == b'Z');
        if !(is_account(account) && service.starts_with("CloudTrail") && is_region(region) && is_clock) {
            return None;
        }
        let (midnight, _) = span(&[&date[..4], &date[4..6], &date[6..]])?;
        Some(Origin { account: Some(account), region: Some(region), day: Some(midnight) })
    }
}

/// The day on which an object was delivered, where its path shows it: the midnight that it begins with, in microseconds
/// since the epoch.
pub fn delivered_on(path: &Path) -> Option<i64> {
    Origin::of(path).day
}

/// The time that a folder's date covers, from its beginning to its end: `[2026]`, `[2026, 09]` or `[2026, 09, 17]`.
fn span(date: &[&str]) -> Option<(i64, i64)> {
    let number = |place: usize, digits: usize| -> Option<u32> {
        let text = date.get(place)?;
        (text.len() == digits).then(|| text.parse().ok())?
    };
    let year = number(0, 4)?;
    let begin = |year: u32, month: u32, day: u32| time::parse_instant(&format!("{year:04}-{month:02}-{day:02}")).ok();
    match (date.len(), number(1, 2), number(2, 2)) {
        (1, ..) => begin(year, 1, 1).zip(begin(year + 1, 1, 1)),
        (2, Some(12), _) => begin(year, 12, 1).zip(begin(year + 1, 1, 1)),
        (2, Some(month), _) => begin(year, month, 1).zip(begin(year, month + 1, 1)),
        (_, Some(month), Some(day)) => begin(year, month, day).map(|begin| (begin, begin + DAY)),
        _ => None,
    }
}

/// The objects that `source` names, as far as `selection` admits them.
pub(super) async fn find(stores: &Stores, source: &str, selection: &Selection) -> Result<Found, Error> {
    let mut found = match Location::of(source) {
        Location::Disk(path) => store::find(&path.display().to_string(), &|folder| selection.admits_folder(folder))?,
        Location::S3 { bucket, key } => in_bucket(stores, &bucket, &key, selection).await?,
    };
    found.objects.retain(|object| selection.admits(&object.path));
    found.faults.retain(|fault| selection.admits(Path::new(&fault.object)));
    Ok(found)
}

/// The first of the objects that `source` names and tools do not keep for themselves.
pub(super) async fn first(stores: &Stores, source: &str) -> Result<Option<Object>, Error> {
    let is_data = |object: &Object| !super::is_hidden(&object.path, source);
    let Location::S3 { bucket, key } = Location::of(source) else {
        return Ok(store::find(source, &|_| true)?.objects.into_iter().find(is_data));
    };
    let listed = stores.list(&bucket, Keys { ends_at: &is_data, ..Keys::all(&prefix_of(&key)) }).await?;
    match listed.objects.into_iter().find(is_data) {
        None if !key.is_empty() => stores.object(&bucket, &key).await,
        found => Ok(found),
    }
}

/// The beginning of the keys in a folder.
fn prefix_of(folder: &str) -> String {
    if folder.is_empty() { String::new() } else { format!("{folder}/") }
}

async fn in_bucket(stores: &Stores, bucket: &str, key: &str, selection: &Selection) -> Result<Found, Error> {
    let mut found = below(stores, bucket, &prefix_of(key), selection).await?;
    let is_empty = |found: &Found| found.objects.is_empty() && found.faults.is_empty();
    if is_empty(&found) && !key.is_empty() {
        found.objects.extend(stores.object(bucket, key).await?);
    }
    let is_pattern = key.contains(['*', '?', '[']);
    if is_empty(&found) && is_pattern {
        found = matching(stores, bucket, key, selection).await?;
    }
    if is_empty(&found) && selection.events == Range::default() && !selection.is_narrowed() {
        let kind = if is_pattern { Absence::UnmatchedPattern } else { Absence::EmptyPrefix };
        return Err(Error::NotFound { kind, place: format!("s3://{bucket}/{key}") });
    }
    found.objects.sort();
    Ok(found)
}

/// The objects whose keys a pattern matches.
async fn matching(stores: &Stores, bucket: &str, pattern: &str, selection: &Selection) -> Result<Found, Error> {
    let matcher = glob::Pattern::new(&format!("s3://{bucket}/{pattern}"))
        .map_err(|error| Error::usage(format!("`{pattern}` is not a pattern: {error}")))?;
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let literal: Vec<&str> = pattern.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect();
    let folder = if literal.is_empty() { String::new() } else { literal.join("/") + "/" };
    let mut found = below(stores, bucket, &folder, selection).await?;
    let is_meant = |path: &Path| path.to_str().is_some_and(|path| matcher.matches_with(path, options));
    // A pattern of folders names what lies in them too, as on disk.
    found.objects.retain(|object| object.path.ancestors().any(is_meant));
    found.faults.retain(|fault| Path::new(&fault.object).ancestors().any(is_meant));
    Ok(found)
}

/// The objects whose keys begin with `root`, their folders listed side by side.
async fn below(stores: &Stores, bucket: &str, root: &str, selection: &Selection) -> Result<Found, Error> {
    let depth = root.matches('/').count();
    let skip_after = |key: &str| selection.skip_after(key);
    let list = |folder: String| async move {
        let by_folder = match selection.step(&folder, depth) {
            Step::Leave => return Ok(Listing::default()),
            Step::Open => true,
            Step::Whole => false,
        };
        stores.list(bucket, Keys { by_folder, skip_after: &skip_after, ..Keys::all(&folder) }).await
    };
    let mut found = Found::default();
    let mut waiting = vec![root.to_owned()];
    let mut listings = FuturesUnordered::new();
    loop {
        while listings.len() < AT_A_TIME
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

    fn step(selection: &Selection, path: &str) -> Step {
        selection.step(path, 0)
    }

    #[test]
    fn folders_of_other_accounts_regions_and_days_are_not_listed() {
        let instant = |text| time::parse_instant(text).ok();
        let selection = Selection {
            accounts: vec!["111122223333".to_owned()],
            regions: vec!["eu-west-1".to_owned()],
            events: Range { from: instant("2025-12-31T22:00:00Z"), to: instant("2026-01-02") },
            delivered_within: DAY,
        };
        for base in ["AWSLogs", "team a/prod/AWSLogs/o-exampleorg1"] {
            let below = |rest: &str| step(&selection, &format!("{base}{rest}"));
            assert_eq!(below(""), Step::Open);
            assert_eq!(below("/444455556666"), Step::Leave);
            assert_eq!(below("/111122223333"), Step::Open);
            assert_eq!(below("/111122223333/CloudTrail"), Step::Open);
            let region = |rest: &str| below(&format!("/111122223333/CloudTrail/eu-west-1{rest}"));
            assert_eq!(below("/111122223333/CloudTrail/us-east-1"), Step::Leave);
            for (rest, expected) in [
                ("", Step::Open),
                ("/2024", Step::Leave),
                ("/2025", Step::Open),
                ("/2025/11", Step::Leave),
                ("/2025/12", Step::Open),
                ("/2025/12/29", Step::Leave),
                ("/2025/12/30", Step::Whole),
                ("/2025/12/31", Step::Whole),
                ("/2026/01", Step::Open),
                ("/2026/01/02", Step::Whole),
                ("/2026/01/03", Step::Leave),
                ("/2026/02", Step::Leave),
                ("/other", Step::Whole),
            ] {
                assert_eq!(region(rest), expected, "{base} {rest}");
            }
        }
        let everything = Selection::default();
        assert_eq!(step(&everything, "AWSLogs/111122223333/CloudTrail/eu-west-1"), Step::Whole);
        assert_eq!(step(&everything, "a/"), Step::Open);
        assert_eq!(step(&everything, "a/b/c/"), Step::Whole);
        assert_eq!(step(&everything, "////"), Step::Whole);
        let object = "s3://b/AWSLogs/111122223333/CloudTrail/eu-west-1/2026/01/03/x.json.gz";
        assert!(!selection.admits(Path::new(object)));
        assert!(selection.admits(Path::new(&object.replace("01/03", "01/02"))));
        assert!(selection.admits(Path::new("flat/x.json.gz")));
    }

    const NAME: &str = "111122223333_CloudTrail_eu-west-1_20260102T0005Z_abcdefghijklmnop.json.gz";

    fn selection(accounts: &[&str], regions: &[&str], from: &str, to: &str) -> Selection {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let instant = |text: &str| time::parse_instant(text).ok();
        Selection {
            accounts: owned(accounts),
            regions: owned(regions),
            events: Range { from: instant(from), to: instant(to) },
            delivered_within: DAY,
        }
    }

    #[test]
    fn names_choose_objects_as_folders_do() {
        let day = time::parse_instant("2026-01-02").ok();
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
        // Folders decide where both show it: an archive may hold renamed copies.
        let copy = format!("AWSLogs/444455556666/CloudTrail/us-east-1/2030/01/01/{NAME}");
        assert!(admitted(&narrow, &copy));
    }

    #[test]
    fn listings_of_flat_folders_skip_what_is_not_selected() {
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
    fn a_folder_that_does_not_name_a_region_is_not_left() {
        let selection = selection(&[], &["us-east-1"], "", "");
        assert_eq!(step(&selection, "AWSLogs/111122223333/CloudTrail/all/"), Step::Whole);
        assert_eq!(step(&selection, "AWSLogs/111122223333/CloudTrail/eu-west-1/"), Step::Leave);
        for region in ["us-gov-east-1", "ap-southeast-4", "us-iso-east-1", "il-central-1"] {
            assert!(is_region(region), "{region}");
        }
        for other in ["", "all", "2026", "eu-west", "Eu-west-1", "1-2-3", "eu--1"] {
            assert!(!is_region(other), "{other}");
        }
    }
}
