//! The columns of a record that tell which credential made the call.
//!
//! A hunt with the derived field `origin` carries them with each match as one text: a JSON array of texts and nulls, in the
//! order of [`names`]. Matches of one session have the same text.

use super::expression::{Expression, State};
use super::fields::filled;
use crate::event::{CONTENT_ID, EVENT_ID, EVENT_NAME, EVENT_TIME, ISSUING_CALLS};
use crate::rule::Field;

/// The name of the function that makes one text of the columns.
pub const FUNCTION: &str = "credential";

/// The column of the actor.
pub const ACTOR: &str = "actor";
/// The column of the time of a call, if nothing else identifies the session that made it.
pub const CALL_TIME: &str = "call_time";
/// The column of the ID of a call that may itself issue a credential.
pub const CALL_ID: &str = "call_id";

/// Returns the columns that tell who made a call and with which credential, by name.
pub fn identity_columns() -> [(&'static str, Expression); 13] {
    let within = |path: &str| {
        Expression::call("text_at", [Expression::column("userIdentity"), Expression::text(path.to_owned())])
    };
    [
        ("recipient", Expression::column("recipientAccountId")),
        ("identity_type", Expression::column("userIdentity.type")),
        ("identity_account", Expression::column("userIdentity.accountId")),
        ("arn", within("arn")),
        ("principal_id", within("principalId")),
        ("access_key", within("accessKeyId")),
        ("created", within("sessionContext.attributes.creationDate")),
        ("source_identity", within("sessionContext.sourceIdentity")),
        ("invoked_by", Expression::column("userIdentity.invokedBy")),
        ("issued_to", within("inScopeOf.credentialsIssuedTo")),
        ("scope_arn", within("inScopeOf.sourceArn")),
        ("ec2_delivery", within("sessionContext.ec2RoleDelivery")),
        ("from_console", Expression::column("sessionCredentialFromConsole")),
    ]
}

/// Returns the names of the texts of a credential, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    identity_columns().map(|(name, _)| name).into_iter().chain([ACTOR, CALL_TIME, CALL_ID])
}

/// The credential of a record, as one text.
pub(super) fn of_record() -> Expression {
    let columns = identity_columns();
    let missing = |wanted: &str| {
        let value = columns.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone());
        filled(value.unwrap_or(Expression::NullText)).is(State::Null)
    };
    let issues = || Expression::column(EVENT_NAME).is_in(ISSUING_CALLS);
    let is_session = Expression::column("userIdentity.type").is_in(["AssumedRole", "FederatedUser"]);
    let has_no_session_time = Expression::all(vec![is_session, missing("access_key"), missing("created")]);
    let needs_time = Expression::any(vec![issues(), has_no_session_time]);
    let time = Expression::CastToText(Box::new(Expression::column(EVENT_TIME)));
    let id = Expression::call("coalesce", [EVENT_ID, CONTENT_ID].map(Expression::column));
    let own = [
        super::fields::value(&Field::Actor),
        Expression::Case { branches: vec![(needs_time, time)] },
        Expression::Case { branches: vec![(issues(), id)] },
    ];
    Expression::call(FUNCTION, columns.into_iter().map(|(_, value)| value).chain(own))
}
