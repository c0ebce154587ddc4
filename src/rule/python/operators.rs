//! Operators, comparisons, indexes and slices.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::exception::{ExceptionKind, Fault, Outcome};
use super::interpreter::Interpreter;
use super::tree::{Comparison, Operator};
use super::value::{DateTime, Value};

/// Returns whether a comparison holds.
pub(super) fn holds(interpreter: &Interpreter, comparison: Comparison, left: &Value, right: &Value) -> Outcome<bool> {
    let ordered = |wanted: fn(Ordering) -> bool| Ok(left.compare(right)?.is_some_and(wanted));
    match comparison {
        Comparison::Equal => equal(interpreter, left, right),
        Comparison::NotEqual => Ok(!equal(interpreter, left, right)?),
        Comparison::Is => Ok(left.is_same(right)),
        Comparison::IsNot => Ok(!left.is_same(right)),
        Comparison::In => contains(interpreter, right, left),
        Comparison::NotIn => Ok(!contains(interpreter, right, left)?),
        Comparison::Less if both_sets(left, right) => Ok(subset(left, right) && !subset(right, left)),
        Comparison::LessOrEqual if both_sets(left, right) => Ok(subset(left, right)),
        Comparison::Greater if both_sets(left, right) => Ok(subset(right, left) && !subset(left, right)),
        Comparison::GreaterOrEqual if both_sets(left, right) => Ok(subset(right, left)),
        Comparison::Less => ordered(Ordering::is_lt),
        Comparison::LessOrEqual => ordered(Ordering::is_le),
        Comparison::Greater => ordered(Ordering::is_gt),
        Comparison::GreaterOrEqual => ordered(Ordering::is_ge),
    }
}

fn equal(interpreter: &Interpreter, left: &Value, right: &Value) -> Outcome<bool> {
    let size =
        |value: &Value| value.items().map_or(0, |items| items.len()) + value.dict_entries().map_or(0, |all| all.len());
    let (of_left, of_right) = (size(left), size(right));
    interpreter.charge((of_left + of_right) / 32 + of_left.saturating_mul(of_right) / 64)?;
    Ok(left.equals(right))
}

fn both_sets(left: &Value, right: &Value) -> bool {
    matches!((left, right), (Value::Set(_), Value::Set(_)))
}

fn subset(left: &Value, right: &Value) -> bool {
    let (Value::Set(left), Value::Set(right)) = (left, right) else { return false };
    let right = right.items.borrow();
    left.items.borrow().iter().all(|item| right.iter().any(|other| other.equals(item)))
}

/// Returns whether `item` is in `container`.
pub(super) fn contains(interpreter: &Interpreter, container: &Value, item: &Value) -> Outcome<bool> {
    match container {
        Value::Text(text) => match item {
            Value::Text(part) => Ok(text.contains(&**part)),
            other => Err(Fault::type_error(format!(
                "'in <string>' requires string as left operand, not {}",
                other.type_name()
            ))),
        },
        Value::Set(set) => {
            interpreter.charge(set.items.borrow().len() / 32)?;
            set.contains(item)
        }
        Value::Dict(dict) => {
            interpreter.charge(dict.entries.borrow().len() / 32)?;
            Ok(dict.get(item)?.is_some())
        }
        Value::Record(record) => {
            interpreter.charge(record.object.members.len() / 32)?;
            Ok(record.get(item)?.is_some())
        }
        Value::Network(network) => match item {
            Value::Address(address) => Ok(network.contains(address)),
            other => Err(Fault::no_attribute(other, "_version")),
        },
        Value::List(_) | Value::Tuple(_) | Value::FrozenList(_) | Value::Generator(_) | Value::Iterator(_) => {
            let mut found = false;
            interpreter.iterate(container, &mut |known| {
                found = known.is_same(item) || known.equals(item);
                Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(found)
        }
        other => Err(Fault::type_error(format!("argument of type '{}' is not iterable", other.type_name()))),
    }
}

/// Returns whether `except` with this class, or these, catches an exception.
pub(super) fn catches(classes: &Value, kind: ExceptionKind) -> Outcome<bool> {
    match classes {
        Value::ExceptionType(class) => Ok(kind.is(*class)),
        Value::Tuple(classes) => {
            for class in classes.iter() {
                if catches(class, kind)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(Fault::type_error("catching classes that do not inherit from BaseException is not allowed")),
    }
}

/// Makes a set.
pub(super) fn new_set(interpreter: &Interpreter, items: Vec<Value>) -> Outcome<Value> {
    let set = Value::set(Vec::new());
    if let Value::Set(set) = &set {
        for item in items {
            interpreter.charge(set.items.borrow().len() / 32)?;
            set.insert(item)?;
        }
    }
    Ok(set)
}

pub(super) fn negative(operand: &Value) -> Outcome<Value> {
    match operand {
        Value::Float(value) => Ok(Value::Float(-value)),
        Value::TimeDelta(micros) => Ok(Value::TimeDelta(-micros)),
        other => match other.as_int() {
            Some(value) => value.checked_neg().map(Value::Int).ok_or(Fault::Exhausted),
            None => Err(Fault::type_error(format!("bad operand type for unary -: '{}'", other.type_name()))),
        },
    }
}

pub(super) fn positive(operand: &Value) -> Outcome<Value> {
    match operand {
        Value::Float(value) => Ok(Value::Float(*value)),
        other => match other.as_int() {
            Some(value) => Ok(Value::Int(value)),
            None => Err(Fault::type_error(format!("bad operand type for unary +: '{}'", other.type_name()))),
        },
    }
}

/// `left OP= right`. Lists, sets and dictionaries change in place, as in Python.
pub(super) fn update(interpreter: &Interpreter, operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    match (operator, left) {
        (Operator::Add, Value::List(list)) => {
            let items = interpreter.collect(right)?;
            list.check_free()?;
            list.items.borrow_mut().extend(items);
            Ok(left.clone())
        }
        (Operator::Or, Value::Dict(_)) => {
            super::methods::add_entries(interpreter, left, right)?;
            Ok(left.clone())
        }
        (Operator::Or, Value::Set(set)) if matches!(right, Value::Set(_)) => {
            for item in interpreter.collect(right)? {
                interpreter.charge(set.items.borrow().len() / 32)?;
                set.insert(item)?;
            }
            Ok(left.clone())
        }
        _ => binary(interpreter, operator, left, right),
    }
}

fn unsupported(operator: Operator, left: &Value, right: &Value) -> Fault {
    let sign = match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::FloorDivide => "//",
        Operator::Modulo => "%",
        Operator::Power => "** or pow()",
        Operator::Or => "|",
        Operator::And => "&",
        Operator::Xor => "^",
        Operator::ShiftLeft => "<<",
        Operator::ShiftRight => ">>",
    };
    let (left, right) = (left.type_name(), right.type_name());
    Fault::type_error(format!("unsupported operand type(s) for {sign}: '{left}' and '{right}'"))
}

pub(super) fn binary(interpreter: &Interpreter, operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    match (operator, left, right) {
        (Operator::Add, Value::Text(a), Value::Text(b)) => {
            interpreter.charge((a.len() + b.len()) / 64)?;
            Ok(Value::text(format!("{a}{b}")))
        }
        (Operator::Add, Value::List(a), Value::List(b)) => {
            let all: Vec<Value> = a.items.borrow().iter().chain(b.items.borrow().iter()).cloned().collect();
            interpreter.charge(all.len() / 8)?;
            Ok(Value::list(all))
        }
        (Operator::Add, Value::Tuple(a), Value::Tuple(b)) => {
            interpreter.charge((a.len() + b.len()) / 8)?;
            Ok(Value::tuple(a.iter().chain(b.iter()).cloned().collect()))
        }
        (Operator::Modulo, Value::Text(template), values) => {
            super::percent::percent(interpreter, template, values).map(Value::text)
        }
        (Operator::Multiply, Value::Text(_) | Value::List(_) | Value::Tuple(_), count) => {
            repeated(interpreter, left, count)
        }
        (Operator::Multiply, count, Value::Text(_) | Value::List(_) | Value::Tuple(_)) => {
            repeated(interpreter, right, count)
        }
        (Operator::Or, Value::Dict(_), Value::Dict(_)) => {
            let all = Value::dict(left.dict_entries().unwrap_or_default());
            super::methods::add_entries(interpreter, &all, right)?;
            Ok(all)
        }
        (Operator::Or | Operator::And | Operator::Subtract | Operator::Xor, Value::Set(a), Value::Set(b)) => {
            let (a, b) = (a.items.borrow(), b.items.borrow());
            interpreter.charge(a.len() * b.len() / 32)?;
            let in_b = |item: &&Value| b.iter().any(|other| other.equals(item));
            let in_a = |item: &&Value| a.iter().any(|other| other.equals(item));
            let items: Vec<Value> = match operator {
                Operator::Or => a.iter().chain(b.iter().filter(|item| !in_a(item))).cloned().collect(),
                Operator::And => a.iter().filter(in_b).cloned().collect(),
                Operator::Subtract => a.iter().filter(|item| !in_b(item)).cloned().collect(),
                _ => {
                    let only_b = b.iter().filter(|item| !in_a(item));
                    a.iter().filter(|item| !in_b(item)).chain(only_b).cloned().collect()
                }
            };
            Ok(Value::set(items))
        }
        (Operator::Add, Value::DateTime(time), Value::TimeDelta(micros))
        | (Operator::Add, Value::TimeDelta(micros), Value::DateTime(time)) => moved(*time, *micros),
        (Operator::Subtract, Value::DateTime(time), Value::TimeDelta(micros)) => moved(*time, -micros),
        (Operator::Subtract, Value::DateTime(a), Value::DateTime(b)) if a.has_zone == b.has_zone => {
            Ok(Value::TimeDelta(a.micros - b.micros))
        }
        (Operator::Add, Value::TimeDelta(a), Value::TimeDelta(b)) => Ok(Value::TimeDelta(a + b)),
        (Operator::Subtract, Value::TimeDelta(a), Value::TimeDelta(b)) => Ok(Value::TimeDelta(a - b)),
        _ => number(operator, left, right),
    }
}

fn moved(time: DateTime, micros: i128) -> Outcome<Value> {
    Ok(Value::DateTime(DateTime { micros: time.micros.checked_add(micros).ok_or(Fault::Exhausted)?, ..time }))
}

fn repeated(interpreter: &Interpreter, value: &Value, count: &Value) -> Outcome<Value> {
    let Some(count) = count.as_int() else { return Err(unsupported(Operator::Multiply, value, count)) };
    let count = usize::try_from(count.max(0)).map_err(|_| Fault::Exhausted)?;
    let size = match value {
        Value::Text(text) => text.len() / 64,
        other => other.items().map_or(0, |items| items.len()),
    };
    interpreter.charge(size.saturating_mul(count).saturating_add(count / 64))?;
    Ok(match value {
        Value::Text(text) => Value::text(text.repeat(count)),
        other => {
            let items = other.items().unwrap_or_default();
            let all: Vec<Value> = (0..count).flat_map(|_| items.iter().cloned()).collect();
            if matches!(other, Value::Tuple(_)) { Value::tuple(all) } else { Value::list(all) }
        }
    })
}

fn number(operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    let zero = || Fault::raise(ExceptionKind::ZeroDivisionError, "division by zero");
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        let whole = |value: Option<i128>| value.map(Value::Int).ok_or(Fault::Exhausted);
        let both_flags = matches!((left, right), (Value::Bool(_), Value::Bool(_)));
        let bits = |value: i128| Ok(if both_flags { Value::Bool(value != 0) } else { Value::Int(value) });
        return match operator {
            Operator::Add => whole(a.checked_add(b)),
            Operator::Subtract => whole(a.checked_sub(b)),
            Operator::Multiply => whole(a.checked_mul(b)),
            Operator::FloorDivide | Operator::Modulo | Operator::Divide if b == 0 => Err(zero()),
            Operator::FloorDivide => {
                let quotient = a.checked_div(b).ok_or(Fault::Exhausted)?;
                Ok(Value::Int(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }))
            }
            Operator::Modulo => {
                let rest = a.checked_rem(b).ok_or(Fault::Exhausted)?;
                Ok(Value::Int(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
            }
            Operator::Power if b >= 0 => whole(u32::try_from(b).ok().and_then(|b| a.checked_pow(b))),
            Operator::Or => bits(a | b),
            Operator::And => bits(a & b),
            Operator::Xor => bits(a ^ b),
            Operator::ShiftLeft | Operator::ShiftRight if b < 0 => Err(Fault::value_error("negative shift count")),
            Operator::ShiftLeft => whole(
                u32::try_from(b).ok().and_then(|b| 2_i128.checked_pow(b)).and_then(|factor| a.checked_mul(factor)),
            ),
            Operator::ShiftRight => Ok(Value::Int(a >> b.min(127))),
            Operator::Divide | Operator::Power => float(operator, left, right),
        };
    }
    float(operator, left, right)
}

fn float(operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    let (Some(a), Some(b)) = (left.as_float(), right.as_float()) else {
        return Err(unsupported(operator, left, right));
    };
    let divides = matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo);
    if divides && b == 0.0 {
        return Err(Fault::raise(ExceptionKind::ZeroDivisionError, "float division by zero"));
    }
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => (a / b).floor(),
        Operator::Modulo => a - b * (a / b).floor(),
        Operator::Power => a.powf(b),
        _ => return Err(unsupported(operator, left, right)),
    }))
}

/// The place of an index within `length` elements.
fn place(index: &Value, length: usize, of: &Value) -> Outcome<usize> {
    let Some(index) = index.as_int() else {
        let message = format!("{} indices must be integers or slices, not {}", of.type_name(), index.type_name());
        return Err(Fault::type_error(message));
    };
    let from_start = if index < 0 { index + length as i128 } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|place| *place < length)
        .ok_or_else(|| Fault::raise(ExceptionKind::IndexError, format!("{} index out of range", of.type_name())))
}

/// `base[index]`
pub(super) fn item(interpreter: &Interpreter, base: &Value, index: &Value) -> Outcome<Value> {
    let missing =
        || Fault::Raised(super::exception::Exception { kind: ExceptionKind::KeyError, message: index.clone() });
    match base {
        Value::Dict(dict) => {
            interpreter.charge(dict.entries.borrow().len() / 32)?;
            dict.get(index)?.ok_or_else(missing)
        }
        Value::Record(record) => {
            interpreter.charge(record.object.members.len() / 32)?;
            record.get(index)?.ok_or_else(missing)
        }
        Value::List(list) => {
            let items = list.items.borrow();
            Ok(items[place(index, items.len(), base)?].clone())
        }
        Value::Tuple(items) => Ok(items[place(index, items.len(), base)?].clone()),
        Value::FrozenList(items) => Ok(Value::frozen(&items[place(index, items.len(), base)?])),
        Value::Text(text) => {
            interpreter.charge(text.len() / 64)?;
            let place = place(index, text.chars().count(), base)?;
            Ok(text.chars().nth(place).map_or(Value::None, |c| Value::text(c.to_string())))
        }
        Value::Match(found) => {
            let group = super::library::patterns::group_index(found, index)?;
            Ok(found.groups.get(group).cloned().flatten().map_or(Value::None, Value::Text))
        }
        // `list[str]` in an annotation.
        Value::Builtin(_) => Ok(base.clone()),
        other => Err(Fault::type_error(format!("'{}' object is not subscriptable", other.type_name()))),
    }
}

/// `base[index] = value`
pub(super) fn set_item(interpreter: &Interpreter, base: &Value, index: Value, value: Value) -> Outcome<()> {
    match base {
        Value::Dict(dict) => {
            interpreter.charge(dict.entries.borrow().len() / 32)?;
            dict.insert(index, value)
        }
        Value::List(list) => {
            list.check_free()?;
            let place = place(&index, list.items.borrow().len(), base)?;
            list.items.borrow_mut()[place] = value;
            Ok(())
        }
        other => Err(Fault::type_error(format!("'{}' object does not support item assignment", other.type_name()))),
    }
}

/// `base[from:to:step]`
pub(super) fn slice(interpreter: &Interpreter, base: &Value, bounds: &[Value; 3]) -> Outcome<Value> {
    let items: Vec<Value> = match base {
        Value::Text(text) => {
            let parts: Vec<char> = text.chars().collect();
            interpreter.charge(parts.len() / 32)?;
            let picked: String = picked(parts.len(), bounds)?.into_iter().map(|place| parts[place]).collect();
            return Ok(Value::text(picked));
        }
        Value::List(_) | Value::Tuple(_) | Value::FrozenList(_) => base.items().unwrap_or_default(),
        Value::Record(_) | Value::Dict(_) => return Err(Fault::type_error("unhashable type: 'slice'")),
        other => return Err(Fault::type_error(format!("'{}' object is not subscriptable", other.type_name()))),
    };
    interpreter.charge(items.len() / 8)?;
    let picked = picked(items.len(), bounds)?.into_iter().map(|place| items[place].clone()).collect();
    Ok(match base {
        Value::List(_) => Value::list(picked),
        Value::FrozenList(list) => {
            // Python gives the elements of the tuple within, which are not frozen.
            let places = self::picked(list.len(), bounds)?;
            Value::tuple(places.into_iter().map(|place| Value::thawed(&list[place])).collect())
        }
        _ => Value::tuple(picked),
    })
}

/// The places that a slice picks of `length` elements.
fn picked(length: usize, bounds: &[Value; 3]) -> Outcome<Vec<usize>> {
    let bound = |value: &Value| match value {
        Value::None => Ok(None),
        other => match other.as_int() {
            Some(number) => Ok(Some(number)),
            None => Err(Fault::type_error("slice indices must be integers or None or have an __index__ method")),
        },
    };
    let length = i128::try_from(length).map_err(|_| Fault::Exhausted)?;
    let step = bound(&bounds[2])?.unwrap_or(1);
    if step == 0 {
        return Err(Fault::value_error("slice step cannot be zero"));
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamped = |value: Option<i128>, default: i128| match value {
        None => default,
        Some(value) if value < 0 => (value + length).clamp(low, high),
        Some(value) => value.clamp(low, high),
    };
    let (start, end) = if step > 0 { (low, high) } else { (high, low) };
    let (mut at, end) = (clamped(bound(&bounds[0])?, start), clamped(bound(&bounds[1])?, end));
    let mut places = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        places.push(usize::try_from(at).map_err(|_| Fault::Exhausted)?);
        at = at.saturating_add(step);
    }
    Ok(places)
}
