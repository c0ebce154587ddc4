//! The first event of each account, from which on its learning time runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, StringArray, TimestampMicrosecondArray};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::error::Error;
use crate::named_columns;
use crate::sql::{self, columns};
use crate::statistics::ScanStatistics;
use crate::table::{Table, without_damaged_files};
use crate::time::{EVENT_TIMES, Instant, Period, Range};
use crate::trail::Prefilter;

/// The time of the first event of each account in the data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStarts {
    accounts: BTreeMap<String, Instant>,
    /// That of the events without an account.
    none: Option<Instant>,
}

impl AccountStarts {
    /// Takes in the first events of more data.
    pub fn add(&mut self, other: AccountStarts) {
        for (account, start) in other.accounts {
            self.accounts.entry(account).and_modify(|known| *known = start.min(*known)).or_insert(start);
        }
        self.none = [self.none, other.none].into_iter().flatten().min();
    }

    /// Returns the earlier and the later first event of each account whose first event is another one than in `before`.
    pub fn moved_from(&self, before: &AccountStarts) -> Vec<(Instant, Instant)> {
        let accounts = before.accounts.iter().map(|(account, before)| (self.accounts.get(account).copied(), *before));
        let none = before.none.map(|before| (self.none, before));
        let both = accounts.chain(none).filter_map(|(now, before)| Some((now?, before)));
        both.filter(|(now, before)| now != before).map(|(now, before)| (now.min(before), now.max(before))).collect()
    }

    /// Returns the first event of an account. An account without any, whose first event came after the starts were read,
    /// learns for as long as events can be.
    pub(super) fn start(&self, account: Option<&str>) -> Instant {
        let start = match account {
            Some(account) => self.accounts.get(account).copied(),
            None => self.none,
        };
        start.unwrap_or(EVENT_TIMES.end)
    }

    /// For each account of `accounts` the time from which on something can be new in it.
    pub(super) fn learned_from(&self, accounts: &StringArray, learning: Period) -> TimestampMicrosecondArray {
        let learned = accounts.iter().map(|account| Some((self.start(account) + learning.micros()).micros()));
        learned.collect::<TimestampMicrosecondArray>().with_timezone("UTC")
    }
}

/// Reads the first event in `range` of each account, and the statistics of that reading.
///
/// # Errors
/// The table cannot be read.
pub async fn account_starts(
    engine: &Engine,
    table: &dyn Table,
    range: Range,
) -> Result<(AccountStarts, ScanStatistics), Error> {
    let failed = |error| Error::query("the first events of accounts", error);
    let attempt = async || {
        let snapshot = table.snapshot(range).await?;
        let records = snapshot.records(engine, Prefilter::default()).await?;
        let rows = engine
            .run("cloudtrail", Arc::clone(&records.provider), &sql::account_starts(range))
            .await
            .map_err(failed)?;
        let mut starts = AccountStarts::default();
        for batch in &rows {
            let accounts = named_columns::texts(batch, columns::ACCOUNT)?;
            let times = named_columns::times(batch, columns::ACCOUNT_START)?;
            for row in (0..batch.num_rows()).filter(|row| times.is_valid(*row)) {
                let time = Instant::from_micros(times.value(row));
                if accounts.is_valid(row) {
                    starts.accounts.insert(accounts.value(row).to_owned(), time);
                } else {
                    starts.none = Some(time);
                }
            }
        }
        Ok((starts, snapshot.statistics(&records)))
    };
    without_damaged_files(table, attempt).await
}
