//! HTTP clients for `object_store`. They decode keys that it cannot hold, and keep the status of refusals.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, CredentialProvider};

use super::fault::StoreRefusal;
use super::keys;

/// Signs requests again, after their URLs have changed.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) credentials: Arc<dyn CredentialProvider<Credential = AwsCredential>>,
    pub(super) region: String,
    pub(super) requester_pays: bool,
}

/// Creates the HTTP clients of buckets.
#[derive(Debug)]
pub(super) struct Connector {
    /// `None` if requests are not signed.
    pub(super) signer: Option<Signer>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let network = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Wire { network, signer: self.signer.clone() }))
    }
}

#[derive(Debug)]
struct Wire {
    network: HttpClient,
    signer: Option<Signer>,
}

impl Wire {
    /// Decodes the keys in a request.
    async fn with_keys(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        let decoded = keys::decode_address(&request.uri().to_string());
        let Some(address) = decoded.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))? else {
            return Ok(());
        };
        *request.uri_mut() = address.parse().map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        if let Some(signer) = &self.signer {
            let credential = signer.credentials.get_credential().await;
            let credential = credential.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            let authorizer = AwsAuthorizer::new(&credential, "s3", &signer.region);
            authorizer.with_request_payer(signer.requester_pays).authorize(request, None);
        }
        Ok(())
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let query = request.uri().query().unwrap_or_default();
        let is_listing = query.split('&').any(|parameter| parameter == "list-type=2");
        self.with_keys(&mut request).await?;
        let answer = self.network.execute(request).await?;
        let status = answer.status().as_u16();
        if is_listing && answer.status().is_success() {
            let (parts, body) = answer.into_parts();
            let body = body.bytes().await?;
            let body = match std::str::from_utf8(&body) {
                Ok(xml) => HttpResponseBody::from(keys::encode_listing(xml)),
                Err(_) => HttpResponseBody::from(body),
            };
            return Ok(HttpResponse::from_parts(parts, body));
        }
        if answer.status().is_success() || !is_listing && has_kind(status) {
            return Ok(answer);
        }
        // `object_store` would report these as text, from which the status cannot be read safely.
        let body = answer.into_body().bytes().await?;
        let kind = if is_temporary(status) { HttpErrorKind::Request } else { HttpErrorKind::Unknown };
        Err(HttpError::new(kind, StoreRefusal::of(status, &String::from_utf8_lossy(&body))))
    }
}

/// Returns whether `object_store` has its own error kind for a status, except for listings.
fn has_kind(status: u16) -> bool {
    matches!(status, 304 | 401 | 403 | 404 | 409 | 412)
}

/// Returns whether the same request may succeed later. `object_store` then retries it, as for a response with this
/// status.
fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}
