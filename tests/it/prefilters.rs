//! The prefilter skips no record that a rule matches, however its text is written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use arrow::array::{Array as _, AsArray as _};
use proptest::prelude::*;
use serde_json::Value;
use tawny::event::address::Class;
use tawny::rule::{catalog, panther};
use tawny::store::{Object, ReadSettings};
use tawny::time::Instant;
use tawny::trail::text_condition::{MemberTest, TextComparison, TextCondition};
use tawny::trail::{self, DecodeOptions, Prefilter};

use crate::oracle;

/// The names that a rule asks for.
const NAMES: [&str; 2] = ["CreateUser", "DeleteUser"];
/// The error code that a rule for any name asks for.
const DENIED: &str = "AccessDenied";
/// The columns that are compared.
const COLUMNS: [&str; 5] = ["eventID", "eventName", "errorCode", "sourceIPAddress", "requestParameters"];

fn member(key: &str, test: MemberTest, negated: bool) -> TextCondition {
    TextCondition::Member { key: key.to_owned(), test, negated }
}

fn one_of(texts: &[&str]) -> MemberTest {
    MemberTest::OneOf(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn rules() -> Vec<TextCondition> {
    vec![member("eventName", one_of(&NAMES), false), member("errorCode", one_of(&[DENIED]), false)]
}

/// The decoded [`COLUMNS`] of a record.
type Decoded = [Option<String>; COLUMNS.len()];

/// Returns the records in an object, and how many the prefilter skipped.
fn decode(text: &str, prefilter: &Prefilter) -> (BTreeSet<Decoded>, u64) {
    let path = PathBuf::from("object.json");
    let object = Object { real: path.clone(), path, size: text.len() as u64, modified: Instant::EPOCH, tag: None };
    let options = DecodeOptions { prefilter, hash_records: false };
    let decoded = trail::decode(&object, Ok(text.as_bytes()), &ReadSettings::default(), options).unwrap();
    assert!(decoded.statistics.balances(), "{:?}", decoded.statistics);
    let mut records = BTreeSet::new();
    for batch in &decoded.batches {
        let value = |name: &str, row: usize| {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            records.insert(COLUMNS.map(|name| value(name, row)));
        }
    }
    (records, decoded.statistics.records.skipped_by_prefilter)
}

/// Returns members that name a call, seem to, or hold what seems to.
fn member_text() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        8 => prop::sample::select(COLUMNS[1..].to_vec()),
        1 => prop::sample::select(vec!["eventname", "ERRORCODE", r"event\u004eame", r#"\"eventName"#, "new"]),
    ];
    let plain = vec![
        r#""CreateUser""#,
        r#""ListUsers""#,
        r#""AccessDenied""#,
        r#""192.0.2.1""#,
        r#""8.8.8.8""#,
        r#"{"eventName":"ListUsers"}"#,
        r#"[{"eventName":"ListUsers"}]"#,
    ];
    let odd = vec![
        r#""Create\u0055ser""#,
        r#""Access\u0044enied""#,
        r#""eventName""#,
        r#""\"eventName\":\"ListUsers\"""#,
        r#""}]{""#,
        r#"{"eventName":"CreateUser","a":["]",{"errorCode":"AccessDenied"}]}"#,
        r#"["CreateUser"]"#,
        "17",
        "null",
    ];
    let value = prop_oneof![4 => prop::sample::select(plain), 1 => prop::sample::select(odd)];
    (key, value, prop::sample::select(vec!["", " ", "\n\t"]))
        .prop_map(|(key, value, space)| format!("{space}\"{key}\"{space}:{space}{value}{space}"))
}

/// Returns the text of a value that may be a record or wrap one. `#` stands for its `eventID`.
fn element() -> impl Strategy<Value = String> {
    let wrap: fn(String) -> String = |record| format!(r##"{{"body":{},"eventID":"#0"}}"##, Value::from(record));
    let whole: fn(String) -> String =
        |record| format!(r##"{{"eventName":"ListUsers","_raw":{},"eventID":"#0"}}"##, Value::from(record));
    let detail: fn(String) -> String = |record| format!(r##"{{"detail":{record},"eventID":"#0"}}"##);
    let list: fn(String) -> String = |record| format!("[{record}]");
    let same: fn(String) -> String = |record| record;
    let record = (prop::collection::vec(member_text(), 1..5), 0..=4_usize).prop_map(|(mut members, at)| {
        members.insert(at.min(members.len()), r##""eventID":"#""##.to_owned());
        format!("{{{}}}", members.join(","))
    });
    let form = prop::sample::select(vec![same, same, same, same, wrap, whole, detail, list]);
    (record, form).prop_map(|(record, form)| form(record))
}

/// Returns an object with these values.
fn object(form: usize, elements: &[String]) -> String {
    let numbered = elements.iter().zip(0..).map(|(element, number)| element.replace('#', &format!("id-{number}-")));
    let numbered: Vec<String> = numbered.collect();
    match form {
        0 => format!("[{}]", numbered.join(",")),
        1 => numbered.join("\n"),
        2 => format!(r#"{{"Records":[{}],"more":1}}"#, numbered.join(",")),
        3 => format!(" {{ \"Records\" :\n[ {} ] }} ", numbered.join(" ,\n")),
        _ => format!(r#"{{"Records":[{}]}}"#, numbered.join(",")),
    }
}

/// Returns conditions on [`COLUMNS`] without negated words.
fn condition() -> impl Strategy<Value = TextCondition> {
    let compared =
        |comparison, with: &str, ignore_case| MemberTest::Compared { comparison, with: with.to_owned(), ignore_case };
    let tests = vec![
        MemberTest::Present,
        MemberTest::Filled,
        MemberTest::Address(Class::Address),
        MemberTest::Address(Class::Private),
        one_of(&NAMES),
        one_of(&[DENIED, ""]),
        compared(TextComparison::Equals, "createuser", true),
        compared(TextComparison::StartsWith, "Access", false),
        compared(TextComparison::EndsWith, "users", true),
        compared(TextComparison::Contains, "User", false),
    ];
    let keys = prop::sample::select(COLUMNS[1..4].to_vec());
    let test = (keys, prop::sample::select(tests), any::<bool>());
    let test = test.prop_map(|(key, test, negated)| member(key, test, negated));
    let tests = test.prop_recursive(3, 8, 3, |inner| {
        let parts = prop::collection::vec(inner, 0..3);
        let form = prop::sample::select(vec![TextCondition::All, TextCondition::Any, TextCondition::None]);
        (form, parts).prop_map(|(form, parts)| form(parts))
    });
    let key = prop::sample::select(vec![Some("requestParameters".to_owned()), None]);
    let words = (key, prop::collection::vec(prop::sample::select(vec!["ListUsers", "CreateUser"]), 1..3));
    let words = words
        .prop_map(|(key, words)| TextCondition::Words { key, words: words.into_iter().map(str::to_owned).collect() });
    (tests, prop::option::of(words))
        .prop_map(|(test, words)| TextCondition::All(words.into_iter().chain([test]).collect()))
}

/// Returns whether a decoded record satisfies a condition.
fn holds(condition: &TextCondition, record: &Decoded) -> bool {
    let value = |key: &str| record[COLUMNS.iter().position(|column| *column == key).unwrap()].as_deref();
    match condition {
        TextCondition::Unknown => true,
        TextCondition::All(parts) => parts.iter().all(|part| holds(part, record)),
        TextCondition::Any(parts) => parts.iter().any(|part| holds(part, record)),
        TextCondition::None(parts) => !parts.iter().any(|part| holds(part, record)),
        TextCondition::Member { key, test, negated } => value(key).is_some_and(|text| passes(test, text)) != *negated,
        TextCondition::Words { key, words } => {
            let key = key.as_deref();
            let texts = COLUMNS.iter().filter(|column| key.is_none_or(|key| key == **column));
            let mut texts = texts.filter_map(|column| value(column));
            texts.any(|text| words.iter().any(|word| text.contains(word.as_str())))
        }
    }
}

fn passes(test: &MemberTest, value: &str) -> bool {
    match test {
        MemberTest::Present => true,
        MemberTest::Filled => !value.is_empty(),
        MemberTest::OneOf(texts) => texts.contains(value),
        MemberTest::Address(Class::Private) => value == "192.0.2.1",
        MemberTest::Address(_) => ["192.0.2.1", "8.8.8.8"].contains(&value),
        MemberTest::Compared { comparison, with, ignore_case } => {
            let value = if *ignore_case { value.to_lowercase() } else { value.to_owned() };
            match comparison {
                TextComparison::Equals => value == *with,
                TextComparison::StartsWith => value.starts_with(with),
                TextComparison::EndsWith => value.ends_with(with),
                TextComparison::Contains => value.contains(with),
            }
        }
    }
}

proptest! {
    #![proptest_config(oracle::config(2_000))]

    #[test]
    fn no_match_is_skipped(
        form in 0..8_usize,
        elements in prop::collection::vec(element(), 1..4),
        conditions in prop::collection::vec(condition(), 1..3),
        are_many: bool,
    ) {
        let text = object(form, &elements);
        let (all, skipped) = decode(&text, &Prefilter::default());
        prop_assert_eq!(skipped, 0);
        // Rules that nothing matches, so that rules are dispatched by name.
        let others = if are_many { vec![member("eventName", one_of(&[]), false)] } else { vec![] };
        let (admitted, _) = decode(&text, &Prefilter::new(conditions.iter().cloned().chain(others).collect()));
        for record in &all {
            let is_match = conditions.iter().any(|condition| holds(condition, record));
            prop_assert!(!is_match || admitted.contains(record), "{:?} in {}", record, text);
        }
        prop_assert!(admitted.is_subset(&all));
    }
}

#[test]
fn records_of_other_names_are_skipped_without_parsing_them() {
    let record = |name: &str, more: &str| format!(r#"{{"eventID":"{name}","eventName":"{name}"{more}}}"#);
    let records = [
        record("CreateUser", ""),
        record("ListUsers", r#","requestParameters":{"eventName":"CreateUser"}"#),
        record("ListRoles", r#","errorMessage":"\"CreateUser\"\n","broken":nothing"#),
        record("ListGroups", r#","errorCode":"AccessDenied""#),
    ];
    let (admitted, skipped) = decode(&format!("{{\"Records\":[{}]}}", records.join(",")), &Prefilter::new(rules()));
    let ids: Vec<&str> = admitted.iter().filter_map(|[id, ..]| id.as_deref()).collect();
    assert_eq!((ids, skipped), (vec!["CreateUser", "ListGroups"], 2));
}

/// The conditions of rules test members and words before records are parsed.
#[test]
fn records_with_other_members_are_skipped() {
    let detection = "
RuleID: Test.Elsewhere
AnalysisType: rule
LogTypes: [AWS.CloudTrail]
Severity: Low
Enabled: true
Detection:
  - {KeyPath: userIdentity.arn, Condition: Contains, Value: /i-}
  - {Key: sourceIPAddress, Condition: IsIPAddress}
  - None: [{Key: sourceIPAddress, Condition: IsIPAddressPrivate}]
  - {Key: errorCode, Condition: IsNullOrEmpty}
";
    let rule = panther::parse("rule", detection).unwrap().rule;
    let none = member("eventName", one_of(&["No such call"]), false);
    let prefilter = Prefilter::new(vec![rule.detection.text_condition(), none]);
    let record = |arn: &str, address: &str, more: &str| {
        format!(
            r#"{{"eventID":"{arn} {address}","eventName":"A","userIdentity":{{"arn":"{arn}"}},"sourceIPAddress":"{address}"{more}}}"#
        )
    };
    let records = [
        record("a/i-1", "8.8.8.8", ""),
        record("a/i-2", "8.8.8.8", r#","errorCode":"""#),
        record("a/i-3", "192.0.2.1", ""),
        record("a/i-4", "ec2.amazonaws.com", ""),
        record("a/i-5", "8.8.8.8", r#","errorCode":"AccessDenied""#),
        record("a/6", "8.8.8.8", r#","requestParameters":{"a":"/i-6"}"#),
        record("a/7", "8.8.8.8", ""),
    ];
    let (admitted, skipped) = decode(&format!("{{\"Records\":[{}]}}", records.join(",")), &prefilter);
    let ids: Vec<&str> = admitted.iter().filter_map(|[id, ..]| id.as_deref()).collect();
    assert_eq!((ids, skipped), (vec!["a/i-1 8.8.8.8", "a/i-2 8.8.8.8"], 5));
}

/// One rule without a known condition on text would make a hunt of all rules parse every record.
#[test]
fn every_shipped_rule_has_text_to_search_for() {
    let mut of_any_call = Vec::new();
    for entry in catalog::all(&[PathBuf::from("rules")]).unwrap() {
        let condition = entry.rule.detection.text_condition();
        if condition.values_of("eventName").is_none() && condition.words().is_empty() {
            assert!(!entry.rule.enabled, "{} would slow down every hunt", entry.rule.id);
            of_any_call.push(entry.rule.id);
        }
    }
    // Any call may be new.
    assert_eq!(of_any_call, ["Tawny.New.CallsOfActor", "Tawny.New.RegionOfAccount", "Tawny.New.ServiceOfAccount"]);
}
