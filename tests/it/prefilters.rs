//! The prefilter skips no record that a rule matches, however its text is written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use arrow::array::{Array as _, AsArray as _};
use proptest::prelude::*;
use serde_json::Value;
use tawny::rule::catalog;
use tawny::store::{Object, ReadSettings};
use tawny::time::Instant;
use tawny::trail::{self, DecodeOptions, Prefilter, RequiredText};

use crate::oracle;

/// The names that a rule asks for.
const NAMES: [&str; 2] = ["CreateUser", "DeleteUser"];
/// The error code that a rule for any name asks for.
const DENIED: &str = "AccessDenied";

fn owned<C: FromIterator<String>>(texts: &[&str]) -> C {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn rules() -> Vec<RequiredText> {
    vec![
        RequiredText { event_names: Some(owned(&NAMES)), clauses: vec![] },
        RequiredText { event_names: None, clauses: vec![owned(&[DENIED])] },
    ]
}

/// The decoded fields of a record: `eventID`, `eventName` and `errorCode`.
type Decoded = (String, Option<String>, Option<String>);

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
            records.insert((value("eventID", row).unwrap(), value("eventName", row), value("errorCode", row)));
        }
    }
    (records, decoded.statistics.records.skipped_by_prefilter)
}

/// Returns members that name a call, seem to, or hold what seems to.
fn member() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        8 => prop::sample::select(vec!["eventName", "errorCode", "requestParameters"]),
        1 => prop::sample::select(vec!["eventname", r"event\u004eame", r#"\"eventName"#, "new"]),
    ];
    let plain = vec![
        r#""CreateUser""#,
        r#""ListUsers""#,
        r#""AccessDenied""#,
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
    let record = (prop::collection::vec(member(), 1..5), 0..=4_usize).prop_map(|(mut members, at)| {
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

proptest! {
    #![proptest_config(oracle::config(1_000))]

    #[test]
    fn no_match_is_skipped(form in 0..8_usize, elements in prop::collection::vec(element(), 1..4)) {
        let text = object(form, &elements);
        let (all, skipped) = decode(&text, &Prefilter::default());
        prop_assert_eq!(skipped, 0);
        let (admitted, _) = decode(&text, &Prefilter::new(rules()));
        for record in &all {
            let (_, name, error) = record;
            let is_match = name.as_deref().is_some_and(|name| NAMES.contains(&name)) || error.as_deref() == Some(DENIED);
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
    let ids: Vec<&str> = admitted.iter().map(|(id, _, _)| id.as_str()).collect();
    assert_eq!((ids, skipped), (vec!["CreateUser", "ListGroups"], 2));
}

/// One rule without a known name or word would make a hunt of all rules parse every record.
#[test]
fn every_shipped_rule_has_text_to_search_for() {
    for entry in catalog::all(&[PathBuf::from("rules")]).unwrap() {
        let required = entry.rule.detection.required_text();
        assert!(required.event_names.is_some() || !required.clauses.is_empty(), "{}", entry.rule.id);
    }
}
