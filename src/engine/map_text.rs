//! JSON objects as the text that Java writes for a map, which Elastic's CloudTrail integration indexes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray as _, StringArray};
use arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;

use super::functions::{not_text, register_text_function};
use crate::raw::json;

/// Registers `map_text(json)`: `{"a": 1, "b": ["c"]}` becomes `{a=1, b=[c]}`. Nulls and empty values are left out, and
/// the members have the order of the JSON.
pub(super) fn register(context: &SessionContext) {
    register_text_function(context, "map_text", 0, DataType::Utf8, |texts, _| {
        let texts = texts.as_string_opt::<i32>().ok_or_else(|| not_text(&texts))?;
        Ok(Arc::new(texts.iter().map(|json| json.and_then(map_text)).collect::<StringArray>()))
    });
}

/// Returns the text of JSON. `None` if it is null or empty.
fn map_text(json: &str) -> Option<Cow<'_, str>> {
    if let Some(members) = json::members(json) {
        let mut known = HashSet::new();
        let members = members.iter().filter(|(key, _)| known.insert(key.as_ref()));
        let members = members.filter_map(|(key, value)| Some(format!("{key}={}", map_text(value.get())?)));
        let members: Vec<String> = members.collect();
        return (!members.is_empty()).then(|| Cow::Owned(format!("{{{}}}", members.join(", "))));
    }
    if let Some(elements) = json::elements(json) {
        let elements: Vec<Cow<'_, str>> = elements.iter().filter_map(|element| map_text(element.get())).collect();
        return (!elements.is_empty()).then(|| Cow::Owned(format!("[{}]", elements.join(", "))));
    }
    let value: &serde_json::value::RawValue = serde_json::from_str(json).ok()?;
    json::text(value).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_written_as_java_writes_maps() {
        for (json, expected) in [
            (r#"{"a": 1, "b": ["c", {"d": true}], "e": "f, g"}"#, Some("{a=1, b=[c, {d=true}], e=f, g}")),
            (r#"{"a": null, "b": "", "c": [], "d": {"e": {}}, "f": [null, ""], "g": 1.50}"#, Some("{g=1.5}")),
            (r#"{"a": {"b": null}}"#, None),
            (r#"{"a": 1, "a": 2}"#, Some("{a=1}")),
            ("{}", None),
            ("null", None),
            (r#""a text""#, Some("a text")),
            ("[1, 2]", Some("[1, 2]")),
            ("7", Some("7")),
        ] {
            assert_eq!(map_text(json).as_deref(), expected, "{json}");
        }
    }
}
