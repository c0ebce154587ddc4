//! Puts the rules of `rules/` into the program.
#![expect(clippy::disallowed_methods, reason = "it is how cargo speaks to a build script")]

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=rules");
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    find(&root.join("rules"), &mut files)?;
    files.sort();
    let entry = |file: &PathBuf| {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?;
        Ok(format!("({:?}, include_str!({:?}))", name.display().to_string(), file.display().to_string()))
    };
    let entries = files.iter().map(entry).collect::<io::Result<Vec<_>>>()?;
    fs::write(Path::new(&variable("OUT_DIR")?).join("rules.rs"), format!("&[\n{}\n]\n", entries.join(",\n")))
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(io::Error::other)
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "yml") {
            files.push(path);
        }
    }
    Ok(())
}
