//! A raw trail: finds its objects and decodes their records into columns.

use crate::error::Error;
use crate::raw;
use crate::statistics::ScanStatistics;
use crate::store::{FoundObjects, Location, Object, Stores};

mod columnar_files;
mod decode;
mod listing;
mod name_dispatch;
mod object_key;
mod prefilter;
mod table_columns;
mod table_folders;
pub mod text_condition;

pub use columnar_files::{
    FilePartitions, ParquetFile, ParquetFiles, PartitionValue, TableMetadata, lost_log_error, parquet_files,
};
pub use decode::{DecodeOptions, DecodedObject, Decoder, decode, hash};
pub use listing::{Selection, SelectionError, account_id, region_name};
pub use object_key::{ObjectDelivery, delivered_on, delivery, delivery_stamp};
pub use prefilter::Prefilter;
pub use table_columns::{ColumnKey, TableColumn, TableColumns};
pub use table_folders::TableFile;

use columnar_files::is_hidden;
use table_folders::TableFolders;

/// The objects of a raw trail, in the order in which they are read.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Where the objects are read from.
    pub stores: Stores,
    /// The objects that may hold records, by delivery date and path.
    pub objects: Vec<Object>,
    /// Objects that were skipped because of their path or size, and entries that cannot be listed.
    pub excluded: ScanStatistics,
    /// A listed file that belongs to a lake or another table, if there is one.
    pub table_file: Option<TableFile>,
}

impl Trail {
    /// Returns whether no objects were found, not even excluded ones.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.excluded.objects.read == 0
    }

    /// Lists the objects that `sources` name and `selection` admits. Files of lakes and other tables are excluded.
    pub async fn find(stores: &Stores, sources: &[String], selection: &Selection) -> Result<Trail, Error> {
        let mut trail = Trail { stores: stores.clone(), ..Trail::default() };
        let mut files = Vec::with_capacity(sources.len());
        for source in sources {
            match stores.spooled(source) {
                None => files.push(source.clone()),
                Some(stream) if stream.size == 0 => trail.excluded.objects.skip("empty"),
                Some(stream) => trail.objects.push(stream),
            }
        }
        let FoundObjects { objects, faults } = list(stores, &files, selection).await?;
        for fault in faults {
            trail.excluded.objects.read += 1;
            trail.excluded.objects.rejected += 1;
            trail.excluded.fault(fault);
        }
        let mut tables = TableFolders::among(&objects);
        for object in objects {
            let table_file = tables.table_file(&object);
            let skipped = skipped_kind(&object, table_file.as_ref());
            if let Some(file) = table_file {
                trail.table_file.get_or_insert(file);
            }
            match skipped {
                Some(kind) => trail.excluded.objects.skip(&kind),
                None => trail.objects.push(object),
            }
        }
        trail.objects.sort_by_cached_key(|object| {
            // Compares like the components of the path, but much faster.
            let mut path = object.path.as_os_str().as_encoded_bytes().to_vec();
            for byte in path.iter_mut().filter(|byte| **byte == b'/') {
                *byte = 0;
            }
            (object_key::delivery_date(&object.path).to_owned(), path)
        });
        Ok(trail)
    }
}

/// Returns why an object is not read. The text names its kind.
fn skipped_kind(object: &Object, table_file: Option<&TableFile>) -> Option<String> {
    match table_file {
        Some(file) => Some(format!("file of {}", file.format)),
        None if object.size == 0 => Some("empty".to_owned()),
        None => raw::skipped_by_path(&object.path),
    }
}

/// Returns for each of the listed `objects` whether [`Trail::find`] takes it for one that may hold records.
pub fn may_hold_records(objects: &[Object]) -> Vec<bool> {
    let mut tables = TableFolders::among(objects);
    objects.iter().map(|object| skipped_kind(object, tables.table_file(object).as_ref()).is_none()).collect()
}

/// Lists all objects that `sources` name and `selection` admits, of any kind, each once. They are sorted by their real path.
///
/// # Errors
/// A source does not exist or cannot be listed.
pub async fn list(stores: &Stores, sources: &[String], selection: &Selection) -> Result<FoundObjects, Error> {
    let mut found = FoundObjects::default();
    for source in sources {
        let of_source = listing::find(stores, source, selection).await?;
        found.objects.extend(of_source.objects);
        found.faults.extend(of_source.faults);
    }
    // Two sources may name one object. Compared as paths, the keys `a//b` and `a/b` would be equal.
    found.objects.sort_by(|a, b| a.real.as_os_str().cmp(b.real.as_os_str()));
    found.objects.dedup_by(|a, b| a.real.as_os_str() == b.real.as_os_str());
    Ok(found)
}

/// Returns whether an object or file exists at exactly `path`, on disk or in S3. `path` is not a pattern.
pub async fn object_exists(stores: &Stores, path: &str) -> Result<bool, Error> {
    match Location::of(path) {
        Location::Disk(path) => {
            path.try_exists().map_err(|source| Error::File { action: "look for", path: path.clone(), source })
        }
        Location::S3 { bucket, key } => {
            // A trailing slash is part of an object's key.
            let key = if path.ends_with('/') { key + "/" } else { key };
            Ok(stores.object(&bucket, &key).await?.is_some())
        }
    }
}
