//! Python's iterators: generators, and what `iter`, `map`, `filter`, `zip`, `enumerate` and `reversed` give. They make
//! each element when it is taken, and only once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::bounds;
use super::exception::{Fault, Outcome};
use super::interpreter::{Arguments, Interpreter, Scope};
use super::tree::{Comprehension, Expr};
use super::value::{Frame, Value};

/// A generator expression with the variables around it.
pub(super) struct Generator {
    pub(super) comprehension: Arc<Comprehension>,
    pub(super) element: Arc<Expr>,
    pub(super) frame: Option<Rc<Frame>>,
    pub(super) module: Arc<str>,
    /// The first iterable, which Python evaluates at once.
    pub(super) first: Value,
    pub(super) state: RefCell<GeneratorState>,
    /// Whether events share it, so that none may take from it.
    pub(super) is_shared: Cell<bool>,
}

/// How far a generator has run.
#[derive(Default)]
pub(super) enum GeneratorState {
    #[default]
    New,
    /// Its variables, and the iterator of each loop that runs.
    Waiting(Rc<Frame>, Vec<Value>),
    /// It ended, or it is running.
    Done,
}

/// Another iterator.
pub(super) struct LazyIterator {
    kind: IteratorKind,
    /// A list or tuple, or the iterators that it takes from.
    sources: Vec<Value>,
    position: Cell<i128>,
    is_done: Cell<bool>,
    pub(super) is_shared: Cell<bool>,
}

enum IteratorKind {
    Items,
    Map(Value),
    Filter(Value),
    Zip,
    Enumerate,
}

impl LazyIterator {
    fn value(kind: IteratorKind, sources: Vec<Value>, position: i128) -> Value {
        bounds::register(Value::Iterator(Rc::new(LazyIterator {
            kind,
            sources,
            position: Cell::new(position),
            is_done: Cell::new(false),
            is_shared: Cell::new(false),
        })))
    }

    fn advance(&self) -> i128 {
        let position = self.position.get();
        self.position.set(position.saturating_add(1));
        position
    }

    /// Returns the name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self.kind {
            IteratorKind::Items => "iterator",
            IteratorKind::Map(_) => "map",
            IteratorKind::Filter(_) => "filter",
            IteratorKind::Zip => "zip",
            IteratorKind::Enumerate => "enumerate",
        }
    }
}

/// Returns whether Python reverses a value of this type.
fn is_reversible(value: &Value) -> bool {
    matches!(
        value,
        Value::List(_) | Value::Tuple(_) | Value::FrozenList(_) | Value::Dict(_) | Value::Text(_) | Value::Bytes(_)
    )
}

impl Interpreter {
    /// Returns an iterator over a value: the value itself if it is one.
    pub(super) fn iterator(&self, value: &Value) -> Outcome<Value> {
        match value {
            Value::Generator(_) | Value::Iterator(_) => Ok(value.clone()),
            Value::List(_) | Value::Tuple(_) | Value::FrozenList(_) => {
                Ok(LazyIterator::value(IteratorKind::Items, vec![value.clone()], 0))
            }
            other => {
                let items = Value::tuple(self.collect(other)?);
                Ok(LazyIterator::value(IteratorKind::Items, vec![items], 0))
            }
        }
    }

    /// Calls one of the builtins that give an iterator.
    pub(super) fn new_iterator(&self, name: &str, arguments: &Arguments) -> Outcome<Value> {
        let iterators = |values: &[Value]| values.iter().map(|value| self.iterator(value)).collect::<Outcome<Vec<_>>>();
        let positional = arguments.positional.as_slice();
        match (name, positional) {
            ("map", [function, sources @ ..]) => {
                Ok(LazyIterator::value(IteratorKind::Map(function.clone()), iterators(sources)?, 0))
            }
            ("filter", [function, sources @ ..]) => {
                Ok(LazyIterator::value(IteratorKind::Filter(function.clone()), iterators(sources)?, 0))
            }
            ("zip", sources) => Ok(LazyIterator::value(IteratorKind::Zip, iterators(sources)?, 0)),
            ("enumerate", [source, ..]) => {
                let start = match arguments.get(1, "start") {
                    None => 0,
                    Some(start) => start.as_int().ok_or_else(|| {
                        let kind = start.type_name();
                        Fault::type_error(format!("'{kind}' object cannot be interpreted as an integer"))
                    })?,
                };
                Ok(LazyIterator::value(IteratorKind::Enumerate, vec![self.iterator(source)?], start))
            }
            ("reversed", [source, ..]) => {
                if !is_reversible(source) {
                    return Err(Fault::type_error(format!("'{}' object is not reversible", source.type_name())));
                }
                let mut items = self.collect(source)?;
                items.reverse();
                Ok(LazyIterator::value(IteratorKind::Items, vec![Value::tuple(items)], 0))
            }
            _ => self.iterator(arguments.required(0, "object")?),
        }
    }

    /// Takes the next element of an iterator. `None` at its end.
    pub(super) fn next_item(&self, iterator: &Value) -> Outcome<Option<Value>> {
        if let Value::Iterator(lazy) = iterator
            && matches!(lazy.kind, IteratorKind::Items)
            && !lazy.is_shared.get()
        {
            return self.next_of_items(lazy);
        }
        self.deeper(|| match iterator {
            Value::Generator(generator) => self.next_of_generator(generator),
            Value::Iterator(lazy) if lazy.is_shared.get() => Err(shared()),
            Value::Iterator(lazy) if lazy.is_done.get() => Ok(None),
            Value::Iterator(lazy) => {
                let next = self.next_of_iterator(lazy);
                if matches!(next, Ok(None)) {
                    lazy.is_done.set(true);
                }
                next
            }
            other => Err(Fault::type_error(format!("'{}' object is not an iterator", other.type_name()))),
        })
    }

    fn next_of_items(&self, lazy: &LazyIterator) -> Outcome<Option<Value>> {
        self.charge(0)?;
        let index = if lazy.is_done.get() { None } else { usize::try_from(lazy.advance()).ok() };
        let item = match (index, lazy.sources.first()) {
            (Some(index), Some(Value::List(list))) => list.items.borrow().get(index).cloned(),
            (Some(index), Some(Value::Tuple(items))) => items.get(index).cloned(),
            (Some(index), Some(Value::FrozenList(items))) => items.get(index).map(Value::frozen),
            _ => None,
        };
        lazy.is_done.set(item.is_none());
        Ok(item)
    }

    fn next_of_iterator(&self, lazy: &LazyIterator) -> Outcome<Option<Value>> {
        let Some(source) = lazy.sources.first() else { return Ok(None) };
        match &lazy.kind {
            IteratorKind::Items => self.next_of_items(lazy),
            IteratorKind::Map(function) => match self.next_of_all(&lazy.sources)? {
                Some(row) => self.call(function, Arguments::of(row)).map(Some),
                None => Ok(None),
            },
            IteratorKind::Filter(function) => {
                while let Some(item) = self.next_item(source)? {
                    self.charge(1)?;
                    let is_taken = match function {
                        Value::None => item.is_true(),
                        function => self.call(function, Arguments::of(vec![item.clone()]))?.is_true(),
                    };
                    if is_taken {
                        return Ok(Some(item));
                    }
                }
                Ok(None)
            }
            IteratorKind::Zip => Ok(self.next_of_all(&lazy.sources)?.map(Value::tuple)),
            IteratorKind::Enumerate => {
                let item = self.next_item(source)?;
                Ok(item.map(|item| Value::tuple(vec![Value::Int(lazy.advance()), item])))
            }
        }
    }

    fn next_of_all(&self, sources: &[Value]) -> Outcome<Option<Vec<Value>>> {
        let mut row = Vec::with_capacity(sources.len());
        for source in sources {
            match self.next_item(source)? {
                Some(item) => row.push(item),
                None => return Ok(None),
            }
        }
        Ok(Some(row))
    }

    fn next_of_generator(&self, generator: &Generator) -> Outcome<Option<Value>> {
        if generator.is_shared.get() {
            return Err(shared());
        }
        let (frame, mut running) = match generator.state.replace(GeneratorState::Done) {
            GeneratorState::New => {
                let slots = RefCell::new(vec![None; generator.comprehension.locals]);
                let frame = Rc::new(Frame { slots, parent: generator.frame.clone() });
                bounds::register_frame(&frame);
                (frame, vec![self.iterator(&generator.first)?])
            }
            GeneratorState::Waiting(frame, running) => (frame, running),
            GeneratorState::Done => return Ok(None),
        };
        let scope = self.scope_of(Rc::clone(&frame), &generator.module)?;
        let loops = &generator.comprehension.loops;
        while let Some(source) = running.last() {
            let Some(each) = loops.get(running.len() - 1) else { return Ok(None) };
            let Some(item) = self.next_item(source)? else {
                running.pop();
                continue;
            };
            self.assign(&each.target, item, &scope)?;
            if !self.all_hold(&each.conditions, &scope)? {
                continue;
            }
            if let Some(inner) = loops.get(running.len()) {
                let inner = self.eval(&inner.over, &scope)?;
                running.push(self.iterator(&inner)?);
                continue;
            }
            let element = self.eval(&generator.element, &scope)?;
            *generator.state.borrow_mut() = GeneratorState::Waiting(frame, running);
            return Ok(Some(element));
        }
        Ok(None)
    }

    fn all_hold(&self, conditions: &[Expr], scope: &Scope) -> Outcome<bool> {
        for condition in conditions {
            if !self.eval(condition, scope)?.is_true() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Events would see what others took.
fn shared() -> Fault {
    Fault::Refused("an iterator of the module".to_owned())
}
