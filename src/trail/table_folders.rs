//! Finds the files that belong to tables, whose metadata decide which of their files are live.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::store::{Location, Object, Stores, TableFormat};

/// A file in the folder of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The table's folder.
    pub table: PathBuf,
    /// The table's format.
    pub format: TableFormat,
}

impl TableFile {
    /// Returns the error for data that include this file. Only the table's metadata say which of its files are live.
    pub fn error(&self) -> Error {
        let TableFile { path, table, format } = self;
        let hint = match format {
            TableFormat::Lake => {
                "pass the folder of one lake and nothing else, or a raw trail without lakes".to_owned()
            }
            TableFormat::Delta | TableFormat::Iceberg => {
                format!("pass the table's folder and nothing else: `{}`", table.display())
            }
            TableFormat::Hudi => {
                "the files of such a table cannot be read: export it to a folder of Parquet, and pass that".to_owned()
            }
        };
        let message = match format {
            TableFormat::Lake => format!("the data include `{}`, a file of a lake", path.display()),
            _ => format!("the data include `{}`, a file of {format}: its metadata say what is live", path.display()),
        };
        Error::Usage { message, hint: Some(hint) }
    }
}

/// Decides which files belong to tables, and caches the answer for each folder.
#[derive(Debug, Default)]
pub(super) struct TableFolders {
    known: HashMap<PathBuf, Option<(PathBuf, TableFormat)>>,
}

impl TableFolders {
    /// Finds tables in a bucket by their metadata among `objects`. Folders on disk are checked when asked for.
    pub(super) fn among(objects: &[Object]) -> TableFolders {
        let mut folders = TableFolders::default();
        folders.add(objects);
        folders
    }

    /// Adds the tables of a bucket whose metadata are among `objects`.
    pub(super) fn add(&mut self, objects: &[Object]) {
        for (folder, format) in objects.iter().filter_map(|object| TableFormat::of_metadata_file(&object.real)) {
            self.insert(folder, format);
        }
    }

    /// Adds the tables in a bucket that contain the folder `source`.
    pub(super) async fn add_above(&mut self, stores: &Stores, source: &str) -> Result<(), Error> {
        let Location::S3 { bucket, key } = Location::of(source) else {
            return Ok(());
        };
        let ends = key.char_indices().filter(|(_, c)| *c == '/').map(|(end, _)| end);
        let above = ends.chain([0, key.len()]).map(|end| key[..end].to_owned());
        for key in above {
            let location = Location::S3 { bucket: bucket.clone(), key };
            if let Some(format) = stores.table_format(&location).await? {
                self.insert(PathBuf::from(location.to_string()), format);
            }
        }
        Ok(())
    }

    /// A lake is also a Delta table.
    fn insert(&mut self, folder: PathBuf, format: TableFormat) {
        let known = self.known.entry(folder.clone()).or_default();
        if known.as_ref().is_none_or(|(_, known)| format < *known) {
            *known = Some((folder, format));
        }
    }

    /// Returns `object` as a file of a table. `None` if no folder that contains it is a table.
    pub(super) fn table_file(&mut self, object: &Object) -> Option<TableFile> {
        let (table, format) = self.table_of(&object.real).or_else(|| self.table_of(&object.path))?;
        Some(TableFile { path: object.path.clone(), table, format })
    }

    fn table_of(&mut self, path: &Path) -> Option<(PathBuf, TableFormat)> {
        let folder = path.parent()?;
        if let Some(known) = self.known.get(folder) {
            return known.clone();
        }
        let is_on_disk = !folder.starts_with("s3:");
        let own = if is_on_disk { TableFormat::of_folder(folder) } else { None };
        let table = own.map(|format| (folder.to_path_buf(), format)).or_else(|| self.table_of(folder));
        self.known.insert(folder.to_path_buf(), table.clone());
        table
    }
}
