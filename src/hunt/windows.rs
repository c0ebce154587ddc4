//! Windows over the matches of rules: one query for each shape of window.
//!
//! The command runs them over all matches of a scan. A node of a cluster runs them over the matches of some groups.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::known_data::KnownData;
use super::match_table::{MatchTable, MatchedRows};
use crate::engine::Engine;
use crate::engine::match_scan::{GroupThreshold, KeyQuestion, KeyedRule};
use crate::error::Error;
use crate::named_columns;
use crate::rule::{Counts, NewnessPeriods, Rule, WindowKind};
use crate::sql::columns::{self, RuleColumns};
use crate::sql::match_spec::ValueId;
use crate::sql::{self, CountFunction, WindowShape};
use crate::time::{Instant, Period, Range};

/// Queries over fewer rows run on one thread.
const ROWS_OF_ONE_THREAD: usize = 10_000;

/// A rule as its windows need it, as plain data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WindowRule {
    /// The shape of its windows.
    pub(super) shape: WindowShape,
    /// Their length.
    pub(super) period: Period,
    /// The count that makes a finding.
    pub(super) threshold: NonZeroU32,
    /// With fewer matches there is nothing to find.
    pub(super) least_matches: usize,
    /// The times that its hunt reads.
    pub(super) read: Range,
    /// The times that decide which of its matches are new, if only new ones are counted.
    pub(super) newness: Option<NewnessPeriods>,
    /// The times at which what was read decides whether a match counts.
    pub(super) decided: Range,
    /// How long before a match earlier events decide whether it counts, in microseconds.
    pub(super) decided_by_earlier: i64,
    /// The values that it needs.
    pub(super) columns: RuleColumns<ValueId>,
    /// Whether some of them are origins, which only the command finds.
    pub(super) needs_origins: bool,
}

impl WindowRule {
    /// Returns what the windows of `rule` need, whose hunt reads the times in `read`. With `knows_seen`, it is known which keys were
    /// seen before.
    pub(super) fn new(
        rule: &Rule,
        read: Range,
        columns: RuleColumns<ValueId>,
        known: &KnownData,
        knows_seen: bool,
    ) -> WindowRule {
        let setting = rule.setting();
        let threshold = rule.window.threshold;
        // One match may be of several kinds, or have a large value.
        let is_enough = matches!(rule.counts, Counts::EachOf(_) | Counts::Sum(_) | Counts::Statistic(..));
        let least = if is_enough { 1 } else { threshold.get() };
        WindowRule {
            shape: WindowShape::of(rule),
            period: rule.window.period,
            threshold,
            least_matches: usize::try_from(least).unwrap_or(usize::MAX),
            read,
            newness: setting.newness,
            decided: known.decided_times(setting, read, knows_seen),
            decided_by_earlier: if knows_seen { 0 } else { setting.decided_by_earlier() },
            columns,
            needs_origins: rule.needs_origins(),
        }
    }

    /// Returns whether so many matches may give a result: findings, or matches that the data do not decide.
    pub(super) fn is_candidate(&self, matches: usize) -> bool {
        matches >= self.least_matches || matches > 0 && self.may_be_open()
    }

    /// Returns whether there may be matches that the data do not decide.
    fn may_be_open(&self) -> bool {
        self.shape.absence.is_some() || self.newness.is_some_and(|newness| newness.learning.is_some())
    }

    /// Returns the number of matches that a finding needs in a window, if matches in other windows can be left out. `index` is
    /// that of the rule in the scan, `credential` the value that is replaced by an origin, and `triggers` the times of triggers.
    pub(super) fn group_threshold(
        &self,
        index: usize,
        credential: Option<ValueId>,
        triggers: Range,
    ) -> Option<GroupThreshold> {
        let least = match self.shape.function {
            None => self.shape.min_events.map_or(self.threshold, |events| events.max(self.threshold)),
            // A finding shows the greatest count in any window, whether or not that has enough events.
            Some(CountFunction::Distinct) => self.threshold,
            Some(_) => return None,
        };
        let group = &self.columns.group;
        // Every match shows whether the windows at the start of the range are known.
        if least.get() < 2
            || is_resolved_later(group, credential)
            || self.may_be_open()
            || self.may_be_unanchored(triggers)
        {
            return None;
        }
        Some(GroupThreshold {
            rule: index,
            group: group.clone(),
            period: self.period,
            least: least.get(),
            // The start of a `dedup` window depends on earlier matches. So does what is new.
            needs_whole_groups: self.shape.kind == WindowKind::Dedup || self.shape.only_new,
        })
    }

    /// Returns the values of the keys of its matches: those of the group, then those of `New`. `None` if it does not ask for new
    /// matches.
    pub(super) fn key(&self) -> Option<Vec<ValueId>> {
        let newness = self.columns.newness.as_ref()?;
        Some(self.columns.group.iter().chain(&newness.key).copied().collect())
    }

    /// Returns the rule with the question that its keys answer, if its matches have keys and the scan gives them. `index` is that of the
    /// rule in the scan, and `credential` the value that is replaced by an origin.
    pub(super) fn keyed(&self, index: usize, question: KeyQuestion, credential: Option<ValueId>) -> Option<KeyedRule> {
        // Several credentials may become one key. A match that is new for one credential may be known for the key.
        let key = self.key().filter(|key| !is_resolved_later(key, credential))?;
        Some(KeyedRule { rule: index, key, question, read: self.read, seen: None })
    }

    /// Returns the start of the times whose matches are counted. Earlier events only show which of these count.
    pub(super) fn counted_from(&self) -> Option<Instant> {
        self.read.from.map(|from| from + self.decided_by_earlier)
    }

    /// Returns the start of what is counted, if windows depend on it.
    fn anchored_from(&self) -> Option<Instant> {
        self.counted_from().filter(|_| self.shape.kind == WindowKind::Dedup)
    }

    /// Returns whether its windows at the start of `triggers` may be undecided.
    pub(super) fn may_be_unanchored(&self, triggers: Range) -> bool {
        triggers.from.is_some() && self.anchored_from().is_some()
    }
}

/// Returns whether one of `values` is that of the credential, which is replaced by an origin after the scan.
fn is_resolved_later(values: &[ValueId], credential: Option<ValueId>) -> bool {
    credential.is_some_and(|credential| values.contains(&credential))
}

/// A part of what the windows of rules come to.
#[derive(Debug)]
pub(super) enum WindowRows {
    /// Rows of findings. They have the values of the match that triggered, or its number.
    Findings(RecordBatch),
    /// The indexes of rules that need a wider range.
    Undecided(Vec<usize>),
    /// The indexes of rules, and the numbers of their matches that the data do not decide.
    Open(Vec<(usize, u64)>),
}

/// The windows over the matches of rules.
pub(super) struct RuleWindows<'w, R> {
    pub(super) engine: &'w Engine,
    pub(super) table: &'w Arc<MatchTable>,
    pub(super) rows: &'w R,
    /// For each rule the number of its matches.
    pub(super) counts: &'w [usize],
    /// The times of triggers of findings.
    pub(super) triggers: Range,
}

impl<R: MatchedRows> RuleWindows<'_, R> {
    /// Counts the windows of the rules with the indexes `candidates`. Calls `take` with each part of the result.
    ///
    /// # Errors
    /// A query failed, or `take` did.
    pub(super) async fn count(
        &self,
        candidates: &[usize],
        mut take: impl FnMut(WindowRows) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut shapes: BTreeMap<(WindowShape, Option<Instant>), Vec<usize>> = BTreeMap::new();
        for index in candidates {
            let rule = &self.table.rules()[*index];
            shapes.entry((rule.shape, rule.anchored_from())).or_default().push(*index);
        }
        // A query over many rows has all threads and the whole budget. Small ones run on one thread each, as many as there are
        // threads.
        let mut small = Vec::new();
        for (_, rules) in shapes {
            let matches: usize = rules.iter().map(|index| self.counts[*index]).sum();
            if matches > ROWS_OF_ONE_THREAD || self.rows.is_spilled() {
                let queries = self.queries(self.engine.clone(), &rules)?;
                take(WindowRows::Undecided(queries.unanchored().await?))?;
                take(WindowRows::Open(queries.open_matches().await?))?;
                let mut findings = queries.findings().await?;
                while let Some(batch) = findings.try_next().await.map_err(failed)? {
                    take(WindowRows::Findings(batch))?;
                }
            } else {
                let queries = self.queries(self.engine.on_one_thread(), &rules)?;
                small.push(async move {
                    let (unanchored, open) = (queries.unanchored().await?, queries.open_matches().await?);
                    let findings: Vec<RecordBatch> = queries.findings().await?.try_collect().await.map_err(failed)?;
                    Ok::<_, Error>((unanchored, open, findings))
                });
            }
        }
        let running = run_queries(small, self.engine.threads, |(unanchored, open, findings)| {
            take(WindowRows::Undecided(unanchored))?;
            take(WindowRows::Open(open))?;
            findings.into_iter().try_for_each(|batch| take(WindowRows::Findings(batch)))
        });
        running.await
    }

    /// Returns the queries for `rules`, whose windows have one shape.
    fn queries(&self, engine: Engine, rules: &[usize]) -> Result<Queries, Error> {
        let first = rules.first().map(|index| &self.table.rules()[*index]);
        let rule = first.ok_or_else(|| Error::Internal("a query of windows for no rule".to_owned()))?;
        let columns = self.table.columns(rules);
        let anchors = match self.triggers.from {
            Some(from) if rule.may_be_unanchored(self.triggers) => {
                Some(sql::unanchored_matched(rule.shape, &columns, from, rule.counted_from())?)
            }
            _ => None,
        };
        let may_be_open = |index: &usize| self.table.rules()[*index].may_be_open();
        let open_matches = if rules.iter().any(may_be_open) {
            Some(sql::open_matched(rule.shape, &columns, self.triggers)?)
        } else {
            None
        };
        let hunt = sql::hunt_matched(rule.shape, &columns, self.triggers)?;
        let table = self.rows.provider(self.table, rules, engine.partitions()).map_err(failed)?;
        Ok(Queries { engine, table, anchors, open_matches, hunt })
    }
}

/// Runs `queries`, `concurrent` at a time. Calls `take` with the result of each.
///
/// # Errors
/// A query failed, or `take` did.
pub(super) async fn run_queries<T: Send + 'static>(
    queries: impl IntoIterator<Item = impl Future<Output = Result<T, Error>> + Send + 'static>,
    concurrent: usize,
    mut take: impl FnMut(T) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut queries = queries.into_iter();
    let mut running: JoinSet<Result<T, Error>> = queries.by_ref().take(concurrent.max(1)).collect();
    while let Some(done) = running.join_next().await {
        running.extend(queries.next());
        take(done.map_err(|error| Error::Internal(format!("a query of windows did not end: {error}")))??)?;
    }
    Ok(())
}

/// The queries for rules whose windows have one shape.
struct Queries {
    engine: Engine,
    table: Arc<dyn TableProvider>,
    anchors: Option<String>,
    open_matches: Option<String>,
    hunt: String,
}

impl Queries {
    /// Returns the indexes of the rules that need a wider range.
    async fn unanchored(&self) -> Result<Vec<usize>, Error> {
        let Some(anchors) = &self.anchors else {
            return Ok(Vec::new());
        };
        let rows = self.engine.run("matched", Arc::clone(&self.table), anchors).await.map_err(failed)?;
        subjects(&rows)
    }

    /// Returns the indexes of rules, and the numbers of their matches that the data do not decide.
    async fn open_matches(&self) -> Result<Vec<(usize, u64)>, Error> {
        let Some(open_matches) = &self.open_matches else {
            return Ok(Vec::new());
        };
        let rows = self.engine.run("matched", Arc::clone(&self.table), open_matches).await.map_err(failed)?;
        let mut counts = Vec::new();
        for batch in &rows {
            let rules = subjects(std::slice::from_ref(batch))?;
            let matches = named_columns::integers(batch, columns::OPEN_MATCHES)?.values();
            counts.extend(rules.into_iter().zip(matches.iter().map(|count| count.unsigned_abs())));
        }
        Ok(counts)
    }

    /// Returns the rows of findings.
    async fn findings(&self) -> Result<SendableRecordBatchStream, Error> {
        self.engine.rows("matched", Arc::clone(&self.table), &self.hunt).await.map_err(failed)
    }
}

/// Returns the indexes of the rules, or the numbers of the settings, in the rows of a query for undecided windows.
pub(super) fn subjects(rows: &[RecordBatch]) -> Result<Vec<usize>, Error> {
    let mut indexes = Vec::new();
    for batch in rows {
        let rules = named_columns::integers(batch, columns::SUBJECT)?.values();
        indexes.extend(rules.iter().filter_map(|index| usize::try_from(*index).ok()));
    }
    Ok(indexes)
}

fn failed(error: DataFusionError) -> Error {
    Error::query("the matches of the rules", error)
}
