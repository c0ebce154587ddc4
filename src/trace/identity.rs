//! Who made a call, and with which credential.

use std::sync::Arc;

use crate::event::identity::ROLE_ID;
use crate::sql::credential;
use crate::time::{Instant, parse_event_time};

/// The parts of a record's `userIdentity` that tell which credential made the call.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// `type`.
    pub kind: Option<Arc<str>>,
    /// The account of the principal: `accountId`, else the account of the record.
    pub account: Option<Arc<str>>,
    /// The actor, as rules group by it.
    pub actor: Option<Arc<str>>,
    /// `arn`.
    pub arn: Option<Arc<str>>,
    /// `principalId`.
    pub principal_id: Option<Arc<str>>,
    /// `accessKeyId`.
    pub access_key: Option<Arc<str>>,
    /// `sessionContext.attributes.creationDate`: when the session was issued.
    pub created: Option<Instant>,
    /// `sessionContext.sourceIdentity`: a name that the first session of a chain can set for all after it.
    pub source_identity: Option<Arc<str>>,
    /// `invokedBy`: the service that made the call for the principal.
    pub invoked_by: Option<Arc<str>>,
    /// `inScopeOf.credentialsIssuedTo`, else `inScopeOf.sourceArn`: the resource, such as a Lambda function, that the credential
    /// was issued to.
    pub issued_to: Option<Arc<str>>,
    /// Whether the call was made in the console.
    pub is_from_console: bool,
    /// Whether the credential is that of an EC2 instance.
    pub is_ec2_role: bool,
}

/// The start of a long-lived access key's ID.
const LONG_LIVED: &str = "AKIA";

impl Identity {
    /// Returns the identity in a record with these texts, by the names of [`credential::names`](crate::sql::credential::names).
    ///
    /// # Errors
    /// That of `text`.
    pub(super) fn of<E>(mut text: impl FnMut(&str) -> Result<Option<Arc<str>>, E>) -> Result<Identity, E> {
        let account = match text("identity_account")? {
            Some(account) => Some(account),
            None => text("recipient")?,
        };
        let issued_to = match text("issued_to")? {
            Some(resource) => Some(resource),
            None => text("scope_arn")?,
        };
        Ok(Identity {
            kind: text("identity_type")?,
            account,
            actor: text(credential::ACTOR)?,
            arn: text("arn")?,
            principal_id: text("principal_id")?,
            access_key: text("access_key")?,
            created: text("created")?.as_deref().and_then(session_time),
            source_identity: text("source_identity")?,
            invoked_by: text("invoked_by")?,
            issued_to,
            is_from_console: text("from_console")?.is_some_and(|value| value.eq_ignore_ascii_case("true")),
            is_ec2_role: text("ec2_delivery")?.is_some(),
        })
    }

    /// Returns the principal as its record names it.
    pub fn principal(&self) -> Option<Arc<str>> {
        let names = [&self.arn, &self.invoked_by, &self.principal_id, &self.actor];
        names.into_iter().flatten().next().cloned()
    }

    /// Returns the name of the IAM user.
    pub(super) fn user_name(&self) -> Option<Arc<str>> {
        self.actor.clone().filter(|_| self.is("IAMUser"))
    }

    /// Returns whether the access key is a long-lived one.
    pub fn has_long_lived_key(&self) -> bool {
        self.created.is_none() && self.access_key.as_deref().is_some_and(|key| key.starts_with(LONG_LIVED))
    }

    /// Returns whether the identity is a session whose key and time its record does not name. Only the time of a call tells
    /// which of the sessions with its name it is.
    pub(super) fn is_session_without_time(&self) -> bool {
        self.access_key.is_none() && self.created.is_none() && (self.is("AssumedRole") || self.is("FederatedUser"))
    }

    /// Returns whether the caller exchanges a sign-in for a role session, and has no key.
    pub(super) fn is_exchange(&self) -> bool {
        self.access_key.is_none() && self.is("SAMLUser")
    }

    /// Returns whether `kind` is the type of the identity.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Returns whether the principal is a role session.
    pub fn is_role_session(&self) -> bool {
        self.is("AssumedRole")
            || self.principal_id.as_deref().is_some_and(|id| id.starts_with(ROLE_ID) && id.contains(':'))
    }
}

/// Reads the time at which a session was issued: RFC 3339, or `20131102T010628Z` as older records have it.
pub(super) fn session_time(text: &str) -> Option<Instant> {
    let compact = || {
        let is_compact = text.len() == 16 && text.is_ascii() && text.as_bytes()[8] == b'T';
        is_compact.then(|| {
            let [year, month, day] = [&text[..4], &text[4..6], &text[6..8]];
            let [hour, minute, second] = [&text[9..11], &text[11..13], &text[13..15]];
            format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
        })
    };
    parse_event_time(text).or_else(|| parse_event_time(&compact()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_session_time_are_read() {
        let time = session_time("2013-11-02T01:06:28Z");
        assert!(time.is_some());
        assert_eq!(session_time("20131102T010628Z"), time);
        for other in ["", "20131102X010628Z", "2013110éT10628Z", "soon"] {
            assert_eq!(session_time(other), None, "{other}");
        }
    }
}
