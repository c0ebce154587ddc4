//! Every condition, on records whose field is there, is null, is of another type, or is missing.

use tawny::engine::Resources;
use tawny::hunt;
use tawny::rule::{RuleTest, panther};

const RECORDS: &[&str] = &[
    r#"{"eventName":"it's_a","readOnly":true,"requestParameters":{"bucket":"it's_a","port":22,"deep":{"flag":false}},"newKey":"it's_a"}"#,
    r#"{"eventName":"itXs_a","readOnly":"False","requestParameters":{"bucket":"itXs_a","port":"22","deep":{"flag":"false"}},"newKey":"x"}"#,
    r#"{"eventName":null,"readOnly":null,"requestParameters":{"bucket":null,"port":"022","deep":null},"newKey":null}"#,
    r#"{"eventName":{"a":1},"readOnly":"odd","requestParameters":{"bucket":["it's_a"],"port":22.0,"deep":[]},"newKey":{}}"#,
    r#"{"requestParameters":null}"#,
    "{}",
];

/// Which of the records match, as a string of 0 and 1.
fn matched(detection: &str) -> String {
    let yaml = format!(
        "AnalysisType: rule\nRuleID: A.B\nEnabled: true\nSeverity: Info\nLogTypes: [AWS.CloudTrail]\nDetection: {detection}\n"
    );
    let rule = panther::parse("rule.yml", &yaml).unwrap();
    let resources = Resources { threads: 1, memory: 256 << 20, spill: std::env::temp_dir() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let one = |record: &&str| {
        let test = RuleTest { name: "test".to_owned(), expected: true, log: (*record).to_owned() };
        let matched = runtime.block_on(hunt::matches(&resources, &rule, &test)).unwrap();
        if matched { '1' } else { '0' }
    };
    RECORDS.iter().map(one).collect()
}

fn test(key: &str, condition: &str) -> String {
    matched(&format!("[{{KeyPath: {key}, Condition: {condition}}}]"))
}

#[test]
fn positive_tests_need_a_value_and_negative_ones_do_not() {
    for key in ["eventName", "requestParameters.bucket"] {
        for (condition, expected) in [
            (r#"Equals, Value: "it's_a""#, "100000"),
            (r#"DoesNotEqual, Value: "it's_a""#, "011111"),
            (r#"IsIn, Values: ["it's_a", other]"#, "100000"),
            (r#"IsNotIn, Values: ["it's_a", other]"#, "011111"),
            (r#"StartsWith, Value: "it'""#, "100000"),
            (r#"DoesNotStartWith, Value: "it'""#, "011111"),
            (r#"EndsWith, Value: "s_a""#, "110000"),
            (r#"DoesNotEndWith, Value: "s_a""#, "001111"),
            (r#"Contains, Value: "t's_""#, "100000"),
            (r#"DoesNotContain, Value: "t's_""#, "011111"),
        ] {
            assert_eq!(test(key, condition), expected, "{key} {condition}");
        }
    }
    assert_eq!(test("newKey", r#"Equals, Value: "it's_a""#), "100000");
    assert_eq!(test("newKey", r#"DoesNotEqual, Value: "it's_a""#), "011111");
}

#[test]
fn text_is_compared_whatever_its_type() {
    for value in ["22", r#""22""#] {
        assert_eq!(test("requestParameters.port", &format!("Equals, Value: {value}")), "110000");
    }
    assert_eq!(test("requestParameters.port", "Equals, Value: 022"), "001000");
    assert_eq!(test("requestParameters.deep.flag", "Equals, Value: false"), "110000");
    assert_eq!(test("readOnly", "Equals, Value: true"), "100000");
    assert_eq!(test("readOnly", "DoesNotEqual, Value: true"), "011111");
    assert_eq!(test("readOnly", "IsIn, Values: [false]"), "010000");
}

#[test]
fn a_field_exists_where_it_has_a_value() {
    for (key, expected) in [
        ("requestParameters.bucket", "110100"),
        ("requestParameters", "111100"),
        ("newKey", "110100"),
        ("account", "000000"),
    ] {
        assert_eq!(test(key, "Exists"), expected, "{key}");
        assert_eq!(test(key, "IsNotNull"), expected, "{key}");
        let inverted: String = expected.chars().map(|c| if c == '1' { '0' } else { '1' }).collect();
        assert_eq!(test(key, "DoesNotExist"), inverted, "{key}");
        assert_eq!(test(key, "IsNull"), inverted, "{key}");
    }
}

#[test]
fn combinators_have_two_values() {
    let a = r#"{Key: eventName, Condition: Equals, Value: "it's_a"}"#;
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
    ] {
        assert_eq!(matched(&detection), expected, "{detection}");
    }
}
