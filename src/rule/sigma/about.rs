//! The description that rules and correlations have.

use std::collections::BTreeMap;

use rsigma_parser::{CorrelationRule, Level, SigmaRule, Status};

use super::{Refusal, detection};
use crate::rule::{Counts, Field, Notes, PeakLimits, Predicate, Rule, Severity, TitlePart, Window, attack, check_id};

/// The fields of the triggering event in a finding.
pub(in crate::rule) const CONTEXT: [&str; 8] = [
    "eventName",
    "eventSource",
    "awsRegion",
    "recipientAccountId",
    "sourceIPAddress",
    "userAgent",
    "userIdentity",
    "requestParameters",
];

/// The description that rules and correlations have.
pub(super) struct About<'s> {
    id: &'s str,
    title: &'s str,
    level: Option<Level>,
    status: Option<Status>,
    description: Option<&'s String>,
    references: &'s [String],
    tags: &'s [String],
}

impl<'s> About<'s> {
    /// Returns the description of a rule.
    pub(super) fn rule_of(rule: &'s SigmaRule) -> About<'s> {
        About {
            id: rule.id.as_ref().or(rule.name.as_ref()).unwrap_or(&rule.title),
            title: &rule.title,
            level: rule.level,
            status: rule.status,
            description: rule.description.as_ref(),
            references: &rule.references,
            tags: &rule.tags,
        }
    }

    /// Returns the description of a correlation.
    pub(super) fn correlation(correlation: &'s CorrelationRule) -> About<'s> {
        About {
            id: correlation.id.as_ref().or(correlation.name.as_ref()).unwrap_or(&correlation.title),
            title: &correlation.title,
            level: correlation.level,
            status: correlation.status,
            description: correlation.description.as_ref(),
            references: &correlation.references,
            tags: &correlation.tags,
        }
    }

    /// Returns a rule with this description that counts matches.
    pub(super) fn rule(&self, detection: Predicate, window: Window, group_by: Vec<Field>) -> Result<Rule, Refusal> {
        check_id(self.id).map_err(|reason| Refusal::invalid(format!("its id {reason}")).at_key("id"))?;
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
            peak_limits: PeakLimits::default(),
            min_events: None,
            detection,
            group_by,
            first_seen: None,
            absence: None,
            context: CONTEXT.iter().map(context).collect::<Result<_, Refusal>>()?,
            summary: Vec::new(),
            notes: Notes {
                description: self.description.cloned(),
                runbook: None,
                reference: self.references.first().cloned(),
                tags,
                reports,
            },
            tests: Vec::new(),
            hunt_tests: Vec::new(),
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
