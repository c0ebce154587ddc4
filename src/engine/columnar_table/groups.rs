//! Sorts the files of a table into groups: files with one layout, and with types that fit for each of their columns.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use super::columns::{self, Misfit};
use super::files::{FoundFile, OpenedFile, TableFiles};
use crate::error::Error;
use crate::layout::{self, TableLayout};

/// A file and its number in the table.
pub(super) type NumberedFile = (usize, Arc<OpenedFile>);

/// Files with one layout, and the columns of all of them.
pub(super) struct FileGroup {
    pub(super) layout: TableLayout,
    pub(super) files: Vec<NumberedFile>,
    pub(super) columns: Vec<Field>,
}

/// Returns the groups of `files`, which are of `table`. Without a `layout`, each file's columns decide on its layout.
///
/// # Errors
/// Two files have types for a column that do not fit together, or the layout is unknown.
pub(super) fn of(
    files: Vec<NumberedFile>,
    layout: Option<&TableLayout>,
    table: &TableFiles,
) -> Result<Vec<FileGroup>, Error> {
    let mut groups = Vec::new();
    for (layout, files) in by_layout(files, layout, table)? {
        for (files, columns) in by_fit(files, &table.found)? {
            groups.push(FileGroup { layout: layout.clone(), files, columns });
        }
    }
    Ok(groups)
}

/// Returns the layouts, with the files of each in their order. A file whose columns alone fit no layout takes the layout of
/// the columns of all files together. Partition columns count.
fn by_layout(
    files: Vec<NumberedFile>,
    layout: Option<&TableLayout>,
    table: &TableFiles,
) -> Result<Vec<(TableLayout, Vec<NumberedFile>)>, Error> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(layout) = layout {
        return Ok(vec![(layout.clone(), files)]);
    }
    let known = layout::shipped()?;
    let mut found: Vec<(TableLayout, Vec<NumberedFile>)> = Vec::new();
    let mut strays = Vec::new();
    let columns: Vec<SchemaRef> = files.iter().map(|(number, file)| table.columns_of(*number, file)).collect();
    let all: Vec<&Schema> = columns.iter().map(AsRef::as_ref).collect();
    let of_all = layout::of_columns(&known, &all);
    for (file, columns) in files.iter().zip(&all) {
        match layout::of_columns(&known, &[*columns]) {
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

/// Files, and the columns of all of them.
type FittingFiles = (Vec<NumberedFile>, Vec<Field>);

/// Returns sets of files whose types fit for each of their columns.
fn by_fit(files: Vec<NumberedFile>, found: &[FoundFile]) -> Result<Vec<FittingFiles>, Error> {
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
                    let path = found[file.0].path.display();
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

/// Returns the columns of `known` and of a file, each with a type that both fit.
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
