//! Ways to issue credentials that few trails have, over every kind of data.

use serde_json::{Value, json};
use tawny::time::Range;
use tawny::trace::{Start, Trace};

use super::{record, traced, user};
use crate::places::Places;

const SIGN_IN: &str = "signin.amazonaws.com";
const LIST: (&str, &str) = ("s3.amazonaws.com", "ListBuckets");

/// Checks the kinds of the chain of `event`, its origin and reason, over every kind of data. Returns one of the traces.
fn check(records: &[Value], event: &str, kinds: &[&str], actor: &str, (known, reason): (bool, &str)) -> Trace {
    let places = Places::with_identities(records, 3);
    let mut traces: Vec<Trace> = Vec::new();
    for (name, data) in &places.data {
        let trace = traced(data.as_ref(), Start::Event(event.to_owned()), Range::default()).unwrap();
        let found: Vec<Value> = trace.chain.iter().map(|step| serde_json::to_value(step.kind).unwrap()).collect();
        assert_eq!(found, kinds, "{name}: {:?}", trace.origin);
        let origin = &trace.origin;
        assert_eq!((origin.actor.as_deref(), origin.known), (Some(actor), known), "{name}: {}", origin.reason);
        assert!(origin.reason.contains(reason), "{name}: {}", origin.reason);
        traces.push(trace);
    }
    assert!(traces.iter().all(|trace| *trace == traces[0]));
    traces.remove(0)
}

fn role_session(account: &str, role: &str, session: &str, key: Option<(&str, &str)>) -> Value {
    let mut identity = json!({"type": "AssumedRole", "accountId": account, "principalId": format!("AROA{role}:{session}"),
        "arn": format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")});
    if let Some((key, created)) = key {
        identity["accessKeyId"] = json!(key);
        identity["sessionContext"] = json!({"attributes": {"creationDate": created},
            "sessionIssuer": {"type": "Role", "userName": role, "arn": format!("arn:aws:iam::{account}:role/{role}")}});
    }
    identity
}

fn ids(trace: &Trace) -> Vec<&str> {
    trace.events.iter().map(|event| &*event.id).collect()
}

#[test]
fn a_role_switched_to_in_the_console_is_the_users_who_switched() {
    let switched = "2026-09-01T10:00:00Z";
    let target = role_session("444455556666", "audit", "anaya", None);
    let mut switch = record("switch", (SIGN_IN, "SwitchRole"), switched, &target);
    switch["recipientAccountId"] = json!("444455556666");
    switch["additionalEventData"] = json!({"SwitchFrom": "arn:aws:iam::111122223333:user/anaya"});
    switch["responseElements"] = json!({"SwitchRole": "Success"});
    let mut console = role_session("444455556666", "audit", "anaya", Some(("ASIASWITCHED", switched)));
    console["invokedBy"] = Value::Null;
    let mut call = record("call", LIST, "2026-09-01T10:05:00Z", &console);
    call["recipientAccountId"] = json!("444455556666");
    call["sessionCredentialFromConsole"] = json!("true");
    let records = [switch.clone(), call.clone()];
    let trace = check(&records, "call", &["switch_role"], "anaya", (true, "names no access key"));
    assert_eq!(trace.origin.account.as_deref(), Some("111122223333"));
    assert!(trace.chain[0].cross_account);
    assert_eq!(trace.chain[0].principal.as_deref(), Some("arn:aws:iam::111122223333:user/anaya"));
    assert_eq!(ids(&trace), ["call"]);
    // One that failed issued nothing.
    switch["responseElements"] = json!({"SwitchRole": "Failure"});
    check(&[switch, call], "call", &[], "audit", (false, "no issuing event in the data"));
}

#[test]
fn a_root_session_of_a_member_account_is_that_of_who_assumed_it() {
    let time = "2026-09-01T10:00:00Z";
    let admin = user("admin");
    let mut assume = record("assume", ("sts.amazonaws.com", "AssumeRoot"), time, &admin);
    assume["requestParameters"] = json!({"targetPrincipal": "444455556666", "taskPolicyArn": {"arn": "arn:aws:iam::aws:policy/root-task/IAMAuditRootUserCredentials"}});
    assume["responseElements"] = json!({"credentials": {"accessKeyId": "ASIAROOT"}});
    let root = json!({"type": "Root", "accountId": "444455556666", "arn": "arn:aws:iam::444455556666:root",
        "principalId": "444455556666", "accessKeyId": "ASIAROOT",
        "sessionContext": {"assumedRoot": "true", "attributes": {"creationDate": time}}});
    let mut call = record("call", ("iam.amazonaws.com", "GetLoginProfile"), "2026-09-01T10:01:00Z", &root);
    call["recipientAccountId"] = json!("444455556666");
    let trace = check(&[assume, call], "call", &["assume_root"], "admin", (true, "AKIAadmin"));
    assert!(trace.chain[0].cross_account);
    assert_eq!(trace.chain[0].issued_principal.as_deref(), Some("arn:aws:iam::444455556666:root"));
}

#[test]
fn a_sign_in_token_leads_from_a_key_to_the_console() {
    let [issued, token, signed_in, called] =
        ["10:00:00", "10:03:00", "10:03:05", "10:10:00"].map(|time| format!("2026-09-01T{time}Z"));
    let session = |key| role_session("111122223333", "deploy", "ci", key);
    let mut assume = record("assume", ("sts.amazonaws.com", "AssumeRole"), &issued, &user("anaya"));
    assume["responseElements"] = json!({"credentials": {"accessKeyId": "ASIADEPLOY"}, "assumedRoleUser": {
        "arn": "arn:aws:sts::111122223333:assumed-role/deploy/ci", "assumedRoleId": "AROAdeploy:ci"}});
    let token = record("token", (SIGN_IN, "GetSigninToken"), &token, &session(Some(("ASIADEPLOY", &issued))));
    let mut sign_in = record("sign-in", (SIGN_IN, "ConsoleLogin"), &signed_in, &session(None));
    sign_in["responseElements"] = json!({"ConsoleLogin": "Success"});
    let mut call = record("call", LIST, &called, &session(Some(("ASIACONSOLE", &signed_in))));
    call["sessionCredentialFromConsole"] = json!("true");
    let records = [assume, token, sign_in, call];
    let kinds = ["assume_role", "sign_in_token", "console_sign_in"];
    let trace = check(&records, "call", &kinds, "anaya", (true, "AKIAanaya"));
    let steps: Vec<&str> = trace.chain.iter().map(|step| step.event_id.as_str()).collect();
    assert_eq!(steps, ["assume", "token", "sign-in"]);
    // Forwards, the console session is a part of what the role session did.
    let places = Places::with_identities(&records, 3);
    for (name, data) in &places.data {
        let trace = traced(data.as_ref(), Start::Key("ASIADEPLOY".to_owned()), Range::default()).unwrap();
        assert_eq!(ids(&trace), ["token", "sign-in", "call"], "{name}");
    }
}

#[test]
fn a_record_with_two_keys_is_found_by_the_one_that_it_issued() {
    let time = "2026-09-01T10:00:00Z";
    let both = json!({"credentials": {"accessKeyId": "ASIAISSUED"}, "accessKey": {"accessKeyId": "AKIAISSUED"}});
    for (call, kind, key) in [
        (("sts.amazonaws.com", "GetSessionToken"), "get_session_token", "ASIAISSUED"),
        (("iam.amazonaws.com", "CreateAccessKey"), "create_access_key", "AKIAISSUED"),
    ] {
        let mut issuing = record("issuing", call, time, &user("anaya"));
        issuing["responseElements"] = both.clone();
        // The event names no session, so the key alone leads back.
        let mut caller = user("anaya");
        caller["accessKeyId"] = json!(key);
        let act = record("call", LIST, "2026-09-01T11:00:00Z", &caller);
        check(&[issuing, act], "call", &[kind], "anaya", (true, "AKIAanaya"));
    }
}

#[test]
fn a_resource_in_whose_scope_a_session_is_tells_its_service() {
    let function = "arn:aws:lambda:us-east-1:111122223333:function:report";
    let mut identity =
        role_session("111122223333", "lambda-report", "report", Some(("ASIALAMBDA", "2026-08-01T00:00:00Z")));
    identity["inScopeOf"] = json!({"issuerType": "AWS::Lambda::Function", "credentialsIssuedTo": function});
    let call = record("call", LIST, "2026-09-01T10:00:00Z", &identity);
    check(std::slice::from_ref(&call), "call", &[], "lambda.amazonaws.com", (true, function));
    identity["inScopeOf"] =
        json!({"sourceArn": "arn:aws:ecs:us-east-1:111122223333:task/one", "sourceAccount": "111122223333"});
    let mut call = call;
    call["userIdentity"] = identity.clone();
    check(std::slice::from_ref(&call), "call", &[], "ecs.amazonaws.com", (true, "task/one"));
    // The issuing event tells more.
    let service = json!({"type": "AWSService", "invokedBy": "ecs-tasks.amazonaws.com"});
    let mut assume = record("assume", ("sts.amazonaws.com", "AssumeRole"), "2026-08-01T00:00:00Z", &service);
    assume["responseElements"] = json!({"credentials": {"accessKeyId": "ASIALAMBDA"}, "assumedRoleUser": {
        "arn": identity["arn"], "assumedRoleId": identity["principalId"]}});
    check(&[assume, call], "call", &["service_role"], "ecs-tasks.amazonaws.com", (true, "an AWS service"));
}

/// Returns the records of a role session that signs in to the console with a token: how the session was issued, the token, the sign-in
/// and a call. They begin at a minute after ten.
fn sign_in_with_token(number: u32, user_name: &str, minute: u32) -> Vec<Value> {
    let at = |second: u32| format!("2026-09-01T10:{minute:02}:{second:02}Z");
    let key = format!("ASIA{number}");
    let issued = at(0);
    let mut assume = record(&format!("assume{number}"), ("sts.amazonaws.com", "AssumeRole"), &issued, &user(user_name));
    let session = role_session("111122223333", "deploy", "job", None);
    assume["responseElements"] = json!({"credentials": {"accessKeyId": key},
        "assumedRoleUser": {"arn": session["arn"], "assumedRoleId": session["principalId"]}});
    let caller = role_session("111122223333", "deploy", "job", Some((&key, &issued)));
    let token = record(&format!("token{number}"), (SIGN_IN, "GetSigninToken"), &at(1), &caller);
    let mut sign_in = record(&format!("in{number}"), (SIGN_IN, "ConsoleLogin"), &at(2), &session);
    sign_in["responseElements"] = json!({"ConsoleLogin": "Success"});
    let console = role_session("111122223333", "deploy", "job", Some((&format!("ASIACONSOLE{number}"), &at(2))));
    let mut call = record(&format!("call{number}"), LIST, &at(30), &console);
    call["sessionCredentialFromConsole"] = json!("true");
    vec![assume, token, sign_in, call]
}

#[test]
fn a_sign_in_that_two_tokens_fit_is_of_neither() {
    let one = sign_in_with_token(1, "anaya", 0);
    // Each token can be used for 15 minutes, and the second sign-in does not tell with which one it was.
    let near = [one.clone(), sign_in_with_token(2, "bruno", 5)].concat();
    let far = [one, sign_in_with_token(2, "bruno", 20)].concat();
    for records in [&near, &far] {
        let kinds = ["assume_role", "sign_in_token"];
        let trace = check(records, "in1", &kinds, "anaya", (true, "long-lived access key"));
        assert_eq!(ids(&trace), ["in1", "call1"]);
    }
    let kinds = ["assume_role", "sign_in_token"];
    check(&far, "in2", &kinds, "bruno", (true, "long-lived access key"));
    check(&near, "in2", &[], "deploy", (false, "several issuing events fit: token1, token2"));
}
