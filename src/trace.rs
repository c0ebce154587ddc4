//! Follows credentials: back to who began their chain, and forward to everything that was done with them.
//!
//! A credential is a long-lived access key, or a session, which one act issued and which may use several keys. A record belongs
//! to the credential that its `userIdentity` names: by the access key that an act issued, else by the session's principal and
//! the time at which it was issued.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::engine::Engine;
use crate::error::{Error, QueryCause};
use crate::finding::Origin;
use crate::statistics::ScanStatistics;
use crate::table::{Table, without_damaged_files};
use crate::time::{Instant, Range};

mod activity;
mod chain;
mod identity;
mod issue;
mod origins;
mod records;
mod sought;
mod start;
mod summary;

pub use activity::{Activity, activity};
pub use chain::ChainStep;
pub use identity::Identity;
pub use issue::IssueKind;
pub use origins::{FindingEvents, origins_of_credentials, origins_of_findings};
pub use records::TracedEvent;
pub use start::{FindingsFileError, Start};
pub use summary::{EventCounts, Summary, ValueCounts};

use chain::{Issuers, session_range, valid_for};
use issue::Issuer;
use records::{TraceRecords, has_arn, has_key, is_one_of, may_have_arn, may_have_key};
use sought::Sought;

/// How many times credentials may issue others, unless the user says so.
pub const DEFAULT_DEPTH: u32 = 5;

/// A trace to run.
#[derive(Debug, Clone)]
pub struct TraceRequest {
    /// What to trace.
    pub start: Start,
    /// The events that count.
    pub range: Range,
    /// How many times credentials may issue others.
    pub depth: u32,
    /// Whether to follow everything that the origin did, not only what was done with the start's credential.
    pub from_origin: bool,
}

/// The start of a trace, as the user gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StartLabel {
    /// `finding`, `event`, `key`, `arn` or `ip`.
    pub kind: &'static str,
    /// The ID, key, ARN or network.
    pub value: String,
    /// The start of the range.
    pub from: Option<Instant>,
    /// The end of the range.
    pub to: Option<Instant>,
    /// How many times credentials may issue others.
    pub depth: u32,
}

/// A credential of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TracedCredential {
    /// The access key. `None` for a console session, whose keys rotate.
    pub access_key: Option<String>,
    /// The principal that used it.
    pub principal: Option<String>,
    /// The account in which it acted.
    pub account: Option<String>,
    /// The act that issued it, if it is known.
    pub issued_by: Option<String>,
    /// How it was issued.
    pub kind: Option<IssueKind>,
    /// The principal that asked for it.
    pub issuer: Option<String>,
    /// The account of that principal.
    pub issuer_account: Option<String>,
    /// The access key that it used.
    pub issuer_key: Option<String>,
    /// The act that issued the credential that it used, if that is known.
    pub parent_event_id: Option<String>,
    /// How many credentials are between it and those of the start.
    pub depth: u32,
    /// The events done with it.
    pub events: u64,
}

/// A trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The start, as the user gave it.
    pub start: StartLabel,
    /// The acts that issued the credentials of the start, from the origin on.
    pub chain: Vec<ChainStep>,
    /// The first principal of the chain.
    pub origin: Origin,
    /// All origins, if the credentials of the start have several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// The credentials that were followed.
    pub credentials: Vec<TracedCredential>,
    /// How many records of other accounts name a session with which an event was done, but not which session of that name, and
    /// are not the other record of an event in the trace.
    #[serde(skip_serializing_if = "is_zero")]
    pub of_unknown_sessions: usize,
    /// Whether credentials were issued that lie beyond the depth, and were not followed.
    pub is_cut: bool,
    /// The events done with the credentials, in order of time and ID. JSON has the IDs.
    #[serde(serialize_with = "event_ids")]
    pub events: Vec<TracedEvent>,
    /// The counts of the events.
    pub summary: Summary,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn event_ids<S: Serializer>(events: &[TracedEvent], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(events.iter().map(|event| &*event.id))
}

/// A trace and its scan statistics.
#[derive(Debug)]
pub struct TraceOutcome {
    /// The trace. `None` if the data does not hold what to start from.
    pub trace: Option<Trace>,
    /// The scan statistics.
    pub read: ScanStatistics,
}

/// Traces `request` in `table`.
///
/// # Errors
/// The table cannot be read, or the events exceed the memory.
pub async fn trace(engine: &Engine, table: &dyn Table, request: &TraceRequest) -> Result<TraceOutcome, Error> {
    without_damaged_files(table, async || {
        let records = TraceRecords::open(engine, table, request.range).await?;
        let issuers = Issuers::new(records, request.range, engine.memory());
        let tracer = Tracer {
            issuers,
            request,
            limit: engine.memory() / 2,
            timeline: Timeline::default(),
            nodes: BTreeMap::new(),
            of_other_accounts: HashMap::new(),
        };
        tracer.run().await
    })
    .await
}

/// The most conditions on promoted columns in a query.
const MAX_PREFILTERS: usize = 100;

/// What identifies a credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum CredentialId {
    /// The credentials that an act issued.
    Act(Arc<str>),
    /// A key whose issuing event is not known.
    Key(Arc<str>),
    /// A session whose issuing event is not known: its principal, and when it was issued.
    Session(Arc<str>, Instant),
}

/// A credential to follow.
#[derive(Debug)]
struct Node {
    depth: u32,
    identity: Option<Arc<Identity>>,
    events: u64,
}

/// Events by their IDs.
#[derive(Debug, Default)]
struct Timeline {
    events: HashMap<Arc<str>, TracedEvent>,
    bytes: usize,
}

impl Timeline {
    /// Adds an event. Of several records with one ID, the least counts. Returns whether the ID is new.
    fn add(&mut self, event: TracedEvent, limit: usize) -> Result<bool, Error> {
        if let Some(known) = self.events.get_mut(&event.id) {
            if event.precedes(known) {
                *known = event;
            }
            return Ok(false);
        }
        self.bytes += size_of::<TracedEvent>() + 2 * event.id.len() + 64;
        if self.bytes > limit {
            let subject = format!("a trace of more than {} events", self.events.len());
            return Err(Error::Query {
                subject,
                cause: QueryCause::MemoryExhausted,
                source: format!("its events take more than {} MiB", limit >> 20).into(),
            });
        }
        self.events.insert(Arc::clone(&event.id), event);
        Ok(true)
    }

    /// Returns the events in order of time and ID.
    fn into_events(self) -> Vec<TracedEvent> {
        let mut events: Vec<TracedEvent> = self.events.into_values().collect();
        events.sort_by(|one, other| one.order().cmp(&other.order()));
        events
    }
}

struct Tracer<'r, 't> {
    issuers: Issuers<'t>,
    request: &'r TraceRequest,
    /// Bytes that events may take.
    limit: usize,
    timeline: Timeline,
    /// The credentials that are followed.
    nodes: BTreeMap<CredentialId, Node>,
    /// The records of other accounts that name a session, by ID, with their `sharedEventID`.
    of_other_accounts: HashMap<Arc<str>, Option<Arc<str>>>,
}

impl Tracer<'_, '_> {
    async fn run(mut self) -> Result<TraceOutcome, Error> {
        let start = self.start_events().await?;
        let mut chains = Vec::new();
        let mut frontier: BTreeSet<CredentialId> = BTreeSet::new();
        let act = |event: &TracedEvent| self.issuers.index.of_event(&event.id).map(|issue| Arc::clone(&issue.id));
        let callers = start.iter().map(|event| ((Arc::clone(&event.identity), event.time), act(event)));
        // The record of a switched role is of the new session. Its act tells who switched.
        let own_acts = start.iter().filter_map(|event| self.issuers.index.of_event(&event.id));
        let switchers = own_acts.map(|act| ((Arc::clone(&act.caller), act.event.time), Some(Arc::clone(&act.id))));
        self.issuers.learn_chains(callers.chain(switchers).collect()).await?;
        let mut seen = HashSet::new();
        for event in &start {
            let own = self.issuers.index.of_event(&event.id).map(|issue| Arc::clone(&issue.id));
            let used = self.credential(&event.identity, event.time, own.as_deref());
            // Who signs in, or is a service, has no credential yet, but gets one.
            let credential = used.or_else(|| own.clone().map(CredentialId::Act));
            let time = event.time.filter(|_| event.identity.is_session_without_time());
            let is_new = match &credential {
                Some(credential) => seen.insert((Some(credential.clone()), None)),
                None => seen.insert((None, Some((Arc::clone(&event.identity), time)))),
            };
            if is_new {
                chains.push(self.issuers.chain(&event.identity, event.time, own.as_ref()).await?);
            }
            if let Some(credential) = credential.filter(|_| is_new) {
                self.nodes.insert(
                    credential.clone(),
                    Node { depth: 0, identity: Some(Arc::clone(&event.identity)), events: 0 },
                );
                frontier.insert(credential);
            }
        }
        if let Start::Key(key) = &self.request.start
            && start.is_empty()
        {
            let key: Arc<str> = key.as_str().into();
            self.issuers.learn_key(&key, None).await?;
            if let [act] = self.issuers.index.issuing(&key)
                && let Some(issue) = self.issuers.index.get(act)
            {
                let (act, caller, time) = (Arc::clone(act), Arc::clone(&issue.caller), issue.event.time);
                let mut chain = self.issuers.chain(&caller, time, Some(&act)).await?;
                chain.acts.push(Arc::clone(&act));
                chains.push(chain);
                frontier.insert(CredentialId::Act(act));
            }
        }
        if chains.is_empty() {
            return Ok(TraceOutcome { trace: None, read: self.issuers.records.read });
        }
        if self.request.from_origin {
            frontier.extend(chains.iter().flat_map(|chain| chain.acts.iter().cloned()).map(CredentialId::Act));
            let first: Vec<_> = chains.iter().filter_map(|chain| self.issuers.index.get(chain.acts.first()?)).collect();
            let callers: Vec<_> = first.iter().map(|issue| (Arc::clone(&issue.caller), issue.event.time)).collect();
            for (caller, time) in callers {
                frontier.extend(self.credential(&caller, time, None));
            }
        }
        for credential in &frontier {
            self.nodes.entry(credential.clone()).or_insert(Node { depth: 0, identity: None, events: 0 });
        }
        let is_cut = self.follow(frontier).await?;
        Ok(self.finish(&chains, is_cut))
    }

    /// Returns the events to start from, in order.
    async fn start_events(&mut self) -> Result<Vec<TracedEvent>, Error> {
        let (condition, within) = self.request.start.events();
        let mut found = Timeline::default();
        let limit = self.limit;
        self.issuers.records.events(&condition, within, |event| found.add(event, limit).map(|_| ())).await?;
        let mut events = found.into_events();
        for event in &events {
            self.timeline.add(event.clone(), limit)?;
        }
        // Which acts they are.
        let issuing = events.iter().filter(|event| IssueKind::of(event).is_some());
        let search = |event: &TracedEvent| Some((issue::around(event.time?), Sought::Event(Arc::clone(&event.id))));
        self.issuers.search(issuing.filter_map(search).collect()).await?;
        self.issuers.name_callers(&mut events).await?;
        Ok(events)
    }

    /// Returns the credential of a call by `identity` at `time`. `own` is the act of the call, if it is one.
    fn credential(&self, identity: &Identity, time: Option<Instant>, own: Option<&str>) -> Option<CredentialId> {
        if let Issuer::Act(act) = self.issuers.index.issuer(identity, time, own) {
            return Some(CredentialId::Act(act));
        }
        let session = || {
            let principal = identity.arn.clone().or_else(|| identity.principal_id.clone())?;
            Some(CredentialId::Session(principal, identity.created?))
        };
        let key = || identity.access_key.clone().map(CredentialId::Key);
        // A user's session may have several keys. Of a role session, several may be issued in one second.
        let has_several_keys = identity.is_from_console || identity.is("IAMUser") || identity.is("Root");
        if has_several_keys { session().or_else(key) } else { key().or_else(session) }
    }

    /// Follows the credentials of `frontier` and all that they issue. Returns whether some lie beyond the depth.
    async fn follow(&mut self, mut frontier: BTreeSet<CredentialId>) -> Result<bool, Error> {
        let mut depth = 0;
        while !frontier.is_empty() {
            let (condition, within) = self.condition(&frontier);
            let mut candidates = Timeline::default();
            let limit = self.limit.saturating_sub(self.timeline.bytes);
            self.issuers.records.events(&condition, within, |event| candidates.add(event, limit).map(|_| ())).await?;
            self.learn_sessions(&frontier, &candidates).await?;
            let mut issuing = Vec::new();
            for event in candidates.events.into_values() {
                let own = self.issuers.index.of_event(&event.id).map(|issue| Arc::clone(&issue.id));
                let credential = self.credential(&event.identity, event.time, own.as_deref());
                let Some(credential) = credential.filter(|credential| frontier.contains(credential)) else {
                    if event.is_of_other_account() {
                        self.of_other_accounts.insert(event.id, event.shared_id);
                    }
                    continue;
                };
                if let Some(node) = self.nodes.get_mut(&credential) {
                    node.events += 1;
                    node.identity.get_or_insert_with(|| Arc::clone(&event.identity));
                }
                if IssueKind::of(&event).is_some() && event.error.is_none() {
                    issuing.push(Arc::clone(&event.id));
                }
                self.timeline.add(event, self.limit)?;
            }
            if !issuing.is_empty() {
                self.issuers.learn_issued(&condition, within).await?;
            }
            depth += 1;
            let acts = issuing.iter().filter_map(|event| self.issuers.index.of_event(event));
            let children: BTreeSet<CredentialId> = acts
                .map(|issue| CredentialId::Act(Arc::clone(&issue.id)))
                .filter(|credential| !self.nodes.contains_key(credential))
                .collect();
            if depth > self.request.depth {
                return Ok(!children.is_empty());
            }
            for credential in &children {
                self.nodes.insert(credential.clone(), Node { depth, identity: None, events: 0 });
            }
            frontier = children;
        }
        Ok(false)
    }

    /// Returns a condition that holds for all events of `credentials`, and the time in which they are.
    fn condition(&self, credentials: &BTreeSet<CredentialId>) -> (String, Range) {
        let (mut keys, mut principals, mut within) = (BTreeSet::new(), BTreeSet::new(), None);
        let mut exchanges = Vec::new();
        let mut prefilters = Some(BTreeSet::new());
        let mut have_hashes = true;
        for credential in credentials {
            match (self.prefilter(credential), &mut prefilters) {
                (Some(condition), Some(prefilters)) => _ = prefilters.insert(condition),
                _ => prefilters = None,
            }
            // Not all acts name the session that they began.
            if let Some(identity) = self.nodes.get(credential).and_then(|node| node.identity.as_deref()) {
                keys.extend(identity.access_key.as_deref());
                principals.extend(identity.created.and(identity.arn.as_deref()));
            }
            let range = match credential {
                CredentialId::Key(key) => {
                    keys.insert(&**key);
                    let identity = self.nodes.get(credential).and_then(|node| node.identity.as_ref());
                    identity.and_then(|identity| identity.created).map_or_else(Range::default, session_range)
                }
                CredentialId::Session(principal, created) => {
                    principals.insert(&**principal);
                    have_hashes &= principal.starts_with("arn:");
                    session_range(*created)
                }
                CredentialId::Act(act) => {
                    let Some(issue) = self.issuers.index.get(act) else { continue };
                    keys.extend(issue.issued_key.as_deref());
                    if issue.kind != IssueKind::CreateAccessKey {
                        principals.extend(issue.principals());
                        have_hashes &= issue.events_have_arn();
                    }
                    if let Some(condition) = issue.exchange() {
                        exchanges.push(condition);
                    }
                    valid_for(issue.kind, issue.event.time)
                }
            };
            within = Some(within.map_or(range, |within: Range| within.union(range)));
        }
        let mut hashes = vec![may_have_key(keys.iter().copied())];
        let mut conditions = vec![has_key(keys.iter().copied())];
        if !principals.is_empty() {
            // Events without an ARN have the hash of an empty text.
            hashes.push(may_have_arn(principals.iter().copied().chain([""])));
            conditions.push(has_arn(principals.iter().copied()));
            conditions.push(is_one_of("principal_id", principals));
        }
        hashes.extend(exchanges.iter().cloned());
        conditions.extend(exchanges);
        let mut condition = format!("({})", conditions.join(" OR "));
        if have_hashes {
            condition = format!("({}) AND {condition}", hashes.join(" OR "));
        }
        if let Some(prefilters) = prefilters.filter(|prefilters| prefilters.len() <= MAX_PREFILTERS) {
            let prefilters = prefilters.into_iter().collect::<Vec<_>>().join(" OR ");
            condition = format!("({prefilters}) AND {condition}");
        }
        (condition, within.unwrap_or_default())
    }

    /// Returns a condition on promoted columns that holds for all events of `credential`, if there is one.
    fn prefilter(&self, credential: &CredentialId) -> Option<String> {
        match credential {
            CredentialId::Act(act) => self.issuers.index.get(act)?.prefilter(),
            CredentialId::Session(principal, _) => issue::principal_prefilter(principal),
            CredentialId::Key(_) => {
                issue::principal_prefilter(self.nodes.get(credential)?.identity.as_ref()?.arn.as_deref()?)
            }
        }
    }

    /// Reads the acts that may have issued the credentials of `events`. Nothing is read for an event whose key tells that it is of
    /// `credentials`, or whose session began when none of these did.
    async fn learn_sessions(&mut self, credentials: &BTreeSet<CredentialId>, events: &Timeline) -> Result<(), Error> {
        let (mut keys, mut times) = (HashSet::new(), BTreeSet::new());
        for credential in credentials {
            match credential {
                CredentialId::Key(key) => _ = keys.insert(&**key),
                CredentialId::Session(_, created) => _ = times.insert(*created),
                CredentialId::Act(act) => {
                    let issue = self.issuers.index.get(act);
                    keys.extend(issue.and_then(|issue| issue.issued_key.as_deref()));
                    times.extend(issue.and_then(|issue| issue.event.time));
                }
            }
        }
        let mut searches = Vec::new();
        for event in events.events.values() {
            let identity = &event.identity;
            let is_decided = identity.access_key.as_deref().is_some_and(|key| keys.contains(key));
            let window = issue::window_of_act(identity, event.time);
            // Acts beyond its window cannot have issued the credential.
            let window = window.filter(|(from, to)| !is_decided && times.range(*from..*to).next().is_some());
            let Some(window) = window else { continue };
            searches.push((window, Sought::issuer_of(identity)));
            // Only the own act of an exchange names the session that it began.
            if IssueKind::of(event) == Some(IssueKind::AssumeRoleWithSaml) {
                searches.push((window, Sought::Event(Arc::clone(&event.id))));
            }
        }
        drop(keys);
        self.issuers.search(searches).await
    }

    fn finish(self, chains: &[chain::Chain], is_cut: bool) -> TraceOutcome {
        let Tracer { issuers, request, timeline, nodes, of_other_accounts, .. } = self;
        let mut seen = HashSet::new();
        let acts = chains.iter().flat_map(|chain| &chain.acts).filter(|act| seen.insert(Arc::clone(act)));
        let mut acts: Vec<Arc<str>> = acts.cloned().collect();
        if chains.len() > 1 {
            let time = |act: &Arc<str>| issuers.index.get(act).and_then(|issue| issue.event.time);
            // No act comes before the one that it follows, though both may be of one second.
            let mut places = HashMap::new();
            for chain in chains {
                let mut latest = None;
                for (position, act) in chain.acts.iter().enumerate() {
                    latest = latest.max(time(act));
                    places.entry(act).or_insert((latest, position));
                }
            }
            acts.sort_by_key(|act| (places.get(act).copied(), Arc::clone(act)));
        }
        let mut origins: Vec<Origin> = chains.iter().map(|chain| chain.origin.clone()).collect();
        origins.sort();
        origins.dedup();
        let origin = common_origin(&origins);
        if origins.len() == 1 {
            origins.clear();
        }
        let events = timeline.into_events();
        let shared: HashSet<&Arc<str>> = events.iter().filter_map(|event| event.shared_id.as_ref()).collect();
        let ids: HashSet<&Arc<str>> = events.iter().map(|event| &event.id).collect();
        let is_unknown = |(id, shared_id): &(&Arc<str>, &Option<Arc<str>>)| {
            !ids.contains(id) && shared_id.as_ref().is_none_or(|shared_id| !shared.contains(shared_id))
        };
        let of_unknown_sessions = of_other_accounts.iter().filter(is_unknown).count();
        let mut credentials: Vec<TracedCredential> =
            nodes.iter().map(|(id, node)| credential(&issuers, id, node)).collect();
        credentials.sort_by(|one, other| (one.depth, &one.issued_by).cmp(&(other.depth, &other.issued_by)));
        let Range { from, to } = request.range;
        let trace = Trace {
            start: StartLabel {
                kind: request.start.kind(),
                value: request.start.value(),
                from,
                to,
                depth: request.depth,
            },
            chain: issuers.steps(&acts),
            origin,
            origins,
            credentials,
            of_unknown_sessions,
            is_cut,
            summary: Summary::of(&events),
            events,
        };
        TraceOutcome { trace: Some(trace), read: issuers.records.read }
    }
}

/// Returns the origin that all of `origins` share, or says that there are several.
fn common_origin(origins: &[Origin]) -> Origin {
    let who = |origin: &Origin| (origin.account.clone(), origin.actor.clone(), origin.known);
    match origins {
        [first, rest @ ..] if rest.iter().all(|origin| who(origin) == who(first)) => first.clone(),
        origins => Origin {
            account: None,
            actor: None,
            known: false,
            reason: format!("the credentials have {} origins", origins.len()),
        },
    }
}

fn credential(issuers: &Issuers<'_>, id: &CredentialId, node: &Node) -> TracedCredential {
    let text = |text: Option<&Arc<str>>| text.map(ToString::to_string);
    let identity = node.identity.as_deref();
    let issue = match id {
        CredentialId::Act(act) => issuers.index.get(act),
        _ => None,
    };
    let key = match id {
        CredentialId::Key(key) => Some(key.to_string()),
        CredentialId::Act(_) => text(issue.and_then(|issue| issue.issued_key.as_ref())),
        CredentialId::Session(..) => None,
    };
    let session = issue.and_then(|issue| issue.session_arn.as_ref());
    TracedCredential {
        access_key: key,
        principal: text(session.or_else(|| identity.and_then(|identity| identity.arn.as_ref()))),
        account: issue
            .and_then(|issue| issue.issued_account().map(str::to_owned))
            .or_else(|| text(identity.and_then(|identity| identity.account.as_ref()))),
        issued_by: issue.map(|issue| issue.event.id.to_string()),
        kind: issue.map(|issue| issue.kind),
        issuer: text(issue.and_then(|issue| issue.caller.principal()).as_ref()),
        issuer_account: text(issue.and_then(|issue| issue.caller.account.as_ref())),
        issuer_key: text(issue.and_then(|issue| issue.caller.access_key.as_ref())),
        parent_event_id: issue.and_then(|issue| issuers.parent_event_id(issue)),
        depth: node.depth,
        events: node.events,
    }
}
