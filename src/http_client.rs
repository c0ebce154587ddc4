//! HTTP clients for web services other than S3: webhooks and REST catalogs.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use url::{Host, Url};

use crate::error::root_cause;

/// There is no client for HTTP requests.
#[derive(Debug, thiserror::Error)]
#[error("cannot create an HTTP client: {}", root_cause(.0))]
pub struct ClientError(reqwest::Error);

/// Returns a client for requests to `url`. It follows no redirects: they could lead secrets to another host. A request fails
/// after `timeout`.
///
/// # Errors
/// The system's certificates cannot be used.
pub fn client(url: &Url, timeout: Duration) -> Result<Client, ClientError> {
    let is_local = is_loopback(url);
    let client = Client::builder()
        .redirect(Policy::none())
        .timeout(timeout)
        .user_agent(concat!("tawny/", env!("CARGO_PKG_VERSION")))
        .https_only(!is_local);
    let client = if is_local { client.no_proxy() } else { client };
    client.build().map_err(ClientError)
}

/// Returns whether requests to `url` are secret: they are encrypted, or stay on this machine.
pub fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// Returns whether the host of `url` is this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// Returns whether a retry may succeed after a response with this status.
pub fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Returns the reason why there was no response, without the URL, which may be a secret.
pub fn no_response(error: reqwest::Error) -> String {
    let error = error.without_url();
    let reason = if error.is_timeout() { "did not answer in time".to_owned() } else { root_cause(&error) };
    format!("cannot be reached: {reason}")
}
