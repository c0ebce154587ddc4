//! Regular expressions of Sigma rules.

use super::Refusal;
use crate::rule::limits;

/// Returns the regular expression of a rule. As in PCRE, a `$` also matches before a line break at the very end.
pub(super) fn pattern(flags: &str, text: &str) -> Result<String, Refusal> {
    // With `m`, given as a flag or in the text, it matches at every line's end.
    let sets_m = |group: &str| {
        let end = group.find(|c: char| !c.is_ascii_alphabetic() && c != '-').unwrap_or(group.len());
        group[..end].contains('m') && group[end..].starts_with([':', ')'])
    };
    if flags.contains('m') || text.split("(?").skip(1).any(sets_m) {
        return compiled(flags, text);
    }
    let (mut written, mut classes) = (String::with_capacity(text.len()), 0_usize);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                written.push(letter);
                written.extend(letters.next());
                continue;
            }
            '[' => {
                classes += 1;
                written.push(letter);
                written.extend(letters.next_if_eq(&'^'));
                // A first `]` is a member of the class.
                written.extend(letters.next_if_eq(&']'));
                continue;
            }
            ']' => classes = classes.saturating_sub(1),
            '$' if classes == 0 => {
                written.push_str(r"\n?$");
                continue;
            }
            _ => {}
        }
        written.push(letter);
    }
    compiled(flags, &written).map_err(|_| ()).or_else(|()| compiled(flags, text))
}

/// Returns a regular expression that the engine can run.
pub(super) fn compiled(flags: &str, text: &str) -> Result<String, Refusal> {
    // DataFusion rewrites a pattern without groups to LIKE and reads its backslashes as LIKE's escapes.
    let pattern = if flags.is_empty() { format!("({text})") } else { format!("(?{flags})({text})") };
    match regex::RegexBuilder::new(&pattern).size_limit(limits::PATTERN_BYTES).build() {
        Ok(_) => Ok(pattern),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(Refusal::new(format!("the regular expression `{text}` cannot be run: {reason}")))
        }
    }
}
