//! Sigma rules: what each modifier matches, what correlations find, and what is refused.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::hunt;
use tawny::raw::envelope::{self, Item};
use tawny::rule::{Rule, RuleTest, Severity, WindowKind, sigma};
use tawny::store::ReadSettings;
use tawny::table::MemoryTable;
use tawny::time::Range;

use crate::oracle;
use crate::records::failed_sign_in;

pub(crate) fn document(title: &str, rest: &str) -> String {
    format!(
        "title: {title}\nname: {title}\nstatus: test\nlevel: high\nlogsource:\n  product: aws\n  service: cloudtrail\n{rest}"
    )
}

pub(crate) fn read(text: &str) -> Result<Vec<Rule>, String> {
    let rules = sigma::read(&[("rules.yml", text)]).map_err(|error| error.to_string())?;
    Ok(rules.into_iter().map(|(_, rule)| rule).collect())
}

/// Returns for each record whether a rule with this selection matches it.
pub(crate) fn matched(detection: &str, records: &[Value]) -> Vec<bool> {
    let mut rules = read(&document("Selected", &format!("detection:\n{detection}"))).unwrap();
    let test = |record: &Value| RuleTest { name: String::new(), expected: true, log: record.to_string() };
    rules[0].tests = records.iter().map(test).collect();
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    oracle::RUNTIME.block_on(hunt::run_rule_tests(&engine, &rules)).unwrap().remove(0)
}

/// An item of a selection, records that match, and records that do not.
pub(crate) type Case = (&'static str, Vec<Value>, Vec<Value>);

pub(crate) fn named(name: &str) -> Value {
    json!({ "eventName": name })
}

pub(crate) fn asked(parameters: Value) -> Value {
    let mut record = named("X");
    record["requestParameters"] = parameters;
    record
}

pub(crate) fn check(cases: Vec<Case>) {
    for (item, hits, misses) in cases {
        let records = [hits.clone(), misses.clone()].concat();
        let wanted: Vec<bool> = (0..records.len()).map(|place| place < hits.len()).collect();
        let selection = format!("  selection:\n    {item}\n  condition: selection\n");
        assert_eq!(matched(&selection, &records), wanted, "{item}: {records:?}");
    }
}

#[test]
fn text_modifiers_match() {
    check(vec![
        ("eventName: ConsoleLogin", vec![named("ConsoleLogin"), named("consolelogin")], vec![named("ConsoleLogins")]),
        ("eventName|cased: ConsoleLogin", vec![named("ConsoleLogin")], vec![named("consolelogin")]),
        ("eventName: [A, B]", vec![named("a"), named("B")], vec![named("C")]),
        ("eventName: Delete*", vec![named("DeleteTrail"), named("deleteTrail")], vec![named("XDelete")]),
        ("eventName: '*Trail'", vec![named("DeleteTrail")], vec![named("Trails")]),
        ("eventName: '*let*'", vec![named("DeleteTrail")], vec![named("Create")]),
        (
            "eventName: 'De*Tr?il'",
            vec![named("DeleteTrail"), named("detrail")],
            vec![named("DeTril"), named("XDeTrail"), named("DeTrails")],
        ),
        ("eventName: 'D\\*'", vec![named("D*")], vec![named("DX")]),
        ("eventName: 'Del*l*e'", vec![named("DelXle")], vec![named("Dele"), named("Del")]),
        ("eventName|startswith: del", vec![named("DeleteTrail")], vec![named("Undelete")]),
        ("eventName|endswith: TRAIL", vec![named("DeleteTrail")], vec![named("TrailDelete")]),
        ("eventName|contains: [ete, xyz]", vec![named("DeleteTrail"), named("XYZ")], vec![named("Create")]),
        ("eventName|contains|all: [del, trail]", vec![named("DeleteTrail")], vec![named("Delete"), named("Trail")]),
        ("eventName|startswith|cased: Del", vec![named("DeleteTrail")], vec![named("deleteTrail")]),
        ("eventName|neq: A", vec![named("B"), json!({})], vec![named("A")]),
        ("eventName|re: '^Del(ete)?Trail$'", vec![named("DelTrail")], vec![named("delTrail"), named("DeleteTrails")]),
        (r"eventName|re: 'B\\C'", vec![named(r"B\C"), named(r"xB\Cx")], vec![named("BC"), named("xBCx")]),
        (r"eventName|re: '^B\\C'", vec![named(r"B\C")], vec![named("BC"), named(r"xB\C")]),
        (r"eventName|re|i: '1\\2'", vec![named(r"1\2")], vec![named("12")]),
        ("eventName|re|i: '^del'", vec![named("DELETE")], vec![named("undelete")]),
        (
            "sourceIPAddress|cidr: 192.0.2.0/24",
            vec![json!({"sourceIPAddress": "192.0.2.7"})],
            vec![json!({"sourceIPAddress": "198.51.100.7"}), json!({"sourceIPAddress": "x.amazonaws.com"})],
        ),
        (
            "requestParameters.cidrIp|cidr: [10.0.0.0/8, 192.168.0.0/16]",
            vec![asked(json!({"cidrIp": "10.1.2.3"})), asked(json!({"cidrIp": ["8.8.8.8", "192.168.1.1"]}))],
            vec![asked(json!({"cidrIp": "0.0.0.0/0"})), asked(json!({"cidrIp": ["10.0.0.0/7", "8.8.8.8"]}))],
        ),
        ("errorCode|exists: true", vec![json!({"errorCode": "A"})], vec![json!({}), json!({"errorCode": null})]),
        ("errorCode|exists: false", vec![json!({})], vec![json!({"errorCode": "A"})]),
        ("errorCode: null", vec![json!({}), json!({"errorCode": null})], vec![json!({"errorCode": "A"})]),
        ("errorCode: ''", vec![json!({"errorCode": ""})], vec![json!({}), json!({"errorCode": "A"})]),
        ("errorCode: '*'", vec![json!({"errorCode": "A"})], vec![json!({})]),
    ]);
}

#[test]
fn modifiers_of_other_values_match() {
    check(vec![
        ("readOnly: false", vec![json!({"readOnly": false})], vec![json!({"readOnly": true}), json!({})]),
        (
            "requestParameters.port: 22",
            vec![asked(json!({"port": 22})), asked(json!({"port": "22"}))],
            vec![asked(json!({"port": 23}))],
        ),
        (
            "requestParameters.port|gte: 22",
            vec![asked(json!({"port": 22})), asked(json!({"port": "80"}))],
            vec![asked(json!({"port": 21})), asked(json!({"port": "x"}))],
        ),
        ("requestParameters.port|lt: 22", vec![asked(json!({"port": 21}))], vec![asked(json!({"port": 22}))]),
        (
            "requestParameters.x-amz-acl: public-read",
            vec![asked(json!({"x-amz-acl": "Public-Read"}))],
            vec![asked(json!({"x-amz-acl": "private"}))],
        ),
        (
            "requestParameters.names|contains: adm",
            vec![asked(json!({"names": ["a", "Admin"]}))],
            vec![asked(json!({"names": ["a"]}))],
        ),
        (
            "requestParameters.names: admin",
            vec![asked(json!({"names": ["a", "Admin"]})), asked(json!({"names": "admin"}))],
            vec![asked(json!({"names": ["admins"]})), asked(json!({"names": []}))],
        ),
        (
            "requestParameters.names|endswith: min",
            vec![asked(json!({"names": ["a", "Admin"]}))],
            vec![asked(json!({"names": ["mina"]}))],
        ),
        (
            "requestParameters.names|re: '^a.m'",
            vec![asked(json!({"names": ["x", "admin"]}))],
            vec![asked(json!({"names": ["xadmin"]}))],
        ),
        (
            "requestParameters.nets|cidr: 192.0.2.7/24",
            vec![asked(json!({"nets": ["x", "192.0.2.9"]})), asked(json!({"nets": "192.0.2.1"}))],
            vec![asked(json!({"nets": ["192.0.3.9"]}))],
        ),
        (
            "sourceIPAddress|cidr: 192.0.2.7",
            vec![json!({"sourceIPAddress": "192.0.2.7"})],
            vec![json!({"sourceIPAddress": "192.0.2.8"})],
        ),
        (
            "requestParameters.port|startswith: 22",
            vec![asked(json!({"port": 2200})), asked(json!({"port": "2200"})), asked(json!({"port": [1, 22]}))],
            vec![asked(json!({"port": 122}))],
        ),
        ("requestParameters.port|endswith: 22", vec![asked(json!({"port": 122}))], vec![asked(json!({"port": 221}))]),
        ("requestParameters.port|contains: 0", vec![asked(json!({"port": 2200}))], vec![asked(json!({"port": 22}))]),
        ("requestParameters.port|re: '^2+0'", vec![asked(json!({"port": 2200}))], vec![asked(json!({"port": 30}))]),
        (
            "requestParameters.on|contains: RU",
            vec![asked(json!({"on": true})), asked(json!({"on": "truth"}))],
            vec![asked(json!({"on": false}))],
        ),
        ("eventName|base64: evil", vec![named("ZXZpbA==")], vec![named("evil")]),
        (
            "eventName|base64offset|contains: evil!",
            // The text alone, after one byte, and after two.
            vec![named("ZXZpbCE="), named("eGV2aWwh"), named("eHhldmlsIXg=")],
            vec![named("evil!"), named("ZXZp")],
        ),
        ("readOnly: 'False'", vec![json!({"readOnly": false})], vec![json!({"readOnly": true}), json!({})]),
        ("requestParameters: null", vec![json!({}), json!({"requestParameters": null})], vec![asked(json!({}))]),
        (
            "eventName|fieldref: requestParameters.name",
            vec![json!({"eventName": "A", "requestParameters": {"name": "a"}})],
            vec![json!({"eventName": "A", "requestParameters": {"name": "b"}})],
        ),
        (
            "eventName|endswith|fieldref: requestParameters.name",
            vec![json!({"eventName": "BA", "requestParameters": {"name": "a"}})],
            vec![json!({"eventName": "AB", "requestParameters": {"name": "a"}})],
        ),
    ]);
}

#[test]
fn conditions_combine_selections() {
    let names = ["AX", "AY", "BX", "BY", "C"].map(|name| json!({ "eventName": name }));
    let detection = |condition: &str| {
        format!(
            "  sel_a:\n    eventName|startswith: A\n  sel_b:\n    - eventName|startswith: B\n    - eventName: C\n  filter:\n    eventName|endswith: Y\n  _hidden:\n    eventName: C\n  condition: {condition}\n"
        )
    };
    for (condition, wanted) in [
        ("sel_a and filter", [false, true, false, false, false]),
        ("sel_a and not filter", [true, false, false, false, false]),
        ("sel_a or sel_b", [true, true, true, true, true]),
        ("1 of sel_* and not filter", [true, false, true, false, true]),
        ("all of sel_*", [false; 5]),
        ("not 1 of sel_*", [false; 5]),
        ("1 of them", [true; 5]),
        ("all of *", [false; 5]),
        ("not 1 of *", [false; 5]),
        ("1 of *_*", [true, true, true, true, true]),
        ("1 of s*_*b", [false, false, true, true, true]),
        ("1 of _*", [false, false, false, false, true]),
        ("not (sel_a or filter)", [false, false, true, false, true]),
        ("[sel_a and filter, _hidden]", [false, true, false, false, true]),
    ] {
        assert_eq!(matched(&detection(condition), &names), wanted, "{condition}");
    }
}

#[test]
fn sigma_fields_become_rule_fields() {
    let text = document(
        "Told",
        "id: 5f0c3f9e-0000-4000-8000-000000000001\ndescription: What it is.\nreferences: [https://example.com/a]\n\
         tags: [attack.persistence, attack.t1078.004, cve.2026-1]\ndetection:\n  selection:\n    eventName: A\n  condition: selection\n",
    );
    let rule = read(&text).unwrap().remove(0);
    assert_eq!((rule.id.as_str(), rule.display_name.as_str()), ("5f0c3f9e-0000-4000-8000-000000000001", "Told"));
    assert_eq!((rule.severity, rule.enabled, rule.window.threshold.get()), (Severity::High, true, 1));
    assert_eq!(
        (rule.mitre(), rule.notes.tags.as_slice()),
        (&["TA0003:T1078.004".to_owned()][..], &["cve.2026-1".to_owned()][..])
    );
    assert_eq!(rule.notes.reference.as_deref(), Some("https://example.com/a"));
    let deprecated = read(&text.replace("status: test", "status: deprecated")).unwrap().remove(0);
    assert!(!deprecated.enabled);
}

const PARTS: &str = "---\ntitle: Fails\nname: fails\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {responseElements.ConsoleLogin: Failure}\n  condition: s\n\
---\ntitle: Succeeds\nname: succeeds\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {responseElements.ConsoleLogin: Success}\n  condition: s\n---\n";

pub(crate) fn correlation(kind: &str, rules: &str, rest: &str) -> String {
    format!(
        "{PARTS}title: Joined\nname: joined\ncorrelation:\n  type: {kind}\n  rules: [{rules}]\n  group-by: [userIdentity.userName]\n  timespan: 10m\n{rest}"
    )
}

/// Returns the events of each finding of a correlation over sign-ins by user, minute, outcome and address.
pub(crate) fn found(text: &str, sign_ins: &[(&str, u32, &str, &str)]) -> Vec<Vec<String>> {
    let mut rules = read(text).unwrap();
    assert!(rules.iter().all(|rule| rule.id != "fails" && rule.id != "a"), "it is not hunted alone");
    rules.truncate(1);
    let mut builder = BatchBuilder::default();
    for (number, (user, minute, outcome, address)) in sign_ins.iter().enumerate() {
        let mut record = failed_sign_in(user, &format!("2026-09-01T10:{minute:02}:00Z"), &number.to_string());
        record["responseElements"]["ConsoleLogin"] = Value::from(*outcome);
        record["sourceIPAddress"] = Value::from(*address);
        envelope::items(&record.to_string(), &ReadSettings::default(), &|_| true, &mut |item| match item {
            Item::Record(record) => {
                builder.push(&record);
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
    }
    let data = MemoryTable(vec![builder.finish().unwrap()]);
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    let alone = oracle::RUNTIME.block_on(hunt::findings(&engine, &data, &rules, Range::default())).unwrap();
    let mut among = rules.clone();
    among.push(oracle::rule(WindowKind::Sliding, 2, true));
    let mut among = oracle::RUNTIME.block_on(hunt::findings(&engine, &data, &among, Range::default())).unwrap();
    among.retain(|finding| finding.rule_id == rules[0].id);
    assert_eq!(among, alone);
    alone.into_iter().map(|finding| finding.event_ids).collect()
}

#[test]
fn correlations_count_order_and_group() {
    let ids = |ids: &[&[&str]]| {
        ids.iter().map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()).collect::<Vec<Vec<_>>>()
    };
    let fails = [
        ("ann", 0, "Failure", "192.0.2.1"),
        ("ann", 9, "Failure", "192.0.2.1"),
        ("ann", 19, "Failure", "192.0.2.2"),
        ("bob", 9, "Failure", "192.0.2.2"),
    ];
    let count = |condition: &str| correlation("event_count", "fails", &format!("  condition:\n    {condition}\n"));
    assert_eq!(
        found(&count("gte: 2"), &fails),
        ids(&[&["0", "1"]]),
        "the third is exactly a timespan after the second"
    );
    assert_eq!(found(&count("gt: 2"), &fails), ids(&[]));
    let values = |condition: &str| {
        correlation("value_count", "fails", &format!("  condition:\n    {condition}\n    field: sourceIPAddress\n"))
    };
    assert_eq!(found(&values("gte: 2").replace("10m", "20m"), &fails), ids(&[&["0", "1", "2"]]));
    assert_eq!(found(&values("gte: 2").replace("10m", "5m"), &fails), ids(&[]));

    let both = [
        ("ann", 0, "Success", "192.0.2.1"),
        ("ann", 5, "Failure", "192.0.2.1"),
        ("bob", 0, "Failure", "192.0.2.1"),
        ("bob", 9, "Success", "192.0.2.1"),
        ("cid", 0, "Failure", "192.0.2.1"),
        ("cid", 10, "Success", "192.0.2.1"),
        ("dan", 0, "Failure", "192.0.2.1"),
        ("dan", 1, "Failure", "192.0.2.1"),
    ];
    assert_eq!(found(&correlation("temporal_ordered", "fails, succeeds", ""), &both), ids(&[&["2", "3"]]));
    let again = correlation("temporal_ordered", "fails, fails, succeeds", "");
    assert_eq!(found(&again, &both), Vec::<Vec<String>>::new());
    let twice = [&both[2..4], &[("bob", 0, "Failure", "192.0.2.1")]].concat();
    assert_eq!(found(&again, &twice).len(), 1);
    let mut joined = found(&correlation("temporal", "fails, succeeds", ""), &both);
    joined.sort();
    assert_eq!(joined, ids(&[&["0", "1"], &["2", "3"]]));

    let aliased = correlation(
        "event_count",
        "fails",
        "  condition: {gte: 2}\n  aliases:\n    who:\n      fails: userIdentity.userName\n",
    )
    .replace("group-by: [userIdentity.userName]", "group-by: [who]");
    assert_eq!(found(&aliased, &fails), ids(&[&["0", "1"]]));
}

#[test]
fn generate_also_runs_the_named_rule_alone() {
    let first = correlation("event_count", "fails", "  condition: {gte: 2}\n  generate: true\n");
    let other =
        first.split("---\n").last().unwrap().replace("generate: true", "generate: false").replace("oined", "oint");
    let mut ids: Vec<String> = read(&format!("{first}---\n{other}")).unwrap().into_iter().map(|rule| rule.id).collect();
    ids.sort();
    assert!(ids.contains(&"fails".to_owned()), "{ids:?}");
}

#[test]
fn temporal_threshold_is_at_most_the_number_of_rules() {
    let mut rules = read(&correlation("temporal", "fails, succeeds", "")).unwrap();
    let mut rule = rules.swap_remove(0);
    assert!(rule.check(rule.window).is_ok());
    rule.window.threshold = std::num::NonZeroU32::MIN;
    assert!(rule.check(rule.window).is_ok());
    rule.window.threshold = 3.try_into().unwrap();
    let refused = rule.check(rule.window).unwrap_err().to_string();
    assert!(refused.contains("its threshold is at most their number, 2"), "{refused}");
}

#[test]
fn event_that_matches_two_rules_counts_for_both() {
    let text = "---\ntitle: A\nname: a\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {eventName: ConsoleLogin}\n  condition: s\n\
---\ntitle: B\nname: b\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {eventSource: signin.amazonaws.com}\n  condition: s\n\
---\ntitle: J\ncorrelation:\n  type: temporal\n  rules: [a, b]\n  group-by: [userIdentity.userName]\n  timespan: 10m\n";
    assert_eq!(found(text, &[("ann", 0, "Failure", "192.0.2.1")]), [["0"]]);

    // In order, each rule needs its own event, and one event may be both after one and before another.
    let ordered = text.replace("type: temporal", "type: temporal_ordered");
    let two = [("ann", 0, "Failure", "192.0.2.1"), ("ann", 1, "Failure", "192.0.2.1")];
    assert_eq!(found(&ordered, &two[..1]), Vec::<Vec<String>>::new());
    assert_eq!(found(&ordered, &two), [["0", "1"]]);
    assert_eq!(found(&ordered.replace("[a, b]", "[a, a]"), &two), [["0", "1"]]);
}

#[test]
fn unsupported_sigma_features_are_refused_by_name() {
    let detection = |rest: &str| document("Refused", &format!("detection:\n{rest}"));
    let item = |item: &str| detection(&format!("  s:\n    {item}\n  condition: s\n"));
    let count = |rest: &str| correlation("event_count", "fails", rest);
    for (text, reason) in [
        (
            item("eventName: A").replace("cloudtrail", "s3"),
            "its `logsource` is not `product: aws` and `service: cloudtrail`",
        ),
        (item("eventName|base64: A*"), "`eventName`: `A*`: it is empty or has wildcards, and is not encoded"),
        (item("eventName|base64: ''"), "`eventName`: ``: it is empty or has wildcards, and is not encoded"),
        (item("eventName|contains|startswith: A"), "modifiers that say two ways to compare are not understood"),
        (item("eventName|contains|re: A"), "not understood: `re` alone finds a part of a text"),
        (item("eventName|re|contains: A"), "not understood: `re` alone finds a part of a text"),
        (item("eventName|gt|lt: 1"), "modifiers that say two ways to compare are not understood"),
        (item("eventName|i: A"), "`i`, `m` and `s` are flags of `re`, which is missing"),
        (
            item("eventName: {a: X}"),
            "rules.yml:10:16: a mapping is not a value to compare with: write `eventName.a` as one key",
        ),
        (item("eventName: [[A, B]]"), "rules.yml:10:17: a list is not a value to compare with, in values"),
        (detection("  s: {}\n  condition: s\n"), "rules.yml:9:6: an empty selection would match every record"),
        (detection("  s: [{eventName: A}, {}]\n  condition: s\n"), "an empty selection would match every record"),
        (
            detection(&format!("  s: {{eventName: A}}\n  condition: {}s\n", "not ".repeat(15_000))),
            "a condition with more than 64 `not`s is not read",
        ),
        (count("  condition: {gte: 2, foo: 1}\n"), "`condition` has no `foo`"),
        (
            count("  condition: {gte: 2}\n").replace("group-by:", "group_by:"),
            "`correlation` has no `group_by`: is `group-by` meant?",
        ),
        (
            count("  condition: {gte: 2}\n").replace("group-by: [userIdentity.userName]", "group-by: {x: y}"),
            "`group-by` must be texts, not a mapping",
        ),
        (
            count("  condition: {gte: 2}\n").replace("rules: [fails]", "rules: [1]"),
            "`rules` must be texts, not a number",
        ),
        (count("  condition: {gte: 2}\n").replace("rules: [fails]", "rules: []"), "`rules` names none"),
        (
            count("  condition: {gte: 2}\n  aliases: {who: userIdentity.userName}\n"),
            "`aliases` must be a mapping, not a text",
        ),
        (correlation("temporal", "fails, succeeds", "  window: tumbling\n"), "in sliding windows only"),
        (
            [
                correlation("event_count", "fails", "  condition: {gte: 2}\n"),
                correlation("event_count", "fails", "  condition: {gte: 2}\n").replace(": Failure", ": Denied"),
            ]
            .concat(),
            "it names `fails`, as 2 different rules are called: give them different ids and names",
        ),
        (
            correlation("event_count", "joined", "  condition: {gte: 2}\n"),
            "`Joined`: it names `joined`, which is a correlation: those of correlations are not hunted",
        ),
        (
            count("  condition: {gte: 2}\n").replace("responseElements.ConsoleLogin:", "eventName|wide:"),
            "`Fails`: `eventName`: UTF-16 is bytes",
        ),
    ] {
        let refused = read(&text).expect_err(&text);
        assert!(refused.contains("rules.yml") && refused.contains(reason), "{refused}\n{text}");
    }
}

#[test]
fn unsupported_values_and_counts_are_refused_by_name() {
    let detection = |rest: &str| document("Refused", &format!("detection:\n{rest}"));
    let item = |item: &str| detection(&format!("  s:\n    {item}\n  condition: s\n"));
    let count = |rest: &str| correlation("event_count", "fails", rest);
    for (text, reason) in [
        (item("eventName|base64: 7"), "`eventName`: `7` is not a text to encode"),
        (item("eventName|utf16le: A"), "add `base64` or `base64offset` after it"),
        (item("eventName|base64|wide: A"), "values are transformed in this order only"),
        (item("eventName|windash|gt: 1"), "`eventName`: only texts are transformed"),
        (item("eventName|windash: -a -b -c -d -e"), "makes more than 625 texts of this value"),
        (item("eventName: []"), "`eventName`: it is compared with nothing"),
        (item("eventName|contains: null"), "`eventName`: `null` is not a part of a text"),
        (item("eventTime|startswith: '2026'"), "`eventTime`: it can only be asked whether it is there"),
        (item("eventTime: '2026-09-01T10:00:00Z'"), "choose the time with `--from` and `--to`"),
        (item("requestParameters|cidr: 192.0.2.0/24"), "name the field that is meant"),
        (item("eventName|fieldref: userIdentity"), "`eventName`: `userIdentity`: it holds fields and is not a text"),
        (item("readOnly|contains: tru"), "`readOnly`: it is `true` or `false`, and nothing else"),
        (item("readOnly: 't*'"), "`readOnly`: it is `true` or `false`, and nothing else"),
        (item("readOnly: 1"), "`readOnly`: it is `true` or `false`, and nothing else"),
        (item("eventName|exists: maybe"), "`exists` is `true` or `false`"),
        (item("eventName|re: '(?=x)'"), "`eventName`: the regular expression `(?=x)` cannot be run"),
        (item("eventName|cidr: x"), "`x` is not a network"),
        (item("eventName|gt: x"), "`x` is not a number"),
        (item("resources[0].ARN: x"), "brackets in the names of fields are not understood"),
        (
            detection("  keywords: ['*']\n  condition: keywords\n"),
            "rules.yml:9:3: `Refused`: every record has this keyword",
        ),
        (detection("  keywords: [null]\n  condition: keywords\n"), "`null` is not a word to search for"),
        (
            detection("  keywords:\n    '|startswith': evil\n  condition: keywords\n"),
            "rules.yml:10:5: `Refused`: words without a field are searched for with `all`, `cased`, `contains` and `re` only",
        ),
        (detection("  keywords:\n    '|re': '(?=x)'\n  condition: keywords\n"), "cannot be run"),
        (detection("  s: {eventName: A}\n  condition: 2 of them\n"), "only `1 of` and `all of` are understood"),
        (detection("  s: {eventName: A}\n  condition: t\n"), "t"),
        (detection("  s: {eventName: A}\n  timeframe: 5m\n  condition: s\n"), "write a correlation with `timespan`"),
        (count("  condition: {lt: 1}\n"), "rules.yml:23:3: `Joined`: a count of 0 has no events to find"),
        (count("  condition: {eq: 0}\n"), "an absence is not hunted"),
        (count("  condition: {gte: 6, lte: 5}\n"), "no count satisfies the condition"),
        (count("  condition: {gte: 4294967296}\n"), "the count must be from 1 to 4294967295"),
        (
            correlation("value_count", "fails", "  condition: {gte: 2}\n"),
            "a `value_count` needs the `field` of its values",
        ),
        (
            count("  condition: {gte: 2}\n").replace("[fails]", "[nobody]"),
            "`Joined`: it names `nobody`, but no rule of these files has that `id`, `name` or `title`",
        ),
        (count("  condition: {gte: 2}\n").replace("timespan: 10m", "timespan: 2y"), "366 days"),
    ] {
        let refused = read(&text).expect_err(&text);
        assert!(refused.contains("rules.yml") && refused.contains(reason), "{refused}\n{text}");
    }
}

#[test]
fn refused_notations_say_what_to_write() {
    let detection = |rest: &str| document("Refused", &format!("detection:\n{rest}"));
    let item = |item: &str| detection(&format!("  s:\n    {item}\n  condition: s\n"));
    for (text, reason) in [
        (
            correlation("temporal", "fails, succeeds", "  condition: {gte: 1}\n"),
            "with `gte: 1` one of the rules is enough",
        ),
        (
            correlation("temporal", "fails, succeeds", "  condition: {gte: 3}\n"),
            "it has 2 rules, and at least 3 of them must match",
        ),
        (
            correlation("temporal", "fails, succeeds", "  condition: fails or (fails and succeeds)\n"),
            "`and` within `or` or `not` is not hunted",
        ),
        (correlation("temporal", "fails, succeeds", "  condition: fails and fails\n"), "does not name `succeeds`"),
        (
            correlation("temporal", "fails, succeeds", "  condition: fails and other\n"),
            "names `other`, which is not one",
        ),
        (correlation("temporal", "fails, succeeds", "  condition: 1 of them\n"), "it must name the rules"),
        (
            correlation("temporal_ordered", "fails, fails, succeeds", "  condition: {gte: 2}\n"),
            "in order, all rules must have a match",
        ),
        (
            correlation("temporal_ordered", "fails, succeeds", "  condition: fails or succeeds\n"),
            "in order, all rules must have a match",
        ),
        (
            detection("  s: {eventName: A}\n  condition: s | count() by userIdentity.arn > 5\n"),
            "rules.yml:10:14: `| count() by userIdentity.arn > 5` is the old notation of counts: write a correlation with `type: event_count`",
        ),
        (
            detection("  s: {eventName: A}\n  condition: s and and\n"),
            "the condition cannot be read at its character 7: expected ",
        ),
        (item("eventName|containing: A"), "rules.yml:10:5: `eventName|containing`: Sigma has no modifier `containing`"),
        (item("eventName|not: A"), "write `not` into the condition"),
        (
            item("requestParameters.at|hour: 3"),
            "`requestParameters.at`: `hour` is a part of a time, and only `eventTime` is one",
        ),
        (item("eventTime|hour: 24"), "`hour` is a number from 0 to 23, not `24`"),
        (item("eventTime|hour|contains: 2"), "it is a number: compare it with numbers"),
        (
            item("requestParameters.x|expand: '%admins%'"),
            "the placeholder `%admins%` has no values: give them in the file of `--placeholders`",
        ),
        (item("requestParameters: evil"), "`requestParameters`: it holds fields and is not a text"),
        (item("requestParameters: '*'"), "`requestParameters`: it holds fields and is not a text"),
    ] {
        let refused = read(&text).expect_err(&text);
        assert!(refused.contains("rules.yml") && refused.contains(reason), "{refused}\n{text}");
    }
}

fn tawny(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap()
}

#[test]
fn sigma_folder_works_in_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    let (parts, joined) = correlation("event_count", "fails", "  condition: {gte: 2}\n")
        .split_once("title: Joined")
        .map(|(parts, rest)| (parts.to_owned(), format!("title: Joined{rest}")))
        .unwrap();
    std::fs::write(rules.join("parts.yml"), parts.trim_end_matches("---\n")).unwrap();
    std::fs::write(rules.join("joined.yml"), joined).unwrap();
    let rules = rules.to_str().unwrap();
    let hunt = tawny(&["hunt", "tests/data/trail", "--rules", rules, "--rule", "joined", "--format", "jsonl"]);
    let lines = String::from_utf8(hunt.stdout).unwrap();
    assert!(
        lines.contains("\"rule_id\":\"joined\"") && lines.lines().count() > 1,
        "{lines}{}",
        String::from_utf8_lossy(&hunt.stderr)
    );
    let list = String::from_utf8(tawny(&["rules", "list", rules]).stdout).unwrap();
    assert!(list.contains("joined") && list.contains("succeeds") && !list.contains("fails "), "{list}");
    assert_eq!(tawny(&["rules", "lint", rules]).status.code(), Some(0));
    let sql = String::from_utf8(tawny(&["sql", "joined", "--rules", rules]).stdout).unwrap();
    assert!(sql.contains("lower("), "{sql}");
}
