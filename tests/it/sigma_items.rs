//! Sigma's paths through lists, text within objects, filters, placeholders, parts of times, and other log sources.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::hunt;
use tawny::raw::envelope::{self, Item};
use tawny::store::ReadSettings;
use tawny::table::MemoryTable;
use tawny::time::Range;

use crate::oracle;
use crate::records::failed_sign_in;
use crate::sigma::{asked, check, correlation, document, found, matched, named, read};

fn tawny(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap()
}

#[test]
fn paths_go_through_lists() {
    let containers = |commands: Value| asked(json!({ "containerDefinitions": commands }));
    let resources = |list: Value| json!({ "resources": list });
    check(vec![
        (
            "requestParameters.containerDefinitions.command|contains: '169.254'",
            vec![
                containers(json!([{"command": ["sh", "curl 169.254.170.2"]}])),
                containers(json!([{"command": "x"}, {"Command": "x169.254"}])),
                containers(json!({"command": ["169.254"]})),
            ],
            vec![
                containers(json!([{"command": []}, {"other": "169.254"}])),
                containers(json!("169.254")),
                asked(json!({})),
            ],
        ),
        (
            "resources.ARN|startswith: 'arn:aws:s3'",
            vec![resources(json!([{"ARN": "arn:aws:kms:a"}, {"ARN": "arn:aws:s3:::b"}]))],
            vec![resources(json!([{"ARN": "arn:aws:kms:a"}])), resources(json!([])), json!({})],
        ),
        (
            "resources.type: 'AWS::S3::Bucket'",
            vec![resources(json!([{"type": "x"}, {"type": "aws::s3::bucket"}]))],
            vec![resources(json!([{"type": "AWS::S3::BucketX"}]))],
        ),
        (
            "resources.accountId|exists: true",
            vec![resources(json!([{}, {"accountId": "1"}]))],
            vec![resources(json!([{}]))],
        ),
        (
            "resources.accountId|exists: false",
            vec![resources(json!([{}])), json!({})],
            vec![resources(json!([{"accountId": "1"}]))],
        ),
        (
            "resources.accountId: null",
            vec![resources(json!([{"accountId": null}]))],
            vec![resources(json!([{}, {"accountId": "1"}]))],
        ),
        (
            "requestParameters.items.port|gte: 22",
            vec![asked(json!({"items": [{"port": 1}, {"port": [3, 80]}]}))],
            vec![asked(json!({"items": [{"port": 1}]}))],
        ),
        (
            "requestParameters.items.cidr|cidr: 10.0.0.0/8",
            vec![asked(json!({"items": [{"cidr": "10.1.2.3"}]}))],
            vec![asked(json!({"items": [{"cidr": "192.0.2.1"}]}))],
        ),
    ]);
}

#[test]
fn text_is_searched_within_objects_and_lists() {
    let versioning =
        |status: &str| asked(json!({"VersioningConfiguration": {"Status": status}, "x": [1, {"y": true}]}));
    check(vec![
        (
            "requestParameters|contains: Suspended",
            vec![versioning("suspended"), asked(json!({"list": [[["x-Suspended"]]]}))],
            vec![versioning("Enabled"), asked(json!({"Suspended": "a key"})), json!({})],
        ),
        ("requestParameters|contains|all: [spend, true]", vec![versioning("Suspended")], vec![versioning("Enabled")]),
        ("requestParameters|startswith: Susp", vec![versioning("Suspended")], vec![versioning("xSuspended")]),
        ("requestParameters|endswith|cased: ded", vec![versioning("Suspended")], vec![versioning("SUSPENDED")]),
        ("requestParameters|re: '^Sus.*d$'", vec![versioning("Suspended")], vec![versioning("Enabled")]),
        ("requestParameters: 'Sus*ded'", vec![versioning("suspended")], vec![versioning("suspendedX")]),
        (
            "requestParameters|contains: 12",
            vec![asked(json!({"a": {"port": 8123}}))],
            vec![asked(json!({"a": {"port": 81}}))],
        ),
        (
            "requestParameters.VersioningConfiguration|contains: Susp",
            vec![versioning("Suspended")],
            vec![asked(json!({"other": {"Status": "Suspended"}}))],
        ),
        // Equality is about the value itself.
        (
            "requestParameters.VersioningConfiguration: Suspended",
            vec![asked(json!({"VersioningConfiguration": "Suspended"}))],
            vec![versioning("Suspended")],
        ),
        (
            "requestParameters|base64offset|contains: evil!",
            vec![asked(json!({"data": {"text": "eHhldmlsIXg="}}))],
            vec![asked(json!({"data": {"text": "evil!"}}))],
        ),
    ]);
}

#[test]
fn lone_wildcard_is_a_text() {
    let texts =
        || vec![asked(json!({"x": "a"})), asked(json!({"x": ""})), asked(json!({"x": 7})), asked(json!({"x": ["a"]}))];
    let others = || {
        vec![
            asked(json!({"x": []})),
            asked(json!({"x": {}})),
            asked(json!({"x": {"y": "z"}})),
            asked(json!({"x": null})),
        ]
    };
    check(vec![
        ("requestParameters.x: '*'", texts(), others()),
        ("requestParameters.x|contains: '*'", texts(), others()),
        ("requestParameters.x|re: '.*'", texts(), vec![asked(json!({"x": []})), asked(json!({"x": null}))]),
    ]);
}

#[test]
fn fieldref_compares_list_elements_and_numbers() {
    let both = |left: Value, right: Value| asked(json!({"left": left, "right": right}));
    check(vec![
        (
            "requestParameters.left|fieldref: requestParameters.right",
            vec![
                both(json!("a"), json!("A")),
                both(json!(["x", "a"]), json!("a")),
                both(json!("a"), json!(["x", "A"])),
                both(json!(["a", 7]), json!(["b", "7"])),
                both(json!(7), json!("7")),
            ],
            vec![both(json!(["a"]), json!(["b"])), both(json!({"a": 1}), json!({"a": 1})), both(json!([]), json!([]))],
        ),
        (
            "requestParameters.left|fieldref|contains: requestParameters.right",
            vec![both(json!(1234), json!(23)), both(json!(["x", "abc"]), json!(["z", "B"]))],
            vec![both(json!(1234), json!(32)), both(json!("abc"), json!(null))],
        ),
        (
            "requestParameters.left|fieldref|startswith|cased: eventName",
            vec![both(json!(["Xy"]), json!(0))],
            vec![both(json!(["xy"]), json!(0)), both(json!("yX"), json!(0))],
        ),
        (
            "eventName|fieldref|endswith: requestParameters.list.name",
            vec![asked(json!({"list": [{"name": "y"}, {"name": "x"}]}))],
            vec![asked(json!({"list": [{"name": "y"}]})), asked(json!({}))],
        ),
        (
            "requestParameters.left|fieldref|neq: requestParameters.right",
            vec![both(json!(["a"]), json!("b")), asked(json!({}))],
            vec![both(json!(["b", "a"]), json!("a"))],
        ),
    ]);
}

#[test]
fn keywords_are_searched_for_in_all_text_of_a_record() {
    let keywords = |selection: &str, records: &[Value]| {
        matched(&format!("  keywords:\n{selection}\n  condition: keywords\n"), records)
    };
    let records = [
        named("xEviLx"),
        asked(json!({"a": [{"b": "an evil one"}]})),
        asked(json!({"evil": "a key"})),
        json!({"eventName": "X", "unknown": {"x": ["evil"]}}),
        json!({"eventName": "X", "userAgent": "bad evil"}),
        json!({"eventName": "X", "requestParameters": "evil"}),
        asked(json!({"a": 1234, "b": true})),
    ];
    assert_eq!(keywords("    - evil\n    - other", &records), [true, true, false, true, true, true, false]);
    assert_eq!(keywords("    - 23", &records), [false, false, false, false, false, false, true]);
    assert_eq!(keywords("    - e*l o?e", &records), [false, true, false, false, false, false, false]);
    assert_eq!(keywords("    '|all': [evil, bad]", &records), [false, false, false, false, true, false, false]);
    assert_eq!(keywords("    '|cased': EviL", &records), [true, false, false, false, false, false, false]);
    assert_eq!(keywords("    '|re': '^ev.l$'", &records), [false, false, false, true, false, true, false]);
    assert_eq!(keywords("    '|re|i': 'x.*x'", &records), [true, false, false, false, false, false, false]);
    assert_eq!(
        keywords("    eventName: X\n    '|all': [evil]", &records),
        [false, true, false, true, true, true, false]
    );
    // Characters of expressions are text.
    assert_eq!(keywords("    - 'a.b('", &[named("a.b("), named("axb(")]), [true, false]);
}

#[test]
fn values_are_transformed_before_they_are_compared() {
    let data = |text: &str| asked(json!({"userData": text}));
    check(vec![
        (
            "requestParameters.userData|wide|base64offset|contains: IEX",
            // `powershell IEX` in UTF-16, from each offset.
            vec![data("SQBFAFgA"), data("IABJAEUAWAAgAA=="), data("eABJAEUAWAA=")],
            vec![data("SUVY"), data("IEX")],
        ),
        ("requestParameters.userData|utf16|base64: a", vec![data("//5hAA==")], vec![data("YQA="), data("a")]),
        (
            "requestParameters.userData|windash|contains: 'tool -enc'",
            vec![data("x tool /enc"), data("tool -ENC y"), data("tool \u{2013}enc")],
            vec![data("tool enc"), data("tool +enc")],
        ),
        (
            "requestParameters.userData|windash|base64: '-a'",
            vec![data("LWE="), data("L2E=")],
            vec![data("-a"), data("/a")],
        ),
    ]);
}

#[test]
fn end_of_an_expression_is_also_before_a_last_line_break() {
    check(vec![
        ("eventName|re: 'Trail$'", vec![named("Trail"), named("Trail\n")], vec![named("Trail\n\n"), named("Trail\nx")]),
        (r"eventName|re: 'a[$]\$$'", vec![named("a$$"), named("a$$\n")], vec![named("a$")]),
        (r"eventName|re: 'a[[:digit:]$]+$'", vec![named("a1$\n")], vec![named("a?")]),
        (r"eventName|re: '(?:a|b$)'", vec![named("b\n"), named("xa")], vec![named("b\nc")]),
        (r"eventName|re|m: 'a$'", vec![named("a\nb")], vec![named("ab")]),
    ]);
}

#[test]
fn parts_of_event_times_are_compared_in_utc() {
    const SUNDAY: &str = "2026-11-29T23:05:59Z";
    const MONDAY: &str = "2026-11-30T09:00:00Z";
    let mut builder = BatchBuilder::default();
    for (id, time) in [("sunday", SUNDAY), ("monday", MONDAY)] {
        let record = failed_sign_in("ann", time, id).to_string();
        envelope::items(&record, &ReadSettings::default(), &|_| true, &mut |item| match item {
            Item::Record(record) => {
                builder.push(&record);
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
    }
    let table = MemoryTable(vec![builder.finish().unwrap()]);
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    let cases = [
        ("eventTime|hour: [22, 23]", "sunday"),
        ("eventTime|hour|lt: 10", "monday"),
        ("eventTime|weekday: [6, 7]", "sunday"),
        ("eventTime|weekday|neq: 7", "monday"),
        ("eventtime|minute|gte: 5", "sunday"),
        ("eventTime|day: 30", "monday"),
        ("eventTime|week: 48", "sunday"),
        ("eventTime|month|lte: 11", "sunday monday"),
        ("eventTime|year: 2026", "sunday monday"),
        ("eventTime|year: 2025", ""),
    ];
    let rules = cases.map(|(item, _)| {
        let mut rule =
            read(&document("Timed", &format!("detection:\n  s: {{{item}}}\n  condition: s\n"))).unwrap().remove(0);
        rule.id = item.to_owned();
        rule
    });
    let findings = oracle::RUNTIME.block_on(hunt::findings(&engine, &table, &rules, Range::default())).unwrap();
    for (item, expected) in cases {
        let of_rule = findings.iter().filter(|finding| finding.rule_id == item);
        let found: Vec<&str> = of_rule.flat_map(|finding| finding.event_ids.iter().map(String::as_str)).collect();
        assert_eq!(found.join(" "), expected, "{item}");
    }
}

#[test]
fn log_sources_of_other_notations_are_read() {
    let rule = document("Read", "detection:\n  s: {eventName: A}\n  condition: s\n");
    let source = |source: &str| rule.replace("logsource:\n  product: aws\n  service: cloudtrail\n", source);
    for known in
        ["logsource: {product: aws}\n", "logsource: {service: cloudtrail}\n", "sourcetypes: [okta, cloudtrail]\n"]
    {
        assert_eq!(read(&source(known)).unwrap().len(), 1, "{known}");
    }
    for other in [
        "",
        "logsource: {category: webserver}\n",
        "logsource: {product: aws, category: x}\n",
        "logsource: {product: azure, service: cloudtrail}\n",
        "sourcetypes: [okta]\n",
        "sourcetypes: [cloudtrail]\nlogsource: {product: okta}\n",
    ] {
        assert!(read(&source(other)).is_err(), "{other}");
    }
}

const FILTER: &str = "---\ntitle: Without Robots\nlogsource: {product: aws, service: cloudtrail}\nfilter:\n  rules: RULES\n  robots: {userIdentity.userName|startswith: robot}\n  condition: not robots\n";

#[test]
fn filters_apply_to_the_rules_that_they_name() {
    let rule =
        |name: &str, event: &str| document(name, &format!("detection:\n  s: {{eventName: {event}}}\n  condition: s\n"));
    let both = format!("{}---\n{}", rule("One", "A"), rule("Two", "B"));
    let filtered = |rules: &str| read(&format!("{both}{}", FILTER.replace("RULES", rules))).unwrap();
    let plain = read(&both).unwrap();
    let differ = |rules: &str| {
        let filtered = filtered(rules);
        plain.iter().zip(&filtered).map(|(plain, filtered)| plain.detection != filtered.detection).collect::<Vec<_>>()
    };
    assert_eq!(differ("[One]"), [true, false]);
    assert_eq!(differ("[One, Two]"), [true, true]);
    assert_eq!(differ("any"), [true, true]);
    for (rules, reason) in
        [("[Three]", "rules.yml:26:11: `Without Robots`: it names `Three`"), ("[7]", "`rules` must be texts")]
    {
        let refused = read(&format!("{both}{}", FILTER.replace("RULES", rules))).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    let other = read(&format!("{both}{}", FILTER.replace("RULES", "any").replace("cloudtrail", "s3"))).unwrap_err();
    assert!(other.contains("its `logsource` is not"), "{other}");

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("rule.yml", &document("Named", "detection:\n  s: {userIdentity.userName|contains: robot}\n  condition: s\n"));
    let rules = folder.path().to_str().unwrap();
    let finds = || tawny(&["rules", "show", "Named", "--rules", rules]).status.code();
    assert_eq!(finds(), Some(0));
    write("filter.yml", FILTER.replace("RULES", "[Named]").trim_start_matches("---\n"));
    let sql = tawny(&["sql", "Named", "--rules", rules]);
    let sql = String::from_utf8(sql.stdout).unwrap();
    assert!(sql.contains("'robot'") && sql.contains("starts_with"), "{sql}");
}

#[test]
fn placeholders_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let rule = write(
        "rule.yml",
        &document("Expanded", "detection:\n  s: {eventName|expand: ['%calls%', 'x-%calls%']}\n  condition: s\n"),
    );
    let values = write("values.yaml", "calls: [ConsoleLogin, 'Get*']\n");
    let sql = tawny(&["sql", "Expanded", "--rules", &rule, "--placeholders", &values]);
    let sql = String::from_utf8(sql.stdout).unwrap();
    for value in ["'consolelogin'", "'get'", "'x-consolelogin'", "'x-get'"] {
        assert!(sql.contains(value), "{value}: {sql}");
    }
    let hunt = tawny(&["hunt", "tests/data/trail", "--rules", &rule, "--placeholders", &values, "--format", "jsonl"]);
    assert_eq!(hunt.status.code(), Some(0), "{}", String::from_utf8_lossy(&hunt.stderr));
    assert!(!hunt.stdout.is_empty());
    let without = tawny(&["hunt", "tests/data/trail", "--rules", &rule]);
    assert_eq!(without.status.code(), Some(2));
    for wrong in ["- a\n", "calls: {a: b}\n", "calls: [null]\n"] {
        let values = write("values.yaml", wrong);
        let refused = tawny(&["rules", "lint", &rule, "--placeholders", &values]);
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("values.yaml:1:"), "{wrong}");
    }
}

#[test]
fn temporal_correlations_may_ask_for_some_of_their_rules() {
    let both =
        [("ann", 0, "Success", "192.0.2.1"), ("ann", 5, "Failure", "192.0.2.1"), ("bob", 0, "Failure", "192.0.2.1")];
    let third = "---\ntitle: Never\nname: never\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {eventName: Never}\n  condition: s\n";
    let of_three = |condition: &str| third.to_owned() + &correlation("temporal", "fails, succeeds, never", condition);
    let found = |text: &str| {
        let text = text.replace("title: Never", "title: A").replace("name: never", "name: a").replace(", never", ", a");
        found(&text, &both)
    };
    assert_eq!(found(&of_three("")), Vec::<Vec<String>>::new());
    assert_eq!(found(&of_three("  condition: {gte: 2}\n")), [["0", "1"]]);
    assert_eq!(found(&of_three("  condition: {gt: 1}\n")), [["0", "1"]]);
    let all = correlation("temporal", "fails, succeeds", "  condition: fails and succeeds\n");
    assert_eq!(found(&all), [["0", "1"]]);
}

#[test]
fn number_beside_a_text_is_found_in_a_selection() {
    // Values of several types in one list.
    let records =
        [asked(json!({"x": 5})), asked(json!({"x": "five"})), asked(json!({"x": true})), asked(json!({"x": 6}))];
    let selection = "  selection:\n    requestParameters.x: [5, five, true]\n  condition: selection\n";
    assert_eq!(matched(selection, &records), [true, true, true, false]);
}
