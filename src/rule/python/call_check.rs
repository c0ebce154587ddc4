//! Checks of calls where a rule is read: what this program would not do as Python does is refused there, by its place.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ruff_python_ast::{self as ast, visitor::Visitor};
use ruff_text_size::{Ranged as _, TextRange};

use super::exception::{Fault, Outcome};
use super::library::{self, Builtin, bytes, matches, patterns, time};
use super::lower;
use super::signatures::{self, GivenArguments};
use super::text_format::{self, TemplatePart};
use super::tree::{Call, Expr, FormatPart, Name, Operator, Stmt};
use super::value::Value;

/// Classes that rules only compare with.
const NOT_CALLED: [&str; 5] = [
    "bytes",
    "collections.abc.Mapping",
    "collections.abc.Sequence",
    "panther_core.PantherEvent",
    "unittest.mock.MagicMock",
];

/// Functions that give an iterator.
const ITERATORS: [&str; 6] = ["enumerate", "filter", "iter", "map", "reversed", "zip"];

/// The names that a module binds.
#[derive(Default)]
pub(super) struct ModuleNames {
    /// The module of each import, and the member.
    imports: HashMap<Arc<str>, (String, Option<String>)>,
    bound: BTreeSet<Arc<str>>,
}

/// The meaning of an expression that names a module or a known value.
enum Known {
    Module(String),
    Value(Value),
}

/// The function or method of a call.
enum Callee<'t> {
    Function(Builtin),
    /// A method of a value whose type is not known.
    Method(&'t Expr, &'t str),
    Other,
}

impl ModuleNames {
    /// Returns the names of a module with these statements.
    pub(super) fn of(statements: &[ast::Stmt]) -> ModuleNames {
        struct Imports(HashMap<Arc<str>, (String, Option<String>)>);
        impl Visitor<'_> for Imports {
            fn visit_stmt(&mut self, statement: &ast::Stmt) {
                match statement {
                    ast::Stmt::Import(node) => {
                        for alias in &node.names {
                            let top = alias.name.split('.').next().unwrap_or_default();
                            let (module, bound) =
                                alias.asname.as_ref().map_or((top, top), |bound| (alias.name.as_str(), bound.as_str()));
                            self.0.insert(bound.into(), (module.to_owned(), None));
                        }
                    }
                    ast::Stmt::ImportFrom(node) => {
                        let module = node.module.as_ref().map(ToString::to_string).unwrap_or_default();
                        for alias in &node.names {
                            let bound = alias.asname.as_ref().unwrap_or(&alias.name).as_str();
                            self.0.insert(bound.into(), (module.clone(), Some(alias.name.to_string())));
                        }
                    }
                    _ => ast::visitor::walk_stmt(self, statement),
                }
            }
        }
        let mut imports = Imports(HashMap::new());
        imports.visit_body(statements);
        let (mut bound, mut globals) = (Vec::new(), Vec::new());
        lower::bound_names(statements, &mut bound, &mut globals);
        ModuleNames { imports: imports.0, bound: bound.into_iter().chain(globals).collect() }
    }

    fn known(&self, expr: &Expr) -> Option<Known> {
        let member = |module: &str, name: &str| {
            let inner = format!("{module}.{name}");
            match library::member(module, name) {
                Some(value) => Some(Known::Value(value)),
                None => library::is_module(&inner).then_some(Known::Module(inner)),
            }
        };
        match expr {
            Expr::Name(Name::Local(_, _, name) | Name::Global(name)) if self.imports.contains_key(name) => {
                match self.imports.get(name)? {
                    (module, None) => Some(Known::Module(module.clone())),
                    (module, Some(name)) => member(module, name),
                }
            }
            Expr::Name(Name::Global(name)) if !self.bound.contains(name) => library::builtin(name).map(Known::Value),
            Expr::Attribute(base, name) => match self.known(base)? {
                Known::Module(module) => member(&module, name),
                Known::Value(Value::Builtin(class)) => library::member_of_class(class, name).map(Known::Value),
                Known::Value(_) => None,
            },
            _ => None,
        }
    }

    fn callee<'t>(&self, expr: &'t Expr) -> Callee<'t> {
        match (self.known(expr), expr) {
            (Some(Known::Value(Value::Builtin(builtin))), _) => Callee::Function(builtin),
            (None, Expr::Attribute(base, name)) if self.known(base).is_none() => Callee::Method(base, name),
            _ => Callee::Other,
        }
    }

    /// Returns the part of an expression that rules may not have, if there is one.
    pub(super) fn refusal(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Call(call) => self.call(call),
            Expr::Binary(left, Operator::Or | Operator::And | Operator::Xor | Operator::Subtract, right) => {
                let view = [left, right].into_iter().find_map(|operand| self.view(operand));
                view.map(|name| format!("an operator on `.{name}()`"))
            }
            Expr::Format(parts) => parts.iter().find_map(|part| match part {
                FormatPart::Value { format, .. } => match format.as_slice() {
                    [FormatPart::Text(spec)] => time_spec(spec),
                    _ => None,
                },
                FormatPart::Text(_) => None,
            }),
            _ => None,
        }
    }

    /// The name of the method if an expression is a view of a dictionary, which is a list here.
    fn view<'t>(&self, expr: &'t Expr) -> Option<&'t str> {
        let Expr::Call(call) = expr else { return None };
        match self.callee(&call.callee) {
            Callee::Method(_, name @ ("keys" | "items")) => Some(name),
            _ => None,
        }
    }

    /// Returns whether a value is an iterator, which events cannot share.
    pub(super) fn is_iterator(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Generator(..) => true,
            Expr::Call(call) => {
                matches!(self.callee(&call.callee), Callee::Function(builtin) if ITERATORS.contains(&builtin.0))
            }
            _ => false,
        }
    }

    fn call(&self, call: &Call) -> Option<String> {
        let text = |position: usize, name: &str| literal(call, position, name);
        match self.callee(&call.callee) {
            Callee::Function(builtin) => {
                let name = builtin.0;
                if NOT_CALLED.contains(&name) {
                    return Some(format!("a call of `{name}`"));
                }
                wrong_arguments(call, signatures::function(name).into_iter(), name).or_else(|| match name {
                    "isinstance" => self.unknown_class(call.arguments.get(1)?),
                    "hasattr" | "getattr" => text(1, "name")
                        .filter(|name| name.starts_with("__"))
                        .map(|name| format!("the attribute `{name}`")),
                    "format" => time_spec(text(1, "format_spec")?),
                    "datetime.datetime.strptime" => refused(time::check_parsed(text(1, "format")?)),
                    name if name.starts_with("re.") && name != "re.escape" => {
                        let of_pattern = text(0, "pattern").and_then(|pattern| patterns::check(pattern).err());
                        of_pattern.or_else(|| octal(text(1, "repl").filter(|_| name == "re.sub")?))
                    }
                    _ => None,
                })
            }
            Callee::Method(base, name) => {
                let shown = format!(".{name}");
                wrong_arguments(call, signatures::methods(name), &shown).or_else(|| match (name, base) {
                    ("format", Expr::Text(template)) => match text_format::template_parts(template) {
                        Ok(parts) => parts.iter().find_map(|part| match part {
                            TemplatePart::Field { spec, .. } => time_spec(spec),
                            TemplatePart::Text(_) => None,
                        }),
                        Err(fault) => refused(Err(fault)),
                    },
                    ("strftime", _) => refused(time::check_format(text(0, "format").filter(|text| *text != "%s")?)),
                    ("sub", _) => octal(text(0, "repl")?),
                    ("decode", _) => {
                        let encoding = text(0, "encoding").filter(|encoding| !bytes::has_encoding(encoding));
                        let errors = text(1, "errors").filter(|errors| !bytes::has_errors(errors));
                        encoding.or(errors).map(|wrong| format!("`.decode` with `{wrong}`"))
                    }
                    _ => None,
                })
            }
            Callee::Other => None,
        }
    }

    fn unknown_class(&self, classes: &Expr) -> Option<String> {
        if let Expr::Tuple(classes) = classes {
            return classes.iter().find_map(|class| self.unknown_class(class));
        }
        match self.known(classes) {
            Some(Known::Value(Value::Builtin(class))) if !library::is_known_class(class) => {
                Some(format!("`isinstance` with `{}`", class.0))
            }
            _ => None,
        }
    }
}

/// The text of an argument, if it is written out.
fn literal<'t>(call: &'t Call, position: usize, name: &str) -> Option<&'t str> {
    let is_it = |(known, _): &&(Option<Arc<str>>, Expr)| known.as_deref() == Some(name);
    let named = || call.named.iter().find(is_it).map(|(_, value)| value);
    match call.arguments.get(position).or_else(named)? {
        Expr::Text(text) => Some(text),
        _ => None,
    }
}

/// Returns the arguments of a call if none of the functions takes them.
fn wrong_arguments<'s>(
    call: &Call,
    signatures: impl Iterator<Item = &'s signatures::Signature>,
    name: &str,
) -> Option<String> {
    if call.arguments.iter().any(|argument| matches!(argument, Expr::Spread(_))) {
        return None;
    }
    let given = GivenArguments {
        positional: call.arguments.len(),
        names: call.named.iter().filter_map(|(name, _)| name.as_deref()).collect(),
        has_others: call.named.iter().any(|(name, _)| name.is_none()),
    };
    let mut first = None;
    for signature in signatures {
        match signature.check(&given) {
            Ok(()) => return None,
            Err(mismatch) => first = first.or(Some(mismatch)),
        }
    }
    first.map(|mismatch| format!("`{name}` with {}", mismatch.what()))
}

fn refused(checked: Outcome<()>) -> Option<String> {
    match checked {
        Err(Fault::Refused(what)) => Some(what),
        _ => None,
    }
}

fn octal(template: &str) -> Option<String> {
    matches::has_octal(template).then(|| "an octal number in the replacement of `re.sub`".to_owned())
}

/// The reason why a format of a time is refused. In other formats a percent sign comes last.
fn time_spec(spec: &str) -> Option<String> {
    if spec.trim_end_matches('%').contains('%') { refused(time::check_format(spec)) } else { None }
}

/// The place of a call is that of the method's name.
pub(super) fn named_place(expr: &ast::Expr) -> TextRange {
    match expr {
        ast::Expr::Call(ast::ExprCall { func, .. }) => match &**func {
            ast::Expr::Attribute(node) => node.attr.range,
            _ => expr.range(),
        },
        _ => expr.range(),
    }
}

/// Returns whether a loop has no end: its condition always holds, and nothing leaves it.
pub(super) fn is_endless(condition: &Expr, body: &[Stmt]) -> bool {
    let holds = match condition {
        Expr::Bool(holds) => *holds,
        Expr::Int(number) => *number != 0,
        _ => false,
    };
    holds && !body.iter().any(|statement| leaves(statement, true))
}

/// Returns whether a statement may leave the loop around it. `is_own` says that `break` means this loop.
fn leaves(statement: &Stmt, is_own: bool) -> bool {
    let any = |statements: &[Stmt], is_own| statements.iter().any(|statement| leaves(statement, is_own));
    match statement {
        // What raises within `try` may leave.
        Stmt::Return(_) | Stmt::Raise(_) | Stmt::Assert(_) | Stmt::Try(_) => true,
        Stmt::Break => is_own,
        Stmt::If(branches, otherwise) => branches.iter().any(|(_, body)| any(body, is_own)) || any(otherwise, is_own),
        Stmt::For(inner) => any(&inner.body, false) || any(&inner.otherwise, is_own),
        Stmt::While(_, body, otherwise) => any(body, false) || any(otherwise, is_own),
        _ => false,
    }
}

/// Returns the place and the name of a parameter whose default the function changes. Python keeps the change for the
/// next call. Here each event gets the default as it is written.
pub(super) fn changed_default(statement: &ast::Stmt) -> Option<(TextRange, String)> {
    struct Find(Option<(TextRange, String)>);
    impl Visitor<'_> for Find {
        fn visit_stmt(&mut self, statement: &ast::Stmt) {
            if let ast::Stmt::FunctionDef(function) = statement {
                let changed = super::program::changed_names(statement);
                for parameter in function.parameters.iter_non_variadic_params() {
                    let is_container = parameter.default().is_some_and(|default| {
                        matches!(
                            default,
                            ast::Expr::List(_)
                                | ast::Expr::Dict(_)
                                | ast::Expr::Set(_)
                                | ast::Expr::Call(_)
                                | ast::Expr::ListComp(_)
                                | ast::Expr::SetComp(_)
                                | ast::Expr::DictComp(_)
                        )
                    });
                    let name = parameter.name();
                    if is_container && changed.iter().any(|changed| **changed == *name.as_str()) {
                        self.0.get_or_insert((name.range, name.to_string()));
                    }
                }
            }
            ast::visitor::walk_stmt(self, statement);
        }
    }
    let mut find = Find(None);
    find.visit_stmt(statement);
    find.0
}
