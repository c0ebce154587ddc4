//! The table `matched`: for each of some rules its matches, made from the buffer of a scan as the query reads them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, IntervalMonthDayNanoArray, RecordBatch, StringArray};
use arrow::compute::FilterBuilder;
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::error::Result;

use crate::engine::match_batch::MatchBatch;
use crate::engine::match_scan::BufferedMatches;
use crate::engine::{BATCH_ROWS, functions};
use crate::event;
use crate::rule::Window;
use crate::sql::columns::{self, RuleColumns, TriggerColumns};
use crate::sql::match_spec::{EventColumn, ValueId};
use crate::time::Range;

/// Columns of rules that need different values are named by their indexes in the rule.
const GROUP: &str = "group";
const TRIGGER: &str = "value";
const DISTINCT: &str = "list";

/// The table `matched` of some rules.
#[derive(Debug)]
pub(super) struct MatchTable {
    rules: Vec<TableRule>,
    /// The columns that hold values of rules: as many as the rule has that needs most.
    columns: RuleColumns<String>,
    schema: SchemaRef,
}

/// A rule of the table.
#[derive(Debug)]
pub(super) struct TableRule {
    /// Its index in the scan.
    pub(super) index: usize,
    pub(super) window: Window,
    /// The times that its hunt reads.
    pub(super) read: Range,
    /// The values that it needs.
    pub(super) columns: RuleColumns<ValueId>,
}

impl MatchTable {
    /// The table of `rules`, which it knows by their indexes in this list.
    pub(super) fn new(rules: Vec<TableRule>) -> MatchTable {
        let most = |count: fn(&RuleColumns<ValueId>) -> usize| {
            rules.iter().map(|rule| count(&rule.columns)).max().unwrap_or_default()
        };
        let trigger = TriggerColumns {
            context: numbered(TRIGGER).take(most(|columns| columns.trigger.iter().count())).collect(),
            title: Vec::new(),
            severity: None,
        };
        let columns = RuleColumns {
            group: numbered(GROUP).take(most(|columns| columns.group.len())).collect(),
            trigger,
            distinct: numbered(DISTINCT).take(most(|columns| columns.distinct.len())).collect(),
            counted: None,
        };
        let time = event::schema().field(0).data_type().clone();
        let mut fields = vec![
            Field::new(columns::RULE, DataType::Int64, false),
            Field::new(columns::THRESHOLD, DataType::Int64, false),
            Field::new(columns::PERIOD, DataType::Interval(IntervalUnit::MonthDayNano), false),
            Field::new(columns::FINGERPRINT, DataType::Int64, false),
            Field::new(columns::COUNTED, DataType::Utf8, true),
        ];
        fields.extend(EventColumn::ALL.map(|column| match column {
            EventColumn::Time => Field::new(column.name(), time.clone(), false),
            _ => Field::new(column.name(), DataType::Utf8, true),
        }));
        fields.extend(columns.iter().map(|name| Field::new(name, DataType::Utf8, true)));
        MatchTable { rules, columns, schema: Arc::new(Schema::new(fields)) }
    }

    /// The columns by which the query of these rules groups, and which it returns. The rule is part of every group.
    pub(super) fn columns(&self) -> RuleColumns<String> {
        let group = std::iter::once(columns::RULE.to_owned()).chain(self.columns.group.iter().cloned()).collect();
        RuleColumns { group, ..self.columns.clone() }
    }

    /// The columns of the rule with this index in the table.
    pub(super) fn columns_of(&self, index: usize) -> RuleColumns<String> {
        let columns = &self.rules[index].columns;
        let mut group = numbered(GROUP);
        let mut trigger = numbered(TRIGGER);
        let mut distinct = numbered(DISTINCT);
        RuleColumns {
            group: group.by_ref().take(columns.group.len()).collect(),
            trigger: columns.trigger.map(|_| trigger.next().unwrap_or_default()),
            distinct: distinct.by_ref().take(columns.distinct.len()).collect(),
            counted: columns.counted.map(|_| columns::COUNTED.to_owned()),
        }
    }

    /// The rows of all rules in a batch of the scan, in batches of about [`BATCH_ROWS`] at most.
    fn rows(self: Arc<MatchTable>, batch: MatchBatch) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        (0..self.rules.len()).flat_map(move |rule| {
            let (table, batch) = (Arc::clone(&self), batch.clone());
            let pieces = batch.matches_of(table.rules[rule].index).true_count().div_ceil(BATCH_ROWS);
            let length = batch.len().div_ceil(pieces.max(1));
            let piece = move |piece| {
                let start = piece * length;
                table.rows_of(rule, &batch.slice(start, length.min(batch.len() - start)))
            };
            (0..pieces).map(piece)
        })
    }

    /// The rows of the rule with this index in the table.
    fn rows_of(&self, index: usize, batch: &MatchBatch) -> Result<RecordBatch> {
        let rule = &self.rules[index];
        let selected = super::within(batch.event(EventColumn::Time), batch.matches_of(rule.index), rule.read)?;
        let selected = FilterBuilder::new(&selected).optimize().build();
        let event = |column: EventColumn| selected.filter(batch.event(column));
        let values = rule.columns.try_map(|id| selected.filter(batch.value(*id)))?;

        // As in the query that `tawny sql` prints: a hash of everything that is computed for a match.
        let listed = EventColumn::LISTED.map(event).into_iter().collect::<Result<Vec<_>, _>>()?;
        let computed: Vec<ArrayRef> = values.iter().cloned().chain(listed).collect();
        let fingerprints = functions::fingerprints(&computed)?;

        let rows = fingerprints.len();
        let null = || Arc::new(StringArray::new_null(rows)) as ArrayRef;
        let constant = |number: i64| Arc::new(Int64Array::from_value(number, rows)) as ArrayRef;
        let period = IntervalMonthDayNano::new(0, 0, rule.window.period.micros() * 1_000);
        let mut columns = vec![
            constant(i64::try_from(index).unwrap_or_default()),
            constant(rule.window.threshold.get().into()),
            Arc::new(IntervalMonthDayNanoArray::from_value(period, rows)),
            Arc::new(fingerprints),
            values.counted.unwrap_or_else(null),
        ];
        columns.extend(EventColumn::ALL.map(event).into_iter().collect::<Result<Vec<_>, _>>()?);
        let trigger: Vec<ArrayRef> = values.trigger.iter().cloned().collect();
        let own = [
            (self.columns.group.len(), values.group),
            (self.columns.trigger.iter().count(), trigger),
            (self.columns.distinct.len(), values.distinct),
        ];
        for (count, values) in own {
            columns.extend(values.into_iter().chain(std::iter::repeat_with(null)).take(count));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Returns the rows of all matches in `buffer`, as a table with `partitions` partitions.
    ///
    /// # Errors
    /// There are no partitions.
    pub(super) fn provider(
        self: &Arc<MatchTable>,
        buffer: &Arc<BufferedMatches>,
        partitions: usize,
    ) -> Result<Arc<dyn TableProvider>> {
        let table = Arc::clone(self);
        buffer.table(&self.schema, partitions, move |batch| Arc::clone(&table).rows(batch))
    }
}

/// The names `kind.0`, `kind.1` and so on.
fn numbered(kind: &'static str) -> impl Iterator<Item = String> {
    (0..).map(move |index: usize| format!("{kind}.{index}"))
}
