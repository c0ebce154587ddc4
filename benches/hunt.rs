//! Hunting a raw trail and a lake, as ratios to inflating the trail.
#![expect(clippy::expect_used, reason = "a bench that cannot go on ends")]

mod support;

use std::sync::Arc;

use tawny::convert::{Limits, convert};
use tawny::engine::Resources;
use tawny::hunt::{self, Data, RawTrail};
use tawny::lake::Lake;
use tawny::rule::catalog;
use tawny::store::{Scratch, Stores};
use tawny::tally::Tally;
use tawny::time::Range;
use tawny::trail::Selection;

fn main() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let lake_folder = tempfile::tempdir().expect("a folder can be made");
    support::write_trail(folder.path());
    let sources = [folder.path().display().to_string()];
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    let lake = Lake::at(lake_folder.path());
    let limits = Limits { threads: 2, memory: 128 << 20, in_flight: 4 };
    let trail = runtime.block_on(support::trail(folder.path()));
    runtime.block_on(convert(trail, &lake, limits, &Scratch::default(), &mut |_| {})).expect("the trail is whole");

    let rules = [catalog::default().expect("the shipped rules are right")];
    let resources = Resources::new(1, 256 << 20, std::env::temp_dir());
    let hunted = |data: Data| {
        let findings = runtime.block_on(hunt::evaluate(&resources, &data, &rules, Range::default()));
        assert_eq!(findings.expect("the data is whole").len() as u64, support::OBJECTS * support::RECORDS / 500);
    };
    let progress = Arc::new(|_, _: &Tally| {});
    let trail = Arc::new(RawTrail::new(Stores::default(), sources.to_vec(), Selection::default(), 4, progress));
    let [control, raw, columnar] = support::medians([
        &mut || support::inflate_all(folder.path()),
        &mut || hunted(Data::Raw(Arc::clone(&trail))),
        &mut || hunted(Data::Lake(lake.clone())),
    ]);
    support::row("inflate (control)", control, control);
    support::row("hunt the raw trail", raw, control);
    support::row("hunt the lake", columnar, control);
}
