//! The HTML page of a hunt.

use std::collections::BTreeSet;

use super::{Bins, Chart, Fact, Frame, GroupRow, HuntSummary, RunDetails, Timeline, counted, fact, rendered};
use crate::error::Error;
use crate::finding::Finding;
use crate::hunt::events::{Event, EventLimits};
use crate::hunt::exceptions::ExceptionReport;
use crate::report::{exceptions, group};
use crate::rule::{Rule, Severity};
use crate::sql;
use crate::statistics::{Duplicates, ScanStatistics, number_of};
use crate::time::{Instant, Range, SECOND};

/// Maximum number of findings on a page, and of events of each.
pub const SHOWN: EventLimits = EventLimits { findings: 1_000, events: 100 };

/// The results of a hunt.
#[derive(Debug)]
pub struct HuntResults<'h> {
    /// How the page is made.
    pub run: &'h RunDetails,
    /// The rules.
    pub rules: &'h [Rule],
    /// Range of the triggers.
    pub range: Range,
    /// The findings.
    pub summary: HuntSummary,
    /// The events of the findings on the page, limited by [`SHOWN`].
    pub events: &'h [Vec<Event>],
    /// Counts of the records that were read.
    pub read: &'h ScanStatistics,
    /// The effects of the rules' exceptions.
    pub exceptions: &'h [ExceptionReport],
    /// Duplicates among the matching records, if they were counted.
    pub duplicates: Option<&'h Duplicates>,
}

#[derive(askama::Template)]
#[template(path = "hunt.html")]
struct HuntPage {
    frame: Frame,
    tiles: Vec<Fact>,
    severities: Vec<String>,
    found_rules: Vec<String>,
    accounts: BTreeSet<String>,
    bin: &'static str,
    timeline: String,
    timeline_rows: Vec<Fact>,
    groups: Vec<GroupRow>,
    more_groups: usize,
    findings: Vec<FindingDetails>,
    more_findings: usize,
    exceptions: Vec<ExceptionRow>,
    /// Rules with findings.
    rules: Vec<RuleRow>,
    /// The ids of the other rules.
    idle_rules: Vec<String>,
}

struct ExceptionRow {
    id: String,
    /// For each rule its name, and the events and findings removed.
    rules: Vec<Vec<String>>,
    reason: String,
    owner: String,
    times: String,
    state: &'static str,
}

struct FindingDetails {
    severity: String,
    /// The place of the severity, from the highest.
    rank: usize,
    rule: String,
    /// The account of the group, or an empty text.
    account: String,
    title: String,
    group: String,
    description: String,
    runbook: String,
    count: u64,
    first_event: String,
    facts: Vec<Fact>,
    events: Vec<EventRow>,
    more_events: usize,
}

#[derive(Default)]
struct EventRow {
    time: String,
    name: String,
    address: String,
    region: String,
    outcome: String,
    agent: String,
    id: String,
    mark: Option<&'static str>,
}

struct RuleRow {
    id: String,
    findings: usize,
    setting: String,
    description: String,
    sql: String,
}

/// Returns the page of a hunt.
///
/// # Errors
/// The groups cannot be counted, or the page cannot be rendered.
pub async fn hunt(results: HuntResults<'_>) -> Result<String, Error> {
    let HuntResults { rules, range, mut summary, read, .. } = results;
    let times = read.times.or(summary.triggers);
    let bounds = range.clamped();
    let from = bounds.from.or(times.map(|(first, _)| first));
    let to = bounds.to.or(times.map(|(_, last)| last + SECOND));
    let bins = Bins::of(from.zip(to).filter(|(from, to)| from < to));
    let counts = bins.sums(summary.by_hour.iter().map(|(hour, count)| (*hour, *count)));
    let timeline: Vec<(String, usize)> = bins.names().into_iter().zip(counts.iter().copied()).collect();
    let data = Timeline::of_one("finding", "All findings", &bins, counts);
    let end = |end: Option<Instant>, none: &str| end.map_or_else(|| none.to_owned(), String::from);
    let heading = format!(
        "{}, {} to {}",
        match rules {
            [rule] => rule.display_name.clone(),
            rules => number_of(rules.len(), "rule"),
        },
        end(from, "the beginning"),
        end(to, "the end")
    );
    let title = format!("Hunt: {}", number_of(summary.count, "finding"));
    let by_rule = std::mem::take(&mut summary.by_rule);
    let (found, idle): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| by_rule.contains_key(&rule.id));
    let findings_of = |rule: &Rule| by_rule.get(&rule.id).copied().unwrap_or_default();
    let (groups, more_groups) = summary.top_groups().await?;
    let page = HuntPage {
        frame: Frame::new(&title, &heading, &data, read, results.duplicates)?.of_run(results.run),
        tiles: tiles(&summary),
        severities: by_rank(&summary).into_iter().map(|(severity, _)| severity.clone()).collect(),
        found_rules: by_rule.keys().cloned().collect(),
        accounts: summary.first.iter().map(account).filter(|account| !account.is_empty()).collect(),
        bin: bins.name,
        timeline: Chart::of("findings over time", "finding", &timeline)?,
        timeline_rows: counted(&timeline),
        groups,
        more_groups,
        findings: summary
            .first
            .iter()
            .zip(results.events)
            .map(|(finding, events)| finding_details(finding, events))
            .collect(),
        more_findings: summary.count.saturating_sub(results.events.len()),
        exceptions: results.exceptions.iter().map(exception_row).collect(),
        rules: found.into_iter().map(|rule| rule_row(rule, findings_of(rule), range)).collect::<Result<_, _>>()?,
        idle_rules: idle.into_iter().map(|rule| rule.id.clone()).collect(),
    };
    rendered(&page)
}

fn tiles(summary: &HuntSummary) -> Vec<Fact> {
    let mut tiles =
        vec![fact("findings", summary.count.to_string()), fact("events in them", summary.events.to_string())];
    tiles.extend(by_rank(summary).into_iter().map(|(severity, count)| fact(severity, count.to_string())));
    tiles
}

/// Returns the severities with their numbers of findings, from the highest.
fn by_rank(summary: &HuntSummary) -> Vec<(&String, &usize)> {
    let mut severities: Vec<_> = summary.by_severity.iter().collect();
    severities.sort_by_key(|(severity, _)| rank(severity));
    severities
}

/// Returns the place of a severity, from the highest.
fn rank(name: &str) -> usize {
    Severity::ALL.iter().rev().position(|severity| severity.to_string() == name).unwrap_or(Severity::ALL.len())
}

/// Returns the account in the group of a finding, or an empty text.
fn account(finding: &Finding) -> String {
    let names = ["account", "recipientAccountId", "userIdentity.accountId"];
    let account = names.into_iter().find_map(|name| finding.group.get(name)?.as_str());
    account.unwrap_or_default().to_owned()
}

fn finding_details(finding: &Finding, events: &[Event]) -> FindingDetails {
    // An event may have disappeared before the second read. The page then shows only its id.
    let is_unknown = |id: &&String| !events.iter().any(|event| event.id == **id);
    let unknown = finding.event_ids.iter().filter(is_unknown).take(SHOWN.events - events.len());
    let unknown = unknown.map(|id| EventRow { id: id.clone(), ..EventRow::default() });
    let mut facts = vec![
        fact("finding", finding.finding_id.clone()),
        fact("first event", finding.first_event.to_string()),
        fact("last event", finding.last_event.to_string()),
        fact("triggered", finding.trigger_time.to_string()),
        fact("most in one window", finding.peak.to_string()),
    ];
    if let (Some(field), Some(distinct)) = (&finding.unique, finding.distinct) {
        facts.push(fact(format!("most values of {field}"), distinct.to_string()));
    }
    if let (Some(field), Some(sum)) = (&finding.summed, finding.sum) {
        facts.push(fact(format!("greatest sum of {field}"), sum.to_string()));
    }
    if let (Some(statistic), Some(value)) = (&finding.statistic, finding.statistic_value) {
        facts.push(fact(statistic.clone(), value.to_string()));
    }
    facts.extend(finding.origins.iter().map(|origin| fact("origin", crate::report::trace::origin(origin))));
    if finding.masked {
        facts.push(fact("note", "AWS masked the name, so the actor is unknown"));
    }
    if !finding.mitre.is_empty() {
        facts.push(fact("ATT&CK", finding.mitre.join(", ")));
    }
    if !finding.notes.tags.is_empty() {
        facts.push(fact("tags", finding.notes.tags.join(", ")));
    }
    if let Some(reference) = &finding.notes.reference {
        facts.push(fact("reference", reference.clone()));
    }
    for (name, value) in &finding.context {
        let value = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        facts.push(fact(name.clone(), value));
    }
    // A finding has a trigger time. If several events have that time, any of them may be the trigger.
    let is_of_trigger = |event: &Event| event.time == finding.trigger_time;
    let at_trigger = events.iter().filter(|event| is_of_trigger(event)).count();
    let more_events = finding.event_ids.len().saturating_sub(SHOWN.events);
    let is_truncated_there = more_events > 0 && events.last().is_some_and(is_of_trigger);
    let mark = if at_trigger == 1 && !is_truncated_there { "the trigger" } else { "at the time of the trigger" };
    let row = |event: &Event| EventRow {
        mark: is_of_trigger(event).then_some(mark),
        time: event.time.to_string(),
        name: event.name.clone(),
        address: event.address.clone(),
        region: event.region.clone(),
        outcome: event.outcome.clone(),
        agent: event.agent.clone(),
        id: event.id.clone(),
    };
    FindingDetails {
        severity: finding.severity.clone(),
        rank: rank(&finding.severity),
        rule: finding.rule_id.clone(),
        account: account(finding),
        description: finding.notes.description.clone().unwrap_or_default(),
        runbook: finding.notes.runbook.clone().unwrap_or_default(),
        title: finding.title.clone(),
        group: group(finding),
        count: finding.count,
        first_event: finding.first_event.to_string(),
        facts,
        more_events,
        events: events.iter().map(row).chain(unknown).collect(),
    }
}

fn exception_row(report: &ExceptionReport) -> ExceptionRow {
    let from = report.from.map(|from| format!("from {from} ")).unwrap_or_default();
    ExceptionRow {
        id: report.id.clone(),
        rules: exceptions::cells(report).into_iter().map(|cells| cells.into_iter().skip(1).collect()).collect(),
        reason: report.reason.clone(),
        owner: report.owner.clone(),
        times: format!("{from}until {}", report.until),
        state: match (report.expired, report.matched_nothing) {
            (true, _) => "expired",
            (false, true) => "matched nothing",
            (false, false) => "",
        },
    }
}

fn rule_row(rule: &Rule, findings: usize, range: Range) -> Result<RuleRow, Error> {
    let window = rule.window;
    Ok(RuleRow {
        id: rule.id.clone(),
        findings,
        setting: format!("threshold {} within {}, {} windows", window.threshold, window.period, window.kind),
        description: rule.notes.description.clone().unwrap_or_default(),
        sql: sql::hunt(rule, range, Range::default())?,
    })
}
