//! The memory that the sorts and groupings of a query share.

use std::fmt;
use std::num::NonZeroUsize;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
};

/// How many consumers an error names.
const NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);

/// A pool that gives memory to those who come first, and to all others at least a part of their own: so a sort
/// always has enough to go on by way of the disk, whatever those before it in a query hold.
#[derive(Debug)]
pub(super) struct SharedPool {
    all: TrackConsumersPool<GreedyMemoryPool>,
    /// Bytes that everyone is given, even where they are then more than there are.
    own: usize,
}

impl SharedPool {
    /// A pool of so many bytes: a few consumers are at work at a time, so those who come late have some beside them.
    pub(super) fn new(bytes: usize) -> SharedPool {
        SharedPool { all: TrackConsumersPool::new(GreedyMemoryPool::new(bytes / 4 * 3), NAMED), own: bytes / 8 }
    }
}

impl fmt::Display for SharedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared({}, own: {} bytes)", self.all, self.own)
    }
}

impl MemoryPool for SharedPool {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if reservation.size().saturating_add(additional) <= self.own {
            self.all.grow(reservation, additional);
            return Ok(());
        }
        self.all.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.all.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.all.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_comes_late_has_a_part() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedPool::new(800));
        let [first, late] = ["first", "late"].map(|name| MemoryConsumer::new(name).register(&pool));
        first.try_grow(600).unwrap();
        assert!(first.try_grow(1).is_err());
        late.try_grow(60).unwrap();
        late.try_grow(40).unwrap();
        assert!(late.try_grow(1).is_err());
        first.shrink(300);
        late.try_grow(200).unwrap();
        assert_eq!(pool.reserved(), 600);
    }
}
