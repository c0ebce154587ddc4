//! The functions that the SQL of rules calls, in addition to DataFusion's own.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, create_udf,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_functions_nested as nested;
use sha2::{Digest as _, Sha256};

use super::window_functions::{EventKindsColumn, event_kinds_type};
use super::{
    columnar_table, credential_function, event_times, ip_functions, json_functions, list_functions, map_text,
    match_functions, pattern_functions, python_functions, window_functions,
};
use crate::event::identity;

/// The functions that rules call, for code that has no session.
pub(super) static REGISTRY: LazyLock<SessionContext> = LazyLock::new(|| {
    let context = SessionContext::new();
    register(&context);
    context
});

/// Registers the functions in a session.
pub(super) fn register(context: &SessionContext) {
    context.register_higher_order_function(nested::array_any_match::array_any_match_higher_order_function());
    context.register_higher_order_function(nested::array_filter::array_filter_higher_order_function());
    let lists = [
        nested::array_has::array_has_any_udf(),
        nested::length::array_length_udf(),
        nested::make_array::make_array_udf(),
    ];
    for function in lists {
        context.register_udf(Arc::unwrap_or_clone(function));
    }
    context.register_udf(actor());
    let signature = Signature::user_defined(Volatility::Immutable);
    context.register_udf(ScalarUDF::from(FingerprintFunction { signature }));
    credential_function::register(context);
    json_functions::register(context);
    map_text::register(context);
    ip_functions::register(context);
    list_functions::register(context);
    pattern_functions::register(context);
    python_functions::register(context);
    window_functions::register(context);
    event_times::register(context);
    columnar_table::register(context);
    match_functions::register(context);
}

/// Registers a function of texts. Its arguments after the first are constants.
pub(super) fn register_text_function(
    context: &SessionContext,
    name: &'static str,
    constants: usize,
    returns: DataType,
    function: impl Fn(ArrayRef, &[&str]) -> Result<ArrayRef> + Send + Sync + 'static,
) {
    let call = move |arguments: &[ColumnarValue]| {
        let Some((first, rest)) = arguments.split_first() else {
            return exec_err!("{name} takes arguments");
        };
        let rest: Vec<&str> = rest.iter().map(|argument| constant(name, argument)).collect::<Result<_>>()?;
        match first {
            ColumnarValue::Scalar(scalar) => {
                let result = function(scalar.to_array()?, &rest)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
            ColumnarValue::Array(texts) => Ok(ColumnarValue::Array(once(name, texts, &rest, &function)?)),
        }
    };
    let takes = vec![DataType::Utf8; constants + 1];
    context.register_udf(create_udf(name, takes, returns, Volatility::Immutable, Arc::new(call)));
}

/// Number of results that a thread caches.
const REMEMBERED: usize = 16;

/// The result of a function for a column.
struct Remembered {
    name: &'static str,
    constants: Vec<String>,
    texts: ArrayRef,
    result: ArrayRef,
}

/// `function` of a column, computed once where many rules ask for the same of one batch.
fn once(
    name: &'static str,
    texts: &ArrayRef,
    constants: &[&str],
    function: &dyn Fn(ArrayRef, &[&str]) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    thread_local! {
        static RESULTS: RefCell<VecDeque<Remembered>> = const { RefCell::new(VecDeque::new()) };
    }
    // The cache keeps the column alive, so equal addresses mean the same column.
    let data = texts.to_data();
    let is_it =
        |known: &Remembered| known.name == name && known.constants == constants && known.texts.to_data().ptr_eq(&data);
    let known =
        RESULTS.with_borrow(|results| results.iter().find(|known| is_it(known)).map(|known| Arc::clone(&known.result)));
    if let Some(result) = known {
        return Ok(result);
    }
    let result = function(Arc::clone(texts), constants)?;
    RESULTS.with_borrow_mut(|results| {
        results.truncate(REMEMBERED - 1);
        results.push_front(Remembered {
            name,
            constants: constants.iter().map(|constant| (*constant).to_owned()).collect(),
            texts: Arc::clone(texts),
            result: Arc::clone(&result),
        });
    });
    Ok(result)
}

/// Returns the text of a constant argument of the function `name`.
pub(super) fn constant<'a>(name: &str, argument: &'a ColumnarValue) -> Result<&'a str> {
    if let ColumnarValue::Scalar(scalar) = argument
        && let Some(Some(text)) = scalar.try_as_str()
    {
        return Ok(text);
    }
    exec_err!("{name}: a constant text is expected")
}

/// `actor(userIdentity, sourceIPAddress)`: see [`identity::actor`].
fn actor() -> ScalarUDF {
    let call = |arguments: &[ColumnarValue]| {
        let columns = ColumnarValue::values_to_arrays(arguments)?;
        let [identities, addresses] = columns.as_slice() else {
            return exec_err!("actor takes two arguments");
        };
        let text = |column| ArrayRef::as_string_opt::<i32>(column).ok_or_else(|| not_text(column));
        let rows = text(identities)?.iter().zip(text(addresses)?);
        let actors = rows.map(|(identity, address)| identity::actor(identity?, address));
        Ok(ColumnarValue::Array(Arc::new(actors.collect::<StringArray>())))
    };
    create_udf("actor", vec![DataType::Utf8; 2], DataType::Utf8, Volatility::Immutable, Arc::new(call))
}

/// `fingerprint(value, …)`: a number that is the same for the same values, and rarely for others. A value is a text, or a
/// list of truth values.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FingerprintFunction {
    signature: Signature,
}

impl ScalarUDFImpl for FingerprintFunction {
    fn name(&self) -> &'static str {
        "fingerprint"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let coerced = |data_type: &DataType| match data_type {
            DataType::List(_) => Ok(event_kinds_type()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Ok(DataType::Utf8),
            other => plan_err!("fingerprint takes texts, not {other}"),
        };
        types.iter().map(coerced).collect()
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&arguments.args)?;
        Ok(ColumnarValue::Array(Arc::new(fingerprints(&columns)?)))
    }
}

/// A column whose values have fingerprints.
enum FingerprintColumn<'a> {
    Texts(&'a StringArray),
    EventKinds(EventKindsColumn<'a>),
}

impl FingerprintColumn<'_> {
    /// Returns the value in a row, as text. A list of truth values is the text of a `1` or `0` for each of them.
    fn text(&self, row: usize) -> Option<Cow<'_, str>> {
        match self {
            FingerprintColumn::Texts(texts) => texts.is_valid(row).then(|| Cow::Borrowed(texts.value(row))),
            FingerprintColumn::EventKinds(kinds) => {
                let digit = |is_kind| if is_kind { '1' } else { '0' };
                Some(Cow::Owned(kinds.truth_values(row)?.map(digit).collect()))
            }
        }
    }
}

/// Returns for each row of some columns a number that is the same for the same values. A column has texts, or lists of
/// truth values.
///
/// # Errors
/// A column has another type.
pub fn fingerprints(columns: &[ArrayRef]) -> Result<Int64Array> {
    let column = |column| match ArrayRef::as_string_opt::<i32>(column) {
        Some(texts) => Ok(FingerprintColumn::Texts(texts)),
        None => EventKindsColumn::new(column).map(FingerprintColumn::EventKinds),
    };
    let values = columns.iter().map(column).collect::<Result<Vec<_>>>()?;
    let rows = columns.first().map_or(0, arrow::array::Array::len);
    let of_row = |row| {
        let hash = hash_of_texts(values.iter().map(|column| column.text(row)));
        hash.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
    };
    Ok((0..rows).map(of_row).collect())
}

/// Returns the SHA-256 of several texts. It tells their places apart, and null from every text.
pub fn hash_of_texts<T: AsRef<str>>(texts: impl IntoIterator<Item = Option<T>>) -> [u8; 32] {
    let mut state = Sha256::new();
    for text in texts {
        let text = text.as_ref().map(AsRef::as_ref);
        // A length before each text keeps apart what lies in different places.
        state.update(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        state.update(text.unwrap_or_default().as_bytes());
    }
    state.finalize().into()
}

/// The truth of `test` for each text; null for null.
pub(super) fn truths(texts: &ArrayRef, test: impl Fn(&str) -> bool) -> Result<ArrayRef> {
    let texts = texts.as_string_opt::<i32>().ok_or_else(|| not_text(texts))?;
    Ok(Arc::new(texts.iter().map(|text| text.map(&test)).collect::<BooleanArray>()))
}

pub(super) fn not_text(array: &ArrayRef) -> DataFusionError {
    DataFusionError::Execution(format!("a text is expected, not {}", array.data_type()))
}
