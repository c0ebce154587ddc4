//! Rules with value lists, and rules that group by origin, have the findings of a local run.

use std::path::Path;
use std::process::Output;

use serde_json::json;

use super::{Nodes, of, told};
use crate::s3_server::Server;
use crate::trace::World;

/// Rules that test value lists or group by origin.
const LISTS_AND_ORIGINS: &[(&str, &str)] = &[
    (
        "names",
        "Threshold: 2\nDetection: [{Key: eventName, Condition: IsIn, Values: {List: calls}}]\n\
        GroupBy: [{Key: account}, {Key: actor}]\n\
        DynamicSeverities:\n  - ChangeTo: High\n    Conditions: [{Key: actor, Condition: IsIn, Values: {List: people}}]",
    ),
    (
        "networks",
        "Threshold: 3\nDetection: [{Key: sourceIPAddress, Condition: IsIPAddressInCIDR, Values: {List: offices}}]\n\
        GroupBy: [{Key: account}]",
    ),
    (
        "origins",
        "Threshold: 2\nDetection: [{Key: eventName, Condition: IsIn, Values: [GetObject, ListUsers, Decrypt]}]\n\
        GroupBy: [{Key: origin}]",
    ),
    (
        "origins_of_names",
        "Threshold: 2\nDetection:\n  - {Key: eventName, Condition: IsNotIn, Values: {List: calls}}\n  - {Key: \
        sourceIPAddress, Condition: IsIPAddressInCIDR, Values: {List: offices}}\nGroupBy: [{Key: account}]\n\
        Hunt: {Unique: origin, Window: dedup}\nAlertTitle: 'Calls of {origin}'",
    ),
];

const EXCEPTIONS: &str = "Lists:
  calls: {File: calls.txt}
  people: {File: people.jsonl, Column: name}
  offices: {File: offices.csv, Column: cidr}
Exceptions:
  - ID: office
    Rules: '*'
    When:
      - {Key: sourceIPAddress, Condition: IsIPAddressInCIDR, Values: {List: offices}}
      - {Key: eventName, Condition: IsIn, Values: {List: calls}}
      - {KeyPath: additionalEventData.bytes, Condition: Equals, Value: 3}
    Reason: test
    Owner: us
    Until: 2027-01-01
";

/// Writes the rules and what they name, and returns the options that use them.
fn write_rules(folder: &Path) -> [String; 4] {
    std::fs::create_dir_all(folder.join("rules")).unwrap();
    for (id, text) in LISTS_AND_ORIGINS {
        let text = format!(
            "AnalysisType: rule\nRuleID: {id}\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\n\
            DedupPeriodMinutes: 30\n{text}\n"
        );
        std::fs::write(folder.join(format!("rules/{id}.yml")), text).unwrap();
    }
    let mut calls: Vec<String> = ["GetObject", "Decrypt", "AssumeRole"].map(str::to_owned).into();
    calls.extend((0..5_000).map(|number| format!("Call{number}")));
    let mut offices: Vec<String> = ["cidr", "192.0.2.0/30", "2001:db8::/64"].map(str::to_owned).into();
    offices.extend((0..3_000).map(|number| format!("10.{}.{}.0/24", number / 256, number % 256)));
    for (name, text) in [
        ("calls.txt", calls.join("\n").as_str()),
        ("offices.csv", &offices.join("\n")),
        ("people.jsonl", "{\"name\":\"alice\"}\n{\"name\":\"dave\"}\n"),
        ("exceptions.yml", EXCEPTIONS),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let at = |name: &str| folder.join(name).display().to_string();
    ["--rules".to_owned(), at("rules"), "--exceptions".to_owned(), at("exceptions.yml")]
}

/// Writes a trail with chains of credentials and a lake of it, and returns both.
fn write_data(server: &Server, folder: &Path) -> [String; 2] {
    let mut world = World::new(11, 40, 4, 10);
    for (number, record) in world.records.iter_mut().enumerate() {
        record["sourceIPAddress"] = json!(format!("192.0.2.{}", number % 7));
        record["additionalEventData"] = json!({ "bytes": number % 5 });
    }
    let trail = folder.join("trail");
    std::fs::create_dir(&trail).unwrap();
    for (number, records) in world.records.chunks(20).enumerate() {
        std::fs::write(trail.join(format!("{number:03}.json")), json!({ "Records": records }).to_string()).unwrap();
    }
    let [trail, lake] = ["trail", "lake"].map(|name| folder.join(name).display().to_string());
    of(server, &["convert", &trail, "--lake", &lake, "--quiet"]);
    [trail, lake]
}

/// Returns what a hunt says, without what only one machine or only a cluster says.
fn said(output: &Output) -> Vec<String> {
    let text = told(output);
    let lines = text.lines().filter(|line| !line.contains("records scanned") && !line.starts_with("note: the cluster"));
    lines.map(str::to_owned).collect()
}

/// Runs `command` here and on the cluster, compares both, and returns what it writes.
fn equal_on(server: &Server, nodes: &Nodes, command: &[&str]) -> String {
    let here = server.tawny(command);
    assert!(here.status.success(), "{command:?}: {}", told(&here));
    let there = server.tawny(&[command, &["--cluster", &nodes.url, "--partitions", "3"]].concat());
    let text = String::from_utf8(here.stdout.clone()).unwrap();
    assert_eq!(String::from_utf8_lossy(&there.stdout), text, "{command:?}: {}", told(&there));
    assert_eq!((there.status.code(), said(&there)), (here.status.code(), said(&here)), "{command:?}");
    text
}

#[test]
fn nodes_have_value_lists_and_the_command_finds_origins() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let data = write_data(&server, nodes.folder.path());
    let options = write_rules(nodes.folder.path());
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    for data in &data {
        for range in [&[][..], &["--from", "2026-09-01T00:20:00Z"], &["--account", "111122223333"]] {
            let found =
                equal_on(&server, &nodes, &[&["hunt", data, "--format", "jsonl"], &options[..], range].concat());
            for (id, _) in LISTS_AND_ORIGINS {
                let is_found = found.contains(&format!("\"rule_id\":\"{id}\""));
                assert!(is_found || !range.is_empty(), "{id} finds nothing in {data}");
            }
        }
        for (id, _) in LISTS_AND_ORIGINS {
            // One rule is a plan of its own.
            equal_on(&server, &nodes, &[&["hunt", data, "--format", "jsonl", "--rule", id], &options[..]].concat());
            let grid =
                ["backtest", data, "--rule", id, "--format", "json", "--thresholds", "1..4", "--periods", "15m,1h"];
            for more in [&[][..], &["--move-to", "1/1h"]] {
                let cells = equal_on(&server, &nodes, &[&grid[..], &options, more].concat());
                let has_findings = |line: &str| line.contains("\"findings\": ") && !line.contains("\"findings\": 0");
                assert!(cells.lines().any(has_findings), "{cells}");
            }
        }
    }
}
