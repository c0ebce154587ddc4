//! Tables that deltalake and pyiceberg write: at each version, the findings are those of the rows that it holds.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::optional;
use crate::oracle::{Event, Shown, default_rule_findings, lines, printed_findings, trail};
use crate::s3_server::{SECRET, Server};
use crate::tables::tawny;

/// A table after a step, as the script describes it.
#[derive(serde::Deserialize)]
struct TableState {
    step: String,
    /// The version of the Delta table or the ID of the Iceberg snapshot. Null if the step writes no snapshot.
    version: Value,
    /// The metadata file of the Iceberg table.
    metadata: Option<String>,
    /// The event ID and the user agent of each row, sorted.
    rows: Vec<(String, Option<String>)>,
}

/// A table on disk, or in S3 if there is a server.
struct Table {
    name: String,
    location: String,
    server: Option<Server>,
    events: Vec<Event>,
}

impl Table {
    fn tawny(&self, arguments: &[&str]) -> String {
        let output = match &self.server {
            Some(server) => server.tawny(arguments),
            None => tawny(arguments),
        };
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {arguments:?}: {talk}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the script, which writes the table. Returns `None` if its Python lacks a module.
    fn write(&self, python: &str, folder: &Path, tool: &str, form: &str) -> Option<Vec<TableState>> {
        let trail = folder.join("trail.jsonl");
        std::fs::write(&trail, lines(&self.events)).unwrap();
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/other_writers.py"));
        command.args([tool, form, &self.location]).args([folder, &trail]);
        if let Some(server) = &self.server {
            command.env("AWS_ENDPOINT_URL", &server.url).env("AWS_EC2_METADATA_DISABLED", "true");
            command.env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET);
        }
        let Output { status, stdout, stderr } = command.output().unwrap();
        if status.code() == Some(9) {
            return None;
        }
        assert!(status.success(), "{}: {}", self.name, String::from_utf8_lossy(&stderr));
        Some(String::from_utf8(stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Compares the rows and the findings of one version, which `source` names, with those of `state`. Returns the findings.
    fn compare(&self, state: &TableState, source: &[&str]) -> Vec<Shown> {
        let sql = "SELECT \"eventID\", \"userAgent\" FROM cloudtrail";
        let read = self.tawny(&[&["query", sql, "--with-duplicates", "--format", "jsonl"], source].concat());
        let row = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            (row["eventID"].as_str().unwrap().to_owned(), row["userAgent"].as_str().map(str::to_owned))
        };
        let mut rows: Vec<_> = read.lines().map(row).collect();
        rows.sort();
        assert_eq!(rows, state.rows, "{}, {}: {source:?}", self.name, state.step);

        let ids: BTreeSet<String> = state.rows.iter().map(|(id, _)| id.clone()).collect();
        let expected = default_rule_findings(&self.events, &ids);
        let found = printed_findings(&self.tawny(&[&["hunt", "--format", "jsonl"], source].concat()));
        assert_eq!(found, expected, "{}, {}: {source:?}", self.name, state.step);
        found
    }
}

/// Writes tables of each form with `tool`, on disk and in S3, and compares each of their versions.
fn compare_versions(check: &str, tool: &str, modules: &str) {
    let Some(python) = optional::dialects_python(check) else {
        return;
    };
    for (form, is_in_s3) in [("typed", false), ("typed", true), ("text", false), ("text", true)] {
        let folder = tempfile::tempdir().unwrap();
        let server = is_in_s3.then(Server::start);
        let location = match &server {
            Some(server) => {
                std::fs::create_dir_all(server.file("tables", "")).unwrap();
                "s3://tables/team/trail".to_owned()
            }
            None => folder.path().join("table").to_str().unwrap().to_owned(),
        };
        let name = format!("{tool}, {form}, {}", if is_in_s3 { "S3" } else { "disk" });
        let table = Table { name, location, server, events: trail() };
        let Some(states) = table.write(&python, folder.path(), tool, form) else {
            optional::skip(check, &format!("the Python that TAWNY_DIALECTS names lacks {modules}"));
            return;
        };
        let mut results = BTreeSet::new();
        for state in &states {
            if !state.version.is_null() {
                let number = state.version.to_string();
                let number = number.trim_matches('"');
                results.insert(table.compare(state, &[&table.location, "--as-of", number]));
            }
            if let Some(metadata) = &state.metadata {
                results.insert(table.compare(state, &[metadata]));
            }
        }
        let newest = states.last().unwrap();
        let found = table.compare(newest, &[&table.location]);
        assert!(states.len() == 9 && found.len() > 5 && results.len() > 5, "the steps change few findings");
    }
}

#[test]
fn delta_tables_of_deltalake_give_the_findings_of_their_rows() {
    compare_versions("Delta tables written by deltalake", "delta", "deltalake or pyarrow");
}

#[test]
fn iceberg_tables_of_pyiceberg_give_the_findings_of_their_rows() {
    let modules = "pyiceberg, pyiceberg-core, pyarrow or sqlalchemy";
    compare_versions("Iceberg tables written by pyiceberg", "iceberg", modules);
}
