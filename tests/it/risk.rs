//! Actors by risk, on the command line.

use std::process::Command;

use serde_json::{Value, json};

use crate::records::failed_sign_in;

fn tawny(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes a trail in which Ann has three bursts of failed sign-ins, a day apart, and Bob has one on the last day.
fn trail(folder: &tempfile::TempDir) -> String {
    let bursts = [("ann", 1), ("ann", 2), ("ann", 3), ("bob", 3)];
    let records: Vec<Value> = bursts
        .iter()
        .flat_map(|(user, day)| {
            (0..2).map(move |minute| {
                failed_sign_in(user, &format!("2026-09-0{day}T10:0{minute}:00Z"), &format!("{user}-{day}-{minute}"))
            })
        })
        .collect();
    let path = folder.path().join("trail.json").display().to_string();
    std::fs::write(&path, json!({ "Records": records }).to_string()).unwrap();
    path
}

const RULE: [&str; 2] = ["--rule", "AWS.Unsuccessful.MFA.attempt"];

#[test]
fn actors_are_ranked_by_the_weights_of_their_findings() {
    let folder = tempfile::tempdir().unwrap();
    let trail = trail(&folder);
    let hunt = |more: &[&str]| tawny(&[&["hunt", &trail, "--risk", "--half-life", "1d"], &RULE[..], more].concat());
    let findings = tawny(&[&["hunt", &trail, "--format", "jsonl"], &RULE[..]].concat());
    let weight = match serde_json::from_str::<Value>(findings.lines().next().unwrap()).unwrap()["severity"].as_str() {
        Some("High") => 50.0,
        Some("Medium") => 20.0,
        Some("Low") => 5.0,
        other => panic!("{other:?}"),
    };
    let ranking: Value = serde_json::from_str(&hunt(&["--format", "json"])).unwrap();
    assert_eq!((&ranking["at"], &ranking["half_life"]), (&json!("2026-09-03T10:01:00Z"), &json!("1d")));
    let actors = ranking["actors"].as_array().unwrap();
    let shown = |actor: &Value| (actor["rank"].clone(), actor["actor"].clone(), actor["score"].as_f64().unwrap());
    let rounded = |score: f64| (score * 10.0).round() / 10.0;
    assert_eq!(
        actors.iter().map(shown).collect::<Vec<_>>(),
        [(json!(1), json!("ann"), rounded(weight * 1.75)), (json!(2), json!("bob"), weight),]
    );
    let ids: Vec<&str> = findings.lines().filter(|line| line.contains("\"ann\"")).map(|_| "id").collect();
    assert_eq!(actors[0]["finding_ids"].as_array().unwrap().len(), ids.len());

    // A range is scored at its end.
    let later: Value = serde_json::from_str(&hunt(&["--format", "json", "--to", "2026-09-04T10:01:00Z"])).unwrap();
    assert_eq!(later["actors"][1]["score"].as_f64(), Some(rounded(weight / 2.0)));
    let table = hunt(&[]);
    assert!(table.contains("ann") && table.find("ann") < table.find("bob"), "{table}");
    assert_eq!(hunt(&["--format", "csv"]).lines().count(), 3);
    assert_eq!(hunt(&["--format", "jsonl"]).lines().count(), 2);
}

#[test]
fn backtest_counts_how_often_actors_reach_scores() {
    let folder = tempfile::tempdir().unwrap();
    let trail = trail(&folder);
    let ends = ["--from", "2026-09-01", "--to", "2026-09-05", "--half-life", "1h"];
    let arguments =
        [&["backtest", &trail, "--risk", "--scores", "1,1000", "--format", "json"], &RULE[..], &ends[..]].concat();
    let scores: Value = serde_json::from_str(&tawny(&arguments)).unwrap();
    // Each burst is forgotten before the next.
    assert_eq!(
        scores["scores"],
        json!([
            { "score": 1, "alerts": 4, "actors": 2, "alerts_per_day": 1.0 },
            { "score": 1000, "alerts": 0, "actors": 0, "alerts_per_day": 0.0 },
        ])
    );
    assert!(tawny(&[&["backtest", &trail, "--risk"], &RULE[..]].concat()).contains("alerts"));
    // Without a range, days are those of the data: two, and a minute.
    let arguments =
        [&["backtest", &trail, "--risk", "--scores", "1", "--half-life", "1h", "--format", "json"], &RULE[..]];
    let scores: Value = serde_json::from_str(&tawny(&arguments.concat())).unwrap();
    assert_eq!(scores["scores"][0]["alerts_per_day"], json!(2.0));
}

#[test]
fn findings_without_an_actor_are_counted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let trail = trail(&folder);
    let rule = folder.path().join("rule.yml").display().to_string();
    let text = "AnalysisType: rule\nRuleID: My.Sum\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\nThreshold: 2\n\
                DedupPeriodMinutes: 60\nGroupBy: [{Key: eventName}]\n\
                Detection: [{Key: eventName, Condition: Equals, Value: ConsoleLogin}]\n";
    std::fs::write(&rule, text).unwrap();
    let hunt = |format: &str| tawny(&["hunt", &trail, "--rules", &rule, "--risk", "--format", format]);
    let ranking: Value = serde_json::from_str(&hunt("json")).unwrap();
    assert_eq!((&ranking["actors"], &ranking["findings_without_actor"]), (&json!([]), &json!(3)));
    assert!(hunt("table").contains("not ranked: 3 findings without an actor"), "{}", hunt("table"));
}

#[test]
fn night_ranks_the_actors_of_the_lake() {
    let folder = tempfile::tempdir().unwrap();
    let trail = trail(&folder);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let config = format!(
        "lake = {:?}\n[[source]]\npath = {trail:?}\n[[sink]]\nname = \"file\"\nkind = \"files\"\nto = {:?}\nformat = \"jsonl\"\n",
        path("lake"),
        path("findings")
    );
    std::fs::write(path("tawny.toml"), config).unwrap();
    let night = |more: &[&str]| {
        let now = ["--now", "2026-09-03T10:01:00Z", "--log-level", "error"];
        tawny(&[&["nightly", "--config", &path("tawny.toml"), "--risk"], &now[..], more].concat())
    };
    let report: Value = serde_json::from_str(&night(&["--format", "json"])).unwrap();
    let actors: Vec<&Value> = report["risk"]["actors"].as_array().unwrap().iter().map(|risk| &risk["actor"]).collect();
    assert_eq!(actors, [&json!("ann"), &json!("bob")]);
    assert!(night(&[]).contains("score"), "a night without new events ranks too");
}
