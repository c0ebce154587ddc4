//! One finding with its events and its rule's notes.

use std::fmt::Write as _;

use super::table::{Screen, rows_on};
use super::{group, internal, trace};
use crate::error::Error;
use crate::finding::{Finding, NO_VALUE};
use crate::hunt::events::Event;
use crate::statistics::number_of;
use crate::text::{json, printable};

/// The columns of events that a narrow table drops, in this order.
const DROPPABLE: [&str; 3] = ["user agent", "event id", "region"];

/// Returns a finding for people: what was found, the events in the order of time, and the notes of its rule.
pub fn details(finding: &Finding, events: &[Event], screen: Screen) -> String {
    let mut facts = vec![
        ("severity", finding.severity.clone() + if finding.alert { "" } else { " (signal)" }),
        ("title", finding.title.clone()),
        ("rule", finding.rule_id.clone()),
        ("finding", finding.finding_id.clone()),
        ("group", group(finding) + if finding.masked { " (AWS masked the name)" } else { "" }),
        ("origin", finding.origins.iter().map(trace::origin).collect::<Vec<_>>().join("\n")),
        ("first event", finding.first_event.to_string()),
        ("last event", finding.last_event.to_string()),
        ("triggered", finding.trigger_time.to_string()),
        ("window", window(finding)),
        ("found", counted(finding)),
        ("addresses", finding.source_ips.join(", ")),
        ("regions", finding.regions.join(", ")),
        ("table version", finding.table_version.map(|version| version.to_string()).unwrap_or_default()),
        ("ATT&CK", finding.mitre.join(", ")),
        ("tags", finding.notes.tags.join(", ")),
    ];
    let mut context = Vec::new();
    finding.context.iter().for_each(|(name, value)| add_members(name, value, &mut context));
    facts.push(("context", context.join("\n")));
    let notes = &finding.notes;
    for (name, note) in
        [("description", &notes.description), ("runbook", &notes.runbook), ("reference", &notes.reference)]
    {
        facts.push((name, note.clone().unwrap_or_default()));
    }
    let facts = facts.into_iter().filter(|(_, fact)| !fact.is_empty());
    // A note may have several lines.
    let lines = facts.flat_map(|(name, fact)| {
        let lines: Vec<String> = fact.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        let names = std::iter::once(name.to_owned()).chain(std::iter::repeat(String::new()));
        names.zip(lines).map(|(name, line)| vec![name, line]).collect::<Vec<_>>()
    });
    let mut text = rows_on(screen, &["", ""], &[], lines);
    text.push('\n');
    // Several events can have the time of the trigger. The finding does not say which of them it was.
    let row = |event: &Event| {
        let mark = if event.time == finding.trigger_time { "*" } else { "" };
        let Event { time, id, name, address, agent, region, outcome } = event;
        let mut cells = vec![time.to_string() + mark];
        cells.extend([name, outcome, address, region, id, agent].map(String::clone));
        cells
    };
    let header = ["time", "event", "outcome", "address", "region", "event id", "user agent"];
    text += &rows_on(screen, &header, &DROPPABLE, events.iter().map(row));
    if events.iter().any(|event| event.time == finding.trigger_time) {
        text += "* the time at which the threshold was reached\n";
    }
    // Identities are too wide for a narrow screen, and needed to look an event up.
    if lacks_ids(&text, events) {
        text += "event ids\n";
        for event in events {
            // Writing to a string does not fail.
            writeln!(text, "  {}", printable(&event.id)).ok();
        }
    }
    let missing: Vec<&String> =
        finding.event_ids.iter().filter(|id| !events.iter().any(|event| event.id == **id)).collect();
    if let [first, ..] = missing.as_slice() {
        let count = number_of(missing.len(), "more event");
        // Writing to a string does not fail.
        writeln!(text, "{count}, such as {}; `--format json` lists the ids of all", printable(first)).ok();
    }
    text
}

/// Whether the table of `events` had no room for their identities.
fn lacks_ids(text: &str, events: &[Event]) -> bool {
    events.first().is_some_and(|event| !event.id.is_empty() && !text.contains(&*printable(&event.id)))
}

/// Adds the lines of a value of the context: one for each member, so that a line stays narrow.
fn add_members(name: &str, value: &serde_json::Value, lines: &mut Vec<String>) {
    let text = match value {
        serde_json::Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(member, value)| add_members(&format!("{name}.{member}"), value, lines));
            return;
        }
        serde_json::Value::Null => NO_VALUE.to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    lines.push(format!("{name}: {text}").replace('\n', "\\n"));
}

fn window(finding: &Finding) -> String {
    const OF_AN_HOUR: u64 = 60;
    let period = match finding.period_minutes.as_u64() {
        Some(minutes) if minutes > OF_AN_HOUR && minutes.is_multiple_of(OF_AN_HOUR) => {
            format!("{} hours", minutes / OF_AN_HOUR)
        }
        _ => format!("{} minutes", finding.period_minutes),
    };
    format!("{}, {period}, threshold {}", finding.window, finding.threshold)
}

fn counted(finding: &Finding) -> String {
    let mut text = format!("{}, at most {} in one window", number_of(finding.count, "event"), finding.peak);
    if let (Some(field), Some(distinct)) = (&finding.unique, finding.distinct) {
        // Writing to a string does not fail.
        write!(text, ", at most {distinct} distinct {field}").ok();
    }
    if let (Some(field), Some(sum)) = (&finding.summed, finding.sum) {
        write!(text, ", sum of {field} at most {sum}").ok();
    }
    if let (Some(statistic), Some(value)) = (&finding.statistic, finding.statistic_value) {
        write!(text, ", {statistic}: {value}").ok();
    }
    text
}

/// Returns a finding as JSON, with its events: on one line, or with a line for each member.
///
/// # Errors
/// It cannot be encoded, which is a defect.
pub fn details_as_json(finding: &Finding, events: &[Event], on_one_line: bool) -> Result<String, Error> {
    let failed = |error: serde_json::Error| internal("a finding as JSON", &error);
    let mut shown = serde_json::to_value(finding).map_err(failed)?;
    shown["events"] = serde_json::to_value(events).map_err(failed)?;
    if on_one_line {
        return json::line(&shown).map(|line| line + "\n").map_err(failed);
    }
    json::pretty(&shown).map_err(failed)
}
