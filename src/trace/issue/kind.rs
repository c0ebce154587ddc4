//! The kinds of events that issue credentials.

use serde::Serialize;

use crate::event::{EVENT_NAME, ISSUING_CALLS};
use crate::path::Path;
use crate::rule::{Field, Predicate, Test, Value};
use crate::trace::records::{TracedEvent, is_one_of};
use crate::trail::text_condition::TextCondition;

/// How a credential was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueKind {
    /// `AssumeRole` by a principal.
    AssumeRole,
    /// `AssumeRole` by an AWS service, such as for an EC2 instance or a Lambda function.
    ServiceRole,
    /// `AssumeRoleWithSAML`.
    #[serde(rename = "assume_role_with_saml")]
    AssumeRoleWithSaml,
    /// `AssumeRoleWithWebIdentity`.
    AssumeRoleWithWebIdentity,
    /// `AssumeRoot`.
    AssumeRoot,
    /// `GetSessionToken`.
    GetSessionToken,
    /// `GetFederationToken`.
    GetFederationToken,
    /// `ConsoleLogin`.
    ConsoleSignIn,
    /// `GetSigninToken`, which leads from a credential to a sign-in.
    SignInToken,
    /// `SwitchRole` in the console.
    SwitchRole,
    /// `GetRoleCredentials` of IAM Identity Center.
    SsoRoleCredentials,
    /// `CreateAccessKey`, which creates a long-lived key.
    CreateAccessKey,
}

const EVENT_SOURCES: [&str; 4] =
    ["iam.amazonaws.com", "signin.amazonaws.com", "sso.amazonaws.com", "sts.amazonaws.com"];

pub(super) const EVENT_NAMES: [(&str, IssueKind); 11] = [
    ("AssumeRole", IssueKind::AssumeRole),
    ("AssumeRoleWithSAML", IssueKind::AssumeRoleWithSaml),
    ("AssumeRoleWithWebIdentity", IssueKind::AssumeRoleWithWebIdentity),
    ("AssumeRoot", IssueKind::AssumeRoot),
    ("GetSessionToken", IssueKind::GetSessionToken),
    ("GetFederationToken", IssueKind::GetFederationToken),
    ("ConsoleLogin", IssueKind::ConsoleSignIn),
    ("GetSigninToken", IssueKind::SignInToken),
    ("SwitchRole", IssueKind::SwitchRole),
    ("GetRoleCredentials", IssueKind::SsoRoleCredentials),
    ("CreateAccessKey", IssueKind::CreateAccessKey),
];

impl IssueKind {
    /// Returns the condition for events of any kind.
    pub(in crate::trace) fn condition() -> String {
        let names = EVENT_NAMES.iter().map(|(name, _)| *name);
        format!("{} AND {}", is_one_of("event_source", EVENT_SOURCES), is_one_of("event_name", names))
    }

    /// Returns the condition on the text of records of events of any kind.
    pub(in crate::trace) fn text_condition() -> TextCondition {
        let value = |text: &str| Value { text: text.to_owned(), shortest: None };
        let name = Field::Path(Path::of_key(EVENT_NAME));
        let test = Test::In(ISSUING_CALLS.map(value).to_vec());
        Predicate::Test { field: name, test, negated: false }.text_condition()
    }

    /// Returns the kind of an event, if it may issue a credential.
    pub(in crate::trace) fn of(event: &TracedEvent) -> Option<IssueKind> {
        if !EVENT_SOURCES.contains(&&*event.source) {
            return None;
        }
        let (_, kind) = EVENT_NAMES.iter().find(|(name, _)| **name == *event.name)?;
        let is_of_service = *kind == IssueKind::AssumeRole && event.identity.is("AWSService");
        Some(if is_of_service { IssueKind::ServiceRole } else { *kind })
    }

    /// Returns the name of the event.
    pub fn event_name(self) -> &'static str {
        let kind = if self == IssueKind::ServiceRole { IssueKind::AssumeRole } else { self };
        EVENT_NAMES.iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| name)
    }

    /// Returns whether sessions begin without a key of their own, which rotates later.
    pub(super) fn is_sign_in(self) -> bool {
        matches!(self, IssueKind::ConsoleSignIn | IssueKind::SignInToken | IssueKind::SwitchRole)
    }

    /// Returns which of several events, all of one role session, comes last before its calls.
    pub(super) fn rank(self) -> u8 {
        match self {
            IssueKind::ConsoleSignIn => 0,
            IssueKind::SignInToken => 1,
            IssueKind::SwitchRole => 3,
            _ => 2,
        }
    }
}
