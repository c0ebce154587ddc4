//! Whole processes over a large trail, compared with decompression, and with DuckDB if Python has it.
//!
//! The trail is generated, or the one in `TAWNY_BENCH_TRAIL`. So is a trail of tiny objects, or the one in
//! `TAWNY_BENCH_TINY_TRAIL`.
#![expect(clippy::expect_used, reason = "a bench that cannot continue ends")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::disallowed_methods, reason = "the location of the data is a setting")]

#[path = "support/process.rs"]
mod process;
#[expect(dead_code, reason = "other benches use more of it")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use process::{ProcessUsage, median};

const TAWNY: &str = env!("CARGO_BIN_EXE_tawny");
/// Objects of the generated trail: two million records.
const OBJECTS: u64 = 400;
/// Objects of the generated trail of tiny objects, and records in each.
const TINY_OBJECTS: u64 = 100_000;
const TINY_RECORDS: u64 = 5;
const ROUNDS: usize = 5;
const RULE: &str = "AWS.Unsuccessful.MFA.attempt";
const THREADS: usize = 2;

/// Failed sign-ins of the raw trail without duplicates.
const FROM_JSON: &str = "
    SELECT record->>'recipientAccountId' AS account, record->>'$.userIdentity.userName' AS actor,
           CAST(record->>'eventTime' AS TIMESTAMP) AS happened, record->>'eventID' AS id
    FROM (SELECT unnest(Records) AS record
          FROM read_json('{data}', columns = {Records: 'JSON[]'}, format = 'unstructured', maximum_object_size = 1000000000))
    WHERE record->>'eventSource' = 'signin.amazonaws.com' AND record->>'eventName' = 'ConsoleLogin'
      AND record->>'$.additionalEventData.MFAUsed' = 'Yes' AND record->>'$.responseElements.ConsoleLogin' = 'Failure'";

/// The same from the lake's files.
const FROM_PARQUET: &str = "
    SELECT \"recipientAccountId\" AS account, \"userIdentity.userName\" AS actor, \"eventTime\" AS happened, \"eventID\" AS id
    FROM read_parquet('{data}')
    WHERE \"eventSource\" = 'signin.amazonaws.com' AND \"eventName\" = 'ConsoleLogin'
      AND \"additionalEventData.MFAUsed\" = 'Yes' AND \"responseElements.ConsoleLogin\" = 'Failure'";

/// Number of bursts of two within a quarter of an hour.
const BURSTS: &str = "
    WITH failed AS (SELECT DISTINCT * FROM ({records})),
    counted AS (SELECT *, count(*) OVER (PARTITION BY account, actor ORDER BY happened
        RANGE BETWEEN INTERVAL 899999999 MICROSECONDS PRECEDING AND CURRENT ROW) AS within FROM failed)
    SELECT count(*) FROM counted WHERE within >= 2";

/// All fields of the raw trail as Parquet columns.
const TO_PARQUET: &str = "
    COPY (SELECT CAST(record->>'eventTime' AS TIMESTAMP) AS happened, {columns}
          FROM (SELECT unnest(Records) AS record
                FROM read_json('{data}', columns = {Records: 'JSON[]'}, format = 'unstructured', maximum_object_size = 1000000000))
          ORDER BY record->>'eventSource', record->>'eventName', happened)
    TO '{to}' (FORMAT parquet, COMPRESSION zstd)";

/// Returns every file below `folder`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn bytes(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| file.metadata().expect("the file is there").len()).sum()
}

/// The control: reads and decompresses every object with tawny's library and number of threads.
fn inflate(files: &[PathBuf]) -> ProcessUsage {
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut inflater = libdeflater::Decompressor::new();
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let bytes = std::fs::read(file).expect("the object can be read");
                    let size = bytes.last_chunk().map_or(0, |size| u32::from_le_bytes(*size));
                    let mut text = vec![0; size as usize];
                    inflater.gzip_decompress(&bytes, &mut text).expect("the object is whole");
                    std::hint::black_box(&text);
                }
            });
        }
    });
    ProcessUsage { time: start.elapsed(), peak: 0, read: bytes(files) }
}

fn tawny(arguments: &[&str]) -> ProcessUsage {
    process::run(Command::new(TAWNY).args(["--quiet", "--threads", &THREADS.to_string()]).args(arguments))
}

/// Returns the Python that has DuckDB.
fn python() -> Option<String> {
    let python = std::env::var("TAWNY_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", "import duckdb"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

fn duckdb(python: &str, query: &str) -> ProcessUsage {
    let program = "import duckdb, sys; duckdb.execute('SET threads = 2'); duckdb.execute(sys.argv[1]).fetchall()";
    process::run(Command::new(python).args(["-c", program, query]))
}

fn row(what: &str, taken: ProcessUsage, to: ProcessUsage) {
    let seconds = |time: Duration| time.as_secs_f64();
    println!(
        "{what:<42} {:>8.3} s {:>8.2} x {:>6} MiB {:>9} KiB read",
        seconds(taken.time),
        seconds(taken.time) / seconds(to.time),
        taken.peak,
        taken.read >> 10
    );
}

/// Runs steps in rounds and prints a row for each; the first is the control.
fn table(title: &str, rounds: usize, works: &[(&str, &dyn Fn() -> ProcessUsage)]) {
    println!("\n{title}");
    let mut runs = vec![Vec::new(); works.len()];
    for _ in 0..rounds {
        for (runs, (_, work)) in runs.iter_mut().zip(works) {
            runs.push(work());
        }
    }
    let medians: Vec<ProcessUsage> = runs.into_iter().map(median).collect();
    for ((what, _), taken) in works.iter().zip(&medians) {
        row(what, *taken, medians[0]);
    }
}

/// Returns the trail in the folder that `variable` names, else one that is generated below `home`.
fn trail_of(variable: &str, home: &Path, objects: u64, records: u64) -> PathBuf {
    let generated = |_| {
        let folder = home.join(variable);
        std::fs::create_dir(&folder).expect("a folder can be made");
        support::write_objects_of(&folder, objects, records);
        folder
    };
    std::env::var(variable).map_or_else(generated, PathBuf::from)
}

/// Converts the trail in `trail` to a new lake in `lake`.
fn convert(trail: &str, lake: &Path) -> ProcessUsage {
    std::fs::remove_dir_all(lake).ok();
    tawny(&["convert", trail, "--lake", &lake.display().to_string()])
}

/// Compares hunts and a conversion of the trail in `trail` with decompression. Converts to `lake`.
fn raw_table(title: &str, trail: &Path, lake: &Path) {
    let mut objects = Vec::new();
    files(trail, &mut objects);
    let trail = trail.display().to_string();
    table(
        title,
        ROUNDS,
        &[
            ("inflate (control)", &|| inflate(&objects)),
            ("hunt the raw trail", &|| tawny(&["hunt", &trail, "--rule", RULE])),
            ("hunt it for all rules", &|| tawny(&["hunt", &trail])),
            ("convert", &|| convert(&trail, lake)),
        ],
    );
}

fn main() {
    let home = tempfile::tempdir().expect("a folder can be made");
    let tiny = trail_of("TAWNY_BENCH_TINY_TRAIL", home.path(), TINY_OBJECTS, TINY_RECORDS);
    raw_table("a raw trail of tiny objects", &tiny, &home.path().join("tiny"));
    let trail = trail_of("TAWNY_BENCH_TRAIL", home.path(), OBJECTS, support::RECORDS);
    raw_table("the raw trail", &trail, &home.path().join("new"));
    let (mut objects, mut parts) = (Vec::new(), Vec::new());
    files(&trail, &mut objects);
    let (trail, lake) = (trail.display().to_string(), home.path().join("lake"));
    let lake_path = lake.display().to_string();
    tawny(&["convert", &trail, "--lake", &lake_path]);
    files(&lake, &mut parts);
    parts.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
    println!(
        "{} objects, {} MiB; the lake {} MiB in {} files = {} % of that",
        objects.len(),
        bytes(&objects) >> 20,
        bytes(&parts) >> 20,
        parts.len(),
        bytes(&parts) * 100 / bytes(&objects).max(1),
    );
    let grid = ["--thresholds", "1..10,15,20", "--periods", "5m,15m,1h,6h,24h", "--windows", "all"];
    let backtest = [&["backtest", &lake_path, "--rule", RULE], grid.as_slice()].concat();
    table(
        "the lake",
        ROUNDS,
        &[
            ("hunt the lake", &|| tawny(&["hunt", &lake_path, "--rule", RULE])),
            ("hunt it for all rules", &|| tawny(&["hunt", &lake_path])),
            ("backtest of 180 windows", &|| tawny(&backtest)),
            ("tawny --version", &|| tawny(&["--version"])),
            ("tawny test of one rule", &|| {
                tawny(&["test", "rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml"])
            }),
        ],
    );
    let Some(python) = python() else {
        println!("\nDuckDB: skipped, no Python that has it (TAWNY_BENCH_PYTHON names one)");
        return;
    };
    let over = |records: &str, data: &str| BURSTS.replace("{records}", &records.replace("{data}", data));
    let (json, parquet) = (format!("{trail}/**/*.gz"), format!("{lake_path}/date=*/*.parquet"));
    table(
        "DuckDB over the lake's files",
        ROUNDS,
        &[
            ("DuckDB", &|| duckdb(&python, &over(FROM_PARQUET, &parquet))),
            ("hunt the lake", &|| tawny(&["hunt", &lake_path, "--rule", RULE])),
        ],
    );
    let columns = "eventSource eventName awsRegion sourceIPAddress userAgent errorCode errorMessage requestID eventID \
                   readOnly eventType managementEvent recipientAccountId eventCategory userIdentity requestParameters \
                   responseElements additionalEventData resources tlsDetails";
    let column = |name: &str| format!("record->>'{name}' AS {name}");
    let columns = columns.split_whitespace().map(column).collect::<Vec<_>>().join(", ");
    let to = home.path().join("duckdb.parquet").display().to_string();
    let copy = TO_PARQUET.replace("{data}", &json).replace("{columns}", &columns).replace("{to}", &to);
    table(
        "DuckDB over the raw trail",
        1,
        &[
            ("DuckDB, the hunt", &|| duckdb(&python, &over(FROM_JSON, &json))),
            ("hunt the raw trail", &|| tawny(&["hunt", &trail, "--rule", RULE])),
            ("DuckDB, to Parquet", &|| duckdb(&python, &copy)),
            ("convert", &|| convert(&trail, &home.path().join("new"))),
        ],
    );
}
