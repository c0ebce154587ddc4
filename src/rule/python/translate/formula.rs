//! Conditions, exact or wider, and their combinations.

use crate::rule::Predicate;

/// A condition.
#[derive(Debug, Clone)]
pub(in super::super) struct Formula {
    pub(in super::super) predicate: Predicate,
    /// Whether the predicate is the condition. Otherwise it also holds for some events that do not satisfy the condition.
    pub(in super::super) is_exact: bool,
}

/// The conditions that an expression is true, and that it is false.
#[derive(Debug, Clone)]
pub(in super::super) struct Truth {
    pub(in super::super) holds: Formula,
    pub(in super::super) fails: Formula,
}

impl Formula {
    pub(in super::super) fn exact(predicate: Predicate) -> Formula {
        Formula { predicate, is_exact: true }
    }

    pub(in super::super) fn constant(value: bool) -> Formula {
        Formula::exact(if value { Predicate::All(Vec::new()) } else { Predicate::Any(Vec::new()) })
    }

    /// A condition about which nothing is known.
    pub(in super::super) fn unknown() -> Formula {
        Formula { predicate: Predicate::All(Vec::new()), is_exact: false }
    }

    /// The same predicate, which may hold elsewhere too.
    pub(in super::super) fn inexact(self) -> Formula {
        Formula { is_exact: false, ..self }
    }

    pub(super) fn is_never(&self) -> bool {
        matches!(&self.predicate, Predicate::Any(parts) if parts.is_empty())
    }

    fn is_always(&self) -> bool {
        matches!(&self.predicate, Predicate::All(parts) if parts.is_empty())
    }

    pub(in super::super) fn all(formulas: impl IntoIterator<Item = Formula>) -> Formula {
        let (mut parts, mut is_exact) = (Vec::new(), true);
        for formula in formulas {
            if formula.is_never() {
                // One part is never satisfied, so the whole never is.
                return Formula::constant(false);
            }
            is_exact &= formula.is_exact;
            match formula.predicate {
                Predicate::All(inner) => parts.extend(inner),
                other => parts.push(other),
            }
        }
        dedup(&mut parts);
        let predicate = if parts.len() == 1 { parts.swap_remove(0) } else { Predicate::All(parts) };
        Formula { predicate, is_exact }
    }

    pub(in super::super) fn any(formulas: impl IntoIterator<Item = Formula>) -> Formula {
        let (mut parts, mut is_exact) = (Vec::new(), true);
        for formula in formulas {
            if formula.is_always() && formula.is_exact {
                return Formula::constant(true);
            }
            is_exact &= formula.is_exact;
            match formula.predicate {
                Predicate::Any(inner) => parts.extend(inner),
                Predicate::All(inner) if inner.is_empty() => return Formula::unknown(),
                other => parts.push(other),
            }
        }
        dedup(&mut parts);
        let predicate = if parts.len() == 1 { parts.swap_remove(0) } else { Predicate::Any(parts) };
        Formula { predicate, is_exact }
    }
}

fn dedup(parts: &mut Vec<Predicate>) {
    let mut kept: Vec<Predicate> = Vec::with_capacity(parts.len());
    for part in parts.drain(..) {
        if !kept.contains(&part) {
            kept.push(part);
        }
    }
    *parts = kept;
}

impl Truth {
    pub(in super::super) fn constant(value: bool) -> Truth {
        Truth { holds: Formula::constant(value), fails: Formula::constant(!value) }
    }

    pub(in super::super) fn unknown() -> Truth {
        Truth { holds: Formula::unknown(), fails: Formula::unknown() }
    }

    pub(super) fn not(self) -> Truth {
        Truth { holds: self.fails, fails: self.holds }
    }

    pub(super) fn if_(condition: &Truth, then: Truth, otherwise: Truth) -> Truth {
        let either = |then: Formula, otherwise: Formula| {
            Formula::any([
                Formula::all([condition.holds.clone(), then]),
                Formula::all([condition.fails.clone(), otherwise]),
            ])
        };
        Truth { holds: either(then.holds, otherwise.holds), fails: either(then.fails, otherwise.fails) }
    }
}
