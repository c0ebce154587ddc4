//! The findings that a change of the window gains and loses.

use std::collections::BTreeMap;

use crate::hunt::grid::{GridFinding, GridMatches};

/// The findings that only one of two windows has. Findings that share an event count as the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// Findings of the new window that share no event with a finding of the old one.
    pub gained: Vec<GridFinding>,
    /// Findings of the old window that share no event with a finding of the new one.
    pub lost: Vec<GridFinding>,
}

impl Moves {
    /// Compares the findings `before` and `after` a change, both sorted by their first match.
    pub fn between(before: &[GridFinding], after: &[GridFinding]) -> Moves {
        Moves { gained: without_overlap(after, before), lost: without_overlap(before, after) }
    }

    /// Returns the number of gained and lost findings by group.
    pub fn by_group(&self, matches: &GridMatches) -> BTreeMap<usize, (usize, usize)> {
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

/// Returns the findings that share no event with any of `others`.
fn without_overlap(findings: &[GridFinding], others: &[GridFinding]) -> Vec<GridFinding> {
    let mut others = others.iter().peekable();
    let mut is_alone = |found: &GridFinding| {
        while others.next_if(|other| other.last < found.first).is_some() {}
        others.peek().is_none_or(|other| other.first > found.last)
    };
    findings.iter().filter(|found| is_alone(found)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_that_share_an_event_have_not_moved() {
        let found = |first, count| GridFinding { first, last: first + count - 1, count, trigger: first, cell: None };
        let before = [found(0, 3), found(5, 2), found(10, 4)];
        let after = [found(2, 1), found(3, 2), found(11, 1), found(12, 2), found(20, 1)];
        let moves = Moves::between(&before, &after);
        assert_eq!(moves.gained, [found(3, 2), found(20, 1)]);
        assert_eq!(moves.lost, [found(5, 2)]);
        assert_eq!(Moves::between(&before, &before), Moves::default());
    }
}
