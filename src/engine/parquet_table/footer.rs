//! The metadata of Parquet files. It is checked before the files are read.
//!
//! The `parquet` crate does not check that text is UTF-8 if a column is annotated as JSON, or if the file's embedded Arrow
//! schema or the table's schema says that it is text. Other bytes are then undefined behaviour. So the crate sees the files
//! of other tools without these annotations: their texts are read as bytes and converted in
//! [`super::super::columnar_table`]. A lake's texts must be annotated as UTF-8, because the crate checks those.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use super::declared_columns;
use super::thrift::{self, ThriftValue};
use crate::panics::catching_panics;
use crate::trail::TableColumns;

/// The last bytes of a file are read at once: most footers fit.
const TAIL: u64 = 64 << 10;

/// The length of the footer, and `PAR1`.
pub(super) const END: usize = 8;

/// Columns may nest this deep.
const MAX_COLUMN_DEPTH: usize = 64;

/// The rows of a file and the metadata of its columns.
#[derive(Debug)]
pub(in crate::engine) struct Footer {
    /// The metadata that the `parquet` crate uses.
    pub(in crate::engine) metadata: Arc<ParquetMetaData>,
    /// The embedded Arrow schema, and other texts of the file's writer.
    pub(in crate::engine) texts: Option<Vec<KeyValue>>,
    /// The most values that a page may hold.
    pub(super) most_values: i64,
}

/// Who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Lake,
    OtherTool,
}

/// A cache of the footers of other tools' files. Each footer is read once, as long as there is room for it.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Footers {
    /// The columns that the table's metadata declare, if it has metadata.
    columns: Option<Arc<TableColumns>>,
    room: usize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    footers: HashMap<Path, Arc<Footer>>,
    bytes: usize,
}

impl Footers {
    /// Returns a cache that keeps as many footers as fit into `room` bytes. The files are of a table with these columns.
    pub(in crate::engine) fn new(room: usize, columns: Option<TableColumns>) -> Footers {
        Footers { columns: columns.map(Arc::new), room, kept: Arc::default() }
    }

    /// Returns the footer of a file. The error says why it cannot be read.
    pub(in crate::engine) async fn read(
        &self,
        store: &dyn ObjectStore,
        meta: &ObjectMeta,
    ) -> Result<Arc<Footer>, String> {
        if let Some(footer) = self.kept(&meta.location) {
            return Ok(footer);
        }
        let bytes = read(store, meta).await?;
        let footer = Arc::new(Footer::decode(&bytes, meta.size, Owner::OtherTool, self.columns.as_deref())?);
        let size = footer.metadata.memory_size();
        let mut kept = self.lock();
        if kept.bytes + size <= self.room && kept.footers.insert(meta.location.clone(), Arc::clone(&footer)).is_none() {
            kept.bytes += size;
        }
        Ok(footer)
    }

    /// Returns the footer of a file that was read and kept.
    pub(super) fn kept(&self, location: &Path) -> Option<Arc<Footer>> {
        self.lock().footers.get(location).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Footer {
    /// Decodes the footer of a file of `file_size` bytes. Its columns get the names of the table's `columns`. The error says
    /// why it cannot be decoded.
    pub(super) fn decode(
        bytes: &[u8],
        file_size: u64,
        owner: Owner,
        columns: Option<&TableColumns>,
    ) -> Result<Footer, String> {
        if !can_be_decoded(bytes) {
            return Err("its footer is damaged: copy it again".to_owned());
        }
        let decode = || ParquetMetaDataReader::decode_metadata(bytes);
        let decoded = catching_panics(decode);
        let metadata = match decoded {
            Ok(Ok(metadata)) => metadata,
            Ok(Err(error)) => return Err(format!("its footer cannot be read: {error}")),
            Err(_) => return Err("its footer is damaged: copy it again".to_owned()),
        };
        check(&metadata, file_size)?;
        let file = metadata.file_metadata();
        let mut texts = file.key_value_metadata().cloned();
        let schema = match owner {
            Owner::Lake => {
                check_texts(file.schema_descr())?;
                file.schema_descr_ptr()
            }
            Owner::OtherTool => {
                let unreadable = |error| format!("its columns cannot be read: {error}");
                let mut root = without_text(file.schema_descr().root_schema()).map_err(unreadable)?;
                if let Some(columns) = columns {
                    let named = declared_columns::named(&root, columns)?;
                    if named != root {
                        // The embedded Arrow schema has the names in the file.
                        texts = None;
                    }
                    root = named;
                }
                Arc::new(SchemaDescriptor::new(root))
            }
        };
        let values =
            metadata.row_groups().iter().flat_map(RowGroupMetaData::columns).map(ColumnChunkMetaData::num_values);
        let most_values = values.max().unwrap_or_default();
        let known = FileMetaData::new(
            file.version(),
            file.num_rows(),
            file.created_by().map(str::to_owned),
            None,
            schema,
            file.column_orders().cloned(),
        );
        let metadata = Arc::new(ParquetMetaData::new(known, metadata.row_groups().to_vec()));
        Ok(Footer { metadata, texts, most_values })
    }
}

/// Reads the bytes of a footer, without the length behind it.
async fn read(store: &dyn ObjectStore, meta: &ObjectMeta) -> Result<Bytes, String> {
    let read = async |from: u64| {
        let bytes = store.get_range(&meta.location, from..meta.size).await;
        bytes.map_err(|error| error.to_string())
    };
    if meta.size < END as u64 {
        return Err("it is too short to be Parquet".to_owned());
    }
    let tail = read(meta.size.saturating_sub(TAIL)).await?;
    let Some((rest, end)) = tail.split_last_chunk::<END>() else {
        return Err("it is shorter than it was when it was found".to_owned());
    };
    // A damaged footer may claim any size.
    let length = length_of(*end)?;
    if length as u64 + END as u64 > meta.size {
        return Err("its footer is damaged: copy it again".to_owned());
    }
    if let Some(from) = rest.len().checked_sub(length) {
        return Ok(tail.slice(from..rest.len()));
    }
    let whole = read(meta.size - (length + END) as u64).await?;
    Ok(whole.slice(..length.min(whole.len())))
}

/// Returns the length of the footer, in bytes, from the last bytes of a file.
pub(super) fn length_of([a, b, c, d, magic @ ..]: [u8; END]) -> Result<usize, String> {
    if &magic != b"PAR1" {
        return Err("it does not end as Parquet does: copy it again".to_owned());
    }
    Ok(u32::from_le_bytes([a, b, c, d]) as usize)
}

/// Whether a footer claims no more elements, children and depth than it can have.
fn can_be_decoded(bytes: &[u8]) -> bool {
    // For each element of the schema, how many children it claims.
    let mut children: Vec<i64> = Vec::new();
    let walked = thrift::walk(bytes, &mut |path, value| match (path, value) {
        ([2], ThriftValue::Struct) => children.push(0),
        ([2, 5], ThriftValue::Integer(count)) => {
            if let Some(last) = children.last_mut() {
                *last = count;
            }
        }
        _ => {}
    });
    let elements = i64::try_from(children.len()).unwrap_or(i64::MAX);
    if walked.is_none() || children.iter().any(|count| !(0..elements).contains(count)) {
        return false;
    }
    // How many children are still to come, of each group that contains the element.
    let mut open: Vec<i64> = Vec::new();
    for count in children {
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(last) = open.last_mut() {
            *last -= 1;
        }
        if count > 0 {
            open.push(count);
        }
        if open.len() > MAX_COLUMN_DEPTH {
            return false;
        }
    }
    true
}

/// Checks that the numbers of a footer agree with each other and with the size of the file.
fn check(metadata: &ParquetMetaData, file_size: u64) -> Result<(), String> {
    let damaged = |what: &str| Err(format!("its footer is damaged, {what}: copy it again"));
    let mut rows = 0_i64;
    for group in metadata.row_groups() {
        if group.num_rows() < 0 {
            return damaged("it claims less than no rows");
        }
        rows = rows.saturating_add(group.num_rows());
        for column in group.columns() {
            let begin = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let end = u64::try_from(begin).ok().zip(u64::try_from(column.compressed_size()).ok());
            if end.and_then(|(begin, size)| begin.checked_add(size)).is_none_or(|end| end > file_size) {
                return damaged("a column lies outside of the file");
            }
            if column.file_path().is_some_and(|path| !path.is_empty()) {
                return damaged("a column lies in another file");
            }
            let is_flat = column.column_descr().max_rep_level() == 0;
            if column.num_values() < 0 || is_flat && column.num_values() != group.num_rows() {
                return damaged("a column has another number of values than there are rows");
            }
        }
    }
    if rows != metadata.file_metadata().num_rows() {
        return damaged("it has another number of rows than its row groups");
    }
    Ok(())
}

/// Checks that all texts of a lake's file are annotated as UTF-8.
fn check_texts(schema: &SchemaDescriptor) -> Result<(), String> {
    let mut columns = schema.columns().iter();
    let other = columns.find(|column| {
        column.physical_type() == PhysicalType::BYTE_ARRAY && column.converted_type() != ConvertedType::UTF8
    });
    match other {
        None => Ok(()),
        Some(column) => Err(format!("its column `{}` is not declared as text: no lake is written so", column.path())),
    }
}

/// Returns the same type without annotations that bytes are text.
fn without_text(of: &Type) -> parquet::errors::Result<TypePtr> {
    let info = of.get_basic_info();
    let id = info.has_id().then(|| info.id());
    let changed = match of {
        Type::GroupType { fields, .. } => {
            let fields = fields.iter().map(|field| without_text(field)).collect::<parquet::errors::Result<_>>()?;
            let mut group = Type::group_type_builder(of.name()).with_fields(fields).with_id(id);
            if info.has_repetition() {
                group = group.with_repetition(info.repetition());
            }
            let group =
                group.with_converted_type(info.converted_type()).with_logical_type(info.logical_type_ref().cloned());
            group.build()?
        }
        Type::PrimitiveType { physical_type: PhysicalType::BYTE_ARRAY, .. } if !is_decimal(of) => {
            let bytes = Type::primitive_type_builder(of.name(), PhysicalType::BYTE_ARRAY).with_id(id);
            bytes.with_repetition(info.repetition()).build()?
        }
        Type::PrimitiveType { .. } => of.clone(),
    };
    Ok(Arc::new(changed))
}

fn is_decimal(of: &Type) -> bool {
    let info = of.get_basic_info();
    info.converted_type() == ConvertedType::DECIMAL
        || matches!(info.logical_type_ref(), Some(LogicalType::Decimal(_) | LogicalType::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of a schema whose elements claim so many children.
    fn schema(children: &[u8]) -> Vec<u8> {
        let count = u8::try_from(children.len()).unwrap();
        let elements = children.iter().flat_map(|count| [0x55, count * 2, 0x00]);
        [0x29, 0xfc, count].into_iter().chain(elements).chain([0x00]).collect()
    }

    #[test]
    fn a_schema_has_as_many_children_as_elements() {
        assert!(can_be_decoded(&schema(&[2, 0, 1, 0])));
        assert!(!can_be_decoded(&schema(&[63, 0])), "more children than elements");
        let deep = |depth: usize| [vec![1; depth], vec![0]].concat();
        assert!(can_be_decoded(&schema(&deep(MAX_COLUMN_DEPTH))));
        assert!(!can_be_decoded(&schema(&deep(MAX_COLUMN_DEPTH + 1))), "recursion follows it");
        assert!(!can_be_decoded(&[0x49, 0xfc, 0xff, 0xff, 0xff, 0x7f, 0x00]), "memory for so many row groups");
    }
}
