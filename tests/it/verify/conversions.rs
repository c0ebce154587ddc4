//! Conversions that compare objects with digests, and what lakes say about it.

use serde_json::Value;

use super::{DIGESTS, OBJECTS, first_log, json, spec};
use crate::digests::{Files, digest_key, gzip, key_list};
use crate::tables::tawny;

/// A folder with a trail, public keys and a lake.
struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new(files: &Files) -> Place {
        let place = Place { home: tempfile::tempdir().unwrap() };
        std::fs::write(place.path("keys.json"), key_list(&[(0, 0)])).unwrap();
        files.write(&place.home.path().join("trail"));
        place
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Writes one file again. The others keep their time of change, by which a conversion knows them.
    fn restore(&self, files: &Files, key: &str) {
        std::fs::write(self.home.path().join("trail").join(key), &files.bytes[key]).unwrap();
    }

    /// Converts the trail and returns the exit code and the messages.
    fn convert(&self, keys: &[&str]) -> (Option<i32>, String) {
        let [trail, lake] = ["trail", "lake"].map(|name| self.path(name));
        let output = tawny(&[&["convert", &trail, "--lake", &lake, "--verify", &trail], keys].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Returns what the first finding of a hunt says about its objects.
    fn are_findings_verified(&self) -> Value {
        let rule = "AnalysisType: rule\nRuleID: All\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
            Detection: [{Key: eventName, Condition: Exists}]\n";
        std::fs::write(self.path("all.yml"), rule).unwrap();
        let options = ["--rules", &self.path("all.yml"), "--format", "json"];
        let found = json(&tawny(&[&["hunt", &self.path("lake")][..], &options].concat()));
        found[0]["from_verified_objects"].clone()
    }

    fn inspect(&self) -> Value {
        json(&tawny(&["inspect", &self.path("lake"), "--format", "json"]))
    }
}

#[test]
fn altered_objects_are_not_converted_and_the_lake_records_verified_ones() {
    let whole = Files::of(&[spec()]);
    let mut files = whole.clone();
    files.bytes.get_mut(&first_log(1)).unwrap().extend(gzip(br#"{"Records":[{"eventName":"Forged"}]}"#));
    let unnamed = first_log(3).replace("0000000000000000", "0000000000000077");
    files.bytes.insert(unnamed, gzip(br#"{"Records":[{"eventName":"Planted"}]}"#));
    let place = Place::new(&files);
    let keys = place.path("keys.json");
    let (code, said) = place.convert(&["--public-keys", &keys]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("altered: records were appended"), "{said}");
    assert!(said.contains(&format!("verified: {} of {OBJECTS} converted objects", OBJECTS - 1)), "{said}");
    assert!(said.contains(&format!("digests: {DIGESTS} verified, 0 altered, 0 missing, 0 not checked")), "{said}");
    let inspected = place.inspect();
    assert_eq!(
        (&inspected["verified_objects"]["verified"], &inspected["verified_objects"]["objects"]),
        (&(OBJECTS - 1).into(), &OBJECTS.into())
    );
    let names = tawny(&[
        "query",
        "SELECT DISTINCT eventName FROM cloudtrail ORDER BY 1",
        &place.path("lake"),
        "--format",
        "csv",
    ]);
    assert_eq!(String::from_utf8(names.stdout).unwrap(), "eventName\nConsoleLogin\nPlanted\n");
    // Restored, it is converted.
    place.restore(&whole, &first_log(1));
    let (code, said) = place.convert(&["--public-keys", &keys]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("verified: 1 of 1 converted object"), "{said}");
    let hunted = tawny(&["hunt", &place.path("lake")]);
    let said = String::from_utf8(hunted.stderr).unwrap();
    assert!(said.contains(&format!("objects: {OBJECTS} of {} were verified by digests", OBJECTS + 1)), "{said}");
    assert_eq!(place.are_findings_verified(), Value::Bool(false));
}

#[test]
fn objects_are_compared_but_not_verified_without_keys() {
    let mut files = Files::of(&[spec()]);
    let place = Place::new(&files);
    let (code, said) = place.convert(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains(&format!("verified: 0 of {OBJECTS} converted objects")) && said.contains("--public-keys"),
        "{said}"
    );
    assert_eq!(place.inspect()["verified_objects"], Value::Null);
    let shown = String::from_utf8(tawny(&["inspect", &place.path("lake")]).stdout).unwrap();
    assert!(shown.contains("none of the converted objects"), "{shown}");
    let hunted = tawny(&["hunt", &place.path("lake"), "--verbose"]);
    let said = String::from_utf8(hunted.stderr).unwrap();
    assert!(said.contains("objects: none were verified by digests"), "{said}");
    files.edit(&first_log(0), |text| text.replace("anaya", "other"));
    let place = Place::new(&files);
    let (code, said) = place.convert(&[]);
    assert!(code == Some(3) && said.contains("altered: its content does not have the hash"), "{said}");
}

/// Anyone who can write to the bucket can add a digest without a signature.
#[test]
fn unsigned_digests_do_not_keep_genuine_objects_from_conversion() {
    let mut files = Files::of(&[spec()]);
    files.edit(&digest_key(&spec(), 4), |text| {
        let mut digest: Value = serde_json::from_str(&text).unwrap();
        digest["logFiles"][0]["hashValue"] = "0".repeat(64).into();
        digest.to_string()
    });
    let place = Place::new(&files.without_metadata());
    let (code, said) = place.convert(&["--public-keys", &place.path("keys.json")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("verified: {} of {OBJECTS} converted objects", OBJECTS - 1)), "{said}");
}

#[test]
fn a_hunt_says_that_all_objects_were_verified() {
    let place = Place::new(&Files::of(&[spec()]));
    let (code, said) = place.convert(&["--public-keys", &place.path("keys.json")]);
    assert_eq!(code, Some(0), "{said}");
    let hunted = tawny(&["hunt", &place.path("lake"), "--from", "2026-09-01", "--to", "2026-09-02"]);
    let said = String::from_utf8(hunted.stderr).unwrap();
    assert!(said.contains(&format!("objects: all {OBJECTS} were verified by digests")), "{said}");
    assert_eq!(place.are_findings_verified(), Value::Bool(true));
}

#[test]
fn altered_digests_and_keys_without_digests_are_reported() {
    let mut files = Files::of(&[spec()]);
    files.edit(&digest_key(&spec(), 4), |text| text.replace("SHA256withRSA\"", "SHA256withRSA\" "));
    files.remove(&digest_key(&spec(), 2));
    let place = Place::new(&files);
    let keys = place.path("keys.json");
    let (code, said) = place.convert(&["--public-keys", &keys]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("warning: altered digest: ") && said.contains("warning: missing digest: "), "{said}");
    let refused = tawny(&["convert", &place.path("trail"), "--lake", &place.path("other"), "--public-keys", &keys]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn nightly_runs_compare_objects_with_digests() {
    let whole = Files::of(&[spec()]);
    let mut files = whole.clone();
    files.edit(&first_log(1), |text| text.replace("anaya", "other"));
    let place = Place::new(&files);
    let [trail, lake, keys, config] = ["trail", "lake", "keys.json", "tawny.toml"].map(|name| place.path(name));
    let text = format!(
        "lake = '{lake}'\n[[source]]\npath = '{trail}'\n[verify]\ndigests = ['{trail}']\npublic_keys = ['{keys}']\n"
    );
    std::fs::write(&config, text).unwrap();
    let run = || tawny(&["nightly", "--config", &config, "--format", "json", "--now", "2026-09-01T06:00:00Z"]);
    let first = run();
    assert_eq!(first.status.code(), Some(3), "{first:?}");
    let report = json(&first);
    assert_eq!(
        (&report["verification"]["verified"], &report["verification"]["digests"]["verified"]),
        (&(OBJECTS - 1).into(), &DIGESTS.into())
    );
    assert!(report["pending"][0]["reason"].as_str().unwrap().starts_with("altered: "), "{report}");
    place.restore(&whole, &first_log(1));
    let second = run();
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    assert_eq!(json(&second)["verification"]["verified"], Value::from(1));
    let third = json(&run());
    assert_eq!(third["verification"]["objects"], Value::from(0), "{third}");
    let table = tawny(&["nightly", "--config", &config, "--now", "2026-09-01T07:00:00Z"]);
    assert!(String::from_utf8(table.stdout).unwrap().contains("of 0 converted objects"));
}
