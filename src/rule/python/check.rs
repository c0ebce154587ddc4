//! Checks of the names of methods in the typed tree, and visits of it.

use std::sync::Arc;

use super::methods;
use super::tree::{Comprehension, Expr, FormatPart, Function, Name, Stmt, Target};

/// An attribute that rules may not have, or may not have with these arguments.
pub(super) struct WrongAttribute {
    pub(super) name: Arc<str>,
    pub(super) what: String,
}

/// Checks statements. `imported` are the variables of the module that are modules themselves.
///
/// # Errors
/// What rules may not have.
pub(super) fn statements(statements: &[Stmt], imported: &[Arc<str>]) -> Result<(), WrongAttribute> {
    let mut wrong = None;
    visit_statements(statements, &mut |expr| {
        if wrong.is_none() {
            wrong = one(expr, imported);
        }
    });
    wrong.map_or(Ok(()), Err)
}

fn one(expr: &Expr, imported: &[Arc<str>]) -> Option<WrongAttribute> {
    match expr {
        Expr::Attribute(base, name) => {
            // Members of modules are checked where the module is read.
            let is_known = methods::is_known(name) || is_module(base, imported);
            let what = if is_known { clock(name) } else { Some(format!("`.{name}`")) };
            what.map(|what| WrongAttribute { name: Arc::clone(name), what })
        }
        _ => None,
    }
}

fn is_module(base: &Expr, imported: &[Arc<str>]) -> bool {
    match base {
        Expr::Name(Name::Global(name)) => imported.contains(name),
        Expr::Attribute(base, _) => is_module(base, imported),
        _ => false,
    }
}

/// The clock gives each run another answer.
fn clock(name: &str) -> Option<String> {
    matches!(name, "now" | "utcnow" | "today").then(|| format!("`.{name}`, which reads the clock"))
}

/// Calls `visit` with each expression in statements, however deep.
pub(super) fn visit_statements<'t>(statements: &'t [Stmt], visit: &mut dyn FnMut(&'t Expr)) {
    let mut functions = Vec::new();
    visit_own(statements, &mut |expr| visit_expr(expr, visit), &mut |function| functions.push(function));
    for function in functions {
        visit_function(function, visit);
    }
}

/// Calls `visit` with each expression that statements consist of directly, and `define` with each function that they
/// define.
pub(super) fn visit_own<'t>(
    statements: &'t [Stmt],
    visit: &mut dyn FnMut(&'t Expr),
    define: &mut dyn FnMut(&'t Function),
) {
    for statement in statements {
        match statement {
            Stmt::Expr(value) | Stmt::Return(Some(value)) | Stmt::Raise(Some(value)) | Stmt::Assert(value) => {
                visit(value);
            }
            Stmt::Assign(targets, value) => {
                for target in targets {
                    visit_target(target, visit);
                }
                visit(value);
            }
            Stmt::Update(target, _, value) => {
                visit_target(target, visit);
                visit(value);
            }
            Stmt::If(branches, otherwise) => {
                for (condition, body) in branches {
                    visit(condition);
                    visit_own(body, visit, define);
                }
                visit_own(otherwise, visit, define);
            }
            Stmt::For(statement) => {
                visit_target(&statement.target, visit);
                visit(&statement.over);
                visit_own(&statement.body, visit, define);
                visit_own(&statement.otherwise, visit, define);
            }
            Stmt::While(condition, body, otherwise) => {
                visit(condition);
                visit_own(body, visit, define);
                visit_own(otherwise, visit, define);
            }
            Stmt::Try(statement) => {
                visit_own(&statement.body, visit, define);
                for handler in &statement.handlers {
                    if let Some(classes) = &handler.classes {
                        visit(classes);
                    }
                    visit_own(&handler.body, visit, define);
                }
                visit_own(&statement.otherwise, visit, define);
                visit_own(&statement.finally, visit, define);
            }
            Stmt::Define(_, function) => define(function),
            Stmt::Return(None) | Stmt::Raise(None) | Stmt::Break | Stmt::Continue | Stmt::Pass | Stmt::Import(..) => {}
        }
    }
}

fn visit_function<'t>(function: &'t Function, visit: &mut dyn FnMut(&'t Expr)) {
    for parameter in function.parameters.positional.iter().chain(&function.parameters.named) {
        parameter.default.iter().for_each(|default| visit_expr(default, visit));
    }
    visit_statements(&function.body, visit);
}

fn visit_target<'t>(target: &'t Target, visit: &mut dyn FnMut(&'t Expr)) {
    match target {
        Target::Name(_) => {}
        Target::Item(base, index) => {
            visit(base);
            visit(index);
        }
        Target::Unpack(targets) => targets.iter().for_each(|target| visit_target(target, visit)),
    }
}

/// Calls `visit` with an expression and each in it, however deep.
pub(super) fn visit_expr<'t>(expr: &'t Expr, visit: &mut dyn FnMut(&'t Expr)) {
    visit(expr);
    if let Expr::Lambda(function) = expr {
        return visit_function(function, visit);
    }
    children(expr, &mut |child, _| visit_expr(child, visit));
}

/// Calls `visit` with each expression that an expression consists of directly, except for the body of a lambda, and with
/// whether it runs in a frame of its own.
pub(super) fn children<'t>(expr: &'t Expr, visit: &mut dyn FnMut(&'t Expr, bool)) {
    match expr {
        Expr::None
        | Expr::Bool(_)
        | Expr::Int(_)
        | Expr::Float(_)
        | Expr::Text(_)
        | Expr::Bytes(_)
        | Expr::Lambda(_)
        | Expr::Name(_) => {}
        Expr::List(parts) | Expr::Tuple(parts) | Expr::Set(parts) | Expr::And(parts) | Expr::Or(parts) => {
            for part in parts {
                visit(part, false);
            }
        }
        Expr::Dict(entries) => {
            for (key, value) in entries {
                if let Some(key) = key {
                    visit(key, false);
                }
                visit(value, false);
            }
        }
        Expr::Spread(inner)
        | Expr::Not(inner)
        | Expr::Negative(inner)
        | Expr::Positive(inner)
        | Expr::Attribute(inner, _)
        | Expr::Assign(_, inner) => visit(inner, false),
        Expr::Binary(left, _, right) | Expr::Item(left, right) => {
            visit(left, false);
            visit(right, false);
        }
        Expr::Compare(left, rights) => {
            visit(left, false);
            for (_, right) in rights {
                visit(right, false);
            }
        }
        Expr::If(parts) => {
            visit(&parts.0, false);
            visit(&parts.1, false);
            visit(&parts.2, false);
        }
        Expr::Call(call) => {
            visit(&call.callee, false);
            call.arguments.iter().for_each(|argument| visit(argument, false));
            call.named.iter().for_each(|(_, argument)| visit(argument, false));
        }
        Expr::Slice(base, bounds) => {
            visit(base, false);
            bounds.iter().flatten().for_each(|bound| visit(bound, false));
        }
        Expr::Format(parts) => format_values(parts, visit),
        Expr::ListOf(element, comprehension)
        | Expr::SetOf(element, comprehension)
        | Expr::Generator(element, comprehension) => {
            loops(comprehension, visit);
            visit(element, true);
        }
        Expr::DictOf(entry, comprehension) => {
            loops(comprehension, visit);
            visit(&entry.0, true);
            visit(&entry.1, true);
        }
    }
}

fn loops<'t>(comprehension: &'t Comprehension, visit: &mut dyn FnMut(&'t Expr, bool)) {
    for (index, each) in comprehension.loops.iter().enumerate() {
        visit_target(&each.target, &mut |part| visit(part, true));
        visit(&each.over, index > 0);
        each.conditions.iter().for_each(|condition| visit(condition, true));
    }
}

fn format_values<'t>(parts: &'t [FormatPart], visit: &mut dyn FnMut(&'t Expr, bool)) {
    for part in parts {
        if let FormatPart::Value { value, format, .. } = part {
            visit(value, false);
            format_values(format, visit);
        }
    }
}
