//! Functions that read JSON text at a path, in the notation of [`crate::path::Path`].

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanBuilder, Float64Array, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use serde_json::value::RawValue;

use super::functions::{not_text, register_text_function};
use crate::path::{Path, Step};
use crate::raw::json;

pub(super) fn register(context: &SessionContext) {
    let text = |name, read: for<'a> fn(&'a str) -> Option<Cow<'a, str>>| {
        register_text_function(context, name, 1, DataType::Utf8, move |texts, constants| {
            let mut found = StringBuilder::with_capacity(texts.len(), 0);
            for_each(&texts, constants, |json| {
                found.append_option(json.as_deref().and_then(read));
            })?;
            Ok(Arc::new(found.finish()))
        });
    };
    text("json_at", |json| Some(Cow::Borrowed(json)));
    text("text_at", text_of);
    text("string_at", string_of);
    text("value_at", |json| Some(text_of(json).unwrap_or(Cow::Borrowed(json))));

    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    let list = |name, read: fn(&str) -> Option<Vec<String>>| {
        let returns = DataType::List(Arc::clone(&item));
        register_text_function(context, name, 1, returns, move |texts, constants| {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for_each(&texts, constants, |json| {
                lists.append_option(json.as_deref().and_then(read).map(|elements| elements.into_iter().map(Some)));
            })?;
            Ok(Arc::new(lists.finish()))
        });
    };
    list("texts_at", |json| one_or_many(json, text_of));
    list("strings_at", |json| one_or_many(json, string_of));
    list("elements_at", |json| {
        Some(json::elements(json)?.into_iter().map(|element| element.get().to_owned()).collect())
    });

    register_text_function(context, "is_filled_at", 1, DataType::Boolean, |texts, constants| {
        let mut filled = BooleanBuilder::with_capacity(texts.len());
        for_each(&texts, constants, |json| filled.append_value(json.is_some_and(|json| !is_empty(&json))))?;
        Ok(Arc::new(filled.finish()))
    });
    register_text_function(context, "number", 0, DataType::Float64, |texts, _| {
        let texts = texts.as_string_opt::<i32>().ok_or_else(|| not_text(&texts))?;
        let number = |text: &str| json::number(text)?.parse::<f64>().ok();
        Ok(Arc::new(texts.iter().map(|text| text.and_then(number)).collect::<Float64Array>()))
    });
}

/// Calls `take` with the JSON at the path in each text.
fn for_each(texts: &ArrayRef, constants: &[&str], take: impl FnMut(Option<Cow<'_, str>>)) -> Result<()> {
    let texts = texts.as_string_opt::<i32>().ok_or_else(|| not_text(texts))?;
    let steps = steps(constants.first().copied().unwrap_or_default())?;
    texts.iter().map(|text| text.and_then(|text| json::at(text, &steps))).for_each(take);
    Ok(())
}

fn steps(path: &str) -> Result<Vec<Step>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    match Path::of_sql(path) {
        Ok(path) => Ok(path.0),
        Err(reason) => Err(DataFusionError::Execution(format!("the path `{path}`: {reason}"))),
    }
}

fn raw(json: &str) -> Option<&RawValue> {
    serde_json::from_str(json).ok()
}

fn text_of(json: &str) -> Option<Cow<'_, str>> {
    // The first character shows an object or list, without parsing it.
    if json.starts_with(['{', '[']) {
        return None;
    }
    json::text(raw(json)?)
}

fn string_of(json: &str) -> Option<Cow<'_, str>> {
    if !json.starts_with('"') {
        return None;
    }
    json::string(raw(json)?)
}

fn one_or_many(json: &str, read: for<'a> fn(&'a str) -> Option<Cow<'a, str>>) -> Option<Vec<String>> {
    let read = |json| read(json).map(Cow::into_owned);
    match json::elements(json) {
        Some(elements) => Some(elements.into_iter().filter_map(|element| read(element.get())).collect()),
        None => read(json).map(|one| vec![one]),
    }
}

/// Whether JSON text is `""`, `[]` or `{}`, with or without spaces between the brackets.
fn is_empty(json: &str) -> bool {
    let within = |open, close| json.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    within('"', '"').is_some_and(str::is_empty)
        || within('[', ']').or_else(|| within('{', '}')).is_some_and(|inner| inner.trim_ascii().is_empty())
}
