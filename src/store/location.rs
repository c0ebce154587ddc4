//! Locations of data, as a user writes them.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use crate::error::Error;

/// A location on disk or in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file or folder, or a pattern of them.
    Disk(PathBuf),
    /// An object, a folder or a pattern of objects in a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The key or prefix, without the slash at its end.
        key: String,
    },
}

impl Location {
    /// Returns the location that `text` names: `s3://bucket/key`, `file:///path` or a path.
    pub fn of(text: &str) -> Location {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            // Every other slash is a part of the key.
            let key = key.strip_suffix('/').unwrap_or(key);
            return Location::S3 { bucket: bucket.to_owned(), key: key.to_owned() };
        }
        let url = text.starts_with("file://").then(|| Url::parse(text).ok()).flatten();
        Location::Disk(url.and_then(|url| url.to_file_path().ok()).unwrap_or_else(|| PathBuf::from(text)))
    }

    /// Checks that none of `sources` is in the folder `lake`. Their objects would be taken for files of the lake.
    ///
    /// # Errors
    /// A source is in the lake.
    pub fn check_apart(lake: &str, sources: &[impl AsRef<str>]) -> Result<(), Error> {
        let folder = Location::of(lake);
        match sources.iter().map(AsRef::as_ref).find(|source| folder.holds(&Location::of(source))) {
            None => Ok(()),
            Some(source) => Err(Error::Usage {
                message: format!(
                    "the source `{source}` lies in the lake `{lake}`: its objects would be taken for files of the lake"
                ),
                hint: Some("name another folder for the lake".to_owned()),
            }),
        }
    }

    /// Returns whether `other` is this folder or within it.
    fn holds(&self, other: &Location) -> bool {
        let resolved = |path: &PathBuf| {
            let real = path.canonicalize().or_else(|_| std::path::absolute(path));
            real.unwrap_or_else(|_| path.clone())
        };
        match (self, other) {
            (Location::Disk(folder), Location::Disk(other)) => resolved(other).starts_with(resolved(folder)),
            (Location::S3 { bucket, key }, Location::S3 { bucket: other_bucket, key: other }) => {
                let below = other.strip_prefix(key.as_str());
                bucket == other_bucket
                    && below.is_some_and(|below| key.is_empty() || below.is_empty() || below.starts_with('/'))
            }
            _ => false,
        }
    }

    /// Checks that `text` is not an address in another form, such as the `https://` address of a bucket.
    ///
    /// # Errors
    /// It is such an address. The hint has the supported form. The query of the address is not shown, because it may
    /// hold a signature.
    pub fn check(text: &str) -> Result<(), Error> {
        let Some(address) = Address::of(text) else {
            return match Location::of(text) {
                Location::S3 { bucket, .. } if bucket.is_empty() => Err(Error::Usage {
                    message: format!("`{text}` names no bucket"),
                    hint: Some("write `s3://BUCKET/PREFIX`".to_owned()),
                }),
                _ => Ok(()),
            };
        };
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        let hint = match address {
            Address::S3(right) => format!("write `{right}`"),
            Address::AccessPoint => {
                "name the bucket itself, as `s3://BUCKET/PREFIX`: access points are not supported".to_owned()
            }
            Address::OtherStore(name) => {
                format!("{name} is not supported: copy the objects to a folder or to S3, and name that")
            }
            Address::Unknown => "name a path or `s3://BUCKET/PREFIX`; download what lies elsewhere".to_owned(),
        };
        Err(Error::Usage {
            message: format!("`{shown}` is neither a path nor an address of the form `s3://BUCKET/PREFIX`"),
            hint: Some(hint),
        })
    }
}

/// An address in a form that is not supported.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    /// A location in S3, in the supported form.
    S3(Location),
    /// An S3 access point.
    AccessPoint,
    /// A store that is not supported.
    OtherStore(&'static str),
    /// Something else.
    Unknown,
}

/// Schemes of stores that are not supported.
const OTHER_STORES: [(&str, &str); 9] = [
    ("gs", GOOGLE),
    ("gcs", GOOGLE),
    ("az", AZURE),
    ("azure", AZURE),
    ("adl", AZURE),
    ("abfs", AZURE),
    ("abfss", AZURE),
    ("wasb", AZURE),
    ("wasbs", AZURE),
];
const GOOGLE: &str = "Google Cloud Storage";
const AZURE: &str = "Azure Blob Storage";

impl Address {
    fn of(text: &str) -> Option<Address> {
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("arn:") {
            return Some(Address::of_arn(text));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            // A slash is missing: `s3:bucket`, `s3:/bucket`.
            let rest = lower.starts_with("s3:").then(|| text[3..].trim_start_matches('/'))?;
            return Some(Address::S3(s3(rest)));
        };
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
        match scheme.to_ascii_lowercase().as_str() {
            _ if !is_scheme => None,
            "s3" if scheme == "s3" => None,
            "file" => None,
            "s3" | "s3a" | "s3n" => Some(Address::S3(s3(rest))),
            "http" | "https" => Some(Address::of_url(text)),
            other => {
                let known = OTHER_STORES.iter().find(|(scheme, _)| *scheme == other);
                Some(known.map_or(Address::Unknown, |(_, name)| Address::OtherStore(name)))
            }
        }
    }

    /// `arn:aws:s3:::bucket/prefix`; in other partitions `arn:aws-cn:…`.
    fn of_arn(text: &str) -> Address {
        let mut parts = text.splitn(6, ':').skip(2);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("s3"), Some(""), Some(""), Some(place)) if !place.is_empty() => Address::S3(s3(place)),
            (Some("s3"), ..) => Address::AccessPoint,
            _ => Address::Unknown,
        }
    }

    /// Reads S3's own addresses, and those of its console.
    ///
    /// Forms: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>
    fn of_url(text: &str) -> Address {
        let Ok(url) = Url::parse(text) else {
            return Address::Unknown;
        };
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let path = decoded(url.path().trim_start_matches('/'));
        if host == "storage.googleapis.com" || host == "storage.cloud.google.com" {
            return Address::OtherStore(GOOGLE);
        }
        if host.ends_with(".blob.core.windows.net") || host.ends_with(".dfs.core.windows.net") {
            return Address::OtherStore(AZURE);
        }
        let Some(host) = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn")) else {
            return if host.ends_with("console.aws.amazon.com") || host.ends_with("console.amazonaws.cn") {
                Address::of_console(&url, &path)
            } else {
                Address::Unknown
            };
        };
        // `bucket.s3.region`, `bucket.s3-region`, `bucket.s3-accelerate.dualstack`, and the same without a bucket.
        let parts: Vec<&str> = host.split('.').collect();
        let is_service = |part: &&str| *part == "s3" || part.starts_with("s3-");
        match parts.iter().rposition(is_service) {
            Some(0) => Address::S3(s3(&path)),
            Some(service) if parts[service].starts_with("s3-accesspoint") => Address::AccessPoint,
            Some(service) => Address::S3(s3(&format!("{}/{path}", parts[..service].join(".")))),
            None => Address::Unknown,
        }
    }

    /// `https://….console.aws.amazon.com/s3/buckets/BUCKET?prefix=PREFIX`, and `/s3/object/BUCKET?prefix=KEY`.
    fn of_console(url: &Url, path: &str) -> Address {
        let mut parts = path.split('/');
        let (Some("s3"), Some("buckets" | "object"), Some(bucket)) = (parts.next(), parts.next(), parts.next()) else {
            return Address::Unknown;
        };
        let prefix = url.query_pairs().find(|(name, _)| name == "prefix").map(|(_, prefix)| prefix.into_owned());
        Address::S3(s3(&format!("{bucket}/{}", prefix.unwrap_or_default())))
    }
}

fn s3(bucket_and_key: &str) -> Location {
    Location::of(&format!("s3://{bucket_and_key}"))
}

/// Returns the path of a URL without percent escapes.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Disk(path) => write!(f, "{}", path.display()),
            Location::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(bucket: &str, key: &str) -> Location {
        Location::S3 { bucket: bucket.to_owned(), key: key.to_owned() }
    }

    #[test]
    fn places_are_told_by_their_scheme() {
        assert_eq!(Location::of("s3://logs"), location("logs", ""));
        assert_eq!(Location::of("s3://logs/a b+c%2Fd=#e/"), location("logs", "a b+c%2Fd=#e"));
        assert_eq!(Location::of("s3://logs//AWSLogs/x//"), location("logs", "/AWSLogs/x/"));
        assert_eq!(Location::of("file:///tmp/a%20b"), Location::Disk("/tmp/a b".into()));
        assert_eq!(Location::of("trail/a%20b"), Location::Disk("trail/a%20b".into()));
    }

    #[test]
    fn addresses_of_other_forms_get_a_hint_with_the_right_one() {
        let right = location("logs.example", "AWSLogs/a b");
        for text in [
            "s3a://logs.example/AWSLogs/a b/",
            "s3n://logs.example/AWSLogs/a b",
            "S3://logs.example/AWSLogs/a b",
            "s3:/logs.example/AWSLogs/a b",
            "s3:logs.example/AWSLogs/a b",
            "arn:aws:s3:::logs.example/AWSLogs/a b",
            "arn:aws-cn:s3:::logs.example/AWSLogs/a b/",
            "https://logs.example.s3.amazonaws.com/AWSLogs/a%20b",
            "https://logs.example.s3.eu-west-1.amazonaws.com/AWSLogs/a%20b?X-Amz-Signature=secret",
            "https://logs.example.s3-eu-west-1.amazonaws.com/AWSLogs/a%20b",
            "https://logs.example.s3.dualstack.eu-west-1.amazonaws.com/AWSLogs/a%20b",
            "https://logs.example.s3.cn-north-1.amazonaws.com.cn/AWSLogs/a%20b",
            "http://s3.amazonaws.com/logs.example/AWSLogs/a%20b/",
            "https://s3.eu-west-1.amazonaws.com/logs.example/AWSLogs/a%20b",
            "https://s3-eu-west-1.amazonaws.com/logs.example/AWSLogs/a%20b",
            "https://s3.console.aws.amazon.com/s3/buckets/logs.example?region=eu-west-1&prefix=AWSLogs/a+b/",
            "https://eu-west-1.console.aws.amazon.com/s3/object/logs.example?prefix=AWSLogs%2Fa%20b",
        ] {
            assert_eq!(Address::of(text), Some(Address::S3(right.clone())), "{text}");
            let error = Location::check(text).unwrap_err();
            assert_eq!(error.hint().as_deref(), Some("write `s3://logs.example/AWSLogs/a b`"), "{text}");
            assert!(!format!("{error}{:?}", error.hint()).contains("secret"), "{error}");
        }
        assert_eq!(Address::of("arn:aws:s3:::logs"), Some(Address::S3(location("logs", ""))));
    }

    #[test]
    fn other_stores_and_other_addresses_are_refused() {
        for (text, expected) in [
            ("gs://bucket/a", Address::OtherStore(GOOGLE)),
            ("https://storage.googleapis.com/bucket/a", Address::OtherStore(GOOGLE)),
            ("abfss://container@account.dfs.core.windows.net/a", Address::OtherStore(AZURE)),
            ("https://account.blob.core.windows.net/container/a", Address::OtherStore(AZURE)),
            ("arn:aws:s3:eu-west-1:111122223333:accesspoint/mine/object/a", Address::AccessPoint),
            ("arn:aws:iam::111122223333:user/mira", Address::Unknown),
            ("https://logs.example/trail.json.gz", Address::Unknown),
            ("https://", Address::Unknown),
            ("ftp://logs.example/a", Address::Unknown),
            ("hdfs://a/b", Address::Unknown),
        ] {
            assert_eq!(Address::of(text), Some(expected), "{text}");
        }
        for path in ["trail", "/data/trail", "./https:/x", "s3://bucket/key", "file:///data", "C:/data", "-"] {
            assert_eq!(Address::of(path), None, "{path}");
        }
    }

    #[test]
    fn a_source_lies_apart_from_the_lake() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir_all(path("trail/day")).unwrap();
        for (lake, source) in [
            (path("trail"), path("trail")),
            (path("trail"), path("trail/day/../day/*.json.gz")),
            (path("trail/."), path("trail/day")),
            ("s3://b/logs/".to_owned(), "s3://b/logs/AWSLogs".to_owned()),
            ("s3://b".to_owned(), "s3://b/logs".to_owned()),
        ] {
            assert!(Location::check_apart(&lake, std::slice::from_ref(&source)).is_err(), "{lake} {source}");
        }
        for (lake, source) in [
            (path("trail/lake"), path("trail")),
            (path("lake"), path("trail")),
            (path("trail/da"), path("trail/day")),
            ("s3://b/log".to_owned(), "s3://b/logs".to_owned()),
            ("s3://b/lake".to_owned(), "s3://b".to_owned()),
            ("s3://b".to_owned(), "s3://c/logs".to_owned()),
            (path("lake"), "-".to_owned()),
        ] {
            assert!(Location::check_apart(&lake, std::slice::from_ref(&source)).is_ok(), "{lake} {source}");
        }
    }
}
