//! Compares the findings of the kinds of windows side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{group, rows};
use crate::finding::Finding;
use crate::rule::WindowKind;

/// Returns two tables about hunts that differ only in the kind of window.
///
/// The first has a row per burst, with the counts that each kind finds in it. The second counts the events that only one
/// kind finds. A `dedup` or `tumbling` finding is always part of a `sliding` burst. If the trigger of that burst is
/// outside the range of the hunt, the finding has a row of its own.
pub fn side_by_side(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "no findings\n".to_owned();
    }
    let kinds = WindowKind::ALL.map(|kind| kind.to_string());
    let of_kind = |kind: &str| findings.iter().filter(move |finding| finding.window == kind).collect::<Vec<_>>();
    let [sliding, ..] = &kinds;
    let mut by_first_event_id: HashMap<(&str, &str), Vec<&Finding>> = HashMap::new();
    for finding in findings {
        if let Some(event) = finding.event_ids.first() {
            by_first_event_id.entry((&finding.rule_id, event)).or_default().push(finding);
        }
    }
    let mut bursts = of_kind(sliding);
    let covered: HashSet<(&str, &str)> = bursts
        .iter()
        .flat_map(|burst| burst.event_ids.iter().map(|event| (burst.rule_id.as_str(), event.as_str())))
        .collect();
    // The range may contain the trigger of a window, but not that of the burst around it.
    bursts.extend(findings.iter().filter(|finding| {
        finding.event_ids.first().is_some_and(|event| !covered.contains(&(finding.rule_id.as_str(), event.as_str())))
    }));
    let row = |burst: &Finding| {
        let events =
            burst.event_ids.iter().filter_map(|event| by_first_event_id.get(&(burst.rule_id.as_str(), event.as_str())));
        let mut of_burst: Vec<&Finding> = events.flatten().copied().collect();
        of_burst.retain(|finding| burst.window == *sliding || finding.window == burst.window);
        of_burst.sort_by_key(|finding| finding.first_event);
        let cells = kinds.iter().map(|kind| {
            let of_kind = of_burst.iter().filter(|finding| finding.window == *kind);
            let counts: Vec<String> = of_kind.map(|finding| finding.count.to_string()).collect();
            if counts.is_empty() { "-".to_owned() } else { counts.join(" + ") }
        });
        let labels = [burst.rule_id.clone(), group(burst), burst.first_event.to_string(), burst.last_event.to_string()];
        labels.into_iter().chain(cells).collect()
    };
    let header = ["rule", "group", "first event", "last event", "sliding", "dedup", "tumbling"];
    let bursts = rows(&header, bursts.into_iter().map(row));

    let mut events: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for finding in findings {
        let seen = events.entry(&finding.rule_id).or_default().entry(&finding.window).or_default();
        seen.extend(finding.event_ids.iter().map(String::as_str));
    }
    let empty = BTreeSet::new();
    let mut sums = Vec::new();
    for (rule, seen) in &events {
        for kind in &kinds {
            let own = seen.get(kind.as_str()).unwrap_or(&empty);
            let others: BTreeSet<&str> =
                seen.iter().filter(|(other, _)| *other != kind).flat_map(|(_, events)| events).copied().collect();
            let of_rule: Vec<&Finding> = of_kind(kind).into_iter().filter(|finding| finding.rule_id == *rule).collect();
            let groups: BTreeSet<String> = of_rule.iter().map(|finding| format!("{:?}", finding.group)).collect();
            sums.push(vec![
                (*rule).to_owned(),
                kind.clone(),
                of_rule.len().to_string(),
                own.len().to_string(),
                groups.len().to_string(),
                own.difference(&others).count().to_string(),
                others.difference(own).count().to_string(),
            ]);
        }
    }
    let header = ["rule", "window", "findings", "events", "groups", "events only here", "events missed"];
    format!("{bursts}\n{}", rows(&header, sums.into_iter()))
}
