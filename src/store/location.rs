//! Where a user says that data lie.

use std::fmt;
use std::path::PathBuf;

/// A place on disk or in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file or folder, or a pattern of them.
    Disk(PathBuf),
    /// An object, a folder or a pattern of objects in a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The key or prefix, without a slash at its ends.
        key: String,
    },
}

impl Location {
    /// The place that `text` names: `s3://bucket/key`, `file:///path` or a path.
    pub fn of(text: &str) -> Location {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            return Location::S3 { bucket: bucket.to_owned(), key: key.trim_matches('/').to_owned() };
        }
        let url = text.starts_with("file://").then(|| url::Url::parse(text).ok()).flatten();
        Location::Disk(url.and_then(|url| url.to_file_path().ok()).unwrap_or_else(|| PathBuf::from(text)))
    }
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

    #[test]
    fn places_are_told_by_their_scheme() {
        let s3 = |bucket: &str, key: &str| Location::S3 { bucket: bucket.to_owned(), key: key.to_owned() };
        assert_eq!(Location::of("s3://logs"), s3("logs", ""));
        assert_eq!(Location::of("s3://logs/a b+c%2Fd=#e/"), s3("logs", "a b+c%2Fd=#e"));
        assert_eq!(Location::of("file:///tmp/a%20b"), Location::Disk("/tmp/a b".into()));
        assert_eq!(Location::of("trail/a%20b"), Location::Disk("trail/a%20b".into()));
    }
}
