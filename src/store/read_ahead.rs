//! Reads objects ahead of their decoding, because reading a small object from S3 is mostly waiting.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Object, ObjectError, Stores};

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
    _held: Option<OwnedSemaphorePermit>,
}

/// Returns the objects in order. Up to `in_flight` are read while earlier ones are decoded.
pub fn read_ahead(
    stores: &Stores,
    objects: impl IntoIterator<Item = Object, IntoIter: Send + 'static>,
    in_flight: usize,
) -> BoxStream<'static, Fetched> {
    let (sender, receiver) = mpsc::channel(in_flight.max(1));
    let room = Arc::new(Semaphore::new(MEMORY_UNITS as usize));
    let (stores, objects) = (stores.clone(), objects.into_iter());
    tokio::spawn(async move {
        let mut reads = futures::stream::iter(objects)
            // In order, so that no object holds memory that an earlier one waits for.
            .then(|object| {
                let room = Arc::clone(&room);
                async move {
                    let units =
                        u32::try_from(object.size.div_ceil(UNIT)).unwrap_or(MEMORY_UNITS).clamp(1, MEMORY_UNITS);
                    (object, room.acquire_many_owned(units).await.ok())
                }
            })
            .map(|(object, held)| {
                let stores = stores.clone();
                async move { Fetched { bytes: stores.read(&object).await, object, _held: held } }
            })
            .buffered(in_flight.max(1))
            .boxed();
        while let Some(fetched) = reads.next().await {
            if sender.send(fetched).await.is_err() {
                return;
            }
        }
    });
    let fetched = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|fetched| (fetched, receiver))
    });
    fetched.fuse().boxed()
}
