//! Exceptions: a hunt finds what it finds without the events that they remove, in each kind of data and range.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tawny::convert::{Limits, convert};
use tawny::engine::Engine;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::hunt::exceptions::ExceptedHunt;
use tawny::lake::Lake;
use tawny::rule::exceptions::{self, ExceptionFiles};
use tawny::rule::{Rule, Window, catalog};
use tawny::statistics::ScanStatistics;
use tawny::store::{Scratch, Stores};
use tawny::table::{RawTrail, Table};
use tawny::time::{Instant, Range, SECOND};
use tawny::trail::{Selection, Trail};

use crate::records::failed_sign_in;
use crate::{grids, oracle};

mod commands;
mod reading;

const START: i64 = 1_788_220_800 * SECOND;
const MINUTE: i64 = 60 * SECOND;
/// The lists of [`file`].
const LISTS: [(&str, &str); 2] = [("offices.csv", "name,cidr\nhome,192.0.2.0/31\n"), ("names.txt", "192.0.2.2\n")];

/// A sign-in.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    user: u8,
    minute: i64,
    address: Option<u8>,
    succeeds: bool,
    copies: usize,
}

/// An exception of the rules with these numbers, or of all rules.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    rules: Option<BTreeSet<usize>>,
    condition: usize,
    from: Option<i64>,
    until: i64,
}

/// A condition as YAML, and whether an event satisfies it.
type Condition = (&'static str, fn(&Event) -> bool);

const CONDITIONS: [Condition; 7] = [
    ("{Key: actor, Condition: Equals, Value: user0}", |event| event.user == 0),
    ("{Key: sourceIPAddress, Condition: IsIPAddressInCIDR, Value: 192.0.2.1}", |event| event.address == Some(1)),
    ("{Key: sourceIPAddress, Condition: DoesNotEqual, Value: 192.0.2.1}", |event| event.address != Some(1)),
    ("{Key: sourceIPAddress, Condition: IsIPAddressInCIDR, Values: {List: offices}}", |event| {
        matches!(event.address, Some(0 | 1))
    }),
    ("{Key: sourceIPAddress, Condition: IsIn, Values: {List: names}}", |event| event.address == Some(2)),
    ("{Key: sourceIPAddress, Condition: IsNotIn, Values: {List: names}}", |event| event.address != Some(2)),
    ("{All: [{Key: actor, Condition: Equals, Value: user1}, {Key: sourceIPAddress, Condition: Exists}]}", |event| {
        event.user == 1 && event.address.is_some()
    }),
];

/// The rules, by their number: the ids and what is special of each. The fourth and the fifth
/// match successes too.
const RULES: [(&str, &str); 6] = [
    ("Rule.Sliding", "Hunt: {Window: sliding}"),
    ("Rule.Dedup", "Hunt: {Window: dedup}"),
    ("Rule.Tumbling", "Hunt: {Window: tumbling, Unique: sourceIPAddress}"),
    (
        "Rule.Followed",
        "Hunt: {FollowedBy: [{KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Success}]}",
    ),
    ("Rule.All", "Hunt: {Window: sliding, Sum: additionalEventData.bytes}"),
    ("Rule.New", "Hunt: {New: [sourceIPAddress], History: 20m}"),
];

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..2_u8, 0..40_i64, prop::option::weighted(0.8, 0..3_u8), prop::bool::weighted(0.25), 1..3_usize);
    let event = event.prop_map(|(user, step, address, succeeds, copies)| Event {
        user,
        minute: step * 5,
        address,
        succeeds,
        copies,
    });
    prop::collection::vec(event, 0..40)
}

pub(crate) fn cases() -> impl Strategy<Value = Vec<Case>> {
    let rules = prop::option::weighted(0.6, prop::collection::btree_set(0..RULES.len(), 1..3));
    let case = (rules, 0..CONDITIONS.len(), prop::option::of(0..100_i64), 1..250_i64);
    let case = case.prop_map(|(rules, condition, from, length)| Case {
        rules,
        condition,
        from,
        until: from.unwrap_or_default() + length,
    });
    prop::collection::vec(case, 0..4)
}

fn at(minute: i64) -> Instant {
    Instant::from_micros(START + minute * MINUTE)
}

impl Case {
    /// Returns whether it removes an event from the matches of a rule.
    fn removes(&self, rule: usize, event: &Event) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.contains(&rule))
            && self.from.is_none_or(|from| from <= event.minute)
            && event.minute < self.until
            && CONDITIONS[self.condition].1(event)
    }
}

/// Returns the record of the event with a number.
pub(crate) fn record(number: usize, event: &Event) -> Value {
    let mut record =
        failed_sign_in(&format!("user{}", event.user), &at(event.minute).to_string(), &format!("id-{number:04}"));
    if let Some(address) = event.address {
        record["sourceIPAddress"] = Value::from(format!("192.0.2.{address}"));
    }
    if event.succeeds {
        record["responseElements"]["ConsoleLogin"] = Value::from("Success");
    }
    record["additionalEventData"]["bytes"] = Value::from(1);
    record
}

/// Returns an exceptions file with these exceptions.
fn file(cases: &[Case]) -> String {
    let mut text =
        "Lists:\n  offices: {File: offices.csv, Column: cidr}\n  names: {File: names.txt}\nExceptions:\n".to_owned();
    for (number, case) in cases.iter().enumerate() {
        let rules = match &case.rules {
            None => "\"*\"".to_owned(),
            Some(rules) => {
                format!("[{}]", rules.iter().map(|rule| RULES[*rule].0).collect::<Vec<_>>().join(", "))
            }
        };
        let from = case.from.map(|from| format!("    From: {}\n", at(from))).unwrap_or_default();
        let exception = format!(
            "  - ID: case-{number}\n    Rules: {rules}\n    When: [{}]\n    Reason: test\n    Owner: us\n{from}    Until: {}\n",
            CONDITIONS[case.condition].0,
            at(case.until)
        );
        text.push_str(&exception);
    }
    text
}

/// Writes rules and exceptions, and returns the rules without and with these exceptions, in the order of [`RULES`].
pub(crate) fn rules(folder: &Path, cases: &[Case]) -> [Vec<Rule>; 2] {
    let rules = folder.join("rules");
    std::fs::create_dir_all(&rules).unwrap();
    for (number, (id, hunt)) in RULES.iter().enumerate() {
        let failure = "{KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Failure}";
        let detection = if number == 4 { "{Key: eventName, Condition: Equals, Value: ConsoleLogin}" } else { failure };
        let text = format!(
            "AnalysisType: rule\nRuleID: {id}\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nDetection: [{detection}]\nThreshold: 2\nDedupPeriodMinutes: 15\n{hunt}\nGroupBy: [{{Key: account}}, {{Key: actor}}]\n"
        );
        std::fs::write(rules.join(format!("{number}.yml")), text).unwrap();
    }
    for (name, text) in LISTS {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let path = folder.join("exceptions.yml");
    std::fs::write(&path, file(cases)).unwrap();
    let entries = catalog::all(&[rules]).unwrap();
    let mut excepted = entries.clone();
    let read = ExceptionFiles::read(&[path]).unwrap().exceptions().unwrap();
    assert_eq!(read.exceptions.len(), cases.len());
    assert!(exceptions::apply(&read.exceptions, &mut excepted, false).unwrap().is_empty());
    let in_order = |entries: Vec<catalog::Entry>| {
        let find = |(id, _): &(&str, &str)| entries.iter().find(|entry| entry.rule.id == *id).unwrap().rule.clone();
        RULES.iter().map(find).collect()
    };
    [in_order(entries), in_order(excepted)]
}

/// Returns the records with the numbers of the events that no exception but `ignored` removes from the matches of a rule.
pub(crate) fn left(events: &[Event], cases: &[Case], rule: usize, ignored: Option<usize>) -> Vec<Value> {
    let is_left = |event: &Event| {
        !cases.iter().enumerate().any(|(number, case)| Some(number) != ignored && case.removes(rule, event))
    };
    let numbered = events.iter().enumerate().filter(|(_, event)| is_left(event));
    numbered.map(|(number, event)| record(number, event)).collect()
}

fn engine() -> Engine {
    Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap()
}

pub(crate) fn raw(folder: &Path, records: &[Value]) -> RawTrail {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("a.json"), json!({ "Records": records }).to_string()).unwrap();
    let progress = Arc::new(|_, _: &ScanStatistics| {});
    RawTrail::new(Stores::default(), vec![folder.display().to_string()], Selection::default(), 4, progress)
}

async fn lake(folder: &Path, trail: &Path) -> Lake {
    let lake = Lake::at(folder);
    let sources = [trail.display().to_string()];
    let found = Trail::find(&Stores::default(), &sources, &Selection::default()).await.unwrap();
    let limits = Limits { threads: 2, memory: 64 << 20, in_flight: 4 };
    convert(found, &lake, limits, &Scratch::default(), &mut |_| {}).await.unwrap();
    lake
}

/// A finding in the form that both sides produce: actor, events in order of time, trigger and peak.
type Shown = (String, Vec<String>, Instant, u64);

/// Returns a finding of `events`. Their ids begin with `prefix`.
fn shown(finding: &Finding, events: &[Event], prefix: &str) -> Shown {
    let id = |id: &String| id.strip_prefix(prefix).unwrap().to_owned();
    let mut ids: Vec<String> = finding.event_ids.iter().map(id).collect();
    ids.sort_by_key(|id| (events[id[3..].parse::<usize>().unwrap()].minute, id.clone()));
    (finding.group["actor"].as_str().unwrap().to_owned(), ids, finding.trigger_time, finding.peak)
}

/// Returns the findings of each rule in the events that are left to it, for each of `ignored` exceptions. One trail has all of
/// these events, each selection in an account of its own.
async fn expected(
    folder: &Path,
    plain: &[Rule],
    (events, cases): (&[Event], &[Case]),
    ignored: &[Option<usize>],
    range: Range,
) -> Vec<Vec<Vec<Shown>>> {
    let prefix = |rule: usize, place: usize| format!("{rule}{place}-");
    let mut records = vec![json!({"eventTime": at(0).to_string(), "eventID": "none", "eventName": "Other"})];
    for rule in 0..plain.len() {
        for (place, ignored) in ignored.iter().enumerate() {
            for mut record in left(events, cases, rule, *ignored) {
                let id = prefix(rule, place) + record["eventID"].as_str().unwrap();
                record["eventID"] = Value::from(id);
                record["recipientAccountId"] = Value::from(format!("0000000000{rule}{place}"));
                records.push(record);
            }
        }
    }
    let table = raw(&folder.join("left"), &records);
    let found = hunt::hunt(&engine(), &table, plain, range).await.unwrap().findings;
    let of_account = |rule: usize, place: usize| {
        let account = format!("0000000000{rule}{place}");
        let of_account = found[rule].iter().filter(|finding| finding.group["account"] == account.as_str());
        let mut found: Vec<Shown> = of_account.map(|finding| shown(finding, events, &prefix(rule, place))).collect();
        found.sort();
        found
    };
    (0..plain.len()).map(|rule| (0..ignored.len()).map(|place| of_account(rule, place)).collect()).collect()
}

/// Checks findings and effects in a range of a table.
async fn hold(
    folder: &Path,
    table: &dyn Table,
    [plain, excepted]: &[Vec<Rule>; 2],
    (events, cases): (&[Event], &[Case]),
    range: Range,
) {
    let engine = engine();
    let hunt = ExceptedHunt::new(excepted.clone(), range).unwrap();
    let (buffered, effects) = hunt.hunt_buffered(&engine, table).await.unwrap();
    let found = buffered.findings.of_rules().await.unwrap();
    assert_eq!(buffered.findings.count(), found.iter().map(Vec::len).sum::<usize>() as u64);
    assert!(found[plain.len()..].iter().all(Vec::is_empty));
    let ignored: Vec<Option<usize>> = std::iter::once(None).chain((0..cases.len()).map(Some)).collect();
    let expected = expected(folder, plain, (events, cases), &ignored, range).await;
    let mut effects = effects.exceptions.into_iter();
    for (number, rule) in plain.iter().enumerate() {
        let own = &expected[number][0];
        let mut found: Vec<Shown> = found[number].iter().map(|finding| shown(finding, events, "")).collect();
        found.sort();
        assert_eq!(&found, own, "{}", rule.id);
        for (case_number, case) in cases.iter().enumerate() {
            if case.rules.as_ref().is_some_and(|rules| !rules.contains(&number)) {
                continue;
            }
            let effect = effects.next().unwrap();
            assert_eq!((&effect.exception.id, &effect.rule_id), (&format!("case-{case_number}"), &rule.id));
            let is_match = |event: &&Event| matches!(number, 3 | 4) || !event.succeeds;
            let removed = events.iter().filter(is_match).filter(|event| case.removes(number, event));
            let removed = removed.filter(|event| range.contains(at(event.minute)));
            assert_eq!(effect.events, removed.count() as u64, "{}", rule.id);
            // The identity of a finding is its group and its first event.
            let is_own = |shown: &&Shown| own.iter().any(|own| (&own.0, &own.1[0]) == (&shown.0, &shown.1[0]));
            let gone = expected[number][case_number + 1].iter().filter(|shown| !is_own(shown)).count();
            assert_eq!(effect.findings, gone as u64, "{} without {}", rule.id, effect.exception.id);
        }
    }
    assert_eq!(effects.next(), None);
}

proptest! {
    #![proptest_config(oracle::config(2))]

    #[test]
    fn hunts_find_what_is_there_without_the_removed_events(events in events(), cases in cases(), cut in 0..200_i64) {
        let folder = tempfile::tempdir().unwrap();
        let rules = rules(folder.path(), &cases);
        let all = events.iter().enumerate().flat_map(|(number, event)| {
            std::iter::repeat_n(record(number, event), event.copies)
        });
        let mut all: Vec<Value> = all.collect();
        // An empty trail is an error. This record has no part in any rule.
        all.push(json!({"eventTime": at(0).to_string(), "eventID": "none", "eventName": "Other"}));
        let trail = folder.path().join("trail");
        let in_trail = raw(&trail, &all);
        let events_and_cases = (events.as_slice(), cases.as_slice());
        oracle::RUNTIME.block_on(async {
            let lake = lake(&folder.path().join("lake"), &trail).await;
            let cut = Some(at(cut));
            hold(folder.path(), &in_trail, &rules, events_and_cases, Range::default()).await;
            hold(folder.path(), &lake, &rules, events_and_cases, Range { from: None, to: cut }).await;
            hold(folder.path(), &lake, &rules, events_and_cases, Range { from: cut, to: None }).await;
            let cells = grids::cells(&["15m"], 1..3);
            grids::hold_against_hunts(&engine(), &lake, &rules[1][1], &cells, Range::default()).await;
            let sliding: Vec<Window> = cells.into_iter().filter(|cell| rules[1][3].check(*cell).is_ok()).collect();
            grids::hold_against_hunts(&engine(), &in_trail, &rules[1][3], &sliding, Range::default()).await;
        });
    }
}
