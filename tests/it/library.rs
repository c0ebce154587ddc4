//! The rules that come with the program: each condition counts, and what is told of them is true.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::engine::Resources;
use tawny::event::batch::BatchBuilder;
use tawny::hunt::{self, Data};
use tawny::raw::envelope::Record;
use tawny::raw::json;
use tawny::rule::catalog::{self, Entry};
use tawny::rule::{Counts, Predicate, Rule};
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

/// Each way to leave out one condition of a predicate, or to turn one into its opposite, with what was done.
fn mutants(predicate: &Predicate) -> Vec<(String, Predicate)> {
    let short = |predicate: &Predicate| format!("{predicate:?}").chars().take(200).collect::<String>();
    let mut found = vec![(format!("not {}", short(predicate)), Predicate::None(vec![predicate.clone()]))];
    let combined: Option<(&Vec<Predicate>, Combine)> = match predicate {
        Predicate::All(parts) => Some((parts, Predicate::All)),
        Predicate::Any(parts) => Some((parts, Predicate::Any)),
        Predicate::None(parts) => Some((parts, Predicate::None)),
        Predicate::OnlyOne(parts) => Some((parts, Predicate::OnlyOne)),
        Predicate::Test { .. } => None,
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

/// For each predicate the numbers of the tests of `rule` whose records it matches.
fn matched(rule: &Rule, predicates: &[Predicate]) -> Vec<BTreeSet<usize>> {
    let mut builder = BatchBuilder::default();
    for (number, test) in rule.tests.iter().enumerate() {
        // A record's own time and identity may be missing, or another's too.
        let time = format!("2026-09-01T{:02}:{:02}:00Z", number / 60, number % 60);
        let own = json!({ "eventTime": time, "eventID": number.to_string() }).to_string();
        let mut members = json::members(&test.log).unwrap();
        members.retain(|(key, _)| !key.eq_ignore_ascii_case("eventTime") && !key.eq_ignore_ascii_case("eventID"));
        members.extend(json::members(&own).unwrap());
        builder.push(&Record { text: &test.log, members });
    }
    let one = |(number, predicate): (usize, &Predicate)| {
        let mut one =
            Rule { id: number.to_string(), detection: predicate.clone(), counts: Counts::Matches, ..rule.clone() };
        one.window.threshold = NonZeroU32::MIN;
        one
    };
    let rules: Vec<Rule> = predicates.iter().enumerate().map(one).collect();
    let data = Data::Memory(vec![builder.finish().unwrap()]);
    let resources = Resources::new(1, 256 << 20, std::env::temp_dir());
    let findings = oracle::RUNTIME.block_on(hunt::evaluate(&resources, &data, &rules, Range::default())).unwrap();
    let mut of_each = vec![BTreeSet::new(); rules.len()];
    for finding in findings {
        let rule: usize = finding.rule_id.parse().unwrap();
        of_each[rule].extend(finding.event_ids.iter().map(|id| id.parse::<usize>().unwrap()));
    }
    of_each
}

#[test]
fn no_condition_of_a_rule_can_be_left_out_or_turned_round_unseen_by_its_tests() {
    let mut unseen = Vec::new();
    let mut tried = 0;
    for Entry { rule, .. } in library() {
        let wanted: BTreeSet<usize> =
            rule.tests.iter().enumerate().filter(|(_, test)| test.expected).map(|(number, _)| number).collect();
        assert!(!wanted.is_empty() && wanted.len() < rule.tests.len(), "{}: a hit and a near miss", rule.id);
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
fn rules_tell_what_people_need() {
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
    assert_eq!(shipped, files, "all that lies in rules/ comes with the program");
}

#[test]
fn the_page_of_rules_is_what_the_command_writes() {
    let page = std::fs::read_to_string("rules/README.md").unwrap();
    let written = String::from_utf8(tawny(&["rules", "list", "--format", "markdown"]).stdout).unwrap();
    assert!(page == written, "write it anew: tawny rules list --format markdown > rules/README.md");
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
fn what_needs_one_rule_and_is_given_none_takes_the_default_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail.json");
    let record = |minute: u32| {
        let mut record =
            crate::records::failed_sign_in("ann", &format!("2026-09-01T10:{minute:02}:00Z"), &minute.to_string());
        // Other rules would find this.
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
