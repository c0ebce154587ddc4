//! Traces compared with worlds whose chains are known.

use std::process::Command;

use serde_json::{Value, json};
use tawny::table::Table;
use tawny::time::Range;
use tawny::trace::{self, Start, Trace, TraceRequest};

use crate::oracle::RUNTIME;
use crate::places::{Places, engine};

mod crowded;
mod grouped;
mod kinds;
mod reads;
mod world;

use world::ExpectedOrigin;
pub(crate) use world::World;

fn traced(data: &dyn Table, start: Start, range: Range) -> Option<Trace> {
    let request = TraceRequest { start, range, depth: 100, from_origin: false };
    RUNTIME.block_on(trace::trace(&engine(2), data, &request)).unwrap().trace
}

fn origin(trace: &Trace) -> ExpectedOrigin {
    let origin = trace.origin.clone();
    ExpectedOrigin { account: origin.account, actor: origin.actor, known: origin.known }
}

fn chain(trace: &Trace) -> Vec<String> {
    trace.chain.iter().map(|step| step.event_id.clone()).collect()
}

fn events(trace: &Trace) -> Vec<String> {
    trace.events.iter().map(|event| event.id.to_string()).collect()
}

/// Compares the traces of every `step`-th credential with what is true, by turns from a key and from an event.
fn check(world: &World, name: &str, data: &dyn Table, step: usize) -> usize {
    let mut unknown = 0;
    for number in (0..world.credentials.len()).step_by(step) {
        let credential = &world.credentials[number];
        let (expected_chain, expected_origin) = world.chain(number);
        unknown += usize::from(!expected_origin.known);
        let event = credential.events.last().map(|(_, id)| id.clone());
        let key = Start::Key(credential.keys[0].clone());
        let start = if number % 2 == 0 { key } else { event.map_or(key, Start::Event) };
        let is_unused = matches!(&start, Start::Key(key) if credential.keys.len() > 1
            && !world.records.iter().any(|record| record["userIdentity"]["accessKeyId"] == json!(key)));
        let what = format!("{name}: credential {number} from {start:?}: {credential:?}");
        let Some(trace) = traced(data, start, Range::default()) else {
            assert!(is_unused, "{what}: not found");
            continue;
        };
        assert_eq!(chain(&trace), expected_chain, "{what}: chain, {:?}", trace.origin);
        assert_eq!(origin(&trace), expected_origin, "{what}: {}", trace.origin.reason);
        assert_eq!(events(&trace), world.events(number), "{what}: events");
        assert_eq!(trace.summary.all.events, trace.events.len() as u64);
    }
    unknown
}

#[test]
fn chains_origins_and_events_are_exactly_those_of_the_world() {
    for (seed, chains, depth, lost) in [(1, 8, 5, 0), (2, 12, 3, 30)] {
        let world = World::new(seed, chains, depth, lost);
        let places = Places::with_identities(&world.records, 40);
        let mut unknown = Vec::new();
        for ((name, data), step) in places.data.iter().zip([1, 7, 5]) {
            unknown.push(check(&world, name, data.as_ref(), step));
        }
        assert_eq!(unknown[0] > 0, lost > 0, "{unknown:?}");
    }
}

#[test]
fn one_trace_is_one_json_object() {
    let world = World::new(1, 8, 5, 0);
    let places = Places::of(&world.records, 100);
    let number = world.credentials.iter().position(|credential| !credential.events.is_empty()).unwrap();
    let start = Start::Key(world.credentials[number].keys[0].clone());
    let trace = traced(places.data[0].1.as_ref(), start, Range::default()).unwrap();
    let json: Value = serde_json::to_value(&trace).unwrap();
    for member in ["start", "chain", "origin", "events", "summary"] {
        assert!(json.get(member).is_some(), "{member}: {json}");
    }
    assert_eq!(json["events"], json!(world.events(number)));
}

/// Returns the output of `tawny` with these arguments, and its exit code.
pub(crate) fn tawny(arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_tawny"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (out, error, output.status.code())
}

const INSTANCE: &str = "tests/data/traces/instance-credentials.json";
const FEDERATED: &str = "tests/data/traces/federated-session.json";

fn json_of(arguments: &[&str]) -> Value {
    let (out, error, status) = tawny(&[&["trace"], arguments, &["--format", "json"]].concat());
    assert_eq!(status, Some(0), "{error}");
    serde_json::from_str(&out).unwrap()
}

fn kinds(trace: &Value) -> Vec<&str> {
    trace["chain"].as_array().unwrap().iter().map(|step| step["kind"].as_str().unwrap()).collect()
}

#[test]
fn the_samples_of_the_documentation_are_traced() {
    let instance = json_of(&[INSTANCE, "--key", "ASIAIOSFODNN7EXAMPLE"]);
    assert_eq!(kinds(&instance), ["service_role"]);
    assert_eq!(instance["origin"]["actor"], json!("ec2.amazonaws.com"));
    let counts = ["events", "denied", "allowed"].map(|name| instance["summary"][name].as_u64());
    assert_eq!(counts, [Some(5), Some(1), Some(4)]);
    assert_eq!(instance["summary"]["addresses"].as_array().unwrap().len(), 2);
    let key = ["--key", "ASIAEXAMPLEFED000001"];
    let federated = json_of(&[&[FEDERATED][..], &key].concat());
    assert_eq!(kinds(&federated), ["create_access_key", "get_federation_token"]);
    assert_eq!(federated["chain"][0]["issued_principal"], json!("user/backup-operator"));
    assert_eq!(federated["origin"]["actor"], json!("anaya"));
    assert_eq!(federated["events"].as_array().unwrap().len(), 2);
    let from_origin = json_of(&[&[FEDERATED, "--from-origin"][..], &key].concat());
    assert_eq!(from_origin["events"].as_array().unwrap().len(), 6);
    // From the other end, the depth decides how far the credentials are followed.
    let all = json_of(&[FEDERATED, "--key", "AKIAI44QH8DHBEXAMPLE"]);
    assert_eq!((all["events"].as_array().unwrap().len(), &all["is_cut"]), (6, &json!(false)));
    let cut = json_of(&[FEDERATED, "--key", "AKIAI44QH8DHBEXAMPLE", "--depth", "1"]);
    assert_eq!((cut["events"].as_array().unwrap().len(), &cut["is_cut"]), (4, &json!(true)));
}

#[test]
fn the_documentation_shows_what_is_printed() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/trace.md")).unwrap();
    for arguments in [
        &["trace", INSTANCE, "--key", "ASIAIOSFODNN7EXAMPLE"][..],
        &["trace", FEDERATED, "--key", "ASIAEXAMPLEFED000001", "--from-origin"],
    ] {
        let shown = format!("$ tawny {}\n{}```", arguments.join(" "), tawny(arguments).0);
        assert!(docs.contains(&shown), "docs/trace.md lacks:\n{shown}");
    }
}

#[test]
fn every_kind_of_start_finds_the_same_credential() {
    let folder = tempfile::tempdir().unwrap();
    let findings = folder.path().join("findings.jsonl");
    let events = json_of(&[INSTANCE, "--key", "ASIAIOSFODNN7EXAMPLE"])["events"].clone();
    let finding = json!({"finding_id": "ab12", "event_ids": [events[2]], "first_event": "2026-09-01T08:23:55Z",
        "last_event": "2026-09-01T08:23:55Z", "other": 1});
    let mut other = finding.clone();
    other["finding_id"] = json!("ab34");
    std::fs::write(&findings, format!("{finding}\n{other}\n{finding}\n")).unwrap();
    let file = findings.display().to_string();
    let session = "arn:aws:sts::111122223333:assumed-role/web-server/i-0123456789abcdef0";
    let starts: [&[&str]; 8] = [
        &["--event", events[4].as_str().unwrap()],
        &["--arn", session],
        &["--arn", "arn:aws:sts::111122223333:assumed-role/web-server"],
        &["--arn", "arn:aws:iam::111122223333:role/web-server"],
        &["--ip", "203.0.113.0/24"],
        &["--ip", "203.0.113.10"],
        &["--finding", "ab12", "--findings", &file],
        &["--finding", "AB1", "--findings", &file],
    ];
    for start in starts {
        let trace = json_of(&[&[INSTANCE], start].concat());
        assert_eq!(trace["events"], events, "{start:?}");
        assert_eq!(kinds(&trace), ["service_role"], "{start:?}");
    }
    let (_, error, status) = tawny(&["trace", INSTANCE, "--finding", "ab", "--findings", &file]);
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("several findings") && error.contains("ab12, ab34"), "{error}");
    // The network is also that of a user.
    let both = json_of(&[INSTANCE, "--ip", "198.51.100.77"]);
    assert_eq!(both["origins"].as_array().unwrap().len(), 2);
    assert_eq!((&both["origin"]["known"], both["events"].as_array().unwrap().len()), (&json!(false), 7));
    let (out, ..) = tawny(&["trace", INSTANCE, "--ip", "198.51.100.77"]);
    assert!(out.starts_with("origins: 2 (all known)\n  anaya in 111122223333"), "{out}");
}

#[test]
fn origins_say_how_many_lack_an_earlier_step() {
    let session = |role: &str, key: &str| {
        json!({"type": "AssumedRole", "accountId": "111122223333", "accessKeyId": key, "principalId": format!("AROA{role}:s"),
            "arn": format!("arn:aws:sts::111122223333:assumed-role/{role}/s"),
            "sessionContext": {"sessionIssuer": {"type": "Role", "userName": role, "principalId": format!("AROA{role}"),
                "arn": format!("arn:aws:iam::111122223333:role/{role}"), "accountId": "111122223333"},
                "attributes": {"creationDate": "2026-09-01T10:00:00Z"}}})
    };
    let record = |id: &str, name: &str, identity: Value, response: Value| {
        json!({"eventID": id, "eventSource": "sts.amazonaws.com", "eventName": name, "eventTime": "2026-09-01T10:00:00Z",
            "recipientAccountId": "111122223333", "sourceIPAddress": "192.0.2.9", "userIdentity": identity,
            "responseElements": response})
    };
    let user = json!({"type": "IAMUser", "userName": "mira", "accountId": "111122223333", "accessKeyId": "AKIAMIRA",
        "arn": "arn:aws:iam::111122223333:user/mira"});
    let issued = json!({"credentials": {"accessKeyId": "ASIAONE"}, "assumedRoleUser":
        {"arn": "arn:aws:sts::111122223333:assumed-role/one/s", "assumedRoleId": "AROAone:s"}});
    let mut assume = record("assume", "AssumeRole", user, issued);
    assume["sourceIPAddress"] = json!("198.51.100.1");
    let records = [
        assume,
        record("first", "GetCallerIdentity", session("one", "ASIAONE"), Value::Null),
        record("second", "GetCallerIdentity", session("two", "ASIATWO"), Value::Null),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trail.json");
    std::fs::write(&file, json!({ "Records": records }).to_string()).unwrap();
    let (out, error, status) = tawny(&["trace", file.to_str().unwrap(), "--ip", "192.0.2.9"]);
    assert_eq!(status, Some(0), "{error}");
    let shown = "origins: 2 (1 known; an earlier step of 1 is not in the data)\n  mira in 111122223333";
    assert!(out.starts_with(shown), "{out}");
}

#[test]
fn what_the_data_does_not_hold_is_said() {
    let key = ["--key", "ASIAIOSFODNN7EXAMPLE"];
    let late = json_of(&[&[INSTANCE, "--from", "2026-09-01T08:21:00Z"][..], &key].concat());
    // The session says itself that it is an instance's.
    assert_eq!((&late["chain"], &late["origin"]["known"]), (&json!([]), &json!(true)));
    let federated = ["--key", "ASIAEXAMPLEFED000001"];
    let late = json_of(&[&[FEDERATED, "--from", "2026-09-02T08:43:18Z"][..], &federated].concat());
    assert_eq!(late["origin"]["known"], json!(false));
    assert_eq!(late["origin"]["reason"], json!("issued before 2026-09-02T08:43:18Z, outside the range"));
    for arguments in [
        &[INSTANCE, "--key", "AKIAOTHER"][..],
        &[INSTANCE, "--event", "x"],
        &[INSTANCE, "--arn", "arn:x"],
        &[INSTANCE, "--actor", "nobody"],
        &[INSTANCE, "--ip", "2001:db8::/32"],
    ] {
        let (out, error, status) = tawny(&[&["trace"], arguments].concat());
        assert_eq!((out.as_str(), status), ("", Some(2)), "{arguments:?}");
        assert!(error.contains("error: the data holds no event"), "{error}");
    }
    let (_, error, status) = tawny(&["trace", INSTANCE, "--finding", "ab", "--findings", INSTANCE]);
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("not a finding"), "{error}");
    for arguments in [&[INSTANCE][..], &[INSTANCE, "--key", "a", "--event", "b"], &[INSTANCE, "--ip", "here"]] {
        assert_eq!(tawny(&[&["trace"], arguments].concat()).2, Some(2), "{arguments:?}");
    }
}

/// Returns records of two sign-ins in one second, and of a call of either session.
fn two_sign_ins() -> Vec<Value> {
    let user = json!({"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/anaya", "accountId": "111122223333", "userName": "anaya"});
    let mut call_by = user.clone();
    call_by["accessKeyId"] = json!("ASIACONSOLE");
    call_by["sessionContext"] = json!({"attributes": {"creationDate": "2026-09-01T10:00:00Z"}});
    let record = |id: &str, source: &str, name: &str, time: &str, identity: &Value| {
        json!({"eventID": id, "eventSource": source, "eventName": name, "eventTime": time, "recipientAccountId": "111122223333",
            "userIdentity": identity, "responseElements": {"ConsoleLogin": "Success"}})
    };
    let signin = "signin.amazonaws.com";
    vec![
        record("one", signin, "ConsoleLogin", "2026-09-01T10:00:00Z", &user),
        record("two", signin, "ConsoleLogin", "2026-09-01T10:00:00Z", &user),
        record("call", "s3.amazonaws.com", "ListBuckets", "2026-09-01T10:01:00Z", &call_by),
    ]
}

#[test]
fn a_trace_does_not_choose_between_two_issuing_events() {
    let places = Places::of(&two_sign_ins(), 10);
    for (name, data) in places.data.iter().take(2) {
        let trace = traced(data.as_ref(), Start::Event("call".to_owned()), Range::default()).unwrap();
        assert_eq!((chain(&trace), trace.origin.known), (Vec::new(), false), "{name}");
        assert_eq!(trace.origin.reason, "several issuing events fit: one, two", "{name}");
        assert_eq!(trace.origin.actor.as_deref(), Some("anaya"));
    }
}

#[test]
fn pictures_and_graphs_show_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("trace.html").display().to_string();
    let key = ["--key", "ASIAEXAMPLEFED000001"];
    let (_, error, status) = tawny(&[&["trace", FEDERATED, "--format", "html", "-o", &page][..], &key].concat());
    assert_eq!(status, Some(0), "{error}");
    let page = std::fs::read_to_string(page).unwrap();
    for shown in ["CreateAccessKey", "GetFederationToken", "federated-user/operator", "class=\"lane\"", "user/anaya"] {
        assert!(page.contains(shown), "{shown}");
    }
    let (dot, ..) = tawny(&[&["trace", FEDERATED, "--format", "dot"][..], &key].concat());
    assert!(dot.starts_with("digraph trace {") && dot.trim_end().ends_with('}'), "{dot}");
    // The key that was created leads to the session that was issued to it.
    assert!(dot.contains("  n0 -> n1 [") && dot.contains("  n1 -> n2 ["), "{dot}");
}

#[test]
fn summaries_and_timelines_are_of_one_actor_or_account() {
    let (out, error, status) = tawny(&["summary", INSTANCE, "--actor", "anaya", "--format", "json"]);
    assert_eq!(status, Some(0), "{error}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&summary["events"], &summary["services"][0]["value"]), (&json!(2), &json!("ssm.amazonaws.com")));
    // The name that tables show of an ARN is accepted too, as a whole.
    for (name, events) in [("federated-user/operator", 2), ("operator", 0), ("anaya", 3)] {
        let (out, error, _) = tawny(&["summary", FEDERATED, "--actor", name, "--format", "json"]);
        let summary: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{error}"));
        assert_eq!(summary["events"], json!(events), "{name}");
    }
    let (out, ..) = tawny(&["summary", INSTANCE, "--account", "111122223333", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["events"], json!(8));
    assert_eq!(tawny(&["summary", INSTANCE]).2, Some(2));
    let (out, ..) = tawny(&["summary", INSTANCE, "--account", "111122223333", "--last", "1h"]);
    assert_eq!(out, "no events\n");
    assert_eq!(tawny(&["timeline", INSTANCE, "--last", "1h", "--to", "2026-09-02"]).2, Some(2));
    let bounds = ["--from", "2026-09-01T08:23:00Z", "--to", "2026-09-01T08:23:56Z"];
    let (out, ..) = tawny(&[&["timeline", INSTANCE, "--format", "jsonl"][..], &bounds].concat());
    let names: Vec<Value> =
        out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["SendCommand", "GetCommandInvocation", "GetCallerIdentity"]);
    let (out, ..) = tawny(&[&["timeline", INSTANCE, "--format", "csv", "--actor", "web-server"][..], &bounds].concat());
    let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(out.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(&rows[0][3], "GetCallerIdentity");
}

#[test]
fn findings_name_the_origins_of_their_events() {
    let folder = tempfile::tempdir().unwrap();
    let rule = folder.path().join("rule.yml");
    let text = "AnalysisType: rule\nRuleID: Secrets\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
        Threshold: 1\nDedupPeriodMinutes: 60\nDetection: [{Key: eventName, Condition: Equals, Value: GetSecretValue}]\n";
    std::fs::write(&rule, text).unwrap();
    let rule = rule.display().to_string();
    let hunt = |options: &[&str]| {
        let (out, error, status) =
            tawny(&[&["hunt", FEDERATED, "--rules", &rule, "--format", "json"], options].concat());
        assert_eq!(status, Some(0), "{error}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    assert!(hunt(&[])[0].get("origins").is_none());
    let explained = hunt(&["--explain-origin"]);
    let origins = explained[0]["origins"].as_array().unwrap();
    assert_eq!((origins.len(), &origins[0]["actor"], &origins[0]["known"]), (1, &json!("anaya"), &json!(true)));
    // Credentials that were issued before the range count, too.
    let late = hunt(&["--explain-origin", "--from", "2026-09-02T08:44:00Z"]);
    assert_eq!(late[0]["origins"], explained[0]["origins"]);
}

/// Writes records to a trail in a new folder. Returns the folder and the trail's path.
fn trail(records: &[Value]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.json"), json!({ "Records": records }).to_string()).unwrap();
    let path = folder.path().display().to_string();
    (folder, path)
}

fn record(id: &str, call: (&str, &str), time: &str, identity: &Value) -> Value {
    json!({"eventID": id, "eventSource": call.0, "eventName": call.1, "eventTime": time, "awsRegion": "us-east-1",
        "sourceIPAddress": "192.0.2.1", "recipientAccountId": "111122223333", "userIdentity": identity})
}

fn user(path_and_name: &str) -> Value {
    let name = path_and_name.rsplit('/').next().unwrap();
    json!({"type": "IAMUser", "accountId": "111122223333", "userName": name, "accessKeyId": format!("AKIA{name}"),
        "arn": format!("arn:aws:iam::111122223333:user/{path_and_name}")})
}

/// The `AssumeRole` of a user, with a key or without one, and a call of the session two seconds later.
fn session_and_call(number: usize, time: (&str, &str), by: &Value, key: Option<&str>) -> Vec<Value> {
    let arn = "arn:aws:sts::111122223333:assumed-role/deploy/job";
    let mut issue = record(&format!("issue{number}"), ("sts.amazonaws.com", "AssumeRole"), time.0, by);
    issue["sourceIPAddress"] = json!("198.51.100.1");
    issue["responseElements"] = json!({"assumedRoleUser": {"arn": arn, "assumedRoleId": "AROAEXAMPLE:job"}});
    let mut session =
        json!({"type": "AssumedRole", "accountId": "111122223333", "arn": arn, "principalId": "AROAEXAMPLE:job"});
    if let Some(key) = key {
        issue["responseElements"]["credentials"] = json!({"accessKeyId": key});
        session["accessKeyId"] = json!(key);
        session["sessionContext"] = json!({"attributes": {"creationDate": time.0}});
    }
    vec![issue, record(&format!("call{number}"), ("s3.amazonaws.com", "GetObject"), time.1, &session)]
}

#[test]
fn an_arn_starts_from_its_own_calls_and_the_sessions_of_its_role() {
    let call = ("s3.amazonaws.com", "ListBuckets");
    let mut records = vec![
        record("of-dev", call, "2026-09-01T10:00:00Z", &user("dev")),
        record("of-bob", call, "2026-09-01T10:00:00Z", &user("dev/bob")),
    ];
    let times = ("2026-09-02T10:00:00Z", "2026-09-02T10:00:02Z");
    records.extend(session_and_call(1, times, &user("anaya"), Some("ASIA1")));
    let (_folder, path) = trail(&records);
    for (arn, expected) in [
        ("iam::111122223333:user/dev", "of-dev"),
        ("iam::111122223333:user/dev/bob", "of-bob"),
        ("sts::111122223333:assumed-role/deploy", "call1"),
    ] {
        let trace = json_of(&[&path, "--arn", &format!("arn:aws:{arn}")]);
        assert_eq!(trace["events"], json!([expected]), "{arn}");
    }
}

#[test]
fn sessions_without_keys_are_told_apart_by_time() {
    let mut records = Vec::new();
    for (number, name, hour) in [(1, "anaya", 10), (2, "bruno", 12)] {
        let times = [0, 2].map(|second| format!("2026-09-01T{hour}:00:0{second}Z"));
        records.extend(session_and_call(number, (&times[0], &times[1]), &user(name), None));
    }
    let (folder, path) = trail(&records);
    let rule = folder.path().join("rule.yml");
    let text = "AnalysisType: rule\nRuleID: Objects\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
        Threshold: 1\nDedupPeriodMinutes: 60\nDetection: [{Key: eventName, Condition: Equals, Value: GetObject}]\n";
    std::fs::write(&rule, text).unwrap();
    let rule = rule.display().to_string();
    let data = folder.path().join("a.json").display().to_string();
    let (out, error, status) = tawny(&["hunt", &data, "--rules", &rule, "--format", "json", "--explain-origin"]);
    assert_eq!(status, Some(0), "{error}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let mut actors: Vec<&str> =
        found.as_array().unwrap().iter().filter_map(|f| f["origins"][0]["actor"].as_str()).collect();
    actors.sort_unstable();
    assert_eq!(actors, ["anaya", "bruno"], "{found}");
    let trace = json_of(&[&path, "--ip", "192.0.2.1/32"]);
    assert_eq!(trace["chain"].as_array().unwrap().len(), 2, "{trace}");
}

#[test]
fn many_sessions_far_apart_are_followed_back() {
    let mut records = Vec::new();
    for number in 0..150 {
        let (day, hour) = (1 + number / 24, number % 24);
        let times = [0, 2].map(|second| format!("2026-09-{day:02}T{hour:02}:00:0{second}Z"));
        let key = format!("ASIA{number}");
        records.extend(session_and_call(number, (&times[0], &times[1]), &user("anaya"), Some(&key)));
    }
    let (_folder, path) = trail(&records);
    let trace = json_of(&[&path, "--ip", "192.0.2.1/32"]);
    assert_eq!(trace["chain"].as_array().unwrap().len(), 150);
    assert_eq!(
        (&trace["origin"]["actor"], &trace["origin"]["known"]),
        (&json!("anaya"), &json!(true)),
        "{}",
        trace["origin"]
    );
}

#[test]
fn a_picture_joins_each_session_to_its_own_exchange() {
    let mut records = Vec::new();
    for (name, minute) in [("anaya", 10), ("bruno", 20)] {
        let time = format!("2026-09-01T10:{minute}:00Z");
        let person = json!({"type": "IdentityCenterUser", "accountId": "111122223333", "onBehalfOf": {"userId": name}});
        let mut portal = record(&format!("portal-{name}"), ("sso.amazonaws.com", "GetRoleCredentials"), &time, &person);
        portal["serviceEventDetails"] = json!({"role_name": "Admin", "account_id": "111122223333"});
        portal["additionalEventData"] = json!({"UserName": name});
        let saml = json!({"type": "SAMLUser", "principalId": format!("idp:{name}"), "userName": name});
        let mut exchange = record(&format!("saml-{name}"), ("sts.amazonaws.com", "AssumeRoleWithSAML"), &time, &saml);
        exchange["sourceIPAddress"] = json!("198.51.100.1");
        let arn = format!("arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/{name}");
        exchange["responseElements"] = json!({"credentials": {"accessKeyId": format!("ASIA{name}")},
            "assumedRoleUser": {"arn": arn, "assumedRoleId": format!("AROAEXAMPLE:{name}")}});
        records.extend([exchange, portal]);
    }
    let (_folder, path) = trail(&records);
    let (dot, error, status) = tawny(&["trace", &path, "--ip", "192.0.2.1/32", "--format", "dot"]);
    assert_eq!(status, Some(0), "{error}");
    let edges: Vec<(&str, &str)> = dot.lines().filter_map(|line| line.split_once(" -> ")).collect();
    for minute in ["10:10:00", "10:20:00"] {
        let of_kind = |kind: &str| {
            let is_it = |(_, to): &&(&str, &str)| to.contains(kind) && to.contains(minute);
            edges.iter().find(is_it).unwrap_or_else(|| panic!("{kind} {minute}: {dot}"))
        };
        let to = of_kind("GetRoleCredentials").1.split(' ').next().unwrap();
        assert_eq!(of_kind("AssumeRoleWithSAML").0.trim(), to, "{dot}");
    }
}

/// Returns the other account's record of the call in `own`.
fn of_other_account(own: &Value, id: &str, shared: &str) -> Value {
    let mut twin = own.clone();
    twin["eventID"] = json!(id);
    twin["sharedEventID"] = json!(shared);
    twin["recipientAccountId"] = json!("444455556666");
    twin["userIdentity"] = json!({"type": "AWSAccount", "accountId": "111122223333", "principalId": "AROAEXAMPLE:job"});
    twin
}

#[test]
fn record_of_the_other_account_leads_to_the_caller_that_the_own_record_names() {
    let time = ("2026-09-01T10:00:00Z", "2026-09-01T10:00:02Z");
    let mut records = session_and_call(1, time, &user("ada"), Some("ASIAEXAMPLEJOB"));
    let caller = records[1]["userIdentity"].clone();
    let mut assume = record("own-assume", ("sts.amazonaws.com", "AssumeRole"), "2026-09-01T10:05:00Z", &caller);
    assume["responseElements"] = json!({"credentials": {"accessKeyId": "ASIAEXAMPLEPROD"}, "assumedRoleUser":
        {"arn": "arn:aws:sts::444455556666:assumed-role/prod/job", "assumedRoleId": "AROAPROD:job"}});
    assume["sharedEventID"] = json!("shared-assume");
    let mut decrypt = record("own-decrypt", ("kms.amazonaws.com", "Decrypt"), "2026-09-01T10:06:00Z", &caller);
    decrypt["sharedEventID"] = json!("shared-decrypt");
    records.push(of_other_account(&assume, "other-assume", "shared-assume"));
    records.push(of_other_account(&decrypt, "other-decrypt", "shared-decrypt"));
    let lonely = record("lonely", ("s3.amazonaws.com", "GetObject"), "2026-09-01T10:07:00Z", &caller);
    records.push(of_other_account(&lonely, "lonely", "shared-lonely"));
    records.extend([assume, decrypt]);
    let (_folder, path) = trail(&records);
    for event in ["own-assume", "other-assume", "own-decrypt", "other-decrypt"] {
        let trace = json_of(&[&path, "--event", event]);
        assert_eq!((&trace["origin"]["actor"], &trace["origin"]["known"]), (&json!("ada"), &json!(true)), "{event}");
    }
    let lonely = json_of(&[&path, "--event", "lonely"]);
    assert_eq!(lonely["origin"]["reason"], json!("the record of the caller's account is not in the data"));
    let trace = json_of(&[&path, "--key", "ASIAEXAMPLEJOB"]);
    assert_eq!(trace["of_unknown_sessions"], json!(1));
    assert_eq!(trace["events"], json!(["call1", "own-assume", "own-decrypt"]));
    let (_, error, _) = tawny(&["trace", &path, "--key", "ASIAEXAMPLEJOB"]);
    assert!(error.contains("note: 1 record of other accounts left out"), "{error}");
}

#[test]
fn actors_are_found_in_any_case_and_repeated_calls_are_one_line() {
    let calls = (0..3).map(|number| {
        record(
            &format!("c{number}"),
            ("s3.amazonaws.com", "GetObject"),
            &format!("2026-09-01T10:00:0{number}Z"),
            &user("ada"),
        )
    });
    let (_folder, path) = trail(&calls.collect::<Vec<_>>());
    for actor in ["ada", "Ada"] {
        let (out, error, status) = tawny(&["summary", &path, "--actor", actor]);
        assert!(status == Some(0) && out.contains("3 events"), "{actor}: {out}{error}");
        assert_eq!(json_of(&[&path, "--actor", actor])["events"], json!(["c0", "c1", "c2"]));
    }
    let (out, _, _) = tawny(&["timeline", &path]);
    assert!(out.contains("10:00:00 – 10:00:02  ada  s3 GetObject ×3"), "{out}");
    let (_, error, status) = tawny(&["trace", &path, "--arn", "ada"]);
    assert!(status == Some(2) && error.contains("`--actor` takes the name"), "{error}");
}
