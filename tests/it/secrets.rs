//! Secrets appear in no output of any command, also when it fails.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::records::failed_sign_in;
use crate::s3_server::{Fault, SECRET, Server};

const TOKEN: &str = "an-example-session-token";
const HOOK: &str = "an-example-hook-path";
const SIGNING: &str = "an-example-signing-key";
const PASSWORD: &str = "an-example-password";

fn hold(what: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    for secret in [SECRET, TOKEN, HOOK, SIGNING, PASSWORD] {
        assert!(!text.contains(secret), "{what} contains {secret}: {text}");
    }
}

/// Checks all files below a folder.
fn hold_files(folder: &Path) {
    let mut read = 0;
    for file in glob::glob(&format!("{}/**/*", folder.display())).unwrap().flatten().filter(|path| path.is_file()) {
        hold(&file.display().to_string(), &std::fs::read(&file).unwrap());
        read += 1;
    }
    assert!(read > 3, "{read}");
}

#[test]
fn secrets_are_never_written() {
    let server = Server::start();
    let records =
        [0, 1].map(|minute| failed_sign_in("ann", &format!("2026-09-01T10:0{minute}:00Z"), &minute.to_string()));
    server.put("logs", "trail/a.json", json!({ "Records": records }).to_string().as_bytes());
    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = "lake = 's3://lake/l'\n[[source]]\npath = 's3://logs/trail'\n\
        [[sink]]\nname = 'hook'\nkind = 'webhook'\nurl_env = 'HOOK'\nsecret_env = 'KEY'\nformat = 'json'\nattempts = 1\ntimeout = 1\n\
        [[sink]]\nname = 'out'\nkind = 'stdout'\n[report]\njson = 'report.json'\nprometheus = 'tawny.prom'\n";
    std::fs::write(home.path().join("tawny.toml"), config).unwrap();
    std::fs::write(home.path().join("broken.toml"), format!("{config}nonsense = 1\n")).unwrap();
    let run = |endpoint: &str, arguments: &[&str]| {
        let mut command: Command = server.command();
        command
            .current_dir(home.path())
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_SESSION_TOKEN", TOKEN)
            .env("HOOK", format!("https://user:{PASSWORD}@127.0.0.1:9/{HOOK}?token={HOOK}"))
            .env("KEY", SIGNING)
            .env("RUST_LOG", "trace")
            .args(arguments);
        let output = command.output().unwrap();
        hold(&format!("standard output of {arguments:?}"), &output.stdout);
        hold(&format!("standard error of {arguments:?}"), &output.stderr);
        output.status.code().unwrap()
    };
    let commands: [&[&str]; 9] = [
        &["nightly", "--dry-run", "--log", "json"],
        &["nightly", "--log", "json", "--format", "json"],
        &["nightly", "--config", "broken.toml"],
        &["convert", "s3://logs/trail", "--lake", "s3://lake/other"],
        &["hunt", "s3://logs/trail", "--report", "page.html", "-o", "findings.csv", "--format", "csv"],
        &["hunt", "s3://lake/l", "--format", "json", "-o", "findings.json"],
        &["inspect", "s3://logs/trail"],
        &["query", "SELECT count(*) FROM cloudtrail", "s3://logs/trail"],
        &["hunt", "s3://none/such"],
    ];
    let codes = commands.map(|arguments| run(&server.url, arguments));
    assert_eq!(codes[..2], [0, 3], "the webhook is unreachable");
    assert_eq!(codes[3..6], [0, 0, 0]);
    server.set_faults(|_| Fault::Refused(403, "SignatureDoesNotMatch"));
    for arguments in commands {
        assert_ne!(run(&server.url, arguments), 0, "{arguments:?}");
    }
    let with_password = server.url.replace("http://", &format!("http://user:{PASSWORD}@"));
    assert_ne!(run(&with_password, &["inspect", "s3://logs/trail"]), 0);
    hold_files(home.path());
    hold_files(server.file("lake", "").as_path());
}
