//! The nightly run: what is new is converted, what it touches is hunted, what has changed is delivered.
//!
//! A run reads the state that the last one left, and leaves one itself once all that it found is written down; from
//! then on its findings count, and each sink is owed them until it has taken them. Killed before, it has changed
//! nothing but the lake, whose new files the next run hunts; killed after, the next run delivers.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use serde::Serialize;

use crate::convert::{self, Limits};
use crate::engine::Resources;
use crate::error::{Error, Fault};
use crate::hunt;
use crate::lake::Lake;
use crate::lake::maintenance::{self, Maintenance, MaintenanceSummary, READER_GRACE_PERIOD};
use crate::lake::transaction_log::FileEntry;
use crate::rule::{Rule, WindowKind};
use crate::sink::Sink;
use crate::statistics::{Duplicates, ScanStatistics};
use crate::store::{Scratch, Stores};
use crate::time::{self, DAY, Instant, Range};
use crate::trail::{self, Selection, Trail};

pub mod changes;
pub mod config;
mod deliver;
pub mod state;
mod touched;
pub mod version;

use changes::{Change, Counts, Hunted, Ledger};
pub use deliver::Delivered;
use state::{Owed, PendingObject, State, Store};
use version::version;

/// How far back is looked for files that upkeep removed and that are to be deleted, in microseconds.
const SWEPT_WITHIN: i64 = 30 * DAY;

/// How many runs' states stay for a look back.
const KEPT_RUNS: u32 = 30;

/// How many days before the last event are looked at for days without events.
const GAPS_WITHIN: i64 = 400;

/// What a run works with.
pub struct Nightly<'n> {
    /// The disk and the buckets.
    pub stores: &'n Stores,
    /// Where unfinished work lies.
    pub scratch: &'n Scratch,
    /// The engine's.
    pub resources: &'n Resources,
    /// The conversion's.
    pub limits: Limits,
    /// The lake.
    pub lake: &'n Lake,
    /// The name of the state, beside the lake.
    pub state: &'n str,
    /// Where objects come from.
    pub sources: &'n [Source],
    /// The rules.
    pub rules: &'n [Rule],
    /// Where findings go.
    pub sinks: &'n [Sink],
    /// How long after its delivery an object may still appear, in microseconds: days so far back are listed again.
    pub grace: i64,
    /// Findings triggered before this time are of no interest.
    pub since: Option<i64>,
    /// The time that counts as now.
    pub now: i64,
    /// Whether all is listed, however old.
    pub full: bool,
    /// Whether small files of days past their grace are merged.
    pub compact: bool,
    /// Days older than this are dropped from the lake, in microseconds.
    pub retain: Option<i64>,
}

/// A source of objects, and which of them are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A folder, a pattern or an object, on disk or in S3.
    pub path: String,
    /// Which objects; its range is set by the run.
    pub selection: Selection,
}

impl Source {
    /// What tells the source, with what is asked of it, from others.
    fn name(&self) -> String {
        let Selection { accounts, regions, .. } = &self.selection;
        let of = |what: &str, names: &[String]| {
            if names.is_empty() { String::new() } else { format!(" {what} {}", names.join(",")) }
        };
        format!("{}{}{}", self.path, of("accounts", accounts), of("regions", regions))
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Its number.
    pub run: u32,
    /// The time that was now for it.
    pub now: Option<Instant>,
    /// What was read, and what became of it.
    pub read: ScanStatistics,
    /// Files that were added to the lake.
    pub files: usize,
    /// Objects that could not be read, and are tried again.
    pub pending: Vec<PendingObject>,
    /// Sources that could not be listed, and are listed as far back by the next run.
    pub unlisted: Vec<Fault>,
    /// What was hunted for.
    pub hunts: Vec<HuntReport>,
    /// The findings of all rules.
    pub findings: Counts,
    /// Matches in the findings that are new or grown.
    pub matches: u64,
    /// What became of what sinks are owed.
    pub deliveries: Vec<Delivered>,
    /// What was merged, dropped and deleted in the lake.
    pub upkeep: MaintenanceSummary,
    /// Why upkeep was broken off; nothing is lost by that.
    pub upkeep_error: Option<String>,
    /// The latest event.
    pub newest_event: Option<Instant>,
    /// For each account and region, written `account/region`, its newest event.
    pub newest: BTreeMap<String, Instant>,
    /// Days between the first and the last of which the lake holds nothing.
    pub empty_days: Vec<String>,
}

/// One reading of the lake.
#[derive(Debug, Clone, Serialize)]
pub struct HuntReport {
    /// The rules.
    pub rules: Vec<String>,
    /// Triggers from this time on.
    pub from: Option<Instant>,
    /// Triggers before this time.
    pub to: Option<Instant>,
    /// Why: new events, or a new version of the rules.
    pub cause: &'static str,
    /// The duplicates among what any of the rules matches in that time; absent where they were not counted.
    pub duplicates: Option<Duplicates>,
}

impl Report {
    /// Whether something is left to be done by the next run.
    pub fn is_incomplete(&self) -> bool {
        self.read.is_incomplete()
            || !self.pending.is_empty()
            || !self.unlisted.is_empty()
            || self.deliveries.iter().any(|delivered| delivered.error.is_some())
            || self.upkeep_error.is_some()
    }
}

/// What a run would do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Its number.
    pub run: u32,
    /// Objects that the lake does not hold.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Commits of the lake that were not hunted yet.
    pub commits: u32,
    /// Rules that are new, or that have changed.
    pub changed_rules: Vec<String>,
    /// What sinks are owed.
    pub owed: Vec<Owed>,
    /// Objects that could not be read by the last run.
    pub pending: Vec<PendingObject>,
    /// Sources that cannot be listed.
    pub unlisted: Vec<Fault>,
    /// Files of the lake that would be merged.
    pub mergeable: usize,
    /// Files of the lake that would be dropped, since their days are older than is kept.
    pub droppable: usize,
}

/// What a look at the sources found.
#[derive(Default)]
struct Found {
    trail: Trail,
    /// For each source that could be listed, when that was; for the others when it was the last time.
    listed: BTreeMap<String, Instant>,
    unlisted: Vec<Fault>,
    /// The pending objects that could not be looked for.
    pending: Vec<PendingObject>,
    /// The pending objects that are there no more. They are told once.
    gone: Vec<PendingObject>,
}

/// One reading of the lake: which rules, and for which triggers.
struct Reading {
    rules: Vec<usize>,
    range: Range,
    cause: &'static str,
}

impl Nightly<'_> {
    /// Does the run. `progress` is told what was read so far; `print` takes what a sink writes to standard output.
    ///
    /// # Errors
    /// Where the lake or the state cannot be used, or another run has them. What one object or one sink refuses
    /// is no error; it is in the report, and tried again by the next run.
    pub async fn run(
        &self,
        progress: &mut (dyn FnMut(&ScanStatistics) + Send),
        print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
    ) -> Result<Report, Error> {
        let store = Store::open(self.lake, self.state, self.scratch).await?;
        let last = store.last().await?;
        state::check_hunted(self.lake, self.state, &last).await?;
        let now = Some(Instant::from_micros(self.now));
        let random = || format!("{:016x}", RandomState::new().build_hasher().finish());
        let mut next = State {
            run: last.run + 1,
            id: random(),
            origin: if last.origin.is_empty() { random() } else { last.origin.clone() },
            now,
            since: self.since.map(Instant::from_micros),
            rules: BTreeMap::new(),
            ..last.clone()
        };
        let mut report = Report { run: next.run, now, ..Report::default() };
        deliver::drop_unknown(self.sinks, &mut next, &mut report.deliveries);

        self.convert(&last, &mut next, &mut report, progress).await?;
        let changes = self.hunt(&store, &last, &mut next, &mut report).await?;
        if !changes.is_empty() {
            let file = store.keep_lines(next.run, changes.iter().map(|change| &change.line)).await?;
            let owed = |sink: &Sink| {
                let takes = |(_, change): &(usize, &Change)| change.sinks.contains(sink.name());
                let places: Vec<usize> = changes.iter().enumerate().filter(takes).map(|(place, _)| place).collect();
                let (sink, run, file, lines) = (sink.name().to_owned(), next.run, file.clone(), changes.len());
                (!places.is_empty()).then_some(Owed { sink, run, file, lines, left: Some(places) })
            };
            next.deliveries.extend(self.sinks.iter().filter_map(owed));
        }
        store.commit(&next).await?;
        tracing::info!(run = next.run, lines = changes.len(), "what was found is written down");
        report.deliveries.extend(deliver::deliver(self.sinks, &store, &next.deliveries, &next.origin, print).await?);
        let cleared = store.clear(&next, next.run.saturating_sub(KEPT_RUNS)).await?;
        tracing::debug!(cleared, "files that earlier runs left were deleted");
        if let Err(error) = self.keep(&mut report.upkeep).await {
            tracing::warn!(%error, "the lake's upkeep was broken off; the next run goes on with it");
            report.upkeep_error = Some(error.to_string());
        }
        Ok(report)
    }

    /// What a run would do. Nothing is written, and no other run is held up.
    pub async fn plan(&self) -> Result<Plan, Error> {
        let last = state::look(self.lake, self.state).await?;
        state::check_hunted(self.lake, self.state, &last).await?;
        let Found { trail, unlisted, .. } = self.find(&last).await?;
        let (held, commits) = if self.lake.exists().await? {
            (
                convert::converted_object_ids(self.lake, &trail.objects).await?,
                self.lake.transaction_log().last_commit().await?,
            )
        } else {
            Default::default()
        };
        let new: Vec<_> = trail.objects.iter().filter(|object| !held.contains(&object.identity())).collect();
        let (mut mergeable, mut droppable) = (0, 0);
        if self.compact {
            let days = maintenance::plan_merges(self.lake, self.long_ago(self.grace), self.limits.memory).await?;
            mergeable = days.into_values().flatten().flatten().count();
        }
        if let Some(retain) = self.retain {
            droppable =
                maintenance::files_ending_by(self.lake, maintenance::retention_start(self.now, retain)).await?.len();
        }
        let mut changed_rules = Vec::new();
        for rule in self.rules {
            if last.rules.get(&rule.id) != Some(&version(rule)) {
                changed_rules.push(rule.id.clone());
            }
        }
        Ok(Plan {
            run: last.run + 1,
            objects: new.len(),
            bytes: new.iter().map(|object| object.size).sum(),
            commits: commits.saturating_sub(last.hunted_commits),
            changed_rules,
            owed: last.deliveries,
            pending: last.pending,
            unlisted,
            mergeable,
            droppable,
        })
    }

    /// The objects that may be new.
    async fn find(&self, last: &State) -> Result<Found, Error> {
        let mut found = Found { trail: Trail { stores: self.stores.clone(), ..Trail::default() }, ..Found::default() };
        for source in self.sources {
            let name = source.name();
            let listed = last.listed.get(&name).map(|listed| listed.micros());
            let from = listed.filter(|_| !self.full).map(|listed| listed.min(self.now).saturating_sub(self.grace));
            let selection = source.selection.during(Range { from, to: None });
            match Trail::find(self.stores, std::slice::from_ref(&source.path), &selection).await {
                Ok(trail) if from.is_none() && trail.is_empty() => {
                    let selected = if selection.is_narrowed() { " of the accounts and regions" } else { "" };
                    let reason = format!("it holds no objects{selected}");
                    found.unlisted.push(Fault { object: source.path.clone(), position: None, reason });
                }
                Ok(trail) => {
                    found.trail.objects.extend(trail.objects);
                    found.trail.excluded.add(trail.excluded);
                    found.listed.insert(name, Instant::from_micros(self.now));
                }
                Err(error) => {
                    let fault = Fault { object: source.path.clone(), position: None, reason: error.to_string() };
                    found.unlisted.push(fault);
                    // The next run looks as far back as this one would have.
                    found.listed.extend(last.listed.get(&name).map(|listed| (name, *listed)));
                }
            }
        }
        for pending in &last.pending {
            // Only the answer that it is not there gives an object up. No error does, as it may pass.
            let searched = match trail::object_exists(self.stores, &pending.object).await {
                Ok(true) => Trail::find(self.stores, std::slice::from_ref(&pending.object), &Selection::default())
                    .await
                    .map(Some),
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            };
            match searched {
                Ok(Some(trail)) => found.trail.objects.extend(trail.objects),
                // Where a source cannot be listed, an object may be missing only for now.
                Ok(None) if found.unlisted.is_empty() => {
                    found.gone.push(PendingObject { reason: "it is not there any more".to_owned(), ..pending.clone() });
                }
                Ok(None) => found.pending.push(pending.clone()),
                Err(error) => found.pending.push(PendingObject { reason: error.to_string(), ..pending.clone() }),
            }
        }
        // An object may be named by several sources, and be pending too.
        let mut seen = BTreeSet::new();
        found.trail.objects.retain(|object| seen.insert(object.real.as_os_str().to_owned()));
        Ok(found)
    }

    async fn convert(
        &self,
        last: &State,
        next: &mut State,
        report: &mut Report,
        progress: &mut (dyn FnMut(&ScanStatistics) + Send),
    ) -> Result<(), Error> {
        let found = self.find(last).await?;
        next.listed = found.listed;
        for fault in &found.unlisted {
            tracing::warn!(source = fault.object, reason = fault.reason, "a source could not be listed");
        }
        report.unlisted = found.unlisted;
        let converted = convert::convert(found.trail, self.lake, self.limits, self.scratch, progress).await?;
        let unfound = found.pending.into_iter().map(|pending| (pending.object, pending.reason));
        let unread = converted.unread.into_iter().map(|fault| (fault.object, fault.reason));
        let known: BTreeMap<&str, u32> =
            last.pending.iter().map(|pending| (pending.object.as_str(), pending.since_run)).collect();
        let pending = unfound.chain(unread).map(|(object, reason)| PendingObject {
            since_run: known.get(object.as_str()).copied().unwrap_or(next.run),
            object,
            reason,
        });
        next.pending = pending.collect();
        next.pending.sort_by(|a, b| a.object.cmp(&b.object));
        next.pending.dedup_by(|a, b| a.object == b.object);
        report.pending.clone_from(&next.pending);
        for gone in found.gone {
            let reason = format!("{}; it was never read, and is given up", gone.reason);
            tracing::warn!(object = gone.object, reason, "a pending object is gone");
            report.pending.push(PendingObject { reason, ..gone });
        }
        tracing::info!(
            objects = converted.statistics.objects.used,
            files = converted.files.len(),
            pending = next.pending.len(),
            "converted"
        );
        report.files = converted.files.len();
        report.read = converted.statistics;
        Ok(())
    }

    /// Hunts what the new files of the lake touch, and the whole for rules that are new or have changed.
    async fn hunt(
        &self,
        store: &Store,
        last: &State,
        next: &mut State,
        report: &mut Report,
    ) -> Result<Vec<Change>, Error> {
        let log = self.lake.transaction_log();
        next.hunted_commits = log.last_commit().await?;
        let added = log.files_added_since(last.hunted_commits).await?;
        let spans = touched::spans(&added);
        for rule in self.rules {
            next.rules.insert(rule.id.clone(), version(rule));
        }
        // From an earlier time on all rules are as new ones.
        let is_earlier = match (&last.since, &next.since) {
            (Some(last), Some(next)) => next < last,
            (last, next) => last.is_some() && next.is_none(),
        };
        let is_changed = |rule: &Rule| is_earlier || last.rules.get(&rule.id) != next.rules.get(&rule.id);
        let (mut known, readings) = self.readings(store, last, &spans, &is_changed).await?;

        let mut found = Vec::new();
        for reading in readings {
            let rules: Vec<Rule> = reading.rules.iter().map(|number| self.rules[*number].clone()).collect();
            let bound = |instant: Option<i64>| instant.map(Instant::from_micros);
            let outcome = hunt::hunt(self.resources, self.lake, &rules, reading.range).await?;
            report.hunts.push(HuntReport {
                rules: rules.iter().map(|rule| rule.id.clone()).collect(),
                from: bound(reading.range.from),
                to: bound(reading.range.to),
                cause: reading.cause,
                duplicates: Some(outcome.duplicates),
            });
            for (rule, findings) in rules.iter().zip(outcome.findings) {
                let version = next.rules.get(&rule.id).map(String::as_str).unwrap_or_default();
                let hunted = Hunted { rule, version, range: reading.range, run: next.run, sinks: self.sinks };
                let lines = known.take(hunted, &findings, &mut report.findings)?;
                found.extend(lines);
            }
        }
        report.matches = found.iter().filter_map(|change| change.line.get("count")?.as_u64()).sum();
        let key = |change: &Change| {
            ["first_event", "rule_id", "finding_id"]
                .map(|name| change.line.get(name).and_then(|v| v.as_str()).map(str::to_owned))
        };
        found.sort_by_cached_key(key);
        for (date, of_day) in known.changed_days() {
            if of_day.is_empty() {
                next.known.remove(&date);
            } else {
                next.known.insert(date.clone(), store.keep_known(next.run, &date, &of_day).await?);
            }
        }
        self.tell_data(&spans, next, report).await?;
        Ok(found)
    }

    /// What is to be read for new events in `spans` and for rules that have changed, and the findings that
    /// are known there.
    async fn readings(
        &self,
        store: &Store,
        last: &State,
        spans: &[(i64, i64)],
        is_changed: &dyn Fn(&Rule) -> bool,
    ) -> Result<(Ledger, Vec<Reading>), Error> {
        let numbers = |wanted: &dyn Fn(&Rule) -> bool| -> Vec<usize> {
            self.rules.iter().enumerate().filter(|(_, rule)| wanted(rule)).map(|(number, _)| number).collect()
        };
        let changed = numbers(is_changed);
        let dedup = numbers(&|rule| !is_changed(rule) && rule.window.kind == WindowKind::Dedup);
        let others = numbers(&|rule| !is_changed(rule) && rule.window.kind != WindowKind::Dedup);
        let retained_from = self.lake.transaction_log().retained_from().await?;
        let mut wanted: Vec<Range> = Vec::new();
        loop {
            let ranges = if changed.is_empty() { wanted.as_slice() } else { &[Range::default()] };
            let known = Ledger::new(store.known(last, ranges).await?, retained_from);
            let mut readings = Vec::new();
            if !changed.is_empty() {
                readings.push(Reading { rules: changed.clone(), range: Range::default(), cause: "rules changed" });
            }
            for rules in [&dedup, &others] {
                let own: Vec<&Rule> = rules.iter().map(|number| &self.rules[*number]).collect();
                for (places, range) in touched::readings(&own, spans, &known) {
                    let rules = places.into_iter().map(|place| rules[place]).collect();
                    readings.push(Reading { rules, range, cause: "new events" });
                }
            }
            // Bursts may reach to days whose findings are not read yet.
            let needed: Vec<Range> = readings.iter().map(|reading| reading.range).collect();
            if needed == wanted || !changed.is_empty() {
                for reading in &mut readings {
                    let floor = self.since.max(retained_from);
                    reading.range.from = reading.range.from.max(floor);
                }
                readings.retain(|Reading { range, .. }| range.from.zip(range.to).is_none_or(|(from, to)| from < to));
                return Ok((known, readings));
            }
            wanted = needed;
        }
    }

    /// Tells the newest events, and the days without any.
    async fn tell_data(&self, spans: &[(i64, i64)], next: &mut State, report: &mut Report) -> Result<(), Error> {
        // Earlier builds took any time for that of an event.
        let is_of_event = |time: &Instant| time::event_time(time.micros()).is_some();
        next.newest.retain(|_, newest| is_of_event(newest));
        next.newest_event = next.newest_event.filter(is_of_event);
        for (first, last) in spans {
            let read = Range { from: Some(*first), to: Some(last + 1) };
            for (name, newest) in hunt::newest::newest_events(self.resources, self.lake, read).await? {
                let newest = Instant::from_micros(newest);
                next.newest.entry(name).and_modify(|known| *known = newest.max(*known)).or_insert(newest);
            }
            next.newest_event = next.newest_event.max(Some(Instant::from_micros(*last)));
        }
        report.newest_event = next.newest_event;
        report.newest.clone_from(&next.newest);
        let files = self.lake.transaction_log().files().await?;
        let days: BTreeSet<i64> =
            files.iter().filter_map(FileEntry::time_span).map(|(first, _)| first.div_euclid(DAY)).collect();
        if let (Some(first), Some(last)) = (days.first(), days.last()) {
            // One record with an absurd time does not make all days before it gaps.
            let empty = ((*first).max(last - GAPS_WITHIN)..*last).filter(|day| !days.contains(day));
            report.empty_days = empty.map(|day| time::utc_date(day * DAY)).collect();
        }
        Ok(())
    }

    /// Merges small files of days past their grace, drops days that are too old, and deletes what no reader is at any more.
    async fn keep(&self, summary: &mut MaintenanceSummary) -> Result<(), Error> {
        if !self.compact && self.retain.is_none() {
            return Ok(());
        }
        let mut maintenance = Maintenance::open(self.lake, self.now, self.scratch).await?;
        let result = self.maintain(&mut maintenance).await;
        *summary = maintenance.summary;
        result
    }

    async fn maintain(&self, maintenance: &mut Maintenance<'_>) -> Result<(), Error> {
        if let Some(retain) = self.retain {
            maintenance.drop_older_than(retain).await?;
        }
        if self.compact {
            maintenance.merge(self.long_ago(self.grace), self.limits.memory).await?;
        }
        maintenance.vacuum_removed(self.long_ago(SWEPT_WITHIN), self.long_ago(READER_GRACE_PERIOD)).await
    }

    /// The time `micros` microseconds before now.
    fn long_ago(&self, micros: i64) -> i64 {
        self.now.saturating_sub(micros)
    }
}
