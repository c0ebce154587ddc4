//! Reads a Sigma rule's selections as predicates. Texts are compared in any case unless `cased`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SelectorPattern, SigmaValue,
    SpecialChar, StringPart,
};

use super::{PlaceStep, Refusal};
use crate::event::{ColumnKind, EVENT_TIME, FieldLocation, OTHER_FIELDS};
use crate::path::{Path, Step};
use crate::rule::limits::{self, CONDITIONS};
use crate::rule::predicate::NumberOperand;
use crate::rule::{self, Class, Compared, Field, Operand, Predicate, Test, TimePart, Value};

/// Returns the field at a path with dots between its keys.
pub(super) fn field(name: &str) -> Result<Field, Refusal> {
    if name.contains('[') {
        return Err(Refusal::new(format!("`{name}`: brackets in the names of fields are not understood")));
    }
    if let Some((time, part)) = name.split_once('.')
        && time.eq_ignore_ascii_case(EVENT_TIME)
        && let Some(part) = TimePart::ALL.into_iter().find(|known| known.name() == part)
    {
        return Ok(Field::TimePart(part));
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
            let is_meant = |name: &&String| is_selected(pattern, name);
            let mut names: Vec<&String> = detections.named.keys().filter(is_meant).collect();
            names.sort();
            if names.is_empty() {
                return Err(Refusal::invalid(format!("`{expression}` names no selection")));
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

/// Returns whether a selector means the selection `name`. Names that begin with `_` must be written out.
fn is_selected(pattern: &SelectorPattern, name: &str) -> bool {
    let pattern = match pattern {
        SelectorPattern::Them => "*",
        SelectorPattern::Pattern(pattern) => pattern,
    };
    if name.starts_with('_') && !pattern.starts_with('_') {
        return false;
    }
    let mut parts = pattern.split('*');
    let (first, last) = (parts.next().unwrap_or_default(), parts.next_back());
    let (Some(last), Some(mut rest)) = (last, name.strip_prefix(first)) else {
        return pattern == name;
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Returns the reasons why the selections of a section cannot be read, each with its place.
pub(super) fn refusals(detections: &Detections, section: &str) -> Vec<Refusal> {
    let mut found = Vec::new();
    for (name, selection) in &detections.named {
        let mut of_selection = Vec::new();
        add_refusals(selection, &mut of_selection);
        found.extend(of_selection.into_iter().map(|refusal| refusal.at_key(name).at_key(section)));
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
            let named = detections.named.iter().filter(|(name, _)| is_selected(pattern, name));
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
            Modifier::WindAsh => {
                let reason = "it is about the command lines of Windows, which CloudTrail does not record";
                return Err(Refusal::new(format!("the modifier `windash` is not understood: {reason}")));
            }
            Modifier::Wide | Modifier::Utf16 | Modifier::Utf16be => {
                let reason = "it is about UTF-16, and CloudTrail's records are UTF-8";
                return Err(Refusal::new(format!("the modifier `{}` is not understood: {reason}", name_of(*modifier))));
            }
            Modifier::Minute | Modifier::Hour | Modifier::Day | Modifier::Week | Modifier::Month | Modifier::Year => {
                let reason = "is a part of a time, and only `eventTime` is one";
                return Err(Refusal::new(format!("`{}` {reason}", name_of(*modifier))));
            }
            other => {
                return Err(Refusal::new(format!("the modifier `{}` is not understood here", name_of(*other))));
            }
        }
    }
    if !how.flags.is_empty() && how.values != Some(Modifier::Re) {
        return Err(Refusal::new("`i`, `m` and `s` are flags of `re`, which is missing"));
    }
    Ok(how)
}

/// Returns the name of a modifier in Sigma.
fn name_of(modifier: Modifier) -> String {
    format!("{modifier:?}").to_lowercase()
}

fn test(field: &Field, value: &SigmaValue, how: &ValueComparison) -> Result<Predicate, Refusal> {
    let text = value.to_string();
    if let Some(encoding) = how.encoding {
        let SigmaValue::String(string) = value else {
            return Err(Refusal::new(format!("`{text}` is not a text to encode")));
        };
        let [StringPart::Plain(plain)] = string.parts.as_slice() else {
            return Err(Refusal::new(format!("`{text}` is empty or has wildcards, and is not encoded")));
        };
        let tests = encoded(plain, encoding).into_iter().map(|text| of_parts(&[StringPart::Plain(text)], field, how));
        return Ok(Predicate::Any(tests.collect::<Result<_, Refusal>>()?));
    }
    if let Some(relation) = how.relation {
        return match value {
            SigmaValue::Integer(_) | SigmaValue::Float(_) => {
                if let Field::TimePart(part) = field {
                    check_part(*part, &text)?;
                }
                passes(field, &[Test::Number(relation, NumberOperand::Value(text))], Reach::Values)
            }
            _ => Err(Refusal::new(format!("`{text}` is not a number"))),
        };
    }
    if let Field::TimePart(part) = field {
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
        (Some(Modifier::FieldRef), _) => {
            let other = self::field(&text)?;
            answers(&other, &Test::Filled, Reach::Values).map_err(|reason| reason.about(&other))?;
            let other = if how.cased { Operand::Field(other) } else { Operand::FoldedField(other) };
            let compared = match how.place {
                MatchPosition::Whole => Test::Equals(other),
                MatchPosition::Start => Test::StartsWith(other),
                MatchPosition::End => Test::EndsWith(other),
                MatchPosition::Anywhere => Test::Contains(other),
            };
            answers(field, &compared, Reach::Values)?;
            Ok(Predicate::Test { field: field.clone(), test: compared, negated: false })
        }
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

/// Checks that a part of a time can be this number.
fn check_part(part: TimePart, number: &str) -> Result<(), Refusal> {
    let (least, greatest) = part.bounds();
    match number.parse::<u32>() {
        Ok(number) if (least..=greatest).contains(&number) => Ok(()),
        _ => Err(Refusal::invalid(format!("`{}` is a number from {least} to {greatest}, not `{number}`", part.name()))),
    }
}

/// The values of a JSON field that a test looks at. All paths go through lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The value, or the elements of a list.
    Values,
    /// The strings, numbers and booleans within the value.
    Leaves,
}

/// Returns the path to the values of a field that a JSON column holds. `None` for others.
fn reached(field: &Field, last: Option<Step>) -> Option<Field> {
    let Field::Path(path) = field else {
        return None;
    };
    if !matches!(field.location(), Some(FieldLocation::Below { .. } | FieldLocation::Column(_, ColumnKind::Json))) {
        return None;
    }
    let mut steps = Vec::with_capacity(path.0.len() * 2);
    for step in &path.0 {
        steps.push(step.clone());
        steps.push(Step::Through);
    }
    steps.pop();
    steps.extend(last);
    Some(Field::Path(Path(steps)))
}

/// Returns a predicate: the field has a value that is not null.
fn exists(field: &Field) -> Predicate {
    let present = |field: Field| Predicate::Test { field, test: Test::Present, negated: false };
    // Only `resources`, and fields that CloudTrail does not define, are lists themselves.
    let is_in_object = matches!(field.location(), Some(FieldLocation::Below { column, path, .. })
        if path.len() == 1 && !["resources", OTHER_FIELDS].contains(&column));
    match reached(field, None) {
        Some(list) if list != *field && !is_in_object => {
            let each = Box::new(present(Field::Element(Path::default())));
            let elements = Predicate::Elements { list, quantifier: rule::Quantifier::Any, each };
            Predicate::Any(vec![present(field.clone()), elements])
        }
        _ => present(field.clone()),
    }
}

/// Returns a predicate: one of the values that the tests look at passes all of them.
fn passes(field: &Field, tests: &[Test], reach: Reach) -> Result<Predicate, Refusal> {
    tests.iter().try_for_each(|test| answers(field, test, reach))?;
    let all = |field: &Field| {
        let test = |test: &Test| Predicate::Test { field: field.clone(), test: test.clone(), negated: false };
        match tests {
            [one] => test(one),
            tests => Predicate::All(tests.iter().map(test).collect()),
        }
    };
    let end = match reach {
        Reach::Values => Step::Through,
        Reach::Leaves => Step::Leaves,
    };
    let Some(list) = reached(field, Some(end)) else {
        return Ok(all(field));
    };
    let each = Box::new(all(&Field::Element(Path::default())));
    let elements = Predicate::Elements { list, quantifier: rule::Quantifier::Any, each };
    Ok(match field.location() {
        // Most values are in the promoted column.
        Some(FieldLocation::Below { hot: Some(_), .. }) => Predicate::Any(vec![all(field), elements]),
        _ => elements,
    })
}

/// Refuses a test that no value of the field can pass.
fn answers(field: &Field, test: &Test, reach: Reach) -> Result<(), Refusal> {
    let is_flag = |operand: &Operand| match operand {
        Operand::Value(value) | Operand::Folded(value) => {
            ["true", "false"].iter().any(|flag| value.text.eq_ignore_ascii_case(flag))
        }
        Operand::Field(_) | Operand::FoldedField(_) => true,
    };
    match (field.location(), test) {
        (_, Test::Present) | (Some(FieldLocation::Column(_, ColumnKind::Flag)), Test::Filled) => Ok(()),
        (Some(FieldLocation::Time), _) => {
            Err(Refusal::new("it can only be asked whether it is there: choose the time with `--from` and `--to`"))
        }
        (Some(FieldLocation::Column(_, ColumnKind::Json)), _) if reach == Reach::Values => {
            Err(Refusal::new("it holds fields and is not a text: name the field that is meant"))
        }
        (Some(FieldLocation::Column(_, ColumnKind::Flag)), Test::Equals(operand)) if is_flag(operand) => Ok(()),
        (Some(FieldLocation::Column(_, ColumnKind::Flag)), _) => {
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

/// Returns the regular expression of a rule. As in PCRE, a `$` also matches before a line break at the very end.
fn pattern(flags: &str, text: &str) -> Result<String, Refusal> {
    // With `m`, given as a flag or in the text, it matches at every line's end.
    let sets_m = |group: &str| {
        let end = group.find(|c: char| !c.is_ascii_alphabetic() && c != '-').unwrap_or(group.len());
        group[..end].contains('m') && group[end..].starts_with([':', ')'])
    };
    if flags.contains('m') || text.split("(?").skip(1).any(sets_m) {
        return compiled(flags, text);
    }
    let (mut written, mut classes) = (String::with_capacity(text.len()), 0_usize);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                written.push(letter);
                written.extend(letters.next());
                continue;
            }
            '[' => {
                classes += 1;
                written.push(letter);
                written.extend(letters.next_if_eq(&'^'));
                // A first `]` is a member of the class.
                written.extend(letters.next_if_eq(&']'));
                continue;
            }
            ']' => classes = classes.saturating_sub(1),
            '$' if classes == 0 => {
                written.push_str(r"\n?$");
                continue;
            }
            _ => {}
        }
        written.push(letter);
    }
    compiled(flags, &written).map_err(|_| ()).or_else(|()| compiled(flags, text))
}

/// Returns a regular expression that the engine can run.
fn compiled(flags: &str, text: &str) -> Result<String, Refusal> {
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
