//! Lake maintenance: queries give the same results before and after.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::error::Error;
use tawny::lake::Lake;
use tawny::lake::maintenance::Maintenance;
use tawny::store::{Access, Location, Scratch, Stores};
use tawny::time::{DAY, Instant, SECOND};

use crate::places::without_version;
use crate::records::failed_sign_in;
use crate::s3_server::Server;

const START: Instant = Instant::from_micros(1_788_220_800 * SECOND);
const MINUTE: i64 = 60 * SECOND;

/// Returns failed sign-ins on three days, some across midnight.
fn records(part: i64) -> Vec<Value> {
    let at = |step: i64| START + step * DAY - 12 * MINUTE + part * 5 * MINUTE;
    (1..4).map(|step| failed_sign_in("ann", &at(step).to_string(), &format!("{step}-{part}"))).collect()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn parquet(lake: &Path) -> Vec<PathBuf> {
    glob::glob(&format!("{}/date=*/*.parquet", lake.display())).unwrap().flatten().collect()
}

#[test]
fn compaction_merges_drops_and_deletes_without_changing_queries() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, lake) = (folder.path().join("trail"), folder.path().join("lake"));
    std::fs::create_dir(&trail).unwrap();
    let tawny = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        run(command.args(arguments).current_dir(folder.path()))
    };
    for part in 0..5 {
        std::fs::write(trail.join(format!("{part}.json")), json!({ "Records": records(part) }).to_string()).unwrap();
        tawny(&["convert", "trail", "--lake", "lake"]);
    }
    let seen = || {
        let hunt = without_version(&tawny(&["hunt", "lake", "--format", "jsonl"]).stdout);
        let count = tawny(&["query", "SELECT count(*), count(DISTINCT \"eventID\") FROM cloudtrail", "lake"]).stdout;
        (hunt, String::from_utf8(count).unwrap())
    };
    let (before, files) = (seen(), parquet(&lake));
    assert!(before.0.lines().count() == 3 && before.1.contains("15"), "{before:?}");
    assert_eq!(files.len(), 15);

    let planned = tawny(&["compact", "lake", "--dry-run", "--retain", "1d", "--before", "2026-09-03"]).stdout;
    let planned = String::from_utf8(planned).unwrap();
    assert!(planned.contains("date=2026-09-01: ") && planned.contains("would be dropped"), "{planned}");
    tawny(&["compact", "lake", "--before", "2026-09-03"]);
    // The old files stay for concurrent queries; the last day was not merged.
    assert_eq!((seen(), parquet(&lake).len()), (before.clone(), 15 + 2));
    assert!(files.iter().all(|file| file.exists()));
    tawny(&["compact", "lake"]);
    tawny(&["compact", "lake"]);
    assert_eq!((seen(), parquet(&lake).len()), (before.clone(), 15 + 4), "a second run has nothing to merge");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    tawny(&["compact", "lake", "--keep-old", "1s"]);
    assert_eq!((seen(), parquet(&lake).len()), (before.clone(), 4));
    let again = tawny(&["convert", "trail", "--lake", "lake"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("5 converted before"), "{again:?}");
    assert_eq!(seen(), before);

    let log = lake.join("_delta_log");
    let commits = || glob::glob(&format!("{}/*[0-9].json", log.display())).unwrap().count();
    let held = commits();
    tawny(&["compact", "lake", "--retain", "9999d"]);
    assert_eq!((seen(), commits()), (before, held), "no day is old enough to be dropped");
    let since = chrono::Utc::now().timestamp_micros().div_euclid(DAY) - START.days();
    tawny(&["compact", "lake", "--retain", &format!("{}d", since - 2)]);
    let left = seen();
    // The burst across midnight is split there.
    assert_eq!(left.0.lines().count(), 2, "earlier days are dropped: {left:?}");
    assert!(left.0.contains("\"first_event\":\"2026-09-03T00:03:00Z\""), "{left:?}");
}

#[test]
fn files_that_the_log_never_listed_are_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let tawny = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        run(command.args(arguments).current_dir(folder.path()))
    };
    std::fs::write(folder.path().join("0.json"), json!({ "Records": records(0) }).to_string()).unwrap();
    tawny(&["convert", "0.json", "--lake", "lake"]);
    let lake = folder.path().join("lake");
    let named = parquet(&lake);
    let day = named[0].parent().unwrap().to_owned();
    let stray = day.join("part-00000000000000000000000000000000.parquet");
    let others = [day.join("notes.txt"), lake.join("part-0.parquet"), lake.join("_tawny/notes.parquet")];
    for file in others.iter().chain([&stray]) {
        std::fs::write(file, "of a run that broke off").unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    tawny(&["compact", "lake", "--keep-old", "1s"]);
    assert!(others.iter().chain(&named).chain([&stray]).all(|file| file.exists()));
}

#[test]
fn of_two_compactions_in_s3_one_fails_and_the_lake_is_intact() {
    let server = Server::start_public();
    let lake = || async {
        let access = Access { endpoint: Some(server.url.clone()), anonymous: true, ..Access::default() };
        Lake::open(&Stores::new(access), &Location::of("s3://lake/ct"), tawny::delta::AsOf::Latest).await.unwrap()
    };
    for part in 0..3 {
        server.put("logs", &format!("trail/{part}.json"), json!({ "Records": records(part) }).to_string().as_bytes());
        run(server.command().args(["--s3-anonymous", "convert", "s3://logs/trail", "--lake", "s3://lake/ct"]));
    }
    server.set_delay(std::time::Duration::from_millis(5));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (first, second) = (lake().await, lake().await);
        let now = START + 30 * DAY;
        let mut one = Maintenance::open(&first, now, &Scratch::default()).await.unwrap();
        let mut other = Maintenance::open(&second, now, &Scratch::default()).await.unwrap();
        let ended = tokio::join!(one.merge(now, 64 << 20), other.merge(now, 64 << 20));
        let refused = [ended.0, ended.1].into_iter().filter_map(Result::err).collect::<Vec<_>>();
        assert!(matches!(refused.as_slice(), [] | [Error::Busy { .. }]), "{refused:?}");
        let files = lake().await.transaction_log().files().await.unwrap();
        assert_eq!(files.iter().map(|file| file.records).sum::<u64>(), 9);
    });
}

#[test]
fn lakes_in_s3_are_compacted() {
    let server = Server::start();
    for part in 0..3 {
        let key = format!("trail/{part}.json");
        server.put("logs", &key, json!({ "Records": records(part) }).to_string().as_bytes());
        run(server.command().args(["convert", "s3://logs/trail", "--lake", "s3://lake/ct"]));
    }
    let hunt = || run(server.command().args(["hunt", "s3://lake/ct", "--format", "jsonl"])).stdout;
    let seen = || without_version(&hunt());
    let before = seen();
    assert!(!before.is_empty());
    run(server.command().args(["compact", "s3://lake/ct"]));
    assert_eq!(seen(), before);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    run(server.command().args(["compact", "s3://lake/ct", "--keep-old", "1s"]));
    assert_eq!(seen(), before);
    let merged = parquet(&server.file("lake", "ct"));
    assert!(merged.len() < 9 && !merged.is_empty(), "{merged:?}");
}
