//! Objects read ahead of whoever decodes them: a small object in S3 is mostly waiting.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Object, Stores};

/// Bytes that read-ahead objects hold at a time, in units of [`UNIT`]; a larger object takes them all.
const MEMORY_UNITS: u32 = 64 << 10;
/// A kibibyte.
const UNIT: u64 = 1 << 10;

/// An object and its bytes, or why there are none.
#[derive(Debug)]
pub struct Fetched {
    /// The object.
    pub object: Object,
    /// Its bytes as stored; the error says why not, in words.
    pub bytes: Result<Bytes, String>,
    _held: Option<OwnedSemaphorePermit>,
}

/// The objects in order, of which `in_flight` are being read while the ones before them are decoded.
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
            // In order, so that none holds the room that one before it waits for.
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
