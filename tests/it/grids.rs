//! Every cell of a backtest grid equals a hunt with its window.

use std::ops::Range as Numbers;

use proptest::prelude::*;
use tawny::engine::Engine;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::hunt::grid::{GridHunt, GridHuntRequest, MatchesNeeded, hunt_grid};
use tawny::rule::{PeakLimits, Rule, Setting, Window, WindowKind};
use tawny::table::{MemoryTable, Table};
use tawny::time::{Instant, Range, SECOND};

use crate::oracle;

/// A finding in the form that both sides produce: group, matches, trigger time.
type Told = (Vec<Option<String>>, Vec<String>, Instant);

pub(crate) fn cells(periods: &[&str], thresholds: Numbers<u32>) -> Vec<Window> {
    let mut cells = Vec::new();
    for kind in WindowKind::ALL {
        for period in periods {
            for threshold in thresholds.clone() {
                let threshold = threshold.try_into().unwrap();
                cells.push(Window { kind, period: period.parse().unwrap(), threshold });
            }
        }
    }
    cells
}

fn of_cell(grid_hunt: &GridHunt, cell: usize) -> Vec<Told> {
    let told = |found: &hunt::grid::GridFinding| {
        let mut ids: Vec<String> = grid_hunt
            .matches
            .matches_of(found)
            .into_iter()
            .map(|number| grid_hunt.matches.id(number).to_owned())
            .collect();
        ids.sort();
        let group = grid_hunt.matches.groups[grid_hunt.matches.group_of[found.first]].clone();
        (group, ids, grid_hunt.matches.times[found.trigger])
    };
    let mut told: Vec<Told> = grid_hunt.findings[cell].iter().map(told).collect();
    told.sort();
    told
}

fn of_hunt(findings: Vec<Finding>) -> Vec<Told> {
    let told = |finding: Finding| {
        let group = finding.group.values().map(|value| value.as_str().map(str::to_owned)).collect();
        (group, finding.event_ids, finding.trigger_time)
    };
    let mut told: Vec<Told> = findings.into_iter().map(told).collect();
    told.sort();
    told
}

/// Compares every cell of a grid over `data` with a hunt. Returns the number of findings.
pub(crate) async fn hold_against_hunts(
    engine: &Engine,
    data: &dyn Table,
    rule: &Rule,
    cells: &[Window],
    range: Range,
) -> usize {
    let cells: Vec<Setting> = cells.iter().map(|window| Setting { window: *window, ..rule.setting() }).collect();
    hold_settings_against_hunts(engine, data, rule, &cells, range).await
}

/// As [`hold_against_hunts`], with other settings than windows.
pub(crate) async fn hold_settings_against_hunts(
    engine: &Engine,
    data: &dyn Table,
    rule: &Rule,
    cells: &[Setting],
    range: Range,
) -> usize {
    let request = GridHuntRequest { rule, cells, range, needed: MatchesNeeded::All };
    let grid_hunt = hunt_grid(engine, data, request).await.unwrap();
    assert!(grid_hunt.read.balances());
    let with_setting = |(number, setting): (usize, &Setting)| {
        let mut rule = Rule { id: number.to_string(), window: setting.window, ..rule.clone() };
        if let Some((first_seen, periods)) = rule.first_seen.as_mut().zip(setting.newness) {
            first_seen.periods = periods;
        }
        rule
    };
    let rules: Vec<Rule> = cells.iter().enumerate().map(with_setting).collect();
    let hunted = hunt::findings(engine, data, &rules, range).await.unwrap();
    for (number, setting) in cells.iter().enumerate() {
        let of_cell_alone = hunted.iter().filter(|finding| finding.rule_id == number.to_string());
        let expected = of_hunt(of_cell_alone.cloned().collect());
        assert_eq!(of_cell(&grid_hunt, number), expected, "{setting:?} in {range:?}");
    }
    hunted.len()
}

proptest! {
    #![proptest_config(oracle::config(12))]

    #[test]
    fn every_cell_equals_a_hunt(
        events in oracle::events(),
        unique in any::<bool>(),
        limited in any::<bool>(),
        cut in 0i64..24,
    ) {
        let mut rule = oracle::rule(WindowKind::Sliding, 2, unique);
        if limited {
            rule.peak_limits = PeakLimits { at_most: Some(5), not: Some(3) };
        }
        let data = MemoryTable(vec![oracle::batch(&events)]);
        let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
        let cut = Instant::from_micros((oracle::START + 10_000 + cut * 300) * SECOND);
        oracle::RUNTIME.block_on(async {
            let cells = cells(&["5m", "15m", "901s"], 1..5);
            for range in [Range::default(), Range { from: None, to: Some(cut) }, Range { from: Some(cut), to: None }] {
                hold_against_hunts(&engine, &data, &rule, &cells, range).await;
            }
        });
    }
}
