//! The layout of object keys: account, region and delivery day, in the folders and in the name.
//!
//! Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>

use std::path::Path;

use crate::time::{self, DAY, Instant};

/// Returns the non-empty folders of a path.
pub(super) fn folders(path: &str) -> Vec<&str> {
    path.split('/').filter(|folder| !folder.is_empty()).collect()
}

/// Returns the folders below `AWSLogs` and the organization, starting with the account. `None` without `AWSLogs`.
pub(super) fn folders_below_logs<'a, 'f>(folders: &'a [&'f str]) -> Option<&'a [&'f str]> {
    let logs = folders.iter().position(|folder| *folder == "AWSLogs")?;
    match &folders[logs + 1..] {
        [organization, below @ ..] if organization.starts_with("o-") => Some(below),
        below => Some(below),
    }
}

/// Returns whether `text` is an account id of 12 digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether `text` has the form of a region's name, such as `eu-west-1` or `us-gov-east-1`.
pub(super) fn is_region(text: &str) -> bool {
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

/// The fields of an object's key, as far as its path contains them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KeyFields<'p> {
    pub(super) account: Option<&'p str>,
    pub(super) region: Option<&'p str>,
    /// Midnight of the delivery day.
    pub(super) day: Option<Instant>,
}

impl<'p> KeyFields<'p> {
    /// Reads each field from the folders, or else from the name.
    pub(super) fn of(path: &'p Path) -> KeyFields<'p> {
        let folders = path.parent().and_then(Path::to_str).map(folders).unwrap_or_default();
        let from_folders = KeyFields::of_folders(&folders);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parts: Vec<&str> = name.split('_').collect();
        // Tools that flatten folders may put the names of folders before the object's own.
        let from_name = parts.windows(4).find_map(KeyFields::of_name).unwrap_or_default();
        KeyFields {
            account: from_folders.account.or(from_name.account),
            region: from_folders.region.or(from_name.region),
            day: from_folders.day.or(from_name.day),
        }
    }

    fn of_folders(folders: &[&'p str]) -> KeyFields<'p> {
        let below = folders_below_logs(folders).unwrap_or_default();
        let account = below.first().copied().filter(|account| is_account(account));
        let region = account.and(below.get(2).copied()).filter(|region| is_region(region));
        let day = region.and(below.get(3..6)).and_then(time_covered).map(|(midnight, _)| midnight);
        KeyFields { account, region, day }
    }

    /// Reads the fields from the parts of a name such as
    /// `111122223333_CloudTrail_eu-west-1_20250304T1005Z_abcdefghijklmnop.json.gz`.
    pub(super) fn of_name(parts: &[&'p str]) -> Option<KeyFields<'p>> {
        let [account, service, region, stamp] = *parts else {
            return None;
        };
        let (date, clock) = date_and_clock(stamp)?;
        let is_clock = clock.bytes().all(|byte| byte.is_ascii_digit() || byte == b'Z');
        if !(is_account(account) && service.starts_with("CloudTrail") && is_region(region) && is_clock) {
            return None;
        }
        let (midnight, _) = time_covered(&[&date[..4], &date[4..6], &date[6..]])?;
        Some(KeyFields { account: Some(account), region: Some(region), day: Some(midnight) })
    }
}

/// Returns midnight of the delivery day that the path contains.
pub fn delivered_on(path: &Path) -> Option<Instant> {
    KeyFields::of(path).day
}

/// Returns the half-open span of a date in folders: `[2026]`, `[2026, 09]` or `[2026, 09, 17]`.
pub(super) fn time_covered(date: &[&str]) -> Option<(Instant, Instant)> {
    let number = |index: usize, digits: usize| -> Option<u32> {
        let text = date.get(index)?;
        (text.len() == digits).then(|| text.parse().ok())?
    };
    let year = number(0, 4)?;
    let begin = |year: u32, month: u32, day: u32| format!("{year:04}-{month:02}-{day:02}").parse::<Instant>().ok();
    match (date.len(), number(1, 2), number(2, 2)) {
        (1, ..) => begin(year, 1, 1).zip(begin(year + 1, 1, 1)),
        (2, Some(12), _) => begin(year, 12, 1).zip(begin(year + 1, 1, 1)),
        (2, Some(month), _) => begin(year, month, 1).zip(begin(year, month + 1, 1)),
        (_, Some(month), Some(day)) => begin(year, month, day).map(|begin| (begin, begin + DAY)),
        _ => None,
    }
}

/// Returns the delivery date in an object's name, `YYYYMMDD`. Empty if there is none.
pub(super) fn delivery_date(path: &Path) -> &str {
    delivery_stamp(path).get(..8).unwrap_or_default()
}

/// Returns the delivery time in an object's name, `YYYYMMDDTHHMMZ`. Empty if there is none.
pub fn delivery_stamp(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('_').find(|part| date_and_clock(part).is_some()).unwrap_or_default()
}

/// Splits a delivery time such as `20250304T1005Z` into date and clock. `None` if `part` is not one.
pub(crate) fn date_and_clock(part: &str) -> Option<(&str, &str)> {
    let (date, clock) = part.split_once('T')?;
    (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then_some((date, clock))
}

/// Whose events an object holds and when it was delivered, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectDelivery<'p> {
    /// The account.
    pub account: &'p str,
    /// The region.
    pub region: &'p str,
    /// The hour of delivery.
    pub hour: Instant,
}

/// Returns whose events the object at `path` holds and when it was delivered; `None` where its path does not contain all
/// of it.
pub fn delivery(path: &Path) -> Option<ObjectDelivery<'_>> {
    let KeyFields { account, region, .. } = KeyFields::of(path);
    let (date, clock) = date_and_clock(delivery_stamp(path))?;
    let text = format!("{}-{}-{}T{}:00:00Z", &date[..4], &date[4..6], &date[6..], clock.get(..2)?);
    Some(ObjectDelivery { account: account?, region: region?, hour: time::parse_event_time(&text)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_dates_come_from_names() {
        let name = "111122223333_CloudTrail_eu-west-1_20250304T1005Z_abcdefghijklmnop.json.gz";
        assert_eq!(delivery_date(Path::new(name)), "20250304");
        assert_eq!(delivery_stamp(Path::new(name)), "20250304T1005Z");
        assert_eq!(delivery_date(Path::new("x/Test.json")), "");
    }
}
