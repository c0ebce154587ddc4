//! Settings that replace those of a rule, so that a shipped rule is tuned without a copy of it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::catalog::{Entry, unknown};
use super::{Rule, Severity, WindowKind};
use crate::error::Error;
use crate::text::item_named;
use crate::time::Period;

/// The settings of a rule that an override may replace. `None` leaves the rule's own.
///
/// Their keys are understood in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleSettings {
    /// The least number of matches of a finding.
    pub threshold: Option<NonZeroU32>,
    /// The length of the windows.
    pub period: Option<Period>,
    /// The shape of the windows.
    pub window: Option<WindowKind>,
    /// The severity of each finding. The rule's dynamic severities no longer apply.
    pub severity: Option<Severity>,
    /// Whether the rule runs without being named.
    pub enabled: Option<bool>,
}

/// The keys of the settings, for messages.
const KEYS: &str = "Threshold, Period, Window, Severity or Enabled";

/// Settings for the rule with an id.
///
/// Its text is `RULE:KEY=VALUE,…`, such as `AWS.Unsuccessful.MFA.attempt:Threshold=5,Period=1h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOverride {
    /// The id of the rule.
    pub rule: String,
    /// The settings.
    pub settings: RuleSettings,
}

/// A text is not a [`RuleOverride`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The id or the settings are missing.
    #[error("expected RULE:KEY=VALUE, such as AWS.Unsuccessful.MFA.attempt:Threshold=5,Period=1h")]
    Form,
    /// There is no such setting.
    #[error("there is no setting `{0}`: use {KEYS}")]
    Key(String),
    /// A setting cannot have this value.
    #[error("`{key}` cannot be `{value}`: {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// The values that it can have.
        expected: String,
    },
    /// A setting is given twice.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
}

/// Returns the item of `all` whose text is `name`, in any case. The error lists the texts.
fn item<T: Copy + fmt::Display>(name: &str, all: &[T]) -> Result<T, String> {
    item_named(name, all).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(T::to_string).collect();
        format!("expected one of {}", names.join(", "))
    })
}

impl<'de> Deserialize<'de> for RuleSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RuleSettings, D::Error> {
        deserializer.deserialize_map(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = RuleSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table with {KEYS}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RuleSettings, A::Error> {
        let mut settings = RuleSettings::default();
        while let Some(key) = map.next_key::<String>()? {
            let value = match map.next_value::<SettingValue>()? {
                SettingValue::Number(number) => number.to_string(),
                SettingValue::Flag(flag) => flag.to_string(),
                SettingValue::Text(text) => text,
            };
            settings.set(&key, &value).map_err(A::Error::custom)?;
        }
        Ok(settings)
    }
}

/// The value of a setting in a configuration.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, a text, or true or false")]
enum SettingValue {
    Number(i64),
    Flag(bool),
    Text(String),
}

impl FromStr for RuleOverride {
    type Err = OverrideError;

    fn from_str(text: &str) -> Result<RuleOverride, OverrideError> {
        // An id may contain colons, a key does not.
        let colon = text.split_once('=').and_then(|(head, _)| head.rfind(':')).ok_or(OverrideError::Form)?;
        let (rule, settings) = (&text[..colon], &text[colon + 1..]);
        if rule.is_empty() {
            return Err(OverrideError::Form);
        }
        let mut given = RuleSettings::default();
        for setting in settings.split(',') {
            let (key, value) = setting.split_once('=').ok_or(OverrideError::Form)?;
            given.set(key.trim(), value.trim())?;
        }
        Ok(RuleOverride { rule: rule.to_owned(), settings: given })
    }
}

impl RuleSettings {
    fn set(&mut self, key: &str, value: &str) -> Result<(), OverrideError> {
        fn put<T>(
            setting: &mut Option<T>,
            key: &'static str,
            value: &str,
            parsed: Result<T, String>,
        ) -> Result<(), OverrideError> {
            let wrong = |expected| OverrideError::Value { key, value: value.to_owned(), expected };
            match setting.replace(parsed.map_err(wrong)?) {
                None => Ok(()),
                Some(_) => Err(OverrideError::Twice(key)),
            }
        }
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        if is("Threshold") {
            let number = value.parse().map_err(|_| "expected a whole number of at least 1".to_owned());
            put(&mut self.threshold, "Threshold", value, number)
        } else if is("Period") {
            let period = value.parse().map_err(|error: crate::time::PeriodError| error.to_string());
            put(&mut self.period, "Period", value, period)
        } else if is("Window") {
            put(&mut self.window, "Window", value, item(value, WindowKind::ALL.as_slice()))
        } else if is("Severity") {
            put(&mut self.severity, "Severity", value, item(value, Severity::ALL.as_slice()))
        } else if is("Enabled") {
            let flag = value.to_ascii_lowercase().parse().map_err(|_| "expected true or false".to_owned());
            put(&mut self.enabled, "Enabled", value, flag)
        } else {
            Err(OverrideError::Key(key.to_owned()))
        }
    }

    fn apply(self, rule: &mut Rule) -> Result<(), Error> {
        let mut window = rule.window;
        window.threshold = self.threshold.unwrap_or(window.threshold);
        window.period = self.period.unwrap_or(window.period);
        window.kind = self.window.unwrap_or(window.kind);
        rule.check(window)?;
        rule.window = window;
        rule.enabled = self.enabled.unwrap_or(rule.enabled);
        if let Some(severity) = self.severity {
            rule.severity = severity;
            rule.dynamic_severities.clear();
        }
        Ok(())
    }
}

/// Changes the settings of rules.
///
/// # Errors
/// A rule does not exist, or cannot have the settings.
pub fn apply(overrides: &[RuleOverride], entries: &mut [Entry]) -> Result<(), Error> {
    for RuleOverride { rule: id, settings } in overrides {
        let mut exists = false;
        for entry in entries.iter_mut().filter(|entry| entry.is_called(id)) {
            settings.apply(&mut entry.rule)?;
            entry.is_switched_off = settings.enabled.map_or(entry.is_switched_off, |enabled| !enabled);
            exists = true;
        }
        if !exists {
            return Err(unknown(entries, id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::catalog;

    fn read(text: &str) -> Result<RuleSettings, OverrideError> {
        text.parse().map(|parsed: RuleOverride| parsed.settings)
    }

    #[test]
    fn text_gives_each_setting_once() {
        let parsed: RuleOverride =
            "a:b.c:Threshold=5, period=1h,Window=dedup,severity=low,Enabled=False".parse().unwrap();
        let settings = RuleSettings {
            threshold: NonZeroU32::new(5),
            period: Some(Period::HOUR),
            window: Some(WindowKind::Dedup),
            severity: Some(Severity::Low),
            enabled: Some(false),
        };
        assert_eq!(parsed, RuleOverride { rule: "a:b.c".to_owned(), settings });
        for (text, expected) in [
            ("", "expected RULE:KEY=VALUE"),
            ("a", "expected RULE:KEY=VALUE"),
            (":Threshold=5", "expected RULE:KEY=VALUE"),
            ("a:Threshold=5,", "expected RULE:KEY=VALUE"),
            ("a:Treshold=5", "no setting `Treshold`"),
            ("a:Threshold=0", "whole number"),
            ("a:Period=5", "`Period` cannot be `5`"),
            ("a:Window=all", "sliding, dedup, tumbling"),
            ("a:Severity=urgent", "Info, Low, Medium, High, Critical"),
            ("a:Enabled=no", "true or false"),
            ("a:Threshold=1,threshold=2", "given twice"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn keys_of_a_configuration_are_understood_in_any_case() {
        let settings = |text: &str| toml::from_str::<RuleSettings>(text).map_err(|error| error.message().to_owned());
        let expected = read("a:Threshold=5,Period=1h,Window=dedup,Severity=Low,Enabled=false").unwrap();
        for case in [str::to_owned, |text: &str| text.to_lowercase(), |text: &str| text.to_uppercase()] {
            let keys = ["Threshold", "Period", "Window", "Severity", "Enabled"].map(case);
            let [threshold, period, window, severity, enabled] = keys;
            let text =
                format!("{threshold} = 5\n{period} = '1h'\n{window} = 'dedup'\n{severity} = 'low'\n{enabled} = false");
            assert_eq!(settings(&text), Ok(expected), "{text}");
        }
        for (text, error) in [
            ("Treshold = 5", "no setting `Treshold`"),
            ("Threshold = 0", "whole number of at least 1"),
            ("Threshold = []", "expected a number"),
            ("Period = 5", "`Period` cannot be `5`"),
            ("Threshold = 1\nthreshold = 2", "given twice"),
        ] {
            assert!(settings(text).unwrap_err().contains(error), "{text}: {:?}", settings(text));
        }
    }

    #[test]
    fn only_the_named_settings_of_the_named_rule_change() {
        let before = catalog::all(&[]).unwrap();
        let mut after = before.clone();
        let id = catalog::DEFAULT;
        apply(&[format!("{id}:Threshold=9,Severity=Critical").parse().unwrap()], &mut after).unwrap();
        for (before, after) in before.iter().zip(&after) {
            let mut expected = before.rule.clone();
            if expected.id == id {
                expected.window.threshold = NonZeroU32::new(9).unwrap();
                expected.severity = Severity::Critical;
                expected.dynamic_severities.clear();
            }
            assert_eq!(after.rule, expected);
        }
        let unknown = apply(&["AWS.Unsuccesful.MFA.attempt:Threshold=9".parse().unwrap()], &mut after).unwrap_err();
        assert!(unknown.hint().unwrap().contains(id), "{unknown}");
    }
}
