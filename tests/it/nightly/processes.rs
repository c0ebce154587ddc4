//! Nightly runs as processes: configuration, interruption, concurrency, and S3.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tawny::time::DAY;

use super::{MINUTE, START, fold};
use crate::places::without_version;
use crate::records::failed_sign_in;
use crate::s3_server::Server;

/// A folder with a configuration and everything that runs need.
pub(super) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(super) fn new(lake: &str, source: &str, rest: &str) -> Home {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("trail")).unwrap();
        let config = format!(
            "lake = '{lake}'\n{rest}\n[[source]]\npath = '{source}'\n[[sink]]\nname = 'files'\nkind = 'files'\nto = 'findings'\n"
        );
        std::fs::write(folder.path().join("tawny.toml"), config).unwrap();
        Home { folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn tawny(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn nightly(&self, arguments: &[&str]) -> Output {
        self.tawny(&[&["nightly"], arguments].concat()).output().unwrap()
    }

    fn start(&self) -> Child {
        self.tawny(&["nightly"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn put(&self, name: &str, records: &[Value]) {
        std::fs::write(self.path("trail").join(name), json!({ "Records": records }).to_string()).unwrap();
    }

    /// Checks that the deliveries equal one hunt over `data`. Returns the number of findings.
    pub(super) fn hold_against_a_hunt(&self, mut hunt: Command) -> usize {
        let output = hunt.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line = |line: &str| serde_json::from_str::<Map<String, Value>>(line).unwrap();
        let found = without_version(&output.stdout);
        let found =
            found.lines().map(line).map(|line| (line["finding_id"].as_str().unwrap().to_owned(), line)).collect();
        let delivered = fold(&self.path("findings"));
        assert_eq!(delivered, found);
        delivered.len()
    }
}

/// Returns pairs of failed sign-ins of two users in night `night` across midnight, and one that joins the next night's.
fn night(night: i64) -> Vec<Value> {
    let record = |user: &str, minute: i64| {
        let at = START + night * DAY + minute * MINUTE;
        failed_sign_in(user, &at.to_string(), &format!("{user}-{night}-{minute}"))
    };
    vec![
        record("ann", -5),
        record("ann", 5),
        record("bob", -3),
        record("bob", 30),
        record("cid", 24 * 60 - 2),
        record("cid", -9),
    ]
}

pub(super) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn next_run_resumes_a_run_killed_at_any_time() {
    let home = Home::new("lake", "trail", "");
    home.put("whole.json", &night(-1));
    let start = Instant::now();
    assert_eq!(code(&home.nightly(&[])), 0);
    let whole = start.elapsed();
    let mut killed = 0;
    for round in 0..14 {
        home.put(&format!("{round}.json"), &night(round));
        let mut run = home.start();
        // Spread over the duration of a run, without randomness.
        std::thread::sleep(whole * u32::try_from(round).unwrap() / 12);
        run.kill().unwrap();
        killed += usize::from(!run.wait().unwrap().success());
    }
    assert!(killed > 5, "{killed}");
    assert_eq!(code(&home.nightly(&[])), 0);
    assert!(home.hold_against_a_hunt(home.tawny(&["hunt", "trail", "--format", "jsonl"])) > 14);
    let partial = glob::glob(&format!("{}/**/*", home.path("findings").display())).unwrap().flatten();
    assert!(partial.filter(|path| path.is_file()).all(|path| path.extension().is_some_and(|end| end == "jsonl")));
}

#[test]
fn second_concurrent_run_reports_the_first_and_exits_3() {
    let home = Home::new("lake", "trail", "");
    for round in 0..4 {
        home.put(&format!("{round}.json"), &night(round));
        let runs = [home.start(), home.start(), home.start()];
        let ended: Vec<Output> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
        assert!(ended.iter().any(|output| code(output) == 0));
        for output in ended.iter().filter(|output| code(output) != 0) {
            assert_eq!(code(output), 3);
            assert!(String::from_utf8_lossy(&output.stderr).contains("another run"), "{output:?}");
        }
    }
    assert_eq!(code(&home.nightly(&[])), 0);
    assert!(home.hold_against_a_hunt(home.tawny(&["hunt", "trail", "--format", "jsonl"])) > 4);
}

#[test]
fn unreadable_objects_stay_pending_until_readable() {
    let home = Home::new("lake", "trail", "[report]\njson = 'report.json'\nprometheus = 'tawny.prom'\n");
    home.put("0.json", &night(0));
    std::fs::write(home.path("trail/1.json.gz"), b"\x1f\x8b\x08 cut").unwrap();
    let dry = home.nightly(&["--dry-run", "--format", "json"]);
    assert_eq!((code(&dry), report(&dry)["objects"].as_u64()), (0, Some(2)));
    assert!(!home.path("findings").exists());
    let first = home.nightly(&["--format", "json"]);
    assert_eq!(code(&first), 3);
    assert_eq!(report(&first)["pending"][0]["object"], "trail/1.json.gz");
    assert_eq!(report(&first)["findings"]["new"], 1);
    let prometheus = std::fs::read_to_string(home.path("tawny.prom")).unwrap();
    assert!(prometheus.contains("\ntawny_pending_objects 1\n") && prometheus.contains("\ntawny_complete 0\n"));
    let again = home.nightly(&["--format", "json"]);
    assert_eq!((code(&again), &report(&again)["pending"][0]["since_run"]), (3, &Value::from(1)));
    std::fs::rename(home.path("trail"), home.path("away")).unwrap();
    let away = home.nightly(&["--format", "json"]);
    assert_eq!((code(&away), report(&away)["pending"].as_array().unwrap().len()), (3, 1));
    assert!(!report(&away)["pending"][0]["reason"].as_str().unwrap().contains("given up"), "the source is missing too");
    std::fs::rename(home.path("away"), home.path("trail")).unwrap();
    assert_eq!(code(&home.nightly(&[])), 3, "it is tried again");
    std::fs::remove_file(home.path("trail/1.json.gz")).unwrap();
    let gone = home.nightly(&["--format", "json"]);
    assert_eq!((code(&gone), report(&gone)["pending"].as_array().unwrap().len()), (3, 1));
    assert!(report(&gone)["pending"][0]["reason"].as_str().unwrap().contains("given up"), "it is reported once");
    assert_eq!(code(&home.nightly(&[])), 0);
    std::fs::write(home.path("trail/1.json.gz"), json!({ "Records": night(1) }).to_string()).unwrap();
    let mended = home.nightly(&["--format", "json"]);
    assert_eq!(code(&mended), 0, "{}", String::from_utf8_lossy(&mended.stderr));
    assert_eq!(report(&mended)["pending"], json!([]));
    home.hold_against_a_hunt(home.tawny(&["hunt", "trail", "--format", "jsonl"]));
}

#[test]
fn failed_sink_is_retried_and_does_not_block_others() {
    let home = Home::new("lake", "trail", "");
    let config = std::fs::read_to_string(home.path("tawny.toml")).unwrap();
    let webhook =
        "[[sink]]\nname = 'hook'\nkind = 'webhook'\nurl_env = 'HOOK'\nformat = 'json'\nattempts = 1\ntimeout = 1\n";
    std::fs::write(home.path("tawny.toml"), config.clone() + webhook).unwrap();
    home.put("0.json", &night(0));
    let unknown = home.nightly(&[]);
    assert_eq!(code(&unknown), 2);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("HOOK"));
    let run =
        || home.tawny(&["nightly", "--format", "json"]).env("HOOK", "http://127.0.0.1:9/hidden").output().unwrap();
    let refused = run();
    assert_eq!(code(&refused), 3);
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("hidden"));
    assert!(!String::from_utf8_lossy(&refused.stdout).contains("hidden"));
    assert_eq!(home.hold_against_a_hunt(home.tawny(&["hunt", "trail", "--format", "jsonl"])), 1);
    home.put("1.json", &night(1));
    assert_eq!(report(&run())["deliveries"].as_array().unwrap().len(), 3);
    // The lines of both runs are accepted when the sink works.
    let file = webhook
        .replace("webhook", "files")
        .replace("url_env = 'HOOK'\nformat = 'json'\nattempts = 1\ntimeout = 1\n", "to = 'late'\n");
    std::fs::write(home.path("tawny.toml"), config + &file).unwrap();
    assert_eq!(code(&home.nightly(&[])), 0);
    assert_eq!(fold(&home.path("late")), fold(&home.path("findings")));
}

#[test]
fn findings_not_read_from_stdout_stay_pending() {
    let home = Home::new("lake", "trail", "");
    let config = std::fs::read_to_string(home.path("tawny.toml")).unwrap();
    let (before, _) = config.split_once("[[sink]]").unwrap();
    std::fs::write(home.path("tawny.toml"), format!("{before}[[sink]]\nname = 'out'\nkind = 'stdout'\n")).unwrap();
    home.put("0.json", &night(0));
    let mut run = home.tawny(&["nightly", "-q"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    let gone = run.wait_with_output().unwrap();
    assert_eq!(code(&gone), 3, "{}", String::from_utf8_lossy(&gone.stderr));
    let read = home.nightly(&["-q"]);
    assert_eq!((code(&read), String::from_utf8_lossy(&read.stdout).lines().count()), (0, 1));
    assert!(home.nightly(&["-q"]).stdout.is_empty());
}

#[test]
fn json_log_has_only_json_lines() {
    let home = Home::new("lake", "trail", "");
    home.put("0.json", &night(0));
    std::fs::write(home.path("trail/1.json.gz"), b"\x1f\x8b\x08 cut").unwrap();
    let incomplete = home.nightly(&["--log", "json", "--log-level", "debug"]);
    std::fs::write(home.path("lake/_delta_log/00000000000000000001.json"), "{}").unwrap();
    let failed = home.nightly(&["--log", "json"]);
    assert_eq!((code(&incomplete), code(&failed)), (3, 3));
    for output in [&incomplete, &failed] {
        let text = std::str::from_utf8(&output.stderr).unwrap();
        let logged: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!logged.is_empty(), "{text}");
    }
    let last = String::from_utf8(failed.stderr).unwrap();
    let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "ERROR");
    assert!(last["fields"]["message"].as_str().unwrap().contains("00000001.json"), "{last}");
}

#[test]
fn dry_run_takes_no_lock_and_writes_nothing() {
    let home = Home::new("lake", "trail", "retain = '400d'\n");
    home.put("0.json", &night(0));
    let look = || report(&home.nightly(&["--dry-run", "--format", "json", "--now", "2026-09-20"]));
    assert_eq!(look()["objects"], 1);
    assert!(!home.path("lake").exists());
    for number in 0..2 {
        home.put(&format!("{number}.json"), &night(number));
        assert_eq!(code(&home.nightly(&["--now", "2026-09-01"])), 0);
    }
    let plan = look();
    assert_eq!((&plan["objects"], &plan["mergeable"], &plan["droppable"]), (&json!(0), &json!(2), &json!(0)));
    let held = std::fs::File::open(home.path("lake/_tawny/nightly/default/lock")).unwrap();
    held.lock().unwrap();
    assert_eq!(look()["run"], plan["run"]);
}

#[test]
fn new_source_is_listed_whole_and_an_unlistable_one_blocks_no_other() {
    let home = Home::new("lake", "trail", "");
    home.put("0.json", &night(0));
    let now = (START + 30 * DAY).to_string();
    let run = || home.nightly(&["--now", &now, "--format", "json"]);
    assert_eq!(report(&run())["findings"]["new"], 1);
    let config = std::fs::read_to_string(home.path("tawny.toml")).unwrap();
    std::fs::write(home.path("tawny.toml"), config + "[[source]]\npath = 'more'\n").unwrap();
    home.put("1.json", &night(1));
    let missing = run();
    assert_eq!((code(&missing), &report(&missing)["unlisted"][0]["object"]), (3, &Value::from("more")));
    let look = home.nightly(&["--dry-run"]);
    let told =
        [&look, &home.nightly(&["--now", &now])].map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    assert!(
        code(&look) == 3
            && told
                .iter()
                .all(|told| told.contains("cannot be listed")
                    && told.contains("more: no such file or directory: `more`")),
        "{told:?}"
    );
    assert!(report(&missing)["findings"]["new"].as_u64().unwrap() > 0);
    let old = home.path("more").join(key(5, 0));
    std::fs::create_dir_all(old.parent().unwrap()).unwrap();
    std::fs::write(&old, json!({ "Records": night(5) }).to_string()).unwrap();
    let found = run();
    assert_eq!((code(&found), &report(&found)["findings"]["new"]), (0, &Value::from(1)));
}

#[test]
fn runs_of_different_lakes_can_share_an_output_folder() {
    let shared = tempfile::tempdir().unwrap();
    let homes = [0, 7].map(|first| {
        let home = Home::new("lake", "trail", "");
        let config = std::fs::read_to_string(home.path("tawny.toml")).unwrap();
        let to = format!("to = '{}'", shared.path().display());
        std::fs::write(home.path("tawny.toml"), config.replace("to = 'findings'", &to)).unwrap();
        // The same date, so that the files could have the same name.
        home.put("0.json", &[night(first), night(0)].concat());
        home
    });
    let delivered = || {
        let files = glob::glob(&format!("{}/**/*.jsonl", shared.path().display())).unwrap().flatten();
        files.map(|file| std::fs::read_to_string(file).unwrap().lines().count()).sum::<usize>()
    };
    assert_eq!(code(&homes[0].nightly(&[])), 0);
    let of_first = delivered();
    assert_eq!(code(&homes[1].nightly(&[])), 0);
    assert!(of_first > 0 && delivered() >= 2 * of_first, "{of_first}, {}", delivered());
}

#[test]
fn run_without_sinks_warns() {
    let home = Home::new("lake", "trail", "");
    let config = std::fs::read_to_string(home.path("tawny.toml")).unwrap();
    std::fs::write(home.path("tawny.toml"), config.split_once("[[sink]]").unwrap().0).unwrap();
    home.put("0.json", &night(0));
    let output = home.nightly(&[]);
    assert!(code(&output) == 0 && String::from_utf8_lossy(&output.stderr).contains("no sinks are configured"));
    std::fs::write(home.path("tawny.toml"), config + "rules = ['AWS.*', 'Typo.*']\n").unwrap();
    let said = home.nightly(&["--dry-run"]).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("sink `files`: no enabled rule matches `Typo.*`"), "{said}");
    assert!(!said.contains("`AWS.*`"), "{said}");
}

#[test]
fn init_writes_a_configuration_and_never_overwrites() {
    let home = Home::new("lake", "trail", "");
    let written = home.nightly(&["init", "new.toml"]);
    assert_eq!(code(&written), 0);
    assert!(std::fs::read_to_string(home.path("new.toml")).unwrap().contains("[[source]]"));
    assert_eq!(code(&home.nightly(&["init", "new.toml"])), 2);
}

/// Returns CloudTrail's key of an object delivered on `day`.
pub(super) fn key(day: i64, number: usize) -> String {
    let date = (START + day * DAY).utc_date();
    let (folder, stamp) = (date.replace('-', "/"), date.replace('-', ""));
    format!(
        "AWSLogs/111122223333/CloudTrail/eu-west-1/{folder}/111122223333_CloudTrail_eu-west-1_{stamp}T0005Z_{number:016}.json"
    )
}

#[test]
fn runs_in_s3_list_only_days_within_grace() {
    let server = Server::start();
    let home = Home::new("s3://lake/ct", "s3://logs", "");
    let command = |arguments: &[&str]| {
        let mut command = server.command();
        command.args(arguments).current_dir(home.folder.path());
        command
    };
    let put = |day: i64, number: usize, records: &[Value]| {
        server.put("logs", &key(day, number), json!({ "Records": records }).to_string().as_bytes());
    };
    let (mut listed, mut read) = (Vec::new(), Vec::new());
    for night_number in 0..12 {
        put(night_number, 0, &night(night_number));
        let now = (START + night_number * DAY + DAY / 4).to_string();
        server.take_log();
        let output = command(&["nightly", "--now", &now]).output().unwrap();
        assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
        let log = server.take_log();
        listed.push(log.iter().filter(|line| line.contains("list-type") && line.contains("logs")).count());
        read.push(log.iter().filter(|line| line.starts_with("GET") && line.contains("_tawny/objects/")).count());
    }
    assert!(listed[11] <= listed[5], "{listed:?}");
    // Only converted objects of these delivery days are listed.
    assert!(read[11] > 0 && read[11] == read[6], "{read:?}");
    // An object within the grace period is found; a later one only by `--full`.
    let late = |day: i64, user: &str| {
        let at = [0, 1].map(|minute| START + day * DAY + minute * MINUTE);
        at.map(|at| failed_sign_in(user, &at.to_string(), &format!("{user}{at}"))).to_vec()
    };
    put(9, 1, &late(9, "late"));
    put(2, 1, &late(2, "backfilled"));
    let now = (START + 12 * DAY).to_string();
    let new = |arguments: &[&str]| {
        let output = command(&[&["nightly", "--format", "json", "--now", &now], arguments].concat()).output().unwrap();
        report(&output)["findings"]["new"].as_u64().unwrap()
    };
    assert_eq!((new(&[]), new(&[]), new(&["--full"])), (1, 0, 1));
    assert!(home.hold_against_a_hunt(command(&["hunt", "s3://logs", "--format", "jsonl"])) > 12);
}

#[test]
fn of_two_concurrent_runs_in_s3_one_wins() {
    let server = Server::start();
    let home = Home::new("s3://lake/ct", "s3://logs", "");
    let now = (START + DAY).to_string();
    let start = || {
        let mut command = server.command();
        command.args(["nightly", "--now", &now]).current_dir(home.folder.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for round in 0..6 {
        server.put("logs", &key(round, 0), json!({ "Records": night(round) }).to_string().as_bytes());
        let (mut killed, other) = (start(), start());
        std::thread::sleep(Duration::from_millis(u64::try_from(round).unwrap() * 211 % 900));
        killed.kill().unwrap();
        killed.wait().unwrap();
        let output = other.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(code(&output) == 0 || code(&output) == 3 && text.contains("another run"), "{text}");
    }
    let output = server.command().args(["nightly", "--now", &now]).current_dir(home.folder.path()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let mut hunt = server.command();
    hunt.args(["hunt", "s3://logs", "--format", "jsonl"]).current_dir(home.folder.path());
    assert!(home.hold_against_a_hunt(hunt) > 6);
}
