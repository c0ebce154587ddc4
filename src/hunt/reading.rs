//! What a hunt would read, told before it reads it.

use super::{Data, Reach};
use crate::error::Error;
use crate::rule::Rule;
use crate::tally::Tally;
use crate::time::Range;

/// What is read of data: objects of a raw trail, or Parquet files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// How many.
    pub objects: u64,
    /// Their sizes together. Of Parquet only the columns and pages that are needed are read.
    pub bytes: u64,
    /// Requests to a store that it takes, estimated: one for each raw object and each thousand keys listed,
    /// and five for a Parquet file.
    pub requests: Requests,
}

/// Requests by the prices that S3 has for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Objects or parts of them are read.
    pub get: u64,
    /// Keys are listed.
    pub list: u64,
}

/// The footer, the page index, and the columns in about three runs.
const REQUESTS_OF_A_FILE: u64 = 5;

/// Dollars for a thousand requests, S3 Standard in us-east-1: <https://aws.amazon.com/s3/pricing/>.
const DOLLARS_FOR_GETS: f64 = 0.0004;
const DOLLARS_FOR_LISTS: f64 = 0.005;

impl Requests {
    /// What S3 charges for them, in dollars; it charges nothing for bytes within a region.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn dollars(self) -> f64 {
        self.get as f64 / 1e3 * DOLLARS_FOR_GETS + self.list as f64 / 1e3 * DOLLARS_FOR_LISTS
    }
}

/// Returns the range that a hunt for `rules` reads first for findings in `range`. Long bursts make it read more.
pub fn initial(rules: &[Rule], range: Range) -> Range {
    rules.iter().map(|rule| Reach::first(rule.window).around(range)).reduce(Range::union).unwrap_or(range)
}

/// What there is to read of `data` for events with a time in `read`, or of a raw trail what its last reading read.
pub async fn tally(data: &Data, read: Range) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let files: Vec<(u64, u64)> = match data {
        Data::Lake(lake) => {
            let files = lake.files(read).await?;
            for file in &files {
                tally.spans(file.time_span());
            }
            files.into_iter().map(|file| (file.bytes, file.records)).collect()
        }
        Data::Columnar(columnar) => {
            tally.replaced_bytes = columnar.replaced();
            columnar.opened_files(read).await?
        }
        Data::Raw(trail) => return Ok(trail.read()),
        Data::Memory(batches) => batches.iter().map(|batch| (0, batch.num_rows() as u64)).collect(),
    };
    for (bytes, records) in files {
        tally.objects.read += 1;
        tally.objects.used += 1;
        tally.records.read += records;
        tally.records.used += records;
        tally.stored_bytes += bytes;
    }
    if let Data::Columnar(columnar) = data {
        for fault in columnar.faults() {
            tally.objects.read += 1;
            tally.objects.rejected += 1;
            tally.fault(fault);
        }
    }
    Ok(tally)
}

/// What a hunt for `rules` in `range` reads of `data`, where no burst is so long that more is needed.
pub async fn reading(data: &Data, rules: &[Rule], range: Range) -> Result<Reading, Error> {
    let read = initial(rules, range);
    let (sizes, of_each): (Vec<u64>, u64) = match data {
        Data::Lake(lake) => (lake.files(read).await?.into_iter().map(|file| file.bytes).collect(), REQUESTS_OF_A_FILE),
        Data::Columnar(columnar) => (columnar.sizes(read), REQUESTS_OF_A_FILE),
        Data::Raw(trail) => (trail.find(read).await?.objects.into_iter().map(|object| object.size).collect(), 1),
        Data::Memory(_) => (Vec::new(), 0),
    };
    let objects = sizes.len() as u64;
    let requests = Requests { get: objects * of_each, list: objects.div_ceil(1_000) };
    Ok(Reading { objects, bytes: sizes.into_iter().sum(), requests })
}
