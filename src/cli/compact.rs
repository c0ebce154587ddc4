use clap::Args;

use super::Context;
use crate::delta::AsOf;
use crate::error::{Error, Status};
use crate::lake::Lake;
use crate::lake::maintenance::{self, Maintenance, READER_GRACE_PERIOD};
use crate::nightly::config::Age;
use crate::statistics::number_of;
use crate::store::Location;
use crate::time::{DAY, Instant, Period};

/// Merge small files of a lake and drop old days
///
/// Queries can run at the same time and still see each record once. Merged and dropped files are deleted by a later
/// run, 35 days later by default. Until then, earlier versions of the lake can be read.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny compact lake/\n  tawny compact s3://lake/cloudtrail --before 2026-09-01\n  tawny compact lake/ --retain 400d --dry-run"
)]
pub(super) struct CompactCommand {
    /// Folder of the lake, on disk or `s3://BUCKET/PREFIX`
    #[arg(value_name = "LAKE")]
    lake: String,
    /// Only merge days that end at or before this time [default: three days ago]
    #[arg(long, value_name = "TIME")]
    before: Option<Instant>,
    /// Drop days older than this, such as `400d` [default: keep all days]
    #[arg(long, value_name = "DAYS")]
    retain: Option<Age>,
    /// How long to keep merged and dropped files for readers of earlier versions [default: 35d]
    #[arg(long, value_name = "PERIOD")]
    keep_old: Option<Period>,
    /// Show what would be done, then exit
    #[arg(long)]
    dry_run: bool,
}

/// Time after which a day is expected to be complete, in microseconds.
const GRACE: i64 = 3 * DAY;

impl CompactCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let now = super::now();
        Location::check(&self.lake)?;
        let lake = Lake::open(&context.stores, &Location::of(&self.lake), AsOf::Latest).await?;
        if !lake.exists().await? {
            return Err(Error::Usage {
                message: format!("`{}` is not a lake", self.lake),
                hint: Some(format!("create one with `tawny convert SOURCE --lake {}`", self.lake)),
            });
        }
        let before = self.before.unwrap_or(now - GRACE);
        if self.dry_run {
            let mut is_useful = false;
            for (day, groups) in maintenance::plan_merges(&lake, before, context.memory / 4).await? {
                is_useful = true;
                let files: Vec<_> = groups.iter().flatten().collect();
                let bytes: u64 = files.iter().map(|file| file.bytes).sum();
                let count = number_of(files.len(), "file");
                let line = format!("{day}: would merge {count} ({bytes} bytes) into {}\n", groups.len());
                context.output.result(&line, None)?;
            }
            if let Some(age) = self.retain {
                let from = maintenance::retention_start(now, age.0);
                for file in maintenance::files_ending_by(&lake, from).await? {
                    is_useful = true;
                    context.output.result(&format!("{}: would be dropped\n", file.path), None)?;
                }
            }
            if !is_useful {
                context.output.result(&format!("nothing to merge before {before}, and nothing to drop\n"), None)?;
            }
            return Ok(Status::Done);
        }
        let mut maintenance = Maintenance::open(&lake, now, &context.scratch).await?;
        if let Some(age) = self.retain {
            maintenance.drop_older_than(age.0).await?;
        }
        if let Err(error) = maintenance.merge(before, context.memory / 4).await {
            context.output.talk(&maintenance.summary.to_string());
            return Err(error);
        }
        let grace = self.keep_old.map_or(READER_GRACE_PERIOD, Period::micros);
        maintenance.vacuum_removed(Instant::MIN, now - grace).await?;
        context.output.talk(&maintenance.summary.to_string());
        Ok(Status::Done)
    }
}
