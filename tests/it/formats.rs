//! Input formats: compression, archives, envelopes, standard input, and formats that are rejected by name.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tawny::rule::catalog::DEFAULT;

use crate::records::failed_sign_in;

/// Returns a burst of a user, which is one finding.
fn burst(user: &str) -> Vec<Value> {
    let record = |minute| failed_sign_in(user, &format!("2026-09-01T10:0{minute}:00Z"), &format!("{user}/{minute}"));
    (0..3).map(record).collect()
}

fn object(user: &str) -> Vec<u8> {
    json!({ "Records": burst(user) }).to_string().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in members {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Runs the program in `folder` with `input` on standard input.
fn run(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    command.current_dir(folder).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A refused command does not read its input.
    child.stdin.take().unwrap().write_all(input).ok();
    child.wait_with_output().unwrap()
}

fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Creates a folder with one file at `name` and its parent folders.
fn folder_with(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data").join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, bytes).unwrap();
    folder
}

fn hunt_arguments<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["hunt", data, "--rule", DEFAULT, "--format", "jsonl"][..], more].concat()
}

/// Returns the users with a complete burst in the findings.
fn users_found(output: &Output) -> Vec<String> {
    let user = |line: &str| {
        let finding: Value = serde_json::from_str(line).unwrap();
        assert_eq!(finding["count"], 3, "{finding}");
        finding["event_ids"][0].as_str().unwrap().trim_end_matches("/0").to_owned()
    };
    let mut users: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(user).collect();
    users.sort();
    users
}

/// Checks that a hunt of the files and of their lake finds the burst in each file. The user has the file's name.
fn assert_read(files: &[(&str, Vec<u8>)], more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    for (name, bytes) in files {
        let file = home.join("data").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    let mut names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    let convert = run(home, &[&["convert", "data", "--lake", "lake"][..], more].concat(), b"");
    assert_eq!(convert.status.code(), Some(0), "{}", told(&convert));
    let records = format!("records: {0} read = {0} converted + 0 rejected", 3 * files.len());
    assert!(told(&convert).contains(&records), "{}", told(&convert));
    for arguments in [hunt_arguments("data", more), hunt_arguments("lake", &[])] {
        let output = run(home, &arguments, b"");
        assert_eq!((output.status.code(), users_found(&output)), (Some(0), names.clone()), "{}", told(&output));
    }
}

/// Creates an archive of members with these names.
type Archive = fn(&[(&str, &[u8])]) -> Vec<u8>;

#[test]
fn every_compression_and_archive_gives_the_same_findings() {
    let packed = |user: &str, archive: Archive| {
        let one: Vec<Vec<u8>> = burst(user).iter().map(|record| record.to_string().into_bytes()).collect();
        archive(&[
            ("AWSLogs/111122223333/CloudTrail/eu-west-1/2026/09/01/a.json", &one[0]),
            ("b.json.gz", &gzip(&one[1])),
            ("c.json.zst", &zstd(&one[2])),
            ("README", b"for people"),
        ])
    };
    let frames = object("frames.zst");
    let files = [
        ("ct.json.zst", zstd(&object("ct.json.zst"))),
        ("no-ending", zstd(&object("no-ending"))),
        ("frames.zst", [zstd(&frames[..40]), zstd(&frames[40..])].concat()),
        ("a.tar", packed("a.tar", tar)),
        ("a.tar.gz", gzip(&packed("a.tar.gz", tar))),
        ("a.tar.zst", zstd(&packed("a.tar.zst", tar))),
        ("a.zip", packed("a.zip", zip)),
        ("archive", packed("archive", zip)),
    ];
    assert_read(&files, &[]);
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [&files[0], &files[4], &files[6]] {
        let output = run(folder.path(), &hunt_arguments("-", &[]), bytes);
        let found = (output.status.code(), users_found(&output));
        assert_eq!(found, (Some(0), vec![(*name).to_owned()]), "{}", told(&output));
    }
}

/// Returns the records of a user's burst as lines.
fn lines(user: &str, wrap: &dyn Fn(&Value) -> String) -> Vec<u8> {
    burst(user).iter().map(|record| wrap(record) + "\n").collect::<String>().into_bytes()
}

/// Returns a user's burst as a list, inside `key` if there is one.
fn list(user: &str, key: &str, wrap: &dyn Fn(&Value) -> Value) -> Vec<u8> {
    let list = Value::from(burst(user).iter().map(wrap).collect::<Vec<_>>());
    if key.is_empty() { list.to_string().into() } else { json!({ key: list, "status": "Complete" }).to_string().into() }
}

fn text(record: &Value) -> Value {
    Value::from(record.to_string())
}

#[test]
fn every_known_envelope_gives_the_same_findings() {
    let cells = |record: &Value| json!([{"field": "@timestamp", "value": "2026-09-01 10:00:00.000"}, {"field": "@message", "value": text(record)}]);
    let export = "task/stream/000000.gz";
    let datadog = |record: &Value| json!({"message": "", "attributes": record}).to_string();
    assert_read(
        &[
            // A CloudWatch Logs export to S3.
            (export, gzip(&lines(export, &|record| format!("2026-09-01T10:00:00.000Z {record}")))),
            // `aws logs get-query-results`, and an export from the Logs Insights console.
            ("results.json", list("results.json", "results", &cells)),
            ("console.json", list("console.json", "", &|record| json!({"@timestamp": "x", "@message": record}))),
            ("text.json", list("text.json", "", &|record| json!({"@message": text(record)}))),
            // `aws logs filter-log-events`.
            ("events.json", list("events.json", "events", &|record| json!({"message": text(record), "eventId": "1"}))),
            (
                "elastic",
                lines("elastic", &|record| json!({"_source": {"event": {"original": text(record)}}}).to_string()),
            ),
            ("datadog.json.gz", gzip(&lines("datadog.json.gz", &datadog))),
            ("fluent", lines("fluent", &|record| json!({"date": 1.5, "log": text(record)}).to_string())),
            ("vector", lines("vector", &|record| json!({"source_type": "s3", "message": text(record)}).to_string())),
        ],
        &[],
    );
}

#[test]
fn unwrap_reads_records_from_any_json() {
    let files = [
        ("object", lines("object", &|record| json!({"payload": {"event": record}}).to_string())),
        ("text", lines("text", &|record| json!({"payload": {"event": text(record)}}).to_string())),
        ("list.json", list("list.json", "rows", &|record| json!({ "r": record }))),
    ];
    assert_read(&files, &["--unwrap", "nowhere", "--unwrap", "payload.event", "--unwrap", "rows[*].r"]);
    // Without the path the records are rejected; with it they are converted.
    let folder = folder_with("a.jsonl", &files[0].1);
    let convert = ["convert", "data", "--lake", "lake", "--unwrap", "payload.event"];
    let refused = run(folder.path(), &convert[..4], b"");
    assert_eq!(refused.status.code(), Some(3), "{}", told(&refused));
    assert!(told(&refused).contains("`--unwrap`") && told(&refused).contains("a.jsonl"), "{}", told(&refused));
    let done = run(folder.path(), &convert, b"");
    assert_eq!(done.status.code(), Some(0), "{}", told(&done));
    assert!(told(&done).contains("records: 3 read = 3 converted"), "{}", told(&done));
    let folder = folder_with("a.jsonl", &lines("ann", &|record| json!({"payload": record}).to_string()));
    let query = ["query", "SELECT count(*) AS n FROM cloudtrail", "data", "--unwrap", "payload", "--format", "jsonl"];
    let output = run(folder.path(), &query, b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), r#"{"n":3}"#, "{}", told(&output));
    let backtest = ["backtest", "data", "--rule", DEFAULT, "--unwrap", "payload", "--format", "json"];
    assert_eq!(run(folder.path(), &backtest, b"").status.code(), Some(0));
    let wrong = run(folder.path(), &["hunt", "data", "--unwrap", "a..b"], b"");
    assert!(wrong.status.code() == Some(2) && told(&wrong).contains("a key must not be empty"), "{}", told(&wrong));

    let config = "lake = 'lake'\nunwrap = ['payload']\n[[source]]\npath = 'data'\n[[sink]]\nname = 'o'\nkind = 'files'\nto = 'out'\n";
    std::fs::write(folder.path().join("tawny.toml"), config).unwrap();
    let nightly = run(folder.path(), &["nightly", "--format", "json"], b"");
    assert_eq!(nightly.status.code(), Some(0), "{}", told(&nightly));
    let report: Value = serde_json::from_slice(&nightly.stdout).unwrap();
    assert_eq!(report["read"]["records"]["used"], 3, "{report}");
    std::fs::write(folder.path().join("tawny.toml"), config.replace("payload", "a..b")).unwrap();
    let wrong = run(folder.path(), &["nightly"], b"");
    assert!(wrong.status.code() == Some(2) && told(&wrong).contains("line 2"), "{}", told(&wrong));
    let lake = run(folder.path(), &["hunt", "lake", "--unwrap", "payload"], b"");
    assert!(lake.status.code() == Some(2) && told(&lake).contains("--unwrap"), "{}", told(&lake));
}

#[test]
fn unsupported_formats_are_rejected_by_name() {
    let csv = b"eventTime,eventName\n2026-09-01T10:00:00Z,ConsoleLogin\n";
    let large = vec![b'x'; (1 << 20) + 1];
    let files = [
        ("ct.csv", &csv[..], "CSV"),
        ("ct.csv.gz", &gzip(csv), "CSV"),
        ("ct.json.bz2", b"BZh91AY&SY\x00\x01", "bzip2"),
        ("no-ending", b"BZh91AY&SY\x00\x01", "bzip2"),
        ("ct.json.xz", b"\xfd7zXZ\0\0\x01", "xz"),
        ("ct.7z", b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
        ("ct.rar", b"Rar!\x1a\x07\x01\0", "RAR"),
        ("ct.avro", b"Obj\x01\x04\x16", "Avro"),
        ("ct.orc", b"ORC\x08\x03", "ORC"),
        ("ct.json.br", b"\x0b\x02\x80", "Brotli"),
        ("part-0", b"PAR1\x15\x04PAR1", "Parquet"),
        ("utf16.json", b"\xff\xfe{\0\"\0", "UTF-16"),
        ("table.xlsx", &zip(&[("xl/workbook.xml", b"<x/>")]), "a spreadsheet"),
        ("nested.zip", &zip(&[("inner.tar", &tar(&[("a.json", b"{}")]))]), "nested.zip!inner.tar: an archive within"),
        ("bz2.zip", &zip(&[("inner.bz2", b"BZh91AY&SY")]), "bz2.zip!inner.bz2: bzip2"),
        ("large", &large, "neither JSON nor packed JSON"),
    ];
    let folder = folder_with("good.json", &object("good"));
    for (name, bytes, _) in files {
        std::fs::write(folder.path().join("data").join(name), bytes).unwrap();
    }
    let output = run(folder.path(), &hunt_arguments("data", &[]), b"");
    // The other files in the folder are read.
    assert_eq!((output.status.code(), users_found(&output)), (Some(3), vec!["good".to_owned()]), "{}", told(&output));
    for (name, _, kind) in files {
        let is_named = told(&output).lines().any(|line| line.contains(name) && line.contains(kind));
        assert!(is_named, "{name}: {}", told(&output));
    }
    let counts = format!("objects: {} read = 1 hunted + {} rejected", files.len() + 1, files.len());
    assert!(told(&output).contains(&counts), "{}", told(&output));
    // Alone.
    for (name, bytes, kind) in [files[0], files[2]] {
        let folder = folder_with(name, bytes);
        for arguments in [&["hunt", "data"][..], &["convert", "data", "--lake", "lake"]] {
            let output = run(folder.path(), arguments, b"");
            assert_eq!(output.status.code(), Some(3), "{name} {arguments:?}: {}", told(&output));
            assert!(told(&output).contains(name) && told(&output).contains(kind), "{name}: {}", told(&output));
        }
    }
    // Other files that people keep in a folder are skipped.
    let folder = folder_with("good.json", &object("good"));
    for name in ["README.md", "notes", "script.sh"] {
        std::fs::write(folder.path().join("data").join(name), "for people\n").unwrap();
    }
    let access = format!("{} bucket [01/Sep/2026:10:00:00 +0000] 192.0.2.7\n", "0".repeat(64)).repeat(20_000);
    std::fs::write(folder.path().join("data/2026-09-01-10-00-00-0123456789ABCDEF"), access).unwrap();
    let output = run(folder.path(), &hunt_arguments("data", &[]), b"");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("3 skipped (not JSON)"), "{}", told(&output));
    assert!(told(&output).contains("1 skipped (S3 access log)"), "{}", told(&output));
}

#[test]
fn archive_members_are_accounted_for() {
    let good = object("good");
    let members: &[(&str, &[u8])] = &[
        ("good.json", &good),
        ("broken.json", b"{\"Records\":[{"),
        ("line.jsonl", b"{\"eventName\":\"A\"}\n{\"a\":1}\n"),
        ("README", b"for people"),
        ("AWSLogs/111122223333/CloudTrail-Digest/d.json.gz", b"x"),
    ];
    for (name, bytes) in [("a.zip", zip(members)), ("a.tar.gz", gzip(&tar(members)))] {
        let folder = folder_with(name, &bytes);
        let convert = run(folder.path(), &["convert", "data", "--lake", "lake"], b"");
        assert_eq!(convert.status.code(), Some(3), "{}", told(&convert));
        for expected in [
            "objects: 1 read = 1 converted + 0 rejected",
            "members of archives: 5 read = 2 converted + 1 skipped (CloudTrail-Digest) + 1 skipped (not JSON) + 1 rejected",
            "records: 5 read = 4 converted + 1 rejected",
            &format!("data/{name}!broken.json: broken JSON at line 1"),
            &format!("data/{name}!line.jsonl, record 2: not a CloudTrail record"),
        ] {
            assert!(told(&convert).contains(expected), "{expected}: {}", told(&convert));
        }
        // An archive is converted once, like any object.
        let again = run(folder.path(), &["convert", "data", "--lake", "lake"], b"");
        assert!(told(&again).contains("objects: 1 read = 0 converted + 1 converted before"), "{}", told(&again));
        // A truncated archive is rejected whole.
        std::fs::write(folder.path().join("data").join(name), &bytes[..bytes.len() / 2]).unwrap();
        let cut = run(folder.path(), &["convert", "data", "--lake", "cut"], b"");
        assert_eq!(cut.status.code(), Some(3), "{}", told(&cut));
        assert!(told(&cut).contains("objects: 1 read = 0 converted + 1 rejected"), "{}", told(&cut));
        assert!(told(&cut).contains("records: 0 read"), "{}", told(&cut));
    }
}

#[test]
fn cloudtrails_own_messages_are_skipped_by_kind() {
    let notice = json!({"s3Bucket": "logs", "s3ObjectKey": ["AWSLogs/x.json.gz"]});
    let sns = |message: &str| json!({"Type": "Notification", "TopicArn": "x", "Message": message});
    let sqs = |body: &Value| json!({"Messages": [{"Body": body.to_string()}]}).to_string();
    let validation = "CloudTrail validation message.";
    let texts = [
        validation.to_owned(),
        sns(validation).to_string(),
        sqs(&sns(validation)),
        json!({"Records": [{"Sns": sns(validation)}]}).to_string(),
        notice.to_string(),
        sns(&notice.to_string()).to_string(),
        sqs(&sns(&notice.to_string())),
    ];
    let folder = folder_with("good.json", &object("good"));
    for (number, text) in texts.iter().enumerate() {
        std::fs::write(folder.path().join(format!("data/{number}.json")), text).unwrap();
    }
    let output = run(folder.path(), &["convert", "data", "--lake", "lake"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    for expected in [
        // One of them is only the text.
        "objects: 8 read = 7 converted + 1 skipped (CloudTrail validation message) + 0 rejected",
        "records: 9 read = 3 converted + 3 skipped (CloudTrail delivery notice) + 3 skipped (CloudTrail validation message)",
    ] {
        assert!(told(&output).contains(expected), "{}", told(&output));
    }
}

#[test]
fn every_command_that_reads_raw_objects_reads_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let input = gzip(&object("ann"));
    let query = [
        "query",
        "SELECT count(*) AS n FROM cloudtrail a JOIN cloudtrail b USING (\"eventID\")",
        "-",
        "--format",
        "jsonl",
    ];
    let output = run(home, &query, &input);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), r#"{"n":3}"#, "{}", told(&output));
    // A hunt of a range may read its data again.
    let ranged = hunt_arguments("-", &["--from", "2026-09-01T10:01:00Z", "--to", "2026-09-02"]);
    let output = run(home, &ranged, &input);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("objects: 1 read = 1 hunted"), "{}", told(&output));
    for arguments in [&["inspect", "-"][..], &["backtest", "-", "--rule", DEFAULT], &["hunt", "/dev/stdin"]] {
        let output = run(home, arguments, &input);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", told(&output));
    }
    // Equal content counts as the same object.
    for expected in ["1 read = 1 converted", "1 read = 0 converted + 1 converted before"] {
        let output = run(home, &["convert", "-", "--lake", "lake"], &input);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(told(&output).contains(expected), "{}", told(&output));
    }
    let broken = run(home, &["hunt", "-"], b"{\"Records\":[");
    assert!(broken.status.code() == Some(3) && told(&broken).contains("rejected: -: broken JSON"), "{}", told(&broken));
    let csv = run(home, &["hunt", "-"], b"BZh91AY&SY");
    assert!(csv.status.code() == Some(3) && told(&csv).contains("-: bzip2"), "{}", told(&csv));
    let large = run(home, &["hunt", "-", "--max-object-size", "1M"], &vec![b' '; (1 << 20) + 1]);
    assert!(large.status.code() == Some(2) && told(&large).contains("more than 1 MiB"), "{}", told(&large));
}

#[test]
fn large_record_is_rejected_and_the_rest_is_read() {
    let mut large = failed_sign_in("other", "2026-09-01T10:00:00Z", "large");
    large["requestParameters"] = json!({"blob": "a".repeat(3 << 20)});
    let mut all = burst("ann");
    all.insert(1, large);
    let bytes = json!({ "Records": all }).to_string().into_bytes();
    let folder = folder_with("a.json", &bytes);
    let reason = "a.json, record 2: the record holds 4 MiB, more than the 2 MiB that `--max-record-size` allows";
    let convert = ["convert", "data", "--lake", "lake", "--max-record-size", "2M"];
    let output = run(folder.path(), &convert, b"");
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains(reason) && told(&output).contains("4 read = 3 converted + 1 rejected"),
        "{}",
        told(&output)
    );
    for data in ["data", "-"] {
        let output = run(folder.path(), &hunt_arguments(data, &["--max-record-size", "2M"]), &bytes);
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        assert!(
            told(&output).contains(&reason.replace("a.json", if data == "-" { "-" } else { "a.json" })),
            "{}",
            told(&output)
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
        assert_eq!(run(folder.path(), &hunt_arguments(data, &[]), &bytes).status.code(), Some(0));
    }
}

#[test]
fn other_s3_urls_are_refused_with_the_supported_form() {
    let folder = folder_with("a.json", &object("ann"));
    let console = "https://s3.console.aws.amazon.com/s3/buckets/logs?prefix=AWSLogs/&X-Amz-Signature=0123456789abcdef";
    for address in
        ["https://logs.s3.eu-west-1.amazonaws.com/AWSLogs/", "s3a://logs/AWSLogs", "arn:aws:s3:::logs/AWSLogs", console]
    {
        for arguments in [
            &["hunt", address][..],
            &["convert", address, "--lake", "lake"],
            &["convert", "data", "--lake", address],
            &["compact", address],
            &["hunt", "data", "-o", address],
            &["hunt", "data", "--report", address],
        ] {
            let output = run(folder.path(), arguments, b"");
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", told(&output));
            assert!(told(&output).contains("write `s3://logs/AWSLogs`"), "{arguments:?}: {}", told(&output));
            assert!(!told(&output).contains("0123456789abcdef"), "{}", told(&output));
        }
        let config = format!("lake = 'lake'\n[[source]]\npath = '{address}'\n");
        std::fs::write(folder.path().join("tawny.toml"), config).unwrap();
        let output = run(folder.path(), &["nightly"], b"");
        assert!(
            output.status.code() == Some(2) && told(&output).contains("write `s3://logs/AWSLogs`"),
            "{}",
            told(&output)
        );
    }
    let other = run(folder.path(), &["hunt", "gs://logs/AWSLogs"], b"");
    assert!(
        other.status.code() == Some(2) && told(&other).contains("Google Cloud Storage is not supported"),
        "{}",
        told(&other)
    );
}
