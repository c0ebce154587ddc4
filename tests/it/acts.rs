//! Rules that count acts: the records of one cross-account call count once.

use proptest::prelude::*;
use serde_json::{Value, json};
use tawny::hunt;
use tawny::rule::{Counts, Field, Rule, catalog};
use tawny::time::{Instant, Range, SECOND};

use crate::grids::{cells, hold_against_hunts};
use crate::oracle::{self, Event, Least, RUNTIME, brute_force, kinds, lines, shown};
use crate::places::{Places, engine};
use crate::trace::tawny;

/// Returns the records of events. An address is the number of an act whose records share it.
fn records(events: &[Event]) -> Vec<Value> {
    let record = |(line, event): (&str, &Event)| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record["sharedEventID"] = event.address.map_or(Value::Null, |act| json!(format!("shared-{act}")));
        record
    };
    let copies = events.iter().flat_map(|event| std::iter::repeat_n(event, event.copies));
    lines(events).lines().zip(copies).map(record).collect()
}

/// Returns the events, each with the number of its act as address.
fn with_acts(events: &[Event]) -> Vec<Event> {
    let act = |(number, event): (u8, &Event)| Event { address: event.address.or(Some(100 + number)), ..event.clone() };
    (0u8..).zip(events).map(act).collect()
}

fn rule_of_acts(mut rule: Rule) -> Rule {
    assert!(rule.count_acts());
    rule
}

proptest! {
    #![proptest_config(oracle::config(12))]

    #[test]
    fn an_act_counts_once_in_a_window_wherever_its_records_are(
        events in oracle::events().prop_filter("a table has files", |events| !events.is_empty()),
        kind in kinds(),
        threshold in 1u32..4,
        cut in 0i64..24,
    ) {
        let rule = rule_of_acts(oracle::rule(kind, threshold, false));
        let want = brute_force(&with_acts(&events), kind, Least::of(threshold as usize, true));
        let places = Places::with_identities(&records(&events), 7);
        let cut = Some(Instant::from_micros((oracle::START + 10_000 + cut * 300) * SECOND));
        for (name, data) in &places.data {
            let hunted = |range| RUNTIME.block_on(hunt::findings(&engine(2), data.as_ref(), std::slice::from_ref(&rule), range)).unwrap();
            prop_assert_eq!(shown(hunted(Range::default())), want.clone(), "{}", name);
            let mut parts = hunted(Range { from: None, to: cut });
            parts.extend(hunted(Range { from: cut, to: None }));
            prop_assert_eq!(shown(parts), want.clone(), "{} in two parts", name);
            RUNTIME.block_on(hold_against_hunts(&engine(2), data.as_ref(), &rule, &cells(&["15m"], 1..4), Range::default()));
        }
    }
}

#[test]
fn rules_that_count_something_else_stay_as_they_are() {
    for entry in catalog::all(&[]).unwrap() {
        let (before, mut after) = (entry.rule.clone(), entry.rule);
        assert_eq!(after.count_acts(), before.counts == Counts::Matches);
        let expected = if before.counts == Counts::Matches { Counts::Distinct(Field::Act) } else { before.counts };
        assert_eq!(after.counts, expected);
    }
}

const RULE: &str = "AnalysisType: rule\nRuleID: Assumed\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
    Threshold: 2\nDedupPeriodMinutes: 60\nDetection: [{Key: eventName, Condition: Equals, Value: AssumeRole}]\n\
    GroupBy: [{Key: sourceIPAddress}]\n";

/// The two records of one call, and that of another call.
fn cross_account() -> Vec<Value> {
    let record = |id: &str, shared: &str, account: &str, minute: u32| {
        json!({"eventID": id, "sharedEventID": shared, "eventSource": "sts.amazonaws.com", "eventName": "AssumeRole",
            "eventTime": format!("2026-09-01T10:{minute:02}:00Z"), "awsRegion": "us-east-1", "recipientAccountId": account,
            "sourceIPAddress": "192.0.2.1", "userIdentity": {"type": "IAMUser", "userName": "anaya", "accountId": "111122223333"}})
    };
    let both = ["111122223333", "444455556666"].map(|account| record(&account[..4], "one", account, 0));
    [both.to_vec(), vec![record("other", "two", "111122223333", 30)]].concat()
}

#[test]
fn commands_count_acts_if_asked_and_findings_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [rule, one, both, config, state] = ["rule.yml", "one.json", "both.json", "tawny.toml", "lake"].map(path);
    std::fs::write(&rule, RULE).unwrap();
    let all = cross_account();
    std::fs::write(&one, json!({"Records": &all[..2]}).to_string()).unwrap();
    std::fs::write(&both, json!({ "Records": all }).to_string()).unwrap();
    let hunt = |data: &str, options: &[&str]| {
        let (out, error, status) = tawny(&[&["hunt", data, "--rules", &rule, "--format", "json"], options].concat());
        assert_eq!(status, Some(0), "{error}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    assert_eq!(hunt(&one, &[])[0]["count"], json!(2));
    assert_eq!(hunt(&one, &["--once-per-act"]), json!([]));
    let found = &hunt(&both, &["--once-per-act"])[0];
    let told = ["unique", "distinct", "count", "event_ids"].map(|name| &found[name]);
    assert_eq!(told, [&json!("act"), &json!(2), &json!(3), &json!(["1111", "4444", "other"])]);
    let (out, ..) = tawny(&["hunt", &both, "--rules", &rule, "--once-per-act"]);
    assert!(out.contains("3 (2 acts)"), "{out}");
    // A rule can say so itself.
    let own = path("own.yml");
    std::fs::write(&own, format!("{RULE}Hunt: {{Unique: act}}\n")).unwrap();
    let (out, ..) = tawny(&["hunt", &both, "--rules", &own, "--format", "json"]);
    assert_eq!(&serde_json::from_str::<Value>(&out).unwrap()[0], found);
    let grid = ["--rules", &rule, "--thresholds", "2", "--periods", "1h", "--windows", "sliding", "--format", "json"];
    let cells = |options: &[&str]| tawny(&[&["backtest", &one][..], &grid, options].concat()).0;
    assert!(cells(&[]).contains("\"findings\": 1"), "{}", cells(&[]));
    assert!(cells(&["--once-per-act"]).contains("\"findings\": 0"), "{}", cells(&["--once-per-act"]));
    let (_, error, status) = tawny(&[&["backtest", &one, "--once-per-act", "--write"][..], &grid].concat());
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("Unique: act"), "{error}");
    // A night says it in its configuration.
    let raw = path("raw");
    std::fs::create_dir(&raw).unwrap();
    std::fs::copy(&one, path("raw/one.json")).unwrap();
    let night = |once: bool| {
        let settings = format!(
            "lake = {state:?}\n[[source]]\npath = {raw:?}\n[rules]\npaths = [{rule:?}]\nonce_per_act = {once}\n"
        );
        std::fs::write(&config, settings).unwrap();
        std::fs::remove_dir_all(&state).ok();
        let (out, error, status) = tawny(&["nightly", "--config", &config, "--format", "json"]);
        assert_eq!(status, Some(0), "{error}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    assert_ne!(night(false)["findings"], night(true)["findings"]);
}
