//! Converts findings to OCSF: the class Detection Finding of version 1.3.
//!
//! Schema: <https://schema.ocsf.io/1.3.0/classes/detection_finding>.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Line, instant, revision, text, texts, withdrawn};
use crate::error::Error;
use crate::rule::Severity;

/// `class_uid` of Detection Finding.
const CLASS: u32 = 2004;

/// Members with an OCSF attribute. All others go to `unmapped`.
const MAPPED: [&str; 15] = [
    "finding_id",
    "rule_id",
    "rule_version",
    "title",
    "severity",
    "mitre",
    "count",
    "first_event",
    "last_event",
    "trigger_time",
    "source_ips",
    "description",
    "runbook",
    "reference",
    "tags",
];

/// Fields of a group or context that hold the account.
const ACCOUNT_FIELDS: [&str; 3] = ["recipientAccountId", "userIdentity.accountId", "userIdentity:accountId"];

/// Returns the Detection Finding for `line`.
pub(super) fn finding(line: &Line) -> Result<Value, Error> {
    let millis = |name| Ok::<_, Error>(instant(line, name)?.millis());
    let (first, last, trigger) = (millis("first_event")?, millis("last_event")?, millis("trigger_time")?);
    let id = text(line, "finding_id");
    // activity_id: 1 Create, 2 Update, 3 Close. status_id: 1 New, 4 Resolved.
    let (activity_id, status_id) = match (withdrawn(line), revision(line)) {
        (true, _) => (3, 4),
        (false, 1) => (1, 1),
        (false, _) => (2, 1),
    };
    let (severity, severity_id) = severity(text(line, "severity"));
    let (evidences, observables) = source_evidence(&texts(line, "source_ips"));
    let unmapped: Line = line
        .iter()
        .filter(|(name, _)| !MAPPED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut finding = json!({
        "category_uid": 2,
        "class_uid": CLASS,
        "activity_id": activity_id,
        "type_uid": CLASS * 100 + activity_id,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "time": trigger,
        "start_time": first,
        "end_time": last,
        "message": text(line, "title"),
        "metadata": {
            "version": "1.3.0",
            "profiles": ["cloud"],
            "product": { "name": "tawny", "vendor_name": "tawny", "version": env!("CARGO_PKG_VERSION") },
            "uid": format!("{id}.{}", revision(line)),
        },
        "finding_info": {
            "uid": id,
            "title": text(line, "title"),
            "analytic": analytic(line),
            "attacks": texts(line, "mitre").into_iter().map(attack).collect::<Vec<_>>(),
            "first_seen_time": first,
            "last_seen_time": last,
            "created_time": trigger,
        },
        "evidences": evidences,
        "observables": observables,
        "cloud": cloud(line),
        "unmapped": unmapped,
    });
    let [description, runbook, reference] = ["description", "runbook", "reference"].map(|name| text(line, name));
    if !description.is_empty() {
        finding["finding_info"]["desc"] = description.into();
    }
    if !runbook.is_empty() || !reference.is_empty() {
        // OCSF requires a description of the remediation.
        let steps = if runbook.is_empty() { "See the references." } else { runbook };
        finding["remediation"] = json!({ "desc": steps });
    }
    if !reference.is_empty() {
        finding["remediation"]["references"] = json!([reference]);
    }
    let tags = texts(line, "tags");
    if !tags.is_empty() {
        finding["metadata"]["labels"] = json!(tags);
    }
    // A withdrawn finding has the count 0, which OCSF does not allow.
    if let Some(count) = line.get("count").and_then(Value::as_u64).filter(|count| *count > 0) {
        finding["count"] = count.into();
    }
    Ok(finding)
}

fn severity(name: &str) -> (&'static str, u32) {
    match Severity::ALL.into_iter().find(|severity| severity.to_string() == name) {
        Some(Severity::Info) => ("Informational", 1),
        Some(Severity::Low) => ("Low", 2),
        Some(Severity::Medium) => ("Medium", 3),
        Some(Severity::High) => ("High", 4),
        Some(Severity::Critical) => ("Critical", 5),
        None => ("Unknown", 0),
    }
}

/// Returns the rule as an OCSF analytic.
fn analytic(line: &Line) -> Value {
    let mut analytic = json!({ "type_id": 1, "type": "Rule", "uid": text(line, "rule_id") });
    match line.get("rule_version") {
        None | Some(Value::Null) => {}
        Some(Value::String(version)) => analytic["version"] = version.as_str().into(),
        Some(other) => analytic["version"] = other.to_string().into(),
    }
    analytic
}

/// Returns the OCSF attack for a tactic and technique such as `TA0006:T1110.003`.
fn attack(name: &str) -> Value {
    let mut attack = Line::new();
    for part in name.split(':').map(str::trim) {
        if part.starts_with("TA") {
            attack.insert("tactic".to_owned(), json!({ "uid": part }));
            continue;
        }
        let technique = part.split('.').next().unwrap_or(part);
        attack.insert("technique".to_owned(), json!({ "uid": technique }));
        if technique != part {
            attack.insert("sub_technique".to_owned(), json!({ "uid": part }));
        }
    }
    Value::Object(attack)
}

/// Returns the event sources as evidence, and their addresses as observables. CloudTrail writes a service name instead
/// of an address if an AWS service made the call.
fn source_evidence(sources: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let is_address = |source: &&str| source.parse::<IpAddr>().is_ok();
    let evidence = |source: &&str| {
        let attribute = if is_address(source) { "ip" } else { "svc_name" };
        json!({ "src_endpoint": { attribute: source } })
    };
    let observable = |source: &&str| json!({ "name": "evidences.src_endpoint.ip", "type_id": 2, "value": source });
    let addresses = sources.iter().filter(|source| is_address(source));
    (sources.iter().map(evidence).collect(), addresses.map(observable).collect())
}

/// Returns the account, if the finding has one, and the region, if there is exactly one.
fn cloud(line: &Line) -> Value {
    let mut cloud = Line::new();
    cloud.insert("provider".to_owned(), Value::from("AWS"));
    let fields = ["group", "context"].into_iter().filter_map(|part| line.get(part)?.as_object());
    let account =
        fields.flat_map(|fields| ACCOUNT_FIELDS.into_iter().filter_map(|name| fields.get(name)?.as_str())).next();
    if let Some(account) = account {
        cloud.insert("account".to_owned(), json!({ "uid": account, "type_id": 10 }));
    }
    if let [region] = texts(line, "regions").as_slice() {
        cloud.insert("region".to_owned(), Value::from(*region));
    }
    Value::Object(cloud)
}
