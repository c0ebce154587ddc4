//! Bounded fuzzing with random input. `PROPTEST_CASES=100000 cargo test --test it fuzz` runs longer.

use std::io::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use tawny::engine::Engine;
use tawny::event::batch::BatchBuilder;
use tawny::hunt;
use tawny::raw::envelope::Record;
use tawny::raw::{self, PartContent, ReadError, json};
use tawny::report::{self, FindingsFormat};
use tawny::rule::{catalog, panther, sigma};
use tawny::store::{Object, ReadSettings};
use tawny::table::MemoryTable;
use tawny::time::{Instant, Range};
use tawny::trail::text_condition::{MemberTest, TextCondition};
use tawny::trail::{self, DecodeOptions, Prefilter};

use crate::oracle::RUNTIME;
use crate::records::failed_sign_in;

/// Returns a configuration with `PROPTEST_CASES` cases, else `cases`.
fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    crate::oracle::config(asked.unwrap_or(cases))
}

/// A mutation: position, number of bytes removed, bytes inserted.
type Change = (prop::sample::Index, usize, Vec<u8>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        ":",
        "\\",
        "\\ud800",
        "null",
        "1e999",
        "\n",
        "{\"Records\":[",
        "\u{feff}",
        "- ",
        "&a ",
        "*a",
        "|",
        "'",
        "#",
    ];
    let word = prop::sample::select(words.map(|word| word.as_bytes().to_vec()).to_vec());
    let put = prop_oneof![3 => word, 1 => prop::collection::vec(any::<u8>(), 0..4)];
    prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, put), 1..6)
}

fn changed(text: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (at, taken, put) in changes {
        let at = at.index(text.len() + 1);
        let end = (at + taken).min(text.len());
        text.splice(at..end, put.iter().copied());
    }
    text
}

/// Decodes an object, and checks that everything in it is accounted for.
fn decode(bytes: &[u8]) -> Result<(), TestCaseError> {
    let path = PathBuf::from("fuzz.json");
    let object = Object { real: path.clone(), path, size: bytes.len() as u64, modified: Instant::EPOCH, tag: None };
    let name = || "ConsoleLogin".to_owned();
    let words = TextCondition::Words { key: None, words: vec![name()] };
    let member = |test, negated| TextCondition::Member { key: "eventName".to_owned(), test, negated };
    let by_name = member(MemberTest::OneOf([name()].into()), false);
    for rules in [vec![], vec![words], vec![by_name], vec![member(MemberTest::Filled, true)]] {
        let prefilter = Prefilter::new(rules);
        let settings = ReadSettings { max_object: 1 << 20, ..ReadSettings::default() };
        let decoded =
            trail::decode(&object, Ok(bytes), &settings, DecodeOptions { prefilter: &prefilter, hash_records: true })
                .unwrap();
        prop_assert!(decoded.statistics.balances(), "{:?}", decoded.statistics);
        let rows: usize = decoded.batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
        prop_assert_eq!((rows, rows as u64), (decoded.hashes.len(), decoded.statistics.records.used));
    }
    Ok(())
}

/// Returns objects in every envelope, to be mutated.
fn objects() -> Vec<String> {
    let record = failed_sign_in("ann", "2026-09-01T10:00:00Z", "1").to_string();
    let quoted = Value::from(record.as_str());
    vec![
        format!("{{\"Records\":[{record},{record}]}}"),
        format!("{record}\n{record}\n{record}"),
        json!({ "messageType": "DATA_MESSAGE", "logEvents": [{ "id": "1", "message": quoted }] }).to_string(),
        json!({ "Events": [{ "CloudTrailEvent": quoted }] }).to_string(),
        json!({ "Records": [{ "body": json!({ "Message": quoted }).to_string() }] }).to_string(),
        format!("[{{\"detail\":{record}}},{{\"_raw\":{quoted}}}]"),
    ]
}

/// Returns an object in every supported compression and archive, to be mutated.
fn packed() -> Vec<Vec<u8>> {
    let object = &objects()[0];
    let mut tar = tar::Builder::new(Vec::new());
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["a.json", "b/c.json"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(object.len() as u64);
        tar.append_data(&mut header, name, object.as_bytes()).unwrap();
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(object.as_bytes()).unwrap();
    }
    let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 1).unwrap();
    let tar = tar.into_inner().unwrap();
    vec![zstd(object.as_bytes()), zstd(&tar), tar, zip.finish().unwrap().into_inner()]
}

fn text(bytes: &[u8]) -> Result<String, ReadError> {
    let mut seen = String::new();
    raw::read(bytes, 1 << 20, &mut |part| match part.content {
        PartContent::Text(text) => seen += text.text,
        other => panic!("{other:?}"),
    })?;
    Ok(seen)
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn random_bytes_are_decoded_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode(&bytes)?;
    }

    #[test]
    fn mutated_objects_are_decoded_or_rejected(object in prop::sample::select(objects()), changes in changes()) {
        decode(&changed(object.as_bytes(), &changes))?;
    }

    #[test]
    fn mutated_archives_are_decoded_or_rejected(packed in prop::sample::select(packed()), changes in changes()) {
        decode(&changed(&packed, &changes))?;
    }

    #[test]
    fn gzip_returns_the_original_bytes_or_an_error(
        parts in prop::collection::vec("[ -~]{0,40}", 1..4),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut packed = Vec::new();
        let mut ends = vec![0];
        for part in &parts {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(part.as_bytes()).unwrap();
            packed.extend(encoder.finish().unwrap());
            ends.push(packed.len());
        }
        let whole = parts.concat();
        prop_assert_eq!(text(&packed).unwrap(), whole.clone());
        let at = cut.index(packed.len());
        if at > 1 && !ends.contains(&at) {
            prop_assert!(text(&packed[..at]).is_err(), "cut at {at} of {}", packed.len());
        }
        let mut flipped = packed.clone();
        flipped[flip.index(packed.len())] ^= 1 << bit;
        if flipped.starts_with(&[0x1f, 0x8b]) && let Ok(text) = text(&flipped) {
            prop_assert_eq!(text, whole);
        }
    }

    #[test]
    fn mutated_rules_are_parsed_or_refused(
        rule in prop::sample::select(catalog::all(&[]).unwrap()),
        changes in changes(),
        is_sigma in any::<bool>(),
    ) {
        let sigma = "title: x\nid: a\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  a: {eventName|contains: [A, 'b*']}\n  condition: 1 of a* and not a\n";
        let text = changed(if is_sigma { sigma } else { &rule.text }.as_bytes(), &changes);
        let text = String::from_utf8_lossy(&text);
        let rules = if is_sigma {
            sigma::read(&[("fuzz.yml", &text)]).unwrap_or_default().into_iter().map(|(_, rule)| rule).collect()
        } else {
            panther::parse("fuzz.yml", &text).map(|read| read.rule).into_iter().collect::<Vec<_>>()
        };
        for rule in rules {
            tawny::sql::hunt(&rule, Range::default(), Range::default()).ok();
            tawny::sql::matching(&rule).ok();
        }
    }
}

/// Values with syntax of SQL, YAML, JSON or patterns.
fn values() -> impl Strategy<Value = String> {
    let odd = [
        "'",
        "''",
        "\"",
        "--",
        "/*",
        "*/",
        ";",
        "$$",
        "$1",
        "%",
        "_",
        "\\",
        "\0",
        "\n",
        "{}",
        "*",
        "?",
        "a",
        "A",
        "é",
        "\u{202e}",
        "' OR 1=1 --",
        "null",
    ];
    prop::collection::vec(prop::sample::select(odd.to_vec()), 0..5).prop_map(|parts| parts.concat())
}

/// A condition's name, and its result for a value and an operand.
type Condition = (&'static str, fn(&str, &str) -> bool);

const CONDITIONS: [Condition; 4] = [
    ("Equals", |value, operand| value == operand),
    ("StartsWith", |value, operand| value.starts_with(operand)),
    ("EndsWith", |value, operand| value.ends_with(operand)),
    ("Contains", |value, operand| value.contains(operand)),
];

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn values_stay_values(operand in values(), others in prop::collection::vec(values(), 1..6)) {
        let records: Vec<String> = others.iter().chain([&operand]).enumerate().map(|(number, value)| {
            json!({
                "eventTime": "2026-09-01T00:00:00Z", "eventID": number.to_string(), "eventName": value,
                "userAgent": value, "requestParameters": { "name": value },
            }).to_string()
        }).collect();
        let mut builder = BatchBuilder::default();
        for record in &records {
            builder.push(&Record { text: record, members: json::members(record).unwrap() });
        }
        let data = MemoryTable(vec![builder.finish().unwrap()]);
        let mut rules = Vec::new();
        for key in ["Key: eventName", "KeyPath: requestParameters.name"] {
            for (condition, _) in CONDITIONS {
                let operand = Value::from(operand.as_str());
                let yaml = format!(
                    "AnalysisType: rule\nRuleID: A{}\nEnabled: true\nSeverity: Info\nLogTypes: [AWS.CloudTrail]\nGroupBy: [{{Key: eventID}}, {{Key: userAgent}}]\nDetection:\n  - {{{key}, Condition: {condition}, Value: {operand}}}\n",
                    rules.len()
                );
                let read = panther::parse("rule.yml", &yaml);
                prop_assert!(read.is_ok(), "{}", read.unwrap_err());
                rules.extend(read.map(|read| read.rule));
            }
        }
        let engine = Engine::new(1, 256 << 20, &std::env::temp_dir()).unwrap();
        let hunt = |rules: &[_]| RUNTIME.block_on(hunt::findings(&engine, &data, rules, Range::default())).unwrap();
        let together = hunt(&rules);
        // A single rule.
        let alone = hunt(&rules[5..6]);
        for (number, rule) in rules.iter().enumerate() {
            let (condition, holds) = CONDITIONS[number % 4];
            let mut wanted: Vec<&str> = others.iter().chain([&operand]).map(String::as_str).collect();
            wanted.retain(|value| holds(value, &operand));
            wanted.sort_unstable();
            for findings in [&together, &alone].into_iter().take(if number == 5 { 2 } else { 1 }) {
                let of_rule = findings.iter().filter(|finding| finding.rule_id == rule.id);
                let mut found: Vec<&str> = of_rule.map(|finding| finding.group["userAgent"].as_str().unwrap()).collect();
                found.sort_unstable();
                prop_assert_eq!(&found, &wanted, "{} {:?}", condition, &operand);
            }
        }

        // Output shows the values unchanged, one line and one row each.
        let lines = report::findings(&together, FindingsFormat::Jsonl).unwrap();
        prop_assert_eq!(lines.lines().count(), together.len());
        for (line, finding) in lines.lines().zip(&together) {
            let read: Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(&read, &serde_json::to_value(finding).unwrap());
            prop_assert_eq!(&read["group"]["userAgent"], &finding.group["userAgent"]);
        }
        let rows = report::findings(&together, FindingsFormat::Csv).unwrap();
        let mut reader = csv::Reader::from_reader(rows.as_bytes());
        prop_assert_eq!(reader.records().map(Result::unwrap).count(), together.len());
        let table = report::findings(&together, FindingsFormat::Table).unwrap();
        let is_inert = !(rows + &table).contains(['\0', '\u{202e}']);
        prop_assert!(is_inert);
    }
}
