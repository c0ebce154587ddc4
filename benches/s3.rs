//! A hunt of many small objects in S3, compared with the bound given by their number, the latency and the requests in
//! flight.
#![expect(clippy::unwrap_used, reason = "a bench that cannot continue ends")]
#![expect(clippy::expect_used, reason = "a bench that cannot continue ends")]

#[path = "../tests/it/http_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod http_server;
#[path = "../tests/it/s3_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod s3_server;
#[path = "support/process.rs"]
mod process;

use std::io::Write as _;
use std::time::Duration;

use process::{ProcessUsage, median};
use s3_server::Server;

const OBJECTS: u32 = 20_000;
const RECORDS: u32 = 40;
const IN_FLIGHT: u32 = 64;
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

fn hunt(server: &Server, more: &[&str]) -> ProcessUsage {
    let mut command = server.command();
    command.args(["hunt", "s3://logs/AWSLogs", "--quiet", "--format", "jsonl", "--in-flight", &IN_FLIGHT.to_string()]);
    process::run(command.args(more))
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
fn main() {
    let server = Server::start();
    for number in 0..OBJECTS {
        let (region, hour) = (["eu-west-1", "us-east-1"][number as usize % 2], number % 24);
        let name = format!("111122223333_CloudTrail_{region}_20260901T{hour:02}05Z_{number:016}.json.gz");
        let key = format!("AWSLogs/111122223333/CloudTrail/{region}/2026/09/01/{name}");
        server.put("logs", &key, &object(number));
    }
    for delay in [0, 5, 20] {
        server.set_delay(Duration::from_millis(delay));
        // The test server walks its whole folder for each page of a listing.
        let list = median((0..ROUNDS).map(|_| hunt(&server, &["--dry-run"])).collect()).time.as_secs_f64();
        let run = |_| {
            server.take_log();
            let taken = hunt(&server, &[]);
            (taken, server.take_log().len())
        };
        let (ProcessUsage { time, peak, .. }, requests) = median((0..ROUNDS).map(run).collect());
        let seconds = time.as_secs_f64();
        let waiting = Duration::from_millis(delay).as_secs_f64() * f64::from(OBJECTS) / f64::from(IN_FLIGHT);
        println!(
            "delay {delay:>2} ms: {requests} requests, {seconds:.2} s, {peak} MiB; {:.2} x the bound, {list:.2} s to list and {waiting:.2} s to wait",
            seconds / (list + waiting),
        );
    }
}
