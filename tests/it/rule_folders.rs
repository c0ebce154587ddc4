//! Folders of rules: what cannot run is skipped, counted and named, and the rest hunts.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PANTHER: &str = "AnalysisType: rule\nRuleID: ID\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
Detection:\n  - {Key: eventName, Condition: Equals, Value: NAME}\n";

const SIGMA: &str = "title: TITLE\nid: ID\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {FIELD: NAME}\n  condition: s\n";

fn panther(id: &str, name: &str) -> String {
    PANTHER.replace("ID: ID", &format!("ID: {id}")).replace("NAME", name)
}

/// A rule whose Python file is missing.
fn python(id: &str) -> String {
    let (before, _) = PANTHER.split_once("Detection:").unwrap();
    before.replace("ID: ID", &format!("ID: {id}")) + "Filename: python.py\n"
}

fn sigma(id: &str, field: &str) -> String {
    SIGMA
        .replace("id: ID", &format!("id: {id}"))
        .replace("TITLE", id)
        .replace("FIELD", field)
        .replace("NAME", "ConsoleLogin")
}

fn tawny(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap()
}

fn shown(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
}

/// A folder with two rules that run, four that cannot, and files that hold no rule.
fn mixed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[
            ("good.yml", &panther("Good", "ConsoleLogin")),
            ("sigma/good.yml", &sigma("good-sigma", "eventName")),
            ("broken.yml", &panther("Broken", "A").replace("Equals", "Equalss").replace("High", "Grave")),
            ("python.yml", &python("Python")),
            ("sigma/refused.yml", &sigma("refused", "eventName|wide")),
            ("tabs.yml", "AnalysisType: rule\nDetection:\n\t- x\n"),
            ("okta.yml", &panther("Okta", "A").replace("AWS.CloudTrail", "Okta.SystemLog")),
            ("sigma/windows.yml", &sigma("windows", "Image").replace("product: aws", "product: windows")),
            ("sigma/other.yml", &sigma("other", "a|nonsense").replace("service: cloudtrail", "service: s3")),
            (".github/workflows/ci.yml", "name: ci\non: [push]\njobs: {}\n"),
            ("pack.yml", "AnalysisType: pack\nPackID: a\n"),
            ("template.yml", "Resources:\n  Role: !Ref Other\n"),
            ("empty.yml", ""),
        ],
    );
    folder
}

#[test]
fn rules_that_cannot_run_are_skipped_and_named() {
    let folder = mixed();
    let rules = folder.path().to_str().unwrap();
    let hunt = tawny(&["hunt", "tests/data/trail", "--rules", rules, "--format", "jsonl"]);
    let (findings, messages) = shown(&hunt);
    assert_eq!(hunt.status.code(), Some(0), "{messages}");
    for id in ["\"Good\"", "\"good-sigma\""] {
        assert!(findings.contains(id), "{id}: {findings}");
    }
    for skipped in [
        "broken.yml:4:11: `Severity` must be Info, Low, Medium, High or Critical (and 1 other error)",
        "python.yml:6:11: `Filename`: the Python file",
        "refused.yml:5:7: `refused`: `eventName`: UTF-16 is bytes",
        "tabs.yml:3:2: invalid YAML: a tab indents this line; use spaces",
        "2 rules, 4 skipped: 2 invalid, 1 unsupported, 1 in Python; not used: 3 rules for other logs, 4 files without rules",
    ] {
        assert!(messages.contains(skipped), "{skipped}: {messages}");
    }
    assert!(!messages.contains("okta.yml") && !messages.contains("ci.yml"), "{messages}");

    let quiet = tawny(&["hunt", "tests/data/trail", "--rules", rules, "-q"]);
    assert!(shown(&quiet).1.contains("rule skipped"), "warnings are not silenced");
    let backtest = tawny(&["backtest", "tests/data/trail", "--rules", rules, "--rule", "Good"]);
    assert_eq!(backtest.status.code(), Some(0), "{}", shown(&backtest).1);
    assert!(shown(&backtest).1.contains("4 skipped"));
}

#[test]
fn strict_and_named_files_make_errors() {
    let folder = mixed();
    let rules = folder.path().to_str().unwrap();
    for command in ["hunt", "backtest"] {
        let strict = tawny(&[command, "tests/data/trail", "--rules", rules, "--strict"]);
        assert_eq!(strict.status.code(), Some(2));
        let (stdout, messages) = shown(&strict);
        assert!(stdout.is_empty());
        for file in ["broken.yml:4", "broken.yml:7", "python.yml", "refused.yml", "tabs.yml"] {
            assert!(messages.contains(&format!("error: {rules}/")) && messages.contains(file), "{messages}");
        }
    }
    for file in
        ["broken.yml", "python.yml", "sigma/refused.yml", "okta.yml", "sigma/windows.yml", "pack.yml", "empty.yml"]
    {
        let file = folder.path().join(file);
        for paths in [vec![file.to_str().unwrap()], vec![rules, file.to_str().unwrap()]] {
            let named = tawny(&[&["hunt", "tests/data/trail", "--rules"], paths.as_slice()].concat());
            assert_eq!(named.status.code(), Some(2), "{}: {}", file.display(), shown(&named).1);
        }
    }
    let test = tawny(&["test", rules]);
    assert_eq!(test.status.code(), Some(2), "not all tests ran");
}

#[test]
fn folder_without_a_rule_that_can_run_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("python.yml", &python("P"))]);
    let hunt = tawny(&["hunt", "tests/data/trail", "--rules", folder.path().to_str().unwrap()]);
    assert_eq!(hunt.status.code(), Some(2));
    let messages = shown(&hunt).1;
    assert!(messages.contains("there are no rules to run") && messages.contains("python.yml:6:11"), "{messages}");
}

#[test]
fn same_rule_twice_is_one_and_different_rules_with_one_id_are_named_apart() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[
            ("a.yml", &panther("Same", "ConsoleLogin")),
            ("copy.yml", &format!("# a copy\n{}", panther("Same", "ConsoleLogin"))),
            ("b/one.yml", &panther("Shared", "ConsoleLogin")),
            ("b/t%wo.yml", &panther("Shared", "AssumeRole")),
            ("c/one.yml", &panther("Shared", "GetUser")),
        ],
    );
    let rules = folder.path().to_str().unwrap();
    let list = tawny(&["rules", "list", rules, "--format", "json"]);
    let listed: Value = serde_json::from_slice(&list.stdout).unwrap();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().filter_map(|rule| rule["rule_id"].as_str()).collect();
    assert_eq!(ids, ["Same", "Shared#one", "Shared#one#2", "Shared#t_wo"]);
    let hunt = tawny(&["hunt", "tests/data/trail", "--rules", rules, "--rule", "Shared", "--format", "jsonl"]);
    let (findings, messages) = shown(&hunt);
    assert_eq!(hunt.status.code(), Some(0), "{messages}");
    assert!(findings.contains("\"Shared#one\"") && !findings.contains("\"Same\""), "{findings}");
    assert!(
        messages.contains("3 different rules have the id `Shared`; this one runs as `Shared#t_wo` [shared-id]")
            && messages.contains("1 duplicate rule"),
        "{messages}"
    );
    let checked = tawny(&["rules", "lint", rules, "--strict"]);
    assert_eq!(checked.status.code(), Some(1), "{:?}", shown(&checked));
}

#[test]
fn correlations_name_rules_by_title_and_copies_are_one() {
    let base = sigma("base-id", "eventName").replace("title: base-id", "title: Signs In");
    let correlation = "---\ntitle: Many\nid: many\ncorrelation:\n  type: event_count\n  rules: [REF]\n  group-by: [userIdentity.type]\n  timespan: 1h\n  condition: {gte: 2}\n";
    let ids = |files: &[(&str, String)]| {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        write(folder.path(), &files);
        let list = tawny(&["rules", "list", folder.path().to_str().unwrap(), "--format", "json"]);
        let listed: Value = serde_json::from_slice(&list.stdout).unwrap();
        let ids = listed.as_array().unwrap().iter().map(|rule| rule["rule_id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), shown(&list).1)
    };
    for reference in ["base-id", "Signs In"] {
        let both = format!("{base}{}", correlation.replace("REF", reference));
        assert_eq!(ids(&[("a.yml", both.clone())]).0, ["many"]);
        let (found, messages) = ids(&[("a.yml", both), ("copy.yml", base.clone())]);
        let summary = "1 rule; not used: 2 rules only in correlations\n".to_owned();
        assert_eq!((found, messages), (vec!["many".to_owned()], summary), "a copy is no other rule");
    }
    // Two different rules with one title: the one in the file of the correlation is meant; of none, neither.
    let other = base.replace("base-id", "other-id").replace("ConsoleLogin", "GetUser");
    let both = format!("{base}{}", correlation.replace("REF", "Signs In"));
    assert_eq!(ids(&[("a.yml", both), ("b.yml", other.clone())]).0, ["many", "other-id"]);
    let alone = correlation.replace("REF", "Signs In");
    let (found, messages) = ids(&[("a.yml", base), ("b.yml", other), ("c.yml", alone)]);
    assert_eq!(found, ["base-id", "other-id"]);
    assert!(
        messages.contains("c.yml:6:11: `Many`: it names `Signs In`, as 2 different rules are called"),
        "{messages}"
    );
}

#[test]
fn lint_lists_all_errors_in_every_format() {
    let folder = mixed();
    write(folder.path(), &[("a,b:%c.yml", "AnalysisType: rule\nRuleID: \"x\\u202e[a](b)\"\nBad: 1\n")]);
    write(folder.path(), &[("misspelt.yml", &sigma("misspelt", "eventNme"))]);
    let rules = folder.path().to_str().unwrap();
    let json = tawny(&["rules", "lint", rules, "--format", "json"]);
    assert_eq!(json.status.code(), Some(2));
    let entries: Value = serde_json::from_slice(&json.stdout).unwrap();
    let places: Vec<(String, &str)> = entries
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["level"] == "error")
        .map(|entry| {
            let file = Path::new(entry["file"].as_str().unwrap()).strip_prefix(rules).unwrap().display();
            (format!("{file}:{}:{}", entry["line"], entry["column"]), entry["code"].as_str().unwrap())
        })
        .collect();
    let expected = [
        // Three keys are missing, the id is wrong, and one key is unknown.
        ("a,b:%c.yml:1:1", "invalid"),
        ("a,b:%c.yml:1:1", "invalid"),
        ("a,b:%c.yml:1:1", "invalid"),
        ("a,b:%c.yml:2:9", "invalid"),
        ("a,b:%c.yml:3:1", "invalid"),
        ("broken.yml:4:11", "invalid"),
        ("broken.yml:7:33", "invalid"),
        ("python.yml:6:11", "python"),
        ("sigma/refused.yml:5:7", "unsupported"),
        ("tabs.yml:3:2", "invalid"),
    ];
    assert_eq!(places, expected.map(|(place, code)| (place.to_owned(), code)));
    let misspelt = entries.as_array().unwrap().iter().find(|entry| entry["rule_id"] == "misspelt").unwrap();
    assert_eq!(
        (&misspelt["line"], &misspelt["column"], &misspelt["code"]),
        (&5.into(), &7.into(), &"unknown-field".into())
    );

    let (annotations, _) = shown(&tawny(&["rules", "lint", rules, "--format", "github"]));
    assert!(
        annotations.contains("/a%2Cb%3A%25c.yml,line=3,col=1,title=invalid::`Bad` is not a key of a rule\n"),
        "{annotations}"
    );
    assert!(annotations.lines().all(|line| line.starts_with("::error file=") || line.starts_with("::warning file=")));

    let sarif: Value = serde_json::from_slice(&tawny(&["rules", "lint", rules, "--format", "sarif"]).stdout).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), entries.as_array().unwrap().len());
    let first = &results[0];
    let place = &first["locations"][0]["physicalLocation"];
    assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("/a%2Cb%3A%25c.yml"), "{first}");
    assert_eq!((&place["region"]["startLine"], &first["level"]), (&1.into(), &"error".into()));
    let (table, errors) = shown(&tawny(&["rules", "lint", rules]));
    assert!(
        table.contains("misspelt.yml:5:7: records have no `eventNme`; did you mean `eventName`? [unknown-field]"),
        "{table}"
    );
    assert!(errors.contains("tabs.yml:3:2") && errors.contains("10 errors"), "{errors}");
}

#[test]
fn messages_of_rules_are_escaped_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("a.yml", "AnalysisType: rule\n\"\\e[31m\\u202e[x](y)%,:\\n::error::pwned\": 1\n")]);
    let rules = folder.path().to_str().unwrap();
    for format in ["table", "json", "github", "sarif"] {
        let (out, errors) = shown(&tawny(&["rules", "lint", rules, "--format", format]));
        let all = format!("{out}{errors}");
        assert!(!all.contains('\u{1b}') && !all.contains('\u{202e}'), "{format}: {all}");
        assert!(!all.lines().any(|line| line.starts_with("::error::pwned")), "{format}: {all}");
        match format {
            "github" => {
                assert!(out.contains("%25,:%0A::error::pwned"), "{out}");
                assert!(out.lines().all(|line| line.starts_with("::error file=")), "{out}");
            }
            "sarif" => assert!(out.contains("\\\\[x\\\\](y)"), "{out}"),
            _ => {}
        }
    }
}

#[test]
fn hunts_warn_of_likely_mistakes_in_foreign_rules() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("a.yml", &sigma("misspelt", "eventNme"))]);
    let rules = folder.path().to_str().unwrap();
    for command in [&["hunt"][..], &["backtest"]] {
        let output = tawny(&[command, &["tests/data/trail", "--rules", rules]].concat());
        assert_eq!(output.status.code(), Some(0));
        let messages = shown(&output).1;
        assert!(
            messages.contains("a.yml:5:7: records have no `eventNme`; did you mean `eventName`? [unknown-field]"),
            "{messages}"
        );
        assert!(!messages.contains("no-tests"), "{messages}");
    }
    let shipped = shown(&tawny(&["hunt", "tests/data/trail"])).1;
    assert!(!shipped.contains("warning"), "{shipped}");
}

#[test]
fn nightly_run_hunts_the_other_rules_and_is_incomplete() {
    let folder = mixed();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(at("rules")).unwrap();
    for name in ["good.yml", "broken.yml"] {
        std::fs::rename(at(name), at(&format!("rules/{name}"))).unwrap();
    }
    let convert = tawny(&["convert", "tests/data/trail", "--lake", &at("lake")]);
    assert_eq!(convert.status.code(), Some(0), "{}", shown(&convert).1);
    let config = |strict: bool| {
        format!(
            "lake = {:?}\n[[source]]\npath = \"tests/data/trail\"\n[rules]\npaths = [{:?}]\nstrict = {strict}\n[report]\njson = {:?}\n",
            at("lake"),
            at("rules"),
            at("report.json")
        )
    };
    std::fs::write(at("strict.toml"), config(true)).unwrap();
    assert_eq!(tawny(&["nightly", "--config", &at("strict.toml")]).status.code(), Some(2));
    std::fs::write(at("tawny.toml"), config(false)).unwrap();
    let run = tawny(&["nightly", "--config", &at("tawny.toml")]);
    assert_eq!(run.status.code(), Some(3), "{}", shown(&run).1);
    let report: Value = serde_json::from_slice(&std::fs::read(at("report.json")).unwrap()).unwrap();
    assert_eq!(report["skipped_rules"][0]["line"], 4, "{report}");
    assert_eq!(report["hunts"][0]["rules"], serde_json::json!(["Good"]));
    assert!(shown(&run).0.contains("rule skipped"), "{}", shown(&run).0);
    std::fs::remove_file(at("rules/broken.yml")).unwrap();
    assert_eq!(tawny(&["nightly", "--config", &at("tawny.toml")]).status.code(), Some(0));
}
