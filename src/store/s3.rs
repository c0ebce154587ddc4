//! Opens buckets of S3 and of compatible stores.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential, resolve_bucket_region};
use object_store::{ClientOptions, CredentialProvider, RetryConfig};
use tokio::sync::Mutex;

use super::wire::{Connector, Signer};
use crate::error::{Error, root_cause};

/// Settings for access to buckets. Other settings are found as AWS's own tools find them: in the environment, in
/// profiles (keys, SSO, `credential_process`, roles to assume), by web identity, from ECS or EC2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The URL of a store other than AWS's own.
    pub endpoint: Option<String>,
    /// The region of the buckets. If absent, AWS returns the region of each bucket.
    pub region: Option<String>,
    /// Whether requests are unsigned, for public buckets.
    pub anonymous: bool,
    /// Whether the requester pays.
    pub requester_pays: bool,
}

/// Credentials are renewed this long before they expire.
const RENEWED_BEFORE: Duration = Duration::from_mins(2);

/// A request without a response is retried after this long.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// What to do where AWS's chain gives no credentials.
pub(super) const MISSING_CREDENTIALS: &str = "give them in the environment or a profile (AWS_PROFILE), with `aws sso login`, or by the machine's role; \
     for a public bucket give `--s3-anonymous`";

/// Returns the settings that AWS's own tools find.
pub(super) async fn config(access: &Access) -> SdkConfig {
    let region = RegionProviderChain::first_try(access.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new("us-east-1"));
    aws_config::defaults(BehaviorVersion::latest()).region(region).load().await
}

/// Returns the reason for which AWS's chain gives no credentials.
pub(super) fn no_credentials(error: &CredentialsError) -> String {
    format!("no credentials: {}", root_cause(error))
}

/// Whether a bucket or a region stays a part of the host's name in a URL. Others could lead requests, and with them
/// signatures, to another host.
fn is_host_part(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

pub(super) async fn connect(access: &Access, bucket: &str) -> Result<Arc<AmazonS3>, Error> {
    if !is_host_part(bucket) {
        return Err(Error::Usage {
            message: format!("`{bucket}` is not the name of a bucket"),
            hint: Some("names of buckets have letters, digits, `.`, `-` and `_`".to_owned()),
        });
    }
    let config = config(access).await;
    let endpoint = access.endpoint.as_deref().or(config.endpoint_url());
    let client = ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
        .with_timeout(REQUEST_TIMEOUT);
    let mut region = config.region().map(ToString::to_string);
    if endpoint.is_none() && access.region.is_none() {
        // If AWS does not return it, the first request will.
        let resolved = resolve_bucket_region(bucket, &client).await.ok();
        region = resolved.filter(|region| is_host_part(region)).or(region);
    }
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&region)
        .with_client_options(client)
        .with_retry(RetryConfig::default())
        .with_skip_signature(access.anonymous)
        .with_request_payer(access.requester_pays);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let failed = |reason: String, hint: &str| Error::Store {
        action: "open",
        url: format!("s3://{bucket}"),
        reason,
        hint: Some(hint.to_owned()),
    };
    let mut signer = None;
    if !access.anonymous {
        let chain =
            config.credentials_provider().ok_or_else(|| failed("no credentials".to_owned(), MISSING_CREDENTIALS))?;
        let credentials = Credentials { chain, current: Mutex::default() };
        credentials.renewed().await.map_err(|reason| failed(reason, MISSING_CREDENTIALS))?;
        let credentials = Arc::new(credentials);
        builder = builder.with_credentials(Arc::clone(&credentials) as _);
        signer = Some(Signer { credentials, region, requester_pays: access.requester_pays });
    }
    let store = builder
        .with_http_connector(Connector { signer })
        .build()
        .map_err(|error| failed(super::fault::reason(&error), "check `--s3-endpoint`"))?;
    Ok(Arc::new(store))
}

/// The credentials that AWS's chain gives, renewed shortly before they expire.
#[derive(Debug)]
struct Credentials {
    chain: SharedCredentialsProvider,
    current: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

impl Credentials {
    async fn renewed(&self) -> Result<Arc<AwsCredential>, String> {
        #[expect(clippy::disallowed_methods, reason = "the clock decides whether credentials have expired")]
        let soon = SystemTime::now() + RENEWED_BEFORE;
        let mut current = self.current.lock().await;
        if let Some((known, expiry)) = current.as_ref()
            && expiry.is_none_or(|expiry| expiry > soon)
        {
            return Ok(Arc::clone(known));
        }
        let new = self.chain.provide_credentials().await.map_err(|error| no_credentials(&error))?;
        let credential = Arc::new(AwsCredential {
            key_id: new.access_key_id().to_owned(),
            secret_key: new.secret_access_key().to_owned(),
            token: new.session_token().map(str::to_owned),
        });
        *current = Some((Arc::clone(&credential), new.expiry()));
        Ok(credential)
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.renewed().await.map_err(|reason| object_store::Error::Generic { store: "S3", source: reason.into() })
    }
}
