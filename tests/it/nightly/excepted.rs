//! Nightly runs with exceptions. Their deliveries, replayed, equal the findings without the removed events.

use proptest::prelude::*;
use serde_json::Value;
use tawny::hunt;
use tawny::time::{DAY, Range};

use super::{Place, START, by_id, fold};
use crate::exceptions::{Case, cases, events, left, record, rules};
use crate::oracle;

const RUNS: usize = 3;

proptest! {
    #![proptest_config(oracle::config(2))]

    #[test]
    fn deliveries_equal_a_hunt_without_the_removed_events(
        events in events(),
        cases in cases(),
        runs in prop::collection::vec(0..RUNS, 40),
        change in 0..RUNS,
    ) {
        let place = Place::new();
        // Exceptions that come later change the version of their rules.
        let none: [Case; 0] = [];
        let before = rules(&place.path("before"), &none)[1].clone();
        let [plain, after] = rules(&place.path("after"), &cases);
        place.put("begin.json", &[]);
        let plainly = Place::new();
        oracle::RUNTIME.block_on(async {
            for run in 0..RUNS {
                let delivered: Vec<Value> = events
                    .iter()
                    .enumerate()
                    .filter(|(number, _)| runs[*number] == run)
                    .map(|(number, event)| record(number, event))
                    .collect();
                if !delivered.is_empty() {
                    place.put(&format!("{run}.json"), &delivered);
                }
                let hunted = if run < change { &before } else { &after };
                let report = place.run(hunted, START + i64::try_from(run).unwrap() * DAY).await.unwrap();
                prop_assert!(!report.is_incomplete());
            }
            let mut expected = Vec::new();
            for (number, rule) in plain.iter().enumerate() {
                let records = left(&events, &cases, number, None);
                if !records.is_empty() {
                    let folder = plainly.path(&format!("trail-{number}"));
                    let table = crate::exceptions::raw(&folder, &records);
                    let rules = std::slice::from_ref(rule);
                    expected.extend(hunt::findings(&place.engine, &table, rules, Range::default()).await.unwrap());
                }
            }
            prop_assert_eq!(fold(&place.path("findings")), by_id(&expected));
            Ok::<(), TestCaseError>(())
        })?;
    }
}
