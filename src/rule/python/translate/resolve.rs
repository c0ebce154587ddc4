//! Finds the facts about expressions that hold without an event.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use super::super::columns::{Defined, defined};
use super::super::symbols::{Const, Environment, FieldValue, Missing, Symbol};
use super::super::tree::{Call, Expr, Name, Stmt, Target};
use super::Translator;

impl<'p> Translator<'p> {
    /// The elements of a constant list, tuple or set, or the keys of a constant dictionary.
    pub(super) fn items(&self, value: &'p Expr, environment: &Rc<Environment<'p>>) -> Option<Vec<Symbol<'p>>> {
        if let Expr::Call(call) = value
            && let Expr::Attribute(base, method) = &call.callee
            && call.arguments.is_empty()
            && call.named.is_empty()
            && let Symbol::Entries(entries) = self.resolve(base, environment)
        {
            return match &**method {
                "keys" => Some(entries.iter().map(|(key, _)| key.clone()).collect()),
                "values" => Some(entries.iter().map(|(_, value)| value.clone()).collect()),
                "items" => Some(
                    entries
                        .iter()
                        .map(|(key, value)| Symbol::Items(Rc::new(vec![key.clone(), value.clone()])))
                        .collect(),
                ),
                _ => None,
            };
        }
        match self.resolve(value, environment) {
            Symbol::Items(items) => Some(items.to_vec()),
            Symbol::Entries(entries) => Some(entries.iter().map(|(key, _)| key.clone()).collect()),
            Symbol::Expr(Expr::Set(parts), around) => {
                Some(parts.iter().map(|part| self.resolve(part, &around)).collect())
            }
            Symbol::Expr(inner, around) if !std::ptr::eq(inner, value) => self.items(inner, &around),
            _ => None,
        }
    }

    pub(super) fn resolved(&self, symbol: &Symbol<'p>) -> Symbol<'p> {
        match symbol {
            Symbol::Expr(expr, environment) => self.resolve(expr, environment),
            other => other.clone(),
        }
    }

    /// The facts about an expression that hold without an event.
    pub(super) fn resolve(&self, value: &'p Expr, environment: &Rc<Environment<'p>>) -> Symbol<'p> {
        let unknown = || Symbol::Expr(value, Rc::clone(environment));
        match value {
            Expr::None => Symbol::Const(Const::None),
            Expr::Bool(value) => Symbol::Const(Const::Bool(*value)),
            Expr::Int(value) => Symbol::Const(Const::Int(*value)),
            Expr::Text(text) => Symbol::Const(Const::Text(Arc::clone(text))),
            Expr::List(parts) | Expr::Tuple(parts) => {
                if parts.iter().any(|part| matches!(part, Expr::Spread(_))) {
                    return unknown();
                }
                Symbol::Items(Rc::new(parts.iter().map(|part| self.resolve(part, environment)).collect()))
            }
            Expr::Dict(entries) => {
                let entry = |(key, value): &'p (Option<Expr>, Expr)| match self.resolve(key.as_ref()?, environment) {
                    key @ Symbol::Const(_) => Some((key, self.resolve(value, environment))),
                    _ => None,
                };
                match entries.iter().map(entry).collect::<Option<Vec<_>>>() {
                    Some(entries) => Symbol::Entries(Rc::new(entries)),
                    None => unknown(),
                }
            }
            Expr::Name(Name::Local(up, slot, _)) => match environment.get(*up, *slot) {
                Some(symbol) => self.resolved(&symbol),
                None => unknown(),
            },
            Expr::Name(Name::Global(name)) => match self.constant(environment.module(), name, &mut HashSet::new()) {
                Some((value, module)) => self.resolve(value, &Rc::new(Environment::of_module(&module))),
                None => unknown(),
            },
            Expr::Item(base, index) => match (self.resolve(base, environment), self.resolve(index, environment)) {
                (Symbol::Event, Symbol::Const(Const::Text(key))) => {
                    Symbol::Field(FieldValue::new(vec![key], Missing::Raises))
                }
                (Symbol::Entries(entries), Symbol::Const(key)) => {
                    let is_it = |known: &&(Symbol<'p>, Symbol<'p>)| matches!(&known.0, Symbol::Const(k) if *k == key);
                    entries.iter().find(is_it).map_or_else(unknown, |(_, value)| value.clone())
                }
                _ => unknown(),
            },
            Expr::Attribute(base, member) => match &**base {
                Expr::Name(Name::Global(name)) => match defined(self.program, environment.module(), name) {
                    Some(Defined::Module(module)) => match self.constant(module, member, &mut HashSet::new()) {
                        Some((value, module)) => self.resolve(value, &Rc::new(Environment::of_module(&module))),
                        None => unknown(),
                    },
                    _ => unknown(),
                },
                _ => unknown(),
            },
            Expr::Call(call) => self.resolve_call(call, environment).unwrap_or_else(unknown),
            _ => unknown(),
        }
    }

    /// The value of a variable of a module, if it is assigned once.
    pub(super) fn constant(
        &self,
        module: &Arc<str>,
        name: &str,
        seen: &mut HashSet<(Arc<str>, String)>,
    ) -> Option<(&'p Expr, Arc<str>)> {
        if self.program.changes_globals || !seen.insert((Arc::clone(module), name.to_owned())) {
            return None;
        }
        let is_it = |target: &Target| matches!(target, Target::Name(Name::Global(known)) if **known == *name);
        let mut found = None;
        for statement in self.program.statements(module) {
            let this = match statement {
                Stmt::Assign(targets, value) if matches!(targets.as_slice(), [target] if is_it(target)) => {
                    (value, Arc::clone(module))
                }
                Stmt::Import(target, from, Some(member)) if is_it(target) => self.constant(from, member, seen)?,
                Stmt::Define(target, _) if is_it(target) => return None,
                Stmt::Define(..) | Stmt::Import(..) | Stmt::Assign(..) | Stmt::Pass => continue,
                // A loop, or a call that may change it.
                _ => return None,
            };
            if found.replace(this).is_some() {
                return None;
            }
        }
        found
    }

    /// The facts about the value of a call.
    pub(super) fn resolve_call(&self, call: &'p Call, environment: &Rc<Environment<'p>>) -> Option<Symbol<'p>> {
        let constant = |value: &'p Expr| match self.resolve(value, environment) {
            Symbol::Const(constant) => Some(constant),
            // An empty list or object, which is false and equals no text.
            Symbol::Items(items) if items.is_empty() => Some(Const::Empty),
            Symbol::Entries(entries) if entries.is_empty() => Some(Const::Empty),
            _ => None,
        };
        let named_default = || match call.named.as_slice() {
            [] => Some(Const::None),
            [(Some(name), value)] if **name == *"default" => constant(value),
            _ => None,
        };
        let texts = |arguments: &'p [Expr]| {
            let text = |argument: &'p Expr| match self.resolve(argument, environment) {
                Symbol::Const(Const::Text(text)) => Some(text),
                _ => None,
            };
            arguments.iter().map(text).collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())
        };
        match &call.callee {
            Expr::Attribute(base, method) => match (self.resolve(base, environment), &**method) {
                (Symbol::Event, "get") => {
                    let (key, default) = match call.arguments.as_slice() {
                        [key] => (key, named_default()?),
                        [key, default] if call.named.is_empty() => (key, constant(default)?),
                        _ => return None,
                    };
                    let keys = texts(std::slice::from_ref(key))?;
                    Some(Symbol::Field(FieldValue::new(keys, Missing::Is(default)).of_get()))
                }
                (Symbol::Field(field), "get") => {
                    let (key, default) = match call.arguments.as_slice() {
                        [key] => (key, named_default()?),
                        [key, default] if call.named.is_empty() => (key, constant(default)?),
                        _ => return None,
                    };
                    field.below(&texts(std::slice::from_ref(key))?, default).map(Symbol::Field)
                }
                (Symbol::Event, "deep_get") => {
                    Some(Symbol::Field(FieldValue::new(texts(&call.arguments)?, Missing::Is(named_default()?))))
                }
                (Symbol::Event, "udm") => match texts(&call.arguments)?.as_slice() {
                    [key] if **key == *"event_type" => Some(Symbol::EventType),
                    _ => None,
                },
                (Symbol::Field(field), "lower") if call.arguments.is_empty() => field.lowered().map(Symbol::Field),
                _ => None,
            },
            Expr::Name(Name::Global(name)) => match defined(self.program, environment.module(), name)? {
                Defined::Library(module, member) if module == "panther_base_helpers" && member == "deep_get" => {
                    let (first, keys) = call.arguments.split_first()?;
                    match self.resolve(first, environment) {
                        Symbol::Event => {
                            Some(Symbol::Field(FieldValue::new(texts(keys)?, Missing::Is(named_default()?))))
                        }
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        }
    }
}
