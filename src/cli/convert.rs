use clap::Args;

use super::raw_input::RawInputArgs;
use super::{Context, SelectionArgs, outcome};
use crate::convert::{Limits, convert};
use crate::error::{Error, Status};
use crate::lake::Lake;
use crate::store::Location;
use crate::time::{self, Range};
use crate::trail::Trail;

/// Convert a raw trail to a lake of Parquet files
///
/// Objects that the lake already holds are left alone, so running again adds only what is new.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny convert trail/ --lake lake/\n  tawny convert s3://logs/AWSLogs --from 2026-09-01 --lake s3://lake/cloudtrail\n  tawny convert 'logs/AWSLogs/*/CloudTrail/**/*.json.gz' --lake lake/"
)]
pub(super) struct Convert {
    /// Files, folders or quoted globs of CloudTrail as AWS delivers it; on disk or `s3://BUCKET/PREFIX`; `-` is standard
    /// input
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// The lake's folder; made where there is none; on disk or `s3://BUCKET/PREFIX`
    #[arg(long, value_name = "DIR")]
    lake: String,
    /// Only objects that may hold events of this time or later, by their keys
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    from: Option<i64>,
    /// Only objects that may hold events before this time, by their keys
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    to: Option<i64>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    raw_input: RawInputArgs,
}

impl Convert {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        Location::check(&self.lake)?;
        Location::check_apart(&self.lake, &self.sources)?;
        let lake = Lake::open(&context.stores, &Location::of(&self.lake)).await?;
        let stores = self.raw_input.stores(context, &self.sources)?;
        let selection = self.selection.selection(Range { from: self.from, to: self.to });
        let trail = Trail::find(&stores, &self.sources, &selection).await?;
        let bar = context.output.progress(trail.objects.iter().map(|object| object.size).sum(), "converting");
        // As much as is gathered is being encoded, and both take about twice their bare size.
        let limits = Limits {
            threads: context.threads,
            memory: context.memory / 4,
            in_flight: context.in_flight(&self.sources),
        };
        let mut progress = |statistics: &crate::statistics::ScanStatistics| bar.set_position(statistics.stored_bytes);
        let converted = convert(trail, &lake, limits, &context.scratch, &mut progress).await?;
        bar.finish_and_clear();
        context.output.statistics(&converted.statistics, "converted");
        let bytes: u64 = converted.files.iter().map(|file| file.bytes).sum();
        context.output.talk(&format!("lake: {} files added, {bytes} bytes", converted.files.len()));
        if !converted.statistics.balances() {
            return Err(Error::Internal("the reconciliation does not balance".to_owned()));
        }
        let is_complete = if converted.statistics.objects.read == 0 {
            outcome::no_objects(context.output, selection.is_narrowed(), selection.events)
        } else {
            outcome::of_objects(context.output, &converted.statistics)
        };
        Ok(if is_complete { Status::Done } else { Status::Incomplete })
    }
}
