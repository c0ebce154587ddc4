//! Commands of the documentation. Each is a valid command line, and a test runs it if the example data are enough for it.
//!
//! A `console` block has commands after `$` and their output. A line `…` stands for any number of lines. A block in YAML
//! or TOML that starts with a comment of a file name is written to that file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use regex::Regex;

/// Words of commands that need what a test does not have, such as AWS or a download. They are parsed, not run.
const NOT_RUN: [&str; 17] = [
    "s3://",
    "df://",
    "iceberg+https://",
    "cluster scheduler",
    "detection-rules/",
    "panther-analysis/",
    "sigma/rules/",
    "export.tar.gz",
    "export/",
    "dump",
    "zstdcat ",
    "ssh ",
    "| duckdb",
    "verify trail/",
    "trace lake/",
    "My.Rule",
    ".ci/package",
];

/// Commands of other programs.
const OTHER_PROGRAMS: [&str; 13] = [
    "aws ",
    "cargo ",
    "docker ",
    "gh ",
    "git ",
    "pip ",
    "pipx ",
    "rustup ",
    "sha256sum ",
    "sudo ",
    "tar ",
    "terraform ",
    "uvx ",
];

/// Pages that show output of other data than the example's.
const OTHER_OUTPUT: [&str; 2] = ["docs/rules.md", "docs/trace.md"];

#[derive(Debug)]
struct Example {
    line: usize,
    command: String,
    output: Vec<String>,
}

#[derive(Debug)]
enum Block {
    Commands(Vec<Example>),
    File { name: String, text: String },
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let body: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| !line.starts_with("```")).collect();
        if language == "console" {
            let mut examples: Vec<Example> = Vec::new();
            for (number, line) in body {
                match (line.strip_prefix("$ "), examples.last_mut()) {
                    (Some(command), _) => {
                        examples.push(Example { line: number + 1, command: command.to_owned(), output: Vec::new() });
                    }
                    (None, Some(example)) => example.output.push(line.to_owned()),
                    (None, None) => panic!("line {}: output without a command", number + 1),
                }
            }
            blocks.push(Block::Commands(examples));
        } else if let Some(name) = body.first().and_then(|(_, first)| first.strip_prefix("# "))
            && ["yaml", "toml"].contains(&language)
            && !name.contains(' ')
            && name.contains('.')
        {
            let lines: Vec<&str> = body.iter().map(|(_, line)| *line).collect();
            let text = lines.join("\n") + "\n";
            blocks.push(Block::File { name: name.to_owned(), text });
        }
    }
    blocks
}

/// Returns the pages with commands.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = glob::glob(root.join("docs/*.md").to_str().unwrap()).unwrap().flatten().collect();
    pages.push(root.join("README.md"));
    assert!(pages.len() > 15);
    pages
}

/// Returns the words of the first command of a shell line, without redirections.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | '&') => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_is_a_valid_command_line() {
    let mut parsed = 0;
    for page in pages() {
        for block in blocks(&std::fs::read_to_string(&page).unwrap()) {
            let Block::Commands(examples) = block else {
                continue;
            };
            for Example { line, command, .. } in examples {
                let place = format!("{}:{line}: {command}", page.display());
                let Some(start) = command.split("tawny ").next().map(str::len).filter(|_| command.contains("tawny "))
                else {
                    continue;
                };
                if OTHER_PROGRAMS.iter().any(|program| command.starts_with(program)) || command.contains("<(") {
                    continue;
                }
                let outcome = tawny::cli::Cli::command().try_get_matches_from(words(&command[start..]));
                let is_valid = match &outcome {
                    Ok(_) => true,
                    Err(error) => {
                        let is_cluster = !cfg!(feature = "cluster") && command.contains("cluster");
                        is_cluster || matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
                    }
                };
                assert!(is_valid, "{place}\n{}", outcome.unwrap_err());
                parsed += 1;
            }
        }
    }
    assert!(parsed > 80, "{parsed}");
}

/// Times of runs differ.
static RUN_TIME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z").unwrap());

fn comparable(line: &str) -> String {
    RUN_TIME.replace_all(line.trim_end(), "TIME").into_owned()
}

/// Whether `output` is what the page shows.
fn agrees(shown: &[String], output: &[String]) -> bool {
    match shown.split_first() {
        None => output.is_empty(),
        Some((line, rest)) if line == "…" => (0..=output.len()).any(|skipped| agrees(rest, &output[skipped..])),
        Some((line, rest)) => output.first().is_some_and(|first| first == line) && agrees(rest, &output[1..]),
    }
}

/// A folder with the data and files that pages name.
fn workspace(page: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(root.join("tests"), path("tests")).unwrap();
    std::os::unix::fs::symlink(root.join("rules"), path("rules")).unwrap();
    for name in ["my-rules", "main", "branch", "bin"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tawny"), path("bin/tawny")).unwrap();
    let rule =
        std::fs::read_to_string(root.join("rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml"))
            .unwrap();
    let own = rule.replace("AWS.Unsuccessful.MFA.attempt", "My.MFA");
    std::fs::write(path("my_rule.yml"), &own).unwrap();
    std::fs::write(path("main/rule.yml"), &own).unwrap();
    std::fs::write(path("branch/rule.yml"), own.replace("Threshold: 2", "Threshold: 4")).unwrap();
    if !page.contains("# my-rules/") {
        std::fs::write(path("my-rules/mfa.yml"), rule).unwrap();
    }
    std::fs::write(path("offices.csv"), "cidr\n192.0.2.0/24\n").unwrap();
    let label = "account,actor,from,to,label\n111122223333,anaya,2026-09-01T23:00:00Z,2026-09-02T01:00:00Z,malicious\n";
    std::fs::write(path("incidents.csv"), label).unwrap();
    let is_lake = |word: &String| matches!(word.as_str(), "lake" | "lake/" | "/data/lake");
    let reads_lake = blocks(page).iter().any(|block| match block {
        Block::Commands(examples) => examples.iter().any(|example| words(&example.command).iter().any(is_lake)),
        Block::File { .. } => false,
    });
    if reads_lake && !page.contains("--lake lake\n") {
        let run = shell(folder.path(), "tawny convert tests/data/trail --lake lake");
        assert_eq!(run.code, Some(0), "{:?}", run.errors);
    }
    if page.contains("--write\n") && !page.contains("$ tawny nightly init") {
        assert_eq!(shell(folder.path(), "tawny nightly init").code, Some(0));
    }
    folder
}

struct ShellRun {
    code: Option<i32>,
    output: Vec<String>,
    errors: Vec<String>,
}

impl ShellRun {
    /// Whether a page shows what was printed: to standard output, to standard error, or to both.
    fn agrees_with(&self, page: &[String]) -> bool {
        let lines = |lines: &[String]| lines.iter().map(|line| comparable(line)).collect::<Vec<_>>();
        let shown = lines(page);
        let (output, errors) = (lines(&self.output), lines(&self.errors));
        agrees(&shown, &output) || agrees(&shown, &errors) || agrees(&shown, &[output, errors].concat())
    }

    /// Whether the command did what it says. Some of the example data do not reach.
    fn is_expected(&self) -> bool {
        let last = self.errors.iter().rfind(|line| line.starts_with("error: "));
        let is_too_short = last.is_some_and(|line| line.contains("days are too few for a budget"));
        // 1: a check found something. 3: the example has no events of the last days.
        matches!(self.code, Some(0 | 1 | 3)) || self.code == Some(2) && is_too_short
    }
}

/// Runs a command as on a terminal of 120 columns.
fn shell(folder: &Path, command: &str) -> ShellRun {
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", command]).current_dir(folder);
    bash.env("PATH", path)
        .env("COLUMNS", "120")
        .env("HOME", folder)
        .env("EDITOR", "sed -i s,^path.*,path=\\\"tests/data/trail\\\",");
    let output = bash.output().unwrap();
    let lines = |bytes| String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
    ShellRun { code: output.status.code(), output: lines(output.stdout), errors: lines(output.stderr) }
}

/// What running a page gave.
#[derive(Default)]
struct PageRun {
    commands: usize,
    /// Words of [`NOT_RUN`] in its commands.
    words: BTreeSet<&'static str>,
    failures: Vec<String>,
}

/// Runs the commands of a page in order.
fn run_page(page: &Path) -> PageRun {
    let text = std::fs::read_to_string(page).unwrap();
    let name = page.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap();
    let folder = workspace(&text);
    let mut run = PageRun::default();
    for block in blocks(&text) {
        let examples = match block {
            Block::File { name, text } => {
                let file = folder.path().join(name);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
                continue;
            }
            Block::Commands(examples) => examples,
        };
        for Example { line, command, output } in examples {
            if OTHER_PROGRAMS.iter().any(|program| command.starts_with(program)) || command.starts_with("TAWNY_") {
                continue;
            }
            let missing: Vec<&str> = NOT_RUN.into_iter().filter(|word| command.contains(word)).collect();
            if !missing.is_empty() {
                run.words.extend(missing);
                continue;
            }
            let local = command.replace("/data/lake", "lake").replace(" /data/trail", " tests/data/trail");
            let result = shell(folder.path(), &local);
            run.commands += 1;
            let is_shown = output.is_empty() || OTHER_OUTPUT.contains(&name) || result.agrees_with(&output);
            if !is_shown || !result.is_expected() {
                let ShellRun { code, output, errors } = result;
                let printed = [output, errors].concat().join("\n");
                run.failures.push(format!("{name}:{line}: {local}: {code:?}\n{printed}"));
            }
        }
    }
    run
}

#[test]
fn commands_run_and_print_what_pages_show() {
    let mut unused: BTreeSet<&str> = NOT_RUN.into_iter().collect();
    let (mut commands, mut failures) = (0, Vec::new());
    for group in pages().chunks(4) {
        let runs: Vec<PageRun> = thread::scope(|scope| {
            let threads: Vec<_> = group.iter().map(|page| scope.spawn(move || run_page(page))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for run in runs {
            commands += run.commands;
            failures.extend(run.failures);
            unused.retain(|word| !run.words.contains(word));
        }
    }
    assert!(failures.is_empty(), "{} commands\n{}", failures.len(), failures.join("\n\n"));
    assert!(commands > 40, "{commands} commands were run");
    assert_eq!(unused, BTreeSet::new(), "no command has these words");
}

#[test]
fn output_must_be_what_a_page_shows() {
    let lines = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    assert!(agrees(&lines("a/…/d"), &lines("a/b/c/d")) && agrees(&lines("a/…"), &lines("a")));
    for (shown, output) in [("a/b", "a"), ("a", "a/b"), ("a/…/d", "a/b/c"), ("a/c", "a/b")] {
        assert!(!agrees(&lines(shown), &lines(output)), "{shown} {output}");
    }
    let page = "# my-rules/a.yml\n```yaml\n# my-rules/b.yml\nA: 1\n```\n```console\n$ tawny hunt 'a b' # c\nout\n```\n";
    let blocks = blocks(page);
    assert!(matches!(&blocks[0], Block::File { name, text } if name == "my-rules/b.yml" && text.ends_with("A: 1\n")));
    let Block::Commands(examples) = &blocks[1] else {
        panic!("{blocks:?}");
    };
    assert_eq!((examples[0].line, &examples[0].output[..]), (7, &["out".to_owned()][..]));
    assert_eq!(words(&examples[0].command), ["tawny", "hunt", "a b"]);
}
