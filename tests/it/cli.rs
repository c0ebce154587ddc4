//! The commands as a user runs them, on the small trail of the repository.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tawny::rule::catalog::DEFAULT;

use crate::places::without_version;
use crate::records;

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
    let of_lake = tawny(&["hunt", lake, "--format", "jsonl"]);
    assert_eq!(stdout(&raw), without_version(&of_lake.stdout));
    let versions = stdout(&of_lake).matches(r#","table_version":1,"#).count();
    assert_eq!(versions, stdout(&raw).lines().count(), "{}", stdout(&of_lake));
    assert!(stderr(&of_lake).contains("35 records scanned (files that cannot match"), "{}", stderr(&of_lake));
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
fn burst_belongs_to_the_range_of_its_trigger() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let lake = lake.to_str().unwrap();
    tawny(&["convert", TRAIL, "--lake", lake]);
    let whole = without_version(&tawny(&["hunt", lake, "--format", "jsonl"]).stdout);
    for data in [TRAIL, lake] {
        let mut parts = String::new();
        for (from, to) in [
            ("2026-09-01", "2026-09-02"),
            ("2026-09-02", "2026-09-02T00:02:00Z"),
            ("2026-09-02T00:02:00Z", "2026-09-03"),
        ] {
            let of_range = tawny(&["hunt", data, "--format", "jsonl", "--from", from, "--to", to]);
            parts += &without_version(&of_range.stdout);
        }
        assert_eq!(parts, whole);
    }
}

#[test]
fn leftovers_of_an_interrupted_conversion_are_ignored() {
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
    assert!(!scratch.exists(), "scratch folder removed");
    let rest = tawny(&["convert", TRAIL, "--lake", lake]);
    assert!(stderr(&rest).contains(" converted before"), "resumed: {}", stderr(&rest));
    let whole = tawny(&["hunt", TRAIL, "--format", "jsonl"]);
    assert_eq!(without_version(&tawny(&["hunt", lake, "--format", "jsonl"]).stdout), stdout(&whole));
}

#[test]
fn paths_can_be_written_in_many_ways() {
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
    assert_eq!(without_version(&run(&["hunt", "../lake", "--format", "jsonl"]).stdout), whole);
    assert_eq!(stdout(&run(&["hunt", "../trail", "--format", "jsonl", "-o", "out.jsonl"])), "");
    assert_eq!(std::fs::read_to_string(folder.path().join("here/out.jsonl")).unwrap(), whole);
    let both = run(&["convert", "..", "--lake", "../lake"]);
    assert!(stderr(&both).contains("(file of a lake)"), "{}", stderr(&both));
    for data in [&["..", "../lake"][..], &["../lake/date=2026-09-01"], &[".."]] {
        assert_eq!(run(&[&["hunt"], data].concat()).status.code(), Some(2), "a lake is never hunted as a raw trail");
    }
    for far in [["--from", "0001-01-01"], ["--to", "9999-12-31"]] {
        for data in ["../trail", "../lake"] {
            assert_eq!(without_version(&run(&[&["hunt", data, "--format", "jsonl"], &far[..]].concat()).stdout), whole);
        }
    }
}

#[test]
fn damaged_object_without_possible_matches_is_reported() {
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
fn invalid_record_is_rejected_alone() {
    let good =
        |second: u32| records::failed_sign_in("ana", &format!("2026-09-01T10:00:0{second}Z"), &second.to_string());
    let broken = good(3).to_string().replace("\"Yes\"", "\"Yes\" oops");
    let text = format!("{{\"Records\":[{},{broken},{}]}}", good(1), good(2));
    let folder = tempfile::tempdir().unwrap();
    let (trail, lake) = (folder.path().join("trail"), folder.path().join("lake"));
    std::fs::create_dir(&trail).unwrap();
    std::fs::write(trail.join("some.json"), text).unwrap();
    let (trail, lake) = (trail.to_str().unwrap(), lake.to_str().unwrap());
    let converted = tawny(&["convert", trail, "--lake", lake]);
    assert_eq!(converted.status.code(), Some(3));
    let told = stderr(&converted);
    assert!(told.contains("3 read = 2 converted + 1 rejected"), "{told}");
    assert!(told.contains("some.json, record 2: broken JSON: expected `,` or `}`"), "{told}");
    let [raw, columnar] = [trail, lake].map(|data| tawny(&["hunt", data, "--rule", DEFAULT, "--format", "jsonl"]));
    assert_eq!(raw.status.code(), Some(3), "{}", stderr(&raw));
    assert_eq!(stdout(&raw).lines().count(), 1);
    assert_eq!(stdout(&raw), without_version(&columnar.stdout));
}

#[test]
fn completions_and_man_pages_cover_every_command() {
    for command in [
        "convert",
        "compact",
        "hunt",
        "backtest",
        "nightly",
        "nightly init",
        "rules",
        "rules list",
        "rules show",
        "rules lint",
        "rules coverage",
        "test",
        "sql",
        "layouts",
        "inspect",
        "query",
        "completions",
        "man",
    ] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        assert!(stdout(&tawny(&arguments)).contains("Examples:"), "{command}");
    }
    let version = stdout(&tawny(&["--version"]));
    assert!(version.starts_with(concat!("tawny ", env!("CARGO_PKG_VERSION"))), "{version}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(stdout(&tawny(&["completions", shell])).contains("nightly"), "{shell}");
    }
    assert!(stdout(&tawny(&["man"])).contains(".TH tawny 1"));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(tawny(&["man", "--output", pages.to_str().unwrap()]).status.code(), Some(0));
    let hunt = std::fs::read_to_string(pages.join("tawny-hunt.1")).unwrap();
    assert!(hunt.contains("fail\\-on\\-findings"), "{hunt}");
    assert!(pages.join("tawny-nightly-init.1").is_file());
}

#[test]
#[cfg(unix)]
fn bad_folder_entry_is_reported_and_the_rest_is_read() {
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
fn exit_codes() {
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

    let none = tawny(&["hunt", TRAIL, "--account", "999999999999"]);
    assert_eq!(none.status.code(), Some(3));
    assert!(stderr(&none).contains("no objects found for the selected accounts and regions"), "{}", stderr(&none));
}

#[test]
fn invalid_arguments_are_refused_before_reading() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake").display().to_string();
    assert!(tawny(&["convert", TRAIL, "--lake", &lake]).status.success());
    let nowhere = folder.path().join("nowhere/found.json").display().to_string();
    let log_of_lake = format!("{lake}/_delta_log/");
    let around = folder.path().display().to_string();
    let rows = folder.path().join("rows.parquet").display().to_string();
    let all = "SELECT * FROM cloudtrail";
    assert!(tawny(&["query", all, TRAIL, "--format", "parquet", "--output", &rows]).status.success());
    let forging = "no\nhint: all is well";
    for (arguments, said) in [
        (&["hunt", TRAIL, "--output", &nowhere][..], "is not a folder"),
        (&["hunt", TRAIL, "--report", &nowhere], "is not a folder"),
        (&["hunt", TRAIL, "--threshold", "-1"], "a whole number of at least 1"),
        (&["hunt", TRAIL, "--threshold", "0"], "a whole number of at least 1"),
        (&["hunt", &lake, "--layout", "athena"], "`--layout` and `--map` only apply"),
        (&["hunt", &lake, "--map", "no.yml"], "`--layout` and `--map` only apply"),
        (&["layouts", "raw"], "has no columns"),
        (&["hunt", TRAIL, "--map", "no.yml"], "the map `no.yml` cannot be read: No such file"),
        (&["backtest", TRAIL, "--labels", "no.csv"], "the labels file `no.csv` cannot be read: No such file"),
        (&["nightly", "--config", "no.toml"], "the configuration `no.toml` cannot be read: No such file"),
        (&["hunt", TRAIL, "--rule", "Zzz"], "`tawny rules list` shows the ids of the shipped rules"),
        (&["hunt", &around], &log_of_lake),
        (&["hunt", &rows], "no transaction log that lists its files"),
        (&["hunt", forging], "no\\u{a}hint"),
        (&["hunt", &lake, "--memory-limit", "1"], "'--memory <SIZE>'"),
    ] {
        let output = tawny(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn lookup_events_output_is_unwrapped() {
    let folder = tempfile::tempdir().unwrap();
    let events: Vec<serde_json::Value> = ["10:00:00", "10:05:00"]
        .iter()
        .map(|time| {
            let record = records::failed_sign_in("mira", &format!("2026-09-01T{time}Z"), time);
            // In the form of `aws cloudtrail lookup-events`.
            serde_json::json!({
                "EventId": record["eventID"], "EventName": "ConsoleLogin", "ReadOnly": "false", "EventTime": 1_788_256_800,
                "EventSource": "signin.amazonaws.com", "Username": "mira", "Resources": [],
                "CloudTrailEvent": record.to_string(),
            })
        })
        .collect();
    let trail = folder.path().join("looked-up.json");
    std::fs::write(&trail, serde_json::json!({ "Events": events }).to_string()).unwrap();
    let output = tawny(&["hunt", trail.to_str().unwrap(), "--rule", DEFAULT, "--format", "jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 1, "{}", stdout(&output));
    assert!(stdout(&output).contains("\"first_event\":\"2026-09-01T10:00:00Z\""), "{}", stdout(&output));
}

#[test]
fn failing_rule_test_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let rule = std::fs::read_to_string("rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml").unwrap();
    let path = folder.path().join("rule.yml");
    std::fs::write(&path, rule.replace("ExpectedResult: false", "ExpectedResult: true")).unwrap();
    let failed = tawny(&["test", path.to_str().unwrap()]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stdout(&failed).contains("FAIL"));
}

#[test]
fn closed_pipe_is_not_an_error() {
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

/// Writes a folder with three rules: the default, a disabled one and a signal.
fn rule_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rule = std::fs::read_to_string("rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml").unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let (head, _) = rule.split_once("Tests:").unwrap();
    write(
        "b.yml",
        head.replace("AWS.Unsuccessful.MFA.attempt", "B.Disabled").replace("Enabled: true", "Enabled: false"),
    );
    let signal = head.replace("AWS.Unsuccessful.MFA.attempt", "C.Signal") + "CreateAlert: false\n";
    write("c.yml", signal.replace("DisplayName: ", "AlertTitle: \"{actor} of {account}, {errorCode}\"\nDisplayName: "));
    write("a.yml", rule);
    folder
}

#[test]
fn folder_runs_its_enabled_rules() {
    let folder = rule_folder();
    let path = folder.path().to_str().unwrap();
    let hunt = |more: &[&str]| tawny(&[&["hunt", TRAIL, "--format", "jsonl", "--rules"], more].concat());
    let rules_of = |output: &Output| -> std::collections::BTreeSet<String> {
        let lines = stdout(output);
        let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["rule_id"].to_string();
        lines.lines().map(id).collect()
    };
    let enabled = hunt(&[path]);
    assert_eq!(rules_of(&enabled).len(), 2);
    let verbose = hunt(&[path, "-v"]);
    assert!(stderr(&verbose).contains("1 disabled rule skipped"), "{}", stderr(&verbose));
    assert_eq!(rules_of(&hunt(&[path, "--include-disabled"])).len(), 3);
    let file = folder.path().join("b.yml");
    for named in [&[path, "--rule", "B.Disabled"][..], &[file.to_str().unwrap()]] {
        let hunted = hunt(named);
        assert_eq!(rules_of(&hunted).len(), 1);
        assert!(
            stderr(&hunted).contains("`B.Disabled` is disabled; it runs because it was named"),
            "{}",
            stderr(&hunted)
        );
    }
    let misspelt = hunt(&[path, "--rule", "B.Disable"]);
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(stderr(&misspelt).contains("did you mean `B.Disabled`?"), "{}", stderr(&misspelt));
}

#[test]
fn signal_is_a_finding_but_not_an_alert() {
    let folder = rule_folder();
    let file = folder.path().join("c.yml");
    let hunted = tawny(&["hunt", TRAIL, "--format", "jsonl", "--fail-on-findings", "--rules", file.to_str().unwrap()]);
    assert_eq!(hunted.status.code(), Some(0), "a signal does not set exit code 1");
    let first: serde_json::Value = serde_json::from_str(stdout(&hunted).lines().next().unwrap()).unwrap();
    assert_eq!((&first["alert"], &first["title"]), (&false.into(), &"anaya of 111122223333, no value".into()));
}

#[test]
fn windows_are_compared_side_by_side() {
    let all = tawny(&["hunt", TRAIL, "--window", "all", "--threshold", "3", "--period", "5m"]);
    assert_eq!(all.status.code(), Some(0));
    let text = stdout(&all);
    assert!(text.contains("sliding") && text.contains("tumbling") && text.contains("events only here"), "{text}");
    let jsonl = stdout(&tawny(&["hunt", TRAIL, "--window", "all", "--format", "jsonl"]));
    for kind in ["sliding", "dedup", "tumbling"] {
        let alone = stdout(&tawny(&["hunt", TRAIL, "--window", kind, "--format", "jsonl"]));
        let of_kind: Vec<&str> =
            jsonl.lines().filter(|line| line.contains(&format!("\"window\":\"{kind}\""))).collect();
        assert_eq!(of_kind, alone.lines().collect::<Vec<_>>(), "{kind}");
    }
}

#[test]
fn rules_are_listed_shown_and_checked() {
    let folder = rule_folder();
    let path = folder.path().to_str().unwrap();
    let list = stdout(&tawny(&["rules", "list", path]));
    for part in ["B.Disabled", "TA0006:T1621", "High (signal)", "15m", "sliding"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&tawny(&["rules", "list", path, "--format", "json"]))).unwrap();
    assert_eq!((&json[0]["rule_id"], &json[0]["threshold"]), (&"AWS.Unsuccessful.MFA.attempt".into(), &2.into()));
    assert_eq!((&json[1]["enabled"], &json[2]["alert"]), (&false.into(), &false.into()));

    let shown = tawny(&["rules", "show", "C.Signal", "--rules", path, "--format", "table"]);
    assert!(stdout(&shown).contains("AlertTitle") && stdout(&shown).contains("2 matches within 15m (sliding)"));
    assert_eq!(tawny(&["rules", "show", "No.Such.Rule"]).status.code(), Some(2));

    let checked = tawny(&["rules", "lint", path, "--format", "json"]);
    assert_eq!(checked.status.code(), Some(0));
    let remarks: serde_json::Value = serde_json::from_str(&stdout(&checked)).unwrap();
    assert_eq!(remarks.as_array().unwrap().iter().filter(|remark| remark["code"] == "no-tests").count(), 2);
    assert_eq!(tawny(&["rules", "lint", path, "--strict"]).status.code(), Some(1));
    assert_eq!(
        tawny(&["rules", "lint", "rules", "--strict"]).status.code(),
        Some(0),
        "the shipped rules have no warnings"
    );

    std::fs::copy(folder.path().join("b.yml"), folder.path().join("e.yml")).unwrap();
    let twice = tawny(&["rules", "lint", path, "--format", "json"]);
    assert_eq!(twice.status.code(), Some(0), "the same rule twice is one rule");
    assert!(stderr(&twice).contains("not used: 1 duplicate rule"), "{}", stderr(&twice));
    std::fs::remove_file(folder.path().join("e.yml")).unwrap();

    std::fs::write(folder.path().join("d.yml"), "AnalysisType: rule\n").unwrap();
    let wrong = tawny(&["rules", "lint", path]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("d.yml:1:1: `RuleID` is missing"), "{}", stderr(&wrong));
    assert!(stdout(&wrong).contains("b.yml:"), "the other files are checked too: {}", stdout(&wrong));
}

#[test]
fn finding_has_the_fields_of_the_rule() {
    let folder = tempfile::tempdir().unwrap();
    let rule = folder.path().join("rule.yml");
    let text = std::fs::read_to_string("rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml").unwrap();
    let more = "SummaryAttributes: [awsRegion, p_any_ip_addresses]\nHunt: {Unique: awsRegion}\n\
                DynamicSeverities:\n  - {ChangeTo: Critical, Conditions: [{Key: actor, Condition: Equals, Value: root}]}\n  \
                - {ChangeTo: Low, Conditions: [{Key: account, Condition: Equals, Value: '111122223333'}]}\n";
    std::fs::write(&rule, more.to_owned() + &text.replace("Threshold: 2", "Threshold: 1")).unwrap();
    let hunted = tawny(&["hunt", TRAIL, "--format", "json", "--rules", rule.to_str().unwrap()]);
    let findings: serde_json::Value = serde_json::from_str(&stdout(&hunted)).unwrap();
    let of = |actor: &str| findings.as_array().unwrap().iter().find(|f| f["group"]["actor"] == actor).unwrap().clone();
    let (anaya, root) = (of("anaya"), of("root"));
    assert_eq!((&anaya["severity"], &root["severity"]), (&"Low".into(), &"Critical".into()));
    assert_eq!((&anaya["unique"], &anaya["distinct"]), (&"awsRegion".into(), &2.into()));
    assert_eq!(anaya["summary"], serde_json::json!({"awsRegion": anaya["regions"]}));
}

#[test]
fn query_has_tables_of_records_and_matches() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let lake = lake.to_str().unwrap();
    tawny(&["convert", TRAIL, "--lake", lake]);
    let by_name = "SELECT \"eventName\", count(DISTINCT coalesce(\"eventID\", \"contentID\")) AS n FROM cloudtrail GROUP BY 1 ORDER BY 1";
    let twice = "SELECT count(*) AS n FROM cloudtrail a JOIN cloudtrail b USING (\"eventID\") WHERE a.\"eventName\" = 'ConsoleLogin'";
    let matches = "SELECT \"eventID\", \"group.actor\" FROM matches ORDER BY 1";
    for sql in [by_name, twice, matches] {
        let run =
            |data: &str| tawny(&["query", sql, data, "--rule", "AWS.Unsuccessful.MFA.attempt", "--format", "jsonl"]);
        let (raw, columnar) = (run(TRAIL), run(lake));
        assert_eq!(raw.status.code(), Some(0), "{sql}: {}", stderr(&raw));
        if sql != twice {
            assert_eq!(stdout(&raw), stdout(&columnar), "{sql}: {}", stderr(&columnar));
        }
        assert!(
            stdout(&raw).contains("ConsoleLogin") || stdout(&raw).contains("anaya") || stdout(&raw).contains("\"n\":"),
            "{}",
            stdout(&raw)
        );
    }
    let csv = tawny(&["query", "SELECT '=1+1' AS \"=x\", 2 AS n", lake, "--format", "csv"]);
    assert_eq!(stdout(&csv), "'=x,n\n'=1+1,2\n", "{}", stderr(&csv));
    let table = tawny(&["query", "SELECT chr(27) AS n", lake]);
    assert!(stdout(&table).contains("\\u{1b}"), "{}", stdout(&table));
    let none = tawny(&["query", "SELECT 1 AS n WHERE false", lake, "--format", "json"]);
    assert_eq!(stdout(&none), "[]\n");
    let file = folder.path().join("names.parquet");
    let written = tawny(&["query", by_name, lake, "--format", "parquet", "-o", file.to_str().unwrap()]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert!(std::fs::read(&file).unwrap().starts_with(b"PAR1"));
    for (sql, said) in [
        ("SELECT nothing FROM cloudtrail", "nothing"),
        ("CREATE TABLE x AS SELECT 1", "DDL"),
        ("COPY cloudtrail TO 'never.csv'", "DML"),
    ] {
        let refused = tawny(&["query", sql, lake]);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(said), "{}", stderr(&refused));
    }
    let ranged = "SELECT count(*) AS n FROM cloudtrail";
    let of = |arguments: &[&str]| stdout(&tawny(&[&["query", ranged, lake, "--format", "csv"], arguments].concat()));
    let count = |text: String| text.lines().nth(1).unwrap().parse::<u32>().unwrap();
    let (before, after) = (count(of(&["--to", "2026-09-02"])), count(of(&["--from", "2026-09-02"])));
    assert!(before > 0 && after > 0 && before + after <= count(of(&[])), "{before} and {after}");
}

#[test]
fn dry_run_shows_what_a_hunt_would_read() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let lake = lake.to_str().unwrap();
    tawny(&["convert", TRAIL, "--lake", lake]);
    let told = |arguments: &[&str]| -> serde_json::Value {
        let output = tawny(&[&["hunt", "--dry-run", "--format", "json"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let (whole, none) = (told(&[TRAIL]), told(&[lake, "--from", "2030-01-01"]));
    assert_eq!((whole["objects"].as_u64(), none["objects"].as_u64()), (Some(8), Some(0)), "{whole} {none}");
    assert!(told(&[lake])["bytes"].as_u64().unwrap() > 0);
    for (limit, code) in [
        (["--max-objects", "7"], 2),
        (["--max-bytes", "1K"], 2),
        (["--max-objects", "8"], 0),
        (["--max-bytes", "1G"], 0),
    ] {
        let output = tawny(&["hunt", TRAIL, limit[0], limit[1]]);
        assert_eq!(output.status.code(), Some(code), "{limit:?}: {}", stderr(&output));
        assert_eq!(stderr(&output).contains("nothing was read"), code == 2, "{}", stderr(&output));
    }
}

#[test]
fn inspect_shows_contents_and_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let lake = lake.to_str().unwrap();
    tawny(&["convert", TRAIL, "--lake", lake]);
    let told = |arguments: &[&str]| -> serde_json::Value {
        let output = tawny(&[&["inspect", "--format", "json"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let (raw, columnar) = (told(&[TRAIL]), told(&[lake]));
    assert_eq!(
        (&raw["layout"], &raw["objects"], &raw["records"]),
        (&"raw".into(), &8.into(), &serde_json::Value::Null),
        "{raw}"
    );
    assert_eq!(raw["skipped"], serde_json::json!({"CloudTrail-Digest": 1}), "{raw}");
    assert_eq!((&columnar["layout"], &columnar["records"]), (&"native".into(), &35.into()), "{columnar}");
    assert_eq!(columnar["accounts"], serde_json::json!(["111122223333", "444455556666"]), "{columnar}");
    for inspection in [&raw, &columnar] {
        for gap in inspection["gaps"].as_array().unwrap() {
            assert!(gap["hours"].as_u64().unwrap() > 0 && gap["from"].as_str() < gap["to"].as_str(), "{gap}");
        }
        assert!(inspection["first"].as_str() < inspection["last"].as_str());
    }
    let hours: Vec<u32> = (0..6).filter(|hour| ![2, 3].contains(hour)).collect();
    let gappy = folder.path().join("gappy");
    std::fs::create_dir(&gappy).unwrap();
    for hour in hours {
        let name = format!("111122223333_CloudTrail_eu-west-1_20260901T{hour:02}05Z_abcdefghijklmnop.json");
        std::fs::write(gappy.join(name), "{\"Records\":[]}").unwrap();
    }
    let gaps = told(&[gappy.to_str().unwrap()])["gaps"].clone();
    let expected = serde_json::json!([{"account": "111122223333", "region": "eu-west-1", "from": "2026-09-01T02:00:00Z", "to": "2026-09-01T04:00:00Z", "hours": 2}]);
    assert_eq!(gaps, expected);
    let table = tawny(&["inspect", gappy.to_str().unwrap()]);
    assert!(
        stdout(&table).contains("first delivery") && stdout(&table).contains("2026-09-01T02:00:00Z"),
        "{}",
        stdout(&table)
    );
}

#[test]
fn lake_of_an_earlier_build_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let path = lake.to_str().unwrap();
    std::fs::create_dir_all(lake.join("_tawny/ledger")).unwrap();
    std::fs::write(lake.join("_tawny/ledger/00000001.json"), "{}").unwrap();
    for arguments in [&["hunt", path][..], &["inspect", path], &["compact", path], &["convert", TRAIL, "--lake", path]]
    {
        let output = tawny(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("an earlier build wrote it; convert the trail again"), "{}", stderr(&output));
    }
}
