//! Loads tables from REST catalogs, such as those of S3 Tables, AWS Glue and Polaris.
//!
//! API: <https://iceberg.apache.org/rest-catalog-spec/>

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::{location_of, refused};
use crate::error::Error;
use crate::http_client;
use crate::store::{Location, Stores};

/// A table in a REST catalog.
#[derive(Clone)]
pub struct CatalogTable {
    /// The URL of the catalog, with a slash at its end.
    catalog: Url,
    warehouse: Option<String>,
    namespace: Vec<String>,
    table: String,
    token: Option<String>,
}

/// A request without an answer is retried after this long.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// An answer has at most this many bytes.
const MOST_BYTES: usize = 256 << 20;

/// At most this many characters of a catalog's own message are shown.
const MAX_MESSAGE_CHARS: usize = 300;

/// The characters that are encoded in a segment of a path.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Separates the levels of a namespace in a path.
const NAMESPACE_SEPARATOR: &str = "\u{1f}";

#[derive(Debug, Default, Deserialize)]
struct CatalogConfig {
    #[serde(default)]
    defaults: Settings,
    #[serde(default)]
    overrides: Settings,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LoadedTable<'t> {
    metadata_location: Option<String>,
    #[serde(borrow)]
    metadata: &'t RawValue,
}

/// The body of an error. AWS gives its own errors without the object `error`.
#[derive(Default, Deserialize)]
struct CatalogError {
    error: Option<CatalogErrorBody>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

#[derive(Deserialize)]
struct CatalogErrorBody {
    message: Option<String>,
}

impl fmt::Display for CatalogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &str| utf8_percent_encode(part, PATH_SEGMENT).to_string();
        write!(f, "iceberg+{}", self.catalog)?;
        if let Some(warehouse) = &self.warehouse {
            write!(f, "{}/", part(warehouse))?;
        }
        for level in &self.namespace {
            write!(f, "{}.", part(level))?;
        }
        f.write_str(&part(&self.table))
    }
}

impl fmt::Debug for CatalogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        write!(f, "CatalogTable({self})")
    }
}

impl CatalogTable {
    /// Parses `https://CATALOG/WAREHOUSE/NAMESPACE.TABLE`. Before the warehouse the catalog may have a path of its own.
    ///
    /// # Errors
    /// The URL has another form, or is not encrypted.
    pub(super) fn parse(text: &str, token: Option<&str>) -> Result<CatalogTable, Error> {
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        let invalid = |reason: &str| Error::Usage {
            message: format!("invalid URL of an Iceberg table: `iceberg+{shown}`: {reason}"),
            hint: Some(
                "write `iceberg+https://CATALOG/WAREHOUSE/NAMESPACE.TABLE`, with `%2F` for a slash in a name"
                    .to_owned(),
            ),
        };
        let mut url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        if !http_client::is_private(&url) {
            return Err(invalid("only https is supported"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            // It may be a secret.
            let message = "the URL of an Iceberg table has a user, a query or a fragment".to_owned();
            return Err(Error::Usage {
                message,
                hint: Some("remove it; see docs/layouts.md for access tokens".to_owned()),
            });
        }
        let decoded = |part: &str| match percent_decode_str(part).decode_utf8() {
            Ok(part) if !part.is_empty() => Ok(part.into_owned()),
            _ => Err(invalid("a name is empty or not UTF-8")),
        };
        let mut parts: Vec<String> = url.path_segments().into_iter().flatten().map(str::to_owned).collect();
        let names = parts.pop().unwrap_or_default();
        let names: Vec<String> = names.split('.').map(decoded).collect::<Result<_, _>>()?;
        let Some((table, namespace @ [_, ..])) = names.split_last() else {
            return Err(invalid("it does not end with `NAMESPACE.TABLE`"));
        };
        // A catalog without warehouses has an empty segment there.
        let warehouse = parts.pop().filter(|part| !part.is_empty()).map(|part| decoded(&part)).transpose()?;
        // An empty part at the end gives a slash there.
        parts.push(String::new());
        url.set_path(&format!("/{}", parts.join("/")));
        Ok(CatalogTable {
            catalog: url,
            warehouse,
            namespace: namespace.to_vec(),
            table: table.clone(),
            token: token.map(str::to_owned),
        })
    }

    /// Returns where the table's metadata are, and their text.
    pub(super) async fn load(&self, stores: &Stores) -> Result<(PathBuf, Bytes), Error> {
        let client = http_client::client(&self.catalog, REQUEST_TIMEOUT);
        let client = client.map_err(|error| self.failed(error.to_string(), None))?;
        let mut url = self.url("v1/config")?;
        if let Some(warehouse) = &self.warehouse {
            url.query_pairs_mut().append_pair("warehouse", warehouse);
        }
        let config = self.get(&client, stores, url).await?;
        let config: CatalogConfig = serde_json::from_slice(&config)
            .map_err(|error| self.failed(format!("its configuration is invalid: {error}"), None))?;
        // Segments of a URL, such as `catalogs/111122223333` from Glue. Some catalogs do not encode them.
        let prefix = config.overrides.prefix.or(config.defaults.prefix).map(|prefix| {
            let segment = |segment: &str| {
                let decoded = percent_decode_str(segment).decode_utf8_lossy();
                format!("{}/", utf8_percent_encode(&decoded, PATH_SEGMENT))
            };
            prefix.split('/').filter(|part| !part.is_empty()).map(segment).collect::<Vec<_>>().concat()
        });
        let part = |part: &str| utf8_percent_encode(part, PATH_SEGMENT).to_string();
        let path = format!(
            "v1/{}namespaces/{}/tables/{}",
            prefix.unwrap_or_default(),
            part(&self.namespace.join(NAMESPACE_SEPARATOR)),
            part(&self.table)
        );
        let loaded = self.get(&client, stores, self.url(&path)?).await?;
        let place = PathBuf::from(self.to_string());
        let table: LoadedTable<'_> =
            serde_json::from_slice(&loaded).map_err(|error| refused(&place, format!("invalid table: {error}")))?;
        let Some(location) = table.metadata_location else {
            return Err(refused(&place, "the catalog does not say where the metadata of the table are"));
        };
        let found = location_of(&place, &location)?;
        if !http_client::is_loopback(&self.catalog) && matches!(found, Location::Disk(_)) {
            return Err(refused(&place, format!("its metadata are in `{location}`, which is not in S3")));
        }
        Ok((PathBuf::from(found.to_string()), loaded.slice_ref(table.metadata.get().as_bytes())))
    }

    fn url(&self, path: &str) -> Result<Url, Error> {
        self.catalog.join(path).map_err(|error| self.failed(error.to_string(), None))
    }

    fn failed(&self, reason: String, hint: Option<&str>) -> Error {
        Error::Store { action: "load", url: self.to_string(), reason, hint: hint.map(str::to_owned) }
    }

    /// Sends a request, again if the catalog is overloaded.
    async fn get(&self, client: &Client, stores: &Stores, url: Url) -> Result<Bytes, Error> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.attempt(client, stores, url.clone()).await? {
                Ok(body) => return Ok(body),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        self.attempt(client, stores, url)
            .await?
            .map_err(|reason| self.failed(format!("{reason} after {ATTEMPTS} attempts"), None))
    }

    /// Sends a request once. The inner error says why a retry may succeed.
    async fn attempt(&self, client: &Client, stores: &Stores, url: Url) -> Result<Result<Bytes, String>, Error> {
        let mut request = client.get(url.clone()).header("Accept", "application/json");
        if let Some((service, region)) = aws_service(&url) {
            for (name, value) in stores.signature(&url, service, region).await? {
                request = request.header(name, value);
            }
        } else if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Err(http_client::no_response(error))),
        };
        let status = response.status();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) if body.len() + chunk.len() <= MOST_BYTES => body.extend_from_slice(&chunk),
                Ok(Some(_)) => {
                    return Err(self.failed(format!("its answer has more than {} MiB", MOST_BYTES >> 20), None));
                }
                Err(error) => return Ok(Err(http_client::no_response(error))),
            }
        }
        if status.is_success() {
            return Ok(Ok(body.into()));
        }
        let refusal = serde_json::from_slice::<CatalogError>(&body).unwrap_or_default();
        let message =
            refusal.error.and_then(|error| error.message).or(refusal.message).map_or_else(String::new, |message| {
                format!(": {}", message.chars().take(MAX_MESSAGE_CHARS).collect::<String>())
            });
        let reason = format!("the catalog answered {status}{message}");
        if http_client::is_transient(status) {
            return Ok(Err(reason));
        }
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Some("set TAWNY_ICEBERG_TOKEN to a bearer token; at AWS, use credentials that may read the table")
            }
            StatusCode::NOT_FOUND => Some("check the names of the warehouse, the namespace and the table"),
            _ => None,
        };
        Err(self.failed(reason, hint))
    }
}

/// Returns the service and the region in the host name of an AWS catalog, such as `s3tables.eu-west-1.amazonaws.com`.
fn aws_service(url: &Url) -> Option<(&'static str, &str)> {
    let domains = [".vpce.amazonaws.com", ".amazonaws.com", ".amazonaws.com.cn", ".api.aws"];
    let host = url.host_str().filter(|_| url.scheme() == "https")?;
    let host = domains.iter().find_map(|domain| host.strip_suffix(domain))?;
    // The host of a VPC endpoint begins with its name.
    let mut parts = host.rsplit('.');
    let (region, service) = (parts.next()?, parts.next()?);
    let service = ["s3tables", "glue"].into_iter().find(|known| service.trim_end_matches("-fips") == *known)?;
    let is_endpoint = parts.next().is_none_or(|name| name.starts_with("vpce-")) && parts.next().is_none();
    (is_endpoint && !region.is_empty()).then_some((service, region))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_catalog_warehouse_namespace_and_table() {
        let parse = |text: &str| CatalogTable::parse(text, Some("secret"));
        let table =
            parse("https://s3tables.eu-west-1.amazonaws.com/iceberg/arn%3Aaws%3As3tables%2Fb/logs.cloudtrail").unwrap();
        assert_eq!(table.catalog.as_str(), "https://s3tables.eu-west-1.amazonaws.com/iceberg/");
        assert_eq!(table.warehouse.as_deref(), Some("arn:aws:s3tables/b"));
        assert_eq!((table.namespace, table.table), (vec!["logs".to_owned()], "cloudtrail".to_owned()));
        let table = parse("http://127.0.0.1:8181/wh/a.b.t%2E1").unwrap();
        assert_eq!(table.catalog.as_str(), "http://127.0.0.1:8181/");
        assert_eq!((table.namespace.len(), table.table.as_str()), (2, "t.1"));
        assert_eq!(table.to_string(), "iceberg+http://127.0.0.1:8181/wh/a.b.t.1");
        assert_eq!(parse("https://c.example/a.t").unwrap().warehouse, None);
        let table = parse("https://c.example/api//a.t").unwrap();
        assert_eq!((table.catalog.as_str(), &table.warehouse), ("https://c.example/api/", &None));
        for text in [
            "http://c.example/wh/a.t",
            "ftp://c.example/wh/a.t",
            "https://c.example/wh/t",
            "https://c.example/wh/a.",
            "https://c.example/",
            "https://user:secret@c.example/wh/a.t",
            "https://c.example/wh/a.t?token=secret",
            "nonsense",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.status().code(), 2, "{text}");
            assert!(text.contains("user:") || !format!("{error}").contains("secret"), "{error}");
        }
        let table = parse("https://c.example/wh/a.t").unwrap();
        assert!(!format!("{table:?}").contains("secret"));
    }

    #[test]
    fn requests_are_signed_for_hosts_of_aws_only() {
        let service = |text: &str| {
            let url = Url::parse(text).unwrap();
            aws_service(&url).map(|(service, region)| format!("{service} {region}"))
        };
        assert_eq!(service("https://glue.eu-west-1.amazonaws.com/iceberg/v1").as_deref(), Some("glue eu-west-1"));
        assert_eq!(service("https://s3tables.cn-north-1.amazonaws.com.cn/").as_deref(), Some("s3tables cn-north-1"));
        for text in [
            "https://s3tables-fips.us-east-1.amazonaws.com/iceberg",
            "https://s3tables.us-east-1.api.aws/iceberg",
            "https://vpce-0a1b-c2d3.s3tables.us-east-1.vpce.amazonaws.com/iceberg",
        ] {
            assert_eq!(service(text).as_deref(), Some("s3tables us-east-1"), "{text}");
        }
        for text in [
            "https://catalog.example/",
            "https://glue.eu-west-1.amazonaws.com.example.org/",
            "http://glue.eu-west-1.amazonaws.com/",
            "https://abc.execute-api.eu-west-1.amazonaws.com/",
            "https://logs.s3.eu-west-1.amazonaws.com/",
        ] {
            assert_eq!(service(text), None, "{text}");
        }
    }
}
