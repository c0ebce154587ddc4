//! Hunts of adjacent ranges find what one hunt finds, for a lake and a raw trail and every window kind.

use std::path::Path;

use std::sync::Arc;

use serde_json::json;
use tawny::convert::{Limits, convert};
use tawny::engine::Engine;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::lake::Lake;
use tawny::rule::{Rule, WindowKind, catalog};
use tawny::statistics::ScanStatistics;
use tawny::store::{Scratch, Stores};
use tawny::table::{RawTrail, Table};
use tawny::time::{DAY, Instant, Range, SECOND};
use tawny::trail::{Selection, Trail};

use crate::grids;
use crate::records::failed_sign_in;

const START: Instant = Instant::from_micros(1_788_220_800 * SECOND);
const MINUTE: i64 = 60 * SECOND;

/// Writes failed sign-ins: one user's every ten minutes for days without a gap, another's in pairs now and then.
fn write_trail(folder: &Path) {
    let record = |user: &str, at: i64| failed_sign_in(user, &(START + at).to_string(), &format!("{user}-{at}"));
    let restless = (0..6 * 24 * 6).map(|step| record("restless", step * 10 * MINUTE + step % 7 * SECOND));
    let calm =
        (0..18).flat_map(|step| [step * 8 * 60, step * 8 * 60 + 5].map(|minute| record("calm", minute * MINUTE)));
    let records: Vec<serde_json::Value> = restless.chain(calm).collect();
    write(folder, &records);
}

fn write(folder: &Path, records: &[serde_json::Value]) {
    for (number, part) in records.chunks(200).enumerate() {
        std::fs::write(folder.join(format!("{number}.json")), json!({ "Records": part }).to_string()).unwrap();
    }
}

#[test]
fn adjacent_ranges_find_every_burst_once() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail");
    std::fs::create_dir(&trail).unwrap();
    write_trail(&trail);
    let sources = [trail.display().to_string()];
    let lake = Lake::at(&folder.path().join("lake"));
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let limits = Limits { threads: 2, memory: 64 << 20, in_flight: 4 };
    runtime.block_on(async {
        let found = Trail::find(&Stores::default(), &sources, &Selection::default()).await.unwrap();
        convert(found, &lake, limits, &Scratch::default(), &mut |_| {}).await.unwrap();
    });

    let rules: Vec<Rule> = WindowKind::ALL
        .into_iter()
        .map(|kind| {
            let mut rule = catalog::default().unwrap();
            rule.window.kind = kind;
            rule
        })
        .collect();
    let in_lake =
        |rules: &[Rule], range| runtime.block_on(hunt::findings(&engine, &lake.clone(), rules, range)).unwrap();
    let raw = || {
        let progress = Arc::new(|_, _: &ScanStatistics| {});
        RawTrail::new(Stores::default(), sources.to_vec(), Selection::default(), 4, progress)
    };
    let in_trail = |range| runtime.block_on(hunt::findings(&engine, &raw(), &rules, range)).unwrap();
    let whole = in_lake(&rules, Range::default());
    assert_eq!(in_trail(Range::default()), whole);
    let of = |kind: WindowKind| whole.iter().filter(|finding| finding.window == kind.to_string()).count();
    assert_eq!((of(WindowKind::Sliding), of(WindowKind::Dedup)), (19, 6 * 24 * 3 + 18));

    let cuts = [START + DAY, START + DAY + 5 * MINUTE, START + 5 * DAY + 10 * MINUTE];
    let ends = [None, Some(cuts[0]), Some(cuts[1]), Some(cuts[2]), None];
    let together = |hunt: &dyn Fn(Range) -> Vec<Finding>| -> Vec<Finding> {
        ends.windows(2).flat_map(|ends| hunt(Range { from: ends[0], to: ends[1] })).collect()
    };
    let sorted = |mut findings: Vec<Finding>| {
        findings.sort_by(|a, b| (&a.first_event, &a.finding_id).cmp(&(&b.first_event, &b.finding_id)));
        findings
    };
    let whole = sorted(whole);
    assert_eq!(sorted(together(&|range| in_lake(&rules, range))), whole, "all rules in one scan of the lake");
    assert_eq!(sorted(together(&in_trail)), whole, "the raw trail");
    let mut compared = 0;
    for ends in ends.windows(2) {
        let range = Range { from: ends[0], to: ends[1] };
        let cells = grids::cells(&["15m", "2h"], 2..4);
        let grid_findings = |data: &dyn Table| {
            runtime.block_on(async { grids::hold_against_hunts(&engine, data, &rules[0], &cells, range).await })
        };
        compared += grid_findings(&lake);
        compared += grid_findings(&raw());
    }
    assert!(compared > 0);
    let one_by_one = rules.iter().flat_map(|rule| together(&|range| in_lake(std::slice::from_ref(rule), range)));
    assert_eq!(sorted(one_by_one.collect()), whole, "each rule alone");
}

#[test]
fn gap_inside_the_range_does_not_decide_the_window_before_it() {
    let folder = tempfile::tempdir().unwrap();
    // Every ten minutes for a day and a half without a gap; hours later a pair.
    let minutes = (0..36 * 6).map(|step| step * 10).chain([40 * 60, 40 * 60 + 3]);
    let record =
        |minute: i64| failed_sign_in("ending", &(START + minute * MINUTE).to_string(), &format!("ending-{minute:05}"));
    write(folder.path(), &minutes.map(record).collect::<Vec<_>>());
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    let raw = || {
        let sources = vec![folder.path().display().to_string()];
        let progress = Arc::new(|_, _: &ScanStatistics| {});
        RawTrail::new(Stores::default(), sources, Selection::default(), 4, progress)
    };
    let mut rule = catalog::default().unwrap();
    rule.window.kind = WindowKind::Dedup;
    let mut other = rule.clone();
    "Other".clone_into(&mut other.id);
    other.window.period = "25m".parse().unwrap();
    let rules = [rule, other];
    let from = START + DAY + 5 * MINUTE;
    let range = Range { from: Some(from), to: None };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut whole = hunt::findings(&engine, &raw(), &rules, Range::default()).await.unwrap();
        whole.retain(|finding| finding.trigger_time >= from);
        assert_eq!(hunt::findings(&engine, &raw(), &rules, range).await.unwrap(), whole);
        assert!(
            grids::hold_against_hunts(&engine, &raw(), &rules[0], &grids::cells(&["15m", "25m"], 2..3), range).await
                > 0
        );
    });
}

/// Returns pairs of duplicates whose times differ by hours or minutes, among other records.
fn copies_with_other_times() -> Vec<serde_json::Value> {
    let record = |minute: i64, id: String| failed_sign_in("copied", &(START + minute * MINUTE).to_string(), &id);
    let plain = (0..200).map(|step| record(step * 13 % 2_000, format!("plain-{step}")));
    let copies = (0..120).zip([3, 40, 500, 1_300].into_iter().cycle()).flat_map(|(step, apart)| {
        let first = step * 29 % 2_000;
        [first, first + apart].map(|minute| record(minute, format!("copied-{step}")))
    });
    plain.chain(copies).collect()
}

#[test]
fn chosen_duplicate_does_not_depend_on_other_rules_and_cells() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, at) = (folder.path().join("trail"), folder.path().join("lake"));
    std::fs::create_dir(&trail).unwrap();
    write(&trail, &copies_with_other_times());
    let sources = [trail.display().to_string()];
    let lake = Lake::at(&at);
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    let limits = Limits { threads: 2, memory: 64 << 20, in_flight: 4 };
    let raw = || {
        let progress = Arc::new(|_, _: &ScanStatistics| {});
        RawTrail::new(Stores::default(), sources.to_vec(), Selection::default(), 4, progress)
    };
    let rule = catalog::default().unwrap();
    let cells = grids::cells(&["15m", "5h"], 1..3);
    let rules: Vec<Rule> = cells.iter().map(|window| Rule { window: *window, ..rule.clone() }).collect();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let found = Trail::find(&Stores::default(), &sources, &Selection::default()).await.unwrap();
        convert(found, &lake, limits, &Scratch::default(), &mut |_| {}).await.unwrap();
        for (from, to) in [(Some(25 * 60), Some(28 * 60)), (Some(1_700), None)] {
            let at = |minute: i64| START + minute * MINUTE;
            let range = Range { from: from.map(at), to: to.map(at) };
            for data in [&lake as &dyn Table, &raw()] {
                let together = hunt::hunt(&engine, data, &rules, range).await.unwrap().findings;
                for (rule, found) in rules.iter().zip(together) {
                    let alone = std::slice::from_ref(rule);
                    let alone = hunt::findings(&engine, data, alone, range).await.unwrap();
                    assert_eq!(found, alone, "{:?} in {range:?}", rule.window);
                }
                assert!(grids::hold_against_hunts(&engine, data, &rule, &cells, range).await > 0);
            }
        }
    });
}
