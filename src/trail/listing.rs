//! Finding a trail's objects. Keys as CloudTrail writes them tell account, region and day of delivery, so that
//! folders that cannot hold what is asked for are not even listed.
//!
//! Layout: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>

use std::path::Path;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::error::Error;
use crate::store::{self, Found, Listing, Location, Object, Stores};
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
            return if folders.len() < depth + OPENED_DEPTH { Step::Open } else { Step::Whole };
        };
        let [account, below @ ..] = below else {
            return Step::Open;
        };
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if !is_account {
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

    fn may_be_delivered(&self, (first, end): (i64, i64)) -> bool {
        // An object of shortly before midnight has been seen to hold an event of after it.
        let first_delivery = self.events.from.unwrap_or(i64::MIN).saturating_sub(DAY);
        let last_delivery = self.events.to.unwrap_or(i64::MAX).saturating_add(self.delivered_within);
        end > first_delivery && first < last_delivery
    }

    /// Whether an object is asked for, by its path.
    fn admits(&self, path: &Path) -> bool {
        path.parent().is_none_or(|folder| self.admits_folder(folder))
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

/// The day on which an object was delivered, where its path tells: the midnight it begins with, in microseconds since
/// the epoch.
pub fn delivered_on(path: &Path) -> Option<i64> {
    let folders = folders(path.parent()?.to_str()?);
    let [_account, _service, _region, date @ ..] = below_logs(&folders)? else {
        return None;
    };
    span(date.get(..3)?).map(|(midnight, _)| midnight)
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
    Ok(found)
}

/// The first of the objects that `source` names and tools do not keep for themselves.
pub(super) async fn first(stores: &Stores, source: &str) -> Result<Option<Object>, Error> {
    let is_data = |object: &Object| !super::is_hidden(&object.path, source);
    let Location::S3 { bucket, key } = Location::of(source) else {
        return Ok(store::find(source, &|_| true)?.objects.into_iter().find(is_data));
    };
    match stores.first_below(&bucket, &key, &is_data).await? {
        None if !key.is_empty() => stores.object(&bucket, &key).await,
        found => Ok(found),
    }
}

async fn in_bucket(stores: &Stores, bucket: &str, key: &str, selection: &Selection) -> Result<Found, Error> {
    let mut objects = below(stores, bucket, key, selection).await?;
    if objects.is_empty() && !key.is_empty() {
        objects.extend(stores.object(bucket, key).await?);
    }
    if objects.is_empty() && key.contains(['*', '?', '[']) {
        objects = matching(stores, bucket, key, selection).await?;
    }
    if objects.is_empty()
        && selection.events == Range::default()
        && selection.accounts.is_empty()
        && selection.regions.is_empty()
    {
        return Err(Error::NotFound {
            kind: "object or prefix",
            place: format!("s3://{bucket}/{key}"),
            hint: "name an object, a folder or a quoted pattern such as 's3://bucket/AWSLogs/*/CloudTrail/**'",
        });
    }
    objects.sort();
    Ok(Found { objects, faults: Vec::new() })
}

/// The objects whose keys a pattern matches.
async fn matching(stores: &Stores, bucket: &str, pattern: &str, selection: &Selection) -> Result<Vec<Object>, Error> {
    let matcher = glob::Pattern::new(&format!("s3://{bucket}/{pattern}"))
        .map_err(|error| Error::usage(format!("`{pattern}` is not a pattern: {error}")))?;
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let literal: Vec<&str> = pattern.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect();
    let mut objects = below(stores, bucket, &literal.join("/"), selection).await?;
    let is_meant = |path: &Path| path.to_str().is_some_and(|path| matcher.matches_with(path, options));
    // A pattern of folders names what lies in them too, as on disk.
    objects.retain(|object| object.path.ancestors().any(is_meant));
    Ok(objects)
}

/// The objects below a folder, its folders listed side by side.
async fn below(stores: &Stores, bucket: &str, root: &str, selection: &Selection) -> Result<Vec<Object>, Error> {
    let depth = root.split('/').filter(|folder| !folder.is_empty()).count();
    let list = |folder: String| async move {
        match selection.step(&folder, depth) {
            Step::Leave => Ok(Listing::default()),
            Step::Open => stores.list_folder(bucket, &folder).await,
            Step::Whole => {
                Ok::<_, Error>(Listing { objects: stores.list_all(bucket, &folder).await?, ..Listing::default() })
            }
        }
    };
    let mut objects = Vec::new();
    let mut waiting = vec![root.to_owned()];
    let mut listings = FuturesUnordered::new();
    loop {
        while listings.len() < AT_A_TIME
            && let Some(folder) = waiting.pop()
        {
            listings.push(list(folder));
        }
        let Some(listing) = listings.next().await else {
            return Ok(objects);
        };
        let listing = listing?;
        objects.extend(listing.objects);
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
        assert_eq!(step(&everything, "a"), Step::Open);
        assert_eq!(step(&everything, "a/b/c"), Step::Whole);
        let object = "s3://b/AWSLogs/111122223333/CloudTrail/eu-west-1/2026/01/03/x.json.gz";
        assert!(!selection.admits(Path::new(object)));
        assert!(selection.admits(Path::new(&object.replace("01/03", "01/02"))));
        assert!(selection.admits(Path::new("flat/x.json.gz")));
    }
}
