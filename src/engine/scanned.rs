//! How far queries have come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::physical_plan::ExecutionPlan;

/// The rows that queries have scanned. Copies follow the same queries.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The query of the moment.
    plan: Option<Arc<dyn ExecutionPlan>>,
    /// The rows of those before it.
    before: u64,
}

impl State {
    fn rows(&self) -> u64 {
        self.before + self.plan.as_deref().map_or(0, rows)
    }
}

impl Scanned {
    /// Follows the query of `plan` from now on.
    pub(super) fn follow(&self, plan: &Arc<dyn ExecutionPlan>) {
        let mut state = self.lock();
        *state = State { before: state.rows(), plan: Some(Arc::clone(plan)) };
    }

    /// The rows that have been held against the queries' conditions, as often as they were. Row groups and pages that were
    /// left unread by their statistics are not among them.
    pub fn rows(&self) -> u64 {
        self.lock().rows()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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
