//! Writes an object of a bucket piece by piece, without holding all of it.

use std::sync::Arc;

use bytes::BytesMut;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _};

use super::{Stores, check_writable, fault, key};
use crate::error::Error;

/// Bytes of a part. An object has at most ten thousand parts, and some stores need parts of equal size.
const PART_BYTES: usize = 16 << 20;

/// Writes an object. It appears once it is complete.
#[derive(Debug)]
pub struct ObjectWriter {
    store: Arc<AmazonS3>,
    bucket: String,
    key: String,
    path: Path,
    /// Bytes of the next part.
    part: BytesMut,
    /// Started with the second part: a small object is one request.
    upload: Option<Box<dyn MultipartUpload>>,
}

impl Stores {
    /// Returns a writer of the object at `name` of a bucket.
    ///
    /// # Errors
    /// The bucket is not reached, or the key cannot be written.
    pub async fn writer(&self, bucket: &str, name: &str) -> Result<ObjectWriter, Error> {
        check_writable(bucket, name)?;
        let path = key(name).map_err(|error| fault::store("write", bucket, name, &error))?;
        let store = self.bucket(bucket).await?;
        let (bucket, key) = (bucket.to_owned(), name.to_owned());
        Ok(ObjectWriter { store, bucket, key, path, part: BytesMut::new(), upload: None })
    }

    /// Writes `bytes` to key `name` of a bucket, atomically.
    ///
    /// # Errors
    /// As for [`Stores::writer`], and the bucket refuses the object.
    pub async fn write(&self, bucket: &str, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let writer = self.writer(bucket, name).await?;
        let put = writer.store.put(&writer.path, bytes.into()).await;
        put.map(|_| ()).map_err(|error| writer.failed(&error))
    }
}

impl ObjectWriter {
    /// Adds bytes to the object.
    ///
    /// # Errors
    /// The bucket refuses a part. Nothing is left of the object then.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while self.part.len() + bytes.len() > PART_BYTES {
            let (now, later) = bytes.split_at(PART_BYTES - self.part.len());
            self.part.extend_from_slice(now);
            bytes = later;
            if let Err(error) = self.put_part().await {
                self.abort().await;
                return Err(self.failed(&error));
            }
        }
        self.part.extend_from_slice(bytes);
        Ok(())
    }

    /// Completes the object.
    ///
    /// # Errors
    /// The bucket refuses it. Nothing is left of it then.
    pub async fn finish(mut self) -> Result<(), Error> {
        if let Err(error) = self.complete().await {
            self.abort().await;
            return Err(self.failed(&error));
        }
        Ok(())
    }

    /// Removes the parts that were written.
    pub async fn abort(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            // The error that led here is the one to report. The bucket's lifecycle rules remove what remains.
            upload.abort().await.ok();
        }
    }

    async fn put_part(&mut self) -> object_store::Result<()> {
        let bytes = self.part.split().freeze();
        let upload = match &mut self.upload {
            Some(upload) => upload,
            started @ None => started.insert(self.store.put_multipart(&self.path).await?),
        };
        upload.put_part(bytes.into()).await
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        let bytes = self.part.split().freeze();
        match &mut self.upload {
            Some(upload) => {
                upload.put_part(bytes.into()).await?;
                upload.complete().await?;
            }
            None => {
                self.store.put(&self.path, bytes.into()).await?;
            }
        }
        Ok(())
    }

    fn failed(&self, error: &object_store::Error) -> Error {
        fault::store("write", &self.bucket, &self.key, error)
    }
}
