//! Changes that make nightly runs hunt everything again: the meaning of a rule or of this program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tawny::engine::SEMANTICS_VERSION;
use tawny::nightly::version::version;
use tawny::rule::{catalog, panther};

/// The golden file of decisions, relative to the project.
const DECIDED: &str = "tests/golden/semantics.txt";

/// The variable that updates the golden file.
const ACCEPT: &str = "TAWNY_ACCEPT_SEMANTICS";

/// Sources on which the findings of all rules depend, in addition to the templates `sql/*.sql`.
const SOURCES: [&str; 18] = [
    "src/engine/event_times.rs",
    "src/engine/expressions.rs",
    "src/engine/functions.rs",
    "src/engine/ip_functions.rs",
    "src/engine/json_functions.rs",
    "src/engine/window_functions.rs",
    "src/engine/window_functions/event_kinds.rs",
    "src/engine/window_functions/statistic.rs",
    "src/event/address.rs",
    "src/event/identity.rs",
    "src/rule/statistic.rs",
    "src/sql/columns.rs",
    "src/sql/expression.rs",
    "src/sql/expression/text.rs",
    "src/sql/fields.rs",
    "src/sql/predicate.rs",
    "src/sql/rule_matches.rs",
    "src/sql/windows.rs",
];

#[test]
fn rule_versions_are_stable() {
    let everything = panther::parse("rule", &std::fs::read_to_string("tests/data/everything.yml").unwrap()).unwrap();
    let versions = [catalog::default().unwrap(), everything.rule].map(|rule| format!("{} {}", rule.id, version(&rule)));
    let told = "A changed version makes every nightly run hunt its whole lake for that rule again. It follows a change of \
                the rule, of `src/nightly/version.rs` or of `SEMANTICS_VERSION`; any other reason is a mistake.";
    assert_eq!(
        versions,
        ["AWS.Unsuccessful.MFA.attempt 81faee9b0bb9b751", "Example.Everything c80cd8312429a1bf"],
        "{told}"
    );
}

/// Returns the text of a source without comments, tests and spaces, which do not change findings.
fn meaning(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    let comment = if is_rust { "//" } else { "--" };
    let code = if is_rust { text.split("#[cfg(test)]").next().unwrap() } else { &text };
    let lines = code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(comment));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn change_of_rule_semantics_needs_a_decision() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let templates = glob::glob(&root.join("sql/*.sql").display().to_string()).unwrap().map(Result::unwrap);
    let mut files: Vec<PathBuf> = templates.chain(SOURCES.map(|source| root.join(source))).collect();
    files.sort();
    let mut now = format!("semantics {SEMANTICS_VERSION}\n");
    for file in &files {
        let name = file.strip_prefix(root).unwrap().display();
        // The version itself is on the first line.
        let text = meaning(file).replace(&format!("SEMANTICS_VERSION: u32 = {SEMANTICS_VERSION}"), "");
        let hash = Sha256::digest(text).iter().take(8).fold(String::new(), |mut hash, byte| {
            write!(hash, "{byte:02x}").unwrap();
            hash
        });
        writeln!(now, "{hash} {name}").unwrap();
    }
    let golden = root.join(DECIDED);
    if std::env::var_os(ACCEPT).is_some() {
        std::fs::write(&golden, &now).unwrap();
    }
    let decided = std::fs::read_to_string(&golden).unwrap_or_default();
    let changed: Vec<&str> = now.lines().filter(|line| !decided.lines().any(|known| known == *line)).collect();
    assert!(
        now == decided,
        "these have changed, or are new or gone: {changed:#?}\n\
         Decide: does any rule now find other findings in the same data, or do findings say something else?\n\
         If so, raise `SEMANTICS_VERSION` in src/engine/window_functions.rs: every nightly run hunts its whole lake again.\n\
         If not, leave it: a raised version costs every user that hunt.\n\
         Then run `{ACCEPT}=1 cargo test --test it versions`, which writes {DECIDED}, and say in the commit what you decided."
    );
}

#[test]
fn comments_do_not_change_the_version() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        meaning(&folder.path().join(name))
    };
    assert_eq!(written("a.sql", "-- One.\nSELECT 1\n  -- Two.\n\n FROM a\n"), written("b.sql", "SELECT 1\nFROM a"));
    assert_eq!(written("a.rs", "/// One.\nfn a() {}\n#[cfg(test)]\nmod tests {}\n"), "fn a() {}");
    assert_ne!(written("a.sql", "SELECT 1"), written("b.sql", "SELECT 2"));
}
