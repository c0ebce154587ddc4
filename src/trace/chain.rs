//! Follows a credential back to the principal that began its chain.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::identity::Identity;
use super::issue::{Issue, IssueIndex, IssueKind, Issuer, IssuingRecord, SSO_DELAY, around, window_of_act};
use super::records::{TraceRecords, TracedEvent, has_issued, intersection, is_in_second_of, is_one_of, time_bounds};
use super::sought::{Selection, Sought};
use crate::error::Error;
use crate::event::identity::ROLE_ID;
use crate::finding::Origin;
use crate::time::{DAY, Instant, Range, SECOND};

/// The longest time for which a temporary credential is valid, with room for clocks that differ: 36 hours for
/// `GetSessionToken` and `GetFederationToken`, twelve for roles.
pub(super) const LONGEST_SESSION: i64 = 37 * 3_600 * SECOND;

/// An act that issued a credential, as a step of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainStep {
    /// The `eventID` of the record in the caller's account, if the data holds it, else in the other account.
    pub event_id: String,
    /// When the credential was issued.
    pub time: Option<Instant>,
    /// How it was issued.
    pub kind: IssueKind,
    /// The account of the principal that asked for it.
    pub account: Option<String>,
    /// That principal: its ARN, else the name of the service or its ID.
    pub principal: Option<String>,
    /// The access key that it used.
    pub used_key: Option<String>,
    /// The issued access key, if the record holds it. Keys of console sessions rotate, and no record holds them.
    pub issued_key: Option<String>,
    /// Whether the credential acts in another account than the principal's.
    pub cross_account: bool,
    /// The actor, as rules group by it.
    pub actor: Option<String>,
    /// The account in which the credential acts.
    pub issued_account: Option<String>,
    /// The principal that the credential acts as. For a long-lived key `user/NAME`.
    pub issued_principal: Option<String>,
    /// `sourceIPAddress` of the act.
    pub address: String,
    /// The `eventID` of the act that issued the credential used for this one, if it is known.
    pub parent_event_id: Option<String>,
}

impl ChainStep {
    fn of(issue: &Issue, parent_event_id: Option<String>) -> ChainStep {
        let text = |text: Option<&Arc<str>>| text.map(ToString::to_string);
        ChainStep {
            event_id: issue.event.id.to_string(),
            time: issue.event.time,
            kind: issue.kind,
            account: text(issue.caller.account.as_ref()),
            principal: text(issue.caller.principal().as_ref()),
            used_key: text(issue.caller.access_key.as_ref()),
            issued_key: text(issue.issued_key.as_ref()),
            cross_account: issue.is_cross_account(),
            actor: text(issue.caller.actor.as_ref()),
            issued_account: issue.issued_account().map(str::to_owned),
            issued_principal: issue.issued_principal(),
            address: issue.event.address.to_string(),
            parent_event_id,
        }
    }
}

/// A chain, and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// The acts, the first of them first.
    pub(super) acts: Vec<Arc<str>>,
    pub(super) origin: Origin,
}

/// Who made a call, when, and the act of the call, if it is one.
type CallerOfAct = ((Arc<Identity>, Option<Instant>), Option<Arc<str>>);

/// A span of time: its start, and its end, which is not part of it.
type Window = (Instant, Instant);
/// A search: the window of the issuing events, and what it looks for among them.
pub(super) type Search = (Window, Sought);

/// Finds the acts that issued credentials.
pub(super) struct Issuers<'t> {
    pub(super) records: TraceRecords<'t>,
    pub(super) index: IssueIndex,
    range: Range,
    /// The searches that were done.
    done: HashSet<Search>,
    /// The keys whose issuing events were searched.
    searched_keys: HashSet<Arc<str>>,
    /// Bytes that issuing events may take.
    limit: usize,
}

/// The most IDs that one query looks for.
pub(super) const IDS_OF_QUERY: usize = 10_000;

/// The most windows whose bounds a query compares. One look into a list of seconds costs less than comparisons with more.
const MAX_WINDOWS: usize = 64;
/// The most seconds that a query lists. The list is prepared again for each file.
const MAX_SECONDS: i64 = 4_000;
/// As [`MAX_SECONDS`], where all files are read once into a buffer. Each query reads the whole buffer.
const MAX_SECONDS_OF_BUFFER: i64 = 200_000;

impl<'t> Issuers<'t> {
    /// Searches `records` of `range`. `memory` is that of the engine, in bytes.
    pub(super) fn new(records: TraceRecords<'t>, range: Range, memory: usize) -> Issuers<'t> {
        let limit = memory / 4;
        Issuers {
            records,
            index: IssueIndex::default(),
            range,
            done: HashSet::new(),
            searched_keys: HashSet::new(),
            limit,
        }
    }

    /// Reads the issuing events that `condition` selects, and shows them to `each`.
    async fn read(
        &mut self,
        condition: &str,
        within: Range,
        mut each: impl FnMut(&IssuingRecord),
    ) -> Result<(), Error> {
        let all = |record: &IssuingRecord| {
            each(record);
            true
        };
        self.add_records(condition, within, all).await?;
        self.index.refresh();
        Ok(())
    }

    /// Reads the issuing events that `condition` selects and `is_wanted` accepts. Their acts are known after the next refresh of the
    /// index.
    async fn add_records(
        &mut self,
        condition: &str,
        within: Range,
        mut is_wanted: impl FnMut(&IssuingRecord) -> bool,
    ) -> Result<(), Error> {
        let (index, limit) = (&mut self.index, self.limit);
        let add = |record: IssuingRecord| if is_wanted(&record) { index.add(record, limit) } else { Ok(()) };
        self.records.issuing(condition, within, add).await
    }

    /// Reads the chains of `callers`, each with the time of a call and its act, if it is one. Reads once for all chains of one
    /// length.
    pub(super) async fn learn_chains(&mut self, mut callers: Vec<CallerOfAct>) -> Result<(), Error> {
        let mut seen = HashSet::new();
        while !callers.is_empty() {
            let (pairs, own): (Vec<_>, Vec<_>) = callers.into_iter().unzip();
            self.learn(&pairs).await?;
            self.learn_unresolved(&pairs).await?;
            callers = Vec::new();
            for ((identity, time), own) in pairs.iter().zip(&own) {
                if let Issuer::Act(act) = self.index.issuer(identity, *time, own.as_deref())
                    && seen.insert(Arc::clone(&act))
                    && let Some(issue) = self.index.get(&act)
                {
                    callers.push(((Arc::clone(&issue.caller), issue.event.time), Some(act)));
                }
            }
        }
        Ok(())
    }

    /// Reads the events that may have issued the credentials of `callers`, each with the time of a call.
    pub(super) async fn learn(&mut self, callers: &[(Arc<Identity>, Option<Instant>)]) -> Result<(), Error> {
        let mut searches = Vec::new();
        let (mut long_lived, mut without_session) = (BTreeSet::new(), Vec::new());
        for (caller, time) in callers {
            match (window_of_act(caller, *time), &caller.access_key) {
                (Some(window), _) => searches.push((window, Sought::issuer_of(caller))),
                (None, Some(key)) if self.searched_keys.contains(key) => {}
                (None, Some(key)) if caller.has_long_lived_key() => {
                    long_lived.insert(Arc::clone(key));
                }
                (None, Some(key)) => without_session.push((Arc::clone(key), *time)),
                (None, None) => {}
            }
        }
        self.search(searches).await?;
        if !long_lived.is_empty() {
            let keys = has_issued(long_lived.iter().map(|key| &**key));
            let condition = format!("{} AND {keys}", is_one_of("event_name", ["CreateAccessKey"]));
            self.read(&condition, Range::default(), |_| {}).await?;
            self.searched_keys.extend(long_lived);
        }
        self.learn_keys(&without_session).await
    }

    /// Reads the event that issued `key`, which was used at `time`.
    pub(super) async fn learn_key(&mut self, key: &Arc<str>, time: Option<Instant>) -> Result<(), Error> {
        self.learn_keys(&[(Arc::clone(key), time)]).await
    }

    /// Reads the events that issued `keys`, each with the time at which it was used.
    async fn learn_keys(&mut self, keys: &[(Arc<str>, Option<Instant>)]) -> Result<(), Error> {
        let (mut wanted, mut within) = (BTreeSet::new(), None);
        for (key, time) in keys {
            if self.index.issuing(key).is_empty() && self.searched_keys.insert(Arc::clone(key)) {
                let from = time.map(|time| time - LONGEST_SESSION);
                let range = Range { from, to: time.map(|time| time + SECOND) };
                within = Some(within.map_or(range, |within: Range| within.union(range)));
                wanted.insert(&**key);
            }
        }
        let Some(within) = within else { return Ok(()) };
        let mut searches = Vec::new();
        let found = |record: &IssuingRecord| {
            // Another record of the act may tell who asked for the key.
            let window = record.event.time.map(around);
            searches.extend(window.map(|window| (window, Sought::Act(Arc::clone(record.act_id())))));
        };
        self.read(&has_issued(wanted.iter().copied()), within, found).await?;
        self.search(searches).await
    }

    /// Reads the events that issued the keys of `callers` whose sessions tell no act.
    pub(super) async fn learn_unresolved(&mut self, callers: &[(Arc<Identity>, Option<Instant>)]) -> Result<(), Error> {
        let mut keys = Vec::new();
        for (caller, time) in callers {
            if let Some(key) = &caller.access_key
                && !caller.has_long_lived_key()
                && self.is_in_range(caller)
                && self.index.issuer(caller, *time, None) == Issuer::Unknown
            {
                keys.push((Arc::clone(key), *time));
            }
        }
        self.learn_keys(&keys).await
    }

    /// Reads what those of the events that `condition` selects issued.
    pub(super) async fn learn_issued(&mut self, condition: &str, within: Range) -> Result<(), Error> {
        let mut searches = Vec::new();
        let found = |record: &IssuingRecord| {
            let window = record.incomplete_at().map(around);
            searches.extend(window.map(|window| (window, Sought::Act(Arc::clone(record.act_id())))));
        };
        self.read(condition, within, found).await?;
        self.search(searches).await
    }

    /// Reads the acts that `searches` look for in their windows, unless they were read before.
    pub(super) async fn search(&mut self, mut searches: Vec<Search>) -> Result<(), Error> {
        searches.retain(|search| self.done.insert(search.clone()));
        let mut selection = Selection::of(searches.iter().map(|(_, sought)| sought));
        let windows = joined(searches.into_iter().map(|(window, _)| window).collect());
        let most_seconds = if self.records.is_buffered() { MAX_SECONDS_OF_BUFFER } else { MAX_SECONDS };
        for part in parts(&windows, most_seconds) {
            self.search_part(part, &mut selection).await?;
        }
        self.index.refresh();
        Ok(())
    }

    /// Reads the records in `windows` that `selection` selects. If all records there take too much memory, reads them twice.
    async fn search_part(&mut self, windows: &[Window], selection: &mut Selection) -> Result<(), Error> {
        let bounds = |(from, to): &Window| {
            format!("({})", time_bounds("event_time", Range { from: Some(*from), to: Some(*to) }).join(" AND "))
        };
        let condition = if windows.len() <= MAX_WINDOWS {
            windows.iter().map(bounds).collect::<Vec<_>>().join(" OR ")
        } else {
            is_in_second_of(windows)
        };
        let within = Range { from: windows.first().map(|(from, _)| *from), to: windows.last().map(|(_, to)| *to) };
        // A list of seconds also selects a little around the windows.
        let is_within =
            |record: &IssuingRecord| record.event.time.is_some_and(|time| is_within_one(windows, (time, time + 1)));
        let (mut held, mut bytes, limit) = (Vec::new(), 0, self.limit / 2);
        let take = |record: IssuingRecord| {
            if is_within(&record) {
                selection.note(&record);
                bytes += record.bytes();
                if bytes <= limit {
                    held.push(record);
                } else {
                    held = Vec::new();
                }
            }
            Ok(())
        };
        self.records.issuing(&condition, within, take).await?;
        if bytes > limit {
            return self.add_records(&condition, within, |record| is_within(record) && selection.selects(record)).await;
        }
        let (index, limit) = (&mut self.index, self.limit);
        held.into_iter().filter(|record| selection.selects(record)).try_for_each(|record| index.add(record, limit))
    }

    /// Gives the other account's records of cross-account calls the callers that the records of the callers' accounts name, if the
    /// data holds these.
    pub(super) async fn name_callers(&mut self, events: &mut [TracedEvent]) -> Result<(), Error> {
        let of_others = || events.iter().filter(|event| event.is_of_other_account());
        let shared_ids: BTreeSet<&str> = of_others().filter_map(|event| event.shared_id.as_deref()).collect();
        let times = || of_others().filter_map(|event| event.time);
        let Some((first, last)) = times().min().zip(times().max()).filter(|_| !shared_ids.is_empty()) else {
            return Ok(());
        };
        let within = Range { from: Some(around(first).0), to: Some(around(last).1) };
        let mut own: HashMap<Arc<str>, TracedEvent> = HashMap::new();
        for ids in shared_ids.into_iter().collect::<Vec<_>>().chunks(IDS_OF_QUERY) {
            let add = |event: TracedEvent| {
                if let Some(id) = event.shared_id.clone().filter(|_| !event.is_of_other_account())
                    && own.get(&id).is_none_or(|known| event.precedes(known))
                {
                    own.insert(id, event);
                }
                Ok(())
            };
            self.records.events(&is_one_of("shared_id", ids.iter().copied()), within, add).await?;
        }
        for event in events.iter_mut().filter(|event| event.is_of_other_account()) {
            if let Some(own) = event.shared_id.as_ref().and_then(|id| own.get(id)) {
                event.identity = Arc::clone(&own.identity);
            }
        }
        Ok(())
    }

    /// Follows the credential of `identity`, which made a call at `time`, back to its origin. `own` is the act of that call, if
    /// it is one.
    pub(super) async fn chain(
        &mut self,
        identity: &Arc<Identity>,
        time: Option<Instant>,
        own: Option<&Arc<str>>,
    ) -> Result<Chain, Error> {
        let (mut identity, mut time, mut own) = (Arc::clone(identity), time, own.cloned());
        let mut acts: Vec<Arc<str>> = Vec::new();
        let end = loop {
            self.learn(&[(Arc::clone(&identity), time)]).await?;
            self.learn_unresolved(&[(Arc::clone(&identity), time)]).await?;
            let issuer = self.index.issuer(&identity, time, own.as_deref());
            let Issuer::Act(act) = issuer else { break issuer };
            let Some(issue) = self.index.get(&act).filter(|_| !acts.contains(&act)) else {
                break Issuer::Unknown;
            };
            (identity, time) = (Arc::clone(&issue.caller), issue.event.time);
            acts.push(Arc::clone(&act));
            own = Some(act);
        };
        let first = own.and_then(|act| self.index.get(&act)).map(|issue| issue.kind);
        acts.reverse();
        Ok(Chain { acts, origin: self.origin(&identity, first, &end) })
    }

    /// Returns the acts as steps.
    pub(super) fn steps(&self, acts: &[Arc<str>]) -> Vec<ChainStep> {
        let issues = acts.iter().filter_map(|act| self.index.get(act));
        issues.map(|issue| ChainStep::of(issue, self.parent_event_id(issue))).collect()
    }

    /// Returns the `eventID` of the act that issued the credential used for `issue`, if it is known.
    pub(super) fn parent_event_id(&self, issue: &Issue) -> Option<String> {
        match self.index.issuer(&issue.caller, issue.event.time, Some(&issue.id)) {
            Issuer::Act(act) => self.index.get(&act).map(|parent| parent.event.id.to_string()),
            _ => None,
        }
    }

    /// Returns whether the session of `identity` was issued within the range, as far as is known.
    fn is_in_range(&self, identity: &Identity) -> bool {
        match (self.range.from, identity.created) {
            (Some(from), Some(created)) => created >= from,
            _ => true,
        }
    }

    /// Returns the origin of a chain whose first known principal is `identity`. `first` is the kind of its first act, and `end`
    /// tells why there is none before.
    fn origin(&self, identity: &Identity, first: Option<IssueKind>, end: &Issuer) -> Origin {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let (account, actor) = (text(&identity.account), text(&identity.actor));
        let known =
            |actor: Option<String>, reason: String| Origin { account: account.clone(), actor, known: true, reason };
        let unknown = |reason: String| Origin { account: account.clone(), actor: actor.clone(), known: false, reason };
        if let Issuer::Several(acts) = end {
            let ids: Vec<&str> =
                acts.iter().filter_map(|act| self.index.get(act)).map(|issue| &*issue.event.id).collect();
            return unknown(format!("several issuing events fit: {}", ids.join(", ")));
        }
        match identity.kind.as_deref().unwrap_or_default() {
            "AWSService" => return known(text(&identity.invoked_by).or(actor.clone()), "an AWS service".to_owned()),
            "SAMLUser" | "WebIdentityUser" | "IdentityCenterUser" | "Directory" => {
                return known(actor.clone(), "signed in with an identity provider".to_owned());
            }
            _ if first == Some(IssueKind::SsoRoleCredentials) => {
                return known(actor.clone(), "signed in with IAM Identity Center".to_owned());
            }
            "AWSAccount" => {
                let of_other = "the record of the caller's account is not in the data";
                let is_session = identity.principal_id.as_deref().is_some_and(|id| id.starts_with(ROLE_ID));
                return if is_session {
                    unknown(of_other.to_owned())
                } else {
                    known(actor.clone(), of_other.to_owned())
                };
            }
            _ => {}
        }
        let is_user = identity.is("IAMUser") || identity.is("Root");
        if is_user && identity.created.is_none() {
            match &identity.access_key {
                Some(key) if identity.has_long_lived_key() => {
                    return known(actor.clone(), format!("the long-lived access key {key}"));
                }
                None if first == Some(IssueKind::ConsoleSignIn) => {
                    return known(actor.clone(), "signed in to the console".to_owned());
                }
                None => return known(actor.clone(), "the record names no access key".to_owned()),
                Some(_) => {}
            }
        }
        if identity.is_ec2_role {
            return known(Some("ec2.amazonaws.com".to_owned()), "the role credentials of an EC2 instance".to_owned());
        }
        if let Some(resource) = &identity.issued_to {
            let service = resource.split(':').nth(2).map(|service| format!("{service}.amazonaws.com"));
            return known(service.or_else(|| Some(resource.to_string())), format!("issued to {resource}"));
        }
        let mut reason = match (identity.created, self.range.from) {
            (Some(created), Some(from)) if created < from => {
                let from = from.to_string();
                let from = from.strip_suffix("T00:00:00Z").unwrap_or(&from);
                format!("issued before {from}, outside the range")
            }
            (Some(created), _) => format!("no issuing event in the data for the session of {created}"),
            (None, _) => "no issuing event in the data".to_owned(),
        };
        if let Some(name) = &identity.source_identity {
            reason = format!("{reason}; the session has the source identity {name}");
        }
        unknown(reason)
    }
}

/// Returns `windows` sorted, and joined where nothing is between them.
fn joined(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_unstable();
    let mut apart: Vec<Window> = Vec::with_capacity(windows.len());
    for (from, to) in windows {
        match apart.last_mut() {
            Some((_, end)) if from <= *end => *end = (*end).max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

/// Returns whether one of `windows`, which are sorted and apart, holds all of a window.
fn is_within_one(windows: &[Window], (from, to): Window) -> bool {
    let later = windows.partition_point(|(first, _)| *first <= from);
    windows[..later].last().is_some_and(|(_, end)| to <= *end)
}

/// Divides `windows`, which are sorted and apart, into parts. One query searches a part. A part has at most [`MAX_WINDOWS`], or at
/// most `most_seconds`. It has no gap of more than a day: a query for times far apart would open all files between them.
fn parts(windows: &[Window], most_seconds: i64) -> Vec<&[Window]> {
    let mut parts = Vec::new();
    let (mut start, mut seconds) = (0, 0);
    for (index, (from, to)) in windows.iter().enumerate() {
        let own = (*to - *from) / SECOND + 2;
        let is_far = index > start && *from - windows[index - 1].1 > DAY;
        let is_full = index - start >= MAX_WINDOWS && seconds + own > most_seconds;
        if is_far || is_full {
            parts.push(&windows[start..index]);
            (start, seconds) = (index, 0);
        }
        seconds += own;
    }
    if start < windows.len() {
        parts.push(&windows[start..]);
    }
    parts
}

/// Returns the time within which the credential that `issue` issued can be used.
pub(super) fn valid_for(kind: IssueKind, issued: Option<Instant>) -> Range {
    match issued {
        Some(time) if kind == IssueKind::CreateAccessKey => Range { from: Some(time - SSO_DELAY), to: None },
        Some(time) => session_range(time),
        None => Range::default(),
    }
}

/// Returns the time within which a session of `created` can be used.
pub(super) fn session_range(created: Instant) -> Range {
    intersection(Range { from: Some(created - SSO_DELAY), to: Some(created + LONGEST_SESSION) }, Range::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_joined_and_hold_what_is_within_them() {
        let at = Instant::from_micros;
        let windows = vec![(at(50), at(60)), (at(0), at(10)), (at(5), at(20)), (at(20), at(30))];
        let apart = joined(windows);
        assert_eq!(apart, [(at(0), at(30)), (at(50), at(60))]);
        let within = [(0, 30), (5, 6), (50, 60), (30, 31), (20, 40), (40, 55), (60, 61)]
            .map(|(from, to)| is_within_one(&apart, (at(from), at(to))));
        assert_eq!(within, [true, true, true, false, false, false, false]);
    }

    #[test]
    fn parts_are_near_and_not_too_long() {
        let windows = |count: i64, apart: i64, length: i64| -> Vec<_> {
            let start = |number: i64| Instant::EPOCH + number * apart * SECOND;
            (0..count).map(|number| (start(number), start(number) + length * SECOND)).collect()
        };
        let lengths = |windows: &[_]| parts(windows, 4_000).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&windows(3, 86_410, 10)), [3]);
        assert_eq!(lengths(&windows(3, 86_411, 10)), [1, 1, 1]);
        // Few windows may be long, and many must be short.
        assert_eq!(lengths(&windows(130, 3_600, 900)), [64, 64, 2]);
        assert_eq!(lengths(&windows(700, 3_600, 10)), [333, 333, 34]);
        let long = windows(700, 3_600, 10);
        assert_eq!(parts(&long, 4_000).concat(), long);
    }
}
