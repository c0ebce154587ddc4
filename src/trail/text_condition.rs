//! Conditions that decide by the text of a record whether it may match, before it is parsed.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use crate::event::address::Class;
use crate::raw::{MemberKeys, MemberString, MemberTexts, json};

/// A condition on a record that is tested on its text. It holds for every match of a rule, and for other records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextCondition {
    /// A condition that text cannot decide.
    #[default]
    Unknown,
    /// All hold.
    All(Vec<TextCondition>),
    /// At least one holds.
    Any(Vec<TextCondition>),
    /// None holds.
    None(Vec<TextCondition>),
    /// A test of a top-level member with a text column.
    Member {
        /// The key of the member.
        key: String,
        /// The test.
        test: MemberTest,
        /// Whether the member must *not* pass the test.
        negated: bool,
    },
    /// A condition that only text with one of these words can satisfy.
    Words {
        /// The key of the top-level member whose text contains the word. `None` if any part of the record may.
        key: Option<String>,
        /// The words.
        words: Vec<String>,
    },
}

/// A test of a member's text. A member that is missing or null fails it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberTest {
    /// It is there.
    Present,
    /// It is not empty.
    Filled,
    /// It is one of these texts.
    OneOf(BTreeSet<String>),
    /// It is an address of this class.
    Address(Class),
    /// A comparison with a text.
    Compared {
        /// The comparison.
        comparison: TextComparison,
        /// The text.
        with: String,
        /// Whether case is ignored. Then the text is in lower case.
        ignore_case: bool,
    },
}

/// How a member's text compares with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum TextComparison {
    Equals,
    StartsWith,
    EndsWith,
    Contains,
}

impl TextCondition {
    /// Returns the condition that fails if this one fails, and otherwise is unknown.
    #[must_use]
    pub fn at_most(self) -> TextCondition {
        TextCondition::All(vec![self, TextCondition::Unknown])
    }

    /// Returns an equal condition in which no part of [`TextCondition::All`] is another one, or unknown.
    pub(super) fn simplified(self) -> TextCondition {
        let TextCondition::All(parts) = self else { return self };
        let mut known = Vec::with_capacity(parts.len());
        for part in parts {
            match part.simplified() {
                TextCondition::All(parts) => known.extend(parts),
                TextCondition::Unknown => {}
                part => known.push(part),
            }
        }
        TextCondition::All(known)
    }

    /// Returns whether it fails for some records.
    pub(super) fn can_fail(&self) -> bool {
        match self {
            TextCondition::Unknown => false,
            TextCondition::All(parts) => parts.iter().any(TextCondition::can_fail),
            TextCondition::Any(parts) => parts.iter().all(TextCondition::can_fail),
            TextCondition::None(parts) => parts.iter().any(TextCondition::can_hold),
            TextCondition::Member { .. } | TextCondition::Words { .. } => true,
        }
    }

    /// Returns whether text shows for some records that it holds.
    fn can_hold(&self) -> bool {
        match self {
            TextCondition::Unknown | TextCondition::Words { .. } => false,
            TextCondition::All(parts) => parts.iter().all(TextCondition::can_hold),
            TextCondition::Any(parts) => parts.iter().any(TextCondition::can_hold),
            TextCondition::None(parts) => parts.iter().all(TextCondition::can_fail),
            TextCondition::Member { .. } => true,
        }
    }

    /// Returns words that the JSON text of every match contains: for each clause, at least one of its words. JSON text
    /// can spell their characters differently only by the escapes of [`crate::raw::hides_characters`]. Empty if nothing
    /// is known.
    pub fn words(&self) -> Vec<Vec<String>> {
        let clause = match self {
            TextCondition::All(all) => return all.iter().flat_map(TextCondition::words).collect(),
            TextCondition::Any(any) => {
                let shortest = |clause: &Vec<String>| clause.iter().map(String::len).min();
                let best = |branch: &TextCondition| branch.words().into_iter().max_by_key(shortest);
                any.iter().map(best).collect::<Option<Vec<_>>>().map(|clauses| clauses.concat())
            }
            TextCondition::Member { test, negated: false, .. } => test.words(),
            TextCondition::Words { words, .. } => Some(words.clone()),
            TextCondition::Unknown | TextCondition::None(_) | TextCondition::Member { negated: true, .. } => None,
        };
        clause.filter(|words| !words.is_empty()).into_iter().collect()
    }

    /// Returns the values that the member `key` of a match may have. `None` if nothing is known.
    pub fn values_of(&self, key: &str) -> Option<BTreeSet<&str>> {
        match self {
            TextCondition::All(all) => all.iter().filter_map(|part| part.values_of(key)).min_by_key(BTreeSet::len),
            TextCondition::Any(any) => {
                let branches = any.iter().map(|part| part.values_of(key)).collect::<Option<Vec<_>>>()?;
                Some(branches.into_iter().flatten().collect())
            }
            TextCondition::Member { key: own, test: MemberTest::OneOf(values), negated: false } if own == key => {
                Some(values.iter().map(String::as_str).collect())
            }
            _ => None,
        }
    }

    /// Adds the keys of the members that it tests.
    pub(super) fn keys<'c>(&'c self, keys: &mut BTreeSet<&'c str>) {
        match self {
            TextCondition::All(parts) | TextCondition::Any(parts) | TextCondition::None(parts) => {
                for part in parts {
                    part.keys(keys);
                }
            }
            TextCondition::Member { key, .. } | TextCondition::Words { key: Some(key), .. } => {
                keys.insert(key);
            }
            TextCondition::Unknown | TextCondition::Words { key: None, .. } => {}
        }
    }
}

/// Up to this many texts, comparing one after another is faster than a search by order.
const FEW: usize = 6;

impl MemberTest {
    fn words(&self) -> Option<Vec<String>> {
        match self {
            MemberTest::OneOf(values) => values.iter().map(|value| word(value)).collect(),
            MemberTest::Compared { with, ignore_case: false, .. } => word(with).map(|word| vec![word]),
            MemberTest::Compared { .. } | MemberTest::Present | MemberTest::Filled | MemberTest::Address(_) => None,
        }
    }

    /// Returns whether a string passes the test. `None` if it is not known.
    fn passes(&self, text: &str) -> Option<bool> {
        Some(match self {
            MemberTest::Present => true,
            MemberTest::Filled => !text.is_empty(),
            MemberTest::OneOf(values) if values.len() <= FEW => values.iter().any(|value| value == text),
            MemberTest::OneOf(values) => values.contains(text),
            MemberTest::Address(class) => class.contains(text),
            MemberTest::Compared { comparison, with, ignore_case: false } => comparison.holds(text, with),
            // Lower case may have another length.
            MemberTest::Compared { .. } if !text.is_ascii() => return None,
            MemberTest::Compared { comparison, with, ignore_case: true } => {
                comparison.holds(&text.to_ascii_lowercase(), with)
            }
        })
    }
}

impl TextComparison {
    fn holds(self, text: &str, with: &str) -> bool {
        match self {
            TextComparison::Equals => text == with,
            TextComparison::StartsWith => text.starts_with(with),
            TextComparison::EndsWith => text.ends_with(with),
            TextComparison::Contains => text.contains(with),
        }
    }
}

/// Returns the longest run of characters in a value that need no escape in JSON, if it is long enough to be selective.
/// A number may have another spelling.
pub fn word(value: &str) -> Option<String> {
    if json::number(value).is_some() {
        return None;
    }
    value
        .split(|c: char| !(c == ' ' || c.is_ascii_graphic()) || matches!(c, '"' | '\\'))
        .max_by_key(|run| run.len())
        .filter(|run| run.len() >= 3)
        .map(str::to_owned)
}

/// The known facts about a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Holds,
    Fails,
    Unknown,
}

impl Certainty {
    fn of(holds: bool) -> Certainty {
        if holds { Certainty::Holds } else { Certainty::Fails }
    }

    fn not(self) -> Certainty {
        match self {
            Certainty::Holds => Certainty::Fails,
            Certainty::Fails => Certainty::Holds,
            Certainty::Unknown => Certainty::Unknown,
        }
    }
}

/// A [`TextCondition`] that is ready for many records.
#[derive(Debug)]
pub(super) enum PreparedCondition {
    Unknown,
    All(Vec<PreparedCondition>),
    Any(Vec<PreparedCondition>),
    None(Vec<PreparedCondition>),
    Member { slot: usize, test: MemberTest, negated: bool },
    Words { slot: Option<usize>, search: WordSearch },
}

impl PreparedCondition {
    /// Prepares `condition`. `slot` returns the index of a key in [`MemberKeys`].
    pub(super) fn new(condition: &TextCondition, slot: &dyn Fn(&str) -> usize) -> PreparedCondition {
        let prepared = |parts: &[TextCondition]| {
            let mut parts: Vec<PreparedCondition> =
                parts.iter().map(|part| PreparedCondition::new(part, slot)).collect();
            parts.sort_by_key(PreparedCondition::cost);
            parts
        };
        match condition {
            TextCondition::Unknown => PreparedCondition::Unknown,
            TextCondition::All(parts) => PreparedCondition::All(prepared(parts)),
            TextCondition::Any(parts) => PreparedCondition::Any(prepared(parts)),
            TextCondition::None(parts) => PreparedCondition::None(prepared(parts)),
            TextCondition::Member { key, .. } | TextCondition::Words { key: Some(key), .. }
                if slot(key) >= MemberKeys::MAX =>
            {
                PreparedCondition::Unknown
            }
            TextCondition::Member { key, test, negated } => {
                PreparedCondition::Member { slot: slot(key), test: test.clone(), negated: *negated }
            }
            TextCondition::Words { key, words } => {
                PreparedCondition::Words { slot: key.as_deref().map(slot), search: WordSearch::new(words) }
            }
        }
    }

    /// Returns the rank of its cost.
    fn cost(&self) -> u8 {
        match self {
            PreparedCondition::Member { test: MemberTest::Address(_), .. } => 1,
            PreparedCondition::Member { .. } => 0,
            PreparedCondition::Words { slot: Some(_), .. } => 2,
            PreparedCondition::Words { slot: None, .. } => 3,
            PreparedCondition::All(parts) | PreparedCondition::Any(parts) | PreparedCondition::None(parts) => {
                parts.iter().map(PreparedCondition::cost).max().unwrap_or_default()
            }
            // Decides nothing.
            PreparedCondition::Unknown => 4,
        }
    }

    /// Returns whether it may hold for the record with these `members` and this `text`.
    pub(super) fn may_hold(&self, members: &MemberTexts<'_>, text: &str) -> bool {
        self.truth(members, text) != Certainty::Fails
    }

    fn truth(&self, members: &MemberTexts<'_>, text: &str) -> Certainty {
        let any = |parts: &[PreparedCondition]| {
            let mut any = Certainty::Fails;
            for part in parts {
                match part.truth(members, text) {
                    Certainty::Holds => return Certainty::Holds,
                    Certainty::Unknown => any = Certainty::Unknown,
                    Certainty::Fails => {}
                }
            }
            any
        };
        match self {
            PreparedCondition::Unknown => Certainty::Unknown,
            PreparedCondition::All(parts) => {
                let mut all = Certainty::Holds;
                for part in parts {
                    match part.truth(members, text) {
                        Certainty::Fails => return Certainty::Fails,
                        Certainty::Unknown => all = Certainty::Unknown,
                        Certainty::Holds => {}
                    }
                }
                all
            }
            PreparedCondition::Any(parts) => any(parts),
            PreparedCondition::None(parts) => any(parts).not(),
            PreparedCondition::Member { slot, test, negated } => match members.string(*slot) {
                MemberString::Missing => Certainty::of(*negated),
                MemberString::Plain(text) => {
                    test.passes(text).map_or(Certainty::Unknown, |passes| Certainty::of(passes != *negated))
                }
                MemberString::Other => Certainty::Unknown,
            },
            PreparedCondition::Words { slot, search } => {
                let text = slot.map_or(Some(text), |slot| members.text(slot));
                if text.is_some_and(|text| search.finds(text)) { Certainty::Unknown } else { Certainty::Fails }
            }
        }
    }
}

/// A search for any of some words.
#[derive(Debug)]
pub(super) enum WordSearch {
    One(Box<Finder<'static>>),
    Many(AhoCorasick),
}

impl WordSearch {
    fn new(words: &[String]) -> WordSearch {
        if let [word] = words {
            return WordSearch::One(Box::new(Finder::new(word).into_owned()));
        }
        // Words of a rule have fewer characters than an automaton has states.
        let automaton = AhoCorasick::new(words);
        WordSearch::Many(automaton.unwrap_or_else(|error| unreachable!("words of rules: {error}")))
    }

    fn finds(&self, text: &str) -> bool {
        match self {
            WordSearch::One(finder) => finder.find(text.as_bytes()).is_some(),
            WordSearch::Many(automaton) => automaton.is_match(text),
        }
    }
}
