//! The files of value lists.

use std::path::Path;

use super::sets::index_of;

/// The most values of a list.
const MAX_VALUES: usize = 4_000_000;

/// The values of a file in its order.
#[derive(Default)]
pub(super) struct UnsortedValues {
    pub(super) text: String,
    pub(super) ends: Vec<u32>,
}

impl UnsortedValues {
    /// Adds the values of a file. The error has its line, from 1.
    pub(super) fn read(&mut self, text: &str, file: &Path, column: Option<&str>) -> Result<(), (u64, String)> {
        let end = file.extension().unwrap_or_default().to_ascii_lowercase();
        if ["jsonl", "ndjson", "json"].iter().any(|known| *known == end) {
            return self.read_json(text, column);
        }
        match column {
            Some(column) => self.read_csv(text, column),
            None if end == "csv" => Err((1, "a CSV file needs the `Column` of the values".to_owned())),
            None => {
                for (number, line) in (1..).zip(text.lines()) {
                    let line = line.trim();
                    if !line.starts_with('#') {
                        self.push(number, line)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn read_json(&mut self, text: &str, column: Option<&str>) -> Result<(), (u64, String)> {
        if text.trim_start().starts_with('[') {
            return Err((1, "expected one JSON value per line, not an array".to_owned()));
        }
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let json: serde_json::Value = serde_json::from_str(line).map_err(|error| (number, error.to_string()))?;
            let value = match column {
                None => &json,
                Some(column) => match json.get(column) {
                    None => return Err((number, format!("there is no key `{column}`"))),
                    Some(serde_json::Value::Null) => continue,
                    Some(value) => value,
                },
            };
            match value {
                serde_json::Value::String(text) => self.push(number, text.trim())?,
                serde_json::Value::Number(value) => self.push(number, &value.to_string())?,
                _ if column.is_none() => return Err((number, "an object needs a `Column`, its key".to_owned())),
                _ => return Err((number, "a value must be a text or a number".to_owned())),
            }
        }
        Ok(())
    }

    fn read_csv(&mut self, text: &str, column: &str) -> Result<(), (u64, String)> {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| (1, error.to_string()))?.clone();
        let Some(index) = header.iter().position(|name| name == column) else {
            let columns: Vec<String> = header.iter().map(|name| format!("`{name}`")).collect();
            return Err((1, format!("there is no column `{column}`, there are {}", columns.join(", "))));
        };
        let mut record = csv::StringRecord::new();
        loop {
            let line = reader.position().line();
            match reader.read_record(&mut record) {
                Ok(false) => return Ok(()),
                Ok(true) => self.push(line, record.get(index).unwrap_or_default())?,
                Err(error) => return Err((line, error.to_string())),
            }
        }
    }

    fn push(&mut self, line: u64, value: &str) -> Result<(), (u64, String)> {
        if value.is_empty() {
            return Ok(());
        }
        if self.ends.len() == MAX_VALUES {
            return Err((line, format!("a list has at most {MAX_VALUES} values")));
        }
        self.text.push_str(value);
        self.ends.push(index_of(self.text.len()));
        Ok(())
    }
}
