//! The same records in every kind of data.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::util::display::array_value_to_string;
use serde_json::{Value, json};
use tawny::convert::{Limits, convert};
use tawny::engine::Engine;
use tawny::engine::columnar_table::Columnar;

use tawny::lake::Lake;
use tawny::query::{self, Query};
use tawny::statistics::Duplicates;
use tawny::store::{Scratch, Stores};
use tawny::table::{RawTrail, Table};
use tawny::time::Range;
use tawny::trail::{self, Selection, Trail};

use crate::oracle::RUNTIME;
use crate::tables::{self, columns, lower, rows, text};

/// One trail as raw objects, a lake and another tool's table.
pub(crate) struct Places {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) data: Vec<(&'static str, Box<dyn Table>)>,
}

impl Places {
    /// Writes `records` in objects and files of `size`. The lake holds all of them: no conversion sees a record twice.
    pub(crate) fn of(records: &[Value], size: usize) -> Places {
        let folder = tempfile::tempdir().unwrap();
        let [raw, parts, lake, table] = ["raw", "parts", "lake", "table"].map(|name| folder.path().join(name));
        std::fs::create_dir(&raw).unwrap();
        let mut copies: Vec<Vec<&Value>> = Vec::new();
        for record in records {
            match copies.iter_mut().find(|of_run| !of_run.contains(&record)) {
                Some(of_run) => of_run.push(record),
                None => copies.push(vec![record]),
            }
        }
        for (number, records) in records.chunks(size).enumerate() {
            let object = raw.join(format!("{number:02}.json"));
            std::fs::write(&object, json!({ "Records": records }).to_string()).unwrap();
            let path = table.join(format!("{number:02}.parquet"));
            tables::write(&path, columns(text("eventtime"), false, &lower), &rows(records, false, &lower));
        }
        let lake = Lake::at(&lake);
        let find = |path: &Path| {
            let path = [path.display().to_string()];
            RUNTIME.block_on(Trail::find(&Stores::default(), &path, &Selection::default())).unwrap()
        };
        for (run, records) in copies.iter().enumerate() {
            let part = parts.join(run.to_string());
            std::fs::create_dir_all(&part).unwrap();
            std::fs::write(part.join("a.json"), json!({ "Records": records }).to_string()).unwrap();
            let limits = Limits { threads: 2, memory: 64 << 20, in_flight: 4 };
            let scratch = Scratch::default();
            RUNTIME.block_on(convert(find(&part), &lake, limits, &scratch, &mut |_| {})).unwrap();
        }
        let raw = raw.display().to_string();
        let raw = RawTrail::new(Stores::default(), vec![raw], Selection::default(), 4, Arc::new(|_, _| {}));
        let table = foreign_table(&table);
        let data = vec![("raw", Box::new(raw) as Box<dyn Table>), ("lake", Box::new(lake)), ("table", table)];
        Places { folder, data }
    }

    /// As [`Places::of`], where the other tool's table has all of `userIdentity`, and what else traces read.
    pub(crate) fn with_identities(records: &[Value], size: usize) -> Places {
        let mut places = Places::of(records, size);
        let file = places.folder.path().join("identities/a.parquet");
        let more = ["sharedeventid", "sessioncredentialfromconsole", "serviceeventdetails"].map(text);
        let fields = [columns(text("eventtime"), true, &lower), more.to_vec()].concat();
        let mut all = rows(records, true, &lower);
        for row in &mut all {
            let details = tables::as_text(&row["serviceeventdetails"]);
            row["serviceeventdetails"] = details;
        }
        tables::write(&file, fields, &all);
        places.data[2].1 = foreign_table(file.parent().unwrap());
        places
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// Returns the Parquet files of a folder as a table.
fn foreign_table(folder: &Path) -> Box<dyn Table> {
    let folder = [folder.display().to_string()];
    RUNTIME.block_on(async {
        let files = trail::parquet_files(&Stores::default(), &folder, false).await.unwrap().unwrap();
        Box::new(Columnar::open(&engine(1), &Stores::default(), files, None).await.unwrap()) as Box<dyn Table>
    })
}

/// Removes the version of the table from written findings.
pub(crate) fn without_version(findings: &[u8]) -> String {
    let text = String::from_utf8_lossy(findings);
    regex::Regex::new(r#",\s*"table_version":\s*\d+"#).unwrap().replace_all(&text, "").into_owned()
}

pub(crate) fn engine(threads: usize) -> Engine {
    Engine::new(threads, 256 << 20, &std::env::temp_dir()).unwrap()
}

/// Returns the cells of the result of `sql` over `data`, and the ignored duplicates.
pub(crate) fn answer(sql: &str, data: &dyn Table, range: Range) -> (Vec<Vec<String>>, Option<Duplicates>) {
    ask(data, Query { sql, rule: None, range, with_duplicates: false })
}

pub(crate) fn ask(data: &dyn Table, query: Query<'_>) -> (Vec<Vec<String>>, Option<Duplicates>) {
    let answer = RUNTIME.block_on(query::run(&engine(2), data, query)).unwrap().answer;
    (cells(&answer.rows), answer.duplicates)
}

/// Returns the cells of rows as text; null is empty.
fn cells(rows: &[RecordBatch]) -> Vec<Vec<String>> {
    let cell = |column: &ArrayRef, row| array_value_to_string(column, row).unwrap();
    let of_batch = |batch: &RecordBatch| {
        (0..batch.num_rows())
            .map(|row| batch.columns().iter().map(|column| cell(column, row)).collect())
            .collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_batch).collect()
}
