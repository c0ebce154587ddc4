//! Puts the rules of `rules/` into the program.
#![expect(clippy::print_stdout, reason = "it is how a build script speaks to cargo")]

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=rules");
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    find(&root.join("rules"), &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?;
        list += &format!("    ({:?}, include_str!({:?})),\n", name.display().to_string(), file.display().to_string());
    }
    fs::write(Path::new(&variable("OUT_DIR")?).join("rules.rs"), list + "]\n")
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
