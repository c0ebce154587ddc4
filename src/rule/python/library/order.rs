//! Python's `sorted`, `min` and `max`.

use std::cmp::Ordering;

use super::super::exception::Outcome;
use super::super::interpreter::{Arguments, Interpreter};
use super::super::value::Value;

fn key_of(interpreter: &Interpreter, item: &Value, arguments: &Arguments) -> Outcome<Value> {
    match arguments.get(usize::MAX, "key") {
        None | Some(Value::None) => Ok(item.clone()),
        Some(key) => interpreter.call(key, Arguments::of(vec![item.clone()])),
    }
}

/// Returns the items in order of `key`, or in reverse.
pub(in super::super) fn sorted(
    interpreter: &Interpreter,
    items: Vec<Value>,
    arguments: &Arguments,
) -> Outcome<Vec<Value>> {
    let reverse = arguments.get(usize::MAX, "reverse").is_some_and(Value::is_true);
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        keyed.push((key_of(interpreter, &item, arguments)?, item));
    }
    interpreter.charge(keyed.len().saturating_mul(usize::try_from(keyed.len().max(1).ilog2()).unwrap_or(1) + 1))?;
    if reverse {
        keyed.reverse();
    }
    let mut sorted = merged(keyed)?;
    if reverse {
        sorted.reverse();
    }
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

/// Sorts by `<` alone, as Python does: values such as NaN have no order, and the sort of Rust may panic.
fn merged(mut items: Vec<(Value, Value)>) -> Outcome<Vec<(Value, Value)>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let second = merged(items.split_off(items.len() / 2))?;
    let first = merged(items)?;
    let mut all = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some((a, _)), Some((b, _))) = (first.peek(), second.peek()) {
        let is_less = b.compare(a)? == Some(Ordering::Less);
        all.extend(if is_less { second.next() } else { first.next() });
    }
    all.extend(first);
    all.extend(second);
    Ok(all)
}

/// Returns the first of the largest or smallest items.
pub(super) fn extreme(
    interpreter: &Interpreter,
    items: Vec<Value>,
    is_max: bool,
    arguments: &Arguments,
) -> Outcome<Value> {
    let wanted = if is_max { Ordering::Greater } else { Ordering::Less };
    let mut best: Option<(Value, Value)> = None;
    for item in items {
        interpreter.charge(1)?;
        let key = key_of(interpreter, &item, arguments)?;
        let is_better = match &best {
            None => true,
            Some((known, _)) => key.compare(known)? == Some(wanted),
        };
        if is_better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::None, |(_, item)| item))
}
