//! Runs that change one lake at the same time, and runs that are killed: nothing is lost, doubled or deleted.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::delta_lake::{burst, note};
use crate::s3_server::Server;

/// The variable with the number of rounds of concurrent runs.
const ROUNDS: &str = "TAWNY_WRITER_ROUNDS";

fn rounds(normal: usize) -> usize {
    std::env::var(ROUNDS).ok().map_or(normal, |rounds| rounds.parse().unwrap())
}

/// A trail and a lake, on disk or in S3.
struct Place {
    folder: tempfile::TempDir,
    server: Option<Server>,
}

impl Place {
    fn on_disk() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), server: None }
    }

    fn in_s3() -> Place {
        let server = Server::start();
        std::fs::create_dir_all(server.file("lake", "")).unwrap();
        Place { folder: tempfile::tempdir().unwrap(), server: Some(server) }
    }

    /// Returns the argument that names a folder.
    fn name(&self, name: &str) -> String {
        match &self.server {
            Some(_) if name == "lake" => "s3://lake/ct".to_owned(),
            Some(_) => format!("s3://logs/{name}"),
            None => name.to_owned(),
        }
    }

    fn lake(&self) -> PathBuf {
        match &self.server {
            Some(server) => server.file("lake", "ct"),
            None => self.folder.path().join("lake"),
        }
    }

    fn put(&self, trail: &str, part: usize) {
        let text = json!({ "Records": burst(part) }).to_string();
        if let Some(server) = &self.server {
            server.put("logs", &format!("{trail}/{part}.json"), text.as_bytes());
        } else {
            let folder = self.folder.path().join(trail);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{part}.json")), text).unwrap();
        }
    }

    fn tawny(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.server {
            Some(server) => server.command(),
            None => Command::new(env!("CARGO_BIN_EXE_tawny")),
        };
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.tawny(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn convert(&self, trail: &str) -> Child {
        self.start(&["convert", &self.name(trail), "--lake", &self.name("lake")])
    }

    fn compact(&self) -> Child {
        self.start(&["compact", &self.name("lake"), "--before", "2100-01-01"])
    }

    /// Checks that the lake has each record of `parts` once, without removing duplicates.
    fn check(&self, what: &str, parts: usize) {
        let sql = "SELECT count(*) AS n, count(DISTINCT \"eventID\") AS d FROM cloudtrail";
        let output =
            self.tawny(&["query", sql, &self.name("lake"), "--with-duplicates", "--format", "jsonl"]).output().unwrap();
        assert_eq!(code(&output), 0, "{what}: {}", said(&output));
        let expected = json!({ "n": parts * 3, "d": parts * 3 });
        let counts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(counts, expected, "{what}");
    }

    fn data_files(&self) -> BTreeSet<PathBuf> {
        let pattern = format!("{}/date=*/*.parquet", self.lake().display());
        glob::glob(&pattern).unwrap().flatten().collect()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Converts different objects at once, then the same ones, each time with a compaction at the same time.
fn write_concurrently(place: &Place, rounds: usize) {
    let mut parts = 0;
    let (mut refused, mut compacted) = (0, 0);
    for round in 0..rounds {
        for trail in ["one", "two"] {
            place.put(trail, parts);
            parts += 1;
        }
        let (compaction, conversions) = (place.compact(), ["one", "two"].map(|trail| place.convert(trail)));
        for conversion in conversions {
            let output = conversion.wait_with_output().unwrap();
            assert_eq!(code(&output), 0, "round {round}: {}", said(&output));
        }
        let output = compaction.wait_with_output().unwrap();
        let is_first = round == 0 && code(&output) == 2;
        let is_refused = code(&output) == 3 && said(&output).contains("another run");
        assert!(code(&output) == 0 || is_first || is_refused, "round {round}: {}", said(&output));
        compacted += usize::from(code(&output) == 0);
        place.check(&format!("round {round}, different objects"), parts);

        place.put("both", parts);
        parts += 1;
        let (compaction, conversions) = (place.compact(), [(); 2].map(|()| place.convert("both")));
        let ended = conversions.map(|conversion| conversion.wait_with_output().unwrap());
        assert!(ended.iter().any(|output| code(output) == 0), "{ended:?}");
        for output in ended.iter().filter(|output| code(output) != 0) {
            assert!(code(output) == 3 && said(output).contains("another run"), "round {round}: {}", said(output));
            refused += 1;
        }
        compaction.wait_with_output().unwrap();
        place.check(&format!("round {round}, the same objects"), parts);
    }
    note(&format!("{rounds} rounds: {refused} conversions were refused, {compacted} compactions succeeded"));
    assert!(compacted > 0);
}

#[test]
fn two_conversions_and_a_compaction_on_disk_lose_and_double_nothing() {
    write_concurrently(&Place::on_disk(), rounds(2));
}

#[test]
fn two_conversions_and_a_compaction_in_s3_lose_and_double_nothing() {
    let place = Place::in_s3();
    place.server.as_ref().unwrap().set_delay(Duration::from_millis(2));
    write_concurrently(&place, rounds(2));
}

/// Returns whether `run` was killed at the request with this number. The run may have ended before.
fn is_killed_at(place: &Place, number: usize, is_served: bool, run: impl FnOnce() -> Child) -> bool {
    place.server.as_ref().unwrap().kill_at_request(number, is_served, run).code().is_none()
}

/// The variable that kills runs at every request, and not only at some.
const ALL_STEPS: &str = "TAWNY_ALL_STEPS";

fn steps() -> usize {
    if std::env::var_os(ALL_STEPS).is_some() { 1 } else { 8 }
}

#[test]
fn conversion_killed_at_any_request_is_completed_by_the_next() {
    let place = Place::in_s3();
    // Versions 8 to 11, so that one of the commits writes a checkpoint.
    let mut parts = 0;
    for _ in 0..8 {
        place.put("trail", parts);
        parts += 1;
        assert_eq!(code(&place.convert("trail").wait_with_output().unwrap()), 0);
    }
    let mut killed = 0;
    for number in (0..).step_by(steps()) {
        place.put("trail", parts);
        let was_killed = is_killed_at(&place, number, number % 2 == 0, || place.convert("trail"));
        let what = format!("a conversion killed at request {number}");
        let seen =
            place.tawny(&["query", "SELECT 1 FROM cloudtrail", &place.name("lake"), "--with-duplicates"]).output();
        let seen = seen.unwrap();
        assert_eq!(code(&seen), 0, "{what}: {}", said(&seen));
        let rows = String::from_utf8_lossy(&seen.stdout).lines().filter(|line| line.contains('1')).count();
        assert!(rows >= parts * 3, "{what}: {rows}");
        parts += 1;
        let next = place.convert("trail").wait_with_output().unwrap();
        assert_eq!(code(&next), 0, "{what}: {}", said(&next));
        place.check(&what, parts);
        if !was_killed {
            break;
        }
        killed += 1;
    }
    note(&format!("{killed} conversions were killed"));
    assert!(killed >= 2, "{killed}");
}

#[test]
fn compaction_killed_at_any_request_is_completed_by_the_next() {
    let place = Place::in_s3();
    let mut parts = 0;
    let mut killed = 0;
    for number in (0..).step_by(steps()) {
        for _ in 0..4 {
            place.put("trail", parts);
            parts += 1;
            assert_eq!(code(&place.convert("trail").wait_with_output().unwrap()), 0);
        }
        let before = place.data_files();
        let was_killed = is_killed_at(&place, number, number % 2 == 1, || place.compact());
        let what = format!("a compaction killed at request {number}");
        place.check(&what, parts);
        assert!(place.data_files().is_superset(&before), "{what}");
        let next = place.compact().wait_with_output().unwrap();
        assert_eq!(code(&next), 0, "{what}: {}", said(&next));
        place.check(&what, parts);
        if !was_killed {
            break;
        }
        killed += 1;
    }
    note(&format!("{killed} compactions were killed"));
    assert!(killed >= 2, "{killed}");
}

#[test]
fn runs_on_disk_can_be_killed_at_any_time() {
    let place = Place::on_disk();
    let mut parts = 0;
    let mut killed = 0;
    for round in 0..rounds(8) {
        for _ in 0..2 {
            place.put("trail", parts);
            parts += 1;
        }
        for mut run in [place.convert("trail"), place.compact()] {
            std::thread::sleep(Duration::from_millis(u64::try_from(round * 13 % 150).unwrap()));
            run.kill().unwrap();
            killed += usize::from(run.wait().unwrap().code().is_none());
        }
        for next in [|place: &Place| place.convert("trail"), Place::compact] {
            let output = next(&place).wait_with_output().unwrap();
            assert_eq!(code(&output), 0, "round {round}: {}", said(&output));
        }
        place.check(&format!("round {round}"), parts);
    }
    note(&format!("{killed} runs were killed"));
    assert!(killed > 4, "{killed}");
}
