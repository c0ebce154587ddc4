//! Skips records by their text, before they are parsed.

use std::collections::BTreeSet;
use std::sync::Arc;

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::name_dispatch::NameDispatch;
use crate::raw::{Element, hides_characters};

/// Text that every match of a rule contains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredText {
    /// The values of `eventName` that a match may have. `None` if it may have any.
    pub event_names: Option<BTreeSet<String>>,
    /// Clauses. Each is a list of words, and a match contains at least one of them.
    pub clauses: Vec<Vec<String>>,
}

/// Skips records whose text lacks what every match of some rules contains.
///
/// JSON may spell characters of a word as escapes. Text with such an escape is always admitted.
#[derive(Debug, Clone, Default)]
pub struct Prefilter {
    rules: Vec<RequiredText>,
    search: Search,
}

/// How to recognise text that may contain a match.
#[derive(Debug, Clone, Default)]
enum Search {
    /// All text may.
    #[default]
    Nothing,
    /// The clauses of few rules.
    Words(Arc<[Clauses]>),
    /// The names and clauses of many rules.
    Names(Arc<NameDispatch>),
}

impl Prefilter {
    /// Maximum number of words of few rules. To search for more, one after another, takes longer than to parse the
    /// records that they skip.
    const MAX_WORDS: usize = 16;

    /// Builds a prefilter that admits the matches of `rules`. It admits everything if there are no rules, or if nothing
    /// is known about one of them.
    pub fn new(rules: Vec<RequiredText>) -> Prefilter {
        let words = rules.iter().flat_map(|rule| &rule.clauses).map(Vec::len).sum::<usize>();
        let search = if rules.is_empty() {
            Search::Nothing
        } else if words <= Self::MAX_WORDS && rules.iter().all(|rule| !rule.clauses.is_empty()) {
            Search::Words(rules.iter().map(|rule| Clauses::new(&rule.clauses)).collect())
        } else if rules.iter().all(|rule| rule.event_names.is_some() || !rule.clauses.is_empty()) {
            Search::Names(Arc::new(NameDispatch::new(&rules)))
        } else {
            Search::Nothing
        };
        Prefilter { rules, search }
    }

    /// Returns the rules from which [`Prefilter::new`] builds the same prefilter.
    pub fn rules(&self) -> &[RequiredText] {
        &self.rules
    }

    /// Returns whether the text of an object, or of anything else that may hold several records, may contain a match.
    pub fn admits_text(&self, text: &str) -> bool {
        match &self.search {
            Search::Nothing | Search::Names(_) => true,
            Search::Words(rules) => rules.iter().any(|rule| rule.hold(text)) || hides_characters(text),
        }
    }

    /// Returns whether `element` may be a match, or contain one.
    pub fn admits(&self, element: Element<'_>) -> bool {
        match &self.search {
            Search::Nothing => true,
            Search::Words(rules) => rules.iter().any(|rule| rule.hold(element.text())) || element.hides_characters(),
            Search::Names(dispatch) => element.event_name().is_none_or(|name| dispatch.admits(name, element.text())),
        }
    }
}

/// Clauses of words. They hold for a text that contains at least one word of each.
#[derive(Debug, Clone)]
pub(super) struct Clauses(Vec<Vec<Finder<'static>>>);

impl Clauses {
    pub(super) fn new<'c>(clauses: impl IntoIterator<Item = &'c Vec<String>>) -> Clauses {
        let finder = |word: &String| Finder::new(word).into_owned();
        Clauses(clauses.into_iter().map(|words| words.iter().map(finder).collect()).collect())
    }

    /// Returns whether there are no clauses, so that they hold for every text.
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn hold(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.0.iter().all(|words| words.iter().any(|word| word.find(text).is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(clauses: &[&[&str]]) -> RequiredText {
        let words = |words: &&[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        RequiredText { event_names: None, clauses: clauses.iter().map(words).collect() }
    }

    fn admits(prefilter: &Prefilter, text: &str) -> bool {
        let admitted = prefilter.admits(Element::of_text(text));
        assert!(prefilter.admits_text(text) || !admitted);
        admitted
    }

    #[test]
    fn a_prefilter_admits_every_possible_match() {
        let prefilter =
            Prefilter::new(vec![rule(&[&["ConsoleLogin", "signin"], &["Failure"]]), rule(&[&["StopLogging"]])]);
        for text in ["ConsoleLogin Failure", "signin Failure", "StopLogging", r"\u0043onsoleLogin", r"Stop\/Logging"] {
            assert!(admits(&prefilter, text), "{text}");
        }
        for text in ["", "ConsoleLogin", "Failure", "stoplogging", r"\n"] {
            assert!(!admits(&prefilter, text), "{text}");
        }
        assert!(admits(&Prefilter::new(vec![rule(&[&["a"]]), rule(&[])]), "b"));
        assert!(admits(&Prefilter::default(), ""));
    }

    #[test]
    fn text_of_unknown_structure_is_admitted_if_there_are_many_words() {
        let prefilter = |words: usize| {
            let clause: Vec<String> = (0..words).map(|number| format!("Call{number}")).collect();
            Prefilter::new(vec![RequiredText { event_names: None, clauses: vec![clause] }])
        };
        assert!(!admits(&prefilter(Prefilter::MAX_WORDS), "other"));
        assert!(admits(&prefilter(Prefilter::MAX_WORDS + 1), "other"));
    }
}
