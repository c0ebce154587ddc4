//! Formats traces.

use std::fmt::Write as _;

use super::trace_graph::Graph;
use super::{Screen, internal, page, rows, timeline};
use crate::error::Error;
use crate::finding::Origin;
use crate::statistics::{ScanStatistics, number_of};
use crate::text::{json, printable};
use crate::time::Instant;
use crate::trace::{ChainStep, Summary, Trace, ValueCounts};

/// Output format of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum TraceFormat {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON object.
    Json,
    /// An HTML page with a picture of the chain.
    Html,
    /// A graph in the DOT language of Graphviz.
    Dot,
}

/// The width of the columns of a summary besides that of the values, with the gaps.
const COUNT_COLUMNS: usize = "service".len() + "events".len() + "denied".len() + "writes".len() + 4 * 2;
/// The least width of a value in a summary.
const MIN_VALUE: usize = 20;
/// Maximum number of values of one kind in a summary.
const MAX_VALUES: usize = 20;

/// Returns `trace` in `format`. `read` are the scan statistics.
///
/// # Errors
/// It cannot be encoded, which is a defect.
pub fn encode(trace: &Trace, read: &ScanStatistics, format: TraceFormat) -> Result<String, Error> {
    match format {
        TraceFormat::Table => Ok(table(trace)),
        TraceFormat::Html => page::trace(trace, read),
        TraceFormat::Dot => Ok(Graph::of(trace).dot()),
        TraceFormat::Json => json::pretty(trace).map_err(|error| internal("a trace as JSON", &error)),
    }
}

fn table(trace: &Trace) -> String {
    let mut text = match trace.origins.as_slice() {
        [] => format!("origin: {}\n", printable(&origin(&trace.origin))),
        several => {
            let known = several.iter().filter(|origin| origin.known).count();
            let known = match several.len() - known {
                0 => "all known".to_owned(),
                unknown => format!("{known} known; an earlier step of {unknown} is not in the data"),
            };
            format!("origins: {} ({known})\n", several.len())
        }
    };
    let (known, unknown): (Vec<&Origin>, Vec<&Origin>) = trace.origins.iter().partition(|origin| origin.known);
    for other in known {
        // Writing to a string does not fail.
        writeln!(text, "  {}", printable(&origin(other))).ok();
    }
    // Many sessions of one principal lack the same event.
    for alike in unknown.chunk_by(|one, other| (&one.actor, &one.account) == (&other.actor, &other.account)) {
        if let Some(first) = alike.first() {
            let more = match alike.len() {
                1 => String::new(),
                count => format!(", and {} like it", number_of(count - 1, "other")),
            };
            writeln!(text, "  {}{more}", printable(&origin(first))).ok();
        }
    }
    if !trace.chain.is_empty() {
        text.push_str("\nChain\n");
        text.push_str(&rows(&["time", "issued by", "to", "key"], trace.chain.iter().map(chain_cells)));
    }
    text.push('\n');
    text.push_str("Timeline\n");
    text.push_str(&timeline::table(&trace.events, &["who"]));
    text.push('\n');
    text.push_str(&summary(&trace.summary));
    text
}

/// Describes an origin on one line.
pub(super) fn origin(origin: &Origin) -> String {
    let actor = origin.actor.as_deref().unwrap_or("unknown");
    let account = origin.account.as_ref().map(|account| format!(" in {account}")).unwrap_or_default();
    if origin.known {
        format!("{actor}{account} ({})", origin.reason)
    } else {
        format!("not known: {}; the first known actor is {actor}{account}", origin.reason)
    }
}

fn chain_cells(step: &ChainStep) -> Vec<String> {
    let words = |parts: [Option<&str>; 3]| parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let principal = short_principal(step.principal.as_deref());
    let issued = short_principal(step.issued_principal.as_deref());
    vec![
        step.time.map(String::from).unwrap_or_default(),
        words([Some(step.kind.event_name()), principal.as_deref(), step.account.as_deref()]),
        words([issued.as_deref(), step.issued_account.as_deref(), step.cross_account.then_some("(cross-account)")]),
        step.issued_key.clone().unwrap_or_default(),
    ]
}

/// Returns the resource in an ARN, whose account is shown elsewhere.
pub(super) fn short_principal(principal: Option<&str>) -> Option<String> {
    let principal = principal?;
    let resource = principal.starts_with("arn:").then(|| principal.splitn(6, ':').nth(5)).flatten();
    Some(resource.unwrap_or(principal).to_owned())
}

/// Returns the counts of a summary.
pub fn summary(summary: &Summary) -> String {
    let all = &summary.all;
    if all.events == 0 {
        return "no events\n".to_owned();
    }
    let end = |time: Option<Instant>| time.map_or_else(|| "no readable time".to_owned(), String::from);
    let mut text = format!(
        "Summary\n{}: {} allowed, {} denied, {} failed; {} reading, {} writing\n{} to {}\n",
        number_of(all.events, "event"),
        all.allowed,
        all.denied,
        all.failed,
        all.reads,
        all.writes,
        end(all.first),
        end(all.last)
    );
    let kinds: [(&str, &[ValueCounts]); 6] = [
        ("service", &summary.services),
        ("event", &summary.names),
        ("region", &summary.regions),
        ("account", &summary.accounts),
        ("actor", &summary.actors),
        ("address", &summary.addresses),
    ];
    let room = Screen::of_standard_output().width().map(|width| width.saturating_sub(COUNT_COLUMNS).max(MIN_VALUE));
    let mut cells = Vec::new();
    for (kind, values) in kinds {
        let of_kind = values.iter().take(MAX_VALUES).enumerate();
        cells.extend(of_kind.map(|(index, value)| value_cells(if index == 0 { kind } else { "" }, value, room)));
        if values.len() > MAX_VALUES {
            let more = format!("and {} more", values.len() - MAX_VALUES);
            cells.push(vec![String::new(), more, String::new(), String::new(), String::new()]);
        }
    }
    if !cells.is_empty() {
        text.push_str(&rows(&["", "value", "events", "denied", "writes"], cells.into_iter()));
    }
    text
}

/// Returns a summary as JSON.
///
/// # Errors
/// It cannot be encoded, which is a defect.
pub fn summary_json(summary: &Summary) -> Result<String, Error> {
    json::pretty(summary).map_err(|error| internal("a summary as JSON", &error))
}

fn value_cells(kind: &str, value: &ValueCounts, room: Option<usize>) -> Vec<String> {
    let counts = value.counts;
    let value = short_principal(Some(&value.value)).unwrap_or_default();
    let value = room.map_or_else(|| value.clone(), |room| middle_cut(&value, room));
    vec![kind.to_owned(), value, counts.events.to_string(), counts.denied.to_string(), counts.writes.to_string()]
}

/// Returns a text of at most `room` characters: a longer one without its middle.
fn middle_cut(text: &str, room: usize) -> String {
    let count = text.chars().count();
    if count <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let end = kept / 2;
    let start: String = text.chars().take(kept - end).collect();
    let end: String = text.chars().skip(count - end).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_lose_their_middle() {
        for (room, expected) in [(9, "abcdefgh"), (8, "abcdefgh"), (7, "abc…fgh"), (6, "abc…gh"), (2, "a…")] {
            assert_eq!(middle_cut("abcdefgh", room), expected);
        }
        assert_eq!(middle_cut("ééééé", 4), "éé…é");
    }
}
