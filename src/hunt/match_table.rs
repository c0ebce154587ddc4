//! The table `matched`: for each of some rules its matches, made from the buffer of a scan as the query reads them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, Int64Array, IntervalMonthDayNanoArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::{self, FilterBuilder};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::error::Result;

use super::account_starts::AccountStarts;
use super::match_origins::MatchOrigins;
use super::seen::KnownKey;
use super::windows::WindowRule;
use crate::engine::match_batch::MatchBatch;
use crate::engine::{BATCH_ROWS, event_kinds_type, functions};
use crate::event;
use crate::sql::CountFunction;
use crate::sql::columns::{self, NewnessColumns, RuleColumns, TriggerColumns};
use crate::sql::match_spec::{EventColumn, ValueId};
use crate::time::{Instant, Period};

/// Columns of rules that need different values are named by their indexes in the rule.
const GROUP: &str = "group";
const TRIGGER: &str = "value";
const DISTINCT: &str = "list";
const NEW: &str = "new";
const NEW_ACCOUNT: &str = "new.account";
/// The column of the number of a match, in hexadecimal digits whose texts compare as the numbers do.
pub(super) const TRIGGER_NUMBER: &str = "trigger_number";

/// The table `matched` of some rules, which it knows by their indexes in the scan.
#[derive(Debug)]
pub(super) struct MatchTable {
    rules: Vec<WindowRule>,
    account_starts: AccountStarts,
    triggers: TriggerValues,
    /// The columns of rows that hold values of rules: as many as the rule has that needs most. A number may stand for the values of
    /// the trigger.
    columns: RuleColumns<String>,
    pub(super) schema: SchemaRef,
}

/// How a row has the values that a finding needs of the match that triggers.
#[derive(Debug, Clone, Copy)]
pub(super) enum TriggerValues {
    /// In columns, on nodes of a cluster.
    #[cfg(feature = "cluster")]
    InRows,
    /// By the number of the match, in the column [`TRIGGER_NUMBER`].
    Numbered,
}

/// The place of the rows of a [`MatchTable`].
pub(super) trait MatchedRows {
    /// Returns whether some rows are in files.
    fn is_spilled(&self) -> bool;

    /// Returns the table of the rows of the rules with these indexes, with at most `partitions` partitions.
    ///
    /// # Errors
    /// There are no partitions.
    fn provider(&self, table: &Arc<MatchTable>, rules: &[usize], partitions: usize) -> Result<Arc<dyn TableProvider>>;
}

impl MatchTable {
    /// The table of `rules`. The account starts matter where rows are made from the matches of a scan.
    pub(super) fn new(rules: Vec<WindowRule>, account_starts: AccountStarts, triggers: TriggerValues) -> MatchTable {
        let columns = triggers.in_rows(most_columns(&rules.iter().collect::<Vec<_>>()));
        let time = event::time_type();
        let mut fields = vec![
            Field::new(columns::RULE, DataType::Int64, false),
            Field::new(columns::THRESHOLD, DataType::Int64, false),
            Field::new(columns::PERIOD, DataType::Interval(IntervalUnit::MonthDayNano), false),
            Field::new(columns::MIN_EVENTS, DataType::Int64, true),
            Field::new(columns::FINGERPRINT, DataType::Int64, false),
            Field::new(columns::COUNTED, DataType::Utf8, true),
            Field::new(columns::EVENT_KINDS, event_kinds_type(), true),
            Field::new(columns::HISTORY, DataType::Interval(IntervalUnit::MonthDayNano), true),
            Field::new(columns::KNOWN_FROM, time.clone(), true),
            Field::new(columns::KNOWN_TO, time.clone(), true),
            Field::new(columns::LEARNED_FROM, time.clone(), true),
            Field::new(columns::MATCH_ROLE, DataType::Utf8, true),
        ];
        fields.extend(EventColumn::ALL.map(|column| match column {
            EventColumn::Time => Field::new(column.name(), time.clone(), false),
            _ => Field::new(column.name(), DataType::Utf8, true),
        }));
        fields.extend(columns.iter().map(|name| Field::new(name, DataType::Utf8, true)));
        let schema = Arc::new(Schema::new(fields));
        MatchTable { rules, account_starts, triggers, columns, schema }
    }

    /// The first event of each account.
    #[cfg(feature = "cluster")]
    pub(super) fn account_starts(&self) -> &AccountStarts {
        &self.account_starts
    }

    /// The rules.
    pub(super) fn rules(&self) -> &[WindowRule] {
        &self.rules
    }

    /// The columns by which the query of the rules with these indexes groups, and which it returns. The rule is part of every
    /// group.
    pub(super) fn columns(&self, rules: &[usize]) -> RuleColumns<String> {
        let columns = most_columns(&rules.iter().map(|index| &self.rules[*index]).collect::<Vec<_>>());
        let columns = self.triggers.in_rows(columns);
        let group = std::iter::once(columns::RULE.to_owned()).chain(columns.group).collect();
        RuleColumns { group, ..columns }
    }

    /// The columns that hold values of rules in findings: as many as the rule has that needs most.
    pub(super) fn finding_columns(&self) -> RuleColumns<String> {
        most_columns(&self.rules.iter().collect::<Vec<_>>())
    }

    /// The columns that findings of the rule with this index have.
    pub(super) fn columns_of(&self, index: usize) -> RuleColumns<String> {
        let columns = &self.rules[index].columns;
        let mut group = numbered(GROUP);
        let mut trigger = numbered(TRIGGER);
        let mut distinct = numbered(DISTINCT);
        RuleColumns {
            group: group.by_ref().take(columns.group.len()).collect(),
            trigger: columns.trigger.map(|_| trigger.next().unwrap_or_default()),
            distinct: distinct.by_ref().take(columns.distinct.len()).collect(),
            counted: self.rules[index].shape.function.map(|function| function.column().to_owned()),
            newness: None,
            match_role: None,
        }
    }

    /// The rows of the rules with these indexes in a batch of the scan, in batches of about [`BATCH_ROWS`] at most.
    pub(super) fn rows(
        self: Arc<MatchTable>,
        rules: Vec<usize>,
        batch: MatchBatch,
        origins: Option<Arc<MatchOrigins>>,
    ) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        rules.into_iter().flat_map(move |rule| {
            let (table, batch, origins) = (Arc::clone(&self), batch.clone(), origins.clone());
            let pieces = batch.matches_of(rule).true_count().div_ceil(BATCH_ROWS);
            let length = batch.len().div_ceil(pieces.max(1));
            let piece = move |piece| {
                let start = piece * length;
                let batch = batch.slice(start, length.min(batch.len() - start));
                table.rows_of(rule, &batch, origins.as_deref())
            };
            (0..pieces).map(piece)
        })
    }

    /// The rows of the rule with this index.
    fn rows_of(&self, index: usize, batch: &MatchBatch, origins: Option<&MatchOrigins>) -> Result<RecordBatch> {
        let rule = &self.rules[index];
        let matched = super::within(batch.event(EventColumn::Time), batch.matches_of(index), rule.read)?;
        let selected = FilterBuilder::new(&matched).optimize().build();
        let event = |column: EventColumn| selected.filter(batch.event(column));
        let values = rule.columns.try_map(|id| selected.filter(batch.value(*id)))?;

        // As in the query that `tawny sql` prints: a hash of everything that is computed for a match.
        let listed = EventColumn::LISTED.map(event).into_iter().collect::<Result<Vec<_>, _>>()?;
        let computed: Vec<ArrayRef> = values.iter().cloned().chain(listed).collect();
        let fingerprints = functions::fingerprints(&computed)?;
        let values = match origins {
            Some(origins) => rule
                .columns
                .try_map(|id| Ok::<_, ArrowError>(origins.resolved(*id, &selected.filter(batch.value(*id))?)))?,
            None => values,
        };

        let rows = fingerprints.len();
        let null = || Arc::new(StringArray::new_null(rows)) as ArrayRef;
        let counted = rule.shape.function.map(CountFunction::column);
        let counted_as = |name: &str, data_type: &DataType| match &values.counted {
            Some(values) if counted == Some(name) => Arc::clone(values),
            _ => new_null_array(data_type, rows),
        };
        let constant = |number: i64| Arc::new(Int64Array::from_value(number, rows)) as ArrayRef;
        let [history, learned_from] = self.newness(rule, &values, rows)?;
        let bound = |bound: Option<Instant>| {
            let times = TimestampMicrosecondArray::from(vec![bound.map(Instant::micros); rows]);
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        };
        let mut columns = vec![
            constant(i64::try_from(index).unwrap_or_default()),
            constant(rule.threshold.get().into()),
            Arc::new(IntervalMonthDayNanoArray::from_value(interval(rule.period), rows)),
            Arc::new(Int64Array::from(vec![rule.shape.min_events.map(|events| events.get().into()); rows])),
            Arc::new(fingerprints),
            counted_as(columns::COUNTED, &DataType::Utf8),
            counted_as(columns::EVENT_KINDS, &event_kinds_type()),
            history,
            bound(rule.decided.from),
            bound(rule.decided.to),
            learned_from,
            values.match_role.clone().unwrap_or_else(null),
        ];
        columns.extend(EventColumn::ALL.map(event).into_iter().collect::<Result<Vec<_>, _>>()?);
        let trigger: Vec<ArrayRef> = match self.triggers {
            #[cfg(feature = "cluster")]
            TriggerValues::InRows => values.trigger.iter().cloned().collect(),
            TriggerValues::Numbered => {
                let number = |row| Some(format!("{:016x}", batch.number(row)));
                vec![Arc::new(matched.values().set_indices().map(number).collect::<StringArray>())]
            }
        };
        let newness: Vec<ArrayRef> = values.newness.iter().flat_map(NewnessColumns::iter).cloned().collect();
        let own = [
            (self.columns.group.len(), values.group),
            (self.columns.trigger.iter().count(), trigger),
            (self.columns.distinct.len(), values.distinct),
            (self.columns.newness.iter().flat_map(NewnessColumns::iter).count(), newness),
        ];
        for (count, values) in own {
            columns.extend(values.into_iter().chain(std::iter::repeat_with(null)).take(count));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl MatchTable {
    /// The rows of `keys`, which were seen before what the hunt of the rule with this index reads. They show that a later match is
    /// not new, and are too early to count. `None` if there are none.
    pub(super) fn known_rows(&self, index: usize, keys: &[KnownKey]) -> Result<Option<RecordBatch>> {
        let rule = &self.rules[index];
        let Some(newness) = rule.newness.filter(|_| !keys.is_empty()) else {
            return Ok(None);
        };
        let rows = keys.len();
        let texts = |column: usize| -> ArrayRef {
            let values = keys.iter().map(|key| key.values.get(column).and_then(Option::as_deref));
            Arc::new(values.collect::<StringArray>())
        };
        let times = |times: Vec<Option<i64>>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        };
        let groups = rule.columns.group.len();
        let new = rule.columns.newness.as_ref().map_or(0, |newness| newness.key.len());
        let key_columns = numbered(GROUP).take(groups).chain(numbered(NEW).take(new)).collect::<Vec<_>>();
        let value = |field: &Arc<Field>| -> ArrayRef {
            match field.name().as_str() {
                columns::RULE => Arc::new(Int64Array::from_value(i64::try_from(index).unwrap_or_default(), rows)),
                columns::THRESHOLD => Arc::new(Int64Array::from_value(rule.threshold.get().into(), rows)),
                columns::PERIOD => Arc::new(IntervalMonthDayNanoArray::from_value(interval(rule.period), rows)),
                columns::HISTORY => Arc::new(IntervalMonthDayNanoArray::from_value(interval(newness.history), rows)),
                columns::FINGERPRINT => Arc::new(Int64Array::from_value(0, rows)),
                columns::KNOWN_FROM => times(vec![rule.decided.from.map(Instant::micros); rows]),
                event::EVENT_TIME => times(keys.iter().map(|key| Some(key.last.micros())).collect()),
                // No event has such an identity.
                event::EVENT_ID => Arc::new((0..rows).map(|row| Some(format!("\0{row}"))).collect::<StringArray>()),
                name => match key_columns.iter().position(|column| column == name) {
                    Some(column) => texts(column),
                    None => new_null_array(field.data_type(), rows),
                },
            }
        };
        let columns = self.schema.fields().iter().map(value).collect();
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}

/// Returns a period as a value of a column.
fn interval(period: Period) -> IntervalMonthDayNano {
    IntervalMonthDayNano::new(0, 0, period.micros() * 1_000)
}

impl MatchTable {
    /// The columns that decide with the key whether a match of `rule` is new: history, learned from.
    fn newness(&self, rule: &WindowRule, values: &RuleColumns<ArrayRef>, rows: usize) -> Result<[ArrayRef; 2]> {
        let Some((periods, columns)) = rule.newness.zip(values.newness.as_ref()) else {
            let null = |name| Ok::<_, ArrowError>(new_null_array(self.schema.field_with_name(name)?.data_type(), rows));
            return Ok([null(columns::HISTORY)?, null(columns::LEARNED_FROM)?]);
        };
        let learned_from = match periods.learning {
            None => TimestampMicrosecondArray::new_null(rows).with_timezone("UTC"),
            Some(learning) => {
                let accounts = compute::cast(&columns.account, &DataType::Utf8)?;
                self.account_starts.learned_from(accounts.as_string(), learning)
            }
        };
        Ok([Arc::new(IntervalMonthDayNanoArray::from_value(interval(periods.history), rows)), Arc::new(learned_from)])
    }
}

impl TriggerValues {
    /// Returns the columns of rows, given those of findings.
    fn in_rows(self, columns: RuleColumns<String>) -> RuleColumns<String> {
        let trigger = match self {
            #[cfg(feature = "cluster")]
            TriggerValues::InRows => columns.trigger,
            TriggerValues::Numbered => {
                TriggerColumns { context: vec![TRIGGER_NUMBER.to_owned()], title: Vec::new(), severity: None }
            }
        };
        RuleColumns { trigger, ..columns }
    }
}

/// The columns that hold values of `rules`: as many as the rule has that needs most.
fn most_columns(rules: &[&WindowRule]) -> RuleColumns<String> {
    let most = |count: fn(&RuleColumns<ValueId>) -> usize| {
        rules.iter().map(|rule| count(&rule.columns)).max().unwrap_or_default()
    };
    let trigger = TriggerColumns {
        context: numbered(TRIGGER).take(most(|columns| columns.trigger.iter().count())).collect(),
        title: Vec::new(),
        severity: None,
    };
    RuleColumns {
        group: numbered(GROUP).take(most(|columns| columns.group.len())).collect(),
        trigger,
        distinct: numbered(DISTINCT).take(most(|columns| columns.distinct.len())).collect(),
        counted: None,
        newness: rules.iter().any(|rule| rule.newness.is_some()).then(|| NewnessColumns {
            account: NEW_ACCOUNT.to_owned(),
            key: numbered(NEW)
                .take(most(|columns| columns.newness.as_ref().map_or(0, |newness| newness.key.len())))
                .collect(),
        }),
        match_role: None,
    }
}

/// The names `kind.0`, `kind.1` and so on.
fn numbered(kind: &'static str) -> impl Iterator<Item = String> {
    (0..).map(move |index: usize| format!("{kind}.{index}"))
}
