use clap::Args;

use super::raw_input::RawInputArgs;
use super::verify::{PublicKeyArgs, VerificationSources, report_manifest};
use super::{Context, SelectionArgs, outcome};
use crate::convert::{Limits, VerifiableTrail, convert};
use crate::delta::AsOf;
use crate::error::{Error, Status};
use crate::lake::Lake;
use crate::statistics::{ScanStatistics, number_of};
use crate::store::Location;
use crate::time::{Instant, Range};
use crate::trail::Trail;

/// Convert a raw trail to a lake of Parquet files
///
/// Objects that were converted before are skipped, so running again adds only new objects.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny convert trail/ --lake lake/\n  tawny convert s3://logs/AWSLogs --from 2026-09-01 --lake s3://lake/cloudtrail\n  tawny convert 'logs/AWSLogs/*/CloudTrail/**/*.json.gz' --lake lake/\n  tawny convert trail/ --lake lake/ --verify trail/ --public-keys keys.json"
)]
pub(super) struct ConvertCommand {
    /// Files, folders or quoted globs of CloudTrail as AWS delivers it; on disk or `s3://BUCKET/PREFIX`; `-` reads
    /// standard input
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// Folder of the lake, created if it does not exist; on disk or `s3://BUCKET/PREFIX`
    #[arg(long, value_name = "DIR")]
    lake: String,
    /// Only objects that, by their keys, may hold events at or after this time
    #[arg(long, value_name = "TIME")]
    from: Option<Instant>,
    /// Only objects that, by their keys, may hold events before this time
    #[arg(long, value_name = "TIME")]
    to: Option<Instant>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    raw_input: RawInputArgs,
    /// Folder or prefix with CloudTrail's digests: reject objects whose content has another hash than its digest names, and
    /// record which objects are verified
    #[arg(long, value_name = "DIGESTS")]
    verify: Vec<String>,
    #[command(flatten)]
    keys: PublicKeyArgs,
}

impl ConvertCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        Location::check(&self.lake)?;
        Location::check_apart(&self.lake, &self.sources)?;
        let lake = Lake::open(&context.stores, &Location::of(&self.lake), AsOf::Latest).await?;
        let stores = self.raw_input.stores(context, &self.sources)?;
        let selection = self.selection.selection(Range { from: self.from, to: self.to });
        let trail = Trail::find(&stores, &self.sources, &selection).await?;
        let verification = VerificationSources { digests: &self.verify, keys: self.keys.read()? };
        let manifest = verification.manifest(context, &trail.objects, &selection).await?;
        let bar = context.output.progress(trail.objects.iter().map(|object| object.size).sum(), "converting");
        // One batch is collected while another is encoded, and each takes about twice its net size.
        let limits = Limits {
            threads: context.threads,
            memory: context.memory / 4,
            in_flight: context.in_flight(&self.sources),
        };
        let mut progress = |statistics: &ScanStatistics| bar.set_position(statistics.stored_bytes);
        let source = VerifiableTrail { trail, manifest: manifest.clone() };
        let converted = convert(source, &lake, limits, &context.scratch, &mut progress).await?;
        bar.finish_and_clear();
        context.output.statistics(&converted.statistics, "converted");
        let bytes: u64 = converted.files.iter().map(|file| file.bytes).sum();
        context.output.talk(&format!("lake: {} added, {bytes} bytes", number_of(converted.files.len(), "file")));
        let checked = manifest.map_or(Status::Done, |manifest| report_manifest(context, &manifest, converted.verified));
        if !converted.statistics.balances() {
            return Err(Error::Internal("the reconciliation does not balance".to_owned()));
        }
        let read = if converted.statistics.objects.read == 0 {
            outcome::report_no_objects(context.output, selection.is_narrowed(), selection.events)
        } else {
            outcome::report_objects(context.output, &converted.statistics)
        };
        Ok(read.max(checked))
    }
}
