//! `tawny backtest` and its HTML pages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;

use tawny::hunt::grid::{GridHuntRequest, MatchesNeeded, hunt_grid};
use tawny::raw::envelope::{self, Item};
use tawny::rule::catalog;
use tawny::store::ReadSettings;
use tawny::table::MemoryTable;
use tawny::time::{Instant, Range, SECOND};

use crate::records::failed_sign_in;

mod comparing;
mod labels;
mod pages;
mod writing;

const RULE: &str = "rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml";

fn tawny(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn document(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

/// Ten days of failed sign-ins. Every day `ada` fails twice within two minutes and `bob` once; on the third day `eve`
/// fails twelve times, once a minute; on the seventh `ada` fails three times, eight minutes apart.
fn records() -> Vec<Value> {
    let at = |day: u32, minute: u32| format!("2026-09-{:02}T{:02}:{:02}:00Z", day, 8 + minute / 60, minute % 60);
    let mut records = Vec::new();
    for day in 1..=10 {
        for (user, minute) in [("ada", 0), ("ada", 2), ("bob", 30)] {
            records.push(failed_sign_in(user, &at(day, minute), &format!("{user}-{day}-{minute}")));
        }
    }
    for minute in 0..12 {
        records.push(failed_sign_in("eve", &at(3, 100 + minute), &format!("eve-{minute:02}")));
    }
    for minute in [200, 208, 216] {
        records.push(failed_sign_in("ada", &at(7, minute), &format!("ada-slow-{minute}")));
    }
    records
}

fn write_trail(folder: &Path, records: &[Value]) -> String {
    let trail = folder.join("trail");
    std::fs::create_dir_all(&trail).unwrap();
    std::fs::write(trail.join("a.json"), json!({ "Records": records }).to_string()).unwrap();
    trail.display().to_string()
}

fn own_rule(folder: &Path, from: &str, to: &str) -> PathBuf {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(RULE)).unwrap();
    assert!(text.contains(from), "{from}");
    let file = folder.join("rule.yml");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    file
}

#[test]
fn cells_equal_hunts_with_their_settings() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let lake = folder.path().join("lake").display().to_string();
    assert_eq!(tawny(&["convert", &trail, "--lake", &lake]).status.code(), Some(0));

    let whole = document(&tawny(&["backtest", &lake, "--format", "json"]));
    let cells = whole["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 12 * 5 * 3);
    assert_eq!(whole["rule_id"], "AWS.Unsuccessful.MFA.attempt");
    assert_eq!(whole["read"]["records"]["read"], 45);
    assert_eq!(whole["range"], json!({"from": null, "to": null}));
    let raw = document(&tawny(&["backtest", &trail, "--format", "json"]));
    assert_eq!(raw["cells"], whole["cells"]);
    assert_eq!(raw["span"], whole["span"]);

    let range = ["--from", "2026-09-02", "--to", "2026-09-08"];
    let part = document(&tawny(&[&["backtest", &lake, "--format", "json"], &range[..]].concat()));
    assert_eq!(part["span"]["days"], 6.0);
    for (document, range) in [(&whole, &[][..]), (&part, &range[..])] {
        for (window, period, threshold) in
            [("sliding", 15, 2), ("sliding", 5, 3), ("dedup", 15, 2), ("dedup", 60, 1), ("tumbling", 360, 10)]
        {
            let is_it = |cell: &&Value| {
                cell["window"] == window && cell["period_minutes"] == period && cell["threshold"] == threshold
            };
            let cell = document["cells"].as_array().unwrap().iter().find(is_it).unwrap();
            let (minutes, least) = (format!("{period}m"), threshold.to_string());
            let settings = ["--window", window, "--period", &minutes, "--threshold", &least, "--format", "json"];
            let hunted = document_of_hunt(&[&["hunt", &lake], &settings[..], range].concat());
            let days: BTreeSet<&str> = hunted.iter().map(|f| &f["trigger_time"].as_str().unwrap()[..10]).collect();
            let groups: BTreeSet<String> = hunted.iter().map(|f| f["group"].to_string()).collect();
            let events: u64 = hunted.iter().map(|f| f["count"].as_u64().unwrap()).sum();
            let want = json!([hunted.len(), events, groups.len(), days.len()]);
            assert_eq!(json!([cell["findings"], cell["events"], cell["groups"], cell["days"]]), want, "{cell}");
        }
    }
    // Two failures of ada a day, twelve of eve, and ada's three slow ones.
    let present = &whole["present"];
    assert_eq!(
        json!([present["findings"], present["events"], present["groups"], present["most_on_a_day"]]),
        json!([12, 35, 2, 2])
    );
    assert_eq!(present["median_seconds_to_trigger"], 120.0);
    let row = |text: &str| text.lines().find(|line| line.starts_with("sliding,15,2,")).unwrap().to_owned();
    let csv = stdout(&tawny(&["backtest", &lake, "--format", "csv"]));
    assert_eq!(csv.lines().count(), 1 + 180);
    assert!(row(&csv).starts_with("sliding,15,2,12,35,2,10,2,"), "{}", row(&csv));
}

fn document_of_hunt(arguments: &[&str]) -> Vec<Value> {
    document(&tawny(arguments)).as_array().unwrap().clone()
}

#[test]
fn moves_suggestions_and_table_output() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let grid = ["--thresholds", "1..4,10", "--periods", "5m,15m", "--windows", "sliding"];
    let moved = [&["backtest", &trail, "--budget", "1/week", "--move-to", "3/20m"], &grid[..]].concat();
    let told = document(&tawny(&[&moved[..], &["--format", "json"]].concat()));
    // At three in twenty minutes only eve's burst and ada's slow one are left.
    assert_eq!(told["moved"]["gained"], json!([]));
    assert_eq!(told["moved"]["lost"].as_array().unwrap().len(), 10);
    let hunted = document_of_hunt(&["hunt", &trail, "--format", "json"]);
    let ids: BTreeSet<&str> = hunted.iter().map(|finding| finding["finding_id"].as_str().unwrap()).collect();
    for lost in told["moved"]["lost"].as_array().unwrap() {
        assert!(ids.contains(lost["finding_id"].as_str().unwrap()), "expected the id of a hunt: {lost}");
    }
    let budget = &told["suggestions"]["within_budget"];
    assert_eq!(budget["threshold"], 3, "{budget}");
    assert_eq!(told["suggestions"]["knee"]["threshold"], 3);
    let three =
        told["cells"].as_array().unwrap().iter().find(|cell| cell["threshold"] == 3 && cell["period_minutes"] == 5);
    let by_group = &three.unwrap()["moves"];
    assert_eq!(*by_group, json!([{"group": {"account": "111122223333", "actor": "ada"}, "gained": 0, "lost": 11}]));

    let table = tawny(&moved);
    insta::with_settings!({snapshot_path => "../golden", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("backtest_table", stdout(&table));
    });
}

#[test]
fn requested_and_suggested_cell_is_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let page = folder.path().join("page.html");
    let grid =
        ["--thresholds", "1..4,10", "--periods", "15m", "--windows", "sliding", "--report", page.to_str().unwrap()];
    // The budget suggests one, the knee is at three.
    let table = stdout(&tawny(&[&["backtest", &trail, "--budget", "3/day", "--move-to", "3/15m"], &grid[..]].concat()));
    let count = |text: &str, part: &str| text.matches(part).count();
    assert_eq!(count(&table, "from the present setting to 1/15m/sliding"), 1, "{table}");
    assert_eq!(count(&table, "from the present setting to 3/15m/sliding"), 1, "{table}");
    assert_eq!(count(&table, " 3/15m/sliding "), 1, "its numbers: {table}");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(count(&page, "<h2>From the present setting to threshold 3 within 15m"), 1);
}

#[test]
fn no_mean_for_less_than_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let records = ["08:00:00", "08:00:05"].map(|time| failed_sign_in("ada", &format!("2026-09-01T{time}Z"), time));
    let trail = write_trail(folder.path(), &records);
    let rule = own_rule(folder.path(), "Tags:", "Tags:");
    let run = |more: &[&str]| tawny(&[&["backtest", &trail, "--rules", rule.to_str().unwrap()], more].concat());
    let told = document(&run(&["--budget", "1/day", "--format", "json"]));
    assert_eq!(told["present"]["findings"], 1);
    assert_eq!(told["present"]["mean_a_week"], Value::Null);
    assert_eq!(told["suggestions"]["within_budget"]["threshold"], Value::Null);
    let reason = told["suggestions"]["within_budget"]["reason"].as_str().unwrap();
    assert!(reason.contains("less than a day"), "{reason}");
    let shown = stdout(&run(&[]));
    assert!(shown.contains("(less than a day, too short for means): 2 matches of 1 group\n"), "{shown}");
    assert!(
        stderr(&run(&["--thresholds", "2", "--periods", "5m", "--windows", "dedup"]))
            .ends_with("\n1 cell of `AWS.Unsuccessful.MFA.attempt`\n")
    );
    let refused = run(&["--budget", "1/day", "--write"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("less than a day"), "{}", stderr(&refused));
    let compared = tawny(&["backtest", &trail, "--compare", RULE, RULE]);
    assert!(stdout(&compared).contains("findings in less than a day, 1 kept"), "{}", stdout(&compared));
    let day = ["--from", "2026-09-01", "--to", "2026-09-02", "--format", "json"];
    assert_eq!(document(&run(&day))["present"]["mean_a_week"], 7.0);
}

#[test]
fn invalid_backtest_options_are_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    for (arguments, want) in [
        (&["--thresholds", "0"][..], "expected numbers from 1"),
        (&["--thresholds", "5..2"], "ends before it begins"),
        (&["--thresholds", "1..9999", "--windows", "sliding,dedup"], "exceed the limit of 10000"),
        (&["--periods", "15"], "expected a number and a unit"),
        (&["--windows", "hopping"], "possible values"),
        (&["--budget", "1/year"], "expected findings per day"),
        (&["--move-to", "3"], "expected a threshold, a period"),
        (&["--rule", "AWS.Unsuccesful.MFA.attempt"], "did you mean"),
        (&["--format", "junit"], "requires `--compare`"),
    ] {
        let refused = tawny(&[&["backtest", &trail], arguments].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&refused).contains(want), "{arguments:?}: {}", stderr(&refused));
    }
}

#[tokio::test]
async fn matches_that_exceed_memory_are_refused_with_advice() {
    let mut builder = BatchBuilder::default();
    let lines: String = (0..4_000)
        .map(|number| {
            let time = Instant::from_micros((1_788_220_800 + number) * SECOND).to_string();
            failed_sign_in("ada", &time, &format!("id-{number}")).to_string() + "\n"
        })
        .collect();
    let keep = &mut |item: Item<'_>| match item {
        Item::Record(record) => {
            builder.push(&record);
        }
        other => panic!("{other:?}"),
    };
    envelope::items(&lines, &ReadSettings::default(), &|_| true, keep).unwrap();
    let data = MemoryTable(vec![builder.finish().unwrap()]);
    let rule = catalog::default().unwrap();
    let run = |memory: usize| {
        let engine = Engine::new(1, memory, &std::env::temp_dir()).unwrap();
        let (data, rule) = (&data, &rule);
        let (cells, range) = ([rule.setting()], Range::default());
        async move {
            let request = GridHuntRequest { rule, cells: &cells, range, needed: MatchesNeeded::All };
            hunt_grid(&engine, data, request).await
        }
    };
    assert_eq!(run(64 << 20).await.unwrap().findings[0].len(), 1);
    let refused = run(1 << 18).await.unwrap_err();
    assert!(refused.hint().unwrap().contains("--memory"), "{refused:?}");
}
