//! Finds the rules that a record may match by its name, and those for any name by one search for their words.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};

use super::prefilter::{Clauses, RequiredText};

/// Decides for many rules whether a record with a known name may match.
#[derive(Debug)]
pub(super) struct NameDispatch {
    /// The rules for certain names, by name.
    by_name: HashMap<String, Vec<Clauses>>,
    /// The rules for any name.
    others: Vec<Clauses>,
    /// Finds a word of each match of [`NameDispatch::others`]. `None` if there are no such rules.
    words: Option<WordSearch>,
}

/// A search for words, each of some rules.
#[derive(Debug)]
struct WordSearch {
    automaton: AhoCorasick,
    /// For each word the rules that its occurrence may announce.
    rules: Vec<Vec<usize>>,
}

/// Words of an ordinary record. A clause with one of them holds for most records.
const ORDINARY: &str = r#"
    {"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLEID:session","arn":
    "arn:aws:sts::111122223333:assumed-role/role/session","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE",
    "sessionContext":{"sessionIssuer":{"type":"Role","arn":"arn:aws:iam::111122223333:role/role","userName":"role"},
    "attributes":{"creationDate":"2026-09-01T00:00:00Z","mfaAuthenticated":"false"}},"invokedBy":"ec2.amazonaws.com"},
    "eventTime":"2026-09-01T00:00:00Z","eventSource":"sts.amazonaws.com","awsRegion":"us-east-1","sourceIPAddress":
    "192.0.2.1","userAgent":"aws-cli/2 Boto3 Botocore lang/python","requestParameters":null,"responseElements":null,
    "requestID":"","eventID":"","readOnly":true,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":
    "111122223333","eventCategory":"Management","tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"",
    "clientProvidedHostHeader":"sts.us-east-1.amazonaws.com"}} IAMUser"#;

impl NameDispatch {
    /// Returns the dispatch for `rules`. Each must have names or clauses.
    pub(super) fn new(rules: &[RequiredText]) -> NameDispatch {
        let mut by_name: HashMap<String, Vec<Clauses>> = HashMap::new();
        let (mut others, mut words) = (Vec::new(), Vec::new());
        for rule in rules {
            let Some(names) = &rule.event_names else {
                words.extend(announcing(&rule.clauses).iter().map(|word| (word.as_str(), others.len())));
                others.push(Clauses::new(&rule.clauses));
                continue;
            };
            for name in names {
                let by_name = by_name.entry(name.clone()).or_default();
                // A record with the name contains these words.
                let is_open = |clause: &&Vec<String>| !clause.iter().any(|word| name.contains(word.as_str()));
                let clauses = Clauses::new(rule.clauses.iter().filter(is_open));
                // Other rules for the name need not be tested if one of them has no more clauses.
                if clauses.are_none() {
                    by_name.clear();
                }
                if by_name.first().is_none_or(|first| !first.are_none()) {
                    by_name.push(clauses);
                }
            }
        }
        NameDispatch { by_name, others, words: WordSearch::new(&words) }
    }

    /// Returns whether a record may match that has the name `name` and this text, without escapes that hide words.
    pub(super) fn admits(&self, name: &str, text: &str) -> bool {
        if self.by_name.get(name).is_some_and(|rules| rules.iter().any(|rule| rule.hold(text))) {
            return true;
        }
        self.words.as_ref().is_some_and(|words| words.announces(text, |rule| self.others[rule].hold(text)))
    }
}

impl WordSearch {
    /// Returns a search for `words`, each with the index of its rule. `None` if there are no words.
    fn new(words: &[(&str, usize)]) -> Option<WordSearch> {
        let mut distinct: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.is_empty() {
            return None;
        }
        // Matches do not overlap, so a word may be found in the place of one that it overlaps.
        let announced = |found: &&str| {
            let rules = words.iter().filter(|(word, _)| may_overlap(found, word)).map(|(_, rule)| *rule);
            let mut rules: Vec<usize> = rules.collect();
            rules.sort_unstable();
            rules.dedup();
            rules
        };
        let rules = distinct.iter().map(announced).collect();
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(&distinct);
        // Words of a rule are short, so the automaton has fewer states than its limit.
        let automaton = automaton.unwrap_or_else(|error| unreachable!("words of rules: {error}"));
        Some(WordSearch { automaton, rules })
    }

    /// Returns whether `accepts` holds for a rule with a word that occurs in `text`. Each rule is tested once.
    fn announces(&self, text: &str, accepts: impl Fn(usize) -> bool) -> bool {
        let mut tested = Vec::new();
        self.automaton.find_iter(text).any(|found| {
            self.rules[found.pattern().as_usize()].iter().any(|rule| {
                let is_new = !tested.contains(rule);
                if is_new {
                    tested.push(*rule);
                }
                is_new && accepts(*rule)
            })
        })
    }
}

/// Returns the clause to search for: if possible one that does not hold for most records, and of those one with long
/// words.
fn announcing(clauses: &[Vec<String>]) -> &[String] {
    let rank = |clause: &&Vec<String>| {
        let is_rare = !clause.iter().any(|word| ORDINARY.contains(word.as_str()));
        (is_rare, clause.iter().map(String::len).min())
    };
    clauses.iter().max_by_key(rank).map(Vec::as_slice).unwrap_or_default()
}

/// Returns whether occurrences of the words can share a character.
fn may_overlap(one: &str, other: &str) -> bool {
    let meets = |first: &str, second: &str| {
        let (first, second) = (first.as_bytes(), second.as_bytes());
        (0..first.len()).any(|from| second.starts_with(&first[from..]))
    };
    one.contains(other) || other.contains(one) || meets(one, other) || meets(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(names: Option<&[&str]>, clauses: &[&[&str]]) -> RequiredText {
        let owned = |words: &&[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        RequiredText {
            event_names: names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            clauses: clauses.iter().map(owned).collect(),
        }
    }

    #[test]
    fn a_record_is_admitted_by_its_name_or_by_the_words_of_the_other_rules() {
        let dispatch = NameDispatch::new(&[
            rule(Some(&["CreateUser", "DeleteUser"]), &[&["CreateUser", "DeleteUser"], &["iam."]]),
            rule(Some(&["DeleteUser"]), &[&["DeleteUser"]]),
            rule(None, &[&["iam."], &["AccessDenied", "Unauthorized"]]),
            rule(None, &[&["Root"]]),
            rule(Some(&[]), &[]),
        ]);
        for (name, text) in [
            ("CreateUser", "CreateUser iam."),
            ("DeleteUser", "DeleteUser"),
            ("ListUsers", "Unauthorized iam."),
            ("ListUsers", "AccessDenied Root"),
        ] {
            assert!(dispatch.admits(name, text), "{name} {text}");
        }
        for (name, text) in [
            ("CreateUser", "CreateUser"),
            ("createuser", "createuser iam."),
            ("ListUsers", "AccessDenied"),
            ("ListUsers", "DeleteUser iam."),
        ] {
            assert!(!dispatch.admits(name, text), "{name} {text}");
        }
    }

    #[test]
    fn words_that_overlap_are_all_found() {
        let words = ["abc", "bcd", "cd", "xabcdx", "né", "éa", "é"];
        let numbered: Vec<(&str, usize)> = words.into_iter().zip(0..).collect();
        let search = WordSearch::new(&numbered).unwrap();
        for text in ["abcd", "bcd", "cd", "xabcdx", "xabcd", "abxcd", "ab", "néa", "é"] {
            for (word, rule) in &numbered {
                let is_announced = search.announces(text, |announced| announced == *rule);
                assert!(is_announced || !text.contains(word), "{word} in {text}");
            }
        }
        assert!(!search.announces("abxc", |_| true));
    }
}
