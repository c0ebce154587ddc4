//! Counts the duplicates that a query drops, where it drops them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
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

use super::{COMPARED, Counter, record};
use crate::engine::functions::fingerprints;
use crate::statistics::{DifferingExample, DifferingRecord, DifferingRecords, Duplicates};
use crate::time::Range;

/// What a query has dropped so far, all of its streams together. Clones tell the same.
#[derive(Debug, Clone, Default)]
pub struct Tap {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    left_out: u64,
    differing: u64,
    /// With the fingerprint of its identity, of which the least is told.
    example: Option<(i64, DifferingExample)>,
    /// Whether a stream was given up before its end.
    is_partial: bool,
}

impl Tap {
    /// Has what `plan` drops with a time in `range` counted: at its window over rows in the order of `id`. Where a query
    /// reads its records more than once, those of the first reading are counted.
    pub(in crate::engine) fn into(
        plan: Arc<dyn ExecutionPlan>,
        id: &str,
        range: Range,
    ) -> Result<(Arc<dyn ExecutionPlan>, Option<Tap>)> {
        let mut tap = None;
        let plan = plan.transform_down(|plan| {
            if tap.is_some() || !orders_by(plan.as_ref(), id) {
                return Ok(Transformed::no(plan));
            }
            let own = tap.insert(Tap::default()).clone();
            let tapped: Arc<dyn ExecutionPlan> = Arc::new(Tapped { input: plan, id: id.to_owned(), range, tap: own });
            Ok(Transformed::new(tapped, true, TreeNodeRecursion::Stop))
        });
        Ok((plan.data()?, tap))
    }

    /// What was counted.
    pub fn duplicates(&self) -> Duplicates {
        let state = self.lock();
        let example = state.example.as_ref().map(|(_, example)| example.clone());
        let differing = DifferingRecords { event_ids: state.differing, example };
        Duplicates { left_out: state.left_out, differing, is_partial: state.is_partial }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `plan` is a window over rows in the order of the column `id`.
fn orders_by(plan: &dyn ExecutionPlan, id: &str) -> bool {
    let windows = plan.downcast_ref::<BoundedWindowAggExec>().map(BoundedWindowAggExec::window_expr);
    let mut orders = windows.into_iter().flatten().filter_map(|window| window.order_by().first());
    orders.any(|order| order.expr.downcast_ref::<Column>().is_some_and(|column| column.name() == id))
}

/// A plan whose rows are counted as they pass.
#[derive(Debug, Clone)]
struct Tapped {
    input: Arc<dyn ExecutionPlan>,
    id: String,
    range: Range,
    tap: Tap,
}

impl DisplayAs for Tapped {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CountDuplicates: by={}", self.id)
    }
}

impl ExecutionPlan for Tapped {
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
            return internal_err!("a count of duplicates without an input");
        };
        Ok(Arc::new(Tapped { input, ..Tapped::clone(&self) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let place = |name: &str| schema.index_of(name);
        let columns = [place(&self.id)?, place(COMPARED[1])?, place(COMPARED[2])?, place(COMPARED[3])?];
        let counting = Counting {
            columns,
            range: self.range,
            counter: Counter::new(0),
            first: None,
            example: None,
            tap: self.tap.clone(),
            has_ended: false,
        };
        let rows = stream::try_unfold((input, counting), async |(mut input, mut counting)| {
            let Some(batch) = input.try_next().await? else {
                counting.end();
                return Ok(None);
            };
            counting.observe(&batch)?;
            Ok(Some((batch, (input, counting))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// What one stream of a plan counts. It is added to that of the others when the stream ends or is given up.
struct Counting {
    /// The places of [`COMPARED`].
    columns: [usize; 4],
    range: Range,
    counter: Counter,
    /// The first record of the identity of the moment, where it was in a batch before.
    first: Option<DifferingRecord>,
    example: Option<DifferingExample>,
    tap: Tap,
    has_ended: bool,
}

impl Counting {
    fn observe(&mut self, batch: &RecordBatch) -> Result<()> {
        let [id, time, name, source] = self.columns.map(|column| batch.column(column));
        let text = |column: &ArrayRef| compute::cast(column, &DataType::Utf8);
        let columns = [text(id)?, Arc::clone(time), text(name)?, text(source)?];
        let ids = fingerprints(&columns[..1])?;
        let calls = fingerprints(&columns[2..])?;
        let times = columns[1].as_primitive::<TimestampMicrosecondType>();
        let mut first_row = None;
        for row in 0..batch.num_rows() {
            let time = times.is_valid(row).then(|| times.value(row));
            if !time.map_or(self.range == Range::default(), |time| self.range.contains(time)) {
                continue;
            }
            let id = ids.value(row);
            if self.counter.is_new(id) {
                (first_row, self.first) = (Some(row), None);
            }
            if self.counter.observe(id, (time, calls.value(row))) {
                let (event_id, second) = record(&columns, row);
                let first = first_row.map(|row| record(&columns, row).1).or(self.first.clone());
                self.example =
                    Some(DifferingExample { event_id, records: first.into_iter().chain([second]).collect() });
            }
        }
        self.first = first_row.map(|row| record(&columns, row).1).or(self.first.take());
        Ok(())
    }

    fn end(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let mut state = self.tap.lock();
        state.left_out += self.counter.left_out;
        state.differing += self.counter.differing;
        if let Some(example) = self.counter.example.zip(self.example.take())
            && state.example.as_ref().is_none_or(|known| example < *known)
        {
            state.example = Some(example);
        }
        state.is_partial |= !self.has_ended;
    }
}
