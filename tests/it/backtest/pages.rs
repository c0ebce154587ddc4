//! HTML pages in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{own_rule, records, stderr, stdout, tawny, write_trail};
use crate::optional;
use crate::records::failed_sign_in;

const HOSTILE: &str = "</td></script><script>document.title='owned'</script>\u{202e}\u{1b}[31m\"'&=1+1";

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
fn pages_are_self_contained_and_never_run_log_values() {
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
        assert!(page.contains("&lt;/td&gt;") || page.contains("&#60;/td&#62;"), "the name is shown as text");
    }
    // Without a script: the numbers are in tables.
    assert!(backtest.contains("sliding windows") && backtest.contains("data-cell=\"0\""));
    assert!(backtest.contains("48 read = 48 used"));
    assert!(hunt.contains("2026-09-05T20:01:00Z") && hunt.contains("198.51.100.7"), "events of the finding");
    assert!(hunt.contains("<td>Failure</td>"), "their outcome");
}

#[test]
fn pages_work_in_a_browser() {
    let Some(browser) = optional::browser("pages in a browser") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (page, text) in pages(folder.path()) {
        let dom = run_in(&browser, folder.path(), &page);
        assert!(dom.contains("<html lang=\"en\" class=\"scripted\">"), "the script completed");
        assert!(
            dom.contains("<title>Backtest of") || dom.contains("<title>Hunt: 13 findings"),
            "no log value was executed"
        );
        assert!(dom.contains("class=\"bar\""), "the chart is drawn");
        assert!(!dom.contains("<svg class=\"chart\"><title>"), "the script's tooltips replace the browser's");
        is_used(&browser, folder.path(), &text);
        is_printed(&browser, folder.path(), &page);
    }
}

/// Drags, hovers, clicks and types like a user.
fn is_used(browser: &Path, folder: &Path, text: &str) {
    let (head, rest) = text.split_once("<meta http-equiv=\"Content-Security-Policy\"").unwrap();
    let (_, rest) = rest.split_once('>').unwrap();
    let driver = format!("<script>{}</script></body>", include_str!("user.js"));
    let page = folder.join("used.html");
    std::fs::write(&page, format!("{head}{rest}").replace("</body>", &driver)).unwrap();
    let dom = run_in(browser, folder, &page);
    let (_, outcome) = dom.split_once("<pre id=\"outcome\">").unwrap();
    let outcome: Value = serde_json::from_str(outcome.split_once("</pre>").unwrap().0).unwrap();

    let step = |name: &str| outcome[name].clone();
    let whole = step("whole");
    assert_eq!(whole["ticks"][0], "2026-09-01 06:00", "{outcome:#}");
    assert_eq!((&whole["brushes"], &whole["closer"]), (&json!(0), &json!(false)));
    assert_eq!(step("dragging")["brushes"], 1);
    let dragged = step("dragged");
    assert_eq!((&dragged["brushes"], &dragged["closer"]), (&json!(0), &json!(true)), "{outcome:#}");
    assert!(dragged["ticks"][0].as_str() > whole["ticks"][0].as_str(), "{outcome:#}");
    assert!(dragged["ticks"][2].as_str() < whole["ticks"][2].as_str(), "{outcome:#}");
    assert!(dragged["bars"].as_u64() < whole["bars"].as_u64() && dragged["bars"] != 0, "{outcome:#}");
    for name in ["reset", "cancelled", "clicked", "second finger"] {
        assert_eq!(step(name), whole, "{name}: {outcome:#}");
    }
    assert!(outcome["tip"].as_str().unwrap().contains(" finding"), "{outcome:#}");
    if text.contains("data-cell=\"0\"") {
        assert_eq!(outcome["listed before"], json!(13), "the findings of the present cell: {outcome:#}");
        assert_eq!(outcome["listed"], json!(0), "{outcome:#}");
        let chosen = outcome["chosen"].as_str().unwrap();
        assert!(chosen.starts_with("threshold 20 within 5m, sliding windows"), "{outcome:#}");
        assert_eq!(step("cell")["bars"], 0, "there were never twenty within five minutes");
    } else {
        assert_eq!(outcome["filtered"], json!([1, "1 of 13"]));
    }
}

/// Widths of windows: of a desktop, a tablet and a phone.
const WIDTHS: [u32; 3] = [1280, 820, 390];

#[test]
fn nothing_is_wider_than_the_window() {
    let Some(browser) = optional::browser("widths of pages in a browser") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (page, text) in pages(folder.path()) {
        let text = text.replace('&', "&amp;").replace('"', "&quot;");
        let frames =
            WIDTHS.map(|width| format!("<iframe width=\"{width}\" height=\"900\" srcdoc=\"{text}\"></iframe>"));
        let measure = "addEventListener('load', () => { document.title = JSON.stringify([...document.querySelectorAll('iframe')].map((frame) => { \
                       const page = frame.contentDocument; page.querySelectorAll('details').forEach((it) => { it.open = true; }); \
                       return page.documentElement.scrollWidth; })); });";
        let wrapper = folder.path().join("frames.html");
        let html = format!("<!doctype html><title>none</title>{}<script>{measure}</script>", frames.concat());
        std::fs::write(&wrapper, html).unwrap();
        let mut command = headless(&browser, folder.path());
        command.args(["--virtual-time-budget=4000", "--dump-dom"]).arg(format!("file://{}", wrapper.display()));
        let output = command.output().unwrap();
        let dom = stdout(&output);
        let title = dom.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0.to_owned();
        let widths: Vec<u32> = serde_json::from_str(&title).unwrap_or_else(|_| panic!("{title}: {}", stderr(&output)));
        for (window, content) in WIDTHS.into_iter().zip(widths) {
            assert!(content <= window, "{}: {content} in {window}", page.display());
        }
    }
}

#[test]
fn page_of_few_findings_is_small() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("hunt.html");
    let output = tawny(&["hunt", "tests/data/trail", "--rules", "rules", "--report", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.len() < 100_000, "{} bytes", text.len());
    assert_eq!(text.matches("<tbody class=\"finding\"").count(), 2);
    assert!(text.contains("Ask the user whether") && text.contains("rules without findings"), "runbook and idle rules");
}

/// Prints the page as a PDF.
fn is_printed(browser: &Path, folder: &Path, page: &Path) {
    let file = folder.join("page.pdf");
    let print = format!("--print-to-pdf={}", file.display());
    let output = headless(browser, folder).arg(print).arg(format!("file://{}", page.display())).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = std::fs::read(&file).unwrap();
    assert!(printed.starts_with(b"%PDF-") && printed.len() > 20_000, "{} bytes", printed.len());
}

/// Returns the page's elements after its scripts have run.
fn run_in(browser: &Path, folder: &Path, page: &Path) -> String {
    let mut command = headless(browser, folder);
    let output = command.arg("--dump-dom").arg(format!("file://{}", page.display())).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn headless(browser: &Path, folder: &Path) -> Command {
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu"]);
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command
}

#[test]
fn trigger_is_marked_only_if_its_time_is_unique() {
    let folder = tempfile::tempdir().unwrap();
    let at = |user: &str, minute: u32, id: &str| failed_sign_in(user, &format!("2026-09-01T08:{minute:02}:00Z"), id);
    let records = [
        at("ada", 0, "a0"),
        at("ada", 1, "a1"),
        at("ada", 2, "a2"),
        at("eve", 0, "e0"),
        at("eve", 1, "e1"),
        at("eve", 1, "e2"),
    ];
    let page = folder.path().join("hunt.html");
    let trail = write_trail(folder.path(), &records);
    assert_eq!(tawny(&["hunt", &trail, "--report", page.to_str().unwrap()]).status.code(), Some(0));
    let text = std::fs::read_to_string(page).unwrap();
    let mark = |id: &str| {
        let row = text.split("<tr").find(|row| row.contains(&format!("<td class=\"id\">{id}</td>"))).unwrap();
        row.split_once("<span class=\"mark\">").map(|(_, mark)| mark.split_once("</span>").unwrap().0.to_owned())
    };
    assert_eq!(["a0", "a2", "e0"].map(mark), [const { None }; 3]);
    assert_eq!(mark("a1").as_deref(), Some("the trigger"));
    for id in ["e1", "e2"] {
        assert_eq!(mark(id).as_deref(), Some("at the time of the trigger"));
    }
}

#[test]
fn pages_without_events_have_no_time_axis() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = failed_sign_in("ada", "2026-09-01T08:00:00Z", "a");
    record["additionalEventData"] = json!({"MFAUsed": "No"});
    let trail = write_trail(folder.path(), &[record]);
    for command in ["backtest", "hunt"] {
        let page = folder.path().join(format!("{command}.html"));
        let rule = ["--rule", "AWS.Unsuccessful.MFA.attempt"];
        let output = tawny(&[&[command, &trail, "--report", page.to_str().unwrap()][..], &rule].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = std::fs::read_to_string(&page).unwrap();
        // The SQL shows the first valid time.
        let shown = match text.split_once("<pre>") {
            Some((before_sql, after_sql)) => before_sql.to_owned() + after_sql.rsplit_once("</pre>").unwrap().1,
            // Rules without findings have no SQL.
            None => text,
        };
        assert!(!shown.contains("1970") && shown.contains("<p>No events.</p>"), "{command}");
        if let Some(browser) = optional::browser(&format!("{command} page of no events in a browser")) {
            let dom = run_in(&browser, folder.path(), &page);
            assert!(dom.contains("<html lang=\"en\" class=\"scripted\">") && !dom.contains("\"NaN\""), "{command}");
        }
    }
}
