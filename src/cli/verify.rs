use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Context, TableOrJson, now, range};
use crate::error::{Error, Status};
use crate::lake::transaction_log::VerifiedObjects;
use crate::report;
use crate::statistics::number_of;
use crate::store::{self, Location, Object, SETTINGS_BYTES};
use crate::text::json;
use crate::time::{DAY, Instant, Range};
use crate::trail::{self, Selection};
use crate::verify::{self, ObjectManifest, Progress, PublicKeys, Request, Verification, VerifyLimits};

/// Verify raw log files with the digests of CloudTrail's log file validation
///
/// Checks the signature of every digest, the chain of digests, and the SHA-256 of every log file that they name. Lists the log
/// files that no digest names.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  aws cloudtrail list-public-keys --region us-east-1 --start-time 2026-01-01 > us-east-1.json\n  tawny verify s3://logs/AWSLogs --public-keys us-east-1.json --public-keys eu-west-1.json\n  tawny verify trail/ --public-keys keys.json --from 2026-09-01 --to 2026-10-01 --format json\n\nExit code 1: something is altered or missing. Exit code 3: something could not be checked."
)]
pub(super) struct VerifyCommand {
    /// Folders or prefixes with the folders CloudTrail and CloudTrail-Digest; on disk or `s3://BUCKET/PREFIX`
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    #[command(flatten)]
    keys: PublicKeyArgs,
    /// Only digests that cover deliveries after this time
    #[arg(long, value_name = "TIME")]
    from: Option<Instant>,
    /// Only digests that cover deliveries before this time
    #[arg(long, value_name = "TIME")]
    to: Option<Instant>,
    /// Only this account; separate several with commas or repeat the option
    #[arg(long, value_name = "ACCOUNT", value_delimiter = ',', value_parser = trail::account_id)]
    account: Vec<String>,
    /// Only this region; separate several with commas or repeat the option
    #[arg(long, value_name = "REGION", value_delimiter = ',', value_parser = trail::region_name)]
    region: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: TableOrJson,
    /// Write the output to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
}

/// Files with public keys.
#[derive(Debug, Args)]
pub(super) struct PublicKeyArgs {
    /// JSON file with public keys, as `aws cloudtrail list-public-keys` prints them; repeat it for each region
    #[arg(long, value_name = "FILE")]
    public_keys: Vec<PathBuf>,
}

impl PublicKeyArgs {
    /// Reads the keys. `None` if no file was named.
    ///
    /// # Errors
    /// A file cannot be read, or does not hold public keys.
    pub(super) fn read(&self) -> Result<Option<Arc<PublicKeys>>, Error> {
        read_keys(&self.public_keys)
    }
}

/// Reads the public keys in `files`. `None` without files.
pub(super) fn read_keys(files: &[PathBuf]) -> Result<Option<Arc<PublicKeys>>, Error> {
    let mut keys = PublicKeys::default();
    for path in files {
        let json = store::read_named("file of public keys", path, SETTINGS_BYTES)?;
        let unusable = |error| Error::Usage {
            message: format!("the file of public keys `{}` cannot be used: {error}", path.display()),
            hint: Some("write it with `aws cloudtrail list-public-keys --region REGION --start-time TIME`".to_owned()),
        };
        keys.add(&json).map_err(unusable)?;
    }
    Ok((!files.is_empty()).then(|| Arc::new(keys)))
}

impl VerifyCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        Context::check_outputs([&self.output, &None])?;
        for source in &self.sources {
            Location::check(source)?;
            if source == "-" {
                return Err(Error::Usage {
                    message: "standard input cannot be verified: digests name files".to_owned(),
                    hint: Some("name the folder or prefix that holds digests and log files".to_owned()),
                });
            }
        }
        let request = Request {
            sources: self.sources.clone(),
            selection: Selection {
                accounts: self.account.clone(),
                regions: self.region.clone(),
                ..Selection::default()
            },
            range: range::ordered(self.from, self.to)?,
            keys: self.keys.read()?,
            now: now(),
            limits: VerifyLimits { threads: context.threads, in_flight: context.in_flight(&self.sources) },
        };
        let bar = context.output.progress(0, "verifying");
        let mut progress = |progress: Progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        };
        let verification = verify::verify(&context.stores, &request, &mut progress).await?;
        bar.finish_and_clear();
        let text = match self.format {
            TableOrJson::Table => report::verify::text(&verification),
            TableOrJson::Json => json::pretty(&verification)
                .map_err(|error| Error::Internal(format!("a verification as JSON: {error}")))?,
        };
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        if verification.digests.is_none() {
            context.output.warn("warning: nothing was verified: no digests found");
            context.output.warn("  hint: name the folder or prefix that holds `CloudTrail-Digest` and `CloudTrail`");
        } else if verification.objects.missing > 0
            && verification.objects.verified + verification.objects.unchecked == 0
        {
            context.output.warn("note: the source has none of the log files that its digests name");
            context
                .output
                .warn("  hint: name the folder or prefix that holds both `CloudTrail-Digest` and `CloudTrail`");
        }
        Ok(verification.status())
    }
}

/// Where a conversion finds digests and public keys.
pub(super) struct VerificationSources<'v> {
    pub(super) digests: &'v [String],
    pub(super) keys: Option<Arc<PublicKeys>>,
}

impl VerificationSources<'_> {
    /// Reads what digests say about `objects`. `None` without digests.
    ///
    /// # Errors
    /// Public keys were named without digests, or the digests cannot be listed.
    pub(super) async fn manifest(
        self,
        context: &Context,
        objects: &[Object],
        selection: &Selection,
    ) -> Result<Option<Arc<ObjectManifest>>, Error> {
        if self.digests.is_empty() {
            return match self.keys {
                None => Ok(None),
                Some(_) => Err(Error::Usage {
                    message: "`--public-keys` needs `--verify DIGESTS`".to_owned(),
                    hint: Some("name the folder or prefix that holds `CloudTrail-Digest`".to_owned()),
                }),
            };
        }
        self.digests.iter().try_for_each(|source| Location::check(source))?;
        let request = Request {
            sources: self.digests.to_vec(),
            selection: Selection { events: Range::default(), ..selection.clone() },
            // Digests name when files were delivered, and they may be delivered long after an event.
            range: Range { from: selection.events.from.map(|from| from - DAY), to: None },
            keys: self.keys,
            now: now(),
            limits: VerifyLimits { threads: context.threads, in_flight: context.in_flight(self.digests) },
        };
        Ok(Some(Arc::new(ObjectManifest::read(&context.stores, &request, objects).await?)))
    }
}

/// Reports the digests of a manifest, and how many objects are verified. The status is `Done` if digests
/// were verified and none is altered or missing.
pub(super) fn report_manifest(
    context: &Context,
    manifest: &ObjectManifest,
    verified: Option<VerifiedObjects>,
) -> Status {
    let Verification { digests, .. } = &manifest.digests;
    if let Some(VerifiedObjects { objects, verified }) = verified {
        context.output.talk(&format!("verified: {verified} of {}", number_of(objects, "converted object")));
    }
    context.output.talk(&format!(
        "digests: {} verified, {} altered, {} missing, {} not checked",
        digests.verified, digests.altered, digests.missing, digests.unchecked
    ));
    for warning in report::verify::warnings(&manifest.digests) {
        context.output.warn(&format!("warning: {warning}"));
    }
    if manifest.digests.digests.is_none() {
        context.output.warn("warning: nothing was verified: no digests found");
    }
    if manifest.is_sound() { Status::Done } else { Status::Incomplete }
}
