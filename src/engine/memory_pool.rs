//! The budget of memory that all queries of a process share.

use std::fmt;
use std::num::NonZeroUsize;

use datafusion::common::resources_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
    UnboundedMemoryPool,
};

/// How many consumers an error names.
const NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);

/// A pool in which every sort has a part of its own, so that it can go on by way of the disk whatever others hold.
///
/// A quarter of the budget is for what sorts collect, three quarters for everything else: buffered matches, merges and
/// groupings. Merges cannot spill, so each has the bytes of a sort even where the rest is taken. Beyond that, those who
/// come first have what there is. Groupings cannot spill a single group: a query fails where one does not fit.
#[derive(Debug)]
pub(super) struct SharedPool {
    sorts: UnboundedMemoryPool,
    others: TrackConsumersPool<GreedyMemoryPool>,
    /// The bytes that everyone is given.
    own: usize,
}

impl SharedPool {
    /// Returns a pool of `bytes` bytes for queries whose rows are divided into `partitions` in all. In each of them two
    /// sorts are at work at a time, one that takes rows and one that gives them.
    pub(super) fn new(bytes: usize, partitions: usize) -> SharedPool {
        let of_sorts = bytes / 4;
        SharedPool {
            sorts: UnboundedMemoryPool::default(),
            others: TrackConsumersPool::new(GreedyMemoryPool::new(bytes - of_sorts), NAMED),
            own: of_sorts / 2 / partitions.max(1),
        }
    }

    fn of(&self, consumer: &MemoryConsumer) -> &dyn MemoryPool {
        if is_sort(consumer) { &self.sorts } else { &self.others }
    }
}

/// Whether it is what a sort gathers. Groupings say that they can spill too, and cannot do so with a single group.
fn is_sort(consumer: &MemoryConsumer) -> bool {
    consumer.can_spill() && consumer.name().starts_with("ExternalSorter")
}

impl fmt::Display for SharedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared({}, own: {} bytes)", self.others, self.own)
    }
}

impl MemoryPool for SharedPool {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.of(consumer).register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.of(consumer).unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.of(reservation.consumer()).grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.of(reservation.consumer()).shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (held, consumer) = (reservation.size(), reservation.consumer());
        // A first batch that is larger is there already, and with nothing before it there is nothing to send to disk.
        let is_first = is_sort(consumer) && held == 0;
        if is_first || held.saturating_add(additional) <= self.own {
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

    use super::*;

    #[test]
    fn everyone_has_a_part_and_only_sorts_have_no_more() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedPool::new(1_600, 2));
        let consumer = |name: &str, spills| MemoryConsumer::new(name).with_can_spill(spills).register(&pool);
        let (sort, late) = (consumer("ExternalSorter[0]", true), consumer("ExternalSorter[1]", true));
        let (groups, merge) =
            (consumer("OrderedFinalAggregateStream[0]", true), consumer("ExternalSorterMerge[0]", false));
        sort.try_grow(60).unwrap();
        sort.try_grow(40).unwrap();
        assert!(sort.try_grow(1).is_err());
        groups.try_grow(1_200).unwrap();
        assert!(groups.try_grow(1).is_err());
        merge.try_grow(100).unwrap();
        assert!(merge.try_grow(1).is_err());
        late.try_grow(150).unwrap();
        assert!(late.try_grow(1).is_err());
        assert_eq!(pool.reserved(), 1_550);
    }
}
