//! Matches of groups that cannot reach the threshold are left out before windows are counted, and change no finding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt as _;
use proptest::prelude::*;
use tawny::engine::Engine;
use tawny::engine::match_scan::{BufferedMatches, GroupThreshold, MatchScan};
use tawny::hunt;
use tawny::rule::{Rule, WindowKind};
use tawny::sql::match_spec::{EventColumn, MatchSpec};
use tawny::table::{MemoryTable, Table as _};
use tawny::time::Range;
use tawny::trail::Prefilter;

use crate::oracle::{self, Event, Least, RUNTIME};

const MEMORY: usize = 256 << 20;
/// With it a table of counts has its least size, and most groups share their counts with others.
const SCARCE: usize = 0;
/// The period of the default rule, in seconds.
const PERIOD: i64 = 900;

fn engine(match_memory: usize) -> Engine {
    Engine::new(2, MEMORY, &std::env::temp_dir()).unwrap().with_match_memory(match_memory)
}

/// Returns events. Some have a later duplicate of another group.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let duplicates = prop::collection::vec((any::<prop::sample::Index>(), 1i64..8, 0u8..2), 0..6);
    (oracle::events(), duplicates).prop_map(|(events, duplicates)| {
        let mut all: BTreeMap<(u16, i64), Event> =
            events.iter().map(|event| ((event.id, event.second), event.clone())).collect();
        for (index, later, user) in duplicates.into_iter().filter(|_| !events.is_empty()) {
            let event = index.get(&events);
            let duplicate = Event { second: event.second + later * 300, user: Some(user), ..event.clone() };
            all.insert((duplicate.id, duplicate.second), duplicate);
        }
        all.into_values().collect()
    })
}

/// Returns the first of the matches with each identity.
fn distinct(events: &[Event]) -> Vec<Event> {
    let mut first: BTreeMap<u16, &Event> = BTreeMap::new();
    for event in events.iter().filter(|event| event.matches) {
        let first = first.entry(event.id).or_insert(event);
        if event.second < first.second {
            *first = event;
        }
    }
    first.into_values().cloned().collect()
}

proptest! {
    #![proptest_config(oracle::config(96))]

    #[test]
    fn left_out_matches_change_no_finding(
        events in events(),
        kind in oracle::kinds(),
        unique in any::<bool>(),
        threshold in 2u32..6,
        min_events in prop::option::of(2u32..7),
    ) {
        let mut rule = oracle::rule(kind, threshold, unique);
        rule.min_events = min_events.and_then(|events| events.try_into().ok());
        let least = Least { threshold: threshold as usize, unique, min_events: min_events.unwrap_or(1) as usize };
        let expected = oracle::brute_force(&distinct(&events), kind, least);
        let mut other = rule.clone();
        "Other".clone_into(&mut other.id);
        other.group_by.pop();
        let table = MemoryTable(vec![oracle::batch(&events)]);
        for match_memory in [SCARCE, MEMORY / 4] {
            let rules = [other.clone(), rule.clone()];
            let engine = engine(match_memory);
            let hunt = hunt::hunt(&engine, &table, &rules, Range::default());
            let found = RUNTIME.block_on(hunt).unwrap().findings.swap_remove(1);
            prop_assert_eq!(&oracle::shown(found), &expected, "with {} bytes", match_memory);
        }
    }
}

/// Returns the matches of `rule` in `events`, and what is left of them if a window needs `least` matches.
async fn matches(events: &[Event], rule: &Rule, least: u32, match_memory: usize) -> [Arc<BufferedMatches>; 2] {
    let engine = engine(match_memory);
    let table = MemoryTable(vec![oracle::batch(events)]);
    let snapshot = table.snapshot(Range::default()).await.unwrap();
    let records = snapshot.records(&engine, Prefilter::default()).await.unwrap();
    let spec = MatchSpec::new(&[rule], Range::default());
    let threshold = GroupThreshold {
        rule: 0,
        group: spec.rules[0].columns.group.clone(),
        period: rule.window.period,
        least,
        needs_whole_groups: rule.window.kind == WindowKind::Dedup,
    };
    let scan = MatchScan::new(&engine, records.provider, &spec).await.unwrap().with_group_counts(vec![threshold]);
    let matches = Arc::new(scan.buffer().await.unwrap());
    let needed = Arc::clone(&matches).without_sparse_groups(&engine).await.unwrap();
    [matches, needed]
}

/// Returns the numbers of events in matches.
async fn numbers(matches: &BufferedMatches) -> BTreeSet<String> {
    let batches: Vec<_> = matches.partition(0, 1).try_collect().await.unwrap();
    let ids = batches.iter().flat_map(|batch| batch.event_texts(EventColumn::Id).iter().flatten());
    ids.map(str::to_owned).collect()
}

fn at(id: u16, user: u8, second: i64) -> Event {
    Event { id, second, account: 0, user: Some(user), address: None, matches: true, copies: 1 }
}

#[test]
fn only_matches_near_a_full_window_are_left() {
    let burst = [at(0, 0, PERIOD - 2), at(1, 0, PERIOD - 1), at(2, 0, PERIOD)];
    let same_group = [at(3, 0, 9 * PERIOD), at(4, 0, 11 * PERIOD)];
    let others = [at(5, 1, PERIOD), at(6, 1, 2 * PERIOD), at(7, 2, 0), at(8, 2, 1), at(9, 2, 2 * PERIOD)];
    let events = [burst.as_slice(), &same_group, &others].concat();
    let left = |kind, least, match_memory| {
        RUNTIME.block_on(async {
            let [all, needed] = matches(&events, &oracle::rule(kind, least, false), least, match_memory).await;
            assert_eq!((all.counts.as_slice(), all.is_spilled()), ([events.len()].as_slice(), match_memory == SCARCE));
            let numbers = numbers(&needed).await;
            assert_eq!(needed.counts, [numbers.len()]);
            numbers
        })
    };
    let ids = |numbers: std::ops::Range<u16>| numbers.map(oracle::id).collect::<BTreeSet<_>>();
    for kind in [WindowKind::Sliding, WindowKind::Tumbling] {
        assert_eq!(left(kind, 3, MEMORY / 4), ids(0..3), "{kind}");
    }
    assert_eq!(left(WindowKind::Dedup, 3, MEMORY / 4), ids(0..5), "the whole group");
    for kind in WindowKind::ALL {
        assert_eq!(left(kind, 4, MEMORY / 4), ids(0..0), "{kind}");
        assert!(left(kind, 3, SCARCE).is_superset(&ids(0..3)), "{kind}");
    }
    assert_eq!(left(WindowKind::Sliding, 2, MEMORY / 4).len(), 7, "two in adjacent spans may share a window");
}

#[test]
fn duplicates_of_needed_matches_are_left() {
    // The first delivery of event 0 is alone in its group, and decides that the second one does not count.
    let full = [at(1, 0, 50), at(2, 0, 60), at(0, 0, 70)];
    let events = [[at(0, 1, 10), at(3, 2, 10)].as_slice(), &full].concat();
    let rule = oracle::rule(WindowKind::Sliding, 3, false);
    let [all, needed] = RUNTIME.block_on(matches(&events, &rule, 3, MEMORY / 4));
    assert_eq!((all.counts[0], needed.counts[0]), (5, 4));
    let table = MemoryTable(vec![oracle::batch(&events)]);
    let found = RUNTIME.block_on(hunt::hunt(&engine(MEMORY / 4), &table, &[rule], Range::default())).unwrap();
    assert_eq!(oracle::shown(found.findings.concat()), Vec::new());
}

#[test]
fn needed_matches_of_a_large_buffer_fit_in_memory() {
    let sparse = (0..20_000).map(|number| at(number, u8::try_from(number % 200).unwrap(), i64::from(number) * 20));
    let burst = (0..50).map(|number| at(20_000 + number, 250, 9_000 + i64::from(number)));
    let events: Vec<Event> = sparse.chain(burst).collect();
    let [all, needed] = RUNTIME.block_on(matches(&events, &oracle::rule(WindowKind::Sliding, 40, false), 40, 1 << 20));
    assert_eq!((all.is_spilled(), needed.is_spilled()), (true, false));
    let numbers = RUNTIME.block_on(numbers(&needed));
    assert!((0..50).all(|number| numbers.contains(&oracle::id(20_000 + number))));
    assert!(numbers.len() < 100, "{}", numbers.len());
}
