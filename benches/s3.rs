//! A hunt of many small objects in S3, compared with the bound given by their number, the latency, the requests in flight and the
//! same hunt from disk.
#![expect(clippy::unwrap_used, reason = "a bench that cannot continue ends")]
#![expect(clippy::expect_used, reason = "a bench that cannot continue ends")]
#![expect(clippy::disallowed_methods, reason = "the location of the data is a setting")]

#[path = "../tests/it/http_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod http_server;
#[path = "../tests/it/s3_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod s3_server;
#[path = "support/process.rs"]
mod process;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use process::{ProcessUsage, median};
use s3_server::Server;

const OBJECTS: u32 = 20_000;
const RECORDS: u32 = 40;
const IN_FLIGHT: u32 = 256;
const ROUNDS: usize = 5;

fn object(number: u32) -> Vec<u8> {
    let record = |of: u32| {
        let id = u64::from(number * RECORDS + of).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (minute, second) = (number / 60 % 60, number % 60);
        let fails = number % 500 < 2 && of == 0;
        let (name, source, outcome) =
            if fails { ("ConsoleLogin", "signin", "Failure") } else { ("GetObject", "s3", "none") };
        format!(
            r#"{{"eventTime":"2026-09-01T10:{minute:02}:{second:02}Z","eventID":"{id:016x}-{of}","eventName":"{name}","eventSource":"{source}.amazonaws.com","recipientAccountId":"111122223333","userIdentity":{{"type":"IAMUser","userName":"user{}"}},"sourceIPAddress":"192.0.2.7","awsRegion":"eu-west-1","additionalEventData":{{"MFAUsed":"Yes"}},"responseElements":{{"ConsoleLogin":"{outcome}"}}}}"#,
            number / 500
        )
    };
    let records: Vec<String> = (0..RECORDS).map(record).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(format!("{{\"Records\":[{}]}}", records.join(",")).as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Writes the trail below `folder`.
fn write_trail(folder: &Path) {
    for number in 0..OBJECTS {
        let (region, hour) = (["eu-west-1", "us-east-1"][number as usize % 2], number % 24);
        let name = format!("111122223333_CloudTrail_{region}_20260901T{hour:02}05Z_{number:016}.json.gz");
        let file = folder.join(format!("AWSLogs/111122223333/CloudTrail/{region}/2026/09/01/{name}"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, object(number)).unwrap();
    }
}

/// Puts the files below `folder` into the bucket `logs`, with their paths from `root` as keys. Returns their number.
fn put_files(server: &Server, root: &Path, folder: &Path) -> u32 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let put = |path: PathBuf| {
        if path.is_dir() {
            return put_files(server, root, &path);
        }
        server.put("logs", path.strip_prefix(root).unwrap().to_str().unwrap(), &std::fs::read(&path).unwrap());
        1
    };
    entries.map(put).sum()
}

fn hunt(mut command: Command, trail: &str, more: &[&str]) -> ProcessUsage {
    command.args(["hunt", trail, "--rule", "AWS.Unsuccessful.MFA.attempt", "--quiet", "--format", "jsonl"]);
    process::run(command.args(more))
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
fn main() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let trail = std::env::var("TAWNY_BENCH_TINY_TRAIL").map_or_else(|_| home.path().to_owned(), PathBuf::from);
    if trail == home.path() {
        write_trail(&trail);
    }
    let objects = put_files(&server, &trail, &trail.join("AWSLogs"));
    let (on_disk, in_flight) = (trail.display().to_string(), IN_FLIGHT.to_string());
    let from_s3 =
        |more: &[&str]| hunt(server.command(), "s3://logs/AWSLogs", &[&["--in-flight", &in_flight], more].concat());
    let from_disk = |_| hunt(Command::new(env!("CARGO_BIN_EXE_tawny")), &on_disk, &[]);
    let disk = median((0..ROUNDS).map(from_disk).collect()).time.as_secs_f64();
    for delay in [0, 5, 20] {
        server.set_delay(Duration::from_millis(delay));
        // The test server walks its whole folder for each page of a listing.
        let list = median((0..ROUNDS).map(|_| from_s3(&["--dry-run"])).collect()).time.as_secs_f64();
        let run = |_| {
            server.take_log();
            let taken = from_s3(&[]);
            (taken, server.take_log().len())
        };
        let (ProcessUsage { time, peak, .. }, requests) = median((0..ROUNDS).map(run).collect());
        let seconds = time.as_secs_f64();
        let waiting = Duration::from_millis(delay).as_secs_f64() * f64::from(objects) / f64::from(IN_FLIGHT);
        println!(
            "delay {delay:>2} ms: {requests} requests, {seconds:.2} s, {peak} MiB; {:.2} x the bound, {list:.2} s to list, \
             {waiting:.2} s to wait and {disk:.2} s from disk",
            seconds / (list + waiting + disk),
        );
    }
}
