//! Findings are identical, byte for byte, for any machine, file order and user settings.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::places::without_version;
use crate::records::failed_sign_in;

const FORMATS: [&str; 4] = ["jsonl", "json", "csv", "table"];

/// Writes a trail with bursts across many files and equal times and groups, in the given order of file names and
/// modification times.
fn write_trail(folder: &Path, order: impl Iterator<Item = usize>) {
    std::fs::create_dir_all(folder).unwrap();
    for (place, number) in order.enumerate() {
        let records: Vec<_> = (0..12)
            .map(|user| {
                let mut record = failed_sign_in(
                    &format!("üser{user}"),
                    &format!("2026-09-01T23:5{}:00Z", number % 10),
                    &format!("{number}-{user}"),
                );
                record["sourceIPAddress"] = format!("192.0.2.{number}").into();
                record
            })
            .collect();
        let path = folder.join(format!("{place:02}.json"));
        std::fs::write(&path, json!({ "Records": records }).to_string()).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 * (place as u64 + 1));
        std::fs::File::open(&path).unwrap().set_modified(modified).unwrap();
    }
}

#[test]
fn findings_are_identical_for_any_order_threads_and_locale() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, other) = (folder.path().join("trail"), folder.path().join("other"));
    write_trail(&trail, 0..10);
    write_trail(&other, (0..10).map(|place| place * 7 % 10));
    let run = |arguments: &[&str], settings: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command.current_dir(folder.path()).args(arguments).args(["--rule", "AWS.Unsuccessful.MFA.attempt"]);
        let output = command.envs(settings.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        without_version(&output.stdout)
    };
    for (source, lake) in [("trail", "one"), ("other", "two")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command.current_dir(folder.path()).args(["convert", source, "--lake", lake]);
        assert!(command.arg("--quiet").status().unwrap().success());
    }
    let files: Vec<String> = (0..10).rev().map(|place| format!("trail/{place:02}.json")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    for format in FORMATS {
        let expected = run(&["hunt", "trail", "--format", format, "--threads", "1"], &[]);
        if format == "jsonl" {
            assert_eq!(expected.lines().count(), 12);
        }
        for (data, threads, settings) in [
            (&["trail"][..], "2", &[][..]),
            (&["other"], "8", &[("TZ", "Asia/Kolkata"), ("LC_ALL", "tr_TR.UTF-8")]),
            (&files, "2", &[("TZ", "America/Los_Angeles"), ("LANG", "C"), ("LC_ALL", "C")]),
            (&["one"], "1", &[("LANG", "de_DE.UTF-8")]),
            (&["two"], "8", &[("TZ", "Europe/Paris"), ("LC_ALL", "POSIX")]),
        ] {
            let arguments = [&["hunt"], data, &["--format", format, "--threads", threads]].concat();
            assert!(run(&arguments, settings) == expected, "{format} {data:?} {threads} {settings:?}");
        }
    }
}
