//! Reads a small Parquet file of another tool whole, from memory.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::footer::{self, END, Footer, Owner};
use crate::panics::catching_panics;

/// Returns the top-level columns with these names, of all rows. Texts are bytes, because nothing has checked them.
///
/// # Errors
/// The file is damaged, or no Parquet.
pub(crate) fn read_small_file(bytes: &Bytes, columns: &[&str]) -> Result<Vec<RecordBatch>, UnreadableParquet> {
    read(bytes, columns).map_err(|reason| UnreadableParquet { reason })
}

/// A Parquet file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct UnreadableParquet {
    reason: String,
}

fn read(bytes: &Bytes, columns: &[&str]) -> Result<Vec<RecordBatch>, String> {
    let (rest, end) = bytes.split_last_chunk::<END>().ok_or("it is too short to be Parquet")?;
    let from = rest.len().checked_sub(footer::length_of(*end)?).ok_or("its footer is damaged: copy it again")?;
    let Footer { metadata, .. } = Footer::decode(&rest[from..], bytes.len() as u64, Owner::OtherTool, None)?;
    let read = || {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let reader = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), reader);
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder.with_projection(mask).build()?.collect::<Result<Vec<_>, _>>().map_err(Into::into)
    };
    match catching_panics(read) {
        Ok(Ok(batches)) => Ok(batches),
        Ok(Err(error)) => {
            let error: parquet::errors::ParquetError = error;
            Err(format!("it cannot be read: {error}"))
        }
        Err(_) => Err("it is damaged: copy it again".to_owned()),
    }
}
