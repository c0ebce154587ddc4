//! Builds column batches from records.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;
use arrow::array::{
    ArrayBuilder as _, ArrayRef, BooleanBuilder, Int16Builder, RecordBatch, RecordBatchOptions, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    ColumnKind, EVENT_ID, EVENT_NAME, EVENT_TIME, HASHED_IDENTITY, HOT, ISSUED_KEYS, ISSUING_CALLS, SEARCH_HASHES,
    TOP_LEVEL, search_hash,
};
use crate::raw::envelope::Record;
use crate::raw::json::{self, Member};
use crate::store::hex;
use crate::time::{self, Instant};

/// The start of the identity of a record without an `eventID`.
pub const CONTENT_ID_PREFIX: &str = "sha256:";

/// The values of a column.
enum ColumnValues {
    /// The column is not wanted.
    Unwanted,
    Text(StringBuilder),
    Flag(BooleanBuilder),
}

/// Builds a batch of columns of [`super::schema`] from records.
pub struct BatchBuilder {
    /// The indexes of the wanted columns in [`super::schema`].
    wanted: Vec<usize>,
    schema: SchemaRef,
    time: Option<TimestampMicrosecondBuilder>,
    top: Vec<ColumnValues>,
    hot: Vec<ColumnValues>,
    time_text: ColumnValues,
    content_id: ColumnValues,
    other_fields: ColumnValues,
    /// Builders of the columns of [`SEARCH_HASHES`].
    hashes: Vec<Option<Int16Builder>>,
    rows: usize,
    json_bytes: usize,
}

/// The time of a record that was added to a [`BatchBuilder`], and whether it repeats a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedRecord {
    /// Its time. `None` if the time is missing or cannot be read.
    pub time: Option<Instant>,
    /// Whether it had a top-level key twice.
    pub has_repeated_key: bool,
}

/// Returns a builder for a text column of few records. It grows with more.
fn text_column() -> ColumnValues {
    ColumnValues::Text(StringBuilder::with_capacity(64, 1 << 10))
}

impl ColumnValues {
    fn is_wanted(&self) -> bool {
        !matches!(self, ColumnValues::Unwanted)
    }

    /// Appends a text to a text column.
    fn append_text(&mut self, text: Option<&str>) {
        if let ColumnValues::Text(column) = self {
            column.append_option(text);
        }
    }

    fn append_null(&mut self) {
        match self {
            ColumnValues::Unwanted => {}
            ColumnValues::Text(column) => column.append_null(),
            ColumnValues::Flag(column) => column.append_null(),
        }
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        match self {
            ColumnValues::Unwanted => None,
            ColumnValues::Text(column) => {
                // The next batch is likely to be as large. Growing to that size would copy it.
                let (rows, bytes) = (column.len(), column.values_slice().len());
                let next = StringBuilder::with_capacity(rows + rows / 8, bytes + bytes / 8);
                Some(Arc::new(std::mem::replace(column, next).finish()))
            }
            ColumnValues::Flag(column) => Some(Arc::new(column.finish())),
        }
    }
}

impl Default for BatchBuilder {
    /// Returns a builder of all columns.
    fn default() -> Self {
        BatchBuilder::new(super::schema())
    }
}

impl BatchBuilder {
    /// Returns a builder of batches of `schema`, which has columns of [`super::schema`] in any order.
    pub fn new(schema: SchemaRef) -> BatchBuilder {
        let all = super::schema();
        let wanted: Vec<usize> = schema.fields().iter().filter_map(|field| all.index_of(field.name()).ok()).collect();
        let mut is_wanted = vec![false; all.fields().len()];
        for index in &wanted {
            is_wanted[*index] = true;
        }
        let mut is_wanted = is_wanted.into_iter();
        let mut next = |kind| match kind {
            _ if is_wanted.next() != Some(true) => ColumnValues::Unwanted,
            ColumnKind::Text | ColumnKind::Json => text_column(),
            ColumnKind::Flag => ColumnValues::Flag(BooleanBuilder::new()),
        };
        // In the order of the schema.
        let time = next(ColumnKind::Text).is_wanted();
        BatchBuilder {
            time: time.then(|| TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            top: TOP_LEVEL.iter().map(|(_, kind)| next(*kind)).collect(),
            hot: HOT.iter().map(|_| next(ColumnKind::Text)).collect(),
            time_text: next(ColumnKind::Text),
            content_id: next(ColumnKind::Text),
            other_fields: next(ColumnKind::Text),
            hashes: SEARCH_HASHES.iter().map(|_| next(ColumnKind::Text).is_wanted().then(Int16Builder::new)).collect(),
            wanted,
            schema,
            rows: 0,
            json_bytes: 0,
        }
    }

    /// Returns the number of records added since the last [`BatchBuilder::finish`].
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns whether no record was added since the last [`BatchBuilder::finish`].
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns the size of the text of these records, in bytes.
    pub fn json_bytes(&self) -> usize {
        self.json_bytes
    }

    /// Adds a record. If all columns are wanted, nothing of it is lost: a member without a column, or with a value that
    /// does not fit its column, goes to `otherFields`. The first value of a repeated key counts.
    pub fn push(&mut self, record: &Record<'_>) -> AddedRecord {
        let Placed { time, top, mut others, repeated } = Placed::new(&record.members);

        let time_text = time.and_then(|(member, value)| {
            let text = json::string(value);
            if text.is_none() && value.get() != "null" {
                others.push(member);
            }
            text
        });
        let instant = time_text.as_deref().and_then(time::parse_event_time);
        if let Some(time) = &mut self.time {
            time.append_option(instant.map(Instant::micros));
        }
        if self.time_text.is_wanted() {
            // CloudTrail's own spelling can be restored from a valid time.
            let odd_spelling = time_text.as_deref().filter(|text| instant.is_none() || !time::is_canonical(text));
            self.time_text.append_text(odd_spelling);
        }

        let others_are_wanted = self.other_fields.is_wanted();
        let mut has_id = false;
        for (((name, kind), column), found) in TOP_LEVEL.iter().zip(&mut self.top).zip(&top) {
            let Some((member, value)) = found.filter(|(_, value)| value.get() != "null") else {
                column.append_null();
                continue;
            };
            if !(column.is_wanted() || others_are_wanted || *name == EVENT_ID) {
                continue;
            }
            let fits = match kind {
                ColumnKind::Json => {
                    column.append_text(Some(value.get()));
                    true
                }
                ColumnKind::Text => {
                    let text = json::text(value).filter(|text| *name != EVENT_ID || !text.is_empty());
                    has_id |= *name == EVENT_ID && text.is_some();
                    column.append_text(text.as_deref());
                    text.is_some_and(|text| value.get().starts_with('"') || text == value.get())
                }
                ColumnKind::Flag => {
                    let flag = flag(value);
                    if let ColumnValues::Flag(column) = column {
                        column.append_option(flag);
                    }
                    flag.is_some()
                }
            };
            if !fits {
                others.push(member);
            }
        }
        if self.content_id.is_wanted() {
            self.content_id.append_text((!has_id).then(|| content_id(record.text)).as_deref());
        }

        // The value that was split last, and its members.
        let mut split: Option<(&str, Option<Vec<Member<'_>>>)> = None;
        let (identity_hashes, issued_hash) = self.hashes.split_at_mut(HASHED_IDENTITY.len());
        if let [Some(column)] = issued_hash {
            let value = |column: Option<usize>| column.and_then(|column| top[column]).map(|(_, value)| value);
            let name = value(*NAME).and_then(json::text);
            column.append_option(issued_key_hash(name.as_deref(), value(*RESPONSE).map(RawValue::get)));
        }
        if identity_hashes.iter().any(Option::is_some) {
            // The promoted paths below `userIdentity`, which come next, need its members too.
            let identity = IDENTITY.and_then(|column| top[column]).map(|(_, value)| value.get());
            split = identity.map(|value| (value, json::members(value)));
            let members = split.as_ref().and_then(|(_, members)| members.as_deref());
            for (key, column) in HASHED_IDENTITY.iter().zip(identity_hashes) {
                if let Some(column) = column {
                    let text = members.and_then(|members| json::text(json::find(members, key)?));
                    column.append_value(search_hash(&text.unwrap_or_default()));
                }
            }
        }
        for ((hot, (_, _, path)), column) in hot().iter().zip(HOT).zip(&mut self.hot) {
            if !column.is_wanted() {
                continue;
            }
            let leaf = top[hot.column].and_then(|(_, value)| {
                let value = value.get();
                if split.as_ref().is_none_or(|(known, _)| !std::ptr::eq(*known, value)) {
                    if !hot.words.is_match(value) {
                        return None;
                    }
                    split = Some((value, json::members(value)));
                }
                split.as_ref().and_then(|(_, members)| json::string(value_below(members.as_deref()?, path)?))
            });
            column.append_text(leaf.as_deref());
        }
        if others_are_wanted {
            self.other_fields.append_text(object_text(&others).as_deref());
        }
        self.rows += 1;
        self.json_bytes += record.text.len();
        AddedRecord { time: instant, has_repeated_key: repeated }
    }

    /// Returns the records as a batch and empties the builder.
    ///
    /// # Errors
    /// The schema has other columns than those of [`super::schema`].
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.json_bytes) = (0, 0);
        let time = self.time.as_mut().map(|time| Arc::new(time.finish()) as ArrayRef);
        let texts = [&mut self.time_text, &mut self.content_id, &mut self.other_fields];
        let others = self.top.iter_mut().chain(&mut self.hot).chain(texts).map(ColumnValues::finish);
        let hashes =
            self.hashes.iter_mut().map(|column| column.as_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        let mut columns: Vec<Option<ArrayRef>> = std::iter::once(time).chain(others).chain(hashes).collect();
        let columns = self.wanted.iter().filter_map(|index| columns[*index].take()).collect();
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
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
            let column = top_level(json)?;
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

/// The indexes in [`TOP_LEVEL`] of the columns from which hashes are made.
static IDENTITY: LazyLock<Option<usize>> = LazyLock::new(|| top_level("userIdentity"));
static NAME: LazyLock<Option<usize>> = LazyLock::new(|| top_level(EVENT_NAME));
static RESPONSE: LazyLock<Option<usize>> = LazyLock::new(|| top_level("responseElements"));

fn top_level(column: &str) -> Option<usize> {
    TOP_LEVEL.iter().position(|(name, _)| *name == column)
}

/// Returns the [`search_hash`] of the access key that a call issued, given its `eventName` and `responseElements`: that of an empty text
/// if there is no key. `None` if there are several, or if the call is not known to issue any, so that a search reads the record.
fn issued_key_hash(name: Option<&str>, response: Option<&str>) -> Option<i16> {
    static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        let words = ISSUED_KEYS.iter().filter_map(|path| path.last().copied()).chain(["\\u"]);
        AhoCorasick::builder().ascii_case_insensitive(true).build(words).ok()
    });
    let may_issue = |response: &&str| WORDS.as_ref().is_none_or(|words| words.is_match(*response));
    let mut key = Cow::Borrowed("");
    if let Some(response) = response.filter(may_issue) {
        let members = json::members(response)?;
        for path in ISSUED_KEYS {
            let found = value_below(&members, &path).and_then(json::text).unwrap_or_default();
            if found.is_empty() || found == key {
                continue;
            }
            if !key.is_empty() || name.is_none_or(|name| !ISSUING_CALLS.contains(&name)) {
                return None;
            }
            key = found;
        }
    }
    Some(search_hash(&key))
}

fn value_below<'a>(members: &[Member<'a>], path: &[&str]) -> Option<&'a RawValue> {
    let (key, rest) = path.split_first()?;
    let value = json::find(members, key)?;
    if rest.is_empty() { Some(value) } else { value_below(&json::members(value.get())?, rest) }
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
    format!("{CONTENT_ID_PREFIX}{}", hex(&Sha256::digest(text.as_bytes())[..16]))
}
