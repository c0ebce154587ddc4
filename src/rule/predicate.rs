//! Which records match.

use ipnet::IpNet;

use super::Field;
use crate::event::{self, ColumnKind, FieldLocation};
use crate::raw::json;
use crate::trail::RequiredText;

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

/// Classes of IP addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Any address.
    Address,
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// An address that the IANA registries list as not globally reachable.
    Private,
    /// A globally reachable address.
    Public,
}

impl Predicate {
    /// Returns what the JSON text of every match contains.
    pub fn required_text(&self) -> RequiredText {
        let names = self.required_values(&[event::EVENT_NAME]);
        let names = names.map(|names| names.into_iter().map(|(_, name)| name.to_owned()).collect());
        RequiredText { event_names: names, clauses: self.required_words() }
    }

    /// Returns words that the JSON text of every match contains: for each clause, at least one of its words. JSON text
    /// can spell their characters differently only by the escapes of [`crate::raw::hides_characters`]. Empty if nothing
    /// is known.
    fn required_words(&self) -> Vec<Vec<String>> {
        match self {
            Predicate::All(all) => all.iter().flat_map(Predicate::required_words).collect(),
            Predicate::Any(any) | Predicate::OnlyOne(any) => {
                let shortest = |clause: &Vec<String>| clause.iter().map(String::len).min();
                let best = |branch: &Predicate| branch.required_words().into_iter().max_by_key(shortest);
                match any.iter().map(best).collect::<Option<Vec<_>>>() {
                    Some(clauses) if !clauses.is_empty() => vec![clauses.concat()],
                    _ => Vec::new(),
                }
            }
            Predicate::None(_) | Predicate::Test { negated: true, .. } => Vec::new(),
            Predicate::Elements { quantifier, each, .. } => match quantifier {
                Quantifier::Any | Quantifier::One => each.required_words(),
                Quantifier::All | Quantifier::No => Vec::new(),
            },
            Predicate::Test { field, test, negated: false } => test.required_words(field),
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
            Predicate::None(_) | Predicate::Test { .. } | Predicate::Elements { .. } => None,
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

    fn required_words(&self, field: &Field) -> Vec<Vec<String>> {
        // The text does not hold derived fields and booleans in the rule's spelling.
        let spelt_as_is = match field {
            Field::Account | Field::Actor | Field::TimePart(_) | Field::Alias(_) | Field::Python(_) => false,
            Field::Element(_) => true,
            Field::Path(_) => {
                !matches!(field.location(), Some(FieldLocation::Time | FieldLocation::Column(_, ColumnKind::Flag)))
            }
        };
        if !spelt_as_is {
            return Vec::new();
        }
        let clause = match self {
            Test::Equals(Operand::Value(value))
            | Test::StartsWith(Operand::Value(value))
            | Test::EndsWith(Operand::Value(value))
            | Test::Contains(Operand::Value(value)) => word(value).map(|word| vec![word]),
            Test::In(values) => values.iter().map(word).collect(),
            _ => None,
        };
        clause.filter(|words| !words.is_empty()).into_iter().collect()
    }
}

/// Returns the longest run of characters in a value that need no escape, if it is long enough to be selective. A
/// number may have another spelling.
fn word(value: &Value) -> Option<String> {
    if json::number(&value.text).is_some() {
        return None;
    }
    (value.text)
        .split(|c: char| !(c == ' ' || c.is_ascii_graphic()) || matches!(c, '"' | '\\'))
        .max_by_key(|run| run.len())
        .filter(|run| run.len() >= 3)
        .map(str::to_owned)
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

    #[test]
    fn required_words_hold_for_every_match() {
        let all = Predicate::All(vec![login(), equals("responseElements.ConsoleLogin", "Failure")]);
        assert_eq!(all.required_words(), [vec!["signin.amazonaws.com", "ConsoleLogin"], vec!["Failure"]]);
        let unknown_branch = Predicate::Any(vec![login(), equals("readOnly", "true")]);
        assert!(unknown_branch.required_words().is_empty());
        assert!(Predicate::None(vec![login()]).required_words().is_empty());
        assert!(equals("actor", "somebody").required_words().is_empty());
        assert_eq!(equals("userAgent", "a/long run\u{e9}b\"c\\d").required_words(), [["a/long run"]]);
        assert!(equals("userAgent", "ab\"cd").required_words().is_empty());
        assert!(equals("requestParameters.port", "4430").required_words().is_empty(), "it may be written 4.43e3");
        assert!(Predicate::Any(vec![]).required_words().is_empty());
        let elements = |quantifier| Predicate::Elements {
            list: Field::new("resources".parse().unwrap()),
            quantifier,
            each: Box::new(equals("type", "AWS::S3")),
        };
        assert_eq!(elements(Quantifier::Any).required_words(), [["AWS::S3"]]);
        assert!(elements(Quantifier::All).required_words().is_empty(), "an empty list passes");
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
