//! The content of one digest.
//!
//! Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-custom-validation.html>

use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::error::Category;

use crate::raw::{self, ReadError};
use crate::store::hex;
use crate::time::{Instant, parse_event_time};

/// A SHA-256 hash.
pub(super) type Sha256Hash = [u8; 32];

/// Returns the SHA-256 hash of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> Sha256Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Returns the bytes of a text of hexadecimal digits.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

fn hash_of_hex(text: &str) -> Option<Sha256Hash> {
    from_hex(text)?.try_into().ok()
}

/// A digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    /// The bucket and key that it was delivered to.
    pub(super) bucket: String,
    pub(super) key: String,
    /// The span of deliveries that it covers.
    pub(super) start: Instant,
    pub(super) end: Instant,
    /// The end as the digest writes it, for the signature.
    end_text: String,
    /// The fingerprint of the key that signed it.
    pub(super) fingerprint: String,
    pub(super) algorithm: String,
    /// The digest before it. `None` for the first digest after validation was turned on.
    pub(super) previous: Option<PreviousDigest>,
    pub(super) files: Vec<NamedFile>,
    /// The hash of its content.
    pub(super) hash: Sha256Hash,
}

/// The claim of a digest about the digest before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PreviousDigest {
    pub(super) key: String,
    /// `None` where the hash algorithm is unknown.
    pub(super) hash: Option<Sha256Hash>,
    pub(super) signature: String,
}

/// A log file that a digest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedFile {
    pub(super) bucket: String,
    pub(super) key: String,
    /// The hash of its content without compression. `None` where the hash algorithm is unknown.
    pub(super) hash: Option<Sha256Hash>,
}

/// Why a file is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DigestError {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("not a digest: {0}")]
    Form(String),
}

const HASH_ALGORITHM: &str = "SHA-256";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DigestJson {
    digest_start_time: String,
    digest_end_time: String,
    digest_s3_bucket: String,
    digest_s3_object: String,
    digest_public_key_fingerprint: String,
    digest_signature_algorithm: String,
    previous_digest_s3_object: Option<String>,
    previous_digest_hash_value: Option<String>,
    previous_digest_hash_algorithm: Option<String>,
    previous_digest_signature: Option<String>,
    log_files: Vec<LogFileJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogFileJson {
    s3_bucket: String,
    s3_object: String,
    hash_value: String,
    hash_algorithm: String,
}

/// Returns why the bytes of a file are not a digest, given the error of reading them as one.
fn json_problem(content: &[u8], error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        _ if content.trim_ascii().is_empty() => "the file is empty".to_owned(),
        Category::Eof => format!("its JSON ends too early, at {place}"),
        Category::Data => "it lacks a member of a digest, or one is not of the right kind".to_owned(),
        Category::Syntax | Category::Io => format!("it is not valid JSON from {place} on"),
    }
}

impl Digest {
    /// Reads a digest from the bytes of its file.
    pub(super) fn read(bytes: &[u8], max_bytes: usize) -> Result<Digest, DigestError> {
        raw::content(bytes, max_bytes, Digest::parse)?
    }

    fn parse(content: &[u8]) -> Result<Digest, DigestError> {
        let form = |reason: &dyn std::fmt::Display| DigestError::Form(reason.to_string());
        let json: DigestJson = serde_json::from_slice(content).map_err(|error| form(&json_problem(content, &error)))?;
        let time =
            |name: &str, text: &str| parse_event_time(text).ok_or_else(|| form(&format!("`{name}` is not a time")));
        let hash = |algorithm: &str, value: &str| match hash_of_hex(value) {
            _ if algorithm != HASH_ALGORITHM => Ok(None),
            Some(hash) => Ok(Some(hash)),
            None => Err(form(&"a hash is not a SHA-256 in hexadecimal digits")),
        };
        let previous = match (json.previous_digest_s3_object, json.previous_digest_signature) {
            (None, None) => None,
            (Some(key), Some(signature)) => {
                let algorithm = json.previous_digest_hash_algorithm.unwrap_or_default();
                let value = json.previous_digest_hash_value.unwrap_or_default();
                Some(PreviousDigest { key, hash: hash(&algorithm, &value)?, signature })
            }
            _ => return Err(form(&"it has only one of the key and the signature of the digest before it")),
        };
        let file = |file: LogFileJson| {
            let hash = hash(&file.hash_algorithm, &file.hash_value)?;
            Ok(NamedFile { bucket: file.s3_bucket, key: file.s3_object, hash })
        };
        Ok(Digest {
            start: time("digestStartTime", &json.digest_start_time)?,
            end: time("digestEndTime", &json.digest_end_time)?,
            bucket: json.digest_s3_bucket,
            key: json.digest_s3_object,
            end_text: json.digest_end_time,
            fingerprint: json.digest_public_key_fingerprint,
            algorithm: json.digest_signature_algorithm,
            previous,
            files: json.log_files.into_iter().map(file).collect::<Result<_, DigestError>>()?,
            hash: sha256(content),
        })
    }

    /// Returns the text that the signature signs.
    pub(super) fn signed_text(&self) -> String {
        let previous = self.previous.as_ref().map_or("null", |previous| previous.signature.as_str());
        format!("{}\n{}/{}\n{}\n{previous}", self.end_text, self.bucket, self.key, hex(&self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user guide's example of an empty digest, with shorter values.
    const EMPTY: &str = r#"{"awsAccountId":"111122223333","digestStartTime":"2015-08-20T17:01:31Z",
        "digestEndTime":"2015-08-20T18:01:31Z","digestS3Bucket":"example-bucket-name","digestS3Object":"AWSLogs/x.json.gz",
        "digestPublicKeyFingerprint":"31e8b5433410dfb61a9dc45cc65b22ff","digestSignatureAlgorithm":"SHA256withRSA",
        "newestEventTime":null,"oldestEventTime":null,"previousDigestS3Bucket":"example-bucket-name",
        "previousDigestS3Object":"AWSLogs/w.json.gz",
        "previousDigestHashValue":"ed96c4bac9eaa8fe9716ca0e515da51938be651b1db31d781956416a9d05cdfa",
        "previousDigestHashAlgorithm":"SHA-256","previousDigestSignature":"8270","logFiles":[]}"#;

    #[test]
    fn the_signed_text_has_end_place_hash_and_previous_signature() {
        let digest = Digest::read(EMPTY.as_bytes(), 1 << 20).unwrap();
        assert!(digest.files.is_empty());
        let hash = hex(&sha256(EMPTY.as_bytes()));
        let expected = format!("2015-08-20T18:01:31Z\nexample-bucket-name/AWSLogs/x.json.gz\n{hash}\n8270");
        assert_eq!(digest.signed_text(), expected);
        let first = EMPTY.replace("\"8270\"", "null").replace("\"AWSLogs/w.json.gz\"", "null");
        let digest = Digest::read(first.as_bytes(), 1 << 20).unwrap();
        assert_eq!(digest.previous, None);
        assert!(digest.signed_text().ends_with("\nnull"));
    }

    #[test]
    fn other_files_are_refused() {
        for text in [
            "{}".to_owned(),
            "{\"Records\": []}".to_owned(),
            EMPTY.replace("\"8270\"", "null"),
            EMPTY.replace("ed96", "xx96"),
            EMPTY.replace("2015-08-20T17:01:31Z", "soon"),
            EMPTY[..EMPTY.len() - 1].to_owned(),
        ] {
            assert!(matches!(Digest::read(text.as_bytes(), 1 << 20), Err(DigestError::Form(_))), "{text}");
        }
        assert!(matches!(Digest::read(&[0x1f, 0x8b, 8], 1 << 20), Err(DigestError::Read(_))));
        // A hash of an unknown kind is not wrong. It cannot be checked.
        let digest = Digest::read(EMPTY.replace("SHA-256", "SHA-512").as_bytes(), 1 << 20).unwrap();
        assert_eq!(digest.previous.unwrap().hash, None);
    }

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(from_hex("00fFa1"), Some(vec![0, 255, 161]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("0g"), None);
        assert_eq!(from_hex("é"), None);
    }
}
