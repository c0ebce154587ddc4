//! The fields that a text is made from.

use std::rc::Rc;

use super::super::PythonFunction;
use super::super::columns::{Defined, defined};
use super::super::symbols::{Environment, Symbol};
use super::super::tree::{Expr, FormatPart, Name, Stmt, Target};
use super::Translator;
use crate::rule::Field;

/// Returns the fields that the text of a function is made from, if it is always made of the same fields and of literal
/// text. Then events with the same values have the same text.
pub fn fields(function: &PythonFunction) -> Option<Vec<Field>> {
    let program = &function.program;
    let Some(Defined::Function(tree)) = defined(program, "", function.entry.function()) else { return None };
    let translator = Translator { program, paths: 0.into(), calls: 0.into() };
    let mut environment = Environment::of_call(tree, vec![Symbol::Event])?;
    for statement in &tree.body {
        match statement {
            Stmt::Assign(targets, value) => match targets.as_slice() {
                [Target::Name(Name::Local(0, slot, _))] => {
                    environment = environment.with(*slot, Symbol::Expr(value, Rc::clone(&environment)));
                }
                _ => return None,
            },
            Stmt::Expr(Expr::Text(_)) => {}
            Stmt::Return(Some(value)) => {
                let mut fields = Vec::new();
                translator.fields_of(value, &environment, &mut fields)?;
                return (!fields.is_empty()).then_some(fields);
            }
            _ => return None,
        }
    }
    None
}

impl<'p> Translator<'p> {
    /// Adds the fields whose values are the parts of a text, beside literal text.
    fn fields_of(&self, value: &'p Expr, environment: &Rc<Environment<'p>>, fields: &mut Vec<Field>) -> Option<()> {
        match self.resolve(value, environment) {
            Symbol::Const(_) => Some(()),
            Symbol::Field(field) => {
                let field = field.plain()?;
                if !fields.contains(&field) {
                    fields.push(field);
                }
                Some(())
            }
            Symbol::Expr(Expr::Format(parts), around) => {
                for part in parts {
                    if let FormatPart::Value { value, format, .. } = part {
                        if !format.is_empty() {
                            return None;
                        }
                        self.fields_of(value, &around, fields)?;
                    }
                }
                Some(())
            }
            _ => None,
        }
    }
}
