//! What a change of the window moves: findings gained and lost.

use std::collections::BTreeMap;

use crate::hunt::sweep::{Found, Matches};

/// Findings that one window has and another has not, by no event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// Findings that share no event with any of before.
    pub gained: Vec<Found>,
    /// Findings of before that share no event with any of after.
    pub lost: Vec<Found>,
}

impl Moves {
    /// What moves from the findings `before` to those `after`; both by their first match.
    pub fn between(before: &[Found], after: &[Found]) -> Moves {
        Moves { gained: alone(after, before), lost: alone(before, after) }
    }

    /// For each group with any, how many were gained and lost.
    pub fn by_group(&self, matches: &Matches) -> BTreeMap<usize, (usize, usize)> {
        let mut groups: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for found in &self.gained {
            groups.entry(matches.group_of[found.first]).or_default().0 += 1;
        }
        for found in &self.lost {
            groups.entry(matches.group_of[found.first]).or_default().1 += 1;
        }
        groups
    }
}

/// Those of `these` that share no event with any of `others`.
fn alone(these: &[Found], others: &[Found]) -> Vec<Found> {
    let mut others = others.iter().peekable();
    let mut alone = Vec::new();
    for found in these {
        while others.next_if(|other| other.last < found.first).is_some() {}
        if others.peek().is_none_or(|other| other.first > found.last) {
            alone.push(*found);
        }
    }
    alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shares_an_event_has_not_moved() {
        let found = |first, count| Found { first, last: first + count - 1, count, trigger: first, read_from: None };
        let before = [found(0, 3), found(5, 2), found(10, 4)];
        let after = [found(2, 1), found(3, 2), found(11, 1), found(12, 2), found(20, 1)];
        let moves = Moves::between(&before, &after);
        assert_eq!(moves.gained, [found(3, 2), found(20, 1)]);
        assert_eq!(moves.lost, [found(5, 2)]);
        assert_eq!(Moves::between(&before, &before), Moves::default());
    }
}
