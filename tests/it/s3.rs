//! Trails and lakes in S3, with a real HTTP server.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::places::without_version;
use crate::records::failed_sign_in;
use crate::s3_server::{Fault, SECRET, Server, keys_expire_after_one_request};

const TRAIL: &str = "tests/data/trail";

/// A prefix with characters that have a meaning in URLs.
const ODD: &str = "org logs/team+a%20b=#1&c/@";

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Writes the repository's trail to the bucket `logs` below `prefix`.
fn put_trail(server: &Server, prefix: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(TRAIL);
    for file in glob::glob(&format!("{}/**/*", root.display())).unwrap().flatten().filter(|path| path.is_file()) {
        let key = file.strip_prefix(&root).unwrap().to_str().unwrap();
        server.put("logs", &format!("{prefix}/{key}"), &std::fs::read(&file).unwrap());
    }
}

/// Writes an object with CloudTrail's key and two failed sign-ins of `user`, a minute apart, at noon of `day`.
fn put_burst(server: &Server, account: &str, region: &str, day: &str, user: &str) {
    let records = ["12:00:00", "12:01:00"].map(|time| {
        let id = format!("{account}{region}{day}{user}{time}");
        let mut record = failed_sign_in(user, &format!("{}T{time}Z", day.replace('/', "-")), &id);
        record["recipientAccountId"] = account.into();
        record["awsRegion"] = region.into();
        record
    });
    let stamp = day.replace('/', "");
    let key = format!(
        "AWSLogs/{account}/CloudTrail/{region}/{day}/{account}_CloudTrail_{region}_{stamp}T1205Z_{user:0>16}.json.gz"
    );
    server.put("logs", &key, &gzip(&serde_json::json!({ "Records": records }).to_string()));
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn on_disk(server: &Server) -> String {
    let found = stdout(&server.tawny(&["hunt", TRAIL, "--format", "jsonl"]));
    assert_eq!(found.lines().count(), 2);
    found
}

#[test]
fn trails_and_lakes_in_s3_and_on_disk_give_the_same_findings() {
    let server = Server::start();
    put_trail(&server, ODD);
    let expected = on_disk(&server);
    let trail = format!("s3://logs/{ODD}");
    let raw = server.tawny(&["hunt", &trail, "--format", "jsonl"]);
    assert_eq!(stdout(&raw), expected, "{}", stderr(&raw));
    assert_eq!(raw.status.code(), Some(0), "{}", stderr(&raw));

    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    let disk = tempfile::tempdir().unwrap();
    let on_disk = disk.path().join("lake");
    for (from, lake) in
        [(trail.as_str(), "s3://lake/one"), (TRAIL, "s3://lake/two/"), (&trail, on_disk.to_str().unwrap())]
    {
        let converted = server.tawny(&["convert", from, "--lake", lake]);
        assert_eq!(converted.status.code(), Some(0), "{}", stderr(&converted));
        assert!(
            stderr(&converted).contains("36 read = 35 converted + 1 duplicates + 0 rejected"),
            "{}",
            stderr(&converted)
        );
        let again = server.tawny(&["convert", from, "--lake", lake]);
        assert!(stderr(&again).contains("0 files added"), "{}", stderr(&again));
        let found = server.tawny(&["hunt", lake, "--format", "jsonl"]);
        assert_eq!(without_version(&found.stdout), expected, "{lake}: {}", stderr(&found));
        assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
    }
    let written = server.tawny(&["hunt", &trail, "--format", "jsonl", "-o", "s3://lake/found/a b.jsonl"]);
    assert_eq!((stdout(&written).as_str(), written.status.code()), ("", Some(0)), "{}", stderr(&written));
    assert_eq!(std::fs::read_to_string(server.file("lake", "found/a b.jsonl")).unwrap(), expected);
    let cells = |data: &str| {
        let page = ["--report", "s3://lake/found/page.html"];
        let output = server.tawny(&[&["backtest", data, "--format", "csv"], &page[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(
            std::fs::read_to_string(server.file("lake", page[1].strip_prefix("s3://lake/").unwrap()))
                .unwrap()
                .starts_with("<!doctype html>")
        );
        stdout(&output)
    };
    let expected_cells = cells(on_disk.to_str().unwrap());
    assert_eq!(cells("s3://lake/one"), expected_cells);
    assert_eq!(cells(&trail).lines().count(), 181);
    let both = server.tawny(&["hunt", "s3://lake", "--format", "jsonl"]);
    assert_eq!(both.status.code(), Some(2), "a folder of lakes is not a raw trail: {}", stderr(&both));
    let pattern = format!("s3://logs/{}/*/AWSLogs/**/*.gz", ODD.split('/').next().unwrap());
    let deep = format!("s3://logs/{ODD}/**/*.json*");
    for (pattern, found) in [(deep.as_str(), true), (pattern.as_str(), false)] {
        let output = server.tawny(&["hunt", pattern, "--format", "jsonl"]);
        assert_eq!(stdout(&output) == expected, found, "{pattern}: {}", stderr(&output));
    }
}

#[test]
fn findings_of_several_parts_reach_s3_whole_or_not_at_all() {
    let server = Server::start();
    std::fs::create_dir_all(server.file("found", "")).unwrap();
    let record = |number: usize| {
        let time = format!("2026-09-01T10:{number:02}:00Z");
        let mut record = failed_sign_in(&format!("user{}", number / 2), &time, &format!("event{number}"));
        record["userAgent"] = format!("{number:08}").repeat(128 << 10).into();
        record
    };
    let records: Vec<_> = (0..16).map(record).collect();
    server.put("logs", "long/a.json", serde_json::json!({ "Records": records }).to_string().as_bytes());
    let hunt = |more: &[&str]| server.tawny(&[&["hunt", "s3://logs/long", "--format", "jsonl"], more].concat());
    let expected = stdout(&hunt(&[]));
    assert!(expected.len() > 20 << 20, "{}", expected.len());
    server.take_log();
    let written = hunt(&["-o", "s3://found/whole.jsonl"]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert!(std::fs::read_to_string(server.file("found", "whole.jsonl")).unwrap() == expected);
    let is_of_upload = |request: &&String| request.contains("partNumber=") || request.contains("uploads");
    assert_eq!(server.take_log().iter().filter(is_of_upload).count(), 3, "a start and two parts");

    server.set_faults(|request| match request.uri.query() {
        Some(query) if query.contains("partNumber=2") => Fault::Refused(403, "AccessDenied"),
        _ => Fault::None,
    });
    let refused = hunt(&["-o", "s3://found/refused.jsonl"]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("s3://found/refused.jsonl"), "{}", stderr(&refused));
    assert!(!server.file("found", "refused.jsonl").exists());
    let log = server.take_log();
    assert!(log.iter().any(|request| request.starts_with("DELETE") && request.contains("uploadId=")), "{log:?}");
}

#[test]
fn more_objects_than_a_listing_page_are_read_concurrently() {
    let server = Server::start();
    for number in 0..2_300 {
        let record = failed_sign_in(
            &format!("user{}", number / 2),
            &format!("2026-09-01T10:{:02}:00Z", number % 2),
            &format!("event{number}"),
        );
        server.put(
            "logs",
            &format!("flat/{number}.json"),
            serde_json::json!({ "Records": [record] }).to_string().as_bytes(),
        );
    }
    server.set_delay(Duration::from_millis(20));
    let output = server.tawny(&["hunt", "s3://logs/flat", "--format", "jsonl"]);
    assert_eq!(stdout(&output).lines().count(), 1_150, "{}", stderr(&output));
    let log = server.take_log();
    let marks = ["_tawny", "_delta_log", "flat%2Fmetadata"];
    let is_for_tables = |request: &str| marks.iter().any(|folder| request.contains(folder));
    let pages = log.iter().filter(|request| request.contains("list-type=2") && !is_for_tables(request)).count();
    for mark in &marks[1..] {
        assert!(log.iter().filter(|request| request.contains(mark)).count() <= 1, "one to detect each kind of table");
    }
    let reads = log.iter().filter(|request| request.starts_with("GET /logs/flat/")).count();
    assert_eq!(
        (pages, reads),
        (1 + 3, 2_300),
        "one to detect the kind of data, and three pages of at most a thousand keys"
    );
    assert!((32..=64).contains(&server.most_open()), "{} requests at a time", server.most_open());
}

#[test]
fn listing_ends_after_an_exactly_full_page() {
    let server = Server::start();
    for count in [1, 999, 1_000, 1_001, 2_000] {
        (0..count).for_each(|number| server.put("logs", &format!("of{count}/{number}.json"), b"{}"));
        let output = server.tawny(&["hunt", &format!("s3://logs/of{count}"), "--dry-run", "--format", "json"]);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["objects"], count, "{}", stderr(&output));
    }
    let none = server.tawny(&["hunt", "s3://logs/of0", "--format", "json"]);
    assert!(
        none.status.code() == Some(3) && stderr(&none).contains("no such object or prefix: `s3://logs/of0`"),
        "{}",
        stderr(&none)
    );
}

#[test]
fn store_and_network_faults_are_retried() {
    let server = Server::start();
    put_trail(&server, "trail");
    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    let expected = on_disk(&server);
    let mut number = 0;
    server.set_faults(move |parts| {
        number += 1;
        match number % 5 {
            1 => Fault::Refused(503, "SlowDown"),
            2 => Fault::Cut,
            3 if parts.method == http::Method::GET => Fault::CutInBody,
            _ => Fault::None,
        }
    });
    let raw = server.tawny(&["hunt", "s3://logs/trail", "--format", "jsonl"]);
    assert_eq!((stdout(&raw), raw.status.code()), (expected.clone(), Some(0)), "{}", stderr(&raw));
    let converted = server.tawny(&["convert", "s3://logs/trail", "--lake", "s3://lake/l"]);
    assert_eq!(converted.status.code(), Some(0), "{}", stderr(&converted));
    let lake = server.tawny(&["hunt", "s3://lake/l", "--format", "jsonl"]);
    assert_eq!((without_version(&lake.stdout), lake.status.code()), (expected, Some(0)), "{}", stderr(&lake));
}

#[test]
fn denied_object_is_named_and_the_rest_is_hunted() {
    let server = Server::start();
    for user in ["ann", "bob", "cyd"] {
        put_burst(&server, "111122223333", "eu-west-1", "2026/09/01", user);
    }
    server.set_faults(|parts| {
        let denied = parts.uri.path().contains("bob") && parts.method == http::Method::GET;
        if denied { Fault::Refused(403, "AccessDenied") } else { Fault::None }
    });
    let output = server.tawny(&["hunt", "s3://logs", "--format", "jsonl"]);
    assert_eq!((stdout(&output).lines().count(), output.status.code()), (2, Some(3)), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("3 read = 2 hunted + 1 rejected"), "{text}");
    assert!(
        text.contains("s3://logs/AWSLogs/111122223333/CloudTrail/eu-west-1/2026/09/01/")
            && text.contains("bob.json.gz: AccessDenied: said by the test"),
        "{text}"
    );
}

#[test]
fn denied_requests_give_advice_without_secrets() {
    let server = Server::start();
    put_burst(&server, "111122223333", "eu-west-1", "2026/09/01", "ann");
    let refused = |code: &'static str, status: u16| {
        server.set_faults(move |_| Fault::Refused(status, code));
        let output = server.tawny(&["hunt", "s3://logs/AWSLogs"]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(!stderr(&output).contains("AWS4-HMAC"), "signed text is not shown: {}", stderr(&output));
        stderr(&output)
    };
    for (code, status, hint) in [
        ("AccessDenied", 403, "s3:ListBucket"),
        ("NoSuchBucket", 404, "check the bucket's name"),
        ("AuthorizationHeaderMalformed", 400, "--s3-region"),
        ("ExpiredToken", 400, "renew them"),
    ] {
        let text = refused(code, status);
        assert!(text.contains("`s3://logs/") && text.contains(code) && text.contains(hint), "{code}: {text}");
    }
    server.set_faults(|_| Fault::None);
    let missing = server.tawny(&["hunt", "s3://logs/elsewhere"]);
    assert_eq!(missing.status.code(), Some(3), "{}", stderr(&missing));
    assert!(stderr(&missing).contains("no such object or prefix: `s3://logs/elsewhere`"), "{}", stderr(&missing));
    let unreachable =
        Server::run(server.command().args(["hunt", "s3://logs/AWSLogs", "--s3-endpoint", "http://127.0.0.1:1"]));
    assert_eq!(unreachable.status.code(), Some(3), "{}", stderr(&unreachable));
    assert!(stderr(&unreachable).contains("no connection to the store"), "{}", stderr(&unreachable));
    let nobody = Server::run(server.command().env_remove("AWS_ACCESS_KEY_ID").args(["hunt", "s3://logs"]));
    assert_eq!(nobody.status.code(), Some(3));
    assert!(
        stderr(&nobody).contains("no credentials") && stderr(&nobody).contains("aws sso login"),
        "{}",
        stderr(&nobody)
    );
}

#[test]
fn expired_credentials_are_renewed() {
    let server = Server::start();
    for user in ["ann", "bob", "cyd", "dan"] {
        put_burst(&server, "111122223333", "eu-west-1", "2026/09/01", user);
    }
    let home = tempfile::tempdir().unwrap();
    let counter = home.path().join("counter");
    let script = home.path().join("credentials.sh");
    let soon = (chrono::Utc::now() + chrono::TimeDelta::seconds(30)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let text = format!(
        "#!/bin/sh\necho x >> {0}\necho '{{\"Version\":1,\"AccessKeyId\":\"KEY'$(wc -l < {0} | tr -d ' ')'\",\
         \"SecretAccessKey\":\"{SECRET}\",\"SessionToken\":\"t\",\"Expiration\":\"{soon}\"}}'\n",
        counter.display()
    );
    std::fs::write(&script, text).unwrap();
    let config = home.path().join("config");
    let profile = format!("[profile hunter]\ncredential_process = /bin/sh {}\nregion = eu-west-1\n", script.display());
    std::fs::write(&config, profile).unwrap();

    let seen = Arc::new(Mutex::new(HashSet::new()));
    server.set_faults(keys_expire_after_one_request(Arc::clone(&seen)));
    let mut command = server.command();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("PATH", "/usr/bin:/bin").env("AWS_CONFIG_FILE", &config).env("AWS_PROFILE", "hunter");
    let output = Server::run(command.args(["hunt", "s3://logs/AWSLogs", "--format", "jsonl"]));
    assert_eq!((stdout(&output).lines().count(), output.status.code()), (4, Some(0)), "{}", stderr(&output));
    assert!(seen.lock().unwrap().len() > 5, "one access key per request");
}

#[test]
fn folders_outside_the_range_are_not_listed() {
    let server = Server::start();
    for account in ["111122223333", "444455556666"] {
        for region in ["eu-west-1", "us-east-1"] {
            for day in ["2026/08/30", "2026/08/31", "2026/09/01", "2026/09/02", "2026/09/03", "2026/10/01"] {
                put_burst(&server, account, region, day, "ann");
            }
        }
    }
    let hunted = |more: &[&str]| {
        server.take_log();
        let arguments =
            [&["hunt", "s3://logs", "--format", "jsonl", "--from", "2026-09-02", "--to", "2026-09-03"], more].concat();
        let output = server.tawny(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let log = server.take_log();
        let reads = log.iter().filter(|request| request.starts_with("GET /logs/AWSLogs")).count();
        (stdout(&output).lines().count(), reads, log)
    };
    let (findings, reads, log) = hunted(&[]);
    // Bursts of the day before may extend into the range, and objects of adjacent days may hold its events.
    assert_eq!((findings, reads), (2, 4 * 4), "one per account");
    assert!(!log.iter().any(|request| request.contains("%2F10%2F") || request.contains("08%2F30")), "{log:#?}");
    let (findings, reads, _) = hunted(&["--account", "444455556666", "--region", "us-east-1"]);
    assert_eq!((findings, reads), (1, 4));

    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    let converted = server.tawny(&[
        "convert",
        "s3://logs",
        "--lake",
        "s3://lake/l",
        "--account",
        "111122223333",
        "--from",
        "2026-09-03",
    ]);
    assert!(stderr(&converted).contains("6 read = 6 converted"), "{}", stderr(&converted));
}

#[test]
fn conversion_commits_after_another_writer() {
    let server = Server::start();
    put_burst(&server, "111122223333", "eu-west-1", "2026/09/01", "ann");
    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    let commit = server.file("lake", "l/_delta_log/00000000000000000001.json");
    let other = commit.clone();
    let theirs = r#"{"commitInfo":{"engineInfo":"other","inCommitTimestamp":1}}"#;
    server.set_faults(move |parts| {
        if parts.uri.path().ends_with("00000000000000000001.json")
            && parts.method == http::Method::PUT
            && !other.exists()
        {
            std::fs::write(&other, theirs).unwrap();
        }
        Fault::None
    });
    let second = server.tawny(&["convert", "s3://logs", "--lake", "s3://lake/l"]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    assert_eq!(std::fs::read_to_string(&commit).unwrap(), theirs, "the other writer's commit is unchanged");
    assert!(server.file("lake", "l/_delta_log/00000000000000000002.json").exists());
    let hunt = server.tawny(&["hunt", "s3://lake/l", "--format", "jsonl"]);
    assert_eq!((stdout(&hunt).lines().count(), hunt.status.code()), (1, Some(0)), "{}", stderr(&hunt));

    server.set_faults(|_| Fault::Unconditional);
    let careless = server.tawny(&["convert", "s3://logs", "--lake", "s3://lake/m"]);
    assert_eq!(careless.status.code(), Some(3), "{}", stderr(&careless));
    assert!(stderr(&careless).contains("If-None-Match"), "{}", stderr(&careless));
}

#[test]
fn one_day_of_a_lake_is_read_alone() {
    let server = Server::start();
    for day in 1..=30 {
        put_burst(&server, "111122223333", "eu-west-1", &format!("2026/09/{day:02}"), "ann");
    }
    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    let converted = server.tawny(&["convert", "s3://logs", "--lake", "s3://lake/l"]);
    assert_eq!(converted.status.code(), Some(0), "{}", stderr(&converted));
    let read = |range: &[&str], bursts: usize| {
        server.take_sent();
        server.take_log();
        let output = server.tawny(&[&["hunt", "s3://lake/l", "--format", "jsonl"], range].concat());
        assert_eq!((stdout(&output).lines().count(), output.status.code()), (bursts, Some(0)), "{}", stderr(&output));
        let files: HashSet<String> =
            server.take_log().into_iter().filter(|request| request.contains(".parquet")).collect();
        (files.len(), server.take_sent())
    };
    let (files, bytes) = read(&[], 30);
    let (day_files, day_bytes) = read(&["--from", "2026-09-10", "--to", "2026-09-11"], 1);
    // The day itself, and the next, because a burst may continue there.
    assert_eq!((files, day_files), (30, 2));
    assert!(day_bytes * 4 < bytes, "{day_bytes} of {bytes} bytes");
}

#[test]
fn requests_are_unsigned_or_requester_pays_on_request() {
    let server = Server::start();
    put_burst(&server, "111122223333", "eu-west-1", "2026/09/01", "ann");
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let told = Arc::clone(&seen);
    server.set_faults(move |parts| {
        let has = |name: &str| parts.headers.contains_key(name);
        told.lock().unwrap().insert((has("authorization"), has("x-amz-request-payer")));
        Fault::None
    });
    for (option, expected) in
        [("--quiet", (true, false)), ("--s3-anonymous", (false, false)), ("--s3-requester-pays", (true, true))]
    {
        server.tawny(&["hunt", "s3://logs", option]);
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), HashSet::from([expected]), "{option}");
    }
}
