//! Computes the ranges of triggers that new events may affect.

use super::changes::KnownFindings;
use crate::hunt::known_data::EventTimes;
use crate::lake::transaction_log::FileEntry;
use crate::rule::{Absence, AbsenceSide, NewnessPeriods, Rule, Window, WindowKind};
use crate::time::{DAY, Instant, Period, Range};

/// Returns the spans of new events, first to last time. Spans less than a day apart are merged.
pub(super) fn new_event_spans(files: &[FileEntry]) -> Vec<(Instant, Instant)> {
    let mut times: Vec<(Instant, Instant)> = files.iter().filter_map(FileEntry::time_span).collect();
    times.sort_unstable();
    let mut spans: Vec<(Instant, Instant)> = Vec::new();
    for (first, last) in times {
        match spans.last_mut() {
            Some(span) if first <= span.1 + DAY => span.1 = span.1.max(last),
            _ => spans.push((first, last)),
        }
    }
    spans
}

/// Returns the triggers of findings with `window` that events of `span` may affect. A known burst may extend the range.
fn affected_range(window: Window, (first, last): (Instant, Instant)) -> Range {
    let period = window.period.micros();
    match window.kind {
        WindowKind::Sliding => Range { from: Some(first - period), to: Some(last + period + 1) },
        // A new event may open an earlier window, which moves all later windows up to the next pause.
        WindowKind::Dedup => Range { from: Some(first - period), to: None },
        WindowKind::Tumbling => {
            Range { from: Some(first.rounded_down(period)), to: Some(last.rounded_down(period) + period) }
        }
    }
}

/// New events, and what they change for rules that do not count all matches.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewEvents<'n> {
    /// The spans of the events, first to last time.
    pub(super) spans: &'n [(Instant, Instant)],
    /// For each account whose first event is another one than before: the earlier and the later of both.
    pub(super) moved_starts: &'n [(Instant, Instant)],
    /// The first and the last event in the lake before and now, if both are known.
    pub(super) moved_times: Option<(EventTimes, EventTimes)>,
}

impl NewEvents<'_> {
    /// Returns the spans of the matches of a rule that may differ: new events, what they make no longer new or no longer lone,
    /// what is no longer in a learning time, and what is no longer open.
    fn changed_spans(&self, rule: &Rule) -> Vec<(Instant, Instant)> {
        if let Some(Absence { side, .. }) = rule.absence {
            return self.spans_of_lone_matches(side, rule.window.period.micros());
        }
        let Some(NewnessPeriods { history, learning }) = rule.setting().newness else {
            return self.spans.to_vec();
        };
        let seen = self.spans.iter().map(|(first, last)| (*first, *last + history.micros()));
        let learned = |learning: Period| {
            self.moved_starts.iter().map(move |(first, last)| (*first + learning.micros(), *last + learning.micros()))
        };
        seen.chain(learning.into_iter().flat_map(learned)).collect()
    }

    /// As [`NewEvents::changed_spans`], for matches on whose `side` other events must be absent for `period` microseconds.
    fn spans_of_lone_matches(&self, side: AbsenceSide, period: i64) -> Vec<(Instant, Instant)> {
        let near = |(first, last): &(Instant, Instant)| match side {
            AbsenceSide::Before => (*first, *last + period),
            AbsenceSide::After => (*first - period, *last),
        };
        let decided = self.moved_times.and_then(|(before, now)| match side {
            AbsenceSide::Before => {
                let (first, last) = (before.first.min(now.first), before.first.max(now.first));
                (first < last).then(|| (first, last + period))
            }
            AbsenceSide::After => {
                let (first, last) = (before.last.min(now.last), before.last.max(now.last));
                (first < last).then(|| (first - period, last))
            }
        });
        self.spans.iter().map(near).chain(decided).collect()
    }
}

/// Returns which of `rules`, by index, to hunt for which triggers, given new events.
///
/// Rules share ranges. A rule with a known burst that extends beyond a shared range gets ranges of its own.
pub(super) fn affected_ranges(
    rules: &[&Rule],
    events: NewEvents<'_>,
    known: &KnownFindings,
) -> Vec<(Vec<usize>, Range)> {
    let affected = |rule: &&Rule| -> Vec<Range> {
        events.changed_spans(rule).into_iter().map(|span| affected_range(rule.window, span)).collect()
    };
    let shared = merged(rules.iter().flat_map(affected).collect());
    let mut hunts: Vec<(Vec<usize>, Range)> = shared.iter().map(|range| (Vec::new(), *range)).collect();
    for (index, rule) in rules.iter().enumerate() {
        let own =
            merged(events.changed_spans(rule).into_iter().map(|span| range_with_bursts(rule, span, known)).collect());
        if own.iter().all(|range| shared.iter().any(|shared| shared.union(*range) == *shared)) {
            hunts.iter_mut().take(shared.len()).for_each(|(indices, _)| indices.push(index));
        } else {
            hunts.extend(own.into_iter().map(|range| (vec![index], range)));
        }
    }
    hunts.retain(|(indices, _)| !indices.is_empty());
    hunts
}

/// Returns [`affected_range`], extended by the known bursts that overlap it.
fn range_with_bursts(rule: &Rule, span: (Instant, Instant), known: &KnownFindings) -> Range {
    let range = affected_range(rule.window, span);
    let bursts = known.live(&rule.id).filter(|known| range.overlaps(known.first, known.last));
    bursts.fold(range, |range, known| range.union(Range { from: Some(known.first), to: Some(known.last + 1) }))
}

fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by_key(|range| range.from);
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.to.is_none_or(|to| range.from.is_none_or(|from| from <= to)) => {
                *last = last.union(range);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::checksum::MetadataChecksum;

    #[test]
    fn distant_times_are_hunted_separately() {
        let file = |first, last| FileEntry {
            path: String::new(),
            bytes: 0,
            records: 1,
            first_event: Some(Instant::from_micros(first)),
            last_event: Some(Instant::from_micros(last)),
            checksum: MetadataChecksum::of(0, b""),
        };
        let spans = new_event_spans(&[file(5 * DAY, 6 * DAY), file(0, 10), file(DAY, DAY + 5)]);
        let at = Instant::from_micros;
        assert_eq!(spans, [(at(0), at(DAY + 5)), (at(5 * DAY), at(6 * DAY))]);
        let range = |from, to: Option<i64>| Range { from: Some(at(from)), to: to.map(at) };
        let ranges = vec![range(30, None), range(0, Some(10)), range(10, Some(20)), range(50, Some(60))];
        assert_eq!(merged(ranges), [range(0, Some(20)), range(30, None)]);
    }
}
