//! What a store says when it refuses, in words that say what to do, and never a secret.

use object_store::Error as StoreError;

use crate::error::Error;

/// That `action` failed on `key` of `bucket`.
pub(super) fn store(action: &'static str, bucket: &str, key: &str, error: &StoreError) -> Error {
    let hint = hint(error);
    Error::Store { action, url: format!("s3://{bucket}/{key}"), reason: reason(error), hint }
}

/// Why a store refused. Its answer may repeat what was sent to it, so of an answer in XML only the code
/// and the message are told.
pub(super) fn reason(error: &StoreError) -> String {
    let innermost = innermost(error);
    match (element(&innermost, "Code"), element(&innermost, "Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code.to_owned(),
        (None, _) if matches!(error, StoreError::NotFound { .. }) && innermost.contains("404") => {
            "there is no such object".to_owned()
        }
        (None, _) if innermost.contains("403") => "access is denied (403)".to_owned(),
        (None, _) => innermost,
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

fn hint(error: &StoreError) -> Option<String> {
    let text = innermost(error);
    let code = element(&text, "Code").unwrap_or(&text);
    let hint = if code.contains("NoSuchBucket") {
        "check the bucket's name, and that `--s3-endpoint` is its store"
    } else if code.contains("incorrectly configured region")
        || code.contains("PermanentRedirect")
        || code.contains("AuthorizationHeaderMalformed")
        || code.contains("IllegalLocationConstraint")
    {
        "the bucket lies in another region: name it with `--s3-region`"
    } else if code.contains("ExpiredToken") || code.contains("InvalidAccessKeyId") || code.contains("InvalidToken") {
        "the credentials are no longer valid, or not of this store: renew them, for example with `aws sso login`"
    } else if code.contains("SignatureDoesNotMatch") || code.contains("RequestTimeTooSkewed") {
        "check the secret key, and this machine's clock"
    } else if matches!(error, StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. })
        || code.contains("AccessDenied")
        || code.contains("403")
    {
        "these credentials may not do that: grant s3:ListBucket on the bucket and s3:GetObject (for a lake that is \
         written also s3:PutObject) on its objects; for a public bucket give `--s3-anonymous`, for one whose reader pays \
         `--s3-requester-pays`"
    } else if code.contains("SlowDown") || code.contains("503") {
        "the store asked for fewer requests at a time: lower `--in-flight`"
    } else {
        return None;
    };
    Some(hint.to_owned())
}
