//! Tests in rule files that hunt several records.

use std::process::Command;

use tawny::engine::Engine;
use tawny::hunt::{self, HuntTestResult};
use tawny::rule::panther;

use crate::oracle::RUNTIME;

/// Returns a rule with one test: `more` are keys of the rule, `logs` pairs of a time and the rest of a record.
fn rule(more: &str, expected: &str, logs: &[(&str, &str)]) -> String {
    let logs = logs.iter().map(|(time, rest)| {
        format!("\n      - {{eventName: Act, eventTime: \"2026-09-01T10:{time}Z\", recipientAccountId: \"111122223333\"{rest}}}")
    });
    let logs: String = logs.collect();
    format!(
        "AnalysisType: rule\nRuleID: Example.Rule\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
         DedupPeriodMinutes: 10\nGroupBy: [{{Key: account}}, {{KeyPath: userIdentity.userName}}]\n{more}\n\
         Detection:\n  - {{Key: eventName, Condition: Equals, Value: Act}}\n\
         Tests:\n  - Name: several\n    ExpectedFindings: {expected}\n    Logs:{logs}\n"
    )
}

fn result(text: &str) -> HuntTestResult {
    let rule = panther::parse("rule.yml", text).unwrap_or_else(|error| panic!("{text}\n{error}")).rule;
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    RUNTIME.block_on(hunt::run_hunt_tests(&engine, &rule)).unwrap().remove(0)
}

const ALICE: &str = ", userIdentity: {userName: alice}";
const BOB: &str = ", userIdentity: {userName: bob}";

#[test]
fn every_kind_of_rule_is_hunted_as_in_a_hunt() {
    let with = |more: &str| format!("{ALICE}{more}");
    let threshold = "Threshold: 3";
    let three = [("00:00", ALICE), ("05:00", ALICE), ("09:00", ALICE)];
    let apart = [("00:00", ALICE), ("09:00", ALICE), ("18:00", ALICE)];
    let unique = "Threshold: 2\nHunt: {Unique: sourceIPAddress}";
    let (one, other) = (with(", sourceIPAddress: 192.0.2.1"), with(", sourceIPAddress: 192.0.2.2"));
    let sum = "Threshold: 100\nHunt: {Sum: additionalEventData.bytes}";
    let (forty, sixty) = (with(", additionalEventData: {bytes: 40}"), with(", additionalEventData: {bytes: 60}"));
    let followed = "Threshold: 2\nHunt: {FollowedBy: [{Key: errorCode, Condition: Equals, Value: Denied}]}";
    let denied = with(", errorCode: Denied");
    let copy = with(", eventID: same");
    for (more, expected, logs) in [
        (threshold, "{Count: 1}", &three[..]),
        (threshold, "{Count: 1, Group: {account: \"111122223333\", useridentity.username: alice}, Events: 3}", &three),
        (threshold, "{Count: 0}", &apart),
        ("Threshold: 2\nHunt: {Window: tumbling}", "[{Events: 2}]", &apart),
        ("Threshold: 2\nHunt: {Window: dedup}", "{Count: 1, Events: 2}", &apart),
        ("Threshold: 2", "{Count: 1, Events: 3}", &apart),
        (unique, "{Count: 1, Events: 3}", &[("00:00", &one), ("01:00", &one), ("02:00", &other)]),
        (unique, "{Count: 0}", &[("00:00", &one), ("01:00", &one)]),
        (sum, "{Count: 1}", &[("00:00", &forty), ("01:00", &sixty)]),
        (sum, "{Count: 0}", &[("00:00", &forty), ("01:00", &forty)]),
        (followed, "{Count: 1, Events: 3}", &[("00:00", ALICE), ("01:00", ALICE), ("02:00", &denied)]),
        (followed, "{Count: 0}", &[("00:00", &denied), ("01:00", ALICE), ("02:00", ALICE)]),
        // Findings of several groups, by first event. A group may lack a value.
        (
            "Threshold: 1",
            "[{Group: {userIdentity.userName: bob}}, {Group: {userIdentity.userName: null}}, {Group: {userIdentity.userName: alice}, Events: 2}]",
            &[("03:00", ALICE), ("00:00", BOB), ("01:00", ""), ("04:00", ALICE)],
        ),
        // Duplicates count once, as in a hunt.
        ("Threshold: 2", "{Count: 0}", &[("00:00", &copy), ("00:00", &copy)]),
        ("Threshold: 1", "{Count: 1, Events: [same]}", &[("00:00", &copy), ("00:00", &copy)]),
    ] {
        let text = rule(more, expected, logs);
        let result = result(&text);
        assert!(result.passed, "{text}\n{result:?}");
    }
}

#[test]
fn a_failure_says_what_was_expected_and_what_was_found() {
    let named = [
        ("00:00", ", userIdentity: {userName: alice}, eventID: a"),
        ("01:00", ", userIdentity: {userName: bob}, eventID: b"),
    ];
    for (more, expected, told) in [
        (
            "Threshold: 1",
            "{Count: 1, Group: {userIdentity.userName: alice}, Events: 2}",
            (
                "1 finding: userIdentity.userName alice, 2 events",
                "2 findings: account 111122223333, userIdentity.userName alice, 1 event; account 111122223333, userIdentity.userName bob, 1 event",
            ),
        ),
        ("Threshold: 2", "{Count: 2}", ("2 findings", "0 findings")),
        (
            "Threshold: 1",
            "[{Events: [a]}, {Events: [c, a]}]",
            (
                "2 findings: events a; events a c",
                "2 findings: account 111122223333, userIdentity.userName alice, events a; account 111122223333, userIdentity.userName bob, events b",
            ),
        ),
        // The order counts.
        (
            "Threshold: 1",
            "[{Group: {userIdentity.userName: bob}}, {Group: {userIdentity.userName: alice}}]",
            (
                "2 findings: userIdentity.userName bob; userIdentity.userName alice",
                "2 findings: account 111122223333, userIdentity.userName alice, 1 event; account 111122223333, userIdentity.userName bob, 1 event",
            ),
        ),
    ] {
        let HuntTestResult { passed, expected, found } = result(&rule(more, expected, &named));
        assert!(!passed);
        let found = found.strip_suffix(&format!("; {0} of {0} records match", named.len())).unwrap().to_owned();
        assert_eq!((expected.as_str(), found.as_str()), told);
    }
}

#[test]
fn the_command_fails_and_names_the_test() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rule.yml");
    let run = |expected: &str| {
        std::fs::write(&path, rule("Threshold: 2", expected, &[("00:00", ALICE), ("01:00", ALICE)])).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_tawny")).arg("test").arg(&path).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, shown, told) = run("{Count: 1, Events: 2}");
    assert_eq!(code, Some(0), "{told}");
    assert!(
        shown.contains("pass") && shown.contains("1 finding: 2 events") && told.contains("1 passed, 0 failed"),
        "{shown}{told}"
    );
    assert!(!told.contains("has no tests"), "{told}");
    let (code, shown, told) = run("{Count: 0}");
    assert_eq!(code, Some(1), "{told}");
    assert!(
        shown.contains("FAIL") && shown.contains("several") && told.contains("0 passed, 1 failed"),
        "{shown}{told}"
    );
}

#[test]
fn failed_test_says_how_many_records_match_and_are_duplicates() {
    let copy = format!("{ALICE}, eventID: same");
    let logs = [("00:00", copy.as_str()), ("00:00", copy.as_str()), ("20:00", ALICE)];
    let failed = result(&rule("Threshold: 2", "{Count: 1}", &logs));
    let expected = "0 findings; 3 of 3 records match, 1 duplicate left out: give each record its own eventID";
    assert_eq!((failed.passed, failed.found.as_str()), (false, expected));
}
