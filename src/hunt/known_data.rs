//! The facts about all data that decide, besides the matches, which matches count.

use std::sync::Arc;

use arrow::array::Array as _;
use serde::{Deserialize, Serialize};

use super::account_starts::{self, AccountStarts};
use crate::engine::Engine;
use crate::engine::seen_keys::SeenKeys;
use crate::error::Error;
use crate::named_columns;
use crate::rule::{AbsenceSide, Setting};
use crate::sql::{self, columns};
use crate::statistics::ScanStatistics;
use crate::table::{Table, without_damaged_files};
use crate::time::{Instant, Range};
use crate::trail::Prefilter;

/// Facts about all data of a table.
#[derive(Debug, Clone, Default)]
pub struct KnownData {
    /// The first event of each account.
    pub starts: AccountStarts,
    /// The first and the last event. `None` if no rule needs them, or there are no events.
    pub event_times: Option<EventTimes>,
    /// The time before which records were dropped.
    pub retained_from: Option<Instant>,
    /// For each rule of the hunt the keys that were seen before a time, if they are known. Empty if none are.
    pub seen: Vec<Option<SeenKeys>>,
}

/// The times of the first and the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTimes {
    /// That of the first.
    pub first: Instant,
    /// That of the last.
    pub last: Instant,
}

impl EventTimes {
    /// Returns the times that cover all of `spans`, first to last time. `None` if there are none.
    pub fn of_spans(spans: impl IntoIterator<Item = (Instant, Instant)>) -> Option<EventTimes> {
        let times = spans.into_iter().map(|(first, last)| EventTimes { first, last });
        times.reduce(|all, other| EventTimes { first: all.first.min(other.first), last: all.last.max(other.last) })
    }
}

impl KnownData {
    /// Reads the facts that hunts of `table` with `settings` need. Returns the statistics of that reading, too.
    ///
    /// # Errors
    /// The table cannot be read.
    pub(super) async fn read(
        engine: &Engine,
        table: &dyn Table,
        settings: &[Setting],
    ) -> Result<(KnownData, Option<ScanStatistics>), Error> {
        // Only scans for matches run on a cluster.
        let engine = &engine.without_cluster();
        let (mut known, mut read) = (KnownData::default(), None);
        if settings.iter().any(|setting| setting.newness.is_some() || setting.absence.is_some()) {
            known.retained_from = table.retained_from().await?;
        }
        if settings.iter().any(Setting::has_learning) {
            let (starts, statistics) = account_starts::account_starts(engine, table, Range::default()).await?;
            (known.starts, read) = (starts, Some(statistics));
        }
        if settings.iter().any(|setting| setting.absence.is_some()) {
            let (times, statistics) = event_times(engine, table).await?;
            known.event_times = times;
            read = Some(read.map_or(statistics.clone(), |read| read.widened_by(statistics)));
        }
        Ok((known, read))
    }

    /// Returns the time before which it is known which keys of the rule with this index were seen.
    pub(super) fn seen_before(&self, rule: usize) -> Option<Instant> {
        Some(self.seen.get(rule)?.as_ref()?.before)
    }

    /// Returns the keys of the rule with this index that were seen before `read`, if they are known.
    pub(super) fn seen_keys(&self, rule: usize, read: Range) -> Option<&SeenKeys> {
        self.seen.get(rule)?.as_ref().filter(|seen| read.from == Some(seen.before))
    }

    /// Returns the times at which a match can be decided by a hunt with `setting` that reads the times in `read`: those for
    /// which its history, or its period of absence, lies within what was read. With `knows_seen`, it is known which keys were seen
    /// before `read`.
    pub(super) fn decided_times(&self, setting: Setting, read: Range, knows_seen: bool) -> Range {
        let start = read.from.max(self.retained_from);
        if let Some(newness) = setting.newness {
            let after_history = |start: Option<Instant>| start.map(|start| start + newness.history.micros());
            let from = if knows_seen { after_history(self.retained_from).max(read.from) } else { after_history(start) };
            return Range { from, to: None };
        }
        let period = setting.window.period.micros();
        match setting.absence {
            None => Range::default(),
            Some(AbsenceSide::Before) => {
                let first = start.max(self.event_times.map(|times| times.first));
                Range { from: first.map(|from| from + period), to: None }
            }
            Some(AbsenceSide::After) => {
                let end = [read.to, self.event_times.map(|times| times.last)].into_iter().flatten().min();
                // A later event at the very end of the period is outside of it.
                Range { from: None, to: end.map(|end| end - period + 1) }
            }
        }
    }
}

/// Reads the times of the first and the last event of `table`, and the statistics of that reading.
async fn event_times(engine: &Engine, table: &dyn Table) -> Result<(Option<EventTimes>, ScanStatistics), Error> {
    let failed = |error| Error::query("the times of all events", error);
    let attempt = async || {
        let snapshot = table.snapshot(Range::default()).await?;
        let records = snapshot.records(engine, Prefilter::default()).await?;
        let rows =
            engine.run("cloudtrail", Arc::clone(&records.provider), &sql::event_times()).await.map_err(failed)?;
        let mut spans = Vec::new();
        for batch in &rows {
            let first = named_columns::times(batch, columns::FIRST_EVENT)?;
            let last = named_columns::times(batch, columns::LAST_EVENT)?;
            let valid = (0..batch.num_rows()).filter(|row| first.is_valid(*row) && last.is_valid(*row));
            spans.extend(valid.map(|row| [first.value(row), last.value(row)].map(Instant::from_micros)));
        }
        let times = EventTimes::of_spans(spans.into_iter().map(|[first, last]| (first, last)));
        Ok((times, snapshot.statistics(&records)))
    };
    without_damaged_files(table, attempt).await
}
