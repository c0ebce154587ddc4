//! Counts, sums and rules of Sigma's correlations, and aliases of different fields.

use std::process::Command;

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::rule::{Rule, WindowKind, panther};
use tawny::table::MemoryTable;
use tawny::time::Range;

use crate::oracle;
use crate::records::{batch, failed_sign_in};
use crate::sigma::{correlation, found, read};

type SignIn = (&'static str, u32, &'static str, &'static str);

fn of(user: &'static str, minutes: &[u32]) -> Vec<SignIn> {
    minutes.iter().map(|minute| (user, *minute, "Failure", "192.0.2.1")).collect()
}

/// Returns the findings of a rule in records.
fn findings(rule: &Rule, records: &[Value]) -> Vec<Finding> {
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    let data = MemoryTable(vec![batch(records)]);
    oracle::RUNTIME.block_on(hunt::findings(&engine, &data, std::slice::from_ref(rule), Range::default())).unwrap()
}

fn ids(findings: &[Finding]) -> Vec<String> {
    let mut ids: Vec<String> = findings.iter().map(|finding| finding.event_ids.join(" ")).collect();
    ids.sort();
    ids
}

#[test]
fn limits_of_counts_are_about_the_greatest_count_of_a_finding() {
    // Bursts of one, two, three and four matches.
    let sign_ins = [of("ann", &[0]), of("bob", &[0, 1]), of("cid", &[0, 1, 2]), of("dan", &[0, 1, 2, 3])].concat();
    let sizes = |kind: &str, condition: &str| {
        let rest = format!("  condition: {{{condition}}}\n  window: {kind}\n");
        let mut sizes: Vec<usize> =
            found(&correlation("event_count", "fails", &rest), &sign_ins).iter().map(Vec::len).collect();
        sizes.sort_unstable();
        sizes
    };
    for kind in ["sliding", "tumbling"] {
        for (condition, expected) in [
            ("lt: 3", &[1, 2][..]),
            ("lte: 3", &[1, 2, 3]),
            ("eq: 3", &[3]),
            ("neq: 3", &[1, 2, 4]),
            ("neq: 1", &[2, 3, 4]),
            ("gt: 1, lt: 4", &[2, 3]),
            ("gte: 2, lte: 4, neq: 3", &[2, 4]),
            ("gte: 2", &[2, 3, 4]),
        ] {
            assert_eq!(sizes(kind, condition), expected, "{kind} {condition}");
        }
    }
    // A burst is longer than a window: at most two matches lie within any ten minutes.
    let chain = of("ann", &[0, 8, 16, 24]);
    assert_eq!(found(&correlation("event_count", "fails", "  condition: {eq: 2}\n"), &chain).len(), 1);
    assert_eq!(found(&correlation("event_count", "fails", "  condition: {eq: 3}\n"), &chain).len(), 0);
}

#[test]
fn limits_apply_to_distinct_values_and_rules() {
    let addresses = |user, addresses: &[&'static str]| -> Vec<SignIn> {
        addresses.iter().map(|address| (user, 0, "Failure", *address)).collect()
    };
    let sign_ins =
        [addresses("ann", &["192.0.2.1", "192.0.2.1", "192.0.2.2"]), addresses("bob", &["192.0.2.1"])].concat();
    let values = |condition: &str| {
        let rest = format!("  condition: {{field: sourceIPAddress, {condition}}}\n");
        found(&correlation("value_count", "fails", &rest), &sign_ins)
    };
    assert_eq!(values("eq: 2"), [["0", "1", "2"]]);
    assert_eq!(values("lt: 2"), [["3"]]);

    let outcomes: Vec<SignIn> =
        vec![("ann", 0, "Failure", "x"), ("bob", 0, "Failure", "x"), ("bob", 1, "Success", "x")];
    let rules = |condition: &str| found(&correlation("temporal", "fails, succeeds", condition), &outcomes);
    assert_eq!(rules("  condition: {lt: 2}\n"), [["0"]]);
    assert_eq!(rules("  condition: {eq: 2}\n"), [["1", "2"]]);
    assert_eq!(rules("  condition: {lte: 2}\n").len(), 2);
}

#[test]
fn threshold_above_the_greatest_count_is_refused() {
    let mut rule = read(&correlation("event_count", "fails", "  condition: {gte: 2, lte: 5}\n")).unwrap().remove(0);
    assert!(rule.check(rule.window).is_ok());
    rule.window.threshold = 6.try_into().unwrap();
    let refused = rule.check(rule.window).unwrap_err().to_string();
    assert!(refused.contains("finds counts of at most 5, and the threshold is 6"), "{refused}");
}

#[test]
fn values_are_added() {
    let record = |number: usize, user: &str, minute: u32, bytes: Value| {
        let mut record = failed_sign_in(user, &format!("2026-09-01T10:{minute:02}:00Z"), &number.to_string());
        record["additionalEventData"]["bytesTransferredOut"] = bytes;
        record
    };
    let rule = |condition: &str| {
        let condition = format!("  condition: {{field: additionalEventData.bytesTransferredOut, {condition}}}\n");
        read(&correlation("value_sum", "fails", &condition)).unwrap().remove(0)
    };
    let records = [
        record(0, "ann", 0, json!(600)),
        record(1, "ann", 5, json!("400")),
        record(2, "ann", 6, json!(null)),
        record(3, "ann", 14, json!(0.5)),
        record(4, "bob", 0, json!(999.9)),
        record(5, "cid", 0, json!(2000)),
        record(6, "dan", 0, json!("many")),
        // A whole period apart.
        record(7, "eve", 20, json!(600)),
        record(8, "eve", 30, json!(400)),
        record(9, "fay", 0, json!(-300)),
        record(10, "fay", 1, json!(1200)),
    ];
    let mut rule_of_1000 = rule("gte: 1000");
    let found = findings(&rule_of_1000, &records);
    assert_eq!(ids(&found), ["0 1 2", "5"], "one event may be enough, and others add nothing");
    assert_eq!(found[0].summed.as_deref(), Some("additionalEventData.bytesTransferredOut"));
    assert_eq!((found[0].sum, found[0].distinct, found[0].count), (Some(1000), None, 3));
    assert_eq!(ids(&findings(&rule("gt: 1000"), &records)), ["5"]);
    assert_eq!(ids(&findings(&rule("gte: 1000, lt: 2000"), &records)), ["0 1 2"]);
    for kind in WindowKind::ALL {
        rule_of_1000.window.kind = kind;
        assert_eq!(findings(&rule_of_1000, &records).len(), 2, "{kind}");
    }
    let of_hunt = |hunt: &str| {
        let text = "AnalysisType: rule\nRuleID: Sum\nEnabled: true\nLogTypes: [AWS.CloudTrail]\nSeverity: Low\nThreshold: 1000\nDedupPeriodMinutes: 10\nGroupBy: [{KeyPath: userIdentity.userName}]\nDetection:\n  - {KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Failure}\n";
        panther::parse("sum.yml", &format!("{text}Hunt: {hunt}\n")).map(|read| read.rule)
    };
    let same = of_hunt("{Sum: additionalEventData.bytesTransferredOut}").unwrap();
    assert_eq!(ids(&findings(&same, &records)), ["0 1 2", "5"]);
    for (hunt, expected) in [
        ("{Sum: a, Unique: b}", "`Unique` or `Sum`, not both"),
        ("{Sum: a, FollowedBy: [{Key: eventName, Condition: Equals, Value: A}]}", "`Sum`: with `FollowedBy`"),
        ("{Sum: [a]}", "`Sum`"),
    ] {
        let refused = of_hunt(hunt).unwrap_err().to_string();
        assert!(refused.contains(expected), "{hunt}: {refused}");
    }
}

const ALIASES: &str = "---\ntitle: Created\nname: created\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {eventName: CreateUser}\n  condition: s\n\
---\ntitle: Used\nname: used\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {userIdentity.userName|exists: true}\n  condition: s\n\
---\ntitle: Joined\nname: joined\ncorrelation:\n  type: TYPE\n  rules: [created, used]\n  group-by: [who]\n  timespan: 10m\nREST  aliases:\n    who:\n      created: requestParameters.userName\n      used: userIdentity.userName\n";

#[test]
fn aliases_join_different_fields() {
    let aliased =
        |kind: &str, rest: &str| read(&ALIASES.replace("TYPE", kind).replace("REST", rest)).unwrap().remove(0);
    let record = |number: usize, minute: u32, caller: &str, created: Option<&str>| {
        let mut record = failed_sign_in(caller, &format!("2026-09-01T10:{minute:02}:00Z"), &number.to_string());
        if let Some(created) = created {
            record["eventName"] = json!("CreateUser");
            record["requestParameters"] = json!({ "userName": created });
        }
        record
    };
    let records = [
        record(0, 0, "root", Some("eve")),
        record(1, 1, "eve", None),
        record(2, 2, "bob", None),
        // This creates a user of its own name, and counts for the first rule only.
        record(3, 3, "dan", Some("dan")),
        record(4, 20, "eve", None),
        record(5, 30, "fay", None),
        record(6, 31, "root", Some("fay")),
    ];
    let found = findings(&aliased("temporal", ""), &records);
    assert_eq!(ids(&found), ["0 1", "5 6"]);
    assert_eq!(found[0].group["who"], "eve");
    assert_eq!(ids(&findings(&aliased("temporal_ordered", ""), &records)), ["0 1"]);
    let counted = findings(&aliased("event_count", "  condition: {gte: 2}\n"), &records);
    assert_eq!(ids(&counted), ["0 1", "5 6"]);
}

#[test]
fn aliases_of_different_fields_are_shown_in_sql() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, ALIASES.replace("TYPE", "temporal").replace("REST", "")).unwrap();
    let sql = |more: &[&str]| {
        let file = file.to_str().unwrap();
        let arguments = ["sql", "joined", "--rules", file];
        Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).args(more).output().unwrap()
    };
    let shown = String::from_utf8(sql(&[]).stdout).unwrap();
    assert!(shown.contains("CASE") && shown.contains("\"group.who\""), "{shown}");
    let refused = sql(&["--dialect", "duckdb"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn rules_of_a_temporal_correlation_join_by_and_and_or() {
    let third = "---\ntitle: Denied\nname: denied\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {responseElements.ConsoleLogin: Denied}\n  condition: s\n";
    let of = |condition: &str| {
        let rest = format!("  condition: {condition}\n");
        third.to_owned() + &correlation("temporal", "fails, succeeds, denied", &rest)
    };
    let records: Vec<Value> = [
        ("ann", "Failure"),
        ("ann", "Success"),
        ("bob", "Success"),
        ("bob", "Denied"),
        ("cid", "Failure"),
        ("cid", "Denied"),
    ]
    .iter()
    .enumerate()
    .map(|(number, (user, outcome))| {
        let mut record = failed_sign_in(user, "2026-09-01T10:00:00Z", &number.to_string());
        record["responseElements"]["ConsoleLogin"] = Value::from(*outcome);
        record
    })
    .collect();
    let found = |condition: &str| ids(&findings(&read(&of(condition)).unwrap().remove(0), &records));
    assert_eq!(found("(fails or denied) and succeeds"), ["0 1", "2 3"]);
    assert_eq!(found("denied and (succeeds or fails)"), ["2 3", "4 5"]);
    assert_eq!(found("fails and succeeds and denied"), Vec::<String>::new());
    assert_eq!(found("fails or succeeds or denied").len(), 3);
}
