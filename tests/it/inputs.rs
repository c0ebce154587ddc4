//! What users name: accounts, rules and folders. Each name is understood or refused, and never passed by.

use std::process::{Command, Output};

use tawny::rule::catalog::DEFAULT;
use tawny::rule::{catalog, panther};

const TRAIL: &str = "tests/data/trail";

fn tawny(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn accounts_and_regions_are_trimmed_and_checked() {
    let both = tawny(&["hunt", TRAIL, "--account", "111122223333, 444455556666", "--format", "jsonl"]);
    let one_by_one =
        tawny(&["hunt", TRAIL, "--account", "111122223333", "--account", "444455556666", "--format", "jsonl"]);
    assert!(!both.stdout.is_empty() && both.stdout == one_by_one.stdout);
    for (option, value, expected) in [
        ("--account", "1111-2222-3333", "12 digits"),
        ("--account", "111122223333,", "12 digits"),
        ("--region", "eu west 1", "expected a region"),
    ] {
        let refused = tawny(&["hunt", TRAIL, option, value]);
        assert_eq!(refused.status.code(), Some(2), "{value}");
        assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
    }
}

#[test]
fn named_rule_is_refused_for_code_in_another_file_that_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rule =
        "AnalysisType: rule\nRuleID: Py\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nFilename: p.py\n";
    std::fs::write(path("p.yml"), rule).unwrap();
    std::fs::write(path("p.py"), "import socket\ndef rule(event):\n    return socket.gethostname() == 'a'\n").unwrap();
    let named = tawny(&["hunt", TRAIL, "--rules", &path("p.yml"), "rules/discovery"]);
    assert_eq!(named.status.code(), Some(2), "{}", stderr(&named));
    assert!(stderr(&named).contains("p.py:"), "{}", stderr(&named));
    let in_folder = tawny(&["hunt", TRAIL, "--rules", folder.path().to_str().unwrap(), "rules/discovery"]);
    assert_eq!(in_folder.status.code(), Some(0), "{}", stderr(&in_folder));
    let skipped = stderr(&in_folder);
    assert!(skipped.contains("rule skipped: ") && skipped.contains("p.yml: "), "{skipped}");
}

#[test]
fn translation_is_a_valid_rule_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let translated = folder.path().join("translated.yml");
    let (mut valid, mut refused) = (0, 0);
    for entry in catalog::all(&[]).unwrap() {
        let output = tawny(&["rules", "translate", &entry.rule.id]);
        if output.status.code() == Some(2) {
            assert!(output.stdout.is_empty() && stderr(&output).contains("hint: "), "{}", stderr(&output));
            refused += 1;
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        std::fs::write(&translated, &output.stdout).unwrap();
        let read = panther::parse("translated.yml", &String::from_utf8(output.stdout).unwrap()).unwrap();
        assert_eq!((read.rule.detection, read.rule.first_seen), (entry.rule.detection, entry.rule.first_seen));
        valid += 1;
    }
    assert!(valid > 100 && refused > 0, "{valid} {refused}");
}

#[test]
fn exported_query_reads_a_folder_by_any_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake").display().to_string();
    assert!(tawny(&["convert", TRAIL, "--lake", &lake]).status.success());
    let sql = |data: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command.args(["sql", DEFAULT, "--dialect", "duckdb", "--layout", "lake", "--data", data]);
        String::from_utf8(command.current_dir(folder.path()).output().unwrap().stdout).unwrap()
    };
    assert!(sql("lake").contains("read_parquet(") && sql("lake") == sql("lake/"), "{}", sql("lake"));
    assert!(!sql("other").contains("read_parquet("), "a table of the engine");
    let all = tawny(&["sql", DEFAULT, "--window", "all"]);
    assert!(all.status.code() == Some(2) && stderr(&all).contains("one kind"), "{}", stderr(&all));
}
