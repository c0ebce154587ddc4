//! Facts that a translation knows about values without an event, and tests of fields with Python's meaning.

use std::rc::Rc;
use std::sync::Arc;

use super::translate::{Formula, Truth};
use super::tree::{Expr, Function};
use crate::event::{self, ColumnKind, FieldLocation};
use crate::path::{Path, Step};
use crate::raw::json;
use crate::rule::{Field, Operand, Predicate, Test, Value};

/// A constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Const {
    None,
    Bool(bool),
    Int(i128),
    Text(Arc<str>),
    /// An empty list or dictionary.
    Empty,
}

impl Const {
    pub(super) fn is_true(&self) -> bool {
        match self {
            Const::None | Const::Empty => false,
            Const::Bool(value) => *value,
            Const::Int(value) => *value != 0,
            Const::Text(text) => !text.is_empty(),
        }
    }

    /// Whether Python takes the constants for equal, as it does `1` and `True`.
    pub(super) fn equals(&self, other: &Const) -> bool {
        let number = |constant: &Const| match constant {
            Const::Bool(value) => Some(i128::from(*value)),
            Const::Int(value) => Some(*value),
            _ => None,
        };
        match (number(self), number(other)) {
            (Some(a), Some(b)) => a == b,
            _ => self == other,
        }
    }
}

/// The known facts about a value.
#[derive(Clone)]
pub(super) enum Symbol<'p> {
    Const(Const),
    /// The elements of a list or tuple.
    Items(Rc<Vec<Symbol<'p>>>),
    /// The entries of a dictionary.
    Entries(Rc<Vec<(Symbol<'p>, Symbol<'p>)>>),
    Event,
    Field(FieldValue),
    /// `event.udm("event_type")`
    EventType,
    /// Nothing but the expression.
    Expr(&'p Expr, Rc<Environment<'p>>),
}

/// The variables of a function.
pub(super) struct Environment<'p> {
    module: Arc<str>,
    slots: Vec<Option<Symbol<'p>>>,
    parent: Option<Rc<Environment<'p>>>,
}

impl<'p> Environment<'p> {
    /// The variables of a call with these arguments.
    pub(super) fn of_call(function: &Function, mut arguments: Vec<Symbol<'p>>) -> Option<Rc<Environment<'p>>> {
        let count = function.parameters.positional.len() + function.parameters.named.len();
        if arguments.len() != count || function.parameters.rest || function.parameters.rest_named {
            return None;
        }
        let mut slots: Vec<_> = arguments.drain(..).map(Some).collect();
        slots.resize_with(function.locals.max(count), || None);
        Some(Rc::new(Environment { module: Arc::clone(&function.module), slots, parent: None }))
    }

    pub(super) fn of_module(module: &Arc<str>) -> Environment<'p> {
        Environment { module: Arc::clone(module), slots: Vec::new(), parent: None }
    }

    /// The variables of a comprehension.
    pub(super) fn within(parent: &Rc<Environment<'p>>, locals: usize) -> Environment<'p> {
        let slots = std::iter::repeat_with(|| None).take(locals).collect();
        Environment { module: Arc::clone(&parent.module), slots, parent: Some(Rc::clone(parent)) }
    }

    pub(super) fn module(&self) -> &Arc<str> {
        &self.module
    }

    pub(super) fn get(&self, up: usize, slot: usize) -> Option<Symbol<'p>> {
        match up.checked_sub(1) {
            None => self.slots.get(slot)?.clone(),
            Some(up) => self.parent.as_ref()?.get(up, slot),
        }
    }

    /// The variables with another value in one of them.
    pub(super) fn with(&self, slot: usize, symbol: Symbol<'p>) -> Rc<Environment<'p>> {
        let mut slots = self.slots.clone();
        if let Some(place) = slots.get_mut(slot) {
            *place = Some(symbol);
        }
        Rc::new(Environment { module: Arc::clone(&self.module), slots, parent: self.parent.clone() })
    }
}

/// The value where the field is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    Is(Const),
    Raises,
}

/// The value of a field of the event.
#[derive(Debug, Clone)]
pub(super) struct FieldValue {
    keys: Vec<Arc<str>>,
    missing: Missing,
    /// Whether the way to it may raise.
    is_guarded: bool,
    /// Whether a null is `None` even if there is a default.
    keeps_null: bool,
    is_lowered: bool,
}

/// How a field's value can be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A column of text: a string, or missing.
    Text,
    /// A column of booleans.
    Flag,
    /// A value below a JSON column, of any type.
    Below,
    /// A JSON column as a whole, or the time.
    Whole,
}

/// `key in event`
pub(super) fn key_in_event(key: &Arc<str>) -> Truth {
    let value = FieldValue::new(vec![Arc::clone(key)], Missing::Is(Const::None));
    let is = |name: &&str| name.eq_ignore_ascii_case(key);
    match value.field().location() {
        Some(FieldLocation::Column(..)) if event::ALWAYS_WRITTEN.iter().any(is) => Truth::constant(true),
        Some(FieldLocation::Column(..)) => Truth { holds: value.present(), fails: value.absent() },
        // Of other fields a null is there, too.
        _ => Truth::unknown(),
    }
}

fn field_of(keys: &[Arc<str>]) -> Field {
    Field::Path(Path(keys.iter().map(|key| Step::Key(key.to_string())).collect()))
}

/// Whether a number or boolean can have this text.
fn can_be_no_string(text: &str) -> bool {
    matches!(text, "true" | "false") || json::number(text).is_some()
}

fn operand(text: &str, is_lowered: bool) -> Operand {
    let value = Value { text: text.to_owned(), shortest: None };
    if is_lowered { Operand::Folded(value) } else { Operand::Value(value) }
}

impl FieldValue {
    pub(super) fn new(keys: Vec<Arc<str>>, missing: Missing) -> FieldValue {
        FieldValue { keys, missing, is_guarded: false, keeps_null: false, is_lowered: false }
    }

    /// The value that `get` gives: a null stays.
    pub(super) fn of_get(self) -> FieldValue {
        let keeps_null = match self.kind() {
            // These are written by CloudTrail also where they are null.
            Kind::Whole | Kind::Below => true,
            Kind::Text | Kind::Flag => false,
        };
        FieldValue { keeps_null, ..self }
    }

    /// The value of `get` of this value. It raises if this value is not an object.
    pub(super) fn below(&self, keys: &[Arc<str>], default: Const) -> Option<FieldValue> {
        let all = self.keys.iter().chain(keys).cloned().collect();
        let value = FieldValue::new(all, Missing::Is(default));
        (!self.is_lowered).then_some(FieldValue { is_guarded: true, keeps_null: true, ..value })
    }

    pub(super) fn lowered(&self) -> Option<FieldValue> {
        let has_default = matches!(&self.missing, Missing::Is(Const::Text(_)));
        let missing = match &self.missing {
            Missing::Is(Const::Text(text)) => Missing::Is(Const::Text(text.to_lowercase().into())),
            _ => Missing::Raises,
        };
        (self.kind() == Kind::Text && !self.is_lowered).then(|| FieldValue {
            missing,
            is_lowered: true,
            is_guarded: self.is_guarded || !has_default,
            ..self.clone()
        })
    }

    /// The field, if the value is that of the field and nothing else is done to it.
    pub(super) fn plain(&self) -> Option<Field> {
        let is_plain = !self.is_lowered && !self.is_guarded && matches!(self.missing, Missing::Is(_));
        is_plain.then(|| self.field())
    }

    pub(super) fn may_raise(&self) -> bool {
        self.is_guarded || self.missing == Missing::Raises
    }

    pub(super) fn is_text_column(&self) -> bool {
        self.kind() == Kind::Text
    }

    fn field(&self) -> Field {
        field_of(&self.keys)
    }

    fn kind(&self) -> Kind {
        match self.field().location() {
            Some(FieldLocation::Column(_, ColumnKind::Text)) => Kind::Text,
            Some(FieldLocation::Column(_, ColumnKind::Flag)) => Kind::Flag,
            Some(FieldLocation::Below { .. }) => Kind::Below,
            _ => Kind::Whole,
        }
    }

    fn test(&self, test: Test, negated: bool) -> Formula {
        Formula::exact(Predicate::Test { field: self.field(), test, negated })
    }

    fn present(&self) -> Formula {
        self.test(Test::Present, false)
    }

    fn absent(&self) -> Formula {
        self.test(Test::Present, true)
    }

    /// Whether a null and a missing value may differ, and a test cannot tell them apart.
    fn null_matters(&self) -> bool {
        self.keeps_null && self.missing != Missing::Is(Const::None)
    }

    /// Adds the missing value to the truth of a value that is there.
    fn with_missing(&self, of_value: Truth, if_missing: Option<bool>) -> Truth {
        let fails_present = Formula::all([of_value.fails.clone(), self.present()]);
        let truth = match if_missing {
            Some(true) => Truth { holds: Formula::any([of_value.holds, self.absent()]), fails: fails_present },
            // The test of a missing field is false, and its negation true.
            Some(false) => of_value,
            None => Truth { holds: of_value.holds, fails: fails_present },
        };
        if self.null_matters() {
            // Of a null either may hold.
            let or_absent = |formula: Formula| Formula::any([formula, self.absent()]).inexact();
            return Truth { holds: or_absent(truth.holds), fails: or_absent(truth.fails) };
        }
        if self.is_guarded {
            return Truth { holds: truth.holds.inexact(), fails: truth.fails.inexact() };
        }
        truth
    }

    fn if_missing(&self, test: impl FnOnce(&Const) -> bool) -> Option<bool> {
        match &self.missing {
            Missing::Is(constant) => Some(test(constant)),
            Missing::Raises => None,
        }
    }

    /// `value == constant`
    pub(super) fn equals(&self, constant: &Const) -> Truth {
        let of_value = match (self.kind(), constant) {
            (_, Const::None) => return self.is_none(),
            (Kind::Text, Const::Text(wanted)) => {
                let test = || Test::Equals(operand(wanted, self.is_lowered));
                Truth { holds: self.test(test(), false), fails: self.test(test(), true) }
            }
            (Kind::Flag, Const::Bool(value)) => {
                let test = || Test::Equals(operand(if *value { "true" } else { "false" }, false));
                Truth { holds: self.test(test(), false), fails: self.test(test(), true) }
            }
            (Kind::Text, _) | (Kind::Flag, Const::Text(_) | Const::Empty) => Truth::constant(false),
            (Kind::Below, Const::Text(wanted)) => {
                let test = || Test::Equals(operand(wanted, false));
                let truth = Truth { holds: self.test(test(), false), fails: self.test(test(), true) };
                if can_be_no_string(wanted) {
                    Truth { holds: truth.holds.inexact(), fails: Formula::unknown() }
                } else {
                    truth
                }
            }
            // `1` equals `True`, and `0` equals `False`. They are filled, too.
            (Kind::Below, Const::Bool(_)) => {
                Truth { holds: self.test(Test::Filled, false).inexact(), fails: Formula::unknown() }
            }
            _ => return Truth::unknown(),
        };
        self.with_missing(of_value, self.if_missing(|missing| missing.equals(constant)))
    }

    /// `value is constant`, of `True` or `False`.
    pub(super) fn is_flag(&self, wanted: bool) -> Truth {
        if self.kind() != Kind::Below {
            return self.equals(&Const::Bool(wanted));
        }
        let test = Test::Equals(operand(if wanted { "true" } else { "false" }, false));
        let of_value = Truth { holds: self.test(test, false).inexact(), fails: Formula::unknown() };
        self.with_missing(of_value, self.if_missing(|missing| *missing == Const::Bool(wanted)))
    }

    /// `value is None`
    pub(super) fn is_none(&self) -> Truth {
        if self.null_matters() {
            return Truth { holds: self.absent().inexact(), fails: Formula::unknown() };
        }
        let truth = match &self.missing {
            Missing::Is(Const::None) => Truth { holds: self.absent(), fails: self.present() },
            Missing::Is(_) => Truth::constant(false),
            Missing::Raises => Truth { holds: Formula::unknown(), fails: self.present() },
        };
        if self.is_guarded {
            return Truth { holds: truth.holds.inexact(), fails: truth.fails.inexact() };
        }
        truth
    }

    /// `value in constants`. A list takes any value, a set and a dictionary raise for lists and objects.
    pub(super) fn is_in(&self, constants: &[Const], takes_any: bool) -> Truth {
        let texts: Option<Vec<&Arc<str>>> = constants
            .iter()
            .map(|constant| match constant {
                Const::Text(text) => Some(text),
                _ => None,
            })
            .collect();
        let Some(texts) = texts else { return Truth::unknown() };
        let of_value = match self.kind() {
            Kind::Text if !self.is_lowered => {
                let values = texts.iter().map(|text| Value { text: text.to_string(), shortest: None });
                let test = Test::In(values.collect());
                Truth { holds: self.test(test.clone(), false), fails: self.test(test, true) }
            }
            Kind::Below => {
                let each = texts.iter().map(|text| self.test(Test::Equals(operand(text, false)), false));
                let holds = Formula::any(each);
                let none = texts.iter().map(|text| self.test(Test::Equals(operand(text, false)), true));
                let fails = Formula::all(none);
                if texts.iter().any(|text| can_be_no_string(text)) {
                    Truth { holds: holds.inexact(), fails: Formula::unknown() }
                } else if takes_any {
                    Truth { holds, fails }
                } else {
                    Truth { holds, fails: fails.inexact() }
                }
            }
            Kind::Flag => Truth::constant(false),
            _ => return Truth::unknown(),
        };
        self.with_missing(of_value, self.if_missing(|missing| constants.contains(missing)))
    }

    /// `part in value`
    pub(super) fn contains(&self, part: &Arc<str>) -> Truth {
        let test = Test::Contains(operand(part, self.is_lowered));
        let if_missing = match &self.missing {
            Missing::Is(Const::Text(default)) => Some(default.contains(&**part)),
            _ => None,
        };
        match self.kind() {
            Kind::Text => {
                let truth = Truth { holds: self.test(test.clone(), false), fails: self.test(test, true) };
                self.with_missing(truth, if_missing)
            }
            // A part of text, an element of a list, or a key of an object.
            _ => Truth::unknown(),
        }
    }

    /// `value.startswith(parts)` or `value.endswith(parts)`
    pub(super) fn has_affix(&self, parts: &[Arc<str>], at_start: bool) -> Truth {
        let test = |part: &Arc<str>| {
            let operand = operand(part, self.is_lowered);
            if at_start { Test::StartsWith(operand) } else { Test::EndsWith(operand) }
        };
        let if_missing = match &self.missing {
            Missing::Is(Const::Text(default)) => {
                let has = |part: &Arc<str>| {
                    if at_start { default.starts_with(&**part) } else { default.ends_with(&**part) }
                };
                Some(parts.iter().any(has))
            }
            _ => None,
        };
        let holds = Formula::any(parts.iter().map(|part| self.test(test(part), false)));
        let none = Formula::all(parts.iter().map(|part| self.test(test(part), true)));
        let fails = match self.kind() {
            Kind::Text => none,
            Kind::Below => {
                // Only text has affixes: anything else raises.
                let is_text = self.test(Test::StartsWith(operand("", false)), false);
                let of_text = Formula::all([is_text, none]);
                match if_missing {
                    Some(false) => Formula::any([of_text, self.absent()]),
                    _ => of_text,
                }
            }
            _ => return Truth::unknown(),
        };
        let truth = match (self.kind(), if_missing) {
            (Kind::Below, Some(true)) => Truth { holds: Formula::any([holds, self.absent()]), fails },
            (Kind::Below, _) => Truth { holds, fails },
            _ => return self.with_missing(Truth { holds, fails }, if_missing),
        };
        if self.is_guarded || self.null_matters() {
            return Truth { holds: truth.holds.inexact(), fails: truth.fails.inexact() };
        }
        truth
    }

    /// Whether Python takes the value for true.
    pub(super) fn truth(&self) -> Truth {
        let if_missing = self.if_missing(Const::is_true);
        match self.kind() {
            Kind::Text => {
                let of_value = Truth { holds: self.test(Test::Filled, false), fails: self.test(Test::Filled, true) };
                self.with_missing(of_value, if_missing)
            }
            Kind::Flag => {
                let test = || Test::Equals(operand("true", false));
                let of_value = Truth { holds: self.test(test(), false), fails: self.test(test(), true) };
                self.with_missing(of_value, if_missing)
            }
            Kind::Below | Kind::Whole => {
                // `false` and `0` are filled, too.
                let filled = self.test(Test::Filled, false);
                let holds = if if_missing == Some(true) { Formula::any([filled, self.absent()]) } else { filled };
                Truth { holds: holds.inexact(), fails: Formula::unknown() }
            }
        }
    }
}

/// `event.udm("event_type") == constant`
pub(super) fn event_type_is(constant: &Const) -> Truth {
    let Const::Text(wanted) = constant else { return Truth::unknown() };
    let is = |path: &[&str], text: &str| {
        let keys: Vec<Arc<str>> = path.iter().map(|key| Arc::from(*key)).collect();
        FieldValue::new(keys, Missing::Is(Const::None)).equals(&Const::Text(text.into())).holds
    };
    let sign_in = |result| {
        Formula::all([
            is(&["eventName"], "ConsoleLogin"),
            is(&["userIdentity", "type"], "IAMUser"),
            is(&["responseElements", "ConsoleLogin"], result),
        ])
    };
    let holds = match &**wanted {
        "failed_login" => sign_in("Failure"),
        "successful_login" => sign_in("Success"),
        "user_account_created" => is(&["eventName"], "CreateUser"),
        "account_created" => is(&["eventName"], "CreateAccountResult"),
        _ => Formula::constant(false),
    };
    Truth { holds, fails: Formula::unknown() }
}
