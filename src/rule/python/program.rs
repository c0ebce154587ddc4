//! The code that a function of a rule can reach: the functions, constants and imports of the rule and of its modules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ruff_python_ast::{self as ast, visitor::Visitor};
use ruff_text_size::{Ranged as _, TextRange};

use super::call_check::{self, ModuleNames};
use super::library;
use super::lower::{self, Lowering, Refusal};
use super::source::{self, Place};
use super::tree::Stmt;

/// A module's source: its name, which is empty for the rule itself, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModuleSource {
    pub(super) name: Arc<str>,
    /// The file, for messages.
    pub(super) file: String,
    pub(super) text: String,
}

/// Finds modules that a rule imports.
pub(super) trait Modules {
    /// Returns the source of a module of the user, or of this program.
    fn find(&self, name: &str) -> Option<ModuleSource>;
}

/// A reason why a rule's Python cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) file: String,
    pub(super) place: Place,
    pub(super) what: String,
}

/// The code of one or several functions of a rule, ready to run.
#[derive(Debug)]
pub(super) struct Program {
    modules: BTreeMap<Arc<str>, Vec<Stmt>>,
    /// Whether functions change variables of their module, so that each event needs new ones.
    pub(super) changes_globals: bool,
    pub(super) notices: BTreeSet<&'static str>,
    /// The source of the code, with nothing that it does not reach.
    pub(super) text: String,
}

impl Program {
    pub(super) fn has_module(&self, name: &str) -> bool {
        self.modules.contains_key(name)
    }

    pub(super) fn statements(&self, module: &str) -> &[Stmt] {
        self.modules.get(module).map_or(&[], Vec::as_slice)
    }

    /// Reads the code that `entries`, functions of the module with the empty name, can reach.
    ///
    /// # Errors
    /// Some of it is not Python, or outside of what rules may have.
    pub(super) fn read(rule: &ModuleSource, entries: &[&str], modules: &dyn Modules) -> Result<Program, Refused> {
        let mut reading = Reading { modules, read: BTreeMap::new(), queue: Vec::new(), notices: BTreeSet::new() };
        reading.add(rule.clone())?;
        for entry in entries {
            reading.reach("", entry);
        }
        reading.run()?;
        reading.finish()
    }

    /// Reads the text of a program.
    ///
    /// # Errors
    /// It is not the text of a program.
    pub(super) fn of_text(text: &str, entries: &[&str]) -> Result<Program, Refused> {
        let invalid = || Refused {
            file: String::new(),
            place: Place::default(),
            what: "this is not the text of a Python rule".to_owned(),
        };
        let sources: Vec<(String, String)> = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut sources: BTreeMap<String, String> = sources.into_iter().collect();
        let rule =
            ModuleSource { name: "".into(), file: "rule.py".to_owned(), text: sources.remove("").ok_or_else(invalid)? };
        Program::read(&rule, entries, &Texts(sources))
    }
}

/// Modules by name.
struct Texts(BTreeMap<String, String>);

impl Modules for Texts {
    fn find(&self, name: &str) -> Option<ModuleSource> {
        let text = self.0.get(name)?.clone();
        Some(ModuleSource { name: name.into(), file: format!("{name}.py"), text })
    }
}

/// A module that is being read.
struct ReadModule {
    source: ModuleSource,
    statements: Vec<ast::Stmt>,
    /// For each statement the names that it binds, and whether it is needed.
    parts: Vec<Part>,
}

struct Part {
    binds: Vec<Arc<str>>,
    /// Variables of the module that the statement may change, other than by binding them.
    changes: Vec<Arc<str>>,
    needed: BTreeSet<Arc<str>>,
    is_needed: bool,
    /// The modules that it imports from packages.
    modules: Vec<Arc<str>>,
}

struct Reading<'m> {
    modules: &'m dyn Modules,
    read: BTreeMap<Arc<str>, ReadModule>,
    queue: Vec<(Arc<str>, Arc<str>)>,
    notices: BTreeSet<&'static str>,
}

impl Reading<'_> {
    fn add(&mut self, source: ModuleSource) -> Result<(), Refused> {
        let refused = |place, what| Refused { file: source.file.clone(), place, what };
        let statements = source::parse(&source.text).map_err(|(place, what)| refused(place, what))?;
        let part = |statement: &ast::Stmt| {
            let (mut binds, mut globals) = (Vec::new(), Vec::new());
            lower::bound_names(std::slice::from_ref(statement), &mut binds, &mut globals);
            let changes = if matches!(statement, ast::Stmt::FunctionDef(_) | ast::Stmt::ClassDef(_)) {
                Vec::new()
            } else {
                changed_names(statement)
            };
            Part { binds, changes, needed: BTreeSet::new(), is_needed: false, modules: modules_from(statement) }
        };
        let parts = statements.iter().map(part).collect();
        self.read.insert(Arc::clone(&source.name), ReadModule { source, statements, parts });
        Ok(())
    }

    fn reach(&mut self, module: &str, name: &str) {
        self.queue.push((module.into(), name.into()));
    }

    fn run(&mut self) -> Result<(), Refused> {
        while let Some((module, name)) = self.queue.pop() {
            let Some(read) = self.read.get_mut(&module) else { continue };
            let mut statements = Vec::new();
            for (index, part) in read.parts.iter_mut().enumerate() {
                let is_it = part.binds.contains(&name) || part.changes.contains(&name);
                if is_it && part.needed.insert(Arc::clone(&name)) {
                    statements.push((index, !part.is_needed));
                    part.is_needed = true;
                }
            }
            if statements.is_empty() && !read.parts.iter().any(|part| part.needed.contains(&name)) {
                self.check_unbound(&module, &name)?;
            }
            for (index, is_new) in statements {
                self.follow(&module, index, &name, is_new)?;
            }
        }
        Ok(())
    }

    /// A name that its module does not bind must be a builtin.
    fn check_unbound(&self, module: &Arc<str>, name: &Arc<str>) -> Result<(), Refused> {
        if library::builtin(name).is_some() {
            return Ok(());
        }
        let Some(read) = self.read.get(module) else { return Ok(()) };
        let what = match &**name {
            "open" | "exec" | "eval" | "compile" | "input" | "globals" | "locals" | "vars" | "setattr" | "delattr"
            | "__import__" => format!("`{name}`"),
            _ => format!("`{name}`, which is not defined"),
        };
        let range = read.statements.iter().find_map(|statement| first_use(statement, name));
        Err(self.refused(module, range.unwrap_or_default(), what))
    }

    fn refused(&self, module: &str, range: TextRange, what: impl Into<String>) -> Refused {
        let (file, place) = match self.read.get(module) {
            Some(read) => (read.source.file.clone(), source::place(&read.source.text, range)),
            None => (String::new(), Place::default()),
        };
        Refused { file, place, what: format!("{} is not supported in rules", what.into()) }
    }

    /// Reaches what a statement uses.
    fn follow(&mut self, module: &Arc<str>, index: usize, name: &str, is_new: bool) -> Result<(), Refused> {
        let Some(read) = self.read.get(module) else { return Ok(()) };
        let statement = &read.statements[index];
        match statement {
            ast::Stmt::ImportFrom(node) => {
                let Some(from) = node.module.as_ref().filter(|_| node.level == 0) else {
                    return Err(self.refused(module, node.range, "a relative import"));
                };
                let is_it = |alias: &&ast::Alias| alias.asname.as_ref().unwrap_or(&alias.name).as_str() == name;
                let Some(alias) = node.names.iter().find(is_it) else { return Ok(()) };
                let (from, member, range) = (from.to_string(), alias.name.to_string(), alias.range);
                self.import(module, &from, &member, range)
            }
            ast::Stmt::Import(node) => {
                let bound = |alias: &ast::Alias| {
                    let top = alias.name.split('.').next().unwrap_or_default();
                    alias.asname.as_ref().map_or_else(|| top.to_owned(), ToString::to_string)
                };
                let Some(alias) = node.names.iter().find(|alias| bound(alias) == *name) else { return Ok(()) };
                let (from, range) = match &alias.asname {
                    Some(_) => (alias.name.to_string(), alias.range),
                    None => (bound(alias), alias.range),
                };
                let mut members = BTreeSet::new();
                for statement in &read.statements {
                    members_used(statement, name, &mut members);
                }
                for member in members {
                    if !library::is_module(&format!("{from}.{member}")) {
                        self.import_if_used(module, &from, &member, range)?;
                    }
                }
                Ok(())
            }
            ast::Stmt::ClassDef(node) => {
                // Panther's exceptions are known by name.
                if super::exception::ExceptionKind::named(&node.name).is_some() {
                    return Ok(());
                }
                Err(self.refused(module, node.name.range, format!("the class `{}`", node.name)))
            }
            statement if is_new => {
                let mut names = BTreeSet::new();
                used_names(statement, &mut names);
                for name in names {
                    self.queue.push((Arc::clone(module), name));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// As [`Reading::import`]. A member that only unreachable code uses may be missing.
    fn import_if_used(&mut self, module: &str, from: &str, member: &str, range: TextRange) -> Result<(), Refused> {
        match self.import(module, from, member, range) {
            Err(refused) if self.member_is_reached(module, member) => Err(refused),
            _ => Ok(()),
        }
    }

    fn member_is_reached(&self, module: &str, member: &str) -> bool {
        let Some(read) = self.read.get(module) else { return false };
        let needed = read.statements.iter().zip(&read.parts).filter(|(_, part)| part.is_needed);
        needed.into_iter().any(|(statement, _)| attribute_range(statement, member).is_some())
    }

    fn import(&mut self, module: &str, from: &str, member: &str, range: TextRange) -> Result<(), Refused> {
        if let Some(reason) = library::refusal(from, member) {
            return Err(self.refused(module, range, reason));
        }
        if library::member(from, member).is_some() || library::is_module(&format!("{from}.{member}")) {
            self.notices.extend(library::notice(from, member));
            return Ok(());
        }
        if !self.read.contains_key(from) {
            match self.modules.find(from) {
                Some(source) => self.add(source)?,
                None => {
                    return Err(self.refused(module, range, format!("`{member}` of the module `{from}`")));
                }
            }
        }
        let is_bound =
            |read: &ReadModule| read.parts.iter().any(|part| part.binds.iter().any(|name| **name == *member));
        if !self.read.get(from).is_some_and(is_bound) {
            return Err(self.refused(module, range, format!("`{member}`, which the module `{from}` does not define")));
        }
        self.reach(from, member);
        Ok(())
    }

    fn finish(self) -> Result<Program, Refused> {
        let mut modules = BTreeMap::new();
        let mut changes_globals = false;
        let mut sources: Vec<(&str, String)> = Vec::new();
        for (name, read) in &self.read {
            let mut lowering = Lowering::new(name, ModuleNames::of(&read.statements));
            let mut text = String::new();
            let mut statements = Vec::new();
            let imports = read.statements.iter().filter(|statement| statement.is_import_stmt());
            let mut imported = Vec::new();
            imports.for_each(|statement| {
                lower::bound_names(std::slice::from_ref(statement), &mut imported, &mut Vec::new());
            });
            // `from package import module`.
            imported.extend(read.parts.iter().flat_map(|part| part.modules.iter().cloned()));
            for (statement, part) in read.statements.iter().zip(&read.parts).filter(|(_, part)| part.is_needed) {
                let refused = |refusal: Refusal| self.refused(name, refusal.range, refusal.what);
                let range = statement.range();
                if let Some((range, parameter)) = call_check::changed_default(statement) {
                    let what = format!("a change of the default of `{parameter}`");
                    return Err(self.refused(name, range, what));
                }
                if !matches!(statement, ast::Stmt::ClassDef(_)) {
                    let mut lowered = lowering.statements(std::slice::from_ref(statement)).map_err(refused)?;
                    lowered.retain(|lowered| {
                        !matches!(lowered, Stmt::Import(super::tree::Target::Name(super::tree::Name::Global(bound)), ..)
                            if !part.needed.contains(bound))
                    });
                    super::check::statements(&lowered, &imported).map_err(|wrong| {
                        let place = attribute_range(statement, &wrong.name).unwrap_or(range);
                        self.refused(name, place, wrong.what)
                    })?;
                    statements.append(&mut lowered);
                } else if let ast::Stmt::ClassDef(class) = statement {
                    statements.push(Stmt::Import(
                        super::tree::Target::Name(super::tree::Name::Global(class.name.as_str().into())),
                        "tawny.exceptions".into(),
                        Some(class.name.as_str().into()),
                    ));
                }
                changes_globals |= declares_global(statement);
                text.push_str(&read.source.text[range]);
                text.push('\n');
            }
            sources.push((name, text));
            modules.insert(Arc::clone(name), statements);
        }
        let text = serde_json::to_string(&sources).unwrap_or_default();
        Ok(Program { modules, changes_globals, notices: self.notices, text })
    }
}

/// Returns the variables that `from package import module` binds to modules of Python.
fn modules_from(statement: &ast::Stmt) -> Vec<Arc<str>> {
    let ast::Stmt::ImportFrom(node) = statement else { return Vec::new() };
    let package = node.module.as_ref().map(ToString::to_string).unwrap_or_default();
    let is_module = |alias: &&ast::Alias| library::is_module(&format!("{package}.{}", alias.name));
    let bound = |alias: &ast::Alias| alias.asname.as_ref().unwrap_or(&alias.name).as_str().into();
    node.names.iter().filter(is_module).map(bound).collect()
}

/// Finds the names of variables that a statement reads. Annotations are none of its code.
fn used_names(statement: &ast::Stmt, names: &mut BTreeSet<Arc<str>>) {
    struct Uses<'n>(&'n mut BTreeSet<Arc<str>>, Vec<BTreeSet<Arc<str>>>);
    impl Visitor<'_> for Uses<'_> {
        fn visit_annotation(&mut self, _: &ast::Expr) {}

        fn visit_stmt(&mut self, statement: &ast::Stmt) {
            if let ast::Stmt::FunctionDef(node) = statement {
                let (mut locals, mut globals) = (Vec::new(), Vec::new());
                lower::bound_names(&node.body, &mut locals, &mut globals);
                locals.extend(node.parameters.iter().map(|parameter| Arc::from(parameter.name().as_str())));
                locals.retain(|name| !globals.contains(name));
                self.0.extend(globals);
                for default in node.parameters.iter().filter_map(ast::AnyParameterRef::default) {
                    self.visit_expr(default);
                }
                self.1.push(locals.into_iter().collect());
                self.visit_body(&node.body);
                self.1.pop();
                return;
            }
            ast::visitor::walk_stmt(self, statement);
        }

        fn visit_expr(&mut self, expr: &ast::Expr) {
            match expr {
                ast::Expr::Name(node) => {
                    if !self.1.iter().any(|scope| scope.contains(node.id.as_str())) {
                        self.0.insert(node.id.as_str().into());
                    }
                }
                ast::Expr::Lambda(node) => {
                    let parameters = || node.parameters.iter().flat_map(|parameters| parameters.iter());
                    let locals = parameters().map(|parameter| Arc::from(parameter.name().as_str())).collect();
                    for default in parameters().filter_map(ast::AnyParameterRef::default) {
                        self.visit_expr(default);
                    }
                    self.1.push(locals);
                    self.visit_expr(&node.body);
                    self.1.pop();
                }
                ast::Expr::ListComp(ast::ExprListComp { generators, .. })
                | ast::Expr::SetComp(ast::ExprSetComp { generators, .. })
                | ast::Expr::Generator(ast::ExprGenerator { generators, .. })
                | ast::Expr::DictComp(ast::ExprDictComp { generators, .. }) => {
                    let mut targets = Vec::new();
                    for node in generators {
                        lower::target_names(&node.target, &mut targets);
                    }
                    if let Some(first) = generators.first() {
                        self.visit_expr(&first.iter);
                    }
                    self.1.push(targets.into_iter().collect());
                    ast::visitor::walk_expr(self, expr);
                    self.1.pop();
                }
                _ => ast::visitor::walk_expr(self, expr),
            }
        }
    }
    Uses(names, Vec::new()).visit_stmt(statement);
}

/// Returns the first place where a statement names a variable.
fn first_use(statement: &ast::Stmt, name: &str) -> Option<TextRange> {
    struct Find<'n>(&'n str, Option<TextRange>);
    impl Visitor<'_> for Find<'_> {
        fn visit_expr(&mut self, expr: &ast::Expr) {
            match expr {
                ast::Expr::Name(node) if node.id.as_str() == self.0 => {
                    self.1.get_or_insert(node.range);
                }
                _ => ast::visitor::walk_expr(self, expr),
            }
        }
    }
    let mut find = Find(name, None);
    find.visit_stmt(statement);
    find.1
}

/// Finds the members of the module `module` that a statement uses.
fn members_used(statement: &ast::Stmt, module: &str, members: &mut BTreeSet<String>) {
    struct Members<'n>(&'n str, &'n mut BTreeSet<String>);
    impl Visitor<'_> for Members<'_> {
        fn visit_expr(&mut self, expr: &ast::Expr) {
            if let ast::Expr::Attribute(node) = expr
                && let ast::Expr::Name(base) = &*node.value
                && base.id.as_str() == self.0
            {
                self.1.insert(node.attr.to_string());
            }
            ast::visitor::walk_expr(self, expr);
        }
    }
    Members(module, members).visit_stmt(statement);
}

/// Returns the first attribute of this name in a statement.
fn attribute_range(statement: &ast::Stmt, name: &str) -> Option<TextRange> {
    struct Find<'n>(&'n str, Option<TextRange>);
    impl Visitor<'_> for Find<'_> {
        fn visit_expr(&mut self, expr: &ast::Expr) {
            if let ast::Expr::Attribute(node) = expr
                && node.attr.as_str() == self.0
            {
                self.1.get_or_insert(node.attr.range);
            }
            ast::visitor::walk_expr(self, expr);
        }
    }
    let mut find = Find(name, None);
    find.visit_stmt(statement);
    find.1
}

/// Returns the variables whose values a statement may change: `X.add(…)`, `X[…] = …`.
pub(super) fn changed_names(statement: &ast::Stmt) -> Vec<Arc<str>> {
    struct Changes(Vec<Arc<str>>);
    impl Changes {
        fn add(&mut self, base: &ast::Expr) {
            match base {
                ast::Expr::Name(node) => self.0.push(node.id.as_str().into()),
                ast::Expr::Subscript(node) => self.add(&node.value),
                ast::Expr::Attribute(node) => self.add(&node.value),
                _ => {}
            }
        }
    }
    impl Visitor<'_> for Changes {
        fn visit_stmt(&mut self, statement: &ast::Stmt) {
            match statement {
                ast::Stmt::Assign(node) => {
                    node.targets.iter().filter(|target| target.is_subscript_expr()).for_each(|target| self.add(target));
                }
                ast::Stmt::AugAssign(node) => self.add(&node.target),
                ast::Stmt::Expr(node) => {
                    if let ast::Expr::Call(call) = &*node.value
                        && let ast::Expr::Attribute(method) = &*call.func
                    {
                        self.add(&method.value);
                    }
                }
                _ => {}
            }
            ast::visitor::walk_stmt(self, statement);
        }
    }
    let mut changes = Changes(Vec::new());
    changes.visit_stmt(statement);
    changes.0
}

/// Returns whether a function in a statement declares variables global.
fn declares_global(statement: &ast::Stmt) -> bool {
    struct Find(bool);
    impl Visitor<'_> for Find {
        fn visit_stmt(&mut self, statement: &ast::Stmt) {
            self.0 |= statement.is_global_stmt();
            ast::visitor::walk_stmt(self, statement);
        }
    }
    let mut find = Find(false);
    find.visit_stmt(statement);
    find.0
}
