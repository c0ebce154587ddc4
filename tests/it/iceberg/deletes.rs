use std::fs;

use arrow::datatypes::{DataType, Field};
use iceberg::spec::{DataContentType, DataFileFormat};
use roaring::RoaringTreemap;
use serde_json::{Value, json};

use super::writer::*;
use crate::tables::*;

/// Writes a file that deletes these rows of `data`.
fn position_deletes(table: &IcebergTable, name: &str, data: &Live, positions: &[i64]) -> Live {
    let name = format!("data/{name}.parquet");
    let rows: Vec<Value> =
        positions.iter().map(|pos| json!({"file_path": data.file.file_path(), "pos": pos})).collect();
    write(&table.folder.join(&name), vec![text("file_path"), Field::new("pos", DataType::Int64, false)], &rows);
    table.live(&name, positions.len(), |file| {
        file.content(DataContentType::PositionDeletes);
    })
}

fn without(positions: &[usize]) -> Vec<Value> {
    let records = records().into_iter().enumerate();
    records.filter(|(position, _)| !positions.contains(position)).map(|(_, record)| record).collect()
}

#[test]
fn deleted_rows_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None);
    let data = table.data("a", &records());
    let whole = table.commit(std::slice::from_ref(&data));
    let first = position_deletes(&table, "d1", &data, &[8, 1]);
    let one = table.commit(&[data.clone(), first.clone()]);
    let second = position_deletes(&table, "d2", &data, &[6]);
    table.commit(&[data.clone(), first.clone(), second.clone()]);
    let expected = raw(folder.path(), &without(&[1, 6, 8]));
    assert_ne!(expected, raw(folder.path(), &without(&[1, 8])));
    assert_eq!(told(&hunt(table.path(), &[])), expected);
    assert_eq!(told(&hunt(table.path(), &["--as-of", &one])), raw(folder.path(), &without(&[1, 8])));
    assert_eq!(told(&hunt(table.path(), &["--as-of", &whole])), raw(folder.path(), &records()));
    let seen = tawny(&["inspect", table.path(), "--format", "json"]);
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(seen["records"], json!(records().len() - 3), "{seen}");

    // Deletes apply to files that are as old or older: the rewritten file has all its rows.
    let rewritten = table.live("data/a.parquet", records().len(), |_| ());
    table.commit(&[rewritten, first, second]);
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records()));

    // A delete file that is damaged anywhere is refused, or deletes rows of the file.
    let file = table.folder.join("data/d2.parquet");
    let whole = fs::read(&file).unwrap();
    let second = table.live("data/d2.parquet", 1, |file| {
        file.content(DataContentType::PositionDeletes);
    });
    table.commit(&[data.clone(), second]);
    for place in (0..whole.len()).step_by(whole.len() / 16) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        fs::write(&file, damaged).unwrap();
        let output = hunt(table.path(), &[]);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{place}: {}", talk(&output));
        assert!(!talk(&output).contains("panicked"), "{place}: {}", talk(&output));
    }

    // A position outside of the file.
    let outside = position_deletes(&table, "d3", &data, &[99]);
    table.commit(&[data, outside]);
    refused(table.path(), "row 99 of");
}

/// Writes a Puffin file with a deletion vector after `before` bytes.
fn deletion_vector(table: &IcebergTable, name: &str, data: &Live, positions: &[u64], before: usize) -> Live {
    let mut content = vec![0xd1, 0xd3, 0x39, 0x64];
    RoaringTreemap::from_iter(positions).serialize_into(&mut content).unwrap();
    let mut checksum = flate2::Crc::new();
    checksum.update(&content);
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let blob = [&length, content.as_slice(), &checksum.sum().to_be_bytes()].concat();
    let name = format!("data/{name}.puffin");
    fs::write(table.folder.join(&name), [vec![7; before], blob.clone()].concat()).unwrap();
    table.live(&name, positions.len(), |file| {
        file.content(DataContentType::PositionDeletes)
            .file_format(DataFileFormat::Puffin)
            .referenced_data_file(Some(data.file.file_path().to_owned()))
            .content_offset(Some(i64::try_from(before).unwrap()))
            .content_size_in_bytes(Some(i64::try_from(blob.len()).unwrap()));
    })
}

#[test]
fn deletion_vectors_replace_position_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None).with_format(3);
    let data = table.data("a", &records());
    table.commit(std::slice::from_ref(&data));
    let vector = deletion_vector(&table, "v1", &data, &[1, 6, 8], 4);
    let older = position_deletes(&table, "d1", &data, &[2]);
    table.commit(&[data.clone(), vector.clone(), older]);
    let expected = raw(folder.path(), &without(&[1, 6, 8]));
    assert_eq!(told(&hunt(table.path(), &[])), expected);

    let second = deletion_vector(&table, "v2", &data, &[3], 0);
    table.commit(&[data.clone(), vector, second]);
    refused(table.path(), "two deletion vectors");

    let vector = deletion_vector(&table, "v4", &data, &[1], 0);
    let newer = table.live("data/a.parquet", records().len(), |_| ());
    let mut older = vector;
    older.sequence_number -= 1;
    table.commit(&[newer, older]);
    refused(table.path(), "is older than the file");

    let vector = deletion_vector(&table, "v3", &data, &[1], 0);
    table.commit(&[data, vector]);
    let file = table.folder.join("data/v3.puffin");
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    fs::write(&file, bytes).unwrap();
    refused(table.path(), "does not have its checksum");
}

#[test]
fn equality_deletes_are_refused_where_they_apply() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = IcebergTable::new(folder.path().join("table"), None);
    let data = table.data("a", &records());
    table.commit(std::slice::from_ref(&data));
    let name = "data/eq.parquet";
    write(
        &table.folder.join(name),
        vec![text("eventID")],
        &[json!({"eventID": "00000000-0000-0000-0000-000000000001"})],
    );
    let equality = table.live(name, 1, |file| {
        file.content(DataContentType::EqualityDeletes).equality_ids(Some(vec![8]));
    });
    table.commit(&[data, equality.clone()]);
    refused(table.path(), "equality deletes are not supported");
    // They apply to older files only.
    let newer = table.data("b", &records());
    table.commit(&[newer, equality]);
    assert_eq!(told(&hunt(table.path(), &[])), raw(folder.path(), &records()));
}
