//! The values of Python rules, with Python's equality, truth, order and text.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use ipnet::IpNet;

use super::bounds;
use super::event::{Json, JsonObject};
use super::exception::{Exception, ExceptionKind, Fault, Outcome};
use super::iterators::{Generator, LazyIterator};
use super::library::Builtin;
use super::tree::Function;

/// A Python value.
#[derive(Clone)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    Tuple(Rc<Vec<Value>>),
    List(Rc<List>),
    Dict(Rc<Dict>),
    Set(Rc<Set>),
    /// An object of the event, or the event: it cannot be changed, and its keys match in any case.
    Record(Record),
    /// A list of the event, which cannot be changed.
    FrozenList(Arc<Vec<Json>>),
    Function(Rc<Closure>),
    Builtin(Builtin),
    /// A method of a value.
    Method(Rc<(Value, Arc<str>)>),
    /// A module, by its name.
    Module(Arc<str>),
    Generator(Rc<Generator>),
    /// What `map`, `zip` and their like return.
    Iterator(Rc<LazyIterator>),
    /// A method of a class, such as `str.lower`: the class and the name.
    Unbound(Builtin, Arc<str>),
    Exception(Rc<Exception>),
    ExceptionType(ExceptionKind),
    /// A regular expression.
    Pattern(Rc<Pattern>),
    Match(Rc<Match>),
    Address(IpAddr),
    Network(IpNet),
    DateTime(DateTime),
    /// A length of time, in microseconds.
    TimeDelta(i128),
    /// The mock of a function in a test. A call returns the value.
    Mock(Rc<Value>),
}

/// An object of the event.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) object: Arc<JsonObject>,
    /// Whether it is the event itself.
    pub(super) is_event: bool,
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DateTime {
    /// Microseconds from the epoch, as if the time were in UTC.
    pub(super) micros: i128,
    /// Whether it has a time zone, which is always UTC.
    pub(super) has_zone: bool,
}

/// A list.
#[derive(Default)]
pub(super) struct List {
    pub(super) items: RefCell<Vec<Value>>,
    pub(super) frozen: Cell<bool>,
}

/// A dictionary, in the order in which keys were added.
#[derive(Default)]
pub(super) struct Dict {
    pub(super) entries: RefCell<Vec<(Value, Value)>>,
    pub(super) frozen: Cell<bool>,
}

/// A set, in the order in which elements were added.
#[derive(Default)]
pub(super) struct Set {
    pub(super) items: RefCell<Vec<Value>>,
    pub(super) frozen: Cell<bool>,
}

/// A function and the variables around it.
pub(super) struct Closure {
    pub(super) function: Arc<Function>,
    pub(super) frame: Option<Rc<Frame>>,
    pub(super) defaults: Vec<Option<Value>>,
}

/// The local variables of a call.
pub(super) struct Frame {
    pub(super) slots: RefCell<Vec<Option<Value>>>,
    pub(super) parent: Option<Rc<Frame>>,
}

/// A compiled regular expression.
pub(super) struct Pattern {
    pub(super) text: Arc<str>,
    pub(super) regex: regex::Regex,
}

/// A match of a regular expression: the text of each group, and where it is, in characters.
pub(super) struct Match {
    pub(super) groups: Vec<Option<Arc<str>>>,
    pub(super) names: Vec<Option<Arc<str>>>,
    pub(super) spans: Vec<Option<(usize, usize)>>,
}

impl Value {
    pub(super) fn text(text: impl Into<Arc<str>>) -> Value {
        Value::Text(text.into())
    }

    pub(super) fn list(items: Vec<Value>) -> Value {
        bounds::register(Value::List(Rc::new(List { items: RefCell::new(items), frozen: Cell::new(false) })))
    }

    pub(super) fn tuple(items: Vec<Value>) -> Value {
        bounds::register(Value::Tuple(Rc::new(items)))
    }

    pub(super) fn dict(entries: Vec<(Value, Value)>) -> Value {
        bounds::register(Value::Dict(Rc::new(Dict { entries: RefCell::new(entries), frozen: Cell::new(false) })))
    }

    pub(super) fn set(items: Vec<Value>) -> Value {
        bounds::register(Value::Set(Rc::new(Set { items: RefCell::new(items), frozen: Cell::new(false) })))
    }

    /// Returns the value of JSON in an event: objects and lists cannot be changed.
    pub(super) fn frozen(json: &Json) -> Value {
        match json {
            Json::Object(object) => Value::Record(Record { object: Arc::clone(object), is_event: false }),
            Json::List(list) => Value::FrozenList(Arc::clone(list)),
            scalar => Value::scalar(scalar),
        }
    }

    /// Returns a copy of JSON as lists and dictionaries that can be changed.
    pub(super) fn thawed(json: &Json) -> Value {
        match json {
            Json::Object(object) => Value::dict(
                object
                    .members
                    .iter()
                    .map(|(key, value)| (Value::Text(Arc::clone(key)), Value::thawed(value)))
                    .collect(),
            ),
            Json::List(list) => Value::list(list.iter().map(Value::thawed).collect()),
            scalar => Value::scalar(scalar),
        }
    }

    fn scalar(json: &Json) -> Value {
        match json {
            Json::Bool(value) => Value::Bool(*value),
            Json::Int(value) => Value::Int(*value),
            Json::Float(value) => Value::Float(*value),
            Json::Text(text) => Value::Text(Arc::clone(text)),
            Json::Null | Json::Object(_) | Json::List(_) => Value::None,
        }
    }

    /// Returns whether Python takes the value for true.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            Value::Tuple(items) => !items.is_empty(),
            Value::List(list) => !list.items.borrow().is_empty(),
            Value::Dict(dict) => !dict.entries.borrow().is_empty(),
            Value::Set(set) => !set.items.borrow().is_empty(),
            Value::Record(record) => !record.object.members.is_empty(),
            Value::FrozenList(list) => !list.is_empty(),
            Value::TimeDelta(micros) => *micros != 0,
            _ => true,
        }
    }

    /// Returns the name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) => "tuple",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
            Value::Set(_) => "set",
            Value::Record(record) if record.is_event => "PantherEvent",
            Value::Record(_) => "ImmutableCaseInsensitiveDict",
            Value::FrozenList(_) => "ImmutableList",
            Value::Function(_) => "function",
            Value::Builtin(builtin) if super::library::is_class(*builtin) => "type",
            Value::Builtin(_) | Value::Method(_) => "builtin_function_or_method",
            Value::Unbound(..) => "method_descriptor",
            Value::Module(_) => "module",
            Value::Generator(_) => "generator",
            Value::Iterator(iterator) => iterator.type_name(),
            Value::Exception(exception) => exception.kind.name(),
            Value::ExceptionType(_) => "type",
            Value::Pattern(_) => "Pattern",
            Value::Match(_) => "Match",
            Value::Address(IpAddr::V4(_)) => "IPv4Address",
            Value::Address(IpAddr::V6(_)) => "IPv6Address",
            Value::Network(IpNet::V4(_)) => "IPv4Network",
            Value::Network(IpNet::V6(_)) => "IPv6Network",
            Value::DateTime(_) => "datetime",
            Value::TimeDelta(_) => "timedelta",
            Value::Mock(_) => "MagicMock",
        }
    }

    /// The number that it is in arithmetic.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Bool(value) => Some(i128::from(*value)),
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "Python rounds an int as a float too")]
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            other => other.as_int().map(|value| value as f64),
        }
    }

    pub(super) fn as_text(&self) -> Option<&Arc<str>> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns whether a set or dictionary can hold it.
    pub(super) fn check_hashable(&self) -> Outcome<()> {
        match self {
            Value::List(_) | Value::Dict(_) | Value::Set(_) | Value::Record(_) | Value::FrozenList(_) => {
                Err(Fault::type_error(format!("unhashable type: '{}'", self.type_name())))
            }
            Value::Tuple(items) => bounds::nested(Ok(()), || items.iter().try_for_each(Value::check_hashable)),
            _ => Ok(()),
        }
    }

    /// Returns whether it is the same object, as `is` tells.
    pub(super) fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b && (-5..=256).contains(a),
            (Value::Text(a), Value::Text(b)) => Arc::ptr_eq(a, b),
            (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
            (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
            (Value::Set(a), Value::Set(b)) => Rc::ptr_eq(a, b),
            (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b),
            (Value::Builtin(a), Value::Builtin(b)) => a == b,
            (Value::ExceptionType(a), Value::ExceptionType(b)) => a == b,
            (Value::Mock(a), Value::Mock(b)) => Rc::ptr_eq(a, b),
            (Value::Generator(a), Value::Generator(b)) => Rc::ptr_eq(a, b),
            (Value::Iterator(a), Value::Iterator(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Returns whether Python takes the values for equal.
    pub(super) fn equals(&self, other: &Value) -> bool {
        bounds::nested(false, || self.equals_inner(other))
    }

    fn equals_inner(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::None, Value::None) => true,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Tuple(a), Value::Tuple(b)) => all_equal(a, b),
            (Value::Set(a), Value::Set(b)) => {
                let (a, b) = (a.items.borrow(), b.items.borrow());
                a.len() == b.len() && a.iter().all(|item| b.iter().any(|other| item.equals(other)))
            }
            (Value::Address(a), Value::Address(b)) => a == b,
            (Value::Network(a), Value::Network(b)) => a == b,
            (Value::DateTime(a), Value::DateTime(b)) => a == b,
            (Value::TimeDelta(a), Value::TimeDelta(b)) => a == b,
            (Value::Builtin(a), Value::Builtin(b)) => a == b,
            (Value::ExceptionType(a), Value::ExceptionType(b)) => a == b,
            (Value::Pattern(a), Value::Pattern(b)) => a.text == b.text,
            (Value::Tuple(_), Value::FrozenList(_)) | (Value::FrozenList(_), Value::Tuple(_)) => {
                matches!((self.items(), other.items()), (Some(a), Some(b)) if all_equal(&a, &b))
            }
            _ => {
                if let (Some(a), Some(b)) = (self.as_int(), other.as_int()) {
                    return a == b;
                }
                if let (Some(a), Some(b)) = (self.as_float(), other.as_float()) {
                    #[allow(clippy::float_cmp, reason = "Python compares floats exactly")]
                    return a == b;
                }
                if let (Some(a), Some(b)) = (self.list_items(), other.list_items()) {
                    return all_equal(&a, &b);
                }
                if let (Some(a), Some(b)) = (self.dict_entries(), other.dict_entries()) {
                    let has = |(key, value): &(Value, Value)| {
                        b.iter().any(|(other, found)| key.equals(other) && value.equals(found))
                    };
                    return a.len() == b.len() && a.iter().all(has);
                }
                false
            }
        }
    }

    /// Its elements, if it is a list, frozen or not.
    fn list_items(&self) -> Option<Vec<Value>> {
        match self {
            Value::List(list) => Some(list.items.borrow().clone()),
            Value::FrozenList(list) => Some(list.iter().map(Value::frozen).collect()),
            _ => None,
        }
    }

    /// Its elements, if it is a list or a tuple.
    pub(super) fn items(&self) -> Option<Vec<Value>> {
        match self {
            Value::Tuple(items) => Some(items.to_vec()),
            other => other.list_items(),
        }
    }

    /// Its keys and values, if it is a dictionary or an object of the event.
    pub(super) fn dict_entries(&self) -> Option<Vec<(Value, Value)>> {
        match self {
            Value::Dict(dict) => Some(dict.entries.borrow().clone()),
            Value::Record(record) => Some(record.entries().collect()),
            _ => None,
        }
    }

    /// Compares two values, as `<` does.
    pub(super) fn compare(&self, other: &Value) -> Outcome<Option<Ordering>> {
        bounds::nested(Ok(None), || self.compare_inner(other))
    }

    fn compare_inner(&self, other: &Value) -> Outcome<Option<Ordering>> {
        if let (Some(a), Some(b)) = (self.as_int(), other.as_int()) {
            return Ok(Some(a.cmp(&b)));
        }
        if let (Some(a), Some(b)) = (self.as_float(), other.as_float()) {
            return Ok(a.partial_cmp(&b));
        }
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => Ok(Some(a.chars().cmp(b.chars()))),
            (Value::DateTime(a), Value::DateTime(b)) if a.has_zone == b.has_zone => Ok(Some(a.micros.cmp(&b.micros))),
            (Value::TimeDelta(a), Value::TimeDelta(b)) => Ok(Some(a.cmp(b))),
            (Value::List(_), Value::List(_)) | (Value::Tuple(_), Value::Tuple(_)) => {
                let (a, b) = (self.items().unwrap_or_default(), other.items().unwrap_or_default());
                for (a, b) in a.iter().zip(&b) {
                    if !a.equals(b) {
                        return a.compare(b);
                    }
                }
                Ok(Some(a.len().cmp(&b.len())))
            }
            _ => Err(Fault::type_error(format!(
                "'<' not supported between instances of '{}' and '{}'",
                self.type_name(),
                other.type_name()
            ))),
        }
    }
}

fn all_equal(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
}

impl Record {
    /// Its keys and values, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Value, Value)> {
        self.object.members.iter().map(|(key, value)| (Value::Text(Arc::clone(key)), Value::frozen(value)))
    }

    /// The value of a key in any case.
    ///
    /// # Errors
    /// The key is not text.
    pub(super) fn get(&self, key: &Value) -> Outcome<Option<Value>> {
        key.check_hashable()?;
        let Value::Text(key) = key else {
            if self.object.members.is_empty() {
                return Ok(None);
            }
            let message = format!("'{}' object has no attribute 'lower'", key.type_name());
            return Err(Fault::raise(ExceptionKind::AttributeError, message));
        };
        Ok(self.object.get(key).map(Value::frozen))
    }
}

impl Dict {
    pub(super) fn get(&self, key: &Value) -> Outcome<Option<Value>> {
        key.check_hashable()?;
        Ok(self.entries.borrow().iter().find(|(known, _)| known.equals(key)).map(|(_, value)| value.clone()))
    }

    pub(super) fn insert(&self, key: Value, value: Value) -> Outcome<()> {
        self.check_free()?;
        key.check_hashable()?;
        let mut entries = self.entries.borrow_mut();
        match entries.iter_mut().find(|(known, _)| known.equals(&key)) {
            Some((_, known)) => *known = value,
            None => entries.push((key, value)),
        }
        Ok(())
    }

    pub(super) fn check_free(&self) -> Outcome<()> {
        check_free(&self.frozen)
    }
}

impl List {
    pub(super) fn check_free(&self) -> Outcome<()> {
        check_free(&self.frozen)
    }
}

impl Set {
    pub(super) fn contains(&self, item: &Value) -> Outcome<bool> {
        item.check_hashable()?;
        Ok(self.items.borrow().iter().any(|known| known.equals(item)))
    }

    pub(super) fn insert(&self, item: Value) -> Outcome<()> {
        self.check_free()?;
        if !self.contains(&item)? {
            self.items.borrow_mut().push(item);
        }
        Ok(())
    }

    pub(super) fn check_free(&self) -> Outcome<()> {
        check_free(&self.frozen)
    }
}

/// A value that all events share must not change.
fn check_free(frozen: &Cell<bool>) -> Outcome<()> {
    if frozen.get() {
        return Err(Fault::Refused("a value of the module is changed through another name".to_owned()));
    }
    Ok(())
}

/// Marks the containers in a value that all events share.
pub(super) fn freeze(value: &Value) {
    bounds::nested((), || freeze_inner(value));
}

fn freeze_inner(value: &Value) {
    match value {
        Value::List(list) if !list.frozen.replace(true) => {
            list.items.borrow().iter().for_each(freeze);
        }
        Value::Dict(dict) if !dict.frozen.replace(true) => {
            dict.entries.borrow().iter().for_each(|(_, value)| freeze(value));
        }
        Value::Set(set) => set.frozen.set(true),
        Value::Tuple(items) => items.iter().for_each(freeze),
        Value::Mock(value) => freeze(value),
        // Defaults of parameters live as long as the function.
        Value::Function(closure) => closure.defaults.iter().flatten().for_each(freeze),
        Value::Generator(generator) => generator.is_shared.set(true),
        Value::Iterator(iterator) => iterator.is_shared.set(true),
        _ => {}
    }
}
