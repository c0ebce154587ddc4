//! How much is read around a range, and the one loop that reads more where that was too little.

use crate::error::Error;
use crate::rule::{Rule, Window, WindowKind};
use crate::time::{DAY, Range};

/// How far back a pause is looked for before the whole past is read, in microseconds.
const FAR_BACK: i64 = 1_000 * DAY;

/// How much is read before and after a range to decide its findings, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lookback {
    /// Everything before the range where there is none.
    back: Option<i64>,
    ahead: i64,
}

impl Lookback {
    /// What suffices in most cases.
    fn initial(window: Window) -> Lookback {
        let period = window.period.micros();
        match window.kind {
            // Windows are exact one period after the reading begins. The period before that shows whether a burst
            // was triggered before the range. A burst may go on after the range.
            WindowKind::Sliding => Lookback { back: Some(2 * period), ahead: DAY.max(2 * period) },
            // When a window opened depends on the ones before it, back to a pause.
            WindowKind::Dedup => Lookback { back: Some(DAY.max(4 * period)), ahead: period },
            WindowKind::Tumbling => Lookback { back: Some(period), ahead: period },
        }
    }

    /// Four times as much; all of the past beyond [`FAR_BACK`].
    fn widened(self) -> Lookback {
        Lookback {
            back: self.back.map(|back| back.saturating_mul(4)).filter(|back| *back < FAR_BACK),
            ahead: self.ahead.saturating_mul(4),
        }
    }

    fn around(self, range: Range) -> Range {
        let from = range.from.zip(self.back).map(|(from, back)| from.saturating_sub(back));
        Range { from, to: range.to.map(|to| to.saturating_add(self.ahead)) }
    }
}

/// Returns the range that a hunt with `windows` reads first for findings in `range`. Long bursts make it read more.
pub(super) fn initial_range(windows: impl IntoIterator<Item = Window>, range: Range) -> Range {
    let reads = windows.into_iter().map(|window| Lookback::initial(window).around(range));
    reads.reduce(Range::union).unwrap_or(range)
}

/// Returns the range that a hunt for `rules` reads first for findings in `range`. Long bursts make it read more.
pub fn initial_range_of(rules: &[Rule], range: Range) -> Range {
    initial_range(rules.iter().map(|rule| rule.window), range)
}

/// The result of one reading.
pub(super) struct Attempt<T> {
    pub(super) result: T,
    /// The indexes of the windows for which more must be read.
    pub(super) undecided: Vec<usize>,
}

/// Calls `attempt` with the range to read for each of `windows`, and again with wider ranges for those that are undecided,
/// until all are decided.
///
/// # Errors
/// Those of `attempt`.
pub(super) async fn read_until_decided<T>(
    windows: &[Window],
    range: Range,
    mut attempt: impl AsyncFnMut(&[Range]) -> Result<Attempt<T>, Error>,
) -> Result<T, Error> {
    let mut lookbacks: Vec<Lookback> = windows.iter().map(|window| Lookback::initial(*window)).collect();
    loop {
        let reads: Vec<Range> = lookbacks.iter().map(|lookback| lookback.around(range)).collect();
        let Attempt { result, undecided } = attempt(&reads).await?;
        if undecided.is_empty() {
            return Ok(result);
        }
        for index in undecided {
            lookbacks[index] = lookbacks[index].widened();
        }
    }
}

/// Whether a burst may go on after what was read: one of those that end at `ends` reaches to within a period of the
/// end of `read`.
pub(super) fn is_cut(window: Window, mut ends: impl Iterator<Item = i64>, read: Range) -> bool {
    let near = |end: i64| ends.any(|last| last >= end - window.period.micros());
    window.kind == WindowKind::Sliding && read.to.is_some_and(near)
}
