//! The findings that each sink gets by its settings, over several nights.

use std::collections::BTreeSet;

use tawny::nightly::state;
use tawny::rule::panther;

use super::*;

/// Returns a rule for three denied calls within an hour; critical if the triggering call is `Delete`.
fn rule_of(more: &str) -> Rule {
    let text = format!(
        "AnalysisType: rule\nRuleID: Test.Denied\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nThreshold: 3\n\
         DedupPeriodMinutes: 60\nGroupBy: [{{Key: account}}]\nDetection:\n  - {{Key: errorCode, Condition: Equals, Value: AccessDenied}}\n\
         DynamicSeverities:\n  - ChangeTo: Critical\n    Conditions:\n      - {{Key: eventName, Condition: Equals, Value: Delete}}\n{more}"
    );
    panther::parse("rule", &text).unwrap().rule
}

fn denied(minute: i64, name: &str) -> Value {
    json!({
        "eventTime": (START + minute * MINUTE).to_string(), "eventID": format!("id-{minute}"), "eventName": name,
        "eventSource": "s3.amazonaws.com", "errorCode": "AccessDenied", "recipientAccountId": "111122223333",
    })
}

fn files(place: &Place, name: &str, more: &str) -> Sink {
    let to = place.path(name);
    let settings = format!("name = '{name}'\nkind = 'files'\nto = '{}'\n{more}", to.display());
    Sink::open(&toml::from_str::<SinkSettings>(&settings).unwrap(), &place.stores, &|_| None, clock).unwrap()
}

/// Returns the findings added to a folder since the last call: severity, revision, withdrawn.
fn news(place: &Place, name: &str, seen: &mut BTreeSet<PathBuf>) -> Vec<String> {
    let pattern = format!("{}/**/*.jsonl", place.path(name).display());
    let mut news = Vec::new();
    for file in glob::glob(&pattern).unwrap().map(Result::unwrap).filter(|file| seen.insert(file.clone())) {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let gone = if line["withdrawn"] == true { " withdrawn" } else { "" };
            let replaced = line["supersedes"].as_array().unwrap().len();
            news.push(format!("{} {}{gone} {replaced}", line["severity"].as_str().unwrap(), line["revision"]));
        }
    }
    news.sort();
    news
}

#[test]
fn sink_gets_selected_findings_and_their_later_changes() {
    let place = Place::new();
    let rules = [rule_of("")];
    let sinks = || {
        [
            files(&place, "all", ""),
            files(&place, "grave", "min_severity = 'High'"),
            files(&place, "other", "rules = ['Other.*']"),
        ]
    };
    let (mut seen_all, mut seen_grave) = (BTreeSet::new(), BTreeSet::new());
    let mut night = |number: usize, records: &[Value]| {
        place.put(&format!("{number}.json"), records);
        let report = oracle::RUNTIME.block_on(place.run_into(&sinks(), &rules, START + DAY)).unwrap();
        let owed: Vec<(String, usize)> =
            report.deliveries.iter().map(|delivered| (delivered.sink.clone(), delivered.lines)).collect();
        let left = oracle::RUNTIME.block_on(state::read_state(&place.lake(), "default")).unwrap().deliveries;
        assert!(left.is_empty() && report.deliveries.iter().all(|delivered| delivered.undelivered == 0));
        (owed, news(&place, "all", &mut seen_all), news(&place, "grave", &mut seen_grave))
    };
    let owed = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1)).collect::<Vec<_>>();
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();

    let first = night(0, &[denied(10, "List"), denied(20, "Delete"), denied(30, "List")]);
    assert_eq!(first, (owed(&["all"]), lines(&["Low 1 0"]), lines(&[])), "the third call is the trigger");
    let grown = night(1, &[denied(15, "List")]);
    assert_eq!(
        grown,
        (owed(&["all", "grave"]), lines(&["Critical 2 0"]), lines(&["Critical 2 0"])),
        "now the deletion is the trigger"
    );
    let less = night(2, &[denied(16, "List")]);
    assert_eq!(
        less,
        (owed(&["all", "grave"]), lines(&["Low 3 0"]), lines(&["Low 3 0"])),
        "a sink that got it gets the change"
    );
    let replaced = night(3, &[denied(5, "List")]);
    assert_eq!(
        replaced,
        (owed(&["all", "grave"]), lines(&["Low 1 1"]), lines(&["Low 1 1"])),
        "supersedes a delivered finding"
    );
    let other = night(4, &[300, 301, 302].map(|minute| denied(minute, "List")));
    assert_eq!(other, (owed(&["all"]), lines(&["Low 1 0"]), lines(&[])), "another finding");
    let joined = night(5, &(6..30).map(|step| denied(step * 10 + 1, "List")).collect::<Vec<_>>());
    assert_eq!(joined.2, lines(&["Low 2 1"]), "both merged: it got the first");
}

#[test]
fn webhook_gets_only_alerts() {
    let place = Place::new();
    place.put("0.json", &[0, 1, 2].map(|minute| denied(minute, "List")));
    let hook = Hook::start(&[503, 503, 200]);
    let sinks = [hook.open("format = 'json'\nattempts = 1")];
    let silent = [
        Rule { id: "Signal".to_owned(), ..rule_of("CreateAlert: false\n") },
        Rule { id: "Info".to_owned(), severity: tawny::rule::Severity::Info, ..rule_of("") },
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = |rules: &[Rule]| runtime.block_on(place.run_into(&sinks, rules, START + DAY)).unwrap();
    let report = run(&silent);
    assert_eq!((report.findings.new, report.deliveries.len(), hook.take().len()), (2, 0, 0));
    assert!(!report.is_incomplete(), "nothing is pending");
    let all = [&silent[..], &[rule_of("")]].concat();
    for left in [1, 1, 0] {
        let report = run(&all);
        assert_eq!((report.deliveries[0].lines, report.deliveries[0].undelivered), (1, left));
    }
    assert_eq!(run(&all).deliveries.len(), 0);
}
