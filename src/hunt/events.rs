//! The events of findings, as people want to see them.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use super::{Data, sieve};
use crate::engine::{self, Resources, matcher};
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::sql::candidates::Candidates;
use crate::time::Range;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Its time, in microseconds.
    pub time: i64,
    /// Its identity.
    pub id: String,
    /// The call.
    pub name: String,
    /// Where it came from.
    pub address: String,
    /// With what.
    pub agent: String,
    /// In which region.
    pub region: String,
    /// The error, else what the sign-in says, else success.
    pub outcome: String,
}

/// The events of `findings` of `rules` by their identity. The data are read again, as far as the findings reach.
///
/// # Errors
/// As for a hunt.
pub async fn of_findings(
    resources: &Resources,
    data: &Data,
    rules: &[Rule],
    findings: &[Finding],
) -> Result<HashMap<String, Event>, Error> {
    let first = findings.iter().map(|finding| finding.first_instant).min();
    let last = findings.iter().map(|finding| finding.last_instant).max();
    let Some((first, last)) = first.zip(last) else {
        return Ok(HashMap::new());
    };
    let failed = |error| Error::query("the events of the findings", error);
    let read = Range { from: Some(first), to: Some(last + 1) };
    let candidates = Candidates::of_events(rules, read);
    let table = match data {
        Data::Lake(_) | Data::Columnar(_) | Data::Memory(_) => super::table(resources, data, read).await?,
        Data::Raw(trail) => {
            let scan = trail.scan(trail.find(read).await?, sieve(rules));
            engine::raw_table(&scan, resources.threads).map_err(failed)?
        }
    };
    let wanted: HashSet<&str> =
        findings.iter().flat_map(|finding| finding.event_ids.iter().map(String::as_str)).collect();
    let mut events: HashMap<String, Event> = HashMap::new();
    for batch in matcher::matches(resources, table, &candidates, Some(resources.memory)).await.map_err(failed)? {
        for row in 0..batch.num_rows() {
            let event = event(&batch, row);
            if !wanted.contains(event.id.as_str()) {
                continue;
            }
            // Of copies that differ, always the same one.
            match events.get_mut(&event.id) {
                Some(known) => *known = std::mem::take(known).min(event),
                None => drop(events.insert(event.id.clone(), event)),
            }
        }
    }
    Ok(events)
}

/// An event of a batch with the columns [`Candidates::OWN`] and the expressions of [`Candidates::of_events`].
fn event(batch: &RecordBatch, row: usize) -> Event {
    let text = |place: usize| {
        let texts = batch.column(place).as_string::<i32>();
        if texts.is_valid(row) { texts.value(row).to_owned() } else { String::new() }
    };
    Event {
        time: batch.column(0).as_primitive::<TimestampMicrosecondType>().value(row),
        id: text(1),
        address: text(2),
        agent: text(3),
        region: text(4),
        name: text(5),
        outcome: text(6),
    }
}
