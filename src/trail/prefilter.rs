//! Skips records by their text, before they are parsed.

use std::sync::Arc;

use memchr::memmem::Finder;

use super::name_dispatch::NameDispatch;
use super::text_condition::TextCondition;
use crate::raw::{Element, hides_characters};

/// Skips records whose text lacks what every match of some rules contains.
///
/// JSON may spell characters of a word as escapes. Text with such an escape is always admitted.
#[derive(Debug, Clone, Default)]
pub struct Prefilter {
    rules: Vec<TextCondition>,
    search: Search,
}

/// How to recognise text that may contain a match.
#[derive(Debug, Clone, Default)]
struct Search {
    /// The words of few rules. They also exclude whole objects.
    words: Option<Arc<[Clauses]>>,
    /// The names and conditions of the rules.
    dispatch: Option<Arc<NameDispatch>>,
}

impl Prefilter {
    /// Maximum number of words of few rules. To search for more, one after another, takes longer than to parse the
    /// records that they skip.
    const MAX_WORDS: usize = 16;

    /// Builds a prefilter that admits the matches of rules with the conditions `rules`. It admits everything
    /// without rules, or if nothing is known about one of them.
    pub fn new(rules: Vec<TextCondition>) -> Prefilter {
        let mut distinct: Vec<TextCondition> = Vec::with_capacity(rules.len());
        for rule in rules.into_iter().map(TextCondition::simplified) {
            if !distinct.contains(&rule) {
                distinct.push(rule);
            }
        }
        let rules = distinct;
        let clauses: Vec<Vec<Vec<String>>> = rules.iter().map(TextCondition::words).collect();
        let words = clauses.iter().flatten().map(Vec::len).sum::<usize>();
        let has_words = words <= Self::MAX_WORDS && clauses.iter().all(|clauses| !clauses.is_empty());
        let search = if rules.is_empty() || !rules.iter().all(TextCondition::can_fail) {
            Search::default()
        } else {
            Search {
                words: has_words.then(|| clauses.iter().map(|clauses| Clauses::new(clauses)).collect()),
                dispatch: Some(Arc::new(NameDispatch::new(&rules))),
            }
        };
        Prefilter { rules, search }
    }

    /// Returns the rules from which [`Prefilter::new`] builds the same prefilter.
    pub fn rules(&self) -> &[TextCondition] {
        &self.rules
    }

    /// Returns whether the text of an object, or of anything else that may hold several records, may contain a match.
    pub fn admits_text(&self, text: &str) -> bool {
        self.has_words(text) || hides_characters(text)
    }

    /// Returns whether `element` may be a match, or contain one.
    pub fn admits(&self, element: Element<'_>) -> bool {
        (self.has_words(element.text()) || element.hides_characters())
            && self.search.dispatch.as_ref().is_none_or(|dispatch| dispatch.admits(element))
    }

    fn has_words(&self, text: &str) -> bool {
        self.search.words.as_ref().is_none_or(|rules| rules.iter().any(|rule| rule.hold(text)))
    }
}

/// Clauses of words. They hold for a text that contains at least one word of each.
#[derive(Debug, Clone)]
struct Clauses(Vec<Vec<Finder<'static>>>);

impl Clauses {
    fn new(clauses: &[Vec<String>]) -> Clauses {
        let finder = |word: &String| Finder::new(word).into_owned();
        Clauses(clauses.iter().map(|words| words.iter().map(finder).collect()).collect())
    }

    fn hold(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.0.iter().all(|words| words.iter().any(|word| word.find(text).is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(clauses: &[&[&str]]) -> TextCondition {
        let words = |words: &&[&str]| TextCondition::Words {
            key: None,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        TextCondition::All(clauses.iter().map(words).collect())
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
            let words = (0..words).map(|number| format!("Call{number}")).collect();
            Prefilter::new(vec![TextCondition::Words { key: None, words }])
        };
        assert!(!admits(&prefilter(Prefilter::MAX_WORDS), "other"));
        assert!(admits(&prefilter(Prefilter::MAX_WORDS + 1), "other"));
    }
}
