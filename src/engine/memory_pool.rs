//! The memory that the sorts and groupings of a query share.

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

/// A pool in which a sort can always go on by way of the disk, whatever the others hold. What can go to disk has a part of
/// its own, and no more. What cannot, such as the rows that a merge of sorted runs has in hand, has as much, which is
/// enough for what one sort holds; and beyond that a half that is for those who come first, such as merges of
/// many files, which do with less where there is less.
#[derive(Debug)]
pub(super) struct SharedPool {
    spilling: UnboundedMemoryPool,
    staying: TrackConsumersPool<GreedyMemoryPool>,
    /// The bytes that everyone is given.
    own: usize,
}

impl SharedPool {
    /// A pool of so many bytes for a query whose rows are divided into so many partitions: in each of them two sorts are
    /// at work at a time, one that takes rows and one that gives them.
    pub(super) fn new(bytes: usize, partitions: usize) -> SharedPool {
        SharedPool {
            spilling: UnboundedMemoryPool::default(),
            staying: TrackConsumersPool::new(GreedyMemoryPool::new(bytes / 2), NAMED),
            own: bytes / 4 / partitions.max(1),
        }
    }

    fn of(&self, consumer: &MemoryConsumer) -> &dyn MemoryPool {
        if consumer.can_spill() { &self.spilling } else { &self.staying }
    }
}

impl fmt::Display for SharedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared({}, own: {} bytes)", self.staying, self.own)
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
        let is_first = consumer.can_spill() && held == 0;
        if is_first || held.saturating_add(additional) <= self.own {
            self.grow(reservation, additional);
            return Ok(());
        }
        if consumer.can_spill() {
            return resources_err!("{} holds {held} bytes and may not have {additional} more", consumer.name());
        }
        self.staying.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.spilling.reserved() + self.staying.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.staying.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn everyone_has_a_part_and_only_what_cannot_spill_has_more() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedPool::new(800, 2));
        let [sort, late] = ["sort", "late"].map(|name| MemoryConsumer::new(name).with_can_spill(true).register(&pool));
        let [merge, other] = ["merge", "other"].map(|name| MemoryConsumer::new(name).register(&pool));
        sort.try_grow(60).unwrap();
        sort.try_grow(40).unwrap();
        assert!(sort.try_grow(1).is_err());
        merge.try_grow(400).unwrap();
        assert!(merge.try_grow(1).is_err());
        other.try_grow(100).unwrap();
        assert!(other.try_grow(1).is_err());
        late.try_grow(150).unwrap();
        assert!(late.try_grow(1).is_err());
        assert_eq!(pool.reserved(), 750);
    }
}
