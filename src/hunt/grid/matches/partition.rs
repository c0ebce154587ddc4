//! Matches that a node of a cluster sends to the command.

use std::collections::BTreeSet;

use arrow::array::{Array as _, StringArray, TimestampMicrosecondArray};
use serde::{Deserialize, Serialize};

use super::{GridFinding, GridMatches, MatchKeys, MatchRoles};
use crate::time::Instant;

/// The matches of one partition, as plain data. All matches of a group are in one partition.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::hunt::grid) struct PartitionMatches {
    count: usize,
    group_count: usize,
    span: Option<(Instant, Instant)>,
    groups: Vec<Vec<Option<String>>>,
    group_of: Vec<usize>,
    /// Microseconds.
    times: Vec<i64>,
    ids: Vec<Option<String>>,
    accounts: Vec<Option<String>>,
    actors: Vec<Option<String>>,
    previous_duplicate_times: Vec<Option<i64>>,
    keys: Option<MatchKeys>,
    roles: Option<MatchRoles>,
}

impl PartitionMatches {
    /// Returns all of `matches`, or only the ends of the findings `ends_of`. Then the findings get the numbers of those.
    pub(in crate::hunt::grid) fn new(
        matches: &GridMatches,
        ends_of: Option<&mut Vec<Vec<GridFinding>>>,
    ) -> PartitionMatches {
        let kept: Vec<usize> = match ends_of {
            None => (0..matches.times.len()).collect(),
            Some(found) => {
                let ends = found.iter().flatten().flat_map(|one| [one.first, one.trigger, one.last]);
                let kept: Vec<usize> = ends.collect::<BTreeSet<usize>>().into_iter().collect();
                for one in found.iter_mut().flatten() {
                    *one = one.with_numbers(|number| kept.partition_point(|kept| *kept < number));
                }
                kept
            }
        };
        let texts = |texts: &StringArray| {
            kept.iter().map(|number| texts.is_valid(*number).then(|| texts.value(*number).to_owned())).collect()
        };
        let mut partition = PartitionMatches {
            count: matches.count,
            group_count: matches.group_count,
            span: matches.span,
            times: kept.iter().map(|number| matches.times[*number].micros()).collect(),
            ids: texts(&matches.ids),
            accounts: texts(&matches.accounts),
            actors: texts(&matches.actors),
            previous_duplicate_times: kept
                .iter()
                .map(|number| {
                    matches
                        .previous_duplicate_times
                        .is_valid(*number)
                        .then(|| matches.previous_duplicate_times.value(*number))
                })
                .collect(),
            keys: matches.keys.as_ref().map(|keys| keys.of(&kept)),
            roles: matches.roles.as_ref().map(|roles| roles.of(&kept)),
            ..PartitionMatches::default()
        };
        let mut last = None;
        for number in &kept {
            let group = matches.group_of[*number];
            if last.replace(group) != Some(group) {
                partition.groups.push(matches.groups[group].clone());
            }
            partition.group_of.push(partition.groups.len() - 1);
        }
        partition
    }

    /// Returns the number of all matches, including those left out.
    pub(in crate::hunt::grid) fn count(&self) -> usize {
        self.count
    }

    /// Joins the matches of all partitions. Also returns, for each partition, the new numbers of its matches.
    pub(in crate::hunt::grid) fn joined(partitions: &[PartitionMatches]) -> (GridMatches, Vec<Vec<usize>>) {
        let mut groups: Vec<(&Vec<Option<String>>, usize, usize)> = Vec::new();
        for (index, partition) in partitions.iter().enumerate() {
            groups.extend(partition.groups.iter().enumerate().map(|(group, values)| (values, index, group)));
        }
        // The order of SQL: null comes last.
        let order = |values: &[Option<String>]| -> Vec<(bool, Option<String>)> {
            values.iter().map(|value| (value.is_none(), value.clone())).collect()
        };
        groups.sort_by_cached_key(|(values, index, group)| (order(values), *index, *group));
        let mut numbers: Vec<Vec<usize>> = partitions.iter().map(|partition| vec![0; partition.times.len()]).collect();
        let mut origins: Vec<(usize, usize)> = Vec::new();
        let mut group_of = Vec::new();
        for (new_group, (_, index, group)) in groups.iter().enumerate() {
            let of_partition = &partitions[*index].group_of;
            let start = of_partition.partition_point(|known| known < group);
            let end = of_partition.partition_point(|known| known <= group);
            for (offset, new_number) in numbers[*index][start..end].iter_mut().enumerate() {
                *new_number = origins.len();
                origins.push((*index, start + offset));
                group_of.push(new_group);
            }
        }
        let of_all = |texts: fn(&PartitionMatches) -> &Vec<Option<String>>| -> StringArray {
            origins.iter().map(|(index, number)| texts(&partitions[*index])[*number].as_deref()).collect()
        };
        let previous_duplicate_times =
            origins.iter().map(|(index, number)| partitions[*index].previous_duplicate_times[*number]);
        let spans = partitions.iter().filter_map(|partition| partition.span);
        let keys = partitions.iter().map(|partition| partition.keys.as_ref()).collect::<Option<Vec<_>>>();
        let roles = partitions.iter().map(|partition| partition.roles.as_ref()).collect::<Option<Vec<_>>>();
        let matches = GridMatches {
            count: partitions.iter().map(|partition| partition.count).sum(),
            group_count: partitions.iter().map(|partition| partition.group_count).sum(),
            span: spans.reduce(|(first, last), (other, another)| (first.min(other), last.max(another))),
            groups: groups.iter().map(|(values, ..)| (*values).clone()).collect(),
            group_of,
            times: origins
                .iter()
                .map(|(index, number)| Instant::from_micros(partitions[*index].times[*number]))
                .collect(),
            ids: of_all(|partition| &partition.ids),
            accounts: of_all(|partition| &partition.accounts),
            actors: of_all(|partition| &partition.actors),
            // The windows were counted where the matches came from.
            counted: None,
            previous_duplicate_times: previous_duplicate_times
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
            keys: keys.map(|keys| MatchKeys::joined(&keys, &origins)),
            roles: roles.map(|roles| MatchRoles::joined(&roles, &origins)),
        };
        (matches, numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(groups: &[&[Option<&str>]], sizes: &[usize]) -> GridMatches {
        let count: usize = sizes.iter().sum();
        let texts = |prefix: &str| (0..count).map(|number| Some(format!("{prefix}{number}"))).collect::<StringArray>();
        let group_of: Vec<usize> =
            sizes.iter().enumerate().flat_map(|(group, size)| std::iter::repeat_n(group, *size)).collect();
        let values = |group: &&[Option<&str>]| group.iter().map(|value| value.map(str::to_owned)).collect();
        let times: Vec<Instant> =
            (0..count).map(|number| Instant::from_micros(i64::try_from(number).unwrap())).collect();
        GridMatches {
            count,
            group_count: groups.len(),
            span: times.first().copied().zip(times.last().copied()),
            groups: groups.iter().map(values).collect(),
            group_of,
            times,
            ids: texts("id"),
            accounts: texts("account"),
            actors: texts("actor"),
            counted: None,
            previous_duplicate_times: std::iter::repeat_n(None, count)
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
            keys: None,
            roles: None,
        }
    }

    #[test]
    fn partitions_are_joined_in_the_order_of_their_groups_with_or_without_the_matches_between_ends() {
        let one = matches(&[&[Some("b")], &[None]], &[4, 2]);
        let other = matches(&[&[Some("a")], &[Some("c")]], &[1, 3]);
        let found =
            |first: usize, last: usize| GridFinding { first, last, count: last - first + 1, trigger: last, cell: None };
        let of_one = vec![vec![found(0, 3), found(4, 5)]];
        let of_other = vec![vec![found(1, 3)]];
        for only_ends in [false, true] {
            let mut found = [of_one.clone(), of_other.clone()];
            let partitions: Vec<PartitionMatches> = [&one, &other]
                .into_iter()
                .zip(&mut found)
                .map(|(matches, found)| PartitionMatches::new(matches, only_ends.then_some(found)))
                .collect();
            let (joined, numbers) = PartitionMatches::joined(&partitions);
            assert_eq!((joined.count, joined.group_count), (10, 4));
            assert_eq!(joined.span, Some((Instant::from_micros(0), Instant::from_micros(5))));
            let names: Vec<Option<&str>> = joined.groups.iter().map(|group| group[0].as_deref()).collect();
            assert_eq!(
                names,
                if only_ends { &[Some("b"), Some("c"), None][..] } else { &[Some("a"), Some("b"), Some("c"), None] }
            );
            assert_eq!(joined.times.len(), if only_ends { 6 } else { 10 });
            let ids = |(found, numbers): (&Vec<Vec<GridFinding>>, &Vec<usize>)| -> Vec<(String, String)> {
                let ends = found.iter().flatten().map(|one| one.with_numbers(|number| numbers[number]));
                ends.map(|one| (joined.id(one.first).to_owned(), joined.id(one.last).to_owned())).collect()
            };
            let pair = |first: &str, last: &str| (first.to_owned(), last.to_owned());
            assert_eq!(ids((&found[0], &numbers[0])), [pair("id0", "id3"), pair("id4", "id5")]);
            assert_eq!(ids((&found[1], &numbers[1])), [pair("id1", "id3")]);
        }
    }
}
