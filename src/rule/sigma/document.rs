//! Documents of Sigma files, with the places of their parts.

use rsigma_parser::{CorrelationRule, FilterRule, LogSource, SigmaRule};

use super::shape::{self, Wrong};
use super::{PlaceStep, Refusal, SigmaEntry, check_source, rewrite, rule_matches, statistic, warnings};
use crate::error::{Error, RuleError, RuleErrorKind};
use crate::rule::Rule;
use crate::rule::placeholders::Placeholders;
use crate::rule::statistic::StatisticCondition;
use crate::rule::yaml::{Mark, YamlContent, YamlNode, YamlSource};

/// A document of a file.
pub(super) struct Document<'s> {
    /// The index of its file.
    pub(super) file: usize,
    pub(super) content: Content,
    source: YamlSource<'s>,
    node: YamlNode,
}

/// The content of a document.
pub(super) enum Content {
    Rule(Box<SigmaRule>),
    Correlation(Box<CorrelationRule>),
    Filter(Box<FilterRule>),
}

/// A document that cannot be read.
pub(super) struct Unread {
    pub(super) errors: Vec<RuleError>,
    /// The names by which correlations may know it.
    pub(super) names: Vec<String>,
}

/// Reads the documents of a file.
pub(super) fn read<'s>(
    file: usize,
    source: YamlSource<'s>,
    placeholders: &Placeholders,
) -> Vec<Result<Document<'s>, Unread>> {
    let documents = match source.documents() {
        Ok(documents) => documents,
        Err(Error::Rules(errors)) => return vec![Err(Unread { errors, names: Vec::new() })],
        Err(other) => {
            let error = source.rule_error(RuleErrorKind::Invalid, Mark { line: 1, column: 1 }, &other.to_string());
            return vec![Err(Unread { errors: vec![error], names: Vec::new() })];
        }
    };
    let filled = documents.into_iter().filter(|(_, node)| !node.is_null());
    filled.map(|(_, node)| document(file, source, node, placeholders)).collect()
}

fn document<'s>(
    file: usize,
    source: YamlSource<'s>,
    mut node: YamlNode,
    placeholders: &Placeholders,
) -> Result<Document<'s>, Unread> {
    let mut wrong = rewrite::rewrite(&mut node, placeholders);
    let names = || {
        let text = |key| node.member(key).and_then(YamlNode::as_text).map(str::to_owned);
        ["id", "name", "title"].into_iter().filter_map(text).collect()
    };
    let unread = |errors| Unread { errors, names: names() };
    let error = |mark, message: &str| source.rule_error(RuleErrorKind::Invalid, mark, message);
    wrong.extend(shape::check(&node));
    if !wrong.is_empty() {
        // A rule for other logs may be written for another reader.
        let other = is_for_other_logs(&node).then_some(RuleErrorKind::OtherLogs);
        let further = if other.is_none() { further_errors(file, source, &node, &wrong) } else { Vec::new() };
        let error = |(kind, mark, message): (_, _, String)| source.rule_error(other.unwrap_or(kind), mark, &message);
        let mut errors: Vec<RuleError> = wrong.into_iter().map(error).chain(further).collect();
        errors.sort_by_key(|error| (error.line, error.column));
        return Err(unread(errors));
    }
    match parsed(&node) {
        Ok(content) => Ok(Document { file, content, source, node }),
        Err(reason) => Err(unread(vec![error(node.mark, reason.lines().next().unwrap_or_default())])),
    }
}

/// Returns the errors of a rule that show once the keys of its selections that cannot be read have other names. Returns none
/// if something else is `wrong` too, because they could follow from it.
fn further_errors(file: usize, source: YamlSource<'_>, node: &YamlNode, wrong: &[Wrong]) -> Vec<RuleError> {
    let mut node = node.clone();
    let mut renamed = Vec::new();
    if let YamlContent::Map(members) = &mut node.content {
        for (key, detection) in members {
            if key.as_text() == Some("detection") {
                rename(detection, wrong, &mut renamed);
            }
        }
    }
    if wrong.iter().any(|(_, mark, _)| !renamed.contains(mark)) || !shape::check(&node).is_empty() {
        return Vec::new();
    }
    let Ok(content) = parsed(&node) else { return Vec::new() };
    let document = Document { file, content, source, node };
    let refusals = document.rule().and_then(|rule| rule_matches(rule).err());
    refusals.map_or_else(Vec::new, |refusals| document.errors(&refusals))
}

/// Renames the keys below `node` that are `wrong`. Adds their places to `renamed`.
fn rename(node: &mut YamlNode, wrong: &[Wrong], renamed: &mut Vec<Mark>) {
    match &mut node.content {
        YamlContent::Map(members) => {
            for (key, value) in members {
                if let YamlContent::Scalar { text, .. } = &mut key.content
                    && wrong.iter().any(|(_, mark, _)| *mark == key.mark)
                {
                    // No two keys have the same place.
                    *text = format!("unread{}_{}", key.mark.line, key.mark.column);
                    renamed.push(key.mark);
                }
                rename(value, wrong, renamed);
            }
        }
        YamlContent::List(elements) => elements.iter_mut().for_each(|element| rename(element, wrong, renamed)),
        YamlContent::Scalar { .. } => {}
    }
}

/// Returns the content of a document.
fn parsed(node: &YamlNode) -> Result<Content, String> {
    // YAML readers differ. The parser gets JSON, which all of them read as the same.
    match rsigma_parser::parse_sigma_yaml(&statistic::for_parser(node).to_json()) {
        Err(reason) => Err(reason.to_string()),
        Ok(collection) => {
            let rule = collection.rules.into_iter().next().map(|rule| Content::Rule(Box::new(rule)));
            let correlation = collection.correlations.into_iter().next();
            let correlation = correlation.map(|correlation| Content::Correlation(Box::new(correlation)));
            let filter = collection.filters.into_iter().next().map(|filter| Content::Filter(Box::new(filter)));
            let content = rule.or(correlation).or(filter);
            let error = collection.errors.into_iter().next().map(Err);
            error
                .unwrap_or_else(|| content.ok_or_else(|| "it is neither a rule nor a correlation or filter".to_owned()))
        }
    }
}

/// Returns whether a `logsource` names other logs than CloudTrail's.
fn is_for_other_logs(node: &YamlNode) -> bool {
    let Some(source) = node.member("logsource") else {
        return false;
    };
    let text = |key| source.member(key).and_then(YamlNode::as_text).map(str::to_owned);
    let source = LogSource {
        category: text("category"),
        product: text("product"),
        service: text("service"),
        ..LogSource::default()
    };
    source != LogSource::default() && check_source(&source).is_err()
}

impl Document<'_> {
    /// Returns its rule, if it is one.
    pub(super) fn rule(&self) -> Option<&SigmaRule> {
        match &self.content {
            Content::Rule(rule) => Some(rule),
            Content::Correlation(_) | Content::Filter(_) => None,
        }
    }

    /// Returns the condition of a correlation that compares a statistic.
    pub(super) fn statistic(&self) -> Result<StatisticCondition, Refusal> {
        let correlation = self.node.member("correlation").unwrap_or(&self.node);
        statistic::condition(correlation).map_err(|refusal| refusal.at_key("condition").at_key("correlation"))
    }

    /// Returns its content as JSON.
    pub(super) fn json(&self) -> String {
        self.node.to_json()
    }

    /// Returns the file's rule with its warnings.
    pub(super) fn entry(&self, rule: Rule) -> SigmaEntry {
        let warnings = warnings::of(self);
        SigmaEntry { file: self.file, rule, warnings }
    }

    /// Returns the errors of refusals, by their place.
    pub(super) fn errors(&self, refusals: &[Refusal]) -> Vec<RuleError> {
        let mut errors: Vec<RuleError> = refusals.iter().map(|refusal| self.error(refusal)).collect();
        errors.sort_by_key(|error| (error.line, error.column));
        errors.dedup();
        errors
    }

    fn error(&self, refusal: &Refusal) -> RuleError {
        let title = match &self.content {
            Content::Rule(rule) => &rule.title,
            Content::Correlation(correlation) => &correlation.title,
            Content::Filter(filter) => &filter.title,
        };
        self.source.rule_error(refusal.kind, self.mark(&refusal.place), &format!("`{title}`: {refusal}"))
    }

    /// Returns the position of a part, given the steps from the innermost to the outermost: that of the innermost step
    /// that exists.
    pub(super) fn mark(&self, place: &[PlaceStep]) -> Mark {
        let (mut node, mut mark) = (&self.node, self.node.mark);
        for step in place.iter().rev() {
            let next = match (step, &node.content) {
                (PlaceStep::Key(key), YamlContent::Map(members)) => {
                    members.iter().find(|(given, _)| given.as_text() == Some(key)).map(|(given, value)| {
                        // A mapping begins below its key.
                        let is_inner = matches!(value.content, YamlContent::Map(_) | YamlContent::List(_));
                        (value, if is_inner { given.mark } else { value.mark })
                    })
                }
                (PlaceStep::Item(item), YamlContent::Map(members)) => {
                    let is_it = |key: &YamlNode| {
                        let spec = key.as_text().and_then(|text| rsigma_parser::parse_field_spec(text).ok());
                        spec.is_some_and(|spec| spec == *item)
                    };
                    members.iter().find(|(key, _)| is_it(key)).map(|(key, value)| (value, key.mark))
                }
                (PlaceStep::Index(index), YamlContent::List(elements)) => {
                    elements.get(*index).map(|element| (element, element.mark))
                }
                (PlaceStep::Index(_), _) => Some((node, mark)),
                _ => None,
            };
            match next {
                Some((inner, at)) => (node, mark) = (inner, at),
                None => break,
            }
        }
        mark
    }
}
