//! Runs the typed tree of a rule over one event. Steps are counted, so time and memory are bounded.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use super::bounds;
use super::exception::{Exception, ExceptionKind, Fault, Outcome};
use super::library;
use super::operators;
use super::program::Program;
use super::tree::{Expr, ForLoop, Function, Name, Stmt, Target, Try};
use super::value::{Closure, Frame, Value, freeze};

/// Steps of one evaluation. The rules in public packs take some hundred.
const STEPS: u64 = 200_000;

/// How deep evaluations nest: calls, statements and expressions together.
const DEPTH: u32 = 220;

mod calls;
mod expressions;

type Globals = Rc<RefCell<HashMap<Arc<str>, Value>>>;

/// The modules of a program, with their variables.
pub(super) struct Interpreter {
    program: Arc<Program>,
    modules: RefCell<HashMap<Arc<str>, Globals>>,
    steps: Cell<u64>,
    depth: Cell<u32>,
    /// The values of the modules.
    kept: bounds::Kept,
}

/// Where code runs.
#[derive(Clone)]
pub(super) struct Scope {
    frame: Option<Rc<Frame>>,
    globals: Globals,
    module: Arc<str>,
}

/// The arguments of a call.
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

/// How a statement ends.
enum Flow {
    Next,
    Break,
    Continue,
    Return(Value),
}

impl Arguments {
    pub(super) fn of(positional: Vec<Value>) -> Arguments {
        Arguments { positional, named: Vec::new() }
    }

    /// Returns the argument at a position, or with a name.
    pub(super) fn get(&self, position: usize, name: &str) -> Option<&Value> {
        let named = || self.named.iter().find(|(known, _)| **known == *name).map(|(_, value)| value);
        self.positional.get(position).or_else(named)
    }

    /// Returns the argument at a position, or with a name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn required(&self, position: usize, name: &str) -> Outcome<&Value> {
        self.get(position, name).ok_or_else(|| Fault::type_error(format!("missing required argument: '{name}'")))
    }

    /// # Errors
    /// There are more than `most` arguments, or one with another name than `names`.
    pub(super) fn check(&self, most: usize, names: &[&str]) -> Outcome<()> {
        if self.positional.len() > most {
            return Err(Fault::type_error(format!("expected at most {most} arguments, got {}", self.positional.len())));
        }
        match self.named.iter().find(|(name, _)| !names.contains(&&**name)) {
            Some((name, _)) => Err(Fault::type_error(format!("unexpected keyword argument '{name}'"))),
            None => Ok(()),
        }
    }
}

impl Interpreter {
    /// Prepares to run `program`: runs the statements of its modules. `mocks` replace variables of the rule's module.
    ///
    /// # Errors
    /// A statement of a module raises.
    pub(super) fn new(program: &Arc<Program>, mocks: &[(Arc<str>, Value)]) -> Outcome<Interpreter> {
        bounds::begin();
        bounds::release();
        let mut interpreter = Interpreter {
            program: Arc::clone(program),
            modules: RefCell::default(),
            steps: Cell::new(STEPS),
            depth: Cell::new(0),
            kept: bounds::Kept::default(),
        };
        let rule = interpreter.module(&Arc::from(""));
        interpreter.kept = bounds::keep();
        let rule = rule?;
        for (name, value) in mocks {
            if let Some(known) = rule.borrow_mut().get_mut(name) {
                *known = Value::Mock(Rc::new(value.clone()));
            }
        }
        Ok(interpreter)
    }

    /// Marks the values of all modules, so that no event changes what others see.
    pub(super) fn freeze(&self) {
        for globals in self.modules.borrow().values() {
            globals.borrow().values().for_each(freeze);
        }
    }

    /// Calls a function of the rule's module with the event.
    ///
    /// # Errors
    /// It raises, or there is no such function.
    pub(super) fn call_entry(&self, name: &str, event: &Value) -> Outcome<Value> {
        self.steps.set(STEPS);
        self.depth.set(0);
        bounds::begin();
        let function = self.module(&Arc::from(""))?.borrow().get(name).cloned();
        let function = function.ok_or_else(|| Fault::raise(ExceptionKind::NameError, name))?;
        let result = self.call(&function, Arguments::of(vec![event.clone()]));
        if bounds::are_exceeded() { Err(Fault::Exhausted) } else { result }
    }

    /// Takes steps for work in proportion to `amount`.
    ///
    /// # Errors
    /// None are left.
    pub(super) fn charge(&self, amount: usize) -> Outcome<()> {
        if bounds::are_exceeded() {
            return Err(Fault::Exhausted);
        }
        match self.steps.get().checked_sub(amount as u64) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => Err(Fault::Exhausted),
        }
    }

    /// The scope of code of `module` with these local variables.
    pub(super) fn scope_of(&self, frame: Rc<Frame>, module: &Arc<str>) -> Outcome<Scope> {
        Ok(Scope { frame: Some(frame), globals: self.module(module)?, module: Arc::clone(module) })
    }

    pub(super) fn deeper<T>(&self, inner: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let depth = self.depth.get();
        if depth >= DEPTH {
            return Err(Fault::Exhausted);
        }
        self.charge(1)?;
        self.depth.set(depth + 1);
        let result = inner();
        self.depth.set(depth);
        result
    }

    /// The variables of a module. Its statements run when it is first used.
    fn module(&self, name: &Arc<str>) -> Outcome<Globals> {
        if let Some(globals) = self.modules.borrow().get(name) {
            return Ok(Rc::clone(globals));
        }
        let globals = Globals::default();
        self.modules.borrow_mut().insert(Arc::clone(name), Rc::clone(&globals));
        let scope = Scope { frame: None, globals: Rc::clone(&globals), module: Arc::clone(name) };
        let program = Arc::clone(&self.program);
        for statement in program.statements(name) {
            self.run(statement, &scope)?;
        }
        Ok(globals)
    }

    fn block(&self, statements: &[Stmt], scope: &Scope) -> Outcome<Flow> {
        for statement in statements {
            match self.run(statement, scope)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn run(&self, statement: &Stmt, scope: &Scope) -> Outcome<Flow> {
        self.deeper(|| self.run_one(statement, scope))
    }

    fn run_one(&self, statement: &Stmt, scope: &Scope) -> Outcome<Flow> {
        match statement {
            Stmt::Expr(value) => {
                self.eval(value, scope)?;
            }
            Stmt::Assign(targets, value) => {
                let value = self.eval(value, scope)?;
                for target in targets {
                    self.assign(target, value.clone(), scope)?;
                }
            }
            Stmt::Update(target, operator, value) => {
                let old = match target {
                    Target::Name(name) => variable(name, scope)?,
                    Target::Item(base, index) => {
                        operators::item(self, &self.eval(base, scope)?, &self.eval(index, scope)?)?
                    }
                    Target::Unpack(_) => return Err(Fault::type_error("cannot unpack")),
                };
                let value = self.eval(value, scope)?;
                let new = operators::update(self, *operator, &old, &value)?;
                self.assign(target, new, scope)?;
            }
            Stmt::Return(value) => {
                let value = value.as_ref().map_or(Ok(Value::None), |value| self.eval(value, scope))?;
                return Ok(Flow::Return(value));
            }
            Stmt::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.eval(condition, scope)?.is_true() {
                        return self.block(body, scope);
                    }
                }
                return self.block(otherwise, scope);
            }
            Stmt::For(for_loop) => return self.for_loop(for_loop, scope),
            Stmt::While(condition, body, otherwise) => {
                while self.eval(condition, scope)?.is_true() {
                    match self.block(body, scope)? {
                        Flow::Next | Flow::Continue => {}
                        Flow::Break => return Ok(Flow::Next),
                        returned @ Flow::Return(_) => return Ok(returned),
                    }
                }
                return self.block(otherwise, scope);
            }
            Stmt::Try(statement) => return self.try_block(statement, scope),
            Stmt::Raise(exception) => return Err(self.raised(exception.as_ref(), scope)?),
            Stmt::Assert(condition) => {
                if !self.eval(condition, scope)?.is_true() {
                    return Err(Fault::raise(ExceptionKind::AssertionError, ""));
                }
            }
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
            Stmt::Pass => {}
            Stmt::Define(target, function) => {
                let closure = self.closure(function, scope)?;
                self.assign(target, closure, scope)?;
            }
            Stmt::Import(target, module, member) => {
                let value = match member {
                    Some(member) => self.member(module, member)?,
                    None => Value::Module(Arc::clone(module)),
                };
                self.assign(target, value, scope)?;
            }
        }
        Ok(Flow::Next)
    }

    /// A member of a module: of this program, of the rule's own modules, or of Python.
    pub(super) fn member(&self, module: &Arc<str>, member: &str) -> Outcome<Value> {
        if let Some(known) = library::member(module, member) {
            return Ok(known);
        }
        if self.program.has_module(module) {
            let globals = self.module(module)?;
            let value = globals.borrow().get(member).cloned();
            return value.ok_or_else(|| {
                let message = format!("module '{module}' has no attribute '{member}'");
                Fault::raise(ExceptionKind::AttributeError, message)
            });
        }
        Err(Fault::Refused(format!("`{module}.{member}`")))
    }

    fn closure(&self, function: &Arc<Function>, scope: &Scope) -> Outcome<Value> {
        let parameters = function.parameters.positional.iter().chain(&function.parameters.named);
        let default = |default: &Option<Expr>| default.as_ref().map(|value| self.eval(value, scope)).transpose();
        let defaults = parameters.map(|parameter| default(&parameter.default)).collect::<Outcome<_>>()?;
        scope.frame.iter().for_each(bounds::register_frame);
        let frame = scope.frame.clone();
        Ok(bounds::register(Value::Function(Rc::new(Closure { function: Arc::clone(function), frame, defaults }))))
    }

    fn for_loop(&self, statement: &ForLoop, scope: &Scope) -> Outcome<Flow> {
        let over = self.eval(&statement.over, scope)?;
        let mut flow = Flow::Next;
        let mut broken = false;
        self.iterate(&over, &mut |item| {
            self.assign(&statement.target, item, scope)?;
            Ok(match self.block(&statement.body, scope)? {
                Flow::Next | Flow::Continue => ControlFlow::Continue(()),
                Flow::Break => {
                    broken = true;
                    ControlFlow::Break(())
                }
                returned @ Flow::Return(_) => {
                    flow = returned;
                    ControlFlow::Break(())
                }
            })
        })?;
        match flow {
            Flow::Next if !broken => self.block(&statement.otherwise, scope),
            flow => Ok(flow),
        }
    }

    fn try_block(&self, statement: &Try, scope: &Scope) -> Outcome<Flow> {
        let mut result = self.block(&statement.body, scope);
        if let Err(Fault::Raised(exception)) = &result {
            let exception = exception.clone();
            for handler in &statement.handlers {
                let catches = match &handler.classes {
                    None => true,
                    Some(classes) => operators::catches(&self.eval(classes, scope)?, exception.kind)?,
                };
                if catches {
                    if let Some(name) = &handler.name {
                        self.assign(name, Value::Exception(Rc::new(exception.clone())), scope)?;
                    }
                    result = match self.block(&handler.body, scope) {
                        // A bare `raise` raises again.
                        Err(Fault::Raised(again)) if matches!(again.message, Value::Module(_)) => {
                            Err(Fault::Raised(exception))
                        }
                        other => other,
                    };
                    break;
                }
            }
        } else if matches!(result, Ok(Flow::Next)) {
            result = self.block(&statement.otherwise, scope);
        }
        match self.block(&statement.finally, scope)? {
            Flow::Next => result,
            other => Ok(other),
        }
    }

    fn raised(&self, exception: Option<&Expr>, scope: &Scope) -> Outcome<Fault> {
        let Some(exception) = exception else {
            // `try_block` knows this message, which no rule can make.
            let message = Value::Module("".into());
            return Ok(Fault::Raised(Exception { kind: ExceptionKind::RuntimeError, message }));
        };
        Ok(match self.eval(exception, scope)? {
            Value::ExceptionType(kind) => Fault::raise(kind, ""),
            Value::Exception(exception) => Fault::Raised((*exception).clone()),
            _ => Fault::type_error("exceptions must derive from BaseException"),
        })
    }

    pub(super) fn assign(&self, target: &Target, value: Value, scope: &Scope) -> Outcome<()> {
        match target {
            Target::Name(name) => bind(name, value, scope),
            Target::Item(base, index) => {
                let (base, index) = (self.eval(base, scope)?, self.eval(index, scope)?);
                operators::set_item(self, &base, index, value)?;
            }
            Target::Unpack(targets) => {
                let items = self.collect(&value)?;
                if items.len() != targets.len() {
                    let message = format!("expected {} values to unpack, got {}", targets.len(), items.len());
                    return Err(Fault::value_error(message));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item, scope)?;
                }
            }
        }
        Ok(())
    }

    /// Calls `take` with each element of an iterable.
    pub(super) fn iterate(
        &self,
        value: &Value,
        take: &mut dyn FnMut(Value) -> Outcome<ControlFlow<()>>,
    ) -> Outcome<()> {
        let mut each = |item: Value| -> Outcome<ControlFlow<()>> {
            self.charge(1)?;
            take(item)
        };
        match value {
            Value::List(list) => {
                // A loop sees elements that are added while it runs.
                let mut index = 0;
                loop {
                    let Some(item) = list.items.borrow().get(index).cloned() else { return Ok(()) };
                    if each(item)?.is_break() {
                        return Ok(());
                    }
                    index += 1;
                }
            }
            Value::Tuple(items) => each_of(items.iter().cloned(), &mut each),
            Value::FrozenList(items) => each_of(items.iter().map(Value::frozen), &mut each),
            Value::Set(set) => {
                let items = set.items.borrow().clone();
                each_of(items.into_iter(), &mut each)
            }
            Value::Dict(dict) => {
                let keys: Vec<Value> = dict.entries.borrow().iter().map(|(key, _)| key.clone()).collect();
                each_of(keys.into_iter(), &mut each)
            }
            Value::Record(record) => each_of(record.entries().map(|(key, _)| key), &mut each),
            Value::Text(text) => {
                each_of(text.chars().map(|c| Value::text(c.encode_utf8(&mut [0; 4]) as &str)), &mut each)
            }
            Value::Bytes(bytes) => each_of(bytes.iter().map(|byte| Value::Int((*byte).into())), &mut each),
            Value::Generator(_) | Value::Iterator(_) => {
                while let Some(item) = self.next_item(value)? {
                    if each(item)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            other => Err(Fault::type_error(format!("'{}' object is not iterable", other.type_name()))),
        }
    }

    /// Returns the elements of an iterable.
    pub(super) fn collect(&self, value: &Value) -> Outcome<Vec<Value>> {
        let mut items = Vec::new();
        self.iterate(value, &mut |item| {
            items.push(item);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(items)
    }
}

fn each_of(items: impl Iterator<Item = Value>, each: &mut dyn FnMut(Value) -> Outcome<ControlFlow<()>>) -> Outcome<()> {
    for item in items {
        if each(item)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn variable(name: &Name, scope: &Scope) -> Outcome<Value> {
    match name {
        Name::Local(up, slot, text) => {
            let mut frame = scope.frame.as_ref();
            for _ in 0..*up {
                frame = frame.and_then(|frame| frame.parent.as_ref());
            }
            let value = frame.and_then(|frame| frame.slots.borrow().get(*slot).cloned().flatten());
            value.ok_or_else(|| Fault::raise(ExceptionKind::UnboundLocalError, &**text))
        }
        Name::Global(name) => {
            if let Some(value) = scope.globals.borrow().get(name) {
                return Ok(value.clone());
            }
            library::builtin(name).ok_or_else(|| Fault::raise(ExceptionKind::NameError, &**name))
        }
    }
}

fn bind(name: &Name, value: Value, scope: &Scope) {
    match name {
        Name::Local(up, slot, _) => {
            let mut frame = scope.frame.as_ref();
            for _ in 0..*up {
                frame = frame.and_then(|frame| frame.parent.as_ref());
            }
            if let Some(place) = frame.and_then(|frame| frame.slots.try_borrow_mut().ok()).as_mut()
                && let Some(place) = place.get_mut(*slot)
            {
                *place = Some(value);
            }
        }
        Name::Global(name) => {
            scope.globals.borrow_mut().insert(Arc::clone(name), value);
        }
    }
}
