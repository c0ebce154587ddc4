//! Limits on the size of rules. Within them, time is proportional to the size.
//! Limits on documents, in values, bytes and depth, are in [`super::yaml`].

use super::{Predicate, Test};

/// Rule files, and rules, that one run reads: each takes some milliseconds of planning.
pub const RULES: usize = 10_000;

/// Conditions of one rule, including `FollowedBy` and `DynamicSeverities`.
pub const CONDITIONS: usize = 1_000;

/// Weighted conditions of one rule. A condition within a list counts twice, within two lists four times, because the
/// engine's planning time doubles with each list. One condition may be within as many lists as [`DEPTH`] allows.
pub const WEIGHTED_CONDITIONS: usize = 4_096;

/// The nesting depth of expressions.
pub const DEPTH: usize = 12;

/// Keys of `GroupBy`. The engine partitions by all of them, and its planning time grows with the cube of their
/// number.
pub const GROUP_KEYS: usize = 32;

/// Fields in each of `AlertContext`, `SummaryAttributes` and `AlertTitle`.
pub const OUTPUT_FIELDS: usize = 64;

/// Regular expressions of one Sigma rule, including wildcards within a value. Each is compiled and run separately.
pub const PATTERNS: usize = 500;

/// Bytes that one regular expression may take once it is compiled.
pub const PATTERN_BYTES: usize = 4 << 20;

/// Words of one `condition` of a Sigma rule. The parser's time grows with their square.
pub const CONDITION_WORDS: usize = 1_000;

/// Rules that one Sigma correlation names.
pub const CORRELATED: usize = 100;

/// Pairs of a rule and an exception of it. Each adds two rules to a hunt, which show what the exception removes.
pub const EXCEPTED_RULES: usize = 2_000;

/// Values of a list that a query may hold as text.
pub const WRITTEN_VALUES: usize = 10_000;

/// A rule exceeds a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: at most {limit} are allowed; {advice}")]
pub(super) struct LimitExceeded {
    /// The things that are too many.
    pub(super) subject: String,
    /// The limit.
    pub(super) limit: usize,
    /// What to do.
    pub(super) advice: &'static str,
}

/// Returns the error on something that exceeds a limit.
pub(super) fn exceeded(subject: &str, limit: usize, advice: &'static str) -> LimitExceeded {
    LimitExceeded { subject: subject.to_owned(), limit, advice }
}

/// The advice on too many conditions.
pub(super) const SPLIT: &str = "list values in one condition, or split the rule";

/// The number of conditions of a rule.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ConditionCount {
    conditions: usize,
    weighted: usize,
}

impl ConditionCount {
    /// Counts a condition within this number of lists.
    pub(super) fn add(&mut self, lists: u32) {
        self.conditions += 1;
        self.weighted = self.weighted.saturating_add(1_usize.checked_shl(lists).unwrap_or(usize::MAX));
    }

    /// # Errors
    /// There are more than [`CONDITIONS`], or than [`WEIGHTED_CONDITIONS`].
    pub(super) fn check(self) -> Result<(), LimitExceeded> {
        if self.conditions > CONDITIONS {
            return Err(exceeded("too many conditions", CONDITIONS, SPLIT));
        }
        if self.weighted > WEIGHTED_CONDITIONS {
            let what = "too many conditions within lists (each list doubles those in it)";
            return Err(exceeded(what, WEIGHTED_CONDITIONS, "nest fewer lists, or split the rule"));
        }
        Ok(())
    }
}

/// Checks the number of conditions and regular expressions in a predicate.
///
/// # Errors
/// It has too many conditions, or more than [`PATTERNS`] regular expressions.
pub(super) fn check(predicate: &Predicate) -> Result<(), LimitExceeded> {
    let mut found = PredicateSize::default();
    found.add(predicate, 0);
    found.conditions.check()?;
    if found.patterns > PATTERNS {
        let advice = "join them by `|` in fewer expressions, or split the rule";
        return Err(exceeded("too many regular expressions and wildcards", PATTERNS, advice));
    }
    Ok(())
}

#[derive(Default)]
struct PredicateSize {
    conditions: ConditionCount,
    patterns: usize,
}

impl PredicateSize {
    fn add(&mut self, predicate: &Predicate, lists: u32) {
        match predicate {
            Predicate::All(parts) | Predicate::Any(parts) | Predicate::None(parts) | Predicate::OnlyOne(parts) => {
                for part in parts {
                    self.add(part, lists);
                }
            }
            Predicate::Elements { each, .. } => self.add(each, lists + 1),
            Predicate::During(_) => self.conditions.add(lists),
            Predicate::Except { matches, exceptions } => {
                self.add(matches, lists);
                for exception in exceptions {
                    self.add(&exception.when, lists);
                }
            }
            Predicate::Test { test, .. } => {
                self.conditions.add(lists);
                self.patterns += usize::from(matches!(test, Test::Matches(_)));
            }
        }
    }
}
