//! Formats events in order of time.

use std::fmt::Write as _;

use serde::Serialize;

use super::trace::short_principal;
use super::{csv_record, internal, rows_dropping};
use crate::error::Error;
use crate::statistics::number_of;
use crate::text::json;
use crate::time::Instant;
use crate::trace::TracedEvent;

/// Output format of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum TimelineFormat {
    /// A table for people, with the first events.
    #[default]
    Table,
    /// One JSON object per line.
    Jsonl,
    /// One JSON array.
    Json,
    /// Comma-separated values. An apostrophe precedes cells that a spreadsheet would execute.
    Csv,
}

/// Maximum number of events in a table.
const MAX_EVENTS: usize = 1_000;

/// The columns of CSV, which are the members in JSON.
const COLUMNS: [&str; 13] = [
    "time",
    "event_id",
    "source",
    "name",
    "account",
    "region",
    "address",
    "actor",
    "principal",
    "access_key",
    "result",
    "denied",
    "read_only",
];

/// An event in JSON.
#[derive(Serialize)]
struct EventRow<'e> {
    time: Option<Instant>,
    event_id: &'e str,
    source: &'e str,
    name: &'e str,
    account: &'e str,
    region: &'e str,
    address: &'e str,
    actor: Option<&'e str>,
    principal: Option<String>,
    access_key: Option<&'e str>,
    result: &'e str,
    denied: bool,
    read_only: Option<bool>,
}

impl<'e> EventRow<'e> {
    fn of(event: &'e TracedEvent) -> EventRow<'e> {
        let identity = &event.identity;
        EventRow {
            time: event.time,
            event_id: &event.id,
            source: &event.source,
            name: &event.name,
            account: &event.account,
            region: &event.region,
            address: &event.address,
            actor: identity.actor.as_deref(),
            principal: identity.principal().map(|principal| principal.to_string()),
            access_key: identity.access_key.as_deref(),
            result: result(event),
            denied: event.is_denied(),
            read_only: event.is_read,
        }
    }

    fn cells(self) -> [String; COLUMNS.len()] {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        [
            self.time.map(String::from).unwrap_or_default(),
            self.event_id.to_owned(),
            self.source.to_owned(),
            self.name.to_owned(),
            self.account.to_owned(),
            self.region.to_owned(),
            self.address.to_owned(),
            text(self.actor),
            self.principal.unwrap_or_default(),
            text(self.access_key),
            self.result.to_owned(),
            self.denied.to_string(),
            self.read_only.map(|read| read.to_string()).unwrap_or_default(),
        ]
    }
}

/// Returns `events` in `format`.
///
/// # Errors
/// They cannot be encoded, which is a defect.
pub fn encode(events: &[TracedEvent], format: TimelineFormat) -> Result<Vec<u8>, Error> {
    let failed = |error: serde_json::Error| internal("events as JSON", &error);
    let mut text = Vec::new();
    match format {
        TimelineFormat::Table => text = table(events, &["where", "who"]).into_bytes(),
        TimelineFormat::Json => {
            let rows: Vec<EventRow<'_>> = events.iter().map(EventRow::of).collect();
            json::write_pretty(&rows, &mut text).map_err(failed)?;
            text.push(b'\n');
        }
        TimelineFormat::Jsonl => {
            for event in events {
                json::write(&EventRow::of(event), &mut text).map_err(failed)?;
                text.push(b'\n');
            }
        }
        TimelineFormat::Csv => {
            csv_record(COLUMNS.iter(), &mut text)?;
            for event in events {
                csv_record(EventRow::of(event).cells().iter(), &mut text)?;
            }
        }
    }
    Ok(text)
}

/// Returns the result of an event in a word: `ok`, or the error.
pub(super) fn result(event: &TracedEvent) -> &str {
    event.error.as_deref().unwrap_or("ok")
}

/// Returns `eventSource` without the domain that all services share.
pub(super) fn service(source: &str) -> &str {
    source.strip_suffix(".amazonaws.com").unwrap_or(source)
}

/// Returns a table of events for each date. Narrow screens drop the columns `droppable`, in this order.
pub(super) fn table(events: &[TracedEvent], droppable: &[&str]) -> String {
    let mut text = String::new();
    let date = |event: &TracedEvent| event.time.map_or_else(|| "no readable time".to_owned(), Instant::utc_date);
    let shown = &events[..events.len().min(MAX_EVENTS)];
    for of_date in shown.chunk_by(|one, other| date(one) == date(other)) {
        if let Some(first) = of_date.first() {
            // Writing to a string does not fail.
            writeln!(text, "{}", date(first)).ok();
        }
        let cells: Vec<EventCells> = of_date.iter().map(EventCells::of).collect();
        let rows = cells.chunk_by(|one, other| one.others == other.others).filter_map(row);
        text.push_str(&rows_dropping(&["time", "who", "call", "where", "result"], droppable, rows));
    }
    if events.is_empty() {
        text.push_str("no events\n");
    }
    if events.len() > shown.len() {
        let more = number_of(events.len() - shown.len(), "more event");
        writeln!(text, "and {more}; `--format json` has all").ok();
    }
    text
}

/// The cells of an event in a table.
struct EventCells {
    time: String,
    /// Who, call, where and result.
    others: [String; 4],
}

impl EventCells {
    fn of(event: &TracedEvent) -> EventCells {
        let time = event.time.map(String::from).unwrap_or_default();
        EventCells {
            time: time.get(11..).map(|time| time.trim_end_matches('Z').to_owned()).unwrap_or_default(),
            others: [
                short_principal(event.identity.actor.as_deref()).unwrap_or_default(),
                format!("{} {}", service(&event.source), event.name),
                format!("{} {} {}", event.account, event.region, event.address),
                result(event).to_owned(),
            ],
        }
    }
}

/// Returns the row of events that follow one another and differ only in their times.
fn row(events: &[EventCells]) -> Option<Vec<String>> {
    let (first, last) = (events.first()?, events.last()?);
    let [who, call, place, result] = first.others.clone();
    let (time, call) = match events.len() {
        1 => (first.time.clone(), call),
        count if first.time == last.time => (first.time.clone(), format!("{call} ×{count}")),
        count => (format!("{} – {}", first.time, last.time), format!("{call} ×{count}")),
    };
    Some(vec![time, who, call, place, result])
}
