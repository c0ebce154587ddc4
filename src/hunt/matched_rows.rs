//! The rows of the table `matched`: for each rule the buffered records that it matches, built as the query reads them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, IntervalMonthDayNanoArray, RecordBatch, StringArray};
use arrow::compute::FilterBuilder;
use arrow::datatypes::{IntervalMonthDayNano, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{TryStreamExt as _, stream};

use crate::engine::{BATCH_ROWS, MatchBuffer, functions, matcher};
use crate::rule::Window;
use crate::sql::candidates::Candidates;
use crate::time::Range;

/// What the rows of some rules are made from.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) rules: Vec<OfRule>,
    /// How many expressions the scan computed.
    pub(super) expressions: usize,
    /// How many columns the table has for groups, for what is told, and for what is listed: as many as the rule that
    /// needs most.
    pub(super) groups: usize,
    pub(super) values: usize,
    pub(super) lists: usize,
    pub(super) schema: SchemaRef,
}

/// A rule, by the numbers of the expressions that it needs.
#[derive(Debug)]
pub(super) struct OfRule {
    /// Its number among all rules of the scan.
    pub(super) number: usize,
    pub(super) window: Window,
    /// The times that its hunt reads.
    pub(super) read: Range,
    pub(super) group: Vec<usize>,
    pub(super) told: Vec<usize>,
    pub(super) listed: Vec<usize>,
    /// What it counts distinct values of.
    pub(super) counted: Option<usize>,
}

impl Rows {
    /// The rows of all rules in a batch of the scan, in batches of about [`BATCH_ROWS`] at most.
    fn of(self: Arc<Rows>, batch: RecordBatch) -> impl Iterator<Item = Result<RecordBatch, DataFusionError>> + Send {
        (0..self.rules.len()).flat_map(move |place| {
            let (rows, batch) = (Arc::clone(&self), batch.clone());
            let pieces =
                matcher::flags(rows.expressions, &batch, rows.rules[place].number).true_count().div_ceil(BATCH_ROWS);
            let length = batch.num_rows().div_ceil(pieces.max(1));
            let piece = move |piece| {
                let start = piece * length;
                rows.of_rule(place, &batch.slice(start, length.min(batch.num_rows() - start)))
            };
            (0..pieces).map(piece)
        })
    }

    fn of_rule(&self, place: usize, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let rule = &self.rules[place];
        let flags = matcher::flags(self.expressions, batch, rule.number);
        let flags = FilterBuilder::new(&super::within(batch.column(0), flags, rule.read)?).optimize().build();
        let found = |column: usize| flags.filter(batch.column(column));
        let value = |expression: &usize| found(Candidates::OWN.len() + expression);
        let own = (0..Candidates::OWN.len()).map(found).collect::<Result<Vec<_>, _>>()?;
        let group = rule.group.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let told = rule.told.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let listed = rule.listed.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let counted = rule.counted.as_ref().map(value).transpose()?;

        // As in the query of one rule: all that is computed for a match.
        let computed = group.iter().chain(&told).chain(&listed).chain(&counted).chain(&own[2..]);
        let fingerprints = functions::fingerprints(&computed.cloned().collect::<Vec<_>>())?;

        let rows = own[0].len();
        let nothing = || Arc::new(StringArray::new_null(rows)) as ArrayRef;
        let constant = |number: i64| Arc::new(Int64Array::from_value(number, rows)) as ArrayRef;
        let period = IntervalMonthDayNano::new(0, 0, rule.window.period.micros() * 1_000);
        let mut columns = vec![
            constant(i64::try_from(place).unwrap_or_default()),
            constant(rule.window.threshold.get().into()),
            Arc::new(IntervalMonthDayNanoArray::from_value(period, rows)),
            Arc::new(fingerprints),
            counted.unwrap_or_else(nothing),
        ];
        columns.extend(own);
        for (count, values) in [(self.groups, group), (self.values, told), (self.lists, listed)] {
            columns.extend(values.into_iter().chain(std::iter::repeat_with(nothing)).take(count));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Returns the rows of all batches in `buffer`, in `count` streams.
    pub(super) fn streams(self: &Arc<Rows>, buffer: &Arc<MatchBuffer>, count: usize) -> Vec<Arc<dyn PartitionStream>> {
        let share = |number| Share { rows: Arc::clone(self), buffer: Arc::clone(buffer), number, count };
        (0..count).map(|number| Arc::new(share(number)) as Arc<dyn PartitionStream>).collect()
    }
}

/// One of the streams.
#[derive(Debug)]
struct Share {
    rows: Arc<Rows>,
    buffer: Arc<MatchBuffer>,
    number: usize,
    count: usize,
}

impl PartitionStream for Share {
    fn schema(&self) -> &SchemaRef {
        &self.rows.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = Arc::clone(&self.rows);
        let batches = self.buffer.partition(self.number, self.count);
        let batches = batches.map_ok(move |batch| stream::iter(Arc::clone(&rows).of(batch))).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.rows.schema), batches))
    }
}
