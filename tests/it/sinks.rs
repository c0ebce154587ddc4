//! Delivery of findings to sinks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Request, Response};
use hyper::body::{Body as _, Incoming};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use sha2::Sha256;
use tawny::error::{Error, Status};
use tawny::sink::{Delivery, Line, Sink, SinkSettings};
use tawny::store::{Access, Stores};
use tawny::time::Instant;

use crate::http_server::{self, wait};
use crate::s3_server::Server;

/// Returns the first revision of a finding triggered at `time`.
fn line(id: &str, time: &str) -> Line {
    let line = json!({
        "finding_id": id,
        "rule_id": "Many.Failures",
        "title": "Many failures of José",
        "severity": "High",
        "alert": true,
        "mitre": ["TA0006:T1621", "TA0006:T1110.003"],
        "window": "sliding",
        "period_minutes": 15,
        "threshold": 2,
        "group": { "userIdentity.userName": "José", "recipientAccountId": "123456789012", "sourceIPAddress": null },
        "masked": false,
        "count": 3,
        "peak": 2,
        "first_event": "2026-09-01T11:59:00Z",
        "last_event": "2026-09-02T00:03:00Z",
        "trigger_time": time,
        "event_ids": ["e1", "e2", "e3"],
        "source_ips": ["192.0.2.7", "2001:db8::1", "ec2.amazonaws.com"],
        "user_agents": ["aws-cli"],
        "regions": ["eu-west-1"],
        "context": {},
        "revision": 1,
        "supersedes": ["old"],
        "withdrawn": false,
        "rule_version": "v7",
        "run": 12,
    });
    line.as_object().unwrap().clone()
}

fn with(mut line: Line, changes: &[(&str, Value)]) -> Line {
    for (name, value) in changes {
        line.insert((*name).to_owned(), value.clone());
    }
    line
}

/// Returns the withdrawal of a finding, which has only its known fields.
fn taken_back(line: Line) -> Line {
    let gone = with(
        line,
        &[("revision", json!(3)), ("withdrawn", json!(true)), ("count", json!(0)), ("event_ids", json!([]))],
    );
    let unknown =
        ["alert", "mitre", "window", "period_minutes", "threshold", "peak", "source_ips", "user_agents", "regions"];
    gone.into_iter().filter(|(name, _)| !unknown.contains(&name.as_str())).collect()
}

/// Returns the time of signatures: 2026-09-01T02:00:00.5Z.
pub(crate) fn clock() -> Instant {
    Instant::from_micros(1_788_228_000_500_000)
}

fn settings(toml: &str) -> SinkSettings {
    toml::from_str(toml).unwrap()
}

/// Delivers `lines` as run 12 and returns the standard output.
fn deliver(sink: &Sink, lines: &[Line]) -> Result<Vec<u8>, Error> {
    let printed = Mutex::new(Vec::new());
    let print = |bytes: &[u8]| {
        printed.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    };
    wait(sink.deliver(&Delivery { run: 12, origin: "ab12", lines }, &print))?;
    Ok(printed.into_inner().unwrap())
}

fn open(toml: &str) -> Result<Sink, Error> {
    let secrets = |name: &str| match name {
        "HOOK" => Some("https://hooks.example.com/services/T0/B0/very-secret".to_owned()),
        "KEY" => Some("signing-key".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    Sink::open(&settings(toml), &Stores::default(), &secrets, clock)
}

/// Returns all files below `folder` by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let found = glob::glob(&format!("{}/**/*", folder.display())).unwrap().flatten().filter(|path| path.is_file());
    found
        .map(|path| {
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

fn objects(jsonl: &[u8]) -> Vec<Value> {
    jsonl
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn files_sink_writes_one_file_per_date_even_if_delivered_twice() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("not/yet there");
    let lines = [
        line("b", "2026-09-02T00:00:00Z"),
        line("a", "2026-09-01T23:59:59.999999Z"),
        line("c", "2026-09-02T00:00:01Z"),
    ];
    for (format, end) in [("jsonl", "jsonl"), ("parquet", "parquet"), ("ocsf", "ocsf.jsonl")] {
        let to = to.join(format);
        let toml = format!("kind = 'files'\nname = 'lake'\nto = '{}'\nformat = '{format}'", to.display());
        let sink = open(&toml).unwrap();
        assert_eq!(sink.name(), "lake");
        deliver(&sink, &[]).unwrap();
        assert!(!to.exists());
        deliver(&sink, &lines).unwrap();
        let first = files(&to);
        let names: Vec<&String> = first.keys().collect();
        assert_eq!(
            names,
            [&format!("date=2026-09-01/run-00000012-ab12.{end}"), &format!("date=2026-09-02/run-00000012-ab12.{end}")]
        );
        deliver(&sink, &lines).unwrap();
        assert!(files(&to) == first, "{format}: delivered again, it differs");
        // No unfinished files remain, hidden ones included.
        assert_eq!(std::fs::read_dir(to.join("date=2026-09-01")).unwrap().count(), 1);
        if format == "jsonl" {
            let told = objects(&first["date=2026-09-02/run-00000012-ab12.jsonl"]);
            assert_eq!(told, [Value::from(lines[0].clone()), Value::from(lines[2].clone())]);
        }
    }
}

#[test]
fn parquet_has_columns_and_the_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("kind = 'files'\nname = 'lake'\nto = '{}'\nformat = 'parquet'", folder.path().display());
    let time = "2026-09-01T12:00:00.000001Z";
    // More than one batch of the decoder.
    let mut lines: Vec<Line> = (0..3_000).map(|number| line(&format!("f{number}"), time)).collect();
    lines[1] =
        with(line("second", time), &[("rule_version", json!(3)), ("alert", json!(false)), ("peak", Value::Null)]);
    lines[2] = taken_back(line("gone", time));
    deliver(&open(&toml).unwrap(), &lines).unwrap();
    let file = std::fs::File::open(folder.path().join("date=2026-09-01/run-00000012-ab12.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_batch_size(5_000).build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    let [rows] = batches.as_slice() else { panic!("{} batches", batches.len()) };
    assert_eq!(rows.num_rows(), lines.len());
    let column = |name: &str| rows.column_by_name(name).unwrap();
    let text = |name: &str, row| column(name).as_string::<i32>().value(row).to_owned();
    let number = |name: &str| column(name).as_primitive::<Int64Type>().value(0);
    let list = |name: &str| {
        let list = column(name).as_list::<i32>().value(0);
        list.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((text("finding_id", 0), text("finding_id", 1)), ("f0".to_owned(), "second".to_owned()));
    assert_eq!((text("rule_version", 0), text("rule_version", 1)), ("v7".to_owned(), "3".to_owned()));
    assert_eq!(text("title", 0), "Many failures of José");
    assert_eq!([number("revision"), number("threshold"), number("count"), number("peak")], [1, 2, 3, 2]);
    assert!(column("peak").is_null(1));
    assert!(column("withdrawn").as_boolean().value(2) && column("alert").is_null(2) && column("regions").is_null(2));
    assert!((column("period_minutes").as_primitive::<Float64Type>().value(0) - 15.0).abs() < f64::EPSILON);
    let alert = column("alert").as_boolean();
    assert!(alert.value(0) && !alert.value(1) && !column("withdrawn").as_boolean().value(0));
    assert_eq!(column("trigger_time").as_primitive::<TimestampMicrosecondType>().value(0), 1_788_264_000_000_001);
    assert_eq!(column("trigger_time").data_type().to_string(), "Timestamp(µs, \"UTC\")");
    assert_eq!(list("event_ids"), ["e1", "e2", "e3"]);
    assert_eq!(list("supersedes"), ["old"]);
    assert_eq!(list("source_ips"), ["192.0.2.7", "2001:db8::1", "ec2.amazonaws.com"]);
    assert_eq!((list("user_agents"), list("regions")), (vec!["aws-cli".to_owned()], vec!["eu-west-1".to_owned()]));
    assert_eq!(serde_json::from_str::<Value>(&text("group", 0)).unwrap(), lines[0]["group"]);
    assert_eq!(serde_json::from_str::<Value>(&text("finding", 0)).unwrap(), Value::from(lines[0].clone()));
}

#[test]
fn ocsf_is_a_detection_finding() {
    let sink = open("kind = 'stdout'\nname = 'out'\nformat = 'ocsf'").unwrap();
    let time = "2026-09-01T12:00:00.5Z";
    let lines = [
        line("f", time),
        with(line("f", time), &[("revision", json!(2)), ("severity", json!("Info")), ("regions", json!(["a", "b"]))]),
        taken_back(line("f", time)),
    ];
    let told = objects(&deliver(&sink, &lines).unwrap());
    let [new, grown, gone] = told.as_slice() else { panic!("{told:?}") };
    let places = ["class_uid", "category_uid", "activity_id", "type_uid", "severity_id", "status_id"];
    let numbers = |finding: &Value| places.map(|name| finding[name].as_u64().unwrap());
    assert_eq!(numbers(new), [2004, 2, 1, 200_401, 4, 1]);
    assert_eq!(numbers(grown), [2004, 2, 2, 200_402, 1, 1]);
    assert_eq!(numbers(gone), [2004, 2, 3, 200_403, 4, 4]);
    assert_eq!([&new["time"], &new["count"]], [&json!(1_788_264_000_500_u64), &json!(3)]);
    assert_eq!(new["metadata"]["version"], "1.3.0");
    assert_eq!(new["metadata"]["product"]["vendor_name"], "tawny");
    assert_eq!([&new["metadata"]["uid"], &grown["metadata"]["uid"]], ["f.1", "f.2"]);
    let expected = json!({
        "uid": "f",
        "title": "Many failures of José",
        "analytic": { "type_id": 1, "type": "Rule", "uid": "Many.Failures", "version": "v7" },
        "attacks": [
            { "tactic": { "uid": "TA0006" }, "technique": { "uid": "T1621" } },
            { "tactic": { "uid": "TA0006" }, "technique": { "uid": "T1110" }, "sub_technique": { "uid": "T1110.003" } },
        ],
        "first_seen_time": 1_788_263_940_000_u64,
        "last_seen_time": 1_788_307_380_000_u64,
        "created_time": 1_788_264_000_500_u64,
    });
    assert_eq!(new["finding_info"], expected);
    let addresses: Vec<_> =
        new["observables"].as_array().unwrap().iter().map(|o| (&o["type_id"], &o["value"])).collect();
    assert_eq!(addresses, [(&json!(2), &json!("192.0.2.7")), (&json!(2), &json!("2001:db8::1"))]);
    assert_eq!(new["evidences"][2], json!({ "src_endpoint": { "svc_name": "ec2.amazonaws.com" } }));
    let cloud =
        json!({ "provider": "AWS", "account": { "uid": "123456789012", "type_id": 10 }, "region": "eu-west-1" });
    assert_eq!(new["cloud"], cloud);
    assert_eq!(grown["cloud"].get("region"), None);
    assert_eq!(gone.get("count"), None);
    for kept in ["group", "event_ids", "threshold", "period_minutes", "supersedes", "user_agents"] {
        assert_eq!(new["unmapped"][kept], lines[0][kept], "{kept}");
    }
    assert_eq!(new["unmapped"].get("title"), None);
}

#[test]
fn stdout_sink_keeps_the_order_of_lines() {
    let sink = open("kind = 'stdout'\nname = 'out'").unwrap();
    let lines = [line("b", "2026-09-02T00:00:00Z"), line("a", "2026-09-01T00:00:00Z")];
    let printed = deliver(&sink, &lines).unwrap();
    assert_eq!(objects(&printed), lines.clone().map(Value::from));
    assert!(printed.ends_with(b"}\n"));
    assert!(deliver(&sink, &[]).unwrap().is_empty());
    let closed = |_: &[u8]| Err(Error::Internal("closed".to_owned()));
    assert!(wait(sink.deliver(&Delivery { run: 1, origin: "ab12", lines: &lines }, &closed)).is_err());
    wait(sink.deliver(&Delivery { run: 1, origin: "ab12", lines: &[] }, &closed)).unwrap();
}

/// A request that the webhook received.
pub(crate) struct Got {
    headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// A web server that responds with the given statuses in order, then always with the last one.
pub(crate) struct Hook {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Got>>>,
    _runtime: tokio::runtime::Runtime,
}

/// Path and query of a webhook URL are secret.
const PATH: &str = "services/T0/B0/very-secret?token=also-secret";

impl Hook {
    pub(crate) fn start(statuses: &'static [u16]) -> Hook {
        let got = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&got);
        let (server, runtime) = http_server::serve(1, move |request| answer(request, Arc::clone(&heard), statuses));
        let url = format!("{server}/{PATH}");
        Hook { url, got, _runtime: runtime }
    }

    pub(crate) fn open(&self, more: &str) -> Sink {
        open(&format!("kind = 'webhook'\nname = 'hook'\nurl = '{}'\n{more}", self.url)).unwrap()
    }

    pub(crate) fn take(&self) -> Vec<Got> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }
}

async fn answer(
    request: Request<Incoming>,
    heard: Arc<Mutex<Vec<Got>>>,
    statuses: &'static [u16],
) -> Result<Response<String>, hyper::Error> {
    let (parts, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| std::pin::Pin::new(&mut incoming).poll_frame(context)).await
    {
        body.extend_from_slice(&frame?.into_data().unwrap_or_else(|_| Bytes::new()));
    }
    assert_eq!((parts.method.as_str(), parts.uri.to_string()), ("POST", format!("/{PATH}")));
    let mut heard = heard.lock().unwrap();
    let status = statuses[heard.len().min(statuses.len() - 1)];
    heard.push(Got { headers: parts.headers, body });
    let mut answer = Response::builder().status(status);
    if status == 429 {
        answer = answer.header("Retry-After", "2");
    }
    if status == 307 {
        answer = answer.header("Location", "/elsewhere");
    }
    Ok(answer.body("body-of-the-answer".to_owned()).unwrap())
}

/// Checks that the delivery failed, and returns the error message.
fn failure(result: Result<Vec<u8>, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.status(), Status::Incomplete);
    let told = format!("{error} {error:?} {:?}", error.hint());
    for secret in ["secret", "services", "token", "signing-key", "body-of-the-answer"] {
        assert!(!told.contains(secret), "the message contains {secret}: {told}");
    }
    error.to_string()
}

#[test]
fn failed_webhook_requests_are_retried_with_an_idempotency_key() {
    let hook = Hook::start(&[500, 500, 204]);
    let sink = hook.open("format = 'json'\nsecret_env = 'KEY'");
    let lines = [line("a", "2026-09-01T12:00:00Z"), with(line("b", "2026-09-01T12:00:00Z"), &[("revision", json!(2))])];
    deliver(&sink, &lines).unwrap();
    let got = hook.take();
    let keys: Vec<&str> = got.iter().map(|got| got.header("idempotency-key")).collect();
    assert_eq!(keys, ["a.1", "a.1", "a.1", "b.2"]);
    for (got, line) in got.iter().zip([&lines[0], &lines[0], &lines[0], &lines[1]]) {
        assert_eq!(serde_json::from_slice::<Value>(&got.body).unwrap(), Value::from(line.clone()));
        assert_eq!(got.header("content-type"), "application/json");
        assert!(is_genuine(got, got.header("x-tawny-timestamp"), &got.body));
    }
    deliver(&sink, &[]).unwrap();
    assert_eq!(hook.take().len(), 0);

    let unsigned = Hook::start(&[200]);
    deliver(&unsigned.open("format = 'json'"), &lines[..1]).unwrap();
    let request = &unsigned.take()[0];
    assert!(["x-tawny-signature", "x-tawny-timestamp"].iter().all(|name| request.headers.get(*name).is_none()));
}

/// Verifies the signature of a request like a receiver.
fn is_genuine(got: &Got, timestamp: &str, body: &[u8]) -> bool {
    let signature = got.header("x-tawny-signature").strip_prefix("v1=").unwrap();
    let bytes: Vec<u8> =
        (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
    let signed = [timestamp.as_bytes(), b".", body].concat();
    Hmac::<Sha256>::new_from_slice(b"signing-key").unwrap().chain_update(signed).verify_slice(&bytes).is_ok()
}

#[test]
fn webhook_signature_covers_body_and_timestamp() {
    let hook = Hook::start(&[200]);
    deliver(&hook.open("format = 'json'\nsecret_env = 'KEY'"), &[line("a", "2026-09-01T12:00:00Z")]).unwrap();
    let got = &hook.take()[0];
    let timestamp = got.header("x-tawny-timestamp");
    assert_eq!(timestamp, "1788228000", "whole seconds of the clock");
    assert!(is_genuine(got, timestamp, &got.body));
    assert!(!is_genuine(got, "1788228001", &got.body), "a replay with a newer time");
    assert!(!is_genuine(got, timestamp, &[&got.body[..], b" "].concat()), "another body");
    assert!(!is_genuine(got, "", &[b"1788228000.", &got.body[..]].concat()), "a digit moved from the time to the body");
}

#[test]
fn sinks_filter_by_severity_and_rule() {
    let wants = |more: &str| {
        let sink = open(more).unwrap();
        let all = [("Info", true), ("Low", true), ("High", true), ("High", false), ("Critical", true)];
        all.map(|(severity, alert)| u8::from(sink.wants("AWS.IAM.KeyCreated", severity, alert)))
    };
    let hook = "kind = 'webhook'\nname = 'hook'\nurl = 'https://a.example'\nformat = 'json'\n";
    let out = "kind = 'stdout'\nname = 'out'\n";
    let files = "kind = 'files'\nname = 'files'\nto = 'x'\n";
    for (base, more, expected) in [
        (hook, "", [0, 1, 1, 0, 1]),
        (hook, "min_severity = 'Info'", [1, 1, 1, 0, 1]),
        (hook, "min_severity = 'high'", [0, 0, 1, 0, 1]),
        (out, "", [1, 1, 1, 1, 1]),
        (files, "min_severity = 'High'", [0, 0, 1, 1, 1]),
        (files, "rules = ['AWS.IAM.*']", [1, 1, 1, 1, 1]),
        (files, "rules = ['Other', 'AWS.IAM.KeyCreated']", [1, 1, 1, 1, 1]),
        (files, "rules = ['AWS.IAM']", [0, 0, 0, 0, 0]),
        (hook, "rules = ['AWS.*']\nmin_severity = 'Critical'", [0, 0, 0, 0, 1]),
    ] {
        assert_eq!(wants(&format!("{base}{more}")), expected, "{base}{more}");
    }
    let error = toml::from_str::<SinkSettings>(&format!("{out}min_severity = 'grave'")).unwrap_err();
    assert!(
        error.message().contains("\"grave\" is not a severity: expected Info, Low, Medium, High, Critical"),
        "{error}"
    );
    let error = open(&format!("{out}rules = ['***']")).err().unwrap();
    assert!(error.to_string().contains("invalid pattern \"***\" in `rules`"), "{error}");
}

#[test]
fn webhook_errors_do_not_contain_secrets() {
    let line = [line("a", "2026-09-01T12:00:00Z"), line("b", "2026-09-01T12:00:00Z")];
    for (statuses, attempts, requests, said) in [
        (&[200, 400][..], 5, 2, "127.0.0.1 answered 400 Bad Request; 1 of 2 findings were sent"),
        (&[307], 5, 1, "answered 307 Temporary Redirect, and redirects are not followed; 0 of 2"),
        (&[503], 2, 2, "answered 503 Service Unavailable after 2 attempts; 0 of 2"),
    ] {
        let hook = Hook::start(statuses);
        let sink = hook.open(&format!("format = 'json'\nattempts = {attempts}\nsecret_env = 'KEY'"));
        let told = failure(deliver(&sink, &line));
        assert!(told.starts_with("cannot deliver to the sink `hook`: ") && told.contains(said), "{told}");
        assert_eq!(hook.take().len(), requests, "{statuses:?}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let toml = format!("kind = 'webhook'\nname = 'hook'\nurl = 'http://{gone}/{PATH}'\nformat = 'json'\nattempts = 2");
    let told = failure(deliver(&open(&toml).unwrap(), &line));
    assert!(told.contains("127.0.0.1 cannot be reached: ") && told.contains("after 2 attempts"), "{told}");
    // Accepts connections and never responds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let toml = format!(
        "kind = 'webhook'\nname = 'hook'\nurl = 'http://{}/{PATH}'\nformat = 'json'\nattempts = 1\ntimeout = 1",
        silent.local_addr().unwrap()
    );
    let told = failure(deliver(&open(&toml).unwrap(), &line));
    assert!(told.contains("did not answer in time"), "{told}");
}

#[test]
fn retry_after_is_honored() {
    let hook = Hook::start(&[429, 200]);
    let sink = hook.open("format = 'ocsf'");
    let start = std::time::Instant::now();
    deliver(&sink, &[line("a", "2026-09-01T12:00:00Z")]).unwrap();
    assert!(start.elapsed() >= std::time::Duration::from_secs(2));
    let got = hook.take();
    assert_eq!(got.len(), 2);
    assert_eq!(serde_json::from_slice::<Value>(&got[1].body).unwrap()["class_uid"], 2004);
}

#[test]
fn slack_text_has_no_mentions_or_links_from_logs() {
    let hook = Hook::start(&[200]);
    let hostile = "<!channel> <https://evil.example|click> & more\nseverity: \u{202e}none";
    let long = "x".repeat(1_000);
    let changes =
        [("title", json!(hostile)), ("group", json!({ "<b>": hostile, "other": null })), ("source_ips", json!([long]))];
    let news = with(line("a", "2026-09-01T12:00:00Z"), &changes);
    let lines = [news.clone(), with(news.clone(), &[("revision", json!(2))]), taken_back(news)];
    deliver(&hook.open("format = 'slack'"), &lines).unwrap();
    let got: Vec<Value> = hook.take().iter().map(|got| serde_json::from_slice(&got.body).unwrap()).collect();
    let texts: Vec<&str> = got.iter().map(|message| message["text"].as_str().unwrap()).collect();
    let title = "[High] &lt;!channel&gt; &lt;https://evil.example|click&gt; &amp; more severity:  none";
    for (text, begins) in texts.iter().zip(["", "Updated: ", "Withdrawn: "]) {
        assert_eq!(text.lines().next().unwrap(), format!("{begins}{title}"));
        assert!(!text.contains(['<', '>', '\u{202e}']), "{text}");
        assert!(text.len() < 1_000, "{text}");
    }
    let rest: Vec<&str> = texts[0].lines().skip(1).collect();
    assert!(rest[0].starts_with("&lt;b&gt;: &lt;!channel&gt; "), "{rest:?}");
    assert_eq!(rest[1], "other: no value");
    assert_eq!(rest[2], "3 events, at most 2 within 15 minutes (threshold 2)");
    assert_eq!(rest[3], "2026-09-01T11:59:00Z to 2026-09-02T00:03:00Z, triggered 2026-09-01T12:00:00Z");
    assert_eq!(rest[5..], ["replaces old", "rule Many.Failures, finding a"]);
    let rest: Vec<&str> = texts[2].lines().skip(3).collect();
    let times = "2026-09-01T11:59:00Z to 2026-09-02T00:03:00Z, triggered 2026-09-01T12:00:00Z";
    assert_eq!(rest, ["late events removed this finding", times, "rule Many.Failures, finding a"]);
    assert_eq!([&got[0]["mrkdwn"], &got[0]["unfurl_links"]], [&json!(false), &json!(false)]);
    assert_eq!(got[0]["parse"], "none");
}

#[test]
fn invalid_sink_settings_are_refused_without_showing_secrets() {
    let hook = |more: &str| format!("kind = 'webhook'\nname = 'hook'\nformat = 'slack'\n{more}");
    // An `https` URL is accepted.
    assert!(open(&hook("url_env = 'HOOK'")).is_ok());
    assert!(open(&hook("url = 'http://[::1]:9/a'")).is_ok());
    for (toml, said) in [
        (hook(""), "one of `url` and `url_env`"),
        (hook("url = 'https://a.example'\nurl_env = 'HOOK'"), "one of `url` and `url_env`"),
        (hook("url_env = 'MISSING'"), "`MISSING`"),
        (hook("url_env = 'EMPTY'"), "`EMPTY`"),
        (hook("url_env = 'HOOK'\nsecret_env = 'MISSING'"), "`MISSING`"),
        (hook("url = 'http://a.example/very-secret'"), "not https"),
        (hook("url = 'http://localhost.evil.example/very-secret'"), "not https"),
        (hook("url = 'ftp://127.0.0.1/very-secret'"), "not https"),
        (hook("url = 'very-secret'"), "invalid URL"),
        ("kind = 'stdout'\nname = 'a b'".to_owned(), "invalid sink name"),
        ("kind = 'files'\nname = 'lake'\nto = ''".to_owned(), "`to` is empty"),
        ("kind = 'files'\nname = 'lake'\nto = 's3://'".to_owned(), "`to` is empty"),
    ] {
        let error = open(&toml).err().unwrap();
        assert_eq!(error.status(), Status::Usage, "{toml}");
        let told = format!("{error} {error:?}");
        assert!(told.contains(said) && !told.contains("very-secret"), "{toml}: {told}");
    }
    for toml in [
        "kind = 'stdout'\nname = 'out'\nformat = 'parquet'",
        "kind = 'stdout'\nname = 'out'\nto = 'x'",
        "kind = 'mail'\nname = 'out'",
        "kind = 'webhook'\nname = 'hook'\nformat = 'json'\nattempts = 0",
        "kind = 'files'\nname = 'out'",
    ] {
        assert!(toml::from_str::<SinkSettings>(toml).is_err(), "{toml}");
    }
    let shown = format!("{:?}", settings(&hook("url = 'https://a.example/very-secret'")));
    assert!(!shown.contains("very-secret"), "{shown}");
}

#[test]
fn files_sink_writes_to_s3() {
    let server = Server::start_public();
    std::fs::create_dir_all(server.file("findings", "")).unwrap();
    let stores = Stores::new(Access { endpoint: Some(server.url.clone()), anonymous: true, ..Access::default() });
    let toml = "kind = 'files'\nname = 'bucket'\nto = 's3://findings/tawny/'";
    let sink = Sink::open(&settings(toml), &stores, &|_| None, clock).unwrap();
    let lines = [line("a", "2026-09-01T12:00:00Z"), line("b", "2026-09-02T12:00:00Z")];
    for _ in 0..2 {
        deliver(&sink, &lines).unwrap();
        let log = server.take_log();
        assert_eq!(log.len(), 2, "{log:?}");
        for (line, date) in lines.iter().zip(["2026-09-01", "2026-09-02"]) {
            let file = server.file("findings", &format!("tawny/date={date}/run-00000012-ab12.jsonl"));
            assert_eq!(objects(&std::fs::read(file).unwrap()), [Value::from(line.clone())]);
        }
    }
}
