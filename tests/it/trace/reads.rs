//! How much of a lake the start of a trace reads.

use arrow::array::{Array as _, Int16Array};
use serde_json::{Value, json};
use tawny::event::{self, search_hash};

use super::{record, trail};
use crate::records::batch;
use crate::s3_server::Server;

const DAYS: usize = 12;
const RECORDS_A_DAY: usize = 2_500;
const ISSUED_A_DAY: usize = 800;

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
    (0..RECORDS_A_DAY).map(call).chain((0..ISSUED_A_DAY).map(|number| issuing(day, number))).collect()
}

fn issued_key(day: usize, number: usize) -> String {
    format!("ASIAISSUED{}", event_id(day, number).to_uppercase())
}

/// Returns an event that issues a credential, with a response that hardly compresses.
fn issuing(day: usize, number: usize) -> Value {
    let token: String = (0..24).map(|part| event_id(DAYS + day * 24 + part, number)).collect();
    let identity = json!({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"});
    let time = format!("2026-09-{:02}T00:{:02}:{:02}Z", day + 1, number / 60, number % 60);
    let id = format!("issuing-{}", event_id(day, number));
    let mut record = record(&id, ("sts.amazonaws.com", "AssumeRole"), &time, &identity);
    record["responseElements"] =
        json!({"credentials": {"accessKeyId": issued_key(day, number), "sessionToken": token}});
    record
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
    for start in [
        ["--key", "ASIANONE"],
        ["--event", "none"],
        ["--arn", "arn:aws:sts::111122223333:assumed-role/deploy/none"],
        ["--arn", "arn:aws:iam::111122223333:role/none"],
        ["--arn", "arn:aws:iam::111122223333:user/none"],
    ] {
        let (read, _) = run(&["trace", "s3://lake/ct", start[0], start[1]], 2);
        assert!(read * 2 < identities, "{start:?}: {read} bytes, {identities} with all identities");
    }
    // The events that issue keys are as many as their responses are large.
    let by_response = "SELECT count(*) FROM cloudtrail WHERE \"eventName\" = 'AssumeRole' AND responseElements.credentials.accessKeyId = 'none'";
    let (responses, _) = run(&["query", by_response, "s3://lake/ct", "--with-duplicates"], 0);
    let issued = issued_key(4, 321);
    for (key, status) in [("ASIANONE", 2), (&issued, 0)] {
        let (read, trace) = run(&["trace", "s3://lake/ct", "--format", "json", "--key", key], status);
        assert!(read * 2 < responses, "{key}: {read} bytes, {responses} with all responses");
        if status == 0 {
            let trace: Value = serde_json::from_slice(&trace).unwrap();
            assert_eq!(trace["chain"][0]["event_id"], json!(format!("issuing-{}", event_id(4, 321))), "{trace}");
        }
    }
}

#[test]
fn hash_of_an_issued_key_hides_no_record_that_issued_it() {
    let key = |key: &str| json!({ "accessKeyId": key });
    let cases = [
        (Value::Null, Some("")),
        (json!({"ConsoleLogin": "Success"}), Some("")),
        (json!({"credentials": "accessKeyId"}), Some("")),
        (json!({"credentials": key("ASIAONE")}), Some("ASIAONE")),
        (json!({"Credentials": {"AccessKeyID": "ASIAONE"}}), Some("ASIAONE")),
        (json!({"credentials": {"accessKeyId": 12}}), Some("12")),
        (json!({"accessKey": key("AKIAONE")}), Some("AKIAONE")),
        (json!({"accessKey": key("AKIAONE"), "credentials": key("")}), Some("AKIAONE")),
        (json!({"accessKey": key("AKIAONE"), "credentials": key("AKIAONE")}), Some("AKIAONE")),
        // A search for either must find it.
        (json!({"accessKey": key("AKIAONE"), "credentials": key("ASIAONE")}), None),
    ];
    let record = |name: &str, response: &Value| json!({ "eventName": name, "responseElements": response });
    let mut records: Vec<Value> = cases.iter().map(|(response, _)| record("AssumeRole", response)).collect();
    // A later version may know that this call issues credentials.
    records.push(record("GetOtherToken", &cases[3].0));
    records.push(record("GetOtherToken", &cases[1].0));
    let batch = batch(&records);
    let hashes = batch.column_by_name(event::ISSUED_KEY_HASH).unwrap();
    let hashes = hashes.as_any().downcast_ref::<Int16Array>().unwrap();
    let hash = |row: usize| hashes.is_valid(row).then(|| hashes.value(row));
    for (row, (response, issued)) in cases.iter().enumerate() {
        assert_eq!(hash(row), issued.map(search_hash), "{response}");
    }
    assert_eq!([cases.len(), cases.len() + 1].map(hash), [None, Some(search_hash(""))]);
}
