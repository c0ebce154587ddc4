//! What several rules match, from one scan, and their findings in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, BooleanArray, Int64Array, IntervalMonthDayNanoArray, RecordBatch, StringArray,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Int64Type, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::resources_err;
use datafusion::error::DataFusionError;
use tokio::task::JoinSet;

use crate::engine::{self, Resources, functions, matcher};
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
    batches: Vec<RecordBatch>,
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
    /// The scan failed, or what is matched takes more than [`Resources::matched`].
    pub(super) async fn scan(
        resources: &Resources,
        table: Arc<dyn TableProvider>,
        rules: &'r [Rule],
        reads: Vec<Range>,
        what: &str,
    ) -> Result<Matched<'r>, Error> {
        let read = reads.iter().copied().reduce(Range::union).unwrap_or_default();
        let candidates = Candidates::new(rules, read);
        let batches = matcher::matches(resources, table, &candidates, Some(resources.matched)).await;
        Ok(Matched { rules, candidates, batches: batches.map_err(|error| Error::query(what, error))?, reads })
    }

    /// The findings whose trigger lies in `range`.
    pub(super) async fn hunt(&self, resources: &Resources, range: Range) -> Result<Outcome, Error> {
        let mut shapes: BTreeMap<Shape, Vec<usize>> = BTreeMap::new();
        for (number, rule) in self.rules.iter().enumerate() {
            // With fewer matches than the threshold there is nothing to find, unless one may be of several kinds.
            let least = if matches!(rule.counts, Counts::EachOf(_)) { 1 } else { rule.window.threshold.get() };
            if self.count(number) >= usize::try_from(least).unwrap_or(usize::MAX) {
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
        for (place, set) in sets.iter().enumerate() {
            let batches =
                set.batches(resources.memory).map_err(|error| Error::query("the matches of the rules", error))?;
            if batches.iter().map(RecordBatch::num_rows).sum::<usize>() > ROWS_OF_ONE_THREAD {
                self.add(set, &set.queries(resources.clone(), batches, range)?.await?, &mut outcome)?;
            } else {
                let queries = set.queries(resources.on_one_thread(), batches, range)?;
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

    fn flags<'b>(&self, batch: &'b RecordBatch, number: usize) -> &'b BooleanArray {
        matcher::flags(&self.candidates, batch, number)
    }

    fn count(&self, number: usize) -> usize {
        self.batches.iter().map(|batch| self.flags(batch, number).true_count()).sum()
    }
}

/// The table `matched` of some rules.
struct Set<'m> {
    matched: &'m Matched<'m>,
    numbers: &'m [usize],
    told: Vec<Told<'m>>,
    /// The columns of all of them; the rule is part of the group.
    layout: Layout,
    /// The numbers of the expressions that are told, and of those that are listed.
    values: BTreeSet<usize>,
    lists: BTreeSet<usize>,
    schema: SchemaRef,
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
        Set { matched, numbers, told, layout, values, lists, schema: Arc::new(Schema::new(fields)) }
    }

    /// What runs over `batches` for these rules, whose windows have one shape.
    fn queries(
        &self,
        resources: Resources,
        batches: Vec<RecordBatch>,
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
        let table = engine::memory_table(Arc::clone(&self.schema), batches).map_err(failed)?;
        Ok(async move {
            let mut of_set = OfSet::default();
            if let Some(anchors) = anchors {
                of_set.unanchored = resources.run("matched", Arc::clone(&table), &anchors).await.map_err(failed)?;
            }
            of_set.findings = resources.run("matched", table, &hunt).await.map_err(failed)?;
            Ok(of_set)
        })
    }

    /// What each of the rules matches, in batches of its own, which together take no more than `limit` bytes.
    fn batches(&self, limit: usize) -> Result<Vec<RecordBatch>, DataFusionError> {
        let mut bytes = 0;
        let columns: Vec<usize> = (0..Candidates::OWN.len() + self.matched.candidates.expressions.len()).collect();
        let mut batches = Vec::new();
        for batch in &self.matched.batches {
            let computed = batch.project(&columns)?;
            for (place, number) in self.numbers.iter().enumerate() {
                let flags =
                    super::within(batch.column(0), self.matched.flags(batch, *number), self.matched.reads[*number])?;
                if flags.true_count() > 0 {
                    let rows = self.rows(place, *number, &compute::filter_record_batch(&computed, &flags)?)?;
                    bytes += rows.get_array_memory_size();
                    batches.push(rows);
                }
                if bytes > limit {
                    return resources_err!("what the rules match takes more than {} MiB", limit >> 20);
                }
            }
        }
        Ok(batches)
    }

    /// The rows of one rule, from the candidates that it matches.
    fn rows(&self, place: usize, number: usize, found: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let column = |place: usize| Arc::clone(found.column(place));
        let value = |expression: usize| column(Candidates::OWN.len() + expression);
        let needs = self.matched.needs(number);
        let counted = self.matched.candidates.unique[number].map(value);
        let own: Vec<ArrayRef> = (1..Candidates::OWN.len()).map(column).collect();

        // As in the query of one rule: all that is computed for a match.
        let computed = [needs.group, needs.told, needs.listed].concat();
        let mut computed: Vec<ArrayRef> = computed.into_iter().map(value).collect();
        computed.extend(counted.clone());
        computed.extend(own.iter().skip(1).cloned());
        let fingerprints = functions::fingerprints(&computed)?;

        let rows = found.num_rows();
        let nothing = || Arc::new(StringArray::new_null(rows)) as ArrayRef;
        let constant = |number: i64| Arc::new(Int64Array::from_value(number, rows)) as ArrayRef;
        let window = self.told[place].rule.window;
        let period = IntervalMonthDayNano::new(0, 0, window.period.micros() * 1_000);
        let mut columns = vec![
            constant(i64::try_from(place).unwrap_or_default()),
            constant(window.threshold.get().into()),
            Arc::new(IntervalMonthDayNanoArray::from_value(period, rows)),
            Arc::new(fingerprints),
            counted.unwrap_or_else(nothing),
            Arc::clone(found.column(0)),
        ];
        columns.extend(own);
        for group in 0..self.layout.group.len() - 1 {
            columns.push(needs.group.get(group).map_or_else(nothing, |expression| value(*expression)));
        }
        for (all, own) in [(&self.values, needs.told), (&self.lists, needs.listed)] {
            for expression in all {
                columns.push(if own.contains(expression) { value(*expression) } else { nothing() });
            }
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
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
