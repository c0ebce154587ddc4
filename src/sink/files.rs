//! Findings as files: one for each run and date, in folders as Hive names them.

use std::collections::BTreeMap;

use super::{Delivery, FileFormat, Line, instant, jsonl, ocsf_lines, parquet};
use crate::error::Error;
use crate::store::{Location, Stores};
use crate::time;

/// A folder of files.
pub(super) struct Files {
    to: Location,
    format: FileFormat,
    stores: Stores,
}

impl Files {
    pub(super) fn open(name: &str, to: &str, format: FileFormat, stores: &Stores) -> Result<Files, Error> {
        let to = Location::of(to);
        let nowhere = match &to {
            Location::Disk(path) => path.as_os_str().is_empty(),
            Location::S3 { bucket, .. } => bucket.is_empty(),
        };
        if nowhere {
            return Err(Error::usage(format!(
                "the sink `{name}` has no folder: give `to` a path or s3://BUCKET/PREFIX"
            )));
        }
        Ok(Files { to, format, stores: stores.clone() })
    }

    /// Writes a file for each date on which findings were triggered, UTC. A run that is delivered again writes
    /// the same files.
    pub(super) async fn deliver(&self, delivery: &Delivery<'_>) -> Result<(), Error> {
        let mut dates: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for line in delivery.lines {
            dates.entry(time::utc_date(instant(line, "trigger_time")?)).or_default().push(line.clone());
        }
        let folder = self.stores.folder(&self.to).await?;
        for (date, lines) in dates {
            let (bytes, end) = match self.format {
                FileFormat::Jsonl => (jsonl(&lines)?, "jsonl"),
                FileFormat::Parquet => (parquet::encode(&lines)?, "parquet"),
                FileFormat::Ocsf => (ocsf_lines(&lines)?, "ocsf.jsonl"),
            };
            folder.put(&format!("date={date}/run-{:08}-{}.{end}", delivery.run, delivery.of), bytes).await?;
        }
        Ok(())
    }
}
