//! A lake whose transaction log is damaged: it reads right, or the run ends with 3. Nothing is deleted on doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tawny::convert::{Limits, convert};
use tawny::delta::AsOf;
use tawny::error::{Error, Status};
use tawny::lake::Lake;
use tawny::lake::maintenance::Maintenance;
use tawny::lake::transaction_log::FileEntry;
use tawny::store::{Location, Scratch, Stores};
use tawny::time::{DAY, Instant, SECOND};
use tawny::trail::{Selection, Trail};

use crate::oracle::RUNTIME;
use crate::records::failed_sign_in;
use crate::tables::tawny;

pub(crate) const START: Instant = Instant::from_micros(1_788_220_800 * SECOND);
const MINUTE: i64 = 60 * SECOND;

/// The variable with the number of random damages to try.
const CASES: &str = "TAWNY_LOG_DAMAGES";

/// Prints figures of a test.
pub(crate) fn note(text: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes()).unwrap();
}

/// Returns a burst of failed sign-ins in part `part` of a trail, on one of three days.
pub(crate) fn burst(part: usize) -> Vec<Value> {
    let number = i64::try_from(part).unwrap();
    let begin = START + (number % 3) * DAY + number * 20 * MINUTE;
    let user = format!("user{part}");
    (0..3).map(|step| failed_sign_in(&user, &(begin + step * MINUTE).to_string(), &format!("{part}-{step}"))).collect()
}

/// Writes parts of a trail as objects with one burst each.
pub(crate) fn put_parts(trail: &Path, parts: std::ops::Range<usize>) {
    std::fs::create_dir_all(trail).unwrap();
    for part in parts {
        std::fs::write(trail.join(format!("{part:03}.json")), json!({ "Records": burst(part) }).to_string()).unwrap();
    }
}

/// Converts the new objects of a trail in one commit.
pub(crate) async fn convert_all(trail: &Path, lake: &Lake) -> Result<u64, Error> {
    let sources = [trail.display().to_string()];
    let trail = Trail::find(&Stores::default(), &sources, &Selection::default()).await?;
    let limits = Limits { threads: 2, memory: 16 << 20, in_flight: 4 };
    let converted = convert(trail, lake, limits, &Scratch::default(), &mut |_| {}).await?;
    assert!(converted.statistics.balances() && !converted.statistics.is_incomplete());
    Ok(converted.statistics.records.used)
}

async fn compact(lake: &Lake, now: Instant, retain: Option<i64>) -> Result<(), Error> {
    let mut maintenance = Maintenance::open(lake, now, &Scratch::default()).await?;
    if let Some(retain) = retain {
        maintenance.drop_older_than(retain).await?;
    }
    maintenance.merge(now, 16 << 20).await?;
    maintenance.vacuum_removed(Instant::MIN, Instant::from_micros(i64::MAX)).await
}

/// Returns the files below `folder`, relative to it, without locks.
fn files_below(folder: &Path) -> Vec<String> {
    let pattern = format!("{}/**/*", folder.display());
    let files = glob::glob(&pattern).unwrap().flatten().filter(|path| path.is_file());
    let name = |path: PathBuf| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = files.map(name).filter(|name| !name.ends_with("lock")).collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    for name in files_below(from) {
        let file = to.join(&name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::copy(from.join(&name), file).unwrap();
    }
}

/// A lake of 14 commits with a checkpoint, and what it holds.
struct Sample {
    folder: tempfile::TempDir,
    files: Vec<FileEntry>,
    objects: BTreeSet<String>,
    removed: Vec<String>,
    /// The files that record what the lake holds.
    log: Vec<String>,
}

const PARTS: usize = 12;

impl Sample {
    fn new() -> Sample {
        let folder = tempfile::tempdir().unwrap();
        let (trail, path) = (folder.path().join("trail"), folder.path().join("lake"));
        let lake = Lake::at(&path);
        RUNTIME.block_on(async {
            for part in 0..PARTS {
                put_parts(&trail, part..part + 1);
                assert_eq!(convert_all(&trail, &lake).await.unwrap(), 3);
                if part == 6 {
                    let mut maintenance = Maintenance::open(&lake, START + 9 * DAY, &Scratch::default()).await.unwrap();
                    maintenance.merge(START + 9 * DAY, 16 << 20).await.unwrap();
                }
            }
        });
        assert!(path.join("_delta_log/00000000000000000010.checkpoint.parquet").exists());
        let log = files_below(&path)
            .into_iter()
            .filter(|name| ["_delta_log/", "_tawny/log/", "_tawny/objects/"].iter().any(|at| name.starts_with(at)))
            .collect();
        let mut sample = Sample { folder, files: Vec::new(), objects: BTreeSet::new(), removed: Vec::new(), log };
        (sample.files, sample.objects, sample.removed) = RUNTIME.block_on(async {
            let log = Lake::at(&path);
            let log = log.transaction_log();
            let objects = log.object_ids(None).await.unwrap().into_iter().collect();
            let removed = log.removed_files().await.unwrap().into_iter().map(|(path, _)| path).collect();
            (log.files().await.unwrap(), objects, removed)
        });
        assert_eq!(sample.files.iter().map(|file| file.records).sum::<u64>(), 3 * PARTS as u64);
        assert!(sample.objects.len() == PARTS && sample.removed.len() > 6, "{:?}", sample.removed);
        sample
    }

    fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    /// Checks what a lake with a damaged log reads as. Returns whether the damage was noticed.
    async fn check_reads(&self, what: &str, path: &Path) -> bool {
        let lake = Lake::at(path);
        let log = lake.transaction_log();
        let files = log.files().await;
        let objects = log.object_ids(None).await;
        let removed = log.removed_files().await;
        let incomplete = |error: &Error| assert_eq!(error.status(), Status::Incomplete, "{what}: {error}");
        let mut noticed = false;
        match files {
            Ok(files) => assert!(files == self.files, "{what}: {files:?}"),
            Err(error) => {
                incomplete(&error);
                assert!(error.hint().is_some(), "{what}: {error}");
                noticed = true;
            }
        }
        match objects {
            Ok(objects) => assert!(objects.into_iter().collect::<BTreeSet<_>>() == self.objects, "{what}: objects"),
            Err(error) => {
                incomplete(&error);
                noticed = true;
            }
        }
        match removed {
            Ok(removed) => {
                let unknown: Vec<&String> =
                    removed.iter().map(|(path, _)| path).filter(|path| !self.removed.contains(path)).collect();
                assert!(unknown.is_empty(), "{what}: a vacuum would delete {unknown:?}");
            }
            Err(error) => {
                incomplete(&error);
                noticed = true;
            }
        }
        noticed
    }

    /// Damages copies of the lake in `damage`, and then runs each command that writes.
    fn check_writes(&self, what: &str, damage: &dyn Fn(&Path)) {
        let now = START + 30 * DAY;
        for command in ["compact", "convert"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("lake");
            copy(&self.lake(), &path);
            damage(&path);
            let before = files_below(&path);
            let what = format!("{command} after {what}");
            let result = RUNTIME.block_on(async {
                let lake = Lake::at(&path);
                match command {
                    "compact" => compact(&lake, now, None).await,
                    _ => convert_all(&self.folder.path().join("trail"), &lake).await.map(|_| ()),
                }
            });
            for file in before.iter().filter(|name| name.starts_with("date=") && !path.join(name).exists()) {
                assert!(result.is_ok() || self.removed.contains(file), "{what}: {file} was deleted after an error");
            }
            if let Err(error) = result {
                assert_eq!(error.status(), Status::Incomplete, "{what}: {error}");
                for file in &self.files {
                    assert!(path.join(&file.path).exists(), "{what}: {} was deleted", file.path);
                }
                continue;
            }
            let files = RUNTIME.block_on(Lake::at(&path).transaction_log().files()).unwrap();
            assert!(files.iter().all(|file| path.join(&file.path).exists()), "{what}");
            assert_eq!(files.iter().map(|file| file.records).sum::<u64>(), 3 * PARTS as u64, "{what}: {files:?}");
        }
    }
}

/// Runs `check` with the lake after `damage` and repairs it.
fn with_damage(lake: &Path, names: &[&String], damage: impl FnOnce(), check: impl FnOnce() -> bool) -> bool {
    let before: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(lake.join(name)).unwrap()).collect();
    damage();
    let noticed = check();
    for (name, bytes) in names.iter().zip(before) {
        std::fs::write(lake.join(name), bytes).unwrap();
    }
    noticed
}

#[test]
fn flipped_bytes_in_the_log_are_noticed() {
    let sample = Sample::new();
    let lake = sample.lake();
    let cases: usize = std::env::var(CASES).ok().map_or(200, |cases| cases.parse().unwrap());
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |end: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap() % end
    };
    let mut noticed: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for _ in 0..cases {
        let name = &sample.log[next(sample.log.len())];
        let mut bytes = std::fs::read(lake.join(name)).unwrap();
        let at = next(bytes.len());
        let change = u8::try_from(1 + next(255)).unwrap();
        bytes[at] ^= change;
        let what = format!("byte {at} of {name} changed by {change}");
        let was_noticed = with_damage(
            &lake,
            &[name],
            || std::fs::write(lake.join(name), &bytes).unwrap(),
            || RUNTIME.block_on(sample.check_reads(&what, &lake)),
        );
        let count = noticed.entry(name.rsplit_once('/').unwrap().0).or_default();
        *count = (count.0 + usize::from(was_noticed), count.1 + 1);
    }
    note(&format!("noticed of all: {noticed:?}"));
    // Commits before the checkpoint are not read.
    assert!(noticed["_delta_log"].0 * 8 > noticed["_delta_log"].1, "{noticed:?}");
    assert_eq!(noticed["_tawny/objects"].0, noticed["_tawny/objects"].1, "{noticed:?}");
    assert!(!RUNTIME.block_on(sample.check_reads("repaired", &lake)));
}

#[test]
fn lost_shortened_and_swapped_files_of_the_log_are_noticed() {
    let sample = Sample::new();
    let lake = sample.lake();
    let tries_all = std::env::var_os(CASES).is_some();
    let check = |what: &str, names: &[&String], damage: &dyn Fn(&Path)| {
        let read = || RUNTIME.block_on(sample.check_reads(what, &lake));
        with_damage(&lake, names, || damage(&lake), read)
    };
    let mut noticed = 0;
    for (index, name) in sample.log.iter().enumerate() {
        let length = std::fs::metadata(lake.join(name)).unwrap().len();
        noticed += usize::from(check(&format!("loss of {name}"), &[name], &|lake| {
            std::fs::remove_file(lake.join(name)).unwrap();
        }));
        for left in [0, length / 2, length - 1] {
            noticed += usize::from(check(&format!("{name} cut to {left} bytes"), &[name], &|lake| {
                std::fs::File::options().write(true).open(lake.join(name)).unwrap().set_len(left).unwrap();
            }));
        }
        let other = &sample.log[(index + 1) % sample.log.len()];
        let swap = |lake: &Path| {
            let away = lake.join("away");
            std::fs::rename(lake.join(name), &away).unwrap();
            std::fs::rename(lake.join(other), lake.join(name)).unwrap();
            std::fs::rename(away, lake.join(other)).unwrap();
        };
        noticed += usize::from(check(&format!("swap of {name} and {other}"), &[name, other], &swap));
        if tries_all || index % 4 == 2 {
            sample.check_writes(&format!("swap of {name} and {other}"), &swap);
            sample.check_writes(&format!("loss of {name}"), &|lake| std::fs::remove_file(lake.join(name)).unwrap());
        }
    }
    // Commits before the checkpoint are not read.
    assert!(noticed > 5 * sample.log.len() / 2, "{noticed} of {}", 5 * sample.log.len());
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn lost_log_and_lost_checks_are_named_with_exit_3() {
    let sample = Sample::new();
    let config = sample.folder.path().join("tawny.toml");
    let last = "_delta_log/00000000000000000013.json";
    assert!(sample.lake().join(last).exists());
    let log = files_below(&sample.lake().join("_delta_log"));
    let is_later = |name: &&String| name.as_str() != "00000000000000000000.json";
    let later: Vec<String> = log.iter().filter(is_later).map(|name| format!("_delta_log/{name}")).collect();
    assert!(later.len() > 13 && later.len() < log.len(), "{log:?}");
    let all_but_first: Vec<&str> = later.iter().map(String::as_str).chain(["_tawny/log/last_commit"]).collect();
    for lost in [
        all_but_first.as_slice(),
        &["_tawny/log/last_commit"],
        &[last],
        &[last, "_tawny/log/last_commit"],
        &["_tawny/log"],
        &["_tawny"],
        &["_delta_log"],
        &["_delta_log", "_tawny/log"],
        &["_delta_log", "_tawny"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lake");
        copy(&sample.lake(), &path);
        for name in lost {
            let name = path.join(name);
            if name.is_dir() { std::fs::remove_dir_all(name).unwrap() } else { std::fs::remove_file(name).unwrap() }
        }
        let before = files_below(&path);
        let (lake, trail) = (path.to_str().unwrap(), sample.folder.path().join("trail"));
        let trail = trail.to_str().unwrap();
        let settings = format!(
            "lake = '{lake}'\n[[source]]\npath = '{trail}'\n[[sink]]\nname = 'files'\nkind = 'files'\nto = '{}'\n",
            folder.path().join("findings").display()
        );
        std::fs::write(&config, settings).unwrap();
        for arguments in [
            &["hunt", lake, "--format", "jsonl"][..],
            &["query", "SELECT count(*) FROM cloudtrail", lake],
            &["inspect", lake],
            &["backtest", lake],
            &["convert", trail, "--lake", lake],
            &["compact", lake, "--keep-old", "1s"],
            &["nightly", "--config", config.to_str().unwrap()],
        ] {
            let output = tawny(arguments);
            let what = format!("{arguments:?} without {lost:?}: {}", said(&output));
            // Without `_tawny/log` nothing tells `compact` that it is a lake.
            let is_refused = code(&output) == 3 || arguments[0] == "compact" && said(&output).contains("is not a lake");
            assert!(is_refused && output.stdout.is_empty(), "{what}");
            assert!(said(&output).contains("lake"), "{what}");
            if *lost == ["_tawny"] && arguments[0] == "hunt" {
                assert!(said(&output).contains("restore the folder `_tawny`"), "{what}");
            }
        }
        let kept: Vec<String> = files_below(&path).into_iter().filter(|name| before.contains(name)).collect();
        assert_eq!(kept, before, "{lost:?}");
        assert!(!folder.path().join("findings").exists(), "{lost:?}");
    }
}

#[test]
fn interrupted_creation_of_a_lake_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, path) = (folder.path().join("trail"), folder.path().join("lake"));
    put_parts(&trail, 0..1);
    RUNTIME.block_on(async {
        Lake::at(&path).transaction_log().create().await.unwrap();
        std::fs::remove_dir_all(path.join("_tawny")).unwrap();
        assert_eq!(convert_all(&trail, &Lake::at(&path)).await.unwrap(), 3);
        // The record of commit 1 is lost in the crash, but that of the creation is not.
        let record = path.join("_tawny/log/last_commit");
        let text = std::fs::read_to_string(&record).unwrap();
        std::fs::write(&record, text.replacen('1', "0", 1)).unwrap();
        assert_eq!(Lake::at(&path).transaction_log().files().await.unwrap().len(), 1);
    });
}

#[test]
fn many_object_lists_of_a_day_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, path) = (folder.path().join("trail"), folder.path().join("lake"));
    let lake = Lake::at(&path);
    RUNTIME.block_on(async {
        for part in 0..70 {
            put_parts(&trail, part..part + 1);
            convert_all(&trail, &lake).await.unwrap();
        }
        assert_eq!(convert_all(&trail, &Lake::at(&path)).await.unwrap(), 0, "all objects are known");
        assert_eq!(Lake::at(&path).transaction_log().object_ids(None).await.unwrap().len(), 70);
    });
    let commit = std::fs::read_to_string(path.join("_delta_log/00000000000000000070.json")).unwrap();
    let lists = commit.lines().find(|line| line.contains("tawny.objects.unknown")).unwrap();
    assert!(lists.matches("\\\"").count() / 2 < 10, "{lists}");
}

#[test]
fn old_log_files_are_deleted_and_newer_versions_stay_readable() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, path) = (folder.path().join("trail"), folder.path().join("lake"));
    let lake = Lake::at(&path);
    let add = |parts: std::ops::Range<usize>| {
        for part in parts {
            put_parts(&trail, part..part + 1);
            RUNTIME.block_on(convert_all(&trail, &lake)).unwrap();
        }
    };
    add(0..25);
    let log = path.join("_delta_log");
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(36 * 24);
    for name in files_below(&log).iter().filter(|name| name.as_str() < "00000000000000000023") {
        std::fs::File::options().write(true).open(log.join(name)).unwrap().set_modified(old).unwrap();
    }
    add(25..30);
    let names = files_below(&log);
    assert_eq!(names.iter().map(String::as_str).min(), Some("00000000000000000020.checkpoint.parquet"), "{names:?}");
    let count = |version: u64| {
        RUNTIME.block_on(async {
            let location = Location::of(path.to_str().unwrap());
            let lake = Lake::open(&Stores::default(), &location, AsOf::Version(version)).await?;
            let files = lake.transaction_log().files().await?;
            Ok::<_, Error>(files.iter().map(|file| file.records).sum::<u64>())
        })
    };
    for version in 20..=30 {
        assert_eq!(count(version).unwrap(), 3 * version);
    }
    let gone = count(19).unwrap_err();
    assert_eq!(gone.status(), Status::Usage);
    assert!(gone.to_string().contains("has no version 19: its log has versions 20 to 30"), "{gone}");
    assert_eq!(RUNTIME.block_on(convert_all(&trail, &Lake::at(&path))).unwrap(), 0, "all objects are known");
}
