//! Rules with ordered events, compared with a brute-force evaluator on small random sets of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::raw::envelope::{self, Item};
use tawny::rule::{Counts, Field, Predicate, Rule, WindowKind, panther};
use tawny::store::ReadSettings;
use tawny::table::MemoryTable;
use tawny::time::{Instant, Range, SECOND};

use crate::grids;
use crate::oracle;
use crate::records::failed_sign_in;

const START: Instant = Instant::from_micros(1_788_220_800 * SECOND);
const MINUTE: i64 = 60 * SECOND;
const PERIOD: i64 = 15 * MINUTE;

/// Returns a rule for failed MFA followed by a success.
pub(crate) fn rule(threshold: u32) -> Rule {
    let text = format!(
        "AnalysisType: rule\nRuleID: Rule.Follows\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
         Threshold: {threshold}\nDedupPeriodMinutes: 15\nGroupBy: [{{Key: account}}, {{Key: actor}}]\n\
         Detection:\n  - {{KeyPath: responseElements.ConsoleLogin, Condition: Contains, Value: Failure}}\n\
         Hunt:\n  FollowedBy:\n    - {{KeyPath: responseElements.ConsoleLogin, Condition: Contains, Value: Success}}\n"
    );
    let mut rule = panther::parse("follows", &text).unwrap().rule;
    rule.context.push(("eventID".to_owned(), Field::new("eventID".parse().unwrap())));
    rule
}

/// Returns a rule for failed MFA, a success and a later event, in this order.
fn in_order() -> Rule {
    let step = |text: &str| {
        let rule = format!(
            "AnalysisType: rule\nRuleID: R\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
             Detection:\n  - {{KeyPath: responseElements.ConsoleLogin, Condition: Contains, Value: {text}}}\n"
        );
        panther::parse("step", &rule).unwrap().rule.detection
    };
    let steps = STEPS.map(step).to_vec();
    Rule { detection: Predicate::Any(steps.clone()), counts: Counts::InOrder(steps), ..rule(3) }
}

/// Values of `responseElements.ConsoleLogin`, in any combination.
const STEPS: [&str; 3] = ["Failure", "Success", "Later"];

#[derive(Debug, Clone)]
struct Event {
    user: u8,
    at: Instant,
    /// Which of [`STEPS`] the event is.
    steps: [bool; 3],
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // A coarse time grid makes equal times and exact distances common.
    let event = (0..2u8, 0..12i64, 0..2i64, proptest::array::uniform3(proptest::bool::weighted(0.4)))
        .prop_map(|(user, slot, jitter, steps)| Event { user, at: START + slot * 5 * MINUTE + jitter * SECOND, steps });
    proptest::collection::vec(event, 0..30)
}

fn record(number: usize, event: &Event) -> Value {
    let mut record = failed_sign_in(&format!("user{}", event.user), &event.at.to_string(), &id_of(number));
    let steps = STEPS.iter().zip(event.steps).filter(|(_, is)| *is);
    record["responseElements"]["ConsoleLogin"] = steps.map(|(step, _)| *step).collect::<Vec<_>>().join(" ").into();
    record
}

fn id_of(number: usize) -> String {
    format!("id-{:05}", number * 7_919 % 65_536)
}

/// The sort key of an event: time and identity.
type Place = (Instant, String);

/// A finding: group, events in order, trigger time.
type Shown = (String, Vec<Place>, Instant);

/// Returns whether the events of a window, with time and steps, are a finding.
type Fires = dyn Fn(&[(Instant, [bool; 3])]) -> bool;

/// Requires `then` failures and a success at the end of the window. Events with equal times are in either order.
fn followed(threshold: usize) -> impl Fn(&[(Instant, [bool; 3])]) -> bool {
    move |window| {
        let end = window.iter().map(|(at, _)| *at).max();
        let follows = |then: usize| window[then].1[1] && Some(window[then].0) == end;
        let others = |then: usize| (0..window.len()).filter(move |first| *first != then && window[*first].1[0]);
        (0..window.len()).any(|then| follows(then) && others(then).count() >= threshold)
    }
}

/// Requires a separate event for each step, in order, with the last one at the end of the window.
fn all_steps(window: &[(Instant, [bool; 3])]) -> bool {
    let end = window.iter().map(|(at, _)| *at).max();
    let of = |step: usize| (0..window.len()).filter(move |event| window[*event].1[step]);
    let takes = |first: usize, second: usize, third: usize| {
        let at = |event: usize| window[event].0;
        first != second && second != third && first != third && at(first) <= at(second) && at(second) <= at(third)
    };
    let last = |third: &usize| Some(window[*third].0) == end;
    of(2).filter(last).any(|third| of(1).any(|second| of(0).any(|first| takes(first, second, third))))
}

/// A window ends at the time of an event and holds the matches within the period up to it. Windows that share an event
/// are one finding. Only the first `of` steps are matches.
fn brute_force(events: &[Event], of: usize, fires: &Fires) -> Vec<Shown> {
    let mut groups: BTreeMap<String, Vec<(Instant, String, [bool; 3])>> = BTreeMap::new();
    for (number, event) in events.iter().enumerate().filter(|(_, event)| event.steps[..of].contains(&true)) {
        groups.entry(format!("user{}", event.user)).or_default().push((event.at, id_of(number), event.steps));
    }
    let mut found = Vec::new();
    for (group, mut events) in groups {
        events.sort();
        let mut bursts: Vec<(Vec<Place>, Instant)> = Vec::new();
        let ends: BTreeSet<Instant> = events.iter().map(|(at, ..)| *at).collect();
        for end in ends {
            let window: Vec<_> = events.iter().filter(|(at, ..)| end - PERIOD < *at && *at <= end).collect();
            if !fires(&window.iter().map(|(at, _, steps)| (*at, *steps)).collect::<Vec<_>>()) {
                continue;
            }
            let window: Vec<_> = window.into_iter().map(|(at, id, _)| (*at, id.clone())).collect();
            match bursts.last_mut().filter(|(burst, _)| window.iter().any(|event| burst.contains(event))) {
                Some((burst, _)) => burst.extend(window),
                None => bursts.push((window, end)),
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
    envelope::items(&lines, &ReadSettings::default(), &|_| true, &mut |item| match item {
        Item::Record(record) => {
            builder.push(&record);
        }
        other => panic!("{other:?}"),
    })
    .unwrap();
    builder.finish().unwrap()
}

fn hunted(events: &[Event], rules: &[Rule], range: Range) -> Vec<Finding> {
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    let data = MemoryTable(vec![batch(events)]);
    oracle::RUNTIME.block_on(hunt::findings(&engine, &data, rules, range)).unwrap()
}

/// Converts findings. The trigger must be an event of the step `last`.
fn shown(events: &[Event], findings: &[Finding], last: usize) -> Vec<Shown> {
    let by_id: BTreeMap<String, &Event> =
        events.iter().enumerate().map(|(number, event)| (id_of(number), event)).collect();
    let one = |finding: &Finding| {
        assert_eq!(finding.count, finding.event_ids.len() as u64);
        let mut of: Vec<Place> = finding.event_ids.iter().map(|id| (by_id[id].at, id.clone())).collect();
        of.sort();
        let trigger = finding.trigger_time;
        let by = by_id[finding.context["eventID"].as_str().unwrap()];
        assert!(by.at == trigger && by.steps[last], "{by:?}");
        (finding.group["actor"].as_str().unwrap().to_owned(), of, trigger)
    };
    let mut shown: Vec<Shown> = findings.iter().map(one).collect();
    shown.sort();
    shown
}

/// Checks a hunt for a rule alone, with other rules and in two ranges against the expected findings.
fn hold_against(events: &[Event], rule: &Rule, want: &[Shown], cut: i64) -> Result<(), TestCaseError> {
    let last = if matches!(rule.counts, Counts::InOrder(_)) { 2 } else { 1 };
    let alone = hunted(events, std::slice::from_ref(rule), Range::default());
    prop_assert_eq!(shown(events, &alone, last), want);

    // With other rules it finds the same.
    let other = Rule { id: "Other".to_owned(), ..oracle::rule(WindowKind::Dedup, 2, true) };
    let others = [oracle::rule(WindowKind::Sliding, 2, false), rule.clone(), other];
    let mut among = hunted(events, &others, Range::default());
    among.retain(|finding| finding.rule_id == rule.id);
    prop_assert_eq!(&among, &alone);

    let cut = START + cut * 5 * MINUTE;
    let mut parts = hunted(events, std::slice::from_ref(rule), Range { from: None, to: Some(cut) });
    parts.extend(hunted(events, std::slice::from_ref(rule), Range { from: Some(cut), to: None }));
    prop_assert_eq!(shown(events, &parts, last), want);
    Ok(())
}

proptest! {
    #![proptest_config(oracle::config(64))]

    #[test]
    fn hunts_equal_brute_force(events in events(), threshold in 1..4u32, cut in 0..12i64) {
        let number = threshold as usize;
        hold_against(&events, &rule(threshold), &brute_force(&events, 2, &followed(number)), cut)?;
    }

    #[test]
    fn steps_are_counted_in_order(events in events(), cut in 0..12i64) {
        hold_against(&events, &in_order(), &brute_force(&events, 3, &all_steps), cut)?;
    }

    #[test]
    fn each_followed_by_cell_equals_a_hunt(events in events(), cut in 0..12i64) {
        let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
        let data = MemoryTable(vec![batch(&events)]);
        let cells: Vec<_> = grids::cells(&["5m", "15m", "1h"], 1..4).into_iter().filter(|w| w.kind == WindowKind::Sliding).collect();
        for range in [Range::default(), Range { from: Some(START + cut * 5 * MINUTE), to: None }] {
            oracle::RUNTIME.block_on(grids::hold_against_hunts(&engine, &data, &rule(2), &cells, range));
        }
    }
}

#[test]
fn reference_evaluator_finds_something() {
    let at =
        |minute: i64, follows: bool| Event { user: 0, at: START + minute * MINUTE, steps: [!follows, follows, false] };
    let both = |minute: i64| Event { user: 0, at: START + minute * MINUTE, steps: [true, true, false] };
    let found = |events: &[Event]| {
        let found = brute_force(events, 2, &followed(2));
        found.into_iter().map(|(_, events, _)| events.len()).collect::<Vec<_>>()
    };
    assert_eq!(found(&[at(0, false), at(5, false), at(10, true)]), [3]);
    assert_eq!(
        found(&[at(0, false), at(5, false), at(15, true)]),
        [0usize; 0],
        "the first is exactly a period earlier"
    );
    assert_eq!(found(&[at(0, true), at(5, false), at(10, false)]), [0usize; 0]);
    assert_eq!(found(&[at(0, true), at(0, false), at(0, false)]), [3], "events at one time are in either order");
    assert_eq!(found(&[both(0), both(1)]), [0usize; 0], "an event does not come before itself");
    assert_eq!(found(&[both(0), both(1), both(2)]), [3]);
    assert_eq!(found(&[both(0), both(0), both(0)]), [3]);
    assert_eq!(found(&[both(0), both(0)]), [0usize; 0]);
    assert_eq!(
        found(&[at(0, false), at(1, false), at(2, true), at(4, false), at(5, false), at(14, true), at(15, false)]),
        [6]
    );
    let all = (START, [true, true, true]);
    assert!(all_steps(&[all; 3]) && !all_steps(&[all; 2]));
    let step = |at: i64, step: usize| (START + at, [step == 0, step == 1, step == 2]);
    assert!(all_steps(&[step(0, 2), step(0, 0), step(0, 1)]) && all_steps(&[step(0, 1), step(0, 0), step(1, 2)]));
    assert!(!all_steps(&[step(0, 1), step(1, 0), step(2, 2)]));
}

#[test]
fn followed_by_refuses_other_windows_and_unique() {
    let mut of_kind = rule(2);
    of_kind.window.kind = WindowKind::Dedup;
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    let data = MemoryTable(vec![batch(&[])]);
    let refused = oracle::RUNTIME.block_on(hunt::findings(&engine, &data, &[of_kind], Range::default())).unwrap_err();
    assert!(refused.to_string().contains("`Rule.Follows` has `FollowedBy`"), "{refused}");
}

#[test]
fn events_in_one_second_satisfy_either_order_on_every_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let sigma = |title: &str, outcome: &str| {
        format!(
            "title: {title}\nname: {title}\nlogsource: {{product: aws, service: cloudtrail}}\n\
             detection:\n  s: {{responseElements.ConsoleLogin: {outcome}}}\n  condition: s\n---\n"
        )
    };
    let correlation = "title: Ordered\nname: Ordered\ncorrelation:\n  type: temporal_ordered\n  rules: [fails, succeeds]\n  \
                       group-by: [userIdentity.userName]\n  timespan: 10m\n";
    std::fs::write(
        path("a.yml"),
        [sigma("fails", "Failure"), sigma("succeeds", "Success"), correlation.to_owned()].concat(),
    )
    .unwrap();
    std::fs::write(
        path("b.yml"),
        "AnalysisType: rule\nRuleID: Followed\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
         GroupBy: [{Key: actor}]\nDedupPeriodMinutes: 10\nDetection: [{KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Failure}]\n\
         Hunt: {FollowedBy: [{KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Success}]}\n",
    )
    .unwrap();
    let record = |user: &str, second: u8, outcome: &str, id: &str| {
        let mut record = failed_sign_in(user, &format!("2026-09-01T10:00:0{second}Z"), id);
        record["responseElements"]["ConsoleLogin"] = outcome.into();
        record
    };
    // The following event has the smaller id, the larger id, or comes first.
    let records = [
        record("anaya", 1, "Success", "1"),
        record("anaya", 1, "Failure", "2"),
        record("bo", 1, "Failure", "3"),
        record("bo", 1, "Success", "4"),
        record("cy", 1, "Success", "5"),
        record("cy", 2, "Failure", "6"),
    ];
    std::fs::write(path("trail.json"), serde_json::json!({ "Records": records }).to_string()).unwrap();
    let tawny = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    tawny(&["convert", &path("trail.json"), "--lake", &path("lake")]);
    for data in ["trail.json", "lake"] {
        for rules in [&["a.yml"][..], &["b.yml"], &["a.yml", "b.yml"]] {
            let mut arguments = vec!["hunt".to_owned(), path(data), "--format".to_owned(), "jsonl".to_owned()];
            arguments.extend(rules.iter().flat_map(|rule| ["--rules".to_owned(), path(rule)]));
            let found = tawny(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            let mut found: Vec<String> = found
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["event_ids"].to_string())
                .collect();
            found.sort();
            let want = [r#"["1","2"]"#, r#"["3","4"]"#].iter().flat_map(|ids| std::iter::repeat_n(*ids, rules.len()));
            assert_eq!(found, want.collect::<Vec<_>>(), "{data} {rules:?}");
        }
    }
}
