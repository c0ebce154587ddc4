//! How the engine runs the shipped rule: streaming windows, and only the needed columns and pages of the lake.

use std::path::Path;

use tawny::convert::{Limits, convert};
use tawny::engine::{Resources, matcher};
use tawny::lake::Lake;
use tawny::rule::{Counts, Field, WindowKind, catalog};
use tawny::sql::{self, candidates::Candidates};
use tawny::store::{Scratch, Stores};
use tawny::table::Table;
use tawny::time::Range;
use tawny::trail::{Prefilter, Selection, Trail};

#[test]
fn windows_stream_and_scans_filter() {
    let folder = tempfile::tempdir().unwrap();
    let trail = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/trail").display().to_string();
    let lake = Lake::at(&folder.path().join("lake"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let resources = Resources::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    runtime.block_on(async {
        let limits = Limits { threads: 2, memory: 64 << 20, in_flight: 4 };
        let trail = Trail::find(&Stores::default(), &[trail], &Selection::default()).await.unwrap();
        convert(trail, &lake, limits, &Scratch::default(), &mut |_| {}).await.unwrap();
    });
    let plan = |sql: &str| {
        runtime.block_on(async {
            let snapshot = lake.snapshot(Range::default()).await.unwrap();
            let records = snapshot.records(&resources, Prefilter::default()).await.unwrap();
            resources.plan(records.provider, sql).await.unwrap()
        })
    };
    let range = Range { from: Some(1_788_220_800_000_000), to: None };

    let mut rule = catalog::default().unwrap();
    for counts in [Counts::Matches, Counts::Distinct(Field::new("sourceIPAddress".parse().unwrap()))] {
        rule.counts = counts;
        for kind in WindowKind::ALL {
            rule.window.kind = kind;
            let plan = plan(&sql::hunt(&rule, range, range).unwrap());
            assert!(plan.contains("BoundedWindowAggExec"), "{plan}");
            let buffers = plan.replace("BoundedWindowAggExec", "").contains("WindowAggExec");
            assert!(!buffers, "a window buffers its input:\n{plan}");
            let scan = plan.lines().find(|line| line.contains("DataSourceExec")).unwrap();
            assert!(scan.contains("predicate=") && scan.contains("pruning_predicate="), "{scan}");
            assert!(scan.contains("eventTime_max"), "the range prunes: {scan}");
            assert!(!scan.contains("requestParameters") && !scan.contains("additionalEventData,"), "{scan}");
        }
    }

    let candidates = Candidates::new(&[rule.clone(), rule], range);
    let plan = runtime.block_on(async {
        let records = lake.snapshot(Range::default()).await.unwrap();
        let records = records.records(&resources, Prefilter::default()).await.unwrap();
        matcher::plan(&resources, records.provider, &candidates).await.unwrap()
    });
    let scan = plan.lines().find(|line| line.contains("DataSourceExec")).unwrap();
    assert!(scan.contains("eventTime_max") && scan.contains("eventName_max"), "time and names prune: {scan}");
}
