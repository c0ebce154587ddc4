//! The newest event of each account and region.

use std::collections::BTreeMap;

use arrow::array::{Array as _, AsArray as _};
use arrow::compute;
use arrow::datatypes::{DataType, TimestampMicrosecondType};

use crate::engine::Engine;
use crate::error::Error;
use crate::event::EVENT_TIME;
use crate::sql;
use crate::table::Table;
use crate::time::{Instant, Range};
use crate::trail::Prefilter;

/// Returns the time of the newest event in `read` by `account/region`. A missing account or region is empty.
pub async fn newest_events(
    engine: &Engine,
    table: &dyn Table,
    read: Range,
) -> Result<BTreeMap<String, Instant>, Error> {
    let failed = |error| Error::query("the newest events", error);
    let records = table.snapshot(read).await?.records(engine, Prefilter::default()).await?;
    let rows = engine.run("cloudtrail", records.provider, &sql::newest(read)?).await.map_err(failed)?;
    let mut newest = BTreeMap::new();
    for batch in &rows {
        let missing = || Error::Internal("the query for the newest events returned other columns".to_owned());
        let texts = |name: &str| {
            let column = batch.column_by_name(name).ok_or_else(missing)?;
            compute::cast(column, &DataType::Utf8).map_err(|error| Error::Internal(error.to_string()))
        };
        let (accounts, regions) = (texts("account")?, texts("region")?);
        let (accounts, regions) = (accounts.as_string::<i32>(), regions.as_string::<i32>());
        let times = batch.column_by_name(EVENT_TIME).ok_or_else(missing)?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(missing)?;
        for row in 0..batch.num_rows() {
            if times.is_valid(row) {
                let name = format!("{}/{}", accounts.value(row), regions.value(row));
                newest.insert(name, Instant::from_micros(times.value(row)));
            }
        }
    }
    Ok(newest)
}
