//! Shared by the benches: a synthetic trail, medians and the control.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tawny::raw;
use tawny::store::Stores;
use tawny::trail::{Selection, Trail};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of objects in the trail, and of records in each.
pub(crate) const OBJECTS: u64 = 40;
pub(crate) const RECORDS: u64 = 5_000;
/// Number of runs of each step.
const ROUNDS: usize = 9;
/// One record of this many is a failed sign-in; each user fails twice within the same minute.
const SIGN_IN_EVERY: u64 = 500;

/// Writes a trail below `folder`, always the same.
pub(crate) fn write_trail(folder: &Path) {
    write_objects(folder, OBJECTS);
}

/// Writes a trail of this many objects below `folder`.
pub(crate) fn write_objects(folder: &Path, objects: u64) {
    write_objects_of(folder, objects, RECORDS);
}

/// Writes a trail of this many objects with this many records each below `folder`.
pub(crate) fn write_objects_of(folder: &Path, objects: u64, records: u64) {
    for object in 0..objects {
        let records: Vec<String> = (0..records).map(|record| text(object * records + record)).collect();
        let body = format!("{{\"Records\":[{}]}}", records.join(","));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body.as_bytes()).expect("memory takes all");
        fs::write(folder.join(format!("{object:04}.json.gz")), encoder.finish().expect("memory takes all"))
            .expect("the trail can be written");
    }
}

fn text(number: u64) -> String {
    // Spread the bits, so that ids do not compress.
    let noise = |salt: u64| {
        (number ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let id = format!("{:016x}-{:016x}", noise(1), noise(2));
    let (minute, second) = (number / 60 % 60, number % 60);
    let time = format!("2026-09-{:02}T{:02}:{minute:02}:{second:02}Z", 1 + number / 86_400 % 28, number / 3_600 % 24);
    if number % SIGN_IN_EVERY < 2 {
        let user = number / SIGN_IN_EVERY;
        return format!(
            r#"{{"eventVersion":"1.09","userIdentity":{{"type":"IAMUser","principalId":"AIDAEXAMPLE{user}","accountId":"111122223333","accessKeyId":"","userName":"user{user}"}},"eventTime":"{time}","eventSource":"signin.amazonaws.com","eventName":"ConsoleLogin","awsRegion":"us-east-1","sourceIPAddress":"192.0.2.{}","userAgent":"Mozilla/5.0","errorMessage":"Failed authentication","requestParameters":null,"responseElements":{{"ConsoleLogin":"Failure"}},"additionalEventData":{{"MobileVersion":"No","MFAUsed":"Yes"}},"eventID":"{id}","readOnly":false,"eventType":"AwsConsoleSignIn","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management"}}"#,
            number % 250
        );
    }
    let (role, session) = (noise(3) % 400, noise(4));
    let name = ["AssumeRole", "Decrypt", "GetObject", "PutObject", "DescribeInstances"][(noise(5) % 5) as usize];
    format!(
        r#"{{"eventVersion":"1.09","userIdentity":{{"type":"AssumedRole","principalId":"AROAEXAMPLE{role}:i-{session:016x}","arn":"arn:aws:sts::111122223333:assumed-role/role-{role}/i-{session:016x}","accountId":"111122223333","accessKeyId":"ASIA{:016X}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROAEXAMPLE{role}","arn":"arn:aws:iam::111122223333:role/role-{role}","accountId":"111122223333","userName":"role-{role}"}},"attributes":{{"creationDate":"{time}","mfaAuthenticated":"false"}}}}}},"eventTime":"{time}","eventSource":"sts.amazonaws.com","eventName":"{name}","awsRegion":"us-east-1","sourceIPAddress":"198.51.100.{}","userAgent":"aws-cli/2.17.9 md/awscrt#0.20.11 os/linux","requestParameters":{{"roleArn":"arn:aws:iam::111122223333:role/role-{role}","key":"a/b/{:016x}"}},"responseElements":null,"additionalEventData":{{"SignatureVersion":"SigV4","bytesTransferredOut":{}}},"requestID":"{:016x}","eventID":"{id}","readOnly":true,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256"}}}}"#,
        noise(6),
        number % 250,
        noise(7),
        noise(8) % 100_000,
        noise(9),
    )
}

/// Returns the trail that [`write_trail`] wrote below `folder`.
pub(crate) async fn trail(folder: &Path) -> Trail {
    let sources = [folder.display().to_string()];
    Trail::find(&Stores::default(), &sources, &Selection::default()).await.expect("the trail is there")
}

/// The control: reads and decompresses every object with the same library, one at a time on one thread.
pub(crate) fn inflate_all(folder: &Path) {
    for entry in fs::read_dir(folder).expect("the trail is there") {
        let bytes = fs::read(entry.expect("the trail can be listed").path()).expect("the trail can be read");
        let read = raw::read(&bytes, usize::MAX, &mut |part| {
            std::hint::black_box(part);
        });
        read.expect("the trail is whole");
    }
}

/// Returns the median time of each step. Steps run in rounds, so that other load on the machine slows all of them.
pub(crate) fn medians<const WORKS: usize>(mut works: [&mut dyn FnMut(); WORKS]) -> [Duration; WORKS] {
    let mut times = [const { Vec::new() }; WORKS];
    for _ in 0..ROUNDS {
        for (work, times) in works.iter_mut().zip(&mut times) {
            let start = Instant::now();
            work();
            times.push(start.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

/// Prints a line of the table.
#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
pub(crate) fn row(what: &str, time: Duration, control: Duration) {
    println!(
        "{what:<28} {:>9.1} ms {:>7.2} x control",
        time.as_secs_f64() * 1e3,
        time.as_secs_f64() / control.as_secs_f64()
    );
}
