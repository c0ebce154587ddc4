//! The memory pool that all queries of a process share.
//!
//! DataFusion's own pools make queries fail that need no more memory than they have, because a disk is at hand:
//!
//! - [`FairSpillPool`] counts a consumer as spillable by what it says of itself. Aggregations over sorted rows say so to get
//!   a larger share, though a single group cannot be spilled, and race with the sorts below them (apache/datafusion#17334).
//! - Both it and [`GreedyMemoryPool`] let the merge of one sort's spilled runs take the memory that another sort needs to
//!   start its own merge. Whether a query then fails depends on the limit in odd ways: one that passes with little memory
//!   fails with more (apache/datafusion#16979).
//!
//! When both issues are closed, [`FairSpillPool`] may take the place of this module. Run its test with that pool to decide.
//!
//! [`FairSpillPool`]: datafusion::execution::memory_pool::FairSpillPool

use std::fmt;
use std::num::NonZeroUsize;

use datafusion::common::resources_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
    UnboundedMemoryPool,
};

/// An error names this many consumers.
const NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);

/// A pool in which every sort can always continue by spilling.
///
/// - A quarter of the pool is for the buffers of sorts. Each sort has a fixed share of it.
/// - Three quarters are for everything else: buffered matches, merges of spilled runs, and aggregations. Merges cannot
///   spill, so each consumer has the share of a sort even if the rest is taken. That is enough to merge what a sort buffered.
/// - Beyond its share a consumer other than a sort takes what is left, first come, first served. Merges of many runs work
///   with less if there is less. Aggregations cannot spill a single group: a query fails if one does not fit.
#[derive(Debug)]
pub(super) struct SharedPool {
    sorts: UnboundedMemoryPool,
    others: TrackConsumersPool<GreedyMemoryPool>,
    /// The bytes that each consumer has for certain.
    share: usize,
    /// The whole pool, if it is part of another one.
    _reservation: Option<MemoryReservation>,
}

impl SharedPool {
    /// Returns a pool of `bytes` bytes for queries with this many partitions in all. In each partition two sorts run at a
    /// time: one takes rows while the one below it gives them.
    pub(super) fn new(bytes: usize, partitions: usize) -> SharedPool {
        let of_sorts = bytes / 4;
        SharedPool {
            sorts: UnboundedMemoryPool::default(),
            others: TrackConsumersPool::new(GreedyMemoryPool::new(bytes - of_sorts), NAMED),
            share: of_sorts / 2 / partitions.max(1),
            _reservation: None,
        }
    }

    /// Returns a pool of the bytes that were reserved in another one, for queries with one partition.
    #[cfg(feature = "cluster")]
    pub(super) fn within(reservation: MemoryReservation) -> SharedPool {
        let pool = SharedPool::new(reservation.size(), 1);
        SharedPool { _reservation: Some(reservation), ..pool }
    }

    fn pool_of(&self, consumer: &MemoryConsumer) -> &dyn MemoryPool {
        if is_sort(consumer) { &self.sorts } else { &self.others }
    }
}

/// Whether the consumer is the buffer of a sort. Its name is the only sign: aggregations over sorted rows call themselves
/// spillable too (apache/datafusion#17334).
fn is_sort(consumer: &MemoryConsumer) -> bool {
    consumer.can_spill() && consumer.name().starts_with("ExternalSorter")
}

impl fmt::Display for SharedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared({}, share: {} bytes)", self.others, self.share)
    }
}

impl MemoryPool for SharedPool {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool_of(consumer).register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool_of(consumer).unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool_of(reservation.consumer()).grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool_of(reservation.consumer()).shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (held, consumer) = (reservation.size(), reservation.consumer());
        // A first batch larger than the share is in memory already, and there is nothing yet to spill.
        let is_first = is_sort(consumer) && held == 0;
        if is_first || held.saturating_add(additional) <= self.share {
            self.grow(reservation, additional);
            return Ok(());
        }
        if is_sort(consumer) {
            return resources_err!("{} holds {held} bytes and may not have {additional} more", consumer.name());
        }
        self.others.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.sorts.reserved() + self.others.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.others.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_plan::sorts::sort::SortExec;
    use datafusion::physical_plan::{ExecutionPlan, collect};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::engine::memory_table;

    const ROWS: usize = 30_000;
    const ROWS_OF_BATCH: usize = 100;
    const PARTITIONS: usize = 2;
    const MEMORY: usize = 8 << 20;

    /// Rows of 700 bytes, in an order that no sort asks for.
    fn batches() -> Vec<RecordBatch> {
        let number = |name| Field::new(name, DataType::Int64, false);
        let schema = Arc::new(Schema::new(vec![
            number("id"),
            number("one"),
            number("other"),
            Field::new("text", DataType::Utf8, false),
        ]));
        let batch = |start: usize| {
            let ids = (start..start + ROWS_OF_BATCH).map(|row| i64::try_from(row * 7_919 % ROWS).unwrap());
            let ids: Int64Array = ids.map(Some).collect();
            let modulo = |by| Arc::new(ids.iter().map(|id| id.map(|id| id % by)).collect::<Int64Array>()) as ArrayRef;
            let text = ids.values().iter().map(|id| Some(format!("{id:0650}"))).collect::<StringArray>();
            let columns: Vec<ArrayRef> = vec![Arc::new(ids.clone()), modulo(5), modulo(3), Arc::new(text)];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        };
        (0..ROWS).step_by(ROWS_OF_BATCH).map(batch).collect()
    }

    fn spilled_sorts(plan: &Arc<dyn ExecutionPlan>) -> usize {
        let own = plan.downcast_ref::<SortExec>().and_then(|sort| sort.metrics()?.spill_count());
        usize::from(own.is_some_and(|count| count > 0)) + plan.children().into_iter().map(spilled_sorts).sum::<usize>()
    }

    /// As in a hunt: sorts one above the other, each with its merge, and an aggregation of the sorted rows above them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sorts_above_one_another_spill_and_merge_in_half_of_what_they_sort() {
        let folder = tempfile::tempdir().unwrap();
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedPool::new(MEMORY, PARTITIONS));
        let mut config = SessionConfig::new().with_target_partitions(PARTITIONS).with_batch_size(ROWS_OF_BATCH);
        config.options_mut().execution.sort_spill_reservation_bytes = MEMORY / 256;
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).with_temp_file_path(folder.path()).build_arc();
        let context = SessionContext::new_with_config_rt(config, runtime.unwrap());
        let batches = batches();
        let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        assert!(bytes > 2 * MEMORY, "{bytes}");
        context.register_table("numbers", memory_table(batches[0].schema(), batches).unwrap()).unwrap();
        let sql = "
            SELECT other, count(*) AS matches, CAST(sum(position) AS BIGINT) AS positions, array_agg(id) AS ids, max(text) AS text
            FROM (
              SELECT *, row_number() OVER (PARTITION BY other ORDER BY id DESC) AS position
              FROM (SELECT *, lag(id) OVER (PARTITION BY one ORDER BY id) AS previous FROM numbers)
              WHERE previous IS DISTINCT FROM id
            )
            GROUP BY other";
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let rows = collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
        let column = |name: &str| -> Vec<ArrayRef> {
            rows.iter().map(|batch| Arc::clone(batch.column_by_name(name).unwrap())).collect()
        };
        let total = |name| -> i64 {
            column(name).iter().flat_map(|column| column.as_primitive::<Int64Type>().values().to_vec()).sum()
        };
        assert_eq!(total("matches"), i64::try_from(ROWS).unwrap());
        let of_group = i64::try_from(ROWS / 3).unwrap();
        assert_eq!(total("positions"), 3 * of_group * (of_group + 1) / 2);
        let ids: usize = column("ids").iter().map(|ids| ids.as_list::<i32>().values().len()).sum();
        assert_eq!(ids, ROWS);
        assert_eq!(spilled_sorts(&plan), 2, "both sorts go to disk");
        drop((plan, rows));
        assert_eq!(pool.reserved(), 0);
    }
}
