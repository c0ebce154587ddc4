//! Other tools' Parquet with wrong bytes: no process crashes or panics, none invents findings, and invalid files are
//! named.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use serde_json::{Value, json};

use crate::records::failed_sign_in;
use crate::tables::{columns, lower, rows, tawny, text};

/// A random number generator with a seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap()
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() % end.max(1)
    }
}

/// Returns the number of files to damage.
fn cases() -> u64 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    asked.unwrap_or(200)
}

/// Returns a file with a burst of its own user.
fn whole(number: u64) -> Vec<u8> {
    let record = |at: u64| {
        let mut record =
            failed_sign_in(&format!("user-{number}"), &format!("2026-09-01T10:00:0{at}Z"), &format!("{number}-{at}"));
        record["sourceIPAddress"] = json!("192.0.2.7");
        record["userAgent"] = json!("Mozilla/5.0");
        record
    };
    let records: Vec<Value> = (0..4).map(record).collect();
    let mut fields: Vec<Field> = columns(text("eventtime"), false, &lower);
    if number.is_multiple_of(3) {
        // Text as plain bytes, as old writers store it.
        for field in &mut fields {
            if field.data_type() == &DataType::Utf8 {
                *field = field.clone().with_data_type(DataType::Binary);
            }
        }
    }
    let as_texts: Vec<Field> = columns(text("eventtime"), false, &lower);
    let texts = Arc::new(Schema::new(as_texts));
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(&texts)).build_decoder().unwrap();
    decoder.serialize(&rows(&records, false, &lower)).unwrap();
    let batch = decoder.flush().unwrap().unwrap();
    let schema = Arc::new(Schema::new(fields));
    let values = batch.columns().iter().zip(schema.fields());
    let values = values.map(|(values, field)| arrow::compute::cast(values, field.data_type()).unwrap()).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), values).unwrap();
    let compression = [
        Compression::GZIP(GzipLevel::default()),
        Compression::UNCOMPRESSED,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::SNAPPY,
        Compression::LZ4_RAW,
    ];
    let encoding = [Encoding::PLAIN, Encoding::DELTA_BYTE_ARRAY, Encoding::DELTA_LENGTH_BYTE_ARRAY];
    let pick = |length: usize| usize::try_from(number).unwrap() % length;
    let mut properties = WriterProperties::builder();
    for field in batch.schema().fields() {
        if matches!(field.data_type(), DataType::Utf8 | DataType::Binary) {
            properties = properties.set_column_encoding(field.name().as_str().into(), encoding[pick(3)]);
        }
    }
    let properties = properties
        .set_compression(compression[pick(5)])
        .set_dictionary_enabled(number.is_multiple_of(2))
        .set_writer_version(if number % 4 == 1 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 })
        .set_statistics_enabled(if number % 5 == 4 { EnabledStatistics::None } else { EnabledStatistics::Page })
        .set_max_row_group_row_count(Some(if number % 7 == 6 { 2 } else { 1_000 }))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// Returns the start of the footer.
fn footer(bytes: &[u8]) -> usize {
    let length = bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap();
    bytes.len() - 8 - usize::try_from(u32::from_le_bytes(length)).unwrap()
}

/// Damages a file in one of many ways.
fn damage(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let footer = footer(bytes);
    let end = bytes.len();
    match numbers.below(8) {
        0 => bytes.truncate(numbers.below(end)),
        // Any bits.
        1 | 2 => {
            for _ in 0..=numbers.below(4) {
                bytes[numbers.below(end)] ^= 1 << numbers.below(8);
            }
        }
        // Of the footer: schema, sizes, offsets, statistics.
        3 | 4 => {
            for _ in 0..=numbers.below(3) {
                let at = footer + numbers.below(end - 8 - footer);
                bytes[at] = [0xff, 0x7f, 0x80, 0x00, bytes[at] ^ 1, bytes[at] ^ 0x80][numbers.below(6)];
            }
        }
        // Of pages and their headers: lengths, levels, dictionaries, values.
        5 => {
            for _ in 0..=numbers.below(6) {
                let at = 4 + numbers.below(footer - 4);
                bytes[at] = [0xff, 0x7f, 0x80, 0xc3][numbers.below(4)];
            }
        }
        // A part is missing or repeated.
        6 => {
            let from = numbers.below(end);
            let to = (from + numbers.below(64)).min(end);
            bytes.drain(from..to);
        }
        _ => {
            let from = numbers.below(end);
            let part = bytes[from..(from + numbers.below(64)).min(end)].to_vec();
            let at = numbers.below(end);
            bytes.splice(at..at, part);
        }
    }
}

/// Checks that a process ended with a documented exit code.
fn assert_ended(output: &Output, what: &str) {
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 2 | 3)), "{what}: {:?} {talk}", output.status);
    assert!(!talk.contains("panicked") && !talk.contains("internal error"), "{what}: {talk}");
}

fn found(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Hunts a folder of damaged files, or each file alone if their column types differ.
fn hunt(folder: &Path, numbers: &[(u64, bool)]) {
    let output = tawny(&["hunt", folder.to_str().unwrap(), "--format", "jsonl", "--threads", "2"]);
    let what = format!("the files {numbers:?}");
    assert_ended(&output, &what);
    let talk = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) {
        for (number, checked) in numbers.iter().filter(|_| numbers.len() > 1) {
            let alone = folder.join(format!("alone-{number}"));
            std::fs::create_dir(&alone).unwrap();
            std::fs::rename(folder.join(format!("{number}.parquet")), alone.join(format!("{number}.parquet"))).unwrap();
            hunt(&alone, &[(*number, *checked)]);
        }
    } else {
        check_each(&found(&output), &talk, output.status.code() == Some(3), numbers);
    }
}

/// Checks that each file is named or gives its own burst.
fn check_each(found: &[Value], talk: &str, is_incomplete: bool, numbers: &[(u64, bool)]) {
    for (number, checked) in numbers {
        let named = talk.contains(&format!("/{number}.parquet"));
        assert!(!named || is_incomplete, "the files {numbers:?}: {talk}");
        let own = |finding: &&Value| finding["event_ids"].to_string().contains(&format!("\"{number}-"));
        let own: Vec<&Value> = found.iter().filter(own).collect();
        if *checked && !named {
            let ids: Vec<Value> = (0..4).map(|at| json!(format!("{number}-{at}"))).collect();
            assert_eq!(own.len(), 1, "{number} is neither named nor found: {talk}");
            assert_eq!(own[0]["event_ids"], json!(ids), "{number}: {talk}");
            assert_eq!(own[0]["group"]["actor"], json!(format!("user-{number}")), "{number}");
            assert_eq!(own[0]["user_agents"], json!(["Mozilla/5.0"]), "{number}");
        }
    }
}

#[test]
fn damaged_files_are_named_or_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let numbers: Vec<u64> = (0..cases()).collect();
    let threads: Vec<_> = numbers
        .chunks(8)
        .map(|chunk| {
            let (chunk, folder) = (chunk.to_vec(), folder.path().join(chunk[0].to_string()));
            move || {
                std::fs::create_dir(&folder).unwrap();
                let mut files = Vec::new();
                for number in chunk {
                    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (number + 1) << 20);
                    numbers.next();
                    let bytes = whole(number);
                    let mut damaged = bytes.clone();
                    damage(&mut damaged, &mut numbers);
                    // Gzip pages have a checksum. Other changes may describe a different table.
                    let same_footer =
                        damaged.len() == bytes.len() && damaged[footer(&bytes)..] == bytes[footer(&bytes)..];
                    let checked = number.is_multiple_of(5) && number % 4 != 1 && same_footer;
                    std::fs::write(folder.join(format!("{number}.parquet")), damaged).unwrap();
                    files.push((number, checked));
                }
                hunt(&folder, &files);
            }
        })
        .collect();
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        for work in threads {
            sender.send(work).unwrap();
        }
        drop(sender);
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        for _ in 0..4 {
            let receiver = Arc::clone(&receiver);
            scope.spawn(move || {
                loop {
                    let Ok(work) = receiver.lock().unwrap().recv() else {
                        break;
                    };
                    work();
                }
            });
        }
    });
}

#[test]
fn undamaged_files_of_every_writer_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..60 {
        std::fs::write(folder.path().join(format!("{number}.parquet")), whole(number)).unwrap();
    }
    let output = tawny(&["hunt", folder.path().to_str().unwrap(), "--format", "jsonl"]);
    assert_ended(&output, "undamaged files");
    assert_eq!(
        (output.status.code(), found(&output).len()),
        (Some(0), 60),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
