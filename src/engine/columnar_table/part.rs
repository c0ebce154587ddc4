//! A part of a table: files with one layout. Finds out which of our columns they lack, and gives their records.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as QueryResult;
use datafusion::prelude::{SessionContext, lit};
use datafusion::scalar::ScalarValue;

use super::conversions::{Replaced, text_of};
use super::files::TableFiles;
use super::groups::{FileGroup, NumberedFile};
use super::partition;
use super::view::View;
use crate::engine::Engine;
use crate::engine::parquet_table::ParquetTable;
use crate::error::Error;
use crate::event;
use crate::layout::TableLayout;
use crate::time::Range;

/// Files whose columns are given in one way.
#[derive(Debug)]
pub(super) struct TablePart {
    pub(super) layout: TableLayout,
    pub(super) files: Vec<NumberedFile>,
    pub(super) schema: TableSchema,
    /// Our columns that none of the files has.
    pub(super) missing: Vec<String>,
    /// The files by their columns.
    pub(super) shapes: Vec<FileShape>,
}

/// Files with the same columns.
#[derive(Debug)]
pub(super) struct FileShape {
    /// The number of files.
    pub(super) count: usize,
    pub(super) example: PathBuf,
    /// Our columns that these files lack.
    pub(super) missing: Vec<String>,
}

impl TablePart {
    /// Returns the part of `table` that `group` is.
    ///
    /// # Errors
    /// A file has no column for the time, or the layout's SQL does not fit the columns.
    pub(super) fn new(
        engine: &Engine,
        group: FileGroup,
        table: &TableFiles,
        replaced: &Replaced,
    ) -> Result<TablePart, Error> {
        let FileGroup { layout, files, columns } = group;
        let failed = |error| Error::query(format!("the layout `{}`", layout.name), error);
        let context = engine.session().map_err(failed)?;
        let schema = table_schema(&files, columns, table);
        let missing = |read: &Schema| missing_columns(&context, &layout, read, replaced);
        let missing_in_all = missing(schema.table_schema()).map_err(failed)?;
        let view = View::new(&context, &layout, schema.table_schema(), text_of(replaced.clone()));
        let times = view.and_then(|view| view.columns_of_time()).map_err(failed)?;
        let mut shapes: Vec<(SchemaRef, FileShape)> = Vec::new();
        for (number, file) in &files {
            let found = &table.found[*number];
            let read = table.columns_of(*number, file);
            let has = |name: &String| read.field_with_name(name).is_ok();
            if !times.is_empty() && !times.iter().any(has) {
                return Err(Error::Usage {
                    message: format!("`{}` has no column for `eventTime`", found.path.display()),
                    hint: Some("leave it out, or give the SQL of the time with `--map FILE.yml`".to_owned()),
                });
            }
            if let Some((_, shape)) = shapes.iter_mut().find(|(columns, _)| columns.fields() == read.fields()) {
                shape.count += 1;
                continue;
            }
            let missing = missing(&read).map_err(failed)?;
            shapes.push((read, FileShape { count: 1, example: found.path.clone(), missing }));
        }
        let shapes = shapes.into_iter().map(|(_, shape)| shape).collect();
        Ok(TablePart { layout, files, schema, missing: missing_in_all, shapes })
    }

    /// Returns the files of the part, with their own columns.
    pub(super) fn parquet_table(&self, table: &TableFiles, threads: usize) -> ParquetTable {
        let file = |(number, opened): &NumberedFile| {
            let found = &table.found[*number];
            let value = |field: &FieldRef| {
                let value = found.partitions.values.get(field.name()).and_then(Option::as_ref);
                partition::scalar(value, field.data_type())
            };
            let mut file = PartitionedFile::new_from_meta(found.meta.clone());
            if let Some(live) = &opened.live {
                file = file.with_extension(ParquetRowSelection::new(live.clone()));
            }
            file.partition_values = self.schema.table_partition_cols().iter().map(value).collect();
            file.arrow_schema = Some(Arc::clone(&opened.file_schema));
            file
        };
        ParquetTable {
            store: Arc::clone(&table.store),
            url: table.url.clone(),
            schema: self.schema.clone(),
            files: self.files.iter().map(file).collect(),
            threads,
            footers: table.footers.clone(),
        }
    }

    /// Returns the records of `files` with a time in `range`, in our columns; others may be among them.
    pub(super) fn records(
        &self,
        context: &SessionContext,
        files: ParquetTable,
        range: Range,
        replaced: &Replaced,
    ) -> QueryResult<DataFrame> {
        let view = View::new(context, &self.layout, self.schema.table_schema(), text_of(replaced.clone()))?;
        let mut columns = Vec::new();
        for field in event::schema().fields() {
            let expression = match view.column(field)? {
                Some(expression) => expression,
                None => lit(ScalarValue::try_from(field.data_type())?),
            };
            columns.push(view.with_category(expression, field)?.alias(field.name()));
        }
        let records = context.read_table(Arc::new(files))?;
        let records = match view.within(range)? {
            Some(condition) => records.filter(condition)?,
            None => records,
        };
        records.select(columns)
    }
}

/// Returns the columns of some files: their own, and the columns in the names of their folders.
fn table_schema(files: &[NumberedFile], columns: Vec<Field>, table: &TableFiles) -> TableSchema {
    let is_column = |name: &str| columns.iter().any(|field| field.name() == name);
    let names = files.iter().flat_map(|(number, _)| table.found[*number].partitions.values.keys());
    let names: BTreeSet<&String> = names.filter(|name| !is_column(name)).collect();
    let partitions: Vec<FieldRef> = names.into_iter().map(|name| table.partition_column(name)).collect();
    TableSchema::builder(Arc::new(Schema::new(columns))).with_table_partition_cols(partitions).build()
}

/// Returns the names of our columns for which a layout finds nothing in the columns `read`.
fn missing_columns(
    context: &SessionContext,
    layout: &TableLayout,
    read: &Schema,
    replaced: &Replaced,
) -> QueryResult<Vec<String>> {
    let view = View::new(context, layout, read, text_of(replaced.clone()))?;
    let is_missing = |field: &FieldRef| match view.column(field) {
        Ok(None) => Some(Ok(field.name().clone())),
        Ok(Some(_)) => None,
        Err(error) => Some(Err(error)),
    };
    // Only our own files have hashes.
    let schema = event::schema();
    let is_hash = |field: &FieldRef| event::SEARCH_HASHES.contains(&field.name().as_str());
    let columns = schema.fields().iter().filter(|field| !is_hash(field));
    columns.filter_map(is_missing).collect()
}
