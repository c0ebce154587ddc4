//! Formats a verification.

use std::fmt::Write as _;

use super::rows;
use crate::statistics::number_of;
use crate::text::printable;
use crate::verify::{ProblemKind, Subject, Verification};

/// Maximum number of problems of a kind in the text.
const SHOWN_PROBLEMS: usize = 50;
/// Maximum number of chains in the text.
const SHOWN_CHAINS: usize = 20;

/// Returns a verification as text for people.
pub fn text(verification: &Verification) -> String {
    let Verification { digests, objects, .. } = verification;
    let mut text = chains(verification);
    let counts = [
        vec![
            "digests".to_owned(),
            digests.verified.to_string(),
            digests.altered.to_string(),
            digests.missing.to_string(),
            String::new(),
            digests.unchecked.to_string(),
        ],
        vec![
            "log files".to_owned(),
            objects.verified.to_string(),
            objects.altered.to_string(),
            objects.missing.to_string(),
            objects.unnamed.to_string(),
            objects.unchecked.to_string(),
        ],
    ];
    text += &rows(&["", "verified", "altered", "missing", "unnamed", "not checked"], counts.into_iter());
    if objects.not_yet_covered > 0 {
        let count = number_of(objects.not_yet_covered, "log file");
        line(&mut text, &format!("not yet covered: {count}, delivered around or after the end of the last digest"));
    }
    text + &problem_lines(verification)
}

/// Returns a line for each problem, gap and reason why something could not be checked.
fn problem_lines(verification: &Verification) -> String {
    let mut text = String::new();
    for (subject, kind, heading) in [
        (Subject::Digest, ProblemKind::Altered, "altered digest"),
        (Subject::Digest, ProblemKind::Missing, "missing digest"),
        (Subject::Object, ProblemKind::Altered, "altered log file"),
        (Subject::Object, ProblemKind::Missing, "missing log file"),
        (Subject::Object, ProblemKind::Unnamed, "unnamed log file"),
    ] {
        let problems = verification.problems.iter().filter(|one| (one.subject, one.kind) == (subject, kind));
        let count = problems.clone().count();
        for problem in problems.take(SHOWN_PROBLEMS) {
            line(&mut text, &format!("{heading}: {}: {}", problem.name, problem.reason));
        }
        if count > SHOWN_PROBLEMS {
            let more = count - SHOWN_PROBLEMS;
            line(&mut text, &format!("{heading}: and {more} more; use --format json to list all"));
        }
    }
    for gap in &verification.gaps {
        line(&mut text, &format!("no digests: {}: {} to {}: {}", gap.chain, gap.from, gap.to, gap.reason));
    }
    for unchecked in &verification.unchecked {
        let counts = [(unchecked.digests, "digest"), (unchecked.objects, "log file")];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, thing)| number_of(count, thing)).collect();
        let (counts, example) = (counts.join(", "), &unchecked.example);
        line(&mut text, &format!("not checked: {counts}, for example {example}: {}", unchecked.reason));
    }
    for fault in &verification.faults {
        line(&mut text, &format!("cannot be listed: {fault}"));
    }
    text
}

/// Returns the problems of a verification as lines for people, each kind cut off after some.
pub fn warnings(verification: &Verification) -> Vec<String> {
    problem_lines(verification).lines().map(str::to_owned).collect()
}

/// Returns a table of the digests by trail, account and region.
fn chains(verification: &Verification) -> String {
    let shown = verification.chains.iter().take(SHOWN_CHAINS).map(|chain| {
        let backfill = if chain.backfill { " (backfill)" } else { "" };
        vec![
            chain.account.clone(),
            chain.region.clone(),
            format!("{}{backfill}", chain.trail),
            chain.digests.to_string(),
            chain.first.to_string(),
            chain.last.to_string(),
        ]
    });
    let mut text = String::new();
    if !verification.chains.is_empty() {
        text += &rows(&["account", "region", "trail", "digests", "from", "to"], shown);
    }
    let more = verification.chains.len().saturating_sub(SHOWN_CHAINS);
    if more > 0 {
        line(&mut text, &format!("and {more} more accounts and regions; use --format json to list all"));
    }
    text
}

/// Appends a line, with hidden characters escaped.
fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    writeln!(text, "{}", printable(line)).ok();
}
