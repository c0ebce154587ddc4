//! What several rules match, from one scan, and their findings in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, IntervalUnit, Schema};
use datafusion::catalog::TableProvider;
use tokio::task::JoinSet;

use super::matched_rows::{OfRule, Rows};
use crate::engine::{self, Kept, Resources, matcher};
use crate::error::Error;
use crate::finding::{self, Finding, Told};
use crate::rule::{Counts, Rule, WindowKind};
use crate::sql;
use crate::sql::candidates::Candidates;
use crate::sql::layout::{self, Layout};
use crate::time::{Period, Range};

/// The records that any of some rules matches.
pub(super) struct Matched<'r> {
    rules: &'r [Rule],
    candidates: Candidates,
    kept: Arc<Kept>,
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
    /// Scans `table`, which is `what`, for the records that `rules` match, of each rule those whose time lies in
    /// its part of `reads`: what others need must not tell it which copy of a record is the first.
    ///
    /// # Errors
    /// The scan failed, or what does not fit into memory cannot be written.
    pub(super) async fn scan(
        resources: &Resources,
        table: Arc<dyn TableProvider>,
        rules: &'r [Rule],
        reads: Vec<Range>,
        what: &str,
    ) -> Result<Matched<'r>, Error> {
        let read = reads.iter().copied().reduce(Range::union).unwrap_or_default();
        let candidates = Candidates::new(rules, read);
        let (kept, counts) =
            matcher::kept(resources, table, &candidates).await.map_err(|error| Error::query(what, error))?;
        Ok(Matched { rules, candidates, kept: Arc::new(kept), counts, reads })
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
        // Side by side where each is so little that one thread does it; else each has all threads and memory.
        let sets: Vec<Set<'_>> = shapes.values().map(|numbers| Set::new(self, numbers)).collect();
        let mut outcome = Outcome { findings: vec![Vec::new(); self.rules.len()], short: Vec::new() };
        let mut running = JoinSet::new();
        let resources = resources.beside(self.kept.bytes);
        for (place, set) in sets.iter().enumerate() {
            let rows: usize = set.numbers.iter().map(|number| self.counts[*number]).sum();
            if rows > ROWS_OF_ONE_THREAD {
                self.add(set, &set.queries(resources.clone(), range)?.await?, &mut outcome)?;
            } else {
                let queries = set.queries(resources.on_one_thread(), range)?;
                running.spawn(async move { (place, queries.await) });
            }
        }
        while let Some(done) = running.join_next().await {
            let (place, rows) = done.map_err(|error| Error::Internal(format!("a hunt broke off: {error}")))?;
            self.add(&sets[place], &rows?, &mut outcome)?;
        }
        outcome.short.sort_unstable();
        Ok(outcome)
    }

    /// Adds what the queries of some rules found.
    fn add(&self, set: &Set<'_>, rows: &OfSet, outcome: &mut Outcome) -> Result<(), Error> {
        let places = rows.unanchored.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
        let unanchored: Vec<usize> = places.filter_map(|place| usize::try_from(*place).ok()).collect();
        let found = finding::from_rows(&set.told, &rows.findings)?;
        for ((place, number), found) in set.numbers.iter().enumerate().zip(found) {
            let is_cut = super::is_cut(self.rules[*number].window, super::last_instants(&found), self.reads[*number]);
            if is_cut || unanchored.contains(&place) {
                outcome.short.push(*number);
            } else {
                outcome.findings[*number] = found;
            }
        }
        Ok(())
    }

    fn needs(&self, number: usize) -> Needs<'_> {
        let rule = &self.rules[number];
        let (group, rest) = self.candidates.needs[number].split_at(rule.group_by.len());
        let (told, listed) = rest.split_at(rest.len() - rule.summary.len());
        Needs { group, told, listed }
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

/// The rows that the queries of a [`Set`] gave.
#[derive(Default)]
struct OfSet {
    /// The places of rules for which more must be read.
    unanchored: Vec<RecordBatch>,
    findings: Vec<RecordBatch>,
}

/// What a rule needs of each match, by the numbers of the expressions.
struct Needs<'n> {
    group: &'n [usize],
    told: &'n [usize],
    listed: &'n [usize],
}

impl<'m> Set<'m> {
    fn new(matched: &'m Matched<'_>, numbers: &'m [usize]) -> Set<'m> {
        let (mut values, mut lists, mut told) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for number in numbers {
            let rule = &matched.rules[*number];
            let needs = matched.needs(*number);
            values.extend(needs.told);
            lists.extend(needs.listed);
            let names = (0..needs.group.len()).map(group_name);
            let names = names.chain(needs.told.iter().map(|n| value_name(*n)));
            let mut names = names.chain(needs.listed.iter().map(|n| list_name(*n)));
            told.push(Told { rule, layout: Layout::of(rule).renamed(&mut names) });
        }
        let groups = told.iter().map(|told| told.layout.group.len()).max().unwrap_or_default();
        let layout = Layout {
            group: std::iter::once(layout::RULE.to_owned()).chain((0..groups).map(group_name)).collect(),
            context: values.iter().map(|n| value_name(*n)).collect(),
            summary: lists.iter().map(|n| list_name(*n)).collect(),
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
        let texts =
            texts.chain((0..groups).map(group_name)).chain(layout.context.clone()).chain(layout.summary.clone());
        fields.extend(texts.map(|name| Field::new(name, DataType::Utf8, true)));
        let of_rule = |number: &usize| {
            let Needs { group, told, listed } = matched.needs(*number);
            OfRule {
                number: *number,
                window: matched.rules[*number].window,
                read: matched.reads[*number],
                group: group.to_vec(),
                told: told.to_vec(),
                listed: listed.to_vec(),
                counted: matched.candidates.unique[*number],
            }
        };
        let rows = Rows {
            rules: numbers.iter().map(of_rule).collect(),
            expressions: matched.candidates.expressions.len(),
            groups,
            values: values.into_iter().collect(),
            lists: lists.into_iter().collect(),
            schema: Arc::new(Schema::new(fields)),
        };
        Set { matched, numbers, told, layout, rows: Arc::new(rows) }
    }

    /// What runs for these rules, whose windows have one shape.
    fn queries(
        &self,
        resources: Resources,
        range: Range,
    ) -> Result<impl Future<Output = Result<OfSet, Error>> + Send + 'static, Error> {
        let failed = |error| Error::query("the matches of the rules", error);
        let first = self.numbers.first().map(|number| (&self.matched.rules[*number], self.matched.reads[*number]));
        let (rule, read) = first.ok_or_else(|| Error::Internal("a hunt for no rule".to_owned()))?;
        let anchors = match (rule.window.kind, range.from, read.from) {
            (WindowKind::Dedup, Some(from), Some(_)) => Some(sql::unanchored_matched(rule, &self.layout, from, read)?),
            _ => None,
        };
        let hunt = sql::hunt_matched(rule, &self.layout, range)?;
        let streams = self.rows.streams(&self.matched.kept, resources.partitions());
        let table = engine::streamed_table(Arc::clone(&self.rows.schema), streams).map_err(failed)?;
        Ok(async move {
            let mut of_set = OfSet::default();
            if let Some(anchors) = anchors {
                of_set.unanchored = resources.run("matched", Arc::clone(&table), &anchors).await.map_err(failed)?;
            }
            of_set.findings = resources.run("matched", table, &hunt).await.map_err(failed)?;
            Ok(of_set)
        })
    }
}

fn group_name(place: usize) -> String {
    format!("group.{place}")
}

fn value_name(expression: usize) -> String {
    format!("value.{expression}")
}

fn list_name(expression: usize) -> String {
    format!("list.{expression}")
}
