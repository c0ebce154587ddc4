//! The findings of a hunt, as rows in memory up to a part of the budget, and beyond that in files.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, new_null_array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::match_table::{MatchTable, TRIGGER_NUMBER};
use crate::engine::Engine;
use crate::engine::keyed_rows::{KeyedPart, KeyedRows, KeyedRowsReader, KeyedRowsWriter};
use crate::error::Error;
use crate::event;
use crate::finding::{Finding, FindingSchema};
use crate::rule::Rule;
use crate::sql::columns::{self, RuleColumns};
use crate::time::Instant;

/// The columns of findings besides those of a rule.
const COUNTS: [&str; 3] = ["count", "peak", columns::COUNTED_PEAK];
const TIMES: [&str; 3] = [FIRST_EVENT, LAST_EVENT, "trigger_time"];
const LISTS: [&str; 4] = ["event_ids", "source_ips", "user_agents", "regions"];
const FIRST_EVENT: &str = "first_event";
const LAST_EVENT: &str = "last_event";
const FIRST_EVENT_ID: &str = "first_event_id";

/// The findings of a hunt. They are read in the order of first event, rule, group and window.
#[derive(Debug)]
pub struct FindingBuffer<'r> {
    engine: Engine,
    rules: &'r [Rule],
    scans: Vec<ScanFindings>,
    /// For each rule the number of its findings.
    counts: Vec<u64>,
}

/// The findings of the rules of one scan.
#[derive(Debug)]
pub(super) struct ScanFindings {
    rows: KeyedRows,
    rules: Vec<ScanRule>,
}

/// A rule of a scan.
#[derive(Debug)]
struct ScanRule {
    /// Its index in the hunt.
    index: usize,
    columns: RuleColumns<String>,
    /// The number of its findings.
    count: u64,
    /// The time of the last event in any of them.
    last_event: Option<Instant>,
    /// Where its findings stand among those of the same time, and among those of the same time, id and group.
    ranks: [u32; 2],
}

impl<'r> FindingBuffer<'r> {
    /// Returns a buffer without findings.
    pub(super) fn new(engine: &Engine, rules: &'r [Rule]) -> FindingBuffer<'r> {
        FindingBuffer { engine: engine.clone(), rules, scans: Vec::new(), counts: vec![0; rules.len()] }
    }

    /// Adds the findings of the rules that a scan has decided. `undecided` are the indexes of the others in the scan.
    pub(super) fn add(&mut self, scan: ScanFindings, undecided: &[usize]) {
        let mut scan = scan;
        for index in undecided {
            scan.rules[*index].count = 0;
        }
        for rule in &scan.rules {
            self.counts[rule.index] += rule.count;
        }
        self.scans.push(scan);
    }

    /// Drops the findings of rules from the index `count` on.
    pub(super) fn keep_first(&mut self, count: usize) {
        for rule in self.scans.iter_mut().flat_map(|scan| &mut scan.rules).filter(|rule| rule.index >= count) {
            rule.count = 0;
        }
        self.counts.iter_mut().skip(count).for_each(|dropped| *dropped = 0);
    }

    /// Returns the number of findings.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns whether any finding is an alert.
    pub fn has_alerts(&self) -> bool {
        self.rules.iter().zip(&self.counts).any(|(rule, count)| rule.alert && *count > 0)
    }

    /// Begins to read all findings in order.
    ///
    /// # Errors
    /// They cannot be sorted.
    pub async fn read(&self) -> Result<FindingReader<'_>, Error> {
        let wanted = |scan: &ScanFindings| scan.rules.iter().map(|rule| rule.count > 0).collect();
        let parts: Vec<_> =
            self.scans.iter().map(|scan| KeyedPart { rows: &scan.rows, wanted: wanted(scan) }).collect();
        let rows = KeyedRowsReader::new(&self.engine, &parts).await.map_err(failed)?;
        let schema = |rule: &ScanRule| FindingSchema { rule: &self.rules[rule.index], columns: rule.columns.clone() };
        let schemas = self.scans.iter().map(|scan| scan.rules.iter().map(schema).collect()).collect();
        Ok(FindingReader { scans: &self.scans, schemas, rows, batch: None })
    }

    /// Returns the findings of each rule, in order and in memory.
    ///
    /// # Errors
    /// They cannot be sorted.
    pub async fn of_rules(&self) -> Result<Vec<Vec<Finding>>, Error> {
        let mut findings = vec![Vec::new(); self.rules.len()];
        let mut reader = self.read().await?;
        while let Some((rule, finding)) = reader.next_of_rule().await? {
            findings[rule].push(finding);
        }
        Ok(findings)
    }

    /// Returns all findings, in order and in memory.
    ///
    /// # Errors
    /// They cannot be sorted.
    pub async fn all(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        let mut reader = self.read().await?;
        while let Some(finding) = reader.next().await? {
            findings.push(finding);
        }
        Ok(findings)
    }
}

/// Reads the findings of a [`FindingBuffer`] one by one.
pub struct FindingReader<'b> {
    scans: &'b [ScanFindings],
    /// For each scan the schemas of its rules.
    schemas: Vec<Vec<FindingSchema<'b>>>,
    rows: KeyedRowsReader<'b>,
    /// The rows of a scan, its index, and the next row.
    batch: Option<(usize, RecordBatch, usize)>,
}

impl FindingReader<'_> {
    /// Returns the next finding; `None` at the end.
    ///
    /// # Errors
    /// The findings cannot be sorted, or a file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Finding>, Error> {
        Ok(self.next_of_rule().await?.map(|(_, finding)| finding))
    }

    /// Returns the next finding, and the index of its rule.
    pub(super) async fn next_of_rule(&mut self) -> Result<Option<(usize, Finding)>, Error> {
        loop {
            if let Some((scan, batch, row)) = self.batch.as_mut().filter(|(_, batch, row)| *row < batch.num_rows()) {
                let number = rule_of(batch, *row)?;
                let (Some(rule), Some(schema)) = (self.scans[*scan].rules.get(number), self.schemas[*scan].get(number))
                else {
                    return Err(no_rule());
                };
                let finding = schema.finding(batch, *row)?;
                *row += 1;
                return Ok(Some((rule.index, finding)));
            }
            match self.rows.next().await.map_err(failed)? {
                Some((scan, batch)) => self.batch = Some((scan, batch, 0)),
                None => return Ok(None),
            }
        }
    }
}

/// Collects the findings of one scan.
pub(super) struct ScanFindingsWriter {
    rows: KeyedRowsWriter,
    rules: Vec<ScanRule>,
}

impl ScanFindingsWriter {
    /// Returns a writer for the scan of `table`, whose rules are those of `rules` with the indexes `scanned`.
    ///
    /// # Errors
    /// The rows cannot be kept.
    pub(super) fn new(
        engine: &Engine,
        table: &MatchTable,
        rules: &[Rule],
        scanned: &[usize],
    ) -> Result<ScanFindingsWriter, Error> {
        let rows = KeyedRowsWriter::new(engine, schema(&table.finding_columns())).map_err(failed)?;
        let ids = ranks(rules.len(), |index| &rules[index].id);
        let windows = ranks(rules.len(), |index| (rules[index].window.kind, index));
        let rule = |(number, index): (usize, &usize)| ScanRule {
            index: *index,
            columns: table.columns_of(number),
            count: 0,
            last_event: None,
            ranks: [ids[*index], windows[*index]],
        };
        Ok(ScanFindingsWriter { rows, rules: scanned.iter().enumerate().map(rule).collect() })
    }

    /// Adds the findings in rows of a query. The column [`columns::RULE`] holds the index of the rule in the scan.
    ///
    /// # Errors
    /// A column is missing or has another type, or a file cannot be written.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        if batch.column_by_name(TRIGGER_NUMBER).is_some() {
            return Err(Error::Internal("findings without the values of their triggers".to_owned()));
        }
        let batch = conformed(batch, self.rows.schema()).map_err(|error| failed(error.into()))?;
        let times = |name| -> Result<_, Error> {
            Ok(column_of(&batch, name)?.as_primitive::<TimestampMicrosecondType>().clone())
        };
        let [first_events, last_events] = [times(FIRST_EVENT)?, times(LAST_EVENT)?];
        let mut labels = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let number = rule_of(&batch, row)?;
            let rule = self.rules.get_mut(number).ok_or_else(no_rule)?;
            let last = Instant::from_micros(last_events.value(row));
            rule.last_event = rule.last_event.max(Some(last));
            rule.count += 1;
            let mut group = Vec::with_capacity(rule.columns.group.len());
            for name in &rule.columns.group {
                group.push(column_of(&batch, name)?.as_string::<i32>());
            }
            let group = group.into_iter().map(|values| values.is_valid(row).then(|| values.value(row)));
            labels.push((order_key(first_events.value(row), rule.ranks, group), number as u64));
        }
        self.rows.push(&batch, |row| Ok(std::mem::take(&mut labels[row]))).map_err(failed)
    }

    /// Returns for each rule the time of the last event in its findings.
    pub(super) fn last_events(&self) -> impl Iterator<Item = Option<Instant>> {
        self.rules.iter().map(|rule| rule.last_event)
    }

    /// Returns the findings.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn finish(self) -> Result<ScanFindings, Error> {
        Ok(ScanFindings { rows: self.rows.finish().map_err(failed)?, rules: self.rules })
    }
}

fn failed(error: datafusion::error::DataFusionError) -> Error {
    Error::query("the findings", error)
}

/// Returns the column `name` of rows of [`schema`].
fn column_of<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, Error> {
    batch.column_by_name(name).ok_or_else(|| Error::Internal(format!("findings without the column `{name}`")))
}

/// Returns the index, in the scan, of the rule of a finding.
fn rule_of(batch: &RecordBatch, row: usize) -> Result<usize, Error> {
    let rule = column_of(batch, columns::RULE)?.as_primitive::<Int64Type>().value(row);
    usize::try_from(rule).map_err(|_| no_rule())
}

fn no_rule() -> Error {
    Error::Internal("a finding of no rule".to_owned())
}

/// Returns for each index below `count` its rank by `key`. Equal keys have equal ranks.
fn ranks<K: Ord>(count: usize, key: impl Fn(usize) -> K) -> Vec<u32> {
    let mut keys: Vec<K> = (0..count).map(&key).collect();
    keys.sort();
    keys.dedup();
    let rank = |index| keys.binary_search(&key(index)).unwrap_or_default();
    (0..count).map(|index| u32::try_from(rank(index)).unwrap_or(u32::MAX)).collect()
}

/// Returns a key whose bytes compare as first event, first rank, group and second rank do.
fn order_key<'v>(first_event: i64, ranks: [u32; 2], group: impl Iterator<Item = Option<&'v str>>) -> Vec<u8> {
    const END: u8 = 0;
    const NULL: u8 = 1;
    const VALUE: u8 = 2;
    let mut key = Vec::with_capacity(64);
    // With the other sign bit, negative numbers are the smaller ones.
    key.extend_from_slice(&(first_event.cast_unsigned() ^ 1 << 63).to_be_bytes());
    key.extend_from_slice(&ranks[0].to_be_bytes());
    for value in group {
        let Some(value) = value else {
            key.push(NULL);
            continue;
        };
        key.push(VALUE);
        for byte in value.bytes() {
            key.push(byte);
            // Of two values, the shorter one is less, also if the rest of the other is zeros.
            if byte == 0 {
                key.push(u8::MAX);
            }
        }
        key.extend_from_slice(&[0, 0]);
    }
    key.push(END);
    key.extend_from_slice(&ranks[1].to_be_bytes());
    key
}

/// Returns the columns that findings have whose rules have `columns`. Queries of single shapes have some of them.
pub(super) fn schema(columns: &RuleColumns<String>) -> SchemaRef {
    let time = event::time_type();
    let texts = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let of_type = |data_type: &DataType, names: &[&str]| -> Vec<Field> {
        names.iter().map(|name| Field::new(*name, data_type.clone(), true)).collect()
    };
    let group = columns.group.iter().map(String::as_str).filter(|name| *name != columns::RULE);
    let text: Vec<&str> = group.chain(columns.trigger.iter().map(String::as_str)).chain([FIRST_EVENT_ID]).collect();
    let distinct: Vec<&str> = columns.distinct.iter().map(String::as_str).collect();
    let fields = [
        of_type(&DataType::Int64, &[columns::RULE]),
        of_type(&DataType::Int64, &COUNTS),
        of_type(&DataType::Float64, &[columns::STATISTIC]),
        of_type(&time, &TIMES),
        of_type(&texts, &LISTS),
        of_type(&DataType::Utf8, &text),
        of_type(&texts, &distinct),
    ];
    Arc::new(Schema::new(fields.concat()))
}

/// Returns the rows with the columns of `schema`. Columns that they lack are null.
pub(super) fn conformed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => compute::cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<ArrayRef>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Order = (i64, u32, Vec<Option<String>>, u32);

    fn orders() -> impl Strategy<Value = Order> {
        let value = prop_oneof![Just(None), "[a\\x00\\x01b\u{7f}\u{80}]{0,3}".prop_map(Some)];
        let time = prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), -2..2_i64];
        (time, 0..2_u32, prop::collection::vec(value, 0..3), 0..2_u32)
    }

    proptest! {
        #[test]
        fn keys_compare_as_the_orders_of_findings(one in orders(), other in orders()) {
            let key = |(time, id, group, window): &Order| {
                order_key(*time, [*id, *window], group.iter().map(Option::as_deref))
            };
            prop_assert_eq!(key(&one).cmp(&key(&other)), one.cmp(&other));
        }
    }
}
