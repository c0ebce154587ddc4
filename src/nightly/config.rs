//! The configuration of nightly runs: a TOML file, with settings that the environment can override.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::delta::LOG_RETENTION;
use crate::error::Error;
use crate::lake::maintenance::READER_GRACE_PERIOD;
use crate::path::PathError;
use crate::rule::overrides::{RuleOverride, RuleSettings};
use crate::sink;
use crate::store::{self, Location};
use crate::time::{DAY, Instant, Period};

pub mod edit;

/// The commented configuration that `tawny nightly init` writes.
pub const TEMPLATE: &str = include_str!("tawny.toml");

/// Environment variables that override a setting, with a description of it.
pub const VARIABLES: [(&str, &str); 6] = [
    ("TAWNY_LAKE", "the lake"),
    ("TAWNY_SOURCES", "the sources, separated by commas"),
    ("TAWNY_STATE", "the name of the state"),
    ("TAWNY_GRACE", "how many days back to list again"),
    ("TAWNY_SINCE", "the earliest trigger of a finding"),
    ("TAWNY_RETAIN", "how long to keep days"),
];

/// The configuration of a nightly run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The lake's folder, on disk or in S3.
    pub lake: String,
    /// Where objects come from.
    #[serde(rename = "source", default)]
    pub sources: Vec<SourceConfig>,
    /// Which rules to hunt.
    #[serde(default)]
    pub rules: RuleConfig,
    /// Settings that replace those of rules, by their ids.
    #[serde(default)]
    overrides: BTreeMap<String, RuleSettings>,
    /// Which events rules ignore.
    #[serde(default)]
    pub exceptions: ExceptionConfig,
    /// Where to deliver findings.
    #[serde(rename = "sink", default)]
    pub sinks: Vec<sink::SinkSettings>,
    /// Name of the state, which is stored in the lake's folder.
    #[serde(default = "default_state")]
    pub state: String,
    /// How late an object may appear. Days that recent are listed again.
    #[serde(default = "default_grace")]
    pub grace: TextValue<Period>,
    /// Earliest trigger of a finding.
    pub since: Option<TextValue<Instant>>,
    /// Whether to merge the small files of days older than `grace`.
    #[serde(default = "default_compact")]
    pub compact: bool,
    /// Age of the days to drop from the lake. Absent to keep all.
    pub retain: Option<TextValue<Age>>,
    /// How long to keep merged and dropped files for readers of earlier versions.
    pub keep_old: Option<TextValue<Period>>,
    /// Paths to the record in JSON with an unknown envelope.
    #[serde(default)]
    pub unwrap: Vec<RecordPath>,
    /// How to verify objects. Absent to verify none.
    pub verify: Option<VerifyConfig>,
    /// Where else to write the report of a run.
    #[serde(default)]
    pub report: ReportFiles,
}

/// How to verify objects before they are converted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyConfig {
    /// Folders or prefixes that hold CloudTrail's digests.
    pub digests: Vec<String>,
    /// Files with public keys, as `aws cloudtrail list-public-keys` prints them.
    #[serde(default)]
    pub public_keys: Vec<PathBuf>,
}

/// A path to the record, parsed from text.
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
pub struct SourceConfig {
    /// A folder, a pattern or an object, on disk or in S3.
    pub path: String,
    /// Accounts to read, by object key. Empty for all.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Regions to read, by object key. Empty for all.
    #[serde(default)]
    pub regions: Vec<String>,
}

/// Which rules to hunt.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration")]
pub struct RuleConfig {
    /// Files and folders. Empty for the shipped rules.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// Whether to hunt the shipped rules beside those of `paths`.
    #[serde(default)]
    pub with_shipped: bool,
    /// Ids of the rules to hunt. Empty for all.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Whether to include disabled rules of folders.
    #[serde(default)]
    pub include_disabled: bool,
    /// Whether rules count acts instead of matches.
    #[serde(default)]
    pub once_per_act: bool,
    /// Whether a rule of a folder that cannot run stops the run.
    #[serde(default)]
    pub strict: bool,
    /// The file with the values of placeholders.
    pub placeholders: Option<PathBuf>,
}

/// Which events rules ignore.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptionConfig {
    /// Files of exceptions and value lists.
    #[serde(default)]
    pub files: Vec<PathBuf>,
}

/// Where to write the report of a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportFiles {
    /// File for the report as JSON.
    pub json: Option<String>,
    /// File for the text collector of the Prometheus node exporter.
    pub prometheus: Option<String>,
}

/// A value that is parsed from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "T: Copy + FromStr<Err: Display>")]
pub struct TextValue<T>(pub T);

/// A number of days, in microseconds.
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

impl<T: FromStr> TryFrom<String> for TextValue<T> {
    type Error = T::Err;

    fn try_from(text: String) -> Result<TextValue<T>, T::Err> {
        text.parse().map(TextValue)
    }
}

fn default_state() -> String {
    "default".to_owned()
}

fn default_grace() -> TextValue<Period> {
    TextValue(Period::from_minutes(3 * 24 * 60).unwrap_or(Period::HOUR))
}

fn default_compact() -> bool {
    true
}

/// Returns the settings that the configuration at `path` has in place of those of rules.
///
/// # Errors
/// As for [`Config::read`]. Settings that only a nightly run needs may be missing.
pub fn overrides_of(path: &Path) -> Result<Vec<RuleOverride>, Error> {
    Config::parsed(path).map(|config| config.overrides())
}

fn invalid(path: &Path, reason: &str) -> Error {
    Error::Usage {
        message: format!("invalid configuration `{}`: {reason}", path.display()),
        hint: Some(HINT.to_owned()),
    }
}

/// The hint of errors about configurations.
const HINT: &str = "`tawny nightly init` writes a commented configuration";

impl Config {
    /// Returns the settings in the file at `path`, which may not fit together.
    fn parsed(path: &Path) -> Result<Config, Error> {
        let text = store::read_named("configuration", path, store::SETTINGS_BYTES);
        let text = text.map_err(|error| match error {
            Error::Usage { message, .. } => Error::Usage { message, hint: Some(HINT.to_owned()) },
            other => other,
        })?;
        // The message leaves out the text, because it may contain a secret.
        let with_line = |error: &toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
            format!("{}{}", line.unwrap_or_default(), error.message())
        };
        toml::from_str(&text).map_err(|error| invalid(path, &with_line(&error)))
    }

    /// Reads the file at `path`. `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// The configuration is invalid. The message names the line.
    pub fn read(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Config, Error> {
        let invalid = |reason: &str| invalid(path, reason);
        let mut config = Config::parsed(path)?;
        config.override_by(variable)?;
        if config.sources.is_empty() {
            return Err(invalid("no `[[source]]` given"));
        }
        let digests = config.verify.iter().flat_map(|verify| &verify.digests).map(String::as_str);
        let sources: Vec<&str> = config.sources.iter().map(|source| source.path.as_str()).collect();
        let reports = [&config.report.json, &config.report.prometheus].into_iter().flatten().map(String::as_str);
        for location in sources.iter().copied().chain([config.lake.as_str()]).chain(reports).chain(digests) {
            Location::check(location)?;
        }
        Location::check_apart(&config.lake, &sources)?;
        let is_valid_name = |name: &str| {
            let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !name.is_empty() && name.chars().all(is_valid)
        };
        let names: Vec<&str> = config.sinks.iter().map(sink::SinkSettings::name).collect();
        for (index, name) in names.iter().enumerate() {
            if !is_valid_name(name) {
                return Err(invalid(&format!("sink name `{name}`: use only letters, digits, `-` and `_`")));
            }
            if names[..index].contains(name) {
                return Err(invalid(&format!("two sinks have the name `{name}`")));
            }
        }
        if !is_valid_name(&config.state) {
            return Err(invalid(&format!("state name `{}`: use only letters, digits, `-` and `_`", config.state)));
        }
        if config.grace.0.micros() < DAY {
            return Err(invalid("`grace` must be at least one day"));
        }
        if config.keep_old.is_some_and(|keep_old| keep_old.0.micros() < DAY) {
            return Err(invalid("`keep_old` must be at least one day"));
        }
        if config.keep_old.is_some_and(|keep_old| keep_old.0.micros() > READER_GRACE_PERIOD) {
            return Err(invalid(&format!(
                "`keep_old` must be at most {LOG_RETENTION} days: older versions have no commits"
            )));
        }
        Ok(config)
    }

    /// Returns the settings that replace those of rules.
    pub fn overrides(&self) -> Vec<RuleOverride> {
        let settings = self.overrides.iter();
        settings.map(|(rule, settings)| RuleOverride { rule: rule.clone(), settings: *settings }).collect()
    }

    fn override_by(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Error> {
        fn text<T: FromStr<Err: Display>>(name: &str, value: Option<String>) -> Result<Option<TextValue<T>>, Error> {
            let read = |value: String| {
                let reason = |reason: T::Err| Error::usage(format!("{name} is `{value}`: {reason}"));
                value.parse().map(TextValue).map_err(reason)
            };
            value.map(read).transpose()
        }
        self.lake = variable("TAWNY_LAKE").unwrap_or_else(|| self.lake.clone());
        self.state = variable("TAWNY_STATE").unwrap_or_else(|| self.state.clone());
        if let Some(sources) = variable("TAWNY_SOURCES") {
            let source =
                |path: &str| SourceConfig { path: path.trim().to_owned(), accounts: Vec::new(), regions: Vec::new() };
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
    fn the_environment_overrides_and_is_validated_too() {
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
    fn errors_name_their_line() {
        for (text, expected) in [
            ("lake = 'l'\nsauce = 1\n", "line 2: unknown field `sauce`"),
            ("lake = 'l'\n", "no `[[source]]` given"),
            ("lake = 'l'\ngrace = '1h'\n[[source]]\npath = 'p'\n", "`grace` must be at least one day"),
            ("lake = 'l'\nkeep_old = '1h'\n[[source]]\npath = 'p'\n", "`keep_old` must be at least one day"),
            ("lake = 'l'\nkeep_old = '36d'\n[[source]]\npath = 'p'\n", "`keep_old` must be at most 35 days"),
            ("lake = 'l'\nstate = '../x'\n[[source]]\npath = 'p'\n", "state name"),
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
