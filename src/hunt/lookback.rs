//! The lookback and lookahead of a hunt, and the loop that widens them until all findings are decided.

use crate::error::Error;
use crate::rule::{Rule, Setting, WindowKind};
use crate::time::{DAY, Instant, Range};

/// The longest lookback, in microseconds. Beyond it all earlier events are read.
const MAX_LOOKBACK: i64 = 1_000 * DAY;

/// The time to read before and after a range to decide its findings, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReadMargin {
    /// `None` for all earlier events.
    lookback: Option<i64>,
    lookahead: i64,
    /// Before the lookback, what shows which of its matches count.
    earlier: i64,
    /// The time before which it is known which keys were seen. From then on nothing earlier is read.
    seen_before: Option<Instant>,
    /// After the lookahead, what shows which of its matches count.
    later: i64,
}

impl ReadMargin {
    /// Returns a margin that suffices in most cases.
    fn initial(setting: Setting) -> ReadMargin {
        let period = setting.window.period.micros();
        let lookahead = match setting.window.kind {
            // A burst may continue after the range.
            WindowKind::Sliding => DAY.max(2 * period),
            WindowKind::Dedup | WindowKind::Tumbling => period,
        };
        let (earlier, later) = (setting.decided_by_earlier(), setting.decided_by_later());
        ReadMargin { lookback: Some(lookback_of(setting)), lookahead, earlier, later, seen_before: None }
    }

    /// Returns a margin four times as long. Beyond [`MAX_LOOKBACK`] it covers all earlier events.
    fn widened(self) -> ReadMargin {
        let lookback = self.lookback.map(|lookback| lookback.saturating_mul(4));
        ReadMargin {
            lookback: lookback.filter(|lookback| *lookback < MAX_LOOKBACK),
            lookahead: self.lookahead.saturating_mul(4),
            ..self
        }
    }

    fn around(self, range: Range) -> Range {
        let from = range.from.zip(self.lookback).map(|(from, lookback)| from - lookback);
        let from = match (from, self.seen_before) {
            (Some(from), Some(before)) if from >= before => Some(before),
            (from, _) => from.map(|from| from - self.earlier),
        };
        Range { from, to: range.to.map(|to| to + self.lookahead + self.later) }
    }
}

/// Returns how long before a range a hunt reads first to decide the windows in it, in microseconds.
pub fn lookback_of(setting: Setting) -> i64 {
    let period = setting.window.period.micros();
    match setting.window.kind {
        // Windows are exact from one period after the start of the read range. The other period shows whether a burst was
        // already triggered before the range.
        WindowKind::Sliding => 2 * period,
        // The start of a window depends on the windows before it, back to a pause of one period.
        WindowKind::Dedup => DAY.max(4 * period),
        WindowKind::Tumbling => period,
    }
}

/// Returns the range that a hunt with `settings` reads first for findings in `range`. Long bursts widen it.
pub(super) fn initial_range(settings: impl IntoIterator<Item = Setting>, range: Range) -> Range {
    let reads = settings.into_iter().map(|setting| ReadMargin::initial(setting).around(range));
    reads.reduce(Range::union).unwrap_or(range)
}

/// Returns the range that a hunt with `rules` reads first for findings in `range`. Long bursts widen it.
pub fn initial_range_of(rules: &[Rule], range: Range) -> Range {
    initial_range(rules.iter().map(Rule::setting), range)
}

/// The result of reading one set of ranges.
pub(super) struct Attempt<T> {
    pub(super) result: T,
    /// The indexes of the settings that need a wider range.
    pub(super) undecided: Vec<usize>,
}

/// Calls `attempt` with the range to read for each of `settings`. Repeats it with wider ranges for undecided settings
/// until all are decided. `seen_before` are the times before which it is known, for a setting, which keys were seen.
///
/// # Errors
/// Those of `attempt`.
pub(super) async fn read_until_decided<T>(
    settings: &[Setting],
    seen_before: &[Option<Instant>],
    range: Range,
    mut attempt: impl AsyncFnMut(&[Range]) -> Result<Attempt<T>, Error>,
) -> Result<T, Error> {
    let mut margins: Vec<ReadMargin> = settings.iter().copied().map(ReadMargin::initial).collect();
    for (margin, before) in margins.iter_mut().zip(seen_before) {
        margin.seen_before = *before;
    }
    loop {
        let reads: Vec<Range> = margins.iter().map(|margin| margin.around(range)).collect();
        let Attempt { result, undecided } = attempt(&reads).await?;
        if undecided.is_empty() {
            return Ok(result);
        }
        for index in undecided {
            margins[index] = margins[index].widened();
        }
    }
}

/// Returns whether a burst may continue after `read`. `last_events` are the times of the last event of each burst. One
/// within a period of the end of the matches that `read` decides may continue.
pub(super) fn is_cut(setting: Setting, mut last_events: impl Iterator<Item = Instant>, read: Range) -> bool {
    let near = setting.window.period.micros() + setting.decided_by_later();
    let is_near = |end: Instant| last_events.any(|last| last >= end - near);
    setting.window.kind == WindowKind::Sliding && read.to.is_some_and(is_near)
}
