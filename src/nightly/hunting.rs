//! Hunts the times that new events affect, and the whole lake for rules that are new or have changed.

use std::collections::BTreeSet;

use super::affected::{self, NewEvents};
use super::changes::{ChangedFinding, HuntedRule, KnownFindings};
use super::report::{HuntReport, RunReport};
use super::seen::SeenHistory;
use super::state::{RetainedStarts, RunState, StateStore};
use super::version::version;
use crate::engine::Engine;
use crate::error::Error;
use crate::hunt;
use crate::hunt::account_starts;
use crate::hunt::exceptions::{self, ExceptedHunt, RuleEffects};
use crate::hunt::known_data::{EventTimes, KnownData};
use crate::lake::Lake;
use crate::lake::transaction_log::FileEntry;
use crate::rule::{Rule, WindowKind};
use crate::sink::Sink;
use crate::time::{DAY, Instant, Range};

/// How many days before the last event are searched for days without events.
const EMPTY_DAYS_LOOKBACK: i64 = 400;

/// The rules of a nightly run, and how to hunt them.
pub struct HuntSettings<'n> {
    /// Resources of the query engine.
    pub engine: &'n Engine,
    /// The rules.
    pub rules: &'n [Rule],
    /// Earliest trigger of a finding.
    pub since: Option<Instant>,
}

/// The hunts of one run.
pub(super) struct NightlyHunt<'h> {
    pub(super) settings: &'h HuntSettings<'h>,
    pub(super) lake: &'h Lake,
    pub(super) sinks: &'h [Sink],
    pub(super) store: &'h StateStore,
    /// The state of the last run.
    pub(super) last: &'h RunState,
}

/// One hunt over the lake.
struct HuntTask {
    /// Indices of the rules.
    rules: Vec<usize>,
    /// The range of triggers.
    range: Range,
    cause: &'static str,
}

impl NightlyHunt<'_> {
    /// Hunts, and returns the findings that changed, ordered by first event.
    pub(super) async fn run(&self, next: &mut RunState, report: &mut RunReport) -> Result<Vec<ChangedFinding>, Error> {
        let HuntSettings { engine, rules: all_rules, .. } = self.settings;
        let log = self.lake.transaction_log();
        next.hunted_commits = log.last_commit().await?;
        next.lake = log.identity(next.hunted_commits).await?;
        let added = log.files_added_since(self.last.hunted_commits).await?;
        let spans = affected::new_event_spans(&added);
        next.rules.extend(all_rules.iter().map(|rule| (rule.id.clone(), version(rule))));
        next.account_starts = self.account_starts(&spans).await?;
        next.event_times = self.event_times().await?;
        let moved_starts = match (&next.account_starts, &self.last.account_starts) {
            (Some(now), Some(before)) => now.starts.moved_from(&before.starts),
            _ => Vec::new(),
        };
        let moved_times = self.last.event_times.zip(next.event_times);
        let events = NewEvents { spans: &spans, moved_starts: &moved_starts, moved_times };
        let history = SeenHistory::new(engine, self.lake, self.store, all_rules);
        let seen = history.current(self.last, &spans).await?;
        let known_data = KnownData {
            starts: next.account_starts.as_ref().map(|known| known.starts.clone()).unwrap_or_default(),
            event_times: next.event_times,
            retained_from: log.retained_from().await?,
            seen: Vec::new(),
        };
        let (mut known, tasks) = self.tasks(next, events).await?;

        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        for task in tasks {
            let rules: Vec<Rule> = task.rules.iter().map(|index| all_rules[*index].clone()).collect();
            let keys = rules.iter().map(|rule| seen.as_ref()?.keys(&rule.id)).collect();
            let known_data = KnownData { seen: keys, ..known_data.clone() };
            let hunt = ExceptedHunt::new(rules, task.range)?;
            let (outcome, shown) = hunt.hunt_with_known(engine, self.lake, &known_data).await?;
            let RuleEffects { exceptions, undecided } = shown;
            effects.extend(exceptions);
            report.undecided.extend(undecided);
            let rules = hunt.rules();
            report.hunts.push(HuntReport {
                rules: rules.iter().map(|rule| rule.id.clone()).collect(),
                from: task.range.from,
                to: task.range.to,
                cause: task.cause,
                duplicates: outcome.duplicates,
                learning: open_matches(rules, &outcome.open_matches, |rule| rule.first_seen.is_some()),
                open: open_matches(rules, &outcome.open_matches, |rule| rule.absence.is_some()),
            });
            for (rule, findings) in rules.iter().zip(outcome.findings) {
                let version = next.rules.get(&rule.id).map(String::as_str).unwrap_or_default();
                let (run, lake_version) = (next.run, next.hunted_commits);
                let hunted = HuntedRule { rule, version, range: task.range, run, lake_version, sinks: self.sinks };
                changes.extend(known.update(hunted, &findings, &mut report.findings)?);
            }
        }
        let now = next.now.unwrap_or(Instant::MIN);
        report.exceptions = exceptions::reports(all_rules, &effects, now);
        report.matches = changes.iter().filter_map(|change| change.line.get("count")?.as_u64()).sum();
        let order = |change: &ChangedFinding| {
            ["first_event", "rule_id", "finding_id"]
                .map(|name| change.line.get(name).and_then(|value| value.as_str()).map(str::to_owned))
        };
        changes.sort_by_cached_key(order);
        for (date, findings) in known.changed_days() {
            if findings.is_empty() {
                next.known.remove(&date);
            } else {
                next.known.insert(date.clone(), self.store.write_known_day(next.run, &date, &findings).await?);
            }
        }
        self.update_newest(&spans, next).await?;
        next.seen = history.advanced(seen, next).await?;
        report.newest_event = next.newest_event;
        report.newest.clone_from(&next.newest);
        report.empty_days = self.empty_days().await?;
        Ok(changes)
    }

    /// Returns the hunts to do, and the known findings that they may change.
    async fn tasks(&self, next: &RunState, events: NewEvents<'_>) -> Result<(KnownFindings, Vec<HuntTask>), Error> {
        let rules = self.settings.rules;
        // An earlier `since` makes every rule a new one.
        let is_earlier = match (&self.last.since, &next.since) {
            (Some(last), Some(next)) => next < last,
            (last, next) => last.is_some() && next.is_none(),
        };
        let is_changed = |rule: &Rule| is_earlier || self.last.rules.get(&rule.id) != next.rules.get(&rule.id);
        let indices = |is_wanted: &dyn Fn(&Rule) -> bool| -> Vec<usize> {
            rules.iter().enumerate().filter(|(_, rule)| is_wanted(rule)).map(|(index, _)| index).collect()
        };
        let changed = indices(&is_changed);
        // Rules that affect more time than the others do not share a range with them.
        let is_dedup = |rule: &Rule| rule.window.kind == WindowKind::Dedup;
        let selects = |rule: &Rule| rule.first_seen.is_some() || rule.absence.is_some();
        let selecting = indices(&|rule| !is_changed(rule) && selects(rule));
        let dedup = indices(&|rule| !is_changed(rule) && !selects(rule) && is_dedup(rule));
        let others = indices(&|rule| !is_changed(rule) && !selects(rule) && !is_dedup(rule));
        let retained_from = self.lake.transaction_log().retained_from().await?;
        let mut planned: Vec<Range> = Vec::new();
        loop {
            let ranges = if changed.is_empty() { planned.as_slice() } else { &[Range::default()] };
            let first_event = next.event_times.map(|times| times.first);
            let known = self.store.known_findings(self.last, ranges).await?;
            let known = KnownFindings::new(known, retained_from, first_event);
            let mut tasks = Vec::new();
            if !changed.is_empty() {
                tasks.push(HuntTask { rules: changed.clone(), range: Range::default(), cause: "rules changed" });
            }
            for group in [&dedup, &selecting, &others] {
                let of_group: Vec<&Rule> = group.iter().map(|index| &rules[*index]).collect();
                for (indices, range) in affected::affected_ranges(&of_group, events, &known) {
                    let rules = indices.into_iter().map(|index| group[index]).collect();
                    tasks.push(HuntTask { rules, range, cause: "new events" });
                }
            }
            // A known burst may extend a range to days whose findings are not loaded yet. Repeat until none does.
            let needed: Vec<Range> = tasks.iter().map(|task| task.range).collect();
            if needed == planned || !changed.is_empty() {
                let earliest = self.settings.since.max(retained_from);
                for task in &mut tasks {
                    task.range.from = task.range.from.max(earliest);
                }
                tasks.retain(|HuntTask { range, .. }| range.from.zip(range.to).is_none_or(|(from, to)| from < to));
                return Ok((known, tasks));
            }
            planned = needed;
        }
    }

    /// Returns the first event of each account in the lake, if a rule has a learning time. `spans` are those of the new events:
    /// as long as no days are dropped, only these are read.
    async fn account_starts(&self, spans: &[(Instant, Instant)]) -> Result<Option<RetainedStarts>, Error> {
        let HuntSettings { engine, rules, .. } = self.settings;
        if !rules.iter().any(|rule| rule.setting().has_learning()) {
            return Ok(None);
        }
        let retained_from = self.lake.transaction_log().retained_from().await?;
        let known = self.last.account_starts.clone().filter(|known| known.retained_from == retained_from);
        let Some(RetainedStarts { mut starts, .. }) = known else {
            let (starts, _) = account_starts::account_starts(engine, self.lake, Range::default()).await?;
            return Ok(Some(RetainedStarts { starts, retained_from }));
        };
        for (first, last) in spans {
            let range = Range { from: Some(*first), to: Some(*last + 1) };
            starts.add(account_starts::account_starts(engine, self.lake, range).await?.0);
        }
        Ok(Some(RetainedStarts { starts, retained_from }))
    }

    /// Returns the first and the last event in the lake, if a rule needs them.
    async fn event_times(&self) -> Result<Option<EventTimes>, Error> {
        if self.settings.rules.iter().all(|rule| rule.absence.is_none()) {
            return Ok(None);
        }
        let files = self.lake.transaction_log().files().await?;
        Ok(EventTimes::of_spans(files.iter().filter_map(FileEntry::time_span)))
    }

    /// Updates the newest event, overall and of each account and region.
    async fn update_newest(&self, spans: &[(Instant, Instant)], next: &mut RunState) -> Result<(), Error> {
        // Earlier builds accepted times that no event can have.
        next.newest.retain(|_, newest| newest.is_event_time());
        next.newest_event = next.newest_event.filter(|newest| newest.is_event_time());
        for (first, last) in spans {
            let range = Range { from: Some(*first), to: Some(*last + 1) };
            for (name, newest) in hunt::newest::newest_events(self.settings.engine, self.lake, range).await? {
                next.newest.entry(name).and_modify(|known| *known = newest.max(*known)).or_insert(newest);
            }
            next.newest_event = next.newest_event.max(Some(*last));
        }
        Ok(())
    }

    /// Returns the dates without events before the last day with events.
    async fn empty_days(&self) -> Result<Vec<String>, Error> {
        let files = self.lake.transaction_log().files().await?;
        let days: BTreeSet<i64> =
            files.iter().filter_map(FileEntry::time_span).map(|(first, _)| first.days()).collect();
        let (Some(first), Some(last)) = (days.first(), days.last()) else {
            return Ok(Vec::new());
        };
        // Without the limit, one record with an absurd time would report decades of empty days.
        let empty = ((*first).max(last - EMPTY_DAYS_LOOKBACK)..*last).filter(|day| !days.contains(day));
        Ok(empty.map(|day| (Instant::EPOCH + day * DAY).utc_date()).collect())
    }
}

/// Returns the open matches of the rules of one kind.
fn open_matches(rules: &[Rule], open_matches: &[u64], is_of_kind: impl Fn(&Rule) -> bool) -> u64 {
    rules.iter().zip(open_matches).filter(|(rule, _)| is_of_kind(rule)).map(|(_, count)| count).sum()
}
