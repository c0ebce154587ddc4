//! Which matches of a rule are counted: all, new ones, or those without another event near them.

use serde::{Deserialize, Serialize};

use super::{Field, Predicate, Window};
use crate::time::Period;

/// Which matches are new: those whose key has not been seen for some time.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstSeen {
    /// The key of a match is its group and the values of these fields. A missing value is a value.
    pub fields: Vec<Field>,
    /// The times that decide.
    pub periods: NewnessPeriods,
}

/// The times that decide which matches are new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NewnessPeriods {
    /// A match is new if no other one has its key within this time before it.
    pub history: Period,
    /// Nothing is new in an account within this time after its first event in the data. `None` if there is no such time.
    pub learning: Option<Period>,
}

/// The settings of a rule that decide its findings, besides its conditions and fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting {
    /// The window and threshold that make a finding.
    pub window: Window,
    /// The times that decide which matches are new, if only new ones are counted.
    pub newness: Option<NewnessPeriods>,
    /// The side of a match on which other events must be absent for a period, if that matters.
    pub absence: Option<AbsenceSide>,
}

impl Setting {
    /// Returns whether there is a time in which nothing is new.
    pub fn has_learning(&self) -> bool {
        self.newness.is_some_and(|newness| newness.learning.is_some())
    }

    /// Returns whether the first or the last event of all data decides which matches count.
    pub fn needs_all_data(&self) -> bool {
        self.absence.is_some() || self.has_learning()
    }

    /// Returns how long before a match earlier events decide whether it counts, in microseconds.
    pub fn decided_by_earlier(&self) -> i64 {
        match self.absence {
            Some(AbsenceSide::Before) => self.window.period.micros(),
            _ => self.newness.map_or(0, |newness| newness.history.micros()),
        }
    }

    /// Returns how long after a match later events decide whether it counts, in microseconds.
    pub fn decided_by_later(&self) -> i64 {
        if self.absence == Some(AbsenceSide::After) { self.window.period.micros() } else { 0 }
    }
}

/// Events of a match's group that must be absent for a period on one side of it. Otherwise the match is not counted.
///
/// No event is absent near itself. Events of one time are on both sides of each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Absence {
    /// The side of the match.
    pub side: AbsenceSide,
    /// The predicate of the other events.
    pub event: Predicate,
}

/// A side of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AbsenceSide {
    /// The period that ends with the match: `NotPrecededBy`.
    Before,
    /// The period that starts with the match: `NotFollowedBy`.
    After,
}

impl AbsenceSide {
    /// Returns the key of `Hunt` that names the events.
    pub fn key(self) -> &'static str {
        match self {
            AbsenceSide::Before => "NotPrecededBy",
            AbsenceSide::After => "NotFollowedBy",
        }
    }
}
