//! Reads Sigma rules for CloudTrail, and correlations of them.
//! Specification: <https://sigmahq.io/sigma-specification/>, version 2. A rule that cannot be evaluated exactly is
//! refused, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;

use rsigma_parser::{
    ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, Level, SigmaCollection, SigmaRule,
    Status, WindowMode,
};

use super::{Counts, Field, Notes, Predicate, Rule, Severity, TitlePart, Window, WindowKind, attack, limits};
use crate::error::Error;
use crate::time::{Period, PeriodError};

mod detection;
mod shape;

/// The fields of the triggering event in a finding.
const CONTEXT: [&str; 8] = [
    "eventName",
    "eventSource",
    "awsRegion",
    "recipientAccountId",
    "sourceIPAddress",
    "userAgent",
    "userIdentity",
    "requestParameters",
];

/// Returns whether a text is a Sigma file, by top-level keys that only Sigma files have.
pub fn is_sigma(text: &str) -> bool {
    let has = |key: &str| text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
    !has("AnalysisType") && (has("logsource") || has("correlation"))
}

/// Reads the rules of files, given by name and text. Returns each rule with the index of its file. Correlations may
/// name rules of other files. A rule that a correlation names is not hunted alone, unless the correlation has
/// `generate`.
///
/// # Errors
/// A rule cannot be read or evaluated. The error names the file of the first.
pub fn read(files: &[(&str, &str)]) -> Result<Vec<(usize, Rule)>, Error> {
    let mut collections = Vec::new();
    for (file, text) in files {
        shape::check(file, text).map_err(|reason| refused(file, &reason.to_string()))?;
        let collection = rsigma_parser::parse_sigma_yaml(text).map_err(|error| refused(file, &error.to_string()))?;
        if let Some(error) = collection.errors.first() {
            return Err(refused(file, error));
        }
        if let Some(filter) = collection.filters.first() {
            return Err(refused(
                file,
                &format!("`{}` is a filter, which is not applied: write it into the rule", filter.title),
            ));
        }
        collections.push(collection);
    }
    let mut known = BTreeMap::new();
    for (file, rule) in rules(&collections) {
        for name in [&rule.id, &rule.name].into_iter().flatten() {
            let other = known.insert(name.as_str(), rule).filter(|other| !std::ptr::eq(*other, rule));
            if other.is_some() {
                return Err(refused(files[file].0, &format!("another rule is called `{name}` too")));
            }
        }
    }
    let (mut parts, mut generated) = (BTreeSet::new(), BTreeSet::new());
    let correlations: BTreeSet<&str> = collections
        .iter()
        .flat_map(|collection| &collection.correlations)
        .flat_map(|correlation| [&correlation.id, &correlation.name].into_iter().flatten())
        .map(String::as_str)
        .collect();
    let unknown = |name: &str| {
        if correlations.contains(name) {
            "which is a correlation: those of correlations are not hunted"
        } else {
            "which is not a rule of these files"
        }
    };
    let mut found = Vec::new();
    for (number, collection) in collections.iter().enumerate() {
        for correlation in &collection.correlations {
            let file = files[number].0;
            let of: Vec<&SigmaRule> = correlation
                .rules
                .iter()
                .map(|name| {
                    let rule = known.get(name.as_str()).copied();
                    rule.ok_or_else(|| {
                        refused(file, &format!("`{}` names `{name}`, {}", correlation.title, unknown(name)))
                    })
                })
                .collect::<Result<_, _>>()?;
            let named = if correlation.generate { &mut generated } else { &mut parts };
            named.extend(of.iter().map(|rule| std::ptr::from_ref(*rule)));
            let read = correlated(correlation, &of)
                .map_err(|reason| refused(file, &format!("`{}`: {reason}", correlation.title)))?;
            found.push((number, read));
        }
    }
    for (number, rule) in rules(&collections) {
        let rule_itself = std::ptr::from_ref(rule);
        if generated.contains(&rule_itself) || !parts.contains(&rule_itself) {
            let file = files[number].0;
            let read = single(rule).map_err(|reason| refused(file, &format!("`{}`: {reason}", rule.title)))?;
            found.push((number, read));
        }
    }
    Ok(found)
}

fn rules(collections: &[SigmaCollection]) -> impl Iterator<Item = (usize, &SigmaRule)> {
    collections
        .iter()
        .enumerate()
        .flat_map(|(number, collection)| collection.rules.iter().map(move |rule| (number, rule)))
}

fn refused(file: &str, reason: &str) -> Error {
    Error::Usage {
        message: format!("the Sigma file `{file}`: {reason}"),
        hint: Some("leave the file out, or say it in another way".to_owned()),
    }
}

/// The reason why a Sigma rule cannot be hunted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Unsupported(String);

impl Unsupported {
    fn new(reason: impl Into<String>) -> Unsupported {
        Unsupported(reason.into())
    }

    /// Returns the same reason, about a part of the rule.
    fn about(self, part: impl fmt::Display) -> Unsupported {
        Unsupported(format!("`{part}`: {self}"))
    }
}

impl From<limits::LimitExceeded> for Unsupported {
    fn from(error: limits::LimitExceeded) -> Unsupported {
        Unsupported(error.to_string())
    }
}

/// Reads a rule without a correlation: every match is found. Matches of one identity within an hour are one finding.
fn single(rule: &SigmaRule) -> Result<Rule, Unsupported> {
    let id = rule.id.as_ref().or(rule.name.as_ref()).unwrap_or(&rule.title);
    let about = About {
        id,
        title: &rule.title,
        level: rule.level,
        status: rule.status,
        description: rule.description.as_ref(),
        references: &rule.references,
        tags: &rule.tags,
    };
    let window = Window { kind: WindowKind::Sliding, period: Period::HOUR, threshold: NonZeroU32::MIN };
    about.rule(matches(rule)?, window, vec![Field::Account, Field::Actor])
}

/// Returns the predicate of a rule.
fn matches(rule: &SigmaRule) -> Result<Predicate, Unsupported> {
    let source = &rule.logsource;
    let is = |given: &Option<String>, own: &str| given.as_deref().is_some_and(|given| given.eq_ignore_ascii_case(own));
    if !is(&source.product, "aws") || !is(&source.service, "cloudtrail") || source.category.is_some() {
        return Err(Unsupported::new(
            "its `logsource` is not `product: aws` and `service: cloudtrail`, and nothing else is hunted",
        ));
    }
    if rule.detection.timeframe.is_some() {
        return Err(Unsupported::new(
            "`timeframe` has no meaning without an aggregation: write a correlation with `timespan`",
        ));
    }
    rule.detection.conditions.iter().try_for_each(|condition| detection::check_size(condition, &rule.detection))?;
    let conditions = rule.detection.conditions.iter().map(|condition| detection::condition(condition, &rule.detection));
    let mut conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    let matched = match conditions.len() {
        0 => return Err(Unsupported::new("it has no condition")),
        1 => conditions.remove(0),
        _ => Predicate::Any(conditions),
    };
    limits::check(&matched)?;
    Ok(matched)
}

fn correlated(correlation: &CorrelationRule, rules: &[&SigmaRule]) -> Result<Rule, Unsupported> {
    let kind = match correlation.window {
        WindowMode::Sliding => WindowKind::Sliding,
        WindowMode::Tumbling => WindowKind::Tumbling,
        WindowMode::Session => return Err(Unsupported::new("windows of the kind `session` are not hunted")),
    };
    let period: Period = format!("{}s", correlation.timespan.seconds)
        .parse()
        .map_err(|error: PeriodError| Unsupported::new(error.to_string()))?;
    let field = |name: &str| -> Result<Field, Unsupported> { detection::field(&of_alias(correlation, name, rules)?) };
    let group = correlation.group_by.iter().map(|name| field(name)).collect::<Result<Vec<_>, _>>()?;
    for (given, limit, what) in [
        (group.len(), limits::GROUP_KEYS, "fields of `group-by`"),
        (rules.len(), limits::CORRELATED, "entries of `rules`"),
    ] {
        if given > limit {
            return Err(limits::exceeded(what, limit, "leave some out").into());
        }
    }
    let of_rule = |rule: &&SigmaRule| matches(rule).map_err(|reason| reason.about(&rule.title));
    let detections = rules.iter().map(of_rule).collect::<Result<Vec<_>, _>>()?;
    limits::check(&Predicate::Any(detections.clone()))?;
    let about = About {
        id: correlation.id.as_ref().or(correlation.name.as_ref()).unwrap_or(&correlation.title),
        title: &correlation.title,
        level: correlation.level,
        status: correlation.status,
        description: correlation.description.as_ref(),
        references: &correlation.references,
        tags: &correlation.tags,
    };
    let window = |threshold| Window { kind, period, threshold };
    let any = || Predicate::Any(detections.clone());
    match correlation.correlation_type {
        CorrelationType::EventCount => about.rule(any(), window(at_least(correlation)?), group),
        CorrelationType::ValueCount => {
            let CorrelationCondition::Threshold { field: Some(fields), .. } = &correlation.condition else {
                return Err(Unsupported::new("a `value_count` needs the `field` whose values are counted"));
            };
            let [counted] = fields.as_slice() else {
                return Err(Unsupported::new("a `value_count` of several fields is not hunted"));
            };
            let counts = Counts::Distinct(field(counted)?);
            Ok(Rule { counts, ..about.rule(any(), window(at_least(correlation)?), group)? })
        }
        kind @ (CorrelationType::Temporal | CorrelationType::TemporalOrdered) => {
            if correlation.window != WindowMode::Sliding {
                return Err(Unsupported::new("temporal correlations are hunted in sliding windows only"));
            }
            all_of_them(correlation, rules)?;
            let threshold = u32::try_from(detections.len())
                .ok()
                .and_then(NonZeroU32::new)
                .ok_or_else(|| Unsupported::new("it names no rule"))?;
            let rule = about.rule(any(), window(threshold), group)?;
            let ordered = kind == CorrelationType::TemporalOrdered;
            let counts = if ordered { Counts::InOrder(detections) } else { Counts::EachOf(detections) };
            Ok(Rule { counts, ..rule })
        }
        other => Err(Unsupported::new(format!("correlations of the type `{}` are not hunted", other.as_str()))),
    }
}

/// Returns the field that `name` stands for. An alias must stand for the same field in all rules.
fn of_alias(correlation: &CorrelationRule, name: &str, rules: &[&SigmaRule]) -> Result<String, Unsupported> {
    let Some(alias) = correlation.aliases.iter().find(|alias| alias.alias == name) else {
        return Ok(name.to_owned());
    };
    let of_rule = |rule: &&SigmaRule| {
        let mut names = [&rule.id, &rule.name].into_iter().flatten();
        names
            .find_map(|name| alias.mapping.get(name))
            .ok_or_else(|| Unsupported::new(format!("the alias `{name}` tells no field of `{}`", rule.title)))
    };
    let fields = rules.iter().map(of_rule).collect::<Result<BTreeSet<_>, _>>()?;
    match fields.into_iter().collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).clone()),
        _ => Err(Unsupported::new(format!("the alias `{name}` stands for different fields, which are not joined"))),
    }
}

/// Returns the number that a count must reach.
fn at_least(correlation: &CorrelationRule) -> Result<NonZeroU32, Unsupported> {
    let CorrelationCondition::Threshold { predicates, .. } = &correlation.condition else {
        return Err(Unsupported::new("a count needs a number: `gte: 5`"));
    };
    let number = match predicates.as_slice() {
        [(ConditionOperator::Gte, number)] => *number,
        [(ConditionOperator::Gt, number)] => number.saturating_add(1),
        _ => {
            return Err(Unsupported::new(
                "only counts that reach a number are hunted: `gte` or `gt`, and nothing else",
            ));
        }
    };
    u32::try_from(number)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| Unsupported::new("the count must be from 1 to 4294967295"))
}

/// Checks that a temporal correlation requires all of its rules, once each.
fn all_of_them(correlation: &CorrelationRule, rules: &[&SigmaRule]) -> Result<(), Unsupported> {
    let asks_for_all = match &correlation.condition {
        CorrelationCondition::Extended(_) => false,
        CorrelationCondition::Threshold { predicates, .. } => match predicates.as_slice() {
            [] => true,
            // The parser's default without a condition.
            [(ConditionOperator::Gte, number)] => [1, rules.len() as u64].contains(number),
            _ => false,
        },
    };
    if asks_for_all {
        Ok(())
    } else {
        Err(Unsupported::new("a `condition` on the rules of a temporal correlation is not hunted: all must occur"))
    }
}

/// The description that rules and correlations have.
struct About<'s> {
    id: &'s str,
    title: &'s str,
    level: Option<Level>,
    status: Option<Status>,
    description: Option<&'s String>,
    references: &'s [String],
    tags: &'s [String],
}

impl About<'_> {
    fn rule(&self, detection: Predicate, window: Window, group_by: Vec<Field>) -> Result<Rule, Unsupported> {
        super::check_id(self.id).map_err(|reason| Unsupported::new(format!("its id {reason}")))?;
        let context = |name: &&str| Ok(((*name).to_owned(), detection::field(name)?));
        let (reports, tags) = self.reports();
        Ok(Rule {
            id: self.id.to_owned(),
            display_name: self.title.to_owned(),
            title: vec![TitlePart::Text(self.title.to_owned())],
            severity: match self.level {
                Some(Level::Informational) => Severity::Info,
                Some(Level::Low) => Severity::Low,
                Some(Level::Medium) | None => Severity::Medium,
                Some(Level::High) => Severity::High,
                Some(Level::Critical) => Severity::Critical,
            },
            dynamic_severities: Vec::new(),
            enabled: !matches!(self.status, Some(Status::Deprecated | Status::Unsupported)),
            alert: true,
            window,
            counts: Counts::Matches,
            detection,
            group_by,
            context: CONTEXT.iter().map(context).collect::<Result<_, Unsupported>>()?,
            summary: Vec::new(),
            notes: Notes {
                description: self.description.cloned(),
                runbook: None,
                reference: self.references.first().cloned(),
                tags,
                reports,
            },
            tests: Vec::new(),
        })
    }

    /// Returns the ATT&CK techniques under each named tactic, and the other tags.
    fn reports(&self) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
        let (of_attack, tags): (Vec<&String>, Vec<&String>) =
            self.tags.iter().partition(|tag| tag.starts_with("attack."));
        let names = of_attack.iter().filter_map(|tag| tag.strip_prefix("attack."));
        let tactics: Vec<&str> = names.clone().filter_map(attack::tactic_id).collect();
        let is_technique = |name: &&str| {
            let digits = name.strip_prefix(['t', 'T']);
            digits.is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit()))
        };
        let techniques: Vec<String> = names.filter(is_technique).map(str::to_uppercase).collect();
        let pairs = techniques.iter().flat_map(|technique| match tactics.as_slice() {
            [] => vec![technique.clone()],
            tactics => tactics.iter().map(|tactic| format!("{tactic}:{technique}")).collect(),
        });
        let pairs: Vec<String> = pairs.collect();
        let reports = (!pairs.is_empty()).then(|| ("MITRE ATT&CK".to_owned(), pairs));
        (reports.into_iter().collect(), tags.into_iter().cloned().collect())
    }
}
