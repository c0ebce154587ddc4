//! Counts records that share an `eventID`, in bounded memory: rows are sorted, on disk where memory does not suffice, and
//! each is compared with the one before it.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry as _, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{Expr, ident, lit};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Kept, Resources, streamed_table, within};
use crate::event::{self, CONTENT_ID, EVENT_ID, EVENT_TIME};
use crate::statistics::{DifferingExample, DifferingRecord, DifferingRecords, Duplicates};
use crate::time::{self, Range};

mod tap;

pub use tap::Tap;

/// The columns by which records are compared: the identity, which is the `contentID` where there is no `eventID`, and what only
/// damaged or anonymised duplicates differ in.
const COMPARED: [&str; 4] = [EVENT_ID, EVENT_TIME, "eventName", "eventSource"];

/// Bytes that an identity takes in a set, at most.
const BYTES_OF_ID: usize = 18;

/// The identities that more than one record has.
#[derive(Debug, Clone)]
pub(super) enum Repeated {
    /// By their fingerprints.
    Ids(HashSet<i64>),
    /// So many that they are not held.
    TooMany,
}

impl Repeated {
    fn insert(&mut self, id: i64, most: usize) {
        if let Repeated::Ids(ids) = self {
            ids.insert(id);
            if ids.len() > most {
                *self = Repeated::TooMany;
            }
        }
    }
}

/// Counts over rows in an order in which those of one identity follow one another.
#[derive(Debug)]
struct Counter {
    current: Option<Current>,
    left_out: u64,
    differing: u64,
    /// The least of the identities whose records differ: always the same one.
    example: Option<i64>,
    repeated: Repeated,
    /// How many of those are held.
    most_repeated: usize,
}

/// The identity of the rows of the moment, by its fingerprint.
#[derive(Debug)]
struct Current {
    id: i64,
    /// Time, and fingerprint of name and source, of its first row.
    call: (Option<i64>, i64),
    is_repeated: bool,
    differs: bool,
}

impl Counter {
    fn new(most_repeated: usize) -> Counter {
        Counter {
            current: None,
            left_out: 0,
            differing: 0,
            example: None,
            repeated: Repeated::Ids(HashSet::new()),
            most_repeated,
        }
    }

    /// Takes in a row; whether its identity has become the example.
    fn observe(&mut self, id: i64, call: (Option<i64>, i64)) -> bool {
        match &mut self.current {
            Some(current) if current.id == id => {
                self.left_out += 1;
                if !std::mem::replace(&mut current.is_repeated, true) && self.most_repeated > 0 {
                    self.repeated.insert(id, self.most_repeated);
                }
                if call != current.call && !std::mem::replace(&mut current.differs, true) {
                    self.differing += 1;
                    let is_example = self.example.is_none_or(|example| id < example);
                    self.example = if is_example { Some(id) } else { self.example };
                    return is_example;
                }
            }
            current => *current = Some(Current { id, call, is_repeated: false, differs: false }),
        }
        false
    }

    /// Whether `id` is not that of the row before.
    fn is_new(&self, id: i64) -> bool {
        self.current.as_ref().is_none_or(|current| current.id != id)
    }

    /// Takes in rows whose columns are the fingerprint of the identity, the time, and the fingerprint of the call.
    fn observe_batch(&mut self, batch: &RecordBatch) {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let calls = batch.column(2).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            self.observe(ids.value(row), (times.is_valid(row).then(|| times.value(row)), calls.value(row)));
        }
    }
}

/// Counts the duplicates among the records of `table`, which has our schema, with a time in `range`, or all; and tells
/// the identities that more than one record has, within an eighth of the memory.
pub(super) async fn repeated_records(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    range: Range,
) -> Result<(Duplicates, Repeated)> {
    let most = resources.memory / 8 / BYTES_OF_ID;
    let context = resources.session()?;
    let records = within(context.read_table(table)?, range)?;
    let counter = count(identified(records.clone())?, most).await?;
    let duplicates = told(&counter, identified(records)?).await?;
    Ok((duplicates, counter.repeated))
}

/// Counts the duplicates among the rows that `kept` holds with a time in `range`. `columns` are the places of
/// [`COMPARED`] in them.
pub(crate) async fn among_kept(
    resources: &Resources,
    kept: &Arc<Kept>,
    columns: [usize; 4],
    range: Range,
) -> Result<Duplicates> {
    let context = resources.session()?;
    let share = |number, shares| Arc::new(Share { kept: Arc::clone(kept), columns, number, shares });
    let shares = resources.partitions();
    let streams = (0..shares).map(|number| share(number, shares) as Arc<dyn PartitionStream>).collect();
    let rows = within(context.read_table(streamed_table(compared_schema(), streams)?)?, range)?;
    let counter = count(rows.clone(), 0).await?;
    told(&counter, rows).await
}

/// The columns [`COMPARED`] of records. Records without an `eventID` are read separately: of other tools' tables
/// their `contentID` is computed from all columns.
fn identified(records: DataFrame) -> Result<DataFrame> {
    let [_, others @ ..] = COMPARED.map(ident);
    let of = |records: DataFrame, id: Expr| {
        let others = others.iter().cloned();
        records.select(std::iter::once(id.alias(EVENT_ID)).chain(others).collect::<Vec<_>>())
    };
    let with_id = records.clone().filter(ident(EVENT_ID).is_not_null())?;
    let without_id = records.filter(ident(EVENT_ID).is_null())?;
    of(with_id, ident(EVENT_ID))?.union(of(without_id, ident(CONTENT_ID))?)
}

async fn count(rows: DataFrame, most_repeated: usize) -> Result<Counter> {
    let fingerprint = rows.task_ctx().udf("fingerprint")?;
    let [id, time, name, source] = COMPARED.map(ident);
    let rows = rows
        .select(vec![
            fingerprint.call(vec![id]).alias("id"),
            time.alias("time"),
            fingerprint.call(vec![name, source]).alias("call"),
        ])?
        .sort(vec![ident("id").sort(true, true)])?;
    let (mut rows, mut counter) = (rows.execute_stream().await?, Counter::new(most_repeated));
    while let Some(batch) = rows.try_next().await? {
        counter.observe_batch(&batch);
    }
    Ok(counter)
}

/// The duplicates that `counter` counted, with an example from `rows`.
async fn told(counter: &Counter, rows: DataFrame) -> Result<Duplicates> {
    let example = match counter.example {
        None => None,
        Some(id) => example(rows, id).await?,
    };
    let differing = DifferingRecords { event_ids: counter.differing, example };
    Ok(Duplicates { left_out: counter.left_out, differing, is_partial: false })
}

/// The identity with this fingerprint, and the first and the last of its records.
async fn example(rows: DataFrame, id: i64) -> Result<Option<DifferingExample>> {
    let fingerprint = rows.task_ctx().udf("fingerprint")?;
    let rows = rows.filter(fingerprint.call(vec![ident(EVENT_ID)]).eq(lit(id)))?;
    let mut rows = rows.select(COMPARED.map(ident).to_vec())?.execute_stream().await?;
    let mut ends: Option<(String, DifferingRecord, DifferingRecord)> = None;
    while let Some(batch) = rows.try_next().await? {
        for row in 0..batch.num_rows() {
            let (id, record) = record(batch.columns(), row);
            ends = Some(match ends {
                None => (id, record.clone(), record),
                Some((id, first, last)) => (id, first.min(record.clone()), last.max(record)),
            });
        }
    }
    Ok(ends.map(|(event_id, first, last)| DifferingExample { event_id, records: vec![first, last] }))
}

/// The identity in a row of the columns [`COMPARED`], and the rest of it.
fn record(columns: &[ArrayRef], row: usize) -> (String, DifferingRecord) {
    let text = |column: usize| {
        let texts = columns[column].as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    let times = columns[1].as_primitive::<TimestampMicrosecondType>();
    let record = DifferingRecord {
        event_time: times.is_valid(row).then(|| time::rfc3339(times.value(row))),
        event_name: text(2),
        event_source: text(3),
        object: None,
    };
    (text(0).unwrap_or_default(), record)
}

fn compared_schema() -> SchemaRef {
    let time = event::schema().field(0).data_type().clone();
    let of = |name: &&str| Field::new(*name, if *name == EVENT_TIME { time.clone() } else { DataType::Utf8 }, true);
    Arc::new(Schema::new(COMPARED.iter().map(of).collect::<Vec<_>>()))
}

/// One of the streams of the rows that are kept.
#[derive(Debug)]
struct Share {
    kept: Arc<Kept>,
    columns: [usize; 4],
    number: usize,
    shares: usize,
}

impl PartitionStream for Share {
    fn schema(&self) -> &SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(compared_schema);
        &SCHEMA
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (columns, schema) = (self.columns, Arc::clone(PartitionStream::schema(self)));
        let of = move |batch: RecordBatch| {
            let columns = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        };
        let batches = self.kept.share(self.number, self.shares).map(move |batch| batch.and_then(&of));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(PartitionStream::schema(self)), batches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rows: &[(i64, Option<i64>, i64)], most_repeated: usize) -> Counter {
        let mut counter = Counter::new(most_repeated);
        for (id, time, call) in rows {
            counter.observe(*id, (*time, *call));
        }
        counter
    }

    #[test]
    fn records_beyond_the_first_are_left_out_and_differ_once_for_each_identity() {
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
        assert_eq!((counter.left_out, counter.differing, counter.example), (4, 2, Some(3)));
        assert!(matches!(&counter.repeated, Repeated::Ids(ids) if *ids == HashSet::from([2, 3, 4])));
        assert!(matches!(counted(&rows, 2).repeated, Repeated::TooMany));
        assert!(matches!(&counted(&rows, 0).repeated, Repeated::Ids(ids) if ids.is_empty()));
    }
}
