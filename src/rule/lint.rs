//! Warnings about rules that are valid but probably wrong.

use std::fmt;

use serde::Serialize;

use super::yaml::{self, YamlContent, YamlNode};
use super::{Field, Operand, Predicate, Test, Value};
use crate::event::{ColumnKind, FieldLocation, TOP_LEVEL};
use crate::path::Step;
use crate::text::printable;

/// A warning about a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The kind of warning.
    pub code: Code,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The problem and how to solve it.
    pub message: String,
}

impl Warning {
    /// Returns the warning on one line, as one about `file`.
    pub fn in_file(&self, file: &str) -> String {
        let Warning { code, line, column, message } = self;
        printable(&format!("{file}:{line}:{column}: {message} [{code}]"))
    }
}

/// The kinds of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A value that YAML 1.1 readers read as another type.
    AmbiguousValue,
    /// A negative test of a field that a record may lack, without a test that the field exists.
    LoneNegation,
    /// A field that CloudTrail records do not have.
    UnknownField,
    /// Threshold 1 with a period.
    ThresholdOne,
    /// A threshold without a group key.
    NoGroup,
    /// A group key that a record may lack.
    NullableGroup,
    /// A test that no record passes.
    NeverTrue,
    /// A setting without an effect.
    NoEffect,
    /// A test that cannot be run.
    UnrunTest,
    /// No tests.
    NoTests,
    /// Another rule with the same id.
    SharedId,
}

impl Code {
    /// Returns whether the warning is about the rule's tests, and so not about its findings.
    pub fn is_about_tests(self) -> bool {
        matches!(self, Code::UnrunTest | Code::NoTests)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::AmbiguousValue => "ambiguous-value",
            Code::LoneNegation => "lone-negation",
            Code::UnknownField => "unknown-field",
            Code::ThresholdOne => "threshold-one",
            Code::NoGroup => "no-group",
            Code::NullableGroup => "nullable-group",
            Code::NeverTrue => "never-true",
            Code::NoEffect => "no-effect",
            Code::UnrunTest => "unrun-test",
            Code::NoTests => "no-tests",
            Code::SharedId => "shared-id",
        })
    }
}

/// Fields that every record has.
///
/// Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>
const ALWAYS: &[&str] = &[
    "awsRegion",
    "eventID",
    "eventName",
    "eventSource",
    "eventTime",
    "eventType",
    "eventVersion",
    "recipientAccountId",
    "sourceIPAddress",
    "userIdentity",
];

/// The members of `userIdentity` and of objects in it, by their full path.
///
/// Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html>
const BELOW: &[&str] = &[
    "userIdentity.type",
    "userIdentity.userName",
    "userIdentity.principalId",
    "userIdentity.arn",
    "userIdentity.accountId",
    "userIdentity.accessKeyId",
    "userIdentity.invokedBy",
    "userIdentity.identityProvider",
    "userIdentity.credentialId",
    "userIdentity.identityStoreArn",
    "userIdentity.inScopeOf",
    "userIdentity.onBehalfOf",
    "userIdentity.onBehalfOf.userId",
    "userIdentity.onBehalfOf.identityStoreArn",
    "userIdentity.sessionContext",
    "userIdentity.sessionContext.attributes",
    "userIdentity.sessionContext.attributes.creationDate",
    "userIdentity.sessionContext.attributes.mfaAuthenticated",
    "userIdentity.sessionContext.assumedRoot",
    "userIdentity.sessionContext.ec2RoleDelivery",
    "userIdentity.sessionContext.sessionIssuer",
    "userIdentity.sessionContext.sessionIssuer.type",
    "userIdentity.sessionContext.sessionIssuer.userName",
    "userIdentity.sessionContext.sessionIssuer.principalId",
    "userIdentity.sessionContext.sessionIssuer.arn",
    "userIdentity.sessionContext.sessionIssuer.accountId",
    "userIdentity.sessionContext.sourceIdentity",
    "userIdentity.sessionContext.webIdFederationData",
    "userIdentity.sessionContext.webIdFederationData.federatedProvider",
    "userIdentity.sessionContext.webIdFederationData.attributes",
    "tlsDetails.tlsVersion",
    "tlsDetails.cipherSuite",
    "tlsDetails.clientProvidedHostHeader",
    "tlsDetails.keyExchange",
    "resources.ARN",
    "resources.accountId",
    "resources.type",
    "resources.ARNPrefix",
];

/// Objects with all their members in [`BELOW`].
const CLOSED: &[&str] = &["userIdentity", "tlsDetails", "resources"];

/// Returns whether a record may lack the field.
pub(super) fn is_optional(field: &Field) -> bool {
    match field {
        Field::Account
        | Field::Actor
        | Field::Network
        | Field::Act
        | Field::Origin
        | Field::TimePart(..)
        | Field::Python(_) => false,
        Field::Path(path) => !path.as_key().is_some_and(|key| ALWAYS.iter().any(|name| name.eq_ignore_ascii_case(key))),
        Field::Element(_) | Field::MapText(_) | Field::Alias(_) => true,
    }
}

/// Returns the places and fields of negative tests in a list of expressions that records without the field would
/// pass. A test in the same list that the field exists prevents that.
pub(super) fn lone_negations(predicates: &[Predicate]) -> Vec<(usize, &Field)> {
    let mut lone = Vec::new();
    for (index, predicate) in predicates.iter().enumerate() {
        let Predicate::Test { field, test, negated: true } = predicate else {
            continue;
        };
        let asks = |(at, other): (usize, &Predicate)| {
            let mut names = false;
            other.fields(&mut |other| names |= other == field);
            at != index && names
        };
        let of_presence = matches!(test, Test::Present | Test::Filled) || test.is_network_activity(field);
        if !of_presence && is_optional(field) && !predicates.iter().enumerate().any(asks) {
            lone.push((index, field));
        }
    }
    lone
}

/// Returns whether no record can pass the test. Booleans are neither texts nor numbers nor addresses.
pub(super) fn never_true(field: &Field, test: &Test) -> bool {
    if !matches!(field.location(), Some(FieldLocation::Column(_, ColumnKind::Flag))) {
        return false;
    }
    let flag =
        |value: &Value| value.texts().any(|text| ["true", "false"].iter().any(|flag| text.eq_ignore_ascii_case(flag)));
    match test {
        Test::Present
        | Test::Filled
        | Test::Equals(Operand::Field(_) | Operand::FoldedField(_) | Operand::AnyText { .. }) => false,
        Test::Equals(Operand::Value(value) | Operand::Folded(value)) => !flag(value),
        Test::In(values) => !values.iter().any(flag),
        _ => true,
    }
}

/// Returns the warning about a field that no record has. `None` if records may have it. Parameters and responses
/// differ from call to call and may hold anything.
pub(super) fn unknown_field(field: &Field) -> Option<String> {
    let Field::Path(path) = field else {
        return None;
    };
    let keys: Vec<&str> = path
        .0
        .iter()
        .filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) | Step::Every | Step::Through | Step::Leaves => None,
        })
        .collect();
    let (top, name) = (keys.first()?, keys.join("."));
    let is_a = |known: &str, given: &str| known.eq_ignore_ascii_case(given);
    let Some((known, kind)) = TOP_LEVEL.iter().find(|(known, _)| is_a(known, top)) else {
        if is_a("eventTime", top) {
            return None;
        }
        if keys.len() == 1 && top.contains('.') {
            return Some(format!("records have no `{name}`; for a path use `KeyPath` in place of `Key`"));
        }
        let derived = ["account", "actor", "eventTime"].into_iter();
        let guess = yaml::nearest(top, TOP_LEVEL.iter().map(|(name, _)| *name).chain(derived));
        let better = yaml::nearest(&name, BELOW.iter().copied()).or(guess);
        return Some(not_a_field(&name, better));
    };
    if *kind != ColumnKind::Json && keys.len() > 1 {
        return Some(format!("`{known}` holds no object, so there is no `{name}`"));
    }
    let below = |known: &str, name: &str| name.to_lowercase().starts_with(&format!("{}.", known.to_lowercase()));
    let is_leaf = |known: &str| !BELOW.iter().any(|other| below(known, other));
    let holds = |known: &&str| is_a(known, &name) || (is_leaf(known) && below(known, &name));
    if !CLOSED.contains(known) || keys.len() == 1 || BELOW.iter().any(holds) {
        return None;
    }
    Some(not_a_field(&name, yaml::nearest(&name, BELOW.iter().copied())))
}

fn not_a_field(name: &str, guess: Option<&str>) -> String {
    match guess {
        Some(guess) => format!("records have no `{name}`; did you mean `{guess}`?"),
        None => format!("records have no `{name}`"),
    }
}

/// Returns the type that a YAML 1.1 reader gives an unquoted value, if it differs from the type here.
pub(super) fn read_by_others(node: &YamlNode) -> Option<&'static str> {
    let YamlContent::Scalar { text, plain: true } = &node.content else {
        return None;
    };
    let lower = text.to_ascii_lowercase();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if matches!(lower.as_str(), "yes" | "no" | "on" | "off" | "y" | "n") {
        return Some("a boolean");
    }
    let is_date = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        matches!(parts.as_slice(), [year, month, day] if year.len() == 4 && [year, month, day].into_iter().all(|part| digits(part)))
    };
    if is_date(&lower) {
        return Some("a date");
    }
    let sexagesimal = lower.contains(':') && lower.split(':').all(digits);
    let other_base = ["0x", "0o", "0b"].iter().any(|base| lower.starts_with(base));
    let octal = lower.len() > 1 && lower.starts_with('0') && digits(&lower);
    let grouped = lower.contains('_') && digits(&lower);
    (sexagesimal || other_base || octal || grouped).then_some("another number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str) -> Option<String> {
        unknown_field(&Field::new(path.parse().unwrap()))
    }

    #[test]
    fn a_misspelt_field_is_told_with_what_was_meant() {
        for known in [
            "eventName",
            "eventname",
            "eventTime",
            "account",
            "actor",
            "userIdentity.sessionContext.sessionIssuer.userName",
            "useridentity.username",
            "userIdentity.sessionContext.webIdFederationData.attributes.sub",
            "requestParameters.anything[0].goes",
            "resources[*].ARN",
        ] {
            assert_eq!(said(known), None, "{known}");
        }
        for (wrong, meant) in [
            ("eventNames", "eventName"),
            ("acount", "account"),
            ("userIdenity.arn", "userIdentity.arn"),
            ("userIdentity.usrName", "userIdentity.userName"),
            ("userIdentity.sessionContext.sessionIssuer.usrName", "userIdentity.sessionContext.sessionIssuer.userName"),
        ] {
            let said = said(wrong).unwrap_or_default();
            assert!(said.contains(&format!("did you mean `{meant}`?")), "{wrong}: {said}");
        }
        assert_eq!(
            said("eventName.inner").as_deref(),
            Some("`eventName` holds no object, so there is no `eventName.inner`")
        );
    }
}
