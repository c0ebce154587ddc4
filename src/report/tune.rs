//! Formats the proposals for a rule.

use std::fmt::Write as _;

use super::rows;
use crate::rule::Rule;
use crate::statistics::number_of;
use crate::text::{json, printable};
use crate::tune::{Effect, Proposal, Tuning, ValueCondition};

/// Returns the proposals and their exceptions as tables for people. `is_applied` says whether the run applies it.
pub fn text(tuning: &Tuning, rule: &Rule, is_applied: bool) -> String {
    let present = &tuning.present;
    let row = |name: String, changes: String, effect: &Effect| {
        let removed = present.false_findings.saturating_sub(effect.false_findings);
        let percent = (removed * 100).checked_div(present.false_findings).unwrap_or_default();
        vec![
            name,
            changes,
            effect.true_findings.to_string(),
            effect.missed.len().to_string(),
            effect.false_findings.to_string(),
            format!("{percent} %"),
            effect.events_removed.to_string(),
        ]
    };
    let mut table = vec![row("present".to_owned(), "none".to_owned(), present)];
    for (index, proposal) in tuning.proposals.iter().enumerate() {
        let best = if tuning.best == Some(index) { " (best)" } else { "" };
        let lost = match proposal.lost_true_findings {
            0 if proposal.keeps_true_findings => String::new(),
            0 => " (misses a label)".to_owned(),
            lost => format!(" (loses {})", number_of(lost, "true finding")),
        };
        table.push(row(format!("{}{best}{lost}", index + 1), changes(proposal, rule), &proposal.effect));
    }
    let header =
        ["proposal", "changes", "true findings", "missed labels", "false findings", "removed", "events removed"];
    let mut text = rows(&header, table.into_iter());
    let exceptions = tuning.proposals.iter().enumerate().flat_map(|(index, proposal)| {
        proposal.exceptions.iter().map(move |exception| {
            vec![
                (index + 1).to_string(),
                exception.id.clone(),
                exception.when.iter().map(condition).collect::<Vec<_>>().join(" and "),
                exception.events_removed.to_string(),
                exception.findings_removed.to_string(),
            ]
        })
    });
    let exceptions: Vec<Vec<String>> = exceptions.collect();
    if !exceptions.is_empty() {
        text += &rows(&["proposal", "exception", "when", "events removed", "findings removed"], exceptions.into_iter());
    }
    let Some(best) = tuning.best.map(|index| &tuning.proposals[index]) else {
        return text + "no proposal keeps all true findings and removes a false one\n";
    };
    // Writing to a string does not fail.
    let (after, before) = (best.effect.false_findings, present.false_findings);
    writeln!(
        text,
        "{}: {} of {} removed, all {} kept{}",
        printable(&changes(best, rule)),
        before.saturating_sub(after),
        number_of(before, "false finding"),
        number_of(present.true_findings, "true finding"),
        if is_applied { "" } else { "; use --write to apply" }
    )
    .ok();
    if let (Some(window), Some(peak)) = (&best.window, best.smallest_true_peak)
        && rule.counts.distinct().is_none()
        && peak == u64::from(window.threshold)
    {
        writeln!(
            text,
            "the smallest true finding has just the new threshold of {peak} events: a smaller one would be missed"
        )
        .ok();
    }
    text
}

fn condition(ValueCondition { field, value }: &ValueCondition) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte);
    let value = if value.bytes().all(is_word) { value.clone() } else { json::line(value).unwrap_or_default() };
    format!("{} = {value}", field.join("."))
}

/// Returns the changes of a proposal: the new window, and the number of exceptions.
fn changes(proposal: &Proposal, rule: &Rule) -> String {
    let mut changes = Vec::new();
    if let Some(window) = proposal.window.as_ref().map(|proposed| proposed.window) {
        if window.threshold != rule.window.threshold {
            changes.push(format!("threshold {} to {}", rule.window.threshold, window.threshold));
        }
        if window.period != rule.window.period {
            changes.push(format!("period {} to {}", rule.window.period, window.period));
        }
    }
    let exceptions = proposal.exceptions.len();
    if exceptions > 0 {
        changes.push(number_of(exceptions, "exception"));
    }
    changes.join(", ")
}
