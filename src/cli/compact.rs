use clap::Args;

use super::Context;
use crate::error::{Error, Status};
use crate::lake::Lake;
use crate::lake::maintenance::{self, Maintenance, READER_GRACE_PERIOD};
use crate::nightly::config::Age;
use crate::store::Location;
use crate::time::{self, DAY, Period};

/// Merge the small files of a lake's days, and drop old days
///
/// Readers see each record once all the while. Files that were merged or dropped are deleted a day later, by a later
/// run, and so are those that a conversion left behind that was broken off.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny compact lake/\n  tawny compact s3://lake/cloudtrail --before 2026-09-01\n  tawny compact lake/ --retain 400d --dry-run"
)]
pub(super) struct Compact {
    /// The lake's folder, on disk or `s3://BUCKET/PREFIX`
    #[arg(value_name = "LAKE")]
    lake: String,
    /// Only days that end at or before this time [default: three days before now]
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    before: Option<i64>,
    /// Drop days that are older than this, such as `400d`; all are kept where it is not given
    #[arg(long, value_name = "DAYS")]
    retain: Option<Age>,
    /// How long files that were merged or dropped stay for readers that are at them [default: 1d]
    #[arg(long, value_name = "PERIOD")]
    keep_old: Option<Period>,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// After this long nothing new is expected of a day, in microseconds.
const GRACE: i64 = 3 * DAY;

impl Compact {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        #[expect(clippy::disallowed_methods, reason = "days are old as of now")]
        let now = chrono::Utc::now().timestamp_micros();
        Location::check(&self.lake)?;
        let lake = Lake::open(&context.stores, &Location::of(&self.lake)).await?;
        if !lake.exists().await? {
            return Err(Error::Usage {
                message: format!("no lake lies at `{}`", self.lake),
                hint: Some("`tawny convert` makes one".to_owned()),
            });
        }
        let before = self.before.unwrap_or(now - GRACE);
        if self.dry_run {
            for (day, groups) in maintenance::plan_merges(&lake, before, context.memory / 4).await? {
                let files: Vec<_> = groups.iter().flatten().collect();
                let bytes: u64 = files.iter().map(|file| file.bytes).sum();
                let told = format!("{day}: {} files, {bytes} bytes, to be merged into {}\n", files.len(), groups.len());
                context.output.result(&told, None)?;
            }
            if let Some(age) = self.retain {
                for file in maintenance::files_ending_by(&lake, maintenance::retention_start(now, age.0)).await? {
                    context.output.result(&format!("{}: to be dropped\n", file.path), None)?;
                }
            }
            return Ok(Status::Done);
        }
        let mut maintenance = Maintenance::open(&lake, now, &context.scratch).await?;
        if let Some(age) = self.retain {
            maintenance.drop_older_than(age.0).await?;
        }
        maintenance.merge(before, context.memory / 4).await?;
        let grace = self.keep_old.map_or(READER_GRACE_PERIOD, Period::micros);
        maintenance.vacuum_removed(i64::MIN, now - grace).await?;
        maintenance.vacuum_orphans(now - grace).await?;
        context.output.talk(&maintenance.summary.to_string());
        Ok(Status::Done)
    }
}
