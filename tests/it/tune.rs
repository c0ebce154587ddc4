//! `tawny tune`: proposals remove false findings and never a true one.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::tables::tawny;

/// Failed sign-ins of a user, a minute apart.
fn burst(user: &str, address: &str, agent: &str, (day, hour): (usize, usize), count: usize) -> Vec<Value> {
    let record = |number: usize| {
        let mut record = crate::records::failed_sign_in(
            user,
            &format!("2026-09-{day:02}T{hour:02}:{number:02}:00Z"),
            &format!("{user}-{day}-{hour}-{number}-{address}"),
        );
        record["sourceIPAddress"] = address.into();
        record["userAgent"] = agent.into();
        record["awsRegion"] = "us-east-1".into();
        record["userIdentity"]["arn"] = format!("arn:aws:iam::111122223333:user/{user}").into();
        record
    };
    (0..count).map(record).collect()
}

const ROBOTS: [(&str, &str); 4] =
    [("ci", "192.0.2.10"), ("backup", "192.0.2.20"), ("scanner", "192.0.2.30"), ("deploy", "192.0.2.40")];

/// A month with 16 findings a day: 89 % are of four automations, the others of many people. Three attacks are labelled, one of
/// them by a robot's user from another address.
fn month() -> (Vec<Value>, String) {
    let mut records = Vec::new();
    let mut labels = "label,actor,from,to\n".to_owned();
    let mut number = 0;
    for day in 1..=30 {
        for hour in 0..16 {
            number += 1;
            if number % 9 == 0 {
                let user = format!("person{}", number % 37);
                records.extend(burst(
                    &user,
                    &format!("203.0.113.{}", number % 200),
                    "Mozilla/5.0",
                    (day, hour),
                    2 + number % 2,
                ));
            } else {
                let (robot, address) = ROBOTS[number % 4];
                records.extend(burst(robot, address, "aws-cli/2.15", (day, hour), 2 + number % 3));
            }
        }
    }
    for (user, day, count) in [("intruder", 7, 6), ("person3", 15, 4), ("ci", 22, 5)] {
        records.extend(burst(user, "198.51.100.7", "python-requests/2.31", (day, 20), count));
        writeln!(labels, "malicious,{user},2026-09-{day:02}T20:00:00Z,2026-09-{day:02}T21:00:00Z").unwrap();
    }
    (records, labels)
}

struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new((records, labels): (Vec<Value>, String)) -> Place {
        let place = Place { home: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.home.path().join("trail")).unwrap();
        std::fs::write(place.path("trail/a.json"), json!({ "Records": records }).to_string()).unwrap();
        std::fs::write(place.path("labels.csv"), labels).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    fn tune(&self, more: &[&str]) -> Output {
        let (trail, labels) = (self.path("trail"), self.path("labels.csv"));
        let arguments = ["tune", &trail, "--rule", tawny::rule::catalog::DEFAULT, "--labels", &labels];
        tawny(&[&arguments[..], more].concat())
    }
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn findings(place: &Place, more: &[&str]) -> Vec<Value> {
    let output = tawny(&[&["hunt", &place.path("trail"), "--format", "json"], more].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_true(finding: &Value) -> bool {
    finding["source_ips"].as_array().unwrap().contains(&json!("198.51.100.7"))
}

#[test]
fn most_false_findings_of_a_month_are_removed_and_no_true_one() {
    let place = Place::new(month());
    let tuned = place.tune(&["--format", "json", "--thresholds", "2", "--periods", "15m"]);
    assert_eq!(tuned.status.code(), Some(0), "{tuned:?}");
    let tuning = json_of(&tuned);
    let best = &tuning["proposals"][usize::try_from(tuning["best"].as_u64().unwrap()).unwrap()];
    let before = tuning["present"]["false_findings"].as_u64().unwrap();
    let after = best["effect"]["false_findings"].as_u64().unwrap();
    assert_eq!((before, &tuning["present"]["true_findings"]), (480, &3.into()));
    assert!(after * 100 <= before * 15, "{after} of {before} are left: {best}");
    assert_eq!((&best["effect"]["true_findings"], &best["effect"]["missed"]), (&3.into(), &json!([])));
    // One change for each robot, and the narrowest: from its own address, because its name alone hides an attack.
    assert_eq!(best["exceptions"].as_array().unwrap().len(), 4, "{best}");
    for exception in best["exceptions"].as_array().unwrap() {
        assert_eq!(exception["when"].as_array().unwrap().len(), 2, "{exception}");
        assert_eq!(exception["when"][0]["field"], json!(["actor"]), "{exception}");
    }
}

#[test]
fn written_exceptions_give_a_hunt_what_was_proposed() {
    let place = Place::new(month());
    let file = place.path("exceptions.yml");
    let windows = ["--thresholds", "2", "--periods", "15m"];
    let write =
        [&windows[..], &["--write", "--exceptions-to", &file, "--owner", "platform team", "--until", "2127-01-01"]]
            .concat();
    let tuned = place.tune(&write);
    assert_eq!(tuned.status.code(), Some(0), "{tuned:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("Owner: \"platform team\"") && text.contains("2127-01-01"), "{text}");
    let printed = String::from_utf8(tuned.stdout).unwrap();
    assert!(printed.contains("all 3 true findings kept\n") && !printed.contains("use --write"), "{printed}");
    let [before, after] = [findings(&place, &[]), findings(&place, &["--exceptions", &file])];
    let count = |findings: &[Value], wanted: bool| findings.iter().filter(|finding| is_true(finding) == wanted).count();
    assert_eq!((count(&before, true), count(&after, true)), (3, 3));
    assert!(count(&after, false) * 100 <= count(&before, false) * 15, "{}", count(&after, false));
    // A file is not replaced without `--force`.
    assert_eq!(place.tune(&write).status.code(), Some(2));
    assert_eq!(place.tune(&[&write[..], &["--force"]].concat()).status.code(), Some(0));
    // A file whose exceptions the proposals were judged with is never replaced.
    let kept = std::fs::read(&file).unwrap();
    let other_name = place.path("trail/../exceptions.yml");
    let refused = place.tune(&[&write[..], &["--force", "--exceptions", &other_name]].concat());
    assert_eq!((refused.status.code(), std::fs::read(&file).unwrap()), (Some(2), kept), "{refused:?}");
    // The written exceptions are part of the rule now, and new ones get other names.
    let again = json_of(&place.tune(&[&windows[..], &["--exceptions", &file, "--format", "json"]].concat()));
    assert!(again["present"]["false_findings"].as_u64().unwrap() < 72, "{again}");
}

#[test]
fn a_window_is_proposed_where_it_is_enough() {
    // False findings are pairs, true ones are larger: a threshold of three separates them.
    let mut records = Vec::new();
    for day in 1..=20 {
        let address = format!("203.0.113.{day}");
        records.extend(burst(&format!("person{day}"), &address, &format!("agent/{day}"), (day, 10), 2));
    }
    records.extend(burst("intruder", "198.51.100.7", "python", (7, 20), 6));
    let labels = "label,actor,from,to\nmalicious,intruder,2026-09-07,2026-09-08\n".to_owned();
    let place = Place::new((records, labels));
    let rule = place.path("rule.yml");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml");
    std::fs::copy(shipped, &rule).unwrap();
    let tuned = place.tune(&[
        "--format",
        "json",
        "--rules",
        &rule,
        "--write",
        "--exceptions-to",
        &place.path("exceptions.yml"),
    ]);
    assert_eq!(tuned.status.code(), Some(0), "{tuned:?}");
    let tuning = json_of(&tuned);
    let best = &tuning["proposals"][usize::try_from(tuning["best"].as_u64().unwrap()).unwrap()];
    assert_eq!((&best["window"]["threshold"], &best["exceptions"]), (&3.into(), &json!([])), "{best}");
    assert_eq!(best["effect"]["false_findings"], json!(0));
    assert!(std::fs::read_to_string(&rule).unwrap().contains("Threshold: 3"));
    assert!(!Path::new(&place.path("exceptions.yml")).exists());
}

#[test]
fn nothing_is_proposed_where_every_condition_hides_a_true_finding() {
    let mut records = burst("anaya", "203.0.113.1", "agent", (1, 10), 3);
    records.extend(burst("anaya", "203.0.113.1", "agent", (5, 10), 3));
    let labels = "label,actor,from,to\nmalicious,anaya,2026-09-05,2026-09-06\n".to_owned();
    let place = Place::new((records, labels));
    let tuned = place.tune(&["--format", "json"]);
    let tuning = json_of(&tuned);
    assert_eq!((tuned.status.code(), &tuning["best"]), (Some(0), &Value::Null), "{tuning}");
    for proposal in tuning["proposals"].as_array().unwrap() {
        assert_eq!(proposal["exceptions"], json!([]), "{proposal}");
    }
    std::fs::write(place.path("labels.csv"), "label,event_id\nbenign,x\n").unwrap();
    let refused = place.tune(&[]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
fn a_window_that_loses_true_findings_of_a_caught_label_is_not_proposed() {
    // One label covers five findings. A threshold of three removes the false ones, but keeps only one of these.
    let mut records = Vec::new();
    for day in 1..=20 {
        records.extend(burst(&format!("person{day}"), &format!("203.0.113.{day}"), "agent", (day, 10), 2));
    }
    for (day, count) in [(1, 2), (2, 2), (3, 2), (4, 2), (5, 6)] {
        records.extend(burst("intruder", "198.51.100.7", "python", (day, 20), count));
    }
    let labels = "label,actor,from,to\nmalicious,intruder,2026-09-01,2026-09-10\n".to_owned();
    let place = Place::new((records, labels));
    let tuning = json_of(&place.tune(&["--format", "json", "--max-exceptions", "0"]));
    assert_eq!((&tuning["present"]["true_findings"], &tuning["best"]), (&json!(5), &Value::Null), "{tuning}");
    let tuning = json_of(&place.tune(&["--format", "json"]));
    let best = &tuning["proposals"][usize::try_from(tuning["best"].as_u64().unwrap()).unwrap()];
    assert_eq!((&best["effect"]["true_findings"], &best["lost_true_findings"]), (&json!(5), &json!(0)), "{best}");
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let place =
        Place::new((burst("ci", "192.0.2.10", "aws-cli", (1, 10), 3), "label,actor\nmalicious,ci\n".to_owned()));
    std::fs::write(place.path("labels.csv"), "label,actor,from,to\nmalicious,eve,2026-09-01,2026-09-02\n").unwrap();
    for option in ["--owner", "--reason", "--until", "--exceptions-to", "--config"] {
        let refused = place.tune(&[option, "2127-01-01"]);
        let message = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{option}");
        assert!(message.contains("--write"), "{option}: {message}");
    }
    let refused = place.tune(&["--write", "--until", "2020-01-01", "--exceptions-to", &place.path("e.yml")]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("`--until` 2020-01-01T00:00:00Z has passed"), "{message}");
    assert!(!Path::new(&place.path("e.yml")).exists());
}

#[test]
fn the_ending_of_a_file_chooses_the_format_and_rules_without_true_findings_are_told() {
    let place = Place::new((burst("ci", "192.0.2.10", "aws-cli", (1, 10), 3), String::new()));
    std::fs::write(place.path("labels.csv"), "label,actor,from,to\nmalicious,eve,2026-09-01,2026-09-02\n").unwrap();
    let file = place.path("proposals.json");
    let tuned = place.tune(&["-o", &file]);
    assert_eq!(tuned.status.code(), Some(0), "{tuned:?}");
    let tuning: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(tuning["present"]["true_findings"], json!(0));
    let message = String::from_utf8(tuned.stderr).unwrap();
    assert!(message.contains("warning: no finding of the rule is true now"), "{message}");
    assert!(message.contains("1 of 1 malicious label are in no finding of the rule, the first in line 2"), "{message}");
    let exceptions = place.path("e.yml");
    let written = place.tune(&["--write", "--exceptions-to", &exceptions]);
    assert_eq!((written.status.code(), Path::new(&exceptions).exists()), (Some(2), false), "{written:?}");
}

#[test]
fn values_that_all_matches_have_narrow_nothing_and_choices_are_reconsidered() {
    // Six bursts of one user from three addresses, and one from an address that a true finding shares.
    let bursts = (0..6).flat_map(|number| {
        let address = ["192.0.2.1", "192.0.2.2", "192.0.2.3"][number % 3];
        burst("ci", address, ["curl", "aws-cli"][number % 2], (1 + number, 10), 3)
    });
    let stolen = burst("ci", "192.0.2.1", "python", (9, 10), 3);
    let label = format!("label,event_id\nmalicious,{}\n", stolen[0]["eventID"].as_str().unwrap());
    let place = Place::new((bursts.chain(stolen).collect(), label));
    let tuning = json_of(&place.tune(&["--format", "json", "--thresholds", "2", "--periods", "15m"]));
    let best = &tuning["proposals"][usize::try_from(tuning["best"].as_u64().unwrap()).unwrap()];
    assert_eq!((&tuning["present"]["false_findings"], &best["effect"]["false_findings"]), (&json!(6), &json!(0)));
    let fields: Vec<&Value> =
        best["exceptions"].as_array().unwrap().iter().flat_map(|one| one["when"].as_array().unwrap()).collect();
    assert!(!fields.is_empty());
    for field in fields {
        assert!(field["field"] != json!(["eventName"]) && field["field"] != json!(["actor"]), "{best}");
    }
}
