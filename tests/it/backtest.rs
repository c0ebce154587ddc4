//! `tawny backtest`, and pages, as a user has them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::engine::Resources;
use tawny::event::batch::BatchBuilder;
use tawny::hunt::Data;
use tawny::hunt::sweep::sweep;
use tawny::raw::envelope::{self, Item};
use tawny::rule::catalog;
use tawny::time::{self, Range};

use crate::records::failed_sign_in;

const RULE: &str = "rules/aws_cloudtrail_unsuccessful_mfa_attempt.yml";
const HOSTILE: &str = "</td></script><script>document.title='owned'</script>\u{202e}\u{1b}[31m\"'&=1+1";

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
fn cells_tell_what_hunts_with_their_settings_find() {
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
    // Two failures of ada a day, twelve of eve, three of ada that are slow.
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
fn moves_suggestions_and_a_table_for_people() {
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
        assert!(ids.contains(lost["finding_id"].as_str().unwrap()), "a hunt names it so: {lost}");
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
fn labels_score_each_cell() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let grid = ["--thresholds", "1,2,5", "--periods", "15m", "--windows", "sliding", "--format", "json"];
    let csv = "event_id,account,actor,from,to,label\n\
               eve-03,,,,,malicious\n\
               ,111122223333,ada,2026-09-07T11:00:00Z,2026-09-07T12:00:00Z,malicious\n\
               bob-4-30,,,,,malicious\n\
               # a comment\n\
               ,,ada,2026-09-01,2026-09-02,benign\n\
               no-such-event,,,,,MALICIOUS\n";
    let jsonl = "{\"eventID\":\"eve-03\",\"label\":\"malicious\"}\n\
                 {\"account\":\"111122223333\",\"actor\":\"ada\",\"from\":\"2026-09-07T11:00:00Z\",\"to\":\"2026-09-07T12:00:00Z\",\"label\":\"malicious\"}\n\
                 {\"event_id\":\"bob-4-30\",\"label\":\"malicious\"}\n\n\
                 {\"actor\":\"ada\",\"from\":\"2026-09-01\",\"to\":\"2026-09-02\",\"label\":\"benign\"}\n\
                 {\"event_id\":\"no-such-event\",\"label\":\"malicious\"}\n";
    let file = folder.path().join("labels");
    let scores = |text: &str, unlabelled: &str| {
        std::fs::write(&file, text).unwrap();
        let labels = ["backtest", &trail, "--labels", file.to_str().unwrap(), "--unlabelled", unlabelled];
        let told = document(&tawny(&[&labels, &grid[..]].concat()));
        let cells = told["cells"].as_array().unwrap();
        let scores: Vec<Value> = cells
            .iter()
            .map(|cell| {
                let score = &cell["labels"];
                json!([
                    score["true_findings"],
                    score["false_findings"],
                    score["caught"],
                    score["missed"],
                    score["precision"],
                    score["recall"]
                ])
            })
            .collect();
        (scores, told["labels"].clone())
    };
    let (benign, labels) = scores(csv, "benign");
    // Of 22 findings at one, those of eve, of ada's slow burst and of one of bob's are true.
    assert_eq!(benign[0], json!([3, 19, 3, [7], 3.0 / 22.0, 0.75]));
    assert_eq!(benign[1], json!([2, 10, 2, [4, 7], 2.0 / 12.0, 0.5]));
    assert_eq!(benign[2], json!([1, 0, 1, [3, 4, 7], 1.0, 0.25]));
    let matched: Vec<bool> =
        labels.as_array().unwrap().iter().map(|label| label["matched"].as_bool().unwrap()).collect();
    assert_eq!(matched, [true, true, true, false]);
    let (unknown, _) = scores(csv, "unknown");
    assert_eq!(unknown[1], json!([2, 1, 2, [4, 7], 2.0 / 3.0, 0.5]));
    let (same, _) = scores(jsonl, "benign");
    assert_eq!(same[1], json!([2, 10, 2, [3, 6], 2.0 / 12.0, 0.5]));

    for (text, want) in [
        ("event_id,label\nx,evil\n", "line 2: `evil` is neither `malicious` nor `benign`"),
        ("event_id,label\nx,malicious\n,benign\n", "line 3: it names no event, account or actor"),
        ("actor,from,label\nx,2026-09-01,benign\n", "line 2: `to` is missing"),
        ("event_id,lable\nx,benign\n", "lable"),
        ("{\"event_id\":\"x\",\"label\":\"benign\"}\nnonsense\n", "line 2"),
        ("event_id,label\n", "there are no labels"),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = tawny(&["backtest", &trail, "--labels", file.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(want), "{}", stderr(&refused));
    }
}

#[test]
fn a_suggestion_is_written_only_when_asked_and_leaves_the_rest_alone() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let file = own_rule(folder.path(), "Threshold: 2", "Threshold:   2 # two");
    let before = std::fs::read_to_string(&file).unwrap();
    let run = |more: &[&str]| tawny(&[&["backtest", &trail, "--rules", file.to_str().unwrap()], more].concat());

    assert_eq!(run(&["--budget", "1/week"]).status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "nothing is applied silently");
    let written = run(&["--budget", "1/week", "--write"]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert!(stderr(&written).contains("Threshold 2 to 3, DedupPeriodMinutes 15 to 15"), "{}", stderr(&written));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before.replace("Threshold:   2 # two", "Threshold:   3 # two"));
    assert_eq!(run(&["--write", "2/30m"]).status.code(), Some(0));
    let wanted = before.replace("DedupPeriodMinutes: 15", "DedupPeriodMinutes: 30");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);

    for (arguments, want) in [
        (&["--write", "2/30m/dedup"][..], "the rule's windows are sliding, not dedup"),
        (&["--write", "2/90s"], "holds whole minutes"),
        (&["--budget", "0/day", "--thresholds", "1,2", "--write"], "no threshold that was tried stays within"),
        (&["--thresholds", "2", "--write"], "no suggestion"),
    ] {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&refused).contains(want), "{}", stderr(&refused));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);
    }
    let shipped = tawny(&["backtest", &trail, "--write", "3/15m"]);
    assert_eq!(shipped.status.code(), Some(2));
    assert!(stderr(&shipped).contains("rules that come with tawny"), "{}", stderr(&shipped));
}

#[test]
fn two_versions_of_a_rule_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let stricter = own_rule(folder.path(), "Threshold: 2", "Threshold: 5");
    let stricter = stricter.to_str().unwrap();
    let run = |more: &[&str]| tawny(&[&["backtest", &trail, "--compare", RULE, stricter], more].concat());

    let table = run(&[]);
    assert_eq!(table.status.code(), Some(0));
    assert!(stdout(&table).contains("\n+0 / -11 findings in 9.0 days, 1 kept\n"), "{}", stdout(&table));
    let told = document(&run(&["--format", "json", "--from", "2026-09-01", "--to", "2026-09-11"]));
    assert_eq!(told["days"], 10.0);
    let counts = ["gained", "lost", "kept"].map(|what| told[what].as_array().unwrap().len());
    assert_eq!(counts, [0, 11, 1]);
    let back = document(&tawny(&["backtest", &trail, "--compare", stricter, RULE, "--format", "json"]));
    assert_eq!(["gained", "lost", "kept"].map(|what| back[what].as_array().unwrap().len()), [11, 0, 1]);

    let junit = stdout(&run(&["--format", "junit"]));
    assert!(junit.starts_with("<?xml"), "{junit}");
    assert!(junit.contains("tests=\"12\"") && junit.contains("failures=\"11\""), "{junit}");
    assert_eq!(stdout(&run(&["--format", "csv"])).lines().filter(|line| line.starts_with("lost,")).count(), 11);

    assert_eq!(run(&["--fail-on-change"]).status.code(), Some(1));
    let same = tawny(&["backtest", &trail, "--compare", RULE, RULE, "--fail-on-change"]);
    assert_eq!(same.status.code(), Some(0), "{}", stdout(&same));
}

#[test]
fn bad_use_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    for (arguments, want) in [
        (&["--thresholds", "0"][..], "expected numbers from 1"),
        (&["--thresholds", "5..2"], "ends before it begins"),
        (&["--thresholds", "1..9999", "--windows", "sliding,dedup"], "more than the 10000"),
        (&["--periods", "15"], "expected a number and a unit"),
        (&["--windows", "hopping"], "possible values"),
        (&["--budget", "1/year"], "expected a number of findings in a time"),
        (&["--move-to", "3"], "expected a threshold and a period"),
        (&["--rule", "AWS.Unsuccesful.MFA.attempt"], "did you mean"),
        (&["--format", "junit"], "for `--compare`"),
    ] {
        let refused = tawny(&[&["backtest", &trail], arguments].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&refused).contains(want), "{arguments:?}: {}", stderr(&refused));
    }
}

#[tokio::test]
async fn matches_beyond_the_memory_are_refused_with_advice() {
    let mut builder = BatchBuilder::default();
    let lines: String = (0..4_000)
        .map(|number| {
            let time = time::rfc3339((1_788_220_800 + number) * time::SECOND);
            failed_sign_in("ada", &time, &format!("id-{number}")).to_string() + "\n"
        })
        .collect();
    let keep = &mut |item: Item<'_>| match item {
        Item::Record(record) => builder.push(&record),
        other => panic!("{other:?}"),
    };
    envelope::items(&lines, &|_| true, keep).unwrap();
    let data = Data::Memory(vec![builder.finish().unwrap()]);
    let rule = catalog::shipped().unwrap().remove(0);
    let run = |memory: usize| {
        let resources = Resources::new(1, memory, std::env::temp_dir());
        let (data, rule) = (&data, &rule);
        async move { sweep(&resources, data, rule, &[rule.window], Range::default()).await }
    };
    assert_eq!(run(64 << 20).await.unwrap().found[0].len(), 1);
    let refused = run(1 << 18).await.unwrap_err();
    assert!(refused.hint().unwrap().contains("--memory"), "{refused:?}");
}

/// The pages of a backtest and of a hunt over sign-ins with hostile names.
fn pages(folder: &Path) -> [(PathBuf, String); 2] {
    let mut records = records();
    for minute in 0..3 {
        let mut record = failed_sign_in(HOSTILE, &format!("2026-09-05T20:0{minute}:00Z"), &format!("<b>{minute}"));
        record["userAgent"] = json!(HOSTILE);
        record["awsRegion"] = json!("<img src=x onerror=alert(1)>");
        record["sourceIPAddress"] = json!("198.51.100.7");
        records.push(record);
    }
    let trail = write_trail(folder, &records);
    let rule = own_rule(folder, "Tags:", "# </pre><script>document.title='owned'</script>\nTags:");
    let (backtest, hunt) = (folder.join("backtest.html"), folder.join("hunt.html"));
    for (command, page) in [("backtest", &backtest), ("hunt", &hunt)] {
        let rules = ["--rules", rule.to_str().unwrap(), "--report", page.to_str().unwrap()];
        let output = tawny(&[&[command, &trail], &rules[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    [backtest, hunt].map(|page| {
        let text = std::fs::read_to_string(&page).unwrap();
        (page, text)
    })
}

#[test]
fn pages_hold_all_they_need_and_nothing_that_logs_could_say_runs() {
    let folder = tempfile::tempdir().unwrap();
    let [(_, backtest), (_, hunt)] = pages(folder.path());
    for page in [&backtest, &hunt] {
        assert_eq!(page.matches("<script").count(), 2, "its own script and its data");
        assert!(page.contains("default-src &#39;none&#39;; style-src"));
        let (elements, _) = page.split_once("<script type=\"application/json\"").unwrap();
        let (style, rest) = elements.split_once("</style>").unwrap();
        assert!(!style.contains("@import") && !style.contains("url("));
        for tag in rest.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            assert!(!tag.contains("href=") && !tag.contains("src=") && !tag.contains("onerror="), "{tag}");
        }
        assert!(!page.contains("<img") && !page.contains('\u{1b}') && !page.contains('\u{202e}'));
        assert!(page.contains("&lt;/td&gt;") || page.contains("&#60;/td&#62;"), "the name is there as text");
    }
    // Without a script: the numbers are in tables.
    assert!(backtest.contains("sliding windows") && backtest.contains("data-cell=\"0\""));
    assert!(backtest.contains("48 read = 48 used"));
    assert!(hunt.contains("2026-09-05T20:01:00Z") && hunt.contains("198.51.100.7"), "events of the finding");
    assert!(hunt.contains("<td>Failure</td>"), "their outcome");
}

#[test]
fn pages_work_in_a_browser() {
    let Some(browser) = browser() else {
        #[allow(clippy::print_stderr, reason = "whoever runs the tests is to see it")]
        {
            eprintln!("SKIPPED: pages_work_in_a_browser: there is no chromium");
        }
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (page, _) in pages(folder.path()) {
        let dom = run_in(&browser, folder.path(), &page);
        assert!(dom.contains("<html lang=\"en\" class=\"scripted\">"), "the script ran to its end");
        assert!(dom.contains("<title>Backtest of") || dom.contains("<title>Hunt: 13 findings"), "no name ran");
        assert!(dom.contains("class=\"bar\""), "the chart is drawn");
        assert!(!dom.contains("<svg class=\"chart\"><title>"), "the script's own tips replace the browser's");
    }
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file())
}

/// The page's elements once its scripts have run.
fn run_in(browser: &Path, folder: &Path, page: &Path) -> String {
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", &profile]);
    let output = command.arg(format!("file://{}", page.display())).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}
