//! Hunting a raw trail in place: only the objects that a range may touch are read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::TableProvider;

use super::matched::Matched;
use super::{Reach, sieve};
use crate::engine::raw_table::RawScan;
use crate::engine::{self, Resources};
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::{Rule, WindowKind};
use crate::store::Stores;
use crate::tally::Tally;
use crate::time::Range;
use crate::trail::{self, IN_A_LAKE, Selection, Sieve, Trail};

/// Called after each object with the bytes there are to read and what has been read so far.
pub type Progress = dyn Fn(u64, &Tally) + Send + Sync;

/// A raw trail to hunt.
pub struct RawTrail {
    stores: Stores,
    sources: Vec<String>,
    selection: Selection,
    in_flight: usize,
    progress: Arc<Progress>,
    read: Mutex<Read>,
    found_some: AtomicBool,
}

/// What the last hunt has read.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// What it was and what became of it: each time, where it was read several times.
    pub tally: Tally,
    /// How many times the trail was read, or the parts of it that some of the rules needed.
    pub passes: usize,
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
        }
    }

    /// What the last hunt has read.
    pub fn read(&self) -> Read {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no search found any objects, not even such as are left out.
    pub fn found_none(&self) -> bool {
        !self.found_some.load(Ordering::Relaxed)
    }

    /// The objects that may hold events with a time in `events`.
    pub async fn find(&self, events: Range) -> Result<Trail, Error> {
        let trail = Trail::find(&self.stores, &self.sources, &self.selection.during(events)).await?;
        if !trail.objects.is_empty() || trail.left_out.objects.read > 0 {
            self.found_some.store(true, Ordering::Relaxed);
        }
        if trail.left_out.objects.skipped.contains_key(IN_A_LAKE) {
            return Err(trail::in_a_lake());
        }
        Ok(trail)
    }

    /// One pass over the objects of `trail` that passes over what `sieve` does not admit.
    pub fn scan(&self, trail: Trail, sieve: Sieve) -> Arc<RawScan> {
        let total = trail.objects.iter().map(|object| object.size).sum();
        let progress = Arc::clone(&self.progress);
        RawScan::new(trail, sieve, self.in_flight, Arc::new(move |tally: &Tally| progress(total, tally)))
    }

    /// Keeps what a pass has read, in the place of what was read before, for [`RawTrail::read`].
    pub fn keep(&self, scan: &RawScan) {
        *self.lock() = Read::default();
        self.add(scan);
    }

    /// Adds what one more pass has read, and of its faults those that are not known.
    fn add(&self, scan: &RawScan) {
        let mut read = self.lock();
        let mut tally = scan.tally();
        tally.faults.retain(|fault| !read.tally.faults.contains(fault));
        read.tally.add(tally);
        read.passes += 1;
    }

    /// For each of `rules` its findings whose trigger lies in `range`, from one pass for all. Where that takes more
    /// memory than there is, each half of them has a pass, down to one rule by itself.
    pub(super) async fn hunt(
        &self,
        resources: &Resources,
        rules: &[Rule],
        range: Range,
    ) -> Result<Vec<Vec<Finding>>, Error> {
        *self.lock() = Read::default();
        self.together(resources, rules, range).await
    }

    async fn together(&self, resources: &Resources, rules: &[Rule], range: Range) -> Result<Vec<Vec<Finding>>, Error> {
        let mut reaches: Vec<Reach> = rules.iter().map(|rule| Reach::first(rule.window)).collect();
        loop {
            let reads: Vec<Range> = reaches.iter().map(|reach| reach.around(range)).collect();
            let read = reads.iter().copied().reduce(Range::union).unwrap_or(range);
            let (scan, table) = self.pass(resources, rules, read).await?;
            let found = async {
                let matched = Matched::scan(resources, table, rules, reads, WHAT).await?;
                matched.hunt(resources, range).await
            };
            let outcome = match found.await {
                Err(error) if error.is_exhausted() => break,
                outcome => outcome?,
            };
            if outcome.short.is_empty() {
                self.add(&scan);
                return Ok(outcome.findings);
            }
            for number in outcome.short {
                reaches[number] = reaches[number].further();
            }
        }
        if let [rule] = rules {
            return Ok(vec![self.by_query(resources, rule, range).await?]);
        }
        let (some, others) = rules.split_at(rules.len() / 2);
        let mut findings = Box::pin(self.together(resources, some, range)).await?;
        findings.extend(Box::pin(self.together(resources, others, range)).await?);
        Ok(findings)
    }

    /// The findings of one rule, by its own query, whose sorts go to disk where memory does not suffice.
    async fn by_query(&self, resources: &Resources, rule: &Rule, range: Range) -> Result<Vec<Finding>, Error> {
        let mut reach = Reach::first(rule.window);
        if rule.window.kind == WindowKind::Dedup {
            // Whether less suffices would take a pass to find out.
            reach.back = None;
        }
        loop {
            let read = reach.around(range);
            let (scan, table) = self.pass(resources, std::slice::from_ref(rule), read).await?;
            let findings = super::attempt(resources, table, rule, range, read).await?;
            if let Some(findings) = findings {
                self.add(&scan);
                return Ok(findings);
            }
            reach = reach.further();
        }
    }

    async fn pass(
        &self,
        resources: &Resources,
        rules: &[Rule],
        read: Range,
    ) -> Result<(Arc<RawScan>, Arc<dyn TableProvider>), Error> {
        let scan = self.scan(self.find(read).await?, sieve(rules));
        let table = engine::raw_table(&scan, resources.threads).map_err(|error| Error::query(WHAT, error))?;
        Ok((scan, table))
    }
}

/// What is queried, as errors name it.
const WHAT: &str = "the raw trail";
