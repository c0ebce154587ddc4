//! The JSON of an event, for Python rules.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::raw::json;

/// A JSON value. Objects keep the order of their members.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without a point or an exponent.
    Int(i128),
    /// Another number.
    Float(f64),
    /// A string.
    Text(Arc<str>),
    /// A list.
    List(Arc<Vec<Json>>),
    /// An object.
    Object(Arc<JsonObject>),
}

/// A JSON object. Of equal keys the first counts, as everywhere in this program.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JsonObject {
    /// Its members, in order.
    pub members: Vec<(Arc<str>, Json)>,
}

impl JsonObject {
    /// Returns the value of a key, else that of the first key that differs in case only.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.get_exact(key).or_else(|| {
            let lower = key.to_lowercase();
            self.members.iter().find(|(known, _)| known.to_lowercase() == lower).map(|(_, value)| value)
        })
    }

    /// Returns the value of a key in this case.
    pub fn get_exact(&self, key: &str) -> Option<&Json> {
        self.members.iter().find(|(known, _)| **known == *key).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Int(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Json::List(Arc::new(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members: Vec<(Arc<str>, Json)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Json>()? {
            members.push((key.into(), value));
        }
        Ok(Json::object(members))
    }
}

impl Json {
    /// Reads JSON text. `None` if it is not JSON, or too deep.
    pub fn parse(text: &str) -> Option<Json> {
        if has_long_number(text) {
            return Json::of_raw(serde_json::from_str(text).ok()?);
        }
        // Text with an escaped lone surrogate, which is not a character.
        serde_json::from_str(text).ok().or_else(|| Json::of_raw(serde_json::from_str(text).ok()?))
    }

    /// Reads JSON by its parts, which keeps numbers that the parser rounds.
    fn of_raw(raw: &RawValue) -> Option<Json> {
        let text = raw.get();
        Some(match text.as_bytes().first()? {
            b'{' => {
                let mut members: Vec<(Arc<str>, Json)> = Vec::new();
                for (key, value) in json::members(text)? {
                    members.push((key.as_ref().into(), Json::of_raw(value)?));
                }
                Json::object(members)
            }
            b'[' => {
                let elements = json::elements(text)?.into_iter().map(Json::of_raw);
                Json::List(Arc::new(elements.collect::<Option<_>>()?))
            }
            b'"' => Json::Text(json::string(raw)?.as_ref().into()),
            _ => match text.parse::<i128>() {
                Ok(number) if !text.contains(['.', 'e', 'E']) => Json::Int(number),
                _ => serde_json::from_str(text).ok()?,
            },
        })
    }

    fn object(mut members: Vec<(Arc<str>, Json)>) -> Json {
        if members.len() > 1 {
            let mut seen = HashSet::with_capacity(members.len());
            members.retain(|(key, _)| seen.insert(Arc::clone(key)));
        }
        Json::Object(Arc::new(JsonObject { members }))
    }
}

/// Digits of the largest number of 64 bits.
const DIGITS: usize = 19;

/// Whether the text has more digits in a row than a number of 64 bits. In a string they do no harm.
fn has_long_number(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= DIGITS)
}
