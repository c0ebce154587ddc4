//! Reads the events of findings for reports.

use std::collections::BTreeSet;

use arrow::array::{Array as _, AsArray as _, StringArray};

use crate::engine::Engine;
use crate::engine::match_batch::MatchBatch;
use crate::engine::match_scan::MatchScan;
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::sql::match_spec::{EventColumn, EventSpec, MatchSpec};
use crate::table::{Table, without_damaged_files};
use crate::time::{Instant, Range};

/// An event of a finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Event {
    /// `eventTime`.
    pub time: Instant,
    /// `eventID`.
    pub id: String,
    /// `eventName`.
    pub name: String,
    /// `sourceIPAddress`.
    pub address: String,
    /// `userAgent`.
    pub agent: String,
    /// `awsRegion`.
    pub region: String,
    /// The error code, else the result of a sign-in, else success.
    pub outcome: String,
}

/// The most findings and events to return.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// The number of findings; the first ones are used.
    pub findings: usize,
    /// The number of events per finding; the earliest ones are used.
    pub events: usize,
}

/// Returns the earliest events of each of the first `findings` of `rules`, sorted by time.
///
/// Reads `table` again from the first to the last event of the findings. Holds only the returned events in memory.
///
/// # Errors
/// Those of a hunt.
pub async fn events_of_findings(
    engine: &Engine,
    table: &dyn Table,
    rules: &[Rule],
    findings: &[Finding],
    limits: EventLimits,
) -> Result<Vec<Vec<Event>>, Error> {
    let findings = &findings[..findings.len().min(limits.findings)];
    let first = findings.iter().map(|finding| finding.first_event).min();
    let last = findings.iter().map(|finding| finding.last_event).max();
    let Some((first, last)) = first.zip(last) else {
        return Ok(Vec::new());
    };
    let failed = |error| Error::query("the events of the findings", error);
    let read = Range { from: Some(first), to: Some(last + 1) };
    let spec = MatchSpec::of_events(rules, read);
    without_damaged_files(table, async || {
        let records = table.snapshot(read).await?.records(engine, super::prefilter(rules)).await?;
        let mut findings_by_id: Vec<(&str, usize)> = Vec::new();
        for (index, finding) in findings.iter().enumerate() {
            findings_by_id.extend(finding.event_ids.iter().map(|id| (id.as_str(), index)));
        }
        findings_by_id.sort_unstable();
        let mut earliest = vec![EarliestEvents { limit: limits.events, events: BTreeSet::new() }; findings.len()];
        let take = |batch: &MatchBatch| {
            let ids = batch.event_texts(EventColumn::Id);
            for (row, id) in ids.iter().enumerate() {
                let Some(id) = id else { continue };
                let start = findings_by_id.partition_point(|(other, _)| *other < id);
                let mut decoded = None;
                for (_, finding) in findings_by_id[start..].iter().take_while(|(other, _)| *other == id) {
                    earliest[*finding].add(decoded.get_or_insert_with(|| event(&spec, batch, row)));
                }
            }
        };
        let scan = MatchScan::new(engine, records.provider, &spec.matches).await.map_err(failed)?;
        scan.for_each(take).await.map_err(failed)?;
        Ok(earliest.into_iter().map(|earliest| earliest.events.into_iter().collect()).collect())
    })
    .await
}

/// The earliest events of a finding. For duplicates that differ, the result does not depend on the order of records.
#[derive(Debug, Clone)]
struct EarliestEvents {
    limit: usize,
    events: BTreeSet<Event>,
}

impl EarliestEvents {
    fn add(&mut self, event: &Event) {
        if self.events.len() >= self.limit && self.events.last().is_none_or(|last| last <= event) {
            return;
        }
        if let Some(known) = self.events.iter().find(|known| known.id == event.id).cloned() {
            if known <= *event {
                return;
            }
            self.events.remove(&known);
        }
        self.events.insert(event.clone());
        if self.events.len() > self.limit {
            self.events.pop_last();
        }
    }
}

/// Returns the event in a row of a batch.
fn event(spec: &EventSpec, batch: &MatchBatch, row: usize) -> Event {
    let text = |texts: &StringArray| if texts.is_valid(row) { texts.value(row).to_owned() } else { String::new() };
    let column = |column| text(batch.event_texts(column));
    let value = |id| text(batch.value(id).as_string());
    Event {
        time: batch.time(row),
        id: column(EventColumn::Id),
        address: column(EventColumn::SourceIp),
        agent: column(EventColumn::UserAgent),
        region: column(EventColumn::Region),
        name: value(spec.name),
        outcome: value(spec.outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_events_do_not_depend_on_the_order_of_records() {
        let event =
            |micros, id: &str| Event { time: Instant::from_micros(micros), id: id.to_owned(), ..Event::default() };
        let records = [event(5, "a"), event(3, "b"), event(4, "c"), event(1, "c"), event(9, "d"), event(2, "d")];
        let orders: [[usize; 6]; 4] = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 4, 0, 5, 1, 3], [3, 5, 1, 0, 4, 2]];
        for (limit, expected) in [(2, vec![(1, "c"), (2, "d")]), (9, vec![(1, "c"), (2, "d"), (3, "b"), (5, "a")])] {
            for order in orders {
                let mut earliest = EarliestEvents { limit, events: BTreeSet::new() };
                for record in order {
                    earliest.add(&records[record]);
                }
                let found: Vec<(i64, &str)> =
                    earliest.events.iter().map(|event| (event.time.micros(), event.id.as_str())).collect();
                assert_eq!(found, expected, "{order:?}");
            }
        }
    }
}
