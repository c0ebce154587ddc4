//! Expressions.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use super::super::bounds;
use super::super::exception::{Fault, Outcome};
use super::super::iterators::Generator;
use super::super::tree::{Comparison, Comprehension, ComprehensionLoop, Expr, FormatPart};
use super::super::value::{Frame, Value};
use super::super::{methods, operators, text_format};
use super::{Interpreter, Scope, bind, variable};

impl Interpreter {
    /// Runs the loops of a comprehension in a frame of its own.
    pub(in super::super) fn loops(
        &self,
        comprehension: &Comprehension,
        first: Value,
        scope: &Scope,
        take: &mut dyn FnMut(&Scope) -> Outcome<ControlFlow<()>>,
    ) -> Outcome<()> {
        let slots = RefCell::new(vec![None; comprehension.locals]);
        let frame = Some(Rc::new(Frame { slots, parent: scope.frame.clone() }));
        let scope = Scope { frame, globals: Rc::clone(&scope.globals), module: Arc::clone(&scope.module) };
        self.loops_from(&comprehension.loops, Some(first), &scope, take).map(|_| ())
    }

    pub(in super::super) fn loops_from(
        &self,
        loops: &[ComprehensionLoop],
        first: Option<Value>,
        scope: &Scope,
        take: &mut dyn FnMut(&Scope) -> Outcome<ControlFlow<()>>,
    ) -> Outcome<ControlFlow<()>> {
        let Some((each, inner)) = loops.split_first() else { return take(scope) };
        let over = first.map_or_else(|| self.eval(&each.over, scope), Ok)?;
        let mut end = ControlFlow::Continue(());
        self.iterate(&over, &mut |item| {
            self.assign(&each.target, item, scope)?;
            for condition in &each.conditions {
                if !self.eval(condition, scope)?.is_true() {
                    return Ok(ControlFlow::Continue(()));
                }
            }
            end = self.loops_from(inner, None, scope, take)?;
            Ok(end)
        })?;
        Ok(end)
    }

    pub(in super::super) fn first_iterable(&self, comprehension: &Comprehension, scope: &Scope) -> Outcome<Value> {
        match comprehension.loops.first() {
            Some(first) => self.eval(&first.over, scope),
            None => Ok(Value::tuple(Vec::new())),
        }
    }

    /// The values that a comprehension makes.
    pub(in super::super) fn comprehended(
        &self,
        element: &Expr,
        comprehension: &Comprehension,
        scope: &Scope,
    ) -> Outcome<Vec<Value>> {
        let first = self.first_iterable(comprehension, scope)?;
        let mut items = Vec::new();
        self.loops(comprehension, first, scope, &mut |scope| {
            items.push(self.eval(element, scope)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(items)
    }

    pub(in super::super) fn eval(&self, expr: &Expr, scope: &Scope) -> Outcome<Value> {
        self.deeper(|| match expr {
            Expr::None => Ok(Value::None),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::Int(value) => Ok(Value::Int(*value)),
            Expr::Float(value) => Ok(Value::Float(*value)),
            Expr::Text(text) => Ok(Value::Text(Arc::clone(text))),
            Expr::Bytes(bytes) => Ok(Value::Bytes(Arc::clone(bytes))),
            Expr::Name(name) => variable(name, scope),
            Expr::And(parts) => self.first_that(parts, scope, |value| !value.is_true()),
            Expr::Or(parts) => self.first_that(parts, scope, Value::is_true),
            Expr::Not(operand) => Ok(Value::Bool(!self.eval(operand, scope)?.is_true())),
            Expr::Compare(left, rights) => self.comparisons(left, rights, scope),
            Expr::If(parts) => {
                let (condition, then, otherwise) = &**parts;
                let part = if self.eval(condition, scope)?.is_true() { then } else { otherwise };
                self.eval(part, scope)
            }
            Expr::Call(call) => self.call_expr(call, scope),
            other => self.eval_other(other, scope),
        })
    }

    pub(in super::super) fn first_that(
        &self,
        parts: &[Expr],
        scope: &Scope,
        ends: impl Fn(&Value) -> bool,
    ) -> Outcome<Value> {
        let mut value = Value::None;
        for part in parts {
            value = self.eval(part, scope)?;
            if ends(&value) {
                break;
            }
        }
        Ok(value)
    }

    pub(in super::super) fn comparisons(
        &self,
        left: &Expr,
        rights: &[(Comparison, Expr)],
        scope: &Scope,
    ) -> Outcome<Value> {
        let mut left = self.eval(left, scope)?;
        for (comparison, right) in rights {
            let right = self.eval(right, scope)?;
            if !operators::holds(self, *comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    pub(in super::super) fn eval_other(&self, expr: &Expr, scope: &Scope) -> Outcome<Value> {
        match expr {
            Expr::List(items) => Ok(Value::list(self.spread(items, scope)?)),
            Expr::Tuple(items) => Ok(Value::tuple(self.spread(items, scope)?)),
            Expr::Set(items) => operators::new_set(self, self.spread(items, scope)?),
            Expr::Dict(entries) => {
                let dict = Value::dict(Vec::new());
                for (key, value) in entries {
                    match key {
                        Some(key) => {
                            let key = self.eval(key, scope)?;
                            operators::set_item(self, &dict, key, self.eval(value, scope)?)?;
                        }
                        None => methods::add_entries(self, &dict, &self.eval(value, scope)?)?,
                    }
                }
                Ok(dict)
            }
            Expr::Negative(operand) => operators::negative(&self.eval(operand, scope)?),
            Expr::Positive(operand) => operators::positive(&self.eval(operand, scope)?),
            Expr::Binary(left, operator, right) => {
                let (left, right) = (self.eval(left, scope)?, self.eval(right, scope)?);
                operators::binary(self, *operator, &left, &right)
            }
            Expr::Attribute(base, name) => {
                let base = self.eval(base, scope)?;
                self.attribute(&base, name)
            }
            Expr::Item(base, index) => {
                let (base, index) = (self.eval(base, scope)?, self.eval(index, scope)?);
                operators::item(self, &base, &index)
            }
            Expr::Slice(base, bounds) => {
                let base = self.eval(base, scope)?;
                let mut values = [Value::None, Value::None, Value::None];
                for (value, bound) in values.iter_mut().zip(bounds.iter()) {
                    if let Some(bound) = bound {
                        *value = self.eval(bound, scope)?;
                    }
                }
                operators::slice(self, &base, &values)
            }
            Expr::Format(parts) => self.format(parts, scope).map(Value::text),
            Expr::Lambda(function) => self.closure(function, scope),
            Expr::ListOf(element, comprehension) => {
                Ok(Value::list(self.comprehended(element, comprehension, scope)?))
            }
            Expr::SetOf(element, comprehension) => {
                operators::new_set(self, self.comprehended(element, comprehension, scope)?)
            }
            Expr::DictOf(entry, comprehension) => {
                let dict = Value::dict(Vec::new());
                let first = self.first_iterable(comprehension, scope)?;
                self.loops(comprehension, first, scope, &mut |scope| {
                    let key = self.eval(&entry.0, scope)?;
                    operators::set_item(self, &dict, key, self.eval(&entry.1, scope)?)?;
                    Ok(ControlFlow::Continue(()))
                })?;
                Ok(dict)
            }
            Expr::Generator(element, comprehension) => {
                scope.frame.iter().for_each(bounds::register_frame);
                Ok(bounds::register(Value::Generator(Rc::new(Generator {
                    first: self.first_iterable(comprehension, scope)?,
                    comprehension: Arc::clone(comprehension),
                    element: Arc::clone(element),
                    frame: scope.frame.clone(),
                    module: Arc::clone(&scope.module),
                    state: RefCell::default(),
                    is_shared: Cell::new(false),
                }))))
            }
            Expr::Assign(name, value) => {
                let value = self.eval(value, scope)?;
                bind(name, value.clone(), scope);
                Ok(value)
            }
            _ => Err(Fault::type_error("can't use starred expression here")),
        }
    }

    pub(in super::super) fn spread(&self, items: &[Expr], scope: &Scope) -> Outcome<Vec<Value>> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Expr::Spread(inner) => values.extend(self.collect(&self.eval(inner, scope)?)?),
                other => values.push(self.eval(other, scope)?),
            }
        }
        Ok(values)
    }

    pub(in super::super) fn format(&self, parts: &[FormatPart], scope: &Scope) -> Outcome<String> {
        let mut text = String::new();
        for part in parts {
            match part {
                FormatPart::Text(literal) => text.push_str(literal),
                FormatPart::Value { value, conversion, format } => {
                    let value = self.eval(value, scope)?;
                    let format = self.format(format, scope)?;
                    text.push_str(&text_format::formatted(self, &value, *conversion, &format)?);
                }
            }
            self.charge(1 + text.len() / 64)?;
        }
        Ok(text)
    }
}
