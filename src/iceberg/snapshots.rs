//! The metadata file of a table, and which of its snapshots is read.

use std::path::Path;
use std::sync::Arc;

use iceberg::spec::{SchemaRef, Snapshot, SnapshotRef, TableMetadata};
use serde::Deserialize;

use super::refused;
use crate::delta::AsOf;
use crate::error::Error;
use crate::time::Instant;

/// The newest version of the format that this build reads.
const NEWEST_FORMAT: u32 = 3;

/// At most this many snapshots are named where one is not found.
const MOST_NAMED: usize = 5;

/// The member that metadata of all format versions have.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FormatVersionHeader {
    format_version: u32,
}

/// Reads the metadata file at `path`.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<TableMetadata, Error> {
    let invalid = |error: serde_json::Error| refused(path, format!("invalid table metadata: {error}"));
    let FormatVersionHeader { format_version } = serde_json::from_slice(bytes).map_err(invalid)?;
    if !(1..=NEWEST_FORMAT).contains(&format_version) {
        return Err(refused(
            path,
            format!("it has format version {format_version}; this build reads 1 to {NEWEST_FORMAT}"),
        ));
    }
    serde_json::from_slice(bytes).map_err(invalid)
}

/// Returns the snapshot `as_of`. `None` if the table has none yet.
pub(super) fn choose(path: &Path, table: &TableMetadata, as_of: AsOf) -> Result<Option<SnapshotRef>, Error> {
    let found = match as_of {
        AsOf::Latest => return Ok(table.current_snapshot().cloned()),
        AsOf::Version(number) => i64::try_from(number).ok().and_then(|id| table.snapshot_by_id(id)),
        AsOf::Time(time) => {
            // The history says which snapshot was the current one. A snapshot on a branch never was. Of two entries with
            // one time, the later one counts.
            let earlier = table.history().iter().filter(|entry| entry.timestamp_ms <= time.millis());
            let entry = earlier.max_by_key(|entry| entry.timestamp_ms);
            entry.and_then(|entry| table.snapshot_by_id(entry.snapshot_id))
        }
    };
    let missing = || {
        let wanted = match as_of {
            AsOf::Time(time) => format!("as of {time}"),
            AsOf::Version(number) => number.to_string(),
            AsOf::Latest => String::new(),
        };
        Error::Usage {
            message: format!("the table `{}` has no snapshot {wanted}", path.display()),
            hint: Some(known(table.snapshots())),
        }
    };
    found.cloned().map(Some).ok_or_else(missing)
}

fn known<'s>(snapshots: impl Iterator<Item = &'s SnapshotRef>) -> String {
    let mut known: Vec<(i64, i64)> = snapshots.map(|one| (one.timestamp_ms(), one.snapshot_id())).collect();
    known.sort_unstable();
    let newest = known.iter().rev().take(MOST_NAMED);
    let texts = newest.map(|(time, id)| format!("{id} of {}", Instant::from_micros(time.saturating_mul(1_000))));
    match texts.collect::<Vec<_>>().as_slice() {
        [] => "it has no snapshot at all".to_owned(),
        texts => format!("the newest snapshots are {}", texts.join(", ")),
    }
}

/// Returns the schema of `snapshot`: the current one for the current snapshot, else the one it was written with.
pub(super) fn schema(path: &Path, table: &TableMetadata, snapshot: &Snapshot) -> Result<SchemaRef, Error> {
    if table.current_snapshot_id() == Some(snapshot.snapshot_id()) {
        return Ok(Arc::clone(table.current_schema()));
    }
    match snapshot.schema_id() {
        None => Ok(Arc::clone(table.current_schema())),
        Some(id) => {
            let found = table.schema_by_id(id).map(Arc::clone);
            found.ok_or_else(|| refused(path, format!("it lacks the schema {id} of the snapshot")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(log: &str) -> TableMetadata {
        let snapshot = |id: i64| {
            format!(
                r#"{{"snapshot-id": {id}0, "sequence-number": {id}, "timestamp-ms": {id}000, "schema-id": 0,
                    "manifest-list": "/t/metadata/snap-{id}.avro", "summary": {{"operation": "append"}}}}"#
            )
        };
        let text = format!(
            r#"{{"format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "/t",
                "last-sequence-number": 3, "last-updated-ms": 4000, "last-column-id": 2,
                "current-schema-id": 1, "schemas": [{{"schema-id": 0, "type": "struct", "fields": []}},
                    {{"schema-id": 1, "type": "struct", "fields": [{{"id": 1, "name": "a", "required": false,
                        "type": {{"type": "list", "element-id": 2, "element": "string", "element-required": false}}}}]}}],
                "default-spec-id": 0, "partition-specs": [{{"spec-id": 0, "fields": []}}], "last-partition-id": 999,
                "default-sort-order-id": 0, "sort-orders": [{{"order-id": 0, "fields": []}}],
                "current-snapshot-id": 30, "snapshots": [{}, {}, {}], "snapshot-log": [{log}]}}"#,
            snapshot(1),
            snapshot(2),
            snapshot(3),
        );
        parse(Path::new("m.json"), text.as_bytes()).unwrap()
    }

    #[test]
    fn a_snapshot_is_chosen_by_id_or_by_the_history() {
        let table = metadata(
            r#"{"snapshot-id": 10, "timestamp-ms": 1000}, {"snapshot-id": 10, "timestamp-ms": 2000},
               {"snapshot-id": 30, "timestamp-ms": 3000}"#,
        );
        let at = |text: &str| {
            let found = choose(Path::new("m.json"), &table, text.parse().unwrap());
            found.ok().flatten().map(|snapshot| snapshot.snapshot_id())
        };
        assert_eq!(at("20"), Some(20));
        assert_eq!(at("21"), None);
        // Snapshot 20 is on a branch: it was never the current one.
        assert_eq!(at("1970-01-01T00:00:02.500Z"), Some(10));
        assert_eq!(at("1970-01-01T00:00:03Z"), Some(30));
        assert_eq!(at("2026-01-01"), Some(30));
        assert_eq!(at("1970-01-01T00:00:00.999Z"), None);
        let newest = choose(Path::new("m.json"), &table, AsOf::Latest).unwrap().unwrap();
        assert_eq!(newest.snapshot_id(), 30);
        let error = choose(Path::new("m.json"), &table, AsOf::Version(7)).unwrap_err();
        assert_eq!(error.status().code(), 2, "{error}");
        assert!(error.hint().unwrap().contains("30 of 1970-01-01T00:00:03Z, 20 of"), "{:?}", error.hint());
    }

    #[test]
    fn an_old_snapshot_has_its_own_schema() {
        let table = metadata(r#"{"snapshot-id": 30, "timestamp-ms": 3000}"#);
        let path = Path::new("m.json");
        let columns = |as_of: AsOf| {
            let snapshot = choose(path, &table, as_of).unwrap().unwrap();
            schema(path, &table, &snapshot).unwrap().as_struct().fields().len()
        };
        assert_eq!(columns(AsOf::Version(20)), 0);
        assert_eq!(columns(AsOf::Latest), 1);
    }

    #[test]
    fn later_formats_and_other_json_are_refused() {
        for (text, reason) in [
            (r#"{"format-version": 4}"#, "format version 4"),
            (r#"{"format-version": 2}"#, "invalid table metadata"),
            (r#"{"Records": []}"#, "invalid table metadata"),
            ("{", "invalid table metadata"),
        ] {
            let error = parse(Path::new("m.json"), text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(error.status().code(), 3);
        }
    }
}
