//! Rules whose matches must be new, night after night.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tawny::hunt;
use tawny::rule::{Field, FirstSeen, NewnessPeriods, Rule, Severity, WindowKind};
use tawny::time::{DAY, Period, Range};

use super::processes::{Home, key};
use super::{Place, START, by_id, fold, rule};
use crate::oracle::RUNTIME;
use crate::records::failed_sign_in;
use crate::s3_server::Server;

/// Returns a rule for addresses that are new to a user.
pub(super) fn new_addresses(kind: WindowKind, history: &str, learning: Option<&str>) -> Rule {
    let period = |text: &str| Period::parse_history(text).unwrap();
    let periods = NewnessPeriods { history: period(history), learning: learning.map(period) };
    let fields = vec![Field::new("sourceIPAddress".parse().unwrap())];
    let rule = rule(kind, 1, false);
    Rule { id: format!("{}.new", rule.id), first_seen: Some(FirstSeen { fields, periods }), ..rule }
}

fn sign_in(day: i64) -> Value {
    failed_sign_in("ann", &(START + day * DAY).to_string(), &format!("day-{day}"))
}

/// Runs each night, and compares the deliveries with a hunt. Returns the new and the withdrawn findings of each night.
fn nights(rule: Rule, delivered: &[Value]) -> Vec<(usize, usize)> {
    let place = Place::new();
    let rules = [rule];
    let night = |(number, record): (usize, &Value)| {
        place.put(&format!("{number}.json"), std::slice::from_ref(record));
        let report = RUNTIME.block_on(place.run(&rules, START + 100 * DAY)).unwrap();
        let whole = RUNTIME.block_on(hunt::findings(&place.engine, &place.lake(), &rules, Range::default())).unwrap();
        assert_eq!(fold(&place.path("findings")), by_id(&whole), "night {number}");
        (report.findings.new, report.findings.gone)
    };
    delivered.iter().enumerate().map(night).collect()
}

#[test]
fn late_event_makes_a_later_match_known() {
    for kind in WindowKind::ALL {
        let changes = nights(new_addresses(kind, "30d", None), &[sign_in(29), sign_in(0), sign_in(60), sign_in(31)]);
        assert_eq!(changes, [(1, 0), (1, 1), (1, 0), (0, 1)], "{kind}");
    }
}

#[test]
fn earlier_first_event_of_an_account_ends_its_learning_time() {
    let mut other_call = sign_in(0);
    other_call["responseElements"] = Value::Null;
    for kind in WindowKind::ALL {
        let rule = new_addresses(kind, "30d", Some("7d"));
        assert_eq!(nights(rule, &[sign_in(20), other_call.clone()]), [(0, 0), (1, 0)], "{kind}");
    }
}

#[test]
fn dropped_days_do_not_make_known_matches_new() {
    for (learning, found) in [(None, 1), (Some("7d"), 0)] {
        let place = Place { retain: Some(40 * DAY), ..Place::new() };
        let rule = new_addresses(WindowKind::Sliding, "30d", learning);
        place.put("0.json", &(0..8).map(|step| sign_in(step * 10)).collect::<Vec<_>>());
        let changes = [Severity::Low, Severity::Low, Severity::High].map(|severity| {
            let rules = [Rule { severity, ..rule.clone() }];
            let report = RUNTIME.block_on(place.run(&rules, START + 71 * DAY)).unwrap();
            (report.findings.new, report.findings.gone)
        });
        // The third night hunts everything that is left, for another version of the rule.
        assert_eq!(changes, [(found, 0), (0, 0), (0, 0)], "{learning:?}");
        let lake = place.lake();
        assert!(RUNTIME.block_on(lake.transaction_log().retained_from()).unwrap().is_some());
        let whole = RUNTIME.block_on(hunt::findings(&place.engine, &lake, &[rule], Range::default())).unwrap();
        assert_eq!(whole, [], "{learning:?}");
    }
}

#[test]
fn night_counts_matches_of_learning_accounts() {
    let place = Place::new();
    // With fewer matches than the threshold there is no finding, and they are counted all the same.
    let mut rule = new_addresses(WindowKind::Sliding, "1d", Some("7d"));
    rule.window.threshold = 5.try_into().unwrap();
    place.put("0.json", &[sign_in(0), sign_in(2), sign_in(4), sign_in(20)]);
    let report = RUNTIME.block_on(place.run(&[rule], START + 100 * DAY)).unwrap();
    assert_eq!(report.hunts.iter().map(|hunt| hunt.learning).sum::<u64>(), 3);
}

/// Nights of one day each in S3, for a rule with a history of thirty days.
struct NightsInS3 {
    server: Server,
    home: Home,
}

impl NightsInS3 {
    fn new() -> NightsInS3 {
        let home = Home::new("s3://lake/ct", "s3://logs", "[rules]\npaths = ['rules']\n");
        std::fs::create_dir(home.path("rules")).unwrap();
        let rule = "AnalysisType: rule\nRuleID: New.Address\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\n\
                    Detection: [{Key: eventName, Condition: Equals, Value: ConsoleLogin}]\nThreshold: 1\n\
                    GroupBy: [{Key: actor}]\nHunt: {New: [sourceIPAddress], History: 30d}\n";
        std::fs::write(home.path("rules/new.yml"), rule).unwrap();
        NightsInS3 { server: Server::start(), home }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.server.command();
        command.args(arguments).current_dir(self.home.path(""));
        command
    }

    /// Delivers a sign-in at noon of a day, and runs a night after it. Returns the new findings, and the dates of the lake's files
    /// that the night read.
    fn run(&self, day: i64, number: usize, address: &str) -> (u64, BTreeSet<String>) {
        let time = START + day * DAY + DAY / 2;
        let mut record = failed_sign_in("ann", &time.to_string(), &format!("{day}-{number}"));
        record["sourceIPAddress"] = address.into();
        self.server.put("logs", &key(day, number), json!({ "Records": [record] }).to_string().as_bytes());
        self.server.take_log();
        let now = (START + 40 * DAY).to_string();
        let output = self.command(&["nightly", "--now", &now, "--full", "--format", "json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let date = |line: &String| {
            let key = line.strip_prefix("GET")?.replace("%3D", "=");
            Some(key.split_once("date=")?.1.get(..10)?.to_owned())
        };
        (report["findings"]["new"].as_u64().unwrap(), self.server.take_log().iter().filter_map(date).collect())
    }

    /// The files of the keys of earlier matches.
    fn seen_files(&self) -> Vec<PathBuf> {
        let folder = self.server.file("lake", "ct/_tawny/nightly/default/seen");
        glob::glob(&format!("{}/*", folder.display())).unwrap().flatten().collect()
    }

    fn hold_against_a_hunt(&self) -> usize {
        let hunt = ["hunt", "s3://logs", "--format", "jsonl", "--rules", "rules"];
        self.home.hold_against_a_hunt(self.command(&hunt))
    }
}

#[test]
fn night_does_not_read_the_history_again() {
    let nights = NightsInS3::new();
    let date = |day: i64| (START + day * DAY).utc_date();
    for day in 0..12 {
        // The first three addresses are new, and later ones are known from three days before.
        let (new, read) = nights.run(day, 0, &format!("192.0.2.{}", day % 3));
        assert_eq!(new, u64::from(day < 3), "day {day}");
        if day > 1 {
            assert!(read.contains(&date(day)) && read.iter().all(|read| *read >= date(day - 1)), "day {day}: {read:?}");
        }
    }
    // A late event takes the newness from no later match here. Its own key was seen earlier, but not its address.
    let (new, read) = nights.run(5, 1, "192.0.2.77");
    assert!(new == 1 && read.contains(&date(0)), "the history of a late event is read: {read:?}");
    // Its key is known to the next nights.
    let (new, read) = nights.run(12, 0, "192.0.2.77");
    assert!(new == 0 && read.iter().all(|read| *read >= date(11)), "{read:?}");
    assert_eq!(nights.hold_against_a_hunt(), 4);
}

#[test]
fn lost_or_damaged_keys_are_read_again() {
    let nights = NightsInS3::new();
    let oldest = START.utc_date();
    for day in 0..4 {
        nights.run(day, 0, "192.0.2.1");
    }
    for (day, damages) in [(4, false), (5, true)] {
        for file in nights.seen_files() {
            if damages {
                let mut bytes = std::fs::read(&file).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&file, bytes).unwrap();
            } else {
                std::fs::remove_file(file).unwrap();
            }
        }
        let (new, read) = nights.run(day, 0, "192.0.2.1");
        assert!(new == 0 && read.contains(&oldest), "day {day}: {read:?}");
    }
    let (new, read) = nights.run(6, 0, "192.0.2.1");
    assert!(new == 0 && !read.contains(&oldest), "{read:?}");
    assert_eq!(nights.hold_against_a_hunt(), 1);
}
