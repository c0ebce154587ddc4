//! Rules near whose matches other events must be absent.

use proptest::prelude::*;
use tawny::engine::Engine;
use tawny::hunt;
use tawny::rule::{Absence, AbsenceSide, Rule, Setting, panther};
use tawny::table::MemoryTable;
use tawny::time::{Instant, Range, SECOND};

use crate::grids;
use crate::oracle::{self, Event, Least};

const SIDES: [AbsenceSide; 2] = [AbsenceSide::Before, AbsenceSide::After];
/// The period of the rules, in seconds.
const PERIOD: i64 = 900;

/// Returns the absence of events from one address. Some of them are matches too.
pub(crate) fn absence(side: AbsenceSide) -> Absence {
    let text = format!(
        "AnalysisType: rule\nRuleID: My.Lone\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nHunt:\n  {}:\n    \
         - {{Key: sourceIPAddress, Condition: Equals, Value: 192.0.2.1}}\nDetection:\n  - {{Key: eventName, Condition: Exists}}\n",
        side.key()
    );
    panther::parse("lone", &text).unwrap().rule.absence.unwrap()
}

/// Returns `events` without the matches near which another event is not absent, or may not be, by definition.
fn lone_ones(events: &[Event], side: AbsenceSide) -> Vec<Event> {
    let first = events.iter().map(|event| event.second).min().unwrap_or_default();
    let last = events.iter().map(|event| event.second).max().unwrap_or_default();
    let is_lone = |event: &Event| {
        let (near, decided) = match side {
            AbsenceSide::Before => (event.second - PERIOD + 1..event.second + 1, event.second - PERIOD >= first),
            AbsenceSide::After => (event.second..event.second + PERIOD, event.second + PERIOD <= last),
        };
        let group = |event: &Event| (event.account, event.user);
        let mut others = events.iter().filter(|other| other.id != event.id && group(other) == group(event));
        decided && !others.any(|other| other.address == Some(1) && near.contains(&other.second))
    };
    events.iter().filter(|event| !event.matches || is_lone(event)).cloned().collect()
}

proptest! {
    #![proptest_config(oracle::config(10))]

    #[test]
    fn only_lone_matches_count(
        events in oracle::events(),
        kind in oracle::kinds(),
        threshold in 1u32..3,
        unique in any::<bool>(),
        side in prop::sample::select(SIDES.to_vec()),
        cut in 0i64..24,
    ) {
        let rule = Rule { absence: Some(absence(side)), ..oracle::rule(kind, threshold, unique) };
        let expected = oracle::brute_force(&lone_ones(&events, side), kind, Least::of(threshold as usize, unique));
        prop_assert_eq!(&oracle::hunted(&events, &rule, Range::default()), &expected);

        let cut = Instant::from_micros((oracle::START + 10_000 + cut * 300) * SECOND);
        let before = oracle::hunted(&events, &rule, Range { from: None, to: Some(cut) });
        let after = oracle::hunted(&events, &rule, Range { from: Some(cut), to: None });
        let mut parts = [before, after].concat();
        parts.sort();
        prop_assert_eq!(parts, expected);
    }
}

proptest! {
    #![proptest_config(oracle::config(6))]

    #[test]
    fn every_cell_equals_a_hunt(
        events in oracle::events(),
        unique in any::<bool>(),
        side in prop::sample::select(SIDES.to_vec()),
        cut in 0i64..24,
    ) {
        let rule = Rule { absence: Some(absence(side)), ..oracle::rule(tawny::rule::WindowKind::Sliding, 2, unique) };
        let data = MemoryTable(vec![oracle::batch(&events)]);
        let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
        let cut = Instant::from_micros((oracle::START + 10_000 + cut * 300) * SECOND);
        let cells: Vec<Setting> = grids::cells(&["5m", "15m", "901s"], 1..3)
            .into_iter()
            .map(|window| Setting { window, ..rule.setting() })
            .collect();
        oracle::RUNTIME.block_on(async {
            for range in [Range::default(), Range { from: None, to: Some(cut) }, Range { from: Some(cut), to: None }] {
                grids::hold_settings_against_hunts(&engine, &data, &rule, &cells, range).await;
            }
        });
    }
}

fn event(id: u16, second: i64, address: u8, matches: bool) -> Event {
    Event { id, second, account: 0, user: Some(0), address: Some(address), matches, copies: 1 }
}

/// Returns the number of findings and of open matches in `events`.
fn counts(events: &[Event], side: AbsenceSide) -> (usize, u64) {
    let kind = tawny::rule::WindowKind::Sliding;
    let rule = Rule { absence: Some(absence(side)), ..oracle::rule(kind, 1, false) };
    let data = MemoryTable(vec![oracle::batch(events)]);
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    let hunted = oracle::RUNTIME.block_on(hunt::hunt(&engine, &data, &[rule], Range::default())).unwrap();
    (hunted.findings[0].len(), hunted.open_matches[0])
}

#[test]
fn match_is_open_until_its_period_lies_within_the_data() {
    for (side, towards) in [(AbsenceSide::After, 1), (AbsenceSide::Before, -1)] {
        let at = |second: i64| 100_000 + towards * second;
        let the_match = event(1, at(0), 0, true);
        let of = |others: &[Event]| counts(&[std::slice::from_ref(&the_match), others].concat(), side);
        assert_eq!(of(&[]), (0, 1), "{side:?}: the data end with the match");
        assert_eq!(of(&[event(2, at(899), 0, false)]), (0, 1), "{side:?}: the data end within the period");
        assert_eq!(of(&[event(2, at(900), 0, false)]), (1, 0), "{side:?}: the period is over");
        assert_eq!(of(&[event(2, at(900), 1, false)]), (1, 0), "{side:?}: the other event is a period away");
        assert_eq!(of(&[event(2, at(899), 1, false)]), (0, 0), "{side:?}: another event is near");
        assert_eq!(
            of(&[event(2, at(0), 1, false), event(3, at(2_000), 0, false)]),
            (0, 0),
            "{side:?}: at the same time"
        );
        assert_eq!(
            of(&[event(0, at(0), 1, false), event(3, at(2_000), 0, false)]),
            (0, 0),
            "{side:?}: with a lower id"
        );
    }
}

#[test]
fn window_that_ends_after_the_range_has_all_its_matches() {
    let events =
        [0, 800, 2_000].map(|second| event(u16::try_from(second).unwrap(), 100_000 + second, 0, second < 2_000));
    let kinds = [tawny::rule::WindowKind::Dedup, tawny::rule::WindowKind::Tumbling, tawny::rule::WindowKind::Sliding];
    for (kind, side) in kinds.into_iter().flat_map(|kind| SIDES.map(|side| (kind, side))) {
        let rule = Rule { absence: Some(absence(side)), ..oracle::rule(kind, 1, false) };
        let early = event(9, 90_000, 0, false);
        let events = [&events[..], &[early]].concat();
        let cut = Instant::from_micros((oracle::START + 100_100) * SECOND);
        let whole = oracle::hunted(&events, &rule, Range::default());
        let before = oracle::hunted(&events, &rule, Range { from: None, to: Some(cut) });
        let after = oracle::hunted(&events, &rule, Range { from: Some(cut), to: None });
        assert_eq!([before, after].concat(), whole, "{kind} {side:?}");
    }
}

#[test]
fn event_is_not_absent_near_itself() {
    for (side, towards) in [(AbsenceSide::After, 1), (AbsenceSide::Before, -1)] {
        let end = event(9, 100_000 + towards * 5_000, 0, false);
        assert_eq!(counts(&[event(1, 100_000, 1, true), end.clone()], side), (1, 0), "{side:?}");
        let twice = [event(1, 100_000, 1, true), event(2, 100_000, 1, true), end];
        assert_eq!(counts(&twice, side), (0, 0), "{side:?}: two of them are near each other");
    }
}

#[test]
fn absence_is_read_and_errors_name_the_place() {
    let rule = |hunt: &str| {
        let text = format!(
            "AnalysisType: rule\nRuleID: My.Lone\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nHunt: {hunt}\n\
             Detection:\n  - {{Key: eventName, Condition: Exists}}\nTests: []\n"
        );
        panther::parse("lone.yml", &text).map(|read| read.rule.absence.map(|absence| absence.side))
    };
    let event = "[{Key: eventName, Condition: Equals, Value: StartLogging}]";
    assert_eq!(rule(&format!("{{NotFollowedBy: {event}, Window: dedup}}")).unwrap(), Some(AbsenceSide::After));
    assert_eq!(rule(&format!("{{NotPrecededBy: {event}, Unique: awsRegion}}")).unwrap(), Some(AbsenceSide::Before));
    for (hunt, expected) in [
        ("{NotFollowedBy: []}".to_owned(), "`NotFollowedBy` must hold at least one expression"),
        ("{NotPrecededBy: }".to_owned(), "`NotPrecededBy` must hold at least one expression"),
        (format!("{{NotFollowedBy: {event}, NotPrecededBy: {event}}}"), "`NotFollowedBy` or `NotPrecededBy`, not both"),
        (format!("{{NotFollowedBy: {event}, FollowedBy: {event}}}"), "`NotFollowedBy` or `FollowedBy`, not both"),
        (format!("{{NotPrecededBy: {event}, New: [awsRegion], History: 1d}}"), "`NotPrecededBy` or `New`, not both"),
    ] {
        let error = rule(&hunt).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("lone.yml:6"), "{hunt}: {error}");
    }
}

#[test]
fn open_matches_are_reported_once_with_all_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let record = serde_json::json!({"Records": [crate::records::failed_sign_in("ada", "2026-09-01T08:00:00Z", "a")]});
    std::fs::write(path("trail.json"), record.to_string()).unwrap();
    let rule = "AnalysisType: rule\nRuleID: My.Lone\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nHunt:\n  \
                NotFollowedBy:\n    - {Key: sourceIPAddress, Condition: Equals, Value: 192.0.2.1}\n\
                Detection:\n  - {Key: eventName, Condition: Exists}\n";
    std::fs::write(path("rule.yml"), rule).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tawny"))
        .args(["hunt", &path("trail.json"), "--rules", &path("rule.yml"), "--window", "all"])
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.matches("open: the selected data").count(), 1, "{message}");
}
