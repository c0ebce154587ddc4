//! Writes the findings of a hunt one by one.

use super::Context;
use crate::error::Error;
use crate::finding::Finding;
use crate::hunt::FindingBuffer;
use crate::output::ResultWriter;
use crate::report::{FindingsEncoder, FindingsFormat, Screen};
use crate::rule::Severity;
use crate::store::{Location, ObjectWriter};

/// Bytes that are written at a time.
const PIECE: usize = 64 << 10;

/// The order of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum FindingOrder {
    /// By first event
    #[default]
    Time,
    /// By severity, the highest first, then by first event
    Severity,
}

/// Which findings are written, and in which order and format.
#[derive(Debug, Clone, Copy)]
pub(super) struct FindingsView {
    pub(super) format: FindingsFormat,
    pub(super) order: FindingOrder,
    /// The lowest severity that is written.
    pub(super) min_severity: Severity,
}

impl FindingsView {
    /// Returns whether the view has a finding of this severity. Unknown names count as the lowest severity.
    pub(super) fn has(self, finding: &Finding) -> bool {
        severity_of(finding) >= self.min_severity
    }
}

fn severity_of(finding: &Finding) -> Severity {
    Severity::ALL.into_iter().find(|severity| severity.to_string() == finding.severity).unwrap_or(Severity::Info)
}

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
    /// Writes the findings of a view, as [`Context::write`] writes a result. Calls `each` with each of them,
    /// which it may complete.
    ///
    /// # Errors
    /// The findings cannot be read or written, or `each` fails.
    pub(super) async fn write_findings(
        &self,
        findings: &FindingBuffer<'_>,
        view: FindingsView,
        output: Option<&str>,
        each: impl FnMut(&mut Finding) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut to = ResultTarget::open(self, output).await?;
        let screen = if output.is_some() { Screen::FILE } else { Screen::of_standard_output() };
        match write(findings, view, FindingsEncoder::new(view.format, screen), &mut to, each).await {
            Ok(()) => {
                to.finish().await?;
                self.say_written(output);
                Ok(())
            }
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
    view: FindingsView,
    mut encoder: FindingsEncoder,
    to: &mut ResultTarget,
    mut each: impl FnMut(&mut Finding) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut piece = Vec::new();
    // Findings are sorted on disk, by time. For another order they are read several times.
    let passes: Vec<Option<Severity>> = match view.order {
        FindingOrder::Time => vec![None],
        FindingOrder::Severity => Severity::ALL.into_iter().rev().map(Some).collect(),
    };
    for severity in passes {
        let mut reader = findings.read().await?;
        while let Some(mut finding) = reader.next().await? {
            if !view.has(&finding) || severity.is_some_and(|severity| severity != severity_of(&finding)) {
                continue;
            }
            each(&mut finding)?;
            encoder.push(&finding, &mut piece)?;
            if piece.len() >= PIECE {
                to.write(&mut piece).await?;
            }
        }
    }
    encoder.finish(&mut piece)?;
    to.write(&mut piece).await
}
