//! Statistics of everything that was read, so that nothing is lost silently.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::time::Instant;

/// How many faults are kept with their text; beyond that they are only counted.
const MAX_FAULTS: usize = 1_000;

/// A number of things: `1 finding`, `2 matches`.
pub fn number_of<N: Copy + From<u8> + PartialEq + std::fmt::Display>(number: N, thing: &str) -> String {
    let plural = match thing {
        _ if number == N::from(1) => "",
        _ if thing.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{number} {thing}{plural}")
}

/// The reconciliation of a run's input: everything read is accounted for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanStatistics {
    /// Objects: `read = used + already_converted + sum(skipped) + rejected`.
    pub objects: Count,
    /// Members of the archives among the objects: `read = used + skipped_by_prefilter + sum(skipped) + rejected`. Those within
    /// rejected objects that cannot be counted are not.
    #[serde(default, skip_serializing_if = "Count::is_empty")]
    pub members: Count,
    /// Records: `read = used + duplicates + skipped_by_prefilter + sum(skipped) + rejected`. Those within
    /// rejected objects cannot be counted and are not.
    pub records: Count,
    /// Bytes of the objects as stored.
    pub stored_bytes: u64,
    /// Bytes of the objects once inflated.
    pub json_bytes: u64,
    /// Used records whose time is missing or cannot be read: kept, but in no window.
    pub without_time: u64,
    /// Invalid UTF-8 sequences that were replaced.
    pub replaced_bytes: u64,
    /// Used records that had a top-level key twice.
    pub repeated_keys: u64,
    /// `eventID`s whose used records differ in time, name or source, as far as a conversion tells.
    pub differing: DifferingRecords,
    /// The earliest and the latest time of used records; absent where that is not known.
    #[serde(skip)]
    pub times: Option<(Instant, Instant)>,
    /// The version of the table that was read, if it has versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_version: Option<u64>,
    /// The first faults, with place and reason.
    pub faults: Vec<Fault>,
}

/// Records that share an `eventID`. One of them counts, and the others are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicates {
    /// Records beyond the first of each `eventID`.
    pub left_out: u64,
    /// Those that are more than a second delivery.
    pub differing: DifferingRecords,
    /// Whether reading ended early, so that there may be more.
    pub is_partial: bool,
}

/// Records that share an `eventID` and differ in `eventTime`, `eventName` or `eventSource`. `CloudTrail` does not write
/// such records: the data are damaged or anonymised, and counting the `eventID` once may hide a burst.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferingRecords {
    /// How many `eventID`s have such records.
    pub event_ids: u64,
    /// One of them.
    pub example: Option<DifferingExample>,
}

/// An `eventID`, and two of its records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DifferingExample {
    /// The `eventID`.
    pub event_id: String,
    /// The records; a conversion knows the second alone.
    pub records: Vec<DifferingRecord>,
}

/// One of the records of a [`DifferingExample`].
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DifferingRecord {
    /// RFC 3339; absent where the record has no readable time.
    pub event_time: Option<String>,
    /// `eventName`.
    pub event_name: Option<String>,
    /// `eventSource`.
    pub event_source: Option<String>,
    /// The object that holds the record, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

impl Duplicates {
    /// Adds what another part of the same run left out.
    pub fn add(&mut self, other: Duplicates) {
        self.left_out += other.left_out;
        self.is_partial |= other.is_partial;
        self.differing.add(other.differing);
    }

    /// How many of `which` records are left out: `duplicates among matching records: 3 left out`.
    pub fn sentence(&self, which: &str) -> String {
        let at_least = if self.is_partial { "at least " } else { "" };
        format!("duplicates among {which}: {at_least}{} left out", self.left_out)
    }
}

impl DifferingRecords {
    /// Adds those of another part of the same run; of two examples the lesser stays.
    pub fn add(&mut self, other: DifferingRecords) {
        self.event_ids += other.event_ids;
        self.example = match (self.example.take(), other.example) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
    }

    /// The warning about them; none where there are none.
    pub fn warning(&self) -> Option<String> {
        let records = |example: &DifferingExample| {
            example.records.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
        };
        let example = self
            .example
            .as_ref()
            .map_or_else(String::new, |example| format!(", for example `{}`: {}", example.event_id, records(example)));
        let have = if self.event_ids == 1 { "has" } else { "have" };
        let text = format!(
            "{} {have} records that differ in time, name or source; each eventID counts once, which may hide a burst{example}",
            number_of(self.event_ids, "eventID")
        );
        (self.event_ids > 0).then_some(text)
    }
}

impl std::fmt::Display for DifferingRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
        let time = part(&self.event_time, "no readable time");
        let (name, source) = (part(&self.event_name, "no name"), part(&self.event_source, "no source"));
        write!(f, "{time} {name} ({source})")?;
        self.object.as_ref().map_or(Ok(()), |object| write!(f, " in `{object}`"))
    }
}

/// Counts of one kind of input by what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// All there were.
    pub read: u64,
    /// Converted or hunted.
    pub used: u64,
    /// Converted by an earlier run, and skipped.
    pub already_converted: u64,
    /// Duplicates of records used in the same run.
    pub duplicates: u64,
    /// Read, and skipped by the prefilter.
    // Records of earlier builds have the alias.
    #[serde(alias = "passed_over")]
    pub skipped_by_prefilter: u64,
    /// Known to be no CloudTrail records, by kind.
    pub skipped: BTreeMap<String, u64>,
    /// Unusable, each with a fault.
    pub rejected: u64,
}

impl Count {
    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        *self == Count::default()
    }

    /// Whether everything read is accounted for.
    pub fn balances(&self) -> bool {
        let skipped: u64 = self.skipped.values().sum();
        self.read
            == self.used
                + self.already_converted
                + self.duplicates
                + self.skipped_by_prefilter
                + skipped
                + self.rejected
    }

    /// Returns the counts as a sum: `3 read = 2 converted + 1 rejected`. `used` is the word for used things.
    pub fn sentence(&self, used: &str) -> String {
        let mut parts = vec![format!("{} {used}", self.used)];
        for (number, what) in [
            (self.already_converted, "converted before"),
            (self.duplicates, "duplicates"),
            (self.skipped_by_prefilter, "skipped by prefilter"),
        ] {
            if number > 0 {
                parts.push(format!("{number} {what}"));
            }
        }
        parts.extend(self.skipped.iter().map(|(kind, number)| format!("{number} skipped ({kind})")));
        parts.push(format!("{} rejected", self.rejected));
        format!("{} read = {}", self.read, parts.join(" + "))
    }

    /// Counts one more that was skipped.
    pub fn skip(&mut self, kind: &str) {
        self.read += 1;
        *self.skipped.entry(kind.to_owned()).or_default() += 1;
    }

    fn add(&mut self, other: Count) {
        self.read += other.read;
        self.used += other.used;
        self.already_converted += other.already_converted;
        self.duplicates += other.duplicates;
        self.skipped_by_prefilter += other.skipped_by_prefilter;
        self.rejected += other.rejected;
        for (kind, count) in other.skipped {
            *self.skipped.entry(kind).or_default() += count;
        }
    }
}

impl ScanStatistics {
    /// Adds what another part of the same run read.
    pub fn add(&mut self, other: ScanStatistics) {
        self.objects.add(other.objects);
        self.members.add(other.members);
        self.records.add(other.records);
        self.stored_bytes += other.stored_bytes;
        self.json_bytes += other.json_bytes;
        self.without_time += other.without_time;
        self.replaced_bytes += other.replaced_bytes;
        self.repeated_keys += other.repeated_keys;
        self.differing.add(other.differing);
        self.spans(other.times);
        self.table_version = self.table_version.max(other.table_version);
        let room = MAX_FAULTS.saturating_sub(self.faults.len());
        self.faults.extend(other.faults.into_iter().take(room));
    }

    /// Joins the statistics of two scans of one table, the second with a wider range. Returns the larger one, with the faults
    /// that only the other has.
    #[must_use]
    pub fn widened_by(self, other: ScanStatistics) -> ScanStatistics {
        let (mut wide, narrow) = if other.objects.read < self.objects.read { (self, other) } else { (other, self) };
        let met: Vec<Fault> = narrow.faults.into_iter().filter(|fault| !wide.faults.contains(fault)).collect();
        for fault in met {
            let count = if fault.position.is_some() { &mut wide.records } else { &mut wide.objects };
            count.read += 1;
            count.rejected += 1;
            wide.fault(fault);
        }
        wide
    }

    /// Takes in the earliest and the latest time of more records.
    pub fn spans(&mut self, times: Option<(Instant, Instant)>) {
        self.times = match (self.times, times) {
            (Some((first, last)), Some((earlier, later))) => Some((first.min(earlier), last.max(later))),
            (one, other) => one.or(other),
        };
    }

    /// Notes a fault, within the bound.
    pub fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Whether everything read is accounted for.
    pub fn balances(&self) -> bool {
        self.objects.balances() && self.members.balances() && self.records.balances()
    }

    /// Whether nothing was used, and the prefilter skipped some of it, so that it is not known what it is.
    pub fn is_all_skipped_by_prefilter(&self) -> bool {
        self.records.used == 0 && self.objects.skipped_by_prefilter + self.records.skipped_by_prefilter > 0
    }

    /// Whether records were used, and none of all that were read has a readable time.
    pub fn has_no_times(&self) -> bool {
        let Count { used, skipped_by_prefilter, .. } = &self.records;
        *used > 0 && self.without_time == *used && *skipped_by_prefilter == 0
    }

    /// Whether objects were found and all they held was skipped by its kind: nothing of a trail was read.
    pub fn is_all_skipped(&self) -> bool {
        let Count { read, used, already_converted, skipped_by_prefilter, rejected, .. } = &self.objects;
        let of_records: u64 = self.records.skipped.values().sum();
        let only_other_records = *skipped_by_prefilter == 0 && of_records > 0 && of_records == self.records.read;
        *read > 0 && already_converted + rejected == 0 && (used + skipped_by_prefilter == 0 || only_other_records)
    }

    /// Whether some input could not be used.
    pub fn is_incomplete(&self) -> bool {
        self.rejected() > 0
    }

    /// How many objects, members of archives and records could not be used.
    pub fn rejected(&self) -> u64 {
        self.objects.rejected + self.members.rejected + self.records.rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_reading_keeps_the_faults_of_the_narrower_one() {
        let fault = |object: &str, position: Option<&str>| Fault {
            object: object.to_owned(),
            position: position.map(str::to_owned),
            reason: "broken".to_owned(),
        };
        let statistics = |used: u64, faults: &[Fault]| {
            let mut statistics = ScanStatistics::default();
            (statistics.objects.read, statistics.objects.used) = (used, used);
            for fault in faults {
                let count = if fault.position.is_some() { &mut statistics.records } else { &mut statistics.objects };
                count.read += 1;
                count.rejected += 1;
                statistics.fault(fault.clone());
            }
            statistics
        };
        let (a, b, c) = (fault("a", None), fault("b", None), fault("c", Some("record 1")));
        let narrow = statistics(2, &[a.clone(), c.clone()]);
        let wide = statistics(9, &[a.clone(), b.clone()]);
        for joined in [narrow.clone().widened_by(wide.clone()), wide.widened_by(narrow)] {
            assert!(joined.balances(), "{joined:?}");
            assert_eq!(joined.faults, [a.clone(), b.clone(), c.clone()]);
            assert_eq!((joined.objects.read, joined.objects.rejected, joined.records.rejected), (11, 2, 1));
        }
    }
}
