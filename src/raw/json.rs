//! Splitting JSON text without parsing what is inside.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// One member of a JSON object: its key and its value, unparsed.
pub type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// The members of the JSON object that `value` holds, in order; `None` where it holds anything else.
pub fn members(value: &str) -> Option<Vec<Member<'_>>> {
    if !value.starts_with('{') {
        return None;
    }
    serde_json::from_str::<Members<'_>>(value).ok().map(|members| members.0)
}

/// The string that `value` holds, unescaped; `None` where it holds anything else. An escaped lone
/// surrogate, which is no character, becomes U+FFFD.
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(value.get())
        .or_else(|_| {
            let lossy = serde_json::from_str::<LossyText>(value.get())?;
            Ok::<_, serde_json::Error>(lossy.0)
        })
        .ok()
        .map(Cow::Owned)
}

struct LossyText(String);

impl<'de> Deserialize<'de> for LossyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lossy;
        impl Visitor<'_> for Lossy {
            type Value = LossyText;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<LossyText, E> {
                Ok(LossyText(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Lossy)
    }
}

struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(28);
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A key, borrowed where it holds no escape.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// A value at the top of an object: its elements or members are split, their insides are only checked
/// to be JSON.
pub(super) enum Top<'a> {
    /// An array's elements.
    List(Vec<&'a RawValue>),
    /// An envelope: the elements of the list it holds, and its other members.
    Envelope {
        /// The elements of `Records`, `Events` or `logEvents`.
        list: Vec<&'a RawValue>,
        /// The members beside the list.
        beside: Vec<Member<'a>>,
    },
    /// Any other object.
    Object(Vec<Member<'a>>),
}

impl<'de> Deserialize<'de> for Top<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Split;
        impl<'de> Visitor<'de> for Split {
            type Value = Top<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object or an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Top<'de>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Top::List(elements))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
                let mut members = Vec::with_capacity(28);
                let mut list: Option<Vec<&RawValue>> = None;
                while let Some(Key(key)) = map.next_key()? {
                    if matches!(key.as_ref(), "Records" | "Events" | "logEvents") {
                        list.get_or_insert_default().append(&mut map.next_value()?);
                    } else {
                        members.push((key, map.next_value()?));
                    }
                }
                Ok(match list {
                    Some(list) => Top::Envelope { list, beside: members },
                    None => Top::Object(members),
                })
            }
        }
        deserializer.deserialize_any(Split)
    }
}
