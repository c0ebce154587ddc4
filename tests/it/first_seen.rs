//! Rules whose matches must be new.

use proptest::prelude::*;
use tawny::engine::Engine;
use tawny::rule::{Field, FirstSeen, NewnessPeriods, Rule, Setting, WindowKind, panther};
use tawny::table::MemoryTable;
use tawny::time::{Instant, Period, Range, SECOND};

use crate::grids;
use crate::oracle::{self, Event, Least};

fn periods(history: i64, learning: Option<i64>) -> NewnessPeriods {
    let period = |seconds: i64| Period::parse_history(&format!("{seconds}s")).unwrap();
    NewnessPeriods { history: period(history), learning: learning.map(period) }
}

pub(crate) fn first_seen(history: i64, learning: Option<i64>) -> FirstSeen {
    let fields = vec![Field::new("sourceIPAddress".parse().unwrap())];
    FirstSeen { fields, periods: periods(history, learning) }
}

/// Returns `events` without the matches that are not new, by definition. Times are in seconds.
pub(crate) fn new_ones(events: &[Event], history: i64, learning: Option<i64>) -> Vec<Event> {
    let key = |event: &Event| (event.account, event.user, event.address);
    let is_new = |event: &Event| {
        let seen = events.iter().filter(|other| other.matches && key(other) == key(event)).any(|other| {
            let before = (event.second - history..event.second).contains(&other.second);
            before || other.second == event.second && other.id < event.id
        });
        let start = events.iter().filter(|other| other.account == event.account).map(|other| other.second).min();
        !seen && learning.is_none_or(|learning| event.second >= start.unwrap() + learning)
    };
    events.iter().filter(|event| !event.matches || is_new(event)).cloned().collect()
}

/// Histories and learning times, in seconds. The distances of the events are multiples of 300, and one more or less.
fn any_periods() -> impl Strategy<Value = (i64, Option<i64>)> {
    (prop::sample::select(vec![1, 300, 600, 1_800, 100_000]), prop::sample::select(vec![None, Some(300), Some(1_799)]))
}

proptest! {
    #![proptest_config(oracle::config(16))]

    #[test]
    fn only_new_matches_count(
        events in oracle::events(),
        kind in oracle::kinds(),
        threshold in 1u32..4,
        unique in any::<bool>(),
        (history, learning) in any_periods(),
        cut in 0i64..24,
    ) {
        let rule = Rule { first_seen: Some(first_seen(history, learning)), ..oracle::rule(kind, threshold, unique) };
        let expected = oracle::brute_force(&new_ones(&events, history, learning), kind, Least::of(threshold as usize, unique));
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
    #![proptest_config(oracle::config(12))]

    #[test]
    fn every_cell_of_a_sweep_equals_a_hunt(
        events in oracle::events(),
        unique in any::<bool>(),
        cut in 0i64..24,
    ) {
        let rule = Rule { first_seen: Some(first_seen(300, None)), ..oracle::rule(WindowKind::Sliding, 2, unique) };
        let data = MemoryTable(vec![oracle::batch(&events)]);
        let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
        let cut = Instant::from_micros((oracle::START + 10_000 + cut * 300) * SECOND);
        let newness = [periods(300, None), periods(1_800, None), periods(1_800, Some(1_799))];
        let cells: Vec<Setting> = grids::cells(&["5m", "901s"], 1..3)
            .into_iter()
            .flat_map(|window| newness.map(|newness| Setting { window, newness: Some(newness), absence: None }))
            .collect();
        oracle::RUNTIME.block_on(async {
            for range in [Range::default(), Range { from: None, to: Some(cut) }, Range { from: Some(cut), to: None }] {
                grids::hold_settings_against_hunts(&engine, &data, &rule, &cells, range).await;
            }
        });
    }
}

#[test]
fn match_is_new_again_after_more_than_the_history() {
    let event = |id: u16, second: i64| Event {
        id,
        second,
        account: 0,
        user: Some(0),
        address: Some(0),
        matches: true,
        copies: 1,
    };
    for history in [300, 1_800] {
        let rule = Rule { first_seen: Some(first_seen(history, None)), ..oracle::rule(WindowKind::Sliding, 1, false) };
        for (distance, expected) in [(history - 1, 1), (history, 1), (history + 1, 2)] {
            let events = [event(1, 100_000), event(2, 100_000 + distance)];
            let new = new_ones(&events, history, None);
            assert_eq!(new.len(), expected, "{distance} seconds apart, with a history of {history}");
            let expected = oracle::brute_force(&new, WindowKind::Sliding, Least::of(1, false));
            assert_eq!(oracle::hunted(&events, &rule, Range::default()), expected, "{distance} of {history}");
        }
    }
}

#[test]
fn first_seen_is_read_and_errors_name_the_place() {
    let rule = |hunt: &str| {
        let text = format!(
            "AnalysisType: rule\nRuleID: My.New\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nHunt: {hunt}\n\
             Detection:\n  - {{Key: eventName, Condition: Exists}}\nTests: []\n"
        );
        panther::parse("new.yml", &text).map(|read| read.rule.first_seen)
    };
    let read = rule("{New: [awsRegion, requestParameters.x], History: 30d, Learning: 7d}").unwrap().unwrap();
    assert_eq!(read.fields.len(), 2);
    assert_eq!(read.periods, periods(30 * 86_400, Some(7 * 86_400)));
    assert_eq!(rule("{New: [awsRegion], History: 400d}").unwrap().unwrap().periods, periods(400 * 86_400, None));
    for (hunt, expected) in [
        ("{New: [awsRegion]}", "`History` is missing"),
        ("{New: [], History: 1d}", "1 to 16 fields"),
        ("{History: 1d}", "`History` needs `New`"),
        ("{Learning: 1d}", "`Learning` needs `New`"),
        ("{New: [awsRegion], History: 30}", "`History`: expected a number and a unit"),
        ("{New: [awsRegion], History: 9999d}", "3660 days"),
        ("{New: [awsRegion], History: 1d, Learning: soon}", "`Learning`"),
    ] {
        let error = rule(hunt).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("new.yml:6"), "{hunt}: {error}");
    }
}

#[test]
fn least_number_of_events_stands_beside_another_count() {
    let rule = |hunt: &str| {
        let text = format!(
            "AnalysisType: rule\nRuleID: My.Rule\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nHunt: {hunt}\n\
             Detection:\n  - {{Key: eventName, Condition: Exists}}\nTests: []\n"
        );
        panther::parse("events.yml", &text).map(|read| read.rule.min_events)
    };
    assert_eq!(rule("{Unique: awsRegion, MinEvents: 10}").unwrap(), 10.try_into().ok());
    for (hunt, expected) in [
        ("{MinEvents: 10}", "beside `Unique` or `Sum`"),
        ("{Unique: awsRegion, MinEvents: 0}", "whole number from 1"),
        ("{Sum: awsRegion, MinEvents: many}", "whole number from 1"),
    ] {
        let error = rule(hunt).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("events.yml:6"), "{hunt}: {error}");
    }
}
