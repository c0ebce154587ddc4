//! Counts records that share an `eventID`, in bounded memory: rows are sorted by identity, spilling to disk, and each row
//! is compared with the one before it.

use std::collections::HashSet;
use std::sync::Arc;

#[cfg(feature = "cluster")]
use arrow::array::ArrayRef;
use arrow::array::{Array as _, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry as _;
use datafusion::prelude::{Expr, ident, lit};
use futures::TryStreamExt as _;

#[cfg(feature = "cluster")]
use super::functions;
use super::match_scan::BufferedMatches;
use super::{Engine, within};
use crate::event::{self, CONTENT_ID, EVENT_ID, EVENT_TIME};
use crate::named_columns;
use crate::sql::match_spec::{CALL_COLUMNS, EventColumn, ValueId};
use crate::statistics::{DifferingExample, DifferingRecord, DifferingRecords, Duplicates};
use crate::time::{Instant, Range};

mod exec;

pub use exec::DroppedDuplicates;

/// The columns by which records are compared: the identity, then the call. The identity is the `contentID` for records
/// without an `eventID`. Only damaged or anonymised duplicates differ in their call.
const COMPARED: [&str; 4] = [EVENT_ID, EVENT_TIME, CALL_COLUMNS[0], CALL_COLUMNS[1]];

/// The columns of rows that are sorted: the fingerprint of the identity, the time, and the fingerprint of the call.
const ID: &str = "id";
const TIME: &str = "time";
const CALL: &str = "call";

/// Estimated bytes of one identity in a hash set.
const BYTES_OF_ID: usize = 18;

/// The identities that more than one record has.
#[derive(Debug, Clone)]
pub(super) enum RepeatedIds {
    /// Their fingerprints.
    Fingerprints(HashSet<i64>),
    /// More than fit into memory.
    TooMany,
}

impl RepeatedIds {
    /// Adds an identity. Beyond `limit` identities all are forgotten.
    fn insert(&mut self, id: i64, limit: usize) {
        if let RepeatedIds::Fingerprints(ids) = self {
            ids.insert(id);
            if ids.len() > limit {
                *self = RepeatedIds::TooMany;
            }
        }
    }
}

/// Counts duplicates in rows sorted by identity.
#[derive(Debug)]
struct DuplicateCounter {
    current: Option<CurrentIdentity>,
    dropped: u64,
    differing: u64,
    /// The smallest identity whose records differ, so that every run shows the same example.
    example: Option<i64>,
    repeated: RepeatedIds,
    /// The most identities that `repeated` holds.
    repeated_limit: usize,
}

/// The identity of the last row.
#[derive(Debug)]
struct CurrentIdentity {
    /// The fingerprint of the identity.
    id: i64,
    /// The time of its first row, and the fingerprint of the name and source.
    call: (Option<i64>, i64),
    is_repeated: bool,
    differs: bool,
}

impl DuplicateCounter {
    fn new(repeated_limit: usize) -> DuplicateCounter {
        DuplicateCounter {
            current: None,
            dropped: 0,
            differing: 0,
            example: None,
            repeated: RepeatedIds::Fingerprints(HashSet::new()),
            repeated_limit,
        }
    }

    /// Adds a row. Returns whether its identity is the new example.
    fn add(&mut self, id: i64, call: (Option<i64>, i64)) -> bool {
        match &mut self.current {
            Some(current) if current.id == id => {
                self.dropped += 1;
                if !std::mem::replace(&mut current.is_repeated, true) && self.repeated_limit > 0 {
                    self.repeated.insert(id, self.repeated_limit);
                }
                if call != current.call && !std::mem::replace(&mut current.differs, true) {
                    self.differing += 1;
                    if self.example.is_none_or(|example| id < example) {
                        self.example = Some(id);
                        return true;
                    }
                }
            }
            current => *current = Some(CurrentIdentity { id, call, is_repeated: false, differs: false }),
        }
        false
    }

    /// Returns whether the last row has another identity than `id`.
    fn is_new(&self, id: i64) -> bool {
        self.current.as_ref().is_none_or(|current| current.id != id)
    }

    /// Adds rows of the fingerprint of the identity, the time, and the fingerprint of the call.
    ///
    /// # Errors
    /// The batch has other columns.
    fn add_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let ids = named_columns::integers(batch, ID)?;
        let times = named_columns::times(batch, TIME)?;
        let calls = named_columns::integers(batch, CALL)?;
        for row in 0..batch.num_rows() {
            self.add(ids.value(row), (times.is_valid(row).then(|| times.value(row)), calls.value(row)));
        }
        Ok(())
    }
}

/// Counts the duplicates among the records of `table` with a time in `range`, or among all if it is unbounded. `table`
/// has the columns of [`event::schema`]. Also returns the repeated identities, unless they exceed an eighth of the memory.
pub(super) async fn repeated_records(
    engine: &Engine,
    table: Arc<dyn TableProvider>,
    range: Range,
) -> Result<(Duplicates, RepeatedIds)> {
    let limit = engine.memory / 8 / BYTES_OF_ID;
    let context = engine.session()?;
    let records = within(context.read_table(table)?, range)?;
    let counter = count(compared_columns(records.clone())?, limit).await?;
    let duplicates = with_example(&counter, compared_columns(records)?).await?;
    Ok((duplicates, counter.repeated))
}

/// Counts the duplicates among `matches` with a time in `range`. `call` are the values of their names and sources.
pub(crate) async fn among_matches(
    engine: &Engine,
    matches: &Arc<BufferedMatches>,
    call: [ValueId; 2],
    range: Range,
) -> Result<Duplicates> {
    if matches.counts.iter().sum::<usize>() < 2 {
        return Ok(Duplicates::default());
    }
    let context = engine.session()?;
    let schema = compared_schema();
    let compared = Arc::clone(&schema);
    let table = matches.table(&schema, engine.partitions(), Vec::new(), move |batch| {
        let identity = [EventColumn::Id, EventColumn::Time].map(|column| Arc::clone(batch.event(column)));
        let columns = identity.into_iter().chain(call.map(|id| Arc::clone(batch.value(id)))).collect();
        [RecordBatch::try_new(Arc::clone(&compared), columns).map_err(Into::into)]
    })?;
    let rows = within(context.read_table(table)?, range)?;
    let counter = count(rows.clone(), 0).await?;
    with_example(&counter, rows).await
}

/// Adds the duplicates of a partition that has all records with its identities. The example is the one that
/// [`among_matches`] shows for all partitions together.
#[cfg(feature = "cluster")]
pub(crate) fn add_partition(total: &mut Duplicates, mut of_partition: Duplicates) -> Result<()> {
    let fingerprint = |example: &DifferingExample| -> Result<i64> {
        let id: ArrayRef = Arc::new(StringArray::from(vec![example.event_id.as_str()]));
        Ok(functions::fingerprints(&[id])?.value(0))
    };
    if let (Some(known), Some(other)) = (&mut total.differing.example, &mut of_partition.differing.example) {
        let (least, greatest) = if fingerprint(known)? < fingerprint(other)? { (known, other) } else { (other, known) };
        *greatest = least.clone();
    }
    total.add(of_partition);
    Ok(())
}

/// Returns the columns [`COMPARED`] of `records`.
fn compared_columns(records: DataFrame) -> Result<DataFrame> {
    let [_, call @ ..] = COMPARED.map(ident);
    let select = |records: DataFrame, id: Expr| {
        records.select(std::iter::once(id.alias(EVENT_ID)).chain(call.iter().cloned()).collect::<Vec<_>>())
    };
    // Read separately, because in tables of other tools the `contentID` is computed from all columns.
    let with_id = records.clone().filter(ident(EVENT_ID).is_not_null())?;
    let without_id = records.filter(ident(EVENT_ID).is_null())?;
    select(with_id, ident(EVENT_ID))?.union(select(without_id, ident(CONTENT_ID))?)
}

async fn count(rows: DataFrame, repeated_limit: usize) -> Result<DuplicateCounter> {
    let fingerprint = rows.task_ctx().udf("fingerprint")?;
    let [id, time, name, source] = COMPARED.map(ident);
    let rows = rows
        .select(vec![
            fingerprint.call(vec![id]).alias(ID),
            time.alias(TIME),
            fingerprint.call(vec![name, source]).alias(CALL),
        ])?
        .sort(vec![ident(ID).sort(true, true)])?;
    let (mut rows, mut counter) = (rows.execute_stream().await?, DuplicateCounter::new(repeated_limit));
    while let Some(batch) = rows.try_next().await? {
        counter.add_batch(&batch)?;
    }
    Ok(counter)
}

/// Returns the counts of `counter`, with an example read from `rows`.
async fn with_example(counter: &DuplicateCounter, rows: DataFrame) -> Result<Duplicates> {
    let example = match counter.example {
        None => None,
        Some(id) => example(rows, id).await?,
    };
    let differing = DifferingRecords { event_ids: counter.differing, example };
    Ok(Duplicates { left_out: counter.dropped, differing, is_partial: false })
}

/// Returns the identity with the fingerprint `id`, and the smallest and the largest of its records.
async fn example(rows: DataFrame, id: i64) -> Result<Option<DifferingExample>> {
    let fingerprint = rows.task_ctx().udf("fingerprint")?;
    let rows = rows.filter(fingerprint.call(vec![ident(EVENT_ID)]).eq(lit(id)))?;
    let mut rows = rows.select(COMPARED.map(ident).to_vec())?.execute_stream().await?;
    let mut ends: Option<(String, DifferingRecord, DifferingRecord)> = None;
    while let Some(batch) = rows.try_next().await? {
        let columns = ComparedColumns::of_batch(&batch)?;
        for row in 0..batch.num_rows() {
            let (id, record) = columns.record(row);
            ends = Some(match ends {
                None => (id, record.clone(), record),
                Some((id, first, last)) => (id, first.min(record.clone()), last.max(record)),
            });
        }
    }
    Ok(ends.map(|(event_id, first, last)| DifferingExample { event_id, records: vec![first, last] }))
}

/// The columns [`COMPARED`] of a batch.
struct ComparedColumns {
    ids: StringArray,
    times: TimestampMicrosecondArray,
    names: StringArray,
    sources: StringArray,
}

impl ComparedColumns {
    /// Finds the columns in `batch` by their names.
    ///
    /// # Errors
    /// The batch has other columns.
    fn of_batch(batch: &RecordBatch) -> Result<ComparedColumns> {
        let [id, time, name, source] = COMPARED;
        Ok(ComparedColumns {
            ids: named_columns::texts(batch, id)?.clone(),
            times: named_columns::times(batch, time)?.clone(),
            names: named_columns::texts(batch, name)?.clone(),
            sources: named_columns::texts(batch, source)?.clone(),
        })
    }

    /// Returns the identity and the call in a row.
    fn record(&self, row: usize) -> (String, DifferingRecord) {
        let text = |texts: &StringArray| texts.is_valid(row).then(|| texts.value(row).to_owned());
        let time = self.times.is_valid(row).then(|| Instant::from_micros(self.times.value(row)).to_string());
        let record = DifferingRecord {
            event_time: time,
            event_name: text(&self.names),
            event_source: text(&self.sources),
            object: None,
        };
        (text(&self.ids).unwrap_or_default(), record)
    }
}

fn compared_schema() -> SchemaRef {
    let time = event::time_type();
    let field = |name: &&str| Field::new(*name, if *name == EVENT_TIME { time.clone() } else { DataType::Utf8 }, true);
    Arc::new(Schema::new(COMPARED.iter().map(field).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rows: &[(i64, Option<i64>, i64)], repeated_limit: usize) -> DuplicateCounter {
        let mut counter = DuplicateCounter::new(repeated_limit);
        for (id, time, call) in rows {
            counter.add(*id, (*time, *call));
        }
        counter
    }

    #[test]
    fn records_beyond_the_first_are_dropped_and_each_identity_differs_once() {
        let rows = [
            (1, Some(10), 7),
            (2, Some(10), 7),
            (2, Some(10), 7),
            (3, Some(10), 7),
            (3, Some(11), 7),
            (3, None, 7),
            (4, Some(10), 7),
            (4, Some(10), 8),
        ];
        let counter = counted(&rows, 10);
        assert_eq!((counter.dropped, counter.differing, counter.example), (4, 2, Some(3)));
        assert!(matches!(&counter.repeated, RepeatedIds::Fingerprints(ids) if *ids == HashSet::from([2, 3, 4])));
        assert!(matches!(counted(&rows, 2).repeated, RepeatedIds::TooMany));
        assert!(matches!(&counted(&rows, 0).repeated, RepeatedIds::Fingerprints(ids) if ids.is_empty()));
    }
}
