//! How tawny is delivered: the archive of a release, workflows, and the comparison of rules in a pull request.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::rule::yaml::YamlSource;

use crate::optional;
use crate::records::failed_sign_in;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Two versions of a folder of rules, over one trail.
struct Change {
    folder: tempfile::TempDir,
}

impl Change {
    fn new(records: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["before/rules", "after/rules", "trail"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let trail = json!({ "Records": records }).to_string();
        std::fs::write(folder.path().join("trail/a.json"), trail).unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, rule: &str) {
        std::fs::write(self.folder.path().join(name), rule).unwrap();
    }

    /// Returns the output of the script and the comment.
    fn compare(&self, more: &[&str]) -> (Output, String) {
        let path = |name: &str| self.folder.path().join(name);
        let mut script = Command::new(format!("{ROOT}/.ci/compare-rules"));
        script.arg("--before").arg(path("before")).arg("--after").arg(path("after")).args(["--rules", "rules"]);
        script.arg("--data").arg(path("trail")).arg("--comment").arg(path("comment.md"));
        script.args(["--tawny", env!("CARGO_BIN_EXE_tawny")]).args(more);
        let output = script.output().unwrap();
        let comment = std::fs::read_to_string(path("comment.md")).unwrap_or_default();
        (output, comment)
    }
}

/// A rule of failed sign-ins.
fn rule(id: &str, threshold: u32) -> String {
    format!(
        "AnalysisType: rule\nRuleID: \"{id}\"\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\nThreshold: {threshold}\n\
         DedupPeriodMinutes: 60\nGroupBy: [{{Key: account}}, {{Key: actor}}]\n\
         Detection: [{{Key: eventName, Condition: Equals, Value: ConsoleLogin}}]\n"
    )
}

/// Sign-ins of a user, one a minute.
fn sign_ins(user: &str, count: u32) -> Vec<Value> {
    let time = |minute| format!("2026-09-01T08:{minute:02}:00Z");
    (0..count).map(|minute| failed_sign_in(user, &time(minute), &format!("{user}-{minute}"))).collect()
}

const RANGE: [&str; 4] = ["--from", "2026-08-01", "--to", "2026-10-01"];

#[test]
fn comment_counts_new_gone_and_changed_findings() {
    if !optional::programs("comparison of rules", &["bash", "jq"]) {
        return;
    }
    let change = Change::new(&[sign_ins("ada", 5), sign_ins("eve", 3), sign_ins("kim", 2)].concat());
    change.write("before/rules/a.yml", &rule("A", 2));
    change.write("after/rules/a.yml", &rule("A", 3));
    change.write("after/rules/b.yml", &rule("B", 5));
    change.write("before/rules/c.yml", &rule("C", 5));
    change.write("after/rules/c.yml", &rule("C", 5));
    let (output, comment) = change.compare(&RANGE);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(comment.contains("### Tawny: +1 −1 findings in 2026-08-01 to 2026-10-01\n"), "{comment}");
    // The bursts of ada and eve have other ids, because the threshold is another one, and are the same bursts.
    assert!(comment.contains("| `A` | 3 | 2 | +0 | −1 | 0 |"), "{comment}");
    assert!(comment.contains("| `B` | 0 | 1 | +1 | −0 | 0 |"), "{comment}");
    assert!(!comment.contains("`C`"), "it did not change\n{comment}");
    assert!(comment.contains("<summary>Gone: 1</summary>") && comment.contains("actor kim"), "{comment}");
    assert!(comment.contains("<summary>New: 1</summary>") && comment.contains("actor ada"), "{comment}");

    change.write("before/rules/a.yml", &rule("A", 3));
    std::fs::remove_file(change.folder.path().join("after/rules/b.yml")).unwrap();
    let (_, comment) = change.compare(&RANGE);
    assert!(comment.contains("+0 −0 findings") && !comment.contains('|'), "{comment}");
    std::fs::remove_dir_all(change.folder.path().join("before/rules")).unwrap();
    let (output, comment) = change.compare(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(comment.contains("findings in 90 days"), "a new folder of rules\n{comment}");
}

#[test]
fn one_burst_that_lost_an_event_is_changed() {
    if !optional::programs("changed findings of rules", &["bash", "jq"]) {
        return;
    }
    let change = Change::new(&sign_ins("ada", 5));
    change.write("before/rules/a.yml", &rule("A", 2));
    let narrower =
        rule("A", 2).replace("Detection: [", "Detection: [{Key: eventID, Condition: DoesNotEqual, Value: ada-4}, ");
    change.write("after/rules/a.yml", &narrower);
    let (_, comment) = change.compare(&RANGE);
    assert!(comment.contains("+0 −0 findings") && comment.contains("| `A` | 1 | 1 | +0 | −0 | 1 |"), "{comment}");
}

#[test]
fn invalid_rules_and_failed_tests_fail_the_comparison() {
    if !optional::programs("invalid rules in a comparison", &["bash", "jq"]) {
        return;
    }
    let change = Change::new(&sign_ins("ada", 5));
    change.write("before/rules/a.yml", &rule("A", 2));
    let test = "Tests: [{Name: none, ExpectedResult: true, Log: {eventName: Other}}]\n";
    change.write("after/rules/a.yml", &(rule("A", 2) + test));
    let (output, comment) = change.compare(&RANGE);
    assert_eq!(output.status.code(), Some(1));
    assert!(comment.contains("`tawny test` failed") && comment.contains("+0 −0 findings"), "{comment}");

    change.write("after/rules/a.yml", &rule("A", 2).replace("Equals", "Resembles"));
    let (output, comment) = change.compare(&RANGE);
    assert_eq!(output.status.code(), Some(1));
    assert!(comment.contains("`tawny rules lint` found errors") && comment.contains("Resembles"), "{comment}");

    change.write("after/rules/a.yml", &rule("A", 2));
    std::fs::write(change.folder.path().join("trail/b.json"), "{\"Records\":[{").unwrap();
    let (output, comment) = change.compare(&RANGE);
    assert_eq!(output.status.code(), Some(3));
    assert!(comment.contains("**Incomplete**"), "{comment}");
    let (output, _) = change.compare(&["--days", "1; rm -rf /"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn texts_of_logs_and_rules_stay_in_code() {
    if !optional::programs("hostile text in a comparison", &["bash", "jq"]) {
        return;
    }
    let hostile =
        "@octocat `x` | <img src=x> [a](http://b.example) \u{202e}\u{1b}[31m\n### owned\n```\n#1 </code></details>";
    let mut records = sign_ins("ada", 5);
    for record in &mut records {
        record["userIdentity"]["userName"] = json!(hostile);
    }
    let change = Change::new(&records);
    let id = "A`|@octocat";
    change.write("before/rules/a.yml", &rule(id, 9));
    let test = json!([{"Name": hostile, "ExpectedResult": true, "Log": {"eventName": "Other"}}]);
    change.write("after/rules/a.yml", &format!("{}Tests: {test}\n", rule(id, 2)));
    let (_, comment) = change.compare(&RANGE);
    assert!(comment.contains("+1 −0 findings") && comment.contains("octocat"), "{comment}");
    let mut in_fence = false;
    for line in comment.lines() {
        if line.starts_with("```") {
            in_fence = !in_fence;
            continue;
        }
        if in_fence {
            assert!(!line.contains('`'), "{line}");
            continue;
        }
        // Outside of code spans, only the script's own text is left.
        let outside: String = line.split('`').step_by(2).collect();
        assert_eq!(line.matches('`').count() % 2, 0, "{line}");
        for part in ["octocat", "<img", "owned", "http", "[a]", "#1", "</code>"] {
            assert!(!outside.contains(part), "{part} in {line}");
        }
        if line.starts_with('|') {
            assert!(matches!(line.matches('|').count(), 7), "{line}");
        }
    }
    assert!(!in_fence && !comment.contains(['\u{202e}', '\u{1b}']));
}

/// Returns the workflows and the action.
fn workflows() -> Vec<(PathBuf, String)> {
    let mut files: Vec<PathBuf> =
        glob::glob(&format!("{ROOT}/.github/workflows/*.yml")).unwrap().map(Result::unwrap).collect();
    files.push(Path::new(ROOT).join("action.yml"));
    assert!(files.len() >= 3);
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

/// Returns the shell code of the steps of a workflow: the text of `run`, also in a block.
fn shell_steps(text: &str) -> Vec<String> {
    let mut steps = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(code) = line.trim_start().trim_start_matches("- ").strip_prefix("run: ") else {
            continue;
        };
        if code != "|" {
            steps.push(code.to_owned());
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let mut step = String::new();
        while let Some(line) = lines.next_if(|line| line.is_empty() || line.len() - line.trim_start().len() > indent) {
            step += line.trim_start();
            step.push('\n');
        }
        steps.push(step);
    }
    steps
}

#[test]
fn workflows_are_pinned_and_have_few_rights() {
    for (file, text) in workflows() {
        let place = file.display();
        let name = file.display().to_string();
        if let Err(error) = (YamlSource { name: &name, text: &text }).read() {
            panic!("{error}");
        }
        for line in text.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("uses: ")) {
            let (_, version) = line.split_once('@').unwrap();
            let (commit, comment) = version.split_once(' ').unwrap_or((version, ""));
            let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_commit && comment.starts_with("# v"), "{place}: pin {line} to a commit");
        }
        let is_action = file.ends_with("action.yml");
        assert!(is_action || text.contains("\npermissions:\n  contents: read\n"), "{place}: rights of all jobs");
        assert!(!text.contains("pull_request_target") && !text.contains("write-all"), "{place}");
        for step in shell_steps(&text) {
            assert!(!step.contains("${{"), "{place}: values reach a shell as variables: {step}");
        }
        let checkouts = text.matches("actions/checkout@").count();
        assert_eq!(text.matches("persist-credentials: false").count(), checkouts, "{place}");
    }
}

#[test]
fn shell_code_of_workflows_is_valid() {
    let check = |name: &str, code: &str| {
        let output = Command::new("bash").args(["-n", "-c", code]).output().unwrap();
        assert!(output.status.success(), "{name}: {}\n{code}", text(&output.stderr));
    };
    let mut steps = 0;
    for (file, workflow) in workflows() {
        for step in shell_steps(&workflow) {
            check(&file.display().to_string(), &step);
            steps += 1;
        }
    }
    assert!(steps > 12, "{steps}");
    for script in ["run", "package", "compare-rules"] {
        check(script, &std::fs::read_to_string(format!("{ROOT}/.ci/{script}")).unwrap());
    }
    assert_eq!(
        shell_steps("  - run: a\n  - name: b\n    run: |\n      c\n\n      d\n  - uses: e\n"),
        ["a", "c\n\nd\n"]
    );
}

#[test]
fn recipe_for_aws_allows_what_the_docs_say() {
    let recipe = std::fs::read_to_string(format!("{ROOT}/docs/aws/nightly.tf")).unwrap();
    let page = std::fs::read_to_string(format!("{ROOT}/docs/aws.md")).unwrap();
    let actions = |text: &str, quote: char| -> BTreeSet<String> {
        let services = ["s3:", "kms:", "secretsmanager:", "ecs:", "iam:"];
        let words = text.split(quote).filter(|word| services.iter().any(|service| word.starts_with(service)));
        words.filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == ':')).map(str::to_owned).collect()
    };
    let (_, permissions) = page.split_once("## Permissions").unwrap();
    let (table, _) = permissions.split_once("\n\n`s3:").unwrap();
    let mut allowed = actions(&recipe, '"');
    // Names of conditions.
    allowed.retain(|action| !["ecs:cluster", "iam:PassedToService"].contains(&action.as_str()));
    assert_eq!(allowed, actions(table, '`'));
    assert!(allowed.len() > 8 && !recipe.contains("\"*\""), "{allowed:?}");
    if optional::programs("format of the recipe for AWS", &["terraform"]) {
        let mut check = Command::new("terraform");
        let output = check.args(["-chdir=docs/aws", "fmt", "-check", "-diff"]).current_dir(ROOT).output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

/// Packages the program of this build, and returns the folder of the result.
fn package(folder: &Path, more: &[&str]) -> Output {
    let mut script = Command::new(format!("{ROOT}/.ci/package"));
    script.args(["--binary", env!("CARGO_BIN_EXE_tawny"), "--out"]).arg(folder).args(more);
    script.env("SOURCE_DATE_EPOCH", "1790000000").output().unwrap()
}

#[test]
fn archive_has_program_pages_bill_of_materials_and_checksums() {
    let programs = ["bash", "jq", "objdump", "strip", "tar", "gzip", "sha256sum", "python3"];
    if !optional::programs("archive of a release", &programs) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let refused = package(folder.path(), &["--glibc", "2.4"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("newer than 2.4: build on an older system"), "{}", text(&refused.stderr));

    let output = package(folder.path(), &["--glibc", "9.0", "--wheel"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let pattern = folder.path().join("*.tar.gz");
    let archive = glob::glob(pattern.to_str().unwrap()).unwrap().next().unwrap().unwrap();
    let name = archive.file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap();
    assert!(name.starts_with(concat!("tawny-", env!("CARGO_PKG_VERSION"), "-")), "{name}");
    let run = |program: &str, arguments: &[&str], here: &Path| {
        let output = Command::new(program).args(arguments).current_dir(here).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let checked = run("sha256sum", &["--check", "--strict", &format!("{name}.sha256")], folder.path());
    assert!(checked.contains(".whl: OK") && checked.lines().count() == 3, "{checked}");
    run("tar", &["--extract", "--gzip", "--file", archive.to_str().unwrap()], folder.path());
    let unpacked = folder.path().join(name);
    run("sha256sum", &["--check", "--strict", "SHA256SUMS"], &unpacked);
    assert!(run("./tawny", &["--version"], &unpacked).starts_with("tawny "));
    for file in ["LICENSE", "README.md", "man/man1/tawny-hunt.1", "completions/tawny.bash", "completions/_tawny"] {
        assert!(unpacked.join(file).metadata().unwrap().len() > 500, "{file}");
    }
    let bill: Value = serde_json::from_slice(&std::fs::read(unpacked.join("sbom.cdx.json")).unwrap()).unwrap();
    let crates = bill["components"].as_array().unwrap();
    let scope = |name: &str| crates.iter().find(|it| it["name"] == name).map(|it| it["scope"].as_str().unwrap());
    assert_eq!(scope("datafusion"), Some("required"));
    assert_eq!(scope("serde_derive"), Some("excluded"), "a macro");
    assert_eq!((scope("cc"), scope("proptest")), (Some("excluded"), None), "tests take part in no build");
    assert_eq!((scope("ballista-core"), scope("blake2")), (None, None), "only tests turn on what has these");
    for part in crates {
        assert_eq!(part["hashes"][0]["content"].as_str().map(str::len), Some(64), "{part}");
        assert!(part["licenses"][0]["expression"].is_string(), "{part}");
    }
}
