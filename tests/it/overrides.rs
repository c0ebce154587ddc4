//! Settings that replace those of rules, and the shipped rules together with the user's.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::records::failed_sign_in;

const SHIPPED: &str = include_str!("../../rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml");

fn tawny(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tawny")).current_dir(folder).args(arguments).output().unwrap()
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the findings of a command that must succeed.
fn findings(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = tawny(folder, &[arguments, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", talk(&output));
    serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap()
}

/// Three users fail: twice within a minute, five times in twenty minutes, and twice with 40 minutes between.
fn write_trail(folder: &Path) {
    let fails = |user: &str, minutes: &[u32]| {
        let at = |minute: &u32| format!("2026-09-01T10:{minute:02}:00Z");
        minutes.iter().map(|minute| failed_sign_in(user, &at(minute), &format!("{user}-{minute}"))).collect::<Vec<_>>()
    };
    let records = [fails("ada", &[0, 1]), fails("bob", &[0, 5, 10, 15, 20]), fails("eve", &[0, 40])].concat();
    std::fs::create_dir(folder.join("trail")).unwrap();
    std::fs::write(folder.join("trail/a.json"), json!({ "Records": records }).to_string()).unwrap();
}

#[test]
fn override_gives_the_findings_of_a_copy_with_these_settings() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_trail(at);
    for (settings, changes, count) in [
        ("Threshold=5,Period=30m", &[("Threshold: 2", "Threshold: 5"), ("Minutes: 15", "Minutes: 30")][..], 1),
        ("period=1h,severity=critical", &[("Minutes: 15", "Minutes: 60"), ("Severity: High", "Severity: Critical")], 3),
        ("Window=tumbling", &[("Threshold: 2", "Hunt: {Window: tumbling}\nThreshold: 2")], 3),
    ] {
        let copy = changes.iter().fold(SHIPPED.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        std::fs::write(at.join("copy.yml"), copy).unwrap();
        let expected = findings(at, &["hunt", "trail", "--rules", "copy.yml"]);
        let settings = format!("AWS.Unsuccessful.MFA.attempt:{settings}");
        let rule = ["--rule", "AWS.Unsuccessful.MFA.attempt", "--override", &settings];
        assert_eq!(findings(at, &[&["hunt", "trail"][..], &rule].concat()), expected, "{settings}");
        assert_eq!(expected.len(), count, "{settings}");
    }
    for (settings, expected) in [
        ("AWS.Unsuccessful.MFA.attempt:Treshold=5", "there is no setting `Treshold`"),
        ("AWS.Unsuccesful.MFA.attempt:Threshold=5", "did you mean `AWS.Unsuccessful.MFA.attempt`?"),
        ("Threshold=5", "expected RULE:KEY=VALUE"),
    ] {
        let refused = tawny(at, &["hunt", "trail", "--override", settings]);
        assert_eq!(refused.status.code(), Some(2), "{settings}");
        assert!(talk(&refused).contains(expected), "{settings}: {}", talk(&refused));
    }
}

#[test]
fn own_rules_run_beside_the_shipped_ones_and_replace_those_with_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_trail(at);
    std::fs::create_dir(at.join("own")).unwrap();
    std::fs::write(at.join("own/mfa.yml"), SHIPPED.replace("Threshold: 2", "Threshold: 5")).unwrap();
    let other = SHIPPED.replace("RuleID: AWS.Unsuccessful.MFA.attempt", "RuleID: Own.MFA");
    std::fs::write(at.join("own/other.yml"), other).unwrap();
    let of_own = findings(at, &["hunt", "trail", "--rules", "own"]);
    let of_shipped = findings(at, &["hunt", "trail"]);
    let both = tawny(at, &["hunt", "trail", "--rules", "own", "--with-shipped", "--format", "json"]);
    assert!(talk(&both).contains("1 shipped rule with ids of yours"), "{}", talk(&both));
    let both: Vec<Value> = serde_json::from_slice(&both.stdout).unwrap();
    let is_replaced = |finding: &&Value| finding["rule_id"] == "AWS.Unsuccessful.MFA.attempt";
    let mut expected: Vec<&Value> =
        of_own.iter().chain(of_shipped.iter().filter(|finding| !is_replaced(finding))).collect();
    let id = |finding: &Value| finding["finding_id"].to_string();
    let mut both: Vec<&Value> = both.iter().collect();
    expected.sort_by_key(|finding| id(finding));
    both.sort_by_key(|finding| id(finding));
    assert!(
        of_shipped.iter().any(|finding| is_replaced(&finding)) && !of_own.iter().any(|finding| is_replaced(&finding))
    );
    assert_eq!(both, expected);
    let alone = tawny(at, &["hunt", "trail", "--with-shipped"]);
    assert_eq!(alone.status.code(), Some(2), "without own rules it says nothing");
}

#[test]
fn backtest_writes_an_override_that_the_nightly_run_uses() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_trail(at);
    let backtest = ["backtest", "trail", "--rule", "AWS.Unsuccessful.MFA.attempt", "--write", "3/30m"];
    let refused = tawny(at, &backtest);
    assert_eq!(refused.status.code(), Some(2));
    assert!(talk(&refused).contains("`tawny nightly init` writes one"), "{}", talk(&refused));
    let config = "# ours\nlake = 'lake'\n[[source]]\npath = 'trail' # all of it\n[rules]\nids = ['AWS.Unsuccessful.MFA.attempt']\n[[sink]]\nname = 'files'\nkind = 'files'\nto = 'out'\nformat = 'jsonl'\n";
    std::fs::write(at.join("tawny.toml"), config).unwrap();
    let written = tawny(at, &backtest);
    assert_eq!(written.status.code(), Some(0), "{}", talk(&written));
    assert!(talk(&written).contains("`tawny.toml`: Threshold 2 to 3, Period 15m to 30m"), "{}", talk(&written));
    let changed = std::fs::read_to_string(at.join("tawny.toml")).unwrap();
    let added = "[overrides.\"AWS.Unsuccessful.MFA.attempt\"]\nThreshold = 3\nPeriod = \"30m\"\n";
    assert!(changed.starts_with(config) && changed.ends_with(added), "{changed}");

    let night = tawny(at, &["nightly", "--now", "2026-09-05T00:00:00Z"]);
    assert_eq!(night.status.code(), Some(0), "{}", talk(&night));
    let mut delivered: Vec<Value> = Vec::new();
    for file in walk(&at.join("out")) {
        let text = std::fs::read_to_string(file).unwrap();
        delivered.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    let rule = ["--rule", "AWS.Unsuccessful.MFA.attempt", "--threshold", "3", "--period", "30m"];
    let expected = findings(at, &[&["hunt", "trail"][..], &rule].concat());
    let ids = |findings: &[Value]| findings.iter().map(|finding| finding["finding_id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(&delivered), expected.len()), (ids(&expected), 1));
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn rule_that_an_override_disables_does_not_run_though_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_trail(at);
    std::fs::write(at.join("copy.yml"), SHIPPED.replace("AWS.Unsuccessful", "My.Unsuccessful")).unwrap();
    let off = ["--override", "My.Unsuccessful.MFA.attempt:Enabled=false"];
    let alone = tawny(at, &[&["hunt", "trail", "--rules", "copy.yml"][..], &off].concat());
    assert_eq!(alone.status.code(), Some(2), "{}", talk(&alone));
    assert!(talk(&alone).contains("there are no rules to run"), "{}", talk(&alone));
    let others = [&["hunt", "trail", "--rules", "copy.yml", "--with-shipped"][..], &off].concat();
    let found = findings(at, &others);
    assert!(!found.is_empty() && found.iter().all(|finding| finding["rule_id"] != "My.Unsuccessful.MFA.attempt"));
    assert!(talk(&tawny(at, &others)).contains("does not run: an override disables it"));
}
