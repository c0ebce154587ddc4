//! The table of findings, and the summary below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::table::{Screen, rows_on};
use super::{group, shortened};
use crate::finding::Finding;
use crate::rule::Severity;
use crate::statistics::number_of;
use crate::time::Instant;

/// Characters of a finding's id in a table. `tawny hunt --show` understands the start of an id.
pub const SHORT_ID: usize = 12;

/// The columns that a narrow table drops, in this order.
const DROPPABLE: [&str; 5] = ["triggered", "title", "addresses", "last event", "finding"];

/// The ids of so many findings fit into a line below a narrow table that has no room for them.
const FEW_IDS: usize = 3;

/// Maximum number of rules in a summary.
const MAX_RULES: usize = 20;

/// A finding as a row of the table. Times are shortened when all rows are known.
#[derive(Debug)]
pub(super) struct FindingRow {
    severity: String,
    rule: String,
    group: String,
    count: String,
    first_event: Instant,
    last_event: Instant,
    trigger_time: Instant,
    addresses: String,
    title: String,
    id: String,
}

impl FindingRow {
    pub(super) fn of(finding: &Finding) -> FindingRow {
        let masked = if finding.masked { " (masked name)" } else { "" };
        let origins: Vec<String> =
            finding.origins.iter().map(|one| format!("; origin: {}", super::trace::origin(one))).collect();
        let statistic = finding.statistic.as_ref().and_then(|statistic| statistic.split_once(" of "));
        let counted = match (finding.distinct, finding.sum, finding.statistic_value) {
            (Some(distinct), ..) if finding.unique.as_deref() == Some("act") => format!(" ({distinct} acts)"),
            (Some(distinct), ..) => format!(" ({distinct} distinct)"),
            (None, Some(sum), _) => format!(" (sum {sum})"),
            (None, None, Some(value)) => format!(" ({}: {value})", statistic.map_or("", |(name, _)| name)),
            (None, None, None) => String::new(),
        };
        FindingRow {
            severity: finding.severity.clone(),
            rule: finding.rule_id.clone(),
            group: group(finding) + masked + &origins.concat(),
            count: finding.count.to_string() + &counted,
            first_event: finding.first_event,
            last_event: finding.last_event,
            trigger_time: finding.trigger_time,
            addresses: shortened(&finding.source_ips),
            title: finding.title.clone(),
            id: finding.finding_id.chars().take(SHORT_ID).collect(),
        }
    }

    fn times(&self) -> [Instant; 3] {
        [self.first_event, self.last_event, self.trigger_time]
    }
}

/// Returns the table of `rows`.
///
/// If all times are of one day, the date is above the table. Otherwise the first time of a row has a date, and the others
/// have one if any of them differs. Times have seconds if a row has different times within one minute. If all times of each
/// row are equal, there is one column of times.
pub(super) fn table(rows: &[FindingRow], screen: Screen) -> String {
    let dates: BTreeSet<String> = rows.iter().flat_map(FindingRow::times).map(|time| date_and_time(time).0).collect();
    let one_day = if dates.len() == 1 { dates.first() } else { None };
    let with_seconds = rows.iter().any(|row| {
        let times: BTreeSet<Instant> = row.times().into_iter().collect();
        let minutes: BTreeSet<String> = times.iter().map(|time| short(*time, None, false)).collect();
        minutes.len() < times.len()
    });
    let is_one_time = rows.iter().all(|row| row.times().iter().all(|time| *time == row.first_event));
    let times: &[&str] = if is_one_time { &["time"] } else { &["first event", "last event", "triggered"] };
    let header = [&["severity", "rule", "group", "count"], times, &["addresses", "title", "finding"]].concat();
    let cells = |row: &FindingRow| {
        let first_date = date_and_time(row.first_event).0;
        let first = short(row.first_event, one_day, with_seconds);
        let is_one_date = row.times().iter().all(|time| date_and_time(*time).0 == first_date);
        let known_date = Some(&first_date).filter(|_| is_one_date);
        let others = [row.last_event, row.trigger_time].map(|time| short(time, known_date, with_seconds));
        let mut cells = vec![row.severity.clone(), row.rule.clone(), row.group.clone(), row.count.clone(), first];
        cells.extend(others.into_iter().take(times.len() - 1));
        cells.extend([&row.addresses, &row.title, &row.id].map(String::clone));
        cells
    };
    let mut table = rows_on(screen, &header, &DROPPABLE, rows.iter().map(cells));
    let has_ids = rows.iter().all(|row| table.contains(&row.id));
    if !has_ids {
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let line = if ids.len() <= FEW_IDS {
            format!("ids for `--show`: {}", ids.join(" "))
        } else {
            "COLUMNS=160 makes room for the ids that `--show` takes".to_owned()
        };
        // Writing to a string never fails.
        writeln!(table, "({line})").ok();
    }
    one_day.map_or_else(String::new, |date| format!("{date} (UTC)\n")) + &table
}

/// Returns the date, and the time without fractions of a second.
fn date_and_time(time: Instant) -> (String, String) {
    let text = time.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    (date.to_owned(), time.chars().take(8).collect())
}

/// Returns a time without its date if that is `known_date`.
fn short(time: Instant, known_date: Option<&String>, with_seconds: bool) -> String {
    let (date, time) = date_and_time(time);
    let time = if with_seconds { &time } else { time.get(..5).unwrap_or(&time) };
    if Some(&date) == known_date { time.to_owned() } else { format!("{date} {time}") }
}

/// Numbers of findings.
#[derive(Debug, Clone, Default)]
pub struct FindingCounts {
    /// All of them.
    pub all: u64,
    /// Those that are alerts.
    pub alerts: u64,
    by_severity: BTreeMap<String, u64>,
    by_rule: BTreeMap<String, u64>,
}

impl FindingCounts {
    /// Counts a finding.
    pub fn add(&mut self, finding: &Finding) {
        self.all += 1;
        self.alerts += u64::from(finding.alert);
        *self.by_severity.entry(finding.severity.clone()).or_default() += 1;
        *self.by_rule.entry(finding.rule_id.clone()).or_default() += 1;
    }

    /// Returns the numbers of findings by severity, from the highest.
    pub fn severities(&self) -> Vec<(&str, u64)> {
        let mut severities: Vec<(&str, u64)> =
            self.by_severity.iter().map(|(severity, count)| (severity.as_str(), *count)).collect();
        severities.sort_by_key(|(severity, _)| std::cmp::Reverse(rank(severity)));
        severities
    }

    /// Returns the first line of a summary: the number of findings, and those of each severity.
    pub fn sentence(&self, rules: usize) -> String {
        let [found, rules] =
            [(self.all, "finding"), (rules as u64, "rule")].map(|(count, what)| number_of(count, what));
        let severities: Vec<String> =
            self.severities().into_iter().map(|(severity, count)| format!("{count} {severity}")).collect();
        let severities = if severities.is_empty() { String::new() } else { format!(": {}", severities.join(", ")) };
        format!("{found} of {rules}{severities}")
    }

    /// Returns a line for each rule with findings, the rules with most findings first. Empty if there is only one.
    pub fn rule_lines(&self) -> Vec<String> {
        if self.by_rule.len() < 2 {
            return Vec::new();
        }
        let mut rules: Vec<(&String, &u64)> = self.by_rule.iter().collect();
        rules.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let width = rules.first().map_or(0, |(_, count)| count.to_string().len());
        let mut lines: Vec<String> =
            rules.iter().take(MAX_RULES).map(|(rule, count)| format!("  {count:>width$}  {rule}")).collect();
        if rules.len() > MAX_RULES {
            let others: u64 = rules[MAX_RULES..].iter().map(|(_, count)| **count).sum();
            lines.push(format!("  {others:>width$}  for {}", number_of(rules.len() - MAX_RULES, "more rule")));
        }
        lines
    }
}

/// Returns the severity with this name. Unknown names are lower than all.
fn rank(name: &str) -> Option<Severity> {
    Severity::ALL.into_iter().find(|severity| severity.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{FindingsFormat, findings};

    fn finding(severity: &str, rule: &str, times: [&str; 3]) -> Finding {
        let [first_event, last_event, trigger_time] = times.map(|time| time.parse().unwrap());
        let (severity, rule_id) = (severity.to_owned(), rule.to_owned());
        Finding { rule_id, severity, first_event, last_event, trigger_time, ..Finding::example() }
    }

    fn shown(rows: &[Finding], width: Option<u16>) -> String {
        table(&rows.iter().map(FindingRow::of).collect::<Vec<_>>(), Screen::of_width(width))
    }

    fn burst(first: &str, last: &str, trigger: &str) -> Finding {
        let times = [first, last, trigger].map(|time| format!("2026-09-{time}Z"));
        finding("High", "AWS.Unsuccessful.MFA.attempt", [&times[0], &times[1], &times[2]])
    }

    #[test]
    fn times_have_a_date_once_and_seconds_where_they_differ() {
        let text = shown(&[burst("01T23:52:10", "01T23:58:00", "01T23:55:00")], None);
        assert!(text.starts_with("2026-09-01 (UTC)\n"), "{text}");
        assert!(text.contains("23:52        23:58       23:55"), "{text}");
        let text = shown(&[burst("01T23:52:10", "02T00:03:30", "01T23:57:40")], None);
        assert!(text.contains("2026-09-01 23:52  2026-09-02 00:03  2026-09-01 23:57"), "{text}");
        let text = shown(&[burst("01T23:52:10", "01T23:52:50", "01T23:52:40")], None);
        assert!(text.contains("23:52:10     23:52:50    23:52:40"), "{text}");
        let single = finding("High", "Example.Rule", ["2026-09-01T10:00:07Z"; 3]);
        let text = shown(&[single.clone(), single], None);
        assert!(text.contains("time ") && text.contains("10:00 ") && !text.contains("event"), "{text}");
    }

    #[test]
    fn columns_are_dropped_by_width_and_ids_are_whole() {
        let mut wide = burst("01T23:52:10", "02T00:03:30", "01T23:57:40");
        wide.source_ips = vec!["198.51.100.77".to_owned(), "203.0.113.24".to_owned()];
        wide.group = serde_json::Map::from_iter([
            ("account".to_owned(), "111122223333".into()),
            ("actor".to_owned(), "anaya".into()),
        ]);
        wide.title = "AWS Unsuccessful MFA attempt of anaya".to_owned();
        let header = |width| {
            let text = shown(&[wide.clone()], width);
            assert!(text.contains("AWS.Unsuccessful.MFA.attempt") && text.contains("111122223333"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= width.map_or(999, usize::from)), "{text}");
            text.lines()
                .next()
                .unwrap()
                .split("  ")
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let all = [
            "severity",
            "rule",
            "group",
            "count",
            "first event",
            "last event",
            "triggered",
            "addresses",
            "title",
            "finding",
        ];
        assert_eq!(header(None), all);
        assert_eq!(header(Some(80)), all[..5]);
        assert_eq!(header(Some(100)), [&all[..5], &all[9..]].concat());
        assert_eq!(header(Some(120)), [&all[..6], &all[9..]].concat());
        assert_eq!(header(Some(160)), [&all[..6], &all[7..]].concat());
        assert_eq!(header(Some(180)), all);
        let text = shown(&[wide.clone()], Some(80));
        assert!(text.ends_with(&format!("(ids for `--show`: {})\n", &wide.finding_id[..SHORT_ID])), "{text}");
        assert!(shown(&vec![wide.clone(); FEW_IDS + 1], Some(80)).ends_with("`--show` takes)\n"));
    }

    #[test]
    fn distinct_values_and_sums_are_shown() {
        let mut unique = Finding::example();
        (unique.count, unique.distinct) = (12, Some(5));
        let mut sum = Finding::example();
        (sum.count, sum.sum) = (3, Some(4000));
        let text = shown(&[unique, sum], None);
        assert!(text.contains("12 (5 distinct)") && text.contains("3 (sum 4000)"), "{text}");
    }

    #[test]
    fn summary_counts_by_severity_and_rule() {
        let time = ["2026-09-01T10:00:00Z"; 3];
        let found = [("Low", "B"), ("High", "A"), ("Critical", "A"), ("Info", "A"), ("High", "C")];
        let mut counts = FindingCounts::default();
        for (severity, rule) in found {
            counts.add(&finding(severity, rule, time));
        }
        assert_eq!(counts.sentence(7), "5 findings of 7 rules: 1 Critical, 2 High, 1 Low, 1 Info");
        assert_eq!(counts.rule_lines(), ["  3  A", "  1  B", "  1  C"]);
        assert_eq!(FindingCounts::default().sentence(1), "0 findings of 1 rule");
        assert_eq!(findings(&[], FindingsFormat::Table).unwrap(), "no findings\n");
    }
}
