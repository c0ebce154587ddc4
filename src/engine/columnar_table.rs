//! Parquet that other tools wrote, as the table `cloudtrail`.
//!
//! Files are chosen by their folders, then opened, then read: their columns are given by a layout. Files of several layouts
//! are as many tables, whose rows come one after the other.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as QueryResult;
use datafusion::prelude::lit;
use datafusion::scalar::ScalarValue;

use super::parquet_table::ParquetTable;
use super::{Resources, memory_table};
use crate::error::{DamagedFile, Error, Fault};
use crate::event;
use crate::layout::{self, TableLayout};
use crate::rule::Rule;
use crate::store::Stores;
use crate::time::Range;
use crate::trail::ParquetFiles;

mod columns;
mod conversions;
mod files;
mod identity;
mod partition;
mod view;

use columns::Misfit;
pub(super) use conversions::register;
use conversions::{Replaced, text_of};
use files::{Files, FoundFile, OpenedFile};
use view::View;

/// The part of the memory that footers may take.
const FOOTERS_SHARE: usize = 8;

/// Files that other tools wrote, as one table.
#[derive(Debug)]
pub struct Columnar {
    files: Files,
    layout: Option<TableLayout>,
    replaced: Replaced,
    /// What some of the files do not tell and rules ask for.
    notes: Mutex<BTreeSet<String>>,
    /// The layouts of the files that were opened last, and how many are in each.
    layouts: Mutex<Vec<(String, usize)>>,
    /// The members that the identities of those files lack.
    identity_lacks: Mutex<BTreeSet<&'static str>>,
}

/// The files of a range, opened.
#[derive(Debug)]
pub struct OpenedTable {
    parts: Vec<Part>,
}

/// Files whose columns are given in one way.
#[derive(Debug)]
struct Part {
    layout: TableLayout,
    files: Vec<(usize, Arc<OpenedFile>)>,
    schema: TableSchema,
    missing: Vec<String>,
    /// Those files by the columns that they have, where they differ.
    shapes: Vec<Shape>,
}

/// Files with the same columns.
#[derive(Debug)]
struct Shape {
    count: usize,
    example: PathBuf,
    missing: Vec<String>,
}

impl Columnar {
    /// Returns the table of the Parquet files in `found`. Without a `layout`, the columns of each file say which it is in. No
    /// file is opened yet.
    pub async fn open(
        resources: &Resources,
        stores: &Stores,
        found: ParquetFiles,
        layout: Option<TableLayout>,
    ) -> Result<Columnar, Error> {
        let files = Files::new(stores, found, resources.memory / FOOTERS_SHARE).await?;
        Ok(Columnar {
            files,
            layout,
            replaced: Replaced::default(),
            notes: Mutex::default(),
            layouts: Mutex::default(),
            identity_lacks: Mutex::default(),
        })
    }

    /// Opens the files that may hold records with a time in `range`, as far as they have not been opened.
    ///
    /// # Errors
    /// None of them can be read, or two keep a column in ways that do not fit together, or a layout is unknown.
    pub async fn opened(&self, resources: &Resources, range: Range) -> Result<OpenedTable, Error> {
        let files = self.files.open(range).await?;
        let mut parts = Vec::new();
        for (layout, files) in self.by_layout(files)? {
            for (files, fields) in self.by_fit(files)? {
                parts.push(self.part(resources, layout.clone(), files, fields)?);
            }
        }
        let opened = OpenedTable { parts };
        *self.layouts.lock().unwrap_or_else(PoisonError::into_inner) = opened.layouts();
        *self.identity_lacks.lock().unwrap_or_else(PoisonError::into_inner) = opened.identity_lacks();
        Ok(opened)
    }

    /// The layouts of files, and the files of each in their order. Files in no layout of their own take that of all columns
    /// together.
    fn by_layout(&self, files: Vec<NumberedFile>) -> Result<Vec<(TableLayout, Vec<NumberedFile>)>, Error> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(layout) = &self.layout {
            return Ok(vec![(layout.clone(), files)]);
        }
        let known = layout::shipped()?;
        let mut found: Vec<(TableLayout, Vec<NumberedFile>)> = Vec::new();
        let mut strays = Vec::new();
        let all: Vec<&Schema> = files.iter().map(|(_, file)| file.schema.as_ref()).collect();
        let of_all = layout::of_columns(&known, &all);
        for file in &files {
            match layout::of_columns(&known, &[file.1.schema.as_ref()]) {
                Err(_) => strays.push(file.clone()),
                Ok(layout) => match found.iter_mut().find(|(other, _)| other.name == layout.name) {
                    Some((_, files)) => files.push(file.clone()),
                    None => found.push((layout, vec![file.clone()])),
                },
            }
        }
        if !strays.is_empty() {
            let layout = of_all?;
            match found.iter_mut().find(|(other, _)| other.name == layout.name) {
                Some((_, files)) => {
                    files.extend(strays);
                    files.sort_by_key(|(number, _)| *number);
                }
                None => found.push((layout, strays)),
            }
        }
        Ok(found)
    }

    /// Files with one type for each of their columns.
    fn by_fit(&self, files: Vec<NumberedFile>) -> Result<Vec<FittingFiles>, Error> {
        let mut fitting: Vec<FittingFiles> = Vec::new();
        for file in files {
            let mut fits = false;
            for (files, fields) in &mut fitting {
                match united(fields, &file.1.schema) {
                    Ok(both) => {
                        *fields = both;
                        files.push(file.clone());
                        fits = true;
                        break;
                    }
                    Err(Misfit::Apart) => {}
                    Err(Misfit::Refused(reason)) => {
                        let path = self.found(file.0).path.display();
                        return Err(Error::Usage {
                            message: format!("`{path}` does not fit the files before it: {reason}"),
                            hint: Some("hunt the files of each kind alone".to_owned()),
                        });
                    }
                }
            }
            if !fits {
                let fields = file.1.schema.fields().iter().map(|field| columns::nullable(field)).collect();
                fitting.push((vec![file], fields));
            }
        }
        Ok(fitting)
    }

    fn part(
        &self,
        resources: &Resources,
        layout: TableLayout,
        files: Vec<NumberedFile>,
        fields: Vec<Field>,
    ) -> Result<Part, Error> {
        let failed = |error| Error::query(format!("the layout `{}`", layout.name), error);
        let context = resources.session().map_err(failed)?;
        let is_column = |name: &str| fields.iter().any(|field| field.name() == name);
        let names = files.iter().flat_map(|(number, _)| self.found(*number).partitions.values.keys());
        let names: BTreeSet<&String> = names.filter(|name| !is_column(name)).collect();
        let partitions: Vec<FieldRef> =
            names.into_iter().map(|name| Arc::new(Field::new(name, DataType::Utf8, true))).collect();
        let schema = TableSchema::builder(Arc::new(Schema::new(fields)));
        let schema = schema.with_table_partition_cols(partitions).build();
        let missing = |read: &Schema| -> QueryResult<Vec<String>> {
            let view = View::new(&context, &layout, read, text_of(self.replaced.clone()))?;
            let is_missing = |field: &FieldRef| match view.column(field) {
                Ok(None) => Some(Ok(field.name().clone())),
                Ok(Some(_)) => None,
                Err(error) => Some(Err(error)),
            };
            event::schema().fields().iter().filter_map(is_missing).collect()
        };
        let all_missing = missing(schema.table_schema()).map_err(failed)?;
        let view = View::new(&context, &layout, schema.table_schema(), text_of(self.replaced.clone()));
        let times = view.and_then(|view| view.columns_of_time()).map_err(failed)?;
        let mut shapes: Vec<(&Schema, BTreeSet<&String>, Shape)> = Vec::new();
        for (number, file) in &files {
            let found = self.found(*number);
            let keys: BTreeSet<&String> = found.partitions.values.keys().collect();
            let has = |name: &String| keys.contains(name) || file.schema.field_with_name(name).is_ok();
            if !times.is_empty() && !times.iter().any(has) {
                return Err(Error::Usage {
                    message: format!("`{}` has no column that tells `eventTime`", found.path.display()),
                    hint: Some("leave it out, or say with `--map FILE.yml` which SQL gives the time".to_owned()),
                });
            }
            let same = |(schema, of, _): &&mut (&Schema, BTreeSet<&String>, Shape)| {
                schema.fields() == file.schema.fields() && *of == keys
            };
            if let Some((_, _, shape)) = shapes.iter_mut().find(same) {
                shape.count += 1;
                continue;
            }
            let partitions = keys.iter().filter(|name| file.schema.field_with_name(name).is_err());
            let partitions = partitions.map(|name| Arc::new(Field::new(*name, DataType::Utf8, true)));
            let fields: Vec<FieldRef> = file.schema.fields().iter().cloned().chain(partitions).collect();
            let missing = missing(&Schema::new(fields)).map_err(failed)?;
            shapes.push((&file.schema, keys, Shape { count: 1, example: found.path.clone(), missing }));
        }
        let shapes = shapes.into_iter().map(|(_, _, shape)| shape).collect();
        Ok(Part { layout, files, schema, missing: all_missing, shapes })
    }

    fn found(&self, number: usize) -> &FoundFile {
        &self.files.found[number]
    }

    /// Makes sure that the files of `range` tell what decides of `rules`. That some of them do not is noted.
    ///
    /// # Errors
    /// As for [`Columnar::opened`]; or a rule asks for a field that no file has.
    pub async fn check(&self, resources: &Resources, rules: &[Rule], range: Range) -> Result<(), Error> {
        let opened = self.opened(resources, range).await?;
        rules.iter().try_for_each(|rule| opened.check(rule))?;
        let notes = opened.unanswered(rules);
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
        Ok(())
    }

    /// What some of the files do not tell that rules asked for: one sentence for each kind of file.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The names of the layouts of the files that were opened last, and how many are in each.
    pub fn layouts(&self) -> Vec<(String, usize)> {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the members that decide who acted and that `userIdentity` lacks in the files that were opened last.
    pub fn identity_lacks(&self) -> Vec<&'static str> {
        self.identity_lacks.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The files that could not be read.
    pub fn faults(&self) -> Vec<Fault> {
        self.files.faults()
    }

    /// Leaves out the file for which a query failed, where it failed for one; whether the query may now succeed.
    pub fn leave_out(&self, error: &Error) -> bool {
        DamagedFile::of(error).is_some_and(|damaged| self.files.leave_out(damaged))
    }

    /// The sequences of bytes that are no UTF-8 and were replaced, in the distinct values that were read.
    pub fn replaced(&self) -> u64 {
        self.replaced.sequences()
    }

    /// The sizes in bytes of the files that may hold records with a time in `range`, by their folders: none is opened.
    pub fn sizes(&self, range: Range) -> Vec<u64> {
        self.files.chosen(range).into_iter().map(|number| self.found(number).meta.size).collect()
    }

    /// The sizes in bytes, and the records, of the files that may hold records with a time in `range`. They are opened.
    ///
    /// # Errors
    /// None of them can be read.
    pub async fn opened_files(&self, range: Range) -> Result<Vec<(u64, u64)>, Error> {
        let files = self.files.open(range).await?;
        Ok(files.iter().map(|(number, file)| (self.found(*number).meta.size, file.records)).collect())
    }

    /// Returns the records with a time in `range`; others may be among them.
    ///
    /// # Errors
    /// As for [`Columnar::opened`].
    pub async fn table(&self, resources: &Resources, range: Range) -> Result<Arc<dyn TableProvider>, Error> {
        let opened = self.opened(resources, range).await?;
        let failed = |error| Error::query("the layout of the data", error);
        self.view(resources, &opened, range).map_err(failed)
    }

    fn view(&self, resources: &Resources, opened: &OpenedTable, range: Range) -> QueryResult<Arc<dyn TableProvider>> {
        let context = resources.session()?;
        let mut rows = None;
        for part in &opened.parts {
            let files = Arc::new(self.parquet_table(part, resources.threads));
            let text_of = text_of(self.replaced.clone());
            let view = View::new(&context, &part.layout, part.schema.table_schema(), text_of)?;
            let mut columns = Vec::new();
            for field in event::schema().fields() {
                let expression = match view.column(field)? {
                    Some(expression) => expression,
                    None => lit(ScalarValue::try_from(field.data_type())?),
                };
                columns.push(view.with_category(expression, field)?.alias(field.name()));
            }
            let records = context.read_table(files)?;
            let records = match view.within(range)? {
                Some(condition) => records.filter(condition)?,
                None => records,
            };
            let of_part = records.select(columns)?;
            rows = Some(match rows {
                None => of_part,
                Some(rows) => of_part.union(rows)?,
            });
        }
        match rows {
            Some(rows) => Ok(rows.into_view()),
            None => memory_table(event::schema(), Vec::new()),
        }
    }

    fn parquet_table(&self, part: &Part, threads: usize) -> ParquetTable {
        let file = |(number, opened): &NumberedFile| {
            let found = self.found(*number);
            let value = |field: &FieldRef| ScalarValue::Utf8(found.partitions.values.get(field.name()).cloned());
            let mut file = PartitionedFile::new_from_meta(found.meta.clone());
            file.partition_values = part.schema.table_partition_cols().iter().map(value).collect();
            file.arrow_schema = Some(Arc::clone(&opened.schema));
            file
        };
        ParquetTable {
            store: Arc::clone(&self.files.store),
            url: self.files.url.clone(),
            schema: part.schema.clone(),
            files: part.files.iter().map(file).collect(),
            threads,
            footers: Some(self.files.footers.clone()),
        }
    }
}

type NumberedFile = (usize, Arc<OpenedFile>);

/// Files, and the columns of all of them.
type FittingFiles = (Vec<NumberedFile>, Vec<Field>);

/// The columns of `known` and of a file.
fn united(known: &[Field], schema: &Schema) -> std::result::Result<Vec<Field>, Misfit> {
    let mut fields = known.to_vec();
    for field in schema.fields() {
        let field = columns::nullable(field);
        match fields.iter_mut().find(|known| known.name() == field.name()) {
            None => fields.push(field),
            Some(known) => *known = columns::unified(known, &field)?,
        }
    }
    Ok(fields)
}

impl OpenedTable {
    fn identity_lacks(&self) -> BTreeSet<&'static str> {
        self.parts.iter().flat_map(|part| identity::lacking(&part.layout, part.schema.table_schema())).collect()
    }

    /// The names of the layouts, and how many files are in each.
    fn layouts(&self) -> Vec<(String, usize)> {
        let mut layouts: Vec<(String, usize)> = Vec::new();
        for part in &self.parts {
            match layouts.iter_mut().find(|(name, _)| *name == part.layout.name) {
                Some((_, count)) => *count += part.files.len(),
                None => layouts.push((part.layout.name.clone(), part.files.len())),
            }
        }
        layouts
    }

    /// Makes sure that some of the files have the fields that decide about `rule`, unless there are no files.
    pub fn check(&self, rule: &Rule) -> Result<(), Error> {
        let mut refusal = Ok(());
        for part in self.parts.iter().rev() {
            refusal = part.layout.check(rule, &part.missing);
            if refusal.is_ok() {
                return Ok(());
            }
        }
        refusal
    }

    /// What some of the files do not tell that `rules` ask for, which others tell.
    fn unanswered(&self, rules: &[Rule]) -> Vec<String> {
        let total: usize = self.parts.iter().map(|part| part.files.len()).sum();
        let mut notes = Vec::new();
        for part in &self.parts {
            for shape in &part.shapes {
                let (mut fields, mut asking) = (BTreeSet::new(), 0_usize);
                for rule in rules {
                    let unanswered = part.layout.unanswered(rule, &shape.missing);
                    asking += usize::from(!unanswered.is_empty());
                    fields.extend(unanswered);
                }
                if asking > 0 {
                    let fields = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
                    notes.push(format!(
                        "{} of {total} files, such as `{}` (layout {}), do not tell {fields}: their records cannot match {}",
                        shape.count,
                        shape.example.display(),
                        part.layout.name,
                        crate::statistics::number_of(asking, "rule"),
                    ));
                }
            }
        }
        notes
    }
}
