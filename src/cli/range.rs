use clap::Args;

use crate::error::Error;
use crate::time::{Instant, Period, Range};

/// The range that a finding's trigger time must be in.
#[derive(Debug, Args)]
#[command(next_help_heading = super::RANGE)]
pub(super) struct RangeArgs {
    /// Only findings triggered at or after this time: a date or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    from: Option<Instant>,
    /// Only findings triggered before this time
    #[arg(long, value_name = "TIME")]
    to: Option<Instant>,
    /// Only findings triggered in the last 24h, 7d, …
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["from", "to"])]
    last: Option<Period>,
}

/// The times of the events that a command selects.
#[derive(Debug, Args)]
pub(super) struct EventRangeArgs {
    /// Only events at or after this time
    #[arg(long, value_name = "TIME", help_heading = super::RANGE)]
    from: Option<Instant>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", help_heading = super::RANGE)]
    to: Option<Instant>,
    /// Only events of the last 24h, 7d, …
    #[arg(long, value_name = "PERIOD", help_heading = super::RANGE, conflicts_with_all = ["from", "to"])]
    last: Option<Period>,
}

impl EventRangeArgs {
    /// Returns the range.
    ///
    /// # Errors
    /// It is empty.
    pub(super) fn range(&self) -> Result<Range, Error> {
        bounds(self.from, self.to, self.last)
    }
}

/// Returns the range between two times, or the last period before now.
///
/// # Errors
/// It is empty.
fn bounds(from: Option<Instant>, to: Option<Instant>, last: Option<Period>) -> Result<Range, Error> {
    match last {
        None => ordered(from, to),
        Some(last) => {
            let now = super::now();
            ordered(Some(now - last.micros()), Some(now))
        }
    }
}

/// Returns the range between two times.
///
/// # Errors
/// It is empty.
pub(super) fn ordered(from: Option<Instant>, to: Option<Instant>) -> Result<Range, Error> {
    match (from, to) {
        (Some(from), Some(to)) if from >= to => Err(Error::usage("`--from` must be before `--to`")),
        _ => Ok(Range { from, to }),
    }
}

impl RangeArgs {
    pub(super) fn range(&self) -> Result<Range, Error> {
        bounds(self.from, self.to, self.last)
    }
}
