//! Hidden characters in logs, rules, file names and arguments never reach standard output, standard error or an output
//! file, in any command and format.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::CommandFactory as _;
use serde_json::{Value, json};

use crate::sinks::Hook;

/// Hidden characters that YAML allows unescaped.
const IN_YAML: &str = "\u{ad}\u{61c}\u{200b}\u{200d}\u{200f}\u{202e}\u{2060}\u{2066}\u{fff9}\u{fe0f}\u{e0041}";
/// The others except NUL, which arguments and file names cannot contain.
const OTHERS: &str = "\u{1b}[31m\r\u{7f}\u{9b}\u{2028}\u{2029}\u{feff}";

/// Returns text with every kind of hidden character, a forged line, and syntax of each format.
fn hostile() -> String {
    format!(" =a{IN_YAML}{OTHERS}b\nFORGED \"'|`*_[x](y)<!channel></script>\\")
}

/// Returns the same text as a YAML scalar.
fn in_yaml(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        if c == '"' || c == '\\' || c.is_control() || (IN_YAML.to_owned() + OTHERS).contains(c) {
            write!(quoted, "\\U{:08X}", u32::from(c)).unwrap();
        } else {
            quoted.push(c);
        }
    }
    quoted + "\""
}

/// Returns a rule with hostile text in every field, escaped and, where YAML allows it, unescaped.
fn rule(description: &str) -> String {
    let text = in_yaml(&(hostile() + "\0"));
    format!(
        r#"# A comment {IN_YAML}
AnalysisType: rule
RuleID: Hostile|`*_[x](y)
DisplayName: {text}
Description: "{description} {IN_YAML}"
Runbook: {text}
Reference: {text}
Tags: [{text}]
Reports: {{MITRE ATT&CK: [{text}], {text}: [{text}]}}
Enabled: true
Severity: High
LogTypes: [AWS.CloudTrail]
Threshold: 2
DedupPeriodMinutes: 60
AlertTitle: "{{eventName}} {IN_YAML}"
GroupBy:
  - {{Key: account}}
  - {{Key: actor}}
  - {{DeepKey: [requestParameters, {text}]}}
AlertContext:
  - {{KeyName: {text}, KeyValue: {{DeepKey: [requestParameters, {text}]}}}}
  - {{KeyName: name, KeyValue: {{Key: eventName}}}}
SummaryAttributes: [userAgent]
Detection:
  - {{Key: eventName, Condition: Equals, Value: {text}}}
  - Any:
      - {{DeepKey: [requestParameters, {text}], Condition: StartsWith, Value: {text}}}
      - {{Key: userAgent, Condition: IsIn, Values: [{text}, b]}}
Tests:
  - {{Name: {text}, ExpectedResult: false, Log: {{eventName: {text}}}}}
"#
    )
}

/// Returns a record with hostile text in every field.
fn record(minute: u32, error: &Value) -> Value {
    let text = hostile() + "\0";
    json!({
        "eventTime": format!("2026-09-01T10:{minute:02}:00Z"),
        "eventID": format!("{text}{minute}"),
        "eventSource": text,
        "eventName": text,
        "awsRegion": text,
        "sourceIPAddress": text,
        "userAgent": text,
        "errorCode": text,
        "errorMessage": error,
        "recipientAccountId": text,
        "userIdentity": {"type": "IAMUser", "userName": text, "arn": text, "accountId": text, "accessKeyId": "AKIAIOSFODNN7EXAMPLE"},
        "requestParameters": {text.clone(): text},
        "resources": [{"ARN": text}],
        text.clone(): text,
    })
}

/// Panics if visible output contains a hidden character.
fn check(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let is_hidden =
        |c: char| c != '\n' && (c.is_control() || IN_YAML.contains(c) || "\u{2028}\u{2029}\u{feff}".contains(c));
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_hidden(*c)) {
        let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
        panic!("{what} holds {}: {:?}", c.escape_unicode(), text[start..].lines().next());
    }
    // HTML shows line breaks as spaces.
    let is_html = Path::new(what).extension().is_some_and(|end| end == "html") || what.ends_with("\"html\"]");
    if !is_html {
        assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{what} has a forged line: {text}");
    }
}

/// A folder with a hostile trail, lake, rules and configuration.
struct Place {
    home: tempfile::TempDir,
    runs: AtomicUsize,
}

impl Place {
    fn new(hook: &Hook) -> Place {
        let home = tempfile::tempdir().unwrap();
        let place = Place { home, runs: AtomicUsize::new(0) };
        let file = |name: &str, text: &str| {
            let path = place.home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let records: Vec<Value> = (0..3).map(|minute| record(minute, &Value::Null)).collect();
        file("trail/good.json", &json!({ "Records": records }).to_string());
        file("damaged/good.json", &json!({ "Records": records }).to_string());
        let name = hostile().replace('/', "");
        file(&format!("damaged/{name}.json"), "{\"Records\": [{]}");
        file("rules/rule.yml", &rule("one"));
        file("other.yml", &rule("other").replace("Threshold: 2", "Threshold: 3"));
        file(
            &format!("wrong/{name}.yml"),
            &rule("wrong").replace("Severity: High", &format!("Severity: {}", in_yaml(&hostile()))),
        );
        let digest = json!({
            "digestStartTime": "2026-09-01T00:00:00Z", "digestEndTime": "2026-09-01T01:00:00Z", "digestS3Bucket": hostile(),
            "digestS3Object": name.clone() + ".json", "digestPublicKeyFingerprint": hostile(),
            "digestSignatureAlgorithm": hostile(), "previousDigestS3Object": hostile(), "previousDigestSignature": hostile(),
            "logFiles": [{"s3Bucket": hostile(), "s3Object": hostile(), "hashValue": hostile(), "hashAlgorithm": hostile()}],
        });
        file(&format!("digests/CloudTrail-Digest/{name}.json"), &digest.to_string());
        file(&format!("digests/CloudTrail-Digest/not {name}.json"), &digest.to_string());
        let text = in_yaml(&(hostile() + "\0"));
        let exception = format!(
            "Exceptions:\n  - {{ID: 'quiet|`*_[x](y)', Rules: '*', Reason: {text}, Owner: {text}, Until: 2026-09-02,\n     \
             When: [{{Key: eventName, Condition: Equals, Value: {text}}}]}}\n"
        );
        file("exceptions.yml", &exception);
        file(&format!("wrong-exceptions/{name}.yml"), &exception.replace("Owner", &format!("{text}: 1, Owner")));
        let label =
            json!({"account": hostile() + "\0", "from": "2026-09-01", "to": "2026-09-02", "label": "malicious"});
        file("labels.jsonl", &label.to_string());
        let map = format!("layout: \"x{IN_YAML}\"\ntitle: x\ncolumns: {{eventTime: \"'{IN_YAML}' ||\"}}\n");
        file("map.yml", &map);
        let sinks = format!(
            "[[sink]]\nname = 'jsonl'\nkind = 'files'\nto = 'out/jsonl'\n\
            [[sink]]\nname = 'ocsf'\nkind = 'files'\nto = 'out/ocsf'\nformat = 'ocsf'\n{}",
            ["slack", "json", "ocsf"]
                .map(|format| format!(
                    "[[sink]]\nname = 'hook-{format}'\nkind = 'webhook'\nurl = '{}'\nformat = '{format}'\n",
                    hook.url
                ))
                .concat()
        );
        let config = "lake = 'nightly'\n[rules]\npaths = ['rules']\n[[source]]\npath = 'damaged'\n[report]\njson = 'out/report.json'\nprometheus = 'out/tawny.prom'\n";
        file("tawny.toml", &format!("{config}{sinks}"));
        file(
            "stdout.toml",
            &config
                .replace("nightly", "printed")
                .replace("out/", "out/2-")
                .replace("[report]", "[[sink]]\nname = 'out'\nkind = 'stdout'\n[report]"),
        );
        std::fs::create_dir(place.home.path().join("out")).unwrap();
        assert_eq!(place.run(&["convert", "trail", "--lake", "lake"]).status.code(), Some(0));
        place
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn run_with(&self, arguments: &[OsString]) -> Output {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        let output = command.current_dir(self.home.path()).args(arguments).output().unwrap();
        let what = format!("{arguments:?}");
        assert!(output.status.code().is_some_and(|code| code <= 3), "{what}: {:?}", output.status);
        check(&format!("standard output of {what}"), &output.stdout);
        check(&format!("standard error of {what}"), &output.stderr);
        output
    }

    /// Checks all output files for people.
    fn check_files(&self) -> usize {
        let files = glob::glob(&format!("{}/out/**/*", self.home.path().display())).unwrap().flatten();
        let files: Vec<_> = files.filter(|path| path.is_file()).collect();
        for file in &files {
            check(&file.display().to_string(), &std::fs::read(file).unwrap());
        }
        files.len()
    }
}

/// Commands with their arguments. Those with `--format` run once for each value.
const RUNS: &[(&str, &[&[&str]])] = &[
    ("convert", &[&["damaged", "--lake", "other-lake"]]),
    (
        "nightly",
        &[&["--dry-run"], &["--log", "json"], &["--config", "stdout.toml", "--log", "text", "--log-level", "debug"]],
    ),
    ("nightly init", &[&["init.toml"]]),
    ("compact", &[&["lake"], &["lake", "--dry-run"]]),
    (
        "hunt",
        &[
            &["trail", "--rules", "rules"],
            &["damaged", "--rules", "rules", "--report", "out/hunt.html"],
            &["lake", "--rules", "rules", "--window", "all"],
            &["lake", "--rules", "rules", "--dry-run"],
            &["trail", "--rules", "wrong"],
            &["trail", "--rules", "rules", "--exceptions", "exceptions.yml", "--report", "out/excepted.html"],
        ],
    ),
    (
        "backtest",
        &[
            &[
                "lake",
                "--rules",
                "rules",
                "--thresholds",
                "1..3",
                "--periods",
                "1h",
                "--labels",
                "labels.jsonl",
                "--report",
                "out/backtest.html",
                "--move-to",
                "1/1h",
            ],
            &["lake", "--compare", "rules/rule.yml", "other.yml"],
        ],
    ),
    (
        "tune",
        &[&[
            "lake",
            "--rules",
            "rules",
            "--rule",
            "Hostile|`*_[x](y)",
            "--labels",
            "labels.jsonl",
            "--exceptions",
            "exceptions.yml",
        ]],
    ),
    ("rules list", &[&["rules"]]),
    ("rules coverage", &[&["rules", "--navigator", "out/layer.json"]]),
    ("rules show", &[&["rules/rule.yml"]]),
    ("rules export", &[&["exported"]]),
    ("rules translate", &[&["rules/rule.yml"]]),
    ("rules lint", &[&["rules"], &["wrong"]]),
    ("test", &[&["rules"]]),
    ("exceptions list", &[&["exceptions.yml"]]),
    ("exceptions check", &[&["exceptions.yml", "--rules", "rules"], &["wrong-exceptions"]]),
    ("exceptions expired", &[&["exceptions.yml"]]),
    ("sql", &[&["rules/rule.yml"]]),
    ("layouts", &[&[], &["panther"]]),
    ("inspect", &[&["trail"], &["damaged"], &["lake"]]),
    ("verify", &[&["digests"], &["damaged"]]),
    (
        "query",
        &[
            &["SELECT *, -1 AS \"\u{202e}\u{1b}x\" FROM cloudtrail", "trail"],
            &["SELECT * FROM matches", "lake", "--rules", "rules", "--rule", "Hostile|`*_[x](y)"],
            &["SELECT \"\u{202e}\u{1b}x\" FROM cloudtrail", "lake"],
        ],
    ),
    (
        "trace",
        &[
            &["trail", "--key", "AKIAIOSFODNN7EXAMPLE"],
            &["lake", "--key", "AKIAIOSFODNN7EXAMPLE", "--format", "html", "-o", "out/trace.html"],
            &["lake", "--key", "\u{202e}\u{1b}x"],
        ],
    ),
    ("summary", &[&["trail", "--actor", "\u{202e}\u{1b}x"]]),
    ("timeline", &[&["trail"], &["lake"]]),
];

/// Commands that only show the program's own text.
const STATIC: [&str; 4] = ["completions", "man", "cluster scheduler", "cluster executor"];

fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    let below: Vec<_> = command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    // `tawny nightly` is a command although it has a subcommand.
    if below.is_empty() || path == "nightly" {
        found.push((path.to_owned(), command.clone()));
    }
    for command in below {
        leaves(command, format!("{path} {}", command.get_name()).trim(), found);
    }
}

/// Returns every command.
fn commands() -> Vec<(String, clap::Command)> {
    let mut root = tawny::cli::Cli::command();
    root.build();
    let mut found = Vec::new();
    leaves(&root, "", &mut found);
    found.retain(|(path, _)| !STATIC.contains(&path.as_str()));
    found
}

/// Returns the values of an option of a command, or none if it does not have the option.
fn values(command: &clap::Command, option: &str) -> Vec<String> {
    let option = command.get_arguments().find(|argument| argument.get_long() == Some(option));
    let values = option.map(clap::Arg::get_possible_values).unwrap_or_default();
    values.iter().map(|value| value.get_name().to_owned()).collect()
}

#[test]
fn no_hidden_character_is_shown_by_any_command_in_any_format() {
    let hook = Hook::start(&[200]);
    let place = Place::new(&hook);
    let commands = commands();
    let known: BTreeSet<&str> = RUNS.iter().map(|(path, _)| *path).collect();
    let there_are: BTreeSet<&str> = commands.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(known, there_are, "every command is run here");
    let mut all: Vec<Vec<String>> = Vec::new();
    for (path, command) in &commands {
        let (_, runs) = RUNS.iter().find(|(known, _)| known == path).unwrap();
        for (number, arguments) in runs.iter().enumerate() {
            let arguments: Vec<String> = path.split(' ').chain(arguments.iter().copied()).map(str::to_owned).collect();
            let mut variants = vec![arguments.clone()];
            // Messages are the same in every format.
            if number > 0 && !arguments.contains(&"--compare".to_owned()) {
                all.extend(variants);
                continue;
            }
            for option in ["format", "dialect"] {
                for value in values(command, option) {
                    let mut variant = [arguments.clone(), vec![format!("--{option}"), value.clone()]].concat();
                    if value == "parquet" {
                        variant.extend(["-o".to_owned(), format!("rows-{number}.parquet")]);
                    }
                    variants.push(variant);
                }
            }
            all.extend(variants);
        }
    }
    assert!(all.len() > 40, "{}", all.len());
    for arguments in all {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        place.run(&arguments);
    }
    assert!(place.check_files() >= 7, "{}", place.check_files());
    let sent = hook.take();
    assert!(sent.len() >= 3, "{}", sent.len());
    for got in sent {
        check("what was sent", &got.body);
    }
}

#[test]
fn escaped_values_stay_exact_in_json_and_sql() {
    let place = Place::new(&Hook::start(&[200]));
    // The findings exist, the JSON is exact, and the printed SQL finds them too.
    let hunted = place.run(&["hunt", "trail", "--rules", "rules", "--format", "json"]);
    let findings: Vec<Value> = serde_json::from_slice(&hunted.stdout).unwrap();
    for finding in &findings {
        let id = finding["finding_id"].as_str().unwrap();
        for format in ["table", "json"] {
            let shown = place.run(&["hunt", "trail", "--rules", "rules", "--show", id, "--format", format]);
            assert_eq!(shown.status.code(), Some(0));
        }
    }
    assert_eq!(findings.len(), 1);
    let text = hostile() + "\0";
    assert_eq!(findings[0]["user_agents"], json!([text]));
    assert_eq!(findings[0]["context"][&text], json!(text));
    let sql = place.run(&["sql", "rules/rule.yml"]);
    let sql = String::from_utf8(sql.stdout).unwrap();
    assert!(sql.contains("chr(8238)") && sql.contains("chr(0)"), "{sql}");
    let rows = place.run(&["query", "--format", "json", "--", sql.trim_end().trim_end_matches(';'), "trail"]);
    let rows: Vec<Value> = serde_json::from_slice(&rows.stdout).unwrap();
    assert_eq!((rows.len(), &rows[0]["count"]), (1, &json!(3)), "{rows:?}");
    let table = place.run(&["hunt", "trail", "--rules", "rules"]);
    let table = String::from_utf8(table.stdout).unwrap();
    let table: String = table.split_whitespace().collect();
    assert!(table.contains("\\u{202e}") && table.contains("\\u{a}FORGED"), "{table}");
    let csv = place.run(&["hunt", "trail", "--rules", "rules", "--format", "csv"]);
    let row = csv::Reader::from_reader(&csv.stdout[..]).records().next().unwrap().unwrap();
    assert!(row.iter().any(|cell| cell.starts_with("' =a\\u{ad}")), "{row:?}");
    let numbers = place.run(&["query", "SELECT -1.5 AS a, '-1+1' AS b, '\u{ff1d}x' AS c", "lake", "--format", "csv"]);
    assert_eq!(String::from_utf8(numbers.stdout).unwrap(), "a,b,c\n-1.5,'-1+1,'\u{ff1d}x\n");
}

#[test]
fn argument_errors_escape_hidden_characters() {
    let place = Place::new(&Hook::start(&[200]));
    let commands = commands();
    let mut globals = true;
    for (path, command) in &commands {
        let options = command.get_arguments().filter(|argument| argument.get_action().takes_values());
        for option in options {
            let Some(name) = option.get_long() else { continue };
            // The first command stands for the options of all commands.
            if (option.is_global_set() && !globals) || name.starts_with("s3-") {
                continue;
            }
            let mut arguments: Vec<OsString> = path.split(' ').map(OsString::from).collect();
            arguments.push(format!("--{name}={}", hostile()).into());
            place.run_with(&arguments);
        }
        globals = false;
    }
    let runs = place.runs.load(Ordering::Relaxed);
    assert!(runs > 60, "{runs}");
    for arguments in [&["hunt"][..], &["rules", "show"], &["sql"], &["layouts"], &["query"], &["no-such"], &["test"]] {
        let hostile = hostile();
        // As data it is a glob, because it contains `*`, without matches.
        let expected = if arguments == ["hunt"] { 3 } else { 2 };
        let arguments = [arguments, &[hostile.as_str()]].concat();
        assert_eq!(place.run(&arguments).status.code(), Some(expected), "{arguments:?}");
    }
    let output = place.run(&["hunt", "trail", "--map", "map.yml"]);
    assert_ne!(output.status.code(), Some(0));
}
