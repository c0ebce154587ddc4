//! The rules that correlations name.

use std::collections::{BTreeMap, BTreeSet};

use super::Refusal;
use super::document::{Content, Document};

/// The rules of some documents, by their names. A rule is known by the index of the first document that holds it.
pub(super) struct References<'d> {
    documents: &'d [Document<'d>],
    /// For each document, the first one with the same rule.
    firsts: Vec<usize>,
    by_id_or_name: BTreeMap<&'d str, BTreeSet<usize>>,
    by_title: BTreeMap<&'d str, BTreeSet<usize>>,
    correlations: BTreeSet<&'d str>,
    /// Names of documents that cannot be read.
    unread: BTreeSet<String>,
}

impl<'d> References<'d> {
    pub(super) fn new(documents: &'d [Document<'d>], unread: BTreeSet<String>) -> References<'d> {
        let mut references = References {
            documents,
            firsts: Vec::with_capacity(documents.len()),
            by_id_or_name: BTreeMap::new(),
            by_title: BTreeMap::new(),
            correlations: BTreeSet::new(),
            unread,
        };
        let mut by_text = BTreeMap::new();
        for (index, document) in documents.iter().enumerate() {
            match &document.content {
                Content::Rule(rule) => {
                    let first = *by_text.entry(document.json()).or_insert(index);
                    references.by_title.entry(rule.title.as_str()).or_default().insert(first);
                    for name in [&rule.id, &rule.name].into_iter().flatten() {
                        references.by_id_or_name.entry(name.as_str()).or_default().insert(first);
                    }
                    references.firsts.push(first);
                }
                Content::Correlation(correlation) => {
                    references.correlations.extend(correlation.id.as_deref());
                    references.correlations.extend(correlation.name.as_deref());
                    references.correlations.insert(correlation.title.as_str());
                    references.firsts.push(index);
                }
                Content::Filter(_) => references.firsts.push(index),
            }
        }
        references
    }

    /// Returns the documents that hold the same rule as `first`.
    pub(super) fn copies(&self, first: usize) -> impl Iterator<Item = usize> {
        self.firsts.iter().enumerate().filter(move |(_, other)| **other == first).map(|(index, _)| index)
    }

    /// Returns the rule that a correlation names by id, name, or else title. Of several, the one in the same file.
    pub(super) fn resolve(&self, correlation: &Document<'_>, name: &str) -> Result<usize, Refusal> {
        for (known, advice) in [
            (&self.by_id_or_name, "give them different ids and names"),
            (&self.by_title, "name the one that is meant by its `id` or `name`"),
        ] {
            let Some(found) = known.get(name) else {
                continue;
            };
            let in_file =
                |first: &&usize| self.copies(**first).any(|copy| self.documents[copy].file == correlation.file);
            let mut near = found.iter().filter(in_file);
            return match (found.len(), near.next(), near.next()) {
                (1, ..) => Ok(*found.first().unwrap_or(&0)),
                (_, Some(one), None) => Ok(*one),
                (count, ..) => {
                    Err(Refusal::invalid(format!("it names `{name}`, as {count} different rules are called: {advice}")))
                }
            };
        }
        Err(if self.correlations.contains(name) {
            Refusal::new(format!("it names `{name}`, which is a correlation: those of correlations are not hunted"))
        } else if self.unread.contains(name) {
            Refusal::invalid(format!("it names `{name}`, which cannot be read"))
        } else {
            let reason = format!("it names `{name}`, but no rule of these files has that `id`, `name` or `title`");
            Refusal::invalid(reason)
        })
    }
}
