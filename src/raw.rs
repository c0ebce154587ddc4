//! The bytes of one object, as AWS or another tool wrote them, to CloudTrail records.
//!
//! Understood: gzip (all members) or plain text; `{"Records": [...]}`, JSON lines, values glued
//! together, a bare array, a single record; EventBridge events, look-up-events output, CloudWatch
//! Logs envelopes, Splunk's `_raw`, and SQS or SNS bodies that wrap any of these. What is not a
//! record is named, never passed over in silence.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::memmem;

use crate::store;

pub mod envelope;
pub mod json;
mod split;

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
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The inflated text without a byte-order mark.
    pub text: &'a str,
    /// How many invalid UTF-8 sequences were replaced by U+FFFD.
    pub replaced: usize,
}

/// Where objects are inflated, one after the other: memory that is new each time is cleared by the system each time,
/// which takes longer than inflating does. Not one for each thread, since the threads that take turns are many.
static INFLATED: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// The most that is kept for the next object, in bytes.
const KEPT: usize = 32 << 20;

/// Inflates and decodes an object, which may hold `most` bytes, and gives its text to `read`. The error is the reason to
/// reject it.
pub fn read<T>(bytes: &[u8], most: usize, read: impl FnOnce(Text<'_>) -> T) -> Result<T, String> {
    if !is_gzip(bytes) {
        return decode(bytes, most, read);
    }
    let mut inflated = lock(&INFLATED).pop().unwrap_or_default();
    let size = inflate(bytes, most, &mut inflated);
    let result = size.and_then(|size| match size {
        Some(size) => decode(&inflated[..size], most, read),
        None => Err(format!("inflates to more than {}", store::most_told(most))),
    });
    if inflated.capacity() <= KEPT {
        lock(&INFLATED).push(inflated);
    }
    result
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn decode<T>(bytes: &[u8], most: usize, read: impl FnOnce(Text<'_>) -> T) -> Result<T, String> {
    if is_gzip(bytes) {
        return Err("gzip within gzip: unpack it once".to_owned());
    }
    let (text, replaced) = if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        (Cow::Borrowed(text), 0)
    } else {
        let replaced = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
        // Each may become three bytes.
        if bytes.len() + 2 * replaced > most {
            return Err("is no UTF-8".to_owned());
        }
        (String::from_utf8_lossy(bytes), replaced)
    };
    Ok(read(Text { text: text.strip_prefix('\u{feff}').unwrap_or(&text), replaced }))
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Inflates all members to the start of `inflated`, and tells how many bytes they are; `None` where they hold more than
/// `most`. The fast decoder reads one member and passes over what follows it, so it is used only where nothing does: the
/// trailer of what it gave, checksum and length, must stand at the end of the object and nowhere before.
///
/// Members and trailers: <https://www.rfc-editor.org/rfc/rfc1952#page-5>
fn inflate(bytes: &[u8], most: usize, inflated: &mut Vec<u8>) -> Result<Option<usize>, String> {
    if let Some(length) = bytes.last_chunk::<4>() {
        let size = u32::from_le_bytes(*length) as usize;
        if size <= most && size / 1_032 <= bytes.len() {
            if inflated.len() < size {
                inflated.resize(size, 0);
            }
            let text = &mut inflated[..size];
            if libdeflater::Decompressor::new().gzip_decompress(bytes, text) == Ok(size) {
                let trailer = [libdeflater::crc32(text).to_le_bytes(), *length].concat();
                if memmem::find(bytes, &trailer) == Some(bytes.len() - trailer.len()) {
                    return Ok(Some(size));
                }
            }
        }
    }
    let failed = |error: io::Error| match error.kind() {
        _ if is_followed(bytes) => "something else follows the gzip stream: copy the object again".to_owned(),
        io::ErrorKind::UnexpectedEof => "the gzip stream is cut off: copy the object again".to_owned(),
        _ => format!("the gzip stream is damaged ({error}): copy the object again"),
    };
    let members = || flate2::read::MultiGzDecoder::new(bytes).take(most as u64 + 1);
    // Measured first: what is too large takes no memory.
    let size = io::copy(&mut members(), &mut io::sink()).map_err(failed)?;
    let Some(size) = usize::try_from(size).ok().filter(|size| *size <= most) else {
        return Ok(None);
    };
    inflated.clear();
    members().read_to_end(inflated).map_err(failed)?;
    Ok(Some(size))
}

/// Whether whole members are followed by what is no gzip.
fn is_followed(mut bytes: &[u8]) -> bool {
    while is_gzip(bytes) {
        let mut member = flate2::bufread::GzDecoder::new(bytes);
        if io::copy(&mut member, &mut io::sink()).is_err() {
            return false;
        }
        bytes = member.into_inner();
    }
    !bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn text(bytes: &[u8]) -> Result<(String, usize), String> {
        read(bytes, 2 << 20, |text| (text.text.to_owned(), text.replaced))
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_member_is_read_and_a_cut_one_is_named() {
        let both = [gzip(b"{\"Records\":["), gzip(b"]}")].concat();
        assert_eq!(text(&both).unwrap().0, "{\"Records\":[]}");
        let twice = [gzip(b"{}"), gzip(b"{}")].concat();
        assert_eq!(text(&twice).unwrap().0, "{}{}");
        for cut in 2..both.len() - 1 {
            if cut != gzip(b"{\"Records\":[").len() {
                assert!(text(&both[..cut]).is_err(), "cut at {cut}");
            }
        }
        let trailing = [gzip(b"{}"), b"garbage".to_vec()].concat();
        assert!(text(&trailing).unwrap_err().starts_with("something else follows"), "{:?}", text(&trailing));
        // The second is no member any more, and its trailer is that of the first, or has its length.
        for second in [&b"{}"[..], b"[]"] {
            let mut damaged = [gzip(b"{}"), gzip(second)].concat();
            damaged[gzip(b"{}").len()] ^= 1;
            assert!(text(&damaged).is_err());
        }
        assert!(text(&gzip(&gzip(b"{}"))).unwrap_err().contains("within gzip"));
        assert_eq!(text(&gzip(b"")).unwrap().0, "");
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = gzip(&vec![b'a'; (2 << 20) + 1]);
        assert!(text(&bomb).unwrap_err().contains("more than 2 MiB"));
        assert!(text(&[bomb.clone(), gzip(b"")].concat()).unwrap_err().contains("more than 2 MiB"));
        assert_eq!(read(&bomb, 3 << 20, |text| text.text.len()).unwrap(), (2 << 20) + 1);
        assert_eq!(text(&gzip(&vec![0xff; 1 << 20])).unwrap_err(), "is no UTF-8");
    }

    #[test]
    fn marks_and_bad_bytes_cost_nothing_else() {
        assert_eq!(text(b"\xef\xbb\xbf{}").unwrap(), ("{}".to_owned(), 0));
        let bad = text(b"{\"a\":\"\xff\",\"b\":\"\xfe\"}").unwrap();
        assert_eq!(bad, ("{\"a\":\"\u{fffd}\",\"b\":\"\u{fffd}\"}".to_owned(), 2));
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
