//! Reads objects ahead of their decoding, because reading a small object from S3 is mostly waiting.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Object, ObjectError, Stores};

/// The most bytes, and number, of small files that are read together. To read them one by one, each on another thread,
/// would mostly wait for threads.
const TOGETHER_BYTES: u64 = 128 << 10;
const TOGETHER_FILES: usize = 64;

/// The memory for objects that are read ahead, in units of [`UNIT`]. A larger object takes all of it.
const MEMORY_UNITS: u32 = 64 << 10;
/// A kibibyte.
const UNIT: u64 = 1 << 10;

/// An object and its bytes, or the reason why they cannot be read.
#[derive(Debug)]
pub struct Fetched {
    /// The object.
    pub object: Object,
    /// Its bytes as stored.
    pub bytes: Result<Bytes, ObjectError>,
    _held: Option<Arc<OwnedSemaphorePermit>>,
}

/// Returns the objects in order. Up to `in_flight`, or groups of so many small files, are read while earlier ones are
/// decoded.
pub fn read_ahead(
    stores: &Stores,
    objects: impl IntoIterator<Item = Object, IntoIter: Send + 'static>,
    in_flight: usize,
) -> BoxStream<'static, Fetched> {
    read_ahead_groups(stores, objects, in_flight).map(futures::stream::iter).flatten().fuse().boxed()
}

/// Returns the objects as [`read_ahead`] does, in the groups in which they are read. The same objects always have the
/// same groups.
pub fn read_ahead_groups(
    stores: &Stores,
    objects: impl IntoIterator<Item = Object, IntoIter: Send + 'static>,
    in_flight: usize,
) -> BoxStream<'static, Vec<Fetched>> {
    let (sender, receiver) = mpsc::channel(in_flight.max(1));
    let room = Arc::new(Semaphore::new(MEMORY_UNITS as usize));
    let (stores, groups) = (stores.clone(), Groups { objects: objects.into_iter().peekable() });
    tokio::spawn(async move {
        let mut reads = futures::stream::iter(groups)
            // In order, so that no object holds memory that an earlier one waits for.
            .then(|group| {
                let room = Arc::clone(&room);
                async move {
                    let units = group.iter().map(|object| object.size.div_ceil(UNIT).max(1)).sum::<u64>();
                    let units = u32::try_from(units).unwrap_or(MEMORY_UNITS).clamp(1, MEMORY_UNITS);
                    (group, room.acquire_many_owned(units).await.ok().map(Arc::new))
                }
            })
            .map(|(group, held)| {
                let stores = stores.clone();
                async move {
                    let fetched = stores.read_all(group).await.into_iter();
                    fetched.map(|(object, bytes)| Fetched { object, bytes, _held: held.clone() }).collect::<Vec<_>>()
                }
            })
            .buffered(in_flight.max(1))
            .boxed();
        while let Some(group) = reads.next().await {
            if sender.send(group).await.is_err() {
                return;
            }
        }
    });
    futures::stream::unfold(
        receiver,
        |mut receiver| async move { receiver.recv().await.map(|group| (group, receiver)) },
    )
    .fuse()
    .boxed()
}

/// Objects in groups that are read together: small files, or one object.
struct Groups<I: Iterator<Item = Object>> {
    objects: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = Object>> Iterator for Groups<I> {
    type Item = Vec<Object>;

    fn next(&mut self) -> Option<Vec<Object>> {
        let first = self.objects.next()?;
        let mut bytes = first.size;
        let is_file = first.in_bucket().is_none();
        let mut group = vec![first];
        while is_file
            && group.len() < TOGETHER_FILES
            && let Some(object) = self
                .objects
                .next_if(|next| next.in_bucket().is_none() && bytes.saturating_add(next.size) <= TOGETHER_BYTES)
        {
            bytes += object.size;
            group.push(object);
        }
        Some(group)
    }
}
