//! The keys that the matches of rules had before a time, kept from night to night. With them a night does not read again the
//! history that decides which matches are new.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::state::{RunState, StateStore};
use super::version::version;
use crate::engine::Engine;
use crate::engine::seen_keys::{LastSeen, SeenKeys};
use crate::error::Error;
use crate::hunt::lookback_of;
use crate::hunt::seen::seen_keys;
use crate::lake::Lake;
use crate::rule::{Rule, Setting};
use crate::time::{Instant, Range, SECOND, as_micros};

/// How much later than others an event may arrive so that the next night reads nothing twice, in microseconds.
const LATENESS: i64 = 6 * 3_600 * SECOND;

/// Most keys of a rule that are kept. A rule with more reads its history each night.
const MAX_KEYS: usize = 1 << 20;

/// The file of the keys, as the state lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenFile {
    /// The file. Its name has a hash of its content.
    pub file: String,
    /// The time before which events are counted in.
    #[serde(with = "as_micros")]
    pub before: Instant,
    /// The version of each rule whose keys it has, by the id of the rule.
    pub rules: BTreeMap<String, String>,
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenLine {
    /// The id of the rule.
    rule: String,
    /// Its keys.
    #[serde(with = "as_base64")]
    keys: Arc<LastSeen>,
}

/// Keys as one text: 24 bytes for each, in Base64. The first 16 are the hash, and the others the time of the last match that has it, in
/// microseconds since the epoch, the lowest byte first.
mod as_base64 {
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::engine::seen_keys::{KeyHash, LastSeen};
    use crate::time::Instant;

    pub(super) fn serialize<S: Serializer>(keys: &LastSeen, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(24 * keys.len());
        for (KeyHash(hash), last) in keys.iter() {
            bytes.extend(hash);
            bytes.extend(last.micros().to_le_bytes());
        }
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<LastSeen>, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        let (keys, rest) = bytes.as_chunks::<24>();
        if !rest.is_empty() {
            return Err(D::Error::custom("the last key is cut off"));
        }
        let key = |bytes: &[u8; 24]| {
            let (hash, time) = bytes.split_first_chunk()?;
            Some((KeyHash(*hash), Instant::from_micros(i64::from_le_bytes(*time.first_chunk()?))))
        };
        Ok(Arc::new(keys.iter().filter_map(key).collect()))
    }
}

/// The keys of several rules before one time.
#[derive(Debug)]
pub(super) struct SeenIndex {
    before: Instant,
    /// The keys of each rule, by its id.
    rules: BTreeMap<String, Arc<LastSeen>>,
    /// Whether it differs from its file.
    is_changed: bool,
}

impl SeenIndex {
    /// Returns the keys of the rule `id`, if they are known.
    pub(super) fn keys(&self, id: &str) -> Option<SeenKeys> {
        Some(SeenKeys { before: self.before, last: Arc::clone(self.rules.get(id)?) })
    }
}

/// Reads and writes the keys of rules whose matches must be new.
pub(super) struct SeenHistory<'h> {
    engine: &'h Engine,
    lake: &'h Lake,
    store: &'h StateStore,
    rules: Vec<&'h Rule>,
}

impl<'h> SeenHistory<'h> {
    pub(super) fn new(engine: &'h Engine, lake: &'h Lake, store: &'h StateStore, rules: &'h [Rule]) -> SeenHistory<'h> {
        SeenHistory { engine, lake, store, rules: rules.iter().filter(|rule| rule.first_seen.is_some()).collect() }
    }

    /// Returns the keys that the run `last` left, with those of new events. `spans` are the times of these events. `None` if
    /// there are no keys, or if their file is lost or damaged.
    ///
    /// # Errors
    /// The file or the lake cannot be read.
    pub(super) async fn current(
        &self,
        last: &RunState,
        spans: &[(Instant, Instant)],
    ) -> Result<Option<SeenIndex>, Error> {
        let Some(file) = last.seen.as_ref().filter(|_| !self.rules.is_empty()) else {
            return Ok(None);
        };
        let Some(lines) = self.store.seen_lines(file).await? else {
            tracing::warn!(file = file.file, "the keys of earlier matches are lost; they are read again");
            return Ok(None);
        };
        let is_known = |rule: &&&Rule| file.rules.get(&rule.id).is_some_and(|known| *known == version(rule));
        let known: Vec<Rule> = self.rules.iter().filter(is_known).map(|rule| (*rule).clone()).collect();
        let mut rules: BTreeMap<String, Arc<LastSeen>> =
            known.iter().map(|rule| (rule.id.clone(), Arc::default())).collect();
        for SeenLine { rule, keys } in lines {
            if let Some(known) = rules.get_mut(&rule) {
                *known = keys;
            }
        }
        let mut index = SeenIndex { before: file.before, rules, is_changed: known.len() != file.rules.len() };
        for (first, last) in spans.iter().filter(|(first, _)| *first < file.before) {
            let range = Range { from: Some(*first), to: Some(file.before.min(*last + 1)) };
            self.add(&mut index, &known, range).await?;
        }
        Ok(Some(index))
    }

    /// Adds the keys of `rules` in `range` to the index.
    async fn add(&self, index: &mut SeenIndex, rules: &[Rule], range: Range) -> Result<(), Error> {
        if rules.is_empty() {
            return Ok(());
        }
        let found = seen_keys(self.engine, self.lake, rules, range).await?;
        for (rule, keys) in rules.iter().zip(found) {
            Arc::make_mut(index.rules.entry(rule.id.clone()).or_default()).add(keys);
        }
        index.is_changed = true;
        Ok(())
    }

    /// Moves the keys on to the events that the next night need not read, and returns their file.
    ///
    /// # Errors
    /// The lake cannot be read, or the file cannot be written.
    pub(super) async fn advanced(&self, index: Option<SeenIndex>, next: &RunState) -> Result<Option<SeenFile>, Error> {
        let settings: Vec<Setting> = self.rules.iter().map(|rule| rule.setting()).collect();
        let lookback = settings.iter().copied().map(lookback_of).max().unwrap_or_default();
        let newest = next.newest_event.map(|newest| next.now.map_or(newest, |now| newest.min(now)));
        let Some(newest) = newest.filter(|_| !self.rules.is_empty()) else {
            return Ok(None);
        };
        let target = newest - lookback - LATENESS;
        let mut index = index.unwrap_or(SeenIndex { before: target, rules: BTreeMap::new(), is_changed: true });
        let (known, missing): (Vec<&Rule>, Vec<&Rule>) =
            self.rules.iter().partition(|rule| index.rules.contains_key(&rule.id));
        let owned = |rules: Vec<&Rule>| rules.into_iter().cloned().collect::<Vec<Rule>>();
        if target > index.before {
            let range = Range { from: Some(index.before), to: Some(target) };
            index.before = target;
            self.add(&mut index, &owned(known), range).await?;
        }
        let history = |setting: &Setting| setting.newness.map_or(0, |newness| newness.history.micros());
        let longest = settings.iter().map(history).max().unwrap_or_default();
        let range = Range { from: Some(index.before - longest), to: Some(index.before) };
        self.add(&mut index, &owned(missing), range).await?;
        for (rule, setting) in self.rules.iter().zip(&settings) {
            if let Some(keys) = index.rules.get_mut(&rule.id) {
                Arc::make_mut(keys).forget_before(index.before - history(setting));
            }
        }
        index.rules.retain(|_, keys| keys.len() <= MAX_KEYS);
        if !index.is_changed {
            return Ok(next.seen.clone());
        }
        let is_in = |rule: &&&Rule| index.rules.contains_key(&rule.id);
        let rules = self.rules.iter().filter(is_in).map(|rule| (rule.id.clone(), version(rule))).collect();
        let lines = index.rules.iter().map(|(rule, keys)| SeenLine { rule: rule.clone(), keys: Arc::clone(keys) });
        let file = self.store.write_seen(next.run, lines).await?;
        Ok(Some(SeenFile { file, before: index.before, rules }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::seen_keys::KeyHash;

    #[test]
    fn a_line_has_the_keys_of_a_rule() {
        let key = |number: u8| (KeyHash([number; 16]), Instant::from_micros(i64::from(number) - 100));
        let line = SeenLine { rule: "My.Rule".to_owned(), keys: Arc::new((0..=u8::MAX).map(key).collect()) };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<SeenLine>(&text).unwrap(), line);
        for damaged in [text.replace("AAAA", "AA"), text.replace("AAAA", "AA*A"), text.replace("keys", "key")] {
            assert!(serde_json::from_str::<SeenLine>(&damaged).is_err(), "{damaged}");
        }
    }
}
