//! Writes the findings of a hunt one by one.

use super::Context;
use crate::error::Error;
use crate::finding::Finding;
use crate::hunt::FindingBuffer;
use crate::output::ResultWriter;
use crate::report::{FindingsEncoder, FindingsFormat};
use crate::store::{Location, ObjectWriter};

/// Bytes that are written at a time.
const PIECE: usize = 64 << 10;

/// The target of a result that is written piece by piece.
enum ResultTarget {
    Local(ResultWriter),
    Bucket(Box<ObjectWriter>),
}

impl ResultTarget {
    async fn open(context: &Context, output: Option<&str>) -> Result<ResultTarget, Error> {
        Ok(match output.map(Location::of) {
            Some(Location::S3 { bucket, key }) => {
                ResultTarget::Bucket(Box::new(context.stores.writer(&bucket, &key).await?))
            }
            Some(Location::Disk(path)) => ResultTarget::Local(context.output.open(Some(&path))?),
            None => ResultTarget::Local(context.output.open(None)?),
        })
    }

    /// Writes the bytes of `piece`, and empties it.
    async fn write(&mut self, piece: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            // If the reader of standard output wants no more, the rest is read for the summary.
            ResultTarget::Local(to) => to.write(piece).map(|_| ())?,
            ResultTarget::Bucket(to) => to.write(piece).await?,
        }
        piece.clear();
        Ok(())
    }

    async fn finish(self) -> Result<(), Error> {
        match self {
            ResultTarget::Local(to) => to.finish(),
            ResultTarget::Bucket(to) => to.finish().await,
        }
    }
}

impl Context {
    /// Writes findings in order, as [`Context::write`] writes a result. Calls `each` with every finding, which it may complete.
    ///
    /// # Errors
    /// The findings cannot be read or written, or `each` fails.
    pub(super) async fn write_findings(
        &self,
        findings: &FindingBuffer<'_>,
        format: FindingsFormat,
        output: Option<&str>,
        each: impl FnMut(&mut Finding) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut to = ResultTarget::open(self, output).await?;
        match write(findings, format, &mut to, each).await {
            Ok(()) => to.finish().await,
            Err(error) => {
                if let ResultTarget::Bucket(object) = &mut to {
                    object.abort().await;
                }
                Err(error)
            }
        }
    }
}

async fn write(
    findings: &FindingBuffer<'_>,
    format: FindingsFormat,
    to: &mut ResultTarget,
    mut each: impl FnMut(&mut Finding) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut encoder, mut piece) = (FindingsEncoder::new(format), Vec::new());
    let mut reader = findings.read().await?;
    while let Some(mut finding) = reader.next().await? {
        each(&mut finding)?;
        encoder.push(&finding, &mut piece)?;
        if piece.len() >= PIECE {
            to.write(&mut piece).await?;
        }
    }
    encoder.finish(&mut piece)?;
    to.write(&mut piece).await
}
