//! The results of a rule's functions for one event, with the types and limits that Panther applies.

use std::rc::Rc;
use std::sync::Arc;

use super::bounds;
use super::event::{Json, JsonObject};
use super::exception::Fault;
use super::interpreter::Interpreter;
use super::program::Program;
use super::value::{Record, Value};
use super::{EntryPoint, text_format};
use crate::rule::Severity;
use crate::text::item_named;

/// Characters that Panther keeps of a text that a rule makes.
const TEXT_LENGTH: usize = 1_000;
/// The end of a text that Panther cut.
const CUT: &str = "... (truncated)";
/// Bytes that Panther keeps of an alert's context.
const CONTEXT_BYTES: usize = 200 * 1024;

/// A value that a test puts in place of a function of the rule's module.
#[derive(Debug, Clone, PartialEq)]
pub struct Mock {
    /// The function's name.
    pub name: String,
    /// The value that a call of it returns.
    pub value: Json,
}

/// The text of the result of `rule` for an event that matches.
pub const MATCHED: &str = "true";

/// The result of a rule's function for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionResult {
    /// Its text, as Panther uses it.
    Text(String),
    /// No text: the function says so, or Panther takes no text from it.
    Nothing,
    /// The function raises, or returns a value of another type. Panther uses a default.
    Raised(String),
    /// The function does something that this program does not do, or takes too long.
    Stopped(String),
}

/// Evaluates one function of a rule.
pub struct Evaluator {
    program: Arc<Program>,
    entry: EntryPoint,
    /// The modules, if their variables are the same for all events.
    shared: Option<Rc<Interpreter>>,
    mocks: Vec<(Arc<str>, Value)>,
    /// The values within mocks.
    #[expect(dead_code, reason = "it frees the values when it is dropped")]
    kept: bounds::Kept,
}

fn explain(fault: &Fault) -> String {
    match fault {
        Fault::Raised(exception) => {
            let message = text_format::text(&Value::Exception(Rc::new(exception.clone())));
            format!("{}: {message}", exception.kind.name())
        }
        Fault::Exhausted => "it takes too many steps".to_owned(),
        Fault::Refused(what) => format!("{what} is not supported"),
    }
}

fn failed(fault: &Fault) -> FunctionResult {
    match fault {
        Fault::Raised(_) => FunctionResult::Raised(explain(fault)),
        Fault::Exhausted | Fault::Refused(_) => FunctionResult::Stopped(explain(fault)),
    }
}

impl Evaluator {
    /// Prepares the evaluation of `entry`.
    ///
    /// # Errors
    /// The statements of a module raise.
    pub(super) fn new(program: &Arc<Program>, entry: EntryPoint, mocks: &[Mock]) -> Result<Evaluator, String> {
        bounds::release();
        let mocks: Vec<_> =
            mocks.iter().map(|mock| (Arc::from(mock.name.as_str()), Value::thawed(&mock.value))).collect();
        let kept = bounds::keep();
        let interpreter = Interpreter::new(program, &mocks).map_err(|fault| explain(&fault))?;
        let shared = (!program.changes_globals).then(|| {
            interpreter.freeze();
            Rc::new(interpreter)
        });
        Ok(Evaluator { program: Arc::clone(program), entry, shared, mocks, kept })
    }

    /// Evaluates the function for an event, a JSON object.
    pub fn evaluate(&self, event: &Json) -> FunctionResult {
        let Json::Object(object) = event else { return FunctionResult::Nothing };
        let outcome = self.outcome(object);
        bounds::release();
        outcome
    }

    fn outcome(&self, event: &Arc<JsonObject>) -> FunctionResult {
        let event = Value::Record(Record { object: Arc::clone(event), is_event: true });
        let interpreter = match &self.shared {
            Some(shared) => Rc::clone(shared),
            None => match Interpreter::new(&self.program, &self.mocks) {
                Ok(interpreter) => Rc::new(interpreter),
                Err(fault) => return failed(&fault),
            },
        };
        if self.shared.is_none() && self.entry != EntryPoint::Rule {
            // The function may read variables that the rule sets.
            let _ = interpreter.call_entry(EntryPoint::Rule.function(), &event);
        }
        match interpreter.call_entry(self.entry.function(), &event) {
            Ok(value) => self.taken(&value),
            Err(fault) => failed(&fault),
        }
    }

    /// Returns whether the function is the one that decides which events match.
    pub fn decides_matches(&self) -> bool {
        self.entry == EntryPoint::Rule
    }

    /// What Panther makes of the value.
    fn taken(&self, value: &Value) -> FunctionResult {
        let wrong_type =
            || FunctionResult::Raised(format!("{}() returns {}", self.entry.function(), value.type_name()));
        match (self.entry, value) {
            (EntryPoint::Rule, Value::Bool(true)) => FunctionResult::Text(MATCHED.to_owned()),
            (EntryPoint::Rule, Value::Bool(false)) => FunctionResult::Nothing,
            (EntryPoint::Context, Value::Dict(_) | Value::Record(_)) => match text_format::json(value) {
                Ok(json) if json.len() <= CONTEXT_BYTES => FunctionResult::Text(json),
                Ok(_) => FunctionResult::Raised(format!("the context has more than {CONTEXT_BYTES} bytes")),
                Err(fault) => failed(&fault),
            },
            (EntryPoint::Rule | EntryPoint::Context, _) => wrong_type(),
            (EntryPoint::Severity, Value::Text(text)) => match item_named(text, &Severity::ALL) {
                Some(severity) => FunctionResult::Text(severity.to_string()),
                None if text.eq_ignore_ascii_case("default") => FunctionResult::Nothing,
                None => FunctionResult::Raised(format!("`{text}` is not a severity")),
            },
            (EntryPoint::Dedup, Value::Text(text)) if text.is_empty() => FunctionResult::Nothing,
            (_, Value::Text(text)) => FunctionResult::Text(cut(text)),
            _ => wrong_type(),
        }
    }
}

/// Returns a text as Panther cuts it.
fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_LENGTH) {
        None => text.to_owned(),
        Some(_) => text.chars().take(TEXT_LENGTH - CUT.chars().count()).chain(CUT.chars()).collect(),
    }
}
