//! `--account` and `--region` select the same events in every kind of data.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::records::failed_sign_in;
use crate::s3_server::Server;
use crate::tables::{self, columns, lower, tawny, text};

const ACCOUNTS: [&str; 2] = ["111122223333", "444455556666"];
const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the events of an account and region: two of its own user, and one of a user whose burst spans regions.
fn events(account: &str, region: &str) -> Vec<Value> {
    let event = |user: &str, minute: usize| {
        let time = format!("2026-09-01T10:{minute:02}:00Z");
        let mut event = failed_sign_in(user, &time, &format!("{account}{region}{user}{minute}"));
        event["recipientAccountId"] = account.into();
        event["awsRegion"] = region.into();
        event
    };
    vec![event(&format!("only-{region}"), 0), event(&format!("only-{region}"), 1), event("spans", 2)]
}

/// Returns the name of an object that CloudTrail delivered at 10:05 of a day.
fn name(account: &str, region: &str, day: &str) -> String {
    format!("{account}_CloudTrail_{region}_{}T1005Z_abcdefghijklmnop.json", day.replace('/', ""))
}

/// Returns the events of all accounts and regions, and some without an account or region.
fn records() -> Vec<Value> {
    let mut all: Vec<Value> =
        ACCOUNTS.iter().flat_map(|account| REGIONS.iter().flat_map(|region| events(account, region))).collect();
    for missing in ["recipientAccountId", "awsRegion"] {
        let mut event = failed_sign_in("lacks", "2026-09-01T10:03:00Z", missing);
        event["awsRegion"] = REGIONS[0].into();
        event.as_object_mut().unwrap().remove(missing);
        all.push(event);
    }
    all
}

/// Writes the events with CloudTrail's keys, in one folder with CloudTrail's names, and as one object.
fn write(folder: &Path) -> [String; 3] {
    let put = |key: &str, records: &[Value]| {
        let file = folder.join(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, json!({ "Records": records }).to_string()).unwrap();
    };
    for account in ACCOUNTS {
        for region in REGIONS {
            let (events, name) = (events(account, region), name(account, region, "2026/09/01"));
            put(&format!("trail/AWSLogs/{account}/CloudTrail/{region}/2026/09/01/{name}"), &events);
            put(&format!("flat/{name}"), &events);
        }
    }
    // Its key shows no account, region or day.
    put("mixed/all.json", &records());
    ["trail", "flat", "mixed"].map(|name| folder.join(name).display().to_string())
}

/// Returns account, user and number of events of each finding.
fn findings(output: &Output) -> BTreeSet<(String, String, u64)> {
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let finding = |line: &[u8]| {
        let finding: Value = serde_json::from_slice(line).unwrap();
        let group =
            finding["group"].as_object().unwrap().values().map(|value| value.as_str().unwrap_or("none").to_owned());
        let [account, user] = group.collect::<Vec<_>>().try_into().unwrap();
        (account, user, finding["count"].as_u64().unwrap())
    };
    lines.map(finding).collect()
}

/// Returns the expected findings: those of a trail without the other events.
fn expected(accounts: &[&str], regions: &[&str]) -> BTreeSet<(String, String, u64)> {
    let admits = |wanted: &[&str], one: &str| wanted.is_empty() || wanted.contains(&one);
    let mut found = BTreeSet::new();
    for account in ACCOUNTS.into_iter().filter(|account| admits(accounts, account)) {
        let regions: Vec<&str> = REGIONS.into_iter().filter(|region| admits(regions, region)).collect();
        found.extend(regions.iter().map(|region| (account.to_owned(), format!("only-{region}"), 2)));
        if regions.len() == 2 {
            found.insert((account.to_owned(), "spans".to_owned(), 2));
        }
    }
    found
}

#[test]
fn every_kind_of_data_gives_the_findings_of_selected_events() {
    let folder = tempfile::tempdir().unwrap();
    let [trail, flat, mixed] = write(folder.path());
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (lake, all, rows) = (place("lake"), place("all"), place("rows.parquet"));
    for (from, lake) in [(&trail, &lake), (&mixed, &all)] {
        assert!(tawny(&["convert", from, "--lake", lake]).status.success());
    }
    let fields = columns(text("eventtime"), false, &lower);
    tables::write(Path::new(&rows), fields, &tables::rows(&records(), false, &lower));
    let none: &[&str] = &[];
    for (accounts, regions) in [(&ACCOUNTS[..1], none), (none, &REGIONS[1..]), (&ACCOUNTS[1..], &REGIONS[..1])] {
        let mut options: Vec<&str> = accounts.iter().flat_map(|account| ["--account", account]).collect();
        options.extend(regions.iter().flat_map(|region| ["--region", region]));
        for data in [&trail, &flat, &mixed, &lake, &all, &rows] {
            let output = tawny(&[&["hunt", data, "--format", "jsonl", "--threshold", "2"], &options[..]].concat());
            assert_eq!(findings(&output), expected(accounts, regions), "{options:?} of {data}: {}", stderr(&output));
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            let is_raw = [&trail, &flat, &mixed].contains(&data);
            assert_eq!(
                stderr(&output).contains("bursts that span others may be incomplete"),
                is_raw,
                "{}",
                stderr(&output)
            );
        }
    }
    // Several rules in one scan, the cells of a backtest, and a query.
    let region = ["--region", REGIONS[0]];
    for data in [&mixed, &all, &rows] {
        let query = &["query", "SELECT count(*) AS n FROM cloudtrail", data, "--format", "csv"][..];
        let counted = tawny(&[query, &region[..]].concat());
        // One of them has no account.
        assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), "n\n7", "{data}: {}", stderr(&counted));
        let output = tawny(&[&["hunt", data, "--rules", "rules", "--format", "jsonl"], &region[..]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("us-east-1"), "{text}");
        let cells = tawny(
            &[
                &[
                    "backtest",
                    data,
                    "--thresholds",
                    "2",
                    "--periods",
                    "15m",
                    "--windows",
                    "sliding",
                    "--format",
                    "json",
                ],
                &region[..],
            ]
            .concat(),
        );
        let cells: Value = serde_json::from_slice(&cells.stdout).unwrap();
        assert!(cells.to_string().contains(r#""findings":2"#), "{cells}");
    }
}

#[test]
fn selection_without_events_exits_3() {
    let folder = tempfile::tempdir().unwrap();
    let [trail, flat, mixed] = write(folder.path());
    let lake = folder.path().join("lake").display().to_string();
    assert!(tawny(&["convert", &trail, "--lake", &lake]).status.success());
    let converted = tawny(&["convert", &flat, "--lake", &format!("{lake}2"), "--account", "999999999999"]);
    assert_eq!(converted.status.code(), Some(3), "{}", stderr(&converted));
    for data in [&trail, &flat, &mixed, &lake] {
        for command in [
            &["hunt", data, "--account", "999999999999"][..],
            &["backtest", data, "--region", "eu-south-1", "--thresholds", "2", "--periods", "15m"],
            &["query", "SELECT 1 FROM cloudtrail", data, "--account", "999999999999"],
        ] {
            let output = tawny(command);
            let said = stderr(&output);
            assert!(output.status.code() == Some(3) && said.contains("nothing was read"), "{command:?} {said}");
        }
    }
    let output = tawny(&["hunt", &lake, "--delivered-within", "2d"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("--delivered-within"), "{}", stderr(&output));
}

#[test]
fn names_in_a_flat_bucket_select_objects_and_shorten_the_listing() {
    let server = Server::start();
    std::fs::create_dir_all(server.file("logs", "")).unwrap();
    for account in ACCOUNTS {
        for region in REGIONS {
            for day in ["2026/08/01", "2026/09/01", "2026/10/01"] {
                let text = json!({ "Records": events(account, region) }).to_string();
                server.put_odd("logs", &format!("flat/{}", name(account, region, day)), text.as_bytes());
            }
        }
    }
    // Several pages of the listing.
    for number in 0..3_500 {
        let name = name(ACCOUNTS[0], REGIONS[0], "2026/08/01").replace("abcdefghijklmnop", &format!("z{number:04}"));
        server.put_odd("logs", &format!("flat/{name}"), b"");
    }
    let listed = |options: &[&str]| {
        server.take_log();
        let output = server.tawny(&[&["hunt", "s3://logs/flat", "--dry-run", "--format", "json"], options].concat());
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let log = server.take_log();
        let pages = log.iter().filter(|request| request.contains("list-type=2") && !request.contains("_tawny")).count();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (told["objects"].as_u64().unwrap(), pages)
    };
    // Three requests detect the kind of data: they look for a Delta log, for Iceberg metadata, and for the first object.
    assert_eq!(listed(&[]), (12, 3 + 4));
    for (options, objects) in [
        (&["--from", "2026-09-01", "--to", "2026-09-02"][..], 4),
        (&["--account", ACCOUNTS[1], "--region", REGIONS[0], "--from", "2026-09-30"], 1),
        (&["--account", ACCOUNTS[1], "--max-objects", "6"], 6),
        (&["--region", REGIONS[1]], 6),
    ] {
        assert_eq!(listed(options), (objects, 3 + 2), "{options:?}");
    }
    let refused = server.tawny(&["hunt", "s3://logs/flat", "--from", "2026-09-01", "--max-objects", "7"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    let hunted = server.tawny(&[
        "hunt",
        "s3://logs/flat",
        "--format",
        "jsonl",
        "--from",
        "2026-09-01",
        "--to",
        "2026-09-02",
        "--account",
        ACCOUNTS[1],
        "--threshold",
        "2",
    ]);
    assert_eq!(findings(&hunted), expected(&ACCOUNTS[1..], &[]), "{}", stderr(&hunted));
}
