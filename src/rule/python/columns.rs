//! Which top-level fields of the event some functions read.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::check;
use super::library;
use super::program::Program;
use super::tree::{Call, Comparison, Expr, Function, Name, Stmt, Target};

/// Returns the top-level fields that `entries` read of their first argument, the event. `None` if they may read any.
pub(super) fn fields(program: &Program, entries: &[&str]) -> Option<BTreeSet<String>> {
    let mut reading = Reading { program, fields: BTreeSet::new(), all: false, known: HashSet::new() };
    for entry in entries {
        match defined(program, "", entry) {
            Some(Defined::Function(function)) => reading.function(function, &[0]),
            _ => reading.all = true,
        }
    }
    (!reading.all).then_some(reading.fields)
}

/// The kind of a module's variable.
pub(super) enum Defined<'p> {
    Function(&'p Arc<Function>),
    /// A member of a module of this program.
    Library(String, String),
    Module(&'p Arc<str>),
}

/// Returns what a variable of a module is, if it is bound once to a function or by an import.
pub(super) fn defined<'p>(program: &'p Program, module: &str, name: &str) -> Option<Defined<'p>> {
    let is_it = |target: &Target| matches!(target, Target::Name(Name::Global(known)) if **known == *name);
    let mut found = None;
    for statement in program.statements(module) {
        let this = match statement {
            Stmt::Define(target, function) if is_it(target) => Defined::Function(function),
            Stmt::Import(target, from, None) if is_it(target) => Defined::Module(from),
            Stmt::Import(target, from, Some(member)) if is_it(target) => {
                if library::member(from, member).is_some() {
                    Defined::Library(from.to_string(), member.to_string())
                } else if from.as_ref() == module {
                    return None;
                } else {
                    defined(program, from, member)?
                }
            }
            Stmt::Assign(targets, _) if targets.iter().any(is_it) => return None,
            _ => continue,
        };
        if found.is_some() {
            return None;
        }
        found = Some(this);
    }
    found
}

struct Reading<'p> {
    program: &'p Program,
    fields: BTreeSet<String>,
    all: bool,
    known: HashSet<(*const Function, Vec<usize>)>,
}

/// Code of a function, some of whose variables are the event.
#[derive(Clone, Copy)]
struct Place<'p> {
    function: &'p Function,
    events: &'p [usize],
    /// How many frames the code is below the function's.
    depth: usize,
}

impl Reading<'_> {
    fn function(&mut self, function: &Arc<Function>, events: &[usize]) {
        if self.all || !self.known.insert((Arc::as_ptr(function), events.to_vec())) {
            return;
        }
        let place = Place { function, events, depth: 0 };
        self.statements(&function.body, place);
    }

    fn statements(&mut self, statements: &[Stmt], place: Place<'_>) {
        // A variable that is bound again may be the event no more, and another may become it.
        let mut uses = false;
        check::visit_own(statements, &mut |expr| self.expr(expr, place), &mut |function| {
            check::visit_statements(&function.body, &mut |expr| uses |= is_local_above(expr, place));
        });
        self.all |= uses;
    }

    fn is_event(expr: &Expr, place: Place<'_>) -> bool {
        matches!(expr, Expr::Name(Name::Local(up, slot, _)) if *up == place.depth && place.events.contains(slot))
    }

    fn key(&mut self, key: Option<&Expr>) {
        match key {
            Some(Expr::Text(key)) => {
                self.fields.insert(key.to_string());
            }
            _ => self.all = true,
        }
    }

    fn expr(&mut self, expr: &Expr, place: Place<'_>) {
        if self.all {
            return;
        }
        match expr {
            other if Self::is_event(other, place) => self.all = true,
            Expr::Item(base, key) if Self::is_event(base, place) => self.key(Some(key)),
            Expr::Compare(left, rights) => {
                self.expr(left, place);
                for (comparison, right) in rights {
                    if Self::is_event(right, place) && matches!(comparison, Comparison::In | Comparison::NotIn) {
                        self.key(Some(left).map(|left| &**left));
                    } else {
                        self.expr(right, place);
                    }
                }
            }
            Expr::Call(call) => self.call(call, place),
            Expr::Lambda(function) => {
                let mut uses = false;
                check::visit_statements(&function.body, &mut |expr| uses |= is_local_above(expr, place));
                self.all |= uses;
            }
            other => check::children(other, &mut |child, own_frame| {
                self.expr(child, Place { depth: place.depth + usize::from(own_frame), ..place });
            }),
        }
    }

    fn call(&mut self, call: &Call, place: Place<'_>) {
        let others = |this: &mut Self, skipped: usize| {
            call.arguments.iter().skip(skipped).for_each(|argument| this.expr(argument, place));
            call.named.iter().for_each(|(_, argument)| this.expr(argument, place));
        };
        if let Expr::Attribute(base, method) = &call.callee
            && Self::is_event(base, place)
        {
            match &**method {
                "get" | "deep_get" | "deep_walk" => self.key(call.arguments.first()),
                "udm" => self.model_field(call.arguments.first()),
                "udm_path" | "lookup" => {}
                "event_time_epoch" => drop(self.fields.insert("p_event_time".to_owned())),
                _ => self.all = true,
            }
            return others(self, 1);
        }
        let passes_event = call.arguments.iter().any(|argument| Self::is_event(argument, place))
            || call.named.iter().any(|(_, argument)| Self::is_event(argument, place));
        if !passes_event {
            self.expr(&call.callee, place);
            return others(self, 0);
        }
        let callee = match &call.callee {
            Expr::Name(Name::Global(name)) => defined(self.program, &place.function.module, name),
            Expr::Attribute(base, member) => match &**base {
                Expr::Name(Name::Global(name)) => match defined(self.program, &place.function.module, name) {
                    Some(Defined::Module(module)) => match library::member(module, member) {
                        Some(_) => Some(Defined::Library(module.to_string(), member.to_string())),
                        None => defined(self.program, module, member),
                    },
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        match callee {
            Some(Defined::Function(function)) => {
                let mut events = Vec::new();
                for (index, argument) in call.arguments.iter().enumerate() {
                    if Self::is_event(argument, place) {
                        events.push(index);
                    }
                }
                let parameters = &function.parameters;
                let names = || parameters.positional.iter().chain(&parameters.named);
                for (name, argument) in &call.named {
                    if Self::is_event(argument, place) {
                        let index = names().position(|parameter| Some(&parameter.name) == name.as_ref());
                        events.push(index.unwrap_or(usize::MAX));
                    }
                }
                let spreads = call.arguments.iter().any(|argument| matches!(argument, Expr::Spread(_)));
                if spreads || events.iter().any(|index| *index >= names().count()) {
                    self.all = true;
                }
                let function = Arc::clone(function);
                self.function(&function, &events);
            }
            Some(Defined::Library(module, member)) => match (module.as_str(), member.as_str()) {
                ("panther_base_helpers", "deep_get" | "deep_walk") => {
                    let is_first = call.arguments.first().is_some_and(|first| Self::is_event(first, place));
                    if is_first { self.key(call.arguments.get(1)) } else { self.all = true }
                }
                ("panther_base_helpers", "pantherflow_investigation" | "dbprint" | "add_parse_delay")
                | ("panther_ipinfo_helpers" | "panther_misp_helpers", _) => {}
                (module, _) if module.starts_with("logging") => {}
                _ => self.all = true,
            },
            _ => {
                let is_of_type = matches!(&call.callee, Expr::Name(Name::Global(name)) if **name == *"isinstance");
                self.all |= !is_of_type;
            }
        }
        let rest = call.arguments.iter().chain(call.named.iter().map(|(_, argument)| argument));
        for argument in rest.filter(|argument| !Self::is_event(argument, place)) {
            self.expr(argument, place);
        }
    }

    /// The fields that a field of the unified data model is made from.
    fn model_field(&mut self, key: Option<&Expr>) {
        let Some(Expr::Text(key)) = key else {
            self.all = true;
            return;
        };
        let fields: &[&str] = match &**key {
            "actor_user" => &["userIdentity", "additionalEventData", "sourceIdentity", "eventType"],
            "event_type" => &["eventName", "userIdentity", "responseElements"],
            "source_ip" => &["sourceIPAddress"],
            "user_agent" => &["userAgent"],
            "user" | "user_account_id" => &["responseElements"],
            other => &[other, "p_udm"],
        };
        self.fields.extend(fields.iter().map(|field| (*field).to_owned()));
    }
}

/// Whether an expression within an inner function may name a variable that is the event.
fn is_local_above(expr: &Expr, place: Place<'_>) -> bool {
    matches!(expr, Expr::Name(Name::Local(up, slot, _)) if *up > 0 && place.events.contains(slot))
}
