//! Unusual object keys and file names are read, or skipped by name, and the rest is hunted.

use std::io::Write as _;
use std::process::Output;

use serde_json::{Value, json};

use crate::records::failed_sign_in;
use crate::s3_server::{Fault, Server};
use crate::tables::{self, columns, lower, text};

/// Returns two failed sign-ins of `user`, a minute apart.
fn records(user: &str) -> [Value; 2] {
    [0, 1].map(|minute| failed_sign_in(user, &format!("2026-09-01T10:0{minute}:00Z"), &format!("{user}{minute}")))
}

/// Returns the same as an object.
fn burst(user: &str) -> Vec<u8> {
    let records = records(user);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(json!({ "Records": records }).to_string().as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the users of the findings and the exit code.
fn found(output: &Output) -> (Vec<String>, Option<i32>) {
    let findings = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let user = |line: &[u8]| serde_json::from_slice::<Value>(line).unwrap()["group"].to_string();
    let name = |group: String| group.split('"').find(|part| part.starts_with("user")).unwrap_or_default().to_owned();
    let mut users: Vec<String> = findings.map(|line| name(user(line))).collect();
    users.sort();
    (users, output.status.code())
}

fn hunt(server: &Server, arguments: &[&str]) -> Output {
    server.tawny(&[&["hunt", "--format", "jsonl"], arguments].concat())
}

const KEY: &str = "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/09/01/a.json.gz";

/// Returns keys that can be read.
fn readable() -> Vec<String> {
    let mut keys = vec![
        format!("x//{KEY}"),
        format!("/{KEY}"),
        format!("//{KEY}"),
        "x//a.json.gz".to_owned(),
        "x/a.json.gz".to_owned(),
        "ends/".to_owned(),
        "ends//".to_owned(),
        "b\u{1}c/d\ne\u{7f}.json.gz".to_owned(),
        "back\\slash%2F%00&<>'\"+ #?.json.gz".to_owned(),
        " blank / .json.gz ".to_owned(),
        "\u{fc}ml\u{e4}ut/\u{65e5}\u{672c}\u{202e}.json.gz".to_owned(),
        "\u{f8ff}2e/a.json.gz".to_owned(),
        format!("{}a.json.gz", "/".repeat(300)),
    ];
    keys.sort();
    keys
}

#[test]
fn every_valid_http_key_is_read() {
    let server = Server::start();
    let mut expected = Vec::new();
    for (number, key) in readable().iter().enumerate() {
        let user = format!("user{number:02}");
        server.put_odd("logs", key, &burst(&user));
        expected.push(user);
    }
    let all = hunt(&server, &["s3://logs"]);
    assert_eq!(found(&all), (expected.clone(), Some(0)), "{}", stderr(&all));
    for (prefix, keys) in
        [("s3://logs/x//AWSLogs", "x//AWSLogs"), ("s3://logs//AWSLogs/", "/AWSLogs"), ("s3://logs/x//", "x//")]
    {
        let below: Vec<String> = readable()
            .iter()
            .zip(&expected)
            .filter(|(key, _)| key.starts_with(keys))
            .map(|(_, user)| user.clone())
            .collect();
        let output = hunt(&server, &[prefix]);
        assert_eq!(found(&output), (below, Some(0)), "{prefix}: {}", stderr(&output));
    }
    // Each is selected by account and day, and converted as one object.
    let day = hunt(&server, &["s3://logs", "--from", "2026-10-01"]);
    assert_eq!(found(&day).0, Vec::<String>::new(), "{}", stderr(&day));
    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    for added in [expected.len(), 0] {
        let converted = server.tawny(&["convert", "s3://logs", "--lake", "s3://lake/l"]);
        assert_eq!(converted.status.code(), Some(0), "{}", stderr(&converted));
        assert!(stderr(&converted).contains(&format!("{added} converted")), "{}", stderr(&converted));
    }
    let lake = hunt(&server, &["s3://lake/l"]);
    assert_eq!(found(&lake), (expected, Some(0)), "{}", stderr(&lake));
}

#[test]
fn unreadable_key_is_named_and_the_rest_is_hunted() {
    let server = Server::start();
    server.put("logs", KEY, &burst("user1"));
    for key in
        ["a/../b.json.gz", "./c.json.gz", "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/09/01/../\u{1b}[31m.json.gz"]
    {
        server.put_odd("logs", key, &burst("user2"));
    }
    // This prefix is empty.
    server.put_odd("logs", "AWSLogs/111122223333/", b"");
    server.put_odd("logs", "empty//", b"");
    let output = hunt(&server, &["s3://logs"]);
    let text = stderr(&output);
    assert_eq!(found(&output), (vec!["user1".to_owned()], Some(3)), "{text}");
    assert!(text.contains("6 read = 1 hunted + 2 skipped (empty) + 3 rejected"), "{text}");
    assert!(text.contains("rejected: s3://logs/a/../b.json.gz: its key has a part `.` or `..`"), "{text}");
    assert!(text.contains("\\u{1b}[31m.json.gz") && !text.contains('\u{1b}'), "{text}");
    // Keys outside the selection are not reported.
    for asked in [&["s3://logs/AWSLogs/111122223333/CloudTrail/eu-west-1/2026/09/02"][..], &["s3://logs/empty/"]] {
        assert_eq!(hunt(&server, asked).status.code(), Some(3), "{asked:?}");
    }
    let other = hunt(&server, &["s3://logs/AWSLogs", "--from", "2026-10-01"]);
    assert!(!stderr(&other).contains("rejected: s3"), "{}", stderr(&other));
    let gone = hunt(&server, &["s3://logs/a/../gone.json.gz"]);
    assert!(gone.status.code() == Some(3) && stderr(&gone).contains("no such object"), "{}", stderr(&gone));
    let named = hunt(&server, &["s3://logs/a/../b.json.gz"]);
    assert!(named.status.code() == Some(3) && stderr(&named).contains("has a part `.` or `..`"), "{}", stderr(&named));
}

#[test]
fn unusual_keys_are_never_written() {
    let server = Server::start();
    server.put("logs", KEY, &burst("user1"));
    for lake in ["s3://logs/x//lake", "s3://logs//lake", "s3://logs/a/../lake"] {
        let converted = server.tawny(&["convert", "s3://logs/AWSLogs", "--lake", lake]);
        assert_eq!(converted.status.code(), Some(2), "{}", stderr(&converted));
        assert!(stderr(&converted).contains("cannot be written: the key has a part"), "{}", stderr(&converted));
    }
    let written = hunt(&server, &["s3://logs/AWSLogs", "-o", "s3://logs/out//found.jsonl"]);
    assert_eq!(written.status.code(), Some(2), "{}", stderr(&written));
}

#[test]
fn keys_do_not_influence_error_classification() {
    let server = Server::start();
    let day = "AWSLogs/111122223333/CloudTrail/eu-west-1/2025/03/04";
    let key = format!("{day}/111122223333_CloudTrail_eu-west-1_20250304T0503Z_403404SlowDownNoSuchBucket.json.gz");
    server.put("logs", &key, &burst("user1"));
    let said = |status: u16, code: &'static str, of_lists: bool| {
        server.set_faults(move |parts| {
            let is_list = parts.uri.query().is_some_and(|query| query.contains("list-type"));
            if is_list == of_lists { Fault::Refused(status, code) } else { Fault::None }
        });
        let output = hunt(&server, &["s3://logs/AWSLogs"]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        stderr(&output)
    };
    for of_lists in [true, false] {
        let text = said(400, "InvalidRequest", of_lists);
        assert!(text.contains("InvalidRequest: said by the test") && !text.contains("hint"), "{text}");
        let text = said(404, "NoSuchThing", of_lists);
        assert!(text.contains("NoSuchThing: said by the test") && !text.contains("hint"), "{text}");
    }
    let text = said(403, "NewCode", true);
    assert!(text.contains("s3:ListBucket") && !text.contains("--in-flight"), "{text}");
    server.set_faults(|_| Fault::None);
}

#[test]
#[cfg(unix)]
fn unusual_file_names_are_hunted() {
    use std::os::unix::ffi::OsStrExt as _;

    let folder = tempfile::tempdir().unwrap();
    let names: [&[u8]; 6] = [
        b"line\nbreak.json.gz",
        b"\x1b[31m.json.gz",
        b"\xff\xfe.json.gz",
        b"back\\slash.json.gz",
        b"..a.json.gz",
        b" .json.gz ",
    ];
    for (number, name) in names.iter().enumerate() {
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), burst(&format!("user{number}"))).unwrap();
    }
    let expected: Vec<String> = (0..names.len()).map(|number| format!("user{number}")).collect();
    let server = Server::start();
    let lake = folder.path().join("lake").display().to_string();
    let data = folder.path().display().to_string();
    let output = hunt(&server, &[&data]);
    assert_eq!(found(&output), (expected.clone(), Some(0)), "{}", stderr(&output));
    let converted = server.tawny(&["convert", &data, "--lake", &lake]);
    assert_eq!(converted.status.code(), Some(0), "{}", stderr(&converted));
    let output = hunt(&server, &[&lake]);
    assert_eq!(found(&output), (expected, Some(0)), "{}", stderr(&output));
    std::fs::remove_dir_all(&lake).unwrap();
    // In a table too, a file name that is not UTF-8 is reported and the other files are read.
    let table = folder.path().join("table");
    let records: Vec<Value> = ["user0", "user1"].iter().flat_map(|user| records(user)).collect();
    let fields = || columns(text("eventtime"), false, &lower);
    for (name, rows) in [(&b"a.parquet"[..], &records[..2]), (b"\xff.parquet", &records[2..])] {
        tables::write(&table.join(std::ffi::OsStr::from_bytes(name)), fields(), &tables::rows(rows, false, &lower));
    }
    let output = hunt(&server, &[table.to_str().unwrap()]);
    assert_eq!(found(&output), (vec!["user0".to_owned()], Some(3)), "{}", stderr(&output));
    assert!(stderr(&output).contains("invalid name for a file of a table"), "{}", stderr(&output));
    std::fs::remove_dir_all(&table).unwrap();
    std::fs::write(folder.path().join("\u{1b}[2J.json"), "{").unwrap();
    let output = hunt(&server, &[&data]);
    assert!(output.status.code() == Some(3) && !stderr(&output).contains('\u{1b}'), "{}", stderr(&output));
}
