//! The SQL of other engines: how each writes the expressions that a hunt needs.

use std::fmt;

use super::quote::{Ident, Literal};
use crate::text::{has_hidden, replace_hidden};

pub mod export;
mod identity;
mod predicate;
mod time_part;

/// An engine's SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// DuckDB
    Duckdb,
    /// Amazon Athena, version 3 of its engine, and Trino
    Athena,
    /// Spark SQL and Databricks
    Spark,
    /// `ClickHouse`
    Clickhouse,
}

use Dialect::{Athena, Clickhouse, Duckdb, Spark};

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Duckdb => "duckdb",
            Athena => "athena",
            Spark => "spark",
            Clickhouse => "clickhouse",
        })
    }
}

/// A string value in a dialect.
struct Quoted<'t>(Dialect, &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quoted(dialect, text) = self;
        let escaped = match dialect {
            Duckdb => return Literal(text).fmt(f),
            Athena if !has_hidden(text) => return Literal(text).fmt(f),
            Athena => {
                let text = text.replace('\'', "''").replace('\\', "\\\\");
                return write!(f, "U&'{}'", replace_hidden(&text, |c| format!("\\+{:06X}", u32::from(c))));
            }
            // Spark puts variables in place of `${…}`, also within a string.
            Spark => text.replace('\\', "\\\\").replace('\'', "\\'").replace('$', "\\u0024"),
            Clickhouse => text.replace('\\', "\\\\").replace('\'', "\\'"),
        };
        let hidden = |c: char| match dialect {
            Clickhouse => {
                c.encode_utf8(&mut [0; 4]).bytes().fold(String::new(), |text, byte| format!("{text}\\x{byte:02X}"))
            }
            _ => format!("\\U{:08X}", u32::from(c)),
        };
        write!(f, "'{}'", replace_hidden(&escaped, hidden))
    }
}

/// A column's or a table's name in a dialect.
struct Name<'t>(Dialect, &'t str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name(dialect, name) = self;
        match dialect {
            Duckdb | Athena => Ident((*name).to_owned()).fmt(f),
            Spark => write!(f, "`{}`", name.replace('`', "``")),
            Clickhouse => write!(f, "`{}`", name.replace('\\', "\\\\").replace('`', "\\`")),
        }
    }
}

impl Dialect {
    fn quoted(self, text: &str) -> String {
        Quoted(self, text).to_string()
    }

    fn name(self, name: &str) -> String {
        Name(self, name).to_string()
    }

    /// Some strings, with commas between them.
    fn list(self, texts: &[&str]) -> String {
        texts.iter().map(|text| self.quoted(text)).collect::<Vec<_>>().join(", ")
    }

    fn keys(self, keys: &[&str]) -> String {
        let path = |open: &str, close: &str| {
            format!("${}", keys.iter().flat_map(|key| [open, key, close]).collect::<String>())
        };
        match self {
            Duckdb => self.quoted(&path(".\"", "\"")),
            Athena => self.quoted(&path("[\"", "\"]")),
            // Plain keys cannot hold a variable, and Spark reads paths without escapes.
            Spark => format!("'{}'", path(".", "")),
            Clickhouse => self.list(keys),
        }
    }

    /// The string below `keys` in the JSON text `json`; null if there is anything else. Spark cannot distinguish strings
    /// from other values: there it is the text of any value.
    fn string(self, json: &str, keys: &[&str]) -> String {
        let path = self.keys(keys);
        match self {
            Duckdb => {
                let text = format!("TRY_CAST({json} AS JSON)");
                format!("CASE WHEN json_type({text}, {path}) = 'VARCHAR' THEN json_extract_string({text}, {path}) END")
            }
            Athena => format!(
                "CASE WHEN starts_with(json_format(json_extract({json}, {path})), '\"') THEN json_extract_scalar({json}, {path}) END"
            ),
            Spark => format!("get_json_object({json}, {path})"),
            Clickhouse => {
                let json = format!("ifNull({json}, '')");
                format!("CASE WHEN JSONType({json}, {path}) = 'String' THEN JSONExtractString({json}, {path}) END")
            }
        }
    }

    /// Whether [`Dialect::string`] returns only strings.
    fn distinguishes_strings(self) -> bool {
        self != Spark
    }

    /// The boolean, in the text of a string or as one, below `keys`.
    fn flag_or_string(self, json: &str, keys: &[&str]) -> String {
        let path = self.keys(keys);
        match self {
            Duckdb => format!("json_extract_string(TRY_CAST({json} AS JSON), {path})"),
            Athena => format!("json_extract_scalar({json}, {path})"),
            Spark => format!("get_json_object({json}, {path})"),
            Clickhouse => {
                let json = format!("ifNull({json}, '')");
                format!(
                    "CASE JSONType({json}, {path}) WHEN 'String' THEN JSONExtractString({json}, {path}) WHEN 'Bool' THEN JSONExtractRaw({json}, {path}) END"
                )
            }
        }
    }

    /// Whether there is anything but null below `keys`.
    fn present(self, json: &str, keys: &[&str]) -> String {
        let path = self.keys(keys);
        match self {
            Duckdb => format!("json_type(TRY_CAST({json} AS JSON), {path}) <> 'NULL'"),
            Athena => format!("json_format(json_extract({json}, {path})) <> 'null'"),
            Spark => format!("get_json_object({json}, {path}) IS NOT NULL"),
            Clickhouse => format!("JSONType(ifNull({json}, ''), {path}) <> 'Null'"),
        }
    }

    /// Whether there is a list below `keys` with one of these strings. No number or boolean has one of them as its text.
    fn has_any(self, json: &str, keys: &[&str], texts: &[&str]) -> String {
        let (path, list) = (self.keys(keys), self.list(texts));
        match self {
            Duckdb => {
                let all = self.quoted(&format!("{}[*]", path.trim_matches('\'')));
                format!("list_has_any(json_extract_string(TRY_CAST({json} AS JSON), {all}), [{list}])")
            }
            Athena => format!(
                "any_match(TRY_CAST(json_extract({json}, {path}) AS array(json)), element -> json_extract_scalar(element, '$') IN ({list}))"
            ),
            Spark => {
                format!("arrays_overlap(from_json(get_json_object({json}, {path}), 'array<string>'), array({list}))")
            }
            Clickhouse => format!(
                "arrayExists(element -> JSONExtractString(element) IN ({list}), JSONExtractArrayRaw(ifNull({json}, ''), {path}))"
            ),
        }
    }

    fn lower(self, text: &str) -> String {
        format!("{}({text})", if self == Clickhouse { "lowerUTF8" } else { "lower" })
    }

    fn starts_with(self, text: &str, start: &str) -> String {
        match self {
            Duckdb | Athena => format!("starts_with({text}, {start})"),
            Spark => format!("startswith({text}, {start})"),
            Clickhouse => format!("startsWith({text}, {start})"),
        }
    }

    fn ends_with(self, text: &str, end: &str) -> String {
        match self {
            Duckdb => format!("ends_with({text}, {end})"),
            Athena => format!("starts_with(reverse({text}), reverse({end}))"),
            Spark => format!("endswith({text}, {end})"),
            Clickhouse => format!("endsWith({text}, {end})"),
        }
    }

    fn contains(self, text: &str, part: &str) -> String {
        match self {
            Duckdb | Spark => format!("contains({text}, {part})"),
            Athena => format!("strpos({text}, {part}) > 0"),
            Clickhouse => format!("position({text}, {part}) > 0"),
        }
    }

    /// The text of the group of a regular expression in its first match in `text`; empty or null if there is none. The
    /// pattern must have the same meaning in every engine.
    fn captured(self, text: &str, pattern: &str) -> String {
        let pattern = self.quoted(pattern);
        match self {
            Duckdb | Athena | Spark => format!("regexp_extract({text}, {pattern}, 1)"),
            Clickhouse => format!("regexpExtract(ifNull({text}, ''), {pattern}, 1)"),
        }
    }

    /// The text after the last slash, or all of it if there is none.
    fn after_last_slash(self, text: &str) -> String {
        match self {
            Duckdb => format!("split_part({text}, '/', -1)"),
            Athena => format!("element_at(split({text}, '/'), -1)"),
            Spark => format!("substring_index({text}, '/', -1)"),
            Clickhouse => format!("splitByChar('/', ifNull({text}, ''))[-1]"),
        }
    }

    fn as_text(self, column: &str) -> String {
        match self {
            Duckdb | Athena => format!("CAST({column} AS VARCHAR)"),
            Spark => format!("CAST({column} AS STRING)"),
            Clickhouse => format!("toString({column})"),
        }
    }

    /// The microseconds from the epoch of a timestamp.
    fn micros_of_timestamp(self, column: &str) -> String {
        match self {
            Duckdb => format!("epoch_us({column})"),
            Athena => {
                format!(
                    "CAST(round(to_unixtime(with_timezone(CAST({column} AS timestamp(6)), 'UTC')) * 1000000) AS bigint)"
                )
            }
            Spark => format!("unix_micros({column})"),
            Clickhouse => format!("toUnixTimestamp64Micro({column})"),
        }
    }

    /// The microseconds from the epoch of a time such as `2026-09-01T00:00:00Z`.
    fn micros_of_text(self, column: &str) -> String {
        match self {
            Duckdb => format!("epoch_us(TRY_CAST({column} AS TIMESTAMPTZ))"),
            Athena => {
                format!("CAST(round(to_unixtime(TRY(from_iso8601_timestamp_nanos({column}))) * 1000000) AS bigint)")
            }
            Spark => format!("unix_micros(TRY_CAST({column} AS TIMESTAMP))"),
            Clickhouse => format!("toUnixTimestamp64Micro(parseDateTime64BestEffortOrNull({column}, 6, 'UTC'))"),
        }
    }

    /// The timestamp of microseconds from the epoch.
    fn timestamp(self, micros: &str) -> String {
        match self {
            Duckdb => format!("make_timestamp({micros})"),
            Athena => format!("from_unixtime_nanos({micros} * 1000)"),
            Spark => format!("timestamp_micros({micros})"),
            Clickhouse => format!("fromUnixTimestamp64Micro({micros}, 'UTC')"),
        }
    }

    /// An expression with a different value in each row.
    fn unique(self) -> &'static str {
        match self {
            Duckdb | Athena => "CAST(uuid() AS VARCHAR)",
            Spark => "uuid()",
            Clickhouse => "toString(generateUUIDv4())",
        }
    }

    /// The sorted list of a column's values.
    fn sorted_list(self, column: &str) -> String {
        match self {
            Duckdb => format!("list_sort(list({column}))"),
            Athena => format!("array_sort(array_agg({column}))"),
            Spark => format!("array_sort(collect_list({column}))"),
            Clickhouse => format!("arraySort(groupArray({column}))"),
        }
    }
}
