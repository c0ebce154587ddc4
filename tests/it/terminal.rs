//! What people see: tables at every width, one finding, formats by the ending of a file, and the help.

use std::path::Path;
use std::process::{Command, Output};

use arrow::array::{Array as _, AsArray as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

const TRAIL: &str = "tests/data/trail";

/// Runs the program for a terminal with `columns`, or without a limit.
fn run_at(columns: Option<u16>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("COLUMNS").args(arguments);
    if let Some(columns) = columns {
        command.env("COLUMNS", columns.to_string());
    }
    command.output().unwrap()
}

fn run(arguments: &[&str]) -> Output {
    run_at(None, arguments)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Returns the standard output of a command that ends with 0.
fn shown(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Writes a trail whose findings have three severities: a root access key, a deleted trail and a group listing.
fn mixed_trail(folder: &Path) -> String {
    let record = |number: usize, source: &str, name: &str, kind: &str| {
        json!({
            "eventVersion": "1.08", "eventTime": format!("2026-09-01T10:0{number}:00Z"), "eventID": format!("e{number}"),
            "eventSource": source, "eventName": name, "awsRegion": "eu-west-1", "sourceIPAddress": "198.51.100.7",
            "userAgent": "aws-cli/2.17.9", "recipientAccountId": "111122223333", "readOnly": false,
            "userIdentity": {"type": kind, "accountId": "111122223333", "userName": "mira",
                             "arn": "arn:aws:iam::111122223333:user/mira"},
        })
    };
    let records = [
        record(1, "iam.amazonaws.com", "CreateUser", "IAMUser"),
        record(2, "cloudtrail.amazonaws.com", "StopLogging", "IAMUser"),
        record(3, "ec2.amazonaws.com", "DeleteFlowLogs", "IAMUser"),
        record(4, "iam.amazonaws.com", "CreateAccessKey", "Root"),
    ];
    let file = folder.join("mixed.json");
    std::fs::write(&file, json!({ "Records": records }).to_string()).unwrap();
    file.display().to_string()
}

#[test]
fn no_word_is_broken_and_no_line_ends_with_blanks_at_any_width() {
    let folder = tempfile::tempdir().unwrap();
    let file = mixed_trail(folder.path());
    let config = folder.path().join("tawny.toml");
    let lake = folder.path().join("lake");
    let text = format!("lake = '{}'\n[[source]]\npath = '{file}'\n", lake.display());
    std::fs::write(&config, text).unwrap();
    let sql = "SELECT \"eventName\", \"sourceIPAddress\", userIdentity.arn, \"eventID\" FROM cloudtrail";
    let commands: [&[&str]; 6] = [
        &["hunt", TRAIL],
        &["hunt", &file],
        &["rules", "list"],
        &["query", sql, &file],
        &["inspect", &file],
        &["nightly", "--config", config.to_str().unwrap(), "--dry-run"],
    ];
    for arguments in commands {
        let whole = stdout(&run(arguments));
        let words: std::collections::BTreeSet<&str> = whole.split_whitespace().collect();
        for columns in [60, 80, 100, 120, 160] {
            let text = stdout(&run_at(Some(columns), arguments));
            assert!(text.lines().all(|line| line.trim_end() == line), "{arguments:?} at {columns}:\n{text}");
            let table = text.lines().filter(|line| !line.starts_with('(') && !line.contains('─'));
            for word in table.flat_map(str::split_whitespace) {
                // Times are shorter in tables of one day, at all widths.
                assert!(words.contains(word), "{word:?} of {arguments:?} at {columns}:\n{text}");
            }
            if text.contains('─') {
                let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= usize::from(columns), "{widest} in {columns} of {arguments:?}:\n{text}");
            }
        }
    }
}

#[test]
fn findings_are_sorted_by_severity_and_filtered_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = mixed_trail(folder.path());
    let severities = |more: &[&str]| {
        let text = shown(&[&["hunt", &file, "--format", "jsonl"], more].concat());
        json_lines(&text).iter().map(|finding| finding["severity"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let rank = |name: &String| ["Critical", "High", "Medium", "Low", "Info"].iter().position(|it| it == name).unwrap();
    let by_time = severities(&[]);
    let mut sorted = by_time.clone();
    sorted.sort_by_key(rank);
    assert_ne!(by_time, sorted, "the trail has lower severities first");
    assert_eq!(severities(&["--sort", "severity"]), sorted);
    let wanted: Vec<String> = sorted.into_iter().filter(|name| rank(name) <= 1).collect();
    assert_eq!(severities(&["--sort", "severity", "--min-severity", "high"]), wanted);

    let output = run(&["hunt", &file, "--min-severity", "high"]);
    let summary = stderr(&output);
    let left_out = by_time.len() - wanted.len();
    assert!(summary.contains(&format!("{left_out} findings below High left out")), "{summary}");
    assert!(summary.contains(&format!("{} findings of ", wanted.len())), "{summary}");
    assert!(summary.contains("Critical") || summary.contains("High"), "{summary}");
    assert!(summary.lines().any(|line| line.trim() == "1  Tawny.CloudTrail.Stopped"), "{summary}");
    let high = ["hunt", &file, "--rule", "Tawny.CloudTrail.Stopped", "--fail-on-findings"];
    assert_eq!(code(&run(&high)), 1);
    assert_eq!(code(&run(&[&high[..], &["--min-severity", "Critical"]].concat())), 0);
    assert_eq!(code(&run(&["hunt", &file, "--min-severity", "urgent"])), 2);
}

#[test]
fn one_finding_is_shown_with_its_events_and_the_notes_of_its_rule() {
    let findings = json_lines(&shown(&["hunt", TRAIL, "--format", "jsonl"]));
    let table = shown(&["hunt", TRAIL]);
    for finding in &findings {
        let id = finding["finding_id"].as_str().unwrap();
        let short = &id[..tawny::report::SHORT_ID];
        assert!(table.contains(short), "{table}");
        for note in ["description", "runbook", "reference"] {
            assert!(!finding[note].as_str().unwrap().is_empty(), "{note}: {finding}");
        }
        assert!(finding["tags"].is_array(), "{finding}");
        let text = shown(&["hunt", TRAIL, "--show", short]);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (all, runbook) = (words(&text), words(finding["runbook"].as_str().unwrap()));
        assert!(all.windows(runbook.len()).any(|part| part == runbook), "{text}");
        for event in finding["event_ids"].as_array().unwrap() {
            assert!(text.contains(event.as_str().unwrap()), "{text}");
        }
        assert_eq!(text.matches("Z*").count(), 1, "the trigger is marked: {text}");
        let as_json: Value = serde_json::from_str(&shown(&["hunt", TRAIL, "--show", id, "--format", "json"])).unwrap();
        assert_eq!(as_json["finding_id"], finding["finding_id"]);
        assert_eq!(as_json["events"].as_array().unwrap().len() as u64, finding["count"].as_u64().unwrap());
        // At no width is a name apart from its value.
        let narrow = stdout(&run_at(Some(60), &["hunt", TRAIL, "--show", short]));
        assert!(narrow.lines().any(|line| line.starts_with("severity") && line.ends_with("High")), "{narrow}");
        // On a terminal of 80 columns nothing overflows, and the ids of events are there.
        let usual = stdout(&run_at(Some(80), &["hunt", TRAIL, "--show", short]));
        assert!(usual.lines().all(|line| line.chars().count() <= 80), "{usual}");
        assert!(usual.contains("userIdentity.type: "), "{usual}");
        for event in finding["event_ids"].as_array().unwrap() {
            assert!(usual.contains(event.as_str().unwrap()), "{usual}");
        }
    }
    for (id, reason) in [("ffffffffffff", "no finding of this hunt"), ("", "no finding of this hunt")] {
        let output = run(&["hunt", TRAIL, "--show", id]);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}

#[test]
fn the_ending_of_a_file_chooses_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let ids = |text: &str| text.matches("\"finding_id\"").count();
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    for name in ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.txt"] {
        shown(&["hunt", TRAIL, "-o", &path(name)]);
    }
    assert_eq!((ids(&read("a.jsonl")), ids(&read("a.json"))), (2, 2));
    assert_eq!((json_lines(&read("a.jsonl")).len(), read("a.csv").lines().count()), (2, 3));
    assert!(read("a.json").starts_with('[') && read("a.txt").starts_with("severity"));
    let file = std::fs::File::open(path("a.parquet")).unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<_> = batches.map(Result::unwrap).collect();
    let whole = batches[0].column_by_name("finding").unwrap().as_string::<i32>();
    assert_eq!((batches.len(), whole.len()), (1, 2));
    let from_parquet: Value = serde_json::from_str(whole.value(0)).unwrap();
    assert_eq!(from_parquet, json_lines(&read("a.jsonl"))[0]);

    shown(&["query", "SELECT 1 AS n FROM cloudtrail LIMIT 1", TRAIL, "-o", &path("n.json")]);
    assert_eq!(read("n.json"), "[{\"n\":1}]\n");
    shown(&["inspect", TRAIL, "-o", &path("i.json")]);
    assert!(serde_json::from_str::<Value>(&read("i.json")).is_ok());

    std::fs::create_dir(path("folder")).unwrap();
    for (arguments, reason) in [
        (&["hunt", "no-such-data", "--format", "csv", "-o", &path("b.json")][..], "contradicts"),
        (&["hunt", "no-such-data", "--format", "table", "-o", &path("b.csv")], "contradicts"),
        (&["inspect", "no-such-data", "-o", &path("b.csv")], "cannot write the format"),
        (&["hunt", "no-such-data", "--format", "parquet"], "requires `--output FILE`"),
        // Before the data is looked for.
        (&["hunt", "no-such-data", "-o", &path("folder")], "it is a folder"),
        (&["query", "SELECT 1", "no-such-data", "-o", &path("folder")], "it is a folder"),
        (&["inspect", "no-such-data", "-o", &path("folder")], "it is a folder"),
        (&["backtest", "no-such-data", "--report", &path("folder")], "it is a folder"),
    ] {
        let output = run(arguments);
        assert!(code(&output) == 2 && stderr(&output).contains(reason), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn parquet_of_many_findings_has_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let record = |number: usize| {
        json!({
            "eventTime": "2026-09-01T10:00:00Z", "eventID": format!("e{number}"), "eventName": "Act",
            "recipientAccountId": "111122223333", "userIdentity": {"type": "IAMUser", "userName": format!("user{number}")},
        })
    };
    let file = folder.path().join("trail.json");
    std::fs::write(&file, json!({ "Records": (0..2_300).map(record).collect::<Vec<_>>() }).to_string()).unwrap();
    let rule = folder.path().join("rule.yml");
    let text = "AnalysisType: rule\nRuleID: Each\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\n\
                GroupBy: [{KeyPath: userIdentity.userName}]\nDetection: [{Key: eventName, Condition: Equals, Value: Act}]\n";
    std::fs::write(&rule, text).unwrap();
    let to = folder.path().join("found.parquet");
    let [file, rule, to] = [&file, &rule, &to].map(|path| path.to_str().unwrap().to_owned());
    shown(&["hunt", &file, "--rules", &rule, "-o", &to]);
    let batches = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&to).unwrap()).unwrap().build().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for batch in batches {
        let batch = batch.unwrap();
        let found = batch.column_by_name("finding_id").unwrap().as_string::<i32>();
        ids.extend(found.iter().flatten().map(str::to_owned));
    }
    assert_eq!(ids.len(), 2_300);
}

#[test]
fn window_options_ask_for_a_rule_when_several_would_run() {
    for option in [["--threshold", "3"], ["--period", "1h"], ["--window", "dedup"]] {
        let arguments = [&["hunt", TRAIL, "--rules", "rules"], &option[..]].concat();
        let output = run(&arguments);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains("--rule ID") && stderr(&output).contains("--override"), "{}", stderr(&output));
        let named = [&arguments[..], &["--rule", "AWS.Unsuccessful.MFA.attempt"]].concat();
        assert_eq!(code(&run(&named)), 0);
    }
}

#[test]
fn disabled_rules_are_named_only_on_request() {
    let quiet = stderr(&run(&["hunt", TRAIL]));
    let verbose = stderr(&run(&["hunt", TRAIL, "-v"]));
    assert!(!quiet.contains("disabled") && verbose.contains("disabled rules skipped"), "{quiet}{verbose}");
}

#[test]
fn disabled_rules_are_marked_in_lists_of_any_width() {
    let listed: Vec<Value> = serde_json::from_str(&shown(&["rules", "list", "--format", "json"])).unwrap();
    let disabled: Vec<&str> =
        listed.iter().filter(|rule| rule["enabled"] == false).map(|rule| rule["rule_id"].as_str().unwrap()).collect();
    assert!(disabled.len() > 1 && disabled.len() < listed.len());
    for columns in [None, Some(160), Some(120), Some(100), Some(80)] {
        let output = run_at(columns, &["rules", "list"]);
        let table = stdout(&output);
        // Where a table does not fit, each rule is a paragraph. A narrow table folds the mark into the line below.
        let is_list = table.starts_with("rule ") && table.contains("\n\n");
        let text_of = |id: &str| -> String {
            if is_list {
                let is_of_rule = |text: &&str| text.lines().next().unwrap().split(' ').next_back() == Some(id);
                return table.split("\n\n").find(is_of_rule).unwrap().to_owned();
            }
            let line = table.lines().position(|line| line.split(' ').next() == Some(id)).unwrap();
            let next = table.lines().skip(line + 1).take_while(|line| line.starts_with(' '));
            table.lines().skip(line).take(1).chain(next).collect()
        };
        for rule in &listed {
            let id = rule["rule_id"].as_str().unwrap();
            let text = text_of(id);
            assert_eq!(text.contains("disabled)"), disabled.contains(&id), "{columns:?}: {text}");
        }
        let said = format!("{} rules, {} disabled: ", listed.len(), disabled.len());
        assert!(stderr(&output).contains(&said), "{}", stderr(&output));
    }
}

#[test]
fn table_of_exceptions_is_as_wide_as_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("exceptions.yml");
    let id = "an exception of the user anaya whose many failures were explained by the owner of the account";
    let text = format!(
        "Exceptions:\n  - ID: {id}\n    Rules: [AWS.Unsuccessful.MFA.attempt]\n    When: [{{Key: actor, Condition: Equals, Value: anaya}}]\n    \
         Reason: known\n    Owner: us\n    Until: 2030-01-01\n"
    );
    std::fs::write(&file, text).unwrap();
    let hunt = ["hunt", TRAIL, "--exceptions", file.to_str().unwrap()];
    for columns in [60, 80, 100, 160] {
        let said = stderr(&run_at(Some(columns), &hunt));
        let table: Vec<&str> = said.lines().skip_while(|line| !line.contains("events removed")).take(2).collect();
        let rule = said.lines().find(|line| line.contains("───")).unwrap_or_else(|| panic!("{said}"));
        assert!(!table.is_empty() || columns == 60, "{said}");
        let width = rule.chars().count();
        assert!(width <= usize::from(columns), "{columns}: {said}");
        assert!(columns < 160 || width > 100, "it uses the width: {said}");
    }
}

#[test]
fn help_has_the_options_of_its_command_in_groups() {
    let help = |arguments: &[&str]| shown(&[arguments, &["--help"]].concat());
    let reads_data = ["hunt", "backtest", "query", "inspect", "convert", "nightly"];
    for command in reads_data {
        let text = help(&[command]);
        for option in ["--threads", "--memory", "--in-flight", "--max-object-size", "--s3-endpoint"] {
            assert!(text.contains(option), "{command} {option}");
        }
        assert!(text.contains("\nResources:\n") && text.contains("\nS3:\n"), "{text}");
    }
    for arguments in [&["rules", "show"][..], &["layouts"], &["completions"], &["man"], &["exceptions", "list"]] {
        let text = help(arguments);
        for option in ["--threads", "--memory", "--in-flight", "--max-object-size", "--max-record-size"] {
            assert!(!text.contains(option), "{arguments:?} {option}");
        }
    }
    let text = help(&["hunt"]);
    let headings = ["Data", "Rules", "Windows", "Time range", "Output", "Limits", "Resources", "S3"];
    let places: Vec<usize> = headings.iter().map(|name| text.find(&format!("\n{name}:\n")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    let group = |text: &str, heading: &str| {
        let (_, rest) = text.split_once(&format!("\n{heading}:\n")).unwrap();
        rest.split("\n\n").take_while(|part| part.starts_with("  ")).collect::<String>()
    };
    let text = help(&["query"]);
    for (heading, options) in
        [("Data", "--with-duplicates"), ("Rules", "--rule <ID>"), ("Time range", "--last"), ("Output", "--format")]
    {
        assert!(group(&text, heading).contains(options), "{heading}: {text}");
    }
    let text = help(&["tune"]);
    let of = |heading: &str| group(&text, heading);
    for (heading, options) in
        [("Data", "--layout"), ("Rules", "--rule <ID>"), ("Windows", "--thresholds"), ("Output", "--format")]
    {
        assert!(of(heading).contains(options), "{heading}: {text}");
    }
    for option in ["--labels", "--max-exceptions", "--write", "--owner", "--until"] {
        assert!(of("Options").contains(option), "{option}: {text}");
    }
    let commands = help(&[]);
    let (_, codes) = commands.split_once("\nExit codes:\n").unwrap();
    assert!(codes.lines().all(|line| line.len() <= 80), "{codes}");
    let order: Vec<usize> = ["convert", "hunt", "rules", "query", "completions"]
        .iter()
        .map(|name| commands.find(&format!("\n  {name} ")).unwrap())
        .collect();
    assert!(order.is_sorted(), "{commands}");
    // Hidden options still work everywhere.
    assert_eq!(code(&run(&["layouts", "--memory", "1G"])), 0);
}

#[test]
fn rules_are_printed_as_files_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let id = "AWS.Unsuccessful.MFA.attempt";
    let file = std::fs::read_to_string("rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml").unwrap();
    assert_eq!(shown(&["rules", "show", id]), file);
    let table = shown(&["rules", "show", id, "--format", "table"]);
    assert!(table.starts_with("rule") && table.contains("runbook"), "{table}");

    let to = folder.path().join("rules").display().to_string();
    shown(&["rules", "export", &to]);
    let list = |path: &[&str]| shown(&[&["rules", "list", "--format", "json"], path].concat());
    let ids = |text: &str| {
        let rules: Vec<Value> = serde_json::from_str(text).unwrap();
        rules.iter().map(|rule| rule["rule_id"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&list(&[&to])), ids(&list(&[])));
    let again = run(&["rules", "export", &to]);
    assert!(code(&again) == 2 && stderr(&again).contains("already exists"), "{}", stderr(&again));
}

#[test]
fn results_of_tests_are_json_and_junit_too() {
    let folder = tempfile::tempdir().unwrap();
    let rule = |id: &str, tests: &str| {
        let text = format!(
            "AnalysisType: rule\nRuleID: {id}\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\n\
             GroupBy: [{{Key: account}}]\nThreshold: 3\nDedupPeriodMinutes: 10\n\
             Detection: [{{Key: eventName, Condition: Equals, Value: Act}}]\n{tests}"
        );
        std::fs::write(folder.path().join(format!("{id}.yml")), text).unwrap();
    };
    let repeated = |times: u32, every: &str, count: u32| {
        format!(
            "Tests:\n  - Name: several\n    ExpectedFindings: {{Count: {count}}}\n    Logs:\n      - \
             {{eventName: Act, eventID: e, eventTime: \"2026-09-01T10:00:00Z\", Repeat: {{Times: {times}, Every: {every}}}}}\n"
        )
    };
    rule("Passes", &repeated(3, "1m", 1));
    rule("Apart", &repeated(3, "5m", 0));
    rule("Fails", &repeated(2, "1m", 1));
    rule("Untested", "");
    let path = folder.path().to_str().unwrap();
    let output = run(&["test", path, "--format", "json"]);
    assert!(code(&output) == 1 && stderr(&output).contains("rule `Untested` has no tests"), "{}", stderr(&output));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let passed = |rule: &str| {
        let tests = results["tests"].as_array().unwrap();
        tests.iter().find(|test| test["rule_id"] == rule).unwrap()["passed"].as_bool().unwrap()
    };
    assert!(passed("Passes") && passed("Apart") && !passed("Fails"), "{results}");
    assert_eq!(results["rules_without_tests"], json!(["Untested"]));
    let junit = stdout(&run(&["test", path, "--format", "junit"]));
    assert!(junit.contains("tests=\"4\"") && junit.contains("failures=\"1\""), "{junit}");
    assert!(junit.contains("the rule has no tests") && junit.contains("expected 1 finding, got 0 findings"), "{junit}");
    let file = folder.path().join("junit.xml");
    let written = run(&["test", path, "--format", "junit", "-o", file.to_str().unwrap()]);
    assert!(code(&written) == 1 && written.stdout.is_empty(), "{}", stdout(&written));
    assert_eq!(std::fs::read_to_string(file).unwrap(), junit);

    for (repeat, reason) in [
        ("{Times: 0, Every: 1m}", "`Times` must be a whole number"),
        ("{Times: 2, Every: soon}", "`Every` must be a period"),
        ("{Times: 2}", "Every"),
        ("{Times: 99999, Every: 1s}", "`Times` must be a whole number"),
    ] {
        rule("Wrong", &repeated(2, "1m", 1).replace("{Times: 2, Every: 1m}", repeat));
        let output = run(&["rules", "lint", path]);
        assert!(code(&output) == 2 && stderr(&output).contains(reason), "{}", stderr(&output));
    }
}

#[test]
fn python_rule_that_fails_its_tests_is_a_failed_test() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("rule.py", "def rule(event):\n    return event.get('eventName') == 'Act'\n");
    put(
        "rule.yml",
        "AnalysisType: rule\nRuleID: In.Python\nFilename: rule.py\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\n\
         Tests: [{Name: wrong, ExpectedResult: false, Log: {eventName: Act}}]\n",
    );
    let file = folder.path().join("rule.yml");
    for path in [folder.path(), &file] {
        let output = run(&["test", path.to_str().unwrap()]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        assert!(stdout(&output).contains("FAIL") && stdout(&output).contains("`wrong`"), "{}", stdout(&output));
        assert_eq!(code(&run(&["hunt", TRAIL, "--rules", path.to_str().unwrap()])), 2);
    }
}

#[test]
fn lint_lists_unknown_keys_with_the_other_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rule.yml");
    let text = "AnalysisType: rule\nRuleID: A\nEnabeld: true\nSeverity: Urgent\nLogTypes: [AWS.CloudTrail]\nOwner: me\n\
                Detection: [{Key: eventName, Condition: Eqals, Value: Act}]\n";
    std::fs::write(&file, text).unwrap();
    let output = run(&["rules", "lint", file.to_str().unwrap()]);
    let errors = stderr(&output);
    assert_eq!(code(&output), 2);
    for part in ["`Enabeld`", "`Owner`", "Urgent", "Eqals"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
}

#[test]
fn backtest_applies_the_overrides_of_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tawny.toml");
    let text = "lake = 'lake'\n[overrides.\"AWS.Unsuccessful.MFA.attempt\"]\nthreshold = 4\n\
                [overrides.\"Tawny.IAM.UserCreated\"]\nenabled = false\n";
    std::fs::write(&config, text).unwrap();
    let arguments = ["backtest", TRAIL, "--windows", "sliding", "--format", "json"];
    let own = |more: &[&str]| {
        let told: Value = serde_json::from_str(&shown(&[&arguments, more].concat())).unwrap();
        told.to_string()
    };
    let plain = own(&[]);
    let with = own(&["--config", config.to_str().unwrap()]);
    assert_ne!(plain, with);
    assert_eq!(with, own(&["--override", "AWS.Unsuccessful.MFA.attempt:Threshold=4"]));
}

#[test]
fn compaction_says_when_there_is_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake").display().to_string();
    shown(&["convert", TRAIL, "--lake", &lake]);
    let text = shown(&["compact", &lake, "--before", "2026-09-01", "--dry-run"]);
    assert!(text.starts_with("nothing to merge"), "{text}");
}
