//! The shipped rules: each condition is tested, and their documentation is correct.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::hunt;
use tawny::raw::envelope::Record;
use tawny::raw::json;
use tawny::rule::catalog::{self, Entry, RuleSources};
use tawny::rule::placeholders::Placeholders;
use tawny::rule::value_lists::ValueLists;
use tawny::rule::{Counts, Predicate, Rule};
use tawny::table::MemoryTable;
use tawny::time::Range;

use crate::oracle;

fn tawny(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn library() -> Vec<Entry> {
    catalog::all(&[PathBuf::from("rules")]).unwrap()
}

type Combine = fn(Vec<Predicate>) -> Predicate;

/// Returns each way to drop or negate one condition of a predicate, with a description.
fn mutants(predicate: &Predicate) -> Vec<(String, Predicate)> {
    let short = |predicate: &Predicate| format!("{predicate:?}").chars().take(200).collect::<String>();
    let mut found = vec![(format!("not {}", short(predicate)), Predicate::None(vec![predicate.clone()]))];
    let combined: Option<(&Vec<Predicate>, Combine)> = match predicate {
        Predicate::All(parts) => Some((parts, Predicate::All)),
        Predicate::Any(parts) => Some((parts, Predicate::Any)),
        Predicate::None(parts) => Some((parts, Predicate::None)),
        Predicate::OnlyOne(parts) => Some((parts, Predicate::OnlyOne)),
        Predicate::Test { .. } | Predicate::During(_) | Predicate::Except { .. } => None,
        Predicate::Elements { list, quantifier, each } => {
            found.extend(mutants(each).into_iter().map(|(what, each)| {
                (what, Predicate::Elements { list: list.clone(), quantifier: *quantifier, each: Box::new(each) })
            }));
            None
        }
    };
    let Some((parts, combine)) = combined else { return found };
    for (place, part) in parts.iter().enumerate() {
        let mut without = parts.clone();
        without.remove(place);
        found.push((format!("without {}", short(part)), combine(without)));
        for (what, mutant) in mutants(part) {
            let mut with = parts.clone();
            with[place] = mutant;
            found.push((what, combine(with)));
        }
    }
    found
}

/// Returns for each predicate the numbers of the tests of `rule` that it matches.
fn matched(rule: &Rule, predicates: &[Predicate]) -> Vec<BTreeSet<usize>> {
    let mut builder = BatchBuilder::default();
    for (number, test) in rule.tests.iter().enumerate() {
        // The time and id of a record may be missing or repeated.
        let time = format!("2026-09-01T{:02}:{:02}:00Z", number / 60, number % 60);
        let own = json!({ "eventTime": time, "eventID": number.to_string() }).to_string();
        let mut members = json::members(&test.log).unwrap();
        members.retain(|(key, _)| !key.eq_ignore_ascii_case("eventTime") && !key.eq_ignore_ascii_case("eventID"));
        members.extend(json::members(&own).unwrap());
        builder.push(&Record { text: &test.log, members });
    }
    let one = |(number, predicate): (usize, &Predicate)| {
        let mut one = Rule {
            id: number.to_string(),
            detection: predicate.clone(),
            counts: Counts::Matches,
            first_seen: None,
            absence: None,
            ..rule.clone()
        };
        one.window.threshold = NonZeroU32::MIN;
        one
    };
    let rules: Vec<Rule> = predicates.iter().enumerate().map(one).collect();
    let data = MemoryTable(vec![builder.finish().unwrap()]);
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    let findings = oracle::RUNTIME.block_on(hunt::findings(&engine, &data, &rules, Range::default())).unwrap();
    let mut of_each = vec![BTreeSet::new(); rules.len()];
    for finding in findings {
        let rule: usize = finding.rule_id.parse().unwrap();
        of_each[rule].extend(finding.event_ids.iter().map(|id| id.parse::<usize>().unwrap()));
    }
    of_each
}

#[test]
fn rule_tests_fail_if_any_condition_is_dropped_or_negated() {
    let mut unseen = Vec::new();
    let mut tried = 0;
    for Entry { rule, .. } in library() {
        let wanted: BTreeSet<usize> =
            rule.tests.iter().enumerate().filter(|(_, test)| test.expected).map(|(number, _)| number).collect();
        assert!(!wanted.is_empty() && wanted.len() < rule.tests.len(), "{}: needs a match and a near miss", rule.id);
        let (whats, mut predicates): (Vec<String>, Vec<Predicate>) = mutants(&rule.detection).into_iter().unzip();
        predicates.push(rule.detection.clone());
        let mut matched = matched(&rule, &predicates);
        assert_eq!(matched.pop().unwrap(), wanted, "{}", rule.id);
        tried += matched.len();
        let survivors = whats.iter().zip(&matched).filter(|(_, matched)| **matched == wanted);
        unseen.extend(survivors.map(|(what, _)| format!("{}: {what}", rule.id)));
    }
    assert!(unseen.is_empty(), "{} of {tried}:\n{}", unseen.len(), unseen.join("\n"));
}

#[test]
fn shipped_rules_have_descriptions_and_runbooks() {
    let entries = library();
    let mut files = BTreeMap::new();
    for Entry { rule, file, warnings, .. } in &entries {
        assert!(warnings.is_empty(), "{file}: {warnings:?}");
        assert!(rule.notes.description.is_some() && rule.notes.runbook.is_some(), "{file}");
        assert!(!rule.mitre().is_empty() && !rule.group_by.is_empty(), "{file}");
        assert!(rule.id.starts_with("Tawny.") || rule.id == catalog::DEFAULT, "{file}: {}", rule.id);
        files.insert(file.clone(), rule.id.clone());
    }
    let shipped: BTreeMap<_, _> =
        catalog::all(&[]).unwrap().into_iter().map(|entry| (entry.file, entry.rule.id)).collect();
    assert_eq!(shipped, files, "every rule in rules/ is built into the program");
}

#[test]
fn a_rule_that_is_named_is_found_among_the_few_that_are_read() {
    let all = catalog::all(&[]).unwrap();
    let (placeholders, value_lists) = (&Placeholders::default(), &ValueLists::default());
    let read = |id: &str| {
        let needed_ids = &[id.to_owned()];
        let sources = RuleSources { paths: &[], with_shipped: false, needed_ids, placeholders, value_lists };
        catalog::load(sources).unwrap().entries
    };
    for entry in &all {
        let few = read(&entry.rule.id);
        assert!(few.contains(entry) && few.len() < 10, "{}: {}", entry.rule.id, few.len());
    }
    assert_eq!(read("AWS.None").len(), all.len());
}

#[test]
fn rules_readme_is_up_to_date() {
    let page = std::fs::read_to_string("rules/README.md").unwrap();
    let written = String::from_utf8(tawny(&["rules", "list", "--format", "markdown"]).stdout).unwrap();
    assert!(page == written, "update it: tawny rules list --format markdown > rules/README.md");
}

#[test]
fn coverage_counts_each_rule_under_its_techniques() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layer.json");
    let output = tawny(&["rules", "coverage", "--format", "json", "--navigator", file.to_str().unwrap()]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layer: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut wanted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let entries = library();
    for rule in entries.iter().map(|entry| &entry.rule).filter(|rule| rule.enabled) {
        for named in rule.mitre() {
            wanted.entry(named.split_once(':').unwrap().1).or_default().insert(&rule.id);
        }
    }
    let mut counted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for covered in told["techniques"].as_array().unwrap() {
        let rules = covered["rules"].as_array().unwrap().iter().map(|rule| rule.as_str().unwrap());
        counted.entry(covered["technique"].as_str().unwrap()).or_default().extend(rules);
    }
    assert_eq!(counted, wanted);
    let techniques = layer["techniques"].as_array().unwrap();
    let scored: BTreeSet<&str> = techniques.iter().map(|one| one["techniqueID"].as_str().unwrap()).collect();
    assert_eq!(scored, wanted.keys().copied().collect());
    assert!(techniques.iter().any(|one| one["techniqueID"] == "T1621" && one["tactic"] == "credential-access"));
    assert_eq!((&layer["domain"], &layer["versions"]["layer"]), (&json!("enterprise-attack"), &json!("4.5")));
}

#[test]
fn commands_that_need_one_rule_use_the_default_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail.json");
    let record = |minute: u32| {
        let mut record =
            crate::records::failed_sign_in("ann", &format!("2026-09-01T10:{minute:02}:00Z"), &minute.to_string());
        // Other rules would match this.
        record["userIdentity"] = json!({ "type": "Root", "accountId": "111122223333" });
        record
    };
    std::fs::write(&trail, json!({ "Records": [record(0), record(1), record(2)] }).to_string()).unwrap();
    let trail = trail.to_str().unwrap();
    for arguments in [&["hunt", trail, "--threshold", "2", "--format", "jsonl"][..], &["backtest", trail]] {
        let output = tawny(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(catalog::DEFAULT), "{told}");
        if arguments[0] == "hunt" {
            assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
        }
    }
}

/// Returns the records that the rule matches according to its tests.
fn hits(rule: &Rule) -> impl Iterator<Item = Value> {
    rule.tests.iter().filter(|test| test.expected).map(|test| serde_json::from_str(&test.log).unwrap())
}

/// Returns for each shipped rule how many of its own matches it still matches after `changed`, and their total number.
fn matched_of(changed: impl Fn(Value) -> Vec<Value>) -> Vec<(String, usize, usize)> {
    let mut rules: Vec<Rule> = library().into_iter().map(|entry| entry.rule).collect();
    let mut builder = BatchBuilder::default();
    let mut records = Vec::new();
    for (place, rule) in rules.iter_mut().enumerate() {
        let changed: Vec<Value> = hits(rule).flat_map(&changed).collect();
        records.push(changed.len());
        for (number, mut record) in changed.into_iter().enumerate() {
            // The time and id of a record may be missing or repeated.
            record["eventTime"] = json!("2026-09-01T00:00:00Z");
            record["eventID"] = json!(format!("{place}-{number}"));
            let text = record.to_string();
            builder.push(&Record { text: &text, members: json::members(&text).unwrap() });
        }
        (rule.counts, rule.first_seen) = (Counts::Matches, None);
        rule.window.threshold = NonZeroU32::MIN;
    }
    let data = MemoryTable(vec![builder.finish().unwrap()]);
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    let findings = oracle::RUNTIME.block_on(hunt::findings(&engine, &data, &rules, Range::default())).unwrap();
    let of_rule = |(place, (rule, records)): (usize, (Rule, usize))| {
        let own = format!("{place}-");
        let ids = findings.iter().filter(|finding| finding.rule_id == rule.id).flat_map(|finding| &finding.event_ids);
        (rule.id.clone(), ids.filter(|id| id.starts_with(&own)).count(), records)
    };
    rules.into_iter().zip(records).enumerate().map(of_rule).collect()
}

#[test]
fn shipped_rules_exclude_network_activity() {
    let network_activity = |mut record: Value| {
        record["eventCategory"] = json!("NetworkActivity");
        vec![record]
    };
    for (id, found, records) in matched_of(network_activity) {
        // The first rule stays as requested, and console sign-ins have no such records. The other one is about them.
        let wanted =
            if [catalog::DEFAULT, "Tawny.VPC.EndpointCallsDenied"].contains(&id.as_str()) { records } else { 0 };
        assert_eq!(found, wanted, "{id}: exclude `eventCategory: NetworkActivity`");
    }
}

#[test]
fn shipped_rules_about_denials_count_every_denial_code() {
    const CODES: [&str; 6] = [
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "Client.UnauthorizedOperation",
        "UnauthorizedAccess",
        "UnauthorizedAccessException",
    ];
    let with_each_code = |record: Value| {
        let is_denied = record["errorCode"].as_str().is_some_and(|code| CODES.contains(&code));
        let with = |code: &&str| {
            let mut record = record.clone();
            record["errorCode"] = json!(code);
            record
        };
        if is_denied { CODES.iter().map(with).collect() } else { Vec::new() }
    };
    let tested = matched_of(with_each_code);
    assert!(tested.iter().filter(|(_, _, records)| *records > 0).count() >= 4);
    for (id, found, records) in tested {
        assert_eq!(found, records, "{id}");
    }
}

#[test]
fn rules_with_windows_have_tests_of_several_records() {
    for Entry { rule, .. } in library() {
        let is_plain = rule.counts == Counts::Matches && rule.first_seen.is_none();
        if rule.window.threshold.get() == 1 && is_plain {
            continue;
        }
        let findings = |found: bool| rule.hunt_tests.iter().any(|test| test.expected.is_empty() != found);
        assert!(findings(true) && findings(false), "{}: needs `Logs` with and without a finding", rule.id);
    }
}

#[test]
fn one_act_is_a_finding_of_one_rule() {
    let act = |number: usize, name: &str, parameters: Value| {
        let mut record = call(number, "iam.amazonaws.com", name);
        record["requestParameters"] = parameters;
        vec![record]
    };
    let all = "{\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}]}";
    let managed = |name: &str| json!({"userName": "noor", "policyArn": format!("arn:aws:iam::aws:policy/{name}")});
    let failed = |number: usize, mfa: &str| {
        let mut record = call(number, "signin.amazonaws.com", "ConsoleLogin");
        record["responseElements"] = json!({"ConsoleLogin": "Failure"});
        record["additionalEventData"] = json!({"MFAUsed": mfa});
        record
    };
    let passwords = (0..30).map(|number| {
        let mut record = call(number, "ec2.amazonaws.com", "GetPasswordData");
        record["errorCode"] = json!("Client.UnauthorizedOperation");
        record
    });
    for (records, rule) in [
        (act(0, "CreateUser", json!({"userName": "noor"})), "Tawny.IAM.UserCreated"),
        (act(0, "CreateAccessKey", json!({"userName": "noor"})), "Tawny.IAM.KeyForAnotherUser"),
        (act(0, "CreateAccessKey", json!({"userName": "mira"})), "Tawny.IAM.CredentialsUpdated"),
        (act(0, "CreateLoginProfile", json!({"userName": "noor"})), "Tawny.IAM.PasswordOfAnotherUser"),
        (act(0, "UpdateLoginProfile", json!({"userName": "noor"})), "Tawny.IAM.PasswordOfAnotherUserChanged"),
        (act(0, "AttachUserPolicy", managed("AdministratorAccess")), "Tawny.IAM.AdminPolicyAttachedToUser"),
        (act(0, "AttachUserPolicy", managed("ReadOnlyAccess")), "Tawny.IAM.PolicyModified"),
        (act(0, "PutUserPolicy", json!({"userName": "noor", "policyDocument": all})), "Tawny.IAM.PolicyAllowsAll"),
        ((0..25).map(|number| failed(number, "Yes")).collect(), catalog::DEFAULT),
        ((0..15).map(|number| failed(number, "No")).collect(), ""),
        (passwords.collect(), "Tawny.EC2.ManyPasswordsRead"),
    ] {
        let found: Vec<String> = reported(&records).into_iter().map(|(rule, _)| rule).collect();
        let wanted: Vec<&str> = if rule.is_empty() { Vec::new() } else { vec![rule] };
        assert_eq!(found, wanted, "{}", records[0]);
    }
}

/// Hunts records with the shipped rules and returns the rules of the findings with their event counts.
fn reported(records: &[Value]) -> Vec<(String, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail.json");
    std::fs::write(&trail, json!({ "Records": records }).to_string()).unwrap();
    let output = tawny(&["hunt", trail.to_str().unwrap(), "--format", "jsonl"]);
    let finding = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let told = lines.lines().map(finding);
    told.map(|f| (f["rule_id"].as_str().unwrap().to_owned(), f["count"].as_u64().unwrap())).collect()
}

fn call(number: usize, source: &str, name: &str) -> Value {
    json!({
        "eventTime": format!("2026-09-01T10:{:02}:{:02}Z", number / 60, number % 60),
        "eventID": format!("call-{number}"), "requestID": format!("request-{number}"), "eventCategory": "Management",
        "eventType": "AwsApiCall", "eventSource": source, "eventName": name, "awsRegion": "eu-west-1",
        "sourceIPAddress": "198.51.100.7", "userAgent": "aws-cli/2.17.9", "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/mira", "userName": "mira"},
    })
}

#[test]
fn call_through_a_vpc_endpoint_counts_once() {
    let calls = |count: usize| {
        let one = |number| {
            let call = call(number, "secretsmanager.amazonaws.com", "BatchGetSecretValue");
            let mut other = call.clone();
            other["eventID"] = json!(format!("endpoint-{number}"));
            other["eventCategory"] = json!("NetworkActivity");
            other["eventType"] = json!("AwsVpceEvent");
            [call, other]
        };
        (0..count).flat_map(one).collect::<Vec<_>>()
    };
    assert_eq!(reported(&calls(3)), []);
    assert_eq!(reported(&calls(5)), [("Tawny.SecretsManager.SecretsReadInBatches".to_owned(), 5)]);
}

#[test]
fn denial_codes_of_ec2_and_others_add_up() {
    let denied = |number: usize, code: &str| {
        let mut record = call(number, "ec2.amazonaws.com", "DescribeInstances");
        record["errorCode"] = json!(code);
        record
    };
    let both = ["Tawny.IAM.ManyCallsDenied", "Tawny.IAM.UserDeniedDiscovery"];
    for code in ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "Client.UnauthorizedOperation"] {
        let records: Vec<Value> = (0..25).map(|number| denied(number, code)).collect();
        assert_eq!(reported(&records), both.map(|id| (id.to_owned(), 25)), "{code}");
    }
    let mixed = (0..28).map(|number| denied(number, ["AccessDenied", "Client.UnauthorizedOperation"][number % 2]));
    assert_eq!(reported(&mixed.collect::<Vec<_>>()), both.map(|id| (id.to_owned(), 28)));
    let other: Vec<Value> = (0..25).map(|number| denied(number, "Client.RequestLimitExceeded")).collect();
    assert_eq!(reported(&other), []);
}
