//! Hunts against a brute-force evaluator, on small random sets of events.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tawny::engine::Resources;
use tawny::event::batch::BatchBuilder;
use tawny::hunt::{self, Data};
use tawny::raw::envelope::{self, Item};
use tawny::rule::{Rule, catalog};
use tawny::time::{self, Range};

/// A failed sign-in, in seconds from a start, of one of a few users; `None` for a record without a user name.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: u16,
    second: i64,
    account: u8,
    user: Option<u8>,
    matches: bool,
    copies: usize,
}

const START: i64 = 1_788_220_800;

fn text(event: &Event) -> String {
    let user = event.user.map_or("null".to_owned(), |user| format!("\"user{user}\""));
    let result = if event.matches { "{\"ConsoleLogin\":\"Failure\"}" } else { "null" };
    let time = time::rfc3339((START + event.second) * time::SECOND);
    format!(
        r#"{{"eventTime":"{time}","eventID":"id-{:05}","eventName":"ConsoleLogin","recipientAccountId":"{}","userIdentity":{{"type":"IAMUser","userName":{user}}},"additionalEventData":{{"MFAUsed":"Yes"}},"responseElements":{result}}}"#,
        event.id, event.account
    )
}

fn batch(events: &[Event]) -> arrow::array::RecordBatch {
    let mut builder = BatchBuilder::default();
    let lines: String = events.iter().flat_map(|event| std::iter::repeat_n(text(event) + "\n", event.copies)).collect();
    envelope::items(&lines, &|_| true, &mut |item| match item {
        Item::Record(record) => builder.push(&record),
        other => panic!("{other:?}"),
    })
    .unwrap();
    builder.finish().unwrap()
}

/// A match: its second and its number.
type Match = (i64, u16);

type Shown = (i64, String, Option<String>, Vec<String>, i64, u64);

/// For each group, every full span as a set of matches; spans that share one are merged.
fn brute_force(events: &[Event], period: i64, threshold: usize) -> Vec<Shown> {
    let mut groups: BTreeMap<(u8, Option<u8>), Vec<Match>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.matches) {
        groups.entry((event.account, event.user)).or_default().push((event.second, event.id));
    }
    let mut found = Vec::new();
    for ((account, user), mut matches) in groups {
        matches.sort_unstable();
        let mut bursts: Vec<(Vec<Match>, i64, usize)> = Vec::new();
        for (end, _) in &matches {
            let span: Vec<_> = matches.iter().copied().filter(|(t, _)| end - period < *t && t <= end).collect();
            if span.len() < threshold {
                continue;
            }
            match bursts.iter_mut().find(|(burst, _, _)| burst.iter().any(|one| span.contains(one))) {
                Some((burst, _, peak)) => {
                    *peak = (*peak).max(span.len());
                    burst.extend(span);
                    burst.sort_unstable();
                    burst.dedup();
                }
                None => bursts.push((span.clone(), *end, span.len())),
            }
        }
        for (burst, trigger, peak) in bursts {
            let mut ids: Vec<String> = burst.iter().map(|(_, id)| format!("id-{id:05}")).collect();
            ids.sort();
            found.push((
                burst[0].0,
                account.to_string(),
                user.map(|user| format!("user{user}")),
                ids,
                trigger,
                peak as u64,
            ));
        }
    }
    found.sort();
    found
}

fn hunted(events: &[Event], rule: &Rule, range: Range) -> Vec<Shown> {
    let resources = Resources { threads: 2, memory: 256 << 20, spill: std::env::temp_dir() };
    let data = Data::Memory(vec![batch(events)]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let findings = runtime.block_on(hunt::evaluate(&resources, &data, std::slice::from_ref(rule), range)).unwrap();
    let second = |text: &str| time::parse_instant(text).unwrap() / time::SECOND - START;
    let mut shown: Vec<Shown> = findings
        .into_iter()
        .map(|f| {
            assert_eq!(f.count, f.event_ids.len() as u64);
            assert!(f.count >= u64::from(f.threshold) && f.context["eventName"] == "ConsoleLogin");
            let value = |key: &str| f.group[key].as_str().map(str::to_owned);
            (
                second(&f.first_event),
                value("account").unwrap(),
                value("actor"),
                f.event_ids,
                second(&f.trigger_time),
                f.peak,
            )
        })
        .collect();
    shown.sort();
    shown
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // Times lie on a coarse grid, so that ties and exact distances are common.
    let event =
        (0i64..24, -1i64..2, 0u8..2, prop::option::weighted(0.8, 0u8..2), prop::bool::weighted(0.85), 1usize..3);
    prop::collection::vec(event, 0..24).prop_map(|events| {
        events
            .into_iter()
            .enumerate()
            .map(|(index, (slot, jitter, account, user, matches, copies))| Event {
                id: u16::try_from(index).unwrap().wrapping_mul(7919),
                second: 10_000 + slot * 300 + jitter,
                account,
                user,
                matches,
                copies,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hunts_find_what_brute_force_finds(events in events(), threshold in 1u32..5, cut in 0i64..24) {
        let mut rule = catalog::shipped().unwrap().remove(0);
        rule.window.threshold = threshold.try_into().unwrap();
        let want = brute_force(&events, 900, threshold as usize);
        prop_assert_eq!(hunted(&events, &rule, Range::default()), want.clone());

        let cut = (START + 10_000 + cut * 300) * time::SECOND;
        let mut parts = hunted(&events, &rule, Range { from: None, to: Some(cut) });
        parts.extend(hunted(&events, &rule, Range { from: Some(cut), to: None }));
        parts.sort();
        prop_assert_eq!(parts, want);
    }
}

#[test]
fn the_evaluator_itself_finds_something() {
    let at = |id, second| Event { id, second, account: 0, user: Some(0), matches: true, copies: 1 };
    assert!(brute_force(&[at(1, 0), at(2, 900)], 900, 2).is_empty());
    assert_eq!(brute_force(&[at(1, 0), at(2, 899), at(3, 1_798)], 900, 2).len(), 1);
}
