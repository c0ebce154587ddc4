//! The files of value lists.

use std::path::Path;

use super::sets::{UnsortedValues, index_of};

/// The most values of a list.
const MAX_VALUES: usize = 4_000_000;

impl UnsortedValues {
    /// Returns the values of a file with this text. The error has its line, from 1.
    pub(super) fn read(text: String, file: &Path, column: Option<&str>) -> Result<UnsortedValues, (u64, String)> {
        let mut values = UnsortedValues::default();
        let end = file.extension().unwrap_or_default().to_ascii_lowercase();
        // Some editors begin a text with a mark of its encoding.
        let content = text.strip_prefix('\u{feff}').unwrap_or(&text);
        if ["jsonl", "ndjson", "json"].iter().any(|known| *known == end) {
            values.read_json(content, column)?;
        } else if let Some(column) = column {
            values.read_csv(content, column)?;
        } else if end == "csv" {
            return Err((1, "a CSV file needs the `Column` of the values".to_owned()));
        } else {
            values.find_lines(content, text.len() - content.len())?;
            values.text = text;
        }
        Ok(values)
    }

    /// Adds the places of the lines of `content`, whose first byte is at `start`.
    fn find_lines(&mut self, content: &str, start: usize) -> Result<(), (u64, String)> {
        for (number, line) in (1..).zip(content.lines()) {
            let value = line.trim();
            if value.is_empty() || value.starts_with('#') {
                continue;
            }
            self.check_count(number)?;
            let from = start + (value.as_ptr().addr() - content.as_ptr().addr());
            self.spans.push((index_of(from), index_of(from + value.len())));
        }
        Ok(())
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
                serde_json::Value::String(text) => self.add(number, text.trim())?,
                serde_json::Value::Number(value) => self.add(number, &value.to_string())?,
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
                Ok(true) => self.add(line, record.get(index).unwrap_or_default())?,
                Err(error) => return Err((line, error.to_string())),
            }
        }
    }

    fn add(&mut self, line: u64, value: &str) -> Result<(), (u64, String)> {
        if !value.is_empty() {
            self.check_count(line)?;
            self.push(value);
        }
        Ok(())
    }

    /// Checks that there may be one more value.
    fn check_count(&self, line: u64) -> Result<(), (u64, String)> {
        if self.spans.len() == MAX_VALUES {
            return Err((line, format!("a list has at most {MAX_VALUES} values")));
        }
        Ok(())
    }
}
