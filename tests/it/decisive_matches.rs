//! Matches that decide nothing are left out before windows are counted, and change no finding: those of groups that cannot reach
//! the threshold, and repeats of matches that must be new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt as _;
use proptest::prelude::*;
use tawny::engine::Engine;
use tawny::engine::match_scan::{BufferedMatches, GroupThreshold, KeyQuestion, KeyedRule, MatchScan};
use tawny::engine::seen_keys::SeenKeys;
use tawny::hunt;
use tawny::hunt::seen::seen_keys;
use tawny::rule::{Rule, WindowKind};
use tawny::sql::match_spec::{EventColumn, MatchSpec};
use tawny::table::{MemoryTable, Table as _};
use tawny::time::{Instant, Range, SECOND};
use tawny::trail::Prefilter;

use crate::first_seen::{first_seen, new_ones};
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

/// Returns many events of two keys, in one of 60 places in time. In half of the cases some have a later duplicate of the other key.
fn events_of_two_keys() -> impl Strategy<Value = Vec<Event>> {
    let event = (0i64..60, -1i64..2, 0u8..2, prop::option::weighted(0.1, 1i64..8));
    (prop::collection::vec(event, 0..60), any::<bool>()).prop_map(|(events, with_duplicates)| {
        let event = |(number, (slot, jitter, address, later)): (u16, (i64, i64, u8, Option<i64>))| {
            let first = Event { address: Some(address), ..at(number, 0, 100_000 + slot * 300 + jitter) };
            let later = later.filter(|_| with_duplicates).map(|later| Event {
                second: first.second + later * 300,
                address: Some(1 - address),
                ..first.clone()
            });
            std::iter::once(first).chain(later)
        };
        (0u16..).zip(events).flat_map(event).collect()
    })
}

proptest! {
    #![proptest_config(oracle::config(24))]

    #[test]
    fn left_out_repeats_change_no_finding(
        events in events_of_two_keys(),
        kind in oracle::kinds(),
        threshold in 1u32..4,
        history in prop::sample::select(vec![1, 600, 1_800, 5_400, 100_000]),
        learning in prop::option::of(Just(1_799)),
        cut in 0i64..60,
    ) {
        let rule = Rule { first_seen: Some(first_seen(history, learning)), ..oracle::rule(kind, threshold, false) };
        let least = Least::of(threshold as usize, false);
        let expected = oracle::brute_force(&new_ones(&distinct(&events), history, learning), kind, least);
        let table = MemoryTable(vec![oracle::batch(&events)]);
        let cut = Instant::from_micros((oracle::START + 100_000 + cut * 300) * SECOND);
        let ranges = [Range::default(), Range { from: None, to: Some(cut) }, Range { from: Some(cut), to: None }];
        let hunted = |match_memory| {
            let engine = engine(match_memory);
            ranges.map(|range| {
                let found = RUNTIME.block_on(hunt::hunt(&engine, &table, std::slice::from_ref(&rule), range)).unwrap();
                oracle::shown(found.findings.concat())
            })
        };
        let all = hunted(SCARCE);
        prop_assert_eq!(&all[0], &expected);
        prop_assert_eq!(hunted(MEMORY / 4), all, "there is room for keys");
    }
}

/// Returns all matches of `rule` in `events`, and the decisive ones. If the matches need not be new, a window needs `least` of them.
async fn matches(events: &[Event], rule: &Rule, least: u32, match_memory: usize) -> [Arc<BufferedMatches>; 2] {
    matches_after(None, events, rule, least, match_memory).await
}

/// As [`matches`], after a time before which some keys were `seen`.
async fn matches_after(
    seen: Option<SeenKeys>,
    events: &[Event],
    rule: &Rule,
    least: u32,
    match_memory: usize,
) -> [Arc<BufferedMatches>; 2] {
    let engine = engine(match_memory);
    let table = MemoryTable(vec![oracle::batch(events)]);
    let snapshot = table.snapshot(Range::default()).await.unwrap();
    let records = snapshot.records(&engine, Prefilter::default()).await.unwrap();
    let spec = MatchSpec::new(&[rule], Range::default());
    let columns = &spec.rules[0].columns;
    let (mut thresholds, mut keyed) = (Vec::new(), Vec::new());
    match (&rule.first_seen, &columns.newness) {
        (Some(first_seen), Some(newness)) => keyed.push(KeyedRule {
            rule: 0,
            key: [columns.group.clone(), newness.key.clone()].concat(),
            question: KeyQuestion::New(first_seen.periods.history),
            read: Range { from: seen.as_ref().map(|seen| seen.before), to: None },
            seen,
        }),
        _ => thresholds.push(GroupThreshold {
            rule: 0,
            group: columns.group.clone(),
            period: rule.window.period,
            least,
            needs_whole_groups: rule.window.kind == WindowKind::Dedup,
        }),
    }
    let scan = MatchScan::new(&engine, records.provider, &spec).await.unwrap();
    let matches = Arc::new(scan.with_decisions(thresholds, keyed).buffer().await.unwrap());
    let decisive = Arc::clone(&matches).decisive(&engine).await.unwrap();
    [matches, decisive]
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

#[test]
fn matches_that_may_be_new_are_left() {
    const HISTORY: i64 = 1_000;
    // Spans begin at whole numbers of histories since 1970.
    let start = HISTORY - oracle::START.rem_euclid(HISTORY);
    let of_key = |address: u8, first: u16, seconds: &[i64]| {
        let at = |(id, second)| Event { address: Some(address), ..at(id, 0, start + second) };
        (first..).zip(seconds).map(at).collect::<Vec<_>>()
    };
    let repeated = of_key(0, 0, &[0, 1, 500, 999, 1_000, 1_500, 1_999]);
    let new_again = of_key(1, 10, &[10, 20, 1_021, 1_022, 2_023, 5_000]);
    let tied = of_key(2, 20, &[7, 7, 8, 9, 9]);
    // Event 31 came twice, so of its keys the first and the last match of each span are evidence.
    let doubled = [of_key(3, 30, &[100, 200, 300, 400, 1_200]), of_key(0, 31, &[35])].concat();
    let regular = of_key(4, 40, &(0..30).map(|second| second * 10).collect::<Vec<_>>());
    let events = [repeated, new_again, tied, doubled, regular].concat();
    let rule = Rule { first_seen: Some(first_seen(HISTORY, None)), ..oracle::rule(WindowKind::Sliding, 1, false) };
    let [all, decisive] = RUNTIME.block_on(matches(&events, &rule, 1, MEMORY / 4));
    assert_eq!(all.counts, [events.len()]);
    let expected = [0, 3, 4, 6, 10, 12, 14, 15, 20, 21, 30, 31, 33, 34, 40].map(oracle::id);
    assert_eq!(RUNTIME.block_on(numbers(&decisive)), expected.into_iter().collect());
    let [all, decisive] = RUNTIME.block_on(matches(&events, &rule, 1, SCARCE));
    assert_eq!(all.counts, decisive.counts, "there is no room for keys");
}

#[test]
fn matches_of_known_keys_are_left_out() {
    const HISTORY: i64 = 1_000;
    const BEFORE: i64 = 100_000;
    let of_key = |address: u8, first: u16, seconds: &[i64]| {
        let at = |(id, second)| Event { address: Some(address), ..at(id, 0, BEFORE + second) };
        (first..).zip(seconds).map(at).collect::<Vec<_>>()
    };
    let rule = Rule { first_seen: Some(first_seen(HISTORY, None)), ..oracle::rule(WindowKind::Sliding, 1, false) };
    let seen = |events: &[Event], before: i64| {
        let table = MemoryTable(vec![oracle::batch(events)]);
        let before = Instant::from_micros((oracle::START + before) * SECOND);
        let range = Range { from: None, to: Some(before) };
        let keys = RUNTIME.block_on(seen_keys(&engine(MEMORY / 4), &table, std::slice::from_ref(&rule), range));
        let last = keys.unwrap().into_iter().flatten().collect();
        SeenKeys { before, last: Arc::new(last) }
    };
    let earlier = [
        of_key(0, 0, &[-700, -100]),
        of_key(1, 2, &[-990]),
        of_key(2, 3, &[-991]),
        of_key(4, 4, &[-100]),
        of_key(5, 5, &[-100]),
    ];
    let later = [
        of_key(0, 10, &[0, 500, 899]),
        of_key(1, 20, &[10, 12]),
        of_key(2, 30, &[10, 12]),
        of_key(3, 40, &[20]),
        // Event 51 came twice. It needs the others with its keys as evidence.
        of_key(4, 50, &[100, 200]),
        of_key(5, 51, &[150]),
        of_key(5, 60, &[100]),
    ];
    let seen = seen(&earlier.concat(), BEFORE);
    assert_eq!(seen.last.len(), 5);
    let [all, decisive] = RUNTIME.block_on(matches_after(Some(seen), &later.concat(), &rule, 1, MEMORY / 4));
    assert_eq!(all.counts, [later.concat().len()]);
    let expected = [30, 40, 50, 51, 60].map(oracle::id);
    assert_eq!(RUNTIME.block_on(numbers(&decisive)), expected.into_iter().collect());
}
