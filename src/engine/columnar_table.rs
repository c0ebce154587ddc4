//! Parquet that other tools wrote, as the table `cloudtrail`.
//!
//! A table goes through five steps, each in a module of its own:
//!
//! 1. `files` finds files, chooses them by their partitions, and opens them;
//! 2. `groups` puts files with one layout and one type for each column into a group;
//! 3. `part` finds the columns that a group lacks;
//! 4. `view` and `conversions`: the layout's expressions give our columns, and the parts are concatenated;
//! 5. `rule_check` refuses rules that ask for columns that no file has.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::TableProvider;
use datafusion::error::Result as QueryResult;

use super::{Engine, memory_table};
use crate::error::{DamagedFile, Error, Fault};
use crate::event;
use crate::layout::TableLayout;
use crate::rule::Rule;
use crate::store::Stores;
use crate::time::Range;
use crate::trail::ParquetFiles;

mod columns;
mod conversions;
mod files;
mod groups;
mod identity;
mod part;
mod partition;
mod rule_check;
mod view;

use conversions::Replaced;
pub(super) use conversions::register;
use files::{FoundFile, TableFiles};
use part::TablePart;

/// Footers take at most this fraction of the memory.
const FOOTERS_SHARE: usize = 8;

/// Files that other tools wrote, as one table.
#[derive(Debug)]
pub struct Columnar {
    files: TableFiles,
    layout: Option<TableLayout>,
    replaced: Replaced,
    /// Notes about fields that rules ask for and some files lack.
    notes: Mutex<BTreeSet<String>>,
    /// The layouts of the files that were opened last, with the number of files in each.
    layouts: Mutex<Vec<(String, usize)>>,
    /// The members that the identities of those files lack.
    identity_lacks: Mutex<BTreeSet<&'static str>>,
}

/// The files of a range, opened.
#[derive(Debug)]
pub struct OpenedTable {
    parts: Vec<TablePart>,
}

impl Columnar {
    /// Returns the table of the Parquet files in `found`. Without a `layout`, each file's columns decide on its layout. No
    /// file is opened yet.
    ///
    /// # Errors
    /// The files' store cannot be reached.
    pub async fn open(
        engine: &Engine,
        stores: &Stores,
        found: ParquetFiles,
        layout: Option<TableLayout>,
    ) -> Result<Columnar, Error> {
        let files = TableFiles::new(stores, found, engine.memory / FOOTERS_SHARE).await?;
        Ok(Columnar {
            files,
            layout,
            replaced: Replaced::default(),
            notes: Mutex::default(),
            layouts: Mutex::default(),
            identity_lacks: Mutex::default(),
        })
    }

    /// Opens the files that may hold records with a time in `range`, unless they are open already.
    ///
    /// # Errors
    /// None of them can be read, or two have types for a column that do not fit together, or a layout is unknown.
    pub async fn opened(&self, engine: &Engine, range: Range) -> Result<OpenedTable, Error> {
        let files = self.files.open(range).await?;
        let groups = groups::of(files, self.layout.as_ref(), &self.files)?;
        let part = |group| TablePart::new(engine, group, &self.files, &self.replaced);
        let opened = OpenedTable { parts: groups.into_iter().map(part).collect::<Result<_, _>>()? };
        *self.layouts.lock().unwrap_or_else(PoisonError::into_inner) = opened.layouts();
        *self.identity_lacks.lock().unwrap_or_else(PoisonError::into_inner) = opened.identity_lacks();
        Ok(opened)
    }

    /// Checks that the files of `range` have the columns that `rules` test. Notes which files lack some.
    ///
    /// # Errors
    /// As for [`Columnar::opened`]; or a rule asks for a field that no file has.
    pub async fn check(&self, engine: &Engine, rules: &[Rule], range: Range) -> Result<(), Error> {
        let opened = self.opened(engine, range).await?;
        rules.iter().try_for_each(|rule| opened.check(rule))?;
        let notes = opened.unanswered(rules);
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
        Ok(())
    }

    /// Returns one sentence for each kind of file that lacks a field that rules asked for.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Returns the names of the layouts of the files that were opened last, with the number of files in each.
    pub fn layouts(&self) -> Vec<(String, usize)> {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the members that decide who acted and that `userIdentity` lacks in the files that were opened last.
    pub fn identity_lacks(&self) -> Vec<&'static str> {
        self.identity_lacks.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Returns the files that could not be read.
    pub fn faults(&self) -> Vec<Fault> {
        self.files.faults()
    }

    /// Excludes the damaged file that caused `error`. Returns whether the query may now succeed.
    pub fn exclude_damaged(&self, error: &Error) -> bool {
        DamagedFile::of(error).is_some_and(|damaged| self.files.exclude(damaged))
    }

    /// Returns the number of byte sequences that are not UTF-8 and were replaced, in the distinct values that were read.
    pub fn replaced(&self) -> u64 {
        self.replaced.sequences()
    }

    /// Returns the version of the table, if it has versions.
    pub fn version(&self) -> Option<u64> {
        self.files.version
    }

    /// Returns the sizes in bytes of the files that may hold records with a time in `range`, by their folders. No file is
    /// opened.
    pub fn sizes(&self, range: Range) -> Vec<u64> {
        self.files.chosen(range).into_iter().map(|number| self.found(number).meta.size).collect()
    }

    /// Returns the size in bytes and the number of records of each file that may hold records with a time in `range`. The
    /// files are opened.
    ///
    /// # Errors
    /// None of them can be read.
    pub async fn opened_files(&self, range: Range) -> Result<Vec<(u64, u64)>, Error> {
        let files = self.files.open(range).await?;
        Ok(files.iter().map(|(number, file)| (self.found(*number).meta.size, file.records)).collect())
    }

    /// Returns the records with a time in `range`. May include others.
    ///
    /// # Errors
    /// As for [`Columnar::opened`]; or the table has a feature that a cluster cannot apply.
    pub async fn table(&self, engine: &Engine, range: Range) -> Result<Arc<dyn TableProvider>, Error> {
        if let Some(feature) = self.files.feature_for_one_machine().filter(|_| engine.on_cluster()) {
            return Err(Error::Usage {
                message: format!("the table has {feature}, which a cluster cannot apply"),
                hint: Some("hunt it on one machine, without `--cluster`".to_owned()),
            });
        }
        let opened = self.opened(engine, range).await?;
        let failed = |error| Error::query("the layout of the data", error);
        self.records(engine, &opened, range).map_err(failed)
    }

    /// Returns the rows of all parts, one part after the other, in our columns.
    fn records(&self, engine: &Engine, opened: &OpenedTable, range: Range) -> QueryResult<Arc<dyn TableProvider>> {
        let context = engine.session()?;
        let mut rows = None;
        for part in &opened.parts {
            let files = part.parquet_table(&self.files, engine.threads);
            let of_part = part.records(&context, files, range, &self.replaced)?;
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

    fn found(&self, number: usize) -> &FoundFile {
        &self.files.found[number]
    }
}
