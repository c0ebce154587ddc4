//! Hunting a raw trail and a lake, as ratios to inflating the trail.
#![expect(clippy::expect_used, reason = "a bench that cannot go on ends")]

mod support;

use tawny::convert::{Limits, convert};
use tawny::engine::Resources;
use tawny::engine::raw_table::RawScan;
use tawny::hunt::{self, Data};
use tawny::lake::Lake;
use tawny::rule::catalog;
use tawny::store::Scratch;
use tawny::time::Range;
use tawny::trail::Trail;

fn main() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let lake_folder = tempfile::tempdir().expect("a folder can be made");
    support::write_trail(folder.path());
    let sources = [folder.path().display().to_string()];
    let trail = || Trail::find(&sources).expect("the trail is there");
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    let lake = Lake::at(lake_folder.path());
    let limits = Limits { threads: 2, memory: 128 << 20 };
    runtime.block_on(convert(trail(), &lake, limits, &Scratch::default(), &mut |_| {})).expect("the trail is whole");

    let rules = catalog::shipped().expect("the shipped rules are right");
    let resources = Resources { threads: 1, memory: 256 << 20, spill: std::env::temp_dir() };
    let hunted = |data: Data| {
        let findings = runtime.block_on(hunt::evaluate(&resources, &data, &rules, Range::default()));
        assert_eq!(findings.expect("the data is whole").len() as u64, support::OBJECTS * support::RECORDS / 500);
    };
    let raw = || Data::Raw(RawScan::new(trail(), hunt::sieve(&rules), Box::new(|_| {})));
    let [control, raw, columnar] =
        support::medians([&mut || support::inflate_all(folder.path()), &mut || hunted(raw()), &mut || {
            hunted(Data::Lake(lake.clone()))
        }]);
    support::row("inflate (control)", control, control);
    support::row("hunt the raw trail", raw, control);
    support::row("hunt the lake", columnar, control);
}
