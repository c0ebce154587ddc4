//! The fields of Elastic's CloudTrail integration, and where a record has their values.
//!
//! Source: the integration's ingest pipeline,
//! <https://github.com/elastic/integrations/tree/main/packages/aws/data_stream/cloudtrail>.

use crate::event;
use crate::path::{Path, Step};
use crate::rule::{Field, FieldAlias, Operand, Predicate, Test, Value};

/// Where a record has the value of a field of Elastic's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum EcsField {
    /// The value is the same in every document of CloudTrail.
    Constant(&'static str),
    /// The outcome of the call, from its error or the result of a sign-in.
    Outcome,
    /// An address, if the source is one.
    Address,
    /// A boolean of a sign-in: whether the member with this key of `additionalEventData` is there and is not `No`.
    SignInFlag(&'static str),
    /// One text.
    Text(Field),
    /// Any of the values at the path, through lists. The field is the value at the path itself.
    Values(Field),
}

/// Texts: their names in Elastic and their paths in a record.
const TEXTS: &[(&str, &str)] = &[
    ("event.provider", "eventSource"),
    ("event.action", "eventName"),
    ("event.id", "eventID"),
    ("cloud.account.id", "userIdentity.accountId"),
    ("cloud.region", "awsRegion"),
    ("source.address", "sourceIPAddress"),
    ("user_agent.original", "userAgent"),
    ("user.id", "userIdentity.principalId"),
    ("user.target.name", "requestParameters.userName"),
    ("user.target.id", "responseElements.user.userId"),
    ("user.changes.name", "requestParameters.newUserName"),
    ("group.name", "requestParameters.groupName"),
    ("group.id", "responseElements.group.groupId"),
    ("tls.client.server_name", "tlsDetails.clientProvidedHostHeader"),
    ("tls.cipher", "tlsDetails.cipherSuite"),
    ("aws.cloudtrail.event_version", "eventVersion"),
    ("aws.cloudtrail.event_category", "eventCategory"),
    ("aws.cloudtrail.event_type", "eventType"),
    ("aws.cloudtrail.error_code", "errorCode"),
    ("aws.cloudtrail.error_message", "errorMessage"),
    ("aws.cloudtrail.request_id", "requestID"),
    ("aws.cloudtrail.api_version", "apiVersion"),
    ("aws.cloudtrail.management_event", "managementEvent"),
    ("aws.cloudtrail.read_only", "readOnly"),
    ("aws.cloudtrail.recipient_account_id", "recipientAccountId"),
    ("aws.cloudtrail.shared_event_id", "sharedEventID"),
    ("aws.cloudtrail.vpc_endpoint_id", "vpcEndpointId"),
    ("aws.cloudtrail.session_credential_from_console", "sessionCredentialFromConsole"),
    ("aws.cloudtrail.user_identity.type", "userIdentity.type"),
    ("aws.cloudtrail.user_identity.arn", "userIdentity.arn"),
    ("aws.cloudtrail.user_identity.access_key_id", "userIdentity.accessKeyId"),
    ("aws.cloudtrail.user_identity.invoked_by", "userIdentity.invokedBy"),
    (
        "aws.cloudtrail.user_identity.session_context.mfa_authenticated",
        "userIdentity.sessionContext.attributes.mfaAuthenticated",
    ),
    (
        "aws.cloudtrail.user_identity.session_context.session_issuer.type",
        "userIdentity.sessionContext.sessionIssuer.type",
    ),
    (
        "aws.cloudtrail.user_identity.session_context.session_issuer.principal_id",
        "userIdentity.sessionContext.sessionIssuer.principalId",
    ),
    (
        "aws.cloudtrail.user_identity.session_context.session_issuer.arn",
        "userIdentity.sessionContext.sessionIssuer.arn",
    ),
    (
        "aws.cloudtrail.user_identity.session_context.session_issuer.account_id",
        "userIdentity.sessionContext.sessionIssuer.accountId",
    ),
    ("aws.cloudtrail.console_login.additional_eventdata.login_to", "additionalEventData.LoginTo"),
];

/// The column of a record's resources, which is a list.
const RESOURCES: &str = "resources";

/// Objects: their names below `aws.cloudtrail` and `aws.cloudtrail.flattened`, and their columns.
const OBJECTS: [(&str, &str); 4] = [
    ("request_parameters", "requestParameters"),
    ("response_elements", "responseElements"),
    ("additional_eventdata", "additionalEventData"),
    ("service_event_details", "serviceEventDetails"),
];

/// Fields that every document of CloudTrail has with the same value.
const CONSTANTS: &[(&str, &str)] = &[
    ("data_stream.dataset", "aws.cloudtrail"),
    ("event.dataset", "aws.cloudtrail"),
    ("data_stream.type", "logs"),
    ("event.module", "aws"),
    ("event.kind", "event"),
];

/// Fields that records do not have, by the start of their names, and why.
const REFUSED: &[(&str, &str)] = &[
    ("source.as.", "it comes from a database of networks, which records lack"),
    ("source.geo.", "it comes from a database of locations, which records lack"),
    ("user_agent.", "Elastic derives it from the user agent; `user_agent.original` is the record's own"),
    ("related.", "Elastic collects it from many fields"),
    ("entity.", "Elastic collects it from many fields"),
    ("@timestamp", "choose the time with `--from` and `--to`"),
];

/// Returns the field with this name.
///
/// # Errors
/// The reason why a record does not have it.
pub(super) fn field(name: &str) -> Result<EcsField, String> {
    if let Some((_, value)) = CONSTANTS.iter().find(|(known, _)| *known == name) {
        return Ok(EcsField::Constant(value));
    }
    if let Some((_, path)) = TEXTS.iter().find(|(known, _)| *known == name) {
        return Ok(EcsField::Text(at(path)));
    }
    if let Some(rest) = name.strip_prefix("aws.cloudtrail.") {
        if let Some((_, column)) = OBJECTS.iter().find(|(known, _)| *known == rest) {
            return Ok(EcsField::Text(Field::MapText(column)));
        }
        if let Some((object, keys)) = rest.strip_prefix("flattened.").and_then(|rest| rest.split_once('.'))
            && let Some((_, column)) = OBJECTS.iter().find(|(known, _)| *known == object)
        {
            return Ok(EcsField::Values(keys_below(column, keys)));
        }
    }
    Ok(match name {
        "event.outcome" => EcsField::Outcome,
        "source.ip" => EcsField::Address,
        "user.name" => EcsField::Text(user_name()),
        "aws.cloudtrail.console_login.additional_eventdata.mfa_used" => EcsField::SignInFlag("MFAUsed"),
        "aws.cloudtrail.console_login.additional_eventdata.mobile_version" => EcsField::SignInFlag("MobileVersion"),
        "aws.cloudtrail.resources.arn" => EcsField::Values(keys_below(RESOURCES, "ARN")),
        "aws.cloudtrail.resources.account_id" => EcsField::Values(keys_below(RESOURCES, "accountId")),
        "aws.cloudtrail.resources.type" => EcsField::Values(keys_below(RESOURCES, "type")),
        _ => {
            let reason = REFUSED.iter().find(|(start, _)| name.starts_with(start));
            let reason = reason.map_or("it is not a field of Elastic's CloudTrail integration", |(_, reason)| reason);
            return Err(format!("`{name}` is not supported: {reason}"));
        }
    })
}

impl EcsField {
    /// Returns the field by which matches are grouped or counted. `None` if it cannot be.
    pub(super) fn grouped(&self) -> Option<Field> {
        match self {
            EcsField::Text(field) => Some(field.clone()),
            EcsField::Values(Field::Path(path)) if path.0.first() == Some(&Step::Key(RESOURCES.to_owned())) => {
                let mut steps = path.0.clone();
                // The list of the resources' values.
                steps.insert(1, Step::Every);
                Some(Field::Path(Path(steps)))
            }
            EcsField::Values(field) => Some(field.clone()),
            EcsField::Address => Some(source()),
            EcsField::Constant(_) | EcsField::Outcome | EcsField::SignInFlag(_) => None,
        }
    }
}

/// Returns the source of a call: an address, or the name of a service.
pub(super) fn source() -> Field {
    at("sourceIPAddress")
}

/// Returns the field at a path with dots between its keys.
pub(super) fn at(path: &str) -> Field {
    Field::new(Path(path.split('.').map(|key| Step::Key(key.to_owned())).collect()))
}

/// Returns the field below a column, at keys with dots between them.
fn keys_below(column: &str, keys: &str) -> Field {
    let keys = std::iter::once(column).chain(keys.split('.'));
    Field::Path(Path(keys.map(|key| Step::Key(key.to_owned())).collect()))
}

/// Returns the name of the user, or that of the role of a session.
fn user_name() -> Field {
    let names = ["userIdentity.userName", "userIdentity.sessionContext.sessionIssuer.userName"].map(at);
    let filled = |field: Field| (is_filled(&field), field);
    Field::Alias(FieldAlias { name: "user.name".to_owned(), fields: names.map(filled).into() })
}

/// Returns a predicate: the field has a value. Elastic's pipeline drops empty texts.
pub(super) fn is_filled(field: &Field) -> Predicate {
    Predicate::Test { field: field.clone(), test: Test::Filled, negated: false }
}

/// Returns a predicate: the field is this text.
pub(super) fn is_text(field: Field, text: &str) -> Predicate {
    let value = Value { text: text.to_owned(), shortest: None };
    Predicate::Test { field, test: Test::Equals(Operand::Value(value)), negated: false }
}

/// Returns a predicate: the call is a sign-in to the console.
pub(super) fn is_sign_in() -> Predicate {
    is_text(at(event::EVENT_NAME), "ConsoleLogin")
}
