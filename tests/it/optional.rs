//! Checks that need a tool or data that a machine may lack: each skipped check is printed and counted.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The list of skipped checks, one a line. `.ci/run` removes it before the tests and prints it after them.
const LIST: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/skipped-checks.txt");

/// Records that `check` is skipped because of `reason`.
pub(crate) fn skip(check: &str, reason: &str) {
    // Not `eprintln!`: the test harness shows what that prints only for tests that fail.
    report(check, reason, &mut std::io::stderr(), Path::new(LIST));
}

fn report(check: &str, reason: &str, output: &mut dyn Write, list: &Path) {
    let line = format!("skipped: {check}: {reason}\n");
    output.write_all(line.as_bytes()).unwrap();
    // One write in append mode, so that lines of tests that run at the same time do not mix.
    let mut list = OpenOptions::new().create(true).append(true).open(list).unwrap();
    list.write_all(line.as_bytes()).unwrap();
}

/// Returns the Python with other SQL engines that `TAWNY_DIALECTS` names. Skips `check` where there is none.
pub(crate) fn dialects_python(check: &str) -> Option<String> {
    let python = std::env::var("TAWNY_DIALECTS").ok();
    if python.is_none() {
        skip(check, "set TAWNY_DIALECTS to a Python that has duckdb, and may have chdb and pyspark");
    }
    python
}

/// Returns the folder with Panther's outcomes that `TAWNY_SHARED` names. Skips `check` where there is none.
pub(crate) fn panther_outcomes(check: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("TAWNY_SHARED");
    if shared.is_none() {
        skip(check, "set TAWNY_SHARED to a folder with Panther's tests and their outcomes");
    }
    shared.map(|shared| Path::new(&shared).join("data/panther"))
}

/// Returns the first Chromium on the `PATH`. Skips `check` where there is none.
pub(crate) fn browser(check: &str) -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    let browser = files.find(|file| file.is_file());
    if browser.is_none() {
        skip(check, "put chromium on the PATH");
    }
    browser
}

/// Whether all of `programs` are on the `PATH`. Skips `check` where one is missing.
pub(crate) fn programs(check: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let missing = programs.iter().find(|name| !is_there(name));
    if let Some(name) = missing {
        skip(check, &format!("put {name} on the PATH"));
    }
    missing.is_none()
}

#[test]
fn a_skipped_check_is_printed_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    let mut output = Vec::new();
    report("one", "no browser", &mut output, &list);
    report("two", "no data", &mut output, &list);
    assert_eq!(String::from_utf8(output).unwrap(), "skipped: one: no browser\nskipped: two: no data\n");
    assert_eq!(std::fs::read_to_string(list).unwrap(), "skipped: one: no browser\nskipped: two: no data\n");
}

/// Returns the lines of a test file that leave a test early without a skipped check.
fn silent_returns(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let is_silent = |number: &usize| {
        let before = &lines[number.saturating_sub(3)..*number];
        lines[*number].trim() == "return;" && !before.iter().any(|line| line.contains("optional::"))
    };
    (0..lines.len()).filter(is_silent).map(|number| number + 1).collect()
}

#[test]
fn no_test_returns_early_without_a_skipped_check() {
    let silent = "fn test() {\n    if missing() {\n        return;\n    }\n}\n";
    assert_eq!(silent_returns(silent), [3]);
    assert_eq!(silent_returns(&silent.replace("missing()", "optional::missing()")), Vec::<usize>::new());
    let pattern = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/**/*.rs");
    let files: Vec<PathBuf> = glob::glob(pattern).unwrap().map(Result::unwrap).collect();
    assert!(files.len() > 40);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(silent_returns(&text), Vec::<usize>::new(), "{}", file.display());
        let prints = text.contains(concat!("\"", "skipped: ")) && !file.ends_with("optional.rs");
        assert!(!prints, "{}: call `optional::skip`, which counts the check", file.display());
    }
}
