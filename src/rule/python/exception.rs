//! Python's exceptions, and other ends of an evaluation.

use super::value::Value;

/// The result of an evaluation.
pub(super) type Outcome<T> = Result<T, Fault>;

/// The reason why an evaluation gives no value.
#[derive(Clone)]
pub(super) enum Fault {
    /// A Python exception, which `try` can catch.
    Raised(Exception),
    /// The evaluation took too many steps, or too much memory.
    Exhausted,
    /// Something that is not known before it runs, and that this program does not do.
    Refused(String),
}

/// A Python exception.
#[derive(Clone)]
pub(super) struct Exception {
    pub(super) kind: ExceptionKind,
    pub(super) message: Value,
}

macro_rules! kinds {
    ($($name:ident : $($parent:ident)|+;)*) => {
        /// The class of an exception.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum ExceptionKind { $($name),* }

        impl ExceptionKind {
            const ALL: &[ExceptionKind] = &[$(ExceptionKind::$name),*];

            /// Returns its name in Python.
            pub(super) fn name(self) -> &'static str {
                match self { $(ExceptionKind::$name => stringify!($name)),* }
            }

            /// Returns the classes it derives from directly.
            fn parents(self) -> &'static [ExceptionKind] {
                match self { $(ExceptionKind::$name => &[$(ExceptionKind::$parent),*]),* }
            }
        }
    };
}

kinds! {
    Exception: Exception;
    ArithmeticError: Exception;
    ZeroDivisionError: ArithmeticError;
    OverflowError: ArithmeticError;
    AssertionError: Exception;
    AttributeError: Exception;
    ImportError: Exception;
    LookupError: Exception;
    IndexError: LookupError;
    KeyError: LookupError;
    NameError: Exception;
    UnboundLocalError: NameError;
    RuntimeError: Exception;
    NotImplementedError: RuntimeError;
    RecursionError: RuntimeError;
    StopIteration: Exception;
    TypeError: Exception;
    ValueError: Exception;
    UnicodeError: ValueError;
    UnicodeDecodeError: UnicodeError;
    UnicodeEncodeError: UnicodeError;
    JSONDecodeError: ValueError;
    AddressValueError: ValueError;
    NetmaskValueError: ValueError;
    PantherIPInfoException: Exception;
    PantherUnexpectedAlert: Exception;
    PantherBadInput: Exception;
    BadLookup: Exception;
}

impl ExceptionKind {
    /// Returns the class with this name. `BaseException` stands for `Exception`, which is all that rules can meet.
    pub(super) fn named(name: &str) -> Option<ExceptionKind> {
        let name = if name == "BaseException" { "Exception" } else { name };
        ExceptionKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Returns whether it is `other`, or derives from it.
    pub(super) fn is(self, other: ExceptionKind) -> bool {
        self == other || self.parents().iter().any(|parent| *parent != self && parent.is(other))
    }
}

impl Fault {
    pub(super) fn raise(kind: ExceptionKind, message: impl Into<String>) -> Fault {
        Fault::Raised(Exception { kind, message: Value::text(message.into()) })
    }

    pub(super) fn type_error(message: impl Into<String>) -> Fault {
        Fault::raise(ExceptionKind::TypeError, message)
    }

    pub(super) fn value_error(message: impl Into<String>) -> Fault {
        Fault::raise(ExceptionKind::ValueError, message)
    }

    pub(super) fn no_attribute(value: &Value, name: &str) -> Fault {
        let message = format!("'{}' object has no attribute '{name}'", value.type_name());
        Fault::raise(ExceptionKind::AttributeError, message)
    }
}
