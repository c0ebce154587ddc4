//! Reads CloudTrail records from the bytes of one object, as AWS or another tool wrote them.
//! An object is text, plain or packed with gzip or zstd, or an archive (tar, zip) of such texts. The text is
//! `{"Records": [...]}`, JSON lines, concatenated values, a bare array, a single record, or an envelope around
//! records ([`envelope`]). Everything else is reported, never skipped silently.

use std::path::Path;

mod archive;
mod element;
pub mod envelope;
mod format;
pub mod json;
mod kinds;
mod lines;
mod read_error;
mod split;
mod unpack;

pub use element::{Element, MemberKeys, MemberString, MemberTexts, hides_characters};
pub use format::ForeignFormat;
pub(crate) use format::by_ending;
pub use read_error::{Packing, ReadError};
pub use unpack::{ObjectPart, PartContent, UnpackedText, content, first_member, read};

/// Why an object is not read, judged by its path alone: digests, Insights and aggregates are no
/// records, and other services write beneath `AWSLogs/` too. The text names the kind.
///
/// Layout: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>
pub fn skipped_by_path(path: &Path) -> Option<String> {
    let mut folders = path.parent()?.components().filter_map(|part| part.as_os_str().to_str());
    let mut below_aws_logs = false;
    folders.find_map(|folder| {
        if below_aws_logs {
            let account_or_organization =
                folder.starts_with("o-") || folder.len() == 12 && folder.bytes().all(|b| b.is_ascii_digit());
            if account_or_organization {
                return None;
            }
            below_aws_logs = false;
            let holds_records = matches!(folder, "CloudTrail" | "CloudTrail-NetworkActivity");
            return (!holds_records).then(|| folder.to_owned());
        }
        below_aws_logs = folder == "AWSLogs";
        matches!(folder, "CloudTrail-Digest" | "CloudTrail-Insight" | "CloudTrail-Aggregated")
            .then(|| folder.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_what_holds_no_records() {
        let skipped = |path: &str| skipped_by_path(Path::new(path));
        let base = "team/prod/AWSLogs/o-exampleorg1/111122223333";
        assert_eq!(skipped(&format!("{base}/CloudTrail/eu-west-1/2025/03/04/x.json.gz")), None);
        assert_eq!(skipped(&format!("{base}/CloudTrail-NetworkActivity/eu-west-1/x.json.gz")), None);
        for kind in ["CloudTrail-Digest", "CloudTrail-Insight", "CloudTrail-Aggregated", "Config", "vpcflowlogs"] {
            assert_eq!(skipped(&format!("{base}/{kind}/eu-west-1/x.json.gz")).as_deref(), Some(kind));
        }
        assert_eq!(skipped("copied/CloudTrail-Digest/x.json.gz").as_deref(), Some("CloudTrail-Digest"));
        assert_eq!(skipped("copied/CloudTrail-Digest.json"), None);
    }
}
