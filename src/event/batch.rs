//! Builds column batches from records.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;
use arrow::array::{ArrayRef, BooleanBuilder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::error::ArrowError;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{ColumnKind, EVENT_ID, EVENT_TIME, HOT, TOP_LEVEL};
use crate::raw::envelope::Record;
use crate::raw::json::{self, Member};
use crate::store::hex;
use crate::time::{self, Instant};

enum ColumnValues {
    Text(StringBuilder),
    Flag(BooleanBuilder),
}

/// Builds a batch of [`super::schema`] from records.
pub struct BatchBuilder {
    time: TimestampMicrosecondBuilder,
    top: Vec<ColumnValues>,
    hot: Vec<StringBuilder>,
    time_text: StringBuilder,
    content_id: StringBuilder,
    other_fields: StringBuilder,
    rows: usize,
    repeated_keys: u64,
}

/// Returns a builder for a text column of few records. It grows with more.
fn text_column() -> StringBuilder {
    StringBuilder::with_capacity(64, 1 << 10)
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder {
            time: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            top: TOP_LEVEL
                .iter()
                .map(|(_, kind)| match kind {
                    ColumnKind::Text | ColumnKind::Json => ColumnValues::Text(text_column()),
                    ColumnKind::Flag => ColumnValues::Flag(BooleanBuilder::new()),
                })
                .collect(),
            hot: HOT.iter().map(|_| text_column()).collect(),
            time_text: text_column(),
            content_id: text_column(),
            other_fields: text_column(),
            rows: 0,
            repeated_keys: 0,
        }
    }
}

impl BatchBuilder {
    /// Returns the number of records added since the last [`BatchBuilder::finish`].
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns whether no record was added.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a record. Nothing of it is lost: a member without a column, or with a value that does not fit its column,
    /// goes to `otherFields`. The first value of a repeated key counts.
    pub fn push(&mut self, record: &Record<'_>) {
        let Placed { time, top, mut others, repeated } = Placed::new(&record.members);
        self.repeated_keys += u64::from(repeated);

        let time_text = time.and_then(|(member, value)| {
            let text = json::string(value);
            if text.is_none() && value.get() != "null" {
                others.push(member);
            }
            text
        });
        let instant = time_text.as_deref().and_then(time::parse_event_time);
        self.time.append_option(instant.map(Instant::micros));
        // CloudTrail's own spelling can be restored from a valid time.
        let odd_spelling = time_text.as_deref().filter(|text| instant.is_none() || !time::is_canonical(text));
        self.time_text.append_option(odd_spelling);

        let mut has_id = false;
        for (((name, kind), column), found) in TOP_LEVEL.iter().zip(&mut self.top).zip(&top) {
            let Some((member, value)) = found.filter(|(_, value)| value.get() != "null") else {
                match column {
                    ColumnValues::Text(column) => column.append_null(),
                    ColumnValues::Flag(column) => column.append_null(),
                }
                continue;
            };
            let fits = match (column, kind) {
                (ColumnValues::Text(column), ColumnKind::Json) => {
                    column.append_value(value.get());
                    true
                }
                (ColumnValues::Text(column), _) => {
                    let text = json::text(value).filter(|text| *name != EVENT_ID || !text.is_empty());
                    has_id |= *name == EVENT_ID && text.is_some();
                    column.append_option(text.as_deref());
                    text.is_some_and(|text| value.get().starts_with('"') || text == value.get())
                }
                (ColumnValues::Flag(column), _) => {
                    let flag = flag(value);
                    column.append_option(flag);
                    flag.is_some()
                }
            };
            if !fits {
                others.push(member);
            }
        }
        self.content_id.append_option((!has_id).then(|| content_id(record.text)));

        // The value that was split last, and its members.
        let mut split: Option<(&str, Option<Vec<Member<'_>>>)> = None;
        for ((hot, (_, _, path)), builder) in hot().iter().zip(HOT).zip(&mut self.hot) {
            let leaf = top[hot.column].and_then(|(_, value)| {
                let value = value.get();
                if split.as_ref().is_none_or(|(known, _)| !std::ptr::eq(*known, value)) {
                    if !hot.words.is_match(value) {
                        return None;
                    }
                    split = Some((value, json::members(value)));
                }
                split.as_ref().and_then(|(_, members)| string_below(members.as_deref()?, path))
            });
            builder.append_option(leaf.as_deref());
        }
        self.other_fields.append_option(object_text(&others));
        self.rows += 1;
    }

    /// Returns how many records had a top-level key twice.
    pub fn repeated_keys(&self) -> u64 {
        self.repeated_keys
    }

    /// Returns the records as a batch and empties the builder.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.time.finish())];
        for column in &mut self.top {
            columns.push(match column {
                ColumnValues::Text(column) => Arc::new(column.finish()),
                ColumnValues::Flag(column) => Arc::new(column.finish()),
            });
        }
        let texts = [&mut self.time_text, &mut self.content_id, &mut self.other_fields];
        for column in self.hot.iter_mut().chain(texts) {
            columns.push(Arc::new(column.finish()));
        }
        RecordBatch::try_new(super::schema(), columns)
    }
}

type FoundMember<'m, 'a> = Option<(&'m Member<'a>, &'a RawValue)>;

/// A record's members by the column they go to.
struct Placed<'m, 'a> {
    time: FoundMember<'m, 'a>,
    top: Vec<FoundMember<'m, 'a>>,
    others: Vec<&'m Member<'a>>,
    repeated: bool,
}

impl<'m, 'a> Placed<'m, 'a> {
    fn new(members: &'m [Member<'a>]) -> Self {
        let mut placed = Placed { time: None, top: vec![None; TOP_LEVEL.len()], others: Vec::new(), repeated: false };
        let mut unknown = Vec::new();
        let mut expected = 0;
        for member in members {
            let key = member.0.as_ref();
            // Records list their members in much the same order as TOP_LEVEL does.
            let slot = (expected..TOP_LEVEL.len()).chain(0..expected).find(|index| TOP_LEVEL[*index].0 == key);
            match slot {
                Some(index) => {
                    expected = index + 1;
                    placed.set(Some(index), member);
                }
                None if key == EVENT_TIME => placed.set(None, member),
                None => unknown.push(member),
            }
        }
        for member in unknown {
            placed.place_other_case(member);
        }
        placed
    }

    fn set(&mut self, index: Option<usize>, member: &'m Member<'a>) {
        let slot = index.map_or(&mut self.time, |index| &mut self.top[index]);
        if slot.is_some() {
            self.repeated = true;
            self.others.push(member);
        } else {
            *slot = Some((member, member.1));
        }
    }

    /// A key that differs from a field's name only in case stands for that field, unless the exact key is there too.
    fn place_other_case(&mut self, member: &'m Member<'a>) {
        let key = member.0.as_ref();
        let index = TOP_LEVEL.iter().position(|(name, _)| name.eq_ignore_ascii_case(key));
        let free = match index {
            Some(index) => self.top[index].is_none(),
            None => key.eq_ignore_ascii_case(EVENT_TIME) && self.time.is_none(),
        };
        if free {
            self.set(index, member);
        } else {
            self.others.push(member);
        }
    }
}

/// A boolean, also where it is spelt as a string.
fn flag(value: &RawValue) -> Option<bool> {
    let text = json::text(value)?;
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A promoted path, prepared for the search.
struct PromotedPath {
    /// The index of its JSON column in [`TOP_LEVEL`].
    column: usize,
    /// Finds the path's last key in any case, or an escape that may hide it. JSON text without a match has no value
    /// at the path.
    words: AhoCorasick,
}

/// The search of each path in [`HOT`].
fn hot() -> &'static [PromotedPath] {
    static PATHS: LazyLock<Vec<PromotedPath>> = LazyLock::new(|| {
        let one = |(_, json, path): &(&str, &str, &[&str])| {
            let column = TOP_LEVEL.iter().position(|(name, _)| name == json)?;
            let words = [path.last().copied()?, "\\u"];
            let words = AhoCorasick::builder().ascii_case_insensitive(true).build(words).ok()?;
            Some(PromotedPath { column, words })
        };
        let paths: Vec<PromotedPath> = HOT.iter().filter_map(one).collect();
        assert!(paths.len() == HOT.len(), "each hot path lies below a column");
        paths
    });
    &PATHS
}

fn string_below<'a>(members: &[Member<'a>], path: &[&str]) -> Option<Cow<'a, str>> {
    let (key, rest) = path.split_first()?;
    let value = json::find(members, key)?;
    if rest.is_empty() {
        return json::string(value);
    }
    string_below(&json::members(value.get())?, rest)
}

fn object_text(members: &[&Member<'_>]) -> Option<String> {
    if members.is_empty() {
        return None;
    }
    let pairs = members.iter().map(|(key, value)| {
        let key = serde_json::Value::from(key.as_ref());
        format!("{key}:{}", value.get())
    });
    Some(format!("{{{}}}", pairs.collect::<Vec<_>>().join(",")))
}

/// The identity of a record without an `eventID`.
fn content_id(text: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(text.as_bytes())[..16]))
}
