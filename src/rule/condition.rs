//! Reads match expressions as predicates.

use ipnet::IpNet;

use super::limits;
use super::lint::{self, Warning};
use super::predicate::NumberOperand;
use super::value_lists::ValueLists;
use super::yaml::{self, Mark, YamlContent, YamlNode, YamlSource};
use super::{Class, Compared, Field, Operand, Predicate, Quantifier, Test, TimePart, Value};
use crate::error::Error;
use crate::event::{ColumnKind, FieldLocation};
use crate::path::{Path, Step};
use crate::raw::json;

mod errors;
mod listed;
mod time_part;

pub(super) use errors::RuleErrors;

/// A condition and whether it negates its test. A field without a value fails every test and passes every negated
/// test.
#[derive(Clone, Copy)]
enum Condition {
    Text(TextTest, Case),
    In,
    Number(Compared),
    Bare(Bare),
    Network(Reach),
    Elements(Quantifier),
    TimePart(TimePart),
    Always(bool),
}

#[derive(Clone, Copy)]
enum TextTest {
    Equals,
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Copy)]
enum Case {
    Exact,
    Folded,
}

#[derive(Clone, Copy)]
enum Bare {
    Present,
    Filled,
    Address(Class),
}

#[derive(Clone, Copy)]
enum Reach {
    One,
    Any,
}

use Bare::{Address, Filled, Present};
use Case::{Exact, Folded};
use Compared::{Greater, GreaterOrEqual, Less, LessOrEqual};
use Condition::{Always, Elements, In, Network, Number, Text};
use TextTest::{Contains, EndsWith, Equals, StartsWith};

/// The conditions, and whether each negates. A condition with two names is listed under both.
const CONDITIONS: &[(&str, Condition, bool)] = &[
    ("Equals", Text(Equals, Exact), false),
    ("DoesNotEqual", Text(Equals, Exact), true),
    ("IEquals", Text(Equals, Folded), false),
    ("IDoesNotEqual", Text(Equals, Folded), true),
    ("StartsWith", Text(StartsWith, Exact), false),
    ("DoesNotStartWith", Text(StartsWith, Exact), true),
    ("IStartsWith", Text(StartsWith, Folded), false),
    ("IDoesNotStartWith", Text(StartsWith, Folded), true),
    ("EndsWith", Text(EndsWith, Exact), false),
    ("DoesNotEndWith", Text(EndsWith, Exact), true),
    ("IEndsWith", Text(EndsWith, Folded), false),
    ("IDoesNotEndWith", Text(EndsWith, Folded), true),
    ("Contains", Text(Contains, Exact), false),
    ("DoesNotContain", Text(Contains, Exact), true),
    ("IContains", Text(Contains, Folded), false),
    ("IDoesNotContain", Text(Contains, Folded), true),
    ("Has", Text(Contains, Exact), false),
    ("DoesNotHave", Text(Contains, Exact), true),
    ("IsIn", In, false),
    ("IsNotIn", In, true),
    ("IsGreaterThan", Number(Greater), false),
    ("IsGreaterThanOrEquals", Number(GreaterOrEqual), false),
    ("IsGreaterThanOrEqual", Number(GreaterOrEqual), false),
    ("IsGreaterThanOrEqualTo", Number(GreaterOrEqual), false),
    ("IsLessThan", Number(Less), false),
    ("IsLessThanOrEquals", Number(LessOrEqual), false),
    ("IsLessThanOrEqual", Number(LessOrEqual), false),
    ("IsLessThanOrEqualTo", Number(LessOrEqual), false),
    ("Exists", Condition::Bare(Present), false),
    ("DoesNotExist", Condition::Bare(Present), true),
    ("IsNotNull", Condition::Bare(Present), false),
    ("IsNull", Condition::Bare(Present), true),
    ("IsNotNullOrEmpty", Condition::Bare(Filled), false),
    ("IsNullOrEmpty", Condition::Bare(Filled), true),
    ("IsIPAddress", Condition::Bare(Address(Class::Address)), false),
    ("IsIPv4Address", Condition::Bare(Address(Class::V4)), false),
    ("IsIPv6Address", Condition::Bare(Address(Class::V6)), false),
    ("IsIPAddressPrivate", Condition::Bare(Address(Class::Private)), false),
    ("IsIPAddressPublic", Condition::Bare(Address(Class::Public)), false),
    ("IsIPAddressInCIDR", Network(Reach::One), false),
    ("IsIPAddressNotInCIDR", Network(Reach::One), true),
    ("CIDRContainsIPAddresses", Network(Reach::Any), false),
    ("CIDRDoesNotContainIPAddresses", Network(Reach::Any), true),
    ("AnyElement", Elements(Quantifier::Any), false),
    ("AllElements", Elements(Quantifier::All), false),
    ("NoElement", Elements(Quantifier::No), false),
    ("OnlyOneElement", Elements(Quantifier::One), false),
    ("Hour", Condition::TimePart(TimePart::Hour), false),
    ("Weekday", Condition::TimePart(TimePart::Weekday), false),
    ("AlwaysTrue", Always(true), false),
    ("AlwaysFalse", Always(false), false),
];

/// The most errors of one list or mapping that are reported together.
const MAX_ERRORS: usize = 20;

const KEYS: [&str; 3] = ["Key", "DeepKey", "KeyPath"];
type Combine = fn(Vec<Predicate>) -> Predicate;
const COMBINATORS: [(&str, Combine); 4] =
    [("All", Predicate::All), ("Any", Predicate::Any), ("OnlyOne", Predicate::OnlyOne), ("None", Predicate::None)];
const EXPRESSION: &[&str] = &[
    "Key",
    "DeepKey",
    "KeyPath",
    "Condition",
    "Value",
    "Values",
    "Zone",
    "Expressions",
    "All",
    "Any",
    "OnlyOne",
    "None",
    "Enrichment",
    "Sequence",
    "Group",
];
const EXPRESSION_SHAPE: &str =
    "an expression is either one of `All`, `Any`, `OnlyOne`, `None`, or a key with a `Condition`";

/// The object whose keys an expression names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Record,
    Element,
}

/// Reads a rule's parts and collects warnings.
pub(super) struct Reader<'s> {
    pub(super) source: YamlSource<'s>,
    pub(super) warnings: Vec<Warning>,
    /// The nesting depth of the current expression.
    pub(super) depth: usize,
    /// The number of lists around the current expression.
    pub(super) lists: u32,
    /// The number of conditions read so far.
    pub(super) conditions: limits::ConditionCount,
    /// The value lists that conditions may name.
    pub(super) value_lists: &'s ValueLists,
}

/// The members of a mapping with known keys only.
#[derive(Clone, Copy)]
pub(super) struct MappingMembers<'n> {
    pub(super) mark: Mark,
    members: &'n [(YamlNode, YamlNode)],
}

impl<'n> MappingMembers<'n> {
    /// Returns the value of `key`. An empty value counts as none.
    pub(super) fn get(&self, key: &str) -> Option<&'n YamlNode> {
        self.given(key).filter(|value| !value.is_null())
    }

    /// Returns the value of `key`, also if it is null.
    pub(super) fn given(&self, key: &str) -> Option<&'n YamlNode> {
        self.entry(key).map(|(_, value)| value)
    }

    fn entry(&self, key: &str) -> Option<(&'n YamlNode, &'n YamlNode)> {
        self.members.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(name, value)| (name, value))
    }
}

impl<'s> Reader<'s> {
    /// Returns a reader of one document.
    pub(super) fn new(source: YamlSource<'s>, value_lists: &'s ValueLists) -> Reader<'s> {
        let conditions = limits::ConditionCount::default();
        Reader { source, warnings: Vec::new(), depth: 0, lists: 0, conditions, value_lists }
    }
}

impl Reader<'_> {
    pub(super) fn error<T>(&self, mark: Mark, message: &str) -> Result<T, Error> {
        Err(self.source.error(mark, message))
    }

    /// Returns the values of all results, or the errors of several.
    fn all<T>(results: impl IntoIterator<Item = Result<T, Error>>) -> Result<Vec<T>, Error> {
        let (mut values, mut errors) = (Vec::new(), RuleErrors::default());
        for result in results {
            values.extend(errors.keep(result)?);
            if errors.count() >= MAX_ERRORS {
                break;
            }
        }
        errors.none()?;
        Ok(values)
    }

    fn expected<T>(&self, node: &YamlNode, what: &str, wanted: &str) -> Result<T, Error> {
        self.error(node.mark, &format!("{what} must be {wanted}, and this is {}", node.kind()))
    }

    /// Returns the members of a mapping. A key that is not in `known` is an error.
    pub(super) fn members<'n>(
        &self,
        node: &'n YamlNode,
        what: &str,
        known: &[&str],
    ) -> Result<MappingMembers<'n>, Error> {
        let members = self.mapping(node, what)?;
        self.check_keys(&members, what, known)?;
        Ok(members)
    }

    /// Returns the members of a mapping, with any keys.
    pub(super) fn mapping<'n>(&self, node: &'n YamlNode, what: &str) -> Result<MappingMembers<'n>, Error> {
        match &node.content {
            YamlContent::Map(members) => Ok(MappingMembers { mark: node.mark, members }),
            _ => self.expected(node, what, "a mapping"),
        }
    }

    /// Checks that all keys of a mapping are in `known`.
    pub(super) fn check_keys(&self, members: &MappingMembers<'_>, what: &str, known: &[&str]) -> Result<(), Error> {
        Self::all(members.members.iter().map(|(key, _)| {
            let name = key.as_text().unwrap_or_default();
            if known.contains(&name) {
                return Ok(());
            }
            let guess = yaml::nearest(name, known.iter().copied());
            let hint = guess.map_or_else(String::new, |guess| format!("; did you mean `{guess}`?"));
            self.error(key.mark, &format!("`{name}` is not a key of {what}{hint}"))
        }))
        .map(drop)
    }

    pub(super) fn list<'n>(&self, node: &'n YamlNode, what: &str) -> Result<&'n [YamlNode], Error> {
        match &node.content {
            YamlContent::List(elements) => Ok(elements),
            _ => self.expected(node, what, "a list"),
        }
    }

    pub(super) fn text(&self, node: &YamlNode, what: &str) -> Result<String, Error> {
        match node.as_text() {
            Some(text) => Ok(text.to_owned()),
            None => self.expected(node, what, "a text"),
        }
    }

    pub(super) fn flag(&self, node: &YamlNode, what: &str) -> Result<bool, Error> {
        match node.as_bool() {
            Some(flag) => Ok(flag),
            None => self.expected(node, what, "true or false"),
        }
    }

    pub(super) fn warn(&mut self, mark: Mark, code: lint::Code, message: String) {
        self.warnings.push(Warning { code, line: mark.line, column: mark.column, message });
    }

    /// Returns the predicate of a list of expressions that must all hold.
    pub(super) fn conjunction(&mut self, node: &YamlNode, what: &str, scope: Scope) -> Result<Predicate, Error> {
        Ok(Predicate::All(self.expressions(node, what, scope, true)?))
    }

    fn expressions(&mut self, node: &YamlNode, what: &str, scope: Scope, lone: bool) -> Result<Vec<Predicate>, Error> {
        let nodes = self.list(node, what)?;
        if self.depth == limits::DEPTH {
            return self.error(node.mark, &format!("expressions nest more than {} deep here", limits::DEPTH));
        }
        self.depth += 1;
        let predicates = Self::all(nodes.iter().map(|node| self.expression(node, scope)));
        self.depth -= 1;
        let predicates = predicates?;
        if lone && scope == Scope::Record {
            for (at, field) in lint::lone_negations(&predicates) {
                let message =
                    format!("this also matches records without `{field}`; if they are not meant, add `Exists`");
                self.warn(nodes[at].mark, lint::Code::LoneNegation, message);
            }
        }
        Ok(predicates)
    }

    fn expression(&mut self, node: &YamlNode, scope: Scope) -> Result<Predicate, Error> {
        let members = self.members(node, "an expression", EXPRESSION)?;
        for (key, why) in [
            ("Enrichment", "there are no look-up tables here: test the record's own fields"),
            ("Sequence", "correlations are not rules: hunt each of its rules separately"),
            ("Group", "correlations are not rules: hunt each of its rules separately"),
        ] {
            if let Some((name, _)) = members.entry(key) {
                return self.error(name.mark, &format!("`{key}` is not supported: {why}"));
            }
        }
        let combined = COMBINATORS.iter().find_map(|(key, combine)| Some((*key, combine, members.given(key)?)));
        if let Some((key, combine, inner)) = combined {
            if members.members.len() > 1 {
                return self.error(members.mark, EXPRESSION_SHAPE);
            }
            let lone = matches!(key, "All" | "Any");
            return Ok(combine(self.expressions(inner, &format!("`{key}`"), scope, lone)?));
        }
        let Some(condition) = members.get("Condition") else {
            return self.error(members.mark, EXPRESSION_SHAPE);
        };
        let name = self.text(condition, "`Condition`")?;
        let Some((name, shape, negated)) = CONDITIONS.iter().find(|(known, _, _)| *known == name) else {
            return self.error(condition.mark, &unknown_condition(&name));
        };
        self.condition(&members, condition.mark, (name, *shape, *negated), scope)
    }

    fn condition(
        &mut self,
        members: &MappingMembers<'_>,
        mark: Mark,
        (name, condition, negated): (&str, Condition, bool),
        scope: Scope,
    ) -> Result<Predicate, Error> {
        self.conditions.add(self.lists);
        if let Err(reason) = self.conditions.check() {
            return self.error(mark, &reason.to_string());
        }
        if let Condition::TimePart(part) = condition {
            return self.time_part(members, mark, (name, part), scope);
        }
        if let Some(zone) = members.get("Zone") {
            return self.error(zone.mark, &format!("`{name}` takes no `Zone`"));
        }
        let (value, values) = (members.given("Value"), members.get("Values"));
        if members.get("Expressions").is_some() && !matches!(condition, Elements(_)) {
            return self.error(mark, &format!("`{name}` takes no `Expressions`"));
        }
        if let Some(values) = values
            && matches!(values.content, YamlContent::Map(_))
        {
            return self.listed(members, values, (name, condition, negated), scope);
        }
        if let Some(values) = values
            && matches!(condition, Text(..) | Number(_))
        {
            return self.columns(members, values, (name, condition, negated), scope);
        }
        let (wanted, right) = match condition {
            Text(..) | Number(_) | Network(_) => ("one `Value`", value.is_some() && values.is_none()),
            In => ("a list of `Values`", values.is_some() && value.is_none()),
            Condition::Bare(Address(_)) => {
                ("no value", values.is_none() && value.is_none_or(|value| value.as_bool() == Some(true)))
            }
            Condition::Bare(_) | Elements(_) | Condition::TimePart(_) | Always(_) => {
                ("no value", values.is_none() && value.is_none())
            }
        };
        if !right {
            return self.error(mark, &format!("`{name}` takes {wanted}"));
        }
        if let Always(outcome) = condition {
            if KEYS.iter().any(|key| members.get(key).is_some()) {
                return self.error(mark, &format!("`{name}` takes no key"));
            }
            return Ok(if outcome { Predicate::All(Vec::new()) } else { Predicate::Any(Vec::new()) });
        }
        let field = self.tested_key(members, scope)?;
        let test = match condition {
            Text(test, case) => {
                let value = self.value(value, name, mark)?;
                test.of(match case {
                    Exact => Operand::Value(value),
                    Folded => Operand::Folded(Value { text: value.text.to_lowercase(), ..value }),
                })
            }
            In => Test::In(self.values(values, mark, name)?),
            Number(compared) => Test::Number(compared, NumberOperand::Value(self.number(value, mark, name)?)),
            Network(Reach::One) => Test::Within(self.network(value, mark, name)?),
            Network(Reach::Any) => Test::AnyWithin(self.network(value, mark, name)?),
            Condition::Bare(Present) => Test::Present,
            Condition::Bare(Filled) => Test::Filled,
            Condition::Bare(Address(class)) => Test::Address(class),
            Elements(quantifier) => {
                let Some(expressions) = members.get("Expressions") else {
                    return self.error(mark, &format!("`{name}` takes a list of `Expressions`"));
                };
                if matches!(field.location(), Some(FieldLocation::Column(_, ColumnKind::Text | ColumnKind::Flag))) {
                    let message = format!("`{field}` is never a list");
                    self.warn(mark, lint::Code::NeverTrue, message);
                }
                self.lists += 1;
                let each = self.conjunction(expressions, "`Expressions`", Scope::Element);
                self.lists -= 1;
                return Ok(Predicate::Elements { list: field, quantifier, each: Box::new(each?) });
            }
            Condition::TimePart(_) | Always(_) => return self.error(mark, EXPRESSION_SHAPE),
        };
        if field.location() == Some(FieldLocation::Time) && !matches!(test, Test::Present | Test::Filled) {
            return self
                .error(mark, "`eventTime` has the conditions `Hour`, `Weekday` and `Exists`: choose the time with `--from` and `--to`");
        }
        if lint::never_true(&field, &test) {
            self.warn(mark, lint::Code::NeverTrue, format!("`{field}` is a boolean, which is never so"));
        }
        Ok(Predicate::Test { field, test, negated })
    }

    /// Returns a comparison of two fields.
    fn columns(
        &mut self,
        members: &MappingMembers<'_>,
        values: &YamlNode,
        (name, condition, negated): (&str, Condition, bool),
        scope: Scope,
    ) -> Result<Predicate, Error> {
        let shape = format!("`{name}` takes one `Value`, or as `Values` two keys to compare and no other key");
        if KEYS.iter().any(|key| members.get(key).is_some()) || members.get("Value").is_some() {
            return self.error(values.mark, &shape);
        }
        let [left, right] = self.list(values, "`Values`")? else {
            return self.error(values.mark, &shape);
        };
        let mut keys = Vec::new();
        for node in [left, right] {
            let field = self.tested_key(&self.members(node, "a key", &KEYS)?, scope)?;
            if field.location() == Some(FieldLocation::Time) {
                return self.error(node.mark, "`eventTime` cannot be compared with another field");
            }
            keys.push(field);
        }
        let (Some(right), Some(field)) = (keys.pop(), keys.pop()) else {
            return self.error(values.mark, &shape);
        };
        let test = match condition {
            Text(test, Exact) => test.of(Operand::Field(right)),
            Text(test, Folded) => test.of(Operand::FoldedField(right)),
            Number(compared) => Test::Number(compared, NumberOperand::Field(right)),
            _ => return self.error(values.mark, &shape),
        };
        Ok(Predicate::Test { field, test, negated })
    }

    fn values(&mut self, values: Option<&YamlNode>, mark: Mark, name: &str) -> Result<Vec<Value>, Error> {
        let nodes = match values {
            Some(values) => self.list(values, "`Values`")?,
            None => &[],
        };
        if nodes.is_empty() {
            return self.error(mark, &format!("`{name}` takes a list of `Values` with at least one"));
        }
        nodes.iter().map(|node| self.value(Some(node), name, mark)).collect()
    }

    fn value(&mut self, node: Option<&YamlNode>, name: &str, mark: Mark) -> Result<Value, Error> {
        let Some(node) = node else {
            return self.error(mark, &format!("`{name}` takes one `Value`"));
        };
        if node.is_null() {
            return self.error(node.mark, "a value must not be null; test for null with `IsNull`");
        }
        let Some(text) = node.as_text() else {
            return self.expected(node, "a value", "a text, number or boolean");
        };
        if let Some(other) = lint::read_by_others(node) {
            let message = format!("a YAML 1.1 reader takes `{text}` for {other}; put it in quotes");
            self.warn(node.mark, lint::Code::AmbiguousValue, message);
        }
        if let Some(flag) = node.as_bool() {
            return Ok(Value { text: flag.to_string(), shortest: None });
        }
        let shortest = if node.is_number() { json::number(text) } else { None };
        Ok(Value { text: text.to_owned(), shortest: shortest.filter(|shortest| shortest != text) })
    }

    fn number(&self, node: Option<&YamlNode>, mark: Mark, name: &str) -> Result<String, Error> {
        let text = node.and_then(YamlNode::as_text).unwrap_or_default();
        match json::number(text) {
            Some(_) => Ok(text.to_owned()),
            None => self.error(node.map_or(mark, |node| node.mark), &format!("`{name}` takes a number")),
        }
    }

    fn network(&self, node: Option<&YamlNode>, mark: Mark, name: &str) -> Result<IpNet, Error> {
        let text = node.and_then(YamlNode::as_text).unwrap_or_default();
        let network = text.parse::<IpNet>().ok();
        if let Some(network) = network.or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from)) {
            return Ok(network.trunc());
        }
        let mark = node.map_or(mark, |node| node.mark);
        self.error(mark, &format!("`{name}` takes a network, such as 10.0.0.0/8 or 2001:db8::/32"))
    }

    /// Returns the field that one of the three kinds of keys names. Within a list element, no key means the element.
    pub(super) fn key(&mut self, members: &MappingMembers<'_>, scope: Scope) -> Result<Field, Error> {
        let mut given = KEYS.iter().filter_map(|key| members.get(key).map(|node| (*key, node)));
        let (key, node) = match (given.next(), given.next()) {
            (Some(one), None) => one,
            (None, _) if scope == Scope::Element => return Ok(Field::Element(Path::default())),
            _ => return self.error(members.mark, "expected exactly one of `Key`, `DeepKey` and `KeyPath`"),
        };
        let path = match key {
            "Key" => Path::of_key(&self.text(node, "`Key`")?),
            "DeepKey" => {
                let steps = self.list(node, "`DeepKey`")?.iter().map(|step| self.step(step));
                Path(steps.collect::<Result<_, _>>()?)
            }
            _ => return self.path(node, "`KeyPath`", scope),
        };
        if path.0.is_empty() || path.0.contains(&Step::Key(String::new())) {
            return self.error(node.mark, "a key must not be empty");
        }
        Ok(self.field(path, node.mark, scope))
    }

    /// Returns the field that a condition tests.
    fn tested_key(&mut self, members: &MappingMembers<'_>, scope: Scope) -> Result<Field, Error> {
        match self.key(members, scope)? {
            Field::Origin => self.error(
                members.mark,
                "`origin` is known only after the scan: use it in `GroupBy`, or test `actor` here",
            ),
            field => Ok(field),
        }
    }

    /// Returns the field at a path that is written as one text.
    pub(super) fn path(&mut self, node: &YamlNode, what: &str, scope: Scope) -> Result<Field, Error> {
        match self.text(node, what)?.parse::<Path>() {
            Ok(path) => Ok(self.field(path, node.mark, scope)),
            Err(reason) => self.error(node.mark, &format!("{what}: {reason}")),
        }
    }

    pub(super) fn field(&mut self, path: Path, mark: Mark, scope: Scope) -> Field {
        if scope == Scope::Element {
            return Field::Element(path);
        }
        let field = Field::new(path);
        if let Some(message) = lint::unknown_field(&field) {
            self.warn(mark, lint::Code::UnknownField, message);
        }
        field
    }

    fn step(&self, node: &YamlNode) -> Result<Step, Error> {
        let text = self.text(node, "a step of a `DeepKey`")?;
        let index = if node.is_number() { text.parse().ok() } else { None };
        Ok(index.map_or(Step::Key(text), Step::Index))
    }
}

impl TextTest {
    fn of(self, operand: Operand) -> Test {
        match self {
            Equals => Test::Equals(operand),
            StartsWith => Test::StartsWith(operand),
            EndsWith => Test::EndsWith(operand),
            Contains => Test::Contains(operand),
        }
    }
}

fn unknown_condition(given: &str) -> String {
    let names = CONDITIONS.iter().map(|(name, _, _)| *name);
    match yaml::nearest(given, names.clone()) {
        Some(near) => format!("there is no condition `{given}`; did you mean `{near}`?"),
        None => format!("there is no condition `{given}`. There are {}", names.collect::<Vec<_>>().join(", ")),
    }
}
