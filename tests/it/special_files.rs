//! Pipes, sockets and devices in place of files: refused before they are opened, or read if given as arguments.
#![cfg(unix)]

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tawny::rule::catalog::DEFAULT;

use crate::records::failed_sign_in;

/// Runs take less than a second; a run that opened a FIFO would hang.
const PATIENCE: Duration = Duration::from_mins(1);

fn finished(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).ok();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn run(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    finished(command.current_dir(folder).args(arguments), input)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const RULE: &str = "AnalysisType: rule
RuleID: Test.SignIn
Enabled: true
LogTypes: [AWS.CloudTrail]
Severity: High
Threshold: 2
DedupPeriodMinutes: 15
Detection:
  - {Key: eventName, Condition: Equals, Value: ConsoleLogin}
GroupBy:
  - Key: recipientAccountId
";

/// Creates a folder with data, a rule and special files.
fn home() -> (tempfile::TempDir, UnixListener) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    for folder in ["data", "mixed", "rules"] {
        std::fs::create_dir(home.join(folder)).unwrap();
    }
    let records =
        [0, 1, 2].map(|minute| failed_sign_in("ann", &format!("2026-09-01T10:0{minute}:00Z"), &minute.to_string()));
    let object = json!({ "Records": records }).to_string();
    std::fs::write(home.join("data/a.json"), &object).unwrap();
    std::fs::write(home.join("mixed/a.json"), &object).unwrap();
    std::fs::write(home.join("rule.yml"), RULE).unwrap();
    std::fs::write(home.join("labels.csv"), "event_id,label\n0,malicious\n").unwrap();
    for fifo in ["fifo", "mixed/fifo.json", "rules/fifo.yml"] {
        assert!(Command::new("mkfifo").arg(home.join(fifo)).status().unwrap().success());
    }
    let socket = UnixListener::bind(home.join("socket")).unwrap();
    (folder, socket)
}

#[test]
fn special_files_are_refused_and_never_opened() {
    let (folder, _socket) = home();
    let home = folder.path();
    let mut uses: Vec<Vec<&str>> = Vec::new();
    for special in ["fifo", "socket", "/dev/null", "/dev/zero"] {
        uses.push(vec!["hunt", special]);
        uses.push(vec!["hunt", "data", "--rules", special]);
    }
    uses.extend([
        vec!["convert", "fifo", "--lake", "lake"],
        vec!["inspect", "socket"],
        vec!["test", "fifo"],
        vec!["rules", "lint", "fifo"],
        vec!["backtest", "data", "--labels", "fifo"],
        vec!["hunt", "data", "--map", "fifo"],
        vec!["nightly", "--config", "fifo"],
        vec!["hunt", "data", "-o", "fifo"],
        vec!["hunt", "data", "-o", "socket"],
        vec!["hunt", "data", "-o", "/dev/zero"],
        vec!["hunt", "data", "--report", "fifo"],
        vec!["query", "SELECT 1", "data", "-o", "fifo"],
    ]);
    for arguments in uses {
        let output = run(home, &arguments, b"");
        assert!(matches!(output.status.code(), Some(2 | 3)), "{arguments:?}: {:?} {}", output.status, told(&output));
        assert!(told(&output).contains("not a regular file"), "{arguments:?}: {}", told(&output));
    }
    // In a folder or glob, only the special file is rejected.
    for data in ["mixed", "mixed/*.json"] {
        let hunted = run(home, &["hunt", data, "--rule", DEFAULT, "--format", "jsonl"], b"");
        assert_eq!(hunted.status.code(), Some(3), "{}", told(&hunted));
        assert!(told(&hunted).contains("mixed/fifo.json: not a regular file: it is a named pipe"), "{}", told(&hunted));
        assert_eq!(String::from_utf8_lossy(&hunted.stdout).lines().count(), 1);
    }
    let rules = run(home, &["hunt", "data", "--rules", "rules"], b"");
    assert!(
        rules.status.code() == Some(2) && told(&rules).contains("rules/fifo.yml: not a regular file"),
        "{}",
        told(&rules)
    );
    // The lock file of a lake.
    let convert = ["convert", "data", "--lake", "lake"];
    assert_eq!(run(home, &convert, b"").status.code(), Some(0));
    std::fs::remove_file(home.join("lake/_tawny/lock")).unwrap();
    assert!(Command::new("mkfifo").arg(home.join("lake/_tawny/lock")).status().unwrap().success());
    let locked = run(home, &convert, b"");
    assert_eq!(locked.status.code(), Some(3), "{}", told(&locked));
    assert!(told(&locked).contains("not a regular file"), "{}", told(&locked));
}

#[test]
fn results_can_be_written_to_devices() {
    let (folder, _socket) = home();
    for output in ["/dev/null", "/dev/stdout", "/dev/fd/1"] {
        let arguments = ["hunt", "data", "--rule", DEFAULT, "--format", "jsonl", "-o", output];
        let done = run(folder.path(), &arguments, b"");
        assert_eq!(done.status.code(), Some(0), "{output}: {}", told(&done));
        let lines = String::from_utf8_lossy(&done.stdout).lines().count();
        assert_eq!(lines, usize::from(output != "/dev/null"), "{output}");
    }
}

#[test]
fn pipes_as_arguments_are_read() {
    let (folder, _socket) = home();
    let home = folder.path();
    let read = |name: &str| std::fs::read(home.join(name)).unwrap();
    let config = b"lake = 'lake'\n[[source]]\npath = 'data'\n";
    for (arguments, input) in [
        (&["hunt", "/dev/stdin"][..], read("data/a.json")),
        (&["hunt", "data", "--rules", "/dev/stdin"], read("rule.yml")),
        (&["rules", "lint", "/dev/stdin"], read("rule.yml")),
        (&["backtest", "data", "--labels", "/dev/stdin"], read("labels.csv")),
        (&["nightly", "--config", "/dev/stdin", "--dry-run"], config.to_vec()),
    ] {
        let output = run(home, arguments, &input);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", told(&output));
    }
    let tawny = env!("CARGO_BIN_EXE_tawny");
    let script =
        format!("'{tawny}' hunt <(cat data/a.json) <(cat data/a.json | gzip) --rules <(cat rule.yml) --format jsonl");
    let output = finished(Command::new("bash").current_dir(home).args(["-c", &script]), b"");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1, "{}", told(&output));
}
