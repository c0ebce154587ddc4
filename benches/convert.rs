//! Converting a trail, as a ratio to inflating it.
#![expect(clippy::expect_used, reason = "a bench that cannot go on ends")]

mod support;

use tawny::convert::{Limits, convert};
use tawny::lake::Lake;
use tawny::store::Scratch;

fn main() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    support::write_trail(folder.path());
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    let limits = Limits { threads: 1, memory: 128 << 20, in_flight: 4 };
    let convert = || {
        let lake = tempfile::tempdir().expect("a folder can be made");
        let lake = Lake::at(lake.path());
        let converted = runtime.block_on(async {
            convert(support::trail(folder.path()).await, &lake, limits, &Scratch::default(), &mut |_| {}).await
        });
        let tally = converted.expect("the trail is whole").tally;
        assert_eq!(tally.records.used, support::OBJECTS * support::RECORDS);
    };
    let [control, time] = support::medians([&mut || support::inflate_all(folder.path()), &mut || convert()]);
    support::row("inflate (control)", control, control);
    support::row("convert", time, control);
}
