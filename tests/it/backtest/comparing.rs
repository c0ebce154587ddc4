//! `--compare` of two versions of a rule.

use serde_json::json;

use super::{RULE, document, own_rule, records, stderr, stdout, tawny, write_trail};

#[test]
fn compare_lists_the_findings_of_only_one_version() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let stricter = own_rule(folder.path(), "Threshold: 2", "Threshold: 5");
    let stricter = stricter.to_str().unwrap();
    let run = |more: &[&str]| tawny(&[&["backtest", &trail, "--compare", RULE, stricter], more].concat());

    let table = run(&[]);
    assert_eq!(table.status.code(), Some(0));
    assert!(stdout(&table).contains("\n+0 / -11 findings in 9.0 days, 1 kept\n"), "{}", stdout(&table));
    let told = document(&run(&["--format", "json", "--from", "2026-09-01", "--to", "2026-09-11"]));
    assert_eq!(told["days"], 10.0);
    assert_eq!(told["counts"], json!({"gained": 0, "lost": 11, "kept": 1}));
    assert_eq!(told["sentence"], "+0 / -11 findings in 10.0 days, 1 kept");
    let counts = ["gained", "lost", "kept"].map(|what| told[what].as_array().unwrap().len());
    assert_eq!(counts, [0, 11, 1]);
    let back = document(&tawny(&["backtest", &trail, "--compare", stricter, RULE, "--format", "json"]));
    assert_eq!(["gained", "lost", "kept"].map(|what| back[what].as_array().unwrap().len()), [11, 0, 1]);

    let junit = stdout(&run(&["--format", "junit"]));
    assert!(junit.starts_with("<?xml"), "{junit}");
    assert!(junit.contains("tests=\"12\"") && junit.contains("failures=\"11\""), "{junit}");
    assert_eq!(stdout(&run(&["--format", "csv"])).lines().filter(|line| line.starts_with("lost,")).count(), 11);

    assert_eq!(run(&["--fail-on-change"]).status.code(), Some(1));
    let same = tawny(&["backtest", &trail, "--compare", RULE, RULE, "--fail-on-change"]);
    assert_eq!(same.status.code(), Some(0), "{}", stdout(&same));
}

#[test]
fn compare_refuses_unused_options() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let comparison = ["backtest", &trail, "--compare", RULE, RULE];
    for option in [
        &["--thresholds", "3"][..],
        &["--periods", "15m"],
        &["--windows", "dedup"],
        &["--budget", "1/day"],
        &["--labels", "labels.csv"],
        &["--unlabelled", "unknown"],
        &["--move-to", "3/15m"],
        &["--write"],
        &["--report", "page.html"],
        &["--rules", RULE],
        &["--rule", "AWS.Unsuccessful.MFA.attempt"],
    ] {
        let refused = tawny(&[&comparison, option].concat());
        assert_eq!(refused.status.code(), Some(2), "{option:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(&format!("cannot be used with '{}", option[0])), "{}", stderr(&refused));
    }
    let rules = ["--rules", RULE];
    for (option, wants) in [
        (&["--fail-on-change"][..], "`--fail-on-change` requires `--compare`"),
        (&["--unlabelled", "unknown"], "--labels <FILE>"),
    ] {
        for more in [&[][..], &rules] {
            let refused = tawny(&[&["backtest", &trail], option, more].concat());
            assert_eq!(refused.status.code(), Some(2), "{option:?} {more:?}: {}", stderr(&refused));
            assert!(stderr(&refused).contains(wants), "{}", stderr(&refused));
        }
    }
}

#[test]
fn junit_cases_of_a_rule_without_groups_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let groups = "GroupBy:\n  - Key: account\n  - Key: actor\n";
    let together = own_rule(folder.path(), groups, "");
    // Its tests name the groups.
    let text = std::fs::read_to_string(&together).unwrap();
    std::fs::write(&together, text.split_once("Tests:\n").unwrap().0).unwrap();
    let compared = tawny(&["backtest", &trail, "--compare", RULE, together.to_str().unwrap(), "--format", "junit"]);
    assert!(stdout(&compared).contains("name=\"all together at 2026-09-03T09:40:00Z ("), "{}", stdout(&compared));
}
