//! What a Sigma rule's selections match, as predicates. Texts are compared without regard to case unless `cased`.

use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SelectorPattern, SigmaValue,
    SpecialChar, StringPart, detection_name_matches,
};

use crate::path::{Path, Step};
use crate::rule::predicate::NumberOperand;
use crate::rule::{Compared, Field, Operand, Predicate, Test, Value};

/// The field at a path with dots between its keys.
pub(super) fn field(name: &str) -> Result<Field, String> {
    if name.contains('[') {
        return Err(format!("`{name}`: brackets in the names of fields are not understood"));
    }
    Ok(Field::new(Path(name.split('.').map(|key| Step::Key(key.to_owned())).collect())))
}

/// The predicate of a condition.
pub(super) fn condition(expression: &ConditionExpr, detections: &Detections) -> Result<Predicate, String> {
    let all =
        |parts: &[ConditionExpr]| parts.iter().map(|part| condition(part, detections)).collect::<Result<Vec<_>, _>>();
    match expression {
        ConditionExpr::And(parts) => Ok(Predicate::All(all(parts)?)),
        ConditionExpr::Or(parts) => Ok(Predicate::Any(all(parts)?)),
        ConditionExpr::Not(part) => Ok(Predicate::None(vec![condition(part, detections)?])),
        ConditionExpr::Identifier(name) => {
            let named = detections.named.get(name);
            selection(named.ok_or_else(|| format!("the condition names `{name}`, which is not defined"))?)
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let is_meant = |name: &&String| match pattern {
                SelectorPattern::Them => !name.starts_with('_'),
                SelectorPattern::Pattern(pattern) => detection_name_matches(pattern, name),
            };
            let mut names: Vec<&String> = detections.named.keys().filter(is_meant).collect();
            names.sort();
            if names.is_empty() {
                return Err(format!("`{expression}` names no selection"));
            }
            let parts =
                names.into_iter().map(|name| selection(&detections.named[name])).collect::<Result<Vec<_>, _>>()?;
            match quantifier {
                Quantifier::Any | Quantifier::Count(1) => Ok(Predicate::Any(parts)),
                Quantifier::All => Ok(Predicate::All(parts)),
                Quantifier::Count(_) => Err(format!("`{expression}`: only `1 of` and `all of` are understood")),
            }
        }
    }
}

fn selection(detection: &Detection) -> Result<Predicate, String> {
    let all = |parts: &[Detection]| parts.iter().map(selection).collect::<Result<Vec<_>, _>>();
    match detection {
        Detection::AllOf(items) => Ok(Predicate::All(items.iter().map(item).collect::<Result<_, _>>()?)),
        Detection::AnyOf(parts) => Ok(Predicate::Any(all(parts)?)),
        Detection::And(parts) => Ok(Predicate::All(all(parts)?)),
        Detection::Keywords(_) => Err("words without a field are not searched for: name the field".to_owned()),
        Detection::ArrayMatch { field, .. } => Err(format!("`{field}`: members of lists are not matched")),
        Detection::Conditional { .. } => Err("conditions on members of lists are not understood".to_owned()),
    }
}

/// Where in a field's text a value is looked for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Whole,
    Start,
    End,
    Anywhere,
}

/// How an item's modifiers say that its values are compared.
#[derive(Default)]
struct How {
    all: bool,
    cased: bool,
    place: Place,
    negated: bool,
    relation: Option<Compared>,
    /// What the values are, where they are no texts.
    values: Option<Modifier>,
    /// Flags of a regular expression.
    flags: String,
}

fn item(item: &DetectionItem) -> Result<Predicate, String> {
    let Some(name) = &item.field.name else {
        return Err("words without a field are not searched for: name the field".to_owned());
    };
    let named = |reason: String| format!("`{name}`: {reason}");
    let field = field(name)?;
    let how = how(&item.field.modifiers).map_err(named)?;
    let tests =
        item.values.iter().map(|value| test(&field, value, &how)).collect::<Result<Vec<_>, _>>().map_err(named)?;
    let together = if how.all { Predicate::All(tests) } else { Predicate::Any(tests) };
    Ok(if how.negated { Predicate::None(vec![together]) } else { together })
}

fn how(modifiers: &[Modifier]) -> Result<How, String> {
    let mut how = How::default();
    for modifier in modifiers {
        match modifier {
            Modifier::All => how.all = true,
            Modifier::Cased => how.cased = true,
            Modifier::Contains => how.place = Place::Anywhere,
            Modifier::StartsWith => how.place = Place::Start,
            Modifier::EndsWith => how.place = Place::End,
            Modifier::Neq => how.negated = true,
            Modifier::Gt => how.relation = Some(Compared::Greater),
            Modifier::Gte => how.relation = Some(Compared::GreaterOrEqual),
            Modifier::Lt => how.relation = Some(Compared::Less),
            Modifier::Lte => how.relation = Some(Compared::LessOrEqual),
            Modifier::Re | Modifier::Cidr | Modifier::Exists | Modifier::FieldRef => how.values = Some(*modifier),
            Modifier::IgnoreCase => how.flags.push('i'),
            Modifier::Multiline => how.flags.push('m'),
            Modifier::DotAll => how.flags.push('s'),
            other => return Err(format!("the modifier `{}` is not understood", format!("{other:?}").to_lowercase())),
        }
    }
    Ok(how)
}

fn test(field: &Field, value: &SigmaValue, how: &How) -> Result<Predicate, String> {
    let is = |test: Test| Predicate::Test { field: field.clone(), test, negated: false };
    let text = value.to_string();
    if let Some(relation) = how.relation {
        return match value {
            SigmaValue::Integer(_) | SigmaValue::Float(_) => Ok(is(Test::Number(relation, NumberOperand::Value(text)))),
            _ => Err(format!("`{text}` is no number")),
        };
    }
    match (how.values, value) {
        (Some(Modifier::Re), _) => Ok(is(Test::Matches(pattern(&how.flags, &text)?))),
        (Some(Modifier::Cidr), _) => {
            let network = text.parse().map_err(|_| format!("`{text}` is no network, as `192.0.2.0/24` is"))?;
            Ok(is(Test::Within(network)))
        }
        (Some(Modifier::Exists), SigmaValue::Bool(exists)) => {
            Ok(Predicate::Test { field: field.clone(), test: Test::Present, negated: !exists })
        }
        (Some(Modifier::Exists), _) => Err("`exists` is `true` or `false`".to_owned()),
        (Some(Modifier::FieldRef), _) => {
            let other = self::field(&text)?;
            let other = if how.cased { Operand::Field(other) } else { Operand::FoldedField(other) };
            Ok(is(match how.place {
                Place::Whole => Test::Equals(other),
                Place::Start => Test::StartsWith(other),
                Place::End => Test::EndsWith(other),
                Place::Anywhere => Test::Contains(other),
            }))
        }
        (_, SigmaValue::Null) => Ok(Predicate::Test { field: field.clone(), test: Test::Present, negated: true }),
        (_, SigmaValue::Integer(_) | SigmaValue::Float(_) | SigmaValue::Bool(_)) if how.place == Place::Whole => {
            Ok(is(Test::Equals(operand(&text, how.cased))))
        }
        (_, SigmaValue::String(string)) => Ok(is(of_parts(&string.parts, how)?)),
        (_, other) => Ok(is(of_parts(&[StringPart::Plain(other.to_string())], how)?)),
    }
}

/// A test of a text with wildcards.
fn of_parts(parts: &[StringPart], how: &How) -> Result<Test, String> {
    const ANY: StringPart = StringPart::Special(SpecialChar::WildcardMulti);
    let mut all: Vec<StringPart> =
        matches!(how.place, Place::End | Place::Anywhere).then_some(ANY).into_iter().collect();
    all.extend(parts.iter().cloned());
    all.extend(matches!(how.place, Place::Start | Place::Anywhere).then_some(ANY));
    all.dedup_by(|a, b| *a == ANY && *b == ANY);
    let operand = |text: &str| operand(text, how.cased);
    Ok(match all.as_slice() {
        [] => Test::Equals(operand("")),
        [one] if *one == ANY => Test::Present,
        [StringPart::Plain(text)] => Test::Equals(operand(text)),
        [first, StringPart::Plain(text)] if *first == ANY => Test::EndsWith(operand(text)),
        [StringPart::Plain(text), last] if *last == ANY => Test::StartsWith(operand(text)),
        [first, StringPart::Plain(text), last] if *first == ANY && *last == ANY => Test::Contains(operand(text)),
        parts => {
            let part = |part: &StringPart| match part {
                StringPart::Plain(text) => regex::escape(text),
                StringPart::Special(SpecialChar::WildcardMulti) => ".*".to_owned(),
                StringPart::Special(SpecialChar::WildcardSingle) => ".".to_owned(),
            };
            let text: String = parts.iter().map(part).collect();
            Test::Matches(pattern(if how.cased { "s" } else { "is" }, &format!("^(?:{text})$"))?)
        }
    })
}

fn operand(text: &str, cased: bool) -> Operand {
    let text = if cased { text.to_owned() } else { text.to_lowercase() };
    let value = Value { text, shortest: None };
    if cased { Operand::Value(value) } else { Operand::Folded(value) }
}

/// A regular expression that the engine can run.
fn pattern(flags: &str, text: &str) -> Result<String, String> {
    let pattern = if flags.is_empty() { text.to_owned() } else { format!("(?{flags}){text}") };
    match regex::Regex::new(&pattern) {
        Ok(_) => Ok(pattern),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("the regular expression `{text}` cannot be run: {reason}"))
        }
    }
}
