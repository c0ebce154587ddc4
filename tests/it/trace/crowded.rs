//! Traces of sessions that were issued at the same time as many others.

use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::time::Range;
use tawny::trace::{self, Start, Trace, TraceRequest};

use super::{of_other_account, record, session_and_call, user};
use crate::oracle::RUNTIME;
use crate::places::{Places, engine};

const TIMES: (&str, &str) = ("2026-09-01T10:00:00Z", "2026-09-01T10:05:00Z");

/// A user assumes a role in another account, whose record does not name the user, and calls with the role's session.
fn session_in_another_account() -> Vec<Value> {
    let mut records = session_and_call(0, TIMES, &user("anaya"), Some("ASIASOUGHT"));
    let shared = "shared-assume";
    records.push(of_other_account(&records[0], "issue-in-other", shared));
    records[0]["sharedEventID"] = json!(shared);
    // Only the other account's record names the issued key.
    records[0]["responseElements"] = Value::Null;
    records
}

/// Returns acts of the same second that issued other sessions, every fourth of them by IAM Identity Center.
fn others(count: usize) -> impl Iterator<Item = Value> {
    (0..count).map(|number| {
        if number % 4 == 3 {
            let person = json!({"type": "IdentityCenterUser", "accountId": "111122223333"});
            let portal = ("sso.amazonaws.com", "GetRoleCredentials");
            let mut issue = record(&format!("other{number}"), portal, TIMES.0, &person);
            issue["serviceEventDetails"] = json!({"role_name": "Admin", "account_id": "111122223333"});
            issue["additionalEventData"] = json!({"UserName": format!("u{number}")});
            return issue;
        }
        let mut issue = record(
            &format!("other{number}"),
            ("sts.amazonaws.com", "AssumeRole"),
            TIMES.0,
            &user(&format!("u{number}")),
        );
        let arn = format!("arn:aws:sts::111122223333:assumed-role/other/{number}");
        issue["responseElements"] = json!({"credentials": {"accessKeyId": format!("ASIAOTHER{number}")},
            "assumedRoleUser": {"arn": arn, "assumedRoleId": format!("AROAOTHER:{number}")}});
        issue
    })
}

#[test]
fn sessions_of_others_take_no_memory_of_a_trace() {
    let scarce = Engine::new(2, 4 << 20, &std::env::temp_dir()).unwrap();
    // The first number fits into the memory for a search, the second does not.
    for count in [100, 1_500] {
        let mut records = session_in_another_account();
        records.splice(1..1, others(count));
        let places = Places::with_identities(&records, 1_000);
        for (name, data) in &places.data {
            for start in [Start::Key("ASIASOUGHT".to_owned()), Start::Event("call0".to_owned())] {
                let request = TraceRequest { start, range: Range::default(), depth: 5, from_origin: true };
                let traced = |engine: &Engine| -> Trace {
                    let outcome = RUNTIME.block_on(trace::trace(engine, data.as_ref(), &request));
                    outcome.unwrap_or_else(|error| panic!("{name}, {count} others: {error}")).trace.unwrap()
                };
                let trace = traced(&scarce);
                assert_eq!(trace.origin.actor.as_deref(), Some("anaya"), "{name}: {}", trace.origin.reason);
                assert_eq!(trace.chain.len(), 1, "{name}, {count} others");
                let events: Vec<&str> = trace.events.iter().map(|event| &*event.id).collect();
                assert_eq!(events, ["issue0", "call0"], "{name}, {count} others");
                assert_eq!(trace, traced(&engine(2)), "{name}, {count} others");
            }
        }
    }
}
