//! Sends each finding as an HTTP request.
//!
//! A URL such as Slack's is a secret, so messages show only its host.

use std::num::NonZeroU32;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use sha2::Sha256;
use url::Url;

use super::{Clock, Hidden, Line, MessageFormat, SinkSettings, ocsf, revision, slack, text};
use crate::error::Error;
use crate::http_client;
use crate::store::hex;
use crate::text::json;

/// Pause before the first retry. Each later pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause before a retry, even if the service asks for more.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Header with the time of the signature, in seconds since the epoch.
const TIMESTAMP: &str = "X-Tawny-Timestamp";
/// Header with the signature: its version, and the HMAC-SHA256 of timestamp, full stop and body.
const SIGNATURE: &str = "X-Tawny-Signature";

/// A sink that sends requests to a web service.
pub(super) struct WebhookSink {
    name: String,
    url: Url,
    host: String,
    key: Option<Hmac<Sha256>>,
    format: MessageFormat,
    attempts: NonZeroU32,
    client: Client,
    clock: Clock,
}

/// Why a request failed.
struct FailedRequest {
    reason: String,
    /// Whether a retry may succeed.
    is_transient: bool,
    /// Whether the service rejected this finding only, and may accept others.
    is_rejected_finding: bool,
    /// The pause that the service asked for.
    pause: Option<Duration>,
}

impl WebhookSink {
    pub(super) fn open(
        settings: &SinkSettings,
        secret: &dyn Fn(&str) -> Option<String>,
        clock: Clock,
    ) -> Result<WebhookSink, Error> {
        let SinkSettings::Webhook { name, url, url_env, secret_env, format, timeout, attempts, .. } = settings else {
            return Err(Error::Internal(format!("the sink `{}` is not a webhook", settings.name())));
        };
        let invalid = |reason: &str| Error::usage(format!("sink `{name}`: {reason}"));
        let variable = |variable: &String| {
            let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name(variable) {
                return Err(invalid("not the name of an environment variable; do not put the secret itself there"));
            }
            secret(variable)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| invalid(&format!("the environment variable `{variable}` is not set or empty")))
        };
        let url = match (url, url_env) {
            (Some(Hidden(url)), None) => url.clone(),
            (None, Some(name)) => variable(name)?,
            _ => return Err(invalid("set exactly one of `url` and `url_env`")),
        };
        // The parser's message contains no part of the URL.
        let url = Url::parse(url.trim()).map_err(|error| invalid(&format!("invalid URL: {error}")))?;
        let host = url.host_str().ok_or_else(|| invalid("the URL has no host"))?.to_owned();
        if !http_client::is_private(&url) {
            return Err(invalid("the URL is not https; findings would be sent unencrypted"));
        }
        let key = secret_env.as_ref().map(variable).transpose()?;
        let key = key.map(|key| Hmac::new_from_slice(key.as_bytes())).transpose();
        let client = http_client::client(&url, Duration::from_secs(timeout.get().into()));
        Ok(WebhookSink {
            name: name.clone(),
            url,
            host,
            key: key.map_err(|error| invalid(&format!("invalid signing key: {error}")))?,
            format: *format,
            attempts: *attempts,
            client: client.map_err(|error| invalid(&error.to_string()))?,
            clock,
        })
    }

    /// Sends the lines one by one.
    ///
    /// Continues after a finding that the service rejects. Stops if the service cannot be reached or accepts nothing.
    pub(super) async fn deliver(&self, lines: &[Line]) -> Result<(), Error> {
        let mut left = Vec::new();
        let mut first_reason = None;
        let mut silent = false;
        for (index, line) in lines.iter().enumerate() {
            let Err(FailedRequest { reason, is_rejected_finding, .. }) = self.send(line, self.body(line)?).await else {
                continue;
            };
            first_reason.get_or_insert(reason);
            if is_rejected_finding {
                left.push(index);
                continue;
            }
            left.extend(index..lines.len());
            silent = true;
            break;
        }
        let Some(reason) = first_reason else {
            return Ok(());
        };
        let (host, sent) = (&self.host, lines.len() - left.len());
        let reason = format!("{host} {reason}; {sent} of {} findings were sent", lines.len());
        Err(Error::Sink { sink: self.name.clone(), reason, left, silent })
    }

    fn body(&self, line: &Line) -> Result<Vec<u8>, Error> {
        let body = match self.format {
            MessageFormat::Slack => json::line(&slack::message(line)),
            MessageFormat::Json => json::line(line),
            MessageFormat::Ocsf => json::line(&ocsf::finding(line)?),
        };
        body.map(String::into_bytes)
            .map_err(|error| Error::Internal(format!("cannot write a finding as JSON: {error}")))
    }

    /// Sends one finding. Retries until the service accepts it, rejects it, or the attempts are used up.
    async fn send(&self, line: &Line, body: Vec<u8>) -> Result<(), FailedRequest> {
        let body = bytes::Bytes::from(body);
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(line, body.clone()).await {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) => failed_response(&response),
                Err(error) => no_response(error),
            };
            if !failure.is_transient {
                return Err(failure);
            }
            if attempt >= self.attempts.get() {
                let reason = format!("{} after {attempt} attempts", failure.reason);
                return Err(FailedRequest { reason, ..failure });
            }
            tokio::time::sleep(failure.pause.unwrap_or(pause).min(LONGEST_PAUSE)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            attempt += 1;
        }
    }

    async fn attempt(&self, line: &Line, body: bytes::Bytes) -> reqwest::Result<Response> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", format!("{}.{}", text(line, "finding_id"), revision(line)));
        if let Some(key) = &self.key {
            // Sign each attempt with its own time: a receiver can refuse old requests and still accept a late retry.
            let seconds = (self.clock)().seconds().to_string();
            let mac = key.clone().chain_update(&seconds).chain_update(".").chain_update(&body);
            let signature = hex(&mac.finalize().into_bytes());
            request = request.header(TIMESTAMP, seconds).header(SIGNATURE, format!("v1={signature}"));
        }
        request.body(body).send().await
    }
}

fn failed_response(response: &Response) -> FailedRequest {
    let status = response.status();
    // `Retry-After` may also be a date. That needs a clock, so the usual pause applies.
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let redirect = if status.is_redirection() { ", and redirects are not followed" } else { "" };
    let is_rejected_finding = matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
    );
    let reason = format!("answered {status}{redirect}");
    let is_transient = http_client::is_transient(status);
    FailedRequest { reason, is_transient, is_rejected_finding, pause: seconds.map(Duration::from_secs) }
}

fn no_response(error: reqwest::Error) -> FailedRequest {
    let is_transient = !error.is_builder();
    FailedRequest { reason: http_client::no_response(error), is_transient, is_rejected_finding: false, pause: None }
}
