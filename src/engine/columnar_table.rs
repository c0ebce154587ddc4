//! Parquet that other tools wrote, as the table `cloudtrail`: their files as one table, and a view of it with our
//! columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::datasource::file_format::parquet::Int96Coercer;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable as _, ScalarUDF, Signature, SimpleScalarUDF, Volatility, cast, lit, try_cast, when,
};
use datafusion::prelude::{Expr, SessionContext, ident};
use datafusion::scalar::ScalarValue;
use futures::StreamExt as _;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use parquet::arrow::parquet_to_arrow_schema;

use super::Resources;
use super::event_times;
use super::functions::not_text;
use super::parquet_table::ParquetTable;
use crate::error::{Error, Fault};
use crate::event::{self, Kind};
use crate::layout::{self, TableLayout};
use crate::store::{Located, Object, Stores, hex};
use crate::time::{self, DAY, Range};
use crate::trail::ParquetFiles;

mod identity;

/// Files whose columns are asked for at a time.
const AT_A_TIME: usize = 32;

/// Files in one layout, as one table.
#[derive(Debug, Clone)]
pub struct Columnar {
    files: Files,
    layout: TableLayout,
    missing: Vec<String>,
}

impl Columnar {
    /// The table of the Parquet files `objects`; in `layout`, or the one that their columns tell.
    ///
    /// # Errors
    /// A file is no Parquet, or two files keep a column in ways that do not fit together, or the layout is unknown.
    pub async fn open(
        resources: &Resources,
        stores: &Stores,
        found: ParquetFiles,
        layout: Option<TableLayout>,
    ) -> std::result::Result<Columnar, Error> {
        let files = Files::open(stores, found).await?;
        let names: Vec<&str> = files.schema.table_schema().fields().iter().map(|field| field.name().as_str()).collect();
        let layout = match layout {
            Some(layout) => layout,
            None => layout::of_columns(&names)?,
        };
        let mut columnar = Columnar { files, layout, missing: Vec::new() };
        let failed = |error| Error::query(format!("the layout `{}`", columnar.layout.name), error);
        let (_, missing) = columnar.view(resources, Range::default()).map_err(failed)?;
        columnar.missing = missing;
        columnar.check_times(resources)?;
        Ok(columnar)
    }

    /// Makes sure that every file tells when its events were: those of one that does not would be in no window.
    fn check_times(&self, resources: &Resources) -> std::result::Result<(), Error> {
        let failed = |error| Error::query(format!("the layout `{}`", self.layout.name), error);
        let context = resources.session().map_err(failed)?;
        let schema = DFSchema::try_from(Arc::clone(self.files.schema.table_schema())).map_err(failed)?;
        let view = View { context: &context, layout: &self.layout, schema };
        let times = view.sources(event::EVENT_TIME).map_err(failed)?;
        let told: Vec<_> = times.iter().flat_map(Expr::column_refs).map(|column| column.name.as_str()).collect();
        let tells = |part: &PartFile| told.iter().any(|name| part.has(name));
        match self.files.parts.iter().find(|part| !told.is_empty() && !tells(part)) {
            None => Ok(()),
            Some(part) => Err(Error::Usage {
                message: format!("`{}` has no column that tells `eventTime`", part.meta.location),
                hint: Some("leave it out, or say with `--map FILE.yml` which SQL gives the time".to_owned()),
            }),
        }
    }

    /// The layout.
    pub fn layout(&self) -> &TableLayout {
        &self.layout
    }

    /// The columns that the data do not tell.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// The files that cannot be read.
    pub fn faults(&self) -> &[Fault] {
        &self.files.faults
    }

    /// The sizes in bytes, and the records, of the files that may hold records with a time in `range`.
    pub fn sizes(&self, range: Range) -> Vec<(u64, u64)> {
        self.files.during(range).map(|file| (file.meta.size, file.records)).collect()
    }

    /// The records, of which those outside `range` need not be.
    pub fn table(&self, resources: &Resources, range: Range) -> Result<Arc<dyn TableProvider>> {
        Ok(self.view(resources, range)?.0)
    }

    fn view(&self, resources: &Resources, range: Range) -> Result<(Arc<dyn TableProvider>, Vec<String>)> {
        let context = resources.session()?;
        let files = self.files.table(range, resources.threads);
        let view = View { context: &context, layout: &self.layout, schema: DFSchema::try_from(files.schema())? };
        let records = match view.within(range)? {
            Some(condition) => context.read_table(Arc::new(files))?.filter(condition)?,
            None => context.read_table(Arc::new(files))?,
        };
        let (mut columns, mut missing) = (Vec::new(), Vec::new());
        for field in event::schema().fields() {
            let expression = if let Some(expression) = view.column(field)? {
                expression
            } else {
                missing.push(field.name().clone());
                lit(ScalarValue::try_from(field.data_type())?)
            };
            columns.push(view.with_category(expression, field)?.alias(field.name()));
        }
        Ok((records.select(columns)?.into_view(), missing))
    }
}

/// What gives our columns.
struct View<'v> {
    context: &'v SessionContext,
    layout: &'v TableLayout,
    schema: DFSchema,
}

impl View<'_> {
    /// The expression of one of our columns; `None` where the data do not tell it.
    fn column(&self, field: &Field) -> Result<Option<Expr>> {
        let name = field.name().as_str();
        if name == event::CONTENT_ID {
            return self.content_id();
        }
        let mut found = Vec::new();
        for expression in self.sources(name)? {
            found.extend(self.converted(expression, name, field.data_type())?);
        }
        if found.is_empty()
            && let Some((_, column, keys)) = event::HOT.iter().find(|(hot, _, _)| *hot == name)
        {
            for source in self.sources(column)? {
                found.extend(self.member(source, column, keys)?);
            }
        }
        let Some(first) = found.pop() else {
            return Ok(None);
        };
        found
            .into_iter()
            .rev()
            .try_fold(first, |rest, earlier| when(earlier.clone().is_not_null(), earlier).otherwise(rest))
            .map(Some)
    }

    /// A condition on the only column of times, which holds for all records with a time in `range`.
    fn within(&self, range: Range) -> Result<Option<Expr>> {
        let times = self.sources(event::EVENT_TIME)?;
        let [time] = times.as_slice() else {
            return Ok(None);
        };
        Ok(event_times::may_lie_in(range, time, &time.get_type(&self.schema)?))
    }

    /// The expression of one of our columns; of the category of records that lack it, what their type tells.
    fn with_category(&self, expression: Expr, field: &Field) -> Result<Expr> {
        if field.name() != event::EVENT_CATEGORY {
            return Ok(expression);
        }
        let Some(event_type) = self.column(&Field::new("eventType", DataType::Utf8, true))? else {
            return Ok(expression);
        };
        let is_network_activity = event_type.eq(lit(event::NETWORK_ACTIVITY_TYPE));
        when(expression.clone().is_not_null(), expression).when(is_network_activity, lit(event::NETWORK_ACTIVITY)).end()
    }

    /// What the layout says of a column; else the column of this name.
    fn sources(&self, name: &str) -> Result<Vec<Expr>> {
        let Some(texts) = self.layout.sql(name) else {
            let wanted = layout::plain(name);
            // Files of one table may spell it differently.
            let named = self.schema.fields().iter().filter(|field| layout::plain(field.name()) == wanted);
            return Ok(named.map(|field| ident(field.name().clone())).collect());
        };
        let mut found = Vec::new();
        for text in texts {
            match self.context.parse_sql_expr(text, &self.schema) {
                Ok(expression) if expression.get_type(&self.schema).is_ok() => found.push(expression),
                Err(error) if matches!(error.find_root(), DataFusionError::SQL(..)) => return Err(error),
                // Data of this layout need not have every column or member.
                _ => {}
            }
        }
        Ok(found)
    }

    /// An expression in the type of one of our columns; `None` where it cannot be.
    fn converted(&self, expression: Expr, name: &str, wanted: &DataType) -> Result<Option<Expr>> {
        let given = expression.get_type(&self.schema)?;
        let call = |name: &str| Ok::<_, DataFusionError>(self.context.udf(name)?.call(vec![expression.clone()]));
        Ok(match (wanted, &given) {
            (DataType::Timestamp(..), given) if event_times::are_read_from(given) => {
                Some(event_times::of(self.context, expression)?)
            }
            (DataType::Boolean, DataType::Boolean) => Some(expression),
            (DataType::Boolean, DataType::Utf8) => Some(call("flag")?),
            (DataType::Timestamp(..) | DataType::Boolean, _) => None,
            (_, DataType::Struct(_) | DataType::List(_) | DataType::Map(..)) => {
                let is_json = event::TOP_LEVEL.iter().any(|(top, kind)| *top == name && *kind == Kind::Json);
                is_json.then(|| call("json_text")).transpose()?
            }
            (_, DataType::FixedSizeBinary(16)) => Some(call("uuid_text")?),
            (_, number) if number.is_integer() && layout::plain(name).ends_with("accountid") => {
                let text = cast(expression, DataType::Utf8);
                Some(self.context.udf("lpad")?.call(vec![text, lit(12_i64), lit("0")]))
            }
            // Without a name a record is identified by what it says.
            _ if name == event::EVENT_ID => {
                let text = cast(expression, DataType::Utf8);
                Some(when(text.clone().not_eq(lit("")), text).end()?)
            }
            _ => Some(cast(expression, DataType::Utf8)),
        })
    }

    /// A string below a column that is a struct, a map or JSON.
    fn member(&self, source: Expr, column: &str, keys: &[&str]) -> Result<Option<Expr>> {
        let (mut expression, mut given) = (source.clone(), source.get_type(&self.schema)?);
        for key in keys {
            let DataType::Struct(fields) = &given else {
                break;
            };
            let wanted = layout::plain(key);
            let Some(field) = fields.iter().find(|field| layout::plain(field.name()) == wanted) else {
                break;
            };
            let get = self.context.udf("get_field")?;
            expression = get.call(vec![expression, lit(field.name().clone())]);
            given = field.data_type().clone();
        }
        if given == DataType::Utf8 && expression != source {
            return Ok(Some(expression));
        }
        let string_at = self.context.udf("string_at")?;
        let json = self.converted(source, column, &DataType::Utf8)?;
        Ok(json.map(|json| string_at.call(vec![json, lit(keys.join("."))])))
    }

    /// What identifies a record without an `eventID`: all its columns of text.
    fn content_id(&self) -> Result<Option<Expr>> {
        let mut texts = Vec::new();
        for (name, kind) in event::TOP_LEVEL {
            if *kind != Kind::Flag {
                texts.extend(self.column(&Field::new(*name, DataType::Utf8, true))?);
            }
        }
        let times = self.sources(event::EVENT_TIME)?;
        for time in times {
            // Times beyond the calendar have no text.
            let text = try_cast(time.clone(), DataType::Utf8);
            let number = try_cast(try_cast(time, DataType::Int64), DataType::Utf8);
            texts.push(when(text.clone().is_not_null(), text).otherwise(number)?);
        }
        let hash = cast(self.context.udf("fingerprint")?.call(texts), DataType::Utf8);
        Ok(match self.column(&Field::new(event::EVENT_ID, DataType::Utf8, true))? {
            Some(id) => Some(when(id.is_null(), hash).end()?),
            None => Some(hash),
        })
    }
}

/// Makes known to a session the functions that give values of other tables as ours have them.
pub(super) fn register(context: &SessionContext) {
    type Conversion = fn(&ArrayRef) -> Result<ArrayRef>;
    let conversions: [(&str, DataType, Conversion); 3] = [
        ("flag", DataType::Boolean, flags),
        ("json_text", DataType::Utf8, json_texts),
        ("uuid_text", DataType::Utf8, uuid_texts),
    ];
    for (name, returns, convert) in conversions {
        let call = move |arguments: &[ColumnarValue]| {
            Ok(ColumnarValue::Array(convert(&ColumnarValue::values_to_arrays(arguments)?[0])?))
        };
        let takes = Signature::any(1, Volatility::Immutable);
        let function = SimpleScalarUDF::new_with_signature(name, takes, returns, Arc::new(call));
        context.register_udf(ScalarUDF::new_from_impl(function));
    }
}

fn uuid_texts(values: &ArrayRef) -> Result<ArrayRef> {
    let values = values.as_fixed_size_binary_opt().ok_or_else(|| not_text(values))?;
    let text = |bytes: &[u8]| {
        let hex = hex(bytes);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    };
    Ok(Arc::new(values.iter().map(|bytes| bytes.map(text)).collect::<StringArray>()))
}

fn strings(texts: &ArrayRef) -> Result<&StringArray> {
    texts.as_string_opt::<i32>().ok_or_else(|| not_text(texts))
}

fn flags(texts: &ArrayRef) -> Result<ArrayRef> {
    let flag = |text: &str| match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    };
    let flags = strings(texts)?.iter().map(|text| text.and_then(flag));
    Ok(Arc::new(flags.collect::<arrow::array::BooleanArray>()))
}

/// Structs, lists and maps as JSON text, keys of structs in CloudTrail's camel case.
fn json_texts(values: &ArrayRef) -> Result<ArrayRef> {
    const NAME: &str = "v";
    let field = camel(&Field::new(NAME, values.data_type().clone(), true));
    let values = renamed(values, field.data_type())?;
    let mut bytes = Vec::new();
    let batch = arrow::array::RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(&values)])?;
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut bytes);
    writer.write(&batch)?;
    writer.finish()?;
    let text = String::from_utf8(bytes).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let whole = |line: &str| line.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}')).map(str::to_owned);
    Ok(Arc::new(text.lines().map(whole).collect::<StringArray>()))
}

fn camel(field: &Field) -> Field {
    let mut name = String::with_capacity(field.name().len());
    let mut upper = false;
    for c in field.name().chars() {
        match c {
            '_' if !name.is_empty() => upper = true,
            c if upper => {
                name.extend(c.to_uppercase());
                upper = false;
            }
            c => name.push(c),
        }
    }
    let below = |field: &FieldRef| Arc::new(camel(field));
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(below).collect()),
        DataType::List(item) => DataType::List(below(item)),
        other => other.clone(),
    };
    Field::new(name, data_type, field.is_nullable())
}

/// The same values with other names of their members.
fn renamed(values: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    Ok(match (values.data_type(), wanted) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let values = values.as_struct();
            let columns = values.columns().iter().zip(fields).map(|(column, field)| renamed(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Arc::new(arrow::array::StructArray::try_new(fields.clone(), columns, values.nulls().cloned())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let values = values.as_list::<i32>();
            let inner = renamed(values.values(), item.data_type())?;
            let offsets = values.offsets().clone();
            Arc::new(arrow::array::ListArray::try_new(Arc::clone(item), offsets, inner, values.nulls().cloned())?)
        }
        _ => Arc::clone(values),
    })
}

/// A Parquet file and the values of the partitions in its path.
#[derive(Debug, Clone)]
struct PartFile {
    meta: ObjectMeta,
    columns: Vec<String>,
    records: u64,
    partitions: BTreeMap<String, String>,
}

impl PartFile {
    fn has(&self, column: &str) -> bool {
        self.partitions.contains_key(column) || self.columns.iter().any(|name| name == column)
    }
}

/// Parquet files as one table, with the union of their columns.
#[derive(Debug, Clone)]
struct Files {
    located: Located,
    parts: Vec<PartFile>,
    faults: Vec<Fault>,
    schema: TableSchema,
}

impl Files {
    async fn open(stores: &Stores, found: ParquetFiles) -> std::result::Result<Files, Error> {
        let (objects, paths): (Vec<Object>, Vec<String>) = found.files.into_iter().unzip();
        let located = stores.locate(&objects).await?;
        let mut footers = futures::stream::iter(located.metas.clone().into_iter().zip(objects).zip(paths))
            .map(|((meta, object), path)| {
                let store = Arc::clone(&located.store);
                async move { (footer(store.as_ref(), &meta).await, meta, object, path) }
            })
            .buffered(AT_A_TIME);
        let (mut fields, mut parts, mut faults) = (Vec::<Field>::new(), Vec::new(), found.faults);
        while let Some((footer, meta, object, path)) = footers.next().await {
            let object = object.path.display().to_string();
            let (schema, records) = match footer {
                Ok(footer) => footer,
                Err(reason) => {
                    faults.push(Fault { object, position: None, reason });
                    continue;
                }
            };
            let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
            for field in schema.fields() {
                let field = simple(field);
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    None => fields.push(field),
                    Some(known) => {
                        *known = unified(known, &field).map_err(|reason| Error::Usage {
                            message: format!("`{object}` does not fit the files before it: {reason}"),
                            hint: Some("hunt the files of each kind by themselves".to_owned()),
                        })?;
                    }
                }
            }
            parts.push(PartFile { partitions: partitions(&path), columns, records, meta });
        }
        drop(footers);
        if let ([], Some(fault)) = (parts.as_slice(), faults.first()) {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidData, fault.reason.clone());
            return Err(Error::File { action: "read", path: fault.object.clone().into(), source });
        }
        let is_column = |name: &str| fields.iter().any(|field| field.name() == name);
        let mut names: Vec<&String> = parts.iter().flat_map(|file| file.partitions.keys()).collect();
        names.sort();
        names.dedup();
        let partitions = names.into_iter().filter(|name| !is_column(name));
        let partitions: Vec<FieldRef> =
            partitions.map(|name| Arc::new(Field::new(name, DataType::Utf8, true))).collect();
        let schema = TableSchema::builder(Arc::new(Schema::new(fields))).with_table_partition_cols(partitions).build();
        Ok(Files { located, parts, faults, schema })
    }

    /// The files whose partitions may hold events with a time in `range`.
    fn during(&self, range: Range) -> impl Iterator<Item = &PartFile> {
        self.parts.iter().filter(move |part| match day(&part.partitions) {
            // A folder may be named by the day of delivery, or in another zone.
            Some((first, end)) => range.overlaps(first - DAY, end + DAY),
            None => true,
        })
    }

    /// Those files as a table.
    fn table(&self, range: Range, threads: usize) -> ParquetTable {
        let value = |part: &PartFile, field: &FieldRef| ScalarValue::Utf8(part.partitions.get(field.name()).cloned());
        let file = |part: &PartFile| {
            let mut file = PartitionedFile::new_from_meta(part.meta.clone());
            file.partition_values = self.schema.table_partition_cols().iter().map(|field| value(part, field)).collect();
            file
        };
        ParquetTable {
            store: Arc::clone(&self.located.store),
            url: self.located.url.clone(),
            schema: self.schema.clone(),
            files: self.during(range).map(file).collect(),
            threads,
        }
    }
}

/// The columns of a Parquet file and its number of records, by its footer; the error says why it cannot be read.
async fn footer(store: &dyn ObjectStore, meta: &ObjectMeta) -> std::result::Result<(Schema, u64), String> {
    const TAIL: u64 = 8;
    // What the footer says of its own size is not to be trusted.
    let tail = store.get_range(&meta.location, meta.size.saturating_sub(TAIL)..meta.size).await;
    let tail = tail.map_err(|error| error.to_string())?;
    let (length, magic) = tail.split_at_checked(4).ok_or("it is too short to be Parquet")?;
    if magic != b"PAR1" {
        return Err("it does not end as Parquet does: copy it again".to_owned());
    }
    let length = length.try_into().map_or(u32::MAX, u32::from_le_bytes);
    if u64::from(length) + TAIL > meta.size {
        return Err("its footer is damaged: copy it again".to_owned());
    }
    let unreadable = |error: DataFusionError| format!("its footer cannot be read: {}", error.strip_backtrace());
    let footer = DFParquetMetadata::new(store, meta).fetch_metadata().await.map_err(unreadable)?;
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata());
    let schema = schema.map_err(|error| unreadable(error.into()))?;
    // As scans read them.
    let as_read = Int96Coercer::new(file.schema_descr(), &schema, &TimeUnit::Microsecond).coerce();
    let schema = as_read.unwrap_or(schema);
    Ok((schema, u64::try_from(file.num_rows()).unwrap_or_default()))
}

/// The values of the folders `key=value` of a path, as text.
fn partitions(path: &str) -> BTreeMap<String, String> {
    let pair = |folder: &str| folder.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    path.split('/').filter_map(pair).collect()
}

/// The span of the day that partitions name.
fn day(partitions: &BTreeMap<String, String>) -> Option<(i64, i64)> {
    let one = ["tp_date", "eventDay", "eventday", "event_date"].iter().find_map(|key| {
        let digits: String = partitions.get(*key)?.chars().filter(char::is_ascii_digit).collect();
        (digits.len() == 8).then(|| format!("{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..]))
    });
    let number = |key: &str| partitions.get(key)?.parse::<u32>().ok();
    let parts = || Some(format!("{:04}-{:02}-{:02}", number("year")?, number("month")?, number("day")?));
    let begin = time::parse_instant(&one.or_else(parts)?).ok()?;
    Some((begin, begin + DAY))
}

/// A field in the simplest type that holds the same: whatever is text is `Utf8`.
fn simple(field: &Field) -> Field {
    let below = |field: &FieldRef| Arc::new(simple(field));
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => return simple(&Field::new(field.name(), values.as_ref().clone(), true)),
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            DataType::Utf8
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(below).collect()),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => DataType::List(below(item)),
        other => other.clone(),
    };
    Field::new(field.name(), data_type, true)
}

/// The type that holds the values of both fields; else why there is none.
fn unified(a: &Field, b: &Field) -> std::result::Result<Field, String> {
    let data_type = match (a.data_type(), b.data_type()) {
        (a, b) if a == b => a.clone(),
        (DataType::Null, other) | (other, DataType::Null) => other.clone(),
        (DataType::Timestamp(_, zone), DataType::Timestamp(_, other)) => {
            // A time without a zone is UTC.
            let zone = if zone == other { zone.clone() } else { Some("UTC".into()) };
            DataType::Timestamp(TimeUnit::Microsecond, zone)
        }
        (DataType::Struct(first), DataType::Struct(second)) => {
            let mut fields: Vec<FieldRef> = first.iter().cloned().collect();
            for field in second {
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    None => fields.push(Arc::clone(field)),
                    Some(known) => *known = Arc::new(unified(known, field)?),
                }
            }
            DataType::Struct(fields.into())
        }
        (DataType::List(first), DataType::List(second)) => DataType::List(Arc::new(unified(first, second)?)),
        (first, second)
            if layout::plain(a.name()).ends_with("accountid") && (first.is_integer() || second.is_integer()) =>
        {
            let name = a.name();
            return Err(format!(
                "its column `{name}` is {second}, and theirs is {first}: numbers of accounts have lost their zeros"
            ));
        }
        (a, b) if !a.is_nested() && !b.is_nested() && !is_time(a) && !is_time(b) => DataType::Utf8,
        (first, second) => {
            return Err(format!("its column `{}` is {second}, and theirs is {first}", a.name()));
        }
    };
    Ok(Field::new(a.name(), data_type, true))
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}
