//! The origins of findings: who began the chains of the credentials that their events used.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::chain::{Issuers, LONGEST_SESSION};
use super::issue::{self, IssueKind};
use super::records::{TraceRecords, TracedEvent, is_one_of};
use super::{Identity, Timeline};
use crate::engine::Engine;
use crate::error::Error;
use crate::finding::{Finding, Origin};
use crate::table::{Table, without_damaged_files};
use crate::time::{Instant, Range};

/// The most events that one query looks for.
const EVENTS_OF_QUERY: usize = 10_000;

/// Who made a call, the act of the call, if it is one, and its time, if only that tells the session.
type Caller = (Arc<Identity>, Option<Arc<str>>, Option<Instant>);

/// The events of a finding.
#[derive(Debug, Clone)]
pub struct FindingEvents {
    finding_id: String,
    event_ids: Vec<String>,
    span: (Instant, Instant),
}

impl FindingEvents {
    /// Returns the events of `finding`.
    pub fn of(finding: &Finding) -> FindingEvents {
        FindingEvents {
            finding_id: finding.finding_id.clone(),
            event_ids: finding.event_ids.clone(),
            span: (finding.first_event, finding.last_event),
        }
    }
}

/// Returns the origins of each finding by its ID, sorted. Issuing events are looked for in `hunted` and as long before it as a
/// temporary credential can be valid.
///
/// # Errors
/// The table cannot be read, or the events exceed the memory.
pub async fn origins_of_findings(
    engine: &Engine,
    table: &dyn Table,
    hunted: Range,
    findings: &[FindingEvents],
) -> Result<HashMap<String, Vec<Origin>>, Error> {
    let first = findings.iter().map(|finding| finding.span.0).min();
    let last = findings.iter().map(|finding| finding.span.1).max();
    let Some((first, last)) = first.zip(last) else {
        return Ok(HashMap::new());
    };
    let from = hunted.from.map(|from| from.min(first) - LONGEST_SESSION);
    let range = Range { from, to: Some(last + 1) };
    let span = Range { from: Some(first), to: Some(last + 1) };
    let mut findings_of: HashMap<&str, Vec<&str>> = HashMap::new();
    for finding in findings {
        for event in &finding.event_ids {
            findings_of.entry(event).or_default().push(&finding.finding_id);
        }
    }
    let ids: Vec<&str> = findings_of.keys().copied().collect();
    let limit = engine.memory() / 2;
    without_damaged_files(table, async || {
        let mut issuers = Issuers::new(TraceRecords::open(engine, table, range).await?, range, engine.memory());
        let mut found = Timeline::default();
        for ids in ids.chunks(EVENTS_OF_QUERY) {
            let condition = is_one_of("event_id", ids.iter().copied());
            issuers.records.events(&condition, span, |event| found.add(event, limit).map(|_| ())).await?;
        }
        let events = found.into_events();
        let issuing = events.iter().filter(|event| IssueKind::of(event).is_some());
        let times = issuing.filter_map(|event| event.time).map(issue::around).collect();
        issuers.learn_windows(times).await?;
        let act = |event: &TracedEvent| issuers.index.of_event(&event.id).map(|issue| Arc::clone(&issue.id));
        let callers = events.iter().map(|event| ((Arc::clone(&event.identity), event.time), act(event))).collect();
        issuers.learn_chains(callers).await?;
        let mut known: HashMap<Caller, Origin> = HashMap::new();
        let mut origins: HashMap<String, BTreeSet<Origin>> = HashMap::new();
        for event in &events {
            let own = issuers.index.of_event(&event.id).map(|issue| Arc::clone(&issue.id));
            let time = event.time.filter(|_| event.identity.is_session_without_time());
            let caller = (Arc::clone(&event.identity), own.clone(), time);
            let origin = if let Some(origin) = known.get(&caller) {
                origin.clone()
            } else {
                let origin = issuers.chain(&event.identity, event.time, own.as_ref()).await?.origin;
                known.insert(caller, origin.clone());
                origin
            };
            for finding in findings_of.get(&*event.id).into_iter().flatten() {
                origins.entry((*finding).to_owned()).or_default().insert(origin.clone());
            }
        }
        Ok(origins.into_iter().map(|(finding, origins)| (finding, origins.into_iter().collect())).collect())
    })
    .await
}
