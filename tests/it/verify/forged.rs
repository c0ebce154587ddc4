//! Digests and log files that someone with write access to the bucket adds or changes hide nothing.

use serde_json::{Value, json};
use tawny::error::Status;
use tawny::time::{Instant, Range, SECOND};
use tawny::verify::{Request, Verification};

use super::{OBJECTS, counts, first_log, problems, request, run, spec, time};
use crate::digests::{self, Files, HOUR, START, TrailSpec, digest_key, gunzip, gzip, log_key};

/// Verifies files on disk within hours of the default trail.
fn within(files: &Files, from: Option<i64>, to: Option<i64>) -> Verification {
    at(files, Range { from: from.map(time), to: to.map(time) }, time(5))
}

fn at(files: &Files, range: Range, now: Instant) -> Verification {
    let folder = tempfile::tempdir().unwrap();
    files.write(folder.path());
    run(&Request { range, now, ..request(folder.path()) })
}

fn change(files: &mut Files, hour: i64, change: impl FnOnce(&mut Value)) {
    files.edit(&digest_key(&spec(), hour), |text| {
        let mut digest: Value = serde_json::from_str(&text).unwrap();
        change(&mut digest);
        digest.to_string()
    });
}

fn records() -> Vec<u8> {
    gzip(br#"{"Records":[]}"#)
}

/// Adds a digest without a signature that names log files with hashes, as a copy of the last one of the default trail.
fn forge(files: &mut Files, hour: i64, named: &[(&str, String)]) {
    let mut digest: Value = serde_json::from_slice(&gunzip(&files.bytes[&digest_key(&spec(), 4)])).unwrap();
    let key = digest_key(&spec(), hour);
    digest["digestS3Object"] = json!(key);
    digest["digestStartTime"] = json!(time(hour));
    digest["digestEndTime"] = json!(time(hour + 1));
    let log = |(key, hash): &(&str, String)| json!({"s3Bucket": "logs", "s3Object": key, "hashValue": hash, "hashAlgorithm": "SHA-256"});
    digest["logFiles"] = named.iter().map(log).collect();
    files.bytes.insert(key, gzip(digest.to_string().as_bytes()));
}

#[test]
fn times_in_altered_digests_do_not_take_them_out_of_the_range() {
    for stamp in ["2020-01-01", "2030-01-01"] {
        let mut files = Files::of(&[spec()]);
        files.edit(&first_log(1), |text| text.replace("anaya", "other"));
        change(&mut files, 1, |digest| {
            digest["digestStartTime"] = json!(format!("{stamp}T00:01:31Z"));
            digest["digestEndTime"] = json!(format!("{stamp}T01:01:31Z"));
        });
        let found = within(&files, Some(0), Some(4));
        assert_eq!(counts(&found), ([3, 1, 0, 0], [4, 0, 0, 1, 0]), "{}", problems(&found));
        assert_eq!(found.status(), Status::Findings);
    }
}

#[test]
fn altered_digests_do_not_hide_missing_ones() {
    let mut files = Files::of(&[spec()]);
    let first: Value = serde_json::from_slice(&gunzip(&files.bytes[&digest_key(&spec(), 2)])).unwrap();
    change(&mut files, 3, |digest| {
        for name in ["previousDigestS3Object", "previousDigestHashValue", "previousDigestSignature"] {
            digest[name] = first[name].clone();
        }
        digest["digestStartTime"] = json!(time(2));
    });
    files.remove(&digest_key(&spec(), 2));
    let found = within(&files, Some(0), Some(4));
    assert_eq!(counts(&found).0, [2, 1, 1, 0], "{}", problems(&found));
}

#[test]
fn the_end_of_an_unsigned_digest_is_that_in_its_name() {
    let mut files = Files::of(&[spec()]).without_metadata();
    change(&mut files, 4, |digest| digest["digestEndTime"] = json!("2026-09-01T05:01:32Z"));
    let found = within(&files, None, None);
    assert_eq!(counts(&found).0, [4, 1, 0, 0], "{}", problems(&found));
    files.bytes.insert(digest_key(&spec(), 1).replace("20260901T020131Z", "other"), gzip(b"{}"));
    let found = within(&files, Some(0), Some(4));
    assert!(problems(&found).contains("_other.json.gz: "), "{}", problems(&found));
}

#[test]
fn forged_digests_after_the_range_name_nothing() {
    let mut files = Files::of(&[spec()]);
    let planted = log_key(&spec(), START + HOUR / 2, 77);
    files.bytes.insert(planted.clone(), records());
    forge(&mut files, 5, &[(&planted, digests::sha256(br#"{"Records":[]}"#))]);
    let found = within(&files, Some(0), Some(4));
    assert_eq!(counts(&found), ([4, 0, 0, 0], [OBJECTS - 1, 0, 0, 1, 0]), "{}", problems(&found));
    assert_eq!(found.status(), Status::Incomplete);
}

#[test]
fn every_file_that_a_hunt_would_read_is_named_or_reported() {
    let log = first_log(1);
    let folder = log.rsplit_once('/').unwrap().0;
    let digest = digest_key(&spec(), 900);
    let digest_name = digest.rsplit_once('/').unwrap().1;
    for planted in [
        format!("{folder}/x.json.gz"),
        format!("{folder}/{digest_name}"),
        format!("{folder}/x.json.gz.metadata.json"),
        log.replace("_CloudTrail_", "_CloudTrail-Other_"),
        log.replace("_20260901T", "_20200901T"),
        log.replace("/CloudTrail/", "/CloudTrail-NetworkActivity/")
            .replace("_CloudTrail_", "_CloudTrail-NetworkActivity_"),
        "x.json".to_owned(),
    ] {
        let mut files = Files::of(&[spec()]);
        files.bytes.insert(planted.clone(), records());
        for found in [within(&files, None, None), within(&files, Some(0), Some(4))] {
            assert_eq!(
                (found.objects.unnamed, found.status()),
                (1, Status::Incomplete),
                "{planted}: {}",
                problems(&found)
            );
        }
    }
    let mut files = Files::of(&[spec()]);
    files.bytes.insert("AWSLogs/111122223333/Config/eu-west-1/2026/9/1/x.json.gz".to_owned(), records());
    assert_eq!(within(&files, None, None).status(), Status::Done);
}

#[test]
fn only_recent_files_wait_for_their_digest() {
    let mut files = Files::of(&[spec()]);
    for minutes in [-10, 30] {
        files.bytes.insert(log_key(&spec(), START + 5 * HOUR + minutes * 60 * SECOND, 77), records());
    }
    let recent = at(&files, Range::default(), time(6));
    assert_eq!((recent.objects.not_yet_covered, recent.status()), (2, Status::Done), "{}", problems(&recent));
    let late = at(&files, Range::default(), time(24));
    assert_eq!((late.objects.unnamed, late.status()), (2, Status::Incomplete), "{}", problems(&late));
}

#[test]
fn forged_digests_do_not_make_genuine_files_altered() {
    let mut files = Files::of(&[spec()]);
    // Not yet covered, and covered.
    let fresh = log_key(&spec(), START + 5 * HOUR + HOUR / 2, 1);
    files.bytes.insert(fresh.clone(), records());
    forge(&mut files, 5, &[(&fresh, "0".repeat(64)), (&first_log(1), "0".repeat(64))]);
    let found = within(&files, None, None);
    assert_eq!((found.objects.altered, found.objects.verified), (0, OBJECTS), "{}", problems(&found));
    assert_eq!((found.objects.unchecked, found.status()), (1, Status::Incomplete));
}

#[test]
fn a_valid_signature_counts_more_than_the_claim_of_a_forged_digest() {
    let mut files = Files::of(&[spec()]);
    forge(&mut files, 5, &[]);
    change(&mut files, 5, |digest| {
        digest["previousDigestS3Object"] = json!(digest_key(&spec(), 4));
        digest["previousDigestHashValue"] = json!("0".repeat(64));
    });
    let found = within(&files, None, None);
    assert_eq!(counts(&found).0, [5, 0, 0, 1], "{}", problems(&found));
    // On disk, the signature is in another digest.
    let mut copy = Files::of(&[TrailSpec { hours: vec![1; 4], ..spec() }]).without_metadata();
    forge_copy(&mut copy);
    let found = within(&copy, None, None);
    assert_eq!(counts(&found).0, [3, 0, 0, 2], "{}", problems(&found));
}

/// Adds a digest after the last of four that names another hash of the last but one.
fn forge_copy(files: &mut Files) {
    let mut digest: Value = serde_json::from_slice(&gunzip(&files.bytes[&digest_key(&spec(), 3)])).unwrap();
    let key = digest_key(&spec(), 4);
    digest["digestS3Object"] = json!(key);
    digest["digestStartTime"] = json!(time(4));
    digest["digestEndTime"] = json!(time(5));
    digest["previousDigestHashValue"] = json!("0".repeat(64));
    digest["logFiles"] = json!([]);
    files.bytes.insert(key, gzip(digest.to_string().as_bytes()));
}

#[test]
fn each_chain_must_reach_both_ends_of_the_range() {
    let gaps = |found: &Verification| found.gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>();
    let files = Files::of(&[spec()]);
    let found = within(&files, Some(-3), None);
    assert_eq!((gaps(&found), found.status()), (vec![(time(-3), time(0))], Status::Incomplete));
    // Another trail of the same account and region goes on.
    let mut two = Files::of(&[TrailSpec { hours: vec![1; 9], ..spec() }]);
    for (key, bytes) in files.bytes {
        two.bytes.insert(format!("other/{key}"), bytes);
    }
    two.signatures.extend(files.signatures.into_iter().map(|(key, signature)| (format!("other/{key}"), signature)));
    let found = at(&two, Range::default(), time(9));
    assert_eq!(gaps(&found).iter().map(|(from, _)| *from).collect::<Vec<_>>(), [time(5)], "{}", problems(&found));
}
