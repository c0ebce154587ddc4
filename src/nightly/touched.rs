//! Which triggers a rule's findings may have that new events change.

use super::changes::Ledger;
use crate::lake::ledger::FileEntry;
use crate::rule::{Rule, Window, WindowKind};
use crate::time::{DAY, Range};

/// Times of new events, from the first to the last; what lies less than a day apart is one.
pub(super) fn spans(files: &[FileEntry]) -> Vec<(i64, i64)> {
    let mut times: Vec<(i64, i64)> = files.iter().filter_map(FileEntry::time_span).collect();
    times.sort_unstable();
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for (first, last) in times {
        match spans.last_mut() {
            Some(span) if first <= span.1 + DAY => span.1 = span.1.max(last),
            _ => spans.push((first, last)),
        }
    }
    spans
}

/// The triggers that findings with `window` may have that hold, or would hold, events of `span` or matches that
/// share a window with them. Bursts that reach further are not told of by it: [`with_bursts`] adds them.
pub(super) fn around(window: Window, (first, last): (i64, i64)) -> Range {
    let period = window.period.micros();
    match window.kind {
        WindowKind::Sliding => Range { from: Some(first - period), to: Some(last + period + 1) },
        // An event may open a window before those that followed, and so move all up to the next pause.
        WindowKind::Dedup => Range { from: Some(first - period), to: None },
        WindowKind::Tumbling => {
            let begin = |instant: i64| instant.div_euclid(period) * period;
            Range { from: Some(begin(first)), to: Some(begin(last) + period) }
        }
    }
}

/// What [`around`] gives for all of `rules`, with the bursts that are known to reach into it; ranges that meet are one.
pub(super) fn with_bursts(rules: &[Rule], spans: &[(i64, i64)], known: &Ledger) -> Vec<Range> {
    let mut ranges = Vec::new();
    for span in spans {
        let of_rule = |rule: &Rule| {
            let around = around(rule.window, *span);
            let bursts = known.live(&rule.id).filter(|known| around.overlaps(known.first, known.last));
            bursts.fold(around, |range, known| range.union(Range { from: Some(known.first), to: Some(known.last + 1) }))
        };
        ranges.extend(rules.iter().map(of_rule).reduce(Range::union));
    }
    joined(ranges)
}

fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by_key(|range| range.from);
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.to.is_none_or(|to| range.from.is_none_or(|from| from <= to)) => {
                *last = last.union(range);
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_lie_apart_are_hunted_apart() {
        let file = |first, last| FileEntry {
            path: String::new(),
            bytes: 0,
            records: 1,
            first_event: Some(first),
            last_event: Some(last),
        };
        assert_eq!(
            spans(&[file(5 * DAY, 6 * DAY), file(0, 10), file(DAY, DAY + 5)]),
            [(0, DAY + 5), (5 * DAY, 6 * DAY)]
        );
        let range = |from, to| Range { from: Some(from), to };
        let ranges = vec![range(30, None), range(0, Some(10)), range(10, Some(20)), range(50, Some(60))];
        assert_eq!(joined(ranges), [range(0, Some(20)), range(30, None)]);
    }
}
