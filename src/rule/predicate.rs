//! Which records match.

use std::sync::Arc;

use ipnet::IpNet;

use super::exceptions::Exception;
use super::value_lists::ValueList;
use super::{Field, limits};
pub use crate::event::address::Class;
use crate::event::{self, ColumnKind, FieldLocation};
use crate::time::Range;
use crate::trail::text_condition::{self, MemberTest, TextComparison, TextCondition};

/// Which records match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// All hold. True if there are none.
    All(Vec<Predicate>),
    /// At least one holds.
    Any(Vec<Predicate>),
    /// None holds.
    None(Vec<Predicate>),
    /// Exactly one holds.
    OnlyOne(Vec<Predicate>),
    /// A test of a field.
    Test {
        /// The field.
        field: Field,
        /// The test.
        test: Test,
        /// Whether the field must *not* pass the test. A field without a value fails every test, and so passes every
        /// negated test.
        negated: bool,
    },
    /// A test of a list's elements. A field that is not a list fails every quantifier except [`Quantifier::No`].
    Elements {
        /// The list.
        list: Field,
        /// The elements that must satisfy the predicate.
        quantifier: Quantifier,
        /// The predicate over [`Field::Element`]s.
        each: Box<Predicate>,
    },
    /// The event's time lies in this range. A record without a readable time is in no range.
    During(Range),
    /// A predicate holds, and no exception does.
    Except {
        /// The predicate without exceptions.
        matches: Box<Predicate>,
        /// The exceptions, each at most once.
        exceptions: Vec<Arc<Exception>>,
    },
}

/// A quantifier over the elements of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantifier {
    /// At least one.
    Any,
    /// Every element. True for an empty list.
    All,
    /// None.
    No,
    /// Exactly one.
    One,
}

/// A test of a field's value. Strings, numbers and booleans are compared by their text, so a number equals a string
/// with the same text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It has a value that is not null.
    Present,
    /// It has a value that is not null, `""`, `[]` or `{}`.
    Filled,
    /// Its text is this.
    Equals(Operand),
    /// It is a string that begins with this.
    StartsWith(Operand),
    /// It is a string that ends with this.
    EndsWith(Operand),
    /// It is a string that contains this, a scalar that equals this, or a list with such an element.
    Contains(Operand),
    /// It is a scalar, and this regular expression matches a part of its text.
    Matches(String),
    /// Its text is one of these, or it is a list with such an element.
    In(Vec<Value>),
    /// It is a number, or the text of one, and this comparison holds.
    Number(Compared, NumberOperand),
    /// It is an address of this class.
    Address(Class),
    /// It is an address in, or a network that overlaps, this network.
    Within(IpNet),
    /// It is an address in this network, or a list with such an address.
    AnyWithin(IpNet),
    /// Its text is in this list, or it is a list with such an element.
    InList(Arc<ValueList>),
    /// It is an address in, or a network that overlaps, a network of this list.
    WithinList(Arc<ValueList>),
    /// It is an address in a network of this list, or a list with such an address.
    AnyWithinList(Arc<ValueList>),
}

/// The operand of a comparison of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// A value of the rule.
    Value(Value),
    /// A value of the rule, in lower case. It is compared with the field's text in lower case.
    Folded(Value),
    /// The text of another field.
    Field(Field),
    /// The text of another field, both in lower case.
    FoldedField(Field),
    /// The text of any string, number or boolean in another field, whose path may go through lists. The tested value
    /// may be any of these too.
    AnyText {
        /// The other field.
        field: Field,
        /// Whether both are in lower case.
        folded: bool,
    },
}

/// The operand of a comparison of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberOperand {
    /// A number of the rule, as JSON text.
    Value(String),
    /// Another field.
    Field(Field),
}

/// A scalar in a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its text.
    pub text: String,
    /// Its shortest decimal form, if it was written as a number and this form differs.
    pub shortest: Option<String>,
}

impl Value {
    /// Returns the texts that equal it.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.text.as_str()).chain(self.shortest.as_deref())
    }
}

/// A comparison of numbers. The field is the left side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum Compared {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Predicate {
    /// Returns a condition on the JSON text of every match.
    pub fn text_condition(&self) -> TextCondition {
        let conditions = |parts: &[Predicate]| parts.iter().map(Predicate::text_condition).collect();
        match self {
            Predicate::All(all) => TextCondition::All(conditions(all)),
            Predicate::Any(any) => TextCondition::Any(conditions(any)),
            Predicate::None(none) => TextCondition::None(conditions(none)),
            Predicate::OnlyOne(one) => TextCondition::Any(conditions(one)).at_most(),
            Predicate::Elements { quantifier: Quantifier::Any | Quantifier::One, each, .. } => {
                each.text_condition().at_most()
            }
            Predicate::Test { field, test, negated } => test.text_condition(field, *negated),
            Predicate::Elements { quantifier: Quantifier::All | Quantifier::No, .. } | Predicate::During(_) => {
                TextCondition::Unknown
            }
            Predicate::Except { matches, .. } => matches.text_condition().at_most(),
        }
    }

    /// Returns [`Predicate::Except`] as a combination of other predicates.
    pub fn excepted(matches: &Predicate, exceptions: &[Arc<Exception>]) -> Predicate {
        let does_not_apply = |exception: &Arc<Exception>| Predicate::None(vec![exception.condition()]);
        Predicate::All(std::iter::once(matches.clone()).chain(exceptions.iter().map(does_not_apply)).collect())
    }

    /// Returns the predicate with the values of its lists as values of its own.
    ///
    /// # Errors
    /// A list has more than [`limits::WRITTEN_VALUES`] values.
    pub fn with_lists_written_out(&self) -> Result<Predicate, Arc<ValueList>> {
        let all = |parts: &[Predicate]| parts.iter().map(Predicate::with_lists_written_out).collect::<Result<_, _>>();
        Ok(match self {
            Predicate::All(parts) => Predicate::All(all(parts)?),
            Predicate::Any(parts) => Predicate::Any(all(parts)?),
            Predicate::None(parts) => Predicate::None(all(parts)?),
            Predicate::OnlyOne(parts) => Predicate::OnlyOne(all(parts)?),
            Predicate::Elements { list, quantifier, each } => {
                let each = Box::new(each.with_lists_written_out()?);
                Predicate::Elements { list: list.clone(), quantifier: *quantifier, each }
            }
            Predicate::Except { matches, exceptions } => {
                return Predicate::excepted(matches, exceptions).with_lists_written_out();
            }
            Predicate::Test { field, test, negated } => {
                let (Test::InList(list) | Test::WithinList(list) | Test::AnyWithinList(list)) = test else {
                    return Ok(self.clone());
                };
                if list.len() > limits::WRITTEN_VALUES {
                    return Err(Arc::clone(list));
                }
                let is_one = |test| Predicate::Test { field: field.clone(), test, negated: false };
                let value = |text| Value { text, shortest: None };
                let any: Vec<Predicate> = match test {
                    Test::WithinList(list) => list.networks().into_iter().map(Test::Within).map(is_one).collect(),
                    Test::AnyWithinList(list) => list.networks().into_iter().map(Test::AnyWithin).map(is_one).collect(),
                    _ => vec![is_one(Test::In(list.names().into_iter().flatten().map(value).collect()))],
                };
                if *negated { Predicate::None(any) } else { Predicate::Any(any) }
            }
            Predicate::During(_) => self.clone(),
        })
    }

    /// Calls `visit` with every test in the predicate.
    pub fn tests<'p>(&'p self, visit: &mut dyn FnMut(&'p Test)) {
        match self {
            Predicate::All(parts) | Predicate::Any(parts) | Predicate::None(parts) | Predicate::OnlyOne(parts) => {
                for part in parts {
                    part.tests(visit);
                }
            }
            Predicate::Elements { each, .. } => each.tests(visit),
            Predicate::Test { test, .. } => visit(test),
            Predicate::During(_) => {}
            Predicate::Except { matches, exceptions } => {
                matches.tests(visit);
                for exception in exceptions {
                    exception.when.tests(visit);
                }
            }
        }
    }

    /// Calls `visit` with every field of a record that the predicate tests.
    pub fn fields<'p>(&'p self, visit: &mut dyn FnMut(&'p Field)) {
        match self {
            Predicate::All(parts) | Predicate::Any(parts) | Predicate::None(parts) | Predicate::OnlyOne(parts) => {
                for part in parts {
                    part.fields(visit);
                }
            }
            Predicate::Elements { list, each, .. } => {
                visit(list);
                each.fields(visit);
            }
            Predicate::Test { field, test, .. } => {
                visit(field);
                match test {
                    Test::Equals(operand)
                    | Test::StartsWith(operand)
                    | Test::EndsWith(operand)
                    | Test::Contains(operand) => match operand {
                        Operand::Field(other) | Operand::FoldedField(other) | Operand::AnyText { field: other, .. } => {
                            visit(other);
                        }
                        Operand::Value(_) | Operand::Folded(_) => {}
                    },
                    Test::Number(_, NumberOperand::Field(other)) => visit(other),
                    _ => {}
                }
            }
            Predicate::During(_) => {}
            Predicate::Except { matches, exceptions } => {
                matches.fields(visit);
                for exception in exceptions {
                    exception.when.fields(visit);
                }
            }
        }
    }

    /// Returns whether every match has a value in `field`.
    pub fn requires(&self, field: &Field) -> bool {
        match self {
            Predicate::All(all) => all.iter().any(|part| part.requires(field)),
            Predicate::Any(any) | Predicate::OnlyOne(any) => {
                !any.is_empty() && any.iter().all(|part| part.requires(field))
            }
            Predicate::Test { field: tested, negated, .. } => !negated && tested == field,
            Predicate::Elements { list, quantifier, .. } => list == field && *quantifier != Quantifier::No,
            Predicate::Except { matches, .. } => matches.requires(field),
            Predicate::None(_) | Predicate::During(_) => false,
        }
    }

    /// Returns pairs of a column, out of `columns`, and a value. Every match holds the value in the column for at
    /// least one pair. `None` if nothing is known. Empty if nothing can match.
    pub fn required_values(&self, columns: &[&'static str]) -> Option<Vec<(&'static str, &str)>> {
        match self {
            Predicate::All(all) => {
                all.iter().filter_map(|part| part.required_values(columns)).min_by_key(std::vec::Vec::len)
            }
            Predicate::Any(any) | Predicate::OnlyOne(any) => {
                let branches: Option<Vec<_>> = any.iter().map(|part| part.required_values(columns)).collect();
                branches.map(|branches| branches.concat())
            }
            Predicate::Test { field, test, negated: false } => {
                let Some(FieldLocation::Column(name, ColumnKind::Text)) = field.location() else {
                    return None;
                };
                let column = *columns.iter().find(|column| **column == name)?;
                match test {
                    Test::Equals(Operand::Value(value)) => Some(value.texts().map(|text| (column, text)).collect()),
                    Test::In(values) => Some(values.iter().flat_map(Value::texts).map(|text| (column, text)).collect()),
                    _ => None,
                }
            }
            Predicate::Except { matches, .. } => matches.required_values(columns),
            Predicate::None(_) | Predicate::Test { .. } | Predicate::Elements { .. } | Predicate::During(_) => None,
        }
    }
}

impl Test {
    /// Returns whether the predicate tests that a record is network activity of a VPC endpoint. A record without a
    /// category is not.
    pub fn is_network_activity(&self, field: &Field) -> bool {
        matches!(self, Test::Equals(Operand::Value(value)) if value.text == event::NETWORK_ACTIVITY)
            && field.location() == Some(FieldLocation::Column(event::EVENT_CATEGORY, ColumnKind::Text))
    }

    fn text_condition(&self, field: &Field, negated: bool) -> TextCondition {
        let location = field.location();
        if let Some(FieldLocation::Column(key, ColumnKind::Text)) = location
            // An empty `eventID` counts as missing.
            && key != event::EVENT_ID
            && let Some(test) = self.member_test()
        {
            return TextCondition::Member { key: key.to_owned(), test, negated };
        }
        // The text does not hold derived fields and booleans in the rule's spelling.
        let is_spelt_as_is = match field {
            Field::Account
            | Field::Actor
            | Field::Network
            | Field::Act
            | Field::Origin
            | Field::MapText(_)
            | Field::TimePart(..)
            | Field::Alias(_)
            | Field::Python(_) => false,
            Field::Element(_) => true,
            Field::Path(_) => {
                !matches!(location, Some(FieldLocation::Time | FieldLocation::Column(_, ColumnKind::Flag)))
            }
        };
        if negated || !is_spelt_as_is {
            return TextCondition::Unknown;
        }
        let word_of = |value: &Value| text_condition::word(&value.text);
        let words: Option<Vec<String>> = match self {
            Test::Equals(Operand::Value(value))
            | Test::StartsWith(Operand::Value(value))
            | Test::EndsWith(Operand::Value(value))
            | Test::Contains(Operand::Value(value)) => word_of(value).map(|word| vec![word]),
            Test::In(values) => values.iter().map(word_of).collect(),
            _ => None,
        };
        let key = match location {
            Some(FieldLocation::Below { column, .. } | FieldLocation::Column(column, ColumnKind::Json))
                if column != event::OTHER_FIELDS =>
            {
                Some(column.to_owned())
            }
            _ => None,
        };
        match words {
            Some(words) if !words.is_empty() => TextCondition::Words { key, words },
            _ => TextCondition::Unknown,
        }
    }

    /// Returns the same test of a text column. `None` if text cannot decide it.
    fn member_test(&self) -> Option<MemberTest> {
        let compared = |comparison, operand: &Operand| match operand {
            Operand::Value(value) => {
                Some(MemberTest::Compared { comparison, with: value.text.clone(), ignore_case: false })
            }
            Operand::Folded(value) => {
                Some(MemberTest::Compared { comparison, with: value.text.clone(), ignore_case: true })
            }
            Operand::Field(_) | Operand::FoldedField(_) | Operand::AnyText { .. } => None,
        };
        let one_of = |values: &mut dyn Iterator<Item = &Value>| {
            MemberTest::OneOf(values.flat_map(Value::texts).map(str::to_owned).collect())
        };
        match self {
            Test::Present => Some(MemberTest::Present),
            Test::Filled => Some(MemberTest::Filled),
            Test::Equals(Operand::Value(value)) => Some(one_of(&mut std::iter::once(value))),
            Test::Equals(Operand::Folded(value)) if value.shortest.is_some() => None,
            Test::In(values) => Some(one_of(&mut values.iter())),
            Test::Address(class) => Some(MemberTest::Address(*class)),
            Test::Equals(operand) => compared(TextComparison::Equals, operand),
            Test::StartsWith(operand) => compared(TextComparison::StartsWith, operand),
            Test::EndsWith(operand) => compared(TextComparison::EndsWith, operand),
            Test::Contains(operand) => compared(TextComparison::Contains, operand),
            Test::Matches(_)
            | Test::Number(..)
            | Test::Within(_)
            | Test::AnyWithin(_)
            | Test::InList(_)
            | Test::WithinList(_)
            | Test::AnyWithinList(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equals(path: &str, text: &str) -> Predicate {
        let value = Value { text: text.to_owned(), shortest: None };
        Predicate::Test {
            field: Field::new(path.parse().unwrap()),
            test: Test::Equals(Operand::Value(value)),
            negated: false,
        }
    }

    fn login() -> Predicate {
        Predicate::Any(vec![equals("eventSource", "signin.amazonaws.com"), equals("eventName", "ConsoleLogin")])
    }

    fn words(predicate: &Predicate) -> Vec<Vec<String>> {
        predicate.text_condition().words()
    }

    #[test]
    fn words_hold_for_every_match() {
        let all = Predicate::All(vec![login(), equals("responseElements.ConsoleLogin", "Failure")]);
        assert_eq!(words(&all), [vec!["signin.amazonaws.com", "ConsoleLogin"], vec!["Failure"]]);
        let unknown_branch = Predicate::Any(vec![login(), equals("readOnly", "true")]);
        assert!(words(&unknown_branch).is_empty());
        assert!(words(&Predicate::None(vec![login()])).is_empty());
        assert!(words(&equals("actor", "somebody")).is_empty());
        assert_eq!(words(&equals("userAgent", "a/long run\u{e9}b\"c\\d")), [["a/long run"]]);
        assert!(words(&equals("userAgent", "ab\"cd")).is_empty());
        assert!(words(&equals("requestParameters.port", "4430")).is_empty(), "it may be written 4.43e3");
        assert!(words(&Predicate::Any(vec![])).is_empty());
        let elements = |quantifier| Predicate::Elements {
            list: Field::new("resources".parse().unwrap()),
            quantifier,
            each: Box::new(equals("type", "AWS::S3")),
        };
        assert_eq!(words(&elements(Quantifier::Any)), [["AWS::S3"]]);
        assert!(words(&elements(Quantifier::All)).is_empty(), "an empty list passes");
    }

    #[test]
    fn required_values_hold_for_every_match() {
        const NAMES: &[&str] = &["eventName", "eventSource"];
        let rule = Predicate::All(vec![equals("eventName", "A"), Predicate::Any(vec![equals("readOnly", "true")])]);
        assert_eq!(rule.required_values(NAMES), Some(vec![("eventName", "A")]));
        assert_eq!(rule.required_values(&["eventSource"]), None);
        let login = login();
        let either = Some(vec![("eventSource", "signin.amazonaws.com"), ("eventName", "ConsoleLogin")]);
        assert_eq!(login.required_values(NAMES), either);
        assert_eq!(login.required_values(&["eventName"]), None, "the source alone suffices");
        assert_eq!(
            Predicate::All(vec![login.clone(), rule.clone()]).required_values(NAMES),
            rule.required_values(NAMES)
        );
        assert_eq!(Predicate::None(vec![login]).required_values(NAMES), None);
        assert_eq!(Predicate::Any(vec![]).required_values(NAMES), Some(vec![]));
    }
}
