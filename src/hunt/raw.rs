//! Hunting a raw trail in place: only the objects that a range may touch are read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::matched::Matched;
use super::{HuntOutcome, Reach, prefilter};
use crate::engine::Resources;
use crate::engine::raw_table::RawScan;
use crate::error::Error;
use crate::rule::Rule;
use crate::store::{Object, Stores};
use crate::tally::Tally;
use crate::time::Range;
use crate::trail::{self, Prefilter, Selection, Trail};

/// Objects that are kept of a search, to look into what the prefilter of a hunt skipped.
const SAMPLED_OBJECTS: usize = 16;

/// Called after each object with the bytes there are to read and what has been read so far.
pub type Progress = dyn Fn(u64, &Tally) + Send + Sync;

/// A raw trail to hunt.
pub struct RawTrail {
    stores: Stores,
    sources: Vec<String>,
    selection: Selection,
    in_flight: usize,
    progress: Arc<Progress>,
    read: Mutex<Tally>,
    found_some: AtomicBool,
    /// A few of the objects that the last search found.
    sample: Mutex<Vec<Object>>,
}

impl std::fmt::Debug for RawTrail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawTrail").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl RawTrail {
    /// The objects that `sources` name, as far as `selection` admits them, `in_flight` of them being read at a time.
    pub fn new(
        stores: Stores,
        sources: Vec<String>,
        selection: Selection,
        in_flight: usize,
        progress: Arc<Progress>,
    ) -> RawTrail {
        RawTrail {
            stores,
            sources,
            selection,
            in_flight,
            progress,
            read: Mutex::default(),
            found_some: AtomicBool::default(),
            sample: Mutex::default(),
        }
    }

    /// What the last hunt has read.
    pub fn read(&self) -> Tally {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no search found any objects, not even such as are left out.
    pub fn found_none(&self) -> bool {
        !self.found_some.load(Ordering::Relaxed)
    }

    /// Which objects are looked for.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The objects that may hold events with a time in `events`.
    pub async fn find(&self, events: Range) -> Result<Trail, Error> {
        let trail = Trail::find(&self.stores, &self.sources, &self.selection.during(events)).await?;
        if !trail.is_empty() {
            self.found_some.store(true, Ordering::Relaxed);
        }
        let step = trail.objects.len().div_ceil(SAMPLED_OBJECTS).max(1);
        *self.lock_sample() = trail.objects.iter().step_by(step).cloned().collect();
        if let Some(file) = &trail.lake_file {
            return Err(trail::lake_file_error(file));
        }
        Ok(trail)
    }

    /// Returns a few of the objects that the last search found, without another search.
    pub(super) fn sample(&self) -> Trail {
        Trail { stores: self.stores.clone(), objects: self.lock_sample().clone(), ..Trail::default() }
    }

    fn lock_sample(&self) -> MutexGuard<'_, Vec<Object>> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One pass over the objects of `trail` that passes over what `prefilter` does not admit.
    pub fn scan(&self, trail: Trail, prefilter: Prefilter) -> Arc<RawScan> {
        let total = trail.objects.iter().map(|object| object.size).sum();
        let progress = Arc::clone(&self.progress);
        RawScan::new(trail, prefilter, self.in_flight, Arc::new(move |tally: &Tally| progress(total, tally)))
    }

    /// Keeps what a pass has read, in the place of what was read before, for [`RawTrail::read`].
    pub fn keep(&self, scan: &RawScan) {
        *self.lock() = scan.tally();
    }

    /// For each of `rules` its findings whose trigger lies in `range`, and the duplicates among what they match, from one
    /// pass for all; from another where
    /// some of them need more than was read.
    pub(super) async fn hunt(&self, resources: &Resources, rules: &[Rule], range: Range) -> Result<HuntOutcome, Error> {
        *self.lock() = Tally::default();
        let mut reaches: Vec<Reach> = rules.iter().map(|rule| Reach::first(rule.window)).collect();
        loop {
            let reads: Vec<Range> = reaches.iter().map(|reach| reach.around(range)).collect();
            let read = reads.iter().copied().reduce(Range::union).unwrap_or(range);
            let scan = self.scan(self.find(read).await?, prefilter(rules));
            let table = super::raw_table(resources, &scan).await.map_err(|error| Error::query(WHAT, error))?;
            let matched = Matched::scan(resources, table, &rules.iter().collect::<Vec<_>>(), reads, WHAT).await?;
            let outcome = matched.hunt(resources, range).await?;
            if outcome.short.is_empty() {
                self.keep(&scan);
                let duplicates = Some(matched.duplicates(resources, range).await?);
                return Ok(HuntOutcome { findings: outcome.findings, duplicates });
            }
            for number in outcome.short {
                reaches[number] = reaches[number].further();
            }
        }
    }
}

/// What is queried, as errors name it.
const WHAT: &str = "the raw trail";
