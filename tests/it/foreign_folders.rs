//! Folders with data of other programs: a lake is never written into them, and they are never listed unseen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::records::failed_sign_in;
use crate::s3_server::Server;

fn tawny(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tawny")).args(arguments).output().unwrap()
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write_trail(folder: &Path, users: &[&str]) -> String {
    let records: Vec<Value> = users
        .iter()
        .flat_map(|user| ["0", "1"].map(|minute| (user, minute)))
        .map(|(user, minute)| {
            failed_sign_in(user, &format!("2026-09-01T10:0{minute}:00Z"), &format!("{user}-{minute}"))
        })
        .collect();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("a.json"), json!({ "Records": records }).to_string()).unwrap();
    folder.display().to_string()
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let found = glob::glob(&format!("{}/**/*", folder.display())).unwrap().flatten().filter(|path| path.is_file());
    found.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in files(from) {
        let path = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn lake_is_not_written_into_the_folder_of_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(&folder.path().join("trail"), &["ada"]);
    let delta = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"a","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{},"createdTime":0}}
"#;
    for (file, text, expected) in [
        ("metadata/v1.metadata.json", "{}", "an Iceberg table of another program"),
        (".hoodie/hoodie.properties", "a=b", "a Hudi table of another program"),
        ("_delta_log/00000000000000000000.json", delta, "a Delta table of another program"),
        ("day=1/part-0.parquet", "PAR1", "Parquet files of another program, such as `day=1/part-0.parquet`"),
        ("date=2026-09-01/part-0.parquet", "PAR1", "such as `date=2026-09-01/part-0.parquet`"),
    ] {
        let table = folder.path().join(file.replace('/', "_"));
        let lake = table.display().to_string();
        std::fs::create_dir_all(table.join(file).parent().unwrap()).unwrap();
        std::fs::write(table.join(file), text).unwrap();
        let config = folder.path().join("tawny.toml");
        std::fs::write(&config, format!("lake = '{lake}'\n[[source]]\npath = '{trail}'\n")).unwrap();
        for command in [
            &["convert", &trail, "--lake", &lake][..],
            &["nightly", "--config", config.to_str().unwrap(), "--now", "2026-09-05T00:00:00Z"],
        ] {
            let refused = tawny(command);
            assert_eq!(refused.status.code(), Some(2), "{file} {command:?}: {}", talk(&refused));
            assert!(talk(&refused).contains(expected), "{file} {command:?}: {}", talk(&refused));
            assert_eq!(files(&table).len(), 1, "{file}: nothing is written");
        }
    }
}

#[test]
fn log_of_another_lake_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, users) in [("own", &["ada", "bob"][..]), ("other", &["eve"])] {
        let trail = write_trail(&at(&format!("{name}-trail")), users);
        let lake = at(name).display().to_string();
        assert_eq!(tawny(&["convert", &trail, "--lake", &lake]).status.code(), Some(0));
    }
    let log = "_delta_log";
    for swapped in [&["00000000000000000000.json"][..], &["00000000000000000001.json"], &[]] {
        let lake = at(&format!("mixed{}", swapped.first().unwrap_or(&"")));
        copy(&at("own"), &lake);
        if let [name] = swapped {
            std::fs::copy(at("other").join(log).join(name), lake.join(log).join(name)).unwrap();
        } else {
            std::fs::remove_dir_all(lake.join(log)).unwrap();
            copy(&at("other").join(log), &lake.join(log));
        }
        copy(&at("other").join("date=2026-09-01"), &lake.join("date=2026-09-01"));
        let before = files(&lake);
        let name = lake.display().to_string();
        for command in [&["hunt", &name][..], &["compact", &name, "--keep-old", "1s"]] {
            let refused = tawny(command);
            assert_eq!(refused.status.code(), Some(3), "{swapped:?} {command:?}: {}", talk(&refused));
            assert!(refused.stdout.is_empty(), "{swapped:?} {command:?}");
        }
        assert_eq!(files(&lake), before, "{swapped:?}");
    }
}

#[test]
fn lake_in_a_bucket_that_lost_its_log_is_not_begun_anew() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(&folder.path().join("trail"), &["ada"]);
    std::fs::create_dir_all(server.file("lake", "deep/er")).unwrap();
    let lake = "s3://lake/deep/er";
    let convert = ["convert", &trail, "--lake", lake];
    assert_eq!(server.tawny(&convert).status.code(), Some(0));
    for lost in ["_delta_log", "_tawny"] {
        std::fs::remove_dir_all(server.file("lake", &format!("deep/er/{lost}"))).unwrap();
    }
    let refused = server.tawny(&convert);
    assert_eq!(refused.status.code(), Some(3), "{}", talk(&refused));
    assert!(talk(&refused).contains("_delta_log"), "{}", talk(&refused));

    // Objects with other names are ignored, in letters of any language.
    std::fs::create_dir_all(server.file("lake", "other")).unwrap();
    std::fs::write(server.file("lake", "other/été.txt"), "a note").unwrap();
    let other = server.tawny(&["convert", &trail, "--lake", "s3://lake/other"]);
    assert_eq!(other.status.code(), Some(0), "{}", talk(&other));
}

#[test]
fn exported_sql_never_lists_the_files_of_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let trail = write_trail(&folder.path().join("trail"), &["ada"]);
    let lake = folder.path().join("lake").display().to_string();
    assert_eq!(tawny(&["convert", &trail, "--lake", &lake]).status.code(), Some(0));
    let delta = folder.path().join("delta");
    std::fs::create_dir_all(delta.join("_delta_log")).unwrap();
    let sql = |data: &str| tawny(&["sql", "AWS.Unsuccessful.MFA.attempt", "--dialect", "duckdb", "--data", data]);
    assert_eq!(sql(&format!("{lake}/")).status.code(), Some(0));
    for data in [
        format!("{lake}/**/*.parquet"),
        format!("{lake}/date=*/*.parquet"),
        format!("{lake}/date=2026-09-01/"),
        format!("{}/", delta.display()),
        format!("{}/*.parquet", delta.display()),
    ] {
        let refused = sql(&data);
        assert_eq!(refused.status.code(), Some(2), "{data}: {}", talk(&refused));
        assert!(talk(&refused).contains("lists files of"), "{data}: {}", talk(&refused));
    }
    let plain = folder.path().join("plain");
    std::fs::create_dir_all(&plain).unwrap();
    assert_eq!(sql(&format!("{}/*.parquet", plain.display())).status.code(), Some(0));
}

#[test]
fn pattern_that_ends_with_two_asterisks_means_everything_below() {
    let folder = tempfile::tempdir().unwrap();
    write_trail(folder.path(), &["ada"]);
    write_trail(&folder.path().join("deep/er"), &["bob"]);
    for pattern in ["**", "deep/**", "de*/**", "deep/er/**"] {
        let pattern = format!("{}/{pattern}", folder.path().display());
        let output = tawny(&["hunt", &pattern, "--format", "jsonl"]);
        assert_eq!(output.status.code(), Some(0), "{pattern}: {}", talk(&output));
        let found = String::from_utf8(output.stdout).unwrap().lines().count();
        assert_eq!(found, if pattern.contains("/de") { 1 } else { 2 }, "{pattern}");
    }
}
