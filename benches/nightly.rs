//! Ninety nightly runs over a trail that grows by a day each, compared with one conversion and one hunt of everything, on
//! disk and in S3.
#![expect(clippy::unwrap_used, reason = "a bench that cannot continue ends")]

#[path = "../tests/it/http_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod http_server;
#[path = "../tests/it/s3_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod s3_server;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use s3_server::Server;
use tawny::time::{self, DAY, SECOND};

const HOUR: i64 = 3_600 * SECOND;
const NIGHTS: u32 = 90;
const OBJECTS: u32 = 96;
const RECORDS: u32 = 100;
const START: time::Instant = time::Instant::from_micros(1_780_272_000 * SECOND);

/// Returns the key and records of an object: a quarter of an hour of a night, with two failed sign-ins in every fourth
/// object.
fn object(night: u32, number: u32) -> (String, Vec<u8>) {
    let start = START + i64::from(night) * DAY + i64::from(number) * HOUR / 4;
    let record = |of: u32| {
        let id = u64::from((night * OBJECTS + number) * RECORDS + of).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = (start + i64::from(of) * 8 * SECOND).to_string();
        let fails = number.is_multiple_of(4) && of < 2;
        let (name, source, outcome) =
            if fails { ("ConsoleLogin", "signin", "Failure") } else { ("GetObject", "s3", "none") };
        format!(
            r#"{{"eventTime":"{at}","eventID":"{id:016x}","eventName":"{name}","eventSource":"{source}.amazonaws.com","recipientAccountId":"111122223333","userIdentity":{{"type":"IAMUser","userName":"user{}"}},"sourceIPAddress":"192.0.2.7","awsRegion":"eu-west-1","requestParameters":{{"key":"{:016x}"}},"additionalEventData":{{"MFAUsed":"Yes"}},"responseElements":{{"ConsoleLogin":"{outcome}"}}}}"#,
            number / 4,
            id.rotate_left(23)
        )
    };
    let records: Vec<String> = (0..RECORDS).map(record).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(format!("{{\"Records\":[{}]}}", records.join(",")).as_bytes()).unwrap();
    let date = start.utc_date();
    let (folder, stamp) = (date.replace('-', "/"), date.replace('-', ""));
    let name = format!("111122223333_CloudTrail_eu-west-1_{stamp}T{:02}05Z_{number:016}.json.gz", number / 4);
    (format!("AWSLogs/111122223333/CloudTrail/eu-west-1/{folder}/{name}"), encoder.finish().unwrap())
}

/// The location of trail and lake.
struct Place<'a> {
    home: &'a Path,
    server: Option<&'a Server>,
}

impl Place<'_> {
    fn at(&self, name: &str) -> String {
        if self.server.is_some() { format!("s3://bench/{name}") } else { self.home.join(name).display().to_string() }
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        if let Some(server) = self.server {
            server.put("bench", &format!("logs/{key}"), bytes);
        } else {
            let file = self.home.join("logs").join(key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
    }

    fn time(&self, arguments: &[&str]) -> Duration {
        let mut command = self.server.map_or_else(|| Command::new(env!("CARGO_BIN_EXE_tawny")), Server::command);
        command.args(arguments).current_dir(self.home).stdin(Stdio::null()).stdout(Stdio::null());
        let start = Instant::now();
        assert!(command.status().unwrap().success());
        start.elapsed()
    }

    fn requests(&self) -> usize {
        self.server.map_or(0, |server| server.take_log().len())
    }
}

fn median<T: Ord + Copy>(values: &[T]) -> T {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
fn nights(place: &Place<'_>) {
    let (logs, lake, config) = (place.at("logs"), place.at("lake"), "tawny.toml");
    let sink = "[[sink]]\nname = 'files'\nkind = 'files'\nto = 'findings'\n";
    let settings = format!("lake = '{lake}'\n[[source]]\npath = '{logs}'\n{sink}");
    std::fs::write(place.home.join(config), settings).unwrap();
    let (mut times, mut requests) = (Vec::new(), Vec::new());
    for night in 0..NIGHTS {
        for number in 0..OBJECTS {
            let (key, bytes) = object(night, number);
            place.put(&key, &bytes);
        }
        let now = (START + i64::from(night + 1) * DAY + 2 * HOUR).to_string();
        place.requests();
        times.push(place.time(&["nightly", "--config", config, "--now", &now, "--quiet"]));
        requests.push(place.requests());
    }
    let once = place.at("once");
    let convert = place.time(&["convert", &logs, "--lake", &once, "--quiet"]);
    let hunt = place.time(&["hunt", &once, "--quiet"]);
    let all: Duration = times.iter().sum();
    let whole = convert + hunt;
    let (first, last) = (median(&times[1..6]), median(&times[times.len() - 5..]));
    let name = if place.server.is_some() { "in S3" } else { "on disk" };
    println!(
        "{name}: {NIGHTS} nights {:.2} s, one convert {:.2} s and one hunt {:.2} s: {:.2} x; \
         nights 2 to 6 {:.0} ms, the last five {:.0} ms: {:.2} x",
        all.as_secs_f64(),
        convert.as_secs_f64(),
        hunt.as_secs_f64(),
        all.as_secs_f64() / whole.as_secs_f64(),
        first.as_secs_f64() * 1e3,
        last.as_secs_f64() * 1e3,
        last.as_secs_f64() / first.as_secs_f64(),
    );
    if place.server.is_some() {
        let (first, last) = (median(&requests[1..6]), median(&requests[requests.len() - 5..]));
        println!("{name}: {first} requests a night in nights 2 to 6, {last} in the last five");
    }
}

fn main() {
    let (disk, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    nights(&Place { home: disk.path(), server: None });
    nights(&Place { home: bucket.path(), server: Some(&Server::start()) });
}
