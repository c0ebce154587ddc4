//! Digests: each change of a digest or a log file is found, and what is unchanged is verified.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use tawny::error::Status;
use tawny::store::Stores;
use tawny::time::{Instant, Range};
use tawny::trail::Selection;
use tawny::verify::{self, PublicKeys, Request, Verification, VerifyLimits};

use crate::digests::{self, Files, HOUR, START, TrailSpec, digest_key, gunzip, gzip, key_list, log_key};
use crate::s3_server::Server;
use crate::tables::tawny;

mod conversions;
mod forged;

/// The hours of the default trail, with as many log files: 2, 1, 0, 2, 1.
const DIGESTS: u64 = 5;
const OBJECTS: u64 = 6;

fn spec() -> TrailSpec {
    TrailSpec::default()
}

/// Returns the key of the first log file of an hour.
fn first_log(hour: i64) -> String {
    log_key(&spec(), START + hour * HOUR + HOUR / 4, 0)
}

fn keys(pairs: &[(usize, usize)]) -> Arc<PublicKeys> {
    let mut keys = PublicKeys::default();
    keys.add(&key_list(pairs)).unwrap();
    Arc::new(keys)
}

fn time(hour: i64) -> Instant {
    Instant::from_micros(START + hour * HOUR)
}

fn request(folder: &Path) -> Request {
    Request {
        sources: vec![folder.display().to_string()],
        selection: Selection::default(),
        range: Range::default(),
        keys: Some(keys(&[(0, 0)])),
        now: time(5),
        limits: VerifyLimits { threads: 2, in_flight: 4 },
    }
}

fn run(request: &Request) -> Verification {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut last = verify::Progress::default();
    let found = runtime.block_on(verify::verify(&Stores::default(), request, &mut |progress| last = progress)).unwrap();
    assert_eq!(last.done, last.total);
    found
}

/// Verifies files on disk, with the key of the default trail.
fn verified(files: &Files) -> Verification {
    let folder = tempfile::tempdir().unwrap();
    files.write(folder.path());
    run(&request(folder.path()))
}

/// Returns the counts of digests (verified, altered, missing, unchecked) and log files (and unnamed).
fn counts(found: &Verification) -> ([u64; 4], [u64; 5]) {
    let (digests, objects) = (found.digests, found.objects);
    (
        [digests.verified, digests.altered, digests.missing, digests.unchecked],
        [objects.verified, objects.altered, objects.missing, objects.unchecked, objects.unnamed],
    )
}

/// Returns the problems as text.
fn problems(found: &Verification) -> String {
    let lines = found
        .problems
        .iter()
        .map(|problem| format!("{:?} {:?} {}: {}\n", problem.subject, problem.kind, problem.name, problem.reason));
    lines.collect()
}

#[test]
fn an_unchanged_trail_is_verified() {
    let found = verified(&Files::of(&[spec()]));
    assert_eq!(counts(&found), ([DIGESTS, 0, 0, 0], [OBJECTS, 0, 0, 0, 0]), "{found:#?}");
    assert_eq!((found.digests.empty, found.objects.not_yet_covered), (1, 0));
    assert_eq!(found.status(), Status::Done);
    assert_eq!(found.chains.len(), 1);
    let chain = &found.chains[0];
    assert_eq!((chain.trail.as_str(), chain.first, chain.last), ("my_trail", time(0), time(5)));
}

#[test]
fn changes_of_two_regions_are_found_together() {
    let other = TrailSpec { region: "us-east-1", hours: vec![1, 2, 1, 2, 1, 2], ..spec() };
    let mut files = Files::of(&[TrailSpec { hours: vec![2, 1, 2, 2, 1, 2], ..spec() }, other.clone()]);
    for hour in [1, 2] {
        files.remove(&digest_key(&other, hour));
    }
    files.remove(&log_key(&other, START + 4 * HOUR + HOUR / 4, 0));
    files.bytes.get_mut(&first_log(1)).unwrap().extend(gzip(br#"{"Records":[{"eventName":"Forged"}]}"#));
    assert_eq!(counts(&verified(&files)), ([10, 0, 2, 0], [14, 1, 1, 0, 3]));
}

#[test]
fn the_documentation_shows_what_is_printed() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify.md")).unwrap();
    for (selection, code) in [(" --region eu-west-1", 0), ("", 1)] {
        let command = format!("verify {0}/AWSLogs --public-keys {0}/public-keys.json{selection}", "tests/data/signed");
        let output = tawny(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(code), "{command}");
        let shown = format!("$ tawny {command}\n{}", String::from_utf8(output.stdout).unwrap());
        assert!(docs.contains(&shown), "docs/verify.md lacks:\n{shown}");
    }
}

#[test]
fn the_newest_digest_of_a_copy_on_disk_has_no_signature() {
    let files = Files::of(&[spec()]).without_metadata();
    let found = verified(&files);
    assert_eq!(counts(&found), ([DIGESTS - 1, 0, 0, 1], [OBJECTS - 1, 0, 0, 1, 0]));
    assert_eq!(found.status(), Status::Incomplete);
    assert!(found.unchecked[0].reason.contains("S3 metadata"), "{:?}", found.unchecked);
    // Without it, all is verified.
    let folder = tempfile::tempdir().unwrap();
    files.write(folder.path());
    let before = Request { range: Range { from: None, to: Some(time(4)) }, ..request(folder.path()) };
    let found = run(&before);
    assert_eq!(counts(&found), ([DIGESTS - 1, 0, 0, 0], [OBJECTS - 1, 0, 0, 0, 0]), "{found:#?}");
    assert_eq!(found.status(), Status::Done);
}

/// A change, the digests and log files after it (see [`counts`]), and what is said about it.
type Change = (&'static str, fn(&mut Files), [u64; 4], [u64; 5], &'static str);

fn exchange(files: &mut Files, one: &str, other: &str) {
    let first = files.bytes[one].clone();
    let second = files.bytes.insert(other.to_owned(), first).unwrap();
    files.bytes.insert(one.to_owned(), second);
}

const CHANGES: &[Change] = &[
    (
        "altered log file",
        |files| files.edit(&first_log(1), |text| text.replace("anaya", "other")),
        [5, 0, 0, 0],
        [5, 1, 0, 0, 0],
        "its content does not have the hash",
    ),
    (
        "second gzip member",
        |files| files.bytes.get_mut(&first_log(1)).unwrap().extend(gzip(br#"{"Records":[]}"#)),
        [5, 0, 0, 0],
        [5, 1, 0, 0, 0],
        "records were appended",
    ),
    (
        "bytes after the gzip member",
        |files| files.bytes.get_mut(&first_log(1)).unwrap().extend(b"more"),
        [5, 0, 0, 0],
        [5, 1, 0, 0, 0],
        "something else follows",
    ),
    (
        "truncated log file",
        |files| files.bytes.get_mut(&first_log(1)).unwrap().truncate(40),
        [5, 0, 0, 0],
        [5, 1, 0, 0, 0],
        "cut off",
    ),
    ("missing log file", |files| files.remove(&first_log(1)), [5, 0, 0, 0], [5, 0, 1, 0, 0], "names it"),
    (
        "exchanged log files",
        |files| exchange(files, &first_log(0), &first_log(1)),
        [5, 0, 0, 0],
        [4, 2, 0, 0, 0],
        "does not have the hash",
    ),
    (
        "added log file",
        |files| {
            files.bytes.insert(log_key(&spec(), START + HOUR / 2, 77), gzip(br#"{"Records":[]}"#));
        },
        [5, 0, 0, 0],
        [6, 0, 0, 0, 1],
        "no digest names it",
    ),
    (
        "altered digest",
        |files| {
            let hash = |text: &str| {
                let value: Value = serde_json::from_str(text).unwrap();
                value["logFiles"][0]["hashValue"].as_str().unwrap().to_owned()
            };
            files.edit(&digest_key(&spec(), 1), |text| text.replace(&hash(&text), &"0".repeat(64)));
        },
        [4, 1, 0, 0],
        [5, 0, 0, 1, 0],
        "does not have the hash that",
    ),
    (
        "log file and its hash in the digest",
        |files| {
            let before = digests::sha256(&gunzip(&files.bytes[&first_log(4)]));
            files.edit(&first_log(4), |text| text.replace("anaya", "other"));
            let after = digests::sha256(&gunzip(&files.bytes[&first_log(4)]));
            files.edit(&digest_key(&spec(), 4), |text| text.replace(&before, &after));
        },
        [4, 1, 0, 0],
        [5, 0, 0, 1, 0],
        "its signature is not valid",
    ),
    (
        "missing digest",
        |files| files.remove(&digest_key(&spec(), 2)),
        [4, 0, 1, 0],
        [6, 0, 0, 0, 0],
        "names it as the digest before",
    ),
    (
        "two adjacent missing digests",
        |files| {
            files.remove(&digest_key(&spec(), 2));
            files.remove(&digest_key(&spec(), 1));
        },
        [3, 0, 2, 0],
        [5, 0, 0, 0, 1],
        "no digest covers 2026-09-01T01:01:31Z to 2026-09-01T02:01:31Z",
    ),
    (
        "three adjacent missing digests",
        |files| (1..4).for_each(|hour| files.remove(&digest_key(&spec(), hour))),
        [2, 0, 3, 0],
        [3, 0, 0, 0, 3],
        "no digest covers 2026-09-01T01:01:31Z to 2026-09-01T03:01:31Z",
    ),
    (
        "missing first digest",
        |files| files.remove(&digest_key(&spec(), 0)),
        [4, 0, 1, 0],
        [4, 0, 0, 0, 2],
        "names it as the digest before",
    ),
    (
        "doubled digest",
        |files| {
            let bytes = files.bytes[&digest_key(&spec(), 1)].clone();
            files
                .bytes
                .insert(digest_key(&spec(), 1).replace("013131Z", "013132Z").replace("020131Z", "020132Z"), bytes);
        },
        [5, 1, 0, 0],
        [6, 0, 0, 0, 0],
        "which was moved or copied here",
    ),
    (
        "doubled digest, once unpacked",
        |files| {
            let content = gunzip(&files.bytes[&digest_key(&spec(), 1)]);
            files.bytes.insert(digest_key(&spec(), 1).replace(".gz", ""), content);
        },
        [5, 1, 0, 0],
        [6, 0, 0, 0, 0],
        "it is a second file of the digest",
    ),
    (
        "digests in another order",
        |files| exchange(files, &digest_key(&spec(), 1), &digest_key(&spec(), 3)),
        [3, 2, 0, 0],
        [3, 0, 0, 0, 3],
        "which was moved or copied here",
    ),
    (
        "truncated digest",
        |files| files.bytes.get_mut(&digest_key(&spec(), 1)).unwrap().truncate(60),
        [4, 1, 0, 0],
        [5, 0, 0, 0, 1],
        "cut off",
    ),
    (
        "digest of another name in its place",
        |files| {
            files.bytes.insert(digest_key(&spec(), 1), gzip(br#"{"Records":[]}"#));
        },
        [4, 1, 0, 0],
        [5, 0, 0, 0, 1],
        "not a digest",
    ),
    (
        "damaged digest",
        |files| {
            files.bytes.insert(digest_key(&spec(), 1), gzip(br#"{"awsAccountId":"#));
        },
        [4, 1, 0, 0],
        [5, 0, 0, 0, 1],
        "not a digest: its JSON ends too early, at line 1, column 16",
    ),
    (
        "file of another name among digests",
        |files| {
            let key = digest_key(&spec(), 1);
            let folder = key.rsplit_once('/').unwrap().0;
            files.bytes.insert(format!("{folder}/notes.json.gz"), files.bytes[&key].clone());
        },
        [5, 1, 0, 0],
        [6, 0, 0, 0, 0],
        "its name is not that of a digest",
    ),
    (
        "signature of another digest",
        |files| {
            let other = files.signatures[&digest_key(&spec(), 2)].clone();
            files.signatures.insert(digest_key(&spec(), 4), other);
        },
        [4, 1, 0, 0],
        [5, 0, 0, 1, 0],
        "its signature is not valid",
    ),
];

#[test]
fn each_change_is_found() {
    let files = Files::of(&[spec()]);
    for (what, change, digests, objects, said) in CHANGES {
        let mut changed = files.clone();
        change(&mut changed);
        let found = verified(&changed);
        assert_eq!(counts(&found), (*digests, *objects), "{what}: {}{:?}", problems(&found), found.unchecked);
        assert!(problems(&found).contains(said), "{what}: {}", problems(&found));
        assert!(found.chains.iter().all(|chain| chain.account == "111122223333"), "{what}: {:?}", found.chains);
        let is_worse = digests[1] + digests[2] + objects[1] + objects[2] > 0;
        let expected = if is_worse { Status::Findings } else { Status::Incomplete };
        assert_eq!(found.status(), expected, "{what}");
    }
}

/// Changes that keys are needed to find are found without keys, too, if a later digest names the hash.
#[test]
fn hashes_are_checked_without_keys() {
    let files = Files::of(&[spec()]);
    let folder = tempfile::tempdir().unwrap();
    files.write(folder.path());
    let without = Request { keys: None, ..request(folder.path()) };
    let found = run(&without);
    assert_eq!(counts(&found), ([0, 0, 0, DIGESTS], [0, 0, 0, OBJECTS, 0]));
    assert_eq!(found.status(), Status::Incomplete);
    assert!(found.unchecked[0].reason.contains("--public-keys"));
    let mut changed = files;
    changed.edit(&digest_key(&spec(), 1), |text| text.replace("eu-west-1_2026", "eu-west-1_2025"));
    changed.edit(&first_log(3), |text| text.replace("anaya", "other"));
    changed.write(folder.path());
    let found = run(&without);
    assert_eq!(
        (found.digests.altered, found.objects.altered, found.objects.missing),
        (1, 1, 1),
        "{}",
        problems(&found)
    );
    assert_eq!(found.status(), Status::Findings);
}

#[test]
fn keys_of_other_regions_verify_nothing_and_wrong_keys_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    Files::of(&[spec()]).write(folder.path());
    let with = |pairs: &[(usize, usize)]| run(&Request { keys: Some(keys(pairs)), ..request(folder.path()) });
    let other = with(&[(1, 1)]);
    assert_eq!(counts(&other), ([0, 0, 0, DIGESTS], [0, 0, 0, OBJECTS, 0]));
    assert!(other.unchecked[0].reason.contains("list-public-keys --region eu-west-1"), "{:?}", other.unchecked);
    assert_eq!(other.status(), Status::Incomplete);
    // The fingerprint of the right key with the value of another.
    let wrong = with(&[(0, 1)]);
    assert_eq!(counts(&wrong), ([0, DIGESTS, 0, 0], [0, 0, 0, OBJECTS, 0]));
    assert_eq!(wrong.status(), Status::Findings);
    assert_eq!(with(&[(1, 1), (0, 0), (2, 2)]).status(), Status::Done);
}

#[test]
fn keys_rotate_and_later_digests_prove_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let rotating = TrailSpec { keys: vec![0, 0, 1, 1, 2], ..spec() };
    Files::of(&[rotating]).write(folder.path());
    let with = |pairs: &[(usize, usize)]| run(&Request { keys: Some(keys(pairs)), ..request(folder.path()) });
    assert_eq!(with(&[(0, 0), (1, 1), (2, 2)]).status(), Status::Done);
    // The newest digest signs the hash of the one before it, and so on.
    assert_eq!(with(&[(2, 2)]).status(), Status::Done);
    let old = with(&[(0, 0)]);
    assert_eq!(counts(&old), ([2, 0, 0, 3], [3, 0, 0, 3, 0]), "{:?}", old.unchecked);
}

/// An organisation's trail: several accounts and regions, each with the key of its region, and late log files.
fn organisation() -> Vec<TrailSpec> {
    let folder = "audit/AWSLogs/o-exampleorg1/";
    let one = |account, region, key| TrailSpec { folder, account, region, keys: vec![key], ..spec() };
    let mut specs = Vec::new();
    for account in ["111122223333", "444455556666"] {
        for (region, key) in [("eu-west-1", 0), ("us-east-1", 1), ("ap-southeast-2", 2)] {
            specs.push(one(account, region, key));
        }
    }
    specs.push(TrailSpec {
        is_backfill: true,
        hours: vec![1, 2],
        first_hour: 1,
        ..one("111122223333", "us-east-1", 1)
    });
    specs
}

#[test]
fn chains_of_an_organisation_are_verified_apart() {
    let specs = organisation();
    let all = keys(&[(0, 0), (1, 1), (2, 2)]);
    let mut files = Files::of(&specs);
    let folder = tempfile::tempdir().unwrap();
    files.write(folder.path());
    let request = Request { keys: Some(all), ..request(folder.path()) };
    let found = run(&request);
    assert_eq!(counts(&found), ([6 * DIGESTS + 2, 0, 0, 0], [6 * OBJECTS + 3, 0, 0, 0, 0]), "{}", problems(&found));
    assert_eq!((found.chains.len(), found.status()), (7, Status::Done));
    let selected = Selection { accounts: vec!["444455556666".to_owned()], ..Selection::default() };
    let one = run(&Request { selection: selected, ..request.clone() });
    assert_eq!((one.chains.len(), one.status()), (3, Status::Done));
    // A missing backfill digest is named by the next one.
    files.remove(&digest_key(&specs[6], 1));
    let other = tempfile::tempdir().unwrap();
    files.write(other.path());
    let found = run(&Request { sources: vec![other.path().display().to_string()], ..request });
    assert_eq!(counts(&found), ([6 * DIGESTS + 1, 0, 1, 0], [6 * OBJECTS + 2, 0, 0, 0, 1]), "{}", problems(&found));
}

#[test]
fn only_the_range_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::of(&[spec()]);
    files.remove(&digest_key(&spec(), 0));
    files.edit(&first_log(4), |text| text.replace("anaya", "other"));
    files.write(folder.path());
    let within = |from, to| run(&Request { range: Range { from, to }, ..request(folder.path()) });
    assert_eq!(within(None, None).status(), Status::Findings);
    let found = within(Some(time(1)), Some(time(4)));
    assert_eq!(counts(&found), ([3, 0, 0, 0], [3, 0, 0, 0, 0]), "{}", problems(&found));
    assert_eq!(found.status(), Status::Done);
    assert_eq!(counts(&within(Some(time(1)), None)).1, [3, 1, 0, 0, 0]);
    assert_eq!(within(None, Some(time(4))).digests.missing, 1);
    // The digests end before the range does, and the clock says that more should exist.
    let late =
        Request { range: Range { from: Some(time(1)), to: Some(time(20)) }, now: time(15), ..request(folder.path()) };
    let found = run(&late);
    assert_eq!(found.gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>(), [(time(5), time(15))]);
}

#[test]
fn times_without_digests_are_reported() {
    let later = TrailSpec { first_hour: 9, hours: vec![1, 1], ..spec() };
    let mut files = Files::of(&[spec(), later]);
    let key = |hour, number| log_key(&spec(), START + hour * HOUR, number);
    // In the gap, within the digests, after the last digest, long after it, before the first, and in another account.
    for key in [key(7, 1), key(10, 2), key(11, 3), key(-3, 4), key(1, 5).replace("111122223333", "444455556666")] {
        files.bytes.insert(key, gzip(br#"{"Records":[]}"#));
    }
    let found = verified(&files);
    assert_eq!(found.gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>(), [(time(5), time(9))]);
    assert_eq!(counts(&found), ([7, 0, 0, 0], [8, 0, 0, 0, 4]), "{}", problems(&found));
    assert_eq!((found.objects.not_yet_covered, found.status()), (1, Status::Incomplete));
    let said = problems(&found);
    assert!(said.contains("no digests of its account") && said.contains("the first digest"), "{said}");
    files.bytes.insert(key(30, 6), gzip(br#"{"Records":[]}"#));
    let found = verified(&files);
    assert_eq!(
        found.gaps.last().map(|gap| (gap.from, gap.to)),
        Some((time(11), Instant::from_micros(START - 31_000_000 + 30 * HOUR)))
    );
    assert!(problems(&found).contains("the last digest"), "{}", problems(&found));
}

#[test]
fn copies_with_fewer_folders_are_verified() {
    let files = Files::of(&[spec()]);
    for (cut, is_unpacked) in
        [("AWSLogs/111122223333/", false), ("AWSLogs/111122223333/CloudTrail", true), ("AWSLogs/", false)]
    {
        let mut copy = Files::default();
        for (key, bytes) in &files.bytes {
            let place = format!("copy/{}", key.strip_prefix(cut).unwrap());
            let (place, bytes) =
                if is_unpacked { (place.replace(".gz", ""), gunzip(bytes)) } else { (place, bytes.clone()) };
            copy.signatures.extend(files.signatures.get(key).map(|signature| (place.clone(), signature.clone())));
            copy.bytes.insert(place, bytes);
        }
        let found = verified(&copy);
        assert_eq!(counts(&found), ([DIGESTS, 0, 0, 0], [OBJECTS, 0, 0, 0, 0]), "{cut} {}", problems(&found));
        assert_eq!(found.status(), Status::Done, "{cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Some bytes of a gzip header have no effect on the content.
    #[test]
    fn any_flipped_bit_is_found_or_changes_nothing(file in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let short = TrailSpec { hours: vec![1, 1, 0], ..spec() };
        let mut files = Files::of(&[short]);
        let key = file.get(&files.bytes.keys().cloned().collect::<Vec<_>>()).clone();
        let bytes = files.bytes.get_mut(&key).unwrap();
        let content = gunzip(bytes);
        let at = byte.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut after = Vec::new();
        let read = std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes.as_slice()), &mut after);
        let is_same = read.is_ok() && after == content;
        let found = verified(&files);
        let status = found.status();
        prop_assert_eq!(status, if is_same { Status::Done } else { Status::Findings }, "{} byte {}: {:?}", key, at, found);
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_command_prints_text_and_json_and_sets_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::of(&[spec()]);
    let trail = folder.path().join("trail");
    files.write(&trail);
    let [trail, keys] = [trail, folder.path().join("keys.json")].map(|path| path.display().to_string());
    std::fs::write(&keys, key_list(&[(0, 0)])).unwrap();
    let whole = tawny(&["verify", &trail, "--public-keys", &keys, "--format", "json"]);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    let value = json(&whole);
    assert_eq!((&value["objects"]["verified"], &value["digests"]["verified"]), (&OBJECTS.into(), &DIGESTS.into()));
    assert_eq!(value["problems"], Value::Array(Vec::new()));
    let unsigned = tawny(&["verify", &trail]);
    assert_eq!(unsigned.status.code(), Some(3));
    assert!(String::from_utf8(unsigned.stdout).unwrap().contains("--public-keys FILE"));
    files.edit(&first_log(1), |text| text.replace("anaya", "other"));
    files.write(Path::new(&trail));
    let altered = tawny(&["verify", &trail, "--public-keys", &keys]);
    assert_eq!(altered.status.code(), Some(1));
    let text = String::from_utf8(altered.stdout).unwrap();
    assert!(text.contains("altered log file: ") && text.contains(&first_log(1)), "{text}");
    for (arguments, code) in [
        (["verify", "-", "--public-keys", &keys], 2),
        (["verify", "rules", "--public-keys", &keys], 3),
        (["verify", &trail, "--public-keys", "Cargo.toml"], 2),
        (["verify", "no/such/folder", "--public-keys", &keys], 2),
    ] {
        assert_eq!(tawny(&arguments).status.code(), Some(code), "{arguments:?}");
    }
}

/// Stores files in the bucket `logs`, with the metadata of digests.
fn put(server: &Server, files: &Files) {
    for (key, bytes) in &files.bytes {
        server.put("logs", key, bytes);
        if let Some(signature) = files.signatures.get(key) {
            let metadata = digests::metadata(signature);
            let pairs = metadata.as_object().unwrap().iter();
            server.set_metadata(
                "logs",
                key,
                pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())),
            );
        }
    }
}

#[test]
fn digests_in_s3_have_their_signatures_in_metadata() {
    let server = Server::start();
    let mut files = Files::of(&organisation());
    put(&server, &files);
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json").display().to_string();
    std::fs::write(&keys, key_list(&[(0, 0), (1, 1), (2, 2)])).unwrap();
    let arguments = ["verify", "s3://logs/audit", "--public-keys", &keys, "--format", "json"];
    let whole = server.tawny(&arguments);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    assert_eq!(json(&whole)["objects"]["verified"], Value::from(6 * OBJECTS + 3));
    let day =
        server.tawny(&[&arguments[..], &["--from", "2026-09-01T02:00:00Z", "--to", "2026-09-01T04:00:00Z"]].concat());
    assert_eq!(day.status.code(), Some(0), "{day:?}");
    // Altered with its metadata kept, as someone with access to the bucket would.
    let digest = digest_key(&organisation()[0], 4);
    files.edit(&digest, |text| text.replace("\"digestStartTime\":\"2026", "\"digestStartTime\":\"2025"));
    put(&server, &files);
    let altered = server.tawny(&arguments);
    assert_eq!(altered.status.code(), Some(1), "{altered:?}");
    assert_eq!(json(&altered)["problems"][0]["name"], Value::from(format!("s3://logs/{digest}")));
}
