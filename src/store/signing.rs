//! Signs requests to other services of AWS than S3.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use url::Url;

use super::{Stores, s3};
use crate::error::Error;

impl Stores {
    /// Returns the headers that sign a GET of `url` for a service of AWS, with the credentials that buckets are read with.
    /// Empty if requests are not signed.
    ///
    /// # Errors
    /// There are no credentials.
    pub(crate) async fn signature(
        &self,
        url: &Url,
        service: &str,
        region: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        if self.access.anonymous {
            return Ok(Vec::new());
        }
        let failed = |reason: String| Error::Store {
            action: "sign the request for",
            url: url.to_string(),
            reason,
            hint: Some(s3::MISSING_CREDENTIALS.to_owned()),
        };
        let config = s3::config(&self.access).await;
        let chain = config.credentials_provider().ok_or_else(|| failed("no credentials".to_owned()))?;
        let credentials = chain.provide_credentials().await.map_err(|error| failed(s3::no_credentials(&error)))?;
        #[expect(clippy::disallowed_methods, reason = "a signature is valid for some minutes only")]
        let now = SystemTime::now();
        headers(url, (service, region), credentials, now).map_err(failed)
    }
}

fn headers(
    url: &Url,
    (service, region): (&str, &str),
    credentials: Credentials,
    time: SystemTime,
) -> Result<Vec<(String, String)>, String> {
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]));
    let signed = request.and_then(|request| sign(request, &parameters)).map_err(|error| error.to_string())?;
    let (instructions, _) = signed.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn signatures_are_those_of_the_documentation() {
        // <https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4/get-vanilla>
        let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", key, None, None, "test");
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_mins(24_015_636);
        let headers = headers(&url, ("service", "us-east-1"), credentials, time).unwrap();
        let authorization = &headers.iter().find(|(name, _)| name == "authorization").unwrap().1;
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
            SignedHeaders=host;x-amz-date, \
            Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(authorization, expected);
    }
}
