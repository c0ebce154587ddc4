//! Predicates of Panther's CloudTrail rules, compared with the results of the original rules.
//!
//! The results are not part of this repository. If `TAWNY_SHARED` names a folder with
//! `data/panther/tests.jsonl` and `data/panther/outcomes.jsonl`, every rule is compared on every log.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde_json::Value;
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::hunt;
use tawny::raw::envelope::Record;
use tawny::raw::json;
use tawny::rule::catalog::{self, Entry};
use tawny::rule::{Counts, Rule, panther};
use tawny::table::MemoryTable;
use tawny::time::Range;

use crate::optional;

fn rules() -> Vec<Rule> {
    let text = std::fs::read_to_string("tests/data/panther_predicates.yml").unwrap();
    let read =
        |text: &str| panther::parse("panther_predicates.yml", text).unwrap_or_else(|error| panic!("{error}")).rule;
    text.split("\n---\n").map(read).collect()
}

/// Returns the shipped rules that must match exactly what a Panther rule matches, with its id from their first line.
fn followers() -> Vec<(Rule, String)> {
    let follows = |entry: Entry| {
        let id = entry.text.lines().next()?.strip_prefix("# Follows Panther's ")?.strip_suffix('.')?.to_owned();
        Some((entry.rule, id))
    };
    catalog::all(&[]).unwrap().into_iter().filter_map(follows).collect()
}

/// Returns for each rule the numbers of the logs that it matches.
fn matched(rules: &[Rule], logs: &[(usize, String)]) -> Vec<BTreeSet<usize>> {
    let mut builder = BatchBuilder::default();
    for (line, log) in logs {
        // The time and id of a log may be missing or repeated.
        let own = format!("{{\"eventTime\":\"2026-09-01T00:00:00Z\",\"eventID\":\"{line}\"}}");
        let mut members = json::members(log).unwrap();
        members.retain(|(key, _)| !key.eq_ignore_ascii_case("eventTime") && !key.eq_ignore_ascii_case("eventID"));
        members.extend(json::members(&own).unwrap());
        builder.push(&Record { text: log, members });
    }
    // Each match is one finding.
    let single = |rule: &Rule| {
        let mut rule = Rule { counts: Counts::Matches, ..rule.clone() };
        rule.window.threshold = NonZeroU32::MIN;
        rule
    };
    let rules: Vec<Rule> = rules.iter().map(single).collect();
    let data = MemoryTable(vec![builder.finish().unwrap()]);
    let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let findings = runtime.block_on(hunt::findings(&engine, &data, &rules, Range::default())).unwrap();
    let of = |rule: &Rule| {
        let ids = findings.iter().filter(|finding| finding.rule_id == rule.id).flat_map(|finding| &finding.event_ids);
        ids.map(|id| id.parse().unwrap()).collect()
    };
    rules.iter().map(of).collect()
}

#[test]
fn panther_predicates_can_be_hunted() {
    let rules = rules();
    assert!(rules.len() >= 60);
    let log = r#"{"eventName":"ConsoleLogin","eventSource":"signin.amazonaws.com"}"#.to_owned();
    let matched = matched(&rules, &[(0, log)]);
    let login = rules.iter().position(|rule| rule.id == "AWS.Console.Login").unwrap();
    assert!(matched[login].contains(&0));
}

#[test]
#[expect(clippy::print_stderr, reason = "prints the figures of the comparison")]
fn predicates_match_the_results_of_panther() {
    let Some(folder) = optional::panther_outcomes("outcomes of Panther's own tests") else {
        return;
    };
    let lines = |name: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // The distinct CloudTrail logs.
    let mut logs: Vec<(usize, Value)> = Vec::new();
    for (line, mut test) in lines("tests.jsonl").into_iter().enumerate() {
        let log = test["log"].take();
        let of_cloudtrail = log.get("p_log_type").is_none_or(|log_type| log_type == "AWS.CloudTrail");
        if of_cloudtrail && !logs.iter().any(|(_, earlier)| *earlier == log) {
            logs.push((line, log));
        }
    }
    let texts: Vec<(usize, String)> = logs.iter().map(|(line, log)| (*line, log.to_string())).collect();
    let is_network_activity = |(_, log): &&(usize, Value)| log["eventCategory"] == "NetworkActivity";
    let network_activity: BTreeSet<usize> = logs.iter().filter(is_network_activity).map(|(line, _)| *line).collect();
    let outcomes = lines("outcomes.jsonl");
    let mut differing = Vec::new();
    let own = rules().into_iter().map(|rule| (rule.clone(), rule.id)).collect();
    for (what, rules) in [("predicates", own), ("rules of the library", followers())] {
        let (rules, origins): (Vec<Rule>, Vec<String>) = rules.into_iter().unzip();
        for ((rule, origin), matched) in rules.iter().zip(&origins).zip(matched(&rules, &texts)) {
            let outcome = outcomes.iter().find(|outcome| outcome["rule_id"] == **origin);
            let outcome = outcome.unwrap_or_else(|| panic!("{origin} has no outcome"));
            let lines = outcome["match_lines"].as_array().unwrap();
            let mut wanted: BTreeSet<usize> =
                lines.iter().map(|line| usize::try_from(line.as_u64().unwrap()).unwrap()).collect();
            if rule.id != *origin {
                // The shipped rules exclude network activity; Panther's do not.
                wanted.retain(|line| !network_activity.contains(line));
            }
            differing.extend(wanted.symmetric_difference(&matched).map(|line| format!("{} line {line}", rule.id)));
        }
        eprintln!("{} {what}, {} pairs, {} differ", rules.len(), rules.len() * logs.len(), differing.len());
    }
    assert_eq!(differing, Vec::<String>::new());
}
