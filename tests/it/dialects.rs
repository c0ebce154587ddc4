//! SQL for other engines: it is reviewed, quotes values, and gives the same findings on engines that are available.

use std::process::Command;

use serde_json::{Value, json};
use tawny::rule::{Rule, WindowKind, catalog, panther};
use tawny::sql::dialect::Dialect;
use tawny::sql::dialect::export::{Target, findings};
use tawny::time::Range;

use crate::optional;
use crate::records::failed_sign_in;

const ALL: [Dialect; 4] = [Dialect::Duckdb, Dialect::Athena, Dialect::Spark, Dialect::Clickhouse];

fn target(dialect: Dialect, layout: &str, data: Option<&str>) -> Target {
    Target { dialect, layout: layout.to_owned(), data: data.map(str::to_owned), live_files: None }
}

fn written(rule: &Rule, dialect: Dialect) -> Result<String, String> {
    findings(rule, &target(dialect, "lake", None), Range::default()).map_err(|error| error.to_string())
}

fn rule(detection: &str) -> Rule {
    let text = format!(
        "RuleID: a\nEnabled: true\nSeverity: High\nAnalysisType: rule\nLogTypes: [AWS.CloudTrail]\nDetection: [{detection}]\n"
    );
    panther::parse("rule", &text).unwrap().rule
}

#[test]
fn dialect_sql_is_reviewed() {
    let range = Range { from: Some("2026-09-01".parse().unwrap()), to: Some("2026-09-02".parse().unwrap()) };
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("../golden/dialects");
    settings.bind(|| {
        for dialect in ALL {
            let mut rule = catalog::default().unwrap();
            for (layout, kind) in
                [("lake", WindowKind::Sliding), ("lake", WindowKind::Tumbling), ("athena", WindowKind::Sliding)]
            {
                rule.window.kind = kind;
                let sql = findings(&rule, &target(dialect, layout, None), range).unwrap();
                insta::assert_snapshot!(format!("{dialect}.{layout}.{kind}"), sql);
            }
        }
        let mut rule = catalog::default().unwrap();
        rule.window.kind = WindowKind::Dedup;
        insta::assert_snapshot!("duckdb.lake.dedup", written(&rule, Dialect::Duckdb).unwrap());
    });
}

/// Returns the string literals of SQL as the engine reads them, or `None` if the SQL ends inside one.
fn strings(dialect: Dialect, sql: &str) -> Option<Vec<String>> {
    let escapes = matches!(dialect, Dialect::Spark | Dialect::Clickhouse);
    let (mut found, mut chars) = (Vec::new(), sql.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '-' if chars.peek() == Some(&'-') => while chars.next().is_some_and(|c| c != '\n') {},
            '"' | '`' => while chars.next()? != c {},
            '\'' => {
                let mut text = String::new();
                loop {
                    match chars.next()? {
                        '\'' if !escapes && chars.peek() == Some(&'\'') => text.push(chars.next()?),
                        '\'' => break,
                        '\\' if escapes => match chars.next()? {
                            'u' => {
                                let code: String = chars.by_ref().take(4).collect();
                                text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                            }
                            c => text.push(c),
                        },
                        c => text.push(c),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    Some(found)
}

#[test]
fn values_stay_values() {
    for value in ["it's", "a\\", "\\' OR 1=1 --", "'; DROP TABLE t; --", "/* */ $$ ${env:HOME} $tag$", "`\"\u{e9}"] {
        for condition in ["Equals", "StartsWith", "Contains"] {
            let detection = json!({"Key": "eventName", "Condition": condition, "Value": value}).to_string();
            for dialect in ALL {
                let sql = written(&rule(&detection), dialect).unwrap();
                let found = strings(dialect, &sql).unwrap_or_else(|| panic!("{dialect}: {sql}"));
                assert!(found.contains(&value.to_owned()), "{dialect}: {value}: {sql}");
                assert!(dialect != Dialect::Spark || !sql.contains("${"), "Spark would substitute a variable: {sql}");
            }
        }
    }
}

#[test]
fn hidden_characters_are_escaped_in_each_dialect() {
    let detection = json!({"Key": "eventName", "Condition": "Equals", "Value": "it's\n\u{202e}\u{e0041}"}).to_string();
    for (dialect, written_as) in [
        (Dialect::Duckdb, "concat('it''s', chr(10), chr(8238), chr(917569))"),
        (Dialect::Athena, r"U&'it''s\+00000A\+00202E\+0E0041'"),
        (Dialect::Spark, r"'it\'s\U0000000A\U0000202E\U000E0041'"),
        (Dialect::Clickhouse, r"'it\'s\x0A\xE2\x80\xAE\xF3\xA0\x81\x81'"),
    ] {
        let sql = written(&rule(&detection), dialect).unwrap();
        assert!(sql.contains(written_as), "{dialect}: {sql}");
    }
}

#[test]
fn table_names_and_paths_stay_quoted() {
    let rule = catalog::default().unwrap();
    let sql = |dialect, data| findings(&rule, &target(dialect, "lake", Some(data)), Range::default()).unwrap();
    assert!(sql(Dialect::Duckdb, "s3://b/it's").contains("read_parquet('s3://b/it''s/date=*/*.parquet',"));
    assert!(sql(Dialect::Clickhouse, "s3://b/it's").contains(r"s3('s3://b/it\'s/date=*/*.parquet', 'Parquet')"));
    assert!(sql(Dialect::Clickhouse, "/b/*.parquet").contains("file('/b/*.parquet', 'Parquet')"));
    assert!(sql(Dialect::Clickhouse, "file:///b/lake").contains("file('/b/lake/date=*/*.parquet', 'Parquet')"));
    let variable = findings(&rule, &target(Dialect::Spark, "lake", Some("/a/${b}")), Range::default()).unwrap_err();
    assert!(variable.to_string().contains("Spark puts a variable in place"), "{variable}");
    assert!(sql(Dialect::Spark, "/a`b").contains("parquet.`/a``b/date=*/*.parquet`"));
    assert!(sql(Dialect::Athena, "a\"b.c").contains("FROM \"a\"\"b\".\"c\""));
    let files = findings(&rule, &target(Dialect::Athena, "lake", Some("s3://b/lake")), Range::default()).unwrap_err();
    assert!(files.to_string().contains("Athena reads tables, not files"), "{files}");
}

#[test]
fn unsupported_rules_are_refused_by_name() {
    let below = |condition: &str, value: &str| {
        format!("{{KeyPath: requestParameters.a, Condition: {condition}, Value: {value}}}")
    };
    for (detection, what) in [
        (below("Equals", "5"), "`5` as a value of `requestParameters.a`"),
        (below("Contains", "x"), "`requestParameters.a`, a text or a list"),
        (below("IsGreaterThan", "5"), "`requestParameters.a` as a number"),
        (below("IsIPAddressInCIDR", "10.0.0.0/8"), "`requestParameters.a` as an address"),
        ("{KeyPath: 'requestParameters.a[0]', Condition: Equals, Value: x}".to_owned(), "the path"),
    ] {
        for dialect in ALL {
            let refused = written(&rule(&detection), dialect).unwrap_err();
            assert!(refused.contains(what) && refused.contains(&dialect.to_string()), "{refused}");
        }
    }
    let hours = rule("{Key: eventTime, Condition: Hour, Value: 2, Zone: Europe/Berlin}");
    let refused = written(&hours, Dialect::Spark).unwrap_err();
    assert!(refused.contains("the hour of `eventTime`, which Spark takes in the zone of the session"), "{refused}");
    let athena = written(&hours, Dialect::Athena).unwrap();
    assert!(athena.contains("CAST(hour(at_timezone(from_unixtime_nanos("), "{athena}");
    let text = below("EndsWith", "x");
    assert!(written(&rule(&text), Dialect::Duckdb).is_ok());
    assert!(written(&rule(&text), Dialect::Spark).unwrap_err().contains("a part of `requestParameters.a`"));
    let mut dedup = catalog::default().unwrap();
    dedup.window.kind = WindowKind::Dedup;
    assert!(written(&dedup, Dialect::Athena).unwrap_err().contains("windows of the kind `dedup`"));
    let other = findings(&dedup, &target(Dialect::Duckdb, "panther", None), Range::default()).unwrap_err();
    assert!(other.to_string().contains("the layout `panther`"), "{other}");
    let unique = std::fs::read_to_string("tests/data/everything.yml").unwrap();
    assert!(written(&panther::parse("rule", &unique).unwrap().rule, Dialect::Duckdb).is_err());
}

fn tawny(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns failed sign-ins of a few users, many a period apart or at one time, some duplicated.
fn records() -> Vec<Value> {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut records = Vec::new();
    for number in 0..400 {
        let (day, minute, second) = (random(2) + 1, random(24 * 12) * 5, random(6) / 5);
        let time = format!("2026-09-0{day}T{:02}:{:02}:0{second}Z", minute / 60, minute % 60);
        let user = ["anaya", "Anaya", "bo", "it's"][usize::try_from(random(4)).unwrap()];
        let record = failed_sign_in(user, &time, &format!("{number}"));
        records.extend((random(5) == 0).then(|| record.clone()));
        records.push(record);
    }
    records
}

#[test]
fn engines_find_the_same_findings() {
    let Some(python) = optional::dialects_python("findings in other SQL engines") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("trail.json"), json!({ "Records": records() }).to_string()).unwrap();
    tawny(&["convert", &path("trail.json"), "--lake", &path("lake")]);
    for (window, threshold) in
        [("sliding", "2"), ("sliding", "3"), ("tumbling", "2"), ("tumbling", "3"), ("dedup", "2"), ("dedup", "3")]
    {
        let hunt = [
            "--rule",
            catalog::DEFAULT,
            "--window",
            window,
            "--threshold",
            threshold,
            "--from",
            "2026-09-01T06:00:00Z",
        ];
        let hunt = tawny(&[&["hunt", &path("lake"), "--format", "jsonl"], &hunt[..]].concat());
        let shown = |line: &str| {
            let f: Value = serde_json::from_str(line).unwrap();
            let group = &f["group"];
            json!([
                group["account"],
                group["actor"],
                f["count"],
                f["first_event"],
                f["last_event"],
                f["trigger_time"],
                f["event_ids"]
            ])
            .to_string()
        };
        let mut expected: Vec<String> = hunt.lines().map(shown).collect();
        expected.sort();
        assert!(expected.len() > 5, "{window} {threshold}: {}", expected.len());
        for engine in ["duckdb", "clickhouse", "spark"] {
            if window == "dedup" && engine != "duckdb" {
                continue;
            }
            let sql = ["sql", catalog::DEFAULT, "--window", window, "--threshold", threshold, "--dialect", engine];
            let rest = ["--data", &path("lake"), "--from", "2026-09-01T06:00:00Z"];
            std::fs::write(path("query.sql"), tawny(&[&sql[..], &rest].concat())).unwrap();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/dialects.py");
            let output = Command::new(&python).args([script, engine, &path("query.sql")]).output().unwrap();
            if output.status.code() == Some(9) && engine != "duckdb" {
                let check = format!("findings in {engine}, {window} windows, threshold {threshold}");
                optional::skip(&check, "this Python does not have it");
                continue;
            }
            assert!(output.status.success(), "{engine}: {}", String::from_utf8_lossy(&output.stderr));
            let lines = String::from_utf8(output.stdout).unwrap();
            let row = |line: &str| serde_json::from_str::<Value>(line).unwrap().to_string();
            let mut found: Vec<String> = lines.lines().map(row).collect();
            found.sort();
            assert_eq!(found, expected, "{engine} {window} {threshold}");
        }
    }
}

#[test]
fn engines_take_hours_and_weekdays_in_time_zones() {
    let Some(python) = optional::dialects_python("hours and weekdays in other SQL engines") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Half hours around two changes of the clocks in Berlin.
    let times = ["2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25"]
        .into_iter()
        .flat_map(|day| (0..48).map(move |half| format!("{day}T{:02}:{:02}:00Z", half / 2, half % 2 * 30)));
    let records: Vec<Value> =
        times.enumerate().map(|(number, time)| failed_sign_in("anaya", &time, &number.to_string())).collect();
    std::fs::write(path("trail.json"), json!({ "Records": records }).to_string()).unwrap();
    tawny(&["convert", &path("trail.json"), "--lake", &path("lake")]);
    for (condition, values) in [("Hour", "[2, 23-0]"), ("Weekday", "[Sun]")] {
        for zone in ["UTC", "Europe/Berlin"] {
            let text = format!(
                "AnalysisType: rule\nRuleID: Example.Times\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
                 DedupPeriodMinutes: 15\nDetection:\n  \
                 - {{Key: eventTime, Condition: {condition}, Values: {values}, Zone: {zone}}}\n"
            );
            std::fs::write(path("rule.yml"), text).unwrap();
            let ids = |text: &str, ids: fn(&Value) -> &Value| {
                let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                let mut all: Vec<String> =
                    lines.flat_map(|row| ids(&row).as_array().unwrap().clone()).map(|id| id.to_string()).collect();
                all.sort();
                all
            };
            let hunt = tawny(&["hunt", &path("lake"), "--rules", &path("rule.yml"), "--format", "jsonl"]);
            let expected = ids(&hunt, |finding| &finding["event_ids"]);
            assert!(expected.len() > 10, "{condition} {zone}: {expected:?}");
            for engine in ["duckdb", "clickhouse"] {
                let sql = tawny(&["sql", &path("rule.yml"), "--dialect", engine, "--data", &path("lake")]);
                std::fs::write(path("query.sql"), sql).unwrap();
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/dialects.py");
                let output = Command::new(&python).args([script, engine, &path("query.sql")]).output().unwrap();
                if output.status.code() == Some(9) && engine != "duckdb" {
                    optional::skip(&format!("{condition} in {engine}"), "this Python does not have it");
                    continue;
                }
                assert!(output.status.success(), "{engine}: {}", String::from_utf8_lossy(&output.stderr));
                let found = String::from_utf8(output.stdout).unwrap();
                assert_eq!(
                    ids(&found, |row| row.as_array().unwrap().last().unwrap()),
                    expected,
                    "{engine} {condition} {zone}"
                );
            }
        }
    }
}
