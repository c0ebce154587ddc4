//! The bytes of one object, as AWS or another tool wrote them, to CloudTrail records.
//!
//! Understood: gzip (all members) or plain text; `{"Records": [...]}`, JSON lines, values glued
//! together, a bare array, a single record; EventBridge events, look-up-events output, CloudWatch
//! Logs envelopes, Splunk's `_raw`, and SQS or SNS bodies that wrap any of these. What is not a
//! record is named, never passed over in silence.

use std::io::{self, Read as _};
use std::path::Path;

use memchr::memmem;

use crate::store;

pub mod envelope;
pub mod json;

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

/// The text of an object.
#[derive(Debug)]
pub struct Text {
    /// The inflated text without a byte-order mark.
    pub text: String,
    /// How many invalid UTF-8 sequences were replaced by U+FFFD.
    pub replaced: usize,
}

/// Inflates and decodes an object, which may hold `most` bytes. The error is the reason to reject it.
pub fn text(bytes: &[u8], most: usize) -> Result<Text, String> {
    let too_large = || format!("inflates to more than {}", store::most_told(most));
    let inflated = if is_gzip(bytes) { inflate(bytes, most)?.ok_or_else(too_large)? } else { bytes.to_vec() };
    if is_gzip(&inflated) {
        return Err("gzip within gzip: unpack it once".to_owned());
    }
    let (mut text, replaced) = match String::from_utf8(inflated) {
        Ok(text) => (text, 0),
        Err(error) => {
            let bytes = error.as_bytes();
            let replaced = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
            // Each may become three bytes.
            if bytes.len() + 2 * replaced > most {
                return Err("is no UTF-8".to_owned());
            }
            (String::from_utf8_lossy(bytes).into_owned(), replaced)
        }
    };
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(Text { text, replaced })
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Inflates all members; `None` where they hold more than `most` bytes. The fast decoder reads one member and does not say where it ended, so it
/// is used only where no second one can follow: no later gzip signature, and the trailer at the very end.
fn inflate(bytes: &[u8], most: usize) -> Result<Option<Vec<u8>>, String> {
    let single = memmem::find(&bytes[2..], &[0x1f, 0x8b, 0x08]).is_none();
    if let Some(trailer) = bytes.last_chunk::<8>().filter(|_| single) {
        let [c0, c1, c2, c3, s0, s1, s2, s3] = *trailer;
        let (crc, size) = (u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([s0, s1, s2, s3]) as usize);
        if size <= most && size / 1_032 <= bytes.len() {
            let mut inflated = vec![0; size];
            let written = libdeflater::Decompressor::new().gzip_decompress(bytes, &mut inflated);
            if written == Ok(size) && libdeflater::crc32(&inflated) == crc {
                return Ok(Some(inflated));
            }
        }
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "the gzip stream is cut off: copy the object again".to_owned(),
        _ => format!("the gzip stream is damaged ({error}): copy the object again"),
    };
    let members = || flate2::read::MultiGzDecoder::new(bytes).take(most as u64 + 1);
    // Measured first: what is too large takes no memory.
    let size = io::copy(&mut members(), &mut io::sink()).map_err(failed)?;
    let Some(size) = usize::try_from(size).ok().filter(|size| *size <= most) else {
        return Ok(None);
    };
    let mut inflated = Vec::with_capacity(size);
    members().read_to_end(&mut inflated).map_err(failed)?;
    Ok(Some(inflated))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn text(bytes: &[u8]) -> Result<Text, String> {
        super::text(bytes, 2 << 20)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_member_is_read_and_a_cut_one_is_named() {
        let both = [gzip(b"{\"Records\":["), gzip(b"]}")].concat();
        assert_eq!(text(&both).unwrap().text, "{\"Records\":[]}");
        let twice = [gzip(b"{}"), gzip(b"{}")].concat();
        assert_eq!(text(&twice).unwrap().text, "{}{}");
        for cut in 2..both.len() - 1 {
            if cut != gzip(b"{\"Records\":[").len() {
                assert!(text(&both[..cut]).is_err(), "cut at {cut}");
            }
        }
        let trailing = [gzip(b"{}"), b"garbage".to_vec()].concat();
        assert!(text(&trailing).is_err());
        assert!(text(&gzip(&gzip(b"{}"))).unwrap_err().contains("within gzip"));
        assert_eq!(text(&gzip(b"")).unwrap().text, "");
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = gzip(&vec![b'a'; (2 << 20) + 1]);
        assert!(text(&bomb).unwrap_err().contains("more than 2 MiB"));
        assert!(text(&[bomb.clone(), gzip(b"")].concat()).unwrap_err().contains("more than 2 MiB"));
        assert_eq!(super::text(&bomb, 3 << 20).unwrap().text.len(), (2 << 20) + 1);
        assert_eq!(text(&gzip(&vec![0xff; 1 << 20])).unwrap_err(), "is no UTF-8");
    }

    #[test]
    fn marks_and_bad_bytes_cost_nothing_else() {
        let marked = text(b"\xef\xbb\xbf{}").unwrap();
        assert_eq!((marked.text.as_str(), marked.replaced), ("{}", 0));
        let bad = text(b"{\"a\":\"\xff\",\"b\":\"\xfe\"}").unwrap();
        assert_eq!((bad.text.as_str(), bad.replaced), ("{\"a\":\"\u{fffd}\",\"b\":\"\u{fffd}\"}", 2));
    }

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
