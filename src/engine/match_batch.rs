//! Batches of matches, whose columns are known by what they mean.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray, RecordBatch, StringArray};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::internal_err;
use datafusion::error::Result;

use super::window_functions::event_kinds_type;
use super::{empty_columns, matcher};
use crate::event;
use crate::sql::expression::Expression;
use crate::sql::match_spec::{EventColumn, MatchSpec, ValueId};
use crate::time::Instant;

/// The columns of the matches of one scan: those of [`EventColumn`], the scan's values, and a flag for each rule.
#[derive(Debug)]
pub struct MatchSchema {
    arrow: SchemaRef,
    values: usize,
}

impl MatchSchema {
    /// The columns that a scan for `spec` computes.
    pub fn new(spec: &MatchSpec) -> MatchSchema {
        let time = event::time_type();
        let events = EventColumn::ALL.map(|column| {
            let data_type = if column == EventColumn::Time { time.clone() } else { DataType::Utf8 };
            Field::new(column.name(), data_type, true)
        });
        let values = spec.values.iter().enumerate().map(|(index, value)| {
            let data_type = match value {
                Expression::Booleans(_) => event_kinds_type(),
                _ => DataType::Utf8,
            };
            Field::new(format!("value.{index}"), data_type, true)
        });
        let flags = (0..spec.rules.len()).map(|rule| Field::new(format!("matches.{rule}"), DataType::Boolean, false));
        let fields: Vec<Field> = events.into_iter().chain(values).chain(flags).collect();
        MatchSchema { arrow: Arc::new(Schema::new(fields)), values: spec.values.len() }
    }

    /// The Arrow schema.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// Returns `batch` as a batch of this schema.
    ///
    /// # Errors
    /// It has other columns.
    pub fn wrap(self: &Arc<MatchSchema>, batch: RecordBatch) -> Result<MatchBatch> {
        if batch.schema_ref().fields() != self.arrow.fields() {
            return internal_err!("a batch of other columns than those of the matches");
        }
        Ok(MatchBatch { schema: Arc::clone(self), batch, first: 0 })
    }

    /// Returns the rows of a batch of this schema that any rule matches; `None` where there are none.
    ///
    /// # Errors
    /// The batch has other columns.
    pub(super) fn matches_in(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let flags = batch.columns().iter().skip(EventColumn::ALL.len() + self.values);
        let flags: Vec<BooleanArray> = flags.map(|flags| flags.as_boolean().clone()).collect();
        let any = matcher::any(&flags, batch.num_rows())?;
        Ok(match any.true_count() {
            0 => None,
            count if count == batch.num_rows() => Some(batch.clone()),
            _ => Some(empty_columns::filter(batch, &any)?),
        })
    }

    /// Puts columns together to a batch of this schema. Columns of text may be string views.
    pub(super) fn assemble(&self, events: &[ArrayRef], values: &[ArrayRef], flags: &[ArrayRef]) -> Result<RecordBatch> {
        let columns = events.iter().chain(values).chain(flags).zip(self.arrow.fields());
        let columns = columns.map(|(column, field)| empty_columns::cast(column, field.data_type()));
        Ok(RecordBatch::try_new(Arc::clone(&self.arrow), columns.collect::<Result<_, _>>()?)?)
    }
}

/// Matches of one or more rules.
#[derive(Debug, Clone)]
pub struct MatchBatch {
    schema: Arc<MatchSchema>,
    batch: RecordBatch,
    /// The number of the first match: 0 in batches that were not read from a buffer.
    first: u64,
}

impl MatchBatch {
    /// How many matches there are.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the batch whose first match has the number `first`.
    pub(super) fn numbered(self, first: u64) -> MatchBatch {
        MatchBatch { first, ..self }
    }

    /// Returns the number of the match in `row`. Matches of one buffer have different numbers. A filtered or copied batch has new
    /// ones.
    pub fn number(&self, row: usize) -> u64 {
        self.first + row as u64
    }

    /// Returns the row of the match with this number, if it is in the batch.
    pub fn row_of(&self, number: u64) -> Option<u32> {
        let row = number.checked_sub(self.first)?;
        u32::try_from(row).ok().filter(|_| row < self.len() as u64)
    }

    /// A column that every match has.
    pub fn event(&self, column: EventColumn) -> &ArrayRef {
        let index = EventColumn::ALL.iter().position(|known| *known == column).unwrap_or_default();
        self.batch.column(index)
    }

    /// Returns the time of the match in `row`.
    pub fn time(&self, row: usize) -> Instant {
        Instant::from_micros(self.event(EventColumn::Time).as_primitive::<TimestampMicrosecondType>().value(row))
    }

    /// A column of text that every match has.
    pub fn event_texts(&self, column: EventColumn) -> &StringArray {
        self.event(column).as_string()
    }

    /// A value of the scan: text, or a list of the kinds of events that the match is.
    pub fn value(&self, id: ValueId) -> &ArrayRef {
        self.batch.column(EventColumn::ALL.len() + id.index())
    }

    /// Which matches are those of the rule with this index in the scan.
    pub fn matches_of(&self, rule: usize) -> &BooleanArray {
        self.batch.column(EventColumn::ALL.len() + self.schema.values + rule).as_boolean()
    }

    /// Returns the rows with fewer matches of some rules, which are given by their indexes in the scan. A match stays where all flags
    /// of its rule are set. `None` where no rule matches any row.
    ///
    /// # Errors
    /// There are fewer rules or rows.
    pub(super) fn only_matches_of(
        &self,
        rules: impl IntoIterator<Item = (usize, BooleanArray)>,
    ) -> Result<Option<MatchBatch>> {
        let mut columns = self.batch.columns().to_vec();
        for (rule, matches) in rules {
            let Some(column) = columns.get_mut(EventColumn::ALL.len() + self.schema.values + rule) else {
                return internal_err!("matches of a rule that was not scanned");
            };
            *column = Arc::new(compute::and(column.as_boolean(), &matches)?);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema.arrow), columns)?;
        let matched = self.schema.matches_in(&batch)?;
        matched.map(|batch| self.schema.wrap(batch)).transpose()
    }

    /// Of the matches `length` from `offset` on, without a copy. They keep their numbers.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> MatchBatch {
        let batch = self.batch.slice(offset, length);
        MatchBatch { schema: Arc::clone(&self.schema), batch, first: self.number(offset) }
    }

    /// The columns without their meaning.
    pub fn into_record_batch(self) -> RecordBatch {
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use arrow::array::new_null_array;

    use super::*;
    use crate::rule::catalog;
    use crate::time::Range;

    #[test]
    fn columns_are_found_by_what_they_mean_and_others_are_refused() {
        let rule = catalog::default().unwrap();
        let spec = MatchSpec::new(&[&rule, &rule], Range::default());
        let schema = Arc::new(MatchSchema::new(&spec));
        let text = |text: String| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![7]).with_timezone("UTC"));
        let texts = EventColumn::ALL.into_iter().skip(1).map(|column| text(column.name().to_owned()));
        let events: Vec<ArrayRef> = std::iter::once(time).chain(texts).collect();
        let values: Vec<ArrayRef> = (0..spec.values.len()).map(|index| text(index.to_string())).collect();
        let flags = [false, true].map(|flag| Arc::new(BooleanArray::from(vec![flag])) as ArrayRef).to_vec();
        let batch = schema.wrap(schema.assemble(&events, &values, &flags).unwrap()).unwrap();
        assert_eq!((batch.time(0).micros(), batch.len()), (7, 1));
        assert_eq!(batch.event_texts(EventColumn::Region).value(0), "awsRegion");
        for id in spec.rules[0].columns.iter().chain(&spec.call) {
            assert_eq!(batch.value(*id).as_string::<i32>().value(0), id.index().to_string());
        }
        assert_eq!([0, 1].map(|rule| batch.matches_of(rule).value(0)), [false, true]);
        let ten = compute::concat_batches(schema.arrow(), &vec![batch.clone().into_record_batch(); 10]).unwrap();
        let numbered = schema.wrap(ten).unwrap().numbered(40).slice(3, 2);
        assert_eq!([0, 1].map(|row| numbered.number(row)), [43, 44]);
        assert_eq!([42, 43, 44, 45].map(|number| numbered.row_of(number)), [None, Some(0), Some(1), None]);
        let other = Arc::new(MatchSchema::new(&MatchSpec::new(&[&rule], Range::default())));
        assert!(other.wrap(batch.into_record_batch()).is_err());
        let nulls = RecordBatch::try_from_iter([("n", new_null_array(&DataType::Utf8, 1))]).unwrap();
        assert!(schema.wrap(nulls).is_err());
    }
}
