//! Writes findings to files, one per run and date, in Hive partitions.

use std::collections::BTreeMap;

use super::{Delivery, FileFormat, Line, instant, jsonl, ocsf_lines, parquet};
use crate::error::Error;
use crate::store::{Location, Stores};

/// A sink that writes files below a folder.
pub(super) struct FileSink {
    to: Location,
    format: FileFormat,
    stores: Stores,
}

impl FileSink {
    pub(super) fn open(name: &str, to: &str, format: FileFormat, stores: &Stores) -> Result<FileSink, Error> {
        let to = Location::of(to);
        let is_empty = match &to {
            Location::Disk(path) => path.as_os_str().is_empty(),
            Location::S3 { bucket, .. } => bucket.is_empty(),
        };
        if is_empty {
            return Err(Error::usage(format!("sink `{name}`: `to` is empty; set it to a path or s3://BUCKET/PREFIX")));
        }
        Ok(FileSink { to, format, stores: stores.clone() })
    }

    /// Writes one file per UTC date of `trigger_time`. A repeated delivery overwrites the same files.
    pub(super) async fn deliver(&self, delivery: &Delivery<'_>) -> Result<(), Error> {
        let mut dates: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for line in delivery.lines {
            dates.entry(instant(line, "trigger_time")?.utc_date()).or_default().push(line.clone());
        }
        let folder = self.stores.folder(&self.to).await?;
        for (date, lines) in dates {
            let (bytes, extension) = match self.format {
                FileFormat::Jsonl => (jsonl(&lines)?, "jsonl"),
                FileFormat::Parquet => (parquet::encode(&lines)?, "parquet"),
                FileFormat::Ocsf => (ocsf_lines(&lines)?, "ocsf.jsonl"),
            };
            folder.put(&format!("date={date}/run-{:08}-{}.{extension}", delivery.run, delivery.origin), bytes).await?;
        }
        Ok(())
    }
}
