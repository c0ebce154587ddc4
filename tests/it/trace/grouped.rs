//! Rules that group by the derived field `origin`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tawny::finding::Finding;
use tawny::hunt;
use tawny::rule::{Field, Rule, WindowKind, catalog, panther};
use tawny::table::{MemoryTable, Table};
use tawny::time::{Instant, Range, SECOND};
use tawny::trace::Start;

use super::world::World;
use super::{FEDERATED, origin, tawny, traced};
use crate::grids::{cells, hold_against_hunts};
use crate::oracle::{RUNTIME, START};
use crate::places::{Places, engine};

/// Calls that no act of a chain is.
const CALLS: &str = "AnalysisType: rule\nRuleID: Calls\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
    Threshold: 2\nDedupPeriodMinutes: 15\nGroupBy: [{Key: origin}]\nDetection:\n  - {Key: eventName, Condition: IsIn, \
    Values: [GetObject, DescribeInstances, ListUsers, Decrypt]}\n";
/// Calls that are new to who began the chain: another credential of the same origin may have made them before.
const NEW_CALLS: &str = "AnalysisType: rule\nRuleID: Calls.New\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
    Threshold: 1\nDedupPeriodMinutes: 15\nGroupBy: [{Key: origin}]\nHunt: {New: [eventName], History: 1h}\nDetection:\n  \
    - {Key: eventName, Condition: IsIn, Values: [GetObject, DescribeInstances, ListUsers, Decrypt]}\n";
/// All events.
const ALL: &str = "AnalysisType: rule\nRuleID: All\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
    Threshold: 1\nDedupPeriodMinutes: 60\nGroupBy: [{Key: origin}]\nDetection: [{Key: eventName, Condition: Exists}]\n";

fn rule(text: &str) -> Rule {
    panther::parse("rule.yml", text).unwrap().rule
}

fn hunted(data: &dyn Table, rule: &Rule, range: Range) -> Vec<Finding> {
    RUNTIME.block_on(hunt::findings(&engine(2), data, std::slice::from_ref(rule), range)).unwrap()
}

/// Returns a rule that groups by `userAgent` instead.
fn by_agent(rule: &Rule) -> Rule {
    Rule { group_by: vec![Field::new("userAgent".parse().unwrap())], ..rule.clone() }
}

/// A finding without what its group decides.
fn told(finding: &Finding) -> (Option<&str>, &[String], Instant, u64) {
    (finding.group.values().next().unwrap().as_str(), &finding.event_ids, finding.trigger_time, finding.peak)
}

#[test]
fn a_group_is_everything_that_one_principal_began() {
    for (seed, chains, depth, lost) in [(3, 16, 4, 0), (4, 16, 3, 30)] {
        let mut world = World::new(seed, chains, depth, lost);
        let mut origins: BTreeMap<String, String> = BTreeMap::new();
        for number in 0..world.credentials.len() {
            let origin = world.chain(number).1;
            let text = format!("{}/{}", origin.account.unwrap(), origin.actor.unwrap());
            origins.extend(world.credentials[number].events.iter().map(|(_, id)| (id.clone(), text.clone())));
        }
        for record in &mut world.records {
            record["userAgent"] = json!(origins.get(record["eventID"].as_str().unwrap()));
        }
        let places = Places::with_identities(&world.records, 40);
        for (name, data) in &places.data {
            let kinds = WindowKind::ALL.into_iter().flat_map(|kind| [(kind, CALLS), (kind, NEW_CALLS)]);
            for (kind, text) in kinds {
                let mut rule = rule(text);
                rule.window.kind = kind;
                let cut = Some(Instant::from_micros((START + 1_200) * SECOND));
                let ranges = [Range::default(), Range { from: cut, to: None }, Range { from: None, to: cut }];
                for range in ranges {
                    let (found, expected) =
                        (hunted(data.as_ref(), &rule, range), hunted(data.as_ref(), &by_agent(&rule), range));
                    let [mut found_told, mut expected_told] =
                        [&found, &expected].map(|findings| findings.iter().map(told).collect::<Vec<_>>());
                    found_told.sort_unstable();
                    expected_told.sort_unstable();
                    assert_eq!(found_told, expected_told, "{name}, {kind}, {range:?}");
                    assert!(range != Range::default() || found.len() > 3, "{name}: {}", found.len());
                }
            }
            let (engine, rule, cells) = (engine(2), rule(CALLS), cells(&["15m"], 1..4));
            let found = hold_against_hunts(&engine, data.as_ref(), &rule, &cells, Range::default());
            assert!(RUNTIME.block_on(found) > 0, "{name}");
        }
    }
}

#[test]
fn the_origin_of_a_match_is_what_a_trace_of_it_says() {
    let world = World::new(5, 10, 3, 20);
    let places = Places::of(&world.records, 100);
    let data = places.data[0].1.as_ref();
    let found = hunted(data, &rule(ALL), Range::default());
    let mut count = 0;
    for finding in &found {
        for event in &finding.event_ids {
            let trace = traced(data, Start::Event(event.clone()), Range::default()).unwrap();
            let expected = trace.origin.principal();
            assert_eq!(finding.group["origin"].as_str(), expected.as_deref(), "{event}: {:?}", origin(&trace));
            count += 1;
        }
    }
    let mut ids: Vec<&str> = world.records.iter().filter_map(|record| record["eventID"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(count, ids.len());
}

#[test]
fn origins_are_in_titles_contexts_summaries_keys_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rule.yml");
    let text = "AnalysisType: rule\nRuleID: Secrets\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
        Threshold: 1\nDedupPeriodMinutes: 60\nAlertTitle: 'Secrets of {origin}'\nSummaryAttributes: [origin]\n\
        AlertContext: [{KeyName: who, KeyValue: {Key: origin}}]\nHunt: {Unique: origin, New: [origin], History: 1d}\n\
        GroupBy: [{Key: account}]\nDetection: [{Key: eventName, Condition: Equals, Value: GetSecretValue}]\n";
    std::fs::write(&file, text).unwrap();
    let (out, error, status) = tawny(&["hunt", FEDERATED, "--rules", &file.display().to_string(), "--format", "json"]);
    assert_eq!(status, Some(0), "{error}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let origin = json!("111122223333/anaya");
    let values = [&found[0]["context"]["who"], &found[0]["summary"]["origin"][0]];
    assert_eq!(values, [&origin, &origin], "{found}");
    assert_eq!(found[0]["title"], json!("Secrets of 111122223333/anaya"));
    assert_eq!((&found[0]["unique"], &found[0]["distinct"]), (&json!("origin"), &json!(1)));
}

#[test]
fn what_cannot_follow_origins_refuses_them_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        path(name)
    };
    let rule = write("rule.yml", CALLS);
    let lake = path("lake");
    let config = write(
        "tawny.toml",
        &format!("lake = {lake:?}\n[[source]]\npath = {FEDERATED:?}\n[rules]\npaths = [{rule:?}]\n"),
    );
    for arguments in [&["sql", &rule][..], &["sql", &rule, "--dialect", "athena"], &["nightly", "--config", &config]] {
        let (_, error, status) = tawny(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {error}");
        assert!(error.contains("`origin`"), "{arguments:?}: {error}");
    }
    let tests_it =
        write("tests.yml", &CALLS.replace("{Key: eventName, Condition: IsIn", "{Key: origin, Condition: IsIn"));
    let (_, error, status) = tawny(&["hunt", FEDERATED, "--rules", &tests_it]);
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("`origin` is known only after the scan"), "{error}");
    let exceptions = "Exceptions:\n  - {ID: one, Rules: '*', When: [{Key: origin, Condition: Equals, Value: a}], Reason: r, Owner: o, Until: 2027-01-01}\n";
    let exceptions = write("exceptions.yml", exceptions);
    let (_, error, status) = tawny(&["hunt", FEDERATED, "--exceptions", &exceptions]);
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("`origin` is known only after the scan"), "{error}");
}

#[test]
fn the_masked_name_is_found_behind_its_account() {
    let mut rule = catalog::default().unwrap();
    rule.group_by = vec![Field::Origin];
    rule.window.threshold = 1.try_into().unwrap();
    let record = json!({"eventID": "a", "eventName": "ConsoleLogin", "eventSource": "signin.amazonaws.com",
        "eventTime": "2026-09-01T10:00:00Z", "recipientAccountId": "111122223333", "additionalEventData": {"MFAUsed": "Yes"},
        "responseElements": {"ConsoleLogin": "Failure"},
        "userIdentity": {"type": "IAMUser", "accountId": "111122223333", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"}});
    let places = Places::of(&[record], 1);
    let found = hunted(places.data[0].1.as_ref(), &rule, Range::default());
    assert!(found[0].masked, "{found:?}");
    let none = hunted(&MemoryTable(Vec::new()), &rule, Range::default());
    assert!(none.is_empty());
}
