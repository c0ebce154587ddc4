//! Keeps values from taking the stack: rules can nest lists without end, or put a list into itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::value::{Frame, Value};

/// How deep a value may nest where it is compared or printed.
const NESTING: u32 = 150;

/// How many values one evaluation may compare or print.
const VISITS: u32 = 300_000;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static VISITED: Cell<u32> = const { Cell::new(0) };
    static VALUES: RefCell<Vec<Value>> = const { RefCell::new(Vec::new()) };
    static FRAMES: RefCell<Vec<Rc<Frame>>> = const { RefCell::new(Vec::new()) };
}

/// Begins an evaluation.
pub(super) fn begin() {
    DEPTH.set(0);
    VISITED.set(0);
}

/// Returns whether the evaluation went beyond the bounds.
pub(super) fn are_exceeded() -> bool {
    VISITED.get() > VISITS
}

/// Looks into a value. Returns `otherwise` beyond the bounds.
pub(super) fn nested<T>(otherwise: T, inner: impl FnOnce() -> T) -> T {
    let (depth, visited) = (DEPTH.get(), VISITED.get());
    if visited > VISITS {
        return otherwise;
    }
    if depth >= NESTING {
        VISITED.set(VISITS + 1);
        return otherwise;
    }
    VISITED.set(visited + 1);
    DEPTH.set(depth + 1);
    let result = inner();
    DEPTH.set(depth);
    result
}

/// Remembers a value that holds others, so that [`release`] frees it without recursion.
pub(super) fn register(value: Value) -> Value {
    VALUES.with_borrow_mut(|values| values.push(value.clone()));
    value
}

/// Remembers the variables around a function.
pub(super) fn register_frame(frame: &Rc<Frame>) {
    FRAMES.with_borrow_mut(|frames| frames.push(Rc::clone(frame)));
}

/// Values that live on, and the variables that they use.
#[derive(Default)]
pub(super) struct Kept {
    values: Vec<Value>,
    frames: Vec<Rc<Frame>>,
}

/// Takes the values that were registered since the last call.
pub(super) fn keep() -> Kept {
    Kept { values: VALUES.take(), frames: FRAMES.take() }
}

/// Frees the values that were registered since the last call.
pub(super) fn release() {
    drop(keep());
}

impl Drop for Kept {
    fn drop(&mut self) {
        // First what can point to newer values, then from the newest: no value is the last to hold another.
        let mut held = Vec::new();
        for frame in &self.frames {
            if let Ok(mut slots) = frame.slots.try_borrow_mut() {
                held.append(&mut slots);
            }
        }
        let mut contents = Vec::new();
        for value in &self.values {
            match value {
                Value::List(list) => contents.append(&mut list.items.take()),
                Value::Set(set) => contents.append(&mut set.items.take()),
                Value::Dict(dict) => {
                    contents.extend(dict.entries.take().into_iter().flat_map(|(key, value)| [key, value]));
                }
                _ => {}
            }
        }
        drop(held);
        drop(contents);
        while let Some(value) = self.values.pop() {
            drop(value);
        }
    }
}
