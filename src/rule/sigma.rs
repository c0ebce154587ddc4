//! Reads Sigma rules for CloudTrail, and correlations of them.
//! Specification: <https://sigmahq.io/sigma-specification/>, version 2. A rule that cannot be evaluated exactly is
//! refused, with the reason.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;

use rsigma_parser::{Detections, FieldSpec, LogSource, SigmaRule};

use super::lint::Warning;
use super::placeholders::Placeholders;
use super::yaml::YamlSource;
use super::{Field, Predicate, Rule, Window, WindowKind, limits};
use crate::error::{Error, RuleError, RuleErrorKind};
use crate::time::Period;

mod about;
mod alias;
mod comparison;
mod condition;
mod correlation;
mod detection;
mod document;
mod encoding;
mod filter;
mod keywords;
mod pattern;
mod reach;
mod references;
mod rewrite;
mod shape;
mod statistic;
mod warnings;

use about::About;
pub(super) use about::CONTEXT;
use document::Content;
use references::References;

/// The top-level keys that only Sigma files have.
pub(super) const KEYS: [&str; 3] = ["logsource", "detection", "correlation"];

/// The Sigma rules of some files.
#[derive(Debug, Default)]
pub struct SigmaRules {
    /// The rules that can run.
    pub rules: Vec<SigmaEntry>,
    /// The number of rules that could run, but are only parts of correlations.
    pub correlated: usize,
    /// For each of the others, the reasons why it cannot, by their place. There is at least one.
    pub refused: Vec<Vec<RuleError>>,
}

/// A Sigma rule that can run.
#[derive(Debug)]
pub struct SigmaEntry {
    /// The index of its file.
    pub file: usize,
    /// The rule.
    pub rule: Rule,
    /// Warnings, in the order of the text.
    pub warnings: Vec<Warning>,
}

/// Reads the rules of files. Correlations may name rules of other files. A rule that a correlation names is not hunted
/// alone, unless the correlation has `generate`.
pub fn load(files: &[YamlSource<'_>], placeholders: &Placeholders) -> SigmaRules {
    let mut found = SigmaRules::default();
    let (mut documents, mut unread) = (Vec::new(), BTreeSet::new());
    for (file, source) in files.iter().enumerate() {
        for read in document::read(file, *source, placeholders) {
            match read {
                Ok(document) => documents.push(document),
                Err(refused) => {
                    unread.extend(refused.names);
                    found.refused.push(refused.errors);
                }
            }
        }
    }
    let references = References::new(&documents, unread);
    let mut predicates = Vec::new();
    for document in &documents {
        predicates.push(document.rule().map(|rule| {
            rule_matches(rule).map_err(|refusals| {
                found.refused.push(document.errors(&refusals));
                refusals.first().map_or(RuleErrorKind::Invalid, |refusal| refusal.kind)
            })
        }));
    }
    for document in &documents {
        if let Content::Filter(filter) = &document.content {
            let refusals = filter::apply(filter, document, &references, &mut predicates);
            if !refusals.is_empty() {
                found.refused.push(document.errors(&refusals));
            }
        }
    }
    let (mut parts, mut generated) = (BTreeSet::new(), BTreeSet::new());
    for document in &documents {
        let Content::Correlation(correlation) = &document.content else {
            continue;
        };
        let (mut named, mut refusals) = (Vec::new(), Vec::new());
        for (index, name) in correlation.rules.iter().enumerate() {
            let part = references.resolve(document, name).and_then(|rule| {
                let copies = references.copies(rule);
                let of_kind = if correlation.generate { &mut generated } else { &mut parts };
                of_kind.extend(copies);
                let reason = || format!("it names `{name}`, which cannot run");
                match (documents[rule].rule(), &predicates[rule]) {
                    (Some(rule), Some(Ok(predicate))) => Ok(Part { rule, predicate }),
                    (_, Some(Err(kind))) => Err(Refusal { kind: *kind, ..Refusal::new(reason()) }),
                    _ => Err(Refusal::new(reason())),
                }
            });
            match part {
                Ok(part) => named.push(part),
                Err(refusal) => refusals.push(refusal.at_index(index).at_key("rules").at_key("correlation")),
            }
        }
        if refusals.is_empty() {
            match correlation::correlated(document, correlation, &named) {
                Ok(rule) => found.rules.push(document.entry(rule)),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if !refusals.is_empty() {
            found.refused.push(document.errors(&refusals));
        }
    }
    for (index, document) in documents.iter().enumerate() {
        let (Some(rule), Some(Ok(predicate))) = (document.rule(), &predicates[index]) else {
            continue;
        };
        if !generated.contains(&index) && parts.contains(&index) {
            found.correlated += 1;
        } else {
            match single(rule, predicate) {
                Ok(rule) => found.rules.push(document.entry(rule)),
                Err(refusal) => found.refused.push(document.errors(&[refusal])),
            }
        }
    }
    found
}

/// Reads the rules of files, given by name and text. Returns each rule with the index of its file.
///
/// # Errors
/// The reasons why rules cannot run.
pub fn read(files: &[(&str, &str)]) -> Result<Vec<(usize, Rule)>, Error> {
    let files: Vec<YamlSource<'_>> = files.iter().map(|(name, text)| YamlSource { name, text }).collect();
    let SigmaRules { rules, refused, .. } = load(&files, &Placeholders::default());
    let errors = refused.concat();
    if errors.is_empty() {
        Ok(rules.into_iter().map(|entry| (entry.file, entry.rule)).collect())
    } else {
        Err(Error::Rules(errors))
    }
}

/// A rule that a correlation names.
#[derive(Clone, Copy)]
struct Part<'s> {
    rule: &'s SigmaRule,
    predicate: &'s Predicate,
}

/// The reason why a Sigma rule cannot run, and its place.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
struct Refusal {
    kind: RuleErrorKind,
    reason: String,
    /// The steps from the innermost part of the document to the outermost.
    place: Vec<PlaceStep>,
}

/// A step from a YAML value to one within it.
#[derive(Debug, Clone, PartialEq)]
enum PlaceStep {
    /// To the value of a key.
    Key(String),
    /// To an element of a list. A single value counts as a list of one.
    Index(usize),
    /// To the key of a selection that names a field and its modifiers.
    Item(FieldSpec),
}

impl Refusal {
    /// Returns the refusal of a feature that is not supported.
    fn new(reason: impl Into<String>) -> Refusal {
        Refusal { kind: RuleErrorKind::Unsupported, reason: reason.into(), place: Vec::new() }
    }

    /// Returns the refusal of something that is wrong.
    fn invalid(reason: impl Into<String>) -> Refusal {
        Refusal { kind: RuleErrorKind::Invalid, ..Refusal::new(reason) }
    }

    /// Returns the same reason, about a part of the rule.
    fn about(self, part: impl fmt::Display) -> Refusal {
        Refusal { reason: format!("`{part}`: {}", self.reason), ..self }
    }

    /// Returns the same refusal of the value of `key`.
    fn at_key(self, key: &str) -> Refusal {
        self.at(PlaceStep::Key(key.to_owned()))
    }

    /// Returns the same refusal of an element.
    fn at_index(self, index: usize) -> Refusal {
        self.at(PlaceStep::Index(index))
    }

    fn at(mut self, step: PlaceStep) -> Refusal {
        self.place.push(step);
        self
    }
}

impl From<limits::LimitExceeded> for Refusal {
    fn from(error: limits::LimitExceeded) -> Refusal {
        Refusal::new(error.to_string())
    }
}

/// Reads a rule without a correlation: every match is found. Matches of one identity within an hour are one finding.
fn single(rule: &SigmaRule, predicate: &Predicate) -> Result<Rule, Refusal> {
    let window = Window { kind: WindowKind::Sliding, period: Period::HOUR, threshold: NonZeroU32::MIN };
    About::rule_of(rule).rule(predicate.clone(), window, vec![Field::Account, Field::Actor])
}

/// Returns the predicate of a rule.
fn rule_matches(rule: &SigmaRule) -> Result<Predicate, Vec<Refusal>> {
    let sources = rule.custom_attributes.get("sourcetypes").and_then(|sources| sources.as_sequence());
    match sources {
        // RunReveal's rules have these in place of a `logsource`.
        Some(sources) if rule.logsource == LogSource::default() => {
            if !sources.iter().filter_map(|source| source.as_str()).any(|source| source.eq_ignore_ascii_case(SERVICE)) {
                let reason = "its `sourcetypes` do not name `cloudtrail`, and nothing else is hunted";
                let refusal = Refusal { kind: RuleErrorKind::OtherLogs, ..Refusal::new(reason) };
                return Err(vec![refusal.at_key("sourcetypes")]);
            }
        }
        _ => check_source(&rule.logsource).map_err(|refusal| vec![refusal])?,
    }
    if rule.detection.timeframe.is_some() {
        let reason = "`timeframe` has no meaning without an aggregation: write a correlation with `timespan`";
        return Err(vec![Refusal::new(reason).at_key("timeframe").at_key("detection")]);
    }
    matches(&rule.detection, "detection")
}

/// Returns the predicate of the selections and conditions in a section.
fn matches(detections: &Detections, section: &str) -> Result<Predicate, Vec<Refusal>> {
    let conditions = &detections.conditions;
    let mut refusals = detection::refusals(detections, section);
    if !refusals.is_empty() {
        let of_conditions =
            conditions.iter().flat_map(|condition| detection::condition_refusals(condition, detections));
        refusals.extend(of_conditions.map(|refusal| refusal.at_key("condition").at_key(section)));
        return Err(refusals);
    }
    let in_condition = |refusal: Refusal| vec![refusal.at_key("condition").at_key(section)];
    conditions.iter().try_for_each(|condition| detection::check_size(condition, detections)).map_err(in_condition)?;
    let predicates = conditions.iter().map(|condition| detection::condition(condition, detections));
    let mut predicates = predicates.collect::<Result<Vec<_>, _>>().map_err(in_condition)?;
    let matched = match predicates.len() {
        0 => return Err(in_condition(Refusal::invalid("it has no condition"))),
        1 => predicates.remove(0),
        _ => Predicate::Any(predicates),
    };
    limits::check(&matched).map_err(|limit| in_condition(limit.into()))?;
    Ok(matched)
}

/// CloudTrail's `service` in Sigma.
const SERVICE: &str = "cloudtrail";

/// Checks that a `logsource` includes CloudTrail: it names the product, the service or both, and nothing else.
fn check_source(source: &LogSource) -> Result<(), Refusal> {
    let is = |given: &Option<String>, own: &str| given.as_deref().is_none_or(|given| given.eq_ignore_ascii_case(own));
    let is_named = source.product.is_some() || source.service.is_some();
    if !is_named || !is(&source.product, "aws") || !is(&source.service, SERVICE) || source.category.is_some() {
        let reason = "its `logsource` is not `product: aws` and `service: cloudtrail`, and nothing else is hunted";
        return Err(Refusal { kind: RuleErrorKind::OtherLogs, ..Refusal::new(reason) }.at_key("logsource"));
    }
    Ok(())
}
