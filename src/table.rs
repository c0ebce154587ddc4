//! What can be hunted, behind one interface: a lake, Parquet of other tools, a raw trail, records in memory.
//!
//! A [`Table`] is listed once for a range, as a [`Snapshot`]; the snapshot gives the records, and afterwards the
//! statistics of what was read.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;

use crate::engine::Resources;
use crate::engine::raw_table::RawScans;
use crate::error::{Error, Fault};
use crate::rule::Rule;
use crate::statistics::ScanStatistics;
use crate::time::Range;
use crate::trail::{Delivery, Prefilter};

mod coverage;
mod foreign;
mod lake;
mod memory;
mod raw;

pub use coverage::Coverage;
pub use memory::MemoryTable;
pub use raw::{Progress, RawTrail};

/// What a table is made of.
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
    /// Returns what the table is made of.
    fn kind(&self) -> TableKind;

    /// Lists the files or objects that may hold records with a time in `range`.
    async fn snapshot(&self, range: Range) -> Result<Box<dyn Snapshot + '_>, Error>;

    /// Checks that the files of `range` have what decides the findings of `rules`.
    ///
    /// # Errors
    /// No file has a field that a rule needs, or none can be read.
    async fn check(&self, _resources: &Resources, _rules: &[Rule], _range: Range) -> Result<(), Error> {
        Ok(())
    }

    /// Returns for each rule whether the files of `range` have the fields that it needs.
    async fn answerable(&self, _resources: &Resources, rules: &[Rule], _range: Range) -> Result<Vec<bool>, Error> {
        Ok(vec![true; rules.len()])
    }

    /// Excludes the file whose damage made a query fail with `error`. Returns whether the query may succeed now.
    fn exclude_damaged(&self, _error: &Error) -> bool {
        false
    }

    /// Explains why a result over `range` is empty. `read` is what was read for it.
    async fn coverage(&self, resources: &Resources, range: Range, read: &ScanStatistics) -> Result<Coverage, Error>;

    /// Returns what is known of the files that were opened.
    fn report(&self) -> TableReport {
        TableReport::default()
    }
}

/// The files or objects of a table that may hold records of a range, listed at one time.
#[async_trait]
pub trait Snapshot: fmt::Debug + Send + Sync {
    /// Returns what there is to read.
    fn listing(&self) -> Listing;

    /// Returns the accounts, regions and hours that object keys show; `None` where a table has no such keys.
    fn deliveries(&self) -> Option<Vec<Delivery<'_>>> {
        None
    }

    /// Returns the records of the accounts and regions that `resources` select. Records outside the range may be among
    /// them. Records that `prefilter` does not admit may be missing.
    async fn records(&self, resources: &Resources, prefilter: Prefilter) -> Result<Records, Error>;

    /// Returns what was read of `records`, which this snapshot gave.
    fn statistics(&self, records: &Records) -> ScanStatistics;
}

/// The records of a snapshot.
#[derive(Debug, Clone)]
pub struct Records {
    /// The records, with the columns of [`crate::event::schema`].
    pub provider: Arc<dyn TableProvider>,
    /// The sizes in bytes and the numbers of records of the Parquet files that hold them, where those had to be opened.
    files: Vec<(u64, u64)>,
    /// The passes over raw objects, where they are read from such.
    passes: Option<Arc<RawScans>>,
}

impl Records {
    /// What the last pass over raw objects read.
    fn raw_statistics(&self) -> ScanStatistics {
        self.passes.as_ref().map(|passes| passes.statistics()).unwrap_or_default()
    }
}

/// What there is to read for a range: objects of a raw trail, or Parquet files.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Number of objects or files.
    pub objects: u64,
    /// Their sizes together. Of Parquet only the columns and pages that are needed are read.
    pub bytes: u64,
    /// Estimated requests to a store: one for each raw object and each thousand keys listed, five for a Parquet file.
    pub requests: Requests,
    /// Objects that are not read because of their keys, and those that could not be listed.
    pub left_out: ScanStatistics,
}

/// Requests by the prices that S3 has for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Reads of objects or parts of them.
    pub get: u64,
    /// Listings of keys.
    pub list: u64,
}

/// The footer, the page index, and the columns in about three runs.
const REQUESTS_OF_A_PARQUET_FILE: u64 = 5;

/// Dollars for a thousand requests, S3 Standard in us-east-1: <https://aws.amazon.com/s3/pricing/>.
const DOLLARS_FOR_GETS: f64 = 0.0004;
const DOLLARS_FOR_LISTS: f64 = 0.005;

impl Requests {
    /// Returns what S3 charges for the requests, in dollars. It charges nothing for bytes within a region.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn dollars(self) -> f64 {
        self.get as f64 / 1e3 * DOLLARS_FOR_GETS + self.list as f64 / 1e3 * DOLLARS_FOR_LISTS
    }
}

impl Listing {
    /// The listing of files or objects of these sizes, each of which takes `requests` to read.
    fn of_sizes(sizes: impl IntoIterator<Item = u64>, requests: u64) -> Listing {
        let (mut objects, mut bytes) = (0, 0);
        for size in sizes {
            objects += 1;
            bytes += size;
        }
        let requests = Requests { get: objects * requests, list: objects.div_ceil(1_000) };
        Listing { objects, bytes, requests, left_out: ScanStatistics::default() }
    }
}

/// What is known of the files of a table that were opened.
#[derive(Debug, Clone, Default)]
pub struct TableReport {
    /// The names of their mappings, and the number of files that each has.
    pub layouts: Vec<(String, usize)>,
    /// The members of `userIdentity` that decide who acted and that the files lack.
    pub identity_lacks: Vec<&'static str>,
    /// Invalid UTF-8 sequences that were replaced.
    pub replaced_bytes: u64,
    /// The files that could not be read.
    pub faults: Vec<Fault>,
    /// What some files do not have and rules need: one sentence for each kind of file.
    pub notes: Vec<String>,
}

/// Runs `work`, and runs it again for each damaged file of `table` that made it fail, without that file.
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

/// The records of `provider` that the queries see.
fn selected(resources: &Resources, provider: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>, Error> {
    resources.selected(provider).map_err(|error| Error::query("the selected accounts and regions", error))
}

/// The statistics of files that were read, by bytes and records.
fn of_files(files: impl IntoIterator<Item = (u64, u64)>) -> ScanStatistics {
    let mut statistics = ScanStatistics::default();
    for (bytes, records) in files {
        statistics.objects.read += 1;
        statistics.objects.used += 1;
        statistics.records.read += records;
        statistics.records.used += records;
        statistics.stored_bytes += bytes;
    }
    statistics
}
