//! The newest event of each account and region.

use std::collections::BTreeMap;

use arrow::array::Array as _;

use crate::engine::Engine;
use crate::error::Error;
use crate::event::EVENT_TIME;
use crate::named_columns;
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
        let accounts = named_columns::texts(batch, "account")?;
        let regions = named_columns::texts(batch, "region")?;
        let times = named_columns::times(batch, EVENT_TIME)?;
        for row in 0..batch.num_rows() {
            if times.is_valid(row) {
                let name = format!("{}/{}", accounts.value(row), regions.value(row));
                newest.insert(name, Instant::from_micros(times.value(row)));
            }
        }
    }
    Ok(newest)
}
