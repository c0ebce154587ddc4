use clap::Args;

use crate::error::Error;
use crate::time::{self, Period, Range};

/// When findings were triggered.
#[derive(Debug, Args)]
pub(super) struct RangeArgs {
    /// Findings triggered at this time or later: a date or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    from: Option<i64>,
    /// Findings triggered before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    to: Option<i64>,
    /// Findings triggered within this long before now
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["from", "to"])]
    last: Option<Period>,
}

impl RangeArgs {
    pub(super) fn range(&self) -> Result<Range, Error> {
        let range = match self.last {
            None => Range { from: self.from, to: self.to },
            Some(last) => {
                #[expect(clippy::disallowed_methods, reason = "`--last` counts back from now")]
                let now = chrono::Utc::now().timestamp_micros();
                Range { from: Some(now - last.micros()), to: Some(now) }
            }
        };
        match (range.from, range.to) {
            (Some(from), Some(to)) if from >= to => Err(Error::usage("`--from` must lie before `--to`")),
            _ => Ok(range),
        }
    }
}
