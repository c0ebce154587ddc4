//! Rules that ask for what follows, against a brute-force evaluator, on small random sets of events.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use tawny::engine::Resources;
use tawny::event::batch::BatchBuilder;
use tawny::finding::Finding;
use tawny::hunt::{self, Data};
use tawny::raw::envelope::{self, Item};
use tawny::rule::{Rule, WindowKind, panther};
use tawny::time::{self, Range, SECOND};

use crate::oracle;
use crate::records::failed_sign_in;
use crate::sweeps;

const START: i64 = 1_788_220_800 * SECOND;
const MINUTE: i64 = 60 * SECOND;
const PERIOD: i64 = 15 * MINUTE;

/// Failed second factors, and a success after them.
pub(crate) fn rule(threshold: u32) -> Rule {
    let text = format!(
        "AnalysisType: rule\nRuleID: Rule.Follows\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
         Threshold: {threshold}\nDedupPeriodMinutes: 15\nGroupBy: [{{Key: account}}, {{Key: actor}}]\n\
         Detection:\n  - {{KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Failure}}\n\
         Hunt:\n  FollowedBy:\n    - {{KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Success}}\n"
    );
    panther::parse("follows", &text).unwrap().rule
}

#[derive(Debug, Clone)]
struct Event {
    user: u8,
    at: i64,
    follows: bool,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event =
        (0..2u8, 0..30i64, -1..2i64, proptest::bool::weighted(0.3)).prop_map(|(user, slot, jitter, follows)| Event {
            user,
            at: START + slot * 5 * MINUTE + jitter * SECOND,
            follows,
        });
    proptest::collection::vec(event, 0..30)
}

fn record(number: usize, event: &Event) -> Value {
    let mut record = failed_sign_in(&format!("user{}", event.user), &time::rfc3339(event.at), &id_of(number));
    if event.follows {
        record["responseElements"]["ConsoleLogin"] = Value::from("Success");
    }
    record
}

fn id_of(number: usize) -> String {
    format!("id-{:05}", number * 7_919 % 65_536)
}

/// An event's time and identity, by which events are in order.
type Place = (i64, String);

/// A finding: its group, its events in order, and the one that triggered.
type Shown = (String, Vec<Place>, Place);

/// A window ends at an event that follows, and holds what came before it within the period; windows that share an event
/// are one finding.
fn brute_force(events: &[Event], threshold: usize) -> Vec<Shown> {
    let mut groups: BTreeMap<String, Vec<(i64, String, bool)>> = BTreeMap::new();
    for (number, event) in events.iter().enumerate() {
        groups.entry(format!("user{}", event.user)).or_default().push((event.at, id_of(number), event.follows));
    }
    let mut found = Vec::new();
    for (group, mut events) in groups {
        events.sort();
        let mut bursts: Vec<(Vec<Place>, Place)> = Vec::new();
        for (place, (end, last, _)) in events.iter().enumerate().filter(|(_, (_, _, follows))| *follows) {
            let window: Vec<_> = events[..=place].iter().filter(|(at, ..)| *at > end - PERIOD).collect();
            if window.iter().filter(|(_, _, follows)| !follows).count() < threshold {
                continue;
            }
            let window: Vec<_> = window.into_iter().map(|(at, id, _)| (*at, id.clone())).collect();
            match bursts.last_mut().filter(|(burst, _)| window.iter().any(|event| burst.contains(event))) {
                Some((burst, _)) => burst.extend(window),
                None => bursts.push((window, (*end, last.clone()))),
            }
        }
        for (mut burst, trigger) in bursts {
            burst.sort();
            burst.dedup();
            found.push((group.clone(), burst, trigger));
        }
    }
    found.sort();
    found
}

fn batch(events: &[Event]) -> arrow::array::RecordBatch {
    let mut builder = BatchBuilder::default();
    let lines: String =
        events.iter().enumerate().map(|(number, event)| record(number, event).to_string() + "\n").collect();
    envelope::items(&lines, &|_| true, &mut |item| match item {
        Item::Record(record) => builder.push(&record),
        other => panic!("{other:?}"),
    })
    .unwrap();
    builder.finish().unwrap()
}

fn hunted(events: &[Event], rules: &[Rule], range: Range) -> Vec<Finding> {
    let resources = Resources::new(2, 256 << 20, std::env::temp_dir());
    let data = Data::Memory(vec![batch(events)]);
    oracle::RUNTIME.block_on(hunt::evaluate(&resources, &data, rules, range)).unwrap()
}

fn shown(events: &[Event], findings: &[Finding]) -> Vec<Shown> {
    let times: BTreeMap<String, i64> =
        events.iter().enumerate().map(|(number, event)| (id_of(number), event.at)).collect();
    let one = |finding: &Finding| {
        assert_eq!(finding.count, finding.event_ids.len() as u64);
        let mut of: Vec<(i64, String)> = finding.event_ids.iter().map(|id| (times[id], id.clone())).collect();
        of.sort();
        let trigger = time::parse_instant(&finding.trigger_time).unwrap();
        let by = of.iter().find(|(at, id)| {
            let number = (0..events.len()).find(|number| id_of(*number) == *id).unwrap();
            *at == trigger && events[number].follows
        });
        (finding.group["actor"].as_str().unwrap().to_owned(), of.clone(), by.unwrap().clone())
    };
    let mut shown: Vec<Shown> = findings.iter().map(one).collect();
    shown.sort();
    shown
}

proptest! {
    #![proptest_config(oracle::config(64))]

    #[test]
    fn hunts_find_what_brute_force_finds(events in events(), threshold in 1..4u32, cut in 0..30i64) {
        let rule = rule(threshold);
        let want = brute_force(&events, threshold as usize);
        // Of events of one time that follow, either may be told as the trigger's time; the first is it.
        let times = |shown: Vec<Shown>| shown.into_iter().map(|(g, e, (at, _))| (g, e, at)).collect::<Vec<_>>();
        let want = times(want);
        let alone = hunted(&events, std::slice::from_ref(&rule), Range::default());
        prop_assert_eq!(&times(shown(&events, &alone)), &want);

        // Among others it finds the same.
        let others = [oracle::rule(WindowKind::Sliding, 2, false), rule.clone(), oracle::rule(WindowKind::Dedup, 2, true)];
        let mut others = others.to_vec();
        others[2].id = "Other".to_owned();
        let mut among = hunted(&events, &others, Range::default());
        among.retain(|finding| finding.rule_id == rule.id);
        prop_assert_eq!(&among, &alone);

        let cut = START + cut * 5 * MINUTE;
        let mut parts = hunted(&events, std::slice::from_ref(&rule), Range { from: None, to: Some(cut) });
        parts.extend(hunted(&events, std::slice::from_ref(&rule), Range { from: Some(cut), to: None }));
        prop_assert_eq!(times(shown(&events, &parts)), want);
    }

    #[test]
    fn each_cell_of_a_backtest_is_a_hunt(events in events(), cut in 0..30i64) {
        let resources = Resources::new(2, 256 << 20, std::env::temp_dir());
        let data = Data::Memory(vec![batch(&events)]);
        let cells: Vec<_> = sweeps::cells(&["5m", "15m", "1h"], 1..4).into_iter().filter(|w| w.kind == WindowKind::Sliding).collect();
        for range in [Range::default(), Range { from: Some(START + cut * 5 * MINUTE), to: None }] {
            oracle::RUNTIME.block_on(sweeps::hold_against_hunts(&resources, &data, &rule(2), &cells, range));
        }
    }
}

#[test]
fn the_evaluator_itself_finds_something() {
    let at = |minute: i64, follows| Event { user: 0, at: START + minute * MINUTE, follows };
    let found =
        |events: &[Event]| brute_force(events, 2).into_iter().map(|(_, events, _)| events.len()).collect::<Vec<_>>();
    assert_eq!(found(&[at(0, false), at(5, false), at(10, true)]), [3]);
    assert_eq!(found(&[at(0, false), at(5, false), at(15, true)]), [0usize; 0], "the first is a period before it");
    assert_eq!(found(&[at(0, true), at(5, false), at(10, false)]), [0usize; 0]);
    assert_eq!(
        found(&[at(0, false), at(1, false), at(2, true), at(4, false), at(5, false), at(14, true), at(15, false)]),
        [6]
    );
}

#[test]
fn other_windows_and_distinct_values_are_refused() {
    let mut of_kind = rule(2);
    of_kind.window.kind = WindowKind::Dedup;
    let resources = Resources::new(2, 256 << 20, std::env::temp_dir());
    let data = Data::Memory(vec![batch(&[])]);
    let refused =
        oracle::RUNTIME.block_on(hunt::evaluate(&resources, &data, &[of_kind], Range::default())).unwrap_err();
    assert!(refused.to_string().contains("`Rule.Follows` has `FollowedBy`"), "{refused}");
}
