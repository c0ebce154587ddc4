//! Errors in rules have a position. Every message is reviewed in `tests/golden/rule_errors.snap`.

use std::fmt::Write as _;

use tawny::rule::{lint, panther};

const RULE: &str = "\
AnalysisType: rule
RuleID: A.B
Enabled: true
Severity: High
LogTypes: [AWS.CloudTrail]
Threshold: 2
DedupPeriodMinutes: 15
GroupBy: [{Key: account}]
Detection:
  - Key: eventName
    Condition: Equals
    Value: Login
Tests:
  - {Name: one, ExpectedResult: true, Log: {eventName: Login}}
";

/// Each replaces a part of [`RULE`] with something invalid.
const WRONG: &[(&str, &str)] = &[
    // The text.
    (RULE, ""),
    (RULE, "# nothing\n"),
    (RULE, "just text"),
    (RULE, "[a, b]"),
    (RULE, "A: 1\n---\nB: 2\n"),
    ("[AWS.CloudTrail]", "[AWS.CloudTrail"),
    ("[AWS.CloudTrail]", "*types"),
    ("[AWS.CloudTrail]", "&types [*types]"),
    ("[AWS.CloudTrail]", "!!set {AWS.CloudTrail}"),
    ("Threshold: 2", "Threshold: 2\nThreshold: 3"),
    ("Threshold: 2", "? [a]\n: b"),
    ("Threshold: 2", "Hunt:\n\tWindow: dedup"),
    // The rule's own keys.
    ("AnalysisType: rule\n", ""),
    ("AnalysisType: rule", "AnalysisType: correlation_rule"),
    ("RuleID: A.B\n", ""),
    ("RuleID: A.B", "RuleID: [A]"),
    ("RuleID: A.B", "RuleID: 'A<B'"),
    ("Enabled: true\n", ""),
    ("Enabled: true", "Enabled: yes"),
    ("Severity: High\n", ""),
    ("Severity: High", "Severity: Grave"),
    ("[AWS.CloudTrail]", "[Okta.SystemLog]"),
    ("[AWS.CloudTrail]", "AWS.CloudTrail"),
    ("Threshold: 2", "Tresholds: 2"),
    ("Threshold: 2", "Wholly: 2"),
    ("Threshold: 2", "Threshold: 0"),
    ("Threshold: 2", "Threshold: two"),
    ("Threshold: 2", "Threshold: [2]"),
    ("Threshold: 2", "Tags: true"),
    ("Threshold: 2", "Threshold: 1.5"),
    ("Minutes: 15", "Minutes: 0"),
    ("Minutes: 15", "Minutes: 15m"),
    ("Threshold: 2", "Hunt: sliding"),
    ("Threshold: 2", "Hunt: {Window: hopping}"),
    ("Threshold: 2", "Hunt: {Windows: dedup}"),
    ("Threshold: 2", "Hunt: {Unique: 'a..b'}"),
    ("Threshold: 2", "Hunt: {Unique: [a]}"),
    ("Threshold: 2", "Hunt: {FollowedBy: []}"),
    ("Threshold: 2", "Hunt: {FollowedBy: [{Key: eventName, Condition: Exists}], Unique: a}"),
    ("Threshold: 2", "Hunt: {FollowedBy: [{Key: eventName, Condition: Exists}], Window: dedup}"),
    ("Threshold: 2", "Hunt: {Unique: a, Sum: b}"),
    ("Threshold: 2", "Filename: a.py"),
    ("Threshold: 2", "ScheduledQueries: [a]"),
    ("Threshold: 2", "BaseDetection: A.C"),
    ("Threshold: 2", "CreateAlert: maybe"),
    ("Threshold: 2", "Tags: one"),
    ("Threshold: 2", "Description: [a]"),
    ("Threshold: 2", "Reports: [a]"),
    ("Threshold: 2", "Reports: {MITRE ATT&CK: a}"),
    ("Threshold: 2", "SummaryAttributes: [[a]]"),
    ("Threshold: 2", "AlertTitle: 'by {actor'"),
    ("Threshold: 2", "AlertTitle: 'by {a..b}'"),
    ("Threshold: 2", "AlertContext: [{KeyName: a}]"),
    ("Threshold: 2", "AlertContext: [{KeyName: a, KeyValue: {Key: b, KeyPath: c}}]"),
    ("Threshold: 2", "AlertContext: [{KeyName: a, KeyValue: {Key: b}}, {KeyName: a, KeyValue: {Key: c}}]"),
    ("Threshold: 2", "DynamicSeverities: [{ChangeTo: Grave, Conditions: []}]"),
    ("Threshold: 2", "DynamicSeverities: [{ChangeTo: Low}]"),
    ("Threshold: 2", "InlineFilters: {All: []}"),
    ("[{Key: account}]", "[account]"),
    ("[{Key: account}]", "[{Key: account}, {KeyPath: Account}]"),
    ("[{Key: account}]", "[{Key: account, Name: a}]"),
    ("ExpectedResult: true", "ExpectedResult: 1"),
    ("Log: {eventName: Login}", "Log: text"),
    ("Name: one, ", ""),
    ("Log: {eventName: Login}", "Logs: [{eventTime: \"2026-09-01T10:00:00Z\"}]"),
    ("ExpectedResult: true, Log: {eventName: Login}", "Logs: [{eventTime: \"2026-09-01T10:00:00Z\"}]"),
    ("ExpectedResult: true, Log: {eventName: Login}", "ExpectedFindings: {Count: 0}"),
    ("ExpectedResult: true, Log: {eventName: Login}", "ExpectedFindings: {Count: 0}, Logs: []"),
    ("ExpectedResult: true, Log: {eventName: Login}", "ExpectedFindings: {Count: 0}, Logs: [text]"),
    ("ExpectedResult: true, Log: {eventName: Login}", "ExpectedFindings: {Count: 0}, Logs: [{eventName: Login}]"),
    ("ExpectedResult: true, Log: {eventName: Login}", "ExpectedFindings: {Count: 0}, Logs: [{eventTime: noon}]"),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: {}, Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: {Count: one}, Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: {Count: 2}, Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: {Count: 0, Events: 1}, Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: {Count: 1, Events: a}, Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: {Count: 1, Group: a}, Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: {Count: 1, Group: {acount: a}}, Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: [{Group: {account: [a]}}], Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    (
        "ExpectedResult: true, Log: {eventName: Login}",
        "ExpectedFindings: [{Count: 1}], Logs: [{eventTime: \"2026-09-01 10:00\"}]",
    ),
    // Expressions.
    ("Detection:\n  - Key: eventName\n    Condition: Equals\n    Value: Login\n", ""),
    ("\n  - Key: eventName\n    Condition: Equals\n    Value: Login", " []"),
    ("\n  - Key: eventName\n    Condition: Equals\n    Value: Login", " {All: []}"),
    ("    Condition: Equals\n", ""),
    ("Condition: Equals", "Condition: Equalss"),
    ("Condition: Equals", "Condition: Matches"),
    ("Condition: Equals", "Condition: IsIn"),
    ("Condition: Equals", "Condition: Exists"),
    ("Condition: Equals", "Condition: IsIPAddress"),
    ("Condition: Equals", "Condition: IsGreaterThan"),
    ("Condition: Equals", "Condition: IsIPAddressInCIDR"),
    ("Condition: Equals", "Condition: AnyElement"),
    ("Condition: Equals\n    Value: Login", "Condition: AnyElement"),
    ("Condition: Equals\n    Value: Login", "Condition: AlwaysTrue"),
    ("Condition: Equals\n    Value: Login", "Condition: IsIn\n    Values: []"),
    ("Condition: Equals\n    Value: Login", "Condition: Equals"),
    ("Value: Login", "Value: Login\n    Expressions: []"),
    ("Value: Login", "Value: null"),
    ("Value: Login", "Value: [Login]"),
    ("Value: Login", "Values: [Login]"),
    ("Value: Login", "Val: Login"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Condition: Equals\n    Values: [{Key: a}]"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Condition: Equals\n    Values: [{Key: a}, b]"),
    (
        "Key: eventName\n    Condition: Equals\n    Value: Login",
        "Condition: Equals\n    Values: [{Key: a}, {Key: eventTime}]",
    ),
    ("Key: eventName", "Key: eventTime"),
    ("Condition: Equals\n    Value: Login", "Condition: Hour\n    Value: 3"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Key: eventTime\n    Condition: Hour"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Key: eventTime\n    Condition: Hour\n    Value: 24"),
    (
        "Key: eventName\n    Condition: Equals\n    Value: Login",
        "Key: eventTime\n    Condition: Hour\n    Values: [3, noon]",
    ),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Key: eventTime\n    Condition: Hour\n    Values: []"),
    (
        "Key: eventName\n    Condition: Equals\n    Value: Login",
        "Key: eventTime\n    Condition: Weekday\n    Value: Sonday",
    ),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Key: eventTime\n    Condition: Weekday\n    Value: 0"),
    (
        "Key: eventName\n    Condition: Equals\n    Value: Login",
        "Key: eventTime\n    Condition: Hour\n    Value: 3\n    Zone: Europe/Berln",
    ),
    (
        "Key: eventName\n    Condition: Equals\n    Value: Login",
        "Key: eventTime\n    Condition: Hour\n    Value: 3\n    Zone: CEST",
    ),
    ("Value: Login", "Value: Login\n    Zone: UTC"),
    ("Key: eventName", "Key: ''"),
    ("Key: eventName", "DeepKey: []"),
    ("Key: eventName", "DeepKey: a"),
    ("Key: eventName", "KeyPath: a.*"),
    ("Key: eventName", "KeyPath: 'a[x]'"),
    ("Key: eventName", "KeyPath: 'a[0'"),
    ("Key: eventName", "KeyPath: 'a[0]b'"),
    ("Key: eventName", "KeyPath: 'a.\"b'"),
    ("Key: eventName", "KeyPath: 'a]'"),
    ("Key: eventName", "KeyPath: a\n    Key: b"),
    ("Key: eventName", "Enrichment: {Table: t}"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Sequence: []"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Group: []"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Any: []\n    All: []"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "Any: {Key: a}"),
    ("Key: eventName\n    Condition: Equals\n    Value: Login", "text"),
];

/// Each replaces a part of [`RULE`] with something valid that is probably a mistake.
const REMARKABLE: &[(&str, &str)] = &[
    ("Value: Login", "Value: Yes"),
    ("Value: Login", "Value: 2026-09-01"),
    ("Value: Login", "Value: 012"),
    ("Value: Login", "Value: 1:30"),
    ("Value: Login", "Value: 0x1f"),
    ("Value: Login", "Value: 1_000"),
    ("Key: eventName\n    Condition: Equals", "Key: errorCode\n    Condition: DoesNotEqual"),
    ("Key: eventName", "Key: eventNames"),
    ("Key: eventName", "Key: wholly"),
    ("Key: eventName", "Key: userIdentity.arn"),
    ("Key: eventName", "KeyPath: eventName.x"),
    ("Key: eventName", "KeyPath: userIdentity.usrName"),
    ("Threshold: 2\n", ""),
    ("GroupBy: [{Key: account}]\n", ""),
    ("{Key: account}", "{Key: userAgent}"),
    ("{Key: account}", "{Key: acount}"),
    ("Threshold: 2", "Threshold: 2\nOutputIds: [a]"),
    ("Threshold: 2", "Threshold: 2\nSummaryAttributes: [p_any_ip_addresses]"),
    ("Threshold: 2", "Threshold: 2\nAlertTitle: by {userIdentiy.arn}"),
    ("Log: {eventName: Login}", "Log: {}, Mocks: [{objectName: a, returnValue: b}]"),
    ("Log: {eventName: Login}", "Log: {}, Mocks: []"),
    ("Key: eventName\n    Condition: Equals", "Key: readOnly\n    Condition: Contains"),
    ("Key: eventName", "Key: readOnly"),
    ("Condition: Equals\n    Value: Login", "Condition: AnyElement\n    Expressions: []"),
    ("Key: eventName", "Key: userIdentity.arn"),
    ("Value: Login", "Value: !!str 12"),
    ("Threshold: 2", "Threshold: 2\nTags:\nInlineFilters:\nDisplayName:\nHunt:\nReports: {MITRE ATT&CK: }"),
    ("Tests:\n  - {Name: one, ExpectedResult: true, Log: {eventName: Login}}\n", ""),
];

fn error(text: &str) -> String {
    panther::parse("rule.yml", text).unwrap_err().to_string()
}

#[test]
fn rule_error_messages_are_reviewed() {
    let mut messages = String::new();
    for (good, bad) in WRONG {
        assert!(RULE.contains(good), "{good}");
        writeln!(messages, "{}\n", error(&RULE.replacen(good, bad, 1))).unwrap();
    }
    let deep = format!("{}{}}}", "[".repeat(200), "]".repeat(200));
    writeln!(messages, "{}\n", error(&RULE.replace("Login}", &deep)).lines().next().unwrap()).unwrap();
    let nested = format!("{}{}", "{None: [".repeat(12), "]}".repeat(12));
    let in_detection =
        RULE.replace("Key: eventName\n    Condition: Equals\n    Value: Login", "XX").replace("XX", &nested);
    writeln!(messages, "{}\n", error(&in_detection)).unwrap();
    let bomb = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        let before = format!("*a{}", n - 1);
        text + &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 10].join(","))
    });
    writeln!(messages, "{}\n", error(&bomb)).unwrap();
    let swelling = format!("a: &a {}\nb: [*a,*a]\n", "x".repeat(2 << 20));
    writeln!(messages, "{}", error(&swelling).lines().next().unwrap()).unwrap();
    let keys = (0..33).map(|key| format!("{{KeyPath: requestParameters.k{key}}}")).collect::<Vec<_>>().join(",");
    let conditions = vec!["  - {Key: eventName, Condition: Exists}"; 1_001].join("\n");
    for (good, bad) in [
        ("GroupBy: [{Key: account}]", format!("GroupBy: [{keys}]")),
        ("Threshold: 2", format!("Threshold: 2\nAlertTitle: \"{}\"", "{eventName}".repeat(65))),
        ("Detection:", format!("Detection:\n{conditions}")),
    ] {
        assert!(RULE.contains(good), "{good}");
        writeln!(messages, "{}", error(&RULE.replacen(good, &bad, 1)).lines().next().unwrap()).unwrap();
    }
    writeln!(messages, "\n-- remarks\n").unwrap();
    for (good, remarkable) in REMARKABLE {
        assert!(RULE.contains(good), "{good}");
        let read = panther::parse("rule.yml", &RULE.replacen(good, remarkable, 1)).unwrap();
        for warning in read.warnings {
            let lint::Warning { code, line, column, message } = warning;
            writeln!(messages, "{line}:{column}: {message} [{code}]").unwrap();
        }
    }
    assert!(panther::parse("rule.yml", RULE).unwrap().warnings.is_empty());
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("../golden");
    settings.bind(|| insta::assert_snapshot!("rule_errors", messages));
}

/// Checks the message literals in the source of the rule reader.
#[test]
fn every_rule_error_has_a_test() {
    let snapshot = std::fs::read_to_string("tests/golden/rule_errors.snap").unwrap();
    let sources = [
        include_str!("../../src/rule/panther.rs"),
        include_str!("../../src/rule/condition.rs"),
        include_str!("../../src/rule/yaml.rs"),
        include_str!("../../src/rule/lint.rs"),
        include_str!("../../src/path.rs"),
    ];
    // The literal parts of a message between its placeholders.
    let unescaped = |text: &str| text.replace('\u{1}', "\"");
    let (mut seen, mut missing) = (0, Vec::new());
    for source in sources {
        let code = source.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let raises = [
                "error(",
                "Err(",
                "ok_or(",
                "let message = ",
                "map_err(",
                "expected(",
                "warn(",
                "Some(",
                "remarks.push(",
            ];
            if !raises.iter().any(|call| line.contains(call)) || line.contains("Internal(") {
                continue;
            }
            for literal in line
                .replace("\\\"", "\u{1}")
                .replace("'\"'", "")
                .split('"')
                .skip(1)
                .step_by(2)
                .filter(|literal| literal.contains(' '))
            {
                let pieces = literal.split(['{', '}']).step_by(2).map(|piece| unescaped(piece.trim()));
                for piece in pieces.filter(|piece| piece.len() > 8) {
                    seen += 1;
                    if !snapshot.contains(&piece) {
                        missing.push(piece);
                    }
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(seen > 30, "{seen}");
}

#[test]
fn yaml_values_keep_their_text() {
    for (value, text, shortest) in [
        ("Yes", "Yes", None),
        ("012345678901", "012345678901", None),
        ("1.10", "1.10", Some("1.1")),
        ("True", "true", None),
        ("'1.10'", "1.10", None),
        ("22", "22", None),
    ] {
        let rule = panther::parse("rule.yml", &RULE.replace("Value: Login", &format!("Value: {value}"))).unwrap().rule;
        let shown = format!("{:?}", rule.detection);
        assert!(shown.contains(&format!("Value {{ text: {text:?}, shortest: {shortest:?} }}")), "{shown}");
    }
}
