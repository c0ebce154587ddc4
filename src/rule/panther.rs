//! Panther's rule YAML to [`Rule`].
//!
//! YAML is read as version 1.2: `Yes` is a string, and so is a number with a leading zero. What is
//! not understood is refused by name and place, never ignored.
//!
//! Format: <https://docs.panther.com/detections/rules/writing-simple-detections>

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{Field, Predicate, Rule, RuleTest, Severity, Test, Window, WindowKind};
use crate::error::Error;
use crate::event::Place;
use crate::time::Period;

/// Panther's default for `DedupPeriodMinutes`.
const DEFAULT_PERIOD_MINUTES: u64 = 60;
/// Panther's default for `Threshold`.
const DEFAULT_THRESHOLD: u64 = 1;

/// Reads one rule from YAML text; `name` is what errors call the text, its path.
pub fn parse(name: &str, text: &str) -> Result<Rule, Error> {
    let source = Source { name, text };
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
    };
    let wire: WireRule = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| source.error(error.location(), &error.without_snippet().to_string()))?;
    wire.into_rule(&source)
}

/// A rule's text, to point into from errors.
struct Source<'s> {
    name: &'s str,
    text: &'s str,
}

impl Source<'_> {
    /// An error that shows the line and points at the column.
    fn error(&self, location: Option<Location>, message: &str) -> Error {
        let Some(location) = location.filter(|location| *location != Location::UNKNOWN) else {
            return Error::Rule(format!("{}: {message}", self.name));
        };
        let (line, column) = (location.line(), location.column());
        let mut shown = format!("{}:{line}:{column}: {message}", self.name);
        let lines = usize::try_from(line).ok().and_then(|line| self.text.lines().nth(line.checked_sub(1)?));
        if let Some(text) = lines {
            let gutter = line.to_string();
            let pad = " ".repeat(gutter.len());
            let indent = " ".repeat(usize::try_from(column).unwrap_or(1).saturating_sub(1));
            // Writing to a string does not fail.
            write!(shown, "\n{pad} |\n{gutter} | {text}\n{pad} | {indent}^").ok();
        }
        Error::Rule(shown)
    }

    fn at<T>(&self, spanned: &Spanned<T>, message: &str) -> Error {
        self.error(Some(spanned.referenced), message)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WireRule {
    analysis_type: Spanned<String>,
    #[serde(rename = "RuleID")]
    rule_id: Spanned<String>,
    display_name: Option<String>,
    enabled: bool,
    severity: Spanned<String>,
    log_types: Spanned<Vec<String>>,
    detection: Option<Spanned<Vec<WireMatch>>>,
    dedup_period_minutes: Option<Spanned<u64>>,
    threshold: Option<Spanned<u64>>,
    #[serde(default)]
    group_by: Vec<WireKey>,
    #[serde(default)]
    alert_context: Vec<WireContext>,
    #[serde(default)]
    reports: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    tests: Vec<WireTest>,
    // For people: read, so that they are no unknown keys.
    #[serde(rename = "Description")]
    _description: Option<String>,
    #[serde(rename = "Reference")]
    _reference: Option<String>,
    #[serde(rename = "Runbook")]
    _runbook: Option<String>,
    #[serde(rename = "Tags", default)]
    _tags: Vec<String>,
    #[serde(rename = "Status")]
    _status: Option<String>,
    #[serde(rename = "CreatedBy")]
    _created_by: Option<String>,
    #[serde(rename = "SummaryAttributes", default)]
    _summary_attributes: Vec<String>,
    // Panther's, but not understood here.
    filename: Option<Spanned<serde_json::Value>>,
    inline_filters: Option<Spanned<serde_json::Value>>,
    alert_title: Option<Spanned<serde_json::Value>>,
    dynamic_severities: Option<Spanned<serde_json::Value>>,
    create_alert: Option<Spanned<serde_json::Value>>,
    scheduled_queries: Option<Spanned<serde_json::Value>>,
    base_detection: Option<Spanned<serde_json::Value>>,
    output_ids: Option<Spanned<serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WireMatch {
    key: Option<Spanned<String>>,
    deep_key: Option<Spanned<Vec<String>>>,
    key_path: Option<Spanned<String>>,
    condition: Option<Spanned<String>>,
    value: Option<Spanned<String>>,
    values: Option<Spanned<Vec<String>>>,
    all: Option<Vec<WireMatch>>,
    any: Option<Vec<WireMatch>>,
    none: Option<Vec<WireMatch>>,
    only_one: Option<Vec<WireMatch>>,
    expressions: Option<Spanned<serde_json::Value>>,
    enrichment: Option<Spanned<serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WireKey {
    key: Option<Spanned<String>>,
    deep_key: Option<Spanned<Vec<String>>>,
    key_path: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WireContext {
    key_name: Spanned<String>,
    key_value: WireKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WireTest {
    name: Spanned<String>,
    expected_result: bool,
    log: serde_json::Value,
    #[serde(rename = "LogType")]
    _log_type: Option<String>,
    mocks: Option<Spanned<serde_json::Value>>,
}

impl WireRule {
    fn into_rule(self, source: &Source<'_>) -> Result<Rule, Error> {
        self.refuse_unsupported(source)?;
        if self.analysis_type.value != "rule" {
            return Err(source.at(&self.analysis_type, "`AnalysisType` must be `rule`"));
        }
        let id = self.rule_id.value.clone();
        if id.is_empty() || id.chars().any(|c| c.is_control() || "<>&\"%".contains(c)) {
            let message = "`RuleID` must be text without control characters and without any of < > & \" %";
            return Err(source.at(&self.rule_id, message));
        }
        if !self.log_types.value.iter().any(|log_type| log_type == "AWS.CloudTrail") {
            return Err(source.at(&self.log_types, "`LogTypes` must name `AWS.CloudTrail`: only CloudTrail is hunted"));
        }
        let Some(detection) = &self.detection else {
            return Err(source.error(None, "`Detection` is missing"));
        };
        if detection.value.is_empty() {
            return Err(source.at(detection, "`Detection` must hold at least one condition"));
        }
        let window = self.window(source)?;
        let all = detection.value.iter().map(|expression| expression.predicate(source));
        let mut context: Vec<(String, Field)> = Vec::new();
        for WireContext { key_name, key_value } in &self.alert_context {
            if context.iter().any(|(name, _)| *name == key_name.value) {
                return Err(source.at(key_name, &format!("`{}` is given twice", key_name.value)));
            }
            context.push((key_name.value.clone(), key_value.field(source)?));
        }
        let mut tests = Vec::new();
        for WireTest { name, expected_result, log, mocks, _log_type: _ } in &self.tests {
            if let Some(mocks) = mocks {
                return Err(source.at(mocks, "`Mocks` replace Python functions, and no Python is run here"));
            }
            if !log.is_object() {
                return Err(source.at(name, "the `Log` of this test must be a mapping, the record"));
            }
            tests.push(RuleTest { name: name.value.clone(), expected: *expected_result, log: log.to_string() });
        }
        Ok(Rule {
            title: self.display_name.clone().unwrap_or_else(|| id.clone()),
            severity: severity(&self.severity, source)?,
            enabled: self.enabled,
            mitre: self.reports.get("MITRE ATT&CK").cloned().unwrap_or_default(),
            window,
            detection: Predicate::All(all.collect::<Result<_, _>>()?),
            group_by: self.group_by(source)?,
            context,
            tests,
            id,
        })
    }

    fn group_by(&self, source: &Source<'_>) -> Result<Vec<Field>, Error> {
        let mut fields: Vec<Field> = Vec::new();
        for key in &self.group_by {
            let field = key.field(source)?;
            if fields.iter().any(|earlier| earlier.to_string() == field.to_string()) {
                return Err(source.error(key.place(), &format!("`{field}` is given twice in `GroupBy`")));
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn refuse_unsupported(&self, source: &Source<'_>) -> Result<(), Error> {
        let python = "rules in Python are not run: write the logic as `Detection`";
        let not_yet = "is not supported; remove it, or keep this rule where it runs";
        for (name, value, why) in [
            ("Filename", &self.filename, python),
            ("InlineFilters", &self.inline_filters, not_yet),
            ("AlertTitle", &self.alert_title, not_yet),
            ("DynamicSeverities", &self.dynamic_severities, not_yet),
            ("CreateAlert", &self.create_alert, not_yet),
            ("ScheduledQueries", &self.scheduled_queries, not_yet),
            ("BaseDetection", &self.base_detection, not_yet),
            ("OutputIds", &self.output_ids, not_yet),
        ] {
            if let Some(value) = value {
                return Err(source.at(value, &format!("`{name}`: {why}").replace("`: is", "` is")));
            }
        }
        Ok(())
    }

    fn window(&self, source: &Source<'_>) -> Result<Window, Error> {
        let threshold = self.threshold.as_ref().map_or(DEFAULT_THRESHOLD, |threshold| threshold.value);
        let threshold = u32::try_from(threshold).ok().and_then(NonZeroU32::new);
        let minutes = self.dedup_period_minutes.as_ref().map_or(DEFAULT_PERIOD_MINUTES, |minutes| minutes.value);
        let invalid = |value: &Option<Spanned<u64>>, message| match value {
            Some(value) => source.at(value, message),
            None => source.error(None, message),
        };
        Ok(Window {
            kind: WindowKind::default(),
            period: Period::from_minutes(minutes).ok_or_else(|| {
                invalid(&self.dedup_period_minutes, "`DedupPeriodMinutes` must be from 1 to 527040 (366 days)")
            })?,
            threshold: threshold.ok_or_else(|| invalid(&self.threshold, "`Threshold` must be from 1 to 4294967295"))?,
        })
    }
}

fn severity(given: &Spanned<String>, source: &Source<'_>) -> Result<Severity, Error> {
    let known = [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    let matching = known.into_iter().find(|severity| severity.to_string().eq_ignore_ascii_case(&given.value));
    matching.ok_or_else(|| source.at(given, "`Severity` must be Info, Low, Medium, High or Critical"))
}

/// The conditions that are understood: their names, what they test, and whether they negate it.
const CONDITIONS: &[(&str, Shape, bool)] = &[
    ("Equals", Shape::Value(Test::Equals), false),
    ("DoesNotEqual", Shape::Value(Test::Equals), true),
    ("IsIn", Shape::Values(Test::In), false),
    ("IsNotIn", Shape::Values(Test::In), true),
    ("Exists", Shape::Bare, false),
    ("DoesNotExist", Shape::Bare, true),
    ("IsNotNull", Shape::Bare, false),
    ("IsNull", Shape::Bare, true),
    ("StartsWith", Shape::Value(Test::StartsWith), false),
    ("DoesNotStartWith", Shape::Value(Test::StartsWith), true),
    ("EndsWith", Shape::Value(Test::EndsWith), false),
    ("DoesNotEndWith", Shape::Value(Test::EndsWith), true),
    ("Contains", Shape::Value(Test::Contains), false),
    ("DoesNotContain", Shape::Value(Test::Contains), true),
];

/// What a condition takes.
#[derive(Clone, Copy)]
enum Shape {
    Bare,
    Value(fn(String) -> Test),
    Values(fn(Vec<String>) -> Test),
}

impl WireMatch {
    fn predicate(&self, source: &Source<'_>) -> Result<Predicate, Error> {
        if let Some(expressions) = &self.expressions {
            return Err(source.at(expressions, "`Expressions` over lists are not supported"));
        }
        if let Some(enrichment) = &self.enrichment {
            return Err(source.at(enrichment, "`Enrichment` is not supported: there are no look-up tables here"));
        }
        let combined = [
            (&self.all, Predicate::All as fn(Vec<Predicate>) -> Predicate),
            (&self.any, Predicate::Any),
            (&self.none, Predicate::None),
            (&self.only_one, Predicate::OnlyOne),
        ];
        let mut combined = combined.iter().filter_map(|(inner, combine)| inner.as_ref().map(|inner| (inner, combine)));
        match (combined.next(), combined.next(), &self.condition) {
            (Some((inner, combine)), None, None) if self.names_nothing() => {
                Ok(combine(inner.iter().map(|inner| inner.predicate(source)).collect::<Result<_, _>>()?))
            }
            (None, _, Some(condition)) => self.test(condition, source),
            (_, _, condition) => {
                let place = condition.as_ref().map(|condition| condition.referenced);
                let message =
                    "an expression is either one of `All`, `Any`, `None`, `OnlyOne`, or a key with a `Condition`";
                Err(source.error(place.or_else(|| self.some_place()), message))
            }
        }
    }

    fn names_nothing(&self) -> bool {
        self.some_place().is_none()
    }

    fn some_place(&self) -> Option<Location> {
        self.key
            .as_ref()
            .map(|key| key.referenced)
            .or_else(|| self.deep_key.as_ref().map(|key| key.referenced))
            .or_else(|| self.key_path.as_ref().map(|key| key.referenced))
            .or_else(|| self.value.as_ref().map(|value| value.referenced))
            .or_else(|| self.values.as_ref().map(|values| values.referenced))
    }

    fn test(&self, condition: &Spanned<String>, source: &Source<'_>) -> Result<Predicate, Error> {
        let known = CONDITIONS.iter().find(|(name, _, _)| *name == condition.value);
        let Some((name, shape, negated)) = known else {
            return Err(source.at(condition, &unknown_condition(&condition.value)));
        };
        let test = match (shape, &self.value, &self.values) {
            (Shape::Bare, None, None) => Test::Present,
            (Shape::Value(test), Some(value), None) => test(normal(value, source)?),
            (Shape::Values(test), None, Some(values)) if !values.value.is_empty() => test(values.value.clone()),
            (Shape::Bare, _, _) => return Err(source.at(condition, &format!("`{name}` takes no value"))),
            (Shape::Value(_), _, _) => return Err(source.at(condition, &format!("`{name}` takes one `Value`"))),
            (Shape::Values(_), _, _) => {
                return Err(source.at(condition, &format!("`{name}` takes a list of `Values`")));
            }
        };
        let field = key(source, condition, self.key.as_ref(), self.deep_key.as_ref(), self.key_path.as_ref())?;
        if field.place() == Some(Place::Time) && test != Test::Present {
            let message = "`eventTime` can only be tested to exist: choose the time with `--from` and `--to`";
            return Err(source.at(condition, message));
        }
        Ok(Predicate::Test { field, test, negated: *negated })
    }
}

/// A value's text. YAML's other spellings of booleans become JSON's.
fn normal(value: &Spanned<String>, source: &Source<'_>) -> Result<String, Error> {
    let quoted = source
        .text
        .lines()
        .nth(usize::try_from(value.referenced.line()).unwrap_or(1).saturating_sub(1))
        .and_then(|line| line.chars().nth(usize::try_from(value.referenced.column()).unwrap_or(1).saturating_sub(1)))
        .is_some_and(|first| matches!(first, '"' | '\''));
    match value.value.as_str() {
        "True" | "TRUE" if !quoted => Ok("true".to_owned()),
        "False" | "FALSE" if !quoted => Ok("false".to_owned()),
        "" | "~" | "null" | "Null" | "NULL" if !quoted => {
            Err(source.at(value, "expected a text, number or boolean; test for null with `IsNull`"))
        }
        text => Ok(text.to_owned()),
    }
}

fn unknown_condition(given: &str) -> String {
    let names = CONDITIONS.iter().map(|(name, _, _)| *name);
    let near = names.clone().max_by(|a, b| strsim::jaro_winkler(a, given).total_cmp(&strsim::jaro_winkler(b, given)));
    let list = names.collect::<Vec<_>>().join(", ");
    match near.filter(|near| strsim::jaro_winkler(near, given) > 0.85) {
        Some(near) => format!("the condition `{given}` is not supported; did you mean `{near}`? Supported are {list}"),
        None => format!("the condition `{given}` is not supported. Supported are {list}"),
    }
}

impl WireKey {
    fn place(&self) -> Option<Location> {
        (self.key.as_ref().map(|key| key.referenced))
            .or_else(|| self.deep_key.as_ref().map(|key| key.referenced))
            .or_else(|| self.key_path.as_ref().map(|key| key.referenced))
    }

    fn field(&self, source: &Source<'_>) -> Result<Field, Error> {
        let place = self.place();
        let here = Spanned::new((), place.unwrap_or(Location::UNKNOWN), place.unwrap_or(Location::UNKNOWN));
        key(source, &here, self.key.as_ref(), self.deep_key.as_ref(), self.key_path.as_ref())
    }
}

/// The field that exactly one of the three forms of a key names.
fn key<T>(
    source: &Source<'_>,
    here: &Spanned<T>,
    key: Option<&Spanned<String>>,
    deep_key: Option<&Spanned<Vec<String>>>,
    key_path: Option<&Spanned<String>>,
) -> Result<Field, Error> {
    let (keys, place) = match (key, deep_key, key_path) {
        (Some(key), None, None) => (vec![key.value.clone()], key.referenced),
        (None, Some(keys), None) => (keys.value.clone(), keys.referenced),
        (None, None, Some(path)) => (path.value.split('.').map(str::to_owned).collect(), path.referenced),
        _ => return Err(source.at(here, "expected exactly one of `Key`, `DeepKey` and `KeyPath`")),
    };
    if keys.is_empty() || keys.iter().any(String::is_empty) {
        return Err(source.error(Some(place), "a key must not be empty"));
    }
    if key_path.is_some() && keys.iter().any(|key| key.contains(['[', ']', '*'])) {
        return Err(source.error(Some(place), "list indexes and `[*]` in a `KeyPath` are not supported"));
    }
    Ok(Field::new(keys))
}
