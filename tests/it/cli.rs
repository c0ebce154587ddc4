//! The commands as a user runs them, on the small trail that the repository carries.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const TRAIL: &str = "tests/data/trail";

fn tawny(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn raw_and_lake_give_the_same_findings() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let lake = lake.to_str().unwrap();
    let converted = tawny(&["convert", TRAIL, "--lake", lake]);
    assert_eq!(converted.status.code(), Some(0), "{}", stderr(&converted));
    assert!(
        stderr(&converted).contains("36 read = 35 converted + 1 duplicates + 0 rejected"),
        "{}",
        stderr(&converted)
    );
    let again = tawny(&["convert", TRAIL, "--lake", lake]);
    assert!(stderr(&again).contains("0 converted + 8 converted before"), "{}", stderr(&again));
    assert!(stderr(&again).contains("0 files added"), "{}", stderr(&again));

    let raw = tawny(&["hunt", TRAIL, "--format", "jsonl"]);
    assert_eq!(raw.status.code(), Some(0));
    assert_eq!(stdout(&raw), stdout(&tawny(&["hunt", lake, "--format", "jsonl"])));
    let findings: Vec<serde_json::Value> =
        stdout(&raw).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: Vec<String> = findings
        .iter()
        .map(|f| format!("{} {} {} {}", f["group"]["account"], f["group"]["actor"], f["count"], f["trigger_time"]))
        .collect();
    assert_eq!(
        shown,
        [r#""111122223333" "anaya" 4 "2026-09-01T23:57:40Z""#, r#""444455556666" "root" 3 "2026-09-02T14:01:45Z""#]
    );
}

#[test]
fn a_burst_belongs_to_the_range_of_its_trigger() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let lake = lake.to_str().unwrap();
    tawny(&["convert", TRAIL, "--lake", lake]);
    let whole = stdout(&tawny(&["hunt", lake, "--format", "jsonl"]));
    for data in [TRAIL, lake] {
        let mut parts = String::new();
        for (from, to) in [
            ("2026-09-01", "2026-09-02"),
            ("2026-09-02", "2026-09-02T00:02:00Z"),
            ("2026-09-02T00:02:00Z", "2026-09-03"),
        ] {
            parts += &stdout(&tawny(&["hunt", data, "--format", "jsonl", "--from", from, "--to", to]));
        }
        assert_eq!(parts, whole);
    }
}

#[test]
fn what_a_broken_run_left_is_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let (half, scratch) = (lake.join("date=2026-09-01/part-half.parquet"), lake.join("_tawny/scratch-killed"));
    std::fs::create_dir_all(half.parent().unwrap()).unwrap();
    std::fs::create_dir_all(&scratch).unwrap();
    std::fs::write(&half, "half-written").unwrap();
    std::fs::write(scratch.join("x"), "half-written").unwrap();

    let lake = lake.to_str().unwrap();
    let converted = tawny(&["convert", "tests/data/trail/AWSLogs/o-exampleorg1/111122223333", "--lake", lake]);
    assert_eq!(converted.status.code(), Some(0), "{}", stderr(&converted));
    assert!(!scratch.exists(), "cleaned up");
    let rest = tawny(&["convert", TRAIL, "--lake", lake]);
    assert!(stderr(&rest).contains(" converted before"), "taken up where it ended: {}", stderr(&rest));
    let whole = tawny(&["hunt", TRAIL, "--format", "jsonl"]);
    assert_eq!(stdout(&tawny(&["hunt", lake, "--format", "jsonl"])), stdout(&whole));
}

#[test]
fn a_path_may_be_spelt_in_many_ways() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command.current_dir(folder.path().join("here")).args(arguments).output().unwrap()
    };
    let trail = folder.path().join("trail");
    std::fs::create_dir_all(&trail).unwrap();
    std::fs::create_dir(folder.path().join("here")).unwrap();
    for file in glob::glob(&format!("{}/{TRAIL}/**/*.gz", env!("CARGO_MANIFEST_DIR"))).unwrap().flatten() {
        std::fs::copy(&file, trail.join(file.file_name().unwrap())).unwrap();
    }
    let whole = stdout(&tawny(&["hunt", TRAIL, "--format", "jsonl"]));

    assert_eq!(run(&["convert", "../trail", "--lake", "../lake"]).status.code(), Some(0));
    let again = run(&["convert", trail.to_str().unwrap(), "./../here/../trail/", "--lake", "../lake"]);
    assert!(stderr(&again).contains(" 0 converted + 9 converted before"), "{}", stderr(&again));
    assert_eq!(stdout(&run(&["hunt", "../lake", "--format", "jsonl"])), whole);
    assert_eq!(stdout(&run(&["hunt", "../trail", "--format", "jsonl", "-o", "out.jsonl"])), "");
    assert_eq!(std::fs::read_to_string(folder.path().join("here/out.jsonl")).unwrap(), whole);
    let both = run(&["convert", "..", "--lake", "../lake"]);
    assert!(stderr(&both).contains("(file of a lake)"), "{}", stderr(&both));
    for data in [&["..", "../lake"][..], &["../lake/date=2026-09-01"], &[".."]] {
        assert_eq!(run(&[&["hunt"], data].concat()).status.code(), Some(2), "a lake is never hunted as a raw trail");
    }
    for far in [["--from", "0001-01-01"], ["--to", "9999-12-31"]] {
        for data in ["../trail", "../lake"] {
            assert_eq!(stdout(&run(&[&["hunt", data, "--format", "jsonl"], &far[..]].concat())), whole);
        }
    }
}

#[test]
fn a_damaged_object_is_told_even_where_nothing_in_it_could_match() {
    let damaged: &[(&str, &[u8])] = &[
        ("cut.json", br#"{"Records":[{"eventName":"A"},{"eventN"#),
        ("text.json", b"hello"),
        ("wide.json", b"\xff\xfe{\0\"\0R\0"),
        ("lost.parquet", b"PAR1 PAR1"),
    ];
    for (name, bytes) in damaged {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let hunted = tawny(&["hunt", folder.path().to_str().unwrap()]);
        assert_eq!(hunted.status.code(), Some(3), "{name}: {}", stderr(&hunted));
    }
}

#[test]
#[cfg(unix)]
fn a_bad_entry_of_a_folder_is_told_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    link(&Path::new(env!("CARGO_MANIFEST_DIR")).join(TRAIL), "trail");
    link(Path::new("nowhere"), "dangling.json");
    link(Path::new("."), "loop");
    let hunted = tawny(&["hunt", folder.path().to_str().unwrap(), "--format", "jsonl"]);
    assert_eq!(hunted.status.code(), Some(3));
    assert!(stderr(&hunted).contains("dangling.json: No such file"), "{}", stderr(&hunted));
    assert_eq!(stdout(&hunted), stdout(&tawny(&["hunt", TRAIL, "--format", "jsonl"])));
}

#[test]
fn exit_codes_tell() {
    let code = |arguments: &[&str]| tawny(arguments).status.code();
    assert_eq!(code(&["hunt", TRAIL, "--fail-on-findings"]), Some(1));
    assert_eq!(code(&["hunt", TRAIL, "--fail-on-findings", "--threshold", "9"]), Some(0));
    assert_eq!(code(&["hunt", "no/such/place"]), Some(2));
    assert_eq!(code(&["hunt", TRAIL, "--rule", "None.Such"]), Some(2));
    assert_eq!(code(&["hunt", TRAIL, "--period", "15"]), Some(2));
    assert_eq!(code(&["test"]), Some(0));
    assert_eq!(code(&["--help"]), Some(0));

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cut.json.gz"), [0x1f, 0x8b, 8, 0, 0]).unwrap();
    let cut = tawny(&["hunt", folder.path().to_str().unwrap()]);
    assert_eq!(cut.status.code(), Some(3));
    assert!(stderr(&cut).contains("cut.json.gz: the gzip stream is cut off"), "{}", stderr(&cut));
}

#[test]
fn a_failing_rule_test_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let rule = std::fs::read_to_string("rules/aws_cloudtrail_unsuccessful_mfa_attempt.yml").unwrap();
    let path = folder.path().join("rule.yml");
    std::fs::write(&path, rule.replace("ExpectedResult: false", "ExpectedResult: true")).unwrap();
    let failed = tawny(&["test", path.to_str().unwrap()]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stdout(&failed).contains("FAIL"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tawny"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["hunt", TRAIL, "--format", "json", "--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
