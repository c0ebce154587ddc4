//! Reads Panther's rule YAML as a [`Rule`]. Unsupported keys are errors with name and place, never ignored.
//!
//! Format: <https://docs.panther.com/detections/rules/writing-simple-detections>

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::condition::{MappingMembers, Reader, RuleErrors, Scope};
use super::limits::{self, GROUP_KEYS, OUTPUT_FIELDS};
use super::lint::{self, Code, Warning};
use super::python::ModuleFiles;
use super::value_lists::ValueLists;
use super::yaml::{Mark, YamlContent, YamlNode, YamlSource};
use super::{Counts, Field, Notes, PeakLimits, Predicate, Rule, Severity, TitlePart, Window};
use crate::error::{Error, RuleErrorKind};
use crate::path::Path;
use crate::text::item_named;
use crate::time::Period;

mod hunt;
mod python;
mod tests;

/// Kinds of rules over the results of queries or of other rules, not over logs.
const OF_RESULTS: [&str; 2] = ["scheduled_rule", "correlation_rule"];

/// Panther's default for `Threshold`. The default for `DedupPeriodMinutes` is an hour.
const DEFAULT_THRESHOLD: NonZeroU32 = NonZeroU32::MIN;

const RULE: &[&str] = &[
    "AnalysisType",
    "RuleID",
    "DisplayName",
    "Enabled",
    "Severity",
    "LogTypes",
    "Detection",
    "InlineFilters",
    "DedupPeriodMinutes",
    "Threshold",
    "Hunt",
    "GroupBy",
    "AlertTitle",
    "AlertContext",
    "DynamicSeverities",
    "CreateAlert",
    "Reports",
    "Description",
    "Reference",
    "Runbook",
    "Tags",
    "Status",
    "CreatedBy",
    "SummaryAttributes",
    "Tests",
    "OutputIds",
    "OnlyUseBaseRiskScore",
    "BaseVersion",
    "Filename",
    "ScheduledQueries",
    "BaseDetection",
];

/// A rule and warnings about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The rule.
    pub rule: Rule,
    /// Warnings, in the order of the text.
    pub warnings: Vec<Warning>,
}

/// Reads one rule from YAML text. `name` is the name of the text in errors, its path. A `Filename` is read in the folder
/// of that path.
pub fn parse(name: &str, text: &str) -> Result<Read, Error> {
    parse_with(name, text, &ModuleFiles::default(), &ValueLists::default())
}

/// Reads one rule as [`parse`] does. Several rules may share `files`, the modules that their Python imports, and `lists`,
/// the value lists that their conditions name.
pub fn parse_with(name: &str, text: &str, files: &ModuleFiles, lists: &ValueLists) -> Result<Read, Error> {
    let source = YamlSource { name, text };
    let document = source.read()?;
    let mut reader = Reader::new(source, lists);
    let members = reader.mapping(&document, "a rule")?;
    let mut errors = RuleErrors::default();
    errors.keep(reader.check_keys(&members, "a rule", RULE))?;
    let rule = errors.keep(reader.rule(&members, files))?;
    errors.none()?;
    let rule = rule.ok_or_else(|| Error::Internal("a rule is missing without an error".to_owned()))?;
    let mut warnings = reader.warnings;
    warnings.sort_by_key(|warning| (warning.line, warning.column));
    Ok(Read { rule, warnings })
}

impl Reader<'_> {
    fn rule(&mut self, members: &MappingMembers<'_>, files: &ModuleFiles) -> Result<Rule, Error> {
        self.refuse_unsupported(members)?;
        let mut errors = RuleErrors::default();
        let id = errors.keep(self.id(members))?;
        let window = errors.keep(self.window(members))?;
        let mut python = match (members.get("Filename"), &id) {
            (Some(filename), Some(id)) => errors.keep(self.python(members, filename, id, files))?,
            _ => None,
        };
        let detection = match members.get("Filename") {
            None => errors.keep(self.detection(members))?,
            Some(_) => match &mut python {
                None => None,
                Some(python) => errors.keep(self.filtered(members, python))?,
            },
        };
        let severity =
            errors.keep(self.required(members, "Severity").and_then(|node| self.severity(node, "`Severity`")))?;
        let enabled = errors.keep(self.required(members, "Enabled").and_then(|node| self.flag(node, "`Enabled`")))?;
        let enabled =
            enabled.map(|enabled| enabled && !python.as_ref().is_some_and(|python| python.needs_configuration));
        let alert = members.get("CreateAlert").map_or(Ok(true), |flag| self.flag(flag, "`CreateAlert`"));
        let alert = errors.keep(alert)?;
        let display_name = members.get("DisplayName").map(|name| self.text(name, "`DisplayName`"));
        let display_name = errors.keep(display_name.transpose())?;
        let title = members.get("AlertTitle").map(|title| self.title(title));
        let title = errors.keep(title.transpose())?;
        let dynamic_severities = errors.keep(self.dynamic_severities(members))?;
        let group_by = errors.keep(self.group_by(members))?;
        let context = errors.keep(self.context(members))?;
        let summary = errors.keep(self.summary(members))?;
        let first_seen = errors.keep(self.first_seen(members))?;
        let absence = errors.keep(self.absence(members))?;
        let min_events = errors.keep(self.min_events(members))?;
        let notes = errors.keep(self.notes(members))?;
        let tests = match &mut python {
            Some(python) => Some(std::mem::take(&mut python.tests)),
            None if members.get("Filename").is_some() => None,
            None => errors.keep(self.tests(members))?,
        };
        let hunt_tests = match &group_by {
            Some(group) => {
                let of_python = python.as_ref().map(|python| python.group_by.as_slice()).unwrap_or_default();
                errors.keep(self.hunt_tests(members, if group.is_empty() { of_python } else { group }))?
            }
            None => None,
        };
        errors.none()?;
        let (mut title, mut dynamic_severities) = (title, dynamic_severities);
        let (mut group_by, mut context) = (group_by, context);
        if let Some(python) = python {
            // Keys of the YAML take precedence over functions of the Python.
            if let Some(title) = &mut title {
                *title = title.take().or(python.title);
            }
            dynamic_severities =
                dynamic_severities.map(|given| if given.is_empty() { python.severities } else { given });
            group_by = group_by.map(|given| if given.is_empty() { python.group_by } else { given });
            context = context.map(|given| if given.is_empty() { python.context } else { given });
        }
        let rule = || {
            let (id, (counts, detection)) = (id?, detection?);
            let display_name = display_name?.unwrap_or_else(|| id.clone());
            Some(Rule {
                title: title?.unwrap_or_else(|| vec![TitlePart::Text(display_name.clone())]),
                display_name,
                severity: severity?,
                dynamic_severities: dynamic_severities?,
                enabled: enabled?,
                alert: alert?,
                window: window?,
                counts,
                peak_limits: PeakLimits::default(),
                min_events: min_events?,
                detection,
                group_by: group_by?,
                first_seen: first_seen?,
                absence: absence?,
                context: context?,
                summary: summary?,
                notes: notes?,
                tests: tests?,
                hunt_tests: hunt_tests?,
                id,
            })
        };
        let rule = rule().ok_or_else(|| Error::Internal("a part of a rule is missing without an error".to_owned()))?;
        self.remark(members, &rule);
        Ok(rule)
    }

    /// Returns what a rule counts, and the predicate of a match.
    fn detection(&mut self, members: &MappingMembers<'_>) -> Result<(Counts, Predicate), Error> {
        let detection = self.required(members, "Detection")?;
        if matches!(&detection.content, YamlContent::List(expressions) if expressions.is_empty()) {
            return self.error(detection.mark, "`Detection` must hold at least one expression");
        }
        let detection = self.conjunction(detection, "`Detection`", Scope::Record)?;
        let mut detection = self.with_filters(members, detection)?;
        let mut counts = self.counted(members)?;
        if let Some(then) = self.followed_by(members)? {
            counts = Counts::Followed { first: detection.clone(), then: then.clone() };
            detection = Predicate::Any(vec![detection, then]);
        }
        Ok((counts, detection))
    }

    /// As [`Reader::detection`], of a rule in Python.
    fn filtered(
        &mut self,
        members: &MappingMembers<'_>,
        python: &mut python::PythonLogic,
    ) -> Result<(Counts, Predicate), Error> {
        let detection = std::mem::replace(&mut python.detection, Predicate::All(Vec::new()));
        let detection = self.with_filters(members, detection)?;
        Ok((std::mem::replace(&mut python.counts, Counts::Matches), detection))
    }

    /// Returns `detection` after the rule's inline filters.
    fn with_filters(&mut self, members: &MappingMembers<'_>, detection: Predicate) -> Result<Predicate, Error> {
        let Some(filters) = members.get("InlineFilters") else { return Ok(detection) };
        let filters = self.conjunction(filters, "`InlineFilters`", Scope::Record)?;
        Ok(Predicate::All(vec![filters, detection]))
    }

    pub(super) fn required<'n>(&self, members: &MappingMembers<'n>, key: &str) -> Result<&'n YamlNode, Error> {
        match members.get(key) {
            Some(node) => Ok(node),
            None => self.error(members.mark, &format!("`{key}` is missing")),
        }
    }

    fn refuse_unsupported(&self, members: &MappingMembers<'_>) -> Result<(), Error> {
        let refuse = |kind, mark, message: &str| Err(self.source.rule_error(kind, mark, message).into());
        if let Some(kind) = members.get("AnalysisType")
            && kind.as_text() != Some("rule")
        {
            let message = "`AnalysisType` must be `rule`: policies, correlations and queries are not hunted";
            let is_of_results = kind.as_text().is_some_and(|kind| OF_RESULTS.contains(&kind));
            let reason = if is_of_results { RuleErrorKind::OtherLogs } else { RuleErrorKind::Unsupported };
            return refuse(reason, kind.mark, message);
        }
        if let Some(types) = members.get("LogTypes")
            && !self.list(types, "`LogTypes`")?.iter().any(|log_type| log_type.as_text() == Some("AWS.CloudTrail"))
        {
            let message = "`LogTypes` must name `AWS.CloudTrail`: only CloudTrail is hunted";
            return refuse(RuleErrorKind::OtherLogs, types.mark, message);
        }
        for (key, kind, why) in [
            (
                "ScheduledQueries",
                RuleErrorKind::Unsupported,
                "rules over the results of queries are not run: write the logic as `Detection`",
            ),
            (
                "BaseDetection",
                RuleErrorKind::Unsupported,
                "rules that derive from others are not run: write the whole rule out",
            ),
        ] {
            if let Some(node) = members.get(key) {
                return refuse(kind, node.mark, &format!("`{key}`: {why}"));
            }
        }
        self.required(members, "AnalysisType").map(|_| ())
    }

    fn id(&self, members: &MappingMembers<'_>) -> Result<String, Error> {
        let node = self.required(members, "RuleID")?;
        let id = self.text(node, "`RuleID`")?;
        if let Err(reason) = super::check_id(&id) {
            return self.error(node.mark, &format!("`RuleID` {reason}"));
        }
        self.required(members, "LogTypes").map(|_| id)
    }

    fn window(&self, members: &MappingMembers<'_>) -> Result<Window, Error> {
        let number =
            |node: &YamlNode| node.as_text().filter(|_| node.is_number()).and_then(|text| text.parse::<u64>().ok());
        let threshold = match members.get("Threshold") {
            None => DEFAULT_THRESHOLD,
            Some(node) => match number(node).and_then(|number| u32::try_from(number).ok()).and_then(NonZeroU32::new) {
                None => return self.error(node.mark, "`Threshold` must be a whole number from 1 to 4294967295"),
                Some(threshold) => threshold,
            },
        };
        let period = match members.get("DedupPeriodMinutes") {
            None => Period::HOUR,
            Some(node) => match number(node).and_then(Period::from_minutes) {
                None => {
                    let message = "`DedupPeriodMinutes` must be a whole number from 1 to 527040 (366 days)";
                    return self.error(node.mark, message);
                }
                Some(period) => period,
            },
        };
        Ok(Window { kind: self.kind(members)?, period, threshold })
    }

    fn severity(&self, node: &YamlNode, what: &str) -> Result<Severity, Error> {
        let given = node.as_text().unwrap_or_default();
        match item_named(given, &Severity::ALL) {
            Some(severity) => Ok(severity),
            None => self.error(node.mark, &format!("{what} must be Info, Low, Medium, High or Critical")),
        }
    }

    fn dynamic_severities(&mut self, members: &MappingMembers<'_>) -> Result<Vec<(Severity, Predicate)>, Error> {
        let mut severities = Vec::new();
        for node in self.optional_list(members, "DynamicSeverities")? {
            let entry = self.members(node, "`DynamicSeverities`", &["ChangeTo", "Conditions"])?;
            let severity = self.severity(self.required(&entry, "ChangeTo")?, "`ChangeTo`")?;
            let conditions = self.required(&entry, "Conditions")?;
            severities.push((severity, self.conjunction(conditions, "`Conditions`", Scope::Record)?));
        }
        Ok(severities)
    }

    /// Returns the parts of a text with field paths in braces.
    fn title(&mut self, node: &YamlNode) -> Result<Vec<TitlePart>, Error> {
        let text = self.text(node, "`AlertTitle`")?;
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, braced)) = rest.split_once('{') {
            let Some((path, after)) = braced.split_once('}') else {
                return self.error(node.mark, "`AlertTitle`: a `{` is not closed");
            };
            if !before.is_empty() {
                parts.push(TitlePart::Text(before.to_owned()));
            }
            match path.trim().parse::<Path>() {
                Ok(path) => parts.push(TitlePart::Field(self.field(path, node.mark, Scope::Record))),
                Err(reason) => return self.error(node.mark, &format!("`AlertTitle`: in `{{{path}}}`, {reason}")),
            }
            rest = after;
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(TitlePart::Text(rest.to_owned()));
        }
        if parts.iter().filter(|part| matches!(part, TitlePart::Field(_))).count() > OUTPUT_FIELDS {
            return self.error(
                node.mark,
                &limits::exceeded("fields in `AlertTitle`", OUTPUT_FIELDS, "leave some out").to_string(),
            );
        }
        Ok(parts)
    }

    fn group_by(&mut self, members: &MappingMembers<'_>) -> Result<Vec<Field>, Error> {
        let mut fields: Vec<Field> = Vec::new();
        for node in self.at_most(members, "GroupBy", GROUP_KEYS, "group by an object that holds several")? {
            let key = self.members(node, "`GroupBy`", &["Key", "DeepKey", "KeyPath"])?;
            let field = self.key(&key, Scope::Record)?;
            if fields.iter().any(|earlier| earlier.to_string().eq_ignore_ascii_case(&field.to_string())) {
                return self.error(node.mark, &format!("`{field}` is given twice in `GroupBy`"));
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn context(&mut self, members: &MappingMembers<'_>) -> Result<Vec<(String, Field)>, Error> {
        let mut context: Vec<(String, Field)> = Vec::new();
        for node in self.at_most(members, "AlertContext", OUTPUT_FIELDS, "name an object that holds several")? {
            let entry = self.members(node, "`AlertContext`", &["KeyName", "KeyValue"])?;
            let key = self.required(&entry, "KeyName")?;
            let name = self.text(key, "`KeyName`")?;
            if context.iter().any(|(earlier, _)| *earlier == name) {
                return self.error(key.mark, &format!("`{name}` is given twice in `AlertContext`"));
            }
            let value =
                self.members(self.required(&entry, "KeyValue")?, "`KeyValue`", &["Key", "DeepKey", "KeyPath"])?;
            context.push((name, self.key(&value, Scope::Record)?));
        }
        Ok(context)
    }

    /// Returns the fields of `SummaryAttributes`. Panther itself creates fields that begin with `p_`.
    fn summary(&mut self, members: &MappingMembers<'_>) -> Result<Vec<Field>, Error> {
        let mut fields = Vec::new();
        for node in self.at_most(members, "SummaryAttributes", OUTPUT_FIELDS, "leave some out")? {
            let text = self.text(node, "`SummaryAttributes`")?;
            if text.starts_with("p_") {
                let message = format!("`{text}` is a field of Panther's own, and not in CloudTrail");
                self.warn(node.mark, Code::NoEffect, message);
                continue;
            }
            let field = self.path(node, "`SummaryAttributes`", Scope::Record)?;
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        Ok(fields)
    }

    fn notes(&self, members: &MappingMembers<'_>) -> Result<Notes, Error> {
        let text = |key: &str| match members.get(key) {
            Some(node) => self.text(node, &format!("`{key}`")).map(|text| Some(text.trim().to_owned())),
            None => Ok(None),
        };
        for key in ["Status", "CreatedBy"] {
            text(key)?;
        }
        let texts = |node: &YamlNode, what: &str| -> Result<Vec<String>, Error> {
            self.list(node, what)?.iter().map(|node| self.text(node, what)).collect()
        };
        let mut reports = BTreeMap::new();
        if let Some(node) = members.get("Reports") {
            let YamlContent::Map(frameworks) = &node.content else {
                return self.error(node.mark, "`Reports` must be a mapping of frameworks to lists");
            };
            for (name, places) in frameworks.iter().filter(|(_, places)| !places.is_null()) {
                let places = texts(places, "a framework in `Reports`")?;
                reports.insert(name.as_text().unwrap_or_default().to_owned(), places);
            }
        }
        Ok(Notes {
            description: text("Description")?,
            runbook: text("Runbook")?,
            reference: text("Reference")?,
            tags: members.get("Tags").map_or(Ok(Vec::new()), |node| texts(node, "`Tags`"))?,
            reports,
        })
    }

    /// Returns a list that may be absent and has at most `limit` elements.
    fn at_most<'n>(
        &self,
        members: &MappingMembers<'n>,
        key: &str,
        limit: usize,
        advice: &'static str,
    ) -> Result<&'n [YamlNode], Error> {
        let nodes = self.optional_list(members, key)?;
        match nodes.get(limit) {
            Some(node) => {
                self.error(node.mark, &limits::exceeded(&format!("entries of `{key}`"), limit, advice).to_string())
            }
            None => Ok(nodes),
        }
    }

    pub(super) fn optional_list<'n>(&self, members: &MappingMembers<'n>, key: &str) -> Result<&'n [YamlNode], Error> {
        match members.get(key) {
            Some(node) => self.list(node, &format!("`{key}`")),
            None => Ok(&[]),
        }
    }

    /// Adds a warning for each field of the group that matches may lack.
    fn remark_on_optional_groups(&mut self, members: &MappingMembers<'_>, rule: &Rule) {
        let Some(YamlContent::List(nodes)) = members.get("GroupBy").map(|node| &node.content) else { return };
        for (node, field) in nodes.iter().zip(&rule.group_by) {
            if lint::is_optional(field) && !rule.detection.requires(field) {
                let message = format!("all records without `{field}` are one group");
                self.warn(node.mark, Code::NullableGroup, message);
            }
        }
    }

    /// Returns warnings about the rule as a whole.
    fn remark(&mut self, members: &MappingMembers<'_>, rule: &Rule) {
        let place = |key: &str| members.get(key).map_or(members.mark, |node| node.mark);
        let mut remarks: Vec<(Mark, Code, &str)> = Vec::new();
        if rule.window.threshold == NonZeroU32::MIN
            && !matches!(rule.counts, Counts::Followed { .. })
            && rule.absence.is_none()
            && members.get("DedupPeriodMinutes").is_some()
        {
            let message =
                "with `Threshold` 1 every match is in a finding; the period only says which of them share one";
            remarks.push((place("DedupPeriodMinutes"), Code::ThresholdOne, message));
        }
        if rule.window.threshold > NonZeroU32::MIN && rule.group_by.is_empty() {
            let message = "without `GroupBy` the matches of all users and accounts are counted together";
            remarks.push((place("Threshold"), Code::NoGroup, message));
        }
        self.remark_on_optional_groups(members, rule);
        if rule.tests.is_empty() && rule.hunt_tests.is_empty() {
            remarks.push((
                members.mark,
                Code::NoTests,
                "the rule has no `Tests`: give it one that matches and one that does not",
            ));
        }
        if members.get("OutputIds").is_some() {
            remarks.push((
                place("OutputIds"),
                Code::NoEffect,
                "`OutputIds` are Panther's destinations and do nothing here",
            ));
        }
        for (mark, code, message) in remarks {
            self.warn(mark, code, message.to_owned());
        }
    }
}
