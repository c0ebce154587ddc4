//! Who acted: one name for one principal, whichever fields of `userIdentity` AWS filled in.
//!
//! Rules group by this name, so a change here changes every rule that groups by `actor`. The cases of the tests below
//! freeze it.
//!
//! Fields: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html>

use std::borrow::Cow;

use crate::raw::json::{self, Member};

/// The members of `userIdentity` that [`actor`] needs to tell principals apart. If they name no one, it reads
/// `sessionContext` and `accessKeyId`.
pub const DECIDING: [&str; 7] = ["type", "principalId", "arn", "accountId", "userName", "invokedBy", "onBehalfOf"];

/// The start of an assumed role's resource in an ARN. Role and session follow.
pub(crate) const ROLE_SESSION: &str = ":assumed-role/";
/// The start of an IAM user's resource in an ARN. Path and name follow.
pub(crate) const USER: &str = ":user/";
/// The prefix of roles that IAM Identity Center creates. Their session name is the name of the person.
pub(crate) const IDENTITY_CENTER_ROLE: &str = "AWSReservedSSO_";
/// The prefix of a role's unique id.
pub(crate) const ROLE_ID: &str = "AROA";
/// The account or principal of a caller without credentials, in lower case.
pub(crate) const ANONYMOUS: [&str; 2] = ["anonymous", "anonymous_principal"];
/// The prefix before the address of such a caller.
pub(crate) const ANONYMOUS_AT: &str = "anonymous@";

/// Returns the actor of a record, given its `userIdentity` as JSON text and its `sourceIPAddress`.
/// `None` if `userIdentity` is not a JSON object or names no one. Keys match in any case. A member that is empty or
/// not a string counts as missing.
pub fn actor(user_identity: &str, source_ip_address: Option<&str>) -> Option<String> {
    let identity = Identity(json::members(user_identity.trim_ascii())?);
    let text = |key| identity.text(&[key]);
    let kind = text("type").unwrap_or_default();
    let user_name = || text("userName").map(|name| name.to_lowercase());
    let principal = text("principalId");
    match kind.as_ref() {
        "Root" => return Some("root".to_owned()),
        "IdentityCenterUser" => {
            let user_id = identity.text(&["onBehalfOf", "userId"]).map(Cow::into_owned);
            return user_id.or_else(user_name).or_else(|| principal.map(Cow::into_owned));
        }
        _ => {}
    }

    let arn = text("arn");
    let role_and_session = arn.as_deref().and_then(|arn| arn.split_once(ROLE_SESSION)).map(|(_, rest)| rest);
    let mut role_and_session = role_and_session.unwrap_or_default().split('/');
    let role_in_arn = role_and_session.next().unwrap_or_default();
    let session = role_and_session.next().unwrap_or_default();
    if kind == "AssumedRole" || !role_in_arn.is_empty() {
        let issuer = identity.text(&["sessionContext", "sessionIssuer", "userName"]);
        let role = issuer.unwrap_or(Cow::Borrowed(role_in_arn));
        if role.starts_with(IDENTITY_CENTER_ROLE) {
            let in_principal = || principal.as_deref()?.split(':').nth(1);
            let person = filled(session).or_else(in_principal).and_then(filled);
            return Some(person.map_or_else(|| role.into_owned(), str::to_lowercase));
        }
        if !role.is_empty() {
            return Some(role.into_owned());
        }
    }
    if let Some((role_id, _)) = principal.as_deref().and_then(|id| id.split_once(':'))
        && role_id.starts_with(ROLE_ID)
    {
        return Some(role_id.to_owned());
    }

    let account = text("accountId");
    let is_anonymous = |text: &Cow<'_, str>| ANONYMOUS.iter().any(|name| name.eq_ignore_ascii_case(text));
    if account.iter().chain(&principal).any(is_anonymous)
        || (kind == "AWSAccount" && account.is_none() && principal.is_none())
    {
        return Some(format!("{ANONYMOUS_AT}{}", source_ip_address.unwrap_or_default()));
    }

    let user_arn = || arn.as_deref().filter(|arn| arn.contains(USER));
    let name_in_arn = || filled(user_arn()?.rsplit('/').next()?).map(str::to_lowercase);
    let others = || arn.clone().or(principal).or_else(|| text("invokedBy")).or_else(|| text("accessKeyId"));
    user_name().or_else(name_in_arn).or_else(|| others().map(Cow::into_owned))
}

/// The members of a `userIdentity`.
struct Identity<'a>(Vec<Member<'a>>);

impl<'a> Identity<'a> {
    /// Returns the string at the path `keys`, unless it is empty.
    fn text(&self, keys: &[&str]) -> Option<Cow<'a, str>> {
        let (last, objects) = keys.split_last()?;
        let mut members = Cow::Borrowed(self.0.as_slice());
        for key in objects {
            members = Cow::Owned(json::members(json::find(&members, key)?.get())?);
        }
        json::string(json::find(&members, last)?).filter(|text| !text.is_empty())
    }
}

fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
