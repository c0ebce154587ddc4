//! Selects the issuing events that a trace looks for, among all that were issued at the same time.

use std::collections::HashSet;
use std::sync::Arc;

use super::identity::Identity;
use super::issue::{IssuingRecord, PermissionSet};

/// The subject of a search among issuing events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Sought {
    /// The acts that may have issued a credential.
    IssuerOf(CredentialNames),
    /// The act of the event with this ID.
    Event(Arc<str>),
    /// The act with this ID.
    Act(Arc<str>),
}

impl Sought {
    /// Looks for the acts that may have issued the credential of `identity`.
    pub(super) fn issuer_of(identity: &Identity) -> Sought {
        let Identity { access_key, arn, principal_id, .. } = identity;
        let [access_key, arn, principal_id] = [access_key, arn, principal_id].map(Clone::clone);
        Sought::IssuerOf(CredentialNames { access_key, arn, principal_id, is_exchange: identity.is_exchange() })
    }
}

/// What issuing events name of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CredentialNames {
    access_key: Option<Arc<str>>,
    arn: Option<Arc<str>>,
    principal_id: Option<Arc<str>>,
    /// Whether it may be exchanged for a role session, which then is of IAM Identity Center.
    is_exchange: bool,
}

/// Selects the records that are sought, and the other records of their acts.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// The access keys and principals whose issuing events are sought.
    names: HashSet<Arc<str>>,
    permission_sets: HashSet<PermissionSet>,
    /// Whether all events of IAM Identity Center are sought.
    has_exchange: bool,
    event_ids: HashSet<Arc<str>>,
    act_ids: HashSet<Arc<str>>,
    /// The event IDs and acts of the records that were noted.
    found_events: HashSet<Arc<str>>,
    found_acts: HashSet<Arc<str>>,
}

impl Selection {
    pub(super) fn of<'s>(all: impl IntoIterator<Item = &'s Sought>) -> Selection {
        let mut selection = Selection::default();
        for sought in all {
            match sought {
                Sought::IssuerOf(CredentialNames { access_key, arn, principal_id, is_exchange }) => {
                    selection.names.extend([access_key, arn, principal_id].into_iter().flatten().cloned());
                    let session = arn.as_deref().and_then(PermissionSet::of_session);
                    selection.permission_sets.extend(session.map(|(permission_set, _)| permission_set));
                    selection.has_exchange |= is_exchange;
                }
                Sought::Event(id) => _ = selection.event_ids.insert(Arc::clone(id)),
                Sought::Act(id) => _ = selection.act_ids.insert(Arc::clone(id)),
            }
        }
        selection
    }

    /// Notes a record if it is sought. Another record of its act may be what tells, so all have to be noted before one is selected.
    pub(super) fn note(&mut self, record: &IssuingRecord) {
        let is_sought = self.event_ids.contains(&record.event.id)
            || self.act_ids.contains(record.act_id())
            || record.key_and_principals().any(|name| self.names.contains(name))
            || record.permission_set().is_some_and(|set| self.has_exchange || self.permission_sets.contains(set));
        if is_sought {
            self.found_events.insert(Arc::clone(&record.event.id));
            self.found_acts.insert(Arc::clone(record.act_id()));
        }
    }

    /// Returns whether a record was noted, or is another of an event or act that was.
    pub(super) fn selects(&self, record: &IssuingRecord) -> bool {
        self.found_events.contains(&record.event.id) || self.found_acts.contains(record.act_id())
    }
}
