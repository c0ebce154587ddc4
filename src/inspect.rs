//! Describes the contents of a table: its size, accounts, regions and time span, and the gaps between its events.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use serde::Serialize;

use crate::engine::Engine;
use crate::error::{Error, Fault};
use crate::lake::transaction_log::VerifiedObjects;
use crate::named_columns;
use crate::query::{self, Query, QueryOutcome};
use crate::statistics::{Duplicates, ScanStatistics};
use crate::table::{Table, TableKind};
use crate::time::{DAY, Instant, Range};
use crate::trail::ObjectDelivery;

const HOUR: i64 = DAY / 24;

/// The contents of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// `native` for a lake of this program, `raw` for a raw trail, or the table mappings of foreign Parquet.
    pub layout: String,
    /// The version of the table, if it has versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The number of raw objects or Parquet files.
    pub objects: u64,
    /// Their total size.
    pub bytes: u64,
    /// The number of raw objects whose keys contain the account, region and hour. `None` for other tables.
    pub telling_keys: Option<u64>,
    /// The number of records. `None` for a raw trail that was only listed.
    pub records: Option<u64>,
    /// Records beyond the first of each `eventID`. They are included in `records`. `None` if no records were read.
    pub duplicates: Option<Duplicates>,
    /// Records without a readable time.
    pub without_time: Option<u64>,
    /// The time of the earliest event. For a raw trail that was only listed, the hour of the first delivery.
    pub first: Option<String>,
    /// The time of the latest event or the hour of the last delivery.
    pub last: Option<String>,
    /// The accounts.
    pub accounts: BTreeSet<String>,
    /// The regions.
    pub regions: BTreeSet<String>,
    /// The number of days (UTC) with events or deliveries.
    pub days: u64,
    /// The gaps of each account and region.
    pub gaps: Vec<Gap>,
    /// How many of the converted objects digests verified. `None` if none is verified, and for other tables than lakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_objects: Option<VerifiedObjects>,
    /// Objects that are not CloudTrail logs, by kind.
    pub skipped: BTreeMap<String, u64>,
    /// Read failures.
    pub faults: Vec<Fault>,
}

/// Consecutive hours without events of an account and region, between hours with events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The first hour of the gap.
    pub from: String,
    /// The next hour with events.
    pub to: String,
    /// The length in hours.
    pub hours: u64,
}

/// An inspection and its scan statistics.
#[derive(Debug)]
pub struct InspectOutcome {
    /// The contents of the table.
    pub inspection: Inspection,
    /// The scan statistics. For a raw trail that was only listed, the objects excluded by their keys.
    pub read: ScanStatistics,
}

/// Inspects `table` within `range`.
///
/// Raw trails are only listed unless `reads_raw` is set. Then accounts, regions and hours come from the keys of objects
/// instead of from events.
///
/// # Errors
/// The table cannot be listed or read.
pub async fn inspect(
    engine: &Engine,
    table: &dyn Table,
    range: Range,
    reads_raw: bool,
) -> Result<InspectOutcome, Error> {
    let mut hours = ActiveHours::default();
    let snapshot = table.snapshot(range).await?;
    let listing = snapshot.listing();
    let mut inspection = Inspection {
        objects: listing.objects,
        bytes: listing.bytes,
        skipped: listing.excluded.objects.skipped.clone(),
        faults: listing.excluded.faults.clone(),
        ..Inspection::default()
    };
    let mut read = listing.excluded;
    let deliveries = snapshot.deliveries();
    inspection.telling_keys = deliveries.as_ref().map(|deliveries| deliveries.len() as u64);
    match deliveries {
        Some(deliveries) if !reads_raw => {
            for ObjectDelivery { account, region, hour } in deliveries {
                hours.add(Some(account), Some(region), hour);
            }
            inspection.first = hours.first().map(String::from);
            inspection.last = hours.last().map(String::from);
        }
        _ => read = inspection.read(engine, table, range, &mut hours).await?,
    }
    inspection.version = read.table_version;
    inspection.verified_objects = table.verified_objects(range).await?;
    inspection.layout = match table.kind() {
        TableKind::Raw => "raw".to_owned(),
        TableKind::Memory => "native".to_owned(),
        TableKind::Lake => {
            inspection.faults = table.report().faults;
            "native".to_owned()
        }
        TableKind::Foreign => {
            let report = table.report();
            inspection.faults = report.faults;
            report.layouts.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
        }
    };
    hours.add_to(&mut inspection);
    Ok(InspectOutcome { inspection, read })
}

impl Inspection {
    /// Reads the records of `table`, without duplicates.
    async fn read(
        &mut self,
        engine: &Engine,
        table: &dyn Table,
        range: Range,
        hours: &mut ActiveHours,
    ) -> Result<ScanStatistics, Error> {
        let query = Query { sql: BY_HOUR, rule: None, range, with_duplicates: false };
        let QueryOutcome { answer, read } = query::run(engine, table, query).await?;
        let (mut records, mut without_time, mut times) = (0, 0, Vec::new());
        for batch in &answer.rows {
            let (accounts, regions) = (texts(batch, "account")?, texts(batch, "region")?);
            let (by_hour, first, last) =
                (instants(batch, "hour")?, instants(batch, "first")?, instants(batch, "last")?);
            let counts = named_columns::integers(batch, "records")?;
            for (row, count) in counts.values().iter().enumerate() {
                let count = u64::try_from(*count).unwrap_or_default();
                records += count;
                match by_hour[row] {
                    None => without_time += count,
                    Some(hour) => hours.add(accounts[row], regions[row], hour),
                }
                times.extend(first[row].into_iter().chain(last[row]));
            }
        }
        let duplicates = answer.duplicates.unwrap_or_default();
        (self.records, self.without_time) = (Some(records + duplicates.left_out), Some(without_time));
        self.duplicates = Some(duplicates);
        self.first = times.iter().min().copied().map(String::from);
        self.last = times.iter().max().copied().map(String::from);
        Ok(read)
    }
}

/// Counts the records of each account, region and hour.
const BY_HOUR: &str = r#"
SELECT
  coalesce("recipientAccountId", "userIdentity.accountId") AS account,
  "awsRegion" AS region,
  date_trunc('hour', "eventTime") AS hour,
  min("eventTime") AS first,
  max("eventTime") AS last,
  count(*) AS records
FROM cloudtrail
GROUP BY 1, 2, 3
"#;

fn texts<'b>(batch: &'b RecordBatch, name: &str) -> Result<Vec<Option<&'b str>>, Error> {
    Ok(named_columns::texts(batch, name)?.iter().collect())
}

fn instants(batch: &RecordBatch, name: &str) -> Result<Vec<Option<Instant>>, Error> {
    Ok(named_columns::times(batch, name)?.iter().map(|time| time.map(Instant::from_micros)).collect())
}

/// The hours with events or deliveries, by account and region.
#[derive(Default)]
struct ActiveHours {
    by_account_and_region: BTreeMap<(String, String), BTreeSet<Instant>>,
}

impl ActiveHours {
    fn add(&mut self, account: Option<&str>, region: Option<&str>, hour: Instant) {
        let key = (account.unwrap_or_default().to_owned(), region.unwrap_or_default().to_owned());
        self.by_account_and_region.entry(key).or_default().insert(hour);
    }

    fn first(&self) -> Option<Instant> {
        self.by_account_and_region.values().filter_map(|hours| hours.first().copied()).min()
    }

    fn last(&self) -> Option<Instant> {
        self.by_account_and_region.values().filter_map(|hours| hours.last().copied()).max()
    }

    /// Adds days, accounts, regions and gaps to `inspection`.
    fn add_to(&self, inspection: &mut Inspection) {
        let days: BTreeSet<i64> = self.by_account_and_region.values().flatten().map(|hour| hour.days()).collect();
        inspection.days = days.len() as u64;
        for ((account, region), hours) in &self.by_account_and_region {
            inspection.accounts.extend((!account.is_empty()).then(|| account.clone()));
            inspection.regions.extend((!region.is_empty()).then(|| region.clone()));
            let pairs = hours.iter().zip(hours.iter().skip(1));
            let gaps = pairs.filter(|(before, after)| **after - **before > HOUR);
            inspection.gaps.extend(gaps.map(|(before, after)| Gap {
                account: account.clone(),
                region: region.clone(),
                from: (*before + HOUR).to_string(),
                to: after.to_string(),
                hours: u64::try_from((*after - *before) / HOUR - 1).unwrap_or_default(),
            }));
        }
    }
}
