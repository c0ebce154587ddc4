//! Events that issue credentials, and the search for the one that issued a credential.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::identity::Identity;
use super::records::{TracedEvent, is_one_of, time_bounds};
use crate::error::{Error, QueryCause};
use crate::event::identity::{self, IDENTITY_CENTER_ROLE, ROLE_SESSION, USER};
use crate::sql::quote::Literal;
use crate::time::{Instant, Range, SECOND};

mod kind;

pub use kind::IssueKind;

/// A record of an event that issued a credential.
#[derive(Debug, Clone)]
pub(super) struct IssuingRecord {
    pub(super) event: TracedEvent,
    kind: IssueKind,
    issued_key: Option<Arc<str>>,
    session_arn: Option<Arc<str>>,
    session_principal: Option<Arc<str>>,
    /// The user for whom a long-lived key was created.
    created_for: Option<Arc<str>>,
    /// Who switched to a role.
    switched_from: Option<Arc<str>>,
    sso: Option<SsoSession>,
}

/// What credentials of IAM Identity Center may do, and the user to whom they were issued.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SsoSession {
    permission_set: PermissionSet,
    user: Option<Arc<str>>,
}

/// A permission set of IAM Identity Center in an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PermissionSet {
    account: Arc<str>,
    name: Arc<str>,
}

impl PermissionSet {
    /// Returns the permission set and the session name in the ARN of a role session. `None` if the role is not of IAM Identity
    /// Center.
    pub(super) fn of_session(arn: &str) -> Option<(PermissionSet, &str)> {
        let (_, role_and_session) = arn.split_once(ROLE_SESSION)?;
        let (role, session) = role_and_session.split_once('/')?;
        let (name, _) = role.strip_prefix(IDENTITY_CENTER_ROLE)?.rsplit_once('_')?;
        Some((PermissionSet { account: account_of(arn)?.into(), name: name.into() }, session))
    }
}

impl IssuingRecord {
    /// Returns the record of an event that issued a credential. `None` if it issued none. `column` returns further columns.
    pub(super) fn of(
        event: TracedEvent,
        sign_in: Option<&str>,
        column: impl Fn(&str) -> Option<Arc<str>>,
    ) -> Option<IssuingRecord> {
        const SUCCESS: Option<&str> = Some("Success");
        let kind = IssueKind::of(&event)?;
        let issued_key = match kind {
            IssueKind::CreateAccessKey => column("created_key"),
            _ => column("session_key"),
        };
        let has_issued = event.error.is_none()
            && match kind {
                IssueKind::ConsoleSignIn => sign_in == SUCCESS,
                IssueKind::SwitchRole => column("switched_role").as_deref() == SUCCESS,
                IssueKind::CreateAccessKey => issued_key.is_some(),
                _ => true,
            };
        if !has_issued {
            return None;
        }
        let role_session = || {
            let role = column("role_arn")?;
            role_session(&role, &column("role_session_name")?)
        };
        let own = &event.identity;
        let (session_arn, session_principal) = match kind {
            IssueKind::GetFederationToken => (column("federated_user"), column("federated_user_id")),
            IssueKind::GetSessionToken | IssueKind::ConsoleSignIn | IssueKind::SignInToken | IssueKind::SwitchRole => {
                (own.arn.clone(), own.principal_id.clone())
            }
            IssueKind::AssumeRoot => (column("target_principal").map(|target| root(&target)), None),
            IssueKind::CreateAccessKey | IssueKind::SsoRoleCredentials => (None, None),
            _ => (column("role_session").or_else(role_session), column("role_session_id")),
        };
        let sso = (kind == IssueKind::SsoRoleCredentials)
            .then(|| {
                let permission_set = PermissionSet { account: column("sso_account")?, name: column("sso_role")? };
                Some(SsoSession { permission_set, user: column("sso_user") })
            })
            .flatten();
        let is_created = kind == IssueKind::CreateAccessKey;
        Some(IssuingRecord {
            kind,
            created_for: is_created.then(|| column("created_for").or_else(|| own.user_name())).flatten(),
            issued_key,
            session_arn,
            session_principal,
            switched_from: column("switched_from"),
            sso,
            event,
        })
    }

    /// Returns when the act was, if only another record of it may tell what was issued.
    pub(super) fn incomplete_at(&self) -> Option<Instant> {
        self.event.time.filter(|_| self.event.shared_id.is_some() && self.issued_key.is_none())
    }

    /// Returns whether this record of an event counts instead of `other`, whichever was read first: the one that a timeline
    /// shows, else the one that tells more about what was issued.
    fn precedes(&self, other: &IssuingRecord) -> bool {
        fn issued(record: &IssuingRecord) -> (IssueKind, [&Option<Arc<str>>; 6], &Option<SsoSession>) {
            let IssuingRecord { issued_key, session_arn, session_principal, .. } = record;
            let IssuingRecord { switched_from, created_for, event, .. } = record;
            let texts = [issued_key, session_arn, session_principal, &event.shared_id, switched_from, created_for];
            (record.kind, texts, &record.sso)
        }
        let is_same_event = !self.event.precedes(&other.event) && !other.event.precedes(&self.event);
        if is_same_event { issued(self) > issued(other) } else { self.event.precedes(&other.event) }
    }

    /// Returns the ID of the act that the record is of: the `sharedEventID`, else the `eventID`.
    pub(super) fn act_id(&self) -> &Arc<str> {
        self.event.shared_id.as_ref().unwrap_or(&self.event.id)
    }

    /// Returns the issued key, and the ARN and the ID of the principal that uses the credential.
    pub(super) fn key_and_principals(&self) -> impl Iterator<Item = &Arc<str>> {
        [&self.issued_key, &self.session_arn, &self.session_principal].into_iter().flatten()
    }

    /// Returns the permission set of the credential, if IAM Identity Center issued it.
    pub(super) fn permission_set(&self) -> Option<&PermissionSet> {
        self.sso.as_ref().map(|sso| &sso.permission_set)
    }

    /// Returns about how many bytes the record and its act take in an index.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.key_and_principals().map(|name| name.len());
        let entries = 4 * size_of::<(Arc<str>, Vec<Arc<str>>)>();
        size_of::<IssuingRecord>() + size_of::<Issue>() + size_of::<Identity>() + entries + 2 * texts.sum::<usize>()
    }

    /// Returns how much the record tells about who asked for the credential.
    fn completeness(&self) -> (bool, bool) {
        (!self.event.identity.is("AWSAccount"), self.event.identity.access_key.is_some())
    }
}

/// Returns the ARN of a session of a role, given the role's ARN.
fn role_session(role: &str, session: &str) -> Option<Arc<str>> {
    let mut parts = role.splitn(6, ':');
    let (partition, account) = (parts.nth(1)?, parts.nth(2)?);
    let name = parts.next()?.rsplit('/').next()?;
    Some(format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}").into())
}

/// Returns the ARN of an account's root user, given that or the account.
fn root(target: &str) -> Arc<str> {
    if target.starts_with("arn:") { target.into() } else { format!("arn:aws:iam::{target}:root").into() }
}

/// Returns the account in an ARN.
pub(super) fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4).filter(|account| !account.is_empty())
}

/// An act that issued a credential. The two records of a cross-account call are one act.
#[derive(Debug, Clone)]
pub(super) struct Issue {
    /// The `sharedEventID` of the records, else their `eventID`.
    pub(super) id: Arc<str>,
    /// The record of the caller's account, if the data holds it.
    pub(super) event: TracedEvent,
    pub(super) kind: IssueKind,
    /// Who asked for the credential.
    pub(super) caller: Arc<Identity>,
    pub(super) issued_key: Option<Arc<str>>,
    /// The principal that uses the credential.
    pub(super) session_arn: Option<Arc<str>>,
    session_principal: Option<Arc<str>>,
    created_for: Option<Arc<str>>,
    sso: Option<SsoSession>,
}

impl Issue {
    fn of(id: Arc<str>, records: &[&IssuingRecord]) -> Option<Issue> {
        let best = records.iter().max_by_key(|record| (record.completeness(), std::cmp::Reverse(&record.event.id)))?;
        let first = |part: fn(&IssuingRecord) -> &Option<Arc<str>>| {
            part(best).clone().or_else(|| records.iter().find_map(|record| part(record).clone()))
        };
        let caller = match &best.switched_from {
            Some(arn) if best.kind == IssueKind::SwitchRole => Arc::new(switcher(arn)),
            _ => Arc::clone(&best.event.identity),
        };
        Some(Issue {
            id,
            event: best.event.clone(),
            kind: best.kind,
            caller,
            issued_key: first(|record| &record.issued_key),
            session_arn: first(|record| &record.session_arn),
            session_principal: first(|record| &record.session_principal),
            created_for: first(|record| &record.created_for),
            sso: best.sso.clone(),
        })
    }

    /// Returns the account in which the credential acts.
    pub(super) fn issued_account(&self) -> Option<&str> {
        let of_session = self.session_arn.as_deref().and_then(account_of);
        of_session
            .or_else(|| self.sso.as_ref().map(|sso| &*sso.permission_set.account))
            .or(self.caller.account.as_deref())
    }

    /// Returns whether the credential acts in another account than the caller's.
    pub(super) fn is_cross_account(&self) -> bool {
        // A service has no account of its own.
        self.kind != IssueKind::ServiceRole
            && self.caller.account.is_some()
            && self.issued_account() != self.caller.account.as_deref()
    }

    /// Returns the principal that the credential acts as: the ARN of a session, or `user/NAME` for a long-lived key, whose
    /// record does not tell the user's path.
    pub(super) fn issued_principal(&self) -> Option<String> {
        let of_user = || self.created_for.as_ref().map(|name| format!("user/{name}"));
        self.session_arn.as_deref().map(str::to_owned).or_else(of_user)
    }

    /// Returns the names of the principal that uses the credential.
    pub(super) fn principals(&self) -> impl Iterator<Item = &str> {
        [&self.session_arn, &self.session_principal].into_iter().filter_map(|name| name.as_deref())
    }

    /// Returns whether all events that name the principal by its ID also have its ARN, or none. A user keeps the ID with a new name.
    pub(super) fn events_have_arn(&self) -> bool {
        self.session_principal.is_none() || self.session_arn.as_ref().is_some_and(|arn| arn.contains(ROLE_SESSION))
    }

    /// Returns a condition on promoted columns that holds for all events with the credential.
    pub(super) fn prefilter(&self) -> Option<String> {
        match self.kind {
            IssueKind::SsoRoleCredentials | IssueKind::AssumeRoot => None,
            // Not all records of a key's creation name its user.
            IssueKind::CreateAccessKey => Some(format!("({NO_ROLE})")),
            _ => principal_prefilter(self.session_arn.as_deref()?),
        }
    }

    /// Returns the condition for the events that exchange the credential, which names no session, for one that does.
    pub(super) fn exchange(&self) -> Option<String> {
        let time = self.event.time.filter(|_| self.sso.is_some())?;
        let (from, to) = around(time);
        let bounds = time_bounds("event_time", Range { from: Some(from), to: Some(to) });
        Some(format!("({} AND {})", is_one_of("event_name", ["AssumeRoleWithSAML"]), bounds.join(" AND ")))
    }

    /// Returns the distance of the act from the time at which a session was issued, in microseconds.
    fn distance(&self, time: Instant) -> Option<i64> {
        self.event.time.map(|own| (own - time).abs())
    }

    /// Returns whether the act can have issued the credential of `identity`, which is a session of its principal.
    fn fits(&self, identity: &Identity) -> bool {
        let has_other_key =
            self.issued_key.is_some() && identity.access_key.is_some() && self.issued_key != identity.access_key;
        // The console and services act with keys of their own for a session.
        !has_other_key || self.kind.is_sign_in() || identity.is_from_console || identity.invoked_by.is_some()
    }
}

/// The condition for calls that no role session or service makes.
const NO_ROLE: &str = "(identity_type IN ('AssumedRole', 'AWSService')) IS NOT TRUE";

/// Returns a condition on promoted columns that holds for all events of the role session or user `arn`. A trace tests it before
/// it reads whole identities.
///
/// Some records lack the names of the role and the user.
pub(super) fn principal_prefilter(arn: &str) -> Option<String> {
    if let Some((_, role_and_session)) = arn.split_once(ROLE_SESSION) {
        return Some(is_role(role_and_session.split('/').next()?));
    }
    if let Some((_, path_and_name)) = arn.split_once(USER) {
        let name = path_and_name.rsplit('/').next()?.to_lowercase();
        return Some(format!("({NO_ROLE} AND (user_name IS NULL OR lower_user_name = {}))", Literal(&name)));
    }
    None
}

/// Returns a condition on promoted columns that holds for all calls of sessions whose issuer is called `name`. Some records lack
/// the name.
pub(super) fn is_role(name: &str) -> String {
    let is_user = is_one_of("identity_type", ["IAMUser", "Root", "AWSService"]);
    format!("(role_name = {} OR (role_name IS NULL AND ({is_user}) IS NOT TRUE))", Literal(name))
}

/// Returns the identity of a principal that switched roles in the console.
fn switcher(arn: &Arc<str>) -> Identity {
    let kind = if arn.contains(ROLE_SESSION) {
        "AssumedRole"
    } else if arn.contains(USER) {
        "IAMUser"
    } else {
        "Root"
    };
    let json = serde_json::json!({ "type": kind, "arn": &**arn }).to_string();
    Identity {
        kind: Some(kind.into()),
        account: account_of(arn).map(Arc::from),
        actor: identity::actor(&json, None).map(Arc::from),
        arn: Some(Arc::clone(arn)),
        ..Identity::default()
    }
}

/// The acts that may have issued the credential of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Issuer {
    /// Exactly one fits.
    Act(Arc<str>),
    /// Several fit, and nothing decides between them.
    Several(Vec<Arc<str>>),
    /// None is known.
    Unknown,
}

/// The most time between a console session's time and that of its sign-in, in microseconds.
const NEAR: i64 = 2 * SECOND;
/// Time between the events of IAM Identity Center and STS for the same credentials, in microseconds.
pub(super) const SSO_DELAY: i64 = 5 * SECOND;
/// Returns the time around `time` in which the events of one act, and of a session that was issued then, are.
pub(super) fn around(time: Instant) -> (Instant, Instant) {
    (time - SSO_DELAY, time + SSO_DELAY + 1)
}

/// How long a sign-in token can be used, in microseconds.
const SIGN_IN_TOKEN_LIFE: i64 = 15 * 60 * SECOND;

/// Returns the time in which the acts are that may have issued the credential of a call by `identity` at `time`. `None` if only the
/// key of the call can tell the act.
pub(super) fn window_of_act(identity: &Identity, time: Option<Instant>) -> Option<(Instant, Instant)> {
    if let Some(created) = identity.created {
        return Some(around(created));
    }
    // Of others without a key no event tells the act.
    let time = time.filter(|_| identity.is_session_without_time() || identity.is_exchange())?;
    let (from, to) = around(time);
    // A sign-in token may have been issued earlier.
    Some(if identity.is_session_without_time() { (time - SIGN_IN_TOKEN_LIFE, to) } else { (from, to) })
}

/// The known acts.
#[derive(Debug, Default)]
pub(super) struct IssueIndex {
    records: BTreeMap<Arc<str>, IssuingRecord>,
    /// About how many bytes the records and their acts take.
    bytes: usize,
    /// Whether records were added whose acts are not yet known.
    has_new_records: bool,
    issues: BTreeMap<Arc<str>, Issue>,
    by_key: HashMap<Arc<str>, Vec<Arc<str>>>,
    by_principal: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl IssueIndex {
    /// Adds a record. Of several with one `eventID`, the least counts. Its act is known after [`IssueIndex::refresh`].
    ///
    /// # Errors
    /// The records take more than `limit` bytes.
    pub(super) fn add(&mut self, record: IssuingRecord, limit: usize) -> Result<(), Error> {
        match self.records.entry(Arc::clone(&record.event.id)) {
            Entry::Occupied(mut known) => {
                if record.precedes(known.get()) {
                    known.insert(record);
                    self.has_new_records = true;
                }
                return Ok(());
            }
            Entry::Vacant(place) => {
                self.bytes += record.bytes();
                place.insert(record);
                self.has_new_records = true;
            }
        }
        if self.bytes > limit {
            let subject = format!("a trace through more than {} events that issue credentials", self.records.len());
            return Err(Error::Query {
                subject,
                cause: QueryCause::MemoryExhausted,
                source: format!("they take more than {} MiB", limit >> 20).into(),
            });
        }
        Ok(())
    }

    /// Joins the records into acts.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.has_new_records) {
            return;
        }
        let mut acts: BTreeMap<Arc<str>, Vec<&IssuingRecord>> = BTreeMap::new();
        for record in self.records.values() {
            acts.entry(Arc::clone(record.act_id())).or_default().push(record);
        }
        self.issues =
            acts.into_iter().filter_map(|(id, records)| Some((Arc::clone(&id), Issue::of(id, &records)?))).collect();
        self.by_key.clear();
        self.by_principal.clear();
        for (id, issue) in &self.issues {
            if let Some(key) = &issue.issued_key {
                self.by_key.entry(Arc::clone(key)).or_default().push(Arc::clone(id));
            }
            let mut names = [&issue.session_arn, &issue.session_principal].map(Option::as_ref);
            if names[0] == names[1] {
                names[1] = None;
            }
            for name in names.into_iter().flatten() {
                self.by_principal.entry(Arc::clone(name)).or_default().push(Arc::clone(id));
            }
        }
    }

    /// Returns an act.
    pub(super) fn get(&self, id: &str) -> Option<&Issue> {
        self.issues.get(id)
    }

    /// Returns the act of a record.
    pub(super) fn of_event(&self, event_id: &str) -> Option<&Issue> {
        let record = self.records.get(event_id)?;
        self.issues.get(record.act_id())
    }

    /// Returns the known acts whose credential is `key`.
    pub(super) fn issuing(&self, key: &str) -> &[Arc<str>] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns the act that issued the credential of `identity`, which made a call at `time`. `own` is the act of that call,
    /// if it is one.
    pub(super) fn issuer(&self, identity: &Identity, time: Option<Instant>, own: Option<&str>) -> Issuer {
        let is_other = |id: &&Arc<str>| own != Some(&***id);
        if let Some(key) = &identity.access_key {
            let acts: Vec<Arc<str>> = self.issuing(key).iter().filter(is_other).cloned().collect();
            if !acts.is_empty() {
                return decided(acts);
            }
        }
        if let Some(created) = identity.created {
            return self.of_session(identity, created, own);
        }
        match time {
            Some(time) if identity.access_key.is_none() => self.of_caller_without_key(identity, time, own),
            _ => Issuer::Unknown,
        }
    }

    /// Returns the acts whose session is of the principal of `identity`.
    fn of_principal<'i>(&'i self, identity: &'i Identity, own: Option<&'i str>) -> impl Iterator<Item = &'i Issue> {
        let names = [&identity.arn, &identity.principal_id].map(Option::as_ref);
        let acts = names.into_iter().flatten().filter_map(|name| self.by_principal.get(name)).flatten();
        let mut acts: Vec<&Arc<str>> = acts.filter(|id| own != Some(&***id)).collect();
        acts.sort_unstable();
        acts.dedup();
        acts.into_iter().filter_map(|id| self.issues.get(id))
    }

    /// Returns the act that began the session of `identity`.
    fn of_session(&self, identity: &Identity, created: Instant, own: Option<&str>) -> Issuer {
        let is_at_its_time = |issue: &&Issue| {
            // The time of a sign-in can differ from that of the session in the console.
            let most = if identity.is_from_console && issue.kind.is_sign_in() { NEAR } else { 0 };
            issue.distance(created).is_some_and(|distance| distance <= most)
        };
        let mut acts: Vec<&Issue> =
            self.of_principal(identity, own).filter(is_at_its_time).filter(|issue| issue.fits(identity)).collect();
        if acts.is_empty() {
            return self.of_identity_center(identity.arn.as_deref(), created, own);
        }
        let is_exact = |issue: &&Issue| issue.distance(created) == Some(0);
        if acts.iter().any(is_exact) {
            acts.retain(is_exact);
        }
        if identity.is_role_session() {
            let first = acts.iter().map(|issue| issue.kind.rank()).min();
            acts.retain(|issue| Some(issue.kind.rank()) == first);
        }
        decided(acts.into_iter().map(|issue| Arc::clone(&issue.id)).collect())
    }

    /// Returns the act before one whose record names no credential: a sign-in by a role session, or a federated role.
    fn of_caller_without_key(&self, identity: &Identity, time: Instant, own: Option<&str>) -> Issuer {
        let own_issue = own.and_then(|own| self.issues.get(own));
        if let Some(Issue { kind: IssueKind::AssumeRoleWithSaml, session_arn, .. }) = own_issue {
            return self.of_identity_center(session_arn.as_deref(), time, own);
        }
        // The other account's record of a call names the session too, but not which one of that name.
        if !identity.is_session_without_time() {
            return Issuer::Unknown;
        }
        let is_before = |issue: &&Issue, within: i64| {
            issue.event.time.is_some_and(|issued| issued <= time && time - issued <= within)
        };
        let of_kind = |is_kind: fn(IssueKind) -> bool, within: i64| {
            let acts = self.of_principal(identity, own).filter(|issue| is_kind(issue.kind) && is_before(issue, within));
            acts.map(|issue| Arc::clone(&issue.id)).collect::<Vec<_>>()
        };
        let tokens = of_kind(|kind| kind == IssueKind::SignInToken, SIGN_IN_TOKEN_LIFE);
        if !tokens.is_empty() {
            return decided(tokens);
        }
        decided(of_kind(|kind| !kind.is_sign_in(), SSO_DELAY))
    }

    /// Returns the act of IAM Identity Center for a session of one of its roles.
    fn of_identity_center(&self, session_arn: Option<&str>, time: Instant, own: Option<&str>) -> Issuer {
        let Some((permission_set, session)) = session_arn.and_then(PermissionSet::of_session) else {
            return Issuer::Unknown;
        };
        let is_of_session = |issue: &&Issue| {
            let is_near = issue.distance(time).is_some_and(|distance| distance <= SSO_DELAY);
            let is_same = issue.sso.as_ref().is_some_and(|sso| {
                let is_user = sso.user.as_deref().is_none_or(|user| user.eq_ignore_ascii_case(session));
                sso.permission_set == permission_set && is_user
            });
            is_near && is_same && own != Some(&*issue.id)
        };
        decided(self.issues.values().filter(is_of_session).map(|issue| Arc::clone(&issue.id)).collect())
    }
}

fn decided(mut acts: Vec<Arc<str>>) -> Issuer {
    match (acts.len(), acts.pop()) {
        (1, Some(act)) => Issuer::Act(act),
        (_, Some(last)) => {
            acts.push(last);
            Issuer::Several(acts)
        }
        (_, None) => Issuer::Unknown,
    }
}

#[cfg(test)]
mod tests;
