//! The tables that can be hunted: a lake, Parquet of other tools, a raw trail, and records in memory.
//!
//! A [`Table`] is listed once for a range, as a [`Snapshot`]; the snapshot gives the records, and afterwards the
//! statistics of what was read.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;

use crate::engine::Engine;
use crate::engine::raw_table::RawScans;
use crate::error::{Error, Fault};
use crate::lake::transaction_log::VerifiedObjects;
use crate::rule::Rule;
use crate::statistics::ScanStatistics;
use crate::time::{Instant, Range};
use crate::trail::{ObjectDelivery, Prefilter};

mod coverage;
mod foreign;
mod lake;
mod memory;
mod raw;

pub use coverage::Coverage;
pub use lake::PartialLake;
pub use memory::MemoryTable;
pub use raw::{RawTrail, ReadProgress};

/// The kinds of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Parquet that this program wrote.
    Lake,
    /// Parquet that another tool wrote.
    Foreign,
    /// Objects as CloudTrail delivers them.
    Raw,
    /// Records in memory.
    Memory,
}

/// Records that can be hunted.
#[async_trait]
pub trait Table: fmt::Debug + Send + Sync {
    /// Returns the kind of the table.
    fn kind(&self) -> TableKind;

    /// Lists the files or objects that may hold records with a time in `range`.
    async fn snapshot(&self, range: Range) -> Result<Box<dyn Snapshot + '_>, Error>;

    /// Checks that the files of `range` have the fields that decide the findings of `rules`.
    ///
    /// # Errors
    /// A field is missing in all files, or no file can be read.
    async fn check(&self, _engine: &Engine, _rules: &[Rule], _range: Range) -> Result<(), Error> {
        Ok(())
    }

    /// Returns for each rule whether the files of `range` have the fields that it needs.
    async fn answerable(&self, _engine: &Engine, rules: &[Rule], _range: Range) -> Result<Vec<bool>, Error> {
        Ok(vec![true; rules.len()])
    }

    /// Returns the time before which records were dropped. `None` if none were.
    async fn retained_from(&self) -> Result<Option<Instant>, Error> {
        Ok(None)
    }

    /// Returns how many of the raw objects whose records may be in `range` digests verified. `None` if the table is not a lake, or
    /// if none of its objects is verified.
    async fn verified_objects(&self, _range: Range) -> Result<Option<VerifiedObjects>, Error> {
        Ok(None)
    }

    /// Excludes the file whose damage made a query fail with `error`. Returns whether the query may succeed now.
    fn exclude_damaged(&self, _error: &Error) -> bool {
        false
    }

    /// Explains why a result over `range` is empty. `read` are the scan statistics of that result.
    async fn coverage(&self, engine: &Engine, range: Range, read: &ScanStatistics) -> Result<Coverage, Error>;

    /// Returns a report about the files that were opened.
    fn report(&self) -> TableReport {
        TableReport::default()
    }
}

/// The files or objects of a table that may hold records of a range, listed at one time.
#[async_trait]
pub trait Snapshot: fmt::Debug + Send + Sync {
    /// Returns the size of the data to read.
    fn listing(&self) -> TableListing;

    /// Returns the accounts, regions and hours in the keys of objects. `None` if the table is not a raw trail.
    fn deliveries(&self) -> Option<Vec<ObjectDelivery<'_>>> {
        None
    }

    /// Returns the records of the accounts and regions that `engine` select. The result may include records outside
    /// the range, and may lack records that `prefilter` rejects.
    async fn records(&self, engine: &Engine, prefilter: Prefilter) -> Result<SnapshotRecords, Error>;

    /// Returns the scan statistics of `records`, which must come from this snapshot.
    fn statistics(&self, records: &SnapshotRecords) -> ScanStatistics;
}

/// The records of a snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotRecords {
    /// The records, with the columns of [`crate::event::schema`].
    pub provider: Arc<dyn TableProvider>,
    /// The size in bytes and the number of records of each Parquet file, if the files had to be opened.
    files: Vec<(u64, u64)>,
    /// The scans of a raw trail.
    raw_scans: Option<Arc<RawScans>>,
}

impl SnapshotRecords {
    /// Returns the statistics of the last scan of a raw trail.
    fn raw_statistics(&self) -> ScanStatistics {
        self.raw_scans.as_ref().map(|scans| scans.statistics()).unwrap_or_default()
    }
}

/// The objects or files to read for a range.
#[derive(Debug, Clone, Default)]
pub struct TableListing {
    /// The number of objects or files.
    pub objects: u64,
    /// Their total size. Of Parquet files only the needed columns and pages are read.
    pub bytes: u64,
    /// The estimated requests to the object store: one per raw object, five per Parquet file, and one per thousand
    /// keys.
    pub requests: Requests,
    /// The objects excluded by their keys, and listing failures.
    pub excluded: ScanStatistics,
}

/// Requests to S3 by price class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Reads of objects or byte ranges.
    pub get: u64,
    /// Listings of up to a thousand keys.
    pub list: u64,
}

/// One for the footer, one for the page index, and about three for ranges of columns.
const REQUESTS_OF_A_PARQUET_FILE: u64 = 5;

/// Dollars per thousand requests, S3 Standard in us-east-1: <https://aws.amazon.com/s3/pricing/>.
const DOLLARS_FOR_GETS: f64 = 0.0004;
const DOLLARS_FOR_LISTS: f64 = 0.005;

impl Requests {
    /// Returns the price of the requests in dollars. S3 does not charge for transfers within a region.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn dollars(self) -> f64 {
        self.get as f64 / 1e3 * DOLLARS_FOR_GETS + self.list as f64 / 1e3 * DOLLARS_FOR_LISTS
    }
}

impl TableListing {
    /// Returns the listing of files or objects with these sizes. Reading each takes `requests` requests.
    fn of_sizes(sizes: impl IntoIterator<Item = u64>, requests: u64) -> TableListing {
        let (mut objects, mut bytes) = (0, 0_u64);
        for size in sizes {
            objects += 1;
            bytes = bytes.saturating_add(size);
        }
        let requests = Requests { get: objects * requests, list: objects.div_ceil(1_000) };
        TableListing { objects, bytes, requests, excluded: ScanStatistics::default() }
    }
}

/// A report about the opened files of a table.
#[derive(Debug, Clone, Default)]
pub struct TableReport {
    /// The names of the table mappings with the number of files of each.
    pub layouts: Vec<(String, usize)>,
    /// The fields of `userIdentity` that the actor depends on and that the files lack.
    pub identity_lacks: Vec<&'static str>,
    /// Invalid UTF-8 sequences that were replaced.
    pub replaced_bytes: u64,
    /// The files that could not be read.
    pub faults: Vec<Fault>,
    /// The fields that rules need and some files lack: one sentence for each kind of file.
    pub notes: Vec<String>,
}

/// Runs `work`, and again without each damaged file of `table` that makes it fail.
///
/// # Errors
/// Those of `work`.
pub async fn without_damaged_files<T>(table: &dyn Table, work: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match work().await {
            Err(error) if table.exclude_damaged(&error) => {}
            result => return result,
        }
    }
}

/// Returns the records of `provider` in the selected accounts and regions.
fn selected(engine: &Engine, provider: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>, Error> {
    engine.selected(provider).map_err(|error| Error::query("the selected accounts and regions", error))
}

/// Returns the scan statistics of files with these sizes in bytes and numbers of records.
fn statistics_of(files: impl IntoIterator<Item = (u64, u64)>) -> ScanStatistics {
    let mut statistics = ScanStatistics::default();
    for (bytes, records) in files {
        statistics.objects.read += 1;
        statistics.objects.used += 1;
        statistics.records.read = statistics.records.read.saturating_add(records);
        statistics.records.used = statistics.records.used.saturating_add(records);
        statistics.stored_bytes = statistics.stored_bytes.saturating_add(bytes);
    }
    statistics
}
