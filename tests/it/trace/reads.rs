//! How much of a lake the start of a trace reads.

use serde_json::{Value, json};

use super::{record, trail};
use crate::s3_server::Server;

const DAYS: usize = 12;
const RECORDS_A_DAY: usize = 2_500;

/// Returns the ARN and the key of the session that makes a call. Each session makes one.
fn session(day: usize, number: usize) -> (String, String) {
    let session = format!("{:016X}", (day * RECORDS_A_DAY + number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (format!("arn:aws:sts::111122223333:assumed-role/deploy/job-{session}"), format!("ASIA{session}"))
}

fn event_id(day: usize, number: usize) -> String {
    format!(
        "{:032x}",
        ((day * RECORDS_A_DAY + number + 1) as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834)
    )
}

fn records(day: usize) -> Vec<Value> {
    let call = |number: usize| {
        let (arn, key) = session(day, number);
        let date = format!("2026-09-{:02}", day + 1);
        let time = format!("{date}T{:02}:{:02}:{:02}Z", 1 + number / 3_600, number / 60 % 60, number % 60);
        let identity = json!({"type": "AssumedRole", "accountId": "111122223333", "arn": arn, "accessKeyId": key,
            "principalId": format!("AROAEXAMPLE:{key}"),
            "sessionContext": {
                // Identities that hardly compress.
                "sourceIdentity": event_id(day + 1, number) + &event_id(day + 2, number) + &event_id(day + 3, number),
                "sessionIssuer": {"type": "Role", "userName": "deploy", "arn": "arn:aws:iam::111122223333:role/deploy"},
                "attributes": {"creationDate": format!("{date}T01:00:00Z")}}});
        let name = format!("Describe{}", number % 40);
        record(&event_id(day, number), ("ec2.amazonaws.com", &name), &time, &identity)
    };
    (0..RECORDS_A_DAY).map(call).collect()
}

#[test]
fn start_of_a_trace_reads_few_bytes_of_a_lake() {
    let server = Server::start();
    for day in 0..DAYS {
        let (folder, path) = trail(&records(day));
        let converted = server.tawny(&["convert", &path, "--lake", "s3://lake/ct"]);
        assert_eq!(converted.status.code(), Some(0), "{}", String::from_utf8_lossy(&converted.stderr));
        drop(folder);
    }
    let run = |arguments: &[&str], expected: i32| {
        server.take_sent();
        let output = server.tawny(arguments);
        assert_eq!(output.status.code(), Some(expected), "{}", String::from_utf8_lossy(&output.stderr));
        (server.take_sent(), output.stdout)
    };
    let (arn, key) = session(7, 1_203);
    let id = event_id(7, 1_203);
    for start in [["--key", &key], ["--event", &id], ["--arn", &arn]] {
        let (_, trace) = run(&["trace", "s3://lake/ct", "--format", "json", start[0], start[1]], 0);
        let trace: Value = serde_json::from_slice(&trace).unwrap();
        assert!(trace["events"].as_array().unwrap().contains(&json!(id)), "{start:?}: {trace}");
    }
    let by_identity = "SELECT count(*) FROM cloudtrail WHERE userIdentity.principalId = 'none'";
    let (identities, _) = run(&["query", by_identity, "s3://lake/ct", "--with-duplicates"], 0);
    let other_session = "arn:aws:sts::111122223333:assumed-role/deploy/none";
    for start in [["--key", "ASIANONE"], ["--event", "none"], ["--arn", other_session]] {
        let (read, _) = run(&["trace", "s3://lake/ct", start[0], start[1]], 2);
        assert!(read * 2 < identities, "{start:?}: {read} bytes, {identities} with all identities");
    }
}
