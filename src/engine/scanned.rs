//! How far a query has come.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::physical_plan::ExecutionPlan;

/// The rows that the query of the moment has scanned. Copies follow the same query.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    plan: Arc<Mutex<Option<Arc<dyn ExecutionPlan>>>>,
}

impl Scanned {
    /// Follows the query of `plan` from now on.
    pub(super) fn follow(&self, plan: &Arc<dyn ExecutionPlan>) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(plan));
    }

    /// The rows that have been held against the query's conditions. Row groups and pages that were
    /// left unread by their statistics are not among them.
    pub fn rows(&self) -> u64 {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        plan.map_or(0, |plan| rows(plan.as_ref()))
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
