//! Puts the rules of `rules/` and the version into the program.
#![expect(clippy::disallowed_methods, reason = "it is how cargo speaks to a build script")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=rules");
    println!("cargo::rustc-env=TAWNY_VERSION={}", version()?);
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    find(&root.join("rules"), &mut files)?;
    files.sort();
    // By the folder of the package that is compiled: a target folder may be shared by several checkouts.
    let entry = |file: &PathBuf| {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?.display().to_string();
        Ok(format!("({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/\", {name:?})))"))
    };
    let entries = files.iter().map(entry).collect::<io::Result<Vec<_>>>()?;
    fs::write(Path::new(&variable("OUT_DIR")?).join("rules.rs"), format!("&[\n{}\n]\n", entries.join(",\n")))
}

/// The package's version, and the commit where a release is built from a repository. Other builds are spared being
/// made again at each commit.
fn version() -> io::Result<String> {
    let version = variable("CARGO_PKG_VERSION")?;
    println!("cargo::rerun-if-env-changed=TAWNY_COMMIT");
    if let Ok(commit) = variable("TAWNY_COMMIT") {
        return Ok(format!("{version} ({commit})"));
    }
    if variable("PROFILE")? == "release" && Path::new(".git/logs/HEAD").exists() {
        println!("cargo::rerun-if-changed=.git/logs/HEAD");
        let told = Command::new("git").args(["log", "-1", "--format=%h %cs"]).output();
        if let Some(told) = told.ok().filter(|told| told.status.success()) {
            return Ok(format!("{version} ({})", String::from_utf8_lossy(&told.stdout).trim()));
        }
    }
    Ok(version)
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
