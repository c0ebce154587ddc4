//! Flips one bit of a file. The findings of other records stay the same, or the run reports that it is incomplete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::tables::{self, tawny};

/// Findings, a line of JSON each.
fn findings(output: &Output) -> BTreeSet<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

/// Returns the identities of the records that are in only one of two lists.
pub(crate) fn changed(before: &[Value], after: &[Value]) -> BTreeSet<String> {
    let of = |records: &[Value]| {
        let mut counts: BTreeMap<String, i32> = BTreeMap::new();
        for record in records {
            *counts.entry(record.to_string()).or_default() += 1;
        }
        counts
    };
    let (before_counts, after_counts) = (of(before), of(after));
    let is_new = |record: &&Value| before_counts.get(&record.to_string()) != after_counts.get(&record.to_string());
    let ids = before.iter().chain(after).filter(is_new);
    ids.map(|record| record["eventID"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Panics where findings differ that hold none of the changed records.
pub(crate) fn check(what: &str, before: &Output, after: &Output, changed: &BTreeSet<String>) {
    let (before, after) = (findings(before), findings(after));
    for finding in before.symmetric_difference(&after) {
        let finding: Value = serde_json::from_str(finding).unwrap();
        let ids = finding["event_ids"].as_array().unwrap();
        let holds_one = ids.iter().any(|id| changed.contains(id.as_str().unwrap()));
        assert!(holds_one, "{what}: no record of {finding} has changed, but {changed:?}");
    }
}

/// Returns the records that a query of all columns of a file reads, where it reads all of them.
pub(crate) fn records_in(file: &Path) -> Option<Vec<Value>> {
    let output = tawny(&["query", "SELECT * FROM cloudtrail", file.to_str().unwrap(), "--format", "json"]);
    (output.status.code() == Some(0)).then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// Returns the exit code and output of a command that ended without a panic, with a documented exit code.
fn ran(what: &str, output: Output) -> (i32, Output) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or_else(|| panic!("{what}: {:?} {said}", output.status));
    assert!(!said.contains("panicked") && [0, 2, 3].contains(&code), "{what}: {code} {said}");
    (code, output)
}

fn hunt(folder: &Path) -> Output {
    tawny(&["hunt", folder.to_str().unwrap(), "--format", "jsonl"])
}

#[test]
fn flipped_bit_in_a_raw_object_changes_no_other_record() {
    let folder = tempfile::tempdir().unwrap();
    let records = tables::records();
    let whole = json!({ "Records": records }).to_string().into_bytes();
    let packed = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &whole).unwrap();
        encoder.finish().unwrap()
    };
    let mut compared = 0;
    for (name, bytes) in [("a.json", &whole), ("a.json.gz", &packed)] {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let before = hunt(folder.path());
        assert_eq!(before.status.code(), Some(0));
        assert!(findings(&before).len() > 1);
        for number in 0..12 {
            let mut flipped = bytes.clone();
            let at = (number * 7_919 + 13) % bytes.len();
            flipped[at] ^= 1 << (number % 8);
            std::fs::write(&file, &flipped).unwrap();
            let what = format!("{name}, bit {} of byte {at}", number % 8);
            let (code, after) = ran(&what, hunt(folder.path()));
            if code != 0 {
                continue;
            }
            compared += 1;
            let now: Vec<Value> = if name == "a.json" {
                // A hunt does not parse a record that cannot match, so damage in it changes nothing.
                let text: Option<Value> = serde_json::from_str(&String::from_utf8_lossy(&flipped)).ok();
                text.and_then(|text| text["Records"].as_array().cloned()).unwrap_or_else(|| records.clone())
            } else {
                // Packed data have a checksum: such a flip is in a part that does not describe the records.
                records.clone()
            };
            check(&what, &before, &after, &changed(&records, &now));
        }
        std::fs::remove_file(&file).unwrap();
    }
    assert!(compared > 4, "{compared}");
}

#[test]
fn flipped_bit_in_a_parquet_file_changes_no_other_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.parquet");
    tables::write_as_spelt(&file, &tables::records());
    let bytes = std::fs::read(&file).unwrap();
    let (before, read_before) = (hunt(folder.path()), records_in(&file).unwrap());
    assert!(findings(&before).len() > 1);
    let mut compared = 0;
    for number in 0..16 {
        let mut flipped = bytes.clone();
        // Mostly in pages; the last quarter in the footer.
        let at = if number % 4 == 3 { bytes.len() - 9 - number * 97 } else { 4 + (number * 7_919) % (bytes.len() / 2) };
        flipped[at] ^= 1 << (number % 8);
        std::fs::write(&file, &flipped).unwrap();
        let what = format!("bit {} of byte {at} of {}", number % 8, bytes.len());
        let (code, after) = ran(&what, hunt(folder.path()));
        if code != 0 {
            continue;
        }
        // A hunt does not read all columns. The query fails if the damage is in another column.
        if let Some(read_now) = records_in(&file) {
            compared += 1;
            check(&what, &before, &after, &changed(&read_before, &read_now));
        }
    }
    assert!(compared > 2, "{compared}");
}
