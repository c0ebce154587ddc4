//! Makes a predicate of `rule`: of all that it can, exactly; elsewhere one that every match satisfies.
//!
//! An expression is true, false, or raises, and a predicate has no third value. So for each expression there are two
//! conditions, that it is true and that it is false. Neither holds where it raises. `not` swaps them, so that negations
//! are only in tests of fields.

use std::rc::Rc;
use std::sync::Arc;

use super::columns::{Defined, defined};
use super::program::Program;
use super::symbols::{Const, Environment, Symbol, key_in_event};
use super::tree::{Call, Comparison, Comprehension, Expr, ForLoop, Function, Name, Stmt, Target};
use super::{EntryPoint, PythonFunction};
use crate::rule::Predicate;
use crate::rule::limits;

mod fields;
mod formula;
mod resolve;

pub use fields::fields;
pub(super) use formula::{Formula, Truth};

/// Paths through statements that a translation follows, and functions within each other.
const PATHS: usize = 3_000;
const CALLS: usize = 12;

/// Elements of a constant list that a loop over it is written out for.
const UNROLLED: usize = 80;

/// The predicate of a rule.
#[derive(Debug)]
pub struct Translation {
    /// Every match satisfies it.
    pub predicate: Predicate,
    /// Whether every event that satisfies it is a match.
    pub is_exact: bool,
}

/// Translates the function `rule`.
pub fn predicate(rule: &PythonFunction) -> Translation {
    let unknown = || Translation { predicate: Predicate::All(Vec::new()), is_exact: false };
    let program = &rule.program;
    let Some(Defined::Function(function)) = defined(program, "", EntryPoint::Rule.function()) else { return unknown() };
    let translator = Translator { program, paths: 0.into(), calls: 0.into() };
    let environment = Environment::of_call(function, vec![Symbol::Event]);
    let formula = match environment {
        Some(environment) => translator.block(&function.body, &Rc::new(Next::End), &environment, Wanted::True),
        None => return unknown(),
    };
    let changes = program.changes_globals;
    if limits::check(&formula.predicate).is_err() {
        return unknown();
    }
    Translation { predicate: formula.predicate, is_exact: formula.is_exact && !changes }
}

/// The condition on the value that a function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// It is `True`: Panther takes nothing else for a match.
    True,
    /// Python takes it for true.
    Holds,
    /// Python takes it for false.
    Fails,
}

/// What runs after some statements.
enum Next<'p> {
    End,
    Then(&'p [Stmt], Rc<Next<'p>>),
    Loop { each: &'p ForLoop, items: Rc<Vec<Symbol<'p>>>, index: usize, after: Rc<Next<'p>> },
}

pub(super) struct Translator<'p> {
    pub(super) program: &'p Program,
    paths: std::cell::Cell<usize>,
    calls: std::cell::Cell<usize>,
}

impl<'p> Translator<'p> {
    fn block(
        &self,
        statements: &'p [Stmt],
        next: &Rc<Next<'p>>,
        environment: &Rc<Environment<'p>>,
        wanted: Wanted,
    ) -> Formula {
        self.paths.set(self.paths.get() + 1);
        if self.paths.get() > PATHS {
            return Formula::unknown();
        }
        let Some((statement, rest)) = statements.split_first() else {
            return self.after(next, environment, wanted);
        };
        let go_on = |environment: &Rc<Environment<'p>>| self.block(rest, next, environment, wanted);
        match statement {
            Stmt::Pass => go_on(environment),
            Stmt::Expr(value) => Formula::all([self.runs(value, environment), go_on(environment)]),
            Stmt::Return(None) => Formula::constant(wanted == Wanted::Fails),
            Stmt::Return(Some(value)) => self.returned(value, environment, wanted),
            Stmt::Assign(targets, value) => match targets.as_slice() {
                [Target::Name(Name::Local(0, slot, _))] => {
                    let bound = environment.with(*slot, Symbol::Expr(value, Rc::clone(environment)));
                    Formula::all([self.runs(value, environment), go_on(&bound)])
                }
                _ => Formula::unknown(),
            },
            Stmt::If(branches, otherwise) => {
                let after = Rc::new(Next::Then(rest, Rc::clone(next)));
                let mut result = self.block(otherwise, &after, environment, wanted);
                for (condition, body) in branches.iter().rev() {
                    let condition = self.truth(condition, environment);
                    let then = if condition.holds.is_never() {
                        Formula::constant(false)
                    } else {
                        self.block(body, &after, environment, wanted)
                    };
                    result =
                        Formula::any([Formula::all([condition.holds, then]), Formula::all([condition.fails, result])]);
                }
                result
            }
            Stmt::For(each) => match self.items(&each.over, environment) {
                Some(items) if items.len() <= UNROLLED => {
                    let after = Rc::new(Next::Then(rest, Rc::clone(next)));
                    let next = Next::Loop { each, items: Rc::new(items), index: 0, after };
                    self.after(&Rc::new(next), environment, wanted)
                }
                _ => Formula::unknown(),
            },
            Stmt::Continue => self.after(next, environment, wanted),
            Stmt::Break => {
                let mut next = next;
                loop {
                    match &**next {
                        Next::Loop { after, .. } => return self.after(after, environment, wanted),
                        Next::Then(_, inner) => next = inner,
                        Next::End => return Formula::unknown(),
                    }
                }
            }
            // Raises: no match, and neither true nor false.
            Stmt::Raise(_) => Formula::constant(false),
            _ => Formula::unknown(),
        }
    }

    fn after(&self, next: &Rc<Next<'p>>, environment: &Rc<Environment<'p>>, wanted: Wanted) -> Formula {
        match &**next {
            Next::End => Formula::constant(wanted == Wanted::Fails),
            Next::Then(statements, next) => self.block(statements, next, environment, wanted),
            Next::Loop { each, items, index, after } => match items.get(*index) {
                None => {
                    let rest = Rc::clone(after);
                    self.block(&each.otherwise, &rest, environment, wanted)
                }
                Some(item) => {
                    let Some(bound) = self.bound(&each.target, item, environment) else { return Formula::unknown() };
                    let (items, after) = (Rc::clone(items), Rc::clone(after));
                    let next = Rc::new(Next::Loop { each, items, index: index + 1, after });
                    self.block(&each.body, &next, &bound, wanted)
                }
            },
        }
    }

    /// The variables once `item` is assigned to `target`.
    fn bound(
        &self,
        target: &'p Target,
        item: &Symbol<'p>,
        environment: &Rc<Environment<'p>>,
    ) -> Option<Rc<Environment<'p>>> {
        match target {
            Target::Name(Name::Local(0, slot, _)) => Some(environment.with(*slot, item.clone())),
            Target::Unpack(targets) => {
                let Symbol::Items(parts) = self.resolved(item) else { return None };
                if parts.len() != targets.len() {
                    return None;
                }
                let mut environment = Rc::clone(environment);
                for (target, part) in targets.iter().zip(parts.iter()) {
                    environment = self.bound(target, part, &environment)?;
                }
                Some(environment)
            }
            _ => None,
        }
    }

    /// The condition under which a returned value is as wanted.
    fn returned(&self, value: &'p Expr, environment: &Rc<Environment<'p>>, wanted: Wanted) -> Formula {
        match wanted {
            Wanted::Holds => self.truth(value, environment).holds,
            Wanted::Fails => self.truth(value, environment).fails,
            Wanted::True => self.is_true(value, environment),
        }
    }

    /// The condition that a value is `True`.
    fn is_true(&self, value: &'p Expr, environment: &Rc<Environment<'p>>) -> Formula {
        match value {
            Expr::And(parts) => {
                let last = parts.len().saturating_sub(1);
                Formula::all(parts.iter().enumerate().map(|(index, part)| {
                    if index == last { self.is_true(part, environment) } else { self.truth(part, environment).holds }
                }))
            }
            Expr::Or(parts) => {
                let mut result = Formula::constant(false);
                for part in parts.iter().rev() {
                    let fails = self.truth(part, environment).fails;
                    result = Formula::any([self.is_true(part, environment), Formula::all([fails, result])]);
                }
                result
            }
            Expr::If(parts) => {
                let condition = self.truth(&parts.0, environment);
                let (then, otherwise) = (self.is_true(&parts.1, environment), self.is_true(&parts.2, environment));
                Formula::any([Formula::all([condition.holds, then]), Formula::all([condition.fails, otherwise])])
            }
            Expr::Not(_) | Expr::Compare(..) => self.truth(value, environment).holds,
            Expr::Call(call) if self.gives_bool(call, environment) => self.truth(value, environment).holds,
            Expr::Call(call) => match self.called(call, environment) {
                Some((function, inner)) => {
                    self.inside(|| self.block(&function.body, &Rc::new(Next::End), &inner, Wanted::True))
                }
                None => Self::true_symbol(&self.resolve(value, environment)),
            },
            _ => match self.resolve(value, environment) {
                Symbol::Expr(inner, around) if !std::ptr::eq(inner, value) => self.is_true(inner, &around),
                symbol => Self::true_symbol(&symbol),
            },
        }
    }

    fn true_symbol(symbol: &Symbol<'p>) -> Formula {
        match symbol {
            Symbol::Const(constant) => Formula::constant(*constant == Const::Bool(true)),
            Symbol::Items(_) | Symbol::Entries(_) | Symbol::Event => Formula::constant(false),
            Symbol::Field(field) => field.is_flag(true).holds,
            _ => Formula::unknown(),
        }
    }

    /// Whether a call gives `True` or `False`, or raises.
    fn gives_bool(&self, call: &Call, environment: &Rc<Environment<'p>>) -> bool {
        match &call.callee {
            Expr::Name(Name::Global(name)) => {
                let is_builtin = defined(self.program, environment.module(), name).is_none();
                is_builtin && matches!(&**name, "any" | "all" | "bool" | "isinstance" | "hasattr")
            }
            Expr::Attribute(_, method) => {
                matches!(
                    &**method,
                    "startswith" | "endswith" | "isdigit" | "isalpha" | "isalnum" | "isupper" | "islower"
                )
            }
            _ => false,
        }
    }

    fn inside(&self, inner: impl FnOnce() -> Formula) -> Formula {
        if self.calls.get() >= CALLS {
            return Formula::unknown();
        }
        self.calls.set(self.calls.get() + 1);
        let result = inner();
        self.calls.set(self.calls.get() - 1);
        result
    }

    /// The function of the rule that a call names, with its arguments as variables.
    fn called(
        &self,
        call: &'p Call,
        environment: &Rc<Environment<'p>>,
    ) -> Option<(&'p Arc<Function>, Rc<Environment<'p>>)> {
        let Expr::Name(Name::Global(name)) = &call.callee else { return None };
        let Some(Defined::Function(function)) = defined(self.program, environment.module(), name) else { return None };
        if call.arguments.iter().any(|argument| matches!(argument, Expr::Spread(_))) {
            return None;
        }
        let parameters = &function.parameters;
        if parameters.rest || parameters.rest_named || call.arguments.len() > parameters.positional.len() {
            return None;
        }
        let mut given: Vec<Option<Symbol<'p>>> =
            call.arguments.iter().map(|argument| Some(self.resolve(argument, environment))).collect();
        let all: Vec<_> = parameters.positional.iter().chain(&parameters.named).collect();
        given.resize(all.len(), None);
        for (name, argument) in &call.named {
            let index = all.iter().position(|parameter| Some(&parameter.name) == name.as_ref())?;
            given[index] = Some(self.resolve(argument, environment));
        }
        let module = Rc::new(Environment::of_module(&function.module));
        let mut values = Vec::with_capacity(all.len());
        for (value, parameter) in given.into_iter().zip(all) {
            values.push(match (value, &parameter.default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.resolve(default, &module),
                (None, None) => return None,
            });
        }
        Some((function, Environment::of_call(function, values)?))
    }

    /// Whether a value may raise, as a condition that it does not.
    fn runs(&self, value: &'p Expr, environment: &Rc<Environment<'p>>) -> Formula {
        if self.never_raises(value, environment) { Formula::constant(true) } else { Formula::unknown() }
    }

    /// Whether an expression never raises.
    fn never_raises(&self, value: &'p Expr, environment: &Rc<Environment<'p>>) -> bool {
        let all = |parts: &'p [Expr]| parts.iter().all(|part| self.never_raises(part, environment));
        match value {
            Expr::None
            | Expr::Bool(_)
            | Expr::Int(_)
            | Expr::Float(_)
            | Expr::Text(_)
            | Expr::Bytes(_)
            | Expr::Name(_) => true,
            Expr::List(parts) | Expr::Tuple(parts) | Expr::And(parts) | Expr::Or(parts) => all(parts),
            Expr::Set(parts) => parts.iter().all(|part| matches!(part, Expr::Text(_) | Expr::Int(_))),
            Expr::Not(inner) => self.never_raises(inner, environment),
            Expr::Compare(left, rights) => {
                self.never_raises(left, environment)
                    && rights.iter().all(|(comparison, right)| {
                        let is_safe = match comparison {
                            Comparison::Equal | Comparison::NotEqual | Comparison::Is | Comparison::IsNot => true,
                            // A list takes any value, a set only one that is hashable.
                            Comparison::In | Comparison::NotIn => {
                                matches!(self.resolve(right, environment), Symbol::Items(_))
                                    || (self.items(right, environment).is_some() && self.is_scalar(left, environment))
                            }
                            _ => false,
                        };
                        is_safe && self.never_raises(right, environment)
                    })
            }
            Expr::Call(call) => match self.resolve(value, environment) {
                Symbol::Const(_) => true,
                Symbol::Field(field) => !field.may_raise(),
                _ => match self.called(call, environment) {
                    // Helpers of a few tests, as most are.
                    Some((function, inner)) => function.body.iter().all(|statement| match statement {
                        Stmt::Return(Some(value)) => self.never_raises(value, &inner),
                        Stmt::Return(None) | Stmt::Pass => true,
                        Stmt::Expr(value) => matches!(value, Expr::Text(_)),
                        Stmt::If(branches, otherwise) => {
                            otherwise.is_empty()
                                && branches.iter().all(|(condition, body)| {
                                    self.never_raises(condition, &inner)
                                        && matches!(body.as_slice(), [Stmt::Return(Some(Expr::Bool(_)))])
                                })
                        }
                        _ => false,
                    }),
                    None => false,
                },
            },
            _ => false,
        }
    }

    fn is_scalar(&self, value: &'p Expr, environment: &Rc<Environment<'p>>) -> bool {
        match self.resolve(value, environment) {
            Symbol::Const(_) => true,
            Symbol::Field(field) => field.is_text_column(),
            _ => false,
        }
    }

    /// The conditions that an expression is true, and that it is false.
    fn truth(&self, value: &'p Expr, environment: &Rc<Environment<'p>>) -> Truth {
        match value {
            Expr::Not(inner) => self.truth(inner, environment).not(),
            Expr::And(parts) => self.sequence(parts.iter().map(|part| (part, Rc::clone(environment))), false),
            Expr::Or(parts) => self.sequence(parts.iter().map(|part| (part, Rc::clone(environment))), true),
            Expr::If(parts) => Truth::if_(
                &self.truth(&parts.0, environment),
                self.truth(&parts.1, environment),
                self.truth(&parts.2, environment),
            ),
            Expr::Compare(left, rights) => match rights.as_slice() {
                [(comparison, right)] => self.comparison(left, *comparison, right, environment),
                _ => Truth::unknown(),
            },
            Expr::Call(call) => self.call_truth(value, call, environment),
            _ => match self.resolve(value, environment) {
                Symbol::Expr(inner, around) if !std::ptr::eq(inner, value) => self.truth(inner, &around),
                symbol => symbol_truth(&symbol),
            },
        }
    }

    /// The truth of expressions that Python evaluates until one is true (`is_any`), or false.
    fn sequence(&self, parts: impl DoubleEndedIterator<Item = (&'p Expr, Rc<Environment<'p>>)>, is_any: bool) -> Truth {
        let mut result = Truth::constant(!is_any);
        for (part, environment) in parts.rev() {
            let truth = self.truth(part, &environment);
            let safe = self.never_raises(part, &environment);
            // If the first part cannot raise, the second counts on its own.
            let then = |this: Formula, other: Formula| if safe { other } else { Formula::all([this, other]) };
            result = if is_any {
                Truth {
                    holds: Formula::any([truth.holds, then(truth.fails.clone(), result.holds)]),
                    fails: Formula::all([truth.fails, result.fails]),
                }
            } else {
                Truth {
                    fails: Formula::any([truth.fails, then(truth.holds.clone(), result.fails)]),
                    holds: Formula::all([truth.holds, result.holds]),
                }
            };
        }
        result
    }

    fn call_truth(&self, value: &'p Expr, call: &'p Call, environment: &Rc<Environment<'p>>) -> Truth {
        if let Some((function, inner)) = self.called(call, environment) {
            let asked = |wanted| self.inside(|| self.block(&function.body, &Rc::new(Next::End), &inner, wanted));
            return Truth { holds: asked(Wanted::Holds), fails: asked(Wanted::Fails) };
        }
        match (&call.callee, call.arguments.as_slice()) {
            (Expr::Name(Name::Global(name)), [argument]) if call.named.is_empty() => match (&**name, argument) {
                ("bool", argument) => self.truth(argument, environment),
                ("any" | "all", Expr::Generator(element, comprehension)) => {
                    self.over_items(element, comprehension, environment, &**name == "any")
                }
                ("any" | "all", Expr::List(parts) | Expr::Tuple(parts)) => {
                    // Python evaluates all parts first.
                    let truth =
                        self.sequence(parts.iter().map(|part| (part, Rc::clone(environment))), &**name == "any");
                    let safe = parts.iter().all(|part| self.never_raises(part, environment));
                    if safe { truth } else { Truth { holds: truth.holds.inexact(), fails: truth.fails.inexact() } }
                }
                _ => symbol_truth(&self.resolve(value, environment)),
            },
            (Expr::Attribute(base, method), [argument]) if call.named.is_empty() => {
                let argument = self.resolve(argument, environment);
                let affixes = match &argument {
                    Symbol::Const(Const::Text(text)) => vec![Arc::clone(text)],
                    Symbol::Items(items) => {
                        let texts = items.iter().map(|item| match self.resolved(item) {
                            Symbol::Const(Const::Text(text)) => Some(text),
                            _ => None,
                        });
                        match texts.collect::<Option<Vec<_>>>() {
                            Some(texts) => texts,
                            None => return Truth::unknown(),
                        }
                    }
                    _ => return symbol_truth(&self.resolve(value, environment)),
                };
                match (&**method, self.resolve(base, environment)) {
                    ("startswith", Symbol::Field(field)) => field.has_affix(&affixes, true),
                    ("endswith", Symbol::Field(field)) => field.has_affix(&affixes, false),
                    _ => symbol_truth(&self.resolve(value, environment)),
                }
            }
            _ => symbol_truth(&self.resolve(value, environment)),
        }
    }

    /// `any` or `all` of a generator over a constant list.
    fn over_items(
        &self,
        element: &'p Arc<Expr>,
        comprehension: &'p Arc<Comprehension>,
        environment: &Rc<Environment<'p>>,
        is_any: bool,
    ) -> Truth {
        let [each] = comprehension.loops.as_slice() else { return Truth::unknown() };
        let Some(items) = self.items(&each.over, environment).filter(|items| items.len() <= UNROLLED) else {
            return Truth::unknown();
        };
        if !each.conditions.is_empty() {
            return Truth::unknown();
        }
        let inner = Rc::new(Environment::within(environment, comprehension.locals));
        let parts: Option<Vec<_>> = items.iter().map(|item| self.bound(&each.target, item, &inner)).collect();
        match parts {
            Some(parts) => self.sequence(parts.into_iter().map(|inner| (&**element, inner)), is_any),
            None => Truth::unknown(),
        }
    }

    fn comparison(
        &self,
        left: &'p Expr,
        comparison: Comparison,
        right: &'p Expr,
        environment: &Rc<Environment<'p>>,
    ) -> Truth {
        let (first, second) = (self.resolve(left, environment), self.resolve(right, environment));
        let truth = match comparison {
            Comparison::Equal | Comparison::NotEqual => match (&first, &second) {
                (Symbol::Field(field), Symbol::Const(constant)) | (Symbol::Const(constant), Symbol::Field(field)) => {
                    field.equals(constant)
                }
                // An empty list does not equal an empty dictionary.
                (Symbol::Const(Const::Empty), Symbol::Const(Const::Empty)) => Truth::unknown(),
                (Symbol::Const(a), Symbol::Const(b)) => Truth::constant(a.equals(b)),
                (Symbol::EventType, Symbol::Const(constant)) | (Symbol::Const(constant), Symbol::EventType) => {
                    super::symbols::event_type_is(constant)
                }
                _ => Truth::unknown(),
            },
            Comparison::Is | Comparison::IsNot => match (&first, &second) {
                (Symbol::Field(field), Symbol::Const(Const::None)) => field.is_none(),
                (Symbol::Field(field), Symbol::Const(Const::Bool(wanted))) => field.is_flag(*wanted),
                _ => Truth::unknown(),
            },
            Comparison::In | Comparison::NotIn => match (&first, &second) {
                (Symbol::Field(field), Symbol::Items(_) | Symbol::Entries(_) | Symbol::Expr(..)) => {
                    match self.items(right, environment) {
                        Some(items) => {
                            let constants = items.iter().map(|item| match self.resolved(item) {
                                Symbol::Const(constant) => Some(constant),
                                _ => None,
                            });
                            let takes_any = matches!(second, Symbol::Items(_));
                            match constants.collect::<Option<Vec<_>>>() {
                                Some(constants) => field.is_in(&constants, takes_any),
                                None => Truth::unknown(),
                            }
                        }
                        None => Truth::unknown(),
                    }
                }
                (Symbol::Const(Const::Text(part)), Symbol::Field(field)) => field.contains(part),
                (Symbol::Const(Const::Text(key)), Symbol::Event) => key_in_event(key),
                _ => Truth::unknown(),
            },
            _ => Truth::unknown(),
        };
        if matches!(comparison, Comparison::NotEqual | Comparison::IsNot | Comparison::NotIn) {
            truth.not()
        } else {
            truth
        }
    }
}

fn symbol_truth(symbol: &Symbol<'_>) -> Truth {
    match symbol {
        Symbol::Const(constant) => Truth::constant(constant.is_true()),
        Symbol::Items(items) => Truth::constant(!items.is_empty()),
        Symbol::Entries(entries) => Truth::constant(!entries.is_empty()),
        Symbol::Field(field) => field.truth(),
        _ => Truth::unknown(),
    }
}
