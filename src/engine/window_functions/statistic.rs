//! A window function that compares a statistic of the numbers in a window with limits.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

use super::{StatefulWindowFunction, WindowState, known_time_in, parts_of, period_in, period_type, text_in};
use crate::event;
use crate::rule::statistic::{PARTS_OF_ONE, StatisticCondition};

/// Returns the function.
pub(super) fn function() -> StatefulWindowFunction {
    let takes = vec![DataType::Utf8, event::time_type(), period_type(), DataType::Utf8];
    StatefulWindowFunction::new("statistic_within", takes, DataType::Float64, || Box::<StatisticWithin>::default())
}

/// `statistic_within(value, time, period, 'average > 500')`: the statistic of the numbers in the rows so far that are less than
/// a period older than this one, and in this one. Null if it is beyond the limits, or if there is no number. Rounded down to
/// millionths; the limits apply to the exact number.
#[derive(Debug, Default)]
struct StatisticWithin {
    condition: Option<StatisticCondition>,
    recent: VecDeque<(i64, i128)>,
    sum: i128,
    ranks: Ranks,
}

impl WindowState for StatisticWithin {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        let condition = match self.condition {
            Some(condition) => condition,
            None => match text_in(&arguments[3], row)?.map(str::parse::<StatisticCondition>) {
                Some(Ok(condition)) => *self.condition.insert(condition),
                Some(Err(error)) => return exec_err!("{error}"),
                None => return exec_err!("the statistic must not be null"),
            },
        };
        let percentage = condition.statistic.percentage();
        while let Some((_, old)) = self.recent.pop_front_if(|(then, _)| time.saturating_sub(*then) >= period) {
            self.sum -= old;
            if percentage.is_some() {
                self.ranks.remove(old);
            }
        }
        if let Some(number) = text_in(&arguments[0], row)?.and_then(parts_of) {
            self.recent.push_back((time, number));
            self.sum += number;
            if percentage.is_some() {
                self.ranks.insert(number);
            }
        }
        let value = match percentage {
            Some(percentage) => self.ranks.percentile(percentage),
            None => i128::try_from(self.recent.len()).ok().filter(|count| *count > 0).map(|count| (self.sum, count)),
        };
        let value = value.filter(|(numerator, denominator)| condition.holds(*numerator, *denominator));
        // The nearest double of a decimal with up to six places.
        #[expect(clippy::cast_precision_loss, reason = "it is shown, and not compared")]
        let shown =
            value.map(|(numerator, denominator)| numerator.div_euclid(denominator) as f64 / PARTS_OF_ONE as f64);
        Ok(ScalarValue::Float64(shown))
    }
}

/// Numbers in order, divided at one of them.
#[derive(Debug, Default)]
struct Ranks {
    /// How often each of the lower numbers occurs. None is greater than one of the others.
    lower: BTreeMap<i128, usize>,
    lower_count: usize,
    upper: BTreeMap<i128, usize>,
    upper_count: usize,
}

impl Ranks {
    fn insert(&mut self, number: i128) {
        let is_lower = self.lower.last_key_value().is_some_and(|(greatest, _)| number <= *greatest);
        if is_lower {
            add(&mut self.lower, &mut self.lower_count, number);
        } else {
            add(&mut self.upper, &mut self.upper_count, number);
        }
    }

    /// Removes one of the numbers.
    fn remove(&mut self, number: i128) {
        if self.lower.contains_key(&number) {
            take(&mut self.lower, &mut self.lower_count, number);
        } else {
            take(&mut self.upper, &mut self.upper_count, number);
        }
    }

    /// Returns a percentile as numerator and denominator. `None` if there are no numbers.
    ///
    /// From one row to the next it moves by few ranks.
    fn percentile(&mut self, percentage: u8) -> Option<(i128, i128)> {
        let last = (self.lower_count + self.upper_count).checked_sub(1)?;
        let hundredths = last * usize::from(percentage);
        let (rank, rest) = (hundredths / 100, hundredths % 100);
        while self.lower_count > rank + 1 {
            let greatest = *self.lower.last_key_value()?.0;
            take(&mut self.lower, &mut self.lower_count, greatest);
            add(&mut self.upper, &mut self.upper_count, greatest);
        }
        while self.lower_count < rank + 1 {
            let next = *self.upper.first_key_value()?.0;
            take(&mut self.upper, &mut self.upper_count, next);
            add(&mut self.lower, &mut self.lower_count, next);
        }
        let below = *self.lower.last_key_value()?.0;
        if rest == 0 {
            return Some((below, 1));
        }
        let above = *self.upper.first_key_value()?.0;
        let rest = i128::try_from(rest).ok()?;
        Some((below * (100 - rest) + above * rest, 100))
    }
}

fn add(numbers: &mut BTreeMap<i128, usize>, count: &mut usize, number: i128) {
    *numbers.entry(number).or_default() += 1;
    *count += 1;
}

fn take(numbers: &mut BTreeMap<i128, usize>, count: &mut usize, number: i128) {
    if let Some(times) = numbers.get_mut(&number) {
        *times -= 1;
        *count -= 1;
        if *times == 0 {
            numbers.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_numbers(
            steps in prop::collection::vec((0i128..9, any::<bool>(), 0u8..=100), 1..60),
        ) {
            let (mut ranks, mut numbers) = (Ranks::default(), VecDeque::new());
            for (number, removes, percentage) in steps {
                ranks.insert(number);
                numbers.push_back(number);
                if removes && let Some(old) = numbers.pop_front() {
                    ranks.remove(old);
                }
                let mut sorted: Vec<i128> = numbers.iter().copied().collect();
                sorted.sort_unstable();
                let expected = sorted.len().checked_sub(1).map(|last| {
                    let at = last * usize::from(percentage);
                    let (below, rest) = (sorted[at / 100], i128::try_from(at % 100).unwrap());
                    let above = sorted[(at / 100 + 1).min(last)];
                    100 * below + (above - below) * rest
                });
                let found = ranks.percentile(percentage);
                prop_assert_eq!(found.map(|(numerator, denominator)| numerator * (100 / denominator)), expected);
            }
        }
    }
}
