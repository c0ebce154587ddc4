//! Labels, and the precision and recall of cells.

use serde_json::{Value, json};

use super::{document, own_rule, records, stderr, stdout, tawny, write_trail};

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
    // Of 22 findings at threshold 1, eve's, ada's slow burst and one of bob's are true.
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

    let (same, _) = scores(&format!("\u{feff}{jsonl}"), "benign");
    assert_eq!(same[2], json!([1, 0, 1, [2, 3, 6], 1.0, 0.25]), "a byte order mark is ignored");
    let (same, _) = scores(&format!("\u{feff}{csv}"), "benign");
    assert_eq!(same, benign);

    for (text, want) in [
        ("event_id,label\nx,evil\n", "line 2: `evil` is neither `malicious` nor `benign`"),
        ("event_id,label\nx,malicious\n,benign\n", "line 3: an `event_id`, `account` or `actor` is required"),
        ("actor,from,label\nx,2026-09-01,benign\n", "line 2: `to` is missing"),
        ("event_id,lable\nx,benign\n", "lable"),
        ("{\"event_id\":\"x\",\"label\":\"benign\"}\nnonsense\n", "line 2"),
        ("event_id,label\n", "the file has no labels"),
        ("[{\"event_id\":\"x\",\"label\":\"benign\"}]\n", "line 1: expected one JSON object per line, not an array"),
        ("event_id,actor,label\nx,,benign\ny,ada,benign\n", "line 3: `actor` cannot be combined with `event_id`"),
        (
            "{\"event_id\":\"y\",\"to\":\"2026-09-01\",\"label\":\"benign\"}\n",
            "line 1: `to` cannot be combined with `event_id`",
        ),
        (
            "event_id,label\nx,malicious\ny,benign\nx,benign\n",
            "line 4: event `x` is benign here, but malicious in line 2",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = tawny(&["backtest", &trail, "--labels", file.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(want), "{}", stderr(&refused));
    }
}

#[test]
fn labels_outside_the_range_are_not_missed_labels() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(folder.path(), &records());
    let file = folder.path().join("labels.csv");
    let labels = "event_id,account,actor,from,to,label\n\
                  ,,ada,2026-09-01,2026-09-02,malicious\n\
                  ,,eve,2026-09-03T09:00:00Z,2026-09-03T12:00:00Z,malicious\n\
                  ,,bob,2026-09-03,2026-09-04,malicious\n\
                  no-such-event,,,,,malicious\n\
                  ,,ada,2026-09-05,2026-09-06,malicious\n\
                  ,,ada,2026-09-07,2026-09-08,benign\n";
    std::fs::write(&file, labels).unwrap();
    let (rule, page) = (own_rule(folder.path(), "Tags:", "Tags:"), folder.path().join("page.html"));
    let run = |more: &[&str]| {
        let labels = ["backtest", &trail, "--labels", file.to_str().unwrap(), "--rules", rule.to_str().unwrap()];
        tawny(&[&labels, more].concat())
    };
    let range = ["--from", "2026-09-02", "--to", "2026-09-05"];
    let told = document(&run(&[&range[..], &["--format", "json"]].concat()));
    let score = &told["present"]["labels"];
    // The third is below the threshold. Nothing shows whether the fourth is in the range.
    assert_eq!(json!([score["caught"], score["missed"], score["recall"]]), json!([1, [4, 5], 1.0 / 3.0]));
    assert_eq!(told["labels_outside_range"], json!([2, 6]));
    let whole = document(&run(&["--format", "json"]));
    assert_eq!(whole["labels_outside_range"], json!([]));
    assert_eq!(whole["present"]["labels"]["caught"], 3);

    let want = "2 malicious labels outside the range, neither caught nor missed: lines 2, 6";
    let shown = stdout(&run(&[&range[..], &["--report", page.to_str().unwrap()]].concat()));
    assert!(shown.contains(want), "{shown}");
    assert!(std::fs::read_to_string(page).unwrap().contains(want));
}
