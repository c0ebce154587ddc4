//! Every condition, on records whose field is present, null, of another type, or missing.

use std::sync::LazyLock;

use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::hunt;
use tawny::raw::envelope::Record;
use tawny::raw::json;
use tawny::rule::{Field, Predicate, Rule, panther};
use tawny::table::MemoryTable;
use tawny::time::Range;

const RECORDS: &[&str] = &[
    r#"{"eventName":"it's_a","readOnly":true,"requestParameters":{"bucket":"it's_a","port":22,"deep":{"flag":false}},"newKey":"it's_a"}"#,
    r#"{"eventName":"itXs_a","readOnly":"False","requestParameters":{"bucket":"itXs_a","port":"22","deep":{"flag":"false"}},"newKey":"x"}"#,
    r#"{"eventName":null,"readOnly":null,"requestParameters":{"bucket":null,"port":"022","deep":null},"newKey":null}"#,
    r#"{"eventName":{"a":1},"readOnly":"odd","requestParameters":{"bucket":["it's_a"],"port":22.0,"deep":[]},"newKey":{}}"#,
    r#"{"requestParameters":null}"#,
    "{}",
];

const EMPTY: &[&str] = &[
    r#"{"errorCode":"a","responseElements":{"x":0}}"#,
    r#"{"errorCode":"","responseElements":{"x":""}}"#,
    r#"{"errorCode":null,"responseElements":{"x":[ ]}}"#,
    r#"{"responseElements":{"x":{}}}"#,
    r#"{"errorCode":0,"responseElements":{"x":false}}"#,
    r#"{"errorCode":"b","responseElements":{"x":[null]}}"#,
];

const CASES: &[&str] = &[
    r#"{"userIdentity":{"userName":"A"},"requestParameters":{"name":"A"}}"#,
    r#"{"useridentity":{"username":"A"},"REQUESTPARAMETERS":{"NAME":"A"}}"#,
    r#"{"userIdentity":{"USERNAME":"A","userName":"B"},"requestParameters":{"NAME":"A","name":"B"}}"#,
    r#"{"userIdentity":{"user\u004eame":"A"},"requestParameters":{"n\u0061me":"A"}}"#,
];

const ADDRESSES: &[&str] = &[
    r#"{"sourceIPAddress":"10.0.0.1","requestParameters":{"cidr":["10.0.0.0/8","192.0.2.0/24"]}}"#,
    r#"{"sourceIPAddress":"8.8.8.8","requestParameters":{"cidr":"8.8.8.8"}}"#,
    r#"{"sourceIPAddress":"2606:4700::1111","requestParameters":{"cidr":["2606:4700::1111"]}}"#,
    r#"{"sourceIPAddress":"iam.amazonaws.com","requestParameters":{"cidr":[]}}"#,
    "{}",
];

const LISTS: &[&str] = &[
    r#"{"requestParameters":{"items":[{"port":22,"ips":["10.0.0.1"]},{"port":443,"ips":[]}],"names":["ab","cd"]}}"#,
    r#"{"requestParameters":{"items":[{"port":22,"ips":["a"]},{"port":"22"}],"names":["ab",22]}}"#,
    r#"{"requestParameters":{"items":[],"names":[]}}"#,
    r#"{"requestParameters":{"items":{"port":22},"names":"ab"}}"#,
    r#"{"requestParameters":null}"#,
];

const PAIRS: &[&str] = &[
    r#"{"userIdentity":{"accountId":"111122223333","arn":"arn:x/ann"},"recipientAccountId":"111122223333","requestParameters":{"userName":"ann","least":3,"most":10}}"#,
    r#"{"userIdentity":{"accountId":"444455556666","arn":"arn:x/ann"},"recipientAccountId":"111122223333","requestParameters":{"userName":"ANN","least":"10","most":3}}"#,
    r#"{"userIdentity":{"arn":"arn:x/ann"},"requestParameters":{"userName":["x","ann"],"least":3}}"#,
    "{}",
];

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap());

fn engine() -> Engine {
    Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap()
}

fn data(records: &[&str]) -> MemoryTable {
    let mut builder = BatchBuilder::default();
    for (index, record) in records.iter().enumerate() {
        let comma = if *record == "{}" { "" } else { "," };
        let rest = record.strip_prefix('{').unwrap();
        let text = format!("{{\"eventTime\":\"2026-09-01T00:00:00Z\",\"requestID\":\"{index}\"{comma}{rest}");
        builder.push(&Record { text: &text, members: json::members(&text).unwrap() });
    }
    MemoryTable(vec![builder.finish().unwrap()])
}

/// Returns which of `records` match, as a string of 0 and 1.
fn matches(detection: &str, records: &[&str]) -> String {
    let yaml = format!(
        "AnalysisType: rule\nRuleID: A.B\nEnabled: true\nSeverity: Info\nLogTypes: [AWS.CloudTrail]\nDetection: {detection}\n"
    );
    let mut rule = panther::parse("rule.yml", &yaml).unwrap_or_else(|error| panic!("{error}")).rule;
    rule.group_by = vec![Field::new("requestID".parse().unwrap())];
    let hunt =
        |rules: &[Rule]| RUNTIME.block_on(hunt::findings(&engine(), &data(records), rules, Range::default())).unwrap();
    let findings = hunt(std::slice::from_ref(&rule));
    // Several rules run on another path than one rule.
    let mut other = rule.clone();
    other.detection = Predicate::Any(Vec::new());
    assert_eq!(hunt(&[rule, other]), findings, "{detection}");
    let found: Vec<&str> = findings.iter().filter_map(|finding| finding.group["requestID"].as_str()).collect();
    (0..records.len()).map(|index| if found.contains(&index.to_string().as_str()) { '1' } else { '0' }).collect()
}

fn matched(detection: &str) -> String {
    matches(detection, RECORDS)
}

fn test(key: &str, condition: &str) -> String {
    matched(&format!("[{{KeyPath: '{key}', Condition: {condition}}}]"))
}

fn inverted(outcomes: &str) -> String {
    outcomes.chars().map(|c| if c == '1' { '0' } else { '1' }).collect()
}

/// Checks a condition and its negation.
fn check_both(key: &str, condition: &str, negation: &str, operand: &str, expected: &str) {
    assert_eq!(test(key, &format!("{condition}, {operand}")), expected, "{key} {condition} {operand}");
    assert_eq!(test(key, &format!("{negation}, {operand}")), inverted(expected), "{key} {negation} {operand}");
}

#[test]
fn positive_conditions_need_a_value_and_negated_ones_do_not() {
    for (key, in_list) in [("eventName", "0"), ("requestParameters.bucket", "1")] {
        // The fourth record has a list if the column is JSON.
        let with_list = |outcomes: &str| outcomes.replace('?', in_list);
        for (condition, negation, operand, expected) in [
            ("Equals", "DoesNotEqual", r#"Value: "it's_a""#, "100000"),
            ("IEquals", "IDoesNotEqual", r#"Value: "IT'S_a""#, "100000"),
            ("IsIn", "IsNotIn", r#"Values: ["it's_a", other]"#, "100?00"),
            ("StartsWith", "DoesNotStartWith", r#"Value: "it'""#, "100000"),
            ("StartsWith", "DoesNotStartWith", "Value: IT", "000000"),
            ("IStartsWith", "IDoesNotStartWith", "Value: IT", "110000"),
            ("EndsWith", "DoesNotEndWith", r#"Value: "s_a""#, "110000"),
            ("IEndsWith", "IDoesNotEndWith", r#"Value: "S_A""#, "110000"),
            ("Contains", "DoesNotContain", r#"Value: "t's_""#, "100?00"),
            ("IContains", "IDoesNotContain", r#"Value: "T'S_""#, "100?00"),
            ("Has", "DoesNotHave", r#"Value: "it's_a""#, "100?00"),
        ] {
            check_both(key, condition, negation, operand, &with_list(expected));
        }
    }
    check_both("newKey", "Equals", "DoesNotEqual", r#"Value: "it's_a""#, "100000");
    check_both("account", "Equals", "DoesNotEqual", "Value: '1'", "000000");
}

#[test]
fn values_are_compared_as_text() {
    for value in ["22", r#""22""#, "22.0"] {
        check_both("requestParameters.port", "Equals", "DoesNotEqual", &format!("Value: {value}"), "110100");
    }
    check_both("requestParameters.port", "Equals", "DoesNotEqual", "Value: 022", "001000");
    check_both("requestParameters.port", "IsIn", "IsNotIn", "Values: [1, 22]", "110100");
    check_both("requestParameters.deep.flag", "Equals", "DoesNotEqual", "Value: false", "110000");
    check_both("readOnly", "Equals", "DoesNotEqual", "Value: true", "100000");
    check_both("readOnly", "IsIn", "IsNotIn", "Values: [false]", "010000");
    check_both("readOnly", "Equals", "DoesNotEqual", "Value: odd", "000000");
}

#[test]
fn numbers_compare_by_value() {
    for (condition, expected) in [
        ("IsGreaterThan, Value: 21.5", "110100"),
        ("IsGreaterThan, Value: 22", "000000"),
        ("IsGreaterThanOrEquals, Value: 22", "110100"),
        ("IsGreaterThanOrEqual, Value: 22", "110100"),
        ("IsGreaterThanOrEqualTo, Value: 22", "110100"),
        ("IsLessThan, Value: 22", "000000"),
        ("IsLessThan, Value: 2.21e1", "110100"),
        ("IsLessThanOrEquals, Value: 22", "110100"),
        ("IsLessThanOrEqual, Value: 22", "110100"),
        ("IsLessThanOrEqualTo, Value: '22'", "110100"),
        ("IsLessThan, Value: 1e999", "110100"),
        ("IsGreaterThan, Value: -1", "110100"),
    ] {
        assert_eq!(test("requestParameters.port", condition), expected, "{condition}");
        assert_eq!(test("readOnly", condition), "000000", "{condition}");
    }
}

#[test]
fn field_exists_if_it_has_a_value() {
    for (key, expected) in [
        ("requestParameters.bucket", "110100"),
        ("requestParameters", "111100"),
        ("newKey", "110100"),
        ("account", "000000"),
        ("eventTime", "111111"),
    ] {
        for (condition, negation) in [("Exists", "DoesNotExist"), ("IsNotNull", "IsNull")] {
            assert_eq!(test(key, condition), expected, "{key}");
            assert_eq!(test(key, negation), inverted(expected), "{key}");
        }
    }
    for (key, filled) in [("errorCode", "100011"), ("responseElements.x", "100011"), ("responseElements", "111111")] {
        assert_eq!(matches(&format!("[{{KeyPath: {key}, Condition: IsNotNullOrEmpty}}]"), EMPTY), filled);
        assert_eq!(matches(&format!("[{{KeyPath: {key}, Condition: IsNullOrEmpty}}]"), EMPTY), inverted(filled));
    }
}

#[test]
fn combinators_return_true_or_false() {
    let a = r#"{Key: eventName, Condition: Equals, Value: "it's_a"}"#;
    let not_a = r#"{Key: eventName, Condition: DoesNotEqual, Value: "it's_a"}"#;
    let b = "{Key: readOnly, Condition: Equals, Value: false}";
    for (detection, expected) in [
        (format!("[{a}, {b}]"), "000000"),
        (format!("[{{Any: [{a}, {b}]}}]"), "110000"),
        (format!("[{{None: [{a}, {b}]}}]"), "001111"),
        (format!("[{{OnlyOne: [{a}, {b}]}}]"), "110000"),
        (format!("[{{OnlyOne: [{a}, {a}]}}]"), "000000"),
        (format!("[{{None: [{{All: [{a}, {b}]}}]}}]"), "111111"),
        ("[{All: []}]".to_owned(), "111111"),
        ("[{Any: []}]".to_owned(), "000000"),
        ("[{None: []}]".to_owned(), "111111"),
        ("[{OnlyOne: []}]".to_owned(), "000000"),
        ("[{Condition: AlwaysTrue}]".to_owned(), "111111"),
        (format!("[{{Any: [{{Condition: AlwaysFalse}}, {a}]}}]"), "100000"),
        (format!("[{not_a}, {b}]"), "010000"),
        (format!("[{{Any: [{not_a}, {b}]}}]"), "011111"),
        (format!("[{{None: [{not_a}, {b}]}}]"), "100000"),
        (format!("[{a}, {{Condition: AlwaysFalse}}]"), "000000"),
        (format!("[{{None: [{{Any: []}}]}}, {a}]"), "100000"),
        (format!("[{a}]\nInlineFilters: [{{All: []}}]"), "100000"),
        (format!("[{{Condition: AlwaysTrue}}]\nInlineFilters: [{a}]"), "100000"),
    ] {
        assert_eq!(matched(&detection), expected, "{detection}");
    }
}

#[test]
fn keys_are_case_insensitive() {
    for key in ["userIdentity.userName", "useridentity.USERNAME", "requestParameters.name"] {
        let found = matches(&format!("[{{KeyPath: {key}, Condition: Equals, Value: A}}]"), CASES);
        assert_eq!(found, "1101", "{key}: an exact key comes before one in another case");
    }
    assert_eq!(matches("[{DeepKey: [REQUESTparameters, NAME], Condition: Equals, Value: A}]", CASES), "1111");
}

#[test]
fn addresses_and_networks() {
    for (condition, expected) in [
        ("IsIPAddress", "11100"),
        ("IsIPAddress, Value: true", "11100"),
        ("IsIPv4Address", "11000"),
        ("IsIPv6Address", "00100"),
        ("IsIPAddressPrivate", "10000"),
        ("IsIPAddressPublic", "01100"),
        ("IsIPAddressInCIDR, Value: 10.0.0.0/8", "10000"),
        ("IsIPAddressNotInCIDR, Value: 10.0.0.0/8", "01111"),
        ("IsIPAddressInCIDR, Value: 8.8.8.8", "01000"),
        ("IsIPAddressInCIDR, Value: '2606:4700::/32'", "00100"),
    ] {
        let found = matches(&format!("[{{Key: sourceIPAddress, Condition: {condition}}}]"), ADDRESSES);
        assert_eq!(found, expected, "{condition}");
    }
    for (condition, expected) in [
        ("CIDRContainsIPAddresses, Value: 10.1.0.0/16", "10000"),
        ("CIDRDoesNotContainIPAddresses, Value: 10.1.0.0/16", "01111"),
        ("CIDRContainsIPAddresses, Value: 8.0.0.0/8", "01000"),
        ("CIDRContainsIPAddresses, Value: '::/0'", "00100"),
    ] {
        let found = matches(&format!("[{{KeyPath: requestParameters.cidr, Condition: {condition}}}]"), ADDRESSES);
        assert_eq!(found, expected, "{condition}");
    }
}

#[test]
fn lists_and_their_elements() {
    let found = |detection: &str| matches(&format!("[{{{detection}}}]"), LISTS);
    let port = "Expressions: [{Key: port, Condition: Equals, Value: 22}]";
    for (quantifier, expected) in
        [("AnyElement", "11000"), ("AllElements", "01100"), ("NoElement", "00111"), ("OnlyOneElement", "10000")]
    {
        let detection = format!("KeyPath: requestParameters.items, Condition: {quantifier}, {port}");
        assert_eq!(found(&detection), expected, "{quantifier}");
    }
    let both = "Expressions: [{Key: port, Condition: Equals, Value: 22}, {Key: ips, Condition: AnyElement, Expressions: [{Condition: StartsWith, Value: '10.'}]}]";
    assert_eq!(found(&format!("KeyPath: requestParameters.items, Condition: AnyElement, {both}")), "10000");
    let negative = "Expressions: [{Key: ips, Condition: IsNull}, {None: [{Key: port, Condition: Equals, Value: 23}]}]";
    assert_eq!(found(&format!("KeyPath: requestParameters.items, Condition: AnyElement, {negative}")), "01000");
    for (detection, expected) in [
        ("KeyPath: 'requestParameters.items[0].port', Condition: Equals, Value: 22", "11000"),
        ("DeepKey: [requestParameters, items, 1, port], Condition: Equals, Value: 22", "01000"),
        ("KeyPath: 'requestParameters.items[-1].port', Condition: Equals, Value: 443", "10000"),
        ("KeyPath: 'requestParameters.items[*].port', Condition: Contains, Value: 443", "10000"),
        ("KeyPath: 'requestParameters.items[*].port', Condition: IsIn, Values: [443, 22]", "11000"),
        ("KeyPath: 'requestParameters.items[*].nothing', Condition: IsNullOrEmpty", "11111"),
        ("KeyPath: requestParameters.names, Condition: Contains, Value: b", "11010"),
        ("KeyPath: requestParameters.names, Condition: Contains, Value: 22", "01000"),
        ("KeyPath: requestParameters.names, Condition: Contains, Value: 2", "00000"),
        ("KeyPath: requestParameters.names, Condition: Equals, Value: ab", "00010"),
        (
            "KeyPath: requestParameters.names, Condition: OnlyOneElement, Expressions: [{Condition: Contains, Value: b}]",
            "11000",
        ),
        ("KeyPath: requestParameters.names, Condition: NoElement, Expressions: [{Condition: AlwaysTrue}]", "00111"),
        ("Key: eventName, Condition: AnyElement, Expressions: []", "00000"),
        ("Key: eventName, Condition: NoElement, Expressions: []", "11111"),
    ] {
        assert_eq!(found(detection), expected, "{detection}");
    }
}

#[test]
fn fields_compare_with_fields() {
    let of = |condition: &str, left: &str, right: &str| {
        let keys = format!("[{{KeyPath: {left}}}, {{KeyPath: {right}}}]");
        matches(&format!("[{{Condition: {condition}, Values: {keys}}}]"), PAIRS)
    };
    let (account, recipient) = ("userIdentity.accountId", "recipientAccountId");
    assert_eq!(of("Equals", account, recipient), "1000");
    assert_eq!(of("DoesNotEqual", account, recipient), "0111");
    let (arn, name) = ("userIdentity.arn", "requestParameters.userName");
    assert_eq!(of("EndsWith", arn, name), "1000");
    assert_eq!(of("IEndsWith", arn, name), "1100");
    assert_eq!(of("DoesNotEndWith", arn, name), "0111");
    assert_eq!(of("Contains", name, "requestParameters.userName"), "1100");
    assert_eq!(of("IContains", "userIdentity.arn", name), "1100");
    assert_eq!(of("IsGreaterThan", "requestParameters.least", "requestParameters.most"), "0100");
    assert_eq!(of("IsLessThanOrEquals", "requestParameters.least", "requestParameters.most"), "1000");
    let of_element =
        "{KeyPath: requestParameters.userName, Condition: AnyElement, Expressions: [{Condition: Equals, Value: ann}]}";
    assert_eq!(matches(&format!("[{of_element}]"), PAIRS), "0010");
}

/// A rule matches the same records alone and together with others, which is another path.
#[test]
fn rule_that_never_matches_affects_no_other() {
    let yaml = |id: &str, detection: &str| {
        let text = format!(
            "AnalysisType: rule\nRuleID: {id}\nEnabled: true\nSeverity: Info\nLogTypes: [AWS.CloudTrail]\nDetection: {detection}\n"
        );
        panther::parse("rule.yml", &text).unwrap().rule
    };
    let rules = [
        yaml("Never", "[{Condition: AlwaysFalse}]"),
        yaml("Neither", "[{Key: readOnly, Condition: Contains, Value: tru}]"),
        yaml("Named", r#"[{Key: eventName, Condition: Equals, Value: "it's_a"}]"#),
    ];
    let found = |rules: &[Rule]| -> Vec<String> {
        let findings = RUNTIME.block_on(hunt::findings(&engine(), &data(RECORDS), rules, Range::default())).unwrap();
        findings.into_iter().map(|finding| finding.rule_id).collect()
    };
    assert_eq!(found(&rules), ["Named"]);
    for rules in [&rules[..1], &rules[..2], &rules[1..2]] {
        assert_eq!(found(rules), Vec::<String>::new());
    }
}

#[test]
fn rules_can_be_nested_and_long() {
    let never = "{Key: eventName, Condition: Equals, Value: x}";
    for (open, close) in [
        ("{None: [", "]}"),
        ("{OnlyOne: [", "]}"),
        ("{KeyPath: requestParameters.items, Condition: AnyElement, Expressions: [", "]}"),
    ] {
        let nested = format!("[{}{never}{}]", open.repeat(11), close.repeat(11));
        assert_eq!(matched(&nested).len(), RECORDS.len(), "{open}");
    }
    let tests: Vec<String> =
        (0..400).map(|n| format!("{{KeyPath: requestParameters.k{n}, Condition: Equals, Value: x}}")).collect();
    assert_eq!(matched(&format!("[{}]", tests.join(", "))), "000000");
}

#[test]
fn list_in_place_of_a_string() {
    const LISTS: &[&str] = &[
        r#"{"userIdentity":{"userName":["bob","ann"]}}"#,
        r#"{"userIdentity":{"userName":"bob"}}"#,
        r#"{"userIdentity":{"userName":12}}"#,
        "{}",
    ];
    for (condition, expected) in [
        ("Contains, Value: bo", "1100"),
        ("DoesNotContain, Value: bo", "0011"),
        ("IsIn, Values: [ann, bob]", "1100"),
        ("IsIn, Values: [12, x]", "0010"),
        ("IsNotIn, Values: [ann, bob]", "0011"),
        ("Equals, Value: 12.0", "0010"),
        ("IEquals, Value: 12.0", "0010"),
        ("IDoesNotEqual, Value: 12.0", "1101"),
        ("IEquals, Value: BOB", "0100"),
    ] {
        let detection = format!("[{{KeyPath: userIdentity.userName, Condition: {condition}}}]");
        assert_eq!(matches(&detection, LISTS), expected, "{condition}");
    }
}
