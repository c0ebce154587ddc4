//! The progress of queries.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::physical_plan::ExecutionPlan;

/// Counts the rows that queries have scanned. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    state: Arc<Mutex<ScanProgress>>,
}

#[derive(Debug, Default)]
struct ScanProgress {
    /// The current query.
    plan: Option<Arc<dyn ExecutionPlan>>,
    /// The rows of the queries before it.
    before: u64,
}

impl ScanProgress {
    fn rows(&self) -> u64 {
        self.before + self.plan.as_deref().map_or(0, rows)
    }
}

impl Scanned {
    /// Follows the query of `plan` from now on.
    pub(super) fn follow(&self, plan: &Arc<dyn ExecutionPlan>) {
        let mut state = self.lock();
        *state = ScanProgress { before: state.rows(), plan: Some(Arc::clone(plan)) };
    }

    /// Returns the number of rows for which conditions were evaluated, counted once for each query. Row groups and pages
    /// that statistics ruled out do not count.
    pub fn rows(&self) -> u64 {
        self.lock().rows()
    }

    fn lock(&self) -> MutexGuard<'_, ScanProgress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rows(plan: &dyn ExecutionPlan) -> u64 {
    let below = plan.children();
    if !below.is_empty() {
        return below.into_iter().map(|plan| rows(plan.as_ref())).sum();
    }
    let metrics = plan.metrics().unwrap_or_default();
    let pruned = metrics.sum_by_name("pushdown_rows_pruned").map_or(0, |pruned| pruned.as_usize());
    (metrics.output_rows().unwrap_or_default() + pruned) as u64
}
