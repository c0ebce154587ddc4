//! The nightly run: converts new objects, hunts the times that they affect, and delivers findings that changed.
//!
//! A run reads the state of the last run. Once all its findings are on disk, it commits a state of its own: from then
//! on the findings count, and each sink receives them, if need be from a later run. A run killed before the commit has
//! changed only the lake, and the next run hunts its new files. After the commit, the next run delivers.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use crate::convert::{self, Limits, VerifiableTrail};
use crate::error::Error;
use crate::lake::Lake;
use crate::lake::maintenance;
use crate::sink::Sink;
use crate::statistics::ScanStatistics;
use crate::store::Scratch;
use crate::time::Instant;

mod affected;
pub mod changes;
pub mod config;
mod deliver;
mod hunting;
mod maintain;
mod report;
mod seen;
mod sources;
pub mod state;
mod verification;
pub mod version;

pub use deliver::DeliveryReport;
pub use hunting::HuntSettings;
pub use maintain::MaintenanceSettings;
pub use report::{HuntReport, ReportedRule, RunPlan, RunReport};
pub use sources::{NightlySource, SourceListing};
pub use verification::{NightlyVerification, VerificationReport};

use changes::ChangedFinding;
use hunting::NightlyHunt;
use sources::NewObjects;
use state::{PendingDelivery, PendingObject, RunState, StateStore};
use version::version;

/// Number of runs whose states are kept.
const KEPT_RUNS: u32 = 30;

/// The settings of a nightly run.
pub struct Nightly<'n> {
    /// Where the lake and the state are.
    pub storage: Storage<'n>,
    /// Which objects to convert.
    pub listing: SourceListing<'n>,
    /// How to verify objects before they are converted. `None` to verify none.
    pub verification: Option<NightlyVerification>,
    /// Resource limits of the conversion.
    pub conversion: Limits,
    /// Which rules to hunt.
    pub hunt: HuntSettings<'n>,
    /// Where to deliver findings.
    pub sinks: &'n [Sink],
    /// How to maintain the lake.
    pub maintenance: MaintenanceSettings,
    /// The current time.
    pub now: Instant,
}

/// Where a nightly run keeps its data.
#[derive(Clone, Copy)]
pub struct Storage<'n> {
    /// The lake.
    pub lake: &'n Lake,
    /// Name of the state, which is stored in the lake's folder.
    pub state: &'n str,
    /// Where unfinished files are written.
    pub scratch: &'n Scratch,
}

impl Nightly<'_> {
    /// Runs. Calls `progress` with the counts so far. `print` writes the lines of a sink to standard output.
    ///
    /// # Errors
    /// The lake or the state cannot be used, or another run holds its lock. Objects and sinks that fail are not errors:
    /// the report lists them, and the next run tries them again.
    pub async fn run(
        &self,
        progress: &mut (dyn FnMut(&ScanStatistics) + Send),
        print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
    ) -> Result<RunReport, Error> {
        let Storage { lake, state, scratch } = self.storage;
        let store = StateStore::open(lake, state, scratch).await?;
        let last = store.last_state().await?;
        state::check_hunted_commits(lake, state, &last).await?;
        let mut next = self.next_state(&last);
        let mut report = RunReport { run: next.run, now: next.now, ..RunReport::default() };
        deliver::drop_removed_sinks(self.sinks, &mut next, &mut report.deliveries);

        self.convert(&last, &mut next, &mut report, progress).await?;
        // One version for the whole hunt: what others commit from now on is hunted by the next run.
        let lake = &lake.clone().pinned().await?;
        let hunt = NightlyHunt { settings: &self.hunt, lake, sinks: self.sinks, store: &store, last: &last };
        let changes = hunt.run(&mut next, &mut report).await?;
        if !changes.is_empty() {
            let file = store.write_lines(next.run, changes.iter().map(|change| &change.line)).await?;
            let run = next.run;
            next.deliveries.extend(self.sinks.iter().filter_map(|sink| delivery_to(sink, run, &file, &changes)));
        }
        store.commit(&next).await?;
        tracing::info!(run = next.run, lines = changes.len(), "findings written");
        report.deliveries.extend(deliver::deliver(self.sinks, &store, &next.deliveries, &next.origin, print).await?);
        let deleted = store.delete_old_files(&next, next.run.saturating_sub(KEPT_RUNS)).await?;
        tracing::debug!(deleted, "deleted files of earlier runs");
        if let Err(error) = self.maintenance.run(self.storage, self.now, &mut report.maintenance).await {
            tracing::warn!(%error, "lake maintenance failed; the next run continues it");
            report.maintenance_error = Some(error.to_string());
        }
        Ok(report)
    }

    /// Returns what a run would do. Writes nothing and takes no lock.
    pub async fn plan(&self) -> Result<RunPlan, Error> {
        let Storage { lake, state, .. } = self.storage;
        let last = state::read_state(lake, state).await?;
        state::check_hunted_commits(lake, state, &last).await?;
        let NewObjects { trail, unlisted, .. } = self.listing.find(&last, self.now).await?;
        let (converted, commits) = if lake.exists().await? {
            (convert::converted_object_ids(lake, &trail.objects).await?, lake.transaction_log().last_commit().await?)
        } else {
            Default::default()
        };
        let new: Vec<_> = trail.objects.iter().filter(|object| !converted.contains(&object.identity())).collect();
        let (mut mergeable, mut droppable) = (0, 0);
        let MaintenanceSettings { merge_small_files, merge_after, memory, retain, keep_old: _ } = self.maintenance;
        if merge_small_files {
            let days = maintenance::plan_merges(lake, self.now - merge_after, memory).await?;
            mergeable = days.into_values().flatten().flatten().count();
        }
        if let Some(retain) = retain {
            let from = maintenance::retention_start(self.now, retain);
            droppable = maintenance::files_ending_by(lake, from).await?.len();
        }
        let changed_rules = self.hunt.rules.iter().filter(|rule| last.rules.get(&rule.id) != Some(&version(rule)));
        Ok(RunPlan {
            run: last.run + 1,
            objects: new.len(),
            bytes: new.iter().map(|object| object.size).sum(),
            commits: commits.saturating_sub(last.hunted_commits),
            changed_rules: changed_rules.map(|rule| rule.id.clone()).collect(),
            pending_deliveries: last.deliveries,
            pending: last.pending,
            unlisted,
            mergeable,
            droppable,
        })
    }

    /// Returns the state of this run, before it has read anything.
    fn next_state(&self, last: &RunState) -> RunState {
        let random = || format!("{:016x}", RandomState::new().build_hasher().finish());
        RunState {
            run: last.run + 1,
            id: random(),
            origin: if last.origin.is_empty() { random() } else { last.origin.clone() },
            now: Some(self.now),
            since: self.hunt.since,
            rules: BTreeMap::new(),
            ..last.clone()
        }
    }

    /// Converts the new objects, and records which objects and sources the next run has to read again.
    async fn convert(
        &self,
        last: &RunState,
        next: &mut RunState,
        report: &mut RunReport,
        progress: &mut (dyn FnMut(&ScanStatistics) + Send),
    ) -> Result<(), Error> {
        let found = self.listing.find(last, self.now).await?;
        next.listed = found.listed;
        for fault in &found.unlisted {
            tracing::warn!(source = fault.object, reason = fault.reason, "cannot list a source");
        }
        report.unlisted = found.unlisted;
        let Storage { lake, scratch, .. } = self.storage;
        let objects = &found.trail.objects;
        let manifest = match &self.verification {
            Some(verification) => {
                verification.manifest(self.listing.stores, objects, (self.conversion, self.now)).await?
            }
            None => None,
        };
        let source = VerifiableTrail { trail: found.trail, manifest: manifest.clone() };
        let conversion = convert::convert(source, lake, self.conversion, scratch, progress).await?;
        report.verification = manifest.map(|manifest| VerificationReport::new(&manifest, conversion.verified));
        let unreachable = found.unreachable.into_iter().map(|pending| (pending.object, pending.reason));
        let unread = conversion.unread.into_iter().map(|fault| (fault.object, fault.reason));
        let since_run: BTreeMap<&str, u32> =
            last.pending.iter().map(|pending| (pending.object.as_str(), pending.since_run)).collect();
        let pending = unreachable.chain(unread).map(|(object, reason)| PendingObject {
            since_run: since_run.get(object.as_str()).copied().unwrap_or(next.run),
            object,
            reason,
        });
        next.pending = pending.collect();
        next.pending.sort_by(|a, b| a.object.cmp(&b.object));
        next.pending.dedup_by(|a, b| a.object == b.object);
        report.pending.clone_from(&next.pending);
        for gone in found.gone {
            tracing::warn!(object = gone.object, reason = gone.reason, "a pending object is gone");
            report.pending.push(gone);
        }
        tracing::info!(
            objects = conversion.statistics.objects.used,
            files = conversion.files.len(),
            pending = next.pending.len(),
            "converted"
        );
        report.files = conversion.files.len();
        report.read = conversion.statistics;
        Ok(())
    }
}

/// Returns the delivery of those `changes` that `sink` receives, or `None` if there are none.
fn delivery_to(sink: &Sink, run: u32, file: &str, changes: &[ChangedFinding]) -> Option<PendingDelivery> {
    let is_for_sink = |(_, change): &(usize, &ChangedFinding)| change.sinks.contains(sink.name());
    let lines: Vec<usize> = changes.iter().enumerate().filter(is_for_sink).map(|(index, _)| index).collect();
    (!lines.is_empty()).then(|| PendingDelivery {
        sink: sink.name().to_owned(),
        run,
        file: file.to_owned(),
        lines: changes.len(),
        undelivered: Some(lines),
    })
}
