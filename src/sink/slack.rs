//! Formats findings as messages for Slack or a compatible chat.

use serde_json::{Value, json};

use super::{Line, revision, text, texts, withdrawn};
use crate::finding::NO_VALUE;
use crate::text::on_one_line;

/// Maximum number of characters of a value in a message.
const MAX_CHARS: usize = 300;

/// Returns the message for a finding. Values from a log are escaped: they can neither mention anyone nor become a link.
pub(super) fn message(line: &Line) -> Value {
    let prefix = match (withdrawn(line), revision(line)) {
        (true, _) => "Withdrawn: ",
        (false, 1) => "",
        (false, _) => "Updated: ",
    };
    let value = |name| escaped(text(line, name));
    let number = |name| line.get(name).map(Value::to_string).unwrap_or_default();
    let mut lines = vec![format!("{prefix}[{}] {}", value("severity"), value("title"))];
    for (field, member) in line.get("group").and_then(Value::as_object).into_iter().flatten() {
        lines.push(format!("{}: {}", escaped(field), escaped(member.as_str().unwrap_or(NO_VALUE))));
    }
    if withdrawn(line) {
        lines.push("late events removed this finding".to_owned());
    } else {
        lines.push(format!(
            "{} events, at most {} within {} minutes (threshold {})",
            number("count"),
            number("peak"),
            number("period_minutes"),
            number("threshold")
        ));
    }
    lines.push(format!("{} to {}, triggered {}", value("first_event"), value("last_event"), value("trigger_time")));
    let sources = texts(line, "source_ips");
    if !sources.is_empty() {
        lines.push(format!("from {}", escaped(&sources.join(", "))));
    }
    let superseded = texts(line, "supersedes");
    if !superseded.is_empty() && !withdrawn(line) {
        lines.push(format!("replaces {}", escaped(&superseded.join(", "))));
    }
    lines.push(format!("rule {}, finding {}", value("rule_id"), value("finding_id")));
    for name in ["description", "runbook", "reference"] {
        let note = text(line, name);
        if !note.is_empty() {
            lines.push(format!("{name}: {}", escaped(note)));
        }
    }
    let tags = texts(line, "tags");
    if !tags.is_empty() {
        lines.push(format!("tags: {}", escaped(&tags.join(", "))));
    }
    let text = lines.join("\n");
    json!({ "text": text, "mrkdwn": false, "parse": "none", "unfurl_links": false, "unfurl_media": false })
}

/// Returns a value on one line, shortened and escaped for Slack.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len().min(MAX_CHARS));
    for (index, c) in on_one_line(value).chars().enumerate() {
        match c {
            _ if index == MAX_CHARS => {
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
