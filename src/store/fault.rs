//! A store's refusals as errors with hints, without secrets.

use std::error::Error as _;
use std::fmt;

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};

use crate::error::{Error, root_cause};

/// An error response of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreRefusal {
    /// The HTTP status.
    status: u16,
    /// S3's error code, if the response has one:
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
    code: Option<String>,
    message: Option<String>,
}

impl StoreRefusal {
    /// Returns the refusal with this status and body. The body may repeat the request, so only its code and message
    /// are kept.
    pub(super) fn of(status: u16, body: &str) -> StoreRefusal {
        let text = |name| element(body, name).filter(|text| !text.is_empty()).map(str::to_owned);
        StoreRefusal { status, code: text("Code"), message: text("Message") }
    }

    /// Returns the refusal that made a request fail. `None` if there was no response.
    fn behind(error: &StoreError) -> Option<StoreRefusal> {
        if let Some(refusal) = cause::<StoreRefusal>(error) {
            return Some(refusal.clone());
        }
        let status = match error {
            StoreError::Unauthenticated { .. } => 401,
            StoreError::PermissionDenied { .. } => 403,
            StoreError::NotFound { .. } => 404,
            StoreError::AlreadyExists { .. } => 409,
            StoreError::Precondition { .. } => 412,
            _ => return None,
        };
        // The status, a colon, and the body.
        let cause = root_cause(error);
        Some(StoreRefusal::of(status, cause.find('<').map_or("", |place| &cause[place..])))
    }
}

impl fmt::Display for StoreRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.code, &self.message, self.status) {
            (Some(code), Some(message), _) => write!(f, "{code}: {message}"),
            (Some(code), None, _) => f.write_str(code),
            (None, _, 404) => f.write_str("there is no such object"),
            (None, _, 401 | 403) => write!(f, "access is denied ({})", self.status),
            (None, _, status) => write!(f, "the store answered with the status {status}"),
        }
    }
}

impl std::error::Error for StoreRefusal {}

/// Returns the error that `action` failed on `key` of `bucket`.
pub(super) fn store(action: &'static str, bucket: &str, key: &str, error: &StoreError) -> Error {
    let hint = match StoreRefusal::behind(error) {
        Some(refusal) => hint(&refusal),
        None => is_unreachable(error).then_some(ENDPOINT),
    };
    let hint = hint.map(str::to_owned);
    Error::Store { action, url: format!("s3://{bucket}/{key}"), reason: reason(error), hint }
}

/// Returns whether there was no connection to the store.
fn is_unreachable(error: &StoreError) -> bool {
    cause::<HttpError>(error).is_some_and(|error| error.kind() == HttpErrorKind::Connect)
}

/// Returns the first cause of an error that is a `C`.
fn cause<C: std::error::Error + 'static>(error: &StoreError) -> Option<&C> {
    let mut cause = error.source();
    while let Some(one) = cause {
        if let Some(found) = one.downcast_ref() {
            return Some(found);
        }
        cause = one.source();
    }
    None
}

/// Returns the reason why a request failed.
pub(super) fn reason(error: &StoreError) -> String {
    StoreRefusal::behind(error).map_or_else(|| root_cause(error), |refusal| refusal.to_string())
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// Returns the hint for a refusal.
fn hint(refusal: &StoreRefusal) -> Option<&'static str> {
    let by_code = match refusal.code.as_deref() {
        Some("NoSuchBucket") => Some(BUCKET),
        Some(
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
        ) => Some(REGION),
        Some("ExpiredToken" | "InvalidAccessKeyId" | "InvalidToken" | "TokenRefreshRequired") => Some(CREDENTIALS),
        Some("SignatureDoesNotMatch" | "RequestTimeTooSkewed") => Some(SIGNATURE),
        Some("AccessDenied" | "AllAccessDisabled" | "AccountProblem") => Some(PERMISSIONS),
        Some("SlowDown" | "ServiceUnavailable") => Some(THROTTLED),
        _ => None,
    };
    by_code.or(match refusal.status {
        301 | 307 | 308 => Some(REGION),
        401 | 403 => Some(PERMISSIONS),
        429 | 503 => Some(THROTTLED),
        _ => None,
    })
}

const ENDPOINT: &str = "there was no connection to the store: check the network, and the address in `--s3-endpoint` or \
     `AWS_ENDPOINT_URL` if it is not AWS";
const BUCKET: &str = "check the bucket's name, and that `--s3-endpoint` is its store";
const REGION: &str = "the bucket lies in another region: name it with `--s3-region`";
const CREDENTIALS: &str =
    "the credentials are no longer valid, or not of this store: renew them, for example with `aws sso login`";
const SIGNATURE: &str = "check the secret key, and this machine's clock";
const PERMISSIONS: &str = "these credentials may not do that: grant s3:ListBucket on the bucket and s3:GetObject (for a lake that is \
     written also s3:PutObject) on its objects; for a public bucket give `--s3-anonymous`, for one whose reader pays \
     `--s3-requester-pays`";
const THROTTLED: &str = "the store asked for fewer requests at a time: lower `--in-flight`";

#[cfg(test)]
mod tests {
    use super::*;

    /// A key with everything that could be mistaken for a status or a code.
    const KEY: &str = "403/404/503/SlowDown/<Code>AccessDenied</Code>/20250304T0503Z_NoSuchBucket.json.gz";

    fn generic(source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        StoreError::Generic { store: "S3", source: Box::new(source) }
    }

    #[test]
    fn keys_do_not_decide_what_an_error_is() {
        let error = generic(std::io::Error::other(format!("error sending request for `{KEY}`: timed out")));
        assert!(StoreRefusal::behind(&error).is_none());
        let Error::Store { hint, reason, .. } = store("read", "logs", KEY, &error) else { panic!() };
        assert!(hint.is_none() && reason.ends_with("timed out"), "{hint:?} {reason}");
        let invalid = object_store::path::Path::parse(format!("{KEY}//")).unwrap_err();
        let Error::Store { hint, .. } = store("read", "logs", KEY, &invalid.into()) else { panic!() };
        assert_eq!(hint, None);
        // The same in a body. Only its elements count.
        let body = format!("<Error><Resource>{}</Resource></Error>", KEY.replace('<', "&lt;"));
        assert_eq!(hint_of(400, &body), None);
        assert_eq!(hint_of(503, &body), Some(THROTTLED));
    }

    fn hint_of(status: u16, body: &str) -> Option<&'static str> {
        let refusal = StoreRefusal::of(status, body);
        let error = generic(HttpError::new(HttpErrorKind::Unknown, refusal.clone()));
        assert_eq!(StoreRefusal::behind(&error), Some(refusal.clone()));
        hint(&refusal)
    }

    #[test]
    fn codes_decide_and_then_the_status() {
        let coded = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        assert_eq!(hint_of(403, &coded("SignatureDoesNotMatch")), Some(SIGNATURE));
        assert_eq!(hint_of(400, &coded("ExpiredToken")), Some(CREDENTIALS));
        assert_eq!(hint_of(404, &coded("NoSuchBucket")), Some(BUCKET));
        assert_eq!(hint_of(404, &coded("NoSuchKey")), None);
        assert_eq!(hint_of(403, &coded("SomethingNew")), Some(PERMISSIONS));
        assert_eq!(hint_of(301, ""), Some(REGION));
        assert_eq!(hint_of(500, &coded("InternalError")), None);
        let missing = format!("Server returned non-2xx status code: 404 Not Found: {}", coded("NoSuchKey"));
        let missing = StoreError::NotFound { path: KEY.to_owned(), source: missing.into() };
        assert_eq!(reason(&missing), "NoSuchKey: m");
        let denied = StoreError::PermissionDenied { path: KEY.to_owned(), source: "no body".into() };
        assert_eq!(reason(&denied), "access is denied (403)");
    }
}
