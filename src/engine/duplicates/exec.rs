//! Execution plan node that counts the duplicates dropped by the window above which it stands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute;
use arrow::datatypes::DataType;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::BoundedWindowAggExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{TryStreamExt as _, stream};

use super::{COMPARED, ComparedColumns, DuplicateCounter};
use crate::engine::functions::fingerprints;
use crate::statistics::{DifferingExample, DifferingRecord, DifferingRecords, Duplicates};
use crate::time::{Instant, Range};

/// The duplicates that a query has dropped so far, in all its partitions. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct DroppedDuplicates {
    counts: Arc<Mutex<DroppedCounts>>,
}

#[derive(Debug, Default)]
struct DroppedCounts {
    dropped: u64,
    differing: u64,
    /// The example with the smallest fingerprint of its identity, so that every run shows the same one.
    example: Option<(i64, DifferingExample)>,
    /// Whether a partition was not read to its end.
    is_partial: bool,
}

impl DroppedDuplicates {
    /// Adds a counter to `plan` for the dropped duplicates with a time in `range`. Returns `None` for a plan without a
    /// window ordered by `id`.
    ///
    /// A query may read its records several times. Only the first such window is counted.
    pub(in crate::engine) fn count_in(
        plan: Arc<dyn ExecutionPlan>,
        id: &str,
        range: Range,
    ) -> Result<(Arc<dyn ExecutionPlan>, Option<DroppedDuplicates>)> {
        let mut dropped = None;
        let plan = plan.transform_down(|plan| {
            if dropped.is_some() || !is_ordered_by(plan.as_ref(), id) {
                return Ok(Transformed::no(plan));
            }
            let dropped = dropped.insert(DroppedDuplicates::default()).clone();
            let counting = CountDuplicatesExec { input: plan, id: id.to_owned(), range, dropped };
            Ok(Transformed::new(Arc::new(counting), true, TreeNodeRecursion::Stop))
        });
        Ok((plan.data()?, dropped))
    }

    /// Returns the counts so far.
    pub fn duplicates(&self) -> Duplicates {
        let counts = self.lock();
        let example = counts.example.as_ref().map(|(_, example)| example.clone());
        let differing = DifferingRecords { event_ids: counts.differing, example };
        Duplicates { left_out: counts.dropped, differing, is_partial: counts.is_partial }
    }

    fn lock(&self) -> MutexGuard<'_, DroppedCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether `plan` is a window ordered by the column `id`.
fn is_ordered_by(plan: &dyn ExecutionPlan, id: &str) -> bool {
    let windows = plan.downcast_ref::<BoundedWindowAggExec>().map(BoundedWindowAggExec::window_expr);
    let mut orders = windows.into_iter().flatten().filter_map(|window| window.order_by().first());
    orders.any(|order| order.expr.downcast_ref::<Column>().is_some_and(|column| column.name() == id))
}

/// Returns the rows of `input` unchanged and counts the duplicates among them.
#[derive(Debug, Clone)]
struct CountDuplicatesExec {
    input: Arc<dyn ExecutionPlan>,
    id: String,
    range: Range,
    dropped: DroppedDuplicates,
}

impl DisplayAs for CountDuplicatesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CountDuplicates: by={}", self.id)
    }
}

impl ExecutionPlan for CountDuplicatesExec {
    fn name(&self) -> &'static str {
        "CountDuplicates"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return internal_err!("CountDuplicates has no input");
        };
        Ok(Arc::new(CountDuplicatesExec { input, ..CountDuplicatesExec::clone(&self) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let index = |name: &str| schema.index_of(name);
        let columns = [index(&self.id)?, index(COMPARED[1])?, index(COMPARED[2])?, index(COMPARED[3])?];
        let counter = PartitionCounter {
            columns,
            range: self.range,
            counter: DuplicateCounter::new(0),
            first: None,
            example: None,
            dropped: self.dropped.clone(),
            is_complete: false,
        };
        let rows = stream::try_unfold((input, counter), async |(mut input, mut counter)| {
            let Some(batch) = input.try_next().await? else {
                counter.is_complete = true;
                return Ok(None);
            };
            counter.add(&batch)?;
            Ok(Some((batch, (input, counter))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Counts the duplicates of one partition. Dropping it adds its counts to those of the query.
struct PartitionCounter {
    /// The column indexes of [`COMPARED`].
    columns: [usize; 4],
    range: Range,
    counter: DuplicateCounter,
    /// The first record of the current identity, if it was in an earlier batch.
    first: Option<DifferingRecord>,
    example: Option<DifferingExample>,
    dropped: DroppedDuplicates,
    /// Whether the partition was read to its end.
    is_complete: bool,
}

impl PartitionCounter {
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let [id, time, name, source] = self.columns.map(|column| batch.column(column));
        let [id, name, source] = [id, name, source].map(|column| compute::cast(column, &DataType::Utf8));
        let (id, name, source) = (id?, name?, source?);
        let columns = ComparedColumns {
            ids: id.as_string().clone(),
            times: time.as_primitive().clone(),
            names: name.as_string().clone(),
            sources: source.as_string().clone(),
        };
        let (ids, calls) = (fingerprints(&[id])?, fingerprints(&[name, source])?);
        let mut first_row = None;
        for row in 0..batch.num_rows() {
            let time = columns.times.is_valid(row).then(|| columns.times.value(row));
            if !time.map_or(self.range == Range::default(), |time| self.range.contains(Instant::from_micros(time))) {
                continue;
            }
            let id = ids.value(row);
            if self.counter.is_new(id) {
                (first_row, self.first) = (Some(row), None);
            }
            if self.counter.add(id, (time, calls.value(row))) {
                let (event_id, second) = columns.record(row);
                let first = first_row.map(|row| columns.record(row).1).or(self.first.clone());
                self.example =
                    Some(DifferingExample { event_id, records: first.into_iter().chain([second]).collect() });
            }
        }
        self.first = first_row.map(|row| columns.record(row).1).or(self.first.take());
        Ok(())
    }
}

impl Drop for PartitionCounter {
    fn drop(&mut self) {
        let mut counts = self.dropped.lock();
        counts.dropped += self.counter.dropped;
        counts.differing += self.counter.differing;
        if let Some(example) = self.counter.example.zip(self.example.take())
            && counts.example.as_ref().is_none_or(|known| example < *known)
        {
            counts.example = Some(example);
        }
        counts.is_partial |= !self.is_complete;
    }
}
