//! Chooses the format of a result by the ending of its file.

use std::path::Path;

use clap::ValueEnum;

use super::TableOrJson;
use crate::error::Error;
use crate::report::FindingsFormat;
use crate::report::backtest::BacktestFormat;
use crate::report::query_rows::RowFormat;
use crate::report::timeline::TimelineFormat;
use crate::report::trace::TraceFormat;

/// A format that the ending of a file can choose.
pub(super) trait FormatByEnding: ValueEnum + Copy + PartialEq + Default {
    /// The endings of this format's files. Empty if no ending chooses it.
    fn endings(self) -> &'static [&'static str];

    /// Whether the command writes a page with `--report`.
    const HAS_PAGE: bool = false;
}

impl FormatByEnding for FindingsFormat {
    const HAS_PAGE: bool = true;

    fn endings(self) -> &'static [&'static str] {
        match self {
            FindingsFormat::Table => &[],
            FindingsFormat::Jsonl => JSON_LINES,
            FindingsFormat::Json => JSON,
            FindingsFormat::Csv => CSV,
            FindingsFormat::Parquet => PARQUET,
        }
    }
}

impl FormatByEnding for RowFormat {
    fn endings(self) -> &'static [&'static str] {
        match self {
            RowFormat::Table => &[],
            RowFormat::Jsonl => JSON_LINES,
            RowFormat::Json => JSON,
            RowFormat::Csv => CSV,
            RowFormat::Parquet => PARQUET,
        }
    }
}

impl FormatByEnding for BacktestFormat {
    const HAS_PAGE: bool = true;

    fn endings(self) -> &'static [&'static str] {
        match self {
            BacktestFormat::Table => &[],
            BacktestFormat::Json => JSON,
            BacktestFormat::Csv => CSV,
            BacktestFormat::Junit => XML,
        }
    }
}

impl FormatByEnding for TraceFormat {
    fn endings(self) -> &'static [&'static str] {
        match self {
            TraceFormat::Table => &[],
            TraceFormat::Json => JSON,
            TraceFormat::Html => HTML,
            TraceFormat::Dot => DOT,
        }
    }
}

impl FormatByEnding for TimelineFormat {
    fn endings(self) -> &'static [&'static str] {
        match self {
            TimelineFormat::Table => &[],
            TimelineFormat::Jsonl => JSON_LINES,
            TimelineFormat::Json => JSON,
            TimelineFormat::Csv => CSV,
        }
    }
}

impl FormatByEnding for TableOrJson {
    fn endings(self) -> &'static [&'static str] {
        match self {
            TableOrJson::Table => &[],
            TableOrJson::Json => JSON,
        }
    }
}

const JSON: &[&str] = &["json"];
const JSON_LINES: &[&str] = &["jsonl", "ndjson"];
const CSV: &[&str] = &["csv"];
const PARQUET: &[&str] = &["parquet"];
const XML: &[&str] = &["xml"];
const HTML: &[&str] = &["html", "htm"];
const DOT: &[&str] = &["dot", "gv"];
/// Endings of formats that no command writes. With `--format`, they are names like others.
const OTHERS: &[&str] = &["yaml", "yml", "toml", "xlsx", "pdf", "md", "avro", "orc", "gz", "zst"];

/// Returns the format of a result: the one that `--format` names, else that of the ending of `output`, else the default.
///
/// # Errors
/// The ending belongs to another format than `given`, or to a format that the command does not write.
pub(super) fn chosen<F: FormatByEnding>(given: Option<F>, output: Option<&str>) -> Result<F, Error> {
    let Some((file, ending)) = output.and_then(|file| Some((file, Path::new(file).extension()?.to_str()?))) else {
        return Ok(given.unwrap_or_default());
    };
    let ending = ending.to_ascii_lowercase();
    let others = if given.is_none() { OTHERS } else { &[] };
    let is_known = [JSON, JSON_LINES, CSV, PARQUET, HTML, DOT, XML, others].concat().contains(&ending.as_str());
    let of_ending = F::value_variants().iter().copied().find(|format| format.endings().contains(&ending.as_str()));
    match (given, of_ending) {
        (given, None) if !is_known => Ok(given.unwrap_or_default()),
        (None, Some(format)) => Ok(format),
        (Some(given), Some(format)) if given == format => Ok(given),
        (given, _) => Err(Error::Usage {
            message: match given.map(name) {
                Some(given) => format!("`--format {given}` contradicts the ending of `{file}`"),
                None => format!("this command cannot write the format of `{file}`"),
            },
            hint: Some(if HTML.contains(&ending.as_str()) && F::HAS_PAGE {
                format!("`--report {file}` writes a page")
            } else {
                format!("the endings of its formats are {}; other endings, such as `.txt`, get a table", endings::<F>())
            }),
        }),
    }
}

fn name<F: FormatByEnding>(format: F) -> String {
    format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Returns the endings that choose a format, in backquotes.
fn endings<F: FormatByEnding>() -> String {
    let endings = F::value_variants().iter().flat_map(|format| format.endings());
    endings.map(|ending| format!("`.{ending}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_chooses_the_format_and_a_contradiction_is_refused() {
        use FindingsFormat::{Csv, Json, Jsonl, Parquet, Table};
        let format = |given, file: &str| chosen::<FindingsFormat>(given, Some(file)).ok();
        for (file, expected) in [
            ("a.jsonl", Jsonl),
            ("a.NDJSON", Jsonl),
            ("s3://bucket/a.json", Json),
            ("a.b.csv", Csv),
            ("a.parquet", Parquet),
            ("a.txt", Table),
            ("a.log", Table),
            ("a", Table),
            ("json", Table),
            (".csv", Table),
        ] {
            assert_eq!(format(None, file), Some(expected), "{file}");
            for given in FindingsFormat::value_variants() {
                let is_free = expected == Table;
                let wanted = (is_free || *given == expected).then_some(*given);
                assert_eq!(format(Some(*given), file), wanted, "{given:?} to {file}");
            }
        }
        assert_eq!(chosen::<FindingsFormat>(None, None).unwrap(), Table);
        assert_eq!(chosen::<TableOrJson>(None, Some("a.json")).unwrap(), TableOrJson::Json);
        assert!(chosen::<TableOrJson>(None, Some("a.csv")).is_err());
        assert_eq!(chosen::<BacktestFormat>(None, Some("a.xml")).unwrap(), BacktestFormat::Junit);
        assert_eq!(chosen::<TraceFormat>(None, Some("a.html")).unwrap(), TraceFormat::Html);
        for file in ["a.html", "a.HTM", "a.yaml", "a.dot", "a.json.gz"] {
            assert!(chosen::<FindingsFormat>(None, Some(file)).is_err(), "{file}");
        }
        assert!(
            chosen(Some(FindingsFormat::Jsonl), Some("a.md")).is_ok() && chosen(Some(Table), Some("a.html")).is_err()
        );
        let refused = |file| chosen::<FindingsFormat>(None, Some(file)).unwrap_err();
        assert!(matches!(refused("a.html"), Error::Usage { hint: Some(hint), .. } if hint.contains("--report a.html")));
        assert!(matches!(refused("a.dot"), Error::Usage { hint: Some(hint), .. } if hint.contains(".parquet")));
    }
}
