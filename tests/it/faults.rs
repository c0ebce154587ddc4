//! Faults at any step give the right result or an error, never a wrong result.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::json;
use tawny::convert::{Limits, convert};
use tawny::lake::Lake;
use tawny::rule::catalog::DEFAULT;
use tawny::store::{Scratch, Stores};
use tawny::trail::{Selection, Trail};

use crate::optional;
use crate::places::without_version;
use crate::records::failed_sign_in;
use crate::s3_server::{Fault, Server};

/// Returns an object with a burst of `user`.
fn burst(user: &str) -> Vec<u8> {
    let records = [0, 1, 2]
        .map(|minute| failed_sign_in(user, &format!("2026-09-01T10:0{minute}:00Z"), &format!("{user}{minute}")));
    json!({ "Records": records }).to_string().into_bytes()
}

fn write_bursts(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder).unwrap();
    (0..count).for_each(|number| {
        std::fs::write(folder.join(format!("{number:03}.json")), burst(&format!("user{number}"))).unwrap();
    });
}

fn tawny(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    command.current_dir(folder);
    command
}

fn hunt(folder: &Path, data: &str) -> Output {
    tawny(folder).args(["hunt", data, "--rule", DEFAULT, "--format", "jsonl"]).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Refused(u16, &'static str),
    Cut,
    CutInBody,
}

/// Makes the request with this number, from 0, fail. Returns whether it was sent.
fn fail(server: &Server, number: usize, kind: Kind) {
    let mut seen = 0;
    server.set_faults(move |_| {
        seen += 1;
        match kind {
            _ if seen != number + 1 => Fault::None,
            Kind::Refused(status, code) => Fault::Refused(status, code),
            Kind::Cut => Fault::Cut,
            Kind::CutInBody => Fault::CutInBody,
        }
    });
}

/// Fails each request of a conversion and of hunts in turn, one per run.
fn each_request_fails(kind: Kind, passes: bool) {
    let server = Server::start();
    for user in ["ann", "bob"] {
        server.put("logs", &format!("trail/{user}.json"), &burst(user));
    }
    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    let hunt = |data: &str| server.tawny(&["hunt", data, "--format", "jsonl"]);
    let convert = |lake: &str| server.tawny(&["convert", "s3://logs/trail", "--lake", lake]);
    let expected = without_version(&hunt("s3://logs/trail").stdout);
    assert_eq!(expected.lines().count(), 2);
    server.take_log();
    assert_eq!(convert("s3://lake/whole").status.code(), Some(0));
    let of_convert = server.take_log().len();
    let hold = |output: &Output, what: &str| {
        let code = output.status.code().unwrap();
        assert!(matches!(code, 0 | 2 | 3), "{what}: {}", told(output));
        assert!(code == 0 || !output.stderr.is_empty(), "{what}");
        assert!(code == 0 || !passes, "{what}: {}", told(output));
        code
    };
    for data in ["s3://logs/trail", "s3://lake/whole"] {
        server.take_log();
        hunt(data);
        for number in 0..server.take_log().len() {
            fail(&server, number, kind);
            let output = hunt(data);
            let code = hold(&output, &format!("{kind:?} {number} of a hunt of {data}"));
            assert!(code != 0 || without_version(&output.stdout) == expected, "{kind:?} {number}: {}", told(&output));
            server.set_faults(|_| Fault::None);
        }
    }
    for number in 0..of_convert {
        let lake = format!("s3://lake/{number}");
        fail(&server, number, kind);
        let code = hold(&convert(&lake), &format!("{kind:?} {number} of a conversion"));
        server.set_faults(|_| Fault::None);
        if code != 0 {
            assert_eq!(convert(&lake).status.code(), Some(0), "{kind:?} {number}: a run without faults");
        }
        assert!(without_version(&hunt(&lake).stdout) == expected, "{kind:?} {number} of a conversion: code {code}");
    }
}

#[test]
fn any_request_can_fail_temporarily() {
    std::thread::scope(|scope| {
        for kind in [Kind::Refused(500, "InternalError"), Kind::Cut, Kind::CutInBody] {
            scope.spawn(move || each_request_fails(kind, true));
        }
    });
}

#[test]
fn any_request_can_be_denied() {
    each_request_fails(Kind::Refused(403, "AccessDenied"), false);
}

#[test]
#[cfg(unix)]
fn lake_on_a_full_disk_is_not_half_written() {
    let folder = tempfile::tempdir().unwrap();
    write_bursts(&folder.path().join("trail"), 3);
    let expected = hunt(folder.path(), "trail").stdout;
    // File sizes are limited to a few KiB: a Parquet file is larger, a commit is not.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_tawny")])
        .args(["convert", "trail", "--lake", "lake"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(limited.status.code(), Some(3), "{}", told(&limited));
    assert!(told(&limited).contains("cannot write `lake/date=2026-09-01/part-"), "{}", told(&limited));
    assert_eq!(hunt(folder.path(), "lake").stdout, b"", "nothing was committed");
    let full = tawny(folder.path()).args(["hunt", "trail", "--rule", DEFAULT, "-o", "/dev/full"]).output().unwrap();
    assert_eq!(full.status.code(), Some(3), "{}", told(&full));
    let again = tawny(folder.path()).args(["convert", "trail", "--lake", "lake"]).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", told(&again));
    assert_eq!(without_version(&hunt(folder.path(), "lake").stdout), String::from_utf8(expected).unwrap());
}

#[test]
#[cfg(unix)]
fn permission_errors_name_the_path() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let allow = |name: &str, mode: u32| {
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write_bursts(&at("trail"), 2);
    std::fs::create_dir(at("closed")).unwrap();
    std::fs::create_dir(at("trail/hidden")).unwrap();
    let is_root = std::fs::metadata(folder.path()).unwrap().uid() == 0;
    let run = |arguments: &[&str]| {
        let mut command = tawny(folder.path());
        if is_root {
            // Root ignores permissions; the user `nobody` does not.
            command.uid(65_534).gid(65_534);
        }
        command.args(arguments).output()
    };
    allow("", 0o755);
    if run(&["--version"]).is_err() {
        let reason = "permissions do not bind the superuser, and no other user may run the program";
        optional::skip("files without permission", reason);
        return;
    }
    let expected = hunt(folder.path(), "trail").stdout;
    allow("closed", 0o555);
    let closed = run(&["convert", "trail", "--lake", "closed/lake"]).unwrap();
    assert_eq!(closed.status.code(), Some(3), "{}", told(&closed));
    assert!(told(&closed).contains("`closed/lake") && told(&closed).contains("ermission denied"), "{}", told(&closed));
    let output = run(&["hunt", "trail", "--rule", DEFAULT, "-o", "closed/out"]).unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    allow("trail/001.json", 0);
    allow("trail/hidden", 0);
    let hunted = run(&["hunt", "trail", "--rule", DEFAULT, "--format", "jsonl"]).unwrap();
    assert_eq!(hunted.status.code(), Some(3), "{}", told(&hunted));
    for name in ["trail/001.json", "trail/hidden"] {
        assert!(told(&hunted).contains(&format!("rejected: {name}: Permission denied")), "{}", told(&hunted));
    }
    assert!(expected.starts_with(&hunted.stdout) && !hunted.stdout.is_empty(), "the rest is hunted");
    for name in ["closed", "trail/001.json", "trail/hidden"] {
        allow(name, 0o755);
    }
}

#[test]
fn file_that_vanishes_after_listing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("trail");
    write_bursts(&source, 3);
    let lake = Lake::at(&folder.path().join("lake"));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let sources = [source.display().to_string()];
        let trail = Trail::find(&Stores::default(), &sources, &Selection::default()).await.unwrap();
        std::fs::remove_file(source.join("001.json")).unwrap();
        let limits = Limits { threads: 2, memory: 1 << 20, in_flight: 4 };
        let converted = convert(trail, &lake, limits, &Scratch::default(), &mut |_| {}).await.unwrap();
        assert!(converted.statistics.balances() && converted.statistics.is_incomplete());
        assert_eq!((converted.statistics.records.used, converted.unread.len()), (6, 1));
        assert!(converted.unread[0].to_string().contains("001.json: No such file"), "{}", converted.unread[0]);
    });
}

#[test]
fn conversion_can_be_killed_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    write_bursts(&folder.path().join("trail"), 60);
    let convert = |lake: &str| {
        let mut command = tawny(folder.path());
        command.args(["convert", "trail", "--lake", lake, "--memory", "64"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let start = Instant::now();
    assert!(convert("clean").status().unwrap().success());
    let whole = start.elapsed();
    // Spread over the duration of a run, which depends on what else the machine does.
    let mut pauses = (0..10).map(|tenths| whole * tenths / 10).collect::<VecDeque<_>>();
    let mut killed = 0;
    while let Some(pause) = pauses.pop_front() {
        let mut run = convert("lake").spawn().unwrap();
        std::thread::sleep(pause);
        run.kill().unwrap();
        if !run.wait().unwrap().success() {
            killed += 1;
        } else if killed < 3 {
            // It ended before it was killed. Begin again, and kill sooner.
            std::fs::remove_dir_all(folder.path().join("lake")).unwrap();
            pauses.push_back(pause / 2);
        }
    }
    assert!(killed >= 3, "{killed}");
    assert!(convert("lake").status().unwrap().success());
    let rows = |lake: &str| {
        let sql = "SELECT * FROM cloudtrail ORDER BY \"eventID\"";
        tawny(folder.path()).args(["query", sql, lake, "--format", "jsonl"]).output().unwrap().stdout
    };
    assert!(rows("lake") == rows("clean") && String::from_utf8_lossy(&rows("lake")).lines().count() == 180);
    assert!(hunt(folder.path(), "lake").stdout == hunt(folder.path(), "clean").stdout);
}
