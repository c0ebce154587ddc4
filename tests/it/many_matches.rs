//! More matches than fit in memory give the same findings.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tawny::convert::{Limits, convert};
use tawny::engine::Engine;
use tawny::engine::match_scan::MatchScan;
use tawny::finding::Finding;
use tawny::hunt;
use tawny::lake::Lake;
use tawny::rule::{Rule, WindowKind, catalog, panther};
use tawny::sql::match_spec::MatchSpec;
use tawny::statistics::ScanStatistics;
use tawny::store::{Scratch, Stores};
use tawny::table::{RawTrail, Table};
use tawny::time::{DAY, Instant, Range, SECOND};
use tawny::trail::{Prefilter, Selection, Trail};

use crate::records::failed_sign_in;
use crate::tables::tawny;

const START: Instant = Instant::from_micros(1_788_220_800 * SECOND);
const RECORDS: i64 = 20_000;
const OBJECTS: i64 = 10;
const MEMORY: usize = 256 << 20;
/// Less than the matches of one rule need.
const SCARCE: usize = 1 << 20;

/// Writes one user who fails once a second for hours, and others who fail twice now and then.
fn write_trail(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for object in 0..OBJECTS {
        let of_object = (object * RECORDS / OBJECTS)..((object + 1) * RECORDS / OBJECTS);
        let record = |number: i64| {
            let user = if number % 100 < 2 { format!("user{}", number / 100) } else { "mallory".to_owned() };
            failed_sign_in(&user, &(START + number * SECOND).to_string(), &format!("{number:05}"))
        };
        let records: Vec<serde_json::Value> = of_object.map(record).collect();
        std::fs::write(folder.join(format!("{object:02}.json")), serde_json::json!({ "Records": records }).to_string())
            .unwrap();
    }
    // Earlier days, on which only some windows may depend.
    let broken = folder.join("AWSLogs/111122223333/CloudTrail/eu-west-1/2026/08/30");
    std::fs::create_dir_all(&broken).unwrap();
    std::fs::write(broken.join("broken.json"), "{\"Records\":[{").unwrap();
}

/// Returns one rule without matches, and one that matches everything with each window kind.
fn rules() -> Vec<Rule> {
    let rule = catalog::default().unwrap();
    let of_kind = |kind| {
        let mut rule = rule.clone();
        rule.id = format!("{}.{kind:?}", rule.id);
        rule.window.kind = kind;
        rule.window.threshold = NonZeroU32::new(3).unwrap();
        rule
    };
    let quiet = catalog::all(&[]).unwrap().into_iter().map(|entry| entry.rule).find(|other| other.id != rule.id);
    quiet.into_iter().chain(WindowKind::ALL.map(of_kind)).collect()
}

async fn found(data: &dyn Table, matched: usize, range: Range) -> (Vec<Finding>, ScanStatistics) {
    let engine = Engine::new(2, MEMORY, &std::env::temp_dir()).unwrap().with_match_memory(matched);
    let rules = rules();
    let outcome = hunt::hunt_buffered(&engine, data, &rules, range).await.unwrap();
    (outcome.findings.all().await.unwrap(), outcome.read)
}

#[test]
fn more_matches_than_fit_in_memory_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("trail");
    write_trail(&trail);
    let lake = Lake::at(&folder.path().join("lake"));
    let sources = [trail.display().to_string()];
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let found_trail = Trail::find(&Stores::default(), &sources, &Selection::default()).await.unwrap();
        let limits = Limits { threads: 2, memory: 64 << 20, in_flight: 4 };
        convert(found_trail, &lake, limits, &Scratch::default(), &mut |_| {}).await.unwrap();

        let engine = Engine::new(2, MEMORY, &std::env::temp_dir()).unwrap();
        let records =
            lake.snapshot(Range::default()).await.unwrap().records(&engine, Prefilter::default()).await.unwrap();
        let spec = MatchSpec::new(&rules()[1..2], Range::default());
        let scanned = MatchScan::new(&engine, records.provider, &spec).await.unwrap().collect(SCARCE).await;
        assert!(scanned.is_err(), "the matches of one rule must not fit in memory");

        let objects = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&objects);
        let progress = Arc::new(move |_, _: &ScanStatistics| {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let raw = RawTrail::new(Stores::default(), sources.to_vec(), Selection::default(), 4, progress);
        let hour = START + DAY / 24;
        let range = Range { from: Some(hour), to: Some(hour + DAY / 24) };
        let expected = found(&raw, MEMORY, range).await.0;
        assert!(expected.len() > 3, "{}", expected.len());
        let read = |statistics: &ScanStatistics| {
            assert_eq!(
                statistics.records.read,
                statistics.records.used + statistics.records.skipped_by_prefilter,
                "{statistics:?}"
            );
            assert_eq!((statistics.faults.len(), statistics.objects.rejected), (1, 1), "{statistics:?}");
            objects.swap(0, Ordering::Relaxed)
        };
        objects.store(0, Ordering::Relaxed);
        let once = read(&found(&raw, MEMORY, range).await.1);
        assert_eq!(once, 11);
        assert!(found(&lake, SCARCE, range).await.0 == expected);
        let (findings, statistics) = found(&raw, SCARCE, range).await;
        assert!(findings == expected);
        assert_eq!(read(&statistics), once, "objects are read once with any amount of memory");
    });
}

#[test]
fn minimum_memory_suffices_for_many_rules_with_many_matches() {
    let folder = tempfile::tempdir().unwrap();
    let (trail, rules) = (folder.path().join("trail"), folder.path().join("rules"));
    write_trail(&trail);
    std::fs::create_dir(&rules).unwrap();
    let shipped =
        concat!(env!("CARGO_MANIFEST_DIR"), "/rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml");
    let shipped = std::fs::read_to_string(shipped).unwrap();
    // Their matches need more memory than the sorts have.
    let names: Vec<String> = (0..12).map(|number| format!("Copy.{number}")).collect();
    for name in &names {
        std::fs::write(rules.join(format!("{name}.yml")), shipped.replace(catalog::DEFAULT, name)).unwrap();
    }
    let hunted = |memory: &str| {
        let [trail, rules] = [&trail, &rules].map(|path| path.display().to_string());
        let mut arguments = vec!["hunt", &trail, "--rules", &rules, "--memory", memory, "--format", "jsonl"];
        arguments.extend(names.iter().flat_map(|name| ["--rule", name.as_str()]));
        let output = tawny(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "one object is invalid: {said}");
        assert!(!output.stdout.is_empty(), "{said}");
        (output.stdout, said)
    };
    assert!(hunted("1024") == hunted("64"));
}

#[test]
fn burst_may_be_larger_than_its_share_of_memory() {
    const MATCHES: i64 = 120_000;
    let folder = tempfile::tempdir().unwrap();
    let record = |number: i64| {
        let time = (START + number * SECOND / 10).to_string();
        failed_sign_in("mallory", &time, &format!("{number:08}-1111-4222-8333-444444444444")).to_string()
    };
    for part in 0..4 {
        let records: Vec<String> = (part * MATCHES / 4..(part + 1) * MATCHES / 4).map(record).collect();
        std::fs::write(folder.path().join(format!("{part}.json")), records.join("\n")).unwrap();
    }
    let trail = folder.path().to_str().unwrap();
    for window in ["sliding", "dedup"] {
        let arguments = ["hunt", trail, "--rule", catalog::DEFAULT, "--memory", "64", "--threads", "2"];
        let output = tawny(&[&arguments[..], &["--window", window, "--format", "json"]].concat());
        assert!(output.status.success(), "{window}: {}", String::from_utf8_lossy(&output.stderr));
        let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let counts = findings.iter().filter_map(|finding| finding["count"].as_i64());
        assert_eq!(counts.sum::<i64>(), MATCHES, "{window}");
    }
}

/// Every match is a finding, whose values are those of its own record.
#[test]
fn findings_have_the_values_of_the_match_that_triggered() {
    const MATCHES: i64 = 12_000;
    let folder = tempfile::tempdir().unwrap();
    let record = |number: i64| {
        let mut record = failed_sign_in("mallory", &(START + number * SECOND).to_string(), &format!("{number:05}"));
        record["requestID"] = format!("request {number:05}").into();
        record["sharedEventID"] = (number % 3).to_string().into();
        record
    };
    for part in 0..4 {
        let records: Vec<serde_json::Value> = (part * MATCHES / 4..(part + 1) * MATCHES / 4).map(record).collect();
        let object = serde_json::json!({ "Records": records }).to_string();
        std::fs::write(folder.path().join(format!("{part}.json")), object).unwrap();
    }
    let rule = |id: &str, rest: &str| {
        let yaml = format!(
            "AnalysisType: rule\nRuleID: {id}\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\nThreshold: 1\nDetection:\n  - {{Key: eventName, Condition: Equals, Value: ConsoleLogin}}\nGroupBy:\n  - {{Key: eventID}}\n{rest}\n"
        );
        panther::parse(id, &yaml).unwrap().rule
    };
    let rules = [
        rule(
            "Values",
            "AlertTitle: \"of {requestID}\"\nAlertContext:\n  - KeyName: request\n    KeyValue: {Key: requestID}\nDynamicSeverities:\n  - ChangeTo: High\n    Conditions:\n      - {Key: sharedEventID, Condition: Equals, Value: \"1\"}",
        ),
        rule("Title", "AlertTitle: \"{requestID}\""),
    ];
    let sources = [folder.path().display().to_string()];
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let raw = RawTrail::new(Stores::default(), sources.to_vec(), Selection::default(), 4, Arc::new(|_, _| {}));
        for (threads, matched) in [(1, MEMORY), (2, MEMORY), (2, SCARCE)] {
            let engine = Engine::new(threads, MEMORY, &std::env::temp_dir()).unwrap().with_match_memory(matched);
            let outcome = hunt::hunt_buffered(&engine, &raw, &rules, Range::default()).await.unwrap();
            let findings = outcome.findings.all().await.unwrap();
            assert_eq!(findings.len(), 2 * usize::try_from(MATCHES).unwrap());
            for finding in findings {
                let id = finding.event_ids[0].clone();
                let request = format!("request {id}");
                let (title, severity) = match finding.rule_id.as_str() {
                    "Values" => {
                        assert_eq!(finding.context["request"], request.as_str());
                        let is_high = id.parse::<i64>().unwrap() % 3 == 1;
                        (format!("of {request}"), if is_high { "High" } else { "Low" })
                    }
                    _ => (request, "Low"),
                };
                assert_eq!((finding.title, finding.severity), (title, severity.to_owned()), "{id}, {threads} threads");
            }
        }
    });
}
