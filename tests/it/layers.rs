//! The module list in `lib.rs` is the order of the layers: a module uses only the modules above it. A large external
//! crate is used only by the modules that are listed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 600;

/// An external crate, or the prefix of a family of crates, and the modules that may use it.
const USERS: [(&str, &[&str]); 7] = [
    // `sql_limits` uses its SQL tokenizer, the others run queries.
    ("datafusion", &["sql_limits", "engine", "table", "hunt", "query"]),
    ("ballista", &["engine"]),
    // The others derive `ValueEnum` for the choices of an option.
    ("clap", &["sql", "backtest", "report", "output", "cli"]),
    ("object_store", &["store", "engine"]),
    ("parquet", &["delta", "lake", "engine", "sink", "report"]),
    ("delta_kernel", &["delta"]),
    ("iceberg", &["iceberg"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Returns code without comments, on one line.
fn code(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect::<Vec<_>>().join(" ")
}

/// Returns the first names of the paths in a group, given the text after its opening brace.
fn names_in_group(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                names.push(&group[start..index]);
                break;
            }
            ',' if depth == 0 => {
                names.push(&group[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    names.into_iter().map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// What breaks the layering in a file of `module`.
fn faults(modules: &[&str], module: &str, text: &str) -> Vec<String> {
    let own = modules.iter().position(|name| *name == module);
    let mut faults = Vec::new();
    for used in code(text).split("crate::").skip(1) {
        let names = used.strip_prefix('{').map_or_else(|| vec![used], names_in_group);
        for name in names {
            let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let place = modules.iter().position(|module| *module == name);
            if place.is_none() || place > own {
                faults.push(format!("{module} uses {name}"));
            }
        }
    }
    faults
}

/// Returns the crates of [`USERS`] that code uses: a name before `::` that starts a path.
fn external_crates(text: &str) -> BTreeSet<&'static str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut used = BTreeSet::new();
    for line in code {
        for (place, _) in line.match_indices("::") {
            let before = &line[..place];
            let name = &before[before.trim_end_matches(is_name).len()..];
            let is_first = !before[..before.len() - name.len()].ends_with("::");
            let is_family =
                |family: &str| name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
            used.extend(USERS.iter().map(|(family, _)| *family).filter(|family| is_first && is_family(family)));
        }
    }
    used
}

/// Returns the modules of the sources, each with the text of one of its files.
fn module_texts() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let module = |file: &Path| {
        let first = file.strip_prefix(&root).unwrap().components().next().unwrap();
        Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
    };
    files.into_iter().map(|file| (module(&file), file.clone(), fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn external_crates_are_used_only_by_their_modules() {
    let mut users: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, file, text) in module_texts() {
        for used in external_crates(&text) {
            let (_, allowed) = USERS.iter().find(|(family, _)| *family == used).unwrap();
            assert!(allowed.contains(&module.as_str()), "{} uses {used}, which only {allowed:?} may", file.display());
            users.entry(used).or_default().insert(module.clone());
        }
    }
    for (family, allowed) in USERS {
        let allowed: BTreeSet<String> = allowed.iter().map(|module| (*module).to_owned()).collect();
        assert_eq!(users.get(family), Some(&allowed), "only the modules listed for {family} use it");
    }
}

#[test]
fn modules_use_only_those_above_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).unwrap();
    let modules: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 10);
    for (module, file, text) in module_texts() {
        assert!(text.lines().count() <= MAX_LINES, "{} is longer than {MAX_LINES} lines", file.display());
        if module != "main" && module != "lib" {
            assert_eq!(faults(&modules, &module, &text), Vec::<String>::new(), "{}", file.display());
        }
    }
}

#[test]
fn a_use_from_below_is_seen() {
    let modules = ["error", "time", "cli"];
    assert_eq!(faults(&modules, "time", "use crate::error::Error;"), Vec::<String>::new());
    assert_eq!(faults(&modules, "time", "use crate::cli;"), ["time uses cli"]);
    assert_eq!(faults(&modules, "time", "use crate::{error, cli};"), ["time uses cli"]);
    let lines = "use crate::{\n    error::{self, Error},\n    // Nothing else.\n    cli::{Command, Options},\n};\n";
    assert_eq!(faults(&modules, "time", lines), ["time uses cli"]);
    assert_eq!(faults(&modules, "time", "use crate::{\n    error::{cli, time},\n};"), Vec::<String>::new());
}

#[test]
fn a_use_of_an_external_crate_is_seen() {
    let used = |text: &str| external_crates(text).into_iter().collect::<Vec<_>>();
    assert_eq!(used("use datafusion::error::DataFusionError;"), ["datafusion"]);
    assert_eq!(used("    #[derive(Debug, clap::ValueEnum)]"), ["clap"]);
    assert_eq!(used("pub use ballista_core::Codec;"), ["ballista"]);
    assert_eq!(used("fn a(b: Result<object_store::Error, datafusion_proto::A>) {}"), ["datafusion", "object_store"]);
    assert_eq!(used("use crate::engine::datafusion::A; // datafusion"), Vec::<&str>::new());
    assert_eq!(used("// clap::Args\nuse claptrap::A;"), Vec::<&str>::new());
}
