//! A run that read nothing of what was requested ends with 3 and a reason; a complete run ends with 0.

use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::records::failed_sign_in;
use crate::tables::{self, columns, lower, tawny, text};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

const QUERY: &str = r#"SELECT "eventName" FROM cloudtrail"#;

/// Returns exit code and standard error of each command on `data`. `lake` must not exist yet.
fn of_each_command(data: &str, lake: &str) -> Vec<(i32, String)> {
    let commands = [
        &["hunt", data][..],
        &["hunt", data, "--dry-run"],
        &["backtest", data],
        &["query", QUERY, data],
        &["inspect", data],
        &["convert", data, "--lake", lake],
    ];
    let said = commands.map(tawny).map(|output| (output.status.code().unwrap(), stderr(&output)));
    said.to_vec()
}

#[test]
fn run_that_read_nothing_exits_3_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |name: &str, bytes: &[u8]| {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    };
    std::fs::create_dir(folder.join("bare")).unwrap();
    write("unknown/README.md", b"# Read me");
    write("unknown/notes.txt", b"text");
    write("zero/a.json", b"");
    write("digests/AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/2026/09/01/a.json.gz", b"digest");
    for (name, why) in [
        ("bare", "no objects found"),
        ("unknown", "nothing "),
        ("zero", "nothing "),
        ("digests", "nothing "),
        ("none-*.json", "nothing matches the pattern"),
    ] {
        for (number, (code, said)) in
            of_each_command(&path(folder, name), &path(folder, "lake")).into_iter().enumerate()
        {
            // An object whose name shows nothing is counted without being read.
            let is_estimate = name == "unknown" && (number == 1 || number == 4);
            assert!(code == if is_estimate { 0 } else { 3 }, "{name}, {number}: {code} {said}");
            assert!(is_estimate || said.contains(why), "{name}, {number}: {said}");
        }
    }
    // The prefilter of a hunt skips such text, and does not know what it is.
    write("other/a.json", br#"{"a":1}"#);
    write("notices/a.json", br#"{"Type":"Notification","Message":"CloudTrail validation message."}"#);
    for name in ["other", "notices"] {
        for command in ["hunt", "backtest"] {
            let output = tawny(&[command, &path(folder, name), "--rule", "AWS.Unsuccessful.MFA.attempt"]);
            assert!(
                output.status.code() == Some(3) && stderr(&output).contains("nothing was read"),
                "{command} {name}: {}",
                stderr(&output)
            );
        }
    }
    // A path that does not exist is a wrong command line.
    for (code, said) in of_each_command(&path(folder, "missing"), &path(folder, "lake")) {
        assert!(code == 2 && said.contains("no such file or directory: `"), "{code} {said}");
    }
}

#[test]
fn trail_without_records_and_empty_lake_exit_0() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, lake) = (path(folder.path(), "trail"), path(folder.path(), "lake"));
    std::fs::create_dir(&trail).unwrap();
    std::fs::write(path(folder.path(), "trail/a.json"), json!({ "Records": [] }).to_string()).unwrap();
    std::fs::write(path(folder.path(), "trail/README.md"), "text").unwrap();
    for (code, said) in of_each_command(&trail, &lake) {
        assert_eq!(code, 0, "{said}");
    }
    // Nothing is new.
    let again = tawny(&["convert", &trail, "--lake", &lake]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    for command in [
        &["hunt", &lake][..],
        &["backtest", &lake],
        &["query", QUERY, &lake],
        &["inspect", &lake],
        &["hunt", &lake, "--dry-run"],
    ] {
        let output = tawny(command);
        assert!(
            output.status.code() == Some(0) && stderr(&output).contains("the lake is empty"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn range_after_all_data_reports_the_newest_event() {
    let folder = tempfile::tempdir().unwrap();
    let day = path(folder.path(), "trail/AWSLogs/111122223333/CloudTrail/eu-west-1/2021/08/02");
    std::fs::create_dir_all(&day).unwrap();
    let records =
        [0, 1].map(|minute| failed_sign_in("ann", &format!("2021-08-02T10:0{minute}:00Z"), &minute.to_string()));
    let object = json!({ "Records": records }).to_string();
    std::fs::write(format!("{day}/a.json"), &object).unwrap();
    std::fs::write(folder.path().join("undated.json"), &object).unwrap();
    let (trail, lake, rows) =
        (path(folder.path(), "trail"), path(folder.path(), "lake"), path(folder.path(), "rows.parquet"));
    assert!(tawny(&["convert", &trail, "--lake", &lake]).status.success());
    tables::write(Path::new(&rows), columns(text("eventtime"), false, &lower), &tables::rows(&records, false, &lower));
    let span = "no events in the range: the data spans 2021-08-02T10:00:00Z to 2021-08-02T10:01:00Z";
    for data in [&lake, &rows] {
        for command in [
            &["hunt", data, "--last", "24h"][..],
            &["hunt", data, "--to", "2020-01-01"],
            &["backtest", data, "--last", "24h"],
            &["query", QUERY, data, "--from", "2022-01-01"],
            &["inspect", data, "--from", "2022-01-01"],
        ] {
            let output = tawny(command);
            assert!(
                output.status.code() == Some(0) && stderr(&output).contains(span),
                "{command:?} {}",
                stderr(&output)
            );
        }
        for range in [&["--from", "2021-08-02T10:01:00Z"][..], &["--to", "2021-08-03"], &[]] {
            let output = tawny(&[&["hunt", data, "--threshold", "9"], range].concat());
            assert!(output.status.code() == Some(0) && !stderr(&output).contains("newest"), "{}", stderr(&output));
        }
    }
    // No object of a raw trail is in the range, so nothing is read; an object without a day is read.
    let last = tawny(&["hunt", &trail, "--last", "24h"]);
    let said = stderr(&last);
    assert!(
        last.status.code() == Some(3) && said.contains("no objects found that may hold events of the range"),
        "{said}"
    );
    for command in [&["hunt"][..], &["hunt", "--dry-run"], &["backtest"], &["inspect"]] {
        let said = stderr(&tawny(&[command, &[&trail, "--from", "2022-01-01"]].concat()));
        assert!(
            said.contains("the newest event in the most recently delivered objects is from 2021-08-02T10:01:00Z"),
            "{command:?} {said}"
        );
    }
    let all = [&["--rules"], &["rules"][..]].concat();
    let undated = path(folder.path(), "undated.json");
    let output = tawny(&[&["hunt", &undated, "--from", "2022-01-01"], &all[..]].concat());
    assert!(output.status.code() == Some(0) && stderr(&output).contains(span), "{}", stderr(&output));
}

#[test]
fn hunt_of_records_without_a_readable_time_exits_3() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, time: &str| {
        let mut record = failed_sign_in("ada", "2026-09-01T10:00:00Z", name);
        record.as_object_mut().unwrap().remove("eventTime");
        record[time] = json!("2026-09-01T10:00:00Z");
        std::fs::write(folder.path().join(name), json!({ "Records": [record] }).to_string()).unwrap();
    };
    write("a.json", "@timestamp");
    let trail = folder.path().display().to_string();
    for command in ["hunt", "backtest"] {
        let output = tawny(&[command, &trail, "--rule", "AWS.Unsuccessful.MFA.attempt"]);
        let said = stderr(&output);
        assert!(output.status.code() == Some(3) && said.contains("none of 1 record has a readable"), "{said}");
    }
    assert_eq!(tawny(&["query", QUERY, &trail]).status.code(), Some(0));
    write("b.json", "eventTime");
    let output = tawny(&["hunt", &trail, "--rule", "AWS.Unsuccessful.MFA.attempt"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn mistaken_arguments_are_answered_with_what_to_write() {
    let trail = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/trail");
    for (arguments, hint) in [
        (&["query", trail, QUERY][..], "the statement comes before the data"),
        (&["hunt", trail, "--rule", "mfa"], "ids that contain it: `AWS."),
        (&["hunt", trail, "--rule", "My.Own"], "`--rules FOLDER` reads rules of your own"),
    ] {
        let output = tawny(arguments);
        assert!(
            output.status.code() == Some(2) && stderr(&output).contains(hint),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}
