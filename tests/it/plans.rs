//! How the engine runs the shipped rule: streaming windows, and only the needed columns and pages of the lake.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field as Column, IntervalUnit, Schema, TimeUnit};
use tawny::convert::{Limits, convert};
use tawny::engine::match_scan::MatchScan;
use tawny::engine::{self, Engine};
use tawny::lake::Lake;
use tawny::rule::{Counts, Field, Setting, Window, WindowKind, catalog};
use tawny::sql::{self, WindowShape, columns::RuleColumns, grid::GridCell, match_spec::MatchSpec};
use tawny::store::{Scratch, Stores};
use tawny::table::Table;
use tawny::time::{Instant, Range};
use tawny::trail::{Prefilter, Selection, Trail};

#[test]
fn windows_stream_and_scans_filter() {
    let folder = tempfile::tempdir().unwrap();
    let trail = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/trail").display().to_string();
    let lake = Lake::at(&folder.path().join("lake"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    runtime.block_on(async {
        let limits = Limits { threads: 2, memory: 64 << 20, in_flight: 4 };
        let trail = Trail::find(&Stores::default(), &[trail], &Selection::default()).await.unwrap();
        convert(trail, &lake, limits, &Scratch::default(), &mut |_| {}).await.unwrap();
    });
    let plan = |sql: &str| {
        runtime.block_on(async {
            let snapshot = lake.snapshot(Range::default()).await.unwrap();
            let records = snapshot.records(&engine, Prefilter::default()).await.unwrap();
            engine.plan(records.provider, sql).await.unwrap()
        })
    };
    let range = Range { from: Some(Instant::from_micros(1_788_220_800_000_000)), to: None };

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

    let spec = MatchSpec::new(&[rule.clone(), rule], range);
    let plan = runtime.block_on(async {
        let records = lake.snapshot(Range::default()).await.unwrap();
        let records = records.records(&engine, Prefilter::default()).await.unwrap();
        MatchScan::plan(&engine, records.provider, &spec).await.unwrap()
    });
    let scan = plan.lines().find(|line| line.contains("DataSourceExec")).unwrap();
    assert!(scan.contains("eventTime_max") && scan.contains("eventName_max"), "time and names prune: {scan}");
}

/// A plan over the table `matched` with these columns.
fn plan_over(columns: Vec<Column>, sql: &str) -> String {
    let schema = Arc::new(Schema::new(columns));
    let table = engine::memory_table(Arc::clone(&schema), vec![RecordBatch::new_empty(schema)]).unwrap();
    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
    // The table of a plan is always `cloudtrail`.
    let sql = sql.replace("FROM matched", "FROM cloudtrail");
    tokio::runtime::Runtime::new().unwrap().block_on(engine.plan(table, &sql)).unwrap()
}

fn sorts(plan: &str) -> usize {
    plan.matches("SortExec").count()
}

#[test]
fn windows_share_sorts() {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let text = |name: &str| Column::new(name, DataType::Utf8, true);
    let number = |name: &str| Column::new(name, DataType::Int64, true);
    let of_hunts = || {
        let mut columns = vec![number("rule"), number("threshold"), number("fingerprint")];
        columns.push(Column::new("period", DataType::Interval(IntervalUnit::MonthDayNano), true));
        columns.push(Column::new("eventTime", time.clone(), true));
        let texts =
            ["eventID", "counted", "sourceIPAddress", "userAgent", "awsRegion", "group.0", "group.1", "trigger_number"];
        columns.into_iter().chain(texts.map(text)).collect()
    };
    let of_grids = || {
        let times = ["eventTime", "previous_duplicate_time"].map(|name| Column::new(name, time.clone(), true));
        times.into_iter().chain([number("group"), number("match_number"), text("counted")]).collect()
    };
    let mut columns = RuleColumns::none();
    columns.group = ["rule", "group.0", "group.1"].map(str::to_owned).to_vec();
    columns.trigger.context.push("trigger_number".to_owned());
    let range = Range { from: Some(Instant::from_micros(1_788_220_800_000_000)), to: None };
    let mut rule = catalog::default().unwrap();
    for counts in [Counts::Matches, Counts::Distinct(Field::new("sourceIPAddress".parse().unwrap()))] {
        rule.counts = counts;
        // One sort finds duplicates, one orders groups, and for bursts or windows within groups there is one more.
        for (kind, of_hunt, of_grid) in
            [(WindowKind::Sliding, 3, 3), (WindowKind::Dedup, 3, 2), (WindowKind::Tumbling, 2, 1)]
        {
            rule.window.kind = kind;
            let cell = |(number, threshold): (usize, u32)| GridCell {
                number,
                setting: Setting {
                    window: Window { threshold: threshold.try_into().unwrap(), ..rule.window },
                    newness: None,
                    absence: None,
                },
                read: range,
                known: Range::default(),
            };
            let cells: Vec<GridCell> = [2, 3].into_iter().enumerate().map(cell).collect();
            let hunt = plan_over(of_hunts(), &sql::hunt_matched(WindowShape::of(&rule), &columns, range).unwrap());
            assert_eq!(sorts(&hunt), of_hunt, "{kind}\n{hunt}");
            let grid = plan_over(of_grids(), &sql::grid(WindowShape::of(&rule), &cells, range).unwrap());
            assert_eq!(sorts(&grid), of_grid, "{kind}\n{grid}");
        }
    }
}
