//! Input that is made to harm: each is refused by name, or read for what it says; nothing panics.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::flips;
use crate::records::failed_sign_in;
use crate::tables::{self, tawny};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns the messages of a run, which must not have panicked.
fn said(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn in_folder(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), bytes).unwrap();
    folder
}

/// The exit code and the words of a conversion of a folder with nothing but this file.
fn converted(name: &str, bytes: &[u8], options: &[&str]) -> (Option<i32>, String) {
    let (trail, lake) = (in_folder(name, bytes), tempfile::tempdir().unwrap());
    let lake = lake.path().join("lake");
    let arguments = ["convert", trail.path().to_str().unwrap(), "--lake", lake.to_str().unwrap()];
    let output = tawny(&[&arguments, options].concat());
    (output.status.code(), said(&output))
}

#[test]
fn oversized_objects_are_rejected_in_every_compression() {
    let large = json!({ "Records": [{"eventName": "A", "userAgent": "a".repeat(3 << 20)}] }).to_string().into_bytes();
    let packed = gzip(&large);
    let in_two = [gzip(&large[..1 << 20]), gzip(&large[1 << 20..])].concat();
    for (name, bytes) in [("plain.json", &large), ("packed.json.gz", &packed), ("two.json.gz", &in_two)] {
        let (code, text) = converted(name, bytes, &["--max-object-size", "2M"]);
        assert_eq!(code, Some(3), "{name}: {text}");
        assert!(text.contains("more than 2 MiB, the most that `--max-object-size` allows"), "{name}: {text}");
        assert_eq!(converted(name, bytes, &["--max-object-size", "4M"]).0, Some(0), "{name}");
        let folder = in_folder(name, bytes);
        let hunted = tawny(&["hunt", folder.path().to_str().unwrap(), "--max-object-size", "2M"]);
        assert_eq!(hunted.status.code(), Some(3), "{name}: {}", said(&hunted));
    }
    for size in ["0", "2G", "x", "9999999999999T"] {
        assert_eq!(converted("a.json", b"{}", &["--max-object-size", size]).0, Some(2), "{size}");
    }
}

#[test]
fn input_that_expands_in_memory_is_rejected() {
    let list = format!("{{\"Records\":[{}1]}}", "1,".repeat(1 << 21));
    let keys = format!("{{\"eventName\":\"A\"{}}}", ",\"\":1".repeat(1 << 21));
    for (text, name) in [(list, "list.json"), (keys, "keys.json")] {
        let (code, told) = converted(name, text.as_bytes(), &[]);
        assert_eq!(code, Some(3), "{told}");
        assert!(told.contains("more than 2097152 values side by side"), "{told}");
    }
    let wrapped = json!({ "message": "a".repeat((16 << 20) + 1) }).to_string();
    let (code, told) = converted("wrapped.json", wrapped.as_bytes(), &[]);
    assert!(code == Some(3) && told.contains("record 1: wraps a text of more than 16 MiB"), "{told}");
}

#[test]
fn many_invalid_lines_cost_no_more_than_valid_ones() {
    let lines = "{\"eventName\":\n{\"eventName\":\"A\"}\n".repeat(40_000);
    let (code, told) = converted("lines.json", lines.as_bytes(), &[]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("80000 read = 1 converted + 39999 duplicates + 40000 rejected"), "{told}");
    assert!(told.contains("line 3: not JSON"), "{told}");
}

#[test]
fn unusual_records_keep_their_values() {
    let nested = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let many = (0..50_000).map(|key| format!("\"k{key}\":{key}")).collect::<Vec<_>>().join(",");
    let parameters = [
        ("nested", nested),
        ("large", json!({ "blob": "a".repeat(256 << 10) }).to_string()),
        ("exact", r#"{"n":9007199254740993,"m":1e400,"l":-0.0}"#.to_owned()),
        ("cases", r#"{"tag":"x","Tag":"y","TAG":"z"}"#.to_owned()),
        ("twice", r#"{"tag":"first","tag":"second"}"#.to_owned()),
        ("nul", r#"{"tag":"a\u0000b"}"#.to_owned()),
        ("half", r#"{"tag":"\ud800!"}"#.to_owned()),
        ("many", format!("{{{many},\"tag\":\"last\"}}")),
        ("bytes", "{\"tag\":\"@\"}".to_owned()),
    ];
    let record = |(id, parameters): &(&str, String)| {
        format!(
            r#"{{"eventTime":"2026-09-01T00:00:00Z","eventName":"A","eventID":"{id}","requestParameters":{parameters}}}"#
        )
    };
    let text = format!("{{\"Records\":[{}]}}", parameters.iter().map(record).collect::<Vec<_>>().join(","));
    let mut bytes = text.into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'@').unwrap();
    bytes[at] = 0xff;
    let trail = in_folder("odd.json", &bytes);
    let lake = trail.path().join("lake");
    let (source, lake) = (trail.path().join("odd.json"), lake.to_str().unwrap());
    let output = tawny(&["convert", source.to_str().unwrap(), "--lake", lake]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("1 invalid UTF-8 sequences were replaced"), "{}", said(&output));
    let sql = r#"SELECT "eventID" AS id, text_at("requestParameters", 'tag') AS tag, text_at("requestParameters", 'Tag') AS upper,
        text_at("requestParameters", 'n') AS n, text_at("requestParameters", 'm') AS m, length("requestParameters") AS length
        FROM cloudtrail ORDER BY 1"#;
    for data in [source.to_str().unwrap(), lake] {
        let output = tawny(&["query", sql, data, "--format", "json"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let of = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id}"));
        assert_eq!(rows.len(), parameters.len());
        assert_eq!((&of("exact")["n"], &of("exact")["m"]), (&json!("9007199254740993"), &json!("0.1e401")));
        assert_eq!((&of("cases")["tag"], &of("cases")["upper"]), (&json!("x"), &json!("y")));
        assert_eq!(of("twice")["tag"], "first");
        assert_eq!(of("nul")["tag"], "a\0b");
        assert_eq!(of("half")["tag"], "\u{fffd}!");
        assert_eq!(of("bytes")["tag"], "\u{fffd}");
        assert_eq!(of("many")["tag"], "last");
        assert_eq!(of("nested")["length"], 60_001);
        assert_eq!(of("large")["length"], (256 << 10) + 11);
    }
}

#[test]
#[cfg(unix)]
fn file_names_cannot_inject_terminal_escapes_or_lines() {
    use std::os::unix::ffi::OsStrExt as _;

    let folder = tempfile::tempdir().unwrap();
    for name in [&b"a\x1b[31m.json"[..], b"b\nerror: forged.json", b"c\xff.json", b"d\r\x07.json"] {
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), "{").unwrap();
    }
    std::os::unix::fs::symlink("loop.json", folder.path().join("loop.json")).unwrap();
    std::os::unix::fs::symlink("y", folder.path().join("x")).unwrap();
    std::os::unix::fs::symlink("x", folder.path().join("y")).unwrap();
    let place = folder.path().to_str().unwrap();
    let lake = tempfile::tempdir().unwrap();
    for arguments in [&["hunt", place][..], &["convert", place, "--lake", lake.path().to_str().unwrap()]] {
        let output = tawny(arguments);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("7 read = 0") && text.contains("\\u{1b}[31m") && text.contains("\\u{a}error: forged"));
        assert!(!text.contains(['\u{1b}', '\r', '\u{7}']) && !text.lines().any(|line| line.starts_with("error")));
    }
    let missing = tawny(&["hunt", "no\u{1b}[31m such"]);
    assert!(missing.status.code() == Some(2) && !said(&missing).contains('\u{1b}'), "{}", said(&missing));
    let unwritable = tawny(&["hunt", "tests/data/trail", "-o", "/dev/null/a\u{1b}\nb"]);
    assert!(unwritable.status.code() == Some(2) && !said(&unwritable).contains('\u{1b}'), "{}", said(&unwritable));
    assert!(said(&unwritable).contains("/dev/null/a\\u{1b}\\u{a}b"), "{}", said(&unwritable));
}

/// Changes the JSON of a file.
fn change(path: &Path, change: &dyn Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn transaction_log_and_state_paths_stay_in_their_folders() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("trail")).unwrap();
    let records = [("10:00", 1), ("10:01", 2)]
        .map(|(time, id)| failed_sign_in("ann", &format!("2026-09-01T{time}:00Z"), &id.to_string()));
    std::fs::write(home.path().join("trail/a.json"), json!({ "Records": records }).to_string()).unwrap();
    let config = "lake = 'lake'\n[[source]]\npath = 'trail'\n[[sink]]\nname = 'files'\nkind = 'files'\nto = 'out'\n";
    std::fs::write(home.path().join("tawny.toml"), config).unwrap();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_tawny")).current_dir(home.path()).args(arguments).output().unwrap()
    };
    assert_eq!(run(&["nightly"]).status.code(), Some(0));
    assert_eq!(run(&["hunt", "lake"]).status.code(), Some(0));
    let outside = home.path().join("outside.parquet");
    std::fs::write(&outside, "keep").unwrap();

    // Another program may write any commit.
    let commit = home.path().join("lake/_delta_log/00000000000000000002.json");
    let outside_paths = ["../outside.parquet", "/etc/passwd", "date=2026-09-01/../../outside.parquet"];
    for path in outside_paths {
        let action = |name: &str, with: Value| {
            let mut action = json!({
                "path": path, "partitionValues": { "date": "2026-09-01" }, "size": 4, "modificationTime": 0,
                "deletionTimestamp": 0, "dataChange": true, "stats": "{\"numRecords\":1}",
            });
            action.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
            json!({ name: action })
        };
        let list = json!([path]).to_string();
        for (changed, commands) in [
            (action("add", json!({})), &["hunt", "compact", "convert"][..]),
            (action("remove", json!({ "extendedFileMetadata": false })), &["compact"]),
            (
                json!({ "domainMetadata": {
                    "domain": "tawny.objects.unknown", "configuration": list, "removed": false,
                } }),
                &["convert"],
            ),
        ] {
            let info = json!({ "commitInfo": { "engineInfo": "other", "inCommitTimestamp": 4_000_000_000_000_i64 } });
            std::fs::write(&commit, format!("{info}\n{changed}\n")).unwrap();
            for command in commands {
                let arguments: &[&str] = match *command {
                    "convert" => &["convert", "trail", "--lake", "lake"],
                    "compact" => &["compact", "lake", "--keep-old", "1s"],
                    _ => &["hunt", "lake"],
                };
                let output = run(arguments);
                assert_eq!(output.status.code(), Some(3), "{changed} {command}: {}", said(&output));
                let reasons = ["which is not in a `date=…` folder", "is not the name of an object list"];
                assert!(reasons.iter().any(|reason| said(&output).contains(reason)), "{}", said(&output));
            }
            std::fs::remove_file(&commit).unwrap();
        }
    }
    let states = glob::glob(&format!("{}/lake/_tawny/nightly/*/*.json", home.path().display())).unwrap();
    let state = states.flatten().max().unwrap();
    change(&state, &|state| {
        for (_, day) in state["known"].as_object_mut().unwrap() {
            day["file"] = "../../../../../outside.parquet".into();
        }
    });
    let output = run(&["nightly"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("which is not a path within the folder of the state"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "keep");
}

#[test]
fn corrupt_parquet_is_named_and_affects_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.parquet");
    tables::write_as_spelt(&good, &tables::records());
    let bytes = std::fs::read(&good).unwrap();
    let footer = |length: u32| [&bytes[..bytes.len() - 8], &length.to_le_bytes(), b"PAR1"].concat();
    let lies = [
        ("cut", bytes[..bytes.len() / 2].to_vec()),
        ("end", bytes[..bytes.len() - 3].to_vec()),
        ("text", b"neither here nor there".to_vec()),
        ("nothing", Vec::new()),
        ("magic", b"PAR1PAR1".to_vec()),
        ("far", footer(u32::MAX - 7)),
        ("none", footer(0)),
    ];
    let hunt = || tawny(&["hunt", folder.path().to_str().unwrap(), "--format", "jsonl"]);
    let alone = hunt();
    assert_eq!(alone.status.code(), Some(0), "{}", said(&alone));
    let lying = folder.path().join("lying.parquet");
    for (name, lie) in lies {
        std::fs::write(&lying, lie).unwrap();
        let output = hunt();
        assert_eq!(output.status.code(), Some(3), "{name}: {}", said(&output));
        assert!(said(&output).contains("lying.parquet"), "{name}: {}", said(&output));
        assert_eq!(output.stdout, alone.stdout, "{name}");
    }
    // In the footer, which holds sizes and offsets, and in pages.
    let (intact, mut compared) = (flips::records_in(&good).unwrap(), 0);
    for number in 0..16 {
        let mut flipped = bytes.clone();
        let at = if number % 4 == 0 { number * bytes.len() / 16 } else { bytes.len() - 9 - number * 97 };
        flipped[at] ^= 1 << (number % 8);
        std::fs::write(&lying, flipped).unwrap();
        let output = hunt();
        match output.status.code() {
            Some(3) => {
                assert!(said(&output).contains("lying.parquet"), "{at}: {}", said(&output));
                assert_eq!(output.stdout, alone.stdout, "{at}: the other file is hunted, and no more");
            }
            // Its columns have other types than those of the other file: no table holds both.
            Some(2) => assert!(output.stdout.is_empty(), "{at}: {}", said(&output)),
            code => {
                assert_eq!(code, Some(0), "{at}: {}", said(&output));
                // The same records twice, except the records that the bit changed.
                if let Some(read) = flips::records_in(&lying) {
                    compared += 1;
                    flips::check(&format!("byte {at}"), &alone, &output, &flips::changed(&intact, &read));
                }
            }
        }
    }
    assert!(compared > 2, "{compared}");
}

#[test]
fn missing_lake_file_is_reported_once_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let path = lake.to_str().unwrap();
    assert!(tawny(&["convert", "tests/data/trail", "--lake", path]).status.success());
    let file = glob::glob(&format!("{path}/date=*/*.parquet")).unwrap().flatten().next().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let damages: [&dyn Fn(); 2] =
        [&|| std::fs::write(&file, &whole[..whole.len() / 2]).unwrap(), &|| std::fs::remove_file(&file).unwrap()];
    for damage in damages {
        damage();
        for command in [&["hunt"][..], &["inspect"], &["query", "SELECT * FROM cloudtrail"]] {
            let output = tawny(&[command, &[path]].concat());
            assert_eq!(output.status.code(), Some(3), "{command:?}: {}", said(&output));
            // An inspection names it in its table.
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
            let name = file.file_name().unwrap().to_str().unwrap();
            assert_eq!(said.matches(name).count(), 1, "{command:?}: {said}");
            assert!(said.contains("restore it"), "{command:?}: {said}");
        }
    }
}

#[test]
fn rules_that_expand_in_memory_are_refused() {
    let rule = std::fs::read_to_string("rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml").unwrap();
    let sigma =
        "title: x\nlogsource: {product: aws, service: cloudtrail}\ndetection: {s: {eventName: A}, condition: s}\n";
    let mut bomb = "x0: &x0 [a, b]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*x{}", level - 1); 9].join(",");
        bomb = format!("{bomb}x{level}: &x{level} [{aliases}]\n");
    }
    let texts = format!("x: &x '{}'\ny: [{}*x]\n", "a".repeat(100_000), "*x,".repeat(5_000));
    let deep = format!("x: {}{}\n", "[".repeat(20_000), "]".repeat(20_000));
    let keys = (0..60_000).map(|key| format!("k{key}: 1\n")).collect::<Vec<_>>().concat();
    for (text, reason) in [
        (format!("{bomb}{rule}"), "more than 100000 values"),
        (format!("{texts}{rule}"), "hold more than 4 MiB together"),
        (format!("{deep}{rule}"), "recursion limit exceeded"),
        (format!("{keys}{rule}"), "more than 100000 values"),
        (format!("{rule}Description2: {}\n", "a".repeat(10 << 20)), "it holds more than 4 MiB"),
        (format!("{sigma}description: {}\n", "a".repeat(10 << 20)), "it holds more than 4 MiB"),
        (format!("{bomb}{sigma}"), "more than 100000 values"),
        (format!("{texts}{sigma}"), "hold more than 4 MiB together"),
        (format!("{deep}{sigma}"), "recursion limit exceeded"),
        (
            sigma.replace("condition: s", &format!("condition: '{}s{}'", "(".repeat(50_000), ")".repeat(50_000))),
            "too long",
        ),
        (sigma.replace("condition: s", &format!("condition: '{}s'", "not ".repeat(50_000))), "more than 64 `not`s"),
        (sigma.replace("eventName: A", "'eventName|re': '((a{999}){999}){999}'"), "exceeds size limit"),
    ] {
        let folder = in_folder("rule.yml", text.as_bytes());
        let output = tawny(&["rules", "lint", folder.path().join("rule.yml").to_str().unwrap()]);
        let start: String = text.chars().take(60).collect();
        assert_eq!(output.status.code(), Some(2), "{start}: {}", said(&output));
        assert!(said(&output).contains(reason), "{start}: {}", said(&output));
    }
}

#[test]
fn query_without_objects_exits_0() {
    let folder = in_folder("a.json", br#"{"eventName":"A"}"#);
    let query =
        |folder: &Path| tawny(&["query", "SELECT \"eventName\" FROM cloudtrail WHERE false", folder.to_str().unwrap()]);
    let output = query(folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let empty = tempfile::tempdir().unwrap();
    let output = query(empty.path());
    assert!(output.status.code() == Some(3) && said(&output).contains("no objects found"), "{}", said(&output));
}
