//! Reading JSON text: by a path, as [`crate::path::Path`] writes it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray, Float64Array, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use serde_json::value::RawValue;

use super::functions::{not_text, register_text_function};
use crate::path::{Path, Step};
use crate::raw::json;

pub(super) fn register(context: &SessionContext) {
    let text = |name, read: fn(&str) -> Option<String>| {
        register_text_function(context, name, 1, DataType::Utf8, move |texts, constants| {
            each(&texts, constants, |found| found.and_then(|json| read(&json)))
                .map(|found| Arc::new(found.into_iter().collect::<StringArray>()) as ArrayRef)
        });
    };
    text("json_at", |json| Some(json.to_owned()));
    text("text_at", text_of);
    text("string_at", string_of);
    text("value_at", |json| Some(text_of(json).unwrap_or_else(|| json.to_owned())));

    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    let list = |name, read: fn(&str) -> Option<Vec<String>>| {
        let returns = DataType::List(Arc::clone(&item));
        register_text_function(context, name, 1, returns, move |texts, constants| {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for found in each(&texts, constants, |found| found.and_then(|json| read(&json)))? {
                lists.append_option(found.map(|elements| elements.into_iter().map(Some)));
            }
            Ok(Arc::new(lists.finish()))
        });
    };
    list("texts_at", |json| one_or_many(json, text_of));
    list("strings_at", |json| one_or_many(json, string_of));
    list("elements_at", |json| {
        Some(json::elements(json)?.into_iter().map(|element| element.get().to_owned()).collect())
    });

    register_text_function(context, "is_filled_at", 1, DataType::Boolean, |texts, constants| {
        let filled = each(&texts, constants, |found| found.is_some_and(|json| !is_empty(&json)))?;
        Ok(Arc::new(BooleanArray::from(filled)))
    });
    register_text_function(context, "number", 0, DataType::Float64, |texts, _| {
        let texts = texts.as_string_opt::<i32>().ok_or_else(|| not_text(&texts))?;
        let number = |text: &str| json::number(text)?.parse::<f64>().ok();
        Ok(Arc::new(texts.iter().map(|text| text.and_then(number)).collect::<Float64Array>()))
    });
}

/// `read` of what lies at the path in each text.
fn each<T>(
    texts: &ArrayRef,
    constants: &[&str],
    read: impl Fn(Option<std::borrow::Cow<'_, str>>) -> T,
) -> Result<Vec<T>> {
    let texts = texts.as_string_opt::<i32>().ok_or_else(|| not_text(texts))?;
    let steps = steps(constants.first().copied().unwrap_or_default())?;
    Ok(texts.iter().map(|text| read(text.and_then(|text| json::at(text, &steps)))).collect())
}

fn steps(path: &str) -> Result<Vec<Step>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    match path.parse::<Path>() {
        Ok(path) => Ok(path.0),
        Err(reason) => Err(DataFusionError::Execution(format!("the path `{path}`: {reason}"))),
    }
}

fn raw(json: &str) -> Option<&RawValue> {
    serde_json::from_str(json).ok()
}

fn text_of(json: &str) -> Option<String> {
    // Whole objects and lists need not be parsed to be seen as such.
    if json.starts_with(['{', '[']) {
        return None;
    }
    json::text(raw(json)?).map(std::borrow::Cow::into_owned)
}

fn string_of(json: &str) -> Option<String> {
    if !json.starts_with('"') {
        return None;
    }
    json::string(raw(json)?).map(std::borrow::Cow::into_owned)
}

fn one_or_many(json: &str, read: fn(&str) -> Option<String>) -> Option<Vec<String>> {
    match json::elements(json) {
        Some(elements) => Some(elements.into_iter().filter_map(|element| read(element.get())).collect()),
        None => read(json).map(|one| vec![one]),
    }
}

/// Whether JSON text holds `""`, `[]` or `{}`, whatever the space within.
fn is_empty(json: &str) -> bool {
    let within = |open, close| json.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    within('"', '"').is_some_and(str::is_empty)
        || within('[', ']').or_else(|| within('{', '}')).is_some_and(|inner| inner.trim_ascii().is_empty())
}
