//! Reads a Sigma rule's selections as predicates. Texts are compared in any case unless `cased`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SigmaValue, SpecialChar, StringPart,
};

use super::{PlaceStep, Refusal};
use crate::event::{self, ColumnKind};
use crate::path::{Path, Step};
use crate::rule::limits::{self, CONDITIONS};
use crate::rule::predicate::NumberOperand;
use crate::rule::{self, Class, Compared, Field, Operand, Predicate, Test, Value};

/// Returns the field at a path with dots between its keys.
pub(super) fn field(name: &str) -> Result<Field, Refusal> {
    if name.contains('[') {
        return Err(Refusal::new(format!("`{name}`: brackets in the names of fields are not understood")));
    }
    Ok(Field::new(Path(name.split('.').map(|key| Step::Key(key.to_owned())).collect())))
}

/// Returns the predicate of a condition.
pub(super) fn condition(expression: &ConditionExpr, detections: &Detections) -> Result<Predicate, Refusal> {
    let all =
        |parts: &[ConditionExpr]| parts.iter().map(|part| condition(part, detections)).collect::<Result<Vec<_>, _>>();
    match expression {
        ConditionExpr::And(parts) => Ok(Predicate::All(all(parts)?)),
        ConditionExpr::Or(parts) => Ok(Predicate::Any(all(parts)?)),
        ConditionExpr::Not(part) => Ok(Predicate::None(vec![condition(part, detections)?])),
        ConditionExpr::Identifier(name) => {
            let named = detections.named.get(name);
            selection(named.ok_or_else(|| Refusal::new(format!("the condition names `{name}`, which is not defined")))?)
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let is_meant = |name: &&String| pattern.matches_detection_name(name);
            let mut names: Vec<&String> = detections.named.keys().filter(is_meant).collect();
            names.sort();
            if names.is_empty() {
                return Err(Refusal::new(format!(
                    "`{expression}` names no selection (of a pattern's `*` one is understood)"
                )));
            }
            let parts =
                names.into_iter().map(|name| selection(&detections.named[name])).collect::<Result<Vec<_>, _>>()?;
            match quantifier {
                Quantifier::Any | Quantifier::Count(1) => Ok(Predicate::Any(parts)),
                Quantifier::All => Ok(Predicate::All(parts)),
                Quantifier::Count(_) => {
                    Err(Refusal::new(format!("`{expression}`: only `1 of` and `all of` are understood")))
                }
            }
        }
    }
}

/// Returns the reasons why selections cannot be read, each with its place.
pub(super) fn refusals(detections: &Detections) -> Vec<Refusal> {
    let mut found = Vec::new();
    for (name, selection) in &detections.named {
        let mut of_selection = Vec::new();
        add_refusals(selection, &mut of_selection);
        found.extend(of_selection.into_iter().map(|refusal| refusal.at_key(name).at_key("detection")));
    }
    found
}

fn add_refusals(selection: &Detection, found: &mut Vec<Refusal>) {
    match selection {
        Detection::AllOf(items) => found.extend(items.iter().filter_map(|item| self::item(item).err())),
        Detection::AnyOf(parts) => {
            for (index, part) in parts.iter().enumerate() {
                let mut of_part = Vec::new();
                add_refusals(part, &mut of_part);
                found.extend(of_part.into_iter().map(|refusal| refusal.at_index(index)));
            }
        }
        other => found.extend(self::selection(other).err()),
    }
}

/// Checks the size of a condition once its selections are expanded. It may name a selection many times.
pub(super) fn check_size(expression: &ConditionExpr, detections: &Detections) -> Result<(), Refusal> {
    if compared_values(expression, detections) > CONDITIONS {
        return Err(limits::exceeded(
            "values to compare with, in all selections of a condition",
            CONDITIONS,
            limits::SPLIT,
        )
        .into());
    }
    Ok(())
}

fn compared_values(expression: &ConditionExpr, detections: &Detections) -> usize {
    let sum = |sizes: &mut dyn Iterator<Item = usize>| sizes.fold(0, usize::saturating_add);
    match expression {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            sum(&mut parts.iter().map(|part| compared_values(part, detections)))
        }
        ConditionExpr::Not(part) => compared_values(part, detections),
        ConditionExpr::Identifier(name) => detections.named.get(name).map_or(0, values_of),
        ConditionExpr::Selector { pattern, .. } => {
            let named = detections.named.iter().filter(|(name, _)| pattern.matches_detection_name(name));
            sum(&mut named.map(|(_, detection)| values_of(detection)))
        }
    }
}

fn values_of(detection: &Detection) -> usize {
    match detection {
        Detection::AllOf(items) => items.iter().map(|item| item.values.len()).sum(),
        Detection::AnyOf(parts) | Detection::And(parts) => parts.iter().map(values_of).sum(),
        // These are refused.
        Detection::Keywords(_) | Detection::ArrayMatch { .. } | Detection::Conditional { .. } => 1,
    }
}

fn selection(detection: &Detection) -> Result<Predicate, Refusal> {
    let all = |parts: &[Detection]| parts.iter().map(selection).collect::<Result<Vec<_>, _>>();
    match detection {
        Detection::AllOf(items) => Ok(Predicate::All(items.iter().map(item).collect::<Result<_, _>>()?)),
        Detection::AnyOf(parts) => Ok(Predicate::Any(all(parts)?)),
        Detection::And(parts) => Ok(Predicate::All(all(parts)?)),
        Detection::Keywords(_) => Err(Refusal::new("words without a field are not searched for: name the field")),
        Detection::ArrayMatch { field, .. } => {
            Err(Refusal::new(format!("`{field}`: members of lists are not matched")))
        }
        Detection::Conditional { .. } => Err(Refusal::new("conditions on members of lists are not understood")),
    }
}

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
    /// The encoding of values before the comparison.
    encoding: Option<Modifier>,
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

fn item(item: &DetectionItem) -> Result<Predicate, Refusal> {
    let Some(name) = &item.field.name else {
        return Err(Refusal::new("words without a field are not searched for: name the field"));
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
            | Modifier::Exists => {
                return Err(Refusal::new("modifiers that say two ways to compare are not understood"));
            }
            Modifier::Base64 | Modifier::Base64Offset if how.encoding.is_none() => how.encoding = Some(*modifier),
            Modifier::IgnoreCase => how.flags.push('i'),
            Modifier::Multiline => how.flags.push('m'),
            Modifier::DotAll => how.flags.push('s'),
            other => {
                return Err(Refusal::new(format!(
                    "the modifier `{}` is not understood",
                    format!("{other:?}").to_lowercase()
                )));
            }
        }
    }
    if !how.flags.is_empty() && how.values != Some(Modifier::Re) {
        return Err(Refusal::new("`i`, `m` and `s` are flags of `re`, which is missing"));
    }
    Ok(how)
}

fn test(field: &Field, value: &SigmaValue, how: &ValueComparison) -> Result<Predicate, Refusal> {
    let is = |test: Test| tested(field, test);
    let text = value.to_string();
    if let Some(encoding) = how.encoding {
        let SigmaValue::String(string) = value else {
            return Err(Refusal::new(format!("`{text}` is not a text to encode")));
        };
        let [StringPart::Plain(plain)] = string.parts.as_slice() else {
            return Err(Refusal::new(format!("`{text}` is empty or has wildcards, and is not encoded")));
        };
        let tests =
            encoded(plain, encoding).into_iter().map(|text| is(of_parts(&[StringPart::Plain(text)], field, how)?));
        return Ok(Predicate::Any(tests.collect::<Result<_, Refusal>>()?));
    }
    if let Some(relation) = how.relation {
        return match value {
            SigmaValue::Integer(_) | SigmaValue::Float(_) => is(Test::Number(relation, NumberOperand::Value(text))),
            _ => Err(Refusal::new(format!("`{text}` is not a number"))),
        };
    }
    match (how.values, value) {
        (Some(Modifier::Re), _) => is(Test::Matches(pattern(&how.flags, &text)?)),
        (Some(Modifier::Cidr), _) => {
            let network = text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<std::net::IpAddr>().ok()?.into()));
            let network =
                network.ok_or_else(|| Refusal::new(format!("`{text}` is not a network such as `192.0.2.0/24`")))?;
            // A network is not an address, although it may contain or overlap addresses.
            passes(field, &[Test::Address(Class::Address), Test::Within(network.trunc())])
        }
        (Some(Modifier::Exists), SigmaValue::Bool(exists)) => {
            Ok(Predicate::Test { field: field.clone(), test: Test::Present, negated: !exists })
        }
        (Some(Modifier::Exists), _) => Err(Refusal::new("`exists` is `true` or `false`")),
        (Some(Modifier::FieldRef), _) => {
            let other = self::field(&text)?;
            let other = if how.cased { Operand::Field(other) } else { Operand::FoldedField(other) };
            is(match how.place {
                MatchPosition::Whole => Test::Equals(other),
                MatchPosition::Start => Test::StartsWith(other),
                MatchPosition::End => Test::EndsWith(other),
                MatchPosition::Anywhere => Test::Contains(other),
            })
        }
        (_, SigmaValue::Null) if how.place == MatchPosition::Whole => {
            Ok(Predicate::Test { field: field.clone(), test: Test::Present, negated: true })
        }
        (_, SigmaValue::Integer(_) | SigmaValue::Float(_) | SigmaValue::Bool(_))
            if how.place == MatchPosition::Whole =>
        {
            is(Test::Equals(operand(&text, how.cased)))
        }
        (_, SigmaValue::Null) => Err(Refusal::new("`null` is not a part of a text")),
        (_, SigmaValue::String(string)) => is(of_parts(&string.parts, field, how)?),
        (_, other) => is(of_parts(&[StringPart::Plain(other.to_string())], field, how)?),
    }
}

/// Returns a test of a field, or of any element if the field is a list.
fn tested(field: &Field, test: Test) -> Result<Predicate, Refusal> {
    answers(field, &test)?;
    let other = match &test {
        Test::Equals(operand) | Test::StartsWith(operand) | Test::EndsWith(operand) | Test::Contains(operand) => {
            match operand {
                Operand::Field(other) | Operand::FoldedField(other) => Some(other),
                Operand::Value(_) | Operand::Folded(_) => None,
            }
        }
        _ => None,
    };
    if let Some(other) = other {
        answers(other, &Test::Filled).map_err(|reason| reason.about(other))?;
    }
    // `Contains` also searches lists, and an element is not compared with a field.
    if other.is_some() || matches!(test, Test::Present | Test::Contains(_)) {
        return Ok(Predicate::Test { field: field.clone(), test, negated: false });
    }
    passes(field, &[test])
}

/// Returns a predicate: the field passes all tests, or is a list with an element that does.
fn passes(field: &Field, tests: &[Test]) -> Result<Predicate, Refusal> {
    tests.iter().try_for_each(|test| answers(field, test))?;
    let all = |field: &Field| {
        let test = |test: &Test| Predicate::Test { field: field.clone(), test: test.clone(), negated: false };
        match tests {
            [one] => test(one),
            tests => Predicate::All(tests.iter().map(test).collect()),
        }
    };
    if !matches!(field.location(), Some(event::FieldLocation::Below { .. })) {
        return Ok(all(field));
    }
    let each = Box::new(all(&Field::Element(Path::default())));
    let elements = Predicate::Elements { list: field.clone(), quantifier: rule::Quantifier::Any, each };
    Ok(Predicate::Any(vec![all(field), elements]))
}

/// Refuses a test that no value of the field can pass.
fn answers(field: &Field, test: &Test) -> Result<(), Refusal> {
    let is_flag = |operand: &Operand| match operand {
        Operand::Value(value) | Operand::Folded(value) => {
            ["true", "false"].iter().any(|flag| value.text.eq_ignore_ascii_case(flag))
        }
        Operand::Field(_) | Operand::FoldedField(_) => true,
    };
    match (field.location(), test) {
        (_, Test::Present) | (Some(event::FieldLocation::Column(_, ColumnKind::Flag)), Test::Filled) => Ok(()),
        (Some(event::FieldLocation::Time), _) => {
            Err(Refusal::new("it can only be asked whether it is there: choose the time with `--from` and `--to`"))
        }
        (Some(event::FieldLocation::Column(_, ColumnKind::Json)), _) => {
            Err(Refusal::new("it holds fields and is not a text: name the field that is meant"))
        }
        (Some(event::FieldLocation::Column(_, ColumnKind::Flag)), Test::Equals(operand)) if is_flag(operand) => Ok(()),
        (Some(event::FieldLocation::Column(_, ColumnKind::Flag)), _) => {
            Err(Refusal::new("it is `true` or `false`, and nothing else"))
        }
        _ => Ok(()),
    }
}

/// Returns the texts to search for in encoded data: one, or one for each offset at which `text` may begin.
fn encoded(text: &str, encoding: Modifier) -> Vec<String> {
    if encoding == Modifier::Base64 {
        return vec![STANDARD.encode(text)];
    }
    let at = |offset: usize| {
        let encoded = STANDARD.encode([vec![b' '; offset], text.as_bytes().to_vec()].concat());
        // Characters that also depend on the bytes before and after are left out.
        let end = encoded.len() - [0, 3, 2][(text.len() + offset) % 3];
        encoded[[0, 2, 3][offset].min(end)..end].to_owned()
    };
    (0..3).map(at).collect()
}

/// Returns a test of a text with wildcards.
fn of_parts(parts: &[StringPart], field: &Field, how: &ValueComparison) -> Result<Test, Refusal> {
    const ANY: StringPart = StringPart::Special(SpecialChar::WildcardMulti);
    let mut all: Vec<StringPart> =
        matches!(how.place, MatchPosition::End | MatchPosition::Anywhere).then_some(ANY).into_iter().collect();
    all.extend(parts.iter().cloned());
    all.extend(matches!(how.place, MatchPosition::Start | MatchPosition::Anywhere).then_some(ANY));
    all.dedup_by(|a, b| *a == ANY && *b == ANY);
    let operand = |text: &str| operand(text, how.cased);
    let is_in_string = |text: &str| !may_be_in_number(field, text);
    Ok(match all.as_slice() {
        [] => Test::Equals(operand("")),
        [one] if *one == ANY => Test::Present,
        [StringPart::Plain(text)] => Test::Equals(operand(text)),
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
            Test::Matches(pattern(if how.cased { "s" } else { "is" }, &format!("^(?:{text})$"))?)
        }
    })
}

/// Returns whether a number or boolean in JSON may contain this text. Tests of strings do not see those.
fn may_be_in_number(field: &Field, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    matches!(field.location(), Some(event::FieldLocation::Below { .. }))
        && (text.bytes().all(|byte| b"0123456789.e+-".contains(&byte))
            || ["true", "false"].iter().any(|flag| flag.contains(&text)))
}

fn operand(text: &str, cased: bool) -> Operand {
    let text = if cased { text.to_owned() } else { text.to_lowercase() };
    let value = Value { text, shortest: None };
    if cased { Operand::Value(value) } else { Operand::Folded(value) }
}

/// Returns a regular expression that the engine can run.
fn pattern(flags: &str, text: &str) -> Result<String, Refusal> {
    // DataFusion rewrites a pattern without groups to LIKE and reads its backslashes as LIKE's escapes.
    let pattern = if flags.is_empty() { format!("({text})") } else { format!("(?{flags})({text})") };
    match regex::RegexBuilder::new(&pattern).size_limit(limits::PATTERN_BYTES).build() {
        Ok(_) => Ok(pattern),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(Refusal::new(format!("the regular expression `{text}` cannot be run: {reason}")))
        }
    }
}
