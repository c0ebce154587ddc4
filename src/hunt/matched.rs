//! What several rules match, from one scan, and their findings in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, IntervalUnit, Schema};
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use tokio::task::JoinSet;

use super::lookback::is_cut;
use super::matched_rows::{OfRule, Rows};
use crate::engine::{self, MatchBuffer, Resources, duplicates, matcher};
use crate::error::Error;
use crate::finding::{Finding, Found, Told};
use crate::rule::{Counts, Rule, WindowKind};
use crate::sql;
use crate::sql::candidates::Candidates;
use crate::sql::layout::{self, Layout};
use crate::statistics::Duplicates;
use crate::table::SnapshotRecords;
use crate::time::{Period, Range};

/// The records that any of some rules matches.
pub(super) struct Matched<'r> {
    rules: Vec<&'r Rule>,
    candidates: Candidates,
    buffer: Arc<MatchBuffer>,
    /// How many of them each rule matches.
    counts: Vec<usize>,
    reads: Vec<Range>,
}

/// So few rows are not worth dividing among threads.
const ROWS_OF_ONE_THREAD: usize = 10_000;

/// Rules with windows of one shape are hunted together: of one kind, what they count,
/// for `tumbling` of one period, and for `dedup` read from one time on.
type Shape = (WindowKind, Option<&'static str>, Option<Period>, Option<i64>);

/// What a hunt in what was matched came to.
pub(super) struct Outcome {
    /// The findings of each rule.
    pub(super) findings: Vec<Vec<Finding>>,
    /// The numbers of the rules for which more must be read, and that have no findings here.
    pub(super) short: Vec<usize>,
}

impl<'r> Matched<'r> {
    /// Scans `records` for those that `rules` match, of each rule those whose time lies in its part of `reads`: what
    /// others need must not decide which copy of a record is the first.
    ///
    /// # Errors
    /// The scan failed, or what does not fit into memory cannot be written.
    pub(super) async fn scan(
        resources: &Resources,
        records: &SnapshotRecords,
        rules: &[&'r Rule],
        reads: &[Range],
    ) -> Result<Matched<'r>, Error> {
        let read = reads.iter().copied().reduce(Range::union).unwrap_or_default();
        let candidates = Candidates::new(rules, read);
        let scanned = matcher::buffered(resources, Arc::clone(&records.provider), &candidates).await;
        let (buffer, counts) = scanned.map_err(|error| Error::query("the records", error))?;
        Ok(Matched { rules: rules.to_vec(), candidates, buffer: Arc::new(buffer), counts, reads: reads.to_vec() })
    }

    /// The duplicates among the records that any of the rules matches, with a time in `range`.
    pub(super) async fn duplicates(&self, resources: &Resources, range: Range) -> Result<Duplicates, Error> {
        if self.counts.iter().sum::<usize>() < 2 {
            return Ok(Duplicates::default());
        }
        let [name, source] = self.candidates.call.map(|expression| Candidates::OWN.len() + expression);
        // The identity and the time are the second and the first of the columns that every rule needs.
        let counted = duplicates::among_matches(resources, &self.buffer, [1, 0, name, source], range).await;
        counted.map_err(|error| Error::query("the duplicates among the matches", error))
    }

    /// The findings whose trigger lies in `range`.
    pub(super) async fn hunt(&self, resources: &Resources, range: Range) -> Result<Outcome, Error> {
        let mut shapes: BTreeMap<Shape, Vec<usize>> = BTreeMap::new();
        for (number, rule) in self.rules.iter().enumerate() {
            // With fewer matches than the threshold there is nothing to find, unless one may be of several kinds.
            let least = if matches!(rule.counts, Counts::EachOf(_)) { 1 } else { rule.window.threshold.get() };
            if self.counts[number] >= usize::try_from(least).unwrap_or(usize::MAX) {
                let period = (rule.window.kind == WindowKind::Tumbling).then_some(rule.window.period);
                let from = self.reads[number].from.filter(|_| rule.window.kind == WindowKind::Dedup);
                let shape = (rule.window.kind, sql::counting(rule), period, from);
                shapes.entry(shape).or_default().push(number);
            }
        }
        // Side by side where each is so little that one thread does it; else each has all threads and memory, and the disk.
        let sets: Vec<Set<'_>> = shapes.values().map(|numbers| Set::new(self, numbers)).collect();
        let mut outcome = Outcome { findings: vec![Vec::new(); self.rules.len()], short: Vec::new() };
        let mut running = JoinSet::new();
        for (place, set) in sets.iter().enumerate() {
            let rows: usize = set.numbers.iter().map(|number| self.counts[*number]).sum();
            if rows > ROWS_OF_ONE_THREAD || self.buffer.is_spilled() {
                let queries = set.queries(resources.clone(), range)?;
                let unanchored = queries.unanchored().await?;
                let (mut found, mut rows) = (Found::new(set.told.clone()), queries.findings().await?);
                while let Some(batch) = rows.try_next().await.map_err(failed)? {
                    found.add(&batch)?;
                }
                self.add(set, &unanchored, found, &mut outcome);
            } else {
                let queries = set.queries(resources.on_one_thread(), range)?;
                running.spawn(async move {
                    let unanchored = queries.unanchored().await?;
                    let rows: Vec<RecordBatch> = queries.findings().await?.try_collect().await.map_err(failed)?;
                    Ok::<_, Error>((place, unanchored, rows))
                });
            }
        }
        while let Some(done) = running.join_next().await {
            let done = done.map_err(|error| Error::Internal(format!("a hunt broke off: {error}")))?;
            let (place, unanchored, rows) = done?;
            let mut found = Found::new(sets[place].told.clone());
            rows.iter().try_for_each(|batch| found.add(batch))?;
            self.add(&sets[place], &unanchored, found, &mut outcome);
        }
        outcome.short.sort_unstable();
        Ok(outcome)
    }

    /// Adds what the queries of some rules found. `unanchored` are the places of those for which more must be read.
    fn add(&self, set: &Set<'_>, unanchored: &[usize], found: Found<'_>, outcome: &mut Outcome) {
        for ((place, number), found) in set.numbers.iter().enumerate().zip(found.of_each()) {
            let is_cut = is_cut(self.rules[*number].window, super::last_instants(&found), self.reads[*number]);
            if is_cut || unanchored.contains(&place) {
                outcome.short.push(*number);
            } else {
                outcome.findings[*number] = found;
            }
        }
    }

    /// What the rows of a rule are made from.
    fn of_rule(&self, number: usize) -> OfRule {
        let rule = self.rules[number];
        let (group, rest) = self.candidates.needs[number].split_at(rule.group_by.len());
        let (told, listed) = rest.split_at(rest.len() - rule.summary.len());
        OfRule {
            number,
            window: rule.window,
            read: self.reads[number],
            group: group.to_vec(),
            told: told.to_vec(),
            listed: listed.to_vec(),
            counted: self.candidates.unique[number],
        }
    }
}

/// The table `matched` of some rules.
struct Set<'m> {
    matched: &'m Matched<'m>,
    numbers: &'m [usize],
    told: Vec<Told<'m>>,
    /// The columns of all of them; the rule is part of the group.
    layout: Layout,
    rows: Arc<Rows>,
}

impl<'m> Set<'m> {
    fn new(matched: &'m Matched<'_>, numbers: &'m [usize]) -> Set<'m> {
        let rules: Vec<OfRule> = numbers.iter().map(|number| matched.of_rule(*number)).collect();
        let told = |of: &OfRule| {
            let rule = matched.rules[of.number];
            let own = names(GROUP, of.group.len()).chain(names(VALUE, of.told.len()));
            Told { rule, layout: Layout::of(rule).renamed(&mut own.chain(names(LIST, of.listed.len()))) }
        };
        let told = rules.iter().map(told).collect();
        let most = |of: fn(&OfRule) -> &Vec<usize>| rules.iter().map(|rule| of(rule).len()).max().unwrap_or_default();
        let groups = most(|rule| &rule.group);
        let values = most(|rule| &rule.told);
        let lists = most(|rule| &rule.listed);
        let layout = Layout {
            group: std::iter::once(layout::RULE.to_owned()).chain(names(GROUP, groups)).collect(),
            context: names(VALUE, values).collect(),
            summary: names(LIST, lists).collect(),
            ..Layout::default()
        };
        let time = crate::event::schema().field(0).data_type().clone();
        let mut fields = vec![
            Field::new(layout::RULE, DataType::Int64, false),
            Field::new(layout::THRESHOLD, DataType::Int64, false),
            Field::new(layout::PERIOD, DataType::Interval(IntervalUnit::MonthDayNano), false),
            Field::new(layout::FINGERPRINT, DataType::Int64, false),
            Field::new(layout::COUNTED, DataType::Utf8, true),
            Field::new(Candidates::OWN[0], time, false),
        ];
        let texts = Candidates::OWN.iter().skip(1).map(|name| (*name).to_owned());
        let texts = texts.chain(names(GROUP, groups)).chain(names(VALUE, values)).chain(names(LIST, lists));
        fields.extend(texts.map(|name| Field::new(name, DataType::Utf8, true)));
        let rows = Rows {
            rules,
            expressions: matched.candidates.expressions.len(),
            groups,
            values,
            lists,
            schema: Arc::new(Schema::new(fields)),
        };
        Set { matched, numbers, told, layout, rows: Arc::new(rows) }
    }

    /// What runs for these rules, whose windows have one shape.
    fn queries(&self, resources: Resources, range: Range) -> Result<Queries, Error> {
        let first = self.numbers.first().map(|number| (self.matched.rules[*number], self.matched.reads[*number]));
        let (rule, read) = first.ok_or_else(|| Error::Internal("a hunt for no rule".to_owned()))?;
        let anchors = match (rule.window.kind, range.from, read.from) {
            (WindowKind::Dedup, Some(from), Some(_)) => Some(sql::unanchored_matched(rule, &self.layout, from, read)?),
            _ => None,
        };
        let hunt = sql::hunt_matched(rule, &self.layout, range)?;
        let streams = self.rows.streams(&self.matched.buffer, resources.partitions());
        let table = engine::streamed_table(Arc::clone(&self.rows.schema), streams).map_err(failed)?;
        Ok(Queries { resources, table, anchors, hunt })
    }
}

/// The queries for rules whose windows have one shape.
struct Queries {
    resources: Resources,
    table: Arc<dyn TableProvider>,
    anchors: Option<String>,
    hunt: String,
}

impl Queries {
    /// The places of rules for which more must be read.
    async fn unanchored(&self) -> Result<Vec<usize>, Error> {
        let Some(anchors) = &self.anchors else {
            return Ok(Vec::new());
        };
        let rows = self.resources.rows("matched", Arc::clone(&self.table), anchors).await.map_err(failed)?;
        let rows: Vec<RecordBatch> = rows.try_collect().await.map_err(failed)?;
        let places = rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
        Ok(places.filter_map(|place| usize::try_from(*place).ok()).collect())
    }

    /// The rows that tell findings.
    async fn findings(&self) -> Result<SendableRecordBatchStream, Error> {
        self.resources.rows("matched", Arc::clone(&self.table), &self.hunt).await.map_err(failed)
    }
}

fn failed(error: DataFusionError) -> Error {
    Error::query("the matches of the rules", error)
}

/// What columns are called whose rules need different things: by the places that these have for a rule.
const GROUP: &str = "group";
const VALUE: &str = "value";
const LIST: &str = "list";

fn names(of: &'static str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |place| format!("{of}.{place}"))
}
