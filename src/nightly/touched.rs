//! Which triggers a rule's findings may have that new events change.

use super::changes::Ledger;
use crate::lake::transaction_log::FileEntry;
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
/// share a window with them. Bursts that are known may reach further.
fn around(window: Window, (first, last): (i64, i64)) -> Range {
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

/// For new events in `spans`, which of `rules`, by their places, are to be hunted for which triggers. Rules share a
/// reading, but for those of which a burst is known that reaches out of it.
pub(super) fn readings(rules: &[&Rule], spans: &[(i64, i64)], known: &Ledger) -> Vec<(Vec<usize>, Range)> {
    let shared: Vec<Range> = spans
        .iter()
        .filter_map(|span| rules.iter().map(|rule| around(rule.window, *span)).reduce(Range::union))
        .collect();
    let shared = joined(shared);
    let mut readings: Vec<(Vec<usize>, Range)> = shared.iter().map(|range| (Vec::new(), *range)).collect();
    for (place, rule) in rules.iter().enumerate() {
        let own = joined(spans.iter().map(|span| with_bursts(rule, *span, known)).collect());
        if own.iter().all(|range| shared.iter().any(|shared| shared.union(*range) == *shared)) {
            readings.iter_mut().take(shared.len()).for_each(|(places, _)| places.push(place));
        } else {
            readings.extend(own.into_iter().map(|range| (vec![place], range)));
        }
    }
    readings.retain(|(places, _)| !places.is_empty());
    readings
}

/// What [`around`] gives, with the bursts that are known to reach into it.
fn with_bursts(rule: &Rule, span: (i64, i64), known: &Ledger) -> Range {
    let around = around(rule.window, span);
    let bursts = known.live(&rule.id).filter(|known| around.overlaps(known.first, known.last));
    bursts.fold(around, |range, known| range.union(Range { from: Some(known.first), to: Some(known.last + 1) }))
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
