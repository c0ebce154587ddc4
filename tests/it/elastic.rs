//! Elastic's detection rules: what their queries match, their windows, and what is refused.

use std::process::Command;

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::error::{Error, RuleErrorKind};
use tawny::event::batch::BatchBuilder;
use tawny::hunt;
use tawny::raw::envelope::Record;
use tawny::raw::json as raw_json;
use tawny::rule::{Counts, Rule, RuleTest, Severity, elastic};
use tawny::table::MemoryTable;
use tawny::time::Range;

use crate::oracle::RUNTIME;

/// Returns a rule of the type `query`, with more keys.
fn document(query: &str, more: &str) -> String {
    format!(
        "[metadata]\nmaturity = \"production\"\n\n[rule]\nrule_id = \"00000000-0000-4000-8000-000000000001\"\n\
         name = \"An example\"\nseverity = \"high\"\nlanguage = \"kuery\"\ntype = \"query\"\n\
         index = [\"logs-aws.cloudtrail-*\"]\nquery = '''\n{query}\n'''\n{more}\n"
    )
}

fn read(text: &str) -> Rule {
    elastic::parse("rule.toml", text).unwrap_or_else(|error| panic!("{text}\n{error}")).rule
}

/// Returns for each record whether a rule with this query matches it.
fn matched(query: &str, records: &[Value]) -> Vec<bool> {
    let mut rule = read(&document(query, ""));
    let test = |record: &Value| RuleTest { name: String::new(), expected: true, log: record.to_string() };
    rule.tests = records.iter().map(test).collect();
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    RUNTIME.block_on(hunt::run_rule_tests(&engine, &[rule])).unwrap().remove(0)
}

/// A query, records that match, and records that do not.
type Case = (&'static str, Vec<Value>, Vec<Value>);

fn check(cases: Vec<Case>) {
    for (query, matching, others) in cases {
        let records = [matching.as_slice(), others.as_slice()].concat();
        let expected: Vec<bool> = (0..records.len()).map(|number| number < matching.len()).collect();
        assert_eq!(matched(query, &records), expected, "{query}");
    }
}

fn asked(parameters: &Value) -> Value {
    json!({ "eventName": "Act", "requestParameters": parameters })
}

#[test]
fn keywords_are_compared_exactly() {
    let named = |name: &str| json!({ "eventName": name });
    check(vec![
        ("event.action: Act", vec![named("Act")], vec![named("act"), named("Acts"), named("An Act"), json!({})]),
        ("event.action: (Act or \"Look\")", vec![named("Act"), named("Look")], vec![named("Ask")]),
        ("event.action: A*", vec![named("Act"), named("A")], vec![named("act"), named("BA")]),
        ("event.action: *ct*s", vec![named("Actions"), named("cts")], vec![named("Acting")]),
        ("event.action: \"A*\"", vec![named("A*")], vec![named("Act")]),
        ("not event.action: Act", vec![named("Ask"), json!({})], vec![named("Act")]),
        ("event.action: (* and not A*)", vec![named("Be")], vec![named("Act"), json!({})]),
        ("data_stream.dataset: aws.cloudtrail and event.action: Act", vec![named("Act")], vec![named("Ask")]),
        (
            "user_agent.original: (*S3 Browser* or *Cyberduck*)",
            vec![json!({ "userAgent": "[S3 Browser/9.5]" }), json!({ "userAgent": "Cyberduck" })],
            vec![json!({ "userAgent": "S3Browser" }), json!({ "userAgent": "cyberduck" })],
        ),
        (
            "aws.cloudtrail.read_only: true",
            vec![json!({ "readOnly": true })],
            vec![json!({ "readOnly": false }), json!({})],
        ),
        (
            "aws.cloudtrail.user_identity.arn: *\\:root",
            vec![json!({ "userIdentity": { "arn": "arn:aws:iam::111122223333:root" } })],
            vec![json!({ "userIdentity": { "arn": "arn:aws:iam::111122223333:user/root" } }), json!({})],
        ),
    ]);
}

#[test]
fn derived_fields_are_those_of_the_integration() {
    let login = |result: &str, error: Option<&str>| json!({ "eventName": "ConsoleLogin", "responseElements": { "ConsoleLogin": result }, "errorMessage": error });
    let call = |code: Value, message: Value| json!({ "eventName": "Act", "errorCode": code, "errorMessage": message });
    let failures = || {
        vec![
            call(json!("Denied"), Value::Null),
            call(Value::Null, json!("no")),
            login("Failure", None),
            login("Failure", Some("no")),
        ]
    };
    let successes =
        || vec![call(Value::Null, Value::Null), call(json!(""), json!("")), login("Success", Some("odd")), json!({})];
    let user = |name: Value, issuer: Value| json!({ "userIdentity": { "userName": name, "sessionContext": { "sessionIssuer": { "userName": issuer } } } });
    let from = |source: &str| json!({ "sourceIPAddress": source });
    let mfa = |name: &str, used: Value| json!({ "eventName": name, "additionalEventData": { "MFAUsed": used } });
    check(vec![
        ("event.outcome: success", successes(), failures()),
        ("event.outcome: failure", failures(), successes()),
        ("event.outcome: (success or failure)", [successes(), failures()].concat(), vec![login("Unknown", None)]),
        ("event.outcome: unkn*", vec![login("Unknown", None)], [successes(), failures()].concat()),
        ("not event.outcome: success", [failures(), vec![login("Unknown", None)]].concat(), successes()),
        (
            "user.name: ann",
            vec![user(json!("ann"), json!("role")), user(Value::Null, json!("ann")), user(json!(""), json!("ann"))],
            vec![user(json!("bob"), json!("ann")), json!({})],
        ),
        ("user.name: *", vec![user(json!("ann"), Value::Null), user(Value::Null, json!("ann"))], vec![json!({})]),
        ("source.ip: *", vec![from("192.0.2.1"), from("2001:db8::1")], vec![from("s3.amazonaws.com"), json!({})]),
        ("source.ip: \"192.0.2.0/24\"", vec![from("192.0.2.1")], vec![from("198.51.100.1"), from("192.0.2.0/25")]),
        ("source.address: s3.amazonaws.com", vec![from("s3.amazonaws.com")], vec![from("192.0.2.1")]),
        (
            "aws.cloudtrail.console_login.additional_eventdata.mfa_used: false",
            vec![mfa("ConsoleLogin", json!("No"))],
            vec![mfa("ConsoleLogin", json!("Yes")), mfa("Act", json!("No")), mfa("ConsoleLogin", Value::Null)],
        ),
        (
            "aws.cloudtrail.console_login.additional_eventdata.mfa_used: true",
            vec![mfa("ConsoleLogin", json!("Yes"))],
            vec![mfa("ConsoleLogin", json!("No")), mfa("Act", json!("Yes")), mfa("ConsoleLogin", Value::Null)],
        ),
    ]);
}

#[test]
fn flattened_fields_have_any_of_their_values() {
    let port = |ports: Value| asked(&json!({ "items": [{ "ports": ports }] }));
    let resource = |arn: &str| json!({ "resources": [{ "type": "AWS::S3::Object" }, { "ARN": arn }] });
    check(vec![
        (
            "aws.cloudtrail.flattened.request_parameters.items.ports: (22 or 3389)",
            vec![port(json!(22)), port(json!("22")), port(json!([80, 3389]))],
            vec![port(json!(220)), port(json!([])), asked(&json!({ "items": { "other": 22 } }))],
        ),
        (
            "aws.cloudtrail.flattened.request_parameters.items.ports: 2*",
            vec![port(json!(22)), port(json!("2a"))],
            vec![port(json!(122)), port(json!(["", "a2"]))],
        ),
        (
            "aws.cloudtrail.flattened.request_parameters.items.ports: *",
            vec![port(json!(0)), port(json!([false])), port(json!("a"))],
            vec![port(json!("")), port(json!([])), port(json!({ "from": 1 })), port(Value::Null), json!({})],
        ),
        (
            "aws.cloudtrail.flattened.request_parameters.x-amz-acl: (\"public-read\" or true)",
            vec![asked(&json!({ "x-amz-acl": "public-read" })), asked(&json!({ "x-amz-acl": ["private", true] }))],
            vec![asked(&json!({ "x-amz-acl": "private" })), asked(&json!({ "acl": "public-read" }))],
        ),
        (
            "not aws.cloudtrail.resources.arn: arn\\:aws\\:s3*",
            vec![resource("arn:aws:kms:x"), json!({})],
            vec![resource("arn:aws:s3:::bucket")],
        ),
    ]);
}

#[test]
fn objects_are_searched_as_the_text_of_a_map() {
    let logging =
        |enabled: bool| asked(&json!({ "logging": { "clusterLogging": [{ "types": ["api"], "enabled": enabled }] } }));
    check(vec![
        (
            "aws.cloudtrail.request_parameters: *logging*enabled=false*",
            vec![logging(false)],
            vec![logging(true), json!({})],
        ),
        (
            "aws.cloudtrail.request_parameters: *add=*",
            vec![asked(&json!({ "p": { "add": { "a": 1 } } }))],
            vec![asked(&json!({ "add": {} })), asked(&json!({ "a": "add" }))],
        ),
        (
            "aws.cloudtrail.request_parameters: \"{a=1, b=[c, d]}\"",
            vec![asked(&json!({ "a": 1, "b": ["c", "d"], "e": null }))],
            vec![asked(&json!({ "a": 1 }))],
        ),
        (
            "aws.cloudtrail.request_parameters: (*one* and *two*)",
            vec![asked(&json!({ "one": "two" }))],
            vec![asked(&json!({ "one": 1 }))],
        ),
        (
            "aws.cloudtrail.response_elements: *",
            vec![json!({ "responseElements": { "a": 0 } })],
            vec![json!({ "responseElements": { "a": "" } }), json!({})],
        ),
    ]);
}

#[test]
fn the_description_of_a_rule_is_kept() {
    let rule = read(&document(
        "event.action: Act",
        "description = \"\"\"\nFinds acts.\n\"\"\"\nnote = \"Look.\"\nreferences = [\"https://example.com/1\", \"https://example.com/2\"]\n\
         false_positives = [\"  An\\n  admin. \"]\ntags = [\"Domain: Cloud\"]\n[[rule.threat]]\nframework = \"MITRE ATT&CK\"\n\
         tactic = {id = \"TA0006\", name = \"Credential Access\"}\n[[rule.threat.technique]]\nid = \"T1110\"\n\
         [[rule.threat.technique.subtechnique]]\nid = \"T1110.001\"\n[[rule.threat.technique]]\nid = \"T1621\"\n",
    ));
    assert_eq!((rule.id.as_str(), rule.display_name.as_str()), ("00000000-0000-4000-8000-000000000001", "An example"));
    assert_eq!((rule.severity, rule.enabled, rule.alert), (Severity::High, true, true));
    assert_eq!(rule.notes.description.as_deref(), Some("Finds acts."));
    assert_eq!(rule.notes.reference.as_deref(), Some("https://example.com/1"));
    let runbook = "Look.\n\nFalse positives:\n- An admin.\n\nMore references:\n- https://example.com/2";
    assert_eq!(rule.notes.runbook.as_deref(), Some(runbook));
    assert_eq!(rule.notes.tags, ["Domain: Cloud"]);
    assert_eq!(rule.mitre(), ["TA0006:T1110.001", "TA0006:T1621"]);
    let block = read(&document("event.action: Act", "building_block_type = \"default\""));
    assert!(!block.alert);
    let old = document("event.action: Act", "").replace("production", "deprecated");
    assert!(!read(&old).enabled);
}

/// Returns the numbers of events in each finding of a rule over records, which are pairs of a minute and a record.
fn found(rule: &Rule, records: &[(u32, Value)]) -> Vec<usize> {
    let mut builder = BatchBuilder::default();
    for (number, (minute, record)) in records.iter().enumerate() {
        let mut record = record.clone();
        record["eventTime"] = json!(format!("2026-09-01T10:{minute:02}:00Z"));
        record["eventID"] = json!(number.to_string());
        let text = record.to_string();
        builder.push(&Record { text: &text, members: raw_json::members(&text).unwrap() });
    }
    let table = MemoryTable(vec![builder.finish().unwrap()]);
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    let found =
        RUNTIME.block_on(hunt::findings(&engine, &table, std::slice::from_ref(rule), Range::default())).unwrap();
    found.iter().map(|finding| finding.event_ids.len()).collect()
}

#[test]
fn thresholds_count_matches_or_values_of_each_group() {
    let act = |account: &str, source: &str| json!({ "eventName": "Act", "userIdentity": { "accountId": account }, "sourceIPAddress": source });
    let threshold = |table: &str| {
        let text = document("event.action: Act", &format!("from = \"now-6m\"\n[rule.threshold]\n{table}"));
        read(&text.replace("type = \"query\"", "type = \"threshold\""))
    };
    let three = threshold("field = [\"cloud.account.id\"]\nvalue = 3");
    assert_eq!((three.window.period.seconds(), three.window.threshold.get()), (360, 3));
    let near = [(0, act("1", "a")), (3, act("1", "b")), (5, act("2", "a")), (6, act("1", "b"))];
    assert_eq!(found(&three, &near[..3]), Vec::<usize>::new());
    let near = [(0, act("1", "a")), (3, act("1", "b")), (4, act("2", "a")), (5, act("1", "b"))];
    assert_eq!(found(&three, &near), [3]);
    // Matches without a field of the group do not count.
    let without: Vec<_> = (0..3).map(|minute| (minute, json!({ "eventName": "Act" }))).collect();
    assert_eq!(found(&three, &without), Vec::<usize>::new());
    let all = threshold("field = []\nvalue = 3");
    assert_eq!(found(&all, &without), [3]);
    let distinct = threshold(
        "field = \"cloud.account.id\"\nvalue = 1\n[[rule.threshold.cardinality]]\nfield = \"source.address\"\nvalue = 2",
    );
    assert!(matches!(distinct.counts, Counts::Distinct(_)));
    assert_eq!(found(&distinct, &near), [3]);
    assert_eq!(found(&distinct, &[(0, act("1", "a")), (1, act("1", "a"))]), Vec::<usize>::new());
    // Two values of three matches.
    let both = threshold(
        "field = \"cloud.account.id\"\nvalue = 3\n[[rule.threshold.cardinality]]\nfield = \"source.address\"\nvalue = 2",
    );
    assert_eq!(both.min_events.map(u32::from), Some(3));
    assert_eq!(found(&both, &near), [3]);
    assert_eq!(found(&both, &near[..3]), Vec::<usize>::new());
    // Suppression joins alerts of one group.
    let suppressed = read(&document(
        "event.action: Act",
        "[rule.alert_suppression]\ngroup_by = [\"source.address\"]\nduration = {value = 5, unit = \"m\"}",
    ));
    assert_eq!(suppressed.window.period.seconds(), 300);
    assert_eq!(found(&suppressed, &near), [2, 2]);
    // On other rules it does nothing, and that is said.
    let tables =
        "[rule.threshold]\nfield = [\"source.address\"]\nvalue = 2\n[rule.alert_suppression]\ngroup_by = [\"user.id\"]";
    let text = document("event.action: Act", tables).replace("type = \"query\"", "type = \"threshold\"");
    let warnings = elastic::parse("rule.toml", &text).unwrap().warnings;
    assert!(warnings[0].message.contains("only on rules of the type `query`"), "{warnings:?}");
}

#[test]
fn new_terms_are_values_that_no_match_had_before() {
    let act = |account: &str, user: Value| {
        json!({ "eventName": "Act", "userIdentity": { "accountId": account, "userName": user },
            "resources": [{ "ARN": "arn:aws:iam::111122223333:role/a" }] })
    };
    let of = |fields: &str, history: &str| {
        let table = format!(
            "[rule.new_terms]\nfield = \"new_terms_fields\"\nvalue = {fields}\n\
             [[rule.new_terms.history_window_start]]\nfield = \"history_window_start\"\nvalue = \"now-{history}\"\n"
        );
        read(&document("event.action: Act", &table).replace("type = \"query\"", "type = \"new_terms\""))
    };
    let rule = of("[\"cloud.account.id\", \"user.name\"]", "30m");
    let first_seen = rule.first_seen.as_ref().unwrap();
    assert_eq!((first_seen.periods.history.seconds(), first_seen.periods.learning), (1_800, None));
    let records = [
        (0, act("1", json!("ann"))),
        (10, act("1", json!("ann"))),
        (11, act("2", json!("ann"))),
        (12, act("1", json!("bob"))),
        // Half an hour and more after the last one.
        (41, act("1", json!("ann"))),
        (42, json!({ "eventName": "Act" })),
    ];
    assert_eq!(found(&rule, &records), [2, 1, 1]);
    let whole = of("[\"aws.cloudtrail.resources.arn\"]", "7d");
    assert_eq!(found(&whole, &records), [1]);
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_its_place() {
    let query = |query: &str| document(query, "");
    let typed = |kind: &str, more: &str| {
        document("event.action: Act", more).replace("type = \"query\"", &format!("type = \"{kind}\""))
    };
    let other = RuleErrorKind::OtherLogs;
    let (unsupported, invalid) = (RuleErrorKind::Unsupported, RuleErrorKind::Invalid);
    for (text, kind, place, reason) in [
        (
            query("event.action: Act and\n  source.geo.name: x"),
            unsupported,
            (13, 20),
            "`source.geo.name` is not supported: it comes from a database",
        ),
        (query("user_agent.name: x"), unsupported, (12, 18), "`user_agent.original` is the record's own"),
        (query("event.actoin: x"), unsupported, (12, 15), "`event.actoin` is not supported: it is not a field"),
        (query("event.action > 5"), unsupported, (12, 14), "ranges are not supported"),
        (query("event.action: (x"), unsupported, (12, 17), "expected `and`, `or` or `)`"),
        (query("source.ip: 192.*"), unsupported, (12, 12), "neither an address nor a network"),
        (query("data_stream.dataset: aws.guardduty and event.action: x"), other, (11, 1), "it does not select"),
        (query("event.outcome: Success"), invalid, (11, 1), "no record can satisfy its query"),
        (typed("eql", ""), unsupported, (9, 1), "rules of the type `eql` are not supported"),
        (typed("eql", "").replace("cloudtrail", "guardduty"), other, (9, 1), "rules of the type `eql`"),
        (query("event.action: x").replace("kuery", "lucene"), unsupported, (8, 1), "queries in `lucene`"),
        (
            document("event.action: x", "[[rule.filters]]\nquery = {}"),
            unsupported,
            (14, 8),
            "`filters` are not supported",
        ),
        (typed("new_terms", ""), invalid, (9, 1), "needs a table `new_terms`"),
        (
            typed(
                "new_terms",
                "new_terms = {value = [\"source.as.number\"], history_window_start = [{value = \"now-7d\"}]}",
            ),
            unsupported,
            (14, 1),
            "`source.as.number` is not supported",
        ),
        (
            typed(
                "new_terms",
                "new_terms = {value = [\"user.id\"], history_window_start = [{value = \"2026-01-01\"}]}",
            ),
            unsupported,
            (14, 1),
            "`history_window_start` must be a time before now",
        ),
        (typed("threshold", ""), invalid, (9, 1), "needs a table `threshold`"),
        (typed("threshold", "threshold = {field = [], value = 0}"), invalid, (14, 1), "`value` must be a whole number"),
        (
            typed("threshold", "threshold = {field = [\"event.outcome\"], value = 2}"),
            unsupported,
            (14, 1),
            "`event.outcome` is not supported as a group",
        ),
        (
            typed(
                "threshold",
                "threshold = {value = 3, cardinality = [{field = \"user.id\", value = 2}, {field = \"user.name\", value = 2}]}",
            ),
            unsupported,
            (14, 1),
            "several of `cardinality` are not supported",
        ),
        (
            typed("threshold", "from = \"2026-01-01\"\nthreshold = {value = 3}"),
            unsupported,
            (14, 1),
            "`from` must be a time before now",
        ),
        (query("event.action: x").replace("\"high\"", "\"grave\""), invalid, (7, 1), "`severity` must be low"),
        (query("event.action: x").replace("\"high\"", "7"), invalid, (7, 1), "`severity`: invalid type"),
        (
            query("event.action: x").replace("rule_id = \"0", "rule_id = \"<0"),
            invalid,
            (5, 1),
            "`rule_id` must be text without",
        ),
        (query("event.action: x").replace("name = \"An example\"\n", ""), invalid, (1, 1), "`name` is missing"),
        ("[rule]\nname = ".to_owned(), invalid, (2, 8), "invalid TOML"),
        ("[metadata]\n".to_owned(), invalid, (1, 1), "missing field `rule`"),
    ] {
        let Err(Error::Rules(errors)) = elastic::parse("rule.toml", &text) else { panic!("{text}") };
        let error = &errors[0];
        assert!(error.message.contains(reason), "{}\n{text}", error.message);
        assert_eq!((error.kind, (error.line, error.column)), (kind, place), "{}\n{text}", error.message);
    }
}

#[test]
fn folders_may_hold_them_beside_other_rules() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("act.toml", &document("event.action: Act", "colour = 1"));
    write("eql.toml", &document("event.action: Act", "").replace("type = \"query\"", "type = \"eql\""));
    write("nightly.toml", "[rules]\nfolder = \"rules\"\n");
    write(
        "trail.json",
        &json!({ "Records": [{ "eventName": "Act", "eventTime": "2026-09-01T10:00:00Z", "eventID": "a" }] })
            .to_string(),
    );
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_tawny")).current_dir(folder.path()).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, shown, told) = run(&["rules", "lint", "."]);
    assert_eq!(code, Some(2), "{told}");
    assert!(shown.contains("act.toml:14:1: `colour` is not a key that is known here"), "{shown}");
    assert!(
        told.contains("eql.toml:9:1") && told.contains("1 rule, 1 error, 1 warning; not used: 1 file without rules"),
        "{told}"
    );
    let (code, shown, told) = run(&["hunt", "trail.json", "--rules", ".", "--format", "jsonl"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        shown.contains("\"title\":\"An example\"") && told.contains("1 rule, 1 skipped: 1 unsupported"),
        "{shown}{told}"
    );
    let (code, _, told) = run(&["hunt", "trail.json", "--rules", "nightly.toml"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("invalid TOML of a rule"), "{told}");
}
