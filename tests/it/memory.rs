//! The peak memory of a hunt does not grow with its findings.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

/// The number of events. Each is a finding.
const EVENTS: usize = 4_000;

/// Bytes of the title, which each finding has.
const TITLE: usize = 20 << 10;

/// `--memory`, in MiB.
const MEMORY: usize = 64;

/// The memory of a hunt on top of that, in MiB. A build without optimization takes more than a release.
const FIXED: usize = 160;

const RULE: &str = "
AnalysisType: rule
RuleID: Example.EveryEvent
DisplayName: {TITLE}
Enabled: true
Severity: Low
LogTypes: [AWS.CloudTrail]
DedupPeriodMinutes: 15
Threshold: 1
GroupBy:
  - Key: eventID
Detection:
  - KeyPath: eventVersion
    Condition: Exists
";

/// Writes objects of small events.
fn write_trail(folder: &Path) {
    let in_object = 100;
    for first in (0..EVENTS).step_by(in_object) {
        let record = |number: usize| {
            json!({
                "eventVersion": "1.08",
                "eventTime": format!("2026-09-01T{:02}:{:02}:{:02}Z", number / 3_600, number / 60 % 60, number % 60),
                "eventID": format!("{number:08}"),
                "eventName": "Example",
            })
        };
        let records: Vec<_> = (first..first + in_object).map(record).collect();
        std::fs::write(folder.join(format!("{first:08}.json")), json!({ "Records": records }).to_string()).unwrap();
    }
}

/// Runs the program, and returns the most memory that it had at any time, in MiB.
fn peak_of(arguments: &[&str]) -> usize {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tawny"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        // The number only grows, so the last one is the peak. It is gone when the process ends.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = line.and_then(|kibibytes| kibibytes.parse::<usize>().ok()).unwrap_or(peak);
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0), "{arguments:?}");
            return peak >> 10;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn findings_that_exceed_the_memory_are_written_within_it_and_a_fixed_part() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail");
    std::fs::create_dir(&trail).unwrap();
    write_trail(&trail);
    let rule = folder.path().join("rule.yml");
    std::fs::write(&rule, RULE.replace("{TITLE}", &"Example ".repeat(TITLE / 8))).unwrap();
    let output = folder.path().join("findings.jsonl");
    let [trail, rule, file] = [&trail, &rule, &output].map(|path| path.display().to_string());
    let memory = MEMORY.to_string();
    let options = ["--memory", &memory, "--threads", "2", "--format", "jsonl", "--output", &file];
    let peak = peak_of(&[&["hunt", &trail, "--rules", &rule], &options[..]].concat());
    let written = std::fs::metadata(&output).unwrap().len();
    assert!(written > (EVENTS * TITLE) as u64 && EVENTS * TITLE > MEMORY << 20, "{written}");
    assert!((1..=MEMORY + FIXED).contains(&peak), "{peak} MiB");
}
