//! Functions that convert the values of other tools' tables to the types of our columns.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, ListArray, MapArray, RecordBatch, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable as _, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SimpleScalarUDF,
    Volatility,
};
use datafusion::prelude::{Expr, SessionContext};
use datafusion::scalar::ScalarValue;
use sha2::{Digest as _, Sha256};

use super::columns;
use crate::engine::functions::not_text;
use crate::event;
use crate::store::hex;

/// Bytes as text, see [`TextOf`].
pub(super) const TEXT_OF: &str = "text_of";
/// The boolean in a text.
pub(super) const FLAG: &str = "flag";
/// Structs, lists and maps as JSON.
pub(super) const JSON_TEXT: &str = "json_text";
/// Sixteen bytes in the notation of a UUID.
pub(super) const UUID_TEXT: &str = "uuid_text";
/// Any other value as text; null if it has none, such as a time of day of thirty hours.
pub(super) const PLAIN_TEXT: &str = "plain_text";
/// The time of a number of milliseconds since the epoch.
pub(super) const INSTANT_OF_MILLIS: &str = "instant_of_millis";

/// Makes the functions known to a session.
pub(in crate::engine) fn register(context: &SessionContext) {
    type Conversion = fn(&ArrayRef) -> Result<ArrayRef>;
    let instant = event::time_type();
    let any = || Signature::any(1, Volatility::Immutable);
    let conversions: [(&str, Signature, DataType, Conversion); 5] = [
        (
            INSTANT_OF_MILLIS,
            Signature::exact(vec![DataType::Int64], Volatility::Immutable),
            instant,
            instants_of_millis,
        ),
        (FLAG, any(), DataType::Boolean, flags),
        (JSON_TEXT, any(), DataType::Utf8, json_texts),
        (UUID_TEXT, any(), DataType::Utf8, uuid_texts),
        (PLAIN_TEXT, any(), DataType::Utf8, plain_texts),
    ];
    for (name, takes, returns, convert) in conversions {
        let call = move |arguments: &[ColumnarValue]| {
            Ok(ColumnarValue::Array(convert(&ColumnarValue::values_to_arrays(arguments)?[0])?))
        };
        let function = SimpleScalarUDF::new_with_signature(name, takes, returns, Arc::new(call));
        context.register_udf(ScalarUDF::new_from_impl(function));
    }
    context.register_udf(text_of(Replaced::default()));
}

/// The values that are not UTF-8 and were converted to text. Each distinct value counts once, however often it is read or
/// occurs.
#[derive(Debug, Clone, Default)]
pub(super) struct Replaced {
    state: Arc<Mutex<ReplacedValues>>,
}

#[derive(Debug, Default)]
struct ReplacedValues {
    values: HashSet<[u8; 16]>,
    sequences: u64,
}

impl Replaced {
    /// The number of values that are remembered. Beyond it, each reading of a value counts.
    const MOST_VALUES: usize = 1 << 18;

    /// The number of byte sequences that were replaced in them.
    pub(super) fn sequences(&self) -> u64 {
        self.lock().sequences
    }

    fn note(&self, value: &[u8]) {
        let digest: [u8; 32] = Sha256::digest(value).into();
        let known = digest.first_chunk().copied().unwrap_or_default();
        let mut state = self.lock();
        if state.values.len() >= Self::MOST_VALUES && !state.values.contains(&known) || state.values.insert(known) {
            state.sequences += value.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count() as u64;
        }
    }

    fn lock(&self) -> MutexGuard<'_, ReplacedValues> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the function `text_of`, which counts in `replaced` the byte sequences that it replaces.
pub(super) fn text_of(replaced: Replaced) -> ScalarUDF {
    ScalarUDF::new_from_impl(TextOf { signature: Signature::any(1, Volatility::Immutable), replaced })
}

/// `text_of(value)`: bytes as text, at any depth. Each sequence that is not UTF-8 becomes U+FFFD.
#[derive(Debug)]
struct TextOf {
    signature: Signature,
    replaced: Replaced,
}

impl PartialEq for TextOf {
    fn eq(&self, _: &TextOf) -> bool {
        true
    }
}

impl Eq for TextOf {}

impl Hash for TextOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        TEXT_OF.hash(state);
    }
}

impl ScalarUDFImpl for TextOf {
    fn name(&self) -> &str {
        TEXT_OF
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().map_or(DataType::Null, columns::as_text))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = ColumnarValue::values_to_arrays(&arguments.args)?;
        Ok(ColumnarValue::Array(texts(&values[0], &self.replaced)?))
    }

    /// Lets DataFusion compare bytes with the bytes of the text, so that statistics can rule out parts of a file.
    fn preimage(&self, arguments: &[Expr], literal: &Expr, context: &SimplifyContext) -> Result<PreimageResult> {
        let ([value], Expr::Literal(literal, _)) = (arguments, literal) else {
            return Ok(PreimageResult::None);
        };
        let Some(Some(text)) = literal.try_as_str() else {
            return Ok(PreimageResult::None);
        };
        // Other bytes become this character too.
        if text.contains(char::REPLACEMENT_CHARACTER) || value.get_type(context.schema())? != DataType::Binary {
            return Ok(PreimageResult::None);
        }
        let bytes = text.as_bytes().to_vec();
        let next = [text.as_bytes(), &[0]].concat();
        let interval = Interval::try_new(ScalarValue::Binary(Some(bytes)), ScalarValue::Binary(Some(next)))?;
        Ok(PreimageResult::Range { expr: value.clone(), interval: Box::new(interval) })
    }
}

fn texts(values: &ArrayRef, replaced: &Replaced) -> Result<ArrayRef> {
    let below = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(columns::as_text(field.data_type())));
    Ok(match values.data_type() {
        DataType::Binary => {
            let bytes = values.as_binary::<i32>();
            let (offsets, data, nulls) = (bytes.offsets().clone(), bytes.values().clone(), bytes.nulls().cloned());
            if let Ok(texts) = StringArray::try_new(offsets, data, nulls) {
                return Ok(Arc::new(texts));
            }
            let mut texts = StringBuilder::with_capacity(bytes.len(), bytes.values().len());
            for value in bytes {
                if let Some(value) = value.filter(|value| std::str::from_utf8(value).is_err()) {
                    replaced.note(value);
                }
                texts.append_option(value.map(String::from_utf8_lossy));
            }
            Arc::new(texts.finish())
        }
        DataType::Struct(fields) => {
            let group = values.as_struct();
            let columns = group.columns().iter().map(|column| texts(column, replaced)).collect::<Result<Vec<_>>>()?;
            let fields = fields.iter().map(below).collect();
            Arc::new(StructArray::try_new_with_length(fields, columns, group.nulls().cloned(), group.len())?)
        }
        DataType::List(item) => {
            let list = values.as_list::<i32>();
            let inner = texts(list.values(), replaced)?;
            Arc::new(ListArray::try_new(below(item), list.offsets().clone(), inner, list.nulls().cloned())?)
        }
        DataType::Map(entries, sorted) => {
            let map = values.as_map();
            let inner: ArrayRef = Arc::new(map.entries().clone());
            let inner = texts(&inner, replaced)?.as_struct().clone();
            Arc::new(MapArray::try_new(below(entries), map.offsets().clone(), inner, map.nulls().cloned(), *sorted)?)
        }
        _ => Arc::clone(values),
    })
}

fn instants_of_millis(numbers: &ArrayRef) -> Result<ArrayRef> {
    let numbers = numbers.as_primitive_opt::<Int64Type>().ok_or_else(|| not_text(numbers))?;
    let instants = numbers.iter().map(|millis| millis.and_then(|millis| millis.checked_mul(1_000)));
    Ok(Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
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
    Ok(Arc::new(flags.collect::<BooleanArray>()))
}

/// Whether values of this type can be written by [`PLAIN_TEXT`].
pub(super) fn has_plain_text(data_type: &DataType) -> bool {
    plain_texts(&new_null_array(data_type, 1)).is_ok()
}

fn plain_texts(values: &ArrayRef) -> Result<ArrayRef> {
    if let DataType::FixedSizeBinary(_) = values.data_type() {
        let texts = values.as_fixed_size_binary().iter().map(|bytes| bytes.map(String::from_utf8_lossy));
        return Ok(Arc::new(texts.collect::<StringArray>()));
    }
    if let Ok(texts) = compute::cast(values, &DataType::Utf8) {
        return Ok(texts);
    }
    let options = FormatOptions::default().with_display_error(false);
    let written = ArrayFormatter::try_new(values, &options)?;
    let text = |row| values.is_valid(row).then(|| written.value(row).try_to_string().ok()).flatten();
    Ok(Arc::new((0..values.len()).map(text).collect::<StringArray>()))
}

/// Whether values of this type can be written by [`JSON_TEXT`].
pub(super) fn has_json_text(data_type: &DataType) -> bool {
    json_texts(&new_null_array(data_type, 1)).is_ok()
}

/// Structs, lists and maps as JSON text, keys of structs in CloudTrail's camel case.
fn json_texts(values: &ArrayRef) -> Result<ArrayRef> {
    let field = camel(&Field::new(JSON_NAME, values.data_type().clone(), true));
    let values = renamed(values, field.data_type())?;
    let schema = Arc::new(Schema::new(vec![field]));
    if let Ok(texts) = written(&schema, &values) {
        return Ok(Arc::new(texts.collect::<StringArray>()));
    }
    // A value among them cannot be written, such as a date beyond the calendar.
    if values.null_count() == values.len() {
        written(&schema, &values)?;
    }
    let text = |row| written(&schema, &values.slice(row, 1)).ok().and_then(|mut texts| texts.next().flatten());
    Ok(Arc::new((0..values.len()).map(text).collect::<StringArray>()))
}

/// The name of the only member of the objects that are written.
const JSON_NAME: &str = "v";

fn written(schema: &Arc<Schema>, values: &ArrayRef) -> Result<std::vec::IntoIter<Option<String>>> {
    let mut bytes = Vec::new();
    let batch = RecordBatch::try_new(Arc::clone(schema), vec![Arc::clone(values)])?;
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut bytes);
    writer.write(&batch)?;
    writer.finish()?;
    let text = String::from_utf8(bytes).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let whole = |line: &str| line.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}')).map(str::to_owned);
    Ok(text.lines().map(whole).collect::<Vec<_>>().into_iter())
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

/// Returns the same values with other names for their members.
fn renamed(values: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    Ok(match (values.data_type(), wanted) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let values = values.as_struct();
            let columns = values.columns().iter().zip(fields).map(|(column, field)| renamed(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, values.nulls().cloned(), values.len())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let values = values.as_list::<i32>();
            let inner = renamed(values.values(), item.data_type())?;
            let offsets = values.offsets().clone();
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, inner, values.nulls().cloned())?)
        }
        _ => Arc::clone(values),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, IntervalDayTimeArray, Time32MillisecondArray};

    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_counted_once() {
        let replaced = Replaced::default();
        let values = [Some(&b"plain"[..]), Some(b"a\xff\xfeb\xf0\x9f"), None, Some(b"\xc3\xa4")];
        let values: ArrayRef = Arc::new(BinaryArray::from_iter(values));
        for _ in 0..2 {
            let texts = texts(&values, &replaced).unwrap();
            let texts: Vec<_> = texts.as_string::<i32>().iter().collect();
            assert_eq!(texts, [Some("plain"), Some("a\u{fffd}\u{fffd}b\u{fffd}"), None, Some("ä")]);
            assert_eq!(replaced.sequences(), 3);
        }
        // The buffer as a whole is UTF-8, and a value of it is not.
        let split: ArrayRef = Arc::new(BinaryArray::from_iter([Some(&b"\xc3"[..]), Some(b"\xa4")]));
        let texts = texts(&split, &replaced).unwrap();
        assert_eq!(texts.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("\u{fffd}"), Some("\u{fffd}")]);
    }

    #[test]
    fn values_without_a_text_are_null() {
        let times: ArrayRef = Arc::new(Time32MillisecondArray::from(vec![Some(1_000), Some(i32::MAX), None]));
        let texts = plain_texts(&times).unwrap();
        assert_eq!(
            texts.as_string::<i32>().iter().map(|text| text.is_some()).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert!(has_plain_text(IntervalDayTimeArray::from(vec![None]).data_type()));
        let group = DataType::Struct(vec![Field::new("a", DataType::Utf8, true)].into());
        assert!(has_json_text(&group));
    }
}
