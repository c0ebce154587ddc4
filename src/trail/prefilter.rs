//! Skips records by their text, before they are parsed.

use memchr::memmem::Finder;

/// Skips records whose text lacks a word that every match must contain.
///
/// JSON may escape the characters of a word, so a text that contains `\u` is always admitted.
#[derive(Debug, Clone, Default)]
pub struct Prefilter {
    /// Alternatives (one per rule), each a list of clauses. All clauses of an alternative must hold, and a clause holds
    /// if one of its words occurs.
    alternatives: Vec<Vec<Vec<Finder<'static>>>>,
}

impl Prefilter {
    /// Maximum number of words. Searching for more, as a library of rules needs, takes longer than parsing the few
    /// records that it would skip.
    const MAX_WORDS: usize = 16;

    /// Builds a prefilter that admits what any of `alternatives` admits. An alternative without clauses admits all.
    pub fn new(alternatives: Vec<Vec<Vec<String>>>) -> Prefilter {
        let words = alternatives.iter().flatten().map(Vec::len).sum::<usize>();
        if words > Self::MAX_WORDS || alternatives.iter().any(Vec::is_empty) {
            return Prefilter::default();
        }
        let finder = |word: String| Finder::new(&word).into_owned();
        let clause = |words: Vec<String>| words.into_iter().map(finder).collect();
        let alternatives = alternatives.into_iter().map(|clauses| clauses.into_iter().map(clause).collect()).collect();
        Prefilter { alternatives }
    }

    /// Returns the alternatives from which [`Prefilter::new`] builds the same prefilter.
    pub fn words(&self) -> Vec<Vec<Vec<String>>> {
        let word = |finder: &Finder<'_>| String::from_utf8_lossy(finder.needle()).into_owned();
        let clause = |words: &Vec<Finder<'_>>| words.iter().map(word).collect();
        self.alternatives.iter().map(|clauses| clauses.iter().map(clause).collect()).collect()
    }

    /// Returns whether `text` may contain a match.
    pub fn admits(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let holds = |words: &Vec<Finder<'_>>| words.iter().any(|word| word.find(text).is_some());
        self.alternatives.is_empty()
            || self.alternatives.iter().any(|clauses| clauses.iter().all(holds))
            || memchr::memmem::find(text, b"\\u").is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(clauses: &[&[&str]]) -> Vec<Vec<String>> {
        clauses.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect()
    }

    #[test]
    fn a_prefilter_admits_every_possible_match() {
        let prefilter =
            Prefilter::new(vec![words(&[&["ConsoleLogin", "signin"], &["Failure"]]), words(&[&["StopLogging"]])]);
        for text in ["ConsoleLogin Failure", "signin Failure", "StopLogging", r"\u0043onsoleLogin"] {
            assert!(prefilter.admits(text), "{text}");
        }
        for text in ["", "ConsoleLogin", "Failure", "stoplogging"] {
            assert!(!prefilter.admits(text), "{text}");
        }
        assert!(Prefilter::new(vec![words(&[&["a"]]), vec![]]).admits("b"));
        assert!(Prefilter::default().admits(""));
    }

    #[test]
    fn a_prefilter_of_many_words_admits_everything() {
        let prefilter = |words: usize| {
            let clause: Vec<String> = (0..words).map(|number| format!("Call{number}")).collect();
            Prefilter::new(vec![vec![clause]])
        };
        assert!(!prefilter(Prefilter::MAX_WORDS).admits("other"));
        assert!(prefilter(Prefilter::MAX_WORDS + 1).admits("other"));
    }
}
