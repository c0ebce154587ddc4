//! Panther's rules in Python: their logic is read as a typed tree and evaluated here. Nothing of it is executed.
//!
//! The YAML file of a rule names its Python file as `Filename`. The functions there take the event. Imported modules are
//! Panther's helpers, which this program implements, or files of the user.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::Predicate;
use crate::event::TOP_LEVEL;

mod bounds;
mod call_check;
mod check;
mod columns;
mod evaluate;
pub mod event;
mod exception;
mod format_spec;
mod interpreter;
mod iterators;
mod library;
mod lower;
mod methods;
mod modules;
mod operators;
mod percent;
mod program;
mod signatures;
mod source;
mod symbols;
mod text_format;
mod text_methods;
pub mod translate;
mod tree;
mod udm;
mod unicode;
mod value;

pub use evaluate::{Evaluator, FunctionResult, MATCHED, Mock};
pub use modules::ModuleFiles;
use program::{ModuleSource, Program, Refused};

/// A function of a rule that Panther calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum EntryPoint {
    Rule,
    Title,
    Dedup,
    Severity,
    Unique,
    Context,
    Description,
    Runbook,
    Reference,
}

impl EntryPoint {
    /// All functions.
    pub const ALL: [EntryPoint; 9] = [
        EntryPoint::Rule,
        EntryPoint::Title,
        EntryPoint::Dedup,
        EntryPoint::Severity,
        EntryPoint::Unique,
        EntryPoint::Context,
        EntryPoint::Description,
        EntryPoint::Runbook,
        EntryPoint::Reference,
    ];

    /// Returns its name in Python.
    pub fn function(self) -> &'static str {
        match self {
            EntryPoint::Rule => "rule",
            EntryPoint::Title => "title",
            EntryPoint::Dedup => "dedup",
            EntryPoint::Severity => "severity",
            EntryPoint::Unique => "unique",
            EntryPoint::Context => "alert_context",
            EntryPoint::Description => "description",
            EntryPoint::Runbook => "runbook",
            EntryPoint::Reference => "reference",
        }
    }

    /// Returns the function with this name in Python.
    pub fn named(name: &str) -> Option<EntryPoint> {
        EntryPoint::ALL.into_iter().find(|entry| entry.function() == name)
    }
}

/// The value that a function of a rule gives for an event, as text.
#[derive(Debug, Clone)]
pub struct PythonFunction {
    /// The function.
    pub entry: EntryPoint,
    /// The code that it can reach, as JSON: the name and the text of each module.
    pub text: Arc<str>,
    /// The text where the function gives none.
    pub default: Option<String>,
    /// The columns of records that it reads.
    pub columns: Vec<&'static str>,
    /// A condition that every match of the rule satisfies. Elsewhere the value has no meaning.
    pub guard: Option<Box<Predicate>>,
    /// Whether the value is [`MATCHED`] for events for which the function cannot be evaluated, and none for others.
    pub asks_if_undecided: bool,
    program: Arc<Program>,
}

impl PartialEq for PythonFunction {
    fn eq(&self, other: &PythonFunction) -> bool {
        self.entry == other.entry
            && self.text == other.text
            && self.default == other.default
            && self.guard == other.guard
            && self.asks_if_undecided == other.asks_if_undecided
    }
}

impl Eq for PythonFunction {}

/// A reason why a rule in Python cannot run, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonError {
    /// The file.
    pub file: String,
    /// The line, from 1. 0 if the whole file is meant.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The reason.
    pub message: String,
}

impl From<Refused> for PythonError {
    fn from(refused: Refused) -> PythonError {
        let Refused { file, place, what } = refused;
        PythonError { file, line: place.line, column: place.column, message: what }
    }
}

/// The Python of a rule.
#[derive(Debug)]
pub struct PythonModule<'f> {
    source: ModuleSource,
    files: &'f ModuleFiles,
    functions: BTreeSet<EntryPoint>,
}

impl<'f> PythonModule<'f> {
    /// Reads the Python file of a rule.
    ///
    /// # Errors
    /// It is not Python, or has no `rule`.
    pub fn read(file: &str, text: &str, files: &'f ModuleFiles) -> Result<PythonModule<'f>, PythonError> {
        let wrong = |(place, message): (source::Place, String)| PythonError {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            message,
        };
        let statements = source::parse(text).map_err(wrong)?;
        let (mut names, mut globals) = (Vec::new(), Vec::new());
        lower::bound_names(&statements, &mut names, &mut globals);
        let functions: BTreeSet<EntryPoint> = names.iter().filter_map(|name| EntryPoint::named(name)).collect();
        if !functions.contains(&EntryPoint::Rule) {
            return Err(wrong((source::Place::default(), "there is no function `rule`".to_owned())));
        }
        let source = ModuleSource { name: "".into(), file: file.to_owned(), text: text.to_owned() };
        Ok(PythonModule { source, files, functions })
    }

    /// Returns whether the rule has a function.
    pub fn has(&self, entry: EntryPoint) -> bool {
        self.functions.contains(&entry)
    }

    /// Reads what a function can reach.
    ///
    /// # Errors
    /// Some of it is outside of what rules may have.
    pub fn function(&self, entry: EntryPoint) -> Result<PythonFunction, PythonError> {
        let folder = Path::new(&self.source.file).parent().unwrap_or(Path::new(""));
        let modules = self.files.seen_from(folder);
        PythonFunction::read(entry, |entries| Program::read(&self.source, entries, &modules))
    }
}

impl PythonFunction {
    /// Reads the function `entry`. `read` reads the program of several functions.
    fn read(
        entry: EntryPoint,
        read: impl Fn(&[&str]) -> Result<Program, Refused>,
    ) -> Result<PythonFunction, PythonError> {
        let mut program = read(&[entry.function()])?;
        // Other functions may read variables that the rule sets.
        if entry != EntryPoint::Rule
            && let Ok(with_rule) = read(&[EntryPoint::Rule.function(), entry.function()])
            && with_rule.changes_globals
        {
            program = with_rule;
        }
        PythonFunction::new(entry, program)
    }

    /// Returns the notices on the code of the function.
    pub fn notices(&self) -> Vec<&'static str> {
        self.program.notices.iter().copied().collect()
    }

    fn new(entry: EntryPoint, program: Program) -> Result<PythonFunction, PythonError> {
        let entries: &[&str] = if program.changes_globals {
            &[EntryPoint::Rule.function(), entry.function()]
        } else {
            &[entry.function()]
        };
        let entries = if entry == EntryPoint::Rule { &[EntryPoint::Rule.function()] } else { entries };
        let columns = columns_of(columns::fields(&program, entries).as_ref());
        let program = Arc::new(program);
        let function = PythonFunction {
            entry,
            text: program.text.as_str().into(),
            default: None,
            columns,
            guard: None,
            asks_if_undecided: false,
            program,
        };
        function.evaluator(&[]).map_err(|message| PythonError {
            file: String::new(),
            line: 0,
            column: 0,
            message: format!("its module does not load: {message}"),
        })?;
        Ok(function)
    }

    /// Reads a function from the text of its code.
    ///
    /// # Errors
    /// It is not such a text.
    pub fn of_text(entry: EntryPoint, text: &str) -> Result<PythonFunction, PythonError> {
        PythonFunction::read(entry, |entries| Program::of_text(text, entries))
    }

    /// Returns the function with a text for events where it gives none.
    #[must_use]
    pub fn with_default(self, default: Option<String>) -> PythonFunction {
        PythonFunction { default, ..self }
    }

    /// Returns the function with a condition that every match of the rule satisfies.
    #[must_use]
    pub fn with_guard(self, guard: Predicate) -> PythonFunction {
        PythonFunction { guard: Some(Box::new(guard)), ..self }
    }

    /// Returns the question whether the function cannot be evaluated for an event.
    #[must_use]
    pub fn asking_if_undecided(self) -> PythonFunction {
        PythonFunction { asks_if_undecided: true, ..self }
    }

    /// Returns the name of the function, with a `?` for the question whether it cannot be evaluated.
    pub fn name(&self) -> String {
        format!("{}{}", self.entry.function(), if self.asks_if_undecided { "?" } else { "" })
    }

    /// Returns the columns that data must have for the function to give what it means.
    pub fn deciding_columns(&self) -> impl Iterator<Item = &'static str> {
        let optional = [crate::event::EVENT_TIME_TEXT, crate::event::OTHER_FIELDS];
        self.columns.iter().copied().filter(move |column| !optional.contains(column))
    }

    /// Prepares the evaluation for events, with values of a test in place of functions.
    ///
    /// # Errors
    /// The statements of a module raise.
    pub fn evaluator(&self, mocks: &[Mock]) -> Result<Evaluator, String> {
        Evaluator::new(&self.program, self.entry, mocks)
    }
}

/// The columns that hold these top-level fields, or all.
fn columns_of(fields: Option<&BTreeSet<String>>) -> Vec<&'static str> {
    let all = TOP_LEVEL.iter().map(|(name, _)| *name);
    let known = |field: &str| TOP_LEVEL.iter().any(|(name, _)| name.eq_ignore_ascii_case(field));
    let is_time = |field: &str| {
        field.eq_ignore_ascii_case(crate::event::EVENT_TIME) || field.eq_ignore_ascii_case("p_event_time")
    };
    let has = |name: &str| fields.is_none_or(|fields| fields.iter().any(|field| field.eq_ignore_ascii_case(name)));
    let mut columns: Vec<&'static str> = all.filter(|name| has(name)).collect();
    if fields.is_none_or(|fields| fields.iter().any(|field| is_time(field))) {
        columns.extend([crate::event::EVENT_TIME, crate::event::EVENT_TIME_TEXT]);
    }
    if fields.is_none_or(|fields| fields.iter().any(|field| !known(field) && !is_time(field))) {
        columns.push(crate::event::OTHER_FIELDS);
    }
    columns
}

/// Functions that a thread remembers by their text.
const REMEMBERED: usize = 2_048;

/// Returns the evaluator of a function whose code is `text`. A thread reads each text once.
///
/// # Errors
/// It is not the text of a function.
pub fn evaluator_of_text(entry: EntryPoint, text: &str) -> Result<Rc<Evaluator>, String> {
    type Known = HashMap<(EntryPoint, Box<str>), Rc<Evaluator>>;
    thread_local! {
        static KNOWN: RefCell<Known> = RefCell::default();
    }
    let key = (entry, Box::from(text));
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).map(Rc::clone)) {
        return Ok(known);
    }
    let function = PythonFunction::of_text(entry, text).map_err(|error| error.message)?;
    let evaluator = Rc::new(function.evaluator(&[])?);
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, Rc::clone(&evaluator));
    });
    Ok(evaluator)
}
