//! Findings as requests to a web service, one each.
//!
//! A URL such as Slack's is a secret: of it only the host is ever told.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use sha2::Sha256;
use url::{Host, Url};

use super::{Clock, Hidden, Line, MessageFormat, Settings, ocsf, revision, slack, text};
use crate::error::Error;
use crate::store::hex;
use crate::text::json;
use crate::time::Instant;

/// How long to wait before a request is sent once more, at first; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long to wait at most, also where the service asks for more.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// When a request was signed, in seconds since the epoch.
const TIMESTAMP: &str = "X-Tawny-Timestamp";
/// The version of the signature, and the HMAC-SHA256 of the timestamp, a full stop and the body.
const SIGNATURE: &str = "X-Tawny-Signature";

/// A web service that takes findings.
pub(super) struct Webhook {
    name: String,
    url: Url,
    host: String,
    key: Option<Hmac<Sha256>>,
    format: MessageFormat,
    attempts: NonZeroU32,
    client: Client,
    clock: Clock,
}

/// Why a request did not deliver.
struct Refusal {
    reason: String,
    /// Whether it is worth while to send it again.
    passing: bool,
    /// Whether the finding is what was refused, so that another one may be taken.
    of_finding: bool,
    /// How long the service asked to wait.
    pause: Option<Duration>,
}

impl Webhook {
    pub(super) fn open(
        settings: &Settings,
        secret: &dyn Fn(&str) -> Option<String>,
        clock: Clock,
    ) -> Result<Webhook, Error> {
        let Settings::Webhook { name, url, url_env, secret_env, format, timeout, attempts, .. } = settings else {
            return Err(Error::Internal(format!("the sink `{}` is no webhook", settings.name())));
        };
        let wrong = |what: &str| Error::usage(format!("the sink `{name}` {what}"));
        let variable = |variable: &String| {
            let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name(variable) {
                return Err(wrong("names as a variable of the environment what is no such name: the secret itself?"));
            }
            secret(variable).filter(|value| !value.is_empty()).ok_or_else(|| {
                wrong(&format!("needs the environment variable `{variable}`, which is not set or empty"))
            })
        };
        let url = match (url, url_env) {
            (Some(Hidden(url)), None) => url.clone(),
            (None, Some(name)) => variable(name)?,
            _ => return Err(wrong("needs one of `url` and `url_env`")),
        };
        // The parser's own words tell no part of the text.
        let url = Url::parse(url.trim()).map_err(|error| wrong(&format!("has no valid URL: {error}")))?;
        let host = url.host_str().ok_or_else(|| wrong("has a URL without a host"))?.to_owned();
        let local = is_loopback(&url);
        if url.scheme() != "https" && !(url.scheme() == "http" && local) {
            return Err(wrong("has a URL that is not https: findings would be sent for all to read"));
        }
        let key = secret_env.as_ref().map(variable).transpose()?;
        let key = key.map(|key| Hmac::new_from_slice(key.as_bytes())).transpose();
        let mut client = Client::builder()
            .redirect(Policy::none())
            .timeout(Duration::from_secs(timeout.get().into()))
            .user_agent(concat!("tawny/", env!("CARGO_PKG_VERSION")))
            .https_only(!local);
        if local {
            client = client.no_proxy();
        }
        Ok(Webhook {
            name: name.clone(),
            url,
            host,
            key: key.map_err(|error| wrong(&format!("has no usable key: {error}")))?,
            format: *format,
            attempts: *attempts,
            client: client.build().map_err(|error| Error::Internal(format!("an HTTP client: {}", cause(&error))))?,
            clock,
        })
    }

    /// Sends the lines one after another. One that is itself refused holds up none that follow; where the service
    /// cannot be asked, or takes nothing from us, the rest is not sent.
    pub(super) async fn deliver(&self, lines: &[Line]) -> Result<(), Error> {
        let mut left = Vec::new();
        let mut first = None;
        let mut silent = false;
        for (place, line) in lines.iter().enumerate() {
            let Err(Refusal { reason, of_finding, .. }) = self.send(line, self.body(line)?).await else {
                continue;
            };
            first.get_or_insert(reason);
            if of_finding {
                left.push(place);
                continue;
            }
            left.extend(place..lines.len());
            silent = true;
            break;
        }
        let Some(reason) = first else {
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
        body.map(String::into_bytes).map_err(|error| Error::Internal(format!("a finding as JSON: {error}")))
    }

    /// Sends until the service takes it, or refuses for good.
    async fn send(&self, line: &Line, body: Vec<u8>) -> Result<(), Refusal> {
        let body = bytes::Bytes::from(body);
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let refusal = match self.attempt(line, body.clone()).await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => refused(&answer),
                Err(error) => unanswered(error),
            };
            if !refusal.passing {
                return Err(refusal);
            }
            if attempt >= self.attempts.get() {
                let reason = format!("{} at the last of {attempt} attempts", refusal.reason);
                return Err(Refusal { reason, ..refusal });
            }
            tokio::time::sleep(refusal.pause.unwrap_or(pause).min(LONGEST_PAUSE)).await;
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
            // Each attempt is signed at its own time, so that a receiver refuses an old one and takes a late retry.
            let seconds = Instant::from_micros((self.clock)()).seconds().to_string();
            let signed = key.clone().chain_update(&seconds).chain_update(".").chain_update(&body);
            let signature = hex(&signed.finalize().into_bytes());
            request = request.header(TIMESTAMP, seconds).header(SIGNATURE, format!("v1={signature}"));
        }
        request.body(body).send().await
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

fn refused(answer: &Response) -> Refusal {
    let status = answer.status();
    let passing =
        status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    // A date could be told as well, which only a clock makes a pause of.
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let followed = if status.is_redirection() { ", and redirects are not followed" } else { "" };
    let of_finding = matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
    );
    let reason = format!("answered {status}{followed}");
    Refusal { reason, passing, of_finding, pause: seconds.map(Duration::from_secs) }
}

fn unanswered(error: reqwest::Error) -> Refusal {
    let error = error.without_url();
    let reason = if error.is_timeout() { "did not answer in time".to_owned() } else { cause(&error) };
    let reason = format!("could not be asked: {reason}");
    Refusal { reason, passing: !error.is_builder(), of_finding: false, pause: None }
}

/// What lies at the bottom of an error.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
