//! The Python that rules may have: a typed tree, with variables resolved.

use std::sync::Arc;

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    /// The module that defines it.
    pub(super) module: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) parameters: Parameters,
    /// The number of its local variables. Parameters come first.
    pub(super) locals: usize,
    pub(super) body: Vec<Stmt>,
}

/// The parameters of a function. The local variables begin with them, in this order.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// Those that may be given by position.
    pub(super) positional: Vec<Parameter>,
    /// Whether others by position are collected.
    pub(super) rest: bool,
    /// Those that must be given by name.
    pub(super) named: Vec<Parameter>,
    /// Whether others by name are collected.
    pub(super) rest_named: bool,
}

/// A parameter.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: Arc<str>,
    pub(super) default: Option<Expr>,
}

/// A statement.
#[derive(Debug)]
pub(super) enum Stmt {
    Expr(Expr),
    Assign(Vec<Target>, Expr),
    Update(Target, Operator, Expr),
    Return(Option<Expr>),
    /// Conditions with what they guard, and `else`.
    If(Vec<(Expr, Vec<Stmt>)>, Vec<Stmt>),
    For(Box<ForLoop>),
    While(Expr, Vec<Stmt>, Vec<Stmt>),
    Try(Box<Try>),
    Raise(Option<Expr>),
    Assert(Expr),
    Break,
    Continue,
    Pass,
    Define(Target, Arc<Function>),
    /// Binds a module, or a member of one.
    Import(Target, Arc<str>, Option<Arc<str>>),
}

/// A `for` loop.
#[derive(Debug)]
pub(super) struct ForLoop {
    pub(super) target: Target,
    pub(super) over: Expr,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
}

/// A `try` statement.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) body: Vec<Stmt>,
    pub(super) handlers: Vec<Handler>,
    pub(super) otherwise: Vec<Stmt>,
    pub(super) finally: Vec<Stmt>,
}

/// An `except` clause.
#[derive(Debug)]
pub(super) struct Handler {
    /// The classes, or all.
    pub(super) classes: Option<Expr>,
    pub(super) name: Option<Target>,
    pub(super) body: Vec<Stmt>,
}

/// The target of an assignment.
#[derive(Debug)]
pub(super) enum Target {
    Name(Name),
    Item(Expr, Expr),
    Unpack(Vec<Target>),
}

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// A local variable of the function so many frames up, by its slot. The text is for messages.
    Local(usize, usize, Arc<str>),
    /// A variable of the module, or a builtin.
    Global(Arc<str>),
}

/// An expression.
#[derive(Debug)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Set(Vec<Expr>),
    /// Keys and values. Without a key the value is a dictionary whose entries are added.
    Dict(Vec<(Option<Expr>, Expr)>),
    /// Elements of another iterable within a list, tuple, set or call.
    Spread(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Binary(Box<Expr>, Operator, Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    /// Condition, then, else.
    If(Box<(Expr, Expr, Expr)>),
    Call(Box<Call>),
    Attribute(Box<Expr>, Arc<str>),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Box<[Option<Expr>; 3]>),
    Format(Vec<FormatPart>),
    Lambda(Arc<Function>),
    ListOf(Arc<Expr>, Arc<Comprehension>),
    SetOf(Arc<Expr>, Arc<Comprehension>),
    /// The key and the value of each entry.
    DictOf(Arc<(Expr, Expr)>, Arc<Comprehension>),
    Generator(Arc<Expr>, Arc<Comprehension>),
    /// An assignment within an expression.
    Assign(Name, Box<Expr>),
}

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) callee: Expr,
    pub(super) arguments: Vec<Expr>,
    /// Arguments by name. Without a name the value is a dictionary of them.
    pub(super) named: Vec<(Option<Arc<str>>, Expr)>,
}

/// The loops of a comprehension. They run in a frame of their own.
#[derive(Debug)]
pub(super) struct Comprehension {
    pub(super) locals: usize,
    pub(super) loops: Vec<ComprehensionLoop>,
}

/// A loop of a comprehension.
#[derive(Debug)]
pub(super) struct ComprehensionLoop {
    pub(super) target: Target,
    /// The first is resolved outside of the comprehension's frame.
    pub(super) over: Expr,
    pub(super) conditions: Vec<Expr>,
}

/// A part of an f-string.
#[derive(Debug)]
pub(super) enum FormatPart {
    Text(Arc<str>),
    Value { value: Expr, conversion: Conversion, format: Vec<FormatPart> },
}

/// A conversion of a value in an f-string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    None,
    Text,
    Repr,
}

/// An operator of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Is,
    IsNot,
    In,
    NotIn,
}
