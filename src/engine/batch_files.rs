//! Batches of one schema in spill files. Columns that say nothing are left out: there are many of them, and they would take more time
//! than the others.

use std::sync::Arc;

use arrow::array::{AsArray as _, LargeBinaryArray, RecordBatch};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::spill_file::SpillFile;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use futures::stream::{Stream, TryStreamExt as _};

use super::empty_columns;

/// Writes and reads the spill files of batches of one schema. Each row of a file holds one batch, as an Arrow IPC stream.
pub(super) struct BatchFiles {
    manager: SpillManager,
    rows: SchemaRef,
    schema: SchemaRef,
}

impl BatchFiles {
    /// Files for batches of `schema`.
    pub(super) fn new(runtime: Arc<RuntimeEnv>, schema: SchemaRef) -> BatchFiles {
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let rows = Arc::new(Schema::new(vec![Field::new("batch", DataType::LargeBinary, false)]));
        BatchFiles { manager: SpillManager::new(runtime, metrics, Arc::clone(&rows)), rows, schema }
    }

    /// Writes batches to a new file. `None` if there are none.
    ///
    /// # Errors
    /// Those of `batches`, or the file cannot be written.
    pub(super) async fn write(
        &self,
        batches: impl Stream<Item = Result<RecordBatch>>,
    ) -> Result<Option<Arc<dyn SpillFile>>> {
        let mut file = self.manager.create_in_progress_file("matches")?;
        let mut batches = std::pin::pin!(batches);
        while let Some(batch) = batches.try_next().await? {
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())?;
            let bytes = encoded(&batch)?;
            let lengths = OffsetBuffer::from_lengths([bytes.len()]);
            let row = LargeBinaryArray::try_new(lengths, Buffer::from_vec(bytes), None)?;
            file.append_batch(&RecordBatch::try_new(Arc::clone(&self.rows), vec![Arc::new(row)])?)?;
        }
        file.finish()
    }

    /// Returns the batches of a file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn read(&self, file: Arc<dyn SpillFile>) -> Result<impl Stream<Item = Result<RecordBatch>> + use<>> {
        let rows = self.manager.read_spill_as_stream_unbuffered(file, None)?;
        let schema = Arc::clone(&self.schema);
        Ok(rows.and_then(move |row| std::future::ready(decoded(&row, &schema))))
    }
}

/// Returns the columns of a batch that are not empty, as bytes.
fn encoded(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).enumerate();
    let kept = columns.filter(|(_, (field, column))| !empty_columns::is_empty(field, column)).map(|(index, _)| index);
    let kept = batch.project(&kept.collect::<Vec<_>>())?;
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), kept.schema_ref(), options)?;
    writer.write(&kept)?;
    writer.into_inner()
}

/// Returns the batch of `schema` in a row of a file.
fn decoded(row: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let bytes = row.column(0).as_binary::<i64>().value(0);
    let Some(kept) = StreamReader::try_new(bytes, None)?.next().transpose()? else {
        return internal_err!("a spill file without its batch");
    };
    let mut columns = kept.columns().iter().zip(kept.schema_ref().fields()).peekable();
    let all = schema.fields().iter().map(|field| match columns.next_if(|(_, kept)| kept.name() == field.name()) {
        Some((column, _)) => Arc::clone(column),
        None => empty_columns::empty(field, kept.num_rows()),
    });
    let all = all.collect();
    if columns.next().is_some() {
        return internal_err!("a batch in a spill file has other columns than expected");
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), all)?)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use futures::stream;

    use super::*;
    use crate::engine::empty_columns::tests::batch;

    #[tokio::test]
    async fn batches_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = RuntimeEnvBuilder::new().with_temp_file_path(folder.path()).build_arc().unwrap();
        let whole = batch(20_000);
        let files = BatchFiles::new(runtime, whole.schema());
        let batches = [whole.slice(7, 0), whole.slice(3, 1), batch(1), whole.slice(40, 9_000), whole.clone()];
        let file = files.write(stream::iter(batches.clone().map(Ok))).await.unwrap().unwrap();
        let read: Vec<RecordBatch> = files.read(file).unwrap().try_collect().await.unwrap();
        assert_eq!(read, batches);
        assert!(files.write(stream::empty()).await.unwrap().is_none());
    }
}
