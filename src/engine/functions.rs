//! The functions that the SQL of rules calls, beside the engine's own.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion_functions_nested as nested;

use super::{ip_functions, json_functions, window_functions};

/// Makes the functions known to a session.
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
    json_functions::register(context);
    ip_functions::register(context);
    window_functions::register(context);
}

/// A function of texts, the arguments after the first being constants.
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
        let scalar = matches!(first, ColumnarValue::Scalar(_));
        let result = function(first.to_array(1)?, &rest)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    };
    let takes = vec![DataType::Utf8; constants + 1];
    context.register_udf(create_udf(name, takes, returns, Volatility::Immutable, Arc::new(call)));
}

fn constant<'a>(name: &str, argument: &'a ColumnarValue) -> Result<&'a str> {
    match argument {
        ColumnarValue::Scalar(scalar) => match scalar.try_as_str() {
            Some(Some(text)) => Ok(text),
            _ => exec_err!("{name}: a constant text is expected"),
        },
        ColumnarValue::Array(_) => exec_err!("{name}: a constant text is expected, not a column"),
    }
}

/// The truth of `test` for each text; null for null.
pub(super) fn truths(texts: &ArrayRef, test: impl Fn(&str) -> bool) -> Result<ArrayRef> {
    let texts = texts.as_string_opt::<i32>().ok_or_else(|| not_text(texts))?;
    Ok(Arc::new(texts.iter().map(|text| text.map(&test)).collect::<BooleanArray>()))
}

pub(super) fn not_text(array: &ArrayRef) -> DataFusionError {
    DataFusionError::Execution(format!("a text is expected, not {}", array.data_type()))
}
