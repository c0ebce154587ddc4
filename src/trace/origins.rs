//! The origins of findings: who began the chains of the credentials that their events used.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::chain::{IDS_OF_QUERY, Issuers, LONGEST_SESSION};
use super::issue::{self, IssueKind};
use super::records::{TraceRecords, TracedEvent, is_event};
use super::sought::Sought;
use super::{Identity, Timeline};
use crate::engine::Engine;
use crate::error::Error;
use crate::finding::{Finding, Origin};
use crate::sql::credential;
use crate::table::{Table, without_damaged_files};
use crate::time::{Instant, Range, parse_event_time};

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
    let engine = &engine.without_cluster();
    let limit = engine.memory() / 2;
    without_damaged_files(table, async || {
        let mut issuers = Issuers::new(TraceRecords::open(engine, table, range).await?, range, engine.memory());
        let mut found = Timeline::default();
        for ids in ids.chunks(IDS_OF_QUERY) {
            let condition = is_event(ids.iter().copied());
            issuers.records.events(&condition, span, |event| found.add(event, limit).map(|_| ())).await?;
        }
        let call = |event: TracedEvent| Call {
            may_issue: IssueKind::of(&event).is_some(),
            identity: event.identity,
            time: event.time,
            event_id: event.id,
        };
        let mut events = found.into_events();
        issuers.name_callers(&mut events).await?;
        let calls: Vec<Call> = events.into_iter().map(call).collect();
        let mut origins: HashMap<String, BTreeSet<Origin>> = HashMap::new();
        for (call, origin) in calls.iter().zip(origins_of_calls(&mut issuers, &calls).await?) {
            for finding in findings_of.get(&*call.event_id).into_iter().flatten() {
                origins.entry((*finding).to_owned()).or_default().insert(origin.clone());
            }
        }
        Ok(origins.into_iter().map(|(finding, origins)| (finding, origins.into_iter().collect())).collect())
    })
    .await
}

/// Returns the origins of credentials, each in the text of [`credential`], by that text. Issuing events are looked for in all of
/// `table`, so the origins do not depend on the range of a hunt.
///
/// # Errors
/// The table cannot be read, or the issuing events exceed the memory.
pub async fn origins_of_credentials(
    engine: &Engine,
    table: &dyn Table,
    credentials: &[String],
) -> Result<HashMap<String, Origin>, Error> {
    if credentials.is_empty() {
        return Ok(HashMap::new());
    }
    let engine = &engine.without_cluster();
    let records = TraceRecords::of_issuing_events(engine, table).await?;
    let mut issuers = Issuers::new(records, Range::default(), engine.memory());
    let calls = credentials.iter().map(|credential| Call::of_credential(credential)).collect::<Result<Vec<_>, _>>()?;
    let origins = origins_of_calls(&mut issuers, &calls).await?;
    Ok(credentials.iter().cloned().zip(origins).collect())
}

/// A call whose origin is looked for.
#[derive(Clone)]
struct Call {
    identity: Arc<Identity>,
    time: Option<Instant>,
    /// The ID of the event. Empty if it does not matter, because the call issues no credential.
    event_id: Arc<str>,
    may_issue: bool,
}

impl Call {
    /// Returns a call with a credential.
    fn of_credential(credential: &str) -> Result<Call, Error> {
        let internal = |reason: String| Error::Internal(format!("the credential of a match: {reason}"));
        let texts: Vec<Option<Arc<str>>> =
            serde_json::from_str(credential).map_err(|error| internal(error.to_string()))?;
        let text = |name: &str| {
            let index = credential::names().position(|known| known == name);
            let text = index.and_then(|index| texts.get(index)).ok_or_else(|| internal(format!("no {name}")))?;
            Ok::<_, Error>(text.clone().filter(|text| !text.is_empty()))
        };
        let event_id = text(credential::CALL_ID)?;
        Ok(Call {
            identity: Arc::new(Identity::of(text)?),
            time: text(credential::CALL_TIME)?.as_deref().and_then(parse_event_time),
            may_issue: event_id.is_some(),
            event_id: event_id.unwrap_or_default(),
        })
    }
}

/// Returns the origin of each call.
async fn origins_of_calls(issuers: &mut Issuers<'_>, calls: &[Call]) -> Result<Vec<Origin>, Error> {
    let issuing = calls.iter().filter(|call| call.may_issue);
    let search = |call: &Call| Some((issue::around(call.time?), Sought::Event(Arc::clone(&call.event_id))));
    issuers.search(issuing.filter_map(search).collect()).await?;
    let caller = |call: &Call| {
        // The record of the caller's account names the caller's credential.
        let of_other_account = Some(&call.event_id).filter(|_| call.identity.is("AWSAccount"));
        let act = of_other_account.and_then(|event_id| issuers.index.of_event(event_id));
        Call { identity: act.map_or_else(|| Arc::clone(&call.identity), |act| Arc::clone(&act.caller)), ..call.clone() }
    };
    let calls: Vec<Call> = calls.iter().map(caller).collect();
    let act = |call: &Call| issuers.index.of_event(&call.event_id).map(|issue| Arc::clone(&issue.id));
    let callers = calls.iter().map(|call| ((Arc::clone(&call.identity), call.time), act(call))).collect();
    issuers.learn_chains(callers).await?;
    let mut known: HashMap<Caller, Origin> = HashMap::new();
    let mut origins = Vec::with_capacity(calls.len());
    for call in &calls {
        let own = issuers.index.of_event(&call.event_id).map(|issue| Arc::clone(&issue.id));
        let time = call.time.filter(|_| call.identity.is_session_without_time());
        let caller = (Arc::clone(&call.identity), own.clone(), time);
        let origin = if let Some(origin) = known.get(&caller) {
            origin.clone()
        } else {
            let origin = issuers.chain(&call.identity, call.time, own.as_ref()).await?.origin;
            known.insert(caller, origin.clone());
            origin
        };
        origins.push(origin);
    }
    Ok(origins)
}
