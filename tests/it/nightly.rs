//! Nightly runs with late events and interruptions. Their deliveries, replayed, equal the findings of one hunt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tawny::convert::Limits;
use tawny::engine::Engine;
use tawny::error::Error;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::lake::Lake;
use tawny::nightly::{HuntSettings, MaintenanceSettings, Nightly, NightlySource, RunReport, SourceListing, Storage};
use tawny::rule::{AbsenceSide, Counts, Field, PeakLimits, Rule, WindowKind};
use tawny::sink::{Sink, SinkSettings};
use tawny::store::{Scratch, Stores};
use tawny::time::{DAY, Instant, Range, SECOND};
use tawny::trail::Selection;

use crate::follows;
use crate::oracle;
use crate::records::failed_sign_in;
use crate::sinks::{Hook, clock};

mod excepted;
mod absence;
mod first_seen;
mod model;
mod processes;
mod states;
mod wanted;

const START: Instant = Instant::from_micros(1_788_220_800 * SECOND);
const MINUTE: i64 = 60 * SECOND;

/// The folder of nightly runs: a trail, a lake and deliveries.
struct Place {
    folder: tempfile::TempDir,
    stores: Stores,
    scratch: Scratch,
    engine: Engine,
    retain: Option<i64>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("trail")).unwrap();
        Place {
            folder,
            stores: Stores::default(),
            scratch: Scratch::default(),
            engine: Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap(),
            retain: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lake(&self) -> Lake {
        Lake::at(&self.path("lake"))
    }

    fn put(&self, name: &str, records: &[Value]) {
        std::fs::write(self.path("trail").join(name), json!({ "Records": records }).to_string()).unwrap();
    }

    fn sink(&self) -> Sink {
        let settings = format!("name = 'files'\nkind = 'files'\nto = '{}'\n", self.path("findings").display());
        let settings: SinkSettings = toml::from_str(&settings).unwrap();
        Sink::open(&settings, &self.stores, &|_| None, clock).unwrap()
    }

    async fn run(&self, rules: &[Rule], now: Instant) -> Result<RunReport, Error> {
        self.run_into(&[self.sink()], rules, now).await
    }

    async fn run_into(&self, sinks: &[Sink], rules: &[Rule], now: Instant) -> Result<RunReport, Error> {
        self.run_since(sinks, rules, now, None).await
    }

    async fn run_since(
        &self,
        sinks: &[Sink],
        rules: &[Rule],
        now: Instant,
        since: Option<Instant>,
    ) -> Result<RunReport, Error> {
        let lake = self.lake();
        let sources =
            [NightlySource { path: self.path("trail").display().to_string(), selection: Selection::default() }];
        let nightly = Nightly {
            storage: Storage { lake: &lake, state: "default", scratch: &self.scratch },
            verification: None,
            listing: SourceListing { stores: &self.stores, sources: &sources, grace: DAY, full: false },
            conversion: Limits { threads: 2, memory: 16 << 20, in_flight: 4 },
            hunt: HuntSettings { engine: &self.engine, rules, since },
            sinks,
            maintenance: MaintenanceSettings {
                merge_small_files: true,
                merge_after: DAY,
                memory: 16 << 20,
                retain: self.retain,
                keep_old: 35 * DAY,
            },
            now,
        };
        Box::pin(nightly.run(&mut |_| {}, &|_| Ok(()))).await
    }
}

/// Replays the deliveries below `folder` in order, by revision and superseded ids.
fn fold(folder: &Path) -> BTreeMap<String, Map<String, Value>> {
    let mut files: Vec<PathBuf> =
        glob::glob(&format!("{}/**/*.jsonl", folder.display())).unwrap().collect::<Result<_, _>>().unwrap();
    files.sort_by_key(|file| file.file_name().unwrap().to_owned());
    let mut counting: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let line: Map<String, Value> = serde_json::from_str(line).unwrap();
            let id = line["finding_id"].as_str().unwrap().to_owned();
            let revision = line["revision"].as_u64().unwrap();
            let before = revisions.insert(id.clone(), revision);
            assert!(before.is_none_or(|before| before < revision), "{id}: revision {revision} after {before:?}");
            counting.insert(id, line.clone());
            for gone in line["supersedes"].as_array().unwrap() {
                counting.remove(gone.as_str().unwrap());
            }
        }
    }
    for line in counting.values_mut() {
        assert_eq!(line.remove("withdrawn"), Some(Value::Bool(false)));
        for name in ["revision", "supersedes", "rule_version", "run", "lake_version"] {
            assert!(line.remove(name).is_some(), "{name}");
        }
    }
    counting
}

fn by_id(findings: &[Finding]) -> BTreeMap<String, Map<String, Value>> {
    let pair = |finding: &Finding| match serde_json::to_value(finding).unwrap() {
        Value::Object(line) => (finding.finding_id.clone(), line),
        other => panic!("{other}"),
    };
    findings.iter().map(pair).collect()
}

fn rule(kind: WindowKind, threshold: u32, unique: bool) -> Rule {
    Rule { id: format!("Rule.{kind}.{unique}"), ..oracle::rule(kind, threshold, unique) }
}

/// A burst that grows beyond the limit is withdrawn.
fn limited() -> Rule {
    let peak_limits = PeakLimits { at_most: Some(2), not: None };
    Rule { id: "Rule.limited".to_owned(), peak_limits, ..oracle::rule(WindowKind::Sliding, 1, false) }
}

fn summed() -> Rule {
    let counts = Counts::Sum(Field::new("additionalEventData.bytes".parse().unwrap()));
    Rule { id: "Rule.summed".to_owned(), counts, ..oracle::rule(WindowKind::Sliding, 30, false) }
}

/// A burst may end, or begin to count, with an event that arrives later.
fn statistic(kind: WindowKind, condition: &str) -> Rule {
    let field = Field::new("additionalEventData.bytes".parse().unwrap());
    let counts = Counts::Statistic(field, condition.parse().unwrap());
    Rule { id: format!("Rule.{kind}.{condition}").replace(['<', '>'], ""), counts, ..oracle::rule(kind, 1, false) }
}

/// An event and the first run that sees it.
#[derive(Debug, Clone)]
struct Delivered {
    user: u8,
    /// Minutes from the evening of the first day.
    minute: i64,
    run: usize,
    /// The run that sees it again.
    copy: Option<usize>,
}

const RUNS: usize = 4;

fn delivered() -> impl Strategy<Value = Delivered> {
    // Evenings of several days, so that bursts cross midnight and have gaps between them.
    let minute = (0..3i64, 0..18i64).prop_map(|(day, step)| day * 24 * 60 + step * 5);
    (0..2u8, minute, 0..RUNS, proptest::option::weighted(0.2, 0..RUNS))
        .prop_map(|(user, minute, run, copy)| Delivered { user, minute, run, copy })
}

fn record(number: usize, event: &Delivered) -> Value {
    let at = START - 40 * MINUTE + event.minute * MINUTE;
    let mut record = failed_sign_in(&format!("user{}", event.user), &at.to_string(), &format!("id-{number:04}"));
    record["sourceIPAddress"] = Value::from(format!("192.0.2.{}", number % 3));
    record["additionalEventData"]["bytes"] = Value::from(number);
    if number % 5 == 4 {
        record["responseElements"]["ConsoleLogin"] = Value::from("Success");
    }
    record
}

/// Delivers three findings in two runs to a webhook that responds with `statuses`. Returns the lines that each run had to
/// deliver and those left, and the idempotency keys of all requests.
fn two_deliveries(statuses: &'static [u16]) -> ([(usize, usize); 2], Vec<String>) {
    let place = Place::new();
    let sign_in = |user: &str, minute: i64| {
        failed_sign_in(user, &(START + minute * MINUTE).to_string(), &format!("{user}{minute}"))
    };
    let records: Vec<Value> =
        ["ann", "bob", "cid"].iter().flat_map(|user| [0, 1].map(|minute| sign_in(user, minute))).collect();
    place.put("0.json", &records);
    let hook = Hook::start(statuses);
    let sinks = [hook.open("format = 'json'\nattempts = 1")];
    let rules = [rule(WindowKind::Sliding, 2, false)];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = || runtime.block_on(place.run_into(&sinks, &rules, START + DAY)).unwrap();
    let reports = [run(), run()];
    assert_eq!(reports.each_ref().map(RunReport::is_incomplete), [true, false]);
    assert_eq!(run().deliveries.len(), 0, "accepted lines are not delivered again");
    let keys = hook.take().iter().map(|got| got.header("idempotency-key").to_owned()).collect();
    (reports.map(|report| (report.deliveries[0].lines, report.deliveries[0].undelivered)), keys)
}

#[test]
fn webhook_that_fails_halfway_gets_only_the_rest() {
    let (lines, keys) = two_deliveries(&[200, 503, 200]);
    assert_eq!(lines, [(3, 2), (2, 0)]);
    let [first, failed, again, last] = &keys[..] else { panic!("{keys:?}") };
    assert!(failed == again && first != failed && last != first && last != again, "{keys:?}");
}

#[test]
fn refused_finding_blocks_no_other() {
    let (lines, keys) = two_deliveries(&[200, 400, 200]);
    assert_eq!(lines, [(3, 1), (1, 0)]);
    let [first, refused, last, again] = &keys[..] else { panic!("{keys:?}") };
    assert!(refused == again && first != refused && last != first && last != again, "{keys:?}");
}

#[test]
fn finding_after_many_refused_ones_is_tried() {
    let (lines, _) = two_deliveries(&[400, 422, 200]);
    assert_eq!(lines, [(3, 2), (2, 0)]);
}

#[test]
fn webhook_that_refuses_everything_is_not_called_for_each_finding() {
    let place = Place::new();
    let users = ["ann", "bob", "cid", "dan", "eve"];
    let records = users.map(|user| failed_sign_in(user, &START.to_string(), user));
    place.put("0.json", &records);
    let hook = Hook::start(&[403]);
    let rules = [rule(WindowKind::Sliding, 1, false)];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(place.run_into(&[hook.open("format = 'json'")], &rules, START + DAY)).unwrap();
    assert_eq!((report.deliveries[0].undelivered, hook.take().len()), (5, 1));
}

#[test]
fn old_state_is_deleted_and_current_state_is_kept() {
    let place = Place::new();
    let rules = [rule(WindowKind::Sliding, 2, false)];
    let run = || oracle::RUNTIME.block_on(place.run(&rules, START + DAY)).unwrap();
    let burst = |minute: i64| {
        [0, 1].map(|after| {
            failed_sign_in("ann", &(START + (minute + after) * MINUTE).to_string(), &format!("{minute}+{after}"))
        })
    };
    place.put("0.json", &burst(0));
    run();
    let state = place.path("lake/_tawny/nightly/default");
    let files = |folder: &str| std::fs::read_dir(state.join(folder)).unwrap().count();
    assert_eq!((files("lines"), files("known"), files("delivered")), (1, 1, 1));
    for _ in 0..40 {
        run();
    }
    assert_eq!((files("lines"), files("known"), files("delivered")), (0, 1, 0), "the finding is still known");
    let states = glob::glob(&format!("{}/*.json", state.display())).unwrap().count();
    assert_eq!(states, 31);
    place.put("1.json", &burst(5));
    let report = run();
    assert_eq!((report.findings.new, report.findings.grown), (0, 1), "it is still known");
}

#[test]
fn rule_that_returns_is_hunted_for_the_missed_range() {
    let place = Place::new();
    let sign_in = |minute: i64| failed_sign_in("ann", &(START + minute * MINUTE).to_string(), &format!("id{minute}"));
    let both = [rule(WindowKind::Sliding, 2, false), rule(WindowKind::Tumbling, 2, false)];
    let run = |rules: &[Rule]| oracle::RUNTIME.block_on(place.run(rules, START + DAY)).unwrap();
    for (number, rules) in [&both[..], &both[..1], &both[..]].into_iter().enumerate() {
        let minute = i64::try_from(number).unwrap() * 100;
        place.put(&format!("{number}.json"), &[sign_in(minute), sign_in(minute + 1)]);
        run(rules);
    }
    let lake = place.lake();
    let whole = oracle::RUNTIME.block_on(hunt::findings(&place.engine, &lake, &both, Range::default())).unwrap();
    assert_eq!((fold(&place.path("findings")), whole.len()), (by_id(&whole), 6));
}

#[test]
fn any_number_of_unreadable_objects_is_pending() {
    let place = Place::new();
    let folder = place.path("trail");
    for number in 0..1_100 {
        std::fs::write(folder.join(format!("{number:04}.json.gz")), b"\x1f\x8b cut").unwrap();
    }
    let report = oracle::RUNTIME.block_on(place.run(&[rule(WindowKind::Sliding, 2, false)], START)).unwrap();
    assert_eq!((report.pending.len(), report.read.objects.rejected), (1_100, 1_100));
}

#[test]
fn late_events_change_merge_and_dissolve_findings() {
    let place = Place::new();
    let sign_in = |minute: i64| failed_sign_in("ann", &(START + minute * MINUTE).to_string(), &format!("id{minute:+}"));
    let put = |name: &str, minutes: &[i64]| {
        place.put(name, &minutes.iter().map(|minute| sign_in(*minute)).collect::<Vec<_>>());
    };
    let rules = [rule(WindowKind::Sliding, 2, false), rule(WindowKind::Dedup, 3, false)];
    let run = || {
        let report = oracle::RUNTIME.block_on(place.run(&rules, START + DAY)).unwrap();
        let found = report.findings;
        (found.new, found.grown, found.gone, found.known)
    };
    put("0.json", &[0, 10, 11, 12, 30, 35]);
    assert_eq!(run(), (3, 0, 0, 0), "two bursts, and one window of four");
    put("1.json", &[36]);
    assert_eq!(run(), (1, 1, 0, 0), "the second burst grew, and its window reached the threshold");
    put("2.json", &[20]);
    assert_eq!(run(), (0, 1, 2, 1), "the bursts merged, and the second window split");
    put("3.json", &[-5]);
    assert_eq!(run(), (2, 1, 2, 0), "the burst begins earlier; all windows move, and the split one is whole again");
    put("4.json", &[-19, -18]);
    let before = fold(&place.path("findings"));
    run();
    let after = fold(&place.path("findings"));
    assert_ne!(before, after);
    let whole = place.lake();
    let whole = oracle::RUNTIME.block_on(hunt::findings(&place.engine, &whole, &rules, Range::default())).unwrap();
    assert_eq!(after, by_id(&whole));
}

proptest! {
    #![proptest_config(oracle::config(5))]

    #[test]
    fn replayed_deliveries_equal_one_hunt(
        events in proptest::collection::vec(delivered(), 1..40),
        changes in any::<bool>(),
    ) {
        let place = Place::new();
        let mut rules = vec![
            rule(WindowKind::Sliding, 2, false),
            rule(WindowKind::Sliding, 2, true),
            rule(WindowKind::Dedup, 3, false),
            rule(WindowKind::Tumbling, 2, false),
            follows::rule(2),
            limited(),
            summed(),
            statistic(WindowKind::Sliding, "average < 15"),
            statistic(WindowKind::Dedup, "median > 12"),
            statistic(WindowKind::Tumbling, "percentile 75 <= 20"),
            first_seen::new_addresses(WindowKind::Sliding, "13h", Some("1h")),
            first_seen::new_addresses(WindowKind::Dedup, "20m", None),
            absence::lone(WindowKind::Sliding, AbsenceSide::After),
            absence::lone(WindowKind::Dedup, AbsenceSide::Before),
        ];
        // A source without any object is reported.
        place.put("begin.json", &[]);
        oracle::RUNTIME.block_on(async {
            for run in 0..RUNS {
                let new: Vec<Value> = events
                    .iter()
                    .enumerate()
                    .filter(|(_, event)| event.run == run || event.copy == Some(run))
                    .map(|(number, event)| record(number, event))
                    .collect();
                for (number, records) in new.chunks(7).enumerate() {
                    place.put(&format!("{run}-{number}.json"), records);
                }
                if changes && run == 2 {
                    rules[2] = rule(WindowKind::Dedup, 2, false);
                }
                let report = place.run(&rules, START + i64::try_from(run).unwrap() * DAY).await.unwrap();
                assert!(report.read.balances() && !report.is_incomplete(), "{report:?}");
                let whole = place.lake();
                let whole = if place.lake().files(Range::default()).await.unwrap().is_empty() {
                    Vec::new()
                } else {
                    hunt::findings(&place.engine, &whole, &rules, Range::default()).await.unwrap()
                };
                assert_eq!(fold(&place.path("findings")), by_id(&whole), "after run {run}");
            }
            // A run without new events delivers nothing.
            let again = place.run(&rules, START + 9 * DAY).await.unwrap();
            assert_eq!((again.findings.new, again.findings.grown, again.deliveries.len()), (0, 0, 0));
            let lake = place.lake();
            let merged = hunt::findings(&place.engine, &lake, &rules, Range::default()).await.unwrap();
            assert_eq!(fold(&place.path("findings")), by_id(&merged), "after all days were compacted");
        });
    }
}
