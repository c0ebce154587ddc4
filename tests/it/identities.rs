//! The derived field `actor`: a table of fixed cases, and a comparison of every path with the one function.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use arrow::datatypes::Field;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};
use tawny::event::identity;
use tawny::raw::json;

use crate::optional;
use crate::tables::{columns, group, lower, ocsf, ocsf_columns, respelt, same, snake, text, write};

mod cases;

const ADDRESS: &str = "198.51.100.7";

/// A record: `userIdentity`, source address and recipient account, each as JSON text.
#[derive(Debug, Clone)]
struct Record {
    identity: String,
    address: Option<String>,
    recipient: Option<String>,
}

impl Record {
    fn text(&self, number: usize) -> String {
        let member = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(",\"{name}\":{}", json!(value))).unwrap_or_default()
        };
        let rest = [member("sourceIPAddress", &self.address), member("recipientAccountId", &self.recipient)].concat();
        format!(
            r#"{{"eventTime":"2026-09-01T10:00:00Z","eventID":"{number:05}","eventSource":"s3.amazonaws.com","eventName":"Act","userIdentity":{}{rest}}}"#,
            self.identity
        )
    }

    /// Returns the account and the actor.
    fn who(&self) -> (Option<String>, Option<String>) {
        let members = json::members(&self.identity).unwrap_or_default();
        let account = json::find(&members, "accountId").and_then(json::string).map(Cow::into_owned);
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let account = filled(self.recipient.clone()).or(filled(account));
        (account, identity::actor(&self.identity, self.address.as_deref()))
    }
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Value::Null)),
        1 => Just(Some(json!(""))),
        6 => prop::sample::select(values).prop_map(|value| Some(json!(value))),
    ]
}

const KINDS: &[&str] = &[
    "Root",
    "IAMUser",
    "AssumedRole",
    "FederatedUser",
    "IdentityCenterUser",
    "SAMLUser",
    "AWSAccount",
    "AWSService",
    "Unknown",
];
const NAMES: &[&str] = &["anaya", "Anaya", "it's", "ZOË", "HIDDEN_DUE_TO_SECURITY_REASONS"];
const PRINCIPALS: &[&str] = &[
    "AIDAEXAMPLE",
    "AROAEXAMPLE:ci",
    "AROAEXAMPLE:Anaya@example.com",
    "AROAEXAMPLE",
    "AROA:",
    "anonymous",
    "ANONYMOUS",
    "ANONYMOUS_PRINCIPAL",
    "111122223333:anaya",
    ":x",
    "a:B:c",
];
const ARNS: &[&str] = &[
    "arn:aws:iam::111122223333:user/Anaya",
    "arn:aws:iam::111122223333:user/path/Anaya",
    "arn:aws:iam::111122223333:user/",
    "arn:aws:sts::111122223333:assumed-role/deploy/ci",
    "arn:aws:sts::111122223333:assumed-role/deploy",
    "arn:aws:sts::111122223333:assumed-role/",
    "arn:aws:sts::111122223333:assumed-role//ci",
    "arn:aws-cn:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123/Anaya@example.com",
    "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123/",
    "arn:aws:sts::111122223333:federated-user/anaya",
    "arn:aws:iam::111122223333:root",
    "x:assumed-role/a:assumed-role/b/c",
    "x:user/a:user/B",
];
const ACCOUNTS: &[&str] = &["111122223333", "anonymous", "Anonymous", "ANONYMOUS_PRINCIPAL"];
const ROLES: &[&str] = &["deploy", "AWSReservedSSO_Admin_0123", "Deploy"];

/// Identities with string and object members only, as a table with typed columns can hold.
fn typed() -> impl Strategy<Value = Record> {
    let texts = (one_of(KINDS), one_of(NAMES), one_of(PRINCIPALS), one_of(ARNS), one_of(ACCOUNTS));
    let others =
        (one_of(&["ec2.amazonaws.com"]), one_of(&["AKIAEXAMPLE"]), one_of(ROLES), one_of(&["94482488-3041", "AB"]));
    let around = (
        prop::option::of(prop::sample::select(vec!["", ADDRESS])),
        prop::option::of(prop::sample::select(vec!["", "444455556666"])),
    );
    (texts, others, around).prop_map(
        |((kind, name, principal, arn, account), (by, key, role, user), (address, recipient))| {
            let object = |key: &str, value: Option<Value>| {
                value.map(|value| Value::from(Map::from_iter([(key.to_owned(), value)])))
            };
            let members = [
                ("type", kind),
                ("userName", name),
                ("principalId", principal),
                ("arn", arn),
                ("accountId", account),
                ("invokedBy", by),
                ("accessKeyId", key),
                ("sessionContext", object("sessionIssuer", object("userName", role))),
                ("onBehalfOf", object("userId", user)),
            ];
            let members = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
            Record {
                identity: Value::from(members.collect::<Map<_, _>>()).to_string(),
                address: address.map(str::to_owned),
                recipient: recipient.map(str::to_owned),
            }
        },
    )
}

/// The same with keys in other cases, repeated keys, values of other types, and values other than objects.
fn wild() -> impl Strategy<Value = Record> {
    let odd = prop::sample::select(vec!["null", "7", "true", "[]", "{}", "[\"Root\"]", "\"\""]);
    let keys = prop::sample::select(vec![
        "type",
        "USERNAME",
        "PrincipalID",
        "Arn",
        "sessioncontext",
        "accountid",
        "onbehalfof",
    ]);
    let changes = prop::collection::vec((keys, odd.clone(), any::<bool>()), 0..4);
    (typed(), changes, prop::option::weighted(0.1, odd)).prop_map(|(record, changes, whole)| {
        let mut members: Vec<String> = Vec::new();
        let whole_identity: Value = serde_json::from_str(&record.identity).unwrap();
        for (key, value) in whole_identity.as_object().unwrap() {
            // Some keys in another case.
            let other_case = changes.iter().any(|(changed, ..)| changed.len() == key.len());
            let key = if other_case { key.to_uppercase() } else { key.clone() };
            members.push(format!("{}:{value}", json!(key)));
        }
        for (key, value, first) in changes {
            let place = if first { 0 } else { members.len() };
            members.insert(place, format!("{}:{value}", json!(key)));
        }
        let identity = whole.map_or_else(|| format!("{{{}}}", members.join(",")), str::to_owned);
        Record { identity, ..record }
    })
}

/// Returns `count` random values of a strategy, the same in every run.
fn sample<S: Strategy>(strategy: &S, seed: u8, count: usize) -> Vec<S::Value> {
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn tawny(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Account and actor of each event.
type Who = BTreeMap<String, (Option<String>, Option<String>)>;

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Returns account and actor as columns of `tawny query`.
fn asked(data: &str) -> Who {
    let sql = "SELECT \"eventID\", account, actor FROM cloudtrail";
    let rows = tawny(&["query", sql, data, "--format", "jsonl"]);
    let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| (text_of(&row["eventID"]).unwrap(), (text_of(&row["account"]), text_of(&row["actor"])))).collect()
}

/// Writes a rule that groups by both to a folder.
fn rule(folder: &Path) -> String {
    let path = folder.join("rule.yml").display().to_string();
    let text = "AnalysisType: rule\nRuleID: Acts\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\n\
                DedupPeriodMinutes: 15\nDetection: [{Key: eventName, Condition: Equals, Value: Act}]\nGroupBy: [{Key: account}, {Key: actor}]\n";
    std::fs::write(&path, text).unwrap();
    path
}

/// Returns account and actor as groups of a hunt.
fn hunted(data: &str, rules: &[&str]) -> Who {
    let mut arguments = vec!["hunt", data, "--format", "jsonl"];
    arguments.extend(rules.iter().flat_map(|rule| ["--rules", rule]));
    let mut who = Who::new();
    for line in tawny(&arguments).lines() {
        let finding: Value = serde_json::from_str(line).unwrap();
        let group = &finding["group"];
        for id in finding["event_ids"].as_array().unwrap() {
            let earlier = who.insert(text_of(id).unwrap(), (text_of(&group["account"]), text_of(&group["actor"])));
            assert_eq!(earlier, None, "an event is in exactly one group");
        }
    }
    who
}

fn write_trail(path: &Path, records: &[Record]) -> Who {
    let lines: Vec<String> = records.iter().enumerate().map(|(number, record)| record.text(number)).collect();
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
    records.iter().enumerate().map(|(number, record)| (format!("{number:05}"), record.who())).collect()
}

/// Compares the account and actor of each record on one path with the expected values.
fn check(records: &[Record], want: &Who, found: &Who, path: &str) {
    let differ: Vec<_> = want.iter().filter(|(id, who)| found.get(*id) != Some(who)).collect();
    let first = differ.first().map(|(id, who)| (&records[id.parse::<usize>().unwrap()], who, found.get(*id)));
    assert!(
        differ.is_empty() && found.len() == want.len(),
        "{path}: {} of {} differ: {first:?}",
        differ.len(),
        want.len()
    );
}

/// Returns the rows and columns of a table whose identity is text or a struct.
fn table(records: &[Record], is_text: bool, spell: &dyn Fn(&str) -> String) -> (Vec<Field>, Vec<Value>) {
    let mut fields = columns(text(&spell("eventTime")), true, spell);
    fields.retain(|field| field.name() != &spell("userIdentity"));
    let member = |name: &str| text(&spell(name));
    let below = |name: &str, members: Vec<Field>| group(&spell(name), members);
    fields.push(if is_text {
        member("userIdentity")
    } else {
        let mut members: Vec<Field> =
            ["type", "principalId", "arn", "accountId", "userName", "invokedBy", "accessKeyId"].map(member).to_vec();
        members.push(below("sessionContext", vec![below("sessionIssuer", vec![member("userName")])]));
        members.push(below("onBehalfOf", vec![member("userId")]));
        below("userIdentity", members)
    });
    let row = |(number, record): (usize, &Record)| {
        let mut row: Value = serde_json::from_str(&record.text(number)).unwrap();
        if is_text {
            row["userIdentity"] = json!(record.identity);
        }
        respelt(&row, spell)
    };
    (fields, records.iter().enumerate().map(row).collect())
}

#[test]
fn every_path_has_the_same_account_and_actor() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let rule = rule(folder.path());
    for (what, records) in [("typed", sample(&typed(), 1, 600)), ("wild", sample(&wild(), 2, 600))] {
        let trail = folder.path().join(format!("{what}.json"));
        let want = write_trail(&trail, &records);
        let actors: std::collections::BTreeSet<_> = want.values().map(|(_, actor)| actor).collect();
        assert!(actors.len() > 20, "{actors:?}");
        let mut all = vec![trail.display().to_string()];
        tawny(&["convert", &all[0], "--lake", &at(&format!("{what}-lake"))]);
        all.push(at(&format!("{what}-lake")));
        let mut write_table = |name: &str, is_text: bool, spell: &dyn Fn(&str) -> String| {
            let (fields, rows) = table(&records, is_text, spell);
            write(&folder.path().join(format!("{what}-{name}")).join("a.parquet"), fields, &rows);
            all.push(at(&format!("{what}-{name}")));
        };
        write_table("athena", true, &lower);
        if what == "typed" {
            write_table("structs", false, &lower);
            write_table("umccr", false, &same);
            write_table("tailpipe", false, &snake);
        }
        for data in all {
            check(&records, &want, &asked(&data), &format!("query {data}"));
            check(&records, &want, &hunted(&data, &[&rule]), &format!("hunt {data}"));
        }
    }
}

#[test]
fn security_lake_actors() {
    let folder = tempfile::tempdir().unwrap();
    let records = sample(&typed(), 3, 300);
    let mut want = Who::new();
    let mut rows = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let mut whole: Value = serde_json::from_str(&record.text(number)).unwrap();
        // It has no session without an issuer, and no issuer without an ARN.
        let issuer = whole["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"]
            .as_str()
            .filter(|name| !name.is_empty());
        let arn = issuer.map(|name| format!("arn:aws:iam::111122223333:role/{name}"));
        whole["userIdentity"]["sessionContext"] = json!({ "sessionIssuer": { "arn": arn } });
        let mut row = ocsf(&whole);
        row["actor"]["invoked_by"] = whole["userIdentity"]["invokedBy"].clone();
        row["actor"]["user"]["credential_uid"] = whole["userIdentity"]["accessKeyId"].clone();
        row["unmapped"]["userIdentity.onBehalfOf.userId"] = whole["userIdentity"]["onBehalfOf"]["userId"].clone();
        rows.push(row);
        want.insert(format!("{number:05}"), record.who());
    }
    let mut fields = ocsf_columns();
    let mut user = ["type", "name", "uid", "uid_alt", "credential_uid"].map(text).to_vec();
    user.push(group("account", vec![text("uid")]));
    let actor = fields.iter_mut().find(|field| field.name() == "actor").unwrap();
    *actor = group("actor", vec![group("user", user), group("session", vec![text("issuer")]), text("invoked_by")]);
    write(&folder.path().join("lake/a.parquet"), fields, &rows);
    let data = folder.path().join("lake").display().to_string();
    check(&records, &want, &asked(&data), "query");
    check(&records, &want, &hunted(&data, &[&rule(folder.path())]), "hunt");
}

#[test]
fn table_without_actor_fields_refuses_rules_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (mut fields, rows) = table(&sample(&typed(), 4, 5), true, &lower);
    fields.retain(|field| field.name() != "useridentity");
    fields.push(text("kind"));
    write(&folder.path().join("table/a.parquet"), fields, &rows);
    let data = folder.path().join("table").display().to_string();
    let map = folder.path().join("map.yml").display().to_string();
    std::fs::write(&map, "layout: own\ncolumns: {userIdentity.type: kind, userIdentity.userName: kind}\n").unwrap();
    let rule = rule(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_tawny"))
        .args(["hunt", &data, "--map", &map, "--rules", &rule])
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(talk.contains("rule `Acts` asks for `actor`, which data in the layout `own` do not have"), "{talk}");
}

#[test]
fn struct_without_actor_members_causes_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let mut record: Value = serde_json::from_str(&sample(&typed(), 6, 1)[0].text(0)).unwrap();
    record["userIdentity"] = json!({ "type": "IAMUser" });
    let rule = rule(folder.path());
    for (name, lacks) in [("whole", false), ("short", true)] {
        let (mut fields, _) = table(&[], false, &same);
        if lacks {
            fields.retain(|field| field.name() != "userIdentity");
            fields.push(group(
                "userIdentity",
                ["type", "principalId", "arn", "accountId", "userName", "invokedBy"].map(text).to_vec(),
            ));
        }
        write(&folder.path().join(name).join("a.parquet"), fields, std::slice::from_ref(&record));
        let data = folder.path().join(name).display().to_string();
        let output =
            Command::new(env!("CARGO_BIN_EXE_tawny")).args(["hunt", &data, "--rules", &rule]).output().unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{talk}");
        assert_eq!(talk.contains("warning: `userIdentity` has no `onBehalfOf` in this data"), lacks, "{talk}");
    }
}

#[test]
fn other_engines_compute_the_same_account_and_actor() {
    let Some(python) = optional::dialects_python("account and actor in other SQL engines") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let rule = rule(folder.path());
    let records = sample(&typed(), 5, 600);
    let want = write_trail(&folder.path().join("trail.json"), &records);
    tawny(&["convert", &at("trail.json"), "--lake", &at("lake")]);
    let (fields, rows) = table(&records, false, &lower);
    write(&folder.path().join("athena/a.parquet"), fields, &rows);
    for engine in ["duckdb", "clickhouse", "spark"] {
        for layout in ["lake", "athena"] {
            let sql = tawny(&["sql", &rule, "--dialect", engine, "--layout", layout, "--data", &at(layout)]);
            std::fs::write(at("query.sql"), sql).unwrap();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/dialects.py");
            let output = Command::new(&python).args([script, engine, &at("query.sql")]).output().unwrap();
            if output.status.code() == Some(9) && engine != "duckdb" {
                optional::skip(&format!("account and actor in {engine}, {layout}"), "this Python does not have it");
                continue;
            }
            assert!(output.status.success(), "{engine}: {}", String::from_utf8_lossy(&output.stderr));
            let mut found = Who::new();
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                for id in row[6].as_array().unwrap() {
                    found.insert(text_of(id).unwrap(), (text_of(&row[0]), text_of(&row[1])));
                }
            }
            check(&records, &want, &found, &format!("{engine} {layout}"));
        }
    }
}

#[test]
fn account_and_actor_are_the_last_columns_of_a_query() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail.json");
    let record = Record {
        identity: r#"{"type":"IAMUser","userName":"Anaya","accountId":"111122223333"}"#.to_owned(),
        address: None,
        recipient: None,
    };
    write_trail(&trail, &[record.clone(), record]);
    let lake = folder.path().join("lake").display().to_string();
    let trail = trail.display().to_string();
    tawny(&["convert", &trail, "--lake", &lake]);
    for data in [&trail, &lake] {
        let all = tawny(&["query", "SELECT * FROM cloudtrail LIMIT 1", data, "--format", "csv"]);
        assert!(all.lines().next().unwrap().ends_with(",account,actor"), "{all}");
        let counted =
            "SELECT actor, account, count(*) AS n FROM cloudtrail WHERE actor = 'anaya' GROUP BY actor, account";
        let counted = tawny(&["query", counted, data, "--format", "jsonl"]);
        assert_eq!(counted.trim(), r#"{"actor":"anaya","account":"111122223333","n":2}"#);
    }
}

#[test]
fn identity_center_users_and_anonymous_callers_are_distinct() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail.json");
    let write = |records: Vec<Value>| std::fs::write(&trail, json!({ "Records": records }).to_string()).unwrap();
    let denied = |number: usize, identity: Value, address: String| {
        json!({
            "eventTime": format!("2026-09-01T10:00:{:02}Z", number % 60), "eventID": format!("{number}"),
            "eventSource": "sso.amazonaws.com", "eventName": "ListAccounts", "errorCode": "AccessDenied",
            "recipientAccountId": "111122223333", "sourceIPAddress": address, "userIdentity": identity,
        })
    };
    let path = folder.path().join("rule.yml");
    let rule = |threshold: u32| {
        let text = format!(
            "AnalysisType: rule\nRuleID: Denied\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nThreshold: {threshold}\n\
             DedupPeriodMinutes: 15\nGroupBy: [{{Key: account}}, {{Key: actor}}]\n\
             Detection: [{{Key: errorCode, Condition: Equals, Value: AccessDenied}}]\n"
        );
        std::fs::write(&path, text).unwrap();
    };
    let found = |more: &[&str]| {
        let arguments = [&["hunt", trail.to_str().unwrap(), "--format", "jsonl"], more].concat();
        let lines = tawny(&arguments);
        let finding = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        lines.lines().map(|line| (finding(line)["rule_id"].clone(), finding(line)["count"].clone())).collect::<Vec<_>>()
    };
    let own = ["--rules", path.to_str().unwrap()];

    let person = |name: &str| {
        json!({"type": "IdentityCenterUser", "accountId": "111122223333",
            "onBehalfOf": {"userId": name, "identityStoreArn": "arn:aws:identitystore::111122223333:identitystore/d-9067642ac7"}})
    };
    write(
        (0..6).map(|n| denied(n, person(["94482488-3041", "b4f8d4c8-60b1"][n % 2]), "192.0.2.1".to_owned())).collect(),
    );
    rule(5);
    assert_eq!(found(&own), []);
    rule(3);
    assert_eq!(found(&own).len(), 2);

    // For the shipped rule, many anonymous callers are not one identity, and one is.
    let stranger = || json!({"type": "AWSAccount", "principalId": "", "accountId": "anonymous"});
    write((0..25).map(|n| denied(n, stranger(), format!("198.51.100.{n}"))).collect());
    assert_eq!(found(&[]), []);
    write((0..25).map(|n| denied(n, stranger(), "198.51.100.1".to_owned())).collect());
    assert_eq!(found(&[]), [(json!("Tawny.IAM.ManyCallsDenied"), json!(25))]);
}
