//! Earlier versions of a lake, and logs with many commits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tawny::lake::Lake;
use tawny::rule::catalog::DEFAULT;
use tawny::time::{DAY, SECOND};

use crate::delta_lake::{START, convert_all, note, put_parts};
use crate::optional;
use crate::oracle::RUNTIME;
use crate::records::failed_sign_in;
use crate::s3_server::Server;
use crate::tables::tawny;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Returns the standard output of each command that takes `--as-of`.
fn results(lake: &str, as_of: Option<&str>) -> Vec<String> {
    let commands = [
        &["hunt", lake, "--format", "json"][..],
        &["backtest", lake, "--format", "csv", "--thresholds", "2..3", "--periods", "15m"],
        &["query", "SELECT * FROM cloudtrail ORDER BY \"eventID\"", lake, "--format", "jsonl"],
        &["inspect", lake, "--format", "json"],
    ];
    let run = |command: &&[&str]| {
        let output = tawny(&[command, &as_of.map_or(vec![], |version| vec!["--as-of", version])[..]].concat());
        assert_eq!(code(&output), 0, "{command:?} {as_of:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    commands.iter().map(run).collect()
}

#[test]
fn earlier_versions_give_their_results_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, path) = (folder.path().join("trail"), folder.path().join("lake"));
    let lake = path.to_str().unwrap();
    let mut before: Vec<Vec<String>> = Vec::new();
    let mut times: Vec<String> = Vec::new();
    for part in 0..3 {
        put_parts(&trail, part * 3..part * 3 + 3);
        assert_eq!(RUNTIME.block_on(convert_all(&trail, &Lake::at(&path))).unwrap(), 9);
        before.push(results(lake, None));
        let findings: Vec<Value> = serde_json::from_str(&before[part][0]).unwrap();
        let shown = tawny(&["hunt", lake, "--format", "json", "--show", findings[0]["finding_id"].as_str().unwrap()]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown["table_version"], part + 1);
        assert!(findings.iter().all(|finding| finding["table_version"] == part + 1), "{findings:?}");
        times.push(chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(before[0] != before[1] && before[1] != before[2]);
    let reproduced = |what: &str, versions: &[usize]| {
        for version in versions {
            for as_of in [version.to_string().as_str(), &times[version - 1]] {
                assert!(results(lake, Some(as_of)) == before[version - 1], "{as_of} {what}");
            }
        }
    };
    reproduced("after appends", &[1]);
    assert_eq!(code(&tawny(&["compact", lake, "--before", "2026-10-01"])), 0);
    let files = glob::glob(&format!("{lake}/date=*/*.parquet")).unwrap().count();
    assert!(files > 9, "merged files were added: {files}");
    reproduced("after a merge", &[2]);
    let days = chrono::Utc::now().signed_duration_since(chrono::DateTime::UNIX_EPOCH).num_days() - 20_698;
    assert_eq!(code(&tawny(&["compact", lake, "--retain", &format!("{days}d")])), 0);
    assert_ne!(results(lake, None)[0], before[2][0], "a day was dropped");
    reproduced("after days were dropped", &[1, 3]);

    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(code(&tawny(&["compact", lake, "--keep-old", "1s"])), 0);
    for command in [&["hunt", lake][..], &["query", "SELECT * FROM cloudtrail", lake], &["backtest", lake]] {
        let output = tawny(&[command, &["--as-of", "2"]].concat());
        assert_eq!(code(&output), 3, "{command:?}: {}", said(&output));
        assert!(said(&output).contains("/date=2026-09-0") && said(&output).contains("part-"), "{}", said(&output));
    }
    let newest = glob::glob(&format!("{lake}/_delta_log/*.json")).unwrap().count() - 1;
    assert!(results(lake, Some(&newest.to_string())) == results(lake, None), "the newest version stays");
}

#[test]
fn unknown_versions_are_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, path) = (folder.path().join("trail"), folder.path().join("lake"));
    let lake = path.to_str().unwrap();
    put_parts(&trail, 0..2);
    RUNTIME.block_on(convert_all(&trail, &Lake::at(&path))).unwrap();
    for command in
        [&["hunt", lake][..], &["backtest", lake], &["query", "SELECT 1 FROM cloudtrail", lake], &["inspect", lake]]
    {
        for (as_of, expected) in [
            ("2", "has no version 2: its log has versions 0 to 1"),
            ("18446744073709551615", "has no version 18446744073709551615: its log has versions 0 to 1"),
            ("2020-01-01", "has no version as of 2020-01-01T00:00:00Z: its first version is 0, of 20"),
            ("never", "expected the number of a version, a date or an RFC 3339 time"),
        ] {
            let output = tawny(&[command, &["--as-of", as_of]].concat());
            assert_eq!(code(&output), 2, "{command:?} {as_of}: {}", said(&output));
            assert!(said(&output).contains(expected), "{as_of}: {}", said(&output));
            assert!(
                as_of == "never" || said(&output).contains("use `--as-of 0` or a later version"),
                "{}",
                said(&output)
            );
        }
    }
    let raw = tawny(&["hunt", trail.to_str().unwrap(), "--as-of", "1"]);
    assert_eq!(code(&raw), 2, "{}", said(&raw));
    // A time after the last version, and the empty version before all records.
    assert_eq!(results(lake, Some("2100-01-01")), results(lake, None));
    assert_eq!(results(lake, Some("0"))[2], "");
}

/// Adds commits without files to the log of a lake, as another program would write them, up to version `last`.
fn add_commits(lake: &Path, last: u64) {
    let log = lake.join("_delta_log");
    let (mut version, mut time) = (0, chrono::Utc::now().timestamp_millis());
    while log.join(format!("{version:020}.json")).exists() {
        version += 1;
    }
    for version in version..=last {
        time += 1;
        let commit = format!(
            "{{\"commitInfo\":{{\"inCommitTimestamp\":{time},\"timestamp\":{time},\"operation\":\"WRITE\",\"engineInfo\":\"test\"}}}}\n"
        );
        std::fs::write(log.join(format!("{version:020}.json")), commit).unwrap();
    }
}

/// The numbers of requests that opening a lake may need.
const MAX_REQUESTS: usize = 20;

/// The variable with the number of commits of a long log, a multiple of ten.
const COMMITS: &str = "TAWNY_COMMITS";

#[test]
fn lake_with_many_commits_opens_with_few_requests() {
    let commits: u64 = std::env::var(COMMITS).ok().map_or(1_000, |commits| commits.parse().unwrap());
    let server = Server::start();
    let path: PathBuf = server.file("lake", "ct");
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail");
    put_parts(&trail, 0..3);
    RUNTIME.block_on(convert_all(&trail, &Lake::at(&path))).unwrap();
    add_commits(&path, commits - 1);
    put_parts(&trail, 3..4);
    assert_eq!(RUNTIME.block_on(convert_all(&trail, &Lake::at(&path))).unwrap(), 3);
    assert!(path.join(format!("_delta_log/{commits:020}.checkpoint.parquet")).exists());
    add_commits(&path, commits + 8);
    server.take_log();
    let start = std::time::Instant::now();
    let hunt = server.tawny(&["hunt", "s3://lake/ct", "--format", "jsonl"]);
    assert_eq!((code(&hunt), String::from_utf8_lossy(&hunt.stdout).lines().count()), (0, 4), "{}", said(&hunt));
    let log = server.take_log();
    let of_log = log.iter().filter(|request| request.contains("_delta_log") || request.contains("_tawny")).count();
    note(&format!("{of_log} of {} requests are for the log, {:?}", log.len(), start.elapsed()));
    assert!(of_log <= MAX_REQUESTS, "{log:#?}");
}

/// Returns the counts of one version of a lake: of all records, and of each day and event name.
fn counts(lake: &str, version: u64) -> Value {
    let query = |sql: &str| {
        let output =
            tawny(&["query", sql, lake, "--as-of", &version.to_string(), "--with-duplicates", "--format", "json"]);
        assert_eq!(code(&output), 0, "{}", said(&output));
        serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap()
    };
    let grouped = |expression: &str| {
        let rows = query(&format!("SELECT {expression} AS k, count(*) AS n FROM cloudtrail GROUP BY 1"));
        let pairs = rows.iter().map(|row| (row["k"].as_str().unwrap_or("None").to_owned(), row["n"].clone()));
        Value::Object(pairs.collect())
    };
    let count = &query("SELECT count(*) AS n FROM cloudtrail")[0]["n"];
    let days = grouped("CAST(CAST(\"eventTime\" AS DATE) AS VARCHAR)");
    json!({ "count": count, "days": days, "names": grouped("\"eventName\"") })
}

/// Returns actor, number of events and event ids of each finding of the default rule.
fn findings(lake: &str, version: u64) -> Value {
    let output = tawny(&["hunt", lake, "--as-of", &version.to_string(), "--format", "json"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let mut found: Vec<(String, u64, Vec<String>)> = serde_json::from_slice::<Value>(&output.stdout)
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let ids = finding["event_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
            let mut ids: Vec<String> = ids.collect();
            ids.sort();
            (finding["group"]["actor"].as_str().unwrap().to_owned(), finding["count"].as_u64().unwrap(), ids)
        })
        .collect();
    found.sort();
    json!(found)
}

#[test]
fn other_readers_of_the_delta_table_see_the_same_records() {
    let check = "a lake read by deltalake, DuckDB and Polars";
    let Some(python) = optional::dialects_python(check) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (trail, path) = (folder.path().join("trail"), folder.path().join("lake"));
    let (lake, sql) = (path.to_str().unwrap(), folder.path().join("rule.sql"));
    let rule = tawny(&["sql", DEFAULT, "--dialect", "duckdb"]);
    std::fs::write(&sql, rule.stdout).unwrap();
    let read = |version: u64| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/delta_readers.py");
        let mut command = std::process::Command::new(&python);
        command.args([script, lake, &version.to_string()]).arg(&sql).output().unwrap()
    };
    let compare = |version: u64| {
        let output = read(version);
        assert!(output.status.success(), "{}", said(&output));
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        let expected = counts(lake, version);
        for (reader, counted) in seen["readers"].as_object().unwrap() {
            assert_eq!(*counted, expected, "{reader}, version {version}");
        }
        assert_eq!(seen["findings"], findings(lake, version), "version {version}");
    };
    std::fs::create_dir_all(&trail).unwrap();
    let timeless = json!({ "eventID": "timeless", "eventName": "ConsoleLogin" });
    std::fs::write(trail.join("timeless.json"), json!({ "Records": [timeless] }).to_string()).unwrap();
    // 14 versions, so that a checkpoint is read too.
    for part in 0..14 {
        put_parts(&trail, part..part + 1);
        RUNTIME.block_on(convert_all(&trail, &Lake::at(&path))).unwrap();
    }
    if read(14).status.code() == Some(9) {
        optional::skip(check, "the Python that TAWNY_DIALECTS names lacks deltalake, duckdb, polars or pyarrow");
        return;
    }
    for version in [5, 12, 14] {
        compare(version);
    }
    let newest = || glob::glob(&format!("{lake}/_delta_log/*[0-9].json")).unwrap().count() as u64 - 1;
    let compaction = std::thread::scope(|scope| {
        let compaction = scope.spawn(|| tawny(&["compact", lake, "--before", "2026-10-01"]));
        for version in [13, 14] {
            compare(version);
        }
        compaction.join().unwrap()
    });
    assert_eq!(code(&compaction), 0, "{}", said(&compaction));
    let merged = newest();
    assert!(merged > 14);
    for version in [5, 14, merged] {
        compare(version);
    }
    let days = chrono::Utc::now().signed_duration_since(chrono::DateTime::UNIX_EPOCH).num_days() - 20_698;
    assert_eq!(code(&tawny(&["compact", lake, "--retain", &format!("{days}d")])), 0);
    assert_ne!(counts(lake, newest()), counts(lake, merged));
    for version in [5, merged, newest()] {
        compare(version);
    }
}

/// The variable with the number of nights to simulate.
const NIGHTS: &str = "TAWNY_NIGHTS";

/// Extends a lake of one night to `nights` nights with a file, an object list and a commit each. Each file is the one of
/// the first night under another name, so no night must hunt it.
fn extend_to(lake: &Path, nights: u64) {
    let log = lake.join("_delta_log");
    let commit = std::fs::read_to_string(log.join("00000000000000000001.json")).unwrap();
    let lines: Vec<Value> = commit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let member = |name: &str| lines.iter().find_map(|line| line.get(name)).unwrap().clone();
    let (first, objects) = (member("add"), member("domainMetadata"));
    let file = first["path"].as_str().unwrap();
    let mut time = chrono::Utc::now().timestamp_millis();
    for night in 2..=nights {
        let date = (START + i64::try_from(night).unwrap() * DAY).utc_date();
        let path = format!("date={date}/part-{night:032x}.parquet");
        std::fs::create_dir_all(lake.join(&path).parent().unwrap()).unwrap();
        std::fs::hard_link(lake.join(file), lake.join(&path)).unwrap();
        time += 1;
        let mut add = first.clone();
        add["path"] = json!(path);
        add["partitionValues"]["date"] = json!(date);
        add["stats"] = json!(first["stats"].as_str().unwrap().replace("2026-09-01", &date));
        let mut domain = objects.clone();
        domain["domain"] = json!(format!("tawny.objects.{date}"));
        let info = json!({ "inCommitTimestamp": time, "timestamp": time, "operation": "WRITE", "engineInfo": "test" });
        let actions = [json!({ "commitInfo": info }), json!({ "domainMetadata": domain }), json!({ "add": add })];
        std::fs::write(log.join(format!("{night:020}.json")), actions.map(|action| format!("{action}\n")).concat())
            .unwrap();
    }
}

/// Runs a nightly run over a lake of `nights` nights, and returns its requests.
fn requests_of_night(nights: u64) -> Vec<String> {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let config = "lake = 's3://lake/ct'\n[[source]]\npath = 's3://logs'\n[[sink]]\nname = 'files'\nkind = 'files'\nto = 'findings'\n";
    std::fs::write(home.path().join("tawny.toml"), config).unwrap();
    let put = |night: u64| {
        let day = START + i64::try_from(night).unwrap() * DAY;
        let records: Vec<Value> = [1, 2]
            .map(|minute| {
                failed_sign_in("ann", &(day + minute * 60 * SECOND).to_string(), &format!("{night}-{minute}"))
            })
            .into();
        let date = day.utc_date();
        let key = format!(
            "AWSLogs/111122223333/CloudTrail/eu-west-1/{}/111122223333_CloudTrail_eu-west-1_{}T0005Z_{night:016}.json",
            date.replace('-', "/"),
            date.replace('-', "")
        );
        server.put("logs", &key, json!({ "Records": records }).to_string().as_bytes());
    };
    let run = |night: u64| {
        let now = (START + i64::try_from(night).unwrap() * DAY + DAY / 4).to_string();
        let output = server.command().args(["nightly", "--now", &now]).current_dir(home.path()).output().unwrap();
        assert_eq!(code(&output), 0, "{}", said(&output));
    };
    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    put(0);
    run(0);
    let lake = server.file("lake", "ct");
    extend_to(&lake, nights);
    let last = std::fs::read(lake.join(format!("_delta_log/{nights:020}.json"))).unwrap();
    let state = lake.join("_tawny/nightly/default/00000001.json");
    let mut hunted: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    hunted["hunted_commits"] = json!(nights);
    hunted["lake"]["commit"] = json!(tawny::store::hex(&Sha256::digest(last)));
    std::fs::write(&state, hunted.to_string()).unwrap();
    // The first of these runs reads all commits and writes a checkpoint.
    for night in [nights + 1, nights + 2] {
        put(night);
        run(night);
    }
    assert!(lake.join(format!("_delta_log/{:020}.checkpoint.parquet", nights + 1)).exists());
    put(nights + 3);
    server.take_log();
    let start = std::time::Instant::now();
    run(nights + 3);
    note(&format!("night {nights}: {:?}", start.elapsed()));
    server.take_log()
}

#[test]
fn requests_of_a_night_do_not_grow() {
    let nights = std::env::var(NIGHTS).ok().map_or(99, |nights| nights.parse().unwrap());
    let [early, late] = [9, nights].map(requests_of_night);
    let kinds = |requests: &[String]| {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for request in requests {
            let (method, target) = request.split_once(' ').unwrap();
            let is_list = target.contains("list-type");
            let folders = ["_delta_log", "_tawny/objects", "_tawny/nightly", "_tawny", "date", "logs"];
            let folder = folders.into_iter().find(|folder| target.contains(folder)).unwrap_or("lake");
            *kinds.entry(format!("{} {folder}", if is_list { "LIST" } else { method })).or_default() += 1;
        }
        kinds
    };
    note(&format!("night 9: {:?}\nnight {nights}: {:?}", kinds(&early), kinds(&late)));
    // A list of the lake has a page for each 1,000 files.
    let pages = usize::try_from(nights / 1_000).unwrap() * 3;
    assert!(late.len() <= early.len() + 2 + pages, "{:#?}\n{:#?}", kinds(&early), kinds(&late));
}
