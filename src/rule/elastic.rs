//! Reads Elastic's detection rules for CloudTrail, in TOML.
//!
//! Format: <https://github.com/elastic/detection-rules>. Queries in KQL are read, of the types `query`, `threshold` and
//! `new_terms`. Other rules are refused by name.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Deserialize;

use super::lint::{Code, Warning};
use super::panther::Read;
use super::yaml::{Mark, YamlSource};
use super::{
    Counts, Field, FirstSeen, NewnessPeriods, Notes, PeakLimits, Predicate, Rule, Severity, TitlePart, Window,
    WindowKind, check_id, limits,
};
use crate::error::{Error, RuleErrorKind};
use crate::time::Period;

mod conditions;
mod document;
mod fields;
mod kql;

use document::{Document, Refusal};

/// Keys that say nothing about findings, or that are read elsewhere.
const KNOWN: &[&str] = &[
    "actions",
    "alert_suppression",
    "anomaly_threshold",
    "author",
    "building_block_type",
    "description",
    "enabled",
    "event_category_override",
    "exceptions_list",
    "false_positives",
    "filters",
    "from",
    "index",
    "interval",
    "investigation_fields",
    "language",
    "license",
    "machine_learning_job_id",
    "max_signals",
    "meta",
    "name",
    "new_terms",
    "note",
    "query",
    "references",
    "related_integrations",
    "required_fields",
    "risk_score",
    "risk_score_mapping",
    "rule_id",
    "rule_name_override",
    "setup",
    "severity",
    "severity_mapping",
    "tags",
    "threat",
    "threshold",
    "throttle",
    "timeline_id",
    "timeline_title",
    "timestamp_override",
    "timestamp_override_fallback_disabled",
    "to",
    "type",
    "version",
];

/// The look-back of a run of a rule without `from`, and of Elastic's own rules.
const DEFAULT_FROM: &str = "now-6m";

/// Reads one rule from TOML text. `name` is the name of the text in errors, its path.
///
/// # Errors
/// The text is not a rule, or the rule cannot be evaluated exactly.
pub fn parse(name: &str, text: &str) -> Result<Read, Error> {
    let source = YamlSource { name, text };
    let document = Document::read(source)?;
    let refused = |refusal: Refusal| -> Error {
        let title = document.text("name").ok().flatten().unwrap_or_else(|| "this rule".to_owned());
        let message = format!("`{title}`: {refusal}");
        source.rule_error(refusal.kind, document.mark(refusal.at), &message).into()
    };
    let rule = rule(&document).map_err(refused)?;
    let is_query = document.text("type").is_ok_and(|kind| kind.as_deref() == Some("query"));
    let warning = |(key, at): (&str, usize)| {
        let message = match key {
            "alert_suppression" if !is_query => format!("`{key}` has an effect only on rules of the type `query`"),
            key if KNOWN.contains(&key) => return None,
            key => format!("`{key}` is not a key that is known here, and has no effect"),
        };
        let Mark { line, column } = document.mark(at);
        Some(Warning { code: Code::NoEffect, line, column, message })
    };
    Ok(Read { rule, warnings: document.keys().filter_map(warning).collect() })
}

/// The windows of a rule, the counted number, and the group of a match.
struct Findings {
    window: Window,
    counts: Counts,
    min_events: Option<NonZeroU32>,
    group_by: Vec<Field>,
    first_seen: Option<FirstSeen>,
    /// Holds where the fields of the group have values.
    has_group: Predicate,
}

fn rule(document: &Document<'_>) -> Result<Rule, Refusal> {
    let kind = document.required("type")?;
    let query = document.text("query")?.unwrap_or_default();
    let is_of_cloudtrail = document.source.text.to_ascii_lowercase().contains("cloudtrail");
    let unsupported = |at: usize, reason: String| {
        let kind = if is_of_cloudtrail { RuleErrorKind::Unsupported } else { RuleErrorKind::OtherLogs };
        Refusal { kind, at, reason }
    };
    if !["query", "threshold", "new_terms"].contains(&kind.as_str()) {
        let reason = format!("rules of the type `{kind}` are not supported: those with queries in KQL are");
        return Err(unsupported(document.at("type"), reason));
    }
    if let Some(language) = document.text("language")?
        && language != "kuery"
    {
        let reason = format!("queries in `{language}` are not supported: those in KQL (`kuery`) are");
        return Err(unsupported(document.at("language"), reason));
    }
    for key in ["filters", "exceptions_list"] {
        if !document.is_empty(key) {
            return Err(unsupported(document.at(key), format!("`{key}` are not supported: write them into the query")));
        }
    }
    let detection = detection(document, &query)?;
    let found = match kind.as_str() {
        "threshold" => threshold(document)?,
        "new_terms" => new_terms(document)?,
        _ => single(document)?,
    };
    let detection = conditions::conjunction(vec![detection, found.has_group.clone()]);
    limits::check(&detection).map_err(|error| Refusal {
        kind: RuleErrorKind::Unsupported,
        at: document.at("query"),
        reason: error.to_string(),
    })?;
    about(document, found, detection)
}

/// Returns the predicate of the query.
fn detection(document: &Document<'_>, query: &str) -> Result<Predicate, Refusal> {
    let unsupported =
        |at, reason| Refusal { kind: RuleErrorKind::Unsupported, at: document.at_query(query, at), reason };
    let parsed = kql::parse(query).map_err(|kql::KqlError { at, reason }| unsupported(at, reason))?;
    let names = |of_cloudtrail: bool| {
        parsed.has(&|field, value| fields::is_data_set(field) && value.matches(fields::DATA_SET) == of_cloudtrail)
    };
    let index = document.list("index")?;
    let is_indexed = index.is_empty() || index.iter().any(|pattern| pattern.contains("cloudtrail"));
    if !names(true) && (names(false) || !is_indexed) {
        let reason = "it does not select `data_stream.dataset: aws.cloudtrail`, and nothing else is hunted";
        return Err(Refusal { kind: RuleErrorKind::OtherLogs, at: document.at("query"), reason: reason.to_owned() });
    }
    let predicate =
        conditions::predicate(&parsed).map_err(|conditions::Unsupported { at, reason }| unsupported(at, reason))?;
    if predicate == conditions::always(false) {
        return Err(document.invalid("query", "no record can satisfy its query".to_owned()));
    }
    Ok(predicate)
}

/// Returns the windows of a rule of the type `query`: every match is found. Matches of one identity within an hour are
/// one finding. A rule with `alert_suppression` has the group and the period of that.
fn single(document: &Document<'_>) -> Result<Findings, Refusal> {
    let (mut period, mut group_by) = (Period::HOUR, vec![Field::Account, Field::Actor]);
    if let Some(suppression) = document.value::<Suppression>("alert_suppression")? {
        group_by = grouped(document, "alert_suppression", &suppression.group_by)?.0;
        if let Some(Duration { value, unit }) = suppression.duration {
            let reason = |error| document.invalid("alert_suppression", format!("`duration`: {error}"));
            period = format!("{value}{unit}").parse().map_err(reason)?;
        }
    }
    Ok(Findings {
        window: Window { kind: WindowKind::Sliding, period, threshold: NonZeroU32::MIN },
        counts: Counts::Matches,
        min_events: None,
        group_by,
        first_seen: None,
        has_group: conditions::always(true),
    })
}

#[derive(Deserialize)]
struct Suppression {
    #[serde(default)]
    group_by: Vec<String>,
    duration: Option<Duration>,
}

#[derive(Deserialize)]
struct Duration {
    value: u64,
    unit: String,
}

#[derive(Deserialize)]
struct Threshold {
    #[serde(default)]
    field: OneOrMany,
    value: u64,
    #[serde(default)]
    cardinality: Vec<Cardinality>,
}

#[derive(Deserialize)]
struct Cardinality {
    field: String,
    value: u64,
}

/// A text, or a list of texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> OneOrMany {
        OneOrMany::Many(Vec::new())
    }
}

impl OneOrMany {
    /// Returns the texts that are not empty.
    fn texts(self) -> Vec<String> {
        let texts = match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        texts.into_iter().filter(|text| !text.is_empty()).collect()
    }
}

/// Returns the windows of a threshold rule. A run of the rule counts the matches since `from`, so a window has that length.
/// A match without a field of the group is not counted.
fn threshold(document: &Document<'_>) -> Result<Findings, Refusal> {
    let Some(Threshold { field, value, cardinality }) = document.value("threshold")? else {
        return Err(document.invalid("type", "a rule of the type `threshold` needs a table `threshold`".to_owned()));
    };
    let (group_by, has_group) = grouped(document, "threshold", &field.texts())?;
    let number = |value: u64| {
        u32::try_from(value).ok().and_then(NonZeroU32::new).ok_or_else(|| {
            document.invalid("threshold", "`value` must be a whole number from 1 to 4294967295".to_owned())
        })
    };
    let value = number(value)?;
    let (counts, threshold) = match cardinality.as_slice() {
        [] => (Counts::Matches, value),
        [Cardinality { field, value: distinct }] => {
            let (mut fields, _) = grouped(document, "threshold", std::slice::from_ref(field))?;
            match fields.pop() {
                Some(field) => (Counts::Distinct(field), number(*distinct)?),
                None => (Counts::Matches, value),
            }
        }
        _ => return Err(document.unsupported("threshold", "several of `cardinality` are not supported".to_owned())),
    };
    // So many distinct values are at least as many matches.
    let min_events = (counts != Counts::Matches && value > threshold).then_some(value);
    let window = Window { kind: WindowKind::Sliding, period: look_back(document)?, threshold };
    Ok(Findings { window, counts, min_events, group_by, first_seen: None, has_group })
}

/// Returns the time before a run that the run reads.
fn look_back(document: &Document<'_>) -> Result<Period, Refusal> {
    let from = document.text("from")?.unwrap_or_else(|| DEFAULT_FROM.to_owned());
    relative(&from).ok_or_else(|| {
        let reason = format!("`from` must be a time before now, such as `now-9m`, and this is `{from}`");
        document.unsupported("from", reason)
    })
}

/// Returns the length of a time before now: `now-6m`.
fn relative(text: &str) -> Option<Period> {
    text.strip_prefix("now-")?.parse().ok()
}

/// Returns the fields with these names, and a predicate that they have values.
fn grouped(document: &Document<'_>, key: &str, names: &[String]) -> Result<(Vec<Field>, Predicate), Refusal> {
    let (mut fields, mut filled) = (Vec::new(), Vec::new());
    for name in names {
        let field = fields::field(name).map_err(|reason| document.unsupported(key, reason))?;
        let Some(grouped) = field.grouped() else {
            return Err(document.unsupported(key, format!("`{name}` is not supported as a group")));
        };
        filled.push(conditions::exists(&field));
        if !fields.contains(&grouped) {
            fields.push(grouped);
        }
    }
    Ok((fields, conditions::conjunction(filled)))
}

#[derive(Deserialize)]
struct NewTermsTable {
    value: Vec<String>,
    history_window_start: Vec<HistoryStart>,
}

#[derive(Deserialize)]
struct HistoryStart {
    value: String,
}

/// Returns the windows of a rule of the type `new_terms`: matches with values that no match had before. The values are the
/// group, so each has a finding.
fn new_terms(document: &Document<'_>) -> Result<Findings, Refusal> {
    let Some(NewTermsTable { value, history_window_start }) = document.value("new_terms")? else {
        return Err(document.invalid("type", "a rule of the type `new_terms` needs a table `new_terms`".to_owned()));
    };
    let (group_by, has_group) = grouped(document, "new_terms", &value)?;
    if group_by.is_empty() {
        return Err(document.invalid("new_terms", "`value` must name at least one field".to_owned()));
    }
    let history = history_window_start.first().and_then(|start| start.value.strip_prefix("now-"));
    let history = history.and_then(|text| Period::parse_history(text).ok());
    let reason = "`history_window_start` must be a time before now, such as `now-7d`";
    let history = history.ok_or_else(|| document.unsupported("new_terms", reason.to_owned()))?;
    let periods = NewnessPeriods { history, learning: None };
    Ok(Findings {
        window: Window { kind: WindowKind::Sliding, period: Period::HOUR, threshold: NonZeroU32::MIN },
        counts: Counts::Matches,
        min_events: None,
        first_seen: Some(FirstSeen { fields: group_by.clone(), periods }),
        group_by,
        has_group,
    })
}

#[derive(Deserialize)]
struct Threat {
    tactic: Named,
    #[serde(default)]
    technique: Vec<Technique>,
}

#[derive(Deserialize)]
struct Technique {
    id: String,
    #[serde(default)]
    subtechnique: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// Returns the rule with its description.
fn about(document: &Document<'_>, found: Findings, detection: Predicate) -> Result<Rule, Refusal> {
    let Findings { window, counts, min_events, group_by, first_seen, .. } = found;
    let (id, name) = (document.required("rule_id")?, document.required("name")?);
    check_id(&id).map_err(|reason| document.invalid("rule_id", format!("`rule_id` {reason}")))?;
    let severity = match document.required("severity")?.as_str() {
        "low" => Severity::Low,
        "medium" => Severity::Medium,
        "high" => Severity::High,
        "critical" => Severity::Critical,
        other => {
            let reason = format!("`severity` must be low, medium, high or critical, and this is `{other}`");
            return Err(document.invalid("severity", reason));
        }
    };
    let context = super::sigma::CONTEXT.iter().map(|name| ((*name).to_owned(), fields::at(name)));
    let is_active = !matches!(document.maturity(), Some("deprecated" | "development"));
    Ok(Rule {
        id,
        title: vec![TitlePart::Text(name.clone())],
        display_name: name,
        severity,
        dynamic_severities: Vec::new(),
        enabled: is_active && document.value("enabled")?.unwrap_or(true),
        // A building block is only read by other rules.
        alert: document.is_empty("building_block_type"),
        window,
        counts,
        peak_limits: PeakLimits::default(),
        min_events,
        detection,
        group_by,
        first_seen,
        absence: None,
        context: context.collect(),
        summary: Vec::new(),
        notes: notes(document)?,
        tests: Vec::new(),
        hunt_tests: Vec::new(),
    })
}

fn notes(document: &Document<'_>) -> Result<Notes, Refusal> {
    let trimmed = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let listed = |title: &str, texts: &[String]| {
        let lines = texts.iter().map(|text| format!("- {}", text.split_whitespace().collect::<Vec<_>>().join(" ")));
        (!texts.is_empty()).then(|| format!("{title}:\n{}", lines.collect::<Vec<_>>().join("\n")))
    };
    let (references, false_positives) = (document.list("references")?, document.list("false_positives")?);
    let (first, others) = references.split_first().map_or((None, &[][..]), |(first, others)| (Some(first), others));
    let runbook = [
        trimmed(document.text("note")?),
        listed("False positives", &false_positives),
        listed("More references", others),
    ];
    let runbook: Vec<String> = runbook.into_iter().flatten().collect();
    let threats: Vec<Threat> = document.value("threat")?.unwrap_or_default();
    let techniques = threats.iter().flat_map(|Threat { tactic, technique }| {
        technique.iter().flat_map(|Technique { id, subtechnique }| {
            let ids = if subtechnique.is_empty() {
                vec![id.as_str()]
            } else {
                subtechnique.iter().map(|subtechnique| subtechnique.id.as_str()).collect()
            };
            ids.into_iter().map(|id| format!("{}:{id}", tactic.id))
        })
    });
    let techniques: Vec<String> = techniques.collect();
    let reports = (!techniques.is_empty()).then(|| ("MITRE ATT&CK".to_owned(), techniques));
    Ok(Notes {
        description: trimmed(document.text("description")?),
        runbook: (!runbook.is_empty()).then(|| runbook.join("\n\n")),
        reference: first.cloned(),
        tags: document.list("tags")?,
        reports: reports.into_iter().collect::<BTreeMap<_, _>>(),
    })
}
