//! Attributes and calls.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::super::bounds;
use super::super::exception::{Exception, Fault, Outcome};
use super::super::tree::{Call, Expr};
use super::super::value::{Closure, Frame, Value};
use super::super::{library, methods};
use super::{Arguments, Flow, Interpreter, Scope};

impl Interpreter {
    pub(in super::super) fn attribute(&self, base: &Value, name: &Arc<str>) -> Outcome<Value> {
        match base {
            Value::Module(module) => self.member(module, name).or_else(|fault| {
                // `collections.abc` is a module within a module.
                let inner: Arc<str> = format!("{module}.{name}").into();
                if library::is_module(&inner) { Ok(Value::Module(inner)) } else { Err(fault) }
            }),
            _ => methods::attribute(base, name),
        }
    }

    pub(in super::super) fn call_expr(&self, call: &Call, scope: &Scope) -> Outcome<Value> {
        let callee = match &call.callee {
            Expr::Attribute(base, name) => {
                let base = self.eval(base, scope)?;
                if !matches!(base, Value::Module(_) | Value::Builtin(_)) && methods::is_method(&base, name) {
                    let arguments = self.arguments(call, scope)?;
                    return methods::call(self, &base, name, &arguments);
                }
                self.attribute(&base, name)?
            }
            other => self.eval(other, scope)?,
        };
        let arguments = self.arguments(call, scope)?;
        self.call(&callee, arguments)
    }

    pub(in super::super) fn arguments(&self, call: &Call, scope: &Scope) -> Outcome<Arguments> {
        let positional = self.spread(&call.arguments, scope)?;
        let mut named: Vec<(Arc<str>, Value)> = Vec::with_capacity(call.named.len());
        for (name, value) in &call.named {
            let value = self.eval(value, scope)?;
            if let Some(name) = name {
                named.push((Arc::clone(name), value));
            } else {
                let entries = value.dict_entries();
                let entries = entries.ok_or_else(|| Fault::type_error("argument after ** must be a mapping"))?;
                for (key, value) in entries {
                    let key = key.as_text().cloned().ok_or_else(|| Fault::type_error("keywords must be strings"))?;
                    named.push((key, value));
                }
            }
        }
        Ok(Arguments { positional, named })
    }

    /// Calls a value.
    pub(in super::super) fn call(&self, callee: &Value, arguments: Arguments) -> Outcome<Value> {
        match callee {
            Value::Function(closure) => self.deeper(|| self.call_function(closure, arguments)),
            Value::Builtin(builtin) => library::call(self, *builtin, &arguments),
            Value::Method(method) => methods::call(self, &method.0, &method.1, &arguments),
            Value::Unbound(class, name) => {
                let mut positional = arguments.positional.into_iter();
                let of_class = |value: &Value| value.type_name() == class.0;
                let Some(value) = positional.next().filter(of_class) else {
                    return Err(Fault::type_error(format!("descriptor '{name}' requires a '{}' object", class.0)));
                };
                let arguments = Arguments { positional: positional.collect(), named: arguments.named };
                methods::call(self, &value, name, &arguments)
            }
            Value::Mock(value) => Ok((**value).clone()),
            Value::ExceptionType(kind) => {
                let message = arguments.positional.into_iter().next().unwrap_or_else(|| Value::text(""));
                Ok(bounds::register(Value::Exception(Rc::new(Exception { kind: *kind, message }))))
            }
            other => Err(Fault::type_error(format!("'{}' object is not callable", other.type_name()))),
        }
    }

    pub(in super::super) fn call_function(&self, closure: &Closure, arguments: Arguments) -> Outcome<Value> {
        let function = &closure.function;
        let slots = bound(closure, arguments)?;
        let frame = Rc::new(Frame { slots: RefCell::new(slots), parent: closure.frame.clone() });
        let scope =
            Scope { frame: Some(frame), globals: self.module(&function.module)?, module: Arc::clone(&function.module) };
        match self.block(&function.body, &scope)? {
            Flow::Return(value) => Ok(value),
            Flow::Next | Flow::Break | Flow::Continue => Ok(Value::None),
        }
    }
}

/// The local variables of a call, with its arguments in the parameters.
fn bound(closure: &Closure, arguments: Arguments) -> Outcome<Vec<Option<Value>>> {
    let function = &closure.function;
    let parameters = &function.parameters;
    let mut slots: Vec<Option<Value>> = vec![None; function.locals];
    let positional = parameters.positional.len();
    let (mut rest, mut others) = (Vec::new(), Vec::new());
    for (index, value) in arguments.positional.into_iter().enumerate() {
        if index < positional { slots[index] = Some(value) } else { rest.push(value) }
    }
    let wrong = |message: String| Fault::type_error(format!("{}() {message}", function.name));
    if !rest.is_empty() && !parameters.rest {
        return Err(wrong(format!("takes {positional} positional arguments")));
    }
    for (name, value) in arguments.named {
        let index = parameters.positional.iter().chain(&parameters.named).position(|known| known.name == name);
        match index {
            Some(index) if slots[index].is_some() => {
                return Err(wrong(format!("got multiple values for argument '{name}'")));
            }
            Some(index) => slots[index] = Some(value),
            None if parameters.rest_named => others.push((Value::Text(name), value)),
            None => return Err(wrong(format!("got an unexpected keyword argument '{name}'"))),
        }
    }
    let all = parameters.positional.iter().chain(&parameters.named);
    for ((slot, default), parameter) in slots.iter_mut().zip(&closure.defaults).zip(all) {
        if slot.is_none() {
            *slot = Some(default.clone().ok_or_else(|| wrong(format!("missing argument: '{}'", parameter.name)))?);
        }
    }
    let mut next = positional + parameters.named.len();
    if parameters.rest {
        slots[next] = Some(Value::tuple(rest));
        next += 1;
    }
    if parameters.rest_named {
        slots[next] = Some(Value::dict(others));
    }
    Ok(slots)
}
