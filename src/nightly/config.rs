//! The configuration of nightly runs: a TOML file, of which the environment may override single settings.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::error::Error;
use crate::path::PathError;
use crate::sink;
use crate::store::{self, Location};
use crate::time::{DAY, Instant, Period};

/// A configuration with comments, to begin with.
pub const TEMPLATE: &str = include_str!("tawny.toml");

/// Settings that the environment overrides, by variable.
pub const VARIABLES: [(&str, &str); 6] = [
    ("TAWNY_LAKE", "the lake"),
    ("TAWNY_SOURCES", "the sources, with commas between them"),
    ("TAWNY_STATE", "the name of the state"),
    ("TAWNY_GRACE", "how far back days are listed again"),
    ("TAWNY_SINCE", "from when on findings are of interest"),
    ("TAWNY_RETAIN", "how long days are kept"),
];

/// A configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The lake's folder, on disk or in S3.
    pub lake: String,
    /// Where objects come from.
    #[serde(rename = "source", default)]
    pub sources: Vec<Source>,
    /// Which rules are hunted.
    #[serde(default)]
    pub rules: Rules,
    /// Where findings go.
    #[serde(rename = "sink", default)]
    pub sinks: Vec<sink::Settings>,
    /// The name of the state, which lies beside the lake.
    #[serde(default = "default_state")]
    pub state: String,
    /// How far back days are listed again.
    #[serde(default = "default_grace")]
    pub grace: Text<Period>,
    /// Findings triggered before are of no interest.
    pub since: Option<Text<Instant>>,
    /// Whether the small files of days past their grace are merged.
    #[serde(default = "default_compact")]
    pub compact: bool,
    /// Days older than this are dropped from the lake; all are kept where it is not given.
    pub retain: Option<Text<Age>>,
    /// Paths to the record, in JSON that wraps it in a way that is not known.
    #[serde(default)]
    pub unwrap: Vec<RecordPath>,
    /// Where the report of a run is written too.
    #[serde(default)]
    pub report: ReportFiles,
}

/// A path to the record, as text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RecordPath(pub crate::path::Path);

impl TryFrom<String> for RecordPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<RecordPath, PathError> {
        text.parse().map(RecordPath)
    }
}

/// A source of objects.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A folder, a pattern or an object, on disk or in S3.
    pub path: String,
    /// Only objects of these accounts, by their keys.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Only objects of these regions, by their keys.
    #[serde(default)]
    pub regions: Vec<String>,
}

/// Which rules.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Files and folders; the rules that come with tawny where there are none.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// Only those with these ids.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Of folders also those that are disabled.
    #[serde(default)]
    pub include_disabled: bool,
}

/// Where the report of a run is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportFiles {
    /// As JSON.
    pub json: Option<String>,
    /// For Prometheus, as its node exporter reads text files.
    pub prometheus: Option<String>,
}

/// A value that is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "T: Copy + FromStr<Err: Display>")]
pub struct Text<T>(pub T);

/// How many days back, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub i64);

impl Age {
    /// A hundred years.
    const MAX_DAYS: i64 = 36_525;
}

/// A text is not an [`Age`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of days from `1d` to `{}d`, such as `400d`", Age::MAX_DAYS)]
pub struct AgeError;

impl FromStr for Age {
    type Err = AgeError;

    /// Reads `400d`.
    fn from_str(text: &str) -> Result<Age, AgeError> {
        let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
        let age = days.filter(|days| (1..=Self::MAX_DAYS).contains(days)).map(|days| Age(days * DAY));
        age.ok_or(AgeError)
    }
}

impl<T: FromStr> TryFrom<String> for Text<T> {
    type Error = T::Err;

    fn try_from(text: String) -> Result<Text<T>, T::Err> {
        text.parse().map(Text)
    }
}

fn default_state() -> String {
    "default".to_owned()
}

fn default_grace() -> Text<Period> {
    Text(Period::from_minutes(3 * 24 * 60).unwrap_or(Period::HOUR))
}

fn default_compact() -> bool {
    true
}

impl Config {
    /// Reads the file at `path`; `variable` tells what the environment has for the name of a variable.
    ///
    /// # Errors
    /// Where it is no such configuration; the message tells the line.
    pub fn read(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Config, Error> {
        let hint = || Some("`tawny nightly init` writes one with comments".to_owned());
        let text = store::read_named("configuration", path, store::SETTINGS_BYTES);
        let text = text.map_err(|error| match error {
            Error::Usage { message, .. } => Error::Usage { message, hint: hint() },
            other => other,
        })?;
        let wrong = |reason: &str| Error::Usage {
            message: format!("`{}` is no configuration: {reason}", path.display()),
            hint: hint(),
        };
        // Without the text itself, which may hold a secret.
        let placed = |error: &toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
            format!("{}{}", line.unwrap_or_default(), error.message())
        };
        let mut config: Config = toml::from_str(&text).map_err(|error| wrong(&placed(&error)))?;
        config.override_by(variable)?;
        if config.sources.is_empty() {
            return Err(wrong("it names no source"));
        }
        let written = [&config.report.json, &config.report.prometheus].into_iter().flatten();
        let sources = config.sources.iter().map(|source| &source.path);
        for place in sources.chain([&config.lake]).chain(written) {
            Location::check(place)?;
        }
        let sources: Vec<&str> = config.sources.iter().map(|source| source.path.as_str()).collect();
        Location::check_apart(&config.lake, &sources)?;
        let plain = |name: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !name.is_empty() && name.chars().all(is_plain)
        };
        let names: Vec<&str> = config.sinks.iter().map(sink::Settings::name).collect();
        for (number, name) in names.iter().enumerate() {
            if !plain(name) {
                return Err(wrong(&format!("the sink's name `{name}` is not of letters, digits, `-` and `_`")));
            }
            if names[..number].contains(name) {
                return Err(wrong(&format!("two sinks have the name `{name}`")));
            }
        }
        if !plain(&config.state) {
            return Err(wrong(&format!("the state's name `{}` is not of letters, digits, `-` and `_`", config.state)));
        }
        if config.grace.0.micros() < DAY {
            return Err(wrong("the grace is less than a day"));
        }
        Ok(config)
    }

    fn override_by(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Error> {
        fn text<T: FromStr<Err: Display>>(name: &str, value: Option<String>) -> Result<Option<Text<T>>, Error> {
            let read = |value: String| {
                let reason = |reason: T::Err| Error::usage(format!("{name} is `{value}`: {reason}"));
                value.parse().map(Text).map_err(reason)
            };
            value.map(read).transpose()
        }
        self.lake = variable("TAWNY_LAKE").unwrap_or_else(|| self.lake.clone());
        self.state = variable("TAWNY_STATE").unwrap_or_else(|| self.state.clone());
        if let Some(sources) = variable("TAWNY_SOURCES") {
            let source =
                |path: &str| Source { path: path.trim().to_owned(), accounts: Vec::new(), regions: Vec::new() };
            self.sources = sources.split(',').map(source).collect();
        }
        self.grace = text("TAWNY_GRACE", variable("TAWNY_GRACE"))?.unwrap_or(self.grace);
        self.since = text("TAWNY_SINCE", variable("TAWNY_SINCE"))?.or(self.since);
        self.retain = text("TAWNY_RETAIN", variable("TAWNY_RETAIN"))?.or(self.retain);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tawny.toml");
        std::fs::write(&path, text).unwrap();
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Config::read(&path, &variable)
    }

    #[test]
    fn the_template_is_a_configuration() {
        let config = read(TEMPLATE, &[]).unwrap();
        assert_eq!((config.grace.0.micros(), config.sinks.len()), (3 * DAY, 1));
        assert!(config.retain.is_none());
    }

    #[test]
    fn the_environment_overrides_and_must_be_right_too() {
        let variables = [("TAWNY_LAKE", "s3://b/lake"), ("TAWNY_SOURCES", "a, b"), ("TAWNY_RETAIN", "400d")];
        let config = read(TEMPLATE, &variables).unwrap();
        assert_eq!(config.lake, "s3://b/lake");
        assert_eq!(config.sources.iter().map(|source| source.path.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(config.retain.unwrap().0, Age(400 * DAY));
        let error = read(TEMPLATE, &[("TAWNY_GRACE", "soon")]).unwrap_err();
        assert!(error.to_string().starts_with("TAWNY_GRACE is `soon`"), "{error}");
        for retain in ["0d", "-1d", "36526d", "99999999999d", "9999999999999999999d", "400"] {
            assert!(read(TEMPLATE, &[("TAWNY_RETAIN", retain)]).is_err(), "{retain}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("lake = 'l'\nsauce = 1\n", "line 2: unknown field `sauce`"),
            ("lake = 'l'\n", "names no source"),
            ("lake = 'l'\ngrace = '1h'\n[[source]]\npath = 'p'\n", "less than a day"),
            ("lake = 'l'\nstate = '../x'\n[[source]]\npath = 'p'\n", "the state's name"),
            (
                "lake = 'l'\n[[source]]\npath = 'p'\n[[sink]]\nkind = 'stdout'\nname = 'a'\n[[sink]]\nkind = 'stdout'\nname = 'a'\n",
                "two sinks",
            ),
        ] {
            let error = read(text, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
