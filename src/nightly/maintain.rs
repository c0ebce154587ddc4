//! Maintains the lake at the end of a nightly run.

use super::Storage;
use crate::error::Error;
use crate::lake::maintenance::{Maintenance, MaintenanceSummary};
use crate::time::{DAY, Instant};

/// How long after it could be deleted to look for a removed file, in microseconds.
const VACUUM_LOOKBACK: i64 = 30 * DAY;

/// How a nightly run maintains the lake.
#[derive(Debug, Clone, Copy)]
pub struct MaintenanceSettings {
    /// Whether to merge the small files of old days.
    pub merge_small_files: bool,
    /// How long after its end a day is merged, in microseconds.
    pub merge_after: i64,
    /// Memory for a merge, in bytes.
    pub memory: usize,
    /// Age of the days to drop, in microseconds; `None` to keep all.
    pub retain: Option<i64>,
    /// How long to keep removed files for readers of earlier versions, in microseconds.
    pub keep_old: i64,
}

impl MaintenanceSettings {
    /// Drops and merges old days, then vacuums. On an error, `summary` still says what was done.
    pub(super) async fn run(
        &self,
        storage: Storage<'_>,
        now: Instant,
        summary: &mut MaintenanceSummary,
    ) -> Result<(), Error> {
        if !self.merge_small_files && self.retain.is_none() {
            return Ok(());
        }
        let mut maintenance = Maintenance::open(storage.lake, now, storage.scratch).await?;
        let result = self.apply(&mut maintenance, now).await;
        *summary = maintenance.summary;
        result
    }

    async fn apply(&self, maintenance: &mut Maintenance<'_>, now: Instant) -> Result<(), Error> {
        if let Some(retain) = self.retain {
            maintenance.drop_older_than(retain).await?;
        }
        if self.merge_small_files {
            maintenance.merge(now - self.merge_after, self.memory).await?;
        }
        let until = now - self.keep_old;
        maintenance.vacuum_removed(until - VACUUM_LOOKBACK, until).await
    }
}
