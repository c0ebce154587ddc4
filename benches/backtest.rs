//! A backtest of 180 windows over a lake, compared with one hunt of it.
#![expect(clippy::expect_used, reason = "a bench that cannot continue ends")]

mod support;

use tawny::backtest::grid::{Grid, Thresholds};
use tawny::backtest::{Backtest, TestedWindows};
use tawny::convert::{Limits, convert};
use tawny::engine::Engine;
use tawny::hunt;
use tawny::hunt::grid::MatchesNeeded;
use tawny::lake::Lake;
use tawny::rule::{WindowKind, catalog};
use tawny::store::Scratch;
use tawny::time::Range;

fn main() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let lake_folder = tempfile::tempdir().expect("a folder can be made");
    support::write_trail(folder.path());
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    let lake = Lake::at(lake_folder.path());
    let limits = Limits { threads: 2, memory: 128 << 20, in_flight: 4 };
    let trail = runtime.block_on(support::trail(folder.path()));
    runtime.block_on(convert(trail, &lake, limits, &Scratch::default(), &mut |_| {})).expect("the trail is whole");

    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).expect("a folder can be made");
    let rule = catalog::default().expect("the shipped rules are right");
    let spans: [Thresholds; 3] = ["1..10", "15", "20"].map(|span| span.parse().expect("a span"));
    let grid = Grid {
        kinds: WindowKind::ALL.to_vec(),
        periods: ["5m", "15m", "1h", "6h", "24h"].map(|period| period.parse().expect("a period")).to_vec(),
        thresholds: Thresholds::distinct(&spans),
        newness: vec![None],
    };
    let windows = TestedWindows { grid: &grid, others: &[], matches: MatchesNeeded::All };
    let [control, hunt, backtest] = support::medians([
        &mut || support::inflate_all(folder.path()),
        &mut || {
            let findings = hunt::findings(&engine, &lake, std::slice::from_ref(&rule), Range::default());
            runtime.block_on(findings).expect("the data is whole");
        },
        &mut || {
            let backtest = Backtest::run(&engine, &lake, rule.clone(), windows, Range::default());
            assert_eq!(runtime.block_on(backtest).expect("the data is whole").grid_cells, 180);
        },
    ]);
    support::row("inflate (control)", control, control);
    support::row("hunt the lake", hunt, control);
    support::row("backtest of 180 windows", backtest, control);
    support::row("backtest to the hunt", backtest, hunt);
}
