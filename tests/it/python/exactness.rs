//! A predicate that is said to be the rule gives what the evaluator gives; another one holds for every match.

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::hunt;
use tawny::rule::python::{EntryPoint, ModuleFiles, PythonModule, translate};
use tawny::rule::{Field, Operand, Predicate, Rule, RuleTest, Test, panther};

/// Expressions over fields of all kinds. Each is also negated, and joined with others.
const CONDITIONS: &[&str] = &[
    "event.get('eventName') == 'A'",
    "event.get('eventName', 'A') == 'A'",
    "event.get('eventName', '') in ('A', 'B')",
    "event['eventName'] != 'B'",
    "event.get('eventName') in {'A', 'B'}",
    "event.get('errorCode')",
    "event.get('errorCode') is None",
    "event.deep_get('errorCode', default='x') == 'x'",
    "event.get('readOnly')",
    "event.get('readOnly') is False",
    "event.get('readOnly', True)",
    "event.get('requestParameters') is None",
    "event.get('requestParameters')",
    "event.get('requestParameters', {}).get('name') == 'A'",
    "event.deep_get('requestParameters', 'name') == 'A'",
    "event.deep_get('requestParameters', 'name', default='A') == 'A'",
    "event.deep_get('requestParameters', 'name', default='') in ['A', 'B']",
    "event.deep_get('requestParameters', 'name') in {'A', 'B'}",
    "event.deep_get('requestParameters', 'name') is None",
    "event.deep_get('requestParameters', 'name')",
    "event.deep_get('requestParameters', 'name', default='Ax').startswith('A')",
    "event.deep_get('requestParameters', 'name').endswith('A')",
    "event.deep_get('requestParameters', 'flag') is True",
    "event.deep_get('requestParameters', 'flag') == True",
    "event.deep_get('requestParameters', 'flag') == False",
    "event.deep_get('requestParameters', 'flag', default=1) == True",
    "event.get('userAgent').startswith('A', 1)",
    "event.deep_get('requestParameters', 'flag') == '1'",
    "event.get('userAgent', '').startswith('a')",
    "event.get('userAgent').endswith(('A', 'b'))",
    "'A' in event.get('userAgent', 'xAx')",
    "'a' in event.get('userAgent', '').lower()",
    "event.get('userIdentity', {}).get('type') == 'Root'",
    "event.deep_get('userIdentity', 'type') != 'Root'",
    "event.udm('event_type') == 'user_account_created'",
    "any(event.get('eventName', '').startswith(p) for p in ['A', 'B'])",
    "all([event.get('eventName') == 'A', not event.get('errorCode')])",
    "'requestParameters' in event",
    "event.get('unknown') == 'A'",
    "event.get('unknown', 'A') == 'A'",
    "len(event.get('eventName')) == 1",
];

fn records() -> Vec<Value> {
    let values = [
        Value::Null,
        json!("A"),
        json!("B"),
        json!(""),
        json!("a"),
        json!("xA"),
        json!(1),
        json!("1"),
        json!(true),
        json!(false),
        json!(0),
        json!(["A"]),
        json!([]),
        json!({"name": "A"}),
        json!({}),
    ];
    let base = json!({"eventName": "A", "userAgent": "aA", "userIdentity": {"type": "Root"}, "requestParameters": {"name": "A"}});
    let mut records = vec![json!({"eventName": "CreateUser"}), base.clone(), json!({})];
    for value in &values {
        for key in ["name", "flag"] {
            let mut record = base.clone();
            record["requestParameters"] = json!({key: value});
            records.push(record);
        }
        let mut record = base.clone();
        record["unknown"] = value.clone();
        records.push(record);
        let mut record = base.clone();
        record["userIdentity"] = json!({"type": value});
        records.push(record);
        // Fields with a column have the types that CloudTrail gives them.
        if value.is_string() || value.is_null() {
            for key in ["eventName", "errorCode", "userAgent"] {
                let mut record = base.clone();
                record[key] = value.clone();
                records.push(record);
            }
        }
        if value.is_boolean() || value.is_null() {
            let mut record = base.clone();
            record["readOnly"] = value.clone();
            records.push(record);
        }
        if value.is_object() || value.is_null() {
            let mut record = base.clone();
            record["requestParameters"] = value.clone();
            records.push(record);
        }
    }
    records
}

#[tokio::test]
async fn predicates_say_what_the_code_says() {
    let mut codes: Vec<String> = Vec::new();
    for (index, condition) in CONDITIONS.iter().enumerate() {
        let other = CONDITIONS[(index * 7 + 3) % CONDITIONS.len()];
        // Planning takes most of the time, so each condition is in some of the forms.
        codes.push(match index % 4 {
            0 => format!("    return {condition}"),
            1 => format!("    return bool({condition})"),
            2 => format!("    return bool(({condition}) and ({other}))"),
            _ => format!("    return bool(({condition}) or ({other}))"),
        });
        codes.push(format!("    return not ({condition})"));
        if index % 3 > 0 {
            continue;
        }
        codes.push(format!("    if {condition}:\n        return False\n    x = {other}\n    if not x:\n        return True\n    return False"));
        codes.push(format!("    for n in ['A', 'B']:\n        if event.get('eventName') == n and {condition}:\n            return True\n    return False"));
    }
    let template = "AnalysisType: rule\nRuleID: ID\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
        Detection:\n  - {Key: eventName, Condition: Equals, Value: NAME}\n";
    let template = panther::parse("rule.yml", template).unwrap().rule;
    let tests: Vec<RuleTest> = records()
        .into_iter()
        .map(|log| RuleTest { name: String::new(), expected: true, log: log.to_string() })
        .collect();
    let rule = |detection: Predicate| Rule { detection, tests: tests.clone(), ..template.clone() };
    let files = ModuleFiles::default();
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(2, 256 << 20, folder.path()).unwrap();
    let (mut wrong, mut exact) = (Vec::new(), 0);
    for code in &codes {
        let module = PythonModule::read("rule.py", &format!("def rule(event):\n{code}\n"), &files).unwrap();
        let function = module.function(EntryPoint::Rule).unwrap();
        let translation = translate::predicate(&function);
        let is_exact = translation.is_exact;
        exact += usize::from(is_exact);
        let field = Field::Python(function.into());
        let value = tawny::rule::Value { text: "true".to_owned(), shortest: None };
        let evaluated = Predicate::Test { field, test: Test::Equals(Operand::Value(value)), negated: false };
        // One pair at a time: every rule is tested on the records of all.
        let results = hunt::run_rule_tests(&engine, &[rule(translation.predicate), rule(evaluated)]).await.unwrap();
        for (test, (predicate, evaluated)) in tests.iter().zip(results[0].iter().zip(&results[1])) {
            let fits = if is_exact { predicate == evaluated } else { *predicate || !evaluated };
            if !fits {
                wrong.push(format!("{code}\n{}: predicate {predicate}, code {evaluated}, exact {is_exact}", test.log));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), codes.len(), wrong[..wrong.len().min(12)].join("\n"));
    let share = exact * 100 / codes.len();
    assert!(share >= 30, "only {share} % are predicates");
}
