//! A look at data before they are hunted: how much there is, of whom, from when to when, and what is missing between.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use serde::Serialize;

use crate::engine::Resources;
use crate::error::{Error, Fault};
use crate::query::{self, Query, QueryOutcome};
use crate::statistics::{Duplicates, ScanStatistics};
use crate::table::{Table, TableKind};
use crate::time::{self, DAY, Range};
use crate::trail::Delivery;

const HOUR: i64 = DAY / 24;

/// What data hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// `native` for a lake of this program, `raw`, or the layout of another tool.
    pub layout: String,
    /// Objects of a raw trail, or Parquet files.
    pub objects: u64,
    /// Their sizes together.
    pub bytes: u64,
    /// How many objects of a raw trail have names that tell account, region and day.
    pub telling_keys: Option<u64>,
    /// The records in them; not known of a raw trail that is not read.
    pub records: Option<u64>,
    /// Records beyond the first of each `eventID`, where records were read. They are among `records`.
    pub duplicates: Option<Duplicates>,
    /// Records without a time that can be read.
    pub without_time: Option<u64>,
    /// The earliest time of an event; of a raw trail that is not read, the first hour in which an object was delivered.
    pub first: Option<String>,
    /// The latest time, or the last hour, likewise.
    pub last: Option<String>,
    /// The accounts, in order.
    pub accounts: BTreeSet<String>,
    /// The regions, in order.
    pub regions: BTreeSet<String>,
    /// Days with anything, UTC.
    pub days: u64,
    /// Hours without anything of an account and region, between hours that have something.
    pub gaps: Vec<Gap>,
    /// What is no CloudTrail record, by kind.
    pub skipped: BTreeMap<String, u64>,
    /// What cannot be read.
    pub faults: Vec<Fault>,
}

/// A run of hours without anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The first hour of the gap.
    pub from: String,
    /// The hour in which there is something again.
    pub to: String,
    /// How many hours it is long.
    pub hours: u64,
}

/// An inspection, and what was read for it.
#[derive(Debug)]
pub struct InspectOutcome {
    /// What the table holds.
    pub inspection: Inspection,
    /// What was read; of a raw trail that is only listed, the objects that are left out because of their keys.
    pub read: ScanStatistics,
}

/// Inspects `table` within `range`. Records are read of all tables but raw trails, and of these if `reads_raw`: then
/// accounts, regions, days and hours are those of events, not of the keys of objects.
///
/// # Errors
/// The table cannot be listed or read.
pub async fn inspect(
    resources: &Resources,
    table: &dyn Table,
    range: Range,
    reads_raw: bool,
) -> Result<InspectOutcome, Error> {
    let mut hours = Hours::default();
    let snapshot = table.snapshot(range).await?;
    let listing = snapshot.listing();
    let mut inspection = Inspection {
        objects: listing.objects,
        bytes: listing.bytes,
        skipped: listing.left_out.objects.skipped.clone(),
        faults: listing.left_out.faults.clone(),
        ..Inspection::default()
    };
    let mut read = listing.left_out;
    let deliveries = snapshot.deliveries();
    inspection.telling_keys = deliveries.as_ref().map(|deliveries| deliveries.len() as u64);
    match deliveries {
        Some(deliveries) if !reads_raw => {
            for Delivery { account, region, hour } in deliveries {
                hours.add(Some(account), Some(region), hour);
            }
            inspection.first = hours.first().map(time::rfc3339);
            inspection.last = hours.last().map(time::rfc3339);
        }
        _ => read = inspection.read(resources, table, range, &mut hours).await?,
    }
    inspection.layout = match table.kind() {
        TableKind::Raw => "raw".to_owned(),
        TableKind::Lake | TableKind::Memory => "native".to_owned(),
        TableKind::Foreign => {
            let report = table.report();
            inspection.faults = report.faults;
            report.layouts.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
        }
    };
    hours.tell(&mut inspection);
    Ok(InspectOutcome { inspection, read })
}

impl Inspection {
    /// Reads the records of `table`, each `eventID` once.
    async fn read(
        &mut self,
        resources: &Resources,
        table: &dyn Table,
        range: Range,
        hours: &mut Hours,
    ) -> Result<ScanStatistics, Error> {
        let query = Query { sql: BY_HOUR, rule: None, range, with_duplicates: false };
        let QueryOutcome { answer, read } = query::run(resources, table, query).await?;
        let (mut records, mut without_time, mut ends) = (0, 0, Vec::new());
        for batch in &answer.rows {
            records += numbers(batch, 5).sum::<u64>();
            let times = |column: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>();
            let text = |column: usize, row: usize| {
                let texts = batch.column(column).as_string::<i32>();
                texts.is_valid(row).then(|| texts.value(row))
            };
            for (row, count) in numbers(batch, 5).enumerate() {
                if times(2).is_null(row) {
                    without_time += count;
                } else {
                    hours.add(text(0, row), text(1, row), times(2).value(row));
                    ends.extend([times(3).value(row), times(4).value(row)]);
                }
            }
        }
        let duplicates = answer.duplicates.unwrap_or_default();
        (self.records, self.without_time) = (Some(records + duplicates.left_out), Some(without_time));
        self.duplicates = Some(duplicates);
        self.first = ends.iter().min().copied().map(time::rfc3339);
        self.last = ends.iter().max().copied().map(time::rfc3339);
        Ok(read)
    }
}

/// The records of each account, region and hour.
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

fn numbers(batch: &RecordBatch, column: usize) -> impl Iterator<Item = u64> + '_ {
    batch
        .column(column)
        .as_primitive::<Int64Type>()
        .values()
        .iter()
        .map(|number| u64::try_from(*number).unwrap_or_default())
}

/// The hours in which there is something, by account and region.
#[derive(Default)]
struct Hours {
    by_place: BTreeMap<(String, String), BTreeSet<i64>>,
}

impl Hours {
    fn add(&mut self, account: Option<&str>, region: Option<&str>, hour: i64) {
        let place = (account.unwrap_or_default().to_owned(), region.unwrap_or_default().to_owned());
        self.by_place.entry(place).or_default().insert(hour);
    }

    fn first(&self) -> Option<i64> {
        self.by_place.values().filter_map(|hours| hours.first().copied()).min()
    }

    fn last(&self) -> Option<i64> {
        self.by_place.values().filter_map(|hours| hours.last().copied()).max()
    }

    fn tell(&self, inspection: &mut Inspection) {
        let days: BTreeSet<i64> = self.by_place.values().flatten().map(|hour| hour.div_euclid(DAY)).collect();
        inspection.days = days.len() as u64;
        for ((account, region), hours) in &self.by_place {
            inspection.accounts.extend((!account.is_empty()).then(|| account.clone()));
            inspection.regions.extend((!region.is_empty()).then(|| region.clone()));
            let ends = hours.iter().zip(hours.iter().skip(1));
            let gaps = ends.filter(|(before, after)| **after - **before > HOUR);
            inspection.gaps.extend(gaps.map(|(before, after)| Gap {
                account: account.clone(),
                region: region.clone(),
                from: time::rfc3339(before + HOUR),
                to: time::rfc3339(*after),
                hours: u64::try_from((after - before) / HOUR - 1).unwrap_or_default(),
            }));
        }
    }
}
