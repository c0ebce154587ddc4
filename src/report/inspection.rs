//! Formats an inspection of data.

use std::fmt::Write as _;

use super::rows;
use crate::inspect::Inspection;
use crate::lake::transaction_log::VerifiedObjects;
use crate::statistics::number_of;

/// Maximum number of gaps in the table.
const SHOWN_GAPS: usize = 20;
/// Maximum number of accounts and of regions in the table.
const SHOWN_NAMES: usize = 8;

/// Returns an inspection as a table for people.
pub fn table(inspection: &Inspection) -> String {
    let names = |names: &std::collections::BTreeSet<String>| {
        let shown: Vec<&str> = names.iter().take(SHOWN_NAMES).map(String::as_str).collect();
        let rest = names.len().saturating_sub(SHOWN_NAMES);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("{}: {}{more}", names.len(), shown.join(", "))
    };
    let known =
        |number: Option<u64>| number.map_or_else(|| "unknown (use --read to count them)".to_owned(), |n| n.to_string());
    let (first, last) = match inspection.records {
        None => ("first delivery", "last delivery"),
        Some(_) => ("first event", "last event"),
    };
    let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "none".to_owned());
    let mut lines = vec![("layout".to_owned(), inspection.layout.clone())];
    lines.extend(inspection.version.map(|version| ("version".to_owned(), version.to_string())));
    lines.extend([
        ("objects".to_owned(), inspection.objects.to_string()),
        ("bytes".to_owned(), inspection.bytes.to_string()),
    ]);
    if let Some(telling) = inspection.telling_keys {
        let keys = number_of(inspection.objects, "object key");
        let contain = if telling == 1 { "contains" } else { "contain" };
        lines.push(("keys".to_owned(), format!("{telling} of {keys} {contain} account, region and day")));
    }
    lines.push(("records".to_owned(), known(inspection.records)));
    if let Some(duplicates) = &inspection.duplicates {
        lines.push(("duplicates".to_owned(), duplicates.left_out.to_string()));
    }
    lines.extend([
        (first.to_owned(), time(&inspection.first)),
        (last.to_owned(), time(&inspection.last)),
        ("accounts".to_owned(), names(&inspection.accounts)),
        ("regions".to_owned(), names(&inspection.regions)),
        ("days".to_owned(), inspection.days.to_string()),
        ("gaps".to_owned(), inspection.gaps.len().to_string()),
    ]);
    let verified = inspection.verified_objects.map(|VerifiedObjects { objects, verified }| {
        format!("{verified} of {}", number_of(objects, "converted object"))
    });
    let none = || "none of the converted objects".to_owned();
    let is_lake = inspection.layout == "native";
    lines.extend(verified.or_else(|| is_lake.then(none)).map(|verified| ("verified".to_owned(), verified)));
    lines.extend(inspection.without_time.filter(|n| *n > 0).map(|n| ("without a time".to_owned(), n.to_string())));
    lines.extend(inspection.skipped.iter().map(|(kind, number)| (format!("skipped: {kind}"), number.to_string())));
    lines.extend(inspection.faults.iter().map(|fault| ("cannot be read".to_owned(), fault.to_string())));
    let mut text = rows(&["", ""], lines.into_iter().map(|(what, value)| vec![what, value]));
    if !inspection.gaps.is_empty() {
        let gaps = inspection.gaps.iter().take(SHOWN_GAPS).map(|gap| {
            vec![gap.account.clone(), gap.region.clone(), gap.from.clone(), gap.to.clone(), gap.hours.to_string()]
        });
        text += &rows(&["gap of account", "region", "from", "to", "hours"], gaps);
        if inspection.gaps.len() > SHOWN_GAPS {
            let more = inspection.gaps.len() - SHOWN_GAPS;
            // Writing to a string does not fail.
            writeln!(text, "and {more} more gaps; use --format json to list all").ok();
        }
    }
    text
}
