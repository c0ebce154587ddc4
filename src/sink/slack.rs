//! Findings as messages for people, in Slack or a chat that takes the same.

use serde_json::{Value, json};

use super::{Line, revision, text, texts, withdrawn};
use crate::finding::NO_VALUE;
use crate::text::on_one_line;

/// How much of a value a message shows, in characters.
const SHOWN: usize = 300;

/// The message that tells a finding. What stood in a log is shown as it is: it can neither call somebody nor become
/// a link.
pub(super) fn message(line: &Line) -> Value {
    let news = match (withdrawn(line), revision(line)) {
        (true, _) => "Withdrawn: ",
        (false, 1) => "",
        (false, _) => "Updated: ",
    };
    let told = |name| shown(text(line, name));
    let number = |name| line.get(name).map(Value::to_string).unwrap_or_default();
    let mut lines = vec![format!("{news}[{}] {}", told("severity"), told("title"))];
    for (field, value) in line.get("group").and_then(Value::as_object).into_iter().flatten() {
        lines.push(format!("{}: {}", shown(field), shown(value.as_str().unwrap_or(NO_VALUE))));
    }
    if withdrawn(line) {
        lines.push("events that came late have dissolved it".to_owned());
    } else {
        lines.push(format!(
            "{} events, at most {} within {} minutes (threshold {})",
            number("count"),
            number("peak"),
            number("period_minutes"),
            number("threshold")
        ));
    }
    lines.push(format!("{} to {}, triggered {}", told("first_event"), told("last_event"), told("trigger_time")));
    let sources = texts(line, "source_ips");
    if !sources.is_empty() {
        lines.push(format!("from {}", shown(&sources.join(", "))));
    }
    let superseded = texts(line, "supersedes");
    if !superseded.is_empty() && !withdrawn(line) {
        lines.push(format!("in place of {}", shown(&superseded.join(", "))));
    }
    lines.push(format!("rule {}, finding {}", told("rule_id"), told("finding_id")));
    let text = lines.join("\n");
    json!({ "text": text, "mrkdwn": false, "parse": "none", "unfurl_links": false, "unfurl_media": false })
}

/// A value on one line, as Slack shows it unchanged.
fn shown(value: &str) -> String {
    let mut text = String::with_capacity(value.len().min(SHOWN));
    for (place, c) in on_one_line(value).chars().enumerate() {
        match c {
            _ if place == SHOWN => {
                text.push('…');
                break;
            }
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            c => text.push(c),
        }
    }
    text
}
