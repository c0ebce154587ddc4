//! Reads an item of a Sigma selection: a field, modifiers, and values to compare with. Texts are compared in any case
//! unless `cased`.

use ipnet::IpNet;
use rsigma_parser::{DetectionItem, Modifier, SigmaValue, SpecialChar, StringPart};

use super::detection::field;
use super::pattern::{compiled, pattern};
use super::reach::{Reach, answers, exists, passes, reached};
use super::{PlaceStep, Refusal, encoding, keywords};
use crate::path::Step;
use crate::rule::predicate::NumberOperand;
use crate::rule::{Class, Compared, Field, Operand, Predicate, Test, TimePart, Value};

/// The part of a field's text that is compared with a value.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum MatchPosition {
    #[default]
    Whole,
    Start,
    End,
    Anywhere,
}

/// The comparison that an item's modifiers ask for.
#[derive(Default)]
struct ValueComparison {
    all: bool,
    cased: bool,
    place: MatchPosition,
    negated: bool,
    relation: Option<Compared>,
    /// The kind of the values, if they are not texts.
    values: Option<Modifier>,
    /// The modifiers that transform values before the comparison, in their order.
    transformations: Vec<Modifier>,
    /// Flags of a regular expression.
    flags: String,
}

impl ValueComparison {
    /// Returns whether no modifier has set the comparison. A field reference does not set it.
    fn is_open(&self) -> bool {
        self.place == MatchPosition::Whole
            && self.relation.is_none()
            && self.values.is_none_or(|of| of == Modifier::FieldRef)
    }
}

/// Returns the predicate of an item.
pub(super) fn item(item: &DetectionItem) -> Result<Predicate, Refusal> {
    let Some(name) = &item.field.name else {
        return keywords::item(item);
    };
    let named = |reason: Refusal| reason.about(name).at(PlaceStep::Item(item.field.clone()));
    let field = field(name).map_err(|reason| reason.at(PlaceStep::Item(item.field.clone())))?;
    let how = how(&item.field.modifiers).map_err(named)?;
    if item.values.is_empty() {
        return Err(named(Refusal::new("it is compared with nothing")));
    }
    let tests =
        item.values.iter().map(|value| test(&field, value, &how)).collect::<Result<Vec<_>, _>>().map_err(named)?;
    let together = if how.all { Predicate::All(tests) } else { Predicate::Any(tests) };
    Ok(if how.negated { Predicate::None(vec![together]) } else { together })
}

fn how(modifiers: &[Modifier]) -> Result<ValueComparison, Refusal> {
    let mut how = ValueComparison::default();
    for modifier in modifiers {
        match modifier {
            Modifier::All => how.all = true,
            Modifier::Cased => how.cased = true,
            Modifier::Contains if how.is_open() => how.place = MatchPosition::Anywhere,
            Modifier::StartsWith if how.is_open() => how.place = MatchPosition::Start,
            Modifier::EndsWith if how.is_open() => how.place = MatchPosition::End,
            Modifier::Neq => how.negated = true,
            Modifier::Gt if how.is_open() => how.relation = Some(Compared::Greater),
            Modifier::Gte if how.is_open() => how.relation = Some(Compared::GreaterOrEqual),
            Modifier::Lt if how.is_open() => how.relation = Some(Compared::Less),
            Modifier::Lte if how.is_open() => how.relation = Some(Compared::LessOrEqual),
            Modifier::FieldRef if how.values.is_none() => how.values = Some(*modifier),
            Modifier::Re | Modifier::Cidr | Modifier::Exists if how.is_open() => how.values = Some(*modifier),
            Modifier::Contains
            | Modifier::StartsWith
            | Modifier::EndsWith
            | Modifier::Gt
            | Modifier::Gte
            | Modifier::Lt
            | Modifier::Lte
            | Modifier::Re
            | Modifier::Cidr
            | Modifier::Exists => return Err(two_ways(modifiers)),
            transformation if encoding::transforms(*transformation) => how.transformations.push(*transformation),
            Modifier::IgnoreCase => how.flags.push('i'),
            Modifier::Multiline => how.flags.push('m'),
            Modifier::DotAll => how.flags.push('s'),
            Modifier::Minute | Modifier::Hour | Modifier::Day | Modifier::Week | Modifier::Month | Modifier::Year => {
                let reason = "is a part of a time, and only `eventTime` is one";
                return Err(Refusal::new(format!("`{}` {reason}", name_of(*modifier))));
            }
            other => {
                return Err(Refusal::new(format!("the modifier `{}` is not understood here", name_of(*other))));
            }
        }
    }
    encoding::check(&how.transformations)?;
    if !how.transformations.is_empty() && (how.values.is_some() || how.relation.is_some()) {
        return Err(Refusal::new("only texts are transformed"));
    }
    if !how.flags.is_empty() && how.values != Some(Modifier::Re) {
        return Err(Refusal::new("`i`, `m` and `s` are flags of `re`, which is missing"));
    }
    Ok(how)
}

/// Returns the refusal of modifiers that say two ways to compare.
fn two_ways(modifiers: &[Modifier]) -> Refusal {
    let reason = "modifiers that say two ways to compare are not understood";
    let advice = if modifiers.contains(&Modifier::Re) { ": `re` alone finds a part of a text" } else { "" };
    Refusal::new(format!("{reason}{advice}"))
}

/// Returns the name of a modifier in Sigma.
fn name_of(modifier: Modifier) -> String {
    format!("{modifier:?}").to_lowercase()
}

fn test(field: &Field, value: &SigmaValue, how: &ValueComparison) -> Result<Predicate, Refusal> {
    let text = value.to_string();
    if !how.transformations.is_empty() {
        let SigmaValue::String(string) = value else {
            return Err(Refusal::new(format!("`{text}` is not a text to encode")));
        };
        let values = encoding::transformed(&string.parts, &how.transformations);
        let values = values.map_err(|reason| reason.about(&text))?;
        let tests = values.iter().map(|parts| of_parts(parts, field, how));
        return Ok(Predicate::Any(tests.collect::<Result<_, Refusal>>()?));
    }
    if let Some(relation) = how.relation {
        return match value {
            SigmaValue::Integer(_) | SigmaValue::Float(_) => {
                if let Field::TimePart(part, _) = field {
                    check_part(*part, &text)?;
                }
                passes(field, &[Test::Number(relation, NumberOperand::Value(text))], Reach::Values)
            }
            _ => Err(Refusal::new(format!("`{text}` is not a number"))),
        };
    }
    if let Field::TimePart(part, _) = field {
        if how.place != MatchPosition::Whole || how.values.is_some() {
            return Err(Refusal::new("it is a number: compare it with numbers"));
        }
        check_part(*part, &text)?;
    }
    match (how.values, value) {
        (Some(Modifier::Re), _) => passes(field, &[Test::Matches(pattern(&how.flags, &text)?)], Reach::Leaves),
        (Some(Modifier::Cidr), _) => {
            let network = text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<std::net::IpAddr>().ok()?.into()));
            let network =
                network.ok_or_else(|| Refusal::new(format!("`{text}` is not a network such as `192.0.2.0/24`")))?;
            // A network is not an address, although it may contain or overlap addresses.
            passes(field, &[Test::Address(Class::Address), Test::Within(network.trunc())], Reach::Values)
        }
        (Some(Modifier::Exists), SigmaValue::Bool(true)) => Ok(exists(field)),
        (Some(Modifier::Exists), SigmaValue::Bool(false)) => Ok(Predicate::None(vec![exists(field)])),
        (Some(Modifier::Exists), _) => Err(Refusal::new("`exists` is `true` or `false`")),
        (Some(Modifier::FieldRef), _) => of_field(field, &self::field(&text)?, how),
        (_, SigmaValue::Null) if how.place == MatchPosition::Whole => Ok(Predicate::None(vec![exists(field)])),
        (_, SigmaValue::Integer(_) | SigmaValue::Float(_) | SigmaValue::Bool(_))
            if how.place == MatchPosition::Whole =>
        {
            passes(field, &[Test::Equals(operand(&text, how.cased))], Reach::Values)
        }
        (_, SigmaValue::Null) => Err(Refusal::new("`null` is not a part of a text")),
        (_, SigmaValue::String(string)) => of_parts(&string.parts, field, how),
        (_, other) => of_parts(&[StringPart::Plain(other.to_string())], field, how),
    }
}

/// Returns a predicate: one of the field's values compares with one of another field's. Both may be in lists.
fn of_field(field: &Field, other: &Field, how: &ValueComparison) -> Result<Predicate, Refusal> {
    answers(other, &Test::Filled, Reach::Values).map_err(|reason| reason.about(other))?;
    let operand = match reached(other, Some(Step::Through)) {
        None if reached(field, None).is_none() && how.cased => Operand::Field(other.clone()),
        None if reached(field, None).is_none() => Operand::FoldedField(other.clone()),
        values => Operand::AnyText { field: values.unwrap_or_else(|| other.clone()), folded: !how.cased },
    };
    let compared = match how.place {
        MatchPosition::Whole => Test::Equals(operand),
        MatchPosition::Start => Test::StartsWith(operand),
        MatchPosition::End => Test::EndsWith(operand),
        MatchPosition::Anywhere => Test::Contains(operand),
    };
    passes(field, &[compared], Reach::Values)
}

/// Checks that a part of a time can be this number.
fn check_part(part: TimePart, number: &str) -> Result<(), Refusal> {
    let (least, greatest) = part.bounds();
    match number.parse::<u32>() {
        Ok(number) if (least..=greatest).contains(&number) => Ok(()),
        _ => Err(Refusal::invalid(format!("`{}` is a number from {least} to {greatest}, not `{number}`", part.name()))),
    }
}

/// Returns a test of a text with wildcards.
fn of_parts(parts: &[StringPart], field: &Field, how: &ValueComparison) -> Result<Predicate, Refusal> {
    const ANY: StringPart = StringPart::Special(SpecialChar::WildcardMulti);
    let mut all: Vec<StringPart> =
        matches!(how.place, MatchPosition::End | MatchPosition::Anywhere).then_some(ANY).into_iter().collect();
    all.extend(parts.iter().cloned());
    all.extend(matches!(how.place, MatchPosition::Start | MatchPosition::Anywhere).then_some(ANY));
    all.dedup_by(|a, b| *a == ANY && *b == ANY);
    let operand = |text: &str| operand(text, how.cased);
    let is_in_string = |text: &str| !may_be_in_number(field, text);
    let is_json = reached(field, None).is_some();
    let test = match all.as_slice() {
        [] => return passes(field, &[Test::Equals(operand(""))], Reach::Values),
        // Any text, which an object or an empty list is not.
        [one] if *one == ANY && is_json => {
            return passes(field, &[Test::Matches(compiled("s", "^.*$")?)], Reach::Values);
        }
        [one] if *one == ANY => return Ok(exists(field)),
        [StringPart::Plain(text)] => return passes(field, &[Test::Equals(operand(text))], Reach::Values),
        [first, StringPart::Plain(text)] if *first == ANY && is_in_string(text) => Test::EndsWith(operand(text)),
        [StringPart::Plain(text), last] if *last == ANY && is_in_string(text) => Test::StartsWith(operand(text)),
        [first, StringPart::Plain(text), last] if *first == ANY && *last == ANY && is_in_string(text) => {
            Test::Contains(operand(text))
        }
        parts => {
            let part = |part: &StringPart| match part {
                StringPart::Plain(text) => regex::escape(text),
                StringPart::Special(SpecialChar::WildcardMulti) => ".*".to_owned(),
                StringPart::Special(SpecialChar::WildcardSingle) => ".".to_owned(),
            };
            let text: String = parts.iter().map(part).collect();
            Test::Matches(compiled(if how.cased { "s" } else { "is" }, &format!("^(?:{text})$"))?)
        }
    };
    passes(field, &[test], Reach::Leaves)
}

/// Returns whether a number or boolean in JSON may contain this text. Tests of strings do not see those.
fn may_be_in_number(field: &Field, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    reached(field, None).is_some()
        && (text.bytes().all(|byte| b"0123456789.e+-".contains(&byte))
            || ["true", "false"].iter().any(|flag| flag.contains(&text)))
}

fn operand(text: &str, cased: bool) -> Operand {
    let text = if cased { text.to_owned() } else { text.to_lowercase() };
    let value = Value { text, shortest: None };
    if cased { Operand::Value(value) } else { Operand::Folded(value) }
}
