//! The keys that the matches of rules had before a time, kept from night to night. With them a night does not read again the
//! history that decides which matches are new.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::state::{RunState, StateStore};
use super::version::version;
use crate::engine::Engine;
use crate::error::Error;
use crate::hunt::lookback_of;
use crate::hunt::seen::{LastSeen, SeenKey, SeenKeys, add_seen, seen_keys};
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
    /// The values of the rule's group, then those of `New`.
    key: SeenKey,
    /// The time of the last match that has them.
    #[serde(with = "as_micros")]
    last: Instant,
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
        let mut rules: BTreeMap<String, LastSeen> =
            known.iter().map(|rule| (rule.id.clone(), LastSeen::new())).collect();
        for line in lines {
            if let Some(keys) = rules.get_mut(&line.rule) {
                keys.insert(line.key, line.last);
            }
        }
        let rules = rules.into_iter().map(|(id, keys)| (id, Arc::new(keys))).collect();
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
            add_seen(Arc::make_mut(index.rules.entry(rule.id.clone()).or_default()), keys);
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
                Arc::make_mut(keys).retain(|_, last| *last >= index.before - history(setting));
            }
        }
        index.rules.retain(|_, keys| keys.len() <= MAX_KEYS);
        if !index.is_changed {
            return Ok(next.seen.clone());
        }
        let is_in = |rule: &&&Rule| index.rules.contains_key(&rule.id);
        let rules = self.rules.iter().filter(is_in).map(|rule| (rule.id.clone(), version(rule))).collect();
        let lines = index.rules.iter().flat_map(|(rule, keys)| {
            keys.iter().map(|(key, last)| SeenLine { rule: rule.clone(), key: key.clone(), last: *last })
        });
        let file = self.store.write_seen(next.run, lines).await?;
        Ok(Some(SeenFile { file, before: index.before, rules }))
    }
}
