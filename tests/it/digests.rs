//! Trails with digests as CloudTrail writes them, signed with RSA keys of their own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tawny::store::hex;
use tawny::time::{Instant, SECOND};

use crate::records::failed_sign_in;

pub(crate) const HOUR: i64 = 3_600 * SECOND;
/// 2026-09-01T00:01:31Z, the begin of the first digest.
pub(crate) const START: i64 = 1_788_220_891 * SECOND;

/// The keys of three regions. They take a while to make.
static KEYS: LazyLock<[KeyPair; 3]> = LazyLock::new(|| [(); 3].map(|()| KeyPair::generate(KeySize::Rsa2048).unwrap()));

/// Returns the fingerprint of a key.
fn fingerprint(key: usize) -> String {
    hex(&Sha256::digest(KEYS[key].public_key().as_ref())[..16])
}

/// Returns keys as `aws cloudtrail list-public-keys` prints them: the fingerprint of the first number of each pair, and the value
/// of the second.
pub(crate) fn key_list(keys: &[(usize, usize)]) -> String {
    let key = |(name, value): &(usize, usize)| {
        json!({
            "Value": STANDARD.encode(KEYS[*value].public_key().as_ref()),
            "ValidityStartTime": "2026-08-20T00:00:00+00:00",
            "ValidityEndTime": "2026-10-20T00:00:00+00:00",
            "Fingerprint": fingerprint(*name),
        })
    };
    json!({"PublicKeyList": keys.iter().map(key).collect::<Vec<_>>()}).to_string()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Returns the content of packed bytes.
pub(crate) fn gunzip(packed: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(packed), &mut content).unwrap();
    content
}

fn sign(key: usize, text: &str) -> String {
    let key = &KEYS[key];
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    hex(&signature)
}

/// A trail of one account and region.
#[derive(Debug, Clone)]
pub(crate) struct TrailSpec {
    /// The folders before the account: `AWSLogs/`, with an organization perhaps.
    pub(crate) folder: &'static str,
    pub(crate) account: &'static str,
    pub(crate) region: &'static str,
    /// The log files of each hour.
    pub(crate) hours: Vec<usize>,
    /// The first hour after [`START`].
    pub(crate) first_hour: i64,
    /// The number of the key of each hour; the last one also counts for later hours.
    pub(crate) keys: Vec<usize>,
    pub(crate) is_backfill: bool,
}

impl Default for TrailSpec {
    fn default() -> TrailSpec {
        TrailSpec {
            folder: "AWSLogs/",
            account: "111122223333",
            region: "eu-west-1",
            hours: vec![2, 1, 0, 2, 1],
            first_hour: 0,
            keys: vec![0],
            is_backfill: false,
        }
    }
}

/// The files of trails, by key, as a bucket holds them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) bytes: BTreeMap<String, Vec<u8>>,
    /// The signatures in the metadata of digests.
    pub(crate) signatures: BTreeMap<String, String>,
}

/// Returns a stamp of a file name, and the folders of its day.
fn stamps(time: i64) -> (String, String) {
    let text = Instant::from_micros(time).to_string();
    (text.replace(['-', ':'], ""), text[..10].replace('-', "/"))
}

/// Returns the key of a log file delivered at this time.
pub(crate) fn log_key(spec: &TrailSpec, time: i64, number: usize) -> String {
    let TrailSpec { folder, account, region, .. } = spec;
    let (stamp, day) = stamps(time);
    let minute = format!("{}Z", &stamp[..13]);
    format!("{folder}{account}/CloudTrail/{region}/{day}/{account}_CloudTrail_{region}_{minute}_{number:0>16}.json.gz")
}

/// Returns the key of the digest of an hour after [`START`].
pub(crate) fn digest_key(spec: &TrailSpec, hour: i64) -> String {
    let TrailSpec { folder, account, region, is_backfill, .. } = spec;
    let (stamp, day) = stamps(START + (hour + 1) * HOUR);
    let backfill = if *is_backfill { "_backfill" } else { "" };
    format!(
        "{folder}{account}/CloudTrail-Digest/{region}/{day}/{account}_CloudTrail-Digest_{region}_my_trail_us-east-1_{stamp}\
         {backfill}.json.gz"
    )
}

impl Files {
    pub(crate) fn of(specs: &[TrailSpec]) -> Files {
        let mut files = Files::default();
        for spec in specs {
            files.add(spec);
        }
        files
    }

    fn add(&mut self, spec: &TrailSpec) {
        let mut previous: Option<(String, String, String)> = None;
        for (number, logs) in spec.hours.iter().enumerate() {
            let hour = spec.first_hour + i64::try_from(number).unwrap();
            let begin = START + hour * HOUR;
            let mut log_files = Vec::new();
            for log in 0..*logs {
                let time = begin + HOUR / 4 + i64::try_from(log).unwrap() * 300 * SECOND;
                let index = log + usize::from(spec.is_backfill) * 100;
                let key = log_key(spec, time, index);
                let content = content(spec, time, index);
                log_files.push(json!({
                    "s3Bucket": "logs", "s3Object": key, "hashValue": sha256(&content), "hashAlgorithm": "SHA-256",
                    "newestEventTime": Instant::from_micros(time), "oldestEventTime": Instant::from_micros(time),
                }));
                self.bytes.insert(key, gzip(&content));
            }
            let key = digest_key(spec, hour);
            let signer = *spec.keys.get(number).unwrap_or(spec.keys.last().unwrap());
            let before = |value: Option<&String>| value.map_or(Value::Null, |value| json!(value));
            let parts = previous.as_ref();
            let end = Instant::from_micros(begin + HOUR).to_string();
            let digest = json!({
                "awsAccountId": spec.account,
                "digestStartTime": Instant::from_micros(begin),
                "digestEndTime": end,
                "digestS3Bucket": "logs",
                "digestS3Object": key,
                "digestPublicKeyFingerprint": fingerprint(signer),
                "digestSignatureAlgorithm": "SHA256withRSA",
                "newestEventTime": null,
                "oldestEventTime": null,
                "previousDigestS3Bucket": before(parts.map(|_| "logs".to_owned()).as_ref()),
                "previousDigestS3Object": before(parts.map(|parts| &parts.0)),
                "previousDigestHashValue": before(parts.map(|parts| &parts.1)),
                "previousDigestHashAlgorithm": before(parts.map(|_| "SHA-256".to_owned()).as_ref()),
                "previousDigestSignature": before(parts.map(|parts| &parts.2)),
                "logFiles": log_files,
            })
            .to_string();
            let hash = sha256(digest.as_bytes());
            let last = parts.map_or("null", |parts| parts.2.as_str());
            let signature = sign(signer, &format!("{end}\nlogs/{key}\n{hash}\n{last}"));
            self.bytes.insert(key.clone(), gzip(digest.as_bytes()));
            self.signatures.insert(key.clone(), signature.clone());
            previous = Some((key, hash, signature));
        }
    }

    /// Writes the files below a folder, and the metadata of each digest beside it.
    pub(crate) fn write(&self, folder: &Path) {
        for (key, bytes) in &self.bytes {
            let path = folder.join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            if let Some(signature) = self.signatures.get(key) {
                let head = json!({"ContentLength": bytes.len(), "Metadata": metadata(signature)});
                std::fs::write(format!("{}.metadata.json", path.display()), head.to_string()).unwrap();
            }
        }
    }

    /// Returns the same files without the metadata of digests, as a copy on disk has them.
    pub(crate) fn without_metadata(&self) -> Files {
        Files { bytes: self.bytes.clone(), signatures: BTreeMap::new() }
    }

    /// Replaces the content of a file.
    pub(crate) fn edit(&mut self, key: &str, edit: impl FnOnce(String) -> String) {
        let bytes = self.bytes.get_mut(key).unwrap();
        let content = String::from_utf8(gunzip(bytes)).unwrap();
        let edited = edit(content.clone());
        assert_ne!(edited, content, "the edit of {key} changes nothing");
        *bytes = gzip(edited.as_bytes());
    }

    /// Removes a file and its metadata.
    pub(crate) fn remove(&mut self, key: &str) {
        assert!(self.bytes.remove(key).is_some(), "{key}");
        self.signatures.remove(key);
    }
}

/// Returns the metadata of a digest's object.
pub(crate) fn metadata(signature: &str) -> Value {
    json!({"signature": signature, "signature-algorithm": "SHA256withRSA"})
}

/// Returns the content of a log file.
fn content(spec: &TrailSpec, time: i64, number: usize) -> Vec<u8> {
    let id = format!("{}-{}-{time}-{number}", spec.account, spec.region);
    let mut record = failed_sign_in("anaya", &Instant::from_micros(time).to_string(), &id);
    record["recipientAccountId"] = spec.account.into();
    record["awsRegion"] = spec.region.into();
    json!({ "Records": [record] }).to_string().into_bytes()
}
