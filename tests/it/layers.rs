//! The module list in `lib.rs` is the order of the layers: a module uses only those above it.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 600;

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

/// What breaks the layering in a file of `module`.
fn faults(modules: &[&str], module: &str, text: &str) -> Vec<String> {
    let own = modules.iter().position(|name| *name == module);
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut faults = Vec::new();
    for line in code {
        for used in line.split("crate::").skip(1) {
            let names: Vec<&str> = if let Some(group) = used.strip_prefix('{') {
                group.split('}').next().unwrap().split(',').map(str::trim).collect()
            } else {
                vec![used]
            };
            for name in names {
                let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let place = modules.iter().position(|module| *module == name);
                if place.is_none() || place > own {
                    faults.push(format!("{module} uses {name}"));
                }
            }
        }
    }
    faults
}

#[test]
fn modules_use_only_those_above_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).unwrap();
    let modules: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 10);
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() <= MAX_LINES, "{} is longer than {MAX_LINES} lines", file.display());
        let first = file.strip_prefix(&root).unwrap().components().next().unwrap();
        let module = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap();
        if module != "main" && module != "lib" {
            assert_eq!(faults(&modules, module, &text), Vec::<String>::new(), "{}", file.display());
        }
    }
}

#[test]
fn a_use_from_below_is_seen() {
    let modules = ["error", "time", "cli"];
    assert_eq!(faults(&modules, "time", "use crate::error::Error;"), Vec::<String>::new());
    assert_eq!(faults(&modules, "time", "use crate::cli;"), ["time uses cli"]);
    assert_eq!(faults(&modules, "time", "use crate::{error, cli};"), ["time uses cli"]);
}
