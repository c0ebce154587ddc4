//! Keyword searches: words without a field, in the text of all strings, numbers and booleans of a record.

use rsigma_parser::{DetectionItem, Modifier, SigmaValue, SpecialChar, StringPart};

use super::pattern::{compiled, pattern};
use super::{PlaceStep, Refusal};
use crate::event::{ColumnKind, TOP_LEVEL};
use crate::path::{Path, Step};
use crate::rule::{Field, Predicate, Quantifier, Test};

/// Returns a predicate: some text of the record contains one of the values.
pub(super) fn any_of(values: &[SigmaValue]) -> Result<Predicate, Refusal> {
    if values.is_empty() {
        return Err(Refusal::new("it searches for nothing"));
    }
    let expressions = values.iter().map(expression).collect::<Result<Vec<_>, _>>()?;
    Ok(in_any_text(&compiled("is", &expressions.join("|"))?))
}

/// Returns the predicate of an item without a field: `'|all': [a, b]`, `'|re': …`.
pub(super) fn item(item: &DetectionItem) -> Result<Predicate, Refusal> {
    search(item).map_err(|refusal| refusal.at(PlaceStep::Item(item.field.clone())))
}

fn search(item: &DetectionItem) -> Result<Predicate, Refusal> {
    let (mut all, mut cased, mut is_pattern, mut flags) = (false, false, false, String::new());
    for modifier in &item.field.modifiers {
        match modifier {
            Modifier::All => all = true,
            Modifier::Cased => cased = true,
            Modifier::Re => is_pattern = true,
            Modifier::IgnoreCase if is_pattern => flags.push('i'),
            Modifier::Multiline if is_pattern => flags.push('m'),
            Modifier::DotAll if is_pattern => flags.push('s'),
            // A keyword is a part of a text anyway.
            Modifier::Contains => {}
            _ => {
                let reason = "words without a field are searched for with `all`, `cased`, `contains` and `re` only";
                return Err(Refusal::new(reason));
            }
        }
    }
    if item.values.is_empty() {
        return Err(Refusal::new("it searches for nothing"));
    }
    let search = |value: &SigmaValue| {
        let expression = if is_pattern {
            pattern(&flags, &value.to_string())
        } else {
            compiled(if cased { "s" } else { "is" }, &expression(value)?)
        };
        Ok::<_, Refusal>(in_any_text(&expression?))
    };
    let searches = item.values.iter().map(search).collect::<Result<Vec<_>, _>>()?;
    Ok(if all { Predicate::All(searches) } else { Predicate::Any(searches) })
}

/// Returns the regular expression of a keyword.
fn expression(value: &SigmaValue) -> Result<String, Refusal> {
    let parts = match value {
        SigmaValue::String(string) => string.parts.clone(),
        SigmaValue::Null => return Err(Refusal::new("`null` is not a word to search for")),
        other => vec![StringPart::Plain(other.to_string())],
    };
    let part = |part: &StringPart| match part {
        StringPart::Plain(text) => regex::escape(text),
        StringPart::Special(SpecialChar::WildcardMulti) => ".*".to_owned(),
        StringPart::Special(SpecialChar::WildcardSingle) => ".".to_owned(),
    };
    if !parts.iter().any(|part| matches!(part, StringPart::Plain(text) if !text.is_empty())) {
        return Err(Refusal::new("every record has this keyword: it is empty, or has only wildcards"));
    }
    Ok(format!("(?:{})", parts.iter().map(part).collect::<String>()))
}

/// Returns a predicate: the expression matches in the text of some string, number or boolean of the record.
fn in_any_text(expression: &str) -> Predicate {
    let matches = |field: Field| {
        let test = Test::Matches(expression.to_owned());
        Predicate::Test { field, test, negated: false }
    };
    let within = |steps: Vec<Step>| Predicate::Elements {
        list: Field::Path(Path(steps)),
        quantifier: Quantifier::Any,
        each: Box::new(matches(Field::Element(Path::default()))),
    };
    let column = |(name, kind): &(&str, ColumnKind)| {
        let key = Step::Key((*name).to_owned());
        match kind {
            ColumnKind::Json => within(vec![key, Step::Leaves]),
            ColumnKind::Text | ColumnKind::Flag => matches(Field::Path(Path(vec![key]))),
        }
    };
    // A path without a key is within the members that have no column.
    let others = within(vec![Step::Leaves]);
    Predicate::Any(TOP_LEVEL.iter().map(column).chain([others]).collect())
}
