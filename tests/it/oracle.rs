//! Hunts compared with a brute-force evaluator on small random sets of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::raw::envelope::{self, Item};
use tawny::rule::{Counts, Field, PeakLimits, Rule, WindowKind, catalog};
use tawny::store::ReadSettings;
use tawny::table::MemoryTable;
use tawny::time::{Instant, Range, SECOND};

/// A failed sign-in of one of a few users, in seconds from the start. `None` is a record without a user name or
/// address.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: u16,
    pub(crate) second: i64,
    pub(crate) account: u8,
    pub(crate) user: Option<u8>,
    pub(crate) address: Option<u8>,
    pub(crate) matches: bool,
    pub(crate) copies: usize,
}

pub(crate) const START: i64 = 1_788_220_800;
/// The period of the rules, in seconds.
const PERIOD: i64 = 900;

fn text(event: &Event) -> String {
    let user = event.user.map_or("null".to_owned(), |user| format!("\"user{user}\""));
    let address = event.address.map_or("null".to_owned(), |address| format!("\"192.0.2.{address}\""));
    let result = if event.matches { "{\"ConsoleLogin\":\"Failure\"}" } else { "null" };
    let time = Instant::from_micros((START + event.second) * SECOND).to_string();
    format!(
        r#"{{"eventTime":"{time}","eventID":"id-{:05}","eventName":"ConsoleLogin","recipientAccountId":"{:012}","sourceIPAddress":{address},"userIdentity":{{"type":"IAMUser","userName":{user}}},"additionalEventData":{{"MFAUsed":"Yes"}},"responseElements":{result}}}"#,
        event.id, event.account
    )
}

/// Returns the records of events, one per line, with their duplicates.
pub(crate) fn lines(events: &[Event]) -> String {
    events.iter().flat_map(|event| std::iter::repeat_n(text(event) + "\n", event.copies)).collect()
}

pub(crate) fn batch(events: &[Event]) -> RecordBatch {
    let mut builder = BatchBuilder::default();
    let lines = lines(events);
    envelope::items(&lines, &ReadSettings::default(), &|_| true, &mut |item| match item {
        Item::Record(record) => {
            builder.push(&record);
        }
        other => panic!("{other:?}"),
    })
    .unwrap();
    builder.finish().unwrap()
}

/// A match: second, number, address.
type Match = (i64, u16, Option<u8>);

/// A finding in the form that both sides produce.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shown {
    first: i64,
    account: String,
    user: Option<String>,
    events: Vec<String>,
    trigger: i64,
    /// The triggering event. Empty if the rule does not report it.
    by: String,
    peak: u64,
    distinct: Option<u64>,
}

pub(crate) fn id(number: u16) -> String {
    format!("id-{number:05}")
}

/// Returns what counts toward the threshold.
fn count(matches: &[Match], unique: bool) -> usize {
    if unique {
        matches.iter().filter_map(|(_, _, address)| *address).collect::<BTreeSet<_>>().len()
    } else {
        matches.len()
    }
}

/// The least content of a window that is found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Least {
    pub(crate) threshold: usize,
    pub(crate) unique: bool,
    pub(crate) min_events: usize,
}

impl Least {
    pub(crate) fn of(threshold: usize, unique: bool) -> Least {
        Least { threshold, unique, min_events: 1 }
    }

    fn is_in(self, matches: &[Match]) -> bool {
        count(matches, self.unique) >= self.threshold && matches.len() >= self.min_events
    }
}

/// Returns the windows of a group's sorted matches by definition. A sliding one is a full span; spans that share a match
/// are merged.
fn windows(matches: &[Match], kind: WindowKind, least: Least) -> Vec<Vec<Match>> {
    let mut found: Vec<Vec<Match>> = Vec::new();
    match kind {
        WindowKind::Sliding => {
            for (end, _, _) in matches {
                let span: Vec<Match> = span(matches, *end);
                if !least.is_in(&span) {
                    continue;
                }
                match found.iter_mut().find(|burst| burst.iter().any(|one| span.contains(one))) {
                    Some(burst) => burst.extend(span),
                    None => found.push(span),
                }
            }
            for burst in &mut found {
                burst.sort_unstable();
                burst.dedup();
            }
        }
        WindowKind::Dedup => {
            for one in matches {
                match found.last_mut().filter(|window| one.0 < window[0].0 + PERIOD) {
                    Some(window) => window.push(*one),
                    None => found.push(vec![*one]),
                }
            }
        }
        WindowKind::Tumbling => {
            for one in matches {
                let number = |one: &Match| (START + one.0).div_euclid(PERIOD);
                match found.last_mut().filter(|window| number(&window[0]) == number(one)) {
                    Some(window) => window.push(*one),
                    None => found.push(vec![*one]),
                }
            }
        }
    }
    found.retain(|window| least.is_in(window));
    found
}

/// Returns the matches at `end` and less than a period before it.
fn span(matches: &[Match], end: i64) -> Vec<Match> {
    matches.iter().copied().filter(|(t, _, _)| end - PERIOD < *t && *t <= end).collect()
}

pub(crate) fn brute_force(events: &[Event], kind: WindowKind, least: Least) -> Vec<Shown> {
    let unique = least.unique;
    let mut groups: BTreeMap<(u8, Option<u8>), Vec<Match>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.matches) {
        groups.entry((event.account, event.user)).or_default().push((event.second, event.id, event.address));
    }
    let mut found = Vec::new();
    for ((account, user), mut matches) in groups {
        matches.sort_unstable();
        for window in windows(&matches, kind, least) {
            // All matches in a window up to this one: for a sliding window, the span that ends with it.
            let so_far = |at: usize| {
                let begin = if kind == WindowKind::Sliding { window[at].0 - PERIOD } else { i64::MIN };
                window[..=at].iter().copied().filter(|one| one.0 > begin).collect::<Vec<_>>()
            };
            let trigger = (0..window.len()).find(|at| least.is_in(&so_far(*at))).unwrap();
            let spans: Vec<Vec<Match>> = match kind {
                WindowKind::Sliding => {
                    let spans = window.iter().map(|one| span(&matches, one.0));
                    spans.filter(|span| least.is_in(span)).collect()
                }
                WindowKind::Dedup | WindowKind::Tumbling => vec![window.clone()],
            };
            let most = |unique| spans.iter().map(|span| count(span, unique)).max().unwrap() as u64;
            let mut events: Vec<String> = window.iter().map(|(_, number, _)| id(*number)).collect();
            events.sort();
            found.push(Shown {
                first: window[0].0,
                account: format!("{account:012}"),
                user: user.map(|user| format!("user{user}")),
                events,
                trigger: window[trigger].0,
                by: id(window[trigger].1),
                peak: most(false),
                distinct: unique.then(|| most(true)),
            });
        }
    }
    found.sort();
    found
}

pub(crate) static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap());

fn hunt_in(batches: Vec<RecordBatch>, threads: usize, rules: &[Rule], range: Range) -> Vec<Finding> {
    let engine = Engine::new(threads, 256 << 20, &std::env::temp_dir()).unwrap();
    RUNTIME.block_on(hunt::findings(&engine, &MemoryTable(batches), rules, range)).unwrap()
}

pub(crate) fn shown(findings: Vec<Finding>) -> Vec<Shown> {
    let second = |time: Instant| time.seconds() - START;
    let mut shown: Vec<Shown> = findings
        .into_iter()
        .map(|f| {
            assert_eq!(f.count, f.event_ids.len() as u64);
            assert!(f.count >= u64::from(f.threshold));
            let value = |key: &str| f.group[key].as_str().map(str::to_owned);
            Shown {
                first: second(f.first_event),
                account: value("account").unwrap(),
                user: value("actor"),
                events: f.event_ids,
                trigger: second(f.trigger_time),
                by: f.context["eventID"].as_str().unwrap().to_owned(),
                peak: f.peak,
                distinct: f.distinct,
            }
        })
        .collect();
    shown.sort();
    shown
}

pub(crate) fn rule(kind: WindowKind, threshold: u32, unique: bool) -> Rule {
    let mut rule = catalog::default().unwrap();
    rule.window.kind = kind;
    rule.window.threshold = threshold.try_into().unwrap();
    if unique {
        rule.counts = Counts::Distinct(Field::new("sourceIPAddress".parse().unwrap()));
    }
    rule.context.push(("eventID".to_owned(), Field::new("eventID".parse().unwrap())));
    rule
}

/// Returns the findings of one rule, which are the same alone and together with another rule.
pub(crate) fn hunted(events: &[Event], rule: &Rule, range: Range) -> Vec<Shown> {
    let batches = vec![batch(events)];
    let alone = hunt_in(batches.clone(), 2, std::slice::from_ref(rule), range);
    let mut other = rule.clone();
    "Other".clone_into(&mut other.id);
    other.window.threshold = other.window.threshold.saturating_add(1);
    other.window.period = "5m".parse().unwrap();
    other.group_by.pop();
    other.context.clear();
    other.peak_limits = PeakLimits::default();
    let mut together = hunt_in(batches, 2, &[other, rule.clone()], range);
    together.retain(|finding| finding.rule_id == rule.id);
    assert_eq!(together, alone);
    shown(alone)
}

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    // A coarse time grid makes ties and exact distances common.
    let who = (0u8..2, prop::option::weighted(0.8, 0u8..2), prop::option::weighted(0.8, 0u8..3));
    let event = (0i64..24, -1i64..2, who, prop::bool::weighted(0.85), 1usize..3);
    prop::collection::vec(event, 0..24).prop_map(|events| {
        events
            .into_iter()
            .enumerate()
            .map(|(index, (slot, jitter, (account, user, address), matches, copies))| Event {
                id: u16::try_from(index).unwrap().wrapping_mul(7919),
                second: 10_000 + slot * 300 + jitter,
                account,
                user,
                address,
                matches,
                copies,
            })
            .collect()
    })
}

/// Returns a trail of several days: random sets of events, one after another. It is the same in each run.
pub(crate) fn trail() -> Vec<Event> {
    let sets = prop::collection::vec(events(), 40).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let shifted = (0i64..).zip(sets).flat_map(|(set, events)| {
        events.into_iter().map(move |event| Event { second: event.second + set * 25_200, ..event })
    });
    (0u16..).zip(shifted).map(|(id, event)| Event { id, ..event }).collect()
}

/// Returns the findings of the default rule in the events with these IDs, by definition.
pub(crate) fn default_rule_findings(events: &[Event], ids: &BTreeSet<String>) -> Vec<Shown> {
    let rule = catalog::default().unwrap();
    assert_eq!((&rule.window.period, &rule.counts), (&"15m".parse().unwrap(), &Counts::Matches));
    let events: Vec<Event> = events.iter().filter(|event| ids.contains(&id(event.id))).cloned().collect();
    assert_eq!(events.len(), ids.len(), "IDs that the trail lacks");
    let mut found = brute_force(&events, rule.window.kind, Least::of(rule.window.threshold.get() as usize, false));
    for finding in &mut found {
        finding.by.clear();
    }
    found
}

/// Returns findings that a hunt with the default rule printed as JSON lines.
pub(crate) fn printed_findings(lines: &str) -> Vec<Shown> {
    let read = |line: &str| {
        let finding: Value = serde_json::from_str(line).unwrap();
        let second = |name: &str| finding[name].as_str().unwrap().parse::<Instant>().unwrap().seconds() - START;
        let events: Vec<String> = serde_json::from_value(finding["event_ids"].clone()).unwrap();
        assert_eq!(finding["count"], events.len());
        Shown {
            first: second("first_event"),
            account: finding["group"]["account"].as_str().unwrap().to_owned(),
            user: finding["group"]["actor"].as_str().map(str::to_owned),
            events,
            trigger: second("trigger_time"),
            by: String::new(),
            peak: finding["peak"].as_u64().unwrap(),
            distinct: finding["distinct"].as_u64(),
        }
    };
    let mut found: Vec<Shown> = lines.lines().map(read).collect();
    found.sort();
    found
}

pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Returns whether the greatest count of a finding is within limits.
fn within(limits: PeakLimits, finding: &Shown) -> bool {
    let peak = finding.distinct.unwrap_or(finding.peak);
    limits.at_most.is_none_or(|most| peak <= u64::from(most)) && limits.not.map(u64::from) != Some(peak)
}

pub(crate) fn kinds() -> impl Strategy<Value = WindowKind> {
    prop::sample::select(WindowKind::ALL.to_vec())
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn hunts_equal_brute_force(
        events in events(),
        kind in kinds(),
        unique in any::<bool>(),
        threshold in 1u32..5,
        more in prop::option::weighted(0.3, 0u32..3),
        not in prop::option::weighted(0.2, 1u32..5),
        min_events in 1u32..6,
        cut in 0i64..24,
    ) {
        let mut rule = rule(kind, threshold, unique);
        rule.min_events = Some(min_events.try_into().unwrap()).filter(|_| min_events > 2);
        rule.peak_limits = PeakLimits { at_most: more.map(|more| threshold + more), not };
        let min_events = rule.min_events.map_or(1, |events| events.get() as usize);
        let mut want = brute_force(&events, kind, Least { threshold: threshold as usize, unique, min_events });
        want.retain(|finding| within(rule.peak_limits, finding));
        prop_assert_eq!(hunted(&events, &rule, Range::default()), want.clone());

        let cut = Instant::from_micros((START + 10_000 + cut * 300) * SECOND);
        let mut parts = hunted(&events, &rule, Range { from: None, to: Some(cut) });
        parts.extend(hunted(&events, &rule, Range { from: Some(cut), to: None }));
        parts.sort();
        prop_assert_eq!(parts, want);
    }
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn order_files_duplicates_and_threads_change_nothing(
        events in events(),
        order in prop::collection::vec(any::<u32>(), 48),
        files in 1usize..5,
        threads in 1usize..5,
        kind in kinds(),
        unique in any::<bool>(),
    ) {
        let rules = [rule(kind, 2, unique)];
        let whole = batch(&events);
        let once: Vec<Event> = events.iter().map(|event| Event { copies: 1, ..event.clone() }).collect();
        let want = hunt_in(vec![batch(&once)], 1, &rules, Range::default());

        let mut rows: Vec<u32> = (0..u32::try_from(whole.num_rows()).unwrap()).collect();
        rows.sort_by_key(|row| order[*row as usize % order.len()].wrapping_mul(row + 1));
        let parts = rows.chunks(rows.len().div_ceil(files).max(1));
        let parts = parts.map(|part| compute::take_record_batch(&whole, &UInt32Array::from(part.to_vec())).unwrap());
        prop_assert_eq!(hunt_in(parts.collect(), threads, &rules, Range::default()), want);
    }

    #[test]
    fn window_laws_hold(events in events(), threshold in 1u32..4, unique in any::<bool>()) {
        let of = |kind, threshold| hunted(&events, &rule(kind, threshold, unique), Range::default());
        let sliding = of(WindowKind::Sliding, threshold);
        let within = |inner: &Shown, outer: &Shown| {
            (&inner.account, &inner.user) == (&outer.account, &outer.user)
                && inner.events.iter().all(|event| outer.events.contains(event))
        };
        for kind in [WindowKind::Dedup, WindowKind::Tumbling] {
            for finding in of(kind, threshold) {
                prop_assert!(sliding.iter().any(|burst| within(&finding, burst)), "{:?} in no burst", finding);
            }
        }
        let events_of = |findings: &[Shown]| findings.iter().flat_map(|f| f.events.clone()).collect::<BTreeSet<_>>();
        for kind in WindowKind::ALL {
            let (fewer, more) = (events_of(&of(kind, threshold)), events_of(&of(kind, threshold + 1)));
            prop_assert!(more.is_subset(&fewer), "a higher threshold added events: {:?}", kind);
        }
        if !unique {
            let groups = |kind| of(kind, 2).into_iter().map(|f| (f.account, f.user)).collect::<BTreeSet<_>>();
            prop_assert_eq!(groups(WindowKind::Sliding), groups(WindowKind::Dedup));
        }
    }
}

#[test]
fn reference_evaluator_finds_something() {
    let at = |id, second, address| Event {
        id,
        second,
        account: 0,
        user: Some(0),
        address: Some(address),
        matches: true,
        copies: 1,
    };
    let far = [at(1, 0, 1), at(2, 900, 2)];
    let near = [at(1, 0, 1), at(2, 899, 1), at(3, 1_798, 2)];
    for (kind, unique, of_far, of_near) in [
        (WindowKind::Sliding, false, 0, 1),
        (WindowKind::Sliding, true, 0, 1),
        (WindowKind::Dedup, false, 0, 1),
        (WindowKind::Dedup, true, 0, 0),
        (WindowKind::Tumbling, false, 0, 1),
        (WindowKind::Tumbling, true, 0, 0),
    ] {
        assert_eq!(brute_force(&far, kind, Least::of(2, unique)).len(), of_far, "{kind} {unique}");
        assert_eq!(brute_force(&near, kind, Least::of(2, unique)).len(), of_near, "{kind} {unique}");
    }
}
