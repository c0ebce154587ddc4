//! Damages the data files of a lake. Findings are right, or the run reports that it is incomplete. No file is deleted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute;
use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use tawny::engine::{self, Engine};
use tawny::error::{DamagedFile, Error, Fault};
use tawny::hunt;
use tawny::lake::Lake;
use tawny::lake::checksum::{BLOCK_BYTES, BlockChecksums, MetadataChecksum};
use tawny::lake::transaction_log::FileEntry;
use tawny::query::{self, Query};
use tawny::rule::WindowKind;
use tawny::rule::catalog::DEFAULT;
use tawny::table::{PartialLake, Table};
use tawny::time::{Instant, Range, SECOND};

use crate::oracle::{self, RUNTIME};
use crate::records::failed_sign_in;
use crate::tables::tawny;

/// Records of one file. Their random parts fill some blocks.
const RECORDS: u64 = 700;

/// Returns numbers that look random, the same for each run.
fn random(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 29
}

/// Writes a lake whose files each hold the records of one object: one day has three of them, another has one.
fn write_lake(folder: &Path) -> PathBuf {
    let (trail, lake) = (folder.join("trail"), folder.join("lake"));
    std::fs::create_dir_all(&trail).unwrap();
    for file in 0..4 {
        let day = if file < 3 { oracle::START } else { oracle::START + 86_400 };
        let record = |number: u64| {
            let number = number + file * RECORDS;
            let second = i64::try_from(random(number) % 86_000).unwrap() + day;
            let user = format!("user-{}", random(number + 77) % 60);
            let mut record = failed_sign_in(
                &user,
                &Instant::from_micros(second * SECOND).to_string(),
                &format!("{:016x}", random(number)),
            );
            record["requestID"] = format!("{:016x}{:016x}", random(number * 3), random(number * 5)).into();
            record["userAgent"] = format!("agent/{:x}", random(number * 7)).into();
            record
        };
        let records: Vec<Value> = (0..RECORDS).map(record).collect();
        std::fs::write(trail.join(format!("{file}.json")), json!({ "Records": records }).to_string()).unwrap();
        let [trail, lake] = [&trail, &lake].map(|path| path.to_str().unwrap());
        let output = tawny(&["convert", trail, "--lake", lake]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    lake
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Returns the files of a folder and their content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = glob::glob(&format!("{}/**/*", folder.display())).unwrap().flatten().filter(|path| path.is_file());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn entries(lake: &Path) -> Vec<FileEntry> {
    RUNTIME.block_on(Lake::at(lake).transaction_log().files()).unwrap()
}

struct Hunter {
    engine: Engine,
    lake: PathBuf,
}

impl Hunter {
    fn new(lake: &Path) -> Hunter {
        let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).unwrap();
        Hunter { engine, lake: lake.to_path_buf() }
    }

    /// Returns the findings as text, and the excluded files.
    fn hunt(&self) -> (String, Vec<Fault>) {
        let table = PartialLake::new(Lake::at(&self.lake));
        let rule = oracle::rule(WindowKind::Sliding, 2, false);
        let findings = RUNTIME.block_on(hunt::findings(&self.engine, &table, &[rule], Range::default())).unwrap();
        (serde_json::to_string(&findings).unwrap(), table.report().faults)
    }

    /// Reads all columns, and returns the excluded files.
    fn read_all(&self) -> Vec<Fault> {
        let table = PartialLake::new(Lake::at(&self.lake));
        let query =
            Query { sql: "SELECT * FROM cloudtrail", rule: None, range: Range::default(), with_duplicates: true };
        RUNTIME.block_on(query::run(&self.engine, &table, query)).unwrap();
        table.report().faults
    }
}

/// Returns the bytes where the metadata of a file begins: its page indexes, and its footer.
fn regions(entry: &FileEntry, file: &[u8]) -> [std::ops::Range<usize>; 3] {
    let [.., a, b, c, d, _, _, _, _] = *file else { panic!("{} bytes", file.len()) };
    let footer = file.len() - 8 - u32::from_le_bytes([a, b, c, d]) as usize;
    let start = usize::try_from(entry.checksum.start).unwrap();
    [0..start, start..footer, footer..file.len()]
}

/// `TAWNY_FLIPS` sets the number of flips.
#[test]
fn flipped_bit_in_a_lake_file_is_found_wherever_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let lake = write_lake(folder.path());
    let hunter = Hunter::new(&lake);
    let (before, faults) = hunter.hunt();
    assert!(faults.is_empty() && before.len() > 1_000, "{before}");
    assert!(hunter.read_all().is_empty());
    let entries = entries(&lake);
    assert_eq!(entries.len(), 4);
    // The findings without each of the files.
    let without: Vec<String> = entries
        .iter()
        .map(|entry| {
            let (path, kept) = (lake.join(&entry.path), lake.join("kept"));
            std::fs::rename(&path, &kept).unwrap();
            let (findings, faults) = hunter.hunt();
            assert!(faults.len() == 1 && faults[0].reason.contains("missing"), "{faults:?}");
            std::fs::rename(&kept, &path).unwrap();
            findings
        })
        .collect();
    assert!(without.iter().all(|findings| *findings != before));

    let flips = std::env::var("TAWNY_FLIPS").map_or(12, |flips| flips.parse::<u64>().unwrap());
    let (mut found, mut unread) = (0, 0);
    for number in 0..flips {
        let index = usize::try_from(number % 4).unwrap();
        let path = lake.join(&entries[index].path);
        let whole = std::fs::read(&path).unwrap();
        assert!(entries[index].checksum.start > 2 * BLOCK_BYTES, "the file has a few blocks");
        let region = regions(&entries[index], &whole)[usize::try_from(number / 4 % 3).unwrap()].clone();
        let at = region.start + usize::try_from(random(number)).unwrap() % region.len();
        let what = format!("bit {} of byte {at} of {}, {region:?}", number % 8, whole.len());
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (number % 8);
        std::fs::write(&path, &flipped).unwrap();
        let (findings, faults) = hunter.hunt();
        if faults.is_empty() {
            unread += 1;
            assert_eq!(findings, before, "{what}");
        } else {
            found += 1;
            assert!(faults.len() == 1 && faults[0].object == path.display().to_string(), "{what}: {faults:?}");
            assert_eq!(findings, without[index], "{what}");
        }
        let faults = hunter.read_all();
        assert!(faults.len() == 1 && faults[0].object == path.display().to_string(), "{what}: {faults:?}");
        std::fs::write(&path, whole).unwrap();
    }
    assert!(found > 0 && unread + found == flips, "{found} found, {unread} not read");
    assert_eq!(hunter.hunt(), (before, Vec::new()));
}

#[test]
fn lake_file_that_is_not_the_recorded_one_is_named_and_excluded() {
    let folder = tempfile::tempdir().unwrap();
    let lake = write_lake(folder.path());
    let hunter = Hunter::new(&lake);
    let (before, _) = hunter.hunt();
    let entries = entries(&lake);
    let path = |index: usize| lake.join(&entries[index].path);
    let original = content(&lake);
    for (index, entry) in entries.iter().enumerate().skip(2) {
        let (whole, other) = (original[&path(index)].clone(), original[&path((index + 1) % 4)].clone());
        let start = usize::try_from(entry.checksum.start).unwrap();
        let longer = [whole.as_slice(), b"PAR1"].concat();
        // The pages of another file below the right footer, or behind the right header.
        let mixed = [&other[..start.min(other.len())], &whole[start.min(other.len())..]].concat();
        let shapes = [
            ("empty", Some(Vec::new())),
            ("short", Some(whole[..whole.len() - 1].to_vec())),
            ("cut in the pages", Some(whole[..start - 1].to_vec())),
            ("another file", Some(other)),
            ("longer", Some(longer)),
            ("pages of another file", Some(mixed)),
            ("removed", None),
        ];
        for (what, bytes) in shapes {
            match bytes {
                Some(bytes) => std::fs::write(path(index), bytes).unwrap(),
                None => std::fs::remove_file(path(index)).unwrap(),
            }
            let (findings, faults) = hunter.hunt();
            assert!(faults.len() == 1, "{what}: {faults:?}");
            assert_eq!(faults[0].object, path(index).display().to_string(), "{what}");
            assert!(findings != before && findings.len() > 1_000, "{what}: the other files are read");
            std::fs::write(path(index), &whole).unwrap();
        }
    }
    assert_eq!(hunter.hunt(), (before, Vec::new()));

    // All commands that read events.
    let report = folder.path().join("report.html");
    let swapped = original[&path(1)].clone();
    std::fs::write(path(0), swapped).unwrap();
    let damaged = content(&lake);
    let (lake_name, report) = (lake.to_str().unwrap(), report.to_str().unwrap());
    let name = path(0).file_name().unwrap().to_str().unwrap().to_owned();
    let (day_after, last) = ("2026-09-02T06:00:00", path(3));
    let commands: [&[&str]; 5] = [
        &["hunt", lake_name, "--format", "jsonl"],
        &["hunt", lake_name, "--report", report],
        &["query", "SELECT count(*) FROM cloudtrail WHERE \"eventName\" LIKE 'C%'", lake_name],
        &["inspect", lake_name],
        &["backtest", lake_name, "--rule", DEFAULT],
    ];
    for command in commands {
        let output = tawny(command);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {}", said(&output));
        let text = said(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&name), "{command:?}: {text}");
    }
    // A file outside of the range is not read.
    let output = tawny(&["hunt", lake_name, "--from", day_after, "--rule", DEFAULT]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    std::fs::remove_file(&last).unwrap();
    let output = tawny(&["hunt", lake_name, "--from", day_after, "--rule", DEFAULT]);
    assert!(output.status.code() == Some(3) && said(&output).contains("missing"), "{}", said(&output));
    std::fs::write(&last, &original[&last]).unwrap();
    assert_eq!(content(&lake), damaged, "nothing is written or deleted");
}

/// Changes an entry of the transaction log.
type Change<'c> = &'c dyn Fn(&mut FileEntry);

#[test]
fn wrong_sizes_in_the_log_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_lake(folder.path());
    let (hunter, entries, lake) = (Hunter::new(&path), entries(&path), Lake::at(&path));
    let read = |entries: &[FileEntry]| -> Result<usize, Error> {
        let table = engine::lake_table(&hunter.engine, &lake, entries)?;
        let sql = "SELECT \"eventID\" FROM cloudtrail";
        let rows = RUNTIME.block_on(hunter.engine.run("cloudtrail", table, sql));
        Ok(rows.map_err(|error| Error::query("a test", error))?.iter().map(RecordBatch::num_rows).sum())
    };
    assert_eq!(read(&entries).unwrap() as u64, 4 * RECORDS);
    let changes: [(&str, Change); 8] = [
        ("no bytes", &|file| file.bytes = 0),
        ("a byte less", &|file| file.bytes -= 1),
        ("a byte more", &|file| file.bytes += 1),
        ("2^63 bytes", &|file| file.bytes = 1 << 63),
        ("2^64-1 bytes", &|file| file.bytes = u64::MAX),
        ("another number of records", &|file| file.records += 1),
        ("another start", &|file| file.checksum.start += 1),
        ("another checksum", &|file| file.checksum = MetadataChecksum::of(file.checksum.start, b"")),
    ];
    for (what, change) in changes {
        for index in [0, 3] {
            let mut recorded = entries.clone();
            change(&mut recorded[index]);
            let error = read(&recorded).unwrap_err();
            let damaged = DamagedFile::of(&error).unwrap_or_else(|| panic!("{what}: {error}"));
            assert!(damaged.file.ends_with(&entries[index].path), "{what}: {damaged}");
        }
    }
}

/// Returns a part file with the same rows uncompressed, and its entry. Invalid bytes are in its text, or in columns that
/// are not declared as text. Its checksums are right.
fn with_invalid_text(entry: &FileEntry, batches: &[RecordBatch], is_declared: bool) -> (Vec<u8>, FileEntry) {
    let batch = compute::concat_batches(&batches[0].schema(), batches).unwrap();
    let schema = batch.schema();
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 if !is_declared => field.as_ref().clone().with_data_type(DataType::Binary),
        _ => field.as_ref().clone(),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| compute::cast(column, field.data_type()).unwrap()).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let written = |key_values| {
        let properties = WriterProperties::builder().set_key_value_metadata(key_values).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let metadata = writer.close().unwrap();
        let text = b"agent/";
        while let Some(at) = bytes.windows(text.len()).position(|part| part == text) {
            bytes[at..at + 3].fill(0xff);
        }
        let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
        let indexes = columns.flat_map(|column| [column.column_index_offset(), column.offset_index_offset()]);
        (bytes, usize::try_from(indexes.flatten().min().unwrap()).unwrap())
    };
    let (bytes, start) = written(None);
    let blocks = BlockChecksums::of(&bytes[..start]).to_key_value();
    let (bytes, start) = written(Some(vec![blocks]));
    let checksum = MetadataChecksum::of(start as u64, &bytes[start..]);
    let entry = FileEntry { bytes: bytes.len() as u64, checksum, ..entry.clone() };
    (bytes, entry)
}

#[test]
fn lake_file_with_invalid_text_is_refused_even_if_its_checksums_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_lake(folder.path());
    let (hunter, lake) = (Hunter::new(&path), Lake::at(&path));
    let entry = entries(&path).remove(0);
    let file = path.join(&entry.path);
    let reader = ParquetRecordBatchReader::try_new(Bytes::from(std::fs::read(&file).unwrap()), 1_000);
    let batches: Vec<RecordBatch> = reader.unwrap().map(Result::unwrap).collect();
    for is_declared in [true, false] {
        let (bytes, entry) = with_invalid_text(&entry, &batches, is_declared);
        std::fs::write(&file, bytes).unwrap();
        let table = engine::lake_table(&hunter.engine, &lake, &[entry]).unwrap();
        let sql = "SELECT count(DISTINCT \"userAgent\") FROM cloudtrail";
        let error = RUNTIME.block_on(hunter.engine.run("cloudtrail", table, sql)).unwrap_err();
        let said = format!("{error:?}");
        let expected = if is_declared { "non UTF-8" } else { "is not declared as text" };
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name) && said.contains(expected), "{is_declared}: {said}");
    }
}

#[test]
fn compaction_leaves_a_damaged_file_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let lake = write_lake(folder.path());
    let hunter = Hunter::new(&lake);
    let (before, _) = hunter.hunt();
    let entries = entries(&lake);
    let path = lake.join(&entries[1].path);
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 4;
    std::fs::write(&path, &flipped).unwrap();
    let mut files = content(&lake);
    // It changes with each commit.
    files.retain(|path, _| !path.ends_with("_tawny/log/last_commit"));
    let compact = || tawny(&["compact", lake.to_str().unwrap(), "--keep-old", "1s"]);
    for _ in 0..2 {
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        let output = compact();
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains(path.file_name().unwrap().to_str().unwrap()), "{}", said(&output));
        let now = content(&lake);
        assert!(files.iter().all(|(path, bytes)| now.get(path) == Some(bytes)), "nothing is changed or deleted");
    }
    let live: Vec<String> = self::entries(&lake).into_iter().map(|entry| entry.path).collect();
    assert!(live.contains(&entries[1].path) && live.len() == 3, "the other two files of the day are one: {live:?}");
    assert_eq!(hunter.read_all().len(), 1, "the damage is still seen");
    std::fs::write(&path, whole).unwrap();
    let output = compact();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(hunter.hunt(), (before, Vec::new()));
    assert_eq!(self::entries(&lake).len(), 2);
}

#[test]
fn nightly_run_with_a_damaged_lake_file_loses_no_finding() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("trail")).unwrap();
    let config = "lake = 'lake'\n[[source]]\npath = 'trail'\n[rules]\nids = ['RULE']\n[[sink]]\nname = 'files'\nkind = 'files'\nto = 'out'\n";
    std::fs::write(home.path().join("tawny.toml"), config.replace("RULE", DEFAULT)).unwrap();
    let night = |number: usize, minute: usize| {
        let records = json!({ "Records": [failed_sign_in("ann", &format!("2026-09-01T10:{minute:02}:00Z"), &format!("id-{number}"))] });
        std::fs::write(home.path().join(format!("trail/{number}.json")), records.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command.current_dir(home.path()).args(["nightly", "--now", "2026-09-02", "--format", "json"]).output().unwrap()
    };
    let output = night(1, 0);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let pattern = format!("{}/lake/date=*/*.parquet", home.path().display());
    let file = glob::glob(&pattern).unwrap().flatten().next().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&file, flipped).unwrap();
    let output = night(2, 1);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains(file.file_name().unwrap().to_str().unwrap()), "{}", said(&output));
    std::fs::write(&file, whole).unwrap();
    let output = night(3, 2);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["findings"]["new"], 1, "{report}");
}
