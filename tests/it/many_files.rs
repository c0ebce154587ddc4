//! Many small files: of a lake, as after many interrupted runs, and of a trail.

use std::path::Path;

use serde_json::json;
use tawny::convert::{Limits, convert};
use tawny::engine::Engine;
use tawny::hunt;
use tawny::lake::Lake;
use tawny::rule::catalog;
use tawny::store::{Scratch, Stores};
use tawny::time::Range;
use tawny::trail::{Selection, Trail};

use crate::records::failed_sign_in;

const OBJECTS: usize = 48;

/// Writes an object with one failed MFA sign-in among a hundred calls with long identities.
fn write_object(folder: &Path, number: usize) {
    let long_name = "x".repeat(8_000);
    let records: Vec<serde_json::Value> = (0..100)
        .map(|index| {
            let time = format!("2026-09-01T{:02}:{:02}:00Z", number / 4, number % 4 * 10);
            let mut record = failed_sign_in("anaya", &time, &format!("{number}-{index}"));
            record["userIdentity"]["arn"] = format!("{long_name}{index}").into();
            if index != 50 {
                record["additionalEventData"]["MFAUsed"] = "No".into();
            }
            record
        })
        .collect();
    std::fs::write(folder.join(format!("{number:02}.json")), json!({ "Records": records }).to_string()).unwrap();
}

#[test]
fn memory_does_not_grow_with_files_or_threads() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("trail");
    std::fs::create_dir(&source).unwrap();
    (0..OBJECTS).for_each(|number| write_object(&source, number));
    let lake = Lake::at(&folder.path().join("lake"));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let trail =
            Trail::find(&Stores::default(), &[source.display().to_string()], &Selection::default()).await.unwrap();
        let a_commit_each = Limits { threads: 2, memory: 1, in_flight: 4 };
        convert(trail, &lake, a_commit_each, &Scratch::default(), &mut |_| {}).await.unwrap();
        assert_eq!(lake.files(Range::default()).await.unwrap().len(), OBJECTS);
        let rules = [catalog::default().unwrap()];
        for (threads, mebibytes) in [(2, 24), (48, 64)] {
            let engine = Engine::new(threads, mebibytes << 20, folder.path()).unwrap();
            let data = lake.clone();
            let findings = hunt::findings(&engine, &data, &rules, Range::default()).await.unwrap();
            let found: u64 = findings.iter().map(|finding| finding.count).sum();
            assert_eq!((findings.len(), found), (OBJECTS / 4, OBJECTS as u64), "four per hour, ten minutes apart");
        }
    });
}

/// Small objects are decoded together, and share batches.
#[test]
fn objects_that_are_converted_together_are_counted_alone() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("trail");
    std::fs::create_dir(&source).unwrap();
    for number in 0..150 {
        // Each object repeats a record of the one before it.
        let records =
            [number, number + 1].map(|number| failed_sign_in("ann", "2026-09-01T10:00:00Z", &number.to_string()));
        let text = json!({ "Records": records }).to_string();
        let text = if number == 70 { &text[..text.len() - 9] } else { &text };
        std::fs::write(source.join(format!("{number:03}.json")), text).unwrap();
    }
    let lake = Lake::at(&folder.path().join("lake"));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for (converted, before) in [(149, 0), (0, 149)] {
            let trail =
                Trail::find(&Stores::default(), &[source.display().to_string()], &Selection::default()).await.unwrap();
            let limits = Limits { threads: 2, memory: 1, in_flight: 4 };
            let result = convert(trail, &lake, limits, &Scratch::default(), &mut |_| {}).await.unwrap();
            let (objects, records) = (&result.statistics.objects, &result.statistics.records);
            assert!(result.statistics.balances(), "{:?}", result.statistics);
            assert_eq!((objects.used, objects.already_converted, objects.rejected), (converted, before, 1));
            // Object 69 has the record that 70 repeats, but nothing else has that of 70 which 71 repeats.
            let fresh = if converted > 0 { 151 } else { 0 };
            assert_eq!((records.used, records.duplicates), (fresh, 2 * converted - fresh));
            let unread: Vec<&str> = result.unread.iter().map(|fault| fault.object.as_str()).collect();
            assert!(matches!(unread.as_slice(), [path] if path.ends_with("070.json")), "{unread:?}");
        }
        let files = lake.files(Range::default()).await.unwrap();
        assert_eq!(files.iter().map(|file| file.records).sum::<u64>(), 151);
        assert!((2..150).contains(&files.len()), "{} files", files.len());
    });
}
