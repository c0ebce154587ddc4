//! Makes the typed tree of parsed Python, and refuses what the tree does not have.

use std::sync::Arc;

use ruff_python_ast as ast;
use ruff_text_size::{Ranged as _, TextRange};

use super::call_check::{ModuleNames, is_endless, named_place};
use super::tree::{
    Call, Comparison, Comprehension, ComprehensionLoop, Conversion, Expr, ForLoop, FormatPart, Function, Handler, Name,
    Operator, Parameter, Parameters, Stmt, Target, Try,
};

/// How deep statements and expressions may nest.
const DEPTH: usize = 60;

/// A construct that rules may not have, and its place in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) range: TextRange,
    pub(super) what: String,
}

type Lowered<T> = Result<T, Refusal>;

/// The names of one function, comprehension or lambda.
struct Scope {
    locals: Vec<Arc<str>>,
    is_comprehension: bool,
    globals: Vec<Arc<str>>,
}

/// Makes the tree of the code of one module.
pub(super) struct Lowering {
    module: Arc<str>,
    scopes: Vec<Scope>,
    depth: usize,
    names: ModuleNames,
}

fn refuse<T>(range: TextRange, what: impl Into<String>) -> Lowered<T> {
    Err(Refusal { range, what: what.into() })
}

impl Lowering {
    pub(super) fn new(module: &str, names: ModuleNames) -> Lowering {
        Lowering { module: module.into(), scopes: Vec::new(), depth: 0, names }
    }

    pub(super) fn statements(&mut self, statements: &[ast::Stmt]) -> Lowered<Vec<Stmt>> {
        let mut lowered = Vec::with_capacity(statements.len());
        for statement in statements {
            self.statement(statement, &mut lowered)?;
        }
        Ok(lowered)
    }

    fn deeper<T>(&mut self, range: TextRange, inner: impl FnOnce(&mut Self) -> Lowered<T>) -> Lowered<T> {
        if self.depth >= DEPTH {
            return refuse(range, format!("more than {DEPTH} levels of nesting"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn statement(&mut self, statement: &ast::Stmt, lowered: &mut Vec<Stmt>) -> Lowered<()> {
        self.deeper(statement.range(), |this| this.one_statement(statement, lowered))
    }

    fn one_statement(&mut self, statement: &ast::Stmt, lowered: &mut Vec<Stmt>) -> Lowered<()> {
        lowered.push(match statement {
            ast::Stmt::Expr(node) => Stmt::Expr(self.expr(&node.value)?),
            ast::Stmt::Assign(node) => {
                let value = self.expr(&node.value)?;
                if self.scopes.is_empty() && self.names.is_iterator(&value) {
                    return refuse(node.value.range(), "an iterator in a variable of the module");
                }
                Stmt::Assign(node.targets.iter().map(|target| self.target(target)).collect::<Lowered<_>>()?, value)
            }
            ast::Stmt::AnnAssign(node) => match &node.value {
                Some(value) => {
                    let value = self.expr(value)?;
                    Stmt::Assign(vec![self.target(&node.target)?], value)
                }
                None => Stmt::Pass,
            },
            ast::Stmt::AugAssign(node) => {
                let value = self.expr(&node.value)?;
                Stmt::Update(self.target(&node.target)?, operator(node.op, node.range)?, value)
            }
            ast::Stmt::Return(node) => Stmt::Return(node.value.as_deref().map(|value| self.expr(value)).transpose()?),
            ast::Stmt::If(node) => {
                let mut branches = vec![(self.expr(&node.test)?, self.statements(&node.body)?)];
                let mut otherwise = Vec::new();
                for clause in &node.elif_else_clauses {
                    let body = self.statements(&clause.body)?;
                    match &clause.test {
                        Some(test) => branches.push((self.expr(test)?, body)),
                        None => otherwise = body,
                    }
                }
                Stmt::If(branches, otherwise)
            }
            ast::Stmt::For(node) if !node.is_async => Stmt::For(Box::new(ForLoop {
                over: self.expr(&node.iter)?,
                target: self.target(&node.target)?,
                body: self.statements(&node.body)?,
                otherwise: self.statements(&node.orelse)?,
            })),
            ast::Stmt::While(node) => {
                let (condition, body) = (self.expr(&node.test)?, self.statements(&node.body)?);
                if is_endless(&condition, &body) {
                    return refuse(node.test.range(), "a loop without an end");
                }
                Stmt::While(condition, body, self.statements(&node.orelse)?)
            }
            ast::Stmt::Try(node) if !node.is_star => Stmt::Try(Box::new(self.try_statement(node)?)),
            ast::Stmt::Raise(node) => Stmt::Raise(node.exc.as_deref().map(|value| self.expr(value)).transpose()?),
            ast::Stmt::Assert(node) => Stmt::Assert(self.expr(&node.test)?),
            ast::Stmt::Pass(_) | ast::Stmt::Global(_) => Stmt::Pass,
            ast::Stmt::Break(_) => Stmt::Break,
            ast::Stmt::Continue(_) => Stmt::Continue,
            ast::Stmt::FunctionDef(node) if !node.is_async => {
                if let Some(decorator) = node.decorator_list.first() {
                    return refuse(decorator.range, "a decorator");
                }
                let function = self.function(&node.name.id, Some(&node.parameters), Body::Statements(&node.body))?;
                Stmt::Define(Target::Name(self.name(&node.name.id)), Arc::new(function))
            }
            ast::Stmt::Import(node) => {
                for alias in &node.names {
                    // `import a.b` binds `a`.
                    let top = alias.name.split('.').next().unwrap_or_default();
                    let (name, bound) =
                        alias.asname.as_ref().map_or((top, top), |bound| (alias.name.as_str(), bound.as_str()));
                    lowered.push(Stmt::Import(Target::Name(self.name(bound)), name.into(), None));
                }
                return Ok(());
            }
            ast::Stmt::ImportFrom(node) => {
                let Some(module) = node.module.as_ref().filter(|_| node.level == 0) else {
                    return refuse(node.range, "a relative import");
                };
                for alias in &node.names {
                    if alias.name.as_str() == "*" {
                        return refuse(node.range, "`import *`");
                    }
                    let bound = self.name(alias.asname.as_ref().unwrap_or(&alias.name));
                    let member = Some(alias.name.as_str().into());
                    lowered.push(Stmt::Import(Target::Name(bound), module.as_str().into(), member));
                }
                return Ok(());
            }
            other => return refuse(other.range(), statement_name(other)),
        });
        Ok(())
    }

    fn try_statement(&mut self, node: &ast::StmtTry) -> Lowered<Try> {
        let handler = |this: &mut Self, handler: &ast::ExceptHandler| {
            let ast::ExceptHandler::ExceptHandler(handler) = handler;
            Ok(Handler {
                classes: handler.type_.as_deref().map(|classes| this.expr(classes)).transpose()?,
                name: handler.name.as_ref().map(|name| Target::Name(this.name(name))),
                body: this.statements(&handler.body)?,
            })
        };
        Ok(Try {
            body: self.statements(&node.body)?,
            handlers: node.handlers.iter().map(|node| handler(self, node)).collect::<Lowered<_>>()?,
            otherwise: self.statements(&node.orelse)?,
            finally: self.statements(&node.finalbody)?,
        })
    }

    fn target(&mut self, target: &ast::Expr) -> Lowered<Target> {
        Ok(match target {
            ast::Expr::Name(node) => Target::Name(self.name(&node.id)),
            ast::Expr::Subscript(node) => {
                if matches!(*node.slice, ast::Expr::Slice(_)) {
                    return refuse(node.range, "an assignment to a slice");
                }
                Target::Item(self.expr(&node.value)?, self.expr(&node.slice)?)
            }
            ast::Expr::Tuple(ast::ExprTuple { elts, .. }) | ast::Expr::List(ast::ExprList { elts, .. }) => self
                .deeper(target.range(), |this| {
                    Ok(Target::Unpack(elts.iter().map(|part| this.target(part)).collect::<Lowered<_>>()?))
                })?,
            other => return refuse(other.range(), format!("an assignment to {}", expression_name(other))),
        })
    }

    /// Returns the variable of this name where the code is.
    fn name(&self, name: &str) -> Name {
        for (up, scope) in self.scopes.iter().rev().enumerate() {
            if scope.globals.iter().any(|global| **global == *name) {
                break;
            }
            if let Some(slot) = scope.locals.iter().position(|local| **local == *name) {
                return Name::Local(up, slot, name.into());
            }
        }
        Name::Global(name.into())
    }

    fn function(&mut self, name: &str, parameters: Option<&ast::Parameters>, body: Body<'_>) -> Lowered<Function> {
        let mut lowered = Parameters::default();
        let mut locals: Vec<Arc<str>> = Vec::new();
        if let Some(node) = parameters {
            let mut all = |this: &mut Self, nodes: &mut dyn Iterator<Item = &ast::ParameterWithDefault>| {
                let one = |node: &ast::ParameterWithDefault| {
                    let name: Arc<str> = node.name().as_str().into();
                    locals.push(Arc::clone(&name));
                    let default = node.default().map(|default| this.expr(default)).transpose()?;
                    Ok(Parameter { name, default })
                };
                nodes.map(one).collect::<Lowered<Vec<_>>>()
            };
            lowered.positional = all(self, &mut node.posonlyargs.iter().chain(&node.args))?;
            lowered.named = all(self, &mut node.kwonlyargs.iter())?;
            lowered.rest = node.vararg.is_some();
            lowered.rest_named = node.kwarg.is_some();
            locals.extend(node.vararg.iter().chain(&node.kwarg).map(|node| Arc::from(node.name().as_str())));
        }
        let mut globals = Vec::new();
        if let Body::Statements(statements) = body {
            bound_names(statements, &mut locals, &mut globals);
        }
        if let Body::Expression(expression) = body {
            walrus_names(expression, &mut locals);
        }
        locals.retain(|name| !globals.contains(name));
        self.scopes.push(Scope { locals, is_comprehension: false, globals });
        let body = match body {
            Body::Statements(statements) => self.statements(statements),
            Body::Expression(expression) => self.expr(expression).map(|value| vec![Stmt::Return(Some(value))]),
        };
        let locals = self.scopes.pop().map_or(0, |scope| scope.locals.len());
        Ok(Function { module: Arc::clone(&self.module), name: name.into(), parameters: lowered, locals, body: body? })
    }

    pub(super) fn expr(&mut self, expr: &ast::Expr) -> Lowered<Expr> {
        let lowered = self.deeper(expr.range(), |this| this.one_expr(expr))?;
        match self.names.refusal(&lowered) {
            Some(what) => refuse(named_place(expr), what),
            None => Ok(lowered),
        }
    }

    fn exprs(&mut self, exprs: &[ast::Expr]) -> Lowered<Vec<Expr>> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn boxed(&mut self, expr: &ast::Expr) -> Lowered<Box<Expr>> {
        self.expr(expr).map(Box::new)
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of expression")]
    fn one_expr(&mut self, expr: &ast::Expr) -> Lowered<Expr> {
        Ok(match expr {
            ast::Expr::NoneLiteral(_) => Expr::None,
            ast::Expr::BooleanLiteral(node) => Expr::Bool(node.value),
            ast::Expr::StringLiteral(node) => Expr::Text(node.value.to_str().into()),
            ast::Expr::BytesLiteral(node) => Expr::Bytes(node.value.bytes().collect()),
            ast::Expr::NumberLiteral(node) => match &node.value {
                ast::Number::Int(number) => match number.as_u64() {
                    Some(number) => Expr::Int(number.into()),
                    None => return refuse(node.range, "a number of more than 64 bits"),
                },
                ast::Number::Float(number) => Expr::Float(*number),
                ast::Number::Complex { .. } => return refuse(node.range, "a complex number"),
            },
            ast::Expr::Name(node) => Expr::Name(self.name(&node.id)),
            ast::Expr::List(node) => Expr::List(self.exprs(&node.elts)?),
            ast::Expr::Tuple(node) => Expr::Tuple(self.exprs(&node.elts)?),
            ast::Expr::Set(node) => Expr::Set(self.exprs(&node.elts)?),
            ast::Expr::Dict(node) => {
                let entry = |item: &ast::DictItem| {
                    Ok((item.key.as_ref().map(|key| self.expr(key)).transpose()?, self.expr(&item.value)?))
                };
                Expr::Dict(node.items.iter().map(entry).collect::<Lowered<_>>()?)
            }
            ast::Expr::Starred(node) => Expr::Spread(self.boxed(&node.value)?),
            ast::Expr::BoolOp(node) => {
                let values = self.exprs(&node.values)?;
                if node.op == ast::BoolOp::And { Expr::And(values) } else { Expr::Or(values) }
            }
            ast::Expr::UnaryOp(node) => {
                let operand = self.boxed(&node.operand)?;
                match node.op {
                    ast::UnaryOp::Not => Expr::Not(operand),
                    ast::UnaryOp::USub => Expr::Negative(operand),
                    ast::UnaryOp::UAdd => Expr::Positive(operand),
                    ast::UnaryOp::Invert => return refuse(node.range, "the operator `~`"),
                }
            }
            ast::Expr::BinOp(node) => {
                Expr::Binary(self.boxed(&node.left)?, operator(node.op, node.range)?, self.boxed(&node.right)?)
            }
            ast::Expr::Compare(node) => {
                let left = self.boxed(&node.left)?;
                let rights = node.ops.iter().zip(&node.comparators);
                let rights = rights.map(|(op, right)| Ok((comparison(*op), self.expr(right)?)));
                Expr::Compare(left, rights.collect::<Lowered<_>>()?)
            }
            ast::Expr::If(node) => {
                Expr::If(Box::new((self.expr(&node.test)?, self.expr(&node.body)?, self.expr(&node.orelse)?)))
            }
            ast::Expr::Call(node) => {
                let named = node.arguments.keywords.iter().map(|keyword| {
                    Ok((keyword.arg.as_ref().map(|name| name.as_str().into()), self.expr(&keyword.value)?))
                });
                let named = named.collect::<Lowered<_>>()?;
                let arguments = self.exprs(&node.arguments.args)?;
                Expr::Call(Box::new(Call { callee: self.expr(&node.func)?, arguments, named }))
            }
            ast::Expr::Attribute(node) => {
                if node.attr.starts_with("__") {
                    return refuse(node.range, format!("the attribute `{}`", node.attr));
                }
                Expr::Attribute(self.boxed(&node.value)?, node.attr.as_str().into())
            }
            ast::Expr::Subscript(node) => match &*node.slice {
                ast::Expr::Slice(slice) => {
                    let mut part =
                        |part: &Option<Box<ast::Expr>>| part.as_deref().map(|part| self.expr(part)).transpose();
                    let bounds = [part(&slice.lower)?, part(&slice.upper)?, part(&slice.step)?];
                    Expr::Slice(self.boxed(&node.value)?, Box::new(bounds))
                }
                index => Expr::Item(self.boxed(&node.value)?, self.boxed(index)?),
            },
            ast::Expr::FString(node) => Expr::Format(self.f_string(node)?),
            ast::Expr::Lambda(node) => {
                let function = self.function("<lambda>", node.parameters.as_deref(), Body::Expression(&node.body))?;
                Expr::Lambda(Arc::new(function))
            }
            ast::Expr::ListComp(node) => {
                let (element, comprehension) = self.comprehension(&node.generators, |this| this.expr(&node.elt))?;
                Expr::ListOf(Arc::new(element), comprehension)
            }
            ast::Expr::SetComp(node) => {
                let (element, comprehension) = self.comprehension(&node.generators, |this| this.expr(&node.elt))?;
                Expr::SetOf(Arc::new(element), comprehension)
            }
            ast::Expr::Generator(node) => {
                let (element, comprehension) = self.comprehension(&node.generators, |this| this.expr(&node.elt))?;
                Expr::Generator(Arc::new(element), comprehension)
            }
            ast::Expr::DictComp(node) => {
                let Some(key) = &node.key else { return refuse(node.range, "a dictionary comprehension of `**`") };
                let entry = |this: &mut Self| Ok((this.expr(key)?, this.expr(&node.value)?));
                let (entry, comprehension) = self.comprehension(&node.generators, entry)?;
                Expr::DictOf(Arc::new(entry), comprehension)
            }
            ast::Expr::Named(node) => match &*node.target {
                ast::Expr::Name(target) => {
                    let value = self.boxed(&node.value)?;
                    Expr::Assign(self.walrus_target(&target.id), value)
                }
                other => return refuse(other.range(), "an assignment within an expression"),
            },
            other => return refuse(other.range(), expression_name(other)),
        })
    }

    /// Returns the variable that `:=` binds: that of the function around comprehensions.
    fn walrus_target(&self, name: &str) -> Name {
        match self.name(name) {
            Name::Local(up, ..) if self.scopes.iter().rev().nth(up).is_some_and(|scope| scope.is_comprehension) => {
                Name::Global(name.into())
            }
            other => other,
        }
    }

    fn comprehension<T>(
        &mut self,
        loops: &[ast::Comprehension],
        element: impl FnOnce(&mut Self) -> Lowered<T>,
    ) -> Lowered<(T, Arc<Comprehension>)> {
        let mut locals = Vec::new();
        for node in loops {
            if node.is_async {
                return refuse(node.range, "an asynchronous comprehension");
            }
            target_names(&node.target, &mut locals);
        }
        // Python evaluates the first iterable in the scope around.
        let Some(first) = loops.first() else {
            return refuse(TextRange::default(), "a comprehension without a loop");
        };
        let mut first = Some(self.expr(&first.iter)?);
        self.scopes.push(Scope { locals, is_comprehension: true, globals: Vec::new() });
        let one = |this: &mut Self, node: &ast::Comprehension, first: &mut Option<Expr>| {
            Ok(ComprehensionLoop {
                over: first.take().map_or_else(|| this.expr(&node.iter), Ok)?,
                target: this.target(&node.target)?,
                conditions: this.exprs(&node.ifs)?,
            })
        };
        let loops: Lowered<Vec<_>> = loops.iter().map(|node| one(self, node, &mut first)).collect();
        let element = loops.and_then(|loops| Ok((element(self)?, loops)));
        let locals = self.scopes.pop().map_or(0, |scope| scope.locals.len());
        let (element, loops) = element?;
        Ok((element, Arc::new(Comprehension { locals, loops })))
    }

    fn f_string(&mut self, node: &ast::ExprFString) -> Lowered<Vec<FormatPart>> {
        let mut parts = Vec::new();
        for part in &node.value {
            match part {
                ast::FStringPart::Literal(literal) => parts.push(FormatPart::Text(literal.as_str().into())),
                ast::FStringPart::FString(string) => self.format_parts(&string.elements, &mut parts)?,
            }
        }
        Ok(parts)
    }

    fn format_parts(&mut self, elements: &ast::InterpolatedStringElements, parts: &mut Vec<FormatPart>) -> Lowered<()> {
        for element in elements {
            match element {
                ast::InterpolatedStringElement::Literal(literal) => {
                    parts.push(FormatPart::Text((*literal.value).into()));
                }
                ast::InterpolatedStringElement::Interpolation(node) => {
                    if node.debug_text.is_some() {
                        return refuse(node.range, "`=` in an f-string");
                    }
                    let conversion = match node.conversion {
                        ast::ConversionFlag::None => Conversion::None,
                        ast::ConversionFlag::Str => Conversion::Text,
                        ast::ConversionFlag::Repr => Conversion::Repr,
                        ast::ConversionFlag::Ascii => return refuse(node.range, "`!a` in an f-string"),
                    };
                    let value = self.expr(&node.expression)?;
                    let mut format = Vec::new();
                    if let Some(spec) = &node.format_spec {
                        self.deeper(node.range, |this| this.format_parts(&spec.elements, &mut format))?;
                    }
                    parts.push(FormatPart::Value { value, conversion, format });
                }
            }
        }
        Ok(())
    }
}

/// The body of a function or of a lambda.
#[derive(Clone, Copy)]
enum Body<'a> {
    Statements(&'a [ast::Stmt]),
    Expression(&'a ast::Expr),
}

fn add(names: &mut Vec<Arc<str>>, name: &str) {
    if !names.iter().any(|known| **known == *name) {
        names.push(name.into());
    }
}

pub(super) fn target_names(target: &ast::Expr, names: &mut Vec<Arc<str>>) {
    match target {
        ast::Expr::Name(node) => add(names, &node.id),
        ast::Expr::Tuple(ast::ExprTuple { elts, .. }) | ast::Expr::List(ast::ExprList { elts, .. }) => {
            for part in elts {
                target_names(part, names);
            }
        }
        _ => {}
    }
}

/// Finds the names that a function's statements bind, and the names that they declare global.
pub(super) fn bound_names(statements: &[ast::Stmt], names: &mut Vec<Arc<str>>, globals: &mut Vec<Arc<str>>) {
    let mut finder = BoundNames { names, globals };
    for statement in statements {
        ast::visitor::Visitor::visit_stmt(&mut finder, statement);
    }
}

fn walrus_names(expression: &ast::Expr, names: &mut Vec<Arc<str>>) {
    let mut globals = Vec::new();
    ast::visitor::Visitor::visit_expr(&mut BoundNames { names, globals: &mut globals }, expression);
}

struct BoundNames<'n> {
    names: &'n mut Vec<Arc<str>>,
    globals: &'n mut Vec<Arc<str>>,
}

impl ast::visitor::Visitor<'_> for BoundNames<'_> {
    fn visit_stmt(&mut self, statement: &ast::Stmt) {
        match statement {
            ast::Stmt::FunctionDef(node) => return add(self.names, &node.name.id),
            ast::Stmt::ClassDef(node) => return add(self.names, &node.name.id),
            ast::Stmt::Assign(node) => node.targets.iter().for_each(|target| target_names(target, self.names)),
            ast::Stmt::AnnAssign(node) => target_names(&node.target, self.names),
            ast::Stmt::AugAssign(node) => target_names(&node.target, self.names),
            ast::Stmt::For(node) => target_names(&node.target, self.names),
            ast::Stmt::Global(node) => node.names.iter().for_each(|name| add(self.globals, name)),
            ast::Stmt::Import(node) => {
                for alias in &node.names {
                    let top = alias.name.split('.').next().unwrap_or_default();
                    add(self.names, alias.asname.as_ref().map_or(top, |name| name.as_str()));
                }
            }
            ast::Stmt::ImportFrom(node) => {
                node.names.iter().for_each(|alias| add(self.names, alias.asname.as_ref().unwrap_or(&alias.name)));
            }
            _ => {}
        }
        ast::visitor::walk_stmt(self, statement);
    }

    fn visit_except_handler(&mut self, handler: &ast::ExceptHandler) {
        let ast::ExceptHandler::ExceptHandler(node) = handler;
        if let Some(name) = &node.name {
            add(self.names, name);
        }
        ast::visitor::walk_except_handler(self, handler);
    }

    fn visit_expr(&mut self, expr: &ast::Expr) {
        match expr {
            ast::Expr::Lambda(_) => {}
            ast::Expr::Named(node) => {
                target_names(&node.target, self.names);
                ast::visitor::walk_expr(self, expr);
            }
            _ => ast::visitor::walk_expr(self, expr),
        }
    }
}

fn operator(operator: ast::Operator, range: TextRange) -> Lowered<Operator> {
    Ok(match operator {
        ast::Operator::Add => Operator::Add,
        ast::Operator::Sub => Operator::Subtract,
        ast::Operator::Mult => Operator::Multiply,
        ast::Operator::Div => Operator::Divide,
        ast::Operator::FloorDiv => Operator::FloorDivide,
        ast::Operator::Mod => Operator::Modulo,
        ast::Operator::Pow => Operator::Power,
        ast::Operator::BitOr => Operator::Or,
        ast::Operator::BitAnd => Operator::And,
        ast::Operator::BitXor => Operator::Xor,
        ast::Operator::LShift => Operator::ShiftLeft,
        ast::Operator::RShift => Operator::ShiftRight,
        ast::Operator::MatMult => return refuse(range, "the operator `@`"),
    })
}

fn comparison(operator: ast::CmpOp) -> Comparison {
    match operator {
        ast::CmpOp::Eq => Comparison::Equal,
        ast::CmpOp::NotEq => Comparison::NotEqual,
        ast::CmpOp::Lt => Comparison::Less,
        ast::CmpOp::LtE => Comparison::LessOrEqual,
        ast::CmpOp::Gt => Comparison::Greater,
        ast::CmpOp::GtE => Comparison::GreaterOrEqual,
        ast::CmpOp::Is => Comparison::Is,
        ast::CmpOp::IsNot => Comparison::IsNot,
        ast::CmpOp::In => Comparison::In,
        ast::CmpOp::NotIn => Comparison::NotIn,
    }
}

fn statement_name(statement: &ast::Stmt) -> &'static str {
    match statement {
        ast::Stmt::ClassDef(_) => "a class",
        ast::Stmt::With(_) => "`with`",
        ast::Stmt::Match(_) => "`match`",
        ast::Stmt::Delete(_) => "`del`",
        ast::Stmt::Nonlocal(_) => "`nonlocal`",
        ast::Stmt::FunctionDef(_) => "`async def`",
        ast::Stmt::For(_) => "`async for`",
        ast::Stmt::Try(_) => "`except*`",
        ast::Stmt::TypeAlias(_) => "`type`",
        _ => "this statement",
    }
}

fn expression_name(expr: &ast::Expr) -> &'static str {
    match expr {
        ast::Expr::Await(_) => "`await`",
        ast::Expr::Yield(_) | ast::Expr::YieldFrom(_) => "`yield`",
        ast::Expr::TString(_) => "a t-string",
        ast::Expr::EllipsisLiteral(_) => "`...`",
        ast::Expr::Attribute(_) => "an attribute",
        ast::Expr::Starred(_) => "`*`",
        ast::Expr::Slice(_) => "a slice",
        _ => "this expression",
    }
}
